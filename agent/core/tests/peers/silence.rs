//! PEER-9 and PEER-10: very many peers fall silent at once.

use std::{collections::BTreeMap, time::Duration};

use evenkeel_core::{
    alarm::{ClearReason, Kind},
    peers::settings::{Batches, Settings},
    time::Time,
};

use crate::common::{
    peer_world::{PeerWorld, batch, group, ms, s, shipped, v4},
    sim::at,
};

/// So many peers as shipped, all alive, between two sweeps.
fn alive(count: u32) -> PeerWorld {
    let mut world = PeerWorld::with(&shipped(), count);
    world.run(s(59));
    world
}

/// The first so many peers in the order in which they are asked.
fn first_asked(world: &PeerWorld, count: usize) -> Vec<u32> {
    world.sent.iter().take(count).map(|sent| sent.place).collect()
}

/// When each peer was first asked from a moment on.
fn first_tries(world: &PeerWorld, from: Time) -> Vec<Time> {
    let mut tries = vec![Time::MAX; world.peers.len()];
    for sent in world.sent.iter().rev().take_while(|sent| sent.at >= from) {
        tries[sent.place as usize] = sent.at;
    }
    tries
}

#[test]
fn twelve_thousand_eight_hundred_of_128_000_are_normal_however_they_lie() {
    let mut world = alive(128_000);
    let dead: [(&str, Vec<u32>); 3] = [
        ("spread evenly", (0..128_000).step_by(10).collect()),
        ("a block of places", (50_000..62_800).collect()),
        ("a block of the sweep", first_asked(&world, 12_800)),
    ];
    for (how, dead) in dead {
        assert_eq!(dead.len(), 12_800);
        let (died, told) = (world.now(), world.told.len());
        world.set_up(dead.iter().copied(), false);
        let mut most = 0;
        for _ in 0..70 {
            world.run(s(1));
            most = most.max(world.monitor.stats().silent);
        }
        assert_eq!(most, 12_800, "{how}: silent");
        let (downs, tries) = (world.downs(told), first_tries(&world, died));
        assert_eq!(downs.len(), 12_800, "{how}");
        for &place in &dead {
            let down = downs[&v4(place)];
            assert_eq!(down, tries[place as usize] + s(9), "{how}: peer {place}");
            assert!(down.since(died) <= s(69), "{how}: peer {place}");
        }
        assert_eq!(world.told.len() - told, 12_800, "{how}");
        world.check();
        world.set_up(dead, true);
        world.run(s(61));
        world.run(s(9));
        assert_eq!(world.told.len() - told, 25_600, "{how}: all are back");
        world.check();
    }
    assert!(world.told_kind(Kind::MassSilence).is_empty());
}

#[test]
fn one_more_is_mass_silence() {
    let mut world = alive(128_000);
    let died = world.now();
    let dead: Vec<u32> = (0..128_010).step_by(10).collect();
    let dead: Vec<u32> = dead.into_iter().map(|place| place.min(127_999)).collect();
    assert_eq!(dead.len(), 12_801);
    world.set_up(dead.iter().copied(), false);
    world.run(s(130));
    let tries = first_tries(&world, died);
    let last = dead.iter().map(|place| tries[*place as usize]).max().unwrap();
    let mass = world.told_kind(Kind::MassSilence);
    assert_eq!(mass.len(), 2, "{mass:?}");
    assert_eq!(mass[0], (None, last + s(3)), "with the 12,801st");
    let (why, over) = mass[1];
    assert_eq!(why, Some(ClearReason::Ended));
    let downs = world.downs(0);
    assert_eq!(downs.len(), 12_801);
    let mut waiting = 0;
    for &place in &dead {
        let (down, fast) = (downs[&v4(place)], tries[place as usize] + s(9));
        if fast <= mass[0].1 {
            assert_eq!(down, fast, "peer {place} was found before it began");
        } else {
            // Those that found before it began leave the count an interval later (PEER-9), and end
            // it; who waits then returns to the fast timer.
            waiting += 1;
            let anew = down.since(over);
            assert!((s(6)..=s(9) + ms(200)).contains(&anew), "peer {place}: {anew:?}");
        }
    }
    assert!(waiting > 1_000, "{waiting}");
    world.check();
}

