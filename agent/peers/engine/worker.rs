//! The thread of the engine.
//!
//! It goes round and round: what others want, what came, what is to be judged, what was found, what
//! is to be sent; then it sleeps. In a round, everything received before a moment is handed in
//! before anything is judged up to that moment, and whether this host is to blame is looked at in
//! between (PEER-12).
//!
//! While answers come it doesn't wake for each, but reads every few milliseconds: their receipt is
//! stamped by the kernel. Between the chunks of a batch it makes room for the answers that come at
//! once. In steady state nothing here allocates.

use std::{
    collections::VecDeque,
    os::fd::AsRawFd,
    ptr,
    sync::{Arc, atomic::Ordering, mpsc},
    time::Duration,
};

use evenkeel_core::{
    finding::Finding,
    peers::{
        Answer, Discard, Monitor, PeerView, Request, StandingChange,
        settings::{Heartbeat, Settings},
    },
    supervision::Part,
    time::Time,
};
use tokio::sync::{mpsc::UnboundedSender, oneshot};

use super::{
    Command, Look,
    blame::Blame,
    mobility::Mobility,
    receive::Receiver,
    send::{CHUNK, Sender},
    sockets::{EchoSocket, Key, TRUESIZE, room_needed},
    stats::{EngineStats, Errors, Lateness},
};
use crate::{
    clock::Clock,
    ear::Call,
    supervisor::pulse::{Pulse, SIGN},
};

/// How long answers may lie in the kernel while more are coming. Reading every few milliseconds
/// instead of waking for each halves the CPU at 10,000 a second.
const LINGER: Duration = Duration::from_millis(3);
/// How many requests leave at most until answers are read, as those of near peers come at once.
const UNREAD: usize = 64;
/// Changes of the roster that are taken in between two looks at the clock: less than a millisecond
/// of work.
const SLICE: usize = 1_000;
/// Peers that are shown in one go: about half a millisecond of copying.
const VIEWS: usize = 8_192;
/// This host is looked at so often even if nothing is to be judged, so that what happened long ago
/// is not held against requests that were sent after it.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// What the mate is to know of the peers is gathered for so long,
const TELL_EVERY: Duration = Duration::from_millis(100);
/// and so many are told at a time: more than the batches as shipped can change.
const STANDINGS: usize = 2_048;

/// What a worker begins with.
pub(super) struct Begin {
    pub settings: Settings,
    pub seed: u64,
    pub receive_buffer: usize,
    pub mass_silence: bool,
    pub restart_counter: u32,
    pub sockets: Vec<EchoSocket>,
    pub call: Arc<Call>,
    pub inbox: mpsc::Receiver<Command>,
    pub findings: UnboundedSender<Vec<Finding>>,
    pub standings: Option<UnboundedSender<Vec<StandingChange>>>,
}

/// All that the thread owns.
pub(super) struct Worker {
    monitor: Monitor,
    settings: Settings,
    sockets: Vec<EchoSocket>,
    /// What waits to be sent by each socket: a chunk at most.
    waiting: Vec<Vec<Request>>,
    /// By which way the requests of each group leave.
    outlets: Vec<Outlet>,
    sender: Sender,
    receiver: Receiver,
    mobility: Mobility,
    /// Requests that wait to leave as Proxy Mobile IPv6 Heartbeats.
    heartbeats: Vec<Request>,
    blame: Blame,
    looked: Time,
    /// A batch, or one of each list.
    requests: Vec<Request>,
    /// How many requests are sent until answers are read: what they bring must find room.
    relieve_after: usize,
    /// How long a receive buffer may be left alone while answers come.
    linger: Duration,
    call: Arc<Call>,
    /// The bell, and the sockets after it.
    polled: Vec<libc::pollfd>,
    inbox: mpsc::Receiver<Command>,
    /// What is not done yet.
    commands: VecDeque<Command>,
    findings: UnboundedSender<Vec<Finding>>,
    standings: Option<UnboundedSender<Vec<StandingChange>>>,
    /// When standings were told last.
    told: Time,
    errors: Errors,
    lateness: Lateness,
    wake_ups: u64,
    /// What was found out at the start.
    problems: Vec<String>,
}

/// By which way the requests of a group leave.
#[derive(Clone, Copy, Debug)]
enum Outlet {
    /// As echoes, by these sockets; there is none for a family that this host does not have.
    Echo { v4: Option<usize>, v6: Option<usize> },
    /// As Proxy Mobile IPv6 Heartbeats (PEER-15).
    ProxyMobile,
}

