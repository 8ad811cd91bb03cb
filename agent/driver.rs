//! The one loop that owns the core: feeds it what the ears hear, drains what comes out, and waits.
//!
//! ```text
//! ear: traps ───batches──┐                                  ┌──> store: journal and records
//! ear: replies ─batches──┤                                  ├──> onward: spool, forwarder, answers
//! host view ─────────────┼──> Driver ──> Agent (the core) ──┼──> pinger: echoes
//! notification targets ──┤                                  ├──> log
//! peer monitor ──────────┤                                  ├──> mover: addresses to a standby
//! requests ──────────────┤                                  └──> answers to requests
//! deadline ──────────────┘
//! ```
//!
//! There is one owner and no lock. Whatever enters passes [`Driver::feed`], where it is also
//! recorded. A deadline is judged in three steps: it comes, both ears are asked to hand in what
//! they hold, and only when they have done so up to that moment does the core judge it.

mod roles;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use evenkeel_core::{
    agent::Agent,
    alarm::AlarmEvent,
    finding::Finding,
    input::{Datagram, Door, Ear, Event, Host, Input},
    plan::FlowKey,
    settings::Settings,
    state::StandbyRecord,
    supervision::Part,
    time::{Pretty, Time},
};
use ipnet::IpNet;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};
use tracing::{debug, info, warn};

use crate::{
    clock::Clock,
    ear::{Batch, DatagramMeta, EarHandle, EarStats, icmp},
    forwarder,
    notifier::Reach,
    onward::Onward,
    pinger::Pinger,
    recording::Recorder,
    replica::Wait,
    roles::Roles,
    snapshot::{Around, Detail, Snapshot},
    spool::Spool,
    standby::{Moved, Mover},
    store::{Commit, Moment, Store},
    supervisor::pulse::{self, Pulse, SIGN},
};

/// How many batches are fed before the loop looks at anything else, so that a storm of traps can't
/// starve the polls: a batch takes some 0.2 ms.
const BATCHES_IN_A_ROW: usize = 8;

/// How often changed records go to the store.
const CHECKPOINT: Duration = Duration::from_secs(1);

/// How many records go there at once. Writing one costs 20 to 50 µs of CPU, so this keeps it to some
/// four hundredths of a core in a storm. The price: where more than 1,000 objects change each second,
/// their records lag by a second for each 1,000, and a crash can cost that much of a count.
const RECORDS_AT_ONCE: usize = 1_000;

/// How many new flows are told one by one.
const FLOWS_TOLD: usize = 16;

/// How long an ear may take to answer before it is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// What others ask of the driver.
pub enum Request {
    /// A copy of what there is to see.
    Snapshot(Detail, oneshot::Sender<Box<Snapshot>>),
    /// New settings.
    Reload(Box<Reload>, oneshot::Sender<Result<(), forwarder::StartError>>),
    /// An operator's order to enable the primary interface of a subnet (SUBN-8). The answer is its name,
    /// once it has its addresses again, or why not.
    Enable(IpNet, oneshot::Sender<Result<String, String>>),
    /// Stop in an orderly way. The answer is what is left to write.
    Stop(oneshot::Sender<Commit>),
}

/// What a reload changes.
pub struct Reload {
    /// For the core.
    pub settings: Settings,
    /// New trap sockets, if they changed.
    pub traps: Option<TrapEar>,
    /// The notification targets that the forwarder serves, by their places in the settings.
    pub forwards: Vec<Option<forwarder::ForwardTarget>>,
    /// Of a pair: what waits for the mate.
    pub wait: Option<Wait>,
}

/// A running ear for traps, with the channel of its batches.
pub struct TrapEar {
    /// The ear.
    pub ear: EarHandle,
    /// What it hears.
    pub batches: mpsc::UnboundedReceiver<Batch>,
}

