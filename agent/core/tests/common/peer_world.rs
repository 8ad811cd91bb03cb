//! A simulated network of peers, and a driver that keeps the contract of the peer monitor on a clock
//! that is held.
//!
//! Whatever a test does, the driver holds every batch, request and finding against what must always
//! be so (PEER-4, PEER-10): see [`PeerWorld::run_until`].

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    num::{NonZeroU8, NonZeroU32},
    time::Duration,
};

use evenkeel_core::{
    alarm::{ClearReason, Kind, Object},
    finding::Finding,
    peers::{
        Answer, Change, Disturbance, Monitor, PeerState, PeerView, Request,
        settings::{Batch, Batches, Group, Settings},
    },
    time::Time,
};

use super::sim::at;

/// How many findings may be told in 100 ms (PEER-10).
const FINDINGS_PER_100_MS: usize = 100;

/// Milliseconds.
pub const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Seconds.
pub const fn s(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// A group with these times.
pub fn group(name: &str, interval: Duration, timeout: Duration, max: u8) -> Group {
    let max_retransmissions = NonZeroU8::new(max).unwrap();
    Group { interval, timeout, max_retransmissions, ..Group::named(name) }
}

/// At most so many requests each so long.
pub fn batch(size: u32, interval: Duration) -> Batch {
    Batch { size: NonZeroU32::new(size).unwrap(), interval }
}

/// Settings with the batches as shipped.
pub fn settings(groups: &[Group]) -> Settings {
    Settings { batches: Batches::DEFAULT, groups: groups.to_vec() }
}

/// The one group that is shipped: every 60 s, 3 s and 3.
pub fn shipped() -> Settings {
    settings(&[Group::named("all")])
}

/// The address of the peer with this number.
pub fn v4(number: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + number))
}

/// The address of the peer with this number.
pub fn v6(number: u32) -> IpAddr {
    IpAddr::V6(Ipv6Addr::from_bits((0xfd00 << 112) + u128::from(number)))
}

/// A number by chance, the same for the same seed and the same question.
pub fn chance(seed: u64, place: u32, what: u32) -> u64 {
    // splitmix64 (Steele, Lea, Flood 2014).
    let mut mixed = seed
        .wrapping_add(
            (u64::from(place) << 32 | u64::from(what)).wrapping_mul(0x9e37_79b9_7f4a_7c15),
        )
        .wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// A peer of the simulated network.
#[derive(Clone, Debug)]
pub struct SimPeer {
    /// Its address.
    pub address: IpAddr,
    /// Its group.
    pub group: u16,
    /// Whether it is to be asked.
    pub enabled: bool,
    /// Whether it answers.
    pub up: bool,
    /// How long its answers take.
    pub round_trip: Duration,
    /// Which interface its answers come by.
    pub interface: u32,
    /// In how many of 65,536 cases a request or its answer is lost on the way.
    pub loss: u16,
    /// How many requests in a row are lost at most while it is up.
    pub longest_run: u32,
    run: u32,
    sequence: Option<u32>,
    unsupported: bool,
}

/// A request that left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// When.
    pub at: Time,
    /// To whom.
    pub place: u32,
    /// By which list.
    pub retransmission: bool,
}

/// A finding that was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// When it was told.
    pub told: Time,
    /// What.
    pub finding: Finding,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Flying {
    received: Time,
    serial: u64,
    place: u32,
    source: IpAddr,
    sequence: u32,
    token: u32,
    interface: u32,
    sent: Time,
}