/// How one request leaves.
enum WayOut {
    /// As an echo, by this socket, if there is one.
    Echo(Option<usize>),
    /// As a Proxy Mobile IPv6 Heartbeat.
    ProxyMobile,
}

impl Worker {
    pub(super) fn new(begin: Begin) -> Worker {
        let Begin {
            settings,
            seed,
            receive_buffer,
            mass_silence,
            restart_counter,
            sockets,
            call,
            inbox,
            findings,
            standings,
        } = begin;
        let mut problems = Vec::new();
        let now = Clock::now();
        let mut worker = Worker {
            monitor: Monitor::new(&settings, seed, mass_silence, now),
            mobility: Mobility::new(&settings, restart_counter, receive_buffer),
            heartbeats: Vec::new(),
            settings,
            sockets,
            waiting: Vec::new(),
            outlets: Vec::new(),
            sender: Sender::new(),
            receiver: Receiver::new(),
            blame: Blame::new(&mut problems),
            looked: now,
            requests: Vec::new(),
            relieve_after: 0,
            linger: LINGER,
            call,
            polled: Vec::new(),
            inbox,
            commands: VecDeque::new(),
            findings,
            standings,
            told: now,
            errors: Errors::default(),
            lateness: Lateness::default(),
            wake_ups: 0,
            problems,
        };
        if let Some(standings) = &worker.standings {
            worker.monitor.note_standings();
            // What a monitor before this one had counted is over.
            let _ = standings.send(Vec::new());
        }
        worker.set_out();
        worker
    }

    /// Works until it is stopped.
    pub(super) fn run(mut self) {
        let pulse = Pulse::of_thread(Part::PeerPoller);
        loop {
            pulse.beat();
            // In this order: what rings after this wakes the next sleep.
            self.call.was_rung();
            if self.call.stop.load(Ordering::Acquire) {
                return;
            }
            self.commands.extend(self.inbox.try_iter());
            self.obey();

            if self.mobility.is_stale() && self.commands.is_empty() {
                self.mobility.refresh(self.monitor.peers());
            }
            if self.mobility.keep_sockets(Clock::now()) {
                self.set_polled();
            }
            let came = self.drain();
            self.judge();
            // Before anything is sent: what was found is then not taken for a batch that is late.
            self.tell();
            self.tell_mate();
            let sent = self.send();

            if self.commands.is_empty() {
                self.sleep(came + sent > 0);
            }
        }
    }

    /// Does what others want, but no more than holds up no batch.
    fn obey(&mut self) {
        let now = Clock::now();
        match self.commands.pop_front() {
            Some(Command::Apply(mut changes)) => {
                for change in changes.by_ref().take(SLICE) {
                    self.monitor.apply(&change, now);
                    self.mobility.apply(&change);
                }
                if changes.len() > 0 {
                    self.commands.push_front(Command::Apply(changes));
                }
            }
            Some(Command::Reconfigure { settings, opened }) => {
                self.monitor.reconfigure(&settings, now);
                self.mobility.reconfigure(&settings);
                let keys = Key::all(&settings);
                self.sockets.retain(|socket| keys.contains(&socket.key));
                self.sockets.extend(opened);
                self.settings = settings;
                self.set_out();
            }
            Some(Command::Look { peers: Some(mut peers), to }) => {
                // Changes of the roster wait until this is done: what was counted stays in place.
                let before = peers.len();
                peers.extend(self.monitor.peers().skip(before).take(VIEWS));
                if peers.len() == before + VIEWS {
                    self.commands.push_front(Command::Look { peers: Some(peers), to });
                } else {
                    self.show(peers, to);
                }
            }
            Some(Command::Look { peers: None, to }) => self.show(Vec::new(), to),
            None => {}
        }
    }

    fn show(&self, peers: Vec<PeerView>, to: oneshot::Sender<Look>) {
        let look = Look { stats: self.monitor.stats(), peers, engine: self.stats() };
        // Whoever asked may have given up.
        let _ = to.send(look);
    }

    /// Finds each group's way out, and what the receive buffers allow.
    fn set_out(&mut self) {
        let socket = |key: Key| self.sockets.iter().position(|socket| socket.key == key);
        self.outlets = self
            .settings
            .groups
            .iter()
            .map(|group| match group.kind {
                Heartbeat::Echo => Outlet::Echo {
                    v4: socket(Key::of(group, true)),
                    v6: socket(Key::of(group, false)),
                },
                Heartbeat::ProxyMobile => Outlet::ProxyMobile,
            })
            .collect();
        self.set_polled();
        self.waiting.resize_with(self.sockets.len(), || Vec::with_capacity(CHUNK));

        let room = self.sockets.iter().map(EchoSocket::room).min().unwrap_or(usize::MAX);
        // Answers of an earlier chunk may come as late as those of this one, and others' messages
        // take room as well.
        self.relieve_after = (room / 4).clamp(1, UNREAD);
        self.linger = if room < room_needed(&self.settings) { Duration::ZERO } else { LINGER };
    }

