//! The protocol of a pair: two agents that guard each other and speak with one voice (the rules of
//! `pair.md`).
//!
//! [`Pair`] is what one of the two knows and decides. It sends nothing, waits for nothing and reads no
//! clock; the model checker and the simulation of the tests run the very code that the agent does. An
//! agent without a mate has no `Pair`: it is *alone*, and speaks (PAIR-1).
//!
//! # The picture
//!
//! ```text
//!                     hears a primary
//!   Undecided ───────────────────────────────────> Standby <──────────────────────────┐
//!       │                                             │                               │
//!       │ is elected, or hears nobody                 │ the mate is silent, asks,     │
//!       │ for the mate time-out                       │ or has started anew;          │ meets a higher term,
//!       │                                             │ an operator orders it         │ has handed over, or
//!       v                                             v                               │ is cut off
//!   (the new term is being kept on disk) ──────────> Primary ─────────────────────────┘
//!                                                     │  ^
//!                                                     └──┘ goes on alone, in a new term
//! ```
//!
//! A primary speaks while it has a licence, or is alone ([`licence`]). What happens for each role and
//! each sight of the mate is one `match`, in `machine/deciding.rs`.
//!
//! # The contract
//!
//! Hand in what has happened by [`Pair::handle`], each input with the moment of its receipt, and at
//! last [`Input::Now`], which says that everything up to then has been handed in. Only then is anything
//! judged: what was received before a deadline counts before it, however late it is read. Then drain
//! [`Pair::poll_event`], [`Pair::poll_keep`], [`Pair::poll_ask`], [`Pair::poll_heartbeat`] and
//! [`Pair::poll_record`], and wait for the next input or for [`Pair::next_deadline`].
//!
//! * A heartbeat goes out on *every* path and, if it is up, on the state channel; a record on the state
//!   channel alone.
//! * What [`Pair::poll_keep`] hands out goes to the disk; when it is safe there, say [`Input::Kept`]. No
//!   term begins before that.
//! * [`Pair::poll_ask`] says when to ask all witnesses; hand in each answer with the moment that was
//!   asked at.
//! * Who is about to speak asks [`Pair::may_speak`] with the time that it is *then*, or compares that
//!   with [`Pair::speaks_until`]. The answer of a moment ago is worth nothing: the agent may have stood
//!   still since.
//!
//! # What it promises
//!
//! * Two primaries that hear each other are one within a heartbeat, and until one follows the other
//!   neither is given a licence by it.
//! * A primary that its standby can't hear, or that stands still, has stopped speaking before the
//!   standby takes over.
//! * A well agent that reaches a witness, or has none to ask, is primary at the latest the mate time-out
//!   and the tie-breaker (two heartbeats) after the last primary ended, unless the limit, an operator's
//!   hold or the mate's version forbids it.
//! * Losses never lead to a takeover as long as each time-out's worth of heartbeats brings one through
//!   on any way.
//!
//! # What it prefers when it can't have both
//!
//! To be heard twice rather than not at all: when both agents reach a witness, or there is none, and
//! neither hears the other, both speak after a pause (PAIR-18). To be silent for seconds rather than to
//! speak out of turn: a primary whose standby falls silent says nothing from two seconds on until it
//! knows that it is alone. To have the state: a primary that ends and starts again finds its standby
//! primary if that has all of the state, and goes on itself if it has not.
//!
//! # What it can't do
//!
//! It can't tell two well agents apart that are cut off from each other while both reach a witness that
//! only answers, and without a witness not even one that is cut off from everyone, unless its host says
//! that it has no network. A witness that grants a lease could; it would be another [`Testimony`].
//! It can't keep the limit for a pair that is split: each counts what it knows of.

pub mod election;
pub mod licence;
pub mod limit;
mod machine;
pub mod message;
pub mod paths;
pub mod record;
pub mod settings;
pub mod sync;
pub mod term;
pub mod version;
pub mod window;
pub mod witness;

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

pub use machine::Pair;

