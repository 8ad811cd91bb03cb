//! One machine: is a message of an engine that was never heard of looked at (TRAP-6)?
//!
//! ```text
//!             many forged of its source?     many of all?
//!  message ──────────────── no ────────────────── no ─────> looked at ─> forged: its source is charged
//!              └ yes ──> refused       └ yes ──> refused
//! ```
//!
//! To look costs a key and a digest, so there is a bound for all together. It alone would let one who
//! sends forged messages use it up, and the traps of devices that are new would be lost behind them. So
//! a source has a bound of its own for those that prove forged, and what is refused by it costs the
//! others nothing. A relay that speaks for thousands of engines sends none.
//!
//! Sources share [`SHARES`] buckets by a hash that nobody outside can know: a table of them would have
//! to be bounded too, and forged sources would fill it.

use std::{hash::BuildHasher, net::IpAddr, time::Duration};

use foldhash::fast::FixedState;

use crate::{objects::bits, time::Time};

/// How many messages a second are looked at: each costs a key and a digest, 1 µs for a trap of the
/// ordinary size and 100 µs for the largest, so that a flood of forged ones takes at most a tenth of a
/// core. A network of 50,000 engines is learned within a minute.
const EACH: Duration = Duration::from_millis(1);
/// How many may come at once: a site that comes back from an outage.
const BURST: u32 = 2_000;

/// How many forged ones a second are looked at of one source: a hundredth of all.
const FORGED_EACH: Duration = Duration::from_millis(100);
/// How many at once: a device whose passphrase is wrong sends no more.
const FORGED_BURST: u32 = 50;

/// A source that shares its bucket with one that forges is refused with it: one of a thousand.
const SHARES: usize = 1_024;

/// The machine. A bucket is the moment at which it is full again.
#[derive(Debug)]
pub struct Learning {
    all: Time,
    forged: Vec<Time>,
    hasher: FixedState,
}

impl Learning {
    /// Nothing was looked at yet. `seed` must be another in each run.
    pub fn new(seed: u64) -> Learning {
        let hasher = FixedState::with_seed(seed);
        Learning { all: Time::ZERO, forged: vec![Time::ZERO; SHARES], hasher }
    }

    /// Whether one more message of this source is looked at.
    pub fn may_look(&mut self, source: IpAddr, now: Time) -> bool {
        has_room(self.forged[self.share(source)], FORGED_EACH, FORGED_BURST, now)
            && has_room(self.all, EACH, BURST, now)
            && {
                self.all = self.all.max(now) + EACH;
                true
            }
    }

    /// What was looked at was forged.
    pub fn was_forged(&mut self, source: IpAddr, now: Time) {
        let share = self.share(source);
        self.forged[share] = self.forged[share].max(now) + FORGED_EACH;
    }

    fn share(&self, source: IpAddr) -> usize {
        self.hasher.hash_one(bits(source)) as usize % SHARES
    }
}

fn has_room(full: Time, each: Duration, burst: u32, now: Time) -> bool {
    full.since(now) + each <= each * burst
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(number: u32) -> IpAddr {
        IpAddr::from((0x0a00_0000 + number).to_be_bytes())
    }

    #[test]
    fn trap_6_who_forges_keeps_nobody_else_from_being_learned() {
        let mut learning = Learning::new(7);
        let (mut forged, mut fresh) = (0, 0);
        // For 10 s, 100,000 forged ones a second of one source, and a new device every 10 ms.
        for nth in 0..1_000_000_u32 {
            let now = Time::from_nanos(u64::from(nth) * 10_000);
            if learning.may_look(source(0), now) {
                learning.was_forged(source(0), now);
                forged += 1;
            }
            if nth % 1_000 == 0 {
                fresh += u32::from(learning.may_look(source(1 + nth / 1_000), now));
            }
        }
        assert!((149..=150).contains(&forged), "{forged}");
        // But for those that share the bucket of the forger.
        assert!((990..=1_000).contains(&fresh), "{fresh} of 1,000");
    }

    #[test]
    fn trap_6_all_together_are_bounded_wherever_they_come_from() {
        let mut learning = Learning::new(7);
        let looked_at = (0..500_000_u32).filter(|nth| {
            let now = Time::from_nanos(u64::from(*nth) * 10_000);
            let may = learning.may_look(source(*nth), now);
            if may {
                learning.was_forged(source(*nth), now);
            }
            may
        });
        assert_eq!(looked_at.count(), 2_000 + 5_000 - 1);
    }

    #[test]
    fn a_relay_that_forges_nothing_may_speak_for_thousands() {
        let mut learning = Learning::new(7);
        let at_once = (0..9_000).filter(|_| learning.may_look(source(1), Time::from_secs(9)));
        assert_eq!(at_once.count(), 2_000);
    }
}
