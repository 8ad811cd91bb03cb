//! The standby's part: it offers what it has, hands over what the primary lacks, takes the copy, and
//! writes what comes after.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use evenkeel_core::{
    alarm::AlarmEvent,
    pair::{Role, record::Parts as StateParts, sync::Sync},
};

use super::{
    NOTHING, Side, Thread,
    primary::{last_print, off},
};
use crate::{
    replica::{
        FromReplica, convert,
        staging::Staging,
        wire::{self, CopyBegin, Offer, Op, Pulse, Wanted},
    },
    spool::{Entry, FOLLOWING, Stored},
    store::{Hander, Item, Now},
};

/// How many of the newest traps that somebody waits for are handed over.
const MOST_HANDED: u64 = 65_536;

/// A primary that this agent is the standby of.
#[derive(Debug)]
pub struct Receiving {
    /// Of the offer.
    pub session: u32,
    state: State,
}

#[derive(Debug)]
enum State {
    /// The primary has not begun a copy.
    Offered,
    /// A copy comes.
    Copying,
    /// Changes come.
    Live {
        /// What the primary said last, and when, once all that had waited for the copy has come.
        pulse: Option<(Pulse, Instant)>,
    },
}

impl Receiving {
    /// How far it is.
    pub fn sync(&self, staging: Option<&Staging>, now: Instant) -> Option<Sync> {
        match &self.state {
            State::Offered => None,
            State::Copying => {
                Some(Sync::Copying { missing: staging.map_or(NOTHING, Staging::missing) })
            }
            State::Live { pulse: None } => Some(Sync::Copying { missing: StateParts::NONE }),
            State::Live { pulse: Some((pulse, at)) } => {
                // A primary that says nothing may have gone on.
                let silent = now.saturating_duration_since(*at);
                let age = Duration::from_nanos(pulse.age_ns);
                (silent < Duration::from_secs(2))
                    .then_some(Sync::InSync { events: pulse.events, age })
            }
        }
    }
}

/// What was received and goes to the disk together.
#[derive(Debug, Default)]
pub struct Batch {
    items: Vec<Item>,
    entries: Vec<Entry>,
    /// What is told once it is there.
    tell: Vec<FromReplica>,
    pulse: Option<Pulse>,
    /// Something came that is to be acknowledged.
    any: bool,
}

impl Thread {
    /// Whether a primary takes this agent's local events.
    pub(super) const fn is_received(&self) -> bool {
        matches!(
            &self.side,
            Side::Standby(Receiving { state: State::Copying | State::Live { .. }, .. })
        )
    }

    /// Asks the mate for a copy, if this agent is to be its standby.
    pub(super) async fn ask(&mut self) {
        if !self.up || self.leads || self.role != Role::Standby {
            return;
        }
        if let Side::Standby(_) = self.side {
            return;
        }
        self.sessions = self.sessions.wrapping_add(1);
        let session = self.sessions;
        let (dir, spool_dir, now) = (self.dir.clone(), self.spool_dir(), (self.clock)());
        let last = *self.spool.safe().borrow();
        let offer = off(move || {
            let terms = Hander::open(&dir).ok()?.terms().ok()?;
            let spool = if last == 0 {
                Some((0, 0))
            } else if spool_dir.join(FOLLOWING).exists() {
                last_print(&spool_dir, last, &now).ok()?.map(|print| (last, print))
            } else {
                None
            };
            Some(Offer { session, terms, spool })
        })
        .await;
        // What can't be read can't be handed over either.
        let offer = offer.unwrap_or(Offer::of_nothing(session));
        self.side = Side::Standby(Receiving { session, state: State::Offered });
        self.push(&Op::Offer(offer));
    }

    /// Takes an operation of the primary.
    pub(super) async fn received(&mut self, op: Op, batch: &mut Batch) {
        let Side::Standby(receiving) = &mut self.side else { return };
        match (op, &mut receiving.state) {
            (Op::Wanted(wanted), State::Offered) if wanted.session == receiving.session => {
                self.hand_over(wanted).await;
            }
            (Op::CopyBegin(begin), _) if begin.session == receiving.session => {
                self.write(batch).await;
                self.copy_begins(begin);
                batch.any = true;
            }
            (Op::CopyEnd(session), State::Copying) if session == receiving.session => {
                self.copy_ends().await;
                batch.any = true;
            }
            (Op::Again(session), _) if session == receiving.session => {
                self.write(batch).await;
                self.drop_staging();
                self.side = Side::Neither;
                self.ask().await;
            }
            (_, State::Offered) => {}
            (op, State::Copying) => {
                batch.any = true;
                self.stage(op);
            }
            (op, State::Live { .. }) => {
                batch.any = true;
                self.gather(op, batch);
            }
        }
    }