/// A running ear for replies.
pub struct ReplyEar {
    /// The ear.
    pub ear: EarHandle,
    /// What it hears.
    pub batches: mpsc::UnboundedReceiver<Batch>,
    /// The identifier of our echoes.
    pub identifier: u16,
}

/// What a driver works with.
pub struct Parts {
    /// Where traps come from.
    pub traps: TrapEar,
    /// Where replies come from, if any can.
    pub replies: Option<ReplyEar>,
    /// This host's interfaces and addresses.
    pub host_view: Option<watch::Receiver<Host>>,
    /// The journal and the records.
    pub store: Arc<Store>,
    /// What must be safe before it is answered.
    pub spool: Arc<Spool>,
    /// Where traps and answers go on to.
    pub onward: Onward,
    /// What the notifier says of its targets.
    pub reach: mpsc::UnboundedReceiver<Reach>,
    /// What the peer monitor and the supervisor have found.
    pub found: mpsc::UnboundedReceiver<Vec<Finding>>,
    /// What moves addresses,
    pub mover: Mover,
    /// and says how that went;
    pub moved: mpsc::UnboundedReceiver<Moved>,
    /// what it has on the disk.
    pub kept: Vec<StandbyRecord>,
    /// What every input is recorded by, if it is.
    pub recorder: Option<Recorder>,
    /// Of a pair: what its role is and means.
    pub roles: Option<Roles>,
    /// Where the store and the spool are.
    pub state_dir: PathBuf,
}

/// The owner of the core.
pub struct Driver {
    agent: Agent,
    /// Nothing once it has stopped.
    traps: Option<TrapEar>,
    replies: Option<ReplyEar>,
    host_view: Option<watch::Receiver<Host>>,
    pinger: Pinger,
    host: Host,
    store: Arc<Store>,
    spool: Arc<Spool>,
    onward: Onward,
    /// What the notifier says of its targets.
    reach: mpsc::UnboundedReceiver<Reach>,
    /// What the peer monitor and the supervisor have found.
    found: mpsc::UnboundedReceiver<Vec<Finding>>,
    mover: Mover,
    moved: mpsc::UnboundedReceiver<Moved>,
    kept: Vec<StandbyRecord>,
    /// Who waits for an interface to be enabled.
    enabling: Vec<(IpNet, oneshot::Sender<Result<String, String>>)>,
    recorder: Option<Recorder>,
    discarded_replies: BTreeMap<&'static str, u64>,
    flows: BTreeSet<FlowKey>,
    asked: Option<Instant>,
    events: Vec<AlarmEvent>,
    wall_origin_ms: Option<i64>,
    roles: Option<Box<Roles>>,
    state_dir: PathBuf,
}

impl Driver {
    /// A driver of an agent whose state has been put back.
    pub fn new(agent: Agent, parts: Parts) -> Driver {
        let Parts {
            traps,
            replies,
            host_view,
            store,
            spool,
            onward,
            reach,
            found,
            mover,
            moved,
            kept,
            recorder,
            roles,
            state_dir,
        } = parts;
        Driver {
            agent,
            traps: Some(traps),
            replies,
            host_view,
            pinger: Pinger::new(),
            host: Host::default(),
            store,
            spool,
            onward,
            reach,
            found,
            mover,
            moved,
            kept,
            enabling: Vec::new(),
            recorder,
            discarded_replies: BTreeMap::new(),
            flows: BTreeSet::new(),
            asked: None,
            events: Vec::new(),
            wall_origin_ms: None,
            roles: roles.map(Box::new),
            state_dir,
        }
    }

