//! What answers say, and what it says that there is none (PEER-2, 3, 11, 12).

use super::Monitor;
use crate::{
    alarm::ClearReason,
    peers::{
        Answer, Discard, Inconclusive, PeerState, Request,
        group::{Asked, Batch},
        table::Flag,
        told::{Owed, What},
    },
    time::Time,
};

/// What comes next on the way to the moment up to which everything was heard. Of what comes at one
/// moment, the first here comes first: an answer at exactly a deadline comes after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Next {
    /// A peer's interval since it was found down is over.
    JustDown,
    /// A silent peer's moment has come.
    Waiting,
    /// The batch of this group is to be judged.
    Batch(usize),
    /// An answer that was held back.
    Held,
}

impl Monitor {
    /// Takes in an answer.
    ///
    /// # Errors
    ///
    /// It changes nothing, and was counted by this reason.
    pub fn answer(&mut self, answer: &Answer) -> Result<(), Discard> {
        if let Err(why) = self.examine(answer) {
            self.discarded(why, 1);
            return Err(why);
        }
        // Nobody waits for more answers than there are peers; what comes beyond that is not held.
        if self.comes_after_deadline(answer) && self.held.len() < self.admitted as usize {
            self.held.push_back(*answer);
        } else {
            self.accept(answer);
        }
        Ok(())
    }

    /// A peer said, unasked, what its restart counter is (PEER-15).
    pub fn restart_counter(&mut self, place: u32, counter: u32, received: Time) {
        if self.table.get(place).is_none() {
            return;
        }
        // The first one is only remembered.
        let was = self.restart_counters.insert(place, counter);
        if was == Some(counter) {
            return;
        }
        self.note(place);
        let Some(was) = was else { return };
        let peer = self.table.row(place);
        self.groups[usize::from(peer.group)].stats.restarts += 1;
        // If one is owed already, it will tell the latest counter.
        if !peer.is(Flag::RestartOwed) {
            peer.set(Flag::RestartOwed, true);
            let (address, group) = (peer.address(), peer.group);
            let what = What::Restarted { counter, was };
            self.told.owe(Owed { at: received, address, place, group, what });
        }
    }

    /// A peer said that it knows no heartbeats (PEER-15). It is there, so it is not down.
    pub fn unsupported(&mut self, place: u32, received: Time) {
        let Some(peer) = self.table.get_mut(place) else { return };
        if !peer.is_asked() {
            return;
        }
        self.awaited -= peer.forget_requests();
        self.clear_alarm(place, ClearReason::Ended, received);
        self.enter(place, PeerState::Unsupported, received);
    }

    /// The kernel did not take this request.
    pub fn send_failed(&mut self, request: &Request, _now: Time) {
        let Request { place, address, sequence, retransmission, .. } = *request;
        let slowed = self.silence.is_slowed();
        let peer = self.table.get_mut(place).filter(|peer| peer.address() == address);
        let Some(peer) = peer.filter(|peer| peer.is_outstanding(sequence)) else { return };
        self.awaited -= u32::from(peer.is_unjudged(sequence));
        peer.close(sequence);
        self.groups[usize::from(peer.group)].stats.inconclusive
            [Inconclusive::SendFailed as usize] += 1;
        match peer.state {
            // A heartbeat between two tries is none of them, unless detection is slowed.
            PeerState::Silent => peer.set(Flag::Spoiled, retransmission || slowed),
            PeerState::Unknown | PeerState::Alive => {
                if !retransmission && !slowed {
                    self.retransmissions.again.push(place);
                }
            }
            PeerState::Down | PeerState::Disabled | PeerState::Unsupported => {}
        }
    }

    /// Whether a try without an answer is to be judged by now: then, and only then, it is worth looking
    /// whether this host is to blame.
    pub fn must_judge(&self, now: Time) -> bool {
        self.next_judgement().is_some_and(|deadline| deadline <= now)
    }

    /// Judges what had no answer in time. All that was received before `heard` has been handed in.
    pub fn judge(&mut self, heard: Time) {
        self.watch_for_stall(self.next_judgement(), heard);
        // Answers of different sockets may have overtaken each other.
        self.held.make_contiguous().sort_by_key(|answer| answer.received);
        while let Some((moment, next)) = self.next_event().filter(|(moment, _)| *moment <= heard) {
            match next {
                Next::JustDown => self.interval_since_down_is_over(moment),
                Next::Waiting => self.wake(moment),
                Next::Batch(group) => self.judge_batch(group),
                Next::Held => {
                    if let Some(answer) = self.held.pop_front()
                        && self.examine(&answer).is_ok()
                    {
                        self.accept(&answer);
                    }
                }
            }
            self.weigh_silence(moment);
        }
        self.weigh_silence(heard);
    }

