//! PEER-12: loss here is not loss there.

use std::time::Duration;

use evenkeel_core::{
    peers::{Disturbance, Inconclusive, PeerState},
    time::Time,
};
use proptest::prelude::*;

use crate::common::{
    peer_world::{PeerWorld, group, ms, s, settings, shipped, v4, v6},
    sim::cases,
};

const DROPPED: Disturbance = Disturbance::ReceiveDropped { v4: true };
const FULL: Disturbance = Disturbance::NeighbourTableFull { v4: true };
const LINK: Disturbance = Disturbance::LinkDown { interface: 2 };

/// Every disturbance that concerns the peers of these tests, and how it is counted.
const BLAME: [(Disturbance, Inconclusive); 3] = [
    (DROPPED, Inconclusive::ReceiveDropped),
    (FULL, Inconclusive::NeighbourTableFull),
    (LINK, Inconclusive::LinkDown),
];

/// A world with a peer that answered its first heartbeat by interface 2 and is dead, played up to when
/// its second one left; and when that was.
fn died() -> (PeerWorld, Time) {
    let mut world = PeerWorld::with(&shipped(), 1);
    world.run(s(50));
    world.peer(0).up = false;
    while world.sent.len() < 2 {
        let next = world.monitor.next_deadline().expect("a peer is to be asked");
        world.run_until(next);
    }
    let first = world.sent[1].at;
    (world, first)
}

/// How many tries of the first group say nothing, for this reason.
fn inconclusive(world: &PeerWorld, why: Inconclusive) -> u64 {
    world.monitor.stats().groups[0].inconclusive[why as usize]
}

#[test]
fn a_try_that_overlaps_a_disturbance_is_repeated() {
    // When this host was to blame, in milliseconds after the first try; when the peer is down. A
    // heartbeat that says nothing is repeated once, and if that says nothing either, an interval later;
    // tries of a peer that is silent are repeated for as long as it takes.
    let rows: [(&[u64], u64); 10] = [
        (&[], 9_000),
        (&[1], 12_000),
        (&[2_999], 12_000),
        (&[4_000], 12_000),
        (&[8_999], 12_000),
        (&[1_000, 2_000], 12_000),
        (&[1_000, 4_000], 69_000),
        (&[4_000, 7_000, 10_000], 18_000),
        (&[1_000, 10_000], 15_000),
        (&[9_001], 9_000),
    ];
    for (disturbance, why) in BLAME {
        for (moments, down) in rows {
            let (mut world, first) = died();
            for &moment in moments {
                world.run_until(first + ms(moment));
                world.monitor.disturbed(disturbance, world.now());
            }
            world.run_until(first + s(80));
            let row = format!("{disturbance:?} at {moments:?}");
            assert_eq!(world.told_of(v4(0)), [(None, first + ms(down))], "{row}");
            let repeated = match down {
                69_000 => 2,
                down => (down - 9_000) / 3_000,
            };
            assert_eq!(inconclusive(&world, why), repeated, "{row}");
            let tries =
                world.sent.iter().filter(|sent| sent.at >= first && sent.at < first + ms(down));
            assert_eq!(tries.count() as u64, 3 + repeated, "{row}: tries");
            assert!((3..=4).contains(&world.view(0).unanswered), "{row}");
            world.check();
        }
    }
}

#[test]
fn what_happened_before_a_try_or_to_others_is_no_excuse() {
    // Of the other family, of another interface, before it was sent, after it was judged.
    let rows = [
        (Disturbance::ReceiveDropped { v4: false }, 1_000),
        (Disturbance::NeighbourTableFull { v4: false }, 1_000),
        (Disturbance::LinkDown { interface: 3 }, 1_000),
    ];
    for (disturbance, after) in rows {
        let (mut world, first) = died();
        world.run_until(first + ms(after));
        world.monitor.disturbed(disturbance, world.now());
        world.run_until(first + s(20));
        assert_eq!(world.told_of(v4(0)), [(None, first + s(9))], "{disturbance:?}");
    }
    for (disturbance, _) in BLAME {
        let (mut world, first) = died();
        world.monitor.disturbed(disturbance, first - ms(1));
        world.run_until(first + s(20));
        assert_eq!(world.told_of(v4(0)), [(None, first + s(9))], "{disturbance:?} before");
    }
}

