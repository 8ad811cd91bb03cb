//! Both ends of a link (INST-14): one alarm for two interfaces, whatever either of them does.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use evenkeel_core::{
    alarm::{AlarmEvent, ClearReason, Interface, Kind, Link, Object, System},
    input::{Event, Input},
    settings::{DuringUnstable, ForwardRule, ForwardTarget, Group, Match, Settings, Topology},
    state::{Phase, State},
    time::Time,
    trap::Form,
};
use proptest::{collection::vec, prelude::*};

use crate::{
    common::{
        ber::{Message, if_entry, if_x_entry, number, octets, varbind},
        sim::{Sim, at, cases, open_settings},
        timeline::check,
    },
    timelines::{analysis, only_unstable},
};

fn interface(system: &str, if_index: u32) -> Interface {
    Interface { system: System(system.parse().unwrap()), if_index }
}

/// The same settings, with links: each as two ends.
fn joined(mut settings: Settings, links: &[[(&str, u32); 2]]) -> Settings {
    let links = links.iter().map(|&[(one, one_index), (other, other_index)]| {
        Link::new(interface(one, one_index), interface(other, other_index)).unwrap()
    });
    settings.instability.topology = Topology::new(links.collect()).unwrap();
    settings
}

/// 10.0.0.1 ifIndex 3 and 10.0.0.2 ifIndex 7 are one link.
fn linked(settings: Settings) -> Settings {
    joined(settings, &[[("10.0.0.1", 3), ("10.0.0.2", 7)]])
}

/// What takes in the objects of some systems.
fn of_system(prefix: &str) -> Match {
    Match { systems: vec![prefix.parse().unwrap()], ..Match::default() }
}

/// Without `interface_down`: 2 traps within 30 s.
fn play(text: &str) {
    check(&linked(only_unstable(30, 2)), &[], text);
}

/// As shipped, with `interface_down`.
fn play_shipped(text: &str) {
    check(&linked(open_settings()), &[], text);
}

#[test]
fn inst_14_one_alarm_from_the_first_end_that_is_unstable_to_the_last() {
    play(
        "0s linkDown 10.0.0.1 3
        1s linkDown 10.0.0.2 7
        5s linkDown 10.0.0.1 3
        5s > raise link_unstable 10.0.0.1 ifIndex 3 - 10.0.0.2 ifIndex 7
        6s linkDown 10.0.0.2 7
        36s > clear link_unstable 10.0.0.1 ifIndex 3 - 10.0.0.2 ifIndex 7 ended",
    );
    // One end is enough, whichever.
    for (system, if_index) in [("10.0.0.1", 3), ("10.0.0.2", 7)] {
        play(&format!(
            "0s linkDown {system} {if_index}
            5s linkDown {system} {if_index}
            5s > raise link_unstable 10.0.0.1 ifIndex 3 - 10.0.0.2 ifIndex 7
            35s > clear link_unstable 10.0.0.1 ifIndex 3 - 10.0.0.2 ifIndex 7 ended"
        ));
    }
    // Traps of the two are not counted together: one of each makes neither unstable.
    play("0s linkDown 10.0.0.1 3\n 1s linkDown 10.0.0.2 7");
    // Other interfaces of these systems, and their restarts, have nothing to do with it.
    play(
        "0s linkDown 10.0.0.1 7
        1s linkDown 10.0.0.1 7
        1s > raise interface_unstable 10.0.0.1 ifIndex 7
        2s coldStart 10.0.0.1
        3s coldStart 10.0.0.1
        4s coldStart 10.0.0.1
        4s > raise system_unstable 10.0.0.1
        31s > clear interface_unstable 10.0.0.1 ifIndex 7 ended
        5m4s > clear system_unstable 10.0.0.1 ended",
    );
}

#[test]
fn inst_14_the_alarm_outlasts_episodes_of_either_end() {
    // The first end is unstable from 5 to 35 s and from 41 to 71 s, the other from 30 to 62 s.
    play(
        "0s linkDown 10.0.0.1 3
        5s linkDown 10.0.0.1 3
        5s > raise link_unstable 10.0.0.1 ifIndex 3 - 10.0.0.2 ifIndex 7
        28s linkDown 10.0.0.2 7
        30s linkDown 10.0.0.2 7
        32s linkDown 10.0.0.2 7
        40s linkDown 10.0.0.1 3
        41s linkDown 10.0.0.1 3
        1m11s > clear link_unstable 10.0.0.1 ifIndex 3 - 10.0.0.2 ifIndex 7 ended",
    );
    // The other end becomes unstable at the moment at which the first is stable again: what comes at
    // exactly a deadline comes after it, so the link was stable in between.
    play(
        "0s linkDown 10.0.0.1 3
        5s linkDown 10.0.0.1 3
        5s > raise link_unstable 10.0.0.1 ifIndex 3 - 10.0.0.2 ifIndex 7
        30s linkDown 10.0.0.2 7
        35s linkDown 10.0.0.2 7
        35s > clear link_unstable 10.0.0.1 ifIndex 3 - 10.0.0.2 ifIndex 7 ended
        35s > raise link_unstable 10.0.0.1 ifIndex 3 - 10.0.0.2 ifIndex 7
        1m5s > clear link_unstable 10.0.0.1 ifIndex 3 - 10.0.0.2 ifIndex 7 ended",
    );
    // A millisecond sooner, it was not.
    play(
        "0s linkDown 10.0.0.1 3
        5s linkDown 10.0.0.1 3
        5s > raise link_unstable 10.0.0.1 ifIndex 3 - 10.0.0.2 ifIndex 7
        30s linkDown 10.0.0.2 7
        34s999ms linkDown 10.0.0.2 7
        1m4s999ms > clear link_unstable 10.0.0.1 ifIndex 3 - 10.0.0.2 ifIndex 7 ended",
    );
}

