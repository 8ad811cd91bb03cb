//! ICMP messages as bytes, and echoes to this host itself. The latter need CAP_NET_RAW and are
//! passed over, with a word, where it is missing.

use std::net::{Ipv4Addr, Ipv6Addr};

use evenkeel_core::time::Time;
use pnet::packet::{
    icmp::{IcmpType, echo_request::MutableEchoRequestPacket},
    icmpv6::{Icmpv6Type, echo_request::MutableEchoRequestPacket as MutableEchoRequestPacketV6},
    ipv4::MutableIpv4Packet,
    ipv6::MutableIpv6Packet,
};
use proptest::{collection::vec, prelude::*, sample::Index};

use super::*;
use crate::{
    clock::Clock,
    ear::{Limits, tests::Listener},
};

const OURS: u16 = 0xbeef;
const LOCAL: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const POLLED: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 9);
const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 254);
const LOCAL6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
const POLLED6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9);
const ROUTER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0xfe);

fn meta(source: IpAddr, local: IpAddr) -> DatagramMeta {
    DatagramMeta {
        source: (source, 0).into(),
        local: Some(local),
        interface: Some(1),
        received: Time::from_secs(7),
        start: 0,
        len: 0,
        socket: 0,
        truncated: false,
    }
}

/// An echo, or with another type its reply or something else of that shape.
fn echo(kind: u8, identifier: u16, sequence: u16) -> Vec<u8> {
    let mut bytes = vec![0x55; HEADER + 16];
    let mut echo = MutableEchoRequestPacket::new(&mut bytes).unwrap();
    echo.set_icmp_type(IcmpType(kind));
    echo.set_icmp_code(icmp::IcmpCode(0));
    echo.set_identifier(identifier);
    echo.set_sequence_number(sequence);
    with_checksum(bytes)
}

fn with_checksum(mut bytes: Vec<u8>) -> Vec<u8> {
    let sum = icmp::checksum(&IcmpPacket::new(&bytes).unwrap());
    bytes[2..4].copy_from_slice(&sum.to_be_bytes());
    bytes
}

/// An ICMP error that quotes the first `quoted` bytes of `packet`.
fn error(kind: u8, packet: &[u8], quoted: usize) -> Vec<u8> {
    let mut bytes = vec![kind, 0, 0, 0, 0, 0, 0, 0];
    bytes.extend_from_slice(&packet[..quoted]);
    with_checksum(bytes)
}

/// A packet with `options` 32-bit words of options.
fn ipv4(from: Ipv4Addr, to: Ipv4Addr, options: u8, message: &[u8]) -> Vec<u8> {
    let header = 20 + usize::from(options) * 4;
    let mut bytes = vec![1; header + message.len()]; // options: no operation
    let len = bytes.len() as u16;
    let mut ip = MutableIpv4Packet::new(&mut bytes).unwrap();
    ip.set_version(4);
    ip.set_header_length(5 + options);
    ip.set_total_length(len);
    ip.set_fragment_offset(0);
    ip.set_next_level_protocol(IpNextHeaderProtocols::Icmp);
    ip.set_source(from);
    ip.set_destination(to);
    bytes[header..].copy_from_slice(message);
    bytes
}

fn ipv6(from: Ipv6Addr, to: Ipv6Addr, message: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; IPV6_HEADER];
    let mut ip = MutableIpv6Packet::new(&mut bytes).unwrap();
    ip.set_version(6);
    ip.set_payload_length(message.len() as u16);
    ip.set_next_header(IpNextHeaderProtocols::Icmpv6);
    ip.set_source(from);
    ip.set_destination(to);
    bytes.extend_from_slice(message);
    bytes
}

/// The same shape as [`echo`]; the kernel computes and checks this checksum.
fn echo6(kind: u8, identifier: u16, sequence: u16) -> Vec<u8> {
    let mut bytes = vec![0x55; HEADER + 16];
    let mut echo = MutableEchoRequestPacketV6::new(&mut bytes).unwrap();
    echo.set_icmpv6_type(Icmpv6Type(kind));
    echo.set_icmpv6_code(icmpv6::Icmpv6Code(0));
    echo.set_identifier(identifier);
    echo.set_sequence_number(sequence);
    bytes
}

fn error6(kind: u8, packet: &[u8]) -> Vec<u8> {
    [&[kind, 0, 0, 0, 0, 0, 0, 0], packet].concat()
}

fn answer(local: impl Into<IpAddr>, polled: impl Into<IpAddr>, verdict: Verdict) -> Reply {
    Reply {
        local: local.into(),
        polled: polled.into(),
        identifier: OURS,
        sequence: 77,
        interface: Some(1),
        received: Time::from_secs(7),
        verdict,
    }
}

