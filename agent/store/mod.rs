//! The durable store: the journal of alarms, the active alarms, what the rules remember of each
//! object, and how far each notification target has been told.
//!
//! One SQLite file, one thread that writes it ([`writer`]), any number of [`Reader`]s. The journal
//! is at the same time the outbox of notifications: a notification target has a cursor into it, and
//! what comes after the cursor is still to be sent. `README.md` beside this file is for operators.

mod engine;
mod files;
mod following;
mod handing;
mod pending;
mod reader;
mod restore;
mod salvage;
mod schema;
mod shipping;
mod snapshot;
mod writer;

#[cfg(test)]
mod crash;
#[cfg(test)]
mod engine_tests;
#[cfg(test)]
pub mod testing;
#[cfg(test)]
mod tests;

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, Sender},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use evenkeel_core::{
    alarm::AlarmEvent,
    pair::term::Term,
    state::{Record, RecordKey},
    time::{Time, WallTime},
    usm::{EngineId, EngineRecord},
};
use tokio::sync::{oneshot, watch};

pub use self::{
    following::{Copy, Has},
    handing::{Handed, Hander},
    reader::{JournalRow, Reader},
    restore::Restored,
    schema::{read_term, rfc3339, term_text},
    shipping::{Item, Shipped, Tap},
    snapshot::{NEWEST_ROWS, Snapshot},
};
use self::{
    restore::Begun,
    writer::{Message, Writer},
};

/// How many alarm events may wait before the store is behind: some three seconds of writing, and
/// 50 MB.
const EVENTS_BEHIND: u64 = 100_000;

/// The same for records, which come with those events and are small.
const RECORDS_BEHIND: usize = 200_000;

/// A moment, on both clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// On a clock whose origin is the boot of this host (CLOCK_MONOTONIC or CLOCK_BOOTTIME, and
    /// always the same one): what the next run reckons ages with.
    pub mono: Time,
    /// On the wall clock.
    pub wall: WallTime,
}

/// The present, and the boot that its monotonic clock belongs to.
#[derive(Clone, Debug)]
pub struct Now {
    /// The present.
    pub moment: Moment,
    /// See [`boot_id`].
    pub boot_id: String,
}

/// What names this boot of this host: `/proc/sys/kernel/random/boot_id`.
///
/// # Errors
///
/// The file can't be read.
pub fn boot_id() -> io::Result<String> {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned())
}

/// Which rows of the journal may be deleted. Up to `most_rows`, none is before every notification
/// target was sent it (TRAP-11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Younger rows are kept,
    pub keep: Duration,
    /// and so are as many of the newest rows, however old they are;
    pub rows: u64,
    /// but never more than these, however young: the disk has an end.
    pub most_rows: u64,
}

impl Default for Retention {
    /// 90 days and a million rows; ten million at most (some 5 GB).
    fn default() -> Retention {
        Retention {
            keep: Duration::from_secs(90 * 24 * 3600),
            rows: 1_000_000,
            most_rows: 10_000_000,
        }
    }
}

/// What is written in one transaction, if it holds an event. What comes later in the order of
/// submission never appears on the disk as older.
#[derive(Clone, Debug, Default)]
pub struct Commit {
    /// Raises and clears, in the order that they happened.
    pub events: Vec<AlarmEvent>,
    /// Records that changed.
    pub records: Vec<Record>,
    /// Objects that are no longer remembered.
    pub removed: Vec<RecordKey>,
    /// Other SNMP engines whose time went on. What they lag behind costs no more than that a message
    /// of that span could be replayed after a crash.
    pub engines: Vec<EngineRecord>,
    /// When all of this was so: the caller has listened until then.
    pub as_of: Moment,
}

/// How the writer fares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Transactions on the disk.
    pub transactions: u64,
    /// Alarm events on the disk.
    pub events: u64,
    /// Writes and removals of records on the disk.
    pub records: u64,
    /// Rows of the journal that were pruned.
    pub pruned: u64,
    /// Attempts to write that failed.
    pub failures: u64,
    /// Alarm events that are in memory alone.
    pub waiting_events: usize,
    /// Objects whose last change is in memory alone.
    pub waiting_records: usize,
    /// Why nothing can be written now; nothing if the last attempt went well.
    pub failing: Option<String>,
    /// The last error, even if it is over.
    pub last_error: Option<String>,
}

