//! The thread between the mate on the one side and the store and the spool on the other. It is either
//! primary and ships ([`primary`]), or standby and receives ([`standby`]), or neither.

mod primary;
mod standby;

use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use evenkeel_core::pair::{Role, record::Parts as StateParts, sync::Sync};
use tokio::{
    sync::{mpsc, watch},
    time::MissedTickBehavior,
};

use self::standby::Receiving;
use super::{
    FromReplica, Led, Link, Order, Parts, ReplicaError, Replicated, Said, Stats, ToReplica, Wait,
    convert,
    locals::Locals,
    peers::Peers,
    shipping::{Phase, Shipping, Source},
    staging::{self, Staging},
    wire::{Heard, Incoming, Offer, Op, Outgoing, Took},
};
use crate::{
    spool::{self, Spool, SpoolShipped},
    store::{Now, Shipped, Store},
};

/// How often the clock is looked at.
const TICK: Duration = Duration::from_millis(100);

/// How often synchronisation is told even if it did not change.
const TELL: Duration = Duration::from_millis(500);

/// How many octets may be under way to a standby that has not acknowledged them.
const WINDOW: u64 = 16 << 20;

/// How many octets may wait for the channel before no more is taken from the store.
const OUT: usize = 1 << 20;

/// How many messages of the pair's thread are handled before their effects go to the disk, and how many
/// octets of frames: what takes the disk more than a second to write is acknowledged too late.
const TOGETHER: (usize, usize) = (64, 1 << 20);

/// Starts the thread.
pub fn spawn(
    parts: Parts,
    ordered: mpsc::UnboundedReceiver<Order>,
    tell: mpsc::UnboundedSender<FromReplica>,
    gate: watch::Sender<Replicated>,
    stats: Arc<Mutex<Stats>>,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    std::thread::Builder::new().name("replica".to_owned()).spawn(move || {
        let gate = Gate { replicated: gate, spool: Arc::clone(&parts.spool) };
        runtime.block_on(Thread::new(parts, tell, gate, stats).run(ordered));
    })?;
    Ok(())
}

/// Lets through what waits for the mate. However the thread ends, it is open then: nothing waits for
/// ever.
struct Gate {
    replicated: watch::Sender<Replicated>,
    spool: Arc<Spool>,
}

impl Gate {
    fn set(&self, to: Replicated) {
        let changed = self.replicated.send_if_modified(|now| {
            let changed = *now != to;
            *now = to;
            changed
        });
        if changed {
            self.spool.set_replicated(to.number);
        }
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.set(Replicated::NO_MATTER);
    }
}

/// What this agent is to the mate.
enum Side {
    Neither,
    Primary(Box<Shipping>),
    Standby(Receiving),
}

struct Thread {
    store: Arc<Store>,
    spool: Arc<Spool>,
    dir: PathBuf,
    link: Link,
    heard: Option<mpsc::UnboundedReceiver<ToReplica>>,
    tell: mpsc::UnboundedSender<FromReplica>,
    gate: Gate,
    stats: Arc<Mutex<Stats>>,
    clock: fn() -> Now,
    wait: Wait,
    role: Role,
    /// The store and the spool lead.
    leads: bool,
    up: bool,
    out: Outgoing,
    incoming: Incoming,
    stream: u32,
    sessions: u32,
    side: Side,
    /// The mate asks for a copy, and we can't give it yet.
    offer: Option<Offer>,
    /// A copy that has not come to its end, also while the channel is down.
    staging: Option<Staging>,
    locals: Locals,
    peers: Peers,
    told: Option<(Sync, Instant)>,
}

/// Something happened.
#[allow(clippy::large_enum_variant, reason = "there is one of them at a time")]
enum Event {
    Ordered(Option<Order>),
    Heard(Option<ToReplica>),
    MaySend(Option<mpsc::OwnedPermit<Vec<u8>>>),
    Chunk(Option<super::copying::Chunk>),
    Stored(Option<Shipped>),
    Spooled(Option<SpoolShipped>),
    Tick,
}

impl Thread {
    fn new(
        parts: Parts,
        tell: mpsc::UnboundedSender<FromReplica>,
        gate: Gate,
        stats: Arc<Mutex<Stats>>,
    ) -> Thread {
        // Another than that of a run before, whose frames may still be under way.
        let stream = (parts.clock)().moment.mono.as_nanos() as u32;
        Thread {
            store: parts.store,
            spool: parts.spool,
            dir: parts.state_dir,
            link: parts.link,
            heard: Some(parts.heard),
            tell,
            gate,
            stats,
            clock: parts.clock,
            wait: parts.wait,
            role: Role::Undecided,
            leads: true,
            up: false,
            out: Outgoing::new(stream),
            incoming: Incoming::default(),
            stream,
            sessions: stream,
            side: Side::Neither,
            offer: None,
            staging: None,
            locals: Locals::default(),
            peers: Peers::default(),
            told: None,
        }
    }

