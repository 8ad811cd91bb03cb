//! What a run takes over from the one before: the opening of the database, and the ages (INST-17).
//!
//! # Clocks
//!
//! Ages are reckoned in two parts, so that a step of the wall clock can spoil only the part that
//! no other clock knows:
//!
//! ```text
//!   as_of of a record ────────> alive ─────────────────────────────> now
//!            monotonic clock            same boot: monotonic clock
//!            of the last run            else: wall clock, never negative
//! ```
//!
//! The second part is *deaf*: nobody listened then. The core adds it to what an unstable object
//! has to wait, and it is also in the age of that object's last trap, so an error of the wall clock
//! over a reboot cancels out. When the store is opened, every row is brought to the clock of the
//! new run in the same transaction that begins the run; so no row is ever older than one run, and
//! two crashes in a row are no worse than one.
//!
//! # What a crash may have lost
//!
//! After an orderly stop the records are complete. After a crash or a power cut, they lack what was
//! received shortly before it. Let *X* be the last moment at which a trap could have been received
//! and lost: at most `ALIVE + lag` after *alive* (then the next *alive* would have been
//! written), and never after now. For an object recorded as unstable with *first* F, *last* L and
//! unstable time U = L - F, the true *last* may be anywhere from L to X, and however quiet the
//! object was before the crash, the very last second may have brought a trap. The true clear is
//! therefore no later than X + S(X - F), where S is the stable time of INST-5. Twice the lag on top
//! of L + S(U) would not do: it covers a trap that followed L at once, but not one that came after
//! a long quiet. So after a crash:
//!
//! - the quiet so far, from L to alive, counts for nothing (it is added to the object's `deaf`);
//! - and S may have grown by S(X - F) - S(U), which is at most X - L and, as S ends at one hour, at
//!   most one hour less U. That is added too, whatever the window of the object's group.
//!
//! The numbers of the episode (*first*, *last*, traps) stay as they were recorded.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use evenkeel_core::{
    alarm::{Alarm, AlarmId},
    identities,
    state::{Memory, Phase, Record, State},
    supervision::Part,
    time::Time,
    usm::EngineId,
};
use rusqlite::{Connection, ErrorCode, OptionalExtension};

use super::{Now, StoreError, engine, files, salvage, schema};
use crate::supervisor::pulse;

/// How often *alive* is written while objects are remembered and nothing else is written.
pub const ALIVE: Duration = Duration::from_secs(5);

/// How far the records may lag behind before the caller has said so.
const LAG: Duration = Duration::from_secs(1);

/// Up to this size all of the file is checked after a crash (some 100 ms); beyond it, all but the
/// journal, whose pages the start can do without.
const CHECKED: u64 = 32 * 1024 * 1024;

const CHECKED_ALWAYS: [&str; 6] = ["objects", "alarms", "targets", "run", "engine", "engines"];

/// The longest stable time (INST-5).
const LONGEST_STABLE: Duration = Duration::from_secs(3600);

/// How many other engines are kept: those that were heard last. More than four times as many as the
/// core remembers if nothing else is configured.
const ENGINES_KEPT: i64 = 250_000;

/// What the last run left behind.
#[derive(Debug)]
pub struct Restored {
    /// For the core.
    pub state: State,
    /// Our own SNMP engine and its snmpEngineBoots in this run.
    pub engine: (EngineId, u32),
    /// How often this agent was started, this time counted: the restart counter that peers are told
    /// (PEER-15), which is on the disk before any of them is.
    pub starts: u32,
    /// How long nobody listened.
    pub deaf: Duration,
    /// There was no database.
    pub first_start: bool,
    /// The last run stopped in an orderly way.
    pub clean: bool,
    /// The last row of the journal.
    pub last_seq: u64,
    /// The last number of the spool that `state` heeds.
    pub heeded: u64,
    /// The old database was damaged and was moved here; `state` is what could be read of it.
    pub moved_aside: Option<PathBuf>,
    /// What an operator must know about it, one sentence each.
    pub problems: Vec<String>,
}

