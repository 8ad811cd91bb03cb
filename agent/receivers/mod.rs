//! Tells alarms to what is no NMS: webhooks, syslog servers and Alertmanagers, from the same outbox as the
//! notifications (TRAP-11).
//!
//! ```text
//!                        in order, a batch at a time
//!   journal ──> waiting ───────────────────────────> under way ──delivered, or refused──> done
//!                                                       │  ^
//!                                                       └──┘ failed: 1 s, 2 s, 4 s ... 30 s
//! ```
//!
//! [`machine`] holds the rules and does no I/O, [`task`] is the task around one receiver, and
//! [`webhook`], [`syslog`] and [`alertmanager`] say what each is sent. `README.md` beside this file is for
//! operators.

mod alertmanager;
mod event;
mod http;
mod machine;
mod syslog;
mod task;
mod webhook;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use evenkeel_core::{alarm::Alarm, usm::Secret};
use tokio::{
    sync::{mpsc, watch},
    task::AbortHandle,
};

use self::machine::Machine;
use crate::{
    gate::Gate,
    notifier::{Filter, Journal, Reach, TargetStats},
};

/// One receiver of alarms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receiver {
    /// What its cursor is kept under; unique among these and the notification targets.
    pub name: String,
    /// What it is.
    pub form: Form,
    /// Which alarms it is told.
    pub filter: Filter,
    /// How long one delivery may take.
    pub timeout: Duration,
}

/// What a receiver is, and how it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// Gets events as JSON by HTTP POST.
    Webhook {
        /// Where.
        endpoint: Endpoint,
        /// What each delivery is signed with, if it is.
        secret: Option<Secret>,
    },
    /// Gets a message for each event (RFC 5424).
    Syslog {
        /// Where.
        address: SocketAddr,
        /// By which transport.
        transport: Transport,
        /// The facility's number (RFC 5424, 6.2.1).
        facility: u8,
    },
    /// Gets alerts by Alertmanager's API v2, again and again while they are active.
    Alertmanager {
        /// Its base address, as in `http://192.0.2.3:9093`.
        endpoint: Endpoint,
    },
}

/// How a server is reached by HTTP.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// `http://` or `https://`.
    pub url: String,
    /// Sent as `Authorization: Bearer`.
    pub bearer_token: Option<String>,
    /// The certificates that the server's must be signed by, PEM; nothing for those of this host.
    pub ca_file: Option<PathBuf>,
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // A token is as good as a password.
        f.debug_struct("Endpoint").field("url", &self.url).finish_non_exhaustive()
    }
}

/// How syslog messages travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// One message a datagram (RFC 5426).
    Udp,
    /// With their length in front (RFC 6587, 3.4.1).
    Tcp,
}

impl Receiver {
    /// [`Receiver::timeout`] where nothing is configured: what a busy server takes at most.
    pub const TIMEOUT: Duration = Duration::from_secs(10);

    /// Where it is, for people.
    pub fn address(&self) -> String {
        match &self.form {
            Form::Webhook { endpoint, .. } | Form::Alertmanager { endpoint } => {
                http::shown(&endpoint.url)
            }
            Form::Syslog { address, .. } => address.to_string(),
        }
    }

    /// What it is, for people.
    pub const fn kind(&self) -> &'static str {
        match &self.form {
            Form::Webhook { secret: Some(_), .. } => "webhook, signed",
            Form::Webhook { secret: None, .. } => "webhook",
            Form::Syslog { transport: Transport::Udp, .. } => "syslog over UDP",
            Form::Syslog { transport: Transport::Tcp, .. } => "syslog over TCP",
            Form::Alertmanager { .. } => "Alertmanager",
        }
    }
}

/// What is asked of the store beside the journal.
pub trait Active: Send + Sync + 'static {
    /// The active alarms. May block.
    ///
    /// # Errors
    ///
    /// They can't be read.
    fn active(&self) -> Result<Vec<Alarm>, String>;
}

/// What receivers work with.
#[derive(Clone)]
pub struct Surroundings {
    /// The alarm events.
    pub journal: Arc<dyn Journal>,
    /// Those that are active now.
    pub active: Arc<dyn Active>,
    /// The last row of the journal that may be told.
    pub committed: watch::Receiver<u64>,
    /// This agent's name.
    pub agent_name: String,
    /// Who is told which receivers can be reached.
    pub reach: mpsc::UnboundedSender<Reach>,
    /// Whether this agent may speak, asked before each delivery (PAIR-17).
    pub gate: Gate,
}

