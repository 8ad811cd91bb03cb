//! The journal as the outbox of notifications, and the spool as that of forwarded traps: each
//! notification target is sent what is behind its cursors.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use evenkeel_core::{
    alarm::{Alarm, AlarmEvent},
    supervision::Part,
    time::Time,
};

use crate::{
    notifier::{self, Found, Journal},
    receivers::Active,
    spool::{Spool, SpoolReader},
    store::{Reader, Store},
    supervisor::pulse,
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
        let mut reader = lock(&self.reader);
        let _disk = pulse::at_disk(Part::Outbox);
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
                let (wall, cleared, alarm, term) = (row.wall, row.cleared, row.alarm, row.term);
                (row.seq, AlarmEvent { at, wall, cleared, alarm, term })
            })
            .collect())
    }

    fn cursor(&self, target: &str) -> Option<u64> {
        self.read(|reader| reader.cursor(target)).ok().flatten()
    }

    fn set_cursor(&self, target: &str, seq: u64) {
        self.store.set_cursor(target, seq);
    }

    fn pass(&self) {
        drop(lock(&self.reader));
    }
}

impl Active for Outbox {
    fn active(&self) -> Result<Vec<Alarm>, String> {
        self.read(Reader::active_alarms)
    }
}

/// The highest number of the spool that any notification target has had; 0 if there is none.
pub fn last_cursor(dir: &Path) -> u64 {
    let highest = Reader::open(dir).ok().and_then(|reader| reader.last_spool_cursor().ok());
    highest.flatten().unwrap_or(0)
}

/// Reads the spool for the notification targets that acknowledge, and keeps their cursors through the
/// store.
pub struct Outspool {
    store: Arc<Store>,
    spool: Arc<Spool>,
    dir: PathBuf,
    targets: Mutex<BTreeMap<String, Arc<Place>>>,
}

/// Where a target is. A reader may wait for the disk, and whoever sets a cursor must not wait for a reader.
struct Place {
    reader: Mutex<SpoolReader>,
    /// The cursor as it was set in this run; the one on the disk follows within a second.
    cursor: Mutex<Option<u64>>,
}

impl Outspool {
    /// The spool `spool` with cursors in the store in `dir`.
    pub const fn new(store: Arc<Store>, spool: Arc<Spool>, dir: PathBuf) -> Outspool {
        Outspool { store, spool, dir, targets: Mutex::new(BTreeMap::new()) }
    }

    /// Forgets all targets but these, whose entries the spool keeps until they have them.
    pub fn keep_targets(&self, names: &[String]) {
        let of = |name: &String| (name.clone(), notifier::Spool::cursor(self, name).unwrap_or(0));
        let cursors = names.iter().map(of).collect();
        self.places().retain(|name, _| names.contains(name));
        self.spool.set_targets(cursors);
    }

    /// Forgets where each target is: of a pair, the mate has gone on meanwhile.
    pub fn forget(&self) {
        self.places().clear();
    }

    fn places(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Place>>> {
        lock(&self.targets)
    }

    fn at(&self, target: &str) -> Arc<Place> {
        let new = || {
            let reader = Mutex::new(self.spool.reader());
            Arc::new(Place { reader, cursor: Mutex::new(None) })
        };
        Arc::clone(self.places().entry(target.to_owned()).or_insert_with(new))
    }
}

/// A reader that panicked has no more than its place wrong, and finds it again.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl notifier::Spool for Outspool {
    fn after(&self, number: u64, limit: usize, target: &str) -> Result<Found, String> {
        let place = self.at(target);
        let mut reader = lock(&place.reader);
        let _disk = pulse::at_disk(Part::Outbox);
        reader.after(number, limit, target).map_err(|error| error.to_string())
    }

    fn cursor(&self, target: &str) -> Option<u64> {
        let here = *lock(&self.at(target).cursor);
        here.or_else(|| Reader::open(&self.dir).ok()?.spool_cursor(target).ok()?)
    }

    fn set_cursor(&self, target: &str, number: u64) {
        *lock(&self.at(target).cursor) = Some(number);
        self.store.set_spool_cursor(target, number);
        self.spool.passed(target, number);
    }

    fn pass(&self) {
        let places: Vec<Arc<Place>> = self.places().values().cloned().collect();
        places.iter().for_each(|place| drop(lock(&place.reader)));
    }
}
