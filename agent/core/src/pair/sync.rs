//! How much of the mate's state is here (PAIR-11), and `mate_sync_lost` (PAIR-8).
//!
//! ```text
//!              a copy begins             it ends
//!   Never ────────────────────> Copying ────────> InSync
//!                                  ^                │ the state channel goes down
//!                                  └──── Stale <────┘
//! ```

use std::time::Duration;

use super::record::{Degraded, Parts};
use crate::time::Time;

/// What the shell says of the state, on either agent: a standby of what it has, a primary of what its
/// standby has acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sync {
    /// A full copy is under way.
    Copying {
        /// What is still missing.
        missing: Parts,
    },
    /// Everything has been synchronised. Said again whenever it is so, with what is under way.
    InSync {
        /// Events that have not been acknowledged.
        events: u32,
        /// The age of the oldest of them.
        age: Duration,
    },
}

/// What is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Synchrony {
    /// Nothing, in this run.
    Never,
    /// A part of it.
    Copying {
        /// What is still missing.
        missing: Parts,
    },
    /// All of it.
    InSync {
        /// Since when without a break.
        since: Time,
        /// Events that have not been acknowledged.
        events: u32,
        /// The age of the oldest of them.
        age: Duration,
    },
    /// All of it, as it was when the state channel was lost.
    Stale {
        /// When that was.
        since: Time,
    },
}

impl Synchrony {
    /// Takes in what the shell says.
    pub fn hear(&mut self, sync: Sync, at: Time) {
        *self = match (sync, *self) {
            (Sync::Copying { missing }, _) => Synchrony::Copying { missing },
            (Sync::InSync { events, age }, Synchrony::InSync { since, .. }) => {
                Synchrony::InSync { since, events, age }
            }
            (
                Sync::InSync { events, age },
                Synchrony::Never | Synchrony::Copying { .. } | Synchrony::Stale { .. },
            ) => Synchrony::InSync { since: at, events, age },
        };
    }

    /// The state channel went down.
    pub fn lose(&mut self, at: Time) {
        *self = match *self {
            Synchrony::InSync { .. } => Synchrony::Stale { since: at },
            Synchrony::Never | Synchrony::Copying { .. } | Synchrony::Stale { .. } => *self,
        };
    }

    /// Whether all is here at `now`, but for what a mate took with it that ended no longer ago than
    /// `tolerance`.
    pub fn is_whole(self, now: Time, tolerance: Duration) -> bool {
        self.lacks(now, tolerance).is_none()
    }

    /// What is not here at `now`.
    pub fn lacks(self, now: Time, tolerance: Duration) -> Option<Degraded> {
        match self {
            Synchrony::Never => Some(Degraded { missing: Parts::ALL, stale: None }),
            Synchrony::Copying { missing } => Some(Degraded { missing, stale: None }),
            Synchrony::InSync { .. } => None,
            Synchrony::Stale { since } => (now.since(since) > tolerance)
                .then(|| Degraded { missing: Parts::NONE, stale: Some(now.since(since)) }),
        }
    }

    /// Since when all is here without a break.
    pub const fn whole_since(self) -> Option<Time> {
        match self {
            Synchrony::InSync { since, .. } => Some(since),
            Synchrony::Never | Synchrony::Copying { .. } | Synchrony::Stale { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pair::record::Part;

    #[test]
    fn pair_11_what_is_missing_is_known_at_every_step() {
        let at = Time::from_secs;
        let tolerance = Duration::from_secs(4);
        let mut sync = Synchrony::Never;
        let missing = |missing| Some(Degraded { missing, stale: None });
        assert_eq!(sync.lacks(at(1), tolerance), missing(Parts::ALL));
        let outbox = Parts::of(&[Part::Outbox]);
        sync.hear(Sync::Copying { missing: outbox }, at(2));
        assert_eq!(sync.lacks(at(2), tolerance), missing(outbox));
        sync.hear(Sync::InSync { events: 0, age: Duration::ZERO }, at(3));
        sync.hear(Sync::InSync { events: 7, age: Duration::from_secs(1) }, at(9));
        assert_eq!(sync.whole_since(), Some(at(3)));
        sync.lose(at(20));
        assert_eq!(sync.lacks(at(24), tolerance), None);
        let stale = Some(Duration::from_secs(5));
        assert_eq!(sync.lacks(at(25), tolerance), Some(Degraded { missing: Parts::NONE, stale }));
        assert_eq!(sync.whole_since(), None);
    }
}
