//! What the tests of the replica share: agents in directories of their own, and a state channel between
//! them that loses nothing while it is up and can be cut at any frame.

use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use evenkeel_core::{
    alarm::AlarmEvent,
    pair::{
        Role,
        sync::Sync,
        term::{Slot, Term},
        version::Version,
    },
};
use tokio::sync::mpsc;

use super::{FromReplica, Led, Link, Parts, Replica, ReplicaHandle, Said, Stats, ToReplica, Wait};
use crate::{
    clock::Clock,
    spool::{AnswerSockets, DEFAULT_MAX_SIZE, DIRECTORY, Spool, testing::taken},
    store::{Commit, JournalRow, Moment, Now, Reader, Retention, Store, testing as stores},
};

/// The present of the test.
pub fn clock() -> Now {
    let reading = Clock::both();
    let moment = Moment { mono: reading.time, wall: reading.wall_time() };
    Now { moment, boot_id: "0b00b1e5-0000-4000-8000-000000000001".to_owned() }
}

/// Term `number` of slot 0.
pub const fn term(number: u64) -> Term {
    Term { number, by: Slot::Zero }
}

/// An agent of a pair.
pub struct Node {
    /// Its store.
    pub store: Arc<Store>,
    /// Its spool.
    pub spool: Arc<Spool>,
    /// Its replica.
    pub handle: ReplicaHandle,
    /// What that tells.
    pub told: mpsc::UnboundedReceiver<FromReplica>,
    /// To it.
    pub to: mpsc::UnboundedSender<ToReplica>,
    /// From it.
    pub frames: Arc<Mutex<mpsc::Receiver<Vec<u8>>>>,
    /// What it said last.
    pub said: Arc<Mutex<Vec<Said>>>,
}

impl Node {
    /// Starts an agent on what is in `dir`.
    pub fn start(dir: &Path) -> Node {
        let (store, _) = Store::open(dir, &clock(), Retention::default(), None).unwrap();
        let spool_dir = dir.join(DIRECTORY);
        let sockets = AnswerSockets::default();
        let (spool, _) = Spool::open(&spool_dir, DEFAULT_MAX_SIZE, sockets, &clock()).unwrap();
        let (store, spool) = (Arc::new(store), Arc::new(spool));
        let (frames, framed) = mpsc::channel(64);
        let (saying, mut heard) = mpsc::unbounded_channel();
        let said = Arc::new(Mutex::new(Vec::new()));
        let saids = Arc::clone(&said);
        std::thread::spawn(move || {
            while let Some(what) = heard.blocking_recv() {
                saids.lock().unwrap().push(what);
            }
        });
        let (to, from_pair) = mpsc::unbounded_channel();
        let parts = Parts {
            store: Arc::clone(&store),
            spool: Arc::clone(&spool),
            state_dir: dir.to_owned(),
            link: Link { frames, said: saying },
            heard: from_pair,
            wait: Wait::Standby,
            clock,
        };
        let (handle, told) = Replica::start(parts).unwrap();
        let frames = Arc::new(Mutex::new(framed));
        Node { store, spool, handle, told, to, frames, said }
    }

    /// Ends it, and waits until nothing of it is left.
    pub fn stop(self) {
        let Node { store, spool, handle, told, to, .. } = self;
        drop((handle, told, to));
        until("its thread has ended", || Arc::strong_count(&store) == 1);
        drop((store, spool));
    }

    /// Makes it primary in a term.
    pub fn lead(&self, number: u64) -> Led {
        let role = ToReplica::Role { role: Role::Primary, term: Some(term(number)) };
        self.to.send(role).unwrap();
        wait(self.handle.lead(Some(term(number)))).unwrap()
    }

    /// Makes it standby.
    pub fn follow(&self, number: u64) {
        wait(self.handle.follow());
        let role = ToReplica::Role { role: Role::Standby, term: Some(term(number)) };
        self.to.send(role).unwrap();
    }

    /// Whether the last that it said of synchronisation is that it is so.
    pub fn in_sync(&self) -> bool {
        let said = self.said.lock().unwrap();
        let last = said.iter().rev().find_map(|said| match said {
            Said::Sync(sync) => Some(*sync),
            Said::Reconnect(_) => None,
        });
        matches!(last, Some(Sync::InSync { .. })) && self.handle.stats().in_sync
    }

    /// Submits events, each with a record of its object that counts them.
    pub fn submit(&self, events: Vec<AlarmEvent>, mark: u64) {
        let objects = events.iter().map(|event| event.alarm.id.0 as u32);
        let records = objects.map(|object| stores::record(object, mark)).collect();
        let as_of = clock().moment;
        self.store.submit(Commit { events, records, as_of, ..Commit::default() });
    }

    /// Raises alarms of these objects.
    pub fn raise(&self, objects: std::ops::Range<u32>) {
        self.submit(objects.map(stores::raise).collect(), 1);
    }

    /// Spools traps with these numbers.
    pub fn spool(&self, numbers: std::ops::RangeInclusive<u64>) {
        let mut builder = crate::spool::WorkBuilder::default();
        let now = clock().moment;
        for number in numbers {
            let mut taken = taken(number);
            (taken.received, taken.wall) = (now.mono, now.wall);
            assert!(builder.push(&taken, &crate::spool::testing::targets()));
        }
        self.spool.submit(builder.take().unwrap());
    }

