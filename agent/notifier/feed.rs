//! What one target is to be sent from one source, the journal or the spool: read ahead in order,
//! sent by [`Order`], and done up to a cursor.
//!
//! ```text
//!        done ≤ cursor      some done, some waiting, some under way    looked    not read yet
//!   ├──────────────────────┼──────────────────────────────────────────┼───────────────────────>
//! ```
//!
//! Everything up to the cursor is done for good. What is done beyond it is known only here, so a
//! crash sends it again; therefore, and to bound the memory, reading stops well before the cursor is
//! left too far behind.

use std::collections::BTreeMap;

use evenkeel_core::alarm::Severity;

use super::order::{Order, Turn};

/// How far ahead a feed reads.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// How much may wait and be under way at once.
    pub waiting: usize,
    /// How much of it is held with its content; the rest is read again when its turn comes.
    pub kept: usize,
    /// How far the reading may be ahead of the cursor: what a crash may send again.
    pub span: u64,
    /// How much is read at once.
    pub rows: usize,
    /// No number is missing in the source, but at its beginning what was pruned.
    pub gapless: bool,
}

/// One source, as one target sees it.
#[derive(Debug)]
pub struct Feed<T> {
    bounds: Bounds,
    order: Order,
    /// Everything up to here was read.
    looked: u64,
    kept: BTreeMap<u64, T>,
}

impl<T> Feed<T> {
    /// A feed that goes on after `cursor`.
    pub fn new(bounds: Bounds, cursor: u64) -> Feed<T> {
        Feed { bounds, order: Order::default(), looked: cursor, kept: BTreeMap::new() }
    }

    /// Everything up to here is done.
    pub fn cursor(&self) -> u64 {
        self.order.first_undone().map_or(self.looked, |first| first - 1)
    }

    /// How much is not done of what is safe up to `safe`.
    pub fn undone(&self, safe: u64) -> u64 {
        self.order.len() as u64 + safe.saturating_sub(self.looked)
    }

    /// After which number to read more, if there is any up to `safe` and room for it.
    pub fn wants(&self, safe: u64) -> Option<u64> {
        let room = self.order.len() + self.bounds.rows <= self.bounds.waiting;
        let near = self.looked - self.cursor() < self.bounds.span;
        (safe > self.looked && room && near).then_some(self.looked)
    }

    /// How much to read at once.
    pub fn rows(&self) -> usize {
        self.bounds.rows
    }

    /// Takes in what was read after [`wants`](Feed::wants): all that there is up to `up_to`. `judge`
    /// gives the severity and the object of what is to be sent, and nothing for what is not. Gives
    /// back how many were gone before they could be read.
    pub fn found(
        &mut self,
        rows: Vec<(u64, T)>,
        up_to: u64,
        judge: impl Fn(&T) -> Option<(Severity, u64)>,
    ) -> u64 {
        let first = rows.first().map_or(up_to + 1, |(number, _)| *number);
        let gone = if self.bounds.gapless { first.saturating_sub(self.looked + 1) } else { 0 };
        for (number, content) in rows {
            if number <= self.looked {
                continue;
            }
            self.looked = number;
            if let Some((severity, object)) = judge(&content) {
                self.order.push(number, severity, object);
                if self.kept.len() < self.bounds.kept {
                    self.kept.insert(number, content);
                }
            }
        }
        self.looked = self.looked.max(up_to);
        gone
    }

    /// Takes in what was read again, as its turn had come without its content: `wanted` and what
    /// follows it. Says whether it was there.
    pub fn found_again(&mut self, wanted: u64, rows: Vec<(u64, T)>) -> bool {
        if self.kept.len() + rows.len() > self.bounds.kept {
            self.kept.clear();
        }
        let order = &self.order;
        self.kept.extend(rows.into_iter().filter(|(number, _)| order.has(*number)));
        self.kept.contains_key(&wanted)
    }

    /// The number whose turn it is.
    pub fn next(&self) -> Option<u64> {
        self.order.next()
    }

    /// Whether the content of a number is at hand.
    pub fn has(&self, number: u64) -> bool {
        self.kept.contains_key(&number)
    }

    /// Takes that whose turn it is, with its content if it is at hand.
    pub fn take(&mut self, hold: bool) -> Option<(Turn, Option<T>)> {
        let turn = self.order.take(hold)?;
        let content = self.kept.remove(&turn.number);
        Some((turn, content))
    }

    /// It need never be sent again.
    pub fn done(&mut self, turn: &Turn) {
        self.order.done(turn);
    }

    /// It must be sent again.
    pub fn back(&mut self, turn: &Turn) {
        self.order.back(turn);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { waiting: 6, kept: 2, span: 8, rows: 2, gapless: true };

    fn all(_: &u64) -> Option<(Severity, u64)> {
        Some((Severity::Major, 1))
    }

    fn rows(numbers: impl IntoIterator<Item = u64>) -> Vec<(u64, u64)> {
        numbers.into_iter().map(|number| (number, number)).collect()
    }

    #[test]
    fn it_reads_ahead_as_far_as_its_bounds_and_no_further() {
        let mut feed = Feed::new(BOUNDS, 0);
        let mut read = vec![];
        while let Some(after) = feed.wants(100) {
            feed.found(rows(after + 1..=after + 2), after + 2, all);
            read.push(after);
        }
        assert_eq!(read, [0, 2, 4]);
        assert_eq!((feed.cursor(), feed.undone(100)), (0, 100));

        // The first stays undone: what is done beyond it does not pile up.
        let mut feed = Feed::new(BOUNDS, 0);
        let different = |number: &u64| Some((Severity::Major, *number));
        let mut first = None;
        while let Some(after) = feed.wants(100) {
            feed.found(rows(after + 1..=after + 2), after + 2, different);
            while let Some((turn, _)) = feed.take(true) {
                if turn.number == 1 { first = Some(turn) } else { feed.done(&turn) }
            }
        }
        assert_eq!((feed.cursor(), feed.looked), (0, 8));
        feed.done(&first.unwrap());
        assert_eq!(feed.cursor(), 8);
        assert_eq!(feed.wants(100), Some(8));
    }

    #[test]
    fn what_was_pruned_is_counted() {
        let mut feed = Feed::new(BOUNDS, 3);
        assert_eq!(feed.found(rows([10, 11]), 11, all), 6);
        assert_eq!(feed.found(vec![], 20, all), 9, "all of it");
        let mut feed = Feed::new(Bounds { gapless: false, ..BOUNDS }, 3);
        assert_eq!(feed.found(rows([10, 11]), 20, all), 0);
        assert_eq!(feed.looked, 20);
    }

    #[test]
    fn what_is_not_for_the_target_is_done_at_once() {
        let mut feed = Feed::new(BOUNDS, 0);
        let odd = |number: &u64| (number % 2 == 1).then_some((Severity::Major, 1));
        feed.found(rows([1, 2]), 2, odd);
        let (turn, content) = feed.take(true).unwrap();
        assert_eq!((turn.number, content), (1, Some(1)));
        feed.done(&turn);
        assert_eq!((feed.cursor(), feed.next()), (2, None));
    }

    #[test]
    fn what_was_not_kept_is_read_again() {
        let mut feed = Feed::new(BOUNDS, 0);
        feed.found(rows([1, 2, 3]), 3, all);
        feed.take(false);
        feed.take(false);
        assert_eq!(feed.next(), Some(3));
        assert!(!feed.has(3));
        assert!(feed.found_again(3, rows([3, 4])));
        assert!(feed.has(3) && !feed.has(4));
        assert_eq!(feed.take(false).unwrap().1, Some(3));
    }
}
