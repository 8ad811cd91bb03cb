//! Inputs by chance: everything that can enter the core, in any order, so that nothing is assumed
//! of the driver but that its clock does not go backwards.

use std::{net::IpAddr, time::Duration};

use evenkeel_core::{
    agent::Agent,
    alarm::{Interface, Link, System},
    input::{
        Answer, Datagram, Door, Ear, Echo, Event, Host, HostInterface, Input, Reply, SendFailed,
        Taken, Verdict,
    },
    settings::{
        Analysis, DuringUnstable, ForwardRule, ForwardTarget, Group, GroupSettings, Match,
        ObjectState, Polled, Require, Settings, Subnet, Threshold, Topology, Window,
    },
    state::State,
    time::Time,
    trap::Form,
};
use proptest::prelude::*;

use super::{
    ber::{Message, if_entry, if_x_entry, number, octets, varbind},
    sim::{at, local_engine, open_settings},
};

/// One thing to do. Numbers are turned into what they stand for when it is done.
#[derive(Clone, Debug)]
pub enum Op {
    /// Time goes by, in milliseconds.
    Wait(u64),
    /// A trap: system, ifIndex, sub-identifier, form, request-id, how long ago it was received in
    /// milliseconds, and its name.
    Trap(u8, u32, u32, u8, u8, u64, u8),
    /// Octets from anybody.
    Bytes(Vec<u8>),
    /// Both ears have handed in all, up to this long ago; and how many were lost, and how many dropped.
    Heard(u64, u64, u64),
    /// A notification target answers, or not.
    Target(u8, bool),
    /// Time for polls.
    Now,
    /// A reply to the echo that was sent this many before the latest, with a verdict and how long
    /// ago it was received.
    Reply(usize, u8, u64),
    /// A reply to nothing.
    StrayReply(u8, u16, u16),
    /// The echo that was sent this many before the latest could not be sent.
    SendFailed(usize, bool),
    /// The host's addresses by bits.
    Host(u16),
    /// Settings by bits.
    Settings(u32),
    /// The wall clock was set.
    WallClock(i64),
    /// Stopped and begun again after this many milliseconds.
    Restart(u64),
    /// Changes are taken, so many at once.
    TakeChanges(usize),
}

/// What the fuzzer and the properties of everything draw from.
pub fn op() -> impl Strategy<Value = Op> {
    let wait = prop_oneof![Just(0), Just(1), 0..3_000u64, 25_000..35_000u64, 0..4_000_000u64];
    prop_oneof![
        6 => wait.prop_map(Op::Wait),
        16 => (0..5u8, 0..4u32, 0..8u32, 0..5u8, any::<u8>(), 0..2_000u64, 0..5u8)
            .prop_map(|(a, b, c, d, e, f, g)| Op::Trap(a, b, c, d, e, f, g)),
        1 => proptest::collection::vec(any::<u8>(), 0..60).prop_map(Op::Bytes),
        8 => (
            prop_oneof![Just(0), 0..1_000u64],
            prop_oneof![4 => Just(0u64), 1 => 1..9u64],
            prop_oneof![4 => Just(0u64), 1 => 1..9u64],
        )
            .prop_map(|(ago, lost, limited)| Op::Heard(ago, lost, limited)),
        2 => (0..3u8, any::<bool>()).prop_map(|(name, up)| Op::Target(name, up)),
        8 => Just(Op::Now),
        8 => (0..12usize, 0..8u8, 0..2_500u64).prop_map(|(a, b, c)| Op::Reply(a, b, c)),
        1 => (any::<u8>(), any::<u16>(), any::<u16>()).prop_map(|(a, b, c)| Op::StrayReply(a, b, c)),
        1 => (0..12usize, any::<bool>()).prop_map(|(a, b)| Op::SendFailed(a, b)),
        2 => any::<u16>().prop_map(Op::Host),
        1 => (0..1u32 << 19).prop_map(Op::Settings),
        1 => any::<i64>().prop_map(Op::WallClock),
        1 => (0..100_000u64).prop_map(Op::Restart),
        1 => (0..5usize).prop_map(Op::TakeChanges),
    ]
}

