//! Heartbeats to 128,000 peers: the agent beside fping, beside `surge-ping` used the plain way, and
//! beside a bare loop that only sends and receives, which is the limit. One command, one run:
//!
//! ```text
//! cargo bench --bench peers                    # all of it, ten minutes
//! cargo bench --bench peers -- bare second     # the rows with these words in their names
//! cargo bench --bench peers -- --once          # each thing once instead of three times
//! ```
//!
//! All ask the same field: a network namespace that answers to whole prefixes. The cable delivers in
//! the context of the sender, so the kernel's work of answering is in everyone's CPU time, and what
//! is compared is what is left to differ. It takes root, for the namespaces and the raw sockets.

// The namespaces of the acceptance tests, of which a part is used here.
#[allow(dead_code, reason = "the tests ask more of it")]
#[path = "../common/lab.rs"]
mod lab;
#[allow(dead_code, reason = "the tests ask more of it")]
#[path = "../common/process.rs"]
mod process;

mod askers;
mod bare_peers;
mod crate_series;
mod field;
mod peers_table;
mod plain_peers;
mod state;
mod usage;
mod wire;

use std::{
    env, fs,
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use askers::{Agent, Metrics, Own, Setup, quantile_between, watch};
use bare_peers::{Outcome, Pace};
use evenkeel_core::peers::Inconclusive;
use field::{Family, Field};
use peers_table::{Row, print, row};
use tempfile::TempDir;
use wire::{Pacing, Watch, quantile};

/// How many peers there are; the limit too, which is what PEER-8 counts with.
const PEERS: u32 = 128_000;
/// How often each thing is measured, unless `--once` is told: one round of all after the other, so
/// that what else the machine does is the same for all.
const RUNS: usize = 3;
/// From the start of asking to the first look.
const WARM: Duration = Duration::from_millis(1500);
/// How long the CPU time is looked at.
const WINDOW: Duration = Duration::from_secs(5);
/// How long the cable is looked at, apart from that, as looking costs those who ask a little.
const WIRE: Duration = Duration::from_millis(3000);

const SECOND: Duration = Duration::from_secs(1);
/// How long is looked at those who have time.
const PEACE: Duration = Duration::from_secs(20);

/// fping numbers at most 65,535 echoes in ten seconds, and ends with an error beyond.
const FPING_PEERS: u32 = 30_000;
const FPING_APART: Duration = Duration::from_micros(10);
/// The shortest distance at which it can go on and on.
const FPING_APART_ALWAYS: Duration = Duration::from_micros(160);

/// What PEER-8 accepts for 128,000 peers every second: a sweep in 640 ms, and the retransmissions of
/// a tenth in 70 ms.
const EVERY_SECOND: &str = "heartbeat_batch = { size = 2000, interval = \"10ms\" }\n\
                            retransmission_batch = { size = 2000, interval = \"10ms\" }\n";

/// As `agent/peers/README.md` advises.
const EVERY_TEN: &str = "heartbeat_batch = { size = 3400 }\n";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [way @ ("--bare" | "--plain"), ..] => {
            let rest: Vec<&str> = arguments[1..].iter().map(String::as_str).collect();
            askers::own(&[&[way], &rest[..]].concat());
            ExitCode::SUCCESS
        }
        ref all if all.contains(&"--bench") => {
            // SAFETY: has no preconditions.
            if unsafe { libc::geteuid() } != 0 {
                eprintln!("This makes network namespaces for itself, so run it as root.");
                return ExitCode::FAILURE;
            }
            let words = all.iter().filter(|word| !word.starts_with("--"));
            let runs = if all.contains(&"--once") { 1 } else { RUNS };
            Bench::new(words.map(|&word| word.to_owned()).collect()).run(runs);
            ExitCode::SUCCESS
        }
        // `cargo test --all-targets` runs this too; it is no test.
        _ => ExitCode::SUCCESS,
    }
}

/// The run.
struct Bench {
    field: Field,
    directory: TempDir,
    words: Vec<String>,
    start: Instant,
}

