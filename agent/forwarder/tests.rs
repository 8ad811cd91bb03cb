//! The forwarder over real sockets on loopback. What takes root is done in a network namespace that
//! the test makes for its own thread, and is passed over, with a word, where that is not allowed.

use std::{
    net::{IpAddr, UdpSocket},
    process::Command,
    time::Duration,
};

use evenkeel_core::{
    alarm::System,
    ber::tag,
    ber_writer::Writer,
    sender::Version,
    time::{Time, WallTime},
    trap::{self, Form, Trap},
    usm::EngineId,
};

use crate::gate::Gate;

use super::*;

const NOW: Time = Time::from_secs(1000);
const SNMP_TRAP_ADDRESS: &[u8] = &[0x2b, 6, 1, 6, 3, 18, 1, 3, 0];

/// A linkDown of interface 3 of 192.0.2.7, which goes to these places.
pub(super) fn taken(request_id: u32, places: &[u16]) -> Taken {
    let mut list = Writer::new();
    let mut add = |name: &[u32], write: &dyn Fn(&mut Writer)| {
        list.nested(tag::SEQUENCE, |varbind| {
            varbind.oid(name).unwrap();
            write(varbind);
        });
    };
    add(&[1, 3, 6, 1, 2, 1, 1, 3, 0], &|value| value.unsigned(tag::TIME_TICKS, 4711));
    add(&[1, 3, 6, 1, 6, 3, 1, 1, 4, 1, 0], &|value| {
        value.oid(&[1, 3, 6, 1, 6, 3, 1, 1, 5, 3]).unwrap();
    });
    add(&[1, 3, 6, 1, 2, 1, 2, 2, 1, 1, 3], &|value| value.integer(3));
    let source = "192.0.2.7:50162".parse().unwrap();
    Taken {
        number: None,
        received: NOW,
        wall: WallTime(0),
        source,
        system: System(source.ip()),
        form: Form::V2c,
        request_id: Some(request_id),
        community: b"from the device".to_vec(),
        varbinds: list.into_bytes(),
        original: Some(format!("original {request_id}").into_bytes()),
        targets: places.into(),
    }
}

pub(super) fn target(name: &str, address: SocketAddr, origin: Origin) -> Option<ForwardTarget> {
    let version = Version::V2c { community: b"nms".to_vec() };
    let destination = Destination { version, confirmed: false };
    Some(ForwardTarget {
        name: name.to_owned(),
        address,
        destination,
        origin,
        with_community: false,
    })
}

pub(super) fn local() -> LocalEngine {
    let id = EngineId::new(&[0x80, 0, 0x1f, 0x88, 4, 7]).unwrap();
    LocalEngine { id, boots: 1, started: Time::ZERO }
}

fn start(targets: Vec<Option<ForwardTarget>>, max_waiting: usize) -> Forwarder {
    Forwarder::start(targets, &RootOid::default(), local(), max_waiting, Gate::alone()).unwrap()
}

/// The thread's work without the thread, so that a test says what happens when.
fn worker(targets: Vec<Option<ForwardTarget>>) -> (Worker, Slots) {
    let slots = slots(targets, &[]).unwrap();
    (Worker::new(slots.clone(), &RootOid::default(), local(), Arc::default(), Gate::alone()), slots)
}

fn stats(slots: &Slots, place: usize) -> ForwardStats {
    let slot = slots[place].as_ref().unwrap();
    slot.counters.read(&slot.target.name)
}

