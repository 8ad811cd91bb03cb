//! The tests' own tools, tested: what they are blind to would make every other test green.

use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, UdpSocket},
    process::Command,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::common::{
    Device, Lab, Nms, Ns, Row, Sink, Trap, check, expect,
    field::{self, Field, Loss},
    output,
    stack::{self, NetSnmp, User},
    truth::{EARLY, Failure, Rule, Truth, Try},
    tshark::Capture,
    wait_until, wire,
};

/// Sends a raise of our MIB by net-snmp, with an id and an object.
fn raise(command: &mut Command, to: &str, id: &str, object: &str) {
    const ROOT: &str = ".1.3.6.1.4.1.8072.9999.9999.1904";
    let name = |number: u32| format!("{ROOT}.1.{number}.0");
    command.env("MIBS", "").args(["-v", "2c", "-c", "public", to, "100"]);
    command.arg(format!("{ROOT}.0.1")).args([&name(1), "s", id, &name(2), "i", "2"]);
    output(command.args([&name(7), "s", object]));
}

#[test]
fn snmptrapd_prints_our_notifications_by_name_and_a_timeline_sees_them() {
    let lab = Lab::new();
    let ns = lab.namespace("nms");
    let nms = Nms::start(&ns, "udp:127.0.0.1:11162");
    // A trap of a device is no notification of ours.
    Device::new(&ns, "127.0.0.9", "127.0.0.1:11162").v1(Trap::LinkDown(4));
    let start = Instant::now();
    let object = "127.0.0.9 ifIndex 4";
    raise(&mut ns.command("snmptrap"), "127.0.0.1:11162", "0123456789abcdef", object);
    let what = "raised interface_unstable 127.0.0.9 ifIndex 4";
    let told =
        check(start, &[expect(what, start, Instant::now())], Duration::ZERO, || nms.alarms());
    assert_eq!(told[0].value("evenkeelAlarmId"), "0123456789abcdef");
    assert_eq!(told[0].summary(), what);
    let late = expect(what, start + Duration::from_secs(1), start + Duration::from_secs(1));
    let other = expect("raised interface_down 127.0.0.9", start, start);
    for wrong in [vec![], vec![late], vec![other]] {
        let result = std::panic::catch_unwind(|| {
            check(start, &wrong, Duration::ZERO, || told.clone());
        });
        assert!(result.is_err(), "a timeline was content with {wrong:?}");
    }
}

#[test]
fn the_sink_reads_ids_from_real_notifications() {
    let lab = Lab::new();
    let ns = lab.namespace("sink");
    let sink = Sink::start(&ns, "127.0.0.1:11162".parse().expect("a constant"));
    Device::new(&ns, "127.0.0.9", "127.0.0.1:11162").v2c(Trap::ColdStart);
    raise(&mut ns.command("snmptrap"), "127.0.0.1:11162", "0123456789abcdef", "x");
    wait_until("one", Duration::from_secs(20), || !sink.received().is_empty());
    let one = wire::Told { trap: 1, id: "0123456789abcdef".to_owned() };
    assert_eq!(sink.received(), [one]);
}

#[test]
fn net_snmp_reads_the_traps_that_are_written_by_hand() {
    let lab = Lab::new();
    let ns = lab.namespace("wire");
    let nms = Nms::start(&ns, "udp:127.0.0.1:11162");
    let socket: UdpSocket = ns.inside(|| UdpSocket::bind("127.0.1.7:0")).expect("loopback");
    for (trap, uptime) in [(Trap::LinkDown(300), 1000), (Trap::WarmStart, 0xffff_ff80)] {
        let bytes = wire::v2c_trap(trap, 0x8000_0000, uptime);
        socket.send_to(&bytes, "127.0.0.1:11162").expect("loopback");
    }
    let traps = || -> Vec<String> {
        nms.lines().into_iter().filter(|line| line.contains("snmpTrapOID")).collect()
    };
    wait_until("both", Duration::from_secs(20), || traps().len() == 2);
    let traps = traps();
    assert!(traps[0].ends_with("IF-MIB::linkDown\tIF-MIB::ifIndex.300 = 300"), "{traps:?}");
    assert!(traps[1].ends_with("SNMPv2-MIB::warmStart"), "{traps:?}");
}

