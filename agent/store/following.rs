//! The store of a standby: what the primary has written is written here, with the same seqs (PAIR-11).

use std::fmt;

use evenkeel_core::supervision::Part;
use rusqlite::{Connection, TransactionBehavior};

use super::{Now, schema, shipping::Item};
use crate::supervisor::pulse;

/// A whole copy, which takes the place of what is here.
pub struct Copy {
    /// The first row of the journal that it has: those from it on are replaced, and those before it
    /// stay. Nothing if it has no rows, as it ended early.
    pub first_seq: Option<u64>,
    /// The last seq that the primary has ever given.
    pub last_seq: u64,
    /// Which tables it has all of.
    pub has: Has,
    /// Everything in it. An error in the midst leaves all as it was.
    pub items: Box<dyn Iterator<Item = Result<Item, String>> + Send>,
}

/// Which tables a copy has all of; the others stay as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Has {
    /// `alarms`.
    pub alarms: bool,
    /// `objects`, and what `run` says of them.
    pub objects: bool,
    /// `engines`.
    pub engines: bool,
    /// `journal`, `terms` and `targets`.
    pub outbox: bool,
}

impl fmt::Debug for Copy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Copy").field("has", &self.has).finish_non_exhaustive()
    }
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// The last row, if there was any.
    pub seq: Option<u64>,
    /// What the records heed now, if that was said.
    pub heeded: Option<u64>,
    /// Alarm events.
    pub events: u64,
    /// Records and removals.
    pub records: u64,
}

/// Writes what a primary's transactions have written, in one transaction.
pub fn apply(connection: &mut Connection, now: &Now, items: &[Item]) -> rusqlite::Result<Applied> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut applied = Applied::default();
    // Whatever came before: a record may be on its way.
    transaction
        .prepare_cached("UPDATE run SET clean = 0, boot_id = ?1")?
        .execute([&now.boot_id])?;
    for item in items {
        pulse::beat(Part::Store);
        put(&transaction, item, &mut applied, true)?;
    }
    transaction.commit()?;
    Ok(applied)
}

/// Puts a copy in the place of what is here, in one transaction.
pub fn swap(connection: &mut Connection, now: &Now, copy: Copy) -> Result<Applied, String> {
    let text = |error: rusqlite::Error| error.to_string();
    let transaction =
        connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(text)?;
    let Copy { first_seq, last_seq, has, items } = copy;
    let clear = |table: &str| transaction.execute(&format!("DELETE FROM {table}"), []).map(drop);
    for (table, is) in [("alarms", has.alarms), ("objects", has.objects), ("engines", has.engines)]
    {
        if is {
            clear(table).map_err(text)?;
        }
    }
    if has.outbox {
        clear("terms").and_then(|()| clear("targets")).map_err(text)?;
        transaction
            .execute(
                "DELETE FROM journal WHERE seq >= ?1",
                [schema::to_i64(first_seq.unwrap_or(last_seq + 1))],
            )
            .map_err(text)?;
    }
    transaction.execute("UPDATE run SET clean = 0, boot_id = ?1", [&now.boot_id]).map_err(text)?;
    let mut applied = Applied::default();
    for item in items {
        // A copy of all objects takes longer than a part may be silent.
        pulse::beat(Part::Store);
        let item = item?;
        if belongs(&item, has) {
            put(&transaction, &item, &mut applied, false).map_err(text)?;
        }
    }
    if has.outbox {
        // The next seq is the primary's next, also where rows of its end were pruned.
        let set = "UPDATE sqlite_sequence SET seq = ?1 WHERE name = 'journal'";
        let is_there = transaction.execute(set, [schema::to_i64(last_seq)]).map_err(text)?;
        if is_there == 0 {
            transaction
                .execute(
                    "INSERT INTO sqlite_sequence (name, seq) VALUES ('journal', ?1)",
                    [schema::to_i64(last_seq)],
                )
                .map_err(text)?;
        }
        applied.seq = Some(last_seq);
    }
    transaction.commit().map_err(text)?;
    Ok(applied)
}

fn belongs(item: &Item, has: Has) -> bool {
    match item {
        Item::Alarm(_) => has.alarms,
        Item::Record { .. }
        | Item::Removed(_)
        | Item::Heeded(_)
        | Item::Alive(_)
        | Item::Lag(_)
        | Item::Clean => has.objects,
        Item::Engine { .. } => has.engines,
        Item::Row { .. } | Item::Cursor { .. } | Item::Targets(_) | Item::Term { .. } => has.outbox,
        Item::Prints(_) => false,
    }
}

/// Writes one thing. `happens`: a row of the journal also changes the active alarms and its term, as
/// it happens now; in a copy those come by themselves.
fn put(
    connection: &Connection,
    item: &Item,
    applied: &mut Applied,
    happens: bool,
) -> rusqlite::Result<()> {
    match item {
        Item::Row { seq, event } => {
            schema::put_row(connection, Some(*seq), event)?;
            applied.seq = applied.seq.max(Some(*seq));
            applied.events += 1;
            if happens {
                schema::put_active(connection, event)?;
                if event.term.is_some() {
                    schema::put_term(connection, event.term, *seq)?;
                }
            }
        }
        Item::Alarm(alarm) => {
            schema::put_alarm(connection, alarm)?;
        }
        Item::Record { record, as_of } => {
            schema::put_record(connection, record, *as_of)?;
            applied.records += 1;
        }
        Item::Removed(key) => {
            schema::remove_record(connection, *key)?;
            applied.records += 1;
        }
        Item::Engine { engine, as_of } => {
            schema::put_engine(connection, engine, *as_of)?;
        }
        Item::Cursor { target, seq, spool } => {
            schema::put_cursor(connection, target, *seq, *spool)?;
        }
        Item::Targets(names) => {
            schema::keep_targets(connection, names)?;
        }
        Item::Term { term, last } => {
            connection
                .prepare_cached("INSERT OR REPLACE INTO terms (term, last) VALUES (?1, ?2)")?
                .execute((term, schema::to_i64(*last)))?;
        }
        Item::Heeded(number) => {
            schema::put_heeded(connection, *number)?;
            applied.heeded = Some(*number);
        }
        Item::Alive(alive) => {
            schema::put_alive(connection, *alive)?;
        }
        Item::Lag(lag) => {
            schema::put_lag(connection, *lag)?;
        }
        Item::Clean => {
            connection.prepare_cached("UPDATE run SET clean = 1")?.execute([])?;
        }
        Item::Prints(_) => {}
    }
    Ok(())
}
