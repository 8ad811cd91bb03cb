//! Between what the store and the spool know and what mates say: moments become ages, and ages moments
//! of the other host (PAIR-14).

use std::time::Duration;

use evenkeel_core::{
    alarm::{Alarm, AlarmEvent, ClearReason},
    input::Taken,
    state::{self, RecordKey},
    time::{Time, WallTime},
    usm::EngineRecord,
};

use super::wire::{self, Cursor, Op};
use crate::{
    spool::Entry,
    store::{Item, Moment, Now, read_term, term_text},
};

/// What is said of a thing that is on the disk; nothing if it can't be said.
pub fn op(item: Item, now: &Now) -> Option<Op> {
    Some(match item {
        Item::Row { seq, event } => Op::Row(row(seq, &event)?),
        Item::Alarm(alarm) => Op::Alarm(json(&alarm)?),
        Item::Record { record, as_of } => Op::Record(wire::Record {
            system: record.key.system,
            if_index: record.key.if_index,
            since_ns: since(as_of.mono, now),
            age_ns: nanos(record.age),
            memory: json(&record.memory)?,
        }),
        Item::Removed(key) => Op::Removed((key.system, key.if_index)),
        Item::Engine { engine: EngineRecord { id, boots, time, age }, as_of } => {
            let (since_ns, age_ns) = (since(as_of.mono, now), nanos(age));
            Op::Engine(wire::Engine { id, boots, time, since_ns, age_ns })
        }
        Item::Cursor { target, seq, spool } => Op::Cursor(Cursor { target, seq, spool }),
        Item::Targets(names) => Op::Targets(names),
        Item::Term { term, last } => Op::Term((term, last)),
        Item::Heeded(number) => Op::Heeded(number),
        Item::Alive(alive) => Op::Alive(since(alive.mono, now)),
        Item::Lag(lag) => Op::Lag(u64::try_from(lag.as_millis()).unwrap_or(u64::MAX)),
        Item::Prints(prints) => Op::Prints(prints),
        Item::Clean => Op::Clean(()),
    })
}

/// The thing on the disk that an operation is about; nothing if it is about none, or can't be read.
pub fn item(op: Op, now: &Now) -> Option<Item> {
    Some(match op {
        Op::Row(row) => {
            let (seq, event) = (row.seq, Box::new(event(row)?));
            // Numbers begin with 1, and the database ends here.
            if seq == 0 || seq >> 62 != 0 {
                return None;
            }
            Item::Row { seq, event }
        }
        Op::Alarm(alarm) => Item::Alarm(Box::new(serde_json::from_str(&alarm).ok()?)),
        Op::Record(record) => {
            let as_of = moment(record.since_ns, now);
            Item::Record { record: Box::new(read_record(record)?), as_of }
        }
        Op::Removed((system, if_index)) => Item::Removed(RecordKey { system, if_index }),
        Op::Engine(wire::Engine { id, boots, time, since_ns, age_ns }) => {
            let age = Duration::from_nanos(age_ns);
            let engine = EngineRecord { id, boots, time, age };
            Item::Engine { engine, as_of: moment(since_ns, now) }
        }
        Op::Cursor(Cursor { target, seq, spool }) => Item::Cursor { target, seq, spool },
        Op::Targets(names) => Item::Targets(names),
        Op::Term((term, last)) => Item::Term { term, last },
        Op::Heeded(number) => Item::Heeded(number),
        Op::Alive(since_ns) => Item::Alive(moment(since_ns, now)),
        Op::Lag(ms) => Item::Lag(Duration::from_millis(ms)),
        Op::Prints(prints) => Item::Prints(prints),
        Op::Clean(()) => Item::Clean,
        _ => return None,
    })
}

/// A row, as it is said.
pub fn row(seq: u64, event: &AlarmEvent) -> Option<wire::Row> {
    Some(wire::Row {
        seq,
        wall_ms: event.wall.0,
        cleared: event.cleared.map(|reason| reason.name().to_owned()),
        alarm: json(&event.alarm)?,
        term: event.term.map(term_text),
    })
}

/// The event that a row tells. Its moment on the monotonic clock is lost, as it is in the journal.
pub fn event(row: wire::Row) -> Option<AlarmEvent> {
    let reason = |name: String| ClearReason::ALL.into_iter().find(|reason| reason.name() == name);
    // Why a later version clears alarms can't be known: that it is cleared counts.
    let cleared = row.cleared.map(|name| reason(name).unwrap_or(ClearReason::Ended));
    let alarm: Alarm = serde_json::from_str(&row.alarm).ok()?;
    let term = row.term.as_deref().and_then(read_term);
    Some(AlarmEvent { at: Time::ZERO, wall: WallTime(row.wall_ms), cleared, alarm, term })
}

/// A record with its age as of now, as it is said.
pub fn record(record: &state::Record) -> Option<wire::Record> {
    Some(wire::Record {
        system: record.key.system,
        if_index: record.key.if_index,
        since_ns: 0,
        age_ns: nanos(record.age),
        memory: json(&record.memory)?,
    })
}

/// The record that is said, with its age as of when it was so.
pub fn read_record(record: wire::Record) -> Option<state::Record> {
    let key = RecordKey { system: record.system, if_index: record.if_index };
    let memory = serde_json::from_str(&record.memory).ok()?;
    Some(state::Record { key, age: Duration::from_nanos(record.age_ns), memory })
}

/// An entry of the spool, as it is said.
pub fn trap(entry: Entry, now: &Now) -> wire::Trap {
    let Entry { number, taken, targets } = entry;
    wire::Trap {
        number,
        since_ns: since(taken.received, now),
        targets,
        source: taken.source,
        system: taken.system,
        form: taken.form,
        request_id: taken.request_id,
        community: taken.community,
        varbinds: taken.varbinds,
        original: taken.original,
    }
}

/// The entry that is said.
pub fn entry(trap: wire::Trap, now: &Now) -> Entry {
    let Moment { mono: received, wall } = moment(trap.since_ns, now);
    let taken = Taken {
        number: Some(trap.number),
        received,
        wall,
        source: trap.source,
        system: trap.system,
        form: trap.form,
        request_id: trap.request_id,
        community: trap.community,
        varbinds: trap.varbinds,
        original: trap.original,
        targets: Default::default(),
    };
    Entry { number: trap.number, taken, targets: trap.targets }
}

/// What tells a trap from others, whatever its number is and whenever it came: two agents that a
/// device sends to have the same of it.
pub fn print(taken: &Taken) -> u64 {
    let what = (
        taken.source,
        taken.system,
        taken.form,
        taken.request_id,
        &taken.community,
        &taken.varbinds,
        &taken.original,
    );
    let octets = postcard::to_stdvec(&what).unwrap_or_default();
    let digest = ring::digest::digest(&ring::digest::SHA256, &octets);
    let first = digest.as_ref().first_chunk().copied().unwrap_or_default();
    u64::from_le_bytes(first)
}

/// How long ago a moment of this host was.
fn since(at: Time, now: &Now) -> u64 {
    nanos(now.moment.mono.since(at))
}

/// The moment on the clocks of this host that was so long ago.
fn moment(since_ns: u64, now: &Now) -> Moment {
    let ms = i64::try_from(since_ns / 1_000_000).unwrap_or(i64::MAX);
    Moment {
        mono: now.moment.mono - Duration::from_nanos(since_ns),
        wall: WallTime(now.moment.wall.0.saturating_sub(ms)),
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn json(value: &impl serde::Serialize) -> Option<String> {
    serde_json::to_string(value).ok()
}
