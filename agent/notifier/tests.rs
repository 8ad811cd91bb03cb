//! The rules of sending, by name, on a held clock; then the task around the machine, over loopback.

use std::{cell::Cell, collections::BTreeMap, rc::Rc, time::Duration};

use evenkeel_core::{
    alarm::{AlarmEvent, Kind, Severity},
    mib::{self, RootOid},
    notification::Start,
    sender::Version,
    trap::varbinds,
};

use super::simulation::{Answer, Chance, Link, World, event, taken, target};

const SEVERITIES: [Severity; 4] =
    [Severity::Critical, Severity::Major, Severity::Minor, Severity::Warning];

/// So many raises and clears about ten devices, of all severities.
fn storm(rows: u64) -> Vec<AlarmEvent> {
    (0..rows)
        .map(|row| {
            let (device, round) = (row % 10, row / 10);
            let severity = SEVERITIES[(device % 4) as usize];
            event(device * 1000 + round / 2, device as u8, severity, round % 2 == 1)
        })
        .collect()
}

#[test]
fn trap_11_an_nms_that_is_away_for_an_hour_gets_everything_and_little_is_sent_meanwhile() {
    let mut world = World::new(target(true));
    world.rows = storm(15);
    world.run_for(10);
    let gone = world.now;
    world.away.push_back((gone, world.after(3600)));
    world.rows.extend(storm(40).drain(15..));
    let before = world.left.len();
    world.run_for(3600);
    // Two, four, eight and sixteen seconds: the first four tries.
    assert_eq!(world.reach.len(), 2);
    assert_eq!(world.reach[0].unreachable, None);
    assert_eq!(world.reach[1].at, gone + Duration::from_secs(30));
    let why = world.reach[1].unreachable.as_ref().unwrap();
    assert_eq!(why, "no answer to 4 tries in 30s");
    let tries = world.left.len() - before;
    assert!((8 * 4 + 115..8 * 4 + 125).contains(&tries), "{tries}");

    let back = world.now;
    world.run_for(40);
    world.assert_all_arrived_in_order();
    assert_eq!(world.reach.len(), 3);
    assert_eq!(world.reach[2].unreachable, None);
    assert!(world.reach[2].at <= back + Duration::from_secs(31));
    assert!(world.received.last().unwrap().at <= world.reach[2].at + Duration::from_secs(1));
    assert_eq!(world.disk.0, 40);
}

#[test]
fn trap_11_an_nms_that_answers_every_third_request_gets_everything_and_is_not_unreachable() {
    let mut world = World::new(target(true));
    let asked = Cell::new(0);
    world.answer = Box::new(move |_| {
        asked.set(asked.get() + 1);
        if asked.get() % 3 == 0 { Answer::Acknowledge } else { Answer::Silence }
    });
    world.rows = storm(60);
    world.run_for(900);
    world.assert_all_arrived_in_order();
    assert_eq!(world.disk.0, 60);
    assert_eq!(world.most_open, 8, "the window is used");
    assert!(world.reach.iter().all(|reach| reach.unreachable.is_none()), "{:?}", world.reach);
    assert!(world.machine.stats(60, 0).retransmitted >= 100);
}

#[test]
fn trap_11_a_restart_of_the_agent_goes_on_and_tells_that_the_target_can_be_reached() {
    let mut world = World::new(target(true));
    world.away.push_back((world.now, world.after(100)));
    world.rows = storm(40);
    world.run_for(60);
    assert!(world.reach.last().unwrap().unreachable.is_some());
    world.restart(Some(Start::Warm));
    world.run_for(200);
    world.assert_all_arrived_in_order();
    // The alarm that the run before raised has its end.
    assert_eq!(world.reach.last().unwrap().unreachable, None);
    assert!(world.received[0].is_start(), "the start is told first");
    assert!(!world.received[1].is_start());

    // And of the NMS, again and again, with another of the agent in between.
    for down in 0..20 {
        let from = world.after(100 * down);
        world.away.push_back((from, from + Duration::from_secs(50)));
    }
    for row in storm(400).drain(40..) {
        world.rows.push(row);
        world.run_for(5);
        if world.rows.len() == 200 {
            world.restart(Some(Start::Warm));
        }
    }
    world.run_for(100);
    world.assert_all_arrived_in_order();
}

