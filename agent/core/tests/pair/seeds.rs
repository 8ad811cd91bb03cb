//! Chance plays with two agents: loss, delay, reordering, copies, one-way cuts, crashes, hosts that
//! vanish, stalls, clocks that differ and drift, slow disks, witnesses that can't be reached, operators
//! and orderly stops (PAIR-16). What must always be so is held by the world itself.
//!
//! `EVENKEEL_SEED=n` plays one seed again and prints its timeline; `EVENKEEL_SEEDS=n` plays so many, and
//! `EVENKEEL_FIRST_SEED=n` begins with this one.

use std::{env, panic, time::Duration};

use evenkeel_core::{
    pair::{
        Input, Order,
        settings::{Failback, Limit, Settings},
    },
    time::Time,
};

use super::world::{Chance, Link, World, ms, s, shipped};

/// How many are played unless it is said otherwise: what takes a core of the CI about a minute.
const SEEDS: u64 = 10_000;

/// How long each plays: a dozen takeovers' worth.
const PLAYED: Duration = s(90);

#[test]
fn pair_16_chance_finds_no_history_that_breaks_a_rule() {
    let number = |name| env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    if let Some(seed) = number("EVENKEEL_SEED") {
        let world = play(seed);
        println!("{}", world.timeline());
        return;
    }
    let seeds = number("EVENKEEL_SEEDS").unwrap_or(SEEDS);
    let first = number("EVENKEEL_FIRST_SEED").unwrap_or(0);
    let (mut takeovers, mut both_spoke) = (0, Duration::ZERO);
    for seed in first..first + seeds {
        let world = panic::catch_unwind(|| play(seed)).unwrap_or_else(|_| {
            panic!("it can be played again alone: EVENKEEL_SEED={seed}");
        });
        takeovers += world.takeovers.len();
        both_spoke += world.both_spoke;
    }
    println!(
        "{seeds} seeds from {first}, {takeovers} automatic takeovers, both spoke for {both_spoke:?}"
    );
    assert!(takeovers as u64 >= seeds / 2, "{takeovers} takeovers are too few to show anything");
}

/// What one seed has to do with: how wild its world is.
struct Wildness {
    /// Cuts happen.
    cuts: bool,
    /// So many of a hundred heartbeats are lost on each way.
    loss: u64,
}

fn play(seed: u64) -> World {
    let mut chance = Chance(seed);
    let settings = settings(&mut chance);
    let mut world = World::new(&settings, chance.next());
    let wild =
        Wildness { cuts: chance.percent(70), loss: [0, 0, 5, 20, 50][chance.below(5) as usize] };
    for from in 0..2 {
        for link in &mut world.links[from] {
            *link = link_by(&mut chance, &wild);
        }
        let host = &mut world.hosts[from];
        host.clock.offset = ms(chance.below(1_000_000_000));
        host.clock.drift = chance.below(401) as i64 - 200;
        host.disk_delay = ms([1, 5, 30][chance.below(3) as usize]);
        host.copy = Some(ms(50 + chance.below(3_000)));
    }
    if chance.percent(30) {
        world.hosts[1].settings.priority = 1;
    }
    for host in 0..2 {
        if !chance.percent(10) {
            world.start(host);
        }
        world.run(ms(chance.below(3_000)));
    }
    let end = world.now + PLAYED;
    let mut disturbed = world.now;
    while world.now < end {
        let ends = act(&mut world, &mut chance, &wild);
        disturbed = disturbed.max(ends);
        let until = world.now
            + ms(if chance.percent(50) { 1_000 } else { 12_000 } + 1)
                .mul_f64(chance.below(1_000) as f64 / 1_000.0);
        while world.now < until {
            world.run(ms(100));
            // Where half of the heartbeats are lost, some of the loss is a cut in all but name.
            let lossy = wild.loss > 20;
            assert!(lossy || !world.should_speak(disturbed), "nobody speaks: {}", world.timeline());
        }
    }
    if wild.loss == 0 && !world.was_split {
        assert_eq!(world.both_spoke, Duration::ZERO, "{}", world.timeline());
    }
    world
}

fn settings(chance: &mut Chance) -> Settings {
    let after = s(5);
    Settings {
        witnesses: chance.percent(50),
        failback: if chance.percent(30) { Failback::Automatic { after } } else { Failback::ByHand },
        limit: [None, Some(Limit::DEFAULT)][usize::from(chance.percent(40))],
        ..shipped()
    }
}

fn link_by(chance: &mut Chance, wild: &Wildness) -> Link {
    Link {
        cut: false,
        loss: wild.loss,
        twice: [0, 20][usize::from(chance.percent(30))],
        delay: ms([0, 1, 20][chance.below(3) as usize]),
        jitter: ms([0, 5, 100, 700][chance.below(4) as usize]),
    }
}

/// Does something, and says until when that disturbs.
fn act(world: &mut World, chance: &mut Chance, wild: &Wildness) -> Time {
    let host = chance.below(2) as usize;
    let mut ends = world.now;
    let note = |world: &mut World, what: &str| world.note(host, &format!("! {what}"));
    match (chance.below(20), world.hosts[host].pair.is_some()) {
        (0..=5, false) => {
            note(world, "starts");
            world.start(host);
        }
        (0..=1, true) => {
            note(world, "crashes");
            world.crash(host);
            if chance.percent(50) {
                world.run(ms(chance.below(4_000)));
                note(world, "starts");
                world.start(host);
                ends = world.now;
            }
        }
        (2, true) => {
            note(world, "vanishes");
            world.power_off(host);
        }
        (3, true) => {
            note(world, "is to stop");
            if world.hosts[host].is_awake() {
                world.stop(host);
                ends = world.now;
            }
        }
        (4..=6, true) => {
            let long =
                ms(if chance.percent(50) { 900 } else { 12_000 } * (1 + chance.below(9)) / 9);
            note(world, "stands still");
            world.stall(host, long);
            ends = world.now + long;
        }
        (7..=9, _) if wild.cuts => {
            let all = chance.percent(60);
            note(world, if all { "is cut off" } else { "is cut off one way" });
            world.cut(host, true);
            world.cut(1 - host, all);
        }
        (10, _) if wild.cuts => {
            let way = chance.below(3) as usize;
            note(world, &format!("way {way} is cut"));
            world.links[host][way].cut = true;
            world.was_split = true;
        }
        (11..=12, _) => {
            note(world, "all is well between the two");
            world.cut_both(false);
        }
        (13, _) => {
            world.hosts[host].witnessed = !world.hosts[host].witnessed;
            let now = if world.hosts[host].witnessed { "answers" } else { "does not answer" };
            note(world, &format!("the witness {now}"));
        }
        (14, _) => {
            note(world, "failover is ordered");
            world.order(host, Order::Failover);
        }
        (15, _) => {
            let order = if chance.percent(30) { Order::Hold } else { Order::Release };
            note(world, &format!("{order:?} is ordered"));
            world.order(host, order);
        }
        (16, true) => {
            note(world, "a part fails, and it is restarted");
            world.tell(host, |at| Input::Parts { failing: true, at });
            world.run(s(1));
            if world.hosts[host].is_awake() {
                world.crash(host);
                world.run(ms(chance.below(2_000)));
                world.start(host);
                ends = world.now;
            }
        }
        (17, true) if world.hosts[host].is_awake() => {
            let settings = settings(chance);
            note(world, "has other settings");
            world.reload(host, &settings);
        }
        _ => {}
    }
    ends.max(world.now)
}
