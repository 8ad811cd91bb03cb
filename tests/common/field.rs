//! A field of peers: one namespace behind a cable that answers echoes for whole prefixes, as its
//! kernel takes every address of them for its own ("AnyIP"), and that loses requests as it is told.
//!
//! What was asked there and what was answered is in a [`Log`](super::truth::Log), from which the tests
//! compute what the agent must have found.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
};

use serde_json::json;

use super::{Lab, Ns, truth::Log};

/// A namespace full of peers.
pub struct Field {
    ns: Ns,
}

/// The host's hardware address, and the field's: locally administered.
const HOST: &str = "02:00:00:00:00:02";
const FIELD: &str = "02:00:00:00:00:01";

/// Which echo requests a field loses.
#[derive(Clone, Copy, Debug)]
pub enum Loss<'a> {
    /// None.
    Nothing,
    /// A tenth, by chance.
    TenthOfPackets,
    /// All that go to a tenth of the addresses; which ones, a hash decides.
    TenthOfPeers,
    /// The same, and those of [`Loss::To`].
    TenthOfPeersAnd(&'a str),
    /// All that go to these addresses: IPv4 prefixes, addresses or ranges, as nft writes them.
    To(&'a str),
    /// All.
    All,
}

impl Field {
    /// A field behind a router's hop: however many peers there are, the host needs one neighbour only.
    /// The host's end of the cable is `eth0`, and its addresses 192.0.2.2 and 2001:db8::2.
    pub fn routed(lab: &Lab, host: &Ns) -> Field {
        let field = Field::joined(lab, host);
        host.address("eth0", "192.0.2.2/24");
        host.address("eth0", "2001:db8::2/64");
        field.ns.address("eth0", "192.0.2.1/24");
        field.ns.address("eth0", "2001:db8::1/64");
        // The host tells nobody its hardware address, neither with an answer nor with a question, so the
        // field knows it only by configuration.
        host.exec(&format!("ip link set eth0 address {HOST}"));
        field.ns.exec(&format!("ip link set eth0 address {FIELD}"));
        host.exec(&format!("ip neigh replace 192.0.2.1 dev eth0 lladdr {FIELD} nud permanent"));
        host.inside(|| fs::write("/proc/sys/net/ipv4/conf/eth0/arp_ignore", "8"))
            .expect("a setting");
        field.hold_answers(false);
        host.exec("ip route add 10.0.0.0/8 via 192.0.2.1");
        host.exec("ip -6 route add fd00::/16 via 2001:db8::1");
        field
    }

    /// A field whose IPv4 peers are all on the host's own link, each a neighbour with an entry in its
    /// ARP table. The host is 10.255.255.254.
    pub fn on_link(lab: &Lab, host: &Ns) -> Field {
        let field = Field::joined(lab, host);
        host.address("eth0", "10.255.255.254/8");
        field.ns.exec("ip route add 10.255.255.254/32 dev eth0");
        field
    }

    fn joined(lab: &Lab, host: &Ns) -> Field {
        let ns = lab.namespace("field");
        lab.link((host, "eth0"), (&ns, "eth0"));
        ns.inside(|| {
            // The kernel answers as fast as it is asked.
            for (path, value) in [
                ("ipv4/icmp_ratelimit", "0"),
                ("ipv4/icmp_msgs_per_sec", "1000000"),
                ("ipv6/icmp/ratelimit", "0"),
                // Room for what `hold_answers` holds.
                ("ipv4/neigh/eth0/unres_qlen_bytes", "16777216"),
                // IPv6 addresses that survive `plug`.
                ("ipv6/conf/all/keep_addr_on_down", "1"),
            ] {
                fs::write(format!("/proc/sys/net/{path}"), value).expect("a known setting");
            }
        });
        ns.exec("ip route add local 10.0.0.0/8 dev lo");
        ns.exec("ip -6 route add local fd00::/16 dev lo");
        ns.nft("table inet lab { chain lose { type filter hook input priority 0; }; }");
        Field { ns }
    }

    /// Loses these requests from now on, and no others.
    pub fn lose(&self, loss: Loss<'_>) {
        let to =
            |addresses: &str| format!("icmp type echo-request ip daddr {{ {addresses} }} drop");
        let each = |v4: &str, v6: &str| {
            [
                format!("icmp type echo-request {v4} drop"),
                format!("icmpv6 type echo-request {v6} drop"),
            ]
        };
        // Without a seed the kernel makes up one, and the next rules would hit another tenth.
        let tenth =
            || each("jhash ip daddr mod 10 seed 0x2a 0", "jhash ip6 daddr mod 10 seed 0x2a 0");
        match loss {
            Loss::Nothing => self.rules(&[]),
            Loss::TenthOfPackets => {
                self.rules(&each("numgen random mod 10 0", "numgen random mod 10 0"));
            }
            Loss::TenthOfPeers => self.rules(&tenth()),
            Loss::TenthOfPeersAnd(addresses) => {
                let [v4, v6] = tenth();
                self.rules(&[v4, v6, to(addresses)]);
            }
            Loss::To(addresses) => self.rules(&[to(addresses)]),
            Loss::All => self.rules(&each("", "")),
        }
    }

    /// Replaces all rules in one transaction.
    fn rules(&self, rules: &[String]) {
        let mut script = String::from("flush chain inet lab lose\n");
        for rule in rules {
            script += &format!("add rule inet lab lose {rule}\n");
        }
        self.ns.nft(&script);
    }

    /// Begins to log what the peers are asked and what they answer.
    pub fn log(&self) -> Log {
        Log::start(&self.ns, "eth0")
    }

    /// Holds back the answers of IPv4 peers, or lets those that were held go all at once: for as long as
    /// the next hop's address is not resolved, packets wait for it (RFC 1122, 2.3.2.2). They do for a
    /// second at most.
    pub fn hold_answers(&self, hold: bool) {
        let entry = format!("192.0.2.2 dev eth0 lladdr {HOST} nud permanent");
        self.ns.exec(&if hold {
            format!("ip neigh del {entry}")
        } else {
            format!("ip neigh replace {entry}")
        });
    }

    /// Pulls the cable out, at the peers' end, or puts it in again.
    pub fn plug(&self, plugged: bool) {
        self.ns.exec(&format!("ip link set eth0 {}", if plugged { "up" } else { "down" }));
        if plugged {
            self.hold_answers(false);
        }
    }
}

/// IPv4 peers number `from` to `to`: number 0 is 10.1.0.0, and 256 of them fill a /24.
pub fn v4(from: u32, to: u32) -> impl Iterator<Item = IpAddr> + Clone {
    (from..to).map(|number| Ipv4Addr::from_bits((10 << 24 | 1 << 16) + number).into())
}

/// IPv6 peers number `from` to `to`: number 0 is fd00:1::.
pub fn v6(from: u32, to: u32) -> impl Iterator<Item = IpAddr> + Clone {
    let first = Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 0).to_bits();
    (from..to).map(move |number| Ipv6Addr::from_bits(first + u128::from(number)).into())
}

/// Writes a file of Prometheus' file-based service discovery, and puts it in place in one step, as
/// whoever writes such files does.
pub fn write_targets(file: &Path, peers: impl Iterator<Item = IpAddr>) {
    let targets: Vec<String> = peers.map(|peer| peer.to_string()).collect();
    let text = json!([{ "targets": targets, "labels": { "site": "field" } }]).to_string();
    write_file(file, &text);
}

/// Puts any text in place in one step.
pub fn write_file(file: &Path, text: &str) {
    let new = file.with_extension("new");
    fs::write(&new, text).expect("a writable temporary directory");
    fs::rename(&new, file).expect("the same directory");
}
