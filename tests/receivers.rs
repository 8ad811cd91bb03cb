//! What webhooks, syslog servers and Alertmanagers are told: a server that checks each signature, a real
//! rsyslog and a real Alertmanager, over failures of theirs and a crash of the agent (TRAP-11).

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;

use crate::common::{Agent, Device, Guard, Lab, Ns, Trap, repository, wait_until};

const TRAPS: &str = "127.0.0.1:10162";
const ALERTMANAGER: &str = "127.0.0.1:9093";
const SECRET: &str = "a secret that nobody guesses";

/// The time that is granted for what should take a second or less, on a busy machine.
const SOON: Duration = Duration::from_secs(15);

/// The longest wait between two tries, and as much again.
const RETRY: Duration = Duration::from_secs(60);

const CONFIGURATION: &str = r#"[traps]
listen = ["127.0.0.1:10162"]
[[traps.community]]
name = "public"

[instability]
interface_down = false
interfaces = { window = "2s", threshold = 2 }

[subnets]
watch_gateways = false

[[notifications.webhook]]
name = "hook"
url = "http://127.0.0.1:8099/alarms"
secret = "a secret that nobody guesses"
bearer_token = "dG9rZW4"

[[notifications.syslog]]
name = "logs"
address = "127.0.0.1:1514"
transport = "tcp"

[[notifications.syslog]]
name = "logs over udp"
address = "127.0.0.1:1515"

[[notifications.alertmanager]]
name = "alerts"
url = "http://127.0.0.1:9093"
"#;

/// A directory, and servers that keep what they hear in it.
struct Site<'a> {
    ns: &'a Ns,
    directory: TempDir,
}

impl Site<'_> {
    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn hook(&self) -> Guard {
        let mut command = self.ns.command("python3");
        command.arg(repository("tests/webhook_server.py"));
        command.arg("8099").arg(self.file("hook")).arg(SECRET);
        Guard::spawn(&mut command)
    }

    fn rsyslog(&self) -> Guard {
        let text = format!(
            r#"module(load="imtcp")
module(load="imudp")
template(name="raw" type="string" string="%rawmsg%\n")
ruleset(name="keep") {{ action(type="omfile" file="{file}" template="raw") }}
input(type="imtcp" address="127.0.0.1" port="1514" ruleset="keep")
input(type="imudp" address="127.0.0.1" port="1515" ruleset="keep")
"#,
            file = self.file("messages").display()
        );
        let configuration = self.file("rsyslog.conf");
        fs::write(&configuration, text).expect("a writable directory");
        let mut command = self.ns.command("rsyslogd");
        command.arg("-n").arg("-f").arg(configuration).arg("-i").arg(self.file("rsyslog.pid"));
        Guard::spawn(command.stdout(Stdio::null()).stderr(Stdio::null()))
    }

    fn alertmanager(&self) -> Guard {
        let configuration = self.file("alertmanager.yml");
        fs::write(&configuration, "route:\n  receiver: nobody\nreceivers:\n- name: nobody\n")
            .expect("a writable directory");
        let mut command = self.ns.command("prometheus-alertmanager");
        command.arg(format!("--config.file={}", configuration.display()));
        command.arg(format!("--storage.path={}", self.file("alertmanager").display()));
        command.arg(format!("--web.listen-address={ALERTMANAGER}"));
        command.arg("--cluster.listen-address=");
        let guard = Guard::spawn(command.stdout(Stdio::null()).stderr(Stdio::null()));
        wait_until("the Alertmanager is ready", SOON, || {
            matches!(self.ns.get(ALERTMANAGER, "/-/ready"), Some((200, _)))
        });
        guard
    }

    /// What the webhook was told and took: event and alarm id, in order, without what came twice.
    fn hooked(&self) -> Vec<(String, String)> {
        let mut told = Vec::new();
        for request in lines(&self.file("hook")) {
            let request: Value = serde_json::from_str(&request).expect("one line, one request");
            assert_eq!(request["genuine"], true, "{request}");
            assert_eq!(request["token"], "Bearer dG9rZW4");
            if request["taken"] == false {
                continue;
            }
            for event in request["body"]["events"].as_array().expect("events") {
                let of = |value: &Value| value.as_str().expect("text").to_owned();
                let pair = (of(&event["event"]), of(&event["alarm"]["id"]));
                if !told.contains(&pair) {
                    told.push(pair);
                }
            }
        }
        told
    }

    /// The same of the messages that rsyslog has, which come twice: by TCP and by UDP.
    fn logged(&self) -> Vec<(String, String)> {
        let messages = lines(&self.file("messages"));
        messages
            .iter()
            .map(|message| {
                let parameter = |name: &str| {
                    let (_, rest) =
                        message.split_once(&format!(" {name}=\"")).expect("a parameter");
                    rest.split('"').next().expect("a value").to_owned()
                };
                (parameter("event"), parameter("id"))
            })
            .collect()
    }

    /// The ids of the alarms that the Alertmanager has active.
    fn alerts(&self) -> Vec<String> {
        let (status, body) = self.ns.get(ALERTMANAGER, "/api/v2/alerts").expect("an answer");
        assert_eq!(status, 200, "{body}");
        let body = body.split_once('[').map_or(body.as_str(), |_| &body[body.find('[').unwrap()..]);
        let alerts: Value =
            serde_json::from_str(body.trim_end_matches(['\r', '\n', '0'])).expect("JSON");
        let id = |alert: &Value| {
            assert_eq!(alert["labels"]["alertname"], "InterfaceUnstable");
            assert_eq!(alert["labels"]["if_index"], "7");
            alert["annotations"]["alarm_id"].as_str().expect("text").to_owned()
        };
        alerts.as_array().expect("a list").iter().map(id).collect()
    }
}