#[test]
fn a_family_has_its_own_socket_and_its_own_neighbours() {
    for (disturbance, spoiled) in [
        (Disturbance::ReceiveDropped { v4: false }, v6(1)),
        (Disturbance::NeighbourTableFull { v4: false }, v6(1)),
        (DROPPED, v4(0)),
        (FULL, v4(0)),
    ] {
        let mut world = PeerWorld::new(&shipped());
        world.add(0, v4(0), 0, false);
        world.add(1, v6(1), 0, false);
        world.run(s(61));
        world.set_up(0..2, false);
        let from = world.now();
        for _ in 0..100 {
            world.monitor.disturbed(disturbance, world.now());
            world.run(s(1));
        }
        let downs = world.downs(0);
        for (place, address) in [(0, v4(0)), (1, v6(1))] {
            let found = (address != spoiled).then(|| world.requests_of(place, from)[0] + s(9));
            assert_eq!(downs.get(&address).copied(), found, "{disturbance:?}: {address}");
        }
        world.check();
    }
}

#[test]
fn nobody_is_found_down_while_this_host_is_to_blame() {
    for (disturbance, why) in BLAME {
        let mut world = PeerWorld::with(&shipped(), 300);
        world.run(s(75));
        world.deaf = Some(disturbance);
        world.run(s(300));
        assert!(world.told.is_empty(), "{disturbance:?}: {:?}", world.told);
        assert!(inconclusive(&world, why) >= 300, "{disturbance:?}");
        assert_eq!(world.monitor.stats().groups[0].unanswered, 0, "{disturbance:?}");
        // It may be repeated, but is no flood: at most once per timeout and once per interval.
        assert!(world.sent.len() < 300 * (300 / 3 + 300 / 60 + 5), "{}", world.sent.len());
        world.deaf = None;
        // Who is dead then is found, as soon as anyone.
        world.set_up(0..30, false);
        let better = world.now();
        world.run(s(73));
        let downs = world.downs(0);
        assert_eq!(downs.len(), 30, "{disturbance:?}");
        assert!(downs.values().all(|down| down.since(better) <= s(72)), "{disturbance:?}");
        assert!(
            world.peers.iter().flatten().skip(30).all(|peer| !downs.contains_key(&peer.address))
        );
        world.check();
    }
}

#[test]
fn requests_that_the_kernel_did_not_take_say_nothing() {
    let mut world = PeerWorld::with(&shipped(), 300);
    world.run(s(75));
    world.send_fails = true;
    world.run(s(300));
    assert!(world.told.is_empty(), "{:?}", world.told);
    assert!(inconclusive(&world, Inconclusive::SendFailed) >= 300);
    assert_eq!(world.monitor.stats().groups[0].unanswered, 0);
    assert!(world.sent.len() < 300 * (300 / 3 + 300 / 60 + 5), "{}", world.sent.len());
    world.send_fails = false;
    let better = world.now();
    world.set_up(0..30, false);
    world.run(s(73));
    let downs = world.downs(0);
    assert_eq!(downs.len(), 30);
    assert!(downs.values().all(|down| down.since(better) <= s(72)));
    world.check();
}

#[test]
fn one_request_that_the_kernel_did_not_take_is_repeated() {
    // Which of the three tries.
    for failed in 0..3 {
        let mut world = PeerWorld::with(&shipped(), 1);
        world.run(s(50));
        world.peer(0).up = false;
        world.fails = Some(1 + failed);
        world.run(s(40));
        let first = world.sent[1].at;
        let down = world.told[0].finding.at.since(first);
        assert!((s(9)..=s(12)).contains(&down), "try {failed}: {down:?}");
        assert_eq!(world.requests_of(0, first).len(), 4, "try {failed}");
        assert_eq!(inconclusive(&world, Inconclusive::SendFailed), 1, "try {failed}");
        world.check();
    }
}

#[test]
fn a_stall_repeats_the_try_that_it_overlaps() {
    // The stall of 20 s begins so long after the first try; the peer is down so long after that, as
    // three tries were heard out.
    for begins in [1, 500, 2_999, 4_000, 7_000, 8_900] {
        let (mut world, first) = died();
        world.run_until(first + ms(begins));
        world.stall(s(20));
        world.run(s(25));
        let told = world.told_of(v4(0));
        assert_eq!(told.len(), 1, "stalled at {begins} ms: {told:?}");
        let down = told[0].1.since(first);
        assert!((s(26)..=s(33)).contains(&down), "stalled at {begins} ms: down after {down:?}");
        assert_eq!(world.view(0).unanswered, 3, "stalled at {begins} ms");
        assert_eq!(inconclusive(&world, Inconclusive::Stalled), 1, "stalled at {begins} ms");
        assert_eq!(world.monitor.stats().stalls, 1, "stalled at {begins} ms");
        world.check();
    }
}