#[test]
fn while_it_lasts_a_peer_is_down_after_its_retransmissions_by_the_heartbeat_interval() {
    // Three tenths of 20,000: the silent stay above 5 % for longer than it takes to find them.
    let mut world = alive(20_000);
    let died = world.now();
    world.set_up((0..20_000).filter(|place| place % 10 < 3), false);
    world.run(s(330));
    let mass = world.told_kind(Kind::MassSilence);
    assert_eq!(mass.len(), 2, "{mass:?}");
    let (began, over) = (mass[0].1, mass[1].1);
    let (downs, tries) = (world.downs(0), first_tries(&world, died));
    assert_eq!(downs.len(), 6_000);
    let mut slow = 0;
    for place in (0..20_000).filter(|place| place % 10 < 3) {
        let down = downs[&v4(place)].since(tries[place as usize]);
        if tries[place as usize] + s(9) <= began {
            assert_eq!(down, s(9), "peer {place}");
        } else {
            slow += 1;
            assert!((s(180)..=s(180) + ms(500)).contains(&down), "peer {place}: {down:?}");
        }
    }
    assert!(slow > 3_000, "{slow}");
    // Nobody is tried fast meanwhile.
    let again = |sent: &&crate::common::peer_world::Sent| {
        sent.retransmission && sent.at > began && sent.at < over
    };
    assert_eq!(world.sent.iter().filter(again).count(), 0);
    assert_eq!(world.told.len(), 6_002);
    world.check();
}

#[test]
fn a_peer_that_answers_meanwhile_is_not_found_down() {
    // In mass silence the tries are the heartbeats: one answer of three is enough.
    let mut world = alive(20_000);
    world.set_up((0..20_000).filter(|place| place % 10 < 9), false);
    world.run(s(100));
    let back: Vec<u32> = (0..20_000).filter(|place| place % 10 == 1).collect();
    world.set_up(back.iter().copied(), true);
    world.run(s(200));
    let downs = world.downs(0);
    let began = world.told_kind(Kind::MassSilence)[0].1;
    let before = downs.values().filter(|down| **down <= began).count();
    assert_eq!(before, 0, "all were silent before the first was down");
    assert!(back.iter().all(|place| !downs.contains_key(&v4(*place))));
    assert_eq!(downs.len(), 16_000);
    world.check();
}

#[test]
fn all_128_000_silent_and_back() {
    let mut world = alive(128_000);
    let died = world.now();
    world.set_up(0..128_000, false);
    world.run(s(170));
    assert_eq!(world.told.len(), 1, "mass silence, and nobody down yet");
    assert_eq!(world.monitor.stats().silent, 128_000);
    for _ in 0..60 {
        world.run(s(1));
        world.check_lists();
    }
    // Back while tens of thousands wait to be told: none is lost, and each has its clear.
    let back = world.now();
    assert!(world.monitor.stats().untold > 50_000);
    world.set_up(0..128_000, true);
    for _ in 0..61 {
        world.run(s(1));
        world.check_lists();
    }
    while world.monitor.stats().untold > 0 {
        world.run(s(1));
    }
    // At a thousand a second from the first on.
    let telling = world.now().since(died + s(180));
    assert!(telling <= s(260), "{telling:?}");
    let tries = first_tries(&world, died);
    let (mut raises, mut clears) = (0, 0);
    let answered = first_tries(&world, back);
    for told in &world.told {
        let finding = &told.finding;
        let evenkeel_core::alarm::Object::Peer(std::net::IpAddr::V4(address)) = finding.object
        else {
            continue;
        };
        let place = address.to_bits() - 0x0a00_0000;
        if finding.cleared.is_none() {
            raises += 1;
            let down = finding.at.since(tries[place as usize]);
            assert!((s(180)..=s(180) + ms(500)).contains(&down), "peer {place}: {down:?}");
        } else {
            clears += 1;
            assert_eq!(
                finding.at,
                answered[place as usize] + world.peers[place as usize].as_ref().unwrap().round_trip
            );
        }
    }
    assert_eq!((raises, clears), (128_000, 128_000));
    let mass = world.told_kind(Kind::MassSilence);
    assert_eq!(mass.len(), 2, "{mass:?}");
    // 12,801 are asked in 4.8 s, and silent 3 s later.
    assert!(mass[0].1.since(died) < s(9), "{:?}", mass[0]);
    assert!(mass[1].1 > back && mass[1].1.since(back) <= s(60), "{:?}", mass[1]);
    // PEER-10: never more packets in a second than both rates together.
    let mut in_second = BTreeMap::new();
    for sent in &world.sent {
        *in_second.entry(sent.at.since(at(0)).as_secs()).or_insert(0u32) += 1;
    }
    let most = in_second.values().max().unwrap();
    assert!(*most <= 5 * 550 + 10 * 550, "{most} in a second");
    world.check();
    // And then it is as before.
    let (died, told) = (world.now(), world.told.len());
    world.set_up(0..100, false);
    world.run(s(70));
    let (downs, tries) = (world.downs(told), first_tries(&world, died));
    for place in 0..100 {
        assert_eq!(downs[&v4(place)], tries[place as usize] + s(9), "peer {place}");
    }
}

