//! Chance, for tests that kill and lose at random moments.

use std::{
    env,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Chance that can be had again: SplitMix64 (Steele, Lea, Flood 2014).
pub struct Chance(u64);

impl Chance {
    /// From the environment, for a run that is to be repeated, or from the clock. Printed.
    pub fn new() -> Chance {
        let seed = env::var("EVENKEEL_SEED").ok().map(|text| text.parse().expect("a number"));
        let clock = || SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos();
        let seed = seed.unwrap_or_else(|| clock() as u64);
        println!("EVENKEEL_SEED={seed}");
        Chance(seed)
    }

    /// Another, which depends on this one alone: for a thread of its own.
    pub fn another(&mut self) -> Chance {
        Chance(self.next())
    }

    /// A number from 0 on, below this one.
    pub fn below(&mut self, most: u64) -> u64 {
        self.next() % most
    }

    /// Some time up to `most`.
    pub fn time(&mut self, most: Duration) -> Duration {
        Duration::from_micros(self.below(most.as_micros() as u64))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
