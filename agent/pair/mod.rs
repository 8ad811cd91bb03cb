//! Two agents, one voice: the shell around the protocol of a pair, which is
//! [`evenkeel_core::pair`]. `README.md` beside this file is for operators.
//!
//! ```text
//!                  ┌──────────────────── thread "pair" ────────────────────┐
//!  UDP paths <────>│ paths, seal                                           │
//!  state channel <>│ channel, frame        core::pair::Pair                │──> kept (a thread of its own)
//!  witnesses <────>│ witnesses                                             │
//!                  └──▲────────────┬──────────────────────┬────────▲───────┘
//!              orders │            │ Gate, FromPair, View │        │ ToPair, frames
//!                     │            v                      v        │
//!                control socket   roles, status        replica ────┘
//! ```
//!
//! The thread has a runtime of its own, in which nothing waits for anything else: a heartbeat that
//! leaves late looks like a loss to the mate. So it writes no file, takes no lock that others hold for
//! long, and logs nothing; what is to be told goes out as [`FromPair`] and in the [`View`].

pub mod channel;
pub mod command;
pub mod directory;
pub mod frame;
mod host;
mod kept;
pub mod keys;
mod log;
pub mod metrics;
pub mod orders;
mod paths;
pub mod seal;
pub mod secrets;
mod seen;
mod show;
pub mod status;
#[cfg(test)]
pub mod testing;
mod thread;
pub mod trust;
mod view;
mod witnesses;

use std::{net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use evenkeel_core::pair::{
    Finding, Order, Refusal, Role, SteppedBack, record::Takeover, settings::Settings, sync::Sync,
    term::Term, version::Version,
};
use tokio::sync::{mpsc, oneshot, watch};

pub use self::{host::follow_host, log::log, thread::start, view::View};
pub use crate::replica::ToReplica;
use crate::{config, gate::Gate};

/// How many frames of the state may wait for the state channel; who sends more of them waits.
const FRAMES: usize = 64;

/// How long an operator waits for what was ordered: longer than the mate time-out by default, and
/// shorter than whoever asks over the control socket waits for an answer.
const ORDER_PATIENCE: Duration = Duration::from_secs(8);

/// How long an orderly stop waits for the mate to take over.
const STOP_PATIENCE: Duration = Duration::from_secs(3);

/// From the rest of the agent to the pair's thread.
pub enum ToPair {
    /// How far synchronisation is.
    Sync(Sync),
    /// The state channel is to be closed and connected again, as nothing is acknowledged by it.
    Reconnect,
    /// A part of this agent fails, or none does any more (PAIR-9).
    Parts {
        /// Whether one fails.
        failing: bool,
    },
    /// This host, as it is seen now: who may be asked as a witness, and whether there is a network.
    Host {
        /// Its gateways.
        gateways: Vec<IpAddr>,
        /// Whether an interface beside loopback has a link and an address.
        network_up: bool,
    },
    /// An operator's order, and who waits for what becomes of it.
    Order(Order, oneshot::Sender<Result<(), Refusal>>),
    /// The configuration was loaded again.
    Settings(Box<Configured>),
    /// This agent is to stop in order. Answered when the mate has taken over, or will not.
    Stopping(oneshot::Sender<()>),
}

/// From the pair's thread to the rest of the agent.
#[derive(Debug)]
pub enum FromPair {
    /// The role has changed, or the primary has begun another term.
    Role {
        /// The role.
        role: Role,
        /// The term that it is primary in.
        term: Option<Term>,
    },
    /// An alarm of the pair begins or ends.
    Finding(Finding),
    /// A part fails and there is no standby: restart it, or the agent, without asking (PAIR-9).
    RestartUnasked,
    /// This agent has taken over.
    TookOver(Takeover),
    /// This agent has stepped back.
    SteppedBack {
        /// Why.
        why: SteppedBack,
    },
    /// The mate has started anew, or is heard for the first time.
    MateStarted {
        /// Its version.
        version: Version,
    },
    /// This agent stood still for so long.
    Stalled {
        /// How long.
        late: Duration,
    },
    /// Something keeps this agent from doing its part in the pair. Told once each time that it begins.
    Problem(String),
}

/// What is configured, as far as the pair's thread works with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configured {
    /// The section `[pair]`.
    pub pair: config::Pair,
    /// The addresses of the notification targets, which are witnesses unless others are named.
    pub targets: Vec<IpAddr>,
}

