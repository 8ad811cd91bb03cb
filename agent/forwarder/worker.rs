//! The forwarder's thread: traps into groups, groups onto sockets.
//!
//! Each target is a lane of its own, with its encoder, its sockets and a group of datagrams that wait
//! for one system call. A group leaves when it is full, when its first datagram has waited for
//! [`LINGER`], and when there is nothing else to do, so that a single trap does not wait at all.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
        mpsc::{Receiver, RecvTimeoutError, TryRecvError},
    },
    thread,
    time::Duration,
};

use evenkeel_core::{
    input::Taken, mib::RootOid, supervision::Part, time::Time, trap::Form, usm::LocalEngine,
};

use super::{
    Order, Origin, Slot, Slots,
    encode::{Composer, Encoder},
    outlet::{End, Outlet, Via},
    packet,
    stats::{Fallback, Unfit},
};
use crate::{
    clock::{BootClock, Clock},
    gate::Gate,
    supervisor::pulse::{Pulse, SIGN},
};

/// How many datagrams leave with one system call: beyond some dozen, more save nothing.
const GROUP: usize = 256;
/// How long a datagram waits for others at most.
const LINGER: Duration = Duration::from_millis(1);
/// How long one target may hold up the others when its socket is full, once: what fits into a
/// buffer has left within this at 3 Gbit/s, or the network stands still.
const PATIENCE: Duration = Duration::from_millis(10);
/// How often it is looked whether a licence has come: a fiftieth of a heartbeat.
const LICENCE: Duration = Duration::from_millis(10);
/// A target that there is no way to is not tried more often.
const REOPEN: Duration = Duration::from_millis(250);

/// What the thread owns.
pub(super) struct Worker {
    lanes: Vec<Option<Lane>>,
    composer: Composer,
    local: LocalEngine,
    waiting: Arc<AtomicUsize>,
    gate: Gate,
}

impl Worker {
    pub(super) fn new(
        slots: Slots,
        root: &RootOid,
        local: LocalEngine,
        waiting: Arc<AtomicUsize>,
        gate: Gate,
    ) -> Worker {
        let composer = Composer::new(root, &local);
        let mut worker = Worker { lanes: Vec::new(), composer, local, waiting, gate };
        worker.set(slots);
        worker
    }

