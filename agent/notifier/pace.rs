//! How fast datagrams leave for one target (TRAP-13).

use std::time::Duration;

use evenkeel_core::time::Time;

/// A token bucket of `burst` tokens, `rate` more each second, kept as the moment at which everything
/// that was let through would have gone at an even pace (the generic cell rate algorithm). So in any
/// time T at most `burst + T * rate` leave.
#[derive(Clone, Debug)]
pub struct Pace {
    interval: Duration,
    ahead: Duration,
    even: Time,
}

impl Pace {
    /// A full bucket. A rate or burst of 0 counts as 1.
    pub fn new(rate: u32, burst: u32) -> Pace {
        // Rounded up, so that it is never more than the rate.
        let interval = Duration::from_nanos(1_000_000_000u64.div_ceil(u64::from(rate.max(1))));
        Pace { interval, ahead: interval * (burst.max(1) - 1), even: Time::ZERO }
    }

    /// When the next one may leave: not after `now` if it may at once.
    pub fn ready(&self) -> Time {
        self.even - self.ahead
    }

    /// One leaves.
    pub fn take(&mut self, now: Time) {
        self.even = self.even.max(now) + self.interval;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// When so many leave that wait from `from` on, in milliseconds after it.
    fn leave(pace: &mut Pace, from: Time, count: usize) -> Vec<u128> {
        let mut now = from;
        (0..count)
            .map(|_| {
                now = now.max(pace.ready());
                pace.take(now);
                now.since(from).as_millis()
            })
            .collect()
    }

    #[test]
    fn a_burst_leaves_at_once_and_then_one_every_two_milliseconds() {
        let (mut pace, from) = (Pace::new(500, 50), Time::from_secs(1000));
        let left = leave(&mut pace, from, 53);
        assert_eq!(left[..50], [0; 50]);
        assert_eq!(left[50..], [2, 4, 6]);
        // After a quiet time the bucket is full again, and no fuller.
        let left = leave(&mut pace, from + Duration::from_secs(10), 52);
        assert_eq!(left[..50], [0; 50]);
        assert_eq!(left[50..], [2, 4]);
    }

    proptest! {
        #[test]
        fn trap_13_the_rate_is_never_exceeded(
            rate in 1u32..5000, burst in 1u32..100, gaps in prop::collection::vec(0u64..20_000, 2..200),
        ) {
            let mut pace = Pace::new(rate, burst);
            let mut now = Time::from_secs(1);
            let mut left = vec![];
            for gap in gaps {
                now = (now + Duration::from_micros(gap)).max(pace.ready());
                pace.take(now);
                left.push(now);
            }
            for (first, from) in left.iter().enumerate() {
                for (last, to) in left.iter().enumerate().skip(first) {
                    let most = f64::from(burst) + to.since(*from).as_secs_f64() * f64::from(rate);
                    prop_assert!((last - first + 1) as f64 <= most + 1e-6);
                }
            }
        }
    }
}
