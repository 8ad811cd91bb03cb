//! SNMPv2 notifications as SNMPv1 traps (RFC 3584, section 3.2). The other way is
//! [`Trap::normalised`](crate::trap::Trap::normalised).

use std::{borrow::Cow, net::Ipv4Addr};

use crate::{
    ber::{self, Reader, tag},
    message::TrapV1,
    sender::Unsendable,
    trap::{
        SNMP_TRAP_ADDRESS, SNMP_TRAP_ENTERPRISE, SNMP_TRAP_OID, SNMP_TRAPS, SYS_UP_TIME, varbinds,
    },
};

/// generic-trap enterpriseSpecific (RFC 1157, 4.1.6).
const ENTERPRISE_SPECIFIC: u8 = 6;

/// The SNMPv1 trap of an SNMPv2 varbind list, whose varbinds are encoded one after the other.
///
/// Every varbind but sysUpTime.0 and snmpTrapOID.0 is kept, in its octets. `agent_address` is for a
/// list without snmpTrapAddress.0.
///
/// # Errors
///
/// There is no snmpTrapOID.0 that is an OID, a varbind is a Counter64, or the list cannot be read to
/// its end.
pub fn to_v1(list: &[u8], agent_address: Ipv4Addr) -> Result<TrapV1<'_>, Unsendable> {
    let trap_oid = value(list, SNMP_TRAP_OID, tag::OID).ok_or(Unsendable::NoTrapOid)?;
    let uptime = value(list, SYS_UP_TIME, tag::TIME_TICKS).map_or(0, ber::low_32_bits);
    if varbinds(list).any(|(_, value_tag, _)| value_tag == tag::COUNTER64) {
        return Err(Unsendable::Counter64);
    }
    let (enterprise, generic, specific) = match trap_oid.strip_prefix(SNMP_TRAPS) {
        Some(&[standard @ 1..=6]) => {
            let enterprise = value(list, SNMP_TRAP_ENTERPRISE, tag::OID).unwrap_or(SNMP_TRAPS);
            (enterprise, standard - 1, 0)
        }
        _ => {
            let (above, specific) = split_last(trap_oid).ok_or(Unsendable::NoTrapOid)?;
            // A zero that stands for itself, and not at the end of a longer sub-identifier.
            let enterprise = match split_last(above) {
                Some((enterprise, 0)) if !enterprise.is_empty() => enterprise,
                _ => above,
            };
            (enterprise, ENTERPRISE_SPECIFIC, specific)
        }
    };
    let agent_address = value(list, SNMP_TRAP_ADDRESS, tag::IP_ADDRESS)
        .and_then(|address| <[u8; 4]>::try_from(address).ok())
        .map_or(agent_address, Ipv4Addr::from);
    let varbinds = without_header(list)?;
    Ok(TrapV1 { enterprise, agent_address, generic, specific, uptime, varbinds })
}

/// The value of the first varbind with this name and type.
fn value<'a>(list: &'a [u8], name: &[u8], value_tag: u8) -> Option<&'a [u8]> {
    varbinds(list)
        .find(|&(its_name, its_tag, _)| its_name == name && its_tag == value_tag)
        .map(|(.., value)| value)
}

/// The octets before the last sub-identifier of an encoded OID, and its value. Nothing for an OID of
/// two numbers, which are one sub-identifier, or one that is wrongly encoded.
fn split_last(oid: &[u8]) -> Option<(&[u8], u32)> {
    let last = ber::sub_identifiers(oid).last()??;
    let (_, above) = oid.split_last()?;
    let more = above.iter().rev().take_while(|&&octet| octet & 0x80 != 0).count();
    let above = &above[..above.len() - more];
    (!above.is_empty()).then_some((above, last))
}

