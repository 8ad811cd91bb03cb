//! Moves addresses between a primary interface and its standby, as the core says (SUBN-8). One task takes
//! its orders one after the other: what is to be kept is on the disk before anything is moved, all steps of
//! a move are one batch of the kernel's ([`netlink`]), and then the link is told ([`announce`]).
//! `README.md` beside this file is for operators.

mod announce;
mod file;
mod netlink;

use std::{fs, net::IpAddr, path::Path, time::Duration};

use evenkeel_core::{input::Move, settings::Interfaces, state::StandbyRecord};
use ipnet::IpNet;
use tokio::{
    sync::mpsc,
    task::spawn_blocking,
    time::{MissedTickBehavior, interval},
};
use tracing::{debug, warn};

use self::file::Kept;

/// How often an address is announced, and how far apart: RFC 4861, 10 has three advertisements, one a
/// second, which is also enough for who locks an entry of its ARP table for a second after a change.
const ANNOUNCEMENTS: usize = 3;
/// See [`ANNOUNCEMENTS`].
const APART: Duration = Duration::from_secs(1);

/// What became of a move.
#[derive(Debug)]
pub struct Moved {
    /// Of which subnet.
    pub subnet: IpNet,
    /// Why it could not be carried out; nothing if it was.
    pub failed: Option<String>,
}

enum Task {
    Keep(Vec<StandbyRecord>),
    Move(Move),
}

/// The way to the task that moves.
pub struct Mover {
    tasks: mpsc::UnboundedSender<Task>,
}

/// A task that moves, as it starts.
pub struct Started {
    /// The way to it.
    pub mover: Mover,
    /// Where it says how its moves went.
    pub moved: mpsc::UnboundedReceiver<Moved>,
    /// What an earlier run had kept.
    pub kept: Vec<StandbyRecord>,
    /// Why that could not be read, in one sentence.
    pub problem: Option<String>,
}

impl Mover {
    /// Starts the task.
    pub fn start(state_dir: &Path, boot_id: &str) -> Started {
        let kept = Kept::new(state_dir, boot_id);
        let (records, problem) = match kept.read() {
            Ok(records) => (records, None),
            Err(problem) => (Vec::new(), Some(problem)),
        };
        let (tasks, orders) = mpsc::unbounded_channel();
        let (report, moved) = mpsc::unbounded_channel();
        tokio::spawn(work(kept, orders, report));
        Started { mover: Mover { tasks }, moved, kept: records, problem }
    }

    /// Keeps this on the disk, before anything that is ordered later.
    pub fn keep(&self, standbys: Vec<StandbyRecord>) {
        // It ends with its owner.
        let _ = self.tasks.send(Task::Keep(standbys));
    }

    /// Moves addresses. A [`Moved`] will say how it went.
    pub fn order(&self, order: Move) {
        let _ = self.tasks.send(Task::Move(order));
    }
}

/// What is missing for moving addresses, if something is.
pub fn missing() -> Option<&'static str> {
    /// `linux/capability.h`: CAP_NET_ADMIN.
    const NET_ADMIN: u64 = 1 << 12;
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    let effective = u64::from_str_radix(effective.trim(), 16).ok()?;
    (effective & NET_ADMIN == 0).then_some(
        "no address is moved to a standby interface, as that needs CAP_NET_ADMIN: under systemd set \
         AmbientCapabilities=CAP_NET_ADMIN",
    )
}

/// Why neighbours may send to the wrong one of two interfaces on a subnet, if they may: Linux answers ARP
/// requests on any interface for any of its addresses, unless told otherwise (RFC 826 asks for less).
pub fn answers_arp_for_others(interfaces: &Interfaces) -> Option<String> {
    let ignores = |name: &str| {
        let path = format!("/proc/sys/net/ipv4/conf/{name}/arp_ignore");
        // What can't be read can't be warned of.
        fs::read_to_string(path).map_or(1, |text| text.trim().parse().unwrap_or(0))
    };
    let Interfaces { primary, standby } = interfaces;
    // The kernel takes the larger one of two.
    let answers = |name: &&String| ignores("all").max(ignores(name)) == 0;
    let name = [primary, standby].into_iter().find(answers)?;
    Some(format!(
        "{name} answers ARP requests for addresses of other interfaces, so neighbours may send to {primary} \
         what is for {standby}, and the other way round: set net.ipv4.conf.all.arp_ignore = 1 and \
         net.ipv4.conf.all.arp_announce = 2"
    ))
}

async fn work(
    kept: Kept,
    mut orders: mpsc::UnboundedReceiver<Task>,
    report: mpsc::UnboundedSender<Moved>,
) {
    let mut not_kept = None;
    while let Some(task) = orders.recv().await {
        match task {
            Task::Keep(standbys) => {
                let kept = kept.clone();
                let written = spawn_blocking(move || kept.write(standbys)).await;
                not_kept = match written {
                    Ok(Ok(())) => None,
                    Ok(Err(error)) => Some(error.to_string()),
                    Err(panicked) => Some(panicked.to_string()),
                };
                if let Some(error) = &not_kept {
                    warn!("cannot keep where the addresses of subnets with a standby are: {error}");
                }
            }
            Task::Move(order) => {
                let subnet = order.subnet;
                let failed = match &not_kept {
                    // A crash would leave them half moved for ever.
                    Some(error) => {
                        Some(format!("that could not be kept on the disk first: {error}"))
                    }
                    None => carry_out(order).await.err(),
                };
                let _ = report.send(Moved { subnet, failed });
            }
        }
    }
}

/// Moves, and announces what was moved.
async fn carry_out(order: Move) -> Result<(), String> {
    let to = order.to.clone();
    let moved = spawn_blocking(move || netlink::carry_out(&order)).await;
    let (addresses, left_behind) = moved
        .map_err(|panicked| panicked.to_string())?
        .map_err(|error| format!("{:#}", anyhow::Error::from(error)))?;
    for route in left_behind {
        warn!("{to} has its addresses now, but not {route}");
    }
    tokio::spawn(announce_some(to, addresses));
    Ok(())
}

async fn announce_some(interface: String, addresses: Vec<IpAddr>) {
    let mut rounds = interval(APART);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for _ in 0..ANNOUNCEMENTS {
        rounds.tick().await;
        let (name, addresses) = (interface.clone(), addresses.clone());
        let sent = spawn_blocking(move || announce::announce(&name, &addresses)).await;
        match sent {
            Ok(Ok(())) => debug!(interface, "announced the addresses that were moved"),
            Ok(Err(error)) => {
                warn!(
                    "{interface}: neighbours are not told of the addresses that it has now: {error}"
                );
                return;
            }
            Err(_) => return,
        }
    }
}
