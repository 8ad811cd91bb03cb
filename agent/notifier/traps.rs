//! The traps of one target, which it doesn't acknowledge: the most that can be known is that the kernel
//! took the datagram, and that no ICMP port unreachable came back (RFC 1122, 4.1.3.3). No I/O.
//!
//! ```text
//!   sent ── no error for a second ──> settled
//!    │
//!    └── an error ──> all that is not settled goes back; after a wait one alone is sent, and the
//!                     others once it is settled
//! ```
//!
//! What was lost on the way, or at a host that is down and so answers nothing, is not noticed.

use std::{collections::VecDeque, time::Duration};

use evenkeel_core::time::Time;

use super::{machine::Item, retry};

/// How long no error may come for what was sent to be settled: longer than a round trip to
/// anywhere, and than a host takes to answer with a port unreachable.
pub const SETTLE: Duration = Duration::from_secs(1);

/// The first wait after an error.
const FIRST_RETRY: Duration = Duration::from_millis(250);

/// All that is not settled.
#[derive(Debug)]
pub struct Traps {
    retries: u32,
    sent: VecDeque<(Time, Item)>,
    /// Errors in a row.
    errors: u32,
    /// Nothing is sent before this.
    wait: Option<Time>,
}

impl Traps {
    /// Nothing sent.
    pub fn new(retries: u8) -> Traps {
        Traps { retries: retries.into(), sent: VecDeque::new(), errors: 0, wait: None }
    }

    /// Whether the target counts as unreachable: after `retries` + 1 errors in a row.
    pub fn is_unreachable(&self) -> bool {
        self.errors > self.retries
    }

    /// What has settled by now, the earliest first.
    pub fn settled(&mut self, now: Time) -> Option<Item> {
        self.sent.front().filter(|(sent, _)| *sent + SETTLE <= now)?;
        self.errors = 0;
        self.sent.pop_front().map(|(_, item)| item)
    }

    /// Takes all for settled that was sent, as long as there is no error.
    pub fn settled_all(&mut self) -> Vec<Item> {
        if self.errors > 0 {
            Vec::new()
        } else {
            self.sent.drain(..).map(|(_, item)| item).collect()
        }
    }

    /// Until when nothing may be sent.
    pub fn held(&self, now: Time) -> Option<Time> {
        let alone = self.sent.front().filter(|_| self.errors > 0).map(|(sent, _)| *sent + SETTLE);
        alone.or(self.wait.filter(|wait| *wait > now))
    }

    /// When something settles.
    pub fn next_settled(&self) -> Option<Time> {
        self.sent.front().map(|(sent, _)| *sent + SETTLE)
    }

    /// This leaves.
    pub fn sent(&mut self, item: Item, now: Time) {
        self.wait = None;
        self.sent.push_back((now, item));
    }

    /// An error came: gives back what must be sent again, the earliest first, and how many errors came
    /// in a row. An error with nothing sent since the last is of the same burst, and says nothing new.
    pub fn failed(&mut self, now: Time) -> (Vec<Item>, u32) {
        if self.sent.is_empty() {
            return (Vec::new(), self.errors);
        }
        self.errors = self.errors.saturating_add(1);
        self.wait = Some(now + retry::after(FIRST_RETRY, self.errors));
        (self.sent.drain(..).map(|(_, item)| item).collect(), self.errors)
    }
}
