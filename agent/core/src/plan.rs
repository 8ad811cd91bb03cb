//! Which flows there are to be, from the configuration and what this host has (SUBN-1, SUBN-11), and
//! which addresses could be polled on a subnet at all.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::{
    input::{Host, HostInterface},
    settings::{Polled, Require, Subnet, Subnets},
};

/// What identifies a flow: one local address on one interface, and one polled address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FlowKey {
    /// The subnet that it judges.
    pub subnet: IpNet,
    /// The name of the interface.
    pub interface: String,
    /// The kernel's index of the interface.
    pub index: u32,
    /// The source.
    pub local: IpAddr,
    /// The destination.
    pub polled: IpAddr,
}

/// A subnet to judge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedSubnet {
    /// Which one.
    pub prefix: IpNet,
    /// Named by the configuration, and not only found on this host.
    pub configured: bool,
    /// How many polling targets must answer.
    pub require: Require,
}

/// All that is to be polled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The subnets to judge, with monitoring on, in the order of the configuration.
    pub subnets: Vec<PlannedSubnet>,
    /// Their flows, sorted.
    pub flows: Vec<FlowKey>,
    /// What the configuration asks for and this host can't do now.
    pub warnings: Vec<String>,
}

/// Draws up the plan.
pub fn plan(settings: &Subnets, host: &Host) -> Plan {
    let mut plan = Plan::default();
    for subnet in settings.subnets.iter().filter(|subnet| subnet.monitor) {
        plan_configured(subnet, host, &mut plan);
    }
    if settings.watch_gateways {
        for interface in host.interfaces.iter().filter(|interface| !interface.loopback) {
            plan_gateways(settings, interface, host, &mut plan);
        }
    }
    plan.flows.sort();
    plan.flows.dedup();
    plan
}

fn plan_configured(subnet: &Subnet, host: &Host, plan: &mut Plan) {
    let prefix = subnet.prefix;
    // SUBN-1: at least one polling target makes it target polling.
    let target_polling = !subnet.polling_targets.is_empty();
    let polled = if target_polling { &subnet.polling_targets } else { &subnet.peers };
    plan.subnets.push(PlannedSubnet { prefix, configured: true, require: subnet.require });
    let mut carried = false;
    for (interface, net) in local_nets(host) {
        let local = net.addr();
        // A virtual address on loopback (LVS, anycast) is on no cable: nobody answers it there.
        if !prefix.contains(&local) || (interface.loopback && net.trunc() != prefix) {
            continue;
        }
        carried = true;
        for Polled { address, zone } in polled {
            if zone.as_ref().is_some_and(|zone| *zone != interface.name) {
                continue;
            }
            // SUBN-1, SUBN-11: what is an address of this host would always answer.
            if !is_own(host, *address) {
                plan.flows.push(FlowKey {
                    subnet: prefix,
                    interface: interface.name.clone(),
                    index: interface.index,
                    local,
                    polled: *address,
                });
            }
        }
    }
    if !carried {
        plan.warnings.push(format!(
            "subnet {prefix}: no interface of this host has an address on it now, so nothing is polled"
        ));
    }
    for Polled { address, .. } in subnet.polling_targets.iter() {
        if is_own(host, *address) {
            plan.warnings.push(format!(
                "subnet {prefix}: the polling target {address} is an address of this host, which \
                 would always answer; it is not polled"
            ));
        }
    }
    if !target_polling {
        let others = polled.iter().filter(|peer| !is_own(host, peer.address)).count();
        match others {
            0 => plan.warnings.push(format!(
                "subnet {prefix}: every peer is an address of this host, so nobody is polled"
            )),
            1 => plan.warnings.push(format!(
                "subnet {prefix}: there is one peer to poll, so its reboot will look like a \
                 failure here; use target polling"
            )),
            _ => {}
        }
    }
}

/// Every subnet of the interface that the configuration does not name and that has a gateway.
fn plan_gateways(settings: &Subnets, interface: &HostInterface, host: &Host, plan: &mut Plan) {
    for address in &interface.addresses {
        let (prefix, local) = (address.trunc(), address.addr());
        if is_link_local(local)
            || settings.subnets.iter().any(|subnet| subnet.prefix.contains(&local))
        {
            continue;
        }
        let gateways = interface
            .gateways
            .iter()
            .filter(|&&gateway| is_on_subnet(gateway, prefix) && !is_own(host, gateway));
        let before = plan.flows.len();
        plan.flows.extend(gateways.map(|&polled| FlowKey {
            subnet: prefix,
            interface: interface.name.clone(),
            index: interface.index,
            local,
            polled,
        }));
        let known = plan.subnets.iter().any(|subnet| subnet.prefix == prefix);
        if plan.flows.len() > before && !known {
            let require = Require::Any;
            plan.subnets.push(PlannedSubnet { prefix, configured: false, require });
        }
    }
}

