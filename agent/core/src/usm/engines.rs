//! The bounded table of other engines: the clock of each, and the keys of the users that it sends as
//! (TRAP-4, TRAP-6).
//!
//! Only an engine that has sent an authentic message, or that a user lists, has a place. So whoever
//! has no key can push nobody out, whatever engines he makes up. Where it is full, the place of an
//! engine that was not heard since the hand went by last is given away (second chance): what is heard
//! stays, and being heard costs one bit.

use std::{collections::VecDeque, hash::BuildHasher};

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use smallvec::SmallVec;

use super::{EngineId, EngineRecord, crypto::SessionKeys, window::Heard};
use crate::time::Time;

/// As many users as one engine's keys are kept for. Devices send as one, a few as two; a further one
/// takes the place of the first, and costs two hashes when it comes again.
const USERS_PER_ENGINE: usize = 4;

/// A place in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot(u32);

/// The keys of a user at an engine.
#[derive(Debug)]
pub struct Cached {
    /// The user's place in the settings.
    pub user: usize,
    /// Boxed, as their HMAC has up to 400 octets and most engines have one user.
    pub keys: Box<SessionKeys>,
}

/// What is remembered of an engine.
#[derive(Debug)]
pub struct Engine {
    /// Which one.
    pub id: EngineId,
    /// Its clock; nothing if it is listed and was not heard yet.
    pub heard: Option<Heard>,
    /// The keys that have proved right.
    pub keys: SmallVec<[Cached; 1]>,
    /// A user lists it: it keeps its place, which is not among those that are bounded.
    listed: bool,
    /// It was heard since the hand went by.
    chance: bool,
    /// It waits in [`Engines::changed`].
    changed: bool,
}

impl Engine {
    /// Keeps a user's keys. Their place in [`Engine::keys`].
    pub fn keep(&mut self, user: usize, keys: Box<SessionKeys>) -> usize {
        if self.keys.len() == USERS_PER_ENGINE {
            self.keys.remove(0);
        }
        self.keys.push(Cached { user, keys });
        self.keys.len() - 1
    }
}

/// The table.
#[derive(Debug)]
pub struct Engines {
    entries: Vec<Engine>,
    index: HashTable<u32>,
    hasher: FixedState,
    max: usize,
    listed: usize,
    hand: usize,
    changed: VecDeque<u32>,
    removed: Vec<EngineId>,
}

impl Engines {
    /// A table for at most `max` engines, and those that are listed. `seed` keeps outsiders from
    /// choosing engines that collide.
    pub fn new(max: u32, seed: u64) -> Engines {
        Engines {
            entries: Vec::new(),
            index: HashTable::new(),
            hasher: FixedState::with_seed(seed),
            max: max as usize,
            listed: 0,
            hand: 0,
            changed: VecDeque::new(),
            removed: Vec::new(),
        }
    }

    /// How many engines there are.
    pub const fn count(&self) -> usize {
        self.entries.len()
    }

    /// Where an engine is.
    #[inline]
    pub fn find(&self, id: &[u8]) -> Option<Slot> {
        let same = |&place: &u32| self.entries[place as usize].id.octets() == id;
        self.index.find(hash(&self.hasher, id), same).map(|&place| Slot(place))
    }

    /// An engine.
    #[inline]
    pub fn get(&mut self, slot: Slot) -> &mut Engine {
        &mut self.entries[slot.0 as usize]
    }

    /// Notes that an authentic message of an engine came, and whether its clock moved.
    #[inline]
    pub fn heard(&mut self, slot: Slot, moved: bool) {
        let engine = &mut self.entries[slot.0 as usize];
        engine.chance = true;
        if moved && !engine.changed {
            engine.changed = true;
            self.changed.push_back(slot.0);
        }
    }

    /// A place for an engine that has none. Whether another gave way for it; nothing if none may be
    /// learned at all.
    pub fn add(&mut self, id: EngineId, heard: Option<Heard>) -> Option<(Slot, bool)> {
        let engine = Engine {
            id,
            heard,
            keys: SmallVec::new(),
            listed: false,
            chance: true,
            changed: false,
        };
        if self.max == 0 {
            return None;
        }
        let full = self.entries.len() - self.listed >= self.max;
        let slot = if full { self.replace(engine) } else { self.push(engine) };
        Some((slot, full))
    }

