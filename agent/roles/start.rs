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
    pair::{
        self, FromPair, PairHandle, ToPair,
        directory::Directory,
        keys::{self, Fingerprint},
        trust::Trust,
    },
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
    prints: PrintKey,
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
    let prints = PrintKey::read(&state_dir)?;
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
    Ok(Mate { pair: handle, told: events, replica, replicated, gate, prints })
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
        let Mate { pair, told, replica, replicated, gate, prints } = self;
        let voices = Voices { hub, store, spool, outspool, replica: replica.clone() };
        Roles {
            pair,
            told,
            replica,
            replicated,
            gate,
            voices,
            shadow: Shadow::new(prints.printer()),
            unconfirmed: Unconfirmed::new(prints.printer()),
            prints,
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

/// What the prints of traps are made by: both agents know both fingerprints, and nobody else has to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrintKey {
    own: Fingerprint,
    /// Without the mate's, the two make different prints, and no trap is let go of too soon.
    mate: Option<Fingerprint>,
}

impl PrintKey {
    fn read(state_dir: &Path) -> anyhow::Result<PrintKey> {
        let directory = Directory::of(state_dir);
        let own = keys::Identity::load_or_make(&directory).context("this agent has no key")?;
        let mate = Trust::of(&directory).read().ok().flatten();
        Ok(PrintKey { own: own.fingerprint, mate })
    }

    /// Whether it is another one as this mate is trusted now.
    pub fn follow(&mut self, trusted: Fingerprint) -> bool {
        self.mate.replace(trusted) != Some(trusted)
    }

    /// What makes the prints.
    pub fn printer(&self) -> Printer {
        let PrintKey { own, mate } = self;
        let mut both = [Some(own.to_string()), mate.map(|mate| mate.to_string())];
        both.sort();
        Printer::new(identities::hash(&format!("{both:?}")))
    }
}

/// The clock of the store and the spool.
fn present() -> store::Now {
    let now = Clock::both();
    let moment = store::Moment { mono: now.time, wall: now.wall_time() };
    // It was read at the start, and can't go away.
    store::Now { moment, boot_id: store::boot_id().unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pair_12_mates_make_the_same_prints_as_soon_as_each_is_trusted() {
        let [one, two] = [1, 2].map(|octet| Fingerprint([octet; 32]));
        let print = |key: &PrintKey| key.printer().print([192, 0, 2, 1].into(), b"trap");
        let mut here = PrintKey { own: one, mate: None };
        let mut there = PrintKey { own: two, mate: Some(one) };
        assert_ne!(print(&here), print(&there));
        assert!(here.follow(two) && !here.follow(two) && !there.follow(one));
        assert_eq!(print(&here), print(&there));
    }
}
