//! Which interfaces are the two ends of one link (INST-14): `instability.link`, and the topology files
//! that `instability.topology_files` names.
//!
//! A topology file has a line for each link: the address and ifIndex of one end, then of the other. It
//! is read with the configuration and is a part of it: what is wrong in it is told with its line and
//! column, and nothing of the configuration is used then.

use std::{
    collections::{HashMap, hash_map::Entry},
    ops::Range,
    path::Path,
    sync::Arc,
};

use evenkeel_core::{
    alarm::{Interface, Link, System},
    settings::Topology,
};

use super::{
    Unique,
    instability::{IF_INDEX, IF_INDEX_TEXT, if_index},
};
use crate::{
    config::{
        problem::{Problem, Source, Span},
        reader::{Table, Value},
        units::{self, Wrong},
    },
    files::{self, FilePattern},
};

/// The longest file that is read: as many links as there may be, all of IPv6, take some 20 MB.
const LONGEST_FILE: u64 = 32 << 20;

/// More mistakes of one file are not looked for: it is something else then.
const MOST_MISTAKES: usize = 100;

/// What a line of a topology file holds.
const FIELDS: [&str; 4] = ["system", "if_index", "system", "if_index"];

const SEPARATOR_HELP: &str =
    "write system,if_index,system,if_index with commas between, as \"192.0.2.1,3,192.0.2.2,7\"";

/// Reads both options of `[instability]`.
pub fn topology(table: &mut Table<'_>) -> Topology {
    let mut reading = Reading::default();
    for link in table.tables("link") {
        reading.table(link);
    }
    if let Some(value) = table.get("topology_files") {
        reading.files(&value);
    }
    // An interface of two links was reported, and the file is refused.
    Topology::new(reading.links).unwrap_or_default()
}

/// What is found in all places where links are named.
#[derive(Default)]
struct Reading {
    links: Vec<Link>,
    /// Of which link an interface is an end, and where that is said.
    ends: HashMap<Interface, (Link, Place)>,
}

/// A place in a file.
#[derive(Clone)]
struct Place {
    source: Arc<Source>,
    span: Span,
}

impl Reading {
    /// A link of the configuration itself.
    fn table(&mut self, mut table: Table<'_>) {
        let places = ["a", "b"].map(|end| table.required(end, END_HELP));
        let ends = ["a", "b"].map(|key| end(table.table(key)));
        table.finish();
        let ([Some(a), Some(b)], [Some(one), Some(other)]) = (&places, ends) else { return };
        let Some(link) = Link::new(one, other) else {
            let wrong = Wrong::new(ONE_INTERFACE);
            return b.wrong_also(wrong, a.span(), "the other end");
        };
        for (interface, value) in [(one, a), (other, b)] {
            let place = Place { source: Arc::clone(value.source()), span: value.span() };
            // Files are read later, so it is this one.
            if let Some(before) = self.end(interface, link, place) {
                value.wrong_also(Wrong::new(two_links(interface)), before.span, "first here");
            }
        }
        self.links.push(link);
    }

    /// The links of the files that a list names.
    fn files(&mut self, value: &Value<'_>) {
        let mut seen = Unique::new();
        value.list(|element| {
            let base = &element.surroundings().directory;
            let pattern = element.parse(|text| FilePattern::new(base, text))?;
            if let Some(there) = seen.insert(pattern.clone(), element.span()) {
                element.wrong_also(Wrong::new("this file is listed twice"), there, "first here");
            } else if element.surroundings().secrets {
                self.pattern(element, &pattern);
            }
            Some(())
        });
    }

    fn pattern(&mut self, value: &Value<'_>, pattern: &FilePattern) {
        match pattern.files() {
            Err(error) => value.wrong(Wrong::new(format!("can't look for it: {error}"))),
            Ok(files) if files.is_empty() && pattern.one_file().is_some() => value.wrong(
                Wrong::new("there is no such file")
                    .help("a relative name starts at the directory of this configuration"),
            ),
            Ok(files) if files.is_empty() => value.warn(
                Wrong::new("there is no such file now")
                    .help("its links are in force after a reload, once it is there"),
            ),
            Ok(files) => files.iter().for_each(|file| self.file(value, file)),
        }
    }

