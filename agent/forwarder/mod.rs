//! Forwards traps at once to the notification targets that do not acknowledge (TRAP-8, TRAP-9).
//!
//! The driver submits what the core has taken in; a thread of its own encodes each trap in the form
//! that its targets take and sends them in groups. Nothing is kept here: what must not be lost goes
//! to targets that acknowledge, which the notifier serves from the spool. `README.md` beside this
//! file says what an operator must know.

mod encode;
mod outlet;
mod packet;
mod stats;
#[cfg(test)]
mod tests;
mod worker;

use std::{
    io, mem,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
        mpsc,
    },
    thread::{self, JoinHandle},
};

use evenkeel_core::{input::Taken, mib::RootOid, sender::Destination, usm::LocalEngine};

use crate::gate::Gate;

use self::{outlet::Outlet, stats::Counters, worker::Worker};

pub use self::stats::ForwardStats;

/// What may wait for the forwarder's thread by default, in octets: at 300 octets a trap, what comes
/// within a second and a half of 150,000 a second.
pub const MAX_WAITING: usize = 64 << 20;

/// A notification target that is sent traps without acknowledging them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardTarget {
    /// Its name.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// How it is spoken to. Never confirmed.
    pub destination: Destination,
    /// How a trap says whose it is.
    pub origin: Origin,
    /// Tell the community that the trap came with, as snmpTrapCommunity.0 (RFC 3584, section 4).
    pub with_community: bool,
}

/// How a forwarded trap says whose it is (TRAP-9).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// By snmpTrapAddress.0 (RFC 3584, section 4).
    #[default]
    Address,
    /// The original datagram, byte for byte, from its original source address and port. It takes
    /// CAP_NET_RAW.
    Source,
}

/// Why the forwarder can't begin, or can't serve the targets of a new configuration.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Raw sockets are not allowed.
    #[error(
        "notification target \"{target}\" is to be sent traps from their original source address, \
         and this process may not open a raw socket; give it CAP_NET_RAW (AmbientCapabilities= in \
         the systemd unit), or take `origin = \"source\"` away so that snmpTrapAddress.0 tells \
         whose a trap is"
    )]
    NoRawSockets {
        /// The first target that asks for it.
        target: String,
        /// What the kernel says.
        #[source]
        source: io::Error,
    },
    /// The system has no thread to give.
    #[error("no thread for the forwarder")]
    NoThread(#[source] io::Error),
}

/// What goes to the thread, in the order in which it happened: the traps of a batch have their
/// targets by the place in the list that was in force when they were taken in.
enum Order {
    Batch(Vec<Taken>, usize),
    Targets(Slots),
    Stop,
}

/// The targets by their place in `Forwarding::targets`; nothing where another part serves it.
type Slots = Vec<Option<Slot>>;

/// A target with its counters, which outlive a reload.
#[derive(Clone)]
struct Slot {
    target: ForwardTarget,
    counters: Arc<Counters>,
}

/// The forwarder: a handle to its thread.
pub struct Forwarder {
    orders: mpsc::Sender<Order>,
    slots: Mutex<Slots>,
    waiting: Arc<AtomicUsize>,
    max_waiting: usize,
    thread: Option<JoinHandle<()>>,
}

impl Forwarder {
    /// Starts the thread. A place in `targets` is one in
    /// [`Forwarding::targets`](evenkeel_core::settings::Forwarding::targets); there is nothing in the
    /// places of targets that are served another way. `root` and `local` make the mark by which a
    /// forwarded trap is known when it comes back; `max_waiting` is how many octets may wait (see
    /// [`MAX_WAITING`]); `gate` says whether this agent may speak.
    ///
    /// # Errors
    ///
    /// A target asks for the original source address, and raw sockets are not allowed.
    pub fn start(
        targets: Vec<Option<ForwardTarget>>,
        root: &RootOid,
        local: LocalEngine,
        max_waiting: usize,
        gate: Gate,
    ) -> Result<Forwarder, StartError> {
        let slots = slots(targets, &[])?;
        let waiting = Arc::new(AtomicUsize::new(0));
        let (orders, receiver) = mpsc::channel();
        let worker = Worker::new(slots.clone(), root, local, waiting.clone(), gate);
        let thread = thread::Builder::new()
            .name("forwarder".to_owned())
            .spawn(move || worker.run(&receiver))
            .map_err(StartError::NoThread)?;
        let slots = Mutex::new(slots);
        Ok(Forwarder { orders, slots, waiting, max_waiting, thread: Some(thread) })
    }

