//! The tables `[[notifications.webhook]]`, `[[notifications.syslog]]` and `[[notifications.alertmanager]]`:
//! who is told alarms beside the notification targets.

use std::{
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    time::Duration,
};

use evenkeel_core::{alarm::Severity, usm::Secret};

use super::{
    Unique,
    credentials::choice,
    duration, name,
    notifications::{SEVERITIES, kinds},
};
use crate::{
    config::{
        reader::{Table, Value},
        secret::{self, Keys},
        units::{self, Wrong},
    },
    notifier::Filter,
    receivers::{Endpoint, Form, Receiver, Transport},
};

/// Each has a task, and a cursor in the journal.
const MOST: usize = 32;

/// Shorter than a tenth of a second is no round trip; after a minute a server that has not answered will not.
const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(60);

/// A key that is shorter than the hash's block is padded, one of eight octets can be guessed (RFC 2104, 3).
const SHORTEST_SECRET: usize = 16;

const SECRET: Keys = Keys { plain: "secret", file: "secret_file", credential: "secret_credential" };

const TOKEN: Keys = Keys {
    plain: "bearer_token",
    file: "bearer_token_file",
    credential: "bearer_token_credential",
};

const TRANSPORTS: [(&str, Transport); 2] = [("udp", Transport::Udp), ("tcp", Transport::Tcp)];

/// RFC 5424, table 1, with the names that syslog.conf(5) has.
const FACILITIES: [(&str, u8); 11] = [
    ("user", 1),
    ("daemon", 3),
    ("syslog", 5),
    ("local0", 16),
    ("local1", 17),
    ("local2", 18),
    ("local3", 19),
    ("local4", 20),
    ("local5", 21),
    ("local6", 22),
    ("local7", 23),
];

/// Reads the tables. `names` has those of the notification targets.
pub fn receivers<'a>(table: &mut Table<'a>, names: &mut Unique<String>) -> Vec<Receiver> {
    type Read = for<'a> fn(&mut Table<'a>) -> Option<Form>;
    let forms: [(&'static str, Read); 3] =
        [("webhook", webhook), ("syslog", syslog), ("alertmanager", alertmanager)];
    let mut receivers = Vec::new();
    for (key, form) in forms {
        for mut table in table.tables(key) {
            if receivers.len() == MOST {
                table.wrong(format!("there are more than {MOST} webhooks and the like"), None);
            }
            receivers.extend(receiver(&mut table, form, names));
            table.finish();
        }
    }
    receivers
}

fn receiver<'a>(
    table: &mut Table<'a>,
    form: fn(&mut Table<'a>) -> Option<Form>,
    names: &mut Unique<String>,
) -> Option<Receiver> {
    let given = table.required("name", "its place in the journal is kept under its name");
    let given = given.and_then(|value| {
        let name = value.parse(name)?;
        if let Some(there) = names.insert(name.clone(), value.span()) {
            let wrong = Wrong::new("two that alarms are told to have this name");
            value.wrong_also(wrong, there, "first here");
        }
        Some(name)
    });
    let kinds = table.get("kinds").as_ref().map(kinds).unwrap_or_default();
    let least = table.get("least_severity");
    let least = least.and_then(|value| choice(&value, &SEVERITIES, "no severity"));
    let timeout = table
        .get("timeout")
        .and_then(|value| duration(&value, "10s", TIMEOUT, "a timeout is 100ms to 60s"));
    let form = form(table);
    Some(Receiver {
        name: given?,
        form: form?,
        filter: Filter { alarms: true, kinds, least: least.unwrap_or(Severity::Warning) },
        timeout: timeout.unwrap_or(Receiver::TIMEOUT),
    })
}

fn webhook(table: &mut Table<'_>) -> Option<Form> {
    let endpoint = endpoint(table, "write url = \"https://hooks.example.net/evenkeel\"");
    let secret = secret::given(table, &[SECRET]).and_then(|given| {
        let octets = given.octets?;
        if octets.len() < SHORTEST_SECRET {
            given.value.wrong(
                Wrong::new("a secret of less than 16 characters can be guessed")
                    .help("make one by: openssl rand -hex 32"),
            );
        }
        Some(Secret(octets))
    });
    Some(Form::Webhook { endpoint: endpoint?, secret })
}

fn alertmanager(table: &mut Table<'_>) -> Option<Form> {
    let endpoint = endpoint(table, "write url = \"http://192.0.2.3:9093\"")?;
    Some(Form::Alertmanager { endpoint })
}

fn syslog(table: &mut Table<'_>) -> Option<Form> {
    let address = table.required("address", "write address = \"192.0.2.9:514\"");
    let address = address.and_then(|value| value.parse(syslog_address));
    let transport = table.get("transport");
    let transport = transport.and_then(|value| choice(&value, &TRANSPORTS, "no transport"));
    let facility = table.get("facility");
    let facility = facility.and_then(|value| choice(&value, &FACILITIES, "no facility"));
    Some(Form::Syslog {
        address: address?,
        transport: transport.unwrap_or(Transport::Udp),
        // What a site has left for its own.
        facility: facility.unwrap_or(16),
    })
}

/// An address; port 514 (RFC 5426, 3.3) unless it is named.
fn syslog_address(text: &str) -> Result<SocketAddr, Wrong> {
    let text = match text.parse::<IpAddr>() {
        Ok(ip) => SocketAddr::new(ip, 514).to_string(),
        Err(_) => text.to_owned(),
    };
    units::notification_address(&text)
}

fn endpoint(table: &mut Table<'_>, example: &str) -> Option<Endpoint> {
    let url = table.required("url", example).and_then(|value| url(value.secret()));
    let token = secret::given(table, &[TOKEN]).and_then(|given| {
        let octets = given.octets?;
        // RFC 6750, 2.1.
        let fits = |octet: &u8| octet.is_ascii_alphanumeric() || b"-._~+/=".contains(octet);
        if octets.is_empty() || !octets.iter().all(fits) {
            given.value.wrong(Wrong::new("this is no bearer token (RFC 6750, 2.1)"));
            return None;
        }
        String::from_utf8(octets).ok()
    });
    let ca_file = table.get("ca_file").and_then(|value| {
        let path = value.path()?;
        Some(value.surroundings().directory.join(path))
    });
    Some(Endpoint { url: url?, bearer_token: token, ca_file })
}

fn url(value: Value<'_>) -> Option<String> {
    value.parse(|text| {
        let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
        let Some(rest) = rest else {
            return Err(Wrong::new("this is no URL that begins with http:// or https://"));
        };
        if rest.is_empty() || rest.starts_with('/') {
            return Err(Wrong::new("the URL has no host"));
        }
        if text.chars().any(|char| char.is_control() || char.is_whitespace()) {
            return Err(Wrong::new("a URL has no spaces and no control characters (RFC 3986)"));
        }
        text.parse::<ureq::http::Uri>()
            .map(|_| text.to_owned())
            .map_err(|error| Wrong::new(format!("this is no URL: {error}")))
    })
}
