//! PAIR-9: signs of life as rows, one column for each look, on a clock that is held.

use std::time::Duration;

use evenkeel_core::{
    supervision::{Event, LAST_WORDS, PATIENCE, Part, Settings, Sign, Signs, Supervision},
    time::Time,
};
use proptest::prelude::*;

const INTERVAL: u64 = 500;

/// A supervisor and the parts in front of it.
struct World {
    supervision: Supervision,
    signs: Signs,
    now: u64,
}

impl World {
    fn new(settings: Settings, paired: bool) -> World {
        let supervision = Supervision::new(settings, paired);
        let mut world = World { supervision, signs: [Some(Sign::default()); Part::COUNT], now: 0 };
        assert_eq!(world.look(0), []);
        world
    }

    fn alone() -> World {
        World::new(Settings::default(), false)
    }

    fn of_a_pair() -> World {
        World::new(Settings::default(), true)
    }

    fn now(&self) -> Time {
        Time::from_millis(self.now)
    }

    /// Every part but this one gives a sign.
    fn all_but(&mut self, silent: Option<Part>) {
        for part in Part::ALL.into_iter().filter(|part| Some(*part) != silent) {
            if let Some(sign) = &mut self.signs[part as usize] {
                sign.count += 1;
            }
        }
    }

    fn at_disk(&mut self, part: Part, at_disk: bool) {
        self.signs[part as usize].as_mut().unwrap().at_disk = at_disk;
    }

    fn look(&mut self, after: u64) -> Vec<Event> {
        self.now += after;
        self.supervision.look(&self.signs, self.now());
        self.events()
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.supervision.poll_event()).collect()
    }

    /// So many looks at which this part is silent, and what came of each that had an outcome, by the
    /// number of the look.
    fn silent(&mut self, part: Part, looks: u32) -> Vec<(u32, Event)> {
        let mut all = Vec::new();
        for number in 1..=looks {
            self.all_but(Some(part));
            all.extend(self.look(INTERVAL).into_iter().map(|event| (number, event)));
        }
        all
    }

    /// The row of one part: `!` a sign, `.` none, `Z` the process was stopped for 10 s and no sign came,
    /// `z` the same and one came. Gives the numbers of the looks that found it stalled, and well again.
    fn row(&mut self, part: Part, row: &str) -> Vec<(usize, &'static str)> {
        let mut told = Vec::new();
        for (number, mark) in (1..).zip(row.chars()) {
            self.all_but(Some(part));
            if matches!(mark, '!' | 'z') {
                self.signs[part as usize].as_mut().unwrap().count += 1;
            }
            let after = if matches!(mark, 'z' | 'Z') { 10_000 } else { INTERVAL };
            for event in self.look(after) {
                match event {
                    Event::Stalled(stall) => {
                        assert_eq!(stall.part, part);
                        told.push((number, "stalled"));
                    }
                    Event::Recovered { part: of, .. } => {
                        assert_eq!(of, part);
                        told.push((number, "recovered"));
                    }
                    Event::TellPair { .. } | Event::End(_) => {}
                }
            }
        }
        told
    }
}

fn told_only() -> Settings {
    Settings { enabled: false, ..Settings::default() }
}

fn stalled(event: &Event) -> Option<(Part, Duration, bool)> {
    match event {
        Event::Stalled(stall) => Some((stall.part, stall.silent, stall.at_disk)),
        _ => None,
    }
}

#[test]
fn pair_9_a_part_that_misses_six_signs_in_a_row_is_stalled_until_it_gives_one() {
    for (row, told) in [
        ("!!!!!!!!!!!!", vec![]),
        (".....!.....!.....!", vec![]),
        ("......", vec![(6, "stalled")]),
        ("!......", vec![(7, "stalled")]),
        ("......!", vec![(6, "stalled"), (7, "recovered")]),
        (".........!.....!......", vec![(6, "stalled"), (10, "recovered"), (22, "stalled")]),
        // What was not heard while the process stood still is no evidence.
        ("Z!", vec![]),
        ("ZZZZZZZZZZ!", vec![]),
        (".....Z!", vec![]),
        (".....Z.", vec![(7, "stalled")]),
        ("...Z...", vec![(7, "stalled")]),
        (".....z.....", vec![]),
        ("......z", vec![(6, "stalled"), (7, "recovered")]),
        ("......Z!", vec![(6, "stalled"), (8, "recovered")]),
    ] {
        for part in Part::ALL {
            let mut world = World::new(told_only(), false);
            assert_eq!(world.row(part, row), told, "{part}: {row}");
        }
    }
}