/// A monitor, its driver and the peers.
pub struct PeerWorld {
    /// The monitor.
    pub monitor: Monitor,
    /// Who is monitored, by place.
    pub peers: Vec<Option<SimPeer>>,
    /// What left, in order.
    pub sent: Vec<Sent>,
    /// The same requests whole, if they are to be kept.
    pub kept: Option<Vec<Request>>,
    /// What was told, in order.
    pub told: Vec<Told>,
    /// The settings in force.
    pub settings: Settings,
    /// Each wake-up is late by up to so many microseconds, by chance.
    pub late_micros: u64,
    /// The driver also wakes up this often, whatever the deadline.
    pub drain: Option<Duration>,
    /// What keeps this host from hearing any answer.
    pub deaf: Option<Disturbance>,
    /// The kernel takes no requests.
    pub send_fails: bool,
    /// The kernel does not take this one, by its place in what left.
    pub fails: Option<usize>,
    /// In how many of 65,536 cases an answer comes twice.
    pub twice: u16,
    seed: u64,
    now: Time,
    serial: u64,
    flying: BinaryHeap<Reverse<Flying>>,
    blamed: Option<Disturbance>,
    last_batch: [Option<(Time, Duration)>; 2],
    raised: BTreeSet<IpAddr>,
    mass_silence: bool,
    admitted: usize,
    most_admitted: usize,
    requests: Vec<Request>,
}

impl PeerWorld {
    /// Nobody yet.
    pub fn new(settings: &Settings) -> PeerWorld {
        PeerWorld::begun(settings, 1, false)
    }

    /// Nobody yet; an alarm of an earlier run may be active.
    pub fn begun(settings: &Settings, seed: u64, mass_silence: bool) -> PeerWorld {
        PeerWorld {
            monitor: Monitor::new(settings, seed ^ 0x7065_6572, mass_silence, at(0)),
            peers: Vec::new(),
            sent: Vec::new(),
            kept: None,
            told: Vec::new(),
            settings: settings.clone(),
            late_micros: 0,
            drain: None,
            deaf: None,
            send_fails: false,
            fails: None,
            twice: 0,
            seed,
            now: at(0),
            serial: 0,
            flying: BinaryHeap::new(),
            blamed: None,
            last_batch: [None; 2],
            raised: BTreeSet::new(),
            mass_silence,
            admitted: 0,
            most_admitted: 0,
            requests: Vec::new(),
        }
    }

    /// With so many peers of the first group, from the first place on.
    pub fn with(settings: &Settings, count: u32) -> PeerWorld {
        let mut world = PeerWorld::new(settings);
        world.add_all(0..count, 0);
        world
    }

    /// The clock.
    pub fn now(&self) -> Time {
        self.now
    }

    /// Admits a peer by each of these numbers: its place, and what its address is made of.
    pub fn add_all(&mut self, numbers: impl IntoIterator<Item = u32>, group: u16) {
        for number in numbers {
            self.add(number, v4(number), group, false);
        }
    }

    /// Admits a peer.
    pub fn add(&mut self, place: u32, address: IpAddr, group: u16, down: bool) {
        let index = place as usize;
        if index >= self.peers.len() {
            self.peers.resize(index + 1, None);
        }
        assert!(self.peers[index].is_none(), "the test uses place {place} twice");
        self.peers[index] = Some(SimPeer {
            address,
            group,
            enabled: true,
            up: true,
            // 1 to 81 ms.
            round_trip: Duration::from_micros(1_000 + chance(self.seed, place, 0) % 80_000),
            interface: 2,
            loss: 0,
            longest_run: u32::MAX,
            run: 0,
            sequence: None,
            unsupported: false,
        });
        self.admitted += 1;
        self.most_admitted = self.most_admitted.max(self.admitted);
        if down {
            self.raised.insert(address);
        }
        let change = Change::Add { place, address, group, enabled: true, down };
        self.monitor.apply(&change, self.now);
    }

    /// Changes the group of a peer, and whether it is asked.
    pub fn set(&mut self, place: u32, group: u16, enabled: bool) {
        let peer = self.peer(place);
        (peer.group, peer.enabled) = (group, enabled);
        self.monitor.apply(&Change::Set { place, group, enabled }, self.now);
    }

