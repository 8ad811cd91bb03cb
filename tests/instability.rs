//! Instability, seen by an NMS: net-snmp's programs are the devices and the NMS, the agent stands
//! between them. The rules' worked examples run here with a tenth of their times.

use std::{
    fs,
    net::UdpSocket,
    thread,
    time::{Duration, Instant},
};

use crate::common::{
    Agent, Device, Lab, Nms, Ns, Sent, Trap, check, expect, sleep_until, span, wait_until, wire,
};

const TRAPS: &str = "127.0.0.1:10162";

/// How long nothing more must come after what was expected.
const QUIET: Duration = Duration::from_secs(1);

/// A configuration with one community, one NMS, and these settings of instability.
fn configuration(instability: &str) -> String {
    format!(
        r#"
[traps]
listen = ["{TRAPS}", "[::1]:10162"]
[[traps.community]]
name = "public"

[instability]
{instability}

[subnets]
watch_gateways = false

[[notifications.target]]
name = "nms"
address = "127.0.0.1:11162"
community = "public"
"#
    )
}

/// A namespace with an NMS and an agent of this configuration in it.
fn start<'a>(ns: &'a Ns, instability: &str) -> (Nms<'a>, Agent<'a>) {
    let nms = Nms::start(ns, "udp:127.0.0.1:11162");
    (nms, Agent::start(ns, &configuration(instability)))
}

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

#[test]
fn inst_3_to_8_the_manuals_fourth_example_is_one_raise_and_one_clear() {
    // Window 30, threshold 2, traps at 0, 20, 45, 80: unstable at 20, stable at 160.
    let lab = Lab::new();
    let ns = lab.namespace("fourth");
    let (nms, agent) =
        start(&ns, "interfaces = { window = \"6s\", threshold = 2 }\ninterface_down = false");
    let device = Device::new(&ns, "127.0.0.9", TRAPS);

    let start = Instant::now();
    let sent = [0, 4000, 9000, 16000].map(|at| {
        sleep_until(start + ms(at));
        device.v2c(Trap::LinkDown(4))
    });
    let [first, second, _, last] = sent;
    assert_eq!(
        agent.metrics().sum("evenkeel_alarms_active", &[("kind", "interface_unstable")]),
        1.0
    );

    // INST-5: stable time is the time from first to last, here longer than the window.
    let (least, most) = span(first, last);
    let told = check(
        start,
        &[
            expect("raised interface_unstable 127.0.0.9 4", second.before, second.after),
            expect(
                "cleared interface_unstable 127.0.0.9 4",
                last.before + least,
                last.after + most,
            ),
        ],
        QUIET,
        || nms.alarms(),
    );
    assert_eq!(told[0].value("evenkeelAlarmId"), told[1].value("evenkeelAlarmId"));
    assert_eq!(told[0].value("evenkeelAlarmSeverity"), "major");
    assert_eq!(told[0].value("evenkeelIfIndex"), "4");
    assert_eq!(told[1].value("evenkeelAlarmClearReason"), "ended");

    let metrics = agent.metrics();
    let unstable = [("kind", "interface_unstable")];
    assert_eq!(metrics.sum("evenkeel_traps_received_total", &[]), 4.0);
    assert_eq!(metrics.sum("evenkeel_alarms_raised_total", &unstable), 1.0);
    assert_eq!(metrics.sum("evenkeel_alarms_cleared_total", &unstable), 1.0);
    assert_eq!(metrics.sum("evenkeel_alarms_active", &unstable), 0.0);
    let journal: Vec<_> = agent.journal().into_iter().map(|row| (row.event, row.kind)).collect();
    let row = |event: &str| (event.to_owned(), "interface_unstable".to_owned());
    assert_eq!(journal, [row("raise"), row("clear")]);
}

