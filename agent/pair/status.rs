//! What `evenkeel pair status` tells, and the section `pair` of the agent's status: roles, terms,
//! versions, links and paths, what was last synchronised and when, and the record of the last takeover
//! (PAIR-7), as `show redundancy` does.
//!
//! The JSON is versioned by `schema`: fields may be added, none changes its meaning. `README.md` beside
//! this file lists them for people, `schema.json` for programs; tests hold both to the types here.

use std::{collections::BTreeMap, time::Duration};

use evenkeel_core::{
    pair::{
        Role,
        message::RoleSaid,
        paths::Channel,
        record::{Kind, Part},
        sync::Synchrony,
        term::{Slot, Term},
        version::Grade,
    },
    time::{Pretty, Time, WallTime},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::view::{self, View};
use crate::{clock::Reading, status::utc};

/// The document of `evenkeel pair status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "The status of a pair of evenkeel agents")]
pub struct PairDocument {
    /// The version of this document's form.
    pub schema: u32,
    /// When this was so, in UTC.
    pub at: String,
    /// The pair, as the agent that was asked sees it.
    pub pair: PairStatus,
}

impl PairDocument {
    /// The version of the form.
    pub const SCHEMA: u32 = 1;

    /// The document of one moment.
    pub fn new(view: &View, now: Reading) -> PairDocument {
        let at = utc(now.wall_time());
        PairDocument { schema: PairDocument::SCHEMA, at, pair: PairStatus::new(view, now) }
    }
}

/// The pair, as the agent that was asked sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PairStatus {
    /// This agent's role: `undecided`, `standby` or `primary`.
    #[schemars(extend("enum" = ["undecided", "standby", "primary"]))]
    pub role: String,
    /// It is primary and goes on without a standby.
    pub without_standby: bool,
    /// It may speak to the outside now.
    pub may_speak: bool,
    /// How long its licence to speak still lasts if it hears nothing more from its standby. A primary that
    /// takes over the state has one before it speaks.
    pub licence_seconds: f64,
    /// The term that it is primary in.
    pub term: Option<TermStatus>,
    /// The highest term that it knows of.
    pub known_term: Option<TermStatus>,
    /// Nobody takes over, by an operator's order.
    pub held: bool,
    /// This agent.
    pub here: AgentOfPair,
    /// Its mate.
    pub mate: MateStatus,
    /// Whether the versions fit: `full`, `degraded` or `out`; nothing if the mate was not heard yet.
    #[schemars(extend("enum" = ["full", "degraded", "out", null]))]
    pub versions: Option<String>,
    /// The heartbeat paths.
    pub paths: Vec<PathStatus>,
    /// The state channel.
    pub state_channel: ChannelStatus,
    /// What is synchronised.
    pub synchronisation: SynchronisationStatus,
    /// Whether this host has a network.
    pub network_up: bool,
    /// Who is asked whether this agent is itself cut off.
    pub witnesses: Vec<WitnessStatus>,
    /// How many automatic takeovers there may be; nothing without a limit.
    pub limit: Option<LimitStatus>,
    /// Takeovers of the pair since the counters were reset.
    pub takeovers: u32,
    /// The last takeover.
    pub last_takeover: Option<TakeoverStatus>,
    /// Heartbeats and what became of them.
    pub heartbeats: HeartbeatStatus,
    /// What keeps this agent from doing its part in the pair, each in a sentence.
    pub problems: Vec<String>,
}

/// A term.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TermStatus {
    /// Its number.
    pub number: u64,
    /// The slot of the agent that began it.
    pub by_slot: u8,
}

impl TermStatus {
    fn new(term: Term) -> TermStatus {
        TermStatus { number: term.number, by_slot: number(term.by) }
    }
}

/// This agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AgentOfPair {
    /// Its name.
    pub name: String,
    /// Its slot, 0 or 1.
    pub slot: u8,
    /// Its priority.
    pub priority: u8,
    /// Its version.
    pub version: String,
    /// Which start of it this is.
    pub run: u64,
}

