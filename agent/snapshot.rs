//! A copy of what there is to see, taken by the driver between two inputs, so that it is all of
//! one moment and costs the driver little.

use std::{
    cmp::{Ordering, Reverse},
    collections::BTreeMap,
    sync::Arc,
    time::Duration,
};

use evenkeel_core::{
    agent::Agent,
    alarm::{Alarm, Episode, Kind, Link, Object},
    counters::{Counters, Rejected},
    flow::FlowState,
    plan::FlowKey,
    shadow::ShadowStats,
    subnets::{FlowCounters, SubnetView},
    time::{Time, WallTime},
    usm::{LocalEngine, UsmStats},
};

use crate::{ear::EarStats, forwarder::ForwardStats, spool, store};

/// How much is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Detail {
    /// How many active alarms at most.
    pub alarms: usize,
    /// How many unstable objects at most.
    pub episodes: usize,
    /// The rejected datagrams, too.
    pub rejected: bool,
}

/// What there was to see.
pub struct Snapshot {
    /// When it was taken, on the wall clock.
    pub at: WallTime,
    /// What the core has counted.
    pub counters: Counters,
    /// Active alarms in the order of [`Kind::ALL`].
    pub active: [u64; Kind::ALL.len()],
    /// Some of them, the worst and then the newest first.
    pub alarms: Vec<Alarm>,
    /// Systems and interfaces in memory.
    pub objects: usize,
    /// How many gave way (INST-16).
    pub gave_way: u64,
    /// How many are unstable.
    pub unstable: u64,
    /// How many links are in force (INST-14).
    pub links: usize,
    /// Some of them, those unstable longest first.
    pub episodes: Vec<UnstableObject>,
    /// Objects that count and are not unstable, those of the latest traps first: [`COUNTING`] of them at
    /// most, and none if no episodes are wanted.
    pub counting: Vec<CountingObject>,
    /// The subnets.
    pub subnets: Vec<SubnetView>,
    /// The flows.
    pub flows: Vec<FlowCopy>,
    /// The last rejected datagrams, if they were asked for.
    pub rejected: Vec<Rejected>,
    /// Changed records that wait for the store.
    pub changes_waiting: usize,
    /// How the trap ear fares.
    pub traps: Option<Arc<EarStats>>,
    /// How the reply ear fares, if there is one.
    pub replies: Option<Arc<EarStats>>,
    /// ICMP messages that were no answer, by reason.
    pub discarded_replies: BTreeMap<&'static str, u64>,
    /// How the store fares.
    pub store: store::Stats,
    /// How the spool fares.
    pub spool: spool::Stats,
    /// How the forwarder's targets fare.
    pub forwards: Vec<ForwardStats>,
    /// Octets that wait for the forwarder.
    pub forwarder_waiting: usize,
    /// The names of all notification targets, in the order of [`Counters::forwarded`].
    pub forward_targets: Vec<String>,
    /// What became of messages of SNMPv3.
    pub usm: UsmStats,
    /// What a standby has kept of the traps that came to it (PAIR-12).
    pub shadow: ShadowStats,
    /// SNMP engines in memory.
    pub engines: usize,
    /// Our own SNMP engine.
    pub local_engine: LocalEngine,
}

/// What the driver knows beside the core.
pub struct Around {
    /// ICMP messages that were no answer, by reason.
    pub discarded_replies: BTreeMap<&'static str, u64>,
    /// How the store fares.
    pub store: store::Stats,
    /// How the spool fares.
    pub spool: spool::Stats,
    /// How the forwarder's targets fare, and the octets that wait.
    pub forwards: (Vec<ForwardStats>, usize),
    /// What a standby keeps of the traps that come to it.
    pub shadow: ShadowStats,
}

/// An object with counted traps in its trap window, fewer than the threshold.
pub struct CountingObject {
    /// Which one.
    pub object: Object,
    /// What the device calls the interface.
    pub if_name: Option<String>,
}

/// Objects that count are shown so many at most: one trap is enough to be among them, so a storm brings
/// others at each look, and each costs whoever keeps a history of them.
pub const COUNTING: usize = 100;

/// An unstable object, with ages instead of moments.
pub struct UnstableObject {
    /// Which one.
    pub object: Object,
    /// What the device calls the interface.
    pub if_name: Option<String>,
    /// The link that it is an end of.
    pub link: Option<Link>,
    /// How long ago *first* was received.
    pub first: Duration,
    /// How long ago *last* was received.
    pub last: Duration,
    /// How long until it is stable if nothing more comes.
    pub ends: Duration,
    /// The numbers.
    pub episode: Episode,
}

