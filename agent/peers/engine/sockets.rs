//! The echo sockets: one for each family and configured source address, raw where that is allowed
//! and ping sockets elsewhere, behind filters in the kernel that let our answers through alone.
//!
//! Every raw socket of a host is offered a copy of every ICMP packet. The type is looked at before
//! the copy is made (ICMP_FILTER, ICMPV6_FILTER), the identifier after it (BPF); a socket that is
//! bound to its source address isn't even offered what is sent to others.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use evenkeel_core::{
    peers::settings::{Group, Heartbeat, Settings},
    time::Time,
};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use thiserror::Error;

use super::stats::SocketStats;
use crate::ear::{
    icmp::bpf,
    socket::{grow, set_option},
};

/// What an answer takes of a receive buffer, in the bytes that the kernel counts: the packet with
/// its descriptor. Measured on a veth and on loopback, for both families and kinds of socket;
/// drivers with larger receive pages take more.
pub const TRUESIZE: usize = 832;
/// The answers that come while this thread is kept from reading must find room: more than this
/// many come in no pause that is still on time, as a core neither sends nor answers more in 50 ms.
const MOST_AT_ONCE: u32 = 8_192;
/// The send buffer that is asked for, in bytes. A request to a neighbour that does not answer ARP
/// or ND lies in it for up to 3 s; this holds those of 40,000 such peers, far beyond what two
/// default batches can send in that time. Nothing is reserved.
const SEND_BUFFER: usize = 32 << 20;
/// The bits of the identifier that tell our sockets from others; the low two vary, see
/// [`Request::down`](evenkeel_core::peers::Request::down).
pub(super) const IDENTIFIER: u16 = 0xfffc;
/// Its type (RFC 792).
const ECHO_REPLY_V4: u32 = 0;
/// Its type (RFC 4443, 4.2).
const ECHO_REPLY_V6: u32 = 129;

/// Why the engine has no echo socket.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Neither kind of socket is allowed.
    #[error(
        "cannot send echoes to peers: a raw ICMP socket needs CAP_NET_RAW (under systemd set \
         AmbientCapabilities=CAP_NET_RAW, or run `setcap cap_net_raw+ep` on the evenkeel binary), \
         and a ping socket a group of this process within `sysctl net.ipv4.ping_group_range`"
    )]
    Denied {
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel does not have the family.
    #[error("cannot send echoes by {}: this host does not have the protocol", name(*.v4))]
    NoSuchFamily {
        /// IPv4, else IPv6.
        v4: bool,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The socket can't have the source address.
    #[error("cannot send echoes from {address}")]
    Address {
        /// The configured source address.
        address: IpAddr,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Anything else.
    #[error("cannot open a socket for echoes by {}", name(*.v4))]
    Other {
        /// IPv4, else IPv6.
        v4: bool,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel refuses a thread or a descriptor.
    #[error("cannot start the thread of the peer monitor")]
    Thread {
        /// The kernel's answer.
        source: io::Error,
    },
}

fn name(v4: bool) -> &'static str {
    if v4 { "IPv4" } else { "IPv6" }
}

/// What a socket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    /// IPv4, else IPv6.
    pub v4: bool,
    /// The source address; nothing for the one that the kernel chooses.
    pub source: Option<IpAddr>,
}

impl Key {
    /// What the requests of `group` to this family leave by.
    pub(super) fn of(group: &Group, v4: bool) -> Key {
        let source =
            if v4 { group.source_v4.map(IpAddr::V4) } else { group.source_v6.map(IpAddr::V6) };
        Key { v4, source }
    }

    /// All that `settings` need, each once.
    pub(super) fn all(settings: &Settings) -> Vec<Key> {
        let mut keys = Vec::new();
        for group in settings.groups.iter().filter(|group| group.kind == Heartbeat::Echo) {
            for key in [true, false].map(|v4| Key::of(group, v4)) {
                if !keys.contains(&key) {
                    keys.push(key);
                }
            }
        }
        keys
    }
}

/// A socket for echoes.
#[derive(Debug)]
pub(super) struct EchoSocket {
    fd: OwnedFd,
    pub key: Key,
    /// What our echoes on this socket carry, in the bits of [`IDENTIFIER`].
    pub identifier: u16,
    /// Nothing that it will still give was received before this.
    pub floor: Time,
    /// The kernel's count of drops when we last looked, modulo 2^32.
    pub drops: u32,
    pub stats: SocketStats,
    /// IPV6_PKTINFO with the source address, where there is one.
    source_info: Option<Box<SourceInfo>>,
}

/// A control message that names the source of an IPv6 packet.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct SourceInfo {
    header: libc::cmsghdr,
    info: libc::in6_pktinfo,
    /// CMSG_SPACE rounds up to the alignment of the header.
    _end: [u8; 4],
}

