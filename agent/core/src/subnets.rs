//! Flows, interfaces and subnets: whether IP works from this host (the rules of `subnets.md`).
//!
//! All flows have one poll interval, so those that wait stand in one queue in the order of their
//! next poll, and the head of the queue is the only deadline. A flow keeps its phase for ever: the
//! next poll is counted from when the last one was due, not from when it was sent.

mod judging;
mod links;
mod pairs;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::IpAddr,
    time::Duration,
};

use ipnet::IpNet;

use self::pairs::Pair;
use crate::{
    alarm::{ClearReason, Kind, Object},
    finding::Finding,
    flow::{Flow, FlowState, Judgement, Miss, ReplyOutcome},
    input::{Echo, Event, Host, Move, Reply, SendFailed, Verdict},
    plan::{FlowKey, Plan, PlannedSubnet, is_link_local, plan},
    settings::Subnets as Settings,
    state::StandbyRecord,
    time::Time,
};

pub use self::{
    judging::{InterfaceView, SubnetView},
    pairs::Moves,
};

/// A poll that is judged this long after it was due says that this agent stood still: half of the
/// shortest poll interval, and a hundred times what a busy agent needs.
pub const STALL: Duration = Duration::from_millis(500);

/// All flows of this host.
#[derive(Debug)]
pub struct Subnets {
    settings: Settings,
    host: Host,
    host_known: bool,
    identifier: u16,
    subnets: Vec<PlannedSubnet>,
    flows: Vec<Entry>,
    /// When each flow is next to be judged and polled, and its place in `flows`.
    queue: VecDeque<(Time, usize)>,
    by_addresses: BTreeMap<(IpAddr, IpAddr), Vec<usize>>,
    interfaces_down: BTreeSet<(IpNet, String)>,
    subnets_down: BTreeSet<IpNet>,
    /// Interfaces whose link is gone, and of which nothing worse is told.
    links_down: BTreeSet<String>,
    /// Configured subnets that this host has had an address on.
    carried: BTreeSet<IpNet>,
    /// Those that it has none on any more, and when that makes them down.
    lost: BTreeMap<IpNet, Time>,
    /// Those that have a standby interface.
    pairs: BTreeMap<IpNet, Pair>,
    /// What an earlier run knew of those, until this host is known.
    recorded: Vec<StandbyRecord>,
    moves: VecDeque<Move>,
    warnings: Vec<String>,
}

#[derive(Debug)]
struct Entry {
    key: FlowKey,
    flow: Flow,
    send_error: Option<String>,
    counters: FlowCounters,
}

/// What happened to the polls of one flow since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowCounters {
    /// Echoes handed out for sending.
    pub polls: u64,
    /// Polls that had no reply in time.
    pub missed: u64,
    /// Polls that this agent's own stall spoiled.
    pub inconclusive: u64,
    /// Replies by what they were worth, in the order of [`ReplyOutcome::ALL`].
    pub replies: [u64; ReplyOutcome::ALL.len()],
    /// The latest round-trip time.
    pub round_trip: Option<Duration>,
}

/// A flow, as others see it.
#[derive(Clone, Debug)]
pub struct FlowView<'a> {
    /// Which one.
    pub key: &'a FlowKey,
    /// Its state.
    pub state: FlowState,
    /// Why the latest missed poll was missed, in words; nothing once one was answered.
    pub reason: Option<String>,
    /// Its counters.
    pub counters: FlowCounters,
}

impl Subnets {
    /// A monitor that polls nothing until it is told of the host. `identifier` is put into every
    /// echo.
    pub const fn new(settings: Settings, identifier: u16) -> Subnets {
        Subnets {
            settings,
            host: Host { interfaces: Vec::new() },
            host_known: false,
            identifier,
            subnets: Vec::new(),
            flows: Vec::new(),
            queue: VecDeque::new(),
            by_addresses: BTreeMap::new(),
            interfaces_down: BTreeSet::new(),
            subnets_down: BTreeSet::new(),
            links_down: BTreeSet::new(),
            carried: BTreeSet::new(),
            lost: BTreeMap::new(),
            pairs: BTreeMap::new(),
            recorded: Vec::new(),
            moves: VecDeque::new(),
            warnings: Vec::new(),
        }
    }

