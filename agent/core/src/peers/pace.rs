//! When a list may send its next batch, and how much of it (PEER-4).
//!
//! Both lists have one of their own, so that neither delays the other; and as no batch leaves before
//! the interval has gone by since the last one did, no stall and no backlog makes a burst (PEER-10).

use super::settings::Batch;
use crate::time::Time;

/// One list's batches.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    batch: Batch,
    last: Option<Time>,
}

impl Pace {
    /// No batch has left yet.
    pub const fn new(batch: Batch) -> Pace {
        Pace { batch, last: None }
    }

    /// Other batches from now on.
    pub const fn set(&mut self, batch: Batch) {
        self.batch = batch;
    }

    /// How many requests a batch has at most.
    pub const fn size(&self) -> u32 {
        self.batch.size.get()
    }

    /// Before when no batch may leave.
    pub fn next(&self) -> Time {
        self.last.map_or(Time::ZERO, |last| last + self.batch.interval)
    }

    /// A batch leaves.
    pub const fn leaves(&mut self, now: Time) {
        self.last = Some(now);
    }
}
