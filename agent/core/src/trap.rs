//! Datagrams to traps: a small decoder that takes what real devices send (TRAP-1, TRAP-7).
//!
//! It reads only what the rules ask for and leaves the varbinds as the octets that came. Whatever
//! is wrong inside one varbind costs no more than that varbind; what is wrong around them costs
//! the datagram, with a reason to count.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::{
    ber::{self, BerError, Reader, tag},
    ber_writer::{Writer, base128},
};

/// More varbinds than any device has sent us (the most seen is 400), and few enough that a
/// datagram full of empty ones costs no more time than one of the ordinary kind.
pub const MAX_VARBINDS: usize = 2048;

/// snmpTraps, 1.3.6.1.6.3.1.1.5: coldStart is .1, warmStart .2, linkDown .3, linkUp .4 (RFC 3418).
pub const SNMP_TRAPS: &[u8] = &[0x2b, 6, 1, 6, 3, 1, 1, 5];
/// sysUpTime.0 (RFC 3418).
pub const SYS_UP_TIME: &[u8] = &[0x2b, 6, 1, 2, 1, 1, 3, 0];
/// snmpTrapOID.0 (RFC 3418).
pub const SNMP_TRAP_OID: &[u8] = &[0x2b, 6, 1, 6, 3, 1, 1, 4, 1, 0];
/// snmpTrapEnterprise.0 (RFC 3418).
pub const SNMP_TRAP_ENTERPRISE: &[u8] = &[0x2b, 6, 1, 6, 3, 1, 1, 4, 3, 0];
/// snmpTrapAddress.0 (RFC 3584, section 4).
pub const SNMP_TRAP_ADDRESS: &[u8] = &[0x2b, 6, 1, 6, 3, 18, 1, 3, 0];
/// snmpTrapCommunity.0 (RFC 3584, section 4).
pub const SNMP_TRAP_COMMUNITY: &[u8] = &[0x2b, 6, 1, 6, 3, 18, 1, 4, 0];

/// A trap, with what the rules ask for read out of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trap<'a> {
    /// The form that it came in.
    pub form: Form,
    /// The community, whatever its octets.
    pub community: &'a [u8],
    /// The low 32 bits of the request-id, which an SNMPv1 trap does not have.
    pub request_id: Option<u32>,
    /// sysUpTime in hundredths of a second, where it could be found.
    pub uptime: Option<u32>,
    /// What it tells.
    pub event: TrapEvent,
    /// The agent address of an SNMPv1 trap, where it has four octets.
    pub agent_address: Option<Ipv4Addr>,
    /// The value of snmpTrapAddress.0, where it has four octets.
    pub trap_address: Option<Ipv4Addr>,
    /// The ifIndex, from its value or from the instance of ifIndex, ifDescr, ifAdminStatus or
    /// ifOperStatus (INST-18): 1 to 2147483647 (RFC 2863).
    pub if_index: Option<u32>,
    /// The value of ifType.
    pub if_type: Option<u32>,
    /// The value of ifDescr.
    pub if_descr: Option<&'a [u8]>,
    /// The value of ifName.
    pub if_name: Option<&'a [u8]>,
    /// The value of ifAlias.
    pub if_alias: Option<&'a [u8]>,
    /// The encoded value of snmpTrapOID.0; empty for an SNMPv1 trap, whose header stands for it. By
    /// [`trap_oid`](Trap::trap_oid) it is there for every form.
    pub oid: &'a [u8],
    /// The header fields that only a normalisation needs.
    pub header: Header<'a>,
    /// The varbinds, encoded, as they came.
    pub varbinds: &'a [u8],
}

/// How a trap came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Form {
    /// An SNMPv1 Trap-PDU (RFC 1157).
    V1,
    /// An SNMPv2-Trap-PDU under SNMPv2c (RFC 3416, RFC 1901).
    V2c,
    /// An InformRequest-PDU under SNMPv2c.
    Inform,
    /// An SNMPv2-Trap-PDU under SNMPv3 (RFC 3412).
    V3,
    /// An InformRequest-PDU under SNMPv3.
    V3Inform,
}

impl Form {
    /// Every form.
    pub const ALL: [Form; 5] = [Form::V1, Form::V2c, Form::Inform, Form::V3, Form::V3Inform];

