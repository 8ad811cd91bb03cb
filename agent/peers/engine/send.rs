//! Sends requests by `sendmmsg`, from memory that is set up once.

use std::{io, net::IpAddr, ptr, time::Duration};

use evenkeel_core::{
    peers::{
        Request,
        echo::{Echo, LEN},
    },
    time::Time,
};

use super::sockets::EchoSocket;

/// Requests a call at most: as many as the kernel takes at once for no less than eight alone. They
/// share a stamp, so more would make the round-trip times worse, by 6 µs each.
pub(super) const CHUNK: usize = 8;

/// Memory for one call.
#[derive(Debug)]
pub(super) struct Sender {
    messages: Vec<libc::mmsghdr>,
    // Nobody touches `parts` but through the pointers in `messages`; it is here to be freed.
    _parts: Vec<libc::iovec>,
    names: Vec<Name>,
    bytes: Vec<[u8; LEN]>,
}

/// A socket address of either family.
#[derive(Clone, Copy)]
#[repr(C)]
union Name {
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

impl std::fmt::Debug for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Name")
    }
}

impl Sender {
    pub(super) fn new() -> Sender {
        // SAFETY: a Name is plain data, for which all bytes zero are valid.
        let mut names: Vec<Name> = vec![unsafe { std::mem::zeroed() }; CHUNK];
        let mut bytes = vec![[0; LEN]; CHUNK];
        let (name, byte) = (names.as_mut_ptr(), bytes.as_mut_ptr());
        let mut parts: Vec<libc::iovec> = (0..CHUNK)
            .map(|i| libc::iovec { iov_base: byte.wrapping_add(i).cast(), iov_len: LEN })
            .collect();
        let part = parts.as_mut_ptr();
        let messages = (0..CHUNK)
            .map(|i| {
                // SAFETY: an mmsghdr is plain data, for which all bytes zero are valid.
                let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
                message.msg_hdr.msg_name = name.wrapping_add(i).cast();
                message.msg_hdr.msg_iov = part.wrapping_add(i);
                message.msg_hdr.msg_iovlen = 1;
                message
            })
            .collect();
        Sender { messages, _parts: parts, names, bytes }
    }

    /// Sends one chunk, that is [`CHUNK`] requests at most, by one socket, all with the stamp `now`.
    /// `failed` is told of each that the kernel did not take. `patience` says whether it may wait for
    /// room in the send buffer, for a moment, and is used up by that.
    pub(super) fn send(
        &mut self,
        socket: &mut EchoSocket,
        requests: &[Request],
        now: Time,
        patience: &mut bool,
        mut failed: impl FnMut(&Request, libc::c_int),
    ) {
        assert!(requests.len() <= CHUNK, "there is memory for one chunk");
        for (place, request) in requests.iter().enumerate() {
            self.fill(place, socket, request, now);
        }
        let mut done = 0;
        while done < requests.len() {
            let messages = &mut self.messages[done..requests.len()];
            // SAFETY: every pointer in `messages` is to memory of `self`, or of `socket`, that is
            // as long as the length beside it says and lives until the call returns.
            let sent = unsafe {
                libc::sendmmsg(
                    socket.raw_fd(),
                    messages.as_mut_ptr(),
                    messages.len() as libc::c_uint,
                    libc::MSG_DONTWAIT as _,
                )
            };
            if let Ok(sent) = usize::try_from(sent) {
                socket.stats.sent += sent as u64;
                socket.stats.sent_bytes += (sent * LEN) as u64;
                done += sent;
                continue;
            }
            match io::Error::last_os_error().raw_os_error().unwrap_or(0) {
                libc::EINTR => {}
                libc::EAGAIN | libc::ENOBUFS if *patience => {
                    *patience = false;
                    wait_for_room(socket);
                }
                // What holds for one holds for those after it.
                errno @ (libc::EAGAIN | libc::ENOBUFS) => {
                    requests[done..].iter().for_each(|request| failed(request, errno));
                    return;
                }
                errno => {
                    failed(&requests[done], errno);
                    done += 1;
                }
            }
        }
    }

    fn fill(&mut self, place: usize, socket: &EchoSocket, request: &Request, now: Time) {
        // The peer is down: perhaps for a session of a NAT or a firewall that died.
        let other = match request.down && socket.stats.raw {
            true => 1 + (request.sequence % 3) as u16,
            false => 0,
        };
        let echo = Echo {
            identifier: socket.identifier | other,
            place: request.place,
            sequence: request.sequence,
            token: request.token,
            sent: now,
        };
        let (name, bytes) = (&mut self.names[place], &mut self.bytes[place]);
        let header = &mut self.messages[place].msg_hdr;
        match request.address {
            IpAddr::V4(address) => {
                // SAFETY: a sockaddr_in is plain data, for which all bytes zero are valid.
                let mut to: libc::sockaddr_in = unsafe { std::mem::zeroed() };
                to.sin_family = libc::AF_INET as libc::sa_family_t;
                to.sin_addr.s_addr = u32::from_ne_bytes(address.octets());
                name.v4 = to;
                header.msg_namelen = size_of_val(&to) as libc::socklen_t;
                echo.write_v4(bytes);
            }
            IpAddr::V6(address) => {
                // SAFETY: a sockaddr_in6 is plain data, for which all bytes zero are valid.
                let mut to: libc::sockaddr_in6 = unsafe { std::mem::zeroed() };
                to.sin6_family = libc::AF_INET6 as libc::sa_family_t;
                to.sin6_addr.s6_addr = address.octets();
                name.v6 = to;
                header.msg_namelen = size_of_val(&to) as libc::socklen_t;
                echo.write_v6(bytes);
            }
        }
        match socket.source_info() {
            Some(info) => {
                header.msg_control = ptr::from_ref(info).cast_mut().cast();
                header.msg_controllen = size_of_val(info) as _;
            }
            None => {
                header.msg_control = ptr::null_mut();
                header.msg_controllen = 0;
            }
        }
    }
}

/// Waits for room in the send buffer, but not so long that a batch would be late for it.
fn wait_for_room(socket: &EchoSocket) {
    const AT_MOST: Duration = Duration::from_millis(1);
    let mut polled = libc::pollfd { fd: socket.raw_fd(), events: libc::POLLOUT, revents: 0 };
    // Whatever it says: the next call tells whether there is room.
    // SAFETY: the pointer is to one pollfd that lives until the call returns.
    unsafe { libc::poll(&raw mut polled, 1, AT_MOST.as_millis() as libc::c_int) };
}