/// What a pair's thread begins with.
pub struct Beginning {
    /// What is configured.
    pub configured: Configured,
    /// This agent's name.
    pub name: String,
    /// Where its state is kept.
    pub state_dir: PathBuf,
    /// The boot of this host.
    pub boot_id: String,
    /// What those who send ask.
    pub gate: Gate,
}

/// A running pair's thread.
pub struct Started {
    /// The way to it.
    pub handle: PairHandle,
    /// What it tells the rest of the agent.
    pub events: mpsc::UnboundedReceiver<FromPair>,
    /// What it tells the replica.
    pub replica: mpsc::UnboundedReceiver<ToReplica>,
}

/// The way to the pair's thread.
#[derive(Clone)]
pub struct PairHandle {
    told: mpsc::UnboundedSender<ToPair>,
    frames: mpsc::Sender<Vec<u8>>,
    view: watch::Receiver<Option<Arc<View>>>,
}

/// Why an order was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// It can't be.
    #[error("{0}")]
    Refused(Refusal),
    /// Nobody knows yet.
    #[error(
        "it was not done within {} seconds; `evenkeel pair status` shows what becomes of it",
        ORDER_PATIENCE.as_secs()
    )]
    TimedOut,
    /// The thread has ended.
    #[error("the pair's thread of the agent has ended; its log says why")]
    Ended,
}

impl PairHandle {
    /// Tells the thread something. Never waits.
    pub fn tell(&self, what: ToPair) {
        // A thread that has ended has nobody left to tell.
        let _ = self.told.send(what);
    }

    /// Sends a part of the state by the state channel, as soon as there is room for it. It is lost if
    /// the channel is down by then.
    pub async fn send(&self, frame: Vec<u8>) {
        // As above.
        let _ = self.frames.send(frame).await;
    }

    /// What there is to see of the pair, as of the thread's last turn; nothing before the first.
    pub fn view(&self) -> Option<Arc<View>> {
        self.view.borrow().clone()
    }

    /// Orders something, and waits for what becomes of it.
    ///
    /// # Errors
    ///
    /// It can't be carried out, or not in time.
    pub async fn order(&self, order: Order) -> Result<(), OrderError> {
        let (answer, answered) = oneshot::channel();
        self.tell(ToPair::Order(order, answer));
        match tokio::time::timeout(ORDER_PATIENCE, answered).await {
            Ok(Ok(done)) => done.map_err(OrderError::Refused),
            Ok(Err(_)) => Err(OrderError::Ended),
            Err(_) => Err(OrderError::TimedOut),
        }
    }

    /// Gives the mate the time to take over, before this agent stops.
    pub async fn stop(&self) {
        let (answer, answered) = oneshot::channel();
        self.tell(ToPair::Stopping(answer));
        // Whether it has taken over or not, this agent stops.
        let _ = tokio::time::timeout(STOP_PATIENCE, answered).await;
    }
}

impl Configured {
    /// What the machine is told. `witnesses`: there is one to ask.
    fn settings(&self, witnesses: bool) -> Settings {
        self.pair.settings(witnesses)
    }

    /// The ends of the heartbeat paths.
    fn ends(&self) -> Vec<paths::Ends> {
        let ends = self.pair.paths.iter().map(|path| paths::Ends {
            interface: path.interface.clone(),
            local: path.local,
            mate: path.mate,
        });
        ends.collect()
    }

    /// The mate's address on each of them.
    fn mates(&self) -> Vec<IpAddr> {
        self.pair.paths.iter().map(|path| path.mate.ip().to_canonical()).collect()
    }
}
