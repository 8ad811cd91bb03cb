//! The section `[traps]`: where traps come in, and who may send them (TRAP-2, TRAP-3).

use std::net::SocketAddr;

use evenkeel_core::settings::{Access, Community};
use ipnet::IpNet;

use super::Unique;
use crate::config::{
    Traps,
    problem::Span,
    reader::{Table, Value},
    units::{self, Wrong},
};

/// The least and most that the kernel is asked for. Less than 64 KiB does not hold one datagram of
/// full size; more than 1 GiB is more than it can be asked for (socket(7): the doubled value is an
/// `int`).
const RECEIVE_BUFFER: std::ops::RangeInclusive<u64> = 64 << 10..=1 << 30;

/// The least holds a few datagrams of full size from each of a dozen sources; nobody waits for the
/// traps that are behind 16 GiB of others.
const MAX_WAITING: std::ops::RangeInclusive<u64> = 1 << 20..=16 << 30;

/// Reads the section.
pub fn traps(mut table: Table<'_>) -> (Traps, Access) {
    let default = Traps::default();
    let listen = table.get("listen").map(|value| listen(&value));
    let receive_buffer = table.get("receive_buffer").and_then(|value| {
        size(&value, "64MiB", RECEIVE_BUFFER, "a receive buffer has 64KiB to 1GiB")
    });
    let max_waiting = table
        .get("max_waiting")
        .and_then(|value| size(&value, "256MiB", MAX_WAITING, "what may wait is 1MiB to 16GiB"));
    let forwarders = table.get("forwarders").map(|value| prefixes(&value)).unwrap_or_default();
    let communities = communities(table.tables("community"));
    table.finish();
    let traps = Traps {
        listen_is_default: listen.is_none(),
        listen: listen.unwrap_or(default.listen),
        receive_buffer: receive_buffer.unwrap_or(default.receive_buffer),
        max_waiting: max_waiting.unwrap_or(default.max_waiting),
    };
    let communities =
        if communities.is_empty() { Access::default().communities } else { communities };
    (traps, Access { communities, forwarders, ..Access::default() })
}

/// The listen addresses. One that a wildcard of the same port and family covers can't be bound
/// beside it.
fn listen(value: &Value<'_>) -> Vec<SocketAddr> {
    let mut seen: Vec<(SocketAddr, Span)> = Vec::new();
    let addresses = value.list(|element| {
        let address = element.parse(units::listen)?;
        let clash = seen.iter().find(|(other, _)| {
            let covers = other.ip() == address.ip()
                || other.ip().is_unspecified()
                || address.ip().is_unspecified();
            covers && other.port() == address.port() && other.is_ipv4() == address.is_ipv4()
        });
        match clash {
            Some((other, there)) if *other == address => {
                element.wrong_also(
                    Wrong::new("this address is listed twice"),
                    *there,
                    "first here",
                );
            }
            Some((other, there)) => {
                let wrong = Wrong::new(format!("this and {other} can't both be listened on"))
                    .help("an unspecified address takes all addresses of its family");
                element.wrong_also(wrong, *there, "this takes its port");
            }
            None => seen.push((address, element.span())),
        }
        Some(address)
    });
    addresses.into_iter().map(|(address, _)| address).collect()
}

/// A size in a range; `what` names the range.
fn size(
    value: &Value<'_>,
    example: &str,
    range: std::ops::RangeInclusive<u64>,
    what: &str,
) -> Option<u64> {
    value.parse_with_unit(example, |text| {
        let size = units::size(text)?;
        if range.contains(&size) { Ok(size) } else { Err(Wrong::new(what)) }
    })
}

/// A list of prefixes and plain addresses.
pub fn prefixes(value: &Value<'_>) -> Vec<IpNet> {
    let mut seen = Unique::new();
    let prefixes = value.list(|element| {
        let prefix = element.parse(units::prefix_or_address)?;
        if let Some(there) = seen.insert(prefix, element.span()) {
            element.wrong_also(Wrong::new("this prefix is listed twice"), there, "first here");
        }
        Some(prefix)
    });
    prefixes.into_iter().map(|(prefix, _)| prefix).collect()
}

fn communities(tables: Vec<Table<'_>>) -> Vec<Community> {
    let mut names = Unique::new();
    let mut communities = Vec::new();
    for mut table in tables {
        let name = table.get("name").map(Value::secret);
        let sources = table.get("sources");
        if name.is_none() && sources.is_none() {
            table.wrong(
                "with neither name nor sources, anyone may send traps".to_owned(),
                Some(
                    "write name = \"public\" for one community, or sources = [\"10.0.0.0/8\"] for \
                      any community from there"
                        .to_owned(),
                ),
            );
        }
        if let Some(sources) = &sources
            && sources.is_empty_list()
        {
            sources.wrong(Wrong::new("nobody may send with an empty list").help(
                "leave the key out to let senders be anywhere, or the community out to refuse it",
            ));
        }
        let octets = name.and_then(|name| {
            let octets = name.parse(community)?;
            if let Some(there) = names.insert(octets.clone(), name.span()) {
                let wrong = Wrong::new("this community is given twice")
                    .help("put the sources of both in one list");
                name.wrong_also(wrong, there, "first here");
            }
            Some(octets)
        });
        let sources = sources.map(|value| prefixes(&value)).unwrap_or_default();
        table.finish();
        communities.push(Community { name: octets, sources });
    }
    communities
}

/// The octets of a community.
pub fn community(text: &str) -> Result<Vec<u8>, Wrong> {
    match text.len() {
        1..=255 => Ok(text.as_bytes().to_vec()),
        0 => Err(Wrong::new("an empty community tells nobody from anybody")),
        _ => Err(Wrong::new("a community has 255 octets at most")),
    }
}
