//! What is taken in: facts, from which nothing follows before the next turn.

use super::{
    Candidate, Channel, Event, Last, Leaving, Order, Pair, Primary, Settings, Stand, Time, Way,
};
use crate::pair::{
    Refusal,
    message::{Heartbeat, RoleSaid, Said},
    paths::Via,
    window::Place,
};

impl Pair {
    /// A heartbeat of the mate.
    pub(super) fn hear(&mut self, via: Via, heartbeat: Heartbeat, at: Time) {
        if heartbeat.slot == self.identity.slot {
            self.counters.own_slot += 1;
            return;
        }
        if heartbeat.run < self.mate.run {
            self.counters.old_run += 1;
            return;
        }
        let started = heartbeat.run > self.mate.run || self.mate.last.is_none();
        if heartbeat.run > self.mate.run {
            self.mate.run = heartbeat.run;
            self.mate.last = None;
            self.to_keep = true;
            self.paths.iter_mut().for_each(Way::renumber);
            self.channel_way.renumber();
        }
        let way = match via {
            Via::Path(place) => self.paths.get_mut(usize::from(place)),
            Via::Channel => Some(&mut self.channel_way),
        };
        let Some(way) = way else {
            self.counters.no_path += 1;
            return;
        };
        match way.see(heartbeat.round, at) {
            Place::Seen | Place::TooOld => {
                self.counters.repeated += 1;
                return;
            }
            // What it says of what can only grow is used; it is no sign of life (PAIR-8).
            Place::Late => self.counters.late += 1,
            Place::Newest => {
                self.counters.heard += 1;
                self.mate.silent_since = self.mate.silent_since.max(at);
            }
        }
        self.learn_what_grows(&heartbeat, at);
        if self.mate.last.is_none_or(|last| heartbeat.round > last.round) {
            self.learn_what_is(&heartbeat, at);
        }
        if started {
            // The newcomer is told at once where this agent stands.
            self.last_said = None;
            self.events.push_back(Event::MateStarted { version: heartbeat.version, at });
        }
    }

    fn learn_what_grows(&mut self, heartbeat: &Heartbeat, at: Time) {
        let said = heartbeat.said;
        self.learn(said.known);
        if let RoleSaid::Primary { term, .. } = said.role {
            self.learn(Some(term));
        }
        let before = self.takeovers.clone();
        self.takeovers.learn(&heartbeat.takeovers, at);
        self.to_keep |= self.takeovers != before;
        self.set_orders(self.orders.with(said.orders));
    }

    fn learn_what_is(&mut self, heartbeat: &Heartbeat, at: Time) {
        let Heartbeat { version, round, heard, said, .. } = *heartbeat;
        self.mate.last = Some(Last { version, round, heard, said });
        // PAIR-17: the licence is renewed by what a standby that follows this agent has heard.
        let follows = match said.role {
            RoleSaid::Standby { follows } => follows,
            RoleSaid::Undecided | RoleSaid::Primary { .. } => None,
        };
        let follows = follows.is_some_and(|term| term.by == self.identity.slot);
        let heard = heard.filter(|heard| follows && heard.run == self.identity.run);
        let sent = heard.and_then(|heard| self.rounds.sent(heard.round));
        if let (Some(sent), Stand::Primary(primary)) = (sent, &mut self.role) {
            primary.licence.renew(sent, at, said.patience, self.settings.timing);
        }
    }

    pub(super) fn set_channel(&mut self, channel: Channel, at: Time) {
        match (self.channel, channel) {
            (Channel::Down(_), Channel::Up) => {
                // It is given the time to bring a heartbeat, which is numbered as all others are.
                self.channel_way = Way::new(at);
                self.record_out = Some(self.record.said(at));
            }
            (Channel::Up, Channel::Down(_)) => self.synchrony.lose(at),
            (Channel::Up, Channel::Up) | (Channel::Down(_), Channel::Down(_)) => {}
        }
        self.channel = channel;
    }

    fn set_orders(&mut self, orders: super::Orders) {
        if orders == self.orders {
            return;
        }
        if orders.resets > self.orders.resets {
            self.record.count = 0;
        }
        self.orders = orders;
        self.to_keep = true;
    }

