//! The primary's part: it answers a standby's offer, takes what is handed over, copies, and ships what
//! comes after.

use std::{
    collections::BTreeSet,
    io,
    path::Path,
    sync::{Arc, atomic::AtomicU64},
    time::Instant,
};

use evenkeel_core::pair::Role;
use tokio::sync::mpsc;

use super::{OUT, Side, Thread, WINDOW};
use crate::{
    replica::{
        FromReplica, HandedTrap, Replicated, Wait, convert,
        copying::{self, Chunk, Task},
        shipping::{Phase, Shipping, Source},
        wire::{CopyBegin, Offer, Op, Pulse, Wanted, Whole},
    },
    spool::{SpoolShipped, Stored, read_entries},
    store::{Handed, Hander, Item, Now, Shipped, Tap},
};

/// How many rows, and how many traps, are taken from a former primary.
const MOST_HANDED: usize = 65_536;

/// How many of the newest entries of the own spool are held against those that are handed over.
const KNOWN: u64 = 1_000_000;

impl Thread {
    /// Begins to give the standby what it asks for, if this agent can.
    pub(super) async fn serve(&mut self) {
        if !self.up || !self.leads || self.role != Role::Primary {
            return;
        }
        let Some(offer) = self.offer.take() else { return };
        let (dir, spool_dir, now) = (self.dir.clone(), self.spool_dir(), (self.clock)());
        let spool = offer.spool;
        let terms = offer.terms.clone();
        let looked = off(move || {
            let lacks = Hander::open(&dir).map_err(|error| error.to_string())?.lacks(&terms);
            let lacks = lacks.map_err(|error| error.to_string())?;
            Ok::<_, String>((lacks, is_prefix(&spool_dir, spool, &now)))
        })
        .await;
        let (lacks, adds) = match looked {
            Ok(looked) => looked,
            Err(error) => return self.reconnect(&format!("the own state can't be read: {error}")),
        };
        let session = offer.session;
        self.side =
            Side::Primary(Box::new(Shipping::new(offer, adds, self.out.position, Instant::now())));
        if lacks.is_empty() && adds {
            return self.copy().await;
        }
        self.push(&Op::Wanted(Wanted { session, terms: lacks, traps: !adds }));
    }

    /// Takes what a former primary hands over.
    pub(super) async fn handed(&mut self, op: Op) {
        let now = (self.clock)();
        let Side::Primary(shipping) = &mut self.side else { return };
        let session = shipping.session;
        let Phase::Asking { handed, traps, heeded } = &mut shipping.phase else { return };
        match op {
            Op::HandRow(row) if handed.rows.len() < MOST_HANDED => {
                handed.rows.extend(convert::event(row));
            }
            Op::HandRecord(record) => handed.records.extend(convert::read_record(record)),
            Op::HandHeeded(number) => *heeded = number,
            Op::HandTrap(trap) if traps.len() < MOST_HANDED => {
                let heeded = trap.number <= *heeded;
                let entry = convert::entry(trap, &now);
                let mut taken = entry.taken;
                taken.number = None;
                traps.push(HandedTrap { taken, targets: entry.targets, heeded });
            }
            Op::HandEnd(of) if of == session => {
                let (handed, traps) = (std::mem::take(handed), std::mem::take(traps));
                self.hand_on(handed, traps).await;
                self.copy().await;
            }
            _ => {}
        }
    }

    /// Tells the rest of the agent what was handed over and is not here.
    async fn hand_on(&mut self, handed: Handed, mut traps: Vec<HandedTrap>) {
        if !traps.is_empty() {
            let (spool_dir, now) = (self.spool_dir(), (self.clock)());
            let last = *self.spool.safe().borrow();
            traps = off(move || {
                let known = known(&spool_dir, last, &now);
                // What can't be read is not known: it comes once more rather than never.
                let known = known.unwrap_or_default();
                traps.retain(|trap| !known.contains(&convert::print(&trap.taken)));
                traps
            })
            .await;
        }
        self.count(|stats| {
            stats.handed_rows += handed.rows.len() as u64;
            stats.handed_traps += traps.len() as u64;
        });
        if !handed.rows.is_empty() || !traps.is_empty() {
            let Handed { rows, records } = handed;
            self.say(FromReplica::HandOver { rows, records, taken: traps });
        }
    }

