//! What the driver hands to the spool at once: entries, encoded end to end, and the answers that wait
//! for them.

use evenkeel_core::{
    input::{Answer, Taken},
    settings::ForwardTarget,
};

use serde::{Serialize, Serializer};

use super::entry;

/// Entries and the answers that may leave once they are safe.
#[derive(Clone, Debug, Default)]
pub struct Work {
    /// The entries, encoded end to end.
    pub entries: Vec<u8>,
    /// The number of the first of them, if there is any.
    pub first: u64,
    /// The number of the last of them, if there is any.
    pub last: u64,
    /// How many they are.
    pub count: u64,
    /// What leaves then.
    pub answers: Vec<Answer>,
}

impl Work {
    /// How many octets it takes while it waits.
    pub fn cost(&self) -> u64 {
        let answers = self.answers.iter().map(|answer| size_of::<Answer>() + answer.bytes.len());
        (self.entries.len() + answers.sum::<usize>()) as u64
    }
}

/// Gathers work.
#[derive(Debug, Default)]
pub struct WorkBuilder {
    work: Work,
}

impl WorkBuilder {
    /// Adds a trap that has a number, with the names of those of its notification targets that
    /// acknowledge; `targets` is the list that its places mean. Says whether it did: one without a
    /// number is not for the spool.
    pub fn push(&mut self, taken: &Taken, targets: &[ForwardTarget]) -> bool {
        let Some(number) = taken.number else { return false };
        let names = Names { places: &taken.targets, targets };
        if !entry::append(&mut self.work.entries, number, taken, names) {
            return false;
        }
        if self.work.count == 0 {
            self.work.first = number;
        }
        self.work.last = number;
        self.work.count += 1;
        true
    }

    /// Adds an answer that waits for a number.
    pub fn answer(&mut self, answer: Answer) {
        self.work.answers.push(answer);
    }

    /// What was gathered since this was last asked; nothing if that is nothing.
    pub fn take(&mut self) -> Option<Work> {
        if self.work.count == 0 && self.work.answers.is_empty() {
            return None;
        }
        // The next is mostly as large as this one.
        let next = Work {
            entries: Vec::with_capacity(self.work.entries.len()),
            answers: Vec::with_capacity(self.work.answers.len()),
            ..Work::default()
        };
        Some(std::mem::replace(&mut self.work, next))
    }
}

/// The names of those that acknowledge, written without a list of them being made.
struct Names<'a> {
    places: &'a [u16],
    targets: &'a [ForwardTarget],
}

impl Names<'_> {
    fn names(&self) -> impl Iterator<Item = &str> {
        let targets = self.places.iter().filter_map(|place| self.targets.get(usize::from(*place)));
        targets.filter(|target| target.durable).map(|target| target.name.as_str())
    }
}

impl Serialize for Names<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeSeq;
        let mut list = serializer.serialize_seq(Some(self.names().count()))?;
        self.names().try_for_each(|name| list.serialize_element(name))?;
        list.end()
    }
}
