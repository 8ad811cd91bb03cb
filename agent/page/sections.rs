//! The sections of the page, each by itself, as the whole page and what is live are both made of them.
//!
//! A section says what there is at one moment and holds no age that counts on: so one that has not changed
//! is the same text, and need not be sent again.

use std::fmt::Display;

use evenkeel_core::{alarm::Severity, time::Pretty};
use maud::{Markup, html};

use super::{
    pair, peers, picture,
    shown::{cut, cut_lines, id, moved, since, time, whole},
    traces::Traces,
};
use crate::{
    control::RejectedDatagram,
    hub::View,
    status::{
        AgentStatus, AlarmStatus, FlowStatus, InterfaceStatus, Status, SubnetStatus, TargetStatus,
        UnstableStatus, UpDown, utc,
    },
    store::JournalRow,
    trap_view,
};

/// How many rows of one list are shown: what is beyond is counted, and `evenkeel status --all` lists it.
const ROWS: usize = 100;

/// How many unstable objects are drawn: what nobody scrolls through need not be sent again and again.
pub const DRAWN: usize = 50;

/// How many lines of what is in a rejected datagram are shown.
const LINES: usize = 40;

/// The page in parts.
pub struct Sections {
    /// What is wrong in sum.
    pub verdict: Markup,
    /// As of when.
    pub when: Markup,
    /// What keeps the agent from doing all that it should.
    pub problems: Markup,
    /// The active alarms.
    pub alarms: Markup,
    /// The unstable objects.
    pub unstable: Markup,
    /// The subnets, with interfaces and flows.
    pub subnets: Markup,
    /// The peers in sum.
    pub peers: Markup,
    /// The pair.
    pub pair: Markup,
    /// The notification targets.
    pub targets: Markup,
    /// The last rejected datagrams.
    pub rejected: Markup,
    /// The last rows of the journal.
    pub events: Markup,
    /// The agent itself.
    pub agent: Markup,
}

impl Sections {
    /// The sections of one moment.
    pub fn new(view: &View, events: &Result<Vec<JournalRow>, String>, traces: &Traces) -> Sections {
        let status = &view.status;
        Sections {
            verdict: verdict(status),
            when: when(&status.agent),
            problems: problems(status),
            alarms: alarms(status),
            unstable: unstable(status, traces),
            subnets: subnets(status),
            peers: peers::summary(status.peers.as_ref()),
            pair: pair::shown(&status.agent, status.pair.as_ref()),
            targets: targets(&status.notification_targets),
            rejected: rejected(&view.rejected),
            events: last_events(events),
            agent: agent(&status.agent),
        }
    }

    /// Those that are live, by the ids of their elements.
    pub fn live(self) -> [(&'static str, Markup); 12] {
        [
            ("verdict", self.verdict),
            ("when", self.when),
            ("problems", self.problems),
            ("alarms", self.alarms),
            ("unstable", self.unstable),
            ("subnets", self.subnets),
            ("peers-sum", self.peers),
            ("pair", self.pair),
            ("targets", self.targets),
            ("rejected", self.rejected),
            ("events", self.events),
            ("agent", self.agent),
        ]
    }
}

/// A section with its heading. It takes the focus from what it held, if that goes away.
pub fn section(name: &str, title: &str, note: impl Display, content: &Markup) -> Markup {
    html! {
        section id=(name) aria-labelledby={ "h-" (name) } tabindex="-1" {
            h2 id={ "h-" (name) } { (title) " " span.note { (note) } }
            (content)
        }
    }
}

/// A table that scrolls by itself where it is wider than the screen, also by keyboard.
pub fn table(label: &str, content: &Markup) -> Markup {
    html! {
        div.scroll role="region" aria-label=(label) tabindex="0" { table { (content) } }
    }
}

/// A word in the colour of what it says, which the word says, too.
pub fn chip(kind: &str, word: &str) -> Markup {
    html! { span.chip.{ "is-" (kind) } { (word) } }
}

fn state(state: UpDown, words: &str) -> Markup {
    chip(state.name(), if words.is_empty() { state.name() } else { words })
}

fn more(listed: usize, all: u64, what: &str) -> Markup {
    let more = all.saturating_sub(listed as u64);
    html! {
        @if more > 0 {
            p.more { "and " (more) " more" (what) ": " code { "evenkeel status --all" } }
        }
    }
}

fn verdict(status: &Status) -> Markup {
    let verdict = status.verdict();
    html! {
        p #verdict .verdict.{ "is-" (verdict.worst().name()) } role="status" { (verdict.words()) }
    }
}

/// The verdict when the core of the agent can't be asked.
pub fn failing(why: &str) -> Markup {
    html! { p #verdict .verdict.is-critical role="status" { (cut(why)) } }
}

fn when(agent: &AgentStatus) -> Markup {
    let started = moved(&agent.at, -(agent.uptime_seconds as f64));
    html! {
        p #when .when {
            "As of " (time(&agent.at)) " UTC, evenkeel " (agent.version) ", " (cut(&agent.role))
            // The age comes in whole seconds: shown to the second, the start would move to and fro.
            ", up since " (minutes(&started))
        }
    }
}

/// A moment to the minute.
fn minutes(at: &str) -> String {
    let minute = at.get(5..16).unwrap_or_default();
    minute.replace('T', " ")
}

fn problems(status: &Status) -> Markup {
    let problems: Vec<String> = status.problems().take(ROWS).map(cut).collect();
    html! {
        div #problems {
            @if !problems.is_empty() {
                section aria-labelledby="h-problems" {
                    h2 #h-problems { "The agent cannot do all that it should" }
                    ul.problems { @for problem in problems { li { (problem) } } }
                }
            }
        }
    }
}