    /// The alarms that an earlier run had raised (SUBN-4). They are cleared when polls are
    /// answered, or when the first plan does not hold their object. And where it had moved the
    /// addresses of subnets that have a standby interface.
    pub fn restore<'a>(
        &mut self,
        raised: impl Iterator<Item = (Kind, &'a Object)>,
        recorded: Vec<StandbyRecord>,
    ) {
        self.recorded = recorded;
        for (kind, object) in raised {
            match (kind, object) {
                (Kind::InterfaceIpDown, Object::LocalInterface { interface, subnet }) => {
                    self.interfaces_down.insert((*subnet, interface.clone()));
                }
                (Kind::InterfaceDown, Object::OwnInterface(interface)) => {
                    self.links_down.insert(interface.clone());
                }
                (Kind::SubnetDown, Object::Subnet(subnet)) => {
                    self.subnets_down.insert(*subnet);
                    self.carried.insert(*subnet);
                }
                _ => {}
            }
        }
    }

    /// Follows this host's interfaces and addresses (SUBN-12).
    pub fn set_host(
        &mut self,
        host: Host,
        now: Time,
        found: &mut Vec<Finding>,
        events: &mut VecDeque<Event>,
    ) {
        self.host = host;
        self.host_known = true;
        self.draw_plan(now, found, events);
    }

    /// Puts new settings in force.
    pub fn reload(
        &mut self,
        settings: Settings,
        now: Time,
        found: &mut Vec<Finding>,
        events: &mut VecDeque<Event>,
    ) {
        let interval_changed = settings.poll_interval != self.settings.poll_interval;
        self.settings = settings;
        if interval_changed {
            // The queue holds for one interval only: every flow begins a new round.
            self.queue.clear();
            // What is under way is judged before it was due, so its silence says nothing.
            self.spoil();
        }
        // Before the first look at this host nothing is known to be gone, and no alarm of an
        // earlier run may be cleared (spec, "Alarms").
        if self.host_known {
            self.draw_plan(now, found, events);
        }
    }

    fn draw_plan(&mut self, now: Time, found: &mut Vec<Finding>, events: &mut VecDeque<Event>) {
        let Plan { subnets, flows, warnings } = plan(&self.settings, &self.host);
        events.extend(
            warnings
                .iter()
                .filter(|warning| !self.warnings.contains(warning))
                .map(|warning| Event::Warning(warning.clone())),
        );
        self.warnings = warnings;
        self.subnets = subnets;
        self.set_flows(flows, now);
        self.set_pairs(now);
        self.clear_what_is_gone(now, found);
        let prefixes: Vec<IpNet> = self.subnets.iter().map(|subnet| subnet.prefix).collect();
        for prefix in prefixes {
            self.judge_subnet(prefix, now, found);
        }
        self.judge_links(now, found);
    }

    /// Keeps the flows that are still planned, with all they know, and adds new ones with their
    /// first polls spread over an interval.
    fn set_flows(&mut self, keys: Vec<FlowKey>, now: Time) {
        let due: BTreeMap<usize, Time> =
            self.queue.drain(..).map(|(due, flow)| (flow, due)).collect();
        let mut known: BTreeMap<FlowKey, (Entry, Option<Time>)> = std::mem::take(&mut self.flows)
            .into_iter()
            .enumerate()
            .map(|(place, entry)| (entry.key.clone(), (entry, due.get(&place).copied())))
            .collect();
        self.by_addresses.clear();
        let count = u32::try_from(keys.len()).unwrap_or(u32::MAX).max(1);
        for (place, key) in (0u32..).zip(keys) {
            let spread = now + self.settings.poll_interval * place / count;
            let (mut entry, due) = known.remove(&key).unwrap_or_else(|| {
                // Sequence numbers of flows differ, so that a reply that strays to another flow is
                // told from its own.
                let sequence = (place as u16).wrapping_mul(2503);
                let flow = Flow::new(self.settings.in_a_row, sequence);
                let counters = FlowCounters::default();
                (Entry { key, flow, send_error: None, counters }, None)
            });
            entry.flow.set_in_a_row(self.settings.in_a_row);
            let addresses = (entry.key.local, entry.key.polled);
            self.by_addresses.entry(addresses).or_default().push(place as usize);
            self.queue.push_back((due.unwrap_or(spread), place as usize));
            self.flows.push(entry);
        }
        self.sort_queue();
    }

    fn sort_queue(&mut self) {
        self.queue.make_contiguous().sort_unstable();
    }