    /// Whether this process may serve these targets.
    ///
    /// # Errors
    ///
    /// A target asks for the original source address, and raw sockets are not allowed.
    pub fn may_serve(targets: &[Option<ForwardTarget>]) -> Result<(), StartError> {
        match targets.iter().flatten().find(|target| target.origin == Origin::Source) {
            None => Ok(()),
            Some(target) => Outlet::may_be_raw(target.address)
                .map_err(|source| StartError::NoRawSockets { target: target.name.clone(), source }),
        }
    }

    /// Forwards these traps to those of their targets that are served here. It never blocks: what
    /// finds no room is dropped, the newest first, and counted for each target that misses it.
    pub fn submit(&self, mut batch: Vec<Taken>) {
        // Only this side adds, so what is free now stays free.
        let free = self.max_waiting.saturating_sub(self.waiting.load(Relaxed));
        let mut size = 0;
        let fitting = batch.iter().take_while(|taken| {
            let more = size + size_of(taken);
            let fits = more <= free;
            if fits {
                size = more;
            }
            fits
        });
        let fitting = fitting.count();
        if fitting < batch.len() {
            self.count_dropped(&batch[fitting..]);
            batch.truncate(fitting);
        }
        if batch.is_empty() {
            return;
        }
        self.waiting.fetch_add(size, Relaxed);
        if let Err(mpsc::SendError(Order::Batch(batch, _))) =
            self.orders.send(Order::Batch(batch, size))
        {
            // The thread is gone, which it never should be: nothing is sent, and that is seen.
            self.count_dropped(&batch);
        }
    }

    /// Serves these targets from now on; batches that were submitted before go to those of then.
    /// Counters of targets that stay go on.
    ///
    /// # Errors
    ///
    /// As [`start`](Forwarder::start); the targets stay as they were then.
    pub fn set_targets(&self, targets: Vec<Option<ForwardTarget>>) -> Result<(), StartError> {
        let mut current = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let new = slots(targets, &current)?;
        *current = new.clone();
        // Without the thread nothing would be sent anyway, and `submit` counts it.
        let _ = self.orders.send(Order::Targets(new));
        Ok(())
    }

    /// What became of the traps for each target that is served here.
    pub fn stats(&self) -> Vec<ForwardStats> {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.iter().flatten().map(|slot| slot.counters.read(&slot.target.name)).collect()
    }

    /// How many octets wait to be forwarded.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Relaxed)
    }

    fn count_dropped(&self, traps: &[Taken]) {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        for place in traps.iter().flat_map(|taken| &taken.targets) {
            if let Some(Some(slot)) = slots.get(usize::from(*place)) {
                slot.counters.dropped_queue_full.fetch_add(1, Relaxed);
            }
        }
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        let _ = self.orders.send(Order::Stop);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was printed when it happened.
            let _ = thread.join();
        }
    }
}

/// The targets with their counters, those of `before` where the name is the same.
fn slots(
    targets: Vec<Option<ForwardTarget>>,
    before: &[Option<Slot>],
) -> Result<Slots, StartError> {
    Forwarder::may_serve(&targets)?;
    let counters = |name: &str| {
        let same = before.iter().flatten().find(|slot| slot.target.name == name);
        same.map_or_else(Arc::default, |slot| slot.counters.clone())
    };
    Ok(targets
        .into_iter()
        .map(|target| target.map(|target| Slot { counters: counters(&target.name), target }))
        .collect())
}

/// What a trap takes in memory, in octets.
fn size_of(taken: &Taken) -> usize {
    mem::size_of::<Taken>()
        + taken.community.len()
        + taken.varbinds.len()
        + taken.original.as_ref().map_or(0, Vec::len)
}
