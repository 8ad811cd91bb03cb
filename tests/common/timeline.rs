//! What an NMS must have been told, and when: "between 2 s and 3 s this, and nothing else".
//!
//! Expectations are computed from when the traps were really sent, which is recorded, so that a
//! slow machine shifts both alike. Being late is tolerated, being early is not.

use std::{
    fmt::Write as _,
    thread,
    time::{Duration, Instant},
};

use super::nms::Notification;

/// How late a notification may be on a machine that is busy with other tests.
pub const LATE: Duration = Duration::from_millis(1500);

/// How early one may seem: two processes' clocks are the same, but a receipt is stamped by the
/// kernel some microseconds before the sender knows that it has sent.
const EARLY: Duration = Duration::from_millis(50);

/// The moment at which something was sent, as far as the sender can know it.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// Not sent before this.
    pub before: Instant,
    /// Sent by then.
    pub after: Instant,
}

/// One notification that must come.
#[derive(Debug)]
pub struct Expected {
    what: String,
    earliest: Instant,
    latest: Instant,
}

/// A notification with all of these words in its summary, no sooner than `earliest` and no later
/// than [`LATE`] after `latest`.
pub fn expect(what: &str, earliest: Instant, latest: Instant) -> Expected {
    Expected {
        what: what.to_owned(),
        earliest: earliest.checked_sub(EARLY).expect("the machine is up for longer"),
        latest: latest + LATE,
    }
}

/// The least and the most time that can lie between two sendings.
pub fn span(from: Sent, to: Sent) -> (Duration, Duration) {
    (to.before.saturating_duration_since(from.after), to.after.duration_since(from.before))
}

/// Sleeps until a moment, if it is yet to come.
pub fn sleep_until(moment: Instant) {
    thread::sleep(moment.saturating_duration_since(Instant::now()));
}

/// Waits until everything expected is due, and `quiet` longer, then compares: each of these
/// notifications in its time, and no other. Gives what was received, in order.
pub fn check(
    start: Instant,
    expected: &[Expected],
    quiet: Duration,
    received: impl FnOnce() -> Vec<Notification>,
) -> Vec<Notification> {
    if let Some(last) = expected.iter().map(|expected| expected.latest).max() {
        sleep_until(last);
    }
    thread::sleep(quiet);
    let received = received();
    let mut missing: Vec<&Expected> = expected.iter().collect();
    let all_wanted = received.iter().all(|got| {
        let wanted = missing.iter().position(|wanted| wanted.is(got));
        wanted.map(|at| missing.remove(at)).is_some()
    });
    assert!(all_wanted && missing.is_empty(), "{}", picture(start, expected, &received));
    received
}

impl Expected {
    /// Whether this is the one.
    fn is(&self, got: &Notification) -> bool {
        let summary = got.summary();
        self.what.split(' ').all(|word| summary.split(' ').any(|other| other == word))
            && (self.earliest..=self.latest).contains(&got.at)
    }
}

/// Both sides, for a person to compare.
fn picture(start: Instant, expected: &[Expected], received: &[Notification]) -> String {
    let since = |moment: Instant| moment.saturating_duration_since(start).as_secs_f64();
    let mut text = String::from("expected:\n");
    for wanted in expected {
        let (earliest, latest) = (since(wanted.earliest), since(wanted.latest));
        writeln!(text, "  {earliest:7.3} to {latest:7.3}  {}", wanted.what).expect("memory");
    }
    text.push_str("received:\n");
    for got in received {
        writeln!(text, "  {:7.3}             {}", since(got.at), got.summary()).expect("memory");
    }
    text
}