/// Loss of 30 %, datagrams that overtake each other and come twice, and an agent that is killed at any
/// moment, 1,000 times.
#[test]
fn trap_11_each_raise_and_clear_arrives_in_order_whatever_the_network_does() {
    for seed in 0..1000 {
        let mut chance = Chance(seed);
        let mut asked = target(true);
        asked.window = 1 + chance.below(12) as u16;
        asked.retries = chance.below(4) as u8;
        let mut world = World::new(asked);
        world.chance = Chance(seed << 32);
        world.link = Link { loss: 30, twice: 20, delay: (0, 3000) };
        let mut raised: BTreeMap<u8, (u64, bool)> = BTreeMap::new();
        for id in 0..12 {
            let device = chance.below(5) as u8;
            let (alarm, clear) = match raised.get(&device) {
                Some((alarm, false)) => (*alarm, true),
                Some((_, true)) | None => (id, false),
            };
            raised.insert(device, (alarm, clear));
            let severity = SEVERITIES[(alarm % 4) as usize];
            world.rows.push(event(alarm, device, severity, clear));
            let disk = world.disk;
            world.run_for(chance.below(4));
            if chance.percent(15) {
                // What was kept of the cursor last may not have reached the disk.
                if chance.percent(50) {
                    world.disk = disk;
                }
                world.restart(Some(Start::Warm));
            }
        }
        world.run_for(1200);
        world.assert_all_arrived_in_order();
        assert_eq!(world.disk.0, 12, "seed {seed}");
        let reach = world.reach.last().unwrap();
        assert_eq!(reach.unreachable, None, "seed {seed}");
    }
}

#[test]
fn trap_13_a_storm_leaves_by_severity_at_the_configured_rate_and_whole() {
    for confirmed in [false, true] {
        let mut world = World::new(target(confirmed));
        let mut chance = Chance(7);
        world.rows = (0..6000)
            .map(|id| {
                // Sixty devices, each with alarms of one severity only.
                let device = chance.below(60) as u8;
                event(id, device, SEVERITIES[usize::from(device % 4)], false)
            })
            .collect();
        world.run_for(60);
        world.assert_all_arrived_in_order();
        let severity = |seq: u64| world.rows[seq as usize - 1].alarm.severity;
        let left: Vec<Severity> =
            world.left.iter().map(|(_, id)| severity(u64::from(*id))).collect();
        assert_eq!(left.len(), 6000);
        if !confirmed {
            assert!(left.is_sorted(), "the most severe first");
        }
        let begin = world.left[0].0;
        for (place, (at, _)) in world.left.iter().enumerate() {
            let most = 50.0 + at.since(begin).as_secs_f64() * 500.0;
            assert!((place + 1) as f64 <= most + 1e-6, "{place} at {at:?}");
        }
        // 50 at once, and the others at 500 a second: the rate is used, too.
        let took = world.left.last().unwrap().0.since(begin);
        let expected = Duration::from_millis((6000 - 50) * 2);
        assert!(took >= expected && took < expected + Duration::from_millis(20), "{took:?}");
    }
}

/// What came later and is worse goes before what waits; what is less severe goes when nothing else does.
#[test]
fn trap_13_what_is_worse_goes_before_what_waits_and_nothing_waits_for_ever() {
    let mut slow = target(true);
    (slow.rate, slow.burst) = (1, 1);
    let mut world = World::new(slow);
    world.rows = (1..=10).map(|id| event(id, id as u8, Severity::Minor, false)).collect();
    world.run_for(3);
    world.rows.push(event(11, 11, Severity::Critical, false));
    // The clear of a minor alarm that waits itself: it must not overtake its raise.
    world.rows.push(event(9, 9, Severity::Minor, true));
    world.run_for(60);
    assert_eq!(world.first_arrivals(), [1, 2, 3, 11, 4, 5, 6, 7, 8, 9, 10, 12]);
}

#[test]
fn a_filter_holds_back_raise_and_clear_alike_and_the_cursor_goes_on() {
    let mut filtered = target(true);
    filtered.filter.least = Severity::Major;
    let mut world = World::new(filtered);
    world.rows = storm(40);
    world.run_for(10);
    let passes = |seq: &u64| world.rows[*seq as usize - 1].alarm.severity <= Severity::Major;
    assert_eq!(world.first_arrivals().len(), (1..=40).filter(passes).count());
    assert!(world.first_arrivals().iter().all(passes));
    assert_eq!(world.disk.0, 40);

    let mut filtered = target(true);
    filtered.filter.kinds = vec![Kind::SubnetDown];
    let mut world = World::new(filtered);
    world.rows = storm(40);
    world.run_for(10);
    assert_eq!((world.received.len(), world.disk.0), (0, 40));
}