    fn gather(&mut self, op: Op, batch: &mut Batch) {
        let now = (self.clock)();
        match op {
            Op::Trap(trap) => batch.entries.push(convert::entry(trap, &now)),
            Op::Peers(said) => self.hear_of_peers(said),
            Op::Pulse(pulse) => batch.pulse = Some(pulse),
            op => match convert::item(op, &now) {
                Some(Item::Prints(prints)) => batch.tell.push(FromReplica::Prints(prints)),
                Some(item) => {
                    if let Item::Row { event, .. } = &item {
                        self.locals.saw(event);
                    }
                    batch.items.push(item);
                }
                None => self.count(|stats| stats.unreadable_ops += 1),
            },
        }
    }

    fn hear_of_peers(&mut self, said: wire::Peers) {
        self.peers.hear(said);
        let known = self.peers.known() as u64;
        self.count(|stats| stats.peers = known);
    }

    /// Writes what was received, and acknowledges it.
    pub(super) async fn write(&mut self, batch: &mut Batch) {
        let Batch { items, entries, tell, pulse, any } = std::mem::take(batch);
        if !any {
            return;
        }
        let heeded = items.iter().rev().find_map(|item| match item {
            Item::Heeded(number) => Some(*number),
            _ => None,
        });
        let cursors: Vec<(String, u64)> = items
            .iter()
            .filter_map(|item| match item {
                Item::Cursor { target, spool: Some(number), .. } => Some((target.clone(), *number)),
                _ => None,
            })
            .collect();
        let other_targets = items.iter().any(|item| matches!(item, Item::Targets(_)));
        // Both are forced to the disk at once.
        let spooled = (!entries.is_empty()).then(|| self.spool.apply(entries));
        let stored = (!items.is_empty()).then(|| self.store.apply((self.clock)(), items));
        for written in [spooled, stored].into_iter().flatten() {
            match written.await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    return self.reconnect(&format!("the mate's state can't be written: {error}"));
                }
                Err(_) => return self.stop(),
            }
        }
        if let Some(number) = heeded {
            self.spool.checkpointed(number);
        }
        if other_targets {
            self.set_targets().await;
        }
        for (target, number) in cursors {
            self.spool.passed(&target, number);
        }
        for what in tell {
            self.say(what);
        }
        if !self.up {
            return;
        }
        let now = Instant::now();
        self.peers.is_alive(now);
        if let (Some(said), Side::Standby(Receiving { state: State::Live { pulse }, .. })) =
            (pulse, &mut self.side)
        {
            let first = pulse.is_none();
            *pulse = Some((said, now));
            if first {
                self.count(|stats| stats.copies_completed += 1);
                tracing::info!("this standby is in full synchronisation");
            }
            self.told = None;
        }
        let position = self.incoming.position;
        self.push(&Op::Ack(position));
        self.tell_sync(now, true);
    }

    fn copy_begins(&mut self, begin: CopyBegin) {
        match Staging::begin(&self.dir, begin) {
            Ok(staging) => self.staging = Some(staging),
            Err(error) => {
                return self.reconnect(&format!("the mate's copy can't be written: {error}"));
            }
        }
        if let Side::Standby(receiving) = &mut self.side {
            receiving.state = State::Copying;
        }
        self.count(|stats| stats.copies_begun += 1);
        let locals: Vec<AlarmEvent> = self.locals.iter().cloned().collect();
        for event in &locals {
            self.push_local(event);
        }
        self.say(FromReplica::SayLocal);
        self.tell_sync(Instant::now(), true);
    }

    /// Says a local alarm event to the primary.
    pub(super) fn push_local(&mut self, event: &AlarmEvent) {
        if let Some(row) = convert::row(0, event) {
            self.push(&Op::Local(row));
        }
    }

    fn stage(&mut self, op: Op) {
        let now = (self.clock)();
        let Some(staging) = &mut self.staging else { return };
        let staged = match op {
            Op::CopyWhole(whole) => {
                staging.is_whole(whole);
                Ok(())
            }
            Op::Peers(said) => {
                staging.peers = true;
                self.hear_of_peers(said);
                Ok(())
            }
            Op::Row(row) => {
                let staged = staging.take(&Op::Row(row.clone()), &now);
                if let Some(event) = convert::event(row) {
                    self.locals.saw(&event);
                }
                staged
            }
            Op::Alarm(_)
            | Op::Record(_)
            | Op::Engine(_)
            | Op::Cursor(_)
            | Op::Term(_)
            | Op::Heeded(_)
            | Op::Alive(_)
            | Op::Lag(_)
            | Op::Trap(_) => staging.take(&op, &now),
            // Nothing of a copy.
            _ => Ok(()),
        };
        if let Err(error) = staged {
            self.reconnect(&format!("the mate's copy can't be written: {error}"));
        }
    }

    async fn copy_ends(&mut self) {
        let Some(staging) = self.staging.take() else { return };
        let (now, heeded) = ((self.clock)(), staging.begin.heeded);
        if let Err(error) = staging.finish(&self.store, &self.spool, &now).await {
            return self.reconnect(&format!("the mate's copy can't be put in place: {error}"));
        }
        self.spool.checkpointed(heeded);
        self.set_targets().await;
        if let Side::Standby(receiving) = &mut self.side {
            receiving.state = State::Live { pulse: None };
        }
    }

    /// Lets the spool keep what the notification targets of the primary have not had.
    async fn set_targets(&self) {
        let dir = self.dir.clone();
        let cursors = off(move || Hander::open(&dir).ok()?.spool_cursors().ok()).await;
        // Otherwise it keeps more, for a while.
        if let Some(cursors) = cursors {
            self.spool.set_targets(cursors);
        }
    }

    fn drop_staging(&mut self) {
        if let Some(staging) = self.staging.take() {
            staging.drop_it();
        }
    }

    /// Uses what is whole of a copy that did not come to its end, if there was nothing here before.
    /// Gives back what was never here.
    pub(super) async fn salvage(&mut self, now: &Now) -> StateParts {
        let dir = self.dir.clone();
        let empty = off(move || Hander::open(&dir).ok()?.is_empty().ok()).await.unwrap_or(false);
        let Some(staging) = self.staging.take() else {
            return if empty && !self.leads { NOTHING } else { StateParts::NONE };
        };
        if !empty || self.leads {
            staging.drop_it();
            return StateParts::NONE;
        }
        match staging.salvage(&self.store, &self.spool, now).await {
            Ok(missing) => missing,
            Err(error) => {
                tracing::error!(error, "the part of a copy that had come can't be used");
                NOTHING
            }
        }
    }

    /// Gives the primary what it lacks.
    async fn hand_over(&mut self, wanted: Wanted) {
        let (dir, spool_dir, now) = (self.dir.clone(), self.spool_dir(), (self.clock)());
        let last = *self.spool.safe().borrow();
        let Wanted { session, terms, traps } = wanted;
        let read = off(move || {
            let hander = Hander::open(&dir).map_err(|error| error.to_string())?;
            let handed = hander.lacking(&terms, &now).map_err(|error| error.to_string())?;
            let needed = hander.spool_needed().map_err(|error| error.to_string())?;
            let heeded = hander.heeded().map_err(|error| error.to_string())?;
            let after = needed.max(last.saturating_sub(MOST_HANDED));
            let mut entries = Vec::new();
            if traps && after < last {
                let stored = Stored::open(&spool_dir, after, last, &now);
                let stored = stored.map_err(|error| error.to_string())?;
                let cursors: BTreeMap<_, _> = hander
                    .spool_cursors()
                    .map_err(|error| error.to_string())?
                    .into_iter()
                    .collect();
                entries.extend(stored.filter_map(Result::ok).filter_map(|mut entry| {
                    // Of one that is told nothing yet, it is not known.
                    let waits =
                        |name: &String| cursors.get(name).is_none_or(|at| *at < entry.number);
                    entry.targets.retain(waits);
                    (!entry.targets.is_empty() || entry.number > heeded).then_some(entry)
                }));
            }
            Ok::<_, String>((handed, entries, heeded))
        })
        .await;
        let now = (self.clock)();
        match read {
            Ok((handed, entries, heeded)) => {
                self.count(|stats| {
                    stats.handed_rows += handed.rows.len() as u64;
                    stats.handed_traps += entries.len() as u64;
                });
                for event in &handed.rows {
                    if let Some(row) = convert::row(0, event) {
                        self.push(&Op::HandRow(row));
                    }
                }
                for record in handed.records.iter().filter_map(convert::record) {
                    self.push(&Op::HandRecord(record));
                }
                self.push(&Op::HandHeeded(heeded));
                for entry in entries {
                    self.push(&Op::HandTrap(convert::trap(entry, &now)));
                }
            }
            Err(error) => {
                tracing::error!(error, "what the primary lacks can't be read, and is lost to it");
            }
        }
        self.push(&Op::HandEnd(session));
    }
}
