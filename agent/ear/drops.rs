//! What the kernel dropped at a socket for want of room, told from what it dropped as broken.
//!
//! A socket has one count for both: a datagram with a wrong checksum counts as one for which the
//! receive buffer had no room. Whoever took the two for one could be told by anybody's broken
//! datagrams that this host loses what it should hear (TRAP-6, PEER-12). So the host's own counts are
//! looked at beside it, which tell them apart, but for all sockets together.

use std::{fs::File, os::fd::BorrowedFd, os::unix::fs::FileExt, str};

use super::socket::kernel_drops;

/// Which of the host's counts a socket's drops are among.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// UDP over IPv4.
    Udp4,
    /// UDP over IPv6.
    Udp6,
    /// ICMPv6 on a raw socket.
    Icmp6,
    /// A raw socket whose checksums the kernel leaves to us, as those of ICMP.
    Unchecked,
}

/// What was dropped at a socket since this was last asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Dropped {
    /// For want of room, or for a reason that the kernel does not tell.
    pub lost: u64,
    /// For a wrong checksum.
    pub broken: u64,
}

/// What was known of one socket's drops when they were last looked at.
#[derive(Debug)]
pub(crate) struct Drops {
    /// The socket's count, modulo 2^32.
    seen: u32,
    host: HostCounts,
}

impl Drops {
    /// Begins with a socket of which so many drops are known, as [`kernel_drops`] counts them.
    pub(crate) fn new(protocol: Protocol, seen: u32) -> Drops {
        Drops { seen, host: HostCounts::new(protocol) }
    }

    /// What was dropped since this was last asked. Costs one system call if that is nothing.
    ///
    /// What the counts of the host say of room goes before what they say of checksums, and what none of
    /// them explains counts as lost: broken datagrams hide no loss that was counted as one.
    pub(crate) fn more(&mut self, socket: BorrowedFd<'_>) -> Dropped {
        let Some(drops) = kernel_drops(socket).filter(|drops| *drops != self.seen) else {
            return Dropped::default();
        };
        let dropped = u64::from(drops.wrapping_sub(self.seen));
        self.seen = drops;
        let Counts { no_room, broken } = self.host.more();
        share(dropped, no_room, broken)
    }
}

fn share(dropped: u64, no_room: u64, broken: u64) -> Dropped {
    let broken = (dropped - dropped.min(no_room)).min(broken);
    Dropped { lost: dropped - broken, broken }
}

/// What all sockets of this host dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    no_room: u64,
    broken: u64,
}

/// The host's counts of one protocol.
#[derive(Debug)]
pub(crate) struct HostCounts {
    protocol: Protocol,
    /// Nothing where there are no such counts, or no such protocol.
    file: Option<File>,
    known: Counts,
}

impl HostCounts {
    /// Begins to look: what happened before is nobody's fault.
    pub(crate) fn new(protocol: Protocol) -> HostCounts {
        // Of this thread's network namespace, as our sockets are.
        let path = match protocol {
            Protocol::Udp4 => Some("/proc/thread-self/net/snmp"),
            Protocol::Udp6 | Protocol::Icmp6 => Some("/proc/thread-self/net/snmp6"),
            Protocol::Unchecked => None,
        };
        let file = path.and_then(|path| File::open(path).ok());
        let mut counts = HostCounts { protocol, file, known: Counts::default() };
        counts.more();
        counts
    }

    /// How many more messages with a wrong checksum came to this host since this was last asked.
    pub(crate) fn more_broken(&mut self) -> u64 {
        self.more().broken
    }

    fn more(&mut self) -> Counts {
        let Some(now) = self.read() else { return Counts::default() };
        let Counts { no_room, broken } = std::mem::replace(&mut self.known, now);
        Counts {
            no_room: now.no_room.wrapping_sub(no_room),
            broken: now.broken.wrapping_sub(broken),
        }
    }

    fn read(&self) -> Option<Counts> {
        let mut text = [0; 8192];
        let len = self.file.as_ref()?.read_at(&mut text, 0).ok()?;
        counts(self.protocol, str::from_utf8(&text[..len]).ok()?)
    }
}

/// Reads the counts of a protocol. What is not there counts as none.
fn counts(protocol: Protocol, text: &str) -> Option<Counts> {
    let count = |name: &str| match protocol {
        Protocol::Udp4 => in_columns(text, "Udp:", name),
        Protocol::Udp6 => in_lines(text, "Udp6", name),
        Protocol::Icmp6 => in_lines(text, "Icmp6", name),
        Protocol::Unchecked => None,
    };
    let no_room = count("RcvbufErrors").unwrap_or(0) + count("MemErrors").unwrap_or(0);
    Some(Counts { no_room, broken: count("InCsumErrors")? })
}

/// From `/proc/net/snmp`: a line of names, and below it one of numbers, both begin with the protocol.
fn in_columns(text: &str, protocol: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(protocol));
    let (names, numbers) = (lines.next()?, lines.next()?);
    let column = names.split_whitespace().position(|other| other == name)?;
    numbers.split_whitespace().nth(column)?.parse().ok()
}

/// From `/proc/net/snmp6`: a name and a number in each line.
fn in_lines(text: &str, protocol: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(protocol)?.strip_prefix(name));
    lines.next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SNMP: &str = "\
Ip: Forwarding DefaultTTL
Ip: 1 64
Udp: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors InCsumErrors IgnoredMulti MemErrors
Udp: 92 0 17 86 5 1 10 0 2
UdpLite: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors InCsumErrors IgnoredMulti MemErrors
UdpLite: 0 0 0 0 9 9 9 9 9
";
    const SNMP6: &str = "\
Icmp6InMsgs                     	62
Icmp6InCsumErrors               	4
Udp6InErrors                    	11
Udp6RcvbufErrors                	6
Udp6InCsumErrors                	3
Udp6MemErrors                   	1
UdpLite6InCsumErrors            	9
";

    #[test]
    fn the_counts_of_a_host_are_read_by_name() {
        for (protocol, text, read) in [
            (Protocol::Udp4, SNMP, Some((7, 10))),
            (Protocol::Udp6, SNMP6, Some((7, 3))),
            (Protocol::Icmp6, SNMP6, Some((0, 4))),
            (Protocol::Unchecked, SNMP, None),
            (Protocol::Udp4, "Udp: InDatagrams RcvbufErrors\nUdp: 1 2\n", None),
            (Protocol::Udp4, "Udp: InDatagrams InCsumErrors\nUdp: 1 2\n", Some((0, 2))),
            (Protocol::Udp4, "Udp: InDatagrams InCsumErrors\n", None),
            (Protocol::Udp6, "", None),
        ] {
            let expected = read.map(|(no_room, broken)| Counts { no_room, broken });
            assert_eq!(counts(protocol, text), expected, "{protocol:?}");
        }
    }

    #[test]
    fn trap_6_broken_datagrams_are_no_loss_and_hide_none() {
        // Dropped at the socket; the host's counts of no room and of wrong checksums; what is lost.
        for (dropped, no_room, broken, lost) in [
            (5, 0, 5, 0),
            (5, 5, 0, 5),
            (7, 5, 2, 5),
            (5, 5, 5, 5),
            (5, 0, 0, 5),
            // Others' sockets lose and drop as well.
            (5, 900, 5, 5),
            (5, 0, 900, 0),
            (5, 2, 900, 2),
            (0, 9, 9, 0),
        ] {
            let shared = share(dropped, no_room, broken);
            assert_eq!((shared.lost, shared.lost + shared.broken), (lost, dropped));
        }
    }
}
