//! Ears on the loopback interface.

use std::{
    net::{Ipv6Addr, UdpSocket},
    time::Duration,
};

use evenkeel_core::settings::Rate;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::*;
use crate::clock::Clock;

/// An ear and the batches that came out of it.
pub(super) struct Listener {
    pub ear: Option<EarHandle>,
    batches: UnboundedReceiver<Batch>,
    runtime: tokio::runtime::Runtime,
}

impl Listener {
    pub fn new(sockets: Vec<EarSocket>, limits: Limits) -> Listener {
        let (tx, batches) = unbounded_channel();
        let ear = spawn("test ear", Part::TrapIntake, sockets, tx, limits).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        Listener { ear: Some(ear), batches, runtime }
    }

    pub fn ear(&self) -> &EarHandle {
        self.ear.as_ref().unwrap()
    }

    /// The next batch; nothing once the ear has ended.
    pub fn next(&mut self) -> Option<Batch> {
        let next = self.batches.recv();
        self.runtime
            .block_on(async { tokio::time::timeout(Duration::from_secs(20), next).await })
            .expect("a batch within 20 s")
    }

    /// All batches until `enough` datagrams have come.
    pub fn datagrams(&mut self, enough: usize) -> Vec<Batch> {
        let mut batches = Vec::new();
        let mut count = 0;
        while count < enough {
            let batch = self.next().expect("the ear goes on");
            count += batch.datagrams.len();
            batches.push(batch);
        }
        assert_eq!(count, enough, "no datagram came that nobody sent");
        batches
    }

    /// All batches until everything that came before this moment has been handed in.
    pub fn all_until_now(&mut self) -> Vec<Batch> {
        let asked = Clock::now();
        self.ear().ask();
        let mut batches = Vec::new();
        loop {
            batches.push(self.next().expect("the ear goes on"));
            if batches.last().is_some_and(|batch| batch.heard >= asked) {
                return batches;
            }
        }
    }
}

fn trap_socket(address: &str) -> EarSocket {
    udp::open(address.parse().unwrap(), 16 << 20).unwrap()
}

fn sender(to: &EarSocket) -> UdpSocket {
    let from: SocketAddr = match to.local() {
        SocketAddr::V4(_) => ([127, 0, 0, 1], 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::LOCALHOST, 0).into(),
    };
    let sender = UdpSocket::bind(from).unwrap();
    sender.connect(to.local()).unwrap();
    sender
}

fn payloads(batches: &[Batch]) -> Vec<Vec<u8>> {
    batches.iter().flat_map(|batch| batch.iter().map(|(_, bytes)| bytes.to_vec())).collect()
}

#[test]
fn a_burst_of_ten_thousand_arrives_whole_and_in_order() {
    let socket = trap_socket("127.0.0.1:0");
    let sender = sender(&socket);
    // Where the kernel grants little, the burst is cut into what fits, at 832 of the doubled bytes
    // for each datagram.
    let window = (socket.buffer_granted() * 2 / 1024).min(10_000);
    let mut listener = Listener::new(vec![socket], Limits::default());
    let began = Clock::now();
    let mut next = 0u32;
    let mut last = began;
    while next < 10_000 {
        let end = (next + window as u32).min(10_000);
        for number in next..end {
            sender.send(&number.to_be_bytes()).unwrap();
        }
        let batches = listener.datagrams((end - next) as usize);
        let read = Clock::now();
        let mut heard = Time::ZERO;
        for batch in &batches {
            for (meta, bytes) in batch.iter() {
                assert_eq!(bytes, next.to_be_bytes());
                assert_eq!(meta.source, sender.local_addr().unwrap());
                assert!(last <= meta.received && meta.received <= read, "{next}: {meta:?}");
                assert!(meta.received >= heard, "received after it was said to have been heard");
                last = meta.received;
                next += 1;
            }
            assert!(batch.heard >= heard, "heard went back");
            assert_eq!(batch.lost, 0);
            heard = batch.heard;
        }
    }
    let stats = listener.ear().stats();
    assert_eq!(stats.sockets[0].datagrams.load(Ordering::Relaxed), 10_000);
    assert_eq!(stats.sockets[0].kernel_drops.load(Ordering::Relaxed), 0);
    assert_eq!(stats.waiting.load(Ordering::Relaxed), 0, "all batches are gone");
}

#[test]
fn large_and_empty_datagrams_arrive_whole_among_small_ones() {
    let socket = trap_socket("127.0.0.1:0");
    let sender = sender(&socket);
    let sent: Vec<Vec<u8>> = [60_000usize, 1, 65_507, 2047, 2048, 2049, 0, 121]
        .iter()
        .map(|len| (0..*len).map(|i| (i % 251 + len % 7) as u8).collect())
        .collect();
    for bytes in &sent {
        sender.send(bytes).unwrap();
    }
    let mut listener = Listener::new(vec![socket], Limits::default());
    let batches = listener.datagrams(sent.len());
    assert!(payloads(&batches) == sent);
    assert!(batches.iter().flat_map(|batch| &batch.datagrams).all(|meta| !meta.truncated));
    // What waits in memory is proportional to what came.
    for batch in &batches {
        assert!(batch.bytes.capacity() <= batch.bytes.len() + 64);
    }
}

