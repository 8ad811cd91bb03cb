//! The echoes of the peer monitor as bytes (RFC 792, RFC 4443): one length, one layout, built
//! into the caller's memory and read without a look at any table.
//!
//! ```text
//!  0  type, code, checksum        | 8 of RFC 792 and RFC 4443
//!  4  identifier, sequence        | the low 16 bits of the sequence number
//!  8  "EKP", version              | 24 of ours, which come back as they went
//! 12  place
//! 16  sequence
//! 20  token
//! 24  when it was sent, in nanoseconds of our monotonic clock
//! 32
//! ```
//!
//! All numbers are big-endian. The place says which peer it is without a search, the token that
//! whoever answers has seen the request, and the time of sending goes along so that nobody has to
//! remember it.

use super::Discard;
use crate::time::Time;

/// How long a request is, and each answer to it, in bytes from the ICMP header on.
pub const LEN: usize = 32;
/// What our payload begins with: whose it is, and the version of its layout.
const MAGIC: [u8; 4] = *b"EKP\x01";
/// The header that all echoes have.
const HEADER: usize = 8;
/// An IPv4 header without options.
const IPV4_HEADER: usize = 20;

/// An echo request of ours, or what an answer to one repeats of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Echo {
    /// Whose request it is, among all that this host sends.
    pub identifier: u16,
    /// The peer's place in the table.
    pub place: u32,
    /// The sequence number of [`Request`](super::Request), whole.
    pub sequence: u32,
    /// The token of [`Request`](super::Request).
    pub token: u32,
    /// When it was sent. Nothing vouches for it: only the token is hard to guess.
    pub sent: Time,
}

