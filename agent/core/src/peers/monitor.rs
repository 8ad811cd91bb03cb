//! The owner of the peer monitor's machines.
//!
//! ```text
//!           answer               no answer in time              max × timeout
//!  unknown ───────> alive ──────────────────────────> silent ───────────────────> down
//!     │              ^ ^                              ^  │                         │
//!     │              │ └──────────── answer ──────────┼──┘                         │
//!     └──────────────┼──────── no answer in time ─────┘                            │
//!                    └─────────────── recovery_count answers in a row ─────────────┘
//! ```
//!
//! A peer in any of these states is asked once per interval, by the ring of its group ([`ring`]); a
//! silent one is asked by the retransmission list as well ([`retransmission`]), unless there is mass
//! silence ([`silence`]). `disabled` and `unsupported` are entered and left by changes and by what a
//! peer says, and nothing is asked in them.
//!
//! [`asking`] hands out requests; [`judging`] takes in answers and judges those that did not come;
//! [`changes`] takes in who is monitored and how; [`standings`] is what mates tell each other.
//!
//! [`ring`]: super::ring
//! [`retransmission`]: super::retransmission
//! [`silence`]: super::silence

mod asking;
mod changes;
mod judging;
mod standings;

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use self::standings::Untold;
use super::{
    Answer, Discard, Disturbance, GroupStats, PeerState, PeerView, Stats,
    blame::Blame,
    group::Group,
    lists::Wakes,
    pace::Pace,
    retransmission::Retransmissions,
    settings::Settings,
    silence::{Silence, Turn},
    table::{Flag, Peer, Table},
    token::Tokens,
    told::{Owed, Told, What},
};
use crate::{
    alarm::{ClearReason, Kind, Object},
    finding::Finding,
    time::{Pretty, Time},
};

/// From when on this agent counts as having stood still (PEER-12): a thread of a busy host may wait
/// its turn for some tens of milliseconds, and half a second is no longer that.
const STALL: Duration = Duration::from_millis(500);

/// Heartbeats to all admitted peers.
#[derive(Debug)]
pub struct Monitor {
    table: Table,
    /// By numbers of their own, which peers keep when the settings put the groups into another order.
    groups: Vec<Group>,
    /// Which group is at which place of the settings.
    order: Vec<u16>,
    heartbeats: Pace,
    retransmissions: Retransmissions,
    tokens: Tokens,
    blame: Blame,
    silence: Silence,
    told: Told,
    /// Mass silence is told at once: it says why others are late.
    untold_silence: VecDeque<Finding>,
    /// Peers found down within their last interval (PEER-9), to be woken when that is over.
    just_down: Wakes,
    /// Answers that came after a deadline that is not judged yet, and so come after it.
    held: VecDeque<Answer>,
    /// The last restart counter of those peers that have one (PEER-15).
    restart_counters: BTreeMap<u32, u32>,
    /// What the mate is to be told; nothing of an agent that is alone.
    untold_standings: Option<Untold>,
    admitted: u32,
    /// Silent peers, and those that are just down (PEER-9).
    silent: u32,
    silent_changed: Time,
    /// Requests that have no answer and are not judged yet.
    awaited: u32,
    discarded: [u64; Discard::ALL.len()],
    stalls: u64,
    skipped: u64,
}

impl Monitor {
    /// A monitor without peers. `seed` makes the tokens, which nobody outside must be able to guess;
    /// `mass_silence` says that an alarm of an earlier run is active (PEER-9).
    pub fn new(settings: &Settings, seed: u64, mass_silence: bool, now: Time) -> Monitor {
        // Until each peer was asked and judged once, nothing says that it is over.
        let judged = settings.groups.iter().map(|group| group.interval + group.timeout).max();
        let silence = if mass_silence {
            Silence::restored(now + judged.unwrap_or_default())
        } else {
            Silence::default()
        };
        let mut monitor = Monitor {
            table: Table::default(),
            groups: Vec::new(),
            order: Vec::new(),
            heartbeats: Pace::new(settings.batches.heartbeat),
            retransmissions: Retransmissions::new(Pace::new(settings.batches.retransmission)),
            tokens: Tokens::new(seed),
            blame: Blame::default(),
            silence,
            told: Told::default(),
            untold_silence: VecDeque::new(),
            just_down: Wakes::default(),
            held: VecDeque::new(),
            restart_counters: BTreeMap::new(),
            untold_standings: None,
            admitted: 0,
            silent: 0,
            silent_changed: now,
            awaited: 0,
            discarded: [0; Discard::ALL.len()],
            stalls: 0,
            skipped: 0,
        };
        monitor.reconfigure(settings, now);
        monitor
    }

    /// Counts an answer that could not be read.
    pub const fn discarded(&mut self, why: Discard, count: u64) {
        self.discarded[why as usize] += count;
    }