#[test]
fn an_idle_ear_answers_when_it_is_asked() {
    let mut listener =
        Listener::new(vec![trap_socket("127.0.0.1:0"), trap_socket("[::1]:0")], Limits::default());
    for _ in 0..100 {
        let asked = Clock::now();
        let batches = listener.all_until_now();
        assert!(batches.iter().all(|batch| batch.datagrams.is_empty()));
        assert!(batches.last().unwrap().heard >= asked);
    }
}

#[test]
fn datagrams_of_several_sockets_come_in_the_order_of_their_receipt() {
    let sockets = vec![trap_socket("127.0.0.1:0"), trap_socket("[::1]:0")];
    let senders: Vec<UdpSocket> = sockets.iter().map(sender).collect();
    for number in 0..200u32 {
        senders[number as usize % 2].send(&number.to_be_bytes()).unwrap();
    }
    let mut listener = Listener::new(sockets, Limits::default());
    for batch in listener.datagrams(200) {
        assert!(batch.datagrams.is_sorted_by_key(|meta| meta.received));
        for (meta, bytes) in batch.iter() {
            let number = u32::from_be_bytes(bytes.try_into().unwrap());
            assert_eq!(u32::from(meta.socket), number % 2, "bytes stay with their datagram");
        }
    }
}

#[test]
fn what_does_not_fit_into_the_queue_is_dropped_newest_first_and_counted() {
    let socket = trap_socket("127.0.0.1:0");
    let sender = sender(&socket);
    for number in 0..1000u32 {
        sender.send(&number.to_be_bytes()).unwrap();
    }
    let each = size_of::<DatagramMeta>() + 4;
    let mut listener =
        Listener::new(vec![socket], Limits { max_waiting: 100 * each, ..Limits::default() });
    let mut batches = Vec::new();
    while listener.ear().stats().sockets[0].datagrams.load(Ordering::Relaxed) < 1000 {
        batches.append(&mut listener.all_until_now());
    }
    // What was read last may have been counted before it was judged.
    batches.append(&mut listener.all_until_now());
    let kept = payloads(&batches);
    let first: Vec<Vec<u8>> = (0..100u32).map(|number| number.to_be_bytes().to_vec()).collect();
    assert_eq!(kept, first, "the oldest are kept");
    let stats = listener.ear().stats().clone();
    assert_eq!(stats.queue_full.load(Ordering::Relaxed), 900);
    assert_eq!(stats.sockets[0].datagrams.load(Ordering::Relaxed), 1000);
    assert_eq!(batches.iter().map(|batch| batch.lost).sum::<u64>(), 900);
    assert!(stats.waiting.load(Ordering::Relaxed) >= 100 * each);

    drop(batches);
    assert_eq!(stats.waiting.load(Ordering::Relaxed), 0);
    sender.send(b"again").unwrap();
    assert_eq!(payloads(&listener.datagrams(1)), [b"again"]);
}

#[test]
fn what_the_kernel_drops_is_counted_with_the_burst_that_lost_it() {
    let socket = udp::open("127.0.0.1:0".parse().unwrap(), 8192).unwrap();
    let sender = sender(&socket);
    for number in 0..1000u32 {
        sender.send(&number.to_be_bytes()).unwrap();
    }
    let mut listener = Listener::new(vec![socket], Limits::default());
    // A socket's drops and its datagrams add up to what was sent.
    let (mut kept, mut lost) = (0, 0);
    while kept + lost < 1000 {
        for batch in listener.all_until_now() {
            kept += batch.datagrams.len() as u64;
            lost += batch.lost;
        }
    }
    assert_eq!(kept + lost, 1000);
    assert!(lost > 0);
    let stats = &listener.ear().stats().sockets[0];
    assert_eq!(stats.kernel_drops.load(Ordering::Relaxed), lost);
}

#[test]
fn an_ear_that_takes_the_place_of_another_tells_no_drop_again() {
    let held = udp::open("127.0.0.1:0".parse().unwrap(), 8192).unwrap();
    let sender = sender(&held);
    for number in 0..1000u32 {
        sender.send(&number.to_be_bytes()).unwrap();
    }
    let lost = |batches: &[Batch]| batches.iter().map(|batch| batch.lost).sum::<u64>();
    let mut first = Listener::new(vec![held.try_clone().unwrap()], Limits::default());
    assert!(lost(&first.all_until_now()) > 0);
    drop(first);
    let mut second = Listener::new(vec![held.succeed().unwrap()], Limits::default());
    sender.send(b"after the reload").unwrap();
    assert_eq!(lost(&second.datagrams(1)), 0);
}

