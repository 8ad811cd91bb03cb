//! Informs that were answered are safe (TRAP-5), and floods hurt nobody but their source (TRAP-6,
//! TRAP-7): the agent under more than net-snmp's programs can send.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use socket2::{Domain, Protocol, Socket, Type};

use crate::{
    common::{Agent, Answering, BINARY, Lab, Ns, Trap, output, wait_until, wire},
    fuzz_seeds::seeds,
};

const TRAPS: &str = "127.0.0.1:10162";

fn configuration(more: &str, interface_down: bool) -> String {
    format!(
        r#"
[traps]
listen = ["{TRAPS}"]
{more}

[instability]
interfaces = {{ window = "30s", threshold = 0 }}
interface_down = {interface_down}

[subnets]
watch_gateways = false
"#
    )
}

/// Sends informs of SNMPv2c at a rate, without waiting for the answer to one before it sends the
/// next, and without repeating any; keeps which were answered. The request-id is the uptime too, so
/// that the inform can be told by what is forwarded of it.
struct Informer {
    answered: Arc<Mutex<BTreeSet<u32>>>,
    stop: Arc<AtomicBool>,
    threads: Vec<thread::JoinHandle<u32>>,
}

impl Informer {
    fn start(ns: &Ns, source: &str, per_second: u32) -> Informer {
        let socket = Arc::new(ns.inside(|| UdpSocket::bind((source, 0))).expect("loopback"));
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a time");
        let (answered, stop) = (Arc::default(), Arc::<AtomicBool>::default());
        let (out, stop_out) = (socket.clone(), stop.clone());
        let sender = thread::spawn(move || {
            let start = Instant::now();
            let mut sent: u32 = 0;
            while !stop_out.load(Ordering::Relaxed) {
                // What is due by now, counted from the start, so that no rounding adds up.
                let due = (start.elapsed().as_secs_f64() * f64::from(per_second)) as u32;
                while sent < due {
                    sent += 1;
                    let trap = Trap::LinkUp(1 + sent % 100);
                    // Nobody may be there to hear it.
                    out.send_to(&wire::v2c_inform(trap, sent, sent), TRAPS).ok();
                }
                thread::sleep(Duration::from_millis(2));
            }
            sent
        });
        let (kept, stop_in): (Arc<Mutex<BTreeSet<u32>>>, _) = (Arc::clone(&answered), stop.clone());
        let receiver = thread::spawn(move || {
            let mut buffer = [0; 2048];
            let mut last = Instant::now();
            // A second longer than the sender, as answers are on their way.
            while !stop_in.load(Ordering::Relaxed) || last.elapsed() < Duration::from_secs(1) {
                let Ok(length) = socket.recv(&mut buffer) else { continue };
                last = Instant::now();
                let pdu = wire::read_pdu(&buffer[..length]).expect("a Response");
                assert_eq!(pdu.tag, 0xa2, "{pdu:?}");
                kept.lock().expect("no panic while held").insert(pdu.request_id);
            }
            0
        });
        Informer { answered, stop, threads: vec![sender, receiver] }
    }

    /// Ends it; gives how many were sent, and which of them were answered.
    fn end(&mut self) -> (u32, BTreeSet<u32>) {
        self.stop.store(true, Ordering::Relaxed);
        let sent = self.threads.drain(..).map(|thread| thread.join().expect("no panic")).sum();
        (sent, self.answered.lock().expect("no panic while held").clone())
    }

    fn answered(&self) -> usize {
        self.answered.lock().expect("no panic while held").len()
    }
}

impl Drop for Informer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// The uptimes of what the spool still holds, by the command line.
fn spooled(agent: &Agent) -> BTreeSet<u32> {
    let text = output(
        Command::new(BINARY)
            .args(["traps", "--spooled", "--format", "json", "--config"])
            .arg(agent.file()),
    );
    let rows: Vec<Value> = match serde_json::from_str(&text) {
        Ok(Value::Array(rows)) => rows,
        // One object on each line is as good.
        _ => text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect(),
    };
    rows.iter().map(request_id).collect()
}