use self::{
    message::{Heartbeat, Orders, TakeoverSaid},
    paths::{Channel, Via, Wrong},
    record::{RecordSaid, Takeover},
    settings::Settings,
    sync::Sync,
    term::{Slot, Term},
    version::Version,
    witness::Testimony,
};
use crate::time::Time;

/// Who this agent is, for the time that it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Its place in the pair.
    pub slot: Slot,
    /// Grows with each start, on disk: what an earlier run has said is known as old.
    pub run: u64,
    /// Its version.
    pub version: Version,
}

/// What must outlive the agent, in ages (PAIR-2, PAIR-6, PAIR-7).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Kept {
    /// The highest term that is known.
    pub known: Option<Term>,
    /// The mate's latest run.
    pub mate_run: u64,
    /// The operator's orders.
    pub orders: Orders,
    /// Automatic takeovers.
    pub takeovers: Vec<TakeoverSaid>,
    /// The last takeover.
    pub record: RecordSaid,
}

/// Everything that can happen to an agent of a pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A heartbeat of the mate came, and is genuine. `at` is when the kernel received it.
    Heartbeat {
        /// By which way.
        via: Via,
        /// What it says.
        heartbeat: Heartbeat,
        /// When.
        at: Time,
    },
    /// The mate's record of the last takeover came by the state channel.
    Record {
        /// The record.
        record: RecordSaid,
        /// When.
        at: Time,
    },
    /// The state channel came up or went down, or it could again not be connected.
    Channel {
        /// How it is.
        channel: Channel,
        /// When.
        at: Time,
    },
    /// How far synchronisation is.
    Sync {
        /// How far.
        sync: Sync,
        /// When.
        at: Time,
    },
    /// A witness said something.
    Witness {
        /// The moment of the [`Pair::poll_ask`] that it answers.
        asked: Time,
        /// What it said.
        testimony: Testimony,
        /// When it was heard.
        at: Time,
    },
    /// A [`Kept`] is on the disk.
    Kept {
        /// Its highest term.
        known: Option<Term>,
        /// When that was known.
        at: Time,
    },
    /// An operator's order.
    Order {
        /// What.
        order: Order,
        /// When.
        at: Time,
    },
    /// A part of this agent fails, or none does any more (PAIR-9).
    Parts {
        /// Whether one fails.
        failing: bool,
        /// When.
        at: Time,
    },
    /// This host has a network: an interface beside loopback with a link and an address; or has none.
    Network {
        /// Whether it has.
        up: bool,
        /// When.
        at: Time,
    },
    /// The settings have changed.
    Settings {
        /// All of them.
        settings: Box<Settings>,
        /// When.
        at: Time,
    },
    /// This agent is to stop in order. Wait for [`Pair::is_gone`] before it does.
    Stopping {
        /// When.
        at: Time,
    },
    /// It is now so late, and everything that was received has been handed in.
    Now(Time),
}

/// What an operator can order, on either agent (PAIR-7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Order {
    /// The standby becomes primary.
    Failover,
    /// Nobody takes over until [`Order::Release`]: the mate is expected to be away.
    Hold,
    /// The end of it.
    Release,
    /// Takeovers are counted from zero. What the limit remembers stays.
    ResetCounters,
}

/// Where an agent stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Role {
    /// It is not settled yet.
    Undecided,
    /// The other one is primary, or is to be.
    Standby,
    /// It sends notifications, while it may speak.
    Primary,
}

impl Role {
    /// The name in metrics and in the status.
    pub const fn name(self) -> &'static str {
        match self {
            Role::Undecided => "undecided",
            Role::Standby => "standby",
            Role::Primary => "primary",
        }
    }
}

/// What comes out, for the shell to act on and to tell.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// The role has changed, or the primary has begun another term.
    Role {
        /// The role.
        role: Role,
        /// The term that it is primary in.
        term: Option<Term>,
        /// When.
        at: Time,
    },
    /// This agent has taken over.
    TookOver(Takeover),
    /// This agent has stepped back.
    SteppedBack {
        /// Why.
        why: SteppedBack,
        /// When.
        at: Time,
    },
    /// An alarm begins or ends.
    Finding(Finding),
    /// An operator's order was carried out.
    Done(Order),
    /// An operator's order can't be carried out.
    Refused(Order, Refusal),
    /// A part fails, and there is no standby to go on: the part, or the agent, is restarted without
    /// asking (PAIR-9).
    RestartUnasked,
    /// The mate has started anew, or is heard for the first time.
    MateStarted {
        /// Its version.
        version: Version,
        /// When.
        at: Time,
    },
    /// This agent stood still.
    Stalled {
        /// For how long.
        late: Duration,
    },
}

