//! kill -9 at random moments, under load: no alarm is lost, none is invented, and the journal
//! stays readable (spec, "Alarms"; INST-17).
//!
//! ```text
//! 30 interfaces  flap for ever, faster than the window   raised once, never cleared by a restart
//! 20 interfaces  flap in episodes, then all is calm      raise and clear in turn
//! 30 interfaces  send single traps, further apart        never unstable; down once, and for good
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, UdpSocket},
    process::Command,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::common::{Agent, Chance, Lab, Ns, Row, Sink, Trap, output, wait_until, wire};

const TRAPS: &str = "127.0.0.1:10162";
const NMS: &str = "127.0.0.1:11162";

/// How many storms there are, and how often the agent is killed in each: 200 times in all.
const STORMS: u32 = 4;
const KILLS: u32 = 50;

/// The longest time between a start and the kill; half of it on average, so that many kills hit
/// the start and many hit a busy agent.
const LONGEST_RUN: Duration = Duration::from_millis(400);

/// How long it is calm after a storm: the stable time of those that flapped all through the storm
/// is as long as the storm, some twelve seconds.
const CALM: Duration = Duration::from_secs(16);

/// A trap window of 3 s, and the analysis on or off.
fn configuration(threshold: u32, interface_down: bool) -> String {
    format!(
        r#"
[traps]
listen = ["{TRAPS}"]
[[traps.community]]
name = "public"

[instability]
interfaces = {{ window = "3s", threshold = {threshold} }}
interface_down = {interface_down}

[subnets]
watch_gateways = false

[[notifications.target]]
name = "nms"
address = "{NMS}"
community = "public"
forward = false
"#
    )
}

/// How an interface behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    /// linkDown and linkUp in turn every 400 ms: a counted trap every 800 ms.
    ForEver,
    /// The same while there is a storm.
    Storm,
    /// The same for the first 3 s of a storm: it falls silent while the agent is being killed.
    Squall,
    /// A linkDown every 7 s.
    Single,
}

/// One interface of a device of its own.
struct Sender {
    manner: Manner,
    socket: UdpSocket,
    next: Instant,
    sent: u32,
}

/// The object that the journal names, by the number of the sender.
fn object(number: usize) -> String {
    format!("{} ifIndex 1", address(number))
}

fn address(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 1, u8::try_from(number + 1).expect("few senders"))
}

/// All senders, told apart by number: for ever 0 to 29, in episodes 30 to 49, single 50 to 79.
fn senders(ns: &Ns) -> Vec<Sender> {
    let manners =
        [(Manner::ForEver, 30), (Manner::Storm, 10), (Manner::Squall, 10), (Manner::Single, 30)];
    let manners =
        manners.into_iter().flat_map(|(manner, count)| std::iter::repeat_n(manner, count));
    let now = Instant::now();
    ns.inside(|| {
        let sender = |(number, manner)| Sender {
            manner,
            socket: UdpSocket::bind((IpAddr::V4(address(number)), 0)).expect("a loopback address"),
            // Spread, so that traps come all the time.
            next: now + Duration::from_millis(37 * number as u64),
            sent: 0,
        };
        manners.enumerate().map(sender).collect()
    })
}

impl Sender {
    /// Sends what is due; `storm` is how long there has been one. A trap that nobody hears, as the
    /// agent is just dead, is lost, as in life.
    fn run(&mut self, now: Instant, storm: Option<Duration>) {
        if now < self.next {
            return;
        }
        let (trap, wait) = match self.manner {
            Manner::ForEver | Manner::Storm | Manner::Squall => (self.turn(), 400),
            Manner::Single => (Trap::LinkDown(1), 7000),
        };
        self.next += Duration::from_millis(wait);
        let silent = match self.manner {
            Manner::ForEver | Manner::Single => false,
            Manner::Storm => storm.is_none(),
            Manner::Squall => storm.is_none_or(|so_far| so_far > Duration::from_secs(3)),
        };
        if silent {
            return;
        }
        self.sent += 1;
        // An own request-id and uptime for each: no trap is a copy of another (INST-9).
        let bytes = wire::v2c_trap(trap, self.sent, 1000 + 40 * self.sent);
        self.socket.send_to(&bytes, TRAPS).ok();
    }

    /// Down first, then up, and so on.
    fn turn(&self) -> Trap {
        if self.sent.is_multiple_of(2) { Trap::LinkDown(1) } else { Trap::LinkUp(1) }
    }
}

