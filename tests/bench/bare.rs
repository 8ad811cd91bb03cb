//! The limit that the agent is measured against: recvmmsg, decode the fields that the rules need,
//! look up (source, ifIndex) in a hash table and put the time into its ring. Nothing else.

use std::{collections::HashMap, io, mem, os::fd::AsRawFd, sync::atomic::Ordering, time::Instant};

use foldhash::fast::FixedState;

use super::receivers::{Counter, forced_buffer, socket};

/// Datagrams for each system call.
const BATCH: usize = 64;

/// Larger than any datagram of the load.
const ROOM: usize = 2048;

/// What is kept of one interface: the last two receipt times, as with a threshold of two.
#[derive(Default)]
struct Ring {
    times: [u64; 2],
    next: usize,
}

/// Receives for ever, counting into a file that the parent maps too.
pub fn run(port: u16, counter: &std::path::Path) -> io::Result<()> {
    let counter = Counter::open(counter)?;
    let socket = socket(port)?;
    forced_buffer(&socket, 256 << 20)?;

    let mut table: HashMap<(u32, u32), Ring, FixedState> = HashMap::default();
    let mut room = vec![[0; ROOM]; BATCH];
    // SAFETY: all zero is a valid value of these plain C structures.
    let mut names: [libc::sockaddr_in; BATCH] = unsafe { mem::zeroed() };
    let mut parts: Vec<libc::iovec> = room
        .iter_mut()
        .map(|room| libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: ROOM })
        .collect();
    let start = Instant::now();
    loop {
        let mut messages: Vec<libc::mmsghdr> = (0..BATCH)
            .map(|at| {
                // SAFETY: all zero is a valid value of this plain C structure.
                let mut message: libc::mmsghdr = unsafe { mem::zeroed() };
                message.msg_hdr.msg_name = (&raw mut names[at]).cast();
                message.msg_hdr.msg_namelen = size_of::<libc::sockaddr_in>() as u32;
                message.msg_hdr.msg_iov = &raw mut parts[at];
                message.msg_hdr.msg_iovlen = 1;
                message
            })
            .collect();
        // SAFETY: every pointer in `messages` is to memory that outlives the call, with the
        // lengths given.
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
        let now = start.elapsed().as_nanos() as u64;
        let mut counted = 0;
        for at in 0..received as usize {
            let length = messages[at].msg_len as usize;
            let Some(fields) = decode(&room[at][..length]) else { continue };
            let key = (names[at].sin_addr.s_addr, fields.if_index);
            let ring = table.entry(key).or_default();
            ring.times[ring.next % 2] = now + u64::from(fields.trap & 1);
            ring.next += 1;
            counted += 1;
        }
        counter.0.fetch_add(counted, Ordering::Relaxed);
    }
}

/// The fields that the rules need.
struct Fields {
    trap: u8,
    if_index: u32,
    _request_id: u32,
    _uptime: u32,
}

/// snmpTrapOID.0, ifIndex and sysUpTime.0 without the leading 1.3 (RFC 3418, RFC 2863).
const TRAP_OID: [u8; 10] = [0x2b, 6, 1, 6, 3, 1, 1, 4, 1, 0];
const IF_INDEX: [u8; 9] = [0x2b, 6, 1, 2, 1, 2, 2, 1, 1];
const UPTIME: [u8; 8] = [0x2b, 6, 1, 2, 1, 1, 3, 0];

/// Reads an SNMPv2c trap as far as needed, copying nothing.
fn decode(datagram: &[u8]) -> Option<Fields> {
    let (message, _) = take(datagram, 0x30)?;
    let (_, message) = take(message, 0x02)?;
    let (community, message) = take(message, 0x04)?;
    let (pdu, _) = take(message, 0xa7)?;
    let (request_id, pdu) = take(pdu, 0x02)?;
    let (_, pdu) = take(pdu, 0x02)?;
    let (_, pdu) = take(pdu, 0x02)?;
    let (mut varbinds, _) = take(pdu, 0x30)?;
    let (mut trap, mut if_index, mut uptime) = (None, None, 0);
    while !varbinds.is_empty() {
        let (varbind, rest) = take(varbinds, 0x30)?;
        varbinds = rest;
        let (name, value) = take(varbind, 0x06)?;
        if name == TRAP_OID {
            trap = take(value, 0x06)?.0.last().copied();
        } else if name == UPTIME {
            uptime = number(take(value, 0x43)?.0);
        } else if name.starts_with(&IF_INDEX) {
            if_index = Some(number(take(value, 0x02)?.0));
        }
    }
    (community == b"public").then_some(())?;
    let (trap, if_index) = (trap?, if_index?);
    Some(Fields { trap, if_index, _request_id: number(request_id), _uptime: uptime })
}

fn number(octets: &[u8]) -> u32 {
    octets.iter().fold(0, |value, &octet| value << 8 | u32::from(octet))
}

/// The contents of the first field, which must have this tag, and what follows it.
fn take(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&[its_tag, first], rest) = bytes.split_first_chunk()?;
    if its_tag != tag {
        return None;
    }
    if first < 0x80 {
        return rest.split_at_checked(first.into());
    }
    let (octets, rest) = rest.split_at_checked((first & 0x7f).into())?;
    rest.split_at_checked(number(octets) as usize)
}
