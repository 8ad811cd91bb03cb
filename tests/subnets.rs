//! The IP monitor, against real kernels: cables between namespaces, and nftables for the faults.
//!
//! A rule `limit rate 1/day burst N packets drop` drops exactly the next N echo replies: the
//! bucket starts full and gains one in a day.

mod gateways;
mod peers;

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::common::{Agent, Expected, Lab, Nms, Ns, check, expect, wait_until};

/// The poll interval of all these tests.
const POLL: Duration = Duration::from_secs(1);

/// How long nothing more must come after what was expected.
const QUIET: Duration = Duration::from_secs(2);

/// A configuration that polls these targets, given as pairs of prefix and address.
fn configuration(targets: &[(&str, &str)]) -> String {
    let subnet = |(prefix, target): &(&str, &str)| {
        format!("[[subnets.subnet]]\nprefix = \"{prefix}\"\npolling_targets = [\"{target}\"]\n")
    };
    with_subnets(&targets.iter().map(subnet).collect::<String>())
}

/// A configuration with these tables of subnets.
fn with_subnets(tables: &str) -> String {
    let head = r#"
[traps]
listen = ["127.0.0.1:10162"]

[[notifications.target]]
name = "nms"
address = "127.0.0.1:11162"
community = "public"

[subnets]
poll_interval = "1s"
in_a_row = 4
watch_gateways = false
"#;
    format!("{head}{tables}")
}

/// An NMS and an agent with this many flows, all of them up.
fn start<'a>(host: &'a Ns, targets: &[(&str, &str)]) -> (Nms<'a>, Agent<'a>) {
    start_with(host, &configuration(targets), targets.len())
}

/// The same with any configuration, and this many flows.
fn start_with<'a>(host: &'a Ns, configuration: &str, flows: usize) -> (Nms<'a>, Agent<'a>) {
    let nms = Nms::start(host, "udp:127.0.0.1:11162");
    let agent = Agent::start(host, configuration);
    all_up(&agent, flows);
    (nms, agent)
}

/// Waits until this many flows are up.
fn all_up(agent: &Agent<'_>, flows: usize) {
    wait_until("every flow to be up", Duration::from_secs(15), || {
        agent.metrics().sum("evenkeel_flow_up", &[]) == flows as f64
    });
}

/// How much later a fault may be found, as the agent stood still on a busy machine: it tells of each
/// such stall, and each costs a poll, which counts neither as missed nor as answered (spec, "Time").
fn late(agent: &Agent<'_>) -> Duration {
    POLL.mul_f64(agent.metrics().sum("evenkeel_stalls_total", &[]))
}

/// Does something, and gives a moment before it began and one after it was done.
fn during(what: impl FnOnce()) -> (Instant, Instant) {
    let before = Instant::now();
    what();
    (before, Instant::now())
}

/// What is told of a subnet from which nothing was heard any more since a moment within `cut`: the first
/// poll that is lost leaves within one interval, and the fourth is overdue four later (SUBN-3).
fn down(subnet: &str, cut: (Instant, Instant), late: Duration) -> Vec<Expected> {
    told_of("raised", subnet, cut.0 + 4 * POLL, cut.1 + 5 * POLL + late)
}

/// What is told of a subnet that carries packets again since a moment within `mended`. Mostly the first
/// poll that is answered leaves after it; but one that left before may have waited in this host for the
/// address of the neighbour (RFC 826, RFC 4861), and is answered in time as well.
fn up_again(subnet: &str, mended: (Instant, Instant), late: Duration) -> Vec<Expected> {
    told_of("cleared", subnet, mended.0 + 2 * POLL, mended.1 + 4 * POLL + late)
}

/// The two alarms of a subnet with one interface.
fn told_of(event: &str, subnet: &str, earliest: Instant, latest: Instant) -> Vec<Expected> {
    ["interface_ip_down", "subnet_down"]
        .map(|kind| expect(&format!("{event} {kind} {subnet}"), earliest, latest))
        .into()
}

