//! Reads the sections of the file, one function for each, with the checks that need no host.

mod access;
mod credentials;
mod forwarding;
mod instability;
mod notifications;
mod pair;
mod peers;
mod receivers;
mod subnets;
mod topology;
mod traps;

use std::{collections::HashMap, hash::Hash, path::PathBuf, sync::Arc, time::Duration};

use credentials::Keyring;
use evenkeel_core::{settings::Settings, supervision};
pub use notifications::hears;
pub use subnets::one_peer;
use toml::{Spanned, de::DeTable};

use super::{
    Agent, Config, Journal, Places, Spool, Web,
    problem::Span,
    reader::{Reader, Table, Value},
    units::{self, Wrong},
};
use crate::web::file::{self, WebFile};

/// The longest name of an agent, a group or a notification target: names become labels of metrics
/// and columns of tables.
const LONGEST_NAME: usize = 64;

/// The longest path of a Unix socket: `sun_path` has 108 bytes, the last of which is NUL (unix(7)).
const LONGEST_SOCKET_PATH: usize = 107;

/// How long a journal can be kept: less than an hour would lose an alarm before anyone looked, and
/// ten years is longer than a network stays the same.
const JOURNAL_KEEP: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(3600)..=Duration::from_secs(3650 * 86_400);

/// How many rows a journal may be bounded to: fewer would not hold one storm, and more are some 500
/// GB.
const JOURNAL_ROWS: std::ops::RangeInclusive<i64> = 1000..=1_000_000_000;

/// How often parts can be looked at: an idle one gives a sign every 400 ms, and who looks less often than
/// every 10 s needs a minute to find a stall.
const SUPERVISION_INTERVAL: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(500)..=Duration::from_secs(10);

/// How many signs a part may miss: one is missed by a part that has much to do, and 120 are a minute at
/// least.
const SUPERVISION_MISSED: std::ops::RangeInclusive<i64> = 2..=120;

/// What a spool may be bounded to: less holds not even the burst of one source, and nobody reads what
/// lies behind more.
const SPOOL_SIZE: std::ops::RangeInclusive<u64> = 16 << 20..=1 << 40;

/// Reads the whole document. Where a value is wrong, its default stands in for it, and the reader
/// knows what was wrong.
pub fn config(reader: &Reader, document: &Spanned<DeTable<'_>>) -> Config {
    let mut root = reader.root(document);
    let agent = agent(root.table("agent"));
    let keyring = Keyring::new(reader.surroundings().master_key);
    let (traps, access) = traps::traps(root.table("traps"), &keyring);
    let instability = instability::instability(root.table("instability"));
    let (subnets, subnet_places) = subnets::subnets(root.table("subnets"));
    let (notifications, target_places) =
        notifications::notifications(root.table("notifications"), &traps.listen, &keyring);
    let forwarding = forwarding::forwarding(root.table("forwarding"), &notifications, &instability);
    let web = web(root.table("web"));
    let spool = spool(root.table("spool"));
    let journal = journal(root.table("journal"));
    let (peers, peer_places) = peers::peers(root.table("peers"));
    let supervision = supervision(root.table("supervision"));
    let (pair, pair_places) = pair::pair(root.table("pair"), &traps, &web);
    root.finish();
    let source = std::sync::Arc::clone(reader.source());
    let places = Places {
        source,
        subnets: subnet_places,
        targets: target_places,
        groups: peer_places,
        pair: pair_places,
    };
    // Who the agents are, whoever starts this one adds.
    let core = Settings { access, instability, subnets, forwarding, ..Settings::default() };
    Config {
        agent,
        traps,
        core,
        notifications,
        web,
        spool,
        journal,
        peers,
        pair,
        supervision,
        places,
    }
}

fn agent(mut table: Table<'_>) -> Agent {
    let name = table.get("name").and_then(|value| value.parse(name));
    let state_dir = table.get("state_dir").and_then(|value| value.path());
    let control_socket = table.get("control_socket").and_then(|value| socket_path(&value));
    let record = table.get("record").and_then(|value| value.path());
    let engine_id = table.get("engine_id").and_then(|value| credentials::engine_id(&value));
    table.finish();
    Agent { name, state_dir, control_socket, record, engine_id }
}

fn socket_path(value: &Value<'_>) -> Option<PathBuf> {
    let path = value.path()?;
    if path.as_os_str().len() > LONGEST_SOCKET_PATH {
        value.wrong(Wrong::new("the path of a socket can have 107 bytes at most (unix(7))"));
    }
    Some(path)
}

