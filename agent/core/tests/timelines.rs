//! The rules of instability as a field engineer would check them with a pencil: traps as real
//! datagrams on one side, alarms to the millisecond on the other.

use std::time::Duration;

use evenkeel_core::{
    input::{Event, Input},
    instability::Outcome,
    settings::{Analysis, Group, GroupSettings, Instability, Match, Settings, Threshold, Window},
    state::State,
    trap::Form,
};

use crate::common::{
    ber::{Message, if_entry, number, octets, tlv, varbind},
    sim::{Sim, at, open_settings},
    timeline::check,
};

pub fn analysis(window: u64, threshold: u16) -> Option<Analysis> {
    let window = Window::new(Duration::from_secs(window))?;
    Some(Analysis { window, threshold: Threshold::new(threshold)? })
}

/// Interfaces by this window and threshold, without groups and without `interface_down`.
pub fn only_unstable(window: u64, threshold: u16) -> Settings {
    let otherwise = GroupSettings {
        interfaces: analysis(window, threshold),
        systems: Some(Analysis::SYSTEMS),
        interface_down: false,
    };
    let instability = Instability { groups: vec![], otherwise, ..Instability::default() };
    Settings { instability, ..open_settings() }
}

fn play(text: &str) {
    check(&only_unstable(30, 2), &[], text);
}

fn play_shipped(text: &str) {
    check(&open_settings(), &[], text);
}

#[test]
fn the_worked_examples_of_the_specification_inst_3_to_inst_8() {
    play("0s linkDown 10.0.0.1 3\n 31s linkDown 10.0.0.1 3");
    play(
        "0s linkDown 10.0.0.1 3
        30s linkDown 10.0.0.1 3
        30s > raise interface_unstable 10.0.0.1 ifIndex 3
        1m > clear interface_unstable 10.0.0.1 ifIndex 3 ended",
    );
    play(
        "0s linkDown 10.0.0.1 3
        5s linkDown 10.0.0.1 3
        5s > raise interface_unstable 10.0.0.1 ifIndex 3
        35s > clear interface_unstable 10.0.0.1 ifIndex 3 ended",
    );
    play(
        "0s linkDown 10.0.0.1 3
        20s linkDown 10.0.0.1 3
        45s linkDown 10.0.0.1 3
        80s linkDown 10.0.0.1 3
        20s > raise interface_unstable 10.0.0.1 ifIndex 3
        2m40s > clear interface_unstable 10.0.0.1 ifIndex 3 ended",
    );
    play(
        "0s linkDown 10.0.0.1 3
        20s linkDown 10.0.0.1 3
        80s linkDown 10.0.0.1 3
        20s > raise interface_unstable 10.0.0.1 ifIndex 3
        50s > clear interface_unstable 10.0.0.1 ifIndex 3 ended
        110s linkDown 10.0.0.1 3
        1m50s > raise interface_unstable 10.0.0.1 ifIndex 3
        2m20s > clear interface_unstable 10.0.0.1 ifIndex 3 ended",
    );
    play(
        "0s linkDown 10.0.0.1 3
        40s linkDown 10.0.0.1 3
        60s linkDown 10.0.0.1 3
        1m > raise interface_unstable 10.0.0.1 ifIndex 3
        1m30s > clear interface_unstable 10.0.0.1 ifIndex 3 ended",
    );
    let mut every_25_s = String::new();
    for second in (0..=5000).step_by(25) {
        every_25_s += &format!("{second}s linkDown 10.0.0.1 3\n");
    }
    // Stable at 8600 s.
    every_25_s += "25s > raise interface_unstable 10.0.0.1 ifIndex 3
        2h23m20s > clear interface_unstable 10.0.0.1 ifIndex 3 ended";
    play(&every_25_s);
}

#[test]
fn the_window_is_right_to_the_millisecond_inst_3() {
    play("0s linkDown 10.0.0.1 3\n 30s1ms linkDown 10.0.0.1 3");
    play(
        "0s1ms linkDown 10.0.0.1 3
        30s1ms linkDown 10.0.0.1 3
        30s1ms > raise interface_unstable 10.0.0.1 ifIndex 3
        1m1ms > clear interface_unstable 10.0.0.1 ifIndex 3 ended",
    );
    // It slides: no fixed slots. Three within 30 s, across every boundary of 30 s.
    check(
        &only_unstable(30, 3),
        &[],
        "0s linkDown 10.0.0.1 3
        20s linkDown 10.0.0.1 3
        31s linkDown 10.0.0.1 3
        50s linkDown 10.0.0.1 3
        50s > raise interface_unstable 10.0.0.1 ifIndex 3
        1m20s > clear interface_unstable 10.0.0.1 ifIndex 3 ended",
    );
}

