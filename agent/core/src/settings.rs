//! What the core is told to do: settings whose types hold their rules, so that a wrong one can't
//! be constructed.
//!
//! The text of the configuration file is read elsewhere; here is only what the machines need.

use std::{fmt, net::IpAddr, num::NonZeroU8, time::Duration};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::{
    alarm::{Interface, Link, Mate},
    usm::{KnownEngine, User},
};

/// Everything that a reload can change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Settings {
    /// Who may send traps, and for whom (TRAP-2, TRAP-3).
    pub access: Access,
    /// Windows and thresholds (INST-11, INST-12).
    pub instability: Instability,
    /// What is polled (SUBN-1).
    pub subnets: Subnets,
    /// Which traps go on to which notification targets (TRAP-8).
    pub forwarding: Forwarding,
    /// The name of this agent.
    pub agent: String,
    /// The other agent, of a pair.
    pub mate: Option<Mate>,
}

/// Who may send traps (TRAP-3) and who may speak for others (TRAP-2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    /// Community strings, the first that fits wins. Empty: nothing is accepted.
    pub communities: Vec<Community>,
    /// Senders that are trusted to speak for other systems, by `snmpTrapAddress.0` or the v1
    /// agent address.
    pub forwarders: Vec<IpNet>,
    /// Who may send by SNMPv3.
    pub users: Vec<User>,
    /// Engines whose system is known; every other speaks for the address that it sends from.
    pub engines: Vec<KnownEngine>,
    /// How many engines are remembered at most (TRAP-6).
    pub max_engines: u32,
}

impl Access {
    /// More than the devices of the largest networks that were asked for, at some 500 bytes each.
    pub const DEFAULT_MAX_ENGINES: u32 = 50_000;
}

/// One community string and where it may come from.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Community {
    /// The octets of the community; nothing means any community.
    pub name: Option<Vec<u8>>,
    /// The prefixes that a sender must be in. Empty: anywhere.
    pub sources: Vec<IpNet>,
}

impl fmt::Debug for Community {
    /// Without the community itself, as it is a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name.as_ref().map(|_| "Secret");
        f.debug_struct("Community").field("name", &name).field("sources", &self.sources).finish()
    }
}

impl Default for Access {
    /// With nothing configured, only loopback senders are accepted (TRAP-3).
    fn default() -> Access {
        Access {
            communities: vec![Community {
                name: None,
                sources: vec![
                    IpNet::new_assert(IpAddr::from([127, 0, 0, 0]), 8),
                    IpNet::new_assert(IpAddr::from(std::net::Ipv6Addr::LOCALHOST), 128),
                ],
            }],
            forwarders: Vec::new(),
            users: Vec::new(),
            engines: Vec::new(),
            max_engines: Access::DEFAULT_MAX_ENGINES,
        }
    }
}

/// Which traps go on to which notification targets (TRAP-8). Empty by default, as there are no
/// targets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forwarding {
    /// Every notification target that a rule may name, at most 64.
    pub targets: Vec<ForwardTarget>,
    /// The first rule that fits a trap wins. A trap that none fits goes nowhere.
    pub rules: Vec<ForwardRule>,
    /// The agent's own mark, by which a trap that it has forwarded is known when it comes back
    /// (TRAP-9): the octets of its engine ID. Empty: nothing is known by it.
    pub mark: Vec<u8>,
    /// The encoded name of the varbind that carries a mark, evenkeelForwardedBy; an instance may
    /// follow it.
    pub mark_oid: Vec<u8>,
    /// The names of who else is told alarms, and no traps: they can be unreachable too (TRAP-11).
    pub receivers: Vec<String>,
}

/// A notification target, as far as forwarding asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForwardTarget {
    /// Its name.
    pub name: String,
    /// It acknowledges, so what goes there is spooled until it has.
    pub durable: bool,
    /// It is sent the original datagram, byte for byte, from its original source address (TRAP-9).
    pub original: bool,
}

/// A rule of forwarding. A list that is empty asks nothing; of a list that is not, one entry must
/// fit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForwardRule {
    /// Prefixes of snmpTrapOID, as sub-identifiers: 1.3.6.1.6.3.1.1.5 fits all six standard traps.
    pub traps: Vec<Vec<u32>>,
    /// Prefixes of the system's address.
    pub systems: Vec<IpNet>,
    /// Names of groups of the instability analysis (INST-12) that the trap's object is in.
    pub groups: Vec<String>,
    /// States of the trap's object.
    pub states: Vec<ObjectState>,
    /// What becomes of the traps of an unstable object.
    pub during_unstable: DuringUnstable,
    /// Where it goes: places in [`Forwarding::targets`]. Empty: nowhere.
    pub targets: Vec<u16>,
}