    fn next_event(&self) -> Option<(Time, Next)> {
        let batches = self.groups.iter().enumerate();
        let batches = batches.filter_map(|(at, group)| Some((group.deadline()?, Next::Batch(at))));
        batches
            .chain(self.just_down.next().map(|moment| (moment, Next::JustDown)))
            .chain(self.retransmissions.waiting.next().map(|moment| (moment, Next::Waiting)))
            .chain(self.held.front().map(|answer| (answer.received, Next::Held)))
            .min()
    }

    /// Whether it answers a request of ours that waits for an answer (PEER-11).
    fn examine(&self, answer: &Answer) -> Result<(), Discard> {
        let peer = self.table.get(answer.place).ok_or(Discard::UnknownPeer)?;
        if peer.address() != answer.source {
            return Err(Discard::WrongSource);
        }
        let token = self.tokens.token(answer.place, answer.sequence);
        if answer.token.is_some_and(|carried| carried != token) {
            return Err(Discard::WrongToken);
        }
        if !peer.is_outstanding(answer.sequence) {
            return Err(Discard::NotOutstanding);
        }
        Ok(())
    }

    /// Whether it was received at or after a deadline of its peer that is not judged yet (spec,
    /// "Time").
    fn comes_after_deadline(&self, answer: &Answer) -> bool {
        let Some(peer) = self.table.get(answer.place) else { return false };
        let group = &self.groups[usize::from(peer.group)];
        let too_late = |sent: Time| sent + group.settings.timeout <= answer.received;
        let unanswered = peer.is_unjudged(answer.sequence) && answer.sent.is_some_and(too_late);
        let tries = group.settings.max_retransmissions.get();
        let down = || group.moment(peer.since, tries, self.silence.is_slowed());
        unanswered
            || peer.state == PeerState::Silent && peer.tries >= tries && down() <= answer.received
    }

    fn accept(&mut self, answer: &Answer) {
        let Answer { place, sequence, received, .. } = *answer;
        let interface = answer.interface.map(|index| self.blame.interface(index));
        let peer = self.table.row(place);
        self.awaited -= u32::from(peer.is_unjudged(sequence));
        peer.close(sequence);
        peer.interface = interface.unwrap_or(peer.interface);
        let group = &mut self.groups[usize::from(peer.group)];
        group.stats.answers += 1;
        if let Some(sent) = answer.sent.filter(|sent| *sent <= received) {
            let micros = received.since(sent).as_nanos() as u64 / 1_000;
            peer.set_round_trip(micros);
            group.stats.round_trips.add(micros);
        }
        match peer.state {
            PeerState::Alive => {}
            PeerState::Unknown | PeerState::Silent => {
                self.enter(place, PeerState::Alive, received);
            }
            PeerState::Down => {
                // PEER-3
                peer.answered = peer.answered.saturating_add(1);
                if peer.answered >= group.settings.recovery_count.get() {
                    let at = received.max(peer.since);
                    self.clear_alarm(place, ClearReason::Ended, at);
                    self.enter(place, PeerState::Alive, at);
                } else {
                    self.note(place);
                }
            }
            // Nothing is outstanding in these states.
            PeerState::Disabled | PeerState::Unsupported => {}
        }
        if let Some(counter) = answer.restart_counter {
            self.restart_counter(place, counter, received);
        }
    }

    fn judge_batch(&mut self, number: usize) {
        let Some(batch) = self.groups[number].pop_batch() else { return };
        for _ in 0..batch.count {
            if let Some(asked) = self.groups[number].pop_asked() {
                self.judge_request(asked, &batch);
            }
        }
    }