impl Echo {
    /// Writes the request as an ICMP message, with its checksum (RFC 792).
    pub fn write_v4(&self, message: &mut [u8; LEN]) {
        self.write(8, message);
        let sum = checksum(message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
    }

    /// Writes the request as an ICMPv6 message. Its checksum is zero: the kernel fills it in, as
    /// it knows the addresses that it covers (RFC 3542, 3.1).
    pub fn write_v6(&self, message: &mut [u8; LEN]) {
        self.write(128, message);
    }

    fn write(&self, kind: u8, message: &mut [u8; LEN]) {
        message[..4].copy_from_slice(&[kind, 0, 0, 0]);
        message[4..6].copy_from_slice(&self.identifier.to_be_bytes());
        message[6..8].copy_from_slice(&(self.sequence as u16).to_be_bytes());
        message[8..12].copy_from_slice(&MAGIC);
        message[12..16].copy_from_slice(&self.place.to_be_bytes());
        message[16..20].copy_from_slice(&self.sequence.to_be_bytes());
        message[20..24].copy_from_slice(&self.token.to_be_bytes());
        message[24..32].copy_from_slice(&self.sent.as_nanos().to_be_bytes());
    }

    /// Reads an answer from an ICMP message (RFC 792), and checks its checksum.
    ///
    /// # Errors
    ///
    /// [`Discard::Truncated`], [`Discard::BadChecksum`], or [`Discard::Malformed`] if it is no
    /// answer to an echo of ours.
    pub fn read_v4(message: &[u8]) -> Result<Echo, Discard> {
        let whole = shape(0, message)?;
        // The sum over a message with its checksum is zero.
        if checksum(whole) != 0 {
            return Err(Discard::BadChecksum);
        }
        payload(whole)
    }

    /// Reads an answer from an ICMPv6 message (RFC 4443), whose checksum the kernel has checked.
    ///
    /// # Errors
    ///
    /// [`Discard::Truncated`], or [`Discard::Malformed`] if it is no answer to an echo of ours.
    pub fn read_v6(message: &[u8]) -> Result<Echo, Discard> {
        payload(shape(129, message)?)
    }
}

/// The ICMP message in an IPv4 packet, as a raw socket gives it.
///
/// # Errors
///
/// [`Discard::Truncated`] if it is shorter than its header says.
pub fn message_of_ipv4(packet: &[u8]) -> Result<&[u8], Discard> {
    let (Some(&first), Some(len)) = (packet.first(), packet.get(2..4)) else {
        return Err(Discard::Truncated);
    };
    let header = usize::from(first & 0x0f) * 4;
    let len = usize::from(u16::from_be_bytes([len[0], len[1]]));
    if first >> 4 != 4 || header < IPV4_HEADER {
        return Err(Discard::Malformed);
    }
    packet.get(header..len).ok_or(Discard::Truncated)
}

/// Whether it is an answer, of this type, that is as long as ours are.
fn shape(kind: u8, message: &[u8]) -> Result<&[u8; LEN], Discard> {
    if message.len() < HEADER {
        return Err(Discard::Truncated);
    }
    if message[..2] != [kind, 0] || message.len() > LEN {
        return Err(Discard::Malformed);
    }
    message.try_into().map_err(|_| Discard::Truncated)
}

fn payload(message: &[u8; LEN]) -> Result<Echo, Discard> {
    let word = |at: usize| {
        u32::from_be_bytes([message[at], message[at + 1], message[at + 2], message[at + 3]])
    };
    let sequence = word(16);
    if message[8..12] != MAGIC || message[6..8] != (sequence as u16).to_be_bytes() {
        return Err(Discard::Malformed);
    }
    Ok(Echo {
        identifier: u16::from_be_bytes([message[4], message[5]]),
        place: word(12),
        sequence,
        token: word(20),
        sent: Time::from_nanos(u64::from(word(24)) << 32 | u64::from(word(28))),
    })
}

/// The Internet checksum (RFC 1071).
fn checksum(message: &[u8; LEN]) -> u16 {
    let mut sum: u32 = 0;
    for pair in message.as_chunks::<2>().0 {
        sum += u32::from(u16::from_be_bytes(*pair));
    }
    // 16 numbers of 16 bits: what is carried after the first fold carries once more at most.
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ECHO: Echo = Echo {
        identifier: 0xbee4,
        place: 127_999,
        sequence: 0x0001_0002,
        token: 0xdead_beef,
        sent: Time::from_nanos(0x0102_0304_0506_0708),
    };
    const REST: [u8; 24] = [
        b'E', b'K', b'P', 1, // magic, version
        0x00, 0x01, 0xf3, 0xff, // place
        0x00, 0x01, 0x00, 0x02, // sequence
        0xde, 0xad, 0xbe, 0xef, // token
        1, 2, 3, 4, 5, 6, 7, 8, // sent
    ];

    /// The checksums were worked out with a pencil.
    fn bytes(kind: u8, sum: u16) -> Vec<u8> {
        let sum = sum.to_be_bytes();
        [&[kind, 0, sum[0], sum[1], 0xbe, 0xe4, 0x00, 0x02], &REST[..]].concat()
    }

    #[test]
    fn the_layout_is_the_same_both_ways() {
        let mut message = [0x55; LEN];
        ECHO.write_v4(&mut message);
        assert_eq!(message[..], bytes(8, 0x0217)[..]);
        assert_eq!(Echo::read_v4(&bytes(0, 0x0a17)), Ok(ECHO));

        let mut message = [0x55; LEN];
        ECHO.write_v6(&mut message);
        assert_eq!(message[..], bytes(128, 0)[..]);
        assert_eq!(Echo::read_v6(&bytes(129, 0x1234)), Ok(ECHO));
    }

    #[test]
    fn peer_11_what_is_no_answer_is_told_by_reason() {
        let good = bytes(0, 0x0a17);
        let with = |at: usize, value: u8| {
            let mut bytes = good.clone();
            bytes[at] = value;
            bytes
        };
        let long = [&good[..], &[0]].concat();
        for (what, message, why) in [
            ("nothing", &[][..], Discard::Truncated),
            ("half a header", &good[..7], Discard::Truncated),
            ("a header", &good[..8], Discard::Truncated),
            ("all but a byte", &good[..31], Discard::Truncated),
            ("a byte too many", &long, Discard::Malformed),
            ("a request", &bytes(8, 0x0217), Discard::Malformed),
            ("an error", &with(0, 3), Discard::Malformed),
            ("another code", &with(1, 1), Discard::Malformed),
            ("a wrong checksum", &with(2, 0x06), Discard::BadChecksum),
            ("a damaged token", &with(20, 0xdf), Discard::BadChecksum),
            ("ICMPv6", &bytes(129, 0), Discard::Malformed),
        ] {
            assert_eq!(Echo::read_v4(message), Err(why), "{what}");
        }
        let good = bytes(129, 0);
        let with = |at: usize, value: u8| {
            let mut bytes = good.clone();
            bytes[at] = value;
            bytes
        };
        for (what, message, why) in [
            ("all but a byte", &good[..31], Discard::Truncated),
            ("a request", &bytes(128, 0), Discard::Malformed),
            ("another's payload", &with(8, b'e'), Discard::Malformed),
            ("another version", &with(11, 2), Discard::Malformed),
            ("two sequence numbers", &with(7, 3), Discard::Malformed),
        ] {
            assert_eq!(Echo::read_v6(message), Err(why), "{what}");
        }
    }

    #[test]
    fn an_ipv4_packet_is_as_long_as_it_says() {
        let packet = |first: u8, len: u8, bytes: usize| {
            let mut packet = vec![7; bytes];
            packet[0] = first;
            packet[2..4].copy_from_slice(&[0, len]);
            packet
        };
        for (what, packet, message) in [
            ("plain", packet(0x45, 52, 52), Ok(32)),
            ("options", packet(0x47, 60, 60), Ok(32)),
            ("padded by the link", packet(0x45, 24, 46), Ok(4)),
            ("a header alone", packet(0x45, 20, 20), Ok(0)),
            ("longer than it is", packet(0x45, 53, 52), Err(Discard::Truncated)),
            ("shorter than its header", packet(0x46, 20, 52), Err(Discard::Truncated)),
            ("no header", packet(0x44, 52, 52), Err(Discard::Malformed)),
            ("IPv6", packet(0x65, 52, 52), Err(Discard::Malformed)),
            ("four bytes", packet(0x45, 52, 4), Err(Discard::Truncated)),
        ] {
            assert_eq!(message_of_ipv4(&packet).map(<[u8]>::len), message, "{what}");
        }
        assert_eq!(message_of_ipv4(&[]), Err(Discard::Truncated));
        assert_eq!(message_of_ipv4(&[0x45, 0, 0]), Err(Discard::Truncated));
    }

    fn echo() -> impl Strategy<Value = Echo> {
        any::<(u16, u32, u32, u32, u64)>().prop_map(|(identifier, place, sequence, token, sent)| {
            Echo { identifier, place, sequence, token, sent: Time::from_nanos(sent) }
        })
    }

    /// As a peer does it: the type changes, and the checksum by as much.
    fn answered(mut message: [u8; LEN]) -> [u8; LEN] {
        message[..4].fill(0);
        let sum = checksum(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        message
    }

    proptest! {
        #[test]
        fn every_echo_comes_back_as_it_went(echo in echo()) {
            let mut message = [0; LEN];
            echo.write_v4(&mut message);
            prop_assert_eq!(checksum(&message), 0);
            prop_assert_eq!(Echo::read_v4(&answered(message)), Ok(echo));
            echo.write_v6(&mut message);
            message[0] = 129;
            prop_assert_eq!(Echo::read_v6(&message), Ok(echo));
        }

        #[test]
        fn peer_11_a_flipped_bit_never_goes_unseen(echo in echo(), bit in 0..LEN * 8) {
            let mut message = [0; LEN];
            echo.write_v4(&mut message);
            let mut message = answered(message);
            message[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(Echo::read_v4(&message).is_err());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = Echo::read_v4(&bytes);
            let _ = Echo::read_v6(&bytes);
            let _ = message_of_ipv4(&bytes).map(Echo::read_v4);
        }
    }
}
