//! Those who ask the peers: the agent, fping, `surge-ping` and the bare loop, each a process of its
//! own, with the same questions asked of it from outside.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tempfile::TempDir;

use super::{
    PEERS,
    bare_peers::{self, Outcome, Pace},
    field::{Family, Field, file_sd},
    plain_peers,
    usage::{Cpu, resident},
};

/// Where the agent shows its metrics, in a namespace of our own.
const WEB: &str = "127.0.0.1:19040";
/// A start with 128,000 peers takes a second or two, on a busy machine more; then there is a sweep.
const START: Duration = Duration::from_secs(120);

/// What was used in a while, and what was done with it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    /// Echoes that came to the field.
    pub requests: u64,
    /// How long it was looked at.
    pub time: Duration,
    /// What the process used.
    pub cpu: Cpu,
    /// What the kernel's own threads used meanwhile.
    pub softirqs: Cpu,
}

impl Sample {
    /// CPU seconds for each heartbeat.
    pub fn each(&self) -> f64 {
        (self.cpu.total() + self.softirqs.total()).as_secs_f64() / self.requests as f64
    }

    /// Heartbeats a second.
    pub fn rate(&self) -> f64 {
        self.requests as f64 / self.time.as_secs_f64()
    }
}

/// Looks at a process that asks, for a while.
pub fn watch(field: &Field, pid: u32, time: Duration) -> Sample {
    let (cpu, softirqs) = (Cpu::of(pid), Cpu::of_softirqs());
    let (asked, start) = (field.asked(), Instant::now());
    thread::sleep(time);
    let (asked_then, time) = (field.asked(), start.elapsed());
    Sample {
        requests: asked_then - asked,
        time,
        cpu: Cpu::of(pid) - cpu,
        softirqs: Cpu::of_softirqs() - softirqs,
    }
}

/// One of those that are in this program: the bare loop, or `surge-ping`.
pub struct Own {
    child: Child,
    said: BufReader<ChildStdout>,
}

/// What the process of an [`Own`] is told.
pub fn own_arguments(way: &str, family: Family, pace: Pace, duration: Duration) -> Vec<String> {
    let family = if family == Family::V4 { "4" } else { "6" };
    let (interval, batch) = (pace.interval.as_millis(), pace.batch.as_millis());
    let numbers = [pace.peers.into(), interval, batch, duration.as_millis()];
    let words = [way, family].into_iter().map(str::to_owned);
    words.chain(numbers.iter().map(u128::to_string)).collect()
}

/// Does what [`own_arguments`] tell, in the process that was started with them.
pub fn own(arguments: &[&str]) {
    let &[way, family, peers, interval, batch, duration] = arguments else {
        panic!("as many arguments as `own_arguments` makes");
    };
    let milliseconds = |word: &str| Duration::from_millis(word.parse().expect("a number"));
    let peers = peers.parse().expect("a number");
    let pace = Pace { peers, interval: milliseconds(interval), batch: milliseconds(batch) };
    let family = if family == "4" { Family::V4 } else { Family::V6 };
    let outcome = match way {
        "--bare" => bare_peers::run(family, pace, milliseconds(duration)),
        _ => plain_peers::run(pace, milliseconds(duration)),
    };
    let Outcome { sent, answered } = outcome.expect("a raw socket, which takes root");
    println!("{sent} {answered}");
}

