//! The loop of the pair's thread: takes in what came, says how late it is, and carries out what
//! follows.
//!
//! ```text
//!        wait for a datagram, a frame, a word, a file, or the deadline
//!          │
//!          v
//!   now = the clock
//!   read the sockets empty, with the kernel's stamps ──> Heartbeat, Witness
//!   take all that waits in channels                  ──> Channel, Record, Sync, Order, Kept, …
//!   Now(now)                                          whatever came before it has been handed in
//!   licence to the gate; events, file, questions, heartbeats, record out; the view
//! ```
//!
//! What was received before a deadline counts before it, however late this thread gets the CPU: the
//! clock is read first, and then what the kernel has received until then.

use std::{
    collections::BTreeMap,
    future::poll_fn,
    sync::{Arc, atomic::Ordering},
    task::Poll,
};

use anyhow::Context as _;
use evenkeel_core::{
    pair::{
        Event, Finding, Identity, Input, Order, Pair, Refusal, Role,
        message::{Heartbeat, Message, RoleSaid},
        paths::{Channel as ChannelState, Via, Wrong},
        term::{Slot, Term},
        version::Version,
        witness::Testimony,
    },
    supervision::Part,
    time::Time,
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::sleep,
};

use super::{
    Beginning, Configured, FRAMES, FromPair, PairHandle, Started, ToPair, ToReplica, View,
    channel::{self, Channel, Link, counters::Refusal as Refused},
    directory::Directory,
    kept::{Keeper, KeptFile, Wrote},
    keys,
    paths::Paths,
    seal::{self, Opened, Seals},
    secrets,
    seen::Seen,
    trust::Trust,
    view::{ChannelView, PathView},
    witnesses::Witnesses,
};
use crate::{
    clock::{BootClock, Reading},
    gate::Gate,
    supervisor::pulse::{Pulse, SIGN},
};

/// The version that the mate is told, whole in the binary and after words that stand nowhere else: so that
/// the test of two versions can write another one into a copy of it.
static VERSION: &str = concat!("this agent pairs as version ", env!("CARGO_PKG_VERSION"));

/// The version of this agent. Cargo's manifest has three numbers.
fn version() -> Version {
    let said = std::hint::black_box(VERSION);
    let (_, numbers) = said.rsplit_once(' ').unwrap_or_default();
    let mut numbers = numbers.split('.').map(|number| number.parse().unwrap_or(0));
    let mut next = || numbers.next().unwrap_or(0);
    Version { major: next(), minor: next(), patch: next() }
}

/// How many words and frames are taken in between two looks at the sockets.
const IN_A_ROW: usize = 64;

/// Starts the thread. What outlives this run, its number above all, is on the disk when this returns.
///
/// # Errors
///
/// The keys or what was kept can't be read or written, or there is no thread to be had.
pub fn start(beginning: Beginning) -> anyhow::Result<Started> {
    let Beginning { configured, name, state_dir, boot_id, gate } = beginning;
    let slot = configured.pair.slot;
    let directory = Directory::of(&state_dir);
    let keys = keys::Identity::load_or_make(&directory).context("this agent has no key")?;
    let file = KeptFile::new(&state_dir, &boot_id);
    let found = file.begin(slot, BootClock::both())?;
    let mut problems: Vec<String> = found.problem.into_iter().collect();
    if let Err(error) = Trust::of(&directory).read() {
        problems.push(error.to_string());
    }

    let (told_sender, told) = mpsc::unbounded_channel();
    let (frames_sender, frames) = mpsc::channel(FRAMES);
    let (events_sender, events) = mpsc::unbounded_channel();
    let (replica_sender, replica) = mpsc::unbounded_channel();
    let (wrote_sender, wrote) = mpsc::unbounded_channel();
    let keeper = Keeper::spawn(file, found.run, wrote_sender).context("cannot start a thread")?;
    let identity = Identity { slot, run: found.run, version: version() };
    let now = BootClock::now();
    let settings = configured.settings(true);
    let pair = Pair::new(identity, settings, &found.kept, found.away, now);
    let ways = Ways { told, frames, events: events_sender, replica: replica_sender, wrote };
    let seals = secrets::seals(&directory, slot);
    let carries = Carries { keys: Arc::new(keys), directory, seals, keeper };
    let (view_sender, view) = watch::channel(None);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start a runtime")?;
    std::thread::Builder::new()
        .name("pair".to_owned())
        .spawn(move || {
            runtime.block_on(async move {
                let known = Known { name, identity, configured, problems };
                Thread::new(pair, known, ways, carries, gate, view_sender).run().await;
            });
        })
        .context("cannot start a thread")?;
    let handle = PairHandle { told: told_sender, frames: frames_sender, view };
    Ok(Started { handle, events, replica })
}

