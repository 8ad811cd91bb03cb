//! How long a primary may speak (PAIR-17).
//!
//! ```text
//!              renewed                       renewed
//!                ┌─┐      the licence's time   ┌──────────────┐
//!                │ v      goes by              │              │
//!   silent ───> licensed ──────────────────> lapsed ──────> alone ──┐
//!   (new)   renewed                   ^     not renewed for   ^  │   │ each turn
//!                                     │     the mate time-out └──┼───┘
//!                                     │     and two heartbeats   │
//!                                     └──────────────────────────┘
//!                                        this agent stood still
//! ```
//!
//! Both a licence and being alone end at a moment, after which nothing is said unless the agent has
//! looked again. So an agent that stood still, for whatever reason, does not speak before it knows.
//!
//! A heartbeat of the standby renews the licence by what it *acknowledges*: the standby has promised
//! not to take over for the mate time-out after it heard that. The primary knows when it sent it, so
//! the licence ends before that however long either of the two was under way, and whichever of the two
//! directions is cut.

use std::{collections::VecDeque, time::Duration};

use super::settings::Timing;
use crate::time::Time;

/// The heartbeats that this agent has sent, as far back as an acknowledgement of them is worth
/// anything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Rounds {
    last: u64,
    sent: VecDeque<(u64, Time)>,
}

impl Rounds {
    /// Enough for the longest mate time-out, and for the bursts in it when roles change.
    const KEPT: usize = 128;

    /// The number of the heartbeat that is sent at `now`.
    pub fn next(&mut self, now: Time, timing: Timing) -> u64 {
        while self.sent.len() >= Rounds::KEPT
            || self.sent.front().is_some_and(|(_, sent)| now.since(*sent) > timing.mate_timeout())
        {
            self.sent.pop_front();
        }
        self.last += 1;
        self.sent.push_back((self.last, now));
        self.last
    }

    /// The last number.
    pub const fn last(&self) -> u64 {
        self.last
    }

    /// When this one was sent, if that is not too long ago.
    pub fn sent(&self, round: u64) -> Option<Time> {
        self.sent.iter().find(|(other, _)| *other == round).map(|(_, sent)| *sent)
    }
}

/// The licence of one primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Licence {
    until: Time,
    alone: bool,
    since: Time,
}

impl Licence {
    /// None yet, for a primary whose term has just begun.
    pub const fn none(now: Time) -> Licence {
        Licence { until: now, alone: false, since: now }
    }

    /// Whether there is something to say at `now`: at the licence's end there is not.
    pub fn holds(self, now: Time) -> bool {
        now < self.until
    }

    /// Until when it holds, if nothing more comes.
    pub const fn until(self) -> Time {
        self.until
    }

    /// Whether this primary goes on without a standby.
    pub const fn is_alone(self) -> bool {
        self.alone
    }

    /// The standby acknowledged, by a heartbeat that was `received`, one that was `sent`, and is patient
    /// for so long: its mate time-out, which should be this agent's too.
    pub fn renew(&mut self, sent: Time, received: Time, patience: Duration, timing: Timing) {
        // A heartbeat before the standby may take over, so that no rounding and no drift matters.
        let patience = patience.min(timing.mate_timeout()).saturating_sub(timing.heartbeat());
        let until = (received + timing.licence()).min(sent + patience);
        if until <= received {
            return;
        }
        // Who was alone has a standby again, whose promise is now what counts.
        // In order, it acknowledges what was sent within the last heartbeat; what is older, as the
        // standby hears this agent no more, doesn't put off being alone.
        let since = received.min(sent + timing.heartbeat());
        let before = if self.alone { Licence::none(since) } else { *self };
        let (until, since) = (until.max(before.until), since.max(before.since));
        *self = Licence { until, alone: false, since };
    }

    /// Goes on alone. It has to be said again before the time of a licence has gone by.
    pub fn go_alone(&mut self, now: Time, timing: Timing) {
        *self = Licence { until: now + timing.licence(), alone: true, since: now };
    }

    /// Nothing that was known before is worth anything: it is counted from now on.
    pub const fn forfeit(&mut self, now: Time) {
        *self = Licence::none(now);
    }

    /// The time from which it is alone if the licence is not renewed.
    pub fn alone_from(self, timing: Timing) -> Time {
        self.since + timing.alone()
    }

    /// Counts anew, from `now`, how long it is not renewed. The licence itself ends when it ends.
    pub const fn count_from(&mut self, now: Time) {
        self.since = now;
    }

    /// Counts a time in which this agent stood still, up to `now`, not against the mate. The licence
    /// itself ends when it ends.
    pub fn excuse(&mut self, still: Duration, now: Time) {
        self.since = (self.since + still).min(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMING: Timing = Timing::DEFAULT;
    const PATIENCE: Duration = Duration::from_secs(3);

    fn at(millis: u64) -> Time {
        Time::from_millis(100_000 + millis)
    }

    #[test]
    fn pair_17_a_licence_lasts_2_s_after_the_last_heartbeat_of_the_standby() {
        let mut licence = Licence::none(at(0));
        assert!(!licence.holds(at(0)));
        licence.renew(at(0), at(400), PATIENCE, TIMING);
        assert!(licence.holds(at(2399)));
        assert!(!licence.holds(at(2400)), "four missed: at 900, 1400, 1900, 2400");
        assert_eq!(licence.alone_from(TIMING), at(4400));
    }

    #[test]
    fn pair_17_what_it_acknowledges_counts_and_not_when_it_comes() {
        let mut licence = Licence::none(at(0));
        // The standby has heard nothing since 0 s, and says so for a second.
        for received in [500, 1000] {
            licence.renew(at(0), at(received), PATIENCE, TIMING);
        }
        assert!(licence.holds(at(2499)) && !licence.holds(at(2500)), "it takes over at 3 s");
        let mut hasty = Licence::none(at(0));
        hasty.renew(at(0), at(0), Duration::from_secs(2), TIMING);
        assert!(hasty.holds(at(1499)) && !hasty.holds(at(1500)), "its mate takes over at 2 s");
        assert_eq!(licence.alone_from(TIMING), at(4500));
        // One that was under way for long renews nothing.
        licence.renew(at(0), at(2700), PATIENCE, TIMING);
        assert!(!licence.holds(at(2700)));
    }

    #[test]
    fn pair_17_being_alone_ends_when_the_agent_stands_still() {
        let mut licence = Licence::none(at(0));
        licence.go_alone(at(4000), TIMING);
        assert!(licence.holds(at(5999)) && !licence.holds(at(6000)));
        licence.forfeit(at(14_000));
        assert_eq!(licence.alone_from(TIMING), at(18_000));
    }

    #[test]
    fn rounds_are_forgotten_when_they_are_worth_nothing() {
        let mut rounds = Rounds::default();
        assert_eq!(rounds.next(at(0), TIMING), 1);
        assert_eq!(rounds.next(at(3000), TIMING), 2);
        assert_eq!(rounds.sent(1), Some(at(0)));
        assert_eq!(rounds.next(at(3001), TIMING), 3);
        assert_eq!((rounds.sent(1), rounds.sent(2)), (None, Some(at(3000))));
        for _ in 0..1000 {
            rounds.next(at(3001), TIMING);
        }
        assert_eq!(rounds.sent.len(), Rounds::KEPT);
    }
}