#[test]
fn inst_10_v1_and_v2c_traps_and_informs_feed_one_counter() {
    let lab = Lab::new();
    let ns = lab.namespace("forms");
    let (nms, _agent) =
        start(&ns, "interfaces = { window = \"8s\", threshold = 4 }\ninterface_down = false");
    let device = Device::new(&ns, "127.0.0.9", TRAPS);

    let start = Instant::now();
    let first = device.v1(Trap::LinkDown(4));
    device.v2c(Trap::LinkDown(4));
    // Sent again and again while it is not answered, it still counts once (INST-9).
    device.inform(Trap::LinkDown(4));
    thread::sleep(ms(300));
    assert!(nms.alarms().is_empty(), "{:?}", nms.alarms());

    let last = device.v1(Trap::LinkDown(4));
    let window = Duration::from_secs(8);
    assert!(span(first, last).1 < window, "this machine is too slow for this test");
    check(
        start,
        &[
            expect("raised interface_unstable 127.0.0.9", last.before, last.after),
            expect(
                "cleared interface_unstable 127.0.0.9",
                last.before + window,
                last.after + window,
            ),
        ],
        QUIET,
        || nms.alarms(),
    );
}

#[test]
fn inst_13_down_is_superseded_by_unstable_and_comes_back_after_it() {
    let lab = Lab::new();
    let ns = lab.namespace("down");
    let (nms, _agent) =
        start(&ns, "interfaces = { window = \"6s\", threshold = 2 }\ninterface_down = true");
    let device = Device::new(&ns, "127.0.0.9", TRAPS);

    let start = Instant::now();
    let one = device.v2c(Trap::LinkDown(4));
    thread::sleep(ms(500));
    let two = device.v2c(Trap::LinkDown(4));
    let window = Duration::from_secs(6);
    let stable = (two.before + window, two.after + window);
    let told = check(
        start,
        &[
            expect("raised interface_down 127.0.0.9", one.before, one.after),
            expect("cleared interface_down 127.0.0.9", two.before, two.after),
            expect("raised interface_unstable 127.0.0.9", two.before, two.after),
            expect("cleared interface_unstable 127.0.0.9", stable.0, stable.1),
            expect("raised interface_down 127.0.0.9", stable.0, stable.1),
        ],
        QUIET,
        || nms.alarms(),
    );
    let superseded = told.iter().find(|told| told.summary().starts_with("cleared interface_down"));
    let reason = superseded.expect("checked above").value("evenkeelAlarmClearReason");
    assert_eq!(reason, "superseded");
    // The clear of one comes before the raise of the other.
    assert!(told[3].summary().starts_with("cleared interface_unstable"), "{:?}", told[3]);
    assert!(told[4].summary().starts_with("raised interface_down"), "{:?}", told[4]);
    assert_ne!(told[0].value("evenkeelAlarmId"), told[4].value("evenkeelAlarmId"));

    let up = device.v2c(Trap::LinkUp(4));
    let told = check(
        start,
        &[expect("cleared interface_down 127.0.0.9", up.before, up.after)],
        QUIET,
        || nms.alarms().split_off(5),
    );
    assert_eq!(told[0].value("evenkeelAlarmClearReason"), "ended");
}

#[test]
fn inst_1_restarts_and_links_are_counted_apart_also_over_ipv6() {
    let lab = Lab::new();
    let ns = lab.namespace("six");
    ns.address("lo", "fd00:9::9/128");
    let (nms, _agent) = start(
        &ns,
        "interfaces = { window = \"6s\", threshold = 3 }\nsystems = { window = \"6s\", threshold = 3 }\ninterface_down = false",
    );
    let device = Device::new(&ns, "fd00:9::9", "udp6:[::1]:10162");

    // Two restarts and two linkDowns are four traps, but three of neither.
    let start = Instant::now();
    let first = device.v2c(Trap::ColdStart);
    device.v2c(Trap::LinkDown(1));
    device.v2c(Trap::LinkDown(1));
    device.v2c(Trap::WarmStart);
    thread::sleep(ms(300));
    assert!(nms.alarms().is_empty(), "{:?}", nms.alarms());

    let last = device.v2c(Trap::ColdStart);
    let window = Duration::from_secs(6);
    assert!(span(first, last).1 < window, "this machine is too slow for this test");
    let told = check(
        start,
        &[
            expect("raised system_unstable fd00:9::9", last.before, last.after),
            expect("cleared system_unstable fd00:9::9", last.before + window, last.after + window),
        ],
        QUIET,
        || nms.alarms(),
    );
    assert_eq!(told[0].value("evenkeelAddressType"), "ipv6");
}

