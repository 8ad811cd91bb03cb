//! From flows to interfaces to subnets: who is up, who is down, and in which words (SUBN-6, SUBN-7,
//! SUBN-9).

use std::{collections::BTreeMap, fmt, net::IpAddr};

use ipnet::IpNet;

use super::{Moves, Subnets, in_words};
use crate::{
    alarm::{ClearReason, Kind, Object},
    finding::Finding,
    flow::FlowState,
    settings::Require,
    standby::{Failure, Part, Standby},
    time::{Pretty, Time},
};

/// A subnet, as others see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubnetView {
    /// Which one.
    pub prefix: IpNet,
    /// Nothing while it is not known.
    pub up: Option<bool>,
    /// Its interfaces in the order of their names.
    pub interfaces: Vec<InterfaceView>,
    /// How often its addresses were moved, if it has a standby interface.
    pub moves: Option<Moves>,
}

/// A local interface on a subnet, as others see it. In words (SUBN-9) it is displayed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceView {
    /// Its name.
    pub name: String,
    /// Whether IP works; nothing while that is not known, or while it carries no address.
    pub up: Option<bool>,
    /// Whether its link is there.
    pub link: bool,
    /// What has failed, if it is down.
    pub failure: Option<Failure>,
    /// The subnet's addresses were moved away from it, and stay so until an operator enables it.
    pub disabled: bool,
    /// Its part, where the subnet has a standby interface.
    pub part: Option<Part>,
}

impl fmt::Display for InterfaceView {
    /// `up`, `down (IP only)`, `down (disabled) (IP only)` or `down (Link and IP)`; `standby` for one
    /// that waits, and `unknown` before the first four polls.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.up, self.failure, self.part) {
            (Some(true), ..) => f.write_str("up"),
            (_, Some(failure), _) if self.disabled => write!(f, "down (disabled) ({failure})"),
            (_, Some(failure), _) => write!(f, "down ({failure})"),
            (_, None, Some(Part::Standby)) if self.link => f.write_str("standby"),
            (_, None, Some(Part::Standby)) => f.write_str("standby (link down)"),
            (_, None, Some(Part::Primary) | None) => f.write_str("unknown"),
        }
    }
}

impl Subnets {
    /// SUBN-6 and SUBN-7: raises and clears what the flows of a subnet now call for.
    pub(super) fn judge_subnet(&mut self, subnet: IpNet, at: Time, found: &mut Vec<Finding>) {
        let judged = self.judge_interfaces(subnet);
        for (interface, up) in &judged {
            let key = (subnet, interface.clone());
            let object = Object::LocalInterface { interface: interface.clone(), subnet };
            match up {
                Some(false) if self.interfaces_down.insert(key.clone()) => {
                    let mut detail = if self.has_left(subnet, interface) {
                        "its addresses were moved to its standby interface".to_owned()
                    } else {
                        self.reasons(subnet, Some(interface))
                    };
                    if !self.has_link(interface) {
                        detail.push_str("; its link is down, too");
                    }
                    found.push(Finding::raise(Kind::InterfaceIpDown, object, detail, at));
                }
                Some(true) if self.interfaces_down.remove(&key) => {
                    let ended = ClearReason::Ended;
                    found.push(Finding::clear(Kind::InterfaceIpDown, object, ended, at));
                }
                Some(_) | None => {}
            }
        }
        // SUBN-8: an interface that has just been found down may have a standby, which has yet to show
        // what it can do.
        self.judge_pair(subnet, &judged, at);
        let judged = self.judge_interfaces(subnet);
        let on_trial = self.pairs.get(&subnet).is_some_and(|pair| pair.standby.on_trial());
        let object = Object::Subnet(subnet);
        let down = |(interface, up): &(String, Option<bool>)| match up {
            Some(up) => !up,
            None => !on_trial && self.interfaces_down.contains(&(subnet, interface.clone())),
        };
        if judged.iter().any(|(_, up)| *up == Some(true)) {
            if self.subnets_down.remove(&subnet) {
                found.push(Finding::clear(Kind::SubnetDown, object, ClearReason::Ended, at));
            }
        } else if !judged.is_empty() && judged.iter().all(down) && self.subnets_down.insert(subnet)
        {
            let detail = self.reasons(subnet, None);
            found.push(Finding::raise(Kind::SubnetDown, object, detail, at));
        }
        self.judge_links(at, found);
    }

    /// SUBN-6: what is known of each interface on a subnet, in the order of their names.
    fn judge_interfaces(&self, subnet: IpNet) -> Vec<(String, Option<bool>)> {
        let require = self
            .subnets
            .iter()
            .find(|planned| planned.prefix == subnet)
            .map_or(Require::Any, |planned| planned.require);
        let mut interfaces: BTreeMap<&str, (usize, usize, usize)> = BTreeMap::new();
        for entry in self.flows.iter().filter(|entry| entry.key.subnet == subnet) {
            let (up, down, all) = interfaces.entry(&entry.key.interface).or_default();
            *all += 1;
            match entry.flow.state() {
                FlowState::Up { .. } => *up += 1,
                FlowState::Down { .. } => *down += 1,
                FlowState::Unknown { .. } => {}
            }
        }
        let mut judged: BTreeMap<String, Option<bool>> = interfaces
            .into_iter()
            .map(|(interface, (up, down, all))| {
                let known = match require {
                    Require::Any if up > 0 => Some(true),
                    Require::Any if down > 0 => Some(false),
                    Require::All if down > 0 => Some(false),
                    Require::All if up == all => Some(true),
                    Require::Any | Require::All => None,
                };
                (interface.to_owned(), known)
            })
            .collect();
        self.add_pair(subnet, &mut judged);
        judged.into_iter().collect()
    }

