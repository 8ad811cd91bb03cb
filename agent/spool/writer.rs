//! The thread of the spool: it gathers what is queued, writes it at once, forces it to the disk, and
//! only then answers and says that it is safe (TRAP-5).
//!
//! ```text
//!            ┌────────── queue ──────────┐
//!   waiting ─┴─> gather ─> write, force ─┼─ done ───> answers ─> safe ─> waiting
//!                   ^                    └─ failed ─> keep all, wait 250 ms ... 10 s
//!                   └──────────────────────────────────────┘
//! ```
//!
//! While one group is forced to the disk the next one gathers, so that groups become larger the
//! busier it is, and nobody waits for more than two of them.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt, MetadataExt},
    path::PathBuf,
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{Receiver, RecvTimeoutError, Sender},
    },
    time::{Duration, Instant},
};

use evenkeel_core::{input::Answer, supervision::Part};
use tokio::sync::{oneshot, watch};

use super::{
    AnswerSockets, Recovered, Shared, Work, entry,
    segment::{self, Found, HEADER, SegmentReader},
    shelf::{Segment, Verdict},
    shipping::{Entry, FOLLOWING, SpoolCopy, SpoolShipped, SpoolTap},
};
use crate::{
    store::Now,
    supervisor::pulse::{self, Pulse, SIGN},
};

/// How large a segment becomes. A larger one is deleted later, a smaller one costs more files.
const SEGMENT: u64 = 64 << 20;

/// A segment is no smaller than this, however small the spool is to be.
const LEAST_SEGMENT: u64 = 1 << 20;

/// How much is gathered for one write: some 50,000 entries, beyond which a larger group is no
/// faster.
const GROUP: usize = 8 << 20;

/// The first and the longest wait between two attempts to write to a disk that fails.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));

/// How long an orderly stop tries to write to a disk that fails.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the thread is told.
#[derive(Debug)]
pub enum Message {
    /// Write this, and answer.
    Work(Work),
    /// See [`Spool::checkpointed`](super::Spool::checkpointed).
    Checkpointed(u64),
    /// See [`Spool::set_targets`](super::Spool::set_targets).
    Targets(Vec<(String, u64)>),
    /// See [`Spool::passed`](super::Spool::passed).
    Passed(String, u64),
    /// See [`Spool::set_replicated`](super::Spool::set_replicated).
    Replicated(u64),
    /// See [`Spool::ship`](super::Spool::ship).
    Ship(SpoolTap),
    /// See [`Spool::release`](super::Spool::release).
    Release,
    /// See [`Spool::follow`](super::Spool::follow).
    Follow(oneshot::Sender<()>),
    /// See [`Spool::lead`](super::Spool::lead).
    Lead,
    /// See [`Spool::reread`](super::Spool::reread).
    Reread(Box<Now>, oneshot::Sender<Recovered>),
    /// See [`Spool::apply`](super::Spool::apply).
    Apply(Vec<Entry>, oneshot::Sender<Result<(), String>>),
    /// See [`Spool::swap`](super::Spool::swap).
    Swap(SpoolCopy, oneshot::Sender<Result<(), String>>),
    /// Write whatever waits, and answer with the error if that did not work.
    Close(Sender<Option<String>>),
}

/// The thread's own.
pub struct Writer {
    dir: PathBuf,
    boot_id: String,
    max_size: u64,
    segment_size: u64,
    sockets: AnswerSockets,
    safe: watch::Sender<u64>,
    shared: Arc<Shared>,
    /// Nothing before the first entry of this run.
    current: Option<Current>,
    /// The entries that wait, end to end, and the numbers of the first and the last of them.
    entries: Vec<u8>,
    numbers: Option<(u64, u64)>,
    count: u64,
    /// The answers that wait for them, and what all of that costs.
    answers: Vec<Answer>,
    cost: u64,
    /// The part of it that entries of this agent's own are.
    entries_cost: u64,
    /// The last number that was taken, safe or not.
    taken: u64,
    retry: Option<Retry>,
    /// Only what a primary has written is written here.
    follows: bool,
    /// There is a file [`FOLLOWING`].
    marked: bool,
    /// The last number that the mate has too; the highest there is if nothing waits for it.
    replicated: u64,
    tap: Option<SpoolTap>,
}

/// The segment that is written.
struct Current {
    first: u64,
    /// Nothing after an error: then it is opened anew, as the error may have been the descriptor's.
    file: Option<File>,
    /// Where the next entry goes.
    offset: u64,
}

/// The last attempt failed.
struct Retry {
    at: Instant,
    wait: Duration,
    error: String,
}