#[test]
fn trap_3_what_is_not_allowed_is_counted_and_changes_nothing() {
    let lab = Lab::new();
    let ns = lab.namespace("access");
    let (nms, agent) =
        start(&ns, "interfaces = { window = \"3s\", threshold = 2 }\ninterface_down = true");
    let stranger = Device::new(&ns, "127.0.0.9", TRAPS).with_community("wrong");
    for _ in 0..2 {
        stranger.v2c(Trap::LinkDown(4));
        stranger.v1(Trap::LinkDown(4));
    }
    let counted = |name: &str| agent.metrics().sum(name, &[]);
    wait_until("four refused traps", Duration::from_secs(20), || {
        counted("evenkeel_traps_discarded_total") == 4.0
    });
    assert_eq!(counted("evenkeel_traps_received_total"), 4.0);
    thread::sleep(QUIET);
    assert_eq!(counted("evenkeel_alarms_raised_total"), 0.0);
    assert!(nms.alarms().is_empty() && agent.journal().is_empty());
}

#[test]
fn inst_9_a_datagram_that_comes_twice_counts_once() {
    let lab = Lab::new();
    let ns = lab.namespace("twice");
    let (nms, agent) =
        start(&ns, "interfaces = { window = \"3s\", threshold = 2 }\ninterface_down = false");
    let socket: UdpSocket = ns.inside(|| UdpSocket::bind("127.0.0.9:0")).expect("a free port");
    let trap = wire::v2c_trap(Trap::LinkDown(4), 77, 1000);
    for _ in 0..5 {
        socket.send_to(&trap, TRAPS).expect("loopback");
    }
    wait_until("five datagrams", Duration::from_secs(20), || {
        agent.metrics().sum("evenkeel_traps_received_total", &[]) == 5.0
    });
    thread::sleep(QUIET);
    assert!(nms.alarms().is_empty(), "{:?}", nms.alarms());

    // Another request-id makes it another trap.
    let before = Instant::now();
    socket.send_to(&wire::v2c_trap(Trap::LinkDown(4), 78, 1000), TRAPS).expect("loopback");
    let expected = [expect("raised interface_unstable 127.0.0.9", before, Instant::now())];
    check(before, &expected, Duration::ZERO, || nms.alarms());
}

#[test]
fn inst_17_a_restart_neither_clears_nor_raises_again() {
    let lab = Lab::new();
    let ns = lab.namespace("restart");
    let (nms, mut agent) =
        start(&ns, "interfaces = { window = \"6s\", threshold = 2 }\ninterface_down = false");
    let device = Device::new(&ns, "127.0.0.9", TRAPS);

    let start = Instant::now();
    device.v2c(Trap::LinkDown(4));
    let last = device.v2c(Trap::LinkDown(4));
    let raised = expect("raised interface_unstable 127.0.0.9", last.before, last.after);
    wait_until("the raise", Duration::from_secs(20), || !nms.alarms().is_empty());
    let stopped = Instant::now();
    agent.restart();
    // What it did not hear while it was down is no quiet: the clear may be that much later.
    let deaf = stopped.elapsed();
    let window = Duration::from_secs(6);
    let cleared = expect(
        "cleared interface_unstable 127.0.0.9",
        last.before + window,
        last.after + window + deaf,
    );
    // What was sent just before the stop may be sent again, which its number tells (TRAP-11).
    let once = || {
        let mut told = nms.alarms();
        told.dedup_by_key(|told| told.value("evenkeelSequence").to_owned());
        told
    };
    let told = check(start, &[raised, cleared], QUIET, once);
    assert_eq!(told[0].value("evenkeelAlarmId"), told[1].value("evenkeelAlarmId"));
}

#[test]
fn inst_11_a_reload_that_turns_the_analysis_off_clears_what_is_raised() {
    let lab = Lab::new();
    let ns = lab.namespace("off");
    let (nms, agent) =
        start(&ns, "interfaces = { window = \"60s\", threshold = 2 }\ninterface_down = false");
    let device = Device::new(&ns, "127.0.0.9", TRAPS);

    let start = Instant::now();
    device.v2c(Trap::LinkDown(4));
    let last = device.v2c(Trap::LinkDown(4));
    let raised = expect("raised interface_unstable 127.0.0.9", last.before, last.after);
    wait_until("the raise", Duration::from_secs(20), || !nms.alarms().is_empty());

    let before = Instant::now();
    agent.configure(&configuration(
        "interfaces = { window = \"60s\", threshold = 0 }\ninterface_down = false",
    ));
    agent.reload();
    let cleared = expect("cleared interface_unstable 127.0.0.9", before, Instant::now());
    let told = check(start, &[raised, cleared], QUIET, || nms.alarms());
    assert_eq!(told[1].value("evenkeelAlarmClearReason"), "turnedOff");
}

