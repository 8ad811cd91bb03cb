//! The two clocks that the core is told about, as types that can't be mixed up.
//!
//! [`Time`] is monotonic and is what every rule about durations uses; [`WallTime`] is what an
//! operator reads on a clock, is stamped on alarms and is never compared with anything.

use std::{
    fmt,
    ops::{Add, Sub},
    time::Duration,
};

use serde::{Deserialize, Serialize};

/// A moment on the monotonic clock of one run, in nanoseconds since an origin that the driver
/// chose.
///
/// Moments of different runs can't be compared; a [`State`](crate::state::State) therefore holds
/// ages.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Time(u64);

impl Time {
    /// The origin of the clock.
    pub const ZERO: Time = Time(0);
    /// Later than every moment that can be reached (584 years after the origin).
    pub const MAX: Time = Time(u64::MAX);

    /// The moment `nanos` nanoseconds after the origin.
    pub const fn from_nanos(nanos: u64) -> Time {
        Time(nanos)
    }

    /// The moment `millis` milliseconds after the origin.
    pub const fn from_millis(millis: u64) -> Time {
        Time(millis * 1_000_000)
    }

    /// The moment `secs` seconds after the origin.
    pub const fn from_secs(secs: u64) -> Time {
        Time(secs * 1_000_000_000)
    }

    /// Nanoseconds since the origin.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Milliseconds since the origin, rounded down.
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000_000
    }

    /// How long after `earlier` this is, and nothing if it is not after it.
    pub const fn since(self, earlier: Time) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Time {
    type Output = Time;

    /// Stops at [`Time::MAX`] instead of overflowing.
    fn add(self, after: Duration) -> Time {
        Time(self.0.saturating_add(nanos(after)))
    }
}

impl Sub<Duration> for Time {
    type Output = Time;

    /// Stops at the origin instead of overflowing.
    fn sub(self, before: Duration) -> Time {
        Time(self.0.saturating_sub(nanos(before)))
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A moment on the wall clock, in milliseconds since 1970-01-01 00:00 UTC.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct WallTime(pub i64);

/// Writes a duration for a person: `90s` as `1m30s`, and with milliseconds as `1m30.5s`.
pub struct Pretty(pub Duration);

impl fmt::Display for Pretty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (secs, millis) = (self.0.as_secs(), self.0.subsec_millis());
        let (hours, minutes, seconds) = (secs / 3600, secs / 60 % 60, secs % 60);
        if hours > 0 {
            write!(f, "{hours}h")?;
        }
        if minutes > 0 {
            write!(f, "{minutes}m")?;
        }
        match (seconds, millis) {
            (0, 0) if secs > 0 => Ok(()),
            (0, 0) => f.write_str("0s"),
            (seconds, 0) => write!(f, "{seconds}s"),
            (0, millis) if secs == 0 => write!(f, "{millis}ms"),
            (seconds, millis) => {
                let fraction = format!("{millis:03}");
                write!(f, "{seconds}.{}s", fraction.trim_end_matches('0'))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short() {
        for (millis, text) in [
            (0, "0s"),
            (250, "250ms"),
            (2_068, "2.068s"),
            (30_000, "30s"),
            (90_500, "1m30.5s"),
            (3_600_000, "1h"),
            (3_600_001, "1h0.001s"),
        ] {
            assert_eq!(Pretty(Duration::from_millis(millis)).to_string(), text);
        }
    }

    #[test]
    fn time_never_overflows() {
        assert_eq!(Time::MAX + Duration::from_secs(1), Time::MAX);
        assert_eq!(Time::ZERO - Duration::from_secs(1), Time::ZERO);
        assert_eq!(Time::ZERO.since(Time::from_secs(1)), Duration::ZERO);
    }
}
