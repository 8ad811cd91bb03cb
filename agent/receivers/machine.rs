//! One receiver as a machine without I/O: told the time, what there is to tell and how a delivery went, it
//! says what to do next.

use std::{collections::VecDeque, time::Duration};

use evenkeel_core::{alarm::AlarmEvent, time::Time};

use super::Receiver;
use crate::notifier::{Filter, TargetStats, retry};

/// How many events one delivery has at most: some 50 kB of JSON.
const BATCH: usize = 100;

/// The first wait after a delivery that failed.
const AGAIN: Duration = Duration::from_secs(1);

/// So many failures in a row make a receiver unreachable: with the waits between them seven seconds, in
/// which a server restarts.
const FAILURES: u32 = 4;

/// How often an Alertmanager is told again what is active: it forgets what it has not heard of for its
/// `resolve_timeout`, five minutes by default.
pub const RESEND: Duration = Duration::from_secs(60);

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Read the journal after this row, at most so many rows, and hand in what was found.
    Read {
        /// The row.
        after: u64,
        /// How many.
        limit: usize,
    },
    /// Deliver these, and say how that went.
    Deliver(Vec<(u64, AlarmEvent)>),
    /// Tell all that is active, and say how that went.
    Resend,
    /// Wait for more to tell, or for this moment.
    Wait(Option<Time>),
}

/// How a delivery went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// It was taken.
    Done,
    /// It was not, and would not be if it came again.
    Refused(String),
    /// It may be if it comes again.
    Failed(String),
}

/// The machine.
#[derive(Debug)]
pub struct Machine {
    filter: Filter,
    /// Everything up to here is done.
    cursor: u64,
    /// Everything up to here was read.
    read: u64,
    committed: u64,
    waiting: VecDeque<(u64, AlarmEvent)>,
    /// How many of those are under way.
    under_way: usize,
    /// When what is active is told again, if ever.
    resend_at: Option<Time>,
    failures: u32,
    retry_at: Time,
    /// What was last told of whether it can be reached.
    reachable: Option<bool>,
    changes: Vec<Option<String>>,
    sent: u64,
    delivered: u64,
    repeated: u64,
    refused: u64,
    failed: u64,
    lost: u64,
    last_error: Option<String>,
}

impl Machine {
    /// A machine that goes on after the row `cursor`. One that `resends` tells what is active at once, and
    /// each [`RESEND`].
    pub fn new(filter: Filter, cursor: u64, resends: bool) -> Machine {
        Machine {
            filter,
            cursor,
            read: cursor,
            committed: cursor,
            waiting: VecDeque::new(),
            under_way: 0,
            resend_at: resends.then_some(Time::ZERO),
            failures: 0,
            retry_at: Time::ZERO,
            reachable: None,
            changes: Vec::new(),
            sent: 0,
            delivered: 0,
            repeated: 0,
            refused: 0,
            failed: 0,
            lost: 0,
            last_error: None,
        }
    }

    /// Everything in the journal up to here is done.
    pub const fn cursor(&self) -> u64 {
        self.cursor
    }

    /// Whether it was last told of as unreachable.
    pub fn is_unreachable(&self) -> bool {
        self.reachable == Some(false)
    }

    /// What is safe in the journal.
    pub const fn told(&mut self, committed: u64) {
        self.committed = committed;
    }

    /// Since this was last called: that it has become unreachable, and why, or that it can be reached.
    pub fn take_changes(&mut self) -> Vec<Option<String>> {
        std::mem::take(&mut self.changes)
    }

    /// What to do next. To be called again after each action.
    pub fn next(&mut self, now: Time) -> Action {
        if now < self.retry_at {
            return Action::Wait(Some(self.retry_at));
        }
        if self.waiting.len() < BATCH && self.read < self.committed {
            return Action::Read { after: self.read, limit: BATCH };
        }
        if !self.waiting.is_empty() {
            self.under_way = self.waiting.len().min(BATCH);
            self.sent += self.under_way as u64;
            if self.failures > 0 {
                self.repeated += self.under_way as u64;
            }
            return Action::Deliver(self.waiting.range(..self.under_way).cloned().collect());
        }
        match self.resend_at {
            Some(at) if at <= now => Action::Resend,
            at => Action::Wait(at),
        }
    }

    /// What was read from the journal after [`Action::Read`].
    pub fn found(&mut self, rows: Vec<(u64, AlarmEvent)>, limit: usize) {
        if let Some((first, _)) = rows.first() {
            self.lost += first.saturating_sub(self.read + 1);
        }
        // A full batch may not be all.
        let last = rows.last().map_or(0, |(seq, _)| *seq);
        self.read = if rows.len() < limit { self.committed.max(last) } else { last };
        self.waiting.extend(rows.into_iter().filter(|(_, event)| self.filter.passes(&event.alarm)));
        if self.waiting.is_empty() {
            self.cursor = self.read;
        }
    }

    /// How [`Action::Deliver`] or [`Action::Resend`] went.
    pub fn delivered(&mut self, how: Delivery, now: Time) {
        let count = std::mem::take(&mut self.under_way);
        match how {
            Delivery::Done => {
                self.delivered += count as u64;
                self.last_error = None;
                self.done(count, now);
            }
            Delivery::Refused(why) => {
                self.refused += count as u64;
                self.last_error = Some(format!("refused: {why}"));
                self.done(count, now);
            }
            Delivery::Failed(why) => self.again(why, now),
        }
    }

    /// The journal, or what is active, can't be read.
    pub fn read_failed(&mut self, error: String, now: Time) {
        self.failed += 1;
        self.retry_at = now + AGAIN;
        self.last_error = Some(error);
    }