fn local_nets(host: &Host) -> impl Iterator<Item = (&HostInterface, &IpNet)> {
    host.interfaces
        .iter()
        .flat_map(|interface| interface.addresses.iter().map(move |address| (interface, address)))
}

/// Whether a gateway of an interface is on a subnet of that interface. One with a link-local address
/// (RFC 4861) is on every IPv6 subnet of its link.
pub(crate) fn is_on_subnet(gateway: IpAddr, prefix: IpNet) -> bool {
    let on_the_link = gateway.is_ipv6() && is_link_local(gateway);
    prefix.contains(&gateway) || (on_the_link && prefix.addr().is_ipv6())
}

/// Whether this host answers for an address itself.
pub(crate) fn is_own(host: &Host, address: IpAddr) -> bool {
    // A link-local address is another host's on another link, but this host's own is never a
    // sensible target either.
    local_nets(host).any(|(_, own)| own.addr() == address)
}

/// Whether an address means something on its own link alone (RFC 3927, RFC 4291).
pub fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

/// Why an address of a subnet is not that of one node, and so nothing to poll (SUBN-11); nothing if it
/// may be one's.
pub fn of_no_node(address: IpAddr, prefix: IpNet) -> Option<&'static str> {
    match (prefix, address) {
        // RFC 3021: a /31 has two hosts and nothing else.
        (IpNet::V4(net), IpAddr::V4(address)) if net.prefix_len() < 31 => {
            of_no_ipv4_node(address, net.network(), net.broadcast())
        }
        // RFC 6164: a /127 has two routers and no anycast address.
        (IpNet::V6(net), IpAddr::V6(address)) if net.prefix_len() < 127 => {
            of_no_ipv6_node(address, net.network())
        }
        _ => None,
    }
}

fn of_no_ipv4_node(
    address: Ipv4Addr,
    network: Ipv4Addr,
    broadcast: Ipv4Addr,
) -> Option<&'static str> {
    match () {
        () if address == network => Some("this is the address of the subnet itself, and no node's"),
        () if address == broadcast => Some("this is the broadcast address of the subnet"),
        () => None,
    }
}