    /// Sets which engines are listed, and how many others there may be. Those that were heard last
    /// stay.
    pub fn bound<'a>(&mut self, max: u32, listed: impl Iterator<Item = &'a EngineId>) {
        self.max = max as usize;
        let mut listed: Vec<&EngineId> = listed.collect();
        listed.sort_unstable();
        listed.dedup();
        for engine in &mut self.entries {
            engine.listed = listed.binary_search(&&engine.id).is_ok();
        }
        self.listed = listed.len();
        for id in listed {
            if self.find(id.octets()).is_none() {
                self.push(Engine {
                    id: id.clone(),
                    heard: None,
                    keys: SmallVec::new(),
                    listed: true,
                    chance: false,
                    changed: false,
                });
            }
        }
        if self.entries.len() - self.listed > self.max {
            self.shrink();
        }
    }

    /// Gives every key that is kept to `keep`, which says what its user's place is now; nothing if its
    /// user is gone or has changed.
    pub fn users_moved(&mut self, keep: impl Fn(usize) -> Option<usize>) {
        for engine in &mut self.entries {
            engine.keys.retain(|cached| match keep(cached.user) {
                Some(user) => {
                    cached.user = user;
                    true
                }
                None => false,
            });
        }
    }

    /// Takes in what was remembered, where nothing newer is known. The youngest first, as many as
    /// there is place for.
    pub fn restore(&mut self, mut records: Vec<EngineRecord>, now: Time) {
        records.sort_by_key(|record| record.age);
        for EngineRecord { id, boots, time, age } in records {
            let kept = Heard { boots, latest: time, since: now - age };
            match self.find(id.octets()) {
                Some(slot) => {
                    let engine = self.get(slot);
                    let newer = |heard: Heard| (heard.boots, heard.latest) >= (boots, time);
                    if !engine.heard.is_some_and(newer) {
                        engine.heard = Some(kept);
                    }
                }
                None if self.entries.len() - self.listed < self.max => {
                    self.add(id, Some(kept));
                }
                None => self.removed.push(id),
            }
        }
    }

    /// All that is remembered, in the order of the table.
    pub fn export(&self, now: Time) -> Vec<EngineRecord> {
        self.entries.iter().filter_map(|engine| record(engine, now)).collect()
    }

    /// At most `most` of those that changed, the one that waits longest first.
    pub fn take_changes(&mut self, most: usize, now: Time) -> Vec<EngineRecord> {
        let taken = self.changed.len().min(most);
        let entries = &mut self.entries;
        self.changed
            .drain(..taken)
            .filter_map(|place| {
                let engine = &mut entries[place as usize];
                engine.changed = false;
                record(engine, now)
            })
            .collect()
    }

    /// The engines that gave way since this was called last, and that are not back.
    pub fn take_removed(&mut self) -> Vec<EngineId> {
        let mut removed = std::mem::take(&mut self.removed);
        removed.retain(|id| self.find(id.octets()).is_none());
        removed
    }

    fn push(&mut self, engine: Engine) -> Slot {
        // The bound is a u32, and listed engines were typed in.
        let place = self.entries.len() as u32;
        let hash_of_id = hash(&self.hasher, engine.id.octets());
        self.entries.push(engine);
        let (entries, hasher) = (&self.entries, &self.hasher);
        self.index.insert_unique(hash_of_id, place, |&place| {
            hash(hasher, entries[place as usize].id.octets())
        });
        Slot(place)
    }

    /// Puts an engine in the place of one that is not listed and was not heard for longest, roughly.
    fn replace(&mut self, mut engine: Engine) -> Slot {
        // Ends within two rounds: some engine is not listed, and the first round takes every chance.
        let place = loop {
            self.hand = (self.hand + 1) % self.entries.len();
            let candidate = &mut self.entries[self.hand];
            if candidate.listed {
                continue;
            }
            if !std::mem::take(&mut candidate.chance) {
                break self.hand;
            }
        };
        let old_hash = hash(&self.hasher, self.entries[place].id.octets());
        if let Ok(found) = self.index.find_entry(old_hash, |&other| other as usize == place) {
            found.remove();
        }
        // What waits in the queue of changes is the place, whoever is at it.
        engine.changed = self.entries[place].changed;
        let new_hash = hash(&self.hasher, engine.id.octets());
        let old = std::mem::replace(&mut self.entries[place], engine);
        if old.heard.is_some() {
            self.removed.push(old.id);
        }
        let (entries, hasher) = (&self.entries, &self.hasher);
        self.index.insert_unique(new_hash, place as u32, |&place| {
            hash(hasher, entries[place as usize].id.octets())
        });
        Slot(place as u32)
    }

    /// Builds the table anew without those that were not heard for longest.
    fn shrink(&mut self) {
        let mut engines = std::mem::take(&mut self.entries);
        engines.sort_by_key(|engine| {
            (!engine.listed, std::cmp::Reverse(engine.heard.map(|heard| heard.since)))
        });
        self.index.clear();
        self.changed.clear();
        self.hand = 0;
        for engine in engines.drain(self.listed + self.max..) {
            self.removed.push(engine.id);
        }
        for engine in engines {
            let changed = engine.changed;
            let slot = self.push(engine);
            if changed {
                self.changed.push_back(slot.0);
            }
        }
    }
}

fn record(engine: &Engine, now: Time) -> Option<EngineRecord> {
    engine.heard.map(|Heard { boots, latest, since }| EngineRecord {
        id: engine.id.clone(),
        boots,
        time: latest,
        age: now.since(since),
    })
}

