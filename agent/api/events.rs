//! The journal, for who reads it beside the notifier: over a connection of its own, from what is on the
//! disk, so that no alarm is shown that a power cut could take back.

use std::{
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use crate::store::{JournalRow, Reader};

/// A way to the journal.
pub struct Events {
    dir: PathBuf,
    /// Opened when it is first needed, and again after an error.
    reader: Mutex<Option<Reader>>,
}

impl Events {
    /// The journal of the store in `dir`.
    pub const fn new(dir: PathBuf) -> Events {
        Events { dir, reader: Mutex::new(None) }
    }

    /// The last row that was ever written, and up to `limit` rows, the oldest first: those after `after`,
    /// or, without it, the last ones. It waits for the disk.
    ///
    /// # Errors
    ///
    /// The journal can't be read.
    pub fn read(&self, after: Option<u64>, limit: usize) -> anyhow::Result<(u64, Vec<JournalRow>)> {
        let mut kept = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let reader = match kept.take() {
            Some(reader) => reader,
            None => Reader::open(&self.dir)?,
        };
        let last = reader.last_seq()?;
        let rows = match after {
            Some(seq) => reader.journal_after(seq, limit)?,
            None => {
                let mut rows = reader.recent(limit)?;
                rows.reverse();
                rows
            }
        };
        *kept = Some(reader);
        Ok((last, rows))
    }
}