    /// Clears the alarms of interfaces and subnets that are no longer judged (SUBN-12), and
    /// starts to wait for the address of a configured subnet that has lost its last one.
    fn clear_what_is_gone(&mut self, now: Time, found: &mut Vec<Finding>) {
        let planned: BTreeMap<IpNet, bool> =
            self.subnets.iter().map(|subnet| (subnet.prefix, subnet.configured)).collect();
        let polled: BTreeSet<(IpNet, String)> = self
            .flows
            .iter()
            .map(|entry| (entry.key.subnet, entry.key.interface.clone()))
            .collect();
        let gone = self.interfaces_down.difference(&polled);
        // What is down as its addresses were moved away is not polled, and yet judged.
        let gone = gone.filter(|(subnet, interface)| !self.has_left(*subnet, interface));
        let gone: Vec<_> = gone.cloned().collect();
        for (subnet, interface) in gone {
            let reason = if planned.contains_key(&subnet) {
                ClearReason::Removed
            } else {
                self.reason_unplanned(subnet)
            };
            self.interfaces_down.remove(&(subnet, interface.clone()));
            let object = Object::LocalInterface { interface, subnet };
            found.push(Finding::clear(Kind::InterfaceIpDown, object, reason, now));
        }
        for &subnet in self.subnets_down.clone().difference(&planned.keys().copied().collect()) {
            self.subnets_down.remove(&subnet);
            let reason = self.reason_unplanned(subnet);
            found.push(Finding::clear(Kind::SubnetDown, Object::Subnet(subnet), reason, now));
        }
        self.carried.retain(|subnet| planned.get(subnet) == Some(&true));
        self.lost.retain(|subnet, _| planned.contains_key(subnet));
        let grace = self.polls();
        for (&subnet, _) in planned.iter().filter(|(_, configured)| **configured) {
            if polled.iter().any(|(polled, _)| *polled == subnet) {
                self.carried.insert(subnet);
                self.lost.remove(&subnet);
            } else if self.carried.contains(&subnet) && !self.subnets_down.contains(&subnet) {
                self.lost.entry(subnet).or_insert(now + grace);
            }
        }
    }

    /// Why a subnet is no longer judged: by the configuration, or as it left this host.
    fn reason_unplanned(&self, subnet: IpNet) -> ClearReason {
        let on_host = self.host.interfaces.iter().any(|interface| {
            interface.addresses.iter().any(|local| subnet.contains(&local.addr()))
        });
        if on_host { ClearReason::TurnedOff } else { ClearReason::Removed }
    }

    /// When something is next to be judged or sent.
    pub fn next_deadline(&self) -> Option<Time> {
        let poll = self.queue.front().map(|&(due, _)| due);
        let lost = self.lost.values().copied();
        poll.into_iter().chain(lost).chain(self.next_move()).min()
    }

    /// Judges the polls that were due by `heard`, up to which all replies have been handed in, and
    /// sends the next ones. Returns how long this agent stood still, if it did.
    pub fn turn(
        &mut self,
        now: Time,
        heard: Time,
        found: &mut Vec<Finding>,
        events: &mut VecDeque<Event>,
        echoes: &mut VecDeque<Echo>,
    ) -> Option<Duration> {
        let interval = self.settings.poll_interval;
        let mut stalled_for = Duration::ZERO;
        while let Some(&(due, place)) = self.queue.front() {
            if due > now.min(heard) {
                break;
            }
            self.queue.pop_front();
            let late = now.since(due);
            let stalled = late > STALL;
            stalled_for = stalled_for.max(if stalled { late } else { Duration::ZERO });
            self.judge_flow(place, stalled, due, found, events);
            if stalled {
                // What was missed is not sent at once: the flow goes on in its old phase.
                let rounds = late.as_nanos() / interval.as_nanos() + 1;
                let rounds = u32::try_from(rounds).unwrap_or(u32::MAX);
                self.queue.push_back((due + interval * rounds, place));
            } else {
                self.send_poll(place, now, due + interval, echoes);
                self.queue.push_back((due + interval, place));
            }
        }
        if !stalled_for.is_zero() {
            self.sort_queue();
        }
        let lost: Vec<IpNet> =
            self.lost.iter().filter(|(_, due)| **due <= now).map(|(&subnet, _)| subnet).collect();
        for subnet in lost {
            let at = self.lost.remove(&subnet).unwrap_or(now);
            self.subnets_down.insert(subnet);
            found.push(Finding::raise(
                Kind::SubnetDown,
                Object::Subnet(subnet),
                "no interface of this host has an address on it any more".to_owned(),
                at,
            ));
        }
        self.turn_pairs(now, found);
        (!stalled_for.is_zero()).then_some(stalled_for)
    }

    fn judge_flow(
        &mut self,
        place: usize,
        stalled: bool,
        due: Time,
        found: &mut Vec<Finding>,
        events: &mut VecDeque<Event>,
    ) {
        let entry = &mut self.flows[place];
        let (judgement, change) = entry.flow.judge(stalled);
        match judgement {
            Judgement::Answered => {}
            Judgement::Missed => entry.counters.missed += 1,
            Judgement::Inconclusive => entry.counters.inconclusive += 1,
        }
        if change.is_some() {
            self.flow_changed(place, due, found, events);
        }
    }

