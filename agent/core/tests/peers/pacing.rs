//! PEER-1, PEER-4 and PEER-7: who is asked when.

use std::{collections::BTreeMap, time::Duration};

use evenkeel_core::{
    alarm::ClearReason,
    peers::settings::{Batches, Group, Settings},
    time::Time,
};
use proptest::prelude::*;

use crate::common::{
    peer_world::{PeerWorld, batch, chance, group, ms, s, settings, shipped},
    sim::{at, cases},
};

/// A minute, as shipped.
const INTERVAL: Duration = s(60);

/// Every gap between heartbeats of these peers is exactly the interval.
#[track_caller]
fn assert_exact(world: &PeerWorld, places: impl IntoIterator<Item = u32>, interval: Duration) {
    let heartbeats = world.heartbeats();
    for place in places {
        for gap in heartbeats[place as usize].windows(2) {
            assert_eq!(gap[1].since(gap[0]), interval, "peer {place} at {:?}", gap[1]);
        }
    }
}

/// Each heartbeat of a peer is within so much of its first one and a whole number of intervals, and
/// none is left out from the first to the end.
#[track_caller]
fn assert_on_phase(sent: &[Time], interval: Duration, within: Duration, end: Time) {
    for (round, sent_at) in (0u32..).zip(sent) {
        let due = sent[0] + interval * round;
        let off = sent_at.since(due).max(due.since(*sent_at));
        assert!(off <= within, "heartbeat {round} is off by {off:?}: {sent_at:?}, due {due:?}");
    }
    let rounds = sent.len() as u32;
    assert!(rounds > 0 && sent[0] + interval * rounds + within > end - within, "{rounds} rounds");
}

/// How many heartbeats left in each batch, by the moment.
fn batches(world: &PeerWorld) -> BTreeMap<Time, u32> {
    let mut batches = BTreeMap::new();
    for sent in world.sent.iter().filter(|sent| !sent.retransmission) {
        *batches.entry(sent.at).or_insert(0) += 1;
    }
    batches
}

#[test]
fn a_week_has_exactly_one_heartbeat_per_minute_and_no_drift() {
    let mut world = PeerWorld::with(&shipped(), 7);
    world.run(s(7 * 24 * 3600) - ms(1));
    assert_exact(&world, 0..7, INTERVAL);
    for (place, sent) in (0..).zip(world.heartbeats()) {
        assert_eq!(sent.len(), 7 * 24 * 60, "peer {place}");
    }
    assert!(world.told.is_empty());
    world.check();
}

#[test]
fn a_driver_that_is_late_by_chance_adds_no_drift() {
    let mut world = PeerWorld::with(&shipped(), 3);
    world.late_micros = 10_000;
    world.run(s(2 * 24 * 3600));
    for sent in world.heartbeats() {
        assert_on_phase(&sent, INTERVAL, ms(20), world.now());
    }
    assert!(world.told.is_empty());
}

#[test]
fn any_number_of_peers_is_spread_evenly_over_the_sweep() {
    // PEER-8: a sweep takes seven ninths of the interval, which has room for 233 batches.
    let (slots, sweep) = (233, INTERVAL * 7 / 9);
    for count in [1, 2, 3, 5, 8, 50, 116, 232, 233, 234, 466, 10_000, 64_001, 128_000] {
        let mut world = PeerWorld::with(&shipped(), count);
        world.run(INTERVAL - ms(1));
        let batches = batches(&world);
        assert_eq!(world.sent.len(), count as usize, "{count}: each peer once");
        let (first, last) = (*batches.keys().next().unwrap(), *batches.keys().next_back().unwrap());
        assert!(last.since(first) < sweep, "{count}: {:?}", last.since(first));
        let even = count / slots..=count.div_ceil(slots);
        assert!(batches.values().all(|batch| even.contains(batch)), "{count}: {batches:?}");
        assert_eq!(batches.len() as u32, count.min(slots), "{count}");
        if (2..=slots).contains(&count) {
            // Few peers are spread too: nowhere in the sweep are there many more or fewer than even.
            for (before, sent) in (0u32..).zip(batches.keys()) {
                let even = sent.since(at(0)).as_secs_f64() / sweep.as_secs_f64() * f64::from(count);
                assert!((f64::from(before) - even).abs() <= 4.0, "{count}: {before} before {even}");
            }
            let gaps = batches.keys().zip(batches.keys().skip(1)).map(|(a, b)| b.since(*a));
            let widest = gaps.max().unwrap();
            assert!(widest <= sweep * 3 / count + ms(400), "{count}: a gap of {widest:?}");
        }
    }
}

