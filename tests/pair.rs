//! Two agents that guard each other (PAIR-1 to PAIR-18), each in a namespace of its own: what their
//! operators see by `evenkeel pair status` while one of them is killed, stopped, cut off or ordered, and
//! what an NMS is told meanwhile.

mod copies;
mod cuts;
mod failover;
mod orders;
mod refusals;
mod story;
mod versions;

use std::{
    process::Output,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use serde_json::Value;

use crate::common::{Agent, BINARY, Lab, Ns, Port, Switch, wait_until};

/// What has no exact end is waited for this long: far above need, so a limit, not an expectation.
pub const LIMIT: Duration = Duration::from_secs(30);

/// PAIR-15: so long a takeover may take after a crash.
pub const TAKEOVER: Duration = Duration::from_secs(4);

/// Two hosts with two networks between them, on one of which there is a gateway.
pub struct Hosts {
    /// The first agent's host,
    pub one: Ns,
    /// the second's,
    pub two: Ns,
    /// and a gateway, where a NMS may be.
    pub gate: Ns,
    /// The networks between the first two.
    pub networks: [Switch; 2],
    _lab: Option<Lab>,
}

impl Hosts {
    /// Hosts that are not plugged yet.
    pub fn new() -> Hosts {
        let lab = Lab::new();
        let hosts = Hosts::within(&lab);
        Hosts { _lab: Some(lab), ..hosts }
    }

    /// The same, beside what else is in a lab.
    pub fn within(lab: &Lab) -> Hosts {
        let [one, two, gate] = ["one", "two", "router"].map(|name| lab.namespace(name));
        let networks = [lab.switch("net-a"), lab.switch("net-b")];
        Hosts { one, two, gate, networks, _lab: None }
    }
}

/// The two, plugged, with an agent on each, which trust each other.
pub struct Pair<'a> {
    /// The one of slot 0.
    pub one: Agent<'a>,
    /// The one of slot 1.
    pub two: Agent<'a>,
    /// The ends of the first host on each network, and of the second.
    ports: [[Port<'a>; 2]; 2],
}

impl<'a> Pair<'a> {
    /// `more` is added to the section `[pair]` of both.
    pub fn start(hosts: &'a Hosts, more: &str) -> Pair<'a> {
        let mut pair = Pair::plan(hosts, more);
        pair.trust();
        pair.begin();
        pair
    }

    /// Two agents that are configured, and neither started nor trust each other.
    pub fn plan(hosts: &'a Hosts, more: &str) -> Pair<'a> {
        let ports = [&hosts.one, &hosts.two].map(|host| {
            [("eth0", 0), ("eth1", 1)].map(|(eth, at)| hosts.networks[at].plug(host, eth))
        });
        hosts.networks[0].plug(&hosts.gate, "eth0");
        hosts.gate.address("eth0", "10.1.0.254/24");
        for (host, last) in [(&hosts.one, 1), (&hosts.two, 2)] {
            host.address("eth0", &format!("10.1.0.{last}/24"));
            host.address("eth1", &format!("10.2.0.{last}/24"));
            host.exec("ip route add default via 10.1.0.254 dev eth0");
        }
        let one = Agent::prepare(&hosts.one, "keel-1", &configuration(0, more));
        let two = Agent::prepare(&hosts.two, "keel-2", &configuration(1, more));
        Pair { one, two, ports }
    }

    /// Has each trust the other.
    pub fn trust(&self) {
        trust(&self.one, &fingerprint(&self.two));
        trust(&self.two, &fingerprint(&self.one));
    }

    /// Starts both.
    pub fn begin(&mut self) {
        self.one.launch();
        self.two.launch();
        wait_until("both paths and the state channel to be up on both", LIMIT, || {
            self.both().iter().all(|agent| {
                let status = status(agent);
                let paths = status["paths"].as_array().expect("a list");
                status["state_channel"]["up"] == true && paths.iter().all(|path| path["up"] == true)
            })
        });
        wait_until("one to be primary and one to be standby", LIMIT, || {
            self.both().map(role) == ["primary", "standby"]
        });
    }

    /// Has both read their configuration again, with this added to the section `[pair]`.
    fn configure(&self, more: &str) {
        for (slot, agent) in (0..).zip(self.both()) {
            agent.configure(&configuration(slot, more));
            agent.reload();
        }
    }

    fn both(&self) -> [&Agent<'a>; 2] {
        [&self.one, &self.two]
    }

    /// Waits until these are the roles of the two, all of the state is on both, and the primary has a
    /// licence of its standby.
    fn until_whole(&self, roles: [&str; 2]) {
        wait_until(&format!("a whole pair of {roles:?}"), LIMIT, || {
            let seen = self.both().map(status);
            seen.iter().zip(roles).all(|(status, role)| {
                let licensed = status["may_speak"] == true && status["without_standby"] == false;
                status["role"] == role
                    && status["synchronisation"]["state"] == "in_sync"
                    && (role != "primary" || licensed)
            })
        });
    }

    /// Waits until both journals hold the same.
    fn until_journals_agree(&self) {
        wait_until("both to have the same journal", LIMIT, || {
            self.one.journal() == self.two.journal()
        });
    }
}

/// The configuration of the agent of a slot.
fn configuration(slot: u8, more: &str) -> String {
    let (own, mate) = (slot + 1, 2 - slot);
    let mut text = format!(
        "[traps]\nlisten = [\"0.0.0.0:10162\"]\n\n\
         [subnets]\nwatch_gateways = false\n\n\
         [pair]\nslot = {slot}\nlisten = \"10.1.0.{own}:19041\"\nmate = \"10.1.0.{mate}:19041\"\n{more}\n",
    );
    for (interface, network) in [("eth0", 1), ("eth1", 2)] {
        text += &format!(
            "[[pair.path]]\ninterface = \"{interface}\"\nlocal = \"10.{network}.0.{own}:19041\"\n\
             mate = \"10.{network}.0.{mate}:19041\"\n",
        );
    }
    text
}

/// Runs a command of the binary about the pair, with the agent's configuration.
pub fn run(agent: &Agent<'_>, words: &[&str]) -> Output {
    let mut command = agent.namespace().command(BINARY);
    command.arg("pair").args(words).arg("--config").arg(agent.file());
    command.output().expect("the binary")
}

/// The fingerprint of an agent's key.
pub fn fingerprint(agent: &Agent<'_>) -> String {
    let output = run(agent, &["fingerprint"]);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("digits").trim().to_owned()
}

/// Has an agent trust the mate of this fingerprint.
pub fn trust(agent: &Agent<'_>, fingerprint: &str) {
    let output = run(agent, &["trust", fingerprint]);
    assert!(output.status.success(), "{output:?}");
}

/// What an operator's order said, and whether it was done.
pub fn order(agent: &Agent<'_>, what: &str) -> (bool, String) {
    let output = run(agent, &[what]);
    let said = if output.status.success() { output.stdout } else { output.stderr };
    (output.status.success(), String::from_utf8(said).expect("text").trim().to_owned())
}

/// What `evenkeel pair status` tells.
pub fn status(agent: &Agent<'_>) -> Value {
    let output = run(agent, &["status", "--format", "json"]);
    assert!(output.status.success(), "{output:?}");
    let document: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    document["pair"].clone()
}

pub fn role(agent: &Agent<'_>) -> String {
    status(agent)["role"].as_str().expect("a role").to_owned()
}

/// How long it takes until an agent is primary.
pub fn until_primary(agent: &Agent<'_>, since: Instant) -> Duration {
    wait_until("the other one to be primary", LIMIT, || role(agent) == "primary");
    since.elapsed()
}

/// How long after a moment an agent took over last, by its own record.
fn took(agent: &Agent<'_>, since: Timestamp) -> Duration {
    let status = status(agent);
    let at = status["last_takeover"]["at"].as_str().and_then(|at| at.parse::<Timestamp>().ok());
    let at = at.unwrap_or_else(|| panic!("no takeover in {status:#}"));
    at.duration_since(since).try_into().expect("it was after that")
}

/// Waits until an agent has taken over for this reason, by nobody's order, and says how long after that
/// moment.
fn until_taken_over(agent: &Agent<'_>, reason: &str, since: Timestamp) -> Duration {
    wait_until("the other one to be primary", LIMIT, || role(agent) == "primary");
    let last = status(agent)["last_takeover"].clone();
    assert_eq!((&last["reason"], &last["kind"]), (&reason.into(), &"automatic".into()), "{last}");
    took(agent, since)
}

#[test]
fn pair_15_two_agents_elect_and_the_standby_takes_over_within_4_s_of_a_crash() {
    let hosts = Hosts::new();
    let mut pair = Pair::start(&hosts, "");
    let before = status(&pair.two);
    assert_eq!(before["mate"]["name"], "keel-1");
    assert_eq!(before["mate"]["said"]["role"], "primary");
    assert_eq!(before["may_speak"], false);
    wait_until("the primary to have a licence of its standby", LIMIT, || {
        let primary = status(&pair.one);
        primary["may_speak"] == true && primary["without_standby"] == false
    });

    let killed = Instant::now();
    pair.one.kill9();
    let took = until_primary(&pair.two, killed);
    assert!(took <= TAKEOVER, "the takeover took {took:?}");
    let after = status(&pair.two);
    assert_eq!(after["may_speak"], true, "{after:#}");
    assert_eq!(after["without_standby"], true);
    assert_eq!(after["last_takeover"]["reason"], "mate_silent");
    assert_eq!(after["last_takeover"]["kind"], "automatic");
    assert_eq!(after["limit"]["within"], 1);
    let text = run(&pair.two, &["status"]);
    let text = String::from_utf8(text.stdout).expect("text");
    assert!(text.starts_with("keel-2: primary in term "), "{text}");

    // PAIR-5: it comes back as standby, and knows of the takeover.
    pair.one.launch();
    wait_until("the former primary to be standby", LIMIT, || role(&pair.one) == "standby");
    assert_eq!(role(&pair.two), "primary");
    wait_until("the record to be on both", LIMIT, || {
        status(&pair.one)["last_takeover"]["reason"] == "mate_silent"
    });
    let terms = [&pair.one, &pair.two].map(|agent| status(agent)["known_term"].clone());
    assert_eq!(terms[0], terms[1]);
}

#[test]
fn pair_3_neither_a_lost_path_nor_a_lost_state_channel_moves_anything() {
    let hosts = Hosts::new();
    let pair = Pair::start(&hosts, "");
    let term = status(&pair.one)["term"].clone();
    let up = |agent: &Agent<'_>| {
        let paths = status(agent)["paths"].clone();
        [0, 1].map(|at| paths[at]["up"] == true)
    };
    pair.ports[0][1].block();
    wait_until("the second path to be lost on both", LIMIT, || {
        [&pair.one, &pair.two].iter().all(|agent| up(agent) == [true, false])
    });
    pair.ports[0][1].unblock();
    wait_until("it to be back", LIMIT, || up(&pair.one) == [true, true]);
    // The first network has the state channel, too.
    pair.ports[0][0].block();
    wait_until("the state channel and the first path to be down on both", LIMIT, || {
        let down = |agent| status(agent)["state_channel"]["up"] == false;
        [&pair.one, &pair.two].into_iter().all(|agent| down(agent) && up(agent) == [false, true])
    });
    assert_eq!([role(&pair.one), role(&pair.two)], ["primary", "standby"]);
    pair.ports[0][0].unblock();
    wait_until("the state channel to be back", LIMIT, || {
        status(&pair.two)["state_channel"]["up"] == true
    });
    assert_eq!(status(&pair.one)["term"], term, "nothing has changed");
    assert_eq!(pair.two.metrics().sum("evenkeel_pair_takeovers_total", &[]), 0.0);
    assert!(pair.two.metrics().sum("evenkeel_pair_channel_failures_total", &[]) >= 1.0);
}

#[test]
fn pair_7_orders_are_done_on_either_agent_and_answered_in_a_sentence() {
    let hosts = Hosts::new();
    let mut pair = Pair::start(&hosts, "");
    let (done, said) = order(&pair.two, "hold");
    assert!(done && said.starts_with("the pair is held"), "{said}");
    wait_until("the primary to know it", LIMIT, || status(&pair.one)["held"] == true);
    let (done, said) = order(&pair.one, "failover");
    assert!(!done);
    assert_eq!(said, "evenkeel: no failover: the pair is held; `evenkeel pair release` ends that");
    let (done, _) = order(&pair.one, "reset-counters");
    assert!(done);
    // Maintenance: nobody takes over.
    pair.one.stop();
    std::thread::sleep(TAKEOVER + Duration::from_secs(1));
    assert_eq!(role(&pair.two), "standby");
    pair.one.launch();
    wait_until("the primary to be back", LIMIT, || role(&pair.one) == "primary");
    let (done, _) = order(&pair.one, "release");
    assert!(done);
    wait_until("the standby to know it", LIMIT, || status(&pair.two)["held"] == false);
}

#[test]
fn pair_3_an_orderly_stop_hands_over_within_a_second() {
    let hosts = Hosts::new();
    let mut pair = Pair::start(&hosts, "");
    wait_until("the standby to be heard", LIMIT, || {
        status(&pair.one)["mate"]["said"]["role"] == "standby"
            && status(&pair.one)["may_speak"] == true
    });
    let stopped = Instant::now();
    pair.one.signal(libc::SIGTERM);
    let took = until_primary(&pair.two, stopped);
    assert!(took <= Duration::from_millis(1500), "an ordered takeover took {took:?}");
    let last = status(&pair.two)["last_takeover"].clone();
    assert_eq!((&last["reason"], &last["kind"]), (&"mate_stopping".into(), &"ordered".into()));
    pair.one.stop();
}
