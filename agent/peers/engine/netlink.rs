//! As much of rtnetlink as the engine asks: what the links do, and how often the neighbour tables
//! overflowed. On its own memory and without waiting, as it is asked between two batches.
//!
//! `/proc/net/stat/arp_cache` tells the overflows too, but only in the network namespace that the
//! host booted with. The tables are one for all namespaces.

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

/// A dump comes in pieces of at most this.
const BUFFER: usize = 32 << 10;
/// `struct nlmsghdr`.
const HEADER: usize = 16;
/// `struct ifinfomsg`.
const LINK_HEADER: usize = 16;
/// `struct ndtmsg`.
const TABLE_HEADER: usize = 4;
/// `linux/neighbour.h`: the statistics among the attributes of a table.
const NDTA_STATS: u16 = 7;
/// `struct ndt_stats`: where `ndts_table_fulls` is.
const TABLE_FULLS: std::ops::Range<usize> = 80..88;

/// What the kernel says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// A link, as it is now.
    Link {
        /// The kernel's index of it.
        index: u32,
        /// It is up and has a carrier.
        up: bool,
    },
    /// A link is no more.
    Gone {
        /// The kernel's index of it.
        index: u32,
    },
    /// How often a neighbour table overflowed since the host booted.
    TableFulls {
        /// ARP, else ND.
        v4: bool,
        /// The count.
        fulls: u64,
    },
}

/// How a read ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Nothing more is there now.
    Empty,
    /// The answer to a request is complete.
    Done,
}

/// A netlink socket with its memory.
#[derive(Debug)]
pub(super) struct Netlink {
    fd: OwnedFd,
    buffer: Box<[u8]>,
}

