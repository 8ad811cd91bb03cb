//! The document for a person at a terminal: what is wrong first, and then all that is watched, the
//! worst of it first.

use std::time::Duration;

use evenkeel_core::alarm::Severity;
use jiff::Timestamp;

use super::{
    AgentStatus, EngineStatus, FlowStatus, InformStatus, InterfaceStatus, ListenStatus,
    SnmpV3Status, Status, SubnetStatus, TargetStatus, UnstableStatus, UpDown,
    screen::{self, Age, BAD, BOLD, DIM, PLAIN, Screen, Text, WARN, count, mib},
};

/// How many rows of one list are shown unless all are asked for, so that a thousand peers that are
/// down do not push the subnet that is down off the screen.
const ROWS: usize = 10;

/// Where the text begins in rows that say since when: behind `11-22 03:28:24  23h59m`.
const SINCE: usize = 26;

/// How the document is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// So many columns wide.
    pub width: usize,
    /// Every row of each list.
    pub all: bool,
}

impl View {
    /// How many of so many rows are shown.
    fn rows(self, listed: usize) -> usize {
        if self.all { listed } else { listed.min(ROWS) }
    }

    /// Says how many rows there are beyond those that are shown.
    fn more(self, screen: &mut Screen, indent: usize, more: u64, what: &str) {
        if more > 0 {
            let hint = if self.all { "" } else { " (--all lists more)" };
            screen.line(indent, Text::new(DIM, format_args!("and {more} more{what}{hint}")));
        }
    }
}

impl Status {
    /// The document for a person at a terminal, with styles.
    pub fn table(&self, view: View) -> String {
        let mut screen = Screen::new(view.width);
        self.headline(&mut screen);
        for severity in Severity::ALL {
            self.alarms_of(severity, view, &mut screen);
        }
        self.unstable_objects(view, &mut screen);
        if !self.subnets.is_empty() {
            self.subnets(view, &mut screen);
        }
        if let Some(peers) = &self.peers {
            peers.show(&mut screen);
        }
        if let Some(pair) = &self.pair {
            pair.show(&mut screen);
        }
        if !self.notification_targets.is_empty() {
            self.notification_targets(&mut screen);
        }
        self.agent.show(&mut screen);
        screen.finish()
    }

    fn headline(&self, screen: &mut Screen) {
        let AgentStatus { name, version, role, uptime_seconds, .. } = &self.agent;
        let mut line = Text::new(BOLD, format_args!("{name}: "));
        line.append(self.verdict().text());
        screen.line(0, line);
        let at = self
            .at()
            .map_or(self.agent.at.clone(), |at| at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string());
        let up = Age(Duration::from_secs(*uptime_seconds));
        screen.line(0, Text::new(DIM, format_args!("{at}, evenkeel {version}, {role}, up {up}")));
        for problem in self.problems() {
            screen.line(2, Text::new(WARN, format_args!("! {problem}")));
        }
    }

    fn alarms_of(&self, severity: Severity, view: View, screen: &mut Screen) {
        let active = self.alarms_by_severity.of(severity);
        if active == 0 {
            return;
        }
        let style = screen::of_severity(severity);
        screen.section(style.bold(), &severity.name().to_uppercase(), active);
        let listed: Vec<_> =
            self.alarms.iter().filter(|alarm| alarm.severity == severity).collect();
        let rows = view.rows(listed.len());
        for alarm in &listed[..rows] {
            self.since(screen, alarm.raised_at.parse().ok(), Text::from(&alarm.text));
        }
        view.more(screen, 2, active.saturating_sub(rows as u64), "");
    }

    fn unstable_objects(&self, view: View, screen: &mut Screen) {
        if self.objects_unstable == 0 {
            return;
        }
        screen.section(BOLD, "UNSTABLE", self.objects_unstable);
        let rows = view.rows(self.unstable.len());
        for unstable in &self.unstable[..rows] {
            let before = (unstable.first_seconds_ago * 1e3) as i64;
            let first = self.at().and_then(|at| {
                Timestamp::from_millisecond(at.as_millisecond().saturating_sub(before)).ok()
            });
            self.since(screen, first, unstable.text());
        }
        view.more(screen, 2, self.objects_unstable.saturating_sub(rows as u64), "");
    }

