//! kill -9 of the standby at random moments: what the primary took for replicated is on the standby's
//! disk, under the same numbers, and whatever it left, it takes up again.
//!
//! The child is this test program again, told by an environment variable to be the standby of whoever
//! writes frames to its standard input; it writes its own to its standard output.

use std::{
    io::{Read, Write},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use evenkeel_core::pair::version::Version;

use super::{
    Replicated, ToReplica,
    testing::{Node, clock, journal, until, wait},
};
use crate::{
    spool::{DIRECTORY, Stored},
    store::testing::{Chance, raise},
};

const CHILD: &str = "EVENKEEL_TEST_REPLICA_STANDBY";
const KILLS: u64 = 15;

#[test]
fn pair_13_kill_minus_nine_of_the_standby_loses_nothing_that_was_acknowledged() {
    if let Some(dir) = std::env::var_os(CHILD) {
        be_standby(Path::new(&dir));
    }
    let (at_a, at_b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let seed = u64::from(std::process::id());
    let mut chance = Chance(seed);
    let a = Node::start(at_a.path());
    a.lead(1);
    let (mut seq, mut number, mut checked) = (0u64, 0, 0);
    for round in 0..KILLS {
        let standby = connect(&a, at_b.path());
        let gate = a.handle.replicated();
        // Every third is killed while it is given its copy, or puts it in place.
        if round % 3 == 2 {
            std::thread::sleep(Duration::from_micros(chance.below(150_000)));
        } else {
            until("it is in sync", || *gate.borrow() != Replicated::NO_MATTER);
        }
        for _ in 0..chance.below(60) {
            let first = u32::try_from(seq).unwrap();
            let count = 1 + u32::try_from(chance.below(20)).unwrap();
            a.submit((first..first + count).map(raise).collect(), round);
            seq += u64::from(count);
            let more = 1 + chance.below(30);
            a.spool(number + 1..=number + more);
            number += more;
            std::thread::sleep(Duration::from_micros(chance.below(2_000)));
        }
        let acknowledged = *gate.borrow();
        standby.kill();
        a.to.send(ToReplica::Down).unwrap();
        if acknowledged == Replicated::NO_MATTER {
            continue;
        }
        checked += 1;
        let context = format!("seed {seed} round {round}: {acknowledged:?}");
        let ours = journal(at_a.path());
        let rows = journal(at_b.path());
        assert!(rows.last().map_or(0, |row| row.seq) >= acknowledged.seq, "{context}");
        assert_eq!(rows, ours[..rows.len()], "{context}");
        let spooled = |dir: &Path| -> Vec<_> {
            let stored = Stored::open(&dir.join(DIRECTORY), 0, u64::MAX, &clock()).unwrap();
            let stored = stored.map(Result::unwrap);
            stored.map(|entry| (entry.number, entry.taken.request_id)).collect()
        };
        let (ours, entries) = (spooled(at_a.path()), spooled(at_b.path()));
        assert!(entries.last().map_or(0, |(last, _)| *last) >= acknowledged.number, "{context}");
        assert_eq!(entries, ours[..entries.len()], "{context}");
    }
    assert!(checked > KILLS / 3, "{checked} were in sync only");
    let b = Node::start(at_b.path());
    b.follow(1);
    let led = wait(b.handle.lead(None)).unwrap();
    assert_eq!(led.restored.problems, Vec::<String>::new());
}

/// A child, and what writes to it.
struct Standby {
    child: Child,
    stop: Arc<AtomicBool>,
    writer: JoinHandle<()>,
}

impl Standby {
    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.stop.store(true, Ordering::SeqCst);
        // What it might take then would be the next one's.
        self.writer.join().unwrap();
    }
}

/// Starts a child as the standby, and the channel to it.
fn connect(a: &Node, dir: &Path) -> Standby {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .arg("--exact")
        .arg("replica::crash::pair_13_kill_minus_nine_of_the_standby_loses_nothing_that_was_acknowledged")
        .args(["--nocapture", "--test-threads=1"])
        .env(CHILD, dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let frames = Arc::clone(&a.frames);
    let to = a.to.clone();
    // Before anything of it is read: a frame comes after the word that the channel is up.
    say_up(&to);
    std::thread::spawn(move || {
        // The test program says first that it runs a test.
        let mut octet = [0];
        while stdout.read_exact(&mut octet).is_ok() && octet[0] != 0 {}
        while let Some(frame) = read_frame(&mut stdout) {
            let _ = to.send(ToReplica::Frame(frame));
        }
    });
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let writer = std::thread::spawn(move || {
        while !stopped.load(Ordering::SeqCst) {
            let frame = frames.lock().unwrap().try_recv();
            match frame {
                Ok(frame) => {
                    if write_frame(&mut stdin, &frame).is_err() {
                        return;
                    }
                }
                Err(_) => std::thread::sleep(Duration::from_micros(200)),
            }
        }
    });
    Standby { child, stop, writer }
}

fn be_standby(dir: &Path) -> ! {
    let node = Node::start(dir);
    node.follow(1);
    say_up(&node.to);
    std::io::stdout().lock().write_all(&[0]).unwrap();
    let frames: Arc<Mutex<_>> = Arc::clone(&node.frames);
    std::thread::spawn(move || {
        let mut out = std::io::stdout();
        while let Some(frame) = frames.lock().unwrap().blocking_recv() {
            if write_frame(&mut out, &frame).is_err() {
                return;
            }
        }
    });
    let mut input = std::io::stdin().lock();
    while let Some(frame) = read_frame(&mut input) {
        let _ = node.to.send(ToReplica::Frame(frame));
    }
    std::process::exit(0)
}

fn say_up(to: &tokio::sync::mpsc::UnboundedSender<ToReplica>) {
    let mate_version = Version { major: 1, minor: 0, patch: 0 };
    let _ = to.send(ToReplica::Up { mate_name: "mate".to_owned(), mate_version });
}

fn read_frame(from: &mut impl Read) -> Option<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length).ok()?;
    let mut frame = vec![0; u32::from_le_bytes(length) as usize];
    from.read_exact(&mut frame).ok()?;
    Some(frame)
}

fn write_frame(to: &mut impl Write, frame: &[u8]) -> std::io::Result<()> {
    let length = u32::try_from(frame.len()).unwrap_or(u32::MAX);
    to.write_all(&length.to_le_bytes())?;
    to.write_all(frame)?;
    to.flush()
}
