//! Which of the notifications that wait goes next: the most severe, and those about one object in
//! the order in which they happened (TRAP-13, TRAP-11). No I/O, and no content: a number, a severity
//! and an object each.
//!
//! ```text
//!   object a:   12 minor ── 15 major          a chain for each object: its head may go, and counts as
//!   object b:   13 critical                   severe as the most severe in the chain, so that a minor
//!   object c:   14 major                      alarm never holds up a major one behind it
//!
//!   ready:      13 (critical), 12 (major, for 15), 14 (major), then 15
//! ```
//!
//! So no clear overtakes its raise, both being about one object, and what is about different objects
//! leaves by severity and, within one, in the order of the journal.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use evenkeel_core::alarm::Severity;

/// What waits and what is under way, by number.
#[derive(Debug, Default)]
pub struct Order {
    chains: BTreeMap<u64, Chain>,
    /// The heads that may go, the first of them next: the rank of the chain, the number of the head
    /// and the object.
    ready: BTreeSet<(Severity, u64, u64)>,
    /// All that is not done: what waits and what is under way.
    undone: BTreeSet<u64>,
}

/// What there is about one object.
#[derive(Debug, Default)]
struct Chain {
    /// What waits, in order.
    waiting: VecDeque<(u64, Severity)>,
    /// How many of each severity wait, the most severe first.
    of: [usize; 4],
    /// One is under way, and nothing else of the object may be.
    held: bool,
}

impl Chain {
    fn ready(&self, object: u64) -> Option<(Severity, u64, u64)> {
        const ALL: [Severity; 4] =
            [Severity::Critical, Severity::Major, Severity::Minor, Severity::Warning];
        let (number, _) = *self.waiting.front().filter(|_| !self.held)?;
        let rank = ALL.into_iter().find(|&severity| self.of[severity as usize] > 0)?;
        Some((rank, number, object))
    }
}

/// Something under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Its number.
    pub number: u64,
    /// How severe it is.
    pub severity: Severity,
    /// What it is about.
    pub object: u64,
    /// Nothing else about the object goes until it is done.
    pub held: bool,
}

impl Order {
    /// Adds what is to be sent. `object` stands for what it is about: two objects with the same
    /// number wait for each other without need, and nothing worse.
    pub fn push(&mut self, number: u64, severity: Severity, object: u64) {
        if self.undone.insert(number) {
            self.change(object, |chain| {
                let place = chain.waiting.partition_point(|&(other, _)| other < number);
                chain.waiting.insert(place, (number, severity));
                chain.of[severity as usize] += 1;
            });
        }
    }

    /// The number that goes next.
    pub fn next(&self) -> Option<u64> {
        self.ready.first().map(|&(_, number, _)| number)
    }

    /// Takes what goes next. With `hold`, nothing else about its object goes until it is
    /// [done](Order::done).
    pub fn take(&mut self, hold: bool) -> Option<Turn> {
        let &(_, number, object) = self.ready.first()?;
        let mut severity = Severity::Warning;
        self.change(object, |chain| {
            if let Some((_, of)) = chain.waiting.pop_front() {
                severity = of;
                chain.of[of as usize] -= 1;
            }
            chain.held = hold;
        });
        Some(Turn { number, severity, object, held: hold })
    }

    /// It need never be sent again.
    pub fn done(&mut self, turn: &Turn) {
        self.undone.remove(&turn.number);
        if turn.held {
            self.change(turn.object, |chain| chain.held = false);
        }
    }

    /// It must be sent again, before all that waits about its object.
    pub fn back(&mut self, turn: &Turn) {
        self.undone.remove(&turn.number);
        if turn.held {
            self.change(turn.object, |chain| chain.held = false);
        }
        self.push(turn.number, turn.severity, turn.object);
    }

    /// How much is not done.
    pub fn len(&self) -> usize {
        self.undone.len()
    }

    /// The lowest number that is not done.
    pub fn first_undone(&self) -> Option<u64> {
        self.undone.first().copied()
    }

    /// Whether a number waits or is under way.
    pub fn has(&self, number: u64) -> bool {
        self.undone.contains(&number)
    }

