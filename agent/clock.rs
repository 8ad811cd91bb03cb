//! The two clocks of the daemon, and the way from a kernel receive stamp to a moment of receipt.
//!
//! [`Time`] is CLOCK_MONOTONIC in nanoseconds plus a constant [`LEAD`], so that moments that
//! different threads, and different runs since one boot, read can be compared. The kernel stamps datagrams with CLOCK_REALTIME, which can be set by anyone at any
//! time; [`receipt`] turns such a stamp into a moment that no step of that clock can falsify
//! beyond what is known otherwise (spec, "Time").

use std::time::Duration;

use evenkeel_core::time::{Time, WallTime};

/// What is added to CLOCK_MONOTONIC, which begins at zero with each boot: so that what happened
/// before a reboot, at most this long ago, has a moment too.
pub const LEAD: Duration = Duration::from_secs(366 * 86_400);

/// The clocks of this host.
#[derive(Clone, Copy, Debug)]
pub struct Clock;

/// The clock of the pair, and of whoever asks whether this agent may speak: CLOCK_BOOTTIME, which is
/// CLOCK_MONOTONIC and goes on while the host sleeps. So the time that it slept counts against the own
/// licence as any other in which this agent stood still (PAIR-17). What the network did meanwhile nobody
/// has heard, and so all else goes by [`Clock`].
#[derive(Clone, Copy, Debug)]
pub struct BootClock;

/// Both clocks, read as good as at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The monotonic clock.
    pub time: Time,
    /// The wall clock, in nanoseconds since 1970-01-01 00:00 UTC.
    pub wall: i64,
}

impl Clock {
    /// The monotonic clock now.
    pub fn now() -> Time {
        Time::from_nanos(u64::try_from(read(libc::CLOCK_MONOTONIC)).unwrap_or(0)) + LEAD
    }

    /// Both clocks now.
    ///
    /// The wall clock is read between two readings of the monotonic one. If the thread lost the
    /// CPU in between, the pair is off by as much, so it is read again.
    pub fn both() -> Reading {
        at_once(Clock::now)
    }

    /// What the wall clock shows, as it runs now, at the origin of the monotonic clock: in
    /// milliseconds since 1970.
    pub fn wall_origin_ms() -> i64 {
        Clock::both().origin_ms()
    }
}

impl BootClock {
    /// The clock now.
    pub fn now() -> Time {
        Time::from_nanos(u64::try_from(read(libc::CLOCK_BOOTTIME)).unwrap_or(0)) + LEAD
    }

    /// This clock and the wall clock now.
    pub fn both() -> Reading {
        at_once(BootClock::now)
    }

    /// A moment of this clock on [`Clock`]. Of one before the host slept it is as long ago.
    pub fn on_monotonic(at: Time) -> Time {
        Clock::now() - BootClock::now().since(at)
    }
}

/// A clock and the wall clock now.
fn at_once(clock: impl Fn() -> Time) -> Reading {
    /// Three readings through the vDSO take a tenth of a microsecond; this leaves room for a
    /// slow clock source and still is far below what a stamp must be good for.
    const AT_ONCE: Duration = Duration::from_micros(20);
    /// On a host whose clock source is slower than that, the last try is as good as any.
    const TRIES: usize = 4;

    let mut before = clock();
    let mut tries = 1;
    loop {
        let wall = read(libc::CLOCK_REALTIME);
        let time = clock();
        if time.since(before) <= AT_ONCE || tries == TRIES {
            return Reading { time, wall };
        }
        before = time;
        tries += 1;
    }
}

impl Reading {
    /// The wall clock, in milliseconds.
    pub const fn wall_time(self) -> WallTime {
        WallTime(self.wall.div_euclid(1_000_000))
    }

    fn origin_ms(self) -> i64 {
        let up = i64::try_from(self.time.as_nanos()).unwrap_or(i64::MAX);
        self.wall.saturating_sub(up).div_euclid(1_000_000)
    }
}

/// When a datagram was received, that the kernel stamped with the wall clock at `stamp`
/// (nanoseconds since 1970) and that was read at `now`.
///
/// The age of the datagram is the difference of two wall clock readings, and wrong if the clock
/// was set between them. So the result is never after `now`, and never before `floor`: a moment
/// at which the datagram is known not to have come yet, as its socket was empty then or gave an
/// earlier datagram that was received then. Receipts of one socket therefore never go backwards.
pub fn receipt(stamp: i64, now: Reading, floor: Time) -> Time {
    let age = u64::try_from(now.wall.saturating_sub(stamp)).unwrap_or(0);
    (now.time - Duration::from_nanos(age)).max(floor)
}

