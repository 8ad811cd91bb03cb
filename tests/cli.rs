//! The command line, the configuration's messages, and what other programs make of the metrics.

use std::{
    fs,
    io::Write,
    process::{Command, Output, Stdio},
    thread,
    time::Duration,
};

use crate::common::{Agent, BINARY, Device, Guard, Lab, Trap, wait_until};

const TRAPS: &str = "127.0.0.1:10162";

const GOOD: &str = r#"
[traps]
listen = ["127.0.0.1:10162"]
[[traps.community]]
name = "public"

[instability]
interfaces = { window = "30s", threshold = 2 }
interface_down = false

[subnets]
watch_gateways = false
"#;

/// Runs the binary with these arguments.
fn evenkeel(arguments: &[&str]) -> Output {
    Command::new(BINARY).args(arguments).output().expect("the binary that cargo built")
}

/// Everything that it said.
fn said(output: &Output) -> String {
    let bytes = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Runs `evenkeel check` on a configuration.
fn check(configuration: &str) -> Output {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("keel.toml");
    fs::write(&file, configuration).expect("a writable temporary directory");
    evenkeel(&["check", "--config", file.to_str().expect("a plain path")])
}

#[test]
fn every_command_explains_itself() {
    let top = evenkeel(&["--help"]);
    assert!(top.status.success());
    for command in ["run", "check", "discover", "status", "replay", "mib"] {
        assert!(said(&top).contains(command), "--help does not name {command}");
        let help = evenkeel(&[command, "--help"]);
        assert!(help.status.success() && said(&help).contains("Usage"), "{command} --help");
    }
}

#[test]
fn an_unknown_option_is_an_error_that_names_it() {
    let output = evenkeel(&["run", "--colour-of-the-sea"]);
    assert!(!output.status.success());
    assert!(said(&output).contains("--colour-of-the-sea"));
}

#[test]
fn check_accepts_a_good_file() {
    let output = check(GOOD);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
}

#[test]
fn check_names_file_line_and_column_of_every_mistake_and_suggests_the_key() {
    let output = check(
        "[instability]\n\
         interfaces = { window = \"30s\", treshold = 2 }\n\
         \n\
         [subnets]\n\
         poll_interval = \"2 fortnights\"\n",
    );
    let text = said(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    for expected in ["keel.toml:2:32", "threshold", "keel.toml:5:17", "poll_interval"] {
        assert!(text.contains(expected), "no {expected} in:\n{text}");
    }
}

#[test]
fn check_of_a_file_that_is_not_there_names_it() {
    let output = evenkeel(&["check", "--config", "/nonexistent/keel.toml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("/nonexistent/keel.toml"));
}

#[test]
fn without_cap_net_raw_it_says_what_to_do_and_still_takes_traps() {
    let lab = Lab::new();
    let ns = lab.namespace("rights");
    let subnet =
        "[[subnets.subnet]]\nprefix = \"127.0.0.0/8\"\npolling_targets = [\"127.0.0.2\"]\n";
    let without = ["setpriv", "--bounding-set", "-net_raw,-net_admin", "--inh-caps", "-all"];
    let agent = Agent::start_via(&ns, &format!("{GOOD}{subnet}"), &without);
    wait_until("advice in the log", Duration::from_secs(20), || {
        agent.log().to_lowercase().contains("cap_net_raw")
    });
    let device = Device::new(&ns, "127.0.0.9", TRAPS);
    device.v2c(Trap::LinkDown(4));
    device.v2c(Trap::LinkDown(4));
    let unstable = [("kind", "interface_unstable")];
    wait_until("the alarm", Duration::from_secs(20), || {
        agent.metrics().sum("evenkeel_alarms_active", &unstable) == 1.0
    });
}

#[test]
fn a_bad_file_at_a_reload_leaves_the_old_one_in_force() {
    let lab = Lab::new();
    let ns = lab.namespace("reload");
    let agent = Agent::start(&ns, GOOD);
    let successful = || agent.metrics().sum("evenkeel_config_last_reload_successful", &[]);
    assert_eq!(successful(), 1.0);

    agent.configure(&GOOD.replace("threshold = 2", "threshold = \"two\""));
    agent.reload();
    wait_until("the refusal", Duration::from_secs(20), || successful() == 0.0);
    assert!(agent.log().contains("evenkeel.toml:"), "the log does not say where");

    // Whoever orders it by command is told, and whoever asks the agent is answered all the same.
    let command = |words: &[&str]| {
        let mut command = ns.command(BINARY);
        let output = command.args(words).arg("--config").arg(agent.file()).output();
        let output = output.expect("the binary");
        let said =
            [output.stdout, output.stderr].map(|text| String::from_utf8(text).expect("text"));
        (output.status.code(), said[0].clone(), said[1].clone())
    };
    let (code, said, complaint) = command(&["reload"]);
    assert_eq!((code, said.as_str()), (Some(1), ""), "{complaint}");
    let place = format!("{}:", agent.file().display());
    for part in ["the one before stays in force", &place, "threshold", "two"] {
        assert!(complaint.contains(part), "{part} is not in: {complaint}");
    }
    let (code, said, complaint) = command(&["status", "--format", "json"]);
    assert_eq!(code, Some(0), "{complaint}");
    assert!(said.contains("\"keel-1\""), "{said}");
    assert!(complaint.contains("is refused, see `evenkeel check`"), "{complaint}");

    // The old threshold still holds.
    let device = Device::new(&ns, "127.0.0.9", TRAPS);
    device.v2c(Trap::LinkDown(4));
    device.v2c(Trap::LinkDown(4));
    wait_until("the alarm", Duration::from_secs(20), || {
        agent.metrics().sum("evenkeel_alarms_active", &[]) == 1.0
    });

    agent.configure(GOOD);
    agent.reload();
    wait_until("the reload", Duration::from_secs(20), || successful() == 1.0);
    let changed = GOOD.replace("threshold = 2", "threshold = 3");
    agent.configure(&format!("{changed}\n[spool]\nmax_size = \"64MiB\"\n"));
    let (code, said, complaint) = command(&["reload"]);
    assert_eq!(code, Some(0), "{complaint}");
    assert_eq!(
        said,
        "the configuration was loaded again and is in force\nchanged: instability\n\
         takes hold at the next start: spool\n"
    );
    let (code, said, _) = command(&["reload", "--format", "json"]);
    assert_eq!(code, Some(0));
    assert_eq!(said.trim(), r#"{"applied":[],"at_restart":["spool"],"warnings":[]}"#);
}

#[test]
fn status_tells_the_alarms_as_a_table_and_as_json() {
    let lab = Lab::new();
    let ns = lab.namespace("status");
    let agent = Agent::start(&ns, GOOD);
    let device = Device::new(&ns, "127.0.0.9", TRAPS);
    device.v2c(Trap::LinkDown(4));
    device.v2c(Trap::LinkDown(4));
    wait_until("the alarm", Duration::from_secs(20), || {
        agent.metrics().sum("evenkeel_alarms_active", &[]) == 1.0
    });

    let status = agent.status();
    assert_eq!(status["schema"], 1);
    assert_eq!(status["alarms"].as_array().map(Vec::len), Some(1), "{status}");
    assert_eq!(status["alarms"][0]["kind"], "interface_unstable");
    assert_eq!(status["alarms"][0]["severity"], "major");

    let run = |format: &str| {
        let mut command = ns.command(BINARY);
        command.arg("status").arg("--config").arg(agent.file()).args(["--format", format]);
        let output = command.output().expect("the binary that cargo built");
        assert!(output.status.success(), "{}", said(&output));
        String::from_utf8(output.stdout).expect("text")
    };
    let json: serde_json::Value = serde_json::from_str(&run("json")).expect("JSON and no more");
    assert_eq!(json["alarms"][0]["id"], status["alarms"][0]["id"]);
    let table = run("table");
    assert!(table.contains("127.0.0.9 ifIndex 4 is unstable"), "{table}");
}

#[test]
fn promtool_has_nothing_to_say_about_the_metrics() {
    let lab = Lab::new();
    let ns = lab.namespace("promtool");
    // PEER-14: with every series that peers can have.
    let peers = "[peers]\nmetrics = \"full\"\n[[peers.group]]\nname = \"core\"\ninterval = \"1s\"\n\
                 peers = [\"127.0.0.2\"]\nlabels = { site = \"a \\\"b\\\"\" }\n";
    let agent = Agent::start(&ns, &format!("{GOOD}{peers}"));
    wait_until("an answer", Duration::from_secs(20), || {
        agent.metrics().sum("evenkeel_peer_up", &[("peer", "127.0.0.2")]) == 1.0
    });
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("tests/setup installs promtool");
    let metrics = agent.metrics().0;
    promtool.stdin.take().expect("piped").write_all(metrics.as_bytes()).expect("promtool reads");
    let output = promtool.wait_with_output().expect("promtool ends");
    assert!(output.status.success() && said(&output).is_empty(), "{}", said(&output));
    for name in [
        "evenkeel_traps_received_total",
        "evenkeel_trap_socket_drops_total",
        "evenkeel_peers_round_trip_seconds_bucket",
        "evenkeel_peer_round_trip_seconds",
    ] {
        assert!(agent.metrics().has(name), "no {name} in:\n{metrics}");
    }
    assert_eq!(agent.get("/-/healthy").map(|(status, _)| status), Some(200));
}

#[test]
fn a_real_prometheus_scrapes_it() {
    let lab = Lab::new();
    let ns = lab.namespace("prometheus");
    let _agent = Agent::start(&ns, GOOD);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("prometheus.yml");
    let configuration = "global: { scrape_interval: 1s, scrape_timeout: 1s }\n\
                         scrape_configs:\n\
                         - job_name: evenkeel\n\
                         \x20 static_configs: [ targets: [ '127.0.0.1:19040' ] ]\n";
    fs::write(&file, configuration).expect("a writable temporary directory");
    let mut command = ns.command("prometheus");
    command.arg(format!("--config.file={}", file.display()));
    command.arg(format!("--storage.tsdb.path={}", directory.path().join("data").display()));
    command.arg("--web.listen-address=127.0.0.1:9090");
    let _prometheus = Guard::spawn(command.stdout(Stdio::null()).stderr(Stdio::null()));

    let ask = |query: &str| -> Option<String> {
        let (_, body) = ns.get("127.0.0.1:9090", &format!("/api/v1/query?query={query}"))?;
        let answer: serde_json::Value = serde_json::from_str(&body).ok()?;
        Some(answer["data"]["result"][0]["value"][1].as_str()?.to_owned())
    };
    wait_until("up == 1", Duration::from_secs(30), || ask("up").as_deref() == Some("1"));
    thread::sleep(Duration::from_millis(100));
    assert_eq!(ask("evenkeel_config_last_reload_successful").as_deref(), Some("1"));
}
