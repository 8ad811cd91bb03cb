//! The witnesses: who is asked by ICMP echo, while the mate is silent, whether this agent is itself the
//! one that is cut off (PAIR-4). When to ask is the machine's business.
//!
//! An answer counts if it comes from the witness that was asked, with our identifier, the number of
//! that question, and the token in it that nobody else has seen: an old answer, or one that somebody
//! makes up, is none. Where raw sockets are not allowed, the kernel's ping sockets serve
//! (`net.ipv4.ping_group_range`); then it is the kernel that picks the identifier.

use std::{
    collections::VecDeque,
    hash::{BuildHasher, RandomState},
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    os::fd::{AsFd, OwnedFd},
    task::{Context, Poll, Waker},
    time::Duration,
};

use evenkeel_core::time::Time;
use pnet::packet::{
    Packet,
    icmp::{self, IcmpTypes, echo_reply::EchoReplyPacket, echo_request::MutableEchoRequestPacket},
    icmpv6::{Icmpv6Types, echo_reply::EchoReplyPacket as EchoReplyV6},
    ipv4::Ipv4Packet,
};
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};
use tokio::io::unix::AsyncFd;

use super::paths::watched;
use crate::{
    clock::{self, BootClock},
    ear::{
        icmp::{self as ear_icmp, Family},
        recvmmsg::Slots,
        socket::set_option,
    },
};

/// How many witnesses are asked at most: one answer is enough.
const MOST: usize = 16;

/// What an echo carries before its token.
const GREETING: &[u8; 32] = b"evenkeel asks: am I reachable?  ";

/// Type, code, checksum, identifier, sequence number (RFC 792, RFC 4443).
const HEADER: usize = 8;

const TOKEN: usize = 8;

/// An answer that is later than this is of no use to anybody: see `Timing::tie_breaker`.
const FORGOTTEN: Duration = Duration::from_secs(20);

/// How many messages are read at once.
const BATCH: usize = 32;

/// A small buffer does: what others ping is filtered out in the kernel.
const BUFFER: usize = 64 << 10;

/// Where a witness is known from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// The configuration names it.
    Configured,
    /// It is a gateway of this host.
    Gateway,
    /// It is a notification target.
    Target,
}

impl From {
    /// The name in the status.
    pub const fn name(self) -> &'static str {
        match self {
            From::Configured => "configured",
            From::Gateway => "gateway",
            From::Target => "notification_target",
        }
    }
}

/// A witness.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    /// Its address.
    pub address: IpAddr,
    /// Where it is known from.
    pub from: From,
    /// When it was asked last.
    pub asked: Option<Time>,
    /// When it answered last.
    pub answered: Option<Time>,
    /// Why it could not be asked, the last time.
    pub error: Option<String>,
}

/// A question that may still be answered.
struct Question {
    witness: IpAddr,
    sequence: u16,
    token: [u8; TOKEN],
    asked: Time,
}

/// A socket.
struct Door {
    fd: AsyncFd<OwnedFd>,
    /// It is raw, so what comes by it has an IPv4 header, and we pick the identifier.
    raw: bool,
    floor: Time,
}

/// An answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// When the question was asked.
    pub asked: Time,
    /// When the answer came.
    pub at: Time,
}

/// All witnesses.
pub struct Witnesses {
    /// Nothing: gateways and notification targets.
    configured: Option<Vec<IpAddr>>,
    targets: Vec<IpAddr>,
    /// Nothing before this host is known.
    gateways: Option<Vec<IpAddr>>,
    list: Vec<Witness>,
    v4: Option<Door>,
    v6: Option<Door>,
    problem: Option<String>,
    identifier: u16,
    sequence: u16,
    tokens: RandomState,
    questions: VecDeque<Question>,
    slots: Slots,
}

