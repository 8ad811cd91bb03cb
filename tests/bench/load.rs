//! The load: SNMPv2c link traps of 1,000 systems with 10 interfaces each, from source addresses of
//! their own, as fast as the kernel takes them or at a given rate.

use std::{
    io, mem,
    net::UdpSocket,
    os::fd::AsRawFd,
    time::{Duration, Instant},
};

/// How many systems send, each from its own loopback address.
pub const SYSTEMS: u32 = 1000;
/// How many interfaces each of them has.
pub const INTERFACES: u32 = 10;

/// Datagrams for each system call: more gains nothing.
pub const BATCH: usize = 64;

/// Room for one IP_PKTINFO, aligned as a control message must be.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; 64]);

/// Sends the load. The n-th datagram of all is always the same one but for its request-id and
/// uptime, so that none is a copy of another (INST-9).
pub struct Load {
    socket: UdpSocket,
    datagrams: Vec<Template>,
    sent: u64,
}

impl Load {
    /// A sender on the loopback. It may send from any 127.x.y.z without binding to each.
    pub fn new() -> io::Result<Load> {
        Ok(Load {
            socket: UdpSocket::bind("0.0.0.0:0")?,
            datagrams: vec![Template::new(); BATCH],
            sent: 0,
        })
    }

    /// Sends `count` datagrams to a port of 127.0.0.1, all at once.
    pub fn burst(&mut self, port: u16, count: u64) {
        let until = self.sent + count;
        while self.sent < until {
            let batch = (until - self.sent).min(BATCH as u64) as usize;
            self.send(port, batch);
        }
    }

    /// Sends at `rate` a second for a while; gives the number sent and the time that it took,
    /// which is longer where the sender is the limit.
    pub fn steady(&mut self, port: u16, rate: u64, duration: Duration) -> (u64, Duration) {
        let start = Instant::now();
        let total = rate * duration.as_millis() as u64 / 1000;
        let mut sent = 0;
        while sent < total {
            // What is due by now, counted from the start, so that no rounding adds up.
            let due = (rate as f64 * start.elapsed().as_secs_f64()) as u64;
            let batch = due.min(total).saturating_sub(sent).min(BATCH as u64);
            if batch == 0 {
                std::hint::spin_loop();
                continue;
            }
            self.send(port, batch as usize);
            sent += batch;
        }
        (sent, start.elapsed())
    }

    /// One sendmmsg of the next `batch` datagrams.
    fn send(&mut self, port: u16, batch: usize) {
        let next = self.datagrams.iter_mut().take(batch);
        let batch: Vec<(u32, &[u8])> = (self.sent..)
            .zip(next)
            .map(|(number, datagram)| (datagram.set(number), &datagram.bytes[..]))
            .collect();
        send_all(&self.socket, port, &batch);
        self.sent += batch.len() as u64;
    }
}

/// Sends at most [`BATCH`] datagrams, each from its source address, to a port of 127.0.0.1 with one
/// system call.
pub fn send_all(socket: &UdpSocket, port: u16, datagrams: &[(u32, &[u8])]) {
    let batch = datagrams.len();
    let mut to = sockaddr(u32::from_be_bytes([127, 0, 0, 1]), port);
    let mut controls = [Control([0; 64]); BATCH];
    let mut parts = Vec::with_capacity(batch);
    for ((source, bytes), control) in datagrams.iter().zip(&mut controls) {
        put_source(control, *source);
        // The kernel only reads what it is to send.
        let base = bytes.as_ptr().cast_mut().cast();
        parts.push(libc::iovec { iov_base: base, iov_len: bytes.len() });
    }
    let mut messages: Vec<libc::mmsghdr> = (0..batch)
        .map(|at| {
            // SAFETY: all zero is a valid value of this plain C structure.
            let mut message: libc::mmsghdr = unsafe { mem::zeroed() };
            message.msg_hdr.msg_name = (&raw mut to).cast();
            message.msg_hdr.msg_namelen = size_of::<libc::sockaddr_in>() as u32;
            message.msg_hdr.msg_iov = &raw mut parts[at];
            message.msg_hdr.msg_iovlen = 1;
            message.msg_hdr.msg_control = controls[at].0.as_mut_ptr().cast();
            message.msg_hdr.msg_controllen = control_space();
            message
        })
        .collect();
    let mut done = 0;
    while done < batch {
        let rest = &mut messages[done..];
        // SAFETY: every pointer in `rest` is to memory that lives until the end of this function,
        // with the lengths given.
        let sent =
            unsafe { libc::sendmmsg(socket.as_raw_fd(), rest.as_mut_ptr(), rest.len() as u32, 0) };
        assert!(sent > 0, "sendmmsg: {}", io::Error::last_os_error());
        done += sent as usize;
    }
}

/// What one IP_PKTINFO takes, with its header and padding.
fn control_space() -> usize {
    // SAFETY: computes a length, touches nothing.
    unsafe { libc::CMSG_SPACE(size_of::<libc::in_pktinfo>() as u32) as usize }
}

