//! The routers that this host knows of: gateways of its routes, in whichever routing table, and
//! neighbours that say of themselves that they route.
//!
//! A full Internet routing table has a million routes by a handful of gateways, so routes are
//! counted as they come and not kept.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use evenkeel_core::discovery::Known;
use futures_util::{Stream, StreamExt, stream};
use ipnet::IpNet;
use rtnetlink::{
    Handle, RouteMessageBuilder,
    packet_route::{
        AddressFamily,
        neighbour::{
            NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
        },
        route::{
            RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteType,
            RouteVia,
        },
    },
};

use super::{HostError, refused};

/// Routers by the index of their interface and their address.
pub type Gateways = BTreeMap<(u32, IpAddr), Known>;

/// The gateways that routes name, of every routing table.
pub async fn gateways(handle: &Handle) -> Result<Gateways, HostError> {
    let mut found = Gateways::new();
    let mut routes = std::pin::pin!(routes(handle));
    while let Some(route) = routes.next().await {
        let route = route.map_err(|source| refused("routes", source))?;
        let Some(to) = destination(&route) else { continue };
        let table = table(&route);
        for by in next_hops(&route) {
            found.entry(by).or_default().add_route(table, to);
        }
    }
    Ok(found)
}

/// Of these, the addresses that the main routing table names on an interface, in their order.
pub fn of_main_table(gateways: &Gateways, interface: u32) -> impl Iterator<Item = IpAddr> {
    const MAIN: u32 = RouteHeader::RT_TABLE_MAIN as u32;
    gateways
        .iter()
        .filter(move |((index, _), known)| *index == interface && known.tables.contains_key(&MAIN))
        .map(|((_, address), _)| *address)
}

/// Adds the neighbours that are routers. Only IPv6 neighbours say so (RFC 4861, 7.2.5).
pub async fn add_neighbours(handle: &Handle, found: &mut Gateways) -> Result<(), HostError> {
    let request = handle.neighbours().get().set_address_family(AddressFamily::Inet6);
    let mut neighbours = std::pin::pin!(request.execute());
    while let Some(neighbour) = neighbours.next().await {
        let neighbour = neighbour.map_err(|source| refused("neighbours", source))?;
        if let Some(router) = router(&neighbour) {
            found.entry(router).or_default().neighbour = true;
        }
    }
    Ok(())
}

fn routes(handle: &Handle) -> impl Stream<Item = Result<RouteMessage, rtnetlink::Error>> {
    let v4 = handle.route().get(RouteMessageBuilder::<Ipv4Addr>::new().build());
    let v6 = handle.route().get(RouteMessageBuilder::<Ipv6Addr>::new().build());
    // One after the other: while a socket has a dump running, another is refused.
    stream::iter([v4, v6]).flat_map(|request| request.execute())
}

/// A table's number does not fit into the header if it is above 255.
fn table(route: &RouteMessage) -> u32 {
    let table = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Table(table) => Some(*table),
        _ => None,
    });
    table.unwrap_or(route.header.table.into())
}

/// Where a route leads. A default route has no address.
fn destination(route: &RouteMessage) -> Option<IpNet> {
    let address = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(v4)) => Some(IpAddr::V4(*v4)),
        RouteAttribute::Destination(RouteAddress::Inet6(v6)) => Some(IpAddr::V6(*v6)),
        _ => None,
    });
    let anywhere = match route.header.address_family {
        AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return None,
    };
    IpNet::new(address.unwrap_or(anywhere), route.header.destination_prefix_length).ok()
}

/// The interfaces and gateways that a route leads by.
fn next_hops(route: &RouteMessage) -> Vec<(u32, IpAddr)> {
    // A cloned route is what the kernel remembers of one destination, not configuration.
    if route.header.kind != RouteType::Unicast || route.header.flags.contains(RouteFlags::Cloned) {
        return Vec::new();
    }

    let mut found = Vec::new();
    let interface = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    });
    if let (Some(index), Some(gateway)) = (interface, gateway(&route.attributes)) {
        found.push((index, gateway));
    }
    for attribute in &route.attributes {
        if let RouteAttribute::MultiPath(next_hops) = attribute {
            for next_hop in next_hops {
                if let Some(gateway) = gateway(&next_hop.attributes) {
                    found.push((next_hop.interface_index, gateway));
                }
            }
        }
    }
    found
}

/// The gateway among the attributes of a route or next hop; `Via` is one of another IP version
/// than the route's (RFC 5549).
fn gateway(attributes: &[RouteAttribute]) -> Option<IpAddr> {
    attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(RouteAddress::Inet(v4))
        | RouteAttribute::Via(RouteVia::Inet(v4)) => Some(IpAddr::V4(*v4)),
        RouteAttribute::Gateway(RouteAddress::Inet6(v6))
        | RouteAttribute::Via(RouteVia::Inet6(v6)) => Some(IpAddr::V6(*v6)),
        _ => None,
    })
}