    /// Finds what to wait for.
    fn set_polled(&mut self) {
        let bell = [self.call.bell.as_raw_fd()].into_iter();
        let echoes = self.sockets.iter().map(EchoSocket::raw_fd);
        let entry = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        self.polled = bell.chain(echoes).chain(self.mobility.descriptors()).map(entry).collect();
    }

    /// Hands in what came. Says how much.
    fn drain(&mut self) -> usize {
        let (receiver, monitor) = (&mut self.receiver, &mut self.monitor);
        let drain = |socket| receiver.drain(socket, |said| hand_in(monitor, said));
        let echoes: usize = self.sockets.iter_mut().map(drain).sum();
        echoes + self.mobility.receive(|heard| heard.hand_to(monitor))
    }

    /// Judges up to the moment up to which everything was handed in.
    fn judge(&mut self) {
        let now = Clock::now();
        let floors = self.sockets.iter().map(|socket| socket.floor).chain(self.mobility.floor());
        let heard = floors.min().unwrap_or(now);
        if self.monitor.must_judge(heard) || now.since(self.looked) >= LOOK_EVERY {
            self.looked = now;
            let monitor = &mut self.monitor;
            // What was lost was lost before it was seen to be lost.
            let mut tell = |disturbance| monitor.disturbed(disturbance, Clock::now());
            let wrong =
                self.blame.look(&mut self.sockets, &mut tell) + self.mobility.look(&mut tell);
            if wrong > 0 {
                self.monitor.discarded(Discard::BadChecksum, wrong);
            }
        }
        self.monitor.judge(heard);
    }

    /// Sends what is due. Says how much.
    fn send(&mut self) -> usize {
        let due = self.monitor.heartbeat_due();
        let now = Clock::now();
        let mut requests = std::mem::take(&mut self.requests);
        requests.clear();
        self.monitor.take_requests(now, &mut requests);
        // Heartbeats come first. A retransmission is due by no clock but its list's.
        if let Some(due) = due
            && requests.first().is_some_and(|first| !first.retransmission)
        {
            self.lateness.record(now.since(due));
        }

        let mut patience = true;
        let mut unread = 0;
        for request in &requests {
            let socket = match self.way_out(request) {
                WayOut::Echo(Some(socket)) => socket,
                WayOut::Echo(None) => {
                    self.errors.count(libc::EAFNOSUPPORT);
                    self.monitor.send_failed(request, now);
                    continue;
                }
                WayOut::ProxyMobile => {
                    self.heartbeats.push(*request);
                    continue;
                }
            };
            self.waiting[socket].push(*request);
            if self.waiting[socket].len() >= CHUNK.min(self.relieve_after) {
                unread += self.flush(socket, &mut patience);
            }
            if unread >= self.relieve_after {
                unread = 0;
                self.relieve();
            }
        }
        for socket in 0..self.sockets.len() {
            self.flush(socket, &mut patience);
        }
        let (monitor, errors) = (&mut self.monitor, &mut self.errors);
        self.mobility.send(&self.heartbeats, |request, errno| {
            errors.count(errno);
            monitor.send_failed(request, now);
        });
        self.heartbeats.clear();
        let count = requests.len();
        if count > 0 {
            self.monitor.left(now, Clock::now());
        }
        self.requests = requests;
        count
    }

    /// How a request leaves.
    fn way_out(&self, request: &Request) -> WayOut {
        match self.outlets.get(usize::from(request.group)) {
            Some(Outlet::Echo { v4, .. }) if request.address.is_ipv4() => WayOut::Echo(*v4),
            Some(Outlet::Echo { v6, .. }) => WayOut::Echo(*v6),
            Some(Outlet::ProxyMobile) => WayOut::ProxyMobile,
            None => WayOut::Echo(None),
        }
    }