fn hash(hasher: &FixedState, id: &[u8]) -> u64 {
    hasher.hash_one(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u32) -> EngineId {
        EngineId::new(&[&[0x80, 0, 0x1f, 0x88, 4][..], &number.to_be_bytes()].concat()).unwrap()
    }

    fn record(number: u32, boots: u32, time: u32, age: u64) -> EngineRecord {
        EngineRecord { id: id(number), boots, time, age: std::time::Duration::from_secs(age) }
    }

    fn heard(table: &mut Engines, number: u32, at: u64) {
        let heard = Heard::first(1, 1, Time::from_secs(at)).unwrap();
        let slot = match table.find(id(number).octets()) {
            Some(slot) => slot,
            None => table.add(id(number), Some(heard)).unwrap().0,
        };
        table.heard(slot, true);
    }

    fn there(table: &Engines, numbers: std::ops::Range<u32>) -> Vec<u32> {
        numbers.filter(|&number| table.find(id(number).octets()).is_some()).collect()
    }

    const NOW: Time = Time::from_secs(5_000);

    #[test]
    fn trap_6_the_table_is_bounded_and_who_is_heard_or_listed_stays() {
        let mut table = Engines::new(100, 7);
        table.bound(100, [id(1_000_000)].iter());
        for number in 0..10_000 {
            // Ten engines keep talking while ten thousand others come once.
            heard(&mut table, number % 10, 1);
            heard(&mut table, number, 1);
            assert!(table.count() <= 101);
        }
        assert_eq!(there(&table, 0..10), (0..10).collect::<Vec<_>>());
        assert_eq!(there(&table, 1_000_000..1_000_001).len(), 1);
        assert_eq!(there(&table, 0..10_000).len(), 100);
        let removed = table.take_removed();
        assert_eq!(removed.len(), 9_900);
        assert!(removed.iter().all(|id| table.find(id.octets()).is_none()));
        assert!(table.take_removed().is_empty());
    }

    #[test]
    fn no_place_at_all_is_none() {
        let mut table = Engines::new(0, 7);
        assert!(table.add(id(1), None).is_none());
        table.bound(0, [id(2)].iter());
        assert!(table.add(id(1), None).is_none());
        assert_eq!(table.count(), 1);
    }

    #[test]
    fn changes_are_told_once_and_the_longest_waiting_first() {
        let mut table = Engines::new(3, 7);
        for number in [1, 2, 1, 3] {
            heard(&mut table, number, 4_990);
        }
        let take = |table: &mut Engines, most| table.take_changes(most, NOW);
        assert_eq!(take(&mut table, 2), [record(1, 1, 1, 10), record(2, 1, 1, 10)]);
        heard(&mut table, 1, 5_000);
        assert_eq!(take(&mut table, 9), [record(3, 1, 1, 10), record(1, 1, 1, 10)]);
        assert_eq!(take(&mut table, 9), []);
        // The place of one that waits is told with whoever is at it.
        heard(&mut table, 2, 1);
        for number in 4..40 {
            heard(&mut table, number, 1);
        }
        let told: Vec<_> = take(&mut table, 99).into_iter().map(|record| record.id).collect();
        assert_eq!(told.len(), 3);
        assert!(told.iter().all(|id| table.find(id.octets()).is_some()));
    }

    #[test]
    fn trap_4_what_is_restored_never_goes_back() {
        let mut table = Engines::new(3, 7);
        table.restore(vec![record(1, 5, 100, 60)], NOW);
        // 60 s went by since.
        let slot = table.find(id(1).octets()).unwrap();
        assert_eq!(table.get(slot).heard.unwrap().time(NOW), 160);
        for (boots, time) in [(4, 900), (5, 99), (5, 100)] {
            table.restore(vec![record(1, boots, time, 0)], NOW);
            assert_eq!(table.export(NOW), [record(1, 5, 100, 60)]);
        }
        table.restore(vec![record(1, 6, 3, 1)], NOW);
        assert_eq!(table.export(NOW), [record(1, 6, 3, 1)]);
        // As many as there is place for, the youngest; the others are told as gone.
        table.restore((2..9).map(|number| record(number, 1, 1, u64::from(number))).collect(), NOW);
        assert_eq!(there(&table, 0..9), [1, 2, 3]);
        assert_eq!(table.take_removed().len(), 5);
    }

    #[test]
    fn a_smaller_bound_keeps_those_that_were_heard_last() {
        let mut table = Engines::new(100, 7);
        for number in 0..50 {
            heard(&mut table, number, u64::from(number));
        }
        table.bound(10, [id(3), id(77)].iter());
        assert_eq!(table.count(), 12);
        assert_eq!(there(&table, 0..100), [3, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 77]);
        assert_eq!(table.take_removed().len(), 39);
        // 3 and 40 to 49 still wait to be written.
        assert_eq!(table.take_changes(99, NOW).len(), 11);
        // The list got empty: what is over the bound goes, and no more is learned than it allows.
        table.bound(10, [].iter());
        assert_eq!(table.count(), 10);
        for number in 100..200 {
            heard(&mut table, number, 60);
        }
        assert_eq!(table.count(), 10);
    }
}
