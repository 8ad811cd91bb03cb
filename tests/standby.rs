//! Subnets with a standby interface (SUBN-8): two interfaces of a host on one switch, and a gate that is
//! polled there. IP dies while the link stays, the link dies, both interfaces die, the agent is killed in
//! the midst of a move; and a neighbour goes on talking to the addresses.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::net::UnixStream,
    process::Output,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::common::{
    Agent, BINARY, Chance, LATE, Lab, Nms, Ns, Port, Switch, check, expect, wait_until,
};

/// The poll interval of all these tests.
const POLL: Duration = Duration::from_secs(1);

/// What has no exact end is waited for this long: far above need, so a limit, not an expectation.
const LIMIT: Duration = Duration::from_secs(30);

/// How long nothing more must come after what was expected.
const QUIET: Duration = Duration::from_secs(2);

/// The host's addresses, on eth0 at first.
const ADDRESSES: [&str; 3] = ["10.9.0.2/24", "10.9.0.3/24", "fd00:9::2/64"];

/// The longest time between two orders to move and the kill: twice what carrying them out takes.
const AROUND_A_MOVE: Duration = Duration::from_millis(20);

/// A host, a gate, and a switch that both are to be plugged into.
struct Parts {
    host: Ns,
    gate: Ns,
    switch: Switch,
    _lab: Lab,
}

impl Parts {
    fn new() -> Parts {
        let lab = Lab::new();
        let (host, gate) = (lab.namespace("host"), lab.namespace("gate"));
        Parts { host, gate, switch: lab.switch("switch"), _lab: lab }
    }
}

/// The same, plugged: the host with two interfaces.
struct Site<'a> {
    host: &'a Ns,
    gate: &'a Ns,
    eth0: Port<'a>,
    eth1: Port<'a>,
}

impl<'a> Site<'a> {
    fn new(parts: &'a Parts) -> Site<'a> {
        let Parts { host, gate, switch, .. } = parts;
        let (eth0, eth1) = (switch.plug(host, "eth0"), switch.plug(host, "eth1"));
        switch.plug(gate, "eth0");
        // Each interface answers for its own addresses alone, as the manual advises.
        host.exec("sysctl -q -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2");
        gate.address("eth0", "10.9.0.1/24");
        gate.address("eth0", "fd00:9::1/64");
        for address in ADDRESSES {
            host.address("eth0", address);
        }
        // An address of another subnet, which stays.
        host.address("eth0", "10.8.0.2/24");
        host.exec("ip route add default via 10.9.0.1 dev eth0");
        Site { host, gate, eth0, eth1 }
    }

    fn configuration(&self) -> String {
        let mut text = String::from(
            r#"
[traps]
listen = ["127.0.0.1:10162"]

[[notifications.target]]
name = "nms"
address = "127.0.0.1:11162"
community = "public"

[subnets]
poll_interval = "1s"
watch_gateways = false
"#,
        );
        for (prefix, gate) in [("10.9.0.0/24", "10.9.0.1"), ("fd00:9::/64", "fd00:9::1")] {
            text += &format!(
                "[[subnets.subnet]]\n\
                 prefix = \"{prefix}\"\n\
                 polling_targets = [\"{gate}\"]\n\
                 primary_interface = \"eth0\"\n\
                 standby_interface = \"eth1\"\n"
            );
        }
        text
    }

    /// An NMS and an agent whose flows are up.
    fn start(&self) -> (Nms<'a>, Agent<'a>) {
        let nms = Nms::start(self.host, "udp:127.0.0.1:11162");
        let agent = Agent::start(self.host, &self.configuration());
        wait_until("every flow to be up", LIMIT, || {
            agent.metrics().sum("evenkeel_flow_up", &[]) == ADDRESSES.len() as f64
        });
        (nms, agent)
    }

    /// The addresses of the subnets that are on an interface of the host.
    fn on(&self, interface: &str) -> BTreeSet<String> {
        let text = self.host.exec(&format!("ip -j addr show dev {interface}"));
        let interfaces: Value = serde_json::from_str(&text).expect("JSON");
        let infos = interfaces[0]["addr_info"].as_array().expect("a list").iter();
        let addresses = infos
            .map(|info| format!("{}/{}", info["local"].as_str().expect("text"), info["prefixlen"]));
        addresses.filter(|address| ADDRESSES.contains(&address.as_str())).collect()
    }

    /// All addresses are on this interface, and none on the other.
    fn all_on(&self, interface: &str) -> bool {
        let other = if interface == "eth0" { "eth1" } else { "eth0" };
        self.on(interface).len() == ADDRESSES.len() && self.on(other).is_empty()
    }

    /// The Ethernet address of an interface of the host.
    fn mac(&self, interface: &str) -> String {
        let text = self.host.exec(&format!("cat /sys/class/net/{interface}/address"));
        text.trim().to_owned()
    }

    /// What the gate takes for the Ethernet address of an address of the host.
    fn taken_for(&self, address: &str) -> String {
        let text = self.gate.exec(&format!("ip neigh show {address} dev eth0"));
        let mut words = text.split_whitespace().skip_while(|word| *word != "lladdr");
        words.nth(1).unwrap_or_default().to_owned()
    }
}

/// The interfaces of a subnet, each with its words (SUBN-9).
fn words(agent: &Agent<'_>, subnet: &str) -> Vec<(String, String)> {
    let status = agent.status();
    let subnets = status["subnets"].as_array().expect("a list").iter();
    let interfaces = subnets
        .filter(|there| there["subnet"] == subnet)
        .flat_map(|there| there["interfaces"].as_array().expect("a list"));
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    interfaces.map(|there| (text(&there["interface"]), text(&there["words"]))).collect()
}

/// The same as it should be.
fn said(eth0: &str, eth1: &str) -> Vec<(String, String)> {
    vec![("eth0".to_owned(), eth0.to_owned()), ("eth1".to_owned(), eth1.to_owned())]
}

/// Gives the order to enable the primary interface of a subnet.
fn enable(host: &Ns, agent: &Agent<'_>, subnet: &str) -> Output {
    let mut command = host.command(BINARY);
    command.args(["subnet", "enable", subnet, "--config"]).arg(agent.file());
    command.output().expect("our binary")
}

fn moves(agent: &Agent<'_>, result: &str) -> f64 {
    agent.metrics().sum("evenkeel_standby_moves_total", &[("result", result)])
}

/// How much later a fault may be found, as the agent stood still on a busy machine: see `subnets.rs`.
fn late(agent: &Agent<'_>) -> Duration {
    POLL.mul_f64(agent.metrics().sum("evenkeel_stalls_total", &[]))
}

/// A connection from the gate to an address of the host that carries what is written into it.
struct Connection {
    near: TcpStream,
    far: TcpStream,
}

impl Connection {
    fn new(site: &Site<'_>, address: &str) -> Connection {
        let listener = site.host.inside(|| TcpListener::bind((address, 7000)).expect("free"));
        let near = site.gate.inside(|| TcpStream::connect((address, 7000)).expect("reached"));
        let (far, _) = listener.accept().expect("connected");
        for end in [&near, &far] {
            end.set_read_timeout(Some(LIMIT)).expect("a socket");
        }
        Connection { near, far }
    }

