//! PEER-15: who is known, what a message leads to, and heartbeats of this host to itself. The last
//! need root, for a network namespace, and are passed over, with a word, without it.

use std::{process::Command, time::Instant};

use evenkeel_core::{
    alarm::ClearReason,
    peers::{PeerState, settings::Group},
};

use super::*;
const A: &str = "192.0.2.1";
const B: &str = "2001:db8::b";
const T: Time = Time::from_secs(1_000);

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Two groups: the first is asked by echo, the second by heartbeat.
fn settings() -> Settings {
    let mobile = Group { kind: Heartbeat::ProxyMobile, ..Group::named("mobile") };
    Settings { groups: vec![Group::named("echo"), mobile], ..Settings::default() }
}

fn add(place: u32, address: &str, group: u16) -> Change {
    Change::Add { place, address: ip(address), group, enabled: true, down: false }
}

fn set(place: u32, group: u16) -> Change {
    Change::Set { place, group, enabled: false }
}

fn remove(place: u32) -> Change {
    Change::Remove { place, reason: ClearReason::TurnedOff }
}

fn view(place: u32, address: &str, group: u16) -> PeerView {
    PeerView {
        place,
        address: ip(address),
        group,
        state: PeerState::Alive,
        since: T,
        round_trip: None,
        unanswered: 0,
    }
}

/// The places of those who are known, and how many of each family there are.
fn known(mobility: &Mobility) -> (Vec<u32>, usize, usize) {
    let mut places: Vec<u32> = mobility.peers.values().map(|peer| peer.place).collect();
    places.sort_unstable();
    let mut other: Vec<u32> = mobility.places.keys().copied().collect();
    other.sort_unstable();
    assert_eq!(places, other);
    (places, mobility.v4.peers, mobility.v6.peers)
}

#[test]
fn peer_15_those_are_known_whose_group_uses_these_heartbeats() {
    let mut mobility = Mobility::new(&settings(), 1, 1 << 16);
    for (change, places, v4, v6) in [
        (add(0, A, 1), vec![0], 1, 0),
        (add(1, B, 1), vec![0, 1], 1, 1),
        (add(2, "192.0.2.2", 0), vec![0, 1], 1, 1),
        // Disabled, but still a peer.
        (set(1, 1), vec![0, 1], 1, 1),
        (set(0, 0), vec![1], 0, 1),
        (remove(2), vec![1], 0, 1),
        (remove(1), vec![], 0, 0),
        (remove(1), vec![], 0, 0),
        // A place that is given out again at once, and an address that moves before its old place
        // is given up.
        (add(1, A, 1), vec![1], 1, 0),
        (add(1, B, 1), vec![1], 0, 1),
        (add(3, B, 1), vec![3], 0, 1),
        (remove(1), vec![3], 0, 1),
    ] {
        mobility.apply(&change);
        assert_eq!(known(&mobility), (places, v4, v6), "{change:?}");
        assert!(!mobility.is_stale());
    }
    // The address of one that was in a group of echoes is not known here.
    mobility.apply(&set(7, 1));
    assert!(mobility.is_stale());
    mobility.peers.get_mut(&ip(B)).unwrap().sequence = 41;
    mobility.refresh([view(3, B, 1), view(5, "192.0.2.5", 0), view(7, A, 1)].into_iter());
    assert!(!mobility.is_stale());
    assert_eq!(known(&mobility), (vec![3, 7], 1, 1));
    assert_eq!(mobility.peers[&ip(B)].sequence, 41, "what is known of a peer stays");
    // A group whose peers are asked otherwise from now on.
    let mut settings = settings();
    settings.groups[1].kind = Heartbeat::Echo;
    mobility.reconfigure(&settings);
    assert!(mobility.is_stale());
    mobility.refresh([view(3, B, 1), view(7, A, 1)].into_iter());
    assert_eq!(known(&mobility), (vec![], 0, 0));
}

#[test]
fn peer_15_a_flood_of_one_peer_is_answered_in_part() {
    let mut peer = Peer { place: 0, group: 0, sequence: 0, sent: T, paid: Time::ZERO };
    let mut asks = |at: Time, times: usize| (0..times).filter(|_| peer.may_ask(at)).count();
    assert_eq!(asks(T, 1_000), 20, "at once");
    assert_eq!(asks(T + EVERY, 10), 1);
    assert_eq!(asks(T + EVERY * 4, 10), 3);
    let later = T + Duration::from_secs(60);
    assert_eq!(asks(later, 1_000), 20, "it has been quiet");
    // A flood of ten seconds, at 1,000 a second.
    let answered: usize = (1..=10_000).map(|ms| asks(later + Duration::from_millis(ms), 1)).sum();
    assert_eq!(answered, 200);
    // What anybody asks who keeps to the RFC, and far beyond.
    let later = later + Duration::from_secs(60);
    assert_eq!((0..1_000).map(|n| asks(later + EVERY * n, 1)).sum::<usize>(), 1_000);
}

