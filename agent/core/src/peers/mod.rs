//! The peer monitor: heartbeats to up to 128,000 addresses and beyond, in batches (the rules of
//! `peers.md`).
//!
//! [`Monitor`] is the owner of its machines, and runs on a thread of its own beside
//! [`Agent`](crate::agent::Agent), which turns its findings into alarms
//! ([`Input::Found`](crate::input::Input::Found)). It knows peers by their place in a table; who gives
//! out the places, and decides which peers are admitted, is the [`roster`].
//!
//! The contract: hand in all that was received ([`Monitor::answer`]) and all that this host is to
//! blame for ([`Monitor::disturbed`]), then [`judge`](Monitor::judge) up to the moment up to which
//! everything has been handed in; then [`take_requests`](Monitor::take_requests), send them, hand in
//! those that could not be sent, and drain [`poll_finding`](Monitor::poll_finding); then wait until
//! [`next_deadline`](Monitor::next_deadline).

mod blame;
pub mod budget;
pub mod echo;
mod group;
mod lists;
pub mod mobility;
mod monitor;
mod pace;
mod retransmission;
mod ring;
pub mod roster;
pub mod settings;
mod silence;
mod standing;
mod table;
mod token;
mod told;

use std::{net::IpAddr, time::Duration};

pub use monitor::Monitor;
pub use standing::{Count, Standing, StandingChange};

use crate::{alarm::ClearReason, time::Time};

/// A change of who is monitored, from the roster. A place that is removed may be given out again at
/// once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A peer was admitted.
    Add {
        /// Its place in the table.
        place: u32,
        /// Its address.
        address: IpAddr,
        /// Its group, as a place in [`Settings::groups`](settings::Settings::groups).
        group: u16,
        /// Whether it is asked at all (PEER-5: being disabled does not free a place).
        enabled: bool,
        /// An alarm of an earlier run says that it is down: it counts as down until it answers, and is
        /// not raised again.
        down: bool,
    },
    /// A peer has another group, or was disabled or enabled.
    Set {
        /// Its place in the table.
        place: u32,
        /// Its group, as a place in [`Settings::groups`](settings::Settings::groups).
        group: u16,
        /// Whether it is asked at all. A peer that is disabled while it is down has its alarm cleared
        /// as [`ClearReason::TurnedOff`].
        enabled: bool,
    },
    /// Where a peer that was just added stands, as the mate knew it (PAIR-11).
    Restore {
        /// Its place in the table.
        place: u32,
        /// What the mate knew.
        standing: Standing,
    },
    /// A peer is no longer monitored. If it is down, its alarm is cleared.
    Remove {
        /// Its place in the table.
        place: u32,
        /// Why.
        reason: ClearReason,
    },
}

/// A request that is to be sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// The peer's place in the table.
    pub place: u32,
    /// Its address.
    pub address: IpAddr,
    /// Its group, as a place in [`Settings::groups`](settings::Settings::groups).
    pub group: u16,
    /// Grows by one with each request to this peer, modulo 2^32.
    pub sequence: u32,
    /// What an answer must carry, if it can carry it: nobody who has not seen the request knows it.
    pub token: u32,
    /// Whether it leaves by the retransmission list.
    pub retransmission: bool,
    /// The peer is down: an echo may use another identifier, as a NAT or a firewall may hold on to a
    /// dead session for the one that it knows.
    pub down: bool,
}

/// An answer, as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The peer's place in the table, as the answer says or as its source was looked up.
    pub place: u32,
    /// Who sent it.
    pub source: IpAddr,
    /// The sequence number that it answers.
    pub sequence: u32,
    /// The token; nothing where this kind of heartbeat has no room for one.
    pub token: Option<u32>,
    /// The interface that it came by, where that is known (PEER-12).
    pub interface: Option<u32>,
    /// When the kernel received it.
    pub received: Time,
    /// When the request was sent, if the answer tells: for the round-trip time alone.
    pub sent: Option<Time>,
    /// The peer's restart counter, if the answer tells (PEER-15).
    pub restart_counter: Option<u32>,
}

/// Why an answer changes nothing (PEER-11).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Discard {
    /// No peer has this place or this address.
    UnknownPeer,
    /// It comes from another address than the peer's.
    WrongSource,
    /// The token is not that of the request.
    WrongToken,
    /// No request with this sequence number waits for an answer: it was answered before, or it is so
    /// old that it is forgotten, or it never was.
    NotOutstanding,
    /// It is shorter than an answer, or was cut.
    Truncated,
    /// Its checksum is wrong.
    BadChecksum,
    /// It is something else.
    Malformed,
}

impl Discard {
    /// Every reason.
    pub const ALL: [Discard; 7] = [
        Discard::UnknownPeer,
        Discard::WrongSource,
        Discard::WrongToken,
        Discard::NotOutstanding,
        Discard::Truncated,
        Discard::BadChecksum,
        Discard::Malformed,
    ];

    /// The name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Discard::UnknownPeer => "unknown_peer",
            Discard::WrongSource => "wrong_source",
            Discard::WrongToken => "wrong_token",
            Discard::NotOutstanding => "not_outstanding",
            Discard::Truncated => "truncated",
            Discard::BadChecksum => "bad_checksum",
            Discard::Malformed => "malformed",
        }
    }
}