/// The list without its sysUpTime.0 and snmpTrapOID.0, the first of each. They are the first two
/// where RFC 3416, 4.2.6 is kept to; nothing is copied then.
fn without_header(list: &[u8]) -> Result<Cow<'_, [u8]>, Unsendable> {
    let mut missing = vec![SYS_UP_TIME, SNMP_TRAP_OID];
    let mut rest = Reader::new(list);
    let mut kept = Vec::new();
    while !missing.is_empty() && !rest.is_empty() {
        let before = rest.rest();
        rest.element().map_err(|_| Unsendable::Malformed)?;
        let element = &before[..before.len() - rest.rest().len()];
        let name = varbinds(element).next().map(|(name, ..)| name);
        match missing.iter().position(|&one| Some(one) == name) {
            Some(place) => drop(missing.swap_remove(place)),
            None => kept.extend_from_slice(element),
        }
    }
    if kept.is_empty() {
        return Ok(Cow::Borrowed(rest.rest()));
    }
    kept.extend_from_slice(rest.rest());
    Ok(Cow::Owned(kept))
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::{
        ber_writer::{Writer, oid_value},
        message::{community_message, version},
        trap::{Form, Header, Trap},
    };

    fn varbind(name: &[u8], value_tag: u8, value: &[u8]) -> Vec<u8> {
        let mut list = Writer::new();
        list.nested(tag::SEQUENCE, |varbind| {
            varbind.element(tag::OID, name);
            varbind.element(value_tag, value);
        });
        list.into_bytes()
    }

    fn oid(text: &str) -> Vec<u8> {
        oid_value(&text.split('.').map(|arc| arc.parse().unwrap()).collect::<Vec<u32>>()).unwrap()
    }

    /// A list that begins as it must, with this snmpTrapOID.0.
    fn list(trap_oid: &str, more: &[Vec<u8>]) -> Vec<u8> {
        let header = [
            varbind(SYS_UP_TIME, tag::TIME_TICKS, &[0x12, 0x34]),
            varbind(SNMP_TRAP_OID, tag::OID, &oid(trap_oid)),
        ];
        [header.concat(), more.concat()].concat()
    }

    const NOBODY: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

    /// The table of RFC 3584, 3.2 (1), (3) and (4).
    #[test]
    fn enterprise_generic_and_specific_come_from_the_trap_oid() {
        for (trap_oid, enterprise, generic, specific) in [
            ("1.3.6.1.6.3.1.1.5.1", "1.3.6.1.6.3.1.1.5", 0, 0),
            ("1.3.6.1.6.3.1.1.5.3", "1.3.6.1.6.3.1.1.5", 2, 0),
            ("1.3.6.1.6.3.1.1.5.6", "1.3.6.1.6.3.1.1.5", 5, 0),
            // Below snmpTraps, and none of the six.
            ("1.3.6.1.6.3.1.1.5.7", "1.3.6.1.6.3.1.1.5", 6, 7),
            ("1.3.6.1.6.3.1.1.5.0", "1.3.6.1.6.3.1.1.5", 6, 0),
            ("1.3.6.1.6.3.1.1.5.3.1", "1.3.6.1.6.3.1.1.5.3", 6, 1),
            // With a zero before the last, as SMIv2 asks, and without, as devices have it too.
            ("1.3.6.1.4.1.9.9.41.2.0.1", "1.3.6.1.4.1.9.9.41.2", 6, 1),
            ("1.3.6.1.4.1.9.9.41.2.1", "1.3.6.1.4.1.9.9.41.2", 6, 1),
            ("1.3.6.1.4.1.9.0.4294967295", "1.3.6.1.4.1.9", 6, u32::MAX),
            // 256 ends with a zero octet and is no zero.
            ("1.3.6.1.4.1.9.256.5", "1.3.6.1.4.1.9.256", 6, 5),
            ("1.3.6.1.4.1.9.16384.5", "1.3.6.1.4.1.9.16384", 6, 5),
            ("1.3.6.1.4.1.9.0.16384", "1.3.6.1.4.1.9", 6, 16384),
            ("1.3.0.7", "1.3", 6, 7),
            ("1.3.7", "1.3", 6, 7),
        ] {
            let list = list(trap_oid, &[]);
            let trap = to_v1(&list, NOBODY).unwrap();
            assert_eq!(
                (trap.enterprise, trap.generic, trap.specific, trap.uptime),
                (&oid(enterprise)[..], generic, specific, 0x1234),
                "{trap_oid}"
            );
            assert_eq!((trap.agent_address, &*trap.varbinds), (NOBODY, &[][..]));
        }
    }

    #[test]
    fn the_other_parameters_come_from_the_varbinds_which_all_stay() {
        let more = [
            varbind(&oid("1.3.6.1.2.1.2.2.1.1.3"), tag::INTEGER, &[3]),
            varbind(SNMP_TRAP_ADDRESS, tag::IP_ADDRESS, &[192, 0, 2, 9]),
            varbind(SNMP_TRAP_ENTERPRISE, tag::OID, &oid("1.3.6.1.4.1.9")),
        ];
        let link_down = list("1.3.6.1.6.3.1.1.5.3", &more);
        let trap = to_v1(&link_down, [198, 51, 100, 1].into()).unwrap();
        assert_eq!(trap.agent_address, Ipv4Addr::new(192, 0, 2, 9), "RFC 3584, 3.2 (2)");
        assert_eq!(trap.enterprise, oid("1.3.6.1.4.1.9"), "RFC 3584, 3.2 (1)");
        assert_eq!(trap.varbinds, more.concat(), "RFC 3584, 3.2 (6)");
        assert!(matches!(trap.varbinds, Cow::Borrowed(_)));

        // Of an enterprise's own trap, the enterprise is told by its OID alone.
        let own = list("1.3.6.1.4.1.8072.4.0.2", &more);
        let trap = to_v1(&own, NOBODY).unwrap();
        assert_eq!(trap.enterprise, oid("1.3.6.1.4.1.8072.4"));

        // Where a device has the two in another order or place, they are found and the rest stays.
        let (first, second) = (&link_down[..16], &link_down[16..]);
        assert_eq!(varbinds(first).next().unwrap().0, SYS_UP_TIME);
        let swapped = [second, first].concat();
        let trap = to_v1(&swapped, NOBODY).unwrap();
        assert_eq!((trap.uptime, &*trap.varbinds), (0x1234, &more.concat()[..]));
    }

    #[test]
    fn trap_10_what_snmpv1_cannot_carry_is_refused_with_the_reason() {
        let name = oid("1.3.6.1.2.1.31.1.1.1.6.1");
        let counter64 = varbind(&name, tag::COUNTER64, &[1]);
        let refused = |list: &[u8]| to_v1(list, NOBODY).unwrap_err();
        let link_down = list("1.3.6.1.6.3.1.1.5.3", &[]);
        assert_eq!(refused(&[&link_down[..], &counter64].concat()), Unsendable::Counter64);
        assert_eq!(refused(&link_down[..16]), Unsendable::NoTrapOid);
        assert_eq!(refused(&[]), Unsendable::NoTrapOid);
        assert_eq!(refused(&list("1.3", &[])), Unsendable::NoTrapOid);
    }

    prop_compose! {
        /// An SNMPv1 trap as a device sends it.
        fn v1()(
            enterprise in vec(1u32.., 1..8), generic in 0u8..=6, specific: u32, uptime: u32,
            address: [u8; 4], values in vec((1u32.., vec(any::<u8>(), 0..20)), 0..5),
            with_enterprise: bool,
        ) -> Vec<u8> {
            let enterprise = oid_value(&[&[1, 3, 6, 1, 4, 1], &enterprise[..]].concat()).unwrap();
            let mut varbinds: Vec<Vec<u8>> = values
                .iter()
                .map(|(arc, value)| {
                    varbind(&oid_value(&[1, 3, 6, 1, 4, 1, 9, *arc]).unwrap(), tag::OCTET_STRING, value)
                })
                .collect();
            if with_enterprise {
                varbinds.push(varbind(SNMP_TRAP_ENTERPRISE, tag::OID, &enterprise));
            }
            let trap = TrapV1 {
                enterprise: &enterprise,
                agent_address: address.into(),
                generic,
                // Of a standard trap there is no specific one (RFC 3584, 3.1 drops it).
                specific: if generic < 6 { 0 } else { specific },
                uptime,
                varbinds: varbinds.concat().into(),
            };
            community_message(version::V1, b"c", &trap.encode())
        }
    }

    proptest! {
        #[test]
        fn a_trap_is_the_same_after_both_conversions(datagram in v1()) {
            let before = Trap::decode(&datagram).unwrap();
            let list = before.normalised();
            // The address in the trap is there, so the one given is not asked for.
            let back = to_v1(&list, [255; 4].into()).unwrap();
            let Header::V1 { enterprise, generic, specific } = before.header else { panic!() };
            prop_assert_eq!(
                (back.enterprise, back.generic, back.specific),
                (enterprise, generic, specific)
            );
            prop_assert_eq!(Some(back.uptime), before.uptime);
            prop_assert_eq!(Some(back.agent_address), before.agent_address);
            // RFC 3584, 3.1 (4) adds address, community and enterprise behind what there was.
            prop_assert!(back.varbinds.starts_with(before.varbinds));

            // From then on nothing is added.
            let again = community_message(version::V1, b"other", &back.encode());
            let again = Trap::decode(&again).unwrap();
            prop_assert_eq!(again.form, Form::V1);
            prop_assert_eq!(again.normalised(), list);
        }

        #[test]
        fn no_octets_make_it_panic(octets in vec(any::<u8>(), 0..60), cut in 0usize..60) {
            let _ = to_v1(&octets, NOBODY);
            let list = list("1.3.6.1.4.1.9.0.1", &[octets]);
            let _ = to_v1(&list[..list.len().saturating_sub(cut)], NOBODY);
        }
    }
}
