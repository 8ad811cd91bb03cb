//! The agent's MIB module as the code knows it: the root, and the name, number and type of every
//! object and notification (TRAP-12).
//!
//! The text is `mibs/EVENKEEL-MIB.txt`, which is part of the binary. A test here holds the two
//! together, so that neither can say what the other doesn't.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    alarm::{ClearReason, Kind, Severity},
    ber_writer::oid_value,
    pair::term::{Slot, Term},
};

/// The MIB module with its default root.
const TEXT: &str = include_str!("../../../mibs/EVENKEEL-MIB.txt");

/// The MIB module, with `root` in place of the default root.
pub fn with_root(root: &RootOid) -> String {
    let (last, above) = root.below_enterprises().split_last().expect("a root has arcs");
    let mut text = String::with_capacity(TEXT.len() + 256);
    let mut lines = TEXT.lines();
    while let Some(line) = lines.next() {
        if line.starts_with(MODULE_VALUE) {
            text += &format!("{MODULE_VALUE}{last} }}\n");
        } else if line.starts_with(ROOT_MARK) {
            text += &root_lines(root, above);
            // The lines of the default root, up to and with the mark at their end.
            lines.by_ref().find(|line| *line == ROOT_END);
        } else {
            text += line;
            text.push('\n');
        }
    }
    text
}

const MODULE_VALUE: &str = "    ::= { evenkeelRoot ";
const ROOT_MARK: &str = "-- root: ";
const ROOT_END: &str = "-- end of the root";

/// One definition for each arc: smilint warns of nodes that are defined only on the way to
/// another.
fn root_lines(root: &RootOid, above: &[u32]) -> String {
    let mut text = format!("{ROOT_MARK}{root}\n");
    let mut parent = "enterprises".to_owned();
    for (place, arc) in above.iter().enumerate() {
        let name = match place + 1 {
            last if last == above.len() => "evenkeelRoot".to_owned(),
            other => format!("evenkeelArc{other}"),
        };
        text += &format!("{name:<21} OBJECT IDENTIFIER ::= {{ {parent} {arc} }}\n");
        parent = name;
    }
    text + ROOT_END + "\n"
}

/// The OID that everything in the module hangs on: 1.3.6.1.4.1, an enterprise number and at least
/// one arc of that enterprise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct RootOid(Vec<u32>);

impl RootOid {
    /// iso.org.dod.internet.private.enterprises.
    const ENTERPRISES: [u32; 6] = [1, 3, 6, 1, 4, 1];

    /// A root is in every varbind of a notification. With 16 octets, 34 objects, the longest values
    /// and the largest header of SNMPv3, a notification still has its 1400 octets with 16 or more for
    /// each text; an arc of an enterprise takes 8 to 12 and so leaves room.
    const MAX_OCTETS: usize = 16;

    /// The sub-identifiers.
    pub fn arcs(&self) -> &[u32] {
        &self.0
    }

    /// The OID of a node below the root.
    pub fn child(&self, arcs: &[u32]) -> Vec<u32> {
        [&self.0, arcs].concat()
    }

    /// Whether this is the shipped root, which belongs to nobody: worth a warning at start.
    pub fn is_default(&self) -> bool {
        *self == RootOid::default()
    }

    fn below_enterprises(&self) -> &[u32] {
        &self.0[RootOid::ENTERPRISES.len()..]
    }
}

impl Default for RootOid {
    /// Arc 1904 of netSnmpPlaypen, as no enterprise number is registered for evenkeel. 32473 is
    /// for documents only (RFC 5612), and a UUID does not fit into a sub-identifier.
    fn default() -> RootOid {
        RootOid(vec![1, 3, 6, 1, 4, 1, 8072, 9999, 9999, 1904])
    }
}

impl fmt::Display for RootOid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, arc) in self.0.iter().enumerate() {
            let dot = if place > 0 { "." } else { "" };
            write!(f, "{dot}{arc}")?;
        }
        Ok(())
    }
}

impl FromStr for RootOid {
    type Err = BadRoot;

