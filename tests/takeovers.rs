//! Takeover after takeover by kill -9 at random moments, while devices flap (PAIR-12, PAIR-13): what a
//! real snmptrapd is told is held against what the rules of instability.md make of the traps that were
//! sent, computed here without a line of the agent's code.
//!
//! ```text
//! EVENKEEL_TAKEOVERS=100 cargo test --test acceptance pair_13_takeovers -- --nocapture   # half an hour
//! EVENKEEL_SEED=7 ...                                                   # the same moments once more
//! ```
//!
//! Each device sends every trap to both agents, as devices with two destinations do. Each of its objects
//! sends a burst, of one trap too few or of some more than it takes, and then nothing until whatever it
//! began is over by what the NMS was told. So a takeover, after which a clear may come later (INST-17),
//! leaves no doubt about which burst a trap belongs to. No episode lasts over two takeovers: each makes
//! the wait for its end begin anew, so one that came every few seconds would keep it from ending.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    net::UdpSocket,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{
    common::{
        Agent, Chance, Device, Nms, Notification, Ns, Sent, Trap, output, span, stack::User,
        wait_until, wire,
    },
    pair::{Hosts, LIMIT, Pair},
};

/// Where the NMS is, beside the gateway.
const NMS: &str = "udp:10.1.0.254:11162";

/// Where the two agents take traps in.
const AGENTS: [&str; 2] = ["10.1.0.1:10162", "10.1.0.2:10162"];

/// How many takeovers there are if nobody says otherwise.
const TAKEOVERS: u32 = 2;

/// The longest time between a pair in synchronisation and the kill.
const LONGEST_RUN: Duration = Duration::from_secs(3);

/// The trap window of interfaces and systems.
const WINDOW: Duration = Duration::from_secs(4);

/// How far apart the counted traps of a burst are at most: far less than the window, also where this
/// machine is slow to send.
const LONGEST_GAP: Duration = Duration::from_millis(700);

/// An object must be told to be stable again within this, also if there was a takeover meanwhile.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// For both agents.
fn configuration(user: &User) -> String {
    let user = user.sender();
    format!(
        r#"failover_limit = false

[[traps.community]]
name = "public"
{user}
[instability]
interfaces = {{ window = "4s", threshold = 2 }}
systems = {{ window = "4s", threshold = 3 }}

[[notifications.target]]
name = "nms"
address = "10.1.0.254:11162"
version = "v2c"
community = "public"
inform = true
"#
    )
}

#[test]
fn pair_13_takeovers_at_random_moments_lose_no_instability_and_invent_none() {
    let mut chance = Chance::new();
    let takeovers = env::var("EVENKEEL_TAKEOVERS")
        .map_or(TAKEOVERS, |text| text.parse().expect("EVENKEEL_TAKEOVERS is a number"));
    let user = User::new(Some("SHA"), Some("AES"));
    let hosts = Hosts::new();
    let mut pair = Pair::start(&hosts, &configuration(&user));
    let nms = Nms::start(&hosts.gate, NMS);
    let directory = TempDir::with_prefix("ek-snmp-").expect("a temporary directory");
    let objects = objects(&hosts.gate, &user, directory.path());
    let (finish, abort) = (AtomicBool::new(false), AtomicBool::new(false));
    let (sent, carried) = (AtomicU32::new(0), Carried::default());

    let (judged, times) = thread::scope(|scope| {
        // Ends the others also when one fails, or the scope would wait for them for ever.
        let _guard = Abort(&abort);
        let run = Run { nms: &nms, finish: &finish, abort: &abort, sent: &sent, carried: &carried };
        let threads: Vec<_> = objects
            .into_iter()
            .map(|object| {
                let mut chance = chance.another();
                scope.spawn(move || {
                    let _guard = Abort(run.abort);
                    object.run(run, &mut chance)
                })
            })
            .collect();
        let mut agents = [&mut pair.one, &mut pair.two];
        let mut times = Vec::new();
        while times.len() < takeovers as usize && !abort.load(Ordering::Relaxed) {
            times.push(take_over(&mut agents, run, &mut chance));
            agents.swap(0, 1);
        }
        finish.store(true, Ordering::Relaxed);
        let judged: Vec<Judged> = threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect();
        (judged, times)
    });

    wait_until("the NMS to be told the last clear", LIMIT, || {
        let told = Told::all(&nms);
        judged.iter().all(|judged| told.of(&judged.object).len() >= judged.expected.len())
    });
    let told = Told::all(&nms);
    for judged in &judged {
        judged.check(&told.of(&judged.object));
    }
    told.check_identities();
    wait_until("both journals to be the same", LIMIT, || pair.one.journal() == pair.two.journal());
    let raised = judged.iter().flat_map(|judged| &judged.expected);
    let raised = raised.filter(|expected| expected.what.starts_with("raised"));
    let unstable = raised.clone().filter(|expected| expected.what.contains("unstable")).count();
    println!(
        "{} takeovers in {} to {} ms, {} traps to each agent, {} alarms told, {unstable} of them of \
         instability, {} notifications told more than once",
        times.len(),
        times.iter().min().map_or(0, Duration::as_millis),
        times.iter().max().map_or(0, Duration::as_millis),
        sent.load(Ordering::Relaxed),
        raised.count(),
        told.repeated,
    );
}

