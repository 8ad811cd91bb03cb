//! What must outlive the agent, on the disk (PAIR-2, PAIR-6, PAIR-7): `pair/state.json` in the state
//! directory. It is replaced whole; a thread of its own writes it, as a disk may take its time.
//!
//! Durations are kept as ages, with the moment as of which they are: on the monotonic clock, which the
//! next run reads in the same boot of this host, and on the wall clock for one in another.
//!
//! **A lost file.** An agent that forgot its terms could begin one that there was already, with its
//! own name to it. So one whose file is damaged goes on above every number that it can have used: with
//! the number of seconds since 1970, as terms don't come by the second. The mate counts as its primary,
//! as that is who may have the state. In the same way a *run* is at least the seconds since 1970: to an
//! agent that was installed anew, and has no file, its mate would otherwise not listen.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::mpsc,
    time::Duration,
};

use anyhow::Context;
use evenkeel_core::{
    pair::{
        Kept,
        term::{Slot, Term},
    },
    time::{Time, WallTime},
};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::UnboundedSender;

use crate::clock::{LEAD, Reading};

/// The version of the file's form.
const VERSION: u32 = 1;

/// How long to wait before another attempt to write.
const AGAIN: Duration = Duration::from_secs(1);

/// The file.
#[derive(Clone, Debug)]
pub struct KeptFile {
    path: PathBuf,
    boot_id: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Content {
    version: u32,
    /// The boot of this host in which it was written.
    boot_id: String,
    /// When that was.
    mono: Time,
    wall: WallTime,
    /// The run that wrote it.
    run: u64,
    kept: Kept,
}

/// What an agent begins with.
#[derive(Debug, PartialEq, Eq)]
pub struct Found {
    /// What an earlier run has kept.
    pub kept: Kept,
    /// How long ago that was.
    pub away: Duration,
    /// The number of this run.
    pub run: u64,
    /// What was wrong with the file.
    pub problem: Option<String>,
}

impl KeptFile {
    /// The file in this state directory.
    pub fn new(state_dir: &Path, boot_id: &str) -> KeptFile {
        KeptFile { path: state_dir.join("pair").join("state.json"), boot_id: boot_id.to_owned() }
    }

    /// What an earlier run has kept. The number of this one is on the disk when this returns.
    ///
    /// # Errors
    ///
    /// The file can't be read or written, or a later version has written it. One that is damaged is
    /// moved aside, which is told as a problem.
    pub fn begin(&self, slot: Slot, now: Reading) -> anyhow::Result<Found> {
        let path = self.path.display();
        let seconds = u64::try_from(now.wall / 1_000_000_000).unwrap_or(0);
        let mut found = match fs::read(&self.path) {
            Ok(octets) => match self.understand(&octets, now)? {
                Ok(found) => found,
                Err(why) => self.move_aside(&why, slot, seconds)?,
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let (kept, away) = (Kept::default(), Duration::ZERO);
                Found { kept, away, run: 0, problem: None }
            }
            Err(error) => return Err(error).with_context(|| format!("cannot read {path}")),
        };
        found.run = (found.run + 1).max(seconds);
        if let Some(directory) = self.path.parent() {
            fs::create_dir_all(directory)
                .with_context(|| format!("cannot make {}", directory.display()))?;
        }
        // What was kept is kept, with its age, in case this run has nothing to keep.
        let aged = Kept {
            takeovers: evenkeel_core::pair::limit::Takeovers::aged(
                &found.kept.takeovers,
                found.away,
            ),
            record: found.kept.record.aged(found.away),
            ..found.kept.clone()
        };
        self.write(found.run, &aged, now).with_context(|| format!("cannot write {path}"))?;
        Ok(found)
    }

    /// What the file says; or what is wrong with it.
    fn understand(&self, octets: &[u8], now: Reading) -> anyhow::Result<Result<Found, String>> {
        #[derive(Deserialize)]
        struct Form {
            version: u32,
        }
        let form: Form = match serde_json::from_slice(octets) {
            Ok(form) => form,
            Err(error) => return Ok(Err(error.to_string())),
        };
        anyhow::ensure!(
            form.version <= VERSION,
            "{} has version {}, and this agent knows none above {VERSION}: install the later agent \
             again, or move the file away",
            self.path.display(),
            form.version,
        );
        let content: Content = match serde_json::from_slice(octets) {
            Ok(content) => content,
            Err(error) => return Ok(Err(error.to_string())),
        };
        let away = if content.boot_id == self.boot_id {
            now.time.since(content.mono)
        } else {
            // Longer is safe: this boot has lasted for so long at least, whatever the wall clock says.
            let wall = now.wall_time().0.saturating_sub(content.wall.0);
            let wall = Duration::from_millis(u64::try_from(wall).unwrap_or(0));
            wall.max(now.time.since(Time::ZERO + LEAD))
        };
        Ok(Ok(Found { kept: content.kept, away, run: content.run, problem: None }))
    }

