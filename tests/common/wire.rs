//! SNMP messages written and read by hand (RFC 3416, RFC 3412, RFC 3414, X.690), for loads that
//! net-snmp's programs are too slow for, and to look into what they sent. It shares no code with the
//! agent on purpose.

use super::device::Trap;

/// A tag, a length and contents.
fn field(tag: u8, contents: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    match u16::try_from(contents.len()).expect("a datagram is shorter").to_be_bytes() {
        [0, short @ 0..0x80] => bytes.push(short),
        [0, long] => bytes.extend([0x81, long]),
        [high, low] => bytes.extend([0x82, high, low]),
    }
    bytes.extend_from_slice(contents);
    bytes
}

/// A number that is not negative, in as few octets as it takes.
fn number(tag: u8, value: u32) -> Vec<u8> {
    let octets = u64::from(value).to_be_bytes();
    // One zero octet in front stays where the next has its top bit set (X.690, 8.3.2).
    let start = (0..7).find(|&at| octets[at] != 0 || octets[at + 1] >= 0x80).unwrap_or(7);
    field(tag, &octets[start..])
}

/// An OBJECT IDENTIFIER that begins with 1.3.
fn oid(rest: &[u32]) -> Vec<u8> {
    let mut contents = vec![0x2b];
    for &part in rest {
        for shift in (1..5).rev().filter(|shift| part >> (7 * shift) != 0) {
            contents.push(0x80 | (part >> (7 * shift)) as u8 & 0x7f);
        }
        contents.push((part & 0x7f) as u8);
    }
    field(0x06, &contents)
}

/// A whole SNMPv2c trap with the community `public`, as a device would send it.
pub fn v2c_trap(trap: Trap, request_id: u32, uptime: u32) -> Vec<u8> {
    v2c(0xa7, trap, request_id, uptime)
}

/// The same as an inform.
pub fn v2c_inform(trap: Trap, request_id: u32, uptime: u32) -> Vec<u8> {
    v2c(0xa6, trap, request_id, uptime)
}

fn v2c(pdu_tag: u8, trap: Trap, request_id: u32, uptime: u32) -> Vec<u8> {
    let varbind = |name: Vec<u8>, value: Vec<u8>| field(0x30, &[name, value].concat());
    let trap_oid = oid(&[6, 1, 6, 3, 1, 1, 5, trap.number().into()]);
    let mut varbinds = vec![
        varbind(oid(&[6, 1, 2, 1, 1, 3, 0]), number(0x43, uptime)),
        varbind(oid(&[6, 1, 6, 3, 1, 1, 4, 1, 0]), trap_oid),
    ];
    if let Some(if_index) = trap.if_index() {
        let name = oid(&[6, 1, 2, 1, 2, 2, 1, 1, if_index]);
        varbinds.push(varbind(name, number(0x02, if_index)));
    }
    let pdu = [
        number(0x02, request_id),
        number(0x02, 0),
        number(0x02, 0),
        field(0x30, &varbinds.concat()),
    ];
    let message = [number(0x02, 1), field(0x04, b"public"), field(pdu_tag, &pdu.concat())];
    field(0x30, &message.concat())
}

/// What a notification of ours says, as far as the tests ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The last sub-identifier of its snmpTrapOID.
    pub trap: u32,
    /// The alarm's id: the varbind of sixteen hexadecimal digits.
    pub id: String,
}

/// Reads one of our notifications; nothing for what has no alarm id, such as coldStart.
pub fn read_notification(datagram: &[u8]) -> Option<Told> {
    Told::of(&read_pdu(datagram)?)
}

impl Told {
    /// The same of a PDU that was read.
    pub fn of(pdu: &Pdu) -> Option<Told> {
        let trap = pdu.varbinds.iter().find(|varbind| varbind.is(&TRAP_OID))?.value.last()?;
        let is_id = |varbind: &&Varbind| {
            varbind.tag == 0x04
                && varbind.value.len() == 16
                && varbind.value.iter().all(u8::is_ascii_hexdigit)
        };
        let id = pdu.varbinds.iter().find(is_id)?.value.clone();
        Some(Told { trap: (*trap).into(), id: String::from_utf8(id).ok()? })
    }
}

/// snmpTrapOID.0 without the leading 1.3 (RFC 3418).
pub const TRAP_OID: [u32; 9] = [6, 1, 6, 3, 1, 1, 4, 1, 0];

/// snmpTrapAddress.0 (RFC 3584, 9.).
pub const TRAP_ADDRESS: [u32; 8] = [6, 1, 6, 3, 18, 1, 3, 0];

/// A PDU of SNMPv2, out of an SNMPv2c message or an SNMPv3 message that is not encrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pdu {
    /// 0xa2 Response, 0xa6 InformRequest, 0xa7 SNMPv2-Trap, 0xa8 Report.
    pub tag: u8,
    /// Its request-id.
    pub request_id: u32,
    /// Its varbinds, in order.
    pub varbinds: Vec<Varbind>,
}

