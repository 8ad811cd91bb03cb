//! ICMP sockets: raw, one for each family, behind a filter in the kernel that lets through only
//! what may answer our polls; and what such a message says.
//!
//! Every raw ICMP socket of a host gets a copy of every ICMP packet. The filter keeps the copies
//! of others' pings out; [`parse`] checks everything once more, as the filter is no more than a way
//! to save work.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::AsFd,
};

use evenkeel_core::input::{Reply, Verdict};
use pnet::packet::{
    icmp,
    icmp::{IcmpPacket, IcmpTypes},
    icmpv6,
    icmpv6::{Icmpv6Packet, Icmpv6Types},
    ip::IpNextHeaderProtocols,
    ipv4::Ipv4Packet,
    ipv6::Ipv6Packet,
};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use thiserror::Error;

use super::{DatagramMeta, EarSocket, socket::set_option};

/// The receive buffer that is asked for a reply socket, in bytes. The default buffer loses half of
/// the answers to a burst of 550 polls; with 1 MiB none were lost, and with 4 MiB none were lost
/// on a machine kept busy by four other processes either.
pub const BUFFER: usize = 4 << 20;

/// The two families of ICMP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// ICMP (RFC 792).
    V4,
    /// ICMPv6 (RFC 4443).
    V6,
}

/// Why an ICMP socket can't be had.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The process may not open raw sockets.
    #[error(
        "cannot open a raw ICMP socket without CAP_NET_RAW: under systemd set \
         AmbientCapabilities=CAP_NET_RAW, or run `setcap cap_net_raw+ep` on the evenkeel binary"
    )]
    Denied {
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel does not have this family, as where IPv6 is turned off.
    #[error("cannot open an ICMP{} socket: this host does not have the protocol", suffix(*family))]
    NoSuchFamily {
        /// The family.
        family: Family,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Anything else.
    #[error("cannot open an ICMP{} socket", suffix(*family))]
    Other {
        /// The family.
        family: Family,
        /// The kernel's answer.
        source: io::Error,
    },
}

fn suffix(family: Family) -> &'static str {
    match family {
        Family::V4 => "",
        Family::V6 => "v6",
    }
}

/// Why a message from an ICMP socket is no answer to a poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Discard {
    /// It ends too soon, or its headers contradict its length.
    Truncated,
    /// Its checksum is wrong (RFC 792).
    BadChecksum,
    /// It carries another identifier, or quotes something that is no echo of ours.
    NotOurs,
    /// It is neither an echo reply nor an error.
    OtherType,
    /// The kernel did not say to which of our addresses it was sent.
    NoDestination,
}

impl Discard {
    /// The reason as a metric's label.
    pub fn reason(self) -> &'static str {
        match self {
            Discard::Truncated => "truncated",
            Discard::BadChecksum => "bad_checksum",
            Discard::NotOurs => "not_ours",
            Discard::OtherType => "other_type",
            Discard::NoDestination => "no_destination",
        }
    }
}

/// Opens a socket that receives the answers to echoes with `identifier`, and the errors that quote
/// them, with a receive buffer of `buffer` bytes if the kernel grants it.
///
/// # Errors
///
/// See [`OpenError`].
pub fn open(family: Family, identifier: u16, buffer: usize) -> Result<EarSocket, OpenError> {
    filtered(family, identifier).and_then(|socket| EarSocket::new(socket, buffer, None)).map_err(
        |source| match (source.kind(), source.raw_os_error()) {
            (io::ErrorKind::PermissionDenied, _) => OpenError::Denied { source },
            (_, Some(libc::EAFNOSUPPORT | libc::EPROTONOSUPPORT)) => {
                OpenError::NoSuchFamily { family, source }
            }
            _ => OpenError::Other { family, source },
        },
    )
}

/// Opens such a socket of each family that this host has, with a receive buffer of [`BUFFER`] bytes.
///
/// # Errors
///
/// See [`OpenError`]; a host without IPv6 is none.
pub fn open_each(identifier: u16) -> Result<Vec<EarSocket>, OpenError> {
    let mut sockets = vec![open(Family::V4, identifier, BUFFER)?];
    match open(Family::V6, identifier, BUFFER) {
        Ok(socket) => sockets.push(socket),
        Err(OpenError::NoSuchFamily { .. }) => {}
        Err(failed) => return Err(failed),
    }
    Ok(sockets)
}

