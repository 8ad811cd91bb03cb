//! The table of systems and interfaces, bounded (INST-16).
//!
//! Entries live in one dense vector and are found by a hash index. Those that may give way hang in
//! lists, each in the order of the latest counted trap, so that the one that was silent longest is
//! found at once however many there are:
//!
//! | list | holds |
//! |---|---|
//! | idle | what an episode or its last interface left behind |
//! | class | what counts, or has counted, under one group's trap window: a list for each group's systems and each group's interfaces |
//! | down | interfaces with `interface_down` raised |
//! | none | unstable objects, and systems that have interfaces here |

use std::{collections::VecDeque, hash::BuildHasher, net::IpAddr};

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use crate::{
    alarm::{Object, System},
    copies::Recent,
    groups::GroupIndex,
    settings::Window,
    stability::Stability,
    state::RecordKey,
    time::Time,
};

/// A place in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot(u32);

const NOWHERE: u32 = u32::MAX;

/// What is remembered of one system or interface: 256 octets and, while counting, a receipt time
/// for each trap below the threshold.
///
/// In the order in which a trap reads it, so that each line of the cache serves one purpose: the
/// first finds the object and where it hangs, the second its instability, the others its last
/// traps. With 10,000 interfaces these reads are what the analysis costs.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Entry {
    /// The system's address, as it is compared.
    address: u128,
    /// Which one.
    pub key: RecordKey,
    /// The entry of an interface's system; a system's own.
    pub system: Slot,
    /// Its group.
    pub group: GroupIndex,
    /// A system that has sent linkDown (INST-2).
    pub sends_link_down: bool,
    /// An interface whose last link trap was linkDown (INST-13).
    pub down: bool,
    /// `interface_down` is raised.
    pub down_raised: bool,
    /// An interface that is an end of a link (INST-14).
    pub is_end: bool,
    /// The place waits in [`Objects::changed`], whoever is at it.
    changed: bool,
    /// A copy of it was handed out, which must be told when it gives way.
    kept: bool,
    list: u32,
    before: u32,
    after: u32,
    /// Where its instability stands.
    pub stability: Stability,
    /// When the latest counted trap was received.
    counted_at: Time,
    /// Counts the episodes of this place, to know deadlines that are no longer meant.
    pub episode: u32,
    /// Interfaces of a system in the table.
    interfaces: u32,
    /// The number in the spool of the last trap that it has heeded; 0 for none.
    pub spooled: u64,
    /// Its last traps.
    pub recent: Recent,
    /// Its traps of this episode that were not forwarded (TRAP-8). Beyond 2^32 they are no longer
    /// counted: a trap a millisecond, for seven weeks.
    pub suppressed: u32,
    /// What the device calls the interface.
    pub if_name: Option<Box<str>>,
}

impl Entry {
    /// Whether it is an interface, and not a system.
    pub const fn is_interface(&self) -> bool {
        self.key.if_index != 0
    }

    /// What an alarm names it.
    pub const fn object(&self) -> Object {
        self.key.object()
    }
}

const _: () = assert!(size_of::<Entry>() == 256, "see Entry");

#[derive(Clone, Copy, Debug)]
struct List {
    first: u32,
    last: u32,
}

const EMPTY: List = List { first: NOWHERE, last: NOWHERE };
const IDLE: u32 = 0;
const DOWN: u32 = 1;
const CLASSES: u32 = 2;

/// The table.
#[derive(Debug)]
pub struct Objects {
    entries: Vec<Entry>,
    free: Vec<u32>,
    index: HashTable<u32>,
    hasher: FixedState,
    lists: Vec<List>,
    max: usize,
    /// Places that changed, longest ago first.
    changed: VecDeque<u32>,
    removed: Vec<RecordKey>,
}