    /// Both ways.
    fn is_alive(&mut self) -> bool {
        let mut there = [0; 5];
        let mut back = [0; 5];
        self.near.write_all(b"hello").is_ok()
            && self.far.read_exact(&mut there).is_ok()
            && self.far.write_all(&there).is_ok()
            && self.near.read_exact(&mut back).is_ok()
            && &back == b"hello"
    }
}

#[test]
fn subn_8_subn_9_ip_fails_and_the_addresses_go_on_from_the_standby_until_the_primary_is_enabled() {
    let parts = Parts::new();
    let site = Site::new(&parts);
    let (nms, agent) = site.start();
    assert_eq!(words(&agent, "10.9.0.0/24"), said("up", "standby"));
    let mut connections = ["10.9.0.2", "fd00:9::2"].map(|address| Connection::new(&site, address));
    assert!(connections.iter_mut().all(Connection::is_alive));
    site.gate.exec("ping -c 1 -W 2 10.9.0.3");
    assert_eq!(site.taken_for("10.9.0.3"), site.mac("eth0"));

    let begin = Instant::now();
    site.eth0.block();
    let broken = Instant::now();
    wait_until("the addresses to move", LIMIT, || site.all_on("eth1"));
    wait_until("IP to work there", LIMIT, || {
        agent.metrics().sum("evenkeel_interface_ip_up", &[("interface", "eth1")]) == 2.0
    });
    // The neighbour was told, and what was under way goes on.
    for address in ["10.9.0.2", "10.9.0.3", "fd00:9::2"] {
        wait_until("the neighbour to learn of it", LIMIT, || {
            site.taken_for(address) == site.mac("eth1")
        });
    }
    assert!(connections.iter_mut().all(Connection::is_alive), "a connection broke");
    assert!(site.host.exec("ip route show default").contains("via 10.9.0.1 dev eth1"));
    assert!(site.host.exec("ip addr show dev eth0").contains("10.8.0.2"), "another subnet's left");
    let late = late(&agent);
    let raised = |subnet: &str| {
        let what = format!("raised interface_ip_down {subnet}");
        expect(&what, begin + 3 * POLL, broken + 5 * POLL + late)
    };
    let expected = || vec![raised("10.9.0.0/24"), raised("fd00:9::/64")];
    check(begin, &expected(), QUIET, || nms.alarms());
    let disabled = || said("down (disabled) (IP only)", "up");
    for subnet in ["10.9.0.0/24", "fd00:9::/64"] {
        assert_eq!(words(&agent, subnet), disabled());
    }
    assert_eq!(agent.metrics().sum("evenkeel_interface_disabled", &[]), 2.0);

    // It works again, and nothing comes back by itself.
    site.eth0.unblock();
    thread::sleep(6 * POLL);
    assert!(site.all_on("eth1"));
    assert_eq!(words(&agent, "10.9.0.0/24"), disabled());

    let enabling = Instant::now();
    let output = enable(site.host, &agent, "10.9.0.0/24");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "10.9.0.0/24: its addresses are on eth0 again\n",
        "{output:?}"
    );
    assert_eq!(site.on("eth0"), ["10.9.0.2/24", "10.9.0.3/24"].map(str::to_owned).into());
    assert!(enable(site.host, &agent, "fd00:9::/64").status.success());
    assert!(site.all_on("eth0"));
    let again = enable(site.host, &agent, "fd00:9::/64");
    let said_no = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(!again.status.success() && said_no.contains("nothing to enable"), "{said_no}");
    wait_until("all to be well", LIMIT, || {
        agent.metrics().sum("evenkeel_alarms_active", &[]) == 0.0
    });
    for subnet in ["10.9.0.0/24", "fd00:9::/64"] {
        assert_eq!(words(&agent, subnet), said("up", "standby"));
    }
    assert!(connections.iter_mut().all(Connection::is_alive), "a connection broke");
    assert!(site.host.exec("ip route show default").contains("via 10.9.0.1 dev eth0"));
    let mut expected = expected();
    for subnet in ["10.9.0.0/24", "fd00:9::/64"] {
        let what = format!("cleared interface_ip_down {subnet}");
        expected.push(expect(&what, enabling, Instant::now()));
    }
    check(begin, &expected, QUIET, || nms.alarms());
    assert_eq!((moves(&agent, "to_standby"), moves(&agent, "to_primary")), (2.0, 2.0));
}