/// What a message from a socket of [`open`] says of a poll.
///
/// # Errors
///
/// It says nothing: see [`Discard`].
pub fn parse(meta: &DatagramMeta, bytes: &[u8], identifier: u16) -> Result<Reply, Discard> {
    if meta.truncated {
        return Err(Discard::Truncated);
    }
    let (local, polled, echo, verdict) = match meta.source {
        SocketAddr::V4(_) => parse_v4(bytes)?,
        SocketAddr::V6(source) => parse_v6(bytes, (*source.ip()).into(), meta.local)?,
    };
    if echo.identifier != identifier {
        return Err(Discard::NotOurs);
    }
    let Echo { identifier, sequence } = echo;
    let (interface, received) = (meta.interface, meta.received);
    Ok(Reply { local, polled, identifier, sequence, interface, received, verdict })
}

/// What tells one echo from another.
struct Echo {
    identifier: u16,
    sequence: u16,
}

type Answer = (IpAddr, IpAddr, Echo, Verdict);

/// The header of an echo or its reply, and of every ICMP error, in both families; also what an
/// ICMP error is bound to quote of an echo (RFC 792: 64 bits).
const HEADER: usize = 8;
/// The header of IPv6 (RFC 8200, 3).
const IPV6_HEADER: usize = 40;

/// A raw IPv4 socket gives the whole packet.
fn parse_v4(bytes: &[u8]) -> Result<Answer, Discard> {
    let (ip, message) = split_v4(bytes)?;
    let whole = usize::from(ip.get_total_length()).checked_sub(bytes.len() - message.len());
    let message = whole.and_then(|len| message.get(..len)).ok_or(Discard::Truncated)?;
    let icmp = IcmpPacket::new(message).ok_or(Discard::Truncated)?;
    let verdict = match icmp.get_icmp_type() {
        IcmpTypes::EchoReply => Verdict::Answered,
        IcmpTypes::DestinationUnreachable => Verdict::Unreachable,
        IcmpTypes::TimeExceeded => Verdict::TimeExceeded,
        IcmpTypes::ParameterProblem => Verdict::OtherError,
        _ => return Err(Discard::OtherType),
    };
    if icmp.get_checksum() != icmp::checksum(&icmp) {
        return Err(Discard::BadChecksum);
    }
    if verdict == Verdict::Answered {
        let reply = icmp::echo_reply::EchoReplyPacket::new(message).ok_or(Discard::Truncated)?;
        let echo =
            Echo { identifier: reply.get_identifier(), sequence: reply.get_sequence_number() };
        return Ok((ip.get_destination().into(), ip.get_source().into(), echo, verdict));
    }

    let quoted = message.get(HEADER..).ok_or(Discard::Truncated)?;
    let (ip, quoted) = split_v4(quoted)?;
    if ip.get_next_level_protocol() != IpNextHeaderProtocols::Icmp || ip.get_fragment_offset() != 0
    {
        return Err(Discard::NotOurs);
    }
    let echo = icmp::echo_request::EchoRequestPacket::new(quoted).ok_or(Discard::Truncated)?;
    if echo.get_icmp_type() != IcmpTypes::EchoRequest {
        return Err(Discard::NotOurs);
    }
    let echo = Echo { identifier: echo.get_identifier(), sequence: echo.get_sequence_number() };
    Ok((ip.get_source().into(), ip.get_destination().into(), echo, verdict))
}

/// An IPv4 header with its options, and what follows it. The total length is not looked at: in
/// quoted headers, some devices leave it in their own byte order, or take the header off it.
fn split_v4(bytes: &[u8]) -> Result<(Ipv4Packet<'_>, &[u8]), Discard> {
    let ip = Ipv4Packet::new(bytes).ok_or(Discard::Truncated)?;
    let header = usize::from(ip.get_header_length()) * 4;
    if ip.get_version() != 4 || header < Ipv4Packet::minimum_packet_size() {
        return Err(Discard::Truncated);
    }
    let rest = bytes.get(header..).ok_or(Discard::Truncated)?;
    Ok((ip, rest))
}