#[test]
fn inst_14_both_ends_of_a_link_that_flap_are_one_raise_and_one_clear() {
    let lab = Lab::new();
    let ns = lab.namespace("link");
    let (nms, agent) = start(
        &ns,
        r#"interfaces = { window = "6s", threshold = 2 }
interface_down = false
[[instability.link]]
a = { system = "127.0.0.9", if_index = 7 }
b = { system = "127.0.0.8", if_index = 3 }"#,
    );
    let one = Device::new(&ns, "127.0.0.8", TRAPS);
    let other = Device::new(&ns, "127.0.0.9", TRAPS);

    // Both see the link go down and come up; the last time, only the one end does.
    let start = Instant::now();
    let first = [one.v2c(Trap::LinkDown(3)), other.v2c(Trap::LinkDown(7))];
    one.v2c(Trap::LinkUp(3));
    let begun = one.v2c(Trap::LinkDown(3));
    other.v2c(Trap::LinkUp(7));
    other.v2c(Trap::LinkDown(7));
    one.v2c(Trap::LinkUp(3));
    one.v2c(Trap::LinkDown(3));
    other.v2c(Trap::LinkUp(7));
    let last_of_other = other.v2c(Trap::LinkDown(7));
    one.v2c(Trap::LinkUp(3));
    let last_of_one = one.v2c(Trap::LinkDown(3));
    let window = Duration::from_secs(6);
    assert!(span(first[0], last_of_other).1 < window, "this machine is too slow for this test");

    let active = |kind| agent.metrics().sum("evenkeel_alarms_active", &[("kind", kind)]);
    assert_eq!((active("link_unstable"), active("interface_unstable")), (1.0, 0.0));
    assert_eq!(agent.metrics().sum("evenkeel_links", &[]), 1.0);
    let unstable = &agent.status()["unstable"];
    for end in unstable.as_array().expect("a list") {
        assert_eq!(end["link"][0]["system"], "127.0.0.8", "{end}");
        assert_eq!(end["link"][1]["if_index"], 7, "{end}");
    }
    assert_eq!(unstable.as_array().map(Vec::len), Some(2));

    // INST-5: each end waits as long as it was unstable, at least the window.
    let stable = |first, last: Sent| {
        let (least, most) = span(first, last);
        (last.before + least.max(window), last.after + most.max(window))
    };
    let of_one = stable(first[0], last_of_one);
    let of_other = stable(first[1], last_of_other);
    let told = check(
        start,
        &[
            expect("raised link_unstable 127.0.0.8 3 127.0.0.9 7", begun.before, begun.after),
            expect(
                "cleared link_unstable 127.0.0.8 3 127.0.0.9 7",
                of_one.0.max(of_other.0),
                of_one.1.max(of_other.1),
            ),
        ],
        QUIET,
        || nms.alarms(),
    );
    let [raise, clear] = &told[..] else { unreachable!("checked above") };
    assert_eq!(raise.value("evenkeelAlarmId"), clear.value("evenkeelAlarmId"));
    assert_eq!(raise.value("evenkeelAlarmSeverity"), "major");
    for told in &told {
        assert_eq!(told.value("evenkeelAlarmObject"), "127.0.0.8 ifIndex 3 - 127.0.0.9 ifIndex 7");
        assert_eq!((told.value("evenkeelIfIndex"), told.value("evenkeelOtherIfIndex")), ("3", "7"));
        assert_eq!(told.value("evenkeelAddressType"), "ipv4");
        assert_eq!(told.value("evenkeelOtherAddressType"), "ipv4");
        assert_ne!(told.value("evenkeelAddress"), told.value("evenkeelOtherAddress"));
    }
    // TRAP-8: of both ends, what came once they were unstable.
    assert_eq!(clear.value("evenkeelTrapCount"), "7 traps");
    assert_eq!(clear.value("evenkeelSuppressedCount"), "6 traps");
    assert_eq!(clear.value("evenkeelAlarmClearReason"), "ended");
    let journal: Vec<_> = agent.journal().into_iter().map(|row| (row.event, row.kind)).collect();
    let row = |event: &str| (event.to_owned(), "link_unstable".to_owned());
    assert_eq!(journal, [row("raise"), row("clear")]);
}

