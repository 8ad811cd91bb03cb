//! The active alarms, and the words that they are told in.
//!
//! This is the only place that knows which alarms are active: a finding that would raise what is
//! raised, or clear what is not, changes nothing (spec, "Alarms").

mod mate;

use std::{collections::BTreeMap, fmt::Display, time::Duration};

use crate::{
    alarm::{Alarm, AlarmEvent, AlarmId, ClearReason, Episode, Kind, Mate, Object},
    finding::Finding,
    identities::{Identities, Of},
    settings::Settings,
    time::{Pretty, Time, WallTime},
};

/// The active alarms.
#[derive(Clone, Debug, Default)]
pub struct Alarms {
    /// Those that this agent has raised and will clear.
    active: BTreeMap<(Kind, Object), Alarm>,
    /// Of a pair, on the primary: those of the mate's host, which the mate raises and clears.
    of_mate: BTreeMap<(Kind, Object), Alarm>,
    by_kind: [u64; Kind::ALL.len()],
    /// What the wall clock shows at the origin of the monotonic clock, in milliseconds.
    origin_ms: i64,
    identities: Identities,
    /// This agent's name.
    agent: String,
    /// The other agent, of a pair.
    mate: Option<Mate>,
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

    /// Sets how the agents are called in what is told.
    pub fn set_names(&mut self, settings: &Settings) {
        self.agent.clone_from(&settings.agent);
        let mut mate = settings.mate.clone();
        if let (Some(mate), Some(before)) = (&mut mate, &self.mate)
            && mate.address == before.address
        {
            // What it has said itself.
            mate.name.clone_from(&before.name);
        }
        self.mate = mate;
    }

    /// Puts back what was active, and which identities were given last. Returns what ends by that: what
    /// was told of the host of another agent, if this one is alone now.
    pub fn restore(
        &mut self,
        alarms: Vec<Alarm>,
        identities: &[AlarmId],
        now: Time,
    ) -> Vec<AlarmEvent> {
        self.remember(identities);
        let mut ended = Vec::new();
        for mut alarm in alarms {
            self.identities.note(alarm.id);
            match self.whose(&alarm) {
                Whose::Own => {
                    alarm.agent = self.agent_of(&alarm.object);
                    self.put(alarm);
                }
                Whose::Mate if self.mate.is_some() => self.put_of_mate(alarm),
                Whose::Mate => ended.push(self.over(alarm, ClearReason::Removed, now)),
            }
        }
        ended
    }

    fn put(&mut self, alarm: Alarm) {
        self.by_kind[alarm.kind as usize] += 1;
        self.active.insert((alarm.kind, alarm.object.clone()), alarm);
    }

    fn remember(&mut self, identities: &[AlarmId]) {
        for id in identities {
            self.identities.note(*id);
        }
    }

    /// The identities that were given last, the oldest first.
    pub fn identities(&self) -> impl Iterator<Item = AlarmId> {
        self.identities.all()
    }

    /// Every active alarm by kind and object, but for those of the mate's host.
    pub const fn active(&self) -> &BTreeMap<(Kind, Object), Alarm> {
        &self.active
    }

    /// Every active alarm, those of the mate's host too.
    pub fn all(&self) -> impl Iterator<Item = &Alarm> {
        self.active.values().chain(self.of_mate.values())
    }

    /// The name of this agent, for what is local to it if it is one of a pair.
    fn agent_of(&self, object: &Object) -> Option<String> {
        (self.mate.is_some() && object.is_local()).then(|| self.agent.clone())
    }

    /// How many are active, in the order of [`Kind::ALL`].
    pub const fn by_kind(&self) -> &[u64; Kind::ALL.len()] {
        &self.by_kind
    }

