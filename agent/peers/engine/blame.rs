//! Whether this host is to blame for answers that did not come (PEER-12): drops at our sockets,
//! neighbour tables that overflowed, links that were down.
//!
//! Nothing here is told by the kernel in time: counters have to be looked at, just before tries
//! without an answer are judged.

use std::os::fd::AsFd;

use evenkeel_core::peers::Disturbance;

use super::{
    netlink::{End, Netlink, News},
    sockets::EchoSocket,
};
use crate::ear::{
    drops::{HostCounts, Protocol},
    socket::kernel_drops,
};

/// What can be looked at.
#[derive(Debug)]
pub(super) struct Blame {
    tables: Option<Tables>,
    links: Option<Links>,
    /// The ICMPv6 messages with a wrong checksum that came to this host: each raw ICMPv6 socket that
    /// they are offered to counts them as drops, which has nothing to do with its receive buffer.
    checksums: HostCounts,
}

impl Blame {
    /// Begins to look: what happened before is nobody's fault. What the kernel does not let us see
    /// is left out, and told in `problems`.
    pub(super) fn new(problems: &mut Vec<String>) -> Blame {
        let tables = Tables::new().map_err(|error| {
            problems.push(format!(
                "cannot see whether the neighbour (ARP, ND) tables overflow: {error}; if peers on \
                 a directly connected network look down, look at `dmesg` yourself"
            ));
        });
        let links = Links::new().map_err(|error| {
            problems.push(format!("cannot see whether links are down: {error}"));
        });
        let checksums = HostCounts::new(Protocol::Icmp6);
        Blame { tables: tables.ok(), links: links.ok(), checksums }
    }

    /// Tells what has happened since the last look, and what still holds. Says how many messages
    /// had a wrong checksum that the kernel counts as drops.
    pub(super) fn look(
        &mut self,
        sockets: &mut [EchoSocket],
        tell: &mut impl FnMut(Disturbance),
    ) -> u64 {
        // Before the drops: what comes in between is at worst taken for a drop. Each socket is
        // offered each such message, but for those that are bound to another address.
        let mut wrong = 0;
        let checksums = self.checksums.more_broken();
        for socket in sockets {
            let v4 = socket.stats.v4;
            let dropped = drops(socket);
            let bad = if v4 { 0 } else { dropped.min(checksums) };
            wrong = bad.max(wrong);
            if dropped > bad {
                socket.stats.kernel_drops += dropped - bad;
                tell(Disturbance::ReceiveDropped { v4 });
            }
        }
        if let Some(tables) = &mut self.tables {
            tables.look(tell);
        }
        if let Some(links) = &mut self.links {
            links.look(tell);
        }
        wrong
    }
}

/// How many drops a socket has counted since this was last asked.
fn drops(socket: &mut EchoSocket) -> u64 {
    let Some(drops) = kernel_drops(socket.as_fd()) else { return 0 };
    let more = drops.wrapping_sub(socket.drops);
    socket.drops = drops;
    u64::from(more)
}

/// The neighbour tables.
#[derive(Debug)]
struct Tables {
    netlink: Netlink,
    /// How often each overflowed until we last looked: ND, ARP.
    fulls: [Option<u64>; 2],
}

impl Tables {
    fn new() -> std::io::Result<Tables> {
        let mut tables = Tables { netlink: Netlink::open(0)?, fulls: [None; 2] };
        tables.netlink.ask_tables()?;
        let Tables { netlink, fulls } = &mut tables;
        netlink.read(|news| {
            if let News::TableFulls { v4, fulls: now } = news {
                fulls[usize::from(v4)] = Some(now);
            }
        })?;
        Ok(tables)
    }

