//! Tells a link that addresses have come to an interface, so that neighbours send to it at once and not
//! when their tables expire: ARP announcements (RFC 5227, 2.3) and unsolicited neighbour advertisements
//! (RFC 4861, 7.2.6), built and sent with `pnet`.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use pnet::{
    datalink::{self, Channel, Config, MacAddr, NetworkInterface},
    packet::{
        Packet,
        arp::{ArpHardwareTypes, ArpOperations, MutableArpPacket},
        ethernet::{EtherTypes, MutableEthernetPacket},
        icmpv6::{
            self, Icmpv6Packet, Icmpv6Types,
            ndp::{
                MutableNdpOptionPacket, MutableNeighborAdvertPacket, NdpOptionTypes,
                NeighborAdvertFlags,
            },
        },
        ip::IpNextHeaderProtocols,
        ipv6::MutableIpv6Packet,
    },
};

/// The header of an Ethernet frame.
const ETHERNET: usize = 14;
/// An ARP packet for Ethernet and IPv4.
const ARP: usize = 28;
/// The header of an IPv6 packet.
const IPV6: usize = 40;
/// A neighbour advertisement with our link-layer address.
const ADVERTISEMENT: usize = 24 + 8;

/// All nodes of a link.
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// The Ethernet address of that group (RFC 2464, 7).
const ALL_NODES_MAC: MacAddr = MacAddr(0x33, 0x33, 0, 0, 0, 1);

/// Announces addresses on an interface, once.
///
/// # Errors
///
/// The interface is gone or is no Ethernet, or the frames could not be sent.
pub fn announce(interface: &str, addresses: &[IpAddr]) -> io::Result<()> {
    let interfaces = datalink::interfaces();
    let interface = interfaces.into_iter().find(|there| there.name == interface);
    let interface = interface.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
    let Some(mac) = interface.mac else {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "it has no Ethernet address"));
    };
    let mut sender = open(&interface)?;
    for &address in addresses {
        let frame = match address {
            IpAddr::V4(address) => arp_announcement(mac, address),
            IpAddr::V6(address) => advertisement(mac, address),
        };
        sender
            .send_to(&frame, None)
            .unwrap_or_else(|| Err(io::Error::from(io::ErrorKind::OutOfMemory)))?;
    }
    Ok(())
}

fn open(interface: &NetworkInterface) -> io::Result<Box<dyn datalink::DataLinkSender>> {
    match datalink::channel(interface, Config::default())? {
        Channel::Ethernet(sender, _) => Ok(sender),
        _ => Err(io::Error::new(io::ErrorKind::Unsupported, "it is no Ethernet")),
    }
}

/// A request for the sender's own address: who has it in a table learns the sender's Ethernet address.
fn arp_announcement(mac: MacAddr, address: Ipv4Addr) -> Vec<u8> {
    let mut frame = vec![0; ETHERNET + ARP];
    if let Some(mut ethernet) = MutableEthernetPacket::new(&mut frame) {
        ethernet.set_destination(MacAddr::broadcast());
        ethernet.set_source(mac);
        ethernet.set_ethertype(EtherTypes::Arp);
    }
    if let Some(mut arp) = MutableArpPacket::new(&mut frame[ETHERNET..]) {
        arp.set_hardware_type(ArpHardwareTypes::Ethernet);
        arp.set_protocol_type(EtherTypes::Ipv4);
        arp.set_hw_addr_len(6);
        arp.set_proto_addr_len(4);
        arp.set_operation(ArpOperations::Request);
        arp.set_sender_hw_addr(mac);
        arp.set_sender_proto_addr(address);
        arp.set_target_hw_addr(MacAddr::zero());
        arp.set_target_proto_addr(address);
    }
    frame
}

/// To all nodes, with the flag that says that it overrides what they know.
fn advertisement(mac: MacAddr, address: Ipv6Addr) -> Vec<u8> {
    let mut frame = vec![0; ETHERNET + IPV6 + ADVERTISEMENT];
    if let Some(mut ethernet) = MutableEthernetPacket::new(&mut frame) {
        ethernet.set_destination(ALL_NODES_MAC);
        ethernet.set_source(mac);
        ethernet.set_ethertype(EtherTypes::Ipv6);
    }
    if let Some(mut ip) = MutableIpv6Packet::new(&mut frame[ETHERNET..]) {
        ip.set_version(6);
        ip.set_payload_length(ADVERTISEMENT as u16);
        ip.set_next_header(IpNextHeaderProtocols::Icmpv6);
        // RFC 4861, 7.1.2: it can't have passed a router.
        ip.set_hop_limit(255);
        ip.set_source(address);
        ip.set_destination(ALL_NODES);
    }
    let message = &mut frame[ETHERNET + IPV6..];
    if let Some(mut advert) = MutableNeighborAdvertPacket::new(message) {
        advert.set_icmpv6_type(Icmpv6Types::NeighborAdvert);
        advert.set_flags(NeighborAdvertFlags::Override);
        advert.set_target_addr(address);
    }
    if let Some(mut option) = MutableNdpOptionPacket::new(&mut message[24..]) {
        option.set_option_type(NdpOptionTypes::TargetLLAddr);
        // In units of eight octets.
        option.set_length(1);
        option.set_data(&[mac.0, mac.1, mac.2, mac.3, mac.4, mac.5]);
    }
    if let Some(packet) = Icmpv6Packet::new(message) {
        let checksum = icmpv6::checksum(&packet, &address, &ALL_NODES);
        debug_assert_eq!(packet.packet().len(), ADVERTISEMENT);
        message[2..4].copy_from_slice(&checksum.to_be_bytes());
    }
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: MacAddr = MacAddr(0x02, 0, 0x5e, 0x10, 0, 0x01);

    #[test]
    fn subn_8_an_arp_announcement_asks_for_its_own_address() {
        let frame = arp_announcement(MAC, Ipv4Addr::new(192, 0, 2, 7));
        let expected = [
            &[0xff; 6][..],
            &[0x02, 0, 0x5e, 0x10, 0, 0x01],
            &[0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1],
            &[0x02, 0, 0x5e, 0x10, 0, 0x01, 192, 0, 2, 7],
            &[0, 0, 0, 0, 0, 0, 192, 0, 2, 7],
        ];
        assert_eq!(frame, expected.concat());
    }

    #[test]
    fn subn_8_a_neighbour_advertisement_overrides() {
        let address: Ipv6Addr = "2001:db8::7".parse().unwrap();
        let frame = advertisement(MAC, address);
        assert_eq!(frame[12..14], [0x86, 0xdd]);
        let ip = &frame[14..];
        // Version 6, 32 octets of ICMPv6, hop limit 255.
        assert_eq!(ip[..8], [0x60, 0, 0, 0, 0, 32, 58, 255]);
        assert_eq!(ip[8..24], address.octets());
        assert_eq!(ip[24..40], ALL_NODES.octets());
        let message = &ip[40..];
        assert_eq!((message[0], message[1], message[4]), (136, 0, 0x20), "O, neither R nor S");
        assert_eq!(message[8..24], address.octets());
        assert_eq!(message[24..], [2, 1, 0x02, 0, 0x5e, 0x10, 0, 0x01]);
        // RFC 1071: a sum with its own checksum in it is all ones. The pseudo-header is RFC 8200, 8.1.
        let pseudo = [&address.octets()[..], &ALL_NODES.octets(), &[0, 0, 0, 32, 0, 0, 0, 58]];
        let all = [&pseudo.concat()[..], message].concat();
        let words = all.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
        let sum: u32 = words.sum();
        assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
    }
}
