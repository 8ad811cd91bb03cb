//! The checks of the configuration that need to know this host (SUBN-11): which addresses are its
//! own, and which subnets it is on.
//!
//! They are apart from reading the file, as the host changes while the file doesn't: the daemon
//! makes them at start and at reload, and `evenkeel check` makes them for the host that it runs on.

use std::net::{IpAddr, SocketAddr};

use evenkeel_core::{
    input::Host,
    settings::{Polled, Subnet},
};

use super::{
    Config, Pair, PairOrigin, Problem, Span, SubnetOrigin, Warning,
    sections::{hears, one_peer},
    units::Wrong,
};

/// Errors and warnings, each in the order of the file.
pub fn check_against_host(config: &Config, host: &Host) -> (Vec<Problem>, Vec<Warning>) {
    let mut check = Check { config, host, errors: Vec::new(), warnings: Vec::new() };
    for (subnet, origin) in config.core.subnets.subnets.iter().zip(&config.places.subnets) {
        if subnet.monitor {
            check.subnet(subnet, origin);
        }
    }
    for (target, span) in config.notifications.targets.iter().zip(&config.places.targets) {
        let ours = config.traps.listen.iter().any(|listen| hears(listen, target.address));
        if ours && check.is_own(target.address.ip()) {
            let subject = format!("notifications.target.address = \"{}\"", target.address);
            let wrong = Wrong::new("this agent itself receives traps there")
                .help("notifications would come back as traps: name the NMS's address");
            check.error(subject, *span, wrong);
        }
    }
    for (address, span) in config.places.groups.iter().flat_map(|group| &group.sources) {
        if !check.is_own(*address) {
            let subject = format!("peers.group.source = \"{address}\"");
            let wrong = Wrong::new("this host does not have this address now").help(
                "requests can leave from it once it has; leave source out for the kernel to choose",
            );
            check.warning(subject, *span, wrong);
        }
    }
    if let Some(pair) = &config.pair {
        check.pair(pair, &config.places.pair);
    }
    check.errors.sort_by_key(Problem::place);
    check.warnings.sort_by_key(Problem::place);
    (check.errors, check.warnings)
}

struct Check<'c> {
    config: &'c Config,
    host: &'c Host,
    errors: Vec<Problem>,
    warnings: Vec<Warning>,
}

