//! What is written down of a stall or a panic: one file of JSON for each in `<state_dir>/stalls`, the newest
//! twenty of them.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use evenkeel_core::{
    finding::Finding,
    supervision::{Part, Stall},
    time::Time,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::UnboundedSender;
use tracing::warn;

use super::{alarm, hang, threads::Thread};

/// Where they are in the state directory.
pub const DIRECTORY: &str = "stalls";

/// The time of day in UTC at the beginning of their names, which sorts them.
pub const FILE_TIME: &str = "%Y%m%dT%H%M%S%.3fZ";

/// How many files are kept: more than a bad night makes, and a few megabytes at most.
const KEPT: usize = 20;

/// Holds the name of the last report that a start has told.
const TOLD: &str = "told";

/// What a report that is about no part is about, in the names of files.
const PANIC: &str = "panic";
const HANG: &str = "hang";

/// The document.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The form of this document.
    pub format: u32,
    /// The agent's name.
    pub agent: String,
    /// Its version.
    pub version: &'static str,
    /// The process.
    pub pid: u32,
    /// When it was written down (RFC 3339).
    pub at: String,
    /// How long the process had been running, in seconds.
    pub up_seconds: u64,
    /// What has happened.
    pub cause: Cause,
    /// Every part that this agent has.
    pub parts: Vec<PartReport>,
    /// What waited, and what failed.
    #[serde(skip_serializing_if = "serde_json::Value::is_null")]
    pub state: serde_json::Value,
    /// Every thread of the process.
    pub threads: Vec<Thread>,
    /// The last lines of the log, oldest first.
    pub log: Vec<String>,
}

/// What a report is about.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Cause {
    /// A part has stalled.
    Stall {
        /// Which.
        part: &'static str,
        /// Its thread, if it has one of its own; others are run by the threads named `runtime`.
        #[serde(skip_serializing_if = "Option::is_none")]
        thread: Option<i32>,
        /// How long it had been silent, in seconds.
        silent_seconds: f64,
        /// It waited for the disk.
        at_disk: bool,
    },
    /// The agent has made a mistake that it does not go on after.
    Panic {
        /// The name of the thread.
        thread: String,
        /// What the mistake is.
        message: String,
        /// Where in the source.
        location: String,
        /// The functions that led there, the innermost first.
        backtrace: Vec<String>,
    },
}

/// One part.
#[derive(Clone, Debug, Serialize)]
pub struct PartReport {
    /// Which.
    pub part: &'static str,
    /// How long ago it was last seen to have given a sign of life, in seconds.
    pub last_sign_seconds: f64,
    /// In how many looks in a row it gave none.
    pub missed: u32,
    /// It counts as stalled.
    pub stalled: bool,
    /// It may be waiting for the disk.
    pub at_disk: bool,
    /// Its thread, if it has one of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thread: Option<i32>,
}

impl Report {
    /// Writes the report, forces it to the disk, and deletes the oldest beyond those that are kept. Gives
    /// back where it is.
    ///
    /// # Errors
    ///
    /// The directory can't be made or written.
    pub fn write(&self, state_dir: &Path, at: Timestamp) -> io::Result<PathBuf> {
        let dir = state_dir.join(DIRECTORY);
        fs::create_dir_all(&dir)?;
        let subject = match &self.cause {
            Cause::Stall { part, .. } => part,
            Cause::Panic { .. } => PANIC,
        };
        let path = dir.join(format!("{}-{subject}.json", at.strftime(FILE_TIME)));
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        // Whole or not at all: who reads may come at any time.
        let unfinished = path.with_extension("part");
        fs::write(&unfinished, text)?;
        fs::File::open(&unfinished)?.sync_all()?;
        fs::rename(&unfinished, &path)?;
        let mut all = names(&dir)?;
        let surplus = all.len().saturating_sub(KEPT);
        for old in all.drain(..surplus) {
            fs::remove_file(dir.join(old))?;
        }
        Ok(path)
    }
}

/// A report of an earlier run that no start has told yet.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Untold {
    path: PathBuf,
    what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    /// This part had stalled; what was known of it.
    Stalled(Part, String),
    /// The run ended by a panic.
    Panicked,
    /// The run was ended by SIGABRT, as it hung.
    Hung,
}