#[test]
fn inst_13_neither_end_is_told_as_down_while_their_link_is_unstable() {
    // Both were down before, and both are when it is stable again.
    play_shipped(
        "0s linkDown 10.0.0.1 3
        0s > raise interface_down 10.0.0.1 ifIndex 3
        1s linkDown 10.0.0.2 7
        1s > raise interface_down 10.0.0.2 ifIndex 7
        5s linkDown 10.0.0.1 3
        5s > clear interface_down 10.0.0.1 ifIndex 3 superseded
        5s > clear interface_down 10.0.0.2 ifIndex 7 superseded
        5s > raise link_unstable 10.0.0.1 ifIndex 3 - 10.0.0.2 ifIndex 7
        35s > clear link_unstable 10.0.0.1 ifIndex 3 - 10.0.0.2 ifIndex 7 ended
        35s > raise interface_down 10.0.0.1 ifIndex 3
        35s > raise interface_down 10.0.0.2 ifIndex 7
        40s linkUp 10.0.0.2 7
        40s > clear interface_down 10.0.0.2 ifIndex 7 ended
        41s linkUp 10.0.0.1 3
        41s > clear interface_down 10.0.0.1 ifIndex 3 ended",
    );
    // The end that is stable goes down, and comes up again, while the other is unstable: the alarm of
    // the link says more than either.
    play_shipped(
        "0s linkDown 10.0.0.1 3
        0s > raise interface_down 10.0.0.1 ifIndex 3
        5s linkDown 10.0.0.1 3
        5s > clear interface_down 10.0.0.1 ifIndex 3 superseded
        5s > raise link_unstable 10.0.0.1 ifIndex 3 - 10.0.0.2 ifIndex 7
        6s linkDown 10.0.0.2 7
        7s linkUp 10.0.0.1 3
        8s linkUp 10.0.0.2 7
        35s > clear link_unstable 10.0.0.1 ifIndex 3 - 10.0.0.2 ifIndex 7 ended",
    );
    // The end that is stable first, with linkDown as its last, waits for the other.
    play_shipped(
        "0s linkDown 10.0.0.1 3
        0s > raise interface_down 10.0.0.1 ifIndex 3
        5s linkDown 10.0.0.1 3
        5s > clear interface_down 10.0.0.1 ifIndex 3 superseded
        5s > raise link_unstable 10.0.0.1 ifIndex 3 - 10.0.0.2 ifIndex 7
        20s linkDown 10.0.0.2 7
        25s linkDown 10.0.0.2 7
        26s linkUp 10.0.0.2 7
        55s > clear link_unstable 10.0.0.1 ifIndex 3 - 10.0.0.2 ifIndex 7 ended
        55s > raise interface_down 10.0.0.1 ifIndex 3
        1m linkUp 10.0.0.1 3
        1m > clear interface_down 10.0.0.1 ifIndex 3 ended",
    );
    // A trap of one end finds the other stable again, though nobody has looked since: the link is
    // cleared at its time, and only then is the end that has just gone down told.
    play_shipped(
        "0s linkDown 10.0.0.1 3
        0s > raise interface_down 10.0.0.1 ifIndex 3
        5s linkDown 10.0.0.1 3
        5s > clear interface_down 10.0.0.1 ifIndex 3 superseded
        5s > raise link_unstable 10.0.0.1 ifIndex 3 - 10.0.0.2 ifIndex 7
        6s linkUp 10.0.0.1 3
        35s > clear link_unstable 10.0.0.1 ifIndex 3 - 10.0.0.2 ifIndex 7 ended
        40s linkDown 10.0.0.2 7
        40s > raise interface_down 10.0.0.2 ifIndex 7
        50s linkUp 10.0.0.2 7
        50s > clear interface_down 10.0.0.2 ifIndex 7 ended",
    );
}