/// Opens the database in `dir`, heals it if need be, and begins a run.
///
/// # Errors
///
/// The directory can't be written, or the database is of a newer version or can't be opened for a
/// reason other than damage.
pub fn begin(
    dir: &Path,
    now: &Now,
    engine: Option<&EngineId>,
) -> Result<(Connection, Restored), StoreError> {
    let path = dir.join(files::DATABASE);
    let directory = |source| StoreError::Directory { path: dir.to_owned(), source };
    let first_start = files::make(&path).map_err(directory)?;
    let (connection, mut restored) = match attempt(&path, now, engine) {
        Err(StoreError::Database { source, .. }) if is_damage(&source) => {
            let aside = files::set_aside(&path, now.moment.wall.0).map_err(directory)?;
            files::make(&path).map_err(directory)?;
            let saved = save(&path, &aside)?;
            let (connection, mut restored) = attempt(&path, now, engine)?;
            restored.clean = false;
            restored.problems.push(format!(
                "the database was damaged ({source}) and was moved to {}: a new one was begun with \
                 what could be read of it: {saved}; compare the active alarms with those of the NMS",
                aside.display()
            ));
            if let (id, 1) = &restored.engine
                && engine.is_some()
            {
                restored.problems.push(format!(
                    "how often the SNMP engine {id} was started could not be read: it begins anew, \
                     and who talks to it by SNMPv3 may refuse its messages; give the agent another \
                     engine_id"
                ));
            }
            restored.moved_aside = Some(aside);
            (connection, restored)
        }
        other => other?,
    };
    files::sync(dir).map_err(directory)?;
    restored.first_start = first_start;
    Ok((connection, restored))
}

fn attempt(
    path: &Path,
    now: &Now,
    engine: Option<&EngineId>,
) -> Result<(Connection, Restored), StoreError> {
    let database = |source| StoreError::Database { path: path.to_owned(), source };
    let mut connection = schema::connect(path).map_err(database)?;
    let found = schema::version(&connection).map_err(database)?;
    match found {
        0 => schema::create(&mut connection).map_err(database)?,
        from @ 1..schema::VERSION => {
            schema::migrate(&mut connection, from).map_err(database)?;
        }
        schema::VERSION => {}
        found => return Err(StoreError::Newer { path: path.to_owned(), found }),
    }
    if found != schema::VERSION {
        schema::show_version(&connection).map_err(database)?;
    }
    let size = fs::metadata(path).map_or(0, |file| file.len());
    let restored = take_over(&mut connection, size, now, engine).map_err(database)?;
    Ok((connection, restored))
}

/// Creates the tables anew, with what can be read of a damaged database.
fn save(path: &Path, damaged: &Path) -> Result<String, StoreError> {
    let database = |source| StoreError::Database { path: path.to_owned(), source };
    let mut connection = schema::connect(path).map_err(database)?;
    schema::create(&mut connection).map_err(database)?;
    let saved = salvage::salvage(damaged, &mut connection).map_err(database)?;
    Ok(if saved.is_empty() { "nothing".to_owned() } else { saved })
}

fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

/// The row of the last run.
struct LastRun {
    boot_id: String,
    alive_mono: Time,
    alive_wall_ms: i64,
    clean: bool,
    lag: Duration,
    heeded: u64,
    starts: u32,
}

