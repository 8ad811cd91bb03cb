//! The tests' own tools, tested: what they are blind to would make every other test green.

use std::{
    net::UdpSocket,
    process::Command,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::common::{
    Device, Lab, Nms, Sink, Trap, check, expect, output,
    stack::{self, NetSnmp, User},
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