#[test]
fn a_full_house_is_asked_exactly_once_a_minute() {
    let mut world = PeerWorld::with(&shipped(), 128_000);
    world.run(INTERVAL * 3 - ms(1));
    assert_exact(&world, 0..128_000, INTERVAL);
    assert!(world.heartbeats().iter().all(|sent| sent.len() == 3));
    assert!(world.told.is_empty());
    let stats = world.monitor.stats();
    let (sweep, group) = (stats.groups[0].sweep.unwrap(), &stats.groups[0]);
    // PEER-8 has 46.6 s of batches; from the first to the last of 233, spread over 46.67 s.
    assert!((ms(46_400)..=ms(46_667)).contains(&sweep), "{sweep:?}");
    assert_eq!((group.heartbeats, group.retransmissions), (3 * 128_000, 0));
    assert_eq!(stats.discarded, [0; 7]);
    world.check();
}

#[test]
fn peers_that_come_and_go_in_slices_leave_the_others_alone() {
    let mut world = PeerWorld::with(&shipped(), 2_000);
    world.run(s(130));
    for slice in 0..20 {
        world.add_all(2_000 + slice * 500..2_500 + slice * 500, 0);
        for place in 1_000 + slice * 50..1_050 + slice * 50 {
            world.remove(place, ClearReason::TurnedOff);
        }
        world.run(ms(37));
    }
    world.run(s(200));
    assert_exact(&world, (0..1_000).chain(2_000..12_000), INTERVAL);
    let heartbeats = world.heartbeats();
    for sent in &heartbeats[..1_000] {
        assert_on_phase(sent, INTERVAL, Duration::ZERO, world.now());
    }
    assert!(heartbeats[2_000..].iter().all(|sent| sent.len() >= 3), "new peers too");
    assert!(world.told.is_empty());
    world.check();
}

/// Batches so small in time that groups do not push each other.
fn fine(groups: &[Group]) -> Settings {
    let batches = Batches { heartbeat: batch(550, ms(1)), retransmission: batch(550, ms(1)) };
    Settings { batches, groups: groups.to_vec() }
}

#[test]
fn groups_with_other_intervals_share_the_batches() {
    // PEER-7: each keeps its own times; sharing a batch may hold one up by some batches, for ever the
    // same.
    let groups =
        [group("a", s(10), s(1), 3), group("b", s(60), s(3), 3), group("c", s(25), s(2), 5)];
    let mut world = PeerWorld::new(&settings(&groups));
    world.add_all(0..2_000, 0);
    world.add_all(2_000..30_000, 1);
    world.add_all(30_000..34_000, 2);
    world.run(s(300));
    for (place, sent) in (0..).zip(world.heartbeats()) {
        let interval = groups[usize::from(world.peer(place).group)].interval;
        assert_on_phase(&sent, interval, ms(1_000), world.now());
    }
    assert!(world.told.is_empty());
    world.check();
    // Some of each die in the same moment, and each is found by its own group's times.
    let died = world.now();
    let dead: Vec<u32> = (0..34_000).step_by(170).collect();
    world.set_up(dead.iter().copied(), false);
    world.run(s(80));
    let downs = world.downs(0);
    assert_eq!(downs.len(), dead.len());
    for place in dead {
        let Group { interval, timeout, max_retransmissions, .. } =
            groups[usize::from(world.peer(place).group)];
        let all_tries = timeout * u32::from(max_retransmissions.get());
        let first = world.requests_of(place, died)[0];
        let down = downs[&world.peer(place).address];
        assert_eq!(down.since(first), all_tries, "peer {place}");
        assert!(down.since(died) <= interval + all_tries + ms(1_000), "peer {place}");
    }
    assert_eq!(world.told.len(), downs.len());
    world.check();
}