impl Writer {
    /// A writer behind what an earlier run left, whose last number is `last`.
    pub fn new(
        dir: PathBuf,
        boot_id: String,
        max_size: u64,
        sockets: AnswerSockets,
        safe: watch::Sender<u64>,
        shared: Arc<Shared>,
        last: u64,
    ) -> Writer {
        Writer {
            marked: dir.join(FOLLOWING).exists(),
            dir,
            boot_id,
            max_size,
            // Four of them at least, so that what must go is never all.
            segment_size: (max_size / 4).clamp(LEAST_SEGMENT, SEGMENT),
            sockets,
            safe,
            shared,
            current: None,
            entries: Vec::new(),
            numbers: None,
            count: 0,
            answers: Vec::new(),
            cost: 0,
            entries_cost: 0,
            taken: last,
            retry: None,
            follows: false,
            replicated: u64::MAX,
            tap: None,
        }
    }

    /// Works until it is told to stop or nobody is left to tell it.
    pub fn run(mut self, queue: &Receiver<Message>) {
        let pulse = Pulse::of_thread(Part::Spool);
        let answer = loop {
            pulse.beat();
            let due = self.retry.as_ref();
            let due = due.map(|retry| retry.at.saturating_duration_since(Instant::now()));
            let mut stop = match queue.recv_timeout(due.map_or(SIGN, |due| due.min(SIGN))) {
                Ok(message) => self.take(message),
                // It woke for a sign of life alone.
                Err(RecvTimeoutError::Timeout) if due.is_none_or(|due| due > SIGN) => continue,
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => break None,
            };
            // Whatever else is queued shares the write.
            while stop.is_none() && self.entries.len() < GROUP {
                let Ok(message) = queue.try_recv() else { break };
                stop = self.take(message);
            }
            if stop.is_some() {
                break stop;
            }
            let disk = pulse::at_disk(Part::Spool);
            self.turn(Instant::now());
            self.prune();
            drop(disk);
        };
        let error = self.finish();
        // Nobody waits for the answer of a spool that was dropped.
        if let Some(answer) = answer {
            let _ = answer.send(error);
        }
    }

    /// Takes a message; gives back who waits for the end.
    pub fn take(&mut self, message: Message) -> Option<Sender<Option<String>>> {
        match message {
            Message::Work(work) if self.follows => self.leave_out(work),
            Message::Work(work) => self.take_work(work),
            Message::Replicated(number) => self.replicated = number,
            Message::Ship(tap) => {
                let safe = self.numbers.map_or(self.taken, |(first, _)| first - 1);
                let passed = self.shared.shelf().hold();
                self.tap = tap.put(SpoolShipped::Begin { safe, passed }, 0).then_some(tap);
            }
            Message::Release => self.shared.shelf().held = false,
            Message::Follow(done) => {
                if !self.follows {
                    // What could not be written was reported safe to nobody.
                    let _ = self.finish();
                    self.forget();
                }
                (self.follows, self.tap) = (true, None);
                let _ = done.send(());
            }
            Message::Lead => self.follows = false,
            Message::Reread(now, answer) => {
                let segments = self.shared.shelf().firsts();
                let _ = answer.send(Recovered::of(&self.dir, segments, self.taken, &now));
            }
            Message::Apply(entries, answer) => {
                let _ = answer.send(self.apply(entries));
            }
            Message::Swap(copy, answer) => {
                let _ = answer.send(self.swap(copy));
            }
            Message::Checkpointed(number) => {
                let mut shelf = self.shared.shelf();
                shelf.checkpointed = shelf.checkpointed.max(number);
            }
            Message::Targets(targets) => {
                self.shared.shelf().targets = Some(targets.into_iter().collect());
            }
            Message::Passed(target, number) => {
                if let Some(targets) = &mut self.shared.shelf().targets
                    && let Some(at) = targets.get_mut(&target)
                {
                    *at = number.max(*at);
                }
            }
            Message::Close(answer) => return Some(answer),
        }
        None
    }

