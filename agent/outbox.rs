//! The journal as the outbox of notifications: each notification target is sent the rows behind
//! its cursor.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use evenkeel_core::{alarm::AlarmEvent, time::Time};

use crate::{
    notifier::Journal,
    store::{Reader, Store},
};

/// Reads the journal over a connection of its own, and keeps cursors through the store.
pub struct Outbox {
    store: Arc<Store>,
    dir: PathBuf,
    /// Opened when it is first needed, and again after an error.
    reader: Mutex<Option<Reader>>,
}

impl Outbox {
    /// An outbox over the store in `dir`.
    pub const fn new(store: Arc<Store>, dir: PathBuf) -> Outbox {
        Outbox { store, dir, reader: Mutex::new(None) }
    }

    fn read<T>(&self, read: impl Fn(&Reader) -> rusqlite::Result<T>) -> Result<T, String> {
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let open = match reader.take() {
            Some(open) => open,
            None => Reader::open(&self.dir).map_err(|error| error.to_string())?,
        };
        let found = read(&open).map_err(|error| error.to_string())?;
        *reader = Some(open);
        Ok(found)
    }
}

impl Journal for Outbox {
    fn after(&self, seq: u64, limit: usize) -> Result<Vec<(u64, AlarmEvent)>, String> {
        let rows = self.read(|reader| reader.journal_after(seq, limit))?;
        Ok(rows
            .into_iter()
            .map(|row| {
                // The monotonic moment of an event means nothing to an NMS.
                let at = Time::ZERO;
                let (wall, cleared, alarm) = (row.wall, row.cleared, row.alarm);
                (row.seq, AlarmEvent { at, wall, cleared, alarm })
            })
            .collect())
    }

    fn cursor(&self, target: &str) -> Option<u64> {
        self.read(|reader| reader.cursor(target)).ok().flatten()
    }

    fn set_cursor(&self, target: &str, seq: u64) {
        self.store.set_cursor(target, seq);
    }
}
