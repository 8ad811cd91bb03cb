//! `evenkeel status` as an operator, a script, a program and a monitoring system meet it. What the
//! screens look like is held to text beside the code; here the real agent is asked.

use std::{
    fs::{self, File},
    io::Write,
    os::unix::{
        fs::{PermissionsExt, chown},
        net::UnixStream,
    },
    path::Path,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::common::{Agent, BINARY, Device, Guard, Lab, Ns, Trap, output, repository, wait_until};

const TRAPS: &str = "127.0.0.1:10162";

/// How long anything may take. Far above need.
const LIMIT: Duration = Duration::from_secs(30);

const CONFIGURATION: &str = r#"
[traps]
listen = ["127.0.0.1:10162"]

[instability]
interfaces = { window = "30s", threshold = 2 }

[subnets]
poll_interval = "1s"
watch_gateways = false
[[subnets.subnet]]
prefix = "10.9.0.0/24"
polling_targets = ["10.9.0.1"]
"#;

/// A host on a subnet with a gateway.
fn host_and_gate(lab: &Lab) -> (Ns, Ns) {
    let (host, gate) = (lab.namespace("host"), lab.namespace("gate"));
    lab.link((&host, "eth0"), (&gate, "eth0"));
    host.address("eth0", "10.9.0.2/24");
    gate.address("eth0", "10.9.0.1/24");
    (host, gate)
}

/// Runs `evenkeel status` with these words.
fn status(words: &[&str]) -> Output {
    let mut command = Command::new(BINARY);
    command.arg("status").args(words).env_remove("NO_COLOR").env_remove("COLUMNS");
    command.output().expect("the binary that cargo built")
}

/// What it printed, if it ended well.
fn printed(words: &[&str]) -> String {
    let output = status(words);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {said}");
    String::from_utf8(output.stdout).expect("text")
}

/// The exit code of a check and its one line. Nothing goes to standard error, which monitoring systems
/// do not show.
fn check(words: &[&str]) -> (i32, String) {
    let output = status(&[&["--check"], words].concat());
    let line = String::from_utf8(output.stdout).expect("text");
    assert_eq!(line.matches('\n').count(), 1, "{line:?}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    (output.status.code().expect("an exit code"), line.trim_end().to_owned())
}

/// The path of the agent's control socket.
fn socket(agent: &Agent<'_>) -> String {
    agent.state().join("control.sock").to_str().expect("a plain path").to_owned()
}

#[test]
fn a_check_ends_with_0_1_2_and_3() {
    let lab = Lab::new();
    let (host, _gate) = host_and_gate(&lab);
    let mut agent = Agent::start(&host, CONFIGURATION);
    let file = agent.file().to_str().expect("a plain path").to_owned();
    let ask = || check(&["--config", &file]);

    // Before it is, nobody says that all is well.
    wait_until("the subnet to be up", LIMIT, || ask().1.contains("all is well"));
    let (code, line) = ask();
    assert_eq!(code, 0, "{line}");
    assert!(line.starts_with("EVENKEEL OK - all is well: 1 subnet up | alarms=0;;;0 "), "{line}");

    Device::new(&host, "127.0.0.9", TRAPS).v2c(Trap::LinkDown(4));
    wait_until("the minor alarm", LIMIT, || ask().0 == 1);
    let (_, line) = ask();
    let expected = "EVENKEEL WARNING - 1 interface down (127.0.0.9 ifIndex 4) | alarms=1;;;0 ";
    assert!(line.starts_with(expected), "{line}");
    assert!(line.contains(" minor=1;;;0 "), "{line}");
    assert_eq!(check(&["--config", &file, "--critical-from", "minor"]).0, 2);
    assert_eq!(check(&["--config", &file, "--warning-from", "major"]).0, 0);

    host.nft(
        "table inet lab {
            chain in {
                type filter hook input priority 0;
                icmp type echo-reply drop
            }
        }",
    );
    wait_until("the subnet to be down", LIMIT, || ask().0 == 2);
    let (_, line) = ask();
    let expected = "EVENKEEL CRITICAL - 1 subnet down (10.9.0.0/24); ";
    assert!(line.starts_with(expected), "{line}");
    assert!(line.contains(" subnets_down=1;;;0 "), "{line}");

    agent.stop();
    let (code, line) = ask();
    assert_eq!(code, 3, "{line}");
    let expected = format!(
        "EVENKEEL UNKNOWN - no agent is running here: there is no control socket {}; start it with",
        socket(&agent)
    );
    assert!(line.starts_with(&expected), "{line}");
}

#[test]
fn a_check_that_can_not_ask_ends_with_3_and_says_why() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("keel.toml");
    fs::write(&file, "[agent]\nstate_dir = 7\n[web]\nlisten = 7\n").expect("writable");
    let file = file.to_str().expect("a plain path");
    for (words, expected) in [
        (&["--config", file][..], "the configuration is refused: "),
        (&["--config", "/nonexistent/keel.toml"], "the configuration is refused: "),
        (
            &["--socket", "/nonexistent/control.sock"],
            "no agent is running here: there is no control",
        ),
        (&["--colour-of-the-sea"], "unexpected argument '--colour-of-the-sea' found"),
        (&["--critical-from", "cleared"], "invalid value 'cleared' for '--critical-from"),
        (&["peers"], "--check, --all and --schema are of the whole status"),
    ] {
        let (code, line) = check(words);
        assert_eq!(code, 3, "{words:?}: {line}");
        let expected = format!("EVENKEEL UNKNOWN - {expected}");
        assert!(line.starts_with(&expected), "{words:?}: {line}");
    }
    let (_, line) = check(&["--config", file]);
    assert!(line.contains("keel.toml:2:13: ") && line.contains("keel.toml:4:10: "), "{line}");
    // Without --check it is an error like any other.
    assert_eq!(status(&["--colour-of-the-sea"]).status.code(), Some(2));
    let output = status(&["--socket", "/nonexistent/control.sock"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("/nonexistent/control.sock; start it with `evenkeel run`"), "{said}");
}

#[test]
fn an_agent_that_is_stopped_is_said_not_to_answer() {
    let lab = Lab::new();
    let ns = lab.namespace("stopped");
    let mut agent = Agent::start(&ns, CONFIGURATION);
    agent.signal(libc::SIGSTOP);
    // Its threads stop one after the other, and may still answer once.
    let mut said = String::new();
    wait_until("no answer", LIMIT, || {
        let (code, line) = check(&["--socket", &socket(&agent)]);
        said = line;
        code == 3
    });
    assert!(said.contains("did not answer within 10 seconds"), "{said}");

    // Killed, it leaves its socket behind.
    agent.kill9();
    let (code, line) = check(&["--socket", &socket(&agent)]);
    assert_eq!(code, 3);
    assert!(line.contains("nobody listens at the control socket"), "{line}");
}

#[test]
fn who_connects_and_says_nothing_holds_up_nobody() {
    let lab = Lab::new();
    let ns = lab.namespace("silent");
    let agent = Agent::start(&ns, CONFIGURATION);
    // Each of them has ten seconds to ask, which is as long as anyone waits for an answer.
    let silent: Vec<_> = (0..3).map(|_| UnixStream::connect(socket(&agent))).collect();
    assert!(silent.iter().all(Result::is_ok));
    printed(&["--socket", &socket(&agent)]);
}

/// Holds a document to a schema, by a second mind: Python's jsonschema.
fn is_valid(document: &str, schema: &Path) -> Result<(), String> {
    const VALIDATE: &str = "import json, sys, jsonschema\n\
                            schema = json.load(open(sys.argv[1]))\n\
                            jsonschema.Draft202012Validator.check_schema(schema)\n\
                            jsonschema.Draft202012Validator(schema).validate(json.load(sys.stdin))\n";
    let mut python = Command::new("python3")
        .args(["-c", VALIDATE])
        .arg(schema)
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("tests/setup installs python3-jsonschema");
    python.stdin.take().expect("piped").write_all(document.as_bytes()).expect("python reads");
    let output = python.wait_with_output().expect("python ends");
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

#[test]
fn the_json_is_as_its_schema_says() {
    let schema = repository("agent/status/schema.json");
    let committed = fs::read_to_string(&schema).expect("it is in the repository");
    assert_eq!(printed(&["--schema"]), committed);

    // Documents made by hand have every variant; the agent's own have what is real.
    for name in ["well", "starting", "wrong"] {
        let path = repository(&format!("agent/status/testdata/{name}.json"));
        let document = fs::read_to_string(path).expect("it is in the repository");
        assert_eq!(is_valid(&document, &schema), Ok(()), "{name}");
        let mut broken: Value = serde_json::from_str(&document).expect("JSON");
        broken["agent"]["uptime_seconds"] = "long".into();
        assert!(is_valid(&broken.to_string(), &schema).is_err(), "the schema allows anything");
    }

    let lab = Lab::new();
    let (host, gate) = host_and_gate(&lab);
    gate.address("eth0", "10.9.0.7/24");
    gate.nft(
        "table inet lab {
            chain in {
                type filter hook input priority 0;
                ip daddr 10.9.0.7 icmp type echo-request drop
            }
        }",
    );
    let more = "[[notifications.target]]\nname = \"nms\"\naddress = \"127.0.0.1:11162\"\n\
                [[peers.group]]\nname = \"core\"\ninterval = \"1s\"\ntimeout = \"200ms\"\n\
                peers = [\"10.9.0.1\", \"10.9.0.7\"]\n";
    let agent = Agent::start(&host, &format!("{CONFIGURATION}{more}"));
    let device = Device::new(&host, "127.0.0.9", TRAPS);
    for trap in [Trap::LinkDown(4), Trap::LinkDown(4), Trap::LinkDown(7)] {
        device.v2c(trap);
    }
    let json = || printed(&["--socket", &socket(&agent), "--format", "json"]);
    let document = || serde_json::from_str::<Value>(&json()).expect("JSON and no more");
    wait_until("the alarms, and a flow that is up", LIMIT, || {
        let status = document();
        // Nobody listens at the notification target.
        let kinds = ["peer_down", "interface_unstable", "notification_target_unreachable"];
        kinds.iter().all(|kind| status["alarms_by_kind"][kind] == 1)
            && status["alarms_by_kind"]["interface_down"] == 1
            && status["flows"][0]["status"] == "up"
    });
    assert_eq!(is_valid(&json(), &schema), Ok(()));
    let status = document();
    assert_eq!(status["schema"], 1);
    assert_eq!(status["alarms_active"], 4, "{status}");
    assert_eq!(status["alarms_by_severity"]["major"], 3, "{status}");
    assert_eq!(status["alarms_by_severity"]["minor"], 1, "{status}");
    assert_eq!(status["objects_unstable"], 1, "{status}");
    assert_eq!(status["subnets"][0]["interfaces"][0]["words"], "up", "{status}");
    assert_eq!(is_valid(&agent.status().to_string(), &schema), Ok(()), "over HTTP, too");

    let lines = printed(&["--socket", &socket(&agent), "--format", "line"]);
    for expected in [
        "verdict\tmajor\t3 major, 1 minor\n",
        "\tinterface_unstable\t",
        "unstable\t127.0.0.9 ifIndex 4\t-\t2\t",
        "interface\t10.9.0.0/24\teth0\tup\tup\tyes\tno\t-\tno\n",
        "flow\t10.9.0.0/24\teth0\t10.9.0.2\t10.9.0.1\tup\t",
        "group\tcore\t2\t0\t1\t",
        "target\tnms\tunreachable\t127.0.0.1:11162\t",
    ] {
        assert!(lines.contains(expected), "no {expected:?} in:\n{lines}");
    }
    let peers = printed(&["peers", "--socket", &socket(&agent), "--format", "line"]);
    assert!(peers.contains("peer\t10.9.0.7\tcore\tdown\t"), "{peers}");
}

#[test]
fn a_member_of_the_sockets_group_may_ask_without_root_and_no_other_may() {
    /// A group that nobody else is in, and `nobody`.
    const GROUP: u32 = 424_242;
    const NOBODY: &str = "65534";
    let lab = Lab::new();
    let ns = lab.namespace("group");
    let group = GROUP.to_string();
    let via = ["setpriv", "--regid", &group, "--clear-groups"];
    let agent = Agent::start_via(&ns, CONFIGURATION, &via);
    // As a service's state directory is; and a way to it for those who may use it.
    let (state, above) = (agent.state(), agent.state().join(".."));
    chown(&state, None, Some(GROUP)).expect("root may");
    fs::set_permissions(&state, fs::Permissions::from_mode(0o750)).expect("root may");
    fs::set_permissions(above, fs::Permissions::from_mode(0o711)).expect("root may");
    // Where this test was built may be closed to others.
    let directory = tempfile::tempdir().expect("a temporary directory");
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o711)).expect("ours");
    let binary = directory.path().join("evenkeel");
    fs::copy(BINARY, &binary).expect("room for a copy");

    let ask = |groups: &str| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", NOBODY, "--regid", NOBODY, groups]);
        command.arg(&binary).args(["status", "--check", "--socket", &socket(&agent)]);
        let output = command.output().expect("tests/setup installs setpriv");
        String::from_utf8(output.stdout).expect("text")
    };
    let member = ask(&format!("--groups={group}"));
    assert!(member.starts_with("EVENKEEL OK - "), "{member}");
    let other = ask("--clear-groups");
    assert!(other.starts_with("EVENKEEL UNKNOWN - you may not use the control socket"), "{other}");
    // Where the directory is open, the socket itself is closed.
    fs::set_permissions(&state, fs::Permissions::from_mode(0o755)).expect("root may");
    let other = ask("--clear-groups");
    assert!(other.starts_with("EVENKEEL UNKNOWN - you may not use the control socket"), "{other}");
}