fn request_id(row: &Value) -> u32 {
    let number = row.get("request_id").and_then(Value::as_u64);
    number.and_then(|number| u32::try_from(number).ok()).unwrap_or_else(|| {
        panic!("no request_id in {row}");
    })
}

/// Numbers in a row as `first-last`, for a person to read.
fn ranges(numbers: &[u32]) -> String {
    let runs = numbers.chunk_by(|one, next| one + 1 == *next);
    runs.map(|run| format!("{}-{} ", run[0], run[run.len() - 1])).collect()
}

/// The uptimes of what an NMS was forwarded.
fn forwarded(nms: &Answering) -> BTreeSet<u32> {
    let uptime = |pdu: &wire::Pdu| {
        let varbind = pdu.varbinds.first()?;
        // Not the agent's own start.
        let address = pdu.varbinds.iter().any(|varbind| varbind.is(&wire::TRAP_ADDRESS));
        address.then(|| varbind.number())
    };
    nms.received().iter().filter_map(uptime).collect()
}

#[test]
fn trap_5_what_was_answered_outlives_kill_9_under_5000_informs_a_second() {
    let lab = Lab::new();
    let ns = lab.namespace("informs");
    let nms = Answering::start(&ns, "127.0.0.1:11162", 1);
    let more = "[[traps.community]]\nname = \"public\"\n\
                [[notifications.target]]\nname = \"nms\"\naddress = \"127.0.0.1:11162\"\n\
                community = \"public\"\ninform = true\nrate = 20000\nburst = 20000\nwindow = 512\n";
    let mut agent = Agent::start(&ns, &configuration(more, false));
    let mut informer = Informer::start(&ns, "127.0.1.1", 5000);
    let start = Instant::now();
    for kill in 1..=5 {
        let before = informer.answered();
        wait_until("informs to be answered", Duration::from_secs(10), || {
            informer.answered() - before > 500
        });
        // Not the same moment each time.
        thread::sleep(Duration::from_millis(137 * kill % 400));
        agent.kill9();
        agent.launch();
    }
    thread::sleep(Duration::from_millis(500));
    let (sent, answered) = informer.end();
    println!(
        "{sent} informs in {:.1} s, of which {} were answered; 5 kills",
        start.elapsed().as_secs_f64(),
        answered.len()
    );
    assert!(answered.len() > 5000, "only {} were answered", answered.len());

    // Each is in the spool or with the NMS; the order of the questions matters, as they move.
    let spool = spooled(&agent);
    let nms_has = forwarded(&nms);
    println!("{} are in the spool, {} were forwarded", spool.len(), nms_has.len());
    let lost: Vec<_> =
        answered.iter().filter(|id| !spool.contains(id) && !nms_has.contains(id)).collect();
    let lost: Vec<u32> = lost.into_iter().copied().collect();
    println!("{}", ranges(&lost));
    // And in the end the NMS has them all.
    let ends = Instant::now() + Duration::from_secs(60);
    let mut left = answered.len();
    while left > 0 && Instant::now() < ends {
        thread::sleep(Duration::from_millis(200));
        left = answered.difference(&forwarded(&nms)).count();
    }
    let never: Vec<u32> = answered.difference(&forwarded(&nms)).copied().collect();
    println!("never {}", ranges(&never));
    println!("{}", agent.log());
    assert!(lost.is_empty(), "{} answered informs are lost: {}", lost.len(), ranges(&lost));
    assert_eq!(left, 0, "never forwarded, of {} that were answered", answered.len());
}