#[test]
fn trap_5_a_datagram_says_where_it_came_to() {
    let sockets = vec![trap_socket("0.0.0.0:0"), trap_socket("[::]:0")];
    let ports: Vec<u16> = sockets.iter().map(|socket| socket.local().port()).collect();
    let limits = Limits { first_door: 7, ..Limits::default() };
    let mut listener = Listener::new(sockets, limits);
    let v4 = UdpSocket::bind("127.0.0.1:0").unwrap();
    let v6 = UdpSocket::bind("[::1]:0").unwrap();
    for (from, to, port, door) in [
        (&v4, "127.0.0.1", ports[0], 7),
        (&v4, "127.3.2.1", ports[0], 7),
        (&v6, "::1", ports[1], 8),
    ] {
        let to: IpAddr = to.parse().unwrap();
        from.send_to(b"x", (to, port)).unwrap();
        let meta = listener.datagrams(1)[0].datagrams[0];
        // The loopback interface has index 1 in every network namespace.
        assert_eq!((meta.local, meta.interface, meta.socket), (Some(to), Some(1), door));
    }
}

#[test]
fn trap_6_what_one_source_sends_beyond_its_limit_is_dropped_and_counted() {
    let socket = trap_socket("127.0.0.1:0");
    let to = socket.local();
    let loud = sender(&socket);
    let quiet = UdpSocket::bind("127.0.0.9:0").unwrap();
    for number in 0..500u32 {
        loud.send(&number.to_be_bytes()).unwrap();
    }
    quiet.send_to(b"here", to).unwrap();
    let sources = SourceLimits {
        default: Some(Rate { per_second: 1, burst: 20 }),
        ..SourceLimits::default()
    };
    let mut listener =
        Listener::new(vec![socket], Limits { sources: Some(sources), ..Limits::default() });
    let mut batches = Vec::new();
    while listener.ear().stats().sockets[0].datagrams.load(Ordering::Relaxed) < 501 {
        batches.append(&mut listener.all_until_now());
    }
    batches.append(&mut listener.all_until_now());
    let mut kept = payloads(&batches);
    assert_eq!(kept.pop().unwrap(), b"here", "the quiet one's is taken");
    // One more a second may have come in on a busy machine.
    assert!((20..30).contains(&kept.len()), "{}", kept.len());
    assert_eq!(kept[19], 19u32.to_be_bytes(), "the first are taken");
    let limited = batches.iter().map(|batch| batch.limited).sum::<u64>();
    assert_eq!(limited as usize, 500 - kept.len());
    assert_eq!(listener.ear().stats().limited.load(Ordering::Relaxed), limited);
    assert_eq!(batches.iter().map(|batch| batch.lost).sum::<u64>(), 0, "it is no loss");
}

#[test]
fn an_ear_that_is_stopped_first_hands_in_what_it_has() {
    let socket = trap_socket("127.0.0.1:0");
    let sender = sender(&socket);
    let mut listener = Listener::new(vec![socket], Limits::default());
    listener.all_until_now();
    for number in 0..5000u32 {
        sender.send(&number.to_be_bytes()).unwrap();
    }
    let stopped = Clock::now();
    listener.ear.take().unwrap().stop();
    let mut count = 0;
    let mut heard = Time::ZERO;
    while let Some(batch) = listener.next() {
        count += batch.datagrams.len();
        heard = batch.heard;
    }
    assert_eq!(count, 5000);
    assert!(heard >= stopped, "the last batch says that it is the last");
}

#[test]
fn an_ear_ends_when_nobody_listens() {
    let (tx, rx) = unbounded_channel();
    let ear = spawn(
        "test ear",
        Part::TrapIntake,
        vec![trap_socket("127.0.0.1:0")],
        tx,
        Limits::default(),
    )
    .unwrap();
    drop(rx);
    ear.ask();
    ear.stop();
}

#[test]
fn ipv4_senders_on_an_ipv6_socket_have_ipv4_addresses() {
    let socket = Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP)).unwrap();
    socket.set_only_v6(false).unwrap();
    socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)).into()).unwrap();
    let socket = EarSocket::new(socket, 4096, None).unwrap();
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    sender.send_to(b"mapped", ("127.0.0.1", socket.local().port())).unwrap();
    let mut listener = Listener::new(vec![socket], Limits::default());
    let batches = listener.datagrams(1);
    assert_eq!(batches[0].datagrams[0].source, sender.local_addr().unwrap());
}

/// A connected UDP socket reports that nobody listens at the other end.
#[test]
fn an_error_that_pends_on_a_socket_is_counted_and_ends_nothing() {
    let gone = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.connect(&gone.into()).unwrap();
    let other_end = socket.try_clone().unwrap();
    let socket = EarSocket::new(socket, 4096, None).unwrap();
    let mut listener = Listener::new(vec![socket], Limits::default());
    listener.all_until_now();

    other_end.send(b"nobody").unwrap();
    // The port unreachable is there before the send returns, or comes soon after.
    while listener.ear().stats().sockets[0].errors.load(Ordering::Relaxed) == 0 {
        listener.all_until_now();
    }
    let back = UdpSocket::bind(gone).unwrap();
    back.send_to(b"here again", other_end.local_addr().unwrap().as_socket().unwrap()).unwrap();
    assert_eq!(payloads(&listener.datagrams(1)), [b"here again"]);
}
