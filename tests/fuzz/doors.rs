//! Every place where a datagram is read, behind one function: what the fuzzer runs, and what the
//! ordinary tests run with the seeds.
//!
//! A message of SNMPv3 whose digest is wrong is read no further, so chance alone would never see
//! what comes after. Therefore each input is also sealed: its octets are the PDU of a message that is
//! authentic and, for most users, encrypted.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::OnceLock,
};

use evenkeel_core::{
    agent::Agent,
    input::{Datagram, Door, Ear, Input},
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
    now: Time,
    inputs: u32,
    fed: i32,
    taken: u64,
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
        Doors { agent, sessions, now: Time::from_secs(10), inputs: 0, fed: 0, taken: 0 }
    }

    /// How many traps were taken in so far.
    #[allow(dead_code, reason = "the tests ask, the fuzzer does not")]
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// One input: a datagram as it is, and as the PDU of messages that are authentic.
    pub fn feed(&mut self, input: &[u8]) {
        self.inputs += 1;
        if self.inputs.is_multiple_of(ANEW) {
            let (inputs, fed, taken) = (self.inputs, self.fed, self.taken);
            *self = Doors { inputs, fed, taken, ..Doors::new() };
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
    }
}