#[test]
fn trap_6_a_flood_of_one_source_costs_a_hundred_quiet_ones_nothing() {
    const QUIET: u32 = 100;
    const EACH: u32 = 25;
    let lab = Lab::new();
    let ns = lab.namespace("flood");
    let more = "source_rate = 500\nsource_burst = 1000\n[[traps.community]]\nname = \"public\"\n";
    let agent = Agent::start(&ns, &configuration(more, true));
    let quiet_address = |number: u32| Ipv4Addr::new(127, 0, 1, 1 + number as u8);
    let stop = AtomicBool::new(false);
    let (flood, quiet): (UdpSocket, Vec<UdpSocket>) = ns.inside(|| {
        let at = |address: Ipv4Addr| UdpSocket::bind((address, 0)).expect("loopback");
        (at(Ipv4Addr::new(127, 0, 2, 1)), (0..QUIET).map(|at_| at(quiet_address(at_))).collect())
    });
    let flooded = thread::scope(|scope| {
        let stop = &stop;
        let flooder = scope.spawn(move || {
            let bytes = wire::v2c_trap(Trap::LinkDown(1), 1, 1);
            let mut sent: u64 = 0;
            while !stop.load(Ordering::Relaxed) {
                flood.send_to(&bytes, TRAPS).ok();
                sent += 1;
            }
            sent
        });
        for turn in 0..EACH {
            for (number, socket) in (0..).zip(&quiet) {
                let trap = Trap::LinkDown(1 + turn);
                let id = turn * QUIET + number;
                let bytes = wire::v2c_trap(trap, id, id);
                socket.send_to(&bytes, TRAPS).expect("loopback");
                // Spread over the turn.
                thread::sleep(Duration::from_millis(100) / QUIET);
            }
        }
        let raised = agent.metrics().sum("evenkeel_alarms_active", &[("kind", "overload")]);
        stop.store(true, Ordering::Relaxed);
        assert_eq!(raised, 1.0, "no overload while a source was throttled");
        flooder.join().expect("no panic")
    });

    let wanted = u64::from(QUIET * EACH);
    let of_quiet = || {
        let rows = agent.journal();
        rows.iter().filter(|row| row.object.starts_with("127.0.1.")).count() as u64
    };
    let ends = Instant::now() + Duration::from_secs(10);
    while of_quiet() < wanted && Instant::now() < ends {
        thread::sleep(Duration::from_millis(100));
    }
    let metrics = agent.metrics();
    let dropped = metrics.sum("evenkeel_trap_socket_drops_total", &[]);
    println!("a flood of {flooded} traps; {dropped} found no room in the socket");
    assert_eq!(of_quiet(), wanted, "of the quiet ones; {dropped} were lost in the socket");
    let limited = metrics.sum("evenkeel_traps_discarded_total", &[("reason", "source_limit")]);
    assert!(limited > 0.0, "{}", metrics.0);
    wait_until("the overload to be over", Duration::from_secs(90), || {
        agent.metrics().sum("evenkeel_alarms_active", &[("kind", "overload")]) == 0.0
    });
}

#[test]
fn trap_6_datagrams_that_are_broken_on_the_way_are_no_overload() {
    const BROKEN: usize = 20;
    let lab = Lab::new();
    let ns = lab.namespace("broken");
    let more = "[[traps.community]]\nname = \"public\"\n";
    let configuration =
        configuration(more, false).replace(TRAPS, "127.0.0.1:10162\", \"[::1]:10162");
    let agent = Agent::start(&ns, &configuration);
    let trap = wire::v2c_trap(Trap::LinkUp(1), 1, 1);
    // The kernel looks into short datagrams before it knows whose they are; these count at the socket.
    assert!(trap.len() > 76, "{} octets", trap.len());
    for (localhost, family) in [("127.0.0.1", Domain::IPV4), ("::1", Domain::IPV6)] {
        let to = SocketAddr::new(localhost.parse().expect("an address"), 0);
        let (whole, raw) = ns.inside(|| {
            let raw = Socket::new(family, Type::RAW, Some(Protocol::UDP)).expect("root");
            (UdpSocket::bind(to).expect("loopback"), raw)
        });
        // Ports, length, and a checksum that can't be right.
        let header = [4000, 10_162, 8 + trap.len() as u16, 0x1234].map(u16::to_be_bytes).concat();
        for _ in 0..BROKEN {
            raw.send_to(&[&header, &trap[..]].concat(), &to.into()).expect("loopback");
        }
        whole.send_to(&trap, SocketAddr::new(to.ip(), 10_162)).expect("loopback");
    }
    let received = || agent.metrics().sum("evenkeel_traps_received_total", &[]);
    wait_until("the two that are whole", Duration::from_secs(10), || received() == 2.0);
    let broken = || {
        let reason = [("reason", "bad_checksum")];
        agent.metrics().sum("evenkeel_traps_discarded_total", &reason)
    };
    wait_until("the others to be counted", Duration::from_secs(10), || {
        broken() == 2.0 * BROKEN as f64
    });
    let metrics = agent.metrics();
    assert_eq!(metrics.sum("evenkeel_trap_socket_drops_total", &[]), 0.0);
    assert_eq!(metrics.sum("evenkeel_alarms_raised_total", &[("kind", "overload")]), 0.0);
}

