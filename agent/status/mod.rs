//! What `evenkeel status` and `/api/v1/status` tell: one document, and beside this file the forms in
//! which a terminal, a script or a monitoring system is shown it.
//!
//! The JSON is versioned by `schema`: fields may be added, none changes its meaning. `README.md` beside
//! this file lists them for people, `schema.json` for programs; tests hold both to the types here.

mod check;
pub mod command;
mod line;
pub mod screen;
mod table;
pub mod terminal;
#[cfg(test)]
mod tests;
mod verdict;
mod watch;

use std::{collections::BTreeMap, sync::atomic::Ordering, time::Duration};

use evenkeel_core::{
    alarm::{Alarm, Kind, Link, Object, Severity},
    flow::FlowState,
    standby::Part,
    subnets::{InterfaceView, SubnetView},
    time::WallTime,
    usm::Step,
};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use line::{fields, milliseconds, whole_seconds};

use crate::{
    notifier::TargetStats, pair::status::PairStatus, peers::status::PeersSummary,
    snapshot::Snapshot,
};

/// What `evenkeel status --format json` and `/api/v1/status` tell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "The status of an evenkeel agent")]
pub struct Status {
    /// The version of this document's form.
    pub schema: u32,
    /// The agent itself.
    pub agent: AgentStatus,
    /// How many alarms are active; the list below may hold fewer.
    pub alarms_active: u64,
    /// The same by severity.
    pub alarms_by_severity: SeverityCounts,
    /// The same by kind, for kinds of which one is active.
    pub alarms_by_kind: BTreeMap<String, u64>,
    /// The active alarms, the worst and then the newest first.
    pub alarms: Vec<AlarmStatus>,
    /// How many systems and interfaces are unstable; the list below may hold fewer.
    pub objects_unstable: u64,
    /// Unstable systems and interfaces, those unstable longest first.
    pub unstable: Vec<UnstableStatus>,
    /// The subnets that are polled.
    pub subnets: Vec<SubnetStatus>,
    /// Their flows.
    pub flows: Vec<FlowStatus>,
    /// The peers in sum, if any are configured; `evenkeel status peers` lists them.
    #[serde(default)]
    pub peers: Option<PeersSummary>,
    /// The pair of this agent and its mate, if it has one.
    #[serde(default)]
    pub pair: Option<PairStatus>,
    /// The notification targets.
    pub notification_targets: Vec<TargetStatus>,
}

/// The agent itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AgentStatus {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its role in a pair; `alone` without a mate.
    pub role: String,
    /// When this was so, in UTC.
    pub at: String,
    /// Since when it runs, in seconds.
    pub uptime_seconds: u64,
    /// What keeps it from doing all that it should, each in a sentence.
    pub problems: Vec<String>,
    /// Where it listens for traps.
    pub listens: Vec<ListenStatus>,
    /// Datagrams received.
    pub datagrams: u64,
    /// Of these, not taken in.
    pub discarded: u64,
    /// Systems and interfaces in memory.
    pub objects: u64,
    /// Our own SNMP engine: its ID and how often it was started.
    pub engine: EngineStatus,
    /// Informs that were answered, and those that wait to be safe first.
    pub informs: InformStatus,
    /// SNMPv3: what was taken in and what failed.
    pub snmpv3: SnmpV3Status,
}

/// Our own SNMP engine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EngineStatus {
    /// snmpEngineID, in hexadecimal.
    pub id: String,
    /// snmpEngineBoots.
    pub boots: u32,
}

/// Informs received.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct InformStatus {
    /// Informs taken in, those that were sent again too.
    pub taken: u64,
    /// Answers that wait until what they answer is safe on the disk.
    pub waiting: u64,
    /// The last number that is safe in the spool.
    pub spooled: u64,
    /// Octets of the spool on the disk.
    pub spool_bytes: u64,
}

/// Messages of SNMPv3.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SnmpV3Status {
    /// Messages that were authentic and readable.
    pub opened: u64,
    /// Messages that were refused, by the step that they failed at.
    pub refused: BTreeMap<String, u64>,
    /// Engines in memory.
    pub engines: u64,
}

