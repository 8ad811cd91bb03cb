//! Holds every form to documents made by hand, `testdata/*.json`: what a person, a script and a
//! monitoring system are shown of each stands beside it.
//!
//! To see what a changed screen looks like, run these tests with `EVENKEEL_WRITE_EXPECTED=1`: the `.txt`
//! files and `schema.json` are then written, for the eye and the version control to judge.

use std::{collections::BTreeSet, fs, path::PathBuf};

use anstream::adapter::strip_str;
use evenkeel_core::standby::Failure;
use serde_json::Value;
use unicode_width::UnicodeWidthStr;

use super::{
    check::{Mapping, State},
    table::View,
    verdict::Level,
    *,
};

/// What is done if nothing is asked for.
const DEFAULT: Mapping =
    Mapping { critical_from: Severity::Critical, warning_from: Severity::Warning };

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
            agent: None,
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
        expect(&format!("testdata/{name}.check.txt"), &(status.check(DEFAULT).line + "\n"));
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
    let line = status.check(DEFAULT).line;
    assert!(!steers(&line) && !line.contains('\n'));
    assert_eq!(line.matches('|').count(), 1, "one begins the performance data: {line}");
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

    let line = status.check(DEFAULT).line;
    let expected = "EVENKEEL CRITICAL - 1 subnet down (subnet_down-0); 5000 peers down (peer_down-0, \
                    peer_down-1, peer_down-2, 4997 more); 12 interfaces down (12 more) | \
                    alarms=5013;;;0 critical=1;;;0 major=5000;;;0 minor=12;;;0 ";
    assert!(line.starts_with(expected), "{line}");
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
fn a_check_ends_with_the_state_that_the_worst_alarm_is_mapped_to() {
    use Severity::{Critical, Major, Minor, Warning};
    let (subnet, unstable, down) = (Kind::SubnetDown, Kind::SystemUnstable, Kind::InterfaceDown);
    let ip_down = Kind::InterfaceIpDown;
    for (alarms, critical_from, warning_from, state, words) in [
        (&[][..], Critical, Warning, State::Ok, "all is well: 2 subnets up, 128000 peers alive, 1"),
        (&[(down, 1)], Critical, Warning, State::Warning, "1 interface down (interface_down-0)"),
        (&[(down, 1)], Critical, Major, State::Ok, "1 interface down (interface_down-0)"),
        (&[(down, 1)], Minor, Warning, State::Critical, "1 interface down"),
        (
            &[(unstable, 2)],
            Critical,
            Warning,
            State::Warning,
            "2 systems unstable (system_unstable-0, ",
        ),
        (&[(unstable, 2)], Major, Warning, State::Critical, "2 systems unstable"),
        (&[(unstable, 2)], Critical, Critical, State::Ok, "2 systems unstable"),
        (
            &[(down, 1), (ip_down, 1), (subnet, 1)],
            Critical,
            Warning,
            State::Critical,
            "1 subnet down (subnet_down-0); 1 local interface down at the IP level (interface_ip_down-0)",
        ),
        // What is critical is so, whatever counts as a warning.
        (&[(down, 1)], Minor, Critical, State::Critical, "1 interface down"),
    ] {
        let answer = with_alarms("well", alarms).check(Mapping { critical_from, warning_from });
        assert_eq!(answer.state, state, "{}", answer.line);
        let name = ["OK", "WARNING", "CRITICAL", "UNKNOWN"][state as usize];
        let expected = format!("EVENKEEL {name} - {words}");
        assert!(answer.line.starts_with(&expected), "{} begins not with {expected}", answer.line);
    }
}

#[test]
fn the_agents_own_problems_are_a_warning_to_a_check() {
    let mut status = document("well");
    status.agent.problems = vec!["no subnet is polled:\nno | socket".to_owned()];
    let answer = status.check(Mapping { critical_from: Severity::Warning, ..DEFAULT });
    assert_eq!(answer.state, State::Warning);
    let line = answer.line;
    assert!(
        line.starts_with(
            "EVENKEEL WARNING - the agent: no subnet is polled:; no / socket | alarms=0"
        ),
        "{line}"
    );
    status.peers.as_mut().unwrap().problems = vec!["a file is bad".to_owned()];
    let answer = status.check(DEFAULT);
    assert_eq!(answer.state, State::Warning);
    assert!(answer.line.contains("socket and 1 more problem | "), "{}", answer.line);
    assert!(answer.line.contains(" problems=2;;;0 "), "{}", answer.line);
}

#[test]
fn the_performance_data_has_the_form_of_the_guidelines() {
    let line = document("wrong").check(DEFAULT).line;
    let (text, data) = line.split_once(" | ").unwrap();
    assert!(text.chars().count() <= 1_100);
    for item in data.split(' ') {
        let (label, values) = item.split_once('=').unwrap();
        assert!(label.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{item}");
        let values: Vec<&str> = values.split(';').collect();
        let number = values[0].trim_end_matches(['c', 's']);
        assert!(number.parse::<u64>().is_ok(), "{item}");
        assert_eq!(values[1..], ["", "", "0"], "{item}");
    }
}

#[test]
fn a_check_that_can_tell_nothing_says_why_in_one_line() {
    let answer = check::Answer::unknown("keel.toml:2:3: unknown key\nkeel.toml:5:1: a | b\n");
    assert_eq!(answer.state, State::Unknown);
    assert_eq!(answer.line, "EVENKEEL UNKNOWN - keel.toml:2:3: unknown key; keel.toml:5:1: a / b");
    let long = check::Answer::unknown(&"x".repeat(5_000)).line;
    assert!(long.len() < 1_100 && long.ends_with("x..."), "{long}");
}

#[test]
fn the_schema_in_the_repository_is_that_of_the_types() {
    expect("schema.json", &command::schema());
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

/// The names of all properties in a schema.
fn properties(schema: &Value, names: &mut BTreeSet<String>) {
    if let Some(object) = schema.as_object() {
        if let Some(of_it) = object.get("properties").and_then(Value::as_object) {
            names.extend(of_it.keys().cloned());
        }
        object.values().for_each(|inner| properties(inner, names));
    }
    if let Some(list) = schema.as_array() {
        list.iter().for_each(|inner| properties(inner, names));
    }
}

#[test]
fn the_page_names_every_field_of_the_json_and_every_line_and_label() {
    let page = fs::read_to_string(here("README.md")).unwrap();
    let mut names = BTreeSet::new();
    properties(&serde_json::from_str(&command::schema()).unwrap(), &mut names);
    assert!(names.len() > 80, "{names:?}");
    let wrong = document("wrong");
    names.extend(wrong.lines().lines().map(|line| line.split('\t').next().unwrap().to_owned()));
    let line = wrong.check(DEFAULT).line;
    let data = line.split_once(" | ").unwrap().1;
    names.extend(data.split(' ').map(|item| item.split('=').next().unwrap().to_owned()));
    let missing: Vec<_> =
        names.iter().filter(|name| !page.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "README.md does not name {missing:?}");
}
