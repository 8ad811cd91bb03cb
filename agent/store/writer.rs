//! The one thread that writes: it gathers what is queued, writes it in one transaction, and says so
//! once it is on the disk.
//!
//! ```text
//!            ┌────────── queue ──────────┐
//!   waiting ─┴─> gather ─> transaction ──┼─ committed ─> tell ─> waiting
//!                   ^                    └─ failed ────> keep all, wait 250 ms ... 10 s
//!                   └──────────────────────────────────────┘
//! ```

use std::{
    collections::VecDeque,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, Sender},
    },
    time::{Duration, Instant},
};

use evenkeel_core::{
    pair::term::Term,
    shadow::{KEPT_FOR, MOST},
    state::RecordKey,
    supervision::Part,
    time::WallTime,
};
use rusqlite::{Connection, ErrorCode, TransactionBehavior};
use tokio::sync::{oneshot, watch};

use super::{
    Commit, Now, Restored, Retention, Stats,
    following::{self, Copy},
    pending::Pending,
    restore::{self, ALIVE, Begun},
    schema,
    shipping::{Item, Shipped, Tap},
    snapshot::Snapshot,
};
use crate::supervisor::pulse::{self, Pulse, SIGN};

/// The longest that a cursor waits to be written. What it costs to lose one is a notification that
/// is sent twice.
const CURSORS: Duration = Duration::from_secs(1);

/// How often *alive* is written while no object is remembered: nothing depends on it then but what
/// an operator reads.
const ALIVE_IDLE: Duration = Duration::from_secs(60);

/// The first and the longest wait between two attempts to write to a disk that fails.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));

/// How long an orderly stop tries to write to a disk that fails.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often the journal is pruned; how many rows in one step (some 10 ms); and the wait between
/// two steps, in which alarms go first.
const PRUNE: (Duration, usize, Duration) =
    (Duration::from_secs(3600), 1_000, Duration::from_millis(50));

/// What the writer is told.
#[derive(Debug)]
pub enum Message {
    /// Write this.
    Commit(Commit),
    /// How far the records may lag behind.
    Lag(Duration),
    /// A notification target was sent everything up to a row.
    Cursor(String, u64),
    /// A notification target was sent everything up to a number of the spool.
    SpoolCursor(String, u64),
    /// The records before this heed everything up to a number of the spool.
    Heeded(u64),
    /// These are the notification targets; forget the cursors of all others.
    Targets(Vec<String>),
    /// The term that rows are written in from now on.
    Term(Option<Term>),
    /// Ship what is written from now on, and how everything is now.
    Ship(Tap),
    /// Traps whose records were handed over before this.
    Prints(Vec<u64>),
    /// Write what waits; from now on only what a primary has written is written, and whatever else is
    /// asked for is ignored.
    Follow(oneshot::Sender<()>),
    /// Write what is asked for, as an agent does that is no standby.
    Lead,
    /// What a restart would find.
    Reread(Box<Now>, oneshot::Sender<Result<Restored, String>>),
    /// Write what a primary has written.
    Apply(Box<Now>, Vec<Item>, oneshot::Sender<Result<(), String>>),
    /// Put a primary's copy in the place of what is here.
    Swap(Box<Now>, Copy, oneshot::Sender<Result<(), String>>),
    /// Write this and whatever else waits, mark the stop as orderly, and answer with the error if
    /// that did not work.
    Close(Commit, Sender<Option<String>>),
}

/// Who may have things written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// This agent.
    Leading,
    /// The primary that it is the standby of, through the replica.
    Following,
}

/// Where the writer says what is on the disk.
pub struct Told {
    /// The last row of the journal.
    pub committed: watch::Sender<u64>,
    /// The last number of the spool that the records heed.
    pub heeded: watch::Sender<u64>,
}

/// The writer and all that it owns.
pub struct Writer {
    connection: Connection,
    path: PathBuf,
    retention: Retention,
    pending: Pending,
    told: Told,
    /// What is to be told as heeded once no record waits any more.
    heeded: Option<u64>,
    stats: Arc<Mutex<Stats>>,
    retry: Option<Retry>,
    /// When the first of the cursors that wait came.
    cursors_since: Option<Instant>,
    /// When *alive* was last written.
    alive_at: Instant,
    /// Whether any object or engine is remembered.
    has_objects: bool,
    /// When the journal is next pruned.
    prune_at: Instant,
    /// The newest wall time that a caller told.
    wall: WallTime,
    mode: Mode,
    /// The term of the rows that are written.
    term: Option<Term>,
    tap: Option<Tap>,
    /// Prints that are shipped once no record waits any more.
    prints: Vec<u64>,
    /// Those of the last [`KEPT_FOR`]: a replica that comes has kept their traps, too.
    printed: VecDeque<(Instant, Vec<u64>)>,
    /// What this run began with, which stays the same when the state is read once more.
    begun: Begun,
}

