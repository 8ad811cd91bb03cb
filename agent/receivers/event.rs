//! An alarm event as people and programs read it, in words that stay the same from raise to clear.

use evenkeel_core::{
    alarm::{AlarmEvent, Object},
    time::WallTime,
};

use crate::store::rfc3339;

/// `raise` or `clear`.
pub const fn name(event: &AlarmEvent) -> &'static str {
    match event.cleared {
        None => "raise",
        Some(_) => "clear",
    }
}

/// A moment, in UTC (RFC 3339).
pub fn utc(wall: WallTime) -> String {
    rfc3339(wall)
}

/// What the alarm is about, in parts that a program can select by.
pub fn parts(object: &Object) -> Vec<(&'static str, String)> {
    match object {
        Object::System(system) => vec![("system", system.to_string())],
        Object::Interface { system, if_index } => {
            vec![("system", system.to_string()), ("if_index", if_index.to_string())]
        }
        Object::Link(link) => {
            let [one, other] = link.ends();
            vec![("end", one.to_string()), ("other_end", other.to_string())]
        }
        Object::LocalInterface { interface, subnet } => {
            vec![("interface", interface.clone()), ("subnet", subnet.to_string())]
        }
        Object::OwnInterface(interface) => vec![("interface", interface.clone())],
        Object::Subnet(subnet) => vec![("subnet", subnet.to_string())],
        Object::Peer(address) => vec![("peer", address.to_string())],
        Object::NotificationTarget(name) => vec![("notification_target", name.clone())],
        Object::MatePath(interface) => vec![("interface", interface.clone())],
        Object::Component(part) => vec![("part", part.to_string())],
        Object::PeerMonitor | Object::Agent | Object::Mate | Object::Pair => Vec::new(),
    }
}