#[test]
fn a_trap_at_exactly_the_deadline_comes_after_it_and_one_before_it_counts_however_late_it_is_told()
{
    play(
        "0s linkDown 10.0.0.1 3
        5s linkDown 10.0.0.1 3
        35s linkDown 10.0.0.1 3
        5s > raise interface_unstable 10.0.0.1 ifIndex 3
        35s > clear interface_unstable 10.0.0.1 ifIndex 3 ended",
    );
    play(
        "0s linkDown 10.0.0.1 3
        5s linkDown 10.0.0.1 3
        34s999ms linkDown 10.0.0.1 3 handed=3m
        5s > raise interface_unstable 10.0.0.1 ifIndex 3
        1m9s998ms > clear interface_unstable 10.0.0.1 ifIndex 3 ended",
    );
}

#[test]
fn a_system_is_judged_by_cold_and_warm_starts_together_and_by_nothing_else_inst_1() {
    play_shipped(
        "0s coldStart 10.0.0.1
        100s warmStart 10.0.0.1
        200s coldStart 10.0.0.2
        300s coldStart 10.0.0.1
        5m > raise system_unstable 10.0.0.1
        10m > clear system_unstable 10.0.0.1 ended",
    );
    // Restart traps make no interface unstable, nor link traps a system, nor one interface another.
    play(
        "0s linkDown 10.0.0.1 3
        1s coldStart 10.0.0.1
        2s linkDown 10.0.0.1 4
        3s warmStart 10.0.0.1
        4s linkDown 10.0.0.2 3",
    );
}

#[test]
fn link_ups_count_only_until_the_first_link_down_of_the_system_inst_2() {
    play(
        "0s linkUp 10.0.0.1 3
        10s linkUp 10.0.0.1 3
        10s > raise interface_unstable 10.0.0.1 ifIndex 3
        40s > clear interface_unstable 10.0.0.1 ifIndex 3 ended",
    );
    // linkUps of one interface are forgotten at a linkDown of another one of the system.
    play(
        "0s linkUp 10.0.0.1 3
        1s linkDown 10.0.0.1 4
        2s linkUp 10.0.0.1 3
        3s linkUp 10.0.0.1 3
        4s linkDown 10.0.0.1 3",
    );
    // What is unstable already stays so, but its linkUps count no more.
    play(
        "0s linkUp 10.0.0.1 3
        10s linkUp 10.0.0.1 3
        10s > raise interface_unstable 10.0.0.1 ifIndex 3
        20s linkDown 10.0.0.1 4
        30s linkUp 10.0.0.1 3
        40s > clear interface_unstable 10.0.0.1 ifIndex 3 ended",
    );
    // Another system has nothing to do with it.
    play(
        "0s linkDown 10.0.0.2 3
        0s linkUp 10.0.0.1 3
        9s linkUp 10.0.0.1 3
        9s > raise interface_unstable 10.0.0.1 ifIndex 3
        39s > clear interface_unstable 10.0.0.1 ifIndex 3 ended",
    );
}

#[test]
fn that_a_system_sends_link_down_is_kept_across_a_restart_inst_2() {
    play(
        "0s linkDown 10.0.0.1 4
        1s restart 2s
        3s linkUp 10.0.0.1 3
        4s linkUp 10.0.0.1 3
        5s linkUp 10.0.0.1 4",
    );
    play(
        "0s linkUp 10.0.0.1 3
        1s linkDown 10.0.0.1 4
        2s restart 3s
        4s linkDown 10.0.0.1 3",
    );
    play(
        "0s linkUp 10.0.0.1 3
        2s restart 3s
        4s linkUp 10.0.0.1 3
        4s > raise interface_unstable 10.0.0.1 ifIndex 3
        34s > clear interface_unstable 10.0.0.1 ifIndex 3 ended",
    );
}

#[test]
fn an_inform_that_is_sent_again_and_a_doubled_datagram_count_once_inst_9() {
    play(
        "0s linkDown 10.0.0.1 3 form=inform id=7 up=500000
        15s linkDown 10.0.0.1 3 form=inform id=7 up=500000
        30s linkDown 10.0.0.1 3 form=inform id=7 up=500000",
    );
    play(
        "0s linkDown 10.0.0.1 3 id=7 up=500000
        1ms linkDown 10.0.0.1 3 id=7 up=500000
        2ms linkDown 10.0.0.1 3 form=v1 up=500000",
    );
    // Neither another request-id nor another uptime is a copy.
    for other in ["id=8 up=500000", "id=7 up=500001"] {
        play(&format!(
            "0s linkDown 10.0.0.1 3 id=7 up=500000
            1s linkDown 10.0.0.1 3 {other}
            1s > raise interface_unstable 10.0.0.1 ifIndex 3
            31s > clear interface_unstable 10.0.0.1 ifIndex 3 ended"
        ));
    }
}

