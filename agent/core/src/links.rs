//! Whether a link is unstable, by its two ends (INST-14).
//!
//! ```text
//!              an end becomes unstable              the other end does, too
//!   Stable ──────────────────────────────> One end ───────────────────────> Both ends
//!     ^                                     │   ^                              │
//!     └─────────────────────────────────────┘   └──────────────────────────────┘
//!              it is stable again                   either is stable again
//! ```
//!
//! The one alarm of the link is raised on the way out of *Stable* and cleared on the way back, so it
//! may outlast several episodes of either end. What those that are over add to its numbers is kept
//! here, until the clear has told it.
//!
//! Nothing here is asked for a trap of an interface that is no end: that it is none is noted at its
//! place in the table of objects.

use std::{
    collections::BTreeMap,
    hash::BuildHasher,
    num::{NonZero, NonZeroU32},
};

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use crate::{
    alarm::{Interface, Link},
    objects::bits,
    settings::Topology,
    state::RecordKey,
    time::Time,
};

/// An end of a link: its place among all ends, from 1 on, those of one link side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct End(NonZeroU32);

impl End {
    fn new(link: usize, side: usize) -> Option<End> {
        u32::try_from(2 * link + side + 1).ok().and_then(NonZero::new).map(End)
    }

    const fn link(self) -> usize {
        (self.0.get() as usize - 1) / 2
    }

    const fn side(self) -> usize {
        (self.0.get() as usize - 1) % 2
    }
}

/// What episodes that are over add to the numbers of an alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// The oldest of their traps.
    pub first: Time,
    /// The latest.
    pub last: Time,
    /// Counted traps.
    pub traps: u64,
    /// Traps that were not forwarded (TRAP-8).
    pub suppressed: u64,
}

impl Share {
    /// Both together, if there are two.
    pub fn sum(one: Option<Share>, other: Option<Share>) -> Option<Share> {
        let (Some(one), Some(other)) = (one, other) else { return one.or(other) };
        Some(Share {
            first: one.first.min(other.first),
            last: one.last.max(other.last),
            traps: one.traps.saturating_add(other.traps),
            suppressed: one.suppressed.saturating_add(other.suppressed),
        })
    }
}

/// A link and which of its ends are unstable.
#[derive(Clone, Copy, Debug)]
struct Joined {
    link: Link,
    unstable: [bool; 2],
}

/// The links of a topology.
#[derive(Debug)]
pub struct Links {
    links: Vec<Joined>,
    /// Every end, by its interface.
    index: HashTable<End>,
    hasher: FixedState,
    /// Of ends of unstable links.
    shares: BTreeMap<End, Share>,
}

impl Links {
    /// These links, all stable. `seed` keeps outsiders from choosing interfaces that collide.
    pub fn new(topology: &Topology, seed: u64) -> Links {
        let links = topology.links();
        let links = links.iter().map(|&link| Joined { link, unstable: [false; 2] }).collect();
        let mut links = Links {
            links,
            index: HashTable::with_capacity(2 * topology.links().len()),
            hasher: FixedState::with_seed(seed),
            shares: BTreeMap::new(),
        };
        for link in 0..links.links.len() {
            for end in [End::new(link, 0), End::new(link, 1)].into_iter().flatten() {
                let (links, index, hasher) = (&links.links, &mut links.index, &links.hasher);
                let hash = |&end: &End| hash_of(hasher, interface_at(links, end).into());
                index.insert_unique(hash(&end), end, hash);
            }
        }
        links
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.links.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.links.is_empty()
    }

    /// The end that an interface is, if it is one. No system is.
    pub fn end_of(&self, key: RecordKey) -> Option<End> {
        if self.links.is_empty() {
            return None;
        }
        let is_it = |&end: &End| RecordKey::from(self.interface(end)) == key;
        self.index.find(hash_of(&self.hasher, key), is_it).copied()
    }

    /// Whether this link is among them.
    pub fn contains(&self, link: Link) -> bool {
        self.end_of(link.ends()[0].into()).is_some_and(|end| self.link(end) == link)
    }

    /// The link of an end.
    pub fn link(&self, end: End) -> Link {
        self.links[end.link()].link
    }

    /// The interface that an end is.
    pub fn interface(&self, end: End) -> Interface {
        interface_at(&self.links, end)
    }

    /// The interface at the other end of its link.
    pub fn other(&self, end: End) -> Interface {
        self.link(end).ends()[1 - end.side()]
    }

    /// Whether its link is unstable.
    pub fn is_unstable(&self, end: End) -> bool {
        self.links[end.link()].unstable != [false; 2]
    }

    /// Notes that an end has become unstable, and says whether its link has become so by that.
    pub fn begin(&mut self, end: End) -> bool {
        let began = !self.is_unstable(end);
        self.links[end.link()].unstable[end.side()] = true;
        began
    }

    /// Notes that an end is stable again, and what its episode adds. If its link is stable by that,
    /// returns what all episodes since it became unstable come to.
    pub fn finish(&mut self, end: End, share: Share) -> Option<Share> {
        self.links[end.link()].unstable[end.side()] = false;
        self.add(end, share);
        if self.is_unstable(end) {
            return None;
        }
        let [one, other] = [0, 1].map(|side| {
            let end = End::new(end.link(), side)?;
            self.shares.remove(&end)
        });
        Share::sum(one, other)
    }

