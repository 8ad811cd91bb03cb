//! Every place of the core where a datagram is read, behind one function: what the fuzzer runs, and
//! what the ordinary tests run with the seeds.
//!
//! A message of SNMPv3 whose digest is wrong is read no further, so chance alone would never see
//! what comes after. Therefore each input is also sealed: its octets are the PDU of a message that is
//! authentic and, for most users, encrypted.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::OnceLock,
    time::Duration,
};

use evenkeel_core::{
    agent::Agent,
    input::{Datagram, Door, Ear, Input},
    peers::{
        Answer, Change, Monitor,
        echo::{self, Echo},
        mobility::{self, Path},
        settings as peer_settings,
    },
    sender::{Destination, Notice, SendUser, Session, Version},
    settings::{
        Access, Community, DuringUnstable, ForwardRule, ForwardTarget, Forwarding, Settings,
    },
    time::Time,
    trap::Trap,
    usm::{
        Auth, AuthProtocol, EngineId, Key, Level, LocalEngine, PrivProtocol, Privacy, SessionKeys,
        User, keys,
        message::{self, Outgoing},
    },
};

/// The passphrases of all users.
pub const AUTH_PASSPHRASE: &str = "maplesyrup for auth";
/// See [`AUTH_PASSPHRASE`].
pub const PRIVACY_PASSPHRASE: &str = "maplesyrup for privacy";

/// The agent's own engine, for which the seeds of informs are sealed.
pub const ENGINE: [u8; 9] = *b"\x80\x00\x1f\x88\x04keel";

/// The engine of a device, and of a notification target.
const OTHER: [u8; 10] = *b"\x80\x00\x1f\x88\x04other";

/// How many peers there are: those whose place is even by IPv4, the others by IPv6.
const PEERS: u32 = 4;

/// After so many inputs all is made anew, so that what one has left behind does not hide, or make,
/// what the next does. Not more often, as keys that are made longer take milliseconds (see
/// [`PrivProtocol`]).
const ANEW: u32 = 4096;

const AUTH: [(&str, AuthProtocol); 6] = [
    ("md5", AuthProtocol::Md5),
    ("sha", AuthProtocol::Sha1),
    ("sha-224", AuthProtocol::Sha224),
    ("sha-256", AuthProtocol::Sha256),
    ("sha-384", AuthProtocol::Sha384),
    ("sha-512", AuthProtocol::Sha512),
];

const PRIVACY: [(&str, PrivProtocol); 6] = [
    ("des", PrivProtocol::Des),
    ("aes", PrivProtocol::Aes128),
    ("aes-192", PrivProtocol::Aes192),
    ("aes-256", PrivProtocol::Aes256),
    ("aes-192-c", PrivProtocol::Aes192Reeder),
    ("aes-256-c", PrivProtocol::Aes256Reeder),
];

/// What does not change between inputs: users and their keys, which take long to make.
struct Fixed {
    users: Vec<User>,
    /// Each user's keys at our engine, and at the other.
    keys: Vec<[SessionKeys; 2]>,
    settings: Settings,
}

/// All doors, and what is behind them.
pub struct Doors {
    agent: Agent,
    sessions: Vec<Session>,
    monitor: Monitor,
    now: Time,
    inputs: u32,
    fed: i32,
    taken: u64,
    heartbeats: u64,
}

impl Doors {
    /// Doors that nothing has come to.
    pub fn new() -> Doors {
        let fixed = fixed();
        let local = local();
        let agent = Agent::new(fixed.settings.clone(), local.clone(), 7, 7);
        let mut sessions = vec![Session::new(
            Destination {
                version: Version::V2c { community: b"public".to_vec() },
                confirmed: true,
            },
            local.clone(),
            7,
        )];
        // One that knows its target's engine, and one that has to ask.
        for (at, engine) in [(0, true), (9, true), (20, true), (9, false)] {
            let User { name, auth, privacy, min_level, .. } = fixed.users[at].clone();
            let engine = engine.then(|| id(&OTHER));
            let user =
                SendUser { name, auth, privacy, level: min_level, context: Vec::new(), engine };
            let destination = Destination { version: Version::V3 { user }, confirmed: true };
            sessions.push(Session::new(destination, local.clone(), 7));
        }
        let now = Time::from_secs(10);
        let monitor = monitor(now);
        Doors { agent, sessions, monitor, now, inputs: 0, fed: 0, taken: 0, heartbeats: 0 }
    }