#[test]
fn after_a_stall_of_20_s_nobody_is_down_that_answered_and_who_is_dead_is_found() {
    let mut world = PeerWorld::with(&shipped(), 20_000);
    for place in 0..20_000 {
        world.peer(place).round_trip = ms(1 + u64::from(place) % 2_900);
    }
    world.run(s(64));
    let (mut dead, mut died) = (Vec::new(), Vec::new());
    for round in 0..4u32 {
        // Some are dead for some time, and some have just died.
        for place in (round..20_000).step_by(100) {
            world.peer(place).up = false;
            dead.push(place);
            died.push(world.now());
        }
        world.run(ms(2_100));
    }
    world.stall(s(20));
    let back = world.now();
    // No burst afterwards: the driver holds every batch against its size and time.
    world.run(s(120));
    let downs = world.downs(0);
    assert_eq!(downs.len(), dead.len(), "the dead and nobody else");
    for (place, died) in dead.iter().zip(&died) {
        let down = downs[&v4(*place)];
        // 69 s as always; and 20 s, and the try that was repeated.
        assert!(down.since(*died) <= s(69 + 20 + 3 + 1), "peer {place}: {:?}", down.since(*died));
    }
    let stats = world.monitor.stats();
    assert_eq!((stats.stalls, stats.mass_silence), (1, false));
    let unanswered: u32 = world
        .monitor
        .peers()
        .filter(|view| view.state == PeerState::Alive)
        .map(|view| view.unanswered)
        .sum();
    assert_eq!(unanswered, 0, "who answered is not blamed");
    assert!(world.told.iter().all(|told| told.finding.cleared.is_none()));
    world.check();
    // And afterwards every peer has its phase again.
    let from = back + s(200);
    world.run_until(from);
    let before = world.sent.len();
    world.run(s(60));
    let sent = &world.sent[before..];
    assert_eq!(sent.iter().filter(|sent| !sent.retransmission).count(), 20_000);
    world.check();
}

#[test]
fn who_is_late_by_a_little_has_not_stalled() {
    let mut world = PeerWorld::with(&shipped(), 100);
    world.late_micros = 20_000;
    world.set_up(0..10, false);
    world.run(s(300));
    let stats = world.monitor.stats();
    assert_eq!((stats.stalls, stats.groups[0].inconclusive), (0, [0; 5]));
    assert_eq!(world.downs(0).len(), 10);
    world.check();
}

#[derive(Clone, Debug)]
enum Trouble {
    Fine(u64),
    Deaf(usize, u64),
    Stall(u64),
    SendFails(u64),
}

fn trouble() -> impl Strategy<Value = Trouble> {
    prop_oneof![
        (1..8_000u64).prop_map(Trouble::Fine),
        (0..3usize, 1..12_000u64).prop_map(|(kind, millis)| Trouble::Deaf(kind, millis)),
        (3_000..40_000u64).prop_map(Trouble::Stall),
        (1..12_000u64).prop_map(Trouble::SendFails),
    ]
}

proptest! {
    #![proptest_config(cases(100))]

    /// Whatever this host does, nobody is found down that is alive; and who is dead is found once it
    /// is over.
    #[test]
    fn no_trouble_of_this_host_takes_a_living_peer_down(
        troubles in proptest::collection::vec(trouble(), 1..25),
        (count, interval, timeout, max) in (1..60u32, 1..30u64, 300..4_000u64, 1..5u8),
        drain in prop_oneof![Just(None), (1..200u64).prop_map(|millis| Some(ms(millis)))],
    ) {
        let mut world =
            PeerWorld::with(&settings(&[group("all", s(interval), ms(timeout), max)]), count);
        world.drain = drain;
        // So that every peer has been heard by its interface.
        world.run(s(interval) + ms(200));
        for trouble in troubles {
            match trouble {
                Trouble::Fine(millis) => world.run(ms(millis)),
                Trouble::Deaf(kind, millis) => {
                    world.deaf = Some(BLAME[kind].0);
                    world.run(ms(millis));
                    world.deaf = None;
                }
                Trouble::Stall(millis) => world.stall(ms(millis)),
                Trouble::SendFails(millis) => {
                    world.send_fails = true;
                    world.run(ms(millis));
                    world.send_fails = false;
                }
            }
        }
        prop_assert!(world.told.is_empty(), "{:?}", world.told);
        // What was left of it is judged.
        world.run(ms(timeout) + ms(200));
        world.set_up(0..count, false);
        let dead = world.now();
        world.run(s(interval) + ms(timeout) * (u32::from(max) + 1) + s(1));
        let downs = world.downs(0);
        prop_assert_eq!(downs.len(), count as usize);
        let least = ms(timeout) * u32::from(max) - ms(200);
        prop_assert!(downs.values().all(|down| down.since(dead) + Duration::from_secs(1) > least));
        world.check();
    }
}
