//! What holds for every history (PEER-2, PEER-4, PEER-10), beside the rows that someone thought of. The
//! driver holds the batches, the rate of findings and the alternation of raise and clear in each of
//! them.

use std::time::Duration;

use evenkeel_core::{
    alarm::{ClearReason, Kind},
    peers::{
        Answer, Disturbance, PeerState, budget,
        settings::{Batches, Group, Settings},
    },
};
use proptest::prelude::*;

use crate::common::{
    peer_world::{PeerWorld, batch, chance, group, ms, s, v4, v6},
    sim::cases,
};

/// A group of chance's making: interval, timeout, retransmissions and recovery count by bits.
fn group_by(name: &str, bits: u32) -> Group {
    let interval = s([2, 3, 5, 10][(bits & 3) as usize]);
    let timeout = ms([200, 500, 1_000, 3_000][(bits >> 2 & 3) as usize]);
    let recovery_count = [1, 1, 2, 3][(bits >> 6 & 3) as usize].try_into().unwrap();
    let max = 1 + (bits >> 4 & 3) as u8;
    Group { recovery_count, limit: MOST as u32, ..group(name, interval, timeout, max) }
}

/// Settings by bits: three groups, and batches that are small enough to be filled; but which can carry
/// all peers of a history (PEER-8).
fn settings_by(bits: u32) -> Settings {
    let mut settings = small_settings_by(bits);
    while budget::check(&settings).is_err() {
        for batch in [&mut settings.batches.heartbeat, &mut settings.batches.retransmission] {
            batch.size = batch.size.saturating_add(1);
        }
    }
    settings
}

fn small_settings_by(bits: u32) -> Settings {
    let mut settings = Settings::default();
    for (name, shift) in [("a", 0), ("b", 8), ("c", 16)] {
        settings.groups.push(group_by(name, bits >> shift));
    }
    settings.batches = Batches {
        heartbeat: batch(4 + (bits >> 24 & 7), ms(50 + 10 * u64::from(bits >> 27 & 3))),
        retransmission: batch(1 + (bits >> 29 & 7), ms(100)),
    };
    settings
}

