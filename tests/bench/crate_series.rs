//! What a page with a series for each peer takes when the crate `prometheus` makes it: set beside a
//! scrape of the agent, which writes these lines itself.

use std::{net::Ipv4Addr, time::Duration};

use prometheus::{GaugeVec, Opts, Registry, TextEncoder};

use super::usage;

/// The CPU time of setting and encoding one gauge with three labels for each of so many peers, and the
/// octets of the page.
pub fn page(peers: u32) -> (Duration, usize) {
    let before = usage::Cpu::of_this_thread();
    let opts = Opts::new("evenkeel_peer_up", "Whether a peer is up.");
    let family = GaugeVec::new(opts, &["group", "site", "peer"]).expect("names that may be");
    let registry = Registry::new();
    registry.register(Box::new(family.clone())).expect("the only one");
    for peer in 0..peers {
        let address = Ipv4Addr::from_bits(0x0a00_0000 + peer).to_string();
        let site = format!("site-{}", peer / 1280);
        family.with_label_values(&["routers", &site, &address]).set(1.0);
    }
    let page = TextEncoder::new().encode_to_string(&registry.gather()).expect("text");
    (usage::Cpu::of_this_thread() - before, page.len())
}
