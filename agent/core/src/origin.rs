//! What a forwarded trap says of where it comes from (TRAP-9): the varbinds of its SNMPv2 form with
//! the system's address, its community where asked, and the mark of the agent that forwards it.
//!
//! ```text
//!   sysUpTime.0  snmpTrapOID.0  …as they came…  snmpTrapAddress.0  snmpTrapCommunity.0  mark
//! ```

use std::net::IpAddr;

use crate::{
    ber::{Reader, tag},
    ber_writer::Writer,
    input::Taken,
    trap::Form,
};

/// snmpTrapAddress.0 and snmpTrapCommunity.0, encoded (RFC 3584, section 4).
const SNMP_TRAP_ADDRESS: &[u8] = &[0x2b, 6, 1, 6, 3, 18, 1, 3, 0];
const SNMP_TRAP_COMMUNITY: &[u8] = &[0x2b, 6, 1, 6, 3, 18, 1, 4, 0];

/// The varbinds that a trap is forwarded with (RFC 3584, 3.1; TRAP-9), encoded one after the other.
///
/// - snmpTrapAddress.0 is the address of the system that the trap was taken in for, and stands where
///   it stood or is added. One that says another address was not believed when the trap came in
///   (TRAP-2), and an NMS that trusts this agent must not be made to believe it: it is set right.
///   It is an IPv4 address by its definition, so the traps of a system with an IPv6 address go
///   without.
/// - snmpTrapCommunity.0 is added if it isn't there and `with_community` asks for it; SNMPv3 has no
///   community. Without being asked, that of an SNMPv1 trap is left out, as only its SNMPv2 form put
///   it there and it is as good as a password.
/// - `mark_oid` (the content octets of an OID) with the octets of `mark` comes last, by which this
///   agent knows the trap if it comes back. Those of other agents before it are kept. Nothing if
///   `mark` is empty.
///
/// Octets among the varbinds that are none are left out: the receiver would refuse the whole message
/// for them (TRAP-7: one bad varbind never costs the trap).
pub fn with_origin(taken: &Taken, mark_oid: &[u8], mark: &[u8], with_community: bool) -> Vec<u8> {
    // Without a second buffer: a varbind of each kind fits into its room.
    let room = taken.varbinds.len() + taken.community.len() + mark_oid.len() + mark.len() + 64;
    let mut list = Writer::with_capacity(room);
    let address = match taken.system.0.to_canonical() {
        IpAddr::V4(address) => Some(address.octets()),
        IpAddr::V6(_) => None,
    };
    let drop_community = taken.form == Form::V1 && !with_community;
    let (mut has_address, mut has_community) = (false, false);
    let mut rest = Reader::new(&taken.varbinds);
    loop {
        let before = rest.rest();
        let Ok((outer, content)) = rest.element() else { break };
        let whole = &before[..before.len() - rest.rest().len()];
        let Some((name, value_tag, value, more)) =
            varbind(content).filter(|_| outer == tag::SEQUENCE)
        else {
            continue;
        };
        if name == SNMP_TRAP_ADDRESS {
            if let (Some(address), false) = (address, has_address) {
                push(&mut list, name, tag::IP_ADDRESS, &address);
                has_address = true;
            }
            continue;
        }
        if name == SNMP_TRAP_COMMUNITY {
            if drop_community {
                continue;
            }
            has_community = true;
        }
        match more {
            false => list.encoded(whole),
            true => push(&mut list, name, value_tag, value),
        }
    }
    if let (Some(address), false) = (address, has_address) {
        push(&mut list, SNMP_TRAP_ADDRESS, tag::IP_ADDRESS, &address);
    }
    let community_based = match taken.form {
        Form::V1 | Form::V2c | Form::Inform => true,
        Form::V3 | Form::V3Inform => false,
    };
    if with_community && community_based && !has_community {
        push(&mut list, SNMP_TRAP_COMMUNITY, tag::OCTET_STRING, &taken.community);
    }
    if !mark.is_empty() {
        push(&mut list, mark_oid, tag::OCTET_STRING, mark);
    }
    list.into_bytes()
}

/// The name and the value of a varbind, and whether octets follow that don't belong to it.
fn varbind(content: &[u8]) -> Option<(&[u8], u8, &[u8], bool)> {
    let mut content = Reader::new(content);
    let name = content.expect(tag::OID).ok().filter(|name| !name.is_empty())?;
    let (value_tag, value) = content.element().ok()?;
    Some((name, value_tag, value, !content.is_empty()))
}

