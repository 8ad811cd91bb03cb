//! The SNMP engines in the store (TRAP-4), the restart counter (PEER-15), and the ways from versions
//! 1 to 3 of its tables.

use std::path::Path;

use evenkeel_core::usm::{EngineId, EngineRecord};
use rusqlite::Connection;

use super::{
    engine::MOST_BOOTS,
    testing::{clear, key, moment, now, raise, record},
    *,
};

fn id(text: &str) -> EngineId {
    text.parse().unwrap()
}

fn start(dir: &Path, secs: u64, engine: Option<&str>) -> (Store, Restored) {
    let engine = engine.map(id);
    Store::open(dir, &now(secs), Retention::default(), engine.as_ref()).unwrap()
}

/// The identity and boots of a run that ends at once.
fn boot(dir: &Path, engine: Option<&str>) -> (EngineId, u32) {
    start(dir, 1, engine).1.engine
}

#[test]
fn trap_4_boots_grows_with_each_run_and_the_identity_stays() {
    let dir = tempfile::tempdir().unwrap();
    let (first, boots) = boot(dir.path(), None);
    assert_eq!((first.octets().len(), boots), (17, 1));
    assert!(first.to_string().starts_with("0x80001f8805"), "{first}");
    assert_eq!(boot(dir.path(), None), (first.clone(), 2));
    // Another identity counts for itself, and the old one goes on where it was.
    let (a, b) = ("0x8000000001020304", "0x8000000001020305");
    assert_eq!(boot(dir.path(), Some(a)), (id(a), 1));
    assert_eq!(boot(dir.path(), Some(a)), (id(a), 2));
    assert_eq!(boot(dir.path(), Some(b)), (id(b), 1));
    assert_eq!(boot(dir.path(), Some(a)), (id(a), 3));
    assert_eq!(boot(dir.path(), None), (first, 3));
    let other = tempfile::tempdir().unwrap();
    assert_ne!(boot(other.path(), None).0, boot(dir.path(), None).0);
}

#[test]
fn trap_4_boots_is_on_the_disk_when_the_store_is_open() {
    let dir = tempfile::tempdir().unwrap();
    let (_store, restored) = start(dir.path(), 1, None);
    let connection = Connection::open(dir.path().join(files::DATABASE)).unwrap();
    let boots: u32 =
        connection.query_row("SELECT boots FROM engine", [], |row| row.get(0)).unwrap();
    assert_eq!(boots, restored.engine.1);
}

#[test]
fn trap_4_boots_that_can_not_be_written_keep_the_store_from_opening() {
    let dir = tempfile::tempdir().unwrap();
    drop(start(dir.path(), 1, None));
    let connection = Connection::open(dir.path().join(files::DATABASE)).unwrap();
    connection
        .execute_batch(
            "CREATE TRIGGER t BEFORE INSERT ON engine BEGIN SELECT raise(ABORT, 'no'); END",
        )
        .unwrap();
    assert!(Store::open(dir.path(), &now(2), Retention::default(), None).is_err());
}

#[test]
fn trap_4_boots_ends_at_its_highest_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    drop(start(dir.path(), 1, None));
    for boots in [i64::from(MOST_BOOTS) - 1, i64::from(MOST_BOOTS), -1, i64::MAX] {
        let connection = Connection::open(dir.path().join(files::DATABASE)).unwrap();
        connection.execute("UPDATE engine SET boots = ?1", [boots]).unwrap();
        drop(connection);
        let (_store, restored) = start(dir.path(), 2, None);
        assert_eq!(restored.engine.1, MOST_BOOTS);
        assert!(restored.problems[0].contains("another engine_id"), "{:?}", restored.problems);
    }
}

fn engine(text: &str, boots: u32, time: u32, age: u64) -> EngineRecord {
    EngineRecord { id: id(text), boots, time, age: Duration::from_secs(age) }
}

