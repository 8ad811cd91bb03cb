//! Trap sockets: UDP, on any number of listen addresses (TRAP-1).

use std::{io, net::SocketAddr, os::fd::AsFd};

use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;

use super::{EarSocket, socket::set_option};

/// Why a trap socket can't be had.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Another process, or another of our own sockets, is bound there.
    #[error(
        "cannot listen for traps on {address}: it is in use by another process; \
         `ss -ulpn 'sport = :{port}'` shows which (often snmptrapd)", port = address.port()
    )]
    InUse {
        /// The listen address.
        address: SocketAddr,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A low port without the capability for it.
    #[error(
        "cannot listen for traps on {address}: port {port} needs CAP_NET_BIND_SERVICE \
         or a port above 1023", port = address.port()
    )]
    Denied {
        /// The listen address.
        address: SocketAddr,
        /// The kernel's answer.
        source: io::Error,
    },
    /// No interface has the address.
    #[error("cannot listen for traps on {address}: this host has no such address now")]
    NoSuchAddress {
        /// The listen address.
        address: SocketAddr,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Anything else.
    #[error("cannot listen for traps on {address}")]
    Other {
        /// The listen address.
        address: SocketAddr,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// Opens a trap socket on `address` with a receive buffer of `buffer` bytes if the kernel grants
/// it. An IPv6 one takes IPv6 only, so that `0.0.0.0` and `[::]` can both be listened on.
///
/// # Errors
///
/// See [`OpenError`].
pub fn open(address: SocketAddr, buffer: usize) -> Result<EarSocket, OpenError> {
    bound(address, buffer).map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => OpenError::InUse { address, source },
        io::ErrorKind::PermissionDenied => OpenError::Denied { address, source },
        io::ErrorKind::AddrNotAvailable => OpenError::NoSuchAddress { address, source },
        _ => OpenError::Other { address, source },
    })
}

/// The send buffer: some five thousand answers, as the kernel counts them.
const SEND_BUFFER: libc::c_int = 2 << 20;

fn bound(address: SocketAddr, buffer: usize) -> io::Result<EarSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    // An answer leaves with the address that its request was sent to (TRAP-5), which the kernel tells
    // if it is asked to.
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
        set_option(socket.as_fd(), libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1)?;
    } else {
        set_option(socket.as_fd(), libc::IPPROTO_IP, libc::IP_PKTINFO, 1)?;
    }
    // Answers leave by this socket a few thousand at once, and what finds no room is dropped.
    for option in [libc::SO_SNDBUFFORCE, libc::SO_SNDBUF] {
        // Less room than asked for only means that senders repeat themselves more often.
        if set_option(socket.as_fd(), libc::SOL_SOCKET, option, SEND_BUFFER).is_ok() {
            break;
        }
    }
    EarSocket::new(socket, buffer, Some(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_in_use_is_named_with_the_way_to_see_by_whom() {
        let first = open("127.0.0.1:0".parse().unwrap(), 4096).unwrap();
        let error = open(first.local(), 4096).unwrap_err();
        assert!(matches!(error, OpenError::InUse { .. }), "{error:?}");
        let port = first.local().port();
        assert_eq!(
            error.to_string(),
            format!(
                "cannot listen for traps on 127.0.0.1:{port}: it is in use by another process; \
                 `ss -ulpn 'sport = :{port}'` shows which (often snmptrapd)"
            )
        );
    }

    #[test]
    fn an_address_of_another_host_is_refused() {
        let error = open("203.0.113.77:0".parse().unwrap(), 4096).unwrap_err();
        assert!(matches!(error, OpenError::NoSuchAddress { .. }), "{error:?}");
    }

    #[test]
    fn both_families_can_listen_on_the_same_port() {
        let v4 = open("0.0.0.0:0".parse().unwrap(), 4096).unwrap();
        let address = format!("[::]:{}", v4.local().port()).parse().unwrap();
        assert_eq!(open(address, 4096).unwrap().local(), address);
    }

    #[test]
    fn what_was_asked_for_and_what_was_granted_can_be_compared() {
        let socket = open("127.0.0.1:0".parse().unwrap(), 65_536).unwrap();
        assert_eq!((socket.buffer_asked(), socket.buffer_granted()), (65_536, 65_536));
    }
}
