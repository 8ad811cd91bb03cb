//! One group of peers: its settings, its ring, and the requests that wait for their answers.
//!
//! A batch is the timer: all requests of one batch have their deadline at one moment, and the batches
//! of a group come due in the order in which they left. So nothing is armed or cancelled for a request;
//! an answer only clears a bit of its peer.

use std::{collections::VecDeque, time::Duration};

use super::{
    GroupStats, PeerState, RoundTrips,
    ring::Ring,
    settings::{self},
};
use crate::time::Time;

/// A group.
#[derive(Clone, Debug)]
pub struct Group {
    /// What is set for it.
    pub settings: settings::Group,
    /// Its place in the settings; nothing if it is no longer there. Its peers are not asked then, as
    /// they are about to be removed.
    pub outer: Option<u16>,
    /// When its peers are asked.
    pub ring: Ring,
    /// What there is to see of it.
    pub stats: GroupStats,
    batches: VecDeque<Batch>,
    asked: VecDeque<Asked>,
}

/// Requests that left together.
#[derive(Clone, Copy, Debug)]
pub struct Batch {
    /// When the first of them left, or was about to.
    pub sent: Time,
    /// When those without an answer are judged.
    pub deadline: Time,
    /// Whether they left by the retransmission list.
    pub retransmission: bool,
    /// How many.
    pub count: u32,
}

/// A request.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// The peer's place.
    pub place: u32,
    /// Which of its requests it is.
    pub sequence: u32,
}

impl Group {
    /// A group without peers.
    pub fn new(settings: &settings::Group, outer: u16, ring: Ring) -> Group {
        Group {
            settings: settings.clone(),
            outer: Some(outer),
            ring,
            stats: GroupStats { name: settings.name.clone(), ..GroupStats::default() },
            batches: VecDeque::new(),
            asked: VecDeque::new(),
        }
    }

    /// From one try of a silent peer to the next: the timeout, and while detection is slowed the
    /// heartbeat interval (PEER-9), which is not meant to quicken it where it is the shorter one.
    pub fn span(&self, slowed: bool) -> Duration {
        let Group { settings: settings::Group { interval, timeout, .. }, .. } = self;
        if slowed { *interval.max(timeout) } else { *timeout }
    }

    /// When the try after so many is due, by a clock that started then.
    pub fn moment(&self, clock: Time, tries: u8, slowed: bool) -> Time {
        clock + self.span(slowed) * u32::from(tries)
    }

    /// How late a retransmission may leave: four fifths of the timeout (PEER-8).
    pub const fn allowed_lateness(&self) -> Duration {
        Duration::from_nanos((self.settings.timeout.as_nanos() * 4 / 5) as u64)
    }

    /// A request leaves, and waits for its answer from now on.
    pub fn ask(&mut self, asked: Asked, retransmission: bool, now: Time) {
        self.asked.push_back(asked);
        match self.batches.back_mut() {
            Some(last) if last.sent == now && last.retransmission == retransmission => {
                last.count += 1;
            }
            last => {
                // A shorter timeout takes hold only behind those that have the longer one.
                let after = last.map_or(Time::ZERO, |last| last.deadline);
                let deadline = (now + self.settings.timeout).max(after);
                self.batches.push_back(Batch { sent: now, deadline, retransmission, count: 1 });
            }
        }
    }

    /// The last of the requests that were asked at `asked` leaves now.
    pub fn left(&mut self, asked: Time, now: Time) {
        let deadline = now + self.settings.timeout;
        let latest = self.batches.iter_mut().rev();
        for batch in latest.take_while(|batch| batch.sent == asked) {
            batch.deadline = batch.deadline.max(deadline);
        }
    }

    /// When the first batch is to be judged.
    pub fn deadline(&self) -> Option<Time> {
        self.batches.front().map(|batch| batch.deadline)
    }

    /// Takes the first batch, to be judged.
    pub fn pop_batch(&mut self) -> Option<Batch> {
        self.batches.pop_front()
    }

    /// Takes the next request of the batch that was taken.
    pub fn pop_asked(&mut self) -> Option<Asked> {
        self.asked.pop_front()
    }

    /// How many of its peers stand there.
    pub const fn peers_mut(&mut self, state: PeerState) -> &mut u32 {
        &mut self.stats.peers[state as usize]
    }

    /// Whether it can be forgotten: it is not set any more, has no peers and nothing to be judged.
    pub fn is_over(&self) -> bool {
        self.outer.is_none() && self.batches.is_empty() && self.stats.peers == [0; 6]
    }
}

impl RoundTrips {
    /// Takes in one more.
    pub(super) fn add(&mut self, micros: u64) {
        let bucket = super::ROUND_TRIP_BUCKETS.partition_point(|bound| *bound < micros);
        self.buckets[bucket] += 1;
        self.sum_micros += micros;
    }
}
