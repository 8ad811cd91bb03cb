//! Whether each part of this agent is alive, and what follows if one is not (PAIR-9).
//!
//! Each part counts its *signs of life*. The supervisor looks at all of them once in an interval and hands
//! them in here:
//!
//! ```text
//!             no sign in `missed` looks in a row
//!   alive ─────────────────────────────────────> stalled
//!     ^                                             │
//!     └─────────────────────────────────────────────┘
//!                      a sign
//! ```
//!
//! A look that comes late says that the supervisor itself did not run: the whole process was stopped, or
//! starved of CPU. What was not heard in that time is no evidence against a part, so nothing is counted.
//!
//! What follows from a part that stalls:
//!
//! ```text
//!              of a pair                      the mate has taken over
//!   watching ─────────────> asked the mate ─────────────────────────────> handed over
//!      │  ^                   │      │                                        │
//!      │  └── none stalled ───┘      │ nobody takes over, or no answer        │
//!      │ alone                       v                                        v
//!      └───────────────────────> ends, to be started again <──────────────────┘
//! ```
//!
//! **A disk that stands still** is no fault of the part that waits for it. The mate's disk is well, so a
//! primary hands over all the same. But a process that waits in the kernel for a disk can't be ended, nor
//! could the next one start from that disk, and what this one has in memory would be lost. So who has nobody
//! to hand over to goes on until the disk is back, and who has handed over ends when it is back.

use std::{collections::VecDeque, fmt, time::Duration};

use crate::time::{Pretty, Time};

/// How long a primary that has asked its mate to take over waits for that: what a mate needs is a heartbeat
/// and its answer, some 1 s (PAIR-15).
pub const PATIENCE: Duration = Duration::from_secs(3);

/// How long an agent that is alone goes on after it has found a part stalled, so that the other parts can
/// journal the alarm and send it.
pub const LAST_WORDS: Duration = Duration::from_secs(1);

/// A part of the agent that shows signs of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// Takes traps out of their sockets.
    TrapIntake,
    /// Takes the answers to the polls of subnets out of their sockets.
    Poller,
    /// Sends heartbeats to peers and takes in their answers.
    PeerPoller,
    /// Judges all that comes in.
    Core,
    /// Sends notifications and forwards traps that are acknowledged.
    Outbox,
    /// Writes the journal and the records.
    Store,
    /// Writes traps that must be safe before they are answered.
    Spool,
    /// Forwards traps that nobody acknowledges.
    Forwarder,
    /// Speaks with the mate.
    StateChannel,
}

impl Part {
    /// How many there are.
    pub const COUNT: usize = 9;

    /// All of them.
    pub const ALL: [Part; Part::COUNT] = [
        Part::TrapIntake,
        Part::Poller,
        Part::PeerPoller,
        Part::Core,
        Part::Outbox,
        Part::Store,
        Part::Spool,
        Part::Forwarder,
        Part::StateChannel,
    ];

    /// Its name in alarms, metrics and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Part::TrapIntake => "trap_intake",
            Part::Poller => "poller",
            Part::PeerPoller => "peer_poller",
            Part::Core => "core",
            Part::Outbox => "outbox",
            Part::Store => "store",
            Part::Spool => "spool",
            Part::Forwarder => "forwarder",
            Part::StateChannel => "state_channel",
        }
    }

    /// The part of this name.
    pub fn of_name(name: &str) -> Option<Part> {
        Part::ALL.into_iter().find(|part| part.name() == name)
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How parts are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How often they are looked at.
    pub interval: Duration,
    /// In how many looks in a row a part must have given no sign to count as stalled.
    pub missed: u32,
    /// Whether anything follows from a part that stalls, beside that it is told.
    pub enabled: bool,
}

impl Default for Settings {
    /// Six of 500 ms, as many as a mate may miss of the heartbeats (PAIR-9).
    fn default() -> Settings {
        Settings { interval: Duration::from_millis(500), missed: 6, enabled: true }
    }
}

