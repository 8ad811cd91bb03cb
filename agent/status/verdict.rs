//! What is wrong, in sum: the first line of every form.

use anstyle::Style;
use evenkeel_core::alarm::Severity;

use super::{
    Status, UpDown,
    screen::{self, Text, count},
};

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// An alarm of this severity is active.
    Alarm(Severity),
    /// The agent can't do all that it should.
    Problem,
    /// There is no alarm, but not everything has been judged.
    Unknown,
    /// All is well.
    Well,
}

impl Level {
    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Level::Alarm(severity) => severity.name(),
            Level::Problem => "problem",
            Level::Unknown => "unknown",
            Level::Well => "ok",
        }
    }

    /// How it is shown.
    pub const fn style(self) -> Style {
        match self {
            Level::Alarm(severity) => screen::of_severity(severity),
            Level::Problem | Level::Unknown => screen::WARN,
            Level::Well => screen::GOOD,
        }
    }
}

/// What is wrong in sum, the worst first; never empty.
pub struct Verdict(Vec<(Level, String)>);

impl Verdict {
    /// The worst of it.
    pub fn worst(&self) -> Level {
        self.0.first().map_or(Level::Well, |(level, _)| *level)
    }

    /// In words, each in its style.
    pub fn text(&self) -> Text {
        let mut text = Text::default();
        for (level, words) in &self.0 {
            text.list(level.style().bold(), words);
        }
        text
    }

    /// In plain words.
    pub fn words(&self) -> String {
        self.0.iter().map(|(_, words)| words.as_str()).collect::<Vec<_>>().join(", ")
    }
}

impl Status {
    /// What is wrong in sum.
    pub fn verdict(&self) -> Verdict {
        let mut parts = Vec::new();
        for severity in Severity::ALL {
            match self.alarms_by_severity.of(severity) {
                0 => {}
                active => {
                    parts.push((Level::Alarm(severity), format!("{active} {}", severity.name())));
                }
            }
        }
        match self.problems().count() as u64 {
            0 => {}
            problems => {
                let words = count(problems, "problem of the agent", "problems of the agent");
                parts.push((Level::Problem, words));
            }
        }
        if parts.is_empty() {
            parts.push(match self.subnets_that_are(UpDown::Unknown) {
                0 => (Level::Well, "all is well".to_owned()),
                unknown => {
                    let subnets = count(unknown, "subnet is", "subnets are");
                    (Level::Unknown, format!("no alarm, but {subnets} not known to work"))
                }
            });
        }
        Verdict(parts)
    }

    /// What keeps the agent from doing all that it should: its own problems, and those of its peer
    /// monitor and of its pair.
    pub fn problems(&self) -> impl Iterator<Item = &str> {
        let of_peers = self.peers.iter().flat_map(|peers| &peers.problems);
        let of_pair = self.pair.iter().flat_map(|pair| &pair.problems);
        self.agent.problems.iter().chain(of_peers).chain(of_pair).map(String::as_str)
    }

    /// How many subnets are in this state.
    pub fn subnets_that_are(&self, state: UpDown) -> u64 {
        self.subnets.iter().filter(|subnet| subnet.status == state).count() as u64
    }
}
