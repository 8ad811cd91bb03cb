//! Which parts of a configuration file may be shown: messages quote the file's lines, and a secret
//! may be on any of them.
//!
//! What is hidden is decided before anything is read, so that no message can forget it. It is
//! everything but what is known to be harmless: a value is shown only if its key is one of
//! [`PUBLIC`], as a secret under a misspelled key is a secret still. Of a file that is no TOML the
//! structure is a guess, and so each line is judged by its words, on the side of hiding too much.

use toml::de::{DeTable, DeValue};

use super::problem::Span;

/// The keys whose values anyone may see. `name` is not among them, as that of a community is the
/// secret; nor are `auth` and `privacy`, where a passphrase may stand by mistake.
const PUBLIC: &[&str] = &[
    "address",
    "addresses",
    "agent",
    "alarms",
    "burst",
    "context",
    "control_socket",
    "disabled",
    "during_unstable",
    "enabled",
    "engine_id",
    "engines",
    "failback",
    "failback_after",
    "failover_limit",
    "files",
    "forward",
    "forwarders",
    "forwarding",
    "groups",
    "heartbeat",
    "heartbeat_batch",
    "id",
    "if_alias",
    "if_descr",
    "if_index",
    "if_name",
    "if_type",
    "in_a_row",
    "inform",
    "instability",
    "interface",
    "interface_down",
    "interfaces",
    "interval",
    "journal",
    "keep",
    "kinds",
    "learn",
    "least_severity",
    "level",
    "licence_missed",
    "listen",
    "local",
    "mate",
    "mate_timeout",
    "max_engines",
    "max_objects",
    "max_retransmissions",
    "max_rows",
    "max_size",
    "max_sources",
    "max_takeovers",
    "max_waiting",
    "metrics",
    "missed",
    "monitor",
    "monitor_max_peers",
    "origin",
    "pair",
    "path",
    "peers",
    "poll_interval",
    "polling_targets",
    "prefix",
    "primary_interface",
    "priority",
    "rate",
    "receive_buffer",
    "record",
    "recovery_count",
    "require",
    "retransmission_batch",
    "retries",
    "root_oid",
    "size",
    "slot",
    "source_burst",
    "source_rate",
    "sources",
    "spool",
    "standby_interface",
    "state_dir",
    "states",
    "subnets",
    "supervision",
    "system",
    "systems",
    "takeover_period",
    "targets",
    "threshold",
    "timeout",
    "topology_files",
    "traps",
    "user",
    "version",
    "wait_for",
    "watch_gateways",
    "web",
    "window",
    "witnesses",
];

/// The tables whose `name` anyone may see.
const NAMED: &[&str] = &["agent", "group", "target", "user"];

/// What a line is hidden for, whatever else it holds, where its meaning is a guess.
const TELLTALES: &[&str] = &["pass", "secret", "community", "_key", "credential"];

/// How much of a hidden part is shown as hidden.
pub const MASK: &str = "***";

/// What to hide of a document: the values that are not known to be harmless, and the comments that
/// may hold one.
pub fn of_document(text: &str, document: &DeTable<'_>) -> Vec<Span> {
    let mut leaves = Leaves { hidden: Vec::new(), shown: Vec::new() };
    leaves.table("", document, false);
    let Leaves { mut hidden, shown } = leaves;
    hidden.sort();
    let mut values: Vec<Span> = hidden.iter().chain(&shown).copied().collect();
    values.sort();
    let mut comments = Vec::new();
    let mut next = 0;
    for (start, line) in lines(text) {
        // The first # that is in no value begins a comment.
        let comment = line.match_indices('#').map(|(at, _)| start + at).find(|at| {
            while values.get(next).is_some_and(|value| value.end <= *at) {
                next += 1;
            }
            values.get(next).is_none_or(|value| *at < value.start)
        });
        let Some(at) = comment else { continue };
        // What is said of a hidden value is hidden with it.
        let after = hidden.partition_point(|value| value.end < start);
        let beside = hidden.get(after).is_some_and(|value| value.start < at);
        let end = start + line.len();
        if let Some(from) = if beside { Some(0) } else { hidden_from("", &text[at..end]).0 } {
            comments.push((at + from..end).into());
        }
    }
    hidden.append(&mut comments);
    hidden
}

