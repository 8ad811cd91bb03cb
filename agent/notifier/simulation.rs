//! A notification target's machine, an NMS and the network between them on one held clock, for the
//! tests: an hour takes milliseconds, and what goes wrong goes wrong again with the same seed.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use evenkeel_core::{
    alarm::{Alarm, AlarmEvent, AlarmId, ClearReason, Kind, Object, Severity, System},
    ber::tag,
    ber_writer::{Writer, oid_value},
    input::Taken,
    message,
    mib::{self, RootOid},
    notification::Start,
    sender::{Destination, Version},
    time::{Time, WallTime},
    trap::Trap,
    usm::{EngineId, LocalEngine},
};

use super::{
    Filter, Identity, Reach, Target,
    machine::{Action, Beginning, Machine, Progress, Source},
};

/// Chance that is the same each time.
#[derive(Clone)]
pub struct Chance(pub u64);

impl Chance {
    /// The next number (SplitMix64).
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// Whether one of a hundred chances in `percent` came.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// What the NMS does with a request.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Acknowledge,
    Refuse,
    Silence,
}

/// What the NMS has received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    pub at: Time,
    pub request_id: u32,
    /// The row of the journal, for an alarm.
    pub seq: Option<u64>,
    pub alarm: Vec<u8>,
    pub cleared: bool,
    pub varbinds: Vec<u8>,
}

impl Received {
    pub fn is_start(&self) -> bool {
        self.request_id >> 29 == 3
    }

    pub fn is_forwarded(&self) -> bool {
        self.request_id >> 29 == 2
    }
}

/// What the network does.
#[derive(Clone, Copy)]
pub struct Link {
    pub loss: u64,
    pub twice: u64,
    /// The shortest and the longest delay, in milliseconds: in between by chance, so that datagrams
    /// overtake each other.
    pub delay: (u64, u64),
}

pub const GOOD: Link = Link { loss: 0, twice: 0, delay: (1, 1) };

/// All of it.
pub struct World {
    pub now: Time,
    pub machine: Machine,
    pub target: Target,
    identity: Arc<Identity>,
    pub rows: Vec<AlarmEvent>,
    /// Rows up to here are gone from the journal.
    pub pruned: u64,
    pub entries: Vec<Taken>,
    /// The cursors on the disk.
    pub disk: (u64, Option<u64>),
    pub link: Link,
    pub chance: Chance,
    flying: BTreeMap<(Time, u64), Flying>,
    flown: u64,
    /// The NMS hears nothing from the first to the second of these.
    pub away: VecDeque<(Time, Time)>,
    /// While it is away, its host answers with port unreachable.
    pub refuses: bool,
    pub answer: Box<dyn FnMut(&Received) -> Answer>,
    pub received: Vec<Received>,
    pub reach: Vec<Reach>,
    /// When each datagram left, with its request-id.
    pub left: Vec<(Time, u32)>,
    /// Requests without an answer yet: what is under way, as the machine must see it.
    open: BTreeMap<u32, ()>,
    pub most_open: usize,
}

enum Flying {
    ToNms(Vec<u8>),
    ToUs(Vec<u8>),
    PortUnreachable,
}

pub fn target(confirmed: bool) -> Target {
    Target {
        name: "nms".to_owned(),
        address: "192.0.2.9:162".parse().unwrap(),
        destination: Destination {
            version: Version::V2c { community: b"public".to_vec() },
            confirmed,
        },
        timeout: Target::TIMEOUT,
        retries: Target::RETRIES,
        rate: Target::RATE,
        burst: Target::BURST,
        window: Target::WINDOW,
        filter: Filter::default(),
        forward_community: false,
    }
}

pub fn identity() -> Identity {
    Identity {
        root: RootOid::default(),
        agent_name: "agent-a".to_owned(),
        of_pair: false,
        engine: LocalEngine {
            id: EngineId::new(&[0x80, 0, 0, 0, 7]).unwrap(),
            boots: 1,
            started: Time::ZERO,
        },
    }
}

/// An event about the device with this last octet, as severe as asked for.
pub fn event(id: u64, device: u8, severity: Severity, cleared: bool) -> AlarmEvent {
    AlarmEvent {
        at: Time::ZERO,
        wall: WallTime(0),
        cleared: cleared.then_some(ClearReason::Ended),
        alarm: Alarm {
            id: AlarmId(id),
            kind: Kind::SystemUnstable,
            object: Object::System(System([192, 0, 2, device].into())),
            severity,
            raised_at: WallTime(0),
            text: "restarts too often".to_owned(),
            episode: None,
            if_name: None,
            other_if_name: None,
            peer_group: None,
            agent: None,
            mate: None,
        },
        term: None,
    }
}