/// One trap socket.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ListenStatus {
    /// Its address.
    pub address: String,
    /// The receive buffer that was granted, in octets.
    pub buffer_bytes: u64,
    /// The receive buffer that was asked for, in octets.
    pub buffer_asked_bytes: u64,
    /// What the kernel dropped before it could be read.
    pub drops: u64,
}

/// How many alarms of each severity are active.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SeverityCounts {
    /// Service is lost.
    pub critical: u64,
    /// Service is badly degraded.
    pub major: u64,
    /// A fault that does not yet affect service.
    pub minor: u64,
    /// Worth knowing before it becomes a fault.
    pub warning: u64,
}

/// An active alarm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AlarmStatus {
    /// Its identity.
    pub id: String,
    /// Its kind.
    pub kind: String,
    /// Its severity.
    pub severity: Severity,
    /// What it is about, in parts.
    pub object: Object,
    /// What it is about, in words.
    pub object_text: String,
    /// Of a pair: the agent whose host it is about.
    #[serde(default)]
    pub agent: Option<String>,
    /// When it was raised, in UTC.
    pub raised_at: String,
    /// A line for a person.
    pub text: String,
}

/// An unstable object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct UnstableStatus {
    /// What it is.
    pub object: Object,
    /// The same in words.
    pub object_text: String,
    /// What the device calls the interface.
    pub if_name: Option<String>,
    /// The link that it is an end of, whose alarm tells of it.
    #[serde(default)]
    pub link: Option<Link>,
    /// Counted traps from *first* to *last*.
    pub traps: u64,
    /// How long ago *first* was received, in seconds.
    pub first_seconds_ago: f64,
    /// How long ago *last* was received, in seconds.
    pub last_seconds_ago: f64,
    /// The stable time, in seconds.
    pub stable_time_seconds: f64,
    /// When it will be stable if nothing more comes, in seconds from now.
    pub clears_in_seconds: f64,
}

/// Whether something works. What is worse comes first.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum UpDown {
    /// It does not.
    Down,
    /// That is not known yet, or not at the moment.
    Unknown,
    /// It does.
    Up,
}

/// A subnet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SubnetStatus {
    /// Its prefix.
    pub subnet: String,
    /// Whether it works.
    pub status: UpDown,
    /// Its interfaces.
    pub interfaces: Vec<InterfaceStatus>,
}

/// A local interface on a subnet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct InterfaceStatus {
    /// Its name.
    pub interface: String,
    /// Whether it works.
    pub status: UpDown,
    /// The same in the words of SUBN-9, such as `down (IP only)`.
    #[serde(default)]
    pub words: String,
    /// Whether its link is there.
    #[serde(default)]
    pub link: bool,
    /// The subnet's addresses were moved away from it, until an operator enables it.
    #[serde(default)]
    pub disabled: bool,
    /// `ip_only` or `link+ip`, if it is down.
    #[serde(default)]
    #[schemars(extend("enum" = ["ip_only", "link+ip", null]))]
    pub failure_type: Option<String>,
    /// It is the subnet's standby interface.
    #[serde(default)]
    pub standby: bool,
}

/// A flow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FlowStatus {
    /// The subnet that it judges.
    pub subnet: String,
    /// The interface.
    pub interface: String,
    /// The source.
    pub local: String,
    /// The destination.
    pub polled: String,
    /// Whether it works.
    pub status: UpDown,
    /// Why the latest missed poll was missed.
    pub reason: Option<String>,
    /// Polls sent.
    pub polls: u64,
    /// Polls missed.
    pub missed: u64,
    /// The latest round-trip time in milliseconds.
    pub round_trip_ms: Option<f64>,
}

/// A notification target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TargetStatus {
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: String,
    /// How it is spoken to, as in `v3 authPriv inform`.
    pub form: String,
    /// It does not count as unreachable.
    pub reachable: bool,
    /// Datagrams sent by the notifier, repeats included.
    pub sent: u64,
    /// Informs that it acknowledged.
    pub acknowledged: u64,
    /// Failed attempts.
    pub failed: u64,
    /// What it will never be sent, as it was deleted or can't be said in its form.
    pub lost: u64,
    /// Alarms that wait.
    pub waiting: u64,
    /// Traps that the rules sent on to it.
    pub forwarded: u64,
    /// Forwarded traps of the spool that wait for it.
    pub forwarded_waiting: u64,
    /// The latest error, while it lasts.
    pub last_error: Option<String>,
}

