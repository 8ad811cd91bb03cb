//! What is shown of plain data; the sockets are tried by the acceptance tests.

use std::time::Duration;

use evenkeel_core::{
    discovery::{Known, Router, discover, flows},
    input::{Host, HostInterface, Reply, SendFailed, Verdict},
    probe::Probe,
    settings::Polled,
    time::Time,
};

use super::document::Discovery;
use crate::config::Config;

/// Interfaces by name, with their addresses; `eth9` is down, and `eth8` has no link.
fn host(interfaces: &[(&str, &[&str])]) -> Host {
    let interface = |((name, addresses), index): (&(&str, &[&str]), u32)| HostInterface {
        index,
        name: (*name).to_owned(),
        up: *name != "eth9",
        running: !matches!(*name, "eth8" | "eth9"),
        loopback: false,
        addresses: addresses.iter().map(|net| net.parse().unwrap()).collect(),
        gateways: Vec::new(),
    };
    Host { interfaces: interfaces.iter().zip(1..).map(interface).collect() }
}

/// A router on the interface with this index, with routes given as pairs of table and prefix, or known
/// from the neighbour table if there is none.
fn router(interface: u32, address: &str, routes: &[(u32, &str)]) -> Router {
    let mut known = Known { neighbour: routes.is_empty(), ..Known::default() };
    for (table, to) in routes {
        known.add_route(*table, to.parse().unwrap());
    }
    Router { interface, address: address.parse().unwrap(), known }
}

/// What a local address meets when it polls another.
type Meets = fn(&str, &str) -> char;

/// The document of a host and its routers, unprobed; or probed, with what each local address meets at
/// each polled one: `!` all polls are answered, `2` the first two, `u` unreachable, `e` can't be sent,
/// anything else no reply.
fn found(host: &Host, routers: &[Router], probe: Option<Meets>) -> Discovery {
    let found = discover(host, routers);
    let Some(meets) = probe else { return Discovery::new(&found, None) };
    let mut now = Time::from_secs(100);
    let mut probe = Probe::new(flows(&found, host), 7, now);
    while let Some(due) = probe.next_deadline() {
        now = now.max(due);
        while let Some(echo) = probe.poll_transmit(now) {
            let (local, polled, sequence) = (echo.local, echo.polled, echo.sequence);
            let verdict = match meets(&local.to_string(), &polled.to_string()) {
                '!' => Verdict::Answered,
                '2' if sequence < 2 => Verdict::Answered,
                'u' => Verdict::Unreachable,
                'e' => {
                    let error = "can't send on eth9: Network is down".to_owned();
                    probe.send_failed(&SendFailed { local, polled, sequence, error });
                    continue;
                }
                _ => continue,
            };
            probe.reply(&Reply {
                local,
                polled,
                identifier: 7,
                sequence,
                interface: None,
                received: now + Duration::from_micros(1_250),
                verdict,
            });
        }
        probe.heard(now);
    }
    Discovery::new(&found, Some(&probe))
}

const MAIN: u32 = 254;

/// A host with all that there can be.
fn example() -> (Host, Vec<Router>) {
    let host = host(&[
        ("eth0", &["10.0.0.2/24", "2001:db8::2/64"]),
        ("eth1", &["10.0.0.4/24", "10.0.0.5/24"]),
        ("eth8", &["10.2.0.2/24"]),
        ("eth9", &["10.3.0.2/24", "10.4.0.2/32"]),
    ]);
    let routers = vec![
        router(1, "10.0.0.1", &[(MAIN, "0.0.0.0/0")]),
        router(1, "10.0.0.3", &[(MAIN, "10.50.0.0/16"), (MAIN, "10.51.0.0/16")]),
        router(1, "fe80::1", &[(MAIN, "::/0"), (100, "2001:db8:7::/48")]),
        router(1, "2001:db8::9", &[]),
        router(4, "10.3.0.1", &[(100, "0.0.0.0/0")]),
    ];
    (host, routers)
}

fn meets(local: &str, polled: &str) -> char {
    match (local, polled) {
        ("10.0.0.2", "10.0.0.1") => '!',
        ("10.0.0.4", "10.0.0.1") => '2',
        ("10.0.0.5", "10.0.0.1") => '.',
        (_, "10.0.0.3") => 'u',
        (_, "fe80::1") => '!',
        (_, "10.3.0.1") => 'e',
        _ => '.',
    }
}

