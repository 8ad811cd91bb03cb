//! The subnets that have a standby interface: what the polls and the kernel say goes to their machines
//! ([`standby`](crate::standby)), and what those want moved comes out (SUBN-8).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ipnet::IpNet;

use super::Subnets;
use crate::{
    finding::Finding,
    input::{Event, Move},
    settings::Interfaces,
    standby::{NotEnabled, Part, Place, Seen, Standby},
    state::StandbyRecord,
    time::Time,
};

/// One subnet's pair of interfaces, and the addresses that it is about.
#[derive(Debug)]
pub struct Pair {
    /// The machine.
    pub(super) standby: Standby,
    /// The subnet's addresses, sorted, as they were before a move that is under way.
    addresses: Vec<IpNet>,
    pub(super) moves: Moves,
}

/// How often the addresses of a subnet were moved since it has its standby interface, or this run began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moves {
    /// To the standby.
    pub to_standby: u64,
    /// Back to the primary.
    pub to_primary: u64,
    /// How often they could not be, whereto ever.
    pub failed: u64,
}

impl Pair {
    /// Notes what the kernel says of both interfaces.
    fn see(&mut self, seen: Seen, addresses: Vec<IpNet>, now: Time) {
        self.standby.see(seen, now);
        match self.standby.place() {
            // None at all were taken away by others, who may put them back.
            Place::Primary | Place::Standby(_) if !addresses.is_empty() => {
                self.addresses = addresses;
            }
            Place::Primary | Place::Standby(_) | Place::ToStandby(_) | Place::ToPrimary(_) => {}
        }
    }

    fn order(&self, subnet: IpNet, to: Part) -> Move {
        let Interfaces { primary, standby } = self.standby.interfaces().clone();
        let (from, to) = match to {
            Part::Standby => (primary, standby),
            Part::Primary => (standby, primary),
        };
        Move { subnet, from, to, addresses: self.addresses.clone() }
    }
}

impl Subnets {
    /// Keeps the pairs that are configured, with all they know, adds new ones, and shows them what the
    /// kernel says.
    pub(super) fn set_pairs(&mut self, now: Time) {
        let mut known = std::mem::take(&mut self.pairs);
        let mut recorded = std::mem::take(&mut self.recorded);
        for subnet in self.settings.subnets.iter().filter(|subnet| subnet.monitor) {
            let Some(interfaces) = &subnet.standby else { continue };
            let prefix = subnet.prefix;
            let (seen, addresses) = self.look_at(prefix, interfaces);
            let known = known.remove(&prefix);
            let record = recorded.iter().position(|record| record.subnet == prefix);
            let record = record.map(|place| recorded.swap_remove(place));
            let known = known.filter(|pair| pair.standby.interfaces() == interfaces);
            let record = record.filter(|record| record.interfaces == *interfaces);
            let mut pair = match (known, record) {
                (Some(pair), _) => pair,
                (None, Some(record)) => {
                    let standby = Standby::new(record.interfaces, record.place, seen, now);
                    let pair =
                        Pair { standby, addresses: record.addresses, moves: Moves::default() };
                    // What an earlier run had left half done is done once more.
                    let order = match record.place {
                        Place::ToStandby(_) => Some(pair.order(prefix, Part::Standby)),
                        Place::ToPrimary(_) => Some(pair.order(prefix, Part::Primary)),
                        Place::Primary | Place::Standby(_) => None,
                    };
                    self.moves.extend(order);
                    pair
                }
                (None, None) => {
                    let standby = Standby::found(interfaces.clone(), seen, now);
                    Pair { standby, addresses: Vec::new(), moves: Moves::default() }
                }
            };
            pair.see(seen, addresses, now);
            self.pairs.insert(prefix, pair);
        }
    }

    /// What the kernel says of a pair, and the addresses of the subnet that are on either of the two.
    fn look_at(&self, subnet: IpNet, interfaces: &Interfaces) -> (Seen, Vec<IpNet>) {
        let on = |name: &str| -> BTreeSet<IpNet> {
            let interfaces = self.host.interfaces.iter().filter(|there| there.name == name);
            let addresses = interfaces.flat_map(|interface| &interface.addresses);
            addresses.filter(|address| subnet.contains(&address.addr())).copied().collect()
        };
        let (primary, standby) = (on(&interfaces.primary), on(&interfaces.standby));
        let seen = Seen {
            primary_link: self.has_link(&interfaces.primary),
            standby_link: self.has_link(&interfaces.standby),
            on_primary: !primary.is_empty(),
            on_standby: !standby.is_empty(),
        };
        (seen, primary.union(&standby).copied().collect())
    }

    /// Tells the pair of a subnet, if it has one, what the polls say of its interfaces, and lets it decide.
    pub(super) fn judge_pair(
        &mut self,
        subnet: IpNet,
        judged: &[(String, Option<bool>)],
        now: Time,
    ) {
        let Some(pair) = self.pairs.get_mut(&subnet) else { return };
        for (interface, up) in judged {
            if let Some(part) = pair.standby.part_of(interface) {
                pair.standby.judged(part, *up);
            }
        }
        self.turn_pair(subnet, now);
    }