    /// This host is to blame for what was not heard up to a moment: what was outstanding then says
    /// nothing (PEER-12).
    pub fn disturbed(&mut self, disturbance: Disturbance, up_to: Time) {
        self.blame.take(disturbance, up_to);
    }

    /// The next finding, at a bounded rate (PEER-10).
    pub fn poll_finding(&mut self, now: Time) -> Option<Finding> {
        if let Some(finding) = self.untold_silence.pop_front() {
            return Some(finding);
        }
        let mut owed = self.told.tell(now)?;
        let Owed { address, place, what, .. } = &mut owed;
        // Its place may be another peer's by now.
        if let Some(peer) = self.table.get_mut(*place).filter(|peer| peer.address() == *address) {
            match what {
                What::Down { .. } => {}
                What::Clear(_) => peer.set(Flag::ClearOwed, false),
                What::Restarted { counter, .. } => {
                    peer.set(Flag::RestartOwed, false);
                    *counter = self.restart_counters.get(place).copied().unwrap_or(*counter);
                }
            }
        }
        Some(self.put_into_words(&owed))
    }

    /// When something is next to be judged, sent or told; nothing without peers. It may be too early,
    /// never too late.
    pub fn next_deadline(&self) -> Option<Time> {
        let at_once = (!self.untold_silence.is_empty()).then_some(Time::ZERO);
        let batch = self.retransmissions.wants_batch().then(|| self.retransmissions.pace.next());
        // Until it is slowed, nobody need know at once that fewer are silent.
        let just_down = self.just_down.next().filter(|_| self.silence.is_slowed());
        let silence = self.silence.next(self.silent, self.admitted);
        [
            at_once,
            self.told.next(),
            self.next_judgement(),
            self.next_heartbeat(),
            batch,
            just_down,
            silence,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// When the next heartbeat is due by the ring of its group; it may have to wait for a batch beyond
    /// that. What a batch was late is measured from here.
    pub fn heartbeat_due(&self) -> Option<Time> {
        let groups = self.groups.iter().filter(|group| group.outer.is_some());
        groups.filter_map(|group| group.ring.due()).min()
    }

    /// Whether any request waits for an answer: while none does, nobody need listen before the next
    /// deadline.
    pub const fn expects_answers(&self) -> bool {
        self.awaited > 0
    }

    /// What there is to see of the whole.
    pub fn stats(&self) -> Stats {
        let groups = self.order.iter().map(|group| {
            let group = &self.groups[usize::from(*group)];
            GroupStats { sweep: group.ring.latest_sweep(), ..group.stats.clone() }
        });
        Stats {
            groups: groups.collect(),
            discarded: self.discarded,
            silent: self.silent,
            mass_silence: self.silence.is_slowed(),
            stalls: self.stalls,
            untold: u32::try_from(self.told.len()).unwrap_or(u32::MAX),
            skipped: self.skipped,
        }
    }

    /// All peers, in the order of their places; without those whose group is gone, as they are about to
    /// be removed.
    pub fn peers(&self) -> impl Iterator<Item = PeerView> + '_ {
        self.table.iter().filter_map(|(place, peer)| {
            Some(PeerView {
                place,
                address: peer.address(),
                group: self.groups[usize::from(peer.group)].outer?,
                state: peer.state,
                since: Time::from_millis(peer.since.as_millis()),
                round_trip: peer.round_trip().map(|micros| Duration::from_micros(micros.into())),
                unanswered: peer.unanswered,
            })
        })
    }

    /// When something without an answer is next judged.
    fn next_judgement(&self) -> Option<Time> {
        let batches = self.groups.iter().filter_map(Group::deadline);
        batches.chain(self.retransmissions.waiting.next()).min()
    }

    /// When the next heartbeat may leave.
    fn next_heartbeat(&self) -> Option<Time> {
        Some(self.heartbeat_due()?.max(self.heartbeats.next()))
    }

    /// Sees whether this agent stood still: something was due, and nobody came (PEER-12).
    fn watch_for_stall(&mut self, due: Option<Time>, now: Time) {
        let timeouts = self.groups.iter().map(|group| group.settings.timeout);
        let allowed = timeouts.min().map_or(STALL, |shortest| STALL.min(shortest / 2));
        let Some(due) = due.filter(|due| now > *due + allowed) else { return };
        // Sending and judging may both be late for one stall.
        if self.blame.last_stall().is_none_or(|last| last < due) {
            self.stalls += 1;
        }
        self.blame.stalled(now);
    }

    /// Sees whether mass silence begins or ends, after something has changed up to a moment (PEER-9).
    fn weigh_silence(&mut self, now: Time) {
        let batch = self.retransmissions.pace.size();
        match self.silence.weigh(self.silent, self.admitted, batch, now) {
            Some(Turn::Began) => {
                let Monitor { silent, admitted, .. } = self;
                let mut cause = format!("{silent} of {admitted} peers are silent");
                cause.push_str(&self.consequence());
                self.begin_silence(cause, now);
            }
            // It ended with the last answer that it took, not when somebody looked.
            Some(Turn::Ended(held)) => {
                self.end_silence(self.silent_changed.max(held).min(now), now)
            }
            None => {}
        }
    }

    /// From now on the heartbeats are the tries.
    fn begin_silence(&mut self, cause: String, now: Time) {
        self.untold_silence.push_back(Finding::raise(
            Kind::MassSilence,
            Object::PeerMonitor,
            cause,
            now,
        ));
        while let Some(place) = self.retransmissions.due.pop() {
            self.wait(place, now);
        }
        while self.retransmissions.again.pop().is_some() {}
    }

    /// Those still silent return to the fast timer: their tries start anew.
    fn end_silence(&mut self, ended: Time, now: Time) {
        let mut over =
            Finding::clear(Kind::MassSilence, Object::PeerMonitor, ClearReason::Ended, ended);
        over.detail = Some(format!("{} of {} peers are silent", self.silent, self.admitted));
        self.untold_silence.push_back(over);
        while let Some(place) = self.retransmissions.waiting.pop() {
            if let Some(peer) = self.table.get_mut(place)
                && peer.state == PeerState::Silent
            {
                peer.since = now;
                peer.tries = 0;
                self.retransmissions.due.push(place);
            }
        }
    }

    fn consequence(&self) -> String {
        let groups = self.groups.iter().filter(|group| group.outer.is_some());
        let most = groups.map(|group| group.settings.max_retransmissions.get());
        let (least, most) = (most.clone().min().unwrap_or(0), most.max().unwrap_or(0));
        let intervals = match most {
            1 => "1 heartbeat interval".to_owned(),
            _ if least == most => format!("{most} heartbeat intervals"),
            _ => format!("{least} to {most} heartbeat intervals"),
        };
        format!("; peers are declared down after {intervals}")
    }

    /// A silent peer waits for its next moment.
    fn wait(&mut self, place: u32, now: Time) {
        let Some(peer) = self.table.get(place).filter(|peer| peer.state == PeerState::Silent)
        else {
            return;
        };
        let group = &self.groups[usize::from(peer.group)];
        let moment = group.moment(peer.since, peer.tries, self.silence.is_slowed());
        self.retransmissions.waiting.set(place, moment.max(now));
    }

    /// A peer enters a state, and all that is counted by states follows.
    fn enter(&mut self, place: u32, state: PeerState, since: Time) {
        let peer = self.table.row(place);
        let group = &mut self.groups[usize::from(peer.group)];
        *group.peers_mut(peer.state) -= 1;
        *group.peers_mut(state) += 1;
        let before = silences(peer);
        peer.state = state;
        peer.since = since;
        if state != PeerState::Down {
            peer.set(Flag::JustDown, false);
        }
        let after = silences(peer);
        if before != after {
            self.silent = self.silent - before + after;
            self.silent_changed = self.silent_changed.max(since);
        }
        self.note(place);
    }

    /// Owes the clear of a peer's alarm, if it has one.
    fn clear_alarm(&mut self, place: u32, reason: ClearReason, at: Time) {
        let peer = self.table.row(place);
        if !peer.is(Flag::Alarm) {
            return;
        }
        peer.set(Flag::Alarm, false);
        peer.set(Flag::ClearOwed, true);
        let Peer { group, .. } = *peer;
        let (address, what) = (peer.address(), What::Clear(reason));
        self.told.owe(Owed { at, address, place, group, what });
    }

    fn put_into_words(&self, owed: &Owed) -> Finding {
        let object = Object::Peer(owed.address);
        let group = &self.groups[usize::from(owed.group)].settings;
        let mut finding = match owed.what {
            What::Down { requests, millis } => {
                let span = Pretty(Duration::from_millis(millis.into()));
                let detail = format!(
                    "no answer to {requests} request{} in {span} (heartbeat every {})",
                    if requests == 1 { "" } else { "s" },
                    Pretty(group.interval),
                );
                Finding::raise(Kind::PeerDown, object, detail, owed.at)
            }
            What::Clear(reason) => Finding::clear(Kind::PeerDown, object, reason, owed.at),
            What::Restarted { counter, was } => {
                let detail = format!("restart counter {counter}, was {was}");
                Finding::raise(Kind::PeerRestarted, object, detail, owed.at)
            }
        };
        finding.peer_group = Some(group.name.clone());
        finding
    }
}

/// How much a peer adds to those that are silent (PEER-9).
fn silences(peer: &Peer) -> u32 {
    u32::from(peer.state == PeerState::Silent || peer.is(Flag::JustDown))
}
