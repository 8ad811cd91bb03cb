//! Alarms of the pair that an earlier run of this agent left active.
//!
//! The protocol begins anew with each run and tells what changes from then on; what has ended while this
//! agent was away it can't tell. No restart may produce a false clear (spec, "Alarms"), so each of these
//! alarms goes on until what it says is seen to be over.

use std::{collections::BTreeSet, time::Duration};

use evenkeel_core::{
    alarm::{Alarm, ClearReason, Kind, Object},
    finding::Finding,
    pair::{Role, sync::Synchrony, version::Grade},
    time::Time,
};

use crate::pair::View;

/// Which alarms this run has found itself, and which are left of earlier ones.
#[derive(Debug, Default)]
pub struct Carried {
    found: BTreeSet<(Kind, Object)>,
}

impl Carried {
    /// This run has found it: the protocol knows when it ends.
    pub fn found(&mut self, kind: Kind, object: &Object) {
        self.found.insert((kind, object.clone()));
    }

    /// Of the active alarms, those of earlier runs that are over, as far as can be seen.
    pub fn over<'a>(
        &self,
        active: impl Iterator<Item = &'a Alarm>,
        view: &View,
        now: Time,
    ) -> Vec<Finding> {
        let left = active.filter(|alarm| !self.found.contains(&(alarm.kind, alarm.object.clone())));
        left.filter_map(|alarm| {
            let reason = over(alarm, view)?;
            Some(Finding::clear(alarm.kind, alarm.object.clone(), reason, now))
        })
        .collect()
    }
}

/// Why an alarm of the pair is over, if it is.
fn over(alarm: &Alarm, view: &View) -> Option<ClearReason> {
    let settled = view.role != Role::Undecided;
    let timeout: Duration = view.settings.timing.mate_timeout();
    match (alarm.kind, &alarm.object) {
        // PAIR-8: when the state has been synchronised again.
        (Kind::MateSyncLost, _) => matches!(view.synchrony, Synchrony::InSync { .. }),
        (Kind::MatePathLost, Object::MatePath(interface)) => {
            match view.paths.iter().find(|path| path.interface == *interface) {
                Some(path) => path.is_up(view.at, timeout),
                None => return Some(ClearReason::Removed),
            }
        }
        (Kind::StandbyUnavailable, _) => {
            let heard = view.at.since(view.mate_heard) < timeout && view.mate.is_some();
            let fits = view.grade.is_some_and(|grade| grade != Grade::Out);
            settled && fits && (heard || view.role == Role::Primary)
        }
        (Kind::FailoverLimitReached, _) => settled && view.suppressed_until.is_none(),
        _ => false,
    }
    .then_some(ClearReason::Ended)
}
