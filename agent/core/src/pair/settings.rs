//! What a pair is told to do (PAIR-2 to PAIR-8, PAIR-17), in types that can't hold a wrong value.

use std::{fmt, ops::RangeInclusive, sync::Arc, time::Duration};

/// The pair, as one agent sees it. Everything here may change with a reload.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Settings {
    /// The higher one is preferred as primary where no term tells (PAIR-2). At equal priorities it is
    /// slot 0.
    pub priority: u8,
    /// Heartbeats and time-outs.
    pub timing: Timing,
    /// How many automatic takeovers there may be; nothing turns the limit off (PAIR-6).
    pub limit: Option<Limit>,
    /// Whether the agent with the higher priority becomes primary again (PAIR-5).
    pub failback: Failback,
    /// The heartbeat paths.
    pub paths: Paths,
    /// Whether there is a witness to ask (PAIR-4). Who they are is for the shell to know.
    pub witnesses: bool,
}

/// The local interfaces of the heartbeat paths, in the order of the configuration (PAIR-8). A path is
/// known by its place among them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Paths(Arc<[String]>);

impl Paths {
    /// How many paths there may be. One alone can't lose a takeover's worth of heartbeats while the
    /// state channel is up; more than a host has ways to its mate serve nothing.
    pub const COUNTS: RangeInclusive<usize> = 1..=8;

    /// Paths over these local interfaces; nothing if they are none or too many.
    pub fn new(interfaces: &[&str]) -> Option<Paths> {
        let names = interfaces.iter().map(|&name| name.to_owned()).collect();
        Paths::COUNTS.contains(&interfaces.len()).then_some(Paths(names))
    }

    /// The local interfaces.
    pub fn interfaces(&self) -> &[String] {
        &self.0
    }
}

/// Heartbeats, and what follows when they stay away (PAIR-8, PAIR-17).
///
/// ```text
/// heartbeats   0 ── 1 ── 2 ── 3 ── 4 ── 5 ── 6 ─────────── 8       since the last one that was heard
/// primary      speaks            │ licence lapses          │ goes on alone, if a witness answers
/// standby                                    │ mate time-out
///                                              │ half a heartbeat later: takes over
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Timing {
    heartbeat: Duration,
    mate_timeout: Duration,
    licence_missed: u8,
}

impl Timing {
    /// How often a heartbeat may leave. Below 100 ms it measures the scheduler, above 10 s nobody
    /// would call it a pair.
    pub const HEARTBEATS: RangeInclusive<Duration> =
        Duration::from_millis(100)..=Duration::from_secs(10);
    /// How many heartbeats there may be in a mate time-out.
    pub const PER_TIMEOUT: RangeInclusive<u32> = 3..=60;

    /// 500 ms, 3000 ms and four (PAIR-8, PAIR-17).
    pub const DEFAULT: Timing = Timing {
        heartbeat: Duration::from_millis(500),
        mate_timeout: Duration::from_millis(3000),
        licence_missed: 4,
    };

    /// A heartbeat each `heartbeat`; the mate is given up after `mate_timeout` of silence; a licence
    /// lapses after `licence_missed` heartbeats.
    pub fn new(
        heartbeat: Duration,
        mate_timeout: Duration,
        licence_missed: u8,
    ) -> Result<Timing, TimingError> {
        if !Timing::HEARTBEATS.contains(&heartbeat) {
            return Err(TimingError::Heartbeat);
        }
        let [least, most] = [Timing::PER_TIMEOUT.start(), Timing::PER_TIMEOUT.end()];
        if !(heartbeat * *least..=heartbeat * *most).contains(&mate_timeout) {
            return Err(TimingError::MateTimeout);
        }
        // One heartbeat must lie between the licence's end and the mate time-out: so old may what a
        // heartbeat acknowledges be when it is sent. See `licence.rs`.
        if licence_missed < 2 || heartbeat * (u32::from(licence_missed) + 1) > mate_timeout {
            return Err(TimingError::Licence);
        }
        Ok(Timing { heartbeat, mate_timeout, licence_missed })
    }

    /// From one heartbeat to the next.
    pub const fn heartbeat(self) -> Duration {
        self.heartbeat
    }

    /// How long a path, or the mate, must be silent to be given up.
    pub const fn mate_timeout(self) -> Duration {
        self.mate_timeout
    }

    /// How long a licence lasts after the heartbeat that renewed it.
    pub fn licence(self) -> Duration {
        self.heartbeat * u32::from(self.licence_missed)
    }

    /// How long a standby waits after it last heard the mate. The heartbeat that is due as the mate
    /// time-out ends is missed when it is half an interval late, and not when it is as late as any.
    pub fn takeover(self) -> Duration {
        self.mate_timeout + self.heartbeat / 2
    }

    /// When a primary whose licence was not renewed goes on alone: the mate time-out and two
    /// heartbeats more.
    pub fn alone(self) -> Duration {
        self.mate_timeout + self.tie_breaker()
    }

    /// How old an answer of a witness may be, and how long it takes at most to have one (PAIR-4).
    pub fn tie_breaker(self) -> Duration {
        self.heartbeat * 2
    }

    /// How long the mate must be silent for the witnesses to be asked: early enough to have an answer,
    /// or none for a mate time-out, when it is wanted.
    pub fn wonder(self) -> Duration {
        self.heartbeat * 3 / 2
    }

    /// From one heartbeat to the next while roles change: a lost one must not cost half of the second
    /// that an ordered takeover may take (PAIR-15).
    pub fn hurry(self) -> Duration {
        self.heartbeat / 5
    }
}

