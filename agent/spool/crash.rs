//! kill -9 at twenty random moments: every number that was said to be safe is there, and every entry
//! that is there is right.
//!
//! The child is this test program again, told by an environment variable to write entries as fast as
//! the spool takes them and to print what is safe.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use super::{
    testing::{open, restored, work},
    *,
};

const CHILD: &str = "EVENKEEL_TEST_SPOOL_WRITER";
const KILLS: u64 = 20;

#[test]
fn trap_5_kill_minus_nine_loses_nothing_that_was_said_to_be_safe() {
    if let Some(dir) = std::env::var_os(CHILD) {
        write_until_killed(Path::new(&dir));
    }
    let dir = tempfile::tempdir().unwrap();
    let mut chance = u64::from(std::process::id());
    let (mut safe, mut after) = (0, 0);
    for round in 0..KILLS {
        chance =
            chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let told = write_and_kill(dir.path(), round, chance >> 33).max(safe);
        let (spool, recovered) = open(dir.path());
        assert!(recovered.last >= told, "{told} was safe, {} is there", recovered.last);
        assert_eq!(recovered.problems, Vec::<String>::new());
        let mut expected = after;
        for taken in recovered.entries_after(after) {
            expected += 1;
            assert_eq!(taken.unwrap(), restored(expected), "round {round}");
        }
        assert_eq!(expected, recovered.last, "round {round}");
        (safe, after) = (recovered.last, recovered.last);
        drop(spool);
    }
    assert!(safe > 1_000, "the children wrote {safe} entries only");
}

/// Runs a child for a while and kills it. Gives back the last number that it saw safe.
fn write_and_kill(dir: &Path, round: u64, chance: u64) -> u64 {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .arg("--exact")
        .arg("spool::crash::trap_5_kill_minus_nine_loses_nothing_that_was_said_to_be_safe")
        .args(["--nocapture", "--test-threads=1"])
        .env(CHILD, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    // The last line may be torn; a whole one ends with a full stop.
    let safe = |line: &str| -> Option<u64> {
        line.trim().strip_prefix("safe ")?.strip_suffix('.')?.parse().ok()
    };
    let (mut last, mut line) = (0, String::new());
    // Every fifth is killed while it starts.
    let wait = if round % 5 == 4 {
        chance % 20_000
    } else {
        while last == 0 {
            line.clear();
            assert_ne!(output.read_line(&mut line).unwrap(), 0, "the child ended by itself");
            last = safe(&line).unwrap_or(0);
        }
        chance % 60_000
    };
    std::thread::sleep(Duration::from_micros(wait));
    child.kill().unwrap();
    child.wait().unwrap();
    for line in output.split(b'\n').map(Result::unwrap) {
        last = last.max(safe(&String::from_utf8_lossy(&line)).unwrap_or(0));
    }
    last
}

fn write_until_killed(dir: &Path) -> ! {
    // Small, so that segments begin and end meanwhile, and none is deleted.
    let sockets = AnswerSockets::default();
    let (spool, recovered) = Spool::open(dir, 1 << 20, sockets, &testing::now()).unwrap();
    let mut safe = spool.safe();
    let (mut last, mut told) = (recovered.last, recovered.last);
    loop {
        let more = 1 + last % 97;
        spool.submit(work(last + 1..=last + more));
        last += more;
        loop {
            let number = *safe.borrow_and_update();
            if number > told {
                told = number;
                let mut out = std::io::stdout().lock();
                out.write_all(format!("safe {told}.\n").as_bytes()).unwrap();
                out.flush().unwrap();
            }
            if last - told < 2_000 {
                break;
            }
            std::thread::sleep(Duration::from_micros(100));
        }
    }
}