/// The state of the object that a trap is about, once the trap itself has been judged. A trap that is
/// about no interface or that is no restart trap is about its system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ObjectState {
    /// Neither of the others.
    Stable,
    /// Unstable.
    Unstable,
    /// An interface whose last link trap was linkDown.
    Down,
}

/// What becomes of the traps of an object that was unstable already when they came (TRAP-8).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DuringUnstable {
    /// They are held back and counted; the clear tells how many they were.
    #[default]
    Suppress,
    /// They go on.
    Forward,
}

/// How many datagrams one source may send (TRAP-6). It is for the ear, which drops what goes beyond
/// it before anything is queued, and so no part of [`Settings`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceLimits {
    /// What holds for a source that no exception names; nothing for no limit.
    pub default: Option<Rate>,
    /// Prefixes of sources with a limit of their own, or none. The first that fits wins.
    pub exceptions: Vec<(Vec<IpNet>, Option<Rate>)>,
    /// How many sources are told apart at most.
    pub max_sources: u32,
}

impl SourceLimits {
    /// More sources than a network has systems that send at once, in some 4 MB.
    pub const DEFAULT_MAX_SOURCES: u32 = 65_536;
}

impl Default for SourceLimits {
    fn default() -> SourceLimits {
        SourceLimits {
            default: Some(Rate::DEFAULT),
            exceptions: Vec::new(),
            max_sources: SourceLimits::DEFAULT_MAX_SOURCES,
        }
    }
}

/// A token bucket: so many in a row, and then so many a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// How many datagrams a second, in the long run. With 0 none is taken.
    pub per_second: u32,
    /// How many at once, after a silence. With 0 none is taken.
    pub burst: u32,
}

impl Rate {
    /// No single device sends 5,000 traps a second for long, and a relay that does gets an exception;
    /// ten sources at this rate leave the core, which takes 900,000 a second (SNMPv3: 400,000), nine
    /// tenths of its time. The burst is what a device or a relay has stored up while it could not reach
    /// us.
    pub const DEFAULT: Rate = Rate { per_second: 5_000, burst: 100_000 };
}

/// The trap window: 1 s to 3600 s, as one longer than the longest stable time makes no sense
/// (INST-5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "Duration", try_from = "Duration")]
pub struct Window(Duration);

impl Window {
    /// The shortest trap window.
    pub const MIN: Duration = Duration::from_secs(1);
    /// The longest, which is also the longest stable time.
    pub const MAX: Duration = Duration::from_secs(3600);

    /// A window of this length, or nothing if it is out of range.
    pub fn new(length: Duration) -> Option<Window> {
        (Window::MIN..=Window::MAX).contains(&length).then_some(Window(length))
    }

    /// Its length.
    pub const fn length(self) -> Duration {
        self.0
    }
}

impl From<Window> for Duration {
    fn from(window: Window) -> Duration {
        window.0
    }
}

impl TryFrom<Duration> for Window {
    type Error = &'static str;

    fn try_from(length: Duration) -> Result<Window, &'static str> {
        Window::new(length).ok_or("a trap window is 1s to 3600s")
    }
}

/// How many counted traps within the window make an object unstable: 2 to 1000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "u16", try_from = "u16")]
pub struct Threshold(u16);

impl Threshold {
    /// The lowest threshold: one trap makes nothing unstable.
    pub const MIN: u16 = 2;
    /// The highest, which bounds the memory of an object (INST-16).
    pub const MAX: u16 = 1000;

    /// This many traps, or nothing if that is out of range.
    pub fn new(traps: u16) -> Option<Threshold> {
        (Threshold::MIN..=Threshold::MAX).contains(&traps).then_some(Threshold(traps))
    }

    /// The number.
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl From<Threshold> for u16 {
    fn from(threshold: Threshold) -> u16 {
        threshold.0
    }
}

impl TryFrom<u16> for Threshold {
    type Error = &'static str;

    fn try_from(traps: u16) -> Result<Threshold, &'static str> {
        Threshold::new(traps).ok_or("a threshold is 2 to 1000")
    }
}

/// Window and threshold together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Analysis {
    /// The trap window.
    pub window: Window,
    /// The threshold.
    pub threshold: Threshold,
}

impl Analysis {
    /// The shipped default for interfaces: 30 s and 2.
    pub const INTERFACES: Analysis =
        Analysis { window: Window(Duration::from_secs(30)), threshold: Threshold(2) };
    /// The shipped default for systems: 300 s and 3.
    pub const SYSTEMS: Analysis =
        Analysis { window: Window(Duration::from_secs(300)), threshold: Threshold(3) };
}