    /// How many traps were taken in so far.
    #[allow(dead_code, reason = "the tests ask, the fuzzer does not")]
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// How many messages of peers were read so far.
    #[allow(dead_code, reason = "the tests ask, the fuzzer does not")]
    pub fn heartbeats(&self) -> u64 {
        self.heartbeats
    }

    /// One input: a datagram as it is, and as the PDU of messages that are authentic.
    pub fn feed(&mut self, input: &[u8]) {
        self.inputs += 1;
        if self.inputs.is_multiple_of(ANEW) {
            let Doors { inputs, fed, taken, heartbeats, .. } = *self;
            *self = Doors { inputs, fed, taken, heartbeats, ..Doors::new() };
        }
        self.now = Time::from_nanos(self.now.as_nanos() + 1_000_000);
        if let Ok(trap) = Trap::decode(input) {
            // What was understood can be said, and understood, again.
            let again = trap.normalised();
            assert!(trap.varbinds().count() <= evenkeel_core::trap::varbinds(&again).count() + 2);
        }
        let _ = message::parse(input);
        self.arrive(input);
        self.answered(input);
        self.say(input);
        self.mobility_header(input);
        self.echo(input);
        self.monitored();
        if let Some((&choice, pdu)) = input.split_first() {
            self.sealed(choice, pdu);
        }
    }