/// Reads what the last run left and begins the new run, in one transaction.
fn take_over(
    connection: &mut Connection,
    size: u64,
    now: &Now,
    engine: Option<&EngineId>,
) -> rusqlite::Result<Restored> {
    let transaction = connection.transaction()?;
    let last = read_run(&transaction)?;
    let clean = last.as_ref().is_none_or(|last| last.clean);
    if !clean {
        check(&transaction, size)?;
    }
    let mut restored = Restored {
        state: State::default(),
        engine: engine::start(&transaction, engine, now.moment.wall)?,
        // After the last number comes the first: what counts is that it is another one.
        starts: last.as_ref().map_or(0, |last| last.starts).wrapping_add(1),
        deaf: last.as_ref().map_or(Duration::ZERO, |last| deaf(last, now)),
        first_start: false,
        clean,
        last_seq: 0,
        heeded: last.as_ref().map_or(0, |last| last.heeded),
        moved_aside: None,
        problems: Vec::new(),
    };
    if restored.engine.1 == engine::MOST_BOOTS {
        restored.problems.push(format!(
            "the SNMP engine {} was started as often as it can be: give the agent another engine_id, \
             as nobody takes its authenticated messages any more (RFC 3414, 2.2.2)",
            restored.engine.0
        ));
    }
    if let Some(last) = &last {
        let unstable = restore_records(&transaction, last, &mut restored)?;
        bring_records(&transaction, last, now, restored.deaf, &unstable)?;
        bring_engines(&transaction, last, now, restored.deaf)?;
        // Their ages are those of the rows that were just brought to the clock of this run.
        restore_engines(&transaction, None, &mut restored)?;
    }
    read_alarms(&transaction)?.put_into(&mut restored);
    restored.last_seq = last_seq(&transaction)?;
    transaction.execute(
        "INSERT OR REPLACE INTO run
         (id, boot_id, started, alive_mono_ns, alive_wall_ms, clean, lag_ms, heeded, starts)
         VALUES (1, ?1, ?2, ?3, ?4, 0, ?5, ?6, ?7)",
        (
            &now.boot_id,
            schema::rfc3339(now.moment.wall),
            schema::to_i64(now.moment.mono.as_nanos()),
            now.moment.wall.0,
            i64::try_from(last.map_or(LAG, |last| last.lag).as_millis()).unwrap_or(i64::MAX),
            schema::to_i64(restored.heeded),
            restored.starts,
        ),
    )?;
    transaction.commit()?;
    Ok(restored)
}

/// What stays the same for as long as the agent runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begun {
    /// See [`Restored::engine`].
    pub engine: (EngineId, u32),
    /// See [`Restored::starts`].
    pub starts: u32,
}

/// Reads what a restart would find now, in the run that goes on: for a standby that becomes primary.
/// Its rows are on the clock of this run already, so that only those of unstable objects are to be
/// written anew, which is left to the caller: the second value. That it takes no writing to begin is
/// what keeps a takeover short.
pub fn reread(
    connection: &mut Connection,
    path: &Path,
    now: &Now,
    begun: &Begun,
) -> rusqlite::Result<(Restored, Vec<Record>)> {
    let transaction = connection.transaction()?;
    let last = read_run(&transaction)?;
    let mut restored = Restored {
        state: State::default(),
        engine: begun.engine.clone(),
        starts: begun.starts,
        deaf: last.as_ref().map_or(Duration::ZERO, |last| deaf(last, now)),
        first_start: false,
        clean: last.as_ref().is_none_or(|last| last.clean),
        last_seq: last_seq(&transaction)?,
        heeded: last.as_ref().map_or(0, |last| last.heeded),
        moved_aside: None,
        problems: Vec::new(),
    };
    // Alarms and records are half of the work each. Nobody writes meanwhile, so both are of one moment.
    let unstable = thread::scope(|scope| -> rusqlite::Result<Vec<Record>> {
        let alarms = scope.spawn(|| read_alarms(&schema::connect_read_only(path)?));
        let mut unstable = Vec::new();
        if let Some(last) = &last {
            unstable = restore_records(&transaction, last, &mut restored)?;
            restore_engines(&transaction, Some(last), &mut restored)?;
        }
        let alarms = alarms.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        alarms?.put_into(&mut restored);
        Ok(unstable)
    })?;
    transaction.execute("UPDATE run SET clean = 0", [])?;
    transaction.commit()?;
    Ok((restored, unstable))
}

/// All records with their ages as of now, beside the writer.
pub fn records(connection: &Connection, now: &Now) -> rusqlite::Result<Vec<Record>> {
    let mut rows = connection
        .prepare("SELECT system, if_index, as_of_mono_ns, age_ns, memory FROM objects")?;
    let rows = rows.query_map([], schema::read_record)?;
    let aged = |stored: schema::StoredRecord| {
        let since = now.moment.mono.since(Time::from_nanos(stored.as_of_mono_ns));
        Record { key: stored.key, age: stored.age.saturating_add(since), memory: stored.memory }
    };
    Ok(rows.flatten().map(aged).collect())
}

/// The highest seq that was ever given to a row of the journal.
pub fn last_seq(connection: &Connection) -> rusqlite::Result<u64> {
    // Not max(seq): rows that were pruned have had theirs.
    let seq = connection
        .query_row("SELECT seq FROM sqlite_sequence WHERE name = 'journal'", [], |row| row.get(0))
        .optional()?;
    Ok(schema::from_i64(seq.unwrap_or(0)))
}