#[test]
fn it_ends_at_a_twentieth_and_who_waits_returns_to_the_fast_timer() {
    let mut world = alive(20_000);
    let died = world.now();
    world.set_up(0..20_000, false);
    world.run(s(100));
    assert_eq!(world.monitor.stats().silent, 20_000);
    assert!(world.monitor.stats().mass_silence && world.told.len() == 1);
    // All but 1,000, that is 5 %, are back.
    world.set_up((0..20_000).filter(|place| place % 20 != 0), true);
    world.run(s(70));
    let mass = world.told_kind(Kind::MassSilence);
    assert_eq!(mass.len(), 2, "{mass:?}");
    let (over, tries) = (mass[1].1, first_tries(&world, died));
    assert!(over.since(died) > s(100) && over.since(died) <= s(160), "{over:?}");
    let downs = world.downs(0);
    assert_eq!(downs.len(), 1_000);
    for (address, down) in downs {
        let anew = down.since(over);
        assert!((s(6)..=s(9) + ms(200)).contains(&anew), "{address}: {anew:?}");
    }
    assert!(tries.iter().all(|first| *first + s(180) > over), "none for the slow timer");
    world.check();
    // With one more it does not end.
    let mut world = alive(20_000);
    world.set_up(0..20_000, false);
    world.run(s(100));
    world.set_up((0..20_000).filter(|place| place % 20 != 0 && *place != 2), true);
    world.run(s(70));
    assert_eq!(world.monitor.stats().silent, 1_001);
    assert_eq!(world.told_kind(Kind::MassSilence).len(), 1);
    world.check();
}

/// As shipped, for a tenth of the peers in one batch: an interval of 1 s has room for one only, so
/// that all are asked, and all who are dead are due, at once.
fn all_at_once() -> Settings {
    let batches = Batches { heartbeat: batch(12_800, ms(700)), retransmission: batch(55, ms(100)) };
    Settings { batches, groups: vec![group("all", s(1), s(3), 3)] }
}

#[test]
fn a_tenth_that_is_due_at_once_is_normal_and_one_more_is_not() {
    for (dead, mass) in [(1_280, false), (1_281, true)] {
        let mut world = PeerWorld::with(&all_at_once(), 12_800);
        world.run(ms(2_500));
        let died = world.now();
        world.set_up(0..dead, false);
        world.run(s(15));
        let tries = first_tries(&world, died);
        assert!(tries[..dead as usize].iter().all(|first| *first == tries[0]), "one batch");
        let downs = world.downs(0);
        assert_eq!(downs.len(), dead as usize);
        for (address, down) in downs {
            let after = down.since(tries[0]);
            if mass {
                // Slower is not sooner, though three intervals are only 3 s.
                assert!((s(9)..=s(13)).contains(&after), "{address}: {after:?}");
            } else {
                assert_eq!(after, s(9), "{address}");
            }
        }
        let told = world.told_kind(Kind::MassSilence);
        assert_eq!(!told.is_empty(), mass, "{told:?}");
        if mass {
            assert_eq!(told[0], (None, tries[0] + s(3)));
        } else {
            let again = world.sent.iter().filter(|sent| sent.retransmission).count();
            assert_eq!(again, 2 * dead as usize, "each is tried at 3 and 6 s");
        }
        world.check();
    }
}