/// The analysis of instability: its groups and bounds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instability {
    /// The groups; the first that matches wins (INST-12). An object that none matches has the
    /// settings of `otherwise`.
    pub groups: Vec<Group>,
    /// The settings of what no group matches.
    pub otherwise: GroupSettings,
    /// How many systems and interfaces are kept in memory at most (INST-16).
    pub max_objects: u32,
    /// Which interfaces are the two ends of one link (INST-14).
    pub topology: Topology,
}

impl Instability {
    /// Enough for the largest networks that were asked for, at some 300 bytes an object.
    pub const DEFAULT_MAX_OBJECTS: u32 = 200_000;
}

impl Default for Instability {
    /// The shipped analysis, with the exemptions of INST-12.
    fn default() -> Instability {
        Instability {
            groups: vec![Group::exempt()],
            otherwise: GroupSettings::default(),
            max_objects: Instability::DEFAULT_MAX_OBJECTS,
            topology: Topology::default(),
        }
    }
}

/// Links that join two interfaces each (INST-14), in order. An interface is an end of one of them at
/// most.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Vec<Link>", try_from = "Vec<Link>")]
pub struct Topology(Vec<Link>);

impl Topology {
    /// How many links may be configured: twice what was asked for in the largest networks. Each takes
    /// some 250 octets.
    pub const MOST_LINKS: usize = 200_000;

    /// These links; one that is named twice is one.
    ///
    /// # Errors
    ///
    /// An interface that would be an end of two links.
    pub fn new(mut links: Vec<Link>) -> Result<Topology, Interface> {
        links.sort_unstable();
        links.dedup();
        let mut ends: Vec<Interface> = links.iter().flat_map(Link::ends).collect();
        ends.sort_unstable();
        match ends.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(pair[0]),
            None => Ok(Topology(links)),
        }
    }

    /// The links.
    pub fn links(&self) -> &[Link] {
        &self.0
    }
}

impl From<Topology> for Vec<Link> {
    fn from(topology: Topology) -> Vec<Link> {
        topology.0
    }
}

impl TryFrom<Vec<Link>> for Topology {
    type Error = &'static str;

    fn try_from(links: Vec<Link>) -> Result<Topology, &'static str> {
        Topology::new(links).map_err(|_| "an interface is an end of one link at most")
    }
}

/// Some systems and interfaces, and what holds for them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// The name in metrics and logs.
    pub name: String,
    /// Which objects belong to it.
    pub matches: Match,
    /// What holds for them.
    pub settings: GroupSettings,
}

impl Group {
    /// ISDN B and D channels, backup and dial-on-demand interfaces, which go up and down in
    /// normal use and are exempt in the shipped configuration (INST-12).
    pub fn exempt() -> Group {
        Group {
            name: "on-demand".to_owned(),
            matches: Match {
                // IANAifType-MIB: ppp stays watched, as leased lines use it too.
                if_type: vec![
                    20, // basicISDN
                    21, // primaryISDN
                    63, // isdn
                    75, // isdns
                    76, // isdnu
                    77, // lapd, the D channel
                ],
                if_descr: [
                    "*Dialer*",
                    "*ISDN*",
                    "BRI*",
                    "*B-Channel*",
                    "*D-Channel*",
                    "*Bearer Channel*",
                    "*backup*",
                ]
                .map(str::to_owned)
                .to_vec(),
                if_name: ["Di[0-9]*", "BR[0-9]*", "BRI*", "Dialer*"].map(str::to_owned).to_vec(),
                if_alias: vec!["*backup*".to_owned(), "*dial-on-demand*".to_owned()],
                ..Match::default()
            },
            settings: GroupSettings {
                interfaces: None,
                systems: Some(Analysis::SYSTEMS),
                interface_down: false,
            },
        }
    }
}

/// What an object must have to belong to a group. A list that is empty asks nothing; of a list
/// that is not, one entry must fit. The lists on what only a trap can tell (`if_type`, `if_descr`,
/// `if_name`, `if_alias`) are alternatives of each other, as devices send different ones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Match {
    /// Prefixes of the system's address.
    pub systems: Vec<IpNet>,
    /// Values of ifIndex.
    pub if_index: Vec<u32>,
    /// Values of ifType (IANAifType-MIB).
    pub if_type: Vec<u32>,
    /// Patterns of ifDescr, with `*`, `?` and `[a-z]`; upper and lower case are the same.
    pub if_descr: Vec<String>,
    /// Patterns of ifName.
    pub if_name: Vec<String>,
    /// Patterns of ifAlias.
    pub if_alias: Vec<String>,
}

