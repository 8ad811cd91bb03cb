//! What is known of each peer: plain data, one row for each place of the table.
//!
//! There are 128,000 rows and more, and one is read at each request and at each answer; so a row is
//! less than a line of the cache. Whatever only a few peers have is elsewhere.

use std::net::{IpAddr, Ipv6Addr};

use super::{PeerState, ring::Seat};
use crate::time::Time;

/// How many requests back an answer is known by: as long as the longest timeout has heartbeats and
/// retransmissions in it, and a while longer (PEER-8: 20 s, and one each second).
pub const REMEMBERED: u32 = u32::BITS;

/// One peer. A place without a peer keeps its sequence number, so that what still comes for the last
/// peer that had it is not taken for the next one's.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// IPv4 in its mapped form.
    address: Ipv6Addr,
    /// Since when it is in its state. For a silent one that is the clock of its tries: when the first
    /// unanswered request was sent (PEER-2), moved on by what says nothing (PEER-12).
    pub since: Time,
    /// Of the last request.
    pub sequence: u32,
    /// Which of the last [`REMEMBERED`] requests have no answer: the lowest bit is the last one's.
    unanswered_window: u32,
    /// Where it sits in the ring of its group.
    pub seat: Seat,
    /// The latest round-trip time in microseconds; [`NO_ROUND_TRIP`] if there was none.
    round_trip: u32,
    /// How many requests had no answer, where that says something.
    pub unanswered: u32,
    /// The owner's number of its group.
    pub group: u16,
    /// Where it stands.
    pub state: PeerState,
    /// While it is silent: how many tries have been made by its clock.
    pub tries: u8,
    /// While it is down: how many heartbeats in a row it has answered (PEER-3).
    pub answered: u8,
    /// The number of the interface that it was last heard by (PEER-12).
    pub interface: u8,
    /// How many of its last requests are still to be judged.
    unjudged: u8,
    flags: u8,
}

/// What is so of a peer, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Flag {
    /// There is a peer at this place.
    Present = 1,
    /// A raise was told, or is owed, and no clear since (PEER-10).
    Alarm = 2,
    /// A clear waits to be told (PEER-10).
    ClearOwed = 4,
    /// It was found down within its last heartbeat interval (PEER-9).
    JustDown = 8,
    /// A try of its present clock could not be sent (PEER-12).
    Spoiled = 16,
    /// A restart waits to be told (PEER-15).
    RestartOwed = 32,
    /// The mate was told something of it (PAIR-11).
    Told = 64,
}

const NO_ROUND_TRIP: u32 = u32::MAX;

const VACANT: Peer = Peer {
    address: Ipv6Addr::UNSPECIFIED,
    since: Time::ZERO,
    sequence: 0,
    unanswered_window: 0,
    seat: Seat { slot: 0, index: 0 },
    round_trip: NO_ROUND_TRIP,
    unanswered: 0,
    group: 0,
    state: PeerState::Unknown,
    tries: 0,
    answered: 0,
    interface: 0,
    unjudged: 0,
    flags: 0,
};

impl Peer {
    /// Its address.
    pub fn address(&self) -> IpAddr {
        self.address.to_canonical()
    }

    /// Whether that is an IPv4 address.
    pub fn is_v4(&self) -> bool {
        self.address.to_ipv4_mapped().is_some()
    }

    /// Whether this is so of it.
    pub const fn is(&self, flag: Flag) -> bool {
        self.flags & flag as u8 != 0
    }

    /// Says that this is so of it, or not.
    pub const fn set(&mut self, flag: Flag, on: bool) {
        if on {
            self.flags |= flag as u8;
        } else {
            self.flags &= !(flag as u8);
        }
    }

    /// Whether it is asked at all.
    pub const fn is_asked(&self) -> bool {
        match self.state {
            PeerState::Unknown | PeerState::Alive | PeerState::Silent | PeerState::Down => true,
            PeerState::Disabled | PeerState::Unsupported => false,
        }
    }

    /// The latest round-trip time in microseconds.
    pub fn round_trip(&self) -> Option<u32> {
        (self.round_trip != NO_ROUND_TRIP).then_some(self.round_trip)
    }

    /// A round-trip time was measured.
    pub fn set_round_trip(&mut self, micros: u64) {
        self.round_trip =
            u32::try_from(micros).map_or(NO_ROUND_TRIP - 1, |it| it.min(NO_ROUND_TRIP - 1));
    }