/// Why a store can't be opened, or was not closed in order.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory or a file in it can't be made, read or written.
    #[error("cannot use {path}: {source}", path = path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process works on the same directory.
    #[error("{dir} is in use by process {pid}: stop it, or give this agent another directory",
            dir = dir.display())]
    Held {
        /// The directory.
        dir: PathBuf,
        /// Who holds it.
        pid: String,
    },
    /// A later version of the agent has written the database.
    #[error("{path} has version {found}, and this agent knows none above {known}: install the \
             later agent again, or move the file away",
            path = path.display(), known = schema::VERSION)]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its version.
        found: i64,
    },
    /// The database can't be opened or read.
    #[error("cannot open the database {path}: {source}", path = path.display())]
    Database {
        /// The database.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// Not everything is on the disk.
    #[error("the store was not closed in order: {0}")]
    NotClosed(String),
}

/// The store, open for writing. Dropping it writes what waits but does not mark the stop as
/// orderly; [`close`](Store::close) does.
#[derive(Debug)]
pub struct Store {
    /// Nothing once it is closed.
    queue: Option<Sender<Message>>,
    thread: Option<JoinHandle<()>>,
    committed: watch::Receiver<u64>,
    heeded: watch::Receiver<u64>,
    stats: Arc<Mutex<Stats>>,
    /// Alarm events that were submitted.
    submitted: AtomicU64,
    /// Held as long as the writer may write.
    lock: File,
}