    /// Begins anew without a file that nobody can read.
    fn move_aside(&self, why: &str, slot: Slot, seconds: u64) -> anyhow::Result<Found> {
        let aside = self.path.with_extension(format!("json.damaged-{seconds}"));
        fs::rename(&self.path, &aside).with_context(|| {
            format!("cannot move the damaged {} to {}", self.path.display(), aside.display())
        })?;
        let known = Some(Term { number: seconds, by: slot.other() });
        let problem = format!(
            "{} was damaged ({why}) and is now {}: which terms and takeovers there were is not known \
             here, and is learned from the mate",
            self.path.display(),
            aside.display(),
        );
        let kept = Kept { known, ..Kept::default() };
        Ok(Found { kept, away: Duration::ZERO, run: 0, problem: Some(problem) })
    }

    /// Replaces what was kept. When this returns, it is on the disk.
    fn write(&self, run: u64, kept: &Kept, as_of: Reading) -> io::Result<()> {
        let content = Content {
            version: VERSION,
            boot_id: self.boot_id.clone(),
            mono: as_of.time,
            wall: as_of.wall_time(),
            run,
            kept: kept.clone(),
        };
        let aside = self.path.with_extension("json.new");
        let mut file = File::create(&aside)?;
        file.write_all(&serde_json::to_vec_pretty(&content)?)?;
        file.sync_all()?;
        fs::rename(&aside, &self.path)?;
        let directory = self.path.parent().unwrap_or(Path::new("."));
        File::open(directory)?.sync_all()
    }
}

/// How the writing goes.
#[derive(Debug, PartialEq, Eq)]
pub enum Wrote {
    /// This is the highest term on the disk.
    Kept(Option<Term>),
    /// It can't be written, and is tried again.
    Failing(String),
}

/// What is to be kept, as of a moment.
type ToKeep = (Kept, Reading);

/// The thread that writes.
#[derive(Debug)]
pub struct Keeper(mpsc::Sender<ToKeep>);

impl Keeper {
    /// Starts it. What becomes of the writing is said to `wrote`.
    ///
    /// # Errors
    ///
    /// There is no thread to be had.
    pub fn spawn(file: KeptFile, run: u64, wrote: UnboundedSender<Wrote>) -> io::Result<Keeper> {
        let (queue, to_keep) = mpsc::channel();
        std::thread::Builder::new()
            .name("pair-kept".to_owned())
            .spawn(move || keep(&file, run, &to_keep, &wrote))?;
        Ok(Keeper(queue))
    }

