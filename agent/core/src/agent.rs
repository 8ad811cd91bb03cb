//! The owner of all machines: one input goes in; events, echoes and the next deadline come out.
//!
//! The contract: after each [`handle`](Agent::handle), drain [`poll_event`](Agent::poll_event) and
//! [`poll_transmit`](Agent::poll_transmit); then wait for the next input or for
//! [`next_deadline`](Agent::next_deadline), whichever is first. When a deadline has come, let both
//! ears hand in what they hold and say [`Input::Heard`], then say [`Input::Now`].

use std::{collections::VecDeque, time::Duration};

use crate::{
    alarm::Alarm,
    alarms::Alarms,
    counters::{Counters, RejectedLog},
    finding::Finding,
    input::{Answer, Datagram, Ear, Echo, Event, Input, Reply, Taken},
    instability::{Instability, Outcome},
    settings::Settings,
    state::{Record, RecordKey, State},
    subnets::Subnets,
    time::Time,
    trap::Trap,
};

/// All that is watched.
#[derive(Debug)]
pub struct Agent {
    settings: Settings,
    instability: Instability,
    subnets: Subnets,
    alarms: Alarms,
    counters: Counters,
    rejected: RejectedLog,
    replies_heard: Time,
    found: Vec<Finding>,
    events: VecDeque<Event>,
    echoes: VecDeque<Echo>,
    answers: VecDeque<Answer>,
    taken: VecDeque<Taken>,
}

impl Agent {
    /// An agent that knows nothing. `seed` keeps an outsider from choosing addresses that collide
    /// in its tables; `identifier` is put into every echo.
    pub fn new(settings: Settings, seed: u64, identifier: u16) -> Agent {
        Agent {
            instability: Instability::new(settings.instability.clone(), seed),
            subnets: Subnets::new(settings.subnets.clone(), identifier),
            settings,
            alarms: Alarms::default(),
            counters: Counters::default(),
            rejected: RejectedLog::default(),
            replies_heard: Time::ZERO,
            found: Vec::new(),
            events: VecDeque::new(),
            echoes: VecDeque::new(),
            answers: VecDeque::new(),
            taken: VecDeque::new(),
        }
    }

    /// Puts back what was copied out, before any other input but [`Input::WallClock`]. `deaf` is
    /// how long nobody listened, which is not taken for quiet (INST-17). Returns how many records
    /// there was no room for.
    pub fn restore(&mut self, state: State, deaf: Duration, now: Time) -> usize {
        self.alarms.restore(state.alarms);
        let active = self.alarms.active();
        self.subnets.restore(active.keys().map(|(kind, object)| (*kind, object)));
        let left_out = self.instability.restore(state.records, active, deaf, now, &mut self.found);
        self.conclude();
        left_out
    }

    /// A copy of the whole state.
    pub fn export(&self, now: Time) -> State {
        State {
            records: self.instability.export(now),
            alarms: self.alarms.active().values().cloned().collect(),
        }
    }

    /// Up to `most` records that changed since they were last taken, and the keys that are gone.
    pub fn take_changes(&mut self, most: usize, now: Time) -> (Vec<Record>, Vec<RecordKey>) {
        self.instability.take_changes(most, now)
    }

    /// The record of the object that an alarm is about, to be kept together with the alarm.
    pub fn record_of(&mut self, alarm: &Alarm, now: Time) -> Option<Record> {
        self.instability.record_of(&alarm.object, now)
    }

    /// Takes in one input.
    pub fn handle(&mut self, input: &Input<'_>) {
        match input {
            Input::Datagram(datagram) => self.datagram(datagram),
            Input::Reply(reply) => self.reply(reply),
            Input::SendFailed(failed) => self.subnets.send_failed(failed, &mut self.events),
            Input::Heard { ear: Ear::Traps, up_to, .. } => {
                self.instability.expire(*up_to, &mut self.found);
            }
            Input::Heard { ear: Ear::Replies, up_to, lost, .. } => {
                self.replies_heard = self.replies_heard.max(*up_to);
                if *lost > 0 {
                    self.subnets.spoil();
                }
            }
            Input::Now(now) => self.now(*now),
            Input::Host { host, now } => {
                self.subnets.set_host(host.clone(), *now, &mut self.found, &mut self.events);
            }
            Input::Settings { settings, now } => self.reload(settings, *now),
            Input::Replayed(_) | Input::Target { .. } => {}
            Input::WallClock { origin_ms } => self.alarms.set_wall_clock(*origin_ms),
        }
        self.conclude();
    }