/// A raw IPv6 socket gives the packet without its headers, and the kernel has checked the
/// checksum (RFC 3542, 3.1).
fn parse_v6(bytes: &[u8], source: IpAddr, local: Option<IpAddr>) -> Result<Answer, Discard> {
    let icmp = Icmpv6Packet::new(bytes).ok_or(Discard::Truncated)?;
    let verdict = match icmp.get_icmpv6_type() {
        Icmpv6Types::EchoReply => Verdict::Answered,
        Icmpv6Types::DestinationUnreachable => Verdict::Unreachable,
        Icmpv6Types::TimeExceeded => Verdict::TimeExceeded,
        Icmpv6Types::PacketTooBig | Icmpv6Types::ParameterProblem => Verdict::OtherError,
        _ => return Err(Discard::OtherType),
    };
    if verdict == Verdict::Answered {
        let reply = icmpv6::echo_reply::EchoReplyPacket::new(bytes).ok_or(Discard::Truncated)?;
        let echo =
            Echo { identifier: reply.get_identifier(), sequence: reply.get_sequence_number() };
        return Ok((local.ok_or(Discard::NoDestination)?, source, echo, verdict));
    }

    let quoted = bytes.get(HEADER..).ok_or(Discard::Truncated)?;
    let ip = Ipv6Packet::new(quoted).ok_or(Discard::Truncated)?;
    // We send echoes without extension headers.
    if ip.get_version() != 6 || ip.get_next_header() != IpNextHeaderProtocols::Icmpv6 {
        return Err(Discard::NotOurs);
    }
    let echo = icmpv6::echo_request::EchoRequestPacket::new(&quoted[IPV6_HEADER..])
        .ok_or(Discard::Truncated)?;
    if echo.get_icmpv6_type() != Icmpv6Types::EchoRequest {
        return Err(Discard::NotOurs);
    }
    let echo = Echo { identifier: echo.get_identifier(), sequence: echo.get_sequence_number() };
    Ok((ip.get_source().into(), ip.get_destination().into(), echo, verdict))
}

