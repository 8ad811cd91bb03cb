//! Which peers are admitted (PEER-5 to PEER-7): one machine, which gives out the places of the
//! monitor's table.
//!
//! A peer is *known* from the first update that names it to the first that does not; known peers
//! stand in the order in which they became known, and that order alone decides who is admitted.
//!
//! | what happens | what becomes of it |
//! |---|---|
//! | a new peer is named | it is admitted if fewer peers are than its group's limit (PEER-5, PEER-7), else it waits |
//! | a monitored peer is no longer named | it is removed, and the longest-known that waits and may is admitted |
//! | a limit is raised | those that wait and now may are admitted at once (PEER-6) |
//! | a limit is lowered | no monitored peer is dropped (PEER-6); new ones are held to the limit as it is now |
//! | a peer is disabled or enabled | it keeps its place (PEER-5) |
//! | another group names it first | it has that group's settings, and keeps its place (PEER-7) |

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    hash::BuildHasher,
    net::IpAddr,
    sync::Arc,
};

use foldhash::fast::FixedState;
use hashbrown::{HashTable, hash_table};

use super::{Change, Standing};
use crate::alarm::ClearReason;

/// No place, or no peer.
const NOBODY: u32 = u32::MAX;

/// Labels of a peer, sorted by name; peers from one place share them.
pub type Labels = Arc<[(String, String)]>;

/// A peer that a configuration or a file names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its address.
    pub address: IpAddr,
    /// Its group, as a place in the settings.
    pub group: u16,
    /// Whether it is asked.
    pub enabled: bool,
    /// Its labels.
    pub labels: Labels,
}

/// A peer that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// What is wanted of it.
    pub wanted: Wanted,
    /// Its place in the monitor's table; nothing if it is not admitted.
    pub place: Option<u32>,
}

/// All known peers.
///
/// The update walks everyone who is wanted and everyone who is known, and costs little for each: with
/// 128,000 wanted it takes some 4 ms of a core if nothing has changed, 10 ms with a hundred changes,
/// and 30 ms if all are new (release build, time of the thread).
#[derive(Clone, Debug, Default)]
pub struct Roster {
    /// In the order in which they became known.
    known: Vec<Known>,
    /// Address to position in `known`. It is asked, and never walked.
    index: HashTable<u32>,
    hasher: FixedState,
    /// Place to position in `known`; [`NOBODY`] where a place is free.
    places: Vec<u32>,
    /// The free places; the lowest is given out first, so that the table stays dense.
    free: BinaryHeap<Reverse<u32>>,
    /// Who is down by the alarms of an earlier run, and has not been admitted yet.
    down: BTreeSet<IpAddr>,
    /// Where peers stand that have not been admitted yet, as the mate knew it (PAIR-11).
    standings: BTreeMap<IpAddr, Standing>,
}

impl Roster {
    /// Nobody yet. `down` are the peers that alarms of an earlier run say are down.
    pub fn new(down: impl IntoIterator<Item = IpAddr>) -> Roster {
        Roster { down: down.into_iter().collect(), ..Roster::default() }
    }

    /// The same at a takeover, where the mate has told where some of the peers stand.
    #[must_use]
    pub fn with_standings(mut self, standings: BTreeMap<IpAddr, Standing>) -> Roster {
        self.standings = standings;
        self
    }

    /// Takes in who is wanted now, in the order of groups and of their lists, with each group's limit
    /// (a group without one admits nobody). Gives the changes for the monitor, in the order in which
    /// they are to be made, and at the first call the addresses of `down` that nobody wants, or that
    /// are not admitted, any more.
    ///
    /// Labels may change without a change for the monitor.
    pub fn update(&mut self, limits: &[u32], wanted: Vec<Wanted>) -> (Vec<Change>, Vec<IpAddr>) {
        let changes = self.update_in_part(limits, wanted);
        self.standings.clear();
        (changes, std::mem::take(&mut self.down).into_iter().collect())
    }

    /// The same while it is not known who else is wanted, as a file could never be read so far: those
    /// of `down` that nobody names wait for it, so that a restart with a broken file does not clear
    /// their alarms.
    pub fn update_in_part(&mut self, limits: &[u32], wanted: Vec<Wanted>) -> Vec<Change> {
        let mut sets = Vec::new();
        let seen = self.take_in(wanted, &mut sets);
        let mut changes = self.remove_unseen(&seen);
        changes.append(&mut sets);
        self.admit(limits, &mut changes);
        changes
    }

