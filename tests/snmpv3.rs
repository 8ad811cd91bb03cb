//! SNMPv3, and every other form, from programs that were not written for this agent: net-snmp's and
//! pysnmp's (TRAP-1, TRAP-4, TRAP-5). And what must be refused, with the right counter and Report.

use std::{
    collections::BTreeSet,
    io::Write as _,
    net::UdpSocket,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use tempfile::TempDir;

use crate::common::{
    Agent, Lab, Ns, Relay, repository,
    stack::{self, AUTH_PASSPHRASE, NetSnmp, PRIVACY_PASSPHRASE, User},
    wait_until, wire,
};

const TRAPS: &str = "127.0.0.1:10162";
const RELAY: &str = "127.0.0.1:10163";

/// The agent's own engine ID, of the kind "text" (RFC 3411, section 5).
const ENGINE: &str = "0x80001f88046b65656c";

/// A configuration whose journal has a row for each interface that went down.
fn configuration(users: &str) -> String {
    format!(
        r#"engine_id = "{ENGINE}"
[traps]
listen = ["{TRAPS}"]
[[traps.community]]
name = "public"
{users}
[instability]
interfaces = {{ window = "30s", threshold = 0 }}
interface_down = true

[subnets]
watch_gateways = false
"#
    )
}

/// The interfaces that the journal says are down.
fn down(agent: &Agent) -> BTreeSet<u32> {
    let number = |object: &str| object.rsplit(' ').next()?.parse().ok();
    agent.journal().iter().filter_map(|row| number(&row.object)).collect()
}

/// Waits until these and no other interfaces are down.
fn check_down(agent: &Agent, wanted: &[(u32, String)]) {
    let numbers: BTreeSet<u32> = wanted.iter().map(|(number, _)| *number).collect();
    let ends = std::time::Instant::now() + Duration::from_secs(10);
    while down(agent) != numbers && std::time::Instant::now() < ends {
        thread::sleep(Duration::from_millis(50));
    }
    let down = down(agent);
    let missing: Vec<_> = wanted.iter().filter(|(number, _)| !down.contains(number)).collect();
    let extra: Vec<_> = down.difference(&numbers).collect();
    assert!(missing.is_empty() && extra.is_empty(), "not taken in: {missing:?}; extra: {extra:?}");
}

/// How many messages of SNMPv3 were refused at a step.
fn refused(agent: &Agent, step: &str) -> f64 {
    agent.metrics().sum("evenkeel_snmpv3_refused_total", &[("step", step)])
}

/// How many datagrams came, of whatever kind.
fn received(agent: &Agent) -> f64 {
    agent.metrics().sum("evenkeel_traps_received_total", &[])
}

/// How many were taken in, as whatever.
fn taken(agent: &Agent) -> f64 {
    agent.metrics().sum("evenkeel_traps_taken_total", &[])
}

#[test]
fn trap_4_every_version_level_and_algorithm_of_net_snmp_is_taken_in_and_answered() {
    let lab = Lab::new();
    let ns = lab.namespace("net-snmp");
    let users = User::all();
    let tables: String = users.iter().map(User::sender).collect();
    let agent = Agent::start(&ns, &configuration(&tables));
    let directory = TempDir::with_prefix("ek-snmp-").expect("a temporary directory");

    let mut forms: Vec<(String, Vec<String>)> = vec![("v2c".to_owned(), stack::v2c())];
    forms.extend(users.iter().map(|user| (user.name.clone(), user.options())));
    // Each lane is an engine of its own.
    let lanes = 4;
    thread::scope(|scope| {
        for lane in 0..lanes {
            let (ns, forms) = (&ns, &forms);
            let directory = directory.path().join(lane.to_string());
            scope.spawn(move || {
                let net_snmp = NetSnmp::new(ns, TRAPS, &directory);
                for (number, (name, options)) in
                    (0u32..).zip(forms).filter(|(number, _)| number % lanes == lane)
                {
                    let trap = net_snmp.trap(options, 1000 + number);
                    assert!(trap.status.success(), "{name}: {trap:?}");
                    let inform = net_snmp.inform(options, 2000 + number);
                    assert!(inform.status.success(), "{name}: inform not answered: {inform:?}");
                }
            });
        }
        let net_snmp = NetSnmp::new(&ns, TRAPS, &directory.path().join("v1"));
        assert!(net_snmp.v1("127.0.0.1", 999).status.success());
    });

    let mut wanted = vec![(999, "v1 trap".to_owned())];
    for (number, (name, _)) in (0..).zip(&forms) {
        wanted.push((1000 + number, format!("{name} trap")));
        wanted.push((2000 + number, format!("{name} inform")));
    }
    check_down(&agent, &wanted);
    assert_eq!(taken(&agent), wanted.len() as f64);
    assert_eq!(agent.metrics().sum("evenkeel_informs_taken_total", &[]), forms.len() as f64);
}

#[test]
fn trap_4_every_form_of_the_second_stack_is_taken_in_and_answered() {
    let lab = Lab::new();
    let ns = lab.namespace("pysnmp");
    let users = User::all();
    let tables: String = users.iter().map(User::sender).collect();
    let agent = Agent::start(&ns, &configuration(&tables));

    let python = repository("target/second-stack/bin/python");
    let mut command = Command::new(&python);
    command.arg(repository("tests/second_stack.py")).args(["127.0.0.1", "10162"]);
    command.args([AUTH_PASSPHRASE, PRIVACY_PASSPHRASE]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = ns.inside(|| command.spawn()).unwrap_or_else(|error| {
        panic!("{}: {error}; tests/setup makes it", python.display());
    });
    let lines: String = users.iter().map(User::line).collect();
    child.stdin.take().expect("piped").write_all(lines.as_bytes()).expect("it reads");
    let result = child.wait_with_output().expect("a child of ours");
    assert!(result.status.success(), "{result:?}");
    let said = String::from_utf8_lossy(&result.stdout);
    let unanswered: Vec<_> = said.lines().filter(|line| !line.ends_with(" answered")).collect();
    assert!(unanswered.is_empty(), "{unanswered:?}\n{}", agent.log());
    assert_eq!(said.lines().count(), users.len() + 1, "{said}");

    let mut wanted = vec![(1000, "v1 trap".to_owned())];
    let names = std::iter::once("v2c").chain(users.iter().map(|user| user.name.as_str()));
    for (number, name) in (1..).zip(names) {
        wanted.push((1000 + number, format!("{name} trap")));
        wanted.push((2000 + number, format!("{name} inform")));
    }
    check_down(&agent, &wanted);
}

/// What the tests of refusal share: an agent with three users, net-snmp as the device, and somebody
/// on the path.
struct Refusing<'a> {
    agent: Agent<'a>,
    relay: Relay,
    directory: TempDir,
    ns: &'a Ns,
}

/// The usmStats counter of each step (RFC 3414, 3.2).
const COUNTERS: [(&str, &str); 7] = [
    ("wrong_digest", "usmStatsWrongDigests"),
    ("decryption_failed", "usmStatsDecryptionErrors"),
    ("unknown_user", "usmStatsUnknownUserNames"),
    ("unsupported_level", "usmStatsUnsupportedSecLevels"),
    ("below_minimum_level", "usmStatsUnsupportedSecLevels"),
    ("unknown_engine", "usmStatsUnknownEngineIDs"),
    ("not_in_time_window", "usmStatsNotInTimeWindows"),
];

const SAFE: (Option<&str>, Option<&str>) = (Some("SHA"), Some("AES"));

impl<'a> Refusing<'a> {
    fn start(ns: &'a Ns) -> Refusing<'a> {
        let users = [SAFE, (Some("SHA-256"), None), (Some("MD5"), Some("DES"))];
        let tables: String =
            users.iter().map(|(auth, privacy)| User::new(*auth, *privacy).sender()).collect();
        let agent = Agent::start(ns, &configuration(&tables));
        let relay = Relay::start(ns, RELAY, Some(TRAPS));
        let directory = TempDir::with_prefix("ek-snmp-").expect("a temporary directory");
        Refusing { agent, relay, directory, ns }
    }

    /// net-snmp, sending by way of the relay, as the engine of this name.
    fn net_snmp(&self, engine: &str) -> NetSnmp<'a> {
        NetSnmp::new(self.ns, RELAY, &self.directory.path().join(engine))
    }

    /// Sends octets to the agent, and gives what comes back within a while.
    fn send(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let socket = self.socket();
        socket.send_to(bytes, TRAPS).expect("loopback");
        receive(&socket, Duration::from_millis(500))
    }

    fn socket(&self) -> UdpSocket {
        self.ns.inside(|| UdpSocket::bind("127.0.0.1:0")).expect("loopback")
    }

    /// Does something that must be refused at one step, once or more, and counted by usmStats, with
    /// nothing taken in.
    fn refuses(&self, step: &str, what: impl FnOnce()) {
        let counter = COUNTERS.iter().find(|(of, _)| *of == step).map(|(_, counter)| counter);
        let stats = || {
            let labels: Vec<_> = counter.iter().map(|counter| ("counter", **counter)).collect();
            self.agent.metrics().sum("evenkeel_usm_stats_total", &labels)
        };
        let before = (taken(&self.agent), refused(&self.agent, step), stats());
        what();
        wait_until(step, Duration::from_secs(20), || refused(&self.agent, step) > before.1);
        assert_eq!(taken(&self.agent), before.0, "{step}: it was taken in");
        assert!(stats() > before.2, "{step}: {counter:?} was not counted");
    }

    /// The usmStats counter of the last Report that the relay saw, which the agent alone sends.
    fn last_report(&self) -> Option<u32> {
        let seen = self.relay.take();
        let mut reports = seen.answers.iter().filter_map(|answer| wire::read_report(answer));
        let last = reports.next_back();
        if let Some((_, value)) = last {
            assert!(value > 0, "a counter that has counted nothing");
        }
        last.map(|(counter, _)| counter)
    }
}

fn receive(socket: &UdpSocket, within: Duration) -> Option<Vec<u8>> {
    let mut buffer = [0; 65536];
    socket.set_read_timeout(Some(within)).expect("a time");
    let length = socket.recv(&mut buffer).ok()?;
    Some(buffer[..length].to_vec())
}

/// The same options with one of them replaced.
fn with(options: &[String], option: &str, value: &str) -> Vec<String> {
    let mut options = options.to_vec();
    let at = options.iter().position(|word| word == option).expect("an option that is there");
    value.clone_into(&mut options[at + 1]);
    options
}

#[test]
fn trap_4_what_is_not_authentic_is_refused_with_the_right_counter_and_report() {
    let lab = Lab::new();
    let ns = lab.namespace("refused");
    let refusing = Refusing::start(&ns);
    let safe = User::new(SAFE.0, SAFE.1).options();
    let net_snmp = refusing.net_snmp("device");
    assert!(net_snmp.inform(&safe, 1).status.success(), "{}", refusing.agent.log());
    assert!(net_snmp.trap(&safe, 2).status.success());
    refusing.relay.take();

    let only_auth = User::new(Some("SHA-256"), None).options();
    let mut too_much = only_auth.clone();
    too_much.extend(["-x", "AES", "-X", PRIVACY_PASSPHRASE].map(str::to_owned));
    let too_much = with(&too_much, "-l", "authPriv");
    // What, its options, the metric's reason, the usmStats counter of the Report.
    let cases = [
        ("wrong passphrase", with(&safe, "-A", "another one"), "wrong_digest", 5),
        ("wrong protocol", with(&safe, "-a", "MD5"), "wrong_digest", 5),
        ("wrong privacy passphrase", with(&safe, "-X", "another one"), "decryption_failed", 6),
        ("wrong privacy protocol", with(&safe, "-x", "DES"), "decryption_failed", 6),
        ("no such user", with(&safe, "-u", "nobody"), "unknown_user", 3),
        ("a level without a key", too_much, "unsupported_level", 1),
        ("below the least level", with(&safe, "-l", "authNoPriv"), "below_minimum_level", 1),
        ("below the least level", with(&safe, "-l", "noAuthNoPriv"), "below_minimum_level", 1),
    ];
    for (number, (what, options, reason, counter)) in (10..).zip(cases) {
        refusing.refuses(reason, || drop(net_snmp.trap(&options, number)));
        // TRAP-4: a trap is never answered, not even by a Report (RFC 3412, 7.2).
        assert_eq!(refusing.relay.take().answers, Vec::<Vec<u8>>::new(), "{what}");
        refusing.refuses(reason, || {
            let result = net_snmp.inform(&options, 100 + number);
            assert!(!result.status.success(), "{what}: it was answered");
        });
        assert_eq!(refusing.last_report(), Some(counter), "{what}");
    }

    // An inform for another engine than ours (RFC 3414, 3.2, 3b).
    let mut elsewhere = safe.clone();
    elsewhere.extend(["-e", "0x80001f880465"].map(str::to_owned));
    refusing.refuses("unknown_engine", || drop(net_snmp.inform(&elsewhere, 200)));
    assert_eq!(refusing.last_report(), Some(4));
    let taken_in = down(&refusing.agent);
    assert_eq!(taken_in, BTreeSet::from([1, 2]), "something else was taken in");
    // All is well with the agent, and with the user.
    assert!(net_snmp.inform(&safe, 3).status.success());
}

#[test]
fn trap_4_replayed_stale_altered_and_truncated_messages_change_nothing() {
    let lab = Lab::new();
    let ns = lab.namespace("altered");
    let mut refusing = Refusing::start(&ns);
    let safe = User::new(SAFE.0, SAFE.1).options();
    let net_snmp = refusing.net_snmp("device");

    // An inform, and what the sender learned of us.
    assert!(net_snmp.inform(&safe, 1).status.success(), "{}", refusing.agent.log());
    let seen = refusing.relay.take();
    let inform = seen.requests.last().expect("the inform").clone();
    let head = wire::read_v3(&inform).expect("an SNMPv3 message");
    assert_eq!(head.engine, [0x80, 0, 0x1f, 0x88, 4, b'k', b'e', b'e', b'l']);
    assert_eq!((head.flags, head.boots), (7, 1));

    // A trap, then one of the same engine after its next boot: the first may not come again.
    // net-snmp's own is always in its first boot, and takes hundredths of a second for the time.
    let boot = |boots_and_time: &str| {
        let mut options = safe.clone();
        options.extend(["-Z", boots_and_time].map(str::to_owned));
        options
    };
    assert!(net_snmp.trap(&boot("5,100"), 2).status.success());
    let old = refusing.relay.take().requests.pop().expect("the trap");
    assert!(net_snmp.trap(&boot("6,100"), 3).status.success());
    let trap = refusing.relay.take().requests.pop().expect("the trap");
    let boots = |bytes: &[u8]| wire::read_v3(bytes).expect("SNMPv3").boots;
    assert!(boots(&trap) > boots(&old), "{} and {}", boots(&trap), boots(&old));
    wait_until("three", Duration::from_secs(20), || down(&refusing.agent).len() == 3);
    refusing.refuses("not_in_time_window", || assert_eq!(refusing.send(&old), None));

    // INST-9: within the window a copy is authentic, and is still only a copy; an inform is answered
    // again (TRAP-5).
    refusing.send(&trap);
    let again = refusing.send(&inform).expect("an answer");
    assert_eq!(wire::read_report(&again), None, "a Report instead of the Response");

    // Boots and time that are not ours, as net-snmp has it where the engine ID is given to it: a Report
    // tells ours, and it sends again.
    let mut stale = safe.clone();
    stale.extend(["-e", ENGINE].map(str::to_owned));
    refusing.relay.take();
    let result = net_snmp.inform(&stale, 4);
    let seen = refusing.relay.take();
    let first = seen.answers.first().expect("a Report");
    assert_eq!(wire::read_report(first).map(|(counter, _)| counter), Some(2));
    // RFC 3414, 3.2, 7a: this Report is authenticated, so that the sender may believe it.
    assert_eq!(wire::read_v3(first).expect("SNMPv3").flags & 3, 1);
    assert!(result.status.success(), "it was not told our boots: {result:?}");

    // Altered and truncated: a new trap and a new inform, that the agent has not seen whole.
    refusing.relay.hold(true);
    net_snmp.trap(&boot("6,120"), 5);
    net_snmp.inform(&safe, 6);
    let seen = refusing.relay.take();
    // The inform comes behind the question for our engine ID, boots and time.
    let [trap, _, inform, ..] = &seen.requests[..] else { panic!("{seen:?}") };
    let before = (taken(&refusing.agent), received(&refusing.agent));
    let mut sent = 0.0;
    let socket = refusing.socket();
    for whole in [trap, inform] {
        for at in (0..whole.len()).step_by(7) {
            for altered in [whole[at] ^ 1, whole[at] ^ 0x80, !whole[at]] {
                let mut bytes = whole.clone();
                bytes[at] = altered;
                socket.send_to(&bytes, TRAPS).expect("loopback");
                sent += 1.0;
            }
            socket.send_to(&whole[..at], TRAPS).expect("loopback");
            sent += 1.0;
        }
    }
    wait_until("all of them", Duration::from_secs(10), || {
        received(&refusing.agent) - before.1 >= sent
    });
    assert_eq!(taken(&refusing.agent), before.0, "an altered message was taken in");
    while let Some(answer) = receive(&socket, Duration::from_millis(100)) {
        assert!(wire::read_report(&answer).is_some(), "answered by more than a Report");
    }
    // They were refused for what was altered alone.
    refusing.send(trap);
    let response = refusing.send(inform).expect("an answer");
    assert_eq!(wire::read_report(&response), None);
    wait_until("both", Duration::from_secs(20), || taken(&refusing.agent) - before.0 == 2.0);

    // What was recorded before a restart is of an older boot (RFC 3414, 3.2, 7a).
    refusing.agent.restart();
    let inform = inform.clone();
    refusing.refuses("not_in_time_window", || {
        let report = refusing.send(&inform).expect("a Report");
        assert_eq!(wire::read_report(&report).map(|(counter, _)| counter), Some(2));
        assert_eq!(wire::read_v3(&report).expect("SNMPv3").boots, 2);
    });
    // And of the other engine's boots too, the agent remembers (TRAP-4).
    refusing.refuses("not_in_time_window", || assert_eq!(refusing.send(&old), None));
}