#[test]
fn a_reload_of_one_group_leaves_the_phase_of_the_others() {
    let (a, b) = (group("a", s(60), s(3), 3), group("b", s(20), s(1), 2));
    let mut world = PeerWorld::new(&fine(&[a.clone(), b.clone()]));
    world.add_all(0..300, 0);
    world.add_all(300..600, 1);
    world.run(s(130));
    let steps = [
        Group { interval: s(30), ..b.clone() },
        Group { timeout: ms(500), ..b.clone() },
        Group { interval: s(7), max_retransmissions: a.max_retransmissions, ..b.clone() },
        b.clone(),
    ];
    for (slice, step) in (0..).zip(steps) {
        let interval = step.interval;
        world.reconfigure(&fine(&[a.clone(), step]));
        for place in 600 + slice * 100..700 + slice * 100 {
            world.add_all([place], 1);
            world.remove(place - 300, ClearReason::TurnedOff);
        }
        let changed = world.now();
        world.run(s(150));
        // Who changed follows its new interval, after a first heartbeat within the longer of both.
        for place in 400 + slice * 100..700 + slice * 100 {
            let sent = world.requests_of(place, changed);
            assert!(sent[0].since(changed) <= s(31), "peer {place}, step {slice}");
            assert_on_phase(&sent[1..], interval, ms(10), world.now());
        }
    }
    let heartbeats = world.heartbeats();
    for sent in &heartbeats[..300] {
        assert_on_phase(sent, INTERVAL, ms(10), world.now());
    }
    assert!(world.told.is_empty());
    world.check();
}

#[test]
fn times_and_batches_may_change_while_it_runs() {
    let few = Batches { heartbeat: batch(40, ms(50)), retransmission: batch(40, ms(50)) };
    let mut world = PeerWorld::with(&shipped(), 2_000);
    world.run(s(100));
    let mut settings = settings(&[group("all", s(10), ms(1_500), 2)]);
    settings.batches = few;
    world.reconfigure(&settings);
    world.run(s(60));
    let settled = world.now();
    world.run(s(50));
    for place in 0..2_000 {
        assert_on_phase(&world.requests_of(place, settled), s(10), Duration::ZERO, world.now());
    }
    let died = world.now();
    world.set_up(0..100, false);
    world.run(s(30));
    let downs = world.downs(0);
    assert_eq!(downs.len(), 100);
    for place in 0..100 {
        let first = world.requests_of(place, died)[0];
        assert_eq!(downs[&world.peer(place).address].since(first), s(3), "peer {place}");
    }
    assert_eq!(world.told.len(), 100);
    world.check();
}

#[test]
fn a_group_that_moves_in_the_settings_keeps_its_name_and_its_times() {
    let (a, b) = (group("a", s(60), s(3), 3), group("b", s(20), s(1), 2));
    let mut world = PeerWorld::new(&fine(&[a.clone(), b.clone()]));
    world.add_all(0..20, 0);
    world.add_all(20..40, 1);
    world.run(s(130));
    world.reconfigure(&fine(&[b, a]));
    for place in 0..40 {
        let group = u16::from(place < 20);
        world.set(place, group, true);
    }
    world.run(s(200));
    for (place, sent) in (0..).zip(world.heartbeats()) {
        let interval = if place < 20 { s(60) } else { s(20) };
        assert_on_phase(&sent, interval, ms(10), world.now());
    }
    assert!(world.told.is_empty());
    world.check();
}

#[test]
fn whole_rounds_that_were_missed_are_skipped_and_the_phase_is_kept() {
    let mut world = PeerWorld::with(&shipped(), 50);
    world.run(s(150));
    world.stall(s(630));
    let back = world.now();
    world.run(s(300));
    assert!(world.monitor.stats().skipped >= 50 * 9, "{}", world.monitor.stats().skipped);
    for (place, sent) in (0..).zip(world.heartbeats()) {
        let late = sent.iter().filter(|sent| **sent >= back);
        // What was due in the last round leaves at once, the rest when it is due.
        let (on_phase, off): (Vec<&Time>, Vec<&Time>) =
            late.partition(|late| late.since(sent[0]).as_nanos() % INTERVAL.as_nanos() == 0);
        assert!((4..=6).contains(&on_phase.len()) && off.len() <= 1, "peer {place}: {off:?}");
    }
    assert!(world.told.is_empty());
    world.check();
}