fn web(mut table: Table<'_>) -> Web {
    let default = Web::default();
    let enabled = table.get("enabled").and_then(|value| value.boolean());
    let listen = table.get("listen").and_then(|value| {
        value.parse(|text| match text {
            "" | "off" | "none" => Err(Wrong::new("this is no address with a port")
                .help("to have no page, write enabled = false")),
            _ => units::listen(text),
        })
    });
    let remote_reload = table.get("remote_reload").and_then(|value| value.boolean());
    let file = table.get("config_file").and_then(|value| web_file(&value));
    table.finish();
    Web {
        enabled: enabled.unwrap_or(default.enabled),
        listen: listen.unwrap_or(default.listen),
        remote_reload: remote_reload.unwrap_or(default.remote_reload),
        file,
    }
}

/// The web configuration file, read with those that it names. It holds secrets, so who only asks the
/// agent something does not read it.
fn web_file(value: &Value<'_>) -> Option<Arc<WebFile>> {
    let name = value.parse(|text| match text {
        "" => Err(Wrong::new("the name of the file is missing")
            .help("without a web configuration file, leave this out")),
        text if text.contains('\0') => Err(Wrong::new("a path can't hold a NUL byte")),
        text => Ok(PathBuf::from(text)),
    })?;
    let surroundings = value.surroundings();
    if !surroundings.secrets {
        return None;
    }
    match file::read(&surroundings.directory.join(name)) {
        Ok(file) => Some(Arc::new(file)),
        Err(what) => {
            value.wrong(Wrong::new(what));
            None
        }
    }
}

fn journal(mut table: Table<'_>) -> Journal {
    let keep = table
        .get("keep")
        .and_then(|value| duration(&value, "90d", JOURNAL_KEEP, "alarms are kept for 1h to 3650d"));
    let max_rows = table.get("max_rows").and_then(|value| {
        let rows = value.integer(JOURNAL_ROWS, "a journal has 1000 to 1000000000 rows at most")?;
        u64::try_from(rows).ok()
    });
    table.finish();
    let default = Journal::default();
    Journal { keep: keep.unwrap_or(default.keep), max_rows: max_rows.unwrap_or(default.max_rows) }
}

fn spool(mut table: Table<'_>) -> Spool {
    let max_size = table
        .get("max_size")
        .and_then(|value| size(&value, "1GiB", SPOOL_SIZE, "a spool has 16MiB to 1TiB"));
    table.finish();
    max_size.map_or_else(Spool::default, |max_size| Spool { max_size })
}

fn supervision(mut table: Table<'_>) -> supervision::Settings {
    let enabled = table.get("enabled").and_then(|value| value.boolean());
    let interval = table.get("interval").and_then(|value| {
        duration(&value, "500ms", SUPERVISION_INTERVAL, "parts are looked at every 500ms to 10s")
    });
    let missed = table.get("missed").and_then(|value| {
        let missed = value.integer(SUPERVISION_MISSED, "a part may miss 2 to 120 signs of life")?;
        u32::try_from(missed).ok()
    });
    table.finish();
    let default = supervision::Settings::default();
    supervision::Settings {
        enabled: enabled.unwrap_or(default.enabled),
        interval: interval.unwrap_or(default.interval),
        missed: missed.unwrap_or(default.missed),
    }
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

/// A duration in a range; `what` names the range.
fn duration(
    value: &Value<'_>,
    example: &str,
    range: std::ops::RangeInclusive<Duration>,
    what: &str,
) -> Option<Duration> {
    value.parse_with_unit(example, |text| {
        let duration = units::duration(text)?;
        if range.contains(&duration) { Ok(duration) } else { Err(Wrong::new(what)) }
    })
}

/// A name that fits a label: some characters, none of which steers a terminal.
fn name(text: &str) -> Result<String, Wrong> {
    let length = text.chars().count();
    if length == 0 || length > LONGEST_NAME {
        return Err(Wrong::new("a name has 1 to 64 characters"));
    }
    if text.trim() != text || text.chars().any(char::is_control) {
        return Err(Wrong::new("a name has no control characters, nor a space at its ends"));
    }
    Ok(text.to_owned())
}

/// Remembers what was given where, to refuse it the second time.
struct Unique<K> {
    seen: HashMap<K, Span>,
}

impl<K: Eq + Hash> Unique<K> {
    fn new() -> Unique<K> {
        Unique { seen: HashMap::new() }
    }

    /// Takes in a key; gives back where it was before, if it was.
    fn insert(&mut self, key: K, span: Span) -> Option<Span> {
        match self.seen.entry(key) {
            std::collections::hash_map::Entry::Occupied(entry) => Some(*entry.get()),
            std::collections::hash_map::Entry::Vacant(entry) => {
                entry.insert(span);
                None
            }
        }
    }
}
