//! The trap door: SNMPv3 traps opened, informs answered, and traps forwarded a second; the agent
//! beside net-snmp's snmptrapd, and beside bare loops that are the limit. One command, one run:
//!
//! ```text
//! cargo bench --bench door
//! ```
//!
//! Sender and receiver have a CPU each. Every figure is the median of three runs. It takes root, for
//! a network namespace of its own, receive buffers beyond the system's limit, and raw sockets.

// Each of the benchmarks uses a part of what they share.
#[allow(dead_code, reason = "the load of `traps.rs` has more to it")]
mod load;
#[allow(dead_code, reason = "the receivers of `traps.rs` can be asked more")]
mod receivers;

mod bare_door;
mod informs;
mod v3;

use std::{
    env,
    net::UdpSocket,
    path::Path,
    process::{Command, ExitCode},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use load::{BATCH, INTERFACES, SYSTEMS, Template};
use receivers::{Kind, PORT, Receiver, Work, forced_buffer, pin_self, socket};

/// How often each thing is measured.
const RUNS: usize = 3;

/// How many datagrams wait in the socket when a receiver is let go. snmptrapd's largest buffer holds
/// some 10,000 of the small ones.
const DRAIN: u64 = 100_000;

/// Where forwarded traps go.
const SINK: u16 = 11162;

/// The datagrams of the traps alone are the load of `traps.rs`; analysis is off, as an unstable
/// interface's traps would not be forwarded.
const AGENT: &str = "[instability]\ninterfaces = { window = \"30s\", threshold = 0 }\n\
                     interface_down = false\n";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[1..] {
        ["--bare", port, counter, work] => {
            let port = port.parse().expect("a port");
            bare_door::run(port, Path::new(counter), work, SINK).expect("a namespace of our own");
            ExitCode::SUCCESS
        }
        [.., "--bench"] | ["--bench", ..] => bench(),
        // `cargo test --all-targets` runs this too; it is no test.
        _ => ExitCode::SUCCESS,
    }
}

fn bench() -> ExitCode {
    // SAFETY: changes this process only.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
        eprintln!("This makes a network namespace for itself, so run it as root.");
        return ExitCode::FAILURE;
    }
    let up = Command::new("ip").args(["link", "set", "lo", "up"]).status();
    assert!(up.is_ok_and(|status| status.success()), "ip is installed by tests/setup");
    pin_self(0).expect("two CPUs");
    let start = Instant::now();

    println!(
        "{SYSTEMS} systems with {INTERFACES} interfaces each; sender on CPU 0, receiver on CPU 1; \
         medians of {RUNS}\n"
    );
    println!("{:44}{:>12}{:>12}{:>12}{:>9}{:>9}", "", "evenkeel", "snmptrapd", "bare loop", "", "");
    println!(
        "{:44}{:>12}{:>12}{:>12}{:>9}{:>9}",
        "", "a second", "a second", "a second", "x it", "x bare"
    );

    let work = Work {
        agent: format!("{AGENT}{}", v3::agent_user()),
        snmptrapd: v3::snmptrapd_users(),
        bare: "open",
    };
    row("v3 authPriv SHA/AES traps taken in", &work, opened);

    let informs = "[[traps.limit]]\nsources = [\"127.0.0.0/8\"]\nrate = 0\n";
    let work = |bare| Work { agent: format!("{AGENT}{informs}"), snmptrapd: String::new(), bare };
    row("informs answered (bare: not safe)", &work("answer"), answered);
    let safe = median(|| answered(Kind::Bare, &work("answer-safely")));
    println!("{:44}{:>12}{:>12}{safe:>12.0}", "  bare, each batch forced to the disk", "", "");

    let forward = |origin: &str, bare| Work {
        agent: format!(
            "{AGENT}[[notifications.target]]\nname = \"sink\"\naddress = \"127.0.0.1:{SINK}\"\n\
             community = \"public\"\norigin = \"{origin}\"\nrate = 1000000\nburst = 1000000\n"
        ),
        snmptrapd: format!("forward default 127.0.0.1:{SINK}\n"),
        bare,
    };
    row("forwarded, snmpTrapAddress added", &forward("address", "forward"), forwarded);
    // snmptrapd cannot keep the source address; its figure is that of plain forwarding.
    row("forwarded from the original source", &forward("source", "forward-source"), forwarded);
    println!("\n{:.0} s in all", start.elapsed().as_secs_f64());
    ExitCode::SUCCESS
}

/// Measures the three of them, and prints what they reach.
fn row(what: &str, work: &Work, measure: impl Fn(Kind, &Work) -> f64) {
    let figures = [Kind::Agent, Kind::SnmptrapdLarge, Kind::Bare].map(|kind| {
        eprintln!("measuring {kind:?}: {what}");
        median(|| measure(kind, work))
    });
    let [agent, snmptrapd, bare] = figures;
    println!(
        "{what:44}{agent:>12.0}{snmptrapd:>12.0}{bare:>12.0}{:>9.2}{:>9.2}",
        agent / snmptrapd,
        agent / bare
    );
}

