//! The tables of the store, the connections to them, and how a row is written and read.
//!
//! Operators open the file with `sqlite3`, so every column reads without this program: names
//! instead of numbers, RFC 3339 beside milliseconds, JSON where a value has parts.

use std::{path::Path, time::Duration};

use evenkeel_core::{
    alarm::{Alarm, AlarmEvent, ClearReason, System},
    pair::term::{Slot, Term},
    state::{Memory, Record, RecordKey},
    time::WallTime,
    usm::{EngineId, EngineRecord, engine_id::BadEngineId},
};
use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags, Row, types::Type};

use super::{Moment, reader::JournalRow};

/// The version of the tables below, kept in `PRAGMA user_version`.
pub const VERSION: i64 = 4;

/// How long a statement waits for a lock that an operator's `sqlite3` holds, before it counts as
/// failed and is tried again by the writer's own back-off.
const BUSY: Duration = Duration::from_millis(250);

const TABLES: &str = "
CREATE TABLE journal (
    seq      INTEGER PRIMARY KEY AUTOINCREMENT, -- never used twice, so a cursor stays true
    at_ms    INTEGER NOT NULL,                  -- wall clock, ms since 1970
    at       TEXT NOT NULL,                     -- the same in RFC 3339, UTC
    event    TEXT NOT NULL,                     -- 'raise' or 'clear'
    reason   TEXT,                              -- why it was cleared
    alarm_id TEXT NOT NULL,
    kind     TEXT NOT NULL,
    object   TEXT NOT NULL,
    severity TEXT NOT NULL,
    text     TEXT NOT NULL,
    alarm    TEXT NOT NULL                      -- JSON, all of it
);
CREATE INDEX journal_alarm_id ON journal (alarm_id);

CREATE TABLE alarms (                           -- the active ones
    alarm_id     TEXT PRIMARY KEY,
    kind         TEXT NOT NULL,
    object       TEXT NOT NULL,
    severity     TEXT NOT NULL,
    text         TEXT NOT NULL,
    raised_at_ms INTEGER NOT NULL,
    alarm        TEXT NOT NULL                  -- JSON, all of it
) WITHOUT ROWID;

CREATE TABLE objects (                          -- what the rules remember of each object
    system        TEXT NOT NULL,
    if_index      INTEGER NOT NULL,             -- 0 for the system itself
    as_of_mono_ns INTEGER NOT NULL,             -- on the monotonic clock of run.boot_id
    as_of_wall_ms INTEGER NOT NULL,             -- for people; nothing is computed from it
    age_ns        INTEGER NOT NULL,             -- how old `memory` was at as_of
    memory        TEXT NOT NULL,                -- JSON; every time in it is an age
    PRIMARY KEY (system, if_index)
) WITHOUT ROWID;

CREATE TABLE run (                              -- one row: the run that wrote last
    id            INTEGER PRIMARY KEY CHECK (id = 1),
    boot_id       TEXT NOT NULL,
    started       TEXT NOT NULL,                -- RFC 3339, UTC
    alive_mono_ns INTEGER NOT NULL,             -- it listened until then, at least
    alive_wall_ms INTEGER NOT NULL,
    clean         INTEGER NOT NULL,             -- 1 after an orderly stop
    lag_ms        INTEGER NOT NULL              -- how far `objects` may lag behind
);

CREATE VIEW active AS
    SELECT datetime(raised_at_ms / 1000, 'unixepoch') AS raised_at, severity, kind, object, text,
           alarm_id
    FROM alarms ORDER BY raised_at_ms DESC;
CREATE VIEW recent AS
    SELECT seq, at, event, reason, severity, kind, object, text, alarm_id
    FROM journal ORDER BY seq DESC LIMIT 1000;
";

/// What version 2 has and version 1 had not, or had otherwise.
const TABLES_2: &str = "
CREATE TABLE targets (                          -- notification targets
    name  TEXT PRIMARY KEY,
    seq   INTEGER,                              -- the last journal row that it was sent
    spool INTEGER                               -- the last number of the spool that it was sent
) WITHOUT ROWID;

ALTER TABLE run ADD COLUMN                      -- the last number of the spool that the records heed
    heeded INTEGER NOT NULL DEFAULT 0;

CREATE TABLE engine (                           -- our own SNMP engine, under each identity it had
    engine_id TEXT PRIMARY KEY,                 -- snmpEngineID, hexadecimal
    boots     INTEGER NOT NULL,                 -- snmpEngineBoots of its last run
    generated INTEGER NOT NULL,                 -- 1: made by chance; 0: configured
    started   TEXT NOT NULL                     -- when that run began, RFC 3339, UTC
) WITHOUT ROWID;

