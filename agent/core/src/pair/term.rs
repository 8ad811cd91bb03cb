//! Who was primary when, without a clock: terms (PAIR-2).

use serde::{Deserialize, Serialize};

/// One of the two places in a pair. Which agent has which is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Slot {
    /// Slot 0, preferred where nothing else tells.
    Zero,
    /// Slot 1.
    One,
}

impl Slot {
    /// The mate's.
    pub const fn other(self) -> Slot {
        match self {
            Slot::Zero => Slot::One,
            Slot::One => Slot::Zero,
        }
    }
}

/// The time for which one agent is primary: a number, and the agent that began it and is its primary.
///
/// No term is ever used twice: its number exceeds every number that the agent knows of, and it is on
/// the agent's disk before anyone is told of it. Two agents that can't hear each other may begin terms
/// of one number, which their slots tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Term {
    /// Grows with each term.
    pub number: u64,
    /// Whose it is.
    pub by: Slot,
}

impl Term {
    /// The term that `by` begins when the highest that it knows of is `known`.
    pub fn after(known: Option<Term>, by: Slot) -> Term {
        Term { number: number(known) + 1, by }
    }
}

/// Its number; 0 before the first.
pub fn number(term: Option<Term>) -> u64 {
    term.map_or(0, |term| term.number)
}

/// The higher of two terms by number. At equal numbers it is the one that was known before, `known`.
pub fn higher(known: Option<Term>, other: Option<Term>) -> Option<Term> {
    if number(other) > number(known) { other } else { known }
}

/// Which agent is preferred where terms don't tell: by priority, then by slot (PAIR-2).
pub const fn preferred(a: (u8, Slot), b: (u8, Slot)) -> Slot {
    if a.0 != b.0 {
        return if a.0 > b.0 { a.1 } else { b.1 };
    }
    Slot::Zero
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pair_2_terms_grow_and_are_told_apart() {
        let first = Term::after(None, Slot::One);
        assert_eq!(first, Term { number: 1, by: Slot::One });
        let second = Term::after(Some(first), Slot::Zero);
        assert_eq!(second.number, 2);
        assert_ne!(Term::after(Some(first), Slot::One), second);
        assert_eq!(higher(Some(first), Some(second)), Some(second));
        assert_eq!(higher(Some(second), Some(first)), Some(second));
        assert_eq!(higher(None, Some(first)), Some(first));
    }

    #[test]
    fn pair_2_priority_and_then_slot_0() {
        let (zero, one) = (Slot::Zero, Slot::One);
        for (a, b, right) in [(5, 5, zero), (5, 6, one), (6, 5, zero)] {
            assert_eq!(preferred((a, zero), (b, one)), right);
            assert_eq!(preferred((b, one), (a, zero)), right, "whoever asks");
        }
    }
}