    /// The name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Form::V1 => "v1_trap",
            Form::V2c => "v2c_trap",
            Form::Inform => "v2c_inform",
            Form::V3 => "v3_trap",
            Form::V3Inform => "v3_inform",
        }
    }

    /// Whether its sender waits for a Response.
    pub const fn is_inform(self) -> bool {
        matches!(self, Form::Inform | Form::V3Inform)
    }
}

/// What a trap tells, as far as a rule asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrapEvent {
    /// The system restarted, and its configuration may have changed.
    ColdStart,
    /// The system restarted unchanged.
    WarmStart,
    /// An interface went down.
    LinkDown,
    /// An interface came up.
    LinkUp,
    /// Anything else, which no rule judges.
    Other,
}

impl TrapEvent {
    /// By the sub-identifier below snmpTraps. INST-10: what tells the same is the same, in whatever
    /// form it came.
    const fn from_snmp_traps(arc: u8) -> TrapEvent {
        match arc {
            1 => TrapEvent::ColdStart,
            2 => TrapEvent::WarmStart,
            3 => TrapEvent::LinkDown,
            4 => TrapEvent::LinkUp,
            _ => TrapEvent::Other,
        }
    }
}

/// What stands before the varbinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header<'a> {
    /// Of an SNMPv1 Trap-PDU.
    V1 {
        /// The encoded enterprise.
        enterprise: &'a [u8],
        /// generic-trap.
        generic: u8,
        /// specific-trap, the low 32 bits.
        specific: u32,
    },
    /// Of the others nothing: the varbinds say it all.
    V2,
}

/// Why a datagram is not a trap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Malformed {
    /// A length reaches beyond the datagram.
    Truncated,
    /// The indefinite form of a length.
    IndefiniteLength,
    /// A length in more than four octets.
    LengthTooLong,
    /// An element of another type than the one that belongs there.
    WrongType,
    /// Neither SNMPv1 nor SNMPv2c.
    UnsupportedVersion,
    /// A PDU that is no trap.
    NotATrap,
    /// No snmpTrapOID.0 among the varbinds, or one that is no OID.
    NoTrapOid,
    /// More than [`MAX_VARBINDS`].
    TooManyVarbinds,
}

impl Malformed {
    /// Every reason.
    pub const ALL: [Malformed; 8] = [
        Malformed::Truncated,
        Malformed::IndefiniteLength,
        Malformed::LengthTooLong,
        Malformed::WrongType,
        Malformed::UnsupportedVersion,
        Malformed::NotATrap,
        Malformed::NoTrapOid,
        Malformed::TooManyVarbinds,
    ];

    /// The name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Malformed::Truncated => "truncated",
            Malformed::IndefiniteLength => "indefinite_length",
            Malformed::LengthTooLong => "length_too_long",
            Malformed::WrongType => "wrong_type",
            Malformed::UnsupportedVersion => "unsupported_version",
            Malformed::NotATrap => "not_a_trap",
            Malformed::NoTrapOid => "no_trap_oid",
            Malformed::TooManyVarbinds => "too_many_varbinds",
        }
    }
}

impl From<BerError> for Malformed {
    fn from(error: BerError) -> Malformed {
        match error {
            BerError::Truncated => Malformed::Truncated,
            BerError::IndefiniteLength => Malformed::IndefiniteLength,
            BerError::LengthTooLong => Malformed::LengthTooLong,
            BerError::WrongType => Malformed::WrongType,
        }
    }
}

