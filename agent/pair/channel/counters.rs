//! What became of connections and frames of the state channel, counted by reason: strangers can make
//! these grow, and nothing else.

use std::sync::atomic::{AtomicU64, Ordering};

/// Why a connection, or what came by it, was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Refusal {
    /// Too many handshakes were under way already.
    Busy,
    /// The handshake took too long.
    HandshakeTimeout,
    /// What came is no TLS 1.3, or the connection ended in the handshake.
    Handshake,
    /// No fingerprint is trusted yet, or the file with it can't be read.
    NothingTrusted,
    /// The certificate is not the trusted one.
    WrongFingerprint,
    /// The mate could not show that the key of its certificate is its own.
    Signature,
    /// The mate does not take this agent's certificate.
    ByMate,
    /// The mate speaks another version of the channel's protocol, or its greeting can't be read.
    Protocol,
    /// The mate has this agent's own slot.
    SameSlot,
    /// The mate has this agent's own name.
    SameName,
    /// A frame was longer than its kind may be.
    TooLong,
    /// A frame was of a kind that has no place there.
    UnknownKind,
}

impl Refusal {
    /// Every reason, in the order of the counters.
    pub const ALL: [Refusal; 12] = [
        Refusal::Busy,
        Refusal::HandshakeTimeout,
        Refusal::Handshake,
        Refusal::NothingTrusted,
        Refusal::WrongFingerprint,
        Refusal::Signature,
        Refusal::ByMate,
        Refusal::Protocol,
        Refusal::SameSlot,
        Refusal::SameName,
        Refusal::TooLong,
        Refusal::UnknownKind,
    ];

    /// The name in metrics and in the status.
    pub const fn name(self) -> &'static str {
        match self {
            Refusal::Busy => "busy",
            Refusal::HandshakeTimeout => "handshake_timeout",
            Refusal::Handshake => "handshake",
            Refusal::NothingTrusted => "nothing_trusted",
            Refusal::WrongFingerprint => "wrong_fingerprint",
            Refusal::Signature => "signature",
            Refusal::ByMate => "by_mate",
            Refusal::Protocol => "protocol",
            Refusal::SameSlot => "same_slot",
            Refusal::SameName => "same_name",
            Refusal::TooLong => "too_long",
            Refusal::UnknownKind => "unknown_kind",
        }
    }
}

/// The counters of the state channel. They only grow.
#[derive(Debug, Default)]
pub struct Counters {
    refused: [AtomicU64; Refusal::ALL.len()],
    /// Connections that came up.
    pub connected: AtomicU64,
    /// Connections that gave way to a newer one.
    pub replaced: AtomicU64,
    /// Control frames that were not sent, as too many waited.
    pub control_dropped: AtomicU64,
    /// Octets of frames that were sent.
    pub octets_sent: AtomicU64,
    /// Octets of frames that were received.
    pub octets_received: AtomicU64,
}

impl Counters {
    /// How often something was refused for this reason.
    pub fn refused(&self, why: Refusal) -> u64 {
        self.refused[why as usize].load(Ordering::Relaxed)
    }

    /// Counts a refusal.
    pub(super) fn refuse(&self, why: Refusal) {
        add(&self.refused[why as usize], 1);
    }
}

/// Adds to a counter.
pub(super) fn add(counter: &AtomicU64, number: u64) {
    counter.fetch_add(number, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_counter() {
        let counters = Counters::default();
        for (nth, why) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(why as usize, nth);
            counters.refuse(why);
            assert_eq!(counters.refused(why), 1);
        }
    }
}
