//! The store as its callers and an operator see it: opening, order, a disk that fails, retention.
//! The ages are tested beside `restore.rs`, kill -9 in `crash.rs`.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use evenkeel_core::{
    alarm::{ClearReason, Kind, Object},
    state::RecordKey,
    supervision::Part,
    time::WallTime,
};
use rusqlite::Connection;
use tokio::sync::watch;

use super::{
    testing::{Chance, clear, key, mark, moment, now, raise, record},
    writer::{Message, Told, Writer},
    *,
};
use crate::supervisor::pulse;

const LAG: Duration = Duration::from_millis(500);

fn open(dir: &Path, secs: u64) -> (Store, Restored) {
    Store::open(dir, &now(secs), Retention::default(), None).unwrap()
}

fn commit(secs: u64, events: Vec<AlarmEvent>, records: Vec<Record>) -> Commit {
    Commit { events, records, as_of: moment(secs), ..Commit::default() }
}

/// A writer without its thread, so that a test decides when it writes.
fn writer(dir: &Path, retention: Retention) -> (Writer, watch::Receiver<u64>, Arc<Mutex<Stats>>) {
    let (connection, restored) = restore::begin(dir, &now(100), None).unwrap();
    let (sender, committed) = watch::channel(restored.last_seq);
    let stats = Arc::new(Mutex::new(Stats::default()));
    let path = dir.join(files::DATABASE);
    let stats_of = Arc::clone(&stats);
    let told = Told { committed: sender, heeded: watch::channel(0).0 };
    let begun = restore::Begun { engine: restored.engine, starts: restored.starts };
    let writer = Writer::new(connection, path, retention, told, stats_of, begun, Instant::now());
    (writer, committed, stats)
}

fn marks(dir: &Path) -> BTreeMap<RecordKey, u64> {
    let connection = Connection::open(dir.join(files::DATABASE)).unwrap();
    let mut rows = connection
        .prepare("SELECT system, if_index, as_of_mono_ns, age_ns, memory FROM objects")
        .unwrap();
    let rows = rows.query_map([], schema::read_record).unwrap().map(Result::unwrap);
    rows.map(|row| {
        (row.key, mark(&Record { key: row.key, age: Duration::ZERO, memory: row.memory }))
    })
    .collect()
}

#[test]
fn what_was_written_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let (store, first) = open(dir.path(), 100);
    assert!(first.first_start && first.clean && first.problems.is_empty());
    store.submit(commit(101, vec![raise(1), raise(2)], vec![record(1, 11)]));
    store.checkpoint_state(vec![record(3, 13), record(4, 14)], vec![key(4)], moment(102), LAG);
    store.set_cursor("nms", 1);
    let committed = store.committed();
    let mut last = commit(103, vec![clear(1)], vec![]);
    last.removed = vec![key(4)];
    store.close(last).unwrap();
    drop(store);
    assert_eq!(*committed.borrow(), 3);

    let reader = Reader::open(dir.path()).unwrap();
    let rows = reader.journal_after(1, 10).unwrap();
    assert_eq!(rows.iter().map(|row| row.seq).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(rows[0].cleared, None);
    assert_eq!(rows[0].alarm, raise(2).alarm);
    assert_eq!(rows[1].cleared, Some(ClearReason::Ended));
    assert_eq!(reader.recent(1).unwrap()[0].seq, 3);
    assert_eq!(reader.active_alarms().unwrap(), [raise(2).alarm]);
    assert_eq!((reader.cursor("nms").unwrap(), reader.cursor("other").unwrap()), (Some(1), None));

    let (_store, second) = open(dir.path(), 110);
    assert!(!second.first_start && second.clean && second.problems.is_empty());
    assert_eq!(second.last_seq, 3);
    assert_eq!(second.deaf, Duration::from_secs(7));
    assert_eq!(second.state.alarms, [raise(2).alarm]);
    let ages = second.state.records.iter().map(|r| (r.key, mark(r), r.age.as_secs()));
    assert_eq!(ages.collect::<Vec<_>>(), [(key(1), 11, 9), (key(3), 13, 8)]);
}