    /// Does what it is told until it is told to stop.
    pub(super) fn run(mut self, orders: &Receiver<Order>) {
        let pulse = Pulse::of_thread(Part::Forwarder);
        loop {
            pulse.beat();
            let order = orders.try_recv().or_else(|error| match error {
                TryRecvError::Empty => {
                    self.flush(Clock::now());
                    orders.recv_timeout(SIGN)
                }
                TryRecvError::Disconnected => Ok(Order::Stop),
            });
            match order {
                Ok(Order::Batch(batch, size)) => {
                    if self.may_speak(&pulse) {
                        self.forward(&batch, Clock::now());
                    } else {
                        self.drop_batch(&batch);
                    }
                    drop(batch);
                    self.waiting.fetch_sub(size, Relaxed);
                }
                Ok(Order::Targets(slots)) => {
                    self.flush(Clock::now());
                    self.set(slots);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Ok(Order::Stop) | Err(RecvTimeoutError::Disconnected) => {
                    return self.flush(Clock::now());
                }
            }
        }
    }

    /// Waits while this agent is primary without a licence (PAIR-17): what comes meanwhile waits in the
    /// bounded queue. False once it is primary no longer; its mate forwards what it hears itself.
    fn may_speak(&self, pulse: &Pulse) -> bool {
        loop {
            // To wait for a licence is no stall (PAIR-9).
            pulse.beat();
            if self.gate.may_speak(BootClock::now()) {
                return true;
            }
            if !self.gate.is_open() {
                return false;
            }
            thread::sleep(LICENCE);
        }
    }

    fn drop_batch(&self, batch: &[Taken]) {
        for place in batch.iter().flat_map(|taken| &taken.targets) {
            if let Some(Some(lane)) = self.lanes.get(usize::from(*place)) {
                lane.slot.counters.dropped_not_primary.fetch_add(1, Relaxed);
            }
        }
    }

    /// Takes these targets. One that stays as it was keeps its sockets and its encoder.
    fn set(&mut self, slots: Slots) {
        let mut before: Vec<Lane> = self.lanes.drain(..).flatten().collect();
        let mut lane =
            |slot: Slot| match before.iter().position(|lane| lane.slot.target == slot.target) {
                Some(same) => before.swap_remove(same),
                None => Lane::new(slot, &self.local),
            };
        self.lanes = slots.into_iter().map(|slot| slot.map(&mut lane)).collect();
    }

    /// Puts these traps into the groups of their targets, and sends what is full or has waited.
    pub(super) fn forward(&mut self, batch: &[Taken], now: Time) {
        for taken in batch {
            // By whether the community is told.
            let mut varbinds: [Option<Vec<u8>>; 2] = [None, None];
            for &place in &taken.targets {
                let Some(Some(lane)) = self.lanes.get_mut(usize::from(place)) else { continue };
                if !lane.add_original(taken, now) {
                    let told = lane.slot.target.with_community;
                    let varbinds = varbinds[usize::from(told)]
                        .get_or_insert_with(|| self.composer.varbinds(taken, told));
                    lane.add_encoded(taken, varbinds, now);
                }
                lane.since.get_or_insert(now);
                if lane.ends.len() >= GROUP {
                    lane.flush(now);
                }
            }
        }
        for lane in self.lanes.iter_mut().flatten() {
            if lane.since.is_some_and(|since| now.since(since) >= LINGER) {
                lane.flush(now);
            }
        }
    }

    /// Sends all that waits.
    pub(super) fn flush(&mut self, now: Time) {
        self.lanes.iter_mut().flatten().for_each(|lane| lane.flush(now));
    }
}

/// One target.
struct Lane {
    slot: Slot,
    encoder: Encoder,
    udp: Way,
    raw: Way,
    /// The MTU of the way to the target, read once for each group.
    mtu: Option<usize>,
    /// The next identification of a datagram in fragments.
    identification: u32,
    /// The datagrams that wait, one after the other, and where each ends.
    bytes: Vec<u8>,
    ends: Vec<End>,
    /// When the first of them came.
    since: Option<Time>,
    /// Its last datagram left, so its socket is waited for when it is full.
    patient: bool,
}

/// A socket that is opened when it is first needed, and again after an error.
#[derive(Default)]
struct Way {
    outlet: Option<Outlet>,
    /// When it is opened again at the earliest, and the error (as the system numbers it) until then.
    closed: Option<(Time, i32)>,
}

impl Lane {
    fn new(slot: Slot, local: &LocalEngine) -> Lane {
        // Its keys are chosen by the operating system's randomness.
        let seed = RandomState::new().build_hasher().finish();
        let destination = slot.target.destination.clone();
        Lane {
            slot,
            encoder: Encoder::new(destination, local.clone(), seed),
            udp: Way::default(),
            raw: Way::default(),
            mtu: None,
            identification: seed as u32,
            bytes: Vec::new(),
            ends: Vec::new(),
            since: None,
            patient: true,
        }
    }

    /// Adds the datagram as it came if that is what the target takes and it can be done; says
    /// whether the trap is dealt with.
    fn add_original(&mut self, taken: &Taken, now: Time) -> bool {
        if self.slot.target.origin != Origin::Source {
            return false;
        }
        let to = self.slot.target.address;
        let fallback = match &taken.original {
            None => Fallback::NoOriginal,
            Some(_) if taken.form == Form::V3Inform => Fallback::Inform,
            Some(_) if taken.source.is_ipv4() != to.is_ipv4() => Fallback::OtherFamily,
            Some(_) if stays_here(taken.source.ip(), to.ip()) => Fallback::LocalSource,
            Some(original) => {
                self.add_packet(taken.source, original, now);
                return true;
            }
        };
        self.slot.counters.without_source(fallback);
        false
    }

    fn add_packet(&mut self, source: SocketAddr, payload: &[u8], now: Time) {
        let to = self.slot.target.address;
        let mtu = match self.mtu {
            Some(mtu) => mtu,
            None => match self.raw.outlet(Via::Raw, to, now).and_then(Outlet::mtu) {
                Ok(mtu) => *self.mtu.insert(mtu),
                Err(error) => return self.slot.counters.failed(1, error),
            },
        };
        self.identification = self.identification.wrapping_add(1);
        let ends = &mut self.ends;
        let each = |end, last| ends.push(End { end, via: Via::Raw, last });
        if packet::build(&mut self.bytes, source, to, payload, mtu, self.identification, each)
            .is_err()
        {
            self.slot.counters.unsendable(Unfit::TooLong);
        }
    }

