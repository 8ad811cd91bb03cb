//! The section `[peers]`: who is watched by heartbeat, and how (PEER-1 to PEER-8, PEER-13).
//!
//! Whether the batches can carry the peers is asked once, when every value has been read, so that the
//! order of the settings makes no difference (PEER-8).

use std::{collections::HashMap, net::IpAddr, num::NonZeroU8, ops::RangeInclusive};

use evenkeel_core::peers::{
    budget,
    roster::Labels,
    settings::{Batch, Batches, Group, Heartbeat, Settings},
};

use super::{
    Unique,
    credentials::choice,
    duration, name, size,
    traps::{RECEIVE_BUFFER, RECEIVE_BUFFER_TEXT, number},
};
use crate::{
    config::{
        GroupSources, PeerGroupOrigin, PeerMetrics, Peers,
        problem::Span,
        reader::{Table, Value},
        units::{self, Wrong},
    },
    files::FilePattern,
    peers::file_sd,
};

/// Each group has some fifty series of its own, most of them the buckets of its round-trip times.
const MOST_GROUPS: usize = 1000;

/// As many as the largest batches could ask in an hour, and more, take a gigabyte.
const LIMITS: RangeInclusive<i64> = 1..=10_000_000;
const LIMIT_TEXT: &str = "the number of peers is 1 to 10000000";

const HEARTBEATS: [(&str, Heartbeat); 2] =
    [("echo", Heartbeat::Echo), ("pmipv6", Heartbeat::ProxyMobile)];

const METRICS: [(&str, PeerMetrics); 3] =
    [("none", PeerMetrics::None), ("state", PeerMetrics::State), ("full", PeerMetrics::Full)];

/// Reads the section, and gives back where the values of each group stand.
pub fn peers(mut table: Table<'_>) -> (Peers, Vec<PeerGroupOrigin>) {
    let errors = table.errors();
    let default = Peers::default();
    let limit = table.get("monitor_max_peers").and_then(|value| number(&value, LIMITS, LIMIT_TEXT));
    let batches = Batches {
        heartbeat: batch(table.table("heartbeat_batch"), Batches::DEFAULT.heartbeat, "200ms"),
        retransmission: batch(
            table.table("retransmission_batch"),
            Batches::DEFAULT.retransmission,
            "100ms",
        ),
    };
    let receive_buffer = table
        .get("receive_buffer")
        .and_then(|value| size(&value, "4MiB", RECEIVE_BUFFER, RECEIVE_BUFFER_TEXT));
    let metrics =
        table.get("metrics").and_then(|value| choice(&value, &METRICS, "no choice of series"));
    let mut reading = Reading {
        limit: limit.unwrap_or(Group::DEFAULT_LIMIT),
        names: Unique::new(),
        listed: HashMap::new(),
    };
    let (mut groups, mut sources, mut origins) = (Vec::new(), Vec::new(), Vec::new());
    let mut tables = table.tables("group");
    for (nth, table) in tables.iter_mut().enumerate() {
        if nth == MOST_GROUPS {
            table.wrong(
                format!("there are more than {MOST_GROUPS} groups"),
                Some(
                    "a group is for peers with the same settings; labels tell them apart"
                        .to_owned(),
                ),
            );
            break;
        }
        let (group, source, origin) = reading.group(table);
        groups.push(group);
        sources.push(source);
        origins.push(origin);
    }
    let settings = Settings { batches, groups };
    // A sum over what stands in for a mistake would say nothing.
    if table.errors() == errors
        && let Err(overrun) = budget::check(&settings)
        && let Some(table) = tables.get(usize::from(overrun.group))
    {
        table.wrong(overrun.message, Some(overrun.help));
    }
    tables.into_iter().for_each(Table::finish);
    table.finish();
    let peers = Peers {
        settings,
        sources,
        receive_buffer: receive_buffer.unwrap_or(default.receive_buffer),
        metrics: metrics.unwrap_or(default.metrics),
    };
    (peers, origins)
}

