//! What this agent's role in its pair means for its parts (PAIR-1).
//!
//! ```text
//!  part                       always      while primary
//!  ears, subnets, own alarms    x
//!  traps                      kept       judged, answered, forwarded
//!  store and spool            replicas   this agent's own
//!  notifier, forwarder, peers              x
//! ```
//!
//! A takeover is a restart in place: the standby's store and spool hold what the primary has written, and
//! the core reads them as a start does. The driver carries it out ([`driver::roles`](crate::driver)), in
//! the order that loses nothing and says nothing twice; here is what it works with. Who may speak is not
//! asked here: the [`Gate`] is, by everyone who sends, right before they send.

mod carried;
mod start;
mod voices;

use evenkeel_core::{
    alarm::{AlarmEvent, ClearReason, Kind, Object},
    finding::Finding,
    pair::{self, Condition},
    shadow::{Shadow, Unconfirmed},
    state::State,
};
use tokio::sync::mpsc;

pub use self::{
    carried::Carried,
    start::{Begun, PrintKey, begin},
    voices::Voices,
};
use crate::{
    gate::Gate,
    pair::{FromPair, PairHandle, keys::Fingerprint},
    replica::{FromReplica, ReplicaHandle},
};

/// How many words of the mate about its host wait for this agent to lead: one of all its alarms, and
/// then some changes.
const HELD: usize = 1_024;

/// What the driver of an agent of a pair works with, beside what every driver has.
pub struct Roles {
    /// The pair's thread.
    pub pair: PairHandle,
    /// What it tells.
    pub told: mpsc::UnboundedReceiver<FromPair>,
    /// The mate's copy of the state, and this agent's of the mate's.
    pub replica: ReplicaHandle,
    /// What it tells.
    pub replicated: mpsc::UnboundedReceiver<FromReplica>,
    /// What all who speak ask.
    pub gate: Gate,
    /// The parts that run while this agent is primary.
    pub voices: Voices,
    /// On the standby: the traps that came.
    pub shadow: Shadow,
    /// On the primary: what it has taken in.
    pub unconfirmed: Unconfirmed,
    /// What both are told apart by.
    pub prints: PrintKey,
    /// What the mate has said of its host before this agent leads.
    pub held: Vec<FromReplica>,
    /// Alarms of the pair that an earlier run left.
    pub carried: Carried,
}

/// A word of one of the two.
pub enum Word {
    /// The pair's thread.
    Pair(FromPair),
    /// The replica.
    Replica(Box<FromReplica>),
}

impl Roles {
    /// The next word. What the roles are goes first: it decides what the rest means.
    pub async fn next(&mut self) -> Word {
        loop {
            tokio::select! {
                biased;
                Some(event) = self.told.recv() => return Word::Pair(event),
                Some(said) = self.replicated.recv() => return Word::Replica(Box::new(said)),
                else => std::future::pending::<()>().await,
            }
        }
    }

    /// Keeps a word about the mate's host until this agent leads.
    pub fn hold(&mut self, said: FromReplica) {
        if matches!(said, FromReplica::MateLocalAll(_)) {
            self.held.clear();
        }
        if self.held.len() < HELD {
            self.held.push(said);
        }
    }

    /// Another mate may be trusted than when this agent started.
    pub fn follow_trust(&mut self, trusted: Fingerprint) {
        if self.prints.follow(trusted) {
            self.shadow.set_printer(self.prints.printer());
            self.unconfirmed.set_printer(self.prints.printer());
        }
    }

    /// Begins to keep traps: those from now on, as the mate has confirmed none of them.
    pub fn keep_traps(&mut self) {
        self.shadow.restart();
        self.unconfirmed.take();
    }
}

