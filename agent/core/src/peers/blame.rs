//! What this host is to blame for, and which tries that spoils (PEER-12).
//!
//! Of each cause only the last moment is kept: a try is judged when its answer is late, so a cause
//! that lies between its sending and that is one that is not older than its sending. What comes after
//! the last moment of a try, and before it is judged, spoils it as well; that errs on the side of the
//! peer.

use super::{Disturbance, Inconclusive};
use crate::time::Time;

/// How many interfaces are told apart: their numbers fit an octet, and 0 is none. Peers that are heard
/// by yet others are not blamed on any link.
const INTERFACES: usize = 255;

/// The last moments of all causes.
#[derive(Clone, Debug, Default)]
pub struct Blame {
    v4: Family,
    v6: Family,
    interfaces: Vec<Interface>,
    stalled: Option<Time>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Family {
    receive_dropped: Option<Time>,
    neighbour_table_full: Option<Time>,
}

#[derive(Clone, Copy, Debug)]
struct Interface {
    /// The kernel's index.
    index: u32,
    down: Option<Time>,
}

impl Blame {
    /// Something of this host spoils what was sent up to a moment.
    pub fn take(&mut self, disturbance: Disturbance, up_to: Time) {
        let last = match disturbance {
            Disturbance::ReceiveDropped { v4 } => &mut self.family_mut(v4).receive_dropped,
            Disturbance::NeighbourTableFull { v4 } => &mut self.family_mut(v4).neighbour_table_full,
            Disturbance::LinkDown { interface } => {
                let known = self.interfaces.iter_mut().find(|known| known.index == interface);
                // Nobody was ever heard by an interface that is not known.
                let Some(known) = known else { return };
                &mut known.down
            }
        };
        *last = (*last).max(Some(up_to));
    }

    /// This agent stood still up to a moment.
    pub fn stalled(&mut self, up_to: Time) {
        self.stalled = self.stalled.max(Some(up_to));
    }

    /// Up to when this agent last stood still.
    pub const fn last_stall(&self) -> Option<Time> {
        self.stalled
    }

    /// The number of an interface; 0 if it is not told apart from others.
    pub fn interface(&mut self, index: u32) -> u8 {
        let known = self.interfaces.iter().position(|known| known.index == index);
        let position = match known {
            Some(position) => position,
            None if self.interfaces.len() < INTERFACES => {
                self.interfaces.push(Interface { index, down: None });
                self.interfaces.len() - 1
            }
            None => return 0,
        };
        (position + 1) as u8
    }

    /// Why a try says nothing that was sent at a moment, to a peer of this family that was last heard
    /// by this interface; and up to when that lasted.
    pub fn spoils(&self, sent: Time, v4: bool, interface: u8) -> Option<(Inconclusive, Time)> {
        let family = if v4 { &self.v4 } else { &self.v6 };
        let link = usize::from(interface).checked_sub(1).and_then(|at| self.interfaces[at].down);
        // A stall is noticed before the next request leaves, which may be at the same moment.
        let stalled = self.stalled.filter(|last| *last > sent);
        [
            (Inconclusive::ReceiveDropped, family.receive_dropped),
            (Inconclusive::NeighbourTableFull, family.neighbour_table_full),
            (Inconclusive::LinkDown, link),
            (Inconclusive::Stalled, stalled),
        ]
        .into_iter()
        .filter_map(|(why, last)| Some((why, last.filter(|last| *last >= sent)?)))
        .max_by_key(|(_, last)| *last)
    }

    const fn family_mut(&mut self, v4: bool) -> &mut Family {
        if v4 { &mut self.v4 } else { &mut self.v6 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_spoils_what_was_sent_before_it_peer_12() {
        const NONE: u8 = 0;
        let at = Time::from_secs;
        let mut blame = Blame::default();
        let eth0 = blame.interface(4);
        let eth1 = blame.interface(7);
        assert_eq!([eth0, eth1, blame.interface(4)], [1, 2, 1]);
        blame.take(Disturbance::ReceiveDropped { v4: true }, at(10));
        blame.take(Disturbance::ReceiveDropped { v4: true }, at(9));
        blame.take(Disturbance::LinkDown { interface: 7 }, at(20));
        blame.take(Disturbance::LinkDown { interface: 99 }, at(99));
        for (sent, v4, interface, why) in [
            (10, true, NONE, Some((Inconclusive::ReceiveDropped, at(10)))),
            (11, true, NONE, None),
            (5, false, NONE, None),
            (5, false, eth0, None),
            (5, false, eth1, Some((Inconclusive::LinkDown, at(20)))),
            (5, true, eth1, Some((Inconclusive::LinkDown, at(20)))),
            (21, true, eth1, None),
        ] {
            assert_eq!(blame.spoils(at(sent), v4, interface), why, "{sent} {v4} {interface}");
        }
        blame.stalled(at(30));
        assert_eq!(blame.spoils(at(29), false, NONE), Some((Inconclusive::Stalled, at(30))));
        assert_eq!(blame.spoils(at(30), false, NONE), None);
    }

    #[test]
    fn interfaces_beyond_the_table_are_not_told_apart() {
        let mut blame = Blame::default();
        let numbers: Vec<u8> = (1..=300).map(|index| blame.interface(index)).collect();
        assert_eq!(numbers[254..257], [255, 0, 0]);
    }
}
