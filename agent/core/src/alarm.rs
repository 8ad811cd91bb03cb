//! The one alarm model that every rule ends in (spec, "Alarms").
//!
//! An alarm is a condition that is raised once and cleared once:
//!
//! ```text
//!            raise                     clear (why)
//!   absent ─────────> active ─────────────────────────> absent
//! ```
//!
//! It has a kind, the object it is about, a severity, a text and an id that stays the same from
//! raise to clear and on every copy that leaves the agent.

use std::{cmp::Ordering, fmt, net::IpAddr, time::Duration};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::{
    pair::term::Term,
    time::{Time, WallTime},
};

/// What went wrong. The names and severities are those of the table in the specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A system restarts too often (INST-3).
    SystemUnstable,
    /// An interface goes up and down too often (INST-3).
    InterfaceUnstable,
    /// The last link trap of an interface was linkDown (INST-13), or the link of one of this host's own is
    /// gone and nothing worse is known of it.
    InterfaceDown,
    /// An interface at either end of a link goes up and down too often (INST-14).
    LinkUnstable,
    /// A local interface has no working flow on a subnet (SUBN-6).
    InterfaceIpDown,
    /// No local interface carries a subnet at the IP level (SUBN-7).
    SubnetDown,
    /// A peer has answered none of its tries (PEER-2).
    PeerDown,
    /// A peer's restart counter has changed (PEER-15). An event: it is never cleared.
    PeerRestarted,
    /// So many peers fell silent at once that the fault is taken to be near this agent (PEER-9).
    MassSilence,
    /// The state is not synchronised with the mate (PAIR-8).
    MateSyncLost,
    /// No heartbeat of the mate comes by one path (PAIR-8).
    MatePathLost,
    /// There is no standby that could take over (PAIR-4).
    StandbyUnavailable,
    /// A takeover is suppressed, as there were too many (PAIR-6).
    FailoverLimitReached,
    /// A part of this agent shows no sign of life (PAIR-9).
    ComponentStalled,
    /// A notification target does not answer (TRAP-11).
    NotificationTargetUnreachable,
    /// This agent drops or throttles its input (TRAP-6).
    Overload,
}

impl Kind {
    /// Every kind that this version raises, in the order of the specification's table.
    pub const ALL: [Kind; 16] = [
        Kind::SystemUnstable,
        Kind::InterfaceUnstable,
        Kind::InterfaceDown,
        Kind::LinkUnstable,
        Kind::InterfaceIpDown,
        Kind::SubnetDown,
        Kind::PeerDown,
        Kind::PeerRestarted,
        Kind::MassSilence,
        Kind::MateSyncLost,
        Kind::MatePathLost,
        Kind::StandbyUnavailable,
        Kind::FailoverLimitReached,
        Kind::ComponentStalled,
        Kind::NotificationTargetUnreachable,
        Kind::Overload,
    ];