fn filtered(family: Family, identifier: u16) -> io::Result<Socket> {
    let (domain, protocol, filter) = match family {
        Family::V4 => (Domain::IPV4, Protocol::ICMPV4, filter_v4(identifier)),
        Family::V6 => (Domain::IPV6, Protocol::ICMPV6, filter_v6(identifier)),
    };
    let socket = Socket::new(domain, Type::RAW, Some(protocol))?;
    socket.attach_filter(&filter)?;
    let (level, name) = match family {
        Family::V4 => (libc::IPPROTO_IP, libc::IP_PKTINFO),
        Family::V6 => (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
    };
    set_option(socket.as_fd(), level, name, 1)?;
    // A raw socket receives from the moment when it is opened. What came before the filter was
    // there is nothing of ours, as we have sent nothing yet.
    socket.set_nonblocking(true)?;
    while socket.recv(&mut []).is_ok() {}
    Ok(socket)
}

/// Instructions of the classic BPF (`linux/filter.h`). A load from beyond the packet drops it.
pub(crate) mod bpf {
    use socket2::SockFilter;

    /// A = byte at `at`.
    pub const fn byte(at: u32) -> SockFilter {
        SockFilter::new((libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16, 0, 0, at)
    }
    /// A = big-endian half word at `at`.
    pub const fn half(at: u32) -> SockFilter {
        SockFilter::new((libc::BPF_LD | libc::BPF_H | libc::BPF_ABS) as u16, 0, 0, at)
    }
    /// A = byte at X + `at`.
    pub const fn byte_x(at: u32) -> SockFilter {
        SockFilter::new((libc::BPF_LD | libc::BPF_B | libc::BPF_IND) as u16, 0, 0, at)
    }
    /// A = big-endian half word at X + `at`.
    pub const fn half_x(at: u32) -> SockFilter {
        SockFilter::new((libc::BPF_LD | libc::BPF_H | libc::BPF_IND) as u16, 0, 0, at)
    }
    /// X = length of the IPv4 header at `at`.
    pub const fn x_header(at: u32) -> SockFilter {
        SockFilter::new((libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH) as u16, 0, 0, at)
    }
    /// A = A & `mask`.
    pub const fn and(mask: u32) -> SockFilter {
        SockFilter::new((libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16, 0, 0, mask)
    }
    /// A = A * 2^`bits`.
    pub const fn shift(bits: u32) -> SockFilter {
        SockFilter::new((libc::BPF_ALU | libc::BPF_LSH | libc::BPF_K) as u16, 0, 0, bits)
    }
    /// X = A + X. Leaves the sum in A as well.
    pub const fn add_to_x() -> [SockFilter; 2] {
        [
            SockFilter::new((libc::BPF_ALU | libc::BPF_ADD | libc::BPF_X) as u16, 0, 0, 0),
            SockFilter::new((libc::BPF_MISC | libc::BPF_TAX) as u16, 0, 0, 0),
        ]
    }
    /// Skips `yes` instructions if A = `value`, else `no`.
    pub const fn equal(value: u32, yes: u8, no: u8) -> SockFilter {
        SockFilter::new((libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16, yes, no, value)
    }
    /// Skips `yes` instructions if A > `value`, else `no`.
    pub const fn greater(value: u32, yes: u8, no: u8) -> SockFilter {
        SockFilter::new((libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K) as u16, yes, no, value)
    }
    /// Takes the whole packet if `bytes` is not 0, and drops it if it is.
    pub const fn give(bytes: u32) -> SockFilter {
        SockFilter::new((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, bytes)
    }
}

/// On a raw IPv4 socket, a filter sees the packet from its IP header.
fn filter_v4(identifier: u16) -> Vec<SockFilter> {
    let header = HEADER as u32;
    let [add, move_to_x] = bpf::add_to_x();
    vec![
        /*  0 */ bpf::x_header(0),
        /*  1 */ bpf::byte_x(0), // the type
        /*  2 */ bpf::equal(0, 14, 0), // an echo reply: to 17, with X at the message
        /*  3 */ bpf::equal(3, 2, 0),
        /*  4 */ bpf::equal(11, 1, 0),
        /*  5 */ bpf::equal(12, 0, 13), // another type: to 19
        /*  6 */ bpf::byte_x(header + 9), // the quoted protocol
        /*  7 */ bpf::equal(1, 0, 11), // no ICMP: to 19
        /*  8 */ bpf::byte_x(header), // the length of the quoted IP header
        /*  9 */ bpf::and(0x0f),
        /* 10 */ bpf::shift(2),
        /* 11 */ add,
        /* 12 */
        move_to_x, // X is now so far before the quoted message as `header` is long
        /* 13 */ bpf::byte_x(header), // the quoted type
        /* 14 */ bpf::equal(8, 0, 4), // no echo: to 19
        /* 15 */ bpf::half_x(header + 4), // the quoted identifier
        /* 16 */ bpf::equal(identifier as u32, 3, 2), // ours: to 20, or to 19
        /* 17 */ bpf::half_x(4), // the identifier
        /* 18 */ bpf::equal(identifier as u32, 1, 0),
        /* 19 */ bpf::give(0),
        /* 20 */ bpf::give(u32::MAX),
    ]
}

/// On a raw IPv6 socket, a filter sees the packet from its ICMPv6 header.
fn filter_v6(identifier: u16) -> Vec<SockFilter> {
    let header = HEADER as u32;
    let quoted = header + IPV6_HEADER as u32;
    vec![
        /*  0 */ bpf::byte(0), // the type
        /*  1 */ bpf::equal(129, 8, 0), // an echo reply: to 10
        /*  2 */ bpf::equal(0, 9, 0), // reserved: to 12
        /*  3 */ bpf::greater(4, 8, 0), // no error that we know: to 12
        /*  4 */ bpf::byte(header + 6), // the quoted next header
        /*  5 */ bpf::equal(58, 0, 6), // no ICMPv6: to 12
        /*  6 */ bpf::byte(quoted), // the quoted type
        /*  7 */ bpf::equal(128, 0, 4), // no echo: to 12
        /*  8 */ bpf::half(quoted + 4), // the quoted identifier
        /*  9 */ bpf::equal(identifier as u32, 3, 2), // ours: to 13, or to 12
        /* 10 */ bpf::half(4), // the identifier
        /* 11 */ bpf::equal(identifier as u32, 1, 0),
        /* 12 */ bpf::give(0),
        /* 13 */ bpf::give(u32::MAX),
    ]
}

#[cfg(test)]
#[path = "icmp_tests.rs"]
mod tests;
