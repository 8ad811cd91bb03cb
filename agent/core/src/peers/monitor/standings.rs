//! What the mate is told of the peers, and what this agent takes over of it (PAIR-11).
//!
//! A peer whose standing may have changed waits in a list until it is told, once however often it
//! changes meanwhile. Peers that are up, and of which the mate knows nothing else, are never in it, so
//! that it costs nothing as long as all is well.

use std::net::IpAddr;

use super::Monitor;
use crate::{
    peers::{
        Count, PeerState, Standing, StandingChange,
        lists::Queue,
        settings::Heartbeat,
        table::{Flag, Peer},
    },
    time::Time,
};

/// What waits to be told.
#[derive(Debug, Default)]
pub(super) struct Untold {
    changed: Queue,
    /// Peers that are monitored no longer, and of which the mate knows something.
    gone: Vec<IpAddr>,
}

impl Monitor {
    /// Begins to note what the mate is to know. Without that nothing is noted.
    pub fn note_standings(&mut self) {
        self.untold_standings.get_or_insert_default();
    }

    /// What has changed, of at most so many peers: nothing of a peer that is plainly up again, or is not
    /// monitored any more.
    pub fn take_standings(&mut self, most: usize, now: Time) -> Vec<StandingChange> {
        let Some(mut untold) = self.untold_standings.take() else { return Vec::new() };
        let gone = untold.gone.drain(..untold.gone.len().min(most));
        let mut taken: Vec<_> = gone.map(|address| (address, None)).collect();
        while taken.len() < most
            && let Some(place) = untold.changed.pop()
        {
            // Its place may be another peer's by now, of which there is the same to tell.
            let Some(standing) = self.standing(place, now) else { continue };
            let peer = self.table.row(place);
            let (knew, plain) = (peer.is(Flag::Told), standing.is_plain());
            peer.set(Flag::Told, !plain);
            if knew || !plain {
                taken.push((peer.address(), (!plain).then_some(standing)));
            }
        }
        self.untold_standings = Some(untold);
        taken
    }

    /// Takes over where a peer stands that was just added, as the mate knew it. Its alarm says whether it
    /// is down; what the mate had found and not told yet, the next try finds again.
    pub(super) fn restore(&mut self, place: u32, standing: Standing, now: Time) {
        let Some(peer) = self.table.get_mut(place) else { return };
        if let Some(counter) = standing.restart_counter {
            self.restart_counters.insert(place, counter);
        }
        let group = &self.groups[usize::from(peer.group)].settings;
        // This agent has to ask once itself before it finds anybody down, or back.
        let most = group.max_retransmissions.get() - 1;
        match (peer.state, standing.count) {
            (PeerState::Down, Count::Answered(answered)) => {
                peer.answered = answered.min(group.recovery_count.get() - 1);
            }
            (PeerState::Unknown, Count::Unanswered(tries)) => {
                self.restore_silent(place, tries.min(most), now);
            }
            (PeerState::Unknown, Count::Answered(_)) => self.restore_silent(place, most, now),
            (PeerState::Unknown, Count::Unsupported) if group.kind == Heartbeat::ProxyMobile => {
                self.enter(place, PeerState::Unsupported, now);
            }
            (_, _) => {}
        }
        self.note(place);
    }

    fn restore_silent(&mut self, place: u32, tries: u8, now: Time) {
        if tries == 0 {
            return;
        }
        let slowed = self.silence.is_slowed();
        let peer = self.table.row(place);
        let span = self.groups[usize::from(peer.group)].span(slowed);
        // Its next try is due now; while detection is slowed it is the next heartbeat, which leaves
        // within its interval (PEER-9).
        let due = if slowed { now + span } else { now };
        peer.tries = tries;
        self.enter(place, PeerState::Silent, due - span * u32::from(tries));
        if slowed {
            self.wait(place, due);
        } else {
            self.retransmissions.due.push(place);
        }
    }

    /// Notes that a peer's standing may have changed.
    pub(super) fn note(&mut self, place: u32) {
        let Some(untold) = &mut self.untold_standings else { return };
        let Some(peer) = self.table.get(place) else { return };
        let plain =
            matches!(peer.state, PeerState::Unknown | PeerState::Alive | PeerState::Disabled)
                && !self.restart_counters.contains_key(&place);
        if !plain || peer.is(Flag::Told) {
            untold.changed.push(place);
        }
    }

    /// Notes that a peer is about to leave its place.
    pub(super) fn note_gone(&mut self, place: u32) {
        if let Some(untold) = &mut self.untold_standings
            && let Some(peer) = self.table.get(place).filter(|peer| peer.is(Flag::Told))
        {
            untold.gone.push(peer.address());
        }
    }

    /// Where a peer stands.
    fn standing(&self, place: u32, now: Time) -> Option<Standing> {
        let peer = self.table.get(place)?;
        let count = match peer.state {
            PeerState::Unknown | PeerState::Alive | PeerState::Disabled => Count::Nothing,
            PeerState::Silent => match self.unanswered(peer, now) {
                0 => Count::Nothing,
                tries => Count::Unanswered(tries),
            },
            PeerState::Down => Count::Answered(peer.answered),
            PeerState::Unsupported => Count::Unsupported,
        };
        Some(Standing { count, restart_counter: self.restart_counters.get(&place).copied() })
    }

    /// How many tries of a silent peer have no answer though their time is over.
    fn unanswered(&self, peer: &Peer, now: Time) -> u8 {
        let group = &self.groups[usize::from(peer.group)];
        let over = group.moment(peer.since, peer.tries, self.silence.is_slowed()) <= now;
        peer.tries.saturating_sub(u8::from(!over))
    }
}
