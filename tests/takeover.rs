//! What an NMS is told over a takeover (PAIR-3, PAIR-11 to PAIR-13): one device sends to both agents, and
//! one snmptrapd hears the one that speaks.

use std::{collections::BTreeMap, net::UdpSocket, time::Instant};

use crate::{
    common::{Nms, Notification, Trap, wait_until, wire},
    pair::{Hosts, LIMIT, Pair, TAKEOVER, role, until_primary},
};

/// Where the NMS is, beside the gateway.
pub const NMS: &str = "udp:10.1.0.254:11162";

/// For both agents.
pub const MORE: &str = r#"
[[traps.community]]
name = "public"

[instability]
interfaces = { window = "8s", threshold = 2 }

[[notifications.target]]
name = "nms"
address = "10.1.0.254:11162"
version = "v2c"
community = "public"
inform = true
"#;

/// A device that sends each trap to both agents, each time under another request-id, as net-snmp does.
pub struct Device {
    socket: UdpSocket,
    traps: u32,
    sent: u32,
}

impl Device {
    fn new(hosts: &Hosts) -> Device {
        Device::at(hosts, "10.1.0.254")
    }

    /// One of this address, which the gateway's host has.
    pub fn at(hosts: &Hosts, address: &str) -> Device {
        let bind = || UdpSocket::bind(format!("{address}:0"));
        Device { socket: hosts.gate.inside(bind).expect("its address"), traps: 0, sent: 0 }
    }

    pub fn send(&mut self, trap: Trap) {
        self.traps += 1;
        [0, 1].into_iter().for_each(|agent| self.deliver(agent, trap));
    }

    /// Sends a trap to one of the two agents, 0 or 1.
    pub fn send_to(&mut self, agent: usize, trap: Trap) {
        self.traps += 1;
        self.deliver(agent, trap);
    }

    fn deliver(&mut self, agent: usize, trap: Trap) {
        self.sent += 1;
        let agent = ["10.1.0.1:10162", "10.1.0.2:10162"][agent];
        // Nobody may be there.
        self.socket.send_to(&wire::v2c_trap(trap, self.sent, 100_000 + self.traps), agent).ok();
    }
}

/// By id: what the NMS was told, each once though it may have come twice, in the order of its coming.
pub fn told(nms: &Nms<'_>) -> Vec<(String, String)> {
    let mut seen = Vec::new();
    for notification in nms.alarms() {
        let told = (notification.summary(), notification.value("evenkeelAlarmId").to_owned());
        if !seen.contains(&told) {
            seen.push(told);
        }
    }
    seen
}

fn about<'a>(told: &'a [(String, String)], what: &str) -> Vec<&'a (String, String)> {
    told.iter().filter(|(summary, _)| summary.ends_with(what)).collect()
}

/// How many alarms of devices the NMS takes for active. Each must be raised before it is cleared, once.
pub fn active(told: &[(String, String)]) -> usize {
    let mut raised: BTreeMap<&str, bool> = BTreeMap::new();
    for (summary, id) in told {
        let before = raised.insert(id, summary.starts_with("raised"));
        match summary.starts_with("raised") {
            true => assert_eq!(before, None, "{summary} {id} twice in {told:?}"),
            false => assert_eq!(before, Some(true), "{summary} {id} in {told:?}"),
        }
    }
    raised.values().filter(|raised| **raised).count()
}

#[test]
fn pair_13_an_nms_is_told_each_alarm_once_though_the_primary_is_killed_in_its_midst() {
    let hosts = Hosts::new();
    let mut pair = Pair::start(&hosts, MORE);
    let nms = Nms::start(&hosts.gate, NMS);
    let mut device = Device::new(&hosts);

    device.send(Trap::LinkDown(3));
    device.send(Trap::LinkDown(3));
    let unstable = "10.1.0.254 ifIndex 3";
    wait_until("the instability to be told", LIMIT, || {
        about(&told(&nms), unstable)
            .iter()
            .any(|(what, _)| what.starts_with("raised interface_unst"))
    });
    let first: Vec<Notification> = nms.alarms();
    assert!(first.iter().all(|one| one.value("evenkeelAgentName") == "keel-1"), "{first:?}");
    assert!(first.iter().all(|one| one.value("evenkeelAgentRole") == "primary"), "{first:?}");

    let killed = Instant::now();
    pair.one.kill9();
    // PAIR-12: only the standby can hear this, and it is not primary yet.
    device.send(Trap::LinkDown(7));
    let took = until_primary(&pair.two, killed);
    assert!(took <= TAKEOVER, "{took:?}");
    wait_until("what came while nobody was primary to be told", LIMIT, || {
        !about(&told(&nms), "10.1.0.254 ifIndex 7").is_empty()
    });
    // INST-17: it ends, under the identity that the other agent gave it.
    wait_until("the instability to end", LIMIT, || {
        about(&told(&nms), unstable)
            .iter()
            .any(|(what, _)| what.starts_with("cleared interface_unst"))
    });
    let told = told(&nms);
    active(&told);
    let of_kind = |what: &str| told.iter().filter(|(summary, _)| summary.starts_with(what)).count();
    assert_eq!(of_kind("raised interface_unstable"), 1, "{told:?}");
    assert_eq!(of_kind("cleared interface_unstable"), 1, "{told:?}");

    // PAIR-2: a later term has a higher number, and the journal goes on.
    let number = |one: &Notification, what| one.value(what).parse::<u32>().expect("a number");
    let (before, after): (Vec<_>, Vec<_>) =
        nms.alarms().into_iter().partition(|one| one.at < killed);
    let term = |of: &[Notification]| of.iter().map(|one| number(one, "evenkeelTerm")).collect();
    let (before_terms, after_terms): (Vec<u32>, Vec<u32>) = (term(&before), term(&after));
    let mates = after.iter().filter(|one| one.summary().contains("mate_"));
    assert!(mates.clone().all(|one| one.value("evenkeelAgentName") == "keel-2"), "{after:?}");
    assert!(mates.clone().all(|one| one.value("evenkeelMateName") == "keel-1"), "{after:?}");
    assert!(
        before_terms.iter().max() < after_terms.iter().max(),
        "{before_terms:?} {after_terms:?}"
    );
}

