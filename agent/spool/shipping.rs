//! The spool of a pair: what the primary's tells a replica, and what that writes into the standby's,
//! with the same numbers (PAIR-11).

use std::{
    collections::VecDeque,
    io,
    path::{Path, PathBuf},
};

use evenkeel_core::input::Taken;

use super::{
    entry::{self, Body, HEAD, Head},
    recovery::{on_this_clock, place},
    segment::{Found, SegmentReader},
};
use crate::store::{Now, Tap};

/// A file in the directory of the spool that says that everything in it is a primary's: with its
/// numbers, and nothing else. It goes when this agent writes an entry of its own.
pub const FOLLOWING: &str = "following";

/// An entry, whose moments are on the clocks of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number.
    pub number: u64,
    /// The trap.
    pub taken: Taken,
    /// The names of the notification targets that acknowledge and that it is for.
    pub targets: Vec<String>,
}

impl Entry {
    fn read(number: u64, body: &[u8]) -> Option<Entry> {
        let body = Body::read(body)?;
        let targets = body.targets.iter().map(|&name| name.to_owned()).collect();
        Some(Entry { number, taken: body.taken(number), targets })
    }

    /// Appends it, as a segment has it.
    pub fn append(&self, out: &mut Vec<u8>) -> bool {
        entry::append(out, self.number, &self.taken, &self.targets)
    }
}

/// What comes out of the spool for a replica.
#[derive(Debug)]
pub enum SpoolShipped {
    /// How it was at the moment from which on it ships. Comes first, and once.
    Begin {
        /// The last number that was safe; all that follows has a higher one.
        safe: u64,
        /// Up to here every notification target that acknowledges has had everything.
        passed: u64,
    },
    /// Entries that are safe now, encoded end to end.
    Entries(Vec<u8>),
}

/// Where the spool puts what it ships.
pub type SpoolTap = Tap<SpoolShipped>;

/// Reads entries that are encoded end to end, by this run.
pub fn read_entries(mut octets: &[u8]) -> Vec<Entry> {
    let mut entries = Vec::new();
    while let Some((head, rest)) = octets.split_first_chunk::<HEAD>()
        && let Some(head) = Head::read(head)
        && let Some((body, rest)) = rest.split_at_checked(head.length as usize)
    {
        entries.extend(Entry::read(head.number, body));
        octets = rest;
    }
    entries
}

/// What is put into a standby's spool at the end of a copy.
pub struct SpoolCopy {
    /// Everything that is there is the primary's already, and only what is missing is added. Else it
    /// is replaced.
    pub adds: bool,
    /// The last number that the primary has ever given.
    pub last: u64,
    /// Up to here the records heed all.
    pub heeded: u64,
    /// The entries, with ascending numbers.
    pub entries: Box<dyn Iterator<Item = Result<Entry, String>> + Send>,
}

impl std::fmt::Debug for SpoolCopy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SpoolCopy").field("adds", &self.adds).finish_non_exhaustive()
    }
}

/// Entries on the disk, read beside the writer.
#[derive(Debug)]
pub struct Stored {
    dir: PathBuf,
    waiting: VecDeque<u64>,
    reader: Option<SegmentReader>,
    after: u64,
    last: u64,
    now: Now,
}

impl Stored {
    /// Those after `after` up to `last` of the spool in `dir`.
    ///
    /// # Errors
    ///
    /// The directory can't be read.
    pub fn open(dir: &Path, after: u64, last: u64, now: &Now) -> io::Result<Stored> {
        let segments = super::segment::list(dir)?;
        let start = place(&segments, after.saturating_add(1));
        Ok(Stored {
            dir: dir.to_owned(),
            waiting: segments[start..].iter().copied().collect(),
            reader: None,
            after,
            last,
            now: now.clone(),
        })
    }

    fn advance(&mut self) -> io::Result<Option<Entry>> {
        while self.after < self.last {
            let Some(reader) = &mut self.reader else {
                let Some(first) = self.waiting.pop_front() else { return Ok(None) };
                self.reader = match SegmentReader::open(&self.dir, first) {
                    // Nobody needs it any more.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    reader => reader?,
                };
                continue;
            };
            match reader.next()? {
                Found::Entry(number) if number > self.last => return Ok(None),
                Found::Entry(number) if number > self.after => {
                    self.after = number;
                    let Some(mut entry) = Entry::read(number, reader.body()) else { continue };
                    let taken = &mut entry.taken;
                    taken.received =
                        on_this_clock(taken.received, taken.wall, &reader.boot_id, &self.now);
                    return Ok(Some(entry));
                }
                Found::Entry(_) => {}
                Found::End | Found::Bad => self.reader = None,
            }
        }
        Ok(None)
    }
}

impl Iterator for Stored {
    type Item = io::Result<Entry>;

    fn next(&mut self) -> Option<io::Result<Entry>> {
        self.advance().transpose()
    }
}
