//! How long nobody speaks: a pair's takeover after kill -9 and after a pulled cable, beside keepalived's
//! VRRP with its default timers on the same hosts, at the same moments. And a takeover with 100,000
//! interfaces that are down. One command, one run:
//!
//! ```text
//! cargo bench --bench pair                        # all of it, half an hour
//! cargo bench --bench pair -- crash               # the rows with this word in their names: crash, cut, objects
//! cargo bench --bench pair -- --runs=5            # each thing five times instead of fifty
//! ```
//!
//! All times are from just before the kill or the cut. It takes root, for its network namespaces, and
//! keepalived (Debian's package of that name), of which nothing is started but what runs in these.

// The lab of the acceptance tests, of which a part is used here.
#[allow(dead_code, unused_imports, reason = "the tests ask more of it")]
#[path = "../common/mod.rs"]
mod common;

mod takeover_hosts;
mod vrrp;

use std::{
    env, fs,
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use common::{Chance, Trap, wire};
use takeover_hosts::{Cables, Hosts, Pair};
use vrrp::Vrrp;

/// How often each thing is measured, and the takeover with many objects, before which all of them are
/// copied to the standby.
const RUNS: usize = 50;
const RUNS_OF_OBJECTS: usize = 5;

/// PAIR-15.
const BUDGET: Duration = Duration::from_secs(4);

/// How many interfaces are down, of how many systems.
const OBJECTS: u32 = 100_000;
const SYSTEMS: u32 = 10;

/// What has no exact end is waited for this long.
const LIMIT: Duration = Duration::from_secs(120);

/// The phase of heartbeats and advertisements at which it happens: any.
const PHASE: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    // `cargo test --all-targets` runs this too; it is no test.
    if !arguments.iter().any(|argument| argument == "--bench") {
        return ExitCode::SUCCESS;
    }
    // SAFETY: has no preconditions.
    if unsafe { libc::geteuid() } != 0 {
        eprintln!("This makes network namespaces for itself, so run it as root.");
        return ExitCode::FAILURE;
    }
    if !vrrp::is_installed() {
        eprintln!("keepalived is missing: apt-get install --no-install-recommends keepalived");
        return ExitCode::FAILURE;
    }
    let runs = arguments.iter().find_map(|argument| argument.strip_prefix("--runs="));
    let runs: Option<usize> = runs.map(|runs| runs.parse().expect("--runs=<number>"));
    let words: Vec<&String> =
        arguments.iter().filter(|argument| !argument.starts_with("--")).collect();
    let wants = |name: &str| words.is_empty() || words.iter().any(|word| name.contains(&**word));
    let start = Instant::now();
    let mut chance = Chance::new();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let cpus = thread::available_parallelism().map_or(0, usize::from);
    let load = load.split(' ').take(3).collect::<Vec<_>>().join(" ");
    println!("{cpus} CPUs; load before it: {load}; milliseconds\n");
    println!("{:44}{:>6}{:>9}{:>9}{:>9}", "", "runs", "median", "worst", "x VRRP");
    let mut kept = true;
    if wants("crash") || wants("cut") {
        kept &= beside_vrrp(&wants, runs.unwrap_or(RUNS), &mut chance);
    }
    if wants("objects") {
        kept &= with_objects(runs.unwrap_or(RUNS_OF_OBJECTS).min(RUNS_OF_OBJECTS));
    }
    println!("\n{:.0} s in all", start.elapsed().as_secs_f64());
    println!("PAIR-15, {BUDGET:?}: {}", if kept { "kept" } else { "broken" });
    if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Crashes and cuts, of both programs at once. Says whether all were within the budget.
fn beside_vrrp(wants: &dyn Fn(&str) -> bool, runs: usize, chance: &mut Chance) -> bool {
    let hosts = Hosts::new();
    let cables = Cables::lay(&hosts);
    let mut pair = Pair::start(&hosts, "");
    let mut vrrp = Vrrp::start(&hosts);
    let mut kept = true;
    for (what, cut) in [("crash", false), ("cut", true)] {
        if !wants(what) {
            continue;
        }
        let mut rows: [Vec<Duration>; 4] = Default::default();
        for run in 0..runs {
            eprint!("\r{what} {} of {runs} ", run + 1);
            pair.wait_in_sync(LIMIT);
            let from = pair.primary();
            vrrp.wait_master(from, LIMIT);
            thread::sleep(chance.time(PHASE));
            let watch = pair.watch(1 - from);
            let address = vrrp.watch(1 - from);
            let began = Instant::now();
            if cut {
                cables.unplug(from);
            } else {
                pair.kill(from);
                vrrp.kill(from);
            }
            let seen = watch.end(began, LIMIT);
            let vrrp_took = address.end(began, LIMIT);
            for (row, took) in rows.iter_mut().zip([seen.role, seen.state, seen.told, vrrp_took]) {
                row.push(took);
            }
            if cut {
                cables.plug_in(&hosts, from);
            } else {
                pair.launch(from);
                vrrp.launch(from);
            }
        }
        eprint!("\r                    \r");
        let [role, state, told, of_vrrp] = rows.map(Row::of);
        role.print(&format!("{what}: evenkeel is primary, by its log"), Some(&of_vrrp));
        state.print(&format!("{what}: it has the state"), Some(&of_vrrp));
        told.print(&format!("{what}: the NMS is told by it"), Some(&of_vrrp));
        of_vrrp.print(&format!("{what}: keepalived has the address"), None);
        kept &= told.worst <= BUDGET && role.worst <= BUDGET;
    }
    kept
}

/// A takeover with as many objects as an agent has by default, each of them down.
fn with_objects(runs: usize) -> bool {
    let hosts = Hosts::new();
    let _cables = Cables::lay(&hosts);
    let mut pair = Pair::start(
        &hosts,
        "[[traps.limit]]\nsources = [\"10.1.0.0/24\"]\nrate = 0\n\n\
         [instability]\ninterfaces = { window = \"1h\", threshold = 2 }\n",
    );
    pair.wait_in_sync(LIMIT);
    let began = Instant::now();
    let first = pair.primary();
    send_link_downs(&hosts, &pair, first);
    common::wait_until("all alarms to be raised", 5 * LIMIT, || {
        pair.active(first) >= OBJECTS.into()
    });
    eprintln!("{OBJECTS} interfaces went down in {:.0} s", began.elapsed().as_secs_f64());
    let mut rows: [Vec<Duration>; 3] = Default::default();
    for _ in 0..runs {
        let began = Instant::now();
        pair.wait_in_sync(5 * LIMIT);
        eprintln!("in synchronisation after {:.1} s", began.elapsed().as_secs_f64());
        let from = pair.primary();
        let watch = pair.watch(1 - from);
        let began = Instant::now();
        pair.kill(from);
        let seen = watch.end(began, LIMIT);
        eprintln!("{}", seen.said);
        assert!(pair.active(1 - from) >= OBJECTS.into(), "it has all alarms");
        for (row, took) in rows.iter_mut().zip([seen.role, seen.state, seen.told]) {
            row.push(took);
        }
        pair.launch(from);
    }
    let [role, state, told] = rows.map(Row::of);
    role.print("crash, 100,000 objects: it is primary", None);
    state.print("crash, 100,000 objects: it has the state", None);
    told.print("crash, 100,000 objects: the NMS is told", None);
    told.worst <= BUDGET && state.worst <= BUDGET
}

/// One of each interface, to both agents, no faster than the first, which is primary, takes them in.
fn send_link_downs(hosts: &Hosts, pair: &Pair<'_>, first: usize) {
    for system in 1..=SYSTEMS {
        let socket = hosts.device(system);
        for if_index in 1..=OBJECTS / SYSTEMS {
            for agent in takeover_hosts::TRAPS {
                let trap = wire::v2c_trap(Trap::LinkDown(if_index), if_index, 100_000 + if_index);
                socket.send_to(&trap, agent).expect("both agents are there");
            }
            if if_index % 500 == 0 {
                thread::sleep(Duration::from_millis(50));
            }
        }
        let so_far = system * (OBJECTS / SYSTEMS);
        common::wait_until("these to be taken in", 5 * LIMIT, || {
            pair.active(first) >= so_far.into()
        });
    }
}

/// The figures of one thing.
struct Row {
    runs: usize,
    median: Duration,
    worst: Duration,
}

impl Row {
    fn of(mut times: Vec<Duration>) -> Row {
        times.sort_unstable();
        let worst = *times.last().expect("at least one run");
        Row { runs: times.len(), median: times[times.len() / 2], worst }
    }

    fn print(&self, what: &str, beside: Option<&Row>) {
        let Row { runs, median, worst } = self;
        let ratio = beside.map(|row| median.as_secs_f64() / row.median.as_secs_f64());
        let ratio = ratio.map_or(String::new(), |ratio| format!("{ratio:.2}"));
        println!("{what:44}{runs:>6}{:>9}{:>9}{ratio:>9}", median.as_millis(), worst.as_millis());
    }
}