#[test]
fn inst_13_each_end_has_the_interface_down_of_its_own_group() {
    let mut settings = linked(open_settings());
    let mut quiet = Group::exempt();
    quiet.matches = of_system("10.0.0.2/32");
    quiet.settings.interfaces = analysis(30, 2);
    settings.instability.groups = vec![quiet];
    check(
        &settings,
        &[],
        "0s linkDown 10.0.0.2 7
        5s linkDown 10.0.0.2 7
        5s > raise link_unstable 10.0.0.1 ifIndex 3 - 10.0.0.2 ifIndex 7
        6s linkDown 10.0.0.1 3
        35s > clear link_unstable 10.0.0.1 ifIndex 3 - 10.0.0.2 ifIndex 7 ended
        35s > raise interface_down 10.0.0.1 ifIndex 3
        40s linkUp 10.0.0.1 3
        40s > clear interface_down 10.0.0.1 ifIndex 3 ended",
    );
}

#[test]
fn inst_15_a_link_that_comes_while_an_end_is_unstable_takes_over_its_alarm() {
    let plain = only_unstable(30, 2);
    check(
        &plain,
        &[("linked", linked(plain.clone()))],
        "0s linkDown 10.0.0.1 3
        5s linkDown 10.0.0.1 3
        5s > raise interface_unstable 10.0.0.1 ifIndex 3
        6s linkDown 10.0.0.2 7
        7s linkDown 10.0.0.2 7
        7s > raise interface_unstable 10.0.0.2 ifIndex 7
        10s reload linked
        10s > clear interface_unstable 10.0.0.1 ifIndex 3 superseded
        10s > clear interface_unstable 10.0.0.2 ifIndex 7 superseded
        10s > raise link_unstable 10.0.0.1 ifIndex 3 - 10.0.0.2 ifIndex 7
        37s > clear link_unstable 10.0.0.1 ifIndex 3 - 10.0.0.2 ifIndex 7 ended",
    );
    // The other end, which is stable and down, gives way too.
    check(
        &open_settings(),
        &[("linked", linked(open_settings()))],
        "0s linkDown 10.0.0.2 7
        0s > raise interface_down 10.0.0.2 ifIndex 7
        1s linkUp 10.0.0.1 3
        2s linkDown 10.0.0.1 3
        2s > raise interface_down 10.0.0.1 ifIndex 3
        3s linkDown 10.0.0.1 3
        3s > clear interface_down 10.0.0.1 ifIndex 3 superseded
        3s > raise interface_unstable 10.0.0.1 ifIndex 3
        10s reload linked
        10s > clear interface_unstable 10.0.0.1 ifIndex 3 superseded
        10s > clear interface_down 10.0.0.2 ifIndex 7 superseded
        10s > raise link_unstable 10.0.0.1 ifIndex 3 - 10.0.0.2 ifIndex 7
        20s linkUp 10.0.0.2 7
        33s > clear link_unstable 10.0.0.1 ifIndex 3 - 10.0.0.2 ifIndex 7 ended
        33s > raise interface_down 10.0.0.1 ifIndex 3
        40s linkUp 10.0.0.1 3
        40s > clear interface_down 10.0.0.1 ifIndex 3 ended",
    );
}

#[test]
fn inst_15_a_link_that_goes_while_it_is_unstable_leaves_its_alarm_to_the_ends() {
    check(
        &linked(open_settings()),
        &[("plain", open_settings())],
        "0s linkDown 10.0.0.1 3
        0s > raise interface_down 10.0.0.1 ifIndex 3
        5s linkDown 10.0.0.1 3
        5s > clear interface_down 10.0.0.1 ifIndex 3 superseded
        5s > raise link_unstable 10.0.0.1 ifIndex 3 - 10.0.0.2 ifIndex 7
        6s linkDown 10.0.0.2 7
        10s reload plain
        10s > clear link_unstable 10.0.0.1 ifIndex 3 - 10.0.0.2 ifIndex 7 removed
        10s > raise interface_down 10.0.0.2 ifIndex 7
        10s > raise interface_unstable 10.0.0.1 ifIndex 3
        11s linkUp 10.0.0.1 3
        12s linkUp 10.0.0.2 7
        12s > clear interface_down 10.0.0.2 ifIndex 7 ended
        35s > clear interface_unstable 10.0.0.1 ifIndex 3 ended",
    );
}

#[test]
fn inst_15_a_link_that_leads_elsewhere_is_another_link() {
    let plain = only_unstable(30, 2);
    let elsewhere = joined(plain.clone(), &[[("10.0.0.1", 3), ("10.0.0.9", 1)]]);
    check(
        &linked(plain.clone()),
        &[("elsewhere", elsewhere), ("same", linked(only_unstable(100, 2)))],
        "0s linkDown 10.0.0.1 3
        5s linkDown 10.0.0.1 3
        5s > raise link_unstable 10.0.0.1 ifIndex 3 - 10.0.0.2 ifIndex 7
        6s linkDown 10.0.0.2 7
        7s linkDown 10.0.0.2 7
        10s reload elsewhere
        10s > clear link_unstable 10.0.0.1 ifIndex 3 - 10.0.0.2 ifIndex 7 removed
        10s > raise interface_unstable 10.0.0.2 ifIndex 7
        10s > raise link_unstable 10.0.0.1 ifIndex 3 - 10.0.0.9 ifIndex 1
        35s > clear link_unstable 10.0.0.1 ifIndex 3 - 10.0.0.9 ifIndex 1 ended
        37s > clear interface_unstable 10.0.0.2 ifIndex 7 ended",
    );
    // The same link with other settings goes on, and waits by them.
    check(
        &linked(plain),
        &[("same", linked(only_unstable(100, 2)))],
        "0s linkDown 10.0.0.1 3
        5s linkDown 10.0.0.1 3
        5s > raise link_unstable 10.0.0.1 ifIndex 3 - 10.0.0.2 ifIndex 7
        20s reload same
        1m45s > clear link_unstable 10.0.0.1 ifIndex 3 - 10.0.0.2 ifIndex 7 ended",
    );
}

