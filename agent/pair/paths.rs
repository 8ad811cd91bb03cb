//! The heartbeat paths: a UDP socket for each, bound to its local address, so that a datagram leaves
//! and comes by the interface that the path is named after (PAIR-8).
//!
//! An address that is not there yet, as at boot, or not any more, as when a cable is pulled, keeps no
//! socket from being bound (IP_FREEBIND). A socket that fails is opened again after a second. What
//! can't be sent is counted by reason, and never logged.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, OwnedFd},
    task::{Context, Poll},
    time::Duration,
};

use evenkeel_core::time::Time;
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};
use tokio::io::{Interest, unix::AsyncFd};

use crate::{
    clock::{self, BootClock},
    ear::{recvmmsg::Slots, socket::set_option},
};

/// How many datagrams are read at once: two heartbeats come in a second, and ten while roles change.
const BATCH: usize = 32;

/// How many batches are read from a socket in a row. Whoever floods a path costs no more than this
/// between two looks at everything else.
const BATCHES: usize = 4;

/// The longest datagram that is read: longer than any that is sealed, so that what is too long is
/// seen to be.
const LONGEST: usize = 1280;

/// How long after a failure a socket is opened again.
const REOPEN: Duration = Duration::from_secs(1);

/// CS6, "internetwork control" (RFC 4594, section 3.2): queues that know it let nothing pass it by.
const TRAFFIC_CLASS: u32 = 0xc0;

/// A heartbeat path, as it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ends {
    /// The name of the local interface, for people and alarms.
    pub interface: String,
    /// The local address and port.
    pub local: SocketAddr,
    /// The mate's.
    pub mate: SocketAddr,
}

/// Why a heartbeat did not leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NotSent {
    /// The local address is not there.
    NoAddress,
    /// There is no way to the mate: no route, or no answer to ARP.
    Unreachable,
    /// There is no key that the mate knows, too: the state channel has never been up.
    NoKey,
    /// A packet filter of this host forbids it.
    Forbidden,
    /// The socket's buffer is full.
    BufferFull,
    /// There is no socket: the local port is taken, or there is another cause that the status names.
    NoSocket,
    /// Anything else.
    Other,
}

impl NotSent {
    /// Every reason.
    #[cfg(test)]
    pub const ALL: [NotSent; 7] = [
        NotSent::NoAddress,
        NotSent::Unreachable,
        NotSent::NoKey,
        NotSent::Forbidden,
        NotSent::BufferFull,
        NotSent::NoSocket,
        NotSent::Other,
    ];

    /// The name in metrics and in the status.
    pub const fn name(self) -> &'static str {
        match self {
            NotSent::NoAddress => "no_address",
            NotSent::Unreachable => "unreachable",
            NotSent::NoKey => "no_key",
            NotSent::Forbidden => "forbidden",
            NotSent::BufferFull => "buffer_full",
            NotSent::NoSocket => "no_socket",
            NotSent::Other => "other",
        }
    }

    fn of(error: &io::Error) -> NotSent {
        match error.raw_os_error() {
            Some(libc::EADDRNOTAVAIL | libc::EINVAL | libc::ENODEV | libc::ENXIO) => {
                NotSent::NoAddress
            }
            Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::ENETDOWN | libc::EHOSTDOWN) => {
                NotSent::Unreachable
            }
            Some(libc::EPERM | libc::EACCES) => NotSent::Forbidden,
            Some(libc::EAGAIN | libc::ENOBUFS) => NotSent::BufferFull,
            Some(_) | None => NotSent::Other,
        }
    }
}

/// One heartbeat path.
pub struct Path {
    /// Its ends.
    pub ends: Ends,
    socket: Option<AsyncFd<OwnedFd>>,
    /// Not before this moment is a lost socket opened again.
    reopen: Time,
    /// No datagram that is read from now on came before this.
    floor: Time,
    /// Datagrams that left.
    pub sent: u64,
    /// Genuine heartbeats that came.
    pub received: u64,
    /// When the last of them came.
    pub heard: Option<Time>,
    /// Datagrams that did not leave.
    pub not_sent: BTreeMap<NotSent, u64>,
    /// What the kernel said last, while it is so.
    pub error: Option<String>,
}

/// All of them, in the order of the configuration.
pub struct Paths {
    paths: Vec<Path>,
    slots: Slots,
}

/// A datagram that came.
pub struct Received<'a> {
    /// By which path, by its place.
    pub path: u8,
    /// From where.
    pub source: IpAddr,
    /// What it holds.
    pub octets: &'a [u8],
    /// When the kernel received it.
    pub at: Time,
}

impl Paths {
    /// Opens those that can be opened. To be called within a runtime, as the other functions.
    pub fn open(ends: Vec<Ends>, now: Time) -> Paths {
        let mut paths = Paths { paths: Vec::new(), slots: Slots::short(BATCH, LONGEST) };
        paths.replace(ends, now);
        paths
    }