impl Bench {
    fn new(words: Vec<String>) -> Bench {
        let directory = TempDir::with_prefix("ek-bench-").expect("a temporary directory");
        Bench { field: Field::new(), directory, words, start: Instant::now() }
    }

    /// Whether a row is asked for.
    fn wants(&self, name: &str) -> bool {
        self.words.is_empty() || self.words.iter().all(|word| name.contains(word.as_str()))
    }

    fn run(&self, runs: usize) {
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let cpus = thread::available_parallelism().map_or(0, usize::from);
        println!(
            "{PEERS} peers, answered by the same machine; {cpus} CPUs; medians of {runs}; load \
             before it: {}\n",
            load.split(' ').take(3).collect::<Vec<_>>().join(" ")
        );
        self.every_second(Family::V4, runs);
        self.every_second(Family::V6, 1);
        self.in_peace(Duration::from_secs(10), EVERY_TEN, &["none", "state", "full"]);
        self.in_peace(Duration::from_secs(60), "", &["full"]);
        if self.wants("engine state") {
            for interval in [1, 60] {
                let octets = state::of_each_peer(PEERS, Duration::from_secs(interval));
                println!("engine state, every {interval} s: {octets:.0} octets a peer");
            }
        }
        if self.wants("series by the crate prometheus") {
            let (cpu, octets) = crate_series::page(PEERS);
            println!(
                "\nseries by the crate prometheus: a page of {octets} octets, with one series a peer, \
                 takes {:.0} ms of CPU",
                cpu.as_secs_f64() * 1000.0
            );
        }
        println!("\n{:.0} s in all", self.start.elapsed().as_secs_f64());
    }

    /// All of them, one after the other, as often as told.
    fn every_second(&self, family: Family, runs: usize) {
        let name = |what: &str| format!("{what}, every second, {family:?}");
        let mut rows: Vec<(String, Row)> = Vec::new();
        let pace = Pace { peers: PEERS, interval: SECOND, batch: Duration::from_millis(2) };
        let surge = Pace { peers: 10_000, ..pace };
        let v4 = family == Family::V4;
        for run in 0..runs {
            self.own(&mut rows, &name("bare loop"), "--bare", family, pace);
            if v4 {
                self.own(&mut rows, &name("surge-ping, 10,000 peers"), "--plain", family, surge);
                self.fping(&mut rows, &name("fping, 30,000 peers at once"));
            }
            let last = run + 1 == runs;
            self.agent_every_second(&mut rows, family, "none", &name);
            if last && v4 {
                self.agent_every_second(&mut rows, family, "full", &name);
                self.own(&mut rows, &name("surge-ping"), "--plain", family, pace);
                self.fping_always(&mut rows, "fping, once in 20.5 s, V4");
            }
        }
        print(&rows);
    }

    /// The bare loop, or `surge-ping`.
    fn own(
        &self,
        rows: &mut Vec<(String, Row)>,
        name: &str,
        way: &str,
        family: Family,
        pace: Pace,
    ) {
        if !self.wants(name) {
            return;
        }
        eprintln!("measuring {name}");
        let row = row(rows, name);
        let empty =
            self.start_own(way, family, Pace { peers: 1, ..pace }, Duration::from_millis(600));
        thread::sleep(Duration::from_millis(500));
        let without = usage::resident(empty.pid()).0;
        drop(empty);

        let asker = self.start_own(way, family, pace, WARM + WINDOW + WIRE + SECOND);
        thread::sleep(WARM);
        row.sample(&watch(&self.field, asker.pid(), WINDOW));
        row.memory(asker.pid(), without, pace.peers);
        row.pacing.push(self.wire(family, pace.interval));
        row.outcome(asker.end());
    }

    fn start_own(&self, way: &str, family: Family, pace: Pace, time: Duration) -> Own {
        Own::start(&self.field, way, family, pace, time)
    }

    /// What the cable shows for a while.
    fn wire(&self, family: Family, interval: Duration) -> Pacing {
        let watch = Watch::start(&self.field, family);
        thread::sleep(WIRE);
        watch.end(interval)
    }

