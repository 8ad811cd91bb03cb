//! A notification target as [`Session`] speaks to it (TRAP-10), against a simulated one: an engine
//! that restarts, changes its identity, is lied about, or was configured wrongly.

use std::{net::Ipv4Addr, time::Duration};

use evenkeel_core::{
    ber::tag,
    message,
    notification::{LEAST_ROOM, MAX_DATAGRAM},
    sender::{Destination, Heard, Notice, Outgoing, SendUser, Session, Unsendable, Version},
    time::Time,
    trap::{Form, Trap, varbinds},
    usm::{
        Auth, AuthProtocol, EngineId, Key, Level, LocalEngine, PrivProtocol, Privacy, Secret,
        SessionKeys, User, Usm,
        message::{Outgoing as Sealed, parse, seal},
    },
};
use proptest::{collection::vec, prelude::*, sample::select};

use crate::common::ber::{SNMP_TRAP_OID, SNMP_TRAPS, SYS_UP_TIME, number, octets, oid, varbind};

const US: [u8; 6] = [0x80, 0, 0x1f, 0x88, 4, 1];
const NMS: [u8; 9] = [0x80, 0, 0x1f, 0x88, 4, 2, 2, 2, 2];
const OTHER: [u8; 7] = [0x80, 0, 0x1f, 0x88, 4, 3, 3];

fn engine(id: &[u8]) -> EngineId {
    EngineId::new(id).unwrap()
}

fn local(id: &[u8], boots: u32, started: Time) -> LocalEngine {
    LocalEngine { id: engine(id), boots, started }
}

fn sec(secs: u64) -> Time {
    Time::from_secs(secs)
}

/// What stands for the hash of a passphrase, which takes a while to make and is tested elsewhere.
fn master(protocol: AuthProtocol, passphrase: &str) -> Key {
    let octets = passphrase.bytes().cycle().take(protocol.key_octets());
    Key::Master(Secret(octets.collect()))
}

fn auth(protocol: AuthProtocol, passphrase: &str) -> Auth {
    Auth { protocol, key: master(protocol, passphrase) }
}

fn privacy(auth: AuthProtocol, protocol: PrivProtocol, passphrase: &str) -> Privacy {
    Privacy { protocol, key: master(auth, passphrase) }
}

/// A user with the highest level that SHA-1 and AES-128 give, sent at `level`.
fn user(level: Level) -> SendUser {
    use AuthProtocol::Sha1;
    SendUser {
        name: b"evenkeel".to_vec(),
        auth: (level >= Level::AuthNoPriv).then(|| auth(Sha1, "maplesyrup")),
        privacy: (level == Level::AuthPriv)
            .then(|| privacy(Sha1, PrivProtocol::Aes128, "maplesugar")),
        level,
        context: Vec::new(),
        engine: None,
    }
}

fn informs(user: SendUser) -> Session {
    let destination = Destination { version: Version::V3 { user }, confirmed: true };
    Session::new(destination, local(&US, 7, sec(0)), 0x1234_5678_9abc_def0)
}

/// linkDown of an interface with this index.
fn link_down(index: u32) -> Vec<u8> {
    [
        varbind(&SYS_UP_TIME, number(0x43, 4711)),
        varbind(&SNMP_TRAP_OID, oid(&[&SNMP_TRAPS[..], &[3]].concat())),
        varbind(&[1, 3, 6, 1, 2, 1, 2, 2, 1, 1, index], number(2, index.into())),
    ]
    .concat()
}

fn notice(request_id: i32, varbinds: &[u8]) -> Notice<'_> {
    Notice { request_id, varbinds, agent_address: Ipv4Addr::new(192, 0, 2, 1) }
}

/// A receiver of SNMPv3, with our user.
struct Nms {
    usm: Usm,
    /// The varbinds of what it took.
    taken: Vec<Vec<u8>>,
}

impl Nms {
    fn new(id: &[u8], boots: u32, started: Time, user: &SendUser) -> Nms {
        let user = User {
            name: user.name.clone(),
            auth: user.auth.clone(),
            privacy: user.privacy.clone(),
            min_level: Level::NoAuthNoPriv,
            engines: vec![],
            learn: true,
        };
        Nms { usm: Usm::new(local(id, boots, started), &[user], 100, 1), taken: vec![] }
    }