/// The last attempt failed.
struct Retry {
    at: Instant,
    wait: Duration,
    error: String,
    /// The connection may be of no more use.
    reconnect: bool,
}

impl Writer {
    /// A writer on an open database, whose journal ends where `told.committed` says.
    pub fn new(
        connection: Connection,
        path: PathBuf,
        retention: Retention,
        told: Told,
        stats: Arc<Mutex<Stats>>,
        begun: Begun,
        now: Instant,
    ) -> Writer {
        Writer {
            connection,
            path,
            retention,
            pending: Pending::default(),
            told,
            heeded: None,
            stats,
            retry: None,
            cursors_since: None,
            alive_at: now,
            has_objects: true,
            prune_at: now + Duration::from_secs(60),
            wall: WallTime(0),
            mode: Mode::Leading,
            term: None,
            tap: None,
            prints: Vec::new(),
            printed: VecDeque::new(),
            begun,
        }
    }

    /// Writes until it is told to stop or nobody is left to tell it.
    pub fn run(mut self, queue: &Receiver<Message>) {
        let pulse = Pulse::of_thread(Part::Store);
        let (last, answer) = loop {
            pulse.beat();
            let now = Instant::now();
            let due = self.due(now).map(|at| at.saturating_duration_since(now));
            let message = queue.recv_timeout(due.map_or(SIGN, |due| due.min(SIGN)));
            match message {
                Ok(Message::Close(last, answer)) => break (Some(last), Some(answer)),
                Ok(message) => {
                    self.take(message);
                    // Whatever else is queued shares the transaction. Bounded, as a caller that
                    // never pauses must not keep it from being written.
                    let mut close = None;
                    for message in queue.try_iter().take(100_000) {
                        pulse.beat();
                        if let Message::Close(last, answer) = message {
                            close = Some((Some(last), Some(answer)));
                            break;
                        }
                        self.take(message);
                    }
                    if let Some(close) = close {
                        break close;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break (None, None),
            }
            let now = Instant::now();
            if self.due(now).is_some_and(|at| at <= now) {
                self.turn(now);
            }
            self.publish_backlog();
        };
        let clean = last.is_some();
        if let Some(last) = last {
            self.take(Message::Commit(last));
        }
        let error = self.finish(clean);
        // Nobody waits for the answer of a store that was dropped.
        if let Some(answer) = answer {
            let _ = answer.send(error);
        }
    }

    /// Takes a message into what waits to be written, or does at once what it says of the replica.
    pub fn take(&mut self, message: Message) {
        let leads = self.mode == Mode::Leading;
        match message {
            Message::Commit(mut commit) if leads => {
                self.wall = commit.as_of.wall;
                commit.events.iter_mut().for_each(|event| event.term = self.term);
                self.pending.add(commit);
            }
            Message::Lag(lag) if leads => self.pending.lag = Some(lag),
            Message::Cursor(target, seq) if leads => {
                self.pending.cursors.insert(target, seq);
                self.cursors_since.get_or_insert_with(Instant::now);
            }
            Message::SpoolCursor(target, number) if leads => {
                self.pending.spool_cursors.insert(target, number);
                self.cursors_since.get_or_insert_with(Instant::now);
            }
            Message::Heeded(number) if leads => {
                if number > *self.told.heeded.borrow() {
                    self.pending.heeded = Some(number);
                    self.cursors_since.get_or_insert_with(Instant::now);
                    self.heeded = Some(number);
                    self.tell_heeded();
                }
            }
            Message::Targets(targets) if leads => {
                self.pending.targets = Some(targets);
                self.cursors_since.get_or_insert_with(Instant::now);
            }
            // A standby's own: what is written there is the primary's alone.
            Message::Commit(_)
            | Message::Lag(_)
            | Message::Cursor(..)
            | Message::SpoolCursor(..)
            | Message::Heeded(_)
            | Message::Targets(_) => {}
            Message::Term(term) => self.term = term,
            Message::Ship(tap) => self.ship(tap),
            Message::Prints(prints) => {
                if leads {
                    self.prints.extend(prints);
                    self.ship_prints();
                }
            }
            Message::Follow(done) => {
                self.follow();
                // Whoever asked may be gone.
                let _ = done.send(());
            }
            Message::Lead => self.mode = Mode::Leading,
            Message::Reread(now, answer) => {
                let _ = answer.send(self.reread(&now).map_err(|error| error.to_string()));
            }
            Message::Apply(now, items, answer) => {
                let _ = answer.send(self.apply(&now, &items));
            }
            Message::Swap(now, copy, answer) => {
                let _ = answer.send(self.swap(&now, copy));
            }
            Message::Close(..) => unreachable!("the loop ends with it"),
        }
    }

    /// Tells a replica how everything on the disk is, and from now on what is written. What waits now
    /// is written later, and so told.
    fn ship(&mut self, tap: Tap) {
        let _disk = pulse::at_disk(Part::Store);
        let begin = match Snapshot::begin(&self.path) {
            Ok(snapshot) => Shipped::Begin(snapshot),
            Err(error) => Shipped::Failed(error.to_string()),
        };
        self.tap = tap.put(begin, 0).then_some(tap);
        let printed = self.printed.iter().map(|(_, prints)| Item::Prints(prints.clone()));
        self.ship_items(printed.collect());
    }

    fn ship_items(&mut self, items: Vec<Item>) {
        if self.tap.as_ref().is_some_and(|tap| !tap.ship(items)) {
            self.tap = None;
        }
    }

    fn ship_prints(&mut self) {
        if self.pending.changes.is_empty() && !self.prints.is_empty() {
            let prints = std::mem::take(&mut self.prints);
            self.note_printed(prints.clone());
            self.ship_items(vec![Item::Prints(prints)]);
        }
    }

    fn note_printed(&mut self, prints: Vec<u64>) {
        let now = Instant::now();
        self.printed.push_back((now, prints));
        let mut count: usize = self.printed.iter().map(|(_, prints)| prints.len()).sum();
        while let Some((at, prints)) = self.printed.front()
            && (count > MOST || now.saturating_duration_since(*at) > KEPT_FOR)
        {
            count -= prints.len();
            self.printed.pop_front();
        }
    }

    fn follow(&mut self) {
        if self.mode == Mode::Following {
            return;
        }
        let failed = self.finish(false);
        if failed.is_none() {
            self.ship_prints();
            self.ship_items(vec![Item::Clean]);
        }
        self.tap = None;
        self.prints.clear();
        self.printed.clear();
        self.pending = Pending::default();
        (self.heeded, self.retry, self.cursors_since) = (None, None, None);
        self.mode = Mode::Following;
    }

    /// Reads what a restart would find. The agent goes on from it, as it does from a restart.
    fn reread(&mut self, now: &Now) -> rusqlite::Result<Restored> {
        let _disk = pulse::at_disk(Part::Store);
        let (restored, changed) =
            restore::reread(&mut self.connection, &self.path, now, &self.begun)?;
        // What nobody listened to is in these records, and is written like any other change.
        self.pending.add(Commit { records: changed, as_of: now.moment, ..Commit::default() });
        self.told.heeded.send_replace(restored.heeded);
        self.told.committed.send_replace(restored.last_seq);
        self.has_objects = true;
        Ok(restored)
    }

    fn apply(&mut self, now: &Now, items: &[Item]) -> Result<(), String> {
        let _disk = pulse::at_disk(Part::Store);
        self.may_apply()?;
        let applied = following::apply(&mut self.connection, now, items)
            .map_err(|error| error.to_string())?;
        self.applied(now, applied);
        Ok(())
    }

    fn swap(&mut self, now: &Now, copy: Copy) -> Result<(), String> {
        let _disk = pulse::at_disk(Part::Store);
        self.may_apply()?;
        let applied = following::swap(&mut self.connection, now, copy)?;
        self.applied(now, applied);
        Ok(())
    }

    /// A standby that became primary has its own numbers: what is still on its way is too late.
    fn may_apply(&self) -> Result<(), String> {
        match self.mode {
            Mode::Following => Ok(()),
            Mode::Leading => Err("the store does not follow any more".to_owned()),
        }
    }

    fn applied(&mut self, now: &Now, applied: following::Applied) {
        self.wall = now.moment.wall;
        self.with_stats(|stats| {
            stats.transactions += 1;
            stats.events += applied.events;
            stats.records += applied.records;
        });
        if let Some(heeded) = applied.heeded {
            self.told.heeded.send_replace(heeded);
        }
        if let Some(seq) = applied.seq {
            self.told.committed.send_replace(seq);
        }
    }

    /// When there is next something to write.
    pub fn due(&self, now: Instant) -> Option<Instant> {
        if let Some(retry) = &self.retry {
            return Some(retry.at);
        }
        if self.pending.is_due() {
            return Some(now);
        }
        let cursors = self.cursors_since.map(|since| since + CURSORS);
        let alive = if self.has_objects { ALIVE } else { ALIVE_IDLE };
        let alive = self.pending.alive.map(|_| self.alive_at + alive);
        [cursors, alive, Some(self.prune_at)].into_iter().flatten().min()
    }

    /// Writes one transaction, or prunes one step.
    pub fn turn(&mut self, now: Instant) {
        let _disk = pulse::at_disk(Part::Store);
        let prune = !self.pending.is_due() && self.retry.is_none() && self.prune_at <= now;
        let result = self.reconnect().and_then(|()| {
            let keys = self.pending.select();
            write(&mut self.connection, &self.pending, &keys).map(|seq| (keys, seq))
        });
        match result {
            Ok((keys, seq)) => self.succeeded(&keys, seq, now),
            Err(error) => self.failed(&error, now),
        }
        if prune {
            self.prune(now);
        }
    }

    fn succeeded(&mut self, keys: &[RecordKey], seq: Option<u64>, now: Instant) {
        let events = self.pending.events.len();
        let items = self.pending.written(keys, seq);
        self.ship_items(items);
        self.ship_prints();
        self.cursors_since = None;
        self.alive_at = now;
        // An error here says nothing about what was written, and comes back at the next write.
        self.has_objects = any_objects(&self.connection).unwrap_or(true);
        if let Some(retry) = self.retry.take() {
            tracing::warn!(error = retry.error, "the store can be written again");
        }
        self.with_stats(|stats| {
            stats.transactions += 1;
            stats.events += events as u64;
            stats.records += keys.len() as u64;
            stats.failing = None;
        });
        self.tell_heeded();
        if let Some(seq) = seq {
            self.told.committed.send_replace(seq);
        }
    }

    fn tell_heeded(&mut self) {
        if self.pending.changes.is_empty()
            && let Some(number) = self.heeded.take()
        {
            self.told.heeded.send_replace(number);
        }
    }

    fn failed(&mut self, error: &rusqlite::Error, now: Instant) {
        let text = error.to_string();
        let (first, longest) = BACK_OFF;
        let previous = self.retry.take();
        // Once per change: a disk that stays full for a day is one line.
        if previous.as_ref().is_none_or(|previous| previous.error != text) {
            tracing::error!(
                error = text,
                "the store can't be written; alarms are kept in memory until it can"
            );
        }
        let wait = previous.map_or(first, |previous| (previous.wait * 2).min(longest));
        let reconnect = matches!(
            error.sqlite_error_code(),
            Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen | ErrorCode::ReadOnly)
        );
        self.with_stats(|stats| {
            stats.failures += 1;
            stats.failing = Some(text.clone());
            stats.last_error = Some(text.clone());
        });
        self.retry = Some(Retry { at: now + wait, wait, error: text, reconnect });
    }

    /// Opens the database anew where the last error may have been the connection's.
    fn reconnect(&mut self) -> rusqlite::Result<()> {
        if self.retry.as_ref().is_some_and(|retry| retry.reconnect) {
            self.connection = schema::connect(&self.path)?;
        }
        Ok(())
    }

    fn prune(&mut self, now: Instant) {
        let (interval, step, pause) = PRUNE;
        let pruned = prune(&self.connection, self.retention, self.wall, step);
        match pruned {
            Ok(rows) => {
                self.with_stats(|stats| stats.pruned += rows as u64);
                self.prune_at = now + if rows == step { pause } else { interval };
            }
            // It can wait; if the disk fails, the next write says so.
            Err(_) => self.prune_at = now + interval,
        }
    }

    /// Writes all that waits, for as long as a stop may take, and says what went wrong.
    fn finish(&mut self, clean: bool) -> Option<String> {
        let until = Instant::now() + PATIENCE;
        loop {
            self.turn(Instant::now());
            match &self.retry {
                None if !self.pending.is_due() => break,
                None => {}
                Some(retry) if Instant::now() + retry.wait > until => {
                    let (events, records) = (self.pending.events.len(), self.pending.changes.len());
                    return Some(format!(
                        "{events} alarm events and {records} records were not written: {}",
                        retry.error
                    ));
                }
                Some(retry) => std::thread::sleep(retry.wait),
            }
        }
        // A standby's records are as complete as the primary said.
        if !clean || self.mode == Mode::Following {
            return None;
        }
        let marked = self.connection.execute("UPDATE run SET clean = 1", []);
        marked.err().map(|error| format!("the stop was not marked as orderly: {error}"))
    }

    fn publish_backlog(&self) {
        let (events, records) = (self.pending.events.len(), self.pending.changes.len());
        self.with_stats(|stats| {
            stats.waiting_events = events;
            stats.waiting_records = records;
        });
    }

    fn with_stats(&self, change: impl FnOnce(&mut Stats)) {
        change(&mut self.stats.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Writes what waits in one transaction: all events, the changes of `keys`, the cursors and
/// *alive*. Gives back the seq of the last event, if there was one.
fn write(
    connection: &mut Connection,
    pending: &Pending,
    keys: &[RecordKey],
) -> rusqlite::Result<Option<u64>> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut last: Option<(u64, Option<Term>)> = None;
    for event in &pending.events {
        if let Some((seq, term)) = last.filter(|(_, term)| *term != event.term) {
            schema::put_term(&transaction, term, seq)?;
        }
        last = Some((schema::put_event(&transaction, event)?, event.term));
    }
    if let Some((seq, term)) = last {
        schema::put_term(&transaction, term, seq)?;
    }
    for key in keys {
        let Some(change) = pending.changes.get(key) else { continue };
        match &change.record {
            Some(record) => schema::put_record(&transaction, record, change.as_of)?,
            None => schema::remove_record(&transaction, *key)?,
        };
    }
    for (target, seq) in &pending.cursors {
        schema::put_cursor(&transaction, target, Some(*seq), None)?;
    }
    for (target, number) in &pending.spool_cursors {
        schema::put_cursor(&transaction, target, None, Some(*number))?;
    }
    for (engine, as_of) in pending.engines_due() {
        schema::put_engine(&transaction, engine, *as_of)?;
    }
    if let Some(heeded) = pending.heeded
        && keys.len() == pending.changes.len()
    {
        schema::put_heeded(&transaction, heeded)?;
    }
    if let Some(targets) = &pending.targets {
        schema::keep_targets(&transaction, targets)?;
    }
    if let Some(alive) = pending.alive {
        schema::put_alive(&transaction, alive)?;
    }
    if let Some(lag) = pending.lag {
        schema::put_lag(&transaction, lag)?;
    }
    transaction.commit()?;
    Ok(last.map(|(seq, _)| seq))
}

fn any_objects(connection: &Connection) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM objects) OR EXISTS (SELECT 1 FROM engines)")?
        .query_row([], |row| row.get(0))
}

/// Deletes up to `step` of the oldest rows that the retention lets go and every cursor has passed; and
/// those beyond its bound even if one has not, which the notifier tells (TRAP-11).
fn prune(
    connection: &Connection,
    retention: Retention,
    now: WallTime,
    step: usize,
) -> rusqlite::Result<usize> {
    let keep = i64::try_from(retention.keep.as_millis()).unwrap_or(i64::MAX);
    // The oldest rows alone are looked at: were one of them young, because the wall clock was set
    // back, those after it wait for it, and a step never reads more than it may delete.
    connection
        .prepare_cached(
            "DELETE FROM journal WHERE seq IN (
                 SELECT seq FROM (SELECT seq, at_ms FROM journal ORDER BY seq LIMIT ?1)
                 WHERE (seq <= coalesce((SELECT min(seq) FROM targets), seq)
                        AND at_ms < ?2 AND seq <= (SELECT max(seq) FROM journal) - ?3)
                 OR seq <= (SELECT max(seq) FROM journal) - ?4)",
        )?
        .execute((
            i64::try_from(step).unwrap_or(i64::MAX),
            now.0.saturating_sub(keep),
            schema::to_i64(retention.rows),
            schema::to_i64(retention.most_rows),
        ))
}

#[cfg(test)]
impl Writer {
    /// The connection, for tests that make it fail.
    pub fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// How long the next attempt is away.
    pub fn retry_in(&self, now: Instant) -> Option<Duration> {
        self.retry.as_ref().map(|retry| retry.at.saturating_duration_since(now))
    }
}
