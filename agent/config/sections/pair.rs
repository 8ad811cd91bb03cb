//! The section `[pair]`: the mate, and how the two guard each other (PAIR-2 to PAIR-8, PAIR-17).

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    ops::RangeInclusive,
    time::Duration,
};

use evenkeel_core::pair::{
    settings::{Failback, Limit, LimitError, Paths, Timing, TimingError},
    term::Slot,
};

use super::{Unique, credentials::choice, duration, name, notifications::hears};
use crate::config::{
    Pair, PairOrigin, PairPath, Traps, WaitFor, Web,
    problem::Span,
    reader::{Table, Value},
    units::{self, Wrong},
};

/// How long an agent may be back before it becomes primary again: a second is less than a fault that
/// comes and goes takes, and after a day an operator has looked.
const FAILBACK_AFTER: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(86_400);

/// All of them are asked at once, and one that answers is enough.
const MOST_WITNESSES: usize = 16;

/// A name for the one path that there is if none is given.
const ONLY_PATH: &str = "default";

const WAIT_FOR: [(&str, WaitFor); 2] = [("standby", WaitFor::Standby), ("disk", WaitFor::Disk)];

const FAILBACKS: [(&str, bool); 2] = [("manual", false), ("automatic", true)];

/// Reads the section; nothing if the file has none. Gives besides where its addresses stand.
pub fn pair(mut table: Table<'_>, traps: &Traps, web: &Web) -> (Option<Pair>, PairOrigin) {
    let mut origin = PairOrigin::default();
    if !table.is_there() {
        return (None, origin);
    }
    let slot = table.required("slot", "write slot = 0 for one agent and slot = 1 for the other");
    let slot = slot.and_then(|value| match value.integer(0..=1, "a slot is 0 or 1")? {
        0 => Some(Slot::Zero),
        _ => Some(Slot::One),
    });
    let listen_value = table.get("listen");
    let listen = listen_value.as_ref().and_then(|value| value.parse(local));
    let listen = listen.unwrap_or(Pair::LISTEN);
    if let Some(value) = &listen_value {
        origin.listen = Some(value.span());
        if web.enabled && (hears(&web.listen, listen) || hears(&listen, web.listen)) {
            value.wrong(
                Wrong::new(format!("web.listen has {}, and only one can listen", web.listen))
                    .help("19041 is the usual port of the pair, 19040 that of the page"),
            );
        }
    }
    let mate_value = table.required("mate", "write mate = \"192.0.2.2:19041\"");
    let mate = mate_value.as_ref().and_then(|value| {
        origin.mate = value.span();
        let mate = value.parse(remote)?;
        between(value, listen, mate, "pair.listen");
        Some(mate)
    });
    let priority = table.get("priority");
    let priority = priority.and_then(|value| octet(&value, 0..=255, "a priority is 0 to 255"));
    let timing = timing(&mut table);
    let limit = limit(&mut table);
    let failback = failback(&mut table);
    let wait_for = table.get("wait_for");
    let wait_for = wait_for.and_then(|value| choice(&value, &WAIT_FOR, "nothing to wait for"));
    let mate = mate.unwrap_or_else(|| SocketAddr::from((Ipv4Addr::UNSPECIFIED, Pair::PORT)));
    let witnesses = table.get("witnesses").map(|value| witnesses(&value, mate.ip()));
    let witnesses = witnesses.map(|witnesses| {
        origin.witnesses = witnesses.iter().map(|(_, span)| *span).collect();
        witnesses.into_iter().map(|(witness, _)| witness).collect()
    });
    let mut paths = paths(table.tables("path"), traps, &mut origin);
    if paths.is_empty() {
        paths.push(PairPath { interface: ONLY_PATH.to_owned(), local: listen, mate });
    }
    table.finish();
    let pair = Pair {
        slot: slot.unwrap_or(Slot::Zero),
        listen,
        mate,
        priority: priority.unwrap_or(Pair::PRIORITY),
        timing,
        limit,
        failback,
        wait_for: wait_for.unwrap_or_default(),
        witnesses,
        paths,
    };
    (Some(pair), origin)
}

