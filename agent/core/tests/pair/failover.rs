//! Who takes over, when and why (PAIR-2 to PAIR-5, PAIR-10, PAIR-11, PAIR-15, PAIR-17).
//!
//! Heartbeats are sent each 500 ms, and each way takes a millisecond. Slot 0 is primary at first.

use evenkeel_core::{
    pair::{
        Input, Role,
        record::{Kind, Reason},
        settings::{Failback, Settings},
        version::Version,
    },
    time::Time,
};

use super::world::{World, ms, s, shipped, witnessed};

#[test]
fn pair_2_of_two_that_start_slot_0_is_primary_or_the_higher_priority() {
    for (priority, primary) in [(0, 0), (1, 1)] {
        let mut world = World::new(&shipped(), 1);
        world.hosts[1].settings.priority = priority;
        world.start(0);
        world.start(1);
        world.run(ms(100));
        assert_eq!(world.roles()[primary], Some(Role::Primary), "at once, as they hear each other");
        assert!(world.speaks(primary) && !world.speaks(1 - primary));
        assert_eq!(world.pair(primary).record().count, 0, "nobody took over from anybody");
    }
}

#[test]
fn pair_2_who_was_primary_in_the_highest_term_stays_primary() {
    let mut world = World::settled(&shipped());
    world.crash(0);
    world.run(s(5));
    // Both are gone, and come back: slot 1 has begun the higher term.
    world.crash(1);
    world.start(0);
    world.start(1);
    world.run(s(1));
    assert_eq!(world.roles(), [Some(Role::Standby), Some(Role::Primary)]);
    assert_eq!(world.pair(1).term().map(|term| term.number), Some(3), "each time a new term");
    assert_eq!(world.pair(1).record().count, 1, "that is no takeover");
}

#[test]
fn pair_1_who_hears_nobody_is_primary_after_the_mate_time_out() {
    let mut world = World::new(&shipped(), 1);
    world.start(1);
    let took = world.until_speaks(1);
    assert!(ms(3000) < took && took < ms(3500), "{took:?}");
    // The other one finds a primary, and does not take over.
    world.start(0);
    world.run(s(100));
    assert_eq!(world.roles(), [Some(Role::Standby), Some(Role::Primary)]);
    assert!(!world.pair(1).is_alone());
}

/// PAIR-10, row by row: what happens to the primary, what the standby then says of its takeover, within
/// which time it speaks, and how the other one comes back.
#[test]
fn pair_10_every_row_of_the_table() {
    type Trigger = fn(&mut World);
    let rows: [(&str, Trigger, Reason, Kind, u64); 7] = [
        ("process crash", |world| world.crash(0), Reason::MateSilent, Kind::Automatic, 4000),
        (
            "process crash, and it is back at once",
            |world| {
                world.crash(0);
                world.run(ms(300));
                world.start(0);
            },
            Reason::MateRestarted,
            Kind::Automatic,
            1000,
        ),
        (
            "process hangs, until the watchdog ends it",
            |world| {
                world.stall(0, s(20));
            },
            Reason::MateSilent,
            Kind::Automatic,
            4000,
        ),
        (
            "a part stalls",
            |world| world.tell(0, |at| Input::Parts { failing: true, at }),
            Reason::PartFailing,
            Kind::Automatic,
            1000,
        ),
        (
            "ordered by an operator",
            |world| world.failover(0),
            Reason::Operator,
            Kind::Ordered,
            1000,
        ),
        (
            "orderly stop, upgrade",
            |world| world.tell(0, |at| Input::Stopping { at }),
            Reason::MateStopping,
            Kind::Ordered,
            1000,
        ),
        ("host gone", |world| world.power_off(0), Reason::MateSilent, Kind::Automatic, 4000),
    ];
    for (row, trigger, reason, kind, within) in rows {
        // At any phase of the heartbeats.
        for phase in [0, 100, 250, 499] {
            let mut world = World::settled(&shipped());
            world.run(ms(phase));
            trigger(&mut world);
            let took = world.until_speaks(1);
            assert!(took <= ms(within), "PAIR-15: {row}: {took:?}");
            let last = world.pair(1).record().last.unwrap();
            assert_eq!((last.reason, last.kind), (reason, kind), "{row}");
            assert_eq!(last.degraded, None, "{row}");
            assert_eq!(world.pair(1).record().count, 1);
            assert!(!world.speaks(0), "{row}");
            // Its process ends and is started again: it is standby, and stays it.
            world.crash(0);
            world.run(s(1));
            world.start(0);
            world.run(s(120));
            assert_eq!(world.roles(), [Some(Role::Standby), Some(Role::Primary)], "{row}");
            let records = [0, 1].map(|host| world.pair(host).record());
            let known = records.map(|record| (record.count, record.last.map(|last| last.term)));
            assert_eq!(known[0], known[1], "both have the record: {row}");
            assert_eq!(known[0].0, 1, "{row}");
            assert_eq!(world.both_spoke, ms(0), "{row}");
        }
    }
}

