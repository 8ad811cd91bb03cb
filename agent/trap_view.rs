//! The full typed view of a trap, where a person looks inside one.
//!
//! The crate `snmp-parser` reads it. What real devices send goes beyond what that takes (a
//! negative request-id, an uptime above 248 days); then the tolerant decoder of the core shows the
//! varbinds with their octets. So it does with a message of SNMPv3, of which everything is shown that
//! can be read without a key: whose it claims to be, and how old.

use std::fmt::Write as _;

use evenkeel_core::{
    ber::{low_32_bits, signed_low_32_bits, sub_identifiers, tag},
    text::printable,
    trap::{Form, Trap},
    usm::{
        Level,
        message::{self, Incoming},
    },
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
        None => match (message::parse(datagram), Trap::decode(datagram)) {
            (Ok(incoming), _) => v3_view(&incoming),
            (Err(_), Ok(trap)) => octets_view(&trap),
            (Err(_), Err(malformed)) => {
                format!("    not a trap: {}\n    {}\n", malformed.name(), dump(datagram))
            }
        },
    }
}

fn v3_view(incoming: &Incoming<'_>) -> String {
    let Incoming { msg_id, model, engine, boots, time, user, .. } = *incoming;
    if model != message::USM {
        return format!("    SNMPv3 message {msg_id} of security model {model}\n");
    }
    let engine = match engine {
        [] => "without an engine ID".to_owned(),
        engine => format!("of engine 0x{}", hexadecimal(engine, "")),
    };
    let level = incoming.level().map_or("privacy without authentication", Level::name);
    let user = printable(user);
    let mut out = format!(
        "    SNMPv3 message {msg_id} {engine}, boots {boots}, time {time}, user {user:?}, {level}\n"
    );
    let Some(Ok(scoped)) = incoming.plain() else { return out };
    let decode = |form| Trap::decode_pdu(form, &[], scoped.pdu).ok();
    if let Some(trap) = decode(Form::V3).or_else(|| decode(Form::V3Inform)) {
        out.push_str(&octets_view(&trap));
    }
    out
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
            tag::INTEGER if matches!(value.len(), 1..=4) => {
                format!("INTEGER {}", signed_low_32_bits(value).cast_signed())
            }
            tag::TIME_TICKS if matches!(value.len(), 1..=5) => {
                format!("TimeTicks {}", ticks(low_32_bits(value)))
            }
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
    let shown = hexadecimal(&octets[..octets.len().min(SHOWN)], " ");
    let more = octets.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{shown}{more}")
}

fn hexadecimal(octets: &[u8], between: &str) -> String {
    let octets: Vec<String> = octets.iter().map(|octet| format!("{octet:02x}")).collect();
    octets.join(between)
}

#[cfg(test)]
mod tests {
    use evenkeel_core::usm::message::{Outgoing, SessionKeys};

    use super::*;

    #[test]
    fn what_is_no_trap_is_shown_as_octets() {
        let text = describe(&[0x30, 0x05, 1]);
        assert!(text.contains("truncated") && text.contains("30 05 01"), "{text}");
    }

    #[test]
    fn of_snmpv3_that_is_shown_which_can_be_read_without_a_key() {
        let outgoing = Outgoing {
            msg_id: 7,
            max_size: 65_507,
            reportable: false,
            level: Level::NoAuthNoPriv,
            engine: b"\x80\x00\x1f\x88\x04keel",
            boots: 3,
            time: 4000,
            user: b"n\x07oc",
            context_engine: b"",
            context: b"",
            // A trap with sysUpTime.0 = 9 and snmpTrapOID.0 = linkDown.
            pdu: &[
                0xa7, 0x33, 2, 1, 1, 2, 1, 0, 2, 1, 0, 0x30, 0x28, 0x30, 0x0d, 6, 8, 0x2b, 6, 1, 2,
                1, 1, 3, 0, 0x43, 1, 9, 0x30, 0x17, 6, 10, 0x2b, 6, 1, 6, 3, 1, 1, 4, 1, 0, 6, 9,
                0x2b, 6, 1, 6, 3, 1, 1, 5, 3,
            ],
        };
        let mut message = message::seal(&outgoing, &SessionKeys::NONE, 0);
        let text = describe(&message);
        assert!(
            text.starts_with(
                "    SNMPv3 message 7 of engine 0x80001f88046b65656c, boots 3, time 4000, \
                 user \"n?oc\", noAuthNoPriv\n"
            ),
            "{text}"
        );
        let uptime = "1.3.6.1.2.1.1.3.0 = TimeTicks 9 (0 days 0:00:00.09)\n";
        assert!(text.contains(uptime), "{text}");
        // The flags: authentication.
        let flags = message.windows(3).position(|octets| octets == [4, 1, 0]).unwrap();
        message[flags + 2] = 1;
        let text = describe(&message);
        assert!(text.contains(", authNoPriv\n") && text.contains(uptime), "{text}");
        message.truncate(60);
        assert!(describe(&message).contains("not a trap"));
    }

    #[test]
    fn identifiers_are_written_in_their_usual_form() {
        assert_eq!(oid(&[0x2b, 6, 1, 0x87, 0x68]), "1.3.6.1.1000");
        assert_eq!(oid(&[]), "(empty)");
        assert_eq!(oid(&[0x2b, 0x87]), "1.3.?");
    }
}
