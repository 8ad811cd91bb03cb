//! How long to wait before the next try.

use std::time::Duration;

/// The longest wait: how late an NMS that came back hears of what happened.
pub const LONGEST: Duration = Duration::from_secs(30);

/// The wait after try number `tries` (from 1 on) of something whose first try gets `first`: doubled
/// with each, up to [`LONGEST`], or to `first` if that is longer still.
pub fn after(first: Duration, tries: u32) -> Duration {
    let longest = LONGEST.max(first);
    // Twenty doublings take a millisecond beyond a quarter of an hour.
    let doubled = first.saturating_mul(1 << tries.saturating_sub(1).min(20));
    doubled.min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_half_a_minute() {
        let waits = |first: u64| -> Vec<u128> {
            (1..=9).map(|tries| after(Duration::from_millis(first), tries).as_millis()).collect()
        };
        let second = 1000;
        assert_eq!(waits(2000), [2, 4, 8, 16, 30, 30, 30, 30, 30].map(|secs| secs * second));
        assert_eq!(waits(250), [250, 500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
        assert_eq!(waits(40_000), [40_000; 9], "as long as it was asked for");
        assert_eq!(after(Duration::from_secs(2), u32::MAX), LONGEST);
        assert_eq!(after(Duration::ZERO, 9), Duration::ZERO);
    }
}
