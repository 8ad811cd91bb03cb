//! The core's memory as plain data: what a disk or a mate keeps, and what puts it back.
//!
//! Every time in it is an age, as the clocks of two runs or two hosts have nothing in common
//! (PAIR-14).

use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::{
    alarm::{Alarm, AlarmId, Interface, Object, System},
    settings::Interfaces,
    standby::Place,
    usm::EngineRecord,
};

/// All that the core knows and could not find out again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Systems and interfaces.
    pub records: Vec<Record>,
    /// The active alarms.
    pub alarms: Vec<Alarm>,
    /// Engines that sent by SNMPv3, with their time (RFC 3414, 2.3).
    #[serde(default)]
    pub engines: Vec<EngineRecord>,
    /// Subnets that have a standby interface, and where their addresses are.
    #[serde(default)]
    pub standbys: Vec<StandbyRecord>,
    /// The identities that alarms were given last, the oldest first.
    #[serde(default)]
    pub identities: Vec<AlarmId>,
}

impl State {
    /// Leaves what is local to the host of one agent of a pair, and the identities.
    pub fn keep_local(&mut self, agent: &str) {
        self.records.clear();
        self.engines.clear();
        self.alarms.retain(|alarm| {
            alarm.object.is_local() && alarm.agent.as_deref().is_none_or(|other| other == agent)
        });
    }
}

/// Where the addresses of a subnet are that has a standby interface (SUBN-8). It is on the disk before
/// they are moved, so that whatever ends the agent in the midst of a move, its next start finishes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StandbyRecord {
    /// The subnet.
    pub subnet: IpNet,
    /// Its interfaces.
    pub interfaces: Interfaces,
    /// Where the addresses are, or are on their way to.
    pub place: Place,
    /// The addresses, with their prefix lengths.
    pub addresses: Vec<IpNet>,
}

/// Which system or interface a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RecordKey {
    /// The system.
    pub system: System,
    /// The ifIndex, or 0 for the system itself.
    pub if_index: u32,
}

impl From<Interface> for RecordKey {
    fn from(Interface { system, if_index }: Interface) -> RecordKey {
        RecordKey { system, if_index }
    }
}

impl RecordKey {
    /// What an alarm names it.
    pub const fn object(self) -> Object {
        let RecordKey { system, if_index } = self;
        match if_index {
            0 => Object::System(system),
            if_index => Object::Interface { system, if_index },
        }
    }
}

/// What is remembered of one system or interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Which one.
    pub key: RecordKey,
    /// How long ago all of `memory` was true: its ages count from then.
    pub age: Duration,
    /// What is remembered.
    pub memory: Memory,
}

/// The memory of one object (INST-16 bounds it).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Where its instability stands.
    pub phase: Phase,
    /// The last few traps, to tell copies from new ones (INST-9).
    pub recent: Vec<Seen>,
    /// A system that has sent linkDown: its linkUps do not count (INST-2).
    pub sends_link_down: bool,
    /// An interface whose last link trap was linkDown (INST-13).
    pub down: bool,
    /// What the device calls the interface, where its traps said so.
    pub if_name: Option<String>,
    /// The group that it was last found to be in; nothing for none.
    pub group: Option<String>,
    /// The number in the spool of the last trap that all of this has heeded (TRAP-5); 0 for none.
    #[serde(default)]
    pub spooled: u64,
    /// Its traps that were not forwarded, as it was unstable already (TRAP-8).
    #[serde(default)]
    pub suppressed: u64,
    /// What its episodes that are over add to the alarm of the link that it is an end of, while that
    /// is active (INST-14).
    #[serde(default)]
    pub link_share: Option<LinkShare>,
}

impl Memory {
    /// How old the latest trap is that is remembered.
    pub fn latest_trap(&self) -> Option<Duration> {
        let counted = match &self.phase {
            Phase::Idle => None,
            Phase::Counting { ages, .. } => ages.iter().min().copied(),
            Phase::Unstable { last, .. } => Some(*last),
        };
        counted.into_iter().chain(self.recent.iter().map(|seen| seen.age)).min()
    }
}

/// What episodes that are over add to the numbers of an alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkShare {
    /// How long ago the oldest of their traps was received.
    pub first: Duration,
    /// How long ago the latest was received.
    pub last: Duration,
    /// Counted traps.
    pub traps: u64,
    /// Traps that were not forwarded (TRAP-8).
    pub suppressed: u64,
}

/// Where the instability of an object stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Nothing is remembered.
    #[default]
    Idle,
    /// Some counted traps, fewer than the threshold, oldest first.
    Counting {
        /// How long ago each was received.
        ages: Vec<Duration>,
        /// These are linkUps, which are forgotten at the system's first linkDown (INST-2).
        link_ups: bool,
    },
    /// Unstable.
    Unstable {
        /// How long ago *first* was received.
        first: Duration,
        /// How long ago *last* was received.
        last: Duration,
        /// Counted traps since *first*.
        traps: u64,
        /// Time since *last* in which nobody listened, which is not quiet (INST-17).
        deaf: Duration,
    },
}

/// A trap that was taken in, as far as it takes to know a copy of it.
///
/// There are eight in each record, so it is written as a list of four: trap, request-id, uptime, and
/// age in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "SeenList", into = "SeenList")]
pub struct Seen {
    /// linkDown, linkUp, coldStart or warmStart: the last sub-identifier of its snmpTrapOID.
    pub trap: u8,
    /// The low 32 bits of the request-id, where the form has one.
    pub request_id: Option<u32>,
    /// sysUpTime in hundredths of a second, where the trap has one.
    pub uptime: Option<u32>,
    /// How long ago it was received.
    pub age: Duration,
}

type SeenList = (u8, Option<u32>, Option<u32>, u64);

impl From<Seen> for SeenList {
    fn from(Seen { trap, request_id, uptime, age }: Seen) -> SeenList {
        (trap, request_id, uptime, u64::try_from(age.as_millis()).unwrap_or(u64::MAX))
    }
}

impl From<SeenList> for Seen {
    fn from((trap, request_id, uptime, age): SeenList) -> Seen {
        Seen { trap, request_id, uptime, age: Duration::from_millis(age) }
    }
}
