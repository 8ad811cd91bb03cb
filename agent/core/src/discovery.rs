//! Which subnets this host is on, and which routers on them could serve as polling targets (SUBN-10).
//!
//! A router is offered only where it is on the subnet itself, or on its link with a link-local
//! address; how it became known decides nothing but its place in the list.

use std::{cmp::Reverse, collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;

use crate::{
    input::{Host, HostInterface},
    plan::{FlowKey, is_link_local, is_on_subnet, is_own, of_no_node, plan},
    settings::{Polled, Require, Subnet, Subnets},
};

/// A router that this host knows of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Router {
    /// The kernel's index of the interface that it is reached by.
    pub interface: u32,
    /// Its address there.
    pub address: IpAddr,
    /// Where it is known from.
    pub known: Known,
}

/// Where a router is known from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Routes that lead by it, for each routing table that has some.
    pub tables: BTreeMap<u32, Routes>,
    /// The neighbour table says that it is a router (RFC 4861, 7.2.5).
    pub neighbour: bool,
}

/// Routes of one routing table that lead by the same router.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Routes {
    /// A default route is among them.
    pub default: bool,
    /// The first of the others.
    pub first: Option<IpNet>,
    /// How many others there are.
    pub others: u64,
}

/// A subnet that this host is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundSubnet {
    /// Which one.
    pub prefix: IpNet,
    /// The interfaces with an address on it, in the order of their indexes.
    pub carriers: Vec<Carrier>,
    /// Who could be polled there, the likeliest first.
    pub candidates: Vec<Candidate>,
}

/// An interface that carries a subnet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carrier {
    /// The kernel's index of the interface.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Set up by the administrator.
    pub up: bool,
    /// Its link is up.
    pub running: bool,
    /// This host's addresses on it that are on the subnet.
    pub locals: Vec<IpAddr>,
}

/// Who could be polled on a subnet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// What is polled.
    pub polled: Polled,
    /// Where it is known from.
    pub known: Known,
}

/// Every subnet of this host in the order of their prefixes, with the routers on it.
///
/// Left out are loopback, and what says nothing of its own: a prefix of one address within another
/// prefix of this host, and a link-local one unless it is all that its interface has and a router is
/// there.
pub fn discover(host: &Host, routers: &[Router]) -> Vec<FoundSubnet> {
    let mut found: BTreeMap<IpNet, FoundSubnet> = BTreeMap::new();
    for interface in host.interfaces.iter().filter(|interface| !interface.loopback) {
        for net in interface.addresses.iter().filter(|net| is_subnet(interface, net)) {
            let prefix = net.trunc();
            let subnet = found.entry(prefix).or_insert_with(|| FoundSubnet {
                prefix,
                carriers: Vec::new(),
                candidates: Vec::new(),
            });
            subnet.carry(interface);
        }
    }
    for subnet in found.values_mut() {
        for router in routers.iter().filter(|router| !is_own(host, router.address)) {
            subnet.offer(router);
        }
        subnet
            .candidates
            .sort_by_key(|candidate| (candidate.known.rank(), candidate.polled.clone()));
    }
    let prefixes: Vec<IpNet> = found.keys().copied().collect();
    found.into_values().filter(|subnet| subnet.speaks_for_itself(&prefixes)).collect()
}

/// The flows that there would be if every candidate were a polling target (SUBN-1).
pub fn flows(found: &[FoundSubnet], host: &Host) -> Vec<FlowKey> {
    let subnets = found
        .iter()
        .filter(|subnet| !subnet.candidates.is_empty())
        .map(|subnet| Subnet {
            prefix: subnet.prefix,
            monitor: true,
            polling_targets: subnet.candidates.iter().map(|each| each.polled.clone()).collect(),
            peers: Vec::new(),
            require: Require::Any,
            standby: None,
        })
        .collect();
    plan(&Subnets { watch_gateways: false, subnets, ..Subnets::default() }, host).flows
}