/// Why a try without an answer says nothing of the peer (PEER-12).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Inconclusive {
    /// The kernel had no room for what came.
    ReceiveDropped,
    /// The kernel did not take the request.
    SendFailed,
    /// The neighbour (ARP, ND) table of this host overflowed.
    NeighbourTableFull,
    /// The link that the peer was last heard by was down.
    LinkDown,
    /// This agent stood still.
    Stalled,
}

impl Inconclusive {
    /// Every reason.
    pub const ALL: [Inconclusive; 5] = [
        Inconclusive::ReceiveDropped,
        Inconclusive::SendFailed,
        Inconclusive::NeighbourTableFull,
        Inconclusive::LinkDown,
        Inconclusive::Stalled,
    ];

    /// The name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Inconclusive::ReceiveDropped => "receive_dropped",
            Inconclusive::SendFailed => "send_failed",
            Inconclusive::NeighbourTableFull => "neighbour_table_full",
            Inconclusive::LinkDown => "link_down",
            Inconclusive::Stalled => "stalled",
        }
    }
}

/// Something of this host that spoils every try that was outstanding meanwhile (PEER-12). A stall is
/// not among them: the monitor sees it itself, and so is a send failure, which is of one request
/// ([`Monitor::send_failed`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disturbance {
    /// The kernel dropped what came to the socket of this family; of groups with a socket of their
    /// own it is not told apart.
    ReceiveDropped {
        /// IPv4, else IPv6.
        v4: bool,
    },
    /// The neighbour table of this family overflowed.
    NeighbourTableFull {
        /// IPv4 (ARP), else IPv6 (ND).
        v4: bool,
    },
    /// This interface had no link.
    LinkDown {
        /// The kernel's index of it.
        interface: u32,
    },
}

/// Where a peer stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum PeerState {
    /// It has not answered yet, nor been found down.
    #[default]
    Unknown,
    /// It answers.
    Alive,
    /// A request had no answer in time, and it is tried again (PEER-2).
    Silent,
    /// It has answered none of its tries (PEER-2).
    Down,
    /// It is not asked, but has its place (PEER-5).
    Disabled,
    /// It said that it knows no heartbeats, and is not asked any more (PEER-15).
    Unsupported,
}

impl PeerState {
    /// Every state.
    pub const ALL: [PeerState; 6] = [
        PeerState::Unknown,
        PeerState::Alive,
        PeerState::Silent,
        PeerState::Down,
        PeerState::Disabled,
        PeerState::Unsupported,
    ];

    /// The name in metrics and in the status.
    pub const fn name(self) -> &'static str {
        match self {
            PeerState::Unknown => "unknown",
            PeerState::Alive => "alive",
            PeerState::Silent => "silent",
            PeerState::Down => "down",
            PeerState::Disabled => "disabled",
            PeerState::Unsupported => "unsupported",
        }
    }
}

/// A peer, as others see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerView {
    /// Its place in the table.
    pub place: u32,
    /// Its address.
    pub address: IpAddr,
    /// Its group, as a place in [`Settings::groups`](settings::Settings::groups).
    pub group: u16,
    /// Where it stands.
    pub state: PeerState,
    /// Since when, rounded to milliseconds.
    pub since: Time,
    /// The latest round-trip time, in microseconds.
    pub round_trip: Option<Duration>,
    /// Requests that had no answer in time, since it was admitted; those that say nothing are not
    /// counted.
    pub unanswered: u32,
}

/// The upper bounds of the buckets of [`RoundTrips`], in microseconds: from a neighbour in the rack to
/// a satellite. One more bucket has the rest.
pub const ROUND_TRIP_BUCKETS: [u64; 15] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 10_000_000,
];

/// Round-trip times, as a histogram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoundTrips {
    /// How many were in each bucket and in none before it.
    pub buckets: [u64; ROUND_TRIP_BUCKETS.len() + 1],
    /// Their sum, in microseconds.
    pub sum_micros: u64,
}

/// What happened to one group since the start (PEER-14).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupStats {
    /// Its name.
    pub name: String,
    /// Periodic heartbeats handed out.
    pub heartbeats: u64,
    /// Retransmissions handed out.
    pub retransmissions: u64,
    /// Answers that counted.
    pub answers: u64,
    /// Requests that had no answer in time, where that says something.
    pub unanswered: u64,
    /// The same where it says nothing, in the order of [`Inconclusive::ALL`].
    pub inconclusive: [u64; Inconclusive::ALL.len()],
    /// Path failures for no answer: how often a peer was found down.
    pub no_answer: u64,
    /// Path failures for a restart (PEER-15).
    pub restarts: u64,
    /// How many peers stand where, in the order of [`PeerState::ALL`].
    pub peers: [u32; PeerState::ALL.len()],
    /// From the first to the last heartbeat of the latest whole sweep.
    pub sweep: Option<Duration>,
    /// Round-trip times.
    pub round_trips: RoundTrips,
}

/// What there is to see of the whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// The groups in the order of the settings.
    pub groups: Vec<GroupStats>,
    /// Answers that changed nothing, in the order of [`Discard::ALL`].
    pub discarded: [u64; Discard::ALL.len()],
    /// Silent peers (PEER-9): in the retransmission list, or found down within their last interval.
    pub silent: u32,
    /// Detection is slowed (PEER-9).
    pub mass_silence: bool,
    /// How often this agent stood still.
    pub stalls: u64,
    /// Findings that wait to be told (PEER-10).
    pub untold: u32,
    /// Heartbeats that never left, as this agent stood still for more than their interval.
    pub skipped: u64,
}
