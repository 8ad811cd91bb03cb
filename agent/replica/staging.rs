//! A copy while it comes, in a file beside the state that it is to replace (PAIR-11).
//!
//! ```text
//!   copy.ops ──(whole, forced to the disk, renamed)──> copy.done ──(store, spool)──> removed
//! ```
//!
//! Until it is whole, what is here stays as it was. Once it is named `copy.done`, it is put in place, and
//! a crash in the midst is made good at the next start: to put it in place twice does no harm.

use std::{
    fs::{self, File},
    io::{self, BufReader, BufWriter, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use evenkeel_core::{
    pair::record::{Part, Parts},
    time::{Time, WallTime},
};

use super::{
    convert,
    wire::{CopyBegin, Op, OpReader, Whole},
};
use crate::{
    spool::{Entry, Spool, SpoolCopy},
    store::{Copy, Has, Item, Moment, Now, Store},
};

const COMING: &str = "copy.ops";
const DONE: &str = "copy.done";

/// How far the moment of arrival may move before it is written down again.
const ARRIVED_WITHIN: Duration = Duration::from_millis(20);

/// A copy that is coming.
#[derive(Debug)]
pub struct Staging {
    dir: PathBuf,
    file: BufWriter<File>,
    arrived: Option<Time>,
    /// What it began with.
    pub begin: CopyBegin,
    whole: Vec<Whole>,
    /// The state of the peers came.
    pub peers: bool,
}

impl Staging {
    /// Begins a copy in `dir`, in place of one that was not finished.
    pub fn begin(dir: &Path, begin: CopyBegin) -> io::Result<Staging> {
        let file = BufWriter::with_capacity(1 << 20, File::create(dir.join(COMING))?);
        let (dir, arrived, whole) = (dir.to_owned(), None, Vec::new());
        let mut staging = Staging { dir, file, arrived, begin, whole, peers: false };
        let begin = Op::CopyBegin(staging.begin.clone());
        staging.write(&begin)?;
        Ok(staging)
    }

    /// Takes an operation of the copy, which came now.
    pub fn take(&mut self, op: &Op, now: &Now) -> io::Result<()> {
        let mono = now.moment.mono;
        if self.arrived.is_none_or(|arrived| mono.since(arrived) > ARRIVED_WITHIN) {
            let boot = now.boot_id.clone();
            self.write(&Op::Arrived((boot, mono.as_nanos(), now.moment.wall.0)))?;
            self.arrived = Some(mono);
        }
        self.write(op)
    }

    /// Notes that a part is whole.
    pub fn is_whole(&mut self, whole: Whole) {
        self.whole.push(whole);
    }

    /// What of it has not come.
    pub fn missing(&self) -> Parts {
        let has = |whole| self.whole.contains(&whole);
        let outbox = has(Whole::Outbox) && has(Whole::Spool);
        let missing: Vec<Part> = [
            (Part::Alarms, has(Whole::Alarms)),
            (Part::Objects, has(Whole::Objects)),
            (Part::Engines, has(Whole::Engines)),
            (Part::Outbox, outbox),
            (Part::Peers, self.peers),
        ]
        .into_iter()
        .filter(|(_, has)| !has)
        .map(|(part, _)| part)
        .collect();
        Parts::of(&missing)
    }

    /// All of it has come: it takes the place of what is here.
    pub async fn finish(mut self, store: &Store, spool: &Spool, now: &Now) -> Result<(), String> {
        let renamed = self.file.flush().and_then(|()| {
            self.file.get_ref().sync_all()?;
            fs::rename(self.dir.join(COMING), self.dir.join(DONE))?;
            File::open(&self.dir)?.sync_all()
        });
        renamed.map_err(|error| error.to_string())?;
        put_in_place(&self.dir, store, spool, now).await
    }

    /// It has ended early, and nothing was here before: what is whole of it is put in place. Gives back
    /// what is missing.
    pub async fn salvage(
        mut self,
        store: &Store,
        spool: &Spool,
        now: &Now,
    ) -> Result<Parts, String> {
        let text = |error: io::Error| error.to_string();
        self.file.flush().map_err(text)?;
        let path = self.dir.join(COMING);
        let has = |whole| self.whole.contains(&whole);
        let has_tables = Has {
            alarms: has(Whole::Alarms),
            objects: has(Whole::Objects),
            engines: has(Whole::Engines),
            outbox: has(Whole::Outbox),
        };
        place_store(&path, &self.begin, has_tables, store, now).await?;
        if has(Whole::Spool) {
            place_spool(&path, &self.begin, spool, now).await?;
        }
        let missing = self.missing();
        self.drop_it();
        Ok(missing)
    }

    /// It is of no use any more.
    pub fn drop_it(self) {
        // What stays is replaced by the next.
        let _ = fs::remove_file(self.dir.join(COMING));
    }

    fn write(&mut self, op: &Op) -> io::Result<()> {
        let mut octets = Vec::with_capacity(512);
        op.append(&mut octets);
        self.file.write_all(&octets)
    }
}

/// Puts a copy in place that an earlier run had whole, if there is one.
pub async fn finish_earlier(
    dir: &Path,
    store: &Store,
    spool: &Spool,
    now: &Now,
) -> Result<(), String> {
    if !dir.join(DONE).exists() {
        return Ok(());
    }
    put_in_place(dir, store, spool, now).await
}

/// Whether an earlier run had a copy whole and did not come to its end.
pub fn is_left(dir: &Path) -> bool {
    dir.join(DONE).exists()
}

async fn put_in_place(dir: &Path, store: &Store, spool: &Spool, now: &Now) -> Result<(), String> {
    let path = dir.join(DONE);
    let remove = || fs::remove_file(&path).map_err(|error| error.to_string());
    let begin = match OpReader::new(open(&path)?).next() {
        Some(Ok(Op::CopyBegin(begin))) => begin,
        _ => {
            remove()?;
            return Err("a copy of the mate's state was damaged".to_owned());
        }
    };
    let has = Has { alarms: true, objects: true, engines: true, outbox: true };
    if let Err(error) = place_store(&path, &begin, has, store, now).await {
        // Nothing of it is in place.
        remove()?;
        return Err(error);
    }
    place_spool(&path, &begin, spool, now).await?;
    remove()
}

async fn place_store(
    path: &Path,
    begin: &CopyBegin,
    has: Has,
    store: &Store,
    now: &Now,
) -> Result<(), String> {
    let items = Stamped::open(path, now)?.filter_map(|read| match read {
        Ok((op, arrived)) => convert::item(op, &arrived).map(Ok),
        Err(error) => Some(Err(error)),
    });
    let items: Box<dyn Iterator<Item = Result<Item, String>> + Send> = Box::new(items);
    let (first_seq, last_seq) = (Some(begin.first_seq), begin.last_seq);
    let copy = Copy { first_seq, last_seq, has, items };
    store.swap(now.clone(), copy).await.unwrap_or_else(|_| Err("the store is closed".to_owned()))
}

async fn place_spool(
    path: &Path,
    begin: &CopyBegin,
    spool: &Spool,
    now: &Now,
) -> Result<(), String> {
    let entries = Stamped::open(path, now)?.filter_map(|read| match read {
        Ok((Op::Trap(trap), arrived)) => Some(Ok(convert::entry(trap, &arrived))),
        Ok(_) => None,
        Err(error) => Some(Err(error)),
    });
    let entries: Box<dyn Iterator<Item = Result<Entry, String>> + Send> = Box::new(entries);
    let CopyBegin { adds, last_number: last, heeded, .. } = *begin;
    let copy = SpoolCopy { adds, last, heeded, entries };
    spool.swap(copy).await.unwrap_or_else(|_| Err("the spool is closed".to_owned()))
}

/// The operations of a copy, each with the moment at which it came: their ages are as of then.
struct Stamped {
    ops: OpReader<BufReader<File>>,
    now: Now,
    arrived: Now,
}

impl Stamped {
    fn open(path: &Path, now: &Now) -> Result<Stamped, String> {
        Ok(Stamped { ops: OpReader::new(open(path)?), now: now.clone(), arrived: now.clone() })
    }

    /// A moment that was written down, on the clocks of now.
    fn at(&self, boot: &str, mono_ns: u64, wall_ms: i64) -> Now {
        let mono = if boot == self.now.boot_id {
            Time::from_nanos(mono_ns)
        } else {
            let ago = self.now.moment.wall.0.saturating_sub(wall_ms);
            self.now.moment.mono - Duration::from_millis(u64::try_from(ago).unwrap_or(0))
        };
        let moment = Moment { mono: mono.min(self.now.moment.mono), wall: WallTime(wall_ms) };
        Now { moment, boot_id: self.now.boot_id.clone() }
    }
}

impl Iterator for Stamped {
    type Item = Result<(Op, Now), String>;

    fn next(&mut self) -> Option<Result<(Op, Now), String>> {
        loop {
            match self.ops.next()? {
                Ok(Op::Arrived((boot, mono_ns, wall_ms))) => {
                    self.arrived = self.at(&boot, mono_ns, wall_ms);
                }
                Ok(op) => return Some(Ok((op, self.arrived.clone()))),
                Err(error) => return Some(Err(error.to_string())),
            }
        }
    }
}

fn open(path: &Path) -> Result<BufReader<File>, String> {
    let file = File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(BufReader::with_capacity(1 << 20, file))
}