impl Own {
    /// Starts one that asks for so long.
    pub fn start(field: &Field, way: &str, family: Family, pace: Pace, time: Duration) -> Own {
        let program = std::env::current_exe().expect("this program");
        let mut child = field.start(&program, &own_arguments(way, family, pace, time));
        let said = BufReader::new(child.stdout.take().expect("piped"));
        Own { child, said }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end, and what it says of itself.
    pub fn end(mut self) -> Outcome {
        let mut line = String::new();
        self.said.read_line(&mut line).expect("text");
        let mut numbers = line.split_whitespace().map(|word| word.parse().expect("a number"));
        let mut next = || numbers.next().expect("two numbers, unless it has failed");
        Outcome { sent: next(), answered: next() }
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// What fping used for a list of peers.
#[derive(Clone, Copy, Debug)]
pub struct Fping {
    /// Its CPU time, its start and its reading of the list among it.
    pub cpu: Cpu,
    /// How long it took.
    pub time: Duration,
    /// How it went.
    pub outcome: Outcome,
}

/// Lets fping ask each peer of a list so often, one echo every `apart`.
pub fn fping(field: &Field, list: &Path, count: u32, apart: Duration) -> Fping {
    let mut command = field.command(Path::new("fping"));
    command.args(["--quiet", "--stats", "--timeout=500", "--period=1000"]);
    command.arg(format!("--count={count}"));
    // In milliseconds.
    command.arg(format!("--interval={}", apart.as_secs_f64() * 1000.0)).arg("--file").arg(list);
    let (start, before) = (Instant::now(), Cpu::of_children());
    let output = command.stdin(Stdio::null()).output().expect("`ip` is installed by tests/setup");
    let (time, cpu) = (start.elapsed(), Cpu::of_children() - before);
    let said = String::from_utf8_lossy(&output.stderr);
    let number = |what: &str| {
        let line = said.lines().find_map(|line| line.trim().strip_suffix(what));
        line.and_then(|number| number.trim().parse().ok()).unwrap_or_else(|| {
            panic!(
                "fping is installed by tests/setup; it said: {}",
                said.lines().last().unwrap_or("")
            )
        })
    };
    let outcome =
        Outcome { sent: number("ICMP Echos sent"), answered: number("ICMP Echo Replies received") };
    Fping { cpu, time, outcome }
}

/// The agent under measurement.
pub struct Agent<'a> {
    field: &'a Field,
    child: Child,
    directory: TempDir,
}

/// How the agent is set up.
#[derive(Clone, Copy, Debug)]
pub struct Setup<'a> {
    /// The addresses of the peers.
    pub family: Family,
    /// How many there are.
    pub peers: u32,
    /// The keys of `[peers]`.
    pub keys: &'a str,
    /// The keys of its one group.
    pub group: &'a str,
}

impl<'a> Agent<'a> {
    /// Starts it, and waits until each peer has been asked once.
    pub fn start(field: &'a Field, setup: &Setup) -> Agent<'a> {
        let directory = TempDir::with_prefix("ek-bench-").expect("a temporary directory");
        let file = |name: &str| directory.path().join(name);
        let (state, peers) = (file("state"), file("peers.json"));
        fs::create_dir(&state).expect("a writable directory");
        fs::write(&peers, file_sd(setup.family, setup.peers)).expect("a writable directory");
        let text = format!(
            "[agent]\nname = \"bench\"\nstate_dir = {state:?}\n\
             [subnets]\nwatch_gateways = false\n[web]\nlisten = {WEB:?}\n\
             [peers]\n{}\n[[peers.group]]\nname = \"bench\"\nmonitor_max_peers = {PEERS}\n\
             files = [{peers:?}]\n{}\n",
            setup.keys, setup.group
        );
        fs::write(file("evenkeel.toml"), text).expect("a writable directory");
        let log = fs::File::create(file("log")).expect("a writable directory");
        let mut command = field.command(Path::new(env!("CARGO_BIN_EXE_evenkeel")));
        command.args(["run", "--config"]).arg(file("evenkeel.toml")).stdin(Stdio::null());
        let child = command.stdout(log.try_clone().expect("a file")).stderr(log).spawn();
        let child = child.expect("`ip` is installed by tests/setup");
        let mut agent = Agent { field, child, directory };
        let (until, asked) = (Instant::now() + START, field.asked());
        while !agent.is_ready() || field.asked() - asked < setup.peers.into() {
            let ended = agent.child.try_wait().expect("a child of ours");
            assert!(
                ended.is_none() && Instant::now() < until,
                "the agent does not ask {} peers ({ended:?}): {}",
                setup.peers,
                agent.log()
            );
            thread::sleep(Duration::from_millis(50));
        }
        agent
    }

    fn is_ready(&self) -> bool {
        self.field.near().get(WEB, "/-/ready").is_some_and(|(status, _)| status == 200)
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// Its metrics as they are now.
    pub fn metrics(&self) -> Metrics {
        let (_, text) = self.field.near().get(WEB, "/metrics").expect("it runs");
        Metrics(text)
    }

    /// Begins to scrape it.
    pub fn scrape(&self) -> Scrapes {
        Scrapes::start(self.field)
    }
}

impl Drop for Agent<'_> {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Metrics in the text format 0.0.4.
pub struct Metrics(pub String);

impl Metrics {
    /// The sum of all series of this name that carry these labels.
    pub fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        self.series(name, labels).map(|(_, value)| value).sum()
    }

    /// The labels and the value of each of those series.
    fn series(&self, name: &str, labels: &[&str]) -> impl Iterator<Item = (&str, f64)> {
        self.0.lines().filter_map(move |line| {
            let (series, value) = line.rsplit_once(' ')?;
            let (base, its_labels) = series.split_once('{').unwrap_or((series, ""));
            let fits = base == name && labels.iter().all(|label| its_labels.contains(label));
            Some((its_labels, value.parse().ok()?)).filter(|_| fits)
        })
    }

    /// The buckets of a histogram, summed over all its series: their upper ends, and how many values
    /// each holds that the one before does not.
    pub fn buckets(&self, name: &str) -> Vec<(f64, f64)> {
        let mut ends: Vec<(f64, f64)> = Vec::new();
        for (labels, count) in self.series(&format!("{name}_bucket"), &[]) {
            let Some((_, end)) = labels.split_once("le=\"") else { continue };
            let end = end.split('"').next().unwrap_or("");
            let end = if end == "+Inf" { f64::INFINITY } else { end.parse().expect("a number") };
            match ends.iter_mut().find(|(its, _)| *its == end) {
                Some((_, sum)) => *sum += count,
                None => ends.push((end, count)),
            }
        }
        ends.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut before = 0.0;
        for (_, count) in &mut ends {
            let alone = *count - before;
            before = *count;
            *count = alone;
        }
        ends
    }
}

/// What lies so far from the least (0) to the most (1) in what came to a histogram between two looks
/// at it: the upper end of its bucket. It is the most that it can be.
pub fn quantile_between(before: &[(f64, f64)], after: &[(f64, f64)], share: f64) -> f64 {
    let count = |at: usize| after[at].1 - before.get(at).map_or(0.0, |bucket| bucket.1);
    let all: f64 = (0..after.len()).map(count).sum();
    let mut sum = 0.0;
    let end = (0..after.len()).find(|&at| {
        sum += count(at);
        sum >= share * all && sum > 0.0
    });
    end.map_or(f64::NAN, |at| after[at].0)
}

/// Someone who scrapes once a second, as Prometheus would.
pub struct Scrapes {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<(f64, u64)>>,
}

impl Scrapes {
    fn start(field: &Field) -> Scrapes {
        let stop = Arc::<AtomicBool>::default();
        let stop_too = stop.clone();
        let mut curl = field.command(Path::new("curl"));
        curl.args(["--silent", "--compressed", "--output", "/dev/null", "--max-time", "20"]);
        curl.args(["--write-out", "%{time_total} %{size_download}"]);
        curl.arg(format!("http://{WEB}/metrics")).stdin(Stdio::null()).stdout(Stdio::piped());
        let thread = thread::spawn(move || {
            let mut scrapes = Vec::new();
            while !stop_too.load(Ordering::Relaxed) {
                let next = Instant::now() + Duration::from_secs(1);
                scrapes.push(scrape(&mut curl));
                thread::sleep(next.saturating_duration_since(Instant::now()));
            }
            scrapes
        });
        Scrapes { stop, thread }
    }

    /// Ends it; gives how long each took in seconds, and how many octets came.
    pub fn end(self) -> Vec<(f64, u64)> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("curl is installed by tests/setup")
    }
}

fn scrape(curl: &mut Command) -> (f64, u64) {
    let mut child = curl.spawn().expect("`ip` is installed by tests/setup");
    let mut said = String::new();
    child.stdout.take().expect("piped").read_to_string(&mut said).expect("text");
    child.wait().expect("a child of ours");
    let (seconds, octets) = said.split_once(' ').expect("curl is installed by tests/setup");
    (seconds.parse().expect("a number"), octets.parse().expect("a number"))
}

/// How much memory each peer takes: what a process with all of them has in use, less what one with
/// none has.
pub fn each_peer(with: u32, without: u64, peers: u32) -> f64 {
    (resident(with).0.saturating_sub(without)) as f64 / f64::from(peers)
}

/// A file with one address in each line.
pub fn list_file(directory: &TempDir, family: Family, peers: u32) -> PathBuf {
    let path = directory.path().join(format!("{peers}-{family:?}"));
    fs::write(&path, super::field::list(family, peers)).expect("a writable directory");
    path
}