    fn from_str(text: &str) -> Result<RootOid, BadRoot> {
        let arcs: Vec<u32> = text
            .strip_prefix('.')
            .unwrap_or(text)
            .split('.')
            .map(|arc| match arc.as_bytes() {
                [b'0'..=b'9', ..] => arc.parse().map_err(|_| BadRoot::NoOid),
                _ => Err(BadRoot::NoOid),
            })
            .collect::<Result<_, _>>()?;
        let octets = oid_value(&arcs).map_err(|_| BadRoot::NoOid)?.len();
        match arcs.strip_prefix(&RootOid::ENTERPRISES) {
            Some([32473, ..]) => Err(BadRoot::Example),
            // Enterprise number 0 is reserved (RFC 1700), and a last arc of 0 is an instance's.
            None | Some([] | [_] | [0, ..] | [.., 0]) => Err(BadRoot::NoEnterprise),
            Some(_) if octets > RootOid::MAX_OCTETS => Err(BadRoot::TooLong),
            Some(_) => Ok(RootOid(arcs)),
        }
    }
}

impl TryFrom<String> for RootOid {
    type Error = BadRoot;

    fn try_from(text: String) -> Result<RootOid, BadRoot> {
        text.parse()
    }
}

impl From<RootOid> for String {
    fn from(root: RootOid) -> String {
        root.to_string()
    }
}

/// Why a text can't be the root of the MIB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadRoot {
    /// It isn't an OID in numbers.
    NoOid,
    /// It isn't below an enterprise number.
    NoEnterprise,
    /// It is below 32473.
    Example,
    /// It takes too many octets.
    TooLong,
}

impl fmt::Display for BadRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BadRoot::NoOid => {
                "not an OID; write numbers with dots between them, as in \
                 1.3.6.1.4.1.8072.9999.9999.1904"
            }
            BadRoot::NoEnterprise => {
                "not an arc of an enterprise; write 1.3.6.1.4.1, your enterprise number and at \
                 least one more number, the last of them not 0"
            }
            BadRoot::Example => {
                "enterprise number 32473 is for documents only (RFC 5612); use your own"
            }
            BadRoot::TooLong => "too long to be in every varbind; use at most 16 octets in BER",
        })
    }
}

impl std::error::Error for BadRoot {}

/// The arc of the notifications below the root; 0, so that they have an SMIv1 form too (RFC 2576,
/// 2.1.2).
pub const NOTIFICATIONS: u32 = 0;
/// The arc of the objects below the root.
pub const OBJECTS: u32 = 1;

/// The two notifications: one raise and one clear type for all kinds, which takes an NMS two
/// rules and not thirty-two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notification {
    /// An alarm was raised.
    Raised,
    /// An alarm was cleared.
    Cleared,
}

impl Notification {
    /// Both.
    pub const ALL: [Notification; 2] = [Notification::Raised, Notification::Cleared];

    /// The name in the MIB.
    pub const fn name(self) -> &'static str {
        match self {
            Notification::Raised => "evenkeelAlarmRaised",
            Notification::Cleared => "evenkeelAlarmCleared",
        }
    }

    /// The last arc, below [`NOTIFICATIONS`].
    pub const fn id(self) -> u32 {
        match self {
            Notification::Raised => 1,
            Notification::Cleared => 2,
        }
    }
}

/// What a notification carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the MIB describes each, and the table below is the code's part")]
pub enum Field {
    Id,
    Kind,
    Severity,
    State,
    ClearReason,
    Text,
    Object,
    RaisedAt,
    EventAt,
    AddressType,
    Address,
    IfIndex,
    IfName,
    SubnetType,
    Subnet,
    SubnetPrefixLength,
    LocalInterface,
    TrapCount,
    TrapWindow,
    Threshold,
    UnstableTime,
    StableTime,
    SuppressedCount,
    AgentName,
    AgentRole,
    Sequence,
    NotificationTarget,
    Component,
    OtherAddressType,
    OtherAddress,
    OtherIfIndex,
    OtherIfName,
    PeerGroup,
    MateName,
    Term,
}

/// One object of the MIB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Object {
    /// What it holds.
    pub field: Field,
    /// Its name in the MIB.
    pub name: &'static str,
    /// The last arc, below [`OBJECTS`]. It never changes and is never used again.
    pub id: u32,
    /// Its SYNTAX in the MIB.
    pub syntax: &'static str,
}

