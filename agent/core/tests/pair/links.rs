//! What is lost between the two, and what is told of it (PAIR-3, PAIR-4, PAIR-8, PAIR-18).

use evenkeel_core::pair::{Role, settings::Settings};
use proptest::prelude::*;

use super::world::{World, ms, s, shipped, witnessed};

const SETTLED: [Option<Role>; 2] = [Some(Role::Primary), Some(Role::Standby)];

#[test]
fn pair_3_the_state_channel_alone_raises_an_alarm_and_moves_nothing() {
    let mut world = World::settled(&shipped());
    world.hosts[1].copy = Some(s(2));
    for from in 0..2 {
        world.links[from][2].cut = true;
    }
    world.run(s(60));
    assert_eq!(world.roles(), SETTLED);
    assert!(world.speaks(0) && !world.pair(0).is_alone());
    for host in 0..2 {
        assert!(world.has(&format!("{host} raise cannot read from the mate")), "{host}");
    }
    for from in 0..2 {
        world.links[from][2].cut = false;
    }
    world.run(s(30));
    assert_eq!(world.log.len(), 4, "raised and cleared on both: {}", world.timeline());
}

#[test]
fn pair_8_sync_lost_ends_with_the_synchronisation_and_not_with_the_connection() {
    let mut world = World::settled(&shipped());
    world.hosts[0].copy = Some(s(7));
    world.crash(1);
    world.run(s(10));
    world.start(1);
    // It is connected after 250 ms at most, and has copied after another 7 s.
    world.run(s(7));
    assert!(world.has("0 raise cannot read from the mate"));
    assert!(!world.has("0 clear cannot read from the mate"));
    world.run(ms(400));
    assert!(world.has("0 clear cannot read from the mate"), "{}", world.timeline());
}

#[test]
fn pair_8_sync_lost_is_raised_also_when_the_mate_was_shut_down() {
    let mut world = World::settled(&shipped());
    world.stop(1);
    // The standby has said goodbye: nobody waits for it.
    world.run(ms(5));
    assert!(world.speaks(0) && world.pair(0).is_alone());
    assert!(world.has("0 raise cannot read from the mate"), "{}", world.timeline());
    world.run(s(1000));
    assert!(!world.has("0 clear cannot read from the mate"), "by no timer");
}

#[test]
fn pair_3_one_path_of_two_raises_an_alarm_that_names_the_interface_and_moves_nothing() {
    let mut world = World::settled(&shipped());
    world.links[0][1].cut = true;
    world.run(s(10));
    assert_eq!(world.roles(), SETTLED);
    world.links[0][1].cut = false;
    world.run(s(10));
    let told: Vec<&str> = world.log.iter().map(|(_, line)| line.as_str()).collect();
    let path = "no heartbeat of the mate comes by eth1";
    assert_eq!(told, [format!("1 raise {path}"), format!("1 clear {path}")]);
    let raised = world.log[0].0;
    assert!((ms(2500)..=s(3)).contains(&raised), "a mate time-out after the last: {raised:?}");
}

#[test]
fn pair_3_the_paths_alone_move_nothing_while_the_state_channel_is_up() {
    let mut world = World::settled(&shipped());
    for from in 0..2 {
        world.links[from][0].cut = true;
        world.links[from][1].cut = true;
    }
    world.run(s(60));
    assert_eq!(world.roles(), SETTLED);
    assert!(world.speaks(0) && !world.pair(0).is_alone());
}

#[test]
fn pair_4_a_standby_that_is_cut_off_does_not_take_over_before_a_witness_answers() {
    let mut world = World::settled(&witnessed());
    world.cut_both(true);
    world.hosts[1].witnessed = false;
    world.run(s(30));
    assert_eq!(world.roles(), SETTLED);
    assert!(world.speaks(0) && world.pair(0).is_alone(), "the primary has its witness");
    let cut_off = "this agent reaches neither its mate nor a witness";
    assert!(world.has(&format!("1 raise {cut_off}")));
    // All comes back at once: it gives its mate the time to be heard.
    world.cut_both(false);
    world.hosts[1].witnessed = true;
    world.run(s(5));
    assert_eq!(world.roles(), SETTLED);
    assert!(world.has(&format!("1 clear {cut_off}")));
    // The witness answers and the mate still doesn't.
    world.power_off(0);
    world.hosts[1].witnessed = false;
    world.run(s(30));
    assert_eq!(world.roles()[1], Some(Role::Standby));
    world.hosts[1].witnessed = true;
    let took = world.until_speaks(1);
    assert!(took <= ms(1100), "an interval until it asks, one until it goes: {took:?}");
}

