//! Answers to informs and to SNMPv3 requests, from the very socket that the request came to and with
//! the address that it was sent to as their source: a sender takes no answer from anyone else.
//!
//! Answers are datagrams like any other: what can't be sent is counted and forgotten, as the sender
//! repeats its request. Nothing here waits, and nothing is logged, as a device could cause it.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsRawFd, OwnedFd},
    sync::{
        Arc, OnceLock, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use evenkeel_core::input::{Answer, Door};
use socket2::SockAddr;

use crate::{clock::BootClock, ear::EarSocket, gate::Gate};

/// How many answers go with one call.
const BATCH: usize = 128;

/// Room for one packet info of either family, and its header.
const CONTROL: usize = 64;

/// The trap sockets, as far as answers leave by them. Clones are the same sockets.
#[derive(Clone, Debug, Default)]
pub struct AnswerSockets {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    doors: RwLock<Doors>,
    sent: AtomicU64,
    failed: AtomicU64,
    /// Nothing for an agent that is alone.
    gate: OnceLock<Gate>,
}

#[derive(Debug, Default)]
struct Doors {
    /// By [`Door::socket`].
    sockets: BTreeMap<u16, (SocketAddr, Arc<OwnedFd>)>,
    /// The first number that was given out last.
    first: u16,
    /// The first that was not given out yet.
    next: Option<u16>,
}

impl AnswerSockets {
    /// Takes the place of the sockets before, and gives back the first of the numbers that these have
    /// as a [`Door::socket`], in their order: at the start 0, after a reload others. What is still to
    /// be answered by a socket that stays, by address, leaves by it under its old number too. The
    /// others are closed here, so that nobody holds an address that is no longer listened on.
    ///
    /// # Errors
    ///
    /// The kernel refuses another descriptor; then all stays as it was.
    pub fn replace(&self, sockets: &[EarSocket]) -> io::Result<u16> {
        let opened: Vec<(SocketAddr, Arc<OwnedFd>)> = sockets
            .iter()
            .map(|socket| Ok((socket.local(), Arc::new(socket.descriptor()?))))
            .collect::<io::Result<_>>()?;
        let mut doors = self.shared.doors.write().unwrap_or_else(PoisonError::into_inner);
        // After so many reloads that the numbers run out, they begin again.
        let first = doors.next.filter(|next| usize::from(u16::MAX - next) > opened.len());
        let first = first.unwrap_or(0);
        // Of the numbers before the last reload nothing is left to be answered.
        let oldest = doors.first;
        let before = doors.sockets.split_off(&oldest);
        let mut kept = BTreeMap::new();
        for (number, (local, _)) in before {
            if let Some(same) = opened.iter().find(|(address, _)| *address == local) {
                kept.insert(number, same.clone());
            }
        }
        for (place, socket) in opened.into_iter().enumerate() {
            kept.insert(first + place as u16, socket);
        }
        *doors = Doors { sockets: kept, first, next: Some(first + sockets.len() as u16) };
        Ok(first)
    }

    /// Answers from now on only while this gate says so, of a pair. Whoever sent an inform to one that
    /// may not speak sends it again, and is answered by whoever has taken it in (PAIR-17).
    pub fn ask(&self, gate: Gate) {
        // The first stays, and there is only one.
        let _ = self.shared.gate.set(gate);
    }

    /// Sends answers, without waiting for anything.
    pub fn send(&self, answers: &[Answer]) {
        if self.shared.gate.get().is_some_and(|gate| !gate.may_speak(BootClock::now())) {
            self.shared.failed.fetch_add(answers.len() as u64, Ordering::Relaxed);
            return;
        }
        let mut rest = answers;
        while let Some(first) = rest.first() {
            let same = rest.iter().position(|answer| answer.door.socket != first.door.socket);
            let (group, others) = rest.split_at(same.unwrap_or(rest.len()));
            rest = others;
            let socket = {
                let doors = self.shared.doors.read().unwrap_or_else(PoisonError::into_inner);
                doors.sockets.get(&first.door.socket).map(|(_, fd)| Arc::clone(fd))
            };
            let sent = socket.map_or(0, |socket| {
                group.chunks(BATCH).map(|batch| send_batch(&socket, batch)).sum::<usize>()
            });
            self.shared.sent.fetch_add(sent as u64, Ordering::Relaxed);
            self.shared.failed.fetch_add((group.len() - sent) as u64, Ordering::Relaxed);
        }
    }

    /// How many answers were sent, and how many could not be.
    pub fn counts(&self) -> (u64, u64) {
        (self.shared.sent.load(Ordering::Relaxed), self.shared.failed.load(Ordering::Relaxed))
    }
}

/// Control data, aligned as `cmsghdr` has to be.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; CONTROL]);

/// Sends at most [`BATCH`] answers by one socket, and says how many left.
fn send_batch(socket: &OwnedFd, answers: &[Answer]) -> usize {
    let names: Vec<SockAddr> = answers.iter().map(|answer| SockAddr::from(answer.to)).collect();
    let mut parts: Vec<libc::iovec> = answers
        .iter()
        .map(|answer| libc::iovec {
            // The kernel only reads it.
            iov_base: answer.bytes.as_ptr().cast_mut().cast(),
            iov_len: answer.bytes.len(),
        })
        .collect();
    let mut controls = vec![Control([0; CONTROL]); answers.len()];
    let mut messages: Vec<libc::mmsghdr> = answers
        .iter()
        .zip(&names)
        .zip(parts.iter_mut().zip(&mut controls))
        .map(|((answer, name), (part, control))| {
            // SAFETY: an mmsghdr is plain data, for which all bytes zero are valid.
            let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
            let header = &mut message.msg_hdr;
            header.msg_name = name.as_ptr().cast_mut().cast();
            header.msg_namelen = name.len();
            header.msg_iov = part;
            header.msg_iovlen = 1;
            set_source(header, control, answer.door);
            message
        })
        .collect();

    let (mut next, mut sent) = (0, 0);
    while next < messages.len() {
        let rest = &mut messages[next..];
        // SAFETY: every pointer in `rest` is to memory that lives until this function returns and is
        // as long as the length beside it says.
        let done = unsafe {
            libc::sendmmsg(
                socket.as_raw_fd(),
                rest.as_mut_ptr(),
                rest.len() as libc::c_uint,
                libc::MSG_DONTWAIT as _,
            )
        };
        if let Ok(done) = usize::try_from(done)
            && done > 0
        {
            (next, sent) = (next + done, sent + done);
            continue;
        }
        match io::Error::last_os_error().raw_os_error() {
            Some(libc::EINTR) => {}
            // The address that it was sent to is not ours to send from, such as a broadcast address
            // or one that is gone: then the kernel chooses.
            Some(libc::EINVAL | libc::EADDRNOTAVAIL | libc::ENETUNREACH)
                if rest[0].msg_hdr.msg_controllen > 0 =>
            {
                rest[0].msg_hdr.msg_control = std::ptr::null_mut();
                rest[0].msg_hdr.msg_controllen = 0;
            }
            _ => next += 1,
        }
    }
    sent
}

/// Lets a message leave with the address that the request was sent to (RFC 3542, 6.2; ip(7)).
fn set_source(header: &mut libc::msghdr, control: &mut Control, door: Door) {
    let interface = door.interface.unwrap_or(0);
    match door.local {
        None => {}
        Some(IpAddr::V4(local)) => {
            // The interface is left to the routes, which may lead back by another one, but for
            // addresses that no route tells apart.
            let interface = if local.is_link_local() { interface } else { 0 };
            let info = libc::in_pktinfo {
                ipi_ifindex: interface as _,
                ipi_spec_dst: libc::in_addr { s_addr: u32::from_ne_bytes(local.octets()) },
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            put(header, control, libc::IPPROTO_IP, libc::IP_PKTINFO, info);
        }
        Some(IpAddr::V6(local)) => {
            let interface = if local.is_unicast_link_local() { interface } else { 0 };
            let info = libc::in6_pktinfo {
                ipi6_addr: libc::in6_addr { s6_addr: local.octets() },
                ipi6_ifindex: interface as _,
            };
            put(header, control, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info);
        }
    }
}

/// Makes `value` the one control message of a message.
fn put<T>(
    header: &mut libc::msghdr,
    control: &mut Control,
    level: libc::c_int,
    kind: libc::c_int,
    value: T,
) {
    let length = size_of::<T>() as libc::c_uint;
    header.msg_control = control.0.as_mut_ptr().cast();
    // SAFETY: these only compute with their argument.
    let (space, with_header) = unsafe { (libc::CMSG_SPACE(length), libc::CMSG_LEN(length)) };
    assert!(space as usize <= CONTROL, "a packet info of either family fits");
    header.msg_controllen = space as _;
    // SAFETY: msg_control is aligned and has msg_controllen bytes, which have room for one header
    // and the value; the value is written unaligned, as only the header's alignment is promised.
    unsafe {
        let message = libc::CMSG_FIRSTHDR(header);
        (*message).cmsg_level = level;
        (*message).cmsg_type = kind;
        (*message).cmsg_len = with_header as _;
        libc::CMSG_DATA(message).cast::<T>().write_unaligned(value);
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;
    use crate::ear::udp;

    fn answer(socket: u16, local: Option<&str>, to: SocketAddr, bytes: &[u8]) -> Answer {
        let local = local.map(|local| local.parse().unwrap());
        let door = Door { socket, local, interface: None };
        Answer { door, to, bytes: bytes.to_vec(), after: None }
    }

    fn receiver(address: &str) -> (UdpSocket, SocketAddr) {
        let socket = UdpSocket::bind(address).unwrap();
        socket.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
        let local = socket.local_addr().unwrap();
        (socket, local)
    }

    #[test]
    fn trap_5_an_answer_comes_from_where_the_request_was_sent_to() {
        let v4 = udp::open("0.0.0.0:0".parse().unwrap(), 4096).unwrap();
        let v6 = udp::open("[::]:0".parse().unwrap(), 4096).unwrap();
        let sockets = AnswerSockets::default();
        assert_eq!(
            sockets.replace(&[v4.try_clone().unwrap(), v6.try_clone().unwrap()]).unwrap(),
            0
        );
        let (in_v4, to_v4) = receiver("127.0.0.1:0");
        let (in_v6, to_v6) = receiver("[::1]:0");
        sockets.send(&[
            answer(0, Some("127.0.0.2"), to_v4, b"one"),
            answer(1, Some("::1"), to_v6, b"two"),
            answer(0, Some("127.7.7.7"), to_v4, b"three"),
            // Not an address of this host: the kernel chooses.
            answer(0, Some("203.0.113.9"), to_v4, b"four"),
            answer(0, None, to_v4, b"five"),
            // No such socket, and an address that can't be reached from there.
            answer(2, None, to_v4, b"six"),
            answer(0, None, to_v6, b"seven"),
            answer(0, Some("127.0.0.2"), to_v4, b"eight"),
        ]);
        let mut buffer = [0; 16];
        let mut next = |socket: &UdpSocket| {
            let (length, from) = socket.recv_from(&mut buffer).unwrap();
            (String::from_utf8(buffer[..length].to_vec()).unwrap(), from)
        };
        let port = v4.local().port();
        for (text, from) in [
            ("one", [127, 0, 0, 2]),
            ("three", [127, 7, 7, 7]),
            ("four", [127, 0, 0, 1]),
            ("five", [127, 0, 0, 1]),
            ("eight", [127, 0, 0, 2]),
        ] {
            assert_eq!(next(&in_v4), (text.to_owned(), SocketAddr::from((from, port))));
        }
        assert_eq!(next(&in_v6).1, SocketAddr::new(to_v6.ip(), v6.local().port()));
        assert_eq!(sockets.counts(), (6, 2));
    }

    #[test]
    fn a_reload_keeps_the_doors_of_sockets_that_stay_and_closes_the_others() {
        let [a, b, c] = [(); 3].map(|()| udp::open("127.0.0.1:0".parse().unwrap(), 4096).unwrap());
        let (receiver, to) = receiver("127.0.0.1:0");
        let sockets = AnswerSockets::default();
        sockets.replace(&[a.try_clone().unwrap(), b.try_clone().unwrap()]).unwrap();
        assert_eq!(sockets.replace(&[c.try_clone().unwrap(), b.try_clone().unwrap()]).unwrap(), 2);
        let gone = a.local();
        drop(a);
        UdpSocket::bind(gone).expect("nobody holds it any more");
        for (door, from) in [(0, None), (1, Some(&b)), (2, Some(&c)), (3, Some(&b))] {
            let (before, _) = sockets.counts();
            sockets.send(&[answer(door, None, to, b"x")]);
            assert_eq!(sockets.counts().0 - before, u64::from(from.is_some()), "door {door}");
            if let Some(from) = from {
                assert_eq!(receiver.recv_from(&mut [0; 8]).unwrap().1, from.local(), "door {door}");
            }
        }
        // A reload later nothing is left of the first numbers, and they run out without harm.
        assert_eq!(sockets.replace(&[b.try_clone().unwrap()]).unwrap(), 4);
        sockets.send(&[answer(1, None, to, b"x")]);
        assert_eq!(sockets.counts(), (3, 2));
        for _ in 0..70_000 {
            let door = sockets.replace(std::slice::from_ref(&b)).unwrap();
            if door == 0 {
                sockets.send(&[answer(0, None, to, b"x")]);
                assert_eq!(sockets.counts(), (4, 2));
                return;
            }
        }
        panic!("the numbers never began again");
    }

    #[test]
    fn more_answers_than_one_call_takes_all_leave() {
        let socket = udp::open("127.0.0.1:0".parse().unwrap(), 4096).unwrap();
        let sockets = AnswerSockets::default();
        sockets.replace(std::slice::from_ref(&socket)).unwrap();
        let (receiver, to) = receiver("127.0.0.1:0");
        let answers: Vec<Answer> =
            (0..=200_u8).map(|n| answer(0, Some("127.0.0.1"), to, &[n])).collect();
        sockets.send(&answers);
        let mut octet = [0];
        for number in 0..=200 {
            receiver.recv_from(&mut octet).unwrap();
            assert_eq!(octet, [number]);
        }
    }
}
