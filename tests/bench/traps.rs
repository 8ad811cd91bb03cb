//! How many traps a second, without loss, in bursts, and at what cost: the agent beside net-snmp's
//! snmptrapd that logs to a file, and beside a bare loop that is the limit. One command, one run:
//!
//! ```text
//! cargo bench --bench traps
//! ```
//!
//! Sender and receiver have a CPU each. Every figure is the median of three runs. It takes root,
//! for a network namespace of its own and for receive buffers beyond the system's limit.

mod bare;
#[allow(dead_code, reason = "`door.rs` makes informs and SNMPv3 of the same load")]
mod load;
mod receivers;

use std::{
    env,
    path::Path,
    process::{Command, ExitCode},
    thread,
    time::{Duration, Instant},
};

use load::{INTERFACES, Load, SYSTEMS};
use receivers::{Kind, PORT, Receiver, pin_self, socket_state};

/// How often each thing is measured.
const RUNS: usize = 3;

const BURSTS: [u64; 3] = [1000, 10_000, 100_000];

/// A rate that all three can bear, to compare what a trap costs them.
const FIXED_RATE: u64 = 10_000;

/// How many datagrams wait in the socket when the drain begins.
const DRAIN: u64 = 100_000;

/// How long a rate must be borne.
const STEP: Duration = Duration::from_secs(1);

