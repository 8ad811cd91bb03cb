//! The pair for a person at a terminal, and for a script: what is wrong first.

use std::time::Duration;

use anstyle::Style;
use evenkeel_core::time::Pretty;

use super::status::{
    ChannelStatus, MateStatus, PairDocument, PairStatus, PathStatus, SynchronisationStatus,
    TakeoverStatus, TermStatus, WitnessStatus,
};
use crate::status::{
    fields, milliseconds,
    screen::{Age, BAD, BOLD, DIM, GOOD, PLAIN, Screen, Text, WARN, count},
    whole_seconds,
};

/// Where what is said of something begins.
const COLUMN: usize = 20;

/// Where what is said of the mate begins.
const MATE: usize = 44;

impl PairDocument {
    /// The document for a person at a terminal, with styles.
    pub fn text(&self, width: usize) -> String {
        let mut screen = Screen::new(width);
        let pair = &self.pair;
        let mut line = Text::new(BOLD, format_args!("{}: ", pair.here.name));
        line.append(pair.summary());
        screen.line(0, line);
        screen.line(0, Text::new(DIM, &self.at));
        for problem in &pair.problems {
            screen.line(2, Text::new(WARN, format_args!("! {problem}")));
        }
        pair.show_agents(&mut screen);
        pair.show_ways(&mut screen);
        pair.show_takeovers(&mut screen);
        pair.show_heartbeats(&mut screen);
        screen.finish()
    }
}

impl PairStatus {
    /// The section of the agent's status.
    pub fn show(&self, screen: &mut Screen) {
        screen.section(BOLD, "PAIR", self.summary());
        for path in &self.paths {
            let of = format!("path {}", path.interface);
            screen.pair(2, of, COLUMN, path.text());
        }
        screen.pair(2, "state channel", COLUMN, self.state_channel.text());
        screen.pair(2, "synchronisation", COLUMN, self.synchronisation.text());
    }

    /// Who is what, in one line.
    pub fn summary(&self) -> Text {
        let mut text = Text::default();
        let style = if self.role == "undecided" { WARN } else { GOOD };
        text.list(style.bold(), &self.role);
        if let Some(term) = self.term {
            text.push(PLAIN, format_args!(" in term {}", term.number));
        }
        if self.role == "primary" {
            match (self.may_speak, self.without_standby) {
                (true, false) => text.list(GOOD, "it speaks"),
                (true, true) => text.list(WARN, "it speaks, without a standby"),
                (false, _) => text.list(BAD, "it does not speak now"),
            }
        }
        if self.held {
            text.list(WARN, "held: nobody takes over");
        }
        text.push(PLAIN, "; ");
        text.append(self.mate.summary());
        text
    }

    fn show_agents(&self, screen: &mut Screen) {
        let said = self.mate.said.as_ref();
        let unknown = || "-".to_owned();
        let of_mate =
            |tell: &dyn Fn(&super::status::MateSaid) -> String| said.map_or_else(unknown, tell);
        let term = |term: Option<TermStatus>| {
            term.map_or_else(unknown, |term| {
                format!("{} (begun by slot {})", term.number, term.by_slot)
            })
        };
        screen.section(BOLD, "AGENTS", "");
        let its_mate = if self.mate.heard { "its mate" } else { "its mate, as it said last" };
        let mate_name = self.mate.name.clone().unwrap_or_else(unknown);
        for (what, here, mate) in [
            ("", "this agent".to_owned(), its_mate.to_owned()),
            ("name", self.here.name.clone(), mate_name),
            ("slot", self.here.slot.to_string(), self.mate.slot.to_string()),
            ("role", self.role.clone(), of_mate(&|said| said.role.clone())),
            ("term", term(self.term), of_mate(&|said| term(said.term))),
            ("version", self.here.version.clone(), of_mate(&|said| said.version.clone())),
            (
                "priority",
                self.here.priority.to_string(),
                of_mate(&|said| said.priority.to_string()),
            ),
            ("would take over", unknown(), of_mate(&|said| yes(said.able).to_owned())),
        ] {
            let gap = " ".repeat((MATE - COLUMN).saturating_sub(here.len()).max(2));
            screen.pair(2, Text::new(DIM, what), COLUMN, unbroken(&format!("{here}{gap}{mate}")));
        }
        if let Some(known) = self.known_term.filter(|known| Some(*known) != self.term) {
            let known = Some(known);
            screen.pair(2, Text::new(DIM, "highest term"), COLUMN, term(known));
        }
        match self.versions.as_deref() {
            Some("degraded") => screen.line(
                2,
                Text::new(
                    WARN,
                    "the versions differ in the middle number: what both know is shared",
                ),
            ),
            Some("out") => screen.line(
                2,
                Text::new(BAD, "the versions differ in the first number: the standby stays out"),
            ),
            Some(_) | None => {}
        }
    }

