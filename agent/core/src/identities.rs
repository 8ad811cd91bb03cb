//! What alarms are called: identities that two agents come to alike, and that none gives twice.
//!
//! Two agents of a pair that can't hear each other go on, both, and an NMS must see that what they tell
//! is one alarm (PAIR-18). So an identity is a hash over what both see of the same condition: the
//! object, the kind, the trap that began it (or nothing, where no trap did), and when that was, to four
//! hours, as two hosts' clocks differ. What would come out the same again, as an object has a second
//! alarm within these hours, is told apart by a number that goes up while the identity is among the last
//! that were given. Those are in the journal, which both agents have.

use std::collections::{BTreeSet, VecDeque};

use crate::{
    alarm::{AlarmId, Kind, Object},
    time::WallTime,
};

/// How many of the last identities are not given again. More alarms than this within the four hours of
/// one object's two, neither of which began with a trap, could make them one; an NMS takes them for the
/// same alarm once more then.
pub const KEPT: usize = 16_384;

/// To what the moment of a raise is rounded down: more than two clocks that anyone looks after differ,
/// so that only an alarm at the very end of such a period may be called otherwise by the two.
const PERIOD_MS: i64 = 4 * 3600 * 1000;

/// The last identities that were given, whoever gave them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identities {
    order: VecDeque<AlarmId>,
    known: BTreeSet<AlarmId>,
}

/// What an identity is made of.
#[derive(Clone, Copy, Debug)]
pub struct Of<'a> {
    /// The agent, of what is local to one of a pair.
    pub agent: Option<&'a str>,
    /// What went wrong.
    pub kind: Kind,
    /// With what.
    pub object: &'a Object,
    /// See [`Finding::essence`](crate::finding::Finding::essence).
    pub essence: u64,
    /// When.
    pub raised_at: WallTime,
}

impl Identities {
    /// The identity of a new alarm.
    pub fn give(&mut self, of: &Of<'_>) -> AlarmId {
        let Of { agent, kind, object, essence, raised_at } = of;
        let agent = agent.unwrap_or_default();
        let period = raised_at.0.div_euclid(PERIOD_MS);
        let what = format!("{agent}\n{kind} {object} {essence:x} {period}");
        let mut bump = 0_u32;
        loop {
            let id = AlarmId(hash(&format!("{what} {bump}")));
            if self.note(id) {
                return id;
            }
            bump += 1;
        }
    }

    /// Remembers one that was given here, or by another agent or run; says whether it was not known.
    pub fn note(&mut self, id: AlarmId) -> bool {
        if !self.known.insert(id) {
            return false;
        }
        self.order.push_back(id);
        if self.order.len() > KEPT
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }

    /// All that are remembered, the oldest first.
    pub fn all(&self) -> impl Iterator<Item = AlarmId> {
        self.order.iter().copied()
    }
}

/// FNV-1a: the same on every host and in every version.
pub fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, octet| {
        (hash ^ u64::from(octet)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    fn of<'a>(agent: Option<&'a str>, object: &'a Object, essence: u64, at: i64) -> Of<'a> {
        Of { agent, kind: Kind::SubnetDown, object, essence, raised_at: WallTime(at) }
    }

    #[test]
    fn pair_18_two_agents_call_the_same_condition_alike() {
        let object = Object::Subnet("192.0.2.0/24".parse().unwrap());
        let (mut here, mut there) = (Identities::default(), Identities::default());
        let one = here.give(&of(None, &object, 7, 8 * HOUR + 100));
        assert_eq!(there.give(&of(None, &object, 7, 9 * HOUR)), one, "clocks differ");
        let second = here.give(&of(None, &object, 7, 8 * HOUR + 200));
        assert_ne!(second, one);
        assert_eq!(there.give(&of(None, &object, 7, 9 * HOUR)), second);
        for other in [
            of(None, &object, 8, 8 * HOUR),
            of(Some("b"), &object, 7, 8 * HOUR),
            of(None, &object, 7, 12 * HOUR),
        ] {
            assert_ne!(Identities::default().give(&other), one, "{other:?}");
        }
    }

    #[test]
    fn what_another_run_has_given_is_not_given_again() {
        let object = Object::Pair;
        let given = Identities::default().give(&of(None, &object, 0, 0));
        let mut later = Identities::default();
        assert!(later.note(given));
        assert!(!later.note(given));
        assert_ne!(later.give(&of(None, &object, 0, 0)), given);
        assert_eq!(later.all().count(), 2);
    }

    #[test]
    fn the_memory_is_bounded_and_the_oldest_gives_way() {
        let mut identities = Identities::default();
        for id in 0..=KEPT as u64 {
            assert!(identities.note(AlarmId(id)));
        }
        assert_eq!(identities.all().count(), KEPT);
        assert!(identities.note(AlarmId(0)), "it was forgotten");
        assert!(!identities.note(AlarmId(2)));
    }
}