struct Leaves {
    hidden: Vec<Span>,
    shown: Vec<Span>,
}

impl Leaves {
    fn table(&mut self, name: &str, table: &DeTable<'_>, secret: bool) {
        for (key, value) in table {
            let key: &str = key.get_ref();
            self.value(name, key, value, secret);
        }
    }

    fn value(&mut self, table: &str, key: &str, value: &toml::Spanned<DeValue<'_>>, secret: bool) {
        match value.get_ref() {
            DeValue::Table(inner) => self.table(key, inner, secret || has_telltale_key(key)),
            DeValue::Array(elements) => {
                for element in elements {
                    self.value(table, key, element, secret);
                }
            }
            leaf => {
                let text = if let DeValue::String(text) = leaf { text } else { "" };
                let empty = matches!(leaf, DeValue::String(text) if text.is_empty());
                let shown = empty || !secret && may_show(table, key, text);
                let list = if shown { &mut self.shown } else { &mut self.hidden };
                list.push(value.span().into());
            }
        }
    }
}

/// Whether a key is one that holds a secret, so that a table under it is a mistake which may hold one
/// too. `community` is also the name of a list of tables.
fn has_telltale_key(key: &str) -> bool {
    key != "community" && TELLTALES.iter().any(|word| key.contains(word))
}

/// Whether the value of this key in this table may be shown.
fn may_show(table: &str, key: &str, value: &str) -> bool {
    match key {
        "name" => NAMED.contains(&table),
        // An address of a group of peers; elsewhere a slip of the pen.
        "source" => table == "group",
        // They become labels of metrics.
        _ if table == "labels" => !has_telltale(key),
        "auth" | "privacy" => is_protocol(value),
        // A bare word may be the secret itself, put behind the wrong key.
        _ if key.ends_with("_file") => value.contains(['/', '.']),
        _ if key.ends_with("_credential") => value.contains(['/', '.', '-', '_']),
        _ => PUBLIC.contains(&key),
    }
}

/// Whether a value looks like the name of a protocol: of the words that such names are made of, and
/// of numbers.
fn is_protocol(value: &str) -> bool {
    const WORDS: [&str; 10] =
        ["hmac", "md", "sha", "3des", "des", "ede", "aes", "cfb", "cbc", "none"];
    let value = value.to_ascii_lowercase();
    let mut rest = match WORDS.iter().find_map(|word| value.strip_prefix(word)) {
        Some(rest) if value.len() <= 16 => rest,
        _ => return false,
    };
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let word = WORDS.iter().chain(&["-", "_", " ", "c", "b"]);
        rest = match word.copied().find_map(|word| rest.strip_prefix(word)) {
            // A longer number is part of no such name.
            _ if (1..=3).contains(&number) => &rest[number..],
            Some(rest) => rest,
            None => return false,
        };
    }
    true
}

/// What to hide of a text that is no TOML.
pub fn of_text(text: &str) -> Vec<Span> {
    let mut hidden = Vec::new();
    let mut table = String::new();
    // Whether what follows belongs to a value that is hidden.
    let mut inside = false;
    let mut in_long_string = false;
    for (start, line) in lines(text) {
        let end = start + line.len();
        if in_long_string {
            hidden.push(Span { start, end });
            continue;
        }
        let indent = line.len() - line.trim_start().len();
        let rest = &line[indent..];
        let from = if rest.is_empty() {
            None
        } else if rest.starts_with('#') {
            // It may be of a string that was never closed, and the next line may be its own.
            let from = if inside { Some(0) } else { hidden_from("", rest).0 };
            inside = from.is_some();
            from
        } else if let Some((name, length)) = heading(rest) {
            table = name;
            inside = false;
            let behind = rest[length..].trim();
            (!behind.is_empty()).then_some(length)
        } else {
            let (from, continues) = hidden_from(&table, rest);
            // What has no key of its own belongs to the one before.
            let from = if continues && inside { Some(0) } else { from };
            inside = from.is_some();
            from
        };
        let Some(from) = from else { continue };
        hidden.push((start + indent + from..end).into());
        // Where a long string ends can't be known of a text that is no TOML, so all that follows may
        // be of it, even what looks like a key.
        let opens = |sign: &&str| rest[from..].matches(*sign).count() % 2 == 1;
        in_long_string = ["\"\"\"", "'''"].iter().any(opens);
    }
    hidden
}