#[test]
fn colours_are_for_terminals_and_for_who_wants_them() {
    let lab = Lab::new();
    let ns = lab.namespace("colours");
    let agent = Agent::start(&ns, CONFIGURATION);
    let socket = socket(&agent);
    let escape = "\x1b[";
    assert!(!printed(&["--socket", &socket]).contains(escape), "a pipe is no terminal");
    assert!(printed(&["--socket", &socket, "--color", "always"]).contains(escape));

    let at_terminal = |environment: &[(&str, &str)], words: &str| {
        let line = format!("{BINARY} status --socket {socket} {words}");
        let mut command = Command::new("script");
        command.args(["-qec", &line, "/dev/null"]).stdin(Stdio::null());
        // CI's variable of that name calls for colours where there seem to be none.
        for variable in ["NO_COLOR", "CI"] {
            command.env_remove(variable);
        }
        command.env("TERM", "xterm").envs(environment.iter().copied());
        output(&mut command)
    };
    assert!(at_terminal(&[], "").contains(escape));
    assert!(!at_terminal(&[("NO_COLOR", "1")], "").contains(escape));
    assert!(!at_terminal(&[("TERM", "dumb")], "").contains(escape));
    assert!(!at_terminal(&[], "--color never").contains(escape));
    assert!(at_terminal(&[("NO_COLOR", "1")], "--color always").contains(escape));
    assert!(!at_terminal(&[], "--format line").contains(escape));
}

