//! Timelines as text, as a field engineer would write them down:
//!
//! ```text
//! 0s     linkDown 10.0.0.1 3
//! 0s     > raise interface_down 10.0.0.1 ifIndex 3
//! 31s    linkUp 10.0.0.1 3 form=v1 via=192.0.2.9 handed=40s
//! 31s    > clear interface_down 10.0.0.1 ifIndex 3 ended
//! ```
//!
//! A line with `>` is what must come out, the others are what goes in. Traps are `linkDown`,
//! `linkUp`, `coldStart` and `warmStart`, with the moment of their receipt; a trap may say `form`
//! (`v1`, `v2c`, `inform`, `v3`, `v3inform`), `via` (the source, which is then a forwarder and the system goes into
//! snmpTrapAddress.0 or the agent address), `from` (the source of a trap that names nobody),
//! `id` (request-id), `up` (sysUpTime), `handed` (when it reaches the agent), `type`, `descr`,
//! `name` and `alias`. Without `id` and `up` each trap has its own. Other lines are
//! `reload NAME`, `restart BACK` (stopped at the time of the line, deaf until BACK) and `end`.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use evenkeel_core::{
    input::{Event, Input},
    settings::Settings,
    time::Time,
    trap::Form,
};

use super::{
    ber::{Message, SNMP_TRAP_ADDRESS, if_entry, if_x_entry, number, octets, tlv, varbind},
    sim::{START, Sim, at},
};

/// Plays a timeline and holds what comes out against what it says. `reloads` are the settings
/// that it may name.
pub fn check(settings: &Settings, reloads: &[(&str, Settings)], text: &str) {
    let mut expected = Vec::new();
    let mut steps = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        match line.split_once('>') {
            Some((time, event)) => expected.push(format!("{} > {}", time.trim(), event.trim())),
            None => steps.push(Step::read(line, steps.len())),
        }
    }
    steps.sort_by_key(|step| step.handed);
    let mut found = play_all(settings, reloads, &steps, true);
    assert_eq!(
        found.join("\n"),
        expected.join("\n"),
        "\nfound on the left, expected on the right, after{text}"
    );
    // Deadlines that are judged as late as can be change nothing, but for the order in which
    // different objects are told of.
    if steps.iter().all(|step| step.is_trap() || matches!(step.what, What::End)) {
        let mut late = play_all(settings, reloads, &steps, false);
        late.sort();
        found.sort();
        assert_eq!(late, found, "judged late, after{text}");
    }
}

fn play_all(
    settings: &Settings,
    reloads: &[(&str, Settings)],
    steps: &[Step],
    in_time: bool,
) -> Vec<String> {
    let mut sim = Sim::new(settings.clone());
    for (place, step) in steps.iter().enumerate() {
        // The ear can't have said that it handed in what it still holds.
        let held = steps[place..].iter().filter(|step| step.is_trap()).map(|step| step.at).min();
        if in_time {
            run(&mut sim, step.handed.min(held.unwrap_or(Time::MAX)));
        }
        play(&mut sim, step, reloads);
    }
    run(&mut sim, at(100_000_000));
    sim.events.iter().filter_map(told).collect()
}

/// Judges every deadline up to a moment, each at its time.
fn run(sim: &mut Sim, until: Time) {
    while let Some(deadline) = sim.agent.next_deadline().filter(|&deadline| deadline <= until) {
        sim.heard(deadline);
    }
    sim.heard(until);
}

fn play(sim: &mut Sim, step: &Step, reloads: &[(&str, Settings)]) {
    match &step.what {
        What::Trap { source, message } => sim.datagram(*source, step.at, message),
        What::Reload(name) => {
            let found = reloads.iter().find(|(other, _)| other == name);
            let (_, settings) = found.unwrap_or_else(|| panic!("no settings {name}"));
            let settings = Box::new(settings.clone());
            sim.feed(&Input::Settings { settings, now: step.at });
        }
        What::Restart(back) => sim.restart(step.at, *back),
        What::End => {}
    }
}

/// An event as a timeline has it.
fn told(event: &Event) -> Option<String> {
    let Event::Alarm(event) = event else { return None };
    let time = written(event.at.since(START));
    let (kind, object) = (event.alarm.kind, &event.alarm.object);
    Some(match event.cleared {
        None => format!("{time} > raise {kind} {object}"),
        Some(reason) => format!("{time} > clear {kind} {object} {}", reason.name()),
    })
}

