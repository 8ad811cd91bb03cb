//! `evenkeel replay`: what would have been raised and cleared, from a capture of real datagrams
//! and from a recording of the agent's own.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use crate::common::{Agent, BINARY, Device, Guard, Lab, Ns, Sent, Trap, output, span, wait_until};

const TRAPS: &str = "127.0.0.1:10162";

/// What the traps are judged by: long enough for a busy machine to send two within it.
const WINDOW: Duration = Duration::from_secs(6);

/// Two linkDowns, and one of another interface so much later that its time stamp shows that the
/// clear's time has come.
fn flap(ns: &Ns) -> [Sent; 2] {
    let device = Device::new(ns, "127.0.0.9", TRAPS);
    let first = device.v2c(Trap::LinkDown(4));
    let second = device.v2c(Trap::LinkDown(4));
    thread::sleep(WINDOW + Duration::from_millis(500));
    device.v2c(Trap::LinkDown(5));
    [first, second]
}

/// Replays a file with this window, a threshold of 2 and these words besides, and looks for one
/// instability, which is of this kind: a raise and after it a clear.
fn judge(file: &Path, sent: [Sent; 2], words: &[&str], kind: &str) {
    assert!(span(sent[0], sent[1]).1 < WINDOW, "this machine is too slow for this test");
    let window = WINDOW.as_secs();
    let mut command = Command::new(BINARY);
    command.arg("replay").arg(file).args(["--window", &format!("{window}s"), "--threshold", "2"]);
    let text = output(command.args(words).stderr(Stdio::null()));

    // `0.528 s  raise  interface_unstable interface 127.0.0.9 ifIndex 4 is ...`
    let rows: Vec<Vec<&str>> = text
        .lines()
        .map(|line| line.split_whitespace().collect())
        .filter(|row: &Vec<&str>| row.get(3).is_some_and(|kind| kind.ends_with("_unstable")))
        .collect();
    assert_eq!(rows.len(), 2, "{text}");
    assert_eq!([rows[0][2], rows[1][2]], ["raise", "clear"], "{text}");
    assert_eq!([rows[0][3], rows[1][3]], [kind; 2], "{text}");
    assert!(rows.iter().all(|row| row.contains(&"127.0.0.9")), "{text}");
    // To the millisecond, as no wall clock would: stable time is the window here (INST-5).
    let time = |row: &[&str]| (row[0].parse::<f64>().expect("seconds") * 1000.0).round();
    assert_eq!(time(&rows[1]) - time(&rows[0]), WINDOW.as_secs_f64() * 1000.0, "{text}");
}

/// tcpdump, writing what it sees to a file.
fn capture(ns: &Ns, file: &Path) -> Guard {
    let mut command = ns.command("tcpdump");
    // Each packet is written at once (-U), as the same user (-Z).
    command.args(["-i", "lo", "-n", "-U", "-Z", "root", "-w"]).arg(file);
    let dump = Guard::spawn(command.args(["udp", "port", "10162"]).stderr(Stdio::null()));
    // The file's header is written when the capture has begun.
    wait_until("tcpdump to begin", Duration::from_secs(10), || {
        fs::metadata(file).is_ok_and(|meta| meta.len() >= 24)
    });
    thread::sleep(Duration::from_millis(200));
    dump
}

#[test]
fn a_capture_by_tcpdump_is_replayed_with_simulated_time() {
    let lab = Lab::new();
    let ns = lab.namespace("pcap");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("storm.pcap");
    let mut dump = capture(&ns, &file);
    // Nobody listens: a capture also holds what no agent took.
    let sent = flap(&ns);
    thread::sleep(Duration::from_millis(300));
    dump.end(Duration::from_secs(5));
    judge(&file, sent, &[], "interface_unstable");
}

#[test]
fn a_recording_by_the_agent_itself_is_replayed() {
    let lab = Lab::new();
    let ns = lab.namespace("record");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("keel.rec");
    let configuration = format!(
        "record = {file:?}\n\
         [traps]\nlisten = [\"{TRAPS}\"]\n[[traps.community]]\nname = \"public\"\n\
         [subnets]\nwatch_gateways = false\n"
    );
    let mut agent = Agent::start(&ns, &configuration);
    let sent = flap(&ns);
    wait_until("three traps", Duration::from_secs(20), || {
        agent.metrics().sum("evenkeel_traps_received_total", &[]) == 3.0
    });
    agent.stop();
    judge(&file, sent, &[], "interface_unstable");
    // INST-14: had it been known that the interface is an end of a link.
    let linked = directory.path().join("linked.toml");
    let text = "[[traps.community]]\nname = \"public\"\n\
                [instability]\ntopology_files = [\"links.csv\"]\n";
    fs::write(&linked, text).expect("a writable directory");
    fs::write(linked.with_file_name("links.csv"), "127.0.0.9,4,127.0.0.8,1\n")
        .expect("a writable directory");
    let linked = linked.to_str().expect("a plain path");
    judge(&file, sent, &["--config", linked], "link_unstable");
}