    fn take_work(&mut self, work: Work) {
        let cost = work.cost();
        if work.count > 0 && work.first <= self.taken {
            // Numbers that were used must not be used for something else: it would never be told
            // from what it replaced. Nobody is told that this is safe.
            let error = format!(
                "number {} was given again, after {}; this is a bug of the agent",
                work.first, self.taken
            );
            tracing::error!(error, "entries were refused by the spool");
            self.shared.waiting_answers.fetch_sub(work.answers.len() as u64, Ordering::Relaxed);
            self.shared.waiting_bytes.fetch_sub(cost, Ordering::Relaxed);
            let mut stats = self.shared.stats();
            stats.failures += 1;
            stats.last_error = Some(error);
            return;
        }
        self.cost += cost;
        if work.count > 0 {
            self.unmark();
            self.entries_cost += work.entries.len() as u64;
            self.taken = work.last;
            self.count += work.count;
            self.numbers = Some((self.numbers.map_or(work.first, |(first, _)| first), work.last));
            if self.entries.is_empty() {
                self.entries = work.entries;
            } else {
                self.entries.extend_from_slice(&work.entries);
            }
        }
        if self.answers.is_empty() {
            self.answers = work.answers;
        } else {
            self.answers.extend(work.answers);
        }
    }

    /// A standby takes in nothing of its own. What waits for nothing is sent all the same; who sent an
    /// inform repeats it.
    fn leave_out(&self, work: Work) {
        let (count, cost) = (work.answers.len(), work.cost());
        let at_once: Vec<Answer> =
            work.answers.into_iter().filter(|answer| answer.after.is_none()).collect();
        self.sockets.send(&at_once);
        self.settle(count, cost);
    }

    /// Forgets what waits.
    fn forget(&mut self) {
        self.settle(self.answers.len(), self.cost);
        self.taken = self.numbers.map_or(self.taken, |(first, _)| first - 1);
        self.entries.clear();
        self.answers.clear();
        (self.numbers, self.retry) = (None, None);
        (self.count, self.cost, self.entries_cost) = (0, 0, 0);
    }

