//! The limit that the agent is measured against in `peers.rs`: one thread that sends echoes with
//! sendmmsg and receives the answers with recvmmsg, by a raw socket with a kernel filter and a big
//! buffer, and finds the peer of an answer by the place that is in it. No rule is kept.

use std::{
    io, mem,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::AsRawFd,
    thread,
    time::{Duration, Instant},
};

use socket2::{Domain, Protocol, SockFilter, SockRef, Socket, Type};

use super::field::Family;

/// Packets for each system call: more gains nothing.
const CHUNK: usize = 64;
/// The echo's header, and a place, a sequence number and 16 octets more, as much as the agent sends.
const ECHO: usize = 32;
/// Where the place is in an echo, and where the sequence number.
const PLACE: usize = 8;
const SEQUENCE: usize = 12;
/// Room for what comes: an IPv4 header with options, and the echo.
const ROOM: usize = 128;
/// The identifier of all our echoes.
const IDENTIFIER: u16 = 0x6b62;
const RECEIVE_BUFFER: libc::c_int = 4 << 20;
/// What is still under way at the end is waited for.
const LAST_ANSWERS: Duration = Duration::from_millis(300);

/// How requests leave.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// How many peers there are.
    pub peers: u32,
    /// How often each of them is asked.
    pub interval: Duration,
    /// From one batch to the next; what has become due meanwhile is a batch.
    pub batch: Duration,
}

/// What became of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    /// Echoes that the kernel took.
    pub sent: u64,
    /// Answers to the last echo that was sent to a peer, from its address.
    pub answered: u64,
}

/// A peer in the table.
#[derive(Clone, Copy, Default)]
struct Peer {
    sequence: u32,
    outstanding: bool,
}

/// Asks all peers in turn for as long as told.
///
/// # Errors
///
/// The kernel refuses the socket or a call.
pub fn run(family: Family, pace: Pace, duration: Duration) -> io::Result<Outcome> {
    let socket = open(family)?;
    let mut peers = vec![Peer::default(); pace.peers as usize];
    let (mut sender, mut receiver) = (Sender::new(family), Receiver::new(family));
    let mut outcome = Outcome::default();
    let start = Instant::now();
    let mut next = start;
    let mut place = 0;
    while start.elapsed() < duration {
        // Counted from the start, so that no rounding adds up.
        let rounds = start.elapsed().as_secs_f64() / pace.interval.as_secs_f64();
        let mut due = (rounds * f64::from(pace.peers)) as u64 - outcome.sent;
        while due > 0 {
            let count = due.min(CHUNK as u64).min(u64::from(pace.peers - place)) as u32;
            for (at, place) in (place..place + count).enumerate() {
                let peer = &mut peers[place as usize];
                peer.sequence += 1;
                peer.outstanding = true;
                sender.write(at, place, peer.sequence);
            }
            sender.send(&socket, count as usize)?;
            place = (place + count) % pace.peers;
            outcome.sent += u64::from(count);
            due -= u64::from(count);
            outcome.answered += receiver.drain(&socket, &mut peers)?;
        }
        next += pace.batch;
        thread::sleep(next.saturating_duration_since(Instant::now()));
        outcome.answered += receiver.drain(&socket, &mut peers)?;
    }
    thread::sleep(LAST_ANSWERS);
    outcome.answered += receiver.drain(&socket, &mut peers)?;
    Ok(outcome)
}

/// A raw socket that only the answers to us get into.
fn open(family: Family) -> io::Result<Socket> {
    let (domain, protocol) = match family {
        Family::V4 => (Domain::IPV4, Protocol::ICMPV4),
        Family::V6 => (Domain::IPV6, Protocol::ICMPV6),
    };
    let socket = Socket::new(domain, Type::RAW, Some(protocol))?;
    socket.set_nonblocking(true)?;
    let buffer = RECEIVE_BUFFER;
    // SAFETY: the option's value is an int that lives through the call.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVBUFFORCE,
            (&raw const buffer).cast(),
            size_of::<libc::c_int>() as u32,
        )
    };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    let id = u32::from(IDENTIFIER);
    // Classic BPF: type and identifier, else nothing. An IPv4 socket sees the IP header too, whose
    // length goes into X first; an IPv6 one does not, and X stays 0.
    let skip_header = match family {
        Family::V4 => SockFilter::new(0xb1, 0, 0, 0), // ldxb 4*([0]&0xf)
        Family::V6 => SockFilter::new(0x01, 0, 0, 0), // ldx #0
    };
    SockRef::from(&socket).attach_filter(&[
        skip_header,
        SockFilter::new(0x50, 0, 0, 0),             // ldb [x + 0]
        SockFilter::new(0x15, 0, 3, reply(family)), // jeq #reply, else drop
        SockFilter::new(0x48, 0, 0, 4),             // ldh [x + 4]
        SockFilter::new(0x15, 0, 1, id),            // jeq #id, else drop
        SockFilter::new(0x06, 0, 0, 0xffff),        // ret the whole
        SockFilter::new(0x06, 0, 0, 0),             // ret nothing
    ])?;
    Ok(socket)
}

