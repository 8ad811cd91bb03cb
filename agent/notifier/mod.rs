//! Sends notifications: a task for each notification target reads the journal, and for one that
//! acknowledges the spool of forwarded traps too, behind cursors of its own, and sends what it finds
//! there (TRAP-10, TRAP-11, TRAP-13).
//!
//! ```text
//!                 safe on disk         by severity, at the rate        acknowledged, or for a trap
//!   journal ──┐                 ┌────────┐                 ┌───────────┐    no error for a second
//!             ├───────────────> │waiting │ ──────────────> │ under way │ ───────────────────────> done
//!   spool  ───┘                 └────────┘                 └───────────┘
//!                                    ^   for a trap: an error   │  ^ │ for an inform: no answer
//!                                    └──────────────────────────┘  └─┘
//! ```
//!
//! [`machine`] holds every rule and does no I/O; [`target`] is the task around one; `README.md` beside
//! this file tells an operator what to expect.

mod feed;
mod informs;
mod machine;
mod order;
mod pace;
pub mod retry;
#[cfg(test)]
mod simulation;
mod target;
#[cfg(test)]
mod tests;
mod traps;

use std::{
    collections::BTreeMap,
    hash::{BuildHasher, RandomState},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use evenkeel_core::{
    alarm::{Alarm, AlarmEvent, Kind, Severity},
    input::Taken,
    mib::RootOid,
    notification::{Sender, Start},
    sender::{Destination, Version},
    time::Time,
    usm::LocalEngine,
};
use tokio::{
    sync::{mpsc, watch},
    task::AbortHandle,
};

use self::machine::{Beginning, Machine, Progress};
use crate::gate::Gate;

/// Where notifications go, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// What its cursors are kept under; unique, and the same over restarts and reloads.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// Version, credentials, and whether it acknowledges.
    pub destination: Destination,
    /// How long an inform's first try waits for its answer; each further one waits twice as long as
    /// the one before, up to 30 s.
    pub timeout: Duration,
    /// After so many tries beside the first, all without any answer, it counts as unreachable; for
    /// traps, after so many errors in a row beside the first.
    pub retries: u8,
    /// Datagrams a second, repeats included.
    pub rate: u32,
    /// How many of them may leave at once.
    pub burst: u32,
    /// Informs that may be under way at once.
    pub window: u16,
    /// Which alarms it is sent.
    pub filter: Filter,
    /// Whether a forwarded trap says which community it came with.
    pub forward_community: bool,
}

impl Target {
    /// [`Target::timeout`] where nothing is configured: longer than a round trip to anywhere, with an
    /// NMS at its end that writes to a disk first.
    pub const TIMEOUT: Duration = Duration::from_secs(2);
    /// [`Target::retries`] where nothing is configured: with the default timeout, half a minute until a
    /// target counts as unreachable, in which an NMS can restart.
    pub const RETRIES: u8 = 3;
    /// [`Target::rate`] where nothing is configured. snmptrapd with the cheapest handler takes 800,
    /// without one 10,000; and 15,000 alarms at once (a site that fails) still leave within half a
    /// minute.
    pub const RATE: u32 = 500;
    /// [`Target::burst`] where nothing is configured. A receiver with the default buffer of 212,992
    /// octets, of which a notification of this size takes 2,304, loses what goes beyond 92 while it
    /// doesn't read.
    pub const BURST: u32 = 50;
    /// [`Target::window`] where nothing is configured: eight at a round trip of 16 ms are the rate.
    pub const WINDOW: u16 = 8;

    /// Whether it acknowledges: never by SNMPv1, which has no informs.
    pub fn acknowledges(&self) -> bool {
        self.destination.confirmed && !matches!(self.destination.version, Version::V1 { .. })
    }
}

/// Which alarms a target is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Any at all.
    pub alarms: bool,
    /// Of these kinds; empty: of all.
    pub kinds: Vec<Kind>,
    /// Of this severity and above.
    pub least: Severity,
}