fn read_run(connection: &Connection) -> rusqlite::Result<Option<LastRun>> {
    connection
        .query_row(
            "SELECT boot_id, alive_mono_ns, alive_wall_ms, clean, lag_ms, heeded, starts FROM run",
            [],
            |row| {
                Ok(LastRun {
                    boot_id: row.get(0)?,
                    alive_mono: Time::from_nanos(schema::from_i64(row.get(1)?)),
                    alive_wall_ms: row.get(2)?,
                    clean: row.get(3)?,
                    lag: Duration::from_millis(schema::from_i64(row.get(4)?)),
                    heeded: schema::from_i64(row.get(5)?),
                    // What no counter of ours can be is none.
                    starts: u32::try_from(row.get::<_, i64>(6)?).unwrap_or(0),
                })
            },
        )
        .optional()
}

/// How long ago the last run was last known to listen.
fn deaf(last: &LastRun, now: &Now) -> Duration {
    // A monotonic clock that ran backwards within one boot is that of another time namespace.
    if last.boot_id == now.boot_id && now.moment.mono >= last.alive_mono {
        return now.moment.mono.since(last.alive_mono);
    }
    let elapsed = now.moment.wall.0.saturating_sub(last.alive_wall_ms);
    Duration::from_millis(u64::try_from(elapsed).unwrap_or(0))
}

/// Fails if the database is damaged.
fn check(connection: &Connection, size: u64) -> rusqlite::Result<()> {
    let tables: &[&str] = if size <= CHECKED { &["1"] } else { &CHECKED_ALWAYS };
    for argument in tables {
        let found: String =
            connection
                .query_row(&format!("PRAGMA quick_check({argument})"), [], |row| row.get(0))?;
        if found != "ok" {
            return Err(rusqlite::Error::SqliteFailure(
                rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT),
                Some(found),
            ));
        }
    }
    Ok(())
}

/// Puts the records into `restored`, with their ages as of now. Gives back those of unstable objects as
/// they are to be on the disk.
fn restore_records(
    connection: &Connection,
    last: &LastRun,
    restored: &mut Restored,
) -> rusqlite::Result<Vec<Record>> {
    let mut unstable = Vec::new();
    let mut unreadable = 0;
    let mut rows = connection
        .prepare("SELECT system, if_index, as_of_mono_ns, age_ns, memory FROM objects")?;
    let mut rows = rows.query([])?;
    while let Some(row) = rows.next()? {
        pulse::beat(Part::Store);
        let Ok(stored) = schema::read_record(row) else {
            unreadable += 1;
            continue;
        };
        let listened = last.alive_mono.since(Time::from_nanos(stored.as_of_mono_ns));
        let mut memory = stored.memory;
        if !restored.clean {
            let age = stored.age.saturating_add(listened);
            wait_anew(&mut memory, age, restored.deaf, last.lag);
        }
        let age = stored.age.saturating_add(listened).saturating_add(restored.deaf);
        let record = Record { key: stored.key, age, memory };
        if let Phase::Unstable { .. } = record.memory.phase {
            let mut on_disk = record.clone();
            if let Phase::Unstable { deaf, .. } = &mut on_disk.memory.phase {
                // On the disk the time without a listener is included already; the core adds it by
                // itself to what it is given.
                *deaf = deaf.saturating_add(restored.deaf);
            }
            unstable.push(on_disk);
        }
        restored.state.records.push(record);
    }
    if unreadable > 0 {
        restored.problems.push(format!(
            "{unreadable} rows of the table objects can't be read and are left alone: their \
             counts begin anew"
        ));
    }
    Ok(unstable)
}

/// Brings the rows of objects to the clock of the new run. All but the `unstable` ones differ only in
/// their age.
fn bring_records(
    connection: &Connection,
    last: &LastRun,
    now: &Now,
    deaf: Duration,
    unstable: &[Record],
) -> rusqlite::Result<()> {
    // Both sums stay far below 2^63.
    connection.execute(
        "UPDATE objects SET age_ns = age_ns + max(0, ?1 - as_of_mono_ns) + ?2,
                            as_of_mono_ns = ?3, as_of_wall_ms = ?4",
        (
            schema::to_i64(last.alive_mono.as_nanos()),
            schema::nanos(deaf),
            schema::to_i64(now.moment.mono.as_nanos()),
            now.moment.wall.0,
        ),
    )?;
    unstable.iter().try_for_each(|record| {
        schema::put_record(connection, record, now.moment)?;
        Ok(())
    })
}

