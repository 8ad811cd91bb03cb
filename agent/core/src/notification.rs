//! Builds what notifications say: the varbinds of an alarm and of the agent's own start (RFC 3416,
//! 4.2.6; TRAP-12).
//!
//! Every notification of an alarm has the same varbinds in the same order (see [`mib::FIELDS`]);
//! what does not apply is empty or zero. So an NMS that knows varbinds by their position reads
//! each kind alike.

use std::{net::IpAddr, time::Duration};

use ipnet::IpNet;

use crate::{
    alarm::{Alarm, AlarmEvent, Interface, Object},
    ber::tag,
    ber_writer::Writer,
    mib::{self, Field, Notification, RootOid},
    time::WallTime,
};

/// The most octets of a datagram that tells of an alarm: below 1,400 it goes through every tunnel
/// in use without fragments, and a receiver must take 1,472 (RFC 3417, 3.1 recommends it).
pub const MAX_DATAGRAM: usize = 1400;

/// The least octets that any form of message leaves in [`MAX_DATAGRAM`] for the varbinds: SNMPv3 with
/// the longest of every name and digest.
pub const LEAST_ROOM: usize = MAX_DATAGRAM - 275;

/// The most octets of a community. A longer one would leave no room for the text in
/// [`MAX_DATAGRAM`]; the configuration must refuse it.
pub const MAX_COMMUNITY: usize = 64;

const SYS_UP_TIME_0: [u32; 9] = [1, 3, 6, 1, 2, 1, 1, 3, 0];
const SNMP_TRAP_OID_0: [u32; 11] = [1, 3, 6, 1, 6, 3, 1, 1, 4, 1, 0];
const COLD_START: [u32; 10] = [1, 3, 6, 1, 6, 3, 1, 1, 5, 1];
const WARM_START: [u32; 10] = [1, 3, 6, 1, 6, 3, 1, 1, 5, 2];

/// How the agent itself started (SNMPv2-MIB, RFC 3418), which it tells as every SNMP entity does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// It may remember less than before, or be configured otherwise.
    Cold,
    /// It goes on where it was.
    Warm,
}

/// The agent that sends a notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sender<'a> {
    /// Its name.
    pub name: &'a str,
    /// It is one of a pair; as it sends, it is the primary (PAIR-1).
    pub of_pair: bool,
}

/// The agent's uptime as sysUpTime has it: hundredths of a second, from 0 again after 497 days.
pub fn uptime_ticks(uptime: Duration) -> u32 {
    // The low 32 bits are what TimeTicks are defined as: modulo 2^32 (RFC 2578, 7.1.8).
    (uptime.as_millis() / 10) as u32
}

/// The varbinds that tell of one raise or clear, encoded one after the other, sysUpTime.0 and
/// snmpTrapOID.0 first (RFC 3416, 4.2.6).
///
/// `uptime_ticks` is the agent's uptime in hundredths of a second, `seq` the number of the event
/// in the journal, `sender` the agent that sends it. Texts and names are cut where the MIB's sizes or `most` octets end, at the end of
/// a character.
pub fn alarm_varbinds(
    root: &RootOid,
    uptime_ticks: u32,
    seq: u64,
    sender: Sender<'_>,
    event: &AlarmEvent,
    most: usize,
) -> Vec<u8> {
    let notification = match event.cleared {
        None => Notification::Raised,
        Some(_) => Notification::Cleared,
    };
    let trap_oid = root.child(&[mib::NOTIFICATIONS, notification.id()]);
    let mut sizes = Sizes::MOST;
    loop {
        let list = varbinds(uptime_ticks, &trap_oid, |varbinds| {
            for object in &mib::FIELDS {
                varbind(varbinds, &root.child(&[mib::OBJECTS, object.id, 0]), |value| {
                    field(value, object.field, seq, sender, event, sizes);
                });
            }
        });
        let excess = list.len().saturating_sub(most);
        if excess == 0 || !sizes.shrink(excess, &event.alarm.text) {
            return list;
        }
    }
}

/// The most octets of each text in one notification. What machines read has a bound of its own and
/// never gives way.
#[derive(Clone, Copy)]
struct Sizes {
    text: usize,
    object: usize,
    name: usize,
}

impl Sizes {
    /// The sizes of the MIB.
    const MOST: Sizes = Sizes { text: mib::MAX_TEXT, object: mib::MAX_OBJECT, name: mib::MAX_NAME };

    /// Gives way by so many octets, or by some of them: first the text down to a line that still
    /// tells something, then what the objects for it tell too, then names. Nothing is left to give
    /// when this is false.
    fn shrink(&mut self, excess: usize, text: &str) -> bool {
        const TEXT: usize = 48;
        const OBJECT: usize = 48;
        const NAME: usize = 10;
        const LEAST: usize = 16;
        let length = clip(text, self.text).len();
        if length > TEXT {
            self.text = length.saturating_sub(excess).max(TEXT);
        } else if self.object > OBJECT {
            self.object = self.object.saturating_sub(excess).max(OBJECT);
        } else if self.name > NAME {
            // More than one name gives way, how many is not asked.
            self.name = self.name.saturating_sub(excess.min(8)).max(NAME);
        } else if length > LEAST {
            self.text = length.saturating_sub(excess).max(LEAST);
        } else if self.object > LEAST {
            self.object = self.object.saturating_sub(excess).max(LEAST);
        } else {
            return false;
        }
        true
    }
}

