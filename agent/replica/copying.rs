//! The thread that reads a copy for the mate: what was on the disk at one moment, while the store and
//! the spool go on.

use std::{path::PathBuf, thread};

use tokio::sync::mpsc::{self, Receiver, Sender};

use super::{
    LONGEST_FRAME, convert,
    wire::{Op, Whole},
};
use crate::{
    spool::Stored,
    store::{Item, Now, Snapshot},
};

/// How many chunks may wait, each of some 128 KiB.
const CHUNKS: usize = 8;

/// A piece of a copy.
#[derive(Debug)]
pub enum Chunk {
    /// Operations, end to end, and how many they are.
    Ops(Vec<u8>, u64),
    /// There is no more, as something could not be read.
    Failed(String),
}

/// What is to be read.
#[derive(Debug)]
pub struct Task {
    /// The store.
    pub snapshot: Snapshot,
    /// The directory of the spool.
    pub spool_dir: PathBuf,
    /// The entries after this number
    pub after: u64,
    /// up to this one.
    pub last: u64,
    /// The present.
    pub clock: fn() -> Now,
}

/// Starts to read; the channel ends with the copy.
pub fn start(task: Task) -> std::io::Result<Receiver<Chunk>> {
    let (sender, chunks) = mpsc::channel(CHUNKS);
    thread::Builder::new().name("copy".to_owned()).spawn(move || {
        let mut copier = Copier { sender, clock: task.clock, gathered: Vec::new(), ops: 0 };
        if let Err(error) = copier.read(&task) {
            // Nobody may want it any more.
            let _ = copier.sender.blocking_send(Chunk::Failed(error));
        }
    })?;
    Ok(chunks)
}

struct Copier {
    sender: Sender<Chunk>,
    clock: fn() -> Now,
    gathered: Vec<u8>,
    ops: u64,
}

impl Copier {
    fn read(&mut self, task: &Task) -> Result<(), String> {
        let now = (task.clock)();
        let text = |error: rusqlite::Error| error.to_string();
        let snapshot = &task.snapshot;
        snapshot.alarms(|item| self.item(item, &now)).map_err(text)?;
        self.put(&Op::CopyWhole(Whole::Alarms));
        // Ages are as of when they are sent: reading 100,000 objects takes a while.
        let clock = self.clock;
        snapshot.objects(|item| self.item(item, &clock())).map_err(text)?;
        self.put(&Op::CopyWhole(Whole::Objects));
        snapshot.engines(|item| self.item(item, &clock())).map_err(text)?;
        self.put(&Op::CopyWhole(Whole::Engines));
        snapshot.outbox(|item| self.item(item, &now)).map_err(text)?;
        self.put(&Op::CopyWhole(Whole::Outbox));
        if task.after < task.last {
            let entries = Stored::open(&task.spool_dir, task.after, task.last, &now);
            for entry in entries.map_err(|error| error.to_string())? {
                let entry = entry.map_err(|error| error.to_string())?;
                let now = clock();
                if !self.put(&Op::Trap(convert::trap(entry, &now))) {
                    return Ok(());
                }
            }
        }
        self.put(&Op::CopyWhole(Whole::Spool));
        self.send();
        Ok(())
    }

    fn item(&mut self, item: Item, now: &Now) -> bool {
        convert::op(item, now).is_none_or(|op| self.put(&op))
    }

    /// Says whether anyone still wants it.
    fn put(&mut self, op: &Op) -> bool {
        op.append(&mut self.gathered);
        self.ops += 1;
        self.gathered.len() < LONGEST_FRAME / 2 || self.send()
    }

    fn send(&mut self) -> bool {
        let ops = std::mem::take(&mut self.ops);
        let gathered = std::mem::take(&mut self.gathered);
        self.sender.blocking_send(Chunk::Ops(gathered, ops)).is_ok()
    }
}
