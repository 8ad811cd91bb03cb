//! Echoes to this host itself: they need CAP_NET_RAW, and are passed over, with a word, where it is
//! missing.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::{Duration, Instant},
};

use evenkeel_core::{
    peers::{
        Answer, Discard, Request,
        echo::{Echo, LEN},
    },
    time::Time,
};
use socket2::{Domain, Protocol, Socket, Type};

use super::{
    receive::Receiver,
    send::{CHUNK, Sender},
    *,
};
use crate::clock::Clock;

/// The tests run side by side and hear each other's messages: each takes identifiers of its own.
const RATED: [u16; 4] = [0x7a00, 0x7a04, 0x7a08, 0x7a0c];

fn socket(v4: bool, source: Option<&str>, identifier: u16) -> Option<EchoSocket> {
    let key = Key { v4, source: source.map(|source| source.parse().unwrap()) };
    match EchoSocket::open(key, identifier, 1 << 20) {
        Ok(socket) if socket.stats.raw => Some(socket),
        refused => {
            eprintln!("passed over: {refused:?}");
            None
        }
    }
}

fn request(place: u32, address: &str) -> Request {
    Request {
        place,
        address: address.parse().unwrap(),
        group: 0,
        sequence: 0x1_0000 + place,
        token: place.wrapping_mul(0x9e37_79b9),
        retransmission: false,
        down: false,
    }
}

fn send(socket: &mut EchoSocket, requests: &[Request], now: Time) -> Vec<(u32, libc::c_int)> {
    let mut failed = Vec::new();
    let mut sender = Sender::new();
    for chunk in requests.chunks(CHUNK) {
        let tell = |request: &Request, errno| failed.push((request.place, errno));
        sender.send(socket, chunk, now, &mut true, tell);
    }
    failed
}

/// Reads until so many have come.
fn receive(socket: &mut EchoSocket, count: usize) -> Vec<Result<Answer, Discard>> {
    let mut receiver = Receiver::new();
    let mut said = Vec::new();
    let end = Instant::now() + Duration::from_secs(20);
    while said.len() < count {
        assert!(Instant::now() < end, "{} of {count}: {said:?}", said.len());
        receiver.drain(socket, |one| said.push(one));
        std::thread::yield_now();
    }
    said
}

#[test]
fn echoes_to_this_host_come_back_as_they_went() {
    for (v4, to, source, identifier) in [
        (true, "127.0.0.41", None, RATED[0]),
        (true, "127.0.0.42", Some("127.0.0.43"), RATED[1]),
        (false, "::1", None, RATED[2]),
        (false, "::1", Some("::1"), RATED[3]),
    ] {
        let Some(mut socket) = socket(v4, source, identifier) else { return };
        let mut requests: Vec<Request> = (0..20).map(|place| request(place, to)).collect();
        requests[7].down = true;
        let now = Clock::now();
        assert_eq!(send(&mut socket, &requests, now), [], "{to}");
        let said = receive(&mut socket, requests.len());
        for (request, said) in requests.iter().zip(said) {
            let answer = said.unwrap();
            let wanted = Answer {
                place: request.place,
                source: request.address,
                sequence: request.sequence,
                token: Some(request.token),
                interface: Some(1),
                received: answer.received,
                sent: Some(now),
                restart_counter: None,
            };
            assert_eq!(answer, wanted, "{to}");
            assert!(now <= answer.received && answer.received <= Clock::now());
        }
        assert!(socket.floor > now);
        assert_eq!((socket.stats.sent, socket.stats.received), (20, 20));
    }
}

/// One request to an address that can't be reached fails, and those around it leave.
#[test]
fn peer_12_only_what_the_kernel_did_not_take_has_failed() {
    let Some(mut socket) = socket(true, Some("127.0.0.44"), 0x7a10) else { return };
    let requests = [
        request(0, "127.0.0.45"),
        // A source on loopback reaches no other host.
        request(1, "192.0.2.1"),
        request(2, "::1"),
        request(3, "127.0.0.45"),
    ];
    let failed = send(&mut socket, &requests, Clock::now());
    let places: Vec<u32> = failed.iter().map(|(place, _)| *place).collect();
    assert_eq!(places, [1, 2], "{failed:?}");
    let said = receive(&mut socket, 2);
    let places: Vec<u32> = said.into_iter().map(|said| said.unwrap().place).collect();
    assert_eq!(places, [0, 3]);
}

