//! Whether so many peers are silent that the fault is taken to be near this agent (PEER-9).
//!
//! ```text
//!             more than 10 % silent, and more than a batch;
//!             or retransmissions overdue
//!   normal ────────────────────────────────────────────────> slowed
//!     ^                                                        │
//!     └────────────────────────────────────────────────────────┘
//!             5 % or fewer silent, and not held
//! ```

use crate::time::Time;

/// The machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silence {
    slowed: Option<Slowed>,
}

/// It does not end before this moment.
#[derive(Clone, Copy, Debug)]
struct Slowed {
    held: Time,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Mass silence began.
    Began,
    /// It is over, and was not before this moment.
    Ended(Time),
}

impl Silence {
    /// It was under way in an earlier run, and is so until a moment at least: until all peers have been
    /// asked once, nobody knows whether it is over.
    pub const fn restored(held: Time) -> Silence {
        Silence { slowed: Some(Slowed { held }) }
    }

    /// Whether detection is slowed.
    pub const fn is_slowed(&self) -> bool {
        self.slowed.is_some()
    }

    /// When it ends, if only that holds it.
    pub fn next(&self, silent: u32, admitted: u32) -> Option<Time> {
        let few = u64::from(silent) * 20 <= u64::from(admitted);
        self.slowed.filter(|_| few).map(|slowed| slowed.held)
    }

    /// Takes in how many of the admitted peers are silent.
    pub fn weigh(&mut self, silent: u32, admitted: u32, batch: u32, now: Time) -> Option<Turn> {
        let (silent, admitted) = (u64::from(silent), u64::from(admitted));
        match self.slowed {
            None if silent * 10 > admitted && silent > u64::from(batch) => {
                self.slowed = Some(Slowed { held: now });
                Some(Turn::Began)
            }
            Some(Slowed { held }) if silent * 20 <= admitted && held <= now => {
                self.slowed = None;
                Some(Turn::Ended(held))
            }
            None | Some(_) => None,
        }
    }

    /// Retransmissions come due faster than their batches can leave. It may be that few peers are
    /// silent; those would be due at once again if it ended at once, so it holds until a moment.
    pub const fn overdue(&mut self, held: Time) -> Option<Turn> {
        match self.slowed {
            None => {
                self.slowed = Some(Slowed { held });
                Some(Turn::Began)
            }
            Some(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_above_10_percent_and_ends_at_5_peer_9() {
        let now = Time::from_secs(1);
        let mut silence = Silence::default();
        for (silent, admitted, turn) in [
            (12_800, 128_000, None),
            (12_801, 128_000, Some(Turn::Began)),
            (128_000, 128_000, None),
            (12_800, 128_000, None),
            (6_401, 128_000, None),
            (6_400, 128_000, Some(Turn::Ended(now))),
            (12_800, 128_000, None),
            (550, 1_000, None),
            (551, 1_000, Some(Turn::Began)),
            (0, 0, Some(Turn::Ended(now))),
        ] {
            assert_eq!(silence.weigh(silent, admitted, 550, now), turn, "{silent} of {admitted}");
        }
    }

    #[test]
    fn a_restart_does_not_end_it() {
        let mut silence = Silence::restored(Time::from_secs(63));
        assert_eq!(silence.weigh(0, 1000, 550, Time::from_secs(62)), None);
        assert_eq!(
            silence.weigh(0, 1000, 550, Time::from_secs(63)),
            Some(Turn::Ended(Time::from_secs(63)))
        );
    }

    #[test]
    fn what_is_overdue_holds_it_for_a_while() {
        let mut silence = Silence::default();
        assert_eq!(silence.overdue(Time::from_secs(60)), Some(Turn::Began));
        assert_eq!(silence.overdue(Time::from_secs(90)), None);
        assert_eq!(silence.weigh(1, 1000, 550, Time::from_secs(59)), None);
        assert_eq!(
            silence.weigh(1, 1000, 550, Time::from_secs(60)),
            Some(Turn::Ended(Time::from_secs(60)))
        );
    }
}