#[test]
fn trap_4_other_engines_are_kept_with_their_ages() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = start(dir.path(), 100, None);
    let (a, b) = ("0x8000000001020304", "0x8000000001020305");
    store.checkpoint_engines(vec![engine(a, 1, 10, 0), engine(b, 7, 70, 5)], moment(110));
    store.checkpoint_engines(vec![engine(a, 1, 20, 2)], moment(120));
    store.close(Commit { as_of: moment(130), ..Commit::default() }).unwrap();
    drop(store);
    // Up to 130 s it listened, at 150 s the next run begins.
    let expected = vec![engine(a, 1, 20, 2 + 30), engine(b, 7, 70, 5 + 40)];
    let (store, restored) = start(dir.path(), 150, None);
    assert_eq!(restored.state.engines, expected);
    drop(store);
    let (_store, restored) = start(dir.path(), 160, None);
    assert_eq!(restored.state.engines[0], engine(a, 1, 20, 42));
}

#[test]
fn more_engines_than_one_transaction_takes_are_all_written() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = start(dir.path(), 100, None);
    let many = (0..2_500_u32).map(|n| engine(&format!("80000000ff{n:08x}"), 1, n, 0));
    store.checkpoint_engines(many.collect(), moment(110));
    store.close(Commit { as_of: moment(111), ..Commit::default() }).unwrap();
    drop(store);
    assert_eq!(start(dir.path(), 112, None).1.state.engines.len(), 2_500);
}

#[test]
fn cursors_of_journal_and_spool_do_not_know_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = start(dir.path(), 1, None);
    store.set_spool_cursor("a", 7);
    store.set_cursor("b", 8);
    store.set_cursor("c", 9);
    store.set_spool_cursor("c", 10);
    store.close(Commit::default()).unwrap();
    drop(store);
    let (store, _) = start(dir.path(), 2, None);
    store.set_cursor("c", 11);
    store.close(Commit::default()).unwrap();
    let reader = Reader::open(dir.path()).unwrap();
    let cursors = |name| (reader.cursor(name).unwrap(), reader.spool_cursor(name).unwrap());
    assert_eq!(cursors("a"), (None, Some(7)));
    assert_eq!(cursors("b"), (Some(8), None));
    assert_eq!(cursors("c"), (Some(11), Some(10)));
    assert_eq!(cursors("d"), (None, None));
}

#[test]
fn trap_5_what_the_records_heed_is_told_once_they_are_on_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = start(dir.path(), 1, None);
    let heeded = store.heeded();
    let records = (0..3_000).map(|object| record(object, 1)).collect();
    store.checkpoint_state(records, Vec::new(), moment(2), Duration::ZERO);
    store.set_heeded(41);
    assert_eq!(*heeded.borrow(), 0, "3,000 records take longer than this");
    store.close(Commit { as_of: moment(3), ..Commit::default() }).unwrap();
    assert_eq!(*heeded.borrow(), 41);
}

