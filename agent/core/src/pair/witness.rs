//! Whether this agent is itself the one that is cut off (PAIR-4).
//!
//! Witnesses are asked together, in rounds, while the mate is silent; one answer is enough. What
//! counts is when a question that was answered was *asked*: then, at the latest, this host had a
//! network.

use std::time::Duration;

use super::settings::Timing;
use crate::time::Time;

/// What a witness says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Testimony {
    /// It answers. That tells a cut-off agent from a well one, and no more (PAIR-18).
    ///
    /// A witness that grants a lease, of which there is one at a time, would be a testimony of its own
    /// beside this: who holds it may go on alone until it ends, and nobody else may.
    Answers,
}

/// What is known of this agent's reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// A witness answers, or none is configured and this host has a network.
    Reached {
        /// Since when: a mate that could not be heard before must be given the time to be.
        since: Time,
    },
    /// No answer, but not for long enough to be sure.
    Unknown,
    /// No witness has answered for the mate time-out.
    CutOff,
}

/// Questions and answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Witnesses {
    /// The time of the first question since the mate fell silent.
    began: Option<Time>,
    next: Time,
    /// Of the answers that came without a gap: when the first and the last were asked for.
    answered: Option<(Time, Time)>,
    network: bool,
    network_since: Time,
}

impl Default for Witnesses {
    /// Nobody was asked yet, and this host has a network since ever.
    fn default() -> Witnesses {
        Witnesses {
            began: None,
            next: Time::ZERO,
            answered: None,
            network: true,
            network_since: Time::ZERO,
        }
    }
}

impl Witnesses {
    /// Whether the witnesses are to be asked at `now`.
    pub fn ask(&mut self, now: Time, timing: Timing) -> bool {
        if now < self.next {
            return false;
        }
        self.began.get_or_insert(now);
        self.next = now + timing.heartbeat();
        true
    }

    /// When they are to be asked again, while they are.
    pub fn next(&self) -> Option<Time> {
        self.began.map(|_| self.next)
    }

    /// The mate is heard again: nobody need be asked.
    pub const fn rest(&mut self) {
        self.began = None;
    }

    /// A witness answered what was `asked`.
    pub fn hear(&mut self, asked: Time, testimony: Testimony, timing: Timing) {
        match testimony {
            Testimony::Answers => {}
        }
        self.answered = match self.answered {
            Some((first, last)) if asked.since(last) <= timing.tie_breaker() => {
                Some((first, last.max(asked)))
            }
            Some(_) | None => Some((asked, asked)),
        };
    }

    /// This host has a network, or has none.
    pub fn set_network(&mut self, up: bool, now: Time) {
        if up != self.network {
            (self.network, self.network_since) = (up, now);
        }
    }

    /// Nothing that was known before a moment is worth anything.
    pub fn forget(&mut self, now: Time) {
        self.answered = None;
        self.began = self.began.map(|_| now);
        self.next = self.next.min(now);
    }

    /// What is known at `now`. `configured`: there is a witness to ask.
    pub fn reach(&self, configured: bool, now: Time, timing: Timing) -> Reach {
        let long = |since: Time, how: Duration| now.since(since) >= how;
        if !self.network {
            let cut = long(self.network_since, timing.mate_timeout());
            return if cut { Reach::CutOff } else { Reach::Unknown };
        }
        if !configured {
            return Reach::Reached { since: self.network_since };
        }
        match (self.answered, self.began) {
            (Some((first, last)), _) if now.since(last) <= timing.tie_breaker() => {
                Reach::Reached { since: first.max(self.network_since) }
            }
            (answered, Some(began)) => {
                let last = answered.map_or(began, |(_, last)| last.max(began));
                if long(last, timing.mate_timeout()) { Reach::CutOff } else { Reach::Unknown }
            }
            (_, None) => Reach::Unknown,
        }
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
    fn pair_4_without_an_answer_for_the_mate_time_out_it_is_cut_off() {
        let mut witnesses = Witnesses::default();
        assert_eq!(witnesses.reach(true, at(0), TIMING), Reach::Unknown);
        assert!(witnesses.ask(at(0), TIMING));
        assert!(!witnesses.ask(at(499), TIMING));
        assert!(witnesses.ask(at(500), TIMING));
        assert_eq!(witnesses.reach(true, at(2999), TIMING), Reach::Unknown);
        assert_eq!(witnesses.reach(true, at(3000), TIMING), Reach::CutOff);
        witnesses.hear(at(3000), Testimony::Answers, TIMING);
        let reached = Reach::Reached { since: at(3000) };
        assert_eq!(witnesses.reach(true, at(3000), TIMING), reached);
        assert_eq!(witnesses.reach(true, at(4000), TIMING), reached);
        assert_eq!(witnesses.reach(true, at(4001), TIMING), Reach::Unknown, "it is old");
        assert_eq!(witnesses.reach(true, at(6000), TIMING), Reach::CutOff);
    }

    #[test]
    fn pair_4_answers_without_a_gap_are_one_reach() {
        let mut witnesses = Witnesses::default();
        for asked in [0, 500, 1500, 2500] {
            witnesses.hear(at(asked), Testimony::Answers, TIMING);
        }
        let reach = witnesses.reach(true, at(2600), TIMING);
        assert_eq!(reach, Reach::Reached { since: at(0) });
        witnesses.hear(at(3501), Testimony::Answers, TIMING);
        let reach = witnesses.reach(true, at(3501), TIMING);
        assert_eq!(reach, Reach::Reached { since: at(3501) });
        witnesses.forget(at(3600));
        assert_eq!(witnesses.reach(true, at(3600), TIMING), Reach::Unknown);
    }

    #[test]
    fn pair_4_a_host_without_a_network_is_cut_off_whoever_answered() {
        let mut witnesses = Witnesses::default();
        witnesses.hear(at(0), Testimony::Answers, TIMING);
        witnesses.set_network(false, at(0));
        for configured in [true, false] {
            assert_eq!(witnesses.reach(configured, at(2999), TIMING), Reach::Unknown);
            assert_eq!(witnesses.reach(configured, at(3000), TIMING), Reach::CutOff);
        }
        witnesses.set_network(true, at(9000));
        let reach = witnesses.reach(false, at(9000), TIMING);
        assert_eq!(reach, Reach::Reached { since: at(9000) });
    }
}