/// The channels that lead here and away.
struct Ways {
    told: mpsc::UnboundedReceiver<ToPair>,
    frames: mpsc::Receiver<Vec<u8>>,
    events: mpsc::UnboundedSender<FromPair>,
    replica: mpsc::UnboundedSender<ToReplica>,
    wrote: mpsc::UnboundedReceiver<Wrote>,
}

/// What carries to the mate and to the disk.
struct Carries {
    keys: Arc<keys::Identity>,
    directory: Directory,
    seals: Seals,
    keeper: Keeper,
}

/// What is known beside the machine.
struct Known {
    name: String,
    identity: Identity,
    configured: Configured,
    /// Of the start; they stay.
    problems: Vec<String>,
}

/// What ends a wait.
enum Woken {
    /// A datagram may be there, or it is time.
    Look,
    Told(Option<ToPair>),
    Channel(Option<channel::Event>),
    Wrote(Option<Wrote>),
}

/// The state of the loop.
struct Thread {
    pair: Pair,
    known: Known,
    gate: Gate,
    view: watch::Sender<Option<Arc<View>>>,
    told: mpsc::UnboundedReceiver<ToPair>,
    events: mpsc::UnboundedSender<FromPair>,
    replica: mpsc::UnboundedSender<ToReplica>,
    wrote: mpsc::UnboundedReceiver<Wrote>,
    keeper: Keeper,
    seals: Seals,
    paths: Paths,
    witnesses: Witnesses,
    channel: Channel,
    happened: mpsc::UnboundedReceiver<channel::Event>,
    link: watch::Sender<Option<Link>>,
    /// What the replica was told last.
    told_role: (Role, Option<Term>),
    orders: Vec<(Order, oneshot::Sender<Result<(), Refusal>>)>,
    stopping: Option<oneshot::Sender<()>>,
    seen: Seen,
}

impl Thread {
    fn new(
        pair: Pair,
        known: Known,
        ways: Ways,
        carries: Carries,
        gate: Gate,
        view: watch::Sender<Option<Arc<View>>>,
    ) -> Thread {
        let now = BootClock::now();
        let Ways { told, frames, events, replica, wrote } = ways;
        let Carries { keys, directory, seals, keeper } = carries;
        let configured = &known.configured;
        let options = known.channel_options();
        let (channel, happened) = channel::start(options, keys, &directory, seals.clone());
        let (link, linked) = watch::channel(None);
        tokio::spawn(forward(frames, linked));
        let paths = Paths::open(configured.ends(), now);
        let witnesses =
            Witnesses::open(configured.pair.witnesses.clone(), configured.targets.clone(), now);
        Thread {
            told_role: (pair.role(), None),
            seen: Seen::new(pair.channel(), now),
            pair,
            known,
            gate,
            view,
            told,
            events,
            replica,
            wrote,
            keeper,
            seals,
            paths,
            witnesses,
            channel,
            happened,
            link,
            orders: Vec::new(),
            stopping: None,
        }
    }

