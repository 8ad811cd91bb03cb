//! The messages of SNMPv1 and SNMPv2c around a PDU, and the PDUs of all versions: notifications
//! out, Responses in, and the Response to an inform (RFC 1157, RFC 1901, RFC 3416).

use std::{borrow::Cow, net::Ipv4Addr, ops::Range};

use crate::{
    ber::{self, Reader, tag},
    ber_writer::Writer,
    trap::SNMP_TRAP_COMMUNITY,
};

/// The version numbers in a message.
pub mod version {
    /// SNMPv1 (RFC 1157).
    pub const V1: u8 = 0;
    /// SNMPv2c (RFC 1901).
    pub const V2C: u8 = 1;
    /// SNMPv3 (RFC 3412).
    pub const V3: u8 = 3;
}

/// A Trap-PDU of SNMPv1 (RFC 1157, 4.1.6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrapV1<'a> {
    /// The content octets of enterprise.
    pub enterprise: &'a [u8],
    /// agent-addr.
    pub agent_address: Ipv4Addr,
    /// generic-trap, 0 to 6.
    pub generic: u8,
    /// specific-trap. A sub-identifier may be larger than an Integer32; the low 32 bits stay.
    pub specific: u32,
    /// time-stamp, in hundredths of a second.
    pub uptime: u32,
    /// The varbinds, encoded one after the other.
    pub varbinds: Cow<'a, [u8]>,
}

impl TrapV1<'_> {
    /// The PDU, encoded.
    pub fn encode(&self) -> Vec<u8> {
        let mut pdu = Writer::new();
        pdu.nested(tag::TRAP_V1, |pdu| {
            pdu.element(tag::OID, self.enterprise);
            pdu.element(tag::IP_ADDRESS, &self.agent_address.octets());
            pdu.integer(i64::from(self.generic));
            pdu.integer(i64::from(self.specific.cast_signed()));
            pdu.unsigned(tag::TIME_TICKS, self.uptime);
            pdu.element(tag::SEQUENCE, &self.varbinds);
        });
        pdu.into_bytes()
    }
}

/// A PDU of SNMPv2 without an error: [`tag::TRAP_V2`], [`tag::INFORM`] or [`tag::GET`] around
/// varbinds that are encoded one after the other (RFC 3416, section 3).
pub fn pdu(pdu_tag: u8, request_id: i32, varbinds: &[u8]) -> Vec<u8> {
    let mut pdu = Writer::new();
    pdu.nested(pdu_tag, |pdu| {
        pdu.integer(i64::from(request_id));
        pdu.integer(0); // error-status
        pdu.integer(0); // error-index
        pdu.element(tag::SEQUENCE, varbinds);
    });
    pdu.into_bytes()
}

/// The message of SNMPv1 or SNMPv2c around an encoded PDU.
pub fn community_message(version: u8, community: &[u8], pdu: &[u8]) -> Vec<u8> {
    let mut message = Writer::new();
    message.nested(tag::SEQUENCE, |message| {
        message.integer(i64::from(version));
        message.octets(community);
        message.encoded(pdu);
    });
    message.into_bytes()
}

/// What answers a request: a Response-PDU or a Report-PDU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply<'a> {
    /// [`tag::RESPONSE`] or [`tag::REPORT`].
    pub tag: u8,
    /// The low 32 bits of the request-id.
    pub request_id: i32,
    /// error-status: 0 where all went well.
    pub error_status: u32,
    /// The varbinds, encoded one after the other.
    pub varbinds: &'a [u8],
}

/// Reads an encoded Response-PDU or Report-PDU; nothing if it is none.
pub fn read_reply(pdu: &[u8]) -> Option<Reply<'_>> {
    let (tag, content) = Reader::new(pdu).element().ok()?;
    if !matches!(tag, tag::RESPONSE | tag::REPORT) {
        return None;
    }
    let mut content = Reader::new(content);
    let request_id = ber::signed_low_32_bits(content.expect(tag::INTEGER).ok()?).cast_signed();
    let error_status = ber::unsigned(content.expect(tag::INTEGER).ok()?)?;
    content.expect(tag::INTEGER).ok()?; // error-index
    let varbinds = content.expect(tag::SEQUENCE).ok()?;
    Some(Reply { tag, request_id, error_status, varbinds })
}

/// Reads the SNMPv2c message of a Response: its community and the Response; nothing if it is none.
pub fn read_response(datagram: &[u8]) -> Option<(&[u8], Reply<'_>)> {
    let mut message = Reader::new(Reader::new(datagram).expect(tag::SEQUENCE).ok()?);
    let version = ber::unsigned(message.expect(tag::INTEGER).ok()?)?;
    let community = message.expect(tag::OCTET_STRING).ok()?;
    let reply = read_reply(message.rest())?;
    (version == u32::from(version::V2C) && reply.tag == tag::RESPONSE).then_some((community, reply))
}