#[test]
fn inst_11_an_end_whose_analysis_is_turned_off_counts_no_more() {
    let mut one_off = linked(only_unstable(30, 2));
    let mut group = Group::exempt();
    group.matches = of_system("10.0.0.1/32");
    one_off.instability.groups = vec![group];
    let mut off = linked(only_unstable(30, 2));
    off.instability.otherwise.interfaces = None;
    let mut gone = off.clone();
    gone.instability.topology = Topology::default();
    // The alarm goes on for the other end.
    check(
        &linked(only_unstable(30, 2)),
        &[("one", one_off), ("off", off)],
        "0s linkDown 10.0.0.1 3
        5s linkDown 10.0.0.1 3
        5s > raise link_unstable 10.0.0.1 ifIndex 3 - 10.0.0.2 ifIndex 7
        6s linkDown 10.0.0.2 7
        7s linkDown 10.0.0.2 7
        8s reload one
        9s linkDown 10.0.0.1 3
        37s > clear link_unstable 10.0.0.1 ifIndex 3 - 10.0.0.2 ifIndex 7 ended
        50s linkDown 10.0.0.2 7
        51s linkDown 10.0.0.2 7
        51s > raise link_unstable 10.0.0.1 ifIndex 3 - 10.0.0.2 ifIndex 7
        52s reload off
        52s > clear link_unstable 10.0.0.1 ifIndex 3 - 10.0.0.2 ifIndex 7 turned_off
        53s linkDown 10.0.0.2 7",
    );
    // The link goes at the same moment: nothing is left that could be told of its ends.
    check(
        &linked(only_unstable(30, 2)),
        &[("gone", gone)],
        "0s linkDown 10.0.0.1 3
        5s linkDown 10.0.0.1 3
        5s > raise link_unstable 10.0.0.1 ifIndex 3 - 10.0.0.2 ifIndex 7
        8s reload gone
        8s > clear link_unstable 10.0.0.1 ifIndex 3 - 10.0.0.2 ifIndex 7 removed",
    );
}

#[test]
fn inst_17_after_a_restart_the_link_is_told_neither_again_nor_too_soon() {
    // 10 s of quiet were heard before, so 20 s remain.
    play(
        "0s linkDown 10.0.0.1 3
        5s linkDown 10.0.0.1 3
        5s > raise link_unstable 10.0.0.1 ifIndex 3 - 10.0.0.2 ifIndex 7
        15s restart 1000s
        17m > clear link_unstable 10.0.0.1 ifIndex 3 - 10.0.0.2 ifIndex 7 ended",
    );
    // Both ends, one of which becomes stable first; and the count of an end that is stable goes on.
    play(
        "0s linkDown 10.0.0.1 3
        5s linkDown 10.0.0.1 3
        5s > raise link_unstable 10.0.0.1 ifIndex 3 - 10.0.0.2 ifIndex 7
        10s linkDown 10.0.0.2 7
        15s restart 20s
        25s linkDown 10.0.0.2 7
        55s > clear link_unstable 10.0.0.1 ifIndex 3 - 10.0.0.2 ifIndex 7 ended",
    );
    // Neither end is told as down by a restart.
    play_shipped(
        "0s linkDown 10.0.0.1 3
        0s > raise interface_down 10.0.0.1 ifIndex 3
        5s linkDown 10.0.0.1 3
        5s > clear interface_down 10.0.0.1 ifIndex 3 superseded
        5s > raise link_unstable 10.0.0.1 ifIndex 3 - 10.0.0.2 ifIndex 7
        6s linkDown 10.0.0.2 7
        10s restart 20s
        45s > clear link_unstable 10.0.0.1 ifIndex 3 - 10.0.0.2 ifIndex 7 ended
        45s > raise interface_down 10.0.0.1 ifIndex 3
        45s > raise interface_down 10.0.0.2 ifIndex 7",
    );
}

fn trap(trap: u32, if_index: u32, serial: i64) -> Vec<u8> {
    let index = varbind(&if_entry(1, if_index), number(2, i64::from(if_index)));
    let name = octets(format!("Gi0/{if_index}").as_bytes());
    let varbinds = vec![index, varbind(&if_x_entry(1, if_index), name)];
    let uptime = 10_000_000 + serial;
    Message { varbinds, request_id: serial, uptime, ..Message::new(Form::V2c, trap) }.encode()
}