#[test]
fn a_port_of_a_switch_can_be_unplugged_blocked_and_deafened() {
    let lab = Lab::new();
    let switch = lab.switch("switch");
    let (one, other) = (lab.namespace("one"), lab.namespace("other"));
    let _port = switch.plug(&one, "eth0");
    let port = switch.plug(&other, "eth0");
    // A host may have several interfaces on one switch.
    let _second = switch.plug(&other, "eth1");
    one.address("eth0", "10.9.0.1/24");
    other.address("eth0", "10.9.0.2/24");
    other.nft(
        "table inet lab {
            counter heard { }
            chain in {
                type filter hook input priority 0;
                icmp type echo-reply counter name heard
            }
        }",
    );
    let link = || other.exec("ip -br link show eth0").contains("LOWER_UP");
    let heard = |ns: &Ns, address: &str| {
        let mut ping = ns.command("ping");
        ping.args(["-q", "-c", "1", "-W", "1", address]).output().expect("ping").status.success()
    };
    let mended = || {
        wait_until("an answer", Duration::from_secs(10), || heard(&other, "10.9.0.1"));
    };
    mended();

    port.block();
    assert!(link() && !heard(&one, "10.9.0.2") && !heard(&other, "10.9.0.1"));
    port.unblock();
    mended();

    // What it sends is heard, and what is sent to it is not.
    one.nft(
        "table inet lab {
            counter asked { }
            chain in {
                type filter hook input priority 0;
                icmp type echo-request counter name asked
            }
        }",
    );
    let before = other.counted("heard");
    port.deafen();
    assert!(link() && !heard(&other, "10.9.0.1"));
    assert_eq!((one.counted("asked"), other.counted("heard")), (1, before));
    port.undeafen();
    mended();

    port.unplug();
    assert!(!link() && !heard(&one, "10.9.0.2"));
    port.plug_in();
    mended();
    assert!(link());
}

#[test]
fn tshark_reads_what_net_snmp_encrypts_and_complains_of_an_altered_octet() {
    let lab = Lab::new();
    let ns = lab.namespace("tshark");
    let directory = TempDir::with_prefix("ek-snmp-").expect("a temporary directory");
    let net_snmp = NetSnmp::new(&ns, "127.0.0.1:11162", directory.path());
    let socket = ns.inside(|| UdpSocket::bind("127.0.0.1:11162")).expect("a free port");
    socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a time");
    let users = ["DES", "AES"].map(|privacy| User::new(Some("SHA-256"), Some(privacy)));
    let more = stack::AUTH.map(|auth| User::new(Some(auth), None));
    let users: Vec<User> = users.into_iter().chain(more).collect();

    let capture = Capture::start(&ns, "lo", "udp port 11162");
    let mut buffer = [0; 2048];
    let mut last = Vec::new();
    for user in &users {
        let result = net_snmp.trap(&user.options(), 4);
        assert!(result.status.success(), "{user:?}: {result:?}");
        let length = socket.recv(&mut buffer).expect("what was sent");
        last = buffer[..length].to_vec();
    }
    assert!(net_snmp.v1("127.0.0.9", 4).status.success());
    assert!(net_snmp.trap(&stack::v2c(), 4).status.success());
    *last.last_mut().expect("a message") ^= 1;
    ns.inside(|| UdpSocket::bind("127.0.0.1:0"))
        .and_then(|sender| sender.send_to(&last, "127.0.0.1:11162"))
        .expect("loopback");

    let frames = capture.decode(&[11162], &users);
    assert_eq!(frames.len(), users.len() + 3, "{frames:?}");
    let (altered, good) = frames.split_last().expect("frames");
    for frame in good {
        assert_eq!(frame.complaints, "", "{frame:?}");
        assert!(frame.names.contains("1.3.6.1.2.1.2.2.1.1.4"), "{frame:?}");
    }
    assert_ne!(altered.complaints, "", "{altered:?}");
}

