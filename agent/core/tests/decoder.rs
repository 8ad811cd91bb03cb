//! What is taken and what is refused (TRAP-7), and second opinions of three other decoders.

use std::net::IpAddr;

use evenkeel_core::{
    ber::tag,
    trap::{Form, MAX_VARBINDS, Malformed, Trap, TrapEvent},
};
use proptest::{collection::vec, prelude::*};
use snmp_parser::{SnmpPdu, parse_snmp_v1, parse_snmp_v2c};

use crate::common::{
    ber::{
        ENTERPRISE, Message, SNMP_TRAP_ADDRESS, SNMP_TRAP_OID, SNMP_TRAPS, SYS_UP_TIME, if_entry,
        integer_content, nest, number, octets, oid, oid_content, tlv, varbind,
    },
    sim::{Sim, at, cases, open_settings},
};

fn link_down() -> Message {
    let varbinds = vec![
        varbind(&if_entry(1, 3), number(2, 3)),
        varbind(&if_entry(7, 3), number(2, 1)),
        varbind(&if_entry(8, 3), number(2, 2)),
    ];
    Message { varbinds, ..Message::new(Form::V2c, 3) }
}

/// A v2c trap from its parts, each encoded.
fn v2c(community: &[u8], request_id: Vec<u8>, uptime: Vec<u8>, more: &[Vec<u8>]) -> Vec<u8> {
    let trap_oid = [&SNMP_TRAPS[..], &[3]].concat();
    let mut list = vec![varbind(&SYS_UP_TIME, uptime), varbind(&SNMP_TRAP_OID, oid(&trap_oid))];
    list.extend_from_slice(more);
    let pdu = nest(0xa7, &[request_id, number(2, 0), number(2, 0), nest(0x30, &list)]);
    nest(0x30, &[number(2, 1), octets(community), pdu])
}

fn index() -> Vec<u8> {
    varbind(&if_entry(1, 3), number(2, 3))
}

/// An element whose length is written in four octets.
fn padded(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = (content.len() as u32).to_be_bytes();
    [&[tag, 0x84][..], &length, content].concat()
}