/// What holds for the objects of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupSettings {
    /// How interfaces are judged; nothing turns the analysis off (INST-11).
    pub interfaces: Option<Analysis>,
    /// How systems are judged; nothing turns the analysis off (INST-11).
    pub systems: Option<Analysis>,
    /// Whether a linkDown raises `interface_down` (INST-13).
    pub interface_down: bool,
}

impl Default for GroupSettings {
    fn default() -> GroupSettings {
        GroupSettings {
            interfaces: Some(Analysis::INTERFACES),
            systems: Some(Analysis::SYSTEMS),
            interface_down: true,
        }
    }
}

/// What is polled from this host (SUBN-1), and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnets {
    /// How often a flow is polled: 1 s to 30 s.
    pub poll_interval: Duration,
    /// How many polls in a row make a flow up or down.
    pub in_a_row: NonZeroU8,
    /// Watch every subnet of this host that the list does not name and on which a gateway is
    /// found, with the gateway as polling target.
    pub watch_gateways: bool,
    /// The subnets that the configuration names.
    pub subnets: Vec<Subnet>,
}

impl Subnets {
    /// The shortest and the longest poll interval (SUBN-3).
    pub const POLL_INTERVALS: std::ops::RangeInclusive<Duration> =
        Duration::from_secs(1)..=Duration::from_secs(30);
}

impl Default for Subnets {
    fn default() -> Subnets {
        Subnets {
            poll_interval: Duration::from_secs(2),
            in_a_row: NonZeroU8::new(4).expect("four is not zero"),
            watch_gateways: true,
            subnets: Vec::new(),
        }
    }
}

/// One configured subnet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    /// Network and prefix length, host bits zero.
    pub prefix: IpNet,
    /// Whether anything is sent at all.
    pub monitor: bool,
    /// Target polling: what each local address polls.
    pub polling_targets: Vec<Polled>,
    /// Peer polling: the addresses of other nodes on this subnet, used where there is no polling
    /// target.
    pub peers: Vec<Polled>,
    /// Which polling targets must answer.
    pub require: Require,
    /// The two interfaces of which one carries the subnet's addresses, where there is a standby
    /// (SUBN-8).
    pub standby: Option<Interfaces>,
}

/// An interface that carries a subnet's addresses and the one that takes them over (SUBN-8), which is
/// another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interfaces {
    /// The name of the one that carries them while it works.
    pub primary: String,
    /// The name of the other.
    pub standby: String,
}

/// An address to poll; a link-local one needs the interface that it is on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Polled {
    /// The address.
    pub address: IpAddr,
    /// The zone of a link-local IPv6 address, as an interface name (RFC 4007, section 11).
    pub zone: Option<String>,
}

impl fmt::Display for Polled {
    /// As the configuration writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.zone {
            Some(zone) => write!(f, "{}%{zone}", self.address),
            None => write!(f, "{}", self.address),
        }
    }
}

/// How many polling targets keep an interface up (SUBN-6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Require {
    /// Any one that answers.
    #[default]
    Any,
    /// Every one must answer.
    All,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_or_threshold_out_of_range_cannot_be_made() {
        assert!(Window::new(Duration::from_millis(999)).is_none());
        assert!(Window::new(Duration::from_secs(3600)).is_some());
        assert!(Window::new(Duration::from_millis(3_600_001)).is_none());
        assert!(Threshold::new(1).is_none());
        assert!(Threshold::new(2).is_some());
        assert!(Threshold::new(1001).is_none());
    }

    #[test]
    fn inst_14_an_interface_is_an_end_of_one_link_at_most() {
        let end = |system: u8, if_index| {
            let system = crate::alarm::System(IpAddr::from([10, 0, 0, system]));
            Interface { system, if_index }
        };
        let link = |one, other| Link::new(one, other).unwrap();
        let (a, b, c) = (end(1, 3), end(2, 7), end(3, 1));
        let once = Topology::new(vec![link(a, b)]).unwrap();
        assert_eq!(Topology::new(vec![link(a, b), link(b, a)]), Ok(once), "one link, named twice");
        assert_eq!(Topology::new(vec![link(c, b), link(a, b)]), Err(b));
    }

    #[test]
    fn with_nothing_configured_only_loopback_may_send() {
        let communities = Access::default().communities;
        let loopback = |ip: &str| {
            communities[0].sources.iter().any(|net| net.contains(&ip.parse::<IpAddr>().unwrap()))
        };
        assert!(loopback("127.9.9.9") && loopback("::1"));
        assert!(!loopback("192.0.2.1") && !loopback("::2"));
    }
}