/// Traps of SNMPv3 opened and taken in a second, out of a full socket.
fn opened(kind: Kind, work: &Work) -> f64 {
    let mut receiver = Receiver::start_for(kind, work);
    let keys: Vec<_> = (0..v3::ENGINES).map(v3::keys).collect();
    let mut template = Template::new();
    let mut sealed = |numbers: std::ops::Range<u64>| -> Vec<(u32, Vec<u8>)> {
        let seal = |number: u64| {
            let source = template.set(number);
            (source, v3::seal(template.pdu(), number as u32, &keys))
        };
        numbers.map(seal).collect()
    };
    // Every engine is learned, every interface known.
    send_slowly(&sealed(0..10_000));
    receiver.idle();
    let load = sealed(10_000..10_000 + DRAIN);
    let before = receiver.counted();
    let start = let_go(&receiver, &load);
    let done = receiver.idle();
    (receiver.counted() - before) as f64 / (done - start).as_secs_f64()
}

/// Traps of SNMPv2c forwarded a second, out of a full socket, as the target sees it.
fn forwarded(kind: Kind, work: &Work) -> f64 {
    let sink = Sink::start();
    let receiver = Receiver::start_for(kind, work);
    let mut template = Template::new();
    let mut made = |numbers: std::ops::Range<u64>| -> Vec<(u32, Vec<u8>)> {
        numbers.map(|number| (template.set(number), template.bytes.clone())).collect()
    };
    send_slowly(&made(0..10_000));
    receiver.idle();
    let load = made(10_000..10_000 + DRAIN);
    sink.count();
    let start = let_go(&receiver, &load);
    receiver.idle();
    // What waits for a moment when it may be sent has been sent by then.
    thread::sleep(Duration::from_millis(200));
    let (count, last) = sink.count();
    count as f64 / (last - start).as_secs_f64()
}

/// Informs answered a second, while many are on their way.
fn answered(kind: Kind, work: &Work) -> f64 {
    let receiver = Receiver::start_for(kind, work);
    // snmptrapd's socket is not to overflow, as what is lost is never answered; the others wait for
    // the disk meanwhile.
    let most = if kind == Kind::SnmptrapdLarge { 2000 } else { 16_384 };
    let mut informer = informs::Informer::new(PORT).expect("a socket");
    informer.run(most, Duration::from_secs(1));
    let rate = informer.run(most, Duration::from_secs(3));
    drop(receiver);
    rate
}

/// Fills the socket of a receiver that stands still, and lets it go; gives when.
fn let_go(receiver: &Receiver, load: &[(u32, Vec<u8>)]) -> Instant {
    receiver.signal(libc::SIGSTOP);
    thread::sleep(Duration::from_millis(20));
    let sender = UdpSocket::bind("0.0.0.0:0").expect("a socket");
    load.chunks(BATCH).for_each(|batch| send(&sender, batch));
    let start = Instant::now();
    receiver.signal(libc::SIGCONT);
    start
}

/// Sends at some 8000 a second, which all of them bear.
fn send_slowly(load: &[(u32, Vec<u8>)]) {
    let sender = UdpSocket::bind("0.0.0.0:0").expect("a socket");
    for batch in load.chunks(BATCH) {
        send(&sender, batch);
        thread::sleep(Duration::from_millis(8));
    }
}

fn send(sender: &UdpSocket, batch: &[(u32, Vec<u8>)]) {
    let batch: Vec<_> = batch.iter().map(|(source, bytes)| (*source, &bytes[..])).collect();
    load::send_all(sender, PORT, &batch);
}

/// The target of what is forwarded: counts, and knows when the last one came.
struct Sink {
    count: Arc<AtomicU64>,
    last: Arc<AtomicU64>,
    began: Instant,
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Sink {
    fn start() -> Sink {
        let socket = socket(SINK).expect("a free port");
        forced_buffer(&socket, 256 << 20).expect("CAP_NET_ADMIN");
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a time");
        let (count, last) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let (stop, began) = (Arc::<AtomicBool>::default(), Instant::now());
        let (count_too, last_too, stop_too) = (count.clone(), last.clone(), stop.clone());
        let thread = thread::spawn(move || {
            let mut batch = bare_door::Batch::new();
            while !stop_too.load(Ordering::Relaxed) {
                // A time without any is none of an error here.
                let Ok(received) = batch.receive(&socket) else { continue };
                count_too.fetch_add(received as u64, Ordering::Relaxed);
                last_too.store(began.elapsed().as_nanos() as u64, Ordering::Relaxed);
            }
        });
        Sink { count, last, began, stop, thread: Some(thread) }
    }

    /// How many came since this was asked last, and when the last of them did.
    fn count(&self) -> (u64, Instant) {
        let last = Duration::from_nanos(self.last.load(Ordering::Relaxed));
        (self.count.swap(0, Ordering::Relaxed), self.began + last)
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// The middle one of some runs.
fn median(mut run: impl FnMut() -> f64) -> f64 {
    let mut runs: Vec<f64> = (0..RUNS).map(|_| run()).collect();
    runs.sort_by(f64::total_cmp);
    runs[RUNS / 2]
}