fn of_no_ipv6_node(address: Ipv6Addr, network: Ipv6Addr) -> Option<&'static str> {
    let anycast = "this is the subnet-router anycast address (RFC 4291, 2.6.1): any router of the \
                   subnet could answer";
    (address == network).then_some(anycast)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(interfaces: &[(&str, &[&str], &[&str])]) -> Host {
        let interfaces = interfaces
            .iter()
            .zip(1..)
            .map(|((name, addresses, gateways), index)| HostInterface {
                index,
                name: (*name).to_owned(),
                up: true,
                running: true,
                loopback: *name == "lo",
                addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
                gateways: gateways.iter().map(|gateway| gateway.parse().unwrap()).collect(),
            })
            .collect();
        Host { interfaces }
    }

    fn subnet(prefix: &str, targets: &[&str], peers: &[&str]) -> Subnet {
        let polled = |list: &[&str]| {
            list.iter()
                .map(|text| {
                    let (address, zone) = text.split_once('%').unwrap_or((text, ""));
                    let zone = (!zone.is_empty()).then(|| zone.to_owned());
                    Polled { address: address.parse().unwrap(), zone }
                })
                .collect()
        };
        Subnet {
            prefix: prefix.parse().unwrap(),
            monitor: true,
            polling_targets: polled(targets),
            peers: polled(peers),
            require: Require::Any,
            standby: None,
        }
    }

    /// The flows as `interface local>polled`, and the number of warnings.
    fn drawn(subnets: &[Subnet], host: &Host) -> (Vec<String>, usize) {
        let settings =
            Subnets { watch_gateways: true, subnets: subnets.to_vec(), ..Subnets::default() };
        let plan = plan(&settings, host);
        let flows = plan.flows.iter();
        (
            flows
                .map(|flow| format!("{} {}>{}", flow.interface, flow.local, flow.polled))
                .collect(),
            plan.warnings.len(),
        )
    }

    #[test]
    fn each_local_address_polls_each_polling_target_subn_1() {
        let host = host(&[
            ("eth0", &["10.0.0.1/24", "10.0.0.2/24"], &[]),
            ("eth1", &["10.0.0.3/24", "10.9.0.1/24"], &[]),
        ]);
        let flows =
            drawn(&[subnet("10.0.0.0/24", &["10.0.0.8", "10.7.7.7"], &["10.0.0.9"])], &host);
        assert_eq!(flows.0.len(), 6);
        assert_eq!(flows.0[0], "eth0 10.0.0.1>10.0.0.8");
        assert!(flows.0.contains(&"eth1 10.0.0.3>10.7.7.7".to_owned()), "SUBN-13: cross-subnet");
    }

    #[test]
    fn loopback_is_polled_from_only_for_a_subnet_of_its_own() {
        let host = host(&[
            ("lo", &["127.0.0.1/8", "10.0.0.9/32"], &[]),
            ("eth0", &["10.0.0.2/24", "10.0.0.8/32"], &[]),
        ]);
        let subnets =
            [subnet("10.0.0.0/24", &["10.0.0.1"], &[]), subnet("127.0.0.0/8", &["127.0.0.2"], &[])];
        let (flows, warnings) = drawn(&subnets, &host);
        assert_eq!(
            flows,
            ["eth0 10.0.0.2>10.0.0.1", "eth0 10.0.0.8>10.0.0.1", "lo 127.0.0.1>127.0.0.2"]
        );
        assert_eq!(warnings, 0);
    }

    #[test]
    fn peer_polling_never_polls_an_address_of_this_host_subn_1() {
        let host = host(&[("eth0", &["10.0.0.1/24"], &[]), ("eth1", &["10.0.0.2/24"], &[])]);
        let peers = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"];
        let (flows, warnings) = drawn(&[subnet("10.0.0.0/24", &[], &peers)], &host);
        assert_eq!(flows.len(), 4);
        assert!(flows.iter().all(|flow| flow.ends_with(".3") || flow.ends_with(".4")));
        assert_eq!(warnings, 0);
        // SUBN-11: one peer is a warning.
        assert_eq!(drawn(&[subnet("10.0.0.0/24", &[], &peers[..3])], &host).1, 1);
    }

    #[test]
    fn nothing_is_sent_with_monitoring_off_subn_1() {
        let host = host(&[("eth0", &["10.0.0.1/24"], &["10.0.0.8"])]);
        let off = Subnet { monitor: false, ..subnet("10.0.0.0/24", &["10.0.0.8"], &[]) };
        assert_eq!(drawn(&[off], &host), (vec![], 0));
    }

    #[test]
    fn own_polling_targets_and_absent_subnets_are_warned_of_subn_11() {
        let host = host(&[("eth0", &["10.0.0.1/24"], &[])]);
        assert_eq!(drawn(&[subnet("10.0.0.0/24", &["10.0.0.1"], &[])], &host), (vec![], 1));
        assert_eq!(drawn(&[subnet("10.5.0.0/24", &["10.5.0.1"], &[])], &host), (vec![], 1));
    }

    #[test]
    fn a_link_local_polling_target_is_polled_in_its_zone_only() {
        let host = host(&[("eth0", &["fe80::1/64"], &[]), ("eth1", &["fe80::2/64"], &[])]);
        let flows = drawn(&[subnet("fe80::/64", &["fe80::9%eth1"], &[])], &host);
        assert_eq!(flows.0, ["eth1 fe80::2>fe80::9"]);
    }

    #[test]
    fn without_configuration_the_gateways_are_watched() {
        let host = host(&[
            ("lo", &["127.0.0.1/8"], &["127.0.0.2"]),
            ("eth0", &["10.0.0.1/24", "2001:db8::5/64", "fe80::5/64"], &["10.0.0.254", "fe80::1"]),
            ("eth1", &["10.1.0.1/24"], &["10.9.9.9"]),
        ]);
        let flows = drawn(&[], &host);
        assert_eq!(flows.0, ["eth0 10.0.0.1>10.0.0.254", "eth0 2001:db8::5>fe80::1"]);
    }
}
