//! kill -9 at fifty random moments: what was acknowledged is there, and what is there is coherent.
//!
//! The child is this test program again, told by an environment variable to write alarms as fast
//! as the store takes them and to print what was acknowledged.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use evenkeel_core::alarm::{AlarmId, ClearReason};
use rusqlite::Connection;

use super::{
    testing::{Chance, alarm, event, key, mark, moment, now, record},
    *,
};

const CHILD: &str = "EVENKEEL_TEST_STORE_WRITER";
const OBJECTS: u32 = 40;
const KILLS: u64 = 50;

#[test]
fn kill_minus_nine_loses_nothing_that_was_acknowledged() {
    if let Some(dir) = std::env::var_os(CHILD) {
        write_until_killed(Path::new(&dir));
    }
    let dir = tempfile::tempdir().unwrap();
    let seed = u64::from(std::process::id());
    let mut chance = Chance(seed);
    let mut last_seq = 0;
    for round in 0..KILLS {
        let acknowledged = write_and_kill(dir.path(), round, &mut chance).max(last_seq);
        last_seq = check(dir.path(), acknowledged, &format!("seed {seed} round {round}"));
    }
    assert!(last_seq > 1_000, "the children wrote {last_seq} rows only");
}

/// Runs a child for a while and kills it. Gives back the last row that it saw acknowledged.
fn write_and_kill(dir: &Path, round: u64, chance: &mut Chance) -> u64 {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "store::crash::kill_minus_nine_loses_nothing_that_was_acknowledged"])
        .args(["--nocapture", "--test-threads=1"])
        .env(CHILD, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    let acknowledged = |line: &str| {
        // The last line may be torn; a whole one ends with a full stop.
        let seq = line.trim().strip_prefix("acknowledged ")?.strip_suffix('.')?;
        seq.parse::<u64>().ok()
    };
    let mut last = 0;
    // Every fifth is killed while it starts, and so at times while it opens the store.
    let wait = if round % 5 == 4 {
        chance.below(20_000)
    } else {
        while last == 0 {
            line.clear();
            assert_ne!(output.read_line(&mut line).unwrap(), 0, "the child ended by itself");
            last = acknowledged(&line).unwrap_or(0);
        }
        chance.below(60_000)
    };
    std::thread::sleep(Duration::from_micros(wait));
    child.kill().unwrap();
    child.wait().unwrap();
    // What it had printed before it died is in the pipe.
    for line in output.split(b'\n').map(Result::unwrap) {
        last = last.max(acknowledged(&String::from_utf8_lossy(&line)).unwrap_or(0));
    }
    last
}

fn write_until_killed(dir: &Path) -> ! {
    let (store, restored) = Store::open(dir, &now(1), Retention::default(), None).unwrap();
    let print = |seq: u64| {
        let mut out = std::io::stdout().lock();
        out.write_all(format!("acknowledged {seq}.\n").as_bytes()).unwrap();
        out.flush().unwrap();
    };
    let mut active: BTreeMap<u32, u64> = BTreeMap::new();
    let mut marks: BTreeMap<u32, u64> = BTreeMap::new();
    let number = |text: &str| text.split(' ').nth(1).unwrap().parse::<u32>().unwrap();
    for alarm in &restored.state.alarms {
        active.insert(number(&alarm.text), alarm.id.0);
    }
    for object in 0..OBJECTS {
        let found = restored.state.records.iter().find(|record| record.key == key(object));
        marks.insert(object, found.map_or(0, mark));
    }
    let mut committed = store.committed();
    let mut chance = Chance(restored.last_seq + u64::from(std::process::id()));
    let mut submitted = restored.last_seq;
    loop {
        let mut commit = Commit { as_of: moment(2), ..Commit::default() };
        let first = u32::try_from(chance.below(u64::from(OBJECTS))).unwrap();
        for object in (first..OBJECTS).take(1 + usize::try_from(chance.below(4)).unwrap()) {
            let (id, cleared) = match active.remove(&object) {
                Some(id) => (id, Some(ClearReason::Ended)),
                None => (chance.below(u64::MAX), None),
            };
            if cleared.is_none() {
                active.insert(object, id);
            }
            commit.events.push(event(alarm(object, id), cleared));
            let mark = marks.get_mut(&object).unwrap();
            *mark += 1;
            commit.records.push(record(object, *mark));
        }
        submitted += commit.events.len() as u64;
        store.submit(commit);
        if chance.below(20) == 0 {
            let others = (1_000..3_000).map(|object| record(object, submitted)).collect();
            store.checkpoint_state(others, Vec::new(), moment(2), Duration::from_millis(500));
        }
        if chance.below(3) == 0 {
            std::thread::sleep(Duration::from_micros(chance.below(1_000)));
        }
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if committed.has_changed().unwrap() {
                print(*committed.borrow_and_update());
            }
            if submitted - *committed.borrow() < 200 {
                break;
            }
            assert!(Instant::now() < deadline, "{:?}", store.stats());
            std::thread::sleep(Duration::from_micros(200));
        }
    }
}

/// Looks at what a killed child left. Gives back the last row.
fn check(dir: &Path, acknowledged: u64, context: &str) -> u64 {
    let (store, restored) = Store::open(dir, &now(3), Retention::default(), None).unwrap();
    assert_eq!(restored.problems, Vec::<String>::new(), "{context}");
    let connection = Connection::open(dir.join(files::DATABASE)).unwrap();
    let found: String = connection.query_row("PRAGMA quick_check", [], |row| row.get(0)).unwrap();
    assert_eq!(found, "ok", "{context}");

    let rows = Reader::open(dir).unwrap().journal_after(0, usize::MAX).unwrap();
    let last = rows.last().map_or(0, |row| row.seq);
    assert!(last >= acknowledged, "{context}: {acknowledged} was acknowledged, {last} is there");
    assert_eq!((last, last), (rows.len() as u64, restored.last_seq), "{context}: a gap");

    let mut active: BTreeMap<_, AlarmId> = BTreeMap::new();
    let mut events: BTreeMap<String, u64> = BTreeMap::new();
    for row in &rows {
        let object = row.alarm.object.to_string();
        *events.entry(object.clone()).or_default() += 1;
        match row.cleared {
            None => assert_eq!(active.insert(object, row.alarm.id), None, "{context}: {row:?}"),
            Some(_) => assert_eq!(active.remove(&object), Some(row.alarm.id), "{context}: {row:?}"),
        }
    }
    let kept = restored.state.alarms.iter().map(|alarm| (alarm.object.to_string(), alarm.id));
    assert_eq!(kept.collect::<BTreeMap<_, _>>(), active, "{context}");

    // Each event was submitted together with a record that counts it.
    for object in 0..OBJECTS {
        let name = alarm(object, 0).object.to_string();
        let found = restored.state.records.iter().find(|record| record.key == key(object));
        let counted = found.map_or(0, mark);
        assert_eq!(counted, events.get(&name).copied().unwrap_or(0), "{context}: {name}");
    }
    drop(store);
    last
}
