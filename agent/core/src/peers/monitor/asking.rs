//! Which requests leave now (PEER-4).

use super::Monitor;
use crate::{
    peers::{
        PeerState, Request,
        group::{Asked, Group},
        table::Flag,
    },
    time::{Pretty, Time},
};

impl Monitor {
    /// Appends the requests that are to be sent now: of each list one batch at most.
    pub fn take_requests(&mut self, now: Time, requests: &mut Vec<Request>) {
        self.watch_for_stall(self.next_heartbeat(), now);
        self.weigh_silence(now);
        self.take_heartbeats(now, requests);
        self.take_retransmissions(now, requests);
    }

    /// The last of the requests that were taken at `taken` leaves now. A batch takes its time to leave,
    /// and this agent may stand still over it (PEER-12): none of the requests is judged before the last
    /// has had its whole timeout.
    pub fn left(&mut self, taken: Time, now: Time) {
        self.watch_for_stall(Some(taken), now);
        self.groups.iter_mut().for_each(|group| group.left(taken, now));
    }

    fn take_heartbeats(&mut self, now: Time, requests: &mut Vec<Request>) {
        if now < self.heartbeats.next() {
            return;
        }
        for group in &mut self.groups {
            let rounds = group.ring.skip(now);
            let asked = [PeerState::Unknown, PeerState::Alive, PeerState::Silent, PeerState::Down];
            let peers: u32 = asked.into_iter().map(|state| *group.peers_mut(state)).sum();
            self.skipped += rounds * u64::from(peers);
        }
        let mut room = self.heartbeats.size();
        // The groups share the batches in the order in which their slots come due.
        while room > 0
            && let Some((due, group)) = self.most_due(now)
        {
            while room > 0
                && self.groups[group].ring.due() == Some(due)
                && let Some(place) = self.groups[group].ring.take(now)
            {
                if self.table.get(place).is_some_and(|peer| peer.is_asked()) {
                    requests.push(self.ask(place, false, now));
                    self.groups[group].stats.heartbeats += 1;
                    room -= 1;
                }
            }
        }
        if room < self.heartbeats.size() {
            self.heartbeats.leaves(now);
        }
    }

    /// The group whose next slot came due first, and when that was.
    fn most_due(&self, now: Time) -> Option<(Time, usize)> {
        let groups = self.groups.iter().enumerate().filter(|(_, group)| group.outer.is_some());
        let due = groups.filter_map(|(number, group)| Some((group.ring.due()?, number)));
        due.min().filter(|(due, _)| *due <= now)
    }

    fn take_retransmissions(&mut self, now: Time, requests: &mut Vec<Request>) {
        self.watch_for_backlog(now);
        if now < self.retransmissions.pace.next() || !self.retransmissions.wants_batch() {
            return;
        }
        let mut room = self.retransmissions.pace.size();
        while room > 0
            && let Some(place) = self.retransmissions.due.pop()
        {
            room -= u32::from(self.try_again(place, now, requests));
        }
        while room > 0
            && let Some(place) = self.retransmissions.again.pop()
        {
            // It may have answered a later heartbeat by now; one more request does no harm.
            let Some(peer) = self.table.get(place) else { continue };
            let group = &mut self.groups[usize::from(peer.group)];
            if matches!(peer.state, PeerState::Unknown | PeerState::Alive) && group.outer.is_some()
            {
                group.stats.retransmissions += 1;
                requests.push(self.ask(place, true, now));
                room -= 1;
            }
        }
        if room < self.retransmissions.pace.size() {
            self.retransmissions.pace.leaves(now);
        }
    }

    /// The next try of a peer that was due, if it still is.
    fn try_again(&mut self, place: u32, now: Time, requests: &mut Vec<Request>) -> bool {
        let Some(peer) = self.table.get_mut(place) else { return false };
        if peer.state != PeerState::Silent {
            return false;
        }
        let group = &mut self.groups[usize::from(peer.group)];
        let due = group.moment(peer.since, peer.tries, false);
        if group.outer.is_none() || due > now {
            self.retransmissions.waiting.set(place, due.max(now + group.settings.timeout));
            return false;
        }
        // A try that leaves later than its list allows would have no time left for its answer.
        let late = now.since(due);
        if late > group.allowed_lateness() {
            peer.since = peer.since + late;
        }
        peer.tries = peer.tries.saturating_add(1);
        peer.set(Flag::Spoiled, false);
        group.stats.retransmissions += 1;
        requests.push(self.ask(place, true, now));
        self.wait(place, now);
        true
    }

    /// Sees whether retransmissions come due faster than their batches can leave: the first one is
    /// more overdue than their list allows (PEER-9), and not because this agent stood still.
    fn watch_for_backlog(&mut self, now: Time) {
        while let Some(place) = self.retransmissions.due.first() {
            let silent = self.table.get(place).filter(|peer| peer.state == PeerState::Silent);
            let Some(peer) = silent else {
                self.retransmissions.due.pop();
                continue;
            };
            let group = &self.groups[usize::from(peer.group)];
            let due = group.moment(peer.since, peer.tries, false);
            let free = self.blame.last_stall().map_or(due, |stall| stall.max(due));
            let overdue = now.since(free) > group.allowed_lateness();
            // Until those who wait now have been found down or have answered: they would be overdue
            // again and again if they began anew before that, and never be found.
            let slow = group.settings.interval * group.settings.max_retransmissions.get().into();
            let held = now + slow;
            if overdue && self.silence.overdue(held).is_some() {
                let late = Pretty(now.since(due));
                let cause = format!(
                    "retransmissions come due faster than their batches can leave: the first is \
                     {late} late{}",
                    self.consequence(),
                );
                self.begin_silence(cause, now);
            }
            return;
        }
    }

    fn ask(&mut self, place: u32, retransmission: bool, now: Time) -> Request {
        let peer = self.table.row(place);
        let group: &mut Group = &mut self.groups[usize::from(peer.group)];
        let (sequence, forgets) = peer.ask();
        group.ask(Asked { place, sequence }, retransmission, now);
        self.awaited += 1 - u32::from(forgets);
        Request {
            place,
            address: peer.address(),
            group: group.outer.unwrap_or_default(),
            sequence,
            token: self.tokens.token(place, sequence),
            retransmission,
            down: peer.state == PeerState::Down,
        }
    }
}
