//! Reads files in the form of Prometheus' file-based service discovery (PEER-13): lists of addresses
//! with labels, in JSON or YAML.
//!
//! A file is taken whole or not at all. Its content is checked while it is parsed, so that every
//! mistake is told with the line that it is on. `files.md` beside this file is for who writes them.

use std::{fmt, fs::Metadata, net::IpAddr, os::unix::fs::MetadataExt, path::Path, sync::Arc};

use evenkeel_core::peers::roster::Labels;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use crate::{
    config::{self, Wrong},
    files::{self, FilePattern},
};

/// The longest file that is read: 128,000 peers with labels of their own take some 20 MB.
pub const LONGEST_FILE: u64 = 64 << 20;

/// How many labels a peer may have, and how many octets the value of one: each stands in every line
/// that metrics have of the peer.
const MOST_LABELS: usize = 32;
const LONGEST_LABEL: usize = 1024;

/// The names that the agent gives itself to what it says of a peer.
const OUR_LABELS: [&str; 2] = ["peer", "group"];

/// The endings of names, and what they say is in the file.
const ENDINGS: [(&str, Format); 3] =
    [("json", Format::Json), ("yml", Format::Yaml), ("yaml", Format::Yaml)];

/// A peer that a file names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its address.
    pub address: IpAddr,
    /// Its labels.
    pub labels: Labels,
}

/// What is wrong with a file: a sentence for whoever writes it, with the file's name and, where it is
/// known, the line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bad {
    sentence: String,
    /// It could not even be read, and may be readable the next time though nobody wrote it.
    pub unread: bool,
}

impl fmt::Display for Bad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl std::error::Error for Bad {}

/// Which state of a file was read: one that differs in none of these has not been written since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    device: u64,
    inode: u64,
    length: u64,
    written: (i64, i64),
    changed: (i64, i64),
}