/// What went in, as a recording would keep it.
#[derive(Clone, Debug)]
pub enum Frame {
    /// An input, serialised.
    Input(Vec<u8>),
    /// A restart: the state that was put back, how long nobody listened, and when.
    Restart(Box<State>, Duration, Time),
}

/// An agent to which things are done.
pub struct World {
    /// The agent.
    pub agent: Agent,
    /// What came out.
    pub events: Vec<Event>,
    /// What was sent.
    pub echoes: Vec<Echo>,
    /// What went back to senders.
    pub answers: Vec<Answer>,
    /// What went on.
    pub taken: Vec<Taken>,
    /// What went in.
    pub frames: Vec<Frame>,
    settings: Settings,
    now: Time,
}

impl World {
    /// A new one.
    pub fn new(seed: u64) -> World {
        let settings = settings(0);
        World {
            agent: Agent::new(settings.clone(), local_engine(), seed, 77),
            events: Vec::new(),
            echoes: Vec::new(),
            answers: Vec::new(),
            taken: Vec::new(),
            frames: Vec::new(),
            settings,
            now: at(0),
        }
    }

    /// The clock.
    pub fn now(&self) -> Time {
        self.now
    }

    /// Plays a recording.
    pub fn replay(&mut self, frames: &[Frame], seed: u64) {
        for frame in frames {
            match frame {
                Frame::Input(bytes) => {
                    let input: Input<'_> = postcard::from_bytes(bytes).expect("it was written so");
                    self.feed(&input);
                }
                Frame::Restart(state, deaf, now) => self.begin(state, *deaf, *now, seed),
            }
        }
    }

    /// Does one thing.
    pub fn act(&mut self, op: &Op) {
        let now = self.now;
        let ago = |millis: u64| now - Duration::from_millis(millis);
        match *op {
            Op::Wait(millis) => self.now = now + Duration::from_millis(millis),
            Op::Trap(system, if_index, trap, form, id, age, name) => {
                let bytes = message(if_index, trap, form, id, name, now).encode();
                self.datagram([10, 0, 0, system].into(), ago(age), &bytes);
            }
            Op::Bytes(ref bytes) => self.datagram([10, 0, 0, 1].into(), now, bytes),
            Op::Heard(millis, lost, limited) => {
                for ear in [Ear::Traps, Ear::Replies] {
                    self.feed(&Input::Heard { ear, up_to: ago(millis), lost, limited });
                }
            }
            Op::Target(name, up) => {
                let name = ["noc", "lab", "none"][usize::from(name)].to_owned();
                let unreachable = (!up).then(|| "no response".to_owned());
                self.feed(&Input::Target { name, unreachable, now });
            }
            Op::Now => self.feed(&Input::Now(now)),
            Op::Reply(before, verdict, age) => {
                let Some(echo) = self.echo(before) else { return };
                let verdict = match verdict {
                    0 => Verdict::Unreachable,
                    1 => Verdict::TimeExceeded,
                    2 => Verdict::OtherError,
                    _ => Verdict::Answered,
                };
                self.feed(&Input::Reply(Reply {
                    local: echo.local,
                    polled: echo.polled,
                    identifier: echo.identifier,
                    sequence: echo.sequence,
                    interface: Some(echo.interface),
                    received: ago(age),
                    verdict,
                }));
            }
            Op::StrayReply(last, identifier, sequence) => {
                self.feed(&Input::Reply(Reply {
                    local: IpAddr::from([192, 0, 2, 1]),
                    polled: IpAddr::from([192, 0, 2, last]),
                    identifier: if identifier % 2 == 0 { 77 } else { identifier },
                    sequence,
                    interface: None,
                    received: now,
                    verdict: Verdict::Answered,
                }));
            }
            Op::SendFailed(before, other) => {
                let Some(Echo { local, polled, sequence, .. }) = self.echo(before) else { return };
                let error = if other { "Network is down" } else { "Operation not permitted" };
                let error = error.to_owned();
                self.feed(&Input::SendFailed(SendFailed { local, polled, sequence, error }));
            }
            Op::Host(bits) => self.feed(&Input::Host { host: host(bits), now }),
            Op::Settings(bits) => {
                self.settings = settings(bits);
                self.feed(&Input::Settings { settings: Box::new(settings(bits)), now });
            }
            Op::WallClock(origin_ms) => self.feed(&Input::WallClock { origin_ms }),
            Op::Restart(millis) => {
                let away = Duration::from_millis(millis);
                let mut state = self.agent.export(now);
                for record in &mut state.records {
                    record.age += away;
                }
                self.now = now + away;
                self.frames.push(Frame::Restart(Box::new(state.clone()), away, self.now));
                self.begin(&state, away, self.now, 1);
            }
            Op::TakeChanges(most) => {
                self.agent.take_changes(most, now);
            }
        }
    }