#[test]
fn what_real_devices_send_is_taken_trap_7() {
    let ticks = |content: &[u8]| tlv(0x43, content);
    let id = || number(2, 1);
    let up = || number(0x43, 100_000);
    let filler = |count: u32, size: usize| -> Vec<Vec<u8>> {
        let value = vec![b'x'; size];
        (0..count).map(|arc| varbind(&[1, 3, 6, 1, 4, 1, 9, 9, arc], octets(&value))).collect()
    };
    let with = |bad: Vec<u8>| v2c(b"public", id(), up(), &[bad, index()]);
    let plain = v2c(b"public", id(), up(), &[index()]);
    let list = [
        varbind(&SYS_UP_TIME, up()),
        varbind(&SNMP_TRAP_OID, oid(&[&SNMP_TRAPS[..], &[3]].concat())),
        index(),
    ]
    .concat();
    let pdu = [number(2, 1), number(2, 0), number(2, 0), padded(0x30, &list)].concat();
    let message = [padded(2, &[1]), padded(4, b"public"), padded(0xa7, &pdu)].concat();
    let mut many = filler(400, 70);
    many.push(index());
    let thirty_kb = v2c(b"public", id(), up(), &many);
    assert!(thirty_kb.len() > 30_000);
    for (what, bytes, uptime, request_id) in [
        ("plain", plain.clone(), 100_000, 1),
        (
            "a negative request-id",
            v2c(b"c", number(2, -5), up(), &[index()]),
            100_000,
            -5i64 as u32,
        ),
        ("a request-id of 2^40", v2c(b"c", number(2, 1 << 40 | 7), up(), &[index()]), 100_000, 7),
        (
            "TimeTicks with the top bit set, in four octets",
            v2c(b"c", id(), ticks(&[0x80, 0, 0, 1]), &[index()]),
            0x8000_0001,
            1,
        ),
        (
            "TimeTicks in five octets",
            v2c(b"c", id(), ticks(&[0, 0xff, 0xff, 0xff, 0xff]), &[index()]),
            u32::MAX,
            1,
        ),
        ("an INTEGER of 2^31", with(varbind(&[1, 3, 6, 1], number(2, 1 << 31))), 100_000, 1),
        ("an INTEGER of 9 octets", with(varbind(&[1, 3, 6, 1], tlv(2, &[1; 9]))), 100_000, 1),
        ("a community that is not UTF-8", v2c(&[0xff, 0xfe], id(), up(), &[index()]), 100_000, 1),
        ("an empty community", v2c(b"", id(), up(), &[index()]), 100_000, 1),
        ("an IpAddress of 16", with(varbind(&[1, 3, 6, 1], tlv(0x40, &[1; 16]))), 100_000, 1),
        ("an empty OID as value", with(varbind(&[1, 3, 6, 1], tlv(6, &[]))), 100_000, 1),
        ("an empty OID as name", with(nest(0x30, &[tlv(6, &[]), number(2, 1)])), 100_000, 1),
        ("lengths in more octets than needed", padded(0x30, &message), 100_000, 1),
        ("octets behind the message", [&plain[..], &[0; 40]].concat(), 100_000, 1),
        ("400 varbinds in 30 kB", thirty_kb.clone(), 100_000, 1),
        ("a varbind that is none", with(tlv(0x30, &[])), 100_000, 1),
        ("a varbind without value", with(nest(0x30, &[oid(&[1, 3, 6, 1])])), 100_000, 1),
        ("a varbind that reaches too far inside", with(tlv(0x30, &[6, 99, 1])), 100_000, 1),
        ("something else in place of a varbind", with(number(2, 1)), 100_000, 1),
        (
            "a name that is too long an OID",
            with(nest(0x30, &[tlv(6, &[1; 200]), id()])),
            100_000,
            1,
        ),
        (
            "snmpTrapAddress of 16 octets",
            with(varbind(&SNMP_TRAP_ADDRESS, tlv(0x40, &[1; 16]))),
            100_000,
            1,
        ),
        (
            "ifIndex beyond 31 bits before a good one",
            with(varbind(&if_entry(1, 9), number(2, 1 << 33))),
            100_000,
            1,
        ),
    ] {
        let trap = Trap::decode(&bytes).unwrap_or_else(|why| panic!("{what}: {why:?}"));
        assert_eq!(trap.event, TrapEvent::LinkDown, "{what}");
        assert_eq!((trap.uptime, trap.request_id), (Some(uptime), Some(request_id)), "{what}");
        assert_eq!(trap.if_index, Some(3), "{what}");
        // And the engine judges it.
        let mut sim = Sim::new(open_settings());
        sim.datagram(IpAddr::from([10, 0, 0, 1]), at(0), &bytes);
        assert_eq!(sim.events.len(), 1, "{what}");
    }
    let trap = Trap::decode(&thirty_kb).unwrap();
    assert_eq!(trap.varbinds().count(), 403);
}