#[test]
fn nftables_can_lose_exactly_three_replies() {
    let lab = Lab::new();
    let (host, gate) = (lab.namespace("host"), lab.namespace("gate"));
    lab.link((&host, "eth0"), (&gate, "eth0"));
    for (ns, number) in [(&host, 2), (&gate, 1)] {
        ns.address("eth0", &format!("10.9.0.{number}/24"));
        ns.address("eth0", &format!("fd00:9::{number}/64"));
    }
    host.nft(
        "table inet lab {
            counter lost { }
            chain in {
                type filter hook input priority 0;
                icmp type echo-reply limit rate 1/day burst 3 packets counter name lost drop
                icmpv6 type echo-reply limit rate 1/day burst 3 packets counter name lost drop
            }
        }",
    );
    for address in ["10.9.0.1", "fd00:9::1"] {
        let text = host.exec(&format!("ping -c 5 -i 0.2 -W 1 {address}"));
        assert!(text.contains("5 packets transmitted, 2 received"), "{text}");
    }
    assert_eq!(host.counted("lost"), 6);
}

/// Asks peers with fping, which was written by others: each three times. Gives how often each answered.
fn fping(host: &Ns, peers: &[IpAddr]) -> BTreeMap<IpAddr, usize> {
    let directory = TempDir::with_prefix("ek-fping-").expect("a temporary directory");
    let list = directory.path().join("list");
    let lines: Vec<String> = peers.iter().map(IpAddr::to_string).collect();
    fs::write(&list, lines.join("\n")).expect("a writable directory");
    let mut command = host.command("fping");
    command.args(["-q", "-C", "3", "-i", "0.2", "-p", "250", "-t", "250", "-f"]).arg(&list);
    // It ends with 1 where anybody did not answer.
    let result = command.output().expect("fping is installed by tests/setup");
    let text = String::from_utf8_lossy(&result.stderr);
    let line = |line: &str| -> Option<(IpAddr, usize)> {
        let (peer, times) = line.split_once(" : ")?;
        let answered = times.split_whitespace().filter(|time| *time != "-").count();
        Some((peer.trim().parse().ok()?, answered))
    };
    text.lines().filter_map(line).collect()
}

#[test]
fn the_log_of_a_field_and_fping_agree_on_who_answered_whatever_is_lost() {
    let lab = Lab::new();
    let host = lab.namespace("host");
    let field = Field::routed(&lab, &host);
    let peers: Vec<IpAddr> = field::v4(0, 500).chain(field::v6(0, 500)).collect();
    let losses = [
        (Loss::Nothing, 3000..=3000),
        (Loss::TenthOfPackets, 2500..=2900),
        (Loss::TenthOfPeers, 2500..=2900),
        (Loss::To("10.1.1.0/24, 10.1.0.1-10.1.0.10"), 3000 - 3 * 254..=3000 - 3 * 254),
        (Loss::All, 0..=0),
    ];
    for (loss, answers) in losses {
        field.lose(loss);
        let log = field.log();
        let heard = fping(&host, &peers);
        let truth = log.end();
        assert_eq!(truth.requests(), 3000, "{loss:?}");
        let answered =
            |tries: &Vec<Try>| tries.iter().filter(|asked| asked.answered.is_some()).count();
        let said: BTreeMap<IpAddr, usize> =
            truth.peers.iter().map(|(&peer, tries)| (peer, answered(tries))).collect();
        assert_eq!(said, heard, "{loss:?}");
        let total: usize = said.values().sum();
        assert!(answers.contains(&total), "{loss:?}: {total} answers");
    }
}

#[test]
fn a_field_holds_answers_and_lets_them_go_at_once() {
    let lab = Lab::new();
    let host = lab.namespace("host");
    let field = Field::routed(&lab, &host);
    let log = field.log();
    field.hold_answers(true);
    // Three times 250 ms: the field gives up after a second.
    let heard = fping(&host, &field::v4(0, 2).collect::<Vec<_>>());
    field.hold_answers(false);
    let tries: Vec<Try> = log.end().peers.into_values().flatten().collect();
    assert_eq!((tries.len(), heard.into_values().collect()), (6, vec![0, 0]));
    let answers: Vec<_> =
        tries.iter().map(|asked| asked.answered.expect("held, not lost")).collect();
    let last_asked = tries.iter().map(|asked| asked.at).max().expect("six");
    let (first, last) = (answers.iter().min().expect("six"), answers.iter().max().expect("six"));
    assert!(*first > last_asked && *last - *first < Duration::from_millis(50), "{tries:?}");
}