    /// A datagram at the agent's socket.
    fn arrive(&mut self, bytes: &[u8]) {
        self.fed = self.fed.wrapping_add(1);
        let source = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, self.fed as u8)), 162);
        let datagram = Datagram { source, received: self.now, door: Door::default(), bytes };
        self.agent.handle(&Input::Datagram(datagram));
        let up_to = self.now;
        self.agent.handle(&Input::Heard { ear: Ear::Traps, up_to, lost: 0, limited: 0 });
        while let Some(answer) = self.agent.poll_answer() {
            assert!(!answer.bytes.is_empty(), "an empty answer");
            assert_eq!(answer.to, source, "an answer to somebody else");
            // Nobody can be made to send more than a little beyond what he sends (RFC 3412, 7.1).
            assert!(answer.bytes.len() <= bytes.len() + 512, "an answer that amplifies");
            // An answer never makes an agent answer.
            self.no_answer(&answer.bytes);
        }
        while let Some(taken) = self.agent.poll_taken() {
            self.taken += 1;
            let mut varbinds = evenkeel_core::trap::varbinds(&taken.varbinds);
            assert!(varbinds.next().is_some(), "a trap without sysUpTime.0");
            self.say(&taken.varbinds);
        }
        while self.agent.poll_event().is_some() {}
        while self.agent.poll_transmit().is_some() {}
    }

    fn no_answer(&mut self, bytes: &[u8]) {
        let source = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 162);
        let datagram = Datagram { source, received: self.now, door: Door::default(), bytes };
        self.agent.handle(&Input::Datagram(datagram));
        assert_eq!(self.agent.poll_answer(), None, "an answer was answered");
    }

    /// A datagram from a notification target.
    fn answered(&mut self, bytes: &[u8]) {
        for session in &mut self.sessions {
            session.hear(bytes, self.now);
        }
    }

    /// Octets as the varbinds of what is to be sent, in every form.
    fn say(&mut self, varbinds: &[u8]) {
        let notice = Notice { request_id: 1, varbinds, agent_address: Ipv4Addr::new(127, 0, 0, 1) };
        for session in &mut self.sessions {
            let _ = session.encode(&notice, self.now);
        }
        let community = b"public".to_vec();
        let v1 = Destination { version: Version::V1 { community }, confirmed: false };
        let _ = Session::new(v1, local(), 7).encode(&notice, self.now);
    }

    /// A Mobility Header from each peer, as it is and with the checksum that is right for it.
    fn mobility_header(&mut self, bytes: &[u8]) {
        let mut right = bytes.to_vec();
        for place in 0..PEERS {
            let path = match address(place) {
                IpAddr::V4(_) => None,
                IpAddr::V6(source) => Some(Path { source, destination: Ipv6Addr::LOCALHOST }),
            };
            if let (Some(path), Some(&units)) = (path, bytes.get(1))
                && let Some(message) = right.get_mut(..(usize::from(units) + 1) * 8)
            {
                message[4..6].fill(0);
                let sum = mobility::checksum(message, path);
                message[4..6].copy_from_slice(&sum.to_be_bytes());
            }
            for bytes in [bytes, &right] {
                if let Ok(message) = mobility::parse(bytes, path) {
                    self.heartbeats += 1;
                    self.heartbeat(place, message);
                }
            }
        }
    }

    fn heartbeat(&mut self, place: u32, message: mobility::Message) {
        let mut buffer = [0; mobility::MOST];
        let built = message.build(&mut buffer);
        let received = self.now;
        match message {
            // What was understood can be said, and understood, again.
            mobility::Message::Request { .. } => {
                assert_eq!(mobility::parse(built, None), Ok(message));
            }
            mobility::Message::Response { sequence, restart_counter } => {
                assert_eq!(mobility::parse(built, None), Ok(message));
                let answer = Answer { restart_counter, ..answer(place, sequence, received) };
                let _ = self.monitor.answer(&answer);
            }
            mobility::Message::Unsolicited { restart_counter } => {
                assert_eq!(mobility::parse(built, None), Ok(message));
                if let Some(counter) = restart_counter {
                    self.monitor.restart_counter(place, counter, received);
                }
            }
            mobility::Message::Unrecognized => self.monitor.unsupported(place, received),
            mobility::Message::Other { .. } => assert!(built.is_empty()),
        }
    }

    /// An answer to an echo: as a raw socket of either family gives it, with the checksum that is right
    /// for it as well.
    fn echo(&mut self, bytes: &[u8]) {
        let mut right = bytes.to_vec();
        if let Some(message) = right.get_mut(..echo::LEN) {
            message[2..4].fill(0);
            let words = message.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
            let sum: u32 = words.sum();
            let sum = (sum & 0xffff) + (sum >> 16);
            let sum = !(((sum & 0xffff) + (sum >> 16)) as u16);
            message[2..4].copy_from_slice(&sum.to_be_bytes());
        }
        let packet = echo::message_of_ipv4(bytes).and_then(Echo::read_v4);
        for read in [packet, Echo::read_v4(bytes), Echo::read_v4(&right), Echo::read_v6(bytes)] {
            let Ok(Echo { place, sequence, token, sent, .. }) = read else { continue };
            self.heartbeats += 1;
            let answer = answer(place, sequence, self.now);
            let sent = Some(sent).filter(|sent| *sent <= self.now);
            let _ = self.monitor.answer(&Answer { token: Some(token), sent, ..answer });
        }
    }

    /// What the peer monitor makes of all that.
    fn monitored(&mut self) {
        self.monitor.judge(self.now);
        let mut requests = Vec::new();
        self.monitor.take_requests(self.now, &mut requests);
        self.monitor.left(self.now, self.now);
        assert!(requests.len() <= 2 * PEERS as usize, "more requests than peers");
        let found = std::iter::from_fn(|| self.monitor.poll_finding(self.now)).count();
        assert!(found <= 3 * PEERS as usize, "{found} findings at once");
        let stats = self.monitor.stats();
        assert_eq!(stats.groups[0].peers.iter().sum::<u32>(), PEERS, "a peer got lost");
    }

    /// The octets as a PDU in authentic messages: a trap of another engine, an inform to ours, and an
    /// answer of a target.
    fn sealed(&mut self, choice: u8, pdu: &[u8]) {
        let fixed = fixed();
        let at = usize::from(choice) % fixed.users.len();
        let user = &fixed.users[at];
        for (which, engine) in [&ENGINE[..], &OTHER[..]].into_iter().enumerate() {
            let outgoing = Outgoing {
                msg_id: self.fed,
                max_size: 65_507,
                reportable: which == 0,
                level: user.min_level,
                engine,
                boots: 1,
                time: u32::try_from(self.now.as_millis() / 1000).expect("a short run"),
                user: &user.name,
                context_engine: engine,
                context: b"",
                pdu,
            };
            let bytes = message::seal(&outgoing, &fixed.keys[at][which], self.fed as u64);
            assert!(!bytes.is_empty(), "a user's keys reach his level");
            self.arrive(&bytes);
            self.answered(&bytes);
        }
    }
}

impl Default for Doors {
    fn default() -> Doors {
        Doors::new()
    }
}

