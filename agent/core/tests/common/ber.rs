//! Writes traps octet by octet, apart from the writer and the reader under test.

use evenkeel_core::trap::Form;

/// An element: tag, shortest length, content.
pub fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match content.len() {
        length @ 0..=127 => out.push(length as u8),
        length @ 128..=255 => out.extend([0x81, length as u8]),
        length => out.extend([0x82, (length >> 8) as u8, length as u8]),
    }
    out.extend_from_slice(content);
    out
}

/// The elements one after the other, in one of this tag.
pub fn nest(tag: u8, parts: &[Vec<u8>]) -> Vec<u8> {
    tlv(tag, &parts.concat())
}

/// The content of an integer in as few octets as hold it.
pub fn integer_content(value: i64) -> Vec<u8> {
    let octets = value.to_be_bytes();
    let from = (0..7).find(|&place| {
        let sign = if octets[place + 1] & 0x80 == 0 { 0 } else { 0xff };
        octets[place] != sign
    });
    octets[from.unwrap_or(7)..].to_vec()
}

/// A number with this tag: 2 for INTEGER, 0x43 for TimeTicks.
pub fn number(tag: u8, value: i64) -> Vec<u8> {
    tlv(tag, &integer_content(value))
}

/// The content of an OID.
pub fn oid_content(arcs: &[u32]) -> Vec<u8> {
    let mut out = Vec::new();
    let head = [arcs[0] * 40 + arcs[1]];
    for &arc in head.iter().chain(&arcs[2..]) {
        let septets: Vec<u8> = (0..5).map(|place| (arc >> (7 * place)) as u8 & 0x7f).collect();
        let most = septets.iter().rposition(|&septet| septet != 0).unwrap_or(0);
        for place in (0..=most).rev() {
            out.push(septets[place] | if place > 0 { 0x80 } else { 0 });
        }
    }
    out
}

/// An OID.
pub fn oid(arcs: &[u32]) -> Vec<u8> {
    tlv(6, &oid_content(arcs))
}

/// An OCTET STRING.
pub fn octets(content: &[u8]) -> Vec<u8> {
    tlv(4, content)
}

/// A varbind.
pub fn varbind(name: &[u32], value: Vec<u8>) -> Vec<u8> {
    nest(0x30, &[oid(name), value])
}

/// sysUpTime.0.
pub const SYS_UP_TIME: [u32; 9] = [1, 3, 6, 1, 2, 1, 1, 3, 0];
/// snmpTrapOID.0.
pub const SNMP_TRAP_OID: [u32; 11] = [1, 3, 6, 1, 6, 3, 1, 1, 4, 1, 0];
/// snmpTraps.
pub const SNMP_TRAPS: [u32; 9] = [1, 3, 6, 1, 6, 3, 1, 1, 5];
/// snmpTrapAddress.0.
pub const SNMP_TRAP_ADDRESS: [u32; 10] = [1, 3, 6, 1, 6, 3, 18, 1, 3, 0];
/// An enterprise to send SNMPv1 traps for.
pub const ENTERPRISE: [u32; 8] = [1, 3, 6, 1, 4, 1, 9, 1];

/// snmpEngineID of the agent under test.
pub const LOCAL_ENGINE: [u8; 13] = *b"\x80\x00\x1f\x88\x04evenkeel";
/// snmpEngineID of a device.
pub const DEVICE_ENGINE: [u8; 11] = *b"\x80\x00\x1f\x88\x04device";

/// A column of ifEntry with its instance.
pub fn if_entry(column: u32, instance: u32) -> Vec<u32> {
    vec![1, 3, 6, 1, 2, 1, 2, 2, 1, column, instance]
}

/// A column of ifXEntry with its instance.
pub fn if_x_entry(column: u32, instance: u32) -> Vec<u32> {
    vec![1, 3, 6, 1, 2, 1, 31, 1, 1, 1, column, instance]
}

/// A trap to be written.
#[derive(Clone, Debug)]
pub struct Message {
    /// Its form.
    pub form: Form,
    /// Its community.
    pub community: Vec<u8>,
    /// Its request-id, where the form has one.
    pub request_id: i64,
    /// Its uptime in hundredths of a second.
    pub uptime: i64,
    /// The sub-identifier below snmpTraps: 1 to 6.
    pub trap: u32,
    /// The agent address, where the form has one.
    pub agent_address: [u8; 4],
    /// The authoritative engine, where the form has one.
    pub engine: Vec<u8>,
    /// The engine of the context, where the form has one.
    pub context_engine: Vec<u8>,
    /// The varbinds behind sysUpTime.0 and snmpTrapOID.0.
    pub varbinds: Vec<Vec<u8>>,
}

impl Message {
    /// A trap without varbinds of its own.
    pub fn new(form: Form, trap: u32) -> Message {
        Message {
            form,
            community: b"public".to_vec(),
            request_id: 1,
            uptime: 100_000,
            trap,
            agent_address: [0; 4],
            engine: match form {
                Form::V3Inform => LOCAL_ENGINE.to_vec(),
                _ => DEVICE_ENGINE.to_vec(),
            },
            context_engine: DEVICE_ENGINE.to_vec(),
            varbinds: Vec::new(),
        }
    }

    /// Its octets.
    pub fn encode(&self) -> Vec<u8> {
        let (version, pdu) = match self.form {
            Form::V1 => (0, self.pdu_v1()),
            Form::V2c => (1, self.pdu_v2(0xa7)),
            Form::Inform => (1, self.pdu_v2(0xa6)),
            Form::V3 => return self.message_v3(0, self.pdu_v2(0xa7)),
            Form::V3Inform => return self.message_v3(4, self.pdu_v2(0xa6)),
        };
        nest(0x30, &[number(2, version), octets(&self.community), pdu])
    }

    /// RFC 3412, section 6, and RFC 3414, 2.4: noAuthNoPriv.
    fn message_v3(&self, flags: u8, pdu: Vec<u8>) -> Vec<u8> {
        let id = number(2, self.request_id & 0x7fff_ffff);
        let global = nest(0x30, &[id, number(2, 65_507), octets(&[flags]), number(2, 3)]);
        let (boots, time) = (number(2, 7), number(2, 1_000));
        let (user, nothing) = (octets(&self.community), octets(&[]));
        let usm = nest(
            0x30,
            &[octets(&self.engine), boots, time, user, nothing.clone(), nothing.clone()],
        );
        let scoped = nest(0x30, &[octets(&self.context_engine), nothing, pdu]);
        nest(0x30, &[number(2, 3), global, octets(&usm), scoped])
    }

    fn pdu_v1(&self) -> Vec<u8> {
        let varbinds = nest(0x30, &self.varbinds);
        let generic = number(2, i64::from(self.trap) - 1);
        let agent = tlv(0x40, &self.agent_address);
        let uptime = number(0x43, self.uptime);
        nest(0xa4, &[oid(&ENTERPRISE), agent, generic, number(2, 0), uptime, varbinds])
    }

    fn pdu_v2(&self, tag: u8) -> Vec<u8> {
        let trap_oid = [&SNMP_TRAPS[..], &[self.trap]].concat();
        let mut varbinds = vec![
            varbind(&SYS_UP_TIME, number(0x43, self.uptime)),
            varbind(&SNMP_TRAP_OID, oid(&trap_oid)),
        ];
        varbinds.extend_from_slice(&self.varbinds);
        let zero = number(2, 0);
        nest(tag, &[number(2, self.request_id), zero.clone(), zero, nest(0x30, &varbinds)])
    }
}
