//! Holds every form to documents made by hand, `testdata/*.json`: what a person and a script
//! are shown of each stands beside it.
//!
//! To see what a changed screen looks like, run these tests with `EVENKEEL_WRITE_EXPECTED=1`: the `.txt`
//! files are then written, for the eye and the version control to judge.

use std::{fs, path::PathBuf};

use anstream::adapter::strip_str;
use evenkeel_core::standby::Failure;
use serde_json::Value;
use unicode_width::UnicodeWidthStr;

use super::{table::View, verdict::Level, *};

/// A file beside this one.
fn here(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("agent/status").join(name)
}

/// A document made by hand.
fn document(name: &str) -> Status {
    let text = fs::read_to_string(here(&format!("testdata/{name}.json"))).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Holds what was made to a file.
fn expect(name: &str, found: &str) {
    let path = here(name);
    if std::env::var_os("EVENKEEL_WRITE_EXPECTED").is_some() {
        fs::write(&path, found).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert!(found == expected, "{name} should be\n{expected}\nand is\n{found}");
}

/// The table as it is without colours.
fn table(status: &Status, width: usize, all: bool) -> String {
    strip_str(&status.table(View { width, all })).to_string()
}

/// A document with so many alarms of a kind in place of its own; a thousand of them are listed.
fn with_alarms(name: &str, alarms: &[(Kind, u64)]) -> Status {
    let mut status = document(name);
    status.alarms.clear();
    for (kind, active) in alarms {
        let listed = (0..*active).map(|number| AlarmStatus {
            id: format!("{number:016x}"),
            kind: kind.name().to_owned(),
            severity: kind.severity(),
            object: Object::Agent,
            object_text: format!("{kind}-{number}"),
            raised_at: status.agent.at.clone(),
            text: format!("{kind} {number}"),
        });
        status.alarms.extend(listed);
    }
    status.alarms.sort_by_key(|alarm| alarm.severity);
    status.alarms.truncate(1_000);
    status.alarms_active = alarms.iter().map(|(_, active)| active).sum();
    status.alarms_by_severity = SeverityCounts::new(alarms.iter().copied());
    status.alarms_by_kind =
        alarms.iter().map(|(kind, active)| (kind.name().to_owned(), *active)).collect();
    status
}

#[test]
fn each_document_is_shown_as_its_files_say() {
    for name in ["well", "starting", "wrong"] {
        let status = document(name);
        let table = table(&status, 80, false);
        expect(&format!("testdata/{name}.table.txt"), &table);
        expect(&format!("testdata/{name}.line.txt"), &status.lines());
        for line in table.lines() {
            assert!(line.width() <= 80 && line == line.trim_end(), "{line:?}");
        }
    }
}

#[test]
fn a_narrow_and_a_wide_screen_show_the_same_words() {
    let status = document("wrong");
    let words = |width| -> String {
        table(&status, width, false).split_whitespace().collect::<Vec<_>>().concat()
    };
    let expected = words(80);
    for width in [20, 40, 60, 132, 10_000] {
        assert_eq!(words(width), expected, "{width} columns");
    }
}

#[test]
fn what_devices_and_files_say_neither_steers_a_terminal_nor_breaks_a_line() {
    let mut text = fs::read_to_string(here("testdata/wrong.json")).unwrap();
    let lines = document("wrong").lines().lines().count();
    for harmless in ["eth0", "Gi0/3", "core", "nms", "keel-1", "no reply", "4 polls", "does not"] {
        text = text.replace(harmless, &format!("{harmless}\\u001b[2J\\n\\t\\u009b|\\u202e"));
    }
    let status: Status = serde_json::from_str(&text).unwrap();
    let steers =
        |text: &str| text.chars().any(|c| (c.is_control() && c != '\n') || c == '\u{202e}');
    assert!(!steers(&table(&status, 80, true)));
    assert_eq!(status.lines().lines().count(), lines);
    assert!(!steers(&status.lines().replace('\t', "")));
}

#[test]
fn subn_9_the_words_get_to_the_table_the_lines_and_the_json() {
    let view = |name: &str, up, failure: Option<Failure>, disabled, part| InterfaceView {
        name: name.to_owned(),
        up,
        link: failure != Some(Failure::LinkAndIp),
        failure,
        disabled,
        part,
    };
    let (primary, standby) = (Some(Part::Primary), Some(Part::Standby));
    let (ip_only, both) = (Some(Failure::IpOnly), Some(Failure::LinkAndIp));
    let json =
        |words: &str, status: &str, link: bool, disabled: bool, failure: Value, standby: bool| {
            serde_json::json!({
                "interface": "eth0", "status": status, "words": words, "link": link,
                "disabled": disabled, "failure_type": failure, "standby": standby,
            })
        };
    let none = Value::Null;
    for (up, failure, disabled, part, in_table, in_json) in [
        (Some(true), None, false, None, "up", json("up", "up", true, false, none.clone(), false)),
        (
            Some(true),
            None,
            false,
            standby,
            "up, the standby interface",
            json("up", "up", true, false, none.clone(), true),
        ),
        (
            Some(false),
            ip_only,
            false,
            None,
            "down (IP only)",
            json("down (IP only)", "down", true, false, "ip_only".into(), false),
        ),
        (
            Some(false),
            ip_only,
            true,
            primary,
            "down (disabled) (IP only)",
            json("down (disabled) (IP only)", "down", true, true, "ip_only".into(), false),
        ),
        (
            Some(false),
            both,
            false,
            primary,
            "down (Link and IP)",
            json("down (Link and IP)", "down", false, false, "link+ip".into(), false),
        ),
        (
            None,
            None,
            false,
            standby,
            "standby",
            json("standby", "unknown", true, false, none.clone(), true),
        ),
        (
            None,
            None,
            false,
            primary,
            "unknown",
            json("unknown", "unknown", true, false, none.clone(), false),
        ),
    ] {
        let interface = InterfaceStatus::new(&view("eth0", up, failure, disabled, part));
        assert_eq!(serde_json::to_value(&interface).unwrap(), in_json);
        let words = interface.words.clone();
        let mut status = document("well");
        status.subnets.truncate(1);
        status.subnets[0].interfaces = vec![interface];
        status.flows.clear();
        let table = table(&status, 80, false);
        assert!(table.contains(&format!("    eth0        {in_table}\n")), "{in_table}:\n{table}");
        assert!(status.lines().contains(&format!("\t{words}\t")), "{words}");
    }
}

#[test]
fn what_is_worst_is_coloured_as_such_and_no_colour_leaks() {
    let wrong = document("wrong").table(View { width: 80, all: false });
    for (what, expected) in [
        ("the worst severity", "\x1b[1m\x1b[31m3 critical\x1b[0m"),
        ("a major alarm's group", "\x1b[1m\x1b[31mMAJOR\x1b[0m"),
        ("a minor alarm's group", "\x1b[1m\x1b[33mMINOR\x1b[0m"),
        ("a subnet that is down", "\x1b[31mdown\x1b[0m\n"),
        ("an interface that is down", "\x1b[31mdown (IP only)\x1b[0m\n"),
        ("an interface that is up", "\x1b[32mup\x1b[0m, the standby interface"),
        ("what is not known", "\x1b[33munknown\x1b[0m"),
        ("a problem of the agent", "\x1b[33m! no subnet is polled"),
        ("a target that does not answer", "\x1b[31mUNREACHABLE\x1b[0m"),
        ("peers that are down", "\x1b[31m1 down\x1b[0m"),
    ] {
        assert!(wrong.contains(expected), "{what}: {wrong:?}");
    }
    let well = document("well").table(View { width: 80, all: false });
    assert!(well.contains("\x1b[1m\x1b[32mall is well\x1b[0m"), "{well:?}");
    for line in wrong.lines().chain(well.lines()) {
        let last = line.rfind("\x1b[");
        assert!(last.is_none_or(|at| line[at..].starts_with("\x1b[0m")), "{line:?}");
    }
    assert_eq!(
        Severity::ALL.map(|severity| Level::Alarm(severity).name()),
        ["critical", "major", "minor", "warning"]
    );
}

#[test]
fn a_thousand_alarms_do_not_push_the_worst_off_the_screen() {
    let alarms = [(Kind::SubnetDown, 1), (Kind::PeerDown, 5_000), (Kind::InterfaceDown, 12)];
    let status = with_alarms("well", &alarms);
    let short = table(&status, 80, false);
    assert!(short.starts_with("keel-1: 1 critical, 5000 major, 12 minor\n"), "{short}");
    assert!(short.contains("\nCRITICAL  1\n"), "{short}");
    assert!(short.contains("\n  and 4990 more (--all lists more)\n"), "{short}");
    assert!(short.lines().count() < 50, "{short}");
    // The agent lists a thousand; of those it does not list it tells the number.
    let long = table(&status, 80, true);
    assert!(long.contains("\n  and 4001 more\n\nMINOR  12\n  and 12 more\n"), "{long}");
    assert_eq!(long.matches("  peer_down ").count(), 999);
}

#[test]
fn a_subnet_with_many_flows_shows_those_that_are_down() {
    let mut status = document("well");
    let flow = status.flows[0].clone();
    status.flows = (0..40).map(|_| flow.clone()).collect();
    status.flows[33].status = UpDown::Down;
    status.flows[33].polled = "10.77.0.33".to_owned();
    let text = table(&status, 80, false);
    assert!(text.contains("10.77.0.2 > 10.77.0.33  down"), "{text}");
    assert!(text.contains("\n      and 30 more, all up (--all lists more)\n"), "{text}");
    assert_eq!(table(&status, 80, true).matches(" > ").count(), 40);
}

#[test]
fn the_documents_made_by_hand_have_every_field_and_no_other() {
    for name in ["well", "starting", "wrong"] {
        let text = fs::read_to_string(here(&format!("testdata/{name}.json"))).unwrap();
        let status: Status = serde_json::from_str(&text).unwrap();
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_value(&status).unwrap(), value, "{name}");
    }
}