fn batch(mut table: Table<'_>, default: Batch, example: &str) -> Batch {
    let sizes = i64::from(*Batch::SIZES.start())..=i64::from(*Batch::SIZES.end());
    let size = table
        .get("size")
        .and_then(|value| number(&value, sizes, "a batch has 1 to 200000 requests"));
    let interval = table.get("interval").and_then(|value| {
        duration(&value, example, Batch::INTERVALS, "the interval of batches is 1ms to 1s")
    });
    table.finish();
    Batch {
        size: size.and_then(|size| size.try_into().ok()).unwrap_or(default.size),
        interval: interval.unwrap_or(default.interval),
    }
}

/// What groups share while they are read.
struct Reading {
    limit: u32,
    names: Unique<String>,
    /// Which group lists a peer, and where.
    listed: HashMap<IpAddr, (String, Span)>,
}

impl Reading {
    fn group(&mut self, table: &mut Table<'_>) -> (Group, GroupSources, PeerGroupOrigin) {
        let name_value = table.required("name", "metrics and alarms call the group by it");
        let name = name_value.as_ref().and_then(|value| {
            let name = value.parse(name)?;
            if let Some(there) = self.names.insert(name.clone(), value.span()) {
                value.wrong_also(Wrong::new("two groups have this name"), there, "first here");
            }
            Some(name)
        });
        let mut group = settings(table, Group::named(&name.unwrap_or_default()), self.limit);
        let sources = table.get("source").map(|value| source(&value, &mut group));
        let enabled = table.get("enabled").and_then(|value| value.boolean()).unwrap_or(true);
        let peers_value = table.get("peers");
        let peers = peers_value.as_ref().map(|value| self.peers(value, &group.name));
        let disabled_value = table.get("disabled");
        let labels_value = table.get("labels");
        let labels = labels(table.table("labels"));
        let files_value = table.get("files");
        let files = files_value.as_ref().map(files).unwrap_or_default();
        let (files, file_spans): (Vec<_>, Vec<_>) = files.into_iter().unzip();
        let peers = peers.unwrap_or_default();
        let has_files = files_value.is_some_and(|value| value.length() > 0);
        let disabled = disabled_value.map(|value| disabled(&value, &peers, has_files));
        let none_listed = peers_value.as_ref().is_none_or(|value| value.length() == 0);
        if let (true, Some(value)) = (none_listed, &labels_value) {
            value.warn(
                Wrong::new("no peer is listed here that could have these labels")
                    .help("peers of files have the labels that stand beside them"),
            );
        }
        if none_listed && !has_files {
            table.warn(
                "there is nobody in this group".to_owned(),
                Some("give peers = [\"...\"], or files = [\"...\"] that name them".to_owned()),
            );
        }
        let origin = PeerGroupOrigin {
            name: name_value.map(|value| value.span()).unwrap_or_default(),
            sources: sources.unwrap_or_default(),
            files: file_spans,
        };
        let disabled = disabled.unwrap_or_default();
        (group, GroupSources { peers, disabled, enabled, labels, files }, origin)
    }

