//! Who becomes primary when neither is (PAIR-2).
//!
//! Both agents ask this of the same facts, each its own and what the other said last, and only the one
//! that is named acts. If what they know differs for a moment, both may begin a term; then neither
//! speaks before the other follows it, and the one with the lower term steps back.

use super::term::{Slot, Term, higher, preferred};

/// An agent that is not primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its slot.
    pub slot: Slot,
    /// Its priority.
    pub priority: u8,
    /// It has just been started; else it is standby.
    pub undecided: bool,
    /// It may be primary.
    pub fit: bool,
    /// It would take over by itself.
    pub able: bool,
    /// The highest term that it knows of.
    pub known: Option<Term>,
}

/// Who becomes primary, if either may.
///
/// | the last primary is | the other is | who |
/// |---|---|---|
/// | unfit | fit | the other |
/// | standby: it had stepped back | anything | the last primary |
/// | just started | standby and able | the other: it has been running, with the state (PAIR-10) |
/// | just started | standby and not able | the last primary |
/// | just started | just started | the last primary |
/// | unknown | | the one with the higher priority |
///
/// Where both know of a last term of one number, but not of the same, each has stepped back for the
/// other, and both were the last primary. It is the one that is able if only one is, as the other may
/// not hear it; else the one with the higher priority.
pub fn elect(one: Candidate, other: Candidate) -> Option<Slot> {
    match (one.fit, other.fit) {
        (false, false) => return None,
        (true, false) => return Some(one.slot),
        (false, true) => return Some(other.slot),
        (true, true) => {}
    }
    let by_priority = preferred((one.priority, one.slot), (other.priority, other.slot));
    let last = match (one.known, other.known) {
        (None, None) => return Some(by_priority),
        (known, told) if stepped_back_for_each_other(known, told) => {
            return Some(match (one.able, other.able) {
                (true, false) => one.slot,
                (false, true) => other.slot,
                (true, true) | (false, false) => by_priority,
            });
        }
        (known, told) => higher(known, told).map_or(by_priority, |term| term.by),
    };
    let (last, standby) = if last == one.slot { (one, other) } else { (other, one) };
    let takes_over = last.undecided && !standby.undecided && standby.able;
    Some(if takes_over { standby.slot } else { last.slot })
}

/// Whether two agents that know of these terms were both primary in the last one.
pub fn stepped_back_for_each_other(one: Option<Term>, other: Option<Term>) -> bool {
    matches!((one, other), (Some(a), Some(b)) if a.number == b.number && a.by != b.by)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pair_2_every_row_of_the_table_whoever_asks() {
        let term = Some(Term { number: 5, by: Slot::One });
        let last = Candidate {
            slot: Slot::One,
            priority: 0,
            undecided: true,
            fit: true,
            able: false,
            known: term,
        };
        let standby = Candidate {
            slot: Slot::Zero,
            priority: 0,
            undecided: false,
            fit: true,
            able: true,
            known: None,
        };
        let stepped_back = Candidate { undecided: false, ..last };
        let started = Candidate { undecided: true, ..standby };
        let unable = Candidate { able: false, ..standby };
        let unfit = |candidate| Candidate { fit: false, ..candidate };
        let new = |candidate| Candidate { known: None, ..candidate };
        let mine = Some(Term { number: 5, by: Slot::Zero });
        let too = |candidate| Candidate { known: mine, ..candidate };
        let (zero, one) = (Some(Slot::Zero), Some(Slot::One));
        for (last, other, right) in [
            (unfit(last), started, zero),
            (unfit(last), unfit(started), None),
            (stepped_back, standby, one),
            (stepped_back, started, one),
            (stepped_back, unfit(standby), one),
            (last, standby, zero),
            (last, unable, one),
            (last, started, one),
            (new(last), started, zero),
            (Candidate { priority: 1, ..new(last) }, started, one),
            (Candidate { able: true, ..stepped_back }, too(standby), zero),
            (Candidate { able: true, priority: 1, ..stepped_back }, too(standby), one),
            (Candidate { priority: 1, ..stepped_back }, too(unable), one),
            (Candidate { priority: 1, ..stepped_back }, too(standby), zero),
            (Candidate { able: true, ..stepped_back }, too(unable), one),
        ] {
            assert_eq!(elect(last, other), right, "{last:?} {other:?}");
            assert_eq!(elect(other, last), right, "{other:?} {last:?}");
        }
    }
}
