//! The automatic takeovers of the pair, and whether there may be another (PAIR-6).
//!
//! They are those of both agents, as each tells the other of its own: a limit that each kept for itself
//! would let a pair change roles twice as often. A takeover is known by the term that it began, so it
//! counts once however often it is told.

use std::{collections::BTreeMap, time::Duration};

use super::{message::TakeoverSaid, settings::Limit, term::Term};
use crate::time::Time;

/// What is remembered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Takeovers {
    by_term: BTreeMap<Term, Time>,
}

impl Takeovers {
    /// As many as the highest count that can be set.
    const KEPT: usize = *Limit::COUNTS.end() as usize;

    /// One more.
    pub fn add(&mut self, term: Term, at: Time) {
        // Of one that is told again with another age, the later moment is kept: ages only grow on
        // their way.
        let known = self.by_term.entry(term).or_insert(at);
        *known = (*known).max(at);
        while self.by_term.len() > Takeovers::KEPT {
            self.by_term.pop_first();
        }
    }

    /// Takes in what was told at `now` or put back from disk.
    pub fn learn(&mut self, said: &[TakeoverSaid], now: Time) {
        for takeover in said {
            // A round trip of a little delay must not move what is known.
            if !self.by_term.contains_key(&takeover.term) {
                self.add(takeover.term, now - takeover.age);
            }
        }
    }

    /// What to tell the mate, and to keep on disk.
    pub fn said(&self, now: Time) -> Vec<TakeoverSaid> {
        self.by_term
            .iter()
            .filter(|(_, at)| now.since(**at) < *Limit::PERIODS.end())
            .map(|(term, at)| TakeoverSaid { term: *term, age: now.since(*at) })
            .collect()
    }

    /// When the next automatic takeover is allowed: nothing if it is at `now`. One that is as old as
    /// the period has left the window.
    pub fn suppressed_until(&self, limit: Option<Limit>, now: Time) -> Option<Time> {
        let limit = limit?;
        let mut within: Vec<Time> =
            self.by_term.values().copied().filter(|at| now.since(*at) < limit.period()).collect();
        within.sort_unstable();
        let surplus = within.len().checked_sub(usize::from(limit.count()))?;
        Some(within[surplus] + limit.period())
    }

    /// How many there were within the period of the limit.
    pub fn within(&self, limit: Limit, now: Time) -> usize {
        self.by_term.values().filter(|at| now.since(**at) < limit.period()).count()
    }

    /// Makes all of them older, by a time in which this agent did not run.
    pub fn aged(said: &[TakeoverSaid], away: Duration) -> Vec<TakeoverSaid> {
        let older = |said: &TakeoverSaid| TakeoverSaid { age: said.age + away, ..*said };
        said.iter().map(older).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pair::term::Slot;

    fn minute(minute: u64) -> Time {
        Time::from_secs(1_000_000 + 60 * minute)
    }

    fn term(number: u64) -> Term {
        Term { number, by: if number.is_multiple_of(2) { Slot::Zero } else { Slot::One } }
    }

    #[test]
    fn pair_6_the_fourth_takeover_in_an_hour_waits_for_the_window_to_end() {
        let mut takeovers = Takeovers::default();
        let limit = Some(Limit::DEFAULT);
        for (number, at) in [(2, 0), (3, 10), (4, 50)] {
            assert_eq!(takeovers.suppressed_until(limit, minute(at)), None);
            takeovers.add(term(number), minute(at));
        }
        assert_eq!(takeovers.suppressed_until(limit, minute(51)), Some(minute(60)));
        assert_eq!(takeovers.suppressed_until(None, minute(51)), None, "off");
        assert_eq!(takeovers.suppressed_until(limit, minute(60)), None, "the first has left");
        takeovers.add(term(5), minute(60));
        assert_eq!(takeovers.suppressed_until(limit, minute(61)), Some(minute(70)));
    }

    #[test]
    fn pair_6_a_takeover_that_is_told_again_counts_once() {
        let (mut zero, mut one) = (Takeovers::default(), Takeovers::default());
        zero.add(term(2), minute(0));
        one.add(term(3), minute(5));
        for at in 6..20 {
            one.learn(&zero.said(minute(at)), minute(at) + Duration::from_millis(5));
            zero.learn(&one.said(minute(at)), minute(at) + Duration::from_millis(5));
        }
        assert_eq!((zero.by_term.len(), one.by_term.len()), (2, 2));
        assert_eq!(zero.by_term[&term(3)], minute(5) + Duration::from_millis(5));
        let back = Takeovers::aged(&zero.said(minute(20)), Duration::from_secs(60));
        assert_eq!(back[0].age, Duration::from_secs(21 * 60));
    }

    #[test]
    fn no_more_is_remembered_than_a_limit_can_ask_for() {
        let mut takeovers = Takeovers::default();
        for number in 1..100 {
            takeovers.add(term(number), minute(number));
        }
        assert_eq!(takeovers.said(minute(100)).len(), 10);
        assert_eq!(takeovers.said(minute(100))[0].term, term(90));
    }
}
