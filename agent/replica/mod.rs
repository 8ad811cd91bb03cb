//! The state of a pair on two disks: what the primary has written, its standby writes too (PAIR-11,
//! PAIR-13).
//!
//! ```text
//!             primary                                            standby (store and spool Following)
//!   Store ──what is on the disk──┐                        ┌──> Store: the same rows, the same seqs
//!                                ├─> thread ── frames ──> thread
//!   Spool ──what is on the disk──┘     ^                  └──> Spool: the same entries and numbers
//!                                      └──── acknowledged ───┘
//! ```
//!
//! `README.md` beside this file says what is synchronised, what waits for it, and what is lost when.

mod convert;
mod copying;
mod link;
mod locals;
mod peers;
mod shipping;
mod staging;
mod thread;
mod wire;

#[cfg(test)]
mod crash;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    io,
    net::IpAddr,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use evenkeel_core::{
    alarm::{Alarm, AlarmEvent},
    input::Taken,
    pair::{record::Parts as StateParts, term::Term},
    peers::{Standing, StandingChange},
    state::Record,
};
use tokio::sync::{mpsc, oneshot, watch};

pub use self::link::{Link, Said, ToReplica};
use crate::{
    spool::{Recovered, Spool},
    store::{Now, Restored, Store},
};

/// No frame is longer.
pub const LONGEST_FRAME: usize = 256 << 10;

/// What an inform's Response and an alarm's notification wait for, while the mate is in full
/// synchronisation (PAIR-13).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wait {
    /// Until it is on the standby's disk too.
    #[default]
    Standby,
    /// Until it is on the own disk.
    Disk,
}

/// What the mate has on its disk too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replicated {
    /// The last row of the journal.
    pub seq: u64,
    /// The last number of the spool.
    pub number: u64,
}

impl Replicated {
    /// Nothing waits for the mate: there is none in synchronisation, or nobody wants to wait for it.
    pub const NO_MATTER: Replicated = Replicated { seq: u64::MAX, number: u64::MAX };
}

/// What the replica tells the rest of the agent.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "few of them wait, and none for long")]
pub enum FromReplica {
    /// A standby: a session with the primary has begun. Say all local active alarms by
    /// [`ReplicaHandle::local_all`].
    SayLocal,
    /// A primary: its standby has a local alarm event, to be journaled with the standby's name. May
    /// come more than once, until it comes back to the standby as a row.
    MateLocal(AlarmEvent),
    /// A primary: all local active alarms of its standby.
    MateLocalAll(Vec<Alarm>),
    /// A standby: prints of the traps that the primary has confirmed, whose records are on this disk.
    Prints(Vec<u64>),
    /// A primary: what its standby did while it was primary itself and this agent has not got
    /// (PAIR-2). Comes before the standby is given its copy.
    HandOver {
        /// Rows of the journal, the oldest first, each with its term. May hold rows of alarms that
        /// are known here under the same id.
        rows: Vec<AlarmEvent>,
        /// What is remembered of the objects that these rows are about.
        records: Vec<Record>,
        /// Entries of the spool that some notification target has not acknowledged, or that the records
        /// do not heed. Their numbers are
        /// the standby's and mean nothing here; their moments are on the clocks of this host.
        taken: Vec<HandedTrap>,
    },
}

/// A trap that a former primary hands over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandedTrap {
    /// The trap, without a number.
    pub taken: Taken,
    /// The names of the notification targets that acknowledge and that have not had it.
    pub targets: Vec<String>,
    /// The records heed it.
    pub heeded: bool,
}

/// What an agent finds when it begins to lead, as a restart finds it.
#[derive(Debug)]
pub struct Led {
    /// The state.
    pub restored: Restored,
    /// The spool; what is behind `restored.heeded` is to be judged again.
    pub recovered: Recovered,
    /// Local alarm events of this agent that no primary is known to have journaled.
    pub locals: Vec<AlarmEvent>,
    /// Where the peers stand that are not plainly up, as the primary told it last.
    pub peers: BTreeMap<IpAddr, Standing>,
    /// What was never copied here (PAIR-11).
    pub missing: StateParts,
}

/// Why an agent can't lead.
#[derive(Debug, thiserror::Error)]
pub enum ReplicaError {
    /// The thread is gone.
    #[error("the thread that keeps the mates' state the same is gone")]
    Gone,
    /// The store can't be read.
    #[error("the store can't be read: {0}")]
    Store(String),
}

/// How synchronisation fares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Whether the mate, or this agent as standby, has everything but for what is under way.
    pub in_sync: bool,
    /// Alarm events that are not on the standby's disk yet.
    pub lag_events: u64,
    /// How long the oldest of what is under way has been.
    pub lag: Duration,
    /// Copies begun, as primary or as standby.
    pub copies_begun: u64,
    /// Copies completed.
    pub copies_completed: u64,
    /// Octets sent in frames.
    pub sent_bytes: u64,
    /// Operations sent.
    pub sent_ops: u64,
    /// Octets received in frames.
    pub received_bytes: u64,
    /// Operations received.
    pub received_ops: u64,
    /// Operations received that this version does not know, and that were left out.
    pub unknown_ops: u64,
    /// Operations received that could not be read, and that were left out.
    pub unreadable_ops: u64,
    /// Frames received that belong to no stream of now, as those of a channel that is closed.
    pub stray_frames: u64,
    /// Local alarm events that were dropped, as too many waited for a primary.
    pub locals_dropped: u64,
    /// Times that the state channel was closed as nothing was acknowledged or understood.
    pub reconnects: u64,
    /// A standby: peers of which it was told that they are not plainly up.
    pub peers: u64,
    /// Rows of the journal that were handed over, by this agent or to it.
    pub handed_rows: u64,
    /// Traps that were handed over, by this agent or to it.
    pub handed_traps: u64,
}