    fn show_ways(&self, screen: &mut Screen) {
        screen.section(BOLD, "HEARTBEAT PATHS", "");
        for path in &self.paths {
            screen.pair(2, &path.interface, COLUMN, path.text());
        }
        screen.section(BOLD, "STATE CHANNEL", self.state_channel.text());
        screen.section(BOLD, "SYNCHRONISATION", self.synchronisation.text());
        let mut note = Text::default();
        if self.witnesses.is_empty() {
            note.push(WARN, "none: a cut-off agent can't be told from a well one");
        }
        if !self.network_up {
            note.list(BAD, "this host has no network");
        }
        screen.section(BOLD, "WITNESSES", note);
        for witness in &self.witnesses {
            screen.pair(2, &witness.address, COLUMN, witness.text());
        }
    }

    fn show_takeovers(&self, screen: &mut Screen) {
        let mut note = Text::from(count(self.takeovers.into(), "takeover", "takeovers"));
        if let Some(limit) = &self.limit {
            let period = Pretty(Duration::from_secs(limit.period_seconds));
            let (within, count) = (limit.within, limit.count);
            note.list(PLAIN, format_args!("{within} automatic of at most {count} within {period}"));
            if let Some(seconds) = limit.suppressed_for_seconds {
                let age = Age::of_seconds(seconds);
                note.list(BAD, format_args!("the next one is suppressed for {age}"));
            }
        } else {
            note.list(PLAIN, "no limit");
        }
        screen.section(BOLD, "TAKEOVERS", note);
        if let Some(last) = &self.last_takeover {
            let who = self.name_of(last.by_slot);
            screen.pair(2, "last", COLUMN, format_args!("{} by {who}", last.at));
            screen.pair(2, "term", COLUMN, last.term);
            screen.pair(2, "reason", COLUMN, last.reason_in_words());
            screen.pair(2, "kind", COLUMN, &last.kind);
            if let Some(degraded) = &last.degraded {
                screen.pair(2, "degraded", COLUMN, Text::new(WARN, degraded));
            }
        }
    }

    fn show_heartbeats(&self, screen: &mut Screen) {
        let heartbeats = &self.heartbeats;
        let mut note =
            Text::from(format_args!("{} sent, {} received", heartbeats.sent, heartbeats.received));
        for (why, count) in &heartbeats.discarded {
            note.list(WARN, format_args!("{count} {why}"));
        }
        if heartbeats.stalls > 0 {
            let times = count(heartbeats.stalls, "time", "times");
            note.list(WARN, format_args!("this agent stood still {times}"));
        }
        screen.section(BOLD, "HEARTBEATS", note);
    }

    /// The name of the agent of a slot.
    pub fn name_of(&self, slot: u8) -> String {
        if slot == self.here.slot {
            return self.here.name.clone();
        }
        self.mate.name.clone().unwrap_or_else(|| format!("the mate, slot {slot}"))
    }

    /// The pair for a script.
    pub fn lines(&self) -> String {
        let number =
            |term: Option<TermStatus>| term.map_or(String::new(), |term| term.number.to_string());
        let said = self.mate.said.as_ref();
        let mut out = fields(&[
            "pair",
            &self.role,
            &number(self.term),
            yes(self.may_speak),
            &milliseconds(Some(self.licence_seconds * 1e3)),
            self.mate.name.as_deref().unwrap_or_default(),
            yes(self.mate.heard),
            said.map_or("", |said| &said.role),
            &number(said.and_then(|said| said.term)),
            if self.held { "held" } else { "" },
            &self.synchronisation.state,
            &self.synchronisation.lag_events.to_string(),
            &milliseconds(Some(self.synchronisation.lag_seconds * 1e3)),
        ]);
        out.extend(self.paths.iter().map(|path| {
            let up = if path.up { "up" } else { "down" };
            let heard = whole_seconds(path.heard_seconds_ago);
            fields(&["path", &path.interface, up, &path.local, &path.mate, &heard])
        }));
        let channel = &self.state_channel;
        out += &fields(&[
            "state_channel",
            if channel.up { "up" } else { "down" },
            &channel.mate,
            channel.cause.as_deref().unwrap_or_default(),
            &whole_seconds(Some(channel.since_seconds)),
        ]);
        out
    }
}