impl std::fmt::Debug for SourceInfo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SourceInfo({})", Ipv6Addr::from(self.info.ipi6_addr.s6_addr))
    }
}

impl EchoSocket {
    /// Opens the socket for `key` with a receive buffer of `buffer` bytes, if the kernel grants
    /// it: a raw one with this identifier, or else a ping socket, for which the kernel chooses one.
    ///
    /// The source address need not exist yet: requests fail until it does.
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    pub(super) fn open(key: Key, identifier: u16, buffer: usize) -> Result<EchoSocket, OpenError> {
        let refused = match Self::with_type(key, Type::RAW, identifier, buffer) {
            Err(OpenError::Denied { source }) => source,
            opened => return opened,
        };
        match Self::with_type(key, Type::DGRAM, 0, buffer) {
            // What to do is the same; the first answer is the one that is easier to look up.
            Err(OpenError::Denied { .. }) => Err(OpenError::Denied { source: refused }),
            opened => opened,
        }
    }

    fn with_type(
        key: Key,
        kind: Type,
        identifier: u16,
        buffer: usize,
    ) -> Result<EchoSocket, OpenError> {
        let v4 = key.v4;
        let raw = kind == Type::RAW;
        let other = |source: io::Error| match (source.kind(), source.raw_os_error()) {
            (io::ErrorKind::PermissionDenied, _) => OpenError::Denied { source },
            (_, Some(libc::EAFNOSUPPORT | libc::EPROTONOSUPPORT)) => {
                OpenError::NoSuchFamily { v4, source }
            }
            _ => OpenError::Other { v4, source },
        };
        let (domain, protocol) = match v4 {
            true => (Domain::IPV4, Protocol::ICMPV4),
            false => (Domain::IPV6, Protocol::ICMPV6),
        };
        let identifier = identifier & IDENTIFIER;
        let socket = Socket::new(domain, kind, Some(protocol)).map_err(other)?;
        if raw {
            filter(&socket, v4, identifier).map_err(other)?;
        }
        let buffer_granted = prepare(&socket, v4, buffer).map_err(other)?;
        // A raw socket receives from the moment when it is opened. What came before the filter was
        // there is nothing of ours, as we have sent nothing yet.
        while socket.recv(&mut []).is_ok() {}

        let unspecified =
            if v4 { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        if key.source.is_some() || !raw {
            let address = key.source.unwrap_or(unspecified);
            bind(&socket, address).map_err(|source| OpenError::Address { address, source })?;
        }
        // The identifier of a ping socket is its port.
        let identifier = if raw { identifier } else { port(&socket).map_err(other)? };
        let stats = SocketStats {
            v4,
            source: key.source,
            raw,
            buffer_asked: buffer,
            buffer_granted,
            kernel_drops: 0,
            sent: 0,
            sent_bytes: 0,
            received: 0,
            received_bytes: 0,
            receive_errors: 0,
        };
        let source_info = match key.source {
            Some(IpAddr::V6(source)) => Some(Box::new(SourceInfo::new(source))),
            _ => None,
        };
        let fd = OwnedFd::from(socket);
        Ok(EchoSocket { fd, key, identifier, floor: Time::ZERO, drops: 0, stats, source_info })
    }

    pub(super) fn raw_fd(&self) -> libc::c_int {
        self.fd.as_raw_fd()
    }

    /// Whether an answer with this identifier may be to an echo of this socket.
    pub(super) fn owns(&self, identifier: u16) -> bool {
        let mask = if self.stats.raw { IDENTIFIER } else { u16::MAX };
        identifier & mask == self.identifier & mask
    }

    /// What each message must carry to leave from the source address, if that is so.
    ///
    /// A bound IPv4 socket sends from nowhere else, and the kernel refuses the request if the
    /// address is gone. To a bound IPv6 socket it would not look again; with this it does.
    pub(super) fn source_info(&self) -> Option<&SourceInfo> {
        self.source_info.as_deref()
    }

    /// How many answers fit into the receive buffer at once.
    pub(super) fn room(&self) -> usize {
        self.stats.buffer_granted * 2 / TRUESIZE
    }
}

impl AsFd for EchoSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl SourceInfo {
    fn new(source: Ipv6Addr) -> SourceInfo {
        // SAFETY: a SourceInfo is plain data, for which all bytes zero are valid.
        let mut info: SourceInfo = unsafe { std::mem::zeroed() };
        // The macro only computes.
        // SAFETY: as it takes no pointers.
        let len = unsafe { libc::CMSG_LEN(size_of::<libc::in6_pktinfo>() as _) };
        info.header.cmsg_len = len as _;
        info.header.cmsg_level = libc::IPPROTO_IPV6;
        info.header.cmsg_type = libc::IPV6_PKTINFO;
        info.info.ipi6_addr.s6_addr = source.octets();
        info
    }
}

/// How many answers must find room in a receive buffer: to one batch of each list, but for what no
/// pause can bring together.
pub(super) fn room_needed(settings: &Settings) -> usize {
    let batches = &settings.batches;
    let both = batches.heartbeat.size.get().saturating_add(batches.retransmission.size.get());
    both.min(MOST_AT_ONCE) as usize
}

/// Options that both kinds of sockets need. Says how large a receive buffer was granted.
fn prepare(socket: &Socket, v4: bool, buffer: usize) -> io::Result<usize> {
    socket.set_nonblocking(true)?;
    set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1)?;
    let (level, info) = match v4 {
        true => (libc::IPPROTO_IP, libc::IP_PKTINFO),
        false => (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
    };
    set_option(socket.as_fd(), level, info, 1)?;
    let asked = SEND_BUFFER as libc::c_int;
    if set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, asked).is_err() {
        set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_SNDBUF, asked)?;
    }
    grow(socket, buffer)
}

