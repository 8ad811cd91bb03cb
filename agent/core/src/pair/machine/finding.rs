//! Which alarms the pair raises (PAIR-3, PAIR-4, PAIR-6, PAIR-8): what is so is compared with what was
//! told.

use super::{Channel, Event, Grade, Pair, Stand, Time, Wrong};
use crate::pair::{Condition, Finding, Unavailable, sync::Synchrony, witness::Reach};

/// What was told, beside the paths, each of which knows it itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Raised {
    sync_lost: Option<Wrong>,
    unavailable: Option<Unavailable>,
    limited: bool,
    suppressed: bool,
}

impl Raised {
    /// A takeover was suppressed.
    pub(super) const fn suppress(&mut self) {
        self.suppressed = true;
    }

    /// Whatever was suppressed, it is over.
    pub(super) const fn roles_changed(&mut self) {
        self.suppressed = false;
    }
}

impl Pair {
    /// Tells what has begun or ended.
    pub(super) fn find(&mut self, now: Time) {
        self.find_paths(now);
        self.find_sync(now);
        self.find_unavailable(now);
        self.find_limit(now);
    }

    fn find_paths(&mut self, now: Time) {
        let timing = self.settings.timing;
        for (path, interface) in self.paths.iter_mut().zip(self.settings.paths.interfaces()) {
            if let Some(begins) = path.judge(now, timing) {
                let condition = Condition::PathLost(interface.clone());
                self.events.push_back(Event::Finding(Finding { at: now, condition, begins }));
            }
        }
    }

    /// The paths are about to be others: what was told of them is over.
    pub(super) fn end_paths(&mut self, now: Time) {
        let lost = self.paths.iter().zip(self.settings.paths.interfaces());
        for (_, interface) in lost.filter(|(path, _)| path.is_lost()) {
            let condition = Condition::PathLost(interface.clone());
            let finding = Finding { at: now, condition, begins: false };
            self.events.push_back(Event::Finding(finding));
        }
    }

    /// PAIR-8: it ends when the state has been synchronised again, and not before.
    fn find_sync(&mut self, now: Time) {
        let timing = self.settings.timing;
        let wrong = match self.channel {
            Channel::Up if !self.channel_way.is_silent(now, timing) => None,
            // Connected to something that says nothing.
            Channel::Up => {
                self.synchrony.lose(now);
                Some(Wrong::Read)
            }
            // At the start it takes a moment to connect.
            Channel::Down(_) if self.is_at_start(now) => None,
            Channel::Down(wrong) => Some(wrong),
        };
        let whole = match self.synchrony {
            Synchrony::InSync { .. } => true,
            Synchrony::Never | Synchrony::Copying { .. } | Synchrony::Stale { .. } => false,
        };
        match (self.raised.sync_lost, wrong) {
            (None, Some(wrong)) => {
                self.raised.sync_lost = Some(wrong);
                self.tell(Condition::SyncLost(wrong), true, now);
            }
            (Some(raised), None) if whole => {
                self.raised.sync_lost = None;
                self.tell(Condition::SyncLost(raised), false, now);
            }
            (Some(_), _) | (None, None) => {}
        }
    }

    fn is_at_start(&self, now: Time) -> bool {
        self.synchrony == Synchrony::Never
            && now < self.started + self.settings.timing.mate_timeout()
    }

    fn find_unavailable(&mut self, now: Time) {
        let timing = self.settings.timing;
        let long = timing.takeover() + timing.tie_breaker();
        let silent = now >= self.mate.silent_since + long;
        let is_primary = matches!(self.role, Stand::Primary(_));
        let reached = matches!(self.reach(now), Reach::Reached { .. });
        let mate = self.mate.last.filter(|_| self.grade() == Some(Grade::Out));
        let unavailable = if let Some(last) = mate {
            Some(Unavailable::Version { here: self.identity.version, mate: last.version })
        } else if silent && !is_primary && !reached {
            Some(Unavailable::CutOff)
        } else {
            None
        };
        let told = self.raised.unavailable;
        if told == unavailable {
            return;
        }
        self.raised.unavailable = unavailable;
        if let Some(told) = told {
            self.tell(Condition::StandbyUnavailable(told), false, now);
        }
        if let Some(unavailable) = unavailable {
            self.tell(Condition::StandbyUnavailable(unavailable), true, now);
        }
    }

    /// PAIR-6: from the suppressed takeover until the window ends, or the roles have changed.
    fn find_limit(&mut self, now: Time) {
        let limited = self.raised.suppressed && self.suppressed_until(now).is_some();
        self.raised.suppressed = limited;
        if limited != self.raised.limited {
            self.raised.limited = limited;
            self.tell(Condition::LimitReached, limited, now);
        }
    }

    fn tell(&mut self, condition: Condition, begins: bool, at: Time) {
        self.events.push_back(Event::Finding(Finding { at, condition, begins }));
    }
}