impl Default for Filter {
    fn default() -> Filter {
        Filter { alarms: true, kinds: Vec::new(), least: Severity::Warning }
    }
}

impl Filter {
    /// Whether an alarm's events pass. A raise and its clear have the same kind and severity, so either both
    /// do or neither.
    pub fn passes(&self, alarm: &Alarm) -> bool {
        self.alarms
            && alarm.severity <= self.least
            && (self.kinds.is_empty() || self.kinds.contains(&alarm.kind))
    }
}

/// What the sender asks of the store.
pub trait Journal: Send + Sync + 'static {
    /// The rows with a number above `seq`, in order, at most `limit`. No number between two rows is
    /// missing: a gap before the first is what was pruned. May block; an error is told in the target's
    /// stats and the rows are asked for again.
    fn after(&self, seq: u64, limit: usize) -> Result<Vec<(u64, AlarmEvent)>, String>;
    /// The cursor that was kept for a target: everything up to it is done.
    fn cursor(&self, target: &str) -> Option<u64>;
    /// Keeps a cursor. Must not block; may be lost in a crash, and rows are sent again then.
    fn set_cursor(&self, target: &str, seq: u64);
    /// Returns once nobody reads: soon, unless a reader is stuck.
    fn pass(&self) {}
}

/// What the sender asks of the spool of forwarded traps.
pub trait Spool: Send + Sync + 'static {
    /// The entries with a number above `number` that are for `target`, in order, at most `limit`, and
    /// up to which number it has looked: at least that of the last of them. May block.
    fn after(&self, number: u64, limit: usize, target: &str) -> Result<Found, String>;
    /// The cursor that was kept for a target.
    fn cursor(&self, target: &str) -> Option<u64>;
    /// Keeps a cursor. Must not block; may be lost in a crash, and traps are sent again then.
    fn set_cursor(&self, target: &str, number: u64);
    /// Returns once nobody reads: soon, unless a reader is stuck.
    fn pass(&self) {}
}

/// Entries of the spool with their numbers, and up to which number there are no others.
pub type Found = (Vec<(u64, Taken)>, u64);

/// What every notification says of its sender.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The root of the MIB.
    pub root: RootOid,
    /// The agent's name.
    pub agent_name: String,
    /// It is one of a pair.
    pub of_pair: bool,
    /// Our engine, whose start is that of sysUpTime and whose ID is the mark of what we forward.
    pub engine: LocalEngine,
}

impl Identity {
    /// The same, as notifications say it.
    pub fn sender(&self) -> Sender<'_> {
        Sender { name: &self.agent_name, of_pair: self.of_pair }
    }
}

/// A notification target has become unreachable, or can be reached (TRAP-11). Told at each change, and
/// when a target is first reached in a run, which ends an alarm of the run before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    /// Which one.
    pub name: String,
    /// Why it counts as unreachable; nothing if it can be reached.
    pub unreachable: Option<String>,
    /// When.
    pub at: Time,
}

/// What the sender works with.
#[derive(Clone)]
pub struct Surroundings {
    /// The alarms.
    pub journal: Arc<dyn Journal>,
    /// The number of the last row that is safely in the journal.
    pub committed: watch::Receiver<u64>,
    /// The forwarded traps.
    pub spool: Arc<dyn Spool>,
    /// The number of the last entry that is safely in the spool.
    pub spooled: watch::Receiver<u64>,
    /// Who we are.
    pub identity: Arc<Identity>,
    /// Who is told which targets can be reached.
    pub reach: mpsc::UnboundedSender<Reach>,
    /// Whether this agent may speak, asked before each datagram (PAIR-17).
    pub gate: Gate,
}