const fn object(field: Field, name: &'static str, id: u32, syntax: &'static str) -> Object {
    Object { field, name, id, syntax }
}

/// The most octets of [`Field::Text`].
pub const MAX_TEXT: usize = 255;
/// The most octets of [`Field::Object`].
pub const MAX_OBJECT: usize = 128;
/// The most octets of the other texts.
pub const MAX_NAME: usize = 64;

/// Every object, in the order in which a notification carries them. All are always there, as most
/// NMSs address a varbind by its position.
pub const FIELDS: [Object; 35] = [
    object(Field::Id, "evenkeelAlarmId", 1, "DisplayString (SIZE (16))"),
    object(Field::Kind, "evenkeelAlarmKind", 2, "EvenkeelKind"),
    object(Field::Severity, "evenkeelAlarmSeverity", 3, "EvenkeelSeverity"),
    object(Field::State, "evenkeelAlarmState", 4, "EvenkeelState"),
    object(Field::ClearReason, "evenkeelAlarmClearReason", 5, "EvenkeelClearReason"),
    object(Field::Text, "evenkeelAlarmText", 6, "SnmpAdminString (SIZE (0..255))"),
    object(Field::Object, "evenkeelAlarmObject", 7, "SnmpAdminString (SIZE (0..128))"),
    object(Field::RaisedAt, "evenkeelAlarmRaisedAt", 8, "DateAndTime"),
    object(Field::EventAt, "evenkeelAlarmEventAt", 9, "DateAndTime"),
    object(Field::AddressType, "evenkeelAddressType", 10, "InetAddressType"),
    object(Field::Address, "evenkeelAddress", 11, "InetAddress"),
    object(Field::IfIndex, "evenkeelIfIndex", 12, "InterfaceIndexOrZero"),
    object(Field::IfName, "evenkeelIfName", 13, NAME),
    object(Field::SubnetType, "evenkeelSubnetType", 14, "InetAddressType"),
    object(Field::Subnet, "evenkeelSubnet", 15, "InetAddress"),
    object(Field::SubnetPrefixLength, "evenkeelSubnetPrefixLength", 16, "InetAddressPrefixLength"),
    object(Field::LocalInterface, "evenkeelLocalInterface", 17, NAME),
    object(Field::TrapCount, "evenkeelTrapCount", 18, "Unsigned32"),
    object(Field::TrapWindow, "evenkeelTrapWindow", 19, "Unsigned32"),
    object(Field::Threshold, "evenkeelThreshold", 20, "Unsigned32"),
    object(Field::UnstableTime, "evenkeelUnstableTime", 21, "Unsigned32"),
    object(Field::StableTime, "evenkeelStableTime", 22, "Unsigned32"),
    object(Field::SuppressedCount, "evenkeelSuppressedCount", 23, "Unsigned32"),
    object(Field::AgentName, "evenkeelAgentName", 24, NAME),
    object(Field::AgentRole, "evenkeelAgentRole", 25, "EvenkeelRole"),
    object(Field::Sequence, "evenkeelSequence", 26, "Unsigned32"),
    object(Field::NotificationTarget, "evenkeelNotificationTarget", 27, NAME),
    object(Field::Component, "evenkeelComponent", 28, NAME),
    object(Field::OtherAddressType, "evenkeelOtherAddressType", 29, "InetAddressType"),
    object(Field::OtherAddress, "evenkeelOtherAddress", 30, "InetAddress"),
    object(Field::OtherIfIndex, "evenkeelOtherIfIndex", 31, "InterfaceIndexOrZero"),
    object(Field::OtherIfName, "evenkeelOtherIfName", 32, NAME),
    object(Field::PeerGroup, "evenkeelPeerGroup", 33, NAME),
    object(Field::MateName, "evenkeelMateName", 34, NAME),
    object(Field::Term, "evenkeelTerm", 36, "Unsigned32"),
];

/// The SYNTAX of what has at most [`MAX_NAME`] octets.
const NAME: &str = "SnmpAdminString (SIZE (0..64))";

/// evenkeelForwardedBy: the name, the last arc below [`OBJECTS`] and the SYNTAX of the mark on
/// forwarded traps.
pub const FORWARDED_BY: (&str, u32, &str) = ("evenkeelForwardedBy", 35, "SnmpEngineID");

