//! The messages of Proxy Mobile IPv6 heartbeats (RFC 5847; PEER-15): octets to messages and back.
//!
//! ```text
//!  0               1               2               3
//!  +---------------+---------------+---------------+---------------+
//!  | Payload Proto |  Header Len   |    MH Type    |   Reserved    |   RFC 6275, 6.1.1
//!  +---------------+---------------+---------------+---------------+
//!  |           Checksum            |        Reserved           |U|R|   RFC 5847, 3.3
//!  +---------------+---------------+---------------+---------------+
//!  |                        Sequence Number                        |
//!  +---------------+---------------+---------------+---------------+
//!  | Mobility Options: Pad1, PadN, Restart Counter (28), ...       |   RFC 6275, 6.2; RFC 5847, 3.4
//!  +---------------------------------------------------------------+
//! ```
//!
//! Over IPv6 this is the payload of protocol 135, with a checksum over it and the pseudo-header
//! (RFC 6275, 6.1.1). Over IPv4 it is the payload of UDP port 5436 (RFC 5844), whose own checksum
//! covers it; the checksum field is sent as zero and not looked at. Nothing here allocates.
//!
//! Tolerant in what a sender may choose: reserved bits, the order and the alignment of options,
//! options that we do not know (RFC 6275, 6.2.1: skipped), octets behind the header (RFC 8200, 4.7).
//! Strict in all else.

use std::net::Ipv6Addr;

use super::Discard;

/// The number of the Mobility Header among the protocols of IPv6 (RFC 6275, 6.1.1).
pub const PROTOCOL: u8 = 135;
/// The UDP port of the Mobility Header over IPv4, at both ends (RFC 5844).
pub const PORT: u16 = 5436;
/// Where its checksum is, for a kernel that fills it in.
pub const CHECKSUM_AT: usize = 4;
/// The octets of the longest message that is built here.
pub const MOST: usize = 24;

/// Nothing follows (RFC 8200, 4.7), the only Payload Proto that is allowed (RFC 6275, 6.1.1).
const NO_NEXT_HEADER: u8 = 59;
/// The Mobility Header's fields that all messages have.
const COMMON: usize = 6;
/// Header Len counts these, without the first one.
const UNIT: usize = 8;

/// MH Type of a Binding Error (RFC 6275, 6.1.9).
const BINDING_ERROR: u8 = 7;
/// MH Type of a Heartbeat (RFC 5847, 3.3).
const HEARTBEAT: u8 = 13;

/// The flags of a Heartbeat, in the last octet before the sequence number.
const RESPONSE: u8 = 1;
const UNSOLICITED: u8 = 2;
/// Where a Heartbeat's options begin.
const OPTIONS: usize = 12;
/// The octets of a Binding Error: status, reserved, home address.
const ERROR_END: usize = COMMON + 2 + 16;

/// Mobility options (RFC 6275, 6.2.2, 6.2.3; RFC 5847, 3.4).
const PAD_1: u8 = 0;
const PAD_N: u8 = 1;
const RESTART_COUNTER: u8 = 28;

/// What a Mobility Header says, as far as heartbeats are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// A Heartbeat Request: whoever gets it answers with the same sequence number.
    Request {
        /// What the answer is to carry.
        sequence: u32,
    },
    /// A Heartbeat Response to a request.
    Response {
        /// The request's.
        sequence: u32,
        /// How often its sender has started; some leave it out.
        restart_counter: Option<u32>,
    },
    /// A Heartbeat Response that nobody asked for: its sender has restarted. Its sequence number says
    /// nothing.
    Unsolicited {
        /// How often its sender has started.
        restart_counter: Option<u32>,
    },
    /// A Binding Error that says: unrecognized MH Type value (status 2). Its sender knows no
    /// heartbeats.
    Unrecognized,
    /// Something else that is well-formed: it is for others on this host, or for nobody.
    Other {
        /// Its MH Type.
        kind: u8,
    },
}

/// The addresses that a message travelled between, which its checksum covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    /// Who sent it.
    pub source: Ipv6Addr,
    /// Whom it was sent to.
    pub destination: Ipv6Addr,
}

/// The MH Type of what may be a Mobility Header.
pub fn kind(bytes: &[u8]) -> Option<u8> {
    bytes.get(2).copied()
}

/// Whether messages of this MH Type have to do with heartbeats.
pub fn is_ours(kind: u8) -> bool {
    matches!(kind, HEARTBEAT | BINDING_ERROR)
}