#[test]
fn without_a_probe_it_says_so_subn_10() {
    let (host, routers) = example();
    let text = found(&host, &routers, None).text();
    assert_eq!(
        text,
        "\
10.0.0.0/24
  eth0  10.0.0.2
  eth1  10.0.0.4, 10.0.0.5
  polling target  10.0.0.1  default route
  polling target  10.0.0.3  routes to 10.50.0.0/16 and 1 more

10.2.0.0/24
  eth8  10.2.0.2  (no link)
  no polling target: name other nodes that are on it as peers (peer polling)

10.3.0.0/24
  eth9  10.3.0.2  (down)
  polling target  10.3.0.1  default route in table 100

10.4.0.2/32
  eth9  10.4.0.2  (down)
  no polling target: no other node can be on it, so name one of another subnet (SUBN-13)

2001:db8::/64
  eth0  2001:db8::2
  polling target  fe80::1%eth0  default route, route to 2001:db8:7::/48 in table 100
  polling target  2001:db8::9   neighbour table

No probe was done: --probe polls each, and leaves out those that don't answer.
"
    );
}

#[test]
fn a_probe_leaves_out_who_does_not_answer_and_says_why_subn_10() {
    let (host, routers) = example();
    let text = found(&host, &routers, Some(meets)).text();
    assert_eq!(
        text,
        "\
10.0.0.0/24
  eth0  10.0.0.2
  eth1  10.0.0.4, 10.0.0.5
  polling target  10.0.0.1  default route; 6 of 8 answered, 1.25 ms; no reply at 10.0.0.5 (eth1)
  left out        10.0.0.3  routes to 10.50.0.0/16 and 1 more; destination unreachable

10.2.0.0/24
  eth8  10.2.0.2  (no link)
  no polling target: name other nodes that are on it as peers (peer polling)

10.3.0.0/24
  eth9  10.3.0.2  (down)
  left out        10.3.0.1  default route in table 100; could not send (can't send on eth9: Network \
is down), so no reply
  no polling target: name other nodes that are on it as peers (peer polling)

10.4.0.2/32
  eth9  10.4.0.2  (down)
  no polling target: no other node can be on it, so name one of another subnet (SUBN-13)

2001:db8::/64
  eth0  2001:db8::2
  polling target  fe80::1%eth0  default route, route to 2001:db8:7::/48 in table 100; 4 of 4 \
answered, 1.25 ms
  left out        2001:db8::9   neighbour table; no reply

Each was polled; those that did not answer are left out.
"
    );
}

#[test]
fn the_configuration_can_be_used_as_it_is_subn_10() {
    let (host, routers) = example();
    let toml = found(&host, &routers, Some(meets)).toml();
    assert_eq!(
        toml,
        "\
# The subnets of this host, and the gateways on them that answered, found by
# `evenkeel discover --probe`.

[subnets]
# What is named here is polled and no other gateway.
watch_gateways = false

# eth0  10.0.0.2; eth1  10.0.0.4, 10.0.0.5
# left out: 10.0.0.3  routes to 10.50.0.0/16 and 1 more; destination unreachable
[[subnets.subnet]]
prefix = \"10.0.0.0/24\"
polling_targets = [
    \"10.0.0.1\",  # default route; 6 of 8 answered, 1.25 ms; no reply at 10.0.0.5 (eth1)
]

# eth8  10.2.0.2  (no link)
# no polling target: name other nodes that are on it as peers (peer polling)
# [[subnets.subnet]]
# prefix = \"10.2.0.0/24\"
# peers = [\"...\", \"...\"]

# eth9  10.3.0.2  (down)
# left out: 10.3.0.1  default route in table 100; could not send (can't send on eth9: Network is down), \
so no reply
# no polling target: name other nodes that are on it as peers (peer polling)
# [[subnets.subnet]]
# prefix = \"10.3.0.0/24\"
# peers = [\"...\", \"...\"]

# eth9  10.4.0.2  (down)
# no polling target: no other node can be on it, so name one of another subnet (SUBN-13)
# [[subnets.subnet]]
# prefix = \"10.4.0.2/32\"
# polling_targets = [\"...\", \"...\"]

# eth0  2001:db8::2
# left out: 2001:db8::9  neighbour table; no reply
[[subnets.subnet]]
prefix = \"2001:db8::/64\"
polling_targets = [
    \"fe80::1%eth0\",  # default route, route to 2001:db8:7::/48 in table 100; 4 of 4 answered, 1.25 ms
]
"
    );
}

/// What the configuration's reader makes of a document as TOML: prefixes and polling targets.
fn read_back(found: &Discovery) -> Vec<(String, Vec<Polled>)> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("evenkeel.toml");
    std::fs::write(&path, found.toml()).unwrap();
    let (config, warnings) =
        Config::load(&path).unwrap_or_else(|errors| panic!("{}", errors.render(false)));
    assert!(warnings.is_empty(), "{warnings:?}");
    assert!(!config.core.subnets.watch_gateways);
    let subnets = config.core.subnets.subnets.into_iter();
    subnets.map(|subnet| (subnet.prefix.to_string(), subnet.polling_targets)).collect()
}