    /// fping at full speed. It takes some time to start and to read its list, so that is taken off:
    /// what two rounds cost more than one.
    fn fping(&self, rows: &mut Vec<(String, Row)>, name: &str) {
        if !self.wants(name) {
            return;
        }
        eprintln!("measuring {name}");
        let list = askers::list_file(&self.directory, Family::V4, FPING_PEERS);
        let [once, twice] = [1, 2].map(|n| askers::fping(&self.field, &list, n, FPING_APART));
        let row = row(rows, name);
        let more = twice.cpu - once.cpu;
        row.cpu(more, FPING_PEERS);
        row.outcome(twice.outcome);
    }

    /// fping as fast as it can go on and on.
    fn fping_always(&self, rows: &mut Vec<(String, Row)>, name: &str) {
        if !self.wants(name) {
            return;
        }
        eprintln!("measuring {name}");
        let list = askers::list_file(&self.directory, Family::V4, PEERS);
        let once = askers::fping(&self.field, &list, 1, FPING_APART_ALWAYS);
        let row = row(rows, name);
        row.cpu(once.cpu, PEERS);
        row.outcome(once.outcome);
        row.note = format!("its start included; it took {:.1} s", once.time.as_secs_f64());
    }

    /// The agent with series per peer of one kind, first left alone and then scraped.
    fn agent_every_second(
        &self,
        rows: &mut Vec<(String, Row)>,
        family: Family,
        series: &str,
        name: &dyn Fn(&str) -> String,
    ) {
        let keys = format!("{EVERY_SECOND}metrics = \"{series}\"\n");
        let group = "interval = \"1s\"\ntimeout = \"500ms\"\n";
        let setup = Setup { family, peers: PEERS, keys: &keys, group };
        self.agent(rows, setup, series, SECOND, WINDOW, name);
    }

    fn agent(
        &self,
        rows: &mut Vec<(String, Row)>,
        setup: Setup,
        series: &str,
        interval: Duration,
        window: Duration,
        name: &dyn Fn(&str) -> String,
    ) {
        let what =
            if series == "none" { "evenkeel".to_owned() } else { format!("evenkeel, {series}") };
        let (alone, scraped) = (name(&what), name(&format!("{what}, scraped")));
        let wanted = [self.wants(&alone), self.wants(&scraped)];
        if wanted == [false; 2] {
            return;
        }
        let empty = Agent::start(&self.field, &Setup { peers: 0, ..setup });
        let without = usage::resident(empty.pid()).0;
        drop(empty);
        let agent = Agent::start(&self.field, &setup);
        thread::sleep(WARM);
        let mut before = agent.metrics();
        for (name, wanted, scraping) in [(alone, wanted[0], false), (scraped, wanted[1], true)] {
            if !wanted {
                continue;
            }
            eprintln!("measuring {name}");
            let row = row(rows, &name);
            let scrapes = scraping.then(|| agent.scrape());
            thread::sleep(Duration::from_millis(300));
            let threads = usage::Cpu::of_threads(agent.pid());
            row.sample(&watch(&self.field, agent.pid(), window));
            tell_threads(agent.pid(), &threads, window);
            row.memory(agent.pid(), without, setup.peers);
            if interval <= SECOND {
                row.pacing.push(self.wire(setup.family, interval));
            }
            row.note = scrapes.map(|scrapes| tell_scrapes(&scrapes.end())).unwrap_or_default();
            let after = agent.metrics();
            row.outcome(outcome(&before, &after));
            row.note += &tell_inconclusive(&before, &after);
            row.note += &tell_metrics(&before, &after);
            before = after;
        }
    }

