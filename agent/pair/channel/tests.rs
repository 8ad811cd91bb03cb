//! Real connections over loopback: mates that meet, and strangers that do not.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::atomic::AtomicU32,
    time::Duration,
};

use evenkeel_core::pair::version::Version;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::{sleep, timeout},
};

use super::{
    handshake::{Meeting, Met},
    tls, *,
};
use crate::pair::{seal::Opened, trust::Trust};

/// Everything here happens within milliseconds, but for what waits two seconds on purpose.
const LONG: Duration = Duration::from_secs(20);

/// An address of this host that no other test has: all of 127.0.0.0/8 is loopback's.
fn address() -> IpAddr {
    static NTH: AtomicU32 = AtomicU32::new(0);
    let nth = NTH.fetch_add(1, Ordering::Relaxed) + 2;
    let [_, _, a, b] = std::process::id().to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(127, a | 1, b, u8::try_from(nth).unwrap()))
}

/// What an agent is, before it runs.
struct Agent {
    options: Options,
    identity: Arc<Identity>,
    directory: Directory,
    dir: tempfile::TempDir,
}

/// An agent that runs.
struct Running {
    agent: Agent,
    seals: Seals,
    channel: Channel,
    events: mpsc::UnboundedReceiver<Event>,
}

impl Agent {
    fn new(slot: Slot, name: &str, [own, mate]: [IpAddr; 2]) -> Agent {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::of(dir.path());
        let identity = Arc::new(Identity::load_or_make(&directory).unwrap());
        let options = Options {
            slot,
            listen: SocketAddr::new(own, 19041),
            mate: SocketAddr::new(mate, 19041),
            patience: Duration::from_secs(3),
            name: name.to_owned(),
            version: Version { major: 0, minor: 1, patch: 0 },
            run: 1,
        };
        Agent { options, identity, directory, dir }
    }

    fn trust(&self, mate: &Agent) {
        let trust = Trust::of(&self.directory);
        trust.write(mate.identity.fingerprint, self.identity.fingerprint).unwrap();
    }

    fn start(self) -> Running {
        let seals = Seals::new(self.options.slot, Vec::new());
        let identity = Arc::clone(&self.identity);
        let (channel, events) =
            start(self.options.clone(), identity, &self.directory, seals.clone());
        Running { agent: self, seals, channel, events }
    }

    /// What it does as a mate, by hand.
    fn meeting(&self, mate: Fingerprint) -> Meeting {
        Meeting {
            options: self.options.clone(),
            identity: Arc::clone(&self.identity),
            trusted: mate,
            seals: Seals::new(self.options.slot, Vec::new()),
        }
    }

    async fn meet(&self, mate: &Running) -> Met {
        let fingerprint = mate.agent.identity.fingerprint;
        loop {
            // It may not listen yet.
            match self.meeting(fingerprint).connect().await {
                Ok(met) => return met.unwrap(),
                Err(_) => sleep(Duration::from_millis(10)).await,
            }
        }
    }
}

impl Running {
    async fn next(&mut self) -> Event {
        let event = timeout(LONG, self.events.recv()).await.expect("an event");
        event.expect("the channel is there")
    }