/// One thing to do. Numbers are turned into what they stand for when it is done.
#[derive(Clone, Debug)]
enum Op {
    /// Plays on, in milliseconds.
    Run(u64),
    /// Some peers live or die: so many of 256, drawn by a seed.
    Up(u64, u8, bool),
    /// Some peers lose so many of 256 requests.
    Loss(u64, u8),
    /// So many of 256 answers come twice.
    Twice(u8),
    Stall(u64),
    Deaf(Option<u8>),
    SendFails(bool),
    Disturbed(u8),
    Reconfigure(u32),
    /// Peers are added to free places.
    Add(u8, u8),
    Remove(u8, bool),
    Set(u8, u8, bool),
    Unsupported(u8),
    RestartCounter(u8, u32),
    /// An answer that nobody asked for: place, sequence, token, and whose source.
    Garbage(u32, u32, Option<u32>, u8),
    Late(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let millis = prop_oneof![Just(0u64), 1..300u64, 300..20_000u64];
    prop_oneof![
        12 => millis.prop_map(Op::Run),
        4 => (any::<u64>(), any::<u8>(), any::<bool>()).prop_map(|(a, b, c)| Op::Up(a, b, c)),
        2 => (any::<u64>(), any::<u8>()).prop_map(|(a, b)| Op::Loss(a, b)),
        1 => any::<u8>().prop_map(Op::Twice),
        1 => (1..60_000u64).prop_map(Op::Stall),
        2 => proptest::option::of(0..5u8).prop_map(Op::Deaf),
        1 => any::<bool>().prop_map(Op::SendFails),
        1 => (0..5u8).prop_map(Op::Disturbed),
        2 => any::<u32>().prop_map(Op::Reconfigure),
        3 => (1..40u8, 0..3u8).prop_map(|(a, b)| Op::Add(a, b)),
        2 => (any::<u8>(), any::<bool>()).prop_map(|(a, b)| Op::Remove(a, b)),
        2 => (any::<u8>(), 0..3u8, any::<bool>()).prop_map(|(a, b, c)| Op::Set(a, b, c)),
        1 => any::<u8>().prop_map(Op::Unsupported),
        1 => (any::<u8>(), 0..3u32).prop_map(|(a, b)| Op::RestartCounter(a, b)),
        2 => (0..70u32, any::<u32>(), any::<Option<u32>>(), 0..3u8)
            .prop_map(|(a, b, c, d)| Op::Garbage(a, b, c, d)),
        1 => (0..20_000u64).prop_map(Op::Late),
    ]
}

fn disturbance(kind: u8) -> Disturbance {
    match kind {
        0 => Disturbance::ReceiveDropped { v4: true },
        1 => Disturbance::ReceiveDropped { v4: false },
        2 => Disturbance::NeighbourTableFull { v4: true },
        3 => Disturbance::NeighbourTableFull { v4: false },
        _ => Disturbance::LinkDown { interface: 2 },
    }
}

/// The most peers of a history.
const MOST: usize = 60;

/// A place that is taken, by a number.
fn pick(world: &PeerWorld, number: u8) -> Option<u32> {
    let taken: Vec<u32> = (0..)
        .zip(&world.peers)
        .filter(|(_, peer)| peer.is_some())
        .map(|(place, _)| place)
        .collect();
    (!taken.is_empty()).then(|| taken[usize::from(number) % taken.len()])
}

fn act(world: &mut PeerWorld, addresses: &mut u32, op: &Op) {
    match *op {
        Op::Run(millis) => world.run(ms(millis)),
        Op::Up(seed, share, up) => {
            for (place, peer) in (0u32..).zip(&mut world.peers) {
                if let Some(peer) = peer
                    && chance(seed, place, 1) % 256 <= u64::from(share)
                {
                    peer.up = up;
                }
            }
        }
        Op::Loss(seed, share) => {
            for (place, peer) in (0u32..).zip(&mut world.peers) {
                if let Some(peer) = peer {
                    peer.loss = if chance(seed, place, 1).is_multiple_of(4) {
                        u16::from(share) << 8
                    } else {
                        0
                    };
                }
            }
        }
        Op::Twice(share) => world.twice = u16::from(share) << 8,
        Op::Stall(millis) => world.stall(ms(millis)),
        Op::Deaf(kind) => world.deaf = kind.map(disturbance),
        Op::SendFails(fails) => world.send_fails = fails,
        Op::Disturbed(kind) => world.monitor.disturbed(disturbance(kind), world.now()),
        Op::Reconfigure(bits) => world.reconfigure(&settings_by(bits)),
        Op::Add(count, group) => {
            for _ in 0..count {
                let free = world.peers.iter().position(Option::is_none);
                let place = free.unwrap_or(world.peers.len());
                if place >= MOST {
                    break;
                }
                *addresses += 1;
                let address =
                    if addresses.is_multiple_of(4) { v6(*addresses) } else { v4(*addresses) };
                let down = addresses.is_multiple_of(7);
                world.add(place as u32, address, u16::from(group), down);
            }
        }
        Op::Remove(number, off) => {
            if let Some(place) = pick(world, number) {
                let reason = if off { ClearReason::TurnedOff } else { ClearReason::Removed };
                world.remove(place, reason);
            }
        }
        Op::Set(number, group, enabled) => {
            if let Some(place) = pick(world, number)
                && world.view(place).state != PeerState::Unsupported
            {
                world.set(place, u16::from(group), enabled);
            }
        }
        Op::Unsupported(number) => {
            if let Some(place) = pick(world, number)
                && world.peer(place).enabled
            {
                world.unsupported(place);
            }
        }
        Op::RestartCounter(number, counter) => {
            if let Some(place) = pick(world, number) {
                world.monitor.restart_counter(place, counter, world.now());
            }
        }
        Op::Garbage(place, sequence, token, other) => {
            let peer = world.peers.get(place as usize).and_then(Option::as_ref);
            let source = peer.map_or(v4(0), |peer| peer.address);
            let source = if other == 0 { v4(sequence % 64) } else { source };
            let answer = Answer {
                place,
                source,
                sequence,
                token: Some(token.unwrap_or(0)),
                interface: None,
                received: world.now(),
                sent: None,
                restart_counter: Some(sequence),
            };
            let before = world.monitor.stats().discarded.iter().sum::<u64>();
            assert!(world.monitor.answer(&answer).is_err(), "one in 2^32");
            let after = world.monitor.stats().discarded.iter().sum::<u64>();
            assert_eq!(after, before + 1, "PEER-11: counted");
        }
        Op::Late(micros) => world.late_micros = micros,
    }
    world.check();
}

proptest! {
    #![proptest_config(cases(100))]

    /// PEER-10: whatever happens, batches, findings and lists stay in their bounds, raise and clear
    /// alternate; and at the end, when all has been told, what was told is what is, and that is right.
    #[test]
    fn any_history_ends_with_what_is_so(
        seed: u64,
        bits: u32,
        first in 1..MOST as u8,
        ops in proptest::collection::vec(op(), 1..60),
    ) {
        let mut world = PeerWorld::begun(&settings_by(bits), seed, seed % 5 == 0);
        let mut addresses = 0;
        act(&mut world, &mut addresses, &Op::Add(first, (seed % 3) as u8));
        for op in &ops {
            act(&mut world, &mut addresses, op);
        }
        // It ends: this host is well again, nothing is lost any more, and who is dead stays dead.
        (world.deaf, world.send_fails, world.twice, world.late_micros) = (None, false, 0, 0);
        for peer in world.peers.iter_mut().flatten() {
            peer.loss = 0;
        }
        // The slowest: mass silence with 4 heartbeats of 10 s each, and an interval until it ends, and
        // the fast timer again with 4 of 3 s.
        world.run(s(150));
        world.check();
        prop_assert_eq!(world.monitor.stats().untold, 0);
        for view in world.monitor.peers() {
            let peer = world.peers[view.place as usize].as_ref().unwrap();
            let right = match view.state {
                PeerState::Alive => peer.enabled && peer.up,
                PeerState::Down => peer.enabled && !peer.up,
                PeerState::Disabled => !peer.enabled,
                PeerState::Unsupported => peer.enabled,
                PeerState::Unknown | PeerState::Silent => false,
            };
            prop_assert!(right, "{:?}: {:?}", view, peer);
        }
        prop_assert!(!world.monitor.stats().mass_silence, "it is over when all are found");
    }

    /// PEER-2: any loss pattern whose runs stay under the retransmissions never takes a peer down; a
    /// dead peer always is found within the bound.
    #[test]
    fn a_peer_that_answers_one_of_its_tries_is_not_down_and_a_dead_one_is(
        seed: u64,
        count in 1..40u32,
        (interval_ms, timeout_ms, max) in (1_000..60_000u64, 500..5_000u64, 1..=6u8),
        loss in 10_000..60_000u16,
        again in 1..20u32,
        late_micros in prop_oneof![Just(0u64), 1..5_000u64],
    ) {
        let (interval, timeout) = (ms(interval_ms), ms(timeout_ms));
        let mut all = group("all", interval, timeout, max);
        all.limit = count;
        let mut settings = Settings { batches: Batches::DEFAULT, groups: vec![all] };
        settings.batches.retransmission = batch(again, ms(100));
        prop_assume!(budget::check(&settings).is_ok());
        let mut world = PeerWorld::begun(&settings, seed, false);
        world.add_all(0..count, 0);
        world.late_micros = late_micros;
        for place in 0..count {
            let peer = world.peer(place);
            (peer.loss, peer.longest_run) = (loss, u32::from(max) - 1);
        }
        world.run(interval * 20);
        let told = world.told_kind(Kind::PeerDown);
        prop_assert!(told.is_empty(), "{:?} by {:?}", told, settings);
        // Some die, fewer than a tenth or one: mass silence is no matter of theirs unless loss makes it
        // one, which is over when there is none.
        for place in 0..count {
            world.peer(place).loss = 0;
        }
        world.run(interval * 3 + timeout * 2);
        let died = world.now();
        let dead: Vec<u32> = (0..count).filter(|place| chance(seed, *place, 9).is_multiple_of(20)).collect();
        world.set_up(dead.iter().copied(), false);
        let tries = timeout * u32::from(max);
        let slow = interval.max(timeout) * u32::from(max) + interval + tries;
        world.run(interval + slow + s(1));
        let downs = world.downs(0);
        prop_assert_eq!(downs.len(), dead.len());
        let mass = !world.told_kind(Kind::MassSilence).is_empty();
        let bound = interval + if mass { slow } else { tries } + ms(20);
        for (address, down) in downs {
            let after = down.since(died);
            prop_assert!(after <= bound && after >= tries.saturating_sub(ms(100)), "{}: {:?} of {:?}", address, after, bound);
        }
        world.check();
    }
}

/// Nobody can be found down sooner than its tries take, whatever the interval.
#[test]
fn tries_are_never_heard_out_too_early() {
    for interval in [s(1), s(2), s(4), s(10)] {
        for again in [1, 5, 550] {
            let all = group("all", interval, s(3), 3);
            let mut settings = Settings { batches: Batches::DEFAULT, groups: vec![all] };
            settings.batches.retransmission = batch(again, ms(100));
            let mut world = PeerWorld::with(&settings, 50);
            world.run(interval * 2);
            let died = world.now();
            world.set_up(0..40, false);
            world.run(s(200));
            let downs = world.downs(0);
            assert_eq!(downs.len(), 40, "{interval:?} {again}");
            for place in 0..40 {
                let first = world.requests_of(place, died)[0];
                let after: Duration = downs[&v4(place)].since(first);
                assert!(after >= s(9), "{interval:?} {again}: peer {place} after {after:?}");
            }
            world.check();
        }
    }
}
