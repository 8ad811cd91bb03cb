//! What mates say to each other: heartbeats, on every heartbeat path and on the state channel, and a
//! little more on the state channel alone.
//!
//! A heartbeat says what *is*, never what has changed: any one may be lost, and the next makes up for
//! it. Times travel as ages and as numbers of the reader's own rounds, so that no clock is compared
//! with another (PAIR-14). How it is sealed, and by which key, is the shell's business.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    record::RecordSaid,
    term::{Slot, Term},
    version::Version,
};

/// One heartbeat. The same is sent on every path and on the state channel.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The sender's version. It stays first, so that any version can read it.
    pub version: Version,
    /// The sender's slot.
    pub slot: Slot,
    /// The sender's run: grows with each start of the agent, on disk.
    pub run: u64,
    /// Grows with each heartbeat of a run.
    pub round: u64,
    /// The newest heartbeat of the reader that the sender has heard.
    pub heard: Option<Heard>,
    /// What the sender says of itself.
    pub said: Said,
    /// The automatic takeovers that the sender remembers (PAIR-6).
    pub takeovers: Vec<TakeoverSaid>,
}

/// Which heartbeat was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Heard {
    /// The run of who sent it.
    pub run: u64,
    /// Its round.
    pub round: u64,
}

/// What an agent says of itself. When it changes, a heartbeat leaves at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Said {
    /// Its role.
    pub role: RoleSaid,
    /// The highest term that it knows of.
    pub known: Option<Term>,
    /// Its priority.
    pub priority: u8,
    /// It may be primary: its parts work, it is not about to stop, and it is not cut off.
    pub fit: bool,
    /// It would take over by itself if the mate were gone: it is fit, in synchronisation, not held and
    /// not limited.
    pub able: bool,
    /// It has all of the mate's state.
    pub in_sync: bool,
    /// It is about to stop, and takes nothing over any more.
    pub stopping: bool,
    /// As a standby: the primary is to hand over.
    pub wants: Option<Wants>,
    /// The operator's orders that hold for both.
    pub orders: Orders,
    /// Its mate time-out: as long it waits at least after it has heard a primary.
    pub patience: Duration,
}

/// A role, as it is told to the mate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RoleSaid {
    /// Not settled yet: this run has neither been primary nor heard one.
    Undecided,
    /// Standby.
    Standby {
        /// The term of the primary that it hears. It is on the standby's disk, and the standby does
        /// not take over before the mate time-out has gone by since it heard what it acknowledges.
        follows: Option<Term>,
    },
    /// Primary.
    Primary {
        /// Its term.
        term: Term,
        /// It asks the standby to take over, and does not speak meanwhile (PAIR-3).
        leaving: Option<Leaving>,
    },
}

/// Why a primary asks its standby to take over (PAIR-3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Leaving {
    /// A part of it fails (PAIR-9).
    PartFailing,
    /// An operator ordered it (PAIR-7).
    Operator,
    /// It is shutting down.
    Stopping,
    /// The standby has the higher priority and asked for it (PAIR-5).
    Failback,
}

/// Why a standby wants to be primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Wants {
    /// An operator ordered it here (PAIR-7).
    Operator,
    /// It has the higher priority (PAIR-5).
    Failback,
}

/// The operator's orders that both agents keep to, whichever was told. Of two that differ the one
/// with the higher revision holds.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Orders {
    /// How often hold or release was ordered.
    pub revision: u32,
    /// Nobody takes over. At equal revisions, hold holds.
    pub held: bool,
    /// How often the counters were reset.
    pub resets: u32,
}

impl Orders {
    /// What holds when both have been heard.
    pub fn with(self, other: Orders) -> Orders {
        let (revision, held) = (self.revision, self.held).max((other.revision, other.held));
        Orders { revision, held, resets: self.resets.max(other.resets) }
    }
}

/// An automatic takeover, with its age when the heartbeat was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TakeoverSaid {
    /// The term that it began, by which it is known.
    pub term: Term,
    /// How long ago it was.
    pub age: Duration,
}

/// What the protocol sends on the state channel, beside the state itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// A heartbeat.
    Heartbeat(Box<Heartbeat>),
    /// The record of the last takeover, when the channel comes up and when it changes.
    Record(RecordSaid),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pair_7_the_later_order_holds_whoever_was_told() {
        let hold = Orders { revision: 3, held: true, resets: 0 };
        let release = Orders { revision: 4, held: false, resets: 0 };
        let reset = Orders { revision: 1, held: true, resets: 2 };
        assert_eq!(hold.with(release), release);
        assert_eq!(release.with(hold), release);
        assert_eq!(release.with(reset), Orders { resets: 2, ..release });
        let both = Orders { revision: 3, held: false, resets: 0 };
        assert_eq!((hold.with(both), both.with(hold)), (hold, hold));
    }

    #[test]
    fn pair_8_a_heartbeat_fits_into_any_datagram() {
        let term = Term { number: u64::MAX, by: Slot::One };
        let takeover = TakeoverSaid { term, age: Duration::MAX };
        let heartbeat = Heartbeat {
            version: Version { major: u16::MAX, minor: u16::MAX, patch: u16::MAX },
            slot: Slot::One,
            run: u64::MAX,
            round: u64::MAX,
            heard: Some(Heard { run: u64::MAX, round: u64::MAX }),
            said: Said {
                role: RoleSaid::Primary { term, leaving: Some(Leaving::Failback) },
                known: Some(term),
                priority: u8::MAX,
                fit: true,
                able: true,
                in_sync: true,
                stopping: true,
                wants: Some(Wants::Failback),
                orders: Orders { revision: u32::MAX, held: true, resets: u32::MAX },
                patience: Duration::MAX,
            },
            takeovers: vec![takeover; usize::from(*super::super::settings::Limit::COUNTS.end())],
        };
        let octets = postcard::to_allocvec(&heartbeat).unwrap();
        // The least that IPv4 carries in one piece is 576 octets (RFC 791).
        assert!(octets.len() <= 400, "{}", octets.len());
        assert_eq!(postcard::from_bytes::<Heartbeat>(&octets), Ok(heartbeat));
    }
}