    /// Every known peer, in the order in which they became known.
    pub fn known(&self) -> impl Iterator<Item = &Known> + '_ {
        self.known.iter()
    }

    /// The peer at a place of the table.
    pub fn at(&self, place: u32) -> Option<&Known> {
        let position = *self.places.get(place as usize)?;
        self.known.get(position as usize)
    }

    /// How many are admitted.
    pub fn admitted(&self) -> u32 {
        // A place is a u32, and so is their number.
        (self.places.len() - self.free.len()) as u32
    }

    /// Makes the wanted known, and says who of the known was named. The first naming holds (PEER-7).
    fn take_in(&mut self, wanted: Vec<Wanted>, sets: &mut Vec<Change>) -> Vec<bool> {
        let mut seen = vec![false; self.known.len()];
        // Most lists are as they were, and then each stands behind the one before.
        let mut next = 0;
        for wanted in wanted {
            let Some(position) = self.position_or_new(&wanted, next) else {
                self.known.push(Known { wanted, place: None });
                seen.push(true);
                continue;
            };
            next = position + 1;
            if std::mem::replace(&mut seen[position], true) {
                continue;
            }
            let known = &mut self.known[position];
            let Wanted { group, enabled, .. } = wanted;
            let differs = known.wanted.group != group || known.wanted.enabled != enabled;
            if let (true, Some(place)) = (differs, known.place) {
                sets.push(Change::Set { place, group, enabled });
            }
            known.wanted = wanted;
        }
        seen
    }

    /// Where a peer stands, which is probably `likely`; one that is not known yet gets the position
    /// behind all others in the index.
    fn position_or_new(&mut self, wanted: &Wanted, likely: usize) -> Option<usize> {
        let Roster { known, index, hasher, .. } = self;
        if known.get(likely).is_some_and(|known| known.wanted.address == wanted.address) {
            return Some(likely);
        }
        let hash_of = |&position: &u32| hash(hasher, known[position as usize].wanted.address);
        let same = |&position: &u32| known[position as usize].wanted.address == wanted.address;
        match index.entry(hash(hasher, wanted.address), same, hash_of) {
            hash_table::Entry::Occupied(entry) => Some(*entry.get() as usize),
            hash_table::Entry::Vacant(entry) => {
                // Each takes more than 40 octets, so that 2^32 of them are not to be had.
                entry.insert(known.len() as u32);
                None
            }
        }
    }

    /// Forgets whoever was not named.
    fn remove_unseen(&mut self, seen: &[bool]) -> Vec<Change> {
        let mut changes = Vec::new();
        let Some(first) = seen.iter().position(|seen| !seen) else { return changes };
        for (known, _) in self.known.iter().zip(seen).filter(|(_, seen)| !**seen) {
            if let Some(place) = known.place {
                changes.push(Change::Remove { place, reason: ClearReason::Removed });
                self.places[place as usize] = NOBODY;
                self.free.push(Reverse(place));
            }
        }
        let mut seen = seen.iter();
        self.known.retain(|_| seen.next().is_none_or(|seen| *seen));
        // Whoever stood behind the first to go has moved up.
        for (position, known) in self.known.iter().enumerate().skip(first) {
            if let Some(place) = known.place {
                self.places[place as usize] = position as u32;
            }
        }
        self.index.clear();
        let Roster { known, index, hasher, .. } = self;
        for (position, one) in known.iter().enumerate() {
            index.insert_unique(hash(hasher, one.wanted.address), position as u32, |&other| {
                hash(hasher, known[other as usize].wanted.address)
            });
        }
        changes
    }

    /// Admits whoever waits and may, longest known first. One pass does: with each that is admitted
    /// those before it may only less.
    fn admit(&mut self, limits: &[u32], changes: &mut Vec<Change>) {
        let mut admitted = self.admitted();
        let most = limits.iter().copied().max().unwrap_or(0);
        for (position, known) in self.known.iter_mut().enumerate() {
            if admitted >= most {
                break;
            }
            let limit = limits.get(usize::from(known.wanted.group)).copied().unwrap_or(0);
            if known.place.is_some() || admitted >= limit {
                continue;
            }
            let place = match self.free.pop() {
                Some(Reverse(place)) => place,
                None => {
                    self.places.push(NOBODY);
                    self.places.len() as u32 - 1
                }
            };
            self.places[place as usize] = position as u32;
            known.place = Some(place);
            admitted += 1;
            let Wanted { address, group, enabled, .. } = known.wanted;
            let down = self.down.remove(&address);
            changes.push(Change::Add { place, address, group, enabled, down });
            if let Some(standing) = self.standings.remove(&address) {
                changes.push(Change::Restore { place, standing });
            }
        }
    }
}