impl Witnesses {
    /// Opens the sockets. To be called within a runtime, as the other functions.
    pub fn open(configured: Option<Vec<IpAddr>>, targets: Vec<IpAddr>, now: Time) -> Witnesses {
        let tokens = RandomState::new();
        let identifier = tokens.hash_one(std::process::id()) as u16;
        let mut witnesses = Witnesses {
            configured,
            targets,
            gateways: None,
            list: Vec::new(),
            v4: None,
            v6: None,
            problem: None,
            identifier,
            sequence: 0,
            tokens,
            questions: VecDeque::new(),
            slots: Slots::short(BATCH, 512),
        };
        witnesses.list_anew();
        if witnesses.configured != Some(Vec::new()) {
            match door(Family::V4, identifier, now) {
                Ok(door) => witnesses.v4 = Some(door),
                Err(error) => {
                    witnesses.problem = Some(format!(
                        "no witness can be asked, so this agent can't tell whether it is itself cut \
                         off: {error}; give it CAP_NET_RAW, or let its group use ping sockets \
                         (net.ipv4.ping_group_range)"
                    ));
                }
            }
            // A host without IPv6 has no witness of it either.
            witnesses.v6 = door(Family::V6, identifier, now).ok();
        }
        witnesses
    }

    /// Others, after a reload.
    pub fn configure(&mut self, configured: Option<Vec<IpAddr>>, targets: Vec<IpAddr>, now: Time) {
        if (&configured, &targets) != (&self.configured, &self.targets) {
            let gateways = self.gateways.take();
            *self = Witnesses::open(configured, targets, now);
            self.gateways = gateways;
            self.list_anew();
        }
    }

    /// This host's gateways are these now. Where there are none left, those before stay witnesses: a
    /// cable that is pulled takes the routes with it, and is just what is to be found out.
    pub fn set_gateways(&mut self, gateways: Vec<IpAddr>) {
        let gone = gateways.is_empty() && self.gateways.is_some();
        if !gone && self.gateways.as_ref() != Some(&gateways) {
            self.gateways = Some(gateways);
            self.list_anew();
        }
    }

    /// Whether there is one to ask, as far as is known. Before this host is known, there is.
    pub fn any(&self) -> bool {
        match &self.configured {
            Some(configured) if configured.is_empty() => false,
            // Whom nobody can be asked by would stay standby for ever, and a gap is worse than a
            // duplicate.
            _ if self.problem.is_some() => false,
            Some(_) => true,
            None => self.gateways.is_none() || !self.list.is_empty(),
        }
    }

    /// Who they are.
    pub fn list(&self) -> &[Witness] {
        &self.list
    }

    /// Why none can be asked.
    pub fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    fn list_anew(&mut self) {
        let named = |addresses: &[IpAddr], from| -> Vec<(IpAddr, From)> {
            addresses.iter().map(|address| (address.to_canonical(), from)).collect()
        };
        let mut all = match &self.configured {
            Some(configured) => named(configured, From::Configured),
            None => {
                let mut all = named(self.gateways.as_deref().unwrap_or_default(), From::Gateway);
                all.extend(named(&self.targets, From::Target));
                all
            }
        };
        let mut seen = Vec::new();
        all.retain(|(address, _)| {
            let fit = !address.is_loopback()
                && !address.is_unspecified()
                && !address.is_multicast()
                // Without its interface a link-local address says nothing.
                && !matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
                && !seen.contains(address);
            seen.push(*address);
            fit
        });
        all.truncate(MOST);
        let before = std::mem::take(&mut self.list);
        self.list = all
            .into_iter()
            .map(|(address, from)| {
                let known = before.iter().find(|witness| witness.address == address);
                let new = Witness { address, from, asked: None, answered: None, error: None };
                known.map_or(new, |known| Witness { from, ..known.clone() })
            })
            .collect();
    }

    /// Asks each.
    pub fn ask(&mut self, asked: Time) {
        while self.questions.front().is_some_and(|old| asked.since(old.asked) > FORGOTTEN) {
            self.questions.pop_front();
        }
        for witness in &mut self.list {
            witness.asked = Some(asked);
            if is_own(witness.address) {
                witness.error = Some("it is an address of this host".to_owned());
                continue;
            }
            self.sequence = self.sequence.wrapping_add(1);
            let sequence = self.sequence;
            let token = self.tokens.hash_one((witness.address, sequence, asked)).to_be_bytes();
            let door = if witness.address.is_ipv4() { &self.v4 } else { &self.v6 };
            let sent = match door {
                None => Err(io::Error::other("there is no socket for it")),
                Some(door) => {
                    let echo = echo(witness.address, self.identifier, sequence, token);
                    let to = SockAddr::from(SocketAddr::new(witness.address, 0));
                    SockRef::from(&door.fd).send_to(&echo, &to)
                }
            };
            witness.error = sent.err().map(|error| error.to_string());
            self.questions.push_back(Question { witness: witness.address, sequence, token, asked });
        }
    }