/// The heartbeats, as the core takes them (PAIR-8, PAIR-17). What it refuses is told where the value
/// stands that is most likely to be meant otherwise.
fn timing(table: &mut Table<'_>) -> Timing {
    let heartbeat_value = table.get("heartbeat");
    let timeout_value = table.get("mate_timeout");
    let missed_value = table.get("licence_missed");
    let time =
        |value: &Value<'_>, example| value.parse_with_unit(example, units::duration).ok_or(());
    let default = Timing::DEFAULT;
    let heartbeat = heartbeat_value.as_ref().map(|value| time(value, "500ms"));
    let timeout = timeout_value.as_ref().map(|value| time(value, "3s"));
    let missed = missed_value
        .as_ref()
        .map(|value| octet(value, 2..=59, "a licence lasts for 2 to 59 heartbeats").ok_or(()));
    // After a slip in one of them, what the others are to it can't be judged.
    let (Ok(heartbeat), Ok(timeout), Ok(missed)) =
        (heartbeat.transpose(), timeout.transpose(), missed.transpose())
    else {
        return default;
    };
    let heartbeat = heartbeat.unwrap_or(default.heartbeat());
    let timeout = timeout.unwrap_or(default.mate_timeout());
    // The default of four heartbeats, of 500 ms each.
    let missed = missed.unwrap_or(4);
    Timing::new(heartbeat, timeout, missed).unwrap_or_else(|error| {
        let (values, help) = match error {
            TimingError::Heartbeat => ([&heartbeat_value, &timeout_value, &missed_value], None),
            TimingError::MateTimeout => (
                [&timeout_value, &heartbeat_value, &missed_value],
                Some(format!(
                    "with a heartbeat of {heartbeat:?} it is {:?} to {:?}, and it is {timeout:?} now",
                    heartbeat * *Timing::PER_TIMEOUT.start(),
                    heartbeat * *Timing::PER_TIMEOUT.end(),
                )),
            ),
            TimingError::Licence => (
                [&missed_value, &timeout_value, &heartbeat_value],
                Some(format!(
                    "the mate time-out of {timeout:?} has {} heartbeats of {heartbeat:?}: \
                     licence_missed must be less than that, and is {missed}",
                    timeout.as_millis() / heartbeat.as_millis().max(1),
                )),
            ),
        };
        // One of them was given, as the defaults fit each other.
        if let Some(value) = values.into_iter().flatten().next() {
            let wrong = Wrong::new(error.to_string());
            value.wrong(match help {
                Some(help) => wrong.help(help),
                None => wrong,
            });
        }
        default
    })
}

/// How many automatic takeovers there may be (PAIR-6).
fn limit(table: &mut Table<'_>) -> Option<Limit> {
    let limited = table.get("failover_limit").and_then(|value| value.boolean()).unwrap_or(true);
    let count_value = table.get("max_takeovers");
    let period_value = table.get("takeover_period");
    if !limited {
        for value in [&count_value, &period_value].into_iter().flatten() {
            value.warn(
                Wrong::new("with failover_limit = false, this does nothing")
                    .help("leave one of the two out"),
            );
        }
    }
    let default = Limit::DEFAULT;
    let count = count_value.as_ref().map(|value| {
        // What is out of range is told below, as the core tells it.
        value.integer(0..=i64::MAX, "this is no number of takeovers").ok_or(())
    });
    let period =
        period_value.as_ref().map(|value| value.parse_with_unit("60m", units::duration).ok_or(()));
    let (Ok(count), Ok(period)) = (count.transpose(), period.transpose()) else {
        return Some(default);
    };
    let count = count.map_or(default.count(), |count| u8::try_from(count).unwrap_or(u8::MAX));
    let period = period.unwrap_or(default.period());
    let limit = Limit::new(count, period).unwrap_or_else(|error| {
        let (values, help) = match error {
            LimitError::Count => (
                [&count_value, &period_value],
                "write failover_limit = false for no limit".to_owned(),
            ),
            LimitError::Period => (
                [&period_value, &count_value],
                "write failover_limit = false for no limit".to_owned(),
            ),
            LimitError::TooMany => (
                [&period_value, &count_value],
                format!(
                    "{count} takeovers need a period of more than {}m: two agents that change \
                     roles every five minutes do nothing else",
                    5 * u32::from(count),
                ),
            ),
        };
        if let Some(value) = values.into_iter().flatten().next() {
            value.wrong(Wrong::new(error.to_string()).help(help));
        }
        default
    });
    limited.then_some(limit)
}