    async fn run(mut self) {
        let pulse = Pulse::of_thread(Part::StateChannel);
        self.tell_settings(BootClock::now());
        loop {
            pulse.beat();
            if self.turn() {
                // The state channel's tasks have their turn, too.
                tokio::task::yield_now().await;
                continue;
            }
            match self.wait().await {
                Woken::Look => {}
                Woken::Told(Some(told)) => self.hear(told, BootClock::now()),
                // Nobody is left who could ask for anything.
                Woken::Told(None) => return,
                Woken::Channel(Some(event)) => self.hear_channel(event, BootClock::now()),
                Woken::Wrote(Some(wrote)) => self.hear_wrote(wrote, BootClock::now()),
                // What has ended has nothing more to say, and the next turn goes on without it.
                Woken::Channel(None) | Woken::Wrote(None) => {}
            }
        }
    }

    async fn wait(&mut self) -> Woken {
        let Thread { pair, told, happened, wrote, paths, witnesses, .. } = self;
        let until = pair.next_deadline().since(BootClock::now()).min(SIGN);
        let readable = poll_fn(|cx| {
            let (paths, witnesses) = (paths.poll_readable(cx), witnesses.poll_readable(cx));
            if paths.is_ready() || witnesses.is_ready() { Poll::Ready(()) } else { Poll::Pending }
        });
        tokio::select! {
            biased;
            () = readable => Woken::Look,
            () = sleep(until) => Woken::Look,
            wrote = wrote.recv(), if !wrote.is_closed() => Woken::Wrote(wrote),
            event = happened.recv(), if !happened.is_closed() => Woken::Channel(event),
            told = told.recv() => Woken::Told(told),
        }
    }

    /// One turn. Returns whether there is more to take in at once.
    fn turn(&mut self) -> bool {
        let reading = BootClock::both();
        let now = reading.time;
        let behind = self.read_paths(now);
        for answer in self.witnesses.read(now) {
            let (asked, at) = (answer.asked, answer.at);
            self.pair.handle(Input::Witness { asked, testimony: Testimony::Answers, at });
        }
        let mut more = behind.is_some();
        more |= self.take_in(now);
        self.pair.handle(Input::Now(behind.map_or(now, |behind| behind.min(now))));
        self.gate.set_licence(self.pair.speaks_until());
        self.carry_out(reading);
        self.publish(now);
        if self.pair.is_gone(now)
            && let Some(stopping) = self.stopping.take()
        {
            // Who asked may have stopped waiting.
            let _ = stopping.send(());
        }
        more
    }

    // ---- what comes in ----

    /// Reads what has come by the heartbeat paths. Returns up to which moment, if not all.
    fn read_paths(&mut self, now: Time) -> Option<Time> {
        let Thread { pair, known, seals, paths, seen, .. } = self;
        let mates = known.configured.mates();
        let (mut heard, mut answers) = (Vec::new(), Vec::new());
        let behind = paths.read(now, |received| {
            if mates.get(usize::from(received.path)) != Some(&received.source) {
                seen.strangers += 1;
                return;
            }
            let mut octets = received.octets.to_vec();
            match seals.open(&mut octets) {
                Opened::Heartbeat(octets) => match postcard::from_bytes::<Heartbeat>(octets) {
                    Ok(heartbeat) => {
                        let (via, at) = (Via::Path(received.path), received.at);
                        heard.push((received.path, at));
                        pair.handle(Input::Heartbeat { via, heartbeat, at });
                    }
                    Err(_) => seen.unreadable += 1,
                },
                Opened::Answer(greeting) => answers.push((received.path, greeting)),
                Opened::Nothing => {}
            }
        });
        for (path, at) in heard {
            paths.heard(path, at);
            seen.mate_heard = seen.mate_heard.max(at);
        }
        for (path, greeting) in answers {
            paths.send_on(path, greeting.as_ref(), now);
        }
        behind
    }

    /// Takes in what waits in the channels. Returns whether there may be more.
    fn take_in(&mut self, now: Time) -> bool {
        for _ in 0..IN_A_ROW {
            let mut any = false;
            if let Ok(wrote) = self.wrote.try_recv() {
                self.hear_wrote(wrote, now);
                any = true;
            }
            if let Ok(event) = self.happened.try_recv() {
                self.hear_channel(event, now);
                any = true;
            }
            if let Ok(told) = self.told.try_recv() {
                self.hear(told, now);
                any = true;
            }
            if !any {
                return false;
            }
        }
        true
    }

