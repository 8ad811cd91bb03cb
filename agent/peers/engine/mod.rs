//! The engine: the thread that owns the peer monitor, sends its requests and hands it their
//! answers.
//!
//! ```text
//!   Engine (handle)                     worker, a thread                      the kernel
//!   apply, reconfigure, look ─bell──>  Monitor <── answers ── receive ──<── recvmmsg
//!                                        │   └──── requests ─> send ─────>── sendmmsg
//!   findings <───────────────────────────┘   <── blame: drops, neighbour tables, links
//! ```
//!
//! It is no task of the driver's, so that neither a storm of traps nor a scrape holds up a batch.
//! `engine.md` beside this directory says why it is built as it is, and what was measured.

mod blame;
mod mobility;
mod mobility_socket;
mod netlink;
mod receive;
mod send;
pub mod sockets;
pub mod stats;
mod worker;

use std::{
    hash::{BuildHasher, RandomState},
    sync::{Arc, atomic::Ordering, mpsc},
    thread::{self, JoinHandle},
};

use evenkeel_core::{
    finding::Finding,
    peers::{self, Change, PeerView, StandingChange, settings::Settings},
};
use tokio::sync::{mpsc::UnboundedSender, oneshot};

use self::sockets::{EchoSocket, IDENTIFIER, Key};
pub use self::{
    sockets::OpenError,
    stats::{EngineStats, LATENESS_BUCKETS, SocketStats},
};
use crate::ear::Call;

/// What an engine begins with.
#[derive(Debug)]
pub struct Start {
    /// What the monitor is told to do.
    pub settings: Settings,
    /// Makes the tokens: nobody outside must be able to guess it.
    pub seed: u64,
    /// The receive buffer to ask for each socket, in bytes. The kernel's default loses half of the
    /// answers to a burst of 550 requests; with 4 MiB none were lost, also on a machine kept busy
    /// by four other processes.
    pub receive_buffer: usize,
    /// An alarm of an earlier run says that mass silence holds (PEER-9).
    pub mass_silence: bool,
    /// What peers are told by Proxy Mobile IPv6: how often this agent has started (PEER-15).
    pub restart_counter: u32,
    /// Takes what the monitor finds, in order.
    pub findings: UnboundedSender<Vec<Finding>>,
    /// Of a pair: takes what the mate is to know of the peers (PAIR-11); first nothing, as what an engine
    /// before this one had counted is over.
    pub standings: Option<UnboundedSender<Vec<StandingChange>>>,
}

/// A running engine. Dropping it stops it; alarms stay as they are.
#[derive(Debug)]
pub struct Engine {
    call: Arc<Call>,
    commands: mpsc::Sender<Command>,
    receive_buffer: usize,
    /// The sockets that the thread has, or will have when it has read its commands.
    keys: Vec<Key>,
    identifiers: Identifiers,
    thread: Option<JoinHandle<()>>,
}

/// What there is to see.
#[derive(Clone, Debug)]
pub struct Look {
    /// What the monitor has counted.
    pub stats: peers::Stats,
    /// Every peer in the order of the places, if they were asked for.
    pub peers: Vec<PeerView>,
    /// What the engine has counted.
    pub engine: EngineStats,
}

/// What others want of the thread. They are done in their order.
enum Command {
    /// What is left of them.
    Apply(std::vec::IntoIter<Change>),
    Reconfigure {
        settings: Settings,
        opened: Vec<EchoSocket>,
    },
    /// With what was seen of the peers so far, if they are to be shown.
    Look {
        peers: Option<Vec<PeerView>>,
        to: oneshot::Sender<Look>,
    },
}

impl Engine {
    /// Opens the sockets that the settings need and starts the thread. It has no peers yet.
    ///
    /// # Errors
    ///
    /// No socket can be had for a family or source address; see [`OpenError`]. That this host does
    /// not have IPv6, or not IPv4, is no error: requests to such peers fail.
    pub fn start(start: Start) -> Result<Engine, OpenError> {
        let Start {
            settings,
            seed,
            receive_buffer,
            mass_silence,
            restart_counter,
            findings,
            standings,
        } = start;
        let mut identifiers = Identifiers::new();
        let keys = Key::all(&settings);
        let sockets = open(&keys, &mut identifiers, receive_buffer)?;
        let call = Arc::new(Call::new().map_err(|source| OpenError::Thread { source })?);
        let (commands, inbox) = mpsc::channel();
        let begin = worker::Begin {
            settings,
            seed,
            receive_buffer,
            mass_silence,
            restart_counter,
            sockets,
            call: call.clone(),
            inbox,
            findings,
            standings,
        };
        let thread = thread::Builder::new()
            .name("peers".to_owned())
            .spawn(move || worker::Worker::new(begin).run())
            .map_err(|source| OpenError::Thread { source })?;
        Ok(Engine { call, commands, receive_buffer, keys, identifiers, thread: Some(thread) })
    }

    /// Has the monitor take in changes of the roster: in slices, so that a hundred thousand of them
    /// hold up no batch.
    pub fn apply(&self, changes: Vec<Change>) {
        self.tell(Command::Apply(changes.into_iter()));
    }

    /// Has the monitor take in new settings, after the changes before and before those after.
    ///
    /// # Errors
    ///
    /// A socket that they need can't be had: then the old settings stay. See [`OpenError`].
    pub fn reconfigure(&mut self, settings: Settings) -> Result<(), OpenError> {
        let keys = Key::all(&settings);
        let new: Vec<Key> = keys.iter().copied().filter(|key| !self.keys.contains(key)).collect();
        let opened = open(&new, &mut self.identifiers, self.receive_buffer)?;
        self.keys = keys;
        self.tell(Command::Reconfigure { settings, opened });
        Ok(())
    }

    /// Asks for what there is to see, with every peer or without; it comes soon, gathered in slices
    /// that hold up no batch. It never comes if the engine stops before.
    pub fn look(&self, peers: bool) -> oneshot::Receiver<Look> {
        let (to, look) = oneshot::channel();
        self.tell(Command::Look { peers: peers.then(Vec::new), to });
        look
    }

    fn tell(&self, command: Command) {
        // It is gone only if it panicked, which shows when it is joined.
        let _ = self.commands.send(command);
        self.call.ring();
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.call.stop.store(true, Ordering::Release);
        self.call.ring();
        if let Some(thread) = self.thread.take()
            && let Err(panic) = thread.join()
            && !thread::panicking()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

/// Gives each socket an identifier that no other of ours has, from a start by chance.
#[derive(Debug)]
struct Identifiers {
    next: u16,
}

impl Identifiers {
    fn new() -> Identifiers {
        Identifiers { next: RandomState::new().hash_one(std::process::id()) as u16 & IDENTIFIER }
    }

    fn take(&mut self) -> u16 {
        let identifier = self.next;
        self.next = self.next.wrapping_add(!IDENTIFIER + 1);
        identifier
    }
}

/// Opens a socket for each key but those whose family this host does not have.
fn open(
    keys: &[Key],
    identifiers: &mut Identifiers,
    buffer: usize,
) -> Result<Vec<EchoSocket>, OpenError> {
    let mut sockets = Vec::with_capacity(keys.len());
    for key in keys {
        match EchoSocket::open(*key, identifiers.take(), buffer) {
            Ok(socket) => sockets.push(socket),
            Err(OpenError::NoSuchFamily { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(sockets)
}

#[cfg(test)]
mod tests;