/// What a part shows when it is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sign {
    /// A number that is another one than before if it has given a sign since.
    pub count: u64,
    /// It waits for the disk.
    pub at_disk: bool,
}

/// What the parts show. Nothing for one that this agent does not have.
pub type Signs = [Option<Sign>; Part::COUNT];

/// What is known of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartState {
    /// What it showed last.
    pub sign: Sign,
    /// When it was last seen to have given a sign.
    pub last_sign: Time,
    /// In how many looks in a row it has given none.
    pub missed: u32,
    /// It counts as stalled.
    pub stalled: bool,
}

/// What comes of a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A part has stalled.
    Stalled(Stall),
    /// A part that had stalled gives signs again, or is no longer needed.
    Recovered {
        /// Which.
        part: Part,
        /// How long it was silent.
        silent: Duration,
        /// When that was seen.
        at: Time,
    },
    /// The pair's machine is to be told whether parts fail.
    TellPair {
        /// Some do.
        failing: bool,
    },
    /// This process is to end and to be started again: this part has stalled, or had.
    End(Part),
}

/// A part has stalled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stall {
    /// Which.
    pub part: Part,
    /// How long it has been silent.
    pub silent: Duration,
    /// It waits for the disk.
    pub at_disk: bool,
    /// When that was found.
    pub at: Time,
}

impl Stall {
    /// What the alarm says, which names the part itself.
    pub fn detail(&self) -> String {
        let Stall { silent, at_disk, .. } = self;
        let silent = Pretty(Duration::from_millis(u64::try_from(silent.as_millis()).unwrap_or(0)));
        match at_disk {
            true => format!("no sign of life for {silent}, as the disk stands still"),
            false => format!("no sign of life for {silent}"),
        }
    }
}

/// The machine.
#[derive(Clone, Debug)]
pub struct Supervision {
    settings: Settings,
    /// Whether there is a mate to ask.
    paired: bool,
    parts: [Option<PartState>; Part::COUNT],
    stalls: [u64; Part::COUNT],
    /// Looks that came so late that they say nothing.
    late: u64,
    /// When the next look is due; nothing before the first.
    due: Option<Time>,
    course: Course,
    events: VecDeque<Event>,
}

/// How far the consequences of a stall are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Course {
    Watching,
    /// Of an agent that is alone: it ends at this moment, so that what must be told can leave.
    LastWords(Time),
    /// The mate was asked to take over, and has until this moment.
    Asked(Time),
    /// The mate has taken over.
    HandedOver(Part),
    /// The process is about to end, or stops in an orderly way.
    Over,
}

impl Supervision {
    /// Watches from now on; `paired` if there is a mate that could be asked to take over.
    pub fn new(settings: Settings, paired: bool) -> Supervision {
        Supervision {
            settings,
            paired,
            parts: [None; Part::COUNT],
            stalls: [0; Part::COUNT],
            late: 0,
            due: None,
            course: Course::Watching,
            events: VecDeque::new(),
        }
    }

    /// Takes in what the parts show. To be called when [`due`](Supervision::due) has come.
    pub fn look(&mut self, signs: &Signs, now: Time) {
        // One interval late is a supervisor that was not run; what is less, a part that is alive makes up
        // for within the looks that it may miss.
        let late = self.due.is_some_and(|due| now > due + self.settings.interval);
        self.late += u64::from(late);
        self.due = Some(now + self.settings.interval);
        for (part, sign) in Part::ALL.into_iter().zip(signs) {
            self.look_at(part, *sign, late, now);
        }
        self.follow(now);
    }

