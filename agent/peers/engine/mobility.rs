//! Proxy Mobile IPv6 heartbeats (PEER-15) on the wire: sockets, and what is said on them.
//!
//! ```text
//!   Request ──> send ─────────> IPv6: raw, protocol 135 ──┐
//!   Heard  <── receive <─────── IPv4: UDP port 5436    ───┼──> peers
//!                 └──answers to their requests────────────┘
//! ```
//!
//! One socket for each family serves every source address, by IP_PKTINFO. There is no socket
//! while no peer needs it, and one that can't be had is tried for again: until then requests fail,
//! which says nothing of the peers (PEER-12).
//!
//! A message has no room for a token, so who answered is known by the source address alone; the
//! monitor looks whether the sequence number is that of an outstanding request.
//!
//! What bounds a flood: a round reads at most [`AT_ONCE`] messages of a socket; what does not come
//! from a peer costs a look into a table; and the requests of one peer are answered up to
//! [`BURST`] at once and one every [`EVERY`] in the long run, which is more than any peer that
//! keeps to RFC 5847 asks (its shortest interval is 30 s).

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsFd, AsRawFd},
    time::Duration,
};

use evenkeel_core::{
    peers::{
        Answer, Change, Discard, Disturbance, Monitor, PeerView, Request,
        mobility::{self, MOST, Message, Path},
        settings::{Heartbeat, Settings},
    },
    time::Time,
};
use tracing::{info, warn};

use super::{
    mobility_socket::{Letter, OpenError, Outbox, Side},
    stats::MobilityStats,
};
use crate::{
    clock::{Clock, Reading, receipt},
    ear::{
        drops::{Dropped, Drops, Protocol},
        recvmmsg::{self, Slots},
        socket::kernel_drops,
    },
};

/// Messages a call.
const SLOTS: usize = 64;
/// A Mobility Header is at most so long (RFC 6275, 6.1.1). Octets behind it say nothing, and may be
/// cut.
const LENGTH: usize = 2048;
/// A socket that has given this much waits for the next round.
const AT_ONCE: usize = 4096;
/// A read that fails so often in a row is given up for this round.
const TRIES: usize = 16;
/// Requests of one peer that are answered however close they follow each other: as many as it could
/// have retransmitted before this host went on after a stall.
const BURST: u32 = 20;
/// How long one more takes.
const EVERY: Duration = Duration::from_millis(50);
/// How long until a socket that could not be had is tried for again.
const TRY_AGAIN: Duration = Duration::from_secs(10);

/// The Proxy Mobile IPv6 side of the engine.
pub(super) struct Mobility {
    /// The source addresses of each group that uses these heartbeats, in the order of the settings.
    groups: Vec<Option<Sources>>,
    /// Every peer of those groups.
    peers: HashMap<IpAddr, Peer>,
    /// Their addresses, as changes name places.
    places: HashMap<u32, IpAddr>,
    /// A peer of another group, whose address we don't know, may have become one of these.
    stale: bool,
    restart_counter: u32,
    buffer: usize,
    v4: End,
    v6: End,
    slots: Slots,
    outbox: Outbox,
    letters: Vec<Letter>,
    stats: MobilityStats,
}

/// What happened, for the monitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// A peer answered.
    Answer(Answer),
    /// A peer said unasked how often it has started.
    Started {
        /// Its place.
        place: u32,
        /// Its restart counter.
        counter: u32,
        /// When.
        received: Time,
    },
    /// A peer knows no heartbeats.
    Unsupported {
        /// Its place.
        place: u32,
        /// When.
        received: Time,
    },
    /// Something that changes nothing.
    Discarded(Discard),
}