#[test]
fn what_cannot_be_a_message_is_refused_with_its_reason_trap_7() {
    let trap_oid = |content: &[u8]| {
        let list = [varbind(&SNMP_TRAP_OID, tlv(6, content)), index()];
        let zero = number(2, 0);
        let pdu = nest(0xa7, &[number(2, 1), zero.clone(), zero, nest(0x30, &list)]);
        nest(0x30, &[number(2, 1), octets(b"public"), pdu])
    };
    let message = |parts: &[Vec<u8>]| nest(0x30, parts);
    let public = || octets(b"public");
    let pdu_of = |tag: u8| message(&[number(2, 1), public(), nest(tag, &[])]);
    let mut nested = vec![5, 0];
    for _ in 0..2_000 {
        nested = tlv(0x30, &nested);
    }
    let empties = [0x30, 0].repeat(30_000);
    let huge = v2c(b"public", number(2, 1), number(0x43, 1), &[empties]);
    let v1 = |generic: Vec<u8>| {
        let head = [oid(&ENTERPRISE), tlv(0x40, &[0; 4]), generic];
        let tail = [number(2, 0), number(0x43, 1), nest(0x30, &[])];
        message(&[number(2, 0), public(), nest(0xa4, &[head, tail.map(|part| part)].concat())])
    };
    let long = [&[0x30, 0x85, 0, 0, 0, 0][..], &link_down().encode()[1..]].concat();
    for (what, bytes, reason) in [
        ("nothing", vec![], Malformed::Truncated),
        ("one octet", vec![0x30], Malformed::Truncated),
        ("not BER", b"GET / HTTP/1.0\r\n".to_vec(), Malformed::Truncated),
        ("not a sequence", tlv(4, b"public"), Malformed::WrongType),
        ("a length in five octets", long, Malformed::LengthTooLong),
        ("an indefinite length", vec![0x30, 0x80, 2, 1, 1, 0, 0], Malformed::IndefiniteLength),
        ("a negative length", vec![0x30, 0x84, 0xff, 0xff, 0xff, 0xff], Malformed::Truncated),
        ("deep nesting", nested, Malformed::WrongType),
        ("a version that is no integer", message(&[octets(b"1"), public()]), Malformed::WrongType),
        ("SNMPv2u", message(&[number(2, 2), nest(0x30, &[])]), Malformed::UnsupportedVersion),
        ("a negative version", message(&[number(2, -1), public()]), Malformed::UnsupportedVersion),
        ("an empty version", message(&[tlv(2, &[]), public()]), Malformed::UnsupportedVersion),
        (
            "a community of another type",
            message(&[number(2, 1), number(2, 1)]),
            Malformed::WrongType,
        ),
        ("no PDU", message(&[number(2, 1), public()]), Malformed::Truncated),
        ("a GetRequest", pdu_of(0xa0), Malformed::NotATrap),
        ("a Response", pdu_of(0xa2), Malformed::NotATrap),
        ("a v1 trap in a v2c message", pdu_of(0xa4), Malformed::NotATrap),
        ("an empty trap", pdu_of(0xa7), Malformed::Truncated),
        ("an empty inform", pdu_of(0xa6), Malformed::Truncated),
        ("generic-trap 7", v1(number(2, 7)), Malformed::NotATrap),
        ("a negative generic-trap", v1(number(2, -1)), Malformed::NotATrap),
        ("a generic-trap of another type", v1(octets(b"")), Malformed::WrongType),
        ("an empty snmpTrapOID", trap_oid(&[]), Malformed::NoTrapOid),
        ("an snmpTrapOID that is cut off", trap_oid(&[0x2b, 0x86]), Malformed::NoTrapOid),
        ("an snmpTrapOID with padding", trap_oid(&[0x2b, 0x80, 1]), Malformed::NoTrapOid),
        (
            "an snmpTrapOID with an arc of 2^32",
            trap_oid(&[0x2b, 0x90, 0x80, 0x80, 0x80, 0]),
            Malformed::NoTrapOid,
        ),
        ("an snmpTrapOID of 129 arcs", trap_oid(&[1; 128]), Malformed::NoTrapOid),
        ("60,000 octets of empty varbinds", huge, Malformed::TooManyVarbinds),
    ] {
        assert_eq!(Trap::decode(&bytes).err(), Some(reason), "{what}");
        // It is counted by that reason, kept to be looked at, and changes nothing.
        let mut sim = Sim::new(open_settings());
        sim.datagram(IpAddr::from([10, 0, 0, 1]), at(0), &bytes);
        assert_eq!(sim.agent.counters().malformed[reason as usize], 1, "{what}");
        let rejected = sim.agent.rejected().iter().next().unwrap();
        assert_eq!((rejected.reason, rejected.length), (reason.name(), bytes.len()), "{what}");
        let shown = |octets: &[u8]| rejected.octets.windows(octets.len()).any(|at| at == octets);
        let is_message = bytes.first() == Some(&0x30);
        assert!(!is_message || !shown(b"public"), "{what}: a community is a password");
        assert_eq!((sim.events.len(), sim.agent.instability().objects()), (0, 0), "{what}");
    }
    assert!(Trap::decode(&trap_oid(&[1; 127])).is_ok(), "an snmpTrapOID of 128 arcs");
}