/// A monitor of a few peers, each asked every second.
fn monitor(now: Time) -> Monitor {
    let second = Duration::from_secs(1);
    let group = peer_settings::Group {
        interval: second,
        timeout: second / 2,
        ..peer_settings::Group::named("fuzzed")
    };
    let settings = peer_settings::Settings { groups: vec![group], ..Default::default() };
    let mut monitor = Monitor::new(&settings, 7, false, now);
    for place in 0..PEERS {
        let address = address(place);
        let change = Change::Add { place, address, group: 0, enabled: true, down: false };
        monitor.apply(&change, now);
    }
    monitor
}

fn address(place: u32) -> IpAddr {
    if place.is_multiple_of(2) {
        Ipv4Addr::from_bits(0x0a00_0000 | place).into()
    } else {
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, place as u16).into()
    }
}

fn answer(place: u32, sequence: u32, received: Time) -> Answer {
    Answer {
        place,
        source: address(place),
        sequence,
        token: None,
        interface: None,
        received,
        sent: None,
        restart_counter: None,
    }
}

fn id(octets: &[u8]) -> EngineId {
    EngineId::new(octets).expect("a constant")
}

fn local() -> LocalEngine {
    LocalEngine { id: id(&ENGINE), boots: 1, started: Time::ZERO }
}

/// One user of each kind: no protocol, each authentication alone, each with each privacy.
fn fixed() -> &'static Fixed {
    static FIXED: OnceLock<Fixed> = OnceLock::new();
    FIXED.get_or_init(|| {
        let mut users = vec![user("none.none".to_owned(), None, None)];
        for (auth_name, protocol) in AUTH {
            let master =
                |passphrase: &str| Key::Master(keys::master_key(protocol, passphrase.as_bytes()));
            let auth = Auth { protocol, key: master(AUTH_PASSPHRASE) };
            let privacy_key = master(PRIVACY_PASSPHRASE);
            users.push(user(format!("{auth_name}.none"), Some(auth.clone()), None));
            for (privacy_name, protocol) in PRIVACY {
                let privacy = Privacy { protocol, key: privacy_key.clone() };
                let name = format!("{auth_name}.{privacy_name}");
                users.push(user(name, Some(auth.clone()), Some(privacy)));
            }
        }
        // Localised once, as a key that is made longer takes as long as a passphrase.
        let engines = [id(&ENGINE), id(&OTHER)];
        let keys = users
            .iter()
            .map(|user| {
                engines.each_ref().map(|engine| {
                    SessionKeys::new(user.auth.as_ref(), user.privacy.as_ref(), engine)
                })
            })
            .collect();
        let settings = Settings {
            access: Access {
                communities: vec![Community { name: None, sources: Vec::new() }],
                forwarders: vec!["127.0.0.0/8".parse().expect("a constant")],
                users: users.clone(),
                max_engines: 8,
                ..Access::default()
            },
            forwarding: forwarding(),
            ..Settings::default()
        };
        Fixed { users, keys, settings }
    })
}

fn user(name: String, auth: Option<Auth>, privacy: Option<Privacy>) -> User {
    let min_level = match (&auth, &privacy) {
        (None, _) => Level::NoAuthNoPriv,
        (Some(_), None) => Level::AuthNoPriv,
        (Some(_), Some(_)) => Level::AuthPriv,
    };
    let name = name.into_bytes();
    User { name, auth, privacy, min_level, engines: Vec::new(), learn: true }
}

/// Everything goes to one target that acknowledges, and to one that gets the original.
fn forwarding() -> Forwarding {
    let target =
        |name: &str, durable| ForwardTarget { name: name.to_owned(), durable, original: !durable };
    Forwarding {
        targets: vec![target("durable", true), target("original", false)],
        rules: vec![ForwardRule {
            traps: Vec::new(),
            systems: Vec::new(),
            groups: Vec::new(),
            states: Vec::new(),
            during_unstable: DuringUnstable::Forward,
            targets: vec![0, 1],
        }],
        mark: ENGINE.to_vec(),
        // 1.3.6.1.4.1.8072.9999.9999.1904.1.35, evenkeelForwardedBy under the default root.
        mark_oid: vec![0x2b, 6, 1, 4, 1, 0xbf, 8, 0xce, 15, 0xce, 15, 0x8e, 0x70, 1, 35],
        receivers: Vec::new(),
    }
}