impl Check<'_> {
    fn pair(&mut self, pair: &Pair, origin: &PairOrigin) {
        if let Some(span) = origin.listen {
            self.local("pair.listen", pair.listen, span);
        }
        self.mate("pair.mate", pair.listen, pair.mate, origin.mate);
        for (path, (local, mate)) in pair.paths.iter().zip(&origin.paths) {
            self.local("pair.path.local", path.local, *local);
            self.mate("pair.path.mate", path.local, path.mate, *mate);
        }
        for (witness, span) in pair.witnesses.iter().flatten().zip(&origin.witnesses) {
            if self.is_own(*witness) {
                let subject = format!("pair.witnesses = \"{witness}\"");
                let wrong = Wrong::new("this is an address of this host: it would always answer")
                    .help("name a gateway, or another host that is always there");
                self.error(subject, *span, wrong);
            }
        }
    }

    /// An address of this agent's own in the pair.
    fn local(&mut self, key: &str, local: SocketAddr, span: Span) {
        if !local.ip().is_unspecified() && !self.is_own(local.ip()) {
            let wrong = Wrong::new("this host does not have this address now")
                .help("the mate is not reached by it before it has");
            self.warning(format!("{key} = \"{local}\""), span, wrong);
        }
    }

    /// An address of the mate's.
    fn mate(&mut self, key: &str, own: SocketAddr, mate: SocketAddr, span: Span) {
        if !self.is_own(mate.ip()) {
            return;
        }
        let subject = format!("{key} = \"{mate}\"");
        if hears(&own, mate) {
            let wrong =
                Wrong::new("this is this agent itself").help("name the address of the other agent");
            self.error(subject, span, wrong);
        } else {
            let wrong = Wrong::new("this is an address of this host")
                .help("a mate on the same host is lost with it");
            self.warning(subject, span, wrong);
        }
    }

    fn subnet(&mut self, subnet: &Subnet, origin: &SubnetOrigin) {
        let carried = self.host.interfaces.iter().any(|interface| {
            interface.addresses.iter().any(|address| address.trunc() == subnet.prefix)
        });
        if !carried {
            let subject = format!("subnets.subnet.prefix = \"{}\"", subnet.prefix);
            let wrong = Wrong::new("no interface of this host has an address on this subnet now")
                .help("it is watched from the moment that one has");
            self.warning(subject, origin.prefix, wrong);
        }
        let polled = subnet.polling_targets.iter().zip(&origin.polling_targets);
        for (target, span) in polled {
            if self.is_own_polled(target) {
                let subject = format!("subnets.subnet.polling_targets = \"{target}\"");
                let wrong = Wrong::new("this is an address of this host: it would always answer")
                    .help("poll another node, such as the gateway");
                self.error(subject, *span, wrong);
            }
            self.zone(target, *span);
        }
        for (peer, span) in subnet.peers.iter().zip(&origin.peers) {
            self.zone(peer, *span);
        }
        let pair = subnet.standby.iter().flat_map(|pair| [&pair.primary, &pair.standby]);
        for (name, span) in pair.zip(&origin.interfaces) {
            self.interface(name, name.clone(), *span);
        }
        if subnet.polling_targets.is_empty() {
            self.peers(subnet, origin);
        }
    }

    /// Our own addresses in a list of peers are no mistake, as one file can serve all nodes of a
    /// subnet; they are never polled (SUBN-1).
    fn peers(&mut self, subnet: &Subnet, origin: &SubnetOrigin) {
        let of_others: Vec<_> = subnet
            .peers
            .iter()
            .zip(&origin.peers)
            .filter(|(peer, _)| !self.is_own_polled(peer))
            .map(|(peer, span)| (peer.clone(), *span))
            .collect();
        match (&of_others[..], origin.peers.first()) {
            ([], Some(first)) => {
                let wrong = Wrong::new("all peers are this host itself: there is nobody to poll")
                    .help("name addresses of other nodes, or polling_targets = [\"...\"]");
                self.error("subnets.subnet.peers".to_owned(), *first, wrong);
            }
            // A list of one was warned of when the file was read.
            ([(peer, span)], _) if subnet.peers.len() > 1 => {
                let subject = format!("subnets.subnet.peers = \"{peer}\"");
                self.warning(subject, *span, one_peer(peer));
            }
            _ => {}
        }
    }

    /// A zone is the name of an interface, which may come later.
    fn zone(&mut self, polled: &Polled, span: Span) {
        if let Some(zone) = &polled.zone {
            self.interface(zone, format!("\"{polled}\""), span);
        }
    }

    fn interface(&mut self, name: &str, subject: String, span: Span) {
        if !self.host.interfaces.iter().any(|interface| interface.name == name) {
            let names: Vec<&str> =
                self.host.interfaces.iter().map(|interface| &*interface.name).collect();
            let wrong = Wrong::new(format!("this host has no interface {name} now"))
                .help(format!("its interfaces: {}", names.join(", ")));
            self.warning(subject, span, wrong);
        }
    }

    /// Whether this host answers for the address. A link-local one is ours only on its own
    /// interface (RFC 4007, section 6).
    fn is_own_polled(&self, polled: &Polled) -> bool {
        match &polled.zone {
            Some(zone) => {
                self.host.interfaces.iter().filter(|interface| interface.name == *zone).any(
                    |interface| interface.addresses.iter().any(|net| net.addr() == polled.address),
                )
            }
            None => self.is_own(polled.address),
        }
    }

    fn is_own(&self, address: IpAddr) -> bool {
        let mut addresses = self.host.interfaces.iter().flat_map(|interface| &interface.addresses);
        addresses.any(|net| net.addr() == address)
    }

    fn error(&mut self, subject: String, span: Span, wrong: Wrong) {
        let problem = self.problem(subject, span, wrong);
        self.errors.push(problem);
    }

    fn warning(&mut self, subject: String, span: Span, wrong: Wrong) {
        let problem = self.problem(subject, span, wrong).into_warning();
        self.warnings.push(problem);
    }

    fn problem(&self, subject: String, span: Span, wrong: Wrong) -> Problem {
        let problem = Problem::error(&self.config.places.source, Some(span), wrong.message);
        let problem = problem.about(subject);
        match wrong.help {
            Some(help) => problem.with_help(help),
            None => problem,
        }
    }
}