/// Appends a varbind, without the buffer that [`Writer::nested`] takes: this is done for every trap
/// that is forwarded.
fn push(list: &mut Writer, name: &[u8], value_tag: u8, value: &[u8]) {
    let length = element_length(name.len()) + element_length(value.len());
    list.head(tag::SEQUENCE, length);
    list.element(tag::OID, name);
    list.element(value_tag, value);
}

/// How many octets an element with a content of this length takes.
fn element_length(content: usize) -> usize {
    let length_octets = match content {
        0..=0x7f => 1,
        0x80..=0xff => 2,
        0x100..=0xffff => 3,
        0x1_0000..=0xff_ffff => 4,
        _ => 5,
    };
    1 + length_octets + content
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use smallvec::SmallVec;

    use super::*;
    use crate::{
        alarm::System,
        ber_writer::oid_value,
        time::{Time, WallTime},
        trap::varbinds,
    };

    const OF_OURS: &[u8] = &[0x2b, 6, 1, 4, 1, 0x88, 0x37, 1, 27, 0];
    const MARK: &[u8] = &[0x80, 0, 0x1f, 0x88, 4, 7];
    const IF_INDEX: &[u8] = &[0x2b, 6, 1, 2, 1, 2, 2, 1, 1, 3];

    fn list(varbinds: &[(&[u8], u8, &[u8])]) -> Vec<u8> {
        let mut list = Writer::new();
        for (name, value_tag, value) in varbinds {
            push(&mut list, name, *value_tag, value);
        }
        list.into_bytes()
    }

    fn taken(form: Form, system: &str, varbinds: Vec<u8>) -> Taken {
        Taken {
            number: None,
            received: Time::ZERO,
            wall: WallTime(0),
            source: "198.51.100.1:5000".parse().unwrap(),
            system: System(system.parse().unwrap()),
            form,
            request_id: Some(1),
            community: b"secret".to_vec(),
            varbinds,
            original: None,
            targets: SmallVec::new(),
        }
    }

    /// The names and values after [`with_origin`].
    fn told(taken: &Taken, with_community: bool) -> Vec<(Vec<u8>, Vec<u8>)> {
        let with = with_origin(taken, OF_OURS, MARK, with_community);
        varbinds(&with).map(|(name, _, value)| (name.to_vec(), value.to_vec())).collect()
    }

    fn pairs(pairs: &[(&[u8], &[u8])]) -> Vec<(Vec<u8>, Vec<u8>)> {
        pairs.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect()
    }

    #[test]
    fn trap_9_a_forwarded_trap_says_whose_it_is() {
        let plain = list(&[(IF_INDEX, tag::INTEGER, &[3])]);
        let (address, community) = (SNMP_TRAP_ADDRESS, SNMP_TRAP_COMMUNITY);
        for (what, form, system, with_community, expected) in [
            ("v2c", Form::V2c, "192.0.2.1", false, pairs(&[(address, &[192, 0, 2, 1])])),
            (
                "with its community",
                Form::Inform,
                "192.0.2.1",
                true,
                pairs(&[(address, &[192, 0, 2, 1]), (community, b"secret")]),
            ),
            (
                "SNMPv3 has no community",
                Form::V3,
                "192.0.2.1",
                true,
                pairs(&[(address, &[192, 0, 2, 1])]),
            ),
            ("snmpTrapAddress is an IPv4 address", Form::V2c, "2001:db8::1", false, vec![]),
            (
                "a mapped one is one",
                Form::V2c,
                "::ffff:192.0.2.1",
                false,
                pairs(&[(address, &[192, 0, 2, 1])]),
            ),
        ] {
            let mut all = pairs(&[(IF_INDEX, &[3])]);
            all.extend(expected);
            all.extend(pairs(&[(OF_OURS, MARK)]));
            assert_eq!(told(&taken(form, system, plain.clone()), with_community), all, "{what}");
        }
    }

    #[test]
    fn trap_2_an_address_that_was_not_believed_is_not_passed_on() {
        let forged = list(&[
            (SNMP_TRAP_ADDRESS, tag::IP_ADDRESS, &[203, 0, 113, 9]),
            (IF_INDEX, tag::INTEGER, &[3]),
            (SNMP_TRAP_ADDRESS, tag::IP_ADDRESS, &[203, 0, 113, 10]),
        ]);
        let set_right =
            pairs(&[(SNMP_TRAP_ADDRESS, &[192, 0, 2, 1]), (IF_INDEX, &[3]), (OF_OURS, MARK)]);
        assert_eq!(told(&taken(Form::V2c, "192.0.2.1", forged.clone()), false), set_right);
        let left_out = pairs(&[(IF_INDEX, &[3]), (OF_OURS, MARK)]);
        assert_eq!(told(&taken(Form::V2c, "2001:db8::1", forged), false), left_out);
    }

    #[test]
    fn the_community_of_an_snmpv1_trap_goes_on_only_where_asked() {
        let normalised = list(&[
            (SNMP_TRAP_ADDRESS, tag::IP_ADDRESS, &[192, 0, 2, 1]),
            (SNMP_TRAP_COMMUNITY, tag::OCTET_STRING, b"first"),
        ]);
        let has = |form, with| {
            told(&taken(form, "192.0.2.1", normalised.clone()), with)
                .into_iter()
                .find_map(|(name, value)| (name == SNMP_TRAP_COMMUNITY).then_some(value))
        };
        assert_eq!(has(Form::V1, false), None);
        assert_eq!(has(Form::V1, true), Some(b"first".to_vec()));
        assert_eq!(has(Form::V2c, false), Some(b"first".to_vec()), "its sender put it there");
        assert_eq!(has(Form::V2c, true), Some(b"first".to_vec()), "the first relay's word holds");
    }

    #[test]
    fn marks_of_other_agents_are_kept_and_no_mark_is_none() {
        let marked = list(&[(OF_OURS, tag::OCTET_STRING, b"other")]);
        let trap = taken(Form::V2c, "2001:db8::1", marked.clone());
        assert_eq!(told(&trap, false), pairs(&[(OF_OURS, b"other"), (OF_OURS, MARK)]));
        assert_eq!(with_origin(&trap, OF_OURS, &[], false), marked);
    }

    /// TRAP-7: a receiver that is less tolerant gets a list that is one.
    #[test]
    fn octets_that_are_no_varbind_are_left_out() {
        let mut octets = Writer::new();
        octets.integer(5);
        octets.nested(tag::SEQUENCE, |varbind| varbind.integer(5));
        octets.nested(tag::SEQUENCE, |varbind| {
            varbind.element(tag::OID, IF_INDEX);
            varbind.integer(3);
            varbind.integer(4);
        });
        octets.encoded(&[0x30, 0x84, 0xff]);
        let trap = taken(Form::V2c, "2001:db8::1", octets.into_bytes());
        let clean = list(&[(IF_INDEX, tag::INTEGER, &[3])]);
        assert_eq!(with_origin(&trap, OF_OURS, &[], false), clean);
    }

    proptest! {
        #[test]
        fn trap_9_every_varbind_is_kept_in_its_place(
            values in prop::collection::vec((3u32..200, prop::collection::vec(any::<u8>(), 0..400)), 0..20),
            asked: bool,
        ) {
            let names: Vec<Vec<u8>> =
                values.iter().map(|(arc, _)| oid_value(&[1, 3, *arc]).unwrap()).collect();
            let came: Vec<(&[u8], u8, &[u8])> = names
                .iter()
                .zip(&values)
                .map(|(name, (_, value))| (&name[..], tag::OCTET_STRING, &value[..]))
                .collect();
            let trap = taken(Form::V2c, "192.0.2.1", list(&came));
            let with = with_origin(&trap, OF_OURS, MARK, asked);
            prop_assert!(with.starts_with(&trap.varbinds));
            prop_assert_eq!(varbinds(&with).count(), came.len() + 2 + usize::from(asked));
            prop_assert_eq!(varbinds(&with).last().unwrap().2, MARK);
        }

        #[test]
        fn no_octets_make_it_panic(octets in prop::collection::vec(any::<u8>(), 0..200)) {
            let trap = taken(Form::V1, "192.0.2.1", octets);
            let with = with_origin(&trap, OF_OURS, MARK, true);
            // Whatever came, what goes is a list of varbinds and nothing else.
            let mut reader = Reader::new(&with);
            while !reader.is_empty() {
                prop_assert!(reader.expect(tag::SEQUENCE).is_ok());
            }
        }
    }
}