    fn judge_request(&mut self, Asked { place, sequence }: Asked, batch: &Batch) {
        // Even without a peer, the row knows what is to be judged of the last one.
        let peer = self.table.row(place);
        peer.judged();
        if !peer.is(Flag::Present) || !peer.is_outstanding(sequence) {
            return;
        }
        self.awaited -= 1;
        let slowed = self.silence.is_slowed();
        let group = &mut self.groups[usize::from(peer.group)];
        if let Some((why, _)) = self.blame.spoils(batch.sent, peer.is_v4(), peer.interface) {
            group.stats.inconclusive[why as usize] += 1;
            // Of a silent peer the clock is moved on when its moment comes, and a peer that is down
            // has time. A try that repeats another is not repeated: the next heartbeat is.
            let fine = matches!(peer.state, PeerState::Unknown | PeerState::Alive);
            if fine && !batch.retransmission && !slowed {
                self.retransmissions.again.push(place);
            }
            return;
        }
        let max = group.settings.max_retransmissions.get();
        group.stats.unanswered += 1;
        peer.unanswered = peer.unanswered.saturating_add(1);
        match peer.state {
            // With intervals shorter than the timeout a later request may have its answer: then this
            // one was lost, and the peer is there.
            PeerState::Unknown | PeerState::Alive if peer.has_answered_since(sequence) => {}
            PeerState::Unknown | PeerState::Alive => {
                peer.tries = 1;
                peer.set(Flag::Spoiled, false);
                self.enter(place, PeerState::Silent, batch.sent);
                self.silent_changed = self.silent_changed.max(batch.deadline);
                // A single try is over with its timeout.
                if slowed || max == 1 {
                    self.wait(place, batch.deadline);
                } else {
                    self.retransmissions.due.push(place);
                }
            }
            PeerState::Silent => {}
            PeerState::Down => {
                if std::mem::take(&mut peer.answered) > 0 {
                    self.note(place);
                }
            }
            PeerState::Disabled | PeerState::Unsupported => {}
        }
    }

    /// The moment of a silent peer: its next try is due, or it is down.
    fn wake(&mut self, moment: Time) {
        let Some(place) = self.retransmissions.waiting.pop() else { return };
        // It is woken for what was, and has answered since, or is to be tried already.
        let Some(peer) = self.table.get_mut(place) else { return };
        if peer.state != PeerState::Silent || self.retransmissions.due.contains(place) {
            return;
        }
        let slowed = self.silence.is_slowed();
        let group = &mut self.groups[usize::from(peer.group)];
        let due = group.moment(peer.since, peer.tries, slowed);
        if due > moment {
            self.retransmissions.waiting.set(place, due);
            return;
        }
        let span = group.span(slowed);
        let max = group.settings.max_retransmissions.get();
        let blamed = self.blame.spoils(due - span, peer.is_v4(), peer.interface);
        let blamed = blamed.map(|(_, up_to)| up_to).or(peer.is(Flag::Spoiled).then_some(due));
        // While its clear is owed it is not found down anew (PEER-10), and is tried on.
        let owed = (peer.tries >= max && peer.is(Flag::ClearOwed)).then_some(due);
        if let Some(up_to) = blamed.or(owed)
            && peer.tries > 0
        {
            // PEER-12: the last try is repeated, and the clock moved on by it: it is due now, as if
            // the last one had never been.
            peer.tries -= 1;
            peer.since = peer.since + span + up_to.since(due);
            peer.set(Flag::Spoiled, false);
        }
        if peer.tries >= max {
            self.find_down(place, due);
        } else if slowed {
            // PEER-9: its next heartbeat is the try.
            peer.tries += 1;
            self.wait(place, moment);
        } else {
            self.retransmissions.due.push(place);
        }
        self.note(place);
    }

    /// PEER-2: it has answered none of its tries.
    fn find_down(&mut self, place: u32, at: Time) {
        let peer = self.table.row(place);
        let (requests, clock) = (peer.tries, peer.since);
        let (address, group) = (peer.address(), peer.group);
        let raised = peer.is(Flag::Alarm);
        peer.set(Flag::Alarm, true);
        peer.set(Flag::JustDown, true);
        peer.answered = 0;
        self.enter(place, PeerState::Down, at);
        let owner = &mut self.groups[usize::from(group)];
        owner.stats.no_answer += 1;
        self.just_down.set(place, at + owner.settings.interval);
        if !raised {
            let millis = u32::try_from(at.since(clock).as_millis()).unwrap_or(u32::MAX);
            let what = What::Down { requests, millis };
            self.told.owe(Owed { at, address, place, group, what });
        }
    }

    /// It no longer counts as silent (PEER-9), unless it came back and went down again meanwhile.
    fn interval_since_down_is_over(&mut self, moment: Time) {
        let Some(place) = self.just_down.pop() else { return };
        let Some(peer) = self.table.get_mut(place).filter(|peer| peer.is(Flag::JustDown)) else {
            return;
        };
        let over = peer.since + self.groups[usize::from(peer.group)].settings.interval;
        if over > moment {
            self.just_down.set(place, over);
        } else {
            peer.set(Flag::JustDown, false);
            self.silent -= 1;
            self.silent_changed = self.silent_changed.max(moment);
        }
    }
}