    /// The one way of a datagram: decode it, ask who may send it and for whom it speaks, and judge
    /// it.
    fn datagram(&mut self, datagram: &Datagram<'_>) {
        let Datagram { source, received, bytes, .. } = *datagram;
        self.counters.datagrams += 1;
        self.counters.octets += bytes.len() as u64;
        let trap = match Trap::decode(bytes) {
            Ok(trap) => trap,
            Err(malformed) => {
                self.counters.malformed[malformed as usize] += 1;
                return self.reject(datagram, malformed.name());
            }
        };
        if let Err(refused) = self.settings.access.check(trap.community, source.ip()) {
            self.counters.refused[refused as usize] += 1;
            return self.reject(datagram, refused.name());
        }
        self.counters.informs += u64::from(trap.form.is_inform());
        let system = self.settings.access.system(&trap, source.ip());
        let outcome = self.instability.trap(&trap, system, received, &mut self.found);
        self.counters.outcomes[outcome as usize] += 1;
        if outcome == Outcome::NoIfIndex {
            self.reject(datagram, outcome.name());
        }
    }

    fn reject(&mut self, datagram: &Datagram<'_>, reason: &'static str) {
        let at = self.alarms.wall(datagram.received);
        self.rejected.push(at, datagram.source, reason, datagram.bytes);
    }

    fn reply(&mut self, reply: &Reply) {
        match self.subnets.reply(reply, &mut self.found, &mut self.events) {
            Some(outcome) => self.counters.replies[outcome as usize] += 1,
            None => self.counters.stray_replies += 1,
        }
    }

    fn now(&mut self, now: Time) {
        let stalled = self.subnets.turn(
            now,
            self.replies_heard,
            &mut self.found,
            &mut self.events,
            &mut self.echoes,
        );
        self.counters.stalls += u64::from(stalled.is_some());
        self.events.extend(stalled.map(|late| Event::Stalled { late }));
    }

    fn reload(&mut self, settings: &Settings, now: Time) {
        self.settings = settings.clone();
        self.instability.reload(settings.instability.clone(), now, &mut self.found);
        self.subnets.reload(settings.subnets.clone(), now, &mut self.found, &mut self.events);
    }

    /// Turns what was found into alarms.
    fn conclude(&mut self) {
        for finding in self.found.drain(..) {
            let kind = finding.kind as usize;
            if let Some(event) = self.alarms.apply(finding) {
                match event.cleared {
                    None => self.counters.raised[kind] += 1,
                    Some(reason) => self.counters.cleared[kind][reason as usize] += 1,
                }
                self.events.push_back(Event::Alarm(Box::new(event)));
            }
        }
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The next echo to send.
    pub fn poll_transmit(&mut self) -> Option<Echo> {
        self.echoes.pop_front()
    }

    /// The next answer to send.
    pub fn poll_answer(&mut self) -> Option<Answer> {
        self.answers.pop_front()
    }

    /// The next trap that goes on.
    pub fn poll_taken(&mut self) -> Option<Taken> {
        self.taken.pop_front()
    }

    /// When something is next to be judged or sent. It may be too early, never too late.
    pub fn next_deadline(&self) -> Option<Time> {
        let instability = self.instability.next_deadline();
        instability.into_iter().chain(self.subnets.next_deadline()).min()
    }

    /// The active alarms.
    pub const fn alarms(&self) -> &Alarms {
        &self.alarms
    }

    /// What was counted.
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The last datagrams that were not taken in.
    pub const fn rejected(&self) -> &RejectedLog {
        &self.rejected
    }

    /// The analysis of instability, to look at.
    pub const fn instability(&self) -> &Instability {
        &self.instability
    }

    /// The IP monitor, to look at.
    pub const fn subnets(&self) -> &Subnets {
        &self.subnets
    }
}
