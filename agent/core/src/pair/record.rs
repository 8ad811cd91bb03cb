//! The record of the last takeover, as `show redundancy` has it (PAIR-7), and what was not there when
//! it came (PAIR-11).

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use super::term::Term;
use crate::time::{Pretty, Time};

/// Why an agent became primary, or began a new term as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Reason {
    /// The mate, which was primary, is silent (PAIR-3 a).
    MateSilent,
    /// The mate, which was primary, has started anew, so it has ended.
    MateRestarted,
    /// The mate says that it may not be primary: it is cut off from its witnesses, or a part of it
    /// fails.
    MateUnfit,
    /// A part of the mate fails, and it asks (PAIR-3 b).
    PartFailing,
    /// An operator ordered it (PAIR-3 c).
    Operator,
    /// The mate is shutting down (PAIR-3 d).
    MateStopping,
    /// It has the higher priority (PAIR-5).
    Failback,
    /// It was preferred where nobody was primary (PAIR-2).
    Elected,
    /// It was the last primary, and goes on as nobody else is (PAIR-2).
    Resumed,
    /// It goes on without its standby (PAIR-17).
    Alone,
    /// It heard of a higher term that is over.
    Overtaken,
}

impl Reason {
    /// The name in metrics and in the status.
    pub const fn name(self) -> &'static str {
        match self {
            Reason::MateSilent => "mate_silent",
            Reason::MateRestarted => "mate_restarted",
            Reason::MateUnfit => "mate_unfit",
            Reason::PartFailing => "part_failing",
            Reason::Operator => "operator",
            Reason::MateStopping => "mate_stopping",
            Reason::Failback => "failback",
            Reason::Elected => "elected",
            Reason::Resumed => "resumed",
            Reason::Alone => "alone",
            Reason::Overtaken => "overtaken",
        }
    }

    /// What kind of takeover it is: nothing if it is none, as the mate was not primary before.
    pub const fn kind(self) -> Option<Kind> {
        match self {
            Reason::MateSilent
            | Reason::MateRestarted
            | Reason::MateUnfit
            | Reason::PartFailing
            | Reason::Failback => Some(Kind::Automatic),
            // Who stops an agent has ordered what follows from it.
            Reason::Operator | Reason::MateStopping => Some(Kind::Ordered),
            Reason::Elected | Reason::Resumed | Reason::Alone | Reason::Overtaken => None,
        }
    }
}

/// Whether a takeover counts for the limit (PAIR-6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// It was the pair's own decision, and counts.
    Automatic,
    /// Somebody ordered it; it neither counts nor is limited.
    Ordered,
}

/// A part of the state that mates share (PAIR-11).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Part {
    /// Active alarms.
    Alarms,
    /// Objects that are counting or unstable.
    Objects,
    /// Flows of subnets.
    Flows,
    /// Peers.
    Peers,
    /// What each notification target has acknowledged.
    Outbox,
    /// SNMPv3 engines, their boots and times.
    Engines,
}

impl Part {
    /// Every part.
    pub const ALL: [Part; 6] =
        [Part::Alarms, Part::Objects, Part::Flows, Part::Peers, Part::Outbox, Part::Engines];

    /// As an operator reads it.
    pub const fn name(self) -> &'static str {
        match self {
            Part::Alarms => "alarms",
            Part::Objects => "objects",
            Part::Flows => "flows",
            Part::Peers => "peers",
            Part::Outbox => "outbox",
            Part::Engines => "engines",
        }
    }
}

/// Some of the parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Parts(u8);

impl Parts {
    /// None of them.
    pub const NONE: Parts = Parts(0);
    /// All of them.
    pub const ALL: Parts = Parts((1 << Part::ALL.len()) - 1);

    /// These parts.
    pub fn of(parts: &[Part]) -> Parts {
        Parts(parts.iter().fold(0, |bits, part| bits | 1 << *part as u8))
    }

    /// Whether it is among them.
    pub const fn contains(self, part: Part) -> bool {
        self.0 >> part as u8 & 1 == 1
    }
}

impl fmt::Display for Parts {
    /// Their names with commas between them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> =
            Part::ALL.into_iter().filter(|part| self.contains(*part)).map(Part::name).collect();
        f.write_str(&names.join(", "))
    }
}

