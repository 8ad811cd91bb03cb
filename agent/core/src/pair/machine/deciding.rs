//! What follows: one `match` over the role and the sight of the mate.

use super::{
    Begun, Event, Grade, Leaving, Licence, Order, Pair, Primary, Reason, Role, Stand, SteppedBack,
    Term, Time, number,
};
use crate::pair::{
    Refusal,
    election::{Candidate, elect, stepped_back_for_each_other},
    message::{RoleSaid, Wants},
    record::{Kind, Takeover},
    settings::Failback,
    term::preferred,
    witness::Reach,
};

/// The mate, as this agent sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sight {
    /// This run has not heard it yet, nor given it up.
    Unheard,
    /// It is given up.
    Silent,
    /// It is heard, and not primary.
    Secondary,
    /// It is heard, and primary.
    Primary(Term),
    /// It is heard, is primary, and asks this agent to take over.
    Leaving(Term, Leaving),
}

impl Pair {
    /// The whole protocol, as far as roles go.
    pub(super) fn decide(&mut self, now: Time) {
        self.pursue(now);
        self.give_up_order(now);
        match (self.role, self.sight(now)) {
            (Stand::Undecided | Stand::Standby, Sight::Unheard) => {}
            (Stand::Undecided | Stand::Standby, Sight::Silent) => self.miss(now),
            (Stand::Undecided | Stand::Standby, Sight::Secondary) => self.stand_for_election(now),
            (Stand::Undecided | Stand::Standby, Sight::Primary(term)) => self.follow(term, now),
            (Stand::Undecided | Stand::Standby, Sight::Leaving(term, why)) => {
                self.follow(term, now);
                self.take_over_from(why, now);
            }
            (Stand::Primary(primary), Sight::Unheard | Sight::Silent | Sight::Secondary) => {
                self.carry_on(Primary { met: None, ..primary }, now)
            }
            (Stand::Primary(primary), Sight::Primary(term) | Sight::Leaving(term, _)) => {
                self.meet(primary, term, now);
            }
        }
    }

    fn sight(&self, now: Time) -> Sight {
        if self.is_mate_silent(now) {
            return Sight::Silent;
        }
        let Some(last) = self.mate.last else { return Sight::Unheard };
        match last.said.role {
            RoleSaid::Undecided | RoleSaid::Standby { .. } => Sight::Secondary,
            RoleSaid::Primary { term, leaving: None } => Sight::Primary(term),
            RoleSaid::Primary { term, leaving: Some(why) } => Sight::Leaving(term, why),
        }
    }

    /// PAIR-3 a: no way brings a heartbeat, and the state channel is down, as it brings none or says
    /// so.
    pub(super) fn is_mate_silent(&self, now: Time) -> bool {
        now >= self.mate.silent_since + self.settings.timing.takeover()
    }

    // ---- not primary ----

    fn follow(&mut self, term: Term, now: Time) {
        // Terms of one number are told apart by who is primary in them.
        if term.number == number(self.known) && self.known != Some(term) {
            self.known = Some(term);
            self.to_keep = true;
        }
        if !matches!(self.role, Stand::Standby) {
            self.role = Stand::Standby;
            self.tell_role(now);
        }
    }

    /// PAIR-3 b to d: the primary asks.
    fn take_over_from(&mut self, why: Leaving, now: Time) {
        let may = self.is_fit()
            && !self.orders.held
            && self.grade() != Some(Grade::Out)
            // What asks for roles to change must not be an old heartbeat.
            && self.is_answered();
        let (reason, may) = match why {
            Leaving::PartFailing => (Reason::PartFailing, may && self.is_able(now)),
            Leaving::Failback => (Reason::Failback, may && self.is_able(now)),
            Leaving::Operator => (Reason::Operator, may),
            Leaving::Stopping => (Reason::MateStopping, may),
        };
        if may {
            self.begin(reason);
        }
    }

    /// PAIR-2: two that are not primary.
    fn stand_for_election(&mut self, now: Time) {
        let Some((here, mate)) = self.candidates(now) else { return };
        if elect(here, mate) != Some(here.slot) {
            // PAIR-6: it would be this agent, but for the limit.
            let able = self.is_able_but_for_the_limit(now);
            if able && !here.able && elect(Candidate { able, ..here }, mate) == Some(here.slot) {
                self.raised.suppress();
            }
            return;
        }
        let stopping = self.mate.last.is_some_and(|last| last.said.stopping);
        let reason = match self.known {
            None => Reason::Elected,
            Some(term) if self.was_primary_in(term) => Reason::Resumed,
            Some(_) if stepped_back_for_each_other(here.known, mate.known) => Reason::Resumed,
            Some(_) if stopping => Reason::MateStopping,
            Some(_) if !mate.fit => Reason::MateUnfit,
            Some(_) => Reason::MateRestarted,
        };
        self.begin_if_allowed(reason, now);
    }