fn alarms(sim: &Sim) -> Vec<&AlarmEvent> {
    let alarms = sim.events.iter().filter_map(|event| match event {
        Event::Alarm(event) => Some(&**event),
        _ => None,
    });
    alarms.collect()
}

/// What was told: when, in milliseconds, raise or why cleared, and of what.
fn told(sim: &Sim) -> Vec<(u64, &'static str, String)> {
    let alarms = alarms(sim).into_iter().map(|event| {
        let what = event.cleared.map_or("raise", ClearReason::name);
        let of = format!("{} {}", event.alarm.kind, event.alarm.object);
        (event.at.since(at(0)).as_millis() as u64, what, of)
    });
    alarms.collect()
}

const LINK: &str = "link_unstable 10.0.0.1 ifIndex 3 - 10.0.0.2 ifIndex 7";

#[test]
fn inst_14_the_end_that_is_stable_last_clears_it_however_late_both_are_judged() {
    // Its deadline was noted first, and has moved behind the other's since.
    let mut sim = Sim::new(linked(only_unstable(30, 2)));
    let traps = [(0, 1u8, 3), (1, 1, 3), (2, 2, 7), (3, 2, 7), (5, 1, 3)];
    for (secs, system, if_index) in traps {
        let bytes = trap(3, if_index, secs);
        sim.datagram([10, 0, 0, system].into(), at(secs as u64 * 1000), &bytes);
    }
    sim.heard(at(1_000_000));
    assert_eq!(told(&sim), [(1_000, "raise", LINK.to_owned()), (35_000, "ended", LINK.to_owned())]);
}

/// Both ends unstable, after traps at 0 s to 3 s, at 10 s.
fn unstable_state(settings: &Settings) -> State {
    let mut sim = Sim::new(settings.clone());
    for (serial, (system, if_index)) in [(1u8, 3), (2, 7), (1, 3), (2, 7)].into_iter().enumerate() {
        let now = at(serial as u64 * 1000);
        sim.datagram([10, 0, 0, system].into(), now, &trap(3, if_index, serial as i64));
    }
    let state = sim.agent.export(at(10_000));
    assert_eq!((state.alarms.len(), sim.agent.instability().unstable()), (1, 2));
    state
}

#[test]
fn inst_17_a_restart_with_another_configuration_moves_the_alarm_as_a_reload_does() {
    let (plain, with_link) = (only_unstable(30, 2), linked(only_unstable(30, 2)));
    let mut sim = Sim::new(plain.clone());
    sim.begin_with(unstable_state(&with_link), Duration::ZERO, at(10_000));
    let one = |what| (10_000, what, "interface_unstable 10.0.0.1 ifIndex 3".to_owned());
    let other = |what| (10_000, what, "interface_unstable 10.0.0.2 ifIndex 7".to_owned());
    let link = |what| (10_000, what, LINK.to_owned());
    assert_eq!(told(&sim), [link("removed"), one("raise"), other("raise")]);
    let back = sim.agent.export(at(10_000));
    let mut sim = Sim::new(with_link);
    sim.begin_with(back, Duration::ZERO, at(10_000));
    assert_eq!(told(&sim), [one("superseded"), other("superseded"), link("raise")]);
    sim.heard(at(100_000));
    assert_eq!(told(&sim)[3..], [(33_000, "ended", LINK.to_owned())]);
}

#[test]
fn inst_17_an_alarm_of_a_link_whose_records_are_lost_or_older_waits_its_full_window() {
    let settings = linked(only_unstable(30, 2));
    let full = unstable_state(&settings);
    let lost = State { alarms: full.alarms.clone(), ..State::default() };
    let mut idle = full.clone();
    for record in &mut idle.records {
        record.memory.phase = Phase::Idle;
    }
    for state in [lost.clone(), idle] {
        let mut sim = Sim::new(settings.clone());
        sim.begin_with(state, Duration::ZERO, at(100_000));
        sim.heard(at(129_999));
        assert_eq!(told(&sim), []);
        sim.heard(at(130_000));
        assert_eq!(told(&sim), [(130_000, "ended", LINK.to_owned())]);
    }
    // The record of one end is there: it is what the alarm tells of.
    let mut half = full;
    half.records.retain(|record| record.key.system.to_string() == "10.0.0.1");
    let mut sim = Sim::new(settings);
    sim.begin_with(half, Duration::ZERO, at(10_000));
    sim.heard(at(100_000));
    assert_eq!(told(&sim), [(32_000, "ended", LINK.to_owned())]);
    // The link is gone, and so is all that was known of its ends.
    let mut sim = Sim::new(only_unstable(30, 2));
    sim.begin_with(lost, Duration::ZERO, at(10_000));
    assert_eq!(told(&sim), [(10_000, "removed", LINK.to_owned())]);
}

