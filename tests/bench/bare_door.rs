//! The limits that the agent is measured against in `door.rs`: what a loop costs that does nothing
//! but open a message, answer it, or send it on.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Write as _},
    mem,
    net::UdpSocket,
    os::fd::{AsRawFd, FromRawFd as _, OwnedFd},
    path::Path,
    sync::atomic::Ordering,
};

use evenkeel_core::usm::{Level, SessionKeys, message};
use foldhash::fast::FixedState;

use super::{
    load::{BATCH, sockaddr},
    receivers::{Counter, forced_buffer, socket},
    v3,
};

/// Larger than any datagram of the load.
const ROOM: usize = 2048;

/// IPv4 and UDP without options.
const HEADERS: usize = 28;

/// Does one kind of work for ever, counting into a file that the parent maps too. `to` is the port
/// that is forwarded to.
pub fn run(port: u16, counter: &Path, work: &str, to: u16) -> io::Result<()> {
    let file = counter.with_extension("data");
    let counter = Counter::open(counter)?;
    let socket = socket(port)?;
    forced_buffer(&socket, 256 << 20)?;
    let mut batch = Batch::new();
    let mut opener = Opener::new(work == "open");
    let mut disk = (work == "answer-safely").then(|| File::create(file)).transpose()?;
    let raw = (work == "forward-source").then(raw_socket).transpose()?;
    loop {
        let received = batch.receive(&socket)?;
        match work {
            "open" => opener.open(&batch, received),
            "answer" | "answer-safely" => {
                if let Some(disk) = &mut disk {
                    for at in 0..received {
                        disk.write_all(batch.datagram(at))?;
                    }
                    disk.sync_data()?;
                }
                batch.answer(&socket, received)?;
            }
            "forward" => batch.forward(&socket, received, to)?,
            "forward-source" => {
                let raw = raw.as_ref().expect("made above");
                batch.forward_from_source(raw, received, to)?;
            }
            _ => return Err(io::Error::other("no such work")),
        }
        counter.0.fetch_add(received as u64, Ordering::Relaxed);
    }
}

/// Verifies and decrypts, with keys that are there.
struct Opener {
    keys: HashMap<Vec<u8>, SessionKeys, FixedState>,
    buffer: Vec<u8>,
}

impl Opener {
    fn new(needed: bool) -> Opener {
        let engines = if needed { v3::ENGINES } else { 0 };
        let keys = (0..engines).map(|engine| (v3::engine(engine), v3::keys(engine))).collect();
        Opener { keys, buffer: Vec::new() }
    }

    fn open(&mut self, batch: &Batch, received: usize) {
        for at in 0..received {
            let datagram = batch.datagram(at);
            let incoming = message::parse(datagram).expect("what the load sends");
            let keys = &self.keys[incoming.engine];
            let scoped =
                message::unseal(&incoming, datagram, keys, Level::AuthPriv, &mut self.buffer);
            assert!(scoped.is_ok(), "what the load sends is authentic");
        }
    }
}

/// The memory for one system call.
pub struct Batch {
    room: Vec<[u8; ROOM]>,
    names: [libc::sockaddr_in; BATCH],
    lengths: [usize; BATCH],
}

impl Batch {
    /// Room that is empty.
    pub fn new() -> Batch {
        Batch { room: vec![[0; ROOM]; BATCH], names: [sockaddr(0, 0); BATCH], lengths: [0; BATCH] }
    }

    /// What was received last.
    pub fn datagram(&self, at: usize) -> &[u8] {
        &self.room[at][HEADERS..HEADERS + self.lengths[at]]
    }

