//! Saves what can still be read from a damaged database into the new one.
//!
//! An alarm that is forgotten stays raised at the NMS for ever, so the active alarms are worth the
//! attempt even if all else is lost.

use std::path::Path;

use rusqlite::{Connection, params_from_iter, types::Value};

use super::schema;

/// The rows that are tried, the most precious first. Of the journal only the end: it is what may
/// not have been sent yet, and the start must not take minutes.
const ROWS: [(&str, &str); 8] = [
    ("run", "SELECT * FROM run"),
    ("engine", "SELECT * FROM engine"),
    ("terms", "SELECT * FROM terms"),
    ("alarms", "SELECT * FROM alarms"),
    ("targets", "SELECT * FROM targets"),
    ("objects", "SELECT * FROM objects"),
    ("engines", "SELECT * FROM engines"),
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
            let (columns, rows) = readable(&old, select);
            // By name: a file of an earlier version has fewer of them.
            let marks = vec!["?"; columns.len()].join(", ");
            let columns = columns.join(", ");
            let insert = format!("INSERT OR IGNORE INTO {table} ({columns}) VALUES ({marks})");
            for row in rows {
                // A row that the table refuses was damaged, too.
                count += transaction
                    .prepare_cached(&insert)?
                    .execute(params_from_iter(row))
                    .or_else(|error| if is_refusal(&error) { Ok(0) } else { Err(error) })?;
            }
            if !matches!(table, "run" | "engine" | "terms") {
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

/// The names of the columns, and the rows up to the first that can't be read.
fn readable(old: &Connection, select: &str) -> (Vec<String>, Vec<Vec<Value>>) {
    let Ok(mut statement) = old.prepare(select) else { return (Vec::new(), Vec::new()) };
    let names: Vec<String> = statement.column_names().map(str::to_owned).collect();
    let columns = names.len();
    let mut readable = Vec::new();
    let Ok(mut rows) = statement.query([]) else { return (names, readable) };
    while let Ok(Some(row)) = rows.next() {
        let Ok(values) = (0..columns).map(|column| row.get(column)).collect() else { break };
        readable.push(values);
    }
    (names, readable)
}

fn is_refusal(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{ConstraintViolation, TypeMismatch};
    matches!(error.sqlite_error_code(), Some(ConstraintViolation | TypeMismatch))
        || matches!(error, rusqlite::Error::InvalidParameterCount(..))
        || matches!(error, rusqlite::Error::SqlInputError { .. })
}
