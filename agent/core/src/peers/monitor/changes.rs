//! Who is monitored, and how (PEER-5 to PEER-7, PEER-13).

use std::net::IpAddr;

use super::Monitor;
use crate::{
    alarm::ClearReason,
    peers::{
        Change, PeerState,
        group::Group,
        ring::{self, Ring, Seat},
        settings::Settings,
        table::Flag,
    },
    time::Time,
};

/// 2^32 by the golden ratio: so many groups as there may be, their rounds start far from each other.
const GOLDEN_PHASE: u32 = 0x9e37_79b9;

impl Monitor {
    /// Takes in one change of the roster.
    pub fn apply(&mut self, change: &Change, now: Time) {
        match *change {
            Change::Add { place, address, group, enabled, down } => {
                if let Some(group) = self.order.get(usize::from(group)).copied() {
                    self.remove(place, ClearReason::Removed, now);
                    self.add(place, address, group, now);
                    self.start(place, enabled, down, now);
                }
            }
            Change::Set { place, group, enabled } => {
                if let Some(group) = self.order.get(usize::from(group)).copied()
                    && self.table.get(place).is_some()
                {
                    self.regroup(place, group, now);
                    self.enable(place, enabled, now);
                }
            }
            Change::Restore { place, standing } => self.restore(place, standing, now),
            Change::Remove { place, reason } => self.remove(place, reason, now),
        }
    }

    /// Takes in new settings. Groups are known by their names; peers of groups whose place changes
    /// keep their settings until they are [`Change::Set`].
    pub fn reconfigure(&mut self, settings: &Settings, now: Time) {
        self.heartbeats.set(settings.batches.heartbeat);
        self.retransmissions.pace.set(settings.batches.retransmission);
        for group in &mut self.groups {
            group.outer = None;
        }
        self.order.clear();
        for (outer, wanted) in (0..).zip(&settings.groups) {
            let slots = ring::slots(wanted, settings.batches.heartbeat);
            let known = self.groups.iter().position(|group| group.settings.name == wanted.name);
            let number = known.unwrap_or_else(|| {
                let phase = GOLDEN_PHASE.wrapping_mul(u32::from(outer));
                let ring = Ring::new(wanted.interval, slots, phase, now);
                self.admit_group(Group::new(wanted, outer, ring))
            });
            let group = &mut self.groups[number];
            group.outer = Some(outer);
            group.settings = wanted.clone();
            if !group.ring.is_of(wanted.interval, slots) {
                let table = &mut self.table;
                let seated = |place, seat: Seat| table.row(place).seat = seat;
                group.ring.reshape(wanted.interval, slots, now, seated);
            }
            self.order.push(number as u16);
        }
    }

    /// Gives a group a number: that of one which is over, if nothing that is owed speaks of it.
    fn admit_group(&mut self, group: Group) -> usize {
        let over = self.groups.iter().position(|group| group.is_over() && self.told.is_empty());
        let number = over.unwrap_or(self.groups.len());
        if number == self.groups.len() {
            self.groups.push(group);
        } else {
            self.groups[number] = group;
        }
        number
    }

    fn add(&mut self, place: u32, address: IpAddr, group: u16, now: Time) {
        let peer = self.table.row(place);
        peer.replace(address, group, now);
        let owner = &mut self.groups[usize::from(group)];
        peer.seat = owner.ring.add(place, now);
        *owner.peers_mut(peer.state) += 1;
        self.admitted += 1;
    }

    fn start(&mut self, place: u32, enabled: bool, down: bool, now: Time) {
        if down {
            // It counts as down until it answers, and its alarm was told by an earlier run.
            self.table.row(place).set(Flag::Alarm, true);
            self.enter(place, PeerState::Down, now);
        }
        self.enable(place, enabled, now);
    }

    fn enable(&mut self, place: u32, enabled: bool, now: Time) {
        let peer = self.table.row(place);
        match (peer.state, enabled) {
            (PeerState::Disabled, true) => self.enter(place, PeerState::Unknown, now),
            (PeerState::Disabled, false) => {}
            (_, true) => {}
            (_, false) => {
                self.awaited -= peer.forget_requests();
                self.clear_alarm(place, ClearReason::TurnedOff, now);
                self.enter(place, PeerState::Disabled, now);
            }
        }
    }

    /// It keeps where it stands, but not its phase.
    fn regroup(&mut self, place: u32, to: u16, now: Time) {
        let peer = self.table.row(place);
        if peer.group == to {
            return;
        }
        let state = peer.state;
        self.leave_ring(place);
        let owner = &mut self.groups[usize::from(to)];
        let seat = owner.ring.add(place, now);
        *owner.peers_mut(state) += 1;
        let peer = self.table.row(place);
        peer.group = to;
        peer.seat = seat;
        // Another group may ask in another way.
        if state == PeerState::Unsupported {
            self.enter(place, PeerState::Unknown, now);
        }
    }

    fn remove(&mut self, place: u32, reason: ClearReason, now: Time) {
        if self.table.get(place).is_none() {
            return;
        }
        self.clear_alarm(place, reason, now);
        // Out of whatever is counted by states.
        self.enter(place, PeerState::Disabled, now);
        self.leave_ring(place);
        self.note_gone(place);
        let peer = self.table.row(place);
        self.awaited -= peer.forget_requests();
        peer.vacate();
        self.restart_counters.remove(&place);
        self.admitted -= 1;
    }

    fn leave_ring(&mut self, place: u32) {
        let peer = self.table.row(place);
        let (seat, state) = (peer.seat, peer.state);
        let owner = &mut self.groups[usize::from(peer.group)];
        *owner.peers_mut(state) -= 1;
        let table = &mut self.table;
        owner.ring.remove(seat, |place, seat| table.row(place).seat = seat);
    }
}