    /// PAIR-3 a and PAIR-4: the mate is silent.
    fn miss(&mut self, now: Time) {
        if !self.is_fit() {
            return;
        }
        if self.ordered.is_some() {
            self.begin(Reason::Operator);
            return;
        }
        // PAIR-4: who was cut off itself gives the mate the time of a heartbeat to be heard.
        let heartbeat = self.settings.timing.heartbeat();
        match self.reach(now) {
            Reach::Reached { since } if now >= since + heartbeat => {}
            Reach::Reached { .. } | Reach::Unknown | Reach::CutOff => return,
        }
        let reason = match self.known {
            None => Reason::Elected,
            Some(term) if self.was_primary_in(term) => Reason::Resumed,
            Some(_) => Reason::MateSilent,
        };
        self.begin_if_allowed(reason, now);
    }

    /// Whether a term is this agent's, and it has been primary in it as far as it knows.
    fn was_primary_in(&self, term: Term) -> bool {
        term.by == self.identity.slot && self.abandoned != Some(term)
    }

    /// PAIR-6, PAIR-7 and the versions: what may forbid a takeover that nobody ordered.
    fn begin_if_allowed(&mut self, reason: Reason, now: Time) {
        // Without a kind it is none: it was primary before, or nobody was.
        if let Some(kind) = reason.kind() {
            if self.orders.held || self.grade() == Some(Grade::Out) {
                return;
            }
            if kind == Kind::Automatic && self.suppressed_until(now).is_some() {
                self.raised.suppress();
                return;
            }
        }
        self.begin(reason);
    }

    // ---- terms ----

    /// Begins a term, as soon as it is on the disk.
    fn begin(&mut self, reason: Reason) {
        if self.begun.is_some() {
            return;
        }
        let term = Term::after(self.known, self.identity.slot);
        self.begun = Some(Begun { term, reason });
        self.learn(Some(term));
    }

    /// Is primary in the term that it has begun, if that is on the disk and still wanted.
    fn pursue(&mut self, now: Time) {
        let Some(Begun { term, reason }) = self.begun else { return };
        let silent = self.is_mate_silent(now);
        let wanted = match (self.role, self.sight(now)) {
            (Stand::Undecided | Stand::Standby, Sight::Primary(_)) => false,
            (Stand::Undecided | Stand::Standby, _) => self.is_fit(),
            // It is about to step back.
            (Stand::Primary(primary), Sight::Primary(other) | Sight::Leaving(other, _))
                if !self.outranks(primary.term, other) =>
            {
                false
            }
            // It steps back when it hears this agent, and may speak until then.
            (Stand::Primary(_), Sight::Primary(_) | Sight::Leaving(..)) => {
                reason == Reason::Overtaken
            }
            // A standby that is back will follow this term as well as another.
            (Stand::Primary(primary), _) => {
                reason == Reason::Overtaken || !primary.licence.holds(now)
            }
        };
        // A higher term is known by now: this one would not be the highest.
        if !wanted || self.known != Some(term) {
            self.begun = None;
            self.abandoned = Some(term);
            self.to_keep = true;
            return;
        }
        if self.kept != Some(term) {
            return;
        }
        self.begun = None;
        // PAIR-17: a mate that is silent, or is not primary and says that it may not be, has no part in
        // it. A primary that begins another term goes by the licence that it has.
        let out_of_it = self.sight(now) == Sight::Secondary
            && self.mate.last.is_some_and(|last| !last.said.fit);
        let (mut primary, alone) = match self.role {
            Stand::Primary(primary) => (Primary { term, ..primary }, reason == Reason::Alone),
            Stand::Undecided | Stand::Standby => {
                // A mate that fell silent just before has had that time already: it is not given the whole
                // of it once more before this agent goes on alone.
                let licence = Licence::none(self.mate.silent_since.min(now));
                (Primary { term, licence, leaving: None, met: None }, silent || out_of_it)
            }
        };
        if alone {
            primary.licence.go_alone(now, self.settings.timing);
        }
        self.role = Stand::Primary(primary);
        self.tell_role(now);
        if let Some(kind) = reason.kind() {
            self.record_takeover(term, reason, kind, now);
        }
        self.raised.roles_changed();
        if self.ordered.take().is_some() {
            self.events.push_back(Event::Done(Order::Failover));
        }
    }

