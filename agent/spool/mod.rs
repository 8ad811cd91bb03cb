//! The spool: informs, and traps for notification targets that acknowledge, on the disk before
//! anyone is told that they are safe (TRAP-5).
//!
//! ```text
//! driver ──Work──> queue ──> thread "spool": one write, one fdatasync ──> answers ──> safe
//!                                    │
//!                     segments in <state_dir>/spool/ ──> SpoolReader ──> notifier
//! ```
//!
//! The SQLite store takes some 40,000 entries a second, an append-only file a million, so this stands
//! in front of it. `README.md` beside this file is for operators.

pub mod answers;
mod dump;
mod entry;
mod reader;
mod recovery;
mod segment;
mod shelf;
mod shipping;
mod work;
mod writer;

#[cfg(test)]
mod crash;
#[cfg(test)]
pub mod testing;
#[cfg(test)]
mod tests;

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, Sender},
    },
    thread::JoinHandle,
    time::Duration,
};

use tokio::sync::{oneshot, watch};

pub use self::{
    answers::AnswerSockets,
    dump::dump,
    reader::SpoolReader,
    recovery::Recovered,
    shipping::{Entry, FOLLOWING, SpoolCopy, SpoolShipped, SpoolTap, Stored, read_entries},
    work::{Work, WorkBuilder},
};
use self::{
    shelf::Shelf,
    writer::{Message, Writer},
};
use crate::store::Now;

/// Where the spool is in the state directory.
pub const DIRECTORY: &str = "spool";

/// How much may wait before the spool is behind: a fifth of a million informs, which take some
/// 0.3 s to write.
const BEHIND: u64 = 32 << 20;

/// How large the spool may become if nothing else is configured: some five million traps, an hour of
/// 1,400 a second while an NMS is away.
pub const DEFAULT_MAX_SIZE: u64 = 1 << 30;

/// How the spool fares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Entries on the disk since the start.
    pub entries: u64,
    /// Octets of entries on the disk since the start.
    pub bytes: u64,
    /// Times that something was forced to the disk.
    pub syncs: u64,
    /// How long writing and forcing took the last time.
    pub sync_last: Duration,
    /// The longest since the start.
    pub sync_max: Duration,
    /// All of them together.
    pub sync_total: Duration,
    /// Octets, with those of answers, that wait for the disk.
    pub waiting_bytes: u64,
    /// Answers that wait for the disk.
    pub waiting_answers: u64,
    /// Attempts to write that failed.
    pub failures: u64,
    /// Why nothing can be written now; nothing if the last attempt went well.
    pub failing: Option<String>,
    /// The last error, even if it is over.
    pub last_error: Option<String>,
    /// Files.
    pub segments: u64,
    /// Octets that the files take.
    pub size: u64,
    /// The last number that is safe.
    pub safe: u64,
    /// Entries that were deleted before a notification target had them, as the spool had become too
    /// large, by target.
    pub lost: std::collections::BTreeMap<String, u64>,
    /// Answers sent, those that did not wait for the disk included.
    pub answers_sent: u64,
    /// Answers that could not be sent; the sender repeats its inform.
    pub answers_failed: u64,
}

/// The spool, open for writing. Dropping it writes what waits.
#[derive(Debug)]
pub struct Spool {
    dir: PathBuf,
    /// Nothing once it is closed.
    queue: Option<Sender<Message>>,
    thread: Option<JoinHandle<()>>,
    safe: watch::Receiver<u64>,
    shared: Arc<Shared>,
    sockets: AnswerSockets,
}

/// What the thread and those who ask share.
#[derive(Debug, Default)]
struct Shared {
    stats: Mutex<Stats>,
    waiting_bytes: AtomicU64,
    waiting_answers: AtomicU64,
    shelf: Mutex<Shelf>,
}

impl Shared {
    fn stats(&self) -> std::sync::MutexGuard<'_, Stats> {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shelf(&self) -> std::sync::MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Spool {
    /// Opens the spool in `dir`, makes it if there is none, and starts its thread. Nobody else may
    /// have it open: the lock of the store in the directory above sees to that. Also gives back what
    /// an earlier run left.
    ///
    /// # Errors
    ///
    /// The directory can't be made, read or written.
    pub fn open(
        dir: &Path,
        max_size: u64,
        sockets: AnswerSockets,
        now: &Now,
    ) -> io::Result<(Spool, Recovered)> {
        segment::make_dir(dir)?;
        let (recovered, segments) = recovery::recover(dir, now)?;
        let shared = Arc::new(Shared::default());
        *shared.shelf() = Shelf::new(dir, &segments, recovered.last);
        let (sender, safe) = watch::channel(recovered.last);
        let (queue, messages) = mpsc::channel();
        let boot_id = now.boot_id.clone();
        let writer = Writer::new(
            dir.to_owned(),
            boot_id,
            max_size,
            sockets.clone(),
            sender,
            Arc::clone(&shared),
            recovered.last,
        );
        let thread = std::thread::Builder::new()
            .name("spool".to_owned())
            .spawn(move || writer.run(&messages))?;
        let (queue, thread) = (Some(queue), Some(thread));
        Ok((Spool { dir: dir.to_owned(), queue, thread, safe, shared, sockets }, recovered))
    }

