//! Whether this agent may speak now: the one question that everyone who sends asks right before they
//! send (PAIR-1, PAIR-17).
//!
//! ```text
//!   pair thread ──licence──> ┌──────┐ <──may I?── notifier, forwarder, answers, peers
//!   roles ──────── open ───> │ Gate │
//!                            └──────┘ ──changed──> who waits for it to open
//! ```
//!
//! Two things must hold. The agent must be *open*: it is primary and has taken over the shared state.
//! And its *licence* must not have lapsed, which is a moment, so that an agent that stood still finds
//! its licence gone though nobody told it. It is a moment of [`BootClock`](crate::clock::BootClock), as the
//! time that the host slept counts too. Asking costs two loads and takes no lock.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use evenkeel_core::time::Time;
use tokio::sync::watch;

/// Whether this agent may speak now: send notifications, forward traps, poll shared peers (PAIR-1,
/// PAIR-17).
#[derive(Clone, Debug)]
pub struct Gate(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// The licence ends at this moment, in nanoseconds of [`Time`]; 0 for no licence.
    until: AtomicU64,
    open: AtomicBool,
    changed: watch::Sender<()>,
}

impl Gate {
    /// The gate of an agent without a mate: open, with a licence for ever.
    pub fn alone() -> Gate {
        Gate::new(Time::MAX, true)
    }

    /// The gate of an agent of a pair, before it is settled who is primary.
    pub fn closed() -> Gate {
        Gate::new(Time::ZERO, false)
    }

    fn new(until: Time, open: bool) -> Gate {
        Gate(Arc::new(Inner {
            until: AtomicU64::new(until.as_nanos()),
            open: AtomicBool::new(open),
            changed: watch::Sender::new(()),
        }))
    }

    /// Whether it may speak at this moment. The answer of a moment ago is worth nothing, as the agent
    /// may have stood still since: ask right before each send, with the clock as it is then.
    pub fn may_speak(&self, now: Time) -> bool {
        self.is_open() && now.as_nanos() < self.0.until.load(Ordering::Acquire)
    }

    /// Whether this agent is primary with the shared state in its hands, whatever its licence says.
    pub fn is_open(&self) -> bool {
        self.0.open.load(Ordering::Acquire)
    }

    /// Sets when the licence lapses; nothing for no licence.
    pub fn set_licence(&self, until: Option<Time>) {
        let until = until.unwrap_or(Time::ZERO).as_nanos();
        let before = self.0.until.swap(until, Ordering::AcqRel);
        if until != before {
            self.0.changed.send_replace(());
        }
    }

    /// Opens it when the shared state has been adopted, and closes it before that is relinquished.
    pub fn set_open(&self, open: bool) {
        if self.0.open.swap(open, Ordering::AcqRel) != open {
            self.0.changed.send_replace(());
        }
    }

    /// Wakes whenever it may have opened.
    pub fn changed(&self) -> watch::Receiver<()> {
        self.0.changed.subscribe()
    }

    /// Waits until it may speak by the clock that is given. What it may do then it may do only if
    /// [`may_speak`](Gate::may_speak) still says so.
    pub async fn opened(&self, clock: impl Fn() -> Time) {
        // Asked for each datagram, so what is the rule costs no more than a look.
        if self.may_speak(clock()) {
            return;
        }
        let mut changed = self.changed();
        while !self.may_speak(clock()) {
            // The sender lives as long as this gate.
            if changed.changed().await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pair_1_an_agent_without_a_mate_may_always_speak() {
        let gate = Gate::alone();
        assert!(gate.may_speak(Time::ZERO));
        assert!(gate.may_speak(Time::from_secs(1 << 33)));
    }

    #[test]
    fn pair_17_speaking_needs_an_open_gate_and_a_licence_that_has_not_lapsed() {
        let gate = Gate::closed();
        let mut changed = gate.changed();
        let at = Time::from_secs;
        assert!(!gate.may_speak(at(1)));
        gate.set_licence(Some(at(10)));
        assert!(!gate.may_speak(at(1)), "it is not open");
        gate.set_open(true);
        assert!(changed.has_changed().unwrap());
        changed.mark_unchanged();
        assert!(gate.may_speak(at(9)));
        assert!(!gate.may_speak(at(10)), "a licence ends at its moment");
        gate.set_licence(Some(at(10)));
        gate.set_open(true);
        assert!(!changed.has_changed().unwrap(), "nothing changed");
        gate.set_licence(None);
        assert!(!gate.may_speak(at(1)));
        gate.set_licence(Some(at(20)));
        assert!(gate.may_speak(at(10)), "renewed");
        gate.set_open(false);
        assert!(!gate.may_speak(at(10)));
    }
}