#[test]
fn pair_18_two_well_agents_that_are_cut_off_from_each_other_both_speak_and_become_one_again() {
    for settings in [shipped(), witnessed()] {
        let mut world = World::settled(&settings);
        world.cut_both(true);
        world.run(s(60));
        assert!(world.speaks(0) && world.speaks(1));
        assert!(world.both_spoke > s(50), "{:?}", world.both_spoke);
        world.cut_both(false);
        world.run(s(5));
        // Both have begun term 2; slot 0 is preferred.
        assert_eq!(world.roles(), SETTLED);
        assert!(world.has("1 stepped back: Met"));
        let both = world.both_spoke;
        world.run(s(60));
        assert_eq!(world.both_spoke, both);
        assert!(world.speaks(0) && !world.pair(0).is_alone());
    }
}

#[test]
fn pair_17_a_link_that_is_cut_for_a_moment_never_makes_two_speak() {
    for millis in (100..4000).step_by(100) {
        for directions in [[true, false], [false, true], [true, true]] {
            let mut world = World::settled(&shipped());
            world.cut(0, directions[0]);
            world.cut(1, directions[1]);
            world.run(ms(millis));
            world.cut_both(false);
            world.run(s(10));
            // Where it heals as the primary goes on alone, until the next heartbeat.
            let most = if millis <= 3000 { ms(0) } else { ms(501) };
            assert!(world.both_spoke <= most, "{millis} {directions:?}: {:?}", world.both_spoke);
            assert!(world.speaks(0) || world.speaks(1));
        }
    }
}

#[test]
fn pair_17_who_hears_but_is_not_heard_gives_way() {
    for deaf in 0..2 {
        let mut world = World::settled(&shipped());
        world.cut(1 - deaf, true);
        world.run(s(20));
        // The one that hears follows the one that does not: one voice.
        assert!(world.speaks(deaf) && !world.speaks(1 - deaf), "{}", world.timeline());
        world.cut_both(false);
        world.run(s(20));
        assert!(world.speaks(deaf) && !world.pair(deaf).is_alone());
    }
}

proptest! {
    #![proptest_config(crate::common::sim::cases(200))]

    /// PAIR-8: whatever is lost on whichever way, as long as of each time-out's worth of heartbeats one
    /// comes through, nobody takes over, and nobody goes on alone.
    #[test]
    fn pair_8_losses_below_the_time_out_never_lead_to_a_takeover(
        patterns in proptest::collection::vec((0..8u8, 0..8u8), 20..120),
        jitter in 0..200u64,
        seed: u64,
    ) {
        let settings: Settings = shipped();
        let mut world = World::settled(&settings);
        world.reseed(seed);
        for from in 0..2 {
            for link in &mut world.links[from] {
                link.jitter = ms(jitter);
            }
        }
        let mut run = [0, 0];
        for (zero, one) in patterns {
            for (from, bits) in [(0, zero), (1, one)] {
                // A bit for each way; the sixth in a row comes through at least by one.
                let all = bits == 7;
                run[from] = if all { run[from] + 1 } else { 0 };
                let bits = if run[from] == 6 { run[from] = 0; 3 } else { bits };
                for way in 0..3 {
                    world.links[from][way].cut = bits >> way & 1 == 1;
                }
            }
            // Each heartbeat is sent in one of these intervals.
            world.run(ms(500));
        }
        prop_assert!(world.takeovers.is_empty(), "{}", world.timeline());
        prop_assert_eq!(world.roles(), SETTLED);
    }
}