    /// What it answers, if anything.
    fn receive(&mut self, datagram: &[u8], now: Time) -> Option<Vec<u8>> {
        let mut buffer = Vec::new();
        let source = Ipv4Addr::LOCALHOST.into();
        match self.usm.open(datagram, source, now, &mut buffer) {
            Ok(opened) => {
                let v2c = message::community_message(1, b"", opened.pdu);
                let trap = Trap::decode(&v2c).unwrap();
                assert_eq!(trap.form == Form::Inform, opened.inform);
                self.taken.push(trap.varbinds.to_vec());
                let response = message::response_pdu(opened.pdu)?;
                let reply = opened.reply.clone();
                Some(self.usm.respond(&reply, &response, now))
            }
            Err(refusal) => refusal.report,
        }
    }
}

fn octets_of(outgoing: &Outgoing) -> &[u8] {
    match outgoing {
        Outgoing::Message(octets) | Outgoing::Discovery(octets) => octets,
    }
}

/// Sends a notice until something else than "again" is heard, and tells the steps.
fn tell(session: &mut Session, nms: &mut Nms, request_id: i32, now: Time) -> Vec<String> {
    let list = link_down(3);
    let mut steps = Vec::new();
    for _ in 0..10 {
        let outgoing = session.encode(&notice(request_id, &list), now).unwrap();
        steps.push(match &outgoing {
            Outgoing::Message(_) => "message".to_owned(),
            Outgoing::Discovery(_) => "discovery".to_owned(),
        });
        let Some(answer) = nms.receive(octets_of(&outgoing), now) else {
            steps.push("silence".to_owned());
            return steps;
        };
        match session.hear(&answer, now) {
            Heard::Again => steps.push("again".to_owned()),
            Heard::Acknowledged { request_id: its } => {
                assert_eq!(its, request_id);
                steps.push("acknowledged".to_owned());
                return steps;
            }
            Heard::Failed { why } => {
                steps.push(why);
                return steps;
            }
            other => {
                steps.push(format!("{other:?}"));
                return steps;
            }
        }
    }
    panic!("it never ends: {steps:?}");
}

/// RFC 3414, section 4.
#[test]
fn trap_10_an_inform_asks_for_the_engine_and_then_for_its_time_and_no_more_after_that() {
    for (level, first) in [
        (Level::NoAuthNoPriv, &["discovery", "again", "message", "acknowledged"][..]),
        (Level::AuthNoPriv, &["discovery", "again", "message", "again", "message", "acknowledged"]),
        (Level::AuthPriv, &["discovery", "again", "message", "again", "message", "acknowledged"]),
    ] {
        let user = user(level);
        let mut nms = Nms::new(&NMS, 3, sec(5), &user);
        let mut session = informs(user);
        assert_eq!(tell(&mut session, &mut nms, 1, sec(1000)), first, "{level:?}");
        // Also an hour later, by our own clock.
        for (request_id, now) in [(2, 1000), (3, 1100), (i32::MIN, 4600)] {
            let steps = tell(&mut session, &mut nms, request_id, sec(now));
            assert_eq!(steps, ["message", "acknowledged"], "{level:?} at {now}");
        }
        assert_eq!(nms.taken, vec![link_down(3); 4]);
    }
}

#[test]
fn a_configured_engine_is_not_asked_for_and_must_be_the_one_that_answers() {
    let user = SendUser { engine: Some(engine(&NMS)), ..user(Level::AuthPriv) };
    let mut nms = Nms::new(&NMS, 3, sec(5), &user);
    let mut session = informs(user.clone());
    let steps = tell(&mut session, &mut nms, 1, sec(1000));
    assert_eq!(steps, ["message", "again", "message", "acknowledged"]);

    let mut another = Nms::new(&OTHER, 3, sec(5), &user);
    let steps = tell(&mut session, &mut another, 2, sec(1001));
    assert_eq!(
        steps,
        [
            "message",
            "SNMPv3 user \"evenkeel\": the engine that answers is 0x80001f88040303, and \
             0x80001f880402020202 is configured"
        ]
    );
    // And the one that is configured is still known.
    assert_eq!(tell(&mut session, &mut nms, 3, sec(1002)), ["message", "acknowledged"]);
}