    /// At rates at which nobody is short of time, so that what a scrape does shows.
    fn in_peace(&self, interval: Duration, batches: &str, series: &[&str]) {
        let name = |what: &str| format!("{what}, every {} s, V4", interval.as_secs());
        let mut rows = Vec::new();
        let bare = name("bare loop");
        if self.wants(&bare) {
            eprintln!("measuring {bare}");
            let row = row(&mut rows, &bare);
            let pace = Pace { peers: PEERS, interval, batch: Duration::from_millis(200) };
            let asker = self.start_own("--bare", Family::V4, pace, WARM + PEACE + SECOND);
            thread::sleep(WARM);
            row.sample(&watch(&self.field, asker.pid(), PEACE));
            row.memory(asker.pid(), 0, PEERS);
            row.outcome(asker.end());
        }
        let group = format!("interval = \"{}s\"\n", interval.as_secs());
        for series in series {
            let keys = format!("{batches}metrics = \"{series}\"\n");
            let setup = Setup { family: Family::V4, peers: PEERS, keys: &keys, group: &group };
            self.agent(&mut rows, setup, series, interval, PEACE, &name);
        }
        print(&rows);
    }
}

/// What the agent says became of its requests between two looks at its metrics. What was sent just
/// before the second one is judged later, so it is not the answers that are counted.
fn outcome(before: &Metrics, after: &Metrics) -> Outcome {
    let more = |name: &str| (after.sum(name, &[]) - before.sum(name, &[])) as u64;
    let sent = more("evenkeel_peers_requests_total");
    let lost = more("evenkeel_peers_unanswered_total");
    Outcome { sent, answered: sent - lost }
}

/// What the agent does not hold against the peers, as its own host was to blame (PEER-12).
fn tell_inconclusive(before: &Metrics, after: &Metrics) -> String {
    let reasons = Inconclusive::ALL.iter().filter_map(|reason| {
        let label = format!("reason=\"{}\"", reason.name());
        let sum = |of: &Metrics| of.sum("evenkeel_peers_inconclusive_total", &[&label]);
        let more = sum(after) - sum(before);
        (more > 0.0).then(|| format!("{more} {}; ", reason.name()))
    });
    reasons.collect()
}

/// How late batches were between two looks, and how long the round trips, by the agent's own
/// histograms.
fn tell_metrics(before: &Metrics, after: &Metrics) -> String {
    let tell = |what: &str, name: &str| {
        let (before, after) = (before.buckets(name), after.buckets(name));
        let [half, most, all] =
            [0.5, 0.99, 1.0].map(|share| quantile_between(&before, &after, share) * 1000.0);
        format!("{what} <= {half:.1}, {most:.1}, {all:.1} ms; ")
    };
    let mean = |name: &str| {
        let more = |end: &str| {
            let name = format!("{name}_{end}");
            after.sum(&name, &[]) - before.sum(&name, &[])
        };
        1e6 * more("sum") / more("count")
    };
    tell("batches late", "evenkeel_peers_batch_lateness_seconds")
        + &format!("round trips {:.0} µs (mean)", mean("evenkeel_peers_round_trip_seconds"))
}

fn tell_scrapes(scrapes: &[(f64, u64)]) -> String {
    let mut seconds: Vec<f64> = scrapes.iter().map(|scrape| scrape.0).collect();
    seconds.sort_by(f64::total_cmp);
    let octets = scrapes.last().map_or(0, |scrape| scrape.1);
    format!(
        "{} scrapes of {octets} octets in {:.3} s (median; at most {:.3}); ",
        scrapes.len(),
        quantile(&seconds, 0.5),
        quantile(&seconds, 1.0)
    )
}

/// Which of the agent's threads worked, for who wants to know where the time goes.
fn tell_threads(pid: u32, before: &[(String, usage::Cpu)], window: Duration) {
    for (name, cpu) in usage::Cpu::of_threads(pid) {
        let was = before.iter().find(|(its, _)| *its == name).map(|(_, cpu)| *cpu);
        let used = cpu - was.unwrap_or_default();
        if used.total() > window / 200 {
            let share = |time: Duration| 100.0 * time.as_secs_f64() / window.as_secs_f64();
            let (user, system) = (share(used.user), share(used.system));
            eprintln!("  thread {name}: {user:.0} % user, {system:.0} % system");
        }
    }
}