    /// Waits until the rows up to `seq` and the entries up to `number` are on the disk.
    pub fn wait_for(&self, seq: u64, number: u64) {
        until("they are on the disk", || {
            *self.store.committed().borrow() >= seq && *self.spool.safe().borrow() >= number
        });
    }
}

/// The state channel between two agents.
pub struct Wire {
    /// Held while both ends are told, so that no frame overtakes the word that it is up.
    up: Arc<Mutex<bool>>,
    /// How many frames may still pass.
    left: Arc<AtomicU64>,
    ends: [mpsc::UnboundedSender<ToReplica>; 2],
    stats: [Arc<Mutex<Stats>>; 2],
    stop: Arc<AtomicBool>,
    pumps: Vec<JoinHandle<()>>,
}

impl Drop for Wire {
    fn drop(&mut self) {
        // What they might take later would be another's.
        self.stop.store(true, Ordering::SeqCst);
        self.pumps.drain(..).for_each(|pump| drop(pump.join()));
    }
}

impl Wire {
    /// Lays it; it is down.
    pub fn lay(a: &Node, b: &Node) -> Wire {
        let up = Arc::new(Mutex::new(false));
        let left = Arc::new(AtomicU64::new(u64::MAX));
        let (stop, mut pumps) = (Arc::new(AtomicBool::new(false)), Vec::new());
        for (from, to) in [(a, b), (b, a)] {
            let (frames, to) = (Arc::clone(&from.frames), to.to.clone());
            let (up, left) = (Arc::clone(&up), Arc::clone(&left));
            let stopped = Arc::clone(&stop);
            pumps.push(std::thread::spawn(move || {
                while !stopped.load(Ordering::SeqCst) {
                    let frame = frames.lock().unwrap().try_recv();
                    let Ok(frame) = frame else {
                        std::thread::sleep(Duration::from_micros(200));
                        continue;
                    };
                    let up = up.lock().unwrap();
                    let passes = *up
                        && left
                            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1))
                            .is_ok();
                    if passes {
                        let _ = to.send(ToReplica::Frame(frame));
                    }
                }
            }));
        }
        let stats = [Arc::clone(&a.handle.stats), Arc::clone(&b.handle.stats)];
        let ends = [a.to.clone(), b.to.clone()];
        for node in [a, b] {
            let (said, up, ends) = (Arc::clone(&node.said), Arc::clone(&up), ends.clone());
            std::thread::spawn(move || connect_again(&said, &up, &ends));
        }
        Wire { up, left, ends, stats, stop, pumps }
    }

    /// Brings it up.
    pub fn up(&self) {
        let mut up = self.up.lock().unwrap();
        self.left.store(u64::MAX, Ordering::SeqCst);
        say_up(&self.ends);
        *up = true;
    }

    /// Lets so many frames pass, and none after them, though it stays up.
    pub fn stall_after(&self, frames: u64) {
        self.left.store(frames, Ordering::SeqCst);
    }

    /// Cuts it, and waits until both have noticed.
    pub fn cut(&self) {
        {
            let mut up = self.up.lock().unwrap();
            *up = false;
            for end in &self.ends {
                let _ = end.send(ToReplica::Down);
            }
        }
        for stats in &self.stats {
            until("it is out of sync", || !stats.lock().unwrap().in_sync);
        }
    }
}

fn say_up(ends: &[mpsc::UnboundedSender<ToReplica>; 2]) {
    for end in ends {
        let mate_version = Version { major: 1, minor: 0, patch: 0 };
        let _ = end.send(ToReplica::Up { mate_name: "mate".to_owned(), mate_version });
    }
}

/// Closes the channel and opens it again whenever an end asks for it, as the pair's thread does.
fn connect_again(
    said: &Mutex<Vec<Said>>,
    up: &Mutex<bool>,
    ends: &[mpsc::UnboundedSender<ToReplica>; 2],
) {
    let mut done = 0;
    while !ends.iter().any(mpsc::UnboundedSender::is_closed) {
        let asked = |said: &Vec<Said>| {
            said.iter().filter(|said| matches!(said, Said::Reconnect(_))).count()
        };
        let asked = asked(&said.lock().unwrap());
        let up = up.lock().unwrap();
        if asked > done && *up {
            for end in ends {
                let _ = end.send(ToReplica::Down);
            }
            say_up(ends);
        }
        drop(up);
        done = asked;
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits for something.
pub fn wait<T>(what: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(what)
}

/// Waits until something is so.
pub fn until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < deadline, "it does not become so that {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The whole journal.
pub fn journal(dir: &Path) -> Vec<JournalRow> {
    Reader::open(dir).unwrap().journal_after(0, usize::MAX).unwrap()
}

/// Two agents in directories of their own, the first primary and the second its standby.
pub fn pair(a: &Path, b: &Path) -> (Node, Node, Wire) {
    let (a, b) = (Node::start(a), Node::start(b));
    a.lead(1);
    b.follow(1);
    let wire = Wire::lay(&a, &b);
    wire.up();
    (a, b, wire)
}

/// Waits until both say that they are in synchronisation.
pub fn until_in_sync(a: &Node, b: &Node) {
    until("both are in sync", || a.in_sync() && b.in_sync());
}