#[test]
fn trap_7_a_million_bad_datagrams_take_no_memory_and_stop_nothing() {
    const SOURCES: usize = 50;
    const DATAGRAMS: u32 = 1_000_000;
    let lab = Lab::new();
    let ns = lab.namespace("random");
    let more = "[[traps.community]]\nname = \"public\"\n";
    let agent = Agent::start(&ns, &configuration(more, false));
    let sockets: Vec<UdpSocket> = ns.inside(|| {
        let at = |number: usize| SocketAddr::from(([127, 0, 3, 1 + number as u8], 0));
        (0..SOURCES).map(|number| UdpSocket::bind(at(number)).expect("loopback")).collect()
    });
    let seeds: Vec<Vec<u8>> = seeds().into_values().collect();
    let received = || agent.metrics().sum("evenkeel_traps_received_total", &[]);
    let mut chance = Chance(0x5eed);
    let mut send = |count: u32| {
        for number in 0..count {
            let bytes = bad_datagram(&mut chance, &seeds);
            sockets[number as usize % SOURCES].send_to(&bytes, TRAPS).expect("loopback");
            // Not faster than the agent can take them: what finds no room in the socket shows
            // nothing.
            if number % 100 == 0 {
                thread::sleep(Duration::from_millis(2));
            }
        }
    };
    // The first ones fill what is kept on purpose.
    send(20_000);
    thread::sleep(Duration::from_secs(1));
    let before = agent.resident();
    send(DATAGRAMS);
    thread::sleep(Duration::from_secs(1));
    let grown = agent.resident().saturating_sub(before);
    println!("{} received, {grown} kB more", received());
    // What the kernel dropped has shown nothing.
    assert!(received() > f64::from(DATAGRAMS) * 0.9, "only {} were received", received());
    assert!(grown < 64 << 10, "{grown} kB more after {DATAGRAMS} datagrams");

    // It still does its work.
    let taken = || agent.metrics().sum("evenkeel_traps_taken_total", &[]);
    let before = taken();
    let quiet = ns.inside(|| UdpSocket::bind("127.0.4.1:0")).expect("loopback");
    quiet.send_to(&wire::v2c_trap(Trap::LinkUp(1), 1, 1), TRAPS).expect("loopback");
    wait_until("a good trap to be taken in", Duration::from_secs(10), || taken() > before);
    // The last of the bad ones can be looked at.
    let shown =
        output(Command::new(BINARY).args(["traps", "--rejected", "--config"]).arg(agent.file()));
    assert!(shown.contains("127.0.3."), "{shown}");
}

/// Octets by chance, or a seed with a few octets by chance, cut, or doubled.
fn bad_datagram(chance: &mut Chance, seeds: &[Vec<u8>]) -> Vec<u8> {
    let random = chance.next();
    if random.is_multiple_of(4) {
        return (0..random % 200).map(|_| chance.next() as u8).collect();
    }
    let mut bytes = seeds[(random >> 8) as usize % seeds.len()].clone();
    for _ in 0..=random % 5 {
        let random = chance.next() as usize;
        let at = random % bytes.len();
        match random >> 32 & 7 {
            0 => bytes.truncate(at.max(1)),
            1 => bytes.extend_from_within(at..),
            _ => bytes[at] = (random >> 40) as u8,
        }
    }
    bytes.truncate(1400);
    bytes
}

/// Chance that is the same each time: SplitMix64 (Steele, Lea, Flood 2014).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