    /// The name that metrics, the journal and the configuration use.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::SystemUnstable => "system_unstable",
            Kind::InterfaceUnstable => "interface_unstable",
            Kind::InterfaceDown => "interface_down",
            Kind::LinkUnstable => "link_unstable",
            Kind::InterfaceIpDown => "interface_ip_down",
            Kind::SubnetDown => "subnet_down",
            Kind::PeerDown => "peer_down",
            Kind::PeerRestarted => "peer_restarted",
            Kind::MassSilence => "mass_silence",
            Kind::MateSyncLost => "mate_sync_lost",
            Kind::MatePathLost => "mate_path_lost",
            Kind::StandbyUnavailable => "standby_unavailable",
            Kind::FailoverLimitReached => "failover_limit_reached",
            Kind::ComponentStalled => "component_stalled",
            Kind::NotificationTargetUnreachable => "notification_target_unreachable",
            Kind::Overload => "overload",
        }
    }

    /// The kind with this [`name`](Kind::name).
    pub fn from_name(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The severity that an alarm of this kind is raised with.
    pub const fn severity(self) -> Severity {
        match self {
            Kind::SystemUnstable
            | Kind::InterfaceUnstable
            | Kind::LinkUnstable
            | Kind::InterfaceIpDown
            | Kind::PeerDown
            | Kind::StandbyUnavailable
            | Kind::NotificationTargetUnreachable => Severity::Major,
            Kind::InterfaceDown => Severity::Minor,
            Kind::PeerRestarted => Severity::Warning,
            Kind::SubnetDown
            | Kind::MassSilence
            | Kind::MateSyncLost
            | Kind::MatePathLost
            | Kind::FailoverLimitReached
            | Kind::ComponentStalled
            | Kind::Overload => Severity::Critical,
        }
    }

    /// Whether it tells of an instability.
    pub const fn is_instability(self) -> bool {
        matches!(self, Kind::SystemUnstable | Kind::InterfaceUnstable | Kind::LinkUnstable)
    }

    /// Whether it is told once and then over: there is no clear, and it is never active.
    pub const fn is_event(self) -> bool {
        matches!(self, Kind::PeerRestarted)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The perceived severities of ITU-T X.733 that alarms are raised with, with the numbers of
/// ITU-T M.3100 that the MIB uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Service is lost.
    Critical,
    /// Service is badly degraded.
    Major,
    /// A fault that does not yet affect service.
    Minor,
    /// Worth knowing before it becomes a fault.
    Warning,
}

impl Severity {
    /// Every severity, the worst first.
    pub const ALL: [Severity; 4] =
        [Severity::Critical, Severity::Major, Severity::Minor, Severity::Warning];

    /// The name in metrics, the journal and the MIB.
    pub const fn name(self) -> &'static str {
        match self {
            Severity::Critical => "critical",
            Severity::Major => "major",
            Severity::Minor => "minor",
            Severity::Warning => "warning",
        }
    }

    /// The severity with this [`name`](Severity::name).
    pub fn from_name(name: &str) -> Option<Severity> {
        Severity::ALL.into_iter().find(|severity| severity.name() == name)
    }
}

/// A device that sends traps, known by the address that its traps speak for (TRAP-2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct System(pub IpAddr);

impl fmt::Display for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One ifIndex of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Interface {
    /// The device.
    pub system: System,
    /// Its ifIndex (RFC 2863), which is never 0.
    pub if_index: u32,
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ifIndex {}", self.system, self.if_index)
    }
}

/// Two interfaces that are the ends of one link (INST-14). The lower address, then the lower ifIndex
/// comes first, whichever was named first: a link has one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(into = "[Interface; 2]", try_from = "[Interface; 2]")]
pub struct Link([Interface; 2]);

impl Link {
    /// The link that joins these two, or nothing if they are one.
    pub fn new(one: Interface, other: Interface) -> Option<Link> {
        match one.cmp(&other) {
            Ordering::Less => Some(Link([one, other])),
            Ordering::Equal => None,
            Ordering::Greater => Some(Link([other, one])),
        }
    }

    /// Its ends.
    pub const fn ends(&self) -> [Interface; 2] {
        self.0
    }
}

impl From<Link> for [Interface; 2] {
    fn from(link: Link) -> [Interface; 2] {
        link.0
    }
}

impl TryFrom<[Interface; 2]> for Link {
    type Error = &'static str;

    fn try_from([one, other]: [Interface; 2]) -> Result<Link, &'static str> {
        Link::new(one, other).ok_or("the ends of a link are two interfaces")
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [one, other] = self.0;
        write!(f, "{one} - {other}")
    }
}

/// What an alarm is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Object {
    /// A device.
    System(System),
    /// One ifIndex of a device.
    Interface {
        /// The device.
        system: System,
        /// Its ifIndex (RFC 2863), which is never 0.
        if_index: u32,
    },
    /// A link that joins two interfaces of devices.
    Link(Link),
    /// One of this host's interfaces, on one of its subnets.
    LocalInterface {
        /// The interface's name on this host.
        interface: String,
        /// The subnet.
        #[cfg_attr(feature = "schema", schemars(with = "String"))]
        subnet: IpNet,
    },
    /// One of this host's interfaces, by its name, whatever subnets it is on.
    OwnInterface(String),
    /// A subnet that this host has, or should have, an address on.
    Subnet(#[cfg_attr(feature = "schema", schemars(with = "String"))] IpNet),
    /// A remote address that is watched by heartbeat.
    Peer(IpAddr),
    /// The peer monitor of this agent.
    PeerMonitor,
    /// A notification target, by its name.
    NotificationTarget(String),
    /// This agent.
    Agent,
    /// The other agent of the pair.
    Mate,
    /// The path to the other agent over one of this host's interfaces, by its name.
    MatePath(String),
    /// The pair that this agent is one of.
    Pair,
    /// A part of this agent, by its name.
    Component(String),
}

