//! IP packets that carry a datagram from its original source address and port (TRAP-9).
//!
//! The kernel sends them as they are built here, but for the header checksum and the identification
//! of IPv4, which it fills in. It refuses what is longer than the link's MTU, so long datagrams are
//! cut into fragments here.

use std::net::SocketAddr;

use pnet::packet::{
    MutablePacket,
    ip::IpNextHeaderProtocols::{Ipv6Frag, Udp},
    ipv4::{Ipv4Flags, MutableIpv4Packet},
    ipv6::MutableIpv6Packet,
    udp::{self, MutableUdpPacket},
};

const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
/// The fragment header of IPv6 (RFC 8200, 4.5).
const FRAGMENT_HEADER: usize = 8;
const UDP_HEADER: usize = 8;
/// What most systems begin with; nobody is that far away.
const HOP_LIMIT: u8 = 64;
/// The smallest MTU of a link with IPv4 (RFC 791): room for at least one step of a fragment.
const SMALLEST_MTU: usize = 68;

/// Why there can be no such packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoPacket {
    /// One address is of IPv4, the other of IPv6.
    OtherFamily,
    /// UDP has 16 bits for the length.
    TooLong,
}

/// Appends the packet, or its fragments, that carries `payload` from `source` to `to` over a link
/// with this MTU, and calls `each` with the length of `out` at the end of each and whether it is the
/// last one. `identification` tells the fragments of one datagram from those of another; it is not
/// used where there are none.
pub(super) fn build(
    out: &mut Vec<u8>,
    source: SocketAddr,
    to: SocketAddr,
    payload: &[u8],
    mtu: usize,
    identification: u32,
    mut each: impl FnMut(usize, bool),
) -> Result<(), NoPacket> {
    let length = UDP_HEADER + payload.len();
    let header = if source.is_ipv4() { IPV4_HEADER } else { IPV6_HEADER };
    if source.is_ipv4() != to.is_ipv4() {
        return Err(NoPacket::OtherFamily);
    }
    let most = if source.is_ipv4() { usize::from(u16::MAX) - IPV4_HEADER } else { u16::MAX.into() };
    if length > most {
        return Err(NoPacket::TooLong);
    }

    let start = out.len();
    if header + length <= mtu {
        out.resize(start + header + UDP_HEADER, 0);
        out.extend_from_slice(payload);
        let packet = &mut out[start..];
        write_udp(&mut packet[header..], source, to);
        write_ip(packet, source, to, None);
        each(out.len(), true);
        return Ok(());
    }

    let mut whole = vec![0; UDP_HEADER];
    whole.extend_from_slice(payload);
    write_udp(&mut whole, source, to);
    let header = if source.is_ipv4() { IPV4_HEADER } else { IPV6_HEADER + FRAGMENT_HEADER };
    // Offsets count in steps of eight octets (RFC 791, 3.2; RFC 8200, 4.5).
    let step = (mtu.max(SMALLEST_MTU) - header) & !7;
    let mut offset = 0;
    for part in whole.chunks(step) {
        let start = out.len();
        out.resize(start + header, 0);
        out.extend_from_slice(part);
        let more = offset + part.len() < whole.len();
        // At most 65,535 / 8, so the cast loses nothing.
        let fragment = Fragment { identification, steps: (offset / 8) as u16, more };
        write_ip(&mut out[start..], source, to, Some(fragment));
        offset += part.len();
        each(out.len(), !more);
    }
    Ok(())
}

struct Fragment {
    identification: u32,
    /// The offset in steps of eight octets.
    steps: u16,
    more: bool,
}

/// Fills in the header before a payload, with the checksum, without which IPv6 has no UDP (RFC 8200,
/// 8.1).
fn write_udp(datagram: &mut [u8], source: SocketAddr, to: SocketAddr) {
    // Checked in `build`.
    let length = datagram.len() as u16;
    let mut packet = MutableUdpPacket::new(datagram).expect("a header is there");
    packet.set_source(source.port());
    packet.set_destination(to.port());
    packet.set_length(length);
    let packet_now = packet.to_immutable();
    let checksum = match (source, to) {
        (SocketAddr::V4(source), SocketAddr::V4(to)) => {
            udp::ipv4_checksum(&packet_now, source.ip(), to.ip())
        }
        (SocketAddr::V6(source), SocketAddr::V6(to)) => {
            udp::ipv6_checksum(&packet_now, source.ip(), to.ip())
        }
        _ => unreachable!("the families agree, as `build` has found"),
    };
    // Zero would say that there is none (RFC 768; RFC 8200, 8.1).
    packet.set_checksum(if checksum == 0 { 0xffff } else { checksum });
}