    /// Whether there may be something to read.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut ready = Poll::Pending;
        for door in [&self.v4, &self.v6].into_iter().flatten() {
            if door.fd.poll_read_ready(cx).is_ready() {
                ready = Poll::Ready(());
            }
        }
        ready
    }

    /// Reads what has come until `now`, and gives what answers a question.
    pub fn read(&mut self, now: Time) -> Vec<Answer> {
        let mut answers = Vec::new();
        for (door, v4) in [(&mut self.v4, true), (&mut self.v6, false)] {
            let Some(door) = door else { continue };
            if let Poll::Ready(Ok(mut ready)) =
                door.fd.poll_read_ready(&mut Context::from_waker(Waker::noop()))
            {
                ready.clear_ready();
            }
            // The filter lets through what answers our own questions, and those are few.
            while self.slots.receive(door.fd.as_fd()).is_ok() {
                let reading = BootClock::both();
                for message in self.slots.messages() {
                    let at = message
                        .stamp
                        .map_or(reading.time, |stamp| clock::receipt(stamp, reading, door.floor));
                    door.floor = door.floor.max(at);
                    let Some(source) = message.source else { continue };
                    let Some((sequence, token)) = reply(message.head, v4, door.raw) else {
                        continue;
                    };
                    let answers_it = |question: &Question| {
                        question.sequence == sequence
                            && question.token == token
                            && question.witness == source.ip()
                    };
                    let Some(place) = self.questions.iter().position(answers_it) else { continue };
                    let Some(question) = self.questions.remove(place) else { continue };
                    answers.push(Answer { asked: question.asked, at });
                    let witness = self.list.iter_mut().find(|it| it.address == question.witness);
                    if let Some(witness) = witness {
                        witness.answered = witness.answered.max(Some(at));
                    }
                }
            }
            door.floor = door.floor.max(now);
        }
        answers
    }
}

/// Whether an address is one of this host, which would answer whatever happens to the network. No
/// packet is sent: the kernel is asked which address it would send from.
fn is_own(address: IpAddr) -> bool {
    let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let from = UdpSocket::bind(any)
        .and_then(|socket| socket.connect((address, 9)).and_then(|()| socket.local_addr()));
    from.is_ok_and(|from| from.ip() == address)
}

/// An echo request.
fn echo(to: IpAddr, identifier: u16, sequence: u16, token: [u8; TOKEN]) -> Vec<u8> {
    let mut octets = vec![0; HEADER];
    octets.extend_from_slice(GREETING);
    octets.extend_from_slice(&token);
    // Both families have the same form; of ICMPv6 the kernel makes the checksum (RFC 3542, 3.1).
    if let Some(mut echo) = MutableEchoRequestPacket::new(&mut octets) {
        echo.set_identifier(identifier);
        echo.set_sequence_number(sequence);
        echo.set_icmp_type(IcmpTypes::EchoRequest);
    }
    if to.is_ipv6() {
        octets[0] = Icmpv6Types::EchoRequest.0;
    } else if let Some(packet) = icmp::IcmpPacket::new(&octets) {
        let checksum = icmp::checksum(&packet).to_be_bytes();
        octets[2..4].copy_from_slice(&checksum);
    }
    octets
}

/// The number and the token of an echo reply; nothing if it is none. The kernel has seen to the
/// identifier, by its filter or as it is its own.
fn reply(octets: &[u8], v4: bool, raw: bool) -> Option<(u16, [u8; TOKEN])> {
    let (sequence, payload) = if v4 {
        let header =
            if raw { usize::from(Ipv4Packet::new(octets)?.get_header_length()) * 4 } else { 0 };
        let reply = EchoReplyPacket::new(octets.get(header..)?)?;
        if reply.get_icmp_type() != IcmpTypes::EchoReply {
            return None;
        }
        (reply.get_sequence_number(), reply.payload().to_vec())
    } else {
        let reply = EchoReplyV6::new(octets)?;
        if reply.get_icmpv6_type() != Icmpv6Types::EchoReply {
            return None;
        }
        (reply.get_sequence_number(), reply.payload().to_vec())
    };
    let token = payload.strip_prefix(GREETING)?.get(..TOKEN)?;
    Some((sequence, token.try_into().ok()?))
}