#[test]
fn icmp_messages_say_what_became_of_an_echo() {
    let reply = |message: &[u8]| ipv4(POLLED, LOCAL, 0, message);
    let from_router = |message: &[u8]| ipv4(ROUTER, LOCAL, 0, message);
    let sent = ipv4(LOCAL, POLLED, 0, &echo(8, OURS, 77));
    let sent_with_options = ipv4(LOCAL, POLLED, 10, &echo(8, OURS, 77));
    let others = ipv4(LOCAL, POLLED, 0, &echo(8, 1, 77));
    let mut udp = sent.clone();
    udp[9] = 17;
    let mut fragment = sent.clone();
    fragment[7] = 1;
    let mut swapped_length = sent.clone();
    swapped_length.swap(2, 3);
    let mut damaged = reply(&echo(0, OURS, 77));
    *damaged.last_mut().unwrap() ^= 1;
    let mut padded = reply(&echo(0, OURS, 77));
    padded.extend_from_slice(&[9; 6]);
    let mut short_header = reply(&echo(0, OURS, 77));
    short_header[0] = 0x44;
    let long_claim = {
        let mut bytes = reply(&echo(0, OURS, 77));
        bytes[3] += 1;
        bytes
    };
    let good = |verdict| Ok(answer(LOCAL, POLLED, verdict));

    for (what, bytes, said) in [
        ("reply", reply(&echo(0, OURS, 77)), good(Verdict::Answered)),
        ("with options", ipv4(POLLED, LOCAL, 3, &echo(0, OURS, 77)), good(Verdict::Answered)),
        ("link padding", padded, good(Verdict::Answered)),
        ("unreachable", from_router(&error(3, &sent, sent.len())), good(Verdict::Unreachable)),
        ("64 bits quoted", from_router(&error(3, &sent, 28)), good(Verdict::Unreachable)),
        ("exceeded", from_router(&error(11, &sent, 28)), good(Verdict::TimeExceeded)),
        ("parameter", from_router(&error(12, &sent, 28)), good(Verdict::OtherError)),
        (
            "quoted options",
            from_router(&error(11, &sent_with_options, 68)),
            good(Verdict::TimeExceeded),
        ),
        (
            "quoted length",
            from_router(&error(11, &swapped_length, 28)),
            good(Verdict::TimeExceeded),
        ),
        ("damaged", damaged, Err(Discard::BadChecksum)),
        ("another's", reply(&echo(0, 1, 77)), Err(Discard::NotOurs)),
        ("about another's", from_router(&error(3, &others, 28)), Err(Discard::NotOurs)),
        ("about UDP", from_router(&error(3, &udp, 28)), Err(Discard::NotOurs)),
        ("about a fragment", from_router(&error(3, &fragment, 28)), Err(Discard::NotOurs)),
        (
            "about a reply",
            from_router(&error(3, &reply(&echo(0, OURS, 77)), 28)),
            Err(Discard::NotOurs),
        ),
        ("request", reply(&echo(8, OURS, 77)), Err(Discard::OtherType)),
        ("redirect", from_router(&error(5, &sent, 28)), Err(Discard::OtherType)),
        ("56 bits quoted", from_router(&error(3, &sent, 27)), Err(Discard::Truncated)),
        ("half a header quoted", from_router(&error(3, &sent, 10)), Err(Discard::Truncated)),
        ("short header", short_header, Err(Discard::Truncated)),
        ("shorter than it says", long_claim, Err(Discard::Truncated)),
        ("header alone", reply(&[]), Err(Discard::Truncated)),
        ("nothing", Vec::new(), Err(Discard::Truncated)),
    ] {
        // The kernel's word for the source differs from the header's in no case.
        assert_eq!(parse(&meta(POLLED.into(), LOCAL.into()), &bytes, OURS), said, "{what}");
    }
}