#[test]
fn one_trap_directly_and_through_a_forwarder_counts_once_inst_9() {
    let mut settings = only_unstable(30, 2);
    settings.access.forwarders = vec!["192.0.2.9/32".parse().unwrap()];
    check(
        &settings,
        &[],
        "0s linkDown 10.0.0.1 3 id=7 up=500000
        200ms linkDown 10.0.0.1 3 id=7 up=500000 via=192.0.2.9
        10s linkDown 10.0.0.2 3 form=v1 up=600000
        11s linkDown 10.0.0.2 3 form=v1 up=600000 via=192.0.2.9
        12s linkDown 10.0.0.2 3 id=99 up=600000 via=192.0.2.9",
    );
    // Who is no forwarder speaks for itself only (TRAP-2).
    check(
        &settings,
        &[],
        "0s linkDown 10.0.0.1 3 via=192.0.2.8
        1s linkDown 10.0.0.2 3 via=192.0.2.8
        1s > raise interface_unstable 192.0.2.8 ifIndex 3
        31s > clear interface_unstable 192.0.2.8 ifIndex 3 ended",
    );
}

#[test]
fn a_system_that_restarts_over_and_over_sends_no_copies_inst_9() {
    play_shipped(
        "0s coldStart 10.0.0.1 form=v1 up=0
        60s coldStart 10.0.0.1 form=v1 up=0
        120s coldStart 10.0.0.1 form=v1 up=0
        2m > raise system_unstable 10.0.0.1
        7m > clear system_unstable 10.0.0.1 ended",
    );
    play_shipped(
        "0s coldStart 10.0.0.1 id=1 up=0
        70s coldStart 10.0.0.1 id=1 up=0
        140s coldStart 10.0.0.1 id=1 up=0
        2m20s > raise system_unstable 10.0.0.1
        7m20s > clear system_unstable 10.0.0.1 ended",
    );
}

#[test]
fn any_form_feeds_one_counter_inst_10() {
    check(
        &only_unstable(30, 5),
        &[],
        "0s linkDown 10.0.0.1 3 form=v1
        1s linkDown 10.0.0.1 3 form=v2c
        2s linkDown 10.0.0.1 3 form=inform
        3s linkDown 10.0.0.1 3 form=v3
        4s linkDown 10.0.0.1 3 form=v3inform
        4s > raise interface_unstable 10.0.0.1 ifIndex 3
        34s > clear interface_unstable 10.0.0.1 ifIndex 3 ended",
    );
}

#[test]
fn one_trap_in_two_forms_counts_once_where_nothing_tells_them_apart_inst_9() {
    let forms = ["v1", "v2c", "inform", "v3", "v3inform"];
    for (first, second) in forms.iter().flat_map(|a| forms.map(|b| (*a, b))) {
        play(&format!(
            "0s linkDown 10.0.0.1 3 form={first} id=7 up=500000
            2s linkDown 10.0.0.1 3 form={second} id=7 up=500000"
        ));
        for other in ["id=8 up=500000", "id=7 up=500001"] {
            // An SNMPv1 trap has no request-id.
            if other.starts_with("id=8") && (first == "v1" || second == "v1") {
                continue;
            }
            play(&format!(
                "0s linkDown 10.0.0.1 3 form={first} id=7 up=500000
                2s linkDown 10.0.0.1 3 form={second} {other}
                2s > raise interface_unstable 10.0.0.1 ifIndex 3
                32s > clear interface_unstable 10.0.0.1 ifIndex 3 ended"
            ));
        }
    }
}

#[test]
fn turning_it_off_clears_what_is_raised_inst_11() {
    let mut off = only_unstable(30, 2);
    off.instability.otherwise.interfaces = None;
    off.instability.otherwise.systems = None;
    check(
        &only_unstable(30, 2),
        &[("off", off), ("on", only_unstable(30, 2))],
        "0s linkDown 10.0.0.1 3
        1s linkDown 10.0.0.1 3
        1s linkDown 10.0.0.1 4
        1s > raise interface_unstable 10.0.0.1 ifIndex 3
        2s coldStart 10.0.0.1
        3s coldStart 10.0.0.1
        4s coldStart 10.0.0.1
        4s > raise system_unstable 10.0.0.1
        10s reload off
        10s > clear system_unstable 10.0.0.1 turned_off
        10s > clear interface_unstable 10.0.0.1 ifIndex 3 turned_off
        11s linkDown 10.0.0.1 3
        12s linkDown 10.0.0.1 3
        13s reload on
        14s linkDown 10.0.0.1 4",
    );
}