impl Store {
    /// Opens the store in `dir`, makes it if there is none, and starts the writer. Also gives back
    /// what the last run left. Our own SNMP engine is `engine`, or one that was made by chance at the
    /// first start; its snmpEngineBoots has grown by one, and is on the disk, when this returns.
    ///
    /// # Errors
    ///
    /// The directory can't be used or is in use, or the database is of a later version or can't be
    /// opened or written. A damaged database is not an error: see [`Restored::moved_aside`].
    pub fn open(
        dir: &Path,
        now: &Now,
        retention: Retention,
        engine: Option<&EngineId>,
    ) -> Result<(Store, Restored), StoreError> {
        let lock = files::claim(dir)?;
        let (connection, restored) = restore::begin(dir, now, engine)?;
        let (queue, messages) = mpsc::channel();
        let (sender, committed) = watch::channel(restored.last_seq);
        let (heeded_sender, heeded) = watch::channel(0);
        let stats = Arc::new(Mutex::new(Stats::default()));
        let writer = Writer::new(
            connection,
            dir.join(files::DATABASE),
            retention,
            writer::Told { committed: sender, heeded: heeded_sender },
            Arc::clone(&stats),
            Begun { engine: restored.engine.clone(), starts: restored.starts },
            Instant::now(),
        );
        let thread = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || writer.run(&messages))
            .map_err(|source| StoreError::Directory { path: dir.to_owned(), source })?;
        let (queue, thread) = (Some(queue), Some(thread));
        let submitted = AtomicU64::new(0);
        Ok((Store { queue, thread, committed, heeded, stats, submitted, lock }, restored))
    }

    /// Queues alarm events and the records that changed with them. They are written at once, in one
    /// transaction, before any records that wait without events. Never blocks.
    pub fn submit(&self, commit: Commit) {
        self.submitted.fetch_add(commit.events.len() as u64, Ordering::Relaxed);
        self.send(Message::Commit(commit));
    }

    /// Queues records that changed, in transactions of at most 1,000, between which alarm events go
    /// first. `lag` is how long ago a change may have happened that is in no record yet. To be
    /// called at least once a second even without changes: it tells the store that the caller
    /// listens.
    pub fn checkpoint_state(
        &self,
        records: Vec<Record>,
        removed: Vec<RecordKey>,
        as_of: Moment,
        lag: Duration,
    ) {
        self.send(Message::Lag(lag));
        self.send(Message::Commit(Commit { records, removed, as_of, ..Commit::default() }));
    }

    /// Notes that a notification target was sent everything up to the row `seq`. It is on the disk
    /// within a second; after a crash the rows of that second are sent again.
    pub fn set_cursor(&self, target: &str, seq: u64) {
        self.send(Message::Cursor(target.to_owned(), seq));
    }

    /// The same for the numbers of the spool. To be told also of what was looked at and was not for
    /// it.
    pub fn set_spool_cursor(&self, target: &str, number: u64) {
        self.send(Message::SpoolCursor(target.to_owned(), number));
    }

    /// Notes that everything up to this number of the spool is heeded by the records that were handed
    /// over before. To be said only while the core has no more changes to hand over.
    pub fn set_heeded(&self, number: u64) {
        self.send(Message::Heeded(number));
    }

    /// The last number of which that is so on the disk, for
    /// [`Spool::checkpointed`](crate::spool::Spool::checkpointed); 0 until it is known.
    pub fn heeded(&self) -> watch::Receiver<u64> {
        self.heeded.clone()
    }

    /// Queues what is known of other SNMP engines; see [`Commit::engines`].
    pub fn checkpoint_engines(&self, engines: Vec<EngineRecord>, as_of: Moment) {
        if !engines.is_empty() {
            self.send(Message::Commit(Commit { engines, as_of, ..Commit::default() }));
        }
    }

    /// Forgets the cursors of all notification targets but these: one that is no longer configured
    /// would keep the journal from being pruned for ever.
    pub fn keep_targets(&self, names: Vec<String>) {
        self.send(Message::Targets(names));
    }

    /// The last row of the journal that is on the disk, and word of every later one.
    pub fn committed(&self) -> watch::Receiver<u64> {
        self.committed.clone()
    }

    /// Whether so much waits for the disk that the caller should take in no more traps for now:
    /// what waits here has no other bound.
    pub fn is_behind(&self) -> bool {
        let stats = self.stats.lock().unwrap_or_else(PoisonError::into_inner);
        let submitted = self.submitted.load(Ordering::Relaxed);
        submitted.saturating_sub(stats.events) >= EVENTS_BEHIND
            || stats.waiting_records >= RECORDS_BEHIND
    }

    /// How the writer fares.
    pub fn stats(&self) -> Stats {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The term that rows are written in from now on, in the order of submission; nothing for an agent
    /// that is alone.
    pub fn set_term(&self, term: Option<Term>) {
        self.send(Message::Term(term));
    }

    /// Traps whose records were handed over before, for a replica, which hears of them after those.
    pub fn prints(&self, prints: Vec<u64>) {
        self.send(Message::Prints(prints));
    }

    /// Ships how everything on the disk is, and then whatever is written, to a replica; in place of
    /// one that listened before.
    pub fn ship(&self, tap: Tap) {
        self.send(Message::Ship(tap));
    }

    /// Lets the store follow: what was submitted before is written, and then nothing but what
    /// [`apply`](Store::apply) and [`swap`](Store::swap) bring; all else is ignored. Says when.
    pub fn follow(&self) -> oneshot::Receiver<()> {
        self.ask(Message::Follow)
    }

    /// Lets the store lead again, as it does when it was opened.
    pub fn lead(&self) {
        self.send(Message::Lead);
    }

    /// What a restart would find, of what was written before this: for an agent that goes on from the
    /// state of its mate. The caller must restore all of it, as after a restart.
    pub fn reread(&self, now: Now) -> oneshot::Receiver<Result<Restored, String>> {
        self.ask(|answer| Message::Reread(Box::new(now), answer))
    }

    /// Writes what a primary's transactions have written, in one, if the store follows.
    pub fn apply(&self, now: Now, items: Vec<Item>) -> oneshot::Receiver<Result<(), String>> {
        self.ask(|answer| Message::Apply(Box::new(now), items, answer))
    }

    /// Puts a primary's copy in the place of what is here, in one transaction, if the store follows.
    pub fn swap(&self, now: Now, copy: Copy) -> oneshot::Receiver<Result<(), String>> {
        self.ask(|answer| Message::Swap(Box::new(now), copy, answer))
    }

    fn ask<T>(&self, message: impl FnOnce(oneshot::Sender<T>) -> Message) -> oneshot::Receiver<T> {
        let (answer, answered) = oneshot::channel();
        self.send(message(answer));
        answered
    }

    /// Writes all that waits and `last`, and marks the stop as orderly. Blocks for at most some
    /// seconds, even if the disk fails.
    ///
    /// # Errors
    ///
    /// Not everything could be written.
    pub fn close(&self, last: Commit) -> Result<(), StoreError> {
        let (answer, answered) = mpsc::channel();
        self.send(Message::Close(last, answer));
        let gone = || Some("the thread that writes it is gone".to_owned());
        let error = answered.recv().unwrap_or_else(|_| gone());
        error.map_or(Ok(()), |error| Err(StoreError::NotClosed(error)))
    }

    fn send(&self, message: Message) {
        // The writer outlives the queue, unless it panicked, and then there is nobody to tell but
        // `close`.
        if let Some(queue) = &self.queue {
            let _ = queue.send(message);
        }
    }

    fn stop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the writer was printed when it happened.
            let _ = thread.join();
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.stop();
        // Closing the file is not enough while a child process that is just being started still
        // holds a copy of the descriptor.
        let _ = self.lock.unlock();
    }
}