#[test]
fn retransmissions_that_come_due_faster_than_they_leave_are_mass_silence_too() {
    // 600 of 20,000 are few, but the batches carry only 50 of them a second.
    let mut settings = shipped();
    settings.batches.retransmission = batch(5, ms(100));
    let mut world = PeerWorld::with(&settings, 20_000);
    world.run(s(59));
    let dead: Vec<u32> = world.sent.iter().take(600).map(|sent| sent.place).collect();
    world.set_up(dead, false);
    world.run(s(260));
    let mass = world.told_kind(Kind::MassSilence);
    assert!(!mass.is_empty() && mass.len() <= 20, "{}: {mass:?}", mass.len());
    assert_eq!(world.downs(0).len(), 600, "all are found in the end");
    world.check();
}

#[test]
fn peers_that_are_dead_for_ever_do_not_hold_up_the_finding_of_others() {
    // 15 % never answered: mass silence at first, which settles when all of them were found.
    let mut world = PeerWorld::with(&shipped(), 32_000);
    let dead = |place: &u32| place % 20 < 3;
    world.set_up((0..32_000).filter(dead), false);
    world.run(s(310));
    let mass = world.told_kind(Kind::MassSilence);
    assert_eq!(mass.len(), 2, "{mass:?}");
    assert_eq!(world.downs(0).len(), 4_800);
    let (died, told) = (world.now(), world.told.len());
    let new: Vec<u32> = (3..32_000).step_by(100).collect();
    world.set_up(new.iter().copied(), false);
    world.run(s(70));
    let (downs, tries) = (world.downs(told), first_tries(&world, died));
    assert_eq!(downs.len(), new.len());
    for place in new {
        let down = downs[&v4(place)];
        assert_eq!(down, tries[place as usize] + s(9), "peer {place}");
        assert!(down.since(died) <= s(69), "peer {place}");
    }
    assert_eq!(world.told_kind(Kind::MassSilence).len(), 2);
    world.check();
}

#[test]
fn who_was_down_in_an_earlier_run_is_no_mass_silence() {
    let mut world = PeerWorld::new(&shipped());
    for place in 0..10_000 {
        world.add(place, v4(place), 0, place % 20 < 3);
    }
    world.set_up((0..10_000).filter(|place| place % 20 < 3), false);
    world.run(s(300));
    assert!(world.told.is_empty());
    world.check();
}

#[test]
fn an_alarm_of_an_earlier_run_ends_when_few_are_silent_and_not_before() {
    for up in [true, false] {
        let mut world = PeerWorld::begun(&shipped(), 1, true);
        world.add_all(0..2_000, 0);
        world.set_up(0..2_000, up);
        world.run(s(230));
        let expected: &[Option<ClearReason>] = if up { &[Some(ClearReason::Ended)] } else { &[] };
        let mass = world.told_kind(Kind::MassSilence);
        let told: Vec<_> = mass.iter().map(|told| told.0).collect();
        assert_eq!(told, expected, "no restart produces a false clear; up: {up}, {mass:?}");
        world.check();
    }
}

#[test]
fn a_monitor_of_few_peers_knows_no_mass_silence() {
    // PEER-9: more than one retransmission batch.
    for (count, mass) in [(550, false), (551, true)] {
        let mut world = alive(count);
        world.set_up(0..count, false);
        world.run(s(70));
        assert_eq!(!world.told_kind(Kind::MassSilence).is_empty(), mass, "{count}");
        let found = if mass { 0..551 } else { 550..551 };
        assert!(found.contains(&world.downs(0).len()), "{count}: {}", world.downs(0).len());
        world.check();
    }
}

#[test]
fn findings_keep_the_moment_of_what_they_tell() {
    // PEER-10: told at a bounded rate, but of the moment when it was so.
    let mut world = PeerWorld::with(&all_at_once(), 12_800);
    world.run(ms(2_500));
    world.set_up(0..1_000, false);
    world.run(s(12));
    let of: Vec<Time> = world.told.iter().map(|told| told.finding.at).collect();
    assert_eq!(of.len(), 1_000);
    assert!(of.iter().all(|of_when| *of_when == of[0]), "all in one moment");
    let (first, last) = (world.told[0].told, world.told[999].told);
    assert!(last.since(first) >= Duration::from_millis(900), "{first:?} to {last:?}");
    assert!(last.since(first) <= Duration::from_millis(1_100), "{first:?} to {last:?}");
}