    async fn up(&mut self) -> (Hello, Link) {
        loop {
            match self.next().await {
                Event::Up { mate, link } => return (mate, link),
                Event::Down(Wrong::Connect) => {}
                // On a machine that has other things to do a handshake may run out of time at either
                // end; it is tried again.
                Event::Refused(Refusal::Handshake | Refusal::HandshakeTimeout) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    async fn refused(&mut self) -> Refusal {
        loop {
            match self.next().await {
                Event::Refused(why) => return why,
                Event::Down(Wrong::Connect) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Waits until this was counted so often.
    async fn counted(&self, why: Refusal, number: u64) {
        let counted = async {
            while self.channel.counters().refused(why) < number {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(LONG, counted).await.unwrap_or_else(|_| panic!("{} was not counted", why.name()));
    }

    /// Connects to it from an address, as anyone can.
    async fn connect(&self, from: IpAddr) -> TcpStream {
        let connected = async {
            loop {
                let socket = TcpSocket::new_v4().unwrap();
                socket.bind(SocketAddr::new(from, 0)).unwrap();
                match socket.connect(self.agent.options.listen).await {
                    Ok(stream) => return stream,
                    Err(_) => sleep(Duration::from_millis(10)).await,
                }
            }
        };
        timeout(LONG, connected).await.expect("it listens")
    }
}

/// Two agents that trust each other.
fn agents() -> [Agent; 2] {
    let [one, other] = [address(), address()];
    let north = Agent::new(Slot::Zero, "north", [one, other]);
    let south = Agent::new(Slot::One, "south", [other, one]);
    north.trust(&south);
    south.trust(&north);
    [north, south]
}

async fn is_over(stream: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    timeout(LONG, stream.read_to_end(&mut rest)).await.is_ok()
}

#[tokio::test]
async fn pair_8_mates_meet_and_speak_in_both_directions() {
    let [mut north, mut south] = agents().map(Agent::start);
    let (mate, to_south) = north.up().await;
    assert_eq!((mate.name.as_str(), mate.slot, mate.run), ("south", Slot::One, 1));
    let (mate, to_north) = south.up().await;
    assert_eq!((mate.name.as_str(), mate.slot), ("north", Slot::Zero));
    for (link, at) in [(&to_south, &mut south), (&to_north, &mut north)] {
        assert!(link.send_control(b"control".to_vec()));
        assert!(matches!(at.next().await, Event::Control(octets) if octets == b"control"));
        link.send_bulk(vec![7; frame::LONGEST_BULK]).await.unwrap();
        assert!(matches!(at.next().await, Event::Bulk(octets) if *octets == vec![7; 256 << 10]));
        link.send_bulk(Vec::new()).await.unwrap();
        assert!(matches!(at.next().await, Event::Bulk(octets) if octets.is_empty()));
        assert_eq!(link.send_bulk(vec![0; frame::LONGEST_BULK + 1]).await, Err(NotSent::TooLong));
        assert!(!link.send_control(vec![0; frame::LONGEST_CONTROL + 1]));
    }
    // The keys of the heartbeats have come with it.
    for (from, to) in [(&north, &south), (&south, &north)] {
        let mut datagram = Vec::new();
        assert!(from.seals.seal(b"alive", &mut datagram));
        assert_eq!(to.seals.open(&mut datagram), Opened::Heartbeat(b"alive"));
    }
    // They are kept for the next start.
    let kept = async {
        while !north.agent.dir.path().join("pair/secrets").exists() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(LONG, kept).await.unwrap();
}

#[tokio::test]
async fn pair_8_it_says_what_went_wrong_and_comes_back() {
    let [north, south] = agents();
    let identity = Arc::clone(&south.identity);
    let [mut north, mut south] = [north.start(), south.start()];
    let (_, to_south) = north.up().await;
    south.up().await;
    // The mate is stopped.
    let agent = {
        let Running { agent, channel, .. } = south;
        drop(channel);
        agent
    };
    assert!(matches!(north.next().await, Event::Down(Wrong::Read)));
    assert!(!to_south.send_control(Vec::new()) && to_south.is_gone());
    assert_eq!(to_south.send_bulk(Vec::new()).await, Err(NotSent::Gone));
    assert_eq!(agent.identity.fingerprint, identity.fingerprint);
    let mut south = agent.start();
    let (_, link) = north.up().await;
    south.up().await;
    link.close(Wrong::Write);
    assert!(matches!(north.next().await, Event::Down(Wrong::Write)));
    assert!(matches!(south.next().await, Event::Down(Wrong::Read)));
    north.up().await;
    south.up().await;
    // Other options: it begins anew.
    south.channel.set(Options { run: 2, ..south.agent.options.clone() });
    assert!(matches!(south.next().await, Event::Down(Wrong::Connect)));
    assert!(matches!(north.next().await, Event::Down(Wrong::Read)));
    assert_eq!(north.up().await.0.run, 2);
}

#[tokio::test]
async fn pair_8_a_mate_that_is_not_there_is_told_again_and_again() {
    let [_, south] = agents();
    let mut south = south.start();
    for _ in 0..3 {
        assert!(matches!(south.next().await, Event::Down(Wrong::Connect)));
    }
}

#[tokio::test]
async fn a_new_connection_takes_the_place_of_the_old() {
    let [north, south] = agents();
    let mut north = north.start();
    let _first = south.meet(&north).await;
    north.up().await;
    let _second = south.meet(&north).await;
    assert!(matches!(north.next().await, Event::Down(Wrong::Read)));
    north.up().await;
    assert_eq!(north.channel.counters().replaced.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn pair_8_a_wrong_fingerprint_is_refused_by_either() {
    let [north, south] = agents();
    let other = Agent::new(Slot::Zero, "other", [address(), address()]);
    north.trust(&other);
    let [mut north, mut south] = [north.start(), south.start()];
    north.counted(Refusal::WrongFingerprint, 1).await;
    assert_eq!(south.refused().await, Refusal::ByMate);
    // The agent that connects looks, too. Nothing needs to be started again.
    south.agent.trust(&other);
    north.agent.trust(&south.agent);
    assert_eq!(south.refused().await, Refusal::WrongFingerprint);
    assert!(south.channel.counters().refused(Refusal::WrongFingerprint) > 0);
    south.agent.trust(&north.agent);
    south.up().await;
    north.up().await;
    // Whoever is trusted no longer is let go.
    north.agent.trust(&other);
    assert!(matches!(north.next().await, Event::Down(Wrong::Connect)));
    assert!(!north.seals.has_key());
}

#[tokio::test]
async fn pair_8_without_a_fingerprint_there_is_no_mate() {
    let [one, other] = [address(), address()];
    let mut north = Agent::new(Slot::Zero, "north", [one, other]).start();
    let mut south = Agent::new(Slot::One, "south", [other, one]).start();
    assert_eq!(north.refused().await, Refusal::NothingTrusted);
    assert_eq!(south.refused().await, Refusal::NothingTrusted);
    let mut stranger = north.connect(address()).await;
    assert!(is_over(&mut stranger).await);
    north.counted(Refusal::NothingTrusted, 1).await;
    north.agent.trust(&south.agent);
    south.agent.trust(&north.agent);
    north.up().await;
    south.up().await;
}

#[tokio::test]
async fn pair_8_strangers_are_refused_and_the_mate_gets_in() {
    let [north, south] = agents();
    let mut north = north.start();
    // Somebody who speaks something else.
    let mut stranger = north.connect(address()).await;
    stranger.write_all(b"GET / HTTP/1.1\r\nHost: north\r\n\r\n").await.unwrap();
    assert!(is_over(&mut stranger).await);
    north.counted(Refusal::Handshake, 1).await;
    // Somebody who has a key of their own.
    let stranger = Agent::new(Slot::One, "stranger", [address(), address()]);
    let stream = north.connect(address()).await;
    let shaken =
        tls::shake_hands(stream, &stranger.identity, north.agent.identity.fingerprint, false);
    // The client is through before the server has looked, but hears nothing more than that.
    if let Ok((mut stream, _)) = shaken.await {
        assert!(stream.read_u8().await.is_err());
    }
    north.counted(Refusal::WrongFingerprint, 1).await;
    // Somebody who goes away at once, and many who say nothing.
    drop(north.connect(address()).await);
    north.counted(Refusal::Handshake, 2).await;
    let mut silent = Vec::new();
    for _ in 0..5 {
        silent.push(north.connect(address()).await);
    }
    north.counted(Refusal::Busy, 3).await;
    let _mate = south.meet(&north).await;
    north.up().await;
    north.counted(Refusal::HandshakeTimeout, 2).await;
    for stream in &mut silent {
        assert!(is_over(stream).await);
    }
}

#[tokio::test]
async fn a_mate_that_is_no_mate_is_told_once() {
    let [north, _] = agents();
    let [mut own_slot, mut own_name] = [Slot::Zero, Slot::One].map(|slot| {
        let own = address();
        Agent::new(slot, "other", [own, north.options.listen.ip()])
    });
    own_name.options.name = "north".to_owned();
    own_slot.options.run = 7;
    let mut north = north.start();
    for (agent, why) in [(own_slot, Refusal::SameSlot), (own_name, Refusal::SameName)] {
        north.agent.trust(&agent);
        let trusts = Some(agent.identity.fingerprint);
        let looked = async {
            while north.channel.noted().trusted != trusts {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(LONG, looked).await.expect("it looks each second");
        let fingerprint = north.agent.identity.fingerprint;
        for _ in 0..2 {
            let stream = north.connect(agent.options.listen.ip()).await;
            let met = agent.meeting(fingerprint).meet(stream, false).await;
            assert!(met.unwrap_err().known);
        }
        assert_eq!(north.refused().await, why);
        north.counted(why, 2).await;
    }
    assert!(north.events.try_recv().is_err(), "it was told once");
}

#[tokio::test]
async fn pair_8_two_of_one_slot_are_told_why_they_do_not_meet() {
    for slot in [Slot::Zero, Slot::One] {
        let [one, other] = [address(), address()];
        let north = Agent::new(slot, "north", [one, other]);
        let south = Agent::new(slot, "south", [other, one]);
        north.trust(&south);
        south.trust(&north);
        for mut agent in [north, south].map(Agent::start) {
            // A busy machine may take too long for one handshake, or two.
            loop {
                match agent.refused().await {
                    Refusal::SameSlot => break,
                    Refusal::Handshake | Refusal::HandshakeTimeout => {}
                    other => panic!("{other:?}"),
                }
            }
            agent.counted(Refusal::SameSlot, 1).await;
        }
    }
}

#[tokio::test]
async fn pair_8_slot_0_connects_if_slot_1_cannot() {
    let [north, mut south] = agents();
    // Where nobody is.
    south.options.mate = SocketAddr::new(address(), 19041);
    let [mut north, mut south] = [north.start(), south.start()];
    assert_eq!(north.up().await.0.name, "south");
    assert_eq!(south.up().await.0.name, "north");
}

/// A file whose readers wait as long as this is there; but not for ever, so that a test that waits with
/// them comes to its end.
struct Hanging {
    /// Nobody sends: it is over when this is gone.
    over: Option<std::sync::mpsc::Sender<()>>,
    ends: Option<std::thread::JoinHandle<()>>,
}

impl Hanging {
    fn in_place_of(path: std::path::PathBuf) -> Hanging {
        std::fs::remove_file(&path).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        let (over, waits) = std::sync::mpsc::channel();
        let ends = std::thread::spawn(move || {
            let _ = waits.recv_timeout(LONG);
            // Whoever waits finds it empty, and who comes later nothing.
            let writer = std::fs::OpenOptions::new().read(true).write(true).open(&path);
            let _ = std::fs::remove_file(&path);
            drop(writer);
        });
        Hanging { over: Some(over), ends: Some(ends) }
    }
}

impl Drop for Hanging {
    fn drop(&mut self) {
        drop(self.over.take());
        if let Some(ends) = self.ends.take() {
            let _ = ends.join();
        }
    }
}

#[tokio::test]
async fn a_disk_that_hangs_holds_up_neither_what_is_connected_nor_the_next_connection() {
    let [north, south] = agents();
    let [mut north, mut south] = [north.start(), south.start()];
    let (_, link) = north.up().await;
    south.up().await;
    let _hanging = Hanging::in_place_of(north.agent.directory.file("mate"));
    // It is read each second, which takes for ever.
    let began = tokio::time::Instant::now();
    let mut longest = Duration::ZERO;
    while began.elapsed() < Duration::from_millis(1_500) {
        let sent = tokio::time::Instant::now();
        assert!(link.send_control(b"heartbeat".to_vec()));
        assert!(matches!(south.next().await, Event::Control(_)));
        longest = longest.max(sent.elapsed());
        sleep(Duration::from_millis(50)).await;
    }
    // Whoever waits with the disk waits for longer.
    assert!(longest < LONG / 2, "{longest:?}");
    link.close(Wrong::Read);
    assert!(matches!(north.next().await, Event::Down(Wrong::Read)));
    assert!(matches!(south.next().await, Event::Down(Wrong::Read)));
    north.up().await;
    south.up().await;
}

#[tokio::test]
async fn a_frame_that_may_not_be_ends_the_connection() {
    let [north, south] = agents();
    let mut north = north.start();
    let long = [&u32::MAX.to_be_bytes()[..], &[4]].concat();
    let bulk = (frame::LONGEST_BULK as u32 + 1).to_be_bytes();
    let bulk = [&bulk[..], &[4]].concat();
    for (octets, why, number) in [
        (&long[..], Refusal::TooLong, 1),
        (&bulk[..], Refusal::TooLong, 2),
        (&[0, 0, 0, 0, 9][..], Refusal::UnknownKind, 1),
        // A second greeting has no place.
        (&[0, 0, 0, 0, 1][..], Refusal::UnknownKind, 2),
    ] {
        let Met { mut stream, .. } = south.meet(&north).await;
        north.up().await;
        stream.write_all(octets).await.unwrap();
        stream.flush().await.unwrap();
        assert!(matches!(north.next().await, Event::Down(Wrong::Read)));
        assert_eq!(north.channel.counters().refused(why), number);
    }
}

#[tokio::test]
async fn nothing_that_anyone_sends_stops_it() {
    let [north, south] = agents();
    let mut north = north.start();
    // xorshift64: the same octets each time.
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut garbage = move |length: usize| -> Vec<u8> {
        let octet = |_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_be_bytes()[0]
        };
        (0..length).map(octet).collect()
    };
    for nth in 0..40 {
        // The first octets of a TLS record, so that more is looked at.
        let octets = [&[22, 3, 1, 0, 200][..nth % 6], &garbage(nth * 20)].concat();
        let mut stranger = north.connect(address_of(nth)).await;
        let _ = stranger.write_all(&octets).await;
        let _ = stranger.shutdown().await;
        assert!(is_over(&mut stranger).await);
    }
    for nth in 0..40 {
        let Met { mut stream, .. } = south.meet(&north).await;
        north.up().await;
        let octets = match nth % 2 {
            0 => garbage(nth * 20),
            // Frames that may be, with anything in them.
            _ => [&[0, 0, 0, 20, 3 + (nth % 4) as u8 / 2][..], &garbage(20), &garbage(9)].concat(),
        };
        let _ = stream.write_all(&octets).await;
        let _ = stream.shutdown().await;
        drop(stream);
        while !matches!(north.next().await, Event::Down(Wrong::Read)) {}
    }
    let _met = south.meet(&north).await;
    north.up().await;
}

/// One of a few addresses that only that test uses.
fn address_of(nth: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 200, 0, 1 + u8::try_from(nth % 100).unwrap()))
}

#[tokio::test]
async fn pair_8_control_frames_pass_the_bulk_that_waits() {
    let [mut north, mut south] = agents().map(Agent::start);
    let (_, link) = north.up().await;
    south.up().await;
    // The one who takes the bulk holds on to it, until nothing moves any more.
    let mut sent = 0;
    while timeout(Duration::from_millis(500), link.send_bulk(vec![1; frame::LONGEST_BULK]))
        .await
        .is_ok()
    {
        sent += 1;
    }
    let mut held = Vec::new();
    while let Ok(event) = south.events.try_recv() {
        held.push(event);
    }
    let held_octets = held.len() * frame::LONGEST_BULK;
    assert_eq!(held_octets, wire::ROOM, "no more than that is in the hands of who takes it");
    assert!(link.send_control(b"heartbeat".to_vec()));
    drop(held);
    let (mut before, mut after) = (0, 0);
    let mut heard = false;
    // The frame whose wait was given up was never taken.
    for _ in 0..sent + 1 - held_octets / frame::LONGEST_BULK {
        match south.next().await {
            Event::Bulk(_) if heard => after += 1,
            Event::Bulk(_) => before += 1,
            Event::Control(octets) => {
                assert_eq!(octets, b"heartbeat");
                heard = true;
            }
            other => panic!("{other:?}"),
        }
    }
    // Sixteen frames were waiting; those before it were in the kernel's hands.
    assert!(heard && after >= 15, "{before} before, {after} after");
    assert_eq!(north.channel.counters().control_dropped.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn pair_8_a_mate_that_takes_nothing_is_given_up() {
    let [north, south] = agents();
    let mut north = north;
    north.options.patience = Duration::from_millis(500);
    let mut north = north.start();
    let _mate = south.meet(&north).await;
    let (_, link) = north.up().await;
    // It says nothing, and so nothing can be read.
    assert!(matches!(north.next().await, Event::Down(Wrong::Read)));
    assert!(link.is_gone());
    // It speaks, and does not listen.
    let Met { stream, .. } = south.meet(&north).await;
    let (_, link) = north.up().await;
    let (reader, mut writer) = tokio::io::split(stream);
    let speaking = tokio::spawn(async move {
        while writer.write_all(&[0, 0, 0, 0, 3]).await.is_ok() && writer.flush().await.is_ok() {
            sleep(Duration::from_millis(50)).await;
        }
    });
    let sending = tokio::spawn(async move {
        while link.send_bulk(vec![0; frame::LONGEST_BULK]).await.is_ok() {}
        while link.send_control(Vec::new()) {}
        link
    });
    loop {
        match north.next().await {
            Event::Control(_) => {}
            Event::Down(wrong) => {
                assert_eq!(wrong, Wrong::Write);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(sending.await.unwrap().is_gone());
    speaking.abort();
    drop(reader);
}