    /// Turns a finding into the event that others are told, if it changes anything.
    pub fn apply(&mut self, mut finding: Finding) -> Option<AlarmEvent> {
        let wall = self.wall(finding.at);
        let key = (finding.kind, finding.object.clone());
        let agent = self.agent_of(&finding.object);
        let alarm = match finding.cleared {
            None if self.active.contains_key(&key) => return None,
            None => {
                let alarm = Alarm {
                    id: self.identities.give(&Of {
                        agent: agent.as_deref(),
                        kind: finding.kind,
                        object: &finding.object,
                        essence: finding.essence,
                        raised_at: wall,
                    }),
                    kind: finding.kind,
                    severity: finding.kind.severity(),
                    raised_at: wall,
                    text: raised_text(&finding, agent.as_deref()),
                    episode: finding.episode,
                    if_name: finding.if_name,
                    other_if_name: finding.other_if_name,
                    peer_group: finding.peer_group,
                    mate: self.mate.clone().filter(|_| is_of_pair(finding.kind)),
                    agent,
                    object: finding.object,
                };
                if !alarm.kind.is_event() {
                    self.active.insert(key, alarm.clone());
                    self.by_kind[alarm.kind as usize] += 1;
                }
                alarm
            }
            Some(reason) => {
                let alarm = self.active.remove(&key)?;
                self.by_kind[alarm.kind as usize] -= 1;
                // Whoever clears what an earlier run raised may not know the group.
                finding.peer_group = finding.peer_group.or_else(|| alarm.peer_group.clone());
                Alarm {
                    text: cleared_text(&finding, reason, agent.as_deref()),
                    episode: finding.episode.or(alarm.episode),
                    if_name: finding.if_name.or(alarm.if_name),
                    other_if_name: finding.other_if_name.or(alarm.other_if_name),
                    peer_group: finding.peer_group,
                    ..alarm
                }
            }
        };
        Some(AlarmEvent { at: finding.at, wall, cleared: finding.cleared, alarm, term: None })
    }
}

/// Whose an active alarm is.
enum Whose {
    /// This agent's: of its host, or of the network.
    Own,
    /// Of the other agent's host.
    Mate,
}

/// Whether an alarm of this kind tells of the mate.
const fn is_of_pair(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::MateSyncLost
            | Kind::MatePathLost
            | Kind::StandbyUnavailable
            | Kind::FailoverLimitReached
    )
}

/// The object, with what its device calls it, with the group that it is in, or with the agent of a pair
/// whose it is.
fn named(finding: &Finding, agent: Option<&str>) -> String {
    let named = |what: &dyn Display, name: Option<&String>| match name {
        Some(name) => format!("{what} ({name})"),
        None => what.to_string(),
    };
    let Finding { object, if_name, other_if_name, peer_group, .. } = finding;
    if let Object::Link(link) = object {
        let [one, other] = link.ends();
        let one = named(&one, if_name.as_ref());
        return format!("{one} - {}", named(&other, other_if_name.as_ref()));
    }
    let object = object.of_agent(agent);
    named(&object, if_name.as_ref().or(peer_group.as_ref()))
}