impl Version {
    /// That of a file with this metadata.
    pub fn of(metadata: &Metadata) -> Version {
        Version {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            written: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// The name of such a file, or of several; a relative one starts at `base`.
///
/// # Errors
///
/// It can't be the name of such a file.
pub fn pattern(base: &Path, text: &str) -> Result<FilePattern, Wrong> {
    let pattern = FilePattern::new(base, text)?;
    let name = text.rsplit_once('/').map_or(text, |(_, name)| name);
    if format(Path::new(name)).is_none() || name.starts_with('.') {
        return Err(Wrong::new("the name does not say whether this is JSON or YAML")
            .help("end it with .json, .yml or .yaml"));
    }
    Ok(pattern)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Json,
    Yaml,
}

/// What is in a file of this name.
fn format(path: &Path) -> Option<Format> {
    let ending = path.extension()?.to_str()?.to_ascii_lowercase();
    ENDINGS.iter().find(|(name, _)| *name == ending).map(|(_, format)| *format)
}

/// Reads a file, and says which version of it was read.
///
/// # Errors
///
/// It can't be read, is too long, or has anything in it that is no peer.
pub fn read(path: &Path) -> Result<(Vec<Entry>, Version), Bad> {
    let (bytes, version) = match files::read(path, LONGEST_FILE) {
        Ok((bytes, metadata)) => (bytes, Version::of(&metadata)),
        Err(error) => {
            let sentence = format!("{}: can't read it: {error}", path.display());
            return Err(Bad { sentence, unread: true });
        }
    };
    parse(path, &bytes).map(|entries| (entries, version))
}

/// Reads the content of a file of this name.
///
/// # Errors
///
/// As [`read`].
pub fn parse(path: &Path, bytes: &[u8]) -> Result<Vec<Entry>, Bad> {
    let bad = |place: Option<(u64, u64)>, what: &str| {
        let place = place.map(|(line, column)| format!(":{line}:{column}")).unwrap_or_default();
        Bad { sentence: format!("{}{place}: {what}", path.display()), unread: false }
    };
    if bytes.len() as u64 > LONGEST_FILE {
        return Err(bad(None, "this file is longer than 64 MiB; share its peers among several"));
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
        Err(error) => {
            let before = &bytes[..error.valid_up_to()];
            let line = before.iter().filter(|byte| **byte == b'\n').count() as u64 + 1;
            return Err(bad(Some((line, 1)), "this is no UTF-8; save the file as UTF-8"));
        }
    };
    // What is about to be written is empty first, and everyone's removal is no slip of the pen.
    if text.trim().is_empty() {
        return Err(bad(None, "the file is empty; write [] if there are to be no peers"));
    }
    let groups = match format(path) {
        Some(Format::Json) => json(text),
        Some(Format::Yaml) => yaml(text),
        None => return Err(bad(None, "its name ends with none of .json, .yml and .yaml")),
    };
    let Groups(groups) = groups.map_err(|(place, what)| bad(place, &what))?;
    let count = groups.iter().map(|group| group.addresses.len()).sum();
    let mut entries = Vec::with_capacity(count);
    for Group { addresses, labels } in groups {
        let entry = |address| Entry { address, labels: Arc::clone(&labels) };
        entries.extend(addresses.into_iter().map(entry));
    }
    Ok(entries)
}

/// A place, and what is wrong there.
type Mistake = (Option<(u64, u64)>, String);

fn json(text: &str) -> Result<Groups, Mistake> {
    serde_json::from_str(text).map_err(|error| {
        let place = (error.line() as u64, error.column() as u64);
        let what = without_place(&error.to_string());
        let what = match error.is_data() {
            true => what,
            false => format!("this is no JSON: {what}"),
        };
        ((place.0 > 0).then_some(place), what)
    })
}

fn yaml(text: &str) -> Result<Groups, Mistake> {
    // The shortest node is one character and the sign before it, and so a file of the longest length
    // can have this many; what is built of them is bounded by the file, as aliases are not needed.
    let most = LONGEST_FILE as usize;
    let mut options = serde_saphyr::Options::default();
    let mut budget = serde_saphyr::Budget::default();
    budget.max_events = most;
    budget.max_nodes = most;
    budget.max_total_scalar_bytes = most;
    budget.max_documents = 1;
    options.budget = Some(budget);
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let error = error.without_snippet();
        let place = error.location().map(|location| (location.line(), location.column()));
        (place, without_place(&error.to_string()))
    })
}

/// A parser's message on one line, without the place that stands at its end, which is told in front.
fn without_place(message: &str) -> String {
    let mut message = message.lines().map(str::trim).collect::<Vec<_>>().join(" ");
    if let Some(at) = message.rfind(" at line ") {
        let place = &message[at + " at line ".len()..];
        let of_numbers = |word: &str| {
            word == "column" || word.trim_end_matches(',').bytes().all(|byte| byte.is_ascii_digit())
        };
        if place.split(' ').all(of_numbers) {
            message.truncate(at);
        }
    }
    message
}

/// The list of groups that a file is.
struct Groups(Vec<Group>);

struct Group {
    addresses: Vec<IpAddr>,
    labels: Labels,
}

const FORM: &str = "a list of { \"targets\": [\"192.0.2.1\"], \"labels\": { \"site\": \"a\" } }";

impl<'de> Deserialize<'de> for Groups {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Groups, D::Error> {
        struct OfGroups;
        impl<'de> Visitor<'de> for OfGroups {
            type Value = Groups;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(FORM)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Groups, A::Error> {
                let mut groups = Vec::new();
                while let Some(group) = seq.next_element()? {
                    groups.push(group);
                }
                Ok(Groups(groups))
            }
        }
        deserializer.deserialize_any(OfGroups)
    }
}

impl<'de> Deserialize<'de> for Group {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Group, D::Error> {
        struct OfGroup;
        impl<'de> Visitor<'de> for OfGroup {
            type Value = Group;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("{ \"targets\": [\"192.0.2.1\"], \"labels\": { \"site\": \"a\" } }")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Group, A::Error> {
                let mut addresses: Option<Vec<Address>> = None;
                let mut labels: Option<LabelSet> = None;
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "targets" if addresses.is_none() => addresses = Some(map.next_value()?),
                        "labels" if labels.is_none() => {
                            labels = map.next_value::<Option<LabelSet>>()?;
                        }
                        "targets" | "labels" => {
                            return Err(Error::custom(format!("\"{key}\" is here twice")));
                        }
                        // promtool and Prometheus refuse it too.
                        _ => {
                            let key = shown(&key);
                            return Err(Error::custom(format!(
                                "there is no such key as {key}; known here: targets, labels"
                            )));
                        }
                    }
                }
                let addresses = addresses.ok_or_else(|| {
                    Error::custom("\"targets\" is missing; write \"targets\": [\"192.0.2.1\"]")
                })?;
                Ok(Group {
                    addresses: addresses.into_iter().map(|Address(address)| address).collect(),
                    labels: labels.map(|LabelSet(labels)| labels).unwrap_or_default(),
                })
            }
        }
        deserializer.deserialize_any(OfGroup)
    }
}