/// The mate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MateStatus {
    /// Its name; nothing before the state channel was up.
    pub name: Option<String>,
    /// Its slot, 0 or 1.
    pub slot: u8,
    /// It was heard within the mate time-out.
    pub heard: bool,
    /// How long ago it was heard by whatever way; or how long ago this agent started, if it was not heard
    /// since.
    pub heard_seconds_ago: f64,
    /// What it said of itself last; nothing if it was not heard since this agent started.
    pub said: Option<MateSaid>,
}

/// What the mate said of itself last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MateSaid {
    /// Its role.
    #[schemars(extend("enum" = ["undecided", "standby", "primary"]))]
    pub role: String,
    /// The term that it is primary in, or that it follows.
    pub term: Option<TermStatus>,
    /// Its version.
    pub version: String,
    /// Its priority.
    pub priority: u8,
    /// It may be primary.
    pub fit: bool,
    /// It would take over by itself.
    pub able: bool,
    /// It has all of the state.
    pub in_sync: bool,
    /// It is about to stop.
    pub stopping: bool,
}

/// A heartbeat path.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PathStatus {
    /// The local interface.
    pub interface: String,
    /// The local address.
    pub local: String,
    /// The mate's address.
    pub mate: String,
    /// A heartbeat came by it within the mate time-out.
    pub up: bool,
    /// How long ago the last one came.
    pub heard_seconds_ago: Option<f64>,
    /// Heartbeats that left.
    pub sent: u64,
    /// Heartbeats that came.
    pub received: u64,
    /// Heartbeats that did not leave, by reason.
    pub not_sent: BTreeMap<String, u64>,
    /// What the kernel said last, while it is so.
    pub error: Option<String>,
}

/// The state channel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ChannelStatus {
    /// It is connected, and the mate has shown who it is.
    pub up: bool,
    /// Where the mate listens.
    pub mate: String,
    /// What went wrong, if it is down: `connect`, `read` or `write`.
    #[schemars(extend("enum" = ["connect", "read", "write", null]))]
    pub cause: Option<String>,
    /// Why the mate was refused last, if it was since the channel was up.
    pub refused: Option<String>,
    /// For how long it has been so, in seconds.
    pub since_seconds: f64,
    /// How long ago the last heartbeat came by it.
    pub heard_seconds_ago: Option<f64>,
    /// How often it went wrong, by cause.
    pub failures: BTreeMap<String, u64>,
    /// Octets sent.
    pub sent_bytes: u64,
    /// Octets received.
    pub received_bytes: u64,
}

/// What is synchronised.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SynchronisationStatus {
    /// `never`, `copying`, `in_sync` or `stale`.
    #[schemars(extend("enum" = ["never", "copying", "in_sync", "stale"]))]
    pub state: String,
    /// What is still missing while it is copied.
    pub missing: Vec<String>,
    /// How long ago everything was synchronised.
    pub synchronised_seconds_ago: Option<f64>,
    /// Events that the standby has not acknowledged.
    pub lag_events: u32,
    /// The age of the oldest of them, in seconds.
    pub lag_seconds: f64,
    /// Full copies that have begun since this agent started.
    pub copies: u64,
}

/// A witness.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WitnessStatus {
    /// Its address.
    pub address: String,
    /// `configured`, `gateway` or `notification_target`.
    #[schemars(extend("enum" = ["configured", "gateway", "notification_target"]))]
    pub from: String,
    /// How long ago it was asked. Witnesses are asked only while the mate is silent.
    pub asked_seconds_ago: Option<f64>,
    /// How long ago it answered.
    pub answered_seconds_ago: Option<f64>,
    /// Why it could not be asked, the last time.
    pub error: Option<String>,
}

/// How many automatic takeovers there may be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LimitStatus {
    /// So many
    pub count: u8,
    /// in so many seconds.
    pub period_seconds: u64,
    /// So many there were.
    pub within: u64,
    /// For how long, in seconds, the next one is suppressed, if it is.
    pub suppressed_for_seconds: Option<f64>,
}

