//! The full typed view of a trap, where a person looks inside one.
//!
//! The crate `snmp-parser` reads it. What real devices send goes beyond what that takes (a
//! negative request-id, an uptime above 248 days); then the tolerant decoder of the core shows the
//! varbinds with their octets.

use std::fmt::Write as _;

use evenkeel_core::{
    ber::{sub_identifiers, tag},
    text::printable,
    trap::Trap,
};
use snmp_parser::{
    NetworkAddress, ObjectSyntax, PduType, SnmpPdu, SnmpVariable, VarBindValue, parse_snmp_v1,
    parse_snmp_v2c,
};

/// Lines that show what is in a datagram, each indented and ended.
pub fn describe(datagram: &[u8]) -> String {
    let typed = parse_snmp_v1(datagram)
        .map(|(_, message)| message)
        .ok()
        .filter(|message| message.version == 0)
        .or_else(|| parse_snmp_v2c(datagram).map(|(_, message)| message).ok());
    match typed {
        Some(message) => typed_view(&message.pdu),
        None => match Trap::decode(datagram) {
            Ok(trap) => octets_view(&trap),
            Err(malformed) => {
                format!("    not a trap: {}\n    {}\n", malformed.name(), dump(datagram))
            }
        },
    }
}

fn typed_view(pdu: &SnmpPdu<'_>) -> String {
    let mut out = String::new();
    // Writing to a string can't fail.
    let _ = match pdu {
        SnmpPdu::TrapV1(trap) => {
            let NetworkAddress::IPv4(agent) = trap.agent_addr;
            writeln!(
                out,
                "    SNMPv1 Trap of {agent}: enterprise {}, generic {}, specific {}, uptime {}",
                trap.enterprise,
                trap.generic_trap.0,
                trap.specific_trap,
                ticks(trap.timestamp)
            )
        }
        SnmpPdu::Generic(pdu) => {
            let kind = match pdu.pdu_type {
                PduType::TrapV2 => "SNMPv2 Trap".to_owned(),
                PduType::InformRequest => "Inform".to_owned(),
                other => format!("PDU of type {}", other.0),
            };
            writeln!(out, "    {kind}, request-id {}", pdu.req_id)
        }
        SnmpPdu::Bulk(_) => writeln!(out, "    GetBulkRequest"),
    };
    for variable in pdu.vars_iter() {
        let SnmpVariable { oid, val } = variable;
        let _ = writeln!(out, "    {oid} = {}", value(val));
    }
    out
}

fn value(value: &VarBindValue<'_>) -> String {
    let VarBindValue::Value(value) = value else { return "no value".to_owned() };
    match value {
        ObjectSyntax::Number(number) => format!("INTEGER {number}"),
        ObjectSyntax::String(text) => format!("STRING {:?}", printable(text)),
        ObjectSyntax::Object(oid) => format!("OID {oid}"),
        ObjectSyntax::IpAddress(NetworkAddress::IPv4(address)) => format!("IpAddress {address}"),
        ObjectSyntax::Counter32(count) => format!("Counter32 {count}"),
        ObjectSyntax::Gauge32(gauge) => format!("Gauge32 {gauge}"),
        ObjectSyntax::TimeTicks(uptime) => format!("TimeTicks {}", ticks(*uptime)),
        ObjectSyntax::Counter64(count) => format!("Counter64 {count}"),
        ObjectSyntax::UInteger32(number) => format!("UInteger32 {number}"),
        other => format!("{other:?}"),
    }
}

fn octets_view(trap: &Trap<'_>) -> String {
    let mut out = format!("    {:?} trap: {:?}\n", trap.form, trap.event);
    for (name, value_tag, value) in trap.varbinds() {
        let value = match value_tag {
            tag::OCTET_STRING => format!("STRING {:?}", printable(value)),
            tag::OID => format!("OID {}", oid(value)),
            value_tag => format!("type 0x{value_tag:02x}, octets {}", dump(value)),
        };
        // Writing to a string can't fail.
        let _ = writeln!(out, "    {} = {value}", oid(name));
    }
    out
}

/// An encoded OID in its usual form (X.690, 8.19).
pub fn oid(encoded: &[u8]) -> String {
    let Some((&first, rest)) = encoded.split_first() else { return "(empty)".to_owned() };
    let top = (first / 40).min(2);
    let mut text = format!("{top}.{}", first - 40 * top);
    for arc in sub_identifiers(rest) {
        match arc {
            Some(arc) => text.push_str(&format!(".{arc}")),
            None => text.push_str(".?"),
        }
    }
    text
}

fn ticks(hundredths: u32) -> String {
    let seconds = hundredths / 100;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    let (seconds, rest) = (seconds % 60, hundredths % 100);
    format!("{hundredths} ({days} days {hours}:{minutes:02}:{seconds:02}.{rest:02})")
}

fn dump(octets: &[u8]) -> String {
    const SHOWN: usize = 64;
    let shown: Vec<String> =
        octets.iter().take(SHOWN).map(|octet| format!("{octet:02x}")).collect();
    let more = octets.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", shown.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_trap_is_shown_as_octets() {
        let text = describe(&[0x30, 0x05, 1]);
        assert!(text.contains("truncated") && text.contains("30 05 01"), "{text}");
    }

    #[test]
    fn identifiers_are_written_in_their_usual_form() {
        assert_eq!(oid(&[0x2b, 6, 1, 0x87, 0x68]), "1.3.6.1.1000");
        assert_eq!(oid(&[]), "(empty)");
        assert_eq!(oid(&[0x2b, 0x87]), "1.3.?");
    }
}
