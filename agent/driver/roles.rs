//! How the driver of an agent of a pair carries out what its role is.
//!
//! # In which order
//!
//! *To become primary*: the store and the spool become this agent's own, under the new term; the core
//! adopts what they hold; it judges again what the records had not heeded; it takes in the shadow; what
//! follows goes to the journal; then the voices start, and at last the gate opens. So nothing is said that
//! the journal does not have, and nothing that is in it is found twice.
//!
//! *To step back*: the gate closes before anything else; the voices end; what this agent has still done as
//! primary goes to its journal, from where it is handed over; the core lets go of it; the store and the
//! spool follow.

use std::{collections::BTreeMap, time::Instant};

use evenkeel_core::{
    alarm::AlarmEvent,
    input::{Datagram, Input},
    pair::{Role, record::Parts, term::Term},
    state::{Record, State},
    supervision::Part,
    time::Pretty,
};
use tracing::{error, info, warn};

use super::Driver;
use crate::{
    clock::{BootClock, Clock},
    ear::Batch,
    outbox,
    pair::{self, FromPair},
    peers::Raised,
    replica::{FromReplica, HandedTrap, Led},
    roles::{self, Roles, Word},
    store::Commit,
    supervisor::{SupervisorHandle, pulse},
};

impl Driver {
    /// Of a pair, and not primary.
    pub(super) const fn follows(&self) -> bool {
        self.agent.is_following()
    }

    /// What the pair's thread or the replica tells.
    pub(super) async fn heed_word(&mut self, word: Word) {
        match word {
            Word::Pair(event) => self.heed_pair(event).await,
            Word::Replica(said) => self.heed_replica(*said).await,
        }
    }

    async fn heed_pair(&mut self, event: FromPair) {
        pair::log(&event);
        match event {
            FromPair::Role { role: Role::Primary, term, .. } => self.lead(term).await,
            FromPair::Role { role: Role::Standby | Role::Undecided, .. } => {
                self.step_back().await;
                self.tell_supervisor(SupervisorHandle::handed_over);
            }
            FromPair::RestartUnasked => self.tell_supervisor(SupervisorHandle::nobody_takes_over),
            FromPair::Finding(found) => {
                let view = self.roles.as_ref().and_then(|roles| roles.pair.view());
                let refused = view.and_then(|view| view.channel.refused);
                let finding = roles::finding(&found, refused);
                if let Some(roles) = &mut self.roles {
                    roles.carried.found(finding.kind, &finding.object);
                }
                self.feed(&Input::Found(vec![finding]));
                self.drain().await;
            }
            // They are told in the log and in the status.
            FromPair::TookOver(_)
            | FromPair::SteppedBack { .. }
            | FromPair::MateStarted { .. }
            | FromPair::Stalled { .. }
            | FromPair::Problem(_) => {}
        }
    }

    /// PAIR-9: what has become of the mate's being asked to take over.
    fn tell_supervisor(&self, tell: impl FnOnce(&SupervisorHandle)) {
        if let Some(roles) = &self.roles
            && let Some(supervisor) = roles.voices.hub.supervisor()
        {
            tell(supervisor);
        }
    }

    async fn heed_replica(&mut self, said: FromReplica) {
        let follows = self.follows();
        let Some(roles) = &mut self.roles else { return };
        let now = Clock::now();
        match said {
            FromReplica::SayLocal => {
                roles.replica.local_all(self.agent.alarms().local().cloned().collect());
            }
            FromReplica::Prints(prints) => roles.shadow.confirm(&prints, now),
            FromReplica::MateLocal(_) | FromReplica::MateLocalAll(_) if follows => roles.hold(said),
            FromReplica::MateLocal(event) => {
                self.feed(&Input::MateAlarm { event: Box::new(event), now });
                self.drain().await;
            }
            FromReplica::MateLocalAll(alarms) => {
                self.feed(&Input::MateAlarms { alarms, now });
                self.drain().await;
            }
            FromReplica::HandOver { .. } if follows => {}
            FromReplica::HandOver { rows, records, taken } => {
                info!(
                    rows = rows.len(),
                    records = records.len(),
                    traps = taken.len(),
                    "the mate hands over what it did"
                );
                self.join(rows, records, taken).await;
            }
        }
    }

