//! The owner of all machines: one input goes in; events, echoes and the next deadline come out.
//!
//! The contract: after each [`handle`](Agent::handle), drain [`poll_event`](Agent::poll_event),
//! [`poll_transmit`](Agent::poll_transmit), [`poll_taken`](Agent::poll_taken) and
//! [`poll_answer`](Agent::poll_answer); then wait for the next input or for
//! [`next_deadline`](Agent::next_deadline), whichever is first. When a deadline has come, let both
//! ears hand in what they hold and say [`Input::Heard`], then say [`Input::Now`].

mod intake;
mod roles;

use std::{collections::VecDeque, time::Duration};

use smallvec::SmallVec;

use crate::{
    access::Engines,
    alarm::{Alarm, AlarmEvent},
    alarms::Alarms,
    counters::{Counters, RejectedLog},
    finding::Finding,
    forwarding::Forwarding,
    input::{Answer, Ear, Echo, Event, Input, Move, Reply, Taken},
    instability::Instability,
    overload::Overload,
    repeats::{self, Repeats},
    settings::Settings,
    state::{Record, RecordKey, StandbyRecord, State},
    subnets::Subnets,
    targets::Targets,
    time::Time,
    usm::{EngineId, EngineRecord, LocalEngine, receive::Usm},
};

/// All that is watched.
#[derive(Debug)]
pub struct Agent {
    settings: Settings,
    usm: Usm,
    /// What the latest message of SNMPv3 held, kept for its room.
    decrypted: Vec<u8>,
    engines: Engines,
    instability: Instability,
    subnets: Subnets,
    repeats: Repeats,
    forwarding: Forwarding,
    targets: Targets,
    overload: Overload,
    alarms: Alarms,
    counters: Counters,
    rejected: RejectedLog,
    replies_heard: Time,
    /// The number in the spool that the next trap gets which needs one.
    next_number: u64,
    seed: u64,
    /// Of a pair, and not primary: only what is local to this host is judged (PAIR-1).
    following: bool,
    found: Vec<Finding>,
    events: VecDeque<Event>,
    echoes: VecDeque<Echo>,
    answers: VecDeque<Answer>,
    taken: VecDeque<Taken>,
}

