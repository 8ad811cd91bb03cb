//! What the peer monitor is told to do (PEER-1 to PEER-9), in types that hold their rules.
//!
//! Whether the batches can carry the peers is not a matter of one value: see
//! [`budget`](super::budget) (PEER-8).

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    num::{NonZeroU8, NonZeroU32},
    ops::RangeInclusive,
    time::Duration,
};

/// The peer monitor as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How requests leave.
    pub batches: Batches,
    /// The groups in the order of the configuration: where two name a peer, the first one's settings
    /// hold (PEER-7).
    pub groups: Vec<Group>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { batches: Batches::DEFAULT, groups: Vec::new() }
    }
}

/// The two lists, each with batches of its own (PEER-4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batches {
    /// Periodic heartbeats.
    pub heartbeat: Batch,
    /// Retransmissions.
    pub retransmission: Batch,
}

impl Batches {
    /// 550 every 200 ms, and 550 every 100 ms (PEER-4).
    pub const DEFAULT: Batches = Batches {
        heartbeat: Batch { size: Batch::DEFAULT_SIZE, interval: Duration::from_millis(200) },
        retransmission: Batch { size: Batch::DEFAULT_SIZE, interval: Duration::from_millis(100) },
    };
}

/// At most so many requests, and not again before so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// How many requests at most.
    pub size: NonZeroU32,
    /// From one batch to the next at least.
    pub interval: Duration,
}

impl Batch {
    /// 550 (PEER-4).
    pub const DEFAULT_SIZE: NonZeroU32 = NonZeroU32::new(550).expect("550 is not zero");
    /// How large a batch may be: the largest takes a second of one core to send.
    pub const SIZES: RangeInclusive<u32> = 1..=200_000;
    /// How long the interval of batches may be. A shorter one than 1 ms is only a larger batch, and
    /// one above a second no longer spreads anything over an interval of 1 s.
    pub const INTERVALS: RangeInclusive<Duration> =
        Duration::from_millis(1)..=Duration::from_secs(1);
}

/// Peers with the same settings; StarOS calls it a service (PEER-7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The name in metrics and alarms; no two groups have the same.
    pub name: String,
    /// What is asked.
    pub kind: Heartbeat,
    /// How often each peer is asked: 1 s to 3600 s.
    pub interval: Duration,
    /// How long a request waits for its answer: 100 ms to 20 s.
    pub timeout: Duration,
    /// How many requests in a row have no answer until a peer is down: 1 to 15.
    pub max_retransmissions: NonZeroU8,
    /// How many answered heartbeats in a row end that (PEER-3).
    pub recovery_count: NonZeroU8,
    /// A new peer of this group is admitted if fewer than this are, in all groups together
    /// (`monitor_max_peers`; PEER-5, PEER-7).
    pub limit: u32,
    /// The source address of requests by IPv4; nothing leaves it to the kernel's routes.
    pub source_v4: Option<Ipv4Addr>,
    /// The source address of requests by IPv6.
    pub source_v6: Option<Ipv6Addr>,
}

impl Group {
    /// The heartbeat intervals that may be set (PEER-8).
    pub const INTERVALS: RangeInclusive<Duration> =
        Duration::from_secs(1)..=Duration::from_secs(3600);
    /// The retransmission timeouts that may be set (PEER-8).
    pub const TIMEOUTS: RangeInclusive<Duration> =
        Duration::from_millis(100)..=Duration::from_secs(20);
    /// How many retransmissions may be set (PEER-8).
    pub const MAX_RETRANSMISSIONS: RangeInclusive<u8> = 1..=15;
    /// How many answers in a row may be asked for: as many as there may be retransmissions.
    pub const RECOVERY_COUNTS: RangeInclusive<u8> = 1..=15;
    /// `monitor_max_peers` unless it is set (PEER-5).
    pub const DEFAULT_LIMIT: u32 = 256;

    /// A group of this name as it is unless it is set otherwise: echoes every 60 s, 3 s and 3.
    pub fn named(name: &str) -> Group {
        Group {
            name: name.to_owned(),
            kind: Heartbeat::Echo,
            interval: Duration::from_secs(60),
            timeout: Duration::from_secs(3),
            max_retransmissions: NonZeroU8::new(3).expect("three is not zero"),
            recovery_count: NonZeroU8::MIN,
            limit: Group::DEFAULT_LIMIT,
            source_v4: None,
            source_v6: None,
        }
    }
}

/// What is asked (PEER-1). The pacing knows nothing of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Heartbeat {
    /// An ICMP or ICMPv6 echo.
    #[default]
    Echo,
    /// A Proxy Mobile IPv6 Heartbeat (RFC 5847; PEER-15).
    ProxyMobile,
}