/// A trap that was taken in from the device with this last octet.
pub fn taken(device: u8, filling: usize) -> Taken {
    let mut varbinds = Writer::new();
    for (name, value_tag, value) in [
        (&[0x2b, 6, 1, 2, 1, 1, 3, 0][..], tag::TIME_TICKS, vec![1]),
        (&[0x2b, 6, 1, 6, 3, 1, 1, 4, 1, 0], tag::OID, vec![0x2b, 6, 1, 6, 3, 1, 1, 5, 3]),
        (&[0x2b, 6, 1, 9], tag::OCTET_STRING, vec![device; filling]),
    ] {
        varbinds.nested(tag::SEQUENCE, |varbind| {
            varbind.element(tag::OID, name);
            varbind.element(value_tag, &value);
        });
    }
    Taken {
        number: None,
        received: Time::ZERO,
        wall: WallTime(0),
        source: ([192, 0, 2, device], 5000).into(),
        system: System([192, 0, 2, device].into()),
        form: evenkeel_core::trap::Form::V2c,
        request_id: Some(1),
        community: b"secret".to_vec(),
        varbinds: varbinds.into_bytes(),
        original: None,
        targets: Default::default(),
    }
}

impl World {
    /// A target with nothing sent yet, over a good link to an NMS that acknowledges everything.
    pub fn new(target: Target) -> World {
        let identity = Arc::new(identity());
        let disk = (0, target.acknowledges().then_some(0));
        let mut progress = Progress::at(0);
        progress.forwarded = disk.1;
        World {
            now: Time::from_secs(1000),
            machine: Machine::new(target.clone(), Arc::clone(&identity), progress, 1),
            target,
            identity,
            rows: vec![],
            pruned: 0,
            entries: vec![],
            disk,
            link: GOOD,
            chance: Chance(1),
            flying: BTreeMap::new(),
            flown: 0,
            away: VecDeque::new(),
            refuses: false,
            answer: Box::new(|_| Answer::Acknowledge),
            received: vec![],
            reach: vec![],
            left: vec![],
            open: BTreeMap::new(),
            most_open: 0,
        }
    }

    /// The agent is killed, and starts again from what is on its disk.
    pub fn restart(&mut self, start: Option<Start>) {
        let mut progress = Progress::at(self.disk.0);
        progress.forwarded = self.disk.1;
        progress.start = start.map(|start| Beginning { start, id: self.now.as_millis() / 1000 });
        let seed = self.chance.next();
        let identity = Arc::clone(&self.identity);
        self.machine = Machine::new(self.target.clone(), identity, progress, seed);
        self.open.clear();
        // Answers to its last life don't find their way to the new socket.
        self.flying.retain(|_, flying| matches!(flying, Flying::ToNms(_)));
    }

    pub fn after(&self, secs: u64) -> Time {
        self.now + Duration::from_secs(secs)
    }

    pub fn run_for(&mut self, secs: u64) {
        self.run_until(self.after(secs));
    }

    /// Lets everything happen up to a moment.
    pub fn run_until(&mut self, end: Time) {
        loop {
            self.machine.told(self.rows.len() as u64, self.entries.len() as u64);
            let action = self.machine.next(self.now);
            self.reach.extend(self.machine.take_changes());
            match action {
                Action::Send { datagram, .. } => self.send(datagram),
                Action::Read(read) => match read.source {
                    Source::Journal => {
                        let rows = (1..)
                            .zip(&self.rows)
                            .skip(read.after.max(self.pruned) as usize)
                            .take(read.limit)
                            .map(|(seq, row)| (seq, row.clone()))
                            .collect();
                        self.machine.read_alarms(read, rows);
                    }
                    Source::Spool => {
                        let entries: Vec<(u64, Taken)> = (1..)
                            .zip(&self.entries)
                            .skip(read.after as usize)
                            .take(read.limit)
                            .map(|(number, taken)| (number, taken.clone()))
                            .collect();
                        let up_to = entries.last().map_or(read.after, |(number, _)| *number);
                        self.machine.read_forwarded(read, entries, up_to, self.now);
                    }
                },
                Action::Wait(until) => {
                    self.disk = (self.machine.cursor(), self.machine.forwarded_cursor());
                    let arrival = self.flying.first_key_value().map(|((at, _), _)| *at);
                    let next = until.into_iter().chain(arrival).min().unwrap_or(Time::MAX);
                    if next >= end {
                        self.now = end;
                        return;
                    }
                    assert!(until.is_none_or(|until| until > self.now), "a wait for the past");
                    self.now = self.now.max(next);
                    if arrival.is_some_and(|at| at <= self.now) {
                        self.arrive();
                    }
                }
            }
        }
    }

    fn send(&mut self, datagram: Vec<u8>) {
        let request_id = Trap::decode(&datagram).unwrap().request_id.unwrap();
        self.left.push((self.now, request_id));
        if self.target.acknowledges() {
            self.open.insert(request_id, ());
            self.most_open = self.most_open.max(self.open.len());
            // TRAP-11: never two of one object under way, and never more than the window.
            assert!(self.open.len() <= usize::from(self.target.window));
            let alarms = self.open.keys().filter(|id| **id >> 30 == 0);
            let mut objects: Vec<&Object> =
                alarms.map(|id| &self.rows[*id as usize - 1].alarm.object).collect();
            objects.sort_unstable();
            assert!(objects.windows(2).all(|two| two[0] != two[1]), "two of one object");
        }
        self.fly(Flying::ToNms(datagram));
    }