impl Heard {
    /// Hands it to the monitor, which counts what it does not want.
    pub(super) fn hand_to(self, monitor: &mut Monitor) {
        match self {
            Heard::Answer(answer) => drop(monitor.answer(&answer)),
            Heard::Started { place, counter, received } => {
                monitor.restart_counter(place, counter, received);
            }
            Heard::Unsupported { place, received } => monitor.unsupported(place, received),
            Heard::Discarded(why) => monitor.discarded(why, 1),
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Sources {
    v4: Option<Ipv4Addr>,
    v6: Option<Ipv6Addr>,
}

#[derive(Clone, Copy, Debug)]
struct Peer {
    place: u32,
    group: u16,
    /// Its latest request, for the round-trip time.
    sequence: u32,
    sent: Time,
    /// When its requests would all be paid for, at one every [`EVERY`].
    paid: Time,
}

/// One family's way out and in.
#[derive(Debug)]
struct End {
    v4: bool,
    /// How many peers need it.
    peers: usize,
    side: Option<Side>,
    /// Why there is none, and when it was last tried.
    refused: Option<(OpenError, Time)>,
    /// Nothing that it will still give was received before this.
    floor: Time,
    /// Of the socket in `side`.
    drops: Drops,
}

impl Mobility {
    /// Nobody yet. `restart_counter` is what peers are told: how often this agent has started
    /// (RFC 5847, 3.4). Each socket asks for a receive buffer of `buffer` bytes.
    pub(super) fn new(settings: &Settings, restart_counter: u32, buffer: usize) -> Mobility {
        let end = |v4| End {
            v4,
            peers: 0,
            side: None,
            refused: None,
            floor: Time::ZERO,
            drops: Drops::new(Protocol::Unchecked, 0),
        };
        let mut mobility = Mobility {
            groups: Vec::new(),
            peers: HashMap::new(),
            places: HashMap::new(),
            stale: false,
            restart_counter,
            buffer,
            v4: end(true),
            v6: end(false),
            slots: Slots::short(SLOTS, LENGTH),
            outbox: Outbox::new(),
            letters: Vec::with_capacity(SLOTS),
            stats: MobilityStats::default(),
        };
        mobility.reconfigure(settings);
        mobility.stale = false;
        mobility
    }

    /// Takes in new settings.
    pub(super) fn reconfigure(&mut self, settings: &Settings) {
        let sources = |group: &evenkeel_core::peers::settings::Group| {
            (group.kind == Heartbeat::ProxyMobile)
                .then_some(Sources { v4: group.source_v4, v6: group.source_v6 })
        };
        self.groups = settings.groups.iter().map(sources).collect();
        self.stale = true;
    }

    /// Takes in a change of the roster. When all that are there were taken in, those who
    /// [`is_stale`](Mobility::is_stale) says need a [`refresh`](Mobility::refresh).
    pub(super) fn apply(&mut self, change: &Change) {
        match *change {
            Change::Add { place, address, group, .. } => self.add(place, address, group),
            Change::Set { place, group, .. } => match self.places.get(&place) {
                Some(address) if self.is_of(group) => {
                    let address = *address;
                    if let Some(peer) = self.peers.get_mut(&address) {
                        peer.group = group;
                    }
                }
                Some(_) => self.remove(place),
                None => self.stale |= self.is_of(group),
            },
            Change::Restore { .. } => {}
            Change::Remove { place, .. } => self.remove(place),
        }
    }

    /// Whether some peer may be missing.
    pub(super) fn is_stale(&self) -> bool {
        self.stale
    }

    /// Takes in all peers anew, from [`Monitor::peers`]. What is known of them stays.
    pub(super) fn refresh(&mut self, peers: impl Iterator<Item = PeerView>) {
        let old = std::mem::take(&mut self.peers);
        self.places.clear();
        (self.v4.peers, self.v6.peers) = (0, 0);
        for view in peers {
            self.add(view.place, view.address, view.group);
            if let (Some(old), Some(new)) =
                (old.get(&view.address), self.peers.get_mut(&view.address))
                && old.place == new.place
            {
                *new = Peer { group: new.group, ..*old };
            }
        }
        self.stale = false;
    }

    /// Opens the sockets that are needed and closes those that are not. Says whether
    /// [`descriptors`](Mobility::descriptors) gives others now. Costs nothing if nothing is to be
    /// done.
    pub(super) fn keep_sockets(&mut self, now: Time) -> bool {
        let buffer = self.buffer;
        let changed = [&mut self.v4, &mut self.v6].map(|end| end.keep(buffer, now));
        changed != [false, false]
    }

    /// What to wait for: peers' requests come at any time.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = libc::c_int> {
        self.ends().filter_map(|end| end.side.as_ref()).map(|side| side.receive.as_raw_fd())
    }

    /// All that was received before this moment was handed in; nothing if there is no socket.
    pub(super) fn floor(&self) -> Option<Time> {
        self.ends().filter(|end| end.side.is_some()).map(|end| end.floor).min()
    }

    /// What keeps it from doing as it should, and what would help: a sentence each.
    pub(super) fn problems(&self) -> impl Iterator<Item = String> {
        self.ends().filter_map(|end| end.refused.as_ref()).map(|(error, _)| error.to_string())
    }

    /// What was counted.
    pub(super) const fn stats(&self) -> MobilityStats {
        self.stats
    }

    /// Sends requests. `failed` is told of each that the kernel did not take, with the error.
    pub(super) fn send(
        &mut self,
        requests: &[Request],
        mut failed: impl FnMut(&Request, libc::c_int),
    ) {
        for v4 in [true, false] {
            let mut rest = requests;
            while !rest.is_empty() {
                let now = Clock::now();
                let chunk;
                (chunk, rest) = rest.split_at(rest.len().min(Outbox::CHUNK));
                self.letters.clear();
                for request in chunk.iter().filter(|request| request.address.is_ipv4() == v4) {
                    let letter = self.request(request, now);
                    self.letters.push(letter);
                }
                let Mobility { outbox, letters, stats, v4: end_v4, v6: end_v6, .. } = &mut *self;
                let end = if v4 { end_v4 } else { end_v6 };
                stats.sent += letters.len() as u64;
                outbox.send(end.side.as_ref(), letters, |letter, errno| {
                    stats.sent -= 1;
                    let mut mine = chunk.iter().filter(|request| request.address.is_ipv4() == v4);
                    if let Some(request) = mine.nth(letter) {
                        failed(request, errno);
                    }
                });
            }
        }
    }

    /// Hands in what came, answers what peers asked, and says how many messages there were.
    pub(super) fn receive(&mut self, mut tell: impl FnMut(Heard)) -> usize {
        self.read(true, &mut tell) + self.read(false, &mut tell)
    }

    /// Tells if the kernel had no room for something since this was last asked (PEER-12). Says how many
    /// messages it dropped for a wrong checksum.
    pub(super) fn look(&mut self, mut tell: impl FnMut(Disturbance)) -> u64 {
        let mut wrong = 0;
        for end in [&mut self.v4, &mut self.v6] {
            let Some(side) = &end.side else { continue };
            let Dropped { lost, broken } = end.drops.more(side.receive.as_fd());
            wrong += broken;
            if lost > 0 {
                self.stats.kernel_drops += lost;
                tell(Disturbance::ReceiveDropped { v4: end.v4 });
            }
        }
        wrong
    }

    fn ends(&self) -> impl Iterator<Item = &End> {
        [&self.v4, &self.v6].into_iter()
    }

    fn end(&mut self, v4: bool) -> &mut End {
        if v4 { &mut self.v4 } else { &mut self.v6 }
    }

    /// Whether a group uses these heartbeats.
    fn is_of(&self, group: u16) -> bool {
        self.groups.get(usize::from(group)).is_some_and(Option::is_some)
    }

    fn add(&mut self, place: u32, address: IpAddr, group: u16) {
        self.remove(place);
        if !self.is_of(group) {
            return;
        }
        let peer = Peer { place, group, sequence: 0, sent: Time::MAX, paid: Time::ZERO };
        match self.peers.insert(address, peer) {
            // Its former place is given up by a removal that follows.
            Some(former) => drop(self.places.remove(&former.place)),
            None => self.end(address.is_ipv4()).peers += 1,
        }
        self.places.insert(place, address);
    }

    fn remove(&mut self, place: u32) {
        let Some(address) = self.places.remove(&place) else { return };
        if self.peers.remove(&address).is_some() {
            self.end(address.is_ipv4()).peers -= 1;
        }
    }

    fn request(&mut self, request: &Request, now: Time) -> Letter {
        if let Some(peer) = self.peers.get_mut(&request.address) {
            (peer.sequence, peer.sent) = (request.sequence, now);
        }
        let sources = self.groups.get(usize::from(request.group)).copied().flatten();
        let (port, from) = match request.address {
            IpAddr::V4(_) => (mobility::PORT, sources.and_then(|it| it.v4).map(IpAddr::V4)),
            // Raw sockets have no ports.
            IpAddr::V6(_) => (0, sources.and_then(|it| it.v6).map(IpAddr::V6)),
        };
        let message = Message::Request { sequence: request.sequence };
        Letter::new(SocketAddr::new(request.address, port), from, &message)
    }

    /// Reads a socket until it is empty or has given enough.
    fn read(&mut self, v4: bool, tell: &mut impl FnMut(Heard)) -> usize {
        let (mut taken, mut failures) = (0, 0);
        while taken < AT_ONCE && failures < TRIES {
            let before = Clock::now();
            let Mobility { slots, v4: end_v4, v6: end_v6, stats, .. } = &mut *self;
            let end = if v4 { end_v4 } else { end_v6 };
            let Some(side) = &end.side else { return 0 };
            match slots.receive(side.receive.as_fd()) {
                Ok(count) => {
                    taken += count;
                    self.take_all(v4, tell);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    end.floor = end.floor.max(before);
                    return taken;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    stats.receive_errors += 1;
                    failures += 1;
                    // What can't be read must not keep every try from being judged.
                    if failures == TRIES {
                        end.floor = end.floor.max(before);
                    }
                }
            }
        }
        taken
    }

    /// Takes in what one call has brought, and sends the answers.
    fn take_all(&mut self, v4: bool, tell: &mut impl FnMut(Heard)) {
        let Mobility { slots, v4: end_v4, v6: end_v6, peers, outbox, letters, stats, .. } = self;
        let end = if v4 { end_v4 } else { end_v6 };
        let now = Clock::both();
        letters.clear();
        for message in slots.messages() {
            stats.received += 1;
            let received = end.received(&message, now);
            match take(&message, v4, received, peers) {
                Ok(Taken::Heard(heard)) => tell(heard),
                Ok(Taken::Asked { to, sequence }) => {
                    let answer =
                        Message::Response { sequence, restart_counter: Some(self.restart_counter) };
                    letters.push(Letter::new(to, message.local, &answer));
                }
                Ok(Taken::TooMany) => stats.limited += 1,
                Ok(Taken::Nothing) => {}
                Err(why) => tell(Heard::Discarded(why)),
            }
        }
        let mut failed = 0;
        outbox.send(end.side.as_ref(), letters, |_, _| failed += 1);
        let answered = letters.len() as u64 - failed;
        stats.answered += answered;
        stats.sent += answered;
        stats.failed += failed;
    }
}

impl End {
    /// Opens or closes the socket; says whether it did.
    fn keep(&mut self, buffer: usize, now: Time) -> bool {
        match (&self.side, self.peers > 0) {
            (Some(_), true) | (None, false) => {
                if self.peers == 0 {
                    self.refused = None;
                }
                false
            }
            (Some(_), false) => {
                self.side = None;
                true
            }
            (None, true) => {
                if self.refused.as_ref().is_some_and(|(_, at)| now.since(*at) < TRY_AGAIN) {
                    return false;
                }
                self.open(buffer, now)
            }
        }
    }

    fn open(&mut self, buffer: usize, now: Time) -> bool {
        match Side::open(self.v4, buffer) {
            Ok(side) => {
                if self.refused.take().is_some() {
                    info!("Proxy Mobile IPv6 heartbeats over {} go out now", name(self.v4));
                }
                // Over IPv6 the kernel was told to check nothing.
                let protocol = if self.v4 { Protocol::Udp4 } else { Protocol::Unchecked };
                let drops = kernel_drops(side.receive.as_fd()).unwrap_or(0);
                self.drops = Drops::new(protocol, drops);
                self.floor = self.floor.max(now);
                self.side = Some(side);
                true
            }
            Err(error) => {
                let text = error.to_string();
                if self.refused.as_ref().is_none_or(|(before, _)| before.to_string() != text) {
                    warn!("{text}; it is tried again every {TRY_AGAIN:?}");
                }
                self.refused = Some((error, now));
                false
            }
        }
    }

    fn received(&mut self, message: &recvmmsg::Message<'_>, now: Reading) -> Time {
        let received = message.stamp.map_or(now.time, |stamp| receipt(stamp, now, self.floor));
        self.floor = self.floor.max(received);
        received
    }
}

pub(super) fn name(v4: bool) -> &'static str {
    if v4 { "IPv4" } else { "IPv6" }
}

/// What a message leads to.
enum Taken {
    Heard(Heard),
    Asked {
        to: SocketAddr,
        sequence: u32,
    },
    /// It asked more often than is answered.
    TooMany,
    Nothing,
}

fn take(
    message: &recvmmsg::Message<'_>,
    v4: bool,
    received: Time,
    peers: &mut HashMap<IpAddr, Peer>,
) -> Result<Taken, Discard> {
    // A raw socket gets a copy of all Mobility Headers that come to this host: what is neither a
    // heartbeat nor about one is for another program.
    if !v4 && mobility::kind(message.head).is_some_and(|kind| !mobility::is_ours(kind)) {
        return Ok(Taken::Nothing);
    }
    // The sockets give nothing but IP.
    let Some(to) = message.source else { return Ok(Taken::Nothing) };
    let source = to.ip();
    let peer = peers.get_mut(&source).ok_or(Discard::UnknownPeer)?;
    let path = match (source, message.local) {
        (IpAddr::V6(source), Some(IpAddr::V6(destination))) => Some(Path { source, destination }),
        // The kernel has checked the checksum of UDP.
        (IpAddr::V4(_), _) if v4 => None,
        // It was asked to tell where a message was sent to, and it is checked here.
        _ => return Err(Discard::Malformed),
    };
    let place = peer.place;
    Ok(match mobility::parse(message.head, path)? {
        Message::Request { sequence } if peer.may_ask(received) => Taken::Asked { to, sequence },
        Message::Request { .. } => Taken::TooMany,
        Message::Response { sequence, restart_counter } => {
            let latest = sequence == peer.sequence && peer.sent <= received;
            Taken::Heard(Heard::Answer(Answer {
                place,
                source,
                sequence,
                token: None,
                interface: message.interface,
                received,
                sent: latest.then_some(peer.sent),
                restart_counter,
            }))
        }
        Message::Unsolicited { restart_counter: Some(counter) } => {
            Taken::Heard(Heard::Started { place, counter, received })
        }
        Message::Unsolicited { restart_counter: None } => Taken::Nothing,
        Message::Unrecognized => Taken::Heard(Heard::Unsupported { place, received }),
        // The port is for nothing else.
        Message::Other { .. } if v4 => return Err(Discard::Malformed),
        Message::Other { .. } => Taken::Nothing,
    })
}

impl Peer {
    /// Whether one more request of this peer is answered.
    fn may_ask(&mut self, now: Time) -> bool {
        let paid = self.paid.max(now);
        let may = paid.since(now) < EVERY * BURST;
        if may {
            self.paid = paid + EVERY;
        }
        may
    }
}

const _: () = assert!(MOST <= LENGTH);

#[cfg(test)]
#[path = "mobility_tests.rs"]
mod tests;
