//! Which counters came already under a key: the highest one and the 1024 up to it, as in RFC 4303,
//! 3.4.3. Eight paths at two heartbeats a second fill that in a minute, and no datagram is in the
//! network for so long.

/// How many counters up to the highest are told apart.
pub const WIDTH: u64 = 1024;

const WORDS: usize = 16;

/// The window of one key.
#[derive(Debug, Default)]
pub struct Replay {
    /// One more than the highest counter that came; 0 before the first.
    end: u64,
    /// A bit for each of the last counters, by its number modulo [`WIDTH`].
    seen: [u64; WORDS],
}

impl Replay {
    /// Takes in a counter. Returns whether it is new.
    pub fn see(&mut self, counter: u64) -> bool {
        // The last number is never used, so that there always is one more.
        let Some(end) = counter.checked_add(1) else { return false };
        if end > self.end {
            let fresh = (end - self.end).min(WIDTH);
            for nth in end - fresh..end {
                self.clear(nth);
            }
            self.end = end;
        } else if self.end - counter > WIDTH || self.has(counter) {
            return false;
        }
        let (word, bit) = place(counter);
        self.seen[word] |= bit;
        true
    }

    fn has(&self, counter: u64) -> bool {
        let (word, bit) = place(counter);
        self.seen[word] & bit != 0
    }

    fn clear(&mut self, counter: u64) {
        let (word, bit) = place(counter);
        self.seen[word] &= !bit;
    }
}

fn place(counter: u64) -> (usize, u64) {
    let place = counter % WIDTH;
    // Less than 1024, so that it fits everywhere.
    (place as usize / 64, 1 << (place % 64))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pair_8_late_is_taken_and_twice_is_not() {
        let mut window = Replay::default();
        for (counter, new) in [
            (0, true),
            (0, false),
            (5, true),
            (3, true),
            (3, false),
            (1028, true),
            (5, false),
            (4, false),
            (6, true),
            (u64::MAX, false),
            (u64::MAX - 1, true),
            (1028, false),
        ] {
            assert_eq!(window.see(counter), new, "{counter}");
        }
    }

    proptest! {
        #[test]
        fn pair_8_no_counter_is_taken_twice(counters in prop::collection::vec(0u64..5000, 1..2000)) {
            let mut window = Replay::default();
            let mut taken = BTreeSet::new();
            let mut highest = 0;
            for counter in counters {
                highest = highest.max(counter);
                let new = window.see(counter);
                let first = taken.insert(counter);
                prop_assert_eq!(new, first && highest - counter < WIDTH);
            }
        }
    }
}