/// The varbinds of a coldStart or warmStart of this agent (TRAP-12).
pub fn start_varbinds(uptime_ticks: u32, start: Start) -> Vec<u8> {
    let trap_oid = match start {
        Start::Cold => &COLD_START,
        Start::Warm => &WARM_START,
    };
    varbinds(uptime_ticks, trap_oid, |_| ())
}

/// What an SNMPv2c message has around its varbinds and beside its community, at most.
pub(crate) const AROUND_V2C: usize = 29;

/// sysUpTime.0 and snmpTrapOID.0, and what follows.
fn varbinds(uptime_ticks: u32, trap_oid: &[u32], more: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut varbinds = Writer::new();
    varbind(&mut varbinds, &SYS_UP_TIME_0, |value| value.unsigned(tag::TIME_TICKS, uptime_ticks));
    varbind(&mut varbinds, &SNMP_TRAP_OID_0, |value| oid(value, trap_oid));
    more(&mut varbinds);
    varbinds.into_bytes()
}

fn varbind(varbinds: &mut Writer, name: &[u32], value: impl FnOnce(&mut Writer)) {
    varbinds.nested(tag::SEQUENCE, |varbind| {
        oid(varbind, name);
        value(varbind);
    });
}

fn oid(writer: &mut Writer, arcs: &[u32]) {
    writer.oid(arcs).expect("a root is an OID, and it and our own arcs are far below 128");
}

/// The value of one object.
fn field(
    value: &mut Writer,
    field: Field,
    seq: u64,
    sender: Sender<'_>,
    event: &AlarmEvent,
    sizes: Sizes,
) {
    let alarm = &event.alarm;
    let episode = alarm.episode.as_ref();
    let mut enumerated = |number: u8| value.integer(i64::from(number));
    match field {
        Field::Kind => enumerated(mib::kind_number(alarm.kind)),
        Field::Severity => enumerated(match event.cleared {
            None => mib::severity_number(alarm.severity),
            Some(_) => mib::SEVERITY_CLEARED,
        }),
        Field::State => enumerated(mib::state_number(event.cleared.is_some())),
        Field::ClearReason => enumerated(mib::clear_reason_number(event.cleared)),
        Field::AddressType => enumerated(address_type(remote(alarm))),
        Field::SubnetType => enumerated(address_type(subnet(alarm).map(|net| net.network()))),
        Field::AgentRole => {
            enumerated(if sender.of_pair { mib::ROLE_PRIMARY } else { mib::ROLE_ALONE });
        }

        Field::Id => value.octets(alarm.id.to_string().as_bytes()),
        Field::Text => text(value, &alarm.text, sizes.text),
        Field::Object => text(value, &alarm.about(), sizes.object),
        Field::IfName => text(value, alarm.if_name.as_deref().unwrap_or(""), sizes.name),
        Field::LocalInterface => text(value, local_interface(alarm), sizes.name),
        // What is local to the mate's host, the mate has found.
        Field::AgentName => {
            text(value, alarm.agent.as_deref().unwrap_or(sender.name), sizes.name);
        }
        Field::NotificationTarget => text(value, notification_target(alarm), sizes.name),
        Field::OtherIfName => {
            text(value, alarm.other_if_name.as_deref().unwrap_or(""), sizes.name);
        }
        Field::MateName => {
            text(value, alarm.mate.as_ref().map_or("", |mate| &mate.name), sizes.name);
        }
        Field::PeerGroup => text(value, alarm.peer_group.as_deref().unwrap_or(""), sizes.name),
        Field::Component => text(value, component(&alarm.object), sizes.name),
        Field::OtherAddressType => enumerated(address_type(other_end(alarm).map(address_of))),
        Field::OtherAddress => address(value, other_end(alarm).map(address_of)),
        Field::OtherIfIndex => value.integer(if_index(other_end(alarm))),

        Field::RaisedAt => value.octets(&date_and_time(alarm.raised_at)),
        Field::EventAt => value.octets(&date_and_time(event.wall)),

        Field::Address => address(value, remote(alarm)),
        Field::Subnet => address(value, subnet(alarm).map(|net| net.network())),
        Field::SubnetPrefixLength => {
            let length = subnet(alarm).map_or(0, |net| net.prefix_len());
            value.unsigned(tag::GAUGE32, u32::from(length));
        }
        Field::IfIndex => value.integer(if_index(interface(&alarm.object))),

        Field::TrapCount => {
            let traps = episode.map_or(0, |episode| episode.traps);
            value.unsigned(tag::GAUGE32, u32::try_from(traps).unwrap_or(u32::MAX));
        }
        Field::Threshold => {
            value.unsigned(tag::GAUGE32, episode.map_or(0, |episode| episode.threshold.into()));
        }
        Field::TrapWindow => millis(value, episode.map(|episode| episode.window)),
        Field::UnstableTime => millis(value, episode.map(|episode| episode.unstable_time)),
        Field::StableTime => millis(value, episode.map(|episode| episode.stable_time)),
        Field::SuppressedCount => {
            let suppressed = episode.map_or(0, |episode| episode.suppressed);
            value.unsigned(tag::GAUGE32, u32::try_from(suppressed).unwrap_or(u32::MAX));
        }
        // The low 32 bits, as the MIB says.
        Field::Sequence => value.unsigned(tag::GAUGE32, seq as u32),
        Field::Term => value.unsigned(tag::GAUGE32, mib::term_number(event.term)),
    }
}

