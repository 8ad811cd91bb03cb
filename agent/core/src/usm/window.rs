//! One machine: is a message timely (RFC 3414, 3.2.7)?
//!
//! ```text
//!                    ┌──────────────────────┐  newer: boots grow, or time grows above the latest
//!  first authentic   │        heard         │ ──────────────┐
//!  message ─────────>│ boots, latest, since │ <─────────────┘  timely
//!                    └──────────────────────┘
//!                      │ boots lower, or more than 150 s behind
//!                      ├──> refused, nothing moves
//!                      │ boots are 2147483647
//!                      └──> refused for ever
//! ```
//!
//! Of an engine that was never heard of, the first authentic message is taken as it is: there is
//! nothing to compare it with, so it may be a replay of an old one. The next new message of the engine
//! itself ends that, as its boots or time are higher.

use std::time::Duration;

use super::{LocalEngine, message::MOST};
use crate::time::Time;

/// The time window on each side (RFC 3414, 2.2.3), in seconds.
pub const WINDOW: u32 = 150;

/// A message came outside of the time window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotInTimeWindow;

/// What is known of another engine's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// snmpEngineBoots.
    pub boots: u32,
    /// latestReceivedEngineTime: the highest snmpEngineTime under these boots.
    pub latest: u32,
    /// When that was received: snmpEngineTime goes on from it.
    pub since: Time,
}

impl Heard {
    /// What the first authentic message of an engine says.
    ///
    /// # Errors
    ///
    /// Its boots have reached the end of their range, after which nothing of it is timely.
    pub fn first(boots: u32, time: u32, now: Time) -> Result<Heard, NotInTimeWindow> {
        if boots == MOST {
            return Err(NotInTimeWindow);
        }
        Ok(Heard { boots, latest: time, since: now })
    }

    /// snmpEngineTime of the engine, as far as we know.
    pub fn time(&self, now: Time) -> u32 {
        self.latest.saturating_add(seconds(now.since(self.since))).min(MOST)
    }

    /// Judges an authentic message of an engine that is not us (RFC 3414, 3.2.7 b).
    ///
    /// # Errors
    ///
    /// It is not timely.
    pub fn judge(&mut self, boots: u32, time: u32, now: Time) -> Result<(), NotInTimeWindow> {
        // 1)
        if boots > self.boots || (boots == self.boots && time > self.latest) {
            *self = Heard { boots, latest: time, since: now };
        }
        // 2)
        let behind = boots < self.boots || self.time(now).saturating_sub(time) > WINDOW;
        if self.boots == MOST || behind { Err(NotInTimeWindow) } else { Ok(()) }
    }
}

/// Our own snmpEngineTime.
pub fn own_time(local: &LocalEngine, now: Time) -> u32 {
    seconds(now.since(local.started)).min(MOST)
}

/// Judges an authentic message for which we are the authoritative engine (RFC 3414, 3.2.7 a).
///
/// # Errors
///
/// It is not timely.
pub fn judge_own(
    local: &LocalEngine,
    boots: u32,
    time: u32,
    now: Time,
) -> Result<(), NotInTimeWindow> {
    let timely = local.boots != MOST
        && boots == local.boots
        && time.abs_diff(own_time(local, now)) <= WINDOW;
    if timely { Ok(()) } else { Err(NotInTimeWindow) }
}

fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Time = Time::from_secs(10_000);

    fn later(seconds: u64) -> Time {
        AT + Duration::from_secs(seconds)
    }

    #[test]
    fn another_engine_never_goes_back_and_never_lags_more_than_150_seconds() {
        // RFC 3414, 3.2.7 b: boots and time of the message, seconds after the first, whether timely.
        // The first had boots 5 and time 1000.
        for (steps, case) in [
            (&[(5, 1000, 0, true), (5, 1000, 150, true), (5, 1000, 151, false)][..], "a replay"),
            (&[(5, 1100, 0, true), (5, 950, 0, true), (5, 949, 0, false)], "overtaken"),
            (&[(5, 900, 50, true), (5, 899, 49, true), (5, 899, 50, false)], "an edge"),
            // However far ahead it is, its own clock is right.
            (&[(5, 900_000, 1, true), (5, 1001, 2, false)], "it jumped"),
            (&[(4, 5000, 1, false), (5, 1001, 1, true)], "boots go back"),
            (&[(6, 0, 30, true), (5, 1031, 31, false), (6, 1, 31, true)], "it restarted"),
            (&[(9, 3, 30, true), (8, 4_000, 31, false)], "it restarted a few times"),
            // What was refused moved nothing.
            (&[(4, 9_000, 1, false), (5, 700, 1, false), (5, 1001, 1, true)], "refused"),
            (&[(MOST, 1, 1, false), (MOST, 2, 2, false), (7, 1, 3, false)], "latched"),
            (&[(5, MOST, 1, true), (5, MOST, 500, true)], "the end of time"),
        ] {
            let mut heard = Heard::first(5, 1000, AT).unwrap();
            for &(boots, time, after, timely) in steps {
                let judged = heard.judge(boots, time, later(after));
                assert_eq!(judged.is_ok(), timely, "{case}: {boots}, {time} after {after} s");
            }
        }
    }

    #[test]
    fn a_slow_clock_of_another_engine_is_followed_by_its_newer_messages() {
        // A clock at half speed: each message is above the latest, so each is timely.
        let mut heard = Heard::first(5, 1000, AT).unwrap();
        for minute in 1..100 {
            let judged = heard.judge(5, 1000 + minute * 30, later(u64::from(minute) * 60));
            assert_eq!(judged, Ok(()), "minute {minute}");
        }
    }

    #[test]
    fn an_engine_whose_boots_are_at_their_end_is_not_taken_at_all() {
        assert_eq!(Heard::first(MOST, 0, AT), Err(NotInTimeWindow));
        assert!(Heard::first(MOST - 1, 0, AT).is_ok());
    }

    #[test]
    fn for_us_boots_must_be_ours_and_time_within_150_seconds_on_both_sides() {
        // RFC 3414, 3.2.7 a. Our time is 1000.
        let ours = |boots| LocalEngine {
            id: "80001f8804746f77657231".parse().unwrap(),
            boots,
            started: AT,
        };
        for (own, boots, time, timely) in [
            (3, 3, 1000, true),
            (3, 3, 850, true),
            (3, 3, 849, false),
            (3, 3, 1150, true),
            (3, 3, 1151, false),
            (3, 2, 1000, false),
            (3, 4, 1000, false),
            (3, 0, 0, false),
            (MOST, MOST, 1000, false),
            (MOST - 1, MOST - 1, 1000, true),
        ] {
            let judged = judge_own(&ours(own), boots, time, later(1000));
            assert_eq!(judged.is_ok(), timely, "ours {own}, {boots}, {time}");
        }
    }
}