    /// A request leaves. Returns its sequence number, and whether one is forgotten for it of which
    /// nobody has judged yet that it has no answer.
    pub fn ask(&mut self) -> (u32, bool) {
        let forgets = self.unanswered_window >> (REMEMBERED - 1) != 0
            && u32::from(self.unjudged) >= REMEMBERED;
        self.sequence = self.sequence.wrapping_add(1);
        self.unanswered_window = self.unanswered_window << 1 | 1;
        self.unjudged = self.unjudged.saturating_add(1);
        (self.sequence, forgets)
    }

    /// Whether this request is remembered and has no answer.
    pub fn is_outstanding(&self, sequence: u32) -> bool {
        let age = self.age(sequence);
        age < REMEMBERED && self.unanswered_window >> age & 1 != 0
    }

    /// Whether nobody has judged this request yet.
    pub fn is_unjudged(&self, sequence: u32) -> bool {
        self.age(sequence) < u32::from(self.unjudged)
    }

    /// Whether a request after this one needs no answer any more: it has it.
    pub fn has_answered_since(&self, sequence: u32) -> bool {
        let later = (1_u64 << self.age(sequence).min(REMEMBERED)) - 1;
        u64::from(!self.unanswered_window) & later != 0
    }

    /// This request needs no answer any more.
    pub fn close(&mut self, sequence: u32) {
        let age = self.age(sequence);
        if age < REMEMBERED {
            self.unanswered_window &= !(1 << age);
        }
    }

    /// The oldest request that was to be judged is judged.
    pub const fn judged(&mut self) {
        self.unjudged = self.unjudged.saturating_sub(1);
    }

    /// No answer to what was sent counts any more. Returns how many were waited for.
    pub fn forget_requests(&mut self) -> u32 {
        let unjudged = (1_u64 << u32::from(self.unjudged).min(REMEMBERED)) - 1;
        let waited_for = (u64::from(self.unanswered_window) & unjudged).count_ones();
        self.unanswered_window = 0;
        waited_for
    }

    /// Somebody else has this place from now on.
    pub fn replace(&mut self, address: IpAddr, group: u16, now: Time) {
        let address = match address {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        // What was sent to the last one is in the lists that are still to be judged.
        let Peer { sequence, unjudged, .. } = *self;
        *self = Peer { address, since: now, sequence, unjudged, group, ..VACANT };
        self.set(Flag::Present, true);
    }

    /// Nobody has this place from now on.
    pub const fn vacate(&mut self) {
        self.flags = 0;
    }

    const fn age(&self, sequence: u32) -> u32 {
        self.sequence.wrapping_sub(sequence)
    }
}

/// All places.
#[derive(Clone, Debug, Default)]
pub struct Table {
    rows: Vec<Peer>,
}

impl Table {
    /// The peer at a place.
    pub fn get(&self, place: u32) -> Option<&Peer> {
        self.rows.get(place as usize).filter(|peer| peer.is(Flag::Present))
    }

    /// The peer at a place.
    pub fn get_mut(&mut self, place: u32) -> Option<&mut Peer> {
        self.rows.get_mut(place as usize).filter(|peer| peer.is(Flag::Present))
    }

    /// The row of a place, with or without a peer.
    pub fn row(&mut self, place: u32) -> &mut Peer {
        let index = place as usize;
        if index >= self.rows.len() {
            self.rows.resize(index + 1, VACANT);
        }
        &mut self.rows[index]
    }

    /// All peers with their places.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Peer)> + '_ {
        (0..).zip(&self.rows).filter(|(_, peer)| peer.is(Flag::Present))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_less_than_a_line_of_the_cache() {
        assert_eq!(size_of::<Peer>(), 56);
    }

    #[test]
    fn the_last_32_requests_are_remembered() {
        let mut peer = VACANT;
        for sequence in 1..=40 {
            assert_eq!(peer.ask(), (sequence, sequence > 32));
        }
        assert_eq!(
            [8, 9, 40, 41].map(|sequence| peer.is_outstanding(sequence)),
            [false, true, true, false]
        );
        peer.close(20);
        assert!(!peer.is_outstanding(20) && peer.is_outstanding(21));
        assert!(peer.has_answered_since(19) && !peer.has_answered_since(20));
        assert_eq!(peer.forget_requests(), 31);
    }

    #[test]
    fn both_families_keep_their_addresses() {
        for address in ["192.0.2.1", "2001:db8::1"] {
            let address: IpAddr = address.parse().unwrap();
            let mut peer = VACANT;
            peer.replace(address, 0, Time::ZERO);
            assert_eq!((peer.address(), peer.is_v4()), (address, address.is_ipv4()));
        }
    }
}