impl Agent {
    /// An agent that knows nothing. `local` is its own SNMP engine; `seed` keeps an outsider from
    /// choosing what collides in its tables; `identifier` is put into every echo.
    pub fn new(settings: Settings, local: LocalEngine, seed: u64, identifier: u16) -> Agent {
        let forwarded = vec![0; settings.forwarding.targets.len()];
        let access = &settings.access;
        let mut alarms = Alarms::default();
        alarms.set_names(&settings);
        Agent {
            usm: Usm::new(local, &access.users, access.max_engines, seed),
            decrypted: Vec::new(),
            engines: Engines::new(&access.engines),
            repeats: Repeats::new(repeats::KEPT, seed),
            forwarding: Forwarding::new(&settings.forwarding, &settings.instability, seed),
            targets: Targets::default(),
            overload: Overload::default(),
            next_number: 1,
            seed,
            following: settings.mate.is_some(),
            instability: Instability::new(settings.instability.clone(), seed),
            subnets: Subnets::new(settings.subnets.clone(), identifier),
            settings,
            alarms,
            counters: Counters { forwarded, ..Counters::default() },
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
    ///
    /// An agent of a pair takes back what is local to its host, and waits with all else until it
    /// [adopts](Input::Adopt) that.
    pub fn restore(&mut self, mut state: State, deaf: Duration, now: Time) -> usize {
        if self.following {
            state.keep_local(&self.settings.agent);
        }
        self.usm.restore(state.engines, now);
        let ended = self.alarms.restore(state.alarms, &state.identities, now);
        self.tell_all(ended);
        let active = self.alarms.active();
        let raised = active.keys().map(|(kind, object)| (*kind, object));
        self.subnets.restore(raised, state.standbys);
        self.overload.restore(active, now);
        let active_keys = active.keys().map(|(kind, object)| (*kind, object));
        let configured = &self.settings.forwarding;
        self.targets.restore(active_keys, configured, now, &mut self.found);
        let left_out = self.instability.restore(state.records, active, deaf, now, &mut self.found);
        self.conclude();
        left_out
    }

    /// Says which number in the spool is next, as numbers go on over restarts. What was taken in by an
    /// earlier run has a lower one.
    pub fn set_spool(&mut self, next: u64) {
        self.next_number = self.next_number.max(next);
    }

    /// The number in the spool that the next trap gets which needs one.
    pub const fn next_number(&self) -> u64 {
        self.next_number
    }

    /// A copy of the whole state.
    pub fn export(&self, now: Time) -> State {
        State {
            records: self.instability.export(now),
            alarms: self.alarms.all().cloned().collect(),
            identities: self.alarms.identities().collect(),
            engines: self.usm.export(now),
            standbys: self.standbys(),
        }
    }

    /// Up to `most` records that changed since they were last taken, and the keys that are gone.
    pub fn take_changes(&mut self, most: usize, now: Time) -> (Vec<Record>, Vec<RecordKey>) {
        self.instability.take_changes(most, now)
    }

    /// Up to `most` engines whose time has gone on since they were last taken.
    pub fn take_engine_changes(&mut self, most: usize, now: Time) -> Vec<EngineRecord> {
        self.usm.take_changes(most, now)
    }

    /// The engines that gave way for others since this was called last.
    pub fn take_removed_engines(&mut self) -> Vec<EngineId> {
        self.usm.take_removed()
    }

    /// The records of what an alarm is about, to be kept together with the alarm: of a link, both ends'.
    pub fn records_of(&mut self, alarm: &Alarm, now: Time) -> SmallVec<[Record; 2]> {
        self.instability.records_of(&alarm.object, now)
    }

    /// Takes in one input.
    pub fn handle(&mut self, input: &Input<'_>) {
        match input {
            Input::Datagram(datagram) => self.datagram(datagram),
            Input::Reply(reply) => self.reply(reply),
            Input::SendFailed(failed) => self.subnets.send_failed(failed, &mut self.events),
            Input::Heard { ear: Ear::Traps, up_to, lost, limited } => {
                self.counters.lost += lost;
                self.counters.limited += limited;
                self.instability.expire(*up_to, &mut self.found);
                self.found.extend(self.overload.heard(*lost, *limited, *up_to));
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
            Input::Moved { subnet, failed, now } => {
                let failed = failed.as_deref();
                self.subnets.moved(*subnet, failed, *now, &mut self.found, &mut self.events);
            }
            Input::Enable { subnet, now } => self.subnets.enable(*subnet, *now, &mut self.found),
            Input::Settings { settings, now } => self.reload(settings, *now),
            Input::Replayed(taken) => self.replayed(taken),
            Input::HandedOver { taken, targets, heeded } => {
                self.handed_over(taken, targets, *heeded);
            }
            Input::Target { name, unreachable, now } => {
                let configured = &self.settings.forwarding;
                let why = unreachable.as_deref();
                self.targets.report(name, why, configured, *now, &mut self.found);
            }
            Input::Found(findings) => self.found.extend(findings.iter().cloned()),
            Input::WallClock { origin_ms } => self.alarms.set_wall_clock(*origin_ms),
            Input::Adopt { state, last_number, deaf, now } => {
                self.adopt(State::clone(state), *last_number, *deaf, *now);
            }
            Input::Relinquish { now } => self.relinquish(*now),
            Input::MateAlarm { event, now } => self.mate_event(AlarmEvent::clone(event), *now),
            Input::MateName(name) => self.alarms.set_mate_name(name),
            Input::MateAlarms { alarms, now } => self.mate_alarms(alarms.clone(), *now),
        }
        self.conclude();
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
        self.count_by_name(settings);
        self.settings = settings.clone();
        self.alarms.set_names(settings);
        self.usm.reload(&settings.access.users, settings.access.max_engines);
        self.engines = Engines::new(&settings.access.engines);
        self.forwarding.reload(&settings.forwarding, &settings.instability);
        self.targets.reload(&settings.forwarding, now, &mut self.found);
        self.instability.reload(settings.instability.clone(), now, &mut self.found);
        self.subnets.reload(settings.subnets.clone(), now, &mut self.found, &mut self.events);
    }

    /// A notification target keeps what was counted for it, wherever its place will be.
    fn count_by_name(&mut self, new: &Settings) {
        let before = &self.settings.forwarding.targets;
        let counted = new.forwarding.targets.iter().map(|target| {
            let place = before.iter().position(|other| other.name == target.name);
            place.and_then(|place| self.counters.forwarded.get(place).copied()).unwrap_or(0)
        });
        self.counters.forwarded = counted.collect();
    }

    /// Turns what was found into alarms.
    fn conclude(&mut self) {
        let mut found = std::mem::take(&mut self.found);
        for finding in found.drain(..) {
            // What the network is like, the primary judges.
            if self.following && !finding.object.is_local() {
                continue;
            }
            let event = self.alarms.apply(finding);
            self.tell_all(event);
        }
        self.found = found;
    }

    fn tell_all(&mut self, events: impl IntoIterator<Item = AlarmEvent>) {
        for event in events {
            let kind = event.alarm.kind as usize;
            match event.cleared {
                None => self.counters.raised[kind] += 1,
                Some(reason) => self.counters.cleared[kind][reason as usize] += 1,
            }
            self.events.push_back(Event::Alarm(Box::new(event)));
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

    /// The next addresses to move.
    pub fn poll_move(&mut self) -> Option<Move> {
        self.subnets.poll_move()
    }

    /// Where the addresses are of the subnets that have a standby interface, or are on their way to.
    pub fn standbys(&self) -> Vec<StandbyRecord> {
        self.subnets.standbys().collect()
    }

    /// When something is next to be judged or sent. It may be too early, never too late.
    pub fn next_deadline(&self) -> Option<Time> {
        let deadlines = [
            self.instability.next_deadline(),
            self.subnets.next_deadline(),
            self.overload.next_deadline(),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// The last number in the spool that was given out; 0 if none ever was.
    pub const fn last_number(&self) -> u64 {
        self.next_number - 1
    }

    /// The settings in force.
    pub const fn settings(&self) -> &Settings {
        &self.settings
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

    /// SNMPv3, to look at: what was opened and what was refused, at which step.
    pub const fn usm(&self) -> &Usm {
        &self.usm
    }

    /// The informs that are remembered, to look at.
    pub const fn repeats(&self) -> &Repeats {
        &self.repeats
    }

    /// The IP monitor, to look at.
    pub const fn subnets(&self) -> &Subnets {
        &self.subnets
    }
}