    /// Ends the monitoring of a peer.
    pub fn remove(&mut self, place: u32, reason: ClearReason) {
        self.peers[place as usize] = None;
        self.admitted -= 1;
        self.monitor.apply(&Change::Remove { place, reason }, self.now);
    }

    /// Changes the settings.
    pub fn reconfigure(&mut self, settings: &Settings) {
        self.settings = settings.clone();
        self.monitor.reconfigure(settings, self.now);
    }

    /// A peer says that it knows no heartbeats.
    pub fn unsupported(&mut self, place: u32) {
        self.peer(place).unsupported = true;
        self.monitor.unsupported(place, self.now);
    }

    /// The peer at a place.
    pub fn peer(&mut self, place: u32) -> &mut SimPeer {
        self.peers[place as usize].as_mut().expect("the test added it")
    }

    /// These peers answer from now on, or do not.
    pub fn set_up(&mut self, places: impl IntoIterator<Item = u32>, up: bool) {
        for place in places {
            self.peer(place).up = up;
        }
    }

    /// Plays on for so long.
    pub fn run(&mut self, how_long: Duration) {
        self.run_until(self.now + how_long);
    }

    /// Plays on, and always holds: no batch is above its size or before its time (so that the packets
    /// in a second never exceed both rates together), each request goes to a peer that is to be asked
    /// and has the next sequence number, findings come at a bounded rate, raise and clear alternate,
    /// and the deadline moves on.
    pub fn run_until(&mut self, end: Time) {
        assert!(end >= self.now, "the clock does not go back");
        let mut wakes_at_once = 0;
        loop {
            let mut next = self.monitor.next_deadline().unwrap_or(end).max(self.now);
            if self.late_micros > 0 {
                let late = chance(self.seed, 1, self.serial as u32) % self.late_micros;
                next = next + Duration::from_micros(late);
            }
            if let Some(drain) = self.drain {
                next = next.min(self.now + drain);
            }
            wakes_at_once = if next > self.now { 0 } else { wakes_at_once + 1 };
            assert!(wakes_at_once < 10, "the deadline does not move on from {:?}", self.now);
            self.now = next.min(end);
            self.wake();
            if self.now >= end && self.monitor.next_deadline().is_none_or(|next| next > end) {
                return;
            }
        }
    }

    /// This agent stands still: what is received meanwhile waits.
    pub fn stall(&mut self, how_long: Duration) {
        self.now = self.now + how_long;
    }

    /// When a peer was sent anything from a moment on.
    pub fn requests_of(&self, place: u32, from: Time) -> Vec<Time> {
        let of = |sent: &&Sent| sent.place == place && sent.at >= from;
        self.sent.iter().filter(of).map(|sent| sent.at).collect()
    }

    /// The heartbeats of each peer.
    pub fn heartbeats(&self) -> Vec<Vec<Time>> {
        let mut all = vec![Vec::new(); self.peers.len()];
        for sent in self.sent.iter().filter(|sent| !sent.retransmission) {
            all[sent.place as usize].push(sent.at);
        }
        all
    }

    /// What was told of a peer: raised or cleared, and of when it is.
    pub fn told_of(&self, address: IpAddr) -> Vec<(Option<ClearReason>, Time)> {
        let object = Object::Peer(address);
        let of =
            |told: &&Told| told.finding.kind == Kind::PeerDown && told.finding.object == object;
        self.told.iter().filter(of).map(|told| (told.finding.cleared, told.finding.at)).collect()
    }

    /// What was told of this kind: raised or cleared, and of when it is.
    pub fn told_kind(&self, kind: Kind) -> Vec<(Option<ClearReason>, Time)> {
        let of = |told: &&Told| told.finding.kind == kind;
        self.told.iter().filter(of).map(|told| (told.finding.cleared, told.finding.at)).collect()
    }