fn count(by_reason: &[(&'static str, u64)], reason: &str) -> u64 {
    by_reason.iter().find(|(name, _)| *name == reason).unwrap().1
}

/// An NMS.
pub(super) struct Nms(pub(super) UdpSocket);

impl Nms {
    pub(super) fn at(address: &str) -> Nms {
        let socket = UdpSocket::bind(address).unwrap();
        // What is sent over loopback is there when the system call returns.
        socket.set_nonblocking(true).unwrap();
        Nms(socket)
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    fn next(&self) -> Option<(Vec<u8>, SocketAddr)> {
        let mut buffer = vec![0; 1 << 16];
        let (length, from) = self.0.recv_from(&mut buffer).ok()?;
        buffer.truncate(length);
        Some((buffer, from))
    }

    /// The request-ids of all that has come, each a trap.
    fn request_ids(&self) -> Vec<u32> {
        std::iter::from_fn(|| self.next())
            .map(|(datagram, _)| Trap::decode(&datagram).unwrap().request_id.unwrap())
            .collect()
    }
}

#[test]
fn trap_9_a_trap_goes_on_with_the_address_of_its_system_and_our_mark() {
    let (one, two) = (Nms::at("127.0.0.1:0"), Nms::at("[::1]:0"));
    let mut with_community = target("two", two.address(), Origin::Address).unwrap();
    with_community.with_community = true;
    let (mut worker, slots) =
        worker(vec![target("one", one.address(), Origin::Address), None, Some(with_community)]);
    worker.forward(&[taken(7, &[0, 1, 2, 9])], NOW);
    assert_eq!(one.next(), None, "a datagram waits for others");
    worker.flush(NOW);

    let expected = |more: usize, datagram: &[u8]| {
        let Trap { community, request_id, trap_address, uptime, varbinds, .. } =
            Trap::decode(datagram).unwrap();
        assert_eq!(community, b"nms");
        assert_eq!((request_id, uptime), (Some(7), Some(4711)));
        assert_eq!(trap_address.unwrap().to_string(), "192.0.2.7");
        let all: Vec<_> = trap::varbinds(varbinds).collect();
        assert_eq!(all.len(), 5 + more);
        assert_eq!(all[3].0, SNMP_TRAP_ADDRESS);
        assert_eq!(all.last().unwrap().2, local().id.octets());
    };
    expected(0, &one.next().unwrap().0);
    expected(1, &two.next().unwrap().0);
    for place in [0, 2] {
        assert_eq!((stats(&slots, place).forwarded, stats(&slots, place).errors), (1, 0));
    }
}

#[test]
fn a_trap_waits_for_others_for_a_millisecond_at_most() {
    let nms = Nms::at("127.0.0.1:0");
    let (mut worker, _) = worker(vec![target("nms", nms.address(), Origin::Address)]);
    worker.forward(&[taken(1, &[0])], NOW);
    worker.forward(&[taken(2, &[0])], NOW + Duration::from_micros(999));
    assert!(nms.request_ids().is_empty());
    worker.forward(&[taken(3, &[])], NOW + Duration::from_millis(1));
    assert_eq!(nms.request_ids(), [1, 2]);
    // As many as fit do not wait.
    let group: Vec<Taken> = (0..257).map(|id| taken(id, &[0])).collect();
    worker.forward(&group, NOW);
    assert_eq!(nms.request_ids(), (0..256).collect::<Vec<_>>());
    worker.flush(NOW);
    assert_eq!(nms.request_ids(), [256]);
}

#[test]
fn a_trap_without_a_request_id_gets_one_that_its_copies_share() {
    let nms = Nms::at("127.0.0.1:0");
    let (mut worker, _) = worker(vec![target("nms", nms.address(), Origin::Address)]);
    let without = |system: &str| Taken {
        request_id: None,
        system: System(system.parse().unwrap()),
        ..taken(0, &[0])
    };
    worker.forward(&[without("192.0.2.7"), without("192.0.2.7"), without("192.0.2.8")], NOW);
    // A request-id of more than 31 bits is negative (RFC 3416, section 3).
    worker.forward(&[taken(0x8000_0007, &[0]), taken(0x7fff_ffff, &[0])], NOW);
    worker.flush(NOW);
    let ids = nms.request_ids();
    assert_eq!(ids[0], ids[1]);
    assert_ne!(ids[0], ids[2]);
    assert_eq!(ids[3], ids[0], "made of the same");
    assert_eq!(ids[4], 0x7fff_ffff);
    assert!(ids.iter().all(|id| i32::try_from(*id).is_ok()));
}

#[test]
fn that_nobody_listened_costs_no_trap_after_it() {
    let nms = Nms::at("127.0.0.1:0");
    let address = nms.address();
    let (mut worker, slots) = worker(vec![target("nms", address, Origin::Address)]);
    drop(nms);
    let mut send = |ids: std::ops::Range<u32>| {
        let batch: Vec<Taken> = ids.map(|id| taken(id, &[0])).collect();
        worker.forward(&batch, NOW);
        worker.flush(NOW);
    };
    send(0..3);
    let nms = Nms::at(&address.to_string());
    send(3..6);
    assert_eq!(nms.request_ids(), [3, 4, 5]);
    let stats = stats(&slots, 0);
    assert_eq!((stats.forwarded, stats.errors), (6, 0));
    assert!(stats.refused >= 1);
}

#[test]
fn what_cannot_be_sent_costs_nothing_else_and_is_counted_by_reason() {
    let nms = Nms::at("127.0.0.1:0");
    let mut v1 = target("v1", nms.address(), Origin::Address).unwrap();
    v1.destination.version = Version::V1 { community: b"nms".to_vec() };
    let (mut worker, slots) = worker(vec![Some(v1)]);
    let mut counter64 = taken(1, &[0]);
    let mut list = Writer::new();
    list.nested(tag::SEQUENCE, |varbind| {
        varbind.oid(&[1, 3, 6, 1, 2, 1, 31, 1, 1, 1, 6, 3]).unwrap();
        varbind.element(0x46, &[1]);
    });
    counter64.varbinds.extend(list.into_bytes());
    let mut long = taken(1, &[0]);
    let mut list = Writer::new();
    list.nested(tag::SEQUENCE, |varbind| {
        varbind.oid(&[1, 3, 6, 1, 2, 1, 31, 1, 1, 1, 18, 3]).unwrap();
        varbind.octets(&[b'x'; 65_500]);
    });
    long.varbinds.extend(list.into_bytes());
    worker.forward(&[counter64, long, taken(3, &[0])], NOW);
    worker.flush(NOW);
    let (datagram, _) = nms.next().unwrap();
    let trap = Trap::decode(&datagram).unwrap();
    assert_eq!((trap.form, trap.agent_address), (Form::V1, Some([192, 0, 2, 7].into())));
    assert_eq!(nms.next(), None);
    let stats = stats(&slots, 0);
    assert_eq!((stats.forwarded, stats.errors), (1, 0));
    assert_eq!(count(&stats.unsendable, "counter64"), 1);
    assert_eq!(count(&stats.unsendable, "too_long"), 1);
}

#[test]
fn ten_thousand_traps_arrive_in_order() {
    let nms = Nms::at("127.0.0.1:0");
    // 10,000 datagrams of some 900 octets of the kernel's memory each; only root gets as much.
    let buffer = socket2::SockRef::from(&nms.0);
    let _ = force_buffer(&nms.0, 16 << 20);
    let all_fit = buffer.recv_buffer_size().unwrap() >= 10_000 * 1280;
    let traps = if all_fit { 10_000 } else { 100 };
    let forwarder = start(vec![target("nms", nms.address(), Origin::Address)], MAX_WAITING);
    for first in (0..traps).step_by(100) {
        forwarder.submit((first..first + 100).map(|id| taken(id, &[0])).collect());
    }
    let counters = forwarder.slots.lock().unwrap()[0].as_ref().unwrap().counters.clone();
    let waiting = forwarder.waiting.clone();
    drop(forwarder);
    assert_eq!(nms.request_ids(), (0..traps).collect::<Vec<_>>());
    assert_eq!(counters.read("nms").forwarded, u64::from(traps));
    assert_eq!(waiting.load(Relaxed), 0);
}

pub(super) fn force_buffer(
    socket: &impl std::os::fd::AsRawFd,
    size: libc::c_int,
) -> io::Result<()> {
    outlet::set_option(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, size)
}

#[test]
fn trap_6_what_finds_no_room_is_dropped_and_counted_for_each_target() {
    let nms = Nms::at("127.0.0.1:0");
    let targets = || {
        vec![
            target("one", nms.address(), Origin::Address),
            None,
            target("two", nms.address(), Origin::Address),
        ]
    };
    let room = 2 * size_of(&taken(0, &[0])) + 1;
    let forwarder = start(targets(), room);
    forwarder.submit(vec![taken(0, &[0]), taken(1, &[0]), taken(2, &[0, 1, 2]), taken(3, &[2])]);
    let dropped: Vec<u64> =
        forwarder.stats().iter().map(|stats| stats.dropped_queue_full).collect();
    assert_eq!(dropped, [1, 2]);
    forwarder.set_targets(vec![target("two", nms.address(), Origin::Address)]).unwrap();
    let stats = forwarder.stats();
    assert_eq!((stats.len(), stats[0].dropped_queue_full), (1, 2), "a reload forgets no count");
    drop(forwarder);
    assert_eq!(nms.request_ids(), [0, 1]);
}

#[test]
fn a_reload_holds_for_what_is_submitted_after_it() {
    let (before, after) = (Nms::at("127.0.0.1:0"), Nms::at("127.0.0.1:0"));
    let forwarder = start(vec![target("a", before.address(), Origin::Address)], MAX_WAITING);
    forwarder.submit(vec![taken(1, &[0])]);
    let changed = vec![
        target("b", after.address(), Origin::Address),
        target("a", before.address(), Origin::Address),
    ];
    forwarder.set_targets(changed).unwrap();
    forwarder.submit(vec![taken(2, &[0]), taken(3, &[1])]);
    drop(forwarder);
    assert_eq!(before.request_ids(), [1, 3]);
    assert_eq!(after.request_ids(), [2]);
}

#[test]
fn what_cannot_keep_its_source_address_goes_with_its_address_as_a_varbind() {
    if !alone_with_loopback(65_536) {
        return;
    }
    let (v4, v6) = (Nms::at("127.0.0.1:0"), Nms::at("[::1]:0"));
    let (mut worker, slots) = worker(vec![
        target("v4", v4.address(), Origin::Source),
        target("v6", v6.address(), Origin::Source),
        target("away", "192.0.2.99:162".parse().unwrap(), Origin::Source),
    ]);
    let not_kept = Taken { original: None, ..taken(1, &[0]) };
    let inform = Taken { form: Form::V3Inform, ..taken(4, &[0]) };
    let from_here = Taken { source: "127.0.0.1:5000".parse().unwrap(), ..taken(3, &[2]) };
    worker.forward(&[not_kept, taken(2, &[1]), from_here, inform], NOW);
    worker.flush(NOW);
    for (nms, id) in [(&v4, 1), (&v6, 2), (&v4, 4)] {
        let (datagram, _) = nms.next().unwrap();
        assert_eq!(Trap::decode(&datagram).unwrap().request_id, Some(id));
        assert!(Trap::decode(&datagram).unwrap().trap_address.is_some());
    }
    for (place, reason) in
        [(0, "no_original"), (0, "v3_inform"), (1, "other_family"), (2, "local_source")]
    {
        assert_eq!(count(&stats(&slots, place).without_source, reason), 1, "{reason}");
    }
}

/// Gives this thread a network namespace of its own whose only interface is `lo`, with this MTU.
pub(super) fn alone_with_loopback(mtu: u32) -> bool {
    // SAFETY: changes this thread only.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
        eprintln!("passed over: it takes root, for a network namespace");
        return false;
    }
    let mtu = mtu.to_string();
    let ip = Command::new("ip").args(["link", "set", "lo", "up", "mtu", &mtu]).status();
    assert!(ip.unwrap().success());
    true
}

#[test]
fn trap_9_the_original_datagram_comes_from_its_original_source_byte_for_byte() {
    // Less than the long one has, which goes in fragments that the kernel puts together again.
    if !alone_with_loopback(1500) {
        return;
    }
    for (nms, source) in [("127.0.0.1:162", "192.0.2.7:50162"), ("[::1]:162", "[2001:db8::7]:161")]
    {
        let nms = Nms::at(nms);
        let source: SocketAddr = source.parse().unwrap();
        let (mut worker, slots) = worker(vec![target("nms", nms.address(), Origin::Source)]);
        let originals: Vec<Vec<u8>> = [0, 1, 1452, 1472, 1473, 9000, 65_507]
            .map(|length| (0..length).map(|at: usize| (at * 31) as u8).collect())
            .to_vec();
        for original in &originals {
            let original = Some(original.clone());
            worker.forward(&[Taken { source, original, ..taken(0, &[0]) }], NOW);
        }
        worker.flush(NOW);
        for original in &originals {
            let (datagram, from) = nms.next().unwrap();
            assert_eq!((datagram.len(), from), (original.len(), source));
            assert_eq!(&datagram, original);
        }
        assert_eq!(nms.next(), None);
        let stats = stats(&slots, 0);
        assert_eq!((stats.forwarded, stats.errors, stats.last_error), (7, 0, None));
    }
}

/// The kernel looks at the checksum, so the test above says that ours are right.
#[test]
fn a_packet_with_a_wrong_checksum_does_not_arrive() {
    if !alone_with_loopback(1500) {
        return;
    }
    for (nms, source) in [("127.0.0.1:162", "192.0.2.7:50162"), ("[::1]:162", "[2001:db8::7]:161")]
    {
        let nms = Nms::at(nms);
        let outlet = Outlet::open(outlet::Via::Raw, nms.address()).unwrap();
        let mut bytes = Vec::new();
        let source = source.parse().unwrap();
        packet::build(&mut bytes, source, nms.address(), b"trap", 1500, 0, |_, _| ()).unwrap();
        let end = [outlet::End { end: bytes.len(), via: outlet::Via::Raw, last: true }];
        assert_eq!(outlet.send(&bytes, 0, &end).unwrap(), 1);
        assert_eq!(nms.next(), Some((b"trap".to_vec(), source)));
        *bytes.last_mut().unwrap() ^= 1;
        assert_eq!(outlet.send(&bytes, 0, &end).unwrap(), 1);
        assert_eq!(nms.next(), None);
    }
}

#[test]
fn a_target_that_there_is_no_way_to_holds_up_no_other_and_is_tried_again() {
    if !alone_with_loopback(65_536) {
        return;
    }
    let nms = Nms::at("127.0.0.1:0");
    let away = "198.51.100.1:162".parse().unwrap();
    let (mut worker, slots) = worker(vec![
        target("away", away, Origin::Address),
        target("raw", away, Origin::Source),
        target("nms", nms.address(), Origin::Address),
    ]);
    let mut send = |ids: std::ops::Range<u32>, now| {
        let batch: Vec<Taken> = ids.map(|id| taken(id, &[0, 1, 2])).collect();
        worker.forward(&batch, now);
        worker.flush(now);
    };
    send(0..3, NOW);
    assert_eq!(nms.request_ids(), [0, 1, 2]);
    for place in [0, 1] {
        let stats = stats(&slots, place);
        assert_eq!((stats.forwarded, stats.errors), (0, 3));
        assert!(stats.last_error.unwrap().contains("unreachable"));
    }
    let added = Command::new("ip").args(["addr", "add", "198.51.100.1/32", "dev", "lo"]).status();
    assert!(added.unwrap().success());
    let away = Nms::at("198.51.100.1:162");
    send(3..4, NOW + Duration::from_millis(249));
    assert_eq!(away.next(), None);
    send(4..5, NOW + Duration::from_millis(250));
    assert_eq!(away.next().map(|(_, from)| from.ip()), Some(away.address().ip()));
    assert_eq!(away.next().map(|(_, from)| from.ip()), Some(IpAddr::from([192, 0, 2, 7])));
    assert_eq!((stats(&slots, 0).forwarded, stats(&slots, 0).errors), (1, 4));
    assert_eq!((stats(&slots, 1).forwarded, stats(&slots, 1).errors), (1, 4));
}

#[test]
fn without_cap_net_raw_the_error_says_what_to_do() {
    /// The header and the sets of capset (linux/capability.h, version 3).
    #[repr(C)]
    struct Header(u32, i32);
    let none = [0u32; 6];
    let header = Header(0x2008_0522, 0);
    // SAFETY: both are as capset reads them, and live until it returns. It changes this thread only.
    let set = unsafe { libc::syscall(libc::SYS_capset, &raw const header, none.as_ptr()) };
    assert_eq!(set, 0, "a thread may always give up what it may do");
    let nms = Nms::at("127.0.0.1:0");
    let targets = vec![None, target("nms", nms.address(), Origin::Source)];
    let error = match Forwarder::start(targets, &RootOid::default(), local(), 0, Gate::alone()) {
        Err(error) => error,
        Ok(_) => panic!("a raw socket without CAP_NET_RAW"),
    };
    let told = error.to_string();
    assert!(told.contains("\"nms\"") && told.contains("CAP_NET_RAW"), "{told}");
    // A reload that asks for too much changes nothing.
    let forwarder = start(vec![target("old", nms.address(), Origin::Address)], MAX_WAITING);
    assert!(forwarder.set_targets(vec![target("new", nms.address(), Origin::Source)]).is_err());
    assert_eq!(forwarder.stats()[0].name, "old");
    forwarder.submit(vec![taken(1, &[0])]);
    drop(forwarder);
    assert_eq!(nms.request_ids(), [1]);
}