#[test]
fn more_peers_than_the_batches_carry_wait_their_turn() {
    // PEER-6: a limit that was lowered drops nobody, so that there may be more than new batches carry.
    let mut world = PeerWorld::with(&shipped(), 1_000);
    world.run(s(70));
    let mut settings = shipped();
    settings.batches.heartbeat = batch(2, ms(200));
    world.reconfigure(&settings);
    let changed = world.now();
    world.run(s(1_000));
    for place in 0..1_000 {
        let sent = world.requests_of(place, changed);
        assert!(sent.len() >= 8, "peer {place} was asked {} times", sent.len());
    }
    assert!(world.told.is_empty());
    world.check();
}

proptest! {
    #![proptest_config(cases(60))]

    /// PEER-4, for any batches and any number of peers that PEER-8 accepts.
    #[test]
    fn each_peer_is_asked_once_per_interval_evenly(
        (size, batch_ms, interval_ms) in (1..8u32, 1..400u64, 1_000..20_000u64),
        fill in 1..=100u32,
        late_micros in prop_oneof![Just(0u64), 1..5_000u64],
    ) {
        let slots = (interval_ms * 7 / 9 / batch_ms) as u32;
        prop_assume!(slots > 0);
        let count = (slots.min(400) * size * fill).div_ceil(100);
        let interval = ms(interval_ms);
        let mut settings = settings(&[group("all", interval, ms(300), 3)]);
        settings.batches.heartbeat = batch(size, ms(batch_ms));
        let mut world = PeerWorld::with(&settings, count);
        world.run(interval - ms(1));
        let batches = batches(&world);
        prop_assert_eq!(world.sent.len() as u32, count);
        let even = count / slots..=count.div_ceil(slots);
        prop_assert!(batches.values().all(|batch| even.contains(batch)), "{:?}", batches);
        world.late_micros = late_micros;
        world.run(interval * 3);
        for sent in world.heartbeats() {
            // A batch that is late holds up the next one where they leave as fast as they may; what
            // adds up so is made up for in the slack before the next sweep.
            let within = Duration::from_micros(late_micros) * (slots + 1);
            assert_on_phase(&sent, interval, within, world.now());
        }
        prop_assert!(world.told.is_empty());
        world.check();
    }

    /// The deadline is never too late: who wakes up more often sees the same.
    #[test]
    fn waking_up_more_often_changes_nothing(seed: u64, count in 1..80u32, drain in 1..300u64) {
        let told = |drain| {
            let groups = [group("a", s(5), ms(700), 3), group("b", s(2), s(1), 4)];
            let mut settings = settings(&groups);
            settings.batches.heartbeat = batch(20, ms(50));
            let mut world = PeerWorld::begun(&settings, seed, false);
            for place in 0..count {
                world.add_all([place], (place % 2) as u16);
                world.peer(place).loss = 20_000;
            }
            world.drain = drain;
            for _ in 0..8 {
                world.run(ms(2_500));
                let (hit, now) = (chance(seed, 7, world.now().as_millis() as u32), world.now());
                world.set_up([(hit % u64::from(count)) as u32], now.as_millis() % 2_000 != 0);
            }
            (world.sent, world.told)
        };
        let (sent, findings) = told(None);
        let (sent_too, findings_too) = told(Some(ms(drain)));
        prop_assert_eq!(sent, sent_too);
        let told = |told: Vec<crate::common::peer_world::Told>| {
            let mut told: Vec<_> = told.into_iter().map(|told| told.finding).collect();
            told.sort_by_key(|finding| (finding.object.to_string(), finding.at));
            told
        };
        prop_assert_eq!(told(findings), told(findings_too));
    }
}
