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
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, Sender},
    },
    time::{Duration, Instant},
};

use evenkeel_core::{state::RecordKey, time::WallTime};
use rusqlite::{Connection, ErrorCode, TransactionBehavior};
use tokio::sync::watch;

use super::{Commit, Retention, Stats, pending::Pending, restore::ALIVE, schema};

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
    /// Write this and whatever else waits, mark the stop as orderly, and answer with the error if
    /// that did not work.
    Close(Commit, Sender<Option<String>>),
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
        }
    }

    /// Writes until it is told to stop or nobody is left to tell it.
    pub fn run(mut self, queue: &Receiver<Message>) {
        let (last, answer) = loop {
            let now = Instant::now();
            let wait = self.due(now).map(|at| at.saturating_duration_since(now));
            let message = match wait {
                Some(wait) => queue.recv_timeout(wait),
                None => queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match message {
                Ok(Message::Close(last, answer)) => break (Some(last), Some(answer)),
                Ok(message) => {
                    self.take(message);
                    // Whatever else is queued shares the transaction. Bounded, as a caller that
                    // never pauses must not keep it from being written.
                    let mut close = None;
                    for message in queue.try_iter().take(100_000) {
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

    /// Takes a message into what waits to be written.
    pub fn take(&mut self, message: Message) {
        match message {
            Message::Commit(commit) => {
                self.wall = commit.as_of.wall;
                self.pending.add(commit);
            }
            Message::Lag(lag) => self.pending.lag = Some(lag),
            Message::Cursor(target, seq) => {
                self.pending.cursors.insert(target, seq);
                self.cursors_since.get_or_insert_with(Instant::now);
            }
            Message::SpoolCursor(target, number) => {
                self.pending.spool_cursors.insert(target, number);
                self.cursors_since.get_or_insert_with(Instant::now);
            }
            Message::Heeded(number) => {
                if number > *self.told.heeded.borrow() {
                    self.pending.heeded = Some(number);
                    self.cursors_since.get_or_insert_with(Instant::now);
                    self.heeded = Some(number);
                    self.tell_heeded();
                }
            }
            Message::Targets(targets) => {
                self.pending.targets = Some(targets);
                self.cursors_since.get_or_insert_with(Instant::now);
            }
            Message::Close(..) => unreachable!("the loop ends with it"),
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
        self.pending.written(keys);
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
        if !clean {
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
    let mut last = None;
    for event in &pending.events {
        last = Some(schema::put_event(&transaction, event)?);
    }
    for key in keys {
        let Some(change) = pending.changes.get(key) else { continue };
        match &change.record {
            Some(record) => schema::put_record(&transaction, record, change.as_of)?,
            None => schema::remove_record(&transaction, *key)?,
        };
    }
    for (target, seq) in &pending.cursors {
        transaction
            .prepare_cached(
                "INSERT INTO targets (name, seq) VALUES (?1, ?2)
                 ON CONFLICT (name) DO UPDATE SET seq = excluded.seq",
            )?
            .execute((target, schema::to_i64(*seq)))?;
    }
    for (target, number) in &pending.spool_cursors {
        transaction
            .prepare_cached(
                "INSERT INTO targets (name, spool) VALUES (?1, ?2)
                 ON CONFLICT (name) DO UPDATE SET spool = excluded.spool",
            )?
            .execute((target, schema::to_i64(*number)))?;
    }
    for (engine, as_of) in pending.engines_due() {
        schema::put_engine(&transaction, engine, *as_of)?;
    }
    if let Some(heeded) = pending.heeded
        && keys.len() == pending.changes.len()
    {
        transaction
            .prepare_cached("UPDATE run SET heeded = ?1")?
            .execute([schema::to_i64(heeded)])?;
    }
    if let Some(targets) = &pending.targets {
        transaction.execute(
            "DELETE FROM targets WHERE name NOT IN (SELECT value FROM json_each(?1))",
            [schema::json(targets)?],
        )?;
    }
    if let Some(alive) = pending.alive {
        transaction
            .prepare_cached("UPDATE run SET alive_mono_ns = ?1, alive_wall_ms = ?2")?
            .execute((schema::to_i64(alive.mono.as_nanos()), alive.wall.0))?;
    }
    if let Some(lag) = pending.lag {
        transaction
            .prepare_cached("UPDATE run SET lag_ms = ?1")?
            .execute([i64::try_from(lag.as_millis()).unwrap_or(i64::MAX)])?;
    }
    transaction.commit()?;
    Ok(last)
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