    fn add_encoded(&mut self, taken: &Taken, varbinds: &[u8], now: Time) {
        let start = self.bytes.len();
        match self.encoder.encode(&mut self.bytes, taken, varbinds, now) {
            Ok(()) => self.ends.push(End { end: self.bytes.len(), via: Via::Udp, last: true }),
            Err(why) => {
                self.bytes.truncate(start);
                self.slot.counters.unsendable(why);
            }
        }
    }

    /// Sends the group, and counts what becomes of each trap in it.
    fn flush(&mut self, now: Time) {
        self.since = None;
        let (mut next, mut start) = (0, 0);
        // What fails is tried once more, as an error may be of what left before it.
        let mut again = true;
        while let Some(&End { via, .. }) = self.ends.get(next) {
            let run = self.ends[next..].iter().take(GROUP).take_while(|end| end.via == via).count();
            let run = &self.ends[next..next + run];
            let to = self.slot.target.address;
            let way = match via {
                Via::Udp => &mut self.udp,
                Via::Raw => &mut self.raw,
            };
            let sent = way.outlet(via, to, now).and_then(|out| out.send(&self.bytes, start, run));
            let error = match sent {
                Ok(sent) => {
                    self.slot.counters.forwarded.fetch_add(traps(&run[..sent]), Relaxed);
                    (next, start) = (next + sent, run[sent - 1].end);
                    (again, self.patient) = (true, true);
                    continue;
                }
                Err(error) => error,
            };
            let lost = match error.raw_os_error() {
                Some(libc::EINTR) => continue,
                Some(libc::ECONNREFUSED) => {
                    self.slot.counters.refused.fetch_add(1, Relaxed);
                    if again { 0 } else { 1 }
                }
                Some(libc::EAGAIN | libc::ENOBUFS) => {
                    let patient = std::mem::take(&mut self.patient);
                    let room =
                        patient && way.outlet.as_ref().is_some_and(|outlet| outlet.wait(PATIENCE));
                    if room { 0 } else { run.len() }
                }
                // Longer than any datagram, or the way has become narrower just now; or a firewall
                // of this host. Another socket would change nothing.
                Some(libc::EMSGSIZE | libc::EPERM | libc::EACCES) => 1,
                // The route or our own address has changed: a new socket finds the new ones.
                _ if again && way.outlet.is_some() => {
                    *way = Way::default();
                    0
                }
                _ => {
                    way.close(&error, now);
                    run.len()
                }
            };
            again = lost > 0;
            if lost > 0 {
                // A trap is lost with each of its fragments.
                let more = self.ends[next..].iter().skip(lost - 1).take_while(|end| !end.last);
                let lost = &self.ends[next..(next + lost + more.count()).min(self.ends.len())];
                self.slot.counters.failed(traps(lost), error);
                (next, start) = (next + lost.len(), lost[lost.len() - 1].end);
            }
        }
        self.bytes.clear();
        self.ends.clear();
        self.mtu = None;
    }
}

impl Way {
    fn outlet(&mut self, via: Via, to: SocketAddr, now: Time) -> io::Result<&Outlet> {
        if self.outlet.is_none() {
            if let Some((_, error)) = self.closed.filter(|(until, _)| now < *until) {
                return Err(io::Error::from_raw_os_error(error));
            }
            let opened = Outlet::open(via, to).inspect_err(|error| self.close(error, now));
            self.outlet = Some(opened?);
        }
        Ok(self.outlet.as_ref().expect("it is open"))
    }

    fn close(&mut self, error: &io::Error, now: Time) {
        self.outlet = None;
        if self.closed.is_none_or(|(until, _)| until <= now) {
            self.closed = Some((now + REOPEN, error.raw_os_error().unwrap_or(libc::EIO)));
        }
    }
}

/// How many traps end among these datagrams.
fn traps(ends: &[End]) -> u64 {
    ends.iter().filter(|end| end.last).count() as u64
}

/// Whether a source address means nothing on the way to the target: routers drop what comes from
/// loopback (RFC 1122, 3.2.1.3; RFC 4291, 2.5.3) or from a link-local address (RFC 4291, 2.5.6).
fn stays_here(source: IpAddr, to: IpAddr) -> bool {
    match (source, to) {
        (IpAddr::V4(source), IpAddr::V4(to)) => {
            source.is_unspecified()
                || source.is_loopback() && !to.is_loopback()
                || source.is_link_local() && !to.is_link_local()
        }
        (IpAddr::V6(source), IpAddr::V6(to)) => {
            source.is_unspecified()
                || source.is_loopback() && !to.is_loopback()
                || source.is_unicast_link_local() && !to.is_unicast_link_local()
        }
        _ => true,
    }
}
