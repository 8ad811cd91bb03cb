//! Proxy Mobile IPv6 heartbeats (PEER-15), over both transports, against programs that are not ours:
//! scapy builds what the agent receives (`mobility_peer.py`), and tshark decodes what it sends.

use std::{
    io::{BufRead, BufReader, Write},
    process::{ChildStdin, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use serde_json::Value;

use crate::common::{Agent, Guard, Lab, Ns, Row, repository, tshark::Capture, wait_until};

/// What has no exact end is waited for this long: far above need, so a limit, not an expectation.
const LIMIT: Duration = Duration::from_secs(30);

/// Addresses of one transport: the agent's, another of the agent's, a peer's, another peer's, and of
/// a host that is no peer.
#[derive(Clone, Copy)]
struct Transport {
    agent: &'static str,
    other: &'static str,
    peer: &'static str,
    second: &'static str,
    stranger: &'static str,
}

const V4: Transport = Transport {
    agent: "10.15.0.1",
    other: "10.15.0.9",
    peer: "10.15.0.2",
    second: "10.15.0.3",
    stranger: "10.15.0.4",
};
const V6: Transport = Transport {
    agent: "fd15::1",
    other: "fd15::9",
    peer: "fd15::2",
    second: "fd15::3",
    stranger: "fd15::4",
};

/// A host for the agent and one for its peers, joined by a cable.
struct Field {
    host: Ns,
    far: Ns,
}

impl Field {
    fn new() -> Field {
        let lab = Lab::new();
        let (host, far) = (lab.namespace("host"), lab.namespace("far"));
        lab.link((&host, "eth0"), (&far, "eth0"));
        for (at, prefix) in [(V4, 24), (V6, 64)] {
            for address in [at.agent, at.other] {
                host.address("eth0", &format!("{address}/{prefix}"));
            }
            for address in [at.peer, at.second, at.stranger] {
                far.address("eth0", &format!("{address}/{prefix}"));
            }
        }
        Field { host, far }
    }
}

/// A group that asks these peers once a second: down after 0.9 s.
fn configuration(peers: &[&str], more: &str) -> String {
    format!(
        "[traps]\n\
         listen = [\"127.0.0.1:10162\"]\n\
         [subnets]\n\
         watch_gateways = false\n\
         [[peers.group]]\n\
         name = \"mobile\"\n\
         heartbeat = \"pmipv6\"\n\
         interval = \"1s\"\n\
         timeout = \"300ms\"\n\
         max_retransmissions = 3\n\
         peers = {peers:?}\n\
         {more}\n"
    )
}

/// A peer, and what it has got so far.
struct Peer {
    stdin: ChildStdin,
    told: Arc<Mutex<Vec<Value>>>,
    _process: Guard,
}

impl Peer {
    fn start(far: &Ns, own: &str, agent: &str) -> Peer {
        let python = repository("target/second-stack/bin/python");
        let mut command = far.command(python.to_str().expect("a plain path"));
        command.arg(repository("tests/mobility_peer.py")).args([own, agent]);
        let mut process = Guard::spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()));
        let stdin = process.0.stdin.take().expect("piped");
        let stdout = BufReader::new(process.0.stdout.take().expect("piped"));
        let told = Arc::new(Mutex::new(Vec::new()));
        let tell = told.clone();
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let value = serde_json::from_str(&line).expect("JSON on each line");
                tell.lock().expect("nobody panics with it").push(value);
            }
        });
        let peer = Peer { stdin, told, _process: process };
        wait_until("scapy to be loaded", LIMIT, || peer.count("ready") > 0);
        peer
    }

    /// Has it do something, and waits until it has.
    fn does(&mut self, command: &str) {
        let before = self.count("command");
        writeln!(self.stdin, "{command}").expect("it reads");
        wait_until(command, LIMIT, || self.count("command") > before);
    }

    /// All that it has got of a kind: `request`, `response`.
    fn got(&self, kind: &str) -> Vec<Value> {
        let told = self.told.lock().expect("nobody panics with it");
        told.iter().filter(|value| value["got"] == kind).cloned().collect()
    }

    fn count(&self, kind: &str) -> usize {
        self.got(kind).len()
    }

    /// Sends a request, and gives the answer.
    fn asks(&mut self, sequence: u32) -> Value {
        self.does(&format!("request {sequence}"));
        let answer =
            || self.got("response").into_iter().find(|response| response["sequence"] == sequence);
        wait_until("an answer", LIMIT, || answer().is_some());
        answer().expect("it was there")
    }
}

