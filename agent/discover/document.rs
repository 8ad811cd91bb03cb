//! What was found, as one document: it is what `--format json` prints, and what the other formats are
//! made of.
//!
//! The JSON is versioned by `schema`: fields may be added, none changes its meaning.

use std::{fmt, net::IpAddr};

use evenkeel_core::{
    discovery::{Candidate, Carrier, FoundSubnet, Known},
    probe::{POLLS, Probe, Probed},
    subnets::in_words,
};
use ipnet::IpNet;
use serde::Serialize;

/// The number of the routing table that `ip route` shows unless it is told otherwise.
const MAIN: u32 = 254;

/// The document.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Discovery {
    /// The version of this document's form.
    pub schema: u32,
    /// Whether the candidates were polled.
    pub probed: bool,
    /// Every subnet of this host, in the order of their prefixes.
    pub subnets: Vec<SubnetEntry>,
}

/// One subnet.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SubnetEntry {
    /// Its prefix.
    pub subnet: IpNet,
    /// The interfaces that carry it.
    pub interfaces: Vec<InterfaceEntry>,
    /// Who could be polled there, the likeliest first.
    pub polling_targets: Vec<TargetEntry>,
    /// Who did not answer.
    pub left_out: Vec<TargetEntry>,
}

/// An interface that carries a subnet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InterfaceEntry {
    /// Its name.
    pub name: String,
    /// Whether it and its link are up.
    pub status: LinkStatus,
    /// This host's addresses there.
    pub addresses: Vec<IpAddr>,
}

/// Whether an interface and its link are up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkStatus {
    /// Both are.
    Up,
    /// The interface is, but not its link.
    NoLink,
    /// The interface is not.
    Down,
}

/// A candidate.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TargetEntry {
    /// As the configuration takes it.
    pub polling_target: String,
    /// Where it is known from.
    pub found_in: Vec<FoundIn>,
    /// What the probe of each local address on the subnet came to; nothing without a probe.
    pub probes: Vec<ProbeEntry>,
}

/// Where a candidate is known from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum FoundIn {
    /// A default route leads by it.
    DefaultRoute {
        /// The number of the routing table; 254 is `main`.
        table: u32,
    },
    /// Other routes lead by it.
    Routes {
        /// The number of the routing table; 254 is `main`.
        table: u32,
        /// Where the first of them leads to.
        first: IpNet,
        /// How many there are.
        routes: u64,
    },
    /// The neighbour table has it as a router.
    NeighbourTable,
}

/// The probe of one candidate from one local address.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ProbeEntry {
    /// The interface.
    pub interface: String,
    /// The local address.
    pub local: IpAddr,
    /// How often it was polled.
    pub polls: usize,
    /// How many polls were answered.
    pub answered: usize,
    /// The round-trip time of the median poll, in milliseconds, if any was answered.
    pub round_trip_ms: Option<f64>,
    /// Why the latest poll that was missed had no reply, if any was.
    pub reason: Option<String>,
}

impl Discovery {
    /// The document of what was found, with what a probe of its flows came to.
    pub fn new(found: &[FoundSubnet], probe: Option<&Probe>) -> Discovery {
        let subnets = found.iter().map(|subnet| SubnetEntry::new(subnet, probe)).collect();
        Discovery { schema: 1, probed: probe.is_some(), subnets }
    }

    /// Whether there is anybody to poll on any subnet.
    ///
    /// # Errors
    ///
    /// There is nobody; in words.
    pub fn somebody_to_poll(&self) -> Result<(), &'static str> {
        let none = |list: fn(&SubnetEntry) -> &Vec<TargetEntry>| {
            self.subnets.iter().all(|subnet| list(subnet).is_empty())
        };
        match (none(|subnet| &subnet.polling_targets), none(|subnet| &subnet.left_out)) {
            (false, _) => Ok(()),
            (true, false) => Err("no gateway of this host answered, so there is nobody to poll"),
            (true, true) => {
                Err("this host has no gateway on any of its subnets, so there is nobody \
                                 to poll but peers")
            }
        }
    }
}

impl SubnetEntry {
    fn new(found: &FoundSubnet, probe: Option<&Probe>) -> SubnetEntry {
        let targets = found.candidates.iter().map(|candidate| {
            let flows = probe.into_iter().flat_map(Probe::flows).filter(|flow| {
                flow.key.subnet == found.prefix && candidate.is_polled_by(&flow.key)
            });
            TargetEntry::new(candidate, flows.map(ProbeEntry::new).collect())
        });
        let (polling_targets, left_out) =
            targets.partition(|target| probe.is_none() || target.answers());
        SubnetEntry {
            subnet: found.prefix,
            interfaces: found.carriers.iter().map(InterfaceEntry::new).collect(),
            polling_targets,
            left_out,
        }
    }

    /// Whether no other node can be on it.
    pub fn is_one_address(&self) -> bool {
        self.subnet.prefix_len() == self.subnet.max_prefix_len()
    }
}

impl InterfaceEntry {
    fn new(carrier: &Carrier) -> InterfaceEntry {
        let status = match (carrier.up, carrier.running) {
            (true, true) => LinkStatus::Up,
            (true, false) => LinkStatus::NoLink,
            (false, _) => LinkStatus::Down,
        };
        InterfaceEntry { name: carrier.name.clone(), status, addresses: carrier.locals.clone() }
    }
}

impl TargetEntry {
    fn new(candidate: &Candidate, probes: Vec<ProbeEntry>) -> TargetEntry {
        TargetEntry {
            polling_target: candidate.polled.to_string(),
            found_in: found_in(&candidate.known),
            probes,
        }
    }

    /// Whether it answered any poll from any local address.
    fn answers(&self) -> bool {
        self.probes.iter().any(|probe| probe.answered > 0)
    }
}

impl ProbeEntry {
    fn new(probed: &Probed) -> ProbeEntry {
        ProbeEntry {
            interface: probed.key.interface.clone(),
            local: probed.key.local,
            polls: usize::from(POLLS),
            answered: probed.answered(),
            round_trip_ms: probed.round_trip().map(|after| after.as_secs_f64() * 1e3),
            reason: probed.last_miss().map(in_words),
        }
    }
}

/// The main table first, as it is what people know.
fn found_in(known: &Known) -> Vec<FoundIn> {
    let mut tables: Vec<_> = known.tables.iter().collect();
    tables.sort_by_key(|(table, _)| **table != MAIN);
    let mut found = Vec::new();
    for (&table, routes) in tables {
        if routes.default {
            found.push(FoundIn::DefaultRoute { table });
        }
        if let Some(first) = routes.first {
            found.push(FoundIn::Routes { table, first, routes: routes.others });
        }
    }
    if known.neighbour {
        found.push(FoundIn::NeighbourTable);
    }
    found
}

impl fmt::Display for FoundIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = match *self {
            FoundIn::DefaultRoute { table } => {
                f.write_str("default route")?;
                table
            }
            FoundIn::Routes { table, first, routes: 0 | 1 } => {
                write!(f, "route to {first}")?;
                table
            }
            FoundIn::Routes { table, first, routes } => {
                write!(f, "routes to {first} and {} more", routes - 1)?;
                table
            }
            FoundIn::NeighbourTable => return f.write_str("neighbour table"),
        };
        if table == MAIN { Ok(()) } else { write!(f, " in table {table}") }
    }
}
