//! What an earlier run left in the spool: where it ends, and its traps, to be judged again.
//!
//! Only the newest segment can end in the middle of something: an older one was forced to the disk
//! whole before the next was made. So only the newest is read when the spool is opened, up to the
//! first entry that is not whole, and cut off there. What was cut off had never been reported safe,
//! unless the disk has lost what it had promised to keep; then the numbers go on behind all that
//! are found, and the log says so.

use std::{
    collections::VecDeque,
    fs::{self, OpenOptions},
    io,
    path::{Path, PathBuf},
};

use evenkeel_core::{
    input::Taken,
    time::{Time, WallTime},
};

use super::{
    entry::{Body, HEAD, Head},
    segment::{self, Found, HEADER, SegmentReader},
};
use crate::store::Now;

/// What is found when the spool is opened.
#[derive(Debug, Default)]
pub struct Recovered {
    /// The last number that was used; 0 if none ever was. The next entry has a higher one.
    pub last: u64,
    /// Octets of unfinished entries that were cut off, as after a power cut.
    pub cut: u64,
    /// What an operator must know, one sentence each.
    pub problems: Vec<String>,
    dir: PathBuf,
    segments: Vec<u64>,
    now: Option<Now>,
}

impl Recovered {
    /// What a restart would find where the last number is `last`.
    pub fn of(dir: &Path, segments: Vec<u64>, last: u64, now: &Now) -> Recovered {
        let (dir, now) = (dir.to_owned(), Some(now.clone()));
        Recovered { last, dir, segments, now, ..Recovered::default() }
    }

    /// The entries after `number`, the oldest first, with their moments of receipt on the clock of
    /// this run: as they were if the host was not started anew since, else by the wall clock, never
    /// in the future and never before the entry ahead.
    pub fn entries_after(&self, number: u64) -> Entries {
        let start = place(&self.segments, number.saturating_add(1));
        Entries {
            dir: self.dir.clone(),
            waiting: self.segments[start..].iter().copied().collect(),
            reader: None,
            after: number,
            now: self.now.clone(),
            latest: Time::ZERO,
        }
    }
}

/// The place in `segments` of the one that may hold `number`.
pub fn place(segments: &[u64], number: u64) -> usize {
    segments.partition_point(|first| *first <= number).saturating_sub(1)
}

/// Entries of an earlier run; an error ends them.
#[derive(Debug)]
pub struct Entries {
    dir: PathBuf,
    waiting: VecDeque<u64>,
    reader: Option<SegmentReader>,
    after: u64,
    now: Option<Now>,
    latest: Time,
}

impl Iterator for Entries {
    type Item = io::Result<Taken>;

    fn next(&mut self) -> Option<io::Result<Taken>> {
        self.advance().transpose()
    }
}

impl Entries {
    fn advance(&mut self) -> io::Result<Option<Taken>> {
        loop {
            let Some(reader) = &mut self.reader else {
                let Some(first) = self.waiting.pop_front() else { return Ok(None) };
                self.reader = SegmentReader::open(&self.dir, first)?;
                continue;
            };
            match reader.next()? {
                Found::Entry(number) if number > self.after => {
                    self.after = number;
                    // Whatever the crc says: what is no trap is not made one.
                    let Some(body) = Body::read(reader.body()) else { continue };
                    let mut taken = body.taken(number);
                    if let Some(now) = &self.now {
                        taken.received =
                            on_this_clock(taken.received, taken.wall, &reader.boot_id, now)
                                .max(self.latest);
                        self.latest = taken.received;
                    }
                    return Ok(Some(taken));
                }
                Found::Entry(_) => {}
                Found::End | Found::Bad => self.reader = None,
            }
        }
    }
}

/// A moment of a run under `boot_id`, as this run would name it.
pub fn on_this_clock(received: Time, wall: WallTime, boot_id: &str, now: &Now) -> Time {
    let moment = if boot_id == now.boot_id {
        received
    } else {
        let age = u64::try_from(now.moment.wall.0.saturating_sub(wall.0)).unwrap_or(0);
        now.moment.mono - std::time::Duration::from_millis(age)
    };
    moment.min(now.moment.mono)
}

/// Looks at what is in `dir`, and cuts off what is not whole.
///
/// # Errors
///
/// The directory or a file in it can't be read or written.
pub fn recover(dir: &Path, now: &Now) -> io::Result<(Recovered, Vec<u64>)> {
    let segments = segment::list(dir)?;
    let mut recovered = Recovered {
        dir: dir.to_owned(),
        segments: segments.clone(),
        now: Some(now.clone()),
        ..Recovered::default()
    };
    let Some(&newest) = segments.last() else { return Ok((recovered, segments)) };
    recovered.last = newest.saturating_sub(1);
    // A segment without a header was never given an entry: the next one takes its place.
    if let Some(mut reader) = SegmentReader::open(dir, newest)? {
        while let Found::Entry(number) = reader.next()? {
            recovered.last = number;
        }
        cut(dir, &mut reader, &mut recovered)?;
    }
    Ok((recovered, segments))
}

/// Cuts the segment off where its reader stopped.
fn cut(dir: &Path, reader: &mut SegmentReader, recovered: &mut Recovered) -> io::Result<()> {
    let rest = reader.rest()?;
    if rest.is_empty() {
        return Ok(());
    }
    let path = segment::path(dir, reader.first);
    let garbage = rest.iter().rposition(|octet| *octet != 0).map_or(0, |end| end + 1);
    recovered.cut = garbage as u64;
    if let Some(highest) = highest(&rest[..garbage], recovered.last) {
        let copy = path.with_extension("damaged");
        fs::copy(&path, &copy)?;
        recovered.problems.push(format!(
            "the spool is damaged or was torn by a power cut after number {}: numbers up to {highest} \
             follow the damage and are in {} alone",
            recovered.last,
            copy.display()
        ));
        recovered.last = highest;
    }
    let file = OpenOptions::new().write(true).open(&path)?;
    file.set_len(reader.offset.max(HEADER as u64))?;
    file.sync_all()
}

/// The highest number of a whole entry among octets that begin with something else.
fn highest(octets: &[u8], after: u64) -> Option<u64> {
    /// More entries than a segment can have: a number beyond that is none of it.
    const AHEAD: u64 = 1 << 32;
    let mut highest = None;
    let mut start = 0;
    while let Some(head) = octets.get(start..start + HEAD) {
        let found = head.try_into().ok().and_then(Head::read).filter(|head| {
            let body = start + HEAD..start + HEAD + head.length as usize;
            (after + 1..after.saturating_add(AHEAD)).contains(&head.number)
                && octets.get(body).is_some_and(|body| head.fits(body))
        });
        start += match found {
            Some(head) => {
                highest = highest.max(Some(head.number));
                HEAD + head.length as usize
            }
            None => 1,
        };
    }
    highest
}