    /// Runs until it is told to stop.
    pub async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let mut checkpoint = interval(CHECKPOINT);
        checkpoint.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let pulse = Pulse::of_task(Part::Core);
        let mut sign = interval(SIGN);
        sign.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.set_wall_clock();
        self.drain().await;
        let mut written = self.store.committed();
        let mut safe = self.spool.safe();
        let mut heeded = self.store.heeded();
        loop {
            pulse.beat();
            let deadline = self.wake_at();
            // A flood that the disk can't follow waits in the ear, whose memory is bounded (INST-16).
            let behind = self.store.is_behind() || self.onward.is_behind();
            // In this order: deadlines and polls go before traps, of which there may be a storm.
            tokio::select! {
                biased;
                request = requests.recv() => match request {
                    Some(Request::Stop(answer)) => return self.stop(answer).await,
                    Some(Request::Snapshot(detail, answer)) => {
                        // Whoever asked may have gone away.
                        let _ = answer.send(Box::new(self.snapshot(detail)));
                    }
                    Some(Request::Reload(reload, answer)) => {
                        let _ = answer.send(self.reload(*reload).await);
                    }
                    Some(Request::Enable(subnet, answer)) => self.enable(subnet, answer).await,
                    None => return,
                },
                () = at(deadline) => self.ask(),
                word = roles::next_word(&mut self.roles) => self.heed_word(word).await,
                batch = next_reply(&mut self.replies) => self.hear_replies(&batch).await,
                host = next_host(&mut self.host_view) => self.follow_host(host).await,
                Some(moved) = self.moved.recv() => self.heed_moved(moved).await,
                _ = sign.tick() => {}
                _ = checkpoint.tick() => {
                    self.look_at_pair().await;
                    self.checkpoint();
                }
                Some(reach) = self.reach.recv() => self.heed_reach(reach).await,
                // These come at a bounded rate (PEER-10), so they can wait for nothing.
                Some(found) = self.found.recv() => self.heed_found(found).await,
                Ok(()) = heeded.changed() => {
                    self.spool.checkpointed(*heeded.borrow_and_update());
                }
                _ = written.changed(), if behind => {}
                _ = safe.changed(), if behind => {}
                batch = next_traps(&mut self.traps), if !behind => self.hear_traps(batch).await,
            }
        }
    }

    /// When the loop must wake though nothing comes in.
    fn wake_at(&self) -> Option<Instant> {
        let due = tokio_instant(self.agent.next_deadline()?);
        match self.asked {
            // The ears have been asked for it; their answer wakes the loop.
            Some(asked) => Some(due.max(asked + ASK_AGAIN)),
            None => Some(due),
        }
    }

    /// A deadline has come: let both ears hand in what they hold before it is judged.
    fn ask(&mut self) {
        self.asked = Some(Instant::now());
        if let Some(traps) = &self.traps {
            traps.ear.ask();
        }
        if let Some(replies) = &self.replies {
            replies.ear.ask();
        }
    }

    async fn hear_traps(&mut self, batch: Batch) {
        self.feed_traps(&batch);
        drop(batch);
        for _ in 1..BATCHES_IN_A_ROW {
            let waiting = self.traps.as_mut().and_then(|traps| traps.batches.try_recv().ok());
            let Some(batch) = waiting else { break };
            self.feed_traps(&batch);
        }
        self.drain().await;
    }

    fn feed_traps(&mut self, batch: &Batch) {
        if self.follows() {
            self.keep_traps(batch);
        } else if self.roles.is_some() {
            batch.iter().for_each(|(meta, bytes)| self.feed_trap(&datagram(meta, bytes)));
        } else {
            for (meta, bytes) in batch.iter() {
                self.feed(&Input::Datagram(datagram(meta, bytes)));
            }
        }
        self.heard(Ear::Traps, batch);
    }

    async fn hear_replies(&mut self, batch: &Batch) {
        let Some(identifier) = self.replies.as_ref().map(|replies| replies.identifier) else {
            return;
        };
        for (meta, bytes) in batch.iter() {
            match icmp::parse(meta, bytes, identifier) {
                Ok(reply) => self.feed(&Input::Reply(reply)),
                Err(discard) => {
                    *self.discarded_replies.entry(discard.reason()).or_default() += 1;
                }
            }
        }
        self.heard(Ear::Replies, batch);
        self.feed(&Input::Now(Clock::now()));
        self.drain().await;
    }

    fn heard(&mut self, ear: Ear, batch: &Batch) {
        self.asked = None;
        let Batch { heard: up_to, lost, limited, .. } = *batch;
        self.feed(&Input::Heard { ear, up_to, lost, limited });
    }

    /// Everything that enters the core enters here.
    fn feed(&mut self, input: &Input<'_>) {
        if let Some(recorder) = &mut self.recorder {
            let _disk = pulse::at_disk(Part::Core);
            recorder.record(input);
        }
        self.agent.handle(input);
    }

    /// Takes out what the core has to say, until it has no more.
    async fn drain(&mut self) {
        loop {
            while let Some(event) = self.agent.poll_event() {
                self.tell(event);
            }
            let Some(echo) = self.agent.poll_transmit() else { break };
            if let Err(error) = self.pinger.send(&echo, &self.host).await {
                self.feed(&Input::SendFailed(error.into_input(&echo)));
            }
        }
        self.onward.drain(&mut self.agent);
        self.move_addresses();
        if self.events.is_empty() {
            return;
        }
        if self.follows() {
            self.tell_primary();
        } else {
            let commit = self.commit_events();
            self.store.submit(commit);
        }
    }

    /// SUBN-8: hands on what is to be moved, and before it what must be on the disk by then.
    fn move_addresses(&mut self) {
        if self.agent.subnets().has_standbys() || !self.kept.is_empty() {
            let standbys = self.agent.standbys();
            if standbys != self.kept {
                self.mover.keep(standbys.clone());
                self.kept = standbys;
            }
        }
        while let Some(order) = self.agent.poll_move() {
            self.mover.order(order);
        }
    }

    /// Alarms go to the journal together with the records of their objects, so that no crash can
    /// come between the two.
    fn commit_events(&mut self) -> Commit {
        let now = Clock::now();
        let events = std::mem::take(&mut self.events);
        let records =
            events.iter().flat_map(|event| self.agent.records_of(&event.alarm, now)).collect();
        Commit { events, records, as_of: self.moment(now), ..Commit::default() }
    }

    /// What a device can cause is not logged: it is counted, journalled and told to the NMS.
    fn tell(&mut self, event: Event) {
        match event {
            Event::Alarm(event) => {
                debug!(kind = %event.alarm.kind, id = %event.alarm.id, "{}", event.alarm.text);
                self.events.push(*event);
            }
            Event::Flow { local, polled, up: true, .. } => info!(%local, %polled, "flow is up"),
            Event::Flow { local, polled, up: false, reason } => {
                warn!(%local, %polled, reason, "flow is down");
            }
            Event::SendError { local, polled, error: Some(error) } => {
                warn!(%local, %polled, error, "cannot poll");
            }
            Event::SendError { local, polled, error: None } => {
                info!(%local, %polled, "can poll again");
            }
            Event::Stalled { late } => {
                warn!(
                    "this agent stood still for {}; polls of that time count neither as missed \
                       nor as answered",
                    Pretty(late)
                );
            }
            Event::Moved { subnet, to, failed: None } => {
                info!("the addresses of {subnet} were moved to {to}");
                self.answer_enabling(subnet, &Ok(to));
            }
            Event::Moved { subnet, to, failed: Some(why) } => {
                warn!("the addresses of {subnet} cannot be moved to {to}: {why}");
                self.answer_enabling(subnet, &Err(why));
            }
            Event::Warning(warning) => warn!("{warning}"),
        }
    }

    /// SUBN-8: the addresses of a subnet were moved, or could not be.
    async fn heed_moved(&mut self, Moved { subnet, failed }: Moved) {
        self.feed(&Input::Moved { subnet, failed, now: Clock::now() });
        self.drain().await;
    }

    /// An operator enables the primary interface of a subnet. The answer waits for the move.
    async fn enable(&mut self, subnet: IpNet, answer: oneshot::Sender<Result<String, String>>) {
        match self.agent.subnets().may_enable(subnet) {
            Ok(()) => {
                info!("the primary interface of {subnet} is enabled by order");
                self.enabling.push((subnet, answer));
                self.feed(&Input::Enable { subnet, now: Clock::now() });
                self.drain().await;
            }
            // Whoever asked may have gone away, here and below.
            Err(why) => drop(answer.send(Err(why.to_string()))),
        }
    }

    fn answer_enabling(&mut self, of: IpNet, answer: &Result<String, String>) {
        for (_, waiting) in self.enabling.extract_if(.., |(subnet, _)| *subnet == of) {
            let _ = waiting.send(answer.clone());
        }
    }

    /// TRAP-11: a notification target has stopped to answer, or answers again.
    async fn heed_reach(&mut self, Reach { name, unreachable, at }: Reach) {
        // What a sender says that is about to end is the mate's to judge.
        if self.follows() {
            return;
        }
        self.feed(&Input::Target { name, unreachable, now: at });
        self.drain().await;
    }

    /// The peer monitor (PEER-2, 3, 9, 15) or the supervisor (PAIR-9) has found something.
    async fn heed_found(&mut self, found: Vec<Finding>) {
        self.feed_found(found);
        self.drain().await;
    }

    /// What is local to this host is judged in any role; of the peers, the primary alone speaks.
    fn feed_found(&mut self, mut found: Vec<Finding>) {
        if self.follows() {
            found.retain(|finding| finding.object.is_local());
        }
        if !found.is_empty() {
            self.feed(&Input::Found(found));
        }
    }

    async fn follow_host(&mut self, host: Host) {
        self.pinger.keep_only(&host);
        self.host = host.clone();
        self.feed(&Input::Host { host, now: Clock::now() });
        self.tell_flows();
        self.drain().await;
    }

    /// Says which flows are new, so that who starts the agent sees what it polls.
    fn tell_flows(&mut self) {
        let flows: BTreeSet<FlowKey> =
            self.agent.subnets().flows().map(|flow| flow.key.clone()).collect();
        for key in flows.difference(&self.flows).take(FLOWS_TOLD) {
            let FlowKey { subnet, interface, local, polled, .. } = key;
            info!("polls {polled} from {local} on {interface}, for {subnet}");
        }
        let new = flows.difference(&self.flows).count();
        if new > FLOWS_TOLD {
            info!("and {} more flows", new - FLOWS_TOLD);
        }
        self.flows = flows;
    }

    /// Gives the store what has changed, a share at a time, and keeps to the wall clock.
    fn checkpoint(&mut self) {
        self.set_wall_clock();
        if self.follows() {
            return self.let_go();
        }
        let now = Clock::now();
        let (records, removed) = self.agent.take_changes(RECORDS_AT_ONCE, now);
        let waiting = self.agent.instability().changes_waiting();
        let rounds = u32::try_from(1 + waiting.div_ceil(RECORDS_AT_ONCE)).unwrap_or(u32::MAX);
        let lag = CHECKPOINT * rounds;
        self.store.checkpoint_state(records, removed, self.moment(now), lag);
        if waiting == 0 {
            // These records are as they are after all that was numbered.
            self.store.set_heeded(self.agent.last_number());
            self.confirm();
        }
        // On the disk, those that were heard last stay anyway.
        let _ = self.agent.take_removed_engines();
        let engines = self.agent.take_engine_changes(RECORDS_AT_ONCE, now);
        self.store.checkpoint_engines(engines, self.moment(now));
        if let Some(recorder) = &mut self.recorder {
            recorder.flush();
        }
    }

    fn set_wall_clock(&mut self) {
        let origin_ms = Clock::wall_origin_ms();
        // The two clocks are not read at the same instant, which must not look like a step.
        if self.wall_origin_ms.is_none_or(|before| origin_ms.abs_diff(before) > 1) {
            self.wall_origin_ms = Some(origin_ms);
            self.feed(&Input::WallClock { origin_ms });
        }
    }

    fn moment(&self, now: Time) -> Moment {
        Moment { mono: now, wall: self.agent.alarms().wall(now) }
    }

    async fn reload(&mut self, reload: Reload) -> Result<(), forwarder::StartError> {
        let Reload { settings, traps, forwards, wait } = reload;
        if let (Some(roles), Some(wait)) = (&self.roles, wait) {
            roles.replica.set_wait(wait);
        }
        self.drain().await;
        self.onward.set_targets(&settings.forwarding, forwards)?;
        if let Some(traps) = traps
            && let Some(before) = self.traps.replace(traps)
        {
            self.end_ear(before).await;
        }
        self.feed(&Input::Settings { settings: Box::new(settings), now: Clock::now() });
        self.tell_flows();
        self.drain().await;
        Ok(())
    }

    /// Ends an ear for traps, and feeds all that it had received.
    async fn end_ear(&mut self, TrapEar { ear, mut batches }: TrapEar) {
        // Stopping waits for the thread, which is done when it has read its sockets once more.
        tokio::task::block_in_place(|| ear.stop());
        while let Some(batch) = batches.recv().await {
            self.feed_traps(&batch);
        }
    }

    fn snapshot(&self, detail: Detail) -> Snapshot {
        let stats = |ear: &EarHandle| -> Arc<EarStats> { ear.stats().clone() };
        Snapshot::take(
            detail,
            &self.agent,
            Clock::now(),
            self.traps.as_ref().map(|traps| stats(&traps.ear)),
            self.replies.as_ref().map(|replies| stats(&replies.ear)),
            Around {
                discarded_replies: self.discarded_replies.clone(),
                store: self.store.stats(),
                spool: self.spool.stats(),
                forwards: self.onward.stats(),
                shadow: self.roles.as_ref().map(|roles| roles.shadow.stats()).unwrap_or_default(),
            },
        )
    }

    async fn stop(&mut self, answer: oneshot::Sender<Commit>) {
        if let Some(traps) = self.traps.take() {
            self.end_ear(traps).await;
        }
        while let Ok(found) = self.found.try_recv() {
            self.feed_found(found);
        }
        self.onward.drain(&mut self.agent);
        while let Some(event) = self.agent.poll_event() {
            self.tell(event);
        }
        self.silence();
        let last = if self.follows() {
            self.tell_primary();
            self.commit_events()
        } else {
            self.all_changes()
        };
        if let Some(recorder) = &mut self.recorder {
            recorder.flush();
        }
        // Whoever asked waits for it.
        let _ = answer.send(last);
    }
}

/// A datagram of an ear's, as the core takes it in.
const fn datagram<'a>(meta: &DatagramMeta, bytes: &'a [u8]) -> Datagram<'a> {
    let door = Door { socket: meta.socket, local: meta.local, interface: meta.interface };
    Datagram { source: meta.source, received: meta.received, door, bytes }
}

/// The moment on tokio's clock, which is the same one with another origin.
fn tokio_instant(at: Time) -> Instant {
    Instant::now() + at.since(Clock::now())
}

async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

async fn next_traps(traps: &mut Option<TrapEar>) -> Batch {
    match traps {
        Some(TrapEar { batches, .. }) => match batches.recv().await {
            Some(batch) => batch,
            None => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}

async fn next_reply(replies: &mut Option<ReplyEar>) -> Batch {
    match replies {
        Some(ReplyEar { batches, .. }) => match batches.recv().await {
            Some(batch) => batch,
            None => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}

async fn next_host(view: &mut Option<watch::Receiver<Host>>) -> Host {
    match view {
        Some(host) => match host.changed().await {
            Ok(()) => host.borrow_and_update().clone(),
            Err(_) => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}
