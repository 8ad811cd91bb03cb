//! The state channel: one authenticated, encrypted connection between the mates (PAIR-8).
//!
//! ```text
//!  slot 1 connects ──> TLS 1.3, pinned both ways ──> hello ──> keys are in place ──> Up ──> frames
//!  slot 0 accepts        │ stranger, time-out          │ same slot or name            │
//!                        v                             v                              v
//!                      refused and counted           refused and counted           Down(Read | Write)
//! ```
//!
//! There is one connection at a time. A new one whose mate has shown who it is takes the place of the
//! old: the mate has started anew, or knows before us that the old one is dead.
//!
//! # The contract
//!
//! * [`start`] never fails: an address that can't be bound (yet) is tried again, and told as
//!   [`Wrong::Connect`], as every attempt to connect that fails is.
//! * Between [`Event::Up`] and [`Event::Down`], the [`Link`] of the former sends. It belongs to that
//!   connection alone: nothing that was queued for one is ever sent on the next.
//! * Control frames ([`Link::send_control`]) pass bulk frames that wait; at most one bulk frame, of at
//!   most [`frame::LONGEST_BULK`], is in their way.
//! * Who takes bulk frames holds each [`Bulk`] until it is done with it: the room that it takes is given
//!   back when it is dropped, and as long as there is none, nothing more is read.
//! * The keys of the heartbeat datagrams follow the connection: they are put into the [`Seals`] by the
//!   channel itself before [`Event::Up`].
//!
//! The tasks run on the runtime that [`start`] is called on, and end with the [`Channel`] that it gives
//! back.

pub mod counters;
mod handshake;
mod keeper;
#[cfg(test)]
mod tests;
mod tls;
mod wire;

use std::{
    net::SocketAddr,
    ops::Deref,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use evenkeel_core::pair::{paths::Wrong, term::Slot, version::Version};
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};

use self::{
    counters::{Counters, Refusal},
    keeper::Keeper,
};
use super::{
    directory::Directory,
    frame,
    keys::{Fingerprint, Identity},
    seal::Seals,
};

/// What the channel is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// This agent's place in the pair.
    pub slot: Slot,
    /// Where it listens, and what it connects from.
    pub listen: SocketAddr,
    /// Where the mate listens.
    pub mate: SocketAddr,
    /// The mate time-out: so long may nothing be read, or may a frame wait to be written.
    pub patience: Duration,
    /// The name of this agent.
    pub name: String,
    /// Its version.
    pub version: Version,
    /// Its run.
    pub run: u64,
}

/// What each mate says first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The version of the channel's protocol. It stays first, so that any version can read it.
    pub protocol: u16,
    /// The version of the agent.
    pub version: Version,
    /// Its slot.
    pub slot: Slot,
    /// Its run.
    pub run: u64,
    /// Its name.
    pub name: String,
}

/// What happens on the channel.
#[derive(Debug)]
pub enum Event {
    /// The mate is there, and has shown who it is.
    Up {
        /// What it said.
        mate: Hello,
        /// The way to it.
        link: Link,
    },
    /// The connection is gone, or could (again) not be made.
    Down(Wrong),
    /// The mate has shown who it is, and is no mate for this agent. Told when the reason is another
    /// than before.
    Refused(Refusal),
    /// A control frame came.
    Control(Vec<u8>),
    /// A bulk frame came.
    Bulk(Bulk),
}

/// A bulk frame that came, and the room that it takes.
#[derive(Debug)]
pub struct Bulk {
    octets: Vec<u8>,
    _room: OwnedSemaphorePermit,
}

impl Deref for Bulk {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.octets
    }
}

/// One connection, for who sends.
#[derive(Clone, Debug)]
pub struct Link {
    control: mpsc::Sender<Vec<u8>>,
    bulk: mpsc::Sender<Vec<u8>>,
    closing: watch::Sender<Option<Wrong>>,
    counters: Arc<Counters>,
}

/// Why a frame was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotSent {
    /// The connection is gone.
    Gone,
    /// The frame is longer than its kind may be.
    TooLong,
}

impl Link {
    /// Sends a control frame of at most [`frame::LONGEST_CONTROL`] octets, before all bulk that waits.
    /// Returns whether it was taken; if it was not, the connection is gone or hangs, which the next
    /// event says.
    pub fn send_control(&self, octets: Vec<u8>) -> bool {
        let fits = octets.len() <= frame::LONGEST_CONTROL;
        let taken = fits && self.control.try_send(octets).is_ok();
        if !taken && !self.control.is_closed() {
            self.counters.control_dropped.fetch_add(1, Ordering::Relaxed);
        }
        taken
    }

    /// Sends a bulk frame of at most [`frame::LONGEST_BULK`] octets, and waits for room.
    ///
    /// # Errors
    ///
    /// The connection is gone, or the frame is too long.
    pub async fn send_bulk(&self, octets: Vec<u8>) -> Result<(), NotSent> {
        if octets.len() > frame::LONGEST_BULK {
            return Err(NotSent::TooLong);
        }
        self.bulk.send(octets).await.map_err(|_| NotSent::Gone)
    }

    /// Whether the connection is gone.
    #[cfg(test)]
    pub fn is_gone(&self) -> bool {
        self.control.is_closed()
    }

    /// Ends the connection, as it does not do what it should. [`Event::Down`] with this reason follows,
    /// and slot 1 connects again.
    pub fn close(&self, why: Wrong) {
        self.closing.send_replace(Some(why));
    }
}

/// The channel. It ends when this is dropped.
#[derive(Debug)]
pub struct Channel {
    options: watch::Sender<Options>,
    counters: Arc<Counters>,
    noted: watch::Receiver<Noted>,
}

/// What is known of this agent's own side.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Noted {
    /// Who is trusted now.
    pub trusted: Option<Fingerprint>,
    /// Why that is not known.
    pub not_readable: Option<String>,
    /// Why nobody can connect.
    pub not_listening: Option<String>,
}

impl Channel {
    /// What is known of this agent's own side.
    pub fn noted(&self) -> Noted {
        self.noted.borrow().clone()
    }

    /// What it counts.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// Other options, after a reload. If they differ, the connection is made anew.
    pub fn set(&self, options: Options) {
        self.options.send_if_modified(|current| {
            let differ = *current != options;
            *current = options;
            differ
        });
    }
}

/// Starts the channel. `directory` holds the fingerprint of the mate, which is read for each handshake.
/// Events are to be taken without delay: none is dropped, and bulk frames have their own bound.
pub fn start(
    options: Options,
    identity: Arc<Identity>,
    directory: &Directory,
    seals: Seals,
) -> (Channel, mpsc::UnboundedReceiver<Event>) {
    let (events, taken) = mpsc::unbounded_channel();
    let counters = Arc::new(Counters::default());
    let (options, told) = watch::channel(options);
    let (note, noted) = watch::channel(Noted::default());
    let directory = directory.clone();
    let keeper = Keeper::new(identity, directory, seals, Arc::clone(&counters), events, told, note);
    tokio::spawn(keeper.run());
    (Channel { options, counters, noted }, taken)
}