#[test]
fn trap_10_traps_are_sent_with_our_own_engine_and_need_no_answer() {
    for level in [Level::NoAuthNoPriv, Level::AuthNoPriv, Level::AuthPriv] {
        let user = user(level);
        let mut nms = Nms::new(&NMS, 1, sec(0), &user);
        let version = Version::V3 { user };
        let destination = Destination { version, confirmed: false };
        let mut session = Session::new(destination, local(&US, 7, sec(10)), 5);
        for now in [10, 11, 5000] {
            assert_eq!(tell(&mut session, &mut nms, 1, sec(now)), ["message", "silence"]);
            let list = link_down(1);
            let Ok(Outgoing::Message(trap)) = session.encode(&notice(1, &list), sec(now)) else {
                panic!("a trap needs no discovery");
            };
            let trap = parse(&trap).unwrap();
            assert_eq!((trap.engine, trap.boots, trap.time), (&US[..], 7, now as u32 - 10));
            assert_eq!((trap.level(), trap.reportable()), (Some(level), false));
        }
        assert_eq!(nms.taken, vec![link_down(3); 3]);
    }
}

#[test]
fn a_target_that_restarted_is_followed_at_once_and_all_that_waits_is_sent_once_more() {
    let user = user(Level::AuthPriv);
    let mut nms = Nms::new(&NMS, 3, sec(5), &user);
    let mut session = informs(user.clone());
    tell(&mut session, &mut nms, 1, sec(1000));

    let mut nms = Nms::new(&NMS, 4, sec(1001), &user);
    let list = link_down(3);
    let waiting: Vec<Vec<u8>> = (2..5)
        .map(|request_id| {
            let outgoing = session.encode(&notice(request_id, &list), sec(1002)).unwrap();
            octets_of(&outgoing).to_vec()
        })
        .collect();
    let reports: Vec<Vec<u8>> =
        waiting.iter().map(|inform| nms.receive(inform, sec(1002)).unwrap()).collect();
    let heard: Vec<Heard> = reports.iter().map(|report| session.hear(report, sec(1002))).collect();
    assert_eq!(heard, [Heard::Again, Heard::Nothing, Heard::Nothing]);
    for request_id in 2..5 {
        let steps = tell(&mut session, &mut nms, request_id, sec(1003));
        assert_eq!(steps, ["message", "acknowledged"]);
    }
    // None of the Reports says anything new any more.
    for report in &reports {
        assert_eq!(session.hear(report, sec(1004)), Heard::Nothing);
    }
}

#[test]
fn a_target_with_another_engine_is_asked_again() {
    let user = user(Level::AuthNoPriv);
    let mut session = informs(user.clone());
    tell(&mut session, &mut Nms::new(&NMS, 3, sec(5), &user), 1, sec(1000));
    // Replaced by another, whose boots may well be fewer.
    let mut another = Nms::new(&OTHER, 1, sec(1001), &user);
    assert_eq!(
        tell(&mut session, &mut another, 2, sec(1010)),
        ["message", "again", "message", "again", "message", "acknowledged"]
    );
}

/// net-snmp's snmptrapd saves its boots only when it is stopped in order.
#[test]
fn trap_11_a_target_that_lost_its_boots_with_its_power_is_found_again() {
    let user = user(Level::AuthPriv);
    for (boots, started) in [(2, sec(5)), (3, sec(100_000))] {
        let mut session = informs(user.clone());
        tell(&mut session, &mut Nms::new(&NMS, 3, sec(5), &user), 1, sec(100_000));
        let mut nms = Nms::new(&NMS, boots, started, &user);
        assert_eq!(
            tell(&mut session, &mut nms, 2, sec(100_010)),
            ["message", "again", "message", "again", "message", "acknowledged"]
        );
        assert_eq!(tell(&mut session, &mut nms, 3, sec(100_011)), ["message", "acknowledged"]);
    }
}

#[test]
fn an_engine_at_the_end_of_its_boots_needs_a_person() {
    let user = user(Level::AuthNoPriv);
    let mut session = informs(user.clone());
    let mut nms = Nms::new(&NMS, 0x7fff_ffff, sec(5), &user);
    let steps = tell(&mut session, &mut nms, 1, sec(1000));
    assert!(steps.last().unwrap().contains("needs another engine ID"), "{steps:?}");
}