struct Address(IpAddr);

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Address, D::Error> {
        struct OfAddress;
        impl Visitor<'_> for OfAddress {
            type Value = Address;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address such as \"192.0.2.1\" or \"2001:db8::1\"")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Address, E> {
                let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
                config::peer_address(inner.unwrap_or(text)).map(Address).map_err(|wrong| {
                    Error::custom(format!("the target {}: {}", shown(text), one_line(wrong)))
                })
            }
        }
        deserializer.deserialize_str(OfAddress)
    }
}

struct LabelSet(Labels);

impl<'de> Deserialize<'de> for LabelSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<LabelSet, D::Error> {
        struct OfLabels;
        impl<'de> Visitor<'de> for OfLabels {
            type Value = LabelSet;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("labels such as { \"site\": \"a\" }")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<LabelSet, A::Error> {
                let mut labels = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    // Prometheus' own, which never get into a series.
                    if name.starts_with("__") {
                        map.next_value::<IgnoredAny>()?;
                        continue;
                    }
                    let value = map.next_value_seed(Labelled(&name))?;
                    if labels.iter().any(|(known, _)| *known == name) {
                        return Err(Error::custom(format!("the label {name} is here twice")));
                    }
                    labels.push((name, value));
                }
                label_set(labels).map(LabelSet).map_err(|wrong| Error::custom(one_line(wrong)))
            }
        }
        deserializer.deserialize_any(OfLabels)
    }
}

/// The value of a label of this name.
struct Labelled<'n>(&'n str);

impl<'de> DeserializeSeed<'de> for Labelled<'_> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        let value = String::deserialize(deserializer)?;
        label(self.0, &value).map_err(|wrong| {
            Error::custom(format!("the label {}: {}", shown(self.0), one_line(wrong)))
        })?;
        Ok(value)
    }
}

/// Whether this can be a label of a peer.
///
/// # Errors
///
/// Prometheus would refuse it, or it has a name that the agent gives itself.
pub fn label(name: &str, value: &str) -> Result<(), Wrong> {
    let letter = |c: char| c.is_ascii_alphabetic() || c == '_';
    let good = name.starts_with(letter) && name.chars().all(|c| letter(c) || c.is_ascii_digit());
    if !good {
        return Err(Wrong::new("this is no name of a label").help(
            "a name has the letters a to z and A to Z, digits and _, and does not begin with a digit",
        ));
    }
    if name.starts_with("__") {
        return Err(Wrong::new("names that begin with __ are Prometheus' own"));
    }
    if OUR_LABELS.contains(&name) {
        return Err(Wrong::new("this label is what the agent itself says of a peer")
            .help(format!("choose another name, such as {name}_name")));
    }
    if value.len() > LONGEST_LABEL {
        return Err(Wrong::new("the value of a label has 1024 octets at most"));
    }
    Ok(())
}

/// The set of these labels, each of which is good. One with an empty value is none (Prometheus' data
/// model).
///
/// # Errors
///
/// They are too many.
pub fn label_set(mut labels: Vec<(String, String)>) -> Result<Labels, Wrong> {
    labels.retain(|(_, value)| !value.is_empty());
    if labels.len() > MOST_LABELS {
        return Err(Wrong::new(format!("a peer has {MOST_LABELS} labels at most")));
    }
    labels.sort();
    Ok(labels.into())
}

/// What is wrong and what would be right, on one line.
fn one_line(wrong: Wrong) -> String {
    match wrong.help {
        Some(help) => format!("{}; {help}", wrong.message),
        None => wrong.message,
    }
}

