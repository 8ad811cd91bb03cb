//! The section `[instability]`: windows and thresholds, and the groups for which they differ
//! (INST-3, INST-11, INST-12). Which interfaces are the ends of one link is read by
//! [`topology`].

use std::time::Duration;

use evenkeel_core::settings::{
    Analysis, Group, GroupSettings, Instability, Match, Threshold, Window,
};

use super::{Unique, name, topology, traps::prefixes};
use crate::config::{
    reader::{StringOrInteger, Table, Value, suggestion},
    units::{self, Wrong},
};

/// How many objects may be kept: fewer than a hundred would give way to each other at the first
/// storm; ten million take some 3 GB.
const MAX_OBJECTS: std::ops::RangeInclusive<i64> = 100..=10_000_000;

/// ifIndex is an InterfaceIndex: 1 to 2147483647 (RFC 2863).
pub const IF_INDEX: std::ops::RangeInclusive<i64> = 1..=2_147_483_647;
/// What is said of any other number.
pub const IF_INDEX_TEXT: &str = "an ifIndex is 1 to 2147483647 (RFC 2863)";

/// The names of the interface types that are likely to be asked for, from IANAifType-MIB; any
/// other can be given by its number.
const IF_TYPES: [(&str, u32); 17] = [
    ("other", 1),
    ("ethernetCsmacd", 6),
    ("basicISDN", 20),
    ("primaryISDN", 21),
    ("ppp", 23),
    ("softwareLoopback", 24),
    ("frameRelay", 32),
    ("modem", 48),
    ("propVirtual", 53),
    ("isdn", 63),
    ("isdns", 75),
    ("isdnu", 76),
    ("lapd", 77),
    ("adsl", 94),
    ("tunnel", 131),
    ("l2vlan", 135),
    ("ieee8023adLag", 161),
];

/// Reads the section.
pub fn instability(mut table: Table<'_>) -> Instability {
    let max_objects = table.get("max_objects").and_then(|value| {
        let number = value.integer(MAX_OBJECTS, "the number of objects is 100 to 10000000")?;
        u32::try_from(number).ok()
    });
    let otherwise = settings(&mut table, &GroupSettings::default());
    let groups = groups(table.tables("group"), &otherwise);
    let topology = topology::topology(&mut table);
    table.finish();
    Instability {
        groups: groups.unwrap_or_else(|| vec![Group::exempt()]),
        otherwise,
        max_objects: max_objects.unwrap_or(Instability::DEFAULT_MAX_OBJECTS),
        topology,
    }
}

/// The keys that `[instability]` and its groups share; what is not given is as in `inherited`.
fn settings(table: &mut Table<'_>, inherited: &GroupSettings) -> GroupSettings {
    let interfaces = table.table("interfaces");
    let interfaces = analysis(interfaces, inherited.interfaces, Analysis::INTERFACES);
    let systems = table.table("systems");
    let systems = analysis(systems, inherited.systems, Analysis::SYSTEMS);
    let interface_down = table.get("interface_down").and_then(|value| value.boolean());
    GroupSettings {
        interfaces,
        systems,
        interface_down: interface_down.unwrap_or(inherited.interface_down),
    }
}

/// Window and threshold. Either being zero turns the analysis off (INST-11); a group can turn on
/// what is off around it, and then has the shipped value for what it doesn't say.
fn analysis(
    mut table: Table<'_>,
    inherited: Option<Analysis>,
    shipped: Analysis,
) -> Option<Analysis> {
    let window = table.get("window").and_then(|value| window(&value));
    let threshold = table.get("threshold").and_then(|value| threshold(&value));
    table.finish();
    if window.is_none() && threshold.is_none() {
        return inherited;
    }
    let base = inherited.unwrap_or(shipped);
    Some(Analysis {
        window: window.unwrap_or(Some(base.window))?,
        threshold: threshold.unwrap_or(Some(base.threshold))?,
    })
}

/// A trap window; the inner nothing stands for zero.
fn window(value: &Value<'_>) -> Option<Option<Window>> {
    value.parse_with_unit("30s", |text| {
        let length = units::duration(text)?;
        if length.is_zero() {
            return Ok(None);
        }
        let out_of_range = || match length > Window::MAX {
            true => {
                Wrong::new("a trap window is 1s to 3600s (longer than the longest stable time)")
                    .help(
                        "the longest is \"1h\"; a threshold that is higher says more than a window \
                       that is longer",
                    )
            }
            false => Wrong::new("a trap window is 1s to 3600s")
                .help("write \"0s\" to turn the analysis off"),
        };
        Window::new(length).map(Some).ok_or_else(out_of_range)
    })
}

