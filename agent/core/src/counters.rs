//! What came in, and what became of it, counted by reason.

use std::{collections::VecDeque, net::SocketAddr};

use crate::{
    access::Refused,
    alarm::{ClearReason, Kind},
    flow::ReplyOutcome,
    instability::Outcome,
    message::hide_communities,
    time::WallTime,
    trap::{Form, Malformed},
};

/// Counters since the start. Arrays are in the order of the `ALL` of their type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Datagrams handed in.
    pub datagrams: u64,
    /// Their octets.
    pub octets: u64,
    /// Datagrams that cannot be a trap.
    pub malformed: [u64; Malformed::ALL.len()],
    /// Traps from those who may not send them.
    pub refused: [u64; Refused::ALL.len()],
    /// Traps taken in, by what became of them.
    pub outcomes: [u64; Outcome::ALL.len()],
    /// Traps taken in, by their form.
    pub forms: [u64; Form::ALL.len()],
    /// Informs taken in, those that were sent again too.
    pub informs: u64,
    /// Responses given out (TRAP-5).
    pub responses: u64,
    /// Traps of the spool that an earlier run took in and that were judged again.
    pub replayed: u64,
    /// Traps that the mate had taken in and that went on from here (PAIR-2).
    pub handed_over: u64,
    /// Traps that went on, by notification target, in the order of the settings (TRAP-8).
    pub forwarded: Vec<u64>,
    /// Traps that were held back, as their object was unstable already.
    pub suppressed: u64,
    /// Traps that did not go on, as the same datagram had just gone on (TRAP-9).
    pub doubled: u64,
    /// Trap datagrams that were lost for lack of room at this host (TRAP-6).
    pub lost: u64,
    /// Trap datagrams that were dropped, as their source had sent too many (TRAP-6).
    pub limited: u64,
    /// ICMP messages by what they were worth, over all flows.
    pub replies: [u64; ReplyOutcome::ALL.len()],
    /// ICMP messages that belong to no flow.
    pub stray_replies: u64,
    /// Alarms raised, by kind.
    pub raised: [u64; Kind::ALL.len()],
    /// Alarms cleared, by kind and reason.
    pub cleared: [[u64; ClearReason::ALL.len()]; Kind::ALL.len()],
    /// How often this agent stood still.
    pub stalls: u64,
}

/// How many rejected datagrams can be looked at.
pub const REJECTED_KEPT: usize = 16;

/// How many octets of each.
pub const REJECTED_OCTETS: usize = 1024;

/// A datagram that was not taken in (TRAP-7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// When it was received.
    pub at: WallTime,
    /// Who sent it.
    pub source: SocketAddr,
    /// Why, by the name that the counters have for it.
    pub reason: &'static str,
    /// Its length in octets.
    pub length: usize,
    /// Its first octets, with `*` for each of a community, which is as good as a password.
    pub octets: Vec<u8>,
}

/// The last few rejected datagrams.
#[derive(Clone, Debug, Default)]
pub struct RejectedLog(VecDeque<Rejected>);

impl RejectedLog {
    /// Keeps one, and forgets the oldest if there are too many.
    pub fn push(&mut self, at: WallTime, source: SocketAddr, reason: &'static str, octets: &[u8]) {
        let mut kept = match self.0.len() {
            REJECTED_KEPT.. => self.0.pop_front().map(|oldest| oldest.octets).unwrap_or_default(),
            _ => Vec::new(),
        };
        kept.clear();
        kept.extend_from_slice(&octets[..octets.len().min(REJECTED_OCTETS)]);
        hide_communities(&mut kept);
        self.0.push_back(Rejected { at, source, reason, length: octets.len(), octets: kept });
    }

    /// Oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Rejected> {
        self.0.iter()
    }
}
