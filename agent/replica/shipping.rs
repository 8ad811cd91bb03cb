//! What a primary knows of what it has sent: what is acknowledged, what is under way, and since when.
//!
//! ```text
//!   Asking ──(handed over, or nothing to hand over)──> Copying ──(all sent)──> Live
//!                                                                 in sync once the first pulse, which
//!                                                                 follows all that had waited, is
//!                                                                 acknowledged
//! ```

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::AtomicU64},
    time::{Duration, Instant},
};

use evenkeel_core::pair::{
    record::{Part, Parts},
    sync::Sync,
};
use tokio::sync::mpsc::{Receiver, UnboundedReceiver};

use super::{
    HandedTrap, Replicated,
    copying::Chunk,
    wire::{Offer, Whole},
};
use crate::{
    spool::SpoolShipped,
    store::{Handed, Shipped},
};

/// Nothing that is sent in synchronisation is without an acknowledgement for longer: then the channel
/// is closed, and nothing waits for it any more.
const PATIENCE: Duration = Duration::from_secs(2);

/// The same before that: putting a copy in place takes the standby some seconds.
const PATIENCE_COPYING: Duration = Duration::from_secs(60);

/// What the store or the spool ships, and how much of it waits.
#[derive(Debug)]
pub struct Source<T> {
    /// The channel, with what each message costs.
    pub shipped: UnboundedReceiver<(T, u64)>,
    /// What all that waits costs.
    pub waiting: Arc<AtomicU64>,
}

impl<T> Source<T> {
    /// The next; nothing if we have not kept up.
    pub async fn next(&mut self) -> Option<T> {
        let (message, cost) = self.shipped.recv().await?;
        self.waiting.fetch_sub(cost, std::sync::atomic::Ordering::Relaxed);
        Some(message)
    }

    /// The next, if there is one already.
    pub fn try_next(&mut self) -> Option<T> {
        let (message, cost) = self.shipped.try_recv().ok()?;
        self.waiting.fetch_sub(cost, std::sync::atomic::Ordering::Relaxed);
        Some(message)
    }
}

/// Where it stands.
#[derive(Debug)]
pub enum Phase {
    /// The standby is asked for what we lack.
    Asking {
        /// What came of that.
        handed: Handed,
        /// Entries of its spool.
        traps: Vec<HandedTrap>,
        /// Up to this number of its spool its records heed all.
        heeded: u64,
    },
    /// A copy is read and sent.
    Copying {
        /// From the thread that reads it.
        chunks: Receiver<Chunk>,
    },
    /// Changes are sent.
    Live,
}

/// Something that was sent.
#[derive(Clone, Copy, Debug)]
struct Mark {
    /// Where it ends in the stream.
    position: u64,
    at: Instant,
    events: u32,
    /// What the mate has then.
    has: Replicated,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Change,
    Whole(Whole),
    /// All that had waited for the end of the copy is before it.
    CaughtUp,
}

/// A standby that is kept the same.
#[derive(Debug)]
pub struct Shipping {
    /// Of its offer.
    pub session: u32,
    /// What it has offered.
    pub offer: Offer,
    /// All in its spool is ours, so that only what is missing is sent.
    pub adds: bool,
    /// Where it stands.
    pub phase: Phase,
    /// From the store and the spool, once a copy has begun.
    pub sources: Option<(Source<Shipped>, Source<SpoolShipped>)>,
    /// What is said last to the mate.
    pub last: Replicated,
    has: Replicated,
    marks: VecDeque<Mark>,
    acknowledged: u64,
    progress: Instant,
    events: u32,
    whole: Vec<Whole>,
    caught_up_sent: bool,
    /// Since when it is in synchronisation.
    in_sync: Option<Instant>,
}

impl Shipping {
    /// A standby that has asked for a copy.
    pub fn new(offer: Offer, adds: bool, position: u64, now: Instant) -> Shipping {
        let none = Replicated { seq: 0, number: 0 };
        Shipping {
            session: offer.session,
            offer,
            adds,
            // A mate that does not say so has judged all.
            phase: Phase::Asking { handed: Handed::default(), traps: Vec::new(), heeded: u64::MAX },
            sources: None,
            last: none,
            has: none,
            marks: VecDeque::new(),
            acknowledged: position,
            progress: now,
            events: 0,
            whole: Vec::new(),
            caught_up_sent: false,
            in_sync: None,
        }
    }