fn write_ip(packet: &mut [u8], source: SocketAddr, to: SocketAddr, fragment: Option<Fragment>) {
    // Checked in `build`: a whole IPv4 packet fits into 16 bits, and so does what follows the header
    // of IPv6.
    let length = packet.len();
    match (source, to) {
        (SocketAddr::V4(source), SocketAddr::V4(to)) => {
            let mut ip = MutableIpv4Packet::new(packet).expect("a header is there");
            ip.set_version(4);
            ip.set_header_length((IPV4_HEADER / 4) as u8);
            ip.set_total_length(length as u16);
            ip.set_ttl(HOP_LIMIT);
            ip.set_next_level_protocol(Udp);
            ip.set_source(*source.ip());
            ip.set_destination(*to.ip());
            // Routers on the way may cut it (no DF): nobody would hear of it if one could not.
            if let Some(Fragment { identification, steps, more }) = fragment {
                // Zero would be filled in by the kernel, for each fragment another.
                ip.set_identification((identification as u16).max(1));
                ip.set_fragment_offset(steps);
                ip.set_flags(if more { Ipv4Flags::MoreFragments } else { 0 });
            }
        }
        (SocketAddr::V6(source), SocketAddr::V6(to)) => {
            let mut ip = MutableIpv6Packet::new(packet).expect("a header is there");
            ip.set_version(6);
            ip.set_payload_length((length - IPV6_HEADER) as u16);
            ip.set_next_header(if fragment.is_some() { Ipv6Frag } else { Udp });
            ip.set_hop_limit(HOP_LIMIT);
            ip.set_source(*source.ip());
            ip.set_destination(*to.ip());
            if let Some(Fragment { identification, steps, more }) = fragment {
                let header = &mut ip.payload_mut()[..FRAGMENT_HEADER];
                header[0] = Udp.0;
                header[2..4].copy_from_slice(&(steps << 3 | u16::from(more)).to_be_bytes());
                header[4..8].copy_from_slice(&identification.to_be_bytes());
            }
        }
        _ => unreachable!("the families agree, as `build` has found"),
    }
}

#[cfg(test)]
mod tests {
    use pnet::packet::{Packet, ipv4::Ipv4Packet, ipv6::Ipv6Packet, udp::UdpPacket};
    use proptest::prelude::*;

    use super::*;

    const ENDS: [(&str, &str); 2] =
        [("192.0.2.7:50162", "198.51.100.9:162"), ("[2001:db8::7]:50162", "[2001:db8:1::9]:162")];

    /// The packets that carry this.
    fn built(ends: (&str, &str), payload: &[u8], mtu: usize) -> Vec<Vec<u8>> {
        let (mut out, mut packets, mut start, mut finished) = (b"before".to_vec(), vec![], 6, 0);
        let (source, to) = (ends.0.parse().unwrap(), ends.1.parse().unwrap());
        let mut at = Vec::new();
        build(&mut out, source, to, payload, mtu, 0x1_0000, |end, last| {
            at.push(end);
            finished += usize::from(last);
        })
        .unwrap();
        for end in at {
            packets.push(out[start..end].to_vec());
            start = end;
        }
        assert_eq!((finished, start), (1, out.len()), "one of them is the last, and all are told");
        packets
    }

