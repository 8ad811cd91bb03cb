//! What there is to see of the peer monitor at one moment, as plain data: what the metrics and the
//! status are both made from.
//!
//! The engine gives its part on request ([`Stats`], [`PeerView`], [`EngineStats`]); the manager adds
//! who is known and under which labels. Whoever shows it works on this copy, on a thread where
//! nothing else waits: 128,000 peers take their time to print.

use std::sync::Arc;

use evenkeel_core::{
    peers::{
        PeerView, Stats,
        roster::{Known, Roster},
        settings::{Group, Settings},
    },
    time::{Time, WallTime},
};

use super::engine::EngineStats;
use crate::config::PeerMetrics;

/// The peer monitor at one moment.
#[derive(Clone, Debug)]
pub struct PeersView {
    /// When the engine looked.
    pub at: Time,
    /// The same on the wall clock.
    pub wall: WallTime,
    /// The settings in force.
    pub settings: Arc<Settings>,
    /// What was counted.
    pub stats: Stats,
    /// The admitted peers in the order of their places; nobody if they were not asked for.
    pub peers: Vec<PeerView>,
    /// Who is known, with their labels.
    pub roster: Arc<Roster>,
    /// How many of each group are admitted and refused, in the order of the settings.
    pub admission: Arc<[Admission]>,
    /// How sending and receiving fares.
    pub engine: EngineStats,
    /// The files that name peers (PEER-13).
    pub files: Arc<[FileView]>,
    /// How often one of them was read since the start: with success, and without.
    pub readings: [u64; 2],
    /// What keeps the monitor from doing all that it should, each in a sentence; what the engine says
    /// of itself is not repeated here.
    pub problems: Vec<String>,
    /// Which series each peer has of its own.
    pub series: PeerMetrics,
}

/// Which peers are looked at one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// Nobody: the sums are enough.
    None,
    /// Everybody, if peers have series of their own.
    OfSeries,
    /// Everybody.
    All,
}

/// How many peers of a group are admitted, and how many are known but not admitted (PEER-5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Admission {
    /// Admitted.
    pub admitted: u32,
    /// Known, and not admitted.
    pub refused: u32,
}

impl Admission {
    /// Counts them for each of so many groups. This looks at every known peer, so it is done once for
    /// each change of the roster.
    pub fn count(roster: &Roster, groups: usize) -> Arc<[Admission]> {
        let mut counts = vec![Admission::default(); groups];
        for known in roster.known() {
            let Some(count) = counts.get_mut(usize::from(known.wanted.group)) else { continue };
            match known.place {
                Some(_) => count.admitted += 1,
                None => count.refused += 1,
            }
        }
        counts.into()
    }
}

/// A file that names peers (PEER-13).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileView {
    /// Its path, or the pattern that no file fits.
    pub path: String,
    /// The group whose peers it names.
    pub group: String,
    /// How many peers it names.
    pub peers: usize,
    /// What is wrong with it, and where in it, while the peers that it named before are kept.
    pub problem: Option<String>,
}

impl PeersView {
    /// The peer at a place, if it is still the one that the engine saw there: between the two looks a
    /// place may have been given to another.
    pub fn known(&self, peer: &PeerView) -> Option<&Known> {
        self.roster.at(peer.place).filter(|known| known.wanted.address == peer.address)
    }

    /// A group, as a place in the settings.
    pub fn group(&self, group: u16) -> Option<&Group> {
        self.settings.groups.get(usize::from(group))
    }

    /// The name of a group; `?` for one that the settings no longer have.
    pub fn group_name(&self, group: u16) -> &str {
        self.group(group).map_or("?", |group| &*group.name)
    }
}