    /// Notes that everything up to `position` was sent, with so many alarm events.
    pub fn sent(&mut self, position: u64, events: u32, now: Instant) {
        self.mark(position, events, Kind::Change, now);
    }

    /// Notes that a part of the copy was sent.
    pub fn sent_whole(&mut self, position: u64, whole: Whole, now: Instant) {
        self.mark(position, 0, Kind::Whole(whole), now);
    }

    /// Notes that all that had waited for the end of the copy was sent.
    pub fn sent_caught_up(&mut self, position: u64, now: Instant) {
        self.caught_up_sent = true;
        self.mark(position, 0, Kind::CaughtUp, now);
    }

    fn mark(&mut self, position: u64, events: u32, kind: Kind, at: Instant) {
        if self.marks.is_empty() {
            self.progress = at;
        }
        self.events = self.events.saturating_add(events);
        self.marks.push_back(Mark { position, at, events, has: self.last, kind });
    }

    /// Whether it was said that all that had waited was sent.
    pub const fn is_caught_up(&self) -> bool {
        self.caught_up_sent
    }

    /// The standby has everything up to `position` on its disk. Says whether it is in synchronisation
    /// since now.
    pub fn acknowledge(&mut self, position: u64, now: Instant) -> bool {
        self.acknowledged = self.acknowledged.max(position);
        let was = self.in_sync.is_some();
        while let Some(mark) = self.marks.front()
            && mark.position <= position
        {
            self.progress = now;
            self.events = self.events.saturating_sub(mark.events);
            self.has = mark.has;
            match mark.kind {
                Kind::Change => {}
                Kind::Whole(whole) => self.whole.push(whole),
                Kind::CaughtUp => self.in_sync = Some(now),
            }
            self.marks.pop_front();
        }
        self.in_sync.is_some() && !was
    }

    /// Octets of the stream up to `position` that are under way.
    pub const fn under_way(&self, position: u64) -> u64 {
        position.saturating_sub(self.acknowledged)
    }

    /// What the mate has, while it is in synchronisation.
    pub const fn has(&self) -> Option<Replicated> {
        if self.in_sync.is_some() { Some(self.has) } else { None }
    }

    /// Alarm events that are under way, and for how long anything is.
    pub fn lag(&self, now: Instant) -> (u32, Duration) {
        let oldest = self.marks.front().map(|mark| now.saturating_duration_since(mark.at));
        (self.events, oldest.unwrap_or_default())
    }

    /// Why the channel must be closed, if it must.
    pub fn is_stuck(&self, now: Instant) -> Option<&'static str> {
        if let (Some(since), Some(oldest)) = (self.in_sync, self.marks.front()) {
            // What was sent while the standby put the copy in place has waited for that.
            let waits = now.saturating_duration_since(oldest.at.max(since));
            return (waits > PATIENCE)
                .then_some("the standby acknowledges nothing for more than 2 s");
        }
        let idle = now.saturating_duration_since(self.progress);
        let waits = !self.marks.is_empty() || matches!(self.phase, Phase::Asking { .. });
        (waits && idle > PATIENCE_COPYING).then_some("the standby takes no copy for more than 60 s")
    }

    /// How far it is.
    pub fn sync(&self, now: Instant) -> Sync {
        if self.in_sync.is_some() {
            let (events, age) = self.lag(now);
            return Sync::InSync { events, age };
        }
        let has = |whole| self.whole.contains(&whole);
        let parts = [
            (Part::Alarms, has(Whole::Alarms)),
            (Part::Objects, has(Whole::Objects)),
            (Part::Engines, has(Whole::Engines)),
            (Part::Outbox, has(Whole::Outbox) && has(Whole::Spool)),
            // It goes with the end.
            (Part::Peers, false),
        ];
        let missing: Vec<Part> =
            parts.into_iter().filter(|(_, has)| !has).map(|(part, _)| part).collect();
        Sync::Copying { missing: Parts::of(&missing) }
    }
}