fn read(clock: libc::clockid_t) -> i64 {
    let mut at = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `at` is a timespec that lives until the call returns. All three clocks exist on every
    // Linux, so the call can't fail.
    unsafe { libc::clock_gettime(clock, &raw mut at) };
    nanos(&at)
}

/// A timespec in nanoseconds: enough for 292 years on either side of 1970.
pub fn nanos(at: &libc::timespec) -> i64 {
    #[allow(clippy::useless_conversion, reason = "both are narrower where a long has 32 bits")]
    let (secs, nanos) = (i64::from(at.tv_sec), i64::from(at.tv_nsec));
    secs.saturating_mul(1_000_000_000).saturating_add(nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Times in milliseconds: the stamp, the wall clock and the monotonic clock when it was read,
    /// the floor, and the receipt.
    #[test]
    fn a_step_of_the_wall_clock_moves_no_receipt_out_of_what_is_possible() {
        for (what, stamp, wall, time, floor, received) in [
            ("no step", 1_000_990, 1_001_000, 5_000, 4_000, 4_990),
            ("read at once", 1_001_000, 1_001_000, 5_000, 4_000, 5_000),
            ("stepped forward by an hour in between", 1_000_990, 4_601_000, 5_000, 4_000, 4_000),
            ("forward by less than is known", 1_000_990, 1_001_500, 5_000, 4_000, 4_490),
            ("stepped backward by an hour in between", 1_000_990, -2_599_000, 5_000, 4_000, 5_000),
            ("backward by less than the age", 1_000_900, 1_000_950, 5_000, 4_000, 4_950),
            ("older than the clock", 0, 1_001_000, 5_000, 0, 0),
            ("empty until now", 1_000_990, 1_001_000, 5_000, 5_000, 5_000),
            ("after a receipt that came later", 1_000_990, 1_001_000, 5_000, 4_995, 4_995),
        ] {
            let now = Reading { time: Time::from_millis(time), wall: wall * 1_000_000 };
            let got = receipt(stamp * 1_000_000, now, Time::from_millis(floor));
            assert_eq!(got, Time::from_millis(received), "{what}");
        }
    }

    #[test]
    fn no_stamp_overflows() {
        let now = Reading { time: Time::from_secs(1), wall: i64::MAX };
        assert_eq!(receipt(i64::MIN, now, Time::ZERO), Time::ZERO);
        let now = Reading { wall: i64::MIN, ..now };
        assert_eq!(receipt(i64::MAX, now, Time::ZERO), Time::from_secs(1));
    }

    #[test]
    fn the_origin_is_the_wall_clock_less_the_time_up() {
        for (wall, time, origin) in
            [(5_000_000_000, 2_000_000_000, 3_000), (999_999, 0, 0), (0, 1, -1), (0, 1_000_001, -2)]
        {
            let reading = Reading { time: Time::from_nanos(time), wall };
            assert_eq!(reading.origin_ms(), origin, "wall {wall}, up {time}");
        }
    }

    #[test]
    fn pair_17_the_time_that_the_host_slept_is_in_one_clock_and_not_in_the_other() {
        let (before, asleep) =
            (BootClock::now(), read(libc::CLOCK_BOOTTIME) - read(libc::CLOCK_MONOTONIC));
        let reading = BootClock::both();
        assert!(before <= reading.time && reading.time <= BootClock::now());
        // The two are read one after the other.
        let slept = reading.time.since(Clock::now()).as_secs_f64();
        assert!((slept - asleep as f64 / 1e9).abs() < 10.0, "{slept} s, {asleep} ns");
        let ago = Clock::now().since(BootClock::on_monotonic(before));
        assert!(ago < Duration::from_secs(10), "{ago:?}");
    }

    #[test]
    fn the_clocks_run_forwards_and_together() {
        let before = Clock::now();
        let reading = Clock::both();
        let after = Clock::now();
        assert!(before <= reading.time && reading.time <= after);
        assert!(reading.wall > 1_700_000_000_000_000_000, "this host's clock is set");
    }
}