    /// What episodes of an end that are over add to the alarm of its link.
    pub fn share(&self, end: End) -> Option<Share> {
        self.shares.get(&end).copied()
    }

    /// Adds to that.
    pub fn add(&mut self, end: End, share: Share) {
        let sum = Share::sum(self.share(end), Some(share));
        self.shares.extend(sum.map(|sum| (end, sum)));
    }

    /// Takes over what `before` kept, for the links that are in both and unstable still.
    pub fn take_over(&mut self, before: &Links) {
        for (&end, &share) in &before.shares {
            if let Some(here) = self.end_of(before.interface(end).into())
                && self.link(here) == before.link(end)
                && self.is_unstable(here)
            {
                self.shares.insert(here, share);
            }
        }
    }
}

fn interface_at(links: &[Joined], end: End) -> Interface {
    links[end.link()].link.ends()[end.side()]
}

fn hash_of(hasher: &FixedState, RecordKey { system, if_index }: RecordKey) -> u64 {
    hasher.hash_one((bits(system.0), if_index))
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::alarm::System;

    fn interface(system: u8, if_index: u32) -> Interface {
        Interface { system: System(IpAddr::from([10, 0, 0, system])), if_index }
    }

    fn link(one: (u8, u32), other: (u8, u32)) -> Link {
        Link::new(interface(one.0, one.1), interface(other.0, other.1)).unwrap()
    }

    fn links(links: &[Link]) -> Links {
        Links::new(&Topology::new(links.to_vec()).unwrap(), 7)
    }

    fn share(first: u64, last: u64, traps: u64, suppressed: u64) -> Share {
        Share { first: Time::from_secs(first), last: Time::from_secs(last), traps, suppressed }
    }

    #[test]
    fn inst_14_it_is_unstable_from_the_first_end_that_is_to_the_last() {
        let mut links = links(&[link((1, 3), (2, 7)), link((1, 4), (2, 8))]);
        let (one, other) = (
            links.end_of(interface(1, 3).into()).unwrap(),
            links.end_of(interface(2, 7).into()).unwrap(),
        );
        assert!(links.begin(one));
        assert!(!links.begin(other), "it is so already");
        assert!(links.is_unstable(one) && links.is_unstable(other));
        assert_eq!(links.finish(one, share(0, 10, 3, 1)), None);
        assert!(!links.begin(one), "another episode of one end, while the other goes on");
        assert_eq!(links.finish(one, share(20, 30, 4, 0)), None);
        assert_eq!(links.share(one), Some(share(0, 30, 7, 1)));
        // Both ends are counted together.
        assert_eq!(links.finish(other, share(5, 25, 10, 2)), Some(share(0, 30, 17, 3)));
        assert!(!links.is_unstable(one));
        assert_eq!((links.share(one), links.share(other)), (None, None), "nothing is left of it");
        assert!(links.begin(other));
        assert_eq!(links.finish(other, share(90, 95, 2, 0)), Some(share(90, 95, 2, 0)));
        assert!(
            !links.is_unstable(links.end_of(interface(1, 4).into()).unwrap()),
            "another link is not meant"
        );
    }

    #[test]
    fn an_interface_is_found_as_the_end_that_it_is() {
        let all: Vec<Link> =
            (0..1000).map(|nth| link((1, 2 * nth + 1), (2, 2 * nth + 2))).collect();
        let links = links(&all);
        for nth in 0..1000 {
            let end = links.end_of(interface(2, 2 * nth + 2).into()).unwrap();
            assert_eq!(links.link(end), all[nth as usize]);
            assert_eq!(links.other(end), interface(1, 2 * nth + 1));
            assert_eq!(links.interface(end), interface(2, 2 * nth + 2));
            assert_eq!(links.end_of(interface(1, 2 * nth + 2).into()), None);
        }
        assert!(links.contains(all[5]) && !links.contains(link((1, 1), (2, 4))));
        let system = RecordKey { system: interface(1, 1).system, if_index: 0 };
        assert_eq!(links.end_of(system), None);
        assert_eq!(Links::new(&Topology::default(), 1).end_of(interface(1, 1).into()), None);
    }

    #[test]
    fn inst_15_what_was_kept_goes_over_to_the_same_link_and_to_no_other() {
        let mut before = links(&[link((1, 3), (2, 7)), link((1, 4), (2, 8)), link((1, 5), (2, 9))]);
        for if_index in [3, 4, 5] {
            let end = before.end_of(interface(1, if_index).into()).unwrap();
            before.begin(before.end_of(before.other(end).into()).unwrap());
            before.begin(end);
            before.finish(end, share(0, 10, 3, 1));
        }
        let mut after = links(&[
            link((0, 1), (0, 2)),
            link((1, 3), (2, 7)),
            link((1, 4), (9, 9)),
            link((1, 5), (2, 9)),
        ]);
        after.begin(after.end_of(interface(2, 7).into()).unwrap());
        after.begin(after.end_of(interface(1, 4).into()).unwrap());
        after.take_over(&before);
        let kept = |end: Interface| after.share(after.end_of(end.into()).unwrap());
        assert_eq!(kept(interface(1, 3)), Some(share(0, 10, 3, 1)));
        assert_eq!(kept(interface(1, 4)), None, "it leads elsewhere now");
        assert_eq!(kept(interface(1, 5)), None, "it is stable now");
    }
}
