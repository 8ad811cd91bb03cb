//! Which traps go on to which notification targets (TRAP-8), and where that ends (TRAP-9).
//!
//! The rules are made ready when they are loaded: prefixes of object identifiers as octets, groups as
//! places, so that a trap is compared and nothing is looked up. Without a rule a trap costs nothing
//! here.
//!
//! A loop of forwarders is ended in two ways. What we send carries our mark, and what carries it when
//! it comes has been here before. What we sent on octet by octet can carry none: it is known by its
//! print for as long as a network may hold a copy back, which also keeps a doubled datagram from
//! being forwarded twice.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use smallvec::SmallVec;

use crate::{
    ber_writer::base128,
    copies::DOUBLED,
    groups::GroupIndex,
    instability::Standing,
    objects::bits,
    repeats::{self, Before, Repeats},
    settings::{self, DuringUnstable, Instability, ObjectState},
    time::Time,
    trap::Trap,
};

/// What is to become of a trap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision<'a> {
    /// It goes nowhere.
    Nowhere,
    /// It would go on if its object had not been unstable before it.
    Suppressed,
    /// It goes to these notification targets, by their places in the settings.
    To(&'a [u16]),
}

/// The rules in force, and what was forwarded lately.
#[derive(Debug)]
pub struct Forwarding {
    rules: Vec<Rule>,
    /// A bit for each target.
    durable: u64,
    original: u64,
    mark: Vec<u8>,
    mark_oid: Vec<u8>,
    sent: Repeats,
}

#[derive(Debug)]
struct Rule {
    traps: Vec<Prefix>,
    systems: Vec<IpNet>,
    /// Nothing if it asks for no group.
    groups: Option<Vec<GroupIndex>>,
    states: Vec<ObjectState>,
    during_unstable: DuringUnstable,
    targets: Vec<u16>,
}

/// A prefix of object identifiers. Sub-identifiers are told apart by their octets (X.690, 8.19.2), so
/// that a prefix of whole ones is one of octets too, but for the first, which shares an octet with the
/// second.
#[derive(Debug)]
enum Prefix {
    Any,
    First(u32),
    Octets(Vec<u8>),
}

impl Prefix {
    fn new(arcs: &[u32]) -> Prefix {
        match *arcs {
            [] => Prefix::Any,
            [first] => Prefix::First(first),
            [first, second, ref rest @ ..] => {
                let mut octets = Vec::new();
                base128(&mut octets, u64::from(first) * 40 + u64::from(second));
                for &arc in rest {
                    base128(&mut octets, arc.into());
                }
                Prefix::Octets(octets)
            }
        }
    }

    fn fits(&self, oid: &[u8]) -> bool {
        match self {
            Prefix::Any => true,
            Prefix::First(first) => {
                oid.first().is_some_and(|&octet| u32::from(octet / 40).min(2) == *first)
            }
            Prefix::Octets(octets) => oid.starts_with(octets),
        }
    }
}

impl Rule {
    fn fits(&self, oid: &[u8], system: IpAddr, standing: &Standing) -> bool {
        let state = &standing.state;
        (self.states.is_empty() || self.states.contains(state))
            && self.groups.as_ref().is_none_or(|groups| groups.contains(&standing.group))
            && (self.traps.is_empty() || self.traps.iter().any(|prefix| prefix.fits(oid)))
            && (self.systems.is_empty()
                || self.systems.iter().any(|prefix| prefix.contains(&system)))
    }
}

impl Forwarding {
    /// These rules. `instability` has the groups that they name; a name that no group has fits nothing.
    pub fn new(
        settings: &settings::Forwarding,
        instability: &Instability,
        seed: u64,
    ) -> Forwarding {
        let bits = |wanted: fn(&settings::ForwardTarget) -> bool| {
            let targets = settings.targets.iter().take(u64::BITS as usize).enumerate();
            targets
                .filter(|(_, target)| wanted(target))
                .fold(0, |bits, (place, _)| bits | 1 << place)
        };
        Forwarding {
            rules: settings.rules.iter().map(|rule| made_ready(rule, instability)).collect(),
            durable: bits(|target| target.durable),
            original: bits(|target| target.original),
            mark: settings.mark.clone(),
            mark_oid: settings.mark_oid.clone(),
            sent: Repeats::new(repeats::KEPT, seed),
        }
    }

    /// Puts other rules in force. What was forwarded lately stays known.
    pub fn reload(&mut self, settings: &settings::Forwarding, instability: &Instability) {
        let new = Forwarding::new(settings, instability, 0);
        let sent = std::mem::replace(&mut self.sent, Repeats::new(1, 0));
        *self = Forwarding { sent, ..new };
    }

    /// Whether anything may go anywhere.
    pub fn is_active(&self) -> bool {
        !self.rules.is_empty()
    }

    /// What the first rule that fits says of a trap, after it has been judged.
    pub fn decide(&self, trap: &Trap<'_>, system: IpAddr, standing: &Standing) -> Decision<'_> {
        let oid = trap.trap_oid();
        match self.rules.iter().find(|rule| rule.fits(&oid, system, standing)) {
            None => Decision::Nowhere,
            Some(rule) if rule.targets.is_empty() => Decision::Nowhere,
            Some(rule)
                if standing.unstable_before && rule.during_unstable == DuringUnstable::Suppress =>
            {
                Decision::Suppressed
            }
            Some(rule) => Decision::To(&rule.targets),
        }
    }

    /// Whether any of these targets acknowledges.
    pub fn any_durable(&self, targets: &[u16]) -> bool {
        has(self.durable, targets)
    }

    /// Whether any of these targets is sent the original datagram.
    pub fn any_original(&self, targets: &[u16]) -> bool {
        has(self.original, targets)
    }

    /// Whether a trap carries our mark: we have forwarded it, and it has come back.
    pub fn has_come_back(&self, trap: &Trap<'_>) -> bool {
        if self.rules.is_empty() || self.mark.is_empty() || self.mark_oid.is_empty() {
            return false;
        }
        trap.varbinds()
            .any(|(name, _, value)| value == self.mark && name.starts_with(&self.mark_oid))
    }

    /// Whether a datagram from there with these octets was forwarded just now; if not, it counts as
    /// forwarded from now on.
    pub fn was_sent(&mut self, source: SocketAddr, bytes: &[u8], received: Time) -> bool {
        let print = self.sent.print(&(self::bits(source.ip()), bytes));
        if self.sent.within(print, DOUBLED, received).is_some() {
            return true;
        }
        self.sent.note(print, Before { received, number: 0 });
        false
    }
}

fn made_ready(rule: &settings::ForwardRule, instability: &Instability) -> Rule {
    let place = |name: &String| {
        let place = instability.groups.iter().position(|group| group.name == *name)?;
        u16::try_from(place).ok().map(GroupIndex)
    };
    Rule {
        traps: rule.traps.iter().map(|arcs| Prefix::new(arcs)).collect(),
        systems: rule.systems.clone(),
        groups: (!rule.groups.is_empty()).then(|| rule.groups.iter().filter_map(place).collect()),
        states: rule.states.clone(),
        during_unstable: rule.during_unstable,
        targets: rule.targets.clone(),
    }
}

fn has(bits: u64, targets: &[u16]) -> bool {
    targets.iter().any(|&target| target < 64 && bits >> target & 1 == 1)
}

/// Targets as they travel with a trap.
pub type Targets = SmallVec<[u16; 4]>;