#[test]
fn icmpv6_messages_say_what_became_of_an_echo() {
    let sent = ipv6(LOCAL6, POLLED6, &echo6(128, OURS, 77));
    let others = ipv6(LOCAL6, POLLED6, &echo6(128, 1, 77));
    let mut udp = sent.clone();
    udp[6] = 17;
    let good = |verdict| Ok(answer(LOCAL6, POLLED6, verdict));
    for (what, source, bytes, said) in [
        ("reply", POLLED6, echo6(129, OURS, 77), good(Verdict::Answered)),
        ("unreachable", ROUTER6, error6(1, &sent), good(Verdict::Unreachable)),
        ("too big", ROUTER6, error6(2, &sent), good(Verdict::OtherError)),
        ("exceeded", ROUTER6, error6(3, &sent), good(Verdict::TimeExceeded)),
        ("parameter", ROUTER6, error6(4, &sent[..48]), good(Verdict::OtherError)),
        ("another's", POLLED6, echo6(129, 1, 77), Err(Discard::NotOurs)),
        ("about another's", ROUTER6, error6(1, &others), Err(Discard::NotOurs)),
        ("about UDP", ROUTER6, error6(1, &udp), Err(Discard::NotOurs)),
        ("neighbours", POLLED6, echo6(136, OURS, 77), Err(Discard::OtherType)),
        ("quoted too short", ROUTER6, error6(1, &sent[..47]), Err(Discard::Truncated)),
        ("quoted nothing", ROUTER6, error6(1, &[]), Err(Discard::Truncated)),
        ("nothing", POLLED6, Vec::new(), Err(Discard::Truncated)),
    ] {
        assert_eq!(parse(&meta(source.into(), LOCAL6.into()), &bytes, OURS), said, "{what}");
    }
    let nowhere = DatagramMeta { local: None, ..meta(POLLED6.into(), LOCAL6.into()) };
    let said = parse(&nowhere, &echo6(129, OURS, 77), OURS);
    assert_eq!(said, Err(Discard::NoDestination));
}

#[test]
fn no_end_of_a_message_makes_it_panic() {
    let sent = ipv4(LOCAL, POLLED, 10, &echo(8, OURS, 77));
    let whole = ipv4(ROUTER, LOCAL, 10, &error(11, &sent, sent.len()));
    for end in 0..whole.len() {
        let said = parse(&meta(ROUTER.into(), LOCAL.into()), &whole[..end], OURS);
        assert_eq!(said, Err(Discard::Truncated), "{end} bytes");
    }
    let whole = error6(3, &ipv6(LOCAL6, POLLED6, &echo6(128, OURS, 77)));
    for end in 0..HEADER + IPV6_HEADER + HEADER {
        let said = parse(&meta(ROUTER6.into(), LOCAL6.into()), &whole[..end], OURS);
        assert_eq!(said, Err(Discard::Truncated), "{end} bytes");
    }
}

proptest! {
    /// TRAP-7 asks it of what devices send; what answers polls comes from anywhere as well.
    #[test]
    fn no_octets_make_it_panic(
        mut bytes in prop_oneof![
            Just(ipv4(POLLED, LOCAL, 4, &echo(0, OURS, 77))),
            Just(ipv4(ROUTER, LOCAL, 0, &error(3, &ipv4(LOCAL, POLLED, 8, &echo(8, OURS, 77)), 28))),
            Just(echo6(129, OURS, 77)),
            Just(error6(1, &ipv6(LOCAL6, POLLED6, &echo6(128, OURS, 77)))),
            vec(any::<u8>(), 0..100),
        ],
        changes in vec((any::<Index>(), any::<u8>()), 0..8),
    ) {
        for (at, octet) in changes {
            if let Some(last) = bytes.len().checked_sub(1) {
                bytes[at.index(last + 1)] = octet;
            }
        }
        for (source, local) in [(POLLED.into(), LOCAL.into()), (POLLED6.into(), LOCAL6.into())] {
            if let Ok(reply) = parse(&meta(source, local), &bytes, OURS) {
                prop_assert_eq!(reply.identifier, OURS);
            }
        }
    }
}

#[test]
fn what_to_do_without_the_capability_is_said() {
    let error = OpenError::Denied { source: io::ErrorKind::PermissionDenied.into() };
    assert_eq!(
        error.to_string(),
        "cannot open a raw ICMP socket without CAP_NET_RAW: under systemd set \
         AmbientCapabilities=CAP_NET_RAW, or run `setcap cap_net_raw+ep` on the evenkeel binary"
    );
}

/// A sender and an ear for `identifier`, or nothing where raw sockets are not allowed.
///
/// The tests run side by side and hear each other's messages: their identifiers differ, also from
/// those that [`replies`] derives.
fn ear_and_sender(family: Family, identifier: u16) -> Option<(Listener, Socket)> {
    let socket = match open(family, identifier, BUFFER) {
        Err(OpenError::Denied { source }) => {
            eprintln!("passed over: {source}");
            return None;
        }
        socket => socket.unwrap(),
    };
    let (domain, protocol) = match family {
        Family::V4 => (Domain::IPV4, Protocol::ICMPV4),
        Family::V6 => (Domain::IPV6, Protocol::ICMPV6),
    };
    let sender = Socket::new(domain, Type::RAW, Some(protocol)).unwrap();
    Some((Listener::new(vec![socket], Limits::default()), sender))
}