CREATE TABLE engines (                          -- other engines, that their time may not go back
    engine_id     TEXT PRIMARY KEY,
    boots         INTEGER NOT NULL,
    time          INTEGER NOT NULL,             -- the highest snmpEngineTime of an authentic message
    as_of_mono_ns INTEGER NOT NULL,             -- as in the table objects
    as_of_wall_ms INTEGER NOT NULL,
    age_ns        INTEGER NOT NULL              -- how long ago that message was at as_of
) WITHOUT ROWID;

CREATE VIEW unsent AS
    SELECT name, seq, (SELECT coalesce(max(seq), 0) FROM journal) - seq AS unsent FROM targets;
";

/// What version 3 has and version 2 had not.
const TABLES_3: &str = "
ALTER TABLE run ADD COLUMN                      -- how often the agent was started (RFC 5847, 3.4)
    starts INTEGER NOT NULL DEFAULT 0;
";

/// What version 4 has and version 3 had not: what joins the journals of a pair.
const TABLES_4: &str = "
ALTER TABLE journal ADD COLUMN                  -- the term of the pair: number.slot, as in 7.0;
    term TEXT;                                  -- nothing for an agent that is alone

CREATE TABLE terms (                            -- how far the journal knows each term
    term TEXT PRIMARY KEY,                      -- or alone.<pair.origin>
    last INTEGER NOT NULL                       -- the last seq that was given in it
) WITHOUT ROWID;

CREATE TABLE pair (                             -- one row
    id     INTEGER PRIMARY KEY CHECK (id = 1),
    origin TEXT NOT NULL                        -- whose the rows without a term are, made by chance
);
INSERT INTO pair VALUES (1, lower(hex(randomblob(8))));
INSERT INTO terms SELECT 'alone.' || origin, (SELECT max(seq) FROM journal) FROM pair
    WHERE EXISTS (SELECT 1 FROM journal);
";

/// From version 1 to version 2, before [`TABLES_2`] and after it. A table is made anew, as a column
/// that may not be null can't be made one that may.
const FROM_1: (&str, &str) = (
    "DROP VIEW unsent; ALTER TABLE targets RENAME TO targets_1;",
    "INSERT INTO targets (name, seq) SELECT name, seq FROM targets_1; DROP TABLE targets_1;",
);

/// Opens the file for writing; it must exist.
///
/// # Errors
///
/// The database can't be opened, or is damaged.
pub fn connect(path: &Path) -> rusqlite::Result<Connection> {
    // Without the flag that creates: a file that vanished is an error to report, not one to
    // replace by an empty one.
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // NORMAL lost acknowledged rows in 87 of 150 power cuts; FULL in none.
    connection.pragma_update(None, "synchronous", "FULL")?;
    // A WAL that a slow reader let grow is cut back to this at the next checkpoint.
    connection.pragma_update(None, "journal_size_limit", 16 * 1024 * 1024)?;
    Ok(connection)
}

/// Opens the file for reading only.
///
/// # Errors
///
/// The database can't be opened.
pub fn connect_read_only(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    connection.busy_timeout(BUSY)?;
    Ok(connection)
}

/// The version of the tables in the file, 0 if there are none.
pub fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// Creates the tables; all of them or, at a crash, none.
pub fn create(connection: &mut Connection) -> rusqlite::Result<()> {
    in_one(connection, &[TABLES, TABLES_2, TABLES_3, TABLES_4])
}

/// Brings the tables of an earlier version to this version; all of them or, at a crash, none.
pub fn migrate(connection: &mut Connection, from: i64) -> rusqlite::Result<()> {
    let (before, after) = FROM_1;
    let steps: &[&str] = match from {
        1 => &[before, TABLES_2, after, TABLES_3, TABLES_4],
        2 => &[TABLES_3, TABLES_4],
        _ => &[TABLES_4],
    };
    in_one(connection, steps)
}

fn in_one(connection: &mut Connection, steps: &[&str]) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    for step in steps {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()
}

/// A term as the journal has it: `7.0` is number 7, begun by slot 0.
pub fn term_text(term: Term) -> String {
    let slot = match term.by {
        Slot::Zero => 0,
        Slot::One => 1,
    };
    format!("{}.{slot}", term.number)
}

/// The term that a text of the journal names; nothing if it is none.
pub fn read_term(text: &str) -> Option<Term> {
    let (number, slot) = text.split_once('.')?;
    let by = match slot {
        "0" => Slot::Zero,
        "1" => Slot::One,
        _ => return None,
    };
    Some(Term { number: number.parse().ok()?, by })
}

/// Brings a new version from the WAL into the database's own file, where the scripts of packages read it, so
/// that no earlier agent is installed over a later one whose state it could not read.
pub fn show_version(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
}