/// What becomes of a former primary that is back (PAIR-5).
fn failback(table: &mut Table<'_>) -> Failback {
    let automatic = table.get("failback");
    let automatic = automatic.and_then(|value| choice(&value, &FAILBACKS, "no way back"));
    let after_value = table.get("failback_after");
    let after = after_value.as_ref().and_then(|value| {
        duration(value, "60s", FAILBACK_AFTER, "the time before a failback is 1s to 1d")
    });
    if automatic == Some(true) {
        return Failback::Automatic { after: after.unwrap_or(Failback::DEFAULT_AFTER) };
    }
    // The default does no harm where it stands.
    if let (Some(value), true) =
        (after_value, after.is_some_and(|after| after != Failback::DEFAULT_AFTER))
    {
        value.warn(
            Wrong::new("nothing happens by itself after this time")
                .help("write failback = \"automatic\", or leave it out"),
        );
    }
    Failback::ByHand
}

/// Who is asked whether this agent is cut off (PAIR-4).
fn witnesses(value: &Value<'_>, mate: IpAddr) -> Vec<(IpAddr, Span)> {
    let mut seen = Unique::new();
    let witnesses = value.list(|element| {
        let witness = element.parse(|text| {
            if text.parse::<SocketAddr>().is_ok() {
                return Err(Wrong::new("a witness is polled by ICMP, which has no ports")
                    .help("leave the port out"));
            }
            let witness = units::system(text)?;
            if matches!(witness, IpAddr::V6(v6) if units::is_link_local(v6)) {
                return Err(Wrong::new("a link-local address is known on one link only")
                    .help("give the witness' global or unique local address"));
            }
            if witness == mate {
                return Err(Wrong::new(
                    "the mate is no witness: a witness is asked when the mate \
                                       is silent",
                )
                .help("name a gateway, or another host that is always there"));
            }
            if witness.is_loopback() {
                return Err(Wrong::new("this host itself would always answer")
                    .help("name a gateway, or another host that is always there"));
            }
            Ok(witness)
        })?;
        if let Some(there) = seen.insert(witness, element.span()) {
            element.wrong_also(Wrong::new("this witness is listed twice"), there, "first here");
        }
        Some(witness)
    });
    if value.length() > MOST_WITNESSES {
        value.wrong(
            Wrong::new(format!("there are more than {MOST_WITNESSES} witnesses"))
                .help("one that answers is enough: keep those that are always there"),
        );
    }
    witnesses
}