/// The name of an error-status (RFC 3416, section 3).
pub fn error_name(status: u32) -> Cow<'static, str> {
    const NAMES: [&str; 19] = [
        "noError",
        "tooBig",
        "noSuchName",
        "badValue",
        "readOnly",
        "genErr",
        "noAccess",
        "wrongType",
        "wrongLength",
        "wrongEncoding",
        "wrongValue",
        "noCreation",
        "inconsistentValue",
        "resourceUnavailable",
        "commitFailed",
        "undoFailed",
        "authorizationError",
        "notWritable",
        "inconsistentName",
    ];
    match usize::try_from(status).ok().and_then(|status| NAMES.get(status)) {
        Some(name) => Cow::Borrowed(name),
        None => Cow::Owned(format!("error-status {status}")),
    }
}

/// The Response to the InformRequest in an SNMPv2c datagram, or nothing if it is none: the same
/// octets but for the tag and a zero in error-status and error-index (RFC 3416, 4.2.7). Octets
/// behind the message are left out.
pub fn response_to(datagram: &[u8]) -> Option<Vec<u8>> {
    let mut rest = Reader::new(datagram);
    let mut message = Reader::new(rest.expect(tag::SEQUENCE).ok()?);
    let version = ber::unsigned(message.expect(tag::INTEGER).ok()?)?;
    if version != u32::from(version::V2C) {
        return None;
    }
    message.expect(tag::OCTET_STRING).ok()?;
    let end = datagram.len() - rest.rest().len();
    let pdu = end - message.rest().len();
    let mut response = datagram[..end].to_vec();
    make_response(&mut response[pdu..])?;
    Some(response)
}

/// The same for an encoded InformRequest-PDU alone, as a scoped PDU of SNMPv3 holds it.
pub fn response_pdu(inform: &[u8]) -> Option<Vec<u8>> {
    let mut rest = Reader::new(inform);
    rest.expect(tag::INFORM).ok()?;
    let mut response = inform[..inform.len() - rest.rest().len()].to_vec();
    make_response(&mut response)?;
    Some(response)
}

/// Turns the InformRequest-PDU that these octets begin with into its Response-PDU, in place.
fn make_response(octets: &mut [u8]) -> Option<()> {
    let length = octets.len();
    let mut rest = Reader::new(octets);
    let mut pdu = Reader::new(rest.expect(tag::INFORM).ok()?);
    let after_pdu = rest.rest().len();
    pdu.expect(tag::INTEGER).ok()?; // request-id
    let mut zeroes = [0..0, 0..0];
    for zero in &mut zeroes {
        let content = pdu.expect(tag::INTEGER).ok()?.len();
        let end = length - after_pdu - pdu.rest().len();
        *zero = end - content..end;
    }
    pdu.expect(tag::SEQUENCE).ok()?;
    octets[0] = tag::RESPONSE;
    for zero in zeroes {
        octets[zero].fill(0);
    }
    Some(())
}

/// Writes `*` over the communities in a datagram: that of a message of SNMPv1 or SNMPv2c, and those in
/// snmpTrapCommunity.0 (RFC 3584). They are found as well where the rest is cut off or malformed, as
/// this is for what a person looks at because it could not be read.
pub fn hide_communities(datagram: &mut [u8]) {
    let head = |datagram: &[u8]| {
        let (_, message) = claimed(datagram, 0)?;
        let (_, version) = claimed(datagram, message.start)?;
        // In a message of SNMPv3, a SEQUENCE follows, and there is no community.
        claimed(datagram, version.end).filter(|(kind, _)| *kind != tag::SEQUENCE)
    };
    let names = datagram.windows(SNMP_TRAP_COMMUNITY.len()).enumerate();
    let names = names.filter(|(_, octets)| *octets == SNMP_TRAP_COMMUNITY);
    let values = names.filter_map(|(at, name)| claimed(datagram, at + name.len()));
    let hidden: Vec<_> = head(datagram).into_iter().chain(values).collect();
    hidden.into_iter().for_each(|(_, community)| datagram[community].fill(b'*'));
}