/// Whether an address of an interface makes a subnet that can be watched: every interface has a
/// link-local prefix, which tells no more than the other prefixes of its link.
fn is_subnet(interface: &HostInterface, net: &IpNet) -> bool {
    let same_version = |other: &&IpNet| other.addr().is_ipv4() == net.addr().is_ipv4();
    net.prefix_len() > 0
        && (!is_link_local(net.addr())
            || interface
                .addresses
                .iter()
                .filter(same_version)
                .all(|other| is_link_local(other.addr())))
}

fn is_one_address(net: &IpNet) -> bool {
    net.prefix_len() == net.max_prefix_len()
}

impl FoundSubnet {
    /// Adds an interface with an address on this subnet. Its single addresses there (virtual ones,
    /// mostly) are polled from as well.
    fn carry(&mut self, interface: &HostInterface) {
        if self.carriers.last().is_some_and(|carrier| carrier.index == interface.index) {
            return;
        }
        let prefix = self.prefix;
        let on_it =
            |net: &&IpNet| net.trunc() == prefix || (is_one_address(net) && prefix.contains(*net));
        self.carriers.push(Carrier {
            index: interface.index,
            name: interface.name.clone(),
            up: interface.up,
            running: interface.running,
            locals: interface.addresses.iter().filter(on_it).map(IpNet::addr).collect(),
        });
    }

    /// Makes a candidate of a router that is on this subnet.
    fn offer(&mut self, router: &Router) {
        let carrier = self.carriers.iter().find(|carrier| carrier.index == router.interface);
        let Some(carrier) = carrier else { return };
        if !is_on_subnet(router.address, self.prefix)
            || of_no_node(router.address, self.prefix).is_some()
        {
            return;
        }
        let needs_zone = router.address.is_ipv6() && is_link_local(router.address);
        let zone = needs_zone.then(|| carrier.name.clone());
        let polled = Polled { address: router.address, zone };
        // The same router may be reached by two interfaces on the subnet.
        match self.candidates.iter_mut().find(|candidate| candidate.polled == polled) {
            Some(candidate) => candidate.known.add(&router.known),
            None => self.candidates.push(Candidate { polled, known: router.known.clone() }),
        }
    }

    fn speaks_for_itself(&self, prefixes: &[IpNet]) -> bool {
        let prefix = self.prefix;
        if is_link_local(prefix.addr()) {
            return !self.candidates.is_empty();
        }
        !is_one_address(&prefix)
            || !prefixes.iter().any(|other| *other != prefix && other.contains(&prefix))
    }
}

impl Candidate {
    /// Whether a flow of this subnet's polls this candidate.
    pub fn is_polled_by(&self, flow: &FlowKey) -> bool {
        self.polled.address == flow.polled
            && self.polled.zone.as_ref().is_none_or(|zone| *zone == flow.interface)
    }
}

impl Known {
    /// Notes a route that leads by the router.
    pub fn add_route(&mut self, table: u32, to: IpNet) {
        let routes = self.tables.entry(table).or_default();
        if to.prefix_len() == 0 {
            routes.default = true;
        } else {
            routes.first.get_or_insert(to);
            routes.others += 1;
        }
    }

    fn add(&mut self, more: &Known) {
        for (&table, more) in &more.tables {
            let routes = self.tables.entry(table).or_default();
            routes.default |= more.default;
            routes.first = routes.first.or(more.first);
            routes.others += more.others;
        }
        self.neighbour |= more.neighbour;
    }

