//! The documents that only the API has. Those of the status and of the peers are the same as the command
//! line's: [`Status`], [`PeersStatus`](crate::peers::status::PeersStatus).

use evenkeel_core::alarm::{Episode, Kind, Severity};
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    control::RejectedDatagram,
    hub::View,
    status::{AlarmStatus, Status, utc},
    store::JournalRow,
    trap_view,
};

/// The version of these documents' form.
const SCHEMA: u32 = 1;

/// Active alarms.
#[derive(Serialize, JsonSchema)]
pub struct AlarmsDocument {
    /// The version of this document's form.
    schema: u32,
    /// When this was so, in UTC.
    at: String,
    /// How many alarms are active in all.
    active: u64,
    /// Those of the 1,000 worst and newest that fit the query, in that order.
    alarms: Vec<AlarmStatus>,
}

impl AlarmsDocument {
    /// The alarms of these severities and kinds; no severities, or no kinds, stand for all.
    pub fn new(
        status: &Status,
        severities: &[Severity],
        kinds: &[Kind],
        limit: usize,
    ) -> AlarmsDocument {
        let fits = |alarm: &&AlarmStatus| {
            (severities.is_empty() || severities.contains(&alarm.severity))
                && (kinds.is_empty() || kinds.iter().any(|kind| kind.name() == alarm.kind))
        };
        AlarmsDocument {
            schema: SCHEMA,
            at: status.agent.at.clone(),
            active: status.alarms_active,
            alarms: status.alarms.iter().filter(fits).take(limit).cloned().collect(),
        }
    }
}

/// Rows of the journal.
#[derive(Serialize, JsonSchema)]
pub struct EventsDocument {
    /// The version of this document's form.
    schema: u32,
    /// The last row that is in the journal: who has asked for what is after it knows all.
    last: u64,
    /// The rows, the oldest first.
    events: Vec<EventDocument>,
}

/// One raise or one clear.
#[derive(Serialize, JsonSchema)]
pub struct EventDocument {
    /// Its place in the journal: later rows have higher numbers, and no number comes twice.
    pub seq: u64,
    /// When it happened, in UTC.
    pub at: String,
    /// `raise` or `clear`.
    #[schemars(extend("enum" = ["raise", "clear"]))]
    pub event: &'static str,
    /// Why it was cleared.
    pub reason: Option<&'static str>,
    /// The alarm, with the text that fits the event.
    pub alarm: AlarmStatus,
    /// The numbers of an instability.
    pub episode: Option<EpisodeDocument>,
}

/// The numbers of an instability, as they were when it was raised, or, in the clear, at its end.
#[derive(Serialize, JsonSchema)]
pub struct EpisodeDocument {
    /// Counted traps from *first* to *last*.
    traps: u64,
    /// The trap window in force, in seconds.
    window_seconds: f64,
    /// The threshold in force.
    threshold: u16,
    /// From *first* to *last*, in seconds.
    unstable_time_seconds: f64,
    /// The quiet that ends the episode, in seconds.
    stable_time_seconds: f64,
    /// Traps of the object that were not forwarded while it was unstable.
    suppressed: u64,
}

impl EventsDocument {
    /// These rows, and the last one that there is.
    pub fn new(last: u64, rows: &[JournalRow]) -> EventsDocument {
        let events = rows.iter().map(EventDocument::new).collect();
        EventsDocument { schema: SCHEMA, last, events }
    }
}

impl EventDocument {
    /// A row, as it is told.
    pub fn new(row: &JournalRow) -> EventDocument {
        EventDocument {
            seq: row.seq,
            at: utc(row.wall),
            event: if row.cleared.is_some() { "clear" } else { "raise" },
            reason: row.cleared.map(|reason| reason.name()),
            alarm: AlarmStatus::new(&row.alarm),
            episode: row.alarm.episode.as_ref().map(EpisodeDocument::new),
        }
    }
}

impl EpisodeDocument {
    const fn new(episode: &Episode) -> EpisodeDocument {
        EpisodeDocument {
            traps: episode.traps,
            window_seconds: episode.window.as_secs_f64(),
            threshold: episode.threshold,
            unstable_time_seconds: episode.unstable_time.as_secs_f64(),
            stable_time_seconds: episode.stable_time.as_secs_f64(),
            suppressed: episode.suppressed,
        }
    }
}

/// The last datagrams that were not taken in.
#[derive(Serialize, JsonSchema)]
pub struct RejectedDocument {
    /// The version of this document's form.
    schema: u32,
    /// When this was so, in UTC.
    at: String,
    /// The datagrams, the newest first. No community is among their octets.
    rejected: Vec<RejectedDescribed>,
}

/// A datagram that was not taken in, and what is in it.
#[derive(Serialize, JsonSchema)]
struct RejectedDescribed {
    /// The datagram.
    #[serde(flatten)]
    datagram: RejectedDatagram,
    /// What can be read of it, in lines for a person.
    described: String,
}

impl RejectedDocument {
    /// The rejected datagrams of one moment.
    pub fn new(view: &View) -> RejectedDocument {
        let described = |datagram: &RejectedDatagram| RejectedDescribed {
            datagram: datagram.clone(),
            described: trap_view::describe(&datagram.octets()),
        };
        RejectedDocument {
            schema: SCHEMA,
            at: view.status.agent.at.clone(),
            rejected: view.rejected.iter().map(described).collect(),
        }
    }
}
