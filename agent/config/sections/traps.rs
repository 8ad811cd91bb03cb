//! The section `[traps]`: where traps come in, and how many of them (TRAP-1, TRAP-6). Who may send
//! them is on a page of its own.

use std::net::SocketAddr;

use evenkeel_core::settings::{Access, Rate, SourceLimits};
use ipnet::IpNet;

use super::{Unique, access, credentials::Keyring, size};
use crate::config::{
    Traps,
    problem::Span,
    reader::{Table, Value},
    units::{self, Wrong},
};

/// The least and most that the kernel is asked for. Less than 64 KiB does not hold one datagram of
/// full size; more than 1 GiB is more than it can be asked for (socket(7): the doubled value is an
/// `int`).
pub const RECEIVE_BUFFER: std::ops::RangeInclusive<u64> = 64 << 10..=1 << 30;
pub const RECEIVE_BUFFER_TEXT: &str = "a receive buffer has 64KiB to 1GiB";

/// The least holds a few datagrams of full size from each of a dozen sources; nobody waits for the
/// traps that are behind 16 GiB of others.
const MAX_WAITING: std::ops::RangeInclusive<u64> = 1 << 20..=16 << 30;

/// How many engines may be remembered: fewer than a hundred would make a small network learn its own
/// devices again and again; a million take some 500 MB.
const MAX_ENGINES: std::ops::RangeInclusive<i64> = 100..=1_000_000;

/// How many sources may be told apart; ten million take some 600 MB.
const MAX_SOURCES: std::ops::RangeInclusive<i64> = 100..=10_000_000;

/// The most is more than a core can take in.
const RATE: std::ops::RangeInclusive<i64> = 0..=10_000_000;
const RATE_TEXT: &str = "a rate is 1 to 10000000 a second, or 0 for no bound";

/// The most is more than the largest receive buffer holds.
const BURST: std::ops::RangeInclusive<i64> = 1..=10_000_000;
const BURST_TEXT: &str = "a burst is 1 to 10000000";

/// Reads the section.
pub fn traps(mut table: Table<'_>, keyring: &Keyring) -> (Traps, Access) {
    let default = Traps::default();
    let listen = table.get("listen").map(|value| listen(&value));
    let receive_buffer = table
        .get("receive_buffer")
        .and_then(|value| size(&value, "64MiB", RECEIVE_BUFFER, RECEIVE_BUFFER_TEXT));
    let max_waiting = table
        .get("max_waiting")
        .and_then(|value| size(&value, "256MiB", MAX_WAITING, "what may wait is 1MiB to 16GiB"));
    let forwarders = table.get("forwarders").map(|value| prefixes(&value)).unwrap_or_default();
    let communities = access::communities(table.tables("community"));
    let users = access::users(table.tables("user"), keyring);
    let engines = access::known_engines(table.tables("engine"));
    let max_engines = table
        .get("max_engines")
        .and_then(|value| number(&value, MAX_ENGINES, "the number of engines is 100 to 1000000"));
    let limits = source_limits(&mut table);
    table.finish();
    let traps = Traps {
        listen_is_default: listen.is_none(),
        listen: listen.unwrap_or(default.listen),
        receive_buffer: receive_buffer.unwrap_or(default.receive_buffer),
        max_waiting: max_waiting.unwrap_or(default.max_waiting),
        limits,
    };
    let access = Access {
        // TRAP-3: this host's loopback may send for as long as nobody is named.
        communities: match communities.is_empty() && users.is_empty() {
            true => Access::default().communities,
            false => communities,
        },
        forwarders,
        users,
        engines,
        max_engines: max_engines.unwrap_or(Access::DEFAULT_MAX_ENGINES),
    };
    (traps, access)
}

/// The keys that bound what one source may send (TRAP-6).
fn source_limits(table: &mut Table<'_>) -> SourceLimits {
    let per_second = table.get("source_rate").and_then(|value| number(&value, RATE, RATE_TEXT));
    let burst = table.get("source_burst").and_then(|value| number(&value, BURST, BURST_TEXT));
    let max_sources = table
        .get("max_sources")
        .and_then(|value| number(&value, MAX_SOURCES, "the number of sources is 100 to 10000000"));
    let default = Rate::DEFAULT;
    let burst = burst.unwrap_or(default.burst);
    SourceLimits {
        default: rate(per_second.unwrap_or(default.per_second), burst),
        exceptions: limits(table.tables("limit"), burst),
        max_sources: max_sources.unwrap_or(SourceLimits::DEFAULT_MAX_SOURCES),
    }
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

/// Reads `[[traps.limit]]`: sources with a limit of their own.
fn limits(tables: Vec<Table<'_>>, burst: u32) -> Vec<(Vec<IpNet>, Option<Rate>)> {
    let mut seen = Unique::new();
    let mut limits = Vec::new();
    for mut table in tables {
        let value = table.required("sources", "write sources = [\"192.0.2.5\"]");
        if let Some(value) = &value
            && value.is_empty_list()
        {
            value.wrong(Wrong::new("this limit is nobody's").help("name the sources"));
        }
        let sources = value.as_ref().map(prefixes).unwrap_or_default();
        if let Some(value) = &value {
            for source in &sources {
                if let Some(there) = seen.insert(*source, value.span()) {
                    let wrong = Wrong::new(format!("{source} has two limits"))
                        .help("the first would hold: keep one of them");
                    value.wrong_also(wrong, there, "first here");
                }
            }
        }
        let per_second = table.required("rate", "write rate = 50000, or 0 for no bound");
        let per_second = per_second.and_then(|value| number(&value, RATE, RATE_TEXT));
        let burst =
            table.get("burst").and_then(|value| number(&value, BURST, BURST_TEXT)).unwrap_or(burst);
        table.finish();
        let Some(per_second) = per_second else { continue };
        limits.push((sources, rate(per_second, burst)));
    }
    limits
}

/// A token bucket; no bound for a rate of 0.
fn rate(per_second: u32, burst: u32) -> Option<Rate> {
    (per_second > 0).then_some(Rate { per_second, burst })
}

/// A number in a range; `what` names the range.
pub fn number(value: &Value<'_>, range: std::ops::RangeInclusive<i64>, what: &str) -> Option<u32> {
    u32::try_from(value.integer(range, what)?).ok()
}