#[test]
fn pair_9_a_look_is_late_when_it_comes_an_interval_after_it_was_due() {
    for (gap, late) in [(500, 0), (999, 0), (1_000, 0), (1_001, 1), (60_000, 1)] {
        let mut world = World::alone();
        world.look(gap);
        assert_eq!(world.supervision.late(), late, "{gap}");
        let missed = world.supervision.part(Part::Core).unwrap().missed;
        assert_eq!(u64::from(missed), 1 - late, "{gap}");
    }
}

#[test]
fn pair_9_an_agent_alone_says_so_and_then_restarts_itself() {
    let mut world = World::alone();
    let told = world.silent(Part::Forwarder, 10);
    let [(6, found), (8, Event::End(Part::Forwarder))] = &told[..] else { panic!("{told:?}") };
    assert_eq!(stalled(found), Some((Part::Forwarder, Duration::from_secs(3), false)));
    assert_eq!(LAST_WORDS, Duration::from_secs(1), "two looks");
    assert!(!world.supervision.is_well());
    assert_eq!(world.supervision.stalls(Part::Forwarder), 1);
}

#[test]
fn pair_9_an_agent_alone_whose_part_goes_on_in_the_last_moment_stays() {
    let mut world = World::alone();
    world.silent(Part::Forwarder, 7);
    world.all_but(None);
    assert!(matches!(world.look(INTERVAL)[..], [Event::Recovered { part: Part::Forwarder, .. }]));
    assert!(world.supervision.is_well());
    assert_eq!(world.silent(Part::Core, 5), []);
}

#[test]
fn pair_9_a_primary_asks_its_mate_and_ends_when_it_has_taken_over() {
    let mut world = World::of_a_pair();
    let told = world.silent(Part::TrapIntake, 7);
    let [(6, found), (6, Event::TellPair { failing: true })] = &told[..] else {
        panic!("{told:?}")
    };
    assert!(stalled(found).is_some());
    let now = world.now();
    world.supervision.handed_over(now);
    assert_eq!(world.events(), [Event::End(Part::TrapIntake)]);
}

#[test]
fn pair_9_who_finds_nobody_that_takes_over_restarts_without_asking() {
    let mut world = World::of_a_pair();
    assert_eq!(world.silent(Part::Core, 6).len(), 2);
    let now = world.now();
    world.supervision.nobody_takes_over(now);
    assert_eq!(world.events(), [Event::End(Part::Core)]);
}

#[test]
fn pair_9_who_gets_no_answer_ends_after_three_seconds_as_the_pairs_thread_may_have_stalled() {
    let mut world = World::of_a_pair();
    let told = world.silent(Part::StateChannel, 20);
    let looks = u32::try_from(PATIENCE.as_millis()).unwrap() / 500;
    assert_eq!(told.last(), Some(&(6 + looks, Event::End(Part::StateChannel))));
}

#[test]
fn pair_9_a_stall_that_is_over_before_anyone_took_over_is_taken_back() {
    let mut world = World::of_a_pair();
    world.silent(Part::Spool, 6);
    world.all_but(None);
    let told = world.look(INTERVAL);
    let [Event::Recovered { .. }, Event::TellPair { failing: false }] = told[..] else {
        panic!("{told:?}")
    };
    let now = world.now();
    // Words that crossed on the way.
    world.supervision.handed_over(now);
    world.supervision.nobody_takes_over(now);
    assert_eq!(world.events(), []);
}

#[test]
fn pair_9_an_agent_alone_goes_on_while_the_disk_stands_still_as_a_restart_would_wait_for_it_too() {
    let mut world = World::alone();
    world.at_disk(Part::Store, true);
    let told = world.silent(Part::Store, 100);
    let [(6, found)] = &told[..] else { panic!("{told:?}") };
    assert_eq!(stalled(found), Some((Part::Store, Duration::from_secs(3), true)));
    assert!(world.supervision.is_well(), "systemd must not kill it for that");
    world.at_disk(Part::Store, false);
    world.all_but(None);
    let told = world.look(INTERVAL);
    let [Event::Recovered { part: Part::Store, silent, .. }] = told[..] else { panic!("{told:?}") };
    assert_eq!(silent, Duration::from_millis(50_500));

    // What stalls beside it for another reason is cured by a restart.
    let mut world = World::alone();
    world.at_disk(Part::Store, true);
    world.silent(Part::Store, 20);
    let mut ended = false;
    for _ in 0..8 {
        world.all_but(Some(Part::Core));
        world.signs[Part::Store as usize].as_mut().unwrap().count -= 1;
        ended |= world.look(INTERVAL).contains(&Event::End(Part::Core));
    }
    assert!(ended);
}

