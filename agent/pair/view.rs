//! What there is to see of the pair, as plain data: made by the pair's thread after each of its turns,
//! and turned into the status and the metrics by those who show it.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use evenkeel_core::{
    pair::{
        Counters, Identity, Role,
        message::Said,
        paths::{Channel, Wrong},
        record::{Kind, Record},
        settings::Settings,
        sync::Synchrony,
        term::Term,
        version::{Grade, Version},
    },
    time::Time,
};

use super::{keys::Fingerprint, paths::Path, witnesses::Witness};
use crate::gate::Gate;

/// The pair, as of one moment.
#[derive(Clone, Debug)]
pub struct View {
    /// The moment.
    pub at: Time,
    /// This agent's name.
    pub name: String,
    /// Its slot, run and version.
    pub identity: Identity,
    /// What it is told to do.
    pub settings: Settings,
    /// Where it stands.
    pub role: Role,
    /// The term that it is primary in.
    pub term: Option<Term>,
    /// The highest term that it knows of.
    pub known: Option<Term>,
    /// It is primary, and goes on without a standby.
    pub alone: bool,
    /// Until when its licence lasts.
    pub speaks_until: Option<Time>,
    /// What those who speak ask.
    pub gate: Gate,
    /// The mate's name, once the state channel was up.
    pub mate_name: Option<String>,
    /// What the mate said last, and its version; nothing if it was not heard since this agent started.
    pub mate: Option<(Version, Said)>,
    /// How much of a pair the two are by their versions.
    pub grade: Option<Grade>,
    /// When the mate was heard last by whatever way, or this agent started.
    pub mate_heard: Time,
    /// The heartbeat paths.
    pub paths: Vec<PathView>,
    /// The state channel.
    pub channel: ChannelView,
    /// How much of the state is synchronised.
    pub synchrony: Synchrony,
    /// When all of it was, the last time.
    pub synchronised: Option<Time>,
    /// Full copies of the state that have begun.
    pub copies: u64,
    /// The witnesses.
    pub witnesses: Vec<WitnessView>,
    /// Whether this host has a network.
    pub network_up: bool,
    /// Nobody takes over, by an operator's order.
    pub held: bool,
    /// How many automatic takeovers there were within the limit's period; nothing without a limit.
    pub takeovers_within: Option<usize>,
    /// Until when automatic takeovers are suppressed, if they are.
    pub suppressed_until: Option<Time>,
    /// The record of the last takeover.
    pub record: Record,
    /// Takeovers by this agent since it started, automatic ones and ordered ones.
    pub takeovers: Takeovers,
    /// What the machine has counted since this agent started.
    pub counters: Counters,
    /// Datagrams that were dropped before the machine saw them, by reason.
    pub dropped: BTreeMap<&'static str, u64>,
    /// What keeps this agent from doing its part in the pair, each in a sentence.
    pub problems: Vec<String>,
}

impl View {
    /// What came and was not taken in as a heartbeat, by reason.
    pub fn discarded(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let Counters { repeated, old_run, own_slot, no_path, .. } = self.counters;
        let by_the_machine = [
            ("repeated", repeated),
            ("old_run", old_run),
            ("own_slot", own_slot),
            ("no_path", no_path),
        ];
        self.dropped.iter().map(|(why, count)| (*why, *count)).chain(by_the_machine)
    }
}

/// Takeovers by this agent since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Takeovers {
    /// Those that were the pair's own decision.
    pub automatic: u64,
    /// Those that somebody ordered.
    pub ordered: u64,
}

impl Takeovers {
    /// One more.
    pub const fn count(&mut self, kind: Kind) {
        match kind {
            Kind::Automatic => self.automatic += 1,
            Kind::Ordered => self.ordered += 1,
        }
    }
}

/// A heartbeat path.
#[derive(Clone, Debug)]
pub struct PathView {
    /// The local interface.
    pub interface: String,
    /// The local address.
    pub local: SocketAddr,
    /// The mate's.
    pub mate: SocketAddr,
    /// It is silent for the mate time-out.
    pub lost: bool,
    /// When the last heartbeat came by it.
    pub heard: Option<Time>,
    /// Heartbeats that left.
    pub sent: u64,
    /// Genuine heartbeats that came.
    pub received: u64,
    /// Heartbeats that did not leave, by reason.
    pub not_sent: BTreeMap<&'static str, u64>,
    /// What the kernel said last, while it is so.
    pub error: Option<String>,
}

impl PathView {
    /// Whether a heartbeat has come by it lately.
    pub fn is_up(&self, now: Time, timeout: Duration) -> bool {
        !self.lost && self.heard.is_some_and(|heard| now.since(heard) < timeout)
    }

    /// A path, and whether it is lost.
    pub fn new(path: &Path, lost: bool) -> PathView {
        let not_sent = path.not_sent.iter().map(|(reason, count)| (reason.name(), *count));
        PathView {
            interface: path.ends.interface.clone(),
            local: path.ends.local,
            mate: path.ends.mate,
            lost,
            heard: path.heard,
            sent: path.sent,
            received: path.received,
            not_sent: not_sent.collect(),
            error: path.error.clone(),
        }
    }
}

/// The state channel.
#[derive(Clone, Debug)]
pub struct ChannelView {
    /// Where the mate listens.
    pub mate: SocketAddr,
    /// How it is.
    pub state: Channel,
    /// Since when.
    pub since: Time,
    /// When the last heartbeat came by it.
    pub heard: Option<Time>,
    /// How often it went wrong: connecting, reading, writing.
    pub failures: Failures,
    /// The fingerprint of the mate that is trusted.
    pub trusted: Option<Fingerprint>,
    /// Why the mate was refused the last time, if it was since the channel was up last.
    pub refused: Option<&'static str>,
    /// Connections and frames that were refused, by reason.
    pub refusals: BTreeMap<&'static str, u64>,
    /// Octets of frames that were sent.
    pub octets_sent: u64,
    /// Octets of frames that came.
    pub octets_received: u64,
}

/// How often the state channel went wrong, by what did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Failures([u64; 3]);

impl Failures {
    /// One more.
    pub const fn count(&mut self, wrong: Wrong) {
        self.0[wrong as usize] += 1;
    }

    /// How often each was, with its name.
    pub fn each(self) -> impl Iterator<Item = (&'static str, u64)> {
        [Wrong::Connect, Wrong::Read, Wrong::Write]
            .into_iter()
            .map(move |wrong| (cause(wrong), self.0[wrong as usize]))
    }
}

/// The name of what went wrong with the state channel (PAIR-8).
pub const fn cause(wrong: Wrong) -> &'static str {
    match wrong {
        Wrong::Connect => "connect",
        Wrong::Read => "read",
        Wrong::Write => "write",
    }
}

/// A witness.
pub type WitnessView = Witness;