#[test]
fn pair_10_a_host_that_loses_its_network_steps_back_and_comes_again_as_standby() {
    let mut world = World::settled(&witnessed());
    world.cut_both(true);
    world.hosts[0].witnessed = false;
    let took = world.until_speaks(1);
    assert!(took <= s(4), "PAIR-15: {took:?}");
    world.run(s(1));
    assert!(world.has("0 stepped back: CutOff"), "{}", world.timeline());
    assert_eq!(world.roles(), [Some(Role::Standby), Some(Role::Primary)]);
    assert_eq!(world.both_spoke, ms(0), "it fell silent before");
    world.run(s(10));
    world.cut_both(false);
    world.hosts[0].witnessed = true;
    world.run(s(10));
    assert_eq!(world.roles(), [Some(Role::Standby), Some(Role::Primary)]);
    assert!(!world.pair(1).is_alone());
}

#[test]
fn pair_10_a_host_says_itself_that_it_has_no_network() {
    // Without any witness.
    let mut world = World::settled(&shipped());
    world.cut_both(true);
    world.tell(0, |at| Input::Network { up: false, at });
    world.run(s(6));
    assert_eq!(world.roles(), [Some(Role::Standby), Some(Role::Primary)]);
    assert_eq!(world.both_spoke, ms(0));
}

/// The timeline of PAIR-17: the licence lapses 2 s after the last heartbeat, and the primary goes on
/// alone, in a new term, after 4 s.
#[test]
fn pair_17_a_primary_whose_standby_is_gone_is_silent_from_2_s_to_4_s() {
    for settings in [shipped(), witnessed()] {
        let mut world = World::settled(&settings);
        world.power_off(1);
        let (mut silent, mut alone) = (None, None);
        for millis in (0..6000).step_by(10) {
            match (world.speaks(0), silent) {
                (false, None) => silent = Some(millis),
                (true, Some(_)) if alone.is_none() => alone = Some(millis),
                _ => {}
            }
            world.run(ms(10));
        }
        let (silent, alone) = (silent.unwrap(), alone.unwrap());
        // The last heartbeat was heard up to 500 ms before.
        assert!((1500..=2010).contains(&silent), "{silent}");
        assert!((3500..=4020).contains(&alone), "{alone}");
        assert!((1990..=2020).contains(&(alone - silent)), "{silent} {alone}");
        assert_eq!(world.pair(0).term().map(|term| term.number), Some(2), "a new term");
        assert_eq!(world.pair(0).record().count, 0, "which is no takeover");
    }
}

#[test]
fn pair_17_a_primary_that_stood_still_does_not_speak_before_it_knows() {
    // The standby has taken over meanwhile.
    let mut world = World::settled(&shipped());
    world.stall(0, s(10));
    world.run(s(9));
    assert!(world.speaks(1));
    world.run(s(2));
    assert_eq!(world.roles(), [Some(Role::Standby), Some(Role::Primary)]);
    assert_eq!(world.both_spoke, ms(0));
    // There is no standby: it listens first, for as long as at the start.
    let mut world = World::settled(&shipped());
    world.power_off(1);
    world.run(s(20));
    assert!(world.speaks(0) && world.pair(0).is_alone());
    world.stall(0, s(10));
    world.run(s(10));
    assert!(!world.speaks(0));
    let took = world.until_speaks(0);
    assert!((ms(3500)..=ms(4100)).contains(&took), "{took:?}");
}

#[test]
fn pair_17_a_standby_that_stood_still_does_not_hold_it_against_its_mate() {
    for how_long in [1, 3, 10, 100] {
        let mut world = World::settled(&shipped());
        world.stall(1, s(how_long));
        world.run(s(how_long + 20));
        assert_eq!(world.roles(), [Some(Role::Primary), Some(Role::Standby)], "{how_long} s");
        assert!(world.speaks(0) && !world.pair(0).is_alone());
    }
    // Nor does a host that was suspended, which has heard nothing meanwhile.
    let mut world = World::settled(&shipped());
    world.cut(0, true);
    world.stall(1, s(10));
    world.run(ms(9_999));
    world.cut(0, false);
    world.run(s(20));
    assert_eq!(world.roles(), [Some(Role::Primary), Some(Role::Standby)]);
}

#[test]
fn pair_17_who_wakes_and_hears_another_primary_does_not_go_on_alone_before_that_one_steps_back() {
    // At any phase of the heartbeats of both.
    for (phase, delay) in (0..1000).step_by(20).flat_map(|phase| [(phase, 1), (phase, 400)]) {
        let mut world = World::new(&shipped(), 1);
        world.links.iter_mut().flatten().for_each(|link| link.delay = ms(delay));
        world.start(0);
        world.until_speaks(0);
        world.stall(0, s(12));
        // Almost as long as it takes until it is alone again, and it stands still once more.
        world.run(s(12) + ms(3_300 + phase));
        world.stall(0, s(10));
        world.run(ms(phase % 300));
        world.start(1);
        world.until_speaks(1);
        world.run(s(10));
        assert!(world.speaks(0), "{phase}: {}", world.timeline());
        assert_eq!(world.roles(), [Some(Role::Primary), Some(Role::Standby)], "{phase} {delay}");
        assert_eq!(world.both_spoke, ms(0), "{phase} {delay}: {}", world.timeline());
    }
}

