//! What a former primary hands over to the agent that is primary now: how far it knows each term, and
//! what it has beyond that (PAIR-2).

use std::{collections::BTreeSet, path::Path};

use evenkeel_core::{
    alarm::{AlarmEvent, Object},
    state::{Record, RecordKey},
    time::Time,
};
use rusqlite::{Connection, OptionalExtension};

use super::{NEWEST_ROWS, Now, StoreError, files, restore, schema, snapshot};

/// What one agent has and the other lacks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Handed {
    /// Rows, the oldest first.
    pub rows: Vec<AlarmEvent>,
    /// What is remembered of the objects that they are about, with ages as of now.
    pub records: Vec<Record>,
}

/// Reads that, beside the writer.
#[derive(Debug)]
pub struct Hander {
    connection: Connection,
}

impl Hander {
    /// Opens the store in `dir`.
    ///
    /// # Errors
    ///
    /// It can't be opened.
    pub fn open(dir: &Path) -> Result<Hander, StoreError> {
        let path = dir.join(files::DATABASE);
        let connection = schema::connect_read_only(&path)
            .map_err(|source| StoreError::Database { path, source })?;
        Ok(Hander { connection })
    }

    /// How far the journal knows each term.
    pub fn terms(&self) -> rusqlite::Result<Vec<(String, u64)>> {
        snapshot::terms(&self.connection)
    }

    /// Whether nothing was ever written here.
    pub fn is_empty(&self) -> rusqlite::Result<bool> {
        self.connection.query_row(
            "SELECT NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'journal' AND seq > 0)
                AND NOT EXISTS (SELECT 1 FROM objects) AND NOT EXISTS (SELECT 1 FROM alarms)",
            [],
            |row| row.get(0),
        )
    }

    /// How far each notification target is in the spool.
    pub fn spool_cursors(&self) -> rusqlite::Result<Vec<(String, u64)>> {
        let mut rows = self
            .connection
            .prepare("SELECT name, spool FROM targets WHERE spool IS NOT NULL ORDER BY name")?;
        let rows = rows.query_map([], |row| Ok((row.get(0)?, schema::from_i64(row.get(1)?))))?;
        rows.collect()
    }

    /// What of the `terms` that a mate knows is not known here as far: each with the last seq that is.
    pub fn lacks(&self, terms: &[(String, u64)]) -> rusqlite::Result<Vec<(String, u64)>> {
        let mut lacks = Vec::new();
        for (term, last) in terms {
            let known: Option<i64> = self
                .connection
                .prepare_cached("SELECT last FROM terms WHERE term = ?1")?
                .query_row([term], |row| row.get(0))
                .optional()?;
            let known = known.map_or(0, schema::from_i64);
            if known < *last {
                lacks.push((term.clone(), known));
            }
        }
        Ok(lacks)
    }

    /// The number of the spool up to which the records heed all.
    pub fn heeded(&self) -> rusqlite::Result<u64> {
        let heeded: Option<i64> =
            self.connection.query_row("SELECT max(heeded) FROM run", [], |row| row.get(0))?;
        Ok(heeded.map_or(0, schema::from_i64))
    }

    /// The number of the spool that the records heed, and the lowest that every notification target
    /// has had; both as of now.
    pub fn spool_needed(&self) -> rusqlite::Result<u64> {
        let heeded = self.heeded()?;
        let passed: Option<i64> =
            self.connection.query_row("SELECT min(spool) FROM targets", [], |row| row.get(0))?;
        Ok(passed.map_or(heeded, |passed| heeded.min(schema::from_i64(passed))))
    }

    /// What another agent lacks: of each of the `terms` the rows after a seq. Of those, it is the
    /// newest 16,384; and of an agent that was alone, those that some notification target has not been
    /// sent and those of alarms that are still active: its past is no news to anyone.
    pub fn lacking(&self, terms: &[(String, u64)], now: &Now) -> rusqlite::Result<Handed> {
        let mut handed = Handed::default();
        let sent: Option<i64> =
            self.connection.query_row("SELECT min(seq) FROM targets", [], |row| row.get(0))?;
        let mut found = Vec::new();
        for (term, after) in terms {
            let last: Option<i64> = self
                .connection
                .prepare_cached("SELECT last FROM terms WHERE term = ?1")?
                .query_row([term], |row| row.get(0))
                .optional()?;
            let Some(last) = last else { continue };
            let alone = schema::read_term(term).is_none();
            let mut rows = self.connection.prepare_cached(
                "SELECT seq, at_ms, reason, alarm, term FROM journal
                 WHERE seq > ?1 AND seq <= ?2 AND term IS ?3
                   AND (NOT ?4 OR seq > ?5
                        OR (event = 'raise' AND alarm_id IN (SELECT alarm_id FROM alarms)))
                 ORDER BY seq DESC LIMIT ?6",
            )?;
            let rows = rows.query_map(
                (
                    schema::to_i64(*after),
                    last,
                    (!alone).then_some(term),
                    alone,
                    sent.unwrap_or(i64::MAX),
                    schema::to_i64(NEWEST_ROWS),
                ),
                schema::read_journal_row,
            )?;
            found.extend(rows.flatten());
        }
        found.sort_by_key(|row| row.seq);
        let keys: BTreeSet<RecordKey> =
            found.iter().flat_map(|row| keys(&row.alarm.object)).collect();
        let at = Time::ZERO;
        handed.rows.extend(found.into_iter().map(|row| AlarmEvent {
            at,
            wall: row.wall,
            cleared: row.cleared,
            alarm: row.alarm,
            term: row.term,
        }));
        if !handed.rows.is_empty() {
            let records = restore::records(&self.connection, now)?;
            handed.records =
                records.into_iter().filter(|record| keys.contains(&record.key)).collect();
        }
        Ok(handed)
    }
}

/// The objects of which there are records that an alarm is about.
fn keys(object: &Object) -> Vec<RecordKey> {
    match object {
        Object::System(system) => vec![RecordKey { system: *system, if_index: 0 }],
        Object::Interface { system, if_index } => {
            vec![RecordKey { system: *system, if_index: *if_index }]
        }
        Object::Link(link) => link.ends().map(RecordKey::from).to_vec(),
        _ => Vec::new(),
    }
}