/// How many peers stand like this.
fn peers(agent: &Agent<'_>, state: &str) -> f64 {
    agent.metrics().sum("evenkeel_peers", &[("state", state)])
}

fn wait_for_peers(agent: &Agent<'_>, count: f64, state: &str) {
    let what = format!("{count} peers to be {state}");
    wait_until(&what, LIMIT, || peers(agent, state) == count);
}

fn discarded(agent: &Agent<'_>, reason: &str) -> f64 {
    agent.metrics().sum("evenkeel_peers_answers_discarded_total", &[("reason", reason)])
}

/// The rows of the journal about peers, as `raise peer_down`.
fn rows(agent: &Agent<'_>) -> Vec<String> {
    let ours = |row: &Row| row.kind.starts_with("peer_");
    let journal = agent.journal().into_iter().filter(ours);
    journal.map(|row| format!("{} {}", row.event, row.kind)).collect()
}

#[test]
fn peer_15_tshark_decodes_every_message_without_complaint() {
    let field = Field::new();
    let capture = Capture::start(&field.host, "eth0", "ip6 proto 135 or udp port 5436");
    let mut peers: Vec<(Transport, Peer)> =
        [V4, V6].map(|at| (at, Peer::start(&field.far, at.peer, at.agent))).into();
    let agent = Agent::start(&field.host, &configuration(&[V4.peer, V6.peer], ""));
    wait_for_peers(&agent, 2.0, "alive");
    for (_, peer) in &mut peers {
        peer.asks(77);
        wait_until("three requests", LIMIT, || peer.count("request") >= 3);
    }
    drop(agent);

    let fields = [
        "ip.src",
        "ipv6.src",
        "udp.srcport",
        "udp.dstport",
        "mip6.proto",
        "mip6.hlen",
        "mip6.mhtype",
        "mip6.hb.u_flag",
        "mip6.hb.r_flag",
        "mip6.rc",
        "mip6.csum",
        "_ws.expert.message",
        "_ws.malformed",
        "mip6.hb.seqnr",
    ];
    // The checksum of UDP is the kernel's, which on a veth leaves it to nobody to fill in.
    let frames = capture.fields(&[], &fields);
    for at in [V4, V6] {
        let v4 = at.agent == V4.agent;
        let ours: Vec<Vec<&str>> = frames
            .iter()
            .map(|line| line.split('\t').collect::<Vec<_>>())
            // Where it was not told, the kernel takes which address it likes.
            .filter(|frame| [at.agent, at.other].iter().any(|our| frame[..2].contains(our)))
            .collect();
        let mut sequences = Vec::new();
        let mut answers = 0;
        for frame in &ours {
            let &[
                ..,
                source_port,
                port,
                proto,
                len,
                kind,
                u,
                r,
                counter,
                csum,
                expert,
                bad,
                sequence,
            ] = frame.as_slice()
            else {
                panic!("{frame:?}")
            };
            assert_eq!([source_port, port], [if v4 { "5436" } else { "" }; 2], "{frame:?}");
            assert_eq!([proto, kind, u], ["59", "13", "0"], "{frame:?}");
            assert_eq!(csum == "0x0000", v4, "{frame:?}");
            assert_eq!([expert, bad], ["", ""], "{frame:?}");
            if r == "0" {
                assert_eq!([len, counter], ["1", ""], "{frame:?}");
                sequences.push(sequence.parse::<u32>().expect("a number"));
            } else {
                // The first start of this agent.
                assert_eq!([len, counter, sequence], ["2", "1", "77"], "{frame:?}");
                answers += 1;
            }
        }
        assert_eq!(answers, 1, "{frames:#?}");
        assert!(sequences.len() >= 3, "{frames:#?}");
        let grows = sequences.windows(2).all(|pair| pair[1] == pair[0].wrapping_add(1));
        assert!(grows, "{sequences:?}");
    }
    // And scapy has computed the checksums of the Mobility Header itself.
    for (_, peer) in &peers {
        for message in [peer.got("request"), peer.got("response")].concat() {
            assert_eq!((&message["checksum"], &message["whole"]), (&true.into(), &true.into()));
            assert_eq!((&message["type"], &message["unsolicited"]), (&13.into(), &false.into()));
        }
    }
}

