//! What waits to be written, in memory: the order of the writes is decided here.
//!
//! Alarm events overtake records, because an operator waits for them. A record must nevertheless
//! never be overwritten by an older one, nor come back after its removal. So there is no queue of
//! records to get out of order: there is one place per object, which holds the newest change, be
//! it a record or a removal, in the order of submission. What waits for a disk that fails is
//! thereby bounded by the number of objects, and a record that changed ten times meanwhile is
//! written once.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound::{Excluded, Unbounded},
    time::Duration,
};

use evenkeel_core::{
    alarm::AlarmEvent,
    state::{Record, RecordKey},
    usm::{EngineId, EngineRecord},
};

use super::{Commit, Moment, shipping::Item};

/// The rows of objects that one transaction writes while no alarm event waits; then the queue is
/// looked at again. 1,000 rows take some 20 ms, which is how long an alarm may have to wait.
pub const STEP: usize = 1_000;

/// The same while alarm events wait: few enough to cost them little, and enough that events
/// without end can't keep the records from the disk.
pub const SHARE: usize = 100;

/// The newest change of one object.
#[derive(Debug)]
pub struct Change {
    /// The record, or nothing if it was removed.
    pub record: Option<Record>,
    /// When that was so.
    pub as_of: Moment,
}

/// All that waits to be written.
#[derive(Debug, Default)]
pub struct Pending {
    /// In the order that they happened.
    pub events: Vec<AlarmEvent>,
    /// One place per object.
    pub changes: BTreeMap<RecordKey, Change>,
    /// Last rows sent, by notification target.
    pub cursors: BTreeMap<String, u64>,
    /// Last numbers of the spool sent, by notification target.
    pub spool_cursors: BTreeMap<String, u64>,
    /// Other SNMP engines, and when what is known of them was so.
    pub engines: BTreeMap<EngineId, (EngineRecord, Moment)>,
    /// The notification targets that there still are; nothing if that did not change.
    pub targets: Option<Vec<String>>,
    /// The last number of the spool that the records heed once all of these changes are written.
    pub heeded: Option<u64>,
    /// The caller listened at least until then.
    pub alive: Option<Moment>,
    /// How far the records may lag behind.
    pub lag: Option<Duration>,
    /// Objects whose change came together with an event and is written with it.
    urgent: BTreeSet<RecordKey>,
    /// Where the last step ended: the next goes on after it, so that objects at the front that
    /// change all the time can't keep those at the back from the disk.
    stepped: Option<RecordKey>,
}

impl Pending {
    /// Takes in what was submitted.
    pub fn add(&mut self, commit: Commit) {
        let urgent = !commit.events.is_empty();
        self.events.extend(commit.events);
        let removed = commit.removed.into_iter().map(|key| (key, None));
        // Removals first: whoever names an object in both lists has forgotten it and begun anew.
        let changes = removed.chain(commit.records.into_iter().map(|r| (r.key, Some(r))));
        for (key, record) in changes {
            self.changes.insert(key, Change { record, as_of: commit.as_of });
            if urgent {
                self.urgent.insert(key);
            }
        }
        for engine in commit.engines {
            self.engines.insert(engine.id.clone(), (engine, commit.as_of));
        }
        let later = self.alive.is_none_or(|alive| alive.mono <= commit.as_of.mono);
        if later {
            self.alive = Some(commit.as_of);
        }
    }

    /// The objects whose changes the next transaction writes: those that came with the events that
    /// wait, and a step of the others.
    pub fn select(&self) -> Vec<RecordKey> {
        let most = self.most();
        let from = self.stepped.map_or(Unbounded, Excluded);
        let after = self.changes.range((from, Unbounded)).map(|(key, _)| *key);
        let around = self.changes.keys().copied();
        let others = after
            .chain(around)
            .take(self.changes.len()) // once around and no further
            .filter(|key| !self.urgent.contains(key))
            .take(most);
        self.urgent.iter().copied().chain(others).collect()
    }

    /// The engines that the next transaction writes.
    pub fn engines_due(&self) -> impl Iterator<Item = &(EngineRecord, Moment)> {
        self.engines.values().take(self.most())
    }