    fn file(&mut self, value: &Value<'_>, path: &Path) {
        let refuse = |what: &str| value.wrong(Wrong::new(format!("{}: {what}", path.display())));
        let bytes = match files::read(path, LONGEST_FILE) {
            Err(error) => return refuse(&format!("can't read it: {error}")),
            Ok((bytes, _)) if bytes.len() as u64 > LONGEST_FILE => {
                return refuse("this file is longer than 32 MiB; share its links among several");
            }
            Ok((bytes, _)) => bytes,
        };
        let name = path.display().to_string();
        let text = match std::str::from_utf8(&bytes) {
            // A byte order mark is what some programs write before UTF-8.
            Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
            Err(error) => {
                let at = error.valid_up_to();
                let source = Source::new(name, &String::from_utf8_lossy(&bytes), Vec::new());
                let message = format!("the byte 0x{:02x} here is no UTF-8", bytes[at]);
                let problem = Problem::error(&Arc::new(source), Some((at..at + 1).into()), message);
                return value.report(problem.with_help("save the file as UTF-8"));
            }
        };
        // What is about to be written is empty first, and the end of every link is no slip of the pen.
        if text.trim().is_empty() {
            return refuse("the file is empty; write a line with a # if there are to be no links");
        }
        let source = Arc::new(Source::new(name, text, Vec::new()));
        let mut mistakes = Vec::new();
        let mut first = true;
        for line in lines(text) {
            let fields = fields(text, line);
            let heading = std::mem::take(&mut first) && is_heading(text, &fields);
            if !heading {
                self.line(text, &fields, &source, &mut mistakes);
            }
            if mistakes.len() >= MOST_MISTAKES {
                break;
            }
            let most = Topology::MOST_LINKS;
            if self.ends.len() > 2 * most {
                refuse(&format!(
                    "there are more than {most} links, counted from the first file on"
                ));
                break;
            }
        }
        mistakes.into_iter().for_each(|mistake| value.report(mistake));
    }

    /// A line of a topology file that says something.
    fn line(
        &mut self,
        text: &str,
        fields: &[Range<usize>],
        source: &Arc<Source>,
        mistakes: &mut Vec<Problem>,
    ) {
        let problem = |span: Range<usize>, Wrong { message, help }: Wrong| {
            let problem = Problem::error(source, Some(span.into()), message);
            match help {
                Some(help) => problem.with_help(help),
                None => problem,
            }
        };
        let whole = fields[0].start..fields[fields.len() - 1].end;
        let [one, one_index, other, other_index] = fields else {
            let count = fields.len();
            let are = if count == 1 { "is 1 field" } else { &format!("are {count} fields") };
            let wrong = Wrong::new(format!("here {are}, and a link has 4")).help(SEPARATOR_HELP);
            return mistakes.push(problem(whole, wrong));
        };
        let parsed = [(one, one_index), (other, other_index)].map(|(system, if_index)| {
            let mut part = |name: &str, span: &Range<usize>, wrong: Wrong| {
                let subject = match source.excerpt(span.clone().into()) {
                    Some(text) => format!("{name} = {text}"),
                    None => name.to_owned(),
                };
                mistakes.push(problem(span.clone(), wrong).about(subject));
            };
            let parsed_system = units::system(&text[system.clone()]);
            let parsed_index = index(&text[if_index.clone()]);
            match (parsed_system, parsed_index) {
                (Ok(address), Ok(if_index)) => {
                    Some(Interface { system: System(address), if_index })
                }
                (address, number) => {
                    if let Err(wrong) = address {
                        part("system", system, wrong);
                    }
                    if let Err(wrong) = number {
                        part("if_index", if_index, wrong);
                    }
                    None
                }
            }
        });
        let [Some(one_end), Some(other_end)] = parsed else { return };
        let Some(link) = Link::new(one_end, other_end) else {
            return mistakes.push(problem(whole, Wrong::new(ONE_INTERFACE)));
        };
        let places =
            [(one_end, one.start..one_index.end), (other_end, other.start..other_index.end)];
        for (interface, span) in places {
            let place = Place { source: Arc::clone(source), span: span.clone().into() };
            let Some(before) = self.end(interface, link, place) else { continue };
            let wrong = Wrong::new(two_links(interface));
            mistakes.push(if Arc::ptr_eq(&before.source, source) {
                problem(span, wrong).with_also(before.span, "first here")
            } else {
                let there = before.source.place(before.span);
                problem(span, wrong.help(format!("the other is at {there}")))
            });
        }
        self.links.push(link);
    }