/// A backlog that takes longer than this to work off says that the rate was too high.
const BACKLOG: Duration = Duration::from_millis(250);

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[1..] {
        ["--bare", port, counter, "count"] => {
            let port = port.parse().expect("a port");
            bare::run(port, Path::new(counter)).expect("a socket in a namespace of our own");
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

    println!(
        "{SYSTEMS} systems with {INTERFACES} interfaces each, SNMPv2c, 125 octets a trap; \
         sender on CPU 0, receiver on CPU 1; medians of {RUNS}\n"
    );
    let start = Instant::now();
    let names = ["evenkeel", "snmptrapd", "bare loop"];
    let figures = [Kind::Agent, Kind::Snmptrapd, Kind::Bare].map(Figures::measure);
    let [agent, snmptrapd, bare] = &figures;

    println!("{:42}{:>12}{:>12}{:>12}", "", names[0], names[1], names[2]);
    let row = |what: &str, of: &dyn Fn(&Figures) -> String| {
        println!("{what:42}{:>12}{:>12}{:>12}", of(agent), of(snmptrapd), of(bare));
    };
    for (at, burst) in BURSTS.iter().enumerate() {
        let what = format!("lost of a burst of {burst}");
        row(&what, &|figures| figures.lost[at].to_string());
    }
    row("highest rate without loss, traps/s", &|figures| rate(figures.highest));
    row("drained at, traps/s on one core", &|figures| format!("{:.0}", figures.drained));
    let at_fixed = format!("CPU per trap at {FIXED_RATE}/s, us");
    row(&at_fixed, &|figures| format!("{:.2}", figures.cpu_fixed));
    row("CPU per trap while draining, us", &|figures| format!("{:.2}", figures.cpu_drain));

    println!();
    let ratio = |what: &str, other: &Figures| {
        println!(
            "evenkeel to {what}: drained {:.2} x, CPU per trap {:.2} x",
            agent.drained / other.drained,
            agent.cpu_drain / other.cpu_drain
        );
    };
    ratio("the bare loop", bare);
    ratio("snmptrapd", snmptrapd);
    println!(
        "\nsnmptrapd was drained with the largest buffer that it can get, which holds some 10,000."
    );
    println!("{:.0} s in all", start.elapsed().as_secs_f64());
    ExitCode::SUCCESS
}

/// The highest rate, and whether it is the sender that could do no more.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
struct Highest(f64, bool);

fn rate(Highest(rate, sender): Highest) -> String {
    if sender { format!("> {rate:.0}") } else { format!("{rate:.0}") }
}

/// What was measured of one receiver.
struct Figures {
    /// Lost of each burst.
    lost: [u64; BURSTS.len()],
    highest: Highest,
    /// Traps per second while draining.
    drained: f64,
    /// Microseconds of CPU for each trap.
    cpu_fixed: f64,
    cpu_drain: f64,
}

impl Figures {
    fn measure(kind: Kind) -> Figures {
        eprintln!("measuring {kind:?}");
        let mut load = Load::new().expect("a socket");
        let mut receiver = warm(kind, &mut load);
        let mut lost = [0; BURSTS.len()];
        for (lost, burst) in lost.iter_mut().zip(BURSTS) {
            *lost = median(|| burst_loss(&receiver, &mut load, burst));
        }
        let highest = median(|| highest_rate(&mut receiver, &mut load));
        let cpu_fixed = median(|| cpu_at(&mut receiver, &mut load, FIXED_RATE));
        drop(receiver);

        // By default, snmptrapd's socket holds too little to be drained for a measurable time.
        let kind = if kind == Kind::Snmptrapd { Kind::SnmptrapdLarge } else { kind };
        let mut receiver = warm(kind, &mut load);
        let mut cpu = Vec::new();
        let drained = median(|| {
            let (rate, each) = drain(&mut receiver, &mut load);
            cpu.push(each);
            rate
        });
        let cpu_drain = median(|| cpu.pop().expect("one for each run"));
        Figures { lost, highest, drained, cpu_fixed, cpu_drain }
    }
}

/// A receiver that knows every interface: each has gone down, up and down, so that the agent has
/// found it unstable and has written that down.
fn warm(kind: Kind, load: &mut Load) -> Receiver {
    let receiver = Receiver::start(kind);
    load.steady(PORT, 8000, Duration::from_millis(3 * 10_000 / 8));
    receiver.idle();
    receiver
}

/// How many of a burst found no room in the socket.
fn burst_loss(receiver: &Receiver, load: &mut Load, burst: u64) -> u64 {
    let before = dropped();
    load.burst(PORT, burst);
    receiver.idle();
    dropped() - before
}

/// Steps up by half, then narrows down between the last rate that was borne and the first that was
/// not, to a sixteenth.
fn highest_rate(receiver: &mut Receiver, load: &mut Load) -> Highest {
    let mut good = 0.0;
    let mut bad = None;
    let mut next = 4000.0;
    loop {
        match bears(receiver, load, next) {
            Verdict::Borne => good = next,
            Verdict::SenderTooSlow(reached) => return Highest(reached, true),
            Verdict::NotBorne => bad = Some(next),
        }
        next = match bad {
            None => next * 1.5,
            Some(bad) if bad - good < bad / 16.0 => return Highest(good, false),
            Some(bad) => (good + bad) / 2.0,
        };
    }
}

enum Verdict {
    Borne,
    NotBorne,
    /// All was borne, but it was less than asked for.
    SenderTooSlow(f64),
}

/// Whether a rate is borne: nothing lost, and all counted soon after the last was sent. What else
/// the receiver does by then, as writing its state, is its own affair.
fn bears(receiver: &mut Receiver, load: &mut Load, rate: f64) -> Verdict {
    let before = (receiver.counted(), dropped());
    let (sent, took) = load.steady(PORT, rate as u64, STEP);
    let end = Instant::now();
    let mut all = false;
    while !all && end.elapsed() < BACKLOG {
        all = receiver.counted() - before.0 >= sent;
        thread::sleep(Duration::from_millis(5));
    }
    receiver.idle();
    if !all || dropped() > before.1 {
        return Verdict::NotBorne;
    }
    let reached = sent as f64 / took.as_secs_f64();
    if reached < 0.95 * rate { Verdict::SenderTooSlow(reached) } else { Verdict::Borne }
}

/// Microseconds of CPU for each trap that was counted, at a rate.
fn cpu_at(receiver: &mut Receiver, load: &mut Load, rate: u64) -> f64 {
    let before = (receiver.counted(), receiver.cpu());
    load.steady(PORT, rate, 2 * STEP);
    receiver.idle();
    let cpu = receiver.cpu() - before.1;
    cpu.as_secs_f64() * 1e6 / (receiver.counted() - before.0) as f64
}

/// Fills the socket of a receiver that stands still, lets it go, and waits until all is counted;
/// gives traps per second and microseconds of CPU for each.
fn drain(receiver: &mut Receiver, load: &mut Load) -> (f64, f64) {
    let counted = receiver.counted();
    receiver.idle();
    receiver.signal(libc::SIGSTOP);
    thread::sleep(Duration::from_millis(20));
    load.burst(PORT, DRAIN);
    let cpu = receiver.cpu();
    let start = Instant::now();
    receiver.signal(libc::SIGCONT);
    let done = receiver.idle();
    let cpu = receiver.cpu() - cpu;
    let traps = (receiver.counted() - counted) as f64;
    (traps / (done - start).as_secs_f64(), cpu.as_secs_f64() * 1e6 / traps)
}

/// Datagrams that found no room, since the receiver's start.
fn dropped() -> u64 {
    socket_state().expect("the receiver runs").dropped
}

/// The middle one of some runs.
fn median<T: PartialOrd>(mut run: impl FnMut() -> T) -> T {
    let mut runs: Vec<T> = (0..RUNS).map(|_| run()).collect();
    runs.sort_by(|one, other| one.partial_cmp(other).expect("numbers"));
    runs.swap_remove(RUNS / 2)
}