/// No entry may give way: all are unstable, or systems of those.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl Objects {
    /// A table for at most `max` systems and interfaces together. `seed` keeps outsiders from
    /// choosing addresses that collide.
    pub fn new(max: u32, seed: u64) -> Objects {
        Objects {
            entries: Vec::new(),
            free: Vec::new(),
            index: HashTable::new(),
            hasher: FixedState::with_seed(seed),
            lists: vec![EMPTY; CLASSES as usize],
            max: max as usize,
            changed: VecDeque::new(),
            removed: Vec::new(),
        }
    }

    /// How many systems and interfaces there are.
    pub fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sets another bound. What is too many gives way as new ones come.
    pub fn set_max(&mut self, max: u32) {
        self.max = max as usize;
    }

    /// The system with this address.
    pub fn find_system(&self, address: IpAddr) -> Option<Slot> {
        let entries = &self.entries;
        let bits = bits(address);
        let found = self.index.find(self.hasher.hash_one(bits), |&slot| {
            let entry = &entries[slot as usize];
            entry.address == bits && entry.key.if_index == 0
        })?;
        Some(Slot(*found))
    }

    /// The interface of a system with this ifIndex.
    pub fn find_interface(&self, system: Slot, if_index: u32) -> Option<Slot> {
        let entries = &self.entries;
        let found = self.index.find(self.hash_interface(system, if_index), |&slot| {
            let entry = &entries[slot as usize];
            entry.system == system && entry.key.if_index == if_index
        })?;
        Some(Slot(*found))
    }

    /// The system or interface with this key.
    pub fn find(&self, RecordKey { system, if_index }: RecordKey) -> Option<Slot> {
        let system = self.find_system(system.0)?;
        if if_index == 0 { Some(system) } else { self.find_interface(system, if_index) }
    }

    /// The entry at a place.
    pub fn get(&self, slot: Slot) -> &Entry {
        &self.entries[slot.0 as usize]
    }

    /// The entry at a place, to change; the change is noted for those who keep a copy.
    pub fn change(&mut self, slot: Slot) -> &mut Entry {
        let entry = &mut self.entries[slot.0 as usize];
        if !entry.changed {
            entry.changed = true;
            self.changed.push_back(slot.0);
        }
        entry
    }

    /// The entry at a place, to change without a note: for bookkeeping that no copy needs.
    pub fn get_mut(&mut self, slot: Slot) -> &mut Entry {
        &mut self.entries[slot.0 as usize]
    }

    /// Every place in use.
    pub fn slots(&self) -> impl Iterator<Item = Slot> {
        (0..self.entries.len() as u32)
            .filter(|&slot| self.entries[slot as usize].system.0 != NOWHERE)
            .map(Slot)
    }

    /// Takes the lists away and hangs every entry in anew, after the groups have changed.
    pub fn regroup(&mut self, groups: usize) {
        self.lists = vec![EMPTY; CLASSES as usize + 2 * (groups + 1)];
        let mut slots: Vec<Slot> = self.slots().collect();
        slots.sort_by_key(|&slot| (self.get(slot).counted_at, slot));
        for slot in slots {
            self.get_mut(slot).list = NOWHERE;
            self.hang(slot);
        }
    }

    /// Adds a system that is not there.
    ///
    /// # Panics
    ///
    /// If there is no room: [`make_room`](Objects::make_room) comes first.
    pub fn add_system(&mut self, address: IpAddr, group: GroupIndex, now: Time) -> Slot {
        let slot = Slot(self.place());
        let key = RecordKey { system: System(address), if_index: 0 };
        self.put(slot, slot, key, group, now);
        slot
    }

    /// Adds an interface that is not there; the same holds for room.
    pub fn add_interface(
        &mut self,
        system: Slot,
        if_index: u32,
        group: GroupIndex,
        now: Time,
    ) -> Slot {
        let slot = Slot(self.place());
        let key = RecordKey { system: self.get(system).key.system, if_index };
        self.put(slot, system, key, group, now);
        self.unhang(system);
        self.get_mut(system).interfaces += 1;
        slot
    }

    /// Notes a counted trap, for the order in which entries give way.
    pub fn counted(&mut self, slot: Slot, at: Time) {
        self.entries[slot.0 as usize].counted_at = at;
        self.unhang(slot);
        self.hang(slot);
    }

    /// Says since when an entry that was put back has been silent. The lists must be put in that
    /// order afterwards, by [`regroup`](Objects::regroup).
    pub fn silent_since(&mut self, slot: Slot, at: Time) {
        self.entries[slot.0 as usize].counted_at = at;
    }

    /// Hangs an entry in the list that fits what it has become.
    pub fn settled(&mut self, slot: Slot) {
        let wanted = self.list_of(slot);
        if self.get(slot).list != wanted {
            self.unhang(slot);
            self.hang(slot);
        }
    }

    /// Makes room for `wanted` more entries and returns what gave way: first what is idle, then
    /// what counts, then interfaces that are down, each time the one that was silent longest; an
    /// unstable object never, nor the entry `keep`, nor a system that has interfaces here.
    ///
    /// # Errors
    ///
    /// When nothing may give way; what gave way before is returned all the same.
    pub fn make_room(
        &mut self,
        wanted: usize,
        keep: Option<Slot>,
        now: Time,
        window: impl Fn(&Entry) -> Option<Window>,
    ) -> (Vec<Entry>, Result<(), Full>) {
        let mut gone = Vec::new();
        while self.len() + wanted > self.max {
            let Some(slot) = self.silent_longest(keep, now, &window) else {
                return (gone, Err(Full));
            };
            gone.push(self.remove(slot));
        }
        (gone, Ok(()))
    }

    fn silent_longest(
        &self,
        keep: Option<Slot>,
        now: Time,
        window: impl Fn(&Entry) -> Option<Window>,
    ) -> Option<Slot> {
        let heads = self.lists.iter().enumerate().filter_map(|(list, &List { first, .. })| {
            let mut slot = first;
            if slot != NOWHERE && Some(Slot(slot)) == keep {
                slot = self.entries[slot as usize].after;
            }
            (slot != NOWHERE).then_some((list as u32, slot))
        });
        heads
            .min_by_key(|&(list, slot)| {
                let entry = &self.entries[slot as usize];
                let counting =
                    window(entry).is_some_and(|window| entry.stability.is_counting(now, window));
                let rank = match list {
                    DOWN => 2,
                    _ if counting => 1,
                    _ => 0,
                };
                (rank, entry.counted_at, slot)
            })
            .map(|(_, slot)| Slot(slot))
    }

    fn remove(&mut self, slot: Slot) -> Entry {
        self.unhang(slot);
        let hash = self.hash_of(slot);
        if let Ok(found) = self.index.find_entry(hash, |&other| other == slot.0) {
            found.remove();
        }
        // What the place still is in must outlive what was at it: a flood that comes faster than
        // changes are taken must not put it there once for each that gave way (INST-16).
        let Entry { episode, changed, .. } = *self.get(slot);
        let vacant = Entry { episode, changed, ..Entry::vacant() };
        let entry = std::mem::replace(&mut self.entries[slot.0 as usize], vacant);
        self.free.push(slot.0);
        // Of most that a flood of forged sources brings, nobody has a copy.
        if entry.kept {
            self.removed.push(entry.key);
        }
        if entry.is_interface() {
            let system = entry.system;
            self.get_mut(system).interfaces -= 1;
            self.settled(system);
        }
        entry
    }

    /// Notes that a copy of an entry was handed out.
    pub fn keep(&mut self, slot: Slot) {
        self.get_mut(slot).kept = true;
    }

    /// What has changed since the last call: the keys that are gone and of which a copy was handed
    /// out, and up to `most` entries, of which a copy is now handed out.
    pub fn take_changes(&mut self, most: usize) -> (Vec<Slot>, Vec<RecordKey>) {
        let mut slots = Vec::with_capacity(self.changed.len().min(most));
        while slots.len() < most {
            let Some(slot) = self.changed.pop_front() else { break };
            let entry = &mut self.entries[slot as usize];
            entry.changed = false;
            if entry.system.0 != NOWHERE {
                entry.kept = true;
                slots.push(Slot(slot));
            }
        }
        let mut removed = std::mem::take(&mut self.removed);
        // What has come again has changed, too; its new copy takes the place of the old, which is
        // there until then.
        removed.retain(|&key| {
            let again = self.find(key);
            again.into_iter().for_each(|slot| self.keep(slot));
            again.is_none()
        });
        (slots, removed)
    }

    /// How many changes wait to be taken, at most.
    pub fn changes_waiting(&self) -> usize {
        self.changed.len() + self.removed.len()
    }

    fn place(&mut self) -> u32 {
        assert!(self.len() < self.max, "room is made before an entry is added");
        self.free.pop().unwrap_or_else(|| {
            self.entries.push(Entry::vacant());
            (self.entries.len() - 1) as u32
        })
    }

    fn put(&mut self, slot: Slot, system: Slot, key: RecordKey, group: GroupIndex, now: Time) {
        let Entry { episode, changed, .. } = *self.get(slot);
        let address = bits(key.system.0);
        *self.get_mut(slot) = Entry {
            key,
            system,
            address,
            group,
            counted_at: now,
            episode,
            changed,
            ..Entry::vacant()
        };
        let hash = self.hash_of(slot);
        let (entries, hasher) = (&self.entries, &self.hasher);
        self.index
            .insert_unique(hash, slot.0, |&other| hash_entry(hasher, &entries[other as usize]));
        self.change(slot);
        self.hang(slot);
    }

    fn list_of(&self, slot: Slot) -> u32 {
        let entry = self.get(slot);
        match entry.stability {
            Stability::Unstable(_) => NOWHERE,
            _ if entry.interfaces > 0 => NOWHERE,
            _ if entry.down_raised => DOWN,
            Stability::Idle => IDLE,
            Stability::Counting(_) => {
                CLASSES + u32::from(entry.group.0) * 2 + u32::from(entry.is_interface())
            }
        }
    }

    fn hang(&mut self, slot: Slot) {
        let list = self.list_of(slot);
        if list == NOWHERE {
            return;
        }
        if list as usize >= self.lists.len() {
            self.lists.resize(list as usize + 1, EMPTY);
        }
        let last = self.lists[list as usize].last;
        let entry = &mut self.entries[slot.0 as usize];
        (entry.list, entry.before, entry.after) = (list, last, NOWHERE);
        match last {
            NOWHERE => self.lists[list as usize].first = slot.0,
            last => self.entries[last as usize].after = slot.0,
        }
        self.lists[list as usize].last = slot.0;
    }

    fn unhang(&mut self, slot: Slot) {
        let Entry { list, before, after, .. } = self.entries[slot.0 as usize];
        if list == NOWHERE {
            return;
        }
        match before {
            NOWHERE => self.lists[list as usize].first = after,
            before => self.entries[before as usize].after = after,
        }
        match after {
            NOWHERE => self.lists[list as usize].last = before,
            after => self.entries[after as usize].before = before,
        }
        self.entries[slot.0 as usize].list = NOWHERE;
    }

    fn hash_interface(&self, system: Slot, if_index: u32) -> u64 {
        self.hasher.hash_one(u64::from(system.0) << 32 | u64::from(if_index))
    }

    fn hash_of(&self, slot: Slot) -> u64 {
        hash_entry(&self.hasher, self.get(slot))
    }
}

/// An address as one number: comparing and hashing that costs half of what the address does. An
/// IPv4 address has its mapped form (RFC 4291, 2.5.5.2), which no system has.
pub fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

fn hash_entry(hasher: &FixedState, entry: &Entry) -> u64 {
    if entry.is_interface() {
        hasher.hash_one(u64::from(entry.system.0) << 32 | u64::from(entry.key.if_index))
    } else {
        hasher.hash_one(entry.address)
    }
}

impl Entry {
    fn vacant() -> Entry {
        Entry {
            key: RecordKey { system: System(IpAddr::from([0; 4])), if_index: 0 },
            system: Slot(NOWHERE),
            address: 0,
            stability: Stability::Idle,
            spooled: 0,
            recent: Recent::default(),
            suppressed: 0,
            group: GroupIndex(0),
            sends_link_down: false,
            down: false,
            down_raised: false,
            is_end: false,
            if_name: None,
            episode: 0,
            counted_at: Time::ZERO,
            interfaces: 0,
            changed: false,
            kept: false,
            list: NOWHERE,
            before: NOWHERE,
            after: NOWHERE,
        }
    }
}