    async fn run(mut self, mut ordered: mpsc::UnboundedReceiver<Order>) {
        self.finish_earlier().await;
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let Some(mut heard) = self.heard.take() else { return };
        loop {
            match self.next(&mut ordered, &mut heard, &mut tick).await {
                Event::Ordered(None) | Event::Heard(None) => break,
                Event::Ordered(Some(order)) => {
                    // What came before it goes before it: a takeover finds all that the mate had sent.
                    for _ in 0..heard.len() {
                        let Ok(message) = heard.try_recv() else { break };
                        self.heard(message, &mut heard).await;
                    }
                    self.ordered(order).await;
                }
                Event::Heard(Some(message)) => self.heard(message, &mut heard).await,
                Event::MaySend(Some(permit)) => self.send(permit),
                // The pair's thread is gone, and with it whoever would tell us so.
                Event::MaySend(None) => break,
                Event::Chunk(chunk) => self.chunk(chunk),
                Event::Stored(shipped) => self.stored(shipped),
                Event::Spooled(shipped) => self.spooled(shipped),
                Event::Tick => self.tick(),
            }
        }
        self.stop_shipping();
    }

    async fn next(
        &mut self,
        ordered: &mut mpsc::UnboundedReceiver<Order>,
        heard: &mut mpsc::UnboundedReceiver<ToReplica>,
        tick: &mut tokio::time::Interval,
    ) -> Event {
        let may_take = self.out.waiting() < OUT;
        let position = self.out.position;
        let (mut chunks, mut store, mut spool) = (None, None, None);
        if let Side::Primary(shipping) = &mut self.side
            && may_take
            && shipping.under_way(position) < WINDOW
        {
            match &mut shipping.phase {
                Phase::Asking { .. } => {}
                Phase::Copying { chunks: more } => chunks = Some(more),
                Phase::Live => {
                    if let Some((of_store, of_spool)) = &mut shipping.sources {
                        (store, spool) = (Some(of_store), Some(of_spool));
                    }
                }
            }
        }
        let sends = self.up && self.out.is_waiting();
        tokio::select! {
            order = ordered.recv() => Event::Ordered(order),
            message = heard.recv() => Event::Heard(message),
            permit = self.link.frames.clone().reserve_owned(), if sends => Event::MaySend(permit.ok()),
            chunk = of(&mut chunks) => Event::Chunk(chunk),
            shipped = source(&mut store) => Event::Stored(shipped),
            shipped = source(&mut spool) => Event::Spooled(shipped),
            _ = tick.tick() => Event::Tick,
        }
    }

    fn send(&mut self, permit: mpsc::OwnedPermit<Vec<u8>>) {
        if let Some(frame) = self.out.next() {
            self.count(|stats| stats.sent_bytes += frame.len() as u64);
            permit.send(frame);
        }
    }

    fn push(&mut self, op: &Op) {
        self.out.push(op);
        self.count(|stats| stats.sent_ops += 1);
    }

    async fn ordered(&mut self, order: Order) {
        match order {
            Order::Local(event) => {
                if self.is_received() {
                    self.push_local(&event);
                }
                if self.locals.push(event) {
                    self.count(|stats| stats.locals_dropped += 1);
                }
            }
            Order::LocalAll(alarms) => {
                if self.is_received() {
                    let alarms =
                        alarms.iter().filter_map(|alarm| serde_json::to_string(alarm).ok());
                    let alarms = Op::LocalAll(alarms.collect());
                    self.push(&alarms);
                }
            }
            // What a monitor still says that was ended, as this agent has stepped back, is of no use.
            Order::Peers(changes) if self.leads => self.peers.changed(changes),
            Order::Peers(_) => {}
            Order::Wait(wait) => {
                self.wait = wait;
                self.set_gate();
            }
            Order::Lead(term, answer) => {
                let led = self.lead(term).await;
                // Whoever asked may be gone.
                let _ = answer.send(led);
            }
            Order::Follow(answer) => {
                self.follow().await;
                let _ = answer.send(());
            }
        }
    }