    fn turn_pair(&mut self, subnet: IpNet, now: Time) {
        let polls = self.polls();
        let Some(pair) = self.pairs.get_mut(&subnet) else { return };
        if let Some(to) = pair.standby.turn(now, polls) {
            self.moves.push_back(pair.order(subnet, to));
        }
    }

    /// Lets every pair decide whose time has come.
    pub(super) fn turn_pairs(&mut self, now: Time, found: &mut Vec<Finding>) {
        let polls = self.polls();
        let due = |pair: &Pair| pair.standby.next_deadline(polls).is_some_and(|due| due <= now);
        let pairs = self.pairs.iter().filter(|(_, pair)| due(pair));
        let subnets: Vec<IpNet> = pairs.map(|(&subnet, _)| subnet).collect();
        for subnet in subnets {
            self.turn_pair(subnet, now);
            self.judge_subnet(subnet, now, found);
        }
    }

    /// When a pair next has something to do.
    pub(super) fn next_move(&self) -> Option<Time> {
        let polls = self.polls();
        self.pairs.values().filter_map(|pair| pair.standby.next_deadline(polls)).min()
    }

    /// Takes in how a move went.
    pub fn moved(
        &mut self,
        subnet: IpNet,
        failed: Option<&str>,
        now: Time,
        found: &mut Vec<Finding>,
        events: &mut VecDeque<Event>,
    ) {
        let polls = self.polls();
        let Some(pair) = self.pairs.get_mut(&subnet) else { return };
        let Interfaces { primary, standby } = pair.standby.interfaces();
        let moves = &mut pair.moves;
        let (to, count) = match pair.standby.place() {
            Place::ToStandby(_) => (standby.clone(), &mut moves.to_standby),
            Place::ToPrimary(_) => (primary.clone(), &mut moves.to_primary),
            // It belongs to a pair that is no longer configured.
            Place::Primary | Place::Standby(_) => return,
        };
        *if failed.is_none() { count } else { &mut moves.failed } += 1;
        pair.standby.moved(failed.is_none(), now, polls);
        events.push_back(Event::Moved { subnet, to, failed: failed.map(str::to_owned) });
        self.judge_subnet(subnet, now, found);
    }

    /// Enables the primary interface of a subnet, by an operator's order.
    pub fn enable(&mut self, subnet: IpNet, now: Time, found: &mut Vec<Finding>) {
        let Some(pair) = self.pairs.get_mut(&subnet) else { return };
        if let Ok(to) = pair.standby.enable() {
            self.moves.push_back(pair.order(subnet, to));
            self.judge_subnet(subnet, now, found);
        }
    }

    /// Whether an operator may enable the primary interface of a subnet now.
    ///
    /// # Errors
    ///
    /// Why not.
    pub fn may_enable(&self, subnet: IpNet) -> Result<(), NotEnabled> {
        let pair = self.pairs.get(&subnet).ok_or(NotEnabled::NoStandby)?;
        pair.standby.clone().enable().map(|_| ())
    }

    /// The next addresses to move.
    pub fn poll_move(&mut self) -> Option<Move> {
        self.moves.pop_front()
    }

    /// Whether any subnet has a standby interface, or had one that an earlier run knew of.
    pub fn has_standbys(&self) -> bool {
        !self.pairs.is_empty() || !self.recorded.is_empty()
    }

    /// Where the addresses are of every subnet that has a standby interface. Before this host is known,
    /// what an earlier run knew of them.
    pub fn standbys(&self) -> impl Iterator<Item = StandbyRecord> {
        let pairs = self.pairs.iter().map(|(&subnet, pair)| StandbyRecord {
            subnet,
            interfaces: pair.standby.interfaces().clone(),
            place: pair.standby.place(),
            addresses: pair.addresses.clone(),
        });
        pairs.chain(self.recorded.iter().cloned())
    }

    /// Whether the subnet's addresses have left this interface, which is therefore down.
    pub(super) fn has_left(&self, subnet: IpNet, interface: &str) -> bool {
        self.pairs.get(&subnet).is_some_and(|pair| {
            pair.standby.place() != Place::Primary
                && pair.standby.part_of(interface) == Some(Part::Primary)
        })
    }

    /// What a pair adds to what the flows of its subnet say: an interface that the addresses have left is
    /// down, and the one that they come to is not, as long as nothing is known of it.
    pub(super) fn add_pair(&self, subnet: IpNet, judged: &mut BTreeMap<String, Option<bool>>) {
        let Some(pair) = self.pairs.get(&subnet) else { return };
        let Interfaces { primary, standby } = pair.standby.interfaces();
        match pair.standby.place() {
            Place::Primary => {}
            Place::ToStandby(_) | Place::Standby(_) => {
                judged.insert(primary.clone(), Some(false));
                judged.entry(standby.clone()).or_default();
            }
            Place::ToPrimary(_) => {
                judged.insert(primary.clone(), None);
                judged.entry(standby.clone()).or_default();
            }
        }
    }
}
