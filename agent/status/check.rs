//! One line and an exit code for Nagios, Icinga and what speaks like them, after the Monitoring Plugins
//! Development Guidelines.

use std::{fmt::Write as _, process::ExitCode};

use evenkeel_core::{
    alarm::{Kind, Severity},
    peers::PeerState,
    text,
};

use super::{Status, UpDown, screen::count, terminal};

/// How many objects of one kind are named. The line is read on a telephone.
const NAMED: usize = 3;

/// A line is at most so long, in characters without its performance data.
const LONGEST: usize = 1_000;

/// What the monitoring system makes of it, with the exit codes of the guidelines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Nothing to do.
    Ok = 0,
    /// Look at it.
    Warning = 1,
    /// Look at it now.
    Critical = 2,
    /// Whether all is well can't be told.
    Unknown = 3,
}

impl State {
    /// Its word.
    const fn name(self) -> &'static str {
        match self {
            State::Ok => "OK",
            State::Warning => "WARNING",
            State::Critical => "CRITICAL",
            State::Unknown => "UNKNOWN",
        }
    }
}

/// The answer of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What the exit code says.
    pub state: State,
    /// One line.
    pub line: String,
}

impl Answer {
    fn new(state: State, text: &str) -> Answer {
        // A pipe character begins the performance data, a line feed a second line.
        let text = text.trim().replace('\n', "; ").replace('|', "/");
        let mut text = text::harmless(&text).into_owned();
        if let Some((end, _)) = text.char_indices().nth(LONGEST) {
            text.truncate(end);
            text.push_str("...");
        }
        Answer { state, line: format!("EVENKEEL {} - {text}", state.name()) }
    }

    /// Why nothing can be told.
    pub fn unknown(why: &str) -> Answer {
        Answer::new(State::Unknown, why)
    }

    /// Says it.
    pub fn say(&self) -> ExitCode {
        // Nobody is there to be told that nobody is there.
        let _ = terminal::print(&format!("{}\n", self.line));
        ExitCode::from(self.state as u8)
    }
}

/// Which severities count as what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// This and what is worse is critical.
    pub critical_from: Severity,
    /// This and what is worse is a warning, unless it is critical.
    pub warning_from: Severity,
}

impl Status {
    /// What a monitoring system is told.
    pub fn check(&self, mapping: Mapping) -> Answer {
        let any_from = |least: Severity| {
            let counted = Severity::ALL.into_iter().filter(|severity| *severity <= least);
            counted.map(|severity| self.alarms_by_severity.of(severity)).sum::<u64>() > 0
        };
        let problems: Vec<&str> = self.problems().collect();
        let state = if any_from(mapping.critical_from) {
            State::Critical
        } else if any_from(mapping.warning_from) || !problems.is_empty() {
            State::Warning
        } else {
            State::Ok
        };
        let mut parts: Vec<String> =
            self.kinds().map(|(kind, active)| self.alarms_in_words(kind, active)).collect();
        if let Some(first) = problems.first() {
            let more = match problems.len() - 1 {
                0 => String::new(),
                more => format!(" and {}", count(more as u64, "more problem", "more problems")),
            };
            parts.push(format!("the agent: {first}{more}"));
        }
        if parts.is_empty() {
            parts.push(self.in_order());
        }
        let mut answer = Answer::new(state, &parts.join("; "));
        answer.line += &self.performance_data();
        answer
    }

    /// The kinds of which an alarm is active, those with the worst alarms first, and how many there are.
    fn kinds(&self) -> impl Iterator<Item = (&str, u64)> {
        let mut kinds: Vec<(&str, u64)> =
            self.alarms_by_kind.iter().map(|(kind, active)| (kind.as_str(), *active)).collect();
        // The list of alarms begins with the worst. It may end before there was one of each kind.
        kinds.sort_by_key(|(kind, _)| {
            self.alarms.iter().position(|alarm| alarm.kind == *kind).unwrap_or(usize::MAX)
        });
        kinds.into_iter()
    }