impl<'a> Trap<'a> {
    /// Reads a datagram. Octets behind the message are ignored, as some devices pad.
    ///
    /// # Errors
    ///
    /// When it cannot be a trap.
    pub fn decode(datagram: &'a [u8]) -> Result<Trap<'a>, Malformed> {
        let mut message = Reader::new(Reader::new(datagram).expect(tag::SEQUENCE)?);
        let version = ber::unsigned(message.expect(tag::INTEGER)?);
        match version {
            Some(0 | 1) => {}
            _ => return Err(Malformed::UnsupportedVersion),
        }
        let community = message.expect(tag::OCTET_STRING)?;
        let (pdu_tag, pdu) = message.element()?;
        match (version, pdu_tag) {
            (Some(0), tag::TRAP_V1) => decode_v1(community, Reader::new(pdu)),
            (Some(1), tag::TRAP_V2) => decode_v2(Form::V2c, community, Reader::new(pdu)),
            (Some(1), tag::INFORM) => decode_v2(Form::Inform, community, Reader::new(pdu)),
            _ => Err(Malformed::NotATrap),
        }
    }

    /// Reads the PDU of a message whose wrapping was read elsewhere, as that of SNMPv3 is. `community`
    /// is the security name there.
    ///
    /// # Errors
    ///
    /// When it cannot be a trap of this form.
    pub fn decode_pdu(
        form: Form,
        community: &'a [u8],
        pdu: &'a [u8],
    ) -> Result<Trap<'a>, Malformed> {
        let (pdu_tag, pdu) = Reader::new(pdu).element()?;
        match (form, pdu_tag) {
            (Form::V1, tag::TRAP_V1) => decode_v1(community, Reader::new(pdu)),
            (Form::V2c | Form::V3, tag::TRAP_V2) | (Form::Inform | Form::V3Inform, tag::INFORM) => {
                decode_v2(form, community, Reader::new(pdu))
            }
            _ => Err(Malformed::NotATrap),
        }
    }

    /// Reads the varbinds of a trap's SNMPv2 form, as [`normalised`](Trap::normalised) has written them.
    ///
    /// # Errors
    ///
    /// When they cannot be those of a trap.
    pub fn of_varbinds(
        form: Form,
        community: &'a [u8],
        request_id: Option<u32>,
        varbinds: &'a [u8],
    ) -> Result<Trap<'a>, Malformed> {
        let mut trap = Trap { request_id, ..Trap::bare(form, community, Header::V2, varbinds) };
        read_varbinds(&mut trap)?;
        Ok(trap)
    }

    /// The encoded value of snmpTrapOID.0 of its SNMPv2 form (RFC 3584, section 3.1).
    pub fn trap_oid(&self) -> SmallVec<[u8; 32]> {
        let Header::V1 { enterprise, generic, specific } = self.header else {
            return SmallVec::from_slice(self.oid);
        };
        let mut oid;
        if generic < 6 {
            oid = SmallVec::from_slice(SNMP_TRAPS);
            oid.push(generic + 1);
        } else {
            oid = SmallVec::from_slice(enterprise);
            oid.push(0);
            let mut last = Vec::new();
            base128(&mut last, specific.into());
            oid.extend_from_slice(&last);
        }
        oid
    }

    /// The varbinds, one after the other: the encoded name, the tag and the content of the value.
    pub fn varbinds(&self) -> impl Iterator<Item = (&'a [u8], u8, &'a [u8])> {
        varbinds(self.varbinds)
    }

    /// The varbind list of the SNMPv2 form (RFC 3584, section 3.1), with every varbind kept and
    /// the address, community and enterprise of an SNMPv1 trap added where they are not there.
    /// What came as SNMPv2 is returned as it came.
    pub fn normalised(&self) -> Vec<u8> {
        let Header::V1 { enterprise, .. } = self.header else {
            return self.varbinds.to_vec();
        };
        let mut list = Writer::new();
        let trap_oid = self.trap_oid();
        list.nested(tag::SEQUENCE, |varbind| {
            varbind.element(tag::OID, SYS_UP_TIME);
            varbind.unsigned(tag::TIME_TICKS, self.uptime.unwrap_or(0));
        });
        push_varbind(&mut list, SNMP_TRAP_OID, tag::OID, &trap_oid);
        list.encoded(self.varbinds);
        let has = |name: &[u8]| self.varbinds().any(|(other, ..)| other == name);
        if let (Some(address), false) = (self.agent_address, has(SNMP_TRAP_ADDRESS)) {
            push_varbind(&mut list, SNMP_TRAP_ADDRESS, tag::IP_ADDRESS, &address.octets());
        }
        if !has(SNMP_TRAP_COMMUNITY) {
            push_varbind(&mut list, SNMP_TRAP_COMMUNITY, tag::OCTET_STRING, self.community);
        }
        if !has(SNMP_TRAP_ENTERPRISE) {
            push_varbind(&mut list, SNMP_TRAP_ENTERPRISE, tag::OID, enterprise);
        }
        list.into_bytes()
    }
}