/// Pings, from the other side, until an answer comes: then packets go both ways again.
fn heard_by(neighbour: &Ns, address: &str) {
    neighbour.exec(&format!("ping -c 1 -w 10 {address}"));
}

/// Makes the host lose exactly the next `count` echo replies of each family.
fn lose_replies(host: &Ns, count: u32) {
    host.nft(&format!(
        "table inet lab {{
            counter v4 {{ }}
            counter v6 {{ }}
            chain in {{
                type filter hook input priority 0;
                icmp type echo-reply limit rate 1/day burst {count} packets counter name v4 drop
                icmpv6 type echo-reply limit rate 1/day burst {count} packets counter name v6 drop
            }}
        }}"
    ));
}

/// Makes the host lose every echo reply from now on.
fn lose_all_replies(host: &Ns) {
    host.nft(
        "table inet lab {
            chain in {
                type filter hook input priority 0;
                icmp type echo-reply drop
            }
        }",
    );
}

/// Waits until a counter stands at `count`; gives a moment before it got there, and one after.
fn reached(host: &Ns, counter: &str, count: u64) -> (Instant, Instant) {
    let until = Instant::now() + POLL * 10;
    let mut before = Instant::now();
    loop {
        let asked = Instant::now();
        if host.counted(counter) == count {
            return (before, Instant::now());
        }
        before = asked;
        assert!(asked < until, "{counter} did not come to {count}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// What a fault of one subnet tells, from the moment of the fourth loss: down when its reply is
/// overdue, up again at the fourth answer after it.
fn down_and_up(subnet: &str, fourth: (Instant, Instant)) -> Vec<Expected> {
    let (before, after) = fourth;
    let mut expected = Vec::new();
    for kind in ["interface_ip_down", "subnet_down"] {
        expected.push(expect(&format!("raised {kind} {subnet}"), before, after + POLL));
        let answers = 4 * POLL;
        expected.push(expect(
            &format!("cleared {kind} {subnet}"),
            before + answers,
            after + answers,
        ));
    }
    expected
}

#[test]
fn subn_3_three_lost_replies_are_nothing_and_four_are_a_fault_for_ipv4_and_ipv6() {
    let lab = Lab::new();
    let (host, gate) = (lab.namespace("host"), lab.namespace("gate"));
    lab.link((&host, "eth0"), (&gate, "eth0"));
    host.address("eth0", "10.9.0.2/24");
    host.address("eth0", "fd00:9::2/64");
    gate.address("eth0", "10.9.0.1/24");
    gate.address("eth0", "fd00:9::1/64");
    let (nms, agent) = start(&host, &[("10.9.0.0/24", "10.9.0.1"), ("fd00:9::/64", "fd00:9::1")]);

    let start = Instant::now();
    lose_replies(&host, 3);
    for counter in ["v4", "v6"] {
        reached(&host, counter, 3);
    }
    check(start, &[], 2 * POLL + QUIET, || nms.alarms());
    for counter in ["v4", "v6"] {
        assert_eq!(host.counted(counter), 3, "not exactly three replies were lost");
    }
    host.exec("nft delete table inet lab");

    lose_replies(&host, 4);
    let four = thread::scope(|scope| {
        let v6 = scope.spawn(|| reached(&host, "v6", 4));
        (reached(&host, "v4", 4), v6.join().expect("no panic"))
    });
    let mut expected = down_and_up("10.9.0.0/24", four.0);
    expected.extend(down_and_up("fd00:9::/64", four.1));
    let told = check(start, &expected, QUIET, || nms.alarms());
    for counter in ["v4", "v6"] {
        assert_eq!(host.counted(counter), 4, "not exactly four replies were lost");
    }

    // One id from raise to clear, and none twice.
    for raised in told.iter().filter(|told| told.name == "evenkeelAlarmRaised") {
        let id = raised.value("evenkeelAlarmId");
        let same = told.iter().filter(|other| other.value("evenkeelAlarmId") == id).count();
        assert_eq!(same, 2, "{id}");
    }
    assert_eq!(agent.metrics().sum("evenkeel_subnet_up", &[]), 2.0);
}

#[test]
fn a_one_way_fault_is_a_fault_though_the_neighbour_still_reaches_us_subn_6_subn_7() {
    let lab = Lab::new();
    let (host, gate) = (lab.namespace("host"), lab.namespace("gate"));
    lab.link((&host, "eth0"), (&gate, "eth0"));
    host.address("eth0", "10.9.0.2/24");
    gate.address("eth0", "10.9.0.1/24");
    let (nms, agent) = start(&host, &[("10.9.0.0/24", "10.9.0.1")]);

    let begin = Instant::now();
    gate.nft(
        "table inet lab {
            chain outward {
                type filter hook input priority 0;
                icmp type echo-request drop
            }
        }",
    );
    let broken = Instant::now();
    thread::sleep(8 * POLL);
    gate.exec("ping -c 1 -W 1 10.9.0.2");
    let healing = Instant::now();
    gate.exec("nft delete table inet lab");
    let healed = Instant::now();
    thread::sleep(6 * POLL);
    let late = late(&agent);

    // The first poll that is lost leaves within one interval, and the fourth is judged four later.
    let subnet = "10.9.0.0/24";
    let mut expected = Vec::new();
    for kind in ["interface_ip_down", "subnet_down"] {
        let raised = format!("raised {kind} {subnet}");
        expected.push(expect(&raised, begin + 4 * POLL, broken + 5 * POLL + late));
        let cleared = format!("cleared {kind} {subnet}");
        expected.push(expect(&cleared, healing + 3 * POLL, healed + 4 * POLL + late));
    }
    check(begin, &expected, QUIET, || nms.alarms());
}

#[test]
fn subn_2_an_echo_leaves_by_its_own_interface_though_another_route_would_get_there() {
    let lab = Lab::new();
    let (host, gate) = (lab.namespace("host"), lab.namespace("gate"));
    for (interface, subnet) in [("eth0", "10.9.0"), ("eth1", "10.9.1")] {
        lab.link((&host, interface), (&gate, interface));
        host.address(interface, &format!("{subnet}.2/24"));
        gate.address(interface, &format!("{subnet}.1/24"));
    }
    // The more specific route, which a plain ping would take.
    host.exec("ip route add 10.9.0.1/32 via 10.9.1.1 dev eth1");
    gate.nft(
        "table inet lab {
            counter right { }
            counter wrong { }
            chain count {
                type filter hook input priority 0;
                iifname eth0 icmp type echo-request counter name right
                iifname eth1 icmp type echo-request counter name wrong
            }
            chain fault { type filter hook input priority 1; }
        }",
    );
    host.exec("ping -c 1 -W 2 10.9.0.1");
    assert_eq!(gate.counted("wrong"), 1, "the other route does not work, so this proves nothing");

    let (nms, agent) = start(&host, &[("10.9.0.0/24", "10.9.0.1")]);
    assert!(gate.counted("right") >= 4);
    assert_eq!(gate.counted("wrong"), 1, "an echo left by the wrong interface");

    // A fault in one direction only, on that cable only: the answers would come, and a ping by
    // the other route still works.
    let start = Instant::now();
    gate.nft("add rule inet lab fault iifname eth0 icmp type echo-request counter drop");
    host.exec("ping -c 1 -W 2 10.9.0.1");
    let raise = |kind: &str| {
        // The first poll after the cut may come at once or an interval later; the fourth is
        // overdue four intervals after the first.
        let latest = start + 5 * POLL + late(&agent);
        expect(&format!("raised {kind} 10.9.0.0/24"), start + 4 * POLL, latest)
    };
    thread::sleep(6 * POLL);
    let raised = || vec![raise("interface_ip_down"), raise("subnet_down")];
    check(start, &raised(), Duration::ZERO, || nms.alarms());

    let mended = Instant::now();
    gate.exec("nft flush chain inet lab fault");
    thread::sleep(5 * POLL);
    let mut expected = raised();
    for kind in ["interface_ip_down", "subnet_down"] {
        let what = format!("cleared {kind} 10.9.0.0/24");
        expected.push(expect(&what, mended + 3 * POLL, mended + 4 * POLL + late(&agent)));
    }
    check(start, &expected, QUIET, || nms.alarms());
    assert_eq!(gate.counted("wrong"), 2, "an echo left by the wrong interface");
    drop(agent);
}

#[test]
fn a_stall_of_ten_seconds_raises_nothing() {
    // Spec, "Time": the agent's own stall is not evidence against anyone else.
    let lab = Lab::new();
    let (host, gate) = (lab.namespace("host"), lab.namespace("gate"));
    lab.link((&host, "eth0"), (&gate, "eth0"));
    host.address("eth0", "10.9.0.2/24");
    gate.address("eth0", "10.9.0.1/24");
    let (nms, agent) = start(&host, &[("10.9.0.0/24", "10.9.0.1")]);

    agent.signal(libc::SIGSTOP);
    thread::sleep(Duration::from_secs(10));
    agent.signal(libc::SIGCONT);
    check(Instant::now(), &[], 6 * POLL, || nms.alarms());
    all_up(&agent, 1);

    // And it has not gone deaf: a true fault is found as ever.
    let start = Instant::now();
    lose_all_replies(&host);
    let raise = |kind: &str| {
        // The first echo whose reply is lost may have left just before the cut.
        expect(
            &format!("raised {kind} 10.9.0.0/24"),
            start + 4 * POLL - POLL / 10,
            start + 5 * POLL,
        )
    };
    check(start, &[raise("interface_ip_down"), raise("subnet_down")], QUIET, || nms.alarms());
}

#[test]
fn subn_12_an_address_that_is_removed_and_comes_back_leaves_no_alarm_behind() {
    let lab = Lab::new();
    let (host, gate) = (lab.namespace("host"), lab.namespace("gate"));
    lab.link((&host, "eth0"), (&gate, "eth0"));
    host.address("eth0", "10.9.0.2/24");
    gate.address("eth0", "10.9.0.1/24");
    let (nms, agent) = start(&host, &[("10.9.0.0/24", "10.9.0.1")]);

    host.exec("ip addr del 10.9.0.2/24 dev eth0");
    wait_until("the flow to go", Duration::from_secs(20), || {
        agent.metrics().sum("evenkeel_flow_up", &[]) == 0.0
    });
    thread::sleep(6 * POLL);
    // The interface does not carry the subnet any more, so it can't be down on it.
    assert!(nms.alarms_of("interface_ip_down").is_empty(), "{:?}", nms.alarms());

    host.address("eth0", "10.9.0.2/24");
    all_up(&agent, 1);
    wait_until("all to be well", Duration::from_secs(20), || {
        agent.metrics().sum("evenkeel_alarms_active", &[]) == 0.0
    });
    thread::sleep(QUIET);
    let told = nms.alarms();
    let raised = told.iter().filter(|told| told.name == "evenkeelAlarmRaised").count();
    assert_eq!(raised * 2, told.len(), "{told:?}");

    // An address that goes while its interface is down takes the alarm with it.
    lose_all_replies(&host);
    wait_until("the fault to be seen", Duration::from_secs(10), || {
        nms.alarms_of("interface_ip_down").len() == 1
    });
    host.exec("ip addr del 10.9.0.2/24 dev eth0");
    wait_until("the alarm to go", Duration::from_secs(20), || {
        nms.alarms_of("interface_ip_down").len() == 2
    });
    let last = nms.alarms_of("interface_ip_down").pop().expect("two");
    assert_eq!(last.value("evenkeelAlarmClearReason"), "removed");
}