#[test]
fn a_source_that_this_host_does_not_have_fails_each_request() {
    for (v4, source, to) in [(true, "203.0.113.77", "127.0.0.1"), (false, "2001:db8::77", "::1")] {
        let Some(mut socket) = socket(v4, Some(source), 0x7a14) else { return };
        let failed = send(&mut socket, &[request(0, to), request(1, to)], Clock::now());
        // With which error depends on the kernel.
        let places: Vec<u32> = failed.iter().map(|(place, _)| *place).collect();
        assert_eq!(places, [0, 1], "{source}: {failed:?}");
    }
}

/// Of the answers that somebody makes up, the filter keeps out what is another's; what it lets
/// through is told by reason.
#[test]
fn peer_11_made_up_answers_are_kept_out_or_told_by_reason() {
    const OURS: u16 = 0x7a18;
    let Some(mut socket) = socket(true, None, OURS) else { return };
    let sender = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4)).unwrap();
    let to = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 46), 0)).into();
    let echo = Echo { identifier: OURS, place: 1, sequence: 2, token: 3, sent: Time::ZERO };
    let answer = |echo: &Echo| {
        let mut message = [0; LEN];
        echo.write_v4(&mut message);
        message[0] = 0;
        // The type was 8, in the upper byte of the first pair.
        let sum = u16::from_be_bytes([message[2], message[3]]);
        let (sum, carry) = sum.overflowing_add(0x0800);
        message[2..4].copy_from_slice(&(sum + u16::from(carry)).to_be_bytes());
        message.to_vec()
    };
    let good = answer(&echo);
    let mut damaged = good.clone();
    damaged[20] ^= 1;
    let mut request = good.clone();
    request[0] = 8;
    let others = answer(&Echo { identifier: OURS + 4, ..echo });
    let long = [&good[..], &[0; 200]].concat();
    let late = answer(&Echo { sent: Time::MAX, ..echo });
    for message in [&others, &damaged, &good[..12].to_vec(), &request, &long, &others, &late, &good]
    {
        sender.send_to(message, &to).unwrap();
    }
    let said = receive(&mut socket, 5);
    let told: Vec<_> = said
        .iter()
        .map(|said| said.as_ref().map(|answer| answer.sent).map_err(|why| *why))
        .collect();
    let wanted = [
        Err(Discard::BadChecksum),
        Err(Discard::Truncated),
        Err(Discard::Malformed),
        Ok(None),
        Ok(Some(Time::ZERO)),
    ];
    assert_eq!(told, wanted);
}

#[test]
fn what_to_do_without_any_socket_is_said() {
    let error = OpenError::Denied { source: std::io::ErrorKind::PermissionDenied.into() };
    assert_eq!(
        error.to_string(),
        "cannot send echoes to peers: a raw ICMP socket needs CAP_NET_RAW (under systemd set \
         AmbientCapabilities=CAP_NET_RAW, or run `setcap cap_net_raw+ep` on the evenkeel binary), \
         and a ping socket a group of this process within `sysctl net.ipv4.ping_group_range`"
    );
}

#[test]
fn each_source_has_a_socket_and_groups_share_them() {
    let group = |v4: Option<[u8; 4]>, v6: Option<Ipv6Addr>| {
        let mut group = peers::settings::Group::named("x");
        group.source_v4 = v4.map(Ipv4Addr::from);
        group.source_v6 = v6;
        group
    };
    let (first, second) = ([192, 0, 2, 1], Ipv6Addr::LOCALHOST);
    let mut mobile = group(Some([192, 0, 2, 9]), None);
    mobile.kind = peers::settings::Heartbeat::ProxyMobile;
    let groups = vec![
        group(None, None),
        group(Some(first), None),
        mobile,
        group(Some(first), Some(second)),
        group(None, None),
    ];
    let keys = Key::all(&Settings { groups, ..Settings::default() });
    let key = |v4, source: Option<IpAddr>| Key { v4, source };
    let wanted = [
        key(true, None),
        key(false, None),
        key(true, Some(IpAddr::from(first))),
        key(false, Some(second.into())),
    ];
    assert_eq!(keys, wanted);
}

#[test]
fn identifiers_of_our_sockets_differ_beyond_the_bits_that_vary() {
    let mut identifiers = Identifiers { next: 0xfffc };
    assert_eq!([(); 3].map(|()| identifiers.take()), [0xfffc, 0, 4]);
    assert_eq!(Identifiers::new().take() & !IDENTIFIER, 0);
}