#[test]
fn a_trap_is_refused_wherever_it_is_cut_off_trap_7() {
    for form in [Form::V1, Form::V2c, Form::Inform] {
        let bytes = Message { form, ..link_down() }.encode();
        for length in 0..bytes.len() {
            assert_eq!(
                Trap::decode(&bytes[..length]).err(),
                Some(Malformed::Truncated),
                "{length}"
            );
        }
        assert!(Trap::decode(&bytes).is_ok());
    }
}

#[test]
fn as_many_varbinds_as_the_bound_are_taken_and_one_more_is_not_trap_7() {
    let list = |count| {
        let empties = [0x30, 0].repeat(count);
        v2c(b"public", number(2, 1), number(0x43, 1), &[empties])
    };
    // Two are sysUpTime.0 and snmpTrapOID.0.
    assert!(Trap::decode(&list(MAX_VARBINDS - 2)).is_ok());
    assert_eq!(Trap::decode(&list(MAX_VARBINDS - 1)).err(), Some(Malformed::TooManyVarbinds));
}

/// What a decoder says of a message, as far as ours does.
#[derive(Debug, PartialEq, Eq)]
struct Opinion {
    version: u8,
    community: Vec<u8>,
    request_id: Option<u32>,
    uptime: Option<u32>,
    /// The content of snmpTrapOID.0, or of the enterprise and then generic-trap and specific-trap.
    trap: (Vec<u8>, u32, u32),
    varbinds: usize,
}

fn ours(bytes: &[u8]) -> Option<Opinion> {
    let trap = Trap::decode(bytes).ok()?;
    let name = oid_content(&SNMP_TRAP_OID);
    let told = match trap.header {
        evenkeel_core::trap::Header::V1 { enterprise, generic, specific } => {
            (enterprise.to_vec(), u32::from(generic), specific)
        }
        evenkeel_core::trap::Header::V2 => {
            let (_, _, value) = trap.varbinds().find(|(other, ..)| *other == name)?;
            (value.to_vec(), 0, 0)
        }
    };
    Some(Opinion {
        version: u8::from(trap.form != Form::V1),
        community: trap.community.to_vec(),
        request_id: trap.request_id,
        uptime: trap.uptime,
        trap: told,
        varbinds: trap.varbinds().count(),
    })
}

fn snmp_parser(bytes: &[u8]) -> Option<Opinion> {
    let v1 = parse_snmp_v1(bytes).ok();
    let (_, message) = v1.or_else(|| parse_snmp_v2c(bytes).ok())?;
    let (request_id, uptime, trap, varbinds) = match &message.pdu {
        SnmpPdu::TrapV1(pdu) => {
            let enterprise = pdu.enterprise.as_bytes().to_vec();
            let told = (enterprise, u32::from(pdu.generic_trap.0), pdu.specific_trap);
            (None, Some(pdu.timestamp), told, pdu.var.len())
        }
        SnmpPdu::Generic(pdu) => {
            let mut uptime = None;
            let mut told = None;
            for var in &pdu.var {
                use snmp_parser::{ObjectSyntax, VarBindValue::Value};
                match &var.val {
                    Value(ObjectSyntax::TimeTicks(ticks))
                        if var.oid.as_bytes() == oid_content(&SYS_UP_TIME) =>
                    {
                        uptime = Some(*ticks);
                    }
                    Value(ObjectSyntax::Object(value))
                        if var.oid.as_bytes() == oid_content(&SNMP_TRAP_OID) =>
                    {
                        told = Some((value.as_bytes().to_vec(), 0, 0));
                    }
                    _ => {}
                }
            }
            (Some(pdu.req_id), uptime, told?, pdu.var.len())
        }
        SnmpPdu::Bulk(_) => return None,
    };
    let version = message.version as u8;
    let community = message.community.into_bytes();
    Some(Opinion { version, community, request_id, uptime, trap, varbinds })
}