/// The name of the varbind that marks a trap as forwarded by the agent whose engine ID is its value
/// (TRAP-9): the content octets of the OID.
pub fn forwarded_by(root: &RootOid) -> Vec<u8> {
    oid_value(&root.child(&[OBJECTS, FORWARDED_BY.1, 0]))
        .expect("a root is an OID, and far below 128 arcs long")
}

/// Every kind of the specification's table, in its order: the numbers of EvenkeelKind from 1 on.
/// The MIB has them all from the start, so that a later agent needs no new MIB.
pub const KINDS: [&str; 16] = [
    "system_unstable",
    "interface_unstable",
    "interface_down",
    "link_unstable",
    "interface_ip_down",
    "subnet_down",
    "peer_down",
    "peer_restarted",
    "mass_silence",
    "mate_sync_lost",
    "mate_path_lost",
    "standby_unavailable",
    "failover_limit_reached",
    "component_stalled",
    "notification_target_unreachable",
    "overload",
];

/// The number of a kind in EvenkeelKind.
pub const fn kind_number(kind: Kind) -> u8 {
    match kind {
        Kind::SystemUnstable => 1,
        Kind::InterfaceUnstable => 2,
        Kind::InterfaceDown => 3,
        Kind::LinkUnstable => 4,
        Kind::InterfaceIpDown => 5,
        Kind::SubnetDown => 6,
        Kind::PeerDown => 7,
        Kind::PeerRestarted => 8,
        Kind::MassSilence => 9,
        Kind::MateSyncLost => 10,
        Kind::MatePathLost => 11,
        Kind::StandbyUnavailable => 12,
        Kind::FailoverLimitReached => 13,
        Kind::ComponentStalled => 14,
        Kind::NotificationTargetUnreachable => 15,
        Kind::Overload => 16,
    }
}

/// EvenkeelSeverity cleared(1), which every clear carries.
pub const SEVERITY_CLEARED: u8 = 1;

/// The number of a severity in EvenkeelSeverity: that of ITU-T M.3100.
pub const fn severity_number(severity: Severity) -> u8 {
    match severity {
        Severity::Critical => 3,
        Severity::Major => 4,
        Severity::Minor => 5,
        Severity::Warning => 6,
    }
}

/// The number of a clear reason in EvenkeelClearReason, where nothing means a raise.
pub const fn clear_reason_number(reason: Option<ClearReason>) -> u8 {
    match reason {
        None => 1,
        Some(ClearReason::Ended) => 2,
        Some(ClearReason::Superseded) => 3,
        Some(ClearReason::TurnedOff) => 4,
        Some(ClearReason::Removed) => 5,
        Some(ClearReason::GaveWay) => 6,
    }
}

/// EvenkeelState raised(1) or cleared(2).
pub const fn state_number(cleared: bool) -> u8 {
    if cleared { 2 } else { 1 }
}

/// EvenkeelRole alone(1).
pub const ROLE_ALONE: u8 = 1;
/// EvenkeelRole primary(2), the only role of a pair in which an agent sends notifications.
pub const ROLE_PRIMARY: u8 = 2;

