//! PAIR-9: parts of the real agent are made to stand still, by the kernel's own means, and are found.

use std::{
    fs,
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    common::{Agent, Device, Disk, Frozen, LATE, Lab, Row, Trap, wait_until},
    service::Manager,
};

/// How long anything may take. Far above need.
const LIMIT: Duration = Duration::from_secs(30);

/// A stall is found at the sixth look in a row without a sign: 3 s after the last sign was seen, which was
/// given half a second before that at most.
const FOUND: Duration = Duration::from_millis(3_500);

/// Every part but the state channel.
const CONFIGURATION: &str = r#"
[traps]
listen = ["127.0.0.1:10162"]
[[traps.community]]
name = "public"
[subnets]
watch_gateways = false
[[peers.group]]
name = "all"
peers = ["127.0.0.2"]
[[notifications.target]]
name = "nms"
address = "127.0.0.1:11162"
community = "public"
"#;

const PARTS: [&str; 8] =
    ["trap_intake", "poller", "peer_poller", "core", "outbox", "store", "spool", "forwarder"];

/// The reports so far, oldest first.
fn reports(agent: &Agent) -> Vec<(PathBuf, Value)> {
    let Ok(files) = fs::read_dir(agent.state().join("stalls")) else { return Vec::new() };
    let paths = files.map(|file| file.expect("readable").path());
    let mut paths: Vec<PathBuf> = paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    paths.sort();
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("readable");
        let report = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        (path, report)
    };
    paths.into_iter().map(read).collect()
}

/// The reports that are about this part.
fn about(agent: &Agent, part: &str) -> Vec<Value> {
    let reports = reports(agent).into_iter().map(|(_, report)| report);
    reports.filter(|report| report["cause"]["part"] == part).collect()
}

/// What the journal has of a part: each stall is raised once and cleared once, whoever was there to do it.
fn told_of(agent: &Agent, part: &str) -> Vec<String> {
    let rows = agent.journal().into_iter();
    let of = |row: &Row| row.kind == "component_stalled" && row.object.contains(part);
    rows.filter(of).map(|row| row.event).collect()
}

fn all_up(agent: &Agent) -> bool {
    let metrics = agent.metrics();
    PARTS.iter().all(|part| metrics.sum("evenkeel_part_up", &[("part", part)]) == 1.0)
}

#[test]
fn pair_9_each_part_that_stalls_is_found_and_the_agent_starts_itself_again() {
    let lab = Lab::new();
    let ns = lab.namespace("stalls");
    let mut agent = Agent::start(&ns, CONFIGURATION);
    for (thread, part) in [
        ("traps", "trap_intake"),
        ("replies", "poller"),
        ("peers", "peer_poller"),
        ("store", "store"),
        ("spool", "spool"),
        ("forwarder", "forwarder"),
        // Every task is run by these: the core, and the outbox.
        ("runtime", "core"),
    ] {
        wait_until("all parts are up", LIMIT, || all_up(&agent));
        let starts = agent.log().matches("went on from the last run").count();
        let process = agent.pid();
        let before = Instant::now();
        let frozen = Frozen::threads(process, thread);
        wait_until(&format!("{part} is found"), LIMIT, || !about(&agent, part).is_empty());
        let took = before.elapsed();
        assert!(took < FOUND + LATE, "{part} was found after {took:?}");

        wait_until("it has started again", LIMIT, || {
            agent.log().matches("went on from the last run").count() > starts
        });
        drop(frozen);
        agent.wait_ready();
        assert_eq!(agent.pid(), process, "in its place");

        let report = about(&agent, part).pop().expect("it is there");
        assert_eq!(report["agent"], "keel-1");
        assert_eq!(report["cause"]["kind"], "stall", "{report}");
        let silent = report["cause"]["silent_seconds"].as_f64().expect("a number");
        assert!((2.9..4.5).contains(&silent), "{silent}");
        let parts = report["parts"].as_array().expect("parts");
        assert_eq!(parts.len(), PARTS.len());
        let stalled = parts.iter().filter(|part| part["stalled"] == true);
        let stalled: Vec<&str> = stalled.filter_map(|part| part["part"].as_str()).collect();
        assert!(stalled.contains(&part), "{stalled:?}");
        let held = report["threads"].as_array().expect("threads").iter();
        let held: Vec<&Value> = held.filter(|held| held["name"] == thread).collect();
        assert!(held.iter().all(|thread| thread["state"] == "t"), "{held:?}");
        if part != "core" {
            assert_eq!(stalled, [part]);
            assert_eq!(held[0]["id"], report["cause"]["thread"]);
        }
        assert!(report["log"].as_array().is_some_and(|lines| !lines.is_empty()));
        let told = format!("an earlier run found {part} stalled");
        wait_until("the start to say so", LIMIT, || agent.log().contains(&told));
        wait_until(&format!("{part} is in the journal"), LIMIT, || {
            told_of(&agent, part) == ["raise", "clear"]
        });
    }
    agent.stop();
}