/// A flow.
pub struct FlowCopy {
    /// Which one.
    pub key: FlowKey,
    /// Its state.
    pub state: FlowState,
    /// Why its latest missed poll was missed.
    pub reason: Option<String>,
    /// Its counters.
    pub counters: FlowCounters,
}

impl Snapshot {
    /// How many traps the rules have sent on to a notification target.
    pub fn forwarded_to(&self, target: &str) -> u64 {
        let place = self.forward_targets.iter().position(|name| name == target);
        place.and_then(|place| self.counters.forwarded.get(place).copied()).unwrap_or(0)
    }

    /// Copies it.
    pub fn take(
        detail: Detail,
        agent: &Agent,
        now: Time,
        traps: Option<Arc<EarStats>>,
        replies: Option<Arc<EarStats>>,
        around: Around,
    ) -> Snapshot {
        let Around { discarded_replies, store, spool, forwards, shadow } = around;
        let (forwards, forwarder_waiting) = forwards;
        let forward_targets = &agent.settings().forwarding.targets;
        let instability = agent.instability();
        let alarms = first(agent.alarms().all(), detail.alarms, |one, other| {
            let key = |alarm: &Alarm| (alarm.severity, Reverse(alarm.raised_at), alarm.id);
            key(one).cmp(&key(other))
        });
        let episodes = first(instability.episodes(), detail.episodes, |one, other| {
            (one.first, &one.object).cmp(&(other.first, &other.object))
        });
        let most = if detail.episodes > 0 { COUNTING } else { 0 };
        let counting = first(instability.counting(now), most, |one, other| {
            (Reverse(one.last), &one.object).cmp(&(Reverse(other.last), &other.object))
        });
        Snapshot {
            shadow,
            at: agent.alarms().wall(now),
            counters: agent.counters().clone(),
            active: *agent.alarms().by_kind(),
            alarms: alarms.into_iter().cloned().collect(),
            objects: instability.objects(),
            gave_way: instability.gave_way(),
            unstable: instability.unstable(),
            links: instability.links(),
            episodes: episodes
                .into_iter()
                .map(|view| UnstableObject {
                    object: view.object,
                    if_name: view.if_name.map(str::to_owned),
                    link: view.link,
                    first: now.since(view.first),
                    last: now.since(view.last),
                    ends: view.ends.since(now),
                    episode: view.episode,
                })
                .collect(),
            counting: counting
                .into_iter()
                .map(|view| CountingObject {
                    object: view.object,
                    if_name: view.if_name.map(str::to_owned),
                })
                .collect(),
            subnets: agent.subnets().subnets().collect(),
            flows: agent
                .subnets()
                .flows()
                .map(|view| FlowCopy {
                    key: view.key.clone(),
                    state: view.state,
                    reason: view.reason,
                    counters: view.counters,
                })
                .collect(),
            rejected: match detail.rejected {
                true => agent.rejected().iter().cloned().collect(),
                false => Vec::new(),
            },
            changes_waiting: instability.changes_waiting(),
            traps,
            replies,
            discarded_replies,
            store,
            spool,
            forwards,
            forwarder_waiting,
            forward_targets: forward_targets.iter().map(|target| target.name.clone()).collect(),
            usm: agent.usm().stats().clone(),
            engines: agent.usm().engines(),
            local_engine: agent.usm().local().clone(),
        }
    }
}

/// The first `most` in this order, sorted. Of 128,000 alarms most are looked at once and put aside:
/// to collect them all would hold up the driver for twice as long, and to sort them for much longer.
pub fn first<T>(
    all: impl IntoIterator<Item = T>,
    most: usize,
    order: impl Fn(&T, &T) -> Ordering,
) -> Vec<T> {
    let mut kept: Vec<T> = Vec::new();
    let Some(last) = most.checked_sub(1) else { return kept };
    let mut enough = false;
    for one in all {
        // From when there are enough, the last of them stays in its place.
        if enough && order(&one, &kept[last]).is_ge() {
            continue;
        }
        kept.push(one);
        if kept.len() == most.saturating_mul(2) {
            kept.select_nth_unstable_by(last, &order);
            kept.truncate(most);
            enough = true;
        }
    }
    kept.sort_by(order);
    kept.truncate(most);
    kept
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::first;

    proptest! {
        #[test]
        fn the_first_are_those_of_the_sorted_whole(all in vec(any::<u8>(), 0..200), most in 0_usize..20) {
            let mut sorted = all.clone();
            sorted.sort_unstable();
            sorted.truncate(most);
            prop_assert_eq!(first(all.iter().copied(), most, u8::cmp), sorted);
            prop_assert_eq!(first(all.clone(), usize::MAX, u8::cmp).len(), all.len());
        }
    }
}