/// Sends others' messages, none of which passes the filter, between two of ours, and reads the
/// answers until that to the second.
fn replies(listener: &mut Listener, send: impl Fn(u16, u16), identifier: u16) -> Vec<Reply> {
    send(identifier, 1);
    for other in 1..=50 {
        send(identifier ^ other, 2);
    }
    send(identifier, 3);
    let batches = listener.datagrams(2);
    let parsed = |batch: &crate::ear::Batch| -> Vec<Reply> {
        assert!(batch.datagrams.iter().all(|meta| meta.interface == Some(1)), "{batch:?}");
        batch.iter().map(|(meta, bytes)| parse(meta, bytes, identifier).unwrap()).collect()
    };
    batches.iter().flat_map(parsed).collect()
}

#[test]
fn an_echo_to_this_host_is_answered() {
    let Some((mut listener, sender)) = ear_and_sender(Family::V4, 0x4d31) else { return };
    let from = Ipv4Addr::new(127, 0, 0, 31);
    let to = Ipv4Addr::new(127, 0, 0, 32);
    sender.bind(&SocketAddr::from((from, 0)).into()).unwrap();
    let send = |identifier, sequence| {
        let echo = echo(8, identifier, sequence);
        sender.send_to(&echo, &SocketAddr::from((to, 0)).into()).unwrap();
    };
    let began = Clock::now();
    let replies = replies(&mut listener, send, 0x4d31);
    for (reply, sequence) in replies.iter().zip([1, 3]) {
        let wanted = Reply {
            sequence,
            identifier: 0x4d31,
            interface: reply.interface,
            received: reply.received,
            ..answer(from, to, Verdict::Answered)
        };
        assert_eq!(*reply, wanted);
        assert!(began <= reply.received && reply.received <= Clock::now());
    }
}

#[test]
fn an_ipv6_echo_to_this_host_is_answered() {
    let Some((mut listener, sender)) = ear_and_sender(Family::V6, 0x4d32) else { return };
    let here = Ipv6Addr::LOCALHOST;
    let send = |identifier, sequence| {
        let echo = echo6(128, identifier, sequence);
        sender.send_to(&echo, &SocketAddr::from((here, 0)).into()).unwrap();
    };
    let replies = replies(&mut listener, send, 0x4d32);
    for (reply, sequence) in replies.iter().zip([1, 3]) {
        let wanted = Reply {
            sequence,
            identifier: 0x4d32,
            interface: reply.interface,
            received: reply.received,
            ..answer(here, here, Verdict::Answered)
        };
        assert_eq!(*reply, wanted);
    }
}

/// Errors are sent to ourselves as they are: the filter passes those that quote our echo, with and
/// without options in the quoted header.
#[test]
fn errors_about_our_echoes_pass_the_filter_and_others_do_not() {
    let Some((mut listener, sender)) = ear_and_sender(Family::V4, 0x6e01) else { return };
    let to = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 33), 0));
    let about = |identifier, sequence, options| {
        ipv4(LOCAL, POLLED, options, &echo(8, identifier, sequence))
    };
    let mut udp = about(0x6e01, 77, 0);
    udp[9] = 17;
    for message in [
        error(11, &about(0x6e01, 1, 0), 28),
        error(11, &about(0x6e02, 2, 0), 28),
        error(3, &udp, 28),
        error(5, &about(0x6e01, 3, 0), 28),
        error(12, &about(0x6e02, 4, 10), 68),
        error(12, &about(0x6e01, 5, 10), 68),
    ] {
        sender.send_to(&message, &to.into()).unwrap();
    }
    let got: Vec<(u16, Verdict)> = listener
        .datagrams(2)
        .iter()
        .flat_map(|batch| batch.iter().map(|(meta, bytes)| parse(meta, bytes, 0x6e01).unwrap()))
        .map(|reply| (reply.sequence, reply.verdict))
        .collect();
    assert_eq!(got, [(1, Verdict::TimeExceeded), (5, Verdict::OtherError)]);
}

#[test]
fn icmpv6_errors_about_our_echoes_pass_the_filter_and_others_do_not() {
    let Some((mut listener, sender)) = ear_and_sender(Family::V6, 0x6e03) else { return };
    let to = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
    let about = |identifier, sequence| ipv6(LOCAL6, POLLED6, &echo6(128, identifier, sequence));
    let mut udp = about(0x6e03, 77);
    udp[6] = 17;
    for message in [
        error6(1, &about(0x6e03, 1)),
        error6(1, &about(0x6e04, 2)),
        error6(1, &udp),
        error6(136, &about(0x6e03, 3)),
        error6(4, &about(0x6e03, 5)),
    ] {
        sender.send_to(&message, &to.into()).unwrap();
    }
    let got: Vec<(u16, Verdict)> = listener
        .datagrams(2)
        .iter()
        .flat_map(|batch| batch.iter().map(|(meta, bytes)| parse(meta, bytes, 0x6e03).unwrap()))
        .map(|reply| (reply.sequence, reply.verdict))
        .collect();
    assert_eq!(got, [(1, Verdict::Unreachable), (5, Verdict::OtherError)]);
}