    /// The Internet checksum (RFC 1071) over what is 16 bits wide, as a receiver adds it up.
    fn sum(octets: &[u8]) -> u16 {
        let mut sum: u64 = octets
            .chunks(2)
            .map(|pair| u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0)))
            .sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    /// All bits are set if the checksum of a UDP datagram is right (RFC 768; RFC 8200, 8.1).
    fn verified(source: &[u8], to: &[u8], udp: &[u8]) -> u16 {
        let length = u32::try_from(udp.len()).unwrap().to_be_bytes();
        sum(&[source, to, &length, &[0, 0, 0, 17], udp].concat())
    }

    #[test]
    fn trap_9_the_headers_say_what_the_original_ones_did() {
        let [packet] = &built(ENDS[0], b"trap", 1500)[..] else { panic!("one packet") };
        let ip = Ipv4Packet::new(packet).unwrap();
        assert_eq!((ip.get_version(), ip.get_header_length()), (4, 5));
        assert_eq!((ip.get_total_length(), ip.get_ttl(), ip.get_flags()), (32, 64, 0));
        assert_eq!((ip.get_identification(), ip.get_fragment_offset()), (0, 0));
        assert_eq!(
            (ip.get_source().to_string(), ip.get_destination().to_string()),
            ("192.0.2.7".to_owned(), "198.51.100.9".to_owned())
        );
        let udp = UdpPacket::new(ip.payload()).unwrap();
        assert_eq!((udp.get_source(), udp.get_destination(), udp.get_length()), (50162, 162, 12));
        assert_eq!(udp.payload(), b"trap");

        let [packet] = &built(ENDS[1], b"trap", 1500)[..] else { panic!("one packet") };
        let ip = Ipv6Packet::new(packet).unwrap();
        assert_eq!((ip.get_version(), ip.get_payload_length(), ip.get_hop_limit()), (6, 12, 64));
        assert_eq!(ip.get_next_header(), Udp);
        assert_eq!(
            (ip.get_source().to_string(), ip.get_destination().to_string()),
            ("2001:db8::7".to_owned(), "2001:db8:1::9".to_owned())
        );
        let udp = UdpPacket::new(ip.payload()).unwrap();
        assert_eq!((udp.get_source(), udp.get_destination(), udp.get_length()), (50162, 162, 12));
        assert_eq!(udp.payload(), b"trap");
    }

    #[test]
    fn what_udp_cannot_carry_is_refused() {
        for (source, to, length, expected) in [
            (ENDS[0].0, ENDS[0].1, 65_507, Ok(())),
            (ENDS[0].0, ENDS[0].1, 65_508, Err(NoPacket::TooLong)),
            (ENDS[1].0, ENDS[1].1, 65_527, Ok(())),
            (ENDS[1].0, ENDS[1].1, 65_528, Err(NoPacket::TooLong)),
            (ENDS[0].0, ENDS[1].1, 4, Err(NoPacket::OtherFamily)),
        ] {
            let (source, to) = (source.parse().unwrap(), to.parse().unwrap());
            let mut out = Vec::new();
            let got = build(&mut out, source, to, &vec![0; length], 1500, 1, |_, _| ());
            assert_eq!(got, expected, "{source} to {to}: {length}");
            assert_eq!(out.is_empty(), expected.is_err());
        }
    }

    /// A checksum of zero says that there is none, so the other zero is sent.
    #[test]
    fn a_checksum_is_never_zero() {
        // The two octets take every value, so for one of them the sum is zero.
        let checksums = (0..=u16::MAX).map(|filler| {
            let [packet] = &built(ENDS[1], &filler.to_be_bytes(), 1500)[..] else { panic!() };
            UdpPacket::new(&packet[IPV6_HEADER..]).unwrap().get_checksum()
        });
        let (zero, all_ones) = checksums.fold((0, 0), |(zero, all_ones), checksum| {
            (zero + u32::from(checksum == 0), all_ones + u32::from(checksum == 0xffff))
        });
        assert_eq!(zero, 0);
        assert!(all_ones > 0);
    }

    proptest! {
        #[test]
        fn fragments_make_the_whole_again(
            payload in prop::collection::vec(any::<u8>(), 0..5000),
            mtu in 1280usize..9000,
            v6: bool,
        ) {
            let ends = ENDS[usize::from(v6)];
            let packets = built(ends, &payload, mtu);
            let mut whole = Vec::new();
            for (at, packet) in packets.iter().enumerate() {
                prop_assert!(packet.len() <= mtu);
                let (offset, more, part) = if v6 {
                    let ip = Ipv6Packet::new(packet).unwrap();
                    prop_assert_eq!(usize::from(ip.get_payload_length()), packet.len() - 40);
                    if ip.get_next_header() == Ipv6Frag {
                        let header = &ip.payload()[..8];
                        prop_assert_eq!((header[0], header[1]), (17, 0));
                        prop_assert_eq!(&header[4..], &[0, 1, 0, 0]);
                        let place = u16::from_be_bytes([header[2], header[3]]);
                        (place & !7, place & 1 == 1, ip.payload()[8..].to_vec())
                    } else {
                        (0, false, ip.payload().to_vec())
                    }
                } else {
                    let ip = Ipv4Packet::new(packet).unwrap();
                    prop_assert_eq!(usize::from(ip.get_total_length()), packet.len());
                    // The low 16 bits are zero, which would be filled in.
                    prop_assert_eq!(ip.get_identification(), u16::from(packets.len() > 1));
                    (ip.get_fragment_offset() * 8, ip.get_flags() == 1, ip.payload().to_vec())
                };
                prop_assert_eq!(usize::from(offset), whole.len());
                prop_assert_eq!(more, at + 1 < packets.len());
                whole.extend(part);
            }
            prop_assert_eq!(&whole[8..], &payload[..]);
            let sum = match (ends.0.parse().unwrap(), ends.1.parse().unwrap()) {
                (SocketAddr::V4(from), SocketAddr::V4(to)) => {
                    verified(&from.ip().octets(), &to.ip().octets(), &whole)
                }
                (SocketAddr::V6(from), SocketAddr::V6(to)) => {
                    verified(&from.ip().octets(), &to.ip().octets(), &whole)
                }
                _ => unreachable!(),
            };
            prop_assert_eq!(sum, 0xffff);
        }
    }
}