/// What is wrong with a [`Timing`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimingError {
    /// The heartbeat is not between 100 ms and 10 s.
    Heartbeat,
    /// The mate time-out is not 3 to 60 heartbeats.
    MateTimeout,
    /// The licence lasts less than two heartbeats, or less than one heartbeat lies between its end and
    /// the mate time-out.
    Licence,
}

impl fmt::Display for TimingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TimingError::Heartbeat => "a heartbeat must be between 100ms and 10s",
            TimingError::MateTimeout => "the mate time-out must be between 3 and 60 heartbeats",
            TimingError::Licence => {
                "the licence must last at least two heartbeats, and end at least one heartbeat \
                 before the mate time-out"
            }
        })
    }
}

/// How many automatic takeovers there may be in a sliding window (PAIR-6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Limit {
    count: u8,
    period: Duration,
}

impl Limit {
    /// How many takeovers may be set.
    pub const COUNTS: RangeInclusive<u8> = 2..=10;
    /// How long the window may be.
    pub const PERIODS: RangeInclusive<Duration> =
        Duration::from_secs(5 * 60)..=Duration::from_secs(9000 * 60);
    /// What the period divided by the count must exceed: two agents that change roles every five
    /// minutes do nothing else.
    pub const LEAST_EACH: Duration = Duration::from_secs(5 * 60);

    /// Three in 60 minutes.
    pub const DEFAULT: Limit = Limit { count: 3, period: Duration::from_secs(60 * 60) };

    /// At most `count` in any `period`.
    pub fn new(count: u8, period: Duration) -> Result<Limit, LimitError> {
        if !Limit::COUNTS.contains(&count) {
            return Err(LimitError::Count);
        }
        if !Limit::PERIODS.contains(&period) {
            return Err(LimitError::Period);
        }
        if period <= Limit::LEAST_EACH * u32::from(count) {
            return Err(LimitError::TooMany);
        }
        Ok(Limit { count, period })
    }

    /// How many.
    pub const fn count(self) -> u8 {
        self.count
    }

    /// In how long.
    pub const fn period(self) -> Duration {
        self.period
    }
}

/// What is wrong with a [`Limit`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitError {
    /// The count is not between 2 and 10.
    Count,
    /// The period is not between 5 and 9000 minutes.
    Period,
    /// The period divided by the count is five minutes or less.
    TooMany,
}

impl fmt::Display for LimitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LimitError::Count => "the number of takeovers must be between 2 and 10",
            LimitError::Period => "the period must be between 5m and 9000m",
            LimitError::TooMany => "the period divided by the number of takeovers must exceed 5m",
        })
    }
}

/// What becomes of a former primary that is back (PAIR-5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Failback {
    /// It stays standby until an operator orders otherwise.
    #[default]
    ByHand,
    /// The agent with the higher priority becomes primary again after it has been in full
    /// synchronisation for so long.
    Automatic {
        /// How long.
        after: Duration,
    },
}

impl Failback {
    /// How long full synchronisation must have lasted, unless it is set otherwise.
    pub const DEFAULT_AFTER: Duration = Duration::from_secs(60);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minutes(minutes: u64) -> Duration {
        Duration::from_secs(60 * minutes)
    }

    #[test]
    fn pair_6_a_limit_that_would_let_roles_change_every_five_minutes_is_refused() {
        for (count, period, right) in [
            (3, 60, Ok(())),
            (2, 11, Ok(())),
            (10, 51, Ok(())),
            (10, 9000, Ok(())),
            (2, 10, Err(LimitError::TooMany)),
            (10, 50, Err(LimitError::TooMany)),
            (2, 4, Err(LimitError::Period)),
            (2, 9001, Err(LimitError::Period)),
            (1, 60, Err(LimitError::Count)),
            (11, 9000, Err(LimitError::Count)),
        ] {
            assert_eq!(Limit::new(count, minutes(period)).map(|_| ()), right, "{count} {period}");
        }
        assert_eq!(Limit::new(3, minutes(60)), Ok(Limit::DEFAULT));
    }

    #[test]
    fn pair_17_a_licence_ends_before_the_standby_may_take_over() {
        let ms = Duration::from_millis;
        for (heartbeat, timeout, missed, right) in [
            (500, 3000, 4, Ok(())),
            (500, 3000, 5, Ok(())),
            (500, 3000, 6, Err(TimingError::Licence)),
            (500, 3000, 1, Err(TimingError::Licence)),
            (1000, 3000, 2, Ok(())),
            (1000, 2999, 2, Err(TimingError::MateTimeout)),
            (1000, 60_001, 2, Err(TimingError::MateTimeout)),
            (99, 3000, 4, Err(TimingError::Heartbeat)),
            (10_001, 60_000, 2, Err(TimingError::Heartbeat)),
        ] {
            let timing = Timing::new(ms(heartbeat), ms(timeout), missed);
            assert_eq!(timing.map(|_| ()), right, "{heartbeat} {timeout} {missed}");
        }
        let timing = Timing::DEFAULT;
        assert_eq!(Timing::new(ms(500), ms(3000), 4), Ok(timing));
        assert_eq!((timing.licence(), timing.alone()), (ms(2000), ms(4000)));
    }

    #[test]
    fn pair_8_there_is_a_path_at_least() {
        assert_eq!(Paths::new(&[]), None);
        assert_eq!(Paths::new(&["eth0"; 9]), None);
        assert_eq!(Paths::new(&["eth0", "eth1"]).unwrap().interfaces(), ["eth0", "eth1"]);
    }
}