    /// When each peer was first found down, from this many tellings on.
    pub fn downs(&self, from: usize) -> BTreeMap<IpAddr, Time> {
        let mut downs = BTreeMap::new();
        for Told { finding, .. } in &self.told[from..] {
            if let (Kind::PeerDown, None, Object::Peer(address)) =
                (finding.kind, finding.cleared, &finding.object)
            {
                downs.entry(*address).or_insert(finding.at);
            }
        }
        downs
    }

    /// The peer at a place, as the monitor sees it.
    pub fn view(&self, place: u32) -> PeerView {
        self.monitor.peers().find(|view| view.place == place).expect("it is monitored")
    }

    /// Holds what can be seen against what was done (PEER-10, PEER-14): all monitored peers are there,
    /// counts agree with each other, and what waits is not more than there are peers. When all has
    /// been told, what was told is what is.
    pub fn check(&self) {
        let stats = self.monitor.stats();
        let mut states = vec![[0u32; PeerState::ALL.len()]; self.settings.groups.len()];
        let mut down = 0;
        let mut views = self.monitor.peers();
        for (place, peer) in (0u32..).zip(&self.peers) {
            let Some(peer) = peer else { continue };
            let view = views.next().expect("every admitted peer is listed");
            assert_eq!((view.place, view.address), (place, peer.address));
            assert_eq!(view.group, peer.group, "{view:?}");
            assert_eq!(view.state == PeerState::Disabled, !peer.enabled, "{view:?}");
            states[usize::from(peer.group)][view.state as usize] += 1;
            let is_down = view.state == PeerState::Down;
            down += usize::from(is_down);
            if stats.untold == 0 {
                assert_eq!(self.raised.contains(&peer.address), is_down, "as was told: {view:?}");
            }
        }
        assert_eq!(views.next(), None, "nobody else is listed");
        let counted: Vec<_> = stats.groups.iter().map(|group| group.peers).collect();
        assert_eq!(counted, states, "the counts are those of the peers");
        self.check_lists();
        if stats.untold == 0 {
            assert_eq!(self.raised.len(), down, "nobody else was told to be down");
            assert_eq!(self.mass_silence, stats.mass_silence, "what was told of mass silence");
        }
    }

    /// PEER-10: no list grows beyond the number of peers.
    pub fn check_lists(&self) {
        let stats = self.monitor.stats();
        // Of those that were removed it has still to tell that they were.
        let most = self.most_admitted;
        assert!(stats.untold as usize <= most, "{} of {most} untold", stats.untold);
        assert!(stats.silent as usize <= self.admitted, "{} are silent", stats.silent);
    }

    fn wake(&mut self) {
        let now = self.now;
        self.hand_in();
        // As the engine does: it looks only when it must.
        if self.monitor.must_judge(now)
            && let Some(disturbance) = self.blamed.take().or(self.deaf)
        {
            self.monitor.disturbed(disturbance, now);
        }
        self.monitor.judge(now);
        let mut requests = std::mem::take(&mut self.requests);
        requests.clear();
        self.monitor.take_requests(now, &mut requests);
        for list in [false, true] {
            let count = requests.iter().filter(|request| request.retransmission == list).count();
            self.check_batch(list, count);
        }
        for request in &requests {
            self.send(request);
        }
        self.requests = requests;
        while let Some(finding) = self.monitor.poll_finding(now) {
            self.hear(finding);
        }
    }

    fn hand_in(&mut self) {
        while let Some(Reverse(next)) = self.flying.peek()
            && next.received <= self.now
        {
            let Some(Reverse(flying)) = self.flying.pop() else { break };
            if self.deaf.is_some() {
                self.blamed = self.deaf;
                continue;
            }
            let answer = Answer {
                place: flying.place,
                source: flying.source,
                sequence: flying.sequence,
                token: Some(flying.token),
                interface: Some(flying.interface),
                received: flying.received,
                sent: Some(flying.sent),
                restart_counter: None,
            };
            // What it is worth is the monitor's to say.
            let _ = self.monitor.answer(&answer);
        }
    }