#[test]
fn pair_3_a_takeover_that_is_ordered_tells_an_nms_nothing_twice() {
    let hosts = Hosts::new();
    let mut pair = Pair::start(&hosts, MORE);
    let nms = Nms::start(&hosts.gate, NMS);
    let mut device = Device::new(&hosts);
    for if_index in 1..=20 {
        device.send(Trap::LinkDown(if_index));
    }
    wait_until("twenty alarms to be told", LIMIT, || nms.alarms().len() >= 20);
    wait_until("both to have the same journal", LIMIT, || pair.one.journal() == pair.two.journal());
    // Whatever was confirmed by then: what is taken from the shadow again counts once.
    pair.one.stop();
    wait_until("the other one to be primary", LIMIT, || role(&pair.two) == "primary");
    for if_index in 1..=20 {
        device.send(Trap::LinkUp(if_index));
    }
    wait_until("twenty clears to be told", LIMIT, || {
        let told = told(&nms);
        told.iter().filter(|(what, _)| what.starts_with("cleared interface_down")).count() == 20
    });
    let told = told(&nms);
    active(&told);
    let links = told.iter().filter(|(what, _)| what.contains("interface_"));
    assert_eq!(links.count(), 40, "{told:?}");
    pair.one.launch();
    wait_until("the journals to be the same again", LIMIT, || {
        pair.one.journal() == pair.two.journal()
    });
}

/// Beside what all have: peers that are asked each second, of which one is there from the start.
const PEERS: &str = r#"
[[peers.group]]
name = "field"
interval = "1s"
timeout = "400ms"
peers = ["10.1.0.254", "10.1.0.253"]
"#;

#[test]
fn pair_11_a_peer_that_was_down_before_a_takeover_is_told_of_when_it_is_back_and_not_before() {
    let hosts = Hosts::new();
    let mut pair = Pair::start(&hosts, &format!("{MORE}{PEERS}"));
    let nms = Nms::start(&hosts.gate, NMS);
    let of_peers = || about(&told(&nms), "10.1.0.253").into_iter().cloned().collect::<Vec<_>>();
    wait_until("the peer that is not there to be told of", LIMIT, || of_peers().len() == 1);
    let [(summary, id)] = of_peers().try_into().expect("one");
    assert!(summary.starts_with("raised peer_down"), "{summary}");
    wait_until("both to have the same journal", LIMIT, || pair.one.journal() == pair.two.journal());

    let killed = Instant::now();
    pair.one.kill9();
    let took = until_primary(&pair.two, killed);
    assert!(took <= TAKEOVER, "{took:?}");
    // The new primary asks them: three rounds say that one answers and the other does not.
    let answers = |group| {
        let metrics = pair.two.metrics();
        metrics.sum("evenkeel_peers_answers_total", &[("group", group)])
    };
    let states = |state| pair.two.metrics().sum("evenkeel_peers", &[("state", state)]);
    wait_until("the new primary to have asked", LIMIT, || answers("field") >= 3.0);
    assert_eq!((states("down"), states("alive")), (1.0, 1.0));
    assert_eq!(of_peers(), [(summary.clone(), id.clone())], "nothing was told at the takeover");

    hosts.gate.address("eth0", "10.1.0.253/24");
    wait_until("its return to be told", LIMIT, || of_peers().len() == 2);
    let cleared = of_peers().remove(1);
    assert!(cleared.0.starts_with("cleared peer_down"), "{cleared:?}");
    assert_eq!(cleared.1, id, "it has the identity that the other agent gave it");
    assert!(about(&told(&nms), "10.1.0.254").is_empty(), "the other one was never down");
}