fn push_varbind(list: &mut Writer, name: &[u8], value_tag: u8, value: &[u8]) {
    list.nested(tag::SEQUENCE, |varbind| {
        varbind.element(tag::OID, name);
        varbind.element(value_tag, value);
    });
}

/// RFC 1157, section 4.1.6.
fn decode_v1<'a>(community: &'a [u8], mut pdu: Reader<'a>) -> Result<Trap<'a>, Malformed> {
    let enterprise = pdu.expect(tag::OID)?;
    let agent_address = four_octets(pdu.expect(tag::IP_ADDRESS)?);
    let generic = ber::unsigned(pdu.expect(tag::INTEGER)?)
        .and_then(|generic| u8::try_from(generic).ok())
        .filter(|&generic| generic <= 6)
        .ok_or(Malformed::NotATrap)?;
    let specific = ber::signed_low_32_bits(pdu.expect(tag::INTEGER)?);
    let uptime = ber::low_32_bits(pdu.expect(tag::TIME_TICKS)?);
    let list = pdu.expect(tag::SEQUENCE)?;
    let mut trap = Trap {
        agent_address,
        uptime: Some(uptime),
        event: if generic < 6 { TrapEvent::from_snmp_traps(generic + 1) } else { TrapEvent::Other },
        ..Trap::bare(Form::V1, community, Header::V1 { enterprise, generic, specific }, list)
    };
    // The uptime of an SNMPv1 trap stands in its header, whatever its varbinds say.
    let _ = scan(&mut trap)?;
    trap.uptime = Some(uptime);
    Ok(trap)
}

/// RFC 3416, section 4.2.6.
fn decode_v2<'a>(
    form: Form,
    community: &'a [u8],
    mut pdu: Reader<'a>,
) -> Result<Trap<'a>, Malformed> {
    let request_id = ber::signed_low_32_bits(pdu.expect(tag::INTEGER)?);
    pdu.expect(tag::INTEGER)?; // error-status
    pdu.expect(tag::INTEGER)?; // error-index
    let list = pdu.expect(tag::SEQUENCE)?;
    let mut trap =
        Trap { request_id: Some(request_id), ..Trap::bare(form, community, Header::V2, list) };
    read_varbinds(&mut trap)?;
    Ok(trap)
}

/// What the varbinds of the SNMPv2 form tell.
fn read_varbinds(trap: &mut Trap<'_>) -> Result<(), Malformed> {
    trap.oid = scan(trap)?.ok_or(Malformed::NoTrapOid)?;
    trap.event = match trap.oid.strip_prefix(SNMP_TRAPS) {
        Some(&[arc]) => TrapEvent::from_snmp_traps(arc),
        _ => TrapEvent::Other,
    };
    Ok(())
}

impl<'a> Trap<'a> {
    /// A trap that tells nothing.
    pub const NOTHING: Trap<'static> = Trap::bare(Form::V2c, &[], Header::V2, &[]);

    const fn bare(
        form: Form,
        community: &'a [u8],
        header: Header<'a>,
        varbinds: &'a [u8],
    ) -> Trap<'a> {
        Trap {
            form,
            community,
            request_id: None,
            uptime: None,
            event: TrapEvent::Other,
            agent_address: None,
            trap_address: None,
            if_index: None,
            if_type: None,
            if_descr: None,
            if_name: None,
            if_alias: None,
            oid: &[],
            header,
            varbinds,
        }
    }
}

