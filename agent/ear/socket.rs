//! A socket that is ready for an ear: non-blocking, with receive stamps, and with as large a
//! receive buffer as the kernel grants.

use std::{
    io,
    net::{Ipv6Addr, SocketAddr},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use socket2::{Domain, Socket, Type};

use super::drops::{Drops, Protocol};

/// A bound socket, ready to be read by an ear.
#[derive(Debug)]
pub struct EarSocket {
    fd: OwnedFd,
    local: SocketAddr,
    protocol: Protocol,
    /// What it had dropped when this ear's time began, modulo 2^32.
    drops: u32,
    buffer_asked: usize,
    buffer_granted: usize,
}

impl EarSocket {
    /// Makes `socket` ready, with a receive buffer of `buffer` bytes if the kernel grants it, and
    /// then binds it to `address`: what comes from the first moment finds room and gets a stamp.
    /// One that is bound already, or needn't be, has no `address`.
    ///
    /// # Errors
    ///
    /// The kernel refuses the address, or one of the options that an ear needs.
    pub(super) fn new(
        socket: Socket,
        buffer: usize,
        address: Option<SocketAddr>,
    ) -> io::Result<EarSocket> {
        socket.set_nonblocking(true)?;
        set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1)?;
        let buffer_granted = grow(&socket, buffer)?;
        if let Some(address) = address {
            socket.bind(&address.into())?;
        }
        let unbound = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
        let local = socket.local_addr()?.as_socket().unwrap_or(unbound);
        let protocol = match (socket.domain()?, socket.r#type()?) {
            (Domain::IPV4, Type::RAW) => Protocol::Unchecked,
            (Domain::IPV4, _) => Protocol::Udp4,
            (_, Type::RAW) => Protocol::Icmp6,
            _ => Protocol::Udp6,
        };
        let (fd, buffer_asked) = (socket.into(), buffer);
        Ok(EarSocket { fd, local, protocol, drops: 0, buffer_asked, buffer_granted })
    }

    /// The address that it is bound to.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// The receive buffer that was asked for, in bytes.
    pub fn buffer_asked(&self) -> usize {
        self.buffer_asked
    }

    /// The receive buffer that was granted, in bytes, as
    /// [`SocketStats::buffer_granted`](super::SocketStats::buffer_granted) counts it. Less than
    /// was asked for means: give the agent CAP_NET_ADMIN, or raise `net.core.rmem_max` (TRAP-6).
    pub fn buffer_granted(&self) -> usize {
        self.buffer_granted
    }

    /// A second handle of the same socket: what the kernel has received for the one is there for
    /// the other.
    ///
    /// # Errors
    ///
    /// The kernel refuses another descriptor.
    pub fn try_clone(&self) -> io::Result<EarSocket> {
        let EarSocket { ref fd, local, protocol, drops, buffer_asked, buffer_granted } = *self;
        let fd = fd.try_clone()?;
        Ok(EarSocket { fd, local, protocol, drops, buffer_asked, buffer_granted })
    }

    /// A second handle for an ear that takes the place of another, which has told of all that was
    /// dropped until now.
    ///
    /// # Errors
    ///
    /// The kernel refuses another descriptor.
    pub fn succeed(&self) -> io::Result<EarSocket> {
        let drops = kernel_drops(self.fd.as_fd()).unwrap_or(self.drops);
        Ok(EarSocket { drops, ..self.try_clone()? })
    }

    /// A descriptor of the same socket, for who answers what came to it.
    ///
    /// # Errors
    ///
    /// The kernel refuses another descriptor.
    pub fn descriptor(&self) -> io::Result<OwnedFd> {
        self.fd.try_clone()
    }

    /// The descriptor, and what there is to know of its drops.
    pub(super) fn into_parts(self) -> (OwnedFd, Drops) {
        (self.fd, Drops::new(self.protocol, self.drops))
    }
}

/// Sets an option whose value is a number.
pub(crate) fn set_option(
    fd: BorrowedFd<'_>,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    // SAFETY: the pointer is to a c_int that lives until the call returns, and the length is its
    // size.
    let done = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// How many datagrams the kernel dropped at this socket since it was opened, modulo 2^32.
///
/// SO_RXQ_OVFL tells the same, but only with the next datagram that gets through: what a burst
/// lost at its end would stay unknown until then.
pub(crate) fn kernel_drops(fd: BorrowedFd<'_>) -> Option<u32> {
    /// SK_MEMINFO_DROPS and SK_MEMINFO_VARS of `linux/sock_diag.h`.
    const DROPS: usize = 8;
    const VARS: usize = 9;

    let mut info = [0u32; VARS];
    let mut len = size_of_val(&info) as libc::socklen_t;
    // SAFETY: `info` has as many bytes as `len` says, and both live until the call returns.
    let done = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            info.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    (done == 0 && len as usize == size_of_val(&info)).then_some(info[DROPS])
}

/// Asks for a receive buffer of `bytes`, beyond `net.core.rmem_max` where CAP_NET_ADMIN lets us,
/// and says how many were granted.
pub(crate) fn grow(socket: &Socket, bytes: usize) -> io::Result<usize> {
    // The kernel doubles the figure in an int.
    let asked = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX).min(libc::c_int::MAX / 2);
    if set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, asked).is_err() {
        set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_RCVBUF, asked)?;
    }
    Ok(socket.recv_buffer_size()? / 2)
}