/// Reads what came: the payload of a packet over IPv6, whose [`Path`] it was, or of a datagram over
/// UDP, whose checksum was checked already.
///
/// # Errors
///
/// It is shorter than it says ([`Discard::Truncated`]), its checksum is wrong
/// ([`Discard::BadChecksum`]), or it is not as the RFCs want it ([`Discard::Malformed`]).
pub fn parse(bytes: &[u8], path: Option<Path>) -> Result<Message, Discard> {
    let &[payload, len, kind, ..] = bytes else { return Err(Discard::Truncated) };
    let len = (usize::from(len) + 1) * UNIT;
    let message = bytes.get(..len).ok_or(Discard::Truncated)?;
    if path.is_some_and(|path| checksum(message, path) != 0) {
        return Err(Discard::BadChecksum);
    }
    if payload != NO_NEXT_HEADER {
        return Err(Discard::Malformed);
    }
    match kind {
        HEARTBEAT => heartbeat(message),
        // RFC 6275, 9.2: a Header Len that is too small for its type.
        BINDING_ERROR if len < ERROR_END => Err(Discard::Malformed),
        BINDING_ERROR if message[COMMON] == 2 => Ok(Message::Unrecognized),
        kind => Ok(Message::Other { kind }),
    }
}

impl Message {
    /// Writes a Heartbeat with its checksum left at zero, and gives back what was written. A kernel
    /// fills the checksum in over IPv6.
    ///
    /// Only heartbeats are built: for the others, nothing is written.
    pub fn build<'a>(&self, buffer: &'a mut [u8; MOST]) -> &'a [u8] {
        let (flags, sequence, restart_counter) = match *self {
            Message::Request { sequence } => (0, sequence, None),
            Message::Response { sequence, restart_counter } => {
                (RESPONSE, sequence, restart_counter)
            }
            Message::Unsolicited { restart_counter } => {
                (RESPONSE | UNSOLICITED, 0, restart_counter)
            }
            Message::Unrecognized | Message::Other { .. } => return &[],
        };
        let len = if restart_counter.is_some() { 24 } else { 16 };
        let units_after_the_first = (len / UNIT - 1) as u8;
        buffer[..8].copy_from_slice(&[
            NO_NEXT_HEADER,
            units_after_the_first,
            HEARTBEAT,
            0,
            0,
            0,
            0,
            flags,
        ]);
        buffer[8..OPTIONS].copy_from_slice(&sequence.to_be_bytes());
        match restart_counter {
            // The option begins two octets behind a multiple of four (RFC 5847, 3.4), so that its
            // number is at one; and the whole ends at a multiple of eight.
            Some(counter) => {
                buffer[12..16].copy_from_slice(&[PAD_N, 0, RESTART_COUNTER, 4]);
                buffer[16..20].copy_from_slice(&counter.to_be_bytes());
                buffer[20..24].copy_from_slice(&[PAD_N, 2, 0, 0]);
            }
            None => buffer[12..16].copy_from_slice(&[PAD_N, 2, 0, 0]),
        }
        &buffer[..len]
    }
}

/// The Internet checksum (RFC 1071) of a message with its pseudo-header (RFC 8200, 8.1; RFC 6275,
/// 6.1.1): what belongs into the field if that is zero, and zero if it is there.
pub fn checksum(message: &[u8], path: Path) -> u16 {
    // A Mobility Header has at most 2,048 octets: the sum stays far below 2^32.
    let sum = [&path.source.octets()[..], &path.destination.octets(), message]
        .into_iter()
        .flat_map(|part| part.chunks(2))
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)))
        .fold(message.len() as u32 + u32::from(PROTOCOL), |sum, word| sum + word);
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    !(folded as u16)
}

fn heartbeat(message: &[u8]) -> Result<Message, Discard> {
    // RFC 6275, 9.2: a Header Len that is too small for its type.
    let Some((head, options)) = message.split_first_chunk::<OPTIONS>() else {
        return Err(Discard::Malformed);
    };
    let &[.., flags, a, b, c, d] = head;
    let sequence = u32::from_be_bytes([a, b, c, d]);
    let restart_counter = restart_counter(options)?;
    match (flags & UNSOLICITED != 0, flags & RESPONSE != 0) {
        // A counter in a request has no meaning (RFC 5847, 3.4 puts it into responses).
        (false, false) => Ok(Message::Request { sequence }),
        (false, true) => Ok(Message::Response { sequence, restart_counter }),
        (true, true) => Ok(Message::Unsolicited { restart_counter }),
        // Only responses can be unsolicited.
        (true, false) => Err(Discard::Malformed),
    }
}

/// Walks the options for a Restart Counter.
fn restart_counter(mut options: &[u8]) -> Result<Option<u32>, Discard> {
    let mut found: Option<[u8; 4]> = None;
    while !options.is_empty() {
        options = match options {
            [PAD_1, rest @ ..] => rest,
            [kind, len, rest @ ..] if usize::from(*len) <= rest.len() => {
                let (data, rest) = rest.split_at(usize::from(*len));
                if *kind == RESTART_COUNTER {
                    let counter: [u8; 4] = data.try_into().map_err(|_| Discard::Malformed)?;
                    // Two that contradict each other say nothing.
                    if found.replace(counter).is_some_and(|other| other != counter) {
                        return Err(Discard::Malformed);
                    }
                }
                rest
            }
            // It goes beyond the end of the header.
            _ => return Err(Discard::Malformed),
        };
    }
    Ok(found.map(u32::from_be_bytes))
}

#[cfg(test)]
#[path = "mobility_tests.rs"]
mod tests;