#[test]
fn a_replayed_report_of_an_earlier_time_sets_no_clock_back() {
    let user = user(Level::AuthNoPriv);
    let mut nms = Nms::new(&NMS, 3, sec(5), &user);
    let mut session = informs(user.clone());
    tell(&mut session, &mut nms, 1, sec(1000));
    let mut restarted = Nms::new(&NMS, 4, sec(1001), &user);
    let list = link_down(3);
    let first = session.encode(&notice(2, &list), sec(1002)).unwrap();
    let report = restarted.receive(octets_of(&first), sec(1002)).unwrap();
    assert_eq!(session.hear(&report, sec(1002)), Heard::Again);
    assert_eq!(tell(&mut session, &mut restarted, 2, sec(1003)), ["message", "acknowledged"]);
    // Much later, when that time is long gone by.
    for _ in 0..3 {
        assert_eq!(session.hear(&report, sec(9000)), Heard::Nothing);
        assert_eq!(tell(&mut session, &mut restarted, 3, sec(9000)), ["message", "acknowledged"]);
    }
}

#[test]
fn what_is_configured_differently_at_the_target_is_told_for_the_person_who_can_change_it() {
    use AuthProtocol::Sha1;
    let ours = user(Level::AuthPriv);
    let wrong = |change: fn(&mut SendUser)| {
        let mut theirs = ours.clone();
        change(&mut theirs);
        let mut nms = Nms::new(&NMS, 3, sec(5), &theirs);
        let mut session = informs(ours.clone());
        let steps = tell(&mut session, &mut nms, 1, sec(1000));
        assert!(nms.taken.is_empty());
        steps.last().unwrap().clone()
    };
    for (statistic, said) in [
        ("usmStatsWrongDigests", wrong(|user| user.auth = Some(auth(Sha1, "another passphrase")))),
        (
            "usmStatsDecryptionErrors",
            wrong(|user| user.privacy = Some(privacy(Sha1, PrivProtocol::Aes128, "another"))),
        ),
        ("usmStatsUnknownUserNames", wrong(|user| user.name = b"somebody".to_vec())),
        ("usmStatsUnsupportedSecLevels", wrong(|user| user.privacy = None)),
    ] {
        assert!(said.starts_with("SNMPv3 user \"evenkeel\": "), "{said}");
        assert!(said.contains(statistic), "{statistic}: {said}");
    }
}

/// A Report of one of usmStats that is not authenticated, as anybody can write it.
fn forged_report(msg_id: i32, statistic: u32, id: &[u8]) -> Vec<u8> {
    let list = varbind(&[1, 3, 6, 1, 6, 3, 15, 1, 1, statistic, 0], number(0x41, 1));
    let report = message::pdu(tag::REPORT, 0, &list);
    seal(&plain(msg_id, id, &report), &SessionKeys::NONE, 0)
}

fn plain<'a>(msg_id: i32, engine: &'a [u8], pdu: &'a [u8]) -> Sealed<'a> {
    Sealed {
        msg_id,
        max_size: 65_507,
        reportable: false,
        level: Level::NoAuthNoPriv,
        engine,
        boots: 3,
        time: 995,
        user: b"evenkeel",
        context_engine: engine,
        context: b"",
        pdu,
    }
}