impl Object {
    /// Whether it belongs to the host of one agent of a pair, which alone judges it, whatever its role
    /// (PAIR-1). All others belong to the network that both watch, and the primary judges them.
    pub const fn is_local(&self) -> bool {
        match self {
            Object::LocalInterface { .. }
            | Object::OwnInterface(_)
            | Object::Subnet(_)
            | Object::Agent
            | Object::Mate
            | Object::MatePath(_)
            | Object::Pair
            | Object::Component(_) => true,
            Object::System(_)
            | Object::Interface { .. }
            | Object::Link(_)
            | Object::Peer(_)
            | Object::PeerMonitor
            | Object::NotificationTarget(_) => false,
        }
    }
}

impl Object {
    /// What it is called where more than one agent may have its like: with the agent whose it is, if it
    /// is local to one of a pair.
    pub fn of_agent(&self, agent: Option<&str>) -> String {
        let Some(agent) = agent.filter(|_| self.is_local()) else { return self.to_string() };
        match self {
            Object::Agent => format!("agent {agent}"),
            Object::OwnInterface(interface) => format!("{interface} of {agent}"),
            Object::Mate => format!("the mate of {agent}"),
            Object::MatePath(interface) => format!("the mate of {agent} by {interface}"),
            Object::Pair => format!("the pair of {agent}"),
            Object::Component(part) => format!("{part} of {agent}"),
            Object::LocalInterface { .. }
            | Object::Subnet(_)
            | Object::System(_)
            | Object::Interface { .. }
            | Object::Link(_)
            | Object::Peer(_)
            | Object::PeerMonitor
            | Object::NotificationTarget(_) => format!("{self} at {agent}"),
        }
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Object::System(system) => write!(f, "{system}"),
            Object::Interface { system, if_index } => {
                Interface { system: *system, if_index: *if_index }.fmt(f)
            }
            Object::Link(link) => write!(f, "{link}"),
            Object::LocalInterface { interface, subnet } => write!(f, "{interface} on {subnet}"),
            Object::OwnInterface(interface) => write!(f, "{interface} of this host"),
            Object::Subnet(subnet) => write!(f, "{subnet}"),
            Object::Peer(address) => write!(f, "{address}"),
            Object::PeerMonitor => f.write_str("the peer monitor"),
            Object::NotificationTarget(name) => f.write_str(name),
            Object::Agent => f.write_str("this agent"),
            Object::Mate => f.write_str("the mate"),
            Object::MatePath(interface) => write!(f, "the mate by {interface}"),
            Object::Pair => f.write_str("the pair"),
            Object::Component(part) => write!(f, "{part} of this agent"),
        }
    }
}

/// The identity of one alarm from raise to clear, on every copy of it. Printed as 16 hexadecimal
/// digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct AlarmId(pub u64);

impl fmt::Display for AlarmId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl From<AlarmId> for String {
    fn from(id: AlarmId) -> String {
        id.to_string()
    }
}

impl TryFrom<String> for AlarmId {
    type Error = std::num::ParseIntError;

    fn try_from(text: String) -> Result<AlarmId, Self::Error> {
        u64::from_str_radix(&text, 16).map(AlarmId)
    }
}

/// An alarm, as it is while it is active.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alarm {
    /// The identity, the same until the clear.
    pub id: AlarmId,
    /// What went wrong.
    pub kind: Kind,
    /// What it went wrong with.
    pub object: Object,
    /// How bad it is.
    pub severity: Severity,
    /// When it was raised, on the wall clock.
    pub raised_at: WallTime,
    /// One line for a person, without line breaks or control characters.
    pub text: String,
    /// The numbers behind it, for an instability.
    pub episode: Option<Episode>,
    /// What the device calls the interface, or the first end of the link, where its traps said so
    /// (ifName, else ifDescr): printable, at most 64 characters.
    pub if_name: Option<String>,
    /// The same of the second end of a link.
    #[serde(default)]
    pub other_if_name: Option<String>,
    /// The group that the peer is in.
    #[serde(default)]
    pub peer_group: Option<String>,
    /// Of a pair: the name of the agent whose host it is about, where the object is
    /// [local](Object::is_local) to one.
    #[serde(default)]
    pub agent: Option<String>,
    /// The mate, as that agent knows it, where it is about that.
    #[serde(default)]
    pub mate: Option<Mate>,
}