#[test]
fn pair_9_a_primary_whose_disk_stands_still_hands_over_and_ends_when_it_is_back() {
    let mut world = World::of_a_pair();
    world.at_disk(Part::Store, true);
    let told = world.silent(Part::Store, 6);
    assert_eq!(told.last(), Some(&(6, Event::TellPair { failing: true })));
    let now = world.now();
    world.supervision.handed_over(now);
    assert_eq!(world.silent(Part::Store, 40), [], "it could not end");
    world.all_but(None);
    let told = world.look(INTERVAL);
    assert_eq!(told.last(), Some(&Event::End(Part::Store)));

    // Nobody to hand over to.
    let mut world = World::of_a_pair();
    world.at_disk(Part::Store, true);
    world.silent(Part::Store, 6);
    let now = world.now();
    world.supervision.nobody_takes_over(now);
    assert_eq!(world.silent(Part::Store, 40), []);
    world.all_but(None);
    assert_eq!(world.look(INTERVAL).last(), Some(&Event::TellPair { failing: false }));
}

#[test]
fn pair_9_where_it_is_turned_off_a_stall_is_told_and_nothing_follows() {
    for paired in [false, true] {
        let mut world = World::new(told_only(), paired);
        let told = world.silent(Part::Core, 50);
        assert!(matches!(told[..], [(6, Event::Stalled(_))]), "{told:?}");
        assert!(world.supervision.is_well());
    }
}

#[test]
fn pair_9_an_orderly_stop_may_take_longer() {
    let mut world = World::of_a_pair();
    world.supervision.stand_down();
    let told = world.silent(Part::Store, 50);
    assert!(matches!(told[..], [(6, Event::Stalled(_))]), "{told:?}");
}

#[test]
fn pair_9_a_part_that_is_not_there_is_not_missed() {
    let mut world = World::alone();
    world.signs[Part::PeerPoller as usize] = None;
    assert_eq!(world.silent(Part::PeerPoller, 50), []);
    assert_eq!(world.supervision.part(Part::PeerPoller), None);
    // It comes with a reload, and has as long as any other.
    world.signs[Part::PeerPoller as usize] = Some(Sign::default());
    world.all_but(Some(Part::PeerPoller));
    assert_eq!(world.look(INTERVAL), []);
    assert_eq!(world.silent(Part::PeerPoller, 5), []);
    assert_eq!(world.silent(Part::PeerPoller, 1).len(), 1);
    // And goes with one.
    world.signs[Part::PeerPoller as usize] = None;
    world.all_but(None);
    assert!(matches!(world.look(INTERVAL)[..], [Event::Recovered { .. }]));
}

proptest! {
    /// However the looks lie and whatever the part does: it is found stalled at its sixth look in time
    /// without a sign, never before, and each stall is followed by no more than one end.
    #[test]
    fn pair_9_no_pattern_of_signs_and_delays_is_judged_otherwise(
        looks in prop::collection::vec((prop::bool::weighted(0.2), 1u64..2_500), 1..200),
        paired: bool,
        enabled: bool,
    ) {
        let settings = Settings { enabled, ..Settings::default() };
        let mut world = World::new(settings, paired);
        let (mut silent, mut is_stalled, mut ends) = (0, false, 0);
        for (sign, gap) in looks {
            let gap = gap.max(INTERVAL);
            world.all_but(if sign { None } else { Some(Part::Core) });
            let told = world.look(gap);
            let late = gap > 2 * INTERVAL;
            match (sign, late) {
                (true, _) => silent = 0,
                (false, true) => {}
                (false, false) => silent += 1,
            }
            let found = told.iter().filter_map(stalled).count();
            let over = told.iter().filter(|event| matches!(event, Event::Recovered { .. })).count();
            prop_assert_eq!(found, usize::from(!sign && !late && silent == 6));
            prop_assert_eq!(over, usize::from(sign && is_stalled));
            is_stalled = silent >= 6;
            ends += told.iter().filter(|event| matches!(event, Event::End(_))).count();
            prop_assert!(ends <= usize::from(enabled));
        }
    }

    /// A part that gives a sign in each 2.9 s is never stalled, whenever the process as a whole is stopped
    /// and for how long.
    #[test]
    fn pair_9_a_process_that_was_stopped_finds_no_part_stalled(
        stops in prop::collection::vec((1u64..4_000, 0u64..60_000), 1..40),
    ) {
        // The time that the process has run: what its parts do depends on it alone.
        let (mut ran, mut world) = (0u64, World::alone());
        for (run, stopped) in stops {
            let until = ran + run;
            let mut first = stopped;
            while ran < until {
                ran += INTERVAL;
                for part in Part::ALL {
                    world.signs[part as usize].as_mut().unwrap().count = ran / 2_900;
                }
                let told = world.look(INTERVAL + std::mem::take(&mut first));
                prop_assert_eq!(told, []);
            }
        }
    }
}

#[test]
fn every_part_has_a_name_of_its_own() {
    for part in Part::ALL {
        assert_eq!(Part::of_name(part.name()), Some(part));
        assert_eq!(Part::ALL[part as usize], part);
    }
    assert_eq!(Part::of_name("none"), None);
}