/// Kills the first of the two, which is primary, at a random moment, waits until the other one is primary,
/// and starts the first one again. Gives how long it took.
fn take_over(agents: &mut [&mut Agent<'_>; 2], run: Run<'_>, chance: &mut Chance) -> Duration {
    wait_until("both to have all of the state", LIMIT, || {
        agents.iter().all(|agent| agent.metrics().sum("evenkeel_pair_in_sync", &[]) == 1.0)
            && is_primary(agents[0])
    });
    wait_until("all that was unstable at the last takeover to be stable", LONGEST_WAIT, || {
        run.carried.nothing_is() || run.abort.load(Ordering::Relaxed)
    });
    thread::sleep(chance.time(LONGEST_RUN));
    let ended = agents[0].exited();
    assert!(ended.is_none(), "it ended by itself ({ended:?}):\n{}", agents[0].log());
    let killed = Instant::now();
    agents[0].kill9();
    wait_until("the standby to be primary", LIMIT, || is_primary(agents[1]));
    let took = killed.elapsed();
    run.carried.next();
    agents[0].launch();
    took
}

/// Which objects have been unstable since before a takeover.
#[derive(Default)]
struct Carried {
    takeovers: AtomicU32,
    since: Mutex<BTreeMap<String, u32>>,
}

impl Carried {
    /// There was a takeover.
    fn next(&self) {
        self.takeovers.fetch_add(1, Ordering::Relaxed);
    }

    fn begins(&self, object: &str) {
        let takeovers = self.takeovers.load(Ordering::Relaxed);
        self.since
            .lock()
            .expect("no panic while held")
            .entry(object.to_owned())
            .or_insert(takeovers);
    }

    fn ends(&self, object: &str) {
        self.since.lock().expect("no panic while held").remove(object);
    }

    /// Whether all that is unstable has become so since the last takeover.
    fn nothing_is(&self) -> bool {
        let takeovers = self.takeovers.load(Ordering::Relaxed);
        let since = self.since.lock().expect("no panic while held");
        since.values().all(|&since| since == takeovers)
    }
}

fn is_primary(agent: &Agent<'_>) -> bool {
    agent.metrics().sum("evenkeel_pair_role", &[("role", "primary")]) == 1.0
}

/// Tells the others when its owner fails.
struct Abort<'a>(&'a AtomicBool);

impl Drop for Abort<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

/// What all who send share.
#[derive(Clone, Copy)]
struct Run<'a> {
    nms: &'a Nms<'a>,
    finish: &'a AtomicBool,
    abort: &'a AtomicBool,
    sent: &'a AtomicU32,
    carried: &'a Carried,
}

impl Run<'_> {
    /// Whether the last takeover is over.
    fn is_over(self) -> bool {
        assert!(!self.abort.load(Ordering::Relaxed), "another part of this test failed");
        self.finish.load(Ordering::Relaxed)
    }

    /// Waits, unless it is over.
    fn pause(self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until && !self.is_over() {
            thread::sleep(Duration::from_millis(20).min(until - Instant::now()));
        }
    }
}

/// A system or an interface, and how its device sends.
struct Object<'a> {
    /// As alarms name it.
    name: String,
    if_index: Option<u32>,
    way: Way<'a>,
}

