//! The sockets of Proxy Mobile IPv6 heartbeats, and the system call that sends many messages at
//! once.
//!
//! Over IPv6, the kernel computes the checksum of what is sent, as it alone knows the source address
//! that it chooses (RFC 4584, 6.1). What comes it is told not to check: it would count each wrong
//! checksum as a drop of the socket, and so anybody's broken message would pass for a full receive
//! buffer, which makes what is outstanding inconclusive (PEER-12). Hence two sockets: one that
//! sends, whose filter lets nothing in, and one that receives.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    ptr,
};

use evenkeel_core::peers::mobility::{CHECKSUM_AT, MOST, Message, PORT, PROTOCOL};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use thiserror::Error;

use super::mobility::name;
use crate::ear::{
    icmp::bpf,
    socket::{grow, set_option},
};

/// `linux/in6.h`: where the checksum is, or that there is none.
const IPV6_CHECKSUM: libc::c_int = 7;

/// Why there is no socket.
#[derive(Debug, Error)]
pub(super) enum OpenError {
    /// The process may not open raw sockets.
    #[error(
        "cannot send Proxy Mobile IPv6 heartbeats over IPv6 without CAP_NET_RAW: under systemd set \
         AmbientCapabilities=CAP_NET_RAW, or run `setcap cap_net_raw+ep` on the evenkeel binary"
    )]
    Denied {
        /// The kernel's answer.
        source: io::Error,
    },
    /// Another process is bound to the port.
    #[error(
        "cannot send Proxy Mobile IPv6 heartbeats over IPv4: UDP port {PORT} is in use by another \
         process; `ss -ulpn 'sport = :{PORT}'` shows which"
    )]
    InUse {
        /// The kernel's answer.
        source: io::Error,
    },
    /// Anything else.
    #[error("cannot send Proxy Mobile IPv6 heartbeats over {}: {source}", name(*.v4))]
    Other {
        /// IPv4, else IPv6.
        v4: bool,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// The sockets of one family.
#[derive(Debug)]
pub(super) struct Side {
    /// What comes comes here.
    pub receive: OwnedFd,
    /// What leaves leaves here, if not by the same.
    send: Option<OwnedFd>,
}

impl Side {
    /// Opens the sockets of a family, with a receive buffer of `buffer` bytes if the kernel grants
    /// it.
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    pub(super) fn open(v4: bool, buffer: usize) -> Result<Side, OpenError> {
        let opened = if v4 { Side::udp(buffer) } else { Side::raw(buffer) };
        opened.map_err(|source| match source.kind() {
            io::ErrorKind::PermissionDenied => OpenError::Denied { source },
            io::ErrorKind::AddrInUse => OpenError::InUse { source },
            _ => OpenError::Other { v4, source },
        })
    }

    fn udp(buffer: usize) -> io::Result<Side> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        set_option(socket.as_fd(), libc::IPPROTO_IP, libc::IP_PKTINFO, 1)?;
        prepare(&socket, buffer)?;
        socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT)).into())?;
        Ok(Side { receive: socket.into(), send: None })
    }

    fn raw(buffer: usize) -> io::Result<Side> {
        let open = || {
            Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::from(libc::c_int::from(PROTOCOL))))
        };
        let send = open()?;
        let checksum_at = CHECKSUM_AT as libc::c_int;
        set_option(send.as_fd(), libc::IPPROTO_IPV6, IPV6_CHECKSUM, checksum_at)?;
        send.attach_filter(&[bpf::give(0)])?;
        send.set_nonblocking(true)?;

        let receive = open()?;
        set_option(receive.as_fd(), libc::IPPROTO_IPV6, IPV6_CHECKSUM, -1)?;
        set_option(receive.as_fd(), libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1)?;
        prepare(&receive, buffer)?;
        Ok(Side { receive: receive.into(), send: Some(send.into()) })
    }

    fn way_out(&self) -> &OwnedFd {
        self.send.as_ref().unwrap_or(&self.receive)
    }
}

fn prepare(socket: &Socket, buffer: usize) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1)?;
    grow(socket, buffer).map(drop)
}

/// A message that is to leave.
#[derive(Debug)]
pub(super) struct Letter {
    to: SockAddr,
    from: Option<IpAddr>,
    bytes: [u8; MOST],
    len: usize,
}

impl Letter {
    /// A message to an address, from another if that is to be chosen.
    pub(super) fn new(to: SocketAddr, from: Option<IpAddr>, message: &Message) -> Letter {
        let mut bytes = [0; MOST];
        let len = message.build(&mut bytes).len();
        Letter { to: to.into(), from, bytes, len }
    }
}

/// Room for a packet info of either family.
const CONTROL: usize = 64;

/// Control data, aligned as `cmsghdr` has to be.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; CONTROL]);

/// Memory for one call. What its pointers are to is set before each call.
pub(super) struct Outbox {
    messages: Vec<libc::mmsghdr>,
    parts: Vec<libc::iovec>,
    controls: Vec<Control>,
}