fn lines(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    // The last line may be half written.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(str::to_owned).collect()
}

fn flap(device: &Device) {
    device.v2c(Trap::LinkDown(7));
    device.v2c(Trap::LinkUp(7));
    device.v2c(Trap::LinkDown(7));
}

#[test]
fn trap_11_webhook_syslog_and_alertmanager_are_told_each_raise_and_clear() {
    let lab = Lab::new();
    let ns = lab.namespace("keel");
    let site = Site { ns: &ns, directory: TempDir::with_prefix("ek-site-").expect("a directory") };
    let _rsyslog = site.rsyslog();
    let _alertmanager = site.alertmanager();
    let hook = site.hook();
    let mut agent = Agent::start(&ns, CONFIGURATION);
    let device = Device::new(&ns, "127.0.0.1", TRAPS);

    flap(&device);
    wait_until("the Alertmanager has the alarm", SOON, || site.alerts().len() == 1);
    let id = agent.journal()[0].id.clone();
    assert_eq!(site.alerts(), std::slice::from_ref(&id));
    wait_until("the alarm is over there too", SOON, || site.alerts().is_empty());
    let of = |event: &str, id: &str| (event.to_owned(), id.to_owned());
    let both = [of("raise", &id), of("clear", &id)];
    wait_until("the webhook was told of both", SOON, || site.hooked() == both);
    wait_until("rsyslog was told of both, twice", SOON, || site.logged().len() == 4);
    assert!(site.logged().iter().all(|told| both.contains(told)));

    // The webhook's server dies, and the agent after it, with an alarm that is not told there.
    drop(hook);
    flap(&device);
    wait_until("it is told elsewhere", SOON, || site.logged().len() == 6);
    agent.kill9();
    agent.launch();
    wait_until("the Alertmanager is told again what is active", SOON, || site.alerts().len() == 1);
    wait_until("it is over", RETRY, || agent.journal().len() >= 4);
    wait_until("the webhook is missed", SOON, || {
        agent.metrics().sum("evenkeel_notification_target_reachable", &[("target", "hook")]) < 1.0
    });
    let _hook = site.hook();
    // Of the alarm that says that it was missed, the webhook is told as well.
    wait_until("the webhook was told all", RETRY, || {
        let journal = agent.journal();
        let rows: Vec<_> = journal.iter().map(|row| of(&row.event, &row.id)).collect();
        rows.len() >= 6 && site.hooked() == rows
    });
    let unreachable = agent.journal();
    let unreachable: Vec<_> =
        unreachable.iter().filter(|row| row.kind == "notification_target_unreachable").collect();
    assert_eq!(unreachable.len(), 2, "{unreachable:?}");
    assert!(unreachable.iter().all(|row| row.object == "hook"));
}

#[test]
fn a_receiver_that_is_configured_wrong_is_refused_with_its_place() {
    let lab = Lab::new();
    let ns = lab.namespace("keel");
    let directory = TempDir::with_prefix("ek-check-").expect("a directory");
    let file = directory.path().join("evenkeel.toml");
    let text = "[[notifications.webhook]]\nname = \"a\"\nurl = \"ftp://x\"\nsecret = \"short\"\n\
                [[notifications.syslog]]\nname = \"a\"\naddress = \"logs.example\"\ntransport = \"tls\"\n\
                [[notifications.alertmanager]]\nurl = \"http://\"\n";
    fs::write(&file, text).expect("a writable directory");
    let mut command = ns.command(crate::common::BINARY);
    let result = command.args(["check", "--config"]).arg(&file).output().expect("it runs");
    assert!(!result.status.success());
    let said = [&result.stdout[..], &result.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    for expected in [
        "this is no URL that begins with http:// or https://",
        "a secret of less than 16 characters can be guessed",
        "two that alarms are told to have this name",
        "this is a name, and an address is needed",
        "no transport that is known here",
        "the URL has no host",
        "its place in the journal is kept under its name",
    ] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    assert!(!said.contains("short"), "a secret is not shown: {said}");
}
