//! The User-based Security Model of SNMPv3 (RFC 3414, RFC 3826, RFC 7860; TRAP-4).
//!
//! | file | job |
//! |---|---|
//! | `engine_id.rs` | the identity of an engine |
//! | `keys.rs` | passphrases to localised keys |
//! | `crypto.rs` | digests and ciphers with the keys of one user at one engine |
//! | `message.rs` | messages in and out |
//! | `window.rs` | one machine: is a message timely? |
//! | `engines.rs` | the bounded table of other engines |
//! | `learning.rs` | one machine: is a message of an unknown engine looked at? |
//! | `step.rs` | at which step a message was refused |
//! | `receive.rs` | puts those together: what is believed, and what is answered |

mod crypto;
pub mod engine_id;
mod engines;
pub mod keys;
mod learning;
pub mod message;
pub mod receive;
mod step;
pub mod window;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use crypto::SessionKeys;
pub use engine_id::EngineId;
pub use receive::{Opened, Refusal, ReplyTo, Usm, UsmStats};
pub use step::Step;

/// How well a message is protected (RFC 3411, 3.4.3), the weakest first.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum Level {
    /// Anyone could have written it.
    #[default]
    NoAuthNoPriv,
    /// Its sender and its content are certain, anyone can read it.
    AuthNoPriv,
    /// Only its receiver can read it.
    AuthPriv,
}

impl Level {
    /// Its name (RFC 3411, 3.4.3).
    pub const fn name(self) -> &'static str {
        match self {
            Level::NoAuthNoPriv => "noAuthNoPriv",
            Level::AuthNoPriv => "authNoPriv",
            Level::AuthPriv => "authPriv",
        }
    }
}

/// The authentication protocols: HMAC over one of these hashes (RFC 3414, section 6; RFC 7860).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum AuthProtocol {
    /// HMAC-MD5-96.
    Md5,
    /// HMAC-SHA-96.
    Sha1,
    /// HMAC-128-SHA-224.
    Sha224,
    /// HMAC-192-SHA-256.
    Sha256,
    /// HMAC-256-SHA-384.
    Sha384,
    /// HMAC-384-SHA-512.
    Sha512,
}

/// The privacy protocols (RFC 3414, section 8; RFC 3826; and for the longer keys, which no RFC has,
/// both ways in use to make a key longer).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum PrivProtocol {
    /// CBC-DES.
    Des,
    /// CFB128-AES-128.
    Aes128,
    /// CFB128-AES-192, the key made longer as Blumenthal has it (draft-blumenthal-aes-usm-04).
    Aes192,
    /// CFB128-AES-256, the same way.
    Aes256,
    /// CFB128-AES-192, the key made longer as Reeder has it (draft-reeder-snmpv3-usm-3desede), as
    /// Cisco's devices do.
    Aes192Reeder,
    /// CFB128-AES-256, the same way.
    Aes256Reeder,
}

/// Octets that nobody may see: they are in no log line, status or error, as nothing prints them.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub Vec<u8>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// A key of a user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Key {
    /// What a passphrase becomes by the hash of the user's authentication protocol: Ku (RFC 3414,
    /// A.2). It is still to be localised for each engine.
    Master(Secret),
    /// Localised for the one engine that the user is configured for: Kul (RFC 3414, 2.6). That of a
    /// privacy protocol has at least the octets that the protocol needs.
    Localised(Secret),
}

/// A user's authentication.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Auth {
    /// Which protocol.
    pub protocol: AuthProtocol,
    /// With which key.
    pub key: Key,
}

/// A user's privacy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Privacy {
    /// Which protocol.
    pub protocol: PrivProtocol,
    /// With which key, which the hash of the user's authentication protocol has made.
    pub key: Key,
}

/// Who may send traps and informs by SNMPv3 (TRAP-3, TRAP-4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The security name, 1 to 32 octets (RFC 3414, section 5). Two users may have the same name if
    /// no engine is in the lists of both, and at most one of them learns.
    pub name: Vec<u8>,
    /// Nothing for a user who sends noAuthNoPriv alone.
    pub auth: Option<Auth>,
    /// Never without `auth`.
    pub privacy: Option<Privacy>,
    /// A message below this level is refused. Never above what the user has keys for.
    pub min_level: Level,
    /// The engines whose traps this user may send. Our own is always among them, for informs.
    pub engines: Vec<EngineId>,
    /// Engines that are not listed may send traps as this user too: they are learned at first sight.
    pub learn: bool,
}

/// An engine whose system is known (TRAP-2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownEngine {
    /// The engine.
    pub id: EngineId,
    /// The system that its traps speak for, wherever they come from.
    pub system: std::net::IpAddr,
}

/// Our own engine in this run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalEngine {
    /// Its identity, the same in all runs.
    pub id: EngineId,
    /// snmpEngineBoots: how many runs there were, this one included (1 to 2147483647).
    pub boots: u32,
    /// When this run began: snmpEngineTime counts from here, in whole seconds.
    pub started: crate::time::Time,
}

/// What is remembered of another engine, so that its time never goes back (RFC 3414, 2.3): what a
/// disk or a mate keeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineRecord {
    /// Which engine.
    pub id: EngineId,
    /// Its snmpEngineBoots.
    pub boots: u32,
    /// The highest snmpEngineTime that an authentic message of it had (latestReceivedEngineTime).
    pub time: u32,
    /// How long ago that was.
    pub age: std::time::Duration,
}