/// Writes the control message that sets a datagram's source (ip(7), IP_PKTINFO).
fn put_source(control: &mut Control, source: u32) {
    let info = libc::in_pktinfo {
        ipi_ifindex: 0,
        ipi_spec_dst: libc::in_addr { s_addr: source.to_be() },
        ipi_addr: libc::in_addr { s_addr: 0 },
    };
    let header = control.0.as_mut_ptr().cast::<libc::cmsghdr>();
    // SAFETY: the buffer is aligned and larger than the header and its data together.
    unsafe {
        (*header).cmsg_level = libc::IPPROTO_IP;
        (*header).cmsg_type = libc::IP_PKTINFO;
        (*header).cmsg_len = libc::CMSG_LEN(size_of::<libc::in_pktinfo>() as u32) as usize;
        libc::CMSG_DATA(header).cast::<libc::in_pktinfo>().write_unaligned(info);
    }
}

/// An IPv4 address as the kernel takes it.
pub fn sockaddr(address: u32, port: u16) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr { s_addr: address.to_be() },
        sin_zero: [0; 8],
    }
}

/// A linkDown or linkUp with fields of fixed length, so that the next one is made by writing into
/// it: 125 octets, as common devices send.
#[derive(Clone)]
pub struct Template {
    /// The message.
    pub bytes: Vec<u8>,
}

// Where the fields are that change, and the lengths that are only known at the end.
const PDU_LENGTH: usize = 16;
const REQUEST_ID: usize = 19;
const VARBINDS_LENGTH: usize = 30;
const UPTIME: usize = 45;
const TRAP: usize = 73;
/// The instance of ifIndex, ifAdminStatus and ifOperStatus.
const INSTANCES: [usize; 3] = [87, 104, 121];
/// The value of ifIndex.
const IF_INDEX: usize = 90;

/// Where the PDU begins.
const PDU: usize = PDU_LENGTH - 1;

impl Template {
    /// The first one.
    pub fn new() -> Template {
        let mut bytes = vec![0x30, 0x82, 0, 0]; // the message
        bytes.extend([0x02, 1, 1]); // version 2c
        bytes.extend(*b"\x04\x06public");
        bytes.extend([0xa7, 0x00]); // SNMPv2-Trap-PDU, its length below
        bytes.extend([0x02, 4, 0, 0, 0, 0]); // request-id
        bytes.extend([0x02, 1, 0, 0x02, 1, 0]); // error-status, error-index
        bytes.extend([0x30, 0x00]); // the varbinds, their length below
        bytes.extend([0x30, 16, 0x06, 8, 0x2b, 6, 1, 2, 1, 1, 3, 0, 0x43, 4, 0, 0, 0, 0]);
        bytes.extend([0x30, 23, 0x06, 10, 0x2b, 6, 1, 6, 3, 1, 1, 4, 1, 0]);
        bytes.extend([0x06, 9, 0x2b, 6, 1, 6, 3, 1, 1, 5, 3]);
        for column in [1, 7, 8] {
            bytes.extend([0x30, 15, 0x06, 10, 0x2b, 6, 1, 2, 1, 2, 2, 1, column, 0, 0x02, 1, 2]);
        }
        let length = bytes.len();
        bytes[2..4].copy_from_slice(&u16::to_be_bytes((length - 4) as u16));
        bytes[PDU_LENGTH] = (length - PDU_LENGTH - 1) as u8;
        bytes[VARBINDS_LENGTH] = (length - VARBINDS_LENGTH - 1) as u8;
        Template { bytes }
    }

    /// The same as an inform.
    pub fn inform() -> Template {
        let mut template = Template::new();
        template.bytes[PDU] = 0xa6;
        template
    }

    /// Its PDU, with tag and length.
    pub fn pdu(&self) -> &[u8] {
        &self.bytes[PDU..]
    }

    /// Makes it the `number`-th datagram of all, and gives its source address.
    pub fn set(&mut self, number: u64) -> u32 {
        let number32 = number as u32;
        let system = number32 % SYSTEMS;
        let if_index = (number32 / SYSTEMS % INTERFACES + 1) as u8;
        // Each interface goes down, up, down, and so on.
        let down = (number32 / (SYSTEMS * INTERFACES)).is_multiple_of(2);
        let request_id = number32 & 0x7fff_ffff | 0x0100_0000;
        self.bytes[REQUEST_ID..][..4].copy_from_slice(&request_id.to_be_bytes());
        let uptime = number32 & 0x3fff_ffff | 0x0100_0000;
        self.bytes[UPTIME..][..4].copy_from_slice(&uptime.to_be_bytes());
        self.bytes[TRAP] = if down { 3 } else { 4 };
        for at in INSTANCES {
            self.bytes[at] = if_index;
        }
        self.bytes[IF_INDEX] = if_index;
        u32::from_be_bytes([127, 1, (system / 250) as u8, (system % 250 + 1) as u8])
    }
}
