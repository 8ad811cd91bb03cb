//! Finds the UDP datagram in a captured frame.
//!
//! The layers are read with `pnet::packet`; lengths that a frame claims are checked here, as they
//! may be anything.

use std::net::{IpAddr, SocketAddr};

use pnet::packet::{
    ethernet::{EtherType, EtherTypes, EthernetPacket},
    ip::{IpNextHeaderProtocol, IpNextHeaderProtocols},
    ipv4::Ipv4Packet,
    ipv6::{FragmentPacket, Ipv6Packet},
    sll::SLLPacket,
    sll2::SLL2Packet,
    udp::UdpPacket,
    vlan::VlanPacket,
};

/// Extension headers and VLAN tags that are followed in one frame; real ones have one or two, and
/// a forged frame must not keep us busy.
const NESTED: usize = 8;

/// The headers of Linux "cooked" captures, versions 1 and 2. `pnet` does not count the address in
/// their middle when it is asked for the smallest size.
const COOKED: usize = 16;
const COOKED_2: usize = 20;

/// A datagram that still lies in its frame.
#[derive(Debug, PartialEq, Eq)]
pub struct Found<'a> {
    /// Sender.
    pub source: SocketAddr,
    /// Receiver.
    pub destination: SocketAddr,
    /// The UDP payload.
    pub payload: &'a [u8],
}

/// Why there is no datagram in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nothing {
    /// Something else than UDP over IPv4 or IPv6.
    NotUdp,
    /// A fragment of a UDP datagram, the first one included; they are not put together.
    Fragment,
    /// UDP from or to other ports.
    OtherPort,
    /// The frame ends before the datagram does.
    Short,
    /// Lengths or versions that contradict each other.
    Malformed,
    /// A link type that is not known here.
    UnknownLink,
}

/// The datagram in `frame`, if it is one to one of `ports`. `link` is a LINKTYPE_ value of
/// <https://www.tcpdump.org/linktypes.html>.
pub fn datagram<'a>(link: i32, frame: &'a [u8], ports: &[u16]) -> Result<Found<'a>, Nothing> {
    match link {
        // NULL and LOOP: four octets of address family, in the order of the capturing host or of
        // the network. The numbers for IPv6 differ by system; the packet knows its version.
        0 | 108 => ip(frame.get(4..).ok_or(Nothing::Short)?, ports),
        1 => {
            let ethernet = EthernetPacket::new(frame).ok_or(Nothing::Short)?;
            by_type(
                ethernet.get_ethertype(),
                &frame[EthernetPacket::minimum_packet_size()..],
                ports,
            )
        }
        // RAW as files and as some systems number it, IPV4 and IPV6.
        12 | 101 | 228 | 229 => ip(frame, ports),
        113 => {
            let cooked = SLLPacket::new(frame).ok_or(Nothing::Short)?;
            by_type(cooked.get_protocol(), frame.get(COOKED..).ok_or(Nothing::Short)?, ports)
        }
        276 => {
            let cooked = SLL2Packet::new(frame).ok_or(Nothing::Short)?;
            by_type(cooked.get_protocol_type(), frame.get(COOKED_2..).ok_or(Nothing::Short)?, ports)
        }
        _ => Err(Nothing::UnknownLink),
    }
}

fn by_type<'a>(
    mut kind: EtherType,
    mut rest: &'a [u8],
    ports: &[u16],
) -> Result<Found<'a>, Nothing> {
    for _ in 0..NESTED {
        match kind {
            EtherTypes::Ipv4 | EtherTypes::Ipv6 => return ip(rest, ports),
            // 802.1Q, and the outer tags of 802.1ad and of what came before it.
            EtherTypes::Vlan | EtherTypes::PBridge | EtherTypes::QinQ => {
                kind = VlanPacket::new(rest).ok_or(Nothing::Short)?.get_ethertype();
                rest = &rest[VlanPacket::minimum_packet_size()..];
            }
            _ => return Err(Nothing::NotUdp),
        }
    }
    Err(Nothing::Malformed)
}

