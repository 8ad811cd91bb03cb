//! One notification target's side of SNMP: messages out, Responses and Reports in (TRAP-10).

mod v3;

use std::{fmt, net::Ipv4Addr};

use serde::{Deserialize, Serialize};

use crate::{
    ber::tag,
    convert,
    message::{self, version},
    notification::{AROUND_V2C, MAX_DATAGRAM},
    time::Time,
    usm::{Auth, EngineId, Level, LocalEngine, Privacy},
};
use v3::V3;

/// The most octets of a message: what UDP over IPv4 can carry.
pub const MAX_MESSAGE: usize = 65_507;

/// How a notification target is spoken to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Destination {
    /// Version and credentials.
    pub version: Version,
    /// Informs, which it acknowledges, instead of traps. Never with SNMPv1.
    pub confirmed: bool,
}

/// The version of SNMP that a notification target speaks, with what it asks for.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
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

impl fmt::Debug for Version {
    /// Without the community, as it is a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Version::V1 { community: _ } => f.write_str("V1"),
            Version::V2c { community: _ } => f.write_str("V2c"),
            Version::V3 { user } => f.debug_struct("V3").field("user", user).finish(),
        }
    }
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

/// What a notification target is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notice<'a> {
    /// The same for each repetition; what its acknowledgement is known by.
    pub request_id: i32,
    /// The varbinds, encoded one after the other: sysUpTime.0 and snmpTrapOID.0 first.
    pub varbinds: &'a [u8],
    /// Whose notification it is, for SNMPv1 and where no snmpTrapAddress.0 tells; 0.0.0.0 if that is
    /// no IPv4 address.
    pub agent_address: Ipv4Addr,
}

/// What is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outgoing {
    /// The notification.
    Message(Vec<u8>),
    /// A question for the target's engine ID, as nothing can be sent before that is known. What is
    /// heard then is [`Heard::Again`].
    Discovery(Vec<u8>),
}

/// What a datagram from a notification target says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The target has it.
    Acknowledged {
        /// What it has.
        request_id: i32,
    },
    /// The target has seen it and does not take it.
    Refused {
        /// What it does not take.
        request_id: i32,
        /// The reason that it gives.
        why: String,
    },
    /// Something about the target was learned: encode all that waits again, and send it at once.
    Again,
    /// Nothing will be taken before somebody changes a configuration. Go on trying, slowly.
    Failed {
        /// What is wrong, for the person who can change it.
        why: String,
    },
    /// It is not for us, cannot be trusted or says nothing new.
    Nothing,
}

/// Why a notification can never be sent to this target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsendable {
    /// SNMPv1 has no Counter64 (RFC 3584, 3.2).
    Counter64,
    /// It has no snmpTrapOID.0, so SNMPv1 cannot say what it is.
    NoTrapOid,
    /// Its varbinds cannot be read to their end.
    Malformed,
    /// It does not fit into a datagram.
    TooLong,
    /// The user has no key for the security level.
    NoKey,
}

impl fmt::Display for Unsendable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unsendable::Counter64 => "it has a Counter64, which SNMPv1 cannot carry",
            Unsendable::NoTrapOid => "it has no snmpTrapOID.0, which an SNMPv1 trap is made from",
            Unsendable::Malformed => "its varbinds cannot be read to their end",
            Unsendable::TooLong => "it is longer than a datagram can be",
            Unsendable::NoKey => "the user has no key for the security level",
        })
    }
}

impl std::error::Error for Unsendable {}

/// One notification target's side of SNMP. It waits for nothing and repeats nothing: that is its
/// owner's.
pub struct Session {
    confirmed: bool,
    speech: Speech,
}

/// How the target is spoken to, with what has to be remembered for it.
enum Speech {
    Community { version: u8, community: Vec<u8> },
    V3(Box<V3>),
}

impl Session {
    /// A session that has sent nothing yet. `seed` must be random: with it begin the message IDs and
    /// the salts of SNMPv3, which may not be those of an earlier session.
    pub fn new(destination: Destination, local: LocalEngine, seed: u64) -> Session {
        let Destination { version, confirmed } = destination;
        let (speech, confirmed) = match version {
            // SNMPv1 has no informs.
            Version::V1 { community } => {
                (Speech::Community { version: version::V1, community }, false)
            }
            Version::V2c { community } => {
                (Speech::Community { version: version::V2C, community }, confirmed)
            }
            Version::V3 { user } => {
                (Speech::V3(Box::new(V3::new(user, local, confirmed, seed))), confirmed)
            }
        };
        Session { confirmed, speech }
    }

    /// The datagram to send for this notice now: the message, or what must be asked first.
    ///
    /// # Errors
    ///
    /// It can never be sent to this target.
    pub fn encode(&mut self, notice: &Notice<'_>, now: Time) -> Result<Outgoing, Unsendable> {
        let outgoing = match &mut self.speech {
            Speech::Community { version: version::V1, community } => {
                let trap = convert::to_v1(notice.varbinds, notice.agent_address)?.encode();
                Outgoing::Message(message::community_message(version::V1, community, &trap))
            }
            Speech::Community { version, community } => {
                let pdu_tag = if self.confirmed { tag::INFORM } else { tag::TRAP_V2 };
                let pdu = message::pdu(pdu_tag, notice.request_id, notice.varbinds);
                Outgoing::Message(message::community_message(*version, community, &pdu))
            }
            Speech::V3(v3) => v3.encode(notice, now)?,
        };
        match &outgoing {
            Outgoing::Message(message) if message.len() > MAX_MESSAGE => Err(Unsendable::TooLong),
            Outgoing::Message(_) | Outgoing::Discovery(_) => Ok(outgoing),
        }
    }

    /// What a datagram from the target says. Who calls it has seen to it that it came from the
    /// target's address, and looks whether the request-id is one that waits.
    pub fn hear(&mut self, datagram: &[u8], now: Time) -> Heard {
        if !self.confirmed {
            return Heard::Nothing;
        }
        match &mut self.speech {
            Speech::Community { community, .. } => match message::read_response(datagram) {
                Some((its, reply)) if its == community => answer(reply),
                Some(_) | None => Heard::Nothing,
            },
            Speech::V3(v3) => v3.hear(datagram, now),
        }
    }

    /// How many octets the varbinds of a notification may have so that the datagram stays within
    /// [`MAX_DATAGRAM`]: never fewer than [`LEAST_ROOM`](crate::notification::LEAST_ROOM).
    pub fn room(&self) -> usize {
        match &self.speech {
            // An SNMPv1 trap is shorter than an SNMPv2 one with the same varbinds.
            Speech::Community { community, .. } => {
                MAX_DATAGRAM.saturating_sub(AROUND_V2C + community.len())
            }
            Speech::V3(v3) => v3.room(),
        }
    }
}

/// What a Response says that may be trusted.
fn answer(reply: message::Reply<'_>) -> Heard {
    let request_id = reply.request_id;
    match reply.error_status {
        0 => Heard::Acknowledged { request_id },
        status => Heard::Refused { request_id, why: message::error_name(status).into_owned() },
    }
}