/// Brings the rows of other engines to the clock of the new run. Of too many, those that were not heard
/// for longest are forgotten.
fn bring_engines(
    connection: &Connection,
    last: &LastRun,
    now: &Now,
    deaf: Duration,
) -> rusqlite::Result<()> {
    connection.execute(
        "UPDATE engines SET age_ns = age_ns + max(0, ?1 - as_of_mono_ns) + ?2,
                            as_of_mono_ns = ?3, as_of_wall_ms = ?4",
        (
            schema::to_i64(last.alive_mono.as_nanos()),
            schema::nanos(deaf),
            schema::to_i64(now.moment.mono.as_nanos()),
            now.moment.wall.0,
        ),
    )?;
    connection.execute(
        "DELETE FROM engines WHERE engine_id IN
         (SELECT engine_id FROM engines ORDER BY age_ns LIMIT -1 OFFSET ?1)",
        [ENGINES_KEPT],
    )?;
    Ok(())
}

/// Puts the other engines into `restored`: with their ages as of now if `last` is given, else as old as
/// the rows say.
fn restore_engines(
    connection: &Connection,
    last: Option<&LastRun>,
    restored: &mut Restored,
) -> rusqlite::Result<()> {
    let mut unreadable = 0;
    let mut rows =
        connection.prepare("SELECT engine_id, boots, time, age_ns, as_of_mono_ns FROM engines")?;
    let mut rows = rows.query([])?;
    while let Some(row) = rows.next()? {
        let Ok(mut engine) = schema::read_engine(row) else {
            unreadable += 1;
            continue;
        };
        if let Some(last) = last {
            let as_of = Time::from_nanos(schema::from_i64(row.get(4)?));
            let listened = last.alive_mono.since(as_of);
            engine.age = engine.age.saturating_add(listened).saturating_add(restored.deaf);
        }
        restored.state.engines.push(engine);
    }
    if unreadable > 0 {
        restored.problems.push(format!(
            "{unreadable} rows of the table engines can't be read and are left alone: old messages \
             of those engines could be sent again and be taken for new"
        ));
    }
    Ok(())
}

/// Lets an unstable object wait as long as the traps that a crash may have swallowed would have
/// made it wait (INST-17; see above). `age` is how old the memory was at *alive*.
fn wait_anew(memory: &mut Memory, age: Duration, gap: Duration, lag: Duration) {
    let Phase::Unstable { first, last, deaf, .. } = &mut memory.phase else { return };
    let quiet = last.saturating_add(age);
    let lost_until = gap.min(ALIVE.saturating_add(lag));
    let grown = quiet
        .saturating_add(lost_until)
        .min(LONGEST_STABLE.saturating_sub(first.saturating_sub(*last)));
    // Not on top of what an earlier crash added: that one's X was earlier, and is covered too.
    *deaf = (*deaf).max(quiet.saturating_add(grown));
}

/// The active alarms, and what goes with them.
#[derive(Default)]
struct ReadAlarms {
    alarms: Vec<Alarm>,
    identities: Vec<AlarmId>,
    problems: Vec<String>,
}

impl ReadAlarms {
    fn put_into(self, restored: &mut Restored) {
        restored.state.alarms = self.alarms;
        restored.state.identities = self.identities;
        restored.problems.extend(self.problems);
    }
}

fn read_alarms(connection: &Connection) -> rusqlite::Result<ReadAlarms> {
    let mut read = ReadAlarms::default();
    let mut rows = connection.prepare("SELECT alarm, alarm_id FROM alarms ORDER BY alarm_id")?;
    let mut rows = rows.query([])?;
    while let Some(row) = rows.next()? {
        pulse::beat(Part::Store);
        match schema::read_alarm(row) {
            Ok(alarm) => read.alarms.push(alarm),
            Err(error) => read.problems.push(format!(
                "the active alarm {} can't be read ({error}): it stays in the table alarms and \
                 will not be cleared",
                row.get::<_, String>(1).unwrap_or_default()
            )),
        }
    }
    read.identities = last_identities(connection)?;
    Ok(read)
}