/// What was not there at a takeover (PAIR-11).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Degraded {
    /// What had not been copied.
    pub missing: Parts,
    /// For how long nothing had been synchronised, if that was long.
    pub stale: Option<Duration>,
}

impl fmt::Display for Degraded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.missing != Parts::NONE {
            write!(f, "without its {}", self.missing)?;
        }
        match self.stale {
            Some(stale) if self.missing != Parts::NONE => {
                write!(f, "; not synchronised for {}", Pretty(stale))
            }
            Some(stale) => write!(f, "not synchronised for {}", Pretty(stale)),
            None => Ok(()),
        }
    }
}

/// One takeover.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Takeover {
    /// The term that it began; its agent is who took over.
    pub term: Term,
    /// When.
    pub at: Time,
    /// Why.
    pub reason: Reason,
    /// Whether it counted for the limit.
    pub kind: Kind,
    /// What was not there; nothing if all was.
    pub degraded: Option<Degraded>,
}

/// The record: the same on both agents as soon as they have told each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Record {
    /// Takeovers of the pair since the counters were reset.
    pub count: u32,
    /// The last one.
    pub last: Option<Takeover>,
}

impl Record {
    /// One more.
    pub const fn add(&mut self, takeover: Takeover) {
        self.count = self.count.saturating_add(1);
        self.last = Some(takeover);
    }

    /// For the mate and for the disk.
    pub fn said(&self, now: Time) -> RecordSaid {
        let last = self.last.map(|last| LastSaid {
            term: last.term,
            age: now.since(last.at),
            reason: last.reason,
            kind: last.kind,
            degraded: last.degraded,
        });
        RecordSaid { count: self.count, last }
    }

    /// Takes over what the mate, or the disk, knows if it is later. Returns whether it was.
    pub fn learn(&mut self, said: RecordSaid, now: Time) -> bool {
        let Some(last) = said.last else { return false };
        if self.last.is_some_and(|known| known.term.number >= last.term.number) {
            return false;
        }
        let LastSaid { term, age, reason, kind, degraded } = last;
        let last = Some(Takeover { term, at: now - age, reason, kind, degraded });
        *self = Record { count: said.count, last };
        true
    }
}

/// A [`Record`], with an age for a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RecordSaid {
    /// Takeovers since the counters were reset.
    pub count: u32,
    /// The last one.
    pub last: Option<LastSaid>,
}

impl RecordSaid {
    /// The same, when it has lain about for so long.
    pub fn aged(self, away: Duration) -> RecordSaid {
        let last = self.last.map(|last| LastSaid { age: last.age + away, ..last });
        RecordSaid { last, ..self }
    }
}

/// A [`Takeover`], with an age for a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LastSaid {
    /// The term that it began.
    pub term: Term,
    /// How long ago it was.
    pub age: Duration,
    /// Why.
    pub reason: Reason,
    /// Whether it counted for the limit.
    pub kind: Kind,
    /// What was not there.
    pub degraded: Option<Degraded>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pair::term::Slot;

    #[test]
    fn pair_7_both_have_the_record_of_the_later_takeover() {
        let at = Time::from_secs;
        let takeover = |number, seconds| Takeover {
            term: Term { number, by: Slot::One },
            at: at(seconds),
            reason: Reason::MateSilent,
            kind: Kind::Automatic,
            degraded: None,
        };
        let (mut here, mut there) = (Record::default(), Record::default());
        here.add(takeover(2, 100));
        assert!(there.learn(here.said(at(110)), at(5010)));
        assert_eq!((there.count, there.last), (1, Some(takeover(2, 5000))), "an age, not a date");
        there.add(takeover(3, 5020));
        assert!(!there.learn(here.said(at(130)), at(5030)));
        assert!(here.learn(there.said(at(5030)), at(130)));
        assert_eq!(here.count, 2);
    }

    #[test]
    fn pair_11_a_degraded_takeover_says_what_was_not_there() {
        let missing = Parts::of(&[Part::Outbox, Part::Objects]);
        let stale = Some(Duration::from_secs(61));
        for (missing, stale, text) in [
            (missing, None, "without its objects, outbox"),
            (Parts::NONE, stale, "not synchronised for 1m1s"),
            (missing, stale, "without its objects, outbox; not synchronised for 1m1s"),
        ] {
            assert_eq!(Degraded { missing, stale }.to_string(), text);
        }
        assert!(Part::ALL.into_iter().all(|part| Parts::ALL.contains(part)));
    }
}