/// The last part of the name in a line such as `[[traps.user]]`, and the length of that.
fn heading(line: &str) -> Option<(String, usize)> {
    let inner = line.trim_start_matches('[');
    let opened = line.len() - inner.len();
    let inner_trimmed = inner.trim_start();
    if !(1..=2).contains(&opened) || !inner_trimmed.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return None;
    }
    let name_end = inner.find(|c: char| !is_key(c) && c != '.' && c != ' ').unwrap_or(inner.len());
    let name = inner[..name_end].rsplit('.').next().unwrap_or_default().trim().to_owned();
    let closed = inner[name_end..].len() - inner[name_end..].trim_start_matches(']').len();
    Some((name, opened + name_end + closed))
}

/// From where on a line (or a comment) is to be hidden, if it is; and whether it goes on with what the
/// line before it began, as it has no key of its own.
fn hidden_from(table: &str, line: &str) -> (Option<usize>, bool) {
    let sign = match line.starts_with('#') {
        true => line.len() - line.trim_start_matches(['#', ' ', '\t']).len(),
        false => 0,
    };
    let content = &line[sign..];
    if !content.contains('=') {
        let word = content.find(|c| !is_key(c)).unwrap_or(content.len());
        let from = match () {
            () if has_telltale(content) => Some(0),
            // A key that has lost its =, or a value that has lost its quotes.
            () if sign == 0 && content.starts_with(char::is_alphabetic) => {
                Some(if PUBLIC.contains(&&content[..word]) { word } else { 0 })
            }
            () => None,
        };
        return (from.filter(|from| *from < content.len()).map(|from| sign + from), true);
    }
    let mut table = table.to_owned();
    let mut after = 0;
    for (at, _) in content.match_indices('=') {
        let before = content[after..at].trim_end();
        let key = before.rsplit(|c| !is_key(c)).next().unwrap_or_default();
        let prefix = &before[..before.len() - key.len()];
        let first = after == 0;
        if !first && before.is_empty() {
            // "==" is one slip.
            after = at + 1;
            continue;
        }
        if first {
            // The first key stands alone, but for the names of tables before it.
            if key.is_empty() || !prefix.chars().all(|c| is_key(c) || c == '.') {
                return (Some(sign), true);
            }
            if let Some(name) = prefix.trim_end_matches('.').rsplit('.').next()
                && !name.is_empty()
            {
                table = name.to_owned();
            }
        }
        let value = content[at + 1..].trim_start();
        let text = value.trim_start_matches(['"', '\'']);
        let text = &text[..text.find(['"', '\'']).unwrap_or(text.len())];
        if !may_show(&table, key, text) || has_telltale(key) {
            return (Some(line.len() - value.len()), false);
        }
        // The keys of an inline table are those of a table of this name.
        if value.starts_with(['{', '[']) {
            table = key.to_owned();
        }
        after = at + 1;
    }
    (has_telltale(&content[after..]).then_some(sign + after), false)
}

fn has_telltale(text: &str) -> bool {
    let text = text.to_lowercase();
    TELLTALES.iter().any(|word| text.contains(word))
}

fn is_key(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '-'
}

/// Each line without its end, and where it starts.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.split_inclusive('\n').scan(0, |next, line| {
        let start = *next;
        *next += line.len();
        Some((start, line.trim_end_matches(['\n', '\r'])))
    })
}