/// One varbind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Varbind {
    name: Vec<u8>,
    /// The tag of its value.
    pub tag: u8,
    /// The contents of its value.
    pub value: Vec<u8>,
}

impl Varbind {
    /// Whether it is of this object, which begins with 1.3.
    pub fn is(&self, rest: &[u32]) -> bool {
        self.name == oid(rest)[2..]
    }

    /// The value as a number.
    pub fn number(&self) -> u32 {
        self.value.iter().fold(0, |value, &octet| value << 8 | u32::from(octet))
    }
}

/// The PDU of a message; nothing for SNMPv1, and for what is encrypted.
pub fn read_pdu(datagram: &[u8]) -> Option<Pdu> {
    let (0x30, message, _) = take(datagram)? else { return None };
    let (_, version, message) = take(message)?;
    let message = match version {
        [1] => take(message)?.2,
        // msgGlobalData and msgSecurityParameters, then contextEngineID and contextName.
        [3] => {
            let (0x30, scoped, _) = take(take(take(message)?.2)?.2)? else { return None };
            take(take(scoped)?.2)?.2
        }
        _ => return None,
    };
    let (tag @ (0xa2 | 0xa6 | 0xa7 | 0xa8), pdu, _) = take(message)? else { return None };
    let (_, request_id, pdu) = take(pdu)?;
    let request_id = request_id.iter().fold(0, |value, &octet| value << 8 | u32::from(octet));
    let (_, mut rest, _) = take(take(take(pdu)?.2)?.2)?;
    let mut varbinds = Vec::new();
    while let Some((_, varbind, after)) = take(rest) {
        rest = after;
        let (_, name, value) = take(varbind)?;
        let (tag, value, _) = take(value)?;
        varbinds.push(Varbind { name: name.to_vec(), tag, value: value.to_vec() });
    }
    Some(Pdu { tag, request_id, varbinds })
}

/// The Response to an SNMPv2c inform: the same octets with another tag (RFC 3416, 4.2.7).
pub fn response_to(inform: &[u8]) -> Option<Vec<u8>> {
    let (0x30, message, _) = take(inform)? else { return None };
    let after_community = take(take(message)?.2)?.2;
    let mut response = inform.to_vec();
    let at = inform.len() - after_community.len();
    (response[at] == 0xa6).then(|| response[at] = 0xa2)?;
    Some(response)
}

/// What is in the clear of every SNMPv3 message (RFC 3412, section 6; RFC 3414, 2.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct V3 {
    /// msgID.
    pub id: u32,
    /// msgFlags: 1 authenticated, 2 encrypted, 4 wants a Report.
    pub flags: u8,
    /// msgAuthoritativeEngineID.
    pub engine: Vec<u8>,
    /// msgAuthoritativeEngineBoots.
    pub boots: u32,
    /// msgAuthoritativeEngineTime.
    pub time: u32,
    /// msgUserName.
    pub user: Vec<u8>,
}

/// Reads the head of an SNMPv3 message.
pub fn read_v3(datagram: &[u8]) -> Option<V3> {
    let number =
        |octets: &[u8]| octets.iter().fold(0, |value, &octet| value << 8 | u32::from(octet));
    let (0x30, message, _) = take(datagram)? else { return None };
    let (_, [3], message) = take(message)? else { return None };
    let (0x30, global, message) = take(message)? else { return None };
    let (_, id, global) = take(global)?;
    let (_, &[flags], _) = take(take(global)?.2)? else { return None };
    let (0x30, usm, _) = take(take(message)?.1)? else { return None };
    let (_, engine, usm) = take(usm)?;
    let (_, boots, usm) = take(usm)?;
    let (_, time, usm) = take(usm)?;
    let (_, user, _) = take(usm)?;
    Some(V3 {
        id: number(id),
        flags,
        engine: engine.to_vec(),
        boots: number(boots),
        time: number(time),
        user: user.to_vec(),
    })
}

/// The usmStats counter that a Report names, by its last sub-identifiers, and its value: 1
/// unsupportedSecLevels, 2 notInTimeWindows, 3 unknownUserNames, 4 unknownEngineIDs, 5 wrongDigests,
/// 6 decryptionErrors (RFC 3414, section 5).
pub fn read_report(datagram: &[u8]) -> Option<(u32, u32)> {
    let pdu = read_pdu(datagram)?;
    let [varbind] = &pdu.varbinds[..] else { return None };
    let counter = (1..=6).find(|&counter| varbind.is(&[6, 1, 6, 3, 15, 1, 1, counter, 0]))?;
    (pdu.tag == 0xa8 && varbind.tag == 0x41).then(|| (counter, varbind.number()))
}

/// The first field: its tag, its contents, and what follows it.
fn take(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first], rest) = bytes.split_first_chunk()?;
    let (length, rest) = match first {
        0..0x80 => (usize::from(first), rest),
        _ => {
            let (octets, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (octets.iter().fold(0, |length, &octet| length << 8 | usize::from(octet)), rest)
        }
    };
    let (contents, rest) = rest.split_at_checked(length)?;
    Some((tag, contents, rest))
}
