//! The status page and the API as people and programs meet them: by a real browser, by curl, and by those
//! who validate what is answered.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::Value;

use crate::common::{
    Agent, Device, Lab, Ns, Trap,
    field::{self, Field},
    output, repository, wait_until,
};
use crate::pair::{Hosts, Pair};

const TRAPS: &str = "127.0.0.1:10162";

/// Where the page is.
const WEB: &str = "127.0.0.1:19040";

/// How long anything may take. Far above need.
const LIMIT: Duration = Duration::from_secs(30);

const CONFIGURATION: &str = r#"
[traps]
listen = ["127.0.0.1:10162"]
[[traps.community]]
name = "public"
sources = ["127.0.0.0/8"]

[instability]
interfaces = { window = "3s", threshold = 2 }

[[notifications.target]]
name = "nms-east"
address = "127.0.0.1:11162"

[subnets]
poll_interval = "1s"
watch_gateways = false
[[subnets.subnet]]
prefix = "10.9.0.0/24"
polling_targets = ["10.9.0.1"]

[[peers.group]]
name = "field"
peers = ["203.0.113.1"]
labels = { site = "north" }
"#;

/// A host on a subnet with a gateway.
fn host_and_gate(lab: &Lab) -> (Ns, Ns) {
    let (host, gate) = (lab.namespace("host"), lab.namespace("gate"));
    lab.link((&host, "eth0"), (&gate, "eth0"));
    host.address("eth0", "10.9.0.2/24");
    gate.address("eth0", "10.9.0.1/24");
    host.exec("ip route add default via 10.9.0.1");
    gate.exec("ip route add local 203.0.113.0/24 dev lo");
    (host, gate)
}

/// A script of `tests/page`, in a namespace, with what `tests/setup` has installed for it.
fn script(ns: &Ns, name: &str) -> Command {
    let mut command = ns.command("node");
    command.arg(repository("tests/page").join(name));
    command.env("PAGE_MODULES", repository("target/page-tests"));
    // A browser keeps its own things where nothing else is.
    command.env("HOME", repository("target/page-tests"));
    command
}

/// Looks at the page by a browser.
fn look(ns: &Ns, what: &str) {
    let mut script = script(ns, "look.mjs");
    script.arg(what).arg(format!("http://{WEB}/"));
    println!("{}", output(script.arg(repository("target/page-tests/pictures"))));
}

#[test]
fn a_browser_shows_alarms_within_a_second_and_nothing_hostile_harms_it() {
    // Times are measured, so nothing else runs beside.
    let lab = Lab::alone();
    let (host, _gate) = host_and_gate(&lab);
    let agent = Agent::start(&host, CONFIGURATION);
    wait_until("the subnet to be up", LIMIT, || agent.status()["subnets"][0]["status"] == "up");
    look(&host, "watch");
}

#[test]
fn a_browser_searches_128_000_peers_at_once() {
    let lab = Lab::alone();
    let host = lab.namespace("host");
    let _field = Field::routed(&lab, &host);
    let targets = tempfile::tempdir().expect("a temporary directory");
    let file = targets.path().join("peers.json");
    field::write_targets(&file, field::v4(0, 128_000));
    let configuration = format!(
        "[traps]\nlisten = [\"{TRAPS}\"]\n[subnets]\nwatch_gateways = false\n[[peers.group]]\n\
         name = \"field\"\nmonitor_max_peers = 128000\nfiles = [{file:?}]\n"
    );
    let agent = Agent::start(&host, &configuration);
    wait_until("every peer to be known", LIMIT, || {
        agent.metrics().sum("evenkeel_peers", &[]) == 128_000.0
    });
    look(&host, "search");
}

