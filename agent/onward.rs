//! Where what the core lets out goes on to: traps to the spool and to the forwarder, answers to their
//! senders (TRAP-5, TRAP-8).
//!
//! ```text
//!             ┌─ numbered ───────────────────> spool ──safe──> answers, notifier
//!   core ─────┼─ for those who don't acknowledge ────────────> forwarder
//!             └─ Reports ────────────────────────────────────> answers
//! ```

use std::sync::Arc;

use evenkeel_core::{agent::Agent, settings};

use crate::{
    forwarder::{self, ForwardStats, Forwarder},
    spool::{AnswerSockets, Spool, WorkBuilder},
};

/// The ways out.
pub struct Onward {
    spool: Arc<Spool>,
    forwarder: Arc<Forwarder>,
    answers: AnswerSockets,
    /// The notification targets by the places that the core names them with.
    targets: Vec<settings::ForwardTarget>,
    work: WorkBuilder,
}

impl Onward {
    /// The ways out for an agent with these settings.
    pub fn new(
        spool: Arc<Spool>,
        forwarder: Arc<Forwarder>,
        answers: AnswerSockets,
        settings: &settings::Forwarding,
    ) -> Onward {
        let targets = settings.targets.clone();
        Onward { spool, forwarder, answers, targets, work: WorkBuilder::default() }
    }

    /// Takes out all that the core has.
    pub fn drain(&mut self, agent: &mut Agent) {
        let mut forwards = Vec::new();
        while let Some(taken) = agent.poll_taken() {
            self.work.push(&taken, &self.targets);
            let at_once = |place: &u16| {
                self.targets.get(usize::from(*place)).is_some_and(|target| !target.durable)
            };
            if taken.targets.iter().any(at_once) {
                forwards.push(taken);
            }
        }
        let mut reports = Vec::new();
        while let Some(answer) = agent.poll_answer() {
            match answer.after {
                Some(_) => self.work.answer(answer),
                None => reports.push(answer),
            }
        }
        if let Some(work) = self.work.take() {
            self.spool.submit(work);
        }
        if !forwards.is_empty() {
            self.forwarder.submit(forwards);
        }
        if !reports.is_empty() {
            self.answers.send(&reports);
        }
    }

    /// Whether so much waits for the disk that no more traps should be taken in.
    pub fn is_behind(&self) -> bool {
        self.spool.is_behind()
    }

    /// How the forwarder fares: each target that it serves, and the octets that wait.
    pub fn stats(&self) -> (Vec<ForwardStats>, usize) {
        (self.forwarder.stats(), self.forwarder.waiting())
    }

    /// Serves these targets from now on. To be called when all that the core had for those before has
    /// been drained, and before it names these.
    ///
    /// # Errors
    ///
    /// A target asks for what this process may not do; then all stays as it was.
    pub fn set_targets(
        &mut self,
        settings: &settings::Forwarding,
        targets: Vec<Option<forwarder::ForwardTarget>>,
    ) -> Result<(), forwarder::StartError> {
        self.forwarder.set_targets(targets)?;
        self.targets.clone_from(&settings.targets);
        Ok(())
    }
}