#[test]
fn an_interface_that_is_down_when_its_analysis_is_turned_off_is_told_as_down_inst_11_inst_13() {
    let mut off = open_settings();
    off.instability.otherwise.interfaces = None;
    check(
        &open_settings(),
        &[("off", off)],
        "0s linkDown 10.0.0.1 3
        0s > raise interface_down 10.0.0.1 ifIndex 3
        1s linkDown 10.0.0.1 3
        1s > clear interface_down 10.0.0.1 ifIndex 3 superseded
        1s > raise interface_unstable 10.0.0.1 ifIndex 3
        10s reload off
        10s > clear interface_unstable 10.0.0.1 ifIndex 3 turned_off
        10s > raise interface_down 10.0.0.1 ifIndex 3
        20s linkUp 10.0.0.1 3
        20s > clear interface_down 10.0.0.1 ifIndex 3 ended",
    );
}

#[test]
fn isdn_backup_and_dial_on_demand_interfaces_are_exempt_as_shipped_inst_12() {
    for names in [
        "type=20",
        "type=77",
        "descr=Dialer1",
        "descr=BRI0:1",
        "descr=Serial0_B-Channel",
        "name=Di1",
        "name=BR1",
        "alias=backup-to-core",
        "alias=dial-on-demand",
    ] {
        play_shipped(&format!(
            "0s linkDown 10.0.0.1 3 {names}
            1s linkDown 10.0.0.1 3 {names}
            2s linkUp 10.0.0.1 3
            3s linkDown 10.0.0.1 3"
        ));
    }
    for names in ["type=6 descr=GigabitEthernet0/1", "name=Gi0/1", "type=23", "alias=core"] {
        play_shipped(&format!(
            "0s linkUp 10.0.0.1 3
            0s linkDown 10.0.0.1 3 {names}
            0s > raise interface_down 10.0.0.1 ifIndex 3
            1s linkDown 10.0.0.1 3 {names}
            1s > clear interface_down 10.0.0.1 ifIndex 3 superseded
            1s > raise interface_unstable 10.0.0.1 ifIndex 3
            2s linkUp 10.0.0.1 3
            31s > clear interface_unstable 10.0.0.1 ifIndex 3 ended"
        ));
    }
}

/// Group `slow` (10 of 3600 s) and group `fast` (3 of 5 s), both for some systems.
fn grouped() -> Settings {
    let group = |name: &str, systems: &[&str], if_index: &[u32], window, threshold| Group {
        name: name.to_owned(),
        matches: Match {
            systems: systems.iter().map(|prefix| prefix.parse().unwrap()).collect(),
            if_index: if_index.to_vec(),
            ..Match::default()
        },
        settings: GroupSettings {
            interfaces: analysis(window, threshold),
            systems: None,
            interface_down: false,
        },
    };
    let mut settings = only_unstable(30, 2);
    settings.instability.groups = vec![
        group("fast", &["10.1.0.0/16"], &[], 5, 3),
        group("slow", &["10.0.0.0/8"], &[9], 3600, 2),
    ];
    settings
}

#[test]
fn the_first_group_that_matches_wins_inst_12() {
    check(
        &grouped(),
        &[],
        "0s linkDown 10.1.0.1 9
        4s linkDown 10.1.0.1 9
        9s linkDown 10.1.0.1 9
        100s linkDown 10.2.0.1 9
        2000s linkDown 10.2.0.1 9
        33m20s > raise interface_unstable 10.2.0.1 ifIndex 9
        3000s linkDown 10.2.0.1 8
        3030s linkDown 10.2.0.1 8
        50m30s > raise interface_unstable 10.2.0.1 ifIndex 8
        51m > clear interface_unstable 10.2.0.1 ifIndex 8 ended
        1h33m20s > clear interface_unstable 10.2.0.1 ifIndex 9 ended",
    );
}