fn remote(alarm: &Alarm) -> Option<IpAddr> {
    match &alarm.object {
        Object::System(system) => Some(system.0),
        Object::Peer(address) => Some(*address),
        Object::Interface { .. }
        | Object::Link(_)
        | Object::LocalInterface { .. }
        | Object::OwnInterface(_)
        | Object::Subnet(_)
        | Object::PeerMonitor
        | Object::NotificationTarget(_)
        | Object::Agent
        | Object::Mate
        | Object::MatePath(_)
        | Object::Pair
        | Object::Component(_) => {
            let mate = alarm.mate.as_ref().filter(|_| alarm.object != Object::Pair);
            interface(&alarm.object).map(address_of).or(mate.map(|mate| mate.address))
        }
    }
}

/// The interface of a device, or the first of the two that a link joins.
fn interface(object: &Object) -> Option<Interface> {
    match object {
        Object::Interface { system, if_index } => {
            Some(Interface { system: *system, if_index: *if_index })
        }
        Object::Link(link) => Some(link.ends()[0]),
        Object::System(_)
        | Object::LocalInterface { .. }
        | Object::OwnInterface(_)
        | Object::Subnet(_)
        | Object::Peer(_)
        | Object::PeerMonitor
        | Object::NotificationTarget(_)
        | Object::Agent
        | Object::Mate
        | Object::MatePath(_)
        | Object::Pair
        | Object::Component(_) => None,
    }
}

/// The second of the two interfaces that a link joins.
fn other_end(alarm: &Alarm) -> Option<Interface> {
    match alarm.object {
        Object::Link(link) => Some(link.ends()[1]),
        Object::System(_)
        | Object::Interface { .. }
        | Object::LocalInterface { .. }
        | Object::OwnInterface(_)
        | Object::Subnet(_)
        | Object::Peer(_)
        | Object::PeerMonitor
        | Object::NotificationTarget(_)
        | Object::Agent
        | Object::Mate
        | Object::MatePath(_)
        | Object::Pair
        | Object::Component(_) => None,
    }
}

const fn address_of(interface: Interface) -> IpAddr {
    interface.system.0
}

/// InterfaceIndexOrZero is an Integer32, of which a negative one is none.
fn if_index(interface: Option<Interface>) -> i64 {
    let number = interface.map_or(0, |interface| interface.if_index);
    i64::from(i32::try_from(number).unwrap_or(i32::MAX))
}

fn subnet(alarm: &Alarm) -> Option<&IpNet> {
    match &alarm.object {
        Object::LocalInterface { subnet, .. } | Object::Subnet(subnet) => Some(subnet),
        Object::OwnInterface(_)
        | Object::System(_)
        | Object::Interface { .. }
        | Object::Link(_)
        | Object::Peer(_)
        | Object::PeerMonitor
        | Object::NotificationTarget(_)
        | Object::Agent
        | Object::Mate
        | Object::MatePath(_)
        | Object::Pair
        | Object::Component(_) => None,
    }
}

/// The part of the agent that an alarm is about.
fn component(object: &Object) -> &str {
    match object {
        Object::PeerMonitor => "peer monitor",
        Object::Component(part) => part,
        Object::System(_)
        | Object::Interface { .. }
        | Object::Link(_)
        | Object::LocalInterface { .. }
        | Object::OwnInterface(_)
        | Object::Subnet(_)
        | Object::Peer(_)
        | Object::NotificationTarget(_)
        | Object::Agent
        | Object::Mate
        | Object::MatePath(_)
        | Object::Pair => "",
    }
}

fn local_interface(alarm: &Alarm) -> &str {
    match &alarm.object {
        Object::LocalInterface { interface, .. }
        | Object::OwnInterface(interface)
        | Object::MatePath(interface) => interface,
        Object::System(_)
        | Object::Interface { .. }
        | Object::Link(_)
        | Object::Subnet(_)
        | Object::Peer(_)
        | Object::PeerMonitor
        | Object::NotificationTarget(_)
        | Object::Agent
        | Object::Mate
        | Object::Pair
        | Object::Component(_) => "",
    }
}

fn notification_target(alarm: &Alarm) -> &str {
    match &alarm.object {
        Object::NotificationTarget(name) => name,
        Object::System(_)
        | Object::Interface { .. }
        | Object::Link(_)
        | Object::LocalInterface { .. }
        | Object::OwnInterface(_)
        | Object::Subnet(_)
        | Object::Peer(_)
        | Object::PeerMonitor
        | Object::Agent
        | Object::Mate
        | Object::MatePath(_)
        | Object::Pair
        | Object::Component(_) => "",
    }
}

/// InetAddressType: unknown(0), which goes with an empty address, ipv4(1) or ipv6(2) (RFC 4001).
fn address_type(address: Option<IpAddr>) -> u8 {
    match address {
        None => 0,
        Some(IpAddr::V4(_)) => 1,
        Some(IpAddr::V6(_)) => 2,
    }
}

