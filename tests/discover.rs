//! `evenkeel discover` (SUBN-10), on a host with all kinds of routes: what it lists, whom a probe leaves
//! out, and that its configuration can be used as it is.

use std::{fs, process::Output, time::Duration};

use serde_json::Value;

use crate::common::{Agent, BINARY, Lab, Ns, wait_until};

/// A host on four subnets, and the one neighbour behind its cables, which is all of the gateways.
///
/// | subnet | gateways on it |
/// |---|---|
/// | 10.9.0.0/24 | 10.9.0.1 by the default route; 10.9.0.3, one of two next hops, is deaf |
/// | 10.9.1.0/24 | 10.9.1.1 by a second routing table |
/// | 10.9.2.0/24 | none |
/// | fd00:9::/64 | fe80::1 by the default route; fd00:9::7 in the neighbour table only, is gone |
///
/// More gateways are two hops away, with addresses that are on none of these subnets.
struct Place {
    host: Ns,
    gate: Ns,
    _lab: Lab,
}

impl Place {
    fn new() -> Place {
        let lab = Lab::new();
        let (host, gate) = (lab.namespace("host"), lab.namespace("gate"));
        for interface in ["eth0", "eth1", "eth2"] {
            lab.link((&host, interface), (&gate, interface));
            // Addresses of the kernel's choice would be in no table above.
            gate.exec(&format!("ip -6 addr flush dev {interface} scope link"));
        }
        for (interface, address) in [
            ("eth0", "10.9.0.2/24"),
            ("eth0", "fd00:9::2/64"),
            ("eth1", "10.9.1.2/24"),
            ("eth2", "10.9.2.2/24"),
        ] {
            host.address(interface, address);
        }
        for (interface, address) in [
            ("eth0", "10.9.0.1/24"),
            ("eth0", "10.9.0.3/24"),
            ("eth0", "fe80::1/64"),
            ("eth1", "10.9.1.1/24"),
            ("eth2", "10.9.2.1/24"),
        ] {
            gate.address(interface, address);
        }
        // A router has a link-local address and knows which prefixes are on its link.
        gate.exec("ip -6 route add fd00:9::/64 dev eth0");
        for route in [
            "route add default via 10.9.0.1",
            "route add 10.50.0.0/16 nexthop via 10.9.0.1 nexthop via 10.9.0.3",
            "route add 10.51.0.0/16 via 10.9.0.3",
            "-6 route add default via fe80::1 dev eth0",
            // RFC 5549: an IPv6 gateway of an IPv4 route.
            "route add 10.52.0.0/16 via inet6 fe80::1 dev eth0",
            "route add default via 10.9.1.1 table 100",
            "-6 neigh add fd00:9::7 lladdr 02:00:00:00:00:07 dev eth0 router nud reachable",
            // Two hops away: their addresses are reached by another gateway, or said to be on the link.
            "route add 10.88.0.0/24 via 10.9.0.1",
            "route add 10.60.0.0/16 via 10.88.0.1 dev eth0 onlink",
            "-6 route add fd00:60::/64 via fd00:88::1 dev eth0 onlink",
        ] {
            host.exec(&format!("ip {route}"));
        }
        gate.nft(
            "table inet lab {
                chain in {
                    type filter hook input priority 0;
                    ip daddr 10.9.0.3 icmp type echo-request drop
                }
            }",
        );
        Place { host, gate, _lab: lab }
    }

    /// Runs the binary on the host.
    fn evenkeel(&self, arguments: &[&str]) -> Output {
        self.host.command(BINARY).args(arguments).output().expect("the binary that cargo built")
    }

    /// The same without any right.
    fn evenkeel_without_rights(&self, arguments: &[&str]) -> Output {
        let mut command = self.host.command("setpriv");
        command.args(["--bounding-set", "-net_raw,-net_admin", "--inh-caps", "-all", BINARY]);
        command.args(arguments).output().expect("setpriv is part of util-linux")
    }
}

/// What it printed, once it went well; nothing may stand on standard error.
fn printed(output: Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.is_empty(), "{:?}\n{errors}", output.status);
    String::from_utf8(output.stdout).expect("text")
}

/// The names of the polling targets, or of those that were left out, of each subnet.
fn listed(found: &Value, list: &str) -> Vec<(String, Vec<String>)> {
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let subnets = found["subnets"].as_array().expect("a list").iter();
    subnets
        .map(|subnet| {
            let targets = subnet[list].as_array().expect("a list").iter();
            let names = targets.map(|target| text(&target["polling_target"])).collect();
            (text(&subnet["subnet"]), names)
        })
        .collect()
}

fn expected(subnets: &[(&str, &[&str])]) -> Vec<(String, Vec<String>)> {
    let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    subnets.iter().map(|(subnet, names)| ((*subnet).to_owned(), owned(names))).collect()
}

