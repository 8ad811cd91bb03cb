//! What becomes of a datagram beside its judgement: whose it is, who is answered and when, what is
//! told of drops and of targets, and what a crash may not change.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use evenkeel_core::{
    alarm::{AlarmEvent, Kind, Object, System},
    ber::tag,
    input::{Datagram, Door, Ear, Event, Input, Taken},
    instability::Outcome,
    message,
    settings::{
        DuringUnstable, ForwardRule, ForwardTarget, Forwarding, Group, GroupSettings, Instability,
        Match, Settings,
    },
    state::{Record, RecordKey, State},
    time::Time,
    trap::{Form, Trap},
    usm::{EngineId, KnownEngine},
};
use proptest::{collection::vec, prelude::*};

use crate::common::{
    ber::{
        DEVICE_ENGINE, LOCAL_ENGINE, Message, SNMP_TRAP_ADDRESS, if_entry, number, octets, tlv,
        varbind,
    },
    chance::{World, op},
    sim::{Sim, at, cases, open_settings},
};

fn link_trap(form: Form, trap: u32, if_index: u32, serial: i64) -> Message {
    let index = varbind(&if_entry(1, if_index), number(2, i64::from(if_index)));
    let varbinds = if if_index == 0 { vec![] } else { vec![index] };
    Message {
        varbinds,
        request_id: serial,
        uptime: 10_000_000 + serial,
        ..Message::new(form, trap)
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn outcome(sim: &Sim, outcome: Outcome) -> u64 {
    sim.agent.counters().outcomes[outcome as usize]
}

#[test]
fn whose_trap_it_is_trap_2() {
    let mut settings = open_settings();
    settings.access.forwarders = vec!["192.0.2.0/24".parse().unwrap()];
    let known = |id: &[u8], system| KnownEngine { id: EngineId::new(id).unwrap(), system };
    settings.access.engines = vec![
        known(b"\x80\x00\x1f\x88\x04known", ip("10.9.9.9")),
        known(b"\x80\x00\x1f\x88\x04known", ip("10.8.8.8")),
    ];
    let device = DEVICE_ENGINE.to_vec();
    let known = b"\x80\x00\x1f\x88\x04known".to_vec();
    let (nobody, agent, spoken) = ([0; 4], [10, 0, 0, 1], [10, 0, 0, 2]);
    let (relay, plain) = ("192.0.2.1", "198.51.100.1");
    for (form, source, engine, context, trap_address, agent_address, system) in [
        // The authoritative engine's configured name goes before all.
        (Form::V3, relay, &known, &device, Some(spoken), nobody, "10.9.9.9"),
        (Form::V3, plain, &known, &device, None, nobody, "10.9.9.9"),
        (Form::V3, plain, &device, &known, None, nobody, plain),
        (Form::V3, relay, &device, &device, Some(spoken), nobody, "10.0.0.2"),
        (Form::V3, plain, &device, &device, Some(spoken), nobody, plain),
        // We are the authoritative engine of an inform; its context says whose it is.
        (Form::V3Inform, plain, &LOCAL_ENGINE.to_vec(), &known, None, nobody, "10.9.9.9"),
        (Form::V3Inform, relay, &LOCAL_ENGINE.to_vec(), &device, Some(spoken), nobody, "10.0.0.2"),
        (
            Form::V3Inform,
            plain,
            &LOCAL_ENGINE.to_vec(),
            &LOCAL_ENGINE.to_vec(),
            None,
            nobody,
            plain,
        ),
        (Form::V2c, relay, &device, &device, Some(spoken), nobody, "10.0.0.2"),
        (Form::V2c, plain, &device, &device, Some(spoken), nobody, plain),
        (Form::Inform, relay, &device, &device, None, nobody, relay),
        (Form::V1, relay, &device, &device, Some(spoken), agent, "10.0.0.2"),
        (Form::V1, relay, &device, &device, None, agent, "10.0.0.1"),
        (Form::V1, relay, &device, &device, None, nobody, relay),
        (Form::V1, plain, &device, &device, None, agent, plain),
    ] {
        let mut sim = Sim::new(settings.clone());
        let mut message = link_trap(form, 3, 7, 1);
        (message.engine, message.context_engine) = (engine.clone(), context.clone());
        message.agent_address = agent_address;
        if let Some(address) = trap_address {
            message.varbinds.push(varbind(&SNMP_TRAP_ADDRESS, tlv(0x40, &address)));
        }
        sim.datagram(ip(source), at(0), &message.encode());
        let expected = Object::Interface { system: System(ip(system)), if_index: 7 };
        let told = alarms(&sim.events);
        assert_eq!(told.len(), 1, "{form:?} from {source}");
        assert_eq!(told[0].alarm.object, expected, "{form:?} from {source}");
    }
}

fn alarms(events: &[Event]) -> Vec<&AlarmEvent> {
    let mut alarms = Vec::new();
    for event in events {
        if let Event::Alarm(event) = event {
            alarms.push(&**event);
        }
    }
    alarms
}

/// The request-id of a Response in a message of SNMPv2c or SNMPv3.
fn answered(bytes: &[u8]) -> Option<i64> {
    // The PDU: its tag, and an INTEGER that is the request-id.
    let place = bytes.windows(3).position(|window| {
        window[0] == tag::RESPONSE && window[2] == tag::INTEGER && window[1] < 0x80
    })?;
    let length = usize::from(bytes[place + 3]);
    let content = &bytes[place + 4..place + 4 + length];
    Some(content.iter().fold(0, |sum, &octet| sum << 8 | i64::from(octet)))
}

#[test]
fn an_inform_is_answered_after_it_is_safe_and_again_when_it_is_repeated_trap_5() {
    for form in [Form::Inform, Form::V3Inform] {
        let mut sim = Sim::new(open_settings());
        sim.agent.set_spool(100);
        let door = Door { socket: 3, local: Some(ip("10.1.1.1")), interface: Some(2) };
        let send = |sim: &mut Sim, port, secs: u64, message: &Message| {
            let received = at(secs * 1_000);
            let source = (ip("10.0.0.1"), port).into();
            let bytes = &message.encode();
            sim.feed(&Input::Datagram(Datagram { source, received, door, bytes }));
            let answer = sim.answers.pop().expect("each is answered");
            assert_eq!((answer.door, answer.to), (door, source));
            assert_eq!(answered(&answer.bytes), Some(message.request_id), "{form:?}");
            answer.after
        };
        let (down, other) = (link_trap(form, 3, 7, 50), link_trap(form, 6, 0, 51));
        assert_eq!(send(&mut sim, 1, 0, &down), Some(100));
        assert_eq!(send(&mut sim, 1, 1, &other), Some(101));
        assert_eq!(send(&mut sim, 1, 15, &down), Some(100), "the number of the first");
        assert_eq!(send(&mut sim, 2, 30, &other), Some(101), "from another port");
        assert_eq!(send(&mut sim, 1, 31, &link_trap(form, 6, 0, 52)), Some(102));
        let numbers: Vec<_> = sim.taken.iter().map(|taken| taken.number).collect();
        assert_eq!(numbers, [Some(100), Some(101), Some(102)], "each is taken in once");
        assert!(sim.taken.iter().all(|taken| taken.targets.is_empty() && taken.form == form));
        assert_eq!(sim.taken[0].community, b"public");
        assert_eq!(outcome(&sim, Outcome::Repeat), 2);
        assert_eq!(outcome(&sim, Outcome::Counted), 1);
        assert_eq!(sim.agent.counters().informs, 5);
        assert_eq!(sim.agent.counters().responses, 5);
        assert_eq!(alarms(&sim.events).len(), 1);
        assert_eq!(sim.agent.next_number(), 103);
    }
}

#[test]
fn a_system_that_restarts_over_and_over_repeats_no_inform_trap_5_inst_9() {
    let mut sim = Sim::new(open_settings());
    let restart = Message { uptime: 0, ..link_trap(Form::Inform, 1, 0, 1) }.encode();
    for secs in [0, 60, 130, 200] {
        sim.datagram(ip("10.0.0.1"), at(secs * 1_000), &restart);
    }
    assert_eq!((outcome(&sim, Outcome::Repeat), outcome(&sim, Outcome::Counted)), (1, 3));
    assert_eq!(sim.answers.len(), 4);
    assert_eq!(sim.taken.len(), 3);
}

#[test]
fn what_nobody_waits_for_costs_no_number_and_no_copy() {
    let mut sim = Sim::new(open_settings());
    for form in [Form::V1, Form::V2c, Form::V3] {
        sim.datagram(ip("10.0.0.1"), at(0), &link_trap(form, 3, 7, form as i64).encode());
    }
    assert_eq!((sim.answers.len(), sim.taken.len(), sim.agent.next_number()), (0, 0, 1));
    assert_eq!(sim.agent.counters().forms, [1, 1, 0, 1, 0]);
    assert_eq!(sim.agent.usm().stats().opened, [1, 0, 0]);
}

#[test]
fn a_report_leaves_at_once_and_a_refusal_is_kept_with_its_step_trap_4() {
    let mut sim = Sim::new(open_settings());
    // Discovery (RFC 3414, 4): no engine, no user, reportable.
    let discovery = Message {
        engine: vec![],
        context_engine: vec![],
        community: vec![],
        ..link_trap(Form::V3Inform, 3, 7, 9)
    };
    sim.datagram(ip("10.0.0.1"), at(0), &discovery.encode());
    assert_eq!(sim.answers.len(), 1);
    assert_eq!(sim.answers[0].after, None);
    assert!(sim.answers[0].bytes.windows(13).any(|window| window == LOCAL_ENGINE));
    assert_eq!(sim.agent.rejected().iter().count(), 0, "nothing is wrong with it");
    let stranger = Message { community: b"mallory".to_vec(), ..link_trap(Form::V3, 3, 7, 9) };
    sim.datagram(ip("10.0.0.1"), at(0), &stranger.encode());
    let reasons: Vec<_> = sim.agent.rejected().iter().map(|rejected| rejected.reason).collect();
    assert_eq!(reasons, ["unknown_user"]);
    // What is neither of the three versions.
    let v4 = nest_version(4);
    sim.datagram(ip("10.0.0.1"), at(0), &v4);
    assert_eq!(sim.agent.rejected().iter().last().unwrap().reason, "unsupported_version");
    assert_eq!(sim.taken.len(), 0);
    assert!(alarms(&sim.events).is_empty());
}

fn nest_version(version: i64) -> Vec<u8> {
    tlv(0x30, &[number(2, version), octets(b"public"), tlv(0xa7, &[])].concat())
}

#[test]
fn what_is_answered_is_what_a_sender_reads_trap_5() {
    let mut sim = Sim::new(open_settings());
    sim.datagram(ip("10.0.0.1"), at(0), &link_trap(Form::Inform, 3, 7, 77).encode());
    let (community, reply) = message::read_response(&sim.answers[0].bytes).expect("a Response");
    assert_eq!(community, b"public");
    assert_eq!(reply.request_id, 77);
}

/// Overload as `raise SECONDS` and `clear SECONDS`.
fn overload(sim: &Sim) -> Vec<String> {
    let told = |event: &&AlarmEvent| {
        let word = if event.cleared.is_some() { "clear" } else { "raise" };
        assert_eq!(event.alarm.object, Object::Agent);
        format!("{word} {}", event.at.since(at(0)).as_secs())
    };
    let events = alarms(&sim.events);
    events.iter().filter(|event| event.alarm.kind == Kind::Overload).map(told).collect()
}

fn heard(sim: &mut Sim, secs: u64, lost: u64, limited: u64) {
    // As the driver does: each deadline is judged when it comes.
    while let Some(deadline) = sim.agent.next_deadline().filter(|&due| due < at(secs * 1_000)) {
        sim.heard(deadline);
    }
    let up_to = at(secs * 1_000);
    sim.feed(&Input::Heard { ear: Ear::Traps, up_to, lost, limited });
}

#[test]
fn dropped_input_raises_overload_for_as_long_as_it_lasts_trap_6() {
    let mut sim = Sim::new(open_settings());
    for (secs, lost, limited) in [(10, 0, 0), (20, 0, 5), (49, 3, 0), (100, 0, 0), (120, 1, 0)] {
        heard(&mut sim, secs, lost, limited);
    }
    assert_eq!(overload(&sim), ["raise 20", "clear 79", "raise 120"]);
    assert_eq!((sim.agent.counters().lost, sim.agent.counters().limited), (4, 5));
    let text = &alarms(&sim.events)[1].alarm.text;
    assert!(text.contains("5 as their source sends more") && text.contains("3 for lack of room"));
    // It goes on over a restart, and ends 30 s after that.
    sim.events.clear();
    sim.restart(at(125_000), at(130_000));
    heard(&mut sim, 159, 0, 0);
    assert_eq!(overload(&sim), [""; 0]);
    heard(&mut sim, 161, 0, 0);
    assert_eq!(overload(&sim), ["clear 160"]);
    // What the other ear lost is another matter.
    let up_to = at(200_000);
    sim.feed(&Input::Heard { ear: Ear::Replies, up_to, lost: 9, limited: 0 });
    assert_eq!(sim.agent.alarms().active().len(), 0);
}

fn target(name: &str, durable: bool, original: bool) -> ForwardTarget {
    ForwardTarget { name: name.to_owned(), durable, original }
}

#[test]
fn a_target_that_does_not_answer_is_an_alarm_until_it_does_or_is_gone_trap_11() {
    let mut settings = open_settings();
    settings.forwarding.targets = vec![target("noc", true, false), target("lab", false, false)];
    let mut sim = Sim::new(settings.clone());
    let report = |sim: &mut Sim, name: &str, why: Option<&str>, secs: u64| {
        let (name, unreachable) = (name.to_owned(), why.map(str::to_owned));
        sim.feed(&Input::Target { name, unreachable, now: at(secs * 1_000) });
    };
    report(&mut sim, "noc", Some("no response"), 1);
    report(&mut sim, "noc", Some("no response"), 2);
    report(&mut sim, "lab", Some("no response"), 3);
    report(&mut sim, "noc", None, 4);
    sim.restart(at(5_000), at(6_000));
    report(&mut sim, "lab", Some("no response"), 7);
    settings.forwarding.targets.pop();
    sim.feed(&Input::Settings { settings: Box::new(settings), now: at(8_000) });
    let told: Vec<_> = alarms(&sim.events)
        .iter()
        .map(|event| {
            let why = event.cleared.map_or("raised", |reason| reason.name());
            (event.at.since(at(0)).as_secs(), event.alarm.object.to_string(), why)
        })
        .collect();
    let expected = [(1, "noc", "raised"), (3, "lab", "raised"), (4, "noc", "ended")];
    let expected = expected.iter().chain(&[(8, "lab", "turned_off")]);
    let expected: Vec<_> = expected.map(|&(at, name, why)| (at, name.to_owned(), why)).collect();
    assert_eq!(told, expected);
}

/// One message of the property below: after how many hundredths of a second it comes, of which system
/// and interface (0: a restart; 9: nothing that is judged), linkUp or not, its form, and whether it
/// is an earlier one sent again.
type Sent = (u64, u8, u32, bool, u8, bool);

fn sent() -> impl Strategy<Value = Sent> {
    let gap = prop_oneof![3 => 0..300u64, 2 => 0..4_000u64, 1 => 0..60_000u64];
    let if_index = prop_oneof![4 => 1..3u32, 1 => Just(0u32), 1 => Just(9u32)];
    let again = prop_oneof![6 => Just(false), 1 => Just(true)];
    (gap, 1..3u8, if_index, any::<bool>(), 0..5u8, again)
}

/// What the store has on disk: records and active alarms, and every event.
#[derive(Clone, Default)]
struct Disk {
    records: BTreeMap<RecordKey, (Record, Time)>,
    events: Vec<AlarmEvent>,
}

impl Disk {
    fn write(&mut self, commit: Commit) {
        self.events.extend(commit.events);
        for record in commit.records {
            self.records.insert(record.key, (record, commit.at));
        }
    }

    fn state(&self, now: Time) -> State {
        let mut active = BTreeMap::new();
        for event in &self.events {
            let key = (event.alarm.kind, event.alarm.object.clone());
            match event.cleared {
                None => active.insert(key, event.alarm.clone()),
                Some(_) => active.remove(&key),
            };
        }
        let records = self
            .records
            .values()
            .map(|(record, written)| Record { age: now.since(*written), ..record.clone() });
        State {
            records: records.collect(),
            alarms: active.into_values().collect(),
            ..State::default()
        }
    }
}

/// What the driver hands to the store at once.
struct Commit {
    at: Time,
    events: Vec<AlarmEvent>,
    records: Vec<Record>,
}

/// A driver that keeps what it would have handed to the store, and to the spool.
struct Recorded {
    sim: Sim,
    told: Vec<AlarmEvent>,
    commits: Vec<Commit>,
}

impl Recorded {
    fn drain(&mut self, at: Time) {
        let events: Vec<AlarmEvent> =
            alarms(&std::mem::take(&mut self.sim.events)).into_iter().cloned().collect();
        let agent = &mut self.sim.agent;
        let records = events.iter().flat_map(|event| agent.records_of(&event.alarm, at)).collect();
        self.told.extend(events.iter().cloned());
        self.commits.push(Commit { at, events, records });
    }

    fn wait(&mut self, until: Time) {
        while let Some(due) = self.sim.agent.next_deadline().filter(|&due| due <= until) {
            self.sim.heard(due);
            self.drain(due);
        }
        self.sim.heard(until);
        self.drain(until);
    }

    fn checkpoint(&mut self, most: usize, at: Time) {
        let (records, _) = self.sim.agent.take_changes(most, at);
        self.commits.push(Commit { at, events: vec![], records });
    }
}

/// What an object's alarms were, in order: kind, and whether each was a clear, with its moment.
fn by_object(events: &[AlarmEvent]) -> BTreeMap<Object, Vec<(Kind, bool, Time)>> {
    let mut told: BTreeMap<Object, Vec<_>> = BTreeMap::new();
    for event in events {
        let entry = (event.alarm.kind, event.cleared.is_some(), event.at);
        told.entry(event.alarm.object.clone()).or_default().push(entry);
    }
    told
}

/// Sends `messages` to two agents, one of which crashes before the one at `crash`, when the store had
/// written all but the last `unwritten` of what it was handed. All that was numbered is replayed to it.
fn crash_and_go_on(
    messages: &[Sent],
    crash: usize,
    unwritten: usize,
    share: usize,
    informs_only: bool,
) -> Result<(), TestCaseError> {
    let mut settings = open_settings();
    settings.forwarding = Forwarding {
        targets: vec![target("noc", true, false)],
        rules: vec![ForwardRule {
            traps: vec![],
            systems: vec![],
            groups: vec![],
            states: vec![],
            during_unstable: match informs_only {
                true => DuringUnstable::Suppress,
                false => DuringUnstable::Forward,
            },
            targets: vec![0],
        }],
        ..Forwarding::default()
    };
    let sim = Sim::new(settings.clone());
    let mut whole = Recorded { sim, told: vec![], commits: vec![] };
    let mut crashed: Option<Recorded> = None;
    let mut disk = Disk::default();
    let mut now = at(0);
    // That a system sends linkDown is on the disk before anything else: INST-2 is about the order of
    // traps of different interfaces, which records of single objects do not hold.
    for system in 1..3u8 {
        let first = link_trap(Form::Inform, 3, 99, i64::from(system)).encode();
        whole.sim.datagram([10, 0, 0, system].into(), now, &first);
    }
    whole.drain(now);
    whole.checkpoint(usize::MAX, now);
    for commit in std::mem::take(&mut whole.commits) {
        disk.write(commit);
    }
    now = at(600_000);
    let mut before: Vec<(u8, Vec<u8>)> = Vec::new();
    for (place, &(gap, system, if_index, link_up, form, again)) in messages.iter().enumerate() {
        now = now + Duration::from_millis(gap * 10);
        whole.wait(now);
        if let Some(crashed) = &mut crashed {
            crashed.wait(now);
        }
        if place == crash {
            let written = whole.commits.len().saturating_sub(unwritten);
            for commit in whole.commits.drain(..written) {
                disk.write(commit);
            }
            let mut begun = Sim::new(settings.clone());
            begun.agent.restore(disk.state(now), Duration::ZERO, now);
            begun.drain();
            for taken in &whole.sim.taken {
                begun.feed(&Input::Replayed(Box::new(taken.clone())));
            }
            let mut begun = Recorded { sim: begun, told: disk.events.clone(), commits: vec![] };
            begun.drain(now);
            begun.wait(now);
            prop_assert_eq!(begun.sim.agent.next_number(), whole.sim.agent.next_number());
            prop_assert!(begun.sim.answers.is_empty() && begun.sim.taken.is_empty());
            same_memory(&whole.sim, &begun.sim, now)?;
            crashed = Some(begun);
        }
        let forms = match informs_only {
            true => [Form::Inform, Form::V3Inform, Form::Inform, Form::V3Inform, Form::Inform],
            false => Form::ALL,
        };
        let trap = match (if_index, link_up) {
            (0, _) => 1 + u32::from(form) % 2,
            (9, _) => 6,
            (_, true) => 4,
            (_, false) => 3,
        };
        let if_index = if if_index == 9 { 0 } else { if_index };
        let serial = 1_000 + place as i64;
        let message = link_trap(forms[usize::from(form)], trap, if_index, serial).encode();
        let (system, message) = match before.iter().rev().nth(usize::from(form)) {
            Some(earlier) if again => earlier.clone(),
            _ => (system, message),
        };
        // That a datagram has just gone on is not remembered over a crash: it may go on twice.
        if informs_only || trap != 6 {
            before.push((system, message.clone()));
        }
        for agent in std::iter::once(&mut whole).chain(&mut crashed) {
            agent.sim.datagram([10, 0, 0, system].into(), now, &message);
            agent.drain(now);
            if place % 3 == 0 {
                agent.checkpoint(share, now);
            }
        }
    }
    let Some(mut crashed) = crashed else { return Ok(()) };
    same_memory(&whole.sim, &crashed.sim, now)?;
    prop_assert_eq!(crashed.sim.agent.next_number(), whole.sim.agent.next_number());
    now = now + Duration::from_secs(8_000);
    whole.wait(now);
    crashed.wait(now);
    let (whole, crashed) = (by_object(&whole.told), by_object(&crashed.told));
    let kinds = |told: &BTreeMap<Object, Vec<(Kind, bool, Time)>>| -> BTreeMap<Object, Vec<_>> {
        let kinds = |told: &Vec<(Kind, bool, Time)>| {
            told.iter().map(|&(kind, clear, _)| (kind, clear)).collect()
        };
        told.iter().map(|(object, told)| (object.clone(), kinds(told))).collect()
    };
    prop_assert_eq!(kinds(&whole), kinds(&crashed));
    for (object, told) in &whole {
        for (right, found) in told.iter().zip(&crashed[object]) {
            // INST-17: no sooner than it would have been.
            prop_assert!(found.2 >= right.2, "{object}: {found:?} instead of {right:?}");
        }
    }
    Ok(())
}

fn same_memory(whole: &Sim, other: &Sim, now: Time) -> Result<(), TestCaseError> {
    let memory = |sim: &Sim| -> BTreeMap<RecordKey, _> {
        let records = sim.agent.export(now).records;
        records.into_iter().map(|record| (record.key, record.memory)).collect()
    };
    prop_assert_eq!(memory(whole), memory(other));
    let active = |sim: &Sim| sim.agent.alarms().active().keys().cloned().collect::<Vec<_>>();
    prop_assert_eq!(active(whole), active(other));
    Ok(())
}

proptest! {
    #![proptest_config(cases(300))]

    /// TRAP-5: wherever it crashes, and whatever of its records was on the disk by then, an agent that
    /// is given what the spool holds knows what it would have known, tells what it would have told,
    /// and counts nothing twice.
    #[test]
    fn a_crash_loses_nothing_that_is_in_the_spool_and_counts_nothing_twice_trap_5(
        messages in vec(sent(), 1..60),
        crash in 0..60usize,
        unwritten in 0..20usize,
        share in 0..4usize,
        informs_only in any::<bool>(),
    ) {
        crash_and_go_on(&messages, crash, unwritten, share, informs_only)?;
    }
}

proptest! {
    #![proptest_config(cases(150))]

    /// TRAP-5: whatever comes, numbers go up by one, none is waited for that was not handed to the
    /// spool before, and as many answers go out as informs came in.
    #[test]
    fn an_answer_waits_only_for_what_the_spool_was_given_trap_5(ops in vec(op(), 0..200)) {
        let mut world = World::new(1);
        let mut last = 0;
        for op in &ops {
            world.act(op);
            for taken in world.taken.drain(..) {
                if let Some(number) = taken.number {
                    prop_assert_eq!(number, last + 1);
                    last = number;
                }
                prop_assert!(taken.number.is_some() || !taken.form.is_inform());
                prop_assert!(taken.form.is_inform() || !taken.targets.is_empty());
                let form = taken.form;
                let again = Trap::of_varbinds(form, &taken.community, taken.request_id, &taken.varbinds);
                prop_assert!(again.is_ok(), "what the core hands out can be replayed to it");
            }
            let informs = world.agent.counters().informs;
            prop_assert!(world.agent.counters().responses == informs);
            for answer in world.answers.drain(..) {
                prop_assert!(answer.after.is_none_or(|number| number <= last));
            }
        }
    }
}

/// TRAP-5: what was taken in before the crash is known when it is sent again after it.
#[test]
fn an_inform_that_is_sent_again_after_a_crash_is_answered_and_not_taken_in_again_trap_5() {
    for form in [Form::Inform, Form::V3Inform] {
        let mut sim = Sim::new(open_settings());
        let inform = link_trap(form, 6, 0, 5).encode();
        sim.datagram(ip("10.0.0.1"), at(0), &inform);
        let taken: Vec<Taken> = sim.taken.clone();
        sim.begin_with(State::default(), Duration::from_secs(2), at(2_000));
        for taken in taken {
            sim.feed(&Input::Replayed(Box::new(taken)));
        }
        sim.datagram(ip("10.0.0.1"), at(3_000), &inform);
        assert_eq!(outcome(&sim, Outcome::Repeat), 1);
        assert_eq!(sim.answers.last().unwrap().after, Some(1));
        assert_eq!(sim.taken.len(), 1);
        assert_eq!(sim.agent.counters().replayed, 1);
    }
}

/// INST-17: nobody listened between the crash and the restart, which is not quiet, for episodes that
/// the replay has prolonged or begun either.
#[test]
fn deaf_time_is_not_quiet_for_what_is_replayed_inst_17() {
    let otherwise = GroupSettings { interface_down: false, ..GroupSettings::default() };
    let instability = Instability { groups: vec![], otherwise, ..Instability::default() };
    for written in [0, 1, 2, 3] {
        let mut sim = Sim::new(Settings { instability: instability.clone(), ..open_settings() });
        let mut state = State::default();
        for nth in 0..3 {
            if nth == written {
                state = sim.agent.export(at(nth * 10_000));
            }
            let inform = link_trap(Form::Inform, 3, 7, nth as i64).encode();
            sim.datagram(ip("10.0.0.1"), at(nth * 10_000), &inform);
        }
        if written == 3 {
            state = sim.agent.export(at(20_000));
        }
        let as_of = at(written.min(2) * 10_000);
        let (crash, back) = (at(25_000), at(100_000));
        for record in &mut state.records {
            record.age = back.since(as_of);
        }
        let taken = std::mem::take(&mut sim.taken);
        let mut sim = Sim::new(Settings { instability: instability.clone(), ..open_settings() });
        sim.agent.restore(state, back.since(crash), back);
        for taken in taken {
            sim.feed(&Input::Replayed(Box::new(taken)));
        }
        sim.heard(at(124_000));
        // 20 s + 30 s of quiet, of which 5 s were heard before the crash.
        assert_eq!(sim.agent.alarms().active().len(), 1, "written: {written}");
        sim.heard(at(125_000));
        assert_eq!(sim.agent.alarms().active().len(), 0, "written: {written}");
        let told: Vec<_> = alarms(&sim.events).iter().map(|event| event.at).collect();
        assert_eq!(told.last(), Some(&at(125_000)));
    }
}

#[test]
fn a_replay_keeps_to_groups_as_the_first_run_did() {
    let group = Group {
        name: "core".to_owned(),
        matches: Match { systems: vec!["10.0.0.0/24".parse().unwrap()], ..Match::default() },
        settings: GroupSettings { interfaces: None, ..GroupSettings::default() },
    };
    let mut settings = open_settings();
    settings.instability.groups = vec![group];
    let mut sim = Sim::new(settings.clone());
    for nth in 0..3 {
        let inform = link_trap(Form::Inform, 3, 7, nth).encode();
        sim.datagram(ip("10.0.0.1"), at(0), &inform);
    }
    let before = sim.agent.export(at(0)).records;
    let mut again = Sim::new(settings);
    for taken in &sim.taken {
        again.feed(&Input::Replayed(Box::new(taken.clone())));
    }
    assert_eq!(again.agent.export(at(0)).records, before);
}