    /// `2 subnets down (10.1.0.0/24, 10.2.0.0/24)`.
    fn alarms_in_words(&self, kind: &str, active: u64) -> String {
        let words = match Kind::from_name(kind) {
            Some(kind) => in_words(kind, active),
            // The agent that runs may know more kinds than this program.
            None => format!("{active} {kind}"),
        };
        let of_it = self.alarms.iter().filter(|alarm| alarm.kind == kind);
        let mut objects: Vec<&str> =
            of_it.take(NAMED).map(|alarm| alarm.object_text.as_str()).collect();
        let more = active.saturating_sub(objects.len() as u64);
        let more = format!("{more} more");
        if active > objects.len() as u64 {
            objects.push(&more);
        }
        format!("{words} ({})", objects.join(", "))
    }

    /// What is in order, where nothing else is to be said.
    fn in_order(&self) -> String {
        let mut words = self.verdict().words();
        let mut list = Vec::new();
        match self.subnets_that_are(UpDown::Up) {
            0 => {}
            up => list.push(count(up, "subnet up", "subnets up")),
        }
        match self.peers_that_are(PeerState::Alive) {
            0 => {}
            alive => list.push(count(alive, "peer alive", "peers alive")),
        }
        match self.notification_targets.iter().filter(|target| target.reachable).count() {
            0 => {}
            reachable => list.push(count(
                reachable as u64,
                "notification target reachable",
                "notification targets reachable",
            )),
        }
        if !list.is_empty() {
            // Writing to a string can't fail.
            let _ = write!(words, ": {}", list.join(", "));
        }
        words
    }

    fn peers_that_are(&self, state: PeerState) -> u64 {
        self.peers.as_ref().map_or(0, |peers| peers.in_state(state))
    }

    /// ` | label=value;warn;crit;min;max ...`. The labels are always the same, so that graphs have no
    /// holes.
    fn performance_data(&self) -> String {
        let mut out = " |".to_owned();
        let unreachable = self.notification_targets.iter().filter(|target| !target.reachable);
        let counts = self.alarms_by_severity;
        for (label, value) in [
            ("alarms", self.alarms_active),
            ("critical", counts.critical),
            ("major", counts.major),
            ("minor", counts.minor),
            ("warning", counts.warning),
            ("problems", self.problems().count() as u64),
            ("objects_unstable", self.objects_unstable),
            ("subnets_down", self.subnets_that_are(UpDown::Down)),
            ("subnets_unknown", self.subnets_that_are(UpDown::Unknown)),
            ("peers_down", self.peers_that_are(PeerState::Down)),
            ("targets_unreachable", unreachable.count() as u64),
        ] {
            // Writing to a string can't fail.
            let _ = write!(out, " {label}={value};;;0");
        }
        let (datagrams, uptime) = (self.agent.datagrams, self.agent.uptime_seconds);
        let _ = write!(out, " datagrams={datagrams}c;;;0 uptime={uptime}s;;;0");
        out
    }
}

/// So many alarms of a kind, in words.
fn in_words(kind: Kind, active: u64) -> String {
    match kind {
        Kind::SystemUnstable => count(active, "system unstable", "systems unstable"),
        Kind::InterfaceUnstable => count(active, "interface unstable", "interfaces unstable"),
        Kind::InterfaceDown => count(active, "interface down", "interfaces down"),
        Kind::LinkUnstable => count(active, "link unstable", "links unstable"),
        Kind::InterfaceIpDown => count(
            active,
            "local interface down at the IP level",
            "local interfaces down at the IP level",
        ),
        Kind::SubnetDown => count(active, "subnet down", "subnets down"),
        Kind::PeerDown => count(active, "peer down", "peers down"),
        Kind::PeerRestarted => count(active, "peer restarted", "peers restarted"),
        Kind::MassSilence => "mass silence of peers".to_owned(),
        Kind::MateSyncLost => "the state is not synchronised with the mate".to_owned(),
        Kind::MatePathLost => count(active, "path to the mate lost", "paths to the mate lost"),
        Kind::StandbyUnavailable => "no standby could take over".to_owned(),
        Kind::FailoverLimitReached => "too many takeovers".to_owned(),
        Kind::ComponentStalled => {
            count(active, "part of the agent stalled", "parts of the agent stalled")
        }
        Kind::NotificationTargetUnreachable => {
            count(active, "notification target unreachable", "notification targets unreachable")
        }
        Kind::Overload => "overload".to_owned(),
    }
}