    fn record_takeover(&mut self, term: Term, reason: Reason, kind: Kind, at: Time) {
        let degraded = self.synchrony.lacks(at, self.settings.timing.alone());
        let takeover = Takeover { term, at, reason, kind, degraded };
        match kind {
            Kind::Automatic => self.takeovers.add(term, at),
            Kind::Ordered => {}
        }
        self.record.add(takeover);
        self.to_keep = true;
        self.record_out = Some(self.record.said(at));
        self.events.push_back(Event::TookOver(takeover));
    }

    // ---- primary ----

    /// A primary that meets another (PAIR-2).
    fn meet(&mut self, primary: Primary, other: Term, now: Time) {
        if !self.outranks(primary.term, other) {
            let why =
                if primary.leaving.is_some() { SteppedBack::HandedOver } else { SteppedBack::Met };
            self.step_back(primary, why, now);
            self.follow(other, now);
            return;
        }
        // The other one steps back as soon as it hears this agent. One that goes on being primary, as
        // it can't hear, never will.
        let timing = self.settings.timing;
        let since = primary.met.unwrap_or(now);
        let primary = Primary { met: Some(since), ..primary };
        let goes_on = now < self.mate.silent_since + timing.wonder()
            && self.sight(now) == Sight::Primary(other);
        if now >= since + timing.tie_breaker() && goes_on && !self.is_heard() {
            self.step_back(primary, SteppedBack::Unheard, now);
            return;
        }
        self.carry_on(primary, now);
    }

    /// Whether this agent, as primary of a term, stays primary when it meets the primary of another.
    fn outranks(&self, term: Term, other: Term) -> bool {
        let priority = self.mate.last.map_or(0, |last| last.said.priority);
        let here = (self.settings.priority, self.identity.slot);
        let mate = (priority, self.identity.slot.other());
        match term.number.cmp(&other.number) {
            std::cmp::Ordering::Greater => true,
            std::cmp::Ordering::Less => false,
            std::cmp::Ordering::Equal => preferred(here, mate) == here.1,
        }
    }

    /// Whether the mate has lately heard this agent.
    fn is_heard(&self) -> bool {
        let heard = self.mate.last.and_then(|last| last.heard);
        heard.is_some_and(|heard| {
            heard.run == self.identity.run && self.rounds.sent(heard.round).is_some()
        })
    }

    /// A primary that meets none that it would step back for (PAIR-17).
    fn carry_on(&mut self, primary: Primary, now: Time) {
        self.role = Stand::Primary(primary);
        if number(self.known) > primary.term.number && self.begun.is_none() {
            self.begin(Reason::Overtaken);
        }
        if primary.leaving.is_some() {
            self.wait_for_takeover(primary, now);
            return;
        }
        let silent = self.is_mate_silent(now);
        let stopping = self.mate.last.is_some_and(|last| last.said.stopping);
        let timing = self.settings.timing;
        let mut licence = primary.licence;
        if licence.is_alone() {
            if !licence.holds(now) {
                // It stood still: what it knows is of no worth, and it listens as at the start.
                licence.forfeit(now);
                self.mate.silent_since = now;
                self.witnesses.forget(now);
            } else if silent && self.reach(now) == Reach::CutOff {
                self.step_back(primary, SteppedBack::CutOff, now);
                return;
            } else {
                licence.go_alone(now, timing);
            }
        } else if stopping && primary.met.is_none() {
            // A standby that has said goodbye takes nothing over.
            licence.go_alone(now, timing);
        } else if !licence.holds(now) && now >= licence.alone_from(timing) && primary.met.is_none()
        {
            // A mate that is heard, but does not follow, shows as well as a witness that this agent
            // is not cut off.
            let reach = if silent { self.reach(now) } else { Reach::Reached { since: now } };
            match reach {
                Reach::Reached { .. } => self.begin(Reason::Alone),
                Reach::Unknown => {}
                Reach::CutOff => {
                    self.step_back(primary, SteppedBack::CutOff, now);
                    return;
                }
            }
        }
        self.role = Stand::Primary(Primary { licence, ..primary });
        self.yield_to_wish(now);
    }