fn rasn_snmp(bytes: &[u8]) -> Option<Opinion> {
    use rasn_snmp::{v1, v2, v2c};
    if let Ok(message) = rasn::ber::decode::<v1::Message<v1::Trap>>(bytes) {
        let pdu = message.data;
        let number = |value: &rasn::types::Integer| u32::try_from(value).ok();
        return Some(Opinion {
            version: u8::try_from(&message.version).ok()?,
            community: message.community.to_vec(),
            request_id: None,
            uptime: Some(pdu.time_stamp.0),
            trap: (
                oid_content(&pdu.enterprise),
                number(&pdu.generic_trap)?,
                number(&pdu.specific_trap)?,
            ),
            varbinds: pdu.variable_bindings.len(),
        });
    }
    let message = rasn::ber::decode::<v2c::Message<v2::Pdus>>(bytes).ok()?;
    let pdu = match message.data {
        v2::Pdus::Trap(trap) => trap.0,
        v2::Pdus::InformRequest(inform) => inform.0,
        _ => return None,
    };
    let mut uptime = None;
    let mut trap = None;
    for var in &pdu.variable_bindings {
        use rasn_smi::v2::{ApplicationSyntax::Ticks, ObjectSyntax, SimpleSyntax::ObjectId};
        match &var.value {
            v2::VarBindValue::Value(ObjectSyntax::ApplicationWide(Ticks(ticks)))
                if var.name[..] == SYS_UP_TIME =>
            {
                uptime = Some(ticks.0);
            }
            v2::VarBindValue::Value(ObjectSyntax::Simple(ObjectId(value)))
                if var.name[..] == SNMP_TRAP_OID =>
            {
                trap = Some((oid_content(value), 0, 0));
            }
            _ => {}
        }
    }
    Some(Opinion {
        version: u8::try_from(&message.version).ok()?,
        community: message.community.to_vec(),
        request_id: Some(pdu.request_id as u32),
        uptime,
        trap: trap?,
        varbinds: pdu.variable_bindings.len(),
    })
}

fn snmp2(bytes: &[u8]) -> Option<Opinion> {
    let pdu = snmp2::Pdu::from_bytes(bytes).ok()?;
    let varbinds: Vec<_> = pdu.varbinds.clone().collect();
    let (request_id, uptime, trap) = match &pdu.v1_trap_info {
        Some(info) => {
            let enterprise = info.enterprise.as_bytes().to_vec();
            let generic = u32::try_from(info.generic_trap).ok()?;
            let specific = u32::try_from(info.specific_trap).ok()?;
            (None, Some(info.timestamp), (enterprise, generic, specific))
        }
        None => {
            let uptime = varbinds.iter().find_map(|(name, value)| match value {
                snmp2::Value::Timeticks(ticks) if name.as_bytes() == oid_content(&SYS_UP_TIME) => {
                    Some(*ticks)
                }
                _ => None,
            });
            let trap = varbinds.iter().find_map(|(name, value)| match value {
                snmp2::Value::ObjectIdentifier(value)
                    if name.as_bytes() == oid_content(&SNMP_TRAP_OID) =>
                {
                    Some((value.as_bytes().to_vec(), 0, 0))
                }
                _ => None,
            });
            (Some(pdu.req_id as u32), uptime, trap?)
        }
    };
    let version = u8::from(pdu.v1_trap_info.is_none());
    let community = pdu.community.to_vec();
    Some(Opinion { version, community, request_id, uptime, trap, varbinds: varbinds.len() })
}

