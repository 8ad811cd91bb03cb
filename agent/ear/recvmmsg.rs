//! The system call that reads many datagrams at once, with what the kernel says about each.
//!
//! [`Slots`] holds the memory that one call scatters datagrams into. It is set up once; between
//! calls only the fields that the kernel overwrote are put back.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6},
    os::fd::{AsRawFd, BorrowedFd},
    ptr, slice,
};

use crate::clock;

/// The first part of a datagram goes to a slot of this size: more than nearly all traps have, and
/// a batch of them (half a MiB) still fits into a core's cache.
const HEAD: usize = 2048;
/// Heads begin a cache line beside a power of two, so that their first lines, which are the only
/// ones that small traps touch, spread over all sets of the cache.
const HEAD_STRIDE: usize = HEAD + 64;
/// The rest of a datagram goes here, so that the longest (65,535 bytes with its IP header) is
/// whole. The kernel gives us this memory page by page, when a datagram first needs it.
const TAIL: usize = (64 << 10) - HEAD;
/// Room for a receive stamp (32 bytes) and a packet info of either family (40).
const CONTROL: usize = 128;

/// Memory for one batch of datagrams, and the last batch in it.
pub(crate) struct Slots {
    messages: Vec<libc::mmsghdr>,
    /// How many of `messages` the kernel may have overwritten in the last call.
    used: usize,
    // Nobody touches the vectors below but through the pointers in `messages`; they are here to be
    // freed.
    _memory: Memory,
}

struct Memory {
    _heads: Vec<u8>,
    _tails: Vec<u8>,
    _parts: Vec<[libc::iovec; 2]>,
    _sources: Vec<libc::sockaddr_storage>,
    _controls: Vec<Control>,
}

/// Control data, aligned as `cmsghdr` has to be.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; CONTROL]);

/// One datagram as the last call left it.
pub(crate) struct Message<'a> {
    /// Its first bytes.
    pub head: &'a [u8],
    /// What did not fit there.
    pub tail: &'a [u8],
    /// Who sent it, if that is an IP address.
    pub source: Option<SocketAddr>,
    /// The kernel's receive stamp, in nanoseconds since 1970 on the wall clock.
    pub stamp: Option<i64>,
    /// The address that it was sent to, if the socket tells.
    pub local: Option<IpAddr>,
    /// The interface that it came by, if the socket tells.
    pub interface: Option<u32>,
    /// Its end is missing.
    pub truncated: bool,
}

impl Slots {
    /// Memory for `count` datagrams of any length a call.
    pub(crate) fn new(count: usize) -> Slots {
        Slots::with_sizes(count, HEAD, HEAD_STRIDE, TAIL)
    }

    /// Memory for `count` datagrams of at most `length` bytes a call: what is longer is cut.
    pub(crate) fn short(count: usize, length: usize) -> Slots {
        Slots::with_sizes(count, length, length, 0)
    }

    fn with_sizes(count: usize, head_len: usize, stride: usize, tail_len: usize) -> Slots {
        let mut heads = vec![0u8; count * stride];
        let mut tails = vec![0u8; count * tail_len];
        // SAFETY: a sockaddr_storage is plain data, for which all bytes zero are valid.
        let unknown: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
        let mut sources = vec![unknown; count];
        let mut controls = vec![Control([0; CONTROL]); count];

        let head = heads.as_mut_ptr();
        let tail = tails.as_mut_ptr();
        let mut parts: Vec<[libc::iovec; 2]> = (0..count)
            .map(|i| {
                // Both stay inside their vectors, of which each has `count` slots.
                let (head, tail) = (head.wrapping_add(i * stride), tail.wrapping_add(i * tail_len));
                [
                    libc::iovec { iov_base: head.cast(), iov_len: head_len },
                    libc::iovec { iov_base: tail.cast(), iov_len: tail_len },
                ]
            })
            .collect();

        let (part, source, control) =
            (parts.as_mut_ptr(), sources.as_mut_ptr(), controls.as_mut_ptr());
        let messages = (0..count)
            .map(|i| {
                // SAFETY: an mmsghdr is plain data, for which all bytes zero are valid.
                let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
                message.msg_hdr.msg_name = source.wrapping_add(i).cast();
                message.msg_hdr.msg_iov = part.wrapping_add(i).cast();
                message.msg_hdr.msg_iovlen = if tail_len > 0 { 2 } else { 1 };
                message.msg_hdr.msg_control = control.wrapping_add(i).cast();
                message
            })
            .collect();
        let _memory = Memory {
            _heads: heads,
            _tails: tails,
            _parts: parts,
            _sources: sources,
            _controls: controls,
        };
        Slots { messages, used: count, _memory }
    }

    /// Reads as many datagrams as are there and fit, without waiting, and says how many.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when the socket is empty, `Interrupted`, and whatever the kernel reports of
    /// the socket. That fewer came than fit does not tell that the socket is empty: an error after
    /// the first datagram ends the batch as well, and is reported by the next call.
    pub(crate) fn receive(&mut self, fd: BorrowedFd<'_>) -> io::Result<usize> {
        for message in &mut self.messages[..self.used] {
            message.msg_hdr.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            message.msg_hdr.msg_controllen = CONTROL as _;
            message.msg_hdr.msg_flags = 0;
        }
        self.used = 0;
        // SAFETY: every pointer in `messages` is to memory of `self._memory` that is as long as
        // the length beside it says, and to which no reference exists: `Message`s borrow `self`.
        let count = unsafe {
            libc::recvmmsg(
                fd.as_raw_fd(),
                self.messages.as_mut_ptr(),
                self.messages.len() as libc::c_uint,
                libc::MSG_DONTWAIT as _,
                ptr::null_mut(),
            )
        };
        let Ok(count) = usize::try_from(count) else {
            return Err(io::Error::last_os_error());
        };
        self.used = count;
        Ok(count)
    }

