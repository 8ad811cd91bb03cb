//! SNMPv3 credentials: protocols and keys, in the same words for the users whose traps are taken in
//! and for the notification targets (TRAP-4, TRAP-10).

use std::{cell::RefCell, collections::HashMap};

use evenkeel_core::usm::{Auth, AuthProtocol, EngineId, Key, Level, PrivProtocol, Privacy, Secret};

use crate::config::{
    problem::Span,
    reader::{Table, Value, suggestion},
    secret::{self, Given, Keys},
    units::Wrong,
};

/// A shorter passphrase is found by trying (RFC 3414, 11.2).
const SHORTEST_PASSPHRASE: usize = 8;

/// A security name has 1 to 32 octets (RFC 3414, section 5: SnmpAdminString, SIZE(1..32)).
const LONGEST_USER: usize = 32;

/// More digits are no key of any protocol: the longest hash has 64 octets.
const LONGEST_KEY: usize = 64;

/// The two forms of a secret: which of them was given is [`Given::form`].
const AUTH: [Keys; 2] = [
    Keys {
        plain: "auth_passphrase",
        file: "auth_passphrase_file",
        credential: "auth_passphrase_credential",
    },
    Keys { plain: "auth_key", file: "auth_key_file", credential: "auth_key_credential" },
];

const PRIVACY: [Keys; 2] = [
    Keys {
        plain: "privacy_passphrase",
        file: "privacy_passphrase_file",
        credential: "privacy_passphrase_credential",
    },
    Keys { plain: "privacy_key", file: "privacy_key_file", credential: "privacy_key_credential" },
];

/// The place of a passphrase in those lists.
const PASSPHRASE: usize = 0;

/// Every key that this page reads, with that of the user's name: what only SNMPv3 has.
pub const V3_KEYS: [&str; 18] = [
    "user",
    "auth",
    "auth_passphrase",
    "auth_passphrase_file",
    "auth_passphrase_credential",
    "auth_key",
    "auth_key_file",
    "auth_key_credential",
    "privacy",
    "privacy_passphrase",
    "privacy_passphrase_file",
    "privacy_passphrase_credential",
    "privacy_key",
    "privacy_key_file",
    "privacy_key_credential",
    "level",
    "context",
    "engine_id",
];

/// The authentication protocols, by the names that devices have for them. The first name of each is
/// the one that messages use.
const AUTH_PROTOCOLS: [(&str, AuthProtocol); 7] = [
    ("MD5", AuthProtocol::Md5),
    ("SHA", AuthProtocol::Sha1),
    ("SHA-1", AuthProtocol::Sha1),
    ("SHA-224", AuthProtocol::Sha224),
    ("SHA-256", AuthProtocol::Sha256),
    ("SHA-384", AuthProtocol::Sha384),
    ("SHA-512", AuthProtocol::Sha512),
];

const PRIVACY_PROTOCOLS: [(&str, PrivProtocol); 7] = [
    ("DES", PrivProtocol::Des),
    ("AES", PrivProtocol::Aes128),
    ("AES-128", PrivProtocol::Aes128),
    ("AES-192", PrivProtocol::Aes192),
    ("AES-256", PrivProtocol::Aes256),
    ("AES-192-C", PrivProtocol::Aes192Reeder),
    ("AES-256-C", PrivProtocol::Aes256Reeder),
];

const LEVELS: [(&str, Level); 3] = [
    ("noAuthNoPriv", Level::NoAuthNoPriv),
    ("authNoPriv", Level::AuthNoPriv),
    ("authPriv", Level::AuthPriv),
];

/// The keys that were made of passphrases while one file is read, as each takes some milliseconds
/// and many users share one.
pub struct Keyring {
    master_key: fn(AuthProtocol, &[u8]) -> Secret,
    made: RefCell<HashMap<(AuthProtocol, Vec<u8>), Secret>>,
}

impl Keyring {
    /// An empty one, and how to make a key (RFC 3414, A.2).
    pub fn new(master_key: fn(AuthProtocol, &[u8]) -> Secret) -> Keyring {
        Keyring { master_key, made: RefCell::default() }
    }

    fn master(&self, protocol: AuthProtocol, passphrase: Vec<u8>) -> Secret {
        let mut made = self.made.borrow_mut();
        let key = made.entry((protocol, passphrase));
        key.or_insert_with_key(|(protocol, passphrase)| (self.master_key)(*protocol, passphrase))
            .clone()
    }
}

