//! Signs of life: a number for each part, which the part's own loop counts up.
//!
//! There is one table for the process, as one supervisor looks at all of it and a part may come and go with
//! a reload. A sign costs one addition to a number that nobody else writes; a part gives one in each turn of
//! its loop, which takes a whole batch.

use std::{
    sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use evenkeel_core::supervision::{Part, Sign};

/// A loop that has nothing to do wakes so often to give a sign: in each look of the supervisor's, which
/// looks every 500 ms at most.
pub const SIGN: Duration = Duration::from_millis(400);

/// What there is of each part.
static TABLE: [Slot; Part::COUNT] = [const { Slot::new() }; Part::COUNT];

/// What there is of one part, in a cache line of its own: parts must not wait for each other's.
#[repr(align(64))]
struct Slot {
    signs: AtomicU64,
    /// How many loops serve it: none if this agent does not have it, two while a reload replaces one.
    loops: AtomicU32,
    /// How many threads wait for the disk on its behalf.
    at_disk: AtomicU32,
    /// The thread of the latest loop; 0 if it is a task, which any thread may run.
    thread: AtomicI32,
}

impl Slot {
    const fn new() -> Slot {
        Slot {
            signs: AtomicU64::new(0),
            loops: AtomicU32::new(0),
            at_disk: AtomicU32::new(0),
            thread: AtomicI32::new(0),
        }
    }
}

/// The loop of a part. The part counts as there until this is dropped.
#[derive(Debug)]
pub struct Pulse(Part);

impl Pulse {
    /// Of a loop that is this thread's.
    pub fn of_thread(part: Part) -> Pulse {
        // SAFETY: has no preconditions and can't fail (gettid(2)).
        Pulse::new(part, unsafe { libc::gettid() })
    }

    /// Of a loop that is a task.
    pub fn of_task(part: Part) -> Pulse {
        Pulse::new(part, 0)
    }

    fn new(part: Part, thread: libc::pid_t) -> Pulse {
        let slot = &TABLE[part as usize];
        slot.thread.store(thread, Relaxed);
        slot.loops.fetch_add(1, Relaxed);
        Pulse(part)
    }

    /// Gives a sign of life.
    pub fn beat(&self) {
        beat(self.0);
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        TABLE[self.0 as usize].loops.fetch_sub(1, Relaxed);
    }
}

/// Gives a sign of life for a part that has much to do in one turn of its loop, and goes on with it.
pub fn beat(part: Part) {
    TABLE[part as usize].signs.fetch_add(1, Relaxed);
}

/// While it is there, the part may be waiting for the disk.
#[derive(Debug)]
pub struct AtDisk(Part);

/// The part is about to write to the disk, or to read from it.
pub fn at_disk(part: Part) -> AtDisk {
    TABLE[part as usize].at_disk.fetch_add(1, Relaxed);
    AtDisk(part)
}

impl Drop for AtDisk {
    fn drop(&mut self) {
        TABLE[self.0 as usize].at_disk.fetch_sub(1, Relaxed);
    }
}

/// What a part shows; nothing if it is not there.
pub fn sign(part: Part) -> Option<Sign> {
    let slot = &TABLE[part as usize];
    (slot.loops.load(Relaxed) > 0)
        .then(|| Sign { count: slot.signs.load(Relaxed), at_disk: slot.at_disk.load(Relaxed) > 0 })
}

/// The thread of a part, if it has one of its own.
pub fn thread(part: Part) -> Option<libc::pid_t> {
    let thread = TABLE[part as usize].thread.load(Relaxed);
    (thread != 0).then_some(thread)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No other test has the part that speaks with a mate.
    #[test]
    fn a_part_is_there_while_a_loop_serves_it_and_counts_its_signs() {
        let part = Part::StateChannel;
        assert_eq!(sign(part), None);
        let first = Pulse::of_thread(part);
        let count = sign(part).unwrap().count;
        first.beat();
        assert_eq!(sign(part), Some(Sign { count: count + 1, at_disk: false }));
        // SAFETY: has no preconditions.
        assert_eq!(thread(part), Some(unsafe { libc::gettid() }));
        // A reload starts the next before it ends the one before.
        let second = Pulse::of_task(part);
        drop(first);
        let disk = at_disk(part);
        assert!(sign(part).unwrap().at_disk);
        drop(disk);
        assert!(!sign(part).unwrap().at_disk);
        assert_eq!(thread(part), None);
        drop(second);
        assert_eq!(sign(part), None);
    }
}
