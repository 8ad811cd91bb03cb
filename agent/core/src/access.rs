//! Who may send traps, and for whom (TRAP-2, TRAP-3).

use std::net::IpAddr;

use ipnet::IpNet;

use crate::{
    settings::Access,
    trap::Trap,
    usm::{EngineId, KnownEngine},
};

/// Why a trap is not taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refused {
    /// No community of this name.
    UnknownCommunity,
    /// The community may not come from this source.
    SourceNotAllowed,
    /// This agent has forwarded it already, and it has come back (TRAP-9).
    ForwardingLoop,
}

impl Refused {
    /// Every reason.
    pub const ALL: [Refused; 3] =
        [Refused::UnknownCommunity, Refused::SourceNotAllowed, Refused::ForwardingLoop];

    /// The name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Refused::UnknownCommunity => "unknown_community",
            Refused::SourceNotAllowed => "source_not_allowed",
            Refused::ForwardingLoop => "forwarding_loop",
        }
    }
}

impl Access {
    /// Whether a trap with this community may come from there.
    ///
    /// # Errors
    ///
    /// The reason, if it may not.
    pub fn check(&self, community: &[u8], source: IpAddr) -> Result<(), Refused> {
        let mut refused = Refused::UnknownCommunity;
        for known in &self.communities {
            if known.name.as_deref().is_none_or(|name| name == community) {
                if known.sources.is_empty() || holds(&known.sources, source) {
                    return Ok(());
                }
                refused = Refused::SourceNotAllowed;
            }
        }
        Err(refused)
    }

    /// The system that a trap speaks for (TRAP-2). No name is ever looked up.
    pub fn system(&self, trap: &Trap<'_>, source: IpAddr) -> IpAddr {
        if self.forwarders.is_empty() || !holds(&self.forwarders, source) {
            return source;
        }
        let spoken_for = trap.trap_address.filter(|address| !address.is_unspecified());
        let agent = trap.agent_address.filter(|address| !address.is_unspecified());
        spoken_for.or(agent).map_or(source, IpAddr::V4)
    }
}

/// The engines whose system is known, sorted, as there may be thousands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Engines(Vec<(EngineId, IpAddr)>);

impl Engines {
    /// These engines. Of two entries for one engine the first holds.
    pub fn new(known: &[KnownEngine]) -> Engines {
        let mut engines: Vec<_> =
            known.iter().map(|engine| (engine.id.clone(), engine.system)).collect();
        engines.sort_by(|one, other| one.0.cmp(&other.0));
        engines.dedup_by(|later, first| later.0 == first.0);
        Engines(engines)
    }

    /// The system that an engine speaks for, wherever it sends from (TRAP-2).
    pub fn system(&self, engine: &[u8]) -> Option<IpAddr> {
        let place = self.0.binary_search_by(|(id, _)| id.octets().cmp(engine)).ok()?;
        Some(self.0[place].1)
    }
}

fn holds(prefixes: &[IpNet], address: IpAddr) -> bool {
    prefixes.iter().any(|prefix| prefix.contains(&address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Community;
    use std::net::Ipv4Addr;

    fn access() -> Access {
        let community = |name: &str, sources: &[&str]| Community {
            name: Some(name.into()),
            sources: sources.iter().map(|source| source.parse().unwrap()).collect(),
        };
        Access {
            communities: vec![
                community("public", &[]),
                community("core", &["10.0.0.0/8"]),
                community("core", &["2001:db8::/32"]),
            ],
            forwarders: vec!["192.0.2.5/32".parse().unwrap()],
            ..Access::default()
        }
    }

    #[test]
    fn communities_and_their_sources_trap_3() {
        for (community, source, expected) in [
            ("public", "203.0.113.9", Ok(())),
            ("core", "10.1.2.3", Ok(())),
            ("core", "2001:db8::9", Ok(())),
            ("core", "203.0.113.9", Err(Refused::SourceNotAllowed)),
            ("Core", "10.1.2.3", Err(Refused::UnknownCommunity)),
            ("", "10.1.2.3", Err(Refused::UnknownCommunity)),
        ] {
            let found = access().check(community.as_bytes(), source.parse().unwrap());
            assert_eq!(found, expected, "{community} {source}");
        }
    }

    #[test]
    fn only_a_forwarder_speaks_for_others_trap_2() {
        let device = Some(Ipv4Addr::new(10, 0, 0, 1));
        let agent = Some(Ipv4Addr::new(10, 0, 0, 2));
        let nobody = Some(Ipv4Addr::UNSPECIFIED);
        let forwarder = "192.0.2.5";
        for (source, trap_address, agent_address, system) in [
            (forwarder, device, agent, "10.0.0.1"),
            (forwarder, None, agent, "10.0.0.2"),
            (forwarder, nobody, agent, "10.0.0.2"),
            (forwarder, None, nobody, forwarder),
            (forwarder, None, None, forwarder),
            ("192.0.2.6", device, agent, "192.0.2.6"),
        ] {
            let trap = Trap { trap_address, agent_address, ..Trap::NOTHING };
            let found = access().system(&trap, source.parse().unwrap());
            assert_eq!(found.to_string(), system);
        }
    }
}