    /// Queues entries, whose numbers go on from those before, and answers that leave once they and
    /// all before them are safe. Never blocks.
    pub fn submit(&self, work: Work) {
        self.shared.waiting_bytes.fetch_add(work.cost(), Ordering::Relaxed);
        self.shared.waiting_answers.fetch_add(work.answers.len() as u64, Ordering::Relaxed);
        self.send(Message::Work(work));
    }

    /// The last number that is on the disk, with all before it. There is word of it after each
    /// write, even if the number is the same.
    pub fn safe(&self) -> watch::Receiver<u64> {
        self.safe.clone()
    }

    /// Whether so much waits for the disk that the caller should take in no more traps for now: what
    /// waits here has no other bound. When that changes there is word of [`Spool::safe`].
    pub fn is_behind(&self) -> bool {
        self.shared.waiting_bytes.load(Ordering::Relaxed) >= BEHIND
    }

    /// How the spool fares.
    pub fn stats(&self) -> Stats {
        let mut stats = self.shared.stats().clone();
        stats.waiting_bytes = self.shared.waiting_bytes.load(Ordering::Relaxed);
        stats.waiting_answers = self.shared.waiting_answers.load(Ordering::Relaxed);
        stats.safe = *self.safe.borrow();
        (stats.segments, stats.size) = self.shared.shelf().size();
        (stats.answers_sent, stats.answers_failed) = self.sockets.counts();
        stats
    }

    /// The records of all objects are on the disk as they were after the entry `number`, so that no
    /// entry up to it need be judged again.
    pub fn checkpointed(&self, number: u64) {
        self.send(Message::Checkpointed(number));
    }

    /// These are the notification targets that acknowledge, each with the number up to which it has
    /// had everything. Before this was said once, nothing is deleted for having been passed.
    pub fn set_targets(&self, targets: Vec<(String, u64)>) {
        self.send(Message::Targets(targets));
    }

    /// A notification target has had everything up to `number`. (The store keeps that over a restart:
    /// [`Store::set_spool_cursor`](crate::store::Store::set_spool_cursor).)
    pub fn passed(&self, target: &str, number: u64) {
        self.send(Message::Passed(target.to_owned(), number));
    }

    /// A reader of what is safe, for one notification target.
    pub fn reader(&self) -> SpoolReader {
        SpoolReader::new(self.dir.clone(), Arc::clone(&self.shared), self.safe.clone())
    }

    /// An answer also waits until the mate has its number: this one, and all before it. With the highest
    /// number that there is, which is so until something else is said, nothing waits for a mate.
    pub fn set_replicated(&self, number: u64) {
        self.send(Message::Replicated(number));
    }

    /// Ships whatever is written from now on to a replica, in place of one that listened before. Until
    /// [`Spool::release`], what nobody needs any more is kept as long as there is room, so that a copy
    /// can be read.
    pub fn ship(&self, tap: SpoolTap) {
        self.send(Message::Ship(tap));
    }

    /// The copy was read, or is not wanted any more.
    pub fn release(&self) {
        self.send(Message::Release);
    }

    /// Lets the spool follow: what was submitted before is written, and then nothing but what
    /// [`apply`](Spool::apply) and [`swap`](Spool::swap) bring. Says when.
    pub fn follow(&self) -> oneshot::Receiver<()> {
        self.ask(Message::Follow)
    }

    /// Lets the spool lead again, as it does when it was opened.
    pub fn lead(&self) {
        self.send(Message::Lead);
    }

    /// What a restart would find, of what was written before this.
    pub fn reread(&self, now: Now) -> oneshot::Receiver<Recovered> {
        self.ask(|answer| Message::Reread(Box::new(now), answer))
    }

    /// Writes a primary's entries, with their numbers, if the spool follows. Those that are here already
    /// are left out.
    pub fn apply(&self, entries: Vec<Entry>) -> oneshot::Receiver<Result<(), String>> {
        self.ask(|answer| Message::Apply(entries, answer))
    }

    /// Puts the entries of a primary's copy in the place of what is here, or beside it, if the spool
    /// follows. It is not done at once: after a crash in the midst it must be done again.
    pub fn swap(&self, copy: SpoolCopy) -> oneshot::Receiver<Result<(), String>> {
        self.ask(|answer| Message::Swap(copy, answer))
    }

    fn ask<T>(&self, message: impl FnOnce(oneshot::Sender<T>) -> Message) -> oneshot::Receiver<T> {
        let (answer, answered) = oneshot::channel();
        self.send(message(answer));
        answered
    }

    /// Writes all that waits and sends its answers. Blocks for at most some seconds, even if the disk
    /// fails.
    ///
    /// # Errors
    ///
    /// Not everything could be written.
    pub fn close(&self) -> io::Result<()> {
        let (answer, answered) = mpsc::channel();
        self.send(Message::Close(answer));
        let gone = || Some("the thread that writes the spool is gone".to_owned());
        let error = answered.recv().unwrap_or_else(|_| gone());
        error.map_or(Ok(()), |error| Err(io::Error::other(error)))
    }

    fn send(&self, message: Message) {
        // The thread outlives the queue, unless it panicked, and then there is nobody to tell but
        // `close`.
        if let Some(queue) = &self.queue {
            let _ = queue.send(message);
        }
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was printed when it happened.
            let _ = thread.join();
        }
    }
}