    /// A row of what has lasted since a moment.
    fn since(&self, screen: &mut Screen, since: Option<Timestamp>, what: Text) {
        let when = match (since, self.at()) {
            (Some(since), Some(at)) => {
                let age = Duration::try_from(at.duration_since(since)).unwrap_or_default();
                format!("{}  {:>6}", since.strftime("%m-%d %H:%M:%S"), Age(age))
            }
            (Some(_) | None, _) => "-".to_owned(),
        };
        screen.pair(2, Text::new(DIM, when), SINCE, what);
    }

    /// When the document was made.
    fn at(&self) -> Option<Timestamp> {
        self.agent.at.parse().ok()
    }

    /// The subnets, the worst first, with their interfaces and flows.
    fn subnets(&self, view: View, screen: &mut Screen) {
        let mut note = Text::default();
        for state in [UpDown::Down, UpDown::Unknown, UpDown::Up] {
            match self.subnets_that_are(state) {
                0 => {}
                subnets => note.list(PLAIN, format_args!("{subnets} {}", state.name())),
            }
        }
        screen.section(BOLD, "SUBNETS", note);
        let mut subnets: Vec<&SubnetStatus> = self.subnets.iter().collect();
        subnets.sort_by_key(|subnet| {
            let is_down = |it: &InterfaceStatus| it.status == UpDown::Down;
            (subnet.status, !subnet.interfaces.iter().any(is_down))
        });
        let rows = view.rows(subnets.len());
        let widths = subnets[..rows].iter().flat_map(|subnet| {
            let interfaces =
                subnet.interfaces.iter().map(|it| 4 + Text::from(&it.interface).width());
            let flows = self.flows_of(subnet).map(|flow| 6 + Text::from(flow.ends()).width());
            interfaces.chain(flows).chain([2 + subnet.subnet.len()])
        });
        let column = screen.column(widths);
        for subnet in &subnets[..rows] {
            let status = Text::new(screen::of_state(subnet.status), subnet.status.name());
            screen.pair(2, Text::new(BOLD, &subnet.subnet), column, status);
            for interface in &subnet.interfaces {
                screen.pair(4, &interface.interface, column, interface.text());
                let of_it = |flow: &&FlowStatus| flow.interface == interface.interface;
                let mut flows: Vec<_> = self.flows_of(subnet).filter(of_it).collect();
                flows.sort_by_key(|flow| flow.status);
                let rows = view.rows(flows.len());
                for flow in &flows[..rows] {
                    screen.pair(6, Text::new(DIM, flow.ends()), column, flow.text());
                }
                let rest = &flows[rows..];
                view.more(
                    screen,
                    6,
                    rest.len() as u64,
                    all_up(rest.iter().map(|flow| flow.status)),
                );
            }
        }
        let rest = &subnets[rows..];
        view.more(screen, 2, rest.len() as u64, all_up(rest.iter().map(|subnet| subnet.status)));
    }

    fn flows_of(&self, subnet: &SubnetStatus) -> impl Iterator<Item = &FlowStatus> {
        self.flows.iter().filter(move |flow| flow.subnet == subnet.subnet)
    }

    fn notification_targets(&self, screen: &mut Screen) {
        let unreachable = self.notification_targets.iter().filter(|target| !target.reachable);
        let note = match unreachable.count() {
            0 => Text::default(),
            unreachable => Text::new(BAD, format_args!("{unreachable} unreachable")),
        };
        screen.section(BOLD, "NOTIFICATION TARGETS", note);
        let mut targets: Vec<&TargetStatus> = self.notification_targets.iter().collect();
        targets.sort_by_key(|target| target.reachable);
        let names = targets.iter().map(|target| 2 + Text::from(&target.name).width());
        let column = screen.column(names);
        for target in targets {
            screen.pair(2, &target.name, column, target.text());
        }
    }
}

/// What is said of rows that are not shown.
fn all_up(mut states: impl Iterator<Item = UpDown>) -> &'static str {
    if states.all(|state| state == UpDown::Up) { ", all up" } else { "" }
}

