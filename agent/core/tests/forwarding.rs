//! Which traps go where, what is held back and told, and that loops end.

use std::net::{IpAddr, SocketAddr};

use evenkeel_core::{
    input::{Datagram, Door, Event, Input, Taken},
    settings::{
        DuringUnstable, ForwardRule, ForwardTarget, Forwarding, Group, GroupSettings, Match,
        ObjectState, Settings,
    },
    trap::Form,
};

use crate::common::{
    ber::{
        Message, SNMP_TRAP_ADDRESS, if_entry, if_x_entry, integer_content, nest, number, octets,
        oid_content, tlv, varbind,
    },
    sim::{Sim, at, open_settings},
};

/// evenkeelForwardedBy.0 under some root.
const MARK_OID: [u32; 10] = [1, 3, 6, 1, 4, 1, 8072, 9999, 35, 0];

fn rule(targets: &[u16]) -> ForwardRule {
    ForwardRule {
        traps: vec![],
        systems: vec![],
        groups: vec![],
        states: vec![],
        during_unstable: DuringUnstable::Suppress,
        targets: targets.to_vec(),
    }
}

/// Targets 0 `noc`, which acknowledges; 1 `lab`; 2 `raw`, which is sent originals.
fn forwarding(rules: Vec<ForwardRule>) -> Settings {
    let target =
        |name: &str, durable, original| ForwardTarget { name: name.to_owned(), durable, original };
    let targets =
        vec![target("noc", true, false), target("lab", false, false), target("raw", false, true)];
    let forwarding = Forwarding {
        targets,
        rules,
        mark: b"\x80\x00\x1f\x88\x04me".to_vec(),
        mark_oid: oid_content(&MARK_OID),
        receivers: Vec::new(),
    };
    Settings { forwarding, ..open_settings() }
}

