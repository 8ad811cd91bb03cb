//! SNMPv3 through its one door (TRAP-4): what is taken, at which step the rest fails, and what is
//! answered.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::LazyLock,
    time::Duration,
};

use evenkeel_core::{
    ber::{Reader, tag},
    ber_writer::Writer,
    time::Time,
    trap::Malformed,
    usm::{
        Auth, AuthProtocol, EngineId, Key, Level, LocalEngine, Opened, PrivProtocol, Privacy,
        Refusal, Secret, SessionKeys, Step, User, Usm, keys,
        message::{self, Outgoing},
    },
};
use proptest::prelude::*;

const NOW: Time = Time::from_secs(100_000);
const AUTH_PASSPHRASE: &[u8] = b"correct horse";
const PRIV_PASSPHRASE: &[u8] = b"battery staple";
/// Where messages come from.
const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
/// The boots of a device that sends.
const BOOTS: u32 = 7;
/// Its time when the clock here shows [`NOW`].
const TIME: u32 = 12_345;

fn later(seconds: u64) -> Time {
    NOW + Duration::from_secs(seconds)
}

fn device(number: u8) -> EngineId {
    EngineId::new(&[0x80, 0, 0x1f, 0x88, 4, b'd', b'e', b'v', number]).unwrap()
}

/// Ours has boots 3, and runs for 1000 s.
fn local() -> LocalEngine {
    let id = EngineId::new(&[0x80, 0, 0x1f, 0x88, 4, b'k', b'e', b'e', b'l']).unwrap();
    LocalEngine { id, boots: 3, started: NOW - Duration::from_secs(1000) }
}

/// A user who learns, with keys for all that `level` asks, and with `level` as the least.
fn user(auth: AuthProtocol, privacy: PrivProtocol, level: Level) -> User {
    // A master key is the hash of a megabyte: made once, not for each test.
    static MASTERS: LazyLock<[[Key; 2]; 6]> = LazyLock::new(|| {
        AuthProtocol::ALL.map(|auth| {
            [AUTH_PASSPHRASE, PRIV_PASSPHRASE]
                .map(|passphrase| Key::Master(keys::master_key(auth, passphrase)))
        })
    });
    let [auth_key, priv_key] = MASTERS[auth as usize].clone();
    let auth = Auth { protocol: auth, key: auth_key };
    let privacy = Privacy { protocol: privacy, key: priv_key };
    User {
        name: b"tower".to_vec(),
        auth: (level >= Level::AuthNoPriv).then_some(auth),
        privacy: (level >= Level::AuthPriv).then_some(privacy),
        min_level: level,
        engines: Vec::new(),
        learn: true,
    }
}

/// The user of most tests: SHA-1 and AES-128, and whatever level.
fn tower() -> User {
    User {
        min_level: Level::NoAuthNoPriv,
        ..user(AuthProtocol::Sha1, PrivProtocol::Aes128, Level::AuthPriv)
    }
}

fn agent(users: &[User]) -> Usm {
    Usm::new(local(), users, 1000, 42)
}

fn session(user: &User, engine: &EngineId) -> SessionKeys {
    SessionKeys::new(user.auth.as_ref(), user.privacy.as_ref(), engine)
}

fn pdu(pdu_tag: u8) -> Vec<u8> {
    let mut pdu = Writer::new();
    pdu.nested(pdu_tag, |pdu| {
        pdu.integer(4711);
        pdu.integer(0);
        pdu.integer(0);
        pdu.nested(tag::SEQUENCE, |list| {
            list.nested(tag::SEQUENCE, |varbind| {
                varbind.oid(&[1, 3, 6, 1, 2, 1, 1, 3, 0]).unwrap();
                varbind.unsigned(tag::TIME_TICKS, 8_640_000);
            });
        });
    });
    pdu.into_bytes()
}

/// A message of a user; what differs from the ordinary is set by the test.
struct Sent<'a> {
    user: &'a User,
    engine: EngineId,
    boots: u32,
    time: u32,
    level: Level,
    pdu: Vec<u8>,
    reportable: bool,
}