    /// What is written from now on is this agent's own.
    fn unmark(&mut self) {
        if self.marked && !self.follows {
            // Before the entry: were it there still after a crash, a mate would take all of this for
            // its own.
            let gone = std::fs::remove_file(self.dir.join(FOLLOWING));
            let gone = gone.and_then(|()| segment::sync_dir(&self.dir));
            if let Err(error) = gone
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::error!(%error, dir = %self.dir.display(), "cannot remove {FOLLOWING}");
            }
            self.marked = false;
        }
    }

    fn mark(&mut self) -> io::Result<()> {
        std::fs::File::create(self.dir.join(FOLLOWING))?.sync_all()?;
        segment::sync_dir(&self.dir)?;
        self.marked = true;
        Ok(())
    }

    /// Writes a primary's entries. Those that are here are left out.
    fn apply(&mut self, entries: Vec<Entry>) -> Result<(), String> {
        if !self.follows {
            return Err("the spool does not follow any more".to_owned());
        }
        self.gather(entries.iter());
        self.write_gathered()
    }

    fn gather<'a>(&mut self, entries: impl Iterator<Item = &'a Entry>) {
        for entry in entries {
            if entry.number > self.taken && entry.append(&mut self.entries) {
                self.taken = entry.number;
                self.count += 1;
                let first = self.numbers.map_or(entry.number, |(first, _)| first);
                self.numbers = Some((first, entry.number));
            }
        }
    }

    fn write_gathered(&mut self) -> Result<(), String> {
        // Whoever asked has no other attempt in mind, so it is made now.
        self.retry = None;
        self.turn(Instant::now());
        match &self.retry {
            None => Ok(()),
            Some(retry) => Err(retry.error.clone()),
        }
    }

    /// Puts a primary's entries in the place of what is here, or beside it. Interrupted, it is to be done
    /// again.
    fn swap(&mut self, copy: SpoolCopy) -> Result<(), String> {
        if !self.follows {
            return Err("the spool does not follow any more".to_owned());
        }
        let SpoolCopy { adds, last, heeded, entries } = copy;
        self.forget();
        let text = |error: io::Error| error.to_string();
        if !adds {
            self.end_segment().map_err(text)?;
            for first in segment::list(&self.dir).map_err(text)? {
                std::fs::remove_file(segment::path(&self.dir, first)).map_err(text)?;
            }
            self.shared.shelf().replace(heeded);
            self.taken = 0;
        }
        for entry in entries {
            let entry = entry?;
            if entry.number <= last {
                self.gather(std::iter::once(&entry));
            }
            if self.entries.len() >= GROUP {
                self.write_gathered()?;
            }
        }
        self.write_gathered()?;
        if self.taken < last {
            // The name of a segment keeps the numbers going.
            self.end_segment().map_err(text)?;
            let begun = begin(&self.dir, last + 1, &self.boot_id, self.segment_size, &self.shared);
            self.current = Some(begun.map_err(text)?);
            self.taken = last;
        }
        self.mark().map_err(text)?;
        let _ = self.safe.send_replace(self.taken);
        Ok(())
    }

    /// Writes what waits, if it is time, and answers.
    pub fn turn(&mut self, now: Instant) {
        let due = self.retry.as_ref().is_none_or(|retry| retry.at <= now);
        if let Some((first, last)) = self.numbers.filter(|_| due) {
            match self.write(first) {
                Ok(()) => self.succeeded(last, now),
                Err(error) => self.failed(&error, now),
            }
        }
        self.answer();
    }

    /// Appends what waits to the newest segment, or to a new one, and forces it to the disk.
    fn write(&mut self, first: u64) -> io::Result<()> {
        let length = self.entries.len() as u64;
        if let Some(current) = &self.current
            && current.offset + length > self.segment_size
            && current.offset > HEADER as u64
        {
            self.end_segment()?;
        }
        let current = match &mut self.current {
            Some(current) => current,
            none => none.insert(begin(
                &self.dir,
                first,
                &self.boot_id,
                self.segment_size,
                &self.shared,
            )?),
        };
        let file = match &mut current.file {
            Some(file) => file,
            none => match OpenOptions::new()
                .write(true)
                .open(segment::path(&self.dir, current.first))
            {
                Ok(file) => none.insert(file),
                // Someone has deleted it: what follows is not lost with it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    *current =
                        begin(&self.dir, first, &self.boot_id, self.segment_size, &self.shared)?;
                    current.file.as_mut().ok_or(io::ErrorKind::NotFound)?
                }
                Err(error) => return Err(error),
            },
        };
        // After an error all of it is written once more, also what the kernel had taken before the
        // error: when forcing fails it may forget what it had.
        let written = file
            .write_all_at(&self.entries, current.offset)
            .and_then(|()| file.sync_data())
            .and_then(|()| file.metadata())
            .and_then(|file| match file.nlink() {
                0 => Err(io::Error::new(io::ErrorKind::NotFound, "the segment was deleted")),
                _ => Ok(()),
            });
        match written {
            Ok(()) => current.offset += length,
            Err(_) => current.file = None,
        }
        written
    }

    /// Ends the segment that is written: gives back the room that it did not need, and whatever an
    /// attempt that failed may have left behind its last entry.
    fn end_segment(&mut self) -> io::Result<()> {
        if let Some(Current { first, offset, .. }) = self.current {
            match OpenOptions::new().write(true).open(segment::path(&self.dir, first)) {
                Ok(file) => file.set_len(offset)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            self.shared.shelf().shrink(offset);
        }
        self.current = None;
        Ok(())
    }

    fn succeeded(&mut self, last: u64, began: Instant) {
        if let Some(retry) = self.retry.take() {
            tracing::warn!(error = retry.error, "the spool can be written again");
        }
        let (took, bytes, count) = (began.elapsed(), self.entries.len() as u64, self.count);
        let end = self.current.as_ref().map_or(0, |current| current.offset);
        self.shared.shelf().extend(last, end);
        {
            let mut stats = self.shared.stats();
            stats.entries += count;
            stats.bytes += bytes;
            stats.syncs += 1;
            stats.sync_last = took;
            stats.sync_max = stats.sync_max.max(took);
            stats.sync_total += took;
            stats.failing = None;
        }
        if let Some(tap) = &self.tap {
            let entries = std::mem::take(&mut self.entries);
            let cost = entries.len() as u64;
            if !tap.put(SpoolShipped::Entries(entries), cost) {
                self.tap = None;
            }
        }
        self.entries.clear();
        (self.numbers, self.count) = (None, 0);
        // Answers that wait for the mate must not make the spool seem to be behind by this.
        self.settle(0, self.entries_cost);
        self.cost -= self.entries_cost;
        self.entries_cost = 0;
    }

    fn failed(&mut self, error: &io::Error, now: Instant) {
        let text = error.to_string();
        let (first, longest) = BACK_OFF;
        let previous = self.retry.take();
        // Once per change: a disk that stays full for a day is one line.
        if previous.as_ref().is_none_or(|previous| previous.error != text) {
            tracing::error!(
                error = text,
                dir = %self.dir.display(),
                "the spool can't be written; informs are not answered until it can"
            );
        }
        let wait = previous.map_or(first, |previous| (previous.wait * 2).min(longest));
        let mut stats = self.shared.stats();
        stats.failures += 1;
        stats.failing = Some(text.clone());
        stats.last_error = Some(text.clone());
        drop(stats);
        self.retry = Some(Retry { at: now + wait, wait, error: text });
    }

    /// Sends the answers whose numbers are safe, and says what is safe.
    fn answer(&mut self) {
        let safe = self.numbers.map_or(self.taken, |(first, _)| first - 1);
        let safe_on_both = safe.min(self.replicated);
        if self.answers.iter().all(|answer| answer.after.is_none_or(|after| after <= safe_on_both))
            && self.numbers.is_none()
        {
            self.sockets.send(&self.answers);
            self.settle(self.answers.len(), self.cost);
            self.answers.clear();
            (self.cost, self.entries_cost) = (0, 0);
        } else {
            // The disk fails, or the mate has not got all yet: who repeats what is safe already is
            // answered all the same.
            let is_safe =
                |answer: &mut Answer| answer.after.is_none_or(|after| after <= safe_on_both);
            let ready: Vec<Answer> = self.answers.extract_if(.., is_safe).collect();
            if !ready.is_empty() {
                self.sockets.send(&ready);
                let cost = Work { answers: ready, ..Work::default() };
                self.settle(cost.answers.len(), cost.cost());
                self.cost -= cost.cost();
            }
        }
        // Even if it is the same: who waits for the spool to be no longer behind waits for this.
        let _ = self.safe.send_replace(safe);
    }

    /// So much no longer waits.
    fn settle(&self, answers: usize, cost: u64) {
        self.shared.waiting_answers.fetch_sub(answers as u64, Ordering::Relaxed);
        self.shared.waiting_bytes.fetch_sub(cost, Ordering::Relaxed);
    }

    /// Deletes the segments that may or must go.
    pub fn prune(&mut self) {
        loop {
            let verdict = self.shared.shelf().judge(self.max_size);
            let (oldest, lost) = match verdict {
                Verdict::Stays => return,
                Verdict::Done(oldest) => (oldest, BTreeMap::new()),
                Verdict::Lost(oldest) => (oldest, self.count_lost(oldest)),
            };
            match std::fs::remove_file(segment::path(&self.dir, oldest.first)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    self.shared.stats().last_error = Some(error.to_string());
                    return;
                }
                _ => self.shared.shelf().remove_oldest(),
            }
            let mut stats = self.shared.stats();
            for (target, entries) in lost {
                // Once for each target: the number is in the metrics.
                if !stats.lost.contains_key(&target) {
                    tracing::warn!(
                        target,
                        "the spool is full: the oldest traps that wait for this notification target \
                         are lost"
                    );
                }
                *stats.lost.entry(target).or_default() += entries;
            }
        }
    }

    /// How many entries of a segment each notification target has not had yet.
    fn count_lost(&self, segment: Segment) -> BTreeMap<String, u64> {
        let targets = self.shared.shelf().targets.clone();
        let mut lost = BTreeMap::new();
        let waits = |target: &str, number| match &targets {
            Some(targets) => targets.get(target).is_some_and(|at| *at < number),
            None => true,
        };
        // What can't be read can't be counted, and must go all the same.
        let Ok(Some(mut reader)) = SegmentReader::open(&self.dir, segment.first) else {
            return lost;
        };
        while let Ok(Found::Entry(number)) = reader.next() {
            for target in entry::targets(reader.body()) {
                if waits(target, number) {
                    *lost.entry(target.to_owned()).or_default() += 1;
                }
            }
        }
        lost
    }

    /// Writes all that waits, for as long as a stop may take, and says what went wrong.
    fn finish(&mut self) -> Option<String> {
        let until = Instant::now() + PATIENCE;
        loop {
            self.turn(Instant::now());
            match &self.retry {
                None => break,
                Some(retry) if Instant::now() + retry.wait > until => {
                    return Some(format!(
                        "{} entries were not written and not answered: {}",
                        self.count, retry.error
                    ));
                }
                Some(retry) => std::thread::sleep(retry.wait),
            }
        }
        self.end_segment().err().map(|error| error.to_string())
    }
}

/// Begins a segment.
fn begin(
    dir: &std::path::Path,
    first: u64,
    boot_id: &str,
    room: u64,
    shared: &Shared,
) -> io::Result<Current> {
    let file = segment::create(dir, first, boot_id, room)?;
    let room = file.metadata().map_or(room, |file| file.len());
    shared.shelf().begin(first, room);
    Ok(Current { first, file: Some(file), offset: HEADER as u64 })
}

#[cfg(test)]
impl Writer {
    /// How long the next attempt is away.
    pub fn retry_in(&self, now: Instant) -> Option<Duration> {
        self.retry.as_ref().map(|retry| retry.at.saturating_duration_since(now))
    }
}