#[test]
fn a_group_that_the_reload_brings_holds_for_interfaces_that_are_known_already_inst_15() {
    // Their traps carry no names, as most linkDowns do.
    check(
        &only_unstable(30, 2),
        &[("grouped", grouped())],
        "0s linkDown 10.1.0.1 9
        0s linkDown 10.2.0.1 9
        100s reload grouped
        200s linkDown 10.1.0.1 9
        204s linkDown 10.1.0.1 9
        300s linkDown 10.2.0.1 9
        1300s linkDown 10.2.0.1 9
        5m > raise interface_unstable 10.2.0.1 ifIndex 9
        1h21m40s > clear interface_unstable 10.2.0.1 ifIndex 9 ended",
    );
    // Across a restart with another configuration too: see restarted_with.
    let mut sim = Sim::new(only_unstable(30, 2));
    let trap = |secs: i64| Message { uptime: 100_000 + secs * 100, ..link_down(9) }.encode();
    sim.datagram("10.1.0.1".parse().unwrap(), at(0), &trap(0));
    let state = sim.agent.export(at(1000));
    let mut sim = Sim::new(grouped());
    sim.agent.restore(state, Duration::ZERO, at(1000));
    sim.datagram("10.1.0.1".parse().unwrap(), at(2000), &trap(2));
    assert!(sim.events.is_empty(), "the group asks for three");
}

#[test]
fn an_interface_stays_exempt_by_name_across_a_reload_and_a_restart_inst_12() {
    check(
        &open_settings(),
        &[("same", open_settings())],
        "0s linkDown 10.0.0.1 3 descr=Dialer1
        1s reload same
        2s linkDown 10.0.0.1 3
        3s restart 4s
        5s linkDown 10.0.0.1 3
        6s linkDown 10.0.0.1 3",
    );
}

#[test]
fn down_and_unstable_exclude_each_other_inst_13() {
    // It becomes stable again with linkDown as its last link trap.
    play_shipped(
        "0s linkDown 10.0.0.1 3
        0s > raise interface_down 10.0.0.1 ifIndex 3
        5s linkUp 10.0.0.1 3
        5s > clear interface_down 10.0.0.1 ifIndex 3 ended
        10s linkDown 10.0.0.1 3
        10s > raise interface_unstable 10.0.0.1 ifIndex 3
        40s > clear interface_unstable 10.0.0.1 ifIndex 3 ended
        40s > raise interface_down 10.0.0.1 ifIndex 3
        50s linkUp 10.0.0.1 3
        50s > clear interface_down 10.0.0.1 ifIndex 3 ended",
    );
    // With linkUp as its last.
    play_shipped(
        "0s linkDown 10.0.0.1 3
        0s > raise interface_down 10.0.0.1 ifIndex 3
        10s linkDown 10.0.0.1 3
        10s > clear interface_down 10.0.0.1 ifIndex 3 superseded
        10s > raise interface_unstable 10.0.0.1 ifIndex 3
        11s linkUp 10.0.0.1 3
        40s > clear interface_unstable 10.0.0.1 ifIndex 3 ended",
    );
    // A linkUp after the deadline finds it down; one before it, but told later, does not.
    play_shipped(
        "0s linkDown 10.0.0.1 3
        0s > raise interface_down 10.0.0.1 ifIndex 3
        10s linkDown 10.0.0.1 3
        10s > clear interface_down 10.0.0.1 ifIndex 3 superseded
        10s > raise interface_unstable 10.0.0.1 ifIndex 3
        40s > clear interface_unstable 10.0.0.1 ifIndex 3 ended
        40s > raise interface_down 10.0.0.1 ifIndex 3
        40s1ms linkUp 10.0.0.1 3
        40s1ms > clear interface_down 10.0.0.1 ifIndex 3 ended",
    );
    play_shipped(
        "0s linkDown 10.0.0.1 3
        0s > raise interface_down 10.0.0.1 ifIndex 3
        10s linkDown 10.0.0.1 3
        10s > clear interface_down 10.0.0.1 ifIndex 3 superseded
        10s > raise interface_unstable 10.0.0.1 ifIndex 3
        39s999ms linkUp 10.0.0.1 3 handed=2m
        40s > clear interface_unstable 10.0.0.1 ifIndex 3 ended",
    );
}