    /// Becomes primary, or begins another term as one.
    async fn lead(&mut self, term: Option<Term>) {
        let Some(roles) = &mut self.roles else { return };
        let began = Instant::now();
        let disk = pulse::at_disk(Part::Core);
        let led = roles.replica.lead(term).await;
        drop(disk);
        let read = began.elapsed();
        if !self.agent.is_following() {
            return;
        }
        let led = led.inspect_err(|error| {
            error!("this agent is primary without what its mate knew: {error}");
        });
        self.take_over(led.ok()).await;
        let (all, read) = (Pretty(began.elapsed()), Pretty(read));
        info!("took the state over in {all}, of which reading it took {read}");
        let held = self.roles.as_mut().map(|roles| std::mem::take(&mut roles.held));
        for said in held.unwrap_or_default() {
            Box::pin(self.heed_replica(said)).await;
        }
    }

    async fn take_over(&mut self, led: Option<Led>) {
        let end = self.roles.as_ref().map(|roles| roles.voices.end_of_journal());
        let cursor = outbox::last_cursor(&self.state_dir);
        let (mut state, mut deaf, mut last_number) = (State::default(), Default::default(), cursor);
        let (mut recovered, mut standings) = (None, BTreeMap::new());
        if let Some(Led { restored, recovered: spool, locals, missing, peers }) = led {
            standings = peers;
            if missing != Parts::NONE {
                warn!("this agent takes over without what it was never sent: {missing}");
            }
            for problem in restored.problems.iter().chain(&spool.problems) {
                error!("{problem}");
            }
            (state, deaf) = (restored.state, restored.deaf);
            last_number = cursor.max(spool.last).max(restored.heeded);
            self.events.extend(roles::untold(&mut state, locals));
            recovered = Some((spool, restored.heeded));
        }
        let now = Clock::now();
        self.feed(&Input::Adopt { state: Box::new(state), last_number, deaf, now });
        if let Some((spool, heeded)) = recovered {
            for taken in spool.entries_after(heeded) {
                pulse::beat(Part::Core);
                match taken {
                    Ok(taken) => self.feed(&Input::Replayed(Box::new(taken))),
                    Err(error) => {
                        error!("the spool cannot be read: {error}");
                        break;
                    }
                }
            }
        }
        let kept = self.roles.as_mut().map(|roles| roles.shadow.take(now)).unwrap_or_default();
        for kept in &kept {
            self.feed_trap(&kept.datagram());
        }
        self.drain().await;
        let raised = Raised::of(self.agent.alarms().active().values()).with_standings(standings);
        if let (Some(roles), Some(end)) = (&self.roles, end) {
            roles.voices.lead(raised, end).await;
            roles.gate.set_open(true);
        }
    }

    /// Is primary no longer, or not yet.
    async fn step_back(&mut self) {
        let Some(roles) = &self.roles else { return };
        // First of all: the mate may speak now.
        roles.gate.set_open(false);
        if self.agent.is_following() {
            return;
        }
        roles.voices.follow().await;
        self.drain().await;
        let last = self.all_changes();
        self.store.submit(last);
        self.feed(&Input::Relinquish { now: Clock::now() });
        if let Some(roles) = &mut self.roles {
            roles.held.clear();
            roles.keep_traps();
            let _disk = pulse::at_disk(Part::Core);
            roles.replica.follow().await;
        }
    }

