//! Starts what an agent of a pair has beside others, and joins the pair's thread and the replica.

use std::{path::Path, sync::Arc};

use anyhow::Context;
use evenkeel_core::{
    identities,
    input::Host,
    peers::StandingChange,
    shadow::{Printer, Shadow, Unconfirmed},
};
use tokio::sync::{mpsc, watch};
use tracing::warn;

use super::{Carried, Roles, Voices};
use crate::{
    clock::Clock,
    gate::Gate,
    hub::Hub,
    outbox::Outspool,
    pair::{self, FromPair, PairHandle, ToPair, directory::Directory, keys, trust::Trust},
    replica::{self, FromReplica, Link, Replica, ReplicaHandle, Said},
    spool::Spool,
    store::{self, Store},
};

/// What is needed to begin.
pub struct Begun {
    /// The pair's thread's.
    pub beginning: pair::Beginning,
    /// What waits for the mate.
    pub wait: replica::Wait,
    /// The journal and the records.
    pub store: Arc<Store>,
    /// The spool.
    pub spool: Arc<Spool>,
    /// This host.
    pub host: watch::Receiver<Host>,
    /// What the mate is to know of the peers.
    pub stood: mpsc::UnboundedReceiver<Vec<StandingChange>>,
}

/// The pair's thread and the replica, which run.
pub struct Mate {
    /// The way to the pair's thread.
    pub pair: PairHandle,
    told: mpsc::UnboundedReceiver<FromPair>,
    replica: ReplicaHandle,
    replicated: mpsc::UnboundedReceiver<FromReplica>,
    gate: Gate,
    printer: Printer,
}

/// Starts both. Store and spool follow from here on, until this agent is primary.
///
/// # Errors
///
/// The pair's keys can't be had, or the kernel refuses a thread.
pub async fn begin(begun: Begun) -> anyhow::Result<Mate> {
    let Begun { beginning, wait, store, spool, host, mut stood } = begun;
    let (state_dir, gate) = (beginning.state_dir.clone(), beginning.gate.clone());
    let pair::Started { handle, events, replica: heard } =
        pair::start(beginning).context("cannot start the pair")?;
    let printer = Printer::new(print_key(&state_dir)?);
    tokio::spawn(pair::follow_host(handle.clone(), host));
    let link = link(&handle);
    let parts = replica::Parts { store, spool, state_dir, link, heard, wait, clock: present };
    let (replica, replicated) = Replica::start(parts).context("cannot start the replica")?;
    replica.follow().await;
    let of_peers = replica.clone();
    tokio::spawn(async move {
        while let Some(changes) = stood.recv().await {
            of_peers.peers(changes);
        }
    });
    Ok(Mate { pair: handle, told: events, replica, replicated, gate, printer })
}

impl Mate {
    /// What the driver works with.
    pub fn roles(
        self,
        hub: Arc<Hub>,
        store: Arc<Store>,
        spool: Arc<Spool>,
        outspool: Arc<Outspool>,
    ) -> Roles {
        let Mate { pair, told, replica, replicated, gate, printer } = self;
        let voices = Voices { hub, store, spool, outspool, replica: replica.clone() };
        Roles {
            pair,
            told,
            replica,
            replicated,
            gate,
            voices,
            shadow: Shadow::new(printer.clone()),
            unconfirmed: Unconfirmed::new(printer),
            held: Vec::new(),
            carried: Carried::default(),
        }
    }
}

/// Frames and words of the replica go to the pair's thread.
fn link(pair: &PairHandle) -> Link {
    // The thread's own queue is the one that holds frames.
    let (frames, mut waiting) = mpsc::channel(1);
    let (said, mut heard) = mpsc::unbounded_channel();
    let to = pair.clone();
    tokio::spawn(async move {
        while let Some(frame) = waiting.recv().await {
            to.send(frame).await;
        }
    });
    let to = pair.clone();
    tokio::spawn(async move {
        while let Some(said) = heard.recv().await {
            match said {
                Said::Sync(sync) => to.tell(ToPair::Sync(sync)),
                Said::Reconnect(why) => {
                    warn!("the state channel is connected anew: {why}");
                    to.tell(ToPair::Reconnect);
                }
            }
        }
    });
    Link { frames, said }
}

/// Both agents know both fingerprints, and nobody else has to.
fn print_key(state_dir: &Path) -> anyhow::Result<u64> {
    let directory = Directory::of(state_dir);
    let own = keys::Identity::load_or_make(&directory).context("this agent has no key")?;
    // Without the mate's, the two make different prints, and no trap is let go of too soon.
    let mate = Trust::of(&directory).read().ok().flatten();
    let mut both = [Some(own.fingerprint.to_string()), mate.map(|mate| mate.to_string())];
    both.sort();
    Ok(identities::hash(&format!("{both:?}")))
}

/// The clock of the store and the spool.
fn present() -> store::Now {
    let now = Clock::both();
    let moment = store::Moment { mono: now.time, wall: now.wall_time() };
    // It was read at the start, and can't go away.
    store::Now { moment, boot_id: store::boot_id().unwrap_or_default() }
}