fn address(value: &mut Writer, address: Option<IpAddr>) {
    match address {
        None => value.octets(&[]),
        Some(IpAddr::V4(address)) => value.octets(&address.octets()),
        Some(IpAddr::V6(address)) => value.octets(&address.octets()),
    }
}

/// Milliseconds, rounded down, the most that fits standing for more.
fn millis(value: &mut Writer, duration: Option<Duration>) {
    let millis = duration.unwrap_or_default().as_millis();
    value.unsigned(tag::GAUGE32, u32::try_from(millis).unwrap_or(u32::MAX));
}

fn text(value: &mut Writer, text: &str, most: usize) {
    value.octets(clip(text, most).as_bytes());
}

/// As much of a text as fits into so many octets, without half a character at the end.
fn clip(text: &str, most: usize) -> &str {
    let mut end = most.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// DateAndTime in its form of 11 octets, in UTC (RFC 2579).
fn date_and_time(wall: WallTime) -> [u8; 11] {
    // Years 1970 to 65535; a clock outside of them is not set at all.
    const LAST: i64 = 2_005_949_145_599_999;
    let millis = wall.0.clamp(0, LAST);
    let (days, of_day) = (millis / 86_400_000, millis % 86_400_000);
    let (year, month, day) = civil(days);
    let year = u16::try_from(year).unwrap_or(u16::MAX).to_be_bytes();
    let seconds = of_day / 1000;
    // Each of these is below 256 by the divisions.
    [
        year[0],
        year[1],
        month as u8,
        day as u8,
        (seconds / 3600) as u8,
        (seconds / 60 % 60) as u8,
        (seconds % 60) as u8,
        (of_day % 1000 / 100) as u8,
        b'+',
        0,
        0,
    ]
}

/// Year, month and day of a day number since 1970-01-01, in the Gregorian calendar. The year is
/// reckoned from March, so that a leap day is its last, and in eras of 400 years, which all have
/// 146,097 days.
fn civil(days: i64) -> (i64, i64, i64) {
    let since_march_0000 = days + 719_468;
    let (era, day_of_era) = (since_march_0000 / 146_097, since_march_0000 % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use snmp_parser::{
        ObjectSyntax, PduType, SnmpGenericMessage, SnmpMessage, SnmpPdu, asn1_rs::FromBer,
    };

    use super::*;
    use crate::{
        alarm::{AlarmId, ClearReason, Episode, Kind, Link, Mate, System},
        message,
        pair::term::{Slot, Term},
        time::Time,
    };

    const fn alone(name: &str) -> Sender<'_> {
        Sender { name, of_pair: false }
    }

    /// The SNMPv2c datagram that tells of one raise or clear, of at most [`MAX_DATAGRAM`] octets as long
    /// as the community has at most [`MAX_COMMUNITY`].
    fn encode_v2c(
        root: &RootOid,
        community: &[u8],
        request_id: i32,
        uptime_ticks: u32,
        seq: u64,
        agent_name: &str,
        event: &AlarmEvent,
    ) -> Vec<u8> {
        let most = MAX_DATAGRAM.saturating_sub(AROUND_V2C + community.len());
        message(
            community,
            request_id,
            &alarm_varbinds(root, uptime_ticks, seq, alone(agent_name), event, most),
        )
    }

    /// The SNMPv2c datagram of a coldStart or warmStart of this agent.
    fn encode_start_v2c(
        community: &[u8],
        request_id: i32,
        uptime_ticks: u32,
        start: Start,
    ) -> Vec<u8> {
        message(community, request_id, &start_varbinds(uptime_ticks, start))
    }

    fn message(community: &[u8], request_id: i32, varbinds: &[u8]) -> Vec<u8> {
        let pdu = message::pdu(tag::TRAP_V2, request_id, varbinds);
        message::community_message(message::version::V2C, community, &pdu)
    }

    fn raised(object: Object, kind: Kind, text: &str) -> AlarmEvent {
        AlarmEvent {
            at: Time::from_secs(20),
            wall: WallTime(1_795_313_843_700),
            cleared: None,
            alarm: Alarm {
                id: AlarmId(0x12_3456),
                kind,
                object,
                severity: kind.severity(),
                raised_at: WallTime(1_795_313_823_700),
                text: text.to_owned(),
                episode: None,
                if_name: None,
                other_if_name: None,
                peer_group: None,
                agent: None,
                mate: None,
            },
            term: None,
        }
    }

    fn unstable_interface() -> AlarmEvent {
        let object = Object::Interface { system: System([192, 0, 2, 1].into()), if_index: 3 };
        let mut event = raised(object, Kind::InterfaceUnstable, "eth3 of 192.0.2.1 is unstable");
        event.alarm.if_name = Some("eth3".to_owned());
        event.alarm.episode = Some(Episode {
            traps: 4,
            window: Duration::from_secs(30),
            threshold: 2,
            unstable_time: Duration::from_millis(20_250),
            stable_time: Duration::from_secs(60),
            suppressed: 0,
        });
        event
    }

    fn encoded(event: &AlarmEvent) -> Vec<u8> {
        encode_v2c(&RootOid::default(), b"public", 9, 4_000_000_000, 7, "agent-a", event)
    }

    fn parsed(bytes: &[u8]) -> SnmpMessage<'_> {
        match SnmpGenericMessage::from_ber(bytes) {
            Ok(([], SnmpGenericMessage::V2(message))) => message,
            other => panic!("{other:?}"),
        }
    }

    /// The OIDs and values of a message, as text: numbers in digits, strings as they are, octets
    /// that are none in hexadecimal digits.
    fn varbinds(message: &SnmpMessage<'_>) -> Vec<(String, String)> {
        let SnmpPdu::Generic(pdu) = &message.pdu else { panic!() };
        assert_eq!(pdu.pdu_type, PduType::TrapV2);
        pdu.var
            .iter()
            .map(|varbind| {
                let value = match &varbind.val {
                    snmp_parser::VarBindValue::Value(value) => match value {
                        ObjectSyntax::Number(number) => number.to_string(),
                        ObjectSyntax::Gauge32(number) => number.to_string(),
                        ObjectSyntax::TimeTicks(ticks) => ticks.to_string(),
                        ObjectSyntax::Object(oid) => oid.to_string(),
                        ObjectSyntax::String(octets) => match std::str::from_utf8(octets) {
                            Ok(text) if !text.contains(char::is_control) => text.to_owned(),
                            _ => octets.iter().map(|octet| format!("{octet:02x}")).collect(),
                        },
                        // The parser's word for an OCTET STRING of no octets.
                        ObjectSyntax::Empty => String::new(),
                        other => panic!("{other:?}"),
                    },
                    other => panic!("{other:?}"),
                };
                (varbind.oid.to_string(), value)
            })
            .collect()
    }

    /// The values of an alarm's objects, by their names without "evenkeel".
    fn values(event: &AlarmEvent) -> Vec<(&'static str, String)> {
        let bytes = encoded(event);
        let varbinds = varbinds(&parsed(&bytes));
        mib::FIELDS
            .iter()
            .zip(&varbinds[2..])
            .map(|(object, (_, value))| (&object.name["evenkeel".len()..], value.clone()))
            .collect()
    }

    #[test]
    fn the_octets_of_a_cold_start() {
        let bytes = encode_start_v2c(b"public", 1, 100, Start::Cold);
        #[rustfmt::skip]
        let by_hand = [
            0x30, 0x40,
                0x02, 1, 1,                                            // SNMPv2c
                0x04, 6, b'p', b'u', b'b', b'l', b'i', b'c',
                0xa7, 0x33,
                    0x02, 1, 1,                                        // request-id
                    0x02, 1, 0,                                        // error-status
                    0x02, 1, 0,                                        // error-index
                    0x30, 0x28,
                        0x30, 0x0d,
                            0x06, 8, 0x2b, 6, 1, 2, 1, 1, 3, 0,        // sysUpTime.0
                            0x43, 1, 100,
                        0x30, 0x17,
                            0x06, 10, 0x2b, 6, 1, 6, 3, 1, 1, 4, 1, 0, // snmpTrapOID.0
                            0x06, 9, 0x2b, 6, 1, 6, 3, 1, 1, 5, 1,     // coldStart
        ];
        assert_eq!(bytes, by_hand);
        let warm = encode_start_v2c(b"public", 1, 100, Start::Warm);
        assert_eq!(warm.last(), Some(&2));
        assert_eq!(warm[..warm.len() - 1], by_hand[..by_hand.len() - 1]);
    }

    #[test]
    fn trap_12_a_raise_carries_everything_in_the_order_of_the_mib() {
        let event = unstable_interface();
        let bytes = encoded(&event);
        let message = parsed(&bytes);
        assert_eq!(message.community, "public");
        let varbinds = varbinds(&message);
        let root = "1.3.6.1.4.1.8072.9999.9999.1904";
        assert_eq!(varbinds[0], ("1.3.6.1.2.1.1.3.0".to_owned(), "4000000000".to_owned()));
        assert_eq!(varbinds[1], ("1.3.6.1.6.3.1.1.4.1.0".to_owned(), format!("{root}.0.1")));
        assert_eq!(varbinds.len(), 37);
        for ((name, _), object) in varbinds[2..].iter().zip(mib::FIELDS) {
            assert_eq!(*name, format!("{root}.1.{}.0", object.id));
        }
        assert_eq!(
            values(&event),
            [
                ("AlarmId", "0000000000123456"),
                ("AlarmKind", "2"),
                ("AlarmSeverity", "4"),
                ("AlarmState", "1"),
                ("AlarmClearReason", "1"),
                ("AlarmText", "eth3 of 192.0.2.1 is unstable"),
                ("AlarmObject", "192.0.2.1 ifIndex 3"),
                ("AlarmRaisedAt", "07ea0b16021103072b0000"),
                ("AlarmEventAt", "07ea0b16021117072b0000"),
                ("AddressType", "1"),
                ("Address", "c0000201"),
                ("IfIndex", "3"),
                ("IfName", "eth3"),
                ("SubnetType", "0"),
                ("Subnet", ""),
                ("SubnetPrefixLength", "0"),
                ("LocalInterface", ""),
                ("TrapCount", "4"),
                ("TrapWindow", "30000"),
                ("Threshold", "2"),
                ("UnstableTime", "20250"),
                ("StableTime", "60000"),
                ("SuppressedCount", "0"),
                ("AgentName", "agent-a"),
                ("AgentRole", "1"),
                ("Sequence", "7"),
                ("NotificationTarget", ""),
                ("Component", ""),
                ("OtherAddressType", "0"),
                ("OtherAddress", ""),
                ("OtherIfIndex", "0"),
                ("OtherIfName", ""),
                ("PeerGroup", ""),
                ("MateName", ""),
                ("Term", "0"),
            ]
            .map(|(name, value)| (name, value.to_owned()))
        );
    }

    #[test]
    fn trap_12_a_clear_says_cleared_three_times_and_why_once() {
        let mut event = unstable_interface();
        event.cleared = Some(ClearReason::Superseded);
        let bytes = encoded(&event);
        assert_eq!(varbinds(&parsed(&bytes))[1].1, "1.3.6.1.4.1.8072.9999.9999.1904.0.2");
        let values = values(&event);
        assert_eq!(values[0].1, "0000000000123456");
        assert_eq!(values[2], ("AlarmSeverity", "1".to_owned()));
        assert_eq!(values[3], ("AlarmState", "2".to_owned()));
        assert_eq!(values[4], ("AlarmClearReason", "3".to_owned()));
    }

    #[test]
    fn what_an_alarm_is_about_is_told_in_the_objects_for_it() {
        let system = System("2001:db8::1".parse().unwrap());
        let v4: IpNet = "198.51.100.0/24".parse().unwrap();
        let v6: IpNet = "2001:db8:7::/48".parse().unwrap();
        let local = Object::LocalInterface { interface: "eth0".to_owned(), subnet: v4 };
        // AddressType, Address, IfIndex, SubnetType, Subnet, SubnetPrefixLength, LocalInterface
        for (object, kind, expected) in [
            (
                Object::System(system),
                Kind::SystemUnstable,
                ["2", "20010db8000000000000000000000001", "0", "0", "", "0", ""],
            ),
            (local, Kind::InterfaceIpDown, ["0", "", "0", "1", "c6336400", "24", "eth0"]),
            (
                Object::OwnInterface("eth0".to_owned()),
                Kind::InterfaceDown,
                ["0", "", "0", "0", "", "0", "eth0"],
            ),
            (
                Object::Subnet(v6),
                Kind::SubnetDown,
                ["0", "", "0", "2", "20010db8000700000000000000000000", "48", ""],
            ),
        ] {
            let values = values(&raised(object, kind, "down"));
            let told = [9, 10, 11, 13, 14, 15, 16].map(|place| values[place].1.as_str());
            assert_eq!(told, expected);
        }
    }

    #[test]
    fn trap_12_inst_14_the_two_ends_of_a_link_are_told_in_the_objects_for_them() {
        let end = |system: &str, if_index| {
            let system = System(system.parse().unwrap());
            Interface { system, if_index }
        };
        let link = Link::new(end("2001:db8::7", 4_000_000_000), end("192.0.2.1", 3)).unwrap();
        let mut event = raised(Object::Link(link), Kind::LinkUnstable, "text");
        event.alarm.if_name = Some("eth3".to_owned());
        event.alarm.other_if_name = Some("Gi0/7".to_owned());
        let values = values(&event);
        for (name, expected) in [
            ("AlarmKind", "4"),
            ("AlarmSeverity", "4"),
            ("AlarmObject", "192.0.2.1 ifIndex 3 - 2001:db8::7 ifIndex 4000000000"),
            ("AddressType", "1"),
            ("Address", "c0000201"),
            ("IfIndex", "3"),
            ("IfName", "eth3"),
            ("OtherAddressType", "2"),
            ("OtherAddress", "20010db8000000000000000000000007"),
            // An Integer32 holds no more.
            ("OtherIfIndex", "2147483647"),
            ("OtherIfName", "Gi0/7"),
        ] {
            let told = values.iter().find(|value| value.0 == name).unwrap();
            assert_eq!(told.1, expected, "{name}");
        }
    }

    #[test]
    fn trap_12_peer_2_peer_9_peer_15_alarms_of_peers_are_told_in_the_objects_for_them() {
        let v4 = Object::Peer([192, 0, 2, 7].into());
        let v6 = Object::Peer("2001:db8::7".parse().unwrap());
        // AlarmKind, AlarmSeverity, AlarmObject, AddressType, Address, IfIndex, Subnet, AgentName,
        // Component, PeerGroup
        for (object, kind, group, expected) in [
            (
                v4.clone(),
                Kind::PeerDown,
                Some("core"),
                ["7", "4", "192.0.2.7", "1", "c0000207", "0", "", "agent-a", "", "core"],
            ),
            (
                v6,
                Kind::PeerDown,
                Some("edge"),
                [
                    "7",
                    "4",
                    "2001:db8::7",
                    "2",
                    "20010db8000000000000000000000007",
                    "0",
                    "",
                    "agent-a",
                    "",
                    "edge",
                ],
            ),
            (
                v4,
                Kind::PeerRestarted,
                Some("core"),
                ["8", "6", "192.0.2.7", "1", "c0000207", "0", "", "agent-a", "", "core"],
            ),
            (
                Object::PeerMonitor,
                Kind::MassSilence,
                None,
                ["9", "3", "the peer monitor", "0", "", "0", "", "agent-a", "peer monitor", ""],
            ),
        ] {
            let mut event = raised(object, kind, "text");
            event.alarm.peer_group = group.map(str::to_owned);
            let values = values(&event);
            let names = [
                "AlarmKind",
                "AlarmSeverity",
                "AlarmObject",
                "AddressType",
                "Address",
                "IfIndex",
                "Subnet",
                "AgentName",
                "Component",
                "PeerGroup",
            ];
            let told = names.map(|name| {
                values.iter().find(|value| value.0 == name).map_or("?", |value| value.1.as_str())
            });
            assert_eq!(told, expected, "{kind}");
        }
    }

    #[test]
    fn trap_12_pair_2_what_a_pair_tells_names_both_agents_and_the_term() {
        let mate = Some(Mate { name: "agent-b".to_owned(), address: [192, 0, 2, 2].into() });
        let part = Object::Component("trap intake".to_owned());
        // AlarmKind, AlarmSeverity, AlarmObject, Address, LocalInterface, AgentName, AgentRole,
        // Component, MateName, Term
        for (object, kind, mate, expected) in [
            (
                Object::Mate,
                Kind::MateSyncLost,
                mate.clone(),
                ["10", "3", "the mate of c", "c0000202", "", "c", "2", "", "agent-b", "11"],
            ),
            (
                Object::MatePath("eth1".to_owned()),
                Kind::MatePathLost,
                mate.clone(),
                [
                    "11",
                    "3",
                    "the mate of c by eth1",
                    "c0000202",
                    "eth1",
                    "c",
                    "2",
                    "",
                    "agent-b",
                    "11",
                ],
            ),
            (
                Object::Pair,
                Kind::StandbyUnavailable,
                mate.clone(),
                ["12", "4", "the pair of c", "", "", "c", "2", "", "agent-b", "11"],
            ),
            (
                Object::Pair,
                Kind::FailoverLimitReached,
                mate,
                ["13", "3", "the pair of c", "", "", "c", "2", "", "agent-b", "11"],
            ),
            (
                part,
                Kind::ComponentStalled,
                None,
                ["14", "3", "trap intake of c", "", "", "c", "2", "trap intake", "", "11"],
            ),
        ] {
            let mut event = raised(object, kind, "text");
            event.alarm.agent = Some("c".to_owned());
            event.alarm.mate = mate;
            event.term = Some(Term { number: 5, by: Slot::One });
            let sender = Sender { name: "agent-a", of_pair: true };
            let list = alarm_varbinds(&RootOid::default(), 1, 7, sender, &event, 9999);
            let bytes = message(b"c", 1, &list);
            let varbinds = varbinds(&parsed(&bytes));
            let told = [
                "AlarmKind",
                "AlarmSeverity",
                "AlarmObject",
                "Address",
                "LocalInterface",
                "AgentName",
                "AgentRole",
                "Component",
                "MateName",
                "Term",
            ]
            .map(|name| {
                let same = |object: &mib::Object| object.name["evenkeel".len()..] == *name;
                let place = mib::FIELDS.iter().position(same).unwrap();
                varbinds[2 + place].1.as_str()
            });
            assert_eq!(told, expected, "{kind}");
        }
    }

    #[test]
    fn dates() {
        for (millis, octets) in [
            (0, [0x07, 0xb2, 1, 1, 0, 0, 0, 0]),
            (i64::MIN, [0x07, 0xb2, 1, 1, 0, 0, 0, 0]),
            (951_782_400_000, [0x07, 0xd0, 2, 29, 0, 0, 0, 0]),
            (951_868_800_000, [0x07, 0xd0, 3, 1, 0, 0, 0, 0]),
            (1_795_313_823_799, [0x07, 0xea, 11, 22, 2, 17, 3, 7]),
            (253_402_300_799_999, [0x27, 0x0f, 12, 31, 23, 59, 59, 9]),
            (i64::MAX, [0xff, 0xff, 12, 31, 23, 59, 59, 9]),
        ] {
            let date = date_and_time(WallTime(millis));
            assert_eq!(date[..8], octets, "{millis}");
            assert_eq!(date[8..], [b'+', 0, 0]);
        }
    }

    #[test]
    fn uptime_wraps_after_497_days() {
        assert_eq!(uptime_ticks(Duration::from_millis(12_349)), 1234);
        assert_eq!(uptime_ticks(Duration::from_millis(42_949_672_959)), u32::MAX);
        assert_eq!(uptime_ticks(Duration::from_millis(42_949_672_960)), 0);
    }

    #[test]
    fn numbers_too_large_for_the_mib_stand_for_more() {
        let mut event = unstable_interface();
        event.alarm.episode = Some(Episode {
            traps: u64::MAX,
            window: Duration::MAX,
            threshold: u16::MAX,
            unstable_time: Duration::MAX,
            stable_time: Duration::MAX,
            suppressed: 0,
        });
        let values = values(&event);
        for place in [17, 18, 20, 21] {
            assert_eq!(values[place].1, "4294967295");
        }
    }

    /// The longest of everything that has no bound of its own.
    fn longest(object: Object, text: String, most: usize) -> Vec<u8> {
        let root: RootOid = "1.3.6.1.4.1.4294967295.4294967295.1".parse().unwrap();
        let long = "ä".repeat(500);
        let mut event = raised(object, Kind::InterfaceUnstable, &text);
        event.alarm.if_name = Some(long.clone());
        event.alarm.other_if_name = Some(long.clone());
        event.alarm.peer_group = Some(long.clone());
        event.alarm.agent = Some(long.clone());
        let of_pair = matches!(event.alarm.object, Object::Mate | Object::MatePath(_));
        event.alarm.mate = of_pair.then(|| Mate { name: long.clone(), address: [255; 16].into() });
        event.term = Some(Term { number: u64::MAX, by: Slot::One });
        event.alarm.episode = Some(Episode {
            traps: u64::MAX,
            window: Duration::MAX,
            threshold: u16::MAX,
            unstable_time: Duration::MAX,
            stable_time: Duration::MAX,
            suppressed: u64::MAX,
        });
        event.cleared = Some(ClearReason::Ended);
        alarm_varbinds(&root, u32::MAX, u64::MAX, alone(&long), &event, most)
    }

    #[test]
    fn the_longest_notification_fits_and_still_has_a_text() {
        let subnet = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe/127".parse().unwrap();
        let system = System("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".parse().unwrap());
        let end = |if_index| Interface { system, if_index };
        let long = "ä".repeat(500);
        for object in [
            Object::System(system),
            Object::Interface { system, if_index: 0x7fff_ffff },
            Object::Link(Link::new(end(0x7fff_fffe), end(0x7fff_ffff)).unwrap()),
            Object::LocalInterface { interface: long.clone(), subnet },
            Object::Subnet(subnet),
            Object::Peer(system.0),
            Object::PeerMonitor,
            Object::NotificationTarget(long),
            Object::Agent,
            Object::Mate,
            Object::MatePath("ä".repeat(500)),
            Object::Component("ä".repeat(500)),
        ] {
            for most in [LEAST_ROOM, MAX_DATAGRAM - AROUND_V2C - MAX_COMMUNITY] {
                let list = longest(object.clone(), "ä".repeat(500), most);
                assert!(list.len() <= most, "{object:?} in {most}: {}", list.len());
                // Half a character in each of six texts, and lengths that take an octet less.
                assert!(list.len() >= most - 40, "{object:?} in {most}: only {}", list.len());
                let bytes = message(b"c", 1, &list);
                let parsed = parsed(&bytes);
                let text = &varbinds(&parsed)[7].1;
                assert!(text.chars().count() >= 8, "{} characters are left", text.chars().count());
                assert!(text.chars().all(|letter| letter == 'ä'), "cut within a character");
            }
        }
    }

    #[test]
    fn an_ordinary_notification_is_not_cut_even_with_the_largest_header() {
        let mut event = unstable_interface();
        event.alarm.text = "x".repeat(120);
        let list = alarm_varbinds(&RootOid::default(), 1, 7, alone("agent-a"), &event, LEAST_ROOM);
        assert_eq!(list, alarm_varbinds(&RootOid::default(), 1, 7, alone("agent-a"), &event, 9999));
    }

    proptest! {
        #[test]
        fn whatever_happened_is_read_as_it_was_written(
            id: u64, seq: u64, ticks: u32, request_id in 0..=i32::MAX, wall: i64,
            if_index in 1..=i32::MAX, text in ".{0,300}", agent in "\\PC{0,80}",
            address: std::net::Ipv6Addr, traps: u64, millis: u32, clear: bool,
        ) {
            let system = System(address.into());
            let if_index = u32::try_from(if_index).unwrap();
            let mut event =
                raised(Object::Interface { system, if_index }, Kind::InterfaceDown, &text);
            event.alarm.id = AlarmId(id);
            event.wall = WallTime(wall);
            event.cleared = clear.then_some(ClearReason::Ended);
            event.alarm.episode = Some(Episode {
                traps,
                window: Duration::from_millis(millis.into()),
                threshold: 3,
                unstable_time: Duration::ZERO,
                stable_time: Duration::ZERO,
                suppressed: 0,
            });
            let root = RootOid::default();
            let bytes = encode_v2c(&root, b"c", request_id, ticks, seq, &agent, &event);
            prop_assert!(bytes.len() <= MAX_DATAGRAM);
            let message = parsed(&bytes);
            let SnmpPdu::Generic(pdu) = &message.pdu else { panic!() };
            prop_assert_eq!(i64::from(pdu.req_id), i64::from(request_id));
            let octets = |place: usize| match &pdu.var[place + 2].val {
                snmp_parser::VarBindValue::Value(ObjectSyntax::String(octets)) => octets.to_vec(),
                snmp_parser::VarBindValue::Value(ObjectSyntax::Empty) => Vec::new(),
                other => panic!("{other:?}"),
            };
            let varbinds = varbinds(&message);
            prop_assert_eq!(&varbinds[0].1, &ticks.to_string());
            prop_assert_eq!(octets(0), format!("{id:016x}").into_bytes());
            prop_assert_eq!(octets(5), clip(&text, 255).as_bytes());
            prop_assert_eq!(octets(10), address.octets());
            prop_assert_eq!(&varbinds[13].1, &if_index.to_string());
            prop_assert_eq!(&varbinds[19].1, &traps.min(u32::MAX.into()).to_string());
            prop_assert_eq!(&varbinds[20].1, &millis.to_string());
            prop_assert_eq!(octets(23), clip(&agent, 64).as_bytes());
            prop_assert_eq!(&varbinds[27].1, &(seq as u32).to_string());
        }
    }
}