/// The tag of the element that begins there, and where its content is. If it claims to be longer than
/// what is there, or does not say how long it is, it goes to the end.
fn claimed(octets: &[u8], at: usize) -> Option<(u8, Range<usize>)> {
    let &[tag, length, ref rest @ ..] = octets.get(at..)? else { return None };
    let (digits, length) = match length {
        short @ 0..=0x7f => (0, usize::from(short)),
        0x80 => (0, usize::MAX),
        long => {
            let digits = usize::from(long & 0x7f);
            let length = rest.get(..digits)?.iter().fold(0_usize, |sum, &octet| {
                sum.saturating_mul(256).saturating_add(usize::from(octet))
            });
            (digits, length)
        }
    };
    let start = at + 2 + digits;
    Some((tag, start..start.saturating_add(length).min(octets.len())))
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};
    use rasn_snmp::{v1, v2, v2c};

    use super::*;

    /// One varbind: sysUpTime.0 with these ticks.
    fn uptime(ticks: u32) -> Vec<u8> {
        let mut list = Writer::new();
        list.nested(tag::SEQUENCE, |varbind| {
            varbind.element(tag::OID, &[0x2b, 6, 1, 2, 1, 1, 3, 0]);
            varbind.unsigned(tag::TIME_TICKS, ticks);
        });
        list.into_bytes()
    }

    #[test]
    fn trap_5_a_response_is_the_inform_with_another_tag_and_no_error() {
        #[rustfmt::skip]
        let inform = [
            0x30, 0x1f,
                0x02, 1, 1,
                0x04, 2, b'c', 0xff,
                0xa6, 0x14,
                    // A request-id of five octets, as some devices send it.
                    0x02, 5, 0, 0x9a, 2, 3, 4,
                    // Values in error-status and error-index, one of them padded.
                    0x02, 1, 5,
                    0x02, 2, 0, 7,
                    0x30, 0x84, 0, 0, 0, 0,
                        // The varbinds, none here.
                0x05, 0, // Something behind the PDU.
            0xaa, 0xbb, // Something behind the message.
        ];
        let mut expected = inform[..inform.len() - 2].to_vec();
        expected[9] = 0xa2;
        expected[20] = 0;
        expected[24] = 0;
        assert_eq!(response_to(&inform), Some(expected.clone()));
        assert_eq!(response_pdu(&inform[9..31]), Some(expected[9..31].to_vec()));
        assert_eq!(response_pdu(&inform[9..]), Some(expected[9..31].to_vec()), "trailing octets");
        let (community, reply) = read_response(&expected).unwrap();
        assert_eq!((community, reply.error_status), (&[b'c', 0xff][..], 0));
        assert_eq!(reply.request_id, 0x9a02_0304_u32 as i32);
    }

    #[test]
    fn only_an_inform_of_snmpv2c_is_answered() {
        let inform = community_message(version::V2C, b"c", &pdu(tag::INFORM, 1, &[]));
        assert!(response_to(&inform).is_some());
        for other in [tag::TRAP_V2, tag::RESPONSE, tag::GET, tag::REPORT] {
            let message = community_message(version::V2C, b"c", &pdu(other, 1, &[]));
            assert_eq!(response_to(&message), None);
            assert_eq!(response_pdu(&pdu(other, 1, &[])), None);
        }
        for version in [version::V1, version::V3] {
            let message = community_message(version, b"c", &pdu(tag::INFORM, 1, &[]));
            assert_eq!(response_to(&message), None);
        }
        for end in 0..inform.len() {
            assert_eq!(response_to(&inform[..end]), None, "cut after {end}");
        }
    }

    #[test]
    fn communities_are_hidden_wherever_a_message_ends() {
        const SECRET: &[u8] = b"s3cret";
        let mut varbinds = Writer::new();
        for name in [SNMP_TRAP_COMMUNITY, &[0x2b, 6, 1, 6, 3, 18, 1, 5, 0]] {
            varbinds.nested(tag::SEQUENCE, |varbind| {
                varbind.element(tag::OID, name);
                varbind.octets(SECRET);
            });
        }
        let pdu = pdu(tag::TRAP_V2, 1, &varbinds.into_bytes());
        let message = community_message(version::V2C, SECRET, &pdu);
        let places = |octets: &[u8]| -> Vec<usize> {
            let found = octets.windows(SECRET.len()).enumerate();
            found.filter(|(_, octets)| *octets == SECRET).map(|(at, _)| at).collect()
        };
        let &[community, trap_community, other] = &places(&message)[..] else { panic!() };
        let mut hidden = message.clone();
        hide_communities(&mut hidden);
        assert_eq!(places(&hidden), [other], "it is no community");
        for (at, (was, is)) in message.iter().zip(&hidden).enumerate() {
            let secret =
                [community, trap_community].iter().any(|from| (*from..from + 6).contains(&at));
            assert_eq!(*is, if secret { b'*' } else { *was }, "octet {at}");
        }
        for end in 0..message.len() {
            let mut cut = message[..end].to_vec();
            hide_communities(&mut cut);
            assert_eq!(cut, hidden[..end], "cut after {end}");
        }
        // Lengths that can't be.
        for (at, length) in [(1, 0x80), (1, 0x7f), (1, 0), (6, 0x80), (6, 0x7f)] {
            let mut wrong = message[..20].to_vec();
            wrong[at] = length;
            hide_communities(&mut wrong);
            assert!(places(&wrong).is_empty(), "{length} at {at}");
        }
    }

    #[test]
    fn only_a_response_of_snmpv2c_is_read_as_one() {
        let message = |version, pdu_tag| community_message(version, b"c", &pdu(pdu_tag, -7, &[]));
        let response = message(version::V2C, tag::RESPONSE);
        assert_eq!(read_response(&response).unwrap().1.request_id, -7);
        for (version, pdu_tag) in [
            (version::V1, tag::RESPONSE),
            (version::V2C, tag::INFORM),
            // A Report has no place outside of SNMPv3.
            (version::V2C, tag::REPORT),
        ] {
            assert_eq!(read_response(&message(version, pdu_tag)), None);
        }
    }

    proptest! {
        #[test]
        fn trap_10_messages_are_those_of_a_second_encoder(
            request_id: i32, community in vec(any::<u8>(), 0..64), ticks: u32,
            generic in 0u8..=6, specific: i32, address: [u8; 4], inform: bool,
        ) {
            let list: v2::VarBindList =
                rasn::ber::decode(&[&[0x30, uptime(ticks).len() as u8][..], &uptime(ticks)].concat())
                    .unwrap();
            let fields = v2::Pdu {
                request_id, error_status: 0, error_index: 0, variable_bindings: list,
            };
            let (pdu_tag, theirs) = if inform {
                (tag::INFORM, v2::Pdus::InformRequest(v2::InformRequest(fields)))
            } else {
                (tag::TRAP_V2, v2::Pdus::Trap(v2::Trap(fields)))
            };
            let ours = community_message(
                version::V2C, &community, &pdu(pdu_tag, request_id, &uptime(ticks)),
            );
            let theirs = v2c::Message {
                version: 1.into(), community: community.clone().into(), data: theirs,
            };
            prop_assert_eq!(&ours, &rasn::ber::encode(&theirs).unwrap());

            let trap = TrapV1 {
                enterprise: &[0x2b, 6, 1, 4, 1, 0x89, 0x30],
                agent_address: address.into(),
                generic,
                specific: specific as u32,
                uptime: ticks,
                varbinds: Cow::Borrowed(&[]),
            };
            let ours = community_message(version::V1, &community, &trap.encode());
            let theirs = v1::Message {
                version: 0.into(),
                community: community.into(),
                data: v1::Trap {
                    enterprise: rasn::types::ObjectIdentifier::new_unchecked(
                        vec![1, 3, 6, 1, 4, 1, 1200].into(),
                    ),
                    agent_addr: rasn_smi::v1::NetworkAddress::Internet(
                        rasn_smi::v1::IpAddress(address.into()),
                    ),
                    generic_trap: generic.into(),
                    specific_trap: specific.into(),
                    time_stamp: rasn_smi::v1::TimeTicks(ticks),
                    variable_bindings: vec![],
                },
            };
            prop_assert_eq!(&ours, &rasn::ber::encode(&theirs).unwrap());
        }

        #[test]
        fn a_reply_is_read_as_it_was_written(request_id: i32, ticks: u32) {
            let response = pdu(tag::RESPONSE, request_id, &uptime(ticks));
            let reply = read_reply(&response).unwrap();
            prop_assert_eq!((reply.request_id, reply.error_status), (request_id, 0));
            prop_assert_eq!(reply.varbinds, uptime(ticks));
        }

        #[test]
        fn no_octets_make_it_panic(octets in vec(any::<u8>(), 0..80), place in 0usize..40, octet: u8) {
            let _ = (response_to(&octets), response_pdu(&octets), read_response(&octets));
            let length = octets.len();
            let mut hidden = octets.clone();
            hide_communities(&mut hidden);
            prop_assert_eq!(hidden.len(), length);
            let inform = pdu(tag::INFORM, 77, &uptime(3));
            let mut message = community_message(version::V2C, b"public", &inform);
            let place = place % message.len();
            message[place] = octet;
            if let Some(response) = response_to(&message) {
                prop_assert!(response.len() <= message.len());
                prop_assert!(read_response(&response).is_some_and(|(_, reply)| reply.error_status == 0));
            }
        }
    }
}