/// The last takeover.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TakeoverStatus {
    /// When, in UTC by this host's clock.
    pub at: String,
    /// The slot of the agent that took over.
    pub by_slot: u8,
    /// The term that it began.
    pub term: u64,
    /// Why.
    pub reason: String,
    /// `automatic` or `ordered`.
    #[schemars(extend("enum" = ["automatic", "ordered"]))]
    pub kind: String,
    /// What was not there; nothing if all was.
    pub degraded: Option<String>,
}

/// Heartbeats since this agent started.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HeartbeatStatus {
    /// Rounds of heartbeats sent; each goes out on every path and on the state channel.
    pub sent: u64,
    /// Heartbeats taken in, of all ways.
    pub received: u64,
    /// What came and was not taken in, by reason.
    pub discarded: BTreeMap<String, u64>,
    /// How often this agent stood still.
    pub stalls: u64,
}

impl PairStatus {
    /// What there is to see at this moment.
    pub fn new(view: &View, now: Reading) -> PairStatus {
        let ago = |at: Time| now.time.since(at).as_secs_f64();
        let timing = view.settings.timing;
        let licence = view.speaks_until.map_or(Duration::ZERO, |until| until.since(now.time));
        let slot = view.identity.slot;
        PairStatus {
            role: view.role.name().to_owned(),
            without_standby: view.alone,
            may_speak: view.gate.may_speak(now.time),
            licence_seconds: licence.as_secs_f64(),
            term: view.term.map(TermStatus::new),
            known_term: view.known.map(TermStatus::new),
            held: view.held,
            here: AgentOfPair {
                name: view.name.clone(),
                slot: number(slot),
                priority: view.settings.priority,
                version: view.identity.version.to_string(),
                run: view.identity.run,
            },
            mate: MateStatus {
                name: view.mate_name.clone(),
                slot: number(slot.other()),
                heard: view.mate.is_some()
                    && now.time.since(view.mate_heard) < timing.mate_timeout(),
                heard_seconds_ago: ago(view.mate_heard),
                said: view.mate.map(|(version, said)| MateSaid {
                    role: role_said(said.role).name().to_owned(),
                    term: term_said(said.role).map(TermStatus::new),
                    version: version.to_string(),
                    priority: said.priority,
                    fit: said.fit,
                    able: said.able,
                    in_sync: said.in_sync,
                    stopping: said.stopping,
                }),
            },
            versions: view.grade.map(|grade| grade_name(grade).to_owned()),
            paths: view
                .paths
                .iter()
                .map(|path| PathStatus {
                    interface: path.interface.clone(),
                    local: path.local.to_string(),
                    mate: path.mate.to_string(),
                    up: path.is_up(now.time, timing.mate_timeout()),
                    heard_seconds_ago: path.heard.map(ago),
                    sent: path.sent,
                    received: path.received,
                    not_sent: owned(path.not_sent.iter().map(|(why, count)| (*why, *count))),
                    error: path.error.clone(),
                })
                .collect(),
            state_channel: channel(view, ago),
            synchronisation: synchronisation(view, ago),
            network_up: view.network_up,
            witnesses: view
                .witnesses
                .iter()
                .map(|witness| WitnessStatus {
                    address: witness.address.to_string(),
                    from: witness.from.name().to_owned(),
                    asked_seconds_ago: witness.asked.map(ago),
                    answered_seconds_ago: witness.answered.map(ago),
                    error: witness.error.clone(),
                })
                .collect(),
            limit: view.settings.limit.map(|limit| LimitStatus {
                count: limit.count(),
                period_seconds: limit.period().as_secs(),
                within: view.takeovers_within.unwrap_or_default() as u64,
                suppressed_for_seconds: view
                    .suppressed_until
                    .map(|until| until.since(now.time).as_secs_f64()),
            }),
            takeovers: view.record.count,
            last_takeover: view.record.last.map(|last| {
                let ago = i64::try_from(now.time.since(last.at).as_millis()).unwrap_or(i64::MAX);
                TakeoverStatus {
                    at: utc(WallTime(now.wall_time().0.saturating_sub(ago))),
                    by_slot: number(last.term.by),
                    term: last.term.number,
                    reason: last.reason.name().to_owned(),
                    kind: kind_name(last.kind).to_owned(),
                    degraded: last.degraded.map(|what| what.to_string()),
                }
            }),
            heartbeats: HeartbeatStatus {
                sent: view.counters.sent,
                received: view.counters.heard + view.counters.late,
                discarded: owned(view.discarded().filter(|(_, count)| *count > 0)),
                stalls: view.counters.stalls,
            },
            problems: problems(view, now.time),
        }
    }
}

