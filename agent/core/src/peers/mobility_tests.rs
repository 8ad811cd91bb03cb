//! PEER-15: messages of RFC 5847 against octets that scapy 2.8 built and tshark 4.0 decoded, and
//! against chance.

use proptest::prelude::*;

use super::*;

/// What scapy's `MIP6MH_Generic` and `MIP6MH_BE` make of these messages from 2001:db8::1 to
/// 2001:db8::2, checksum included; tests/mobility_peer.py has the like.
const BY_SCAPY: [(&str, Message); 4] = [
    ("3b010d0056ea00000102030401020000", Message::Request { sequence: 0x0102_0304 }),
    (
        "3b020d00a03d00010000000701001c04deadbeef01020000",
        Message::Response { sequence: 7, restart_counter: Some(0xdead_beef) },
    ),
    (
        "3b020d003ddd00030000000001001c040000000301020000",
        Message::Unsolicited { restart_counter: Some(3) },
    ),
    ("3b0207005fe9020000000000000000000000000000000000", Message::Unrecognized),
];

const PATH: Path = Path {
    source: Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1),
    destination: Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2),
};

fn octets(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// Puts the right checksum in.
fn sealed(mut message: Vec<u8>, path: Path) -> Vec<u8> {
    message[CHECKSUM_AT..COMMON].fill(0);
    let sum = checksum(&message, path);
    message[CHECKSUM_AT..COMMON].copy_from_slice(&sum.to_be_bytes());
    message
}

#[test]
fn peer_15_what_scapy_builds_is_read_and_built_octet_for_octet() {
    for (hex, message) in BY_SCAPY {
        let octets = octets(hex);
        assert_eq!(parse(&octets, Some(PATH)), Ok(message), "{hex}");
        if message != Message::Unrecognized {
            let mut buffer = [0xaa; MOST];
            let built = message.build(&mut buffer).to_vec();
            assert_eq!(sealed(built, PATH), octets, "{message:?}");
        }
    }
}

#[test]
fn peer_15_over_udp_the_checksum_field_is_not_looked_at() {
    for (hex, message) in BY_SCAPY {
        let mut octets = octets(hex);
        for field in [[0, 0], [0xff, 0xff]] {
            octets[CHECKSUM_AT..COMMON].copy_from_slice(&field);
            assert_eq!(parse(&octets, None), Ok(message), "{hex}");
        }
    }
}

#[test]
fn peer_15_what_a_sender_may_choose_is_accepted() {
    let response = |sequence, restart_counter| Ok(Message::Response { sequence, restart_counter });
    for (what, hex, read) in [
        ("no options but padding", "3b010d00000000010000000901020000", response(9, None)),
        ("Pad1 four times", "3b010d00000000010000000900000000", response(9, None)),
        ("reserved bits", "3b010dff0000fffd0000000901020000", response(9, None)),
        (
            "unaligned counter",
            "3b020d0000000001000000091c04000000ff000001020000",
            response(9, Some(255)),
        ),
        (
            "an option that we do not know before the counter",
            "3b020d0000000001000000096302aabb1c04000000050000",
            response(9, Some(5)),
        ),
        (
            "the same counter twice",
            "3b020d0000000001000000091c04000000051c0400000005",
            response(9, Some(5)),
        ),
        ("octets behind the header", "3b010d00000000010000000901020000ffff", response(9, None)),
        (
            "a counter in a request",
            "3b020d00000000000000000901001c040000000501020000",
            Ok(Message::Request { sequence: 9 }),
        ),
        (
            "an unsolicited response with a sequence number",
            "3b020d00000000030000000901001c040000000501020000",
            Ok(Message::Unsolicited { restart_counter: Some(5) }),
        ),
        (
            "an unsolicited response without a counter",
            "3b010d00000000030000000901020000",
            Ok(Message::Unsolicited { restart_counter: None }),
        ),
        (
            "a Binding Error with options",
            "3b03070000000200000000000000000000000000000000000106000000000000",
            Ok(Message::Unrecognized),
        ),
        (
            "a Binding Error about something else",
            "3b0207000000010000000000000000000000000000000000",
            Ok(Message::Other { kind: 7 }),
        ),
        ("a Binding Update", "3b010500000000000000000000000000", Ok(Message::Other { kind: 5 })),
    ] {
        assert_eq!(parse(&octets(hex), None), read, "{what}");
    }
}

#[test]
fn peer_15_what_a_sender_may_not_choose_is_refused() {
    use Discard::{Malformed, Truncated};
    for (what, hex, why) in [
        ("nothing", "", Truncated),
        ("two octets", "3b01", Truncated),
        ("one octet less than its length", "3b010d000000000100000009010200", Truncated),
        ("half of its length", "3b020d0000000001000000090102000001020000", Truncated),
        ("another payload", "3a010d00000000010000000901020000", Malformed),
        ("no room for a sequence number", "3b000d0000000001", Malformed),
        ("unsolicited, but no response", "3b010d00000000020000000901020000", Malformed),
        ("an option beyond the end", "3b010d00000000010000000901030000", Malformed),
        ("an option without a length", "3b010d00000000010000000900000001", Malformed),
        ("a counter of 3 octets", "3b020d0000000001000000091c0300000500000000000000", Malformed),
        ("a counter of 5 octets", "3b020d0000000001000000091c0500000005000000000000", Malformed),
        ("two counters", "3b020d0000000001000000091c04000000051c0400000006", Malformed),
        ("a short Binding Error", "3b010700000002000000000000000000", Malformed),
    ] {
        assert_eq!(parse(&octets(hex), None), Err(why), "{what}");
    }
}

#[test]
fn peer_11_one_flipped_bit_anywhere_is_a_bad_checksum() {
    for (hex, message) in BY_SCAPY {
        let good = octets(hex);
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let read = parse(&bad, Some(PATH));
            // A changed length may leave too little for it.
            let refused = matches!(read, Err(Discard::BadChecksum | Discard::Truncated));
            assert!(refused, "{message:?}, bit {bit}: {read:?}");
        }
        let elsewhere =
            Path { source: PATH.destination, destination: "2001:db8::7".parse().unwrap() };
        assert_eq!(parse(&good, Some(elsewhere)), Err(Discard::BadChecksum));
    }
}