/// What the replica works on.
#[derive(Debug)]
pub struct Parts {
    /// The store.
    pub store: Arc<Store>,
    /// The spool.
    pub spool: Arc<Spool>,
    /// The directory of both.
    pub state_dir: PathBuf,
    /// To the mate and to the pair's thread.
    pub link: Link,
    /// From the pair's thread.
    pub heard: mpsc::UnboundedReceiver<ToReplica>,
    /// What waits for the mate.
    pub wait: Wait,
    /// The present, on the clock that the store and the spool are told.
    pub clock: fn() -> Now,
}

/// Starts the replica.
#[derive(Debug)]
pub struct Replica;

impl Replica {
    /// Starts the thread, which ends when the last handle is dropped or the pair's thread is gone. The
    /// store and the spool are left as they are, that is leading: see [`ReplicaHandle::follow`].
    ///
    /// # Errors
    ///
    /// The thread can't be started.
    pub fn start(
        parts: Parts,
    ) -> io::Result<(ReplicaHandle, mpsc::UnboundedReceiver<FromReplica>)> {
        let (orders, ordered) = mpsc::unbounded_channel();
        let (tell, told) = mpsc::unbounded_channel();
        let (gate, replicated) = watch::channel(Replicated::NO_MATTER);
        let stats = Arc::new(Mutex::new(Stats::default()));
        let store = Arc::clone(&parts.store);
        thread::spawn(parts, ordered, tell, gate, Arc::clone(&stats))?;
        Ok((ReplicaHandle { orders, store, replicated, stats }, told))
    }
}

/// What the thread is ordered by the rest of this agent.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "few of them wait, and none for long")]
enum Order {
    Local(AlarmEvent),
    LocalAll(Vec<Alarm>),
    Peers(Vec<StandingChange>),
    Wait(Wait),
    Lead(Option<Term>, oneshot::Sender<Result<Led, ReplicaError>>),
    Follow(oneshot::Sender<()>),
}

/// The way to the replica. No call blocks.
#[derive(Clone, Debug)]
pub struct ReplicaHandle {
    orders: mpsc::UnboundedSender<Order>,
    store: Arc<Store>,
    replicated: watch::Receiver<Replicated>,
    stats: Arc<Mutex<Stats>>,
}

impl ReplicaHandle {
    /// A standby: a local alarm event for the primary. It is kept, and sent again over each channel,
    /// until it came back as a row. Bounded: the oldest are dropped and counted.
    pub fn local(&self, event: AlarmEvent) {
        self.order(Order::Local(event));
    }

    /// A standby: all local active alarms, after [`FromReplica::SayLocal`].
    pub fn local_all(&self, alarms: Vec<Alarm>) {
        self.order(Order::LocalAll(alarms));
    }

    /// A primary: prints of traps whose records were submitted to the store before. They reach the
    /// standby after those.
    pub fn prints(&self, prints: Vec<u64>) {
        self.store.prints(prints);
    }

    /// A primary: what has changed of the peers; nothing if its monitor begins anew.
    pub fn peers(&self, changes: Vec<StandingChange>) {
        self.order(Order::Peers(changes));
    }

    /// What the mate has, for whoever sends a notification only when both have it. It is
    /// [`Replicated::NO_MATTER`] whenever nothing waits for the mate, also after the thread is gone.
    pub fn replicated(&self) -> watch::Receiver<Replicated> {
        self.replicated.clone()
    }

    /// What waits for the mate from now on.
    pub fn set_wait(&self, wait: Wait) {
        self.order(Order::Wait(wait));
    }

    /// Lets store and spool lead: whatever the mate sent before is written, and all that follows is
    /// this agent's own, in `term`. Gives back what a restart would find. An agent that leads already
    /// begins a new term only.
    ///
    /// # Errors
    ///
    /// The store or the spool can't be read; they lead all the same.
    pub async fn lead(&self, term: Option<Term>) -> Result<Led, ReplicaError> {
        let (answer, answered) = oneshot::channel();
        self.order(Order::Lead(term, answer));
        answered.await.unwrap_or(Err(ReplicaError::Gone))
    }

    /// Lets store and spool follow: what was submitted before is written, and what is submitted later
    /// is ignored. Returns when that is so. To be called by whoever becomes standby, after the last
    /// that it submitted as primary.
    pub async fn follow(&self) {
        let (answer, answered) = oneshot::channel();
        self.order(Order::Follow(answer));
        // A thread that is gone writes nothing any more, which is as good.
        let _ = answered.await;
    }

    /// How synchronisation fares.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "metrics show the lag, which the pair's protocol knows")
    )]
    pub fn stats(&self) -> Stats {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn order(&self, order: Order) {
        // The thread outlives the handles, unless it panicked, and then there is nobody to tell.
        let _ = self.orders.send(order);
    }
}