/// The type of an answer (RFC 792, RFC 4443 4.2).
fn reply(family: Family) -> u32 {
    match family {
        Family::V4 => 0,
        Family::V6 => 129,
    }
}

/// An address as the kernel takes it, of either family.
#[derive(Clone, Copy)]
#[repr(C)]
union Name {
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

impl Name {
    /// The port of a raw socket's address must be zero (raw(7)).
    fn new(family: Family) -> Name {
        // SAFETY: all zero is a valid value of these plain C structures.
        let mut name: Name = unsafe { mem::zeroed() };
        match family {
            Family::V4 => name.v4.sin_family = libc::AF_INET as u16,
            Family::V6 => name.v6.sin6_family = libc::AF_INET6 as u16,
        }
        name
    }
}

/// The memory of one sendmmsg.
struct Sender {
    family: Family,
    echoes: Vec<[u8; ECHO]>,
    names: Vec<Name>,
    messages: Vec<libc::mmsghdr>,
    _parts: Vec<libc::iovec>,
}

impl Sender {
    fn new(family: Family) -> Sender {
        let mut echo = [0; ECHO];
        echo[0] = match family {
            Family::V4 => 8,
            Family::V6 => 128,
        };
        echo[4..6].copy_from_slice(&IDENTIFIER.to_be_bytes());
        let mut echoes = vec![echo; CHUNK];
        let mut names = vec![Name::new(family); CHUNK];
        let mut parts: Vec<libc::iovec> = echoes
            .iter_mut()
            .map(|echo| libc::iovec { iov_base: echo.as_mut_ptr().cast(), iov_len: ECHO })
            .collect();
        let length = match family {
            Family::V4 => size_of::<libc::sockaddr_in>(),
            Family::V6 => size_of::<libc::sockaddr_in6>(),
        };
        let messages = messages(&mut names, &mut parts, length);
        Sender { family, echoes, names, messages, _parts: parts }
    }

    /// Makes one echo of the chunk.
    fn write(&mut self, at: usize, place: u32, sequence: u32) {
        let echo = &mut self.echoes[at];
        echo[6..8].copy_from_slice(&(sequence as u16).to_be_bytes());
        echo[PLACE..][..4].copy_from_slice(&place.to_be_bytes());
        echo[SEQUENCE..][..4].copy_from_slice(&sequence.to_be_bytes());
        match (self.family, self.family.peer(place)) {
            (Family::V4, IpAddr::V4(to)) => {
                self.names[at].v4.sin_addr.s_addr = u32::from(to).to_be();
                echo[2..4].fill(0);
                let sum = checksum(echo);
                echo[2..4].copy_from_slice(&sum.to_be_bytes());
            }
            // The kernel makes the checksum, as it covers addresses that are not ours (RFC 3542, 3.1).
            (Family::V6, IpAddr::V6(to)) => {
                self.names[at].v6.sin6_addr.s6_addr = to.octets();
            }
            _ => unreachable!("a peer has the family that was asked for"),
        }
    }