#[test]
fn pair_9_a_healthy_agent_that_stood_still_as_a_whole_finds_no_part_stalled() {
    let lab = Lab::new();
    let ns = lab.namespace("stopped");
    let agent = Agent::start(&ns, CONFIGURATION);
    wait_until("all parts are up", LIMIT, || all_up(&agent));
    for stopped in [10_000, 700, 700, 700, 700, 700, 700, 700, 3_000] {
        agent.signal(libc::SIGSTOP);
        std::thread::sleep(Duration::from_millis(stopped));
        agent.signal(libc::SIGCONT);
        // A part that waits for 400 ms of its own time (ppoll(2) goes on with what was left) gives a sign.
        std::thread::sleep(Duration::from_millis(600));
    }
    std::thread::sleep(2 * FOUND);
    assert!(all_up(&agent));
    assert_eq!(agent.metrics().sum("evenkeel_part_stalls_total", &[]), 0.0);
    assert_eq!(reports(&agent), []);
}

#[test]
fn pair_9_an_agent_alone_goes_on_without_its_disk_and_writes_everything_when_it_is_back() {
    let lab = Lab::new();
    let ns = lab.namespace("disk");
    let mut agent = Agent::start(&ns, CONFIGURATION);
    agent.stop();
    let disk = Disk::over(&agent.state());
    agent.launch();
    wait_until("all parts are up", LIMIT, || all_up(&agent));
    let starts = agent.log().matches("configuration:").count();

    disk.freeze();
    let device = Device::new(&ns, "127.0.0.9", "127.0.0.1:10162");
    for _ in 0..4 {
        device.v2c(Trap::LinkDown(7));
    }
    let store = [("part", "store")];
    wait_until("the store is found", LIMIT, || {
        agent.metrics().sum("evenkeel_part_up", &store) == 0.0
    });
    // Far longer than a restart would take to begin.
    std::thread::sleep(2 * FOUND);
    let metrics = agent.metrics();
    assert_eq!(metrics.sum("evenkeel_part_stalls_total", &store), 1.0);
    assert!(metrics.sum("evenkeel_part_last_sign_seconds", &store) > 2.0 * FOUND.as_secs_f64());
    assert_eq!(metrics.sum("evenkeel_traps_received_total", &[]), 4.0, "it takes traps in");

    disk.thaw();
    wait_until("the disk is back", LIMIT, || all_up(&agent));
    wait_until("the alarm is in the journal", LIMIT, || {
        agent.journal().iter().any(|row| row.kind == "interface_unstable")
    });
    wait_until("the stall is in the journal", LIMIT, || {
        told_of(&agent, "store") == ["raise", "clear"]
    });
    wait_until("the report is there", LIMIT, || !about(&agent, "store").is_empty());
    let report = about(&agent, "store").pop().expect("it is there");
    assert_eq!(report["cause"]["at_disk"], true, "{report}");
    let threads = report["threads"].as_array().expect("threads");
    let store = threads.iter().find(|thread| thread["name"] == "store").expect("its thread");
    assert_eq!(store["state"], "D", "{store}");
    // This user may read it.
    assert!(!store["stack"].as_array().expect("a stack").is_empty());
    assert_eq!(agent.log().matches("configuration:").count(), starts, "it never started again");
    agent.stop();
}

#[test]
fn pair_9_pair_10_under_a_service_manager_it_ends_with_an_exit_code_of_its_own() {
    let lab = Lab::new();
    let ns = lab.namespace("managed");
    let manager = Manager::new();
    let [socket, watchdog] = manager.environment();
    let mut agent = Agent::start_via(&ns, CONFIGURATION, &["env", &socket, &watchdog]);
    manager.wait_for("READY=1");
    manager.wait_for("WATCHDOG=1");
    let _frozen = Frozen::threads(agent.pid(), "forwarder");
    wait_until("it has ended", LIMIT, || agent.exited().is_some());
    assert_eq!(agent.exited().and_then(|status| status.code()), Some(70), "{}", agent.log());
    assert_eq!(about(&agent, "forwarder").len(), 1);
}

#[test]
fn pair_9_pair_10_a_supervisor_that_stalls_itself_starves_the_watchdog_and_leaves_a_report() {
    let lab = Lab::new();
    let ns = lab.namespace("watchdog");
    let manager = Manager::new();
    let [socket, watchdog] = manager.environment();
    let mut agent = Agent::start_via(&ns, CONFIGURATION, &["env", &socket, &watchdog]);
    manager.wait_for("WATCHDOG=1");
    let _frozen = Frozen::threads(agent.pid(), "supervisor");
    // What was on its way.
    while manager.hears(Duration::from_millis(100)).is_some() {}
    assert_eq!(manager.hears(Duration::from_secs(3)), None);
    // What systemd does then.
    agent.signal(libc::SIGABRT);
    wait_until("it has ended", LIMIT, || agent.exited().is_some());
    assert_eq!(agent.exited().and_then(|status| status.signal()), Some(libc::SIGABRT));
    let (_, report) = reports(&agent).pop().expect("a report");
    assert_eq!(report["cause"]["kind"], "hang");
    let parts = report["parts"].as_array().expect("parts");
    assert_eq!(parts.len(), PARTS.len());
    assert!(parts.iter().all(|part| part["signs"].as_u64() > Some(0)), "{report}");
    agent.launch();
    assert!(agent.log().contains("an earlier run hung and was aborted"));
}
