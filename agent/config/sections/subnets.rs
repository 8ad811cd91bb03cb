//! The section `[subnets]`: what is polled, with the checks of SUBN-11 that need no host.

use std::num::NonZeroU8;

use evenkeel_core::{
    plan::{is_link_local, of_no_node},
    settings::{Interfaces, Polled, Require, Subnet, Subnets},
};
use ipnet::IpNet;

use super::{Unique, duration};
use crate::config::{
    SubnetOrigin,
    problem::Span,
    reader::{Table, Value, suggestion},
    units::{self, Wrong},
};

/// How many polls in a row may be asked for. One would make an alarm of every lost packet; after a
/// hundred, at the shortest interval, users have called for a minute and a half.
const IN_A_ROW: std::ops::RangeInclusive<i64> = 2..=100;

/// Reads the section, and gives back where the values of each subnet stand.
pub fn subnets(mut table: Table<'_>) -> (Subnets, Vec<SubnetOrigin>) {
    let default = Subnets::default();
    let poll_interval = table.get("poll_interval").and_then(|value| {
        duration(&value, "2s", Subnets::POLL_INTERVALS, "a poll interval is 1s to 30s")
    });
    let in_a_row = table.get("in_a_row").and_then(|value| {
        let polls = value.integer(IN_A_ROW, "polls in a row are 2 to 100")?;
        u8::try_from(polls).ok().and_then(NonZeroU8::new)
    });
    let watch_gateways = table.get("watch_gateways").and_then(|value| value.boolean());
    let mut prefixes = Unique::new();
    let (mut subnets, mut origins) = (Vec::new(), Vec::new());
    for table in table.tables("subnet") {
        if let Some((subnet, origin)) = subnet(table, &mut prefixes) {
            subnets.push(subnet);
            origins.push(origin);
        }
    }
    table.finish();
    let subnets = Subnets {
        poll_interval: poll_interval.unwrap_or(default.poll_interval),
        in_a_row: in_a_row.unwrap_or(default.in_a_row),
        watch_gateways: watch_gateways.unwrap_or(default.watch_gateways),
        subnets,
    };
    (subnets, origins)
}

fn subnet(mut table: Table<'_>, prefixes: &mut Unique<IpNet>) -> Option<(Subnet, SubnetOrigin)> {
    let prefix_value = table.required("prefix", "write prefix = \"192.0.2.0/24\"");
    let prefix = prefix_value.as_ref().and_then(|value| {
        let prefix = value.parse(subnet_prefix)?;
        if let Some(there) = prefixes.insert(prefix, value.span()) {
            value.wrong_also(Wrong::new("this subnet is given twice"), there, "first here");
        }
        Some(prefix)
    });
    let monitor = table.get("monitor").and_then(|value| value.boolean()).unwrap_or(true);
    let targets_value = table.get("polling_targets");
    let peers_value = table.get("peers");
    let require_value = table.get("require");
    let primary_value = table.get("primary_interface");
    let standby_value = table.get("standby_interface");
    let targets = targets_value.as_ref().map(|value| polled_list(value, prefix, polling_target));
    let peers = peers_value.as_ref().map(|value| polled_list(value, prefix, peer));
    let (polling_targets, target_spans) = targets.unwrap_or_default();
    let (peers, peer_spans) = peers.unwrap_or_default();
    let require = require_value.as_ref().and_then(|value| value.parse(require)).unwrap_or_default();

    let given = |value: &Option<Value<'_>>| value.as_ref().is_some_and(|value| value.length() > 0);
    let (by_target, by_peer) = (given(&targets_value), given(&peers_value));
    if monitor && !by_target && !by_peer {
        let wrong = Wrong::new("there is nobody to poll on this subnet (SUBN-11)").help(
            "give polling_targets = [\"...\"], such as its gateway, or peers = [\"...\"], or write \
             monitor = false",
        );
        match &prefix_value {
            Some(value) => value.wrong(wrong),
            None => table.wrong(wrong.message, wrong.help),
        }
    }
    if monitor && let Some(value) = &peers_value {
        if by_target && by_peer {
            value.warn(
                Wrong::new("peers are not polled where there are polling targets (SUBN-1)")
                    .help("leave one of the two lists out"),
            );
        } else if value.length() == 1 && peers.len() == 1 {
            value.warn(one_peer(&peers[0]));
        }
    }
    if !by_target && let (Require::All, Some(value)) = (require, &require_value) {
        value.warn(
            Wrong::new("without polling targets, this asks for nothing (SUBN-6)")
                .help("peers reboot: any of them that answers keeps an interface up"),
        );
    }
    let standby = standby(primary_value.as_ref(), standby_value.as_ref());
    if let (Some(_), Some(value)) = (&standby, &standby_value) {
        if !monitor {
            value.wrong(
                Wrong::new(
                    "without monitoring, nobody finds out when to move the addresses (SUBN-8)",
                )
                .help("leave monitor = false out, or both interfaces"),
            );
        } else if prefix.is_some_and(|prefix| is_link_local(prefix.addr())) {
            value.wrong(
                Wrong::new("a link-local address belongs to its interface and can't be moved")
                    .help("give the standby to the subnets whose addresses others know"),
            );
        }
    }
    table.finish();
    let prefix = prefix?;
    let span = prefix_value.map(|value| value.span()).unwrap_or_default();
    let origin = SubnetOrigin {
        prefix: span,
        polling_targets: target_spans,
        peers: peer_spans,
        interfaces: [primary_value, standby_value]
            .into_iter()
            .flatten()
            .map(|v| v.span())
            .collect(),
    };
    Some((Subnet { prefix, monitor, polling_targets, peers, require, standby }, origin))
}