#[test]
fn subn_8_link_and_ip_fail_and_come_back_by_themselves() {
    let parts = Parts::new();
    let site = Site::new(&parts);
    let (nms, agent) = site.start();
    let mut connection = Connection::new(&site, "10.9.0.2");
    site.eth0.unplug();
    wait_until("the addresses to move", LIMIT, || site.all_on("eth1"));
    wait_until("IP to work there", LIMIT, || {
        words(&agent, "10.9.0.0/24") == said("down (Link and IP)", "up")
            && words(&agent, "fd00:9::/64") == said("down (Link and IP)", "up")
    });
    assert!(connection.is_alive(), "the connection broke");
    site.eth0.plug_in();
    let back = Instant::now();
    wait_until("the addresses to come back", LIMIT, || site.all_on("eth0"));
    assert!(back.elapsed() >= 4 * POLL - LATE / 10, "sooner than four polls after the link");
    wait_until("all to be well", LIMIT, || {
        words(&agent, "10.9.0.0/24") == said("up", "standby")
            && agent.metrics().sum("evenkeel_alarms_active", &[]) == 0.0
    });
    assert!(connection.is_alive(), "the connection broke");
    assert!(nms.alarms_of("subnet_down").is_empty(), "{:?}", nms.alarms());
    assert_eq!((moves(&agent, "to_standby"), moves(&agent, "to_primary")), (2.0, 2.0));
}

#[test]
fn subn_8_when_the_standby_is_dead_too_the_subnet_is_down_and_nothing_goes_back_and_forth() {
    let parts = Parts::new();
    let site = Site::new(&parts);
    let (nms, agent) = site.start();
    site.eth0.block();
    site.eth1.block();
    wait_until("the subnet to be down", LIMIT, || {
        nms.alarms_of("subnet_down").len() == 2 && nms.alarms_of("interface_ip_down").len() == 4
    });
    thread::sleep(10 * POLL);
    assert_eq!((moves(&agent, "to_standby"), moves(&agent, "to_primary")), (2.0, 0.0));
    assert!(site.all_on("eth1"));
    assert_eq!(words(&agent, "10.9.0.0/24"), said("down (disabled) (IP only)", "down (IP only)"));
    site.eth0.unblock();
    site.eth1.unblock();
    wait_until("the subnet to be up", LIMIT, || nms.alarms_of("subnet_down").len() == 4);
    assert_eq!(moves(&agent, "to_primary"), 0.0);
    assert_eq!(words(&agent, "10.9.0.0/24"), said("down (disabled) (IP only)", "up"));
}