/// What a table says of a user's keys.
pub struct Credentials {
    /// The authentication, if there is one.
    pub auth: Option<Auth>,
    /// The privacy, never without `auth`.
    pub privacy: Option<Privacy>,
    /// The configured level, or the highest that the keys allow.
    pub level: Level,
    /// Where a localised key stands, if one is given.
    pub localised: Option<Span>,
}

/// Reads the keys that say how messages are protected.
pub fn credentials(table: &mut Table<'_>, keyring: &Keyring) -> Credentials {
    let auth_value = table.get("auth");
    let auth_secret = secret::given(table, &AUTH);
    let privacy_value = table.get("privacy");
    let privacy_secret = secret::given(table, &PRIVACY);
    let level_value = table.get("level");
    // Not so for communities, which go over the wire as they are and are often no secret at all.
    for given in [&auth_secret, &privacy_secret].into_iter().flatten() {
        given.value.warn_of_mode();
    }

    let auth_protocol = auth_value.as_ref().map(auth_protocol);
    let privacy_protocol = privacy_value.as_ref().map(privacy_protocol);
    let wants_level = level_value.as_ref().and_then(|value| choice(value, &LEVELS, "no level"));
    belong_together(
        &auth_value,
        &auth_secret,
        "auth",
        "auth = \"SHA-256\"",
        "auth_passphrase = \"...\" or auth_key = \"...\"",
    );
    belong_together(
        &privacy_value,
        &privacy_secret,
        "privacy",
        "privacy = \"AES\"",
        "privacy_passphrase = \"...\" or privacy_key = \"...\"",
    );
    let localised = [&auth_secret, &privacy_secret].into_iter().flatten();
    let localised = localised.filter(|given| given.form != PASSPHRASE);
    let localised = localised.map(|given| given.value.span()).next();
    if auth_value.is_none()
        && auth_secret.is_none()
        && let Some(value) = &privacy_value
    {
        value.wrong(
            Wrong::new("there is no privacy without authentication (RFC 3411, 3.4.3)")
                .help("give auth and its passphrase too"),
        );
    }
    // By what is there rather than by what is right, so that one mistake is told once.
    let highest = match (&auth_value, &privacy_value) {
        (Some(_), Some(_)) => Level::AuthPriv,
        (Some(_), None) => Level::AuthNoPriv,
        (None, _) => Level::NoAuthNoPriv,
    };
    if let (Some(level), Some(value)) = (wants_level, &level_value)
        && level > highest
        && !(auth_value.is_none() && (auth_secret.is_some() || privacy_value.is_some()))
        && !(privacy_value.is_none() && privacy_secret.is_some())
    {
        let lacks = match (level, highest) {
            (Level::AuthPriv, Level::AuthNoPriv) => "privacy",
            (Level::AuthPriv, _) => "auth and privacy",
            _ => "auth",
        };
        value.wrong(
            Wrong::new("the keys that are given here don't allow this level")
                .help(format!("give {lacks}, or a lower level")),
        );
    }
    let auth_protocol = auth_protocol.flatten();
    let auth = auth_secret.and_then(|given| auth_key(given, auth_protocol, keyring));
    let privacy = privacy_secret
        .and_then(|given| privacy_key(given, privacy_protocol.flatten(), auth_protocol, keyring));
    Credentials { auth, privacy, level: wants_level.unwrap_or(highest), localised }
}

/// A protocol and its secret are nothing without each other.
fn belong_together(
    protocol: &Option<Value<'_>>,
    secret: &Option<Given<'_>>,
    name: &str,
    protocol_example: &str,
    secret_example: &str,
) {
    match (protocol, secret) {
        (Some(protocol), None) => protocol.wrong(
            Wrong::new(format!("{name} needs a passphrase or a key"))
                .help(format!("write {secret_example}, or name the file that has it")),
        ),
        (None, Some(secret)) => secret.value.wrong(
            Wrong::new(format!("{name} is missing: the protocol that this is for"))
                .help(format!("write {protocol_example}, or what the device has")),
        ),
        _ => {}
    }
}

fn auth_key(given: Given<'_>, protocol: Option<AuthProtocol>, keyring: &Keyring) -> Option<Auth> {
    let octets = given.octets?;
    let octets = match given.form {
        PASSPHRASE => passphrase(&given.value, octets)?,
        _ => hexadecimal(&given.value, &octets)?,
    };
    let protocol = protocol?;
    let key = match given.form {
        PASSPHRASE => Key::Master(keyring.master(protocol, octets)),
        _ => {
            let needed = protocol.key_octets();
            if octets.len() != needed {
                given.value.wrong(wrong_length(&octets, &format!("{needed} octets")));
            }
            Key::Localised(Secret(octets))
        }
    };
    Some(Auth { protocol, key })
}

