//! What the pair's thread and the replica tell each other: frames, and little beside them.

use evenkeel_core::pair::{Role, sync::Sync, term::Term, version::Version};
use tokio::sync::mpsc;

/// From the pair's thread, in the order in which it happened.
#[derive(Debug)]
pub enum ToReplica {
    /// The state channel is up.
    Up {
        /// The mate's name.
        mate_name: String,
        /// The mate's version. What only one of the two agents knows is left out.
        mate_version: Version,
    },
    /// It is down: nothing that was sent and not acknowledged can be relied on.
    Down,
    /// A frame of the mate. In order, and none is missing while the channel is up.
    Frame(Vec<u8>),
    /// This agent's role, and the term that it is primary in or follows.
    Role {
        /// The role.
        role: Role,
        /// The term.
        #[expect(dead_code, reason = "rows are written in the term that `lead` names")]
        term: Option<Term>,
    },
}

/// To the pair's thread, besides frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// How far synchronisation is: with each change, and at least each 500 ms while the channel is up
    /// and one of the two is primary.
    Sync(Sync),
    /// Close the state channel and connect again: the mate has acknowledged nothing for too long, or
    /// says what can't be understood. Why, for the log and the alarm.
    Reconnect(String),
}

/// The way to the mate and to the pair's thread.
#[derive(Clone, Debug)]
pub struct Link {
    /// Frames for the mate, each of at most [`LONGEST_FRAME`](super::LONGEST_FRAME). Bounded: whoever
    /// sends waits until there is room. What is left in it when the channel goes down may be sent over
    /// the next one all the same: each frame names the stream that it is of.
    pub frames: mpsc::Sender<Vec<u8>>,
    /// All else.
    pub said: mpsc::UnboundedSender<Said>,
}