fn raised_text(finding: &Finding, agent: Option<&str>) -> String {
    let object = named(finding, agent);
    let detail = finding.detail.as_deref().unwrap_or("no reply");
    match finding.kind {
        Kind::SystemUnstable => {
            format!("system {object} is unstable: {}", counted(finding.episode, "restart traps"))
        }
        Kind::InterfaceUnstable => {
            format!("interface {object} is unstable: {}", counted(finding.episode, "link traps"))
        }
        Kind::InterfaceDown => match &finding.detail {
            Some(detail) => format!("interface {object} is down: {detail}"),
            None => format!("interface {object} is down: linkDown received"),
        },
        Kind::LinkUnstable => {
            let end = finding.detail.as_deref().unwrap_or("an end");
            let traps = format!("link traps of {end}");
            format!("link {object} is unstable: {}", counted(finding.episode, &traps))
        }
        Kind::InterfaceIpDown => format!("{object} is down at the IP level: {detail}"),
        Kind::SubnetDown => format!("subnet {object} is down: {detail}"),
        Kind::PeerDown => format!("peer {object} is down: {detail}"),
        Kind::PeerRestarted => format!("peer {object} has restarted: {detail}"),
        Kind::MassSilence => format!("mass silence: {detail}"),
        Kind::MateSyncLost => format!("the state is not synchronised with {object}: {detail}"),
        Kind::MatePathLost => format!("the path to {object} is lost: {detail}"),
        Kind::StandbyUnavailable => format!("{object} has no standby: {detail}"),
        Kind::FailoverLimitReached => {
            format!("{object} has reached the limit of takeovers: {detail}")
        }
        Kind::ComponentStalled => format!("{object} stands still: {detail}"),
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

fn cleared_text(finding: &Finding, reason: ClearReason, agent: Option<&str>) -> String {
    let object = named(finding, agent);
    let what = match finding.kind {
        Kind::SystemUnstable => format!("system {object} is stable again"),
        // INST-14: it is an end of a link since the configuration was loaded again.
        Kind::InterfaceUnstable if reason == ClearReason::Superseded => {
            format!("interface {object} is no longer told of alone")
        }
        Kind::InterfaceUnstable => format!("interface {object} is stable again"),
        Kind::InterfaceDown => format!("interface {object} is no longer down"),
        Kind::LinkUnstable if reason == ClearReason::Removed => {
            format!("link {object} is no longer told of")
        }
        Kind::LinkUnstable => format!("link {object} is stable again"),
        Kind::InterfaceIpDown => format!("{object} is no longer down at the IP level"),
        Kind::SubnetDown => format!("subnet {object} is no longer down"),
        Kind::PeerDown => format!("peer {object} is no longer down"),
        Kind::PeerRestarted => format!("peer {object} has restarted"),
        Kind::MassSilence => "no more mass silence".to_owned(),
        Kind::MateSyncLost => format!("the state is synchronised with {object} again"),
        Kind::MatePathLost => format!("the path to {object} is back"),
        Kind::StandbyUnavailable => format!("{object} has a standby again"),
        Kind::FailoverLimitReached => format!("{object} may take over again"),
        Kind::ComponentStalled => format!("{object} no longer stands still"),
        Kind::NotificationTargetUnreachable => {
            format!("notification target {object} can be reached again")
        }
        Kind::Overload => format!("{object} is no longer overloaded"),
    };
    let why = match (reason, finding.kind, finding.episode) {
        (ClearReason::Ended, kind, Some(episode)) => {
            let of_link = kind == Kind::LinkUnstable;
            let ends = if of_link { "both ends are, the last of them " } else { "" };
            let quiet = format!(
                "{ends}quiet for {} after {} traps in {}",
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
        (ClearReason::Ended, Kind::InterfaceDown, _) => match &finding.detail {
            Some(detail) => detail.clone(),
            None => "linkUp received".to_owned(),
        },
        (ClearReason::Ended, Kind::PeerDown | Kind::NotificationTargetUnreachable, _) => {
            "it answers".to_owned()
        }
        (ClearReason::Ended, Kind::MassSilence, _) => {
            finding.detail.clone().unwrap_or_else(|| "peers answer again".to_owned())
        }
        (ClearReason::Ended, Kind::Overload, _) => match &finding.detail {
            Some(all) => format!("nothing more was dropped; while it lasted, {all}"),
            None => "nothing more was dropped".to_owned(),
        },
        (ClearReason::Ended, Kind::MateSyncLost, _) => "both have the same state".to_owned(),
        (ClearReason::Ended, Kind::MatePathLost, _) => "heartbeats come".to_owned(),
        (ClearReason::Ended, Kind::StandbyUnavailable, _) => {
            "the mate or a witness is reached, and the versions fit".to_owned()
        }
        (ClearReason::Ended, Kind::FailoverLimitReached, _) => {
            "the takeovers that were counted are long enough ago".to_owned()
        }
        (ClearReason::Ended, Kind::ComponentStalled, _) => "it shows signs of life".to_owned(),
        (ClearReason::Ended, _, _) => "polls are answered".to_owned(),
        (ClearReason::Superseded, ..) => {
            format!("{}, which says more", finding.detail.as_deref().unwrap_or("it is unstable"))
        }
        (ClearReason::TurnedOff, ..) => "the configuration turned it off".to_owned(),
        (ClearReason::Removed, Kind::LinkUnstable, _) => {
            "the configuration no longer joins its ends".to_owned()
        }
        (ClearReason::Removed, Kind::PeerDown, _) => "it is no longer monitored".to_owned(),
        (
            ClearReason::Removed,
            Kind::MateSyncLost
            | Kind::MatePathLost
            | Kind::StandbyUnavailable
            | Kind::FailoverLimitReached
            | Kind::ComponentStalled,
            _,
        ) => "the configuration no longer has it".to_owned(),
        (ClearReason::Removed, Kind::InterfaceDown, _) => {
            "nothing is polled from it any more".to_owned()
        }
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

    /// A finding about a peer of the group `core`.
    fn of_peer(kind: Kind, cleared: Option<ClearReason>, detail: Option<&str>) -> Finding {
        Finding {
            at: Time::from_secs(1),
            kind,
            object: Object::Peer("192.0.2.7".parse().unwrap()),
            cleared,
            episode: None,
            if_name: None,
            other_if_name: None,
            peer_group: Some("core".to_owned()),
            detail: detail.map(str::to_owned),
            essence: 0,
        }
    }

    #[test]
    fn peer_2_peer_9_peer_15_what_alarms_of_peers_say() {
        let monitor = |cleared, detail: Option<&str>| Finding {
            object: Object::PeerMonitor,
            peer_group: None,
            ..of_peer(Kind::MassSilence, cleared, detail)
        };
        let (down, restarted) = (Kind::PeerDown, Kind::PeerRestarted);
        let (ended, removed) = (Some(ClearReason::Ended), Some(ClearReason::Removed));
        for (finding, text) in [
            (
                of_peer(down, None, Some("no answer to 3 requests in 9s")),
                "peer 192.0.2.7 (core) is down: no answer to 3 requests in 9s",
            ),
            (of_peer(down, ended, None), "peer 192.0.2.7 (core) is no longer down: it answers"),
            (of_peer(down, None, None), "peer 192.0.2.7 (core) is down: no reply"),
            (
                of_peer(down, removed, None),
                "peer 192.0.2.7 (core) is no longer down: it is no longer monitored",
            ),
            (
                // What a restart finds in the journal and nobody wants any more.
                Finding { peer_group: None, ..of_peer(down, removed, None) },
                "peer 192.0.2.7 (core) is no longer down: it is no longer monitored",
            ),
            (
                of_peer(down, Some(ClearReason::TurnedOff), None),
                "peer 192.0.2.7 (core) is no longer down: the configuration turned it off",
            ),
            (
                of_peer(restarted, None, Some("its restart counter went from 3 to 4")),
                "peer 192.0.2.7 (core) has restarted: its restart counter went from 3 to 4",
            ),
            (
                monitor(None, Some("12801 of 128000 peers are silent")),
                "mass silence: 12801 of 128000 peers are silent",
            ),
            (monitor(ended, None), "no more mass silence: peers answer again"),
        ] {
            let mut alarms = Alarms::default();
            if finding.cleared.is_some() {
                let raise = Finding { cleared: None, detail: None, ..finding.clone() };
                let group = (finding.kind != Kind::MassSilence).then(|| "core".to_owned());
                alarms.apply(Finding { peer_group: group, ..raise }).unwrap();
            }
            let event = alarms.apply(finding).unwrap();
            assert_eq!(event.alarm.text, text);
            assert_eq!(event.alarm.severity, event.alarm.kind.severity());
        }
    }

    #[test]
    fn peer_15_a_restart_is_told_each_time_and_is_never_active() {
        let mut alarms = Alarms::default();
        let restarted = || of_peer(Kind::PeerRestarted, None, Some("once more"));
        let first = alarms.apply(restarted()).unwrap();
        let second = alarms.apply(restarted()).unwrap();
        assert_ne!(first.alarm.id, second.alarm.id, "two restarts are two events");
        assert_eq!((alarms.active().len(), alarms.by_kind()), (0, &[0; Kind::ALL.len()]));
        let cleared = of_peer(Kind::PeerRestarted, Some(ClearReason::Ended), None);
        assert_eq!(alarms.apply(cleared), None, "an event has no clear");
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