#[test]
fn watch_redraws_in_place_at_a_terminal() {
    let lab = Lab::new();
    let ns = lab.namespace("watch");
    let agent = Agent::start(&ns, CONFIGURATION);
    let (rows, columns) = (8, 50);
    let line = format!(
        "stty rows {rows} cols {columns}; timeout -s INT 4 {BINARY} status --watch 0.5 --socket {}",
        socket(&agent)
    );
    let mut command = Command::new("script");
    command.args(["-qec", &line, "/dev/null"]).stdin(Stdio::null());
    command.env_remove("NO_COLOR").env("TERM", "xterm");
    let result = command.output().expect("tests/setup installs script");
    let text = String::from_utf8(result.stdout).expect("text");
    let frames: Vec<&str> = text.split("\x1b[H").skip(1).collect();
    assert!(frames.len() >= 3, "{} frames in 4 s: {text:?}", frames.len());
    let whole = &frames[..frames.len() - 1];
    for frame in whole {
        assert!(frame.ends_with("\x1b[J"), "{frame:?}");
        assert_eq!(frame.matches('\n').count(), rows - 1, "it would scroll: {frame:?}");
        assert!(frame.contains("keel-1: "), "{frame:?}");
        assert!(frame.contains("more lines: make the window taller"), "{frame:?}");
    }
}