#[test]
fn forged_reports_make_no_loop_and_are_forgotten() {
    let user = user(Level::AuthNoPriv);
    let mut nms = Nms::new(&NMS, 3, sec(5), &user);
    let mut session = informs(user);
    tell(&mut session, &mut nms, 1, sec(1000));
    let list = link_down(3);
    let send = |session: &mut Session, now| {
        let outgoing = session.encode(&notice(2, &list), now).unwrap();
        parse(octets_of(&outgoing)).unwrap().msg_id
    };

    // Somebody sees each message and says, before the target does, that its engine is yet another.
    let mut again = 0;
    for round in 0..100 {
        let msg_id = send(&mut session, sec(1001));
        let report = forged_report(msg_id, 4, &[0x80, 0, 0, 0, 5, round]);
        match session.hear(&report, sec(1001)) {
            Heard::Again => again += 1,
            Heard::Failed { why } => assert!(why.contains("keeps asking"), "{why}"),
            other => panic!("{other:?}"),
        }
        // One message makes us send again once, whatever comes.
        for last in 1..5 {
            let report = forged_report(msg_id, 4, &[0x80, 0, 0, 0, 6, last]);
            assert!(again > 5 || session.hear(&report, sec(1001)) == Heard::Nothing);
        }
    }
    assert!(again <= 6, "{again} rounds");
    // When that has ended, the target is found again.
    let steps = tell(&mut session, &mut nms, 2, sec(1020));
    assert_eq!(steps, ["message", "again", "message", "again", "message", "acknowledged"]);

    // Who does not see our messages does not know a msgID.
    let msg_id = send(&mut session, sec(1021));
    for guess in [0, 1, msg_id + 1, msg_id.wrapping_add(1000), -msg_id, i32::MIN, i32::MAX] {
        let report = forged_report(guess, 4, &OTHER);
        assert_eq!(session.hear(&report, sec(1021)), Heard::Nothing);
    }
    // What only an authentic Report may say is not believed of another.
    assert_eq!(session.hear(&forged_report(msg_id, 2, &NMS), sec(1021)), Heard::Nothing);
    assert_eq!(tell(&mut session, &mut nms, 3, sec(1021)), ["message", "acknowledged"]);
}

#[test]
fn a_forged_response_acknowledges_nothing() {
    let user = user(Level::AuthPriv);
    let mut nms = Nms::new(&NMS, 3, sec(5), &user);
    let mut session = informs(user.clone());
    tell(&mut session, &mut nms, 1, sec(1000));
    let list = link_down(3);
    let inform = session.encode(&notice(2, &list), sec(1000)).unwrap();
    let msg_id = parse(octets_of(&inform)).unwrap().msg_id;

    let response = message::pdu(tag::RESPONSE, 2, &list);
    let other_request = message::pdu(tag::RESPONSE, 3, &list);
    let keys = |id: &[u8]| SessionKeys::new(user.auth.as_ref(), user.privacy.as_ref(), &engine(id));
    let message = |level, id: &'static [u8], pdu| Sealed { level, ..plain(msg_id, id, pdu) };
    let late = Sealed { time: 700, ..message(Level::AuthPriv, &NMS, &response) };
    let earlier_boots = Sealed { boots: 2, ..message(Level::AuthPriv, &NMS, &response) };
    let another_user = Sealed { user: b"other", ..message(Level::AuthPriv, &NMS, &response) };
    let unknown = Sealed { msg_id: msg_id + 1, ..message(Level::AuthPriv, &NMS, &response) };
    for (what, datagram) in [
        (
            "not authenticated",
            seal(&message(Level::NoAuthNoPriv, &NMS, &response), &SessionKeys::NONE, 0),
        ),
        ("not encrypted", seal(&message(Level::AuthNoPriv, &NMS, &response), &keys(&NMS), 0)),
        ("another engine", seal(&message(Level::AuthPriv, &OTHER, &response), &keys(&OTHER), 0)),
        ("another request", seal(&message(Level::AuthPriv, &NMS, &other_request), &keys(&NMS), 0)),
        ("too old", seal(&late, &keys(&NMS), 0)),
        ("of an earlier boot", seal(&earlier_boots, &keys(&NMS), 0)),
        ("another user", seal(&another_user, &keys(&NMS), 0)),
        ("an unknown message", seal(&unknown, &keys(&NMS), 0)),
        ("no response", octets_of(&inform).to_vec()),
    ] {
        assert_eq!(session.hear(&datagram, sec(1001)), Heard::Nothing, "{what}");
    }
    let right = seal(&message(Level::AuthPriv, &NMS, &response), &keys(&NMS), 0);
    for place in 0..right.len() {
        for bit in [0x01, 0x80] {
            let mut altered = right.clone();
            altered[place] ^= bit;
            let heard = session.hear(&altered, sec(1001));
            assert_eq!(heard, Heard::Nothing, "octet {place} of {} altered", right.len());
        }
        assert_eq!(session.hear(&right[..place], sec(1001)), Heard::Nothing, "cut at {place}");
    }
    assert_eq!(session.hear(&right, sec(1001)), Heard::Acknowledged { request_id: 2 });
}

