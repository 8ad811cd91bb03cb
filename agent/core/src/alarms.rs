//! The active alarms, and the words that they are told in.
//!
//! This is the only place that knows which alarms are active: a finding that would raise what is
//! raised, or clear what is not, changes nothing (spec, "Alarms").

use std::{collections::BTreeMap, time::Duration};

use crate::{
    alarm::{Alarm, AlarmEvent, AlarmId, ClearReason, Episode, Kind, Object},
    finding::Finding,
    time::{Pretty, Time, WallTime},
};

/// The active alarms.
#[derive(Clone, Debug, Default)]
pub struct Alarms {
    active: BTreeMap<(Kind, Object), Alarm>,
    by_kind: [u64; Kind::ALL.len()],
    /// What the wall clock shows at the origin of the monotonic clock, in milliseconds.
    origin_ms: i64,
    /// How many were raised in this run.
    raised: u64,
}

impl Alarms {
    /// Sets the wall clock that alarms are stamped with.
    pub const fn set_wall_clock(&mut self, origin_ms: i64) {
        self.origin_ms = origin_ms;
    }

    /// What the wall clock shows at a moment.
    pub const fn wall(&self, at: Time) -> WallTime {
        WallTime(self.origin_ms.saturating_add(at.as_millis() as i64))
    }

    /// Puts back what was active.
    pub fn restore(&mut self, alarms: Vec<Alarm>) {
        for alarm in alarms {
            self.by_kind[alarm.kind as usize] += 1;
            self.active.insert((alarm.kind, alarm.object.clone()), alarm);
        }
    }

    /// Every active alarm by kind and object.
    pub const fn active(&self) -> &BTreeMap<(Kind, Object), Alarm> {
        &self.active
    }

    /// How many are active, in the order of [`Kind::ALL`].
    pub const fn by_kind(&self) -> &[u64; Kind::ALL.len()] {
        &self.by_kind
    }

    /// Turns a finding into the event that others are told, if it changes anything.
    pub fn apply(&mut self, finding: Finding) -> Option<AlarmEvent> {
        let wall = self.wall(finding.at);
        let key = (finding.kind, finding.object.clone());
        let alarm = match finding.cleared {
            None if self.active.contains_key(&key) => return None,
            None => {
                let alarm = Alarm {
                    id: self.identity(finding.kind, &finding.object, wall),
                    kind: finding.kind,
                    severity: finding.kind.severity(),
                    raised_at: wall,
                    text: raised_text(&finding),
                    episode: finding.episode,
                    if_name: finding.if_name,
                    object: finding.object,
                };
                self.active.insert(key, alarm.clone());
                self.by_kind[alarm.kind as usize] += 1;
                alarm
            }
            Some(reason) => {
                let alarm = self.active.remove(&key)?;
                self.by_kind[alarm.kind as usize] -= 1;
                Alarm {
                    text: cleared_text(&finding, reason),
                    episode: finding.episode.or(alarm.episode),
                    if_name: finding.if_name.or(alarm.if_name),
                    ..alarm
                }
            }
        };
        Some(AlarmEvent { at: finding.at, wall, cleared: finding.cleared, alarm })
    }

    /// The identity of an alarm: a hash over what it is about, when it began, and how many were
    /// raised before it in this run, as one object may have two within a millisecond. A replay of
    /// the run gives the same.
    fn identity(&mut self, kind: Kind, object: &Object, raised_at: WallTime) -> AlarmId {
        let before = self.raised;
        self.raised += 1;
        AlarmId(hash(&format!("{kind} {object} {} {before}", raised_at.0)))
    }
}