#[test]
fn only_heartbeats_are_built() {
    for message in [Message::Unrecognized, Message::Other { kind: 5 }] {
        assert!(message.build(&mut [0; MOST]).is_empty());
    }
}

fn heartbeats() -> impl Strategy<Value = Message> {
    prop_oneof![
        any::<u32>().prop_map(|sequence| Message::Request { sequence }),
        (any::<u32>(), any::<Option<u32>>()).prop_map(|(sequence, restart_counter)| {
            Message::Response { sequence, restart_counter }
        }),
        any::<Option<u32>>().prop_map(|restart_counter| Message::Unsolicited { restart_counter }),
    ]
}

fn paths() -> impl Strategy<Value = Path> {
    (any::<Ipv6Addr>(), any::<Ipv6Addr>())
        .prop_map(|(source, destination)| Path { source, destination })
}

proptest! {
    #[test]
    fn peer_15_what_is_built_is_read_again(message in heartbeats(), path in paths()) {
        let mut buffer = [0xaa; MOST];
        let built = message.build(&mut buffer).to_vec();
        prop_assert_eq!(built.len() % UNIT, 0);
        prop_assert_eq!(parse(&built, None), Ok(message));
        prop_assert_eq!(parse(&sealed(built, path), Some(path)), Ok(message));
    }

    #[test]
    fn peer_15_no_octets_make_it_panic(
        octets in proptest::collection::vec(any::<u8>(), 0..80),
        path in proptest::option::of(paths()),
    ) {
        let _ = parse(&octets, path);
    }

    /// Octets that get past the first checks more often.
    #[test]
    fn peer_15_no_heartbeat_with_odd_options_makes_it_panic(
        units in 0..6u8,
        kind in prop_oneof![Just(HEARTBEAT), Just(BINDING_ERROR)],
        rest in proptest::collection::vec(prop_oneof![0..5u8, Just(28), any::<u8>()], 5..64),
        path in paths(),
    ) {
        let mut octets = [&[NO_NEXT_HEADER, units, kind][..], &rest].concat();
        let len = (usize::from(units) + 1) * UNIT;
        if octets.len() >= len {
            octets = sealed(octets[..len].to_vec(), path);
            prop_assert_ne!(parse(&octets, Some(path)), Err(Discard::BadChecksum));
        }
        let _ = parse(&octets, None);
    }
}
