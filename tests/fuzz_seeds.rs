//! The seeds of the fuzzer, and all that is left of them when they are cut short or altered, through
//! every door that reads a datagram: never a panic (TRAP-7). `fuzz/README.md` tells of the fuzzer.

#[path = "fuzz/doors.rs"]
mod doors;
#[path = "fuzz/pair_doors.rs"]
mod pair_doors;

use std::{collections::BTreeMap, fs, time::Duration};

use tempfile::TempDir;

use crate::common::{
    Lab, Nms, Relay, repository,
    stack::{self, NetSnmp, User},
    wait_until, wire,
};

/// The seeds by name.
pub fn seeds() -> BTreeMap<String, Vec<u8>> {
    seeds_of("tests/fuzz/seeds")
}

fn seeds_of(directory: &str) -> BTreeMap<String, Vec<u8>> {
    let directory = repository(directory);
    let entries = fs::read_dir(&directory).expect("the seeds are part of the repository");
    let read = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().expect("a plain name");
        (name, fs::read(entry.path()).expect("a plain file"))
    };
    entries.map(|entry| read(entry.expect("a plain directory"))).collect()
}

#[test]
fn trap_7_no_seed_and_no_part_of_one_is_too_much_for_any_door() {
    if std::env::var_os("EVENKEEL_WRITE_EXPECTED").is_some() {
        write_the_seeds();
    }
    let seeds = seeds();
    assert!(seeds.len() >= 60, "only {} seeds", seeds.len());
    for (name, seed) in &seeds {
        // All are of one engine, whose time must not go back.
        let mut doors = doors::Doors::new();
        doors.feed(seed);
        // What net-snmp has sent is a trap that is taken in, also when it is encrypted.
        let is_trap = name.starts_with("trap-") || name.starts_with("inform-");
        assert!(!is_trap || doors.taken() > 0, "{name} was not taken in");
        // What scapy has built is a message of a peer.
        let is_peers = name.starts_with("heartbeat-") || name.starts_with("echo-");
        assert!(!is_peers || doors.heartbeats() > 0, "{name} was not understood");
    }
    let mut doors = doors::Doors::new();
    for seed in seeds.values() {
        for length in (0..seed.len()).step_by(3) {
            doors.feed(&seed[..length]);
        }
        for at in (0..seed.len()).step_by(5) {
            let mut altered = seed.clone();
            altered[at] ^= 0x80 >> (at % 8);
            doors.feed(&altered);
        }
    }
}

#[test]
fn pair_16_no_seed_and_no_part_of_one_is_too_much_for_what_reads_a_mate() {
    let directory = "tests/fuzz/pair_seeds";
    if std::env::var_os("EVENKEEL_WRITE_EXPECTED").is_some() {
        let to = repository(directory);
        fs::create_dir_all(&to).expect("a writable repository");
        for (name, seed) in pair_doors::seeds() {
            fs::write(to.join(name), seed).expect("writable");
        }
    }
    let seeds = seeds_of(directory);
    let made: BTreeMap<String, Vec<u8>> =
        pair_doors::seeds().into_iter().map(|(name, seed)| (name.to_owned(), seed)).collect();
    for (name, seed) in &made {
        assert_eq!(seeds.get(name), Some(seed), "{name}: EVENKEEL_WRITE_EXPECTED=1 writes it anew");
        let mut doors = pair_doors::Doors::new();
        doors.feed(seed);
        assert!(doors.understood() > 0, "{name} was not understood");
    }
    let mut doors = pair_doors::Doors::new();
    for seed in seeds.values() {
        for length in 0..seed.len() {
            doors.feed(&seed[..length]);
        }
        for at in 0..seed.len() {
            for bit in 0..8 {
                let mut altered = seed.clone();
                altered[at] ^= 1 << bit;
                doors.feed(&altered);
            }
        }
    }
}

/// Captures the seeds anew from net-snmp, as the doors take them.
fn write_the_seeds() {
    let lab = Lab::new();
    let ns = lab.namespace("seeds");
    let directory = TempDir::with_prefix("ek-snmp-").expect("a temporary directory");
    let net_snmp = NetSnmp::new(&ns, "127.0.0.1:11162", directory.path());
    let kept = Relay::start(&ns, "127.0.0.1:11162", None);
    let to = repository("tests/fuzz/seeds");
    fs::create_dir_all(&to).expect("a writable repository");
    let write = |name: &str, bytes: &[u8]| fs::write(to.join(name), bytes).expect("writable");
    let keep = |name: &str| {
        let mut seen = Vec::new();
        wait_until(name, Duration::from_secs(20), || {
            seen.extend(kept.take().requests);
            !seen.is_empty()
        });
        write(name, &seen[0]);
        seen.swap_remove(0)
    };
    // The engine of `doors.rs`, in its first boot, answers the questions that come before an inform.
    let create: String = User::all().iter().map(|user| user.create(None)).collect();
    let more = format!("exactEngineID 0x80001f88046b65656c\n{create}");
    let _nms = Nms::start_with(&ns, "udp:127.0.0.1:11163", &more);
    let asked = Relay::start(&ns, "127.0.0.1:11164", Some("127.0.0.1:11163"));
    let asking = NetSnmp::new(&ns, "127.0.0.1:11164", directory.path());

    net_snmp.v1("127.0.0.9", 4);
    keep("trap-v1");
    net_snmp.trap(&stack::v2c(), 4);
    let trap = keep("trap-v2c");
    net_snmp.inform(&stack::v2c(), 4);
    let inform = keep("inform-v2c");
    write("response-v2c", &wire::response_to(&inform).expect("an inform"));
    for user in User::all() {
        let options = user.options();
        net_snmp.trap(&options, 4);
        keep(&format!("trap-{}", user.name));
        if user.privacy.is_none() || user.privacy == Some("AES") {
            asking.inform(&options, 4);
            let seen = asked.take();
            write(&format!("inform-{}", user.name), &seen.requests[1]);
            if user.name == "sha.aes" {
                write("discovery", &seen.requests[0]);
                write("report", &seen.answers[0]);
                write("response-v3", &seen.answers[1]);
            }
        }
    }

    // The PDUs alone, behind the octet that chooses the user who seals them.
    for (name, message) in [("pdu-trap", &trap), ("pdu-inform", &inform)] {
        let at = message.iter().position(|octet| matches!(octet, 0xa6 | 0xa7)).expect("a PDU");
        write(name, &[&[9], &message[at..]].concat());
    }
}