/// How one target fares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetStats {
    /// Which one.
    pub name: String,
    /// Its address, or for one that is reached by HTTP its URL without what is secret in it.
    pub address: String,
    /// How it is spoken to, as in `v3 authPriv inform`.
    pub form: String,
    /// Datagrams that the kernel took, repeats included.
    pub sent: u64,
    /// Informs that were answered.
    pub acknowledged: u64,
    /// Datagrams that were sent again, as no answer or an error came.
    pub retransmitted: u64,
    /// Informs that were answered with an error. The target has them, and sending them again would
    /// bring the same answer: they count as delivered.
    pub refused: u64,
    /// Errors: of the socket, of the network as far as they came back, of the journal and the spool, and
    /// what the target says that it will not take before somebody changes a configuration.
    pub failed: u64,
    /// What this target will never be sent: pruned before it was its turn, not to be said in its version
    /// of SNMP, or a forwarded trap that it never answered while it answered others.
    pub lost: u64,
    /// Rows of the journal that it does not have yet, those that its filter holds back among them as
    /// long as they are not read.
    pub lag: u64,
    /// Entries of the spool that it does not have yet, those for others among them as long as they are
    /// not read.
    pub waiting_forwarded: u64,
    /// It does not count as unreachable.
    pub reachable: bool,
    /// The last error, until something was acknowledged or settled after it.
    pub last_error: Option<String>,
}

/// The sender of notifications to all targets. What runs stops when this is dropped.
pub struct Notifier {
    around: Surroundings,
    running: BTreeMap<String, Running>,
    /// Of a pair, while this agent is not primary: whom it would send to.
    waiting: Option<Vec<Target>>,
    /// How it started, until it has been told.
    start: Option<Beginning>,
}

impl Notifier {
    /// A sender that goes on with `targets` where their cursors are, or at the end of the journal for
    /// one that has none, and with what the spool has for it. Each is told of the agent's start first.
    ///
    /// Must be called within a tokio runtime.
    pub fn new(around: Surroundings, targets: Vec<Target>, start: Start) -> Notifier {
        let mut notifier = Notifier::waiting(around, targets, start);
        let end = notifier.end_of_journal();
        notifier.run_all(end);
        notifier
    }

    /// The sender of an agent of a pair, which sends nothing before it [leads](Notifier::lead).
    pub fn waiting(around: Surroundings, targets: Vec<Target>, start: Start) -> Notifier {
        // The time of day tells the starts of one agent apart.
        let id = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let start = Some(Beginning { start, id });
        Notifier { around, running: BTreeMap::new(), waiting: Some(targets), start }
    }

    /// Begins to send, as this agent has become primary: to each target from where the mate left off, or
    /// what comes after `end` to one that was never told anything. The other two are how far the journal
    /// and the spool are safe from now on. If it was not told yet, each is told of this agent's own start
    /// first.
    pub fn lead(
        &mut self,
        committed: watch::Receiver<u64>,
        spooled: watch::Receiver<u64>,
        end: u64,
    ) {
        self.around.committed = committed;
        self.around.spooled = spooled;
        self.run_all(end);
    }

    /// Sends nothing more, as the mate is primary. How far each target is stays known.
    pub fn follow(&mut self) {
        if self.waiting.is_some() {
            return;
        }
        self.keep_cursors();
        let running = std::mem::take(&mut self.running);
        self.waiting = Some(running.into_values().map(|running| running.target.clone()).collect());
    }

    /// The names of all targets, and of those that acknowledge.
    pub fn names(&self) -> (Vec<String>, Vec<String>) {
        let running = self.running.values().map(|running| &running.target);
        let targets: Vec<&Target> = running.chain(self.waiting.iter().flatten()).collect();
        let name = |target: &&Target| target.name.clone();
        let acknowledging = targets.iter().filter(|target| target.acknowledges());
        (targets.iter().map(name).collect(), acknowledging.map(name).collect())
    }

    fn run_all(&mut self, end: u64) {
        let start = self.start.take();
        for target in self.waiting.take().unwrap_or_default() {
            let alarms = self.around.journal.cursor(&target.name);
            let alarms = alarms.unwrap_or_else(|| self.begin(&target, end));
            let mut progress = Progress::at(alarms);
            progress.start = start.filter(|_| target.filter.alarms);
            self.run(target, progress);
        }
    }

