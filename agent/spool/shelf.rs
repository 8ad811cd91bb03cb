//! Which segments there are, and which may go.
//!
//! A segment is deleted when nobody needs it any more: the records of all objects cover it, and every
//! notification target has passed it. If the spool is larger than it may be, the second does not
//! hold it any longer. The newest always stays, as its name keeps the numbers going.

use std::{collections::BTreeMap, fs, path::Path};

use super::segment;

/// A segment but for what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The first number that it may hold.
    pub first: u64,
    /// The last; of the newest, so far.
    pub last: u64,
    /// Octets on the disk.
    pub size: u64,
}

/// What becomes of the oldest segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It stays.
    Stays,
    /// Nobody needs it.
    Done(Segment),
    /// It must go, though a notification target has not passed it.
    Lost(Segment),
}

/// All segments, the oldest first, and who needs them.
#[derive(Debug, Default)]
pub struct Shelf {
    segments: Vec<Segment>,
    /// The records cover all up to this number.
    pub checkpointed: u64,
    /// How far each notification target is; nothing before that was said.
    pub targets: Option<BTreeMap<String, u64>>,
    /// A mate is being given a copy, so that what is needed no more is kept as long as there is room.
    pub held: bool,
    /// Grows when all segments are replaced by others, which may have the same names: what a reader
    /// remembers of places is worth nothing then.
    pub generation: u64,
}

impl Shelf {
    /// The segments that an earlier run left, whose last number is `last`.
    pub fn new(dir: &Path, firsts: &[u64], last: u64) -> Shelf {
        let ends = firsts.iter().skip(1).map(|first| first.saturating_sub(1)).chain([last]);
        let segments = firsts.iter().zip(ends).map(|(&first, last)| {
            let size = fs::metadata(segment::path(dir, first)).map_or(0, |file| file.len());
            Segment { first, last, size }
        });
        Shelf { segments: segments.collect(), ..Shelf::default() }
    }

    /// A segment was begun, with this much room.
    pub fn begin(&mut self, first: u64, room: u64) {
        // One without entries, of a run that ended at once, has the same name and was replaced.
        self.segments.retain(|segment| segment.first != first);
        self.segments.push(Segment { first, last: first.saturating_sub(1), size: room });
    }

    /// The newest segment now ends with this number, and takes at least so many octets.
    pub fn extend(&mut self, last: u64, size: u64) {
        if let Some(newest) = self.segments.last_mut() {
            newest.last = last;
            newest.size = newest.size.max(size);
        }
    }

    /// The newest segment takes no more than this.
    pub fn shrink(&mut self, size: u64) {
        if let Some(newest) = self.segments.last_mut() {
            newest.size = size;
        }
    }

    /// How many there are, and how many octets they take.
    pub fn size(&self) -> (u64, u64) {
        (self.segments.len() as u64, self.segments.iter().map(|segment| segment.size).sum())
    }

    /// The first numbers, ascending.
    pub fn firsts(&self) -> Vec<u64> {
        self.segments.iter().map(|segment| segment.first).collect()
    }

    /// The first number of the segment behind the one that begins with `first`.
    pub fn behind(&self, first: u64) -> Option<u64> {
        let next = self.segments.partition_point(|segment| segment.first <= first);
        self.segments.get(next).map(|segment| segment.first)
    }

    /// What becomes of the oldest segment, if all together may take `max_size` octets.
    pub fn judge(&self, max_size: u64) -> Verdict {
        let [oldest, _, ..] = self.segments[..] else { return Verdict::Stays };
        let fits = self.size().1 <= max_size;
        if oldest.last > self.checkpointed || (self.held && fits) {
            return Verdict::Stays;
        }
        let passed = |targets: &BTreeMap<_, u64>| targets.values().all(|at| *at >= oldest.last);
        match &self.targets {
            Some(targets) if passed(targets) => Verdict::Done(oldest),
            _ if fits => Verdict::Stays,
            _ => Verdict::Lost(oldest),
        }
    }

    /// Keeps what is needed no more as long as there is room. Gives back the number up to which every
    /// notification target has had everything.
    pub fn hold(&mut self) -> u64 {
        self.held = true;
        let passed = |targets: &BTreeMap<_, u64>| targets.values().copied().min();
        self.targets.as_ref().map_or(0, |targets| passed(targets).unwrap_or(u64::MAX))
    }

    /// All segments are gone; the records cover all up to `checkpointed` of those to come.
    pub fn replace(&mut self, checkpointed: u64) {
        self.segments.clear();
        self.checkpointed = checkpointed;
        self.generation += 1;
    }

    /// The oldest segment is gone.
    pub fn remove_oldest(&mut self) {
        self.segments.remove(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Segments 1..=10, 11..=20 and 21.., of 100 octets each.
    fn shelf(checkpointed: u64, targets: Option<&[(&str, u64)]>) -> Shelf {
        let mut shelf = Shelf::default();
        for first in [1, 11, 21] {
            shelf.begin(first, 100);
            shelf.extend(first + 9, 100);
        }
        shelf.checkpointed = checkpointed;
        shelf.targets = targets
            .map(|targets| targets.iter().map(|(name, at)| ((*name).to_owned(), *at)).collect());
        shelf
    }

    #[test]
    fn a_segment_goes_when_nobody_needs_it_or_when_it_must() {
        let first = Segment { first: 1, last: 10, size: 100 };
        let (stays, done, lost) = (Verdict::Stays, Verdict::Done(first), Verdict::Lost(first));
        for (checkpointed, targets, max_size, verdict) in [
            (10, Some(&[][..]), 300, done),
            (9, Some(&[][..]), 300, stays),
            (10, Some(&[("a", 10), ("b", 9)][..]), 300, stays),
            (10, Some(&[("a", 10), ("b", 10)][..]), 300, done),
            (10, Some(&[("a", 10), ("b", 9)][..]), 299, lost),
            (9, Some(&[("a", 10), ("b", 10)][..]), 1, stays),
            (10, None, 300, stays),
            (10, None, 299, lost),
        ] {
            let shelf = shelf(checkpointed, targets);
            assert_eq!(shelf.judge(max_size), verdict, "{checkpointed} {targets:?} {max_size}");
        }
    }

    #[test]
    fn the_newest_stays() {
        let mut shelf = shelf(1_000, Some(&[]));
        shelf.remove_oldest();
        shelf.remove_oldest();
        assert_eq!(shelf.judge(0), Verdict::Stays);
        assert_eq!((shelf.firsts(), shelf.behind(1), shelf.behind(21)), (vec![21], Some(21), None));
    }
}
