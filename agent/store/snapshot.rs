//! How everything was at one moment, read while the writer goes on: what a replica is copied from.

use std::path::Path;

use evenkeel_core::{
    alarm::AlarmEvent,
    state::Record,
    time::{Time, WallTime},
};
use rusqlite::{Connection, OptionalExtension};

use super::{Moment, restore, schema, shipping::Item};

/// So many of the newest rows of the journal are always copied: their alarm ids must not be used
/// again, and who takes over must know them.
pub const NEWEST_ROWS: u64 = 16_384;

/// A connection in a transaction that only reads: it sees what was on the disk when it began (WAL).
#[derive(Debug)]
pub struct Snapshot {
    connection: Connection,
    /// The last seq that was ever given.
    pub last_seq: u64,
    /// The first row that is copied.
    pub first_seq: u64,
    /// The last number of the spool that the records heed.
    pub heeded: u64,
    /// The number of the spool that every notification target has had, of those that have a cursor
    /// there.
    pub passed: u64,
}

impl Snapshot {
    /// Begins to read the database at `path`.
    pub fn begin(path: &Path) -> rusqlite::Result<Snapshot> {
        let connection = schema::connect_read_only(path)?;
        connection.execute_batch("BEGIN")?;
        let last_seq = restore::last_seq(&connection)?;
        let number = |sql: &str| -> rusqlite::Result<Option<u64>> {
            let found: Option<i64> = connection.query_row(sql, [], |row| row.get(0))?;
            Ok(found.map(schema::from_i64))
        };
        let unsent = number("SELECT min(seq) FROM targets")?.map_or(u64::MAX, |seq| seq + 1);
        let newest = (last_seq + 1).saturating_sub(NEWEST_ROWS);
        let passed = number("SELECT min(spool) FROM targets")?.unwrap_or(u64::MAX);
        let heeded = number("SELECT max(heeded) FROM run")?.unwrap_or(0);
        let first_seq = unsent.min(newest).max(1);
        Ok(Snapshot { connection, last_seq, first_seq, heeded, passed })
    }

    /// All active alarms.
    pub fn alarms(&self, mut to: impl FnMut(Item) -> bool) -> rusqlite::Result<()> {
        let mut rows = self.connection.prepare("SELECT alarm FROM alarms")?;
        let mut rows = rows.query([])?;
        while let Some(row) = rows.next()? {
            // What can't be read here could not be read there.
            let Ok(alarm) = schema::read_alarm(row) else { continue };
            if !to(Item::Alarm(Box::new(alarm))) {
                break;
            }
        }
        Ok(())
    }

    /// All that is remembered of objects, and how far that goes: heeded, *alive* and the lag.
    pub fn objects(&self, mut to: impl FnMut(Item) -> bool) -> rusqlite::Result<()> {
        let run = self
            .connection
            .query_row("SELECT alive_mono_ns, alive_wall_ms, lag_ms FROM run", [], |row| {
                let alive = moment(row.get(0)?, row.get(1)?);
                Ok((alive, schema::from_i64(row.get(2)?)))
            })
            .optional()?;
        let mut rows = self.connection.prepare(
            "SELECT system, if_index, as_of_mono_ns, age_ns, memory, as_of_wall_ms FROM objects",
        )?;
        let mut rows = rows.query([])?;
        while let Some(row) = rows.next()? {
            let Ok(stored) = schema::read_record(row) else { continue };
            let as_of = moment(schema::to_i64(stored.as_of_mono_ns), row.get(5)?);
            let record = Record { key: stored.key, age: stored.age, memory: stored.memory };
            if !to(Item::Record { record: Box::new(record), as_of }) {
                return Ok(());
            }
        }
        if let Some((alive, lag_ms)) = run {
            to(Item::Lag(std::time::Duration::from_millis(lag_ms)));
            to(Item::Alive(alive));
        }
        to(Item::Heeded(self.heeded));
        Ok(())
    }

    /// All other SNMP engines.
    pub fn engines(&self, mut to: impl FnMut(Item) -> bool) -> rusqlite::Result<()> {
        let mut rows = self.connection.prepare(
            "SELECT engine_id, boots, time, age_ns, as_of_mono_ns, as_of_wall_ms FROM engines",
        )?;
        let mut rows = rows.query([])?;
        while let Some(row) = rows.next()? {
            let Ok(engine) = schema::read_engine(row) else { continue };
            let as_of = moment(row.get(4)?, row.get(5)?);
            if !to(Item::Engine { engine, as_of }) {
                break;
            }
        }
        Ok(())
    }

    /// The rows of the journal from [`first_seq`](Snapshot::first_seq) on, the terms, and the cursors.
    pub fn outbox(&self, mut to: impl FnMut(Item) -> bool) -> rusqlite::Result<()> {
        if !self.rows(self.first_seq - 1, u64::MAX, &mut to)? {
            return Ok(());
        }
        for (term, last) in terms(&self.connection)? {
            to(Item::Term { term, last });
        }
        let mut rows = self.connection.prepare("SELECT name, seq, spool FROM targets")?;
        let mut rows = rows.query([])?;
        while let Some(row) = rows.next()? {
            let number =
                |column| row.get::<_, Option<i64>>(column).map(|n| n.map(schema::from_i64));
            to(Item::Cursor { target: row.get(0)?, seq: number(1)?, spool: number(2)? });
        }
        Ok(())
    }

    /// The rows after `after` up to `last`; says whether all were taken.
    fn rows(
        &self,
        after: u64,
        last: u64,
        to: &mut impl FnMut(Item) -> bool,
    ) -> rusqlite::Result<bool> {
        let mut rows = self.connection.prepare(
            "SELECT seq, at_ms, reason, alarm, term FROM journal
             WHERE seq > ?1 AND seq <= ?2 ORDER BY seq",
        )?;
        let mut rows = rows.query((schema::to_i64(after), schema::to_i64(last)))?;
        while let Some(row) = rows.next()? {
            let Ok(row) = schema::read_journal_row(row) else { continue };
            let (seq, term) = (row.seq, row.term);
            let (at, wall, cleared, alarm) = (Time::ZERO, row.wall, row.cleared, row.alarm);
            let event = Box::new(AlarmEvent { at, wall, cleared, alarm, term });
            if !to(Item::Row { seq, event }) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// How far the journal knows each term, by its name in the table.
pub fn terms(connection: &Connection) -> rusqlite::Result<Vec<(String, u64)>> {
    let mut rows = connection.prepare("SELECT term, last FROM terms ORDER BY term")?;
    let rows = rows.query_map([], |row| Ok((row.get(0)?, schema::from_i64(row.get(1)?))))?;
    rows.collect()
}

fn moment(mono_ns: i64, wall_ms: i64) -> Moment {
    Moment { mono: Time::from_nanos(schema::from_i64(mono_ns)), wall: WallTime(wall_ms) }
}