/// Writes an event as the versions before terms did.
fn put_old(connection: &Connection, event: &AlarmEvent) {
    let AlarmEvent { alarm, cleared, .. } = event;
    let (id, json) = (alarm.id.to_string(), schema::json(alarm).unwrap());
    let (kind, object, severity) =
        (alarm.kind.name(), alarm.object.to_string(), alarm.severity.name());
    let what = if cleared.is_some() { "clear" } else { "raise" };
    connection
        .execute(
            "INSERT INTO journal
             (at_ms, at, event, reason, alarm_id, kind, object, severity, text, alarm)
             VALUES (?1, '', ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            (
                event.wall.0,
                what,
                cleared.map(evenkeel_core::alarm::ClearReason::name),
                &id,
                kind,
                &object,
                severity,
                &alarm.text,
                &json,
            ),
        )
        .unwrap();
    if cleared.is_some() {
        connection.execute("DELETE FROM alarms WHERE alarm_id = ?1", [&id]).unwrap();
    } else {
        connection
            .execute(
                "INSERT INTO alarms VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                (&id, kind, &object, severity, &alarm.text, alarm.raised_at.0, &json),
            )
            .unwrap();
    }
}

/// A database as version 1 has left it, with a row in each table.
fn version_1(dir: &Path) {
    let connection = Connection::open(dir.join(files::DATABASE)).unwrap();
    connection.pragma_update(None, "journal_mode", "WAL").unwrap();
    connection.execute_batch(include_str!("version_1.sql")).unwrap();
    connection.pragma_update(None, "user_version", 1).unwrap();
    for event in [raise(1), raise(2), clear(1)] {
        put_old(&connection, &event);
    }
    connection
        .execute_batch(
            r#"INSERT INTO objects VALUES ('10.0.0.5', 1, 90000000000, 0, 0,
                   '{"phase":{"unstable":{"first":{"secs":30,"nanos":0},"last":{"secs":10,"nanos":0},
                     "traps":12,"deaf":{"secs":0,"nanos":0}}},"recent":[],"sends_link_down":false,
                     "down":false,"if_name":null,"group":null}');
               INSERT INTO targets VALUES ('nms', 2);
               INSERT INTO run VALUES (1, 'this boot', '', 100000000000, 0, 1, 500);"#,
        )
        .unwrap();
}

#[test]
fn a_database_of_version_1_becomes_one_of_this_version_with_all_that_is_in_it() {
    let dir = tempfile::tempdir().unwrap();
    version_1(dir.path());
    let (store, restored) = start(dir.path(), 110, None);
    assert!(restored.clean && !restored.first_start, "{restored:?}");
    assert_eq!(restored.problems, Vec::<String>::new());
    assert_eq!((restored.last_seq, restored.engine.1), (3, 1));
    assert_eq!(restored.state.alarms, [raise(2).alarm]);
    assert_eq!(restored.state.records[0].key, key(5));
    assert_eq!(restored.state.records[0].age.as_secs(), 20);
    let reader = Reader::open(dir.path()).unwrap();
    assert_eq!(
        (reader.cursor("nms").unwrap(), reader.spool_cursor("nms").unwrap()),
        (Some(2), None)
    );
    let connection = Connection::open(dir.path().join(files::DATABASE)).unwrap();
    let unsent: i64 =
        connection.query_row("SELECT unsent FROM unsent", [], |row| row.get(0)).unwrap();
    assert_eq!((unsent, schema::version(&connection).unwrap()), (1, schema::VERSION));
    assert_eq!(restored.starts, 1);
    drop(store);
    the_tables_are_as_those_made_anew(dir.path());
}

fn the_tables_are_as_those_made_anew(dir: &Path) {
    let new = tempfile::tempdir().unwrap();
    drop(start(new.path(), 1, None));
    let tables = |dir: &Path| -> Vec<String> {
        let connection = Connection::open(dir.join(files::DATABASE)).unwrap();
        let mut rows = connection
            .prepare("SELECT coalesce(sql, name) FROM sqlite_schema ORDER BY type, name")
            .unwrap();
        let rows = rows.query_map([], |row| row.get(0)).unwrap();
        rows.map(Result::unwrap).collect()
    };
    assert_eq!(tables(dir), tables(new.path()));
}

/// A database as version 2 has left it: what version 1 has, and what only version 2 knows.
fn version_2(dir: &Path) {
    let connection = Connection::open(dir.join(files::DATABASE)).unwrap();
    connection.pragma_update(None, "journal_mode", "WAL").unwrap();
    connection.execute_batch(include_str!("version_2.sql")).unwrap();
    connection.pragma_update(None, "user_version", 2).unwrap();
    for event in [raise(1), raise(2), clear(1)] {
        put_old(&connection, &event);
    }
    schema::put_record(&connection, &record(5, 12), moment(90)).unwrap();
    connection
        .execute_batch(
            "INSERT INTO targets VALUES ('nms', 2, 40);
             INSERT INTO engine VALUES ('0x80001f88050102030405060708090a0b0c', 6, 1, '');
             INSERT INTO engines VALUES ('0x8000000001020304', 3, 500, 90000000000, 0, 0);
             INSERT INTO run VALUES (1, 'this boot', '', 100000000000, 0, 1, 500, 41);",
        )
        .unwrap();
}

