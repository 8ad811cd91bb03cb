//! The section `[notifications]`: where notifications go, and under which object identifier they
//! are defined (TRAP-10, TRAP-12).

use std::{
    net::{Ipv4Addr, SocketAddr},
    ops::RangeInclusive,
    time::Duration,
};

use evenkeel_core::{
    alarm::{Kind, Severity},
    mib::{BadRoot, RootOid},
    notification::MAX_COMMUNITY,
    sender::{Destination, SendUser, Version},
};

use super::{
    Unique,
    access::community,
    credentials::{Keyring, V3_KEYS, choice, credentials, engine_id, user_name},
    duration, name,
    receivers::receivers,
    traps::number,
};
use crate::config::{
    NotificationTarget, Notifications, Origin,
    problem::Span,
    reader::{Table, Value},
    secret::{self, Keys},
    units::{self, Wrong},
};
use crate::notifier::Target;

/// Forwarding tells targets apart by the bits of a word.
const MOST_TARGETS: usize = 64;

/// Less than a tenth of a second is less than a satellite takes; after a minute an NMS that has not
/// answered will not.
const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(60);
const RETRIES: RangeInclusive<i64> = 0..=20;
const RATE: RangeInclusive<i64> = 1..=1_000_000;
const WINDOW: RangeInclusive<i64> = 1..=1024;

/// contextName has at most 32 octets (RFC 3411, SnmpAdminString (SIZE (0..32))).
const LONGEST_CONTEXT: usize = 32;

const COMMUNITY: Keys =
    Keys { plain: "community", file: "community_file", credential: "community_credential" };

#[derive(Clone, Copy, PartialEq, Eq)]
enum VersionName {
    V1,
    V2c,
    V3,
}

const VERSIONS: [(&str, VersionName); 3] =
    [("v1", VersionName::V1), ("v2c", VersionName::V2c), ("v3", VersionName::V3)];

/// Severities by their names.
pub const SEVERITIES: [(&str, Severity); 4] = [
    (Severity::Critical.name(), Severity::Critical),
    (Severity::Major.name(), Severity::Major),
    (Severity::Minor.name(), Severity::Minor),
    (Severity::Warning.name(), Severity::Warning),
];

const ORIGINS: [(&str, Origin); 3] = [
    ("address", Origin::Address { community: false }),
    ("address-and-community", Origin::Address { community: true }),
    ("source", Origin::Source),
];

/// Reads the section, and gives back where the targets' addresses stand. `listen` is where traps
/// are received.
pub fn notifications(
    mut table: Table<'_>,
    listen: &[SocketAddr],
    keyring: &Keyring,
) -> (Notifications, Vec<Span>) {
    let default = Notifications::default();
    let root_oid = table.get("root_oid").and_then(|value| value.parse(root_oid));
    let mut names = Unique::new();
    let mut addresses = Unique::new();
    let mut targets = Vec::new();
    let mut places = Vec::new();
    for (nth, mut table) in table.tables("target").into_iter().enumerate() {
        if nth == MOST_TARGETS {
            table.wrong(
                format!("there are more than {MOST_TARGETS} targets"),
                Some("let one of them pass notifications on to the others".to_owned()),
            );
        }
        let address = table.required("address", "write address = \"192.0.2.9:162\"");
        places.push(address.as_ref().map(Value::span).unwrap_or_default());
        let address = address.and_then(|value| {
            let address = target_address(&value, listen)?;
            if let Some(there) = addresses.insert(address, value.span()) {
                let wrong = Wrong::new("two targets with one address would get everything twice");
                value.wrong_also(wrong, there, "first here");
            }
            Some(address)
        });
        let given = table.get("name").and_then(|value| {
            let name = value.parse(name)?;
            if let Some(there) = names.insert(name.clone(), value.span()) {
                value.wrong_also(Wrong::new("two targets have this name"), there, "first here");
            }
            Some(name)
        });
        // A target with a mistake stands in its place, so that rules find it.
        let address = address.unwrap_or_else(|| SocketAddr::from((Ipv4Addr::UNSPECIFIED, 162)));
        let name = given.unwrap_or_else(|| address.to_string());
        targets.push(target(table, name, address, keyring));
    }
    let receivers = receivers(&mut table, &mut names);
    table.finish();
    let root_oid = root_oid.unwrap_or(default.root_oid);
    (Notifications { root_oid, targets, receivers }, places)
}