    fn begin(&mut self, state: &State, deaf: Duration, now: Time, seed: u64) {
        let next = self.agent.next_number();
        self.agent = Agent::new(self.settings.clone(), local_engine(), seed, 77);
        self.agent.set_spool(next);
        self.agent.restore(state.clone(), deaf, now);
        self.drain();
    }

    fn datagram(&mut self, source: IpAddr, received: Time, bytes: &[u8]) {
        let source = (source, 162).into();
        self.feed(&Input::Datagram(Datagram { source, received, door: Door::default(), bytes }));
    }

    fn echo(&self, before: usize) -> Option<Echo> {
        self.echoes.len().checked_sub(1 + before).map(|place| self.echoes[place].clone())
    }

    fn feed(&mut self, input: &Input<'_>) {
        if let Input::Settings { settings, .. } = input {
            self.settings = Settings::clone(settings);
        }
        self.frames.push(Frame::Input(postcard::to_allocvec(input).expect("inputs can be kept")));
        self.agent.handle(input);
        self.drain();
    }

    fn drain(&mut self) {
        self.events.extend(std::iter::from_fn(|| self.agent.poll_event()));
        self.echoes.extend(std::iter::from_fn(|| self.agent.poll_transmit()));
        self.answers.extend(std::iter::from_fn(|| self.agent.poll_answer()));
        self.taken.extend(std::iter::from_fn(|| self.agent.poll_taken()));
    }
}

fn message(if_index: u32, trap: u32, form: u8, id: u8, name: u8, now: Time) -> Message {
    let form = Form::ALL[usize::from(form)];
    let trap = [1, 2, 3, 3, 3, 4, 4, 6][trap as usize];
    let mut varbinds = Vec::new();
    if if_index > 0 {
        varbinds.push(varbind(&if_entry(1, if_index), number(2, i64::from(if_index))));
    }
    match name {
        0 => varbinds.push(varbind(&if_entry(2, 1), octets(b"Dialer1"))),
        1 => varbinds.push(varbind(&if_x_entry(1, 1), octets(b"Gi0/1"))),
        _ => {}
    }
    // Few different ones, so that some are copies.
    let uptime = (now.since(at(0)).as_secs() / 8) as i64 * 800;
    let request_id = i64::from(id % 16);
    Message { varbinds, uptime, request_id, ..Message::new(form, trap) }
}