// PEER-15.
#[test]
fn an_event_is_in_the_journal_and_never_among_the_active_alarms() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path(), 100);
    let restarted = |id| {
        let mut restarted = raise(id);
        restarted.alarm.kind = Kind::PeerRestarted;
        restarted.alarm.object = Object::Peer([192, 0, 2, 7].into());
        restarted.alarm.peer_group = Some("core".to_owned());
        restarted
    };
    let events = vec![restarted(1), raise(2), restarted(3)];
    store.close(commit(101, events.clone(), vec![])).unwrap();
    drop(store);

    let reader = Reader::open(dir.path()).unwrap();
    let rows = reader.journal_after(0, 10).unwrap();
    let written: Vec<_> = rows.iter().map(|row| (row.alarm.clone(), row.cleared)).collect();
    let submitted: Vec<_> = events.into_iter().map(|event| (event.alarm, None)).collect();
    assert_eq!(written, submitted);
    assert_eq!(reader.active_alarms().unwrap(), [raise(2).alarm]);
    let (_store, second) = open(dir.path(), 110);
    assert_eq!(second.state.alarms, [raise(2).alarm]);
}

#[test]
fn a_second_process_on_the_same_directory_is_told_who_holds_it() {
    let dir = tempfile::tempdir().unwrap();
    let (_store, _) = open(dir.path(), 1);
    let error = Store::open(dir.path(), &now(1), Retention::default(), None).unwrap_err();
    let pid = std::process::id();
    assert!(error.to_string().contains(&format!("in use by process {pid}:")), "{error}");
}

#[test]
fn a_database_of_a_later_version_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path(), 1));
    let path = dir.path().join(files::DATABASE);
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 9).unwrap();
    let before = fs::read(&path).unwrap();
    let error = Store::open(dir.path(), &now(1), Retention::default(), None).unwrap_err();
    assert!(error.to_string().contains("has version 9"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn the_version_is_in_the_file_itself_as_soon_as_it_is_open() {
    let dir = tempfile::tempdir().unwrap();
    let (_store, _) = open(dir.path(), 1);
    let file = fs::read(dir.path().join(files::DATABASE)).unwrap();
    // www.sqlite.org/fileformat.html, section 1.3: "user version", big-endian.
    let version = u32::from_be_bytes(file[60..64].try_into().unwrap());
    assert_eq!(i64::from(version), schema::VERSION);
}

#[test]
fn others_can_not_read_it() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("a/b");
    let (_store, _) = open(&dir, 1);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir) & !0o750, 0);
    for name in ["evenkeel.db", "evenkeel.db-wal", "evenkeel.db-shm", "lock"] {
        assert_eq!(mode(&dir.join(name)) & !0o640, 0, "{name}");
    }
}

#[test]
fn a_damaged_database_is_moved_aside_and_what_can_be_read_is_saved() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path(), 1);
    store.submit(commit(2, vec![raise(1), raise(2)], vec![record(1, 7)]));
    store.set_cursor("nms", 400);
    // A second transaction, whose pages are at the end of the file.
    store.submit(commit(3, (0..500).flat_map(|n| [raise(9 + n), clear(9 + n)]).collect(), vec![]));
    drop(store);
    let path = dir.path().join(files::DATABASE);
    let mut bytes = fs::read(&path).unwrap();
    // The header stays good, so it opens, and only the check finds it.
    let most = bytes.len() / 8 * 7;
    bytes[most..].fill(0x5a);
    fs::write(&path, &bytes).unwrap();

    let (store, restored) = open(dir.path(), 10);
    let aside = restored.moved_aside.unwrap();
    let problem = &restored.problems[0];
    assert!(problem.contains(&aside.display().to_string()), "{problem}");
    assert!(problem.contains("2 alarms, 1 targets, 1 objects"), "{problem}");
    assert_eq!(fs::read(&aside).unwrap(), bytes);
    assert_eq!(restored.state.alarms, [raise(1).alarm, raise(2).alarm]);
    assert_eq!(restored.state.records.len(), 1);
    assert!(!restored.first_start && !restored.clean);
    store.submit(commit(11, vec![clear(1)], vec![]));
    store.close(commit(12, vec![], vec![])).unwrap();
    drop(store);
    let reader = Reader::open(dir.path()).unwrap();
    assert_eq!(reader.last_seq().unwrap(), restored.last_seq + 1);
    let cursor = reader.cursor("nms").unwrap().unwrap();
    assert!(cursor <= restored.last_seq, "what comes now would not be sent");
}