#[test]
fn peer_15_a_changed_restart_counter_is_told_once() {
    let field = Field::new();
    for at in [V4, V6] {
        let mut peer = Peer::start(&field.far, at.peer, at.agent);
        peer.does("counter 5");
        let agent = Agent::start(&field.host, &configuration(&[at.peer], ""));
        wait_for_peers(&agent, 1.0, "alive");
        let two_more = |peer: &Peer| {
            let now = peer.count("request");
            wait_until("two more heartbeats", LIMIT, || peer.count("request") >= now + 2);
        };
        two_more(&peer);
        assert_eq!(rows(&agent), Vec::<String>::new(), "the first is only remembered");
        // It has restarted, and says so with its next answer.
        peer.does("counter 6");
        two_more(&peer);
        two_more(&peer);
        assert_eq!(rows(&agent), ["raise peer_restarted"]);
        // It has again, and says so at once, and then with each answer.
        peer.does("counter 7");
        peer.does("unsolicited");
        peer.does("unsolicited");
        two_more(&peer);
        two_more(&peer);
        assert_eq!(rows(&agent), ["raise peer_restarted", "raise peer_restarted"]);
        // Answers without a counter say nothing of it.
        peer.does("counter none");
        two_more(&peer);
        assert_eq!(peers(&agent, "alive"), 1.0);
        assert_eq!(rows(&agent).len(), 2);
        let restarts = [("group", "mobile"), ("reason", "restart")];
        let counted = agent.metrics().sum("evenkeel_peers_path_failures_total", &restarts);
        assert_eq!(counted, 2.0);
    }
}

#[test]
fn peer_11_answers_that_are_wrong_count_by_reason_and_change_nothing() {
    let field = Field::new();
    for at in [V4, V6] {
        let mut peer = Peer::start(&field.far, at.peer, at.agent);
        let agent = Agent::start(&field.host, &configuration(&[at.peer], ""));
        wait_for_peers(&agent, 1.0, "alive");
        let mut spoils = vec![("sequence", "not_outstanding"), ("short", "truncated")];
        // Over UDP the kernel has looked at the only checksum that there is.
        if at.agent == V6.agent {
            spoils.push(("checksum", "bad_checksum"));
        }
        for (spoil, reason) in spoils {
            let before = discarded(&agent, reason);
            peer.does(&format!("spoil {spoil}"));
            wait_for_peers(&agent, 1.0, "down");
            assert!(discarded(&agent, reason) >= before + 3.0, "{spoil}");
            // Down or not, it is answered: it may be ours that are lost.
            assert_eq!(peer.asks(before as u32 + 500)["counter"], 1, "{spoil}");
            peer.does("spoil nothing");
            wait_for_peers(&agent, 1.0, "alive");
        }
        // None of it was held against this host (PEER-12).
        let inconclusive = agent.metrics().sum("evenkeel_peers_inconclusive_total", &[]);
        assert_eq!(inconclusive, 0.0);
    }
}