impl UnstableStatus {
    fn text(&self) -> Text {
        let mut text = Text::from(&self.object_text);
        if let Some(name) = &self.if_name {
            text.push(PLAIN, format_args!(" ({name})"));
        }
        if let Some(link) = self.link {
            text.push(PLAIN, format_args!(", an end of {link}"));
        }
        let last = Age::of_seconds(self.last_seconds_ago);
        let clears = Age::of_seconds(self.clears_in_seconds);
        let traps = count(self.traps, "trap", "traps");
        text.push(
            PLAIN,
            format_args!(": {traps}, the last {last} ago; stable in {clears} if quiet"),
        );
        text
    }
}

impl InterfaceStatus {
    fn text(&self) -> Text {
        let style = match self.status {
            // One that waits as it should.
            UpDown::Unknown if self.standby && self.link => PLAIN,
            state => screen::of_state(state),
        };
        let mut text = Text::new(style, &self.words);
        if self.standby && !self.words.starts_with("standby") {
            text.push(PLAIN, ", the standby interface");
        }
        text
    }
}

impl FlowStatus {
    fn ends(&self) -> String {
        format!("{} > {}", self.local, self.polled)
    }

    fn text(&self) -> Text {
        let mut text = Text::new(screen::of_state(self.status), self.status.name());
        match self.status {
            UpDown::Up => {
                if let Some(ms) = self.round_trip_ms {
                    text.list(PLAIN, format_args!("{ms:.2} ms"));
                }
            }
            UpDown::Down | UpDown::Unknown => {
                if let Some(reason) = &self.reason {
                    text.list(PLAIN, reason);
                }
            }
        }
        if self.missed > 0 {
            text.list(PLAIN, format_args!("{} of {} polls missed", self.missed, self.polls));
        }
        text
    }
}

impl TargetStatus {
    fn text(&self) -> Text {
        let TargetStatus { address, form, sent, waiting, forwarded, .. } = self;
        let mut text = Text::default();
        if !self.reachable {
            text.list(BAD, "UNREACHABLE");
        }
        if let Some(error) = &self.last_error {
            text.list(WARN, error);
        }
        text.list(PLAIN, format_args!("{address}, {form}"));
        text.list(PLAIN, format_args!("{sent} sent, {waiting} waiting"));
        if *forwarded > 0 {
            let traps = count(*forwarded, "trap", "traps");
            text.list(PLAIN, format_args!("{traps} forwarded"));
        }
        if self.forwarded_waiting > 0 {
            text.list(PLAIN, format_args!("{} of them waiting", self.forwarded_waiting));
        }
        if self.lost > 0 {
            text.list(BAD, format_args!("{} LOST", self.lost));
        }
        text
    }
}

impl AgentStatus {
    fn show(&self, screen: &mut Screen) {
        screen.section(BOLD, "AGENT", "");
        for listen in &self.listens {
            screen.line(2, listen.text());
        }
        let (datagrams, discarded, objects) = (self.datagrams, self.discarded, self.objects);
        screen.line(
            2,
            format_args!("{datagrams} datagrams, {discarded} not taken in, {objects} objects"),
        );
        let EngineStatus { id, boots } = &self.engine;
        screen.line(2, format_args!("SNMP engine {id}, boot {boots}"));
        let InformStatus { taken, waiting, .. } = &self.informs;
        if *taken > 0 {
            screen.line(2, format_args!("{taken} informs taken in, {waiting} wait to be answered"));
        }
        let SnmpV3Status { opened, refused, engines } = &self.snmpv3;
        if *opened > 0 || !refused.is_empty() {
            let mut text = Text::from(format_args!("SNMPv3: {opened} taken in, {engines} engines"));
            for (step, count) in refused {
                text.list(PLAIN, format_args!("{count} {step}"));
            }
            screen.line(2, text);
        }
    }
}

impl ListenStatus {
    fn text(&self) -> Text {
        let (granted, asked) = (mib(self.buffer_bytes), mib(self.buffer_asked_bytes));
        let mut text = Text::from(format_args!("traps on {}", self.address));
        text.list(PLAIN, format_args!("receive buffer {granted:.1} MiB"));
        if self.buffer_bytes < self.buffer_asked_bytes {
            text.push(PLAIN, format_args!(" of {asked:.1} asked for"));
        }
        if self.drops > 0 {
            text.list(WARN, format_args!("{} DROPPED by the kernel", self.drops));
        }
        text
    }
}