#[test]
fn a_file_that_is_no_database_is_moved_aside_each_time_under_another_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(files::DATABASE);
    let mut names = Vec::new();
    for _ in 0..2 {
        fs::write(&path, "not a database at all, but long enough to be looked at as one").unwrap();
        let (_store, restored) = open(dir.path(), 10);
        assert_eq!((restored.state, restored.last_seq), Default::default());
        names.push(restored.moved_aside.unwrap());
    }
    assert!(names[0] != names[1] && names.iter().all(|name| name.exists()), "{names:?}");
}

/// Whatever is submitted with and without events, in whatever steps it is written, and however
/// often writing fails between: the disk ends up with the last change of each object.
#[test]
fn no_record_is_ever_overwritten_by_an_older_one() {
    for seed in 0..4 {
        let dir = tempfile::tempdir().unwrap();
        let (mut writer, _, _) = writer(dir.path(), Retention::default());
        let mut chance = Chance(seed);
        let mut model = BTreeMap::new();
        for step in 1..=80 {
            let mut change = commit(100 + step, vec![], vec![]);
            if chance.below(3) == 0 {
                change.events.push(raise(u32::try_from(step).unwrap()));
            }
            // Now and then more objects than one transaction takes.
            let objects = if chance.below(10) == 0 { 1_500 } else { chance.below(20) };
            for _ in 0..objects {
                let object = u32::try_from(chance.below(3_000)).unwrap();
                if chance.below(4) == 0 {
                    change.records.retain(|record| record.key != key(object));
                    change.removed.push(key(object));
                    model.remove(&key(object));
                } else {
                    change.records.push(record(object, step));
                    model.insert(key(object), step);
                }
            }
            writer.take(Message::Commit(change));
            match chance.below(6) {
                0 => writer.turn(Instant::now()),
                1 => {
                    let other = Connection::open(dir.path().join(files::DATABASE)).unwrap();
                    other.execute_batch("BEGIN IMMEDIATE").unwrap();
                    writer.set_impatient();
                    writer.turn(Instant::now());
                }
                _ => {}
            }
        }
        for _ in 0..4 {
            writer.turn(Instant::now()); // 3,000 objects in steps of 1,000, and one after a failure
        }
        assert_eq!(marks(dir.path()), model, "seed {seed}");
    }
}

#[test]
fn a_full_disk_loses_nothing_and_acknowledges_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, committed, stats) = writer(dir.path(), Retention::default());
    let start = Instant::now();
    let stats = || stats.lock().unwrap().clone();
    writer.limit_pages(Some(20));
    let (mut event, mut failed_at) = (0, None);
    for _ in 0..60 {
        let events = (0..10).map(|n| raise(event + n)).collect();
        writer.take(Message::Commit(commit(1, events, vec![record(event, 1)])));
        event += 10;
        writer.turn(start);
        if stats().failing.is_some() {
            failed_at.get_or_insert(*committed.borrow());
        }
    }
    let failed_at = failed_at.expect("the limit was reached");
    assert!(failed_at < 600);
    assert_eq!(*committed.borrow(), failed_at, "nothing may be acknowledged that is not on disk");
    assert_eq!(Reader::open(dir.path()).unwrap().last_seq().unwrap(), failed_at);
    assert!(stats().failures > 1);
    assert!(stats().failing.unwrap().contains("full"));
    assert_eq!(writer.retry_in(start), Some(Duration::from_secs(10)), "it backs off to 10 s");

    writer.limit_pages(None);
    writer.turn(start);
    assert_eq!(*committed.borrow(), 600);
    assert_eq!((stats().failing, stats().events), (None, 600));
    let rows = Reader::open(dir.path()).unwrap().journal_after(0, 1_000).unwrap();
    let ids: Vec<_> = rows.iter().map(|row| (row.seq, row.alarm.id.0)).collect();
    assert_eq!(ids, (0..600).map(|n| (n + 1, n)).collect::<Vec<_>>());
    assert_eq!(marks(dir.path()).len(), 60);
}