#[test]
fn the_reader_of_the_configuration_takes_every_candidate_as_it_is_meant() {
    let polled = |address: &str, zone: Option<&str>| Polled {
        address: address.parse().unwrap(),
        zone: zone.map(str::to_owned),
    };
    let (host_of_example, routers) = example();
    assert_eq!(
        read_back(&found(&host_of_example, &routers, None)),
        [
            ("10.0.0.0/24".to_owned(), vec![polled("10.0.0.1", None), polled("10.0.0.3", None)]),
            ("10.3.0.0/24".to_owned(), vec![polled("10.3.0.1", None)]),
            (
                "2001:db8::/64".to_owned(),
                vec![polled("fe80::1", Some("eth0")), polled("2001:db8::9", None)]
            ),
        ]
    );

    // The kernel lets an interface be named by anything but a slash, a colon or a space.
    for name in ["a\"b", "a'b", "\\", "#", "a%b", "\x1b[2J", "é"] {
        let host = host(&[(name, &["2001:db8::2/64", "fe80::2/64"])]);
        let found = found(&host, &[router(1, "fe80::1", &[(MAIN, "::/0")])], None);
        let expected = ("2001:db8::/64".to_owned(), vec![polled("fe80::1", Some(name))]);
        assert_eq!(read_back(&found), [expected], "{name:?}");
        assert!(!found.text().contains('\x1b'));
    }
}

#[test]
fn a_host_of_many_shapes_never_gives_a_configuration_that_is_refused() {
    for addresses in [
        &["10.0.0.1/31"][..],
        &["10.0.0.2/0", "10.0.0.2/8"],
        &["fe80::2/64"],
        &["2001:db8::1/127"],
        &["2001:db8::5/128", "fe80::2/64"],
        &["169.254.3.2/16"],
        &["10.0.0.2/24", "10.0.0.3/24", "10.0.0.4/32"],
    ] {
        let host = host(&[("eth0", addresses), ("eth1", addresses)]);
        let mut routers = Vec::new();
        for gateway in [
            "10.0.0.0",
            "10.0.0.1",
            "10.0.0.255",
            "10.255.255.255",
            "169.254.3.1",
            "fe80::1",
            "2001:db8::",
            "2001:db8::1",
        ] {
            routers.extend([1, 2].map(|index| router(index, gateway, &[(MAIN, "10.9.0.0/16")])));
        }
        let found = found(&host, &routers, None);
        let listed = found.subnets.iter().filter(|subnet| !subnet.polling_targets.is_empty());
        assert_eq!(read_back(&found).len(), listed.count(), "{addresses:?}");
    }
}

#[test]
fn the_json_is_versioned_and_has_it_all() {
    let (host, routers) = example();
    let found = found(&host, &routers, Some(meets));
    let json = serde_json::to_value(&found).unwrap();
    assert_eq!((&json["schema"], &json["probed"]), (&1.into(), &true.into()));
    let subnet = &json["subnets"][0];
    assert_eq!(subnet["subnet"], "10.0.0.0/24");
    assert_eq!(
        subnet["interfaces"][1],
        serde_json::json!({"name": "eth1", "status": "up", "addresses": ["10.0.0.4", "10.0.0.5"]})
    );
    assert_eq!(json["subnets"][1]["interfaces"][0]["status"], "no_link");
    assert_eq!(
        subnet["polling_targets"][0]["probes"][1],
        serde_json::json!({
            "interface": "eth1",
            "local": "10.0.0.4",
            "polls": 4,
            "answered": 2,
            "round_trip_ms": 1.25,
            "reason": "no reply",
        })
    );
    assert_eq!(
        subnet["left_out"][0]["found_in"],
        serde_json::json!([
            {"kind": "routes", "table": 254, "first": "10.50.0.0/16", "routes": 2}
        ])
    );
    let neighbour = &json["subnets"][4]["left_out"][0];
    assert_eq!(neighbour["polling_target"], "2001:db8::9");
    assert_eq!(neighbour["found_in"], serde_json::json!([{"kind": "neighbour_table"}]));
}

#[test]
fn it_fails_when_there_is_nobody_to_poll() {
    let (host, routers) = example();
    let nobody: Meets = |_, _| '.';
    for (found, fails) in [
        (found(&host, &routers, None), None),
        (found(&host, &routers, Some(meets)), None),
        (found(&host, &routers, Some(nobody)), Some("answered")),
        (found(&host, &[], None), Some("no gateway on any")),
        (found(&Host::default(), &routers, None), Some("no gateway on any")),
    ] {
        match (found.somebody_to_poll(), fails) {
            (Ok(()), None) => {}
            (Err(said), Some(words)) => assert!(said.contains(words), "{said}"),
            (result, wanted) => panic!("{result:?}, not {wanted:?}"),
        }
    }
}