#[test]
fn a_reload_gives_a_running_episode_the_new_window_inst_15() {
    let reloads = [("short", only_unstable(10, 2)), ("long", only_unstable(100, 2))];
    // Longer: the wait grows.
    check(
        &only_unstable(30, 2),
        &reloads,
        "0s linkDown 10.0.0.1 3
        5s linkDown 10.0.0.1 3
        5s > raise interface_unstable 10.0.0.1 ifIndex 3
        20s reload long
        1m45s > clear interface_unstable 10.0.0.1 ifIndex 3 ended",
    );
    // Shorter: it shrinks.
    check(
        &only_unstable(30, 2),
        &reloads,
        "0s linkDown 10.0.0.1 3
        5s linkDown 10.0.0.1 3
        5s > raise interface_unstable 10.0.0.1 ifIndex 3
        12s reload short
        15s > clear interface_unstable 10.0.0.1 ifIndex 3 ended",
    );
    // Shorter, and over by that: it ends with the reload, not before it.
    check(
        &only_unstable(30, 2),
        &reloads,
        "0s linkDown 10.0.0.1 3
        5s linkDown 10.0.0.1 3
        5s > raise interface_unstable 10.0.0.1 ifIndex 3
        20s reload short
        20s > clear interface_unstable 10.0.0.1 ifIndex 3 ended",
    );
}

#[test]
fn a_reload_gives_a_count_under_way_the_new_threshold_inst_15() {
    let reloads = [("two", only_unstable(30, 2)), ("four", only_unstable(30, 4))];
    check(
        &only_unstable(30, 4),
        &reloads,
        "0s linkDown 10.0.0.1 3
        1s linkDown 10.0.0.1 3
        2s linkDown 10.0.0.1 3
        3s reload two
        20s linkDown 10.0.0.1 3
        20s > raise interface_unstable 10.0.0.1 ifIndex 3
        50s > clear interface_unstable 10.0.0.1 ifIndex 3 ended",
    );
    check(
        &only_unstable(30, 2),
        &reloads,
        "0s linkDown 10.0.0.1 3
        1s reload four
        2s linkDown 10.0.0.1 3
        3s linkDown 10.0.0.1 3
        30s linkDown 10.0.0.1 3
        30s > raise interface_unstable 10.0.0.1 ifIndex 3
        1m > clear interface_unstable 10.0.0.1 ifIndex 3 ended",
    );
}

#[test]
fn after_a_restart_nothing_is_raised_again_and_nothing_cleared_too_soon_inst_17() {
    // 10 s of quiet were heard before, so 20 s remain.
    play(
        "0s linkDown 10.0.0.1 3
        5s linkDown 10.0.0.1 3
        5s > raise interface_unstable 10.0.0.1 ifIndex 3
        15s restart 1000s
        17m > clear interface_unstable 10.0.0.1 ifIndex 3 ended",
    );
    // A trap after it: the wait starts again, by the whole unstable time.
    play(
        "0s linkDown 10.0.0.1 3
        5s linkDown 10.0.0.1 3
        5s > raise interface_unstable 10.0.0.1 ifIndex 3
        15s restart 100s
        110s linkDown 10.0.0.1 3
        3m40s > clear interface_unstable 10.0.0.1 ifIndex 3 ended",
    );
    // Two restarts in a row.
    play(
        "0s linkDown 10.0.0.1 3
        5s linkDown 10.0.0.1 3
        5s > raise interface_unstable 10.0.0.1 ifIndex 3
        15s restart 100s
        110s restart 200s
        3m30s > clear interface_unstable 10.0.0.1 ifIndex 3 ended",
    );
    // A count goes on with true ages.
    play(
        "0s linkDown 10.0.0.1 3
        10s restart 20s
        30s linkDown 10.0.0.1 3
        30s > raise interface_unstable 10.0.0.1 ifIndex 3
        1m > clear interface_unstable 10.0.0.1 ifIndex 3 ended",
    );
    play("0s linkDown 10.0.0.1 3\n 10s restart 20s\n 30s1ms linkDown 10.0.0.1 3");
    // Down stays down, and a copy stays a copy.
    play_shipped(
        "0s linkDown 10.0.0.1 3 id=5 up=700000
        0s > raise interface_down 10.0.0.1 ifIndex 3
        1s restart 2s
        3s linkDown 10.0.0.1 3 id=5 up=700000
        9s linkUp 10.0.0.1 3
        9s > clear interface_down 10.0.0.1 ifIndex 3 ended",
    );
}

fn link_down(if_index: u32) -> Message {
    let value = number(2, i64::from(if_index));
    Message { varbinds: vec![varbind(&if_entry(1, if_index), value)], ..Message::new(Form::V2c, 3) }
}

/// The alarms told, each as its time in milliseconds, raise or clear, and kind.
fn told(sim: &Sim) -> Vec<(u64, &'static str, &'static str)> {
    let alarms = sim.events.iter().filter_map(|event| match event {
        Event::Alarm(event) => Some(event),
        _ => None,
    });
    alarms
        .map(|event| {
            let what = event.cleared.map_or("raise", evenkeel_core::alarm::ClearReason::name);
            (event.at.since(at(0)).as_millis() as u64, what, event.alarm.kind.name())
        })
        .collect()
}