    /// How it fares, with what is safe in the journal.
    pub fn stats(&self, receiver: &Receiver, committed: u64) -> TargetStats {
        TargetStats {
            name: receiver.name.clone(),
            address: receiver.address(),
            form: receiver.kind().to_owned(),
            sent: self.sent,
            acknowledged: self.delivered,
            retransmitted: self.repeated,
            refused: self.refused,
            failed: self.failed,
            lost: self.lost,
            lag: self.waiting.len() as u64 + committed.saturating_sub(self.read),
            waiting_forwarded: 0,
            reachable: !self.is_unreachable(),
            last_error: self.last_error.clone(),
        }
    }

    fn done(&mut self, count: usize, now: Time) {
        if count == 0 {
            // It was told what is active.
            self.resend_at = self.resend_at.map(|_| now + RESEND);
        }
        if let Some((seq, _)) = self.waiting.drain(..count).next_back() {
            self.cursor = seq;
        }
        if self.waiting.is_empty() {
            self.cursor = self.read;
        }
        self.failures = 0;
        self.retry_at = Time::ZERO;
        if self.reachable != Some(true) {
            self.reachable = Some(true);
            self.changes.push(None);
        }
    }

    fn again(&mut self, why: String, now: Time) {
        self.failed += 1;
        self.failures = self.failures.saturating_add(1);
        self.retry_at = now + retry::after(AGAIN, self.failures);
        if self.failures == FAILURES && !self.is_unreachable() {
            self.reachable = Some(false);
            self.changes.push(Some(format!("{why}, {FAILURES} times in a row")));
        }
        self.last_error = Some(why);
    }
}

#[cfg(test)]
mod tests {
    use evenkeel_core::{
        alarm::{Kind, Object},
        alarms::Alarms,
        finding::Finding,
    };

    use super::*;

    fn at(secs: u64) -> Time {
        Time::from_secs(1000 + secs)
    }

    /// Rows `from..=to`, each about another peer.
    fn rows(from: u64, to: u64) -> Vec<(u64, AlarmEvent)> {
        let mut alarms = Alarms::default();
        (from..=to)
            .map(|seq| {
                let peer = Object::Peer(std::net::Ipv4Addr::from(seq as u32).into());
                let raise = Finding::raise(Kind::PeerDown, peer, "no answer".into(), at(0));
                (seq, alarms.apply(raise).unwrap())
            })
            .collect()
    }

    fn read(machine: &mut Machine, now: Time) {
        let Action::Read { after, limit } = machine.next(now) else { panic!("nothing to read") };
        let to = (after + limit as u64).min(machine.committed);
        machine.found(rows(after + 1, to), limit);
    }

    fn deliver(machine: &mut Machine, now: Time) -> (u64, u64) {
        match machine.next(now) {
            Action::Deliver(rows) => (rows.first().unwrap().0, rows.last().unwrap().0),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn trap_11_what_fails_comes_again_in_order_until_it_is_taken() {
        let mut machine = Machine::new(Filter::default(), 7, false);
        machine.told(257);
        read(&mut machine, at(0));
        assert_eq!(deliver(&mut machine, at(0)), (8, 107));
        let mut now = at(0);
        for wait in [1, 2, 4, 8, 16, 30, 30] {
            machine.delivered(Delivery::Failed("no route".into()), now);
            let until = now + Duration::from_secs(wait);
            assert_eq!(machine.next(now), Action::Wait(Some(until)));
            now = until;
            assert_eq!(deliver(&mut machine, now), (8, 107));
        }
        assert_eq!(machine.take_changes(), [Some("no route, 4 times in a row".to_owned())]);
        assert_eq!(machine.cursor(), 7);
        machine.delivered(Delivery::Done, now);
        assert_eq!((machine.cursor(), machine.take_changes()), (107, vec![None]));
        read(&mut machine, now);
        assert_eq!(deliver(&mut machine, now), (108, 207));
        machine.delivered(Delivery::Refused("400".into()), now);
        read(&mut machine, now);
        assert_eq!(deliver(&mut machine, now), (208, 257));
        machine.delivered(Delivery::Done, now);
        assert_eq!((machine.cursor(), machine.next(now)), (257, Action::Wait(None)));
        assert_eq!((machine.delivered, machine.refused, machine.repeated), (150, 100, 700));
    }

    #[test]
    fn an_alertmanager_is_told_again_what_is_active() {
        let mut machine = Machine::new(Filter::default(), 0, true);
        assert_eq!(machine.next(at(0)), Action::Resend);
        machine.delivered(Delivery::Done, at(0));
        assert_eq!(machine.next(at(0)), Action::Wait(Some(at(60))));
        machine.told(1);
        read(&mut machine, at(5));
        assert_eq!(deliver(&mut machine, at(5)), (1, 1));
        machine.delivered(Delivery::Done, at(5));
        assert_eq!(machine.next(at(59)), Action::Wait(Some(at(60))));
        assert_eq!(machine.next(at(60)), Action::Resend);
        machine.delivered(Delivery::Failed("gone".into()), at(60));
        assert_eq!(machine.next(at(61)), Action::Resend);
    }

    #[test]
    fn what_the_filter_holds_back_is_done() {
        let filter = Filter { alarms: false, ..Filter::default() };
        let mut machine = Machine::new(filter, 0, false);
        machine.told(3);
        read(&mut machine, at(0));
        assert_eq!((machine.cursor(), machine.next(at(0))), (3, Action::Wait(None)));
    }

    #[test]
    fn what_was_pruned_before_it_was_told_is_counted() {
        let mut machine = Machine::new(Filter::default(), 3, false);
        machine.told(20);
        assert_eq!(machine.next(at(0)), Action::Read { after: 3, limit: BATCH });
        machine.found(rows(10, 20), BATCH);
        assert_eq!(machine.lost, 6);
    }
}