/// A threshold; the inner nothing stands for zero.
fn threshold(value: &Value<'_>) -> Option<Option<Threshold>> {
    let number =
        value.integer(0..=i64::from(Threshold::MAX), "a threshold is 2 to 1000, or 0 for off")?;
    if number == 1 {
        value.wrong(
            Wrong::new("with a threshold of 1, every trap makes something unstable")
                .help("a threshold is 2 to 1000, or 0 for off"),
        );
    }
    Some(u16::try_from(number).ok().and_then(Threshold::new))
}

/// The groups, or nothing if the file has none.
fn groups(tables: Vec<Table<'_>>, inherited: &GroupSettings) -> Option<Vec<Group>> {
    let mut names = Unique::new();
    let mut groups = Vec::new();
    let count = tables.len();
    for (nth, mut table) in tables.into_iter().enumerate() {
        let name =
            table.required("name", "metrics and logs call the group by it").and_then(|value| {
                let name = value.parse(name)?;
                if let Some(there) = names.insert(name.clone(), value.span()) {
                    value.wrong_also(Wrong::new("two groups have this name"), there, "first here");
                }
                Some(name)
            });
        let matches = Match {
            systems: table.get("addresses").map(|value| prefixes(&value)).unwrap_or_default(),
            if_index: numbers(table.get("if_index"), if_index),
            if_type: numbers(table.get("if_type"), if_type),
            if_descr: patterns(table.get("if_descr")),
            if_name: patterns(table.get("if_name")),
            if_alias: patterns(table.get("if_alias")),
        };
        if matches == Match::default() && nth + 1 < count {
            table.warn(
                "this group takes everything, and those behind it nothing".to_owned(),
                Some(
                    "say what belongs to it, with addresses, if_index, if_type, if_descr, \
                      if_name or if_alias, or put it last"
                        .to_owned(),
                ),
            );
        }
        let settings = settings(&mut table, inherited);
        table.finish();
        groups.push(Group { name: name.unwrap_or_default(), matches, settings });
    }
    (!groups.is_empty()).then_some(groups)
}

fn numbers(value: Option<Value<'_>>, each: fn(&Value<'_>) -> Option<u32>) -> Vec<u32> {
    let numbers = value.map(|value| value.list(each)).unwrap_or_default();
    numbers.into_iter().map(|(number, _)| number).collect()
}

/// An ifIndex.
pub fn if_index(value: &Value<'_>) -> Option<u32> {
    let number = value.integer(IF_INDEX, IF_INDEX_TEXT)?;
    u32::try_from(number).ok()
}

/// A number of IANAifType, or one of the names in [`IF_TYPES`].
fn if_type(value: &Value<'_>) -> Option<u32> {
    match value.string_or_integer()? {
        StringOrInteger::Integer => {
            let number = value.integer(IF_INDEX, "an ifType is a positive number")?;
            u32::try_from(number).ok()
        }
        StringOrInteger::String(text) => {
            let known = IF_TYPES.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
            if known.is_none() {
                let names = IF_TYPES.map(|(name, _)| name);
                let help = suggestion(text, &names);
                value.wrong(
                    Wrong::new("this name of an ifType is not known here")
                        .help(format!("{help} Any other can be given by its number.")),
                );
            }
            known.map(|(_, number)| *number)
        }
    }
}

fn patterns(value: Option<Value<'_>>) -> Vec<String> {
    let patterns = value.map(|value| value.list(|element| element.parse(pattern)));
    patterns.unwrap_or_default().into_iter().map(|(pattern, _)| pattern).collect()
}

/// A pattern with `*`, `?` and `[a-z]`. ifDescr and its kin are DisplayStrings of 255 octets at
/// most (RFC 2579), so that nothing could match a longer one without stars.
fn pattern(text: &str) -> Result<String, Wrong> {
    if text.is_empty() || text.len() > 255 {
        return Err(Wrong::new("a pattern has 1 to 255 characters"));
    }
    let mut rest = text;
    while let Some((_, after)) = rest.split_once('[') {
        rest = match after.split_once(']') {
            Some((set, rest)) if !set.is_empty() => rest,
            Some(_) => return Err(Wrong::new("this pattern has a set with nothing in it")),
            None => {
                return Err(Wrong::new("this pattern has a [ without its ]")
                    .help("a set of characters is written as [0-9]"));
            }
        };
    }
    Ok(text.to_owned())
}

/// The window's bounds are those that this page's messages print.
const _: () = assert!(
    Window::MIN.as_secs() == 1
        && Window::MAX.as_secs() == Duration::from_secs(3600).as_secs()
        && Threshold::MIN == 2
        && Threshold::MAX == 1000
);