    async fn heard(&mut self, first: ToReplica, more: &mut mpsc::UnboundedReceiver<ToReplica>) {
        let mut batch = standby::Batch::default();
        let mut next = Some(first);
        let (mut handled, mut octets) = (0, 0);
        while let Some(message) = next {
            match message {
                ToReplica::Frame(frame) => {
                    octets += frame.len();
                    self.frame(&frame, &mut batch).await;
                }
                other => {
                    self.write(&mut batch).await;
                    self.changed(other).await;
                }
            }
            handled += 1;
            let more_fits = handled < TOGETHER.0 && octets < TOGETHER.1;
            next = if more_fits { more.try_recv().ok() } else { None };
        }
        self.write(&mut batch).await;
    }

    async fn changed(&mut self, message: ToReplica) {
        match message {
            ToReplica::Frame(_) => {}
            ToReplica::Up { mate_name, mate_version } => {
                tracing::debug!(mate_name, %mate_version, "the state channel is up");
                self.stop();
                self.stream = self.stream.wrapping_add(1);
                self.out = Outgoing::new(self.stream);
                self.incoming = Incoming::default();
                (self.up, self.offer) = (true, None);
                self.ask().await;
            }
            ToReplica::Down => {
                self.stop();
                (self.up, self.offer) = (false, None);
            }
            ToReplica::Role { role, .. } => {
                self.role = role;
                if role != Role::Primary {
                    self.stop_shipping();
                }
                self.ask().await;
                self.serve().await;
            }
        }
    }

    async fn frame(&mut self, frame: &[u8], batch: &mut standby::Batch) {
        self.count(|stats| stats.received_bytes += frame.len() as u64);
        if !self.up {
            self.count(|stats| stats.stray_frames += 1);
            return;
        }
        match self.incoming.take(frame) {
            Ok(Took::On | Took::Began) => {}
            Ok(Took::Stray) => {
                self.count(|stats| stats.stray_frames += 1);
                return;
            }
            Err(broken) => return self.reconnect(&broken.to_string()),
        }
        loop {
            match self.incoming.next() {
                Ok(Some(Heard::Op(op))) => {
                    self.count(|stats| stats.received_ops += 1);
                    self.op(op, batch).await;
                }
                Ok(Some(Heard::Unknown)) => self.count(|stats| stats.unknown_ops += 1),
                Ok(Some(Heard::Unreadable)) => self.count(|stats| stats.unreadable_ops += 1),
                Ok(None) => break,
                Err(broken) => return self.reconnect(&broken.to_string()),
            }
        }
    }

    async fn op(&mut self, op: Op, batch: &mut standby::Batch) {
        match op {
            Op::Offer(offer) => {
                self.stop_shipping();
                self.offer = Some(offer);
                self.serve().await;
            }
            Op::Withdraw(session) => {
                if self.offer.as_ref().is_some_and(|offer| offer.session == session) {
                    self.offer = None;
                }
                if let Side::Primary(shipping) = &self.side
                    && shipping.session == session
                {
                    self.stop_shipping();
                }
            }
            Op::HandRow(_)
            | Op::HandRecord(_)
            | Op::HandHeeded(_)
            | Op::HandTrap(_)
            | Op::HandEnd(_) => {
                self.handed(op).await;
            }
            Op::Ack(position) => self.acknowledged(position),
            Op::Local(row) => {
                if let Some(event) = convert::event(row) {
                    self.say(FromReplica::MateLocal(event));
                }
            }
            Op::LocalAll(alarms) => {
                let alarms = alarms.iter().filter_map(|alarm| serde_json::from_str(alarm).ok());
                self.say(FromReplica::MateLocalAll(alarms.collect()));
            }
            op => self.received(op, batch).await,
        }
    }

    /// Says something to the rest of the agent.
    fn say(&self, what: FromReplica) {
        // Nobody listens while the agent stops.
        let _ = self.tell.send(what);
    }

    fn tick(&mut self) {
        let now = Instant::now();
        if let Side::Primary(shipping) = &self.side {
            if let Some(why) = shipping.is_stuck(now) {
                return self.reconnect(why);
            }
            self.look_after_copy();
            self.say_peers();
            self.pulse(now);
        }
        self.tell_sync(now, false);
    }

    /// How far synchronisation is, as this agent knows it.
    fn sync(&self, now: Instant) -> Option<Sync> {
        match &self.side {
            Side::Neither => None,
            Side::Primary(shipping) => Some(shipping.sync(now)),
            Side::Standby(receiving) => receiving.sync(self.staging.as_ref(), now),
        }
    }

