//! A socket that is connected to one notification target, and the system call that sends many
//! datagrams at once.

use std::{
    io, mem,
    net::SocketAddr,
    os::fd::{AsRawFd, OwnedFd},
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};

/// A burst of some thousand traps, which the network takes within milliseconds. The kernel may grant
/// less.
const SEND_BUFFER: usize = 4 << 20;

/// Which kind of socket a datagram leaves by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Via {
    /// UDP, from an address of this host.
    Udp,
    /// Raw, with the IP header as we write it.
    Raw,
}

/// One datagram of a group: where it ends in the group's octets.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    pub end: usize,
    pub via: Via,
    /// It is the whole of a trap, or its last fragment.
    pub last: bool,
}

/// A socket that is connected to a notification target.
pub(super) struct Outlet {
    socket: OwnedFd,
    to: SocketAddr,
}

impl Outlet {
    /// Opens a socket to this target.
    ///
    /// # Errors
    ///
    /// There is no way there now, or a raw socket is not allowed.
    pub(super) fn open(via: Via, to: SocketAddr) -> io::Result<Outlet> {
        let (socket, to) = match via {
            Via::Udp => {
                (Socket::new(Domain::for_address(to), Type::DGRAM, Some(Protocol::UDP))?, to)
            }
            Via::Raw => {
                let mut to = to;
                // A raw socket takes a protocol where others take a port.
                to.set_port(0);
                (raw(to)?, to)
            }
        };
        // As much as the kernel grants; what it does not have room for is counted.
        let _ = socket.set_send_buffer_size(SEND_BUFFER);
        let outlet = Outlet { socket: socket.into(), to };
        if via == Via::Udp && to.is_ipv4() {
            // Without "don't fragment": what is longer than the path's MTU arrives in pieces, where
            // discovery of that MTU would lose the first of them.
            let dont = libc::IP_PMTUDISC_DONT;
            outlet.set_option(libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, dont)?;
        }
        socket2::SockRef::from(&outlet.socket).connect(&to.into())?;
        Ok(outlet)
    }

    /// Whether this process may send from addresses that are not its own.
    ///
    /// # Errors
    ///
    /// It may not, mostly for want of CAP_NET_RAW.
    pub(super) fn may_be_raw(to: SocketAddr) -> io::Result<()> {
        raw(to).map(drop)
    }

    /// The MTU of the way to the target.
    ///
    /// # Errors
    ///
    /// There is no way any more.
    pub(super) fn mtu(&self) -> io::Result<usize> {
        let (level, name) = match self.to {
            SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_MTU),
            SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_MTU),
        };
        let mut mtu: libc::c_int = 0;
        let mut length = size_of::<libc::c_int>() as libc::socklen_t;
        // SAFETY: `mtu` is an int of the length given, and both live until the call returns.
        let got = unsafe {
            let (mtu, length) = (&raw mut mtu, &raw mut length);
            libc::getsockopt(self.socket.as_raw_fd(), level, name, mtu.cast(), length)
        };
        if got != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(usize::try_from(mtu).unwrap_or_default())
    }

    /// Sends datagrams, which begin at `start` in `bytes` and lie one after the other, without
    /// waiting. Returns how many left, at least one.
    ///
    /// # Errors
    ///
    /// What the kernel says of the first one, or of one that left before. An error of a later one
    /// ends the call and is told by the next.
    pub(super) fn send(&self, bytes: &[u8], start: usize, ends: &[End]) -> io::Result<usize> {
        let mut start = start;
        let mut parts: Vec<libc::iovec> = ends
            .iter()
            .map(|&End { end, .. }| {
                let part = &bytes[start..end];
                start = end;
                // Only read, as sendmmsg does not write to what it sends.
                libc::iovec { iov_base: part.as_ptr().cast_mut().cast(), iov_len: part.len() }
            })
            .collect();
        let mut messages: Vec<libc::mmsghdr> = parts
            .iter_mut()
            .map(|part| {
                // SAFETY: an mmsghdr is plain data, for which all bytes zero are valid.
                let mut message: libc::mmsghdr = unsafe { mem::zeroed() };
                message.msg_hdr.msg_iov = part;
                message.msg_hdr.msg_iovlen = 1;
                message
            })
            .collect();
        // SAFETY: each message has one part, which is inside of `bytes`; all of it lives until the
        // call returns.
        let sent = unsafe {
            libc::sendmmsg(
                self.socket.as_raw_fd(),
                messages.as_mut_ptr(),
                messages.len() as libc::c_uint,
                libc::MSG_DONTWAIT as _,
            )
        };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }

    /// Waits until there is room for more, and says whether there is.
    pub(super) fn wait(&self, most: Duration) -> bool {
        let mut poll =
            libc::pollfd { fd: self.socket.as_raw_fd(), events: libc::POLLOUT, revents: 0 };
        let most = i32::try_from(most.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: `poll` is one pollfd and lives until the call returns.
        let ready = unsafe { libc::poll(&raw mut poll, 1, most) };
        ready > 0
    }

    fn set_option(&self, level: i32, name: i32, value: libc::c_int) -> io::Result<()> {
        set_option(&self.socket, level, name, value)
    }
}

/// A socket for packets whose IP header is written by us; it receives nothing.
fn raw(to: SocketAddr) -> io::Result<Socket> {
    let protocol = Some(Protocol::from(libc::IPPROTO_RAW));
    let socket = Socket::new(Domain::for_address(to), Type::RAW, protocol)?;
    // IPPROTO_RAW says so already with IPv4; with IPv6 it needs Linux 4.5.
    match to {
        SocketAddr::V4(_) => set_option(&socket, libc::IPPROTO_IP, libc::IP_HDRINCL, 1)?,
        SocketAddr::V6(_) => set_option(&socket, libc::IPPROTO_IPV6, libc::IPV6_HDRINCL, 1)?,
    }
    Ok(socket)
}

pub(super) fn set_option(
    socket: &impl AsRawFd,
    level: i32,
    name: i32,
    value: libc::c_int,
) -> io::Result<()> {
    // SAFETY: the value is an int that lives until the call returns, with its length.
    let set = unsafe {
        let length = size_of::<libc::c_int>() as libc::socklen_t;
        libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), length)
    };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