/// A text of a file, so that it can't steer a terminal and is not the whole file.
fn shown(text: &str) -> String {
    const LONGEST: usize = 60;
    let mut start: String = text.chars().take(LONGEST).collect();
    if start.len() < text.len() {
        start.push_str("...");
    }
    format!("{start:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown_entries(name: &str, text: &str) -> Result<Vec<String>, String> {
        let entries = parse(Path::new(name), text.as_bytes()).map_err(|bad| bad.to_string())?;
        let one = |entry: Entry| {
            let labels = entry.labels.iter().map(|(name, value)| format!(" {name}={value}"));
            format!("{}{}", entry.address, labels.collect::<String>())
        };
        Ok(entries.into_iter().map(one).collect())
    }

    fn entries(name: &str, text: &str) -> Vec<String> {
        shown_entries(name, text).unwrap()
    }

    fn mistake(name: &str, text: &str) -> String {
        shown_entries(name, text).unwrap_err()
    }

    #[test]
    fn peer_13_json_and_yaml_say_the_same() {
        let json = r#"[
            { "targets": ["198.51.100.1", "2001:db8::1"], "labels": { "site": "b", "rack": "7" } },
            { "labels": null, "targets": ["[2001:db8::2]"] },
            { "targets": [], "labels": { "site": "c" } }
        ]"#;
        let expected = ["198.51.100.1 rack=7 site=b", "2001:db8::1 rack=7 site=b", "2001:db8::2"];
        assert_eq!(entries("peers.json", json), expected);
        assert_eq!(entries("peers.JSON", json), expected);
        let yaml = "---\n# north\n- targets:\n    - 198.51.100.1\n    - 2001:db8::1\n  labels: &l\n    \
                    site: b\n    rack: 7\n- targets: ['[2001:db8::2]']\n- targets: []\n  labels: *l\n";
        assert_eq!(entries("peers.yml", yaml), expected);
        // JSON is YAML too.
        assert_eq!(entries("peers.yaml", json), expected);
        assert_eq!(entries("peers.json", "\u{feff}[]"), [""; 0]);
        assert_eq!(entries("peers.yml", "[]"), [""; 0]);
    }

    #[test]
    fn labels_of_prometheus_and_empty_ones_are_dropped() {
        let json = r#"[{ "targets": ["192.0.2.1"],
            "labels": { "__meta_x": 7, "b": "2", "empty": "", "a": "1" } }]"#;
        assert_eq!(entries("peers.json", json), ["192.0.2.1 a=1 b=2"]);
    }

    #[test]
    fn each_mistake_is_told_with_its_line_and_what_would_be_right() {
        let of_target = |target: &str| format!("[\n {{ \"targets\": [\"{target}\"] }}\n]\n");
        let of_labels = |labels: &str| {
            format!("[\n {{ \"targets\": [\"192.0.2.1\"],\n \"labels\": {{ {labels} }} }}\n]\n")
        };
        let table = [
            (
                of_target("192.0.2.1:9100"),
                "2:31: the target \"192.0.2.1:9100\": a heartbeat goes to no port; write \"192.0.2.1\"",
            ),
            (of_target("[2001:db8::1]:9100"), "write \"2001:db8::1\""),
            (
                of_target("router1:9100"),
                "2:29: the target \"router1:9100\": this is a name, and an address is needed",
            ),
            (of_target("192.0.2.0/24"), "this is a prefix, and an address is needed"),
            (of_target("224.0.0.1"), "this is not the address of one system"),
            (of_target("fe80::1"), "a link-local address is no peer's"),
            (of_target(""), "this is no address"),
            (of_labels("\"a-b\": \"c\""), "3:25: the label \"a-b\": this is no name of a label"),
            (
                of_labels("\"peer\": \"c\""),
                "the label \"peer\": this label is what the agent itself says of a peer; choose another name, such as peer_name",
            ),
            (of_labels("\"group\": \"c\""), "choose another name, such as group_name"),
            (of_labels("\"a\": \"b\", \"a\": \"c\""), "the label a is here twice"),
            (of_labels("\"a\": 7"), "3:19: invalid type: integer `7`, expected a string"),
            (
                of_labels(&format!("\"a\": \"{}\"", "x".repeat(1025))),
                "the value of a label has 1024 octets at most",
            ),
            ("{}".to_owned(), "1:2: invalid type: map, expected a list of { \"targets\""),
            ("null".to_owned(), "invalid type: null, expected a list"),
            ("[null]".to_owned(), "invalid type: null, expected { \"targets\""),
            ("[{}]".to_owned(), "\"targets\" is missing; write \"targets\": [\"192.0.2.1\"]"),
            (
                "[{\"targets\": [7]}]".to_owned(),
                "invalid type: integer `7`, expected an address such as",
            ),
            (
                "[{\"hosts\": []}]".to_owned(),
                "there is no such key as \"hosts\"; known here: targets, labels",
            ),
            ("[{\"targets\": [], \"targets\": []}]".to_owned(), "\"targets\" is here twice"),
            (
                "[\n{ \"targets\": [\"192.0.2.1\"".to_owned(),
                "2:25: this is no JSON: EOF while parsing a list",
            ),
            ("[]x".to_owned(), "1:3: this is no JSON: trailing characters"),
        ];
        each_mistake("/etc/peers.json", &table);
    }

    /// Holds what each text gives to what it should have in it.
    fn each_mistake(name: &str, table: &[(String, &str)]) {
        let mut wrong = String::new();
        for (text, expected) in table {
            let found = shown_entries(name, text);
            let good = found.as_ref().is_err_and(|found| {
                found.starts_with(&format!("{name}:"))
                    && found.contains(expected)
                    && !found.contains('\n')
            });
            if !good {
                wrong.push_str(&format!("{text}\ngives {found:?}\nand not {expected}\n"));
            }
        }
        assert!(wrong.is_empty(), "{wrong}");
    }

    #[test]
    fn yaml_tells_the_line_too() {
        let table = [
            (
                "- targets:\n    - 192.0.2.1\n    - 192.0.2.2:9100\n",
                ":3:7: the target \"192.0.2.2:9100\": a heartbeat goes to no port",
            ),
            ("- targets: [192.0.2.1]\n  labels: {peer: a}\n", ":2:"),
            ("- targets: [192.0.2.1]\n  labels:\n    a: [b]\n", ":3:"),
            ("targets: [192.0.2.1]\n", "a list of { \"targets\""),
            ("- targets: [192.0.2.1\n", ":"),
            ("a: b: c\n", ":1:"),
            ("# nobody yet\n", ""),
            ("---\n[]\n---\n[]\n", ""),
            ("- targets: [192.0.2.1]\n  targets: [192.0.2.2]\n", "targets"),
        ];
        each_mistake("/etc/peers.yml", &table.map(|(text, expected)| (text.to_owned(), expected)));
    }

    #[test]
    fn what_is_no_list_of_peers_is_refused() {
        for empty in ["", " \n", "\u{feff}"] {
            for name in ["peers.json", "peers.yml"] {
                assert!(mistake(name, empty).contains("write [] if there are to be no peers"));
            }
        }
        assert!(mistake("peers.txt", "[]").contains(".json, .yml and .yaml"));
        let not_utf_8 = parse(Path::new("peers.json"), b"[\n\xff]").unwrap_err().to_string();
        assert_eq!(not_utf_8, "peers.json:2:1: this is no UTF-8; save the file as UTF-8");
        let deep = "[".repeat(100_000);
        assert!(mistake("peers.json", &deep).len() < 1000);
        assert!(mistake("peers.yml", &deep).len() < 1000);
    }

    #[test]
    fn aliases_do_not_multiply() {
        let mut bomb = "- targets: &a0 [192.0.2.1]\n".to_owned();
        for nth in 1..40 {
            let before = format!("*a{}, ", nth - 1).repeat(9);
            bomb.push_str(&format!("- targets: &a{nth} [{before}]\n"));
        }
        mistake("peers.yml", &bomb);
    }

    /// More nodes than the YAML parser takes unless it is told to.
    #[test]
    fn peer_13_a_file_may_name_more_peers_than_a_usual_yaml_file_has_nodes() {
        let mut yaml = "- targets:\n".to_owned();
        for nth in 0..260_000u32 {
            yaml.push_str(&format!("  - {}\n", std::net::Ipv4Addr::from(0x0a00_0000 + nth)));
        }
        assert_eq!(parse(Path::new("peers.yml"), yaml.as_bytes()).unwrap().len(), 260_000);
    }

    #[test]
    fn a_pattern_says_what_is_in_its_files() {
        let pattern = |text: &str| pattern(Path::new("/etc/evenkeel"), text);
        assert_eq!(pattern("peers/*.json").unwrap().to_string(), "/etc/evenkeel/peers/*.json");
        for bad in ["", "a", "a.txt", "*", ".json", "/etc/*/a.json", "a.json/", "a\0.json"] {
            assert!(pattern(bad).is_err(), "{bad}");
        }
    }
}