fn alarms(status: &Status) -> Markup {
    let listed = status.alarms.len().min(ROWS);
    let note = match status.alarms_active {
        0 => "none".to_owned(),
        active => active.to_string(),
    };
    let content = html! {
        @if listed > 0 {
            ul.rows { @for alarm in &status.alarms[..listed] { (alarm_row(alarm)) } }
        }
        (more(listed, status.alarms_active, ""))
    };
    section("alarms", "Alarms", note, &content)
}

fn alarm_row(alarm: &AlarmStatus) -> Markup {
    html! {
        li.row id={ "a-" (id(&alarm.id)) } {
            (severity(alarm.severity))
            p.what { (cut(&alarm.text)) }
            p.since { "since " (since(&alarm.raised_at)) }
        }
    }
}

fn severity(severity: Severity) -> Markup {
    chip(severity.name(), severity.name())
}

fn unstable(status: &Status, traces: &Traces) -> Markup {
    let listed = status.unstable.len().min(DRAWN);
    let note = match status.objects_unstable {
        0 => "none".to_owned(),
        unstable => unstable.to_string(),
    };
    let content = html! {
        @if listed > 0 {
            ul.rows {
                @for unstable in &status.unstable[..listed] { (unstable_row(status, unstable, traces)) }
            }
            p.legend aria-hidden="true" {
                svg.key viewBox="0 0 12 12" { line.tick x1="6" y1="1" x2="6" y2="11" {} }
                " trap "
                svg.key viewBox="0 0 12 12" { rect.unstable-time x="0" y="3" width="12" height="6" {} }
                " unstable "
                svg.key viewBox="0 0 12 12" { rect.waiting x="0" y="3" width="12" height="6" {} }
                " stable at its end, if quiet "
                svg.key viewBox="0 0 12 12" { line.now x1="6" y1="1" x2="6" y2="11" {} }
                " now"
            }
        }
        (more(listed, status.objects_unstable, ""))
    };
    section("unstable", "Unstable", note, &content)
}

fn unstable_row(status: &Status, unstable: &UnstableStatus, traces: &Traces) -> Markup {
    let first = moved(&status.agent.at, -unstable.first_seconds_ago);
    let last = moved(&status.agent.at, -unstable.last_seconds_ago);
    let stable = moved(&status.agent.at, unstable.clears_in_seconds);
    html! {
        li.row.drawn id={ "u-" (id(&unstable.object_text)) } {
            p.what {
                (cut(&unstable.object_text))
                @if let Some(name) = &unstable.if_name { " " span.name { (cut(name)) } }
                @if let Some(link) = &unstable.link {
                    " " span.note { "end of the link " (cut(&link.to_string())) }
                }
            }
            (picture::episode(status, unstable, traces.of(unstable)))
            p.since {
                (unstable.traps) " traps since " (time(&whole(&first))) ", the last " (time(&whole(&last)))
                "; stable " (time(&whole(&stable))) " if quiet"
            }
        }
    }
}