/// Why a primary is one no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SteppedBack {
    /// It met a primary with a higher term, or with the same and a higher priority (PAIR-2). It hands
    /// over what it did.
    Met,
    /// It met a primary that can't hear it.
    Unheard,
    /// It asked the mate to take over, and the mate did.
    HandedOver,
    /// It reaches neither the mate nor a witness (PAIR-4).
    CutOff,
}

/// Why an order can't be carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Refusal {
    /// The pair is held.
    Held,
    /// The mate is not heard.
    MateSilent,
    /// The standby may not be primary: a part of it fails, or it is about to stop.
    Unfit,
    /// The standby does not have all of the state.
    NotInSync,
    /// The mate did not do its part in time.
    NotTakenOver,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::Held => "the pair is held; `evenkeel pair release` ends that",
            Refusal::MateSilent => "the mate is not heard",
            Refusal::Unfit => "a part of the standby fails, or it is about to stop",
            Refusal::NotInSync => "the standby does not have all of the state yet",
            Refusal::NotTakenOver => "the mate did not do its part in time",
        })
    }
}

/// An alarm of the pair begins or ends.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Finding {
    /// When: a receipt or a deadline.
    pub at: Time,
    /// What.
    pub condition: Condition,
    /// Whether it begins.
    pub begins: bool,
}

/// The conditions that are alarms of the pair.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Condition {
    /// `mate_sync_lost`: the state is not synchronised. With the cause that began it.
    SyncLost(Wrong),
    /// `mate_path_lost`: no heartbeat comes by the path over this local interface.
    PathLost(String),
    /// `standby_unavailable`.
    StandbyUnavailable(Unavailable),
    /// `failover_limit_reached`: a takeover is suppressed.
    LimitReached,
}

/// Why there is no standby that could take over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unavailable {
    /// It reaches neither the mate nor a witness (PAIR-4).
    CutOff,
    /// The first number of the versions differs, so it stays out.
    Version {
        /// This agent's.
        here: Version,
        /// The mate's.
        mate: Version,
    },
}

impl fmt::Display for Condition {
    /// The alarm's text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Condition::SyncLost(Wrong::Connect) => f.write_str("cannot connect to the mate"),
            Condition::SyncLost(Wrong::Read) => f.write_str("cannot read from the mate"),
            Condition::SyncLost(Wrong::Write) => f.write_str("cannot write to the mate"),
            Condition::PathLost(interface) => {
                write!(f, "no heartbeat of the mate comes by {interface}")
            }
            Condition::StandbyUnavailable(Unavailable::CutOff) => {
                f.write_str("this agent reaches neither its mate nor a witness")
            }
            Condition::StandbyUnavailable(Unavailable::Version { here, mate }) => write!(
                f,
                "the standby stays out: this agent is of version {here}, its mate of version {mate}"
            ),
            Condition::LimitReached => {
                f.write_str("a takeover is suppressed, as there were too many")
            }
        }
    }
}

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Counters {
    /// Heartbeats handed out.
    pub sent: u64,
    /// Heartbeats that came first and in order on their way.
    pub heard: u64,
    /// Heartbeats that came after a later one.
    pub late: u64,
    /// Heartbeats that came before: copies, and replays.
    pub repeated: u64,
    /// Heartbeats of an earlier run of the mate.
    pub old_run: u64,
    /// Heartbeats of an agent with this agent's own slot: one of the two is configured wrong.
    pub own_slot: u64,
    /// Heartbeats by a path that is not configured.
    pub no_path: u64,
    /// How often this agent stood still.
    pub stalls: u64,
}