/// The thread's problems, and that it has looked at nothing for long, which it can't tell itself.
fn problems(view: &View, now: Time) -> Vec<String> {
    let mut problems = view.problems.clone();
    let still = now.since(view.at);
    if still > view.settings.timing.mate_timeout() {
        let still = Pretty(Duration::from_secs(still.as_secs()));
        problems.push(format!("the pair's thread stands still for {still}: all of this is as old"));
    }
    problems
}

fn channel(view: &View, ago: impl Fn(Time) -> f64) -> ChannelStatus {
    let channel = &view.channel;
    ChannelStatus {
        up: channel.state == Channel::Up,
        mate: channel.mate.to_string(),
        cause: match channel.state {
            Channel::Up => None,
            Channel::Down(wrong) => Some(view::cause(wrong).to_owned()),
        },
        refused: channel.refused.map(str::to_owned),
        since_seconds: ago(channel.since),
        heard_seconds_ago: channel.heard.map(&ago),
        failures: owned(channel.failures.each()),
        sent_bytes: channel.octets_sent,
        received_bytes: channel.octets_received,
    }
}

fn synchronisation(view: &View, ago: impl Fn(Time) -> f64) -> SynchronisationStatus {
    let (state, missing, lag_events, lag) = match view.synchrony {
        Synchrony::Never => ("never", Vec::new(), 0, Duration::ZERO),
        Synchrony::Copying { missing } => {
            let parts = Part::ALL.into_iter().filter(|part| missing.contains(*part));
            let missing = parts.map(|part| part.name().to_owned()).collect();
            ("copying", missing, 0, Duration::ZERO)
        }
        Synchrony::InSync { events, age, .. } => ("in_sync", Vec::new(), events, age),
        Synchrony::Stale { .. } => ("stale", Vec::new(), 0, Duration::ZERO),
    };
    SynchronisationStatus {
        state: state.to_owned(),
        missing,
        synchronised_seconds_ago: view.synchronised.map(ago),
        lag_events,
        lag_seconds: lag.as_secs_f64(),
        copies: view.copies,
    }
}

fn owned(counted: impl Iterator<Item = (&'static str, u64)>) -> BTreeMap<String, u64> {
    counted.map(|(name, count)| (name.to_owned(), count)).collect()
}

const fn number(slot: Slot) -> u8 {
    match slot {
        Slot::Zero => 0,
        Slot::One => 1,
    }
}

const fn grade_name(grade: Grade) -> &'static str {
    match grade {
        Grade::Full => "full",
        Grade::Degraded => "degraded",
        Grade::Out => "out",
    }
}

/// The name of a kind of takeover.
pub const fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Automatic => "automatic",
        Kind::Ordered => "ordered",
    }
}

const fn role_said(said: RoleSaid) -> Role {
    match said {
        RoleSaid::Undecided => Role::Undecided,
        RoleSaid::Standby { .. } => Role::Standby,
        RoleSaid::Primary { .. } => Role::Primary,
    }
}

const fn term_said(said: RoleSaid) -> Option<Term> {
    match said {
        RoleSaid::Undecided => None,
        RoleSaid::Standby { follows } => follows,
        RoleSaid::Primary { term, .. } => Some(term),
    }
}