    /// A look that fails is made good by the next: the counters only grow.
    fn look(&mut self, tell: &mut impl FnMut(Disturbance)) {
        if self.netlink.ask_tables().is_err() {
            return;
        }
        let fulls = &mut self.fulls;
        let _ = self.netlink.read(|news| {
            if let News::TableFulls { v4, fulls: now } = news {
                let before = fulls[usize::from(v4)].replace(now);
                if before.is_some_and(|before| before != now) {
                    tell(Disturbance::NeighbourTableFull { v4 });
                }
            }
        });
    }
}

/// The links of this host.
#[derive(Debug)]
struct Links {
    netlink: Netlink,
    known: Vec<Link>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Link {
    index: u32,
    up: bool,
    /// It was not up at some moment since the last look.
    fell: bool,
    /// It is no more, and is forgotten with the next look.
    gone: bool,
}

impl Links {
    fn new() -> std::io::Result<Links> {
        let mut links = Links { netlink: Netlink::open(libc::RTMGRP_LINK)?, known: Vec::new() };
        links.list()?;
        Ok(links)
    }

    /// Takes in all links as they are now.
    fn list(&mut self) -> std::io::Result<()> {
        self.netlink.ask_links()?;
        // News that come in between are as good as the list.
        while self.netlink.read(|news| take(&mut self.known, news))? != End::Done {}
        Ok(())
    }

    fn look(&mut self, tell: &mut impl FnMut(Disturbance)) {
        let known = &mut self.known;
        if self.netlink.read(|news| take(known, news)).is_err() {
            // News were lost: whichever link they were of.
            self.known.iter_mut().for_each(|link| link.fell = true);
            let _ = self.list();
        }
        tell_fallen(&mut self.known, tell);
    }
}

/// Tells which links are not up, or were not since this was last asked.
fn tell_fallen(known: &mut Vec<Link>, tell: &mut impl FnMut(Disturbance)) {
    for link in known.iter_mut() {
        if !link.up || link.fell {
            tell(Disturbance::LinkDown { interface: link.index });
        }
        link.fell = false;
    }
    known.retain(|link| !link.gone);
}

/// Takes in what a link does. One that was never up carried nothing, and is not known.
fn take(known: &mut Vec<Link>, news: News) {
    let (index, up, gone) = match news {
        News::Link { index, up } => (index, up, false),
        News::Gone { index } => (index, false, true),
        News::TableFulls { .. } => return,
    };
    match known.iter_mut().find(|link| link.index == index) {
        Some(link) => *link = Link { index, up, fell: link.fell || !up, gone },
        None if up => known.push(Link { index, up, fell: false, gone }),
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `+2` is link 2 with a carrier, `-2` without, `x2` is its end, `?` is a look; then follow the
    /// links that the look tells of.
    #[test]
    fn peer_12_a_link_that_fell_is_told_until_it_is_up() {
        for (line, told) in [
            ("+2 ?", ["-"].as_slice()),
            ("+2 -2 ? ? +2 ? ?", &["2", "2", "-", "-"]),
            ("+2 ? -2 +2 ? ?", &["-", "2", "-"]),
            ("-2 ? +2 ?", &["-", "-"]),
            ("+2 +3 x2 ? ? -3 ?", &["2", "-", "3"]),
            ("+2 x2 +2 ? ?", &["2", "-"]),
        ] {
            let mut known = Vec::new();
            let mut got = Vec::new();
            for step in line.split(' ') {
                let index = step[1..].parse().unwrap_or(0);
                match &step[..1] {
                    "+" => take(&mut known, News::Link { index, up: true }),
                    "-" => take(&mut known, News::Link { index, up: false }),
                    "x" => take(&mut known, News::Gone { index }),
                    _ => {
                        let mut fallen = String::new();
                        tell_fallen(&mut known, &mut |disturbance| match disturbance {
                            Disturbance::LinkDown { interface } => fallen += &interface.to_string(),
                            other => panic!("{other:?}"),
                        });
                        got.push(if fallen.is_empty() { "-".to_owned() } else { fallen });
                    }
                }
            }
            assert_eq!(got, told, "{line}");
        }
    }
}