    /// The datagrams of the last call.
    pub(crate) fn messages(&self) -> impl Iterator<Item = Message<'_>> {
        self.messages[..self.used].iter().map(|message| {
            // SAFETY: the kernel filled in this message in the last call, and its pointers are as
            // `new` set them.
            unsafe { read(message) }
        })
    }
}

/// What a message that the kernel filled in says.
///
/// # Safety
///
/// The pointers of `message` are those that `Slots::new` set, and nobody writes to that memory
/// while the result lives.
unsafe fn read(message: &libc::mmsghdr) -> Message<'_> {
    let header = &message.msg_hdr;
    let len = message.msg_len as usize;
    // SAFETY: msg_iov is to two entries, whose lengths are those of their memory; the kernel wrote
    // msg_len bytes, which are no more than the two together hold.
    let (head, tail) = unsafe {
        let [head, tail] = &*header.msg_iov.cast::<[libc::iovec; 2]>();
        let in_head = len.min(head.iov_len);
        (
            slice::from_raw_parts(head.iov_base.cast::<u8>(), in_head),
            slice::from_raw_parts(tail.iov_base.cast::<u8>(), (len - in_head).min(tail.iov_len)),
        )
    };
    // SAFETY: msg_name is to a sockaddr_storage.
    let source = unsafe { address(&*header.msg_name.cast(), header.msg_namelen) };
    let mut found = Message {
        head,
        tail,
        source,
        stamp: None,
        local: None,
        interface: None,
        truncated: header.msg_flags & libc::MSG_TRUNC != 0,
    };

    // SAFETY: msg_control has msg_controllen bytes, which the kernel wrote as whole messages; the
    // macros stay inside of them.
    let mut control = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !control.is_null() {
        // SAFETY: `control` is to a whole cmsghdr with its data, see above. The data are read
        // unaligned, as the kernel promises the alignment of the header alone.
        unsafe {
            let data = libc::CMSG_DATA(control);
            match ((*control).cmsg_level, (*control).cmsg_type) {
                (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) => {
                    found.stamp =
                        Some(clock::nanos(&data.cast::<libc::timespec>().read_unaligned()));
                }
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    let info = data.cast::<libc::in_pktinfo>().read_unaligned();
                    let to = Ipv4Addr::from(info.ipi_addr.s_addr.to_ne_bytes());
                    found.local = Some(IpAddr::V4(to));
                    found.interface = u32::try_from(info.ipi_ifindex).ok();
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    let info = data.cast::<libc::in6_pktinfo>().read_unaligned();
                    found.local = Some(Ipv6Addr::from(info.ipi6_addr.s6_addr).to_canonical());
                    // An unsigned int here, an int elsewhere.
                    found.interface = Some(info.ipi6_ifindex as u32);
                }
                _ => {}
            }
            control = libc::CMSG_NXTHDR(header, control);
        }
    }
    found
}

/// An address as the kernel writes it, with IPv4-mapped IPv6 as IPv4 (RFC 4291, 2.5.5.2).
fn address(name: &libc::sockaddr_storage, len: libc::socklen_t) -> Option<SocketAddr> {
    let name: *const libc::sockaddr_storage = name;
    let len = len as usize;
    // SAFETY: `name` is a sockaddr_storage, which is large enough and aligned for each of the
    // types that its family names.
    unsafe {
        match i32::from((*name).ss_family) {
            libc::AF_INET if len >= size_of::<libc::sockaddr_in>() => {
                let name = &*name.cast::<libc::sockaddr_in>();
                let ip = Ipv4Addr::from(name.sin_addr.s_addr.to_ne_bytes());
                Some(SocketAddr::from((ip, u16::from_be(name.sin_port))))
            }
            libc::AF_INET6 if len >= size_of::<libc::sockaddr_in6>() => {
                let name = &*name.cast::<libc::sockaddr_in6>();
                let port = u16::from_be(name.sin6_port);
                Some(match Ipv6Addr::from(name.sin6_addr.s6_addr).to_canonical() {
                    IpAddr::V4(ip) => SocketAddr::from((ip, port)),
                    IpAddr::V6(ip) => SocketAddrV6::new(ip, port, 0, name.sin6_scope_id).into(),
                })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use socket2::SockAddr;

    use super::*;

    #[test]
    fn sources_are_read_in_their_shortest_form() {
        for (given, read) in [
            ("192.0.2.7:162", "192.0.2.7:162"),
            ("[2001:db8::7]:40000", "[2001:db8::7]:40000"),
            ("[fe80::7%3]:162", "[fe80::7%3]:162"),
            ("[::ffff:192.0.2.7]:162", "192.0.2.7:162"),
            ("[::1]:0", "[::1]:0"),
        ] {
            let name = SockAddr::from(given.parse::<SocketAddr>().unwrap());
            // SAFETY: a SockAddr holds a whole sockaddr_storage.
            let got = address(unsafe { &*name.as_ptr().cast() }, name.len());
            assert_eq!(got, Some(read.parse().unwrap()), "{given}");
        }
    }

    #[test]
    fn what_is_no_ip_address_is_no_source() {
        let unix = SockAddr::unix("/tmp/x").unwrap();
        // SAFETY: a SockAddr holds a whole sockaddr_storage.
        assert_eq!(address(unsafe { &*unix.as_ptr().cast() }, unix.len()), None);
        let short = SockAddr::from("192.0.2.7:162".parse::<SocketAddr>().unwrap());
        // SAFETY: as above.
        assert_eq!(address(unsafe { &*short.as_ptr().cast() }, 2), None);
    }
}