/// The addresses come from whoever operates the agent, so that no seed need keep an outsider from
/// choosing those that collide.
fn hash(hasher: &FixedState, address: IpAddr) -> u64 {
    match address {
        IpAddr::V4(v4) => hasher.hash_one(v4.to_bits()),
        IpAddr::V6(v6) => hasher.hash_one(v6.to_bits()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn address(last: u8) -> IpAddr {
        match last % 2 {
            0 => IpAddr::from([192, 0, 2, last]),
            _ => IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(last)]),
        }
    }

    fn wanted(last: u8, group: u16) -> Wanted {
        Wanted { address: address(last), group, enabled: true, labels: Labels::default() }
    }

    fn group_of(group: u16, lasts: impl IntoIterator<Item = u8>) -> Vec<Wanted> {
        lasts.into_iter().map(|last| wanted(last, group)).collect()
    }

    fn add(place: u32, last: u8, group: u16) -> Change {
        Change::Add { place, address: address(last), group, enabled: true, down: false }
    }

    fn remove(place: u32) -> Change {
        Change::Remove { place, reason: ClearReason::Removed }
    }

    /// Who is known, with `*` behind those that are admitted.
    fn shown(roster: &Roster) -> String {
        let one = |known: &Known| {
            let last = match known.wanted.address {
                IpAddr::V4(v4) => u16::from(v4.octets()[3]),
                IpAddr::V6(v6) => v6.segments()[7],
            };
            format!("{last}{}", if known.place.is_some() { "*" } else { "" })
        };
        roster.known().map(one).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn peer_5_the_first_so_many_are_admitted_and_the_others_are_listed() {
        let mut roster = Roster::new([]);
        let (changes, _) = roster.update(&[3], group_of(0, [5, 1, 4, 2, 3]));
        assert_eq!(changes, [add(0, 5, 0), add(1, 1, 0), add(2, 4, 0)]);
        assert_eq!(shown(&roster), "5* 1* 4* 2 3");
        assert_eq!(roster.admitted(), 3);
        assert_eq!(roster.at(1).map(|known| known.wanted.address), Some(address(1)));
        assert_eq!(roster.at(3), None);
        // The order of a later file is not the order in which they became known.
        let (changes, _) = roster.update(&[3], group_of(0, [1, 2, 3, 4, 5]));
        assert_eq!(changes, []);
        assert_eq!(shown(&roster), "5* 1* 4* 2 3");
    }

    #[test]
    fn peer_5_who_leaves_makes_room_for_the_longest_known() {
        let mut roster = Roster::new([]);
        roster.update(&[3], group_of(0, [1, 2, 3, 4, 5]));
        let (changes, _) = roster.update(&[3], group_of(0, [9, 1, 3, 4, 5]));
        assert_eq!(changes, [remove(1), add(1, 4, 0)]);
        assert_eq!(shown(&roster), "1* 3* 4* 5 9");
        assert_eq!(roster.at(1).map(|known| known.wanted.address), Some(address(4)));
        // One that comes back is new, and at the end.
        roster.update(&[3], group_of(0, [9, 1, 2, 3, 4, 5]));
        assert_eq!(shown(&roster), "1* 3* 4* 5 9 2");
        let (changes, _) = roster.update(&[3], Vec::new());
        assert_eq!(changes, [remove(0), remove(2), remove(1)]);
        assert_eq!((shown(&roster).as_str(), roster.admitted()), ("", 0));
        // The lowest place is given out first.
        let (changes, _) = roster.update(&[3], group_of(0, [7]));
        assert_eq!(changes, [add(0, 7, 0)]);
    }

    #[test]
    fn peer_5_a_disabled_peer_keeps_its_place() {
        let mut roster = Roster::new([]);
        roster.update(&[2], group_of(0, [1, 2, 3]));
        let mut list = group_of(0, [1, 2, 3]);
        list[0].enabled = false;
        list[2].enabled = false;
        let (changes, _) = roster.update(&[2], list.clone());
        assert_eq!(changes, [Change::Set { place: 0, group: 0, enabled: false }]);
        assert_eq!(shown(&roster), "1* 2* 3");
        // It is admitted as what it is.
        let (changes, _) = roster.update(&[2], list.split_off(1));
        let three =
            Change::Add { place: 0, address: address(3), group: 0, enabled: false, down: false };
        assert_eq!(changes, [remove(0), three]);
    }

    #[test]
    fn peer_6_raising_admits_at_once_and_lowering_drops_nobody() {
        let mut roster = Roster::new([]);
        roster.update(&[2], group_of(0, 1..=6));
        let (changes, _) = roster.update(&[4], group_of(0, 1..=6));
        assert_eq!(changes, [add(2, 3, 0), add(3, 4, 0)]);
        let (changes, _) = roster.update(&[1], group_of(0, 1..=6));
        assert_eq!(changes, []);
        assert_eq!(shown(&roster), "1* 2* 3* 4* 5 6");
        // New ones are held to the limit as it is.
        let (changes, _) = roster.update(&[1], group_of(0, 2..=7));
        assert_eq!(changes, [remove(0)]);
        assert_eq!(shown(&roster), "2* 3* 4* 5 6 7");
    }

    #[test]
    fn peer_7_the_whole_count_is_held_to_the_limit_of_the_new_peers_group() {
        let mut roster = Roster::new([]);
        let list = || [group_of(0, [1, 2, 3]), group_of(1, [4, 5, 6])].concat();
        roster.update(&[2, 4], list());
        assert_eq!(shown(&roster), "1* 2* 3 4* 5* 6");
        // The count of both is not below the first one's limit, whoever of them left.
        let (changes, _) = roster.update(&[2, 4], list().split_off(1));
        assert_eq!(changes, [remove(0), add(0, 6, 1)]);
        assert_eq!(shown(&roster), "2* 3 4* 5* 6*");
    }

    #[test]
    fn peer_7_one_that_two_groups_name_has_the_first_ones_settings() {
        let mut roster = Roster::new([]);
        let list = || [group_of(0, [1, 2]), group_of(1, [2, 3, 3])].concat();
        let (changes, _) = roster.update(&[9, 9], list());
        assert_eq!(changes, [add(0, 1, 0), add(1, 2, 0), add(2, 3, 1)]);
        // The first group drops it, and the second one has it: it keeps its place.
        let (changes, _) = roster.update(&[9, 9], [group_of(0, [1]), group_of(1, [2, 3])].concat());
        assert_eq!(changes, [Change::Set { place: 1, group: 1, enabled: true }]);
        let (changes, _) = roster.update(&[9, 9], list());
        assert_eq!(changes, [Change::Set { place: 1, group: 0, enabled: true }]);
    }

    #[test]
    fn a_group_may_be_changed_while_another_leaves() {
        let mut roster = Roster::new([]);
        roster.update(&[9, 9], group_of(0, [1, 2, 3]));
        let (changes, _) = roster.update(&[9, 9], group_of(1, [3, 4]));
        let set = Change::Set { place: 2, group: 1, enabled: true };
        assert_eq!(changes, [remove(0), remove(1), set, add(0, 4, 1)]);
    }

    #[test]
    fn peer_13_labels_change_without_a_change_for_the_monitor() {
        let mut roster = Roster::new([]);
        roster.update(&[9], group_of(0, [1]));
        let labels = Labels::from([("site".to_owned(), "a".to_owned())]);
        let mut list = group_of(0, [1]);
        list[0].labels = Arc::clone(&labels);
        assert_eq!(roster.update(&[9], list).0, []);
        assert_eq!(roster.at(0).map(|known| &known.wanted.labels), Some(&labels));
    }

    #[test]
    fn who_was_down_before_is_down_still_and_who_is_gone_is_told_once() {
        let mut roster = Roster::new([1, 2, 3, 4].map(address));
        let (changes, gone) = roster.update(&[2], group_of(0, [1, 5, 2]));
        let down =
            Change::Add { place: 0, address: address(1), group: 0, enabled: true, down: true };
        assert_eq!(changes, [down, add(1, 5, 0)]);
        assert_eq!(gone, [2, 4, 3].map(address));
        // Whoever comes later is looked at anew.
        let (changes, gone) = roster.update(&[9], group_of(0, [1, 5, 2, 3]));
        assert_eq!((changes, gone), (vec![add(2, 2, 0), add(3, 3, 0)], vec![]));
    }

    #[test]
    fn pair_11_where_a_peer_stands_follows_its_admission_once() {
        let standing = Standing { restart_counter: Some(7), ..Standing::default() };
        let standings = [1, 2, 3].map(|last| (address(last), standing));
        let mut roster = Roster::new([address(1)]).with_standings(standings.into());
        let (changes, _) = roster.update(&[2], group_of(0, [1, 5, 2]));
        let down =
            Change::Add { place: 0, address: address(1), group: 0, enabled: true, down: true };
        assert_eq!(changes, [down, Change::Restore { place: 0, standing }, add(1, 5, 0)]);
        // Whoever comes later is looked at anew.
        assert_eq!(roster.update(&[9], group_of(0, [1, 5, 2])).0, [add(2, 2, 0)]);
    }

    #[test]
    fn who_was_down_before_waits_for_a_file_that_cannot_be_read() {
        let mut roster = Roster::new([1, 2, 3].map(address));
        roster.update_in_part(&[9], group_of(0, [1]));
        let (changes, gone) = roster.update(&[9], group_of(0, [1, 2]));
        let down =
            Change::Add { place: 1, address: address(2), group: 0, enabled: true, down: true };
        assert_eq!((changes, gone), (vec![down], vec![address(3)]));
    }

    /// What the rules say, without any index.
    #[derive(Default)]
    struct Naive {
        known: Vec<(Wanted, bool)>,
    }

    impl Naive {
        fn update(&mut self, limits: &[u32], wanted: &[Wanted]) {
            let first = |address| wanted.iter().find(|wanted| wanted.address == address);
            self.known.retain(|(known, _)| first(known.address).is_some());
            for (known, _) in &mut self.known {
                *known = first(known.address).unwrap().clone();
            }
            for one in wanted {
                if !self.known.iter().any(|(known, _)| known.address == one.address) {
                    self.known.push((one.clone(), false));
                }
            }
            for nth in 0..self.known.len() {
                let admitted = self.known.iter().filter(|(_, admitted)| *admitted).count();
                let (known, is_in) = &mut self.known[nth];
                *is_in |= admitted < limits[usize::from(known.group)] as usize;
            }
        }
    }

    /// The monitor's table, as the changes make it.
    #[derive(Default)]
    struct Table(std::collections::BTreeMap<u32, (IpAddr, u16, bool)>);

    impl Table {
        fn apply(&mut self, change: &Change) {
            match *change {
                Change::Add { place, address, group, enabled, .. } => {
                    assert_eq!(self.0.insert(place, (address, group, enabled)), None);
                }
                Change::Set { place, group, enabled } => {
                    let peer = self.0.get_mut(&place).unwrap();
                    assert_ne!((peer.1, peer.2), (group, enabled), "it changes nothing");
                    (peer.1, peer.2) = (group, enabled);
                }
                Change::Restore { place, .. } => assert!(self.0.contains_key(&place)),
                Change::Remove { place, .. } => assert!(self.0.remove(&place).is_some()),
            }
        }
    }

    proptest! {
        /// PEER-5 to PEER-7, whatever the files say one after the other.
        #[test]
        fn the_roster_does_what_the_rules_say(
            updates in prop::collection::vec(
                (
                    prop::array::uniform3(0u32..12),
                    prop::collection::vec((0u8..20, 0u16..3, any::<bool>()), 0..24),
                ),
                1..12,
            ),
        ) {
            let (mut roster, mut naive, mut table) =
                (Roster::new([]), Naive::default(), Table::default());
            let mut most = 0;
            for (limits, mut list) in updates {
                list.sort_by_key(|(_, group, _)| *group);
                let list: Vec<Wanted> = list
                    .into_iter()
                    .map(|(last, group, enabled)| Wanted { enabled, ..wanted(last, group) })
                    .collect();
                naive.update(&limits, &list);
                let (changes, gone) = roster.update(&limits, list);
                prop_assert!(gone.is_empty());
                changes.iter().for_each(|change| table.apply(change));
                let known: Vec<_> =
                    roster.known().map(|one| (one.wanted.clone(), one.place.is_some())).collect();
                prop_assert_eq!(&known, &naive.known);
                let admitted = known.iter().filter(|(_, admitted)| *admitted).count();
                prop_assert_eq!(roster.admitted() as usize, admitted);
                prop_assert_eq!(table.0.len(), admitted);
                most = most.max(admitted);
                for (place, (address, group, enabled)) in &table.0 {
                    prop_assert!((*place as usize) < most, "places are dense");
                    let known = roster.at(*place).unwrap();
                    prop_assert_eq!(known.place, Some(*place));
                    let Wanted { address: is, group: of, enabled: asked, .. } = known.wanted;
                    prop_assert_eq!((is, of, asked), (*address, *group, *enabled));
                }
                for free in 0..40 {
                    prop_assert!(roster.at(free).is_some() == table.0.contains_key(&free));
                }
            }
        }
    }
}