/// The interface and address of a neighbour that is a router, unless the kernel looked for it in
/// vain.
fn router(neighbour: &NeighbourMessage) -> Option<(u32, IpAddr)> {
    let header = &neighbour.header;
    if !header.flags.contains(NeighbourFlags::Router) || header.state == NeighbourState::Failed {
        return None;
    }
    neighbour.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => {
            Some((header.ifindex, IpAddr::V6(*v6)))
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use rtnetlink::RouteNextHopBuilder;

    use super::*;

    #[test]
    fn gateways_are_found_in_every_form_that_a_route_has() {
        let v4 = || RouteMessageBuilder::<Ipv4Addr>::new();
        let (a, b) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2));
        let plain = v4().output_interface(3).gateway(a).build();
        assert_eq!(next_hops(&plain), [(3, a.into())]);

        let hops = [(3, a), (4, b)].map(|(index, gateway)| {
            RouteNextHopBuilder::new_ipv4()
                .interface(index)
                .via(gateway.into())
                .expect("IPv4 by IPv4")
                .build()
        });
        let multipath = v4().multipath(hops.to_vec()).build();
        assert_eq!(next_hops(&multipath), [(3, a.into()), (4, b.into())]);

        let router = "fe80::1".parse::<Ipv6Addr>().unwrap();
        let v6 = RouteMessageBuilder::<Ipv6Addr>::new().output_interface(5).gateway(router).build();
        assert_eq!(next_hops(&v6), [(5, router.into())]);

        // RFC 5549: IPv4 by an IPv6 gateway.
        let mut mixed = v4().output_interface(5).build();
        mixed.attributes.push(RouteAttribute::Via(RouteVia::Inet6(router)));
        assert_eq!(next_hops(&mixed), [(5, router.into())]);
    }

    #[test]
    fn routes_that_lead_nowhere_name_no_gateway() {
        let gateway = Ipv4Addr::new(192, 0, 2, 1);
        let route = || RouteMessageBuilder::<Ipv4Addr>::new().output_interface(3).gateway(gateway);
        assert!(next_hops(&route().kind(RouteType::BlackHole).build()).is_empty());
        let mut cloned = route().build();
        cloned.header.flags = RouteFlags::Cloned;
        assert!(next_hops(&cloned).is_empty());
        let direct = RouteMessageBuilder::<Ipv4Addr>::new().output_interface(3).build();
        assert!(next_hops(&direct).is_empty());
    }

    #[test]
    fn a_route_has_a_table_and_a_destination() {
        let v4 = || RouteMessageBuilder::<Ipv4Addr>::new();
        for number in [100, 254, 255, 256, 100_000] {
            assert_eq!(table(&v4().table_id(number).build()), number);
        }
        let inside = v4().destination_prefix(Ipv4Addr::new(10, 9, 0, 0), 16).build();
        assert_eq!(destination(&inside), "10.9.0.0/16".parse().ok());
        assert_eq!(destination(&v4().build()), "0.0.0.0/0".parse().ok());
        let v6 = RouteMessageBuilder::<Ipv6Addr>::new().build();
        assert_eq!(destination(&v6), "::/0".parse().ok());
    }

    #[test]
    fn the_view_of_the_host_has_the_gateways_of_the_main_table_on_an_interface() {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let mut gateways = Gateways::new();
        for (interface, gateway, table) in [
            (3, "fe80::1", 254),
            (3, "192.0.2.1", 254),
            (3, "192.0.2.1", 100),
            (3, "192.0.2.3", 100),
            (1, "192.0.2.4", 254),
        ] {
            let known = gateways.entry((interface, address(gateway))).or_default();
            known.add_route(table, "0.0.0.0/0".parse().unwrap());
        }
        let of_main: Vec<IpAddr> = of_main_table(&gateways, 3).collect();
        assert_eq!(of_main, [address("192.0.2.1"), address("fe80::1")]);
    }

    #[test]
    fn a_neighbour_is_a_router_if_it_says_so_and_is_there() {
        let address = "fe80::1".parse::<Ipv6Addr>().unwrap();
        for (flags, state, expected) in [
            (NeighbourFlags::Router, NeighbourState::Reachable, true),
            (NeighbourFlags::Router, NeighbourState::Stale, true),
            (NeighbourFlags::Router, NeighbourState::Failed, false),
            (NeighbourFlags::empty(), NeighbourState::Reachable, false),
        ] {
            let mut neighbour = NeighbourMessage::default();
            neighbour.header.ifindex = 5;
            neighbour.header.flags = flags;
            neighbour.header.state = state;
            neighbour.attributes =
                vec![NeighbourAttribute::Destination(NeighbourAddress::Inet6(address))];
            let found = expected.then_some((5, address.into()));
            assert_eq!(router(&neighbour), found, "{flags:?} {state:?}");
        }
    }
}
