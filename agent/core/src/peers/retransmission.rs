//! The retransmission list (PEER-2, PEER-4): who is to be asked before the next heartbeat.
//!
//! ```text
//!                        no answer in time
//!   (its heartbeat) ───────────────────────────> due ──batch──> asked
//!                                                 ^               │
//!                                  its next try   │               v
//!                                                 └─────────── waiting ──> (down)
//! ```
//!
//! A silent peer is in one of the two lists: *due*, first in, first out, for a place in a batch; or
//! *waiting* for its next moment, which is counted from its first unanswered request and not from its
//! last try, so that what had to wait for its batch is not late again. While there is mass silence all
//! of them wait (PEER-9).
//!
//! Behind those that are due come peers that may be fine, but whose heartbeat said nothing (PEER-12):
//! they are asked again *once*, if the batches have room, instead of an interval later.

use super::{
    lists::{Queue, Wakes},
    pace::Pace,
};

/// The lists.
#[derive(Clone, Debug)]
pub struct Retransmissions {
    /// When a batch may leave.
    pub pace: Pace,
    /// Silent peers whose next try may leave.
    pub due: Queue,
    /// Peers whose heartbeat said nothing.
    pub again: Queue,
    /// Silent peers that wait for their next moment.
    pub waiting: Wakes,
}

impl Retransmissions {
    /// Nobody is to be asked.
    pub fn new(pace: Pace) -> Retransmissions {
        Retransmissions {
            pace,
            due: Queue::default(),
            again: Queue::default(),
            waiting: Wakes::default(),
        }
    }

    /// Whether somebody waits for a place in a batch.
    pub fn wants_batch(&self) -> bool {
        !self.due.is_empty() || !self.again.is_empty()
    }
}