    /// Other paths, after a reload. Those that are as before go on.
    pub fn replace(&mut self, ends: Vec<Ends>, now: Time) {
        let mut before = std::mem::take(&mut self.paths);
        // Those that are over give their ports back first.
        before.retain(|path| ends.contains(&path.ends));
        for ends in ends {
            let same = before.iter().position(|path| path.ends == ends);
            let mut path = same.map_or_else(|| Path::new(ends, now), |at| before.swap_remove(at));
            path.open_if_due(now);
            self.paths.push(path);
        }
    }

    /// Each path.
    pub fn iter(&self) -> impl Iterator<Item = &Path> {
        self.paths.iter()
    }

    /// A genuine heartbeat came by a path.
    pub fn heard(&mut self, path: u8, at: Time) {
        if let Some(path) = self.paths.get_mut(usize::from(path)) {
            path.received += 1;
            path.heard = path.heard.max(Some(at));
        }
    }

    /// Sends a datagram of its own on each.
    pub fn send(&mut self, now: Time, mut datagram: impl FnMut() -> Option<Vec<u8>>) {
        for path in &mut self.paths {
            path.open_if_due(now);
            match datagram() {
                Some(octets) => path.send(&octets, now),
                None => path.count(NotSent::NoKey),
            }
        }
    }

    /// Sends the same on each, beside the heartbeat: what tells the mate how to know this agent.
    pub fn greet(&mut self, octets: &[u8], now: Time) {
        self.paths.iter_mut().for_each(|path| path.send(octets, now));
    }

    /// Sends a datagram on one.
    pub fn send_on(&mut self, path: u8, octets: &[u8], now: Time) {
        if let Some(path) = self.paths.get_mut(usize::from(path)) {
            path.send(octets, now);
        }
    }

    /// Whether one may have something to read.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut ready = Poll::Pending;
        for socket in self.paths.iter().filter_map(|path| path.socket.as_ref()) {
            if socket.poll_read_ready(cx).is_ready() {
                ready = Poll::Ready(());
            }
        }
        ready
    }

    /// Reads what has come until `now`. If that was too much to read at once, returns the moment up to
    /// which everything has been read, and the rest waits for the next call.
    pub fn read(&mut self, now: Time, mut take: impl FnMut(Received<'_>)) -> Option<Time> {
        let mut behind: Option<Time> = None;
        for (place, path) in self.paths.iter_mut().enumerate() {
            let place = u8::try_from(place).unwrap_or(u8::MAX);
            if !path.read(place, &mut self.slots, now, &mut take) {
                behind = Some(behind.map_or(path.floor, |at| at.min(path.floor)));
            }
        }
        behind
    }
}

impl Path {
    fn new(ends: Ends, now: Time) -> Path {
        Path {
            ends,
            socket: None,
            reopen: now,
            floor: now,
            sent: 0,
            received: 0,
            heard: None,
            not_sent: BTreeMap::new(),
            error: None,
        }
    }

    fn open_if_due(&mut self, now: Time) {
        if self.socket.is_some() || now < self.reopen {
            return;
        }
        match socket(self.ends.local).and_then(watched) {
            Ok(socket) => (self.socket, self.floor) = (Some(socket), now),
            Err(error) => {
                self.reopen = now + REOPEN;
                self.error = Some(format!("cannot bind to {}: {error}", self.ends.local));
            }
        }
    }

    fn send(&mut self, octets: &[u8], now: Time) {
        let Some(socket) = &self.socket else {
            self.count(NotSent::NoSocket);
            return;
        };
        let sent = SockRef::from(socket).send_to(octets, &SockAddr::from(self.ends.mate));
        match sent {
            Ok(_) => {
                self.sent += 1;
                self.error = None;
            }
            Err(error) => {
                let reason = NotSent::of(&error);
                self.count(reason);
                self.error = Some(format!("cannot send to {}: {error}", self.ends.mate));
                match reason {
                    NotSent::Unreachable
                    | NotSent::NoKey
                    | NotSent::Forbidden
                    | NotSent::BufferFull => {}
                    // The interface may be another one by now.
                    NotSent::NoAddress | NotSent::NoSocket | NotSent::Other => {
                        (self.socket, self.reopen) = (None, now + REOPEN);
                    }
                }
            }
        }
    }

    /// Returns whether everything was read.
    fn read(
        &mut self,
        place: u8,
        slots: &mut Slots,
        now: Time,
        take: &mut impl FnMut(Received<'_>),
    ) -> bool {
        let Some(socket) = &self.socket else { return true };
        // What comes from here on makes it ready again.
        if let Poll::Ready(Ok(mut ready)) =
            socket.poll_read_ready(&mut Context::from_waker(std::task::Waker::noop()))
        {
            ready.clear_ready();
        }
        let mut failed = false;
        for _ in 0..BATCHES {
            let received = slots.receive(socket.as_fd());
            failed = received.is_err();
            match received {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // It was empty at this moment.
                    self.floor = self.floor.max(now);
                    return true;
                }
                // An interruption, or an ICMP error of an earlier datagram: it may go on.
                Err(_) => continue,
            }
            let reading = BootClock::both();
            for message in slots.messages() {
                let at = message
                    .stamp
                    .map_or(reading.time, |stamp| clock::receipt(stamp, reading, self.floor));
                self.floor = self.floor.max(at);
                if let (Some(source), true) = (message.source, message.tail.is_empty()) {
                    let (path, source, octets) = (place, source.ip(), message.head);
                    take(Received { path, source, octets, at });
                }
            }
        }
        // A socket that does nothing but fail has nothing to wait for.
        failed
    }

