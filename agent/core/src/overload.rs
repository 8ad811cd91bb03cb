//! Whether this agent is overloaded: its input is dropped or throttled (TRAP-6).
//!
//! ```text
//!            something was dropped
//!   fine ──────────────────────────> overloaded ──┐
//!    ^                                  │     ^   │ something was dropped
//!    └──────────────────────────────────┘     └───┘
//!      QUIET goes by since the last drop
//! ```

use std::{collections::BTreeMap, time::Duration};

use crate::{
    alarm::{Alarm, ClearReason, Kind, Object},
    finding::Finding,
    time::Time,
};

/// How long nothing must have been dropped for an overload to be over: long enough that one that goes
/// on, with gaps, is one alarm, and short enough that the end is told while someone still looks.
pub const QUIET: Duration = Duration::from_secs(30);

/// The machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overload {
    under_way: Option<UnderWay>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct UnderWay {
    last: Time,
    lost: u64,
    limited: u64,
}

impl Overload {
    /// Goes on after a restart, if the alarm was active: the end is [`QUIET`] after `now`.
    pub fn restore(&mut self, active: &BTreeMap<(Kind, Object), Alarm>, now: Time) {
        if active.contains_key(&(Kind::Overload, Object::Agent)) {
            self.under_way = Some(UnderWay { last: now, lost: 0, limited: 0 });
        }
    }

    /// Takes in that so many datagrams were dropped up to a moment: `lost` for lack of room, `limited`
    /// as their source sent too many. Returns what that begins or ends.
    pub fn heard(&mut self, lost: u64, limited: u64, up_to: Time) -> Option<Finding> {
        let dropped = lost > 0 || limited > 0;
        match &mut self.under_way {
            None if dropped => {
                self.under_way = Some(UnderWay { last: up_to, lost, limited });
                let detail = told(lost, limited);
                Some(Finding::raise(Kind::Overload, Object::Agent, detail, up_to))
            }
            None => None,
            Some(under_way) if dropped => {
                under_way.last = under_way.last.max(up_to);
                under_way.lost = under_way.lost.saturating_add(lost);
                under_way.limited = under_way.limited.saturating_add(limited);
                None
            }
            Some(UnderWay { last, lost, limited }) => {
                let end = *last + QUIET;
                if end > up_to {
                    return None;
                }
                let mut over =
                    Finding::clear(Kind::Overload, Object::Agent, ClearReason::Ended, end);
                if *lost > 0 || *limited > 0 {
                    over.detail = Some(told(*lost, *limited));
                }
                self.under_way = None;
                Some(over)
            }
        }
    }

    /// When it is over if nothing more is dropped.
    pub fn next_deadline(&self) -> Option<Time> {
        self.under_way.map(|under_way| under_way.last + QUIET)
    }
}

fn told(lost: u64, limited: u64) -> String {
    let kinds = [
        (limited, "as their source sends more than it may"),
        (lost, "for lack of room at this host"),
    ];
    let parts: Vec<String> = kinds
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, why)| format!("{count} {why}"))
        .collect();
    format!("datagrams were dropped, {}", parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_raised_at_the_first_drop_and_cleared_30_s_after_the_last_trap_6() {
        let mut overload = Overload::default();
        let mut heard = |secs, lost, limited| {
            let finding = overload.heard(lost, limited, Time::from_secs(secs))?;
            Some((finding.at.as_millis() / 1000, finding.cleared.is_some(), finding.detail))
        };
        assert_eq!(heard(1, 0, 0), None);
        let why = "datagrams were dropped, 7 as their source sends more than it may";
        assert_eq!(heard(10, 0, 7), Some((10, false, Some(why.to_owned()))));
        assert_eq!(heard(20, 2, 0), None);
        assert_eq!(heard(39, 0, 0), None);
        assert_eq!(heard(49, 0, 0), None, "the last was at 20 s");
        let why = format!("{why}, 2 for lack of room at this host");
        assert_eq!(heard(99, 0, 0), Some((50, true, Some(why))));
        assert_eq!(heard(200, 0, 0), None);
        assert_eq!(heard(201, 1, 0).map(|told| told.1), Some(false));
        // What is told at the deadline may have been dropped before it.
        assert_eq!(heard(231, 1, 0), None);
        assert_eq!(heard(261, 0, 0).map(|told| told.0), Some(261));
    }
}