    /// The default gateway comes first, what only says of itself that it is a router last.
    fn rank(&self) -> Reverse<(bool, bool)> {
        Reverse((self.tables.values().any(|routes| routes.default), !self.tables.is_empty()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAIN: u32 = 254;

    fn host(interfaces: &[(&str, &[&str])]) -> Host {
        let interfaces = interfaces
            .iter()
            .zip(1..)
            .map(|((name, addresses), index)| HostInterface {
                index,
                name: (*name).to_owned(),
                up: true,
                running: true,
                loopback: *name == "lo",
                addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
                gateways: Vec::new(),
            })
            .collect();
        Host { interfaces }
    }

    /// A router on the interface with this index, known from a route to this prefix, or from the
    /// neighbour table if that is empty.
    fn router(interface: u32, address: &str, to: &str) -> Router {
        let mut known = Known::default();
        match to {
            "" => known.neighbour = true,
            to => known.add_route(MAIN, to.parse().unwrap()),
        }
        Router { interface, address: address.parse().unwrap(), known }
    }

    /// Each subnet as `prefix interfaces: candidates`.
    fn found(host: &Host, routers: &[Router]) -> Vec<String> {
        let words = |subnet: &FoundSubnet| {
            let interfaces: Vec<&str> =
                subnet.carriers.iter().map(|carrier| carrier.name.as_str()).collect();
            let candidates: Vec<String> =
                subnet.candidates.iter().map(|candidate| candidate.polled.to_string()).collect();
            let (interfaces, candidates) = (interfaces.join(","), candidates.join(" "));
            format!("{} {interfaces}: {candidates}", subnet.prefix).trim_end().to_owned()
        };
        discover(host, routers).iter().map(words).collect()
    }

    #[test]
    fn subn_10_every_subnet_is_listed_with_the_gateways_on_it() {
        let host = host(&[
            ("lo", &["127.0.0.1/8", "::1/128"]),
            ("eth0", &["10.0.0.2/24", "2001:db8::2/64", "fe80::2/64"]),
            ("eth1", &["10.1.0.2/24", "fe80::3/64"]),
        ]);
        let routers = [
            router(2, "10.0.0.1", "0.0.0.0/0"),
            router(2, "fe80::1", "::/0"),
            router(1, "127.0.0.9", "10.9.0.0/16"),
        ];
        assert_eq!(
            found(&host, &routers),
            ["10.0.0.0/24 eth0: 10.0.0.1", "10.1.0.0/24 eth1:", "2001:db8::/64 eth0: fe80::1%eth0"]
        );
    }

    #[test]
    fn subn_10_a_gateway_that_is_not_on_the_subnet_itself_is_never_offered() {
        let host = host(&[
            ("eth0", &["10.0.0.2/24", "2001:db8::2/64"]),
            ("eth1", &["10.1.0.2/24", "2001:db8:1::2/64"]),
        ]);
        for elsewhere in [
            // Two hops away, reached by `onlink` or by another gateway.
            router(1, "10.9.0.1", "0.0.0.0/0"),
            router(1, "2001:db8:9::1", "::/0"),
            // On the subnet by its address, but on the link of another.
            router(2, "10.0.0.1", "0.0.0.0/0"),
            router(2, "2001:db8::1", "::/0"),
            // No address of one node: subnet, broadcast, anycast.
            router(1, "10.0.0.0", "0.0.0.0/0"),
            router(1, "10.0.0.255", "0.0.0.0/0"),
            router(1, "2001:db8::", "::/0"),
            // This host itself, also by its address on another interface.
            router(1, "10.0.0.2", "10.7.0.0/16"),
            router(1, "10.1.0.2", "10.7.0.0/16"),
        ] {
            let listed = found(&host, std::slice::from_ref(&elsewhere));
            assert_eq!(listed.len(), 4);
            assert!(listed.iter().all(|line| line.ends_with(':')), "{elsewhere:?}: {listed:?}");
        }
    }

    #[test]
    fn an_ipv6_gateway_of_ipv4_routes_is_offered_for_ipv6_only() {
        // RFC 5549: `ip route add default via inet6 fe80::1`.
        let host = host(&[("eth0", &["10.0.0.2/24", "2001:db8::2/64", "2001:db8:1::2/64"])]);
        assert_eq!(
            found(&host, &[router(1, "fe80::1", "0.0.0.0/0")]),
            [
                "10.0.0.0/24 eth0:",
                "2001:db8::/64 eth0: fe80::1%eth0",
                "2001:db8:1::/64 eth0: fe80::1%eth0",
            ]
        );
    }

    #[test]
    fn the_default_gateway_comes_first_and_a_mere_neighbour_last() {
        let host = host(&[("eth0", &["2001:db8::2/64"])]);
        let routers = [
            router(1, "2001:db8::1", ""),
            router(1, "2001:db8::4", "2001:db8:7::/48"),
            router(1, "2001:db8::3", "2001:db8:8::/48"),
            router(1, "2001:db8::9", "::/0"),
        ];
        assert_eq!(
            found(&host, &routers),
            ["2001:db8::/64 eth0: 2001:db8::9 2001:db8::3 2001:db8::4 2001:db8::1"]
        );
    }

    #[test]
    fn a_subnet_on_two_interfaces_is_one_and_so_is_its_gateway() {
        let host = host(&[
            ("eth0", &["10.0.0.2/24", "10.0.0.4/24", "10.0.0.9/32", "2001:db8::2/64"]),
            ("eth1", &["10.0.0.3/24", "2001:db8::3/64"]),
        ]);
        let routers = [
            router(1, "10.0.0.1", "0.0.0.0/0"),
            router(1, "fe80::1", "::/0"),
            router(2, "10.0.0.1", "10.7.0.0/16"),
            // Link-local addresses on two links are two routers.
            router(2, "fe80::1", "::/0"),
        ];
        assert_eq!(
            found(&host, &routers),
            [
                "10.0.0.0/24 eth0,eth1: 10.0.0.1",
                "2001:db8::/64 eth0,eth1: fe80::1%eth0 fe80::1%eth1",
            ]
        );
        let subnet = &discover(&host, &routers)[0];
        let locals: Vec<usize> =
            subnet.carriers.iter().map(|carrier| carrier.locals.len()).collect();
        assert_eq!(locals, [3, 1]);
        let routes = subnet.candidates[0].known.tables[&MAIN];
        let to = "10.7.0.0/16".parse().ok();
        assert_eq!(routes, Routes { default: true, first: to, others: 1 });
    }

    #[test]
    fn what_says_nothing_of_its_own_is_left_out() {
        for (addresses, listed) in [
            // A virtual address within the subnet, and a lone one.
            (&["10.0.0.2/24", "10.0.0.9/32"][..], &["10.0.0.0/24 eth0:"][..]),
            (&["10.0.0.9/32"], &["10.0.0.9/32 eth0:"]),
            // DHCPv6 gives single addresses, the router is on the link.
            (&["2001:db8::5/128", "fe80::2/64"], &["2001:db8::5/128 eth0: fe80::1%eth0"]),
            // An unnumbered link has nothing else.
            (&["fe80::2/64"], &["fe80::/64 eth0: fe80::1%eth0"]),
            (&["10.0.0.2/24", "169.254.3.2/16"], &["10.0.0.0/24 eth0:"]),
            (&["169.254.3.2/16"], &[]),
            (&["10.0.0.2/0"], &[]),
        ] {
            let host = host(&[("eth0", addresses)]);
            assert_eq!(found(&host, &[router(1, "fe80::1", "::/0")]), listed, "{addresses:?}");
        }
    }

    #[test]
    fn the_flows_are_those_that_the_agent_would_have() {
        let host = host(&[
            ("eth0", &["10.0.0.2/24", "10.0.0.4/24", "2001:db8::2/64"]),
            ("eth1", &["10.0.0.3/24", "2001:db8::3/64"]),
            ("eth2", &["10.2.0.2/24"]),
        ]);
        let routers = [router(1, "10.0.0.1", "0.0.0.0/0"), router(2, "fe80::1", "::/0")];
        let found = discover(&host, &routers);
        let flows: Vec<String> = flows(&found, &host)
            .iter()
            .map(|flow| format!("{} {}>{}", flow.interface, flow.local, flow.polled))
            .collect();
        assert_eq!(
            flows,
            [
                "eth0 10.0.0.2>10.0.0.1",
                "eth0 10.0.0.4>10.0.0.1",
                "eth1 10.0.0.3>10.0.0.1",
                "eth1 2001:db8::3>fe80::1",
            ]
        );
    }

    #[test]
    fn routes_are_counted_by_table() {
        let mut known = Known::default();
        for (table, to) in
            [(254, "10.1.0.0/16"), (254, "0.0.0.0/0"), (100, "0.0.0.0/0"), (254, "10.2.0.0/16")]
        {
            known.add_route(table, to.parse().unwrap());
        }
        let first = "10.1.0.0/16".parse().ok();
        assert_eq!(known.tables[&254], Routes { default: true, first, others: 2 });
        assert_eq!(known.tables[&100], Routes { default: true, first: None, others: 0 });
    }
}