    /// The peers that a group lists. To be listed by two groups is allowed (PEER-7), and told once for
    /// each group.
    fn peers(&mut self, value: &Value<'_>, group: &str) -> Vec<IpAddr> {
        let mut seen = Unique::new();
        let mut elsewhere: Option<(usize, IpAddr, String, Span)> = None;
        let peers = value.list(|element| {
            let peer = element.parse(units::peer)?;
            if let Some(there) = seen.insert(peer, element.span()) {
                element.wrong_also(Wrong::new("this peer is listed twice"), there, "first here");
            } else if let Some((first, there)) = self.listed.get(&peer) {
                match &mut elsewhere {
                    Some((more, ..)) => *more += 1,
                    None => elsewhere = Some((0, peer, first.clone(), *there)),
                }
            } else {
                self.listed.insert(peer, (group.to_owned(), element.span()));
            }
            Some(peer)
        });
        if let Some((more, peer, first, there)) = elsewhere {
            let others = match more {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            value.warn_also(
                Wrong::new(format!(
                    "{peer}{others} stand in an earlier group, whose settings hold (PEER-7): {first:?}"
                ))
                .help("leave them out of one of the two"),
                there,
                "first here",
            );
        }
        peers.into_iter().map(|(peer, _)| peer).collect()
    }
}

/// The settings of a group (PEER-8).
fn settings(table: &mut Table<'_>, default: Group, limit: u32) -> Group {
    let kind = table
        .get("heartbeat")
        .and_then(|value| choice(&value, &HEARTBEATS, "no kind of heartbeat"));
    let interval = table.get("interval").and_then(|value| {
        duration(&value, "60s", Group::INTERVALS, "a heartbeat interval is 1s to 3600s (PEER-8)")
    });
    let timeout = table.get("timeout").and_then(|value| {
        let what = "a retransmission timeout is 100ms to 20s (PEER-8)";
        duration(&value, "3s", Group::TIMEOUTS, what)
    });
    let max_retransmissions = table.get("max_retransmissions").and_then(|value| {
        small(&value, Group::MAX_RETRANSMISSIONS, "max_retransmissions is 1 to 15 (PEER-8)")
    });
    let recovery_count = table
        .get("recovery_count")
        .and_then(|value| small(&value, Group::RECOVERY_COUNTS, "a recovery count is 1 to 15"));
    let own_limit =
        table.get("monitor_max_peers").and_then(|value| number(&value, LIMITS, LIMIT_TEXT));
    Group {
        kind: kind.unwrap_or(default.kind),
        interval: interval.unwrap_or(default.interval),
        timeout: timeout.unwrap_or(default.timeout),
        max_retransmissions: max_retransmissions.unwrap_or(default.max_retransmissions),
        recovery_count: recovery_count.unwrap_or(default.recovery_count),
        limit: own_limit.unwrap_or(limit),
        ..default
    }
}

/// A number that is small and not zero.
fn small(value: &Value<'_>, range: RangeInclusive<u8>, what: &str) -> Option<NonZeroU8> {
    let number = value.integer(i64::from(*range.start())..=i64::from(*range.end()), what)?;
    u8::try_from(number).ok().and_then(NonZeroU8::new)
}

/// The source addresses, one of each family.
fn source(value: &Value<'_>, group: &mut Group) -> Vec<(IpAddr, Span)> {
    let mut families = Unique::new();
    value.list(|element| {
        let address = element.parse(units::peer)?;
        if let Some(there) = families.insert(address.is_ipv4(), element.span()) {
            let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
            let wrong = Wrong::new(format!("requests by {family} have one source address"))
                .help("peers that are asked from another one make a group of their own");
            element.wrong_also(wrong, there, "first here");
            return None;
        }
        match address {
            IpAddr::V4(address) => group.source_v4 = Some(address),
            IpAddr::V6(address) => group.source_v6 = Some(address),
        }
        Some(address)
    })
}

/// Those of a group's peers that are not asked.
fn disabled(value: &Value<'_>, peers: &[IpAddr], has_files: bool) -> Vec<IpAddr> {
    let mut seen = Unique::new();
    let listed: std::collections::HashSet<&IpAddr> = peers.iter().collect();
    let disabled = value.list(|element| {
        let peer = element.parse(units::peer)?;
        if let Some(there) = seen.insert(peer, element.span()) {
            element.wrong_also(Wrong::new("this peer is listed twice"), there, "first here");
        }
        // Who stands in the files can't be told here.
        if !has_files && !listed.contains(&peer) {
            element
                .warn(Wrong::new("this is none of the group's peers").help("list it in peers too"));
        }
        Some(peer)
    });
    disabled.into_iter().map(|(peer, _)| peer).collect()
}

/// The labels of those who are listed.
fn labels(table: Table<'_>) -> Labels {
    let mut labels = Vec::new();
    let mut last = None;
    for (name, value) in table.into_entries() {
        if let Some(text) = value.parse(|text| {
            file_sd::label(&name, text)?;
            Ok(text.to_owned())
        }) {
            labels.push((name, text));
        }
        last = Some(value);
    }
    match (file_sd::label_set(labels), last) {
        (Ok(labels), _) => labels,
        (Err(wrong), Some(last)) => {
            last.wrong(wrong);
            Labels::default()
        }
        (Err(_), None) => Labels::default(),
    }
}

fn files(value: &Value<'_>) -> Vec<(FilePattern, Span)> {
    let mut seen = Unique::new();
    value.list(|element| {
        let base = &element.surroundings().directory;
        let pattern = element.parse(|text| file_sd::pattern(base, text))?;
        if let Some(there) = seen.insert(pattern.clone(), element.span()) {
            element.wrong_also(Wrong::new("this file is listed twice"), there, "first here");
        }
        Some(pattern)
    })
}
