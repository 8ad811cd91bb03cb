//! What the tests of the store share: objects by number, and events and records of them.

use std::{net::Ipv4Addr, time::Duration};

use evenkeel_core::{
    alarm::{Alarm, AlarmEvent, AlarmId, ClearReason, Kind, Object, System},
    state::{Memory, Phase, Record, RecordKey},
    time::{Time, WallTime},
};

use super::{Moment, Now};

/// The object with this number: ifIndex 1 of a system.
pub fn key(object: u32) -> RecordKey {
    RecordKey { system: System(Ipv4Addr::from(0x0a00_0000 + object).into()), if_index: 1 }
}

/// A record that can be told from others by its `mark`.
pub fn record(object: u32, mark: u64) -> Record {
    unstable(object, 30, 10, mark)
}

/// An unstable object, whose first and last trap are so many seconds old.
pub fn unstable(object: u32, first: u64, last: u64, traps: u64) -> Record {
    let phase = Phase::Unstable {
        first: Duration::from_secs(first),
        last: Duration::from_secs(last),
        traps,
        deaf: Duration::ZERO,
    };
    let memory = Memory { phase, ..Memory::default() };
    Record { key: key(object), age: Duration::ZERO, memory }
}

/// The mark of a record.
pub fn mark(record: &Record) -> u64 {
    match record.memory.phase {
        Phase::Unstable { traps, .. } => traps,
        _ => 0,
    }
}

/// An alarm about an object.
pub fn alarm(object: u32, id: u64) -> Alarm {
    let RecordKey { system, if_index } = key(object);
    Alarm {
        id: AlarmId(id),
        kind: Kind::InterfaceUnstable,
        object: Object::Interface { system, if_index },
        severity: Kind::InterfaceUnstable.severity(),
        raised_at: WallTime(1_700_000_000_000),
        text: format!("interface {object} goes up and down: 17 link traps in 30 s"),
        episode: None,
        if_name: Some("GigabitEthernet0/1".to_owned()),
        other_if_name: None,
        peer_group: None,
        agent: None,
        mate: None,
    }
}

/// The raise of the alarm whose id is the object's number.
pub fn raise(object: u32) -> AlarmEvent {
    event(alarm(object, object.into()), None)
}

/// Its clear.
pub fn clear(object: u32) -> AlarmEvent {
    event(alarm(object, object.into()), Some(ClearReason::Ended))
}

/// An event of an alarm.
pub fn event(alarm: Alarm, cleared: Option<ClearReason>) -> AlarmEvent {
    AlarmEvent { at: Time::ZERO, wall: WallTime(1_700_000_000_000), cleared, alarm, term: None }
}

/// So many seconds after the boot, and the wall clock that fits.
pub fn moment(secs: u64) -> Moment {
    let wall = 1_700_000_000_000 + i64::try_from(secs).unwrap() * 1000;
    Moment { mono: Time::from_secs(secs), wall: WallTime(wall) }
}

/// The same, in the boot that most tests run in.
pub fn now(secs: u64) -> Now {
    Now { moment: moment(secs), boot_id: "this boot".to_owned() }
}

/// Chance that can be repeated (splitmix64).
pub struct Chance(pub u64);

impl Chance {
    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }
}