#[test]
fn inst_16_a_link_whose_ends_have_no_room_after_a_restart_is_cleared_for_that_reason() {
    let mut settings = linked(only_unstable(30, 2));
    let state = unstable_state(&settings);
    settings.instability.max_objects = 2;
    let mut sim = Sim::new(settings.clone());
    sim.begin_with(state.clone(), Duration::ZERO, at(10_000));
    assert_eq!(told(&sim), [], "there is room for one end");
    sim.heard(at(100_000));
    assert_eq!(told(&sim), [(32_000, "ended", LINK.to_owned())]);
    settings.instability.max_objects = 1;
    let mut sim = Sim::new(settings);
    sim.begin_with(state, Duration::ZERO, at(10_000));
    assert_eq!(told(&sim), [(10_000, "gave_way", LINK.to_owned())]);
}

/// Everything goes to one target, but for the traps of what is unstable.
fn forwarding(mut settings: Settings) -> Settings {
    let (name, durable, original) = ("noc".to_owned(), false, false);
    settings.forwarding.targets = vec![ForwardTarget { name, durable, original }];
    settings.forwarding.rules = vec![ForwardRule {
        traps: vec![],
        systems: vec![],
        groups: vec![],
        states: vec![],
        during_unstable: DuringUnstable::Suppress,
        targets: vec![0],
    }];
    settings
}

#[test]
fn trap_8_the_clear_tells_what_was_held_back_of_both_ends_over_a_restart_too() {
    let settings = forwarding(linked(only_unstable(30, 2)));
    for restart in [false, true] {
        let mut sim = Sim::new(settings.clone());
        let mut serial = 0;
        let mut send = |sim: &mut Sim, secs: u64, system: u8, if_index| {
            serial += 1;
            sim.heard(at(secs * 1000));
            sim.datagram([10, 0, 0, system].into(), at(secs * 1000), &trap(3, if_index, serial));
        };
        // The first end: unstable at 1 s, three more traps, stable at 34 s.
        for secs in 0..5 {
            send(&mut sim, secs, 1, 3);
        }
        // The other: unstable at 21 s, one more trap, stable at 52 s.
        for secs in [20, 21, 22] {
            send(&mut sim, secs, 2, 7);
        }
        sim.heard(at(40_000));
        if restart {
            sim.restart(at(40_000), at(40_000));
        }
        // The first end again: unstable at 46 s, two more, stable at 78 s.
        for secs in 45..49 {
            send(&mut sim, secs, 1, 3);
        }
        sim.heard(at(100_000));
        let alarms = alarms(&sim);
        let [raise, clear] = alarms[..] else { panic!("{alarms:?}") };
        assert_eq!(raise.alarm.id, clear.alarm.id);
        assert_eq!(
            raise.alarm.text,
            "link 10.0.0.1 ifIndex 3 (Gi0/3) - 10.0.0.2 ifIndex 7 is unstable: \
             2 link traps of 10.0.0.1 ifIndex 3 within 1s (trap window 30s, threshold 2)",
        );
        assert_eq!(
            clear.alarm.text,
            "link 10.0.0.1 ifIndex 3 (Gi0/3) - 10.0.0.2 ifIndex 7 (Gi0/7) is stable again: \
             both ends are, the last of them quiet for 30s after 12 traps in 48s, \
             of which 6 were not forwarded",
        );
        assert_eq!(clear.alarm.other_if_name.as_deref(), Some("Gi0/7"));
        assert_eq!(clear.at, at(78_000));
        let numbers = clear.alarm.episode.unwrap();
        assert_eq!((numbers.traps, numbers.suppressed), (12, 6));
        assert_eq!(sim.taken.len(), 6, "the first two of each end's, twice for the first");
        // What was told is told once.
        let records = sim.agent.export(at(100_000)).records;
        assert!(records.iter().all(|record| record.memory.link_share.is_none()));
        assert!(records.iter().all(|record| record.memory.suppressed == 0));
    }
}

#[test]
fn trap_8_what_was_held_back_is_told_once_when_the_alarm_moves_between_interface_and_link() {
    let plain = forwarding(only_unstable(30, 2));
    let with_link = forwarding(linked(only_unstable(30, 2)));
    let mut sim = Sim::new(plain.clone());
    let mut serial = 0;
    let mut send = |sim: &mut Sim, traps: u64| {
        for _ in 0..traps {
            serial += 1;
            sim.datagram([10, 0, 0, 1].into(), at(serial * 1000), &trap(3, 3, serial as i64));
        }
        at(serial * 1000)
    };
    let reload = |sim: &mut Sim, settings: &Settings, now| {
        sim.feed(&Input::Settings { settings: Box::new(settings.clone()), now });
    };
    let now = send(&mut sim, 4);
    reload(&mut sim, &with_link, now);
    let now = send(&mut sim, 3);
    reload(&mut sim, &plain, now);
    send(&mut sim, 5);
    sim.heard(at(1_000_000));
    let clears: Vec<_> = alarms(&sim)
        .into_iter()
        .filter(|event| event.cleared.is_some())
        .map(|event| (event.alarm.text.as_str(), event.alarm.episode.unwrap().suppressed))
        .collect();
    assert_eq!(
        clears,
        [
            (
                "interface 10.0.0.1 ifIndex 3 (Gi0/3) is no longer told of alone: its link is \
                 unstable, which says more",
                2
            ),
            (
                "link 10.0.0.1 ifIndex 3 (Gi0/3) - 10.0.0.2 ifIndex 7 is no longer told of: the \
                 configuration no longer joins its ends",
                3
            ),
            (
                "interface 10.0.0.1 ifIndex 3 (Gi0/3) is stable again: quiet for 30s after 12 \
                 traps in 11s, of which 5 were not forwarded",
                5
            ),
        ]
    );
    let raised = alarms(&sim).into_iter().filter(|event| event.cleared.is_none());
    assert!(raised.map(|event| event.alarm.episode.unwrap().suppressed).all(|told| told == 0));
}