/// FNV-1a.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, octet| {
        (hash ^ u64::from(octet)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The object, with what its device calls it.
fn named(finding: &Finding) -> String {
    match &finding.if_name {
        Some(name) => format!("{} ({name})", finding.object),
        None => finding.object.to_string(),
    }
}

fn raised_text(finding: &Finding) -> String {
    let object = named(finding);
    let detail = finding.detail.as_deref().unwrap_or("no reply");
    match finding.kind {
        Kind::SystemUnstable => {
            format!("system {object} is unstable: {}", counted(finding.episode, "restart traps"))
        }
        Kind::InterfaceUnstable => {
            format!("interface {object} is unstable: {}", counted(finding.episode, "link traps"))
        }
        Kind::InterfaceDown => format!("interface {object} is down: linkDown received"),
        Kind::InterfaceIpDown => format!("{object} is down at the IP level: {detail}"),
        Kind::SubnetDown => format!("subnet {object} is down: {detail}"),
        Kind::NotificationTargetUnreachable => {
            format!("notification target {object} is unreachable: {detail}")
        }
        Kind::Overload => format!("{object} is overloaded: {detail}"),
    }
}

fn counted(episode: Option<Episode>, traps: &str) -> String {
    let Some(Episode { traps: count, window, threshold, unstable_time, .. }) = episode else {
        return format!("too many {traps}");
    };
    let (span, window) = (Pretty(unstable_time), Pretty(window));
    format!("{count} {traps} within {span} (trap window {window}, threshold {threshold})")
}

fn cleared_text(finding: &Finding, reason: ClearReason) -> String {
    let object = named(finding);
    let what = match finding.kind {
        Kind::SystemUnstable => format!("system {object} is stable again"),
        Kind::InterfaceUnstable => format!("interface {object} is stable again"),
        Kind::InterfaceDown => format!("interface {object} is no longer down"),
        Kind::InterfaceIpDown => format!("{object} is no longer down at the IP level"),
        Kind::SubnetDown => format!("subnet {object} is no longer down"),
        Kind::NotificationTargetUnreachable => {
            format!("notification target {object} can be reached again")
        }
        Kind::Overload => format!("{object} is no longer overloaded"),
    };
    let why = match (reason, finding.kind, finding.episode) {
        (ClearReason::Ended, _, Some(episode)) => {
            let quiet = format!(
                "quiet for {} after {} traps in {}",
                Pretty(episode.stable_time),
                episode.traps,
                Pretty(rounded(episode.unstable_time)),
            );
            // TRAP-8: the clear tells what was held back.
            match episode.suppressed {
                0 => quiet,
                suppressed => format!("{quiet}, of which {suppressed} were not forwarded"),
            }
        }
        (ClearReason::Ended, Kind::InterfaceDown, _) => "linkUp received".to_owned(),
        (ClearReason::Ended, Kind::NotificationTargetUnreachable, _) => "it answers".to_owned(),
        (ClearReason::Ended, Kind::Overload, _) => match &finding.detail {
            Some(all) => format!("nothing more was dropped; while it lasted, {all}"),
            None => "nothing more was dropped".to_owned(),
        },
        (ClearReason::Ended, _, _) => "polls are answered".to_owned(),
        (ClearReason::Superseded, ..) => "it is unstable, which says more".to_owned(),
        (ClearReason::TurnedOff, ..) => "the configuration turned it off".to_owned(),
        (ClearReason::Removed, ..) => "its address is gone from this host".to_owned(),
        (ClearReason::GaveWay, ..) => "forgotten, as the table of objects is full".to_owned(),
    };
    format!("{what}: {why}")
}

/// To milliseconds, as receipt times are finer than anyone reads.
fn rounded(duration: Duration) -> Duration {
    Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipnet::IpNet;

    fn subnet() -> Object {
        Object::Subnet("192.0.2.0/24".parse::<IpNet>().unwrap())
    }

    #[test]
    fn an_alarm_is_never_raised_twice_without_a_clear_between() {
        let mut alarms = Alarms::default();
        let raise = |secs| {
            Finding::raise(Kind::SubnetDown, subnet(), "no reply".into(), Time::from_secs(secs))
        };
        let clear = |secs| {
            Finding::clear(Kind::SubnetDown, subnet(), ClearReason::Ended, Time::from_secs(secs))
        };
        assert_eq!(alarms.apply(clear(0)), None, "nothing to clear");
        let first = alarms.apply(raise(1)).unwrap();
        assert_eq!(alarms.apply(raise(2)), None);
        let cleared = alarms.apply(clear(3)).unwrap();
        assert_eq!(cleared.alarm.id, first.alarm.id, "one identity from raise to clear");
        assert_eq!(cleared.alarm.raised_at, first.wall);
        assert_eq!(alarms.apply(clear(4)), None);
        assert_ne!(alarms.apply(raise(5)).unwrap().alarm.id, first.alarm.id);
    }

    #[test]
    fn alarms_are_stamped_with_the_wall_clock() {
        let mut alarms = Alarms::default();
        alarms.set_wall_clock(1_000_000);
        let raise =
            Finding::raise(Kind::SubnetDown, subnet(), "no reply".into(), Time::from_millis(2500));
        assert_eq!(alarms.apply(raise).unwrap().wall, WallTime(1_002_500));
    }
}
