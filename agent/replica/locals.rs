//! The local alarm events of a standby, which leave through the primary: kept until they come back as
//! rows of its journal.

use std::collections::VecDeque;

use evenkeel_core::alarm::AlarmEvent;

/// How many wait at most. An agent has few objects of its own; more than these wait only if there is no
/// primary for days.
const MOST: usize = 10_000;

/// Those that no primary is known to have journaled, the oldest first.
#[derive(Debug, Default)]
pub struct Locals {
    waiting: VecDeque<AlarmEvent>,
}

impl Locals {
    /// One more; says whether the oldest was dropped for it.
    pub fn push(&mut self, event: AlarmEvent) -> bool {
        let full = self.waiting.len() == MOST;
        if full {
            self.waiting.pop_front();
        }
        self.waiting.push_back(event);
        full
    }

    /// A row came of the primary. If it is one of ours, that waits no more.
    pub fn saw(&mut self, row: &AlarmEvent) {
        let is_it =
            |event: &AlarmEvent| event.alarm.id == row.alarm.id && event.cleared == row.cleared;
        if let Some(place) = self.waiting.iter().position(is_it) {
            self.waiting.remove(place);
        }
    }

    /// Those that wait.
    pub fn iter(&self) -> impl Iterator<Item = &AlarmEvent> {
        self.waiting.iter()
    }

    /// Takes all out.
    pub fn take(&mut self) -> Vec<AlarmEvent> {
        std::mem::take(&mut self.waiting).into()
    }
}