#[test]
fn trap_8_what_was_held_back_of_an_end_that_is_turned_off_is_told_with_the_rest() {
    let settings = forwarding(linked(only_unstable(30, 2)));
    let mut one_off = settings.clone();
    let mut group = Group::exempt();
    group.matches = of_system("10.0.0.1/32");
    one_off.instability.groups = vec![group];
    let mut sim = Sim::new(settings);
    for serial in 0..10u8 {
        let (system, if_index) = if serial % 2 == 0 { (1, 3) } else { (2, 7) };
        let now = at(u64::from(serial) * 1000);
        sim.datagram([10, 0, 0, system].into(), now, &trap(3, if_index, serial.into()));
    }
    sim.feed(&Input::Settings { settings: Box::new(one_off), now: at(10_000) });
    sim.heard(at(100_000));
    let clear = *alarms(&sim).last().unwrap();
    assert_eq!((clear.cleared, clear.at), (Some(ClearReason::Ended), at(39_000)));
    let numbers = clear.alarm.episode.unwrap();
    assert_eq!((numbers.traps, numbers.suppressed), (10, 6));
}

#[test]
fn inst_14_who_asks_is_told_of_which_link_an_unstable_interface_is_an_end() {
    let mut sim = Sim::new(linked(open_settings()));
    for serial in 0..4 {
        let (system, if_index) = if serial % 2 == 0 { (1, 3) } else { (1, 4) };
        sim.datagram(
            [10, 0, 0, system].into(),
            at(serial * 1000),
            &trap(3, if_index, serial as i64),
        );
    }
    let views: BTreeMap<String, Option<String>> = sim
        .agent
        .instability()
        .episodes()
        .map(|view| (view.object.to_string(), view.link.map(|link| link.to_string())))
        .collect();
    let link = "10.0.0.1 ifIndex 3 - 10.0.0.2 ifIndex 7".to_owned();
    let expected =
        [("10.0.0.1 ifIndex 3".to_owned(), Some(link)), ("10.0.0.1 ifIndex 4".to_owned(), None)];
    assert_eq!(views, BTreeMap::from(expected));
    // The journal gets both records with the alarm of the link.
    let link = Object::Link(Link::new(interface("10.0.0.1", 3), interface("10.0.0.2", 7)).unwrap());
    let alarm = sim.agent.alarms().active()[&(Kind::LinkUnstable, link)].clone();
    assert_eq!(sim.agent.records_of(&alarm, at(5000)).len(), 1, "one end was heard of");
    sim.datagram([10, 0, 0, 2].into(), at(6000), &trap(3, 7, 9));
    assert_eq!(sim.agent.records_of(&alarm, at(6000)).len(), 2);
}

/// What happens next, and how many milliseconds later.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// A trap of an end of the link, or of another interface: which, and linkUp or not.
    Trap(usize, bool),
    /// Stopped and begun again at once.
    Restart,
}

/// The two ends, and an interface that is none.
const INTERFACES: [(u8, u32); 3] = [(1, 3), (2, 7), (2, 8)];

fn step() -> impl Strategy<Value = (u64, Step)> {
    let gap = prop_oneof![
        4 => 0..3_000u64,
        2 => 0..40_000u64,
        // Deadlines and windows to the millisecond.
        2 => prop_oneof![Just(29_999), Just(30_000), Just(30_001), Just(10_000)],
        1 => 0..4_000_000u64,
    ];
    let what = prop_oneof![
        12 => (0..INTERFACES.len(), any::<bool>()).prop_map(|(which, up)| Step::Trap(which, up)),
        1 => Just(Step::Restart),
    ];
    (gap, what)
}

/// Plays the steps, deadlines judged each at its time or as late as can be.
fn run(settings: &Settings, steps: &[(u64, Step)], in_time: bool) -> Sim {
    let mut sim = Sim::new(settings.clone());
    let mut now = at(0);
    for (serial, &(gap, step)) in steps.iter().enumerate() {
        now = now + Duration::from_millis(gap);
        while in_time && let Some(due) = sim.agent.next_deadline().filter(|due| *due <= now) {
            sim.heard(due);
        }
        match step {
            Step::Trap(which, up) => {
                let (system, if_index) = INTERFACES[which];
                let bytes = trap(if up { 4 } else { 3 }, if_index, serial as i64);
                sim.datagram([10, 0, 0, system].into(), now, &bytes);
            }
            Step::Restart => {
                // What is due is judged before an orderly stop.
                sim.heard(now);
                sim.restart(now, now);
            }
        }
    }
    sim.heard(now + Duration::from_secs(100_000));
    sim
}

