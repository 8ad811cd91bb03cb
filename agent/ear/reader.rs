//! The thread of an ear.
//!
//! It works in rounds. A round takes from each socket what is there, up to a bound, and hands it
//! in as one batch:
//!
//! ```text
//!        ┌──────────── some socket still has data ────────────┐
//!        v                                                    │
//! sleep ──> round: read each socket ──> sort ──> hand in ─────┤
//!   ^                                                         │
//!   └──────────────── all sockets were empty ─────────────────┘
//! ```
//!
//! Each socket has a *floor*: nothing that it will still give was received before it. It is the
//! moment before a read that found the socket empty, or the last receipt; no later receipt of this
//! socket is set before it ([`receipt`]), and the least floor of all sockets is what has been
//! [heard](Batch::heard).

use std::{
    hash::{BuildHasher, RandomState},
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use evenkeel_core::{limits, supervision::Part, time::Time};
use tokio::sync::mpsc::UnboundedSender;

use super::{
    Batch, Call, DatagramMeta, EarSocket, EarStats, Limits, Waiting,
    drops::{Dropped, Drops},
    recvmmsg::{Message, Slots},
};
use crate::{
    clock::{Clock, Reading, receipt},
    supervisor::pulse::{Pulse, SIGN},
};

/// Datagrams a call.
pub(super) const BATCH: usize = 256;
/// A socket that has given this much in a round waits for the next one, so that the others and
/// the driver get their turn: about a millisecond of reading.
const ROUND_DATAGRAMS: usize = 1024;
/// The same for large datagrams, in bytes.
const ROUND_BYTES: usize = 1 << 20;
/// A read that fails so often in a row is given up for this round. Each failure takes one pending
/// error off the socket, and more than one or two never pend.
const TRIES: usize = 16;
/// How long a socket is not waited for after it failed to the last try, or woke us with neither
/// data nor an error that a read could take away. Other wake-ups still read it.
const REST: Duration = Duration::from_millis(100);

/// How long a socket that has just given a few datagrams is left alone, so that those which follow
/// come together: at 10,000 a second each wake-up then brings ten, and a datagram costs a third of
/// the CPU. The smallest receive buffer (256 traps) holds what comes meanwhile at 200,000 a second.
const LINGER_MS: libc::c_int = 1;
/// After more than this in a round there is no time to linger.
const FEW: usize = 64;

/// All that the thread owns.
pub(super) struct Reader {
    sockets: Vec<Listening>,
    call: Arc<Call>,
    stats: Arc<EarStats>,
    batches: UnboundedSender<Batch>,
    max_waiting: usize,
    first_door: u16,
    /// What each source has sent; nothing if there is no limit.
    sources: Option<limits::Limits>,
    /// The round so far. What is handed in is an exact copy: what waits is then proportional to
    /// what came, and copying costs a hundredth of the reading.
    bytes: Vec<u8>,
    datagrams: Vec<DatagramMeta>,
    /// How many bytes may still be taken in this round.
    room: usize,
    /// Lost since the last batch.
    lost: u64,
    /// Dropped since the last batch, as their source had sent too many.
    limited: u64,
}

struct Listening {
    fd: OwnedFd,
    floor: Time,
    drops: Drops,
    rests_until: Option<Time>,
    /// The last poll said that something is wrong with it.
    alarmed: bool,
}

impl Reader {
    pub(super) fn new(
        sockets: Vec<EarSocket>,
        call: Arc<Call>,
        stats: Arc<EarStats>,
        batches: UnboundedSender<Batch>,
        limits: Limits,
    ) -> Reader {
        let listening = |socket: EarSocket| {
            let (fd, drops) = socket.into_parts();
            Listening { fd, floor: Time::ZERO, drops, rests_until: None, alarmed: false }
        };
        Reader {
            sockets: sockets.into_iter().map(listening).collect(),
            call,
            stats,
            batches,
            max_waiting: limits.max_waiting,
            first_door: limits.first_door,
            sources: limits.sources.map(|sources| limits::Limits::new(&sources, seed())),
            bytes: Vec::new(),
            datagrams: Vec::new(),
            room: 0,
            lost: 0,
            limited: 0,
        }
    }

    /// Reads until it is stopped, or until nobody takes the batches.
    pub(super) fn run(mut self, part: Part) {
        let pulse = Pulse::of_thread(part);
        let mut slots = Slots::new(BATCH);
        let mut stop_at = None;
        let mut asked = false;
        // The first round needs no wake-up: the sockets are older than this thread.
        let mut empty = false;
        let mut gave = 0;
        loop {
            pulse.beat();
            if empty {
                if (1..=FEW).contains(&gave) && stop_at.is_none() {
                    self.linger();
                }
                self.sleep();
            }
            // In this order: what rings after this is answered by the next round, and what rang
            // before it did so before any moment that this round takes.
            asked |= self.call.was_rung();
            if stop_at.is_none() && self.call.stop.load(Ordering::Acquire) {
                stop_at = Some(Clock::now());
            }
            let began = Clock::now();
            empty = self.round(&mut slots);
            gave = self.datagrams.len();

            let heard = self.sockets.iter().map(|socket| socket.floor).min().unwrap_or(began);
            let done = stop_at.is_some_and(|at| heard >= at);
            if !self.hand_in(heard, done || (asked && empty)) || done {
                return;
            }
            asked &= !empty;
        }
    }

    /// Waits for a moment, or until the bell rings.
    fn linger(&self) {
        let mut bell =
            libc::pollfd { fd: self.call.bell.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // An interruption only makes the moment shorter.
        // SAFETY: the pointer is to one pollfd that lives until the call returns.
        unsafe { libc::poll(&raw mut bell, 1, LINGER_MS) };
    }

    /// Waits until a socket has something, the bell rings, or it is time for a sign of life.
    fn sleep(&mut self) {
        let now = Clock::now();
        let mut timeout = SIGN.as_millis() as libc::c_int;
        let mut polled = Vec::with_capacity(self.sockets.len() + 1);
        let entry = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        polled.push(entry(self.call.bell.as_raw_fd()));
        for socket in &mut self.sockets {
            socket.rests_until = socket.rests_until.filter(|until| *until > now);
            // The kernel passes over negative descriptors.
            let resting = socket.rests_until.is_some();
            polled.push(entry(if resting { -1 } else { socket.fd.as_raw_fd() }));
            if resting {
                timeout = REST.as_millis() as libc::c_int;
            }
        }
        // An interruption or a lack of memory only leads to a round that finds nothing.
        // SAFETY: the pointer and the length are those of `polled`.
        let ready =
            unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, timeout) };
        for (socket, polled) in self.sockets.iter_mut().zip(&polled[1..]) {
            let wrong = libc::POLLERR | libc::POLLHUP | libc::POLLNVAL;
            socket.alarmed = ready > 0 && polled.revents & wrong != 0;
        }
    }

    /// Reads every socket once, and says whether all of them were found empty.
    fn round(&mut self, slots: &mut Slots) -> bool {
        self.room = self.max_waiting.saturating_sub(self.stats.waiting.load(Ordering::Relaxed));
        let mut empty = true;
        let mut gave = 0;
        for index in 0..self.sockets.len() {
            let before = self.datagrams.len();
            empty &= self.read(index, slots);
            gave += usize::from(self.datagrams.len() > before);
            self.count_drops(index);
        }
        if gave > 1 {
            // Stable, so that datagrams of one socket keep their order.
            self.datagrams.sort_by_key(|datagram| datagram.received);
        }
        empty
    }

    /// Reads one socket, and says whether it was found empty.
    fn read(&mut self, index: usize, slots: &mut Slots) -> bool {
        let bytes = self.bytes.len() + ROUND_BYTES;
        let mut taken = 0;
        let mut failures = 0;
        loop {
            let before = Clock::now();
            let socket = &mut self.sockets[index];
            let count = match slots.receive(socket.fd.as_fd()) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    let empty = error.kind() == io::ErrorKind::WouldBlock;
                    if !empty {
                        add(&self.stats.sockets[index].errors, 1);
                        failures += 1;
                        if failures < TRIES {
                            continue;
                        }
                    }
                    if !empty || (socket.alarmed && failures == 0 && taken == 0) {
                        socket.rests_until = Some(before + REST);
                    }
                    // A socket that can't be read holds nothing that ever could be handed in:
                    // waiting for it would keep every deadline from being judged.
                    socket.floor = socket.floor.max(before);
                    return true;
                }
            };
            let now = Clock::both();
            for message in slots.messages() {
                self.take(index, &message, now);
            }
            taken += count;
            // Counted by what was read, not by what was kept: a full queue must not keep us here.
            if taken >= ROUND_DATAGRAMS || self.bytes.len() >= bytes {
                return false;
            }
        }
    }

    /// Packs one datagram behind the others of this round, if there is room for it.
    fn take(&mut self, index: usize, message: &Message<'_>, now: Reading) {
        let socket = &mut self.sockets[index];
        let stats = &self.stats.sockets[index];
        let received = message.stamp.map_or(now.time, |stamp| receipt(stamp, now, socket.floor));
        socket.floor = received.max(socket.floor);
        add(&stats.datagrams, 1);
        if message.truncated {
            add(&stats.truncated, 1);
        }
        // The sockets that ears have give nothing but IP.
        let Some(source) = message.source else { return };
        if let Some(sources) = &mut self.sources
            && !sources.allows(source.ip(), received)
        {
            add(&self.stats.limited, 1);
            self.limited += 1;
            return;
        }

        let len = message.head.len() + message.tail.len();
        let cost = len + size_of::<DatagramMeta>();
        if cost > self.room {
            add(&self.stats.queue_full, 1);
            self.lost += 1;
            return;
        }
        self.room -= cost;
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(message.head);
        self.bytes.extend_from_slice(message.tail);
        self.datagrams.push(DatagramMeta {
            source,
            local: message.local,
            interface: message.interface,
            received,
            start,
            len: len as u32,
            socket: self.first_door.saturating_add(index as u16),
            truncated: message.truncated,
        });
    }

    /// Hands in the round, and an empty one if somebody waits for it; says whether anybody takes
    /// batches any more.
    fn hand_in(&mut self, heard: Time, even_if_empty: bool) -> bool {
        if self.datagrams.is_empty() && !even_if_empty {
            return !self.batches.is_closed();
        }
        let cost = size_of::<Batch>() + self.bytes.len() + size_of_val(self.datagrams.as_slice());
        let batch = Batch {
            bytes: self.bytes.clone(),
            datagrams: self.datagrams.clone(),
            heard,
            lost: std::mem::take(&mut self.lost),
            limited: std::mem::take(&mut self.limited),
            _waiting: Waiting::new(&self.stats, cost),
        };
        self.bytes.clear();
        self.datagrams.clear();
        add(&self.stats.batches, 1);
        self.batches.send(batch).is_ok()
    }

    /// Sees how many datagrams the kernel has dropped at a socket since it last looked.
    fn count_drops(&mut self, index: usize) {
        let socket = &mut self.sockets[index];
        let Dropped { lost, broken } = socket.drops.more(socket.fd.as_fd());
        self.lost += lost;
        add(&self.stats.sockets[index].kernel_drops, lost);
        add(&self.stats.sockets[index].broken, broken);
    }
}

/// Chance that nobody outside can know.
fn seed() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

fn add(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}