/// Binds to an address whether or not it exists now: another host's, until a takeover.
fn bind(socket: &Socket, address: IpAddr) -> io::Result<()> {
    let (level, free) = match address {
        IpAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_FREEBIND),
        IpAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_FREEBIND),
    };
    set_option(socket.as_fd(), level, free, 1)?;
    socket.bind(&SocketAddr::from((address, 0)).into())?;
    // From here on the kernel is to refuse what it can't send from there.
    set_option(socket.as_fd(), level, free, 0)
}

fn port(socket: &Socket) -> io::Result<u16> {
    let local = socket.local_addr()?.as_socket();
    Ok(local.map_or(0, |local| local.port()))
}

/// Lets only echo replies with our identifier through.
fn filter(socket: &Socket, v4: bool, identifier: u16) -> io::Result<()> {
    if v4 {
        /// `linux/icmp.h`; a set bit keeps that type out.
        const ICMP_FILTER: libc::c_int = 1;
        set_option(socket.as_fd(), libc::SOL_RAW, ICMP_FILTER, !(1 << ECHO_REPLY_V4))?;
    } else {
        let mut types = [u32::MAX; 8];
        types[(ECHO_REPLY_V6 / 32) as usize] &= !(1 << (ECHO_REPLY_V6 % 32));
        set_types_v6(socket, &types)?;
    }
    socket.attach_filter(&program(v4, identifier))
}

/// Sets which types an ICMPv6 socket does not receive (RFC 3542, 3.2, in the kernel's layout).
fn set_types_v6(socket: &Socket, types: &[u32; 8]) -> io::Result<()> {
    /// `linux/icmpv6.h`.
    const ICMPV6_FILTER: libc::c_int = 1;
    // SAFETY: the pointer is to as many bytes as the length says, which live until the call
    // returns.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_ICMPV6,
            ICMPV6_FILTER,
            types.as_ptr().cast(),
            size_of_val(types) as libc::socklen_t,
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Lets an echo reply with our identifier through.
fn program(v4: bool, identifier: u16) -> Vec<SockFilter> {
    // A raw IPv4 socket's filter sees the packet from its IP header, an IPv6 one's from its
    // ICMPv6 header.
    let (first, kind, field, reply) = match v4 {
        true => (Some(bpf::x_header(0)), bpf::byte_x(0), bpf::half_x(4), ECHO_REPLY_V4),
        false => (None, bpf::byte(0), bpf::half(4), ECHO_REPLY_V6),
    };
    let rest = [
        kind,
        bpf::equal(reply, 0, 3),
        field,
        bpf::and(u32::from(IDENTIFIER)),
        bpf::equal(u32::from(identifier), 1, 0),
        bpf::give(0),
        bpf::give(u32::MAX),
    ];
    first.into_iter().chain(rest).collect()
}