impl Alarm {
    /// What it is about, for a person: see [`Object::of_agent`].
    pub fn about(&self) -> String {
        self.object.of_agent(self.agent.as_deref())
    }
}

/// The other agent of a pair, as an alarm tells of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mate {
    /// Its name; until it has said that, its address.
    pub name: String,
    /// The address that its state channel is configured with.
    pub address: IpAddr,
}

/// The numbers of an instability (INST-3 to INST-5), as they were when it was raised, or, in the
/// clear, at its end. In the raise of a link's they are those of the end that is unstable; in the clear
/// both ends are counted together, and window, threshold and stable time are those of the end that was
/// stable last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Episode {
    /// Counted traps from *first* to *last*.
    pub traps: u64,
    /// The trap window in force.
    pub window: Duration,
    /// The threshold in force.
    pub threshold: u16,
    /// From *first* to *last*.
    pub unstable_time: Duration,
    /// The quiet that ends the episode, counted from *last*.
    pub stable_time: Duration,
    /// Traps of the object that were not forwarded while it was unstable (TRAP-8).
    #[serde(default)]
    pub suppressed: u64,
}

/// Why an alarm was cleared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClearReason {
    /// The condition is over: stable time has gone by, linkUp came, polls are answered.
    Ended,
    /// Another alarm says more (INST-13, INST-14).
    Superseded,
    /// The configuration turned it off, or no longer names the object (INST-11, SUBN-12).
    TurnedOff,
    /// The object is gone: its address or interface left this host (SUBN-12), or the configuration
    /// names no such peer or link any more (PEER-13, INST-14).
    Removed,
    /// The table of objects was full and this one had been silent longest (INST-16).
    GaveWay,
}

impl ClearReason {
    /// Every reason.
    pub const ALL: [ClearReason; 5] = [
        ClearReason::Ended,
        ClearReason::Superseded,
        ClearReason::TurnedOff,
        ClearReason::Removed,
        ClearReason::GaveWay,
    ];

    /// The name in metrics, the journal and the MIB.
    pub const fn name(self) -> &'static str {
        match self {
            ClearReason::Ended => "ended",
            ClearReason::Superseded => "superseded",
            ClearReason::TurnedOff => "turned_off",
            ClearReason::Removed => "removed",
            ClearReason::GaveWay => "gave_way",
        }
    }
}

/// One raise or one clear: what the core hands out, the journal keeps and an NMS is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlarmEvent {
    /// When it happened on the monotonic clock: a receipt time or a deadline, not the time of
    /// processing.
    pub at: Time,
    /// The same on the wall clock.
    pub wall: WallTime,
    /// Nothing for a raise, the reason for a clear.
    pub cleared: Option<ClearReason>,
    /// The alarm, with the text and numbers that fit the event.
    pub alarm: Alarm,
    /// The term of the pair that it was journaled in (PAIR-2): nothing before it is in the journal, and
    /// for an agent that is alone.
    #[serde(default)]
    pub term: Option<Term>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_found_by_its_name() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_name(kind.name()), Some(kind));
        }
        assert_eq!(Kind::from_name("link light"), None);
    }

    #[test]
    fn every_severity_is_found_by_its_name_and_the_worst_come_first() {
        for severity in Severity::ALL {
            assert_eq!(Severity::from_name(severity.name()), Some(severity));
        }
        assert_eq!(Severity::from_name("cleared"), None);
        assert!(Severity::ALL.is_sorted());
    }

    #[test]
    fn inst_14_a_link_has_one_name_whichever_end_is_named_first() {
        let end = |system: &str, if_index| {
            let system = System(system.parse().unwrap());
            Interface { system, if_index }
        };
        let (one, other) = (end("10.0.0.9", 7), end("10.0.0.10", 3));
        let link = Link::new(other, one).unwrap();
        assert_eq!(Link::new(one, other), Some(link));
        assert_eq!(link.to_string(), "10.0.0.9 ifIndex 7 - 10.0.0.10 ifIndex 3");
        assert_eq!(Link::new(one, one), None);
        assert!(Link::new(one, end("10.0.0.9", 8)).is_some(), "a system may be cabled to itself");
        let bytes = postcard::to_allocvec(&[other, one]).unwrap();
        assert_eq!(postcard::from_bytes::<Link>(&bytes), Ok(link));
        let bytes = postcard::to_allocvec(&[one, one]).unwrap();
        assert!(postcard::from_bytes::<Link>(&bytes).is_err());
    }
}
