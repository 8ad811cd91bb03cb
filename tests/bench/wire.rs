//! What is seen on the cable: when the echoes to some of the peers really leave, and when their
//! answers come, by the kernel's stamps. It is the same judge for all of those who ask.

use std::{
    collections::BTreeMap,
    io, mem,
    os::fd::{AsRawFd, FromRawFd as _, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use socket2::{SockFilter, Socket};

use super::field::{Family, Field};

/// One peer in so many is looked at, by the last bits of its address: enough to judge, and too few
/// to slow anyone down by much.
const ONE_IN: u32 = 64;
const RECEIVE_BUFFER: libc::c_int = 16 << 20;
/// Of each packet so much is kept: both addresses and the type are in it.
const ROOM: usize = 64;

/// Who looks.
pub struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Seen>>,
}

/// One packet.
struct Seen {
    /// Nanoseconds of the wall clock.
    at: i64,
    /// The end of the peer's address.
    peer: [u8; 4],
    request: bool,
}

/// What the cable says of who asks.
#[derive(Clone, Debug, Default)]
pub struct Pacing {
    /// By how much the time between two echoes to the same peer was not the interval, in seconds,
    /// sorted.
    pub off_by: Vec<f64>,
    /// From an echo to its answer, in seconds, sorted.
    pub round_trips: Vec<f64>,
}

impl Watch {
    /// Looks from now on.
    pub fn start(field: &Field, family: Family) -> Watch {
        let shape = Shape::of(family);
        let socket = field.near().inside(|| open("v0", &shape).expect("CAP_NET_RAW"));
        let stop = Arc::<AtomicBool>::default();
        let stop_too = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut seen = Vec::new();
            while !stop_too.load(Ordering::Relaxed) {
                while let Some(packet) = receive(&socket, &shape) {
                    seen.push(packet);
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            seen
        });
        Watch { stop, thread }
    }

    /// Says what was seen of echoes that each peer is to have once in `interval`.
    pub fn end(self, interval: Duration) -> Pacing {
        self.stop.store(true, Ordering::Relaxed);
        let seen = self.thread.join().expect("it only reads");
        let mut asked = BTreeMap::<[u8; 4], i64>::new();
        let mut pacing = Pacing::default();
        for packet in seen {
            let seconds = |since: i64| (packet.at - since) as f64 / 1e9;
            if packet.request {
                let before = asked.insert(packet.peer, packet.at);
                let off = before.map(|at| (seconds(at) - interval.as_secs_f64()).abs());
                pacing.off_by.extend(off);
            } else if let Some(&at) = asked.get(&packet.peer) {
                pacing.round_trips.push(seconds(at));
            }
        }
        pacing.off_by.sort_by(f64::total_cmp);
        pacing.round_trips.sort_by(f64::total_cmp);
        pacing
    }
}

/// One of the sorted, so far from the least (0) to the most (1).
pub fn quantile(sorted: &[f64], share: f64) -> f64 {
    let at = (share * sorted.len() as f64) as usize;
    sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}

/// A packet socket on an interface, which sees what leaves as well (packet(7)).
fn open(interface: &str, shape: &Shape) -> io::Result<Socket> {
    // Nothing may come before the filter is there, so no protocol yet.
    // SAFETY: has no preconditions; the descriptor is new and nobody else's.
    let socket = unsafe {
        let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        let fd = libc::socket(libc::AF_PACKET, kind, 0);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        Socket::from(OwnedFd::from_raw_fd(fd))
    };
    socket.attach_filter(&shape.filter())?;
    for (name, value) in [(libc::SO_TIMESTAMPNS, 1), (libc::SO_RCVBUFFORCE, RECEIVE_BUFFER)] {
        // SAFETY: the option's value is an int that lives through the call.
        let done = unsafe {
            let (at, size) = ((&raw const value).cast(), size_of::<libc::c_int>() as u32);
            libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, name, at, size)
        };
        if done != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    let name = std::ffi::CString::new(interface).map_err(io::Error::other)?;
    // SAFETY: all zero is a valid value of this plain C structure; the name ends with a zero.
    let address = unsafe {
        let mut address: libc::sockaddr_ll = mem::zeroed();
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
        address.sll_ifindex = libc::if_nametoindex(name.as_ptr()).cast_signed();
        address
    };
    // SAFETY: the address lives through the call and has the length given.
    let done = unsafe {
        let size = size_of::<libc::sockaddr_ll>() as u32;
        libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size)
    };
    if done == 0 { Ok(socket) } else { Err(io::Error::last_os_error()) }
}

/// The next packet, if there is one.
fn receive(socket: &Socket, shape: &Shape) -> Option<Seen> {
    let mut room = [0_u8; ROOM];
    let mut control = [0_u64; 8];
    let mut part = libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: ROOM };
    // SAFETY: all zero is a valid value of this plain C structure.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = mem::size_of_val(&control);
    // SAFETY: every pointer in `message` is to a local that outlives the call.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, 0) };
    usize::try_from(length).ok()?;
    // SAFETY: the control messages are as the kernel wrote them; the only one that was asked for is
    // a timespec, which is read unaligned.
    let at = unsafe {
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        let stamp = libc::CMSG_DATA(header.as_ref()?).cast::<libc::timespec>().read_unaligned();
        stamp.tv_sec * 1_000_000_000 + stamp.tv_nsec
    };
    let request = room[shape.header as usize] == shape.request;
    let end = if request { shape.destination } else { shape.source } as usize;
    Some(Seen { at, peer: *room[..=end].last_chunk()?, request })
}

/// Where things are in a packet of one family, from its IP header on, which has no options here.
struct Shape {
    /// The protocol of the frame (IANA's IEEE 802 Numbers).
    ether: u32,
    /// Where the next protocol is told, and which is meant.
    next: (u32, u32),
    /// How long the header is.
    header: u32,
    /// The last octet of each address.
    source: u32,
    destination: u32,
    request: u8,
    reply: u8,
}

impl Shape {
    fn of(family: Family) -> Shape {
        let (ether, next, header, source, destination, request, reply) = match family {
            Family::V4 => (0x0800, (9, 1), 20, 15, 19, 8, 0),
            Family::V6 => (0x86dd, (6, 58), 40, 23, 39, 128, 129),
        };
        Shape { ether, next, header, source, destination, request, reply }
    }

    /// Classic BPF: echoes and their answers, of one peer in [`ONE_IN`].
    fn filter(&self) -> [SockFilter; 14] {
        let octet = |at| SockFilter::new(0x30, 0, 0, at); // ldb [at]
        let equal = |value, yes, no| SockFilter::new(0x15, yes, no, value); // jeq
        [
            SockFilter::new(0x20, 0, 0, 0xffff_f000), // ld the frame's protocol (SKF_AD_PROTOCOL)
            equal(self.ether, 0, 11),
            octet(self.next.0),
            equal(self.next.1, 0, 9),
            octet(self.header),
            equal(self.reply.into(), 3, 0), // on to its source
            equal(self.request.into(), 0, 6),
            octet(self.destination),
            SockFilter::new(0x05, 0, 0, 1), // ja over the next
            octet(self.source),
            SockFilter::new(0x54, 0, 0, ONE_IN - 1), // and
            equal(0, 0, 1),
            SockFilter::new(0x06, 0, 0, ROOM as u32), // ret so much of it
            SockFilter::new(0x06, 0, 0, 0),           // ret nothing
        ]
    }
}
