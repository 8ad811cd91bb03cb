//! SNMPv2c messages written and read by hand (RFC 3416, X.690), for loads that net-snmp's
//! programs are too slow for. It shares no code with the agent on purpose.

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
    let message = [number(0x02, 1), field(0x04, b"public"), field(0xa7, &pdu.concat())];
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
    let (0x30, message, _) = take(datagram)? else { return None };
    let (_, _version, message) = take(message)?;
    let (_, _community, message) = take(message)?;
    let (0xa6 | 0xa7, mut pdu, _) = take(message)? else { return None };
    for _ in 0..3 {
        pdu = take(pdu)?.2;
    }
    let (_, mut varbinds, _) = take(pdu)?;
    let (mut trap, mut id) = (None, None);
    while let Some((_, varbind, rest)) = take(varbinds) {
        varbinds = rest;
        let (_, name, value) = take(varbind)?;
        let (tag, value, _) = take(value)?;
        if tag == 0x06 && name == &oid(&[6, 1, 6, 3, 1, 1, 4, 1, 0])[2..] {
            trap = value.last().map(|&last| last.into());
        }
        if tag == 0x04 && value.len() == 16 && value.iter().all(u8::is_ascii_hexdigit) {
            id = id.or_else(|| String::from_utf8(value.to_vec()).ok());
        }
    }
    Some(Told { trap: trap?, id: id? })
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
