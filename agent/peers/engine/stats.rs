//! What the engine counts of itself; what it knows of the peers is in
//! [`Stats`](evenkeel_core::peers::Stats).

use std::{net::IpAddr, time::Duration};

/// What there is to see of the engine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EngineStats {
    /// Its sockets.
    pub sockets: Vec<SocketStats>,
    /// Proxy Mobile IPv6.
    pub mobility: MobilityStats,
    /// Requests that the kernel did not take, by the name of the error, as in `errno.h`; only
    /// those that have happened.
    pub send_errors: Vec<(&'static str, u64)>,
    /// How late batches of heartbeats left.
    pub lateness: Lateness,
    /// How often the thread woke up.
    pub wake_ups: u64,
    /// What keeps it from doing as it should, and what would help: a sentence each.
    pub problems: Vec<String>,
}

/// One socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketStats {
    /// IPv4, else IPv6.
    pub v4: bool,
    /// The source address that was configured; nothing for the one that the kernel chooses.
    pub source: Option<IpAddr>,
    /// A raw socket, else a ping socket.
    pub raw: bool,
    /// The receive buffer that was asked for, in bytes.
    pub buffer_asked: usize,
    /// The receive buffer that was granted, in bytes of data; the kernel lets twice as many lie
    /// there with what it needs for itself.
    pub buffer_granted: usize,
    /// Answers, or what came instead, that the kernel had no room for.
    pub kernel_drops: u64,
    /// Requests sent.
    pub sent: u64,
    /// Their length from the ICMP header on, in bytes.
    pub sent_bytes: u64,
    /// Messages received.
    pub received: u64,
    /// Their length as the socket gives them, in bytes: on raw IPv4 sockets with the IP header.
    pub received_bytes: u64,
    /// Reads that failed and were tried again.
    pub receive_errors: u64,
}

/// The sockets of Proxy Mobile IPv6 (PEER-15), both families together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MobilityStats {
    /// Messages sent: requests, and answers to the peers' requests.
    pub sent: u64,
    /// Messages received.
    pub received: u64,
    /// Requests of peers that were answered.
    pub answered: u64,
    /// Requests of peers that were not, as one peer had sent too many.
    pub limited: u64,
    /// Answers that the kernel did not take.
    pub failed: u64,
    /// What the kernel had no room for; over IPv4 also what had a wrong checksum.
    pub kernel_drops: u64,
    /// Reads that failed and were tried again.
    pub receive_errors: u64,
}

impl MobilityStats {
    /// Each count with its name in metrics.
    pub const fn by_name(&self) -> [(&'static str, u64); 7] {
        [
            ("sent", self.sent),
            ("received", self.received),
            ("answered", self.answered),
            ("limited", self.limited),
            ("failed", self.failed),
            ("dropped", self.kernel_drops),
            ("receive_error", self.receive_errors),
        ]
    }
}

/// The upper bounds of the buckets of [`Lateness`]; one more bucket has the rest.
pub const LATENESS_BUCKETS: [Duration; 10] = [
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2_500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_secs(1),
];

/// How late batches of heartbeats left after the first of each was due, as a histogram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lateness {
    /// How many were in each bucket and in none before it.
    pub buckets: [u64; LATENESS_BUCKETS.len() + 1],
    /// Their sum, in microseconds.
    pub sum_micros: u64,
    /// The longest.
    pub longest: Duration,
}

impl Lateness {
    /// Counts one batch.
    pub(super) fn record(&mut self, late: Duration) {
        let bucket = LATENESS_BUCKETS.partition_point(|bound| *bound < late);
        self.buckets[bucket] += 1;
        self.sum_micros += u64::try_from(late.as_micros()).unwrap_or(u64::MAX);
        self.longest = self.longest.max(late);
    }

    /// How many batches there were.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

/// How often each error came.
#[derive(Debug, Default)]
pub(super) struct Errors {
    counts: [u64; NAMES.len() + 1],
}

/// The errors of sending that have a place of their own: a route, a firewall, a link, an address
/// or memory that is missing.
const NAMES: [(libc::c_int, &str); 11] = [
    (libc::EPERM, "EPERM"),
    (libc::EACCES, "EACCES"),
    (libc::EAGAIN, "EAGAIN"),
    (libc::EINVAL, "EINVAL"),
    (libc::ENOBUFS, "ENOBUFS"),
    (libc::ENOMEM, "ENOMEM"),
    (libc::EADDRNOTAVAIL, "EADDRNOTAVAIL"),
    (libc::ENETDOWN, "ENETDOWN"),
    (libc::ENETUNREACH, "ENETUNREACH"),
    (libc::EHOSTUNREACH, "EHOSTUNREACH"),
    (libc::EAFNOSUPPORT, "EAFNOSUPPORT"),
];

impl Errors {
    pub(super) fn count(&mut self, errno: libc::c_int) {
        let place = NAMES.iter().position(|(known, _)| *known == errno);
        self.counts[place.unwrap_or(NAMES.len())] += 1;
    }

    pub(super) fn by_name(&self) -> Vec<(&'static str, u64)> {
        let names = NAMES.iter().map(|(_, name)| *name).chain(["other"]);
        names.zip(self.counts).filter(|(_, count)| *count > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lateness_falls_into_the_bucket_that_bounds_it() {
        let mut lateness = Lateness::default();
        for (micros, bucket) in
            [(0, 0), (500, 0), (501, 1), (1_000, 1), (99_999, 7), (1_000_000, 9), (1_000_001, 10)]
        {
            let before = lateness.buckets[bucket];
            lateness.record(Duration::from_micros(micros));
            assert_eq!(lateness.buckets[bucket], before + 1, "{micros} µs");
        }
        assert_eq!((lateness.count(), lateness.sum_micros), (7, 2_102_001));
        assert_eq!(lateness.longest, Duration::from_micros(1_000_001));
    }

    #[test]
    fn errors_are_told_by_name() {
        let mut errors = Errors::default();
        for errno in [libc::EPERM, libc::ENETUNREACH, libc::EPERM, libc::EWOULDBLOCK, libc::EXDEV] {
            errors.count(errno);
        }
        let told = errors.by_name();
        assert_eq!(told, [("EPERM", 2), ("EAGAIN", 1), ("ENETUNREACH", 1), ("other", 1)]);
    }
}