/// All receivers. What runs stops when this is dropped.
pub struct Receivers {
    around: Surroundings,
    running: BTreeMap<String, Running>,
    /// Of a pair, while this agent is not primary: whom it would tell.
    waiting: Option<Vec<Receiver>>,
}

struct Running {
    receiver: Receiver,
    machine: Arc<Mutex<Machine>>,
    task: AbortHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Receivers {
    /// Goes on with each where its cursor is, or at the end of the journal for one that has none.
    ///
    /// Must be called within a tokio runtime.
    pub fn new(around: Surroundings, receivers: Vec<Receiver>) -> Receivers {
        let mut all = Receivers { around, running: BTreeMap::new(), waiting: None };
        all.set(receivers);
        all
    }

    /// Those of an agent of a pair, which tells nothing before it [leads](Receivers::lead).
    pub const fn waiting(around: Surroundings, receivers: Vec<Receiver>) -> Receivers {
        Receivers { around, running: BTreeMap::new(), waiting: Some(receivers) }
    }

    /// Begins to tell, as this agent has become primary, from where the mate left off, or what comes after
    /// `end` to one that was never told anything. `committed` is how far the journal is safe from now on.
    pub fn lead(&mut self, committed: watch::Receiver<u64>, end: u64) {
        self.around.committed = committed;
        let receivers = self.waiting.take().unwrap_or_default();
        self.run_these(receivers, end);
    }

    /// Tells nothing more, as the mate is primary.
    pub fn follow(&mut self) {
        if self.waiting.is_some() {
            return;
        }
        self.settle();
        let running = std::mem::take(&mut self.running);
        let receivers = running.into_values().map(|running| running.receiver.clone());
        self.waiting = Some(receivers.collect());
    }

    /// The names of all.
    pub fn names(&self) -> Vec<String> {
        let waiting = self.waiting.iter().flatten().map(|receiver| receiver.name.clone());
        self.running.keys().cloned().chain(waiting).collect()
    }

    /// Replaces them after a reload. One that stays goes on where it is.
    pub fn set(&mut self, receivers: Vec<Receiver>) {
        if let Some(waiting) = &mut self.waiting {
            *waiting = receivers;
            return;
        }
        let end = *self.around.committed.borrow();
        self.run_these(receivers, end);
    }

    fn run_these(&mut self, receivers: Vec<Receiver>, end: u64) {
        let mut before = std::mem::take(&mut self.running);
        for receiver in receivers {
            match before.remove(&receiver.name) {
                Some(running) if running.receiver == receiver => {
                    self.running.insert(receiver.name, running);
                }
                Some(changed) => {
                    let cursor = lock(&changed.machine).cursor();
                    self.run(receiver, cursor);
                }
                None => {
                    let cursor = self.around.journal.cursor(&receiver.name);
                    let cursor = cursor.unwrap_or_else(|| {
                        // Kept at once, so that a restart doesn't skip what comes from now on.
                        self.around.journal.set_cursor(&receiver.name, end);
                        end
                    });
                    self.run(receiver, cursor);
                }
            }
        }
        // What is no longer a receiver is not unreachable.
        for (name, removed) in before {
            if lock(&removed.machine).is_unreachable() {
                let at = crate::clock::Clock::now();
                let _ = self.around.reach.send(Reach { name, unreachable: None, at });
            }
        }
    }

    /// How each fares, in the order of their names.
    pub fn stats(&self) -> Vec<TargetStats> {
        let committed = *self.around.committed.borrow();
        let all = self.running.values();
        all.map(|running| lock(&running.machine).stats(&running.receiver, committed)).collect()
    }

    /// Keeps the cursors as they are, for an orderly stop.
    pub fn settle(&self) {
        for (name, running) in &self.running {
            self.around.journal.set_cursor(name, lock(&running.machine).cursor());
        }
    }

    fn run(&mut self, receiver: Receiver, cursor: u64) {
        let resends = matches!(receiver.form, Form::Alertmanager { .. });
        let machine = Machine::new(receiver.filter.clone(), cursor, resends);
        let machine = Arc::new(Mutex::new(machine));
        let task = task::run(receiver.clone(), Arc::clone(&machine), self.around.clone());
        let task = tokio::spawn(task).abort_handle();
        self.running.insert(receiver.name.clone(), Running { receiver, machine, task });
    }
}

fn lock(machine: &Mutex<Machine>) -> MutexGuard<'_, Machine> {
    // Nothing panics with it locked, and its numbers would be good even then.
    machine.lock().unwrap_or_else(PoisonError::into_inner)
}
