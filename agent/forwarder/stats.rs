//! What became of the traps for each notification target, counted by reason.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// What became of the traps for one notification target since the agent started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ForwardStats {
    /// The target's name.
    pub name: String,
    /// Traps that were handed to the network. Nobody acknowledges them.
    pub forwarded: u64,
    /// Traps that found no room, as more came than could be sent.
    pub dropped_queue_full: u64,
    /// Traps that were dropped as this agent of a pair was primary no longer when it was their turn.
    pub dropped_not_primary: u64,
    /// Traps that the network did not take.
    pub errors: u64,
    /// How often the target's host said that nobody listens there (ICMP port unreachable): at least
    /// as many of the `forwarded` were lost.
    pub refused: u64,
    /// Traps that can't be said in the form that the target takes, by reason.
    pub unsendable: Vec<(&'static str, u64)>,
    /// Traps that were to keep their source address and went with `snmpTrapAddress.0` instead, by
    /// reason.
    pub without_source: Vec<(&'static str, u64)>,
    /// The last error, in words.
    pub last_error: Option<String>,
}

/// Why a trap could not be sent in the form that the target takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    /// SNMPv1 has no Counter64 (RFC 3584, 3.2).
    Counter64,
    /// It does not fit into one datagram.
    TooLong,
    /// Its varbinds are no list of varbinds, or name no trap, which SNMPv1 needs.
    Malformed,
    /// The user of SNMPv3 has no key for the security level.
    NoKey,
    /// The target acknowledges, which is the notifier's to serve.
    Acknowledged,
}

impl Unfit {
    const ALL: [(Unfit, &'static str); 5] = [
        (Unfit::Counter64, "counter64"),
        (Unfit::TooLong, "too_long"),
        (Unfit::Malformed, "malformed"),
        (Unfit::NoKey, "no_key"),
        (Unfit::Acknowledged, "acknowledged"),
    ];
}

/// Why a trap could not be sent from its own source address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fallback {
    /// One address is of IPv4, the other of IPv6.
    OtherFamily,
    /// The source means nothing on the way to the target: loopback or link-local.
    LocalSource,
    /// The datagram was not kept.
    NoOriginal,
    /// An inform of SNMPv3 is made for our engine alone: another receiver can't open it, and would
    /// tell the device so with a Report (RFC 3414, 3.2).
    Inform,
}

impl Fallback {
    const ALL: [(Fallback, &'static str); 4] = [
        (Fallback::OtherFamily, "other_family"),
        (Fallback::LocalSource, "local_source"),
        (Fallback::NoOriginal, "no_original"),
        (Fallback::Inform, "v3_inform"),
    ];
}

/// Counted by the forwarder's thread and whoever submits, read by whoever shows.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub forwarded: AtomicU64,
    pub dropped_queue_full: AtomicU64,
    pub dropped_not_primary: AtomicU64,
    pub errors: AtomicU64,
    pub refused: AtomicU64,
    unsendable: [AtomicU64; Unfit::ALL.len()],
    without_source: [AtomicU64; Fallback::ALL.len()],
    last_error: Mutex<Option<String>>,
}

impl Counters {
    pub(super) fn unsendable(&self, why: Unfit) {
        self.unsendable[why as usize].fetch_add(1, Relaxed);
    }

    pub(super) fn without_source(&self, why: Fallback) {
        self.without_source[why as usize].fetch_add(1, Relaxed);
    }

    /// Counts traps that the network did not take, and remembers why.
    pub(super) fn failed(&self, traps: u64, why: impl ToString) {
        self.errors.fetch_add(traps, Relaxed);
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(why.to_string());
    }

    pub(super) fn read(&self, name: &str) -> ForwardStats {
        let count = |counter: &AtomicU64| counter.load(Relaxed);
        ForwardStats {
            name: name.to_owned(),
            forwarded: count(&self.forwarded),
            dropped_queue_full: count(&self.dropped_queue_full),
            dropped_not_primary: count(&self.dropped_not_primary),
            errors: count(&self.errors),
            refused: count(&self.refused),
            unsendable: Unfit::ALL
                .iter()
                .map(|&(why, name)| (name, count(&self.unsendable[why as usize])))
                .collect(),
            without_source: Fallback::ALL
                .iter()
                .map(|&(why, name)| (name, count(&self.without_source[why as usize])))
                .collect(),
            last_error: self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}