    fn look_at(&mut self, part: Part, sign: Option<Sign>, late: bool, now: Time) {
        let place = part as usize;
        let Some(sign) = sign else {
            let before = self.parts[place].take();
            if let Some(PartState { stalled: true, last_sign, .. }) = before {
                let silent = now.since(last_sign);
                self.events.push_back(Event::Recovered { part, silent, at: now });
            }
            return;
        };
        let new = PartState { sign, last_sign: now, missed: 0, stalled: false };
        let state = self.parts[place].get_or_insert(new);
        if state.sign.count != sign.count {
            if state.stalled {
                let silent = now.since(state.last_sign);
                self.events.push_back(Event::Recovered { part, silent, at: now });
            }
            *state = new;
        } else if !late && state.last_sign < now {
            state.sign = sign;
            state.missed = state.missed.saturating_add(1);
            if !state.stalled && state.missed >= self.settings.missed {
                state.stalled = true;
                self.stalls[place] += 1;
                let (silent, at_disk) = (now.since(state.last_sign), sign.at_disk);
                self.events.push_back(Event::Stalled(Stall { part, silent, at_disk, at: now }));
            }
        }
    }

    /// The pair's machine says that nobody takes over: this agent is to go on without asking.
    pub fn nobody_takes_over(&mut self, now: Time) {
        if let Course::Asked(until) = self.course {
            self.course = Course::Asked(until.min(now));
            self.follow(now);
        }
    }

    /// The mate has taken over.
    pub fn handed_over(&mut self, now: Time) {
        if let (Course::Asked(_), Some(part)) = (self.course, self.first_stalled()) {
            self.course = Course::HandedOver(part);
            self.follow(now);
        }
    }

    /// This agent stops in an orderly way, which may take a part longer than it may be silent.
    pub const fn stand_down(&mut self) {
        self.course = Course::Over;
    }

    /// Goes on with the consequences.
    fn follow(&mut self, now: Time) {
        if !self.settings.enabled {
            return;
        }
        match (self.course, self.first_stalled(), self.curable()) {
            (Course::Watching, Some(_), _) if self.paired => {
                self.events.push_back(Event::TellPair { failing: true });
                self.course = Course::Asked(now + PATIENCE);
            }
            (Course::Watching, _, Some(_)) => self.course = Course::LastWords(now + LAST_WORDS),
            (Course::LastWords(_), _, None) => self.course = Course::Watching,
            (Course::LastWords(until), _, Some(part)) if now >= until => self.end(part),
            (Course::Asked(_), None, _) => {
                self.events.push_back(Event::TellPair { failing: false });
                self.course = Course::Watching;
            }
            (Course::Asked(until), _, Some(part)) if now >= until => self.end(part),
            (Course::HandedOver(_), _, Some(part)) => self.end(part),
            (Course::HandedOver(part), None, _) => self.end(part),
            (
                Course::Watching
                | Course::LastWords(_)
                | Course::Asked(_)
                | Course::HandedOver(_)
                | Course::Over,
                _,
                _,
            ) => {}
        }
    }

    fn end(&mut self, part: Part) {
        self.course = Course::Over;
        self.events.push_back(Event::End(part));
    }

    fn stalled(&self) -> impl Iterator<Item = Part> + '_ {
        Part::ALL.into_iter().filter(|part| self.part(*part).is_some_and(|state| state.stalled))
    }

    fn first_stalled(&self) -> Option<Part> {
        self.stalled().next()
    }

    /// A stalled part that a new process would cure.
    fn curable(&self) -> Option<Part> {
        self.stalled().find(|part| !self.at_disk(*part))
    }

    fn at_disk(&self, part: Part) -> bool {
        self.part(part).is_some_and(|state| state.sign.at_disk)
    }

    /// What has come of the looks so far, in order.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When the next look is due; at once before the first.
    pub fn due(&self) -> Time {
        self.due.unwrap_or(Time::ZERO)
    }

    /// Whether a service manager may be told that all is well: no part has stalled that a restart would
    /// cure. Where nothing is to follow from a stall, it is always well.
    pub fn is_well(&self) -> bool {
        !self.settings.enabled || self.curable().is_none()
    }

    /// What is known of a part; nothing if this agent does not have it.
    pub const fn part(&self, part: Part) -> Option<&PartState> {
        self.parts[part as usize].as_ref()
    }

    /// How often a part has stalled.
    pub const fn stalls(&self, part: Part) -> u64 {
        self.stalls[part as usize]
    }

    /// How many looks came so late that they say nothing of the parts.
    pub const fn late(&self) -> u64 {
        self.late
    }
}