/// The identities that were given last, whoever gave them, the oldest first.
fn last_identities(connection: &Connection) -> rusqlite::Result<Vec<AlarmId>> {
    let mut rows = connection
        .prepare("SELECT alarm_id FROM journal WHERE event = 'raise' ORDER BY seq DESC LIMIT ?1")?;
    let rows = rows.query_map([identities::KEPT as i64], |row| row.get::<_, String>(0))?;
    // One that can't be read is none of ours.
    let ids = rows.flatten().filter_map(|id| AlarmId::try_from(id).ok());
    let mut ids: Vec<AlarmId> = ids.collect();
    ids.reverse();
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use evenkeel_core::state::RecordKey;

    use super::{
        super::{
            Commit, Moment, Retention, Store,
            testing::{Chance, key, moment, now, unstable},
        },
        *,
    };

    /// A run that starts at 100 s and ends at 150 s, with one unstable object as of 130 s, whose
    /// first trap was at 90 s and last at 120 s.
    fn run(dir: &Path, clean: bool) {
        let (store, _) = Store::open(dir, &now(100), Retention::default(), None).unwrap();
        let records = vec![unstable(1, 40, 10, 5)];
        store.checkpoint_state(records, vec![], moment(130), Duration::from_secs(1));
        let last = Commit { as_of: moment(150), ..Commit::default() };
        if clean {
            store.close(last).unwrap();
            drop(store);
        } else {
            store.submit(last);
            drop(store);
        }
    }

    /// When the only object was last heard, by the new run, and how long nobody listened.
    fn last_and_deaf(restored: &Restored) -> (Duration, Duration) {
        let record = &restored.state.records[0];
        let Phase::Unstable { last, deaf, .. } = record.memory.phase else { panic!("{record:?}") };
        (record.age + last, restored.deaf + deaf)
    }

    fn open(dir: &Path, now: &Now) -> Restored {
        Store::open(dir, now, Retention::default(), None).unwrap().1
    }

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn inst_17_within_a_boot_ages_follow_the_monotonic_clock() {
        let dir = tempfile::tempdir().unwrap();
        run(dir.path(), true);
        let mut now = now(200);
        now.moment.wall.0 += 86_400_000; // a step that must not matter
        let restored = open(dir.path(), &now);
        assert_eq!(last_and_deaf(&restored), (secs(80), secs(50)));
        assert_eq!(restored.state.records[0].key, key(1));
    }

    #[test]
    fn inst_17_over_a_reboot_the_gap_follows_the_wall_clock_and_is_never_negative() {
        let dir = tempfile::tempdir().unwrap();
        for (step_ms, gap) in [(0, 50), (-7_200_000, 0), (3_600_000, 3_650)] {
            let dir = dir.path().join(gap.to_string());
            run(&dir, true);
            let mut now = Now { moment: moment(200), boot_id: "next boot".to_owned() };
            now.moment.mono = Time::from_secs(3);
            now.moment.wall.0 += step_ms;
            // The step moves the age and the deaf time alike: what is left to wait stays.
            assert_eq!(last_and_deaf(&open(&dir, &now)), (secs(30 + gap), secs(gap)));
        }
    }

    #[test]
    fn inst_17_after_a_crash_an_unstable_object_waits_as_if_a_trap_had_come_until_the_last_moment()
    {
        let dir = tempfile::tempdir().unwrap();
        run(dir.path(), false);
        let restored = open(dir.path(), &now(200));
        assert!(!restored.clean);
        // Traps at 90 s and 120 s, alive until 150 s; one may have come and got lost until 156 s.
        // Then it would be stable at 156 + 66 = 222 s, and not at 120 + 30 + 50 = 200 s.
        let (last, deaf) = last_and_deaf(&restored);
        assert_eq!(last, secs(80));
        let stable_at = 200 - 80 + 30 + deaf.as_secs();
        assert_eq!(deaf, secs(50 + 30 + 36));
        assert!(stable_at >= 222, "{stable_at}");
    }

    #[test]
    fn inst_17_a_second_crash_right_after_the_first_forgets_nothing_of_it() {
        let dir = tempfile::tempdir().unwrap();
        run(dir.path(), true);
        for (at, deaf) in [(200, 50), (260, 110), (300, 150)] {
            // Each run ends at once, in order but without a word about the object.
            let (store, restored) =
                Store::open(dir.path(), &now(at), Retention::default(), None).unwrap();
            assert_eq!(last_and_deaf(&restored), (secs(at - 120), secs(deaf)), "at {at}");
            store.close(Commit { as_of: moment(at), ..Commit::default() }).unwrap();
            drop(store);
        }
    }

    /// Whatever the object has seen, and whenever the crash came: with any trap that may have been
    /// lost, the true clear is not later than the one after the restart.
    #[test]
    fn inst_17_no_lost_trap_makes_the_clear_early() {
        let mut chance = Chance(17);
        for _ in 0..20_000 {
            let window = secs(1 + chance.below(3_600));
            let stable = |unstable: Duration| unstable.clamp(window, LONGEST_STABLE.max(window));
            let first = secs(chance.below(8_000));
            let last = first + secs(chance.below(8_000));
            let as_of = last + secs(chance.below(4_000));
            let alive = as_of + secs(chance.below(20));
            let lag = secs(chance.below(5));
            let crash = alive + secs(chance.below(5 + lag.as_secs() + 1));
            let restart = crash + secs(chance.below(4_000));
            let lost = last + secs(chance.below((crash - last).as_secs() + 1));

            let mut record = unstable(1, (as_of - first).as_secs(), (as_of - last).as_secs(), 9);
            wait_anew(&mut record.memory, alive - as_of, restart - alive, lag);
            let Phase::Unstable { deaf, .. } = record.memory.phase else { panic!() };
            let cleared = last + stable(last - first) + deaf + (restart - alive);
            assert!(cleared >= lost + stable(lost - first));
            assert!(cleared <= restart + 2 * LONGEST_STABLE, "nor is it late without end");
        }
    }

    #[test]
    fn inst_17_a_hundred_crashes_in_a_row_cost_no_more_than_the_last() {
        // Last trap at 120 s; a crash every second from 150 s on, nothing heard in between.
        let mut record = unstable(1, 60, 30, 2);
        let mut once = record.clone();
        for crash in 0..100 {
            wait_anew(&mut record.memory, secs(crash), secs(1), LAG);
            let Phase::Unstable { deaf, .. } = &mut record.memory.phase else { panic!() };
            // As the core does with the gap.
            *deaf += secs(1);
        }
        wait_anew(&mut once.memory, secs(99), secs(1), LAG);
        let deaf_of = |record: &Record| match &record.memory.phase {
            Phase::Unstable { deaf, .. } => *deaf,
            other => panic!("{other:?}"),
        };
        assert_eq!(deaf_of(&record), deaf_of(&once) + secs(1));
    }

    #[test]
    fn a_row_that_can_not_be_read_costs_that_row_alone() {
        let dir = tempfile::tempdir().unwrap();
        run(dir.path(), true);
        let database = Connection::open(dir.path().join(files::DATABASE)).unwrap();
        let sql = "INSERT INTO objects VALUES ('10.9.9.9', 1, 0, 0, 0, '{\"phase\":\"later\"}')";
        database.execute(sql, []).unwrap();
        let restored = open(dir.path(), &now(200));
        let keys: Vec<RecordKey> = restored.state.records.iter().map(|r| r.key).collect();
        assert_eq!(keys, [key(1)]);
        assert!(restored.problems[0].starts_with("1 rows of the table objects"));
    }

    #[test]
    fn alive_is_the_latest_moment_that_the_caller_told() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(dir.path(), &now(100), Retention::default(), None).unwrap();
        let early = Commit { as_of: moment(140), ..Commit::default() };
        store.submit(Commit { as_of: moment(150), ..Commit::default() });
        store.close(early).unwrap();
        drop(store);
        assert_eq!(open(dir.path(), &now(200)).deaf, secs(50));
        let moment = Moment::default();
        let unknown = Now { moment, boot_id: "later".to_owned() };
        assert_eq!(open(dir.path(), &unknown).deaf, Duration::ZERO);
    }
}
