//! One notification target's side of SNMP: messages out, Responses and Reports in (TRAP-10).

use serde::{Deserialize, Serialize};

use crate::usm::{Auth, EngineId, Level, Privacy};

/// How a notification target is spoken to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Destination {
    /// Version and credentials.
    pub version: Version,
    /// Informs, which it acknowledges, instead of traps. Never with SNMPv1.
    pub confirmed: bool,
}

/// The version of SNMP that a notification target speaks, with what it asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Version {
    /// SNMPv1: Trap-PDUs (RFC 1157; RFC 3584, 3.2).
    V1 {
        /// The community, at most 64 octets.
        community: Vec<u8>,
    },
    /// SNMPv2c (RFC 1901).
    V2c {
        /// The community, at most 64 octets.
        community: Vec<u8>,
    },
    /// SNMPv3 with USM. For traps our own engine is authoritative, for informs the target's.
    V3 {
        /// As whom.
        user: SendUser,
    },
}

/// As whom notifications are sent by SNMPv3.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendUser {
    /// The security name, 1 to 32 octets.
    pub name: Vec<u8>,
    /// There for `AuthNoPriv` and `AuthPriv`.
    pub auth: Option<Auth>,
    /// There for `AuthPriv`.
    pub privacy: Option<Privacy>,
    /// How the messages are protected.
    pub level: Level,
    /// contextName, at most 32 octets; mostly empty.
    pub context: Vec<u8>,
    /// The target's engine, for informs; discovered if it is not given.
    pub engine: Option<EngineId>,
}