    /// Sends what waits for a socket. Says how much.
    fn flush(&mut self, socket: usize, patience: &mut bool) -> usize {
        let waiting = &mut self.waiting[socket];
        let count = waiting.len();
        if count > 0 {
            let now = Clock::now();
            let (monitor, errors) = (&mut self.monitor, &mut self.errors);
            let failed = |request: &Request, errno| {
                errors.count(errno);
                monitor.send_failed(request, now);
            };
            self.sender.send(&mut self.sockets[socket], waiting, now, patience, failed);
            waiting.clear();
        }
        count
    }

    /// Makes room in the receive buffers.
    fn relieve(&mut self) {
        for socket in &mut self.sockets {
            self.receiver.relieve(socket, |said| hand_in(&mut self.monitor, said));
        }
    }

    /// Hands on what was found.
    fn tell(&mut self) {
        let now = Clock::now();
        let Some(first) = self.monitor.poll_finding(now) else { return };
        let mut findings = vec![first];
        findings.extend(std::iter::from_fn(|| self.monitor.poll_finding(now)));
        // Nobody listens any more when the agent ends: then this thread is about to be stopped.
        let _ = self.findings.send(findings);
    }

    /// Hands on what the mate is to know.
    fn tell_mate(&mut self) {
        let Some(standings) = &self.standings else { return };
        let now = Clock::now();
        if now.since(self.told) < TELL_EVERY {
            return;
        }
        let changed = self.monitor.take_standings(STANDINGS, now);
        if !changed.is_empty() {
            self.told = now;
            // As with findings.
            let _ = standings.send(changed);
        }
    }

    /// Sleeps until something is due, a sign of life for one, or others want something. If something `came` or was sent,
    /// answers are likely to come: they are left to gather for a moment. Else the first to come
    /// ends the sleep.
    fn sleep(&mut self, came: bool) {
        let now = Clock::now();
        let due = self.monitor.next_deadline().map(|deadline| deadline.since(now));
        let mut left = due.map_or(SIGN, |due| due.min(SIGN));
        let gather = came && self.linger > Duration::ZERO;
        if gather {
            left = left.min(self.linger);
        }
        self.wake_ups += 1;
        let polled = if gather { &mut self.polled[..1] } else { &mut self.polled[..] };
        wait(polled, left);
    }

    fn stats(&self) -> EngineStats {
        let mut problems = self.problems.clone();
        problems.extend(self.sockets.iter().filter_map(|socket| self.too_small(socket)));
        problems.extend(self.mobility.problems());
        EngineStats {
            sockets: self.sockets.iter().map(|socket| socket.stats).collect(),
            mobility: self.mobility.stats(),
            send_errors: self.errors.by_name(),
            lateness: self.lateness,
            wake_ups: self.wake_ups,
            problems,
        }
    }

    /// What is to be done about a receive buffer that is too small.
    fn too_small(&self, socket: &EchoSocket) -> Option<String> {
        let needed = room_needed(&self.settings);
        if socket.room() >= needed {
            return None;
        }
        let stats = &socket.stats;
        let (asked, granted) = (stats.buffer_asked, stats.buffer_granted);
        let bytes = (needed * TRUESIZE).div_ceil(2);
        let remedy = match granted < asked {
            true => format!(
                "give the agent CAP_NET_ADMIN, or `sysctl -w net.core.rmem_max={}`",
                bytes.max(asked)
            ),
            false => format!("set the receive buffer of the peers to {bytes} or more"),
        };
        Some(format!(
            "the receive buffer for echo replies by {} has {granted} bytes, room for {} of the \
             {needed} answers that two batches may bring at once: {remedy}; until then it is read \
             after every {} requests",
            if stats.v4 { "IPv4" } else { "IPv6" },
            socket.room(),
            self.relieve_after,
        ))
    }
}

/// Hands in an answer, or why a message is none.
fn hand_in(monitor: &mut Monitor, said: Result<Answer, Discard>) {
    match said {
        // The monitor has counted it if it says no.
        Ok(answer) => drop(monitor.answer(&answer)),
        Err(why) => monitor.discarded(why, 1),
    }
}

/// Waits until one of these has something, or for so long.
fn wait(polled: &mut [libc::pollfd], at_most: Duration) {
    let at_most = libc::timespec {
        tv_sec: libc::time_t::try_from(at_most.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: at_most.subsec_nanos().into(),
    };
    // An interruption, or a lack of memory, only leads to a round that finds nothing.
    // SAFETY: the pointers are to as many pollfds as the length says, and to a timespec; all live until
    // the call returns.
    unsafe {
        libc::ppoll(
            polled.as_mut_ptr(),
            polled.len() as libc::nfds_t,
            &raw const at_most,
            ptr::null(),
        )
    };
}
