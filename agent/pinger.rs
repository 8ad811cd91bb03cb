//! Sends the echoes of the IP monitor through `surge-ping`, each from its own address and
//! interface (SUBN-2).
//!
//! There is one `surge_ping::Client`, with a raw socket of its own, for each source address and
//! interface. It only sends: what comes back is heard elsewhere, by a socket that has the kernel's
//! time stamps, so each socket here refuses every packet by a filter in the kernel. `polls.md`
//! beside this file has the measurements behind that split.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr, SocketAddrV6},
    num::NonZeroU32,
    os::fd::BorrowedFd,
    time::Duration,
};

use evenkeel_core::input::{Echo, Host, SendFailed};
use futures_util::FutureExt;
use socket2::{SockFilter, SockRef, Type};
use surge_ping::{Client, Config, ICMP, PingIdentifier, PingSequence, SurgeError};
use tokio::{task::unconstrained, time::timeout};

/// What follows the eight octets of the ICMP header: 56 octets, as `ping` sends, because filters
/// on the way treat an echo of unusual size as unusual.
const PAYLOAD: &[u8; 56] = b"evenkeel IP monitor: is this subnet carrying IP packets?";

/// How long the first send of a new socket may wait for the reactor to learn that it is writable.
/// One turn of the reactor is enough: microseconds, or 12 ms as was seen on an overloaded machine.
const FIRST_SEND: Duration = Duration::from_millis(50);

/// A socket filter program that accepts nothing: `BPF_RET | BPF_K` with the value 0.
const REJECT_ALL: [SockFilter; 1] = [SockFilter::new(0x06, 0, 0, 0)];