// SAFETY: the pointers in it are set before each use, and used by no one after the call.
unsafe impl Send for Outbox {}

impl std::fmt::Debug for Outbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Outbox")
    }
}

impl Outbox {
    /// Messages a call.
    pub(super) const CHUNK: usize = 16;

    pub(super) fn new() -> Outbox {
        let part = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };
        // SAFETY: an mmsghdr is plain data, for which all bytes zero are valid.
        let message: libc::mmsghdr = unsafe { std::mem::zeroed() };
        Outbox {
            messages: vec![message; Outbox::CHUNK],
            parts: vec![part; Outbox::CHUNK],
            controls: vec![Control([0; CONTROL]); Outbox::CHUNK],
        }
    }

    /// Sends all letters, without waiting. `failed` is told the place of each that the kernel did
    /// not take, with the error; without a side that is so of all.
    pub(super) fn send(
        &mut self,
        side: Option<&Side>,
        letters: &[Letter],
        mut failed: impl FnMut(usize, libc::c_int),
    ) {
        let Some(side) = side else {
            (0..letters.len()).for_each(|letter| failed(letter, libc::EADDRNOTAVAIL));
            return;
        };
        let mut done = 0;
        while done < letters.len() {
            let chunk = &letters[done..letters.len().min(done + Outbox::CHUNK)];
            for (place, letter) in chunk.iter().enumerate() {
                self.fill(place, letter);
            }
            // SAFETY: every pointer in these messages was set by `fill` to memory of `self` or of
            // `chunk` that is as long as the length beside it says; all of it lives until the call
            // returns, and the kernel only reads it.
            let sent = unsafe {
                libc::sendmmsg(
                    side.way_out().as_raw_fd(),
                    self.messages.as_mut_ptr(),
                    chunk.len() as libc::c_uint,
                    libc::MSG_DONTWAIT as _,
                )
            };
            match usize::try_from(sent) {
                Ok(sent) => done += sent,
                Err(_) => {
                    let errno = io::Error::last_os_error().raw_os_error().unwrap_or(0);
                    if errno != libc::EINTR {
                        // The error is of the first; those after it are tried.
                        failed(done, errno);
                        done += 1;
                    }
                }
            }
        }
    }

    fn fill(&mut self, place: usize, letter: &Letter) {
        self.parts[place] =
            libc::iovec { iov_base: letter.bytes.as_ptr().cast_mut().cast(), iov_len: letter.len };
        let header = &mut self.messages[place].msg_hdr;
        header.msg_name = letter.to.as_ptr().cast_mut().cast();
        header.msg_namelen = letter.to.len();
        header.msg_iov = &raw mut self.parts[place];
        header.msg_iovlen = 1;
        header.msg_control = ptr::null_mut();
        header.msg_controllen = 0;
        let control = (&raw mut self.controls[place].0).cast::<libc::c_void>();
        match letter.from {
            Some(IpAddr::V4(from)) => {
                let from = u32::from_ne_bytes(from.octets());
                let info = libc::in_pktinfo {
                    ipi_ifindex: 0,
                    ipi_spec_dst: libc::in_addr { s_addr: from },
                    ipi_addr: libc::in_addr { s_addr: 0 },
                };
                // SAFETY: `control` is to CONTROL bytes of `self`, which nobody else touches.
                unsafe { put(header, control, libc::IPPROTO_IP, libc::IP_PKTINFO, info) };
            }
            Some(IpAddr::V6(from)) => {
                let info = libc::in6_pktinfo {
                    ipi6_addr: libc::in6_addr { s6_addr: from.octets() },
                    ipi6_ifindex: 0,
                };
                // SAFETY: as above.
                unsafe { put(header, control, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info) };
            }
            None => {}
        }
    }
}

/// Gives a message one control message.
///
/// # Safety
///
/// `control` is to [`CONTROL`] bytes, aligned as a `cmsghdr` has to be, which live as long as
/// `header` is used and which nobody else touches.
unsafe fn put<T>(
    header: &mut libc::msghdr,
    control: *mut libc::c_void,
    level: libc::c_int,
    kind: libc::c_int,
    data: T,
) {
    const { assert!(size_of::<T>() + 24 <= CONTROL) };
    let len = size_of::<T>() as libc::c_uint;
    header.msg_control = control;
    // SAFETY: the macros compute with lengths, and CMSG_FIRSTHDR gives the start of `control`, as
    // msg_controllen has room for a header; data of this size fit behind it.
    unsafe {
        header.msg_controllen = libc::CMSG_SPACE(len) as _;
        let first = libc::CMSG_FIRSTHDR(header);
        (*first).cmsg_level = level;
        (*first).cmsg_type = kind;
        (*first).cmsg_len = libc::CMSG_LEN(len) as _;
        libc::CMSG_DATA(first).cast::<T>().write_unaligned(data);
    }
}