/// Appends an event to the journal and brings the active alarms in line. Gives back its seq.
pub fn put_event(connection: &Connection, event: &AlarmEvent) -> rusqlite::Result<u64> {
    let seq = put_row(connection, None, event)?;
    put_active(connection, event)?;
    Ok(seq)
}

/// Brings the active alarms in line with an event.
pub fn put_active(connection: &Connection, event: &AlarmEvent) -> rusqlite::Result<usize> {
    let alarm = &event.alarm;
    if alarm.kind.is_event() {
        return Ok(0);
    }
    if event.cleared.is_some() {
        let id = alarm.id.to_string();
        connection.prepare_cached("DELETE FROM alarms WHERE alarm_id = ?1")?.execute([&id])
    } else {
        put_alarm(connection, alarm)
    }
}

/// Writes a row of the journal: at the end, or with the seq that the primary gave it, over whatever is
/// there. Gives back its seq.
pub fn put_row(
    connection: &Connection,
    seq: Option<u64>,
    event: &AlarmEvent,
) -> rusqlite::Result<u64> {
    let alarm = &event.alarm;
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO journal
             (seq, at_ms, at, event, reason, alarm_id, kind, object, severity, text, alarm, term)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        )?
        .execute((
            seq.map(to_i64),
            event.wall.0,
            rfc3339(event.wall),
            if event.cleared.is_some() { "clear" } else { "raise" },
            event.cleared.map(ClearReason::name),
            alarm.id.to_string(),
            alarm.kind.name(),
            alarm.object.to_string(),
            alarm.severity.name(),
            &alarm.text,
            json(alarm)?,
            event.term.map(term_text),
        ))?;
    Ok(u64::try_from(connection.last_insert_rowid()).unwrap_or(0))
}

/// Makes an alarm an active one.
pub fn put_alarm(connection: &Connection, alarm: &Alarm) -> rusqlite::Result<usize> {
    // REPLACE: a constraint that fails would fail at every attempt and hold up all that follows.
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO alarms
             (alarm_id, kind, object, severity, text, raised_at_ms, alarm)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute((
            alarm.id.to_string(),
            alarm.kind.name(),
            alarm.object.to_string(),
            alarm.severity.name(),
            &alarm.text,
            alarm.raised_at.0,
            json(alarm)?,
        ))
}

/// Notes that `term` has a row with this seq. What has no term is named after where it began, so that
/// the rows of two agents that were alone are never taken for each other's.
pub fn put_term(connection: &Connection, term: Option<Term>, seq: u64) -> rusqlite::Result<usize> {
    connection
        .prepare_cached(
            "INSERT INTO terms (term, last)
             SELECT coalesce(?1, 'alone.' || origin), ?2 FROM pair
             WHERE true
             ON CONFLICT (term) DO UPDATE SET last = excluded.last",
        )?
        .execute((term.map(term_text), to_i64(seq)))
}

/// Notes how far a notification target is, in the journal, in the spool, or in both.
pub fn put_cursor(
    connection: &Connection,
    target: &str,
    seq: Option<u64>,
    spool: Option<u64>,
) -> rusqlite::Result<usize> {
    connection
        .prepare_cached(
            "INSERT INTO targets (name, seq, spool) VALUES (?1, ?2, ?3)
             ON CONFLICT (name) DO UPDATE SET seq = coalesce(excluded.seq, seq),
                                              spool = coalesce(excluded.spool, spool)",
        )?
        .execute((target, seq.map(to_i64), spool.map(to_i64)))
}

/// Forgets the cursors of all notification targets but these.
pub fn keep_targets(connection: &Connection, names: &[String]) -> rusqlite::Result<usize> {
    connection.execute(
        "DELETE FROM targets WHERE name NOT IN (SELECT value FROM json_each(?1))",
        [json(&names)?],
    )
}

/// Notes the last number of the spool that the records heed.
pub fn put_heeded(connection: &Connection, number: u64) -> rusqlite::Result<usize> {
    connection.prepare_cached("UPDATE run SET heeded = ?1")?.execute([to_i64(number)])
}

/// Notes until when the agent listened.
pub fn put_alive(connection: &Connection, alive: Moment) -> rusqlite::Result<usize> {
    connection
        .prepare_cached("UPDATE run SET alive_mono_ns = ?1, alive_wall_ms = ?2")?
        .execute((to_i64(alive.mono.as_nanos()), alive.wall.0))
}

/// Notes how far the records may lag behind.
pub fn put_lag(connection: &Connection, lag: Duration) -> rusqlite::Result<usize> {
    connection
        .prepare_cached("UPDATE run SET lag_ms = ?1")?
        .execute([i64::try_from(lag.as_millis()).unwrap_or(i64::MAX)])
}