fn arcs() -> impl Strategy<Value = Vec<u32>> {
    let arc = prop_oneof![4 => 0..200u32, 1 => any::<u32>()];
    (0..2u32, 0..40u32, vec(arc, 1..20)).prop_map(|(one, two, mut rest)| {
        rest.splice(0..0, [one, two]);
        rest
    })
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        any::<i32>().prop_map(|value| number(2, i64::from(value))),
        vec(any::<u8>(), 0..200).prop_map(|value| octets(&value)),
        arcs().prop_map(|value| oid(&value)),
        any::<[u8; 4]>().prop_map(|value| tlv(0x40, &value)),
        any::<u32>().prop_map(|value| number(0x41, i64::from(value))),
        any::<u32>().prop_map(|value| number(0x42, i64::from(value))),
        any::<u32>().prop_map(|value| number(0x43, i64::from(value))),
    ]
}

/// A message that every decoder should take.
fn well_formed() -> impl Strategy<Value = Message> {
    let form = prop_oneof![Just(Form::V1), Just(Form::V2c), Just(Form::Inform)];
    let varbinds = vec((arcs(), value()).prop_map(|(name, value)| varbind(&name, value)), 0..12);
    let numbers = (0..=i32::MAX, any::<u32>(), 1..8u32, any::<[u8; 4]>());
    (form, "[ -~]{0,40}", numbers, varbinds).prop_map(
        |(form, community, (request_id, uptime, trap, agent_address), varbinds)| Message {
            community: community.into_bytes(),
            request_id: i64::from(request_id),
            uptime: i64::from(uptime),
            agent_address,
            varbinds,
            ..Message::new(form, trap)
        },
    )
}

proptest! {
    #![proptest_config(cases(500))]

    #[test]
    fn four_decoders_agree_on_what_is_well_formed(message in well_formed()) {
        let bytes = message.encode();
        let ours = ours(&bytes);
        prop_assert!(ours.is_some());
        prop_assert_eq!(&ours, &snmp_parser(&bytes), "snmp-parser");
        prop_assert_eq!(&ours, &rasn_snmp(&bytes), "rasn-snmp");
        prop_assert_eq!(&ours, &snmp2(&bytes), "snmp2");
    }

    #[test]
    fn no_octets_make_it_panic(bytes in vec(any::<u8>(), 0..300)) {
        look_at_all(&bytes);
    }

    /// Real traps with octets changed, put in, taken out.
    #[test]
    fn no_mutation_of_a_real_trap_makes_it_panic(
        message in well_formed(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>(), 0..3u8), 1..8),
    ) {
        let mut bytes = message.encode();
        for (place, octet, how) in changes {
            let place = place.index(bytes.len());
            match how {
                0 => bytes[place] = octet,
                1 => bytes.insert(place, octet),
                _ if bytes.len() > 1 => { bytes.remove(place); }
                _ => {}
            }
        }
        look_at_all(&bytes);
    }

    /// TRAP-1; RFC 3584, 3.1: what an SNMPv1 trap becomes is a varbind list that another decoder
    /// takes and that ours reads the same of.
    #[test]
    fn the_v2_form_of_a_v1_trap_tells_the_same(message in well_formed()) {
        let message = Message { form: Form::V1, ..message };
        let bytes = message.encode();
        let trap = Trap::decode(&bytes).unwrap();
        let wrapped = wrap(&trap.normalised());
        let again = Trap::decode(&wrapped).unwrap();
        prop_assert_eq!((again.event, again.uptime), (trap.event, trap.uptime));
        let kept: Vec<_> = trap.varbinds().collect();
        let all: Vec<_> = again.varbinds().collect();
        prop_assert_eq!(&all[2..2 + kept.len()], &kept[..], "every varbind is kept, in order");
        prop_assert_eq!(all.len(), kept.len() + 5);
        prop_assert_eq!(ours(&wrapped), snmp_parser(&wrapped));
    }
}

