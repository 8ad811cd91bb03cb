//! The ways to the mate, each up or down: the heartbeat paths and the state channel (PAIR-8).
//!
//! ```text
//!            a heartbeat                        the mate time-out without one
//!   unheard ─────────────> up <────────────> lost      (a path, and the state channel as the mate's
//!      │                        a heartbeat   ^         heartbeats on it tell)
//!      └──────────────────────────────────────┘
//! ```
//!
//! Of the state channel the shell says besides whether it is connected, and what went wrong.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    settings::Timing,
    window::{Place, Window},
};
use crate::time::Time;

/// A way by which a heartbeat came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Via {
    /// A heartbeat path, by its place in the settings.
    Path(u8),
    /// The state channel.
    Channel,
}

/// Which of three went wrong with the state channel (PAIR-8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Wrong {
    /// It can't be connected to the mate.
    Connect,
    /// Nothing can be read from the mate: the connection ended, or no heartbeat comes by it.
    Read,
    /// Nothing can be written to the mate.
    Write,
}

/// The state channel, as the shell tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Channel {
    /// It is connected, and the mate has shown who it is.
    Up,
    /// It is not.
    Down(Wrong),
}

/// One way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Way {
    window: Window,
    heard: Time,
    lost: bool,
}

impl Way {
    /// A way that is given until a mate time-out after `now` to be heard.
    pub fn new(now: Time) -> Way {
        Way { window: Window::default(), heard: now, lost: false }
    }

    /// The mate has started anew, and counts from the beginning.
    pub fn renumber(&mut self) {
        self.window = Window::default();
    }

    /// A heartbeat came by it.
    pub fn see(&mut self, round: u64, at: Time) -> Place {
        let place = self.window.see(round);
        if place == Place::Newest {
            self.heard = self.heard.max(at);
        }
        place
    }

    /// Whether it is silent for the mate time-out at `now`.
    pub fn is_silent(&self, now: Time, timing: Timing) -> bool {
        now >= self.silent_at(timing)
    }

    /// When it will be, if nothing more comes.
    pub fn silent_at(&self, timing: Timing) -> Time {
        self.heard + timing.mate_timeout()
    }

    /// Whether that has been told.
    pub const fn is_lost(&self) -> bool {
        self.lost
    }

    /// Judges it at `now`. Returns whether it was lost just now or is back, if either.
    pub fn judge(&mut self, now: Time, timing: Timing) -> Option<bool> {
        let lost = self.is_silent(now, timing);
        (lost != self.lost).then(|| {
            self.lost = lost;
            lost
        })
    }

    /// What was heard before a time in which this agent stood still, up to `now`, is not older for it.
    pub fn excuse(&mut self, still: Duration, now: Time) {
        self.heard = (self.heard + still).min(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMING: Timing = Timing::DEFAULT;

    fn at(millis: u64) -> Time {
        Time::from_millis(100_000 + millis)
    }

    #[test]
    fn pair_8_a_path_is_lost_after_the_mate_time_out_and_back_with_one_heartbeat() {
        let mut way = Way::new(at(0));
        assert_eq!(way.judge(at(2999), TIMING), None);
        assert_eq!(way.judge(at(3000), TIMING), Some(true), "it never was heard");
        assert_eq!(way.judge(at(3500), TIMING), None, "told once");
        assert_eq!(way.see(1, at(4000)), Place::Newest);
        assert_eq!(way.judge(at(4000), TIMING), Some(false));
        assert_eq!(way.see(3, at(4500)), Place::Newest);
        assert_eq!(way.see(2, at(7000)), Place::Late);
        assert_eq!(way.see(3, at(7100)), Place::Seen);
        assert_eq!(way.judge(at(7499), TIMING), None);
        assert_eq!(way.judge(at(7500), TIMING), Some(true), "neither a late one nor a copy counts");
    }

    #[test]
    fn the_time_that_this_agent_stood_still_is_not_the_mates_silence() {
        let mut way = Way::new(at(0));
        way.excuse(Duration::from_secs(10), at(11_000));
        assert_eq!(way.judge(at(12_999), TIMING), None);
        assert_eq!(way.judge(at(13_000), TIMING), Some(true));
    }
}