fn message<'a>(head: &'a [u8], source: &str, local: Option<&str>) -> recvmmsg::Message<'a> {
    let port = if ip(source).is_ipv4() { mobility::PORT } else { 0 };
    recvmmsg::Message {
        head,
        tail: &[],
        source: Some(SocketAddr::new(ip(source), port)),
        stamp: None,
        local: local.map(ip),
        interface: Some(3),
        truncated: false,
    }
}

/// A message with its checksum, from [`B`] to 2001:db8::1.
fn sealed(message: &Message) -> Vec<u8> {
    let mut octets = message.build(&mut [0; MOST]).to_vec();
    let path = Path { source: B.parse().unwrap(), destination: "2001:db8::1".parse().unwrap() };
    let sum = mobility::checksum(&octets, path);
    octets[4..6].copy_from_slice(&sum.to_be_bytes());
    octets
}

#[test]
fn peer_15_what_came_leads_to_what_it_says() {
    let us6 = Some("2001:db8::1");
    let request = Message::Request { sequence: 5 };
    let response = |sequence| Message::Response { sequence, restart_counter: Some(9) };
    let answer = |source: &str, place, sequence, sent| {
        format!(
            "{:?}",
            Heard::Answer(Answer {
                place,
                source: ip(source),
                sequence,
                token: None,
                interface: Some(3),
                received: T,
                sent,
                restart_counter: Some(9),
            })
        )
    };
    let latest = Some(T - Duration::from_millis(20));
    let plain = |message: &Message| message.build(&mut [0; MOST]).to_vec();
    let mut broken = sealed(&request);
    broken[9] ^= 1;
    let binding_update = [59, 1, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    for (what, octets, source, local, leads_to) in [
        ("a request", plain(&request), A, None, "asked 5".to_owned()),
        ("a request over IPv6", sealed(&request), B, us6, "asked 5".to_owned()),
        ("the latest answer", plain(&response(7)), A, None, answer(A, 0, 7, latest)),
        ("an older one", plain(&response(6)), A, None, answer(A, 0, 6, None)),
        ("an answer over IPv6", sealed(&response(7)), B, us6, answer(B, 1, 7, latest)),
        (
            "a restart",
            plain(&Message::Unsolicited { restart_counter: Some(4) }),
            A,
            None,
            format!("{:?}", Heard::Started { place: 0, counter: 4, received: T }),
        ),
        (
            "a restart without a counter",
            plain(&Message::Unsolicited { restart_counter: None }),
            A,
            None,
            "nothing".to_owned(),
        ),
        ("somebody's request", plain(&request), "192.0.2.9", None, "UnknownPeer".to_owned()),
        ("somebody's noise", vec![], "192.0.2.9", None, "UnknownPeer".to_owned()),
        ("a peer's noise", vec![59, 2, 13], A, None, "Truncated".to_owned()),
        ("a broken request over IPv6", broken, B, us6, "BadChecksum".to_owned()),
        ("sent elsewhere", sealed(&request), B, Some("2001:db8::2"), "BadChecksum".to_owned()),
        ("sent who knows where", sealed(&request), B, None, "Malformed".to_owned()),
        ("another message", binding_update.to_vec(), B, us6, "nothing".to_owned()),
        (
            "another message of nobody",
            binding_update.to_vec(),
            "2001:db8::99",
            us6,
            "nothing".to_owned(),
        ),
        ("another message by UDP", binding_update.to_vec(), A, None, "Malformed".to_owned()),
    ] {
        let mut mobility = Mobility::new(&settings(), 1, 1 << 16);
        mobility.apply(&add(0, A, 1));
        mobility.apply(&add(1, B, 1));
        for peer in mobility.peers.values_mut() {
            (peer.sequence, peer.sent) = (7, T - Duration::from_millis(20));
        }
        let message = message(&octets, source, local);
        let v4 = ip(source).is_ipv4();
        let taken = match take(&message, v4, T, &mut mobility.peers) {
            Ok(Taken::Heard(heard)) => format!("{heard:?}"),
            Ok(Taken::Asked { to, sequence }) => {
                assert_eq!(Some(to), message.source, "{what}");
                format!("asked {sequence}")
            }
            Ok(Taken::TooMany) => "too many".to_owned(),
            Ok(Taken::Nothing) => "nothing".to_owned(),
            Err(why) => format!("{why:?}"),
        };
        assert_eq!(taken, leads_to, "{what}");
    }
}

/// Gives this thread a network namespace of its own whose only interface is `lo`.
fn alone_with_loopback() -> bool {
    // SAFETY: changes this thread only.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
        eprintln!("passed over: it takes root, for a network namespace");
        return false;
    }
    let ip = Command::new("ip").args(["link", "set", "lo", "up"]).status();
    assert!(ip.unwrap().success());
    true
}

fn request(address: &str, sequence: u32) -> Request {
    let address = ip(address);
    Request { place: 0, address, group: 1, sequence, token: 0, retransmission: false, down: false }
}