/// A raw socket that lets through answers to our own echoes alone; or, where that is not allowed, one of
/// the kernel's ping sockets.
fn door(family: Family, identifier: u16, now: Time) -> io::Result<Door> {
    let (fd, raw) = match ear_icmp::open(family, identifier, BUFFER) {
        Ok(socket) => (socket.descriptor()?, true),
        Err(_) => (ping_socket(family)?, false),
    };
    Ok(Door { fd: watched(fd)?, raw, floor: now })
}

fn ping_socket(family: Family) -> io::Result<OwnedFd> {
    let (domain, protocol) = match family {
        Family::V4 => (Domain::IPV4, Protocol::ICMPV4),
        Family::V6 => (Domain::IPV6, Protocol::ICMPV6),
    };
    let socket = Socket::new(domain, Type::DGRAM, Some(protocol))?;
    socket.set_nonblocking(true)?;
    set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(list: &[&str]) -> Vec<IpAddr> {
        list.iter().map(|address| address.parse().unwrap()).collect()
    }

    fn asked(witnesses: &Witnesses) -> Vec<(String, From)> {
        witnesses.list().iter().map(|it| (it.address.to_string(), it.from)).collect()
    }

    #[tokio::test]
    async fn pair_4_by_default_gateways_and_notification_targets_are_witnesses() {
        let targets = addresses(&["192.0.2.9", "127.0.0.1", "192.0.2.1", "fe80::1"]);
        let mut witnesses = Witnesses::open(None, targets, BootClock::now());
        assert!(witnesses.any(), "what gateways there are is not known yet");
        witnesses.set_gateways(addresses(&["192.0.2.1", "2001:db8::1"]));
        assert_eq!(
            asked(&witnesses),
            [
                ("192.0.2.1".to_owned(), From::Gateway),
                ("2001:db8::1".to_owned(), From::Gateway),
                ("192.0.2.9".to_owned(), From::Target),
            ]
        );
        witnesses.set_gateways(Vec::new());
        assert_eq!(asked(&witnesses).len(), 3, "they are out of reach, which is the question");
        let named = Some(addresses(&["192.0.2.7"]));
        witnesses.configure(named, Vec::new(), BootClock::now());
        assert_eq!(asked(&witnesses), [("192.0.2.7".to_owned(), From::Configured)]);
        witnesses.configure(Some(Vec::new()), Vec::new(), BootClock::now());
        assert!(!witnesses.any() && witnesses.list().is_empty());
        let mut witnesses = Witnesses::open(None, addresses(&["::1"]), BootClock::now());
        witnesses.set_gateways(Vec::new());
        assert!(!witnesses.any(), "there is nobody");
    }

    #[tokio::test]
    async fn pair_4_an_address_of_this_host_is_no_witness() {
        let mut witnesses = Witnesses::open(None, Vec::new(), BootClock::now());
        witnesses.set_gateways(addresses(&["192.0.2.1"]));
        witnesses.list[0].address = "127.0.0.1".parse().unwrap();
        witnesses.ask(BootClock::now());
        assert_eq!(witnesses.list[0].error.as_deref(), Some("it is an address of this host"));
        assert!(witnesses.questions.is_empty());
    }

    #[test]
    fn pair_4_an_echo_is_known_by_its_number_and_its_token() {
        for (to, v4) in [("192.0.2.1", true), ("2001:db8::1", false)] {
            let mut octets = echo(to.parse().unwrap(), 7, 258, *b"a secret");
            assert_eq!(reply(&octets, v4, false), None, "a request");
            octets[0] = if v4 { 0 } else { 129 };
            assert_eq!(reply(&octets, v4, false), Some((258, *b"a secret")));
            assert_eq!(octets[4..8], [0, 7, 1, 2]);
            for length in 0..octets.len() {
                assert_eq!(reply(&octets[..length], v4, false), None);
            }
        }
        assert_eq!(reply(&[], true, true), None);
    }
}