/// A state with an interface that is unstable and was raised, after traps at 0 s and 5 s, 10 s
/// later.
fn unstable_state(settings: &Settings) -> State {
    let mut sim = Sim::new(settings.clone());
    for (serial, secs) in [(1, 0), (2, 5)] {
        let trap = Message { request_id: serial, ..link_down(3) }.encode();
        sim.datagram("10.0.0.1".parse().unwrap(), at(secs * 1000), &trap);
    }
    sim.agent.export(at(15_000))
}

#[test]
fn a_trap_that_shortens_the_wait_after_a_crash_is_heeded_in_time_inst_17() {
    // After a crash the store may say that more of the time was deaf than has gone by, as traps
    // may have been lost. A trap that comes then is evidence, and the wait is computed from it.
    let settings = only_unstable(30, 2);
    let state = unstable_state(&settings);
    let mut sim = Sim::new(settings);
    sim.agent.restore(state, Duration::from_secs(600), at(15_000));
    sim.datagram("10.0.0.1".parse().unwrap(), at(16_000), &link_down(3).encode());
    let deadline = sim.agent.next_deadline().unwrap();
    let end = sim.agent.instability().episodes().next().unwrap().ends;
    assert!(deadline <= end, "the deadline may be too early, never too late");
}

#[test]
fn an_object_counts_from_its_first_trap_until_the_window_is_over_or_it_is_unstable_inst_3() {
    let mut sim = Sim::new(only_unstable(30, 2));
    let counting = |sim: &Sim, secs: u64| sim.agent.instability().counting(at(secs * 1000)).count();
    assert_eq!(counting(&sim, 0), 0);
    for (if_index, secs) in [(3, 0), (4, 10)] {
        let trap = link_down(if_index).encode();
        sim.datagram("10.0.0.1".parse().unwrap(), at(secs * 1000), &trap);
    }
    assert_eq!(counting(&sim, 30), 2);
    assert_eq!(counting(&sim, 31), 1);
    let trap = Message { request_id: 9, ..link_down(4) }.encode();
    sim.datagram("10.0.0.1".parse().unwrap(), at(40_000), &trap);
    assert_eq!((counting(&sim, 40), sim.agent.instability().episodes().count()), (0, 1));
}

#[test]
fn an_alarm_whose_record_is_lost_or_older_waits_its_full_window_inst_17() {
    let settings = only_unstable(30, 2);
    let full = unstable_state(&settings);
    // No record at all; and one that says that the interface is idle.
    let lost = State { alarms: full.alarms.clone(), ..State::default() };
    let mut idle = full.clone();
    for record in &mut idle.records {
        record.memory.phase = evenkeel_core::state::Phase::Idle;
    }
    for state in [lost, idle] {
        let mut sim = Sim::new(settings.clone());
        sim.begin_with(state, Duration::ZERO, at(100_000));
        sim.heard(at(129_999));
        assert_eq!(told(&sim), []);
        sim.heard(at(130_000));
        assert_eq!(told(&sim), [(130_000, "ended", "interface_unstable")]);
    }
}

#[test]
fn a_restart_with_room_for_fewer_objects_keeps_the_unstable_and_leaves_no_alarm_behind_inst_16() {
    let mut settings = open_settings();
    let mut sim = Sim::new(settings.clone());
    let mut serial = 0;
    for (system, traps) in [(1u8, 1), (2, 2), (3, 1), (4, 1)] {
        for trap in 0..traps {
            serial += 1;
            let message = Message { request_id: serial, ..link_down(3) }.encode();
            sim.datagram([10, 0, 0, system].into(), at(trap * 1000), &message);
        }
    }
    let state = sim.agent.export(at(5000));
    assert_eq!((state.records.len(), state.alarms.len()), (8, 4));
    settings.instability.max_objects = 5;
    let mut sim = Sim::new(settings);
    let left_out = sim.agent.restore(state, Duration::ZERO, at(5000));
    sim.drain();
    assert!(sim.agent.instability().objects() <= 5);
    assert!(left_out > 0);
    let gave_way = [(5000, "gave_way", "interface_down"); 2];
    assert_eq!(told(&sim), gave_way, "two of the four interfaces have room");
    assert_eq!(sim.agent.instability().unstable(), 1);
    // The table is sound: a flood finds its bound, and the unstable one stays.
    for system in 0..200 {
        let message = link_down(3).encode();
        sim.datagram([10, 9, 9, system].into(), at(6000), &message);
        assert!(sim.agent.instability().objects() <= 5);
    }
    assert_eq!(sim.agent.instability().unstable(), 1);
}