    /// PAIR-7: what an operator orders, on either agent.
    pub(super) fn order(&mut self, order: Order, at: Time) {
        let mut orders = self.orders;
        match order {
            Order::Failover => {
                match self.failover(at) {
                    Ok(()) => {}
                    Err(why) => self.events.push_back(Event::Refused(order, why)),
                }
                return;
            }
            Order::Hold | Order::Release => {
                orders.revision = orders.revision.saturating_add(1);
                orders.held = order == Order::Hold;
            }
            Order::ResetCounters => orders.resets = orders.resets.saturating_add(1),
        }
        self.set_orders(orders);
        self.events.push_back(Event::Done(order));
    }

    fn failover(&mut self, at: Time) -> Result<(), Refusal> {
        if self.orders.held {
            return Err(Refusal::Held);
        }
        if let Stand::Primary(_) = self.role {
            self.can_hand_over(at)?;
            self.leave(Leaving::Operator, at);
            return Ok(());
        }
        if !self.is_fit() {
            return Err(Refusal::Unfit);
        }
        // A primary that is heard hands over all or nothing. Without one, the operator decides.
        let silent = at >= self.mate.silent_since + self.settings.timing.takeover();
        if !silent && !self.is_in_sync(at) {
            return Err(Refusal::NotInSync);
        }
        self.ordered = Some(at);
        Ok(())
    }

    /// Whether a primary can hand over in order: to a standby that follows it, so that hears it.
    pub(super) fn can_hand_over(&self, at: Time) -> Result<(), Refusal> {
        let followed = match self.role {
            Stand::Primary(Primary { licence, .. }) => licence.holds(at) && !licence.is_alone(),
            Stand::Undecided | Stand::Standby => false,
        };
        let Some(last) = self.mate.last.filter(|_| followed) else {
            return Err(Refusal::MateSilent);
        };
        if !last.said.fit {
            return Err(Refusal::Unfit);
        }
        if !last.said.in_sync {
            return Err(Refusal::NotInSync);
        }
        Ok(())
    }

    /// Asks the standby to take over, and falls silent.
    pub(super) const fn leave(&mut self, why: Leaving, at: Time) {
        if let Stand::Primary(primary @ Primary { leaving: None, .. }) = &mut self.role {
            primary.leaving = Some((why, at));
        }
    }

    pub(super) fn set_failing(&mut self, failing: bool, at: Time) {
        if failing == self.failing {
            return;
        }
        self.failing = failing;
        if !failing {
            return;
        }
        // PAIR-9: who has no standby that would take over restarts without asking.
        let able = self.mate.last.is_some_and(|last| last.said.able);
        match self.role {
            Stand::Primary(_) if able && self.can_hand_over(at).is_ok() => {
                self.leave(Leaving::PartFailing, at);
            }
            Stand::Primary(_) | Stand::Undecided | Stand::Standby => {
                self.events.push_back(Event::RestartUnasked);
            }
        }
    }

    pub(super) fn stop(&mut self, at: Time) {
        if self.stopping.is_some() {
            return;
        }
        self.stopping = Some((at, 0));
        // A standby without all of the state is better than none.
        let hands_over = match self.can_hand_over(at) {
            Ok(()) | Err(Refusal::NotInSync) => !self.orders.held,
            Err(Refusal::Held | Refusal::MateSilent | Refusal::Unfit | Refusal::NotTakenOver) => {
                false
            }
        };
        if hands_over {
            self.leave(Leaving::Stopping, at);
        }
    }

    pub(super) fn reload(&mut self, settings: Settings, at: Time) {
        if settings.paths != self.settings.paths {
            self.end_paths(at);
            self.paths = vec![Way::new(at); settings.paths.interfaces().len()];
        }
        self.next_round = self.next_round.min(at + settings.timing.heartbeat());
        // What the mate has been promised holds, whatever is promised from now on.
        let (before, after) = (self.settings.timing.takeover(), settings.timing.takeover());
        self.mate.silent_since = self.mate.silent_since + before.saturating_sub(after);
        self.settings = settings;
    }

    /// The two as candidates of an election, if the mate has been heard.
    pub(super) fn candidates(&self, now: Time) -> Option<(Candidate, Candidate)> {
        let Said { role, known, priority, fit, able, .. } = self.mate.last?.said;
        let here = Candidate {
            slot: self.identity.slot,
            priority: self.settings.priority,
            undecided: matches!(self.role, Stand::Undecided),
            fit: self.is_fit() && !self.is_cut_off(now),
            able: self.is_able(now),
            known: self.known,
        };
        let slot = self.identity.slot.other();
        let undecided = matches!(role, RoleSaid::Undecided);
        Some((here, Candidate { slot, priority, undecided, fit, able, known }))
    }
}
