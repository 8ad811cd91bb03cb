//! The field of peers: a network namespace behind a cable that answers echoes to every address of
//! two whole prefixes, by the kernel's own hand (AnyIP).

use std::{
    fmt::Write as _,
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
    process::{Child, Command, Stdio},
};

use super::lab::{Lab, Ns};

/// Who asks sits here.
pub const NEAR: &str = "near";
/// The peers sit behind this.
const FAR: &str = "far";

/// The first peer of each family. One after the other follow, all inside of the prefixes that the
/// far namespace answers for.
const FIRST_V4: u32 = u32::from_be_bytes([10, 1, 0, 0]);
const FIRST_V6: u128 = 0xfd00 << 112 | 1 << 32;

/// A family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4 and ICMP.
    V4,
    /// IPv6 and ICMPv6.
    V6,
}

impl Family {
    /// The address of a peer.
    pub fn peer(self, place: u32) -> IpAddr {
        match self {
            Family::V4 => Ipv4Addr::from(FIRST_V4 + place).into(),
            Family::V6 => Ipv6Addr::from(FIRST_V6 + u128::from(place)).into(),
        }
    }
}

/// The two namespaces and the cable between them, for as long as this lives.
pub struct Field {
    near: Ns,
    far: Ns,
    _lab: Lab,
}

impl Field {
    /// Lays it out. Wants root.
    pub fn new() -> Field {
        let lab = Lab::new();
        let (near, far) = (lab.namespace(NEAR), lab.namespace(FAR));
        lab.link((&near, "v0"), (&far, "v0"));
        near.address("v0", "192.0.2.1/30");
        far.address("v0", "192.0.2.2/30");
        near.address("v0", "2001:db8::1/64");
        far.address("v0", "2001:db8::2/64");
        // By way of one router, so that one neighbour serves for all peers.
        near.exec("ip route add 10.0.0.0/8 via 192.0.2.2");
        near.exec("ip -6 route add fd00::/16 via 2001:db8::2");
        far.exec("ip route add local 10.0.0.0/8 dev lo");
        far.exec("ip -6 route add local fd00::/16 dev lo");
        // Echo replies are free of the limits as kernels come; a distribution may have set others.
        for (key, value) in [
            ("net/ipv4/icmp_ratelimit", "0"),
            ("net/ipv4/icmp_ratemask", "0"),
            ("net/ipv4/icmp_echo_ignore_all", "0"),
            ("net/ipv6/icmp/ratelimit", "0"),
            ("net/ipv6/icmp/ratemask", ""),
            ("net/ipv6/icmp/echo_ignore_anycast", "0"),
        ] {
            // Not each kernel has each of them, and a limit that stays shows as loss.
            far.inside(|| fs::write(Path::new("/proc/sys").join(key), value).ok());
        }
        let field = Field { near, far, _lab: lab };
        for family in [Family::V4, Family::V6] {
            field.near.exec(&format!("ping -c 1 -W 2 {}", family.peer(0)));
        }
        field
    }

    /// A command that will run where the peers are asked from, with what it says on its standard
    /// output read by us.
    pub fn start(&self, program: &Path, arguments: &[String]) -> Child {
        let mut command = self.command(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
        command.spawn().unwrap_or_else(|error| {
            panic!("{command:?} does not start: {error}; does `tests/setup` say that all is there?")
        })
    }

    /// The same, not started yet.
    pub fn command(&self, program: &Path) -> Command {
        self.near.command(program.to_str().expect("a plain path"))
    }

    /// Where the peers are asked from.
    pub fn near(&self) -> &Ns {
        &self.near
    }

    /// How many echoes have come to the peers, by both families: what was sent, whoever sent it,
    /// without asking him.
    pub fn asked(&self) -> u64 {
        let (v4, v6) = self.far.inside(|| {
            let read = |name| fs::read_to_string(Path::new("/proc/thread-self/net").join(name));
            (read("snmp").expect("proc is mounted"), read("snmp6").expect("IPv6 is needed here"))
        });
        let mut tables = v4.lines().filter_map(|line| line.strip_prefix("Icmp: "));
        let (names, values) = (tables.next().expect("names"), tables.next().expect("values"));
        let mut both = names.split(' ').zip(values.split(' '));
        let in_v4 = both.find(|(name, _)| *name == "InEchos").map(|(_, value)| value);
        let in_v6 = v6.split_whitespace().skip_while(|word| *word != "Icmp6InEchos").nth(1);
        let number = |word: Option<&str>| word.and_then(|word| word.parse::<u64>().ok());
        number(in_v4).expect("a count") + number(in_v6).expect("a count")
    }
}

/// The addresses of the first `count` peers, one in each line.
pub fn list(family: Family, count: u32) -> String {
    (0..count).fold(String::new(), |mut text, place| {
        writeln!(text, "{}", family.peer(place)).expect("a string takes all");
        text
    })
}

/// The same as a file for Prometheus' file-based service discovery.
pub fn file_sd(family: Family, count: u32) -> String {
    let peers: Vec<String> =
        (0..count).map(|place| format!("\"{}\"", family.peer(place))).collect();
    format!("[{{\"targets\": [{}], \"labels\": {{\"site\": \"bench\"}}}}]\n", peers.join(",\n"))
}