#[test]
fn a_field_can_be_unplugged_and_plugged_in_again() {
    let lab = Lab::new();
    let host = lab.namespace("host");
    let field = Field::routed(&lab, &host);
    let peers: Vec<IpAddr> = field::v4(0, 2).chain(field::v6(0, 2)).collect();
    for (plugged, answers) in [(true, 3), (false, 0), (true, 3)] {
        field.plug(plugged);
        // The kernel takes a second to believe in a link.
        wait_until(&format!("{answers} answers"), Duration::from_secs(10), || {
            fping(&host, &peers).into_values().all(|answered| answered == answers)
        });
    }
}

/// Tries at these seconds; a `!` behind one says that it was answered, at once.
fn tries(text: &str) -> Vec<Try> {
    let of = |word: &str| {
        let at = Duration::from_secs(1000 + word.trim_end_matches('!').parse::<u64>().expect("s"));
        Try { at, answered: word.ends_with('!').then_some(at), ..Try::default() }
    };
    text.split_whitespace().map(of).collect()
}

/// What a journal says of one peer: `+12 -60` is down at 12 s and cleared at 60 s.
fn rows(text: &str) -> Vec<Row> {
    let row = |word: &str| Row {
        at: Duration::from_secs(1000 + word[1..].parse::<u64>().expect("seconds")),
        event: if word.starts_with('+') { "raise" } else { "clear" }.to_owned(),
        reason: String::new(),
        id: String::new(),
        kind: "peer_down".to_owned(),
        object: "10.1.0.0".to_owned(),
        text: String::new(),
    };
    text.split_whitespace().map(row).collect()
}

#[test]
fn a_truth_knows_who_was_down_and_is_content_with_no_other_journal() {
    let rule = Rule { timeout: Duration::from_secs(3), max: 3, early: EARLY };
    let peer: IpAddr = "10.1.0.0".parse().expect("an address");
    // What was asked and answered; what a journal must then say; what it must not.
    let table = [
        ("0! 60! 120!", "", vec!["+129", "+9", "+9 -60"]),
        ("0! 60 63 66! 120!", "", vec!["+69", "+69 -120"]),
        ("0! 60 63 66 120!", "+69 -120", vec!["", "+69", "+69 -66", "+66 -120", "+73 -120"]),
        ("0 3 6 60 120!", "+9 -120", vec!["+9 -60", "+9", "+69 -120"]),
        ("0! 60 63 66 120 180", "+69", vec!["", "+69 -120", "+69 -180", "+129"]),
        ("0 3 6 10! 20 23 26 30!", "+9 -10 +29 -30", vec!["+9 -30", "+9 -10", "+29 -30"]),
        // Not yet due when the log ends, or hardly: it may be told or not.
        ("0! 195 198", "", vec!["+198"]),
        ("0! 190 193 196", "+199", vec!["+195"]),
    ];
    for (asked, right, wrong) in table {
        let peers = BTreeMap::from([(peer, tries(asked))]);
        let truth = Truth { peers, end: Duration::from_secs(1200) };
        truth.agrees(rule, &rows(right));
        for wrong in wrong {
            let content = std::panic::catch_unwind(|| truth.agrees(rule, &rows(wrong))).is_ok();
            assert!(!content, "{asked}: content with {wrong}");
        }
    }
    let peers = BTreeMap::from([(peer, tries("0! 60 63 66 120!"))]);
    let [failure] = &Truth { peers, end: Duration::from_secs(1200) }.failures(rule)[..] else {
        panic!("not one failure");
    };
    let s = Duration::from_secs;
    let expected = Failure {
        peer,
        first: s(1060),
        due: s(1069),
        back: Some(s(1120)),
        tries: vec![s(0), s(3), s(6)],
    };
    assert_eq!(*failure, expected);
}