    /// Changes a chain, and keeps what is ready in step with it.
    fn change(&mut self, object: u64, change: impl FnOnce(&mut Chain)) {
        let chain = self.chains.entry(object).or_default();
        if let Some(before) = chain.ready(object) {
            self.ready.remove(&before);
        }
        change(chain);
        self.ready.extend(chain.ready(object));
        if chain.waiting.is_empty() && !chain.held {
            self.chains.remove(&object);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SEVERITIES: [Severity; 4] =
        [Severity::Critical, Severity::Major, Severity::Minor, Severity::Warning];

    /// The picture above.
    #[test]
    fn trap_13_the_most_severe_goes_first_and_one_object_keeps_its_order() {
        let mut order = Order::default();
        order.push(12, Severity::Minor, 1);
        order.push(13, Severity::Critical, 2);
        order.push(14, Severity::Major, 3);
        order.push(15, Severity::Major, 1);
        let left: Vec<u64> =
            std::iter::from_fn(|| order.take(false)).map(|turn| turn.number).collect();
        assert_eq!(left, [13, 12, 14, 15]);
        assert_eq!(order.len(), 4, "sent, but not done");
    }

    #[test]
    fn trap_11_nothing_about_an_object_goes_while_something_about_it_is_under_way() {
        let mut order = Order::default();
        order.push(1, Severity::Critical, 1);
        order.push(2, Severity::Critical, 1);
        order.push(3, Severity::Warning, 2);
        let first = order.take(true).unwrap();
        assert_eq!(order.next(), Some(3), "others go on");
        order.take(true);
        assert_eq!(order.next(), None);
        order.done(&first);
        assert_eq!(order.next(), Some(2));
        assert_eq!(order.first_undone(), Some(2));
    }

    #[test]
    fn what_is_put_back_goes_before_what_came_after_it() {
        let mut order = Order::default();
        for number in 1..=4 {
            order.push(number, Severity::Major, 7);
        }
        let turns: Vec<Turn> = std::iter::from_fn(|| order.take(false)).take(3).collect();
        // In any order.
        for turn in [turns[1], turns[2], turns[0]] {
            order.back(&turn);
        }
        let left: Vec<u64> =
            std::iter::from_fn(|| order.take(false)).map(|turn| turn.number).collect();
        assert_eq!(left, [1, 2, 3, 4]);
    }

    proptest! {
        /// Whatever waits, and whenever what is under way ends: each leaves exactly once, those of
        /// one object in order and never two at once, and nothing goes while something more severe
        /// could.
        #[test]
        fn trap_13_severity_and_order_hold_for_any_storm(
            rows in prop::collection::vec((0usize..4, 0u64..8), 1..80),
            ends in prop::collection::vec(any::<prop::sample::Index>(), 80..160),
        ) {
            let mut order = Order::default();
            for (number, &(severity, object)) in (1u64..).zip(&rows) {
                order.push(number, SEVERITIES[severity], object);
            }
            let severity = |number: u64| SEVERITIES[rows[number as usize - 1].0];
            let object = |number: u64| rows[number as usize - 1].1;
            let (mut under_way, mut left): (Vec<Turn>, Vec<u64>) = (vec![], vec![]);
            let mut ends = ends.into_iter();
            while left.len() < rows.len() {
                if let Some(turn) = order.take(true) {
                    prop_assert!(under_way.iter().all(|other| other.object != turn.object));
                    let behind = |number: u64| (number..=rows.len() as u64)
                        .filter(|&other| object(other) == object(number)).map(severity).min();
                    for other in 1..=rows.len() as u64 {
                        let head = !left.contains(&other) && other != turn.number
                            && (1..other).all(|before| object(before) != object(other) || left.contains(&before))
                            && under_way.iter().all(|busy| busy.object != object(other));
                        prop_assert!(!head || behind(turn.number) <= behind(other));
                    }
                    left.push(turn.number);
                    under_way.push(turn);
                    continue;
                }
                let ended = under_way.remove(ends.next().unwrap().index(under_way.len()));
                order.done(&ended);
            }
            under_way.iter().for_each(|turn| order.done(turn));
            prop_assert_eq!(order.len(), 0);
            prop_assert!(order.chains.is_empty() && order.ready.is_empty());
            for number in 1..rows.len() {
                for after in number + 1..=rows.len() {
                    let place = |n: usize| left.iter().position(|&other| other == n as u64);
                    prop_assert!(
                        object(number as u64) != object(after as u64) || place(number) < place(after)
                    );
                }
            }
        }
    }
}