#[test]
fn watch_goes_on_over_a_restart_of_the_agent() {
    let lab = Lab::new();
    let ns = lab.namespace("restart");
    let mut agent = Agent::start(&ns, CONFIGURATION);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("said");
    let said = File::create(&path).expect("writable");
    let mut command = Command::new(BINARY);
    command.args(["status", "--watch", "0.2", "--socket", &socket(&agent)]);
    command.stderr(said.try_clone().expect("a file")).stdout(said);
    let _watch = Guard::spawn(&mut command);
    let text = || fs::read_to_string(&path).expect("text");
    let last = || text().rsplit("--- ").next().unwrap_or_default().to_owned();
    wait_until("the first look", LIMIT, || text().contains("keel-1: "));
    agent.stop();
    wait_until("it to say so", LIMIT, || last().contains("The agent does not answer: no agent is"));
    agent.launch();
    wait_until("it to go on", LIMIT, || last().contains("keel-1: "));
    assert!(text().lines().all(|line| !line.contains('\x1b')));
}

#[test]
fn watch_ends_when_nobody_reads_any_more() {
    let lab = Lab::new();
    let ns = lab.namespace("head");
    let agent = Agent::start(&ns, CONFIGURATION);
    let line = format!(
        "{BINARY} status --watch 0.1 --format line --socket {} | head -n 12 | wc -l",
        socket(&agent)
    );
    let start = Instant::now();
    let result = Command::new("sh").args(["-c", &line]).output().expect("a shell");
    assert_eq!(String::from_utf8_lossy(&result.stdout).trim(), "12");
    assert_eq!(String::from_utf8_lossy(&result.stderr), "", "it is no error");
    assert!(start.elapsed() < LIMIT);
}
