//! What is said to the mate, and when: at each interval, and at once when it has changed.

use super::{Heard, Heartbeat, Leaving, Pair, Said, Stand, Term, Time, number};
use crate::pair::message::{RoleSaid, Wants};

impl Pair {
    /// Hands out a heartbeat if it is time, or if there is something new to say.
    pub(super) fn say(&mut self, now: Time) {
        let said = self.said(now);
        if self.last_said == Some(said) && now < self.next_round {
            return;
        }
        let timing = self.settings.timing;
        let round = self.rounds.next(now, timing);
        self.heartbeat = Some(Heartbeat {
            version: self.identity.version,
            slot: self.identity.slot,
            run: self.identity.run,
            round,
            heard: self.mate.last.map(|last| Heard { run: self.mate.run, round: last.round }),
            said,
            takeovers: self.takeovers.said(now),
        });
        self.counters.sent += 1;
        self.last_said = Some(said);
        self.next_round =
            now + if self.is_changing() { timing.hurry() } else { timing.heartbeat() };
        if let Some((_, told)) = &mut self.stopping {
            *told += 1;
        }
    }

    fn said(&self, now: Time) -> Said {
        Said {
            role: match self.role {
                Stand::Undecided => RoleSaid::Undecided,
                Stand::Standby => RoleSaid::Standby { follows: self.follows() },
                Stand::Primary(primary) => RoleSaid::Primary {
                    term: primary.term,
                    leaving: primary.leaving.map(|(why, _)| why),
                },
            },
            known: self.kept,
            priority: self.settings.priority,
            fit: self.is_fit() && !self.is_cut_off(now),
            able: self.is_able(now),
            in_sync: self.is_in_sync(now),
            stopping: self.stopping.is_some(),
            wants: self.wants(now),
            orders: self.orders,
            patience: self.settings.timing.mate_timeout(),
        }
    }

    /// The term of the primary that this standby hears, once no crash can make it forget the term, and
    /// unless it is about to take over.
    fn follows(&self) -> Option<Term> {
        match self.mate.last?.said.role {
            RoleSaid::Primary { term, .. }
                if term.number <= number(self.kept) && self.begun.is_none() =>
            {
                Some(term)
            }
            RoleSaid::Primary { .. } | RoleSaid::Undecided | RoleSaid::Standby { .. } => None,
        }
    }

    fn wants(&self, now: Time) -> Option<Wants> {
        let mate_is_primary = match self.mate.last?.said.role {
            RoleSaid::Primary { .. } => true,
            RoleSaid::Undecided | RoleSaid::Standby { .. } => false,
        };
        if !mate_is_primary || !matches!(self.role, Stand::Standby) {
            return None;
        }
        if self.ordered.is_some() {
            return Some(Wants::Operator);
        }
        self.failback_due().filter(|due| *due <= now && self.is_able(now)).map(|_| Wants::Failback)
    }

    /// Roles are about to change: what is said must not wait for another heartbeat if one is lost.
    fn is_changing(&self) -> bool {
        let wants = self.last_said.is_some_and(|said| said.wants.is_some());
        let leaving = match self.role {
            Stand::Primary(primary) => match primary.leaving {
                Some((
                    Leaving::PartFailing
                    | Leaving::Operator
                    | Leaving::Stopping
                    | Leaving::Failback,
                    _,
                )) => true,
                // A term that nobody follows yet.
                None => !primary.licence.holds(self.now) && !self.is_mate_silent(self.now),
            },
            Stand::Undecided | Stand::Standby => false,
        };
        wants || leaving || self.begun.is_some() || self.stopping.is_some()
    }
}