    fn most(&self) -> usize {
        if self.events.is_empty() { STEP } else { SHARE }
    }

    /// Takes out what a transaction has written: the objects in `keys`, the engines that were due, and
    /// all the rest but the other objects and engines. `seq` is that of the last event.
    pub fn written(&mut self, keys: &[RecordKey], seq: Option<u64>) -> Vec<Item> {
        let due = self.most().min(self.engines.len());
        let mut items = Vec::with_capacity(self.events.len() + keys.len() + due + 4);
        // One transaction numbers its rows without a gap.
        let first = seq.map_or(0, |seq| (seq + 1).saturating_sub(self.events.len() as u64));
        items.extend(
            (first..)
                .zip(self.events.drain(..))
                .map(|(seq, event)| Item::Row { seq, event: Box::new(event) }),
        );
        for key in keys {
            items.extend(self.changes.remove(key).map(|Change { record, as_of }| match record {
                Some(record) => Item::Record { record: Box::new(record), as_of },
                None => Item::Removed(*key),
            }));
        }
        for _ in 0..due {
            let engine = self.engines.pop_first();
            items.extend(engine.map(|(_, (engine, as_of))| Item::Engine { engine, as_of }));
        }
        self.stepped = keys.last().copied().or(self.stepped);
        self.urgent.clear();
        let cursor = |(target, seq)| Item::Cursor { target, seq: Some(seq), spool: None };
        items.extend(std::mem::take(&mut self.cursors).into_iter().map(cursor));
        let cursor = |(target, number)| Item::Cursor { target, seq: None, spool: Some(number) };
        items.extend(std::mem::take(&mut self.spool_cursors).into_iter().map(cursor));
        if self.changes.is_empty() {
            items.extend(self.heeded.take().map(Item::Heeded));
        }
        items.extend(self.targets.take().map(Item::Targets));
        items.extend(self.alive.take().map(Item::Alive));
        items.extend(self.lag.take().map(Item::Lag));
        items
    }

    /// Whether something waits that is written at once.
    pub fn is_due(&self) -> bool {
        !self.events.is_empty() || !self.changes.is_empty() || !self.engines.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use evenkeel_core::time::{Time, WallTime};

    use super::{
        super::testing::{key, raise, record},
        *,
    };

    fn commit(at: u64, events: Vec<AlarmEvent>, records: Vec<Record>) -> Commit {
        let as_of = Moment { mono: Time::from_secs(at), wall: WallTime(0) };
        Commit { events, records, as_of, ..Commit::default() }
    }

    #[test]
    fn a_record_that_came_with_an_event_goes_first_and_is_not_undone_by_an_older_one() {
        let mut pending = Pending::default();
        pending.add(commit(1, vec![], (1..=5_000).map(|i| record(i, 1)).collect()));
        pending.add(commit(2, vec![raise(7)], vec![record(7, 2)]));
        let first = pending.select();
        assert_eq!((first[0], first.len()), (key(7), 1 + SHARE));
        assert_eq!(pending.changes[&key(7)].record, Some(record(7, 2)));
        pending.written(&first, None);
        let mut rest = first[1..].to_vec();
        while pending.is_due() {
            let step = pending.select();
            assert!(step.len() <= STEP);
            pending.written(&step, None);
            rest.extend(step);
        }
        assert_eq!(rest.len(), 4_999);
        assert!(!rest.contains(&key(7)), "the older record of 7 would have overwritten the newer");
    }

    #[test]
    fn objects_at_the_front_that_change_all_the_time_do_not_starve_those_at_the_back() {
        let mut pending = Pending::default();
        pending.add(commit(1, vec![], (1..=3_000).map(|i| record(i, 1)).collect()));
        for at in 2..5 {
            let step = pending.select();
            pending.written(&step, None);
            pending.add(commit(at, vec![], (1..=1_000).map(|i| record(i, at)).collect()));
        }
        assert_eq!(pending.changes.len(), 1_000);
        assert!(!pending.changes.contains_key(&key(3_000)));
    }
}
