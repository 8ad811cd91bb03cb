//! What the store tells a replica: everything that is on the disk, in the order in which it came
//! there, and how it was at the moment from which on it tells (PAIR-11).

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use evenkeel_core::{
    alarm::{Alarm, AlarmEvent},
    state::{Record, RecordKey},
    usm::EngineRecord,
};
use tokio::sync::mpsc::UnboundedSender;

use super::{Moment, snapshot::Snapshot};

/// How much may wait for a replica that does not keep up: then it is told nothing more, and begins
/// anew with a copy.
const MOST_WAITING: u64 = 64 << 20;

/// One thing that is on the disk. All times are moments of this host.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// A row of the journal.
    Row {
        /// Its place.
        seq: u64,
        /// What it says, with the term that it was written in.
        event: Box<AlarmEvent>,
    },
    /// An active alarm.
    Alarm(Box<Alarm>),
    /// What is remembered of an object.
    Record {
        /// The record.
        record: Box<Record>,
        /// When it was so.
        as_of: Moment,
    },
    /// An object that is no longer remembered.
    Removed(RecordKey),
    /// Another SNMP engine.
    Engine {
        /// What is known of it.
        engine: EngineRecord,
        /// When that was so.
        as_of: Moment,
    },
    /// How far a notification target is; nothing where that did not change.
    Cursor {
        /// Its name.
        target: String,
        /// In the journal.
        seq: Option<u64>,
        /// In the spool.
        spool: Option<u64>,
    },
    /// The notification targets that there are.
    Targets(Vec<String>),
    /// How far the journal knows a term, by the name that the table `terms` has for it.
    Term {
        /// The term.
        term: String,
        /// The last seq that was given in it.
        last: u64,
    },
    /// The last number of the spool that the records heed.
    Heeded(u64),
    /// The agent listened at least until then.
    Alive(Moment),
    /// How far records may lag behind.
    Lag(Duration),
    /// Prints of traps that the records before this heed.
    Prints(Vec<u64>),
    /// Nothing was waiting when the agent ended to lead: the records lack nothing.
    Clean,
}

impl Item {
    /// About how many octets it takes while it waits.
    fn cost(&self) -> u64 {
        let more = match self {
            Item::Row { event, .. } => 400 + event.alarm.text.len(),
            Item::Alarm(alarm) => 400 + alarm.text.len(),
            Item::Record { record, .. } => 300 + 32 * record.memory.recent.len(),
            Item::Prints(prints) => 8 * prints.len(),
            Item::Targets(names) => 64 * names.len(),
            Item::Removed(_)
            | Item::Engine { .. }
            | Item::Cursor { .. }
            | Item::Term { .. }
            | Item::Heeded(_)
            | Item::Alive(_)
            | Item::Lag(_)
            | Item::Clean => 64,
        };
        (size_of::<Item>() + more) as u64
    }
}

/// What comes out of the store for a replica.
#[derive(Debug)]
pub enum Shipped {
    /// How everything was; all that follows happened later. Comes first, and once.
    Begin(Snapshot),
    /// What one transaction wrote.
    Items(Vec<Item>),
    /// There is no more, as the database could not be read.
    Failed(String),
}

/// Where the store puts what it ships. When it is dropped by the store, the replica has not kept up.
#[derive(Clone, Debug)]
pub struct Tap<T = Shipped> {
    sender: UnboundedSender<(T, u64)>,
    waiting: Arc<AtomicU64>,
}

impl<T> Tap<T> {
    /// A tap into this channel, beside each message of which stands what it costs. Whoever takes a
    /// message out takes its cost from `waiting`.
    pub const fn new(sender: UnboundedSender<(T, u64)>, waiting: Arc<AtomicU64>) -> Tap<T> {
        Tap { sender, waiting }
    }

    /// Puts something in; says whether the tap is still of use.
    pub fn put(&self, message: T, cost: u64) -> bool {
        let waiting = self.waiting.fetch_add(cost, Ordering::Relaxed) + cost;
        waiting <= MOST_WAITING && self.sender.send((message, cost)).is_ok()
    }
}

impl Tap {
    /// Puts in what a transaction has written.
    pub fn ship(&self, items: Vec<Item>) -> bool {
        let cost = items.iter().map(Item::cost).sum();
        items.is_empty() || self.put(Shipped::Items(items), cost)
    }
}