fn subnets(status: &Status) -> Markup {
    let mut subnets: Vec<&SubnetStatus> = status.subnets.iter().collect();
    let is_down = |it: &InterfaceStatus| it.status == UpDown::Down;
    subnets.sort_by_key(|subnet| (subnet.status, !subnet.interfaces.iter().any(is_down)));
    let listed = subnets.len().min(ROWS);
    let counts: Vec<String> = [UpDown::Down, UpDown::Unknown, UpDown::Up]
        .into_iter()
        .map(|state| (status.subnets_that_are(state), state.name()))
        .filter(|(count, _)| *count > 0)
        .map(|(count, name)| format!("{count} {name}"))
        .collect();
    let note = if counts.is_empty() { "none is polled".to_owned() } else { counts.join(", ") };
    let content = html! {
        @if listed > 0 {
            (table("Subnets, interfaces and flows", &html! {
                thead {
                    tr {
                        th scope="col" { "Subnet, interface, flow" }
                        th scope="col" { "State" }
                        th scope="col" { "Reason" }
                        th.number scope="col" { "Missed" }
                        th.number scope="col" { "Polls" }
                        th.number scope="col" { "Round trip" }
                    }
                }
                @for subnet in &subnets[..listed] { (subnet_rows(status, subnet)) }
            }))
        }
        (more(listed, subnets.len() as u64, " subnets"))
    };
    section("subnets", "Subnets", note, &content)
}

fn subnet_rows(status: &Status, subnet: &SubnetStatus) -> Markup {
    let flows = |of: &str| {
        let of = of.to_owned();
        let flows = status.flows.iter();
        flows.filter(move |flow| flow.subnet == subnet.subnet && flow.interface == of).take(ROWS)
    };
    html! {
        tbody {
            tr.group {
                th scope="rowgroup" { (cut(&subnet.subnet)) }
                td { (state(subnet.status, "")) }
                td {} td {} td {} td {}
            }
            @for interface in subnet.interfaces.iter().take(ROWS) {
                tr.inner {
                    th scope="row" {
                        (cut(&interface.interface))
                        @if interface.standby { " " span.note { "standby" } }
                    }
                    td { (state(interface.status, &cut(&interface.words))) }
                    td {} td {} td {} td {}
                }
                @for flow in flows(&interface.interface) { (flow_row(flow)) }
            }
        }
    }
}

fn flow_row(flow: &FlowStatus) -> Markup {
    html! {
        tr.flow {
            th scope="row" { (cut(&flow.local)) " to " (cut(&flow.polled)) }
            td { (state(flow.status, "")) }
            td { @if let Some(reason) = &flow.reason { (cut(reason)) } }
            td.number { (flow.missed) }
            td.number { (flow.polls) }
            td.number { @if let Some(ms) = flow.round_trip_ms { (format!("{ms:.2} ms")) } }
        }
    }
}

fn targets(targets: &[TargetStatus]) -> Markup {
    let silent = targets.iter().filter(|target| !target.reachable).count();
    let note = match (targets.len(), silent) {
        (0, _) => "none: alarms go to the journal and the metrics".to_owned(),
        (all, 0) => all.to_string(),
        (all, silent) => format!("{silent} of {all} not reached"),
    };
    let content = html! {
        @if !targets.is_empty() {
            (table("Notification targets", &html! {
                thead {
                    tr {
                        th scope="col" { "Target" }
                        th scope="col" { "State" }
                        th scope="col" { "Form" }
                        th.number scope="col" { "Sent" }
                        th.number scope="col" { "Acknowledged" }
                        th.number scope="col" { "Waiting" }
                        th.number scope="col" { "Traps forwarded" }
                        th.number scope="col" { "Failed" }
                        th.number scope="col" { "Lost" }
                    }
                }
                tbody {
                    @for target in targets.iter().take(ROWS) { (target_row(target)) }
                }
            }))
        }
    };
    section("targets", "Notification targets", note, &content)
}