    /// Notes that an interface is an end of a link. Gives back where it was said that it is one of
    /// another link. The same link may be named again: an inventory lists a cable from both of its ends.
    fn end(&mut self, interface: Interface, link: Link, place: Place) -> Option<Place> {
        match self.ends.entry(interface) {
            Entry::Vacant(entry) => {
                entry.insert((link, place));
                None
            }
            Entry::Occupied(entry) => {
                let (before, there) = entry.get();
                (*before != link).then(|| there.clone())
            }
        }
    }
}

const END_HELP: &str = "an end is written as { system = \"192.0.2.1\", if_index = 3 }";
const ONE_INTERFACE: &str = "both ends of this link are the same interface";

fn two_links(interface: Interface) -> String {
    format!("{interface} is an end of another link already")
}

/// An end of a link of the configuration itself.
fn end(mut table: Table<'_>) -> Option<Interface> {
    let system = table.get("system");
    let number = table.get("if_index");
    // Where the whole end is missing, that has been said.
    if table.is_there() {
        for (key, value) in [("system", &system), ("if_index", &number)] {
            if value.is_none() {
                table.wrong(format!("{key} is missing"), Some(END_HELP.to_owned()));
            }
        }
    }
    table.finish();
    let system = system.and_then(|value| value.parse(units::system));
    let number = number.and_then(|value| if_index(&value));
    Some(Interface { system: System(system?), if_index: number? })
}

/// An ifIndex in digits.
fn index(text: &str) -> Result<u32, Wrong> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.then(|| text.parse::<i64>().ok()).flatten();
    let number = number.filter(|number| IF_INDEX.contains(number));
    number.and_then(|number| u32::try_from(number).ok()).ok_or_else(|| Wrong::new(IF_INDEX_TEXT))
}

/// The parts of a text that are lines with something in them, without comments and blanks at their
/// ends.
fn lines(text: &str) -> impl Iterator<Item = Range<usize>> {
    let mut start = 0;
    text.split_inclusive('\n').filter_map(move |line| {
        let end = line.find('#').unwrap_or(line.len());
        let found = trimmed(text, start..start + end);
        start += line.len();
        (!found.is_empty()).then_some(found)
    })
}

/// The fields of a line, between commas, without blanks and quotes around them.
fn fields(text: &str, line: Range<usize>) -> Vec<Range<usize>> {
    let mut start = line.start;
    let fields = text[line].split(',').map(|field| {
        let found = trimmed(text, start..start + field.len());
        start += field.len() + 1;
        let quoted = found.len() > 1 && text[found.clone()].starts_with('"');
        match quoted && text[found.clone()].ends_with('"') {
            true => trimmed(text, found.start + 1..found.end - 1),
            false => found,
        }
    });
    fields.collect()
}

fn trimmed(text: &str, range: Range<usize>) -> Range<usize> {
    let part = &text[range.clone()];
    let start = range.start + (part.len() - part.trim_start().len());
    start..start + part.trim().len()
}

/// Whether the first line names the fields, as programs that write tables do.
fn is_heading(text: &str, fields: &[Range<usize>]) -> bool {
    let names = fields.iter().map(|field| &text[field.clone()]);
    names.eq(FIELDS)
}