    /// Tells it, if it is time: at once where it is another state, and else from time to time.
    fn tell_sync(&mut self, now: Instant, at_once: bool) {
        let Some(sync) = self.sync(now) else { return };
        let due = self.told.is_none_or(|(told, at)| {
            let other = match (told, sync) {
                (Sync::InSync { events, .. }, Sync::InSync { events: now, .. }) => {
                    at_once && events != now
                }
                (told, sync) => told != sync,
            };
            other || now.saturating_duration_since(at) >= TELL
        });
        if due {
            self.told = Some((sync, now));
            let _ = self.link.said.send(Said::Sync(sync));
            self.count(|stats| {
                (stats.in_sync, stats.lag_events, stats.lag) = match sync {
                    Sync::InSync { events, age } => (true, events.into(), age),
                    Sync::Copying { .. } => (false, 0, Duration::ZERO),
                };
            });
        }
    }

    /// The channel is of no more use.
    fn reconnect(&mut self, why: &str) {
        tracing::warn!(why, "the state channel to the mate is closed and opened again");
        self.stop();
        self.up = false;
        self.count(|stats| stats.reconnects += 1);
        let _ = self.link.said.send(Said::Reconnect(why.to_owned()));
    }

    /// Nothing is shipped or received any more; what waits for the mate waits no more.
    fn stop(&mut self) {
        self.stop_shipping();
        self.side = Side::Neither;
        self.told = None;
        self.count(|stats| stats.in_sync = false);
    }

    /// Lets the store and the spool lead.
    async fn lead(
        &mut self,
        term: Option<evenkeel_core::pair::term::Term>,
    ) -> Result<Led, ReplicaError> {
        let now = (self.clock)();
        self.finish_earlier().await;
        let missing = self.salvage(&now).await;
        if let Side::Standby(receiving) = &self.side
            && self.up
        {
            let session = receiving.session;
            self.push(&Op::Withdraw(session));
        }
        if let Side::Standby(_) = self.side {
            self.stop();
        }
        // One that leads already goes on with what its own monitor tells.
        let peers = if self.leads { BTreeMap::new() } else { self.peers.take(Instant::now()) };
        self.store.lead();
        self.spool.lead();
        self.store.set_term(term);
        self.leads = true;
        let (restored, recovered) = (self.store.reread(now.clone()), self.spool.reread(now));
        let restored = restored.await.map_err(|_| ReplicaError::Gone)?;
        let recovered = recovered.await.map_err(|_| ReplicaError::Gone)?;
        let restored = restored.map_err(ReplicaError::Store)?;
        let locals = self.locals.take();
        self.serve().await;
        Ok(Led { restored, recovered, locals, peers, missing })
    }

    /// Lets the store and the spool follow, after all that was submitted is written and shipped.
    async fn follow(&mut self) {
        let (store, spool) = (self.store.follow(), self.spool.follow());
        // A writer that is gone writes nothing any more, which is as good.
        let _ = store.await;
        let _ = spool.await;
        self.ship_the_rest();
        self.stop_shipping();
        self.leads = false;
        self.peers = Peers::default();
        self.ask().await;
    }

    /// Puts a copy in place that an earlier run, or an attempt that failed, had whole.
    async fn finish_earlier(&mut self) {
        if !staging::is_left(&self.dir) {
            return;
        }
        let follows = !self.leads;
        if !follows {
            let (store, spool) = (self.store.follow(), self.spool.follow());
            let _ = store.await;
            let _ = spool.await;
        }
        let now = (self.clock)();
        let finished = staging::finish_earlier(&self.dir, &self.store, &self.spool, &now).await;
        if let Err(error) = finished {
            tracing::error!(error, "a copy of the mate's state could not be put in place");
        }
        if !follows {
            self.store.lead();
            self.spool.lead();
        }
    }

    fn spool_dir(&self) -> PathBuf {
        self.dir.join(spool::DIRECTORY)
    }

    fn count(&self, change: impl FnOnce(&mut Stats)) {
        change(&mut self.stats.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// The next of a channel, if there is one to wait for.
async fn of<T>(channel: &mut Option<&mut mpsc::Receiver<T>>) -> Option<T> {
    match channel {
        Some(channel) => channel.recv().await,
        None => std::future::pending().await,
    }
}

async fn source<T>(source: &mut Option<&mut Source<T>>) -> Option<T> {
    match source {
        Some(source) => source.next().await,
        None => std::future::pending().await,
    }
}

/// Nothing of the mate's state is here.
const NOTHING: StateParts = StateParts::ALL;