    fn hear_wrote(&mut self, wrote: Wrote, at: Time) {
        match wrote {
            Wrote::Kept(known) => {
                self.seen.not_kept = None;
                self.pair.handle(Input::Kept { known, at });
            }
            Wrote::Failing(why) => {
                self.seen.not_kept = Some(format!("{why}; this agent begins no term until it can"));
            }
        }
    }

    fn hear_channel(&mut self, event: channel::Event, at: Time) {
        match event {
            channel::Event::Up { mate, link } => {
                self.link.send_replace(Some(link));
                self.seen.set_channel(ChannelState::Up, at);
                self.seen.mate_name = Some(mate.name.clone());
                let (mate_name, mate_version) = (mate.name, mate.version);
                self.pair.handle(Input::Channel { channel: ChannelState::Up, at });
                self.tell_replica(ToReplica::Up { mate_name, mate_version });
            }
            channel::Event::Down(wrong) => {
                let was_up = self.link.send_replace(None).is_some();
                let channel = ChannelState::Down(wrong);
                self.seen.set_channel(channel, at);
                self.pair.handle(Input::Channel { channel, at });
                if was_up {
                    self.tell_replica(ToReplica::Down);
                }
            }
            channel::Event::Refused(why) => self.seen.refused = Some(why.name()),
            channel::Event::Control(octets) => match postcard::from_bytes(&octets) {
                Ok(Message::Heartbeat(heartbeat)) => {
                    self.seen.channel_heard = Some(at);
                    self.seen.mate_heard = self.seen.mate_heard.max(at);
                    let (via, heartbeat) = (Via::Channel, *heartbeat);
                    self.pair.handle(Input::Heartbeat { via, heartbeat, at });
                }
                Ok(Message::Record(record)) => self.pair.handle(Input::Record { record, at }),
                Err(_) => self.seen.unreadable += 1,
            },
            channel::Event::Bulk(frame) => self.tell_replica(ToReplica::Frame(frame.to_vec())),
        }
    }

    fn hear(&mut self, told: ToPair, at: Time) {
        match told {
            ToPair::Sync(sync) => {
                self.seen.sync(sync, at);
                self.pair.handle(Input::Sync { sync, at });
            }
            ToPair::Reconnect => {
                if let Some(link) = &*self.link.borrow() {
                    link.close(Wrong::Read);
                }
            }
            ToPair::Parts { failing } => self.pair.handle(Input::Parts { failing, at }),
            ToPair::Host { gateways, network_up } => {
                self.witnesses.set_gateways(gateways);
                self.seen.network_up = network_up;
                self.pair.handle(Input::Network { up: network_up, at });
                self.tell_settings(at);
            }
            ToPair::Order(order, answer) => {
                self.orders.push((order, answer));
                self.pair.handle(Input::Order { order, at });
            }
            ToPair::Settings(configured) => {
                self.known.configured = *configured;
                let configured = &self.known.configured;
                self.paths.replace(configured.ends(), at);
                self.witnesses.configure(
                    configured.pair.witnesses.clone(),
                    configured.targets.clone(),
                    at,
                );
                self.channel.set(self.known.channel_options());
                self.tell_settings(at);
            }
            ToPair::Stopping(answer) => {
                self.stopping = Some(answer);
                self.pair.handle(Input::Stopping { at });
            }
        }
    }

    /// Says what is configured, and whether there is a witness to ask.
    fn tell_settings(&mut self, at: Time) {
        let settings = Box::new(self.known.configured.settings(self.witnesses.any()));
        self.pair.handle(Input::Settings { settings, at });
    }

    // ---- what goes out ----

    fn carry_out(&mut self, reading: Reading) {
        let now = reading.time;
        while let Some(event) = self.pair.poll_event() {
            self.tell(event);
        }
        if let Some(kept) = self.pair.poll_keep() {
            self.keeper.keep(kept, reading);
        }
        if let Some(asked) = self.pair.poll_ask() {
            self.witnesses.ask(asked);
        }
        if let Some(heartbeat) = self.pair.poll_heartbeat() {
            self.send(heartbeat, now);
        }
        if let Some(record) = self.pair.poll_record() {
            self.send_control(&Message::Record(record));
        }
        self.tell_replica_role();
    }