#[test]
fn subn_10_every_subnet_and_gateway_is_listed_and_a_probe_leaves_out_the_deaf() {
    let place = Place::new();

    // Without a probe nothing is sent, so no right is needed.
    let text = printed(place.evenkeel_without_rights(&["discover"]));
    assert!(text.contains("No probe was done"), "{text}");
    for elsewhere in ["10.88.0.1", "fd00:88::1", "127.0.0.1"] {
        assert!(!text.contains(elsewhere), "{elsewhere} in:\n{text}");
    }
    let json = printed(place.evenkeel(&["discover", "--format", "json"]));
    let found: Value = serde_json::from_str(&json).expect("JSON and no more");
    assert_eq!((&found["schema"], &found["probed"]), (&1.into(), &false.into()));
    let all = expected(&[
        ("10.9.0.0/24", &["10.9.0.1", "10.9.0.3"]),
        ("10.9.1.0/24", &["10.9.1.1"]),
        ("10.9.2.0/24", &[]),
        ("fd00:9::/64", &["fe80::1%eth0", "fd00:9::7"]),
    ]);
    assert_eq!(listed(&found, "polling_targets"), all);
    for where_found in [
        "10.9.0.1  default route, routes to 10.50.0.0/16 and 1 more",
        "10.9.0.3  routes to 10.50.0.0/16 and 1 more",
        "10.9.1.1  default route in table 100",
        "fe80::1%eth0  default route, route to 10.52.0.0/16",
        "fd00:9::7     neighbour table",
    ] {
        assert!(text.contains(where_found), "no {where_found:?} in:\n{text}");
    }

    let json = printed(place.evenkeel(&["discover", "--probe", "--format", "json"]));
    let found: Value = serde_json::from_str(&json).expect("JSON and no more");
    assert_eq!(found["probed"], true);
    let answering = expected(&[
        ("10.9.0.0/24", &["10.9.0.1"]),
        ("10.9.1.0/24", &["10.9.1.1"]),
        ("10.9.2.0/24", &[]),
        ("fd00:9::/64", &["fe80::1%eth0"]),
    ]);
    assert_eq!(listed(&found, "polling_targets"), answering);
    let silent = expected(&[
        ("10.9.0.0/24", &["10.9.0.3"]),
        ("10.9.1.0/24", &[]),
        ("10.9.2.0/24", &[]),
        ("fd00:9::/64", &["fd00:9::7"]),
    ]);
    assert_eq!(listed(&found, "left_out"), silent);
    let probe = &found["subnets"][0]["left_out"][0]["probes"][0];
    assert_eq!((&probe["local"], &probe["reason"]), (&"10.9.0.2".into(), &"no reply".into()));
    let probe = &found["subnets"][3]["polling_targets"][0]["probes"][0];
    assert_eq!((&probe["polls"], &probe["answered"]), (&4.into(), &4.into()), "{probe}");
    assert!(probe["round_trip_ms"].as_f64().is_some_and(|ms| (0.0..1000.0).contains(&ms)));

    // An interface whose cable is pulled: its gateway can't be polled, and it says why.
    place.gate.exec("ip link set eth1 down");
    wait_until("the kernel to tell of the cable", Duration::from_secs(10), || {
        printed(place.evenkeel(&["discover"])).contains("eth1  10.9.1.2  (no link)")
    });
    let text = printed(place.evenkeel(&["discover", "--probe"]));
    assert!(text.contains("left out        10.9.1.1"), "{text}");
    assert!(text.contains("name other nodes that are on it as peers"), "{text}");
}

#[test]
fn subn_10_its_configuration_is_accepted_as_it_is_and_every_flow_comes_up() {
    let place = Place::new();
    let toml = printed(place.evenkeel(&["discover", "--probe", "--format", "toml"]));
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("discovered.toml");
    fs::write(&file, &toml).expect("a writable temporary directory");
    let checked = place.evenkeel(&["check", "--config", file.to_str().expect("a plain path")]);
    let summary = printed(checked);
    assert!(summary.contains("good, 0 errors, 0 warnings"), "{summary}\n{toml}");

    let agent = Agent::start(&place.host, &toml);
    wait_until("every flow to be up", Duration::from_secs(20), || {
        agent.metrics().sum("evenkeel_flow_up", &[]) == 3.0
    });
    let status = agent.status();
    assert_eq!(status["flows"].as_array().map(Vec::len), Some(3), "{status}");
}

#[test]
fn discover_fails_in_words_where_it_may_not_poll_or_there_is_nobody_to_poll() {
    let place = Place::new();
    let denied = place.evenkeel_without_rights(&["discover", "--probe"]);
    let said = String::from_utf8_lossy(&denied.stderr);
    assert_eq!(denied.status.code(), Some(1), "{said}");
    assert!(said.contains("CAP_NET_RAW") && said.contains("without --probe"), "{said}");

    place.host.exec("ip route flush table all scope global");
    place.host.exec("ip -6 route flush default");
    place.host.exec("ip -6 neigh flush all nud all");
    let alone = place.evenkeel(&["discover", "--format", "toml"]);
    let said = String::from_utf8_lossy(&alone.stderr);
    assert_eq!(alone.status.code(), Some(1), "{said}");
    assert!(said.contains("no gateway on any of its subnets"), "{said}");
    // What was found is printed all the same, and none of it is polled.
    let toml = String::from_utf8_lossy(&alone.stdout);
    assert!(toml.contains("# peers = ") && !toml.contains("\n[[subnets.subnet]]"), "{toml}");
}