#[test]
fn a_late_response_to_the_first_sending_counts_too() {
    let user = user(Level::AuthPriv);
    let mut nms = Nms::new(&NMS, 3, sec(5), &user);
    let mut session = informs(user);
    tell(&mut session, &mut nms, 1, sec(1000));
    let list = link_down(3);
    let first = session.encode(&notice(2, &list), sec(1000)).unwrap();
    let second = session.encode(&notice(2, &list), sec(1005)).unwrap();
    assert_ne!(
        parse(octets_of(&first)).unwrap().msg_id,
        parse(octets_of(&second)).unwrap().msg_id,
        "RFC 3412, 6.2: a msgID is not used again for a retransmission"
    );
    let answer = nms.receive(octets_of(&first), sec(1004)).unwrap();
    assert_eq!(session.hear(&answer, sec(1006)), Heard::Acknowledged { request_id: 2 });
}

#[test]
fn an_error_in_a_response_is_told_by_its_name() {
    for (status, name) in [(1, "tooBig"), (5, "genErr"), (16, "authorizationError"), (99, "99")] {
        let mut response = message::pdu(tag::RESPONSE, 2, &[]);
        let place = response.len() - 6;
        response[place] = status;
        let community = b"public".to_vec();
        let destination = Destination { version: Version::V2c { community }, confirmed: true };
        let mut session = Session::new(destination, local(&US, 1, sec(0)), 1);
        let datagram = message::community_message(1, b"public", &response);
        match session.hear(&datagram, sec(1)) {
            Heard::Refused { request_id: 2, why } => assert!(why.contains(name), "{why}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn trap_10_snmpv2c_informs_are_acknowledged_with_the_same_community() {
    let session = |confirmed| {
        let version = Version::V2c { community: b"public".to_vec() };
        Session::new(Destination { version, confirmed }, local(&US, 1, sec(0)), 1)
    };
    let mut informs = session(true);
    let list = link_down(3);
    let Ok(Outgoing::Message(inform)) = informs.encode(&notice(-7, &list), sec(0)) else {
        panic!();
    };
    assert_eq!(Trap::decode(&inform).unwrap().form, Form::Inform);
    let response = message::response_to(&inform).unwrap();
    assert_eq!(informs.hear(&response, sec(0)), Heard::Acknowledged { request_id: -7 });
    assert_eq!(informs.hear(&inform, sec(0)), Heard::Nothing);
    let mut other = response.clone();
    other[7] ^= 1;
    assert_eq!(informs.hear(&other, sec(0)), Heard::Nothing, "another community");

    let mut traps = session(false);
    let Ok(Outgoing::Message(trap)) = traps.encode(&notice(-7, &list), sec(0)) else { panic!() };
    assert_eq!(Trap::decode(&trap).unwrap().form, Form::V2c);
    assert_eq!(traps.hear(&response, sec(0)), Heard::Nothing, "a trap is not acknowledged");
}

#[test]
fn trap_10_snmpv1_is_sent_traps_even_where_informs_are_asked_for() {
    let version = Version::V1 { community: b"public".to_vec() };
    let destination = Destination { version, confirmed: true };
    let mut session = Session::new(destination, local(&US, 1, sec(0)), 1);
    let mut list = link_down(3);
    let Ok(Outgoing::Message(trap)) = session.encode(&notice(1, &list), sec(0)) else { panic!() };
    let trap = Trap::decode(&trap).unwrap();
    assert_eq!((trap.form, trap.community), (Form::V1, &b"public"[..]));
    assert_eq!(trap.agent_address, Some(Ipv4Addr::new(192, 0, 2, 1)));
    list.extend(varbind(&[1, 3, 6, 1, 4, 1, 9, 1], number(0x46, 1)));
    let refused = session.encode(&notice(1, &list), sec(0));
    assert_eq!(refused, Err(Unsendable::Counter64));
}

#[test]
fn what_no_datagram_can_hold_is_refused() {
    // What UDP over IPv4 can carry is 65,507 octets.
    for (size, fits) in [(65_400, true), (65_401, false)] {
        let list = varbind(&[1, 3, 6, 1, 4, 1, 9, 1], octets(&vec![0; size]));
        let list = [link_down(3), list].concat();
        let version = Version::V2c { community: b"public".to_vec() };
        let destination = Destination { version, confirmed: false };
        let mut session = Session::new(destination, local(&US, 1, sec(0)), 1);
        match session.encode(&notice(1, &list), sec(0)) {
            Ok(message) => assert_eq!((octets_of(&message).len(), fits), (65_507, true)),
            Err(why) => assert_eq!((why, fits), (Unsendable::TooLong, false)),
        }
    }
}

#[test]
fn a_user_without_a_key_sends_nothing_in_the_clear() {
    for confirmed in [false, true] {
        let user = SendUser {
            level: Level::AuthPriv,
            engine: Some(engine(&NMS)),
            ..user(Level::AuthNoPriv)
        };
        let destination = Destination { version: Version::V3 { user }, confirmed };
        let mut session = Session::new(destination, local(&US, 1, sec(0)), 1);
        let list = link_down(3);
        assert_eq!(session.encode(&notice(1, &list), sec(0)), Err(Unsendable::NoKey));
    }
}

#[test]
fn no_salt_and_no_msg_id_comes_twice() {
    let user = SendUser { engine: Some(engine(&NMS)), ..user(Level::AuthPriv) };
    // Also over the end of the salt's counter.
    for seed in [0, u64::MAX - 500, 7] {
        for confirmed in [true, false] {
            let version = Version::V3 { user: user.clone() };
            let destination = Destination { version, confirmed };
            let mut session = Session::new(destination, local(&US, 7, sec(0)), seed);
            let list = link_down(3);
            let mut salts = Vec::new();
            let mut ids = Vec::new();
            for _ in 0..1200 {
                let message = session.encode(&notice(2, &list), sec(9)).unwrap();
                let message = octets_of(&message);
                ids.push(parse(message).unwrap().msg_id);
                // Behind the user's name the digest of twelve octets, and then the salt of eight.
                let name = message.windows(8).position(|eight| eight == b"evenkeel").unwrap();
                let place = name + 8 + 14;
                assert_eq!(message[place..place + 2], [4, 8]);
                salts.push(message[place + 2..place + 10].to_vec());
            }
            salts.sort();
            salts.dedup();
            assert_eq!(salts.len(), 1200);
            ids.sort_unstable();
            ids.dedup();
            assert_eq!(ids.len(), 1200);
            assert!(ids[0] >= 0);
        }
    }
}

fn any_protection() -> impl Strategy<Value = (Level, AuthProtocol, PrivProtocol)> {
    (
        select(&[Level::NoAuthNoPriv, Level::AuthNoPriv, Level::AuthPriv][..]),
        select(&AuthProtocol::ALL[..]),
        select(&PrivProtocol::ALL[..]),
    )
}

fn any_user() -> impl Strategy<Value = SendUser> {
    (any_protection(), vec(any::<u8>(), 1..=32), vec(any::<u8>(), 0..=32)).prop_map(
        |((level, hash, cipher), name, context)| SendUser {
            name,
            auth: (level >= Level::AuthNoPriv).then(|| auth(hash, "maplesyrup")),
            privacy: (level == Level::AuthPriv).then(|| privacy(hash, cipher, "maplesugar")),
            level,
            context,
            engine: None,
        },
    )
}

fn any_engine() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 4..=31).prop_map(|rest| [&[0x80][..], &rest].concat())
}

proptest! {
    // Reeder's keys take the hash of a megabyte each.
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn trap_10_whatever_is_sent_arrives_as_it_was(
        user in any_user(), ours in any_engine(), theirs in any_engine(), confirmed: bool,
        request_id: i32, boots in 1u32..0x7fff_ffff, seed: u64, now in 0u64..100_000_000,
        values in vec(vec(any::<u8>(), 0..200), 0..8),
    ) {
        prop_assume!(ours != theirs);
        let mut list = link_down(3);
        for (value, arc) in values.iter().zip(1..) {
            list.extend(varbind(&[1, 3, 6, 1, 4, 1, 9, arc], octets(value)));
        }
        let mut nms = Nms::new(&theirs, boots, sec(0), &user);
        let destination = Destination { version: Version::V3 { user }, confirmed };
        let mut session = Session::new(destination, local(&ours, boots, sec(0)), seed);
        let mut heard = Heard::Again;
        while heard == Heard::Again {
            let outgoing = session.encode(&notice(request_id, &list), sec(now)).unwrap();
            heard = match nms.receive(octets_of(&outgoing), sec(now)) {
                Some(answer) => session.hear(&answer, sec(now)),
                None => Heard::Nothing,
            };
        }
        prop_assert_eq!(&nms.taken, &vec![list]);
        let expected =
            if confirmed { Heard::Acknowledged { request_id } } else { Heard::Nothing };
        prop_assert_eq!(heard, expected);
    }

    /// TRAP-12's bound holds in every form.
    #[test]
    fn what_fits_into_the_room_fits_into_the_datagram(
        user in any_user(), community in vec(any::<u8>(), 0..=64), ours in any_engine(),
        theirs in any_engine(), form in 0u8..3, confirmed: bool,
        less in prop_oneof![Just(0), 0usize..300],
    ) {
        let version = match form {
            0 => Version::V1 { community },
            1 => Version::V2c { community },
            _ => Version::V3 { user: SendUser { engine: Some(engine(&theirs)), ..user } },
        };
        let destination = Destination { version, confirmed };
        let mut session = Session::new(destination, local(&ours, 0x7fff_fffe, sec(0)), u64::MAX);
        let room = session.room();
        prop_assert!(room >= LEAST_ROOM);
        let trap_oid = [&SNMP_TRAPS[..], &[3]].concat();
        let start = [
            varbind(&SYS_UP_TIME, number(0x43, 0xffff_ffff)),
            varbind(&SNMP_TRAP_OID, oid(&trap_oid)),
        ]
        .concat();
        let to_the_last = less == 0;
        let left = if to_the_last { 60 } else { less };
        let filler = vec![7; room - start.len() - left - 20];
        let mut list = [start, varbind(&[1, 3, 6, 1, 4, 1, 9], octets(&filler))].concat();
        // Where nothing is left out on purpose, another varbind fills it to the last octet: 8 octets and
        // what is in it, which is fewer than 128.
        if to_the_last {
            let last = room - list.len() - 8;
            list.extend(varbind(&[1, 3, 6], octets(&vec![7; last])));
            prop_assert_eq!(list.len(), room);
        }
        prop_assert!(list.len() <= room);
        let message = session.encode(&notice(i32::MIN, &list), sec(0x7fff_ffff)).unwrap();
        prop_assert!(octets_of(&message).len() <= MAX_DATAGRAM);
    }
}

proptest! {
    #[test]
    fn no_datagram_makes_a_session_panic(
        datagram in vec(any::<u8>(), 0..200), place in 0usize..300, octet: u8,
    ) {
        let user = user(Level::NoAuthNoPriv);
        let mut nms = Nms::new(&NMS, 3, sec(0), &user);
        let mut session = informs(user);
        session.hear(&datagram, sec(1));
        let list = link_down(3);
        for _ in 0..2 {
            let outgoing = session.encode(&notice(1, &list), sec(1)).unwrap();
            let mut answer = nms.receive(octets_of(&outgoing), sec(1)).unwrap();
            let whole = answer.clone();
            let place = place % answer.len();
            answer[place] = octet;
            session.hear(&answer, sec(1));
            session.hear(&whole, sec(1));
        }
        prop_assert!(varbinds(&list).count() == 3);
    }
}

#[test]
fn rounds_are_counted_again_after_a_while() {
    let user = user(Level::AuthNoPriv);
    let mut session = informs(user);
    let list = link_down(3);
    let mut again = 0;
    for second in 0..100 {
        let outgoing = session.encode(&notice(2, &list), sec(second)).unwrap();
        let msg_id = parse(octets_of(&outgoing)).unwrap().msg_id;
        let report = forged_report(msg_id, 4, &[0x80, 0, 0, 0, 5, second as u8]);
        again += u32::from(session.hear(&report, sec(second)) == Heard::Again);
    }
    assert!((50..=70).contains(&again), "{again} rounds in {:?}", Duration::from_secs(100));
}