#[test]
fn a_stop_on_a_disk_that_fails_says_what_was_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path(), 1);
    let other = Connection::open(dir.path().join(files::DATABASE)).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = store.close(commit(2, vec![raise(1)], vec![record(1, 1)])).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("1 alarm events and 1 records were not written"), "{text}");
    assert!(text.contains("locked"), "{text}");
}

#[test]
fn a_connection_that_can_no_longer_write_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, committed, stats) = writer(dir.path(), Retention::default());
    writer.connection().pragma_update(None, "query_only", true).unwrap();
    writer.take(Message::Commit(commit(1, vec![raise(1)], vec![])));
    writer.turn(Instant::now());
    assert!(stats.lock().unwrap().failing.as_ref().unwrap().contains("readonly"));
    writer.turn(Instant::now());
    assert_eq!(*committed.borrow(), 1);
}

#[test]
fn what_is_in_no_hurry_waits_for_its_time() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, ..) = writer(dir.path(), Retention::default());
    let start = Instant::now();
    let wait = |writer: &Writer| writer.due(start).unwrap().saturating_duration_since(start);
    writer.take(Message::Commit(commit(1, vec![], vec![record(1, 1)])));
    assert_eq!(wait(&writer), Duration::ZERO, "records do not wait");
    writer.turn(start);
    assert!(wait(&writer).as_secs() >= 59, "pruning");
    writer.take(Message::Commit(commit(2, vec![], vec![])));
    assert_eq!(wait(&writer).as_secs(), 5, "that the caller listens");
    writer.take(Message::Cursor("nms".to_owned(), 1));
    assert_eq!(wait(&writer).as_secs(), 1, "cursors");
}

#[test]
fn cursors_are_kept_for_configured_targets_only() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path(), 1);
    store.set_cursor("old", 3);
    store.set_cursor("new", 4);
    store.close(Commit::default()).unwrap();
    drop(store);
    let (store, _) = open(dir.path(), 1);
    store.keep_targets(vec!["new".to_owned()]);
    store.close(Commit::default()).unwrap();
    drop(store);
    let reader = Reader::open(dir.path()).unwrap();
    assert_eq!((reader.cursor("old").unwrap(), reader.cursor("new").unwrap()), (None, Some(4)));
}

#[test]
fn the_journal_is_pruned_up_to_what_was_sent() {
    let hour = Duration::from_secs(3600);
    // rows 1 to 100 are old, 101 to 150 young; (rows, most rows, cursor, first row that stays)
    let cases = [
        (60, 1_000, Some(150), 91), // the newest 60 stay, though some of them are old
        (10, 1_000, Some(150), 101), // young ones stay
        (10, 20, Some(150), 131),   // but never more than 20
        (10, 1_000, Some(5), 6),    // nothing that was not sent,
        (10, 20, Some(5), 131),     // as long as there is room (TRAP-11)
        (10, 20, None, 131),        // no notification target waits
        (200, 1_000, Some(150), 1),
    ];
    for (rows, most_rows, cursor, first) in cases {
        let dir = tempfile::tempdir().unwrap();
        let (mut writer, ..) = writer(dir.path(), Retention { keep: hour, rows, most_rows });
        let mut events: Vec<_> = (1..=150).map(raise).collect();
        for event in &mut events[100..] {
            event.wall = WallTime(event.wall.0 + 7_200_000);
        }
        let as_of = moment(7_200);
        writer.take(Message::Commit(Commit { events, as_of, ..Commit::default() }));
        if let Some(cursor) = cursor {
            writer.take(Message::Cursor("nms".to_owned(), cursor));
        }
        writer.turn(Instant::now());
        writer.turn(Instant::now() + hour * 2);
        let reader = Reader::open(dir.path()).unwrap();
        let left = reader.journal_after(0, 1_000).unwrap();
        assert_eq!(left[0].seq, first, "{rows} {most_rows} {cursor:?}");
        assert_eq!(left.last().unwrap().seq, 150);
        assert_eq!(reader.last_seq().unwrap(), 150);
        assert_eq!(reader.active_alarms().unwrap().len(), 150, "active alarms stay");
    }
}