#[test]
fn a_link_trap_without_if_index_is_counted_as_malformed_and_changes_nothing_inst_18() {
    let mut sim = Sim::new(open_settings());
    let bare = Message::new(Form::V2c, 3);
    let zero = Message { varbinds: vec![varbind(&if_entry(1, 0), number(2, 0))], ..bare.clone() };
    let only_type =
        Message { varbinds: vec![varbind(&if_entry(3, 5), number(2, 6))], ..bare.clone() };
    let v1 = Message::new(Form::V1, 3);
    for message in [&bare, &zero, &only_type, &v1] {
        sim.datagram("10.0.0.1".parse().unwrap(), at(0), &message.encode());
    }
    assert_eq!(sim.agent.counters().outcomes[Outcome::NoIfIndex as usize], 4);
    assert_eq!(
        sim.agent.rejected().iter().map(|one| one.reason).collect::<Vec<_>>(),
        ["no_if_index"; 4]
    );
    assert_eq!(sim.agent.instability().objects(), 0);
    assert_eq!(sim.events, []);
}

#[test]
fn the_if_index_is_found_by_value_and_by_the_instance_of_four_columns_inst_18() {
    let status = || number(2, 2);
    for varbinds in [
        vec![varbind(&if_entry(1, 3), number(2, 3))],
        // The value of ifIndex goes before an instance, wherever it stands.
        vec![
            varbind(&if_entry(8, 4), status()),
            varbind(&[1, 3, 6, 1, 2, 1, 2, 2, 1, 1], number(2, 3)),
        ],
        vec![varbind(&if_entry(1, 3), tlv(5, &[]))],
        vec![varbind(&if_entry(2, 3), octets(b"Gi0/3"))],
        vec![varbind(&if_entry(7, 3), status())],
        vec![varbind(&if_entry(8, 3), status())],
        // One bad varbind among good ones costs nothing (TRAP-7).
        vec![tlv(0x30, &[6, 9, 1]), varbind(&if_entry(8, 3), status())],
    ] {
        for form in [Form::V1, Form::V2c, Form::Inform] {
            let mut sim = Sim::new(open_settings());
            let message = Message { varbinds: varbinds.clone(), ..Message::new(form, 3) };
            sim.datagram("10.0.0.1".parse().unwrap(), at(0), &message.encode());
            let Some(Event::Alarm(event)) = sim.events.first() else {
                panic!("no alarm after {message:?}");
            };
            assert_eq!(event.alarm.object.to_string(), "10.0.0.1 ifIndex 3");
        }
    }
}

#[test]
fn two_alarms_of_one_object_never_share_an_id_even_within_one_millisecond() {
    let mut settings = open_settings();
    settings.instability.otherwise.interfaces = None;
    let mut sim = Sim::new(settings);
    // Two of the traps came by another socket, and are handed in behind later ones.
    for (serial, (trap, millis)) in
        [(3, 5), (4, 5), (3, 6), (4, 6), (3, 5), (4, 5), (3, 6)].into_iter().enumerate()
    {
        let message = Message { trap, request_id: serial as i64, ..link_down(3) };
        sim.datagram("10.0.0.1".parse().unwrap(), at(millis), &message.encode());
    }
    let mut ids: Vec<_> = sim
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Alarm(event) if event.cleared.is_none() => Some(event.alarm.id),
            _ => None,
        })
        .collect();
    assert_eq!(ids.len(), 4);
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 4);
}

#[test]
fn a_step_of_the_wall_clock_raises_clears_and_delays_nothing() {
    let mut sim = Sim::new(only_unstable(30, 2));
    let trap = |id| Message { request_id: id, ..link_down(3) }.encode();
    let system = "10.0.0.1".parse().unwrap();
    sim.datagram(system, at(0), &trap(1));
    sim.feed(&Input::WallClock { origin_ms: 1_000_000_000 });
    sim.datagram(system, at(20_000), &trap(2));
    sim.feed(&Input::WallClock { origin_ms: -1_000_000_000 });
    sim.heard(at(49_999));
    assert_eq!(told(&sim), [(20_000, "raise", "interface_unstable")]);
    sim.heard(at(50_000));
    assert_eq!(told(&sim)[1], (50_000, "ended", "interface_unstable"));
}