/// What only the surroundings of the core know.
pub struct About {
    /// The agent's name.
    pub name: String,
    /// How long it has run.
    pub uptime: Duration,
    /// What keeps it from doing all that it should.
    pub problems: Vec<String>,
    /// The notification targets.
    pub targets: Vec<TargetStats>,
    /// The peers in sum.
    pub peers: Option<PeersSummary>,
    /// The pair of this agent and its mate.
    pub pair: Option<PairStatus>,
}

impl Status {
    /// The version of the form.
    pub const SCHEMA: u32 = 1;

    /// The document of one moment.
    pub fn new(snapshot: &Snapshot, about: About) -> Status {
        let counters = &snapshot.counters;
        let usm = &snapshot.usm;
        // What is malformed in an SNMPv3 message is among its steps.
        let errors = Step::ALL.into_iter().filter(|step| step.is_error());
        let refused: BTreeMap<String, u64> = errors
            .map(|step| (step.name().to_owned(), usm.refused(step)))
            .filter(|(_, count)| *count > 0)
            .collect();
        let discarded = counters.malformed.iter().chain(&counters.refused).sum::<u64>()
            + refused.values().sum::<u64>();
        let mut problems = about.problems;
        if let Some(error) = &snapshot.store.failing {
            problems.push(format!("the journal cannot be written: {error}"));
        }
        if let Some(error) = &snapshot.spool.failing {
            problems
                .push(format!("the spool cannot be written, so no inform is answered: {error}"));
        }
        let by_kind = || Kind::ALL.into_iter().zip(snapshot.active);
        let listens = snapshot.traps.iter().flat_map(|traps| &traps.sockets);
        Status {
            schema: Status::SCHEMA,
            agent: AgentStatus {
                name: about.name,
                version: env!("CARGO_PKG_VERSION").to_owned(),
                role: about.pair.as_ref().map_or("alone".to_owned(), |pair| pair.role.clone()),
                at: utc(snapshot.at),
                uptime_seconds: about.uptime.as_secs(),
                problems,
                listens: listens
                    .map(|socket| ListenStatus {
                        address: socket.local.to_string(),
                        buffer_bytes: socket.buffer_granted as u64,
                        buffer_asked_bytes: socket.buffer_asked as u64,
                        drops: socket.kernel_drops.load(Ordering::Relaxed),
                    })
                    .collect(),
                datagrams: counters.datagrams,
                discarded,
                objects: snapshot.objects as u64,
                engine: EngineStatus {
                    id: snapshot.local_engine.id.to_string(),
                    boots: snapshot.local_engine.boots,
                },
                informs: InformStatus {
                    taken: counters.informs,
                    waiting: snapshot.spool.waiting_answers,
                    spooled: snapshot.spool.safe,
                    spool_bytes: snapshot.spool.size,
                },
                snmpv3: SnmpV3Status {
                    opened: usm.opened.iter().sum(),
                    refused,
                    engines: snapshot.engines as u64,
                },
            },
            alarms_active: snapshot.active.iter().sum(),
            alarms_by_severity: SeverityCounts::new(by_kind()),
            alarms_by_kind: by_kind()
                .filter(|(_, count)| *count > 0)
                .map(|(kind, count)| (kind.name().to_owned(), count))
                .collect(),
            alarms: snapshot.alarms.iter().map(AlarmStatus::new).collect(),
            objects_unstable: snapshot.unstable,
            unstable: snapshot
                .episodes
                .iter()
                .map(|unstable| UnstableStatus {
                    object_text: unstable.object.to_string(),
                    object: unstable.object.clone(),
                    if_name: unstable.if_name.clone(),
                    link: unstable.link,
                    traps: unstable.episode.traps,
                    first_seconds_ago: unstable.first.as_secs_f64(),
                    last_seconds_ago: unstable.last.as_secs_f64(),
                    stable_time_seconds: unstable.episode.stable_time.as_secs_f64(),
                    clears_in_seconds: unstable.ends.as_secs_f64(),
                })
                .collect(),
            subnets: snapshot.subnets.iter().map(SubnetStatus::new).collect(),
            flows: snapshot
                .flows
                .iter()
                .map(|flow| FlowStatus {
                    subnet: flow.key.subnet.to_string(),
                    interface: flow.key.interface.clone(),
                    local: flow.key.local.to_string(),
                    polled: flow.key.polled.to_string(),
                    status: match flow.state {
                        FlowState::Unknown { .. } => UpDown::Unknown,
                        FlowState::Up { .. } => UpDown::Up,
                        FlowState::Down { .. } => UpDown::Down,
                    },
                    reason: flow.reason.clone(),
                    polls: flow.counters.polls,
                    missed: flow.counters.missed,
                    round_trip_ms: flow
                        .counters
                        .round_trip
                        .map(|round_trip| round_trip.as_secs_f64() * 1e3),
                })
                .collect(),
            peers: about.peers,
            pair: about.pair,
            notification_targets: about
                .targets
                .into_iter()
                .map(|target| TargetStatus {
                    forwarded: snapshot.forwarded_to(&target.name),
                    name: target.name,
                    address: target.address,
                    form: target.form,
                    reachable: target.reachable,
                    sent: target.sent,
                    acknowledged: target.acknowledged,
                    failed: target.failed,
                    lost: target.lost,
                    waiting: target.lag,
                    forwarded_waiting: target.waiting_forwarded,
                    last_error: target.last_error,
                })
                .collect(),
        }
    }
}

