//! The section `[notifications]`: where notifications go, and under which object identifier they
//! are defined (TRAP-10, TRAP-12).

use std::net::SocketAddr;

use evenkeel_core::{
    mib::{BadRoot, RootOid},
    notification::MAX_COMMUNITY,
};

use super::{Unique, name, traps::community};
use crate::config::{
    NotificationTarget, Notifications,
    problem::Span,
    reader::{Table, Value},
    units::{self, Wrong},
};

/// Reads the section, and gives back where the targets' addresses stand. `listen` is where traps
/// are received.
pub fn notifications(mut table: Table<'_>, listen: &[SocketAddr]) -> (Notifications, Vec<Span>) {
    let default = Notifications::default();
    let root_oid = table.get("root_oid").and_then(|value| value.parse(root_oid));
    let mut names = Unique::new();
    let mut addresses = Unique::new();
    let mut targets = Vec::new();
    let mut places = Vec::new();
    for mut table in table.tables("target") {
        let address = table.required("address", "write address = \"192.0.2.9:162\"");
        let address = address.and_then(|value| {
            let address = target_address(&value, listen)?;
            if let Some(there) = addresses.insert(address, value.span()) {
                let wrong = Wrong::new("two targets with one address would get everything twice");
                value.wrong_also(wrong, there, "first here");
            }
            places.push(value.span());
            Some(address)
        });
        let given = table.get("name").and_then(|value| {
            let name = value.parse(name)?;
            if let Some(there) = names.insert(name.clone(), value.span()) {
                value.wrong_also(Wrong::new("two targets have this name"), there, "first here");
            }
            Some(name)
        });
        let community =
            table.get("community").and_then(|value| value.secret().parse(sent_community));
        table.finish();
        if let Some(address) = address {
            targets.push(NotificationTarget {
                name: given.unwrap_or_else(|| address.to_string()),
                address,
                community: community.unwrap_or_else(|| b"public".to_vec()),
            });
        }
    }
    table.finish();
    let root_oid = root_oid.unwrap_or(default.root_oid);
    (Notifications { root_oid, targets }, places)
}

/// A target's address, which must not be where we receive: each notification would come back as a
/// trap.
fn target_address(value: &Value<'_>, listen: &[SocketAddr]) -> Option<SocketAddr> {
    let address = value.parse(units::notification_address)?;
    let ours = listen.iter().find(|ours| {
        hears(ours, address) && {
            // Behind a wildcard only loopback is surely this host; the rest is for the host's check.
            ours.ip() == address.ip() || address.ip().is_loopback()
        }
    });
    if let Some(ours) = ours {
        value.wrong(
            Wrong::new(format!("this agent itself receives traps there (traps.listen has {ours})"))
                .help("notifications would come back as traps: name the NMS's address"),
        );
    }
    Some(address)
}

/// Whether a socket bound to `listen` would get what is sent to `address` if that is this host's.
pub fn hears(listen: &SocketAddr, address: SocketAddr) -> bool {
    let family = listen.is_ipv4() == address.is_ipv4();
    family
        && listen.port() == address.port()
        && (listen.ip().is_unspecified() || listen.ip() == address.ip())
}

fn root_oid(text: &str) -> Result<RootOid, Wrong> {
    text.parse().map_err(|bad: BadRoot| {
        // What is wrong, and what would be right.
        let text = bad.to_string();
        match text.split_once("; ") {
            Some((message, help)) => Wrong::new(message).help(help),
            None => Wrong::new(text),
        }
    })
}

/// A community that a notification carries: it shares 1400 octets with all the objects.
fn sent_community(text: &str) -> Result<Vec<u8>, Wrong> {
    let octets = community(text)?;
    if octets.len() > MAX_COMMUNITY {
        return Err(Wrong::new(format!(
            "a community that is sent has at most {MAX_COMMUNITY} octets"
        )));
    }
    Ok(octets)
}