/// Devices of every kind that a pair may hear.
fn objects<'a>(ns: &'a Ns, user: &User, directory: &Path) -> Vec<Object<'a>> {
    let mut objects = Vec::new();
    let began = Instant::now();
    let mut add = |last: u8, if_index: Option<u32>, way: Way<'a>| {
        let interface = if_index.map(|if_index| format!(" ifIndex {if_index}"));
        let name = format!("10.1.0.{last}{}", interface.unwrap_or_default());
        objects.push(Object { name, if_index, way });
    };
    let address = |last: u8| format!("10.1.0.{last}");
    for last in 101..=106 {
        ns.address("eth0", &format!("{}/24", address(last)));
    }
    for (last, numbers_anew) in [(101, false), (102, true)] {
        for if_index in [None, Some(1), Some(2), Some(3)] {
            let socket = ns.inside(|| UdpSocket::bind((address(last), 0))).expect("its address");
            add(last, if_index, Way::Wire { socket, numbers_anew, began, sent: 0 });
        }
    }
    let devices = |last| AGENTS.map(|agent| Device::new(ns, &address(last), agent));
    add(103, Some(1), Way::NetSnmp(Device::v2c, devices(103)));
    add(104, Some(1), Way::NetSnmp(Device::inform, devices(104)));
    add(105, Some(1), Way::NetSnmp(Device::v1, devices(105)));
    let mut options = user.options();
    options.extend(["-e", "0x80001f8804646576696365"].map(str::to_owned));
    options.push(format!("--clientaddr={}", address(106)));
    let directory = directory.to_owned();
    add(106, Some(1), Way::V3 { ns, directory, options, began });
    objects
}

/// How a trap is sent to both agents.
enum Way<'a> {
    /// Written by hand: under the same request-id to both, or under another to each.
    Wire { socket: UdpSocket, numbers_anew: bool, began: Instant, sent: u32 },
    /// By net-snmp's programs, which number each anew (SNMPv1 has no number).
    NetSnmp(fn(&Device<'a>, Trap) -> Sent, [Device<'a>; 2]),
    /// The same by SNMPv3, of which an agent can't say whether the other one heard it.
    V3 { ns: &'a Ns, directory: PathBuf, options: Vec<String>, began: Instant },
}

/// sysUpTime of a device that has been up for a while, in hundredths of a second.
fn uptime(began: Instant) -> u32 {
    100_000 + u32::try_from(began.elapsed().as_millis() / 10).expect("not for a year")
}

impl Way<'_> {
    /// Sends a trap to both agents. Nobody may be there.
    fn send(&mut self, trap: Trap) -> Sent {
        let before = Instant::now();
        match self {
            Way::Wire { socket, numbers_anew, began, sent } => {
                let uptime = uptime(*began);
                for (place, agent) in (0..).zip(AGENTS) {
                    let number = 2 * *sent + if *numbers_anew { place } else { 0 };
                    socket.send_to(&wire::v2c_trap(trap, number, uptime), agent).ok();
                }
                *sent += 1;
            }
            // Side by side, as an inform waits for its answer, which the standby does not give.
            Way::NetSnmp(send, devices) => thread::scope(|scope| {
                let send = *send;
                for device in devices {
                    scope.spawn(move || send(device, trap));
                }
            }),
            Way::V3 { ns, directory, options, began } => {
                let uptime = uptime(*began);
                for agent in AGENTS {
                    let mut command = ns.command("snmptrap");
                    command.env("MIBS", "").env("SNMPCONFPATH", &*directory);
                    command.env("SNMP_PERSISTENT_DIR", &*directory).args(&*options);
                    // One device, so one engine, whose clock goes on.
                    command.args(["-Z", &format!("1,{}", uptime / 100)]);
                    command.args([agent, &uptime.to_string()]);
                    command.arg(format!(".1.3.6.1.6.3.1.1.5.{}", trap.number()));
                    let if_index = trap.if_index().expect("a link trap").to_string();
                    command.args([&format!(".1.3.6.1.2.1.2.2.1.1.{if_index}"), "i", &if_index]);
                    output(&mut command);
                }
            }
        }
        Sent { before, after: Instant::now() }
    }
}