/// Why an echo was not sent. The text is the same for the same cause, so that it can be logged
/// once per change (SUBN-5).
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The host view has no interface of that index.
    #[error("the interface with index {0} is gone")]
    NoInterface(u32),
    /// The host view does not show the source address on the interface.
    #[error("{local} is not an address of {interface}, or not yet a usable one")]
    NoAddress {
        /// The source address of the echo.
        local: IpAddr,
        /// The name of the interface.
        interface: String,
    },
    /// An IPv4 echo from an IPv6 address, or the other way round.
    #[error("{polled} can't be polled from {local}, an address of the other IP version")]
    OtherVersion {
        /// The source address of the echo.
        local: IpAddr,
        /// The destination.
        polled: IpAddr,
    },
    /// This process may not open raw sockets.
    #[error("can't open a raw ICMP socket: give the process CAP_NET_RAW")]
    NotPermitted,
    /// The socket could not be opened, bound, or filtered.
    #[error("can't open an ICMP socket bound to {local} on {interface}")]
    Open {
        /// The address to bind to.
        local: IpAddr,
        /// The name of the interface to bind to.
        interface: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The kernel would have made us wait.
    #[error("send buffer full")]
    Full,
    /// The kernel refused the packet.
    #[error("can't send on {interface}")]
    Send {
        /// The name of the interface.
        interface: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// `surge-ping` refused to build the packet.
    #[error("can't build the echo")]
    Build(#[source] Box<SurgeError>),
}

impl SendError {
    /// The input that tells the core that `echo` was not sent, with the causes in its text.
    pub fn into_input(self, echo: &Echo) -> SendFailed {
        let mut error = self.to_string();
        let mut cause = std::error::Error::source(&self);
        while let Some(source) = cause {
            error.push_str(": ");
            error.push_str(&source.to_string());
            cause = source.source();
        }
        SendFailed { local: echo.local, polled: echo.polled, sequence: echo.sequence, error }
    }
}

/// The sockets that echoes leave from.
#[derive(Default)]
pub struct Pinger {
    clients: HashMap<Origin, Client>,
}

/// Where an echo leaves from: one socket each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Origin {
    local: IpAddr,
    interface: u32,
}

impl Pinger {
    /// A pinger without sockets; each is opened when it is first needed.
    pub fn new() -> Pinger {
        Pinger::default()
    }

    /// Sends one echo from its local address by its interface, whatever other routes there are
    /// (SUBN-2).
    ///
    /// It never waits for room: a socket that can't take the echo now gives [`SendError::Full`].
    /// Only the first echo of a new socket may wait, 50 ms at most, for the reactor to take notice
    /// of the socket. It must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// See [`SendError`]. After an error that says that interface or address went away the socket
    /// is closed, and the next echo opens another.
    pub async fn send(&mut self, echo: &Echo, host: &Host) -> Result<(), SendError> {
        let origin = Origin { local: echo.local, interface: echo.interface };
        let name = match origin.check(host) {
            Ok(name) => name,
            Err(gone) => {
                self.clients.remove(&origin);
                return Err(gone);
            }
        };
        if echo.local.is_ipv4() != echo.polled.is_ipv4() {
            return Err(SendError::OtherVersion { local: echo.local, polled: echo.polled });
        }

        let (client, new) = match self.clients.get(&origin) {
            Some(client) => (client.clone(), false),
            None => {
                let client = origin.open(name)?;
                self.clients.insert(origin, client.clone());
                (client, true)
            }
        };
        let mut pinger = client.pinger(echo.polled, PingIdentifier(echo.identifier)).await;
        if needs_zone(echo.polled) {
            pinger.scope_id(echo.interface);
        }
        let sequence = PingSequence(echo.sequence);
        // Outside tokio's budget: a task that has used it up would otherwise find every socket
        // "not ready", which would be reported as a full send buffer.
        let sending = unconstrained(pinger.send_ping(sequence, PAYLOAD));
        let sent =
            if new { timeout(FIRST_SEND, sending).await.ok() } else { sending.now_or_never() };

        match sent {
            None => Err(SendError::Full),
            Some(Ok(())) => Ok(()),
            Some(Err(SurgeError::IOError(source))) => {
                if outdated(&source) {
                    self.clients.remove(&origin);
                }
                Err(SendError::Send { interface: name.to_owned(), source })
            }
            Some(Err(other)) => Err(SendError::Build(Box::new(other))),
        }
    }

    /// Closes the sockets whose address or interface the host no longer has (SUBN-12).
    pub fn keep_only(&mut self, host: &Host) {
        self.clients.retain(|origin, _| origin.check(host).is_ok());
    }

    /// How many sockets are open.
    #[cfg(test)]
    fn open_sockets(&self) -> usize {
        self.clients.len()
    }
}

impl Origin {
    /// The name of the interface, if the host has it with this address. IPv6 sockets must be
    /// closed on this account, as the kernel goes on sending from an address that was removed.
    fn check(self, host: &Host) -> Result<&str, SendError> {
        let interface = host
            .interfaces
            .iter()
            .find(|interface| interface.index == self.interface)
            .ok_or(SendError::NoInterface(self.interface))?;
        if interface.addresses.iter().any(|net| net.addr() == self.local) {
            return Ok(&interface.name);
        }
        Err(SendError::NoAddress { local: self.local, interface: interface.name.clone() })
    }

    fn open(self, name: &str) -> Result<Client, SendError> {
        let failed = |source: io::Error| match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => SendError::NotPermitted,
            _ => SendError::Open { local: self.local, interface: name.to_owned(), source },
        };
        let index = NonZeroU32::new(self.interface).ok_or(SendError::NoInterface(0))?;
        let bind = match self.local {
            IpAddr::V6(local) if needs_zone(self.local) => {
                SocketAddr::V6(SocketAddrV6::new(local, 0, 0, self.interface))
            }
            local => SocketAddr::new(local, 0),
        };
        let config = Config::builder()
            .kind(if self.local.is_ipv4() { ICMP::V4 } else { ICMP::V6 })
            .sock_type_hint(Type::RAW)
            .bind(bind)
            // By index, as a name may by now belong to another interface.
            .interface_index(index)
            .build();
        let client = Client::new(&config).map_err(failed)?;

        let socket = client.get_socket();
        // Where raw sockets are forbidden surge-ping falls back to a ping socket, on which the
        // kernel chooses the identifier: replies could not be told to be ours (SUBN-2).
        if socket.get_type() != Type::RAW {
            return Err(SendError::NotPermitted);
        }
        // SAFETY: `client` owns the descriptor and outlives the borrow.
        let fd = unsafe { BorrowedFd::borrow_raw(socket.get_native_sock()) };
        SockRef::from(&fd).attach_filter(&REJECT_ALL).map_err(failed)?;
        Ok(client)
    }
}