/// Everything that anyone does with a datagram.
fn look_at_all(bytes: &[u8]) {
    if let Ok(trap) = Trap::decode(bytes) {
        assert!(trap.varbinds().count() <= MAX_VARBINDS);
        let _ = wrap(&trap.normalised());
    }
    let mut sim = Sim::new(open_settings());
    sim.datagram(IpAddr::from([10, 0, 0, 1]), at(0), bytes);
}

/// A varbind list as a v2c trap.
fn wrap(list: &[u8]) -> Vec<u8> {
    let zero = number(2, 0);
    let pdu = nest(0xa7, &[number(2, 1), zero.clone(), zero, tlv(0x30, list)]);
    nest(0x30, &[number(2, 1), octets(b"public"), pdu])
}

#[test]
fn generic_and_specific_traps_become_what_rfc_3584_says_trap_1() {
    let enterprise = oid_content(&ENTERPRISE);
    for (generic, specific, expected) in [
        (0, 0, oid_content(&[&SNMP_TRAPS[..], &[1]].concat())),
        (1, 0, oid_content(&[&SNMP_TRAPS[..], &[2]].concat())),
        (2, 7, oid_content(&[&SNMP_TRAPS[..], &[3]].concat())),
        (3, 0, oid_content(&[&SNMP_TRAPS[..], &[4]].concat())),
        (4, 0, oid_content(&[&SNMP_TRAPS[..], &[5]].concat())),
        (5, 0, oid_content(&[&SNMP_TRAPS[..], &[6]].concat())),
        (6, 0, [&enterprise[..], &[0, 0]].concat()),
        (6, 200, [&enterprise[..], &[0, 0x81, 0x48]].concat()),
        (6, i64::from(i32::MAX), [&enterprise[..], &[0, 0x87, 0xff, 0xff, 0xff, 0x7f]].concat()),
    ] {
        let fields = [
            oid(&ENTERPRISE),
            tlv(0x40, &[10, 0, 0, 7]),
            number(2, generic),
            number(2, specific),
            number(0x43, 3_000_000_000),
            nest(0x30, &[index()]),
        ];
        let bytes = nest(0x30, &[number(2, 0), octets(b"secret"), nest(0xa4, &fields)]);
        let list = wrap(&Trap::decode(&bytes).unwrap().normalised());
        let opinion = snmp_parser(&list).unwrap();
        assert_eq!(opinion.trap.0, expected, "{generic} {specific}");
        assert_eq!((opinion.uptime, opinion.varbinds), (Some(3_000_000_000), 6));
        let trap = Trap::decode(&list).unwrap();
        let names: Vec<_> = trap.varbinds().map(|(name, ..)| name.to_vec()).collect();
        assert_eq!(names[0], oid_content(&SYS_UP_TIME));
        assert_eq!(names[1], oid_content(&SNMP_TRAP_OID));
        assert_eq!(names[3], oid_content(&SNMP_TRAP_ADDRESS));
        assert_eq!(trap.varbinds().nth(3).unwrap().2, [10, 0, 0, 7]);
        assert_eq!(trap.varbinds().nth(4).unwrap().2, b"secret");
        assert_eq!(trap.varbinds().nth(5).unwrap().2, enterprise);
    }
}