    /// Begins a copy.
    async fn copy(&mut self) {
        let (store_tap, mut store) = tap();
        let (spool_tap, mut spool) = tap();
        self.spool.ship(spool_tap);
        self.store.ship(store_tap);
        let (snapshot, safe, passed) = match (store.next().await, spool.next().await) {
            (Some(Shipped::Begin(snapshot)), Some(SpoolShipped::Begin { safe, passed })) => {
                (snapshot, safe, passed)
            }
            (Some(Shipped::Failed(error)), _) => {
                return self.reconnect(&format!("the own state can't be read: {error}"));
            }
            // Both writers are gone: the agent stops.
            _ => return self.stop(),
        };
        let Side::Primary(shipping) = &mut self.side else { return };
        let mut after = snapshot.heeded.min(snapshot.passed).min(passed).min(safe);
        if shipping.adds {
            after = after.max(shipping.offer.spool.map_or(0, |(number, _)| number));
        }
        let begin = CopyBegin {
            session: shipping.session,
            first_seq: snapshot.first_seq,
            last_seq: snapshot.last_seq,
            adds: shipping.adds,
            last_number: safe,
            heeded: snapshot.heeded,
        };
        shipping.last = Replicated { seq: snapshot.last_seq, number: safe };
        shipping.sources = Some((store, spool));
        let task =
            Task { snapshot, spool_dir: self.spool_dir(), after, last: safe, clock: self.clock };
        let chunks = match copying::start(task) {
            Ok(chunks) => chunks,
            Err(error) => return self.reconnect(&error.to_string()),
        };
        if let Side::Primary(shipping) = &mut self.side {
            shipping.phase = Phase::Copying { chunks };
        }
        self.push(&Op::CopyBegin(begin));
        self.mark(0);
        self.count(|stats| stats.copies_begun += 1);
        self.tell_sync(Instant::now(), true);
    }

    /// A piece of the copy was read, or there is no more.
    pub(super) fn chunk(&mut self, chunk: Option<Chunk>) {
        match chunk {
            Some(Chunk::Ops(octets, ops)) => {
                self.out.push_octets(&octets);
                self.count(|stats| stats.sent_ops += ops);
                self.mark(0);
            }
            Some(Chunk::Failed(error)) => {
                self.reconnect(&format!("the own state can't be read: {error}"));
            }
            None => {
                for said in self.peers.say_all() {
                    self.push(&Op::Peers(said));
                }
                let Side::Primary(shipping) = &mut self.side else { return };
                shipping.phase = Phase::Live;
                let session = shipping.session;
                self.spool.release();
                self.push(&Op::CopyEnd(session));
                let position = self.out.position;
                let Side::Primary(shipping) = &mut self.side else { return };
                for whole in
                    [Whole::Alarms, Whole::Objects, Whole::Engines, Whole::Outbox, Whole::Spool]
                {
                    shipping.sent_whole(position, whole, Instant::now());
                }
            }
        }
    }

    /// The store has written something.
    pub(super) fn stored(&mut self, shipped: Option<Shipped>) {
        match shipped {
            Some(Shipped::Items(items)) => self.ship_items(items),
            Some(Shipped::Begin(_)) => {}
            Some(Shipped::Failed(error)) => {
                self.reconnect(&format!("the own state can't be read: {error}"));
            }
            None => self.begin_anew(),
        }
    }

    fn ship_items(&mut self, items: Vec<Item>) {
        let now = (self.clock)();
        let mut events = 0;
        for item in items {
            if let Item::Row { seq, .. } = &item {
                events += 1;
                if let Side::Primary(shipping) = &mut self.side {
                    shipping.last.seq = *seq;
                }
            }
            if let Some(op) = convert::op(item, &now) {
                self.push(&op);
            }
        }
        self.mark(events);
    }

    /// The spool has written something.
    pub(super) fn spooled(&mut self, shipped: Option<SpoolShipped>) {
        match shipped {
            Some(SpoolShipped::Entries(octets)) => self.ship_entries(&octets),
            Some(SpoolShipped::Begin { .. }) => {}
            None => self.begin_anew(),
        }
    }

    fn ship_entries(&mut self, octets: &[u8]) {
        let now = (self.clock)();
        for entry in read_entries(octets) {
            if let Side::Primary(shipping) = &mut self.side {
                shipping.last.number = entry.number;
            }
            self.push(&Op::Trap(convert::trap(entry, &now)));
        }
        self.mark(0);
    }

    /// Ships what the store and the spool have written before they began to follow.
    pub(super) fn ship_the_rest(&mut self) {
        loop {
            let Side::Primary(shipping) = &mut self.side else { return };
            let (Phase::Live, Some((store, spool))) = (&shipping.phase, &mut shipping.sources)
            else {
                return;
            };
            match (store.try_next(), spool.try_next()) {
                (None, None) => return,
                (stored, spooled) => {
                    if let Some(Shipped::Items(items)) = stored {
                        self.ship_items(items);
                    }
                    if let Some(SpoolShipped::Entries(octets)) = spooled {
                        self.ship_entries(&octets);
                    }
                }
            }
        }
    }

    /// Notes that what was pushed is under way.
    pub(super) fn mark(&mut self, events: u32) {
        let position = self.out.position;
        if let Side::Primary(shipping) = &mut self.side {
            shipping.sent(position, events, Instant::now());
        }
    }