/// The two interfaces of a subnet that has a standby (SUBN-8). Which one is the primary must be said, as
/// after a move the addresses no longer tell.
fn standby(primary: Option<&Value<'_>>, standby: Option<&Value<'_>>) -> Option<Interfaces> {
    let (primary, standby) = match (primary, standby) {
        (Some(primary), Some(standby)) => (primary, standby),
        (None, None) => return None,
        (Some(alone), None) => {
            alone.wrong(
                Wrong::new("this does nothing without a standby_interface")
                    .help("write standby_interface = \"eth1\" beside it, or leave it out"),
            );
            return None;
        }
        (None, Some(alone)) => {
            alone.wrong(
                Wrong::new("which interface does it stand by for?")
                    .help("write primary_interface = \"eth0\" beside it"),
            );
            return None;
        }
    };
    let (primary_name, standby_name) = (primary.parse(interface), standby.parse(interface));
    let interfaces = Interfaces { primary: primary_name?, standby: standby_name? };
    if interfaces.primary == interfaces.standby {
        standby.wrong_also(
            Wrong::new("an interface can't stand by for itself"),
            primary.span(),
            "the primary",
        );
        return None;
    }
    Some(interfaces)
}

/// The name of an interface, as the kernel takes it: up to 15 octets without `/` and white space.
fn interface(text: &str) -> Result<String, Wrong> {
    let bad = |c: char| c == '/' || c == ':' || c.is_whitespace();
    if text.is_empty() || text.len() > 15 || text.contains(bad) || matches!(text, "." | "..") {
        return Err(Wrong::new("this is no name of an interface")
            .help("`ip link` lists them; a name has 1 to 15 characters"));
    }
    Ok(text.to_owned())
}

/// What to say of a single peer (SUBN-11).
pub fn one_peer(peer: &Polled) -> Wrong {
    Wrong::new(format!(
        "with one peer to poll, a reboot of {} will look like a failure here",
        peer.address
    ))
    .help("poll something that stays up: polling_targets = [\"...\"], such as the gateway")
}

/// A prefix that hosts can share.
fn subnet_prefix(text: &str) -> Result<IpNet, Wrong> {
    let prefix = units::prefix(text)?;
    if prefix.addr().is_multicast() {
        return Err(Wrong::new("this is a multicast prefix, and no subnet"));
    }
    if prefix.prefix_len() == 0 {
        return Err(Wrong::new("this is the whole address space, and no subnet")
            .help("give the prefix of an address that this host has"));
    }
    Ok(prefix)
}

/// A list of addresses to poll, and where they stand; `check` says what else is wrong with one on
/// this subnet.
fn polled_list(
    value: &Value<'_>,
    prefix: Option<IpNet>,
    check: fn(&Polled, IpNet) -> Result<(), Wrong>,
) -> (Vec<Polled>, Vec<Span>) {
    let mut seen = Unique::new();
    let list = value.list(|element| {
        let polled = element.parse(|text| {
            let polled = units::polled(text)?;
            if let Some(prefix) = prefix {
                of_the_same_family(&polled, prefix)?;
                check(&polled, prefix)?;
                of_one_node(&polled, prefix)?;
            }
            Ok(polled)
        })?;
        if let Some(there) = seen.insert(polled.clone(), element.span()) {
            element.wrong_also(Wrong::new("this address is listed twice"), there, "first here");
        }
        Some(polled)
    });
    list.into_iter().unzip()
}

fn of_the_same_family(polled: &Polled, prefix: IpNet) -> Result<(), Wrong> {
    let family = |ipv4| if ipv4 { "IPv4" } else { "IPv6" };
    let (ours, theirs) = (prefix.addr().is_ipv4(), polled.address.is_ipv4());
    if ours == theirs {
        return Ok(());
    }
    let (ours, theirs) = (family(ours), family(theirs));
    Err(Wrong::new(format!("an {theirs} address can't be polled on the {ours} subnet {prefix}"))
        .help(format!("poll an {ours} address, or give the {theirs} subnet its own entry")))
}

/// A polling target may be on another, routed subnet (SUBN-13), but no loopback address, which
/// every host answers for itself.
fn polling_target(polled: &Polled, prefix: IpNet) -> Result<(), Wrong> {
    if polled.address.is_loopback() && !prefix.contains(&polled.address) {
        return Err(Wrong::new("a loopback address is this host's own, and would always answer"));
    }
    Ok(())
}

/// A peer is on the subnet itself.
fn peer(polled: &Polled, prefix: IpNet) -> Result<(), Wrong> {
    if prefix.contains(&polled.address) {
        return Ok(());
    }
    Err(Wrong::new(format!("this address is not on {prefix}"))
        .help("a peer is a node of the subnet; what is elsewhere can be one of polling_targets"))
}

/// Refuses the addresses of a subnet that are not those of one node.
fn of_one_node(polled: &Polled, prefix: IpNet) -> Result<(), Wrong> {
    of_no_node(polled.address, prefix).map_or(Ok(()), |reason| Err(Wrong::new(reason)))
}

fn require(text: &str) -> Result<Require, Wrong> {
    match text {
        "any" => Ok(Require::Any),
        "all" => Ok(Require::All),
        _ => Err(Wrong::new("this is neither \"any\" nor \"all\"")
            .help(suggestion(text, &["any", "all"]))),
    }
}