impl MateStatus {
    fn summary(&self) -> Text {
        let name = self.name.as_deref().unwrap_or("the mate");
        let mut text = Text::default();
        match (&self.said, self.heard) {
            (Some(said), true) => {
                let style = if said.role == "undecided" { WARN } else { PLAIN };
                text.push(style, format_args!("{name} is {}", said.role));
                if said.stopping {
                    text.push(WARN, " and stopping");
                }
            }
            (Some(_), false) => {
                let ago = Age::of_seconds(self.heard_seconds_ago);
                text.push(BAD, format_args!("{name} is silent for {ago}"));
            }
            (None, _) => text.push(BAD, format_args!("{name} was not heard yet")),
        }
        text
    }
}

impl PathStatus {
    fn text(&self) -> Text {
        let mut text = up_or_down(self.up);
        match self.heard_seconds_ago {
            Some(ago) => text.list(PLAIN, format_args!("heard {ago:.1}s ago")),
            None => text.list(PLAIN, "never heard"),
        }
        text.list(PLAIN, format_args!("{} > {}", self.local, self.mate));
        if let Some(error) = &self.error {
            text.list(WARN, error);
        }
        for (why, count) in &self.not_sent {
            text.list(WARN, format_args!("{count} not sent: {why}"));
        }
        text
    }
}

impl ChannelStatus {
    fn text(&self) -> Text {
        let mut text = up_or_down(self.up);
        match self.cause.as_deref() {
            Some("connect") => text.list(PLAIN, "cannot connect to the mate"),
            Some("read") => text.list(PLAIN, "cannot read from the mate"),
            Some("write") => text.list(PLAIN, "cannot write to the mate"),
            Some(other) => text.list(PLAIN, other),
            None => {}
        }
        if let Some(refused) = &self.refused {
            text.list(BAD, format_args!("the mate was refused: {refused}"));
        }
        text.list(PLAIN, format_args!("for {}", Age::of_seconds(self.since_seconds)));
        text.list(PLAIN, format_args!("the mate listens on {}", self.mate));
        text
    }
}

impl SynchronisationStatus {
    fn text(&self) -> Text {
        let mut text = match self.state.as_str() {
            "in_sync" => Text::new(GOOD, "all of the state is on both"),
            "copying" => Text::new(WARN, "a full copy is under way"),
            "stale" => Text::new(BAD, "the state goes no longer to the standby"),
            "never" => Text::new(WARN, "nothing was synchronised yet"),
            other => Text::from(other),
        };
        if !self.missing.is_empty() {
            text.list(WARN, format_args!("missing: {}", self.missing.join(" ")));
        }
        if let Some(ago) = self.synchronised_seconds_ago {
            text.list(PLAIN, format_args!("the last time {ago:.1}s ago"));
        }
        if self.lag_events > 0 {
            let events = count(self.lag_events.into(), "event", "events");
            text.list(PLAIN, format_args!("{events} and {:.1}s behind", self.lag_seconds));
        }
        text
    }
}

impl TakeoverStatus {
    /// Why an agent took over, for people.
    pub fn reason_in_words(&self) -> &str {
        match self.reason.as_str() {
            "mate_silent" => "the primary was silent",
            "mate_restarted" => "the primary had started anew",
            "mate_unfit" => "the primary was cut off, or a part of it failed",
            "part_failing" => "a part of the primary failed, and it asked",
            "operator" => "an operator ordered it",
            "mate_stopping" => "the primary was stopped",
            "failback" => "failback to the agent of the higher priority",
            other => other,
        }
    }
}

impl WitnessStatus {
    fn text(&self) -> Text {
        let mut text = Text::from(self.from.replace('_', " "));
        match (self.asked_seconds_ago, self.answered_seconds_ago) {
            (None, _) => text.list(PLAIN, "not asked, as the mate is heard"),
            (Some(_), Some(ago)) => {
                text.list(PLAIN, format_args!("answered {} ago", Age::of_seconds(ago)));
            }
            (Some(ago), None) => {
                text.list(BAD, format_args!("asked {} ago, no answer", Age::of_seconds(ago)));
            }
        }
        if let Some(error) = &self.error {
            text.list(WARN, error);
        }
        text
    }
}

fn up_or_down(up: bool) -> Text {
    let (style, word): (Style, _) = if up { (GOOD, "up") } else { (BAD, "down") };
    Text::new(style, word)
}

const fn yes(so: bool) -> &'static str {
    if so { "yes" } else { "no" }
}

/// A row whose columns stay where they are, as far as the screen is wide enough.
fn unbroken(row: &str) -> Text {
    Text::from(row.replace(' ', "\u{a0}"))
}