#[test]
fn peer_15_every_configured_peer_is_answered_and_nobody_else() {
    let field = Field::new();
    for at in [V4, V6] {
        let disabled = format!("disabled = [{:?}]", at.second);
        let source = format!("{disabled}\nsource = [{:?}]", at.other);
        let mut peer = Peer::start(&field.far, at.peer, at.agent);
        let mut second = Peer::start(&field.far, at.second, at.agent);
        let mut stranger = Peer::start(&field.far, at.stranger, at.agent);
        let both = [at.peer, at.second];
        let mut agent = Agent::start(&field.host, &configuration(&both, &source));
        wait_for_peers(&agent, 1.0, "alive");
        wait_for_peers(&agent, 1.0, "disabled");

        // Requests come from the configured address, answers from the one that was asked.
        assert_eq!(peer.got("request")[0]["source"], at.other);
        assert_eq!(peer.asks(1)["source"], at.agent);
        // One that is disabled is answered, and not asked.
        assert_eq!(second.asks(2)["counter"], 1);
        assert_eq!(second.count("request"), 0);
        let before = discarded(&agent, "unknown_peer");
        stranger.does("request 3");
        wait_until("it to be counted", LIMIT, || discarded(&agent, "unknown_peer") > before);
        assert_eq!(stranger.count("response"), 0);

        // Our own counter grows with each start, in order or not (RFC 5847, 3.4).
        agent.restart();
        assert_eq!(second.asks(4)["counter"], 2);
        agent.kill9();
        agent.launch();
        assert_eq!(second.asks(5)["counter"], 3);
    }
}

#[test]
fn peer_15_a_binding_error_ends_heartbeats_without_an_alarm() {
    let field = Field::new();
    for at in [V4, V6] {
        let mut peer = Peer::start(&field.far, at.peer, at.agent);
        let agent = Agent::start(&field.host, &configuration(&[at.peer], ""));
        wait_for_peers(&agent, 1.0, "alive");
        // Another error is about something else.
        peer.does("error 1");
        let before = peer.count("request");
        wait_until("it to be asked on", LIMIT, || peer.count("request") >= before + 2);
        peer.does("answer no");
        peer.does("error 2");
        wait_for_peers(&agent, 1.0, "unsupported");
        let before = peer.count("request");
        // Three intervals.
        thread::sleep(Duration::from_secs(3));
        assert_eq!(peer.count("request"), before);
        assert_eq!(rows(&agent), Vec::<String>::new());
        assert_eq!(peer.asks(9)["sequence"], 9);
    }
}

#[test]
fn peer_15_a_port_that_is_taken_is_told_and_nobody_is_down_for_it() {
    let field = Field::new();
    let taken = field.host.inside(|| std::net::UdpSocket::bind("0.0.0.0:5436").expect("free"));
    let mut peer = Peer::start(&field.far, V4.peer, V4.agent);
    let agent = Agent::start(&field.host, &configuration(&[V4.peer], ""));
    let failed = [("reason", "send_failed")];
    wait_until("requests to fail", LIMIT, || {
        agent.metrics().sum("evenkeel_peers_inconclusive_total", &failed) >= 4.0
    });
    assert!(agent.log().contains("UDP port 5436 is in use"), "{}", agent.log());
    assert_eq!((peers(&agent, "down"), rows(&agent)), (0.0, Vec::new()));
    // It is tried for again.
    drop(taken);
    wait_for_peers(&agent, 1.0, "alive");
    assert_eq!(peer.asks(1)["counter"], 1);
}

#[test]
fn peer_15_what_scapy_builds_is_what_the_peer_says() {
    // The peer's own messages, as tshark reads them: a test of the tests.
    let field = Field::new();
    let capture = Capture::start(&field.far, "eth0", "ip6 proto 135 or udp port 5436");
    for at in [V4, V6] {
        let mut peer = Peer::start(&field.far, at.peer, at.agent);
        for command in ["counter 9", "request 1", "unsolicited", "error 2"] {
            peer.does(command);
        }
    }
    let fields = [
        "mip6.mhtype",
        "mip6.hb.u_flag",
        "mip6.hb.r_flag",
        "mip6.rc",
        "mip6.be.status",
        "_ws.malformed",
    ];
    let frames = capture.fields(&[], &fields);
    let expected = ["13\t0\t0\t\t\t", "13\t1\t1\t9\t\t", "7\t\t\t\t2\t"];
    assert_eq!(frames, [expected, expected].concat());
}