/// Settings by bits; none is all that is shipped, with two configured subnets.
pub fn settings(bits: u32) -> Settings {
    let bit = |place: u32| bits >> place & 1 == 1;
    let mut settings = open_settings();
    let instability = &mut settings.instability;
    if bit(0) {
        let window = Window::new(Duration::from_secs(5)).unwrap();
        let threshold = Threshold::new(if bit(1) { 4 } else { 2 }).unwrap();
        instability.otherwise.interfaces = Some(Analysis { window, threshold });
    }
    if bit(2) {
        instability.otherwise.interfaces = None;
    }
    if bit(3) {
        instability.otherwise.systems = None;
    }
    instability.otherwise.interface_down = !bit(4);
    instability.max_objects = if bit(5) { 6 } else { 200_000 };
    if bit(6) {
        let matches = Match { systems: vec!["10.0.0.2/31".parse().unwrap()], ..Match::default() };
        let otherwise = GroupSettings::default();
        instability.groups.push(Group { name: "pair".into(), matches, settings: otherwise });
    }
    if bit(7) {
        settings.access.forwarders.push("10.0.0.0/30".parse().unwrap());
    }
    // Systems 1 and 2, and 3 and 4, are cabled to each other; or 1 and 3, and an end that sends nothing.
    let link = |one: (u8, u32), other: (u8, u32)| {
        let end = |(system, if_index)| Interface {
            system: System(IpAddr::from([10, 0, 0, system])),
            if_index,
        };
        Link::new(end(one), end(other))
    };
    let mut links = Vec::new();
    if bit(16) {
        let other = if bit(17) { (3, 1) } else { (2, 2) };
        links.extend(link((1, 1), other));
    }
    if bit(18) {
        links.extend(link((3, 2), (4, 3)));
        links.extend(link((4, 1), (9, 9)));
    }
    settings.instability.topology = Topology::new(links).expect("no end is named twice");
    let target =
        |name: &str, durable, original| ForwardTarget { name: name.to_owned(), durable, original };
    settings.forwarding.targets =
        vec![target("noc", bit(14), false), target("lab", false, bit(15))];
    if bit(14) {
        settings.forwarding.targets.truncate(1);
    }
    if bit(14) || bit(15) {
        let during_unstable =
            if bit(8) { DuringUnstable::Forward } else { DuringUnstable::Suppress };
        settings.forwarding.rules = vec![ForwardRule {
            traps: vec![],
            systems: vec![],
            groups: vec![],
            states: if bit(9) { vec![ObjectState::Down, ObjectState::Unstable] } else { vec![] },
            during_unstable,
            targets: if bit(14) { vec![0] } else { vec![0, 1] },
        }];
    }
    let subnets = &mut settings.subnets;
    subnets.poll_interval = Duration::from_secs(if bit(8) { 1 } else { 2 });
    subnets.in_a_row = if bit(9) { 2 } else { 4 }.try_into().unwrap();
    subnets.watch_gateways = !bit(10);
    let polled = |text: &str| Polled { address: text.parse().unwrap(), zone: None };
    subnets.subnets = vec![
        Subnet {
            prefix: "192.0.2.0/24".parse().unwrap(),
            monitor: !bit(11),
            polling_targets: vec![polled("192.0.2.200"), polled("192.0.2.201")],
            peers: vec![],
            require: if bit(12) { Require::All } else { Require::Any },
            standby: None,
        },
        Subnet {
            prefix: "2001:db8::/64".parse().unwrap(),
            monitor: !bit(13),
            polling_targets: vec![],
            peers: vec![polled("2001:db8::7"), polled("2001:db8::8")],
            require: Require::Any,
            standby: None,
        },
    ];
    settings
}

/// A host by bits.
pub fn host(bits: u16) -> Host {
    let bit = |place: u16| bits >> place & 1 == 1;
    let mut interfaces = Vec::new();
    for (index, name) in [(1, "eth0"), (2, "eth1"), (3, "eth2")] {
        let here = |place: u16| bit(place + 4 * (index as u16 - 1));
        let mut addresses = Vec::new();
        if here(0) {
            addresses.push(format!("192.0.2.{index}/24").parse().unwrap());
        }
        if here(1) {
            addresses.push(format!("2001:db8::{index}/64").parse().unwrap());
        }
        if here(2) {
            addresses.push(format!("10.{index}.0.1/16").parse().unwrap());
        }
        let gateways = vec![format!("10.{index}.0.254").parse().unwrap()];
        let (up, running, loopback) = (here(3), here(3), false);
        let name = name.to_owned();
        interfaces.push(HostInterface { index, name, up, running, loopback, addresses, gateways });
    }
    Host { interfaces }
}