    fn fly(&mut self, flying: Flying) {
        if self.chance.percent(self.link.loss) {
            return;
        }
        if self.chance.percent(self.link.twice) {
            let copy = match &flying {
                Flying::ToNms(datagram) => Flying::ToNms(datagram.clone()),
                Flying::ToUs(datagram) => Flying::ToUs(datagram.clone()),
                Flying::PortUnreachable => Flying::PortUnreachable,
            };
            self.launch(copy);
        }
        self.launch(flying);
    }

    fn launch(&mut self, flying: Flying) {
        let (least, most) = self.link.delay;
        let delay = Duration::from_millis(least + self.chance.below(most - least + 1));
        self.flown += 1;
        self.flying.insert((self.now + delay, self.flown), flying);
    }

    fn arrive(&mut self) {
        let Some((_, flying)) = self.flying.pop_first() else { return };
        match flying {
            Flying::ToUs(datagram) => {
                let (_, reply) = message::read_response(&datagram).unwrap();
                self.open.remove(&(reply.request_id as u32));
                self.machine.heard(&datagram, self.now);
            }
            Flying::PortUnreachable => self.machine.failed("refused".to_owned(), self.now),
            Flying::ToNms(datagram) => {
                let now = self.now;
                self.away.retain(|(_, back)| *back > now);
                if self.away.front().is_some_and(|(from, _)| *from <= now) {
                    if self.refuses {
                        self.fly(Flying::PortUnreachable);
                    }
                    return;
                }
                self.nms(&datagram);
            }
        }
    }

    fn nms(&mut self, datagram: &[u8]) {
        let trap = Trap::decode(datagram).unwrap();
        let request_id = trap.request_id.unwrap();
        let varbinds: Vec<_> = trap.varbinds().collect();
        let sequence = oid_value(&RootOid::default().child(&[mib::OBJECTS, 26, 0])).unwrap();
        let seq = varbinds.iter().find(|(name, ..)| *name == sequence).map(|(_, _, seq)| *seq);
        let received = Received {
            at: self.now,
            request_id,
            seq: seq.map(|seq| seq.iter().fold(0, |sum, octet| sum << 8 | u64::from(*octet))),
            alarm: varbinds.get(2).map_or(vec![], |(_, _, id)| id.to_vec()),
            cleared: varbinds[1].2.last() == Some(&2),
            varbinds: trap.varbinds.to_vec(),
        };
        let answer = (self.answer)(&received);
        self.received.push(received);
        if !trap.form.is_inform() || answer == Answer::Silence {
            return;
        }
        let mut pdu = Writer::new();
        pdu.nested(tag::RESPONSE, |pdu| {
            pdu.integer(i64::from(request_id));
            pdu.integer(if answer == Answer::Refuse { 16 } else { 0 });
            pdu.integer(0);
            pdu.element(tag::SEQUENCE, trap.varbinds);
        });
        let response =
            message::community_message(message::version::V2C, b"public", &pdu.into_bytes());
        self.fly(Flying::ToUs(response));
    }

    /// The rows in the order in which they first arrived.
    pub fn first_arrivals(&self) -> Vec<u64> {
        let mut seen = std::collections::BTreeSet::new();
        let rows = self.received.iter().filter_map(|received| received.seq);
        rows.filter(|seq| seen.insert(*seq)).collect()
    }

    /// TRAP-11: every row that passes has arrived, those of one object in order, and each repeat says
    /// the same as the first.
    pub fn assert_all_arrived_in_order(&self) {
        let arrived = self.first_arrivals();
        let mut sorted = arrived.clone();
        sorted.sort_unstable();
        assert!(sorted.iter().copied().eq(1..=self.rows.len() as u64), "each at least once");
        let object = |seq: u64| &self.rows[seq as usize - 1].alarm.object;
        let mut last: BTreeMap<&Object, u64> = BTreeMap::new();
        for seq in arrived {
            let before = last.insert(object(seq), seq);
            assert!(before.is_none_or(|before| before < seq), "{seq} overtook {before:?}");
        }
        let mut said: BTreeMap<u64, (&[u8], u32, bool)> = BTreeMap::new();
        for received in &self.received {
            let Some(seq) = received.seq else { continue };
            let row = &self.rows[seq as usize - 1];
            assert_eq!(received.alarm, row.alarm.id.to_string().as_bytes());
            assert_eq!(received.cleared, row.cleared.is_some());
            let says = (&received.alarm[..], received.request_id, received.cleared);
            assert_eq!(*said.entry(seq).or_insert(says), says, "a repeat says the same");
        }
    }
}