fn message(form: Form, trap: u32, if_index: u32, serial: i64) -> Message {
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

/// Where the last datagram went.
fn targets(sim: &mut Sim) -> Vec<u16> {
    let taken = std::mem::take(&mut sim.taken);
    assert!(taken.len() <= 1, "one trap goes on once");
    taken.first().map(|taken| taken.targets.to_vec()).unwrap_or_default()
}

#[test]
fn the_first_rule_that_fits_wins_by_trap_system_group_and_state_trap_8() {
    let arcs = |text: &str| text.split('.').map(|arc| arc.parse().unwrap()).collect::<Vec<u32>>();
    let traps = |texts: &[&str]| texts.iter().map(|text| arcs(text)).collect::<Vec<_>>();
    let rules = vec![
        ForwardRule { traps: traps(&["1.3.6.1.6.3.1.1.5.4"]), ..rule(&[]) },
        ForwardRule { systems: vec!["10.7.0.0/16".parse().unwrap()], ..rule(&[0]) },
        ForwardRule { groups: vec!["uplinks".to_owned(), "nobody".to_owned()], ..rule(&[1]) },
        ForwardRule { traps: traps(&["1.3.6.1.4.1.9.1.0.300", "2"]), ..rule(&[0, 1]) },
        ForwardRule { states: vec![ObjectState::Down], ..rule(&[2]) },
        ForwardRule {
            traps: traps(&["1.3.6.1.6.3.1.1.5.1", "1.3.6.1.6.3.1.1.5.2"]),
            ..rule(&[1, 2])
        },
    ];
    let mut settings = forwarding(rules);
    let uplinks = Group {
        name: "uplinks".to_owned(),
        matches: Match { if_name: vec!["Te*".to_owned()], ..Match::default() },
        settings: GroupSettings::default(),
    };
    settings.instability.groups = vec![uplinks];
    let mut sim = Sim::new(settings);
    let named = |name: &[u8], message: Message| {
        let mut message = message;
        message.varbinds.push(varbind(&if_x_entry(1, 5), octets(name)));
        message
    };
    let mut serial = 0;
    let mut next = |form, trap, if_index| {
        serial += 1;
        message(form, trap, if_index, serial)
    };
    for form in Form::ALL {
        // A system of its own for each form, so that nothing is unstable.
        let other = |net: u8| IpAddr::from([10, net, 1, form as u8]);
        for (source, message, expected) in [
            (other(1), next(form, 4, 5), &[][..]),
            (other(7), next(form, 3, 5), &[0]),
            (other(7), next(form, 4, 6), &[]),
            (other(7), next(form, 6, 0), &[0]),
            (other(2), named(b"Te1/1", next(form, 3, 5)), &[1]),
            (other(3), named(b"Gi1/1", next(form, 3, 5)), &[2]),
            (other(4), next(form, 1, 0), &[1, 2]),
            (other(5), next(form, 6, 0), &[]),
            // No ifIndex: it is about its system (INST-18).
            (other(5), next(form, 3, 0), &[]),
        ] {
            sim.datagram(source, at(1), &message.encode());
            assert_eq!(targets(&mut sim), expected, "{form:?} from {source}: {message:?}");
        }
    }
    let counted = &sim.agent.counters().forwarded;
    assert_eq!(counted, &[2 * 5, 2 * 5, 2 * 5]);
}

/// A trap with any snmpTrapOID, as SNMPv2c, and what SNMPv1 makes of it.
fn with_oid(arcs: &[u32], serial: i64) -> Vec<u8> {
    let varbinds = [
        varbind(&[1, 3, 6, 1, 2, 1, 1, 3, 0], number(0x43, serial)),
        varbind(&[1, 3, 6, 1, 6, 3, 1, 1, 4, 1, 0], tlv(6, &oid_content(arcs))),
    ];
    let zero = number(2, 0);
    let pdu = nest(0xa7, &[number(2, serial), zero.clone(), zero, nest(0x30, &varbinds)]);
    nest(0x30, &[number(2, 1), octets(b"public"), pdu])
}

#[test]
fn a_prefix_is_one_of_whole_sub_identifiers_trap_8() {
    for (prefix, oid, fits) in [
        (&[1, 3, 6, 1, 4, 1, 9][..], &[1, 3, 6, 1, 4, 1, 9, 0, 1][..], true),
        (&[1, 3, 6, 1, 4, 1, 9], &[1, 3, 6, 1, 4, 1, 9], true),
        (&[1, 3, 6, 1, 4, 1, 9], &[1, 3, 6, 1, 4, 1, 99, 1], false),
        (&[1, 3, 6, 1, 4, 1, 2021], &[1, 3, 6, 1, 4, 1, 2021, 7], true),
        // Its first octet is that of 2021.
        (&[1, 3, 6, 1, 4, 1, 15], &[1, 3, 6, 1, 4, 1, 2021, 7], false),
        (&[1], &[1, 3, 6], true),
        (&[1], &[2, 3, 6], false),
        (&[2], &[2, 39, 6], true),
        (&[1, 3], &[1, 3, 6], true),
        (&[1, 2], &[1, 3, 6], false),
    ] {
        let only = ForwardRule { traps: vec![prefix.to_vec()], ..rule(&[1]) };
        let mut sim = Sim::new(forwarding(vec![only]));
        sim.datagram(ip("10.0.0.1"), at(0), &with_oid(oid, 1));
        assert_eq!(targets(&mut sim) == [1], fits, "{prefix:?} {oid:?}");
    }
    // SNMPv1: enterprise.0.specific (RFC 3584, 3.1).
    let enterprise =
        ForwardRule { traps: vec![vec![1, 3, 6, 1, 4, 1, 9, 1, 0, 300]], ..rule(&[1]) };
    for (specific, fits) in [(300, true), (301, false)] {
        let mut sim = Sim::new(forwarding(vec![enterprise.clone()]));
        let pdu = nest(
            0xa4,
            &[
                tlv(6, &oid_content(&[1, 3, 6, 1, 4, 1, 9, 1])),
                tlv(0x40, &[0; 4]),
                number(2, 6),
                tlv(2, &integer_content(specific)),
                number(0x43, 5),
                nest(0x30, &[]),
            ],
        );
        let v1 = nest(0x30, &[number(2, 0), octets(b"public"), pdu]);
        sim.datagram(ip("10.0.0.1"), at(0), &v1);
        assert_eq!(targets(&mut sim) == [1], fits, "{specific}");
    }
}

#[test]
fn what_goes_to_a_target_that_acknowledges_has_a_number_and_originals_are_kept_as_they_came() {
    let mut sim = Sim::new(forwarding(vec![
        ForwardRule { systems: vec!["10.0.0.1/32".parse().unwrap()], ..rule(&[0, 1]) },
        ForwardRule { systems: vec!["10.0.0.2/32".parse().unwrap()], ..rule(&[1]) },
        ForwardRule { systems: vec!["10.0.0.3/32".parse().unwrap()], ..rule(&[2]) },
    ]));
    sim.agent.set_spool(7);
    for form in [Form::V1, Form::V2c, Form::V3] {
        let sent = message(form, 3, 5 + form as u32, form as i64);
        for (last, number, original) in [(1, true, false), (2, false, false), (3, false, true)] {
            let bytes = sent.encode();
            sim.datagram([10, 0, 0, last].into(), at(5), &bytes);
            let Taken { number: found, original: kept, community, varbinds, form: came, .. } =
                sim.taken.pop().expect("it goes on");
            assert_eq!((found.is_some(), kept.is_some()), (number, original), "{form:?} {last}");
            assert!(kept.is_none_or(|kept| kept == bytes));
            assert_eq!((community, came), (b"public".to_vec(), form));
            assert!(varbinds.starts_with(&varbind(&[1, 3, 6, 1, 2, 1, 1, 3, 0], number_of(&sent))));
        }
    }
    assert_eq!(sim.agent.next_number(), 10);
}

fn number_of(message: &Message) -> Vec<u8> {
    number(0x43, message.uptime)
}

/// The numbers of suppressed traps that clears told, in order.
fn suppressed(sim: &Sim) -> Vec<(String, u64)> {
    let told = |event: &Event| match event {
        Event::Alarm(event) if event.cleared.is_some() => {
            let episode = event.alarm.episode?;
            Some((event.alarm.object.to_string(), episode.suppressed))
        }
        _ => None,
    };
    sim.events.iter().filter_map(told).collect()
}

#[test]
fn of_an_unstable_object_the_first_traps_go_on_and_the_clear_tells_how_many_did_not_trap_8() {
    let mut settings = forwarding(vec![rule(&[1])]);
    settings.instability.groups.clear();
    settings.instability.otherwise.interface_down = false;
    let mut sim = Sim::new(settings.clone());
    let source = ip("10.0.0.1");
    // The second makes it unstable and goes on; then linkDown and linkUp alike are held back.
    let sent = [(0, 3), (1, 3), (2, 4), (3, 3), (4, 4), (5, 3)];
    let mut went = Vec::new();
    for (serial, (secs, trap)) in sent.into_iter().enumerate() {
        let bytes = message(Form::V2c, trap, 5, serial as i64).encode();
        sim.datagram(source, at(secs * 1_000), &bytes);
        if !targets(&mut sim).is_empty() {
            went.push(secs);
        }
        // A copy is neither forwarded nor held back.
        sim.datagram(source, at(secs * 1_000), &bytes);
        assert_eq!(targets(&mut sim), [0; 0]);
    }
    assert_eq!(went, [0, 1]);
    // Another interface of the system, and what is about the system itself, go on.
    for (trap, if_index) in [(3, 6), (6, 0), (1, 0)] {
        sim.datagram(source, at(6_000), &message(Form::V2c, trap, if_index, 99).encode());
        assert_eq!(targets(&mut sim), [1], "{trap} {if_index}");
    }
    assert_eq!(sim.agent.counters().suppressed, 4);
    // The count goes on over a restart.
    sim.restart(at(7_000), at(7_000));
    sim.datagram(source, at(8_000), &message(Form::V2c, 3, 5, 50).encode());
    assert_eq!(targets(&mut sim), [0; 0]);
    // A trap after the end of the episode goes on, though the end was not judged before.
    sim.datagram(source, at(100_000), &message(Form::V2c, 3, 5, 51).encode());
    assert_eq!(targets(&mut sim), [1]);
    assert_eq!(suppressed(&sim), [("10.0.0.1 ifIndex 5".to_owned(), 5)]);
    let text = sim.events.iter().rev().find_map(|event| match event {
        Event::Alarm(event) => Some(event.alarm.text.clone()),
        _ => None,
    });
    assert!(text.unwrap().ends_with("of which 5 were not forwarded"));
    // The next episode begins at nothing; turned off, it tells its number too.
    for (secs, serial) in [(101, 52), (102, 53), (103, 54)] {
        sim.datagram(source, at(secs * 1_000), &message(Form::V2c, 3, 5, serial).encode());
    }
    sim.taken.clear();
    settings.instability.otherwise.interfaces = None;
    sim.feed(&Input::Settings { settings: Box::new(settings), now: at(104_000) });
    assert_eq!(suppressed(&sim).last(), Some(&("10.0.0.1 ifIndex 5".to_owned(), 2)));
}

#[test]
fn whatever_is_about_an_unstable_system_is_held_back_and_rules_may_forward_it_trap_8() {
    for (during_unstable, expected) in
        [(DuringUnstable::Suppress, &[][..]), (DuringUnstable::Forward, &[1])]
    {
        let mut sim = Sim::new(forwarding(vec![ForwardRule { during_unstable, ..rule(&[1]) }]));
        let source = ip("10.0.0.1");
        for serial in 0..3_u32 {
            let bytes = message(Form::V2c, 1, 0, serial.into()).encode();
            sim.datagram(source, at(u64::from(serial) * 1_000), &bytes);
            assert_eq!(targets(&mut sim), [1], "the third raises the alarm");
        }
        for (trap, if_index, expected) in [(2, 0, expected), (6, 0, expected), (3, 4, &[1])] {
            sim.datagram(source, at(9_000), &message(Form::V2c, trap, if_index, 70).encode());
            assert_eq!(targets(&mut sim), expected, "{trap} {during_unstable:?}");
        }
        sim.heard(at(10_000_000));
        let held_back = if expected.is_empty() { 2 } else { 0 };
        assert_eq!(suppressed(&sim), [("10.0.0.1".to_owned(), held_back)]);
    }
}

#[test]
fn a_reload_puts_other_rules_in_force_and_keeps_what_was_counted_by_name_trap_8() {
    let mut settings = forwarding(vec![rule(&[0, 1])]);
    let mut sim = Sim::new(settings.clone());
    sim.datagram(ip("10.0.0.1"), at(0), &message(Form::V2c, 6, 0, 1).encode());
    assert_eq!(sim.agent.counters().forwarded, [1, 1, 0]);
    settings.forwarding.targets.remove(0);
    settings.forwarding.rules = vec![rule(&[1])];
    sim.feed(&Input::Settings { settings: Box::new(settings), now: at(1) });
    sim.taken.clear();
    sim.datagram(ip("10.0.0.1"), at(2), &message(Form::V2c, 6, 0, 2).encode());
    assert_eq!(targets(&mut sim), [1]);
    assert_eq!(sim.agent.counters().forwarded, [1, 1], "lab and raw");
}

#[test]
fn a_trap_that_comes_back_is_dropped_counted_and_judged_by_nobody_trap_9() {
    for form in Form::ALL {
        let mut sim = Sim::new(forwarding(vec![rule(&[1])]));
        let mut ours = message(form, 3, 5, 1);
        let marked = |octets_of: &[u8]| varbind(&MARK_OID, octets(octets_of));
        ours.varbinds.push(marked(b"\x80\x00\x1f\x88\x04other"));
        sim.datagram(ip("10.0.0.1"), at(0), &ours.encode());
        assert_eq!(targets(&mut sim), [1], "another agent's mark");
        ours.varbinds.push(marked(b"\x80\x00\x1f\x88\x04me"));
        ours.request_id = 2;
        sim.answers.clear();
        sim.datagram(ip("10.0.0.2"), at(0), &ours.encode());
        assert_eq!(targets(&mut sim), [0; 0]);
        let reasons: Vec<_> = sim.agent.rejected().iter().map(|kept| kept.reason).collect();
        assert_eq!(reasons, ["forwarding_loop"]);
        assert_eq!(sim.agent.counters().refused, [0, 0, 1]);
        assert_eq!(sim.agent.counters().forms.iter().sum::<u64>(), 1);
        assert_eq!(sim.agent.instability().objects(), 2, "of the first system alone");
        // Its sender would send an inform for ever.
        let answers: Vec<_> = sim.answers.iter().map(|answer| answer.after).collect();
        assert_eq!(answers, if form.is_inform() { vec![None] } else { vec![] });
    }
}

/// What a forwarder makes of a trap: SNMPv2c, with whose it is and with its mark.
fn forwarded(taken: &Taken, mark: &[u8], serial: i64) -> Vec<u8> {
    let IpAddr::V4(system) = taken.system.0 else { panic!("IPv4 here") };
    let mut list = taken.varbinds.clone();
    let address = varbind(&SNMP_TRAP_ADDRESS, tlv(0x40, &system.octets()));
    if !list.windows(address.len()).any(|window| window == address) {
        list.extend(address);
    }
    list.extend(varbind(&MARK_OID, octets(mark)));
    let zero = number(2, 0);
    let pdu = nest(0xa7, &[number(2, serial), zero.clone(), zero, tlv(0x30, &list)]);
    nest(0x30, &[number(2, 1), octets(b"public"), pdu])
}

#[test]
fn two_agents_that_forward_to_each_other_end_the_loop_trap_9() {
    for original in [false, true] {
        let mut agents: Vec<Sim> = ["one", "two"]
            .map(|mark| {
                let mut settings = forwarding(vec![rule(if original { &[2] } else { &[1] })]);
                settings.forwarding.mark = mark.as_bytes().to_vec();
                settings.access.forwarders = vec!["192.0.2.0/24".parse().unwrap()];
                Sim::new(settings)
            })
            .into();
        // To whom, from where, what.
        let device: SocketAddr = "10.0.0.1:1024".parse().unwrap();
        let mut on_the_way: Vec<(usize, SocketAddr, Vec<u8>)> = Vec::new();
        for serial in 0..10 {
            on_the_way.push((0, device, message(Form::V2c, 6, 0, serial).encode()));
        }
        let mut hops = 0;
        while let Some((to, source, bytes)) = on_the_way.pop() {
            hops += 1;
            assert!(hops < 100, "it goes round for ever");
            let (received, door) = (at(hops), Door::default());
            agents[to].feed(&Input::Datagram(Datagram { source, received, door, bytes: &bytes }));
            for taken in std::mem::take(&mut agents[to].taken) {
                let next = match taken.original.clone() {
                    Some(original) => (1 - to, taken.source, original),
                    None => {
                        let mark = ["one", "two"][to].as_bytes();
                        let source = SocketAddr::new(IpAddr::from([192, 0, 2, to as u8]), 162);
                        (1 - to, source, forwarded(&taken, mark, 1_000 + hops as i64))
                    }
                };
                on_the_way.push(next);
            }
        }
        // To the first, to the second, and back to the first, which knows it.
        assert_eq!(hops, 30, "original: {original}");
        let counters = agents[0].agent.counters();
        let known = if original { counters.doubled } else { counters.refused[2] };
        assert_eq!(known, 10);
    }
}

#[test]
fn a_doubled_datagram_goes_on_once_and_the_same_one_much_later_again_trap_9() {
    let mut sim = Sim::new(forwarding(vec![rule(&[1])]));
    let bytes = message(Form::V2c, 6, 0, 1).encode();
    for (source, millis, expected) in [
        ("10.0.0.1", 0, &[1][..]),
        ("10.0.0.1", 5_000, &[]),
        ("10.0.0.2", 5_000, &[1]),
        ("10.0.0.1", 5_001, &[1]),
    ] {
        sim.datagram(ip(source), at(millis), &bytes);
        assert_eq!(targets(&mut sim), expected, "{source} at {millis} ms");
    }
    assert_eq!(sim.agent.counters().doubled, 1);
}
