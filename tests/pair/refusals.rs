//! Who is no mate is refused, and counted by reason, and nothing moves (PAIR, "Keys"): a stranger on the port,
//! another key, and what somebody has recorded of the mate, again or altered.

use std::{
    io::{Read, Write},
    net::{TcpStream, UdpSocket},
    process::Stdio,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tempfile::TempDir;

use super::{
    Hosts, LIMIT, Pair, TAKEOVER, configuration, fingerprint, role, status, story::Story, trust,
    until_taken_over,
};
use crate::{
    common::{Agent, Ns, output, tshark::Capture, wait_until},
    takeover::MORE,
};

/// How many datagrams an agent has discarded for a reason.
fn discarded(agent: &Agent<'_>, reason: &str) -> f64 {
    agent.metrics().sum("evenkeel_pair_heartbeats_discarded_total", &[("reason", reason)])
}

/// How many connections an agent has refused for a reason.
fn refused(agent: &Agent<'_>, reason: &str) -> f64 {
    agent.metrics().sum("evenkeel_pair_channel_refused_total", &[("reason", reason)])
}

/// The heartbeats that a host sends by its first network within a second.
fn recording(ns: &Ns, address: &str) -> Vec<Vec<u8>> {
    let filter = format!("udp and src host {address} and dst port 19041");
    let capture = Capture::start(ns, "eth0", &filter);
    thread::sleep(Duration::from_secs(1));
    let octets = |line: String| -> Vec<u8> {
        let digits = line.as_bytes().chunks_exact(2);
        let octet = |two: &[u8]| u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok();
        digits.map(|two| octet(two).expect("hexadecimal digits")).collect()
    };
    capture.fields(&[], &["udp.payload"]).into_iter().map(octets).collect()
}

/// A socket in a namespace, which may have another's address there.
fn socket(ns: &Ns, address: &str) -> UdpSocket {
    ns.inside(|| UdpSocket::bind(format!("{address}:0"))).expect("its address")
}

#[test]
fn pair_8_strangers_other_keys_and_recordings_are_refused_and_counted_and_move_nothing() {
    let hosts = Hosts::new();
    let mut pair = Pair::start(&hosts, MORE);
    let mut story = Story::start(&hosts);
    pair.until_whole(["primary", "standby"]);
    let term = status(&pair.one)["term"].clone();

    // By UDP, from another address than the mate's, and from the mate's own.
    let (to, many) = ("10.1.0.1:19041", 20);
    for (ns, from, octets) in [
        (&hosts.gate, "10.1.0.254", vec![0x55; 64]),
        (&hosts.gate, "10.1.0.254", Vec::new()),
        (&hosts.two, "10.1.0.2", vec![0xaa; 64]),
    ] {
        let before = discarded(&pair.one, "stranger");
        let socket = socket(ns, from);
        for _ in 0..many {
            socket.send_to(&octets, to).expect("it is sent");
        }
        wait_until("the stranger to be counted", LIMIT, || {
            discarded(&pair.one, "stranger") >= before + f64::from(many)
        });
    }

    // What the standby has said, once more; and with one octet of it another one.
    let recorded = recording(&hosts.two, "10.1.0.2");
    assert!(!recorded.is_empty());
    let mate = socket(&hosts.two, "10.1.0.2");
    for (alter, reason) in [(None, "replayed"), (Some(30), "altered"), (Some(7), "unknown_key")] {
        let (before, received) = (discarded(&pair.one, reason), recorded.len() as f64);
        for datagram in &recorded {
            let mut datagram = datagram.clone();
            if let Some(place) = alter {
                datagram[place] ^= 1;
            }
            mate.send_to(&datagram, to).expect("it is sent");
        }
        wait_until(&format!("{reason} to be counted"), LIMIT, || {
            discarded(&pair.one, reason) >= before + received
        });
    }

    // By TCP: what is no TLS, and TLS with a key of its own.
    let before = refused(&pair.one, "handshake");
    let mut stream = hosts.gate.inside(|| TcpStream::connect(to)).expect("it listens");
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("it reads");
    stream.read_to_end(&mut Vec::new()).ok();
    wait_until("it to be counted", LIMIT, || refused(&pair.one, "handshake") > before);
    let before = refused(&pair.one, "wrong_fingerprint");
    let keys = TempDir::with_prefix("ek-stranger-").expect("a temporary directory");
    let (key, certificate) = (keys.path().join("key.pem"), keys.path().join("cert.pem"));
    let mut openssl = hosts.gate.command("openssl");
    openssl.args("req -x509 -newkey ed25519 -nodes -days 9 -subj /CN=evenkeel".split(' '));
    output(openssl.arg("-keyout").arg(&key).arg("-out").arg(&certificate));
    let mut openssl = hosts.gate.command("openssl");
    openssl.args(["s_client", "-connect", to, "-key"]).arg(&key).arg("-cert").arg(&certificate);
    // It ends with an error when it is refused.
    openssl.stdin(Stdio::null()).output().expect("tests/setup installs openssl");
    wait_until("it to be counted", LIMIT, || refused(&pair.one, "wrong_fingerprint") > before);

    // Nothing has moved, and the pair is whole.
    pair.until_whole(["primary", "standby"]);
    assert_eq!(status(&pair.one)["term"], term);
    story.down(1..=5);
    story.until_told();

    // An agent in the mate's place that has another key.
    pair.two.stop();
    let before = refused(&pair.one, "wrong_fingerprint");
    let mut other = Agent::prepare(&hosts.two, "keel-2", &configuration(1, MORE));
    trust(&other, &fingerprint(&pair.one));
    other.launch();
    wait_until("both to say why not", LIMIT, || {
        refused(&pair.one, "wrong_fingerprint") > before && refused(&other, "by_mate") > 0.0
    });
    assert_eq!(status(&other)["state_channel"]["refused"], "by_mate");
    assert_eq!(status(&other)["mate"]["heard"], false);
    assert_eq!(role(&pair.one), "primary");
    other.kill9();
    pair.two.launch();
    pair.until_whole(["primary", "standby"]);

    // A recording of a primary that has died is no sign of life.
    let recorded = recording(&hosts.one, "10.1.0.1");
    let dead = socket(&hosts.one, "10.1.0.1");
    let (killed, over) = (Timestamp::now(), AtomicBool::new(false));
    pair.one.kill9();
    let took = thread::scope(|scope| {
        scope.spawn(|| {
            let until = Instant::now() + LIMIT;
            for datagram in recorded.iter().cycle() {
                if over.load(Ordering::Relaxed) || Instant::now() > until {
                    break;
                }
                dead.send_to(datagram, "10.1.0.2:19041").ok();
                thread::sleep(Duration::from_millis(50));
            }
        });
        let took = until_taken_over(&pair.two, "mate_silent", killed);
        over.store(true, Ordering::Relaxed);
        took
    });
    assert!(took <= TAKEOVER, "{took:?}");
    assert!(discarded(&pair.two, "replayed") > 10.0);
    pair.one.launch();
    pair.until_whole(["standby", "primary"]);
    story.until_over();
    pair.until_journals_agree();
}