fn ip<'a>(packet: &'a [u8], ports: &[u16]) -> Result<Found<'a>, Nothing> {
    match packet.first().ok_or(Nothing::Short)? >> 4 {
        4 => ipv4(packet, ports),
        6 => ipv6(packet, ports),
        _ => Err(Nothing::Malformed),
    }
}

fn ipv4<'a>(packet: &'a [u8], ports: &[u16]) -> Result<Found<'a>, Nothing> {
    let header = Ipv4Packet::new(packet).ok_or(Nothing::Short)?;
    if header.get_next_level_protocol() != IpNextHeaderProtocols::Udp {
        return Err(Nothing::NotUdp);
    }
    const MORE_FRAGMENTS: u8 = 1;
    if header.get_fragment_offset() > 0 || header.get_flags() & MORE_FRAGMENTS != 0 {
        return Err(Nothing::Fragment);
    }
    let start = usize::from(header.get_header_length()) * 4;
    if start < Ipv4Packet::minimum_packet_size() {
        return Err(Nothing::Malformed);
    }
    // Ethernet pads short packets, so the header has the length; a host that leaves segmentation
    // to its card writes 0.
    let end = match usize::from(header.get_total_length()) {
        0 => packet.len(),
        length => length.min(packet.len()),
    };
    let rest = packet.get(start..end).ok_or(Nothing::Short)?;
    udp(header.get_source().into(), header.get_destination().into(), rest, ports)
}

fn ipv6<'a>(packet: &'a [u8], ports: &[u16]) -> Result<Found<'a>, Nothing> {
    let header = Ipv6Packet::new(packet).ok_or(Nothing::Short)?;
    let start = Ipv6Packet::minimum_packet_size();
    let end = match usize::from(header.get_payload_length()) {
        0 => packet.len(),
        length => (start + length).min(packet.len()),
    };
    let mut rest = &packet[start..end];
    let mut next = header.get_next_header();
    for _ in 0..NESTED {
        match next {
            IpNextHeaderProtocols::Udp => {
                return udp(
                    header.get_source().into(),
                    header.get_destination().into(),
                    rest,
                    ports,
                );
            }
            IpNextHeaderProtocols::Hopopt
            | IpNextHeaderProtocols::Ipv6Route
            | IpNextHeaderProtocols::Ipv6Opts => {
                let (&[after, length], _) = rest.split_first_chunk().ok_or(Nothing::Short)?;
                next = IpNextHeaderProtocol(after);
                // In units of eight octets, the first not counted (RFC 8200, 4.3).
                rest = rest.get(8 + usize::from(length) * 8..).ok_or(Nothing::Short)?;
            }
            IpNextHeaderProtocols::Ipv6Frag => {
                let fragment = FragmentPacket::new(rest).ok_or(Nothing::Short)?;
                next = fragment.get_next_header();
                // Offset or more to come; neither is an atomic fragment (RFC 6946).
                if fragment.get_fragment_offset_with_flags() & 0xfff9 != 0 {
                    return match next {
                        IpNextHeaderProtocols::Udp => Err(Nothing::Fragment),
                        _ => Err(Nothing::NotUdp),
                    };
                }
                rest = &rest[FragmentPacket::minimum_packet_size()..];
            }
            _ => return Err(Nothing::NotUdp),
        }
    }
    Err(Nothing::Malformed)
}

fn udp<'a>(
    source: IpAddr,
    destination: IpAddr,
    segment: &'a [u8],
    ports: &[u16],
) -> Result<Found<'a>, Nothing> {
    let header = UdpPacket::new(segment).ok_or(Nothing::Short)?;
    if !ports.contains(&header.get_destination()) {
        return Err(Nothing::OtherPort);
    }
    let start = UdpPacket::minimum_packet_size();
    let end = usize::from(header.get_length());
    if end < start {
        return Err(Nothing::Malformed);
    }
    Ok(Found {
        source: SocketAddr::new(source, header.get_source()),
        destination: SocketAddr::new(destination, header.get_destination()),
        payload: segment.get(start..end).ok_or(Nothing::Short)?,
    })
}
