//! Saves what can still be read from a damaged database into the new one.
//!
//! An alarm that is forgotten stays raised at the NMS for ever, so the active alarms are worth the
//! attempt even if all else is lost.

use std::path::Path;

use rusqlite::{Connection, params_from_iter, types::Value};

use super::schema;

/// The rows that are tried, the most precious first. Of the journal only the end: it is what may
/// not have been sent yet, and the start must not take minutes.
const ROWS: [(&str, &str); 5] = [
    ("run", "SELECT * FROM run"),
    ("alarms", "SELECT * FROM alarms"),
    ("targets", "SELECT * FROM targets"),
    ("objects", "SELECT * FROM objects"),
    (
        "journal",
        "SELECT * FROM journal WHERE seq > coalesce((SELECT max(seq) FROM journal), 0) - 10000 \
         ORDER BY seq",
    ),
];

/// Copies what can be read of `damaged` into the empty tables of `connection`, and says how much
/// that was, as "3 alarms, 7 objects".
///
/// # Errors
///
/// The new database can't be written. That the old one can't be read is none.
pub fn salvage(damaged: &Path, connection: &mut Connection) -> rusqlite::Result<String> {
    let transaction = connection.transaction()?;
    let mut saved = Vec::new();
    if let Ok(old) = schema::connect_read_only(damaged) {
        for (table, select) in ROWS {
            let mut count = 0;
            for row in readable(&old, select) {
                let marks = vec!["?"; row.len()].join(", ");
                let insert = format!("INSERT OR IGNORE INTO {table} VALUES ({marks})");
                // A row that the table refuses was damaged, too.
                count += transaction
                    .prepare_cached(&insert)?
                    .execute(params_from_iter(row))
                    .or_else(|error| if is_refusal(&error) { Ok(0) } else { Err(error) })?;
            }
            if table != "run" {
                saved.push(format!("{count} {table}"));
            }
        }
    }
    // A cursor beyond the end of what is left of the journal would hide the rows to come. And
    // whatever the old file says, it did not end in order.
    transaction.execute_batch(
        "UPDATE targets SET seq = min(seq, coalesce((SELECT max(seq) FROM journal), 0));
         UPDATE run SET clean = 0;",
    )?;
    transaction.commit()?;
    Ok(saved.join(", "))
}

/// The rows up to the first that can't be read.
fn readable(old: &Connection, select: &str) -> Vec<Vec<Value>> {
    let Ok(mut statement) = old.prepare(select) else { return Vec::new() };
    let columns = statement.column_count();
    let Ok(mut rows) = statement.query([]) else { return Vec::new() };
    let mut readable = Vec::new();
    while let Ok(Some(row)) = rows.next() {
        let Ok(values) = (0..columns).map(|column| row.get(column)).collect() else { break };
        readable.push(values);
    }
    readable
}

fn is_refusal(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{ConstraintViolation, TypeMismatch};
    matches!(error.sqlite_error_code(), Some(ConstraintViolation | TypeMismatch))
        || matches!(error, rusqlite::Error::InvalidParameterCount(..))
        || matches!(error, rusqlite::Error::SqlInputError { .. })
}