fn privacy_key(
    given: Given<'_>,
    protocol: Option<PrivProtocol>,
    auth: Option<AuthProtocol>,
    keyring: &Keyring,
) -> Option<Privacy> {
    let octets = given.octets?;
    let octets = match given.form {
        PASSPHRASE => passphrase(&given.value, octets)?,
        _ => hexadecimal(&given.value, &octets)?,
    };
    let protocol = protocol?;
    let key = match given.form {
        // RFC 3414, A.2: it is the hash of the authentication protocol that makes it.
        PASSPHRASE => Key::Master(keyring.master(auth?, octets)),
        _ => {
            // As programs print it, it may have the length of the hash that made it.
            let needed = protocol.key_octets();
            if !(needed..=LONGEST_KEY).contains(&octets.len()) {
                given.value.wrong(wrong_length(&octets, &format!("{needed} octets or more")));
            }
            Key::Localised(Secret(octets))
        }
    };
    Some(Privacy { protocol, key })
}

fn passphrase(value: &Value<'_>, octets: Vec<u8>) -> Option<Vec<u8>> {
    if octets.len() < SHORTEST_PASSPHRASE {
        value.wrong(Wrong::new("a passphrase has 8 octets at least (RFC 3414, 11.2)").help(
            "a shorter one is found by trying: give the device a longer one, or give the \
                 localised key",
        ));
        return None;
    }
    Some(octets)
}

/// The octets of a key: hexadecimal digits, as programs print them.
fn hexadecimal(value: &Value<'_>, text: &[u8]) -> Option<Vec<u8>> {
    let digits = text.strip_prefix(b"0x").or(text.strip_prefix(b"0X")).unwrap_or(text);
    let digits: Option<Vec<u8>> = digits
        .iter()
        .filter(|digit| !matches!(digit, b':' | b' ' | b'-'))
        .map(|digit| char::from(*digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0 && !digits.is_empty());
    if digits.is_none() {
        value.wrong(Wrong::new("a key is written as two hexadecimal digits for each octet").help(
            "as \"0x4f2a...\"; a passphrase is given by the key of that name, and becomes a key",
        ));
    }
    Some(digits?.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

fn wrong_length(octets: &[u8], needed: &str) -> Wrong {
    Wrong::new(format!("this key has {} octets, and its protocol needs {needed}", octets.len()))
        .help("it is the localised key that is wanted (RFC 3414, 2.6), whole")
}

fn auth_protocol(value: &Value<'_>) -> Option<AuthProtocol> {
    let protocol = choice(value, &AUTH_PROTOCOLS, "no authentication protocol")?;
    if protocol == AuthProtocol::Md5 {
        value.warn(
            Wrong::new("this works, but MD5 is the weakest of them")
                .help("use SHA-256 where the device has it (RFC 7860), or SHA"),
        );
    }
    Some(protocol)
}

fn privacy_protocol(value: &Value<'_>) -> Option<PrivProtocol> {
    let protocol = choice(value, &PRIVACY_PROTOCOLS, "no privacy protocol")?;
    if protocol == PrivProtocol::Des {
        value.warn(
            Wrong::new("this works, but a DES key can be found by trying")
                .help("use AES where the device has it (RFC 3826)"),
        );
    }
    Some(protocol)
}

/// One of some words, in upper or lower case, with hyphens or without, as manuals differ in these.
pub fn choice<T: Copy>(value: &Value<'_>, choices: &[(&str, T)], no: &str) -> Option<T> {
    let plain = |text: &str| text.replace(['-', '_', ' '], "").to_ascii_lowercase();
    value.parse(|text| {
        let found = choices.iter().find(|(name, _)| plain(name) == plain(text));
        found.map(|(_, choice)| *choice).ok_or_else(|| {
            let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
            Wrong::new(format!("this is {no} that is known here")).help(suggestion(text, &names))
        })
    })
}

/// A security name.
pub fn user_name(value: &Value<'_>) -> Option<Vec<u8>> {
    value.parse(|text| match text.len() {
        1..=LONGEST_USER => Ok(text.as_bytes().to_vec()),
        _ => Err(Wrong::new("a user's name has 1 to 32 octets (RFC 3414, section 5)")),
    })
}

/// An engine ID, as devices print it.
pub fn engine_id(value: &Value<'_>) -> Option<EngineId> {
    value.parse(|text| {
        text.parse().map_err(|bad: evenkeel_core::usm::engine_id::BadEngineId| {
            Wrong::new("this is no engine ID")
                .help(format!("{bad} (RFC 3411, section 5), as \"0x80001f8804...\""))
        })
    })
}