/// The heartbeat paths (PAIR-8).
fn paths(tables: Vec<Table<'_>>, traps: &Traps, origin: &mut PairOrigin) -> Vec<PairPath> {
    let mut interfaces = Unique::new();
    let mut mates = Unique::new();
    let mut locals: Vec<(SocketAddr, Span)> = Vec::new();
    let mut paths = Vec::new();
    for (nth, mut table) in tables.into_iter().enumerate() {
        if nth == *Paths::COUNTS.end() {
            table.wrong(
                format!("there are more than {} heartbeat paths", Paths::COUNTS.end()),
                Some("two over different interfaces are what most pairs need".to_owned()),
            );
        }
        let interface = table.required("interface", "write interface = \"eth0\"");
        let interface = interface.and_then(|value| {
            let interface = value.parse(name)?;
            if let Some(there) = interfaces.insert(interface.clone(), value.span()) {
                let wrong = Wrong::new("two paths have this interface")
                    .help("an alarm names the path by it: call one of them \"eth0-b\" or the like");
                value.wrong_also(wrong, there, "first here");
            }
            Some(interface)
        });
        let local_value = table.required("local", "write local = \"192.0.2.1:19041\"");
        let local = local_value.as_ref().and_then(|value| {
            let local = value.parse(local)?;
            let clash =
                locals.iter().find(|(other, _)| hears(other, local) || hears(&local, *other));
            if let Some((other, there)) = clash {
                let wrong = Wrong::new(format!("this and {other} can't both be bound"))
                    .help("give each path an address, or at least a port, of its own");
                value.wrong_also(wrong, *there, "this takes its port");
            }
            let ears = traps.listen.iter();
            if let Some(ear) =
                ears.into_iter().find(|ear| hears(ear, local) || hears(&local, **ear))
            {
                value.wrong(Wrong::new(format!(
                    "traps are received there (traps.listen has {ear})"
                )));
            }
            locals.push((local, value.span()));
            Some(local)
        });
        let mate_value = table.required("mate", "write mate = \"192.0.2.2:19041\"");
        let mate = mate_value.as_ref().and_then(|value| {
            let mate = value.parse(remote)?;
            if let Some(there) = mates.insert(mate, value.span()) {
                let wrong = Wrong::new("two paths go to this address")
                    .help("give each path an address of the mate of its own");
                value.wrong_also(wrong, there, "first here");
            }
            if let Some(local) = local {
                between(value, local, mate, "the path's own address");
            }
            Some(mate)
        });
        table.finish();
        if let (Some(interface), Some(local), Some(mate)) = (interface, local, mate) {
            let span =
                |value: &Option<Value<'_>>| value.as_ref().map(Value::span).unwrap_or_default();
            origin.paths.push((span(&local_value), span(&mate_value)));
            paths.push(PairPath { interface, local, mate });
        }
    }
    paths
}

fn octet(value: &Value<'_>, range: RangeInclusive<i64>, what: &str) -> Option<u8> {
    u8::try_from(value.integer(range, what)?).ok()
}

/// Holds the address of a mate against this agent's own.
fn between(value: &Value<'_>, own: SocketAddr, mate: SocketAddr, what: &str) {
    if own.is_ipv4() != mate.is_ipv4() {
        let wrong = Wrong::new(format!("{what} is {own}, of the other family"));
        value.wrong(wrong.help("both ends of a way are of one family"));
    } else if hears(&own, mate) && (own.ip() == mate.ip() || mate.ip().is_loopback()) {
        let wrong = Wrong::new(format!("this is this agent itself: {what} is {own}"));
        value.wrong(wrong.help("name the address of the other agent"));
    }
}

/// An address of this agent's own, by any interface or by one.
fn local(text: &str) -> Result<SocketAddr, Wrong> {
    match text.parse::<IpAddr>() {
        Ok(address) => units::listen(&SocketAddr::new(address, Pair::PORT).to_string()),
        Err(_) => units::listen(text),
    }
}

/// An address of the mate.
fn remote(text: &str) -> Result<SocketAddr, Wrong> {
    let address = match (text.parse::<SocketAddr>(), text.parse::<IpAddr>()) {
        (Ok(address), _) => address,
        (_, Ok(address)) => SocketAddr::new(address, Pair::PORT),
        _ => {
            let name = text.rsplit_once(':').map_or(text, |(name, _)| name);
            return Err(match units::system(name) {
                Err(wrong) => wrong,
                Ok(_) => Wrong::new("this is no address with a port")
                    .help("write it as \"192.0.2.2:19041\" or \"[2001:db8::2]:19041\""),
            });
        }
    };
    if address.port() == 0 {
        return Err(Wrong::new("port 0 can't be reached").help("19041 is the usual port"));
    }
    units::system(&address.ip().to_string())?;
    if matches!(address.ip(), IpAddr::V6(v6) if units::is_link_local(v6)) {
        return Err(Wrong::new("a link-local address is known on one link only")
            .help("give the mate's global or unique local address"));
    }
    Ok(address)
}