#[test]
fn pair_5_the_former_primary_comes_back_as_standby_unless_failback_is_automatic() {
    let automatic = Settings { failback: Failback::Automatic { after: s(60) }, ..shipped() };
    for (settings, back) in [(shipped(), false), (automatic, true)] {
        let mut world = World::settled(&settings);
        world.crash(0);
        world.run(s(10));
        world.start(0);
        // It connects within 250 ms and copies for 200 ms; then the 60 s begin.
        world.run(s(60));
        assert_eq!(world.roles(), [Some(Role::Standby), Some(Role::Primary)]);
        world.run(s(2));
        assert_eq!(world.speaks(0), back);
        let record = world.pair(1).record();
        assert_eq!(record.count, 1 + u32::from(back));
        if back {
            assert_eq!(
                record.last.map(|last| last.kind),
                Some(Kind::Automatic),
                "PAIR-6: it counts"
            );
            // One of the lower priority never asks for it.
            world.crash(0);
            world.run(s(200));
            assert!(world.speaks(1));
        }
    }
}

#[test]
fn pair_11_a_takeover_in_the_midst_of_a_copy_is_degraded_and_says_what_was_not_there() {
    let mut world = World::settled(&shipped());
    world.crash(1);
    world.run(s(1));
    world.hosts[1].copy = None;
    world.start(1);
    world.run(s(5));
    assert_eq!(world.roles(), [Some(Role::Primary), Some(Role::Standby)]);
    // If the primary starts again it goes on itself, as only it has the state.
    world.crash(0);
    world.run(s(1));
    world.start(0);
    world.run(s(5));
    assert!(world.speaks(0));
    // If it does not, the standby is better than nobody.
    world.crash(0);
    world.run(s(5));
    assert!(world.speaks(1));
    let degraded = world.pair(1).record().last.unwrap().degraded.unwrap();
    let all = "without its alarms, objects, flows, peers, outbox, engines";
    assert_eq!(degraded.to_string(), all);
}

#[test]
fn pair_11_state_that_is_old_is_called_so() {
    let mut world = World::settled(&shipped());
    for from in 0..2 {
        world.links[from][2].cut = true;
    }
    world.run(s(100));
    assert_eq!(world.roles(), [Some(Role::Primary), Some(Role::Standby)], "PAIR-3");
    world.crash(0);
    world.run(s(5));
    let degraded = world.pair(1).record().last.unwrap().degraded.unwrap();
    let stale = degraded.stale.unwrap();
    assert!(s(98) < stale && stale < s(102), "{stale:?}");
}

#[test]
fn versions_that_differ_in_the_first_number_are_no_pair_and_say_so() {
    let version = |major, minor, patch| Version { major, minor, patch };
    for (theirs, takes_over) in
        [(version(1, 2, 9), true), (version(1, 3, 3), true), (version(2, 2, 3), false)]
    {
        let mut world = World::settled(&shipped());
        world.crash(1);
        world.run(s(1));
        world.hosts[1].version = theirs;
        world.start(1);
        world.run(s(5));
        let why =
            "the standby stays out: this agent is of version 1.2.3, its mate of version 2.2.3";
        assert_eq!(world.has(&format!("0 raise {why}")), !takes_over);
        assert!(world.speaks(0) && !world.pair(0).is_alone(), "it is heard, and gives licences");
        world.crash(0);
        world.run(s(10));
        assert_eq!(world.speaks(1), takes_over, "{theirs}");
        // With the same version again they are a pair.
        world.hosts[0].version = theirs;
        world.start(0);
        world.run(s(10));
        let why = "this agent is of version 2.2.3, its mate of version 1.2.3";
        assert_eq!(world.has(&format!("1 clear the standby stays out: {why}")), !takes_over);
        assert!(world.speaks(0) || world.speaks(1));
    }
}

#[test]
fn pair_14_clocks_that_differ_by_years_and_drift_change_nothing() {
    let mut world = World::new(&shipped(), 1);
    world.hosts[0].clock.offset = s(300_000_000);
    world.hosts[0].clock.drift = 500;
    world.hosts[1].clock.drift = -500;
    world.start(0);
    world.start(1);
    world.run(s(1000));
    assert!(world.speaks(0) && !world.pair(0).is_alone());
    world.crash(0);
    assert!(world.until_speaks(1) <= s(4));
    world.start(0);
    world.run(s(100));
    let record = world.pair(0).record();
    let shows: Time = record.last.unwrap().at;
    // In the clock of slot 0 it was about 100 s ago, although slot 1 noted it.
    let local = Time::from_secs(300_000_000) + world.now.since(Time::ZERO).mul_f64(1.0005);
    assert!((s(99)..s(102)).contains(&local.since(shows)), "{:?}", local.since(shows));
}