#[test]
fn pair_7_a_browser_shows_the_pair_and_a_takeover_as_it_happens() {
    let hosts = Hosts::new();
    let mut pair = Pair::start(&hosts, "");
    let mut script = script(&hosts.two, "look.mjs");
    script.arg("pair").arg(format!("http://{WEB}/"));
    script.arg(repository("target/page-tests/pictures")).stdout(Stdio::piped());
    let mut looks = script.spawn().expect("tests/setup installs it");
    let mut line = String::new();
    let said = looks.stdout.take().expect("piped");
    BufReader::new(said).read_line(&mut line).expect("text");
    assert_eq!(line, "ready\n", "what it says is above");
    pair.one.kill9();
    assert!(looks.wait().expect("a child of ours").success());

    // The API tells the same, as it is described.
    let get = |path: &str| {
        let (status, _, body) = curl(&hosts.two, &[&format!("http://{WEB}{path}")]);
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str::<Value>(&body).expect("JSON")
    };
    let status = get("/api/v1/status");
    assert_eq!(status["pair"]["last_takeover"]["reason"], "mate_silent", "{status:#}");
    let answers = [("/api/v1/status", status)];
    let text = serde_json::to_string(&(get("/api/v1/openapi.json"), answers)).expect("JSON");
    assert_eq!(validate(Command::new("python3").args(["-c", VALIDATE]), &text).trim(), "1");
}

/// What curl is answered: the status, the media type and the body.
fn curl(ns: &Ns, words: &[&str]) -> (u16, String, String) {
    let mut command = ns.command("curl");
    command.args(["--silent", "--max-time", "20", "--write-out", "\n%{http_code} %{content_type}"]);
    let text = output(command.args(words));
    let (body, last) = text.rsplit_once('\n').expect("a line behind the body");
    let (status, kind) = last.split_once(' ').expect("two words");
    (status.parse().expect("a status"), kind.to_owned(), body.to_owned())
}

/// The problem document that a request is answered with, of this status.
fn refused(ns: &Ns, status: u16, words: &[&str]) -> String {
    let (answered, kind, body) = curl(ns, words);
    assert_eq!(
        (answered, kind.as_str()),
        (status, "application/problem+json"),
        "{words:?}: {body}"
    );
    let problem: Value = serde_json::from_str(&body).expect("a problem document");
    assert_eq!(problem["status"], status, "{body}");
    assert_eq!(problem["type"], "about:blank", "{body}");
    problem["detail"].as_str().expect("words").to_owned()
}

/// Holds each answer of the API to its schema in the description, by a second mind: Python's jsonschema.
const VALIDATE: &str = "import json, sys, jsonschema
description, answers = json.load(sys.stdin)
for path, answer in answers:
    content = description['paths'][path]['get']['responses']['200']['content']
    schema = dict(content['application/json']['schema'], components=description['components'])
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(answer)
    # What the schema does not name is not described.
    definition = description['components']['schemas'][schema['$ref'].split('/')[-1]]
    assert set(answer) <= set(definition['properties']), path
print(len(answers))
";

