//! Two journals become one, after two agents of a pair that could not hear each other have both been
//! primary for a while (PAIR-2, PAIR-18).
//!
//! The one that stays primary takes in what the other one did: rows that its journal lacks, and what is
//! remembered of their objects where that is later than its own. An alarm that is active on the one that
//! steps back goes on here, where its object is judged from now on.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    alarm::{Alarm, AlarmEvent, AlarmId, ClearReason, Kind, Object},
    state::{Memory, Record, RecordKey, State},
};

impl State {
    /// Takes in the rows and records of the mate, which steps back, into the state of the agent of this
    /// name. Returns the rows that the journal lacks.
    pub fn join(
        &mut self,
        rows: Vec<AlarmEvent>,
        records: Vec<Record>,
        agent: &str,
    ) -> Vec<AlarmEvent> {
        self.join_records(records);
        let known: BTreeSet<AlarmId> = self.identities.iter().copied().collect();
        let mut new: BTreeSet<AlarmId> = BTreeSet::new();
        let mut missing = Vec::new();
        let mut open: BTreeMap<AlarmId, AlarmEvent> = BTreeMap::new();
        for row in rows {
            let id = row.alarm.id;
            let local = row.alarm.object.is_local();
            // What is local to this host, this agent has told itself.
            if local && row.alarm.agent.as_deref() == Some(agent) {
                continue;
            }
            // What both call alike, both know. But of its own host the mate knows best that it is over.
            if known.contains(&id) {
                if local
                    && row.cleared.is_some()
                    && let Some(place) = self.alarms.iter().position(|alarm| alarm.id == id)
                {
                    self.alarms.swap_remove(place);
                    missing.push(row);
                }
                continue;
            }
            match row.cleared {
                None if !new.insert(id) => continue,
                None if !row.alarm.kind.is_event() => drop(open.insert(id, row.clone())),
                None => {}
                // Its raise is older than what is handed over, so it is known here.
                Some(_) if open.remove(&id).is_none() => continue,
                Some(_) => {}
            }
            missing.push(row);
        }
        let active = self.alarms.iter().enumerate().map(|(place, alarm)| (key(alarm), place));
        let mut active: BTreeMap<_, usize> = active.collect();
        for (_, row) in open {
            match active.get(&key(&row.alarm)).copied() {
                None => {
                    active.insert(key(&row.alarm), self.alarms.len());
                    self.alarms.push(row.alarm);
                }
                // It goes on here, under the identity that it has here.
                Some(_) if !row.alarm.object.is_local() => {
                    missing.push(AlarmEvent { cleared: Some(ClearReason::Superseded), ..row });
                }
                // It goes on at the mate, under the identity that it has there.
                Some(place) => {
                    let here = std::mem::replace(&mut self.alarms[place], row.alarm.clone());
                    let cleared = Some(ClearReason::Superseded);
                    missing.push(AlarmEvent { cleared, alarm: here, ..row });
                }
            }
        }
        self.identities.extend(new);
        missing
    }

    fn join_records(&mut self, records: Vec<Record>) {
        let mut own: BTreeMap<RecordKey, Record> =
            self.records.drain(..).map(|record| (record.key, record)).collect();
        for record in records {
            let later = own.get(&record.key).is_none_or(|own| latest(&record) < latest(own));
            if later {
                // The number is of the mate's spool, and means nothing here.
                let memory = Memory { spooled: 0, ..record.memory };
                own.insert(record.key, Record { memory, ..record });
            }
        }
        self.records = own.into_values().collect();
    }
}

fn key(alarm: &Alarm) -> (Kind, Object, Option<String>) {
    (alarm.kind, alarm.object.clone(), alarm.agent.clone())
}

/// How long ago the latest trap was received that a record knows of.
fn latest(record: &Record) -> std::time::Duration {
    let latest = record.memory.latest_trap().unwrap_or(std::time::Duration::MAX);
    latest.saturating_add(record.age)
}
