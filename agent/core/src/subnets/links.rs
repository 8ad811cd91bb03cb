//! The links of this host's own interfaces, joined with what the polls say: a link that is gone is told at
//! once, as `interface_down`; when IP is found down on that interface, `interface_ip_down` says more and takes
//! its place. So one fault of an interface is one alarm at any moment, as INST-13 has it for the interfaces
//! of others.

use std::collections::BTreeSet;

use super::Subnets;
use crate::{
    alarm::{ClearReason, Kind, Object},
    finding::Finding,
    time::Time,
};

impl Subnets {
    /// Raises and clears what the links of the watched interfaces call for: those that are polled from, and
    /// those that stand by.
    pub(super) fn judge_links(&mut self, at: Time, found: &mut Vec<Finding>) {
        if !self.host_known {
            return;
        }
        let polled = self.flows.iter().map(|entry| &entry.key.interface);
        let pairs = self.pairs.values().map(|pair| pair.standby.interfaces());
        let paired = pairs.flat_map(|pair| [&pair.primary, &pair.standby]);
        let watched: BTreeSet<&String> = polled.chain(paired).collect();
        let ip_down: BTreeSet<&String> =
            self.interfaces_down.iter().map(|(_, name)| name).collect();
        let down: BTreeSet<String> = watched
            .iter()
            .filter(|name| !self.has_link(name) && !ip_down.contains(**name))
            .map(|&name| name.clone())
            .collect();
        for name in self.links_down.difference(&down) {
            let (reason, detail) = if ip_down.contains(name) {
                (ClearReason::Superseded, Some("IP is down on it"))
            } else if watched.contains(name) {
                (ClearReason::Ended, Some("its link is back"))
            } else {
                (ClearReason::Removed, None)
            };
            let object = Object::OwnInterface(name.clone());
            let cleared = Finding::clear(Kind::InterfaceDown, object, reason, at);
            found.push(Finding { detail: detail.map(str::to_owned), ..cleared });
        }
        for name in down.difference(&self.links_down) {
            let object = Object::OwnInterface(name.clone());
            let detail = "its link is gone".to_owned();
            found.push(Finding::raise(Kind::InterfaceDown, object, detail, at));
        }
        self.links_down = down;
    }
}