impl Object<'_> {
    /// Sends bursts until the last takeover is over, and gives what the NMS must have been told then.
    fn run(mut self, run: Run<'_>, chance: &mut Chance) -> Judged {
        let threshold = if self.if_index.is_some() { 2 } else { 3 };
        let mut judge = Judge::new(self.name.clone(), threshold);
        run.pause(chance.time(LONGEST_GAP));
        while !run.is_over() {
            let burst = match chance.below(2) {
                0 => threshold - 1,
                _ => threshold + usize::try_from(chance.below(4)).expect("few"),
            };
            self.burst(burst, run, chance, &mut judge);
            judge.wait_until_stable(run);
            run.pause(WINDOW + LONGEST_GAP + chance.time(LONGEST_GAP));
        }
        if let Some(if_index) = self.if_index.filter(|_| judge.down) {
            self.send(Trap::LinkUp(if_index), run, &mut judge);
        }
        Judged { object: self.name, expected: judge.expected }
    }

    /// So many traps that count. An interface comes up in between, and mostly after the last.
    fn burst(&mut self, traps: usize, run: Run<'_>, chance: &mut Chance, judge: &mut Judge) {
        let mut last = Instant::now();
        for _ in 0..traps {
            // A machine that was so slow would leave a doubt.
            if run.is_over() || last.elapsed() > 2 * LONGEST_GAP {
                return;
            }
            last = Instant::now();
            let gap = LONGEST_GAP / 4 + chance.time(LONGEST_GAP * 3 / 4);
            let Some(if_index) = self.if_index else {
                self.send(Trap::ColdStart, run, judge);
                run.pause(gap);
                continue;
            };
            self.send(Trap::LinkDown(if_index), run, judge);
            run.pause(gap / 2);
            if chance.below(4) != 0 {
                self.send(Trap::LinkUp(if_index), run, judge);
            }
            run.pause(gap / 2);
        }
    }

    fn send(&mut self, trap: Trap, run: Run<'_>, judge: &mut Judge) {
        let sent = self.way.send(trap);
        run.sent.fetch_add(1, Ordering::Relaxed);
        judge.trap(trap, sent);
        if judge.unstable.is_some() {
            run.carried.begins(&self.name);
        }
    }
}

/// What the rules of instability.md make of the traps of one object (INST-2 to INST-8, INST-13), read
/// anew here. Its system has sent linkDown first, so linkUp never counts.
struct Judge {
    object: String,
    threshold: usize,
    /// The counted traps that may lie in the window of the next.
    counted: Vec<Sent>,
    /// *First* and *last* of an episode under way.
    unstable: Option<(Sent, Sent)>,
    down: bool,
    down_raised: bool,
    expected: Vec<Expected>,
}

/// A notification that must come, and not before this.
struct Expected {
    what: &'static str,
    earliest: Instant,
}

/// What an NMS must have been told about an object.
struct Judged {
    object: String,
    expected: Vec<Expected>,
}

impl Judge {
    fn new(object: String, threshold: usize) -> Judge {
        Judge {
            object,
            threshold,
            counted: Vec::new(),
            unstable: None,
            down: false,
            down_raised: false,
            expected: Vec::new(),
        }
    }

    fn trap(&mut self, trap: Trap, sent: Sent) {
        if let Some((first, last)) = self.unstable {
            let (least, most) = stable_time(first, last);
            let quiet = span(last, sent);
            if quiet.0 >= most {
                self.becomes_stable();
            } else {
                // Also where it was cleared too soon, and the burst after that has begun.
                assert!(quiet.1 < least, "{}: {quiet:?} of quiet leaves a doubt", self.object);
            }
        }
        self.down = matches!(trap, Trap::LinkDown(_));
        if !matches!(trap, Trap::LinkUp(_)) {
            self.count(sent);
        }
        if self.unstable.is_none() && self.down != self.down_raised {
            self.down_raised = self.down;
            let what = if self.down { "raised interface_down" } else { "cleared interface_down" };
            self.expect(what, sent.before);
        }
    }