    /// What the flows of a subnet, or of one interface there, have met, each in a few words.
    fn reasons(&self, subnet: IpNet, interface: Option<&str>) -> String {
        let mut told = BTreeMap::new();
        for entry in self.flows.iter().filter(|entry| {
            entry.key.subnet == subnet && interface.is_none_or(|name| entry.key.interface == name)
        }) {
            if let (FlowState::Down { .. }, Some(miss)) =
                (entry.flow.state(), entry.flow.last_miss())
            {
                told.entry(in_words(miss)).or_insert_with(Vec::new).push(entry.key.polled);
            }
        }
        let interval = Pretty(self.settings.poll_interval);
        let in_a_row = self.settings.in_a_row;
        let told: Vec<String> = told
            .into_iter()
            .map(|(miss, mut polled)| {
                polled.dedup();
                let more = polled.len().saturating_sub(3);
                let shown: Vec<String> = polled.iter().take(3).map(IpAddr::to_string).collect();
                let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                format!("{miss} from {}{more}", shown.join(", "))
            })
            .collect();
        format!("{} ({in_a_row} polls in a row, one every {interval})", told.join("; "))
    }

    /// Whether the link of one of this host's interfaces is there; not if the interface isn't.
    pub(super) fn has_link(&self, name: &str) -> bool {
        let mut interfaces = self.host.interfaces.iter();
        interfaces.any(|interface| interface.name == name && interface.up && interface.running)
    }

    /// Every subnet that is judged, and until this host is known every one that will be.
    pub fn subnets(&self) -> impl Iterator<Item = SubnetView> {
        let configured = self.settings.subnets.iter();
        let waiting =
            configured.filter(|subnet| subnet.monitor && !self.host_known).map(|subnet| {
                let prefix = subnet.prefix;
                let up = self.subnets_down.contains(&prefix).then_some(false);
                SubnetView { prefix, up, interfaces: Vec::new(), moves: None }
            });
        let judged = self.subnets.iter().map(|planned| {
            let prefix = planned.prefix;
            let mut judged = self.judge_interfaces(prefix);
            // One that waits is shown, too.
            let pair = self.pairs.get(&prefix).map(|pair| pair.standby.interfaces());
            for name in pair.into_iter().flat_map(|pair| [&pair.primary, &pair.standby]) {
                if !judged.iter().any(|(judged, _)| judged == name) {
                    judged.push((name.clone(), None));
                }
            }
            judged.sort_unstable();
            let up = if self.subnets_down.contains(&prefix) {
                Some(false)
            } else {
                judged.iter().any(|(_, up)| *up == Some(true)).then_some(true)
            };
            let interfaces = judged.into_iter().map(|(name, up)| self.view(prefix, name, up));
            let moves = self.pairs.get(&prefix).map(|pair| pair.moves);
            SubnetView { prefix, up, interfaces: interfaces.collect(), moves }
        });
        judged.chain(waiting)
    }

    fn view(&self, subnet: IpNet, name: String, up: Option<bool>) -> InterfaceView {
        let link = self.has_link(&name);
        let standby = self.pairs.get(&subnet).map(|pair| &pair.standby);
        let part = standby.and_then(|standby| standby.part_of(&name));
        // What failed of a primary that was left is what counts, whatever its link does now.
        let left = standby.filter(|_| part == Some(Part::Primary));
        let failure = left.and_then(Standby::failure).unwrap_or(Failure::of(link));
        InterfaceView {
            up,
            link,
            failure: (up == Some(false)).then_some(failure),
            disabled: left.is_some_and(Standby::is_disabled),
            part,
            name,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subn_9_the_words_of_an_interface() {
        let view = |up, link, failure, disabled, part| InterfaceView {
            name: "eth0".to_owned(),
            up,
            link,
            failure,
            disabled,
            part,
        };
        let (primary, standby) = (Some(Part::Primary), Some(Part::Standby));
        let (down, ip_only, both) = (Some(false), Some(Failure::IpOnly), Some(Failure::LinkAndIp));
        for (view, words) in [
            (view(Some(true), true, None, false, None), "up"),
            (view(Some(true), true, None, false, standby), "up"),
            (view(down, true, ip_only, false, None), "down (IP only)"),
            (view(down, false, both, false, primary), "down (Link and IP)"),
            (view(down, true, ip_only, true, primary), "down (disabled) (IP only)"),
            (view(None, true, None, false, primary), "unknown"),
            (view(None, true, None, false, standby), "standby"),
            (view(None, false, None, false, standby), "standby (link down)"),
        ] {
            assert_eq!(view.to_string(), words, "{view:?}");
        }
        assert_eq!(["ip_only", "link+ip"], [Failure::IpOnly.name(), Failure::LinkAndIp.name()]);
    }
}