/// An answer with an error says that the NMS has it: sending it again would bring the same answer.
#[test]
fn an_inform_that_is_refused_counts_as_delivered_and_is_told() {
    let mut world = World::new(target(true));
    world.answer = Box::new(|_| Answer::Refuse);
    world.rows = storm(5);
    world.run_for(100);
    assert_eq!(world.left.len(), 5);
    let stats = world.machine.stats(5, 0);
    assert_eq!((stats.refused, stats.acknowledged, stats.lag, world.disk.0), (5, 0, 0, 5));
    assert_eq!(stats.last_error.as_deref(), Some("refused: authorizationError"));
    assert!(stats.reachable);
}

#[test]
fn trap_11_what_was_pruned_before_it_was_sent_is_told() {
    let mut world = World::new(target(true));
    world.away.push_back((world.now, world.after(100)));
    world.rows = storm(100);
    world.pruned = 30;
    world.run_for(200);
    assert_eq!(world.machine.stats(100, 0).lost, 30);
    assert_eq!(world.first_arrivals().len(), 70);
    assert_eq!(world.disk.0, 100);
}

/// Far more than is held: the rest is read when there is room, and what is not kept is read again.
#[test]
fn trap_13_none_is_lost_of_more_than_fits_into_memory() {
    let mut fast = target(true);
    (fast.rate, fast.window) = (100_000, 1000);
    let mut world = World::new(fast);
    world.away.push_back((world.now, world.after(100)));
    world.rows = (0..30_000u64)
        .map(|id| event(id, (id % 250) as u8, SEVERITIES[(id % 250 % 4) as usize], false))
        .collect();
    world.run_for(100);
    assert_eq!(world.machine.stats(30_000, 0).lag, 30_000);
    world.run_for(200);
    world.assert_all_arrived_in_order();
    assert_eq!(world.disk.0, 30_000);
}

#[test]
fn trap_11_a_trap_target_that_refuses_is_told_and_misses_nothing_once_it_listens() {
    let mut world = World::new(target(false));
    world.rows = storm(5);
    world.run_for(5);
    assert_eq!(world.disk.0, 5);
    assert_eq!(world.reach.len(), 1, "settled, so reachable");
    world.refuses = true;
    let gone = world.now;
    world.away.push_back((gone, world.after(600)));
    world.rows = storm(25);
    world.run_for(600);
    assert_eq!(world.disk.0, 5);
    // Four errors, 250 ms, 500 ms and 1 s between them, and the round trip of 2 ms.
    assert_eq!(world.reach.len(), 2);
    assert_eq!(world.reach[1].at, gone + Duration::from_millis(1750 + 4 * 2));
    assert_eq!(world.reach[1].unreachable.as_deref(), Some("refused, 4 times in a row"));
    let tries = world.left.len();
    assert!(tries < 5 + 20 + 30, "{tries}: one alone while there are errors");
    let back = world.now;
    world.run_for(60);
    world.assert_all_arrived_in_order();
    assert_eq!(world.reach.len(), 3);
    assert_eq!(world.reach[2].unreachable, None);
    assert!(world.reach[2].at <= back + Duration::from_secs(31));
    assert_eq!(world.disk.0, 25);
}

/// Each datagram of a burst may bring a port unreachable of its own.
#[test]
fn a_burst_that_is_refused_is_one_error_in_a_row() {
    let mut world = World::new(target(false));
    world.refuses = true;
    world.away.push_back((world.now, world.after(1)));
    world.rows = storm(50);
    world.run_for(20);
    assert!(world.reach.iter().all(|reach| reach.unreachable.is_none()));
    world.assert_all_arrived_in_order();
}

#[test]
fn trap_8_forwarded_traps_follow_alarms_with_their_origin_and_in_the_order_of_their_system() {
    let mut slow = target(true);
    (slow.rate, slow.burst) = (10, 1);
    let mut world = World::new(slow);
    world.entries = (0..40).map(|number| taken((number % 4) as u8, number as usize)).collect();
    world.run_for(1);
    assert!(world.received.iter().all(|received| received.is_forwarded()));
    let before = world.received.len();
    world.rows = storm(10);
    world.run_for(30);
    assert!(world.received[before..][..10].iter().all(|received| received.seq.is_some()));
    let forwarded: Vec<_> = world.received.iter().filter(|one| one.is_forwarded()).collect();
    assert_eq!(forwarded.len(), 40);
    assert_eq!(world.disk, (10, Some(40)));
    for device in 0..4 {
        let of_it = forwarded.iter().filter(|one| (one.request_id - 1) % 4 == device);
        assert!(of_it.map(|one| one.request_id).is_sorted());
    }
    let list: Vec<_> = varbinds(&forwarded[0].varbinds).collect();
    assert_eq!(list[list.len() - 2].2, [192, 0, 2, 0], "snmpTrapAddress.0");
    assert_eq!(list[list.len() - 1].0, mib::forwarded_by(&RootOid::default()));
    assert_eq!(list[list.len() - 1].2, [0x80, 0, 0, 0, 7]);
}