#[test]
fn inst_15_a_topology_file_that_changes_moves_the_alarm_between_interface_and_link() {
    let lab = Lab::new();
    let ns = lab.namespace("topology");
    let (nms, mut agent) = start(
        &ns,
        r#"interfaces = { window = "600s", threshold = 2 }
topology_files = ["*.csv"]"#,
    );
    let one = Device::new(&ns, "127.0.0.8", TRAPS);
    let other = Device::new(&ns, "127.0.0.9", TRAPS);
    let file = agent.file().with_file_name("links.csv");
    // What came of a step: the journal has it in its order, and the NMS has heard just that.
    let told = |agent: &Agent<'_>, after: usize, heard: usize, expected: &[&str]| {
        wait_until("what is told next", Duration::from_secs(20), || {
            nms.alarms().len() >= heard + expected.len()
        });
        thread::sleep(QUIET);
        let rows = agent.journal().split_off(after);
        let rows = rows.iter().map(|row| format!("{} {} {}", row.event, row.kind, row.object));
        assert_eq!(rows.collect::<Vec<_>>(), expected);
        assert_eq!(nms.alarms().len(), heard + expected.len());
    };
    other.v2c(Trap::LinkDown(7));
    one.v2c(Trap::LinkDown(3));
    one.v2c(Trap::LinkDown(3));
    told(
        &agent,
        0,
        0,
        &[
            "raise interface_down 127.0.0.9 ifIndex 7",
            "raise interface_down 127.0.0.8 ifIndex 3",
            "clear interface_down 127.0.0.8 ifIndex 3",
            "raise interface_unstable 127.0.0.8 ifIndex 3",
        ],
    );

    fs::write(&file, "system,if_index,system,if_index\n127.0.0.9,7,127.0.0.8,3 # cable 1\n")
        .expect("a writable directory");
    agent.reload();
    told(
        &agent,
        4,
        4,
        &[
            "clear interface_unstable 127.0.0.8 ifIndex 3",
            "clear interface_down 127.0.0.9 ifIndex 7",
            "raise link_unstable 127.0.0.8 ifIndex 3 - 127.0.0.9 ifIndex 7",
        ],
    );
    let reasons: Vec<_> = agent.journal().into_iter().map(|row| row.reason).collect();
    assert_eq!(reasons[4..6], ["superseded", "superseded"]);

    // A file with a mistake leaves what was in force, and the log says where it is.
    fs::write(&file, "127.0.0.9,7,127.0.0.8\n").expect("a writable directory");
    agent.reload();
    wait_until("a refused reload", Duration::from_secs(20), || {
        agent.metrics().sum("evenkeel_config_last_reload_successful", &[]) == 0.0
    });
    wait_until("a line in the log", Duration::from_secs(20), || {
        agent.log().contains("links.csv:1:1: here are 3 fields, and a link has 4")
    });
    assert_eq!(agent.metrics().sum("evenkeel_links", &[]), 1.0);

    // INST-17: it is as it was after a restart. What was sent just before may be sent again.
    fs::write(&file, "127.0.0.9,7,127.0.0.8,3\n").expect("a writable directory");
    agent.restart();
    thread::sleep(QUIET);
    assert_eq!(agent.journal().len(), 7);
    let heard = nms.alarms().len();

    fs::write(&file, "# no links any more\n").expect("a writable directory");
    agent.reload();
    told(
        &agent,
        7,
        heard,
        &[
            "clear link_unstable 127.0.0.8 ifIndex 3 - 127.0.0.9 ifIndex 7",
            "raise interface_down 127.0.0.9 ifIndex 7",
            "raise interface_unstable 127.0.0.8 ifIndex 3",
        ],
    );
    assert_eq!(agent.journal()[7].reason, "removed");
}