#[test]
fn an_operator_can_read_it() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path(), 1);
    store.close(commit(2, vec![raise(1), raise(2), clear(1)], vec![])).unwrap();
    drop(store);
    let connection = Connection::open(dir.path().join(files::DATABASE)).unwrap();
    let line = |sql: &str| -> String { connection.query_row(sql, [], |row| row.get(0)).unwrap() };
    assert_eq!(
        line("SELECT raised_at || ' ' || severity || ' ' || kind || ' ' || object FROM active"),
        "2023-11-14 22:13:20 major interface_unstable 10.0.0.2 ifIndex 1"
    );
    assert_eq!(
        line("SELECT at || ' ' || event || ' ' || reason FROM recent LIMIT 1"),
        "2023-11-14T22:13:20.000Z clear ended"
    );
}

impl Writer {
    /// Lets the database grow no further, as on a full disk, or lets it grow again.
    fn limit_pages(&mut self, pages: Option<u32>) {
        let pages = pages.unwrap_or(1_000_000_000);
        self.connection().pragma_update(None, "max_page_count", pages).unwrap();
    }

    /// Fails at once where another connection holds the lock.
    fn set_impatient(&mut self) {
        self.connection().busy_timeout(Duration::ZERO).unwrap();
    }
}

#[test]
fn the_store_is_behind_until_what_was_submitted_is_on_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let (store, restored) = open(dir.path(), 1);
    let mut committed = store.committed();
    assert!(!store.is_behind());
    let many = u32::try_from(super::EVENTS_BEHIND).unwrap();
    store.submit(commit(2, (0..many).map(raise).collect(), vec![]));
    assert!(store.is_behind());
    let last = restored.last_seq + u64::from(many);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(committed.wait_for(|seq| *seq == last)).unwrap();
    // The writer counts what it has written before it takes anything else.
    store.close(commit(3, vec![], vec![])).unwrap();
    assert!(!store.is_behind());
}

#[test]
fn pair_9_a_standby_shows_signs_of_life_while_a_copy_of_many_objects_is_put_in_place() {
    const OBJECTS: u32 = 2_000;
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path(), 100);
    store.follow().blocking_recv().unwrap();
    let (saw, seen) = std::sync::mpsc::channel();
    let items = (0..OBJECTS).map(move |object| {
        saw.send(pulse::sign(Part::Store).expect("the store's thread")).unwrap();
        Ok(Item::Record { record: Box::new(record(object, 1)), as_of: moment(100) })
    });
    let has = Has { objects: true, ..Has::default() };
    let copy = Copy { first_seq: None, last_seq: 0, has, items: Box::new(items) };
    store.swap(now(101), copy).blocking_recv().unwrap().unwrap();
    assert_eq!(marks(dir.path()).len(), OBJECTS as usize);
    let signs: Vec<_> = seen.iter().collect();
    assert!(signs.iter().all(|sign| sign.at_disk), "a stalled disk is no reason to restart");
    let given = signs[signs.len() - 1].count.wrapping_sub(signs[0].count);
    assert!(given >= u64::from(OBJECTS) - 1, "{given} signs of life");
}