#[test]
fn kill_9_at_200_random_moments_loses_and_invents_nothing() {
    let lab = Lab::new();
    let ns = lab.namespace("crash");
    let sink = Sink::start(&ns, NMS.parse().expect("a constant"));
    let mut chance = Chance::new();
    let mut agent = Agent::start(&ns, &configuration(2, true));

    let stop = AtomicBool::new(false);
    let storm = Mutex::new(None);
    let mut senders = senders(&ns);
    thread::scope(|scope| {
        // Stops the senders also when this test fails, or the scope would wait for them for ever.
        let _stopper = Stopper(&stop);
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let now = Instant::now();
                let began: Option<Instant> = *storm.lock().expect("no panic while held");
                let so_far = began.map(|began| now.saturating_duration_since(began));
                senders.iter_mut().for_each(|sender| sender.run(now, so_far));
                thread::sleep(Duration::from_millis(5));
            }
        });
        for _ in 0..STORMS {
            *storm.lock().expect("no panic while held") = Some(Instant::now());
            for _ in 0..KILLS {
                thread::sleep(chance.time(LONGEST_RUN));
                let ended = agent.exited();
                assert!(ended.is_none(), "it ended by itself ({ended:?}):\n{}", agent.log());
                agent.kill9();
                agent.launch_unready();
            }
            agent.wait_ready();
            // One more trap of each that flaps ends the wait that the crashes made longer.
            thread::sleep(Duration::from_secs(2));
            *storm.lock().expect("no panic while held") = None;
            thread::sleep(CALM);
        }
    });
    let flapping = agent.journal();

    // Turning everything off clears what is raised, without an hour of quiet (INST-11).
    agent.configure(&configuration(0, false));
    agent.reload();
    wait_until("everything to be cleared", Duration::from_secs(10), || {
        agent.metrics().sum("evenkeel_alarms_active", &[]) == 0.0
    });
    wait_until("the journal to be told", Duration::from_secs(20), || {
        told(&sink).len() >= agent.journal().len()
    });
    agent.stop();

    let check = output(Command::new("sqlite3").arg(agent.database()).arg("PRAGMA integrity_check"));
    assert_eq!(check.trim(), "ok");
    let journal = agent.journal();
    assert_eq!(journal[..flapping.len()], flapping, "the journal was rewritten");
    judge_identities(&journal);
    judge_manners(&journal);
    judge_notifications(&journal, &sink);
    println!("{} kills, {} rows in the journal", STORMS * KILLS, journal.len());
}

/// Stops the senders when dropped.
struct Stopper<'a>(&'a AtomicBool);

impl Drop for Stopper<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Each alarm is raised once and cleared once, and raise and clear of an object alternate.
fn judge_identities(journal: &[Row]) {
    let mut active: BTreeMap<(&str, &str), &str> = BTreeMap::new();
    let mut used = BTreeSet::new();
    for row in journal {
        let about = (row.kind.as_str(), row.object.as_str());
        if row.event == "raise" {
            assert!(used.insert(row.id.as_str()), "an id was used twice: {row:?}");
            let before = active.insert(about, &row.id);
            assert_eq!(before, None, "raised twice without a clear between: {row:?}");
        } else {
            assert_eq!(row.event, "clear");
            let raised = active.remove(&about);
            assert_eq!(raised, Some(row.id.as_str()), "cleared what was not raised: {row:?}");
        }
    }
    assert!(active.is_empty(), "never cleared: {active:?}");
}

/// Each interface has the alarms that its manner deserves.
fn judge_manners(journal: &[Row]) {
    let rows = |kind: &str, number: usize| -> Vec<(&str, &str)> {
        let of = |row: &&Row| row.kind == kind && row.object == object(number);
        journal.iter().filter(of).map(|row| (row.event.as_str(), row.reason.as_str())).collect()
    };
    let once = [("raise", ""), ("clear", "turned_off")];
    let mut episodes = 0;
    for number in 0..30 {
        let rows = rows("interface_unstable", number);
        assert_eq!(rows, once, "{} flapped for ever", object(number));
    }
    for number in 30..50 {
        let rows = rows("interface_unstable", number);
        episodes += rows.iter().filter(|row| **row == ("clear", "ended")).count();
    }
    for number in 50..80 {
        assert_eq!(rows("interface_unstable", number), [], "{} never flapped", object(number));
        let rows = rows("interface_down", number);
        assert_eq!(rows, once, "{} went down and stayed down", object(number));
    }
    // Ten flapped through each of four storms and then were quiet for long enough; of the others,
    // crashes make the agent wait longer than it had to.
    assert!(episodes >= 30, "only {episodes} episodes ended by themselves");
}

/// What the NMS was told and what the journal says are the same.
fn judge_notifications(journal: &[Row], sink: &Sink) {
    let said: BTreeSet<(u32, String)> = journal
        .iter()
        .map(|row| (if row.event == "raise" { 1 } else { 2 }, row.id.clone()))
        .collect();
    let told = told(sink);
    let invented: Vec<_> = told.difference(&said).collect();
    assert!(invented.is_empty(), "told, but not in the journal: {invented:?}");
    let lost: Vec<_> = said.difference(&told).collect();
    assert!(lost.is_empty(), "in the journal, but never told: {lost:?}");
}

/// What the NMS was told about alarms, copies counted once: raised (1) or cleared (2), and the id.
fn told(sink: &Sink) -> BTreeSet<(u32, String)> {
    sink.received().into_iter().map(|told| (told.trap, told.id)).collect()
}