/// A term as evenkeelTerm tells it: a higher number is a later term, also where the two agents have
/// begun terms of one number.
pub fn term_number(term: Option<Term>) -> u32 {
    let Some(Term { number, by }) = term else { return 0 };
    // The low 32 bits, as the MIB says.
    (number.wrapping_mul(2) + u64::from(by == Slot::One)) as u32
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// TRAP-12: every object and notification of the MIB is in the code, and back.
    #[test]
    fn the_mib_and_the_code_say_the_same() {
        let module = Module::read(TEXT);
        let root = RootOid::default();

        let objects: Vec<_> = module
            .of("OBJECT-TYPE")
            .map(|(name, body)| {
                let syntax = between(body, "SYNTAX", &["UNITS", "MAX-ACCESS"]).join(" ");
                assert_eq!(between(body, "MAX-ACCESS", &["STATUS"]), ["accessible-for-notify"]);
                (name.to_owned(), module.oid(name), syntax)
            })
            .collect();
        let coded: Vec<_> = FIELDS
            .iter()
            .map(|object| {
                let oid = root.child(&[OBJECTS, object.id]);
                (object.name.to_owned(), oid, spaced(object.syntax))
            })
            .chain([(
                FORWARDED_BY.0.to_owned(),
                root.child(&[OBJECTS, FORWARDED_BY.1]),
                FORWARDED_BY.2.to_owned(),
            )])
            .collect();
        assert_eq!(objects, coded);

        let names: Vec<&str> = FIELDS.iter().map(|object| object.name).collect();
        let carried: Vec<_> = module
            .of("NOTIFICATION-TYPE")
            .map(|(name, body)| (name.to_owned(), module.oid(name), listed(body, "OBJECTS")))
            .collect();
        let coded: Vec<_> = Notification::ALL
            .map(|one| {
                (one.name().to_owned(), root.child(&[NOTIFICATIONS, one.id()]), names.clone())
            })
            .to_vec();
        assert_eq!(carried, coded);

        let grouped: Vec<_> = module.of("OBJECT-GROUP").map(|(_, body)| body).collect();
        assert_eq!(listed(grouped[0], "OBJECTS"), names);
        assert_eq!(listed(grouped[1], "OBJECTS"), [FORWARDED_BY.0]);
        assert_eq!(grouped.len(), 2);
    }

    #[test]
    fn trap_12_an_object_keeps_its_place_and_its_number() {
        // NMSs have rules on these positions: a new object comes behind the others.
        for (place, name) in [
            (0, "evenkeelAlarmId"),
            (6, "evenkeelAlarmObject"),
            (10, "evenkeelAddress"),
            (16, "evenkeelLocalInterface"),
            (25, "evenkeelSequence"),
            (26, "evenkeelNotificationTarget"),
            (33, "evenkeelMateName"),
            (34, "evenkeelTerm"),
        ] {
            assert_eq!(FIELDS[place].name, name);
        }
        let ids = (1..).filter(|id| *id != FORWARDED_BY.1);
        for (object, id) in FIELDS.iter().zip(ids) {
            assert_eq!(object.id, id, "{}", object.name);
        }
    }

    /// TRAP-12: every kind of the specification's table says in the MIB which objects it fills, and
    /// these are there.
    #[test]
    fn every_kind_has_objects_for_what_it_is_about() {
        let start = TEXT.find("EvenkeelKind ::=").unwrap();
        let description = &TEXT[start..][..TEXT[start..].find("SYNTAX").unwrap()];
        let words: Vec<&str> = description.split_whitespace().collect();
        let kinds: Vec<String> = KINDS.iter().map(|name| camel(name)).collect();
        let mut starts: Vec<usize> = kinds
            .iter()
            .map(|kind| words.iter().position(|word| word == kind).expect("each is described"))
            .collect();
        starts.push(words.len());
        for (kind, place) in kinds.iter().zip(starts.windows(2)) {
            let about = &words[place[0]..place[1]];
            let objects = about.iter().skip_while(|word| **word != "Objects:").skip(1);
            let objects: Vec<&str> = objects
                .map(|word| word.trim_end_matches([',', '.']))
                .filter(|word| word.starts_with("evenkeel"))
                .collect();
            assert!(!objects.is_empty(), "{kind}");
            for object in objects {
                assert!(FIELDS.iter().any(|field| field.name == object), "{kind}: {object}");
            }
        }
    }

    #[test]
    fn trap_9_the_mark_hangs_on_the_root() {
        let root: RootOid = "1.3.6.1.4.1.9.7".parse().unwrap();
        assert_eq!(forwarded_by(&root), [0x2b, 6, 1, 4, 1, 9, 7, 1, 35, 0]);
    }

    #[test]
    fn the_enumerations_of_the_mib_are_those_of_the_code() {
        let module = Module::read(TEXT);
        let kinds = module.enumeration("EvenkeelKind");
        let named: Vec<_> =
            KINDS.iter().zip(1..).map(|(name, number)| (camel(name), number)).collect();
        assert_eq!(kinds, named);
        for kind in Kind::ALL {
            assert_eq!(KINDS[usize::from(kind_number(kind)) - 1], kind.name());
        }

        let severities = module.enumeration("EvenkeelSeverity");
        assert!(severities.contains(&("cleared".to_owned(), SEVERITY_CLEARED)));
        for severity in [Severity::Critical, Severity::Major, Severity::Minor, Severity::Warning] {
            let named = (severity.name().to_owned(), severity_number(severity));
            assert!(severities.contains(&named), "{named:?}");
        }

        let reasons = [
            ClearReason::Ended,
            ClearReason::Superseded,
            ClearReason::TurnedOff,
            ClearReason::Removed,
            ClearReason::GaveWay,
        ];
        let mut named = vec![("notCleared".to_owned(), clear_reason_number(None))];
        named.extend(reasons.map(|one| (camel(one.name()), clear_reason_number(Some(one)))));
        assert_eq!(module.enumeration("EvenkeelClearReason"), named);

        let states = [("raised", state_number(false)), ("cleared", state_number(true))];
        let states = states.map(|(name, number)| (name.to_owned(), number));
        assert_eq!(module.enumeration("EvenkeelState"), states);
        let roles = module.enumeration("EvenkeelRole");
        assert_eq!(roles[0], ("alone".to_owned(), ROLE_ALONE));
        assert_eq!(roles[1], ("primary".to_owned(), ROLE_PRIMARY));
    }

    #[test]
    fn the_longest_texts_are_as_long_as_the_mib_allows() {
        for (field, most) in [
            (Field::Text, MAX_TEXT),
            (Field::Object, MAX_OBJECT),
            (Field::IfName, MAX_NAME),
            (Field::LocalInterface, MAX_NAME),
            (Field::AgentName, MAX_NAME),
            (Field::NotificationTarget, MAX_NAME),
            (Field::Component, MAX_NAME),
            (Field::OtherIfName, MAX_NAME),
            (Field::PeerGroup, MAX_NAME),
            (Field::MateName, MAX_NAME),
        ] {
            let object = FIELDS.iter().find(|object| object.field == field).unwrap();
            assert_eq!(object.syntax, format!("SnmpAdminString (SIZE (0..{most}))"));
        }
    }

    #[test]
    fn another_root_changes_only_the_root() {
        assert_eq!(with_root(&RootOid::default()), TEXT);
        for text in ["1.3.6.1.4.1.9.7", "1.3.6.1.4.1.64512.1.2.3.4.5"] {
            let root: RootOid = text.parse().unwrap();
            let printed = with_root(&root);
            assert_eq!(Module::read(&printed).oid("evenkeelMIB"), root.arcs(), "{printed}");
            let others = |text: &str| -> Vec<String> {
                text.lines()
                    .filter(|line| !line.contains("Arc") && !line.contains("oot"))
                    .map(str::to_owned)
                    .collect()
            };
            assert_eq!(others(&printed), others(TEXT));
        }
    }

    #[test]
    fn a_root_is_an_arc_of_an_enterprise() {
        for (text, parsed) in [
            ("1.3.6.1.4.1.8072.9999.9999.1904", Ok("1.3.6.1.4.1.8072.9999.9999.1904")),
            (".1.3.6.1.4.1.9.7", Ok("1.3.6.1.4.1.9.7")),
            ("", Err(BadRoot::NoOid)),
            ("enterprises.9.7", Err(BadRoot::NoOid)),
            ("1.3.6.1.4.1.+9.7", Err(BadRoot::NoOid)),
            ("1.3.6.1.4.1.9..7", Err(BadRoot::NoOid)),
            ("1.3.6.1.4.1.9.4294967296", Err(BadRoot::NoOid)),
            ("1.40.6", Err(BadRoot::NoOid)),
            ("1.3.6.1.4.1", Err(BadRoot::NoEnterprise)),
            ("1.3.6.1.4.1.9", Err(BadRoot::NoEnterprise)),
            ("1.3.6.1.4.1.0.7", Err(BadRoot::NoEnterprise)),
            ("1.3.6.1.2.1.9.7", Err(BadRoot::NoEnterprise)),
            ("1.3.6.1.4.1.32473.1", Err(BadRoot::Example)),
            ("1.3.6.1.4.1.9.4294967295.4294967295", Ok("1.3.6.1.4.1.9.4294967295.4294967295")),
            ("1.3.6.1.4.1.9.4294967295.4294967295.1", Err(BadRoot::TooLong)),
        ] {
            let read = text.parse::<RootOid>().map(|root| root.to_string());
            assert_eq!(read, parsed.map(str::to_owned), "{text}");
        }
        assert!(RootOid::default().is_default());
        assert_eq!(RootOid::default().to_string().parse(), Ok(RootOid::default()));
    }

    /// As much of an SMIv2 module as the tests ask about: the definitions in their order, each
    /// with its macro, the tokens between and its value.
    struct Module {
        definitions: Vec<(String, String, Vec<String>)>,
        values: BTreeMap<String, Vec<String>>,
    }

    impl Module {
        fn read(text: &str) -> Module {
            let tokens = tokens(text);
            let imports = tokens.iter().position(|token| token == ";").unwrap();
            let mut module = Module { definitions: Vec::new(), values: BTreeMap::new() };
            let mut rest = &tokens[imports + 1..];
            while let [name, keyword, ..] = rest {
                if name == "END" {
                    break;
                }
                let length = if keyword == "::=" {
                    // A textual convention ends with the braces of its enumeration.
                    rest.iter().position(|token| token == "}").unwrap() + 1
                } else {
                    let value = rest.iter().position(|token| token == "::=").unwrap();
                    let end = value + rest[value..].iter().position(|t| t == "}").unwrap();
                    module.values.insert(name.clone(), rest[value + 2..end].to_vec());
                    end + 1
                };
                let keyword = if keyword == "::=" { &rest[2] } else { keyword };
                module.definitions.push((name.clone(), keyword.clone(), rest[2..length].to_vec()));
                rest = &rest[length..];
            }
            module
        }

        fn of<'a>(&'a self, keyword: &'a str) -> impl Iterator<Item = (&'a str, &'a [String])> {
            self.definitions
                .iter()
                .filter(move |(_, its, _)| its == keyword)
                .map(|(name, _, body)| (name.as_str(), body.as_slice()))
        }

        fn oid(&self, name: &str) -> Vec<u32> {
            if name == "enterprises" {
                return RootOid::ENTERPRISES.to_vec();
            }
            let [parent, arc] = self.values[name].as_slice() else { panic!("{name}") };
            let mut oid = self.oid(parent);
            oid.push(arc.parse().unwrap());
            oid
        }

        fn enumeration(&self, convention: &str) -> Vec<(String, u8)> {
            let (_, _, body) = self
                .definitions
                .iter()
                .find(|(name, keyword, _)| name == convention && keyword == "TEXTUAL-CONVENTION")
                .unwrap();
            listed(body, "INTEGER")
                .chunks(4)
                .map(|entry| (entry[0].to_owned(), entry[2].parse().unwrap()))
                .collect()
        }
    }

    /// The words and signs, without comments and quoted texts.
    fn tokens(text: &str) -> Vec<String> {
        let text: Vec<&str> = text.lines().map(|line| line.split("--").next().unwrap()).collect();
        let text = text.join("\n");
        let unquoted: Vec<&str> = text.split('"').step_by(2).collect();
        spaced(&unquoted.join(" ")).split_whitespace().map(str::to_owned).collect()
    }

    fn spaced(text: &str) -> String {
        let mut apart = text.to_owned();
        for sign in ["{", "}", "(", ")", ",", ";"] {
            apart = apart.replace(sign, &format!(" {sign} "));
        }
        apart.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    fn between<'a>(body: &'a [String], from: &str, to: &[&str]) -> Vec<&'a str> {
        body.iter()
            .map(String::as_str)
            .skip_while(|token| *token != from)
            .skip(1)
            .take_while(|token| !to.contains(token))
            .collect()
    }

    /// What stands between the braces after this word, without commas.
    fn listed<'a>(body: &'a [String], after: &str) -> Vec<&'a str> {
        let mut list = between(body, after, &["}"]);
        assert_eq!(list.remove(0), "{");
        list.retain(|token| *token != ",");
        list
    }

    /// `link_unstable` as `linkUnstable`, as labels in a MIB have no underscores.
    fn camel(name: &str) -> String {
        let mut words = name.split('_');
        let mut camel = words.next().unwrap().to_owned();
        for word in words {
            camel += &word[..1].to_uppercase();
            camel += &word[1..];
        }
        camel
    }
}
