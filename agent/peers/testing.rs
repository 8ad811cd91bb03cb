//! What the tests of what is shown share: the peer monitor at one moment, with two groups.

use std::{net::IpAddr, sync::Arc, time::Duration};

use evenkeel_core::{
    peers::{
        GroupStats, PeerState, PeerView, RoundTrips, Stats,
        roster::{Labels, Roster, Wanted},
        settings::{Group, Settings},
    },
    time::{Time, WallTime},
};

use super::{
    engine::{
        EngineStats, SocketStats,
        stats::{Lateness, MobilityStats},
    },
    view::{Admission, FileView, PeersView},
};
use crate::config::PeerMetrics;

/// When the sample was seen.
const AT: Time = Time::from_secs(1_000);

/// Labels.
pub fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// `core`, of which six peers are admitted, one in each state, and `edge`, of which one is admitted
/// and two are not.
pub fn sample() -> PeersView {
    let group = |name: &str, limit| Group { limit, ..Group::named(name) };
    let settings =
        Settings { groups: vec![group("core", 7), group("edge", 7)], ..Settings::default() };
    let (north, south) = (labels(&[("site", "north")]), labels(&[("site", "south")]));
    let wanted = |last: u8| Wanted {
        address: IpAddr::from([192, 0, 2, last]),
        group: u16::from(last > 6),
        enabled: last != 5,
        labels: Arc::clone(if last.is_multiple_of(2) { &south } else { &north }),
    };
    let mut roster = Roster::new([]);
    roster.update(&[7, 7], (1..=9).map(wanted).collect());
    let peers = roster.known().filter_map(|known| {
        let (place, address) = (known.place?, known.wanted.address);
        let IpAddr::V4(v4) = address else { return None };
        let last = v4.octets()[3];
        let state = match last {
            7 => PeerState::Down,
            last => PeerState::ALL[usize::from(last) - 1],
        };
        let answered = matches!(state, PeerState::Alive | PeerState::Silent);
        Some(PeerView {
            place,
            address,
            group: known.wanted.group,
            state,
            since: Time::from_secs(900 + u64::from(last)),
            round_trip: answered.then_some(Duration::from_micros(1_500)),
            unanswered: u32::from(last) - 1,
        })
    });
    let mut round_trips = RoundTrips { sum_micros: 200_000, ..RoundTrips::default() };
    round_trips.buckets[4] = 100;
    let core = GroupStats {
        name: "core".to_owned(),
        heartbeats: 600,
        retransmissions: 12,
        answers: 590,
        unanswered: 15,
        inconclusive: [0, 0, 7, 0, 0],
        no_answer: 2,
        peers: [1; 6],
        sweep: Some(Duration::from_millis(46_600)),
        round_trips,
        ..GroupStats::default()
    };
    let edge = GroupStats {
        name: "edge".to_owned(),
        restarts: 3,
        peers: [0, 0, 0, 1, 0, 0],
        ..GroupStats::default()
    };
    let stats = Stats {
        groups: vec![core, edge],
        discarded: [0, 0, 5, 0, 0, 0, 0],
        silent: 3,
        mass_silence: true,
        stalls: 1,
        untold: 4,
        skipped: 6,
    };
    let mut lateness =
        Lateness { sum_micros: 90_000, longest: Duration::from_millis(80), ..Lateness::default() };
    lateness.buckets[0] = 99;
    lateness.buckets[7] = 1;
    let socket = |v4, source| SocketStats {
        v4,
        source,
        raw: v4,
        buffer_asked: 4 << 20,
        buffer_granted: if v4 { 4 << 20 } else { 208 << 10 },
        kernel_drops: if v4 { 0 } else { 17 },
        sent: 612,
        sent_bytes: 0,
        received: 595,
        received_bytes: 0,
        receive_errors: 0,
    };
    PeersView {
        at: AT,
        wall: WallTime(1_795_313_843_700),
        admission: Admission::count(&roster, 2),
        settings: Arc::new(settings),
        stats,
        peers: peers.collect(),
        roster: Arc::new(roster),
        engine: EngineStats {
            sockets: vec![socket(true, None), socket(false, "2001:db8::1".parse().ok())],
            mobility: MobilityStats { sent: 7, limited: 1, ..MobilityStats::default() },
            send_errors: vec![("ENETUNREACH", 2)],
            lateness,
            wake_ups: 4_000,
            problems: vec!["the receive buffer is too small".to_owned()],
        },
        files: Arc::new([FileView {
            path: "/etc/peers.json".to_owned(),
            group: "edge".to_owned(),
            peers: 3,
            problem: Some("/etc/peers.json:1:1: this is no JSON".to_owned()),
        }]),
        readings: [4, 1],
        problems: Vec::new(),
        series: PeerMetrics::Full,
    }
}