impl Netlink {
    /// A socket that is told what `groups` are told (RTMGRP_...), or nobody.
    pub(super) fn open(groups: libc::c_int) -> io::Result<Netlink> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: the call takes no pointers; what it returns is checked before it is used.
        let fd = unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_ROUTE) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` was opened above, and nothing else owns it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: a sockaddr_nl is plain data, for which all bytes zero are valid.
        let mut name: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
        name.nl_family = libc::AF_NETLINK as libc::sa_family_t;
        name.nl_groups = groups as u32;
        // SAFETY: the pointer is to as many bytes as the length says.
        let bound = unsafe {
            libc::bind(
                fd.as_raw_fd(),
                (&raw const name).cast(),
                size_of_val(&name) as libc::socklen_t,
            )
        };
        if bound < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Netlink { fd, buffer: vec![0; BUFFER].into_boxed_slice() })
    }

    /// Asks for all links.
    pub(super) fn ask_links(&self) -> io::Result<()> {
        self.ask(libc::RTM_GETLINK, LINK_HEADER)
    }

    /// Asks for the neighbour tables.
    pub(super) fn ask_tables(&self) -> io::Result<()> {
        self.ask(libc::RTM_GETNEIGHTBL, TABLE_HEADER)
    }

    /// Asks for all objects of a kind, in every family: a header of zeros says so.
    fn ask(&self, kind: u16, header: usize) -> io::Result<()> {
        let mut request = [0; HEADER + LINK_HEADER];
        let request = &mut request[..HEADER + header];
        let flags = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
        let len = request.len() as u32;
        request[0..4].copy_from_slice(&len.to_ne_bytes());
        request[4..6].copy_from_slice(&kind.to_ne_bytes());
        request[6..8].copy_from_slice(&flags.to_ne_bytes());
        // SAFETY: the pointer and the length are those of `request`.
        let sent =
            unsafe { libc::send(self.fd.as_raw_fd(), request.as_ptr().cast(), request.len(), 0) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Hands over what is there.
    ///
    /// # Errors
    ///
    /// ENOBUFS if something was lost, and whatever else the kernel reports.
    pub(super) fn read(&mut self, mut tell: impl FnMut(News)) -> io::Result<End> {
        loop {
            // SAFETY: the pointer and the length are those of the buffer.
            let len = unsafe {
                libc::recv(
                    self.fd.as_raw_fd(),
                    self.buffer.as_mut_ptr().cast(),
                    self.buffer.len(),
                    0,
                )
            };
            let Ok(len) = usize::try_from(len) else {
                let error = io::Error::last_os_error();
                match error.kind() {
                    io::ErrorKind::WouldBlock => return Ok(End::Empty),
                    io::ErrorKind::Interrupted => continue,
                    _ => return Err(error),
                }
            };
            if messages(&self.buffer[..len], &mut tell)? {
                return Ok(End::Done);
            }
        }
    }
}

/// Hands over what messages say, and says whether they end a dump.
fn messages(mut bytes: &[u8], tell: &mut impl FnMut(News)) -> io::Result<bool> {
    while let Some(header) = bytes.get(..HEADER) {
        let len = number(header, 0) as usize;
        let kind = u16::from_ne_bytes([header[4], header[5]]);
        let Some(body) = bytes.get(HEADER..len) else { break };
        match libc::c_int::from(kind) {
            libc::NLMSG_DONE => return Ok(true),
            libc::NLMSG_ERROR if body.len() >= 4 => {
                let errno = (number(body, 0) as i32).wrapping_neg();
                return Err(io::Error::from_raw_os_error(errno));
            }
            _ => {}
        }
        if let Some(news) = news(kind, body) {
            tell(news);
        }
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or(&[]);
    }
    Ok(false)
}

fn news(kind: u16, body: &[u8]) -> Option<News> {
    let family = libc::c_int::from(*body.first()?);
    match kind {
        // Bridges speak of their ports in the same words, with their own family.
        libc::RTM_NEWLINK | libc::RTM_DELLINK
            if family == libc::AF_UNSPEC && body.len() >= LINK_HEADER =>
        {
            let (index, flags) = (number(body, 4), number(body, 8));
            let up = (libc::IFF_UP | libc::IFF_RUNNING) as u32;
            Some(match kind {
                libc::RTM_NEWLINK => News::Link { index, up: flags & up == up },
                _ => News::Gone { index },
            })
        }
        libc::RTM_NEWNEIGHTBL if family == libc::AF_INET || family == libc::AF_INET6 => {
            let stats = attribute(body.get(TABLE_HEADER..)?, NDTA_STATS)?;
            let fulls = u64::from_ne_bytes(stats.get(TABLE_FULLS)?.try_into().ok()?);
            Some(News::TableFulls { v4: family == libc::AF_INET, fulls })
        }
        _ => None,
    }
}

/// The first attribute of this kind.
fn attribute(mut bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    /// The upper two bits say how an attribute is nested and ordered.
    const KIND: u16 = 0x3fff;
    loop {
        let header = bytes.get(..4)?;
        let len = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]) & KIND;
        let value = bytes.get(4..len)?;
        if kind == wanted {
            return Some(value);
        }
        bytes = bytes.get(len.next_multiple_of(4)..)?;
    }
}

fn number(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; HEADER];
        bytes[..4].copy_from_slice(&((HEADER + body.len()) as u32).to_ne_bytes());
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(body);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn link(family: u8, index: u32, flags: u32) -> Vec<u8> {
        let mut body = vec![0; LINK_HEADER];
        body[0] = family;
        body[4..8].copy_from_slice(&index.to_ne_bytes());
        body[8..12].copy_from_slice(&flags.to_ne_bytes());
        body
    }

    fn table(family: u8, stats: &[u8]) -> Vec<u8> {
        let mut body = vec![family, 0, 0, 0];
        // A name of three bytes and its padding come first.
        body.extend_from_slice(&[7, 0, 1, 0, b'a', b'r', 0, 0]);
        body.extend_from_slice(&((4 + stats.len()) as u16).to_ne_bytes());
        body.extend_from_slice(&NDTA_STATS.to_ne_bytes());
        body.extend_from_slice(stats);
        body
    }

    fn told(bytes: &[u8]) -> (Vec<News>, bool) {
        let mut told = Vec::new();
        let done = messages(bytes, &mut |news| told.push(news)).unwrap();
        (told, done)
    }

    #[test]
    fn links_and_tables_are_read() {
        let mut stats = [0; 96];
        stats[TABLE_FULLS].copy_from_slice(&977u64.to_ne_bytes());
        let bytes = [
            message(libc::RTM_NEWLINK, &link(0, 2, 0x11043)),
            message(libc::RTM_NEWLINK, &link(0, 3, 0x1003)),
            message(libc::RTM_NEWLINK, &link(libc::AF_BRIDGE as u8, 4, 0x11043)),
            message(libc::RTM_DELLINK, &link(0, 5, 0x1002)),
            message(libc::RTM_DELLINK, &link(libc::AF_BRIDGE as u8, 6, 0)),
            message(libc::RTM_NEWNEIGHTBL, &table(libc::AF_INET as u8, &stats)),
            message(libc::RTM_NEWNEIGHTBL, &table(libc::AF_INET6 as u8, &stats[..87])),
            message(libc::NLMSG_DONE as u16, &[0; 4]),
        ]
        .concat();
        let wanted = vec![
            News::Link { index: 2, up: true },
            News::Link { index: 3, up: false },
            News::Gone { index: 5 },
            News::TableFulls { v4: true, fulls: 977 },
        ];
        assert_eq!(told(&bytes), (wanted, true));
    }

    #[test]
    fn no_end_makes_it_panic() {
        let bytes = [
            message(libc::RTM_NEWLINK, &link(0, 2, 0x11043)),
            message(libc::RTM_NEWNEIGHTBL, &table(libc::AF_INET as u8, &[1; 96])),
        ]
        .concat();
        for end in 0..bytes.len() {
            let (told, done) = told(&bytes[..end]);
            assert!(told.len() < 2 && !done, "{end} bytes");
        }
    }

    #[test]
    fn the_kernel_knows_its_links_and_tables() {
        let mut netlink = Netlink::open(0).unwrap();
        let mut loopback = false;
        netlink.ask_links().unwrap();
        let end = netlink.read(|news| loopback |= matches!(news, News::Link { index: 1, .. }));
        assert_eq!(end.unwrap(), End::Done);
        assert!(loopback);

        let mut arp = false;
        netlink.ask_tables().unwrap();
        let end = netlink.read(|news| arp |= matches!(news, News::TableFulls { v4: true, .. }));
        assert_eq!(end.unwrap(), End::Done);
        assert!(arp);
    }
}