#[test]
fn address_community_and_enterprise_are_added_once_trap_1() {
    let known = varbind(&SNMP_TRAP_ADDRESS, tlv(0x40, &[10, 9, 9, 9]));
    let message = Message {
        form: Form::V1,
        agent_address: [10, 0, 0, 7],
        varbinds: vec![known, index()],
        ..Message::new(Form::V1, 3)
    };
    let bytes = message.encode();
    let list = wrap(&Trap::decode(&bytes).unwrap().normalised());
    let again = Trap::decode(&list).unwrap();
    assert_eq!(again.trap_address, Some([10, 9, 9, 9].into()), "the one that was there");
    assert_eq!(again.varbinds().count(), 6);
    // What came as v2 stays as it came.
    let bytes = link_down().encode();
    let trap = Trap::decode(&bytes).unwrap();
    assert_eq!(trap.normalised(), trap.varbinds);
}

/// Where the decoders differ: what is taken by ours, snmp-parser, rasn-snmp and snmp2, in this
/// order.
#[test]
fn where_decoders_differ_is_known() {
    let id = || number(2, 1);
    let up = || number(0x43, 100_000);
    let value = |value: Vec<u8>| v2c(b"c", id(), up(), &[varbind(&[1, 3, 6, 1], value)]);
    let v1 = |version: i64| {
        let mut bytes = Message::new(Form::V1, 3).encode();
        let place = bytes.windows(3).position(|octets| octets == [2, 1, 0]).unwrap() + 2;
        bytes[place] = version as u8;
        bytes
    };
    let table: Vec<(&str, Vec<u8>)> = vec![
        ("a negative request-id", v2c(b"c", number(2, -5), up(), &[])),
        ("a request-id of 2^40", v2c(b"c", number(2, 1 << 40), up(), &[])),
        ("TimeTicks of four octets, top bit", v2c(b"c", id(), tlv(0x43, &[0x80, 0, 0, 1]), &[])),
        ("an INTEGER of 2^31", value(number(2, 1 << 31))),
        ("a community that is not UTF-8", v2c(&[0xff], id(), up(), &[])),
        ("an IpAddress of 16 octets", value(tlv(0x40, &[1; 16]))),
        ("an empty OID", value(tlv(6, &[]))),
        ("a NULL", value(tlv(5, &[]))),
        ("a Counter64", value(tlv(0x46, &integer_content(1 << 40)))),
        ("a tag that nobody knows", value(tlv(0x5f, &[1]))),
        ("octets behind", [v2c(b"c", id(), up(), &[]), vec![0; 4]].concat()),
        ("a bad varbind", v2c(b"c", id(), up(), &[tlv(0x30, &[6, 9, 1])])),
        ("a v1 trap in a v2c message", v1(1)),
        ("no snmpTrapOID", {
            let zero = number(2, 0);
            let list = nest(0x30, &[varbind(&SYS_UP_TIME, up())]);
            let pdu = nest(tag::TRAP_V2, &[id(), zero.clone(), zero, list]);
            nest(0x30, &[number(2, 1), octets(b"c"), pdu])
        }),
    ];
    let verdict = |opinion: Option<Opinion>| if opinion.is_some() { "yes" } else { "no " };
    let mut found = String::new();
    for (what, bytes) in &table {
        let opinions = [ours(bytes), snmp_parser(bytes), rasn_snmp(bytes), snmp2(bytes)];
        found += &format!("{} {what}\n", opinions.map(verdict).join(" "));
    }
    // Ours takes all that any other takes, but for a PDU that does not belong to its version.
    let known = "\
yes no  yes yes a negative request-id
yes no  no  no  a request-id of 2^40
yes no  no  yes TimeTicks of four octets, top bit
yes no  yes yes an INTEGER of 2^31
yes no  yes yes a community that is not UTF-8
yes no  no  yes an IpAddress of 16 octets
yes yes no  yes an empty OID
yes yes yes yes a NULL
yes yes yes yes a Counter64
yes no  no  yes a tag that nobody knows
yes yes yes yes octets behind
yes no  no  yes a bad varbind
no  yes yes no  a v1 trap in a v2c message
no  no  no  no  no snmpTrapOID
";
    assert_eq!(found, known);
}
