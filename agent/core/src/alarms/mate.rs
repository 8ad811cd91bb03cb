//! The alarms of two agents beside each other, of a pair (PAIR-1).
//!
//! ```text
//!            own host        network         the mate's host
//!   standby  judges, tells   has on its disk  has on its disk
//!              │ raises, clears
//!              v
//!   primary  judges          judges           takes from the standby
//! ```
//!
//! What is local to a host has one judge, the agent there, whatever its role. Its alarms all leave
//! through the primary and are in the primary's journal; by the name of their agent they are told apart
//! from those of the other host. Nothing here judges: it only holds what the mate says, and makes of two
//! lists that differ the raises and clears that lead from one to the other.

use std::collections::BTreeMap;

use super::{Alarms, Whose};
use crate::{
    alarm::{Alarm, AlarmEvent, AlarmId, ClearReason, Kind, Object},
    time::Time,
};

impl Alarms {
    /// What the mate is called in alarms.
    pub fn mate_name(&self) -> Option<&str> {
        self.mate.as_ref().map(|mate| mate.name.as_str())
    }

    /// The mate has said its name.
    pub fn set_mate_name(&mut self, name: &str) {
        if let Some(mate) = &mut self.mate {
            name.clone_into(&mut mate.name);
        }
    }

    /// The active alarms that are local to this agent's host.
    pub fn local(&self) -> impl Iterator<Item = &Alarm> {
        self.active.values().filter(|alarm| alarm.object.is_local())
    }

    /// The active alarms of the mate's host, by kind and object.
    pub const fn of_mate(&self) -> &BTreeMap<(Kind, Object), Alarm> {
        &self.of_mate
    }

    /// Takes the network's alarms and those of the mate's host from a copy; those of this host stay as
    /// they are. Returns what the copy lacks of these, and the end of what it has of them and is over: the
    /// journal that the copy is of does not have it yet.
    pub fn adopt(
        &mut self,
        alarms: Vec<Alarm>,
        identities: &[AlarmId],
        now: Time,
    ) -> Vec<AlarmEvent> {
        self.relinquish();
        self.remember(identities);
        let (mut events, mut told) = (Vec::new(), Vec::new());
        for alarm in alarms {
            self.identities.note(alarm.id);
            match self.whose(&alarm) {
                Whose::Mate => self.put_of_mate(alarm),
                Whose::Own if !alarm.object.is_local() => self.put(alarm),
                Whose::Own => {
                    let here = self.active.get(&(alarm.kind, alarm.object.clone()));
                    if here.is_some_and(|here| here.id == alarm.id) {
                        told.push(alarm.id);
                    } else {
                        events.push(self.over(alarm, ClearReason::Ended, now));
                    }
                }
            }
        }
        let untold = self.local().filter(|alarm| !told.contains(&alarm.id));
        events.extend(untold.map(|alarm| raise(alarm.clone(), now)));
        events
    }

    /// Keeps what is local to this host, and forgets all else without a word: the mate has it.
    pub fn relinquish(&mut self) {
        self.of_mate.clear();
        self.active.retain(|(_, object), _| object.is_local());
        self.by_kind = [0; Kind::ALL.len()];
        for (kind, _) in self.active.keys() {
            self.by_kind[*kind as usize] += 1;
        }
    }

    /// Takes in that the mate has raised or cleared an alarm of its host. Returns what that changes.
    pub fn mate_event(&mut self, event: AlarmEvent, now: Time) -> Vec<AlarmEvent> {
        let AlarmEvent { wall, cleared, mut alarm, .. } = event;
        if !alarm.object.is_local() {
            return Vec::new();
        }
        self.call(&mut alarm);
        let mut events = Vec::new();
        let key = (alarm.kind, alarm.object.clone());
        match (cleared, self.of_mate.get(&key).map(|before| before.id)) {
            (None, Some(before)) if before == alarm.id => return events,
            (Some(_), Some(before)) if before != alarm.id => return events,
            (Some(_), None) => return events,
            (None, Some(_)) => events.extend(self.end_of_mate(&key, ClearReason::Ended, now)),
            (None, None) => {}
            (Some(_), Some(_)) => {
                self.take_of_mate(&key);
                events.push(AlarmEvent { at: now, wall, cleared, alarm, term: None });
                return events;
            }
        }
        self.identities.note(alarm.id);
        self.put_of_mate(alarm.clone());
        events.push(AlarmEvent { at: now, wall, cleared: None, alarm, term: None });
        events
    }

    /// Takes in all that the mate's host has active. Returns what that changes.
    pub fn mate_alarms(&mut self, alarms: Vec<Alarm>, now: Time) -> Vec<AlarmEvent> {
        let alarms = alarms.into_iter().filter(|alarm| alarm.object.is_local());
        let all: BTreeMap<(Kind, Object), Alarm> =
            alarms.map(|alarm| ((alarm.kind, alarm.object.clone()), alarm)).collect();
        let same = |key: &(Kind, Object), before: &Alarm| {
            all.get(key).is_some_and(|alarm| alarm.id == before.id)
        };
        let gone = self.of_mate.iter().filter(|(key, before)| !same(key, before));
        let gone: Vec<_> = gone.map(|(key, _)| key.clone()).collect();
        let mut events: Vec<AlarmEvent> = Vec::new();
        for key in gone {
            events.extend(self.end_of_mate(&key, ClearReason::Ended, now));
        }
        for alarm in all.into_values() {
            events.extend(self.mate_event(raise(alarm, now), now));
        }
        events
    }

    pub(super) fn put_of_mate(&mut self, mut alarm: Alarm) {
        self.call(&mut alarm);
        let kind = alarm.kind as usize;
        if self.of_mate.insert((alarm.kind, alarm.object.clone()), alarm).is_none() {
            self.by_kind[kind] += 1;
        }
    }

    fn take_of_mate(&mut self, key: &(Kind, Object)) -> Option<Alarm> {
        let alarm = self.of_mate.remove(key)?;
        self.by_kind[alarm.kind as usize] -= 1;
        Some(alarm)
    }

    fn end_of_mate(
        &mut self,
        key: &(Kind, Object),
        reason: ClearReason,
        now: Time,
    ) -> Option<AlarmEvent> {
        let alarm = self.take_of_mate(key)?;
        Some(self.over(alarm, reason, now))
    }

    /// Names the mate's alarm after the mate; one that calls itself as this agent does is told apart.
    fn call(&self, alarm: &mut Alarm) {
        if alarm.agent.as_ref().is_none_or(|agent| *agent == self.agent) {
            alarm.agent = Some(format!("{} (mate)", self.agent));
        }
    }

    pub(super) fn whose(&self, alarm: &Alarm) -> Whose {
        let own = alarm.agent.as_ref().is_none_or(|agent| *agent == self.agent);
        if own || !alarm.object.is_local() { Whose::Own } else { Whose::Mate }
    }

    /// The end of an alarm whose agent doesn't say how it ended.
    pub(super) fn over(&self, alarm: Alarm, reason: ClearReason, now: Time) -> AlarmEvent {
        let who = alarm.agent.as_deref().unwrap_or(&self.agent);
        let text = format!("{}: {} is over, {who} no longer tells it", alarm.about(), alarm.kind);
        let alarm = Alarm { text, ..alarm };
        AlarmEvent { at: now, wall: self.wall(now), cleared: Some(reason), alarm, term: None }
    }
}

fn raise(alarm: Alarm, now: Time) -> AlarmEvent {
    AlarmEvent { at: now, wall: alarm.raised_at, cleared: None, alarm, term: None }
}
