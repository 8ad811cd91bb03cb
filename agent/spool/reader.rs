//! Reading the spool for one notification target, behind its cursor.

use std::{collections::VecDeque, io, path::PathBuf, sync::Arc};

use evenkeel_core::input::Taken;
use tokio::sync::watch;

use super::{
    Shared,
    entry::{self, Body},
    recovery::place,
    segment::{Found, SegmentReader},
};

/// How many octets are looked at in one call, so that a target that few entries are for gets its
/// cursor on: some 10 ms.
const LOOKED_AT: u64 = 16 << 20;

/// How many places are remembered where earlier calls began: who repeats what was not acknowledged
/// begins there again.
const MARKS: usize = 64;

/// A reader that remembers where it was. It sees what is safe, and nothing else.
#[derive(Debug)]
pub struct SpoolReader {
    dir: PathBuf,
    shared: Arc<Shared>,
    safe: watch::Receiver<u64>,
    reader: Option<SegmentReader>,
    /// The newest last.
    marks: VecDeque<Mark>,
    /// Which segments they are places in.
    generation: u64,
}

/// Where the entries behind a number begin.
#[derive(Clone, Copy, Debug)]
struct Mark {
    number: u64,
    first: u64,
    offset: u64,
    /// The number of the entry before the place, or one less than `first`.
    last: u64,
}

impl SpoolReader {
    pub(super) fn new(
        dir: PathBuf,
        shared: Arc<Shared>,
        safe: watch::Receiver<u64>,
    ) -> SpoolReader {
        SpoolReader { dir, shared, safe, reader: None, marks: VecDeque::new(), generation: 0 }
    }

    /// Up to `limit` entries after `number` that are for the notification target, the oldest first,
    /// and the number up to which all were looked at: behind it the next call goes on. Where that
    /// is `number` itself, there is nothing more for now: wait for [`Spool::safe`](super::Spool::safe)
    /// to rise. It costs what it reads and no more, if it goes on where an earlier call began or
    /// ended.
    ///
    /// # Errors
    ///
    /// A segment can't be read.
    pub fn after(
        &mut self,
        number: u64,
        limit: usize,
        target: &str,
    ) -> io::Result<(Vec<(u64, Taken)>, u64)> {
        // Whatever goes wrong, the next call begins anew.
        let mut reader = self.reader.take();
        let generation = self.shared.shelf().generation;
        if generation != self.generation {
            reader = None;
            self.marks.clear();
            self.generation = generation;
        }
        let safe = *self.safe.borrow();
        let mut found = Vec::new();
        if safe <= number || limit == 0 {
            self.reader = reader;
            return Ok((found, number));
        }
        let Some(mut reader) = self.go_to(reader, number)? else { return Ok((found, safe)) };
        let mut looked_at = 0;
        let mut last;
        loop {
            let before = (reader.offset, reader.last());
            match reader.next()? {
                Found::Entry(entry) if entry > safe => {
                    reader.go_to(before.0, before.1)?;
                    last = safe;
                    break;
                }
                Found::Entry(entry) => {
                    if entry <= number {
                        continue;
                    }
                    last = entry;
                    looked_at += reader.offset - before.0;
                    if entry::is_for(reader.body(), target)
                        && let Some(body) = Body::read(reader.body())
                    {
                        found.push((entry, body.taken(entry)));
                    }
                    if found.len() >= limit || looked_at >= LOOKED_AT || last == safe {
                        break;
                    }
                }
                // Damage in a segment costs what is behind it there, and no more.
                Found::End | Found::Bad => match self.shared.shelf().behind(reader.first) {
                    Some(next) if next <= safe => match self.open(next)? {
                        Some(next) => reader = next,
                        None => return Ok((found, safe)),
                    },
                    _ => {
                        last = safe;
                        break;
                    }
                },
            }
        }
        let (first, offset) = (reader.first, reader.offset);
        self.mark(Mark { number: last, first, offset, last: reader.last() });
        self.reader = Some(reader);
        Ok((found, last))
    }

    /// A reader at the entries behind `number`, or some way before them; nothing if there are none.
    fn go_to(
        &self,
        reader: Option<SegmentReader>,
        number: u64,
    ) -> io::Result<Option<SegmentReader>> {
        let firsts = self.shared.shelf().firsts();
        let Some(&first) = firsts.get(place(&firsts, number.saturating_add(1))) else {
            return Ok(None);
        };
        // A mark of the same number may be at the end of the segment before.
        let mark = self
            .marks
            .iter()
            .filter(|mark| mark.number <= number && firsts.binary_search(&mark.first).is_ok())
            .max_by_key(|mark| mark.number)
            .filter(|mark| mark.first >= first || mark.number == number);
        let Some(mark) = mark else { return self.open(first) };
        let mut reader = match reader {
            Some(reader) if reader.first == mark.first => reader,
            _ => match SegmentReader::open(&self.dir, mark.first) {
                Ok(Some(reader)) => reader,
                _ => return self.open(first),
            },
        };
        // Even if it is there already: what it has read ahead was not written yet.
        reader.go_to(mark.offset, mark.last)?;
        Ok(Some(reader))
    }

    /// Opens a segment, or the first behind it that can be read.
    fn open(&self, mut first: u64) -> io::Result<Option<SegmentReader>> {
        loop {
            match SegmentReader::open(&self.dir, first) {
                Ok(Some(reader)) => return Ok(Some(reader)),
                // It was deleted a moment ago, as it was passed or had to go.
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => match self.shared.shelf().behind(first) {
                    Some(next) => first = next,
                    None => return Ok(None),
                },
            }
        }
    }

    fn mark(&mut self, mark: Mark) {
        self.marks.retain(|other| other.number != mark.number);
        if self.marks.len() == MARKS {
            self.marks.pop_front();
        }
        self.marks.push_back(mark);
    }
}
