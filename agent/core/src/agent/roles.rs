//! What becomes of the state as the role changes, of a pair (PAIR-1).
//!
//! ```text
//!                      adopt: what the mate left
//!   following ───────────────────────────────────> leading
//!       ^                                             │
//!       └─────────────────────────────────────────────┘
//!                 relinquish: the mate has it
//! ```
//!
//! Two kinds of state live side by side. What is *local* to this host (its subnets, its overload, what
//! it sees of the pair) this agent judges always, and it never changes hands. What is *shared* (the
//! devices' systems, interfaces and links, the peers, the notification targets, SNMPv3's engines) is the
//! primary's. A standby has it on its disk, as the primary wrote it, and reads it as a restart would.

use std::time::Duration;

use super::Agent;
use crate::{
    access::Engines,
    alarm::{Alarm, AlarmEvent},
    forwarding::Forwarding,
    instability::Instability,
    repeats::{self, Repeats},
    state::State,
    targets::Targets,
    time::Time,
};

impl Agent {
    /// Whether only what is local to this host is judged here.
    pub const fn is_following(&self) -> bool {
        self.following
    }

    /// Takes the shared state over, as a restart does: `deaf` is how long nobody is known to have
    /// listened, which is not taken for quiet (INST-17), so nothing is cleared sooner than it would have
    /// been. `last_number` is the last that the spool gave out. What is local stays as it is, and what the
    /// journal does not have of it comes out as events. Returns how many records there was no room for.
    ///
    /// Traps of the spool that the records have not heeded come next, as [`Input::Replayed`], and then
    /// those of the shadow, in the order in which they came.
    ///
    /// [`Input::Replayed`]: crate::input::Input::Replayed
    pub fn adopt(&mut self, state: State, last_number: u64, deaf: Duration, now: Time) -> usize {
        self.forget_shared();
        self.following = false;
        self.next_number = last_number.saturating_add(1);
        self.usm.restore(state.engines, now);
        // They were counted when they were told here.
        let untold = self.alarms.adopt(state.alarms, &state.identities, now);
        let untold = untold.into_iter().map(|event| crate::input::Event::Alarm(Box::new(event)));
        self.events.extend(untold);
        let active = self.alarms.active();
        let keys = active.keys().map(|(kind, object)| (*kind, object));
        self.targets.restore(keys, &self.settings.forwarding, now, &mut self.found);
        let left_out = self.instability.restore(state.records, active, deaf, now, &mut self.found);
        self.instability.give_to_mate();
        self.conclude();
        left_out
    }

    /// Lets go of the shared state and its alarms without a word, as the mate goes on with them. What is
    /// local stays.
    pub fn relinquish(&mut self, _now: Time) {
        self.following = true;
        self.alarms.relinquish();
        self.forget_shared();
        self.taken.clear();
        self.answers.clear();
    }

    /// Begins each machine of the shared state anew.
    fn forget_shared(&mut self) {
        let settings = &self.settings;
        self.engines = Engines::new(&settings.access.engines);
        self.repeats = Repeats::new(repeats::KEPT, self.seed);
        self.forwarding = Forwarding::new(&settings.forwarding, &settings.instability, self.seed);
        self.targets = Targets::default();
        self.instability = Instability::new(settings.instability.clone(), self.seed);
    }

    /// An alarm of the mate's host was raised or cleared there.
    pub(super) fn mate_event(&mut self, event: AlarmEvent, now: Time) {
        if !self.following {
            let events = self.alarms.mate_event(event, now);
            self.tell_all(events);
        }
    }

    /// These alarms are all that are active on the mate's host.
    pub(super) fn mate_alarms(&mut self, alarms: Vec<Alarm>, now: Time) {
        if !self.following {
            let events = self.alarms.mate_alarms(alarms, now);
            self.tell_all(events);
        }
    }
}