    fn send_poll(&mut self, place: usize, now: Time, due: Time, echoes: &mut VecDeque<Echo>) {
        let entry = &mut self.flows[place];
        entry.counters.polls += 1;
        echoes.push_back(Echo {
            local: entry.key.local,
            interface: entry.key.index,
            polled: entry.key.polled,
            identifier: self.identifier,
            sequence: entry.flow.poll(now, due),
        });
    }

    /// How long the polls take that make a flow up or down (SUBN-3).
    fn polls(&self) -> Duration {
        self.settings.poll_interval * u32::from(self.settings.in_a_row.get())
    }

    /// Notes that replies were lost at this host, whichever they were.
    pub fn spoil(&mut self) {
        self.flows.iter_mut().for_each(|entry| entry.flow.spoil());
    }

    /// Takes in a reply (SUBN-2). `None` if no flow polls that address from there.
    pub fn reply(
        &mut self,
        reply: &Reply,
        found: &mut Vec<Finding>,
        events: &mut VecDeque<Event>,
    ) -> Option<ReplyOutcome> {
        if reply.identifier != self.identifier {
            return None;
        }
        let places = self.by_addresses.get(&(reply.local, reply.polled))?;
        let by = |&&place: &&usize| {
            reply.interface.is_none_or(|index| index == self.flows[place].key.index)
        };
        // SUBN-2 asks for the addresses, not for the way: where two interfaces are on one subnet, neighbours
        // may answer to either. Link-local addresses say nothing without their link; an ICMP error may come
        // by any.
        let any_way = reply.verdict != Verdict::Answered || !is_link_local(reply.polled);
        let alone = || places.first().filter(|_| any_way && places.len() == 1);
        let place = *places.iter().find(by).or_else(alone)?;
        let entry = &mut self.flows[place];
        let sent = entry.flow.outstanding_since();
        let (outcome, change) = entry.flow.reply(reply.sequence, reply.received, reply.verdict);
        entry.counters.replies[outcome as usize] += 1;
        if let (ReplyOutcome::Answered, Some(sent)) = (outcome, sent) {
            entry.counters.round_trip = Some(reply.received.since(sent));
            if entry.send_error.take().is_some() {
                let FlowKey { local, polled, .. } = entry.key;
                events.push_back(Event::SendError { local, polled, error: None });
            }
        }
        if change.is_some() {
            self.flow_changed(place, reply.received, found, events);
        }
        Some(outcome)
    }

    /// Notes that an echo could not be sent; told once per change (SUBN-5).
    pub fn send_failed(&mut self, failed: &SendFailed, events: &mut VecDeque<Event>) {
        let places = self.by_addresses.get(&(failed.local, failed.polled)).cloned();
        for place in places.into_iter().flatten() {
            let entry = &mut self.flows[place];
            // Link-local addresses alone don't tell flows apart, their sequence numbers do.
            let its_own = entry.flow.send_failed(failed.sequence, &failed.error);
            if its_own && entry.send_error.as_ref() != Some(&failed.error) {
                entry.send_error = Some(failed.error.clone());
                events.push_back(Event::SendError {
                    local: failed.local,
                    polled: failed.polled,
                    error: Some(failed.error.clone()),
                });
            }
        }
    }

    fn flow_changed(
        &mut self,
        place: usize,
        at: Time,
        found: &mut Vec<Finding>,
        events: &mut VecDeque<Event>,
    ) {
        let entry = &self.flows[place];
        let FlowKey { subnet, local, polled, .. } = entry.key;
        let up = matches!(entry.flow.state(), FlowState::Up { .. });
        let reason = entry.flow.last_miss().map(in_words);
        events.push_back(Event::Flow { local, polled, up, reason });
        self.judge_subnet(subnet, at, found);
    }

    /// Every flow, sorted by subnet, interface and addresses.
    pub fn flows(&self) -> impl Iterator<Item = FlowView<'_>> {
        self.flows.iter().map(|entry| FlowView {
            key: &entry.key,
            state: entry.flow.state(),
            reason: entry.flow.last_miss().map(in_words),
            counters: entry.counters,
        })
    }
}

/// Why a poll had no reply, for a person.
pub fn in_words(miss: &Miss) -> String {
    match miss {
        Miss::Timeout => "no reply".to_owned(),
        Miss::Icmp(Verdict::Unreachable) => "destination unreachable".to_owned(),
        Miss::Icmp(Verdict::TimeExceeded) => "time exceeded".to_owned(),
        Miss::Icmp(Verdict::OtherError | Verdict::Answered) => "ICMP error".to_owned(),
        Miss::Send(error) => format!("could not send ({error}), so no reply"),
    }
}
