//! The section `[forwarding]`: which traps go on to which notification targets (TRAP-8).

use std::collections::BTreeMap;

use evenkeel_core::settings::{
    DuringUnstable, ForwardRule, ForwardTarget, Forwarding, Instability, ObjectState,
};

use super::{credentials::choice, traps::prefixes};
use crate::config::{
    Notifications, Origin,
    reader::{Table, Value, suggestion},
    units::{self, Wrong},
};

/// The standard traps (RFC 3584, 3.1; SNMPv2-MIB), as people call them.
const STANDARD_TRAPS: [(&str, u32); 6] = [
    ("coldStart", 1),
    ("warmStart", 2),
    ("linkDown", 3),
    ("linkUp", 4),
    ("authenticationFailure", 5),
    ("egpNeighborLoss", 6),
];

/// snmpTraps: what the standard traps are under (RFC 3418).
const SNMP_TRAPS: [u32; 9] = [1, 3, 6, 1, 6, 3, 1, 1, 5];

const STATES: [(&str, ObjectState); 3] = [
    ("stable", ObjectState::Stable),
    ("unstable", ObjectState::Unstable),
    ("down", ObjectState::Down),
];

const DURING_UNSTABLE: [(&str, DuringUnstable); 2] =
    [("suppress", DuringUnstable::Suppress), ("forward", DuringUnstable::Forward)];

/// Reads the section. Rules name notification targets and groups.
pub fn forwarding(
    mut table: Table<'_>,
    notifications: &Notifications,
    instability: &Instability,
) -> Forwarding {
    let during_unstable =
        table.get("during_unstable").and_then(|value| during_unstable(&value)).unwrap_or_default();
    let tables = table.tables("rule");
    let count = tables.len();
    let mut rules = Vec::new();
    for (nth, table) in tables.into_iter().enumerate() {
        let last = nth + 1 == count;
        rules.push(rule(table, notifications, instability, during_unstable, last));
    }
    table.finish();
    let targets = notifications.targets.iter();
    let targets: Vec<ForwardTarget> = targets
        .map(|target| ForwardTarget {
            name: target.name.clone(),
            durable: target.destination.confirmed,
            original: target.origin == Origin::Source,
        })
        .collect();
    if rules.is_empty() {
        rules.extend(everything(notifications, during_unstable));
    }
    let receivers = notifications.receivers.iter().map(|receiver| receiver.name.clone()).collect();
    Forwarding { targets, rules, receivers, ..Forwarding::default() }
}

/// The rule that holds where none is given: every trap goes to each target that takes traps.
fn everything(
    notifications: &Notifications,
    during_unstable: DuringUnstable,
) -> Option<ForwardRule> {
    let targets = (0..).zip(&notifications.targets).filter(|(_, target)| target.forward);
    let targets: Vec<u16> = targets.map(|(place, _)| place).collect();
    (!targets.is_empty()).then(|| ForwardRule {
        traps: Vec::new(),
        systems: Vec::new(),
        groups: Vec::new(),
        states: Vec::new(),
        during_unstable,
        targets,
    })
}

fn rule(
    mut table: Table<'_>,
    notifications: &Notifications,
    instability: &Instability,
    otherwise: DuringUnstable,
    last: bool,
) -> ForwardRule {
    let traps = unique(table.get("traps"), |element| element.parse(trap));
    let systems = table.get("addresses").map(|value| prefixes(&value)).unwrap_or_default();
    let groups = unique(table.get("groups"), |element| group(element, instability));
    let states = unique(table.get("states"), |element| choice(element, &STATES, "no state"));
    let during_unstable = table.get("during_unstable").and_then(|value| during_unstable(&value));
    let targets =
        table.required("targets", "name the notification targets, or write [] for nowhere");
    let targets = unique(targets, |element| target(element, notifications));
    if !last
        && [traps.is_empty(), systems.is_empty(), groups.is_empty(), states.is_empty()] == [true; 4]
    {
        table.warn(
            "this rule takes every trap, and those behind it none".to_owned(),
            Some(
                "say what it is for, with traps, addresses, groups or states, or put it last"
                    .to_owned(),
            ),
        );
    }
    table.finish();
    ForwardRule {
        traps,
        systems,
        groups,
        states,
        during_unstable: during_unstable.unwrap_or(otherwise),
        targets,
    }
}

/// The elements of a list, each of which may be there once.
fn unique<'a, T: Clone + Ord>(
    value: Option<Value<'a>>,
    each: impl Fn(&Value<'a>) -> Option<T>,
) -> Vec<T> {
    let Some(value) = value else { return Vec::new() };
    let mut seen = BTreeMap::new();
    let list = value.list(|element| {
        let read = each(element)?;
        let there = *seen.entry(read.clone()).or_insert(element.span());
        if there != element.span() {
            element.wrong_also(Wrong::new("this is listed twice"), there, "first here");
        }
        Some(read)
    });
    list.into_iter().map(|(read, _)| read).collect()
}

fn during_unstable(value: &Value<'_>) -> Option<DuringUnstable> {
    choice(value, &DURING_UNSTABLE, "no choice")
}

/// The name of a standard trap, or an object identifier, which stands for all that is under it.
fn trap(text: &str) -> Result<Vec<u32>, Wrong> {
    let standard = STANDARD_TRAPS.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
    if let Some((_, number)) = standard {
        return Ok([&SNMP_TRAPS[..], &[*number]].concat());
    }
    if text.starts_with(|c: char| c.is_alphabetic()) {
        let names = STANDARD_TRAPS.map(|(name, _)| name);
        let help = suggestion(text, &names);
        return Err(Wrong::new("this name of a trap is not known here")
            .help(format!("{help} Any other is given by its object identifier.")));
    }
    if let Some(stem) = text.strip_suffix(".*") {
        return Err(Wrong::new("an object identifier has no stars")
            .help(format!("write \"{stem}\": it stands for all that is under it")));
    }
    units::oid(text)
}

fn group(element: &Value<'_>, instability: &Instability) -> Option<String> {
    element.parse(|text| {
        let names: Vec<&str> = instability.groups.iter().map(|group| &*group.name).collect();
        match names.contains(&text) {
            true => Ok(text.to_owned()),
            false => {
                Err(Wrong::new("no [[instability.group]] has this name")
                    .help(suggestion(text, &names)))
            }
        }
    })
}

/// The place of a notification target.
fn target(element: &Value<'_>, notifications: &Notifications) -> Option<u16> {
    element.parse(|text| {
        let found = (0..).zip(&notifications.targets).find(|(_, target)| target.name == text);
        match found {
            Some((_, target)) if !target.forward => {
                Err(Wrong::new("this target takes no traps, as it has forward = false")
                    .help("take it out here, or the line there"))
            }
            Some((place, _)) => Ok(place),
            None => {
                let names: Vec<&str> =
                    notifications.targets.iter().map(|target| &*target.name).collect();
                let wrong = Wrong::new("no [[notifications.target]] has this name");
                Err(match names.is_empty() {
                    true => wrong.help("there is none in this file"),
                    false => wrong.help(suggestion(text, &names)),
                })
            }
        }
    })
}