#[test]
fn subn_8_without_the_right_to_move_it_says_so_and_the_subnet_is_down() {
    let parts = Parts::new();
    let site = Site::new(&parts);
    // And without the settings that the manual advises, so that replies may come by either interface.
    site.host.exec("sysctl -q -w net.ipv4.conf.all.arp_ignore=0 net.ipv4.conf.all.arp_announce=0");
    let nms = Nms::start(site.host, "udp:127.0.0.1:11162");
    let without = ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"];
    let agent = Agent::start_via(site.host, &site.configuration(), &without);
    wait_until("every flow to be up", LIMIT, || {
        agent.metrics().sum("evenkeel_flow_up", &[]) == ADDRESSES.len() as f64
    });
    let problems = agent.status()["agent"]["problems"].to_string();
    assert!(problems.contains("CAP_NET_ADMIN"), "{problems}");
    assert!(problems.contains("arp_ignore"), "{problems}");
    site.eth0.block();
    wait_until("the subnet to be down", LIMIT, || nms.alarms_of("subnet_down").len() == 2);
    assert!(site.all_on("eth0"));
    assert!(moves(&agent, "failed") >= 2.0);
    assert!(agent.log().contains("CAP_NET_ADMIN"));
}

/// Kills the agent at a moment around a move, again and again. Whatever it was doing, each address is on
/// exactly one of the two interfaces, and the next start finishes what was begun.
#[test]
fn subn_8_killed_in_the_midst_of_a_move_100_times() {
    let parts = Parts::new();
    let site = Site::new(&parts);
    let (_nms, mut agent) = site.start();
    let mut chance = Chance::new();
    let (mut before, mut amidst, mut after) = (0, 0, 0);
    let kept =
        |agent: &Agent<'_>| fs::read_to_string(agent.state().join("standby.json")).expect("kept");
    for round in 0..100 {
        wait_until("all to be kept", LIMIT, || kept(&agent).matches("\"Primary\"").count() == 2);
        // The addresses come to the standby by an operator's hand, so that there is a way back to order.
        agent.kill9();
        // The first goes last, as its secondary would go with it.
        for address in ADDRESSES.into_iter().rev() {
            site.host.exec(&format!("ip addr del {address} dev eth0"));
        }
        for address in ADDRESSES {
            site.host.address("eth1", address);
        }
        agent.launch();
        wait_until("the primary to be disabled", LIMIT, || {
            agent.metrics().sum("evenkeel_interface_disabled", &[]) == 2.0
        });
        let mut orders = Vec::new();
        for subnet in ["10.9.0.0/24", "fd00:9::/64"] {
            let mut order = UnixStream::connect(agent.state().join("control.sock"))
                .expect("the control socket");
            writeln!(order, "enable {subnet}").expect("it listens");
            orders.push(order);
        }
        thread::sleep(chance.time(AROUND_A_MOVE));
        agent.kill9();

        let (there, here) = (site.on("eth1"), site.on("eth0"));
        for address in ADDRESSES {
            let places = [&there, &here].map(|on| on.contains(address));
            assert!(places[0] != places[1], "round {round}: {address} on {there:?} and {here:?}");
        }
        let left = kept(&agent);
        let begun = left.matches("ToPrimary").count();
        let done = left.matches("\"Primary\"").count();
        match (begun, done) {
            (0, 0) => before += 1,
            (0, 2) => after += 1,
            _ => amidst += 1,
        }
        agent.launch();
        if begun > 0 {
            wait_until("the move to be finished", LIMIT, || !kept(&agent).contains("ToPrimary"));
        }
        // What was not begun before the end is not begun after it.
        for subnet in ["10.9.0.0/24", "fd00:9::/64"] {
            let order = enable(site.host, &agent, subnet);
            let said = String::from_utf8_lossy(&order.stderr).into_owned();
            assert!(order.status.success() || said.contains("nothing to enable"), "{said}");
        }
        assert!(site.all_on("eth0"), "round {round}: {:?} {:?}", site.on("eth0"), site.on("eth1"));
    }
    println!("killed before {before}, amidst {amidst} and after {after} moves");
    assert!(amidst >= 10, "too few of the kills came amidst a move");
    assert!(site.host.exec("ip route show default").contains("via 10.9.0.1 dev eth0"));
}