/// Tells what earlier runs have written down and no start has told: each in a line of the log, and each
/// stall as one that is over, since whoever looked at it may have been what stalled. A raise whose alarm is
/// still active changes nothing.
pub fn tell_untold(state_dir: &Path, now: Time, findings: &UnboundedSender<Vec<Finding>>) {
    for Untold { path, what } in take_untold(state_dir) {
        let known = path.display();
        let (part, detail) = match what {
            What::Stalled(part, detail) => (part, detail),
            What::Panicked => {
                warn!("an earlier run ended by a panic; what is known is in {known}");
                continue;
            }
            What::Hung => {
                warn!("an earlier run hung and was aborted; what is known is in {known}");
                continue;
            }
        };
        warn!("an earlier run found {part} stalled; what is known is in {known}");
        // The driver is there.
        let _ = findings.send(vec![alarm::raise(part, detail, now), alarm::clear(part, now)]);
    }
}

/// The reports that no start has told yet, oldest first. From now on they are told.
fn take_untold(state_dir: &Path) -> Vec<Untold> {
    let dir = state_dir.join(DIRECTORY);
    hang::take_up(&dir);
    let told = fs::read_to_string(dir.join(TOLD)).unwrap_or_default();
    let told = told.trim();
    let Ok(names) = names(&dir) else { return Vec::new() };
    let untold: Vec<String> = names.into_iter().filter(|name| name.as_str() > told).collect();
    if let Some(last) = untold.last() {
        // If that can't be written they are told once more, which harms nobody.
        let _ = fs::write(dir.join(TOLD), last);
    }
    untold.into_iter().filter_map(|name| read(dir.join(name))).collect()
}

/// Nothing for a file that is about something else.
fn read(path: PathBuf) -> Option<Untold> {
    #[derive(Default, Deserialize)]
    struct Said {
        cause: SaidCause,
    }
    #[derive(Default, Deserialize)]
    struct SaidCause {
        silent_seconds: f64,
        at_disk: bool,
    }
    let (_, subject) = path.file_stem()?.to_str()?.split_once('-')?;
    if subject == PANIC {
        return Some(Untold { path, what: What::Panicked });
    }
    if subject == HANG {
        return Some(Untold { path, what: What::Hung });
    }
    let part = Part::of_name(subject)?;
    let text = fs::read_to_string(&path).unwrap_or_default();
    let Said { cause } = serde_json::from_str(&text).unwrap_or_default();
    let silent = Duration::from_millis((cause.silent_seconds * 1e3) as u64);
    let stall = Stall { part, silent, at_disk: cause.at_disk, at: Time::ZERO };
    Some(Untold { what: What::Stalled(part, stall.detail()), path })
}

/// The names of the reports, oldest first: they begin with the time of day in UTC.
fn names(dir: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        if let Ok(name) = entry?.file_name().into_string()
            && name.ends_with(".json")
        {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(cause: Cause) -> Report {
        Report {
            format: 1,
            agent: "keel-1".to_owned(),
            version: "1",
            pid: 1,
            at: String::new(),
            up_seconds: 1,
            cause,
            parts: Vec::new(),
            state: serde_json::Value::Null,
            threads: Vec::new(),
            log: Vec::new(),
        }
    }

    fn stall() -> Report {
        let (silent_seconds, at_disk) = (3.25, true);
        report(Cause::Stall { part: "store", thread: Some(7), silent_seconds, at_disk })
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    #[test]
    fn the_newest_twenty_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        for second in 0..25 {
            let path = stall().write(dir.path(), at(second)).unwrap();
            assert!(path.exists());
        }
        let names = names(&dir.path().join(DIRECTORY)).unwrap();
        assert_eq!(names.len(), KEPT);
        assert_eq!(names[0], "20231114T221325.000Z-store.json");
        assert_eq!(fs::read_dir(dir.path().join(DIRECTORY)).unwrap().count(), KEPT);
    }

    #[test]
    fn each_is_told_by_one_start() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(take_untold(dir.path()), []);
        stall().write(dir.path(), at(1)).unwrap();
        let panic = report(Cause::Panic {
            thread: "store".to_owned(),
            message: "a mistake".to_owned(),
            location: "somewhere".to_owned(),
            backtrace: Vec::new(),
        });
        let path = panic.write(dir.path(), at(2)).unwrap();
        fs::write(dir.path().join(DIRECTORY).join("20231114T221322.000Z-notes.json"), "").unwrap();
        let untold = take_untold(dir.path());
        let detail = "no sign of life for 3.25s, as the disk stands still".to_owned();
        assert_eq!(untold[0].what, What::Stalled(Part::Store, detail));
        assert_eq!(untold[1], Untold { path, what: What::Panicked });
        assert_eq!(untold.len(), 2);
        assert_eq!(take_untold(dir.path()), []);
        stall().write(dir.path(), at(3)).unwrap();
        assert_eq!(take_untold(dir.path()).len(), 1);
    }
}