    /// Has something written, in the place of all that was handed over before.
    pub fn keep(&self, kept: Kept, as_of: Reading) {
        // It ends with its last handle alone.
        let _ = self.0.send((kept, as_of));
    }
}

fn keep(
    file: &KeptFile,
    run: u64,
    to_keep: &mpsc::Receiver<ToKeep>,
    wrote: &UnboundedSender<Wrote>,
) {
    let mut waiting: Option<ToKeep> = None;
    loop {
        let next = match &waiting {
            None => to_keep.recv().ok(),
            // One that could not be written is tried again, unless there is a later one.
            Some(_) => match to_keep.recv_timeout(AGAIN) {
                Ok(next) => Some(next),
                Err(mpsc::RecvTimeoutError::Timeout) => waiting.take(),
                Err(mpsc::RecvTimeoutError::Disconnected) => None,
            },
        };
        let Some(next) = next else { return };
        let (kept, as_of) = to_keep.try_iter().last().unwrap_or(next);
        let said = match file.write(run, &kept, as_of) {
            Ok(()) => {
                waiting = None;
                Wrote::Kept(kept.known)
            }
            Err(error) => {
                waiting = Some((kept, as_of));
                Wrote::Failing(format!("cannot write {}: {error}", file.path.display()))
            }
        };
        if wrote.send(said).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use evenkeel_core::pair::message::{Orders, TakeoverSaid};

    use super::*;

    const SECOND: i64 = 1_000_000_000;

    fn at(mono: u64, wall: i64) -> Reading {
        Reading { time: Time::from_secs(mono) + LEAD, wall: wall * SECOND }
    }

    fn kept(number: u64) -> Kept {
        let term = Term { number, by: Slot::One };
        Kept {
            known: Some(term),
            mate_run: 7,
            orders: Orders { revision: 3, held: true, resets: 1 },
            takeovers: vec![TakeoverSaid { term, age: Duration::from_secs(60) }],
            record: Default::default(),
        }
    }

    #[test]
    fn pair_2_terms_outlive_the_agent_and_each_start_is_another_run() {
        let directory = tempfile::tempdir().unwrap();
        let file = KeptFile::new(directory.path(), "this boot");
        let first = file.begin(Slot::Zero, at(100, 5_000)).unwrap();
        assert_eq!((first.run, first.kept), (5_000, Kept::default()));
        file.write(first.run, &kept(4), at(110, 5_010)).unwrap();
        let second = file.begin(Slot::Zero, at(130, 5_000)).unwrap();
        assert_eq!((second.run, &second.kept), (5_001, &kept(4)), "whatever the wall clock says");
        assert_eq!(second.away, Duration::from_secs(20));
        // Nothing was kept in that run, so what was there is as old as it is.
        let third = file.begin(Slot::Zero, at(140, 6_000)).unwrap();
        assert_eq!((third.run, third.kept.known), (6_000, kept(4).known));
        let age = third.kept.takeovers[0].age + third.away;
        assert_eq!(age, Duration::from_secs(90), "60 s, and 30 s since that was written");
    }

    #[test]
    fn pair_14_after_another_boot_the_wall_clock_tells_the_age_and_never_less_than_the_boot() {
        let directory = tempfile::tempdir().unwrap();
        KeptFile::new(directory.path(), "one").begin(Slot::Zero, at(100, 5_000)).unwrap();
        let boot = KeptFile::new(directory.path(), "another");
        let away = |now| {
            let octets = fs::read(&boot.path).unwrap();
            boot.understand(&octets, now).unwrap().unwrap().away
        };
        assert_eq!(away(at(30, 5_500)), Duration::from_secs(500));
        assert_eq!(away(at(30, 4_000)), Duration::from_secs(30), "it was set back");
    }

    #[test]
    fn pair_2_a_damaged_file_is_moved_aside_and_no_term_comes_again() {
        let directory = tempfile::tempdir().unwrap();
        let file = KeptFile::new(directory.path(), "this boot");
        file.begin(Slot::Zero, at(100, 5_000)).unwrap();
        fs::write(&file.path, "{\"version\": 1, \"run\"").unwrap();
        let found = file.begin(Slot::Zero, at(200, 5_100)).unwrap();
        assert_eq!(found.kept.known, Some(Term { number: 5_100, by: Slot::One }));
        assert_eq!(found.run, 5_100);
        let problem = found.problem.unwrap();
        assert!(problem.contains("state.json was damaged (EOF while parsing"), "{problem}");
        assert!(file.path.with_extension("json.damaged-5100").exists());
        assert_eq!(file.begin(Slot::Zero, at(201, 5_101)).unwrap().kept.known, found.kept.known);
    }

    #[test]
    fn a_file_of_a_later_agent_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let file = KeptFile::new(directory.path(), "this boot");
        fs::create_dir_all(file.path.parent().unwrap()).unwrap();
        fs::write(&file.path, "{\"version\": 2}").unwrap();
        let error = file.begin(Slot::Zero, at(100, 5_000)).unwrap_err().to_string();
        assert!(error.ends_with("install the later agent again, or move the file away"), "{error}");
    }

    #[test]
    fn what_is_kept_is_on_the_disk_when_that_is_said_and_a_failure_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let file = KeptFile::new(directory.path(), "this boot");
        file.begin(Slot::Zero, at(100, 5_000)).unwrap();
        let (sender, mut wrote) = tokio::sync::mpsc::unbounded_channel();
        let keeper = Keeper::spawn(file.clone(), 1, sender).unwrap();
        keeper.keep(kept(5), at(101, 5_001));
        assert_eq!(wrote.blocking_recv(), Some(Wrote::Kept(kept(5).known)));
        assert_eq!(file.begin(Slot::Zero, at(101, 5_001)).unwrap().kept, kept(5));
        fs::remove_dir_all(file.path.parent().unwrap()).unwrap();
        keeper.keep(kept(6), at(102, 5_002));
        let Some(Wrote::Failing(why)) = wrote.blocking_recv() else { panic!("it can't") };
        assert!(why.contains("state.json: No such file"), "{why}");
        fs::create_dir_all(file.path.parent().unwrap()).unwrap();
        assert_eq!(wrote.blocking_recv(), Some(Wrote::Kept(kept(6).known)), "it is tried again");
    }
}