    fn count(&mut self, reason: NotSent) {
        *self.not_sent.entry(reason).or_default() += 1;
    }
}

/// Has the runtime tell when there is something to read.
pub(super) fn watched(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: what is given back owns the descriptor, which is open and stays so until that is dropped.
    Ok(unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?)
}

/// A socket for heartbeats.
fn socket(local: SocketAddr) -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::for_address(local), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1)?;
    // A network that does not know the class forwards it as any other.
    match local {
        SocketAddr::V4(_) => {
            socket.set_freebind_v4(true)?;
            let _ = socket.set_tos_v4(TRAFFIC_CLASS);
        }
        SocketAddr::V6(_) => {
            socket.set_freebind_v6(true)?;
            socket.set_only_v6(true)?;
            let _ = socket.set_tclass_v6(TRAFFIC_CLASS);
        }
    }
    socket.bind(&local.into())?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, net::UdpSocket};

    use super::*;

    fn ends(interface: &str, local: &str, mate: SocketAddr) -> Ends {
        Ends { interface: interface.to_owned(), local: local.parse().unwrap(), mate }
    }

    #[tokio::test]
    async fn a_heartbeat_goes_out_on_each_path_and_comes_in_with_its_path_and_receipt() {
        let mates: Vec<UdpSocket> =
            (0..2).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
        let mut paths = Paths::open(
            vec![
                ends("lo", "127.0.0.1:0", mates[0].local_addr().unwrap()),
                ends("lo", "127.0.0.2:0", mates[1].local_addr().unwrap()),
            ],
            BootClock::now(),
        );
        let mut number = 0;
        paths.send(BootClock::now(), || {
            number += 1;
            Some(vec![number])
        });
        for (nth, mate) in mates.iter().enumerate() {
            let mut octets = [0; 8];
            let (length, from) = mate.recv_from(&mut octets).unwrap();
            assert_eq!(octets[..length], [nth as u8 + 1]);
            assert_eq!(from.ip().to_string(), format!("127.0.0.{}", nth + 1));
            mate.send_to(&[10, nth as u8], from).unwrap();
            poll_fn(|cx| paths.poll_readable(cx)).await;
            let mut came = Vec::new();
            let before = BootClock::now() - Duration::from_secs(1);
            let behind = paths.read(BootClock::now(), |received| {
                assert!(received.at > before && received.at <= BootClock::now());
                came.push((received.path, received.octets.to_vec()));
            });
            assert_eq!((came, behind), (vec![(nth as u8, vec![10, nth as u8])], None));
        }
        assert!(paths.iter().all(|path| path.sent == 1 && path.error.is_none()));
    }

    #[tokio::test]
    async fn an_address_that_is_not_there_keeps_no_path_from_being_opened() {
        // 192.0.2.0/24 is for documentation (RFC 5737).
        let ends = vec![ends("eth9", "192.0.2.77:0", "192.0.2.78:9".parse().unwrap())];
        let mut paths = Paths::open(ends, BootClock::now());
        let now = BootClock::now();
        paths.send(now, || Some(vec![1]));
        let path = paths.iter().next().unwrap();
        assert_eq!(path.sent, 0);
        assert_eq!(path.not_sent.values().sum::<u64>(), 1, "{:?} {:?}", path.not_sent, path.error);
        assert!(path.error.as_ref().unwrap().starts_with("cannot send to 192.0.2.78:9: "));
        paths.send(now, || Some(vec![1]));
        paths.send(now + REOPEN, || Some(vec![1]));
        let path = paths.iter().next().unwrap();
        assert_eq!(path.not_sent.values().sum::<u64>(), 3, "{:?}", path.not_sent);
    }

    #[tokio::test]
    async fn a_flood_holds_nobody_up_and_says_how_far_it_was_read() {
        let mate = UdpSocket::bind("127.0.0.1:0").unwrap();
        let ends = vec![ends("lo", "127.0.0.1:0", mate.local_addr().unwrap())];
        let mut paths = Paths::open(ends, BootClock::now());
        paths.send(BootClock::now(), || Some(vec![1]));
        let (_, to) = mate.recv_from(&mut [0; 8]).unwrap();
        let began = BootClock::now();
        for _ in 0..BATCH * BATCHES + 10 {
            mate.send_to(&[7], to).unwrap();
        }
        let mut came = 0;
        let behind = paths.read(BootClock::now(), |_| came += 1);
        assert!(behind.is_some_and(|at| at > began && at < BootClock::now()));
        assert!(came <= BATCH * BATCHES);
        while paths.read(BootClock::now(), |_| came += 1).is_some() {}
        assert!(came > BATCH * BATCHES / 2);
    }
}