    fn send(&mut self, heartbeat: Heartbeat, now: Time) {
        // There is nothing in it that can't be written.
        let octets = postcard::to_allocvec(&heartbeat).unwrap_or_default();
        let seals = &self.seals;
        self.paths.send(now, || {
            let mut datagram = Vec::new();
            seals.seal(&octets, &mut datagram).then_some(datagram)
        });
        if let Some(greeting) = seals.round() {
            self.paths.greet(greeting.as_ref(), now);
        }
        self.send_control(&Message::Heartbeat(Box::new(heartbeat)));
    }

    fn send_control(&self, message: &Message) {
        if let (Some(link), Ok(octets)) = (&*self.link.borrow(), postcard::to_allocvec(message)) {
            // One that is not taken is made up for by the next, and a channel that hangs is closed.
            let _ = link.send_control(octets);
        }
    }

    fn tell(&mut self, event: Event) {
        let told = match event {
            Event::Role { role, term, at: _ } => FromPair::Role { role, term },
            Event::TookOver(takeover) => {
                self.seen.takeovers.count(takeover.kind);
                FromPair::TookOver(takeover)
            }
            Event::SteppedBack { why, at: _ } => FromPair::SteppedBack { why },
            Event::Finding(finding) => {
                let at = BootClock::on_monotonic(finding.at);
                FromPair::Finding(Finding { at, ..finding })
            }
            Event::Done(order) => return self.answer(order, Ok(())),
            Event::Refused(order, why) => return self.answer(order, Err(why)),
            Event::RestartUnasked => FromPair::RestartUnasked,
            Event::MateStarted { version, at: _ } => FromPair::MateStarted { version },
            Event::Stalled { late } => FromPair::Stalled { late },
        };
        // A part of the agent that is gone is the supervisor's business.
        let _ = self.events.send(told);
    }

    /// Tells those who gave an order what has become of it.
    fn answer(&mut self, order: Order, done: Result<(), Refusal>) {
        for (other, answer) in std::mem::take(&mut self.orders) {
            if other == order {
                // Who asked may have stopped waiting.
                let _ = answer.send(done);
            } else {
                self.orders.push((other, answer));
            }
        }
    }

    fn tell_replica(&self, what: ToReplica) {
        // As in `tell`.
        let _ = self.replica.send(what);
    }

    /// The replica is told of its own term, and as standby of the one that is followed.
    fn tell_replica_role(&mut self) {
        let role = self.pair.role();
        let term = match role {
            Role::Primary => self.pair.term(),
            Role::Undecided => None,
            Role::Standby => match self.pair.mate().map(|(_, said)| said.role) {
                Some(RoleSaid::Primary { term, .. }) => Some(term),
                Some(RoleSaid::Undecided | RoleSaid::Standby { .. }) | None => None,
            },
        };
        if self.told_role != (role, term) {
            self.told_role = (role, term);
            self.tell_replica(ToReplica::Role { role, term });
        }
    }

    // ---- what is seen ----

