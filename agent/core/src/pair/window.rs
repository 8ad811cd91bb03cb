//! Which of the mate's heartbeats came before on one way: a replay window as that of RFC 4303,
//! section 3.4.3, over 64 numbers.
//!
//! A heartbeat that comes late is used for what it says; that the mate is heard is told by the newest
//! alone, so a late one never counts as two (PAIR-8).

/// What a number is to a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Higher than all before.
    Newest,
    /// The first time, after a higher one.
    Late,
    /// It came before: a copy, or a replay.
    Seen,
    /// So far behind the newest that nobody remembers whether it came before.
    TooOld,
}

/// The numbers that came on one way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Window {
    newest: u64,
    /// Bit *n*: the number `newest - n` has come. Nothing has as long as it is zero.
    seen: u64,
}

impl Window {
    /// Takes in a number, and says what it is.
    pub const fn see(&mut self, number: u64) -> Place {
        if self.seen == 0 || number > self.newest {
            let ahead = number - self.newest;
            let kept = if self.seen == 0 || ahead >= 64 { 0 } else { self.seen << ahead };
            (self.newest, self.seen) = (number, kept | 1);
            return Place::Newest;
        }
        let behind = self.newest - number;
        if behind >= 64 {
            return Place::TooOld;
        }
        if self.seen >> behind & 1 == 1 {
            return Place::Seen;
        }
        self.seen |= 1 << behind;
        Place::Late
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pair_8_late_numbers_are_known_and_copies_too() {
        let mut window = Window::default();
        for (number, place) in [
            (7, Place::Newest),
            (7, Place::Seen),
            (9, Place::Newest),
            (8, Place::Late),
            (8, Place::Seen),
            (0, Place::Late),
            (72, Place::Newest),
            (9, Place::Seen),
            (8, Place::TooOld),
            (10, Place::Late),
            (u64::MAX, Place::Newest),
            (72, Place::TooOld),
            (u64::MAX, Place::Seen),
        ] {
            assert_eq!(window.see(number), place, "{number}");
        }
    }

    proptest! {
        /// Whatever comes in whatever order, no number is taken in twice, and none that is new and not
        /// too old is refused.
        #[test]
        fn pair_8_no_number_counts_twice(numbers in proptest::collection::vec(0..200u64, 0..300)) {
            let mut window = Window::default();
            let mut seen = BTreeSet::new();
            for number in numbers {
                let newest = seen.last().copied();
                let right = match newest {
                    None => Place::Newest,
                    Some(newest) if number > newest => Place::Newest,
                    Some(newest) if newest - number >= 64 => Place::TooOld,
                    Some(_) if seen.contains(&number) => Place::Seen,
                    Some(_) => Place::Late,
                };
                prop_assert_eq!(window.see(number), right);
                seen.insert(number);
            }
        }
    }
}