    /// We have not kept up with the store or the spool: the standby is to ask for a copy again.
    fn begin_anew(&mut self) {
        if let Side::Primary(shipping) = &self.side {
            let session = shipping.session;
            tracing::warn!("the standby does not keep up, and is given a new copy");
            self.push(&Op::Again(session));
            self.stop_shipping();
        }
    }

    /// A copy that takes so long that more changes wait for its end than may begins anew.
    pub(super) fn look_after_copy(&mut self) {
        if let Side::Primary(shipping) = &self.side
            && let Phase::Copying { .. } = shipping.phase
            && let Some((store, spool)) = &shipping.sources
            && (store.shipped.is_closed() || spool.shipped.is_closed())
        {
            self.begin_anew();
        }
    }

    /// Says to the standby what has changed of the peers, if there is room: what changes meanwhile
    /// again is said once.
    pub(super) fn say_peers(&mut self) {
        let position = self.out.position;
        if let Side::Primary(shipping) = &self.side
            && matches!(shipping.phase, Phase::Live)
            && self.out.waiting() < OUT
            && shipping.under_way(position) < WINDOW
            && let Some(said) = self.peers.say()
        {
            self.push(&Op::Peers(said));
            self.mark(0);
        }
    }

    /// Says to the standby how it stands, and once that all that had waited for the copy has come.
    pub(super) fn pulse(&mut self, now: Instant) {
        let Side::Primary(shipping) = &mut self.side else { return };
        let (Phase::Live, Some((store, spool))) = (&shipping.phase, &shipping.sources) else {
            return;
        };
        let first = !shipping.is_caught_up();
        if first && !(store.shipped.is_empty() && spool.shipped.is_empty()) {
            return;
        }
        let (events, age) = shipping.lag(now);
        let age_ns = u64::try_from(age.as_nanos()).unwrap_or(u64::MAX);
        self.push(&Op::Pulse(Pulse { events, age_ns }));
        let position = self.out.position;
        if let Side::Primary(shipping) = &mut self.side {
            if first {
                shipping.sent_caught_up(position, now);
            } else {
                shipping.sent(position, 0, now);
            }
        }
    }

    /// The standby has everything up to this place of the stream.
    pub(super) fn acknowledged(&mut self, position: u64) {
        let now = Instant::now();
        if position > self.out.position {
            return self.reconnect("the standby acknowledges what was never sent");
        }
        let Side::Primary(shipping) = &mut self.side else { return };
        let in_sync_now = shipping.acknowledge(position, now);
        if in_sync_now {
            self.count(|stats| stats.copies_completed += 1);
            tracing::info!("the standby is in full synchronisation");
        }
        self.set_gate();
        self.tell_sync(now, in_sync_now);
    }

    /// Lets through what the mate has, or everything.
    pub(super) fn set_gate(&mut self) {
        let has = match (&self.side, self.wait) {
            (Side::Primary(shipping), Wait::Standby) => shipping.has(),
            _ => None,
        };
        self.gate.set(has.unwrap_or(Replicated::NO_MATTER));
    }

    /// Ships nothing any more. What waits for the mate waits no more.
    pub(super) fn stop_shipping(&mut self) {
        if let Side::Primary(_) = self.side {
            self.side = Side::Neither;
            self.told = None;
            self.spool.release();
            self.count(|stats| stats.in_sync = false);
        }
        self.set_gate();
    }
}

fn tap<T>() -> (Tap<T>, Source<T>) {
    let (sender, shipped) = mpsc::unbounded_channel();
    let waiting = Arc::new(AtomicU64::new(0));
    (Tap::new(sender, Arc::clone(&waiting)), Source { shipped, waiting })
}

/// Whether all that a standby has in its spool is in the one in `dir` too.
fn is_prefix(dir: &Path, spool: Option<(u64, u64)>, now: &Now) -> bool {
    match spool {
        None => false,
        Some((0, _)) => true,
        Some((number, print)) => {
            matches!(last_print(dir, number, now), Ok(Some(ours)) if ours == print)
        }
    }
}

/// The print of the entry `number`; nothing if it is not there.
pub(super) fn last_print(dir: &Path, number: u64, now: &Now) -> io::Result<Option<u64>> {
    let entry = Stored::open(dir, number.saturating_sub(1), number, now)?.next().transpose()?;
    Ok(entry.map(|entry| convert::print(&entry.taken)))
}

/// The prints of the newest entries up to `last`.
fn known(dir: &Path, last: u64, now: &Now) -> io::Result<BTreeSet<u64>> {
    Stored::open(dir, last.saturating_sub(KNOWN), last, now)?
        .map(|entry| entry.map(|entry| convert::print(&entry.taken)))
        .collect()
}

/// Does what may take a second beside the thread. The thread waits for it all the same, but its timers
/// are those of the runtime.
pub(super) async fn off<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
    }
}

/// What is offered when nothing is known.
impl Offer {
    /// An offer of an agent that has nothing.
    pub const fn of_nothing(session: u32) -> Offer {
        Offer { session, terms: Vec::new(), spool: None }
    }
}