    /// PEER-4: both lists have batches of at most their size, and not before their time.
    fn check_batch(&mut self, retransmission: bool, count: usize) {
        if count == 0 {
            return;
        }
        let Batches { heartbeat, retransmission: again } = self.settings.batches;
        let batch = if retransmission { again } else { heartbeat };
        let list = if retransmission { "retransmissions" } else { "heartbeats" };
        assert!(count <= batch.size.get() as usize, "{count} {list} in a batch of {}", batch.size);
        let last = &mut self.last_batch[usize::from(retransmission)];
        if let Some((last, interval)) = *last {
            // Who changes the interval may have the shorter of both once.
            let least = interval.min(batch.interval);
            let gap = self.now.since(last);
            assert!(gap >= least, "{list} {gap:?} after the last batch, not {least:?}");
        }
        *last = Some((self.now, batch.interval));
    }

    fn send(&mut self, request: &Request) {
        let Request { place, address, group, sequence, token, retransmission, .. } = *request;
        let now = self.now;
        let Some(peer) = self.peers.get_mut(place as usize).and_then(Option::as_mut) else {
            panic!("{request:?} goes to nobody");
        };
        assert!(peer.enabled && !peer.unsupported, "{request:?} goes to who is not to be asked");
        assert_eq!((peer.address, peer.group), (address, group), "{request:?}");
        if let Some(last) = peer.sequence {
            assert_eq!(sequence, last.wrapping_add(1), "{request:?}");
        }
        peer.sequence = Some(sequence);
        self.sent.push(Sent { at: now, place, retransmission });
        if let Some(kept) = &mut self.kept {
            kept.push(*request);
        }
        self.serial += 1;
        if self.send_fails || self.fails == Some(self.sent.len() - 1) {
            self.monitor.send_failed(request, now);
            return;
        }
        if !peer.up {
            return;
        }
        let drawn = chance(self.seed, place, sequence);
        if peer.run < peer.longest_run && drawn % 65_536 < u64::from(peer.loss) {
            peer.run += 1;
            return;
        }
        peer.run = 0;
        let flying = Flying {
            received: now + peer.round_trip,
            serial: self.serial,
            place,
            source: address,
            sequence,
            token,
            interface: peer.interface,
            sent: now,
        };
        self.flying.push(Reverse(flying));
        if (drawn >> 32) % 65_536 < u64::from(self.twice) {
            self.flying.push(Reverse(Flying { received: flying.received + ms(1), ..flying }));
        }
    }

    /// PEER-10: at most 100 findings in 100 ms, so that a window that lies across two such portions
    /// sees both at most; and of each object raise and clear alternate.
    fn hear(&mut self, finding: Finding) {
        let now = self.now;
        assert!(finding.at <= now, "{finding:?} is told before it is so, at {now:?}");
        let raised = finding.cleared.is_none();
        match (finding.kind, &finding.object) {
            (Kind::PeerDown, Object::Peer(address)) => {
                let changes =
                    if raised { self.raised.insert(*address) } else { self.raised.remove(address) };
                assert!(changes, "told twice: {finding:?}");
            }
            (Kind::MassSilence, Object::PeerMonitor) => {
                assert_ne!(self.mass_silence, raised, "told twice: {finding:?}");
                self.mass_silence = raised;
            }
            (Kind::PeerRestarted, Object::Peer(_)) => assert!(raised, "{finding:?}"),
            _ => panic!("{finding:?} is not of a peer"),
        }
        for (most, window) in [(2, ms(100)), (11, s(1))] {
            if let Some(before) = self.told.len().checked_sub(most * FINDINGS_PER_100_MS) {
                let since = now.since(self.told[before].told);
                assert!(since >= window, "{most} times 100 findings in {since:?}");
            }
        }
        self.told.push(Told { told: now, finding });
    }
}
