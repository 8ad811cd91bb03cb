//! What came before, by its hash: informs that are sent again (TRAP-5), and datagrams that were
//! forwarded (TRAP-9).
//!
//! A bounded table in which the oldest gives way. Only a keyed hash of 128 bits is kept, so that an
//! entry costs the same whatever came, and nobody can make two that differ look the same without
//! knowing the key.

use std::{
    hash::{BuildHasher, Hash},
    time::Duration,
};

use foldhash::quality::FixedState;
use hashbrown::HashTable;

use crate::time::Time;

/// How many are remembered: 60 s of 4,000 informs a second, or 5 s of 50,000 forwarded traps a second,
/// in some 12 MB. It is taken as it is needed.
pub const KEPT: usize = 262_144;

/// What is remembered instead of the octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Print {
    low: u64,
    high: u64,
}

/// One that came before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Before {
    /// When it was received.
    pub received: Time,
    /// Its number in the spool, or 0.
    pub number: u64,
}

/// The table.
#[derive(Debug)]
pub struct Repeats {
    /// A ring, once it is full.
    entries: Vec<(Print, Before)>,
    next: usize,
    index: HashTable<u32>,
    keys: [FixedState; 2],
    kept: usize,
    gave_way: u64,
}

impl Repeats {
    /// A table for `kept` entries, at least one. `seed` is the key of the hashes.
    pub fn new(kept: usize, seed: u64) -> Repeats {
        Repeats {
            entries: Vec::new(),
            next: 0,
            index: HashTable::new(),
            keys: [seed, !seed].map(FixedState::with_seed),
            kept: kept.max(1),
            gave_way: 0,
        }
    }

    /// The print of something.
    pub fn print(&self, what: &impl Hash) -> Print {
        let [low, high] = self.keys.each_ref().map(|key| key.hash_one(what));
        Print { low, high }
    }

    /// The one with this print, if it is remembered.
    pub fn find(&self, print: Print) -> Option<Before> {
        let found = self.index.find(print.low, |&place| self.entries[place as usize].0 == print)?;
        Some(self.entries[*found as usize].1)
    }

    /// The one with this print that was received no longer than `horizon` ago. The two may have come
    /// over different sockets, so either may have the later stamp.
    pub fn within(&self, print: Print, horizon: Duration, now: Time) -> Option<Before> {
        let before = self.find(print)?;
        let apart = now.since(before.received).max(before.received.since(now));
        (apart <= horizon).then_some(before)
    }

    /// Remembers one. What has the same print is forgotten, or else the oldest if there is no room.
    pub fn note(&mut self, print: Print, before: Before) {
        if let Some(&place) =
            self.index.find(print.low, |&place| self.entries[place as usize].0 == print)
        {
            self.entries[place as usize].1 = before;
            return;
        }
        let place = if self.entries.len() < self.kept {
            self.entries.push((print, before));
            self.entries.len() - 1
        } else {
            let place = self.next;
            self.next = (self.next + 1) % self.kept;
            let (old, _) = std::mem::replace(&mut self.entries[place], (print, before));
            let same = |&other: &u32| other as usize == place;
            if let Ok(found) = self.index.find_entry(old.low, same) {
                found.remove();
            }
            self.gave_way += 1;
            place
        };
        let entries = &self.entries;
        let hash = |&other: &u32| entries[other as usize].0.low;
        self.index.insert_unique(print.low, place as u32, hash);
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many gave way for others since the start.
    pub const fn gave_way(&self) -> u64 {
        self.gave_way
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn before(secs: u64, number: u64) -> Before {
        Before { received: Time::from_secs(secs), number }
    }

    #[test]
    fn the_oldest_gives_way_and_the_others_are_known() {
        let mut repeats = Repeats::new(4, 9);
        for number in 0..6_u64 {
            let print = repeats.print(&(number, "inform"));
            repeats.note(print, before(number, number));
        }
        for number in 0..6_u64 {
            let known = repeats.find(repeats.print(&(number, "inform")));
            assert_eq!(known, (number >= 2).then_some(before(number, number)), "{number}");
        }
        assert_eq!((repeats.len(), repeats.gave_way()), (4, 2));
        // Noted again it is the same entry.
        let print = repeats.print(&(5_u64, "inform"));
        repeats.note(print, before(9, 5));
        assert_eq!(repeats.find(print), Some(before(9, 5)));
        assert_eq!((repeats.len(), repeats.gave_way()), (4, 2));
    }

    #[test]
    fn what_came_longer_ago_than_the_horizon_is_another() {
        let mut repeats = Repeats::new(4, 9);
        let print = repeats.print(&"inform");
        repeats.note(print, before(100, 1));
        let horizon = Duration::from_secs(60);
        for (secs, known) in [(39, false), (40, true), (100, true), (160, true), (161, false)] {
            let found = repeats.within(print, horizon, Time::from_secs(secs));
            assert_eq!(found.is_some(), known, "{secs}");
        }
    }

    #[test]
    fn prints_depend_on_the_key_and_on_where_one_part_ends() {
        let (one, other) = (Repeats::new(1, 1), Repeats::new(1, 2));
        assert_ne!(one.print(&"a"), other.print(&"a"));
        assert_ne!(one.print(&(&b"ab"[..], &b"c"[..])), one.print(&(&b"a"[..], &b"bc"[..])));
    }
}