#[test]
fn peer_15_this_host_answers_itself_over_both_transports() {
    if !alone_with_loopback() {
        return;
    }
    for (own, other) in [("127.0.0.1", "127.0.0.2"), ("::1", "::2")] {
        let mut mobility = Mobility::new(&settings(), 17, 1 << 20);
        assert!(!mobility.keep_sockets(Clock::now()), "nobody needs one");
        assert_eq!(mobility.floor(), None);
        mobility.apply(&add(0, own, 1));
        assert!(mobility.keep_sockets(Clock::now()), "{:?}", mobility.problems().next());
        assert_eq!(mobility.descriptors().count(), 1);

        let before = Clock::now();
        let requests: Vec<Request> =
            (0..18).map(|n| request(own, 0xffff_fff8_u32.wrapping_add(n))).collect();
        mobility.send(&requests, |request, errno| panic!("{request:?}: {errno}"));
        // Each request is heard and answered, and then each answer is heard.
        let mut heard = Vec::new();
        let until = Instant::now() + Duration::from_secs(20);
        while heard.len() < requests.len() && Instant::now() < until {
            mobility.receive(|one| heard.push(one));
        }
        let after = Clock::now();
        assert_eq!(heard.len(), requests.len(), "{own}: {heard:?}, {:?}", mobility.stats());
        for (heard, request) in heard.iter().zip(&requests) {
            let Heard::Answer(answer) = heard else { panic!("{heard:?}") };
            assert_eq!((answer.place, answer.source), (0, ip(own)));
            assert_eq!((answer.sequence, answer.token), (request.sequence, None));
            assert_eq!(answer.restart_counter, Some(17));
            assert!(before <= answer.received && answer.received <= after);
            // When the latest was sent is known, and of no other.
            let latest = request.sequence == requests[17].sequence;
            assert_eq!(answer.sent.is_some(), latest);
        }
        assert!(mobility.floor().is_some_and(|floor| floor >= before));
        let stats = mobility.stats();
        assert_eq!((stats.sent, stats.received, stats.answered), (36, 36, 18));
        mobility.look(|disturbance| panic!("{disturbance:?}"));

        // An address that this host does not have: no message leaves, and each is told.
        mobility.groups[1] =
            Some(Sources { v4: "192.0.2.77".parse().ok(), v6: "2001:db8::77".parse().ok() });
        let mut failed = 0;
        mobility.send(&requests[..3], |_, _| failed += 1);
        assert_eq!(failed, 3);
        // With the last peer goes the socket, and without one all fail.
        mobility.apply(&remove(0));
        assert!(mobility.keep_sockets(Clock::now()));
        assert_eq!(mobility.descriptors().count(), 0);
        mobility.send(&[request(other, 1)], |_, _| failed += 1);
        assert_eq!(failed, 4);
    }
}

#[test]
fn peer_15_a_port_that_is_taken_is_told_and_tried_for_again() {
    if !alone_with_loopback() {
        return;
    }
    let taken = std::net::UdpSocket::bind("127.0.0.1:5436").unwrap();
    let mut mobility = Mobility::new(&settings(), 1, 1 << 16);
    mobility.apply(&add(0, "127.0.0.1", 1));
    assert!(!mobility.keep_sockets(T));
    let problem = mobility.problems().next().unwrap();
    assert!(problem.contains("`ss -ulpn 'sport = :5436'` shows which"), "{problem}");
    drop(taken);
    assert!(!mobility.keep_sockets(T + TRY_AGAIN / 2), "not before its time");
    assert!(mobility.keep_sockets(T + TRY_AGAIN));
    assert_eq!(mobility.problems().next(), None);
}

#[test]
fn peer_12_a_wrong_checksum_over_ipv6_is_no_drop() {
    if !alone_with_loopback() {
        return;
    }
    let mut mobility = Mobility::new(&settings(), 1, 1 << 20);
    mobility.apply(&add(0, "::1", 1));
    assert!(mobility.keep_sockets(Clock::now()));
    let protocol = socket2::Protocol::from(i32::from(mobility::PROTOCOL));
    let sender =
        socket2::Socket::new(socket2::Domain::IPV6, socket2::Type::RAW, Some(protocol)).unwrap();
    // The kernel is not to put the right one in.
    crate::ear::socket::set_option(sender.as_fd(), libc::IPPROTO_IPV6, 7, -1).unwrap();
    let octets = Message::Request { sequence: 1 }.build(&mut [0; MOST]).to_vec();
    sender.send_to(&octets, &SocketAddr::new(ip("::1"), 0).into()).unwrap();
    let mut heard = Vec::new();
    let until = Instant::now() + Duration::from_secs(20);
    while heard.is_empty() && Instant::now() < until {
        mobility.receive(|one| heard.push(one));
    }
    assert_eq!(heard, [Heard::Discarded(Discard::BadChecksum)]);
    mobility.look(|disturbance| panic!("{disturbance:?}"));
    assert_eq!(mobility.stats().kernel_drops, 0);
}