impl<'a> Sent<'a> {
    fn trap(user: &'a User, level: Level) -> Sent<'a> {
        Sent {
            user,
            engine: device(1),
            boots: BOOTS,
            time: TIME,
            level,
            pdu: pdu(tag::TRAP_V2),
            reportable: false,
        }
    }

    fn inform(user: &'a User, level: Level) -> Sent<'a> {
        Sent {
            engine: local().id,
            boots: 3,
            time: 1000,
            pdu: pdu(tag::INFORM),
            reportable: true,
            ..Sent::trap(user, level)
        }
    }

    fn outgoing(&self) -> Outgoing<'_> {
        Outgoing {
            msg_id: 99,
            max_size: 1472,
            reportable: self.reportable,
            level: self.level,
            engine: self.engine.octets(),
            boots: self.boots,
            time: self.time,
            user: &self.user.name,
            context_engine: self.engine.octets(),
            context: b"vrf1",
            pdu: &self.pdu,
        }
    }

    fn sealed(&self) -> Vec<u8> {
        message::seal(&self.outgoing(), &session(self.user, &self.engine), 0x0102_0304_0506_0708)
    }
}

fn step(usm: &mut Usm, datagram: &[u8], now: Time) -> Option<Step> {
    usm.open(datagram, SOURCE, now, &mut Vec::new()).err().map(|refusal| refusal.step)
}

/// What a Report says: level, the arc of the counter below 1.3.6.1.6.3, its value and the request-id.
fn report(octets: &[u8], keys: &SessionKeys) -> (Level, Vec<u8>, u32, i32) {
    let incoming = message::parse(octets).unwrap();
    assert_eq!((incoming.msg_id, incoming.engine), (99, local().id.octets()));
    assert_eq!((incoming.boots, incoming.time), (3, 1000));
    assert!(!incoming.reportable(), "a Report must not be answered");
    let level = incoming.level().unwrap();
    let mut buffer = Vec::new();
    let scoped = message::unseal(&incoming, octets, keys, level, &mut buffer).unwrap();
    assert_eq!(scoped.context_engine, local().id.octets());
    let request_id = message::request_id(scoped.pdu).unwrap();
    let mut pdu = Reader::new(Reader::new(scoped.pdu).expect(message::REPORT).unwrap());
    for _ in 0..3 {
        pdu.expect(tag::INTEGER).unwrap();
    }
    let mut list = Reader::new(pdu.expect(tag::SEQUENCE).unwrap());
    let mut varbind = Reader::new(list.expect(tag::SEQUENCE).unwrap());
    let name = varbind.expect(tag::OID).unwrap();
    let value = evenkeel_core::ber::unsigned(varbind.expect(tag::COUNTER32).unwrap()).unwrap();
    (level, name.strip_prefix(&[0x2b, 6, 1, 6, 3]).unwrap().to_vec(), value, request_id)
}

#[test]
fn trap_4_what_net_snmp_sends_is_opened_for_every_algorithm_of_its_build() {
    let vectors = include_str!("../src/usm/vectors/net-snmp-5.9.3.txt");
    let mut opened = 0;
    for line in vectors.lines().filter(|line| !line.starts_with('#')) {
        let [auth, privacy, hex] = line.split(' ').collect::<Vec<_>>()[..] else { panic!() };
        let octets: Vec<u8> = (0..hex.len() / 2)
            .map(|place| u8::from_str_radix(&hex[place * 2..place * 2 + 2], 16).unwrap())
            .collect();
        let auth = AuthProtocol::ALL.into_iter().find(|one| one.name() == auth);
        let privacy = PrivProtocol::ALL.into_iter().find(|one| one.name() == privacy);
        let level = match (auth, privacy) {
            (None, _) => Level::NoAuthNoPriv,
            (_, None) => Level::AuthNoPriv,
            _ => Level::AuthPriv,
        };
        let user =
            user(auth.unwrap_or(AuthProtocol::Md5), privacy.unwrap_or(PrivProtocol::Des), level);
        let mut usm = agent(&[user]);
        let mut buffer = Vec::new();
        let message = usm.open(&octets, SOURCE, NOW, &mut buffer).expect(line);
        assert_eq!((message.level, message.inform, message.user), (level, false, &b"tower"[..]));
        assert_eq!(message.engine.to_string(), "0x80001f8804746f77657231");
        // linkDown of ifIndex 3.
        let pdu = message.pdu;
        assert_eq!(pdu[0], tag::TRAP_V2);
        assert!(pdu.ends_with(&[0x2b, 6, 1, 2, 1, 2, 2, 1, 1, 3, 2, 1, 3]), "{line}");
        let learned = usm.export(NOW);
        match level {
            Level::NoAuthNoPriv => assert!(learned.is_empty()),
            _ => assert_eq!((learned[0].boots, learned[0].time), (7, 12_345)),
        }
        opened += 1;
    }
    assert_eq!(opened, 1 + 6 + 6 * 6);
}

#[test]
fn trap_4_every_algorithm_and_level_goes_there_and_back() {
    for auth in AuthProtocol::ALL {
        for privacy in PrivProtocol::ALL {
            let user =
                User { min_level: Level::NoAuthNoPriv, ..user(auth, privacy, Level::AuthPriv) };
            let mut usm = agent(std::slice::from_ref(&user));
            for level in [Level::NoAuthNoPriv, Level::AuthNoPriv, Level::AuthPriv] {
                for sent in [Sent::trap(&user, level), Sent::inform(&user, level)] {
                    let (octets, mut buffer) = (sent.sealed(), Vec::new());
                    let Opened { inform, engine, pdu, reply, context_engine, .. } =
                        usm.open(&octets, SOURCE, NOW, &mut buffer).expect("it is sealed right");
                    assert_eq!(pdu, sent.pdu);
                    assert_eq!((&engine, context_engine), (&sent.engine, sent.engine.octets()));
                    assert_eq!(inform, sent.reportable);
                    assert_eq!(reply.max_size, 1472);
                    if !inform {
                        continue;
                    }
                    let response = usm.respond(&reply, &response_pdu(), NOW);
                    let incoming = message::parse(&response).unwrap();
                    assert_eq!((incoming.msg_id, incoming.level()), (99, Some(level)));
                    assert_eq!((incoming.boots, incoming.time), (3, 1000));
                    let keys = session(&user, &local().id);
                    let scoped =
                        message::unseal(&incoming, &response, &keys, level, &mut buffer).unwrap();
                    assert_eq!(scoped.pdu, response_pdu());
                    assert_eq!(scoped.context, b"vrf1");
                }
            }
        }
    }
}

fn response_pdu() -> Vec<u8> {
    pdu(message::RESPONSE)
}

#[test]
fn trap_4_every_step_is_told_apart_counted_and_reported_as_rfc_3414_says() {
    let tower = tower();
    let strict = User { name: b"strict".to_vec(), min_level: Level::AuthPriv, ..tower.clone() };
    let listed =
        User { name: b"listed".to_vec(), engines: vec![device(9)], learn: false, ..tower.clone() };
    let plain = User {
        name: b"plain".to_vec(),
        auth: None,
        privacy: None,
        min_level: Level::NoAuthNoPriv,
        ..tower.clone()
    };
    let wrong = |name: &[u8], change: &dyn Fn(&mut User)| {
        let mut user = User { name: name.to_vec(), ..tower.clone() };
        change(&mut user);
        user
    };
    let nobody = wrong(b"nobody", &|_| ());
    let forger = wrong(b"tower", &|user| {
        user.auth.as_mut().unwrap().key = Key::Master(Secret(vec![1; 20]));
    });
    let garbler = wrong(b"tower", &|user| {
        user.privacy.as_mut().unwrap().key = Key::Master(Secret(vec![1; 20]));
    });
    let daring = wrong(b"plain", &|_| ());

    use Level::{AuthNoPriv, AuthPriv, NoAuthNoPriv};
    let usm_stats = |arc| [15, 1, 1, arc, 0].to_vec();
    let at = |sent: Sent<'_>, boots, time| Sent { boots, time, ..sent }.sealed();
    let nowhere = |user, level| {
        let sent = Sent::inform(user, level);
        message::seal(&Outgoing { engine: &[], ..sent.outgoing() }, &session(user, &device(1)), 1)
    };
    // What is sent, the step, and the Report's counter and level if there is one.
    let no_report = None;
    for (name, octets, wanted, told) in [
        (
            "discovery",
            nowhere(&plain, NoAuthNoPriv),
            Step::Discovery,
            Some((usm_stats(4), NoAuthNoPriv)),
        ),
        (
            "no engine, and no request",
            message::seal(
                &Outgoing {
                    engine: &[],
                    pdu: &pdu(tag::TRAP_V2),
                    reportable: false,
                    ..Sent::inform(&plain, NoAuthNoPriv).outgoing()
                },
                &SessionKeys::NONE,
                1,
            ),
            Step::UnknownEngine,
            no_report.clone(),
        ),
        (
            "an inform for another engine",
            Sent { engine: device(5), ..Sent::inform(&tower, AuthNoPriv) }.sealed(),
            Step::UnknownEngine,
            Some((usm_stats(4), NoAuthNoPriv)),
        ),
        (
            "the same encrypted",
            Sent { engine: device(5), ..Sent::inform(&tower, AuthPriv) }.sealed(),
            Step::UnknownEngine,
            Some((usm_stats(4), NoAuthNoPriv)),
        ),
        (
            "an inform of nobody",
            Sent::inform(&nobody, AuthPriv).sealed(),
            Step::UnknownUser,
            Some((usm_stats(3), NoAuthNoPriv)),
        ),
        ("a trap of nobody", Sent::trap(&nobody, AuthPriv).sealed(), Step::UnknownUser, None),
        (
            "an engine that is not listed",
            Sent::trap(&listed, AuthPriv).sealed(),
            Step::EngineNotAllowed,
            None,
        ),
        (
            "a level without keys",
            Sent { user: &daring, ..Sent::inform(&daring, AuthPriv) }.sealed(),
            Step::UnsupportedLevel,
            Some((usm_stats(1), NoAuthNoPriv)),
        ),
        (
            "a level too low",
            Sent::inform(&strict, AuthNoPriv).sealed(),
            Step::BelowMinimumLevel,
            Some((usm_stats(1), NoAuthNoPriv)),
        ),
        (
            "a trap with a level too low",
            Sent::trap(&strict, NoAuthNoPriv).sealed(),
            Step::BelowMinimumLevel,
            None,
        ),
        (
            "another passphrase",
            Sent::inform(&forger, AuthNoPriv).sealed(),
            Step::WrongDigest,
            Some((usm_stats(5), NoAuthNoPriv)),
        ),
        ("the same trap", Sent::trap(&forger, AuthPriv).sealed(), Step::WrongDigest, None),
        (
            "what is the time",
            at(Sent::inform(&tower, AuthNoPriv), 0, 0),
            Step::TimeDiscovery,
            Some((usm_stats(2), AuthNoPriv)),
        ),
        (
            "a replay of an inform",
            at(Sent::inform(&tower, AuthPriv), 3, 849),
            Step::NotInTimeWindow,
            Some((usm_stats(2), AuthNoPriv)),
        ),
        (
            "another privacy passphrase",
            Sent::inform(&garbler, AuthPriv).sealed(),
            Step::DecryptionFailed,
            Some((usm_stats(6), NoAuthNoPriv)),
        ),
        (
            "the same trap of an engine to be learned",
            Sent::trap(&garbler, AuthPriv).sealed(),
            Step::DecryptionFailed,
            None,
        ),
        (
            "a request",
            Sent { pdu: pdu(message::GET), ..Sent::inform(&tower, AuthPriv) }.sealed(),
            Step::Malformed(Malformed::NotATrap),
            Some(([11, 2, 1, 3, 0].to_vec(), NoAuthNoPriv)),
        ),
        (
            "a Response, which is never answered",
            Sent { pdu: response_pdu(), ..Sent::inform(&tower, AuthPriv) }.sealed(),
            Step::Malformed(Malformed::NotATrap),
            None,
        ),
        (
            "a Report with a wrong digest",
            Sent { pdu: pdu(message::REPORT), ..Sent::inform(&forger, AuthNoPriv) }.sealed(),
            Step::WrongDigest,
            None,
        ),
    ] {
        let mut usm = agent(&[tower.clone(), strict.clone(), listed.clone(), plain.clone()]);
        let mut buffer = Vec::new();
        let Refusal { step, report: answer } =
            usm.open(&octets, SOURCE, NOW, &mut buffer).expect_err(name);
        assert_eq!(step, wanted, "{name}");
        assert_eq!(usm.stats().refused(step), 1, "{name}");
        let answer = answer.map(|octets| report(&octets, &session(&tower, &local().id)));
        let plainly = message::parse(&octets).unwrap().level() != Some(AuthPriv);
        let told = told.map(|(counter, level)| (level, counter));
        assert_eq!(answer.clone().map(|(level, counter, ..)| (level, counter)), told, "{name}");
        if let Some((_, counter, value, request_id)) = answer {
            assert_eq!(value, 1, "{name}");
            let readable = plainly || counter[0] == 11 || name == "the same encrypted";
            assert_eq!(request_id, if readable { 4711 } else { 0 }, "{name}");
        }
        let stats = usm.stats();
        let counted = [
            stats.unsupported_sec_levels,
            stats.not_in_time_windows,
            stats.unknown_user_names,
            stats.unknown_engine_ids,
            stats.wrong_digests,
            stats.decryption_errors,
        ];
        assert_eq!(counted.iter().sum::<u64>() + stats.unknown_pdu_handlers, 1, "{name}");
        assert!(usm.engines() <= 2, "{name}");
    }
}

#[test]
fn trap_4_what_fails_before_usm_is_told_apart_too() {
    let user = tower();
    let plain = Sent::inform(&user, Level::AuthNoPriv).sealed();
    let encrypted = Sent::inform(&user, Level::AuthPriv).sealed();
    let mut usm = agent(std::slice::from_ref(&user));
    let mut changed = |good: &[u8], before: &[u8], value: u8| {
        let place = good.windows(before.len()).position(|part| part == before).unwrap();
        let mut octets = good.to_vec();
        octets[place + before.len()] = value;
        let mut buffer = Vec::new();
        let Refusal { step, report } = usm.open(&octets, SOURCE, NOW, &mut buffer).unwrap_err();
        assert_eq!(report, None);
        step
    };
    let malformed = Step::Malformed;
    // msgMaxSize 1472, then msgFlags, then msgSecurityModel.
    let max_size = [2, 2, 5, 0xc0];
    let flags = [&max_size[..], &[4, 1]].concat();
    assert_eq!(changed(&encrypted, &flags, 2 | 4), Step::InvalidFlags);
    assert_eq!(changed(&plain, &flags, 1 | 2 | 4), malformed(Malformed::WrongType));
    assert_eq!(changed(&encrypted, &flags, 1 | 4), malformed(Malformed::WrongType));
    let model = [&flags[..], &[5, 2, 1]].concat();
    assert_eq!(changed(&plain, &model, 2), Step::UnknownSecurityModel);
    assert_eq!(changed(&plain, &[2, 1], 1), malformed(Malformed::UnsupportedVersion));
    assert_eq!(usm.stats().refused(Step::UnknownSecurityModel), 1);
}

#[test]
fn trap_4_an_inform_by_discovery_as_rfc_3414_has_it() {
    let user = User { min_level: Level::AuthPriv, ..tower() };
    let mut usm = agent(std::slice::from_ref(&user));
    let keys = session(&user, &local().id);
    let mut buffer = Vec::new();
    // Section 4: who are you, what is your time, then the inform.
    let request = Sent::inform(&user, Level::NoAuthNoPriv);
    let who = Outgoing {
        engine: &[],
        user: &[],
        pdu: &pdu(message::GET),
        boots: 0,
        time: 0,
        context_engine: &[],
        context: &[],
        ..request.outgoing()
    };
    let answer = usm.open(&message::seal(&who, &keys, 1), SOURCE, NOW, &mut buffer).unwrap_err();
    let (_, counter, ..) = report(&answer.report.unwrap(), &keys);
    assert_eq!(counter, [15, 1, 1, 4, 0]);
    let when = Sent { boots: 0, time: 0, ..Sent::inform(&user, Level::AuthPriv) };
    let answer = usm.open(&when.sealed(), SOURCE, NOW, &mut buffer).unwrap_err();
    let (level, counter, ..) = report(&answer.report.unwrap(), &keys);
    assert_eq!((level, counter), (Level::AuthNoPriv, vec![15, 1, 1, 2, 0]));
    let inform = Sent::inform(&user, Level::AuthPriv).sealed();
    assert!(usm.open(&inform, SOURCE, NOW, &mut buffer).unwrap().inform);
    assert!(!Step::Discovery.is_error() && !Step::TimeDiscovery.is_error());

    // Repeated within the window it is opened again, as its Response may be lost; not after.
    assert!(usm.open(&inform, SOURCE, later(150), &mut buffer).is_ok());
    assert_eq!(step(&mut usm, &inform, later(151)), Some(Step::NotInTimeWindow));
    // Nor in our next run.
    let next = LocalEngine { boots: 4, started: NOW, ..local() };
    let mut usm = Usm::new(next, std::slice::from_ref(&user), 1000, 43);
    assert_eq!(step(&mut usm, &inform, NOW), Some(Step::NotInTimeWindow));
}

#[test]
fn trap_4_an_altered_octet_anywhere_is_refused() {
    let privacies = [PrivProtocol::Des, PrivProtocol::Aes128, PrivProtocol::Aes256];
    for (auth, privacy) in AuthProtocol::ALL.into_iter().zip(privacies.into_iter().cycle()) {
        for level in [Level::AuthNoPriv, Level::AuthPriv] {
            let user = User { min_level: level, ..user(auth, privacy, Level::AuthPriv) };
            for sent in [Sent::trap(&user, level), Sent::inform(&user, level)] {
                let mut usm = agent(std::slice::from_ref(&user));
                let mut octets = sent.sealed();
                let mut buffer = Vec::new();
                for place in 0..octets.len() {
                    for bit in [0x01, 0x10, 0x80] {
                        octets[place] ^= bit;
                        // Somebody else, or he would be refused for what he has forged.
                        let forger = Ipv4Addr::LOCALHOST.into();
                        let opened = usm.open(&octets, forger, NOW, &mut buffer);
                        assert!(opened.is_err(), "{auth:?} {level:?}: bit {bit:#x} of {place}");
                        octets[place] ^= bit;
                    }
                }
                assert_eq!(usm.engines(), 0, "nothing was learned of them");
                assert!(usm.open(&octets, SOURCE, NOW, &mut buffer).is_ok());
            }
        }
    }
}

#[test]
fn trap_7_a_message_cut_anywhere_is_refused_and_one_with_octets_behind_it_is_taken() {
    let user = tower();
    let mut usm = agent(std::slice::from_ref(&user));
    for level in [Level::NoAuthNoPriv, Level::AuthNoPriv, Level::AuthPriv] {
        for sent in [Sent::trap(&user, level), Sent::inform(&user, level)] {
            let mut octets = sent.sealed();
            for length in 0..octets.len() {
                let refused = step(&mut usm, &octets[..length], NOW);
                assert_eq!(refused, Some(Step::Malformed(Malformed::Truncated)), "at {length}");
            }
            octets.extend_from_slice(&[0; 40]);
            assert_eq!(step(&mut usm, &octets, NOW), None);
        }
    }
}

#[test]
fn trap_4_ciphertext_that_is_cut_inside_an_authentic_message_is_a_decryption_error() {
    // Sealed by one who has the right keys, and garbles what is encrypted.
    for (privacy, cut) in
        [(PrivProtocol::Des, 1), (PrivProtocol::Des, 8), (PrivProtocol::Aes128, 1)]
    {
        let user = user(AuthProtocol::Sha1, privacy, Level::AuthPriv);
        let sent = Sent::inform(&user, Level::AuthPriv);
        let octets = sent.sealed();
        let mut shorter = octets[..octets.len() - cut].to_vec();
        // The length of the whole, which is one octet or two, and that of the ciphertext.
        let whole = if shorter[1] == 0x81 { 2 } else { 1 };
        shorter[whole] -= cut as u8;
        let salt = shorter.windows(2).rposition(|two| two == [4, 8]).unwrap();
        let length = salt + 2 + 8 + 1;
        shorter[length] -= cut as u8;
        let digest = salt - 12;
        shorter[digest..salt].fill(0);
        resign(&mut shorter, digest, &user);
        let mut usm = agent(std::slice::from_ref(&user));
        assert_eq!(step(&mut usm, &shorter, NOW), Some(Step::DecryptionFailed), "{privacy:?}");
        assert_eq!(usm.stats().decryption_errors, 1);
    }
}

/// HMAC-SHA-96 over the whole, by the primitives themselves.
fn resign(message: &mut [u8], at: usize, user: &User) {
    use hmac::{Hmac, KeyInit, Mac};
    let Some(Auth { protocol, key: Key::Master(master) }) = &user.auth else { panic!() };
    let key = keys::localise(*protocol, master, &local().id);
    let mut hmac = Hmac::<sha1::Sha1>::new_from_slice(&key.0).unwrap();
    hmac.update(message);
    let digest = hmac.finalize().into_bytes();
    message[at..at + 12].copy_from_slice(&digest[..12]);
}

#[test]
fn trap_4_boots_and_time_of_an_engine_never_go_back() {
    let user = tower();
    let mut usm = agent(std::slice::from_ref(&user));
    let at = |boots, time| Sent { boots, time, ..Sent::trap(&user, Level::AuthPriv) }.sealed();
    let known = |usm: &Usm, now| {
        let engine = usm.export(now).remove(0);
        (engine.boots, engine.time)
    };
    let first = at(7, 12_345);
    assert_eq!(step(&mut usm, &first, NOW), None);
    assert_eq!(step(&mut usm, &first, later(150)), None, "a copy on its way");
    assert_eq!(step(&mut usm, &first, later(151)), Some(Step::NotInTimeWindow));
    assert_eq!(step(&mut usm, &at(8, 2), later(160)), None, "it restarted");
    assert_eq!(step(&mut usm, &at(7, 99_999), later(161)), Some(Step::NotInTimeWindow));
    assert_eq!(known(&usm, later(161)), (8, 2));
    assert_eq!(usm.stats().not_in_time_windows, 2);

    // noAuthNoPriv moves nothing, whatever it says.
    let plain = Sent { boots: 99, time: 1, ..Sent::trap(&user, Level::NoAuthNoPriv) }.sealed();
    assert_eq!(step(&mut usm, &plain, later(162)), None);
    assert_eq!(known(&usm, later(162)), (8, 2));

    // Over our restart: what was kept is held against replays.
    let kept = usm.export(later(170));
    let mut usm = agent(std::slice::from_ref(&user));
    usm.restore(kept, later(170));
    assert_eq!(step(&mut usm, &first, later(171)), Some(Step::NotInTimeWindow));
    assert_eq!(step(&mut usm, &at(8, 3), later(171)), None);

    // The end of the range.
    assert_eq!(step(&mut usm, &at(0x7fff_ffff, 1), later(172)), Some(Step::NotInTimeWindow));
    assert_eq!(step(&mut usm, &at(8, 9), later(172)), Some(Step::NotInTimeWindow));
}

#[test]
fn trap_4_users_are_found_by_engine_and_name() {
    let learner = tower();
    let mut lister = user(AuthProtocol::Sha256, PrivProtocol::Aes256Reeder, Level::AuthPriv);
    lister.engines = vec![device(2), device(3)];
    lister.learn = false;
    let mut usm = agent(&[learner.clone(), lister.clone()]);
    assert_eq!(usm.engines(), 2, "those that are listed are there");
    let from = |user, number| {
        Sent { engine: device(number), ..Sent::trap(user, Level::AuthPriv) }.sealed()
    };
    for (user, number, wanted) in [
        (&learner, 1, None),
        (&learner, 2, Some(Step::WrongDigest)),
        (&lister, 2, None),
        (&lister, 1, Some(Step::WrongDigest)),
        (&lister, 3, None),
    ] {
        // A second time from what is kept.
        for _ in 0..2 {
            assert_eq!(step(&mut usm, &from(user, number), NOW), wanted, "engine {number}");
        }
    }
    assert_eq!((usm.engines(), usm.stats().learned), (3, 1));

    // Other users, the same engines: the clocks stay, the keys of whom is gone do not.
    usm.reload(std::slice::from_ref(&learner), 1000);
    assert_eq!(usm.export(NOW).len(), 3);
    assert_eq!(step(&mut usm, &from(&lister, 2), NOW), Some(Step::WrongDigest));
    assert_eq!(step(&mut usm, &from(&learner, 1), NOW), None);
    usm.reload(&[], 1000);
    assert_eq!(step(&mut usm, &from(&learner, 1), NOW), Some(Step::UnknownUser));
    assert_eq!(usm.export(NOW).len(), 3);
}

#[test]
fn trap_4_a_localised_key_is_good_for_its_engine_alone() {
    let master = tower();
    let localised_for = |engine: &EngineId, engines: Vec<EngineId>| {
        let mut user = User { engines, ..master.clone() };
        let (auth, privacy) = (user.auth.as_mut().unwrap(), user.privacy.as_mut().unwrap());
        let Key::Master(key) = &auth.key else { panic!() };
        privacy.key = Key::Localised(keys::privacy_key(
            auth.protocol,
            privacy.protocol,
            &privacy.key,
            engine,
        ));
        auth.key = Key::Localised(keys::localise(auth.protocol, key, engine));
        user
    };
    let trap =
        |number| Sent { engine: device(number), ..Sent::trap(&master, Level::AuthPriv) }.sealed();
    let inform = Sent::inform(&master, Level::AuthPriv).sealed();
    let mut usm = agent(&[localised_for(&device(1), vec![device(1)])]);
    assert_eq!(step(&mut usm, &trap(1), NOW), None);
    assert_eq!(step(&mut usm, &trap(2), NOW), Some(Step::EngineNotAllowed), "it cannot learn");
    assert_eq!(step(&mut usm, &inform, NOW), Some(Step::EngineNotAllowed));
    for engines in [vec![], vec![local().id]] {
        let mut usm = agent(&[localised_for(&local().id, engines)]);
        assert_eq!(step(&mut usm, &inform, NOW), None);
        assert_eq!(step(&mut usm, &trap(1), NOW), Some(Step::EngineNotAllowed));
    }
}

#[test]
fn trap_6_a_hundred_thousand_forged_messages_push_nobody_out_and_cost_bounded_work() {
    let user = tower();
    let mut forger = user.clone();
    forger.auth.as_mut().unwrap().key = Key::Master(Secret(vec![1; 20]));
    let guest = User {
        name: b"guest".to_vec(),
        auth: None,
        privacy: None,
        min_level: Level::NoAuthNoPriv,
        ..user.clone()
    };
    let mut usm = Usm::new(local(), &[user.clone(), guest.clone()], 100, 42);
    for number in 0..100 {
        let engine = device(number);
        let sent = Sent { engine, ..Sent::trap(&user, Level::AuthPriv) };
        assert_eq!(step(&mut usm, &sent.sealed(), NOW), None);
    }
    let learned = usm.export(NOW);
    let keys = session(&forger, &device(1));
    let mut sealed = [
        message::seal(&Sent::trap(&forger, Level::AuthPriv).outgoing(), &keys, 1),
        message::seal(&Sent::trap(&guest, Level::NoAuthNoPriv).outgoing(), &keys, 1),
        message::seal(
            &Sent { reportable: true, ..Sent::trap(&forger, Level::AuthPriv) }.outgoing(),
            &keys,
            1,
        ),
    ];
    // Within a second, each from an engine of its own.
    for number in 0..100_000u32 {
        let octets = &mut sealed[number as usize % 3];
        let engine = octets.windows(4).position(|four| four == [0x80, 0, 0x1f, 0x88]).unwrap();
        octets[engine + 5..engine + 9].copy_from_slice(&number.to_be_bytes());
        let at = NOW + Duration::from_micros(u64::from(number) * 10);
        let refused = step(&mut usm, octets, at);
        assert_eq!(refused.is_none(), number % 3 == 1, "{refused:?}");
    }
    assert_eq!(usm.export(NOW), learned);
    let stats = usm.stats();
    let looked_at = stats.refused(Step::WrongDigest);
    assert!((50..=60).contains(&looked_at), "{looked_at} of 66,667 in a second");
    assert!(stats.refused(Step::LearningLimited) > 60_000);
    // Those who are known are heard all the while, and learning goes on when it is over.
    let known = Sent::trap(&user, Level::AuthPriv).sealed();
    assert_eq!(step(&mut usm, &known, later(1)), None);
    let fresh = Sent { engine: device(200), ..Sent::trap(&user, Level::AuthPriv) }.sealed();
    assert_eq!(step(&mut usm, &fresh, later(2)), None);
    assert_eq!((usm.engines(), usm.stats().evicted), (100, 1));
}

#[test]
fn trap_7_what_devices_get_wrong_in_the_header_is_taken() {
    let user = tower();
    let mut usm = agent(std::slice::from_ref(&user));
    // The reportable flag on a trap (RFC 3412, 6.4 forbids it), and a msgMaxSize that is too small.
    let trap = Sent { reportable: true, ..Sent::trap(&user, Level::AuthPriv) };
    let small = Outgoing { max_size: 100, msg_id: -5, ..trap.outgoing() };
    let octets = message::seal(&small, &session(&user, &device(1)), 9);
    let mut buffer = Vec::new();
    let opened = usm.open(&octets, SOURCE, NOW, &mut buffer).unwrap();
    assert_eq!(opened.reply.max_size, message::LEAST_MAX_SIZE);
}

proptest! {
    #[test]
    fn whatever_octets_come_nothing_breaks(octets: Vec<u8>) {
        let mut usm = agent(&[tower()]);
        prop_assert!(usm.open(&octets, SOURCE, NOW, &mut Vec::new()).is_err());
    }

    #[test]
    fn whatever_becomes_of_a_message_nothing_breaks_and_nothing_is_believed(
        level in 1usize..3, inform: bool,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let level = [Level::NoAuthNoPriv, Level::AuthNoPriv, Level::AuthPriv][level];
        let user = User { min_level: Level::AuthNoPriv, ..tower() };
        let sent =
            if inform { Sent::inform(&user, level) } else { Sent::trap(&user, level) };
        let good = sent.sealed();
        let mut octets = good.clone();
        for (place, value) in changes {
            let place = place.index(octets.len());
            octets[place] = value;
        }
        let mut usm = agent(std::slice::from_ref(&user));
        let opened = usm.open(&octets, SOURCE, NOW, &mut Vec::new()).is_ok();
        prop_assert_eq!(opened, octets == good);
    }
}