impl AlarmStatus {
    /// As it is told.
    pub fn new(alarm: &Alarm) -> AlarmStatus {
        AlarmStatus {
            id: alarm.id.to_string(),
            kind: alarm.kind.name().to_owned(),
            severity: alarm.severity,
            object: alarm.object.clone(),
            object_text: alarm.about(),
            agent: alarm.agent.clone(),
            raised_at: utc(alarm.raised_at),
            text: alarm.text.clone(),
        }
    }
}

impl SubnetStatus {
    fn new(subnet: &SubnetView) -> SubnetStatus {
        SubnetStatus {
            subnet: subnet.prefix.to_string(),
            status: UpDown::of(subnet.up),
            interfaces: subnet.interfaces.iter().map(InterfaceStatus::new).collect(),
        }
    }
}

impl InterfaceStatus {
    fn new(interface: &InterfaceView) -> InterfaceStatus {
        InterfaceStatus {
            interface: interface.name.clone(),
            status: UpDown::of(interface.up),
            words: interface.to_string(),
            link: interface.link,
            disabled: interface.disabled,
            failure_type: interface.failure.map(|failure| failure.name().to_owned()),
            standby: interface.part == Some(Part::Standby),
        }
    }
}

impl SeverityCounts {
    fn new(by_kind: impl Iterator<Item = (Kind, u64)>) -> SeverityCounts {
        let mut counts = SeverityCounts::default();
        for (kind, count) in by_kind {
            *counts.place(kind.severity()) += count;
        }
        counts
    }

    const fn place(&mut self, severity: Severity) -> &mut u64 {
        match severity {
            Severity::Critical => &mut self.critical,
            Severity::Major => &mut self.major,
            Severity::Minor => &mut self.minor,
            Severity::Warning => &mut self.warning,
        }
    }

    /// How many are of this severity.
    pub const fn of(mut self, severity: Severity) -> u64 {
        *self.place(severity)
    }
}

impl UpDown {
    const fn of(up: Option<bool>) -> UpDown {
        match up {
            Some(true) => UpDown::Up,
            Some(false) => UpDown::Down,
            None => UpDown::Unknown,
        }
    }

    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            UpDown::Down => "down",
            UpDown::Unknown => "unknown",
            UpDown::Up => "up",
        }
    }
}

/// RFC 3339, in UTC, to the millisecond.
pub fn utc(at: WallTime) -> String {
    match Timestamp::from_millisecond(at.0) {
        Ok(at) => format!("{at:.3}"),
        Err(_) => format!("{} ms", at.0),
    }
}