/// Walks the varbinds once, notes what the rules ask for, and returns the value of
/// snmpTrapOID.0. A varbind that makes no sense is passed over; only a list that can't be walked
/// to its end, or has no end, is refused.
fn scan<'a>(trap: &mut Trap<'a>) -> Result<Option<&'a [u8]>, Malformed> {
    let mut list = Reader::new(trap.varbinds);
    let mut trap_oid = None;
    let mut instance = None;
    let mut count = 0;
    while !list.is_empty() {
        count += 1;
        if count > MAX_VARBINDS {
            return Err(Malformed::TooManyVarbinds);
        }
        let (tag, varbind) = list.element()?;
        if tag != tag::SEQUENCE {
            continue;
        }
        let mut varbind = Reader::new(varbind);
        let (Ok(name), Ok((value_tag, value))) = (varbind.expect(tag::OID), varbind.element())
        else {
            continue;
        };
        // As patterns, which share their first comparisons: one name after the other would cost a
        // third of the decoding. Above each, its constant or table.
        let [0x2b, 6, 1, arcs @ ..] = name else { continue };
        match (arcs, value_tag) {
            // ifEntry
            ([2, 1, 2, 2, 1, column, index @ ..], _) => {
                note_if_entry(trap, *column, index, value_tag, value, &mut instance);
            }
            // SYS_UP_TIME
            ([2, 1, 1, 3, 0], tag::TIME_TICKS | tag::INTEGER | tag::GAUGE32 | tag::COUNTER32) => {
                trap.uptime = Some(ber::low_32_bits(value))
            }
            // SNMP_TRAP_OID
            ([6, 3, 1, 1, 4, 1, 0], tag::OID) if is_oid(value) => trap_oid = Some(value),
            // ifXEntry: ifName 1, ifAlias 18
            ([2, 1, 31, 1, 1, 1, 1, ..], tag::OCTET_STRING) => trap.if_name = Some(value),
            ([2, 1, 31, 1, 1, 1, 18, ..], tag::OCTET_STRING) => trap.if_alias = Some(value),
            // SNMP_TRAP_ADDRESS
            ([6, 3, 18, 1, 3, 0], tag::IP_ADDRESS) => trap.trap_address = four_octets(value),
            _ => {}
        }
    }
    trap.if_index = trap.if_index.or(instance);
    Ok(trap_oid)
}

/// The columns of ifEntry (RFC 2863): ifIndex 1, ifDescr 2, ifType 3, ifAdminStatus 7, ifOperStatus 8.
fn note_if_entry<'a>(
    trap: &mut Trap<'a>,
    column: u8,
    index: &[u8],
    value_tag: u8,
    value: &'a [u8],
    instance: &mut Option<u32>,
) {
    // INST-18: the value of ifIndex, else the instance of one of these four.
    if matches!(column, 1 | 2 | 7 | 8) && instance.is_none() {
        let mut arcs = ber::sub_identifiers(index);
        if let (Some(Some(index)), None) = (arcs.next(), arcs.next()) {
            *instance = if_index(index);
        }
    }
    match (column, value_tag) {
        (1, tag::INTEGER | tag::GAUGE32) if trap.if_index.is_none() => {
            trap.if_index = ber::unsigned(value).and_then(if_index);
        }
        (2, tag::OCTET_STRING) => trap.if_descr = Some(value),
        (3, tag::INTEGER) => trap.if_type = ber::unsigned(value),
        _ => {}
    }
}

/// InterfaceIndex (RFC 2863).
fn if_index(value: u32) -> Option<u32> {
    (1..=0x7fff_ffff).contains(&value).then_some(value)
}

fn is_oid(encoded: &[u8]) -> bool {
    // RFC 2578, 3.5: at most 128 sub-identifiers, the first octet standing for two.
    let mut arcs = 0;
    // The traps that are judged are known by their octets.
    encoded.starts_with(SNMP_TRAPS) && matches!(encoded[SNMP_TRAPS.len()..], [0..=0x7f])
        || (!encoded.is_empty()
            && ber::sub_identifiers(encoded).all(|arc| {
                arcs += 1;
                arc.is_some() && arcs <= 127
            }))
}

fn four_octets(content: &[u8]) -> Option<Ipv4Addr> {
    <[u8; 4]>::try_from(content).ok().map(Ipv4Addr::from)
}

/// The varbinds of an encoded list, passing over what is none.
pub fn varbinds(list: &[u8]) -> impl Iterator<Item = (&[u8], u8, &[u8])> {
    let mut list = Reader::new(list);
    std::iter::from_fn(move || list.element().ok()).filter_map(|(tag, varbind)| {
        let mut varbind = Reader::new(varbind);
        let name = varbind.expect(tag::OID).ok().filter(|_| tag == tag::SEQUENCE)?;
        let (value_tag, value) = varbind.element().ok()?;
        Some((name, value_tag, value))
    })
}