/// Writes a record over whatever is there.
pub fn put_record(
    connection: &Connection,
    record: &Record,
    as_of: Moment,
) -> rusqlite::Result<usize> {
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO objects
             (system, if_index, as_of_mono_ns, as_of_wall_ms, age_ns, memory)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute((
            record.key.system.to_string(),
            record.key.if_index,
            to_i64(as_of.mono.as_nanos()),
            as_of.wall.0,
            nanos(record.age),
            json(&record.memory)?,
        ))
}

/// Removes a record, if it is there.
pub fn remove_record(connection: &Connection, key: RecordKey) -> rusqlite::Result<usize> {
    connection
        .prepare_cached("DELETE FROM objects WHERE system = ?1 AND if_index = ?2")?
        .execute((key.system.to_string(), key.if_index))
}

/// Writes what is known of another engine over whatever is there.
pub fn put_engine(
    connection: &Connection,
    engine: &EngineRecord,
    as_of: Moment,
) -> rusqlite::Result<usize> {
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO engines
             (engine_id, boots, time, as_of_mono_ns, as_of_wall_ms, age_ns)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute((
            engine.id.to_string(),
            engine.boots,
            engine.time,
            to_i64(as_of.mono.as_nanos()),
            as_of.wall.0,
            nanos(engine.age),
        ))
}

/// Reads the columns `engine_id, boots, time, age_ns`: an engine, as old as it was when it was
/// written.
pub fn read_engine(row: &Row<'_>) -> rusqlite::Result<EngineRecord> {
    Ok(EngineRecord {
        id: read_engine_id(row)?,
        boots: row.get(1)?,
        time: row.get(2)?,
        age: Duration::from_nanos(from_i64(row.get(3)?)),
    })
}

/// Reads the first column as an engine ID.
pub fn read_engine_id(row: &Row<'_>) -> rusqlite::Result<EngineId> {
    row.get::<_, String>(0)?.parse().map_err(|error: BadEngineId| bad(0, error))
}

/// A row of `objects`, as it stands on the disk.
pub struct StoredRecord {
    /// Of which object.
    pub key: RecordKey,
    /// When it was written, on the clock of the run that wrote it.
    pub as_of_mono_ns: u64,
    /// How old the memory was then.
    pub age: Duration,
    /// The memory.
    pub memory: Memory,
}

/// Reads the columns `system, if_index, as_of_mono_ns, age_ns, memory`.
pub fn read_record(row: &Row<'_>) -> rusqlite::Result<StoredRecord> {
    let system: String = row.get(0)?;
    let system = system.parse().map_err(|error| bad(0, error))?;
    Ok(StoredRecord {
        key: RecordKey { system: System(system), if_index: row.get(1)? },
        as_of_mono_ns: from_i64(row.get(2)?),
        age: Duration::from_nanos(from_i64(row.get(3)?)),
        memory: parse(row, 4)?,
    })
}

/// Reads the one column `alarm`.
pub fn read_alarm(row: &Row<'_>) -> rusqlite::Result<Alarm> {
    parse(row, 0)
}

/// Reads the columns `seq, at_ms, reason, alarm, term`.
pub fn read_journal_row(row: &Row<'_>) -> rusqlite::Result<JournalRow> {
    let reason: Option<String> = row.get(2)?;
    let cleared = reason
        .map(|name| serde_json::from_value(serde_json::Value::String(name)))
        .transpose()
        .map_err(|error| bad(2, error))?;
    Ok(JournalRow {
        seq: from_i64(row.get(0)?),
        wall: WallTime(row.get(1)?),
        cleared,
        alarm: parse(row, 3)?,
        term: row.get::<_, Option<String>>(4)?.as_deref().and_then(read_term),
    })
}

/// A moment on the wall clock, as RFC 3339 in UTC with milliseconds.
pub fn rfc3339(wall: WallTime) -> String {
    match Timestamp::from_millisecond(wall.0) {
        Ok(at) => format!("{at:.3}"),
        // Beyond the year 9999: the column beside it has the number.
        Err(_) => format!("{} ms", wall.0),
    }
}

/// What SQLite holds of an unsigned number: its integers end at 2^63 - 1 (292 years in ns).
pub fn to_i64(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// What an integer of SQLite means where none is negative.
pub fn from_i64(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// A duration in nanoseconds, for SQLite.
pub fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

/// A value as the JSON that a column holds.
pub fn json(value: &impl serde::Serialize) -> rusqlite::Result<String> {
    serde_json::to_string(value)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}

fn parse<T: serde::de::DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    let text = row.get_ref(column)?.as_str().map_err(|error| bad(column, error))?;
    serde_json::from_str(text).map_err(|error| bad(column, error))
}

fn bad(column: usize, error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
}
