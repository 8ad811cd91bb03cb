//! What the pair's thread is told of this host: its gateways, which are witnesses unless others are
//! named, and whether it has a network at all (PAIR-4).

use std::net::IpAddr;

use evenkeel_core::input::Host;
use tokio::sync::watch;

use super::{PairHandle, ToPair};

/// Tells it, now and with each change, until nobody looks at this host any more.
pub async fn follow_host(pair: PairHandle, mut host: watch::Receiver<Host>) {
    loop {
        let told = {
            let host = host.borrow_and_update();
            // Every host has a loopback interface: without one it has not been looked at yet.
            (!host.interfaces.is_empty()).then(|| told(&host))
        };
        told.into_iter().for_each(|told| pair.tell(told));
        if host.changed().await.is_err() {
            return;
        }
    }
}

fn told(host: &Host) -> ToPair {
    let gateways = host.interfaces.iter().flat_map(|interface| interface.gateways.iter().copied());
    let mut gateways: Vec<IpAddr> = gateways.collect();
    gateways.sort_unstable();
    gateways.dedup();
    let network_up = host.interfaces.iter().any(|interface| {
        let has_link = interface.up && interface.running;
        !interface.loopback && has_link && !interface.addresses.is_empty()
    });
    ToPair::Host { gateways, network_up }
}

#[cfg(test)]
mod tests {
    use evenkeel_core::input::HostInterface;

    use super::*;

    #[test]
    fn pair_4_a_host_has_a_network_if_an_interface_beside_loopback_has_a_link_and_an_address() {
        let interface = |name: &str, running, addresses: &[&str]| HostInterface {
            index: 1,
            name: name.to_owned(),
            up: true,
            running,
            loopback: name == "lo",
            addresses: addresses.iter().map(|net| net.parse().unwrap()).collect(),
            gateways: vec!["192.0.2.1".parse().unwrap()],
        };
        let lo = interface("lo", true, &["127.0.0.1/8"]);
        for (eth0, up) in [
            (interface("eth0", true, &["192.0.2.7/24"]), true),
            (interface("eth0", false, &["192.0.2.7/24"]), false),
            (interface("eth0", true, &[]), false),
        ] {
            let host = Host { interfaces: vec![lo.clone(), eth0] };
            let ToPair::Host { gateways, network_up } = told(&host) else { panic!() };
            assert_eq!((gateways.len(), network_up), (1, up));
        }
    }
}