    /// Waits for one datagram, and takes all that are there, up to the batch.
    pub fn receive(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        let mut parts: Vec<libc::iovec> = self
            .room
            .iter_mut()
            .map(|room| libc::iovec {
                iov_base: room[HEADERS..].as_mut_ptr().cast(),
                iov_len: ROOM - HEADERS,
            })
            .collect();
        let mut messages = messages(&mut self.names, &mut parts, BATCH);
        // SAFETY: every pointer in `messages` is to memory that outlives the call, with the lengths
        // given.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                messages.as_mut_ptr(),
                BATCH as u32,
                libc::MSG_WAITFORONE,
                std::ptr::null_mut(),
            )
        };
        if received < 0 {
            return Err(io::Error::last_os_error());
        }
        for (length, message) in self.lengths.iter_mut().zip(&messages) {
            *length = message.msg_len as usize;
        }
        Ok(received as usize)
    }

    /// Each goes back to its sender as its Response.
    fn answer(&mut self, socket: &UdpSocket, received: usize) -> io::Result<()> {
        for at in 0..received {
            let length = self.lengths[at];
            let datagram = &mut self.room[at][HEADERS..HEADERS + length];
            // The PDU's tag stands behind version and community, as the load has them.
            let tag = datagram.iter().position(|&octet| octet == 0xa6).expect("an inform");
            datagram[tag] = 0xa2;
        }
        let mut names = self.names;
        self.send(socket.as_raw_fd(), &mut names, received, 0)
    }

    fn forward(&mut self, socket: &UdpSocket, received: usize, to: u16) -> io::Result<()> {
        let mut names = [sockaddr(u32::from_be_bytes([127, 0, 0, 1]), to); BATCH];
        self.send(socket.as_raw_fd(), &mut names, received, 0)
    }

    /// With headers of our own before the datagram; the kernel adds length and checksum of IPv4
    /// (raw(7)). UDP's checksum may be left out (RFC 768).
    fn forward_from_source(&mut self, raw: &OwnedFd, received: usize, to: u16) -> io::Result<()> {
        for at in 0..received {
            let length = (self.lengths[at] + 8) as u16;
            let (source, port) = (self.names[at].sin_addr.s_addr, self.names[at].sin_port);
            let headers = &mut self.room[at][..HEADERS];
            headers.fill(0);
            headers[0] = 0x45;
            headers[8] = 64;
            headers[9] = 17;
            headers[12..16].copy_from_slice(&source.to_ne_bytes());
            headers[16..20].copy_from_slice(&[127, 0, 0, 1]);
            headers[20..22].copy_from_slice(&port.to_ne_bytes());
            headers[22..24].copy_from_slice(&to.to_be_bytes());
            headers[24..26].copy_from_slice(&length.to_be_bytes());
        }
        let mut names = [sockaddr(u32::from_be_bytes([127, 0, 0, 1]), 0); BATCH];
        self.send(raw.as_raw_fd(), &mut names, received, HEADERS)
    }

    fn send(
        &mut self,
        fd: i32,
        names: &mut [libc::sockaddr_in; BATCH],
        received: usize,
        headers: usize,
    ) -> io::Result<()> {
        let mut parts: Vec<libc::iovec> = self.room[..received]
            .iter_mut()
            .zip(&self.lengths)
            .map(|(room, length)| libc::iovec {
                iov_base: room[HEADERS - headers..].as_mut_ptr().cast(),
                iov_len: length + headers,
            })
            .collect();
        let mut messages = messages(names, &mut parts, received);
        let mut done = 0;
        while done < received {
            let rest = &mut messages[done..];
            // SAFETY: every pointer in `rest` is to memory that outlives the call, with the lengths
            // given.
            let sent = unsafe { libc::sendmmsg(fd, rest.as_mut_ptr(), rest.len() as u32, 0) };
            if sent <= 0 {
                return Err(io::Error::last_os_error());
            }
            done += sent as usize;
        }
        Ok(())
    }
}

fn messages(
    names: &mut [libc::sockaddr_in; BATCH],
    parts: &mut [libc::iovec],
    count: usize,
) -> Vec<libc::mmsghdr> {
    (0..count)
        .map(|at| {
            // SAFETY: all zero is a valid value of this plain C structure.
            let mut message: libc::mmsghdr = unsafe { mem::zeroed() };
            message.msg_hdr.msg_name = (&raw mut names[at]).cast();
            message.msg_hdr.msg_namelen = size_of::<libc::sockaddr_in>() as u32;
            message.msg_hdr.msg_iov = &raw mut parts[at];
            message.msg_hdr.msg_iovlen = 1;
            message
        })
        .collect()
}

fn raw_socket() -> io::Result<OwnedFd> {
    // SAFETY: makes a descriptor, which is owned from here on.
    unsafe {
        let fd =
            libc::socket(libc::AF_INET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::IPPROTO_RAW);
        if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(fd)) }
    }
}