/// What the pair's thread finds, as the core takes it in.
/// `refused` is why the mate was refused last, if it was.
pub fn finding(found: &pair::Finding, refused: Option<&str>) -> Finding {
    let pair::Finding { at, condition, begins } = found;
    let mut detail = condition.to_string();
    if let (Condition::SyncLost(_), Some(refused)) = (condition, refused) {
        detail.push_str(&format!(", which was refused: {}", refused.replace('_', " ")));
    }
    let (kind, object) = match condition {
        Condition::SyncLost(_) => (Kind::MateSyncLost, Object::Mate),
        Condition::PathLost(interface) => (Kind::MatePathLost, Object::MatePath(interface.clone())),
        Condition::StandbyUnavailable(_) => (Kind::StandbyUnavailable, Object::Pair),
        Condition::LimitReached => (Kind::FailoverLimitReached, Object::Pair),
    };
    match begins {
        true => Finding::raise(kind, object, detail, *at),
        false => Finding::clear(kind, object, ClearReason::Ended, *at),
    }
}

/// Of this agent's local alarm events that no primary is known to have journaled, those that the journal
/// lacks; `state` is as if it had them. So a condition that began and ended while nobody could be told is
/// told all the same.
pub fn untold(state: &mut State, locals: Vec<AlarmEvent>) -> Vec<AlarmEvent> {
    let mut untold = Vec::new();
    for event in locals {
        let id = event.alarm.id;
        let active = state.alarms.iter().position(|alarm| alarm.id == id);
        match (event.cleared, active) {
            // Its row came back in the very moment that the mate ended.
            (None, Some(_)) | (Some(_), None) => continue,
            (None, None) if state.identities.contains(&id) => continue,
            (None, None) => state.alarms.push(event.alarm.clone()),
            (Some(_), Some(place)) => drop(state.alarms.swap_remove(place)),
        }
        untold.push(event);
    }
    untold
}

#[cfg(test)]
mod tests {
    use evenkeel_core::{alarm::AlarmId, pair::paths::Wrong, time::Time};

    use super::*;
    use crate::store::testing;

    #[test]
    fn pair_8_what_the_pair_finds_is_an_alarm_of_its_kind() {
        let at = Time::from_secs(3);
        for (condition, kind, text) in [
            (Condition::SyncLost(Wrong::Read), Kind::MateSyncLost, "the mate"),
            (Condition::PathLost("eth1".to_owned()), Kind::MatePathLost, "the mate by eth1"),
            (Condition::LimitReached, Kind::FailoverLimitReached, "the pair"),
        ] {
            let begun = pair::Finding { at, condition: condition.clone(), begins: true };
            let begun = finding(&begun, None);
            assert_eq!((begun.kind, begun.object.to_string().as_str()), (kind, text));
            assert_eq!(begun.detail, Some(condition.to_string()));
            let ended = finding(&pair::Finding { at, condition, begins: false }, None);
            assert_eq!(ended.cleared, Some(ClearReason::Ended));
        }
        let condition = Condition::SyncLost(Wrong::Connect);
        let begun = finding(&pair::Finding { at, condition, begins: true }, Some("same_slot"));
        let detail = begun.detail.expect("it says why");
        assert_eq!(detail, "cannot connect to the mate, which was refused: same slot");
    }

    #[test]
    fn pair_13_what_no_primary_has_journaled_is_told_once() {
        let event = |id, cleared| {
            let mut event = testing::raise(1);
            event.alarm.id = AlarmId(id);
            event.cleared = cleared;
            event
        };
        let ended = Some(ClearReason::Ended);
        let mut state = State {
            // 1 is active in the journal; 2 was, and is over.
            alarms: vec![event(1, None).alarm],
            identities: vec![AlarmId(1), AlarmId(2)],
            ..State::default()
        };
        let locals = vec![
            event(1, None),
            event(2, None),
            event(2, ended),
            event(3, None),
            event(3, ended),
            event(1, ended),
            event(4, None),
        ];
        let untold = untold(&mut state, locals);
        let told: Vec<_> =
            untold.iter().map(|event| (event.alarm.id.0, event.cleared.is_some())).collect();
        assert_eq!(told, [(3, false), (3, true), (1, true), (4, false)]);
        assert_eq!(state.alarms.iter().map(|alarm| alarm.id.0).collect::<Vec<_>>(), [4]);
    }
}