/// Whether an address means something only together with an interface (RFC 4007).
fn needs_zone(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

/// Whether a send error means that the socket's interface or address has changed under it.
fn outdated(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENODEV | libc::ENXIO | libc::EADDRNOTAVAIL | libc::ENETDOWN | libc::EINVAL)
    )
}

#[cfg(test)]
mod tests {
    use evenkeel_core::input::HostInterface;

    use super::*;

    fn host(addresses: &[&str]) -> Host {
        Host {
            interfaces: vec![HostInterface {
                index: 1,
                name: "lo".to_owned(),
                up: true,
                running: true,
                loopback: true,
                addresses: addresses.iter().map(|net| net.parse().unwrap()).collect(),
                gateways: Vec::new(),
            }],
        }
    }

    fn echo(local: &str, interface: u32, polled: &str) -> Echo {
        Echo {
            local: local.parse().unwrap(),
            interface,
            polled: polled.parse().unwrap(),
            identifier: 7,
            sequence: 1,
        }
    }

    #[tokio::test]
    async fn an_echo_that_cannot_leave_from_its_origin_is_refused() {
        let host = host(&["127.0.0.1/8"]);
        for (echo, reason) in [
            (echo("127.0.0.1", 9, "127.0.0.1"), "the interface with index 9 is gone"),
            (
                echo("192.0.2.1", 1, "127.0.0.1"),
                "192.0.2.1 is not an address of lo, or not yet a usable one",
            ),
            (
                echo("127.0.0.1", 1, "::1"),
                "::1 can't be polled from 127.0.0.1, an address of the other IP version",
            ),
        ] {
            let mut pinger = Pinger::new();
            let failed = pinger.send(&echo, &host).await.unwrap_err().into_input(&echo);
            assert_eq!(failed.error, reason);
            assert_eq!((failed.local, failed.sequence), (echo.local, 1));
            assert_eq!(pinger.open_sockets(), 0);
        }
    }

    #[test]
    fn the_text_of_an_error_has_its_cause_once() {
        let error = SendError::Send {
            interface: "eth0".to_owned(),
            source: io::Error::from_raw_os_error(libc::ENETDOWN),
        };
        assert_eq!(
            error.into_input(&echo("192.0.2.1", 1, "192.0.2.2")).error,
            "can't send on eth0: Network is down (os error 100)"
        );
    }

    /// Needs CAP_NET_RAW; without it, the error must say so.
    #[tokio::test]
    async fn a_socket_is_opened_once_and_closed_when_its_address_goes() {
        let mut pinger = Pinger::new();
        let (both, v4) = (host(&["127.0.0.1/8", "::1/128"]), host(&["127.0.0.1/8"]));
        for _ in 0..3 {
            for echo in [echo("127.0.0.1", 1, "127.0.0.1"), echo("::1", 1, "::1")] {
                match pinger.send(&echo, &both).await {
                    Ok(()) => {}
                    Err(SendError::NotPermitted) => return,
                    // A machine without IPv6.
                    Err(SendError::Open { local, .. }) if local.is_ipv6() => return,
                    Err(other) => panic!("{other:?}"),
                }
            }
        }
        assert_eq!(pinger.open_sockets(), 2);
        pinger.keep_only(&v4);
        assert_eq!(pinger.open_sockets(), 1);
    }

    /// Needs CAP_NET_RAW.
    #[tokio::test]
    async fn many_echoes_from_one_task_are_not_mistaken_for_a_full_buffer() {
        let (mut pinger, host) = (Pinger::new(), host(&["127.0.0.1/8"]));
        for _ in 0..500 {
            match pinger.send(&echo("127.0.0.1", 1, "127.0.0.1"), &host).await {
                Ok(()) => {}
                Err(SendError::NotPermitted) => return,
                Err(other) => panic!("{other:?}"),
            }
        }
    }
}