    fn count(&mut self, sent: Sent) {
        if let Some((_, last)) = &mut self.unstable {
            *last = sent;
            return;
        }
        let object = &self.object;
        self.counted.retain(|&before| {
            let apart = span(before, sent);
            assert!(
                apart.1 <= WINDOW || apart.0 > WINDOW,
                "{object}: two traps {apart:?} apart leave a doubt"
            );
            apart.1 <= WINDOW
        });
        self.counted.push(sent);
        if self.counted.len() < self.threshold {
            return;
        }
        self.unstable = Some((self.counted[0], sent));
        self.counted.clear();
        if std::mem::take(&mut self.down_raised) {
            self.expect("cleared interface_down", sent.before);
        }
        let what = if self.threshold == 2 {
            "raised interface_unstable"
        } else {
            "raised system_unstable"
        };
        self.expect(what, sent.before);
    }

    fn becomes_stable(&mut self) {
        let Some((first, last)) = self.unstable.take() else { return };
        let earliest = last.before + stable_time(first, last).0;
        let what = match self.threshold {
            2 => "cleared interface_unstable",
            _ => "cleared system_unstable",
        };
        self.expect(what, earliest);
        if self.down {
            self.down_raised = true;
            self.expect("raised interface_down", earliest);
        }
    }

    fn expect(&mut self, what: &'static str, earliest: Instant) {
        self.expected.push(Expected { what, earliest });
    }

    /// Waits until the NMS has been told that the episode under way is over.
    fn wait_until_stable(&mut self, run: Run<'_>) {
        if self.unstable.is_none() {
            return;
        }
        let object = &self.object;
        let clears = || {
            let clears = run.nms.alarms_that(|told| {
                told.value("evenkeelAlarmObject") == object
                    && is_clear_of_instability(&told.summary())
            });
            Told::once(clears).once.len()
        };
        let expected = self.expected.iter();
        let before = expected.filter(|expected| is_clear_of_instability(expected.what)).count();
        let until = Instant::now() + LONGEST_WAIT;
        while clears() <= before {
            assert!(Instant::now() < until, "{} is not told to be stable", self.object);
            run.is_over();
            thread::sleep(Duration::from_millis(500));
        }
        self.becomes_stable();
        run.carried.ends(&self.object);
    }
}

fn is_clear_of_instability(what: &str) -> bool {
    what.starts_with("cleared interface_unstable") || what.starts_with("cleared system_unstable")
}

/// INST-5: the least and the most that it can be.
fn stable_time(first: Sent, last: Sent) -> (Duration, Duration) {
    let (least, most) = span(first, last);
    (least.max(WINDOW), most.max(WINDOW))
}

impl Judged {
    /// Each of these, in this order, none too early, and nothing else.
    fn check(&self, told: &[&Notification]) {
        let expected: Vec<String> = self
            .expected
            .iter()
            .map(|expected| format!("{} {}", expected.what, self.object))
            .collect();
        let summaries: Vec<String> = told.iter().map(|told| told.summary()).collect();
        assert_eq!(
            summaries, expected,
            "{}: what was told, and what the traps call for",
            self.object
        );
        for (expected, told) in self.expected.iter().zip(told) {
            let early = expected.earliest.saturating_duration_since(told.at);
            // Where the sender's clock is read, and where the kernel stamps, are microseconds apart.
            assert!(early <= Duration::from_millis(50), "{} {early:?} too early", told.summary());
        }
    }
}

/// What an NMS was told about alarms: each once, though it may have come more than once.
struct Told {
    once: Vec<Notification>,
    repeated: usize,
}

impl Told {
    fn all(nms: &Nms<'_>) -> Told {
        Told::once(nms.alarms())
    }

    fn once(all: Vec<Notification>) -> Told {
        let (mut once, mut known, mut repeated) = (Vec::new(), BTreeSet::new(), 0);
        for told in all {
            match known.insert((told.name.clone(), told.value("evenkeelAlarmId").to_owned())) {
                true => once.push(told),
                false => repeated += 1,
            }
        }
        Told { once, repeated }
    }

    fn of(&self, object: &str) -> Vec<&Notification> {
        self.once.iter().filter(|told| told.value("evenkeelAlarmObject") == object).collect()
    }

    /// Whatever it is about: a clear has the identity of the raise before it.
    fn check_identities(&self) {
        let mut raised = BTreeSet::new();
        for told in &self.once {
            let id = told.value("evenkeelAlarmId");
            match told.name.as_str() {
                "evenkeelAlarmRaised" => assert!(raised.insert(id), "{}", told.summary()),
                _ => assert!(raised.contains(id), "{} {id} was not raised", told.summary()),
            }
        }
    }
}