/// All but the name and the address.
fn target(
    mut table: Table<'_>,
    name: String,
    address: SocketAddr,
    keyring: &Keyring,
) -> NotificationTarget {
    let inform_value = table.get("inform");
    let inform = inform_value.as_ref().and_then(Value::boolean).unwrap_or(false);
    let version = version(&mut table, inform, keyring);
    if let (true, Version::V1 { .. }, Some(value)) = (inform, &version, &inform_value) {
        value.wrong(
            Wrong::new("SNMPv1 has no informs (RFC 3584, 1.3)")
                .help("write version = \"v2c\" or \"v3\", or inform = false"),
        );
    }
    let timeout_value = table.get("timeout");
    let retries_value = table.get("retries");
    let window_value = table.get("window");
    for value in [&timeout_value, &retries_value, &window_value].into_iter().flatten() {
        if !inform {
            value.warn(
                Wrong::new("traps are not acknowledged, so that this does nothing")
                    .help("write inform = true, or leave it out"),
            );
        }
    }
    let timeout = timeout_value
        .and_then(|value| duration(&value, "2s", TIMEOUT, "a timeout is 100ms to 60s"));
    let retries = retries_value.and_then(|value| number(&value, RETRIES, "retries are 0 to 20"));
    let window = window_value.and_then(|value| number(&value, WINDOW, "a window is 1 to 1024"));
    let rate = table.get("rate");
    let rate = rate.and_then(|value| number(&value, RATE, "a rate is 1 to 1000000 a second"));
    let burst = table.get("burst");
    let burst = burst.and_then(|value| number(&value, RATE, "a burst is 1 to 1000000"));
    let alarms = table.get("alarms").and_then(|value| value.boolean()).unwrap_or(true);
    let kinds_value = table.get("kinds");
    let least_value = table.get("least_severity");
    for value in [&kinds_value, &least_value].into_iter().flatten() {
        if !alarms {
            value.warn(
                Wrong::new("with alarms = false, this does nothing")
                    .help("leave one of the two out"),
            );
        }
    }
    let kinds = kinds_value.as_ref().map(kinds).unwrap_or_default();
    let least_severity = least_value.and_then(|value| choice(&value, &SEVERITIES, "no severity"));
    let forward_value = table.get("forward");
    let forward = forward_value.as_ref().and_then(Value::boolean).unwrap_or(true);
    if let (false, false, Some(value)) = (alarms, forward, &forward_value) {
        value.warn(
            Wrong::new("with alarms = false too, only the agent's own start is told there")
                .help("leave the target out, or one of the two lines"),
        );
    }
    let origin_value = table.get("origin");
    let origin = origin_value.as_ref().and_then(|value| choice(value, &ORIGINS, "no origin"));
    if let (true, Some(Origin::Source), Some(value)) = (inform, origin, &origin_value) {
        value.wrong(
            Wrong::new("a trap from its original source is never acknowledged to this agent")
                .help("write origin = \"address\", or inform = false"),
        );
    }
    table.finish();
    NotificationTarget {
        name,
        address,
        destination: Destination { version, confirmed: inform },
        timeout: timeout.unwrap_or(Target::TIMEOUT),
        retries: retries.and_then(|retries| u8::try_from(retries).ok()).unwrap_or(Target::RETRIES),
        rate: rate.unwrap_or(Target::RATE),
        burst: burst.unwrap_or(Target::BURST),
        window: window.and_then(|window| u16::try_from(window).ok()).unwrap_or(Target::WINDOW),
        alarms,
        kinds,
        least_severity: least_severity.unwrap_or(Severity::Warning),
        forward,
        origin: origin.unwrap_or(Origin::Address { community: false }),
    }
}