    /// Replaces the list of targets after a reload. One that stays goes on where it is, also
    /// with a new address or form; a new one starts at the end of the journal.
    pub fn set_targets(&mut self, targets: Vec<Target>) {
        if let Some(waiting) = &mut self.waiting {
            *waiting = targets;
            return;
        }
        let mut before = std::mem::take(&mut self.running);
        for target in targets {
            match before.remove(&target.name) {
                Some(running) if running.target == target => {
                    self.running.insert(target.name, running);
                }
                Some(changed) => {
                    // A copy, as the task that ends may still move its own on.
                    let progress = lock(&changed.machine).progress();
                    self.run(target, progress);
                }
                None => {
                    let end = self.begin(&target, self.end_of_journal());
                    self.run(target, Progress::at(end));
                }
            }
        }
        // What is no longer a target is not unreachable.
        for (name, removed) in before {
            if lock(&removed.machine).is_unreachable() {
                let at = crate::clock::Clock::now();
                let _ = self.around.reach.send(Reach { name, unreachable: None, at });
            }
        }
    }

    /// Keeps the cursors as they are, for an orderly stop: traps that were sent without an error since
    /// are taken for settled, so that the next run does not send them again.
    pub fn settle(&self) {
        self.running.values().for_each(|running| lock(&running.machine).settle_all());
        self.keep_cursors();
    }

    fn keep_cursors(&self) {
        for (name, running) in &self.running {
            let machine = lock(&running.machine);
            self.around.journal.set_cursor(name, machine.cursor());
            if let Some(cursor) = machine.forwarded_cursor() {
                self.around.spool.set_cursor(name, cursor);
            }
        }
    }

    /// How every target fares, in the order of their names.
    pub fn stats(&self) -> Vec<TargetStats> {
        let (committed, spooled) = (*self.around.committed.borrow(), *self.around.spooled.borrow());
        let machines = self.running.values();
        machines.map(|running| lock(&running.machine).stats(committed, spooled)).collect()
    }

    /// What goes once through all that sending a notification takes turns at, and so returns soon unless
    /// something there is stuck (PAIR-9). May block, and then holds up nobody else.
    pub fn passage(&self) -> impl FnOnce() + Send + use<> {
        let each = |running: &Running| Arc::clone(&running.machine);
        let machines: Vec<Arc<Mutex<Machine>>> = self.running.values().map(each).collect();
        let (journal, spool) = (Arc::clone(&self.around.journal), Arc::clone(&self.around.spool));
        move || {
            machines.iter().for_each(|machine| drop(lock(machine)));
            journal.pass();
            spool.pass();
        }
    }

    fn end_of_journal(&self) -> u64 {
        *self.around.committed.borrow()
    }

    fn begin(&self, target: &Target, end: u64) -> u64 {
        // Kept at once, so that a restart doesn't skip what comes from now on.
        self.around.journal.set_cursor(&target.name, end);
        end
    }

    fn run(&mut self, target: Target, mut progress: Progress) {
        if target.acknowledges() && progress.forwarded.is_none() {
            // Without a cursor, from the beginning: an entry knows whom it is for, so one that is new
            // finds nothing there that is older than itself. From the end would skip what was spooled,
            // and answered, in the first second of a target, if a crash came before its first cursor
            // was on the disk.
            progress.forwarded = Some(self.around.spool.cursor(&target.name).unwrap_or(0));
        }
        let identity = Arc::clone(&self.around.identity);
        let seed = RandomState::new().hash_one(&target.name);
        let machine = Machine::new(target.clone(), identity, progress, seed);
        let machine = Arc::new(Mutex::new(machine));
        let task = target::run(target.clone(), Arc::clone(&machine), self.around.clone());
        let task = tokio::spawn(task).abort_handle();
        self.running.insert(target.name.clone(), Running { target, machine, task });
    }
}

/// A target with its task.
struct Running {
    target: Target,
    machine: Arc<Mutex<Machine>>,
    task: AbortHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(machine: &Mutex<Machine>) -> MutexGuard<'_, Machine> {
    // Nothing panics with it locked, and its numbers would be good even then.
    machine.lock().unwrap_or_else(PoisonError::into_inner)
}