/// One that is never answered, as the NMS can't read it, takes one place and not all.
#[test]
fn trap_11_a_forwarded_trap_that_is_never_answered_holds_nothing_else_up_and_is_given_up() {
    let mut world = World::new(target(true));
    world.answer = Box::new(|one| match one.request_id {
        0x4000_0001 => Answer::Silence,
        _ => Answer::Acknowledge,
    });
    world.entries = vec![taken(1, 0)];
    for row in storm(200) {
        world.rows.push(row);
        world.entries.push(taken(2, 0));
        world.run_for(5);
        assert_eq!(world.disk.0 as usize, world.rows.len());
    }
    let stats = world.machine.stats(200, 201);
    assert_eq!((stats.lost, stats.waiting_forwarded), (1, 0));
    assert_eq!(world.received.iter().filter(|one| one.request_id == 0x4000_0001).count(), 20);
    assert!(world.reach.iter().all(|reach| reach.unreachable.is_none()));
}

/// Whatever is never answered, alone, makes the target look unreachable; the first other thing shows that
/// it is not.
#[test]
fn trap_11_while_a_target_is_unreachable_each_try_is_another() {
    let mut world = World::new(target(true));
    world.answer = Box::new(|one| match one.request_id {
        0x4000_0001 => Answer::Silence,
        _ => Answer::Acknowledge,
    });
    world.entries = vec![taken(1, 0)];
    world.run_for(100);
    assert!(world.reach.last().unwrap().unreachable.is_some());
    world.rows = storm(1);
    world.run_for(31);
    assert_eq!(world.reach.last().unwrap().unreachable, None);
    world.assert_all_arrived_in_order();
}

#[test]
fn what_can_not_be_said_is_counted_and_the_rest_goes_on() {
    let mut world = World::new(target(true));
    world.entries = vec![taken(1, 70_000), taken(1, 10)];
    world.run_for(10);
    let stats = world.machine.stats(0, 2);
    assert_eq!((stats.lost, stats.sent, stats.acknowledged), (1, 1, 1));
    assert!(stats.last_error.is_none(), "something was acknowledged after it");
    assert_eq!(world.disk.1, Some(2));
}

#[test]
fn the_start_goes_first_and_alone_to_a_target_that_acknowledges() {
    let mut world = World::new(target(true));
    world.rows = storm(3);
    let asked = Rc::new(Cell::new(0));
    let count = Rc::clone(&asked);
    world.answer = Box::new(move |_| {
        count.set(count.get() + 1);
        if count.get() < 3 { Answer::Silence } else { Answer::Acknowledge }
    });
    world.restart(Some(Start::Cold));
    world.run_for(60);
    let starts: Vec<bool> = world.received.iter().map(|received| received.is_start()).collect();
    assert_eq!(starts, [true, true, true, false, false, false]);
    let ids: Vec<u32> = world.received[..3].iter().map(|received| received.request_id).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "a repeat carries the same request-id");
    world.assert_all_arrived_in_order();
}

#[test]
fn an_error_of_the_journal_is_told_and_it_is_read_again() {
    use super::machine::Action;
    let mut world = World::new(target(true));
    world.machine.told(5, 0);
    let now = world.now;
    let Action::Read(_) = world.machine.next(now) else { panic!("it reads") };
    world.machine.read_failed("disk I/O error".to_owned(), now);
    assert_eq!(world.machine.next(now), Action::Wait(Some(now + Duration::from_millis(250))));
    assert_eq!(world.machine.stats(5, 0).last_error.as_deref(), Some("disk I/O error"));
    assert!(matches!(world.machine.next(now + Duration::from_millis(250)), Action::Read(_)));
}

#[test]
fn the_form_says_how_a_target_is_spoken_to_and_no_secret() {
    let mut one = target(true);
    let form = |target| World::new(target).machine.stats(0, 0).form;
    assert_eq!(form(one.clone()), "v2c inform");
    one.destination.version = Version::V1 { community: b"secret".to_vec() };
    assert!(!one.acknowledges(), "SNMPv1 has no informs");
    assert_eq!(form(one), "v1 trap");
}