    /// All records that have changed and are not on their way to the disk.
    pub(super) fn all_changes(&mut self) -> Commit {
        let mut last = self.commit_events();
        let (changed, removed) = self.agent.take_changes(usize::MAX, Clock::now());
        self.store.set_heeded(self.agent.last_number());
        last.records.extend(changed);
        last.removed = removed;
        last
    }

    /// Takes in what the mate did as primary while the two could not hear each other.
    async fn join(&mut self, rows: Vec<AlarmEvent>, records: Vec<Record>, taken: Vec<HandedTrap>) {
        let now = Clock::now();
        let mut state = self.agent.export(now);
        let name = self.agent.settings().agent.clone();
        self.events.extend(state.join(rows, records, &name));
        let last_number = self.agent.last_number();
        let deaf = Default::default();
        self.feed(&Input::Adopt { state: Box::new(state), last_number, deaf, now });
        for HandedTrap { taken, targets, heeded } in taken {
            self.feed(&Input::HandedOver { taken: Box::new(taken), targets, heeded });
        }
        self.drain().await;
        let raised = Raised::of(self.agent.alarms().active().values());
        if let Some(roles) = &self.roles {
            // Peers that the mate has found down are judged here from now on.
            roles.voices.hub.peer_monitor().follow().await;
            roles.voices.hub.peer_monitor().lead(raised).await;
        }
    }

    /// Traps that came while this agent is not primary (PAIR-12).
    pub(super) fn keep_traps(&mut self, batch: &Batch) {
        let Some(roles) = &mut self.roles else { return };
        for (meta, bytes) in batch.iter() {
            roles.shadow.keep(&super::datagram(meta, bytes));
        }
    }

    /// A trap that is taken in, and that the mate may have kept.
    pub(super) fn feed_trap(&mut self, datagram: &Datagram<'_>) {
        if let Some(roles) = &mut self.roles {
            roles.unconfirmed.note(datagram.source.ip(), datagram.bytes);
        }
        self.feed(&Input::Datagram(*datagram));
    }

    /// What a standby does each second: it has nothing to write.
    pub(super) fn let_go(&mut self) {
        if let Some(roles) = &mut self.roles {
            roles.shadow.expire(Clock::now());
        }
    }

    /// The records of all that was taken in have gone to the store.
    pub(super) fn confirm(&mut self) {
        if let Some(roles) = &mut self.roles {
            let prints = roles.unconfirmed.take();
            if !prints.is_empty() {
                roles.replica.prints(prints);
            }
        }
    }

    /// Of a pair, each second: what can be seen of it and is not told. The mate's name, once it has said
    /// it; and which alarms of an earlier run are over.
    pub(super) async fn look_at_pair(&mut self) {
        let Some(roles) = &mut self.roles else { return };
        let Some(view) = roles.pair.view() else { return };
        if let Some(trusted) = view.channel.trusted {
            roles.follow_trust(trusted);
        }
        let over = roles.carried.over(self.agent.alarms().local(), &view, Clock::now());
        if let Some(name) = &view.mate_name
            && self.agent.alarms().mate_name() != Some(name)
        {
            self.feed(&Input::MateName(name.clone()));
        }
        if !over.is_empty() {
            self.feed(&Input::Found(over));
            self.drain().await;
        }
    }

    /// Hands local alarm events to the primary, which journals them.
    pub(super) fn tell_primary(&mut self) {
        let Some(roles) = &self.roles else { return };
        for event in self.events.drain(..) {
            roles.replica.local(event);
        }
    }

    /// Before the end: what waits for a licence that does not come is let go of.
    pub(super) fn silence(&self) {
        if let Some(roles) = &self.roles
            && !roles.gate.may_speak(BootClock::now())
        {
            roles.gate.set_open(false);
        }
    }
}

/// The next word of the pair; none ever comes to an agent that is alone.
pub(super) async fn next_word(roles: &mut Option<Box<Roles>>) -> Word {
    match roles {
        Some(roles) => roles.next().await,
        None => std::future::pending().await,
    }
}
