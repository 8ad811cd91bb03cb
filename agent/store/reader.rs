//! Reading the store from other threads, beside the writer and without waiting for it.

use std::path::Path;

use evenkeel_core::{
    alarm::{Alarm, ClearReason},
    pair::term::Term,
    time::WallTime,
};
use rusqlite::{Connection, OptionalExtension};

use super::{StoreError, files, schema};

/// A row of the journal: one raise or one clear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalRow {
    /// Its place: later rows have higher numbers, and no number is used twice.
    pub seq: u64,
    /// When it happened.
    pub wall: WallTime,
    /// Nothing for a raise, the reason for a clear.
    pub cleared: Option<ClearReason>,
    /// The alarm, with the text and numbers that fit the event.
    pub alarm: Alarm,
    /// The term of the pair that it was written in.
    pub term: Option<Term>,
}

/// A connection that only reads. It sees what is on the disk, and nothing else.
#[derive(Debug)]
pub struct Reader {
    connection: Connection,
}

impl Reader {
    /// Opens the store in `dir`, which a [`Store`](super::Store) must have made.
    ///
    /// # Errors
    ///
    /// There is no database, or it can't be opened.
    pub fn open(dir: &Path) -> Result<Reader, StoreError> {
        let path = dir.join(files::DATABASE);
        let connection = schema::connect_read_only(&path)
            .map_err(|source| StoreError::Database { path, source })?;
        Ok(Reader { connection })
    }

    /// Up to `limit` rows of the journal after `seq`, the oldest first.
    ///
    /// # Errors
    ///
    /// The database can't be read.
    pub fn journal_after(&self, seq: u64, limit: usize) -> rusqlite::Result<Vec<JournalRow>> {
        self.connection
            .prepare_cached(
                "SELECT seq, at_ms, reason, alarm, term FROM journal WHERE seq > ?1 ORDER BY seq LIMIT ?2",
            )?
            .query_map((schema::to_i64(seq), limit_of(limit)), schema::read_journal_row)?
            .collect()
    }

    /// The last `limit` rows of the journal, the newest first.
    ///
    /// # Errors
    ///
    /// The database can't be read.
    pub fn recent(&self, limit: usize) -> rusqlite::Result<Vec<JournalRow>> {
        self.connection
            .prepare_cached(
                "SELECT seq, at_ms, reason, alarm, term FROM journal ORDER BY seq DESC LIMIT ?1",
            )?
            .query_map([limit_of(limit)], schema::read_journal_row)?
            .collect()
    }

    /// The last row that was ever written to the journal, 0 if there was none.
    ///
    /// # Errors
    ///
    /// The database can't be read.
    pub fn last_seq(&self) -> rusqlite::Result<u64> {
        super::restore::last_seq(&self.connection)
    }

    /// The last row of the journal that a notification target was sent; nothing if it has no
    /// cursor yet.
    ///
    /// # Errors
    ///
    /// The database can't be read.
    pub fn cursor(&self, target: &str) -> rusqlite::Result<Option<u64>> {
        let seq = self
            .connection
            .prepare_cached("SELECT seq FROM targets WHERE name = ?1")?
            .query_row([target], |row| row.get(0))
            .optional()?
            .flatten();
        Ok(seq.map(schema::from_i64))
    }

    /// The active alarms, the oldest first.
    ///
    /// # Errors
    ///
    /// The database can't be read.
    pub fn active_alarms(&self) -> rusqlite::Result<Vec<Alarm>> {
        self.connection
            .prepare_cached("SELECT alarm FROM alarms ORDER BY raised_at_ms, alarm_id")?
            .query_map([], schema::read_alarm)?
            .collect()
    }

    /// The last number of the spool that a notification target was sent; nothing if it has no cursor
    /// yet.
    ///
    /// # Errors
    ///
    /// The database can't be read.
    pub fn spool_cursor(&self, target: &str) -> rusqlite::Result<Option<u64>> {
        let number = self
            .connection
            .prepare_cached("SELECT spool FROM targets WHERE name = ?1")?
            .query_row([target], |row| row.get(0))
            .optional()?
            .flatten();
        Ok(number.map(schema::from_i64))
    }

    /// The highest number of the spool that any notification target has had.
    ///
    /// # Errors
    ///
    /// The database can't be read.
    pub fn last_spool_cursor(&self) -> rusqlite::Result<Option<u64>> {
        let last =
            self.connection.query_row("SELECT max(spool) FROM targets", [], |row| row.get(0));
        last.map(|last: Option<i64>| last.map(schema::from_i64))
    }
}

fn limit_of(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