struct Step {
    at: Time,
    handed: Time,
    what: What,
}

enum What {
    Trap { source: IpAddr, message: Vec<u8> },
    Reload(String),
    Restart(Time),
    End,
}

impl Step {
    fn is_trap(&self) -> bool {
        matches!(self.what, What::Trap { .. })
    }

    fn read(line: &str, number: usize) -> Step {
        let (words, options): (Vec<&str>, Vec<&str>) =
            line.split_whitespace().partition(|word| !word.contains('='));
        let options: BTreeMap<&str, &str> =
            options.iter().filter_map(|option| option.split_once('=')).collect();
        let received = moment(words[0]);
        let handed = options.get("handed").map_or(received, |handed| moment(handed));
        let what = match words[1] {
            "reload" => What::Reload(words[2].to_owned()),
            "restart" => What::Restart(moment(words[2])),
            "end" => What::End,
            name => {
                let kind = ["coldStart", "warmStart", "linkDown", "linkUp"];
                let trap = kind.iter().position(|kind| *kind == name);
                let trap = trap.unwrap_or_else(|| panic!("no trap {name}")) as u32 + 1;
                trap_of(trap, &words[2..], &options, received, number)
            }
        };
        Step { at: received, handed, what }
    }
}

fn trap_of(
    trap: u32,
    words: &[&str],
    options: &BTreeMap<&str, &str>,
    received: Time,
    serial: usize,
) -> What {
    let form = match *options.get("form").unwrap_or(&"v2c") {
        "v1" => Form::V1,
        "inform" => Form::Inform,
        "v3" => Form::V3,
        "v3inform" => Form::V3Inform,
        _ => Form::V2c,
    };
    let number_of = |name, otherwise: i64| {
        options.get(name).map_or(otherwise, |number| number.parse().expect("a number"))
    };
    let system: IpAddr = words[0].parse().expect("an address");
    let mut message = Message::new(form, trap);
    message.request_id = number_of("id", serial as i64 + 1);
    message.uptime = number_of("up", received.since(START).as_millis() as i64 / 10 + 1_000_000);
    if let Some(if_index) = words.get(1) {
        let index: u32 = if_index.parse().expect("an ifIndex");
        message.varbinds.push(varbind(&if_entry(1, index), number(2, i64::from(index))));
        if let Some(if_type) = options.get("type") {
            let if_type = number(2, if_type.parse().expect("a number"));
            message.varbinds.push(varbind(&if_entry(3, index), if_type));
        }
        for (option, name) in [
            ("descr", if_entry(2, index)),
            ("name", if_x_entry(1, index)),
            ("alias", if_x_entry(18, index)),
        ] {
            if let Some(text) = options.get(option) {
                message.varbinds.push(varbind(&name, octets(text.as_bytes())));
            }
        }
    }
    let mut source = system;
    if let (Some(via), IpAddr::V4(address)) = (options.get("via"), system) {
        source = via.parse().expect("an address");
        match form {
            Form::V1 => message.agent_address = address.octets(),
            Form::V2c | Form::Inform | Form::V3 | Form::V3Inform => {
                let value = tlv(0x40, &address.octets());
                message.varbinds.push(varbind(&SNMP_TRAP_ADDRESS, value));
            }
        }
    }
    What::Trap { source, message: message.encode() }
}

/// `1m20s500ms` and the like.
fn moment(text: &str) -> Time {
    let mut millis = 0;
    let mut digits = String::new();
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        if letter.is_ascii_digit() {
            digits.push(letter);
            continue;
        }
        let is_millis = letter == 'm' && letters.next_if_eq(&'s').is_some();
        let unit = match letter {
            'm' if is_millis => 1,
            's' => 1_000,
            'm' => 60_000,
            'h' => 3_600_000,
            _ => panic!("no time: {text}"),
        };
        millis += digits.parse::<u64>().expect("a number") * unit;
        digits.clear();
    }
    at(millis)
}

/// A time as timelines write it: `1m9s998ms`.
fn written(time: Duration) -> String {
    let (secs, millis) = (time.as_secs(), time.subsec_millis());
    let parts =
        [(secs / 3600, "h"), (secs / 60 % 60, "m"), (secs % 60, "s"), (u64::from(millis), "ms")];
    let shown: String = parts
        .iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, unit)| format!("{number}{unit}"))
        .collect();
    if shown.is_empty() { "0s".to_owned() } else { shown }
}