#[test]
fn a_database_of_version_2_becomes_one_of_this_version_with_all_that_is_in_it() {
    let dir = tempfile::tempdir().unwrap();
    version_2(dir.path());
    let (store, restored) = start(dir.path(), 110, None);
    assert!(restored.clean && !restored.first_start, "{restored:?}");
    assert_eq!(restored.problems, Vec::<String>::new());
    assert_eq!((restored.last_seq, restored.heeded, restored.starts), (3, 41, 1));
    assert_eq!(restored.engine, (id("0x80001f88050102030405060708090a0b0c"), 7));
    assert_eq!(restored.state.alarms, [raise(2).alarm]);
    assert_eq!(restored.state.records[0].key, key(5));
    assert_eq!(restored.state.engines[0].boots, 3);
    let reader = Reader::open(dir.path()).unwrap();
    assert_eq!(
        (reader.cursor("nms").unwrap(), reader.spool_cursor("nms").unwrap()),
        (Some(2), Some(40))
    );
    let connection = Connection::open(dir.path().join(files::DATABASE)).unwrap();
    assert_eq!(schema::version(&connection).unwrap(), schema::VERSION);
    drop(store);
    the_tables_are_as_those_made_anew(dir.path());
}

#[test]
fn a_migration_that_fails_leaves_version_2_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    version_2(dir.path());
    let connection = Connection::open(dir.path().join(files::DATABASE)).unwrap();
    connection.execute_batch("ALTER TABLE run ADD COLUMN starts TEXT").unwrap();
    assert!(Store::open(dir.path(), &now(110), Retention::default(), None).is_err());
    assert_eq!(schema::version(&connection).unwrap(), 2);
    connection.execute_batch("ALTER TABLE run DROP COLUMN starts").unwrap();
    assert_eq!(start(dir.path(), 110, None).1.last_seq, 3);
}

/// A database as version 3 has left it.
fn version_3(dir: &Path) {
    let connection = Connection::open(dir.join(files::DATABASE)).unwrap();
    connection.pragma_update(None, "journal_mode", "WAL").unwrap();
    connection.execute_batch(include_str!("version_3.sql")).unwrap();
    connection.pragma_update(None, "user_version", 3).unwrap();
    for event in [raise(1), raise(2), clear(1)] {
        put_old(&connection, &event);
    }
    schema::put_record(&connection, &record(5, 12), moment(90)).unwrap();
    connection
        .execute_batch(
            "INSERT INTO targets VALUES ('nms', 2, 40);
             INSERT INTO engine VALUES ('0x80001f88050102030405060708090a0b0c', 6, 1, '');
             INSERT INTO run VALUES (1, 'this boot', '', 100000000000, 0, 1, 500, 41, 8);",
        )
        .unwrap();
}