fn target_row(target: &TargetStatus) -> Markup {
    html! {
        tr {
            th scope="row" { (cut(&target.name)) " " span.note { (cut(&target.address)) } }
            td {
                @if target.reachable { (chip("up", "reached")) } @else { (chip("down", "not reached")) }
                @if let Some(error) = &target.last_error { " " span.note { (cut(error)) } }
            }
            td { (target.form) }
            td.number { (target.sent) }
            td.number { (target.acknowledged) }
            td.number { (target.waiting + target.forwarded_waiting) }
            td.number { (target.forwarded) }
            td.number { (target.failed) }
            td.number { @if target.lost > 0 { (chip("down", &target.lost.to_string())) } @else { "0" } }
        }
    }
}

fn rejected(rejected: &[RejectedDatagram]) -> Markup {
    let note = match rejected.len() {
        0 => "none".to_owned(),
        count => format!("the last {count}"),
    };
    // Several may have come from one source in one millisecond.
    let same = |nth: usize| {
        let RejectedDatagram { at, source, .. } = &rejected[nth];
        let behind = rejected[nth + 1..].iter();
        behind.filter(|other| other.at == *at && other.source == *source).count()
    };
    let content = html! {
        @if !rejected.is_empty() {
            ul.rows {
                @for (nth, datagram) in rejected.iter().enumerate() {
                    (rejected_row(datagram, same(nth)))
                }
            }
        }
    };
    section("rejected", "Rejected traps", note, &content)
}

fn rejected_row(datagram: &RejectedDatagram, same: usize) -> Markup {
    let RejectedDatagram { at, source, reason, length, .. } = datagram;
    html! {
        li id={ "r-" (id(at)) "-" (id(source)) "-" (same) } {
            details {
                summary {
                    (time(at)) " " strong { (cut(source)) } " " (chip("reason", reason)) " "
                    span.note { (length) " octets" }
                }
                pre { (cut_lines(&trap_view::describe(&datagram.octets()), LINES)) }
            }
        }
    }
}

fn last_events(events: &Result<Vec<JournalRow>, String>) -> Markup {
    let (note, rows) = match events {
        Err(error) => (cut(error), &[][..]),
        Ok(rows) if rows.is_empty() => ("none yet".to_owned(), &[][..]),
        Ok(rows) => (format!("the last {}, the newest first", rows.len()), rows.as_slice()),
    };
    let content = html! {
        @if !rows.is_empty() {
            ol.rows.log { @for row in rows { (event_row(row)) } }
        }
    };
    section("events", "Last events", note, &content)
}

fn event_row(row: &JournalRow) -> Markup {
    let alarm = &row.alarm;
    html! {
        li.row id={ "e-" (row.seq) } {
            p.since { (time(&utc(row.wall))) }
            @match row.cleared {
                None => (severity(alarm.severity)),
                Some(_) => (chip("up", "cleared")),
            }
            p.what { (cut(&alarm.text)) }
        }
    }
}

fn agent(agent: &AgentStatus) -> Markup {
    let AgentStatus { engine, informs, snmpv3, .. } = agent;
    let content = html! {
        dl {
            @for listens in agent.listens.iter().take(ROWS) {
                dt { "traps on " (listens.address) }
                dd {
                    "receive buffer " (mebibytes(listens.buffer_bytes))
                    @if listens.buffer_bytes < listens.buffer_asked_bytes {
                        " of " (mebibytes(listens.buffer_asked_bytes)) " asked for"
                    }
                    @if listens.drops > 0 { " " (chip("down", &format!("{} dropped", listens.drops))) }
                }
            }
            dt { "datagrams" } dd { (agent.datagrams) ", " (agent.discarded) " not taken in" }
            dt { "systems and interfaces" } dd { (agent.objects) " in memory" }
            dt { "informs" }
            dd { (informs.taken) " taken in, " (informs.waiting) " answers waiting, spool "
                 (mebibytes(informs.spool_bytes)) }
            dt { "SNMPv3" }
            dd {
                (snmpv3.opened) " messages opened, " (snmpv3.engines) " engines known"
                @for (step, count) in &snmpv3.refused { ", " (count) " " (step) }
            }
            dt { "SNMP engine" } dd { code { (engine.id) } ", boot " (engine.boots) }
        }
    };
    section("agent", "Agent", cut(&agent.name), &content)
}

fn mebibytes(octets: u64) -> String {
    format!("{:.1} MiB", octets as f64 / f64::from(1 << 20))
}

/// Seconds, as people say them.
pub fn seconds(seconds: f64) -> String {
    let duration = std::time::Duration::try_from_secs_f64(seconds).unwrap_or_default();
    Pretty(duration).to_string()
}