    /// Sends the first `count`. A full queue below is waited for.
    fn send(&mut self, socket: &Socket, count: usize) -> io::Result<()> {
        let mut done = 0;
        while done < count {
            let rest = &mut self.messages[done..count];
            // SAFETY: every pointer in `rest` is to memory of `self`, with the lengths given.
            let sent = unsafe {
                libc::sendmmsg(socket.as_raw_fd(), rest.as_mut_ptr(), rest.len() as u32, 0)
            };
            match usize::try_from(sent) {
                Ok(sent) => done += sent,
                Err(_) => match io::Error::last_os_error() {
                    error if error.raw_os_error() == Some(libc::ENOBUFS) => thread::yield_now(),
                    error if error.kind() == io::ErrorKind::WouldBlock => thread::yield_now(),
                    error => return Err(error),
                },
            }
        }
        Ok(())
    }
}

/// The memory of one recvmmsg.
struct Receiver {
    family: Family,
    room: Vec<[u8; ROOM]>,
    names: Vec<Name>,
    messages: Vec<libc::mmsghdr>,
    _parts: Vec<libc::iovec>,
}

impl Receiver {
    fn new(family: Family) -> Receiver {
        let mut room = vec![[0; ROOM]; CHUNK];
        let mut names = vec![Name::new(family); CHUNK];
        let mut parts: Vec<libc::iovec> = room
            .iter_mut()
            .map(|room| libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: ROOM })
            .collect();
        let messages = messages(&mut names, &mut parts, size_of::<Name>());
        Receiver { family, room, names, messages, _parts: parts }
    }

    /// Takes all that is there; gives how many of them are answers.
    fn drain(&mut self, socket: &Socket, peers: &mut [Peer]) -> io::Result<u64> {
        let mut answered = 0;
        loop {
            for message in &mut self.messages {
                message.msg_hdr.msg_namelen = size_of::<Name>() as u32;
            }
            // SAFETY: every pointer in `messages` is to memory of `self`, with the lengths given.
            let received = unsafe {
                libc::recvmmsg(
                    socket.as_raw_fd(),
                    self.messages.as_mut_ptr(),
                    CHUNK as u32,
                    libc::MSG_DONTWAIT,
                    std::ptr::null_mut(),
                )
            };
            let Ok(received) = usize::try_from(received) else {
                return match io::Error::last_os_error() {
                    error if error.kind() == io::ErrorKind::WouldBlock => Ok(answered),
                    error => Err(error),
                };
            };
            answered +=
                (0..received).filter(|&at| self.is_answer(at, peers).is_some()).count() as u64;
            if received < CHUNK {
                return Ok(answered);
            }
        }
    }

    /// Whether this is the answer that a peer owes.
    fn is_answer(&self, at: usize, peers: &mut [Peer]) -> Option<()> {
        let packet = &self.room[at][..self.messages[at].msg_len as usize];
        let start = match self.family {
            Family::V4 => usize::from(packet.first()? & 15) * 4,
            Family::V6 => 0,
        };
        let number = |at: usize| -> Option<u32> {
            Some(u32::from_be_bytes(*packet.get(start + at..)?.first_chunk()?))
        };
        let (place, sequence) = (number(PLACE)?, number(SEQUENCE)?);
        // SAFETY: the kernel wrote a name of the socket's family, and all bits are valid in both.
        let source: IpAddr = unsafe {
            match self.family {
                Family::V4 => {
                    Ipv4Addr::from(u32::from_be(self.names[at].v4.sin_addr.s_addr)).into()
                }
                Family::V6 => Ipv6Addr::from(self.names[at].v6.sin6_addr.s6_addr).into(),
            }
        };
        let peer = peers.get_mut(place as usize)?;
        let is = peer.outstanding && peer.sequence == sequence && self.family.peer(place) == source;
        is.then(|| peer.outstanding = false)
    }
}

/// One message for each name and part.
fn messages(names: &mut [Name], parts: &mut [libc::iovec], length: usize) -> Vec<libc::mmsghdr> {
    let both = names.iter_mut().zip(parts);
    both.map(|(name, part)| {
        // SAFETY: all zero is a valid value of this plain C structure.
        let mut message: libc::mmsghdr = unsafe { mem::zeroed() };
        message.msg_hdr.msg_name = (&raw mut *name).cast();
        message.msg_hdr.msg_namelen = length as u32;
        message.msg_hdr.msg_iov = part;
        message.msg_hdr.msg_iovlen = 1;
        message
    })
    .collect()
}

/// The sum of the Internet (RFC 1071).
fn checksum(octets: &[u8]) -> u16 {
    let (words, _) = octets.as_chunks::<2>();
    let sum: u32 = words.iter().map(|&word| u32::from(u16::from_be_bytes(word))).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    !(((sum & 0xffff) + (sum >> 16)) as u16)
}