/// The version, with what it asks for. What belongs to another version is refused: it would look as
/// if it protected something.
fn version(table: &mut Table<'_>, inform: bool, keyring: &Keyring) -> Version {
    let version_value = table.get("version");
    let named = version_value.as_ref().and_then(|value| choice(value, &VERSIONS, "no version"));
    // After a slip in the version, what belongs to it can't be judged.
    let known = named.is_some() || version_value.is_none();
    let version = named.unwrap_or(VersionName::V2c);
    let given = secret::given(table, &[COMMUNITY]);
    if version != VersionName::V3 {
        for key in V3_KEYS {
            if let Some(value) = table.get(key).filter(|_| known) {
                value.secret().wrong(
                    Wrong::new("only SNMPv3 has this")
                        .help("write version = \"v3\", or leave it out"),
                );
            }
        }
        let community = given.and_then(|given| sent_community(&given.value, given.octets?));
        let community = community.unwrap_or_else(|| b"public".to_vec());
        return match version {
            VersionName::V1 => Version::V1 { community },
            _ => Version::V2c { community },
        };
    }
    if let Some(given) = given {
        given.value.wrong(
            Wrong::new("SNMPv3 has no community")
                .help("leave it out: user and auth_passphrase take its place"),
        );
    }
    let name = table.required("user", "SNMPv3 sends as a user that the target knows");
    let name = name.and_then(|value| user_name(&value)).unwrap_or_default();
    let credentials = credentials(table, keyring);
    let context = table.get("context").and_then(|value| {
        value.parse(|text| match text.len() {
            0..=LONGEST_CONTEXT => Ok(text.as_bytes().to_vec()),
            _ => Err(Wrong::new("a context's name has 32 octets at most (RFC 3411)")),
        })
    });
    let engine_value = table.get("engine_id");
    let engine = engine_value.as_ref().and_then(engine_id);
    match (&engine_value, credentials.localised) {
        (Some(value), _) if !inform => value.wrong(
            Wrong::new("a trap has this agent's engine ID, and not the target's (RFC 3412)")
                .help("write inform = true, or leave it out"),
        ),
        (None, Some(_)) if inform => table.wrong(
            "a localised key is good for one engine, which must be named".to_owned(),
            Some("write engine_id = \"0x...\", the target's".to_owned()),
        ),
        _ => {}
    }
    Version::V3 {
        user: SendUser {
            name,
            auth: credentials.auth,
            privacy: credentials.privacy,
            level: credentials.level,
            context: context.unwrap_or_default(),
            engine,
        },
    }
}

/// The kinds of alarms that are told.
pub fn kinds(value: &Value<'_>) -> Vec<Kind> {
    if value.is_empty_list() {
        value.wrong(
            Wrong::new("no alarm is of none of the kinds")
                .help("leave it out for every kind, or write alarms = false for none"),
        );
    }
    let choices = Kind::ALL.map(|kind| (kind.name(), kind));
    let mut seen = Unique::new();
    let kinds = value.list(|element| {
        let kind = choice(element, &choices, "no kind of alarm")?;
        if let Some(there) = seen.insert(kind, element.span()) {
            element.wrong_also(Wrong::new("this is listed twice"), there, "first here");
        }
        Some(kind)
    });
    kinds.into_iter().map(|(kind, _)| kind).collect()
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
fn sent_community(value: &Value<'_>, octets: Vec<u8>) -> Option<Vec<u8>> {
    let octets = community(value, octets)?;
    if octets.len() > MAX_COMMUNITY {
        value.wrong(Wrong::new(format!(
            "a community that is sent has at most {MAX_COMMUNITY} octets"
        )));
    }
    Some(octets)
}