/// What a program that validates says of a text.
fn validate(command: &mut Command, text: &str) -> String {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("tests/setup installs it");
    child.stdin.take().expect("piped").write_all(text.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{command:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn every_answer_of_the_api_is_as_described() {
    let lab = Lab::new();
    let (host, _gate) = host_and_gate(&lab);
    let agent = Agent::start(&host, CONFIGURATION);
    let device = Device::new(&host, "127.0.0.9", TRAPS);
    device.v2c(Trap::LinkDown(3));
    device.v2c(Trap::LinkUp(3));
    device.v2c(Trap::LinkDown(3));
    device.v2c(Trap::LinkDown(4));
    Device::new(&host, "127.0.0.9", TRAPS).with_community("secret").v2c(Trap::LinkDown(5));
    wait_until("the alarms", LIMIT, || {
        let status = agent.status();
        status["alarms_active"].as_u64() >= Some(2) && status["objects_unstable"] == 1
    });

    let get = |path: &str| {
        let (status, kind, body) = curl(&host, &[&format!("http://{WEB}{path}")]);
        assert_eq!((status, kind.as_str()), (200, "application/json"), "{path}: {body}");
        serde_json::from_str::<Value>(&body).unwrap_or_else(|error| panic!("{path}: {error}"))
    };
    let description = get("/api/v1/openapi.json");
    let mut answers = Vec::new();
    for path in [
        "/api/v1/status",
        "/api/v1/alarms",
        "/api/v1/alarms?severity=major,critical&kind=interface_unstable&limit=1",
        "/api/v1/events",
        "/api/v1/events?after=0&limit=2",
        "/api/v1/peers",
        "/api/v1/peers?group=field&state=alive,unknown&address=203.0.113.0/24&label=site=north&limit=5",
        "/api/v1/rejected",
    ] {
        let bare = path.split('?').next().expect("a path");
        answers.push((bare, get(path)));
    }
    let described = description["paths"].as_object().expect("an object");
    for path in described.keys() {
        assert!(answers.iter().any(|(bare, _)| bare == path), "{path} was not asked");
    }
    let of = |nth: usize| &answers[nth].1;
    assert_eq!(of(2)["alarms"][0]["object_text"], "127.0.0.9 ifIndex 3");
    assert_eq!(of(2)["alarms"].as_array().map(Vec::len), Some(1));
    assert_eq!(of(4)["events"][0]["event"], "raise");
    assert_eq!(of(4)["events"].as_array().map(Vec::len), Some(2));
    assert_eq!(of(6)["peers"][0]["address"], "203.0.113.1");
    assert_eq!(of(7)["rejected"][0]["reason"], "unknown_community");
    assert!(!of(7).to_string().contains("secret"), "a community is as good as a password");
    // Who asks again with what he knows gets what is new.
    let last = of(4)["last"].as_u64().expect("a number");
    let newer = get(&format!("/api/v1/events?after={last}"));
    assert!(newer["last"].as_u64() >= Some(last), "{newer}");

    let text = serde_json::to_string(&(&description, &answers)).expect("JSON");
    assert_eq!(validate(Command::new("python3").args(["-c", VALIDATE]), &text).trim(), "8");
    validate(&mut script(&host, "openapi.mjs"), &description.to_string());

    let url = |path: &str| format!("http://{WEB}{path}");
    for (path, expected) in [
        ("/api/v1/status?colour=red", "\"colour\" is unknown; there is nothing to be asked here"),
        ("/api/v1/alarms?severity=bad", "severity=bad is unknown; there are critical, major"),
        ("/api/v1/alarms?limit=1001", "limit=1001 is no number from 0 to 1000"),
        ("/api/v1/events?after=-1", "after=-1 is no number from 0 to "),
        ("/api/v1/events?limit=0", "limit=0 is no number from 1 to 1000"),
        ("/api/v1/events?limit=1&limit=2", "limit is there twice"),
        ("/api/v1/peers?state=dead", "\"dead\" is no state of a peer"),
        ("/api/v1/peers?limit=10001", "limit=10001 is above 10000"),
    ] {
        let detail = refused(&host, 400, &[&url(path)]);
        assert!(detail.starts_with(expected), "{path}: {detail}");
    }
    let long = format!("/api/v1/alarms?kind={}", "x".repeat(10_000));
    assert!(refused(&host, 400, &[&url(&long)]).starts_with("the query is longer"));
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        let detail = refused(&host, 405, &["--request", method, &url("/api/v1/status")]);
        assert!(detail.starts_with(method), "{detail}");
    }
    refused(&host, 404, &[&url("/api/v2/status")]);
    refused(&host, 405, &[&url("/-/reload")]);
}

/// A request that stays open, and the head of its answer.
fn watch(ns: &Ns, address: &str) -> (BufReader<TcpStream>, u16) {
    ns.inside(|| {
        let mut stream = TcpStream::connect(address).expect("somebody listens");
        stream.set_read_timeout(Some(LIMIT)).expect("a time");
        write!(stream, "GET /page/live HTTP/1.1\r\nHost: {address}\r\n\r\n").expect("it is read");
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line).expect("an answer");
        let status = line.split_whitespace().nth(1).and_then(|word| word.parse().ok());
        (reader, status.expect("a status"))
    })
}

#[test]
fn so_many_may_watch_and_who_does_not_read_holds_up_nobody() {
    let lab = Lab::new();
    let (host, _gate) = host_and_gate(&lab);
    let agent = Agent::start(&host, CONFIGURATION);
    // None of these reads what it is sent.
    let idle: Vec<_> = (0..31).map(|_| watch(&host, WEB)).collect();
    assert!(idle.iter().all(|(_, status)| *status == 200));
    let (mut viewer, status) = watch(&host, WEB);
    assert_eq!(status, 200);
    let (_, status) = watch(&host, WEB);
    assert_eq!(status, 503, "32 may watch");

    Device::new(&host, "127.0.0.9", TRAPS).v2c(Trap::LinkDown(4));
    let mut read = Vec::new();
    let mut some = [0; 4096];
    wait_until("the alarm on the page that somebody reads", LIMIT, || {
        let count = viewer.read(&mut some).expect("the stream goes on");
        read.extend_from_slice(&some[..count]);
        String::from_utf8_lossy(&read).contains("127.0.0.9 ifIndex 4")
    });
    drop((viewer, idle));
    // Whoever goes makes room.
    wait_until("room", LIMIT, || watch(&host, WEB).1 == 200);
    drop(agent);
}

/// A certificate and its key, in files of this name; it signs itself unless `more` says who does.
fn certificate(directory: &Path, name: &str, more: &[&str]) {
    let new = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj";
    let mut openssl = Command::new("openssl");
    openssl.current_dir(directory).args(new.split(' ')).arg(format!("/CN={name}")).args(more);
    openssl.args(["-keyout", &format!("{name}.key"), "-out", &format!("{name}.pem")]);
    output(&mut openssl);
}

/// The hash of `shared water`, by `htpasswd -nBC 10`.
const HASH: &str = "$2b$10$nhBZB8l7hQyZZo/HxyTIjOuOwzTY5T6FIXQTJpz.cw95wrpyhWLP.";

#[test]
fn the_web_configuration_file_gives_tls_users_and_headers_and_is_read_again() {
    let lab = Lab::new();
    let host = lab.namespace("web");
    let files = tempfile::tempdir().expect("a temporary directory");
    certificate(files.path(), "web", &["-addext", "subjectAltName=IP:127.0.0.1"]);
    certificate(files.path(), "ca", &[]);
    let signed = ["-CA", "ca.pem", "-CAkey", "ca.key", "-addext", "basicConstraints=CA:FALSE"];
    certificate(files.path(), "client", &signed);
    let web_file = files.path().join("web.yml");
    let tls =
        "tls_server_config:\n  cert_file: web.pem\n  key_file: web.key\n  min_version: TLS13\n";
    let rest = format!(
        "http_server_config:\n  headers:\n    Strict-Transport-Security: max-age=63072000\n\
         basic_auth_users:\n  noc: {HASH}\n"
    );
    let write = |text: &str| {
        fs::write(&web_file, text).expect("writable");
        // What we take, Prometheus' own tool takes, too.
        output(Command::new("promtool").args(["check", "web-config"]).arg(&web_file));
    };
    write(&format!("{tls}{rest}"));
    let mut agent = Agent::with(&host, "[traps]\nlisten = [\"127.0.0.1:10162\"]\n");
    agent.configure_web(&format!("config_file = {web_file:?}"));
    agent.launch_unready();

    let ca = files.path().join("web.pem");
    let ca = ca.to_str().expect("a plain path");
    let user = ["--user", "noc:shared water"];
    let secret = ["--cacert", ca];
    let url = "https://127.0.0.1:19040/api/v1/status";
    let probe = |words: &[&str]| {
        let mut command = host.command("curl");
        command.args(["--silent", "--output", "/dev/null", "--write-out", "%{http_code}"]);
        let result = command.args(words).output().expect("curl");
        String::from_utf8_lossy(&result.stdout).into_owned()
    };
    wait_until("the agent to answer", LIMIT, || {
        probe(&[&secret[..], &user, &[url]].concat()) == "200"
    });
    let (status, _, body) = curl(&host, &[&secret[..], &user, &[url]].concat());
    assert_eq!(status, 200);
    assert!(body.contains("\"keel-1\""), "{body}");
    let detail = refused(&host, 401, &[&secret[..], &[url]].concat());
    assert_eq!(detail, "name and password are needed");
    refused(&host, 401, &[&secret[..], &["--user", "noc:shared wate", url]].concat());
    refused(&host, 401, &[&secret[..], &["--user", "root:shared water", url]].concat());
    let head = output(host.command("curl").args([
        "--silent",
        "--head",
        "--user",
        "noc:shared water",
        "--cacert",
        ca,
        url,
    ]));
    assert!(head.contains("strict-transport-security: max-age=63072000"), "{head}");
    assert!(head.contains("content-security-policy: default-src 'none'"), "{head}");
    assert_eq!(probe(&["http://127.0.0.1:19040/"]), "000", "without TLS there is nothing");
    assert_eq!(probe(&[&secret[..], &user, &["--tls-max", "1.2", url]].concat()), "000");

    // A bad one is refused, and the one before stays; by HTTP whoever orders it is told why.
    fs::write(&web_file, format!("{tls}  cipher_suite: [a]\n{rest}")).expect("writable");
    let order = ["--request", "POST", "https://127.0.0.1:19040/-/reload"];
    let detail = refused(&host, 500, &[&secret[..], &user, &order].concat());
    assert!(detail.contains("unknown field `cipher_suite`"), "{detail}");
    assert_eq!(probe(&[&secret[..], &user, &[url]].concat()), "200");

    // From now on by certificates, instead of passwords.
    write(&format!(
        "{tls}  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.pem\n"
    ));
    agent.reload();
    let path = |name: &str| files.path().join(name).to_str().expect("a plain path").to_owned();
    let (cert, key) = (path("client.pem"), path("client.key"));
    wait_until("the new file to be in force", LIMIT, || {
        probe(&[&secret[..], &["--cert", &cert, "--key", &key, url]].concat()) == "200"
    });
    assert_eq!(probe(&[&secret[..], &user, &[url]].concat()), "000", "who has no certificate");
    agent.stop();
}

#[test]
fn while_it_starts_it_is_healthy_and_not_ready() {
    let lab = Lab::new();
    let host = lab.namespace("starts");
    let files = tempfile::tempdir().expect("a temporary directory");
    // A recording that nobody reads yet holds up a start.
    let record = files.path().join("record");
    output(Command::new("mkfifo").arg(&record));
    let configuration = format!(
        "record = {record:?}\n[traps]\nlisten = [{TRAPS:?}]\n[subnets]\nwatch_gateways = false\n"
    );
    let mut agent = Agent::with(&host, &configuration);
    agent.launch_unready();
    wait_until("an answer", LIMIT, || agent.get("/-/healthy").is_some());
    assert_eq!(agent.get("/-/healthy"), Some((200, "evenkeel is healthy.\n".to_owned())));
    for path in ["/-/ready", "/metrics", "/", "/api/v1/status"] {
        let detail = refused(&host, 503, &[&format!("http://{WEB}{path}")]);
        assert_eq!(detail, "the agent starts: it reads its journal and its spool", "{path}");
    }
    let reader = std::thread::spawn(move || fs::read(record).expect("it is closed in order"));
    agent.wait_ready();
    assert_eq!(agent.get("/-/ready"), Some((200, "evenkeel is ready.\n".to_owned())));
    assert!(agent.metrics().has("evenkeel_build_info"));
    agent.stop();
    assert!(!reader.join().expect("no panic").is_empty());
}

#[test]
fn the_configuration_is_loaded_again_by_order_of_this_host_alone_unless_allowed() {
    let lab = Lab::new();
    let (host, gate) = host_and_gate(&lab);
    let mut agent = Agent::with(&host, CONFIGURATION);
    agent.configure_web("listen = \"0.0.0.0:19040\"");
    agent.launch();
    let order = ["--request", "POST", "http://10.9.0.2:19040/-/reload"];
    let detail = refused(&gate, 403, &order);
    assert!(detail.contains("remote_reload = true"), "{detail}");
    let here = ["--request", "PUT", "http://127.0.0.1:19040/-/reload"];
    let proxy = [&["--header", "X-Forwarded-For: 10.9.0.1"][..], &here].concat();
    refused(&host, 403, &proxy);
    agent.configure_web("listen = \"0.0.0.0:19040\"\nremote_reload = true");
    assert_eq!(curl(&host, &here).0, 200, "{}", agent.log());
    assert_eq!(curl(&gate, &order).0, 200, "{}", agent.log());
    agent.configure("[traps]\nlisten = 7\n");
    let detail = refused(&gate, 500, &order);
    assert!(detail.contains("traps.listen"), "{detail}");
    let reloads = agent.metrics().sum("evenkeel_config_last_reload_successful", &[]);
    assert_eq!(reloads, 0.0);
}