    /// Hands over if the standby wants it and can (PAIR-5, PAIR-7).
    fn yield_to_wish(&mut self, now: Time) {
        let wish = self.mate.last.and_then(|last| last.said.wants);
        let why = match wish {
            Some(Wants::Operator) => Leaving::Operator,
            Some(Wants::Failback) => Leaving::Failback,
            None => return,
        };
        if self.is_answered() && !self.orders.held && self.can_hand_over(now).is_ok() {
            self.leave(why, now);
        }
    }

    /// A primary that has asked its standby to take over, and does not speak.
    fn wait_for_takeover(&mut self, primary: Primary, now: Time) {
        let Some((why, since)) = primary.leaving else { return };
        if now < since + self.settings.timing.mate_timeout() {
            return;
        }
        match why {
            Leaving::Stopping => return,
            Leaving::Failback => {}
            Leaving::Operator => {
                self.events.push_back(Event::Refused(Order::Failover, Refusal::NotTakenOver));
            }
            Leaving::PartFailing => self.events.push_back(Event::RestartUnasked),
        }
        self.role = Stand::Primary(Primary { leaving: None, ..primary });
    }

    fn step_back(&mut self, primary: Primary, why: SteppedBack, now: Time) {
        let operator = matches!(primary.leaving, Some((Leaving::Operator, _)));
        if operator && why == SteppedBack::HandedOver {
            self.events.push_back(Event::Done(Order::Failover));
        }
        self.role = Stand::Standby;
        self.begun = None;
        self.tell_role(now);
        self.events.push_back(Event::SteppedBack { why, at: now });
    }

    // ---- what both ask ----

    fn give_up_order(&mut self, now: Time) {
        let limit = self.settings.timing.alone();
        if self.ordered.is_some_and(|since| now >= since + limit) && self.begun.is_none() {
            self.ordered = None;
            self.events.push_back(Event::Refused(Order::Failover, Refusal::NotTakenOver));
        }
    }

    /// When this standby wants to be primary again, if nothing else happens (PAIR-5).
    pub(super) fn failback_due(&self) -> Option<Time> {
        let Failback::Automatic { after } = self.settings.failback else { return None };
        if !matches!(self.role, Stand::Standby) {
            return None;
        }
        let priority = self.mate.last?.said.priority;
        let (here, mate) = (self.identity.slot, self.identity.slot.other());
        let first = preferred((self.settings.priority, here), (priority, mate)) == here;
        self.synchrony.whole_since().filter(|_| first).map(|since| since + after)
    }

    /// When a witness's answer is no news any more, if one answers.
    pub(super) fn reached_for_long(&self) -> Option<Time> {
        match self.reach(self.now) {
            Reach::Reached { since } => Some(since + self.settings.timing.heartbeat()),
            Reach::Unknown | Reach::CutOff => None,
        }
    }

    pub(super) fn reach(&self, now: Time) -> Reach {
        self.witnesses.reach(self.settings.witnesses, now, self.settings.timing)
    }

    /// Asks the witnesses while the mate is silent.
    pub(super) fn wonder(&mut self, now: Time) {
        let timing = self.settings.timing;
        if now < self.mate.silent_since + timing.wonder() {
            self.witnesses.rest();
        } else if self.settings.witnesses && self.witnesses.ask(now, timing) {
            self.ask = Some(now);
        }
    }

    /// The time that this agent stood still is no evidence against its mate (PAIR-17).
    pub(super) fn look_for_stall(&mut self, now: Time) {
        let timing = self.settings.timing;
        let still = now.since(self.next_round);
        if still <= timing.heartbeat() {
            return;
        }
        self.counters.stalls += 1;
        self.events.push_back(Event::Stalled { late: still });
        // After as long as a licence, nothing that was known before tells of now.
        let all = still >= timing.licence();
        let silent = self.mate.silent_since + still;
        self.mate.silent_since = if all { now } else { silent.min(now) };
        if all {
            self.witnesses.forget(now);
        }
        self.paths.iter_mut().for_each(|path| path.excuse(still, now));
        self.channel_way.excuse(still, now);
        if let Stand::Primary(primary) = &mut self.role {
            if all {
                primary.licence.count_from(now);
            } else {
                primary.licence.excuse(still, now);
            }
        }
    }

    fn tell_role(&mut self, at: Time) {
        let (role, term): (Role, _) = (self.role(), self.term());
        self.events.push_back(Event::Role { role, term, at });
    }
}