    fn publish(&mut self, now: Time) {
        let problems = self.problems();
        for problem in &problems {
            if !self.seen.told_problems.contains(problem) {
                // As in `tell`.
                let _ = self.events.send(FromPair::Problem(problem.clone()));
            }
        }
        self.seen.told_problems.clone_from(&problems);
        self.seen.count(self.pair.take_counters());
        let Thread { pair, known, gate, seals, paths, witnesses, channel, seen, .. } = self;
        let mut dropped: BTreeMap<&'static str, u64> =
            seal::Dropped::ALL.map(|why| (why.name(), seals.dropped(why))).into();
        *dropped.entry("stranger").or_default() += seen.strangers;
        dropped.insert("unreadable", seen.unreadable);
        let counters = channel.counters();
        let view = View {
            at: now,
            name: known.name.clone(),
            identity: known.identity,
            settings: known.configured.settings(witnesses.any()),
            role: pair.role(),
            term: pair.term(),
            known: pair.known(),
            alone: pair.is_alone(),
            speaks_until: pair.speaks_until(),
            gate: gate.clone(),
            mate_name: seen.mate_name.clone(),
            mate: pair.mate(),
            grade: pair.grade(),
            mate_heard: seen.mate_heard,
            paths: paths
                .iter()
                .zip(pair.paths_lost())
                .map(|(path, lost)| PathView::new(path, lost))
                .collect(),
            channel: ChannelView {
                mate: known.configured.pair.mate,
                state: seen.channel,
                since: seen.channel_since,
                heard: seen.channel_heard,
                failures: seen.failures,
                refused: seen.refused,
                trusted: channel.noted().trusted,
                refusals: channel::counters::Refusal::ALL
                    .map(|why| (why.name(), counters.refused(why)))
                    .into(),
                octets_sent: counters.octets_sent.load(Ordering::Relaxed),
                octets_received: counters.octets_received.load(Ordering::Relaxed),
            },
            synchrony: pair.synchrony(),
            synchronised: seen.synchronised,
            copies: seen.copies,
            witnesses: witnesses.list().to_vec(),
            network_up: seen.network_up,
            held: pair.is_held(),
            takeovers_within: pair.takeovers_within(now),
            suppressed_until: pair.suppressed_until(now),
            record: pair.record(),
            takeovers: seen.takeovers,
            counters: seen.counters,
            dropped,
            problems,
        };
        self.view.send_replace(Some(Arc::new(view)));
    }

    fn problems(&self) -> Vec<String> {
        let mut problems = self.known.problems.clone();
        let channel::Noted { not_readable, not_listening, .. } = self.channel.noted();
        problems.extend(not_readable.into_iter().chain(not_listening));
        problems.extend(self.witnesses.problem().map(str::to_owned));
        problems.extend(self.seen.not_kept.clone());
        if self.happened.is_closed() {
            problems.push("the task of the state channel has ended; the log says why".to_owned());
        }
        problems.extend(self.seen.refused.and_then(|why| self.known.explain(why)));
        problems
    }
}

/// Hands the state's frames over to the connection of now. Who sends them waits as long as the mate does
/// not take them; those of a connection that is gone are lost.
async fn forward(mut frames: mpsc::Receiver<Vec<u8>>, link: watch::Receiver<Option<Link>>) {
    while let Some(frame) = frames.recv().await {
        let now = link.borrow().clone();
        if let Some(link) = now {
            // It is gone; the replica is told so.
            let _ = link.send_bulk(frame).await;
        }
    }
}

impl Known {
    /// What is to be done about a mate that is refused, where this agent's configuration may be wrong.
    fn explain(&self, refused: &str) -> Option<String> {
        let Known { name, identity, .. } = self;
        let number = |slot: Slot| u8::from(slot == Slot::One);
        let (own, other) = (number(identity.slot), number(identity.slot.other()));
        let is = |why: Refused| why.name() == refused;
        if is(Refused::NothingTrusted) {
            Some(
                "no mate is trusted yet: enter what `evenkeel pair fingerprint` prints on the mate by \
                 `evenkeel pair trust`"
                    .to_owned(),
            )
        } else if is(Refused::SameSlot) {
            Some(format!(
                "the mate has the same slot, {own}, and is refused: give one of the two `slot = {other}`"
            ))
        } else if is(Refused::SameName) {
            Some(format!(
                "the mate has the same name, {name}, and is refused: give one of the two another `name`"
            ))
        } else {
            None
        }
    }

    fn channel_options(&self) -> channel::Options {
        let Known { name, identity, configured, .. } = self;
        channel::Options {
            slot: identity.slot,
            listen: configured.pair.listen,
            mate: configured.pair.mate,
            patience: configured.pair.timing.mate_timeout(),
            name: name.clone(),
            version: identity.version,
            run: identity.run,
        }
    }
}