/// When alarms of one kind and object were active, from and to.
fn spans(sim: &Sim, kind: Kind, object: &Object) -> Vec<(Time, Time)> {
    let mut spans: Vec<(Time, Time)> = Vec::new();
    let mut open: Option<Time> = None;
    for event in alarms(sim) {
        if event.alarm.kind != kind || event.alarm.object != *object {
            continue;
        }
        match event.cleared {
            None => assert_eq!(open.replace(event.at), None, "raised twice"),
            Some(_) => spans.push((open.take().expect("cleared but never raised"), event.at)),
        }
    }
    spans.extend(open.map(|since| (since, Time::MAX)));
    spans
}

/// The spans of both in one: what touches stays apart, as a trap at exactly a deadline comes after it.
fn union(one: Vec<(Time, Time)>, other: Vec<(Time, Time)>) -> Vec<(Time, Time)> {
    let mut all = [one, other].concat();
    all.sort_unstable();
    let mut union: Vec<(Time, Time)> = Vec::new();
    for (from, to) in all {
        match union.last_mut() {
            Some(last) if from < last.1 => last.1 = last.1.max(to),
            _ => union.push((from, to)),
        }
    }
    union
}

proptest! {
    #![proptest_config(cases(400))]

    /// INST-14, held against an agent that knows of no link: for any interleaving of traps of the two
    /// ends, the one alarm is active exactly while one of them or both are unstable, raises and clears
    /// take turns, and the ends raise nothing of their own. INST-13: each end is told as down exactly
    /// while its last trap was linkDown and the link is stable. INST-17: restarts change nothing.
    /// And nothing changes for an interface that is no end.
    #[test]
    fn inst_14_the_link_is_unstable_exactly_while_an_end_is(
        steps in vec(step(), 0..80),
        windows in (prop_oneof![Just(10u64), Just(30)], prop_oneof![Just(30u64), Just(600)]),
        in_time in any::<bool>(),
    ) {
        let mut alone = open_settings();
        alone.instability.otherwise.interfaces = analysis(windows.0, 2);
        let mut slow = Group::exempt();
        slow.matches = of_system("10.0.0.2/32");
        slow.settings.interfaces = analysis(windows.1, 3);
        slow.settings.interface_down = true;
        alone.instability.groups = vec![slow];
        let with_link = run(&linked(alone.clone()), &steps, in_time);
        let without = run(&alone, &steps, true);

        let [one, other, third] = INTERFACES.map(|(system, if_index)| {
            let system = System(IpAddr::from([10, 0, 0, system]));
            Object::Interface { system, if_index }
        });
        let link = Link::new(interface("10.0.0.1", 3), interface("10.0.0.2", 7)).unwrap();
        let link = spans(&with_link, Kind::LinkUnstable, &Object::Link(link));
        let of_ends = |sim: &Sim| {
            [&one, &other].map(|end| spans(sim, Kind::InterfaceUnstable, end))
        };
        let [first, second] = of_ends(&without);
        prop_assert_eq!(&link, &union(first, second));
        prop_assert_eq!(of_ends(&with_link), [vec![], vec![]]);

        for (end, which) in [(&one, 0), (&other, 1)] {
            let mut now = at(0);
            let mut down: Vec<(Time, Time)> = Vec::new();
            for &(gap, step) in &steps {
                now = now + Duration::from_millis(gap);
                let Step::Trap(of, up) = step else { continue };
                let since = down.last().filter(|span| span.1 == Time::MAX).map(|span| span.0);
                match (since, up) {
                    (None, false) if of == which => down.push((now, Time::MAX)),
                    (Some(since), true) if of == which => {
                        down.pop();
                        down.push((since, now));
                    }
                    _ => {}
                }
            }
            let told = without_spans(&spans(&with_link, Kind::InterfaceDown, end), &[]);
            prop_assert_eq!(told, without_spans(&down, &link), "{}", end);
        }

        let kept = |sim: &Sim| {
            [Kind::InterfaceUnstable, Kind::InterfaceDown].map(|kind| spans(sim, kind, &third))
        };
        prop_assert_eq!(kept(&with_link), kept(&without));
        prop_assert_eq!(with_link.agent.instability().unstable(), 0);
    }
}

/// What is left of spans without those; nothing of what has no length.
fn without_spans(spans: &[(Time, Time)], those: &[(Time, Time)]) -> Vec<(Time, Time)> {
    let mut left = spans.to_vec();
    for &(from, to) in those {
        let parts = |(begin, end): (Time, Time)| [(begin, end.min(from)), (begin.max(to), end)];
        left = left.into_iter().flat_map(parts).collect();
    }
    left.retain(|(begin, end)| begin < end);
    left
}
