//! Lists of places, in which no place can be twice: so none grows beyond the number of admitted peers
//! (PEER-10), whatever becomes of the peers meanwhile.
//!
//! A peer that no longer belongs into a list stays in it until its turn comes, and is passed over
//! then: that costs less than finding it. Whoever takes a place from a list therefore looks at the
//! peer before he believes it. If the peer belongs into the list again before its turn has come, it
//! is still there; so it may come early, which he sees too, and puts it back.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
};

use crate::time::Time;

/// First in, first out.
#[derive(Clone, Debug, Default)]
pub struct Queue {
    places: VecDeque<u32>,
    members: Members,
}

impl Queue {
    /// Puts a place at the end, unless it is in the list.
    pub fn push(&mut self, place: u32) {
        if self.members.insert(place) {
            self.places.push_back(place);
        }
    }

    /// The first.
    pub fn first(&self) -> Option<u32> {
        self.places.front().copied()
    }

    /// Takes the first.
    pub fn pop(&mut self) -> Option<u32> {
        let place = self.places.pop_front()?;
        self.members.remove(place);
        Some(place)
    }

    /// Whether this place is in the list.
    pub fn contains(&self, place: u32) -> bool {
        self.members.contains(place)
    }

    /// Whether there is nobody in the list.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }
}

/// Each at its moment.
///
/// A heap rather than a first-in-first-out list, though nearly all come in the order of their moments:
/// clocks of peers are moved on one by one (PEER-12), and groups have timeouts of their own. It holds
/// those peers that are silent, or went down of late, and no others.
#[derive(Clone, Debug, Default)]
pub struct Wakes {
    heap: BinaryHeap<Reverse<(Time, u32)>>,
    members: Members,
}

impl Wakes {
    /// Wakes a place at a moment, unless it is to be woken already. The moments of one peer only move
    /// later, so that it is woken too early at worst.
    pub fn set(&mut self, place: u32, moment: Time) {
        if self.members.insert(place) {
            self.heap.push(Reverse((moment, place)));
        }
    }

    /// When the next one is woken.
    pub fn next(&self) -> Option<Time> {
        self.heap.peek().map(|Reverse((moment, _))| *moment)
    }

    /// Takes the next one.
    pub fn pop(&mut self) -> Option<u32> {
        let Reverse((_, place)) = self.heap.pop()?;
        self.members.remove(place);
        Some(place)
    }
}

/// A bit for each place.
#[derive(Clone, Debug, Default)]
struct Members(Vec<u64>);

impl Members {
    /// Whether it was not there yet.
    fn insert(&mut self, place: u32) -> bool {
        let (word, bit) = at(place);
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        let new = self.0[word] & bit == 0;
        self.0[word] |= bit;
        new
    }

    fn remove(&mut self, place: u32) {
        let (word, bit) = at(place);
        self.0[word] &= !bit;
    }

    fn contains(&self, place: u32) -> bool {
        let (word, bit) = at(place);
        self.0.get(word).is_some_and(|word| word & bit != 0)
    }
}

const fn at(place: u32) -> (usize, u64) {
    (place as usize / 64, 1 << (place % 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_place_is_twice_in_a_list_peer_10() {
        let (mut queue, mut wakes) = (Queue::default(), Wakes::default());
        for place in [70, 3, 70, 3, 70] {
            queue.push(place);
            wakes.set(place, Time::from_secs(u64::from(place)));
            wakes.set(place, Time::ZERO);
        }
        assert_eq!([queue.places.len(), wakes.heap.len()], [2, 2]);
        assert_eq!([queue.pop(), wakes.pop()], [Some(70), Some(3)]);
        queue.push(70);
        assert!(queue.contains(70) && queue.contains(3) && !queue.contains(4));
        assert_eq!([queue.pop(), queue.pop(), queue.pop()], [Some(3), Some(70), None]);
        assert_eq!(wakes.next(), Some(Time::from_secs(70)));
        assert_eq!([wakes.pop(), wakes.pop()], [Some(70), None]);
    }
}