#[test]
fn a_database_of_version_3_becomes_one_of_this_version_with_all_that_is_in_it() {
    let dir = tempfile::tempdir().unwrap();
    version_3(dir.path());
    let (store, restored) = start(dir.path(), 110, None);
    assert!(restored.clean && !restored.first_start, "{restored:?}");
    assert_eq!(restored.problems, Vec::<String>::new());
    assert_eq!((restored.last_seq, restored.heeded, restored.starts), (3, 41, 9));
    assert_eq!(restored.state.alarms, [raise(2).alarm]);
    assert_eq!(restored.state.records[0].key, key(5));
    let connection = Connection::open(dir.path().join(files::DATABASE)).unwrap();
    let last: i64 = connection
        .query_row(
            "SELECT last FROM terms WHERE term = (SELECT 'alone.' || origin FROM pair)",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(last, 3);
    assert_eq!(Reader::open(dir.path()).unwrap().journal_after(2, 9).unwrap()[0].term, None);
    drop(store);
    the_tables_are_as_those_made_anew(dir.path());
}

#[test]
fn a_migration_that_fails_leaves_version_3_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    version_3(dir.path());
    let connection = Connection::open(dir.path().join(files::DATABASE)).unwrap();
    connection.execute_batch("CREATE TABLE pair (someone TEXT)").unwrap();
    assert!(Store::open(dir.path(), &now(110), Retention::default(), None).is_err());
    assert_eq!(schema::version(&connection).unwrap(), 3);
    connection.execute_batch("DROP TABLE pair").unwrap();
    assert_eq!(start(dir.path(), 110, None).1.last_seq, 3);
}

#[test]
fn peer_15_the_restart_counter_grows_by_one_with_each_start_and_is_on_the_disk_first() {
    let dir = tempfile::tempdir().unwrap();
    for starts in 1..4 {
        let (store, restored) = start(dir.path(), 1, None);
        assert_eq!(restored.starts, starts);
        let connection = Connection::open(dir.path().join(files::DATABASE)).unwrap();
        let on_disk: u32 =
            connection.query_row("SELECT starts FROM run", [], |row| row.get(0)).unwrap();
        assert_eq!(on_disk, starts);
        // In an orderly way or not.
        if starts == 2 {
            store.close(Commit::default()).unwrap();
        }
    }
    let set = |starts: i64| {
        let connection = Connection::open(dir.path().join(files::DATABASE)).unwrap();
        connection.execute("UPDATE run SET starts = ?1", [starts]).unwrap();
        start(dir.path(), 1, None).1.starts
    };
    assert_eq!(set(4_294_967_294), 4_294_967_295);
    assert_eq!(set(4_294_967_295), 0, "it has 32 bits");
    assert_eq!(set(-7), 1, "what no counter can be is none");
}

#[test]
fn peer_15_a_restart_counter_that_can_not_be_written_keeps_the_store_from_opening() {
    let dir = tempfile::tempdir().unwrap();
    drop(start(dir.path(), 1, None));
    let connection = Connection::open(dir.path().join(files::DATABASE)).unwrap();
    connection
        .execute_batch(
            "CREATE TRIGGER full BEFORE INSERT ON run BEGIN SELECT raise(ABORT, 'full'); END",
        )
        .unwrap();
    assert!(Store::open(dir.path(), &now(2), Retention::default(), None).is_err());
}

#[test]
fn a_migration_that_fails_leaves_version_1_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    version_1(dir.path());
    let connection = Connection::open(dir.path().join(files::DATABASE)).unwrap();
    connection.execute_batch("CREATE TABLE engines (someone TEXT)").unwrap();
    assert!(Store::open(dir.path(), &now(110), Retention::default(), None).is_err());
    assert_eq!(schema::version(&connection).unwrap(), 1);
    connection.execute_batch("DROP TABLE engines").unwrap();
    assert_eq!(start(dir.path(), 110, None).1.last_seq, 3);
}

#[test]
fn of_a_damaged_database_of_version_1_too_what_can_be_read_is_saved() {
    let dir = tempfile::tempdir().unwrap();
    version_1(dir.path());
    let damaged = dir.path().join("damaged");
    std::fs::rename(dir.path().join(files::DATABASE), &damaged).unwrap();
    let new = tempfile::tempdir().unwrap();
    let path = new.path().join(files::DATABASE);
    files::make(&path).unwrap();
    let mut connection = schema::connect(&path).unwrap();
    schema::create(&mut connection).unwrap();
    let saved = salvage::salvage(&damaged, &mut connection).unwrap();
    assert_eq!(saved, "1 alarms, 1 targets, 1 objects, 0 engines, 3 journal");
}
