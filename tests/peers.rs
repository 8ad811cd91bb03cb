//! The peer monitor, against fields of up to 128,000 peers in namespaces (PEER-1 to PEER-14).
//!
//! What the agent must have found is computed from a capture at the peers' end, by
//! `common/truth.rs`: nobody is declared down who answered, nobody is missed who did not, and the
//! times are those of the rules. Where this machine is too slow for a load, the agent must say so
//! (PEER-12), and then only the first half can be asked of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::common::{
    Agent, BINARY, Lab, Ns, Row, Sink,
    field::{self, Field, Loss},
    sleep_until,
    truth::{self, EARLY, LATE, Rule, Truth, Try, peer_rows, still_down},
    wait_until, wire,
};

/// What has no exact end is waited for this long: far above need, so a limit, not an expectation.
const LIMIT: Duration = Duration::from_secs(60);

/// The settings of a test's one group, as its configuration has them.
#[derive(Clone, Copy)]
struct Plan<'a> {
    /// Size and interval of a batch of heartbeats.
    heartbeats: (u32, u64),
    /// The same of retransmissions; the interval in milliseconds, like every time here.
    retransmissions: (u32, u64),
    /// The heartbeat interval.
    interval: u64,
    /// The retransmission timeout.
    timeout: u64,
    /// `monitor_max_peers`.
    limit: u32,
    /// More lines of `[peers]`.
    more: &'a str,
}

impl Plan<'_> {
    /// The defaults, with the limit that they carry (PEER-8).
    const DEFAULT: Plan<'static> = Plan {
        heartbeats: (550, 200),
        retransmissions: (550, 100),
        interval: 60_000,
        timeout: 3_000,
        limit: 128_000,
        more: "",
    };

    /// Seconds instead of minutes, for a few thousand peers: down after 1.5 s.
    const QUICK: Plan<'static> =
        Plan { interval: 3_000, timeout: 500, limit: 6_000, ..Plan::DEFAULT };

    /// The rule that a peer is down by.
    fn rule(&self) -> Rule {
        // What a batch takes to send on a busy machine, and what a capture adds.
        let batch = Duration::from_micros(200) * self.heartbeats.0;
        Rule { timeout: Duration::from_millis(self.timeout), max: 3, early: EARLY + batch }
    }

    fn configuration(&self, files: &[&Path]) -> String {
        let (size, every) = self.heartbeats;
        let (retransmission_size, retransmission_every) = self.retransmissions;
        let Plan { interval, timeout, limit, more, .. } = self;
        format!(
            "[traps]\n\
             listen = [\"127.0.0.1:10162\"]\n\
             [[notifications.target]]\n\
             name = \"nms\"\n\
             address = \"{NMS}\"\n\
             rate = 5000\n\
             burst = 1000\n\
             [subnets]\n\
             watch_gateways = false\n\
             [peers]\n\
             heartbeat_batch = {{ size = {size}, interval = \"{every}ms\" }}\n\
             retransmission_batch = {{ size = {retransmission_size}, \
             interval = \"{retransmission_every}ms\" }}\n\
             {more}\n\
             [[peers.group]]\n\
             name = \"field\"\n\
             interval = \"{interval}ms\"\n\
             timeout = \"{timeout}ms\"\n\
             max_retransmissions = 3\n\
             monitor_max_peers = {limit}\n\
             files = {files:?}\n"
        )
    }
}

/// Where the NMS listens.
const NMS: &str = "127.0.0.1:11162";

/// A file of peers in a directory of its own.
struct Targets(TempDir);

impl Targets {
    fn new(peers: impl Iterator<Item = IpAddr>) -> Targets {
        let targets = Targets(TempDir::with_prefix("ek-targets-").expect("a directory"));
        targets.write(peers);
        targets
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("peers.json")
    }

    fn write(&self, peers: impl Iterator<Item = IpAddr>) {
        field::write_targets(&self.file(), peers);
    }
}

/// An NMS and an agent that watches these peers.
fn start<'a>(host: &'a Ns, plan: &Plan<'_>, targets: &Targets) -> (Sink, Agent<'a>) {
    let sink = Sink::start(host, NMS.parse().expect("a constant"));
    (sink, Agent::start(host, &plan.configuration(&[&targets.file()])))
}

/// How many peers stand like this.
fn peers(agent: &Agent<'_>, state: &str) -> f64 {
    agent.metrics().sum("evenkeel_peers", &[("state", state)])
}

/// How many tries said nothing, for this reason or, without one, for any.
fn inconclusive(agent: &Agent<'_>, reason: &str) -> f64 {
    let labels = [("reason", reason)];
    let labels = if reason.is_empty() { &[][..] } else { &labels[..] };
    agent.metrics().sum("evenkeel_peers_inconclusive_total", labels)
}

/// Waits until this many peers are alive.
fn all_alive(agent: &Agent<'_>, count: u32) {
    wait_until("every peer to be alive", LIMIT, || peers(agent, "alive") == f64::from(count));
}

/// The journal's rows about mass silence: raises and clears, in order.
fn mass_silence(agent: &Agent<'_>) -> Vec<String> {
    let journal = agent.journal().into_iter();
    journal.filter(|row| row.kind == "mass_silence").map(|row| row.event).collect()
}

/// PEER-9: so few were silent that nothing is to be said of it.
fn no_mass_silence(agent: &Agent<'_>) {
    let journal = agent.journal();
    let told: Vec<&Row> = journal.iter().filter(|row| row.kind == "mass_silence").collect();
    assert!(told.is_empty(), "{told:?}");
}

/// Everything that the journal says was told, nothing else, and nothing twice (PEER-10).
fn all_told(agent: &Agent<'_>, sink: &Sink) {
    let journal = || -> BTreeSet<(u32, String)> {
        let number = |row: &Row| if row.event == "raise" { 1 } else { 2 };
        agent.journal().iter().map(|row| (number(row), row.id.clone())).collect()
    };
    let told = || -> Vec<(u32, String)> {
        sink.received().into_iter().map(|wire::Told { trap, id }| (trap, id)).collect()
    };
    wait_until("everything to be told", LIMIT, || told().len() >= journal().len());
    let told = told();
    let once: BTreeSet<_> = told.iter().cloned().collect();
    assert_eq!(told.len(), once.len(), "something was told twice");
    assert_eq!(once, journal(), "told and journal differ");
}

/// Judges a journal by the log, where nothing slows detection: wholly, or, where this host was to blame
/// for some tries, only that nobody was wronged. Says whether it was wholly.
fn judge(truth: &Truth, rule: Rule, agent: &Agent<'_>) -> bool {
    no_mass_silence(agent);
    let journal = agent.journal();
    let blamed = inconclusive(agent, "");
    if blamed == 0.0 {
        truth.agrees(rule, &journal);
    } else {
        let metrics = agent.metrics().0;
        let why = metrics.lines().filter(|line| {
            line.starts_with("evenkeel_peers_inconclusive_total") && !line.ends_with(" 0")
        });
        println!("only half can be judged: {}", why.collect::<Vec<_>>().join(", "));
        truth.nobody_is_wronged(rule, &journal);
    }
    still_down(&journal);
    blamed == 0.0
}

/// PEER-4: the requests to peers that answered everything, which are heartbeats, left no faster than
/// their batches may, and each peer had one in each interval.
fn paced(truth: &Truth, plan: &Plan<'_>) {
    let (size, every) = (plan.heartbeats.0 as usize, Duration::from_millis(plan.heartbeats.1));
    let moments = truth.heartbeats();
    // No window sees more batches than have their time in it. One more is allowed for, as a window may
    // begin in the middle of one, and another for one whose packets were late at the other end.
    for windows in [1, 5, 25] {
        let mut from = 0;
        for (at, &moment) in moments.iter().enumerate() {
            while moment - moments[from] >= every * windows {
                from += 1;
            }
            let seen = at + 1 - from;
            assert!(
                seen <= size * (windows as usize + 2),
                "{seen} requests in {windows} × {every:?}"
            );
        }
    }
    let interval = Duration::from_millis(plan.interval);
    for (peer, tries) in truth.steady() {
        for drift in drifts(tries, interval) {
            assert!(drift < interval / 2, "{peer} was asked {drift:?} beside its time: {tries:?}");
        }
    }
}

/// How far from an interval later each try is.
fn drifts(tries: &[Try], interval: Duration) -> impl Iterator<Item = Duration> {
    tries.windows(2).map(move |two| (two[1].at - two[0].at).abs_diff(interval))
}

/// PEER-4: the same requests left in batches that are neither larger nor sooner than they may be. That
/// is seen of most of them only, as the processor is busy with others now and then; and of none if a
/// batch takes as long to send as there is between two. Most peers are asked at their time; when the
/// batches are full, one that was late makes all that follow it late, as none may be sooner.
fn batched(truth: &Truth, plan: &Plan<'_>) {
    let (size, every) = (plan.heartbeats.0 as usize, Duration::from_millis(plan.heartbeats.1));
    let moments = truth.heartbeats();
    let mut batches: Vec<(Duration, usize)> = Vec::new();
    let mut last = Duration::ZERO;
    for &moment in &moments {
        match batches.last_mut() {
            Some(batch) if moment - last < every / 5 => batch.1 += 1,
            _ => batches.push((moment, 1)),
        }
        last = moment;
    }
    let large = batches.iter().filter(|batch| batch.1 > size).count();
    let soon = batches.windows(2).filter(|two| two[1].0 - two[0].0 < every * 9 / 10).count();
    let count = batches.len();
    assert!(large * 20 <= count, "{large} of {count} batches are too large");
    assert!(soon * 20 <= count, "{soon} of {count} batches came too soon");
    let interval = Duration::from_millis(plan.interval);
    let mut drifts: Vec<Duration> =
        truth.steady().flat_map(|(_, tries)| drifts(tries, interval)).collect();
    drifts.sort_unstable();
    let most = drifts[drifts.len() * 95 / 100];
    assert!(most < LATE, "one in twenty was asked {most:?} beside its time");
}

#[test]
fn peer_1_2_3_4_a_block_of_128000_peers_is_found_down_in_time_and_found_back() {
    let lab = Lab::alone();
    let host = lab.namespace("host");
    let field = Field::routed(&lab, &host);
    let targets = Targets::new(field::v4(0, 128_000));
    let log = field.log();
    let plan = Plan { more: "metrics = \"state\"", ..Plan::DEFAULT };
    let (sink, agent) = start(&host, &plan, &targets);
    let begin = Instant::now();

    // 1,280 peers fall silent while the first sweep goes on.
    thread::sleep(Duration::from_secs(3));
    field.lose(Loss::To("10.1.16.0/22, 10.1.20.0/24"));
    let silenced = truth::now();
    // In its middle ten peers go, ten others come, the configuration is read anew, and each peer's
    // series is scraped: nobody is asked sooner or later for it (PEER-4), which `paced` would see.
    sleep_until(begin + Duration::from_secs(20));
    let series = agent.metrics().0.matches("evenkeel_peer_up{").count();
    // Those that were not asked yet are neither up nor down.
    assert!((10_000..=128_000).contains(&series), "{series} series");
    sleep_until(begin + Duration::from_secs(25));
    targets.write(field::v4(10, 128_010));
    agent.reload();
    sleep_until(begin + Duration::from_secs(40));
    agent.reload();
    sleep_until(begin + Duration::from_secs(58));
    let (looked, down) = (truth::now(), peers(&agent, "down"));
    field.lose(Loss::Nothing);
    // Three quarters of the second sweep.
    sleep_until(begin + Duration::from_secs(95));
    let truth = log.end();

    let wholly = judge(&truth, plan.rule(), &agent);
    // Those of the first three seconds had been asked before, and those of the last nine were not due. Each
    // that was due and not found had a try that was inconclusive, as this machine was too slow for it.
    let due = |failure: &truth::Failure| failure.due + LATE < looked;
    let due = truth.failures(plan.rule()).into_iter().filter(due).count();
    assert!(due > 500, "only {due} were due");
    let found_or_told = down + inconclusive(&agent, "");
    assert!(down <= 1280.0 && found_or_told >= due as f64, "{down} of {due} were down");
    let journal = agent.journal();
    let block: BTreeSet<IpAddr> = field::v4(16 << 8, 21 << 8).collect();
    for row in peer_rows(&journal, "raise") {
        assert!(block.contains(&truth::object(row)), "{row:?}");
        assert!(row.at < silenced + Duration::from_secs(69) + LATE, "PEER-2: {row:?}");
    }
    let back = peer_rows(&journal, "clear").count();
    assert!(back > 500, "only {back} are back");
    no_mass_silence(&agent);
    // Tries at 0, 3 and 6 s; one more takes the place of each that was inconclusive.
    for failure in truth.failures(plan.rule()).iter().filter(|_| wholly) {
        let wanted = [0, 3, 6].map(Duration::from_secs);
        let fits = failure.tries.len() == wanted.len()
            && (failure.tries.iter().zip(wanted))
                .all(|(&at, wanted)| at + EARLY >= wanted && at <= wanted + LATE);
        assert!(fits, "{failure:?}");
    }
    // Nobody was asked who was not to be, and everybody else was; the ten that came were admitted into
    // the ten places that were free, and have not all had their turn yet.
    let asked: BTreeSet<IpAddr> = truth.peers.keys().copied().collect();
    assert!(asked.is_subset(&field::v4(0, 128_010).collect()));
    assert!(asked.is_superset(&field::v4(10, 128_000).collect()), "some were never asked");
    assert!(field::v4(128_000, 128_010).any(|peer| asked.contains(&peer)), "none came");
    paced(&truth, &plan);
    batched(&truth, &plan);
    all_told(&agent, &sink);
}

#[test]
fn peer_2_11_12_of_128000_peers_every_10_s_nobody_is_wronged_though_a_tenth_of_all_packets_is_lost()
{
    let lab = Lab::alone();
    let host = lab.namespace("host");
    let field = Field::routed(&lab, &host);
    let targets = Targets::new(field::v4(0, 64_000).chain(field::v6(0, 64_000)));
    let plan = Plan { heartbeats: (3_600, 200), interval: 10_000, ..Plan::DEFAULT };
    let log = field.log();
    let (sink, agent) = start(&host, &plan, &targets);
    wait_until("most peers to be alive", LIMIT, || peers(&agent, "alive") > 120_000.0);
    field.lose(Loss::TenthOfPackets);
    thread::sleep(Duration::from_secs(16));
    field.lose(Loss::Nothing);
    // The last who was lost is down after nine seconds, and then asked once more.
    thread::sleep(Duration::from_secs(11));
    wait_until("everybody to be back", LIMIT, || peers(&agent, "alive") == 128_000.0);
    thread::sleep(LATE);
    let truth = log.end();

    let wholly = judge(&truth, plan.rule(), &agent);
    // A thousandth of some 200,000 heartbeats in that time: this test has something to find. Where this
    // machine was too slow, a lost request that was not tried again in time looks like a failure, too.
    let failures = truth.failures(plan.rule());
    assert!(failures.len() >= 50, "{} failures", failures.len());
    assert!(!wholly || failures.len() < 1000, "{} failures", failures.len());
    for is_v4 in [true, false] {
        assert!(failures.iter().any(|failure| failure.peer.is_ipv4() == is_v4));
    }
    assert_eq!(still_down(&agent.journal()), BTreeSet::new());
    no_mass_silence(&agent);
    // A host that can't keep up leaves heartbeats out, and says so.
    if agent.metrics().sum("evenkeel_peers_heartbeats_skipped_total", &[]) == 0.0 {
        paced(&truth, &plan);
    }
    all_told(&agent, &sink);
}

#[test]
fn peer_8_128000_peers_every_second_are_heard_or_it_says_that_this_host_is_too_slow() {
    let lab = Lab::alone();
    let host = lab.namespace("host");
    let _field = Field::routed(&lab, &host);
    let targets = Targets::new(field::v4(0, 128_000));
    let plan = Plan { heartbeats: (1_700, 10), interval: 1_000, ..Plan::DEFAULT };
    let (_sink, agent) = start(&host, &plan, &targets);
    wait_until("most peers to be alive", LIMIT, || peers(&agent, "alive") > 120_000.0);
    thread::sleep(Duration::from_secs(15));
    let (alive, unsure) = (peers(&agent, "alive"), inconclusive(&agent, ""));
    let metrics = agent.metrics();
    let sent = metrics.sum("evenkeel_peers_requests_total", &[]);
    let answers = metrics.sum("evenkeel_peers_answers_total", &[]);
    let skipped = metrics.sum("evenkeel_peers_heartbeats_skipped_total", &[]);
    println!(
        "{alive} alive, {sent} requests, {answers} answers, {unsure} inconclusive, {skipped} skipped"
    );
    // The field loses nothing, so whoever were declared down would be wronged.
    assert_eq!(peer_rows(&agent.journal(), "raise").count(), 0);
    no_mass_silence(&agent);
    if unsure == 0.0 {
        assert_eq!(alive, 128_000.0);
        // What was asked in the last instant may not have been answered.
        assert!(sent - answers < 130_000.0, "{sent} requests, {answers} answers");
    }
    if unsure + skipped == 0.0 {
        assert!(sent >= 14.0 * 128_000.0, "{sent} requests, and nothing said of too slow a host");
    }
}

#[test]
fn peer_9_10_when_all_fall_silent_it_says_so_once_and_declares_nobody_down_fast() {
    let lab = Lab::new();
    let host = lab.namespace("host");
    let field = Field::routed(&lab, &host);
    let targets = Targets::new(field::v4(0, 3_000).chain(field::v6(0, 3_000)));
    let plan = Plan::QUICK;
    let (sink, agent) = start(&host, &plan, &targets);
    all_alive(&agent, 6_000);

    // For a moment: longer than detection takes, shorter than it takes when it is slowed.
    field.lose(Loss::All);
    wait_until("mass_silence", LIMIT, || mass_silence(&agent) == ["raise"]);
    thread::sleep(Duration::from_secs(3));
    field.lose(Loss::Nothing);
    wait_until("its end", LIMIT, || mass_silence(&agent) == ["raise", "clear"]);
    all_alive(&agent, 6_000);
    assert_eq!(peer_rows(&agent.journal(), "raise").count(), 0, "somebody was declared down");

    // For long: all are declared down after three intervals, at a bounded rate, and all come back.
    let log = field.log();
    field.lose(Loss::All);
    wait_until("all to be down", LIMIT, || still_down(&agent.journal()).len() == 6_000);
    field.lose(Loss::Nothing);
    wait_until("all to be back", LIMIT, || still_down(&agent.journal()).is_empty());
    // It ends when they have been down for an interval, so it may have before they were back.
    wait_until("its end", LIMIT, || mass_silence(&agent) == ["raise", "clear", "raise", "clear"]);
    let truth = log.end();
    let journal = agent.journal();
    // Slowed, the rule is that of an interval as the timeout.
    let slow = Rule { timeout: Duration::from_millis(plan.interval), ..plan.rule() };
    truth.nobody_is_wronged(slow, &journal);
    assert_eq!(peer_rows(&journal, "raise").count(), 6_000);
    // Both batch rates together, in any second; a batch more of each, as the second may begin with it.
    let mut moments: Vec<Duration> = truth.peers.values().flatten().map(|asked| asked.at).collect();
    moments.sort_unstable();
    let most = 550 * (5 + 1) + 550 * (10 + 1);
    let second = Duration::from_secs(1);
    assert!(moments.windows(most + 1).all(|many| many[most] - many[0] > second), "PEER-10");
    all_told(&agent, &sink);
}

#[test]
fn peer_2_a_tenth_of_the_peers_that_stays_dead_does_not_hold_up_finding_others() {
    let lab = Lab::new();
    let host = lab.namespace("host");
    let field = Field::routed(&lab, &host);
    // A tenth of them is less than a retransmission batch, so it is no mass (PEER-9).
    let targets = Targets::new(field::v4(0, 2_500).chain(field::v6(0, 2_500)));
    let plan = Plan { limit: 5_000, ..Plan::QUICK };
    let log = field.log();
    let (sink, agent) = start(&host, &plan, &targets);
    all_alive(&agent, 5_000);
    field.lose(Loss::TenthOfPeers);
    thread::sleep(Duration::from_secs(8));
    let dead = still_down(&agent.journal()).len();
    field.lose(Loss::TenthOfPeersAnd("10.1.0.0/24"));
    thread::sleep(Duration::from_secs(8));
    let more = still_down(&agent.journal()).len();
    field.lose(Loss::Nothing);
    wait_until("all to be back", LIMIT, || still_down(&agent.journal()).is_empty());
    thread::sleep(LATE);
    judge(&log.end(), plan.rule(), &agent);
    assert!((400..550).contains(&dead), "{dead} were dead");
    assert!((dead + 200..=dead + 256).contains(&more), "{more} were dead");
    no_mass_silence(&agent);
    all_told(&agent, &sink);
}

#[test]
fn peer_12_after_a_stall_of_20_s_nobody_is_wronged_and_the_dead_are_found() {
    let lab = Lab::new();
    let host = lab.namespace("host");
    let field = Field::routed(&lab, &host);
    let targets = Targets::new(field::v4(0, 2_000).chain(field::v6(0, 500)));
    let plan = Plan { interval: 5_000, timeout: 1_000, limit: 2_500, ..Plan::DEFAULT };
    let log = field.log();
    let (_sink, agent) = start(&host, &plan, &targets);
    all_alive(&agent, 2_500);
    assert_eq!(agent.metrics().sum("evenkeel_peers_stalls_total", &[]), 0.0, "a stall too soon");

    agent.signal(libc::SIGSTOP);
    thread::sleep(Duration::from_secs(10));
    field.lose(Loss::To("10.1.1.0/24"));
    thread::sleep(Duration::from_secs(10));
    agent.signal(libc::SIGCONT);
    let awake = truth::now();
    wait_until("the dead to be found", LIMIT, || still_down(&agent.journal()).len() == 256);
    thread::sleep(Duration::from_secs(5));
    let truth = log.end();

    let journal = agent.journal();
    truth.nobody_is_wronged(plan.rule(), &journal);
    assert_eq!(still_down(&journal), field::v4(256, 512).collect());
    // One interval until each was asked, three timeouts, and a timeout for what the stall spoiled.
    let latest = awake + Duration::from_secs(5 + 3 + 1) + LATE;
    for row in peer_rows(&journal, "raise") {
        assert!(row.at < latest, "{:?} too late: {row:?}", row.at.abs_diff(latest));
    }
    assert!(agent.metrics().sum("evenkeel_peers_stalls_total", &[]) >= 1.0);
    no_mass_silence(&agent);
}

#[test]
fn peer_12_what_a_small_receive_buffer_drops_is_counted_and_held_against_nobody() {
    let lab = Lab::new();
    let host = lab.namespace("host");
    let field = Field::routed(&lab, &host);
    let targets = Targets::new(field::v4(0, 2_000));
    // All at once, every two seconds; the smallest buffer has room for some 170 answers.
    let plan = Plan {
        heartbeats: (2_000, 1_000),
        interval: 2_000,
        timeout: 500,
        limit: 2_000,
        more: "receive_buffer = \"64KiB\"",
        ..Plan::DEFAULT
    };
    let (_sink, agent) = start(&host, &plan, &targets);
    // The agent takes care to read in time, so the answers are made to come in one burst, and at a moment at
    // which it gets no processor: for less time than it would call a stall.
    for _ in 0..40 {
        field.hold_answers(true);
        thread::sleep(Duration::from_millis(200));
        agent.signal(libc::SIGSTOP);
        field.hold_answers(false);
        thread::sleep(Duration::from_millis(20));
        agent.signal(libc::SIGCONT);
        thread::sleep(Duration::from_millis(30));
    }
    assert!(agent.metrics().sum("evenkeel_peers_socket_drops_total", &[]) > 0.0, "no drops");
    assert!(inconclusive(&agent, "receive_dropped") > 0.0);
    let problems = &status_peers(&host, &agent, &[])["summary"]["problems"];
    assert!(problems.to_string().contains("receive buffer"), "{problems}");
    all_alive(&agent, 2_000);
    // The field loses nothing. That so many had to be asked again at once may have been told (PEER-9).
    assert_eq!(peer_rows(&agent.journal(), "raise").count(), 0, "somebody was declared down");
}

#[test]
fn peer_12_peers_that_have_no_room_in_the_arp_table_are_not_declared_down() {
    // There is one ARP table for all namespaces, of 1,024 entries unless set otherwise (gc_thresh3).
    let lab = Lab::alone();
    let host = lab.namespace("host");
    let _field = Field::on_link(&lab, &host);
    let targets = Targets::new(field::v4(0, 1_500));
    let plan = Plan { interval: 3_000, timeout: 500, limit: 1_500, ..Plan::DEFAULT };
    let (_sink, agent) = start(&host, &plan, &targets);
    wait_until("the overflow to be seen", LIMIT, || {
        inconclusive(&agent, "neighbour_table_full") + inconclusive(&agent, "send_failed") > 0.0
    });
    thread::sleep(Duration::from_secs(10));
    assert!(peers(&agent, "alive") > 500.0, "hardly anybody could be asked");
    assert_eq!(peer_rows(&agent.journal(), "raise").count(), 0, "somebody was declared down");
}

#[test]
fn peer_12_without_a_link_nobody_is_declared_down_and_then_it_goes_on() {
    let lab = Lab::new();
    let host = lab.namespace("host");
    let field = Field::routed(&lab, &host);
    let targets = Targets::new(field::v4(0, 300).chain(field::v6(0, 300)));
    let plan = Plan { interval: 1_000, timeout: 300, limit: 600, ..Plan::DEFAULT };
    let (_sink, agent) = start(&host, &plan, &targets);
    all_alive(&agent, 600);
    field.plug(false);
    thread::sleep(Duration::from_secs(5));
    let unsure = inconclusive(&agent, "link_down") + inconclusive(&agent, "send_failed");
    assert!(unsure >= 600.0, "{unsure} tries were inconclusive");
    assert_eq!(agent.journal(), [], "something was raised");
    field.plug(true);
    // The kernel takes a second to believe in a link, and the last tries half a second to be judged. A
    // busy machine may give the agent other reasons, which are not this test's.
    let doubts = || inconclusive(&agent, "link_down") + inconclusive(&agent, "send_failed");
    let mut unsure = 0.0;
    wait_until("no more doubts", LIMIT, || {
        let before = std::mem::replace(&mut unsure, doubts());
        thread::sleep(Duration::from_secs(3));
        before == unsure
    });
    all_alive(&agent, 600);
    field.lose(Loss::To("10.1.0.7"));
    wait_until("a true fault to be found", LIMIT, || !still_down(&agent.journal()).is_empty());
    assert_eq!(still_down(&agent.journal()), field::v4(7, 8).collect());
    assert_eq!(doubts(), unsure);
}

/// The output of `evenkeel status peers` with more words, as JSON.
fn status_peers(host: &Ns, agent: &Agent<'_>, words: &[&str]) -> Value {
    let mut command = host.command(BINARY);
    command.args(["status", "peers", "--config"]).arg(agent.file());
    let output = command.args(["--format", "json"]).args(words).output().expect("our binary");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {said}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// The addresses in such an output.
fn listed(status: &Value) -> BTreeSet<IpAddr> {
    let list = status["peers"].as_array().unwrap_or_else(|| panic!("no list of peers: {status}"));
    let address = |peer: &Value| peer["address"].as_str().expect("an address").parse();
    list.iter().map(|peer| address(peer).expect("an address")).collect()
}

#[test]
fn peer_5_6_13_files_say_who_is_watched_and_the_limit_how_many() {
    let lab = Lab::new();
    let host = lab.namespace("host");
    let field = Field::routed(&lab, &host);
    let targets = Targets::new(field::v4(0, 20));
    let mut plan = Plan { interval: 1_000, timeout: 200, limit: 16, ..Plan::DEFAULT };
    let (sink, mut agent) = start(&host, &plan, &targets);
    all_alive(&agent, 16);
    let refused = || listed(&status_peers(&host, &agent, &["--not-admitted"]));
    assert_eq!(refused(), field::v4(16, 20).collect(), "PEER-5: the first so many are admitted");
    let metrics = agent.metrics();
    assert_eq!(metrics.sum("evenkeel_peers_admitted", &[]), 16.0);
    assert_eq!(metrics.sum("evenkeel_peers_refused", &[]), 4.0);

    // Whoever leaves the file is cleared with that reason, and makes room.
    field.lose(Loss::To("10.1.0.0-10.1.0.3"));
    wait_until("four to be down", LIMIT, || still_down(&agent.journal()).len() == 4);
    assert_eq!(
        listed(&status_peers(&host, &agent, &["--state", "down"])),
        field::v4(0, 4).collect()
    );
    targets.write(field::v4(2, 20));
    wait_until("two to go", LIMIT, || still_down(&agent.journal()).len() == 2);
    let journal = agent.journal();
    let gone: BTreeMap<IpAddr, &str> =
        peer_rows(&journal, "clear").map(|row| (truth::object(row), row.reason.as_str())).collect();
    assert_eq!(gone, field::v4(0, 2).map(|peer| (peer, "removed")).collect(), "PEER-13");
    wait_until("two to take their places", LIMIT, || refused() == field::v4(18, 20).collect());

    // A file that can't be read changes nothing, and is told.
    field::write_file(&targets.file(), "[{\"targets\": [\"10.1.0.2\",");
    let failed = || agent.metrics().sum("evenkeel_peers_files_failed", &[]);
    wait_until("the refusal", LIMIT, || failed() == 1.0);
    assert!(agent.log().contains("peers.json"), "the log does not say which file");
    thread::sleep(Duration::from_secs(2));
    let all = ["--address", "10.0.0.0/8"];
    assert_eq!(listed(&status_peers(&host, &agent, &all)), field::v4(2, 18).collect());
    targets.write(field::v4(2, 20));
    wait_until("the file to be good again", LIMIT, || failed() == 0.0);

    // PEER-6: a higher limit admits at once; a lower one drops nobody, before the next start.
    plan.limit = 18;
    agent.configure(&plan.configuration(&[&targets.file()]));
    agent.reload();
    wait_until("the others to be admitted", LIMIT, || refused().is_empty());
    plan.limit = 10;
    agent.configure(&plan.configuration(&[&targets.file()]));
    agent.reload();
    thread::sleep(Duration::from_secs(2));
    assert_eq!(refused(), BTreeSet::new());

    // Who is down stays so over a restart, and is not raised again; who is not admitted any more is
    // not watched any more.
    let before = agent.journal();
    agent.restart();
    wait_until("the first ten", LIMIT, || {
        listed(&status_peers(&host, &agent, &["--not-admitted"])) == field::v4(12, 20).collect()
    });
    thread::sleep(Duration::from_secs(3));
    assert_eq!(agent.journal(), before);
    assert_eq!(peers(&agent, "down"), 2.0);
    field.lose(Loss::Nothing);
    wait_until("both to be back", LIMIT, || still_down(&agent.journal()).is_empty());
    all_told(&agent, &sink);
}

/// Runs an agent without the right to raw sockets.
const WITHOUT_RAW: [&str; 5] =
    ["setpriv", "--bounding-set", "-net_raw,-net_admin", "--inh-caps", "-all"];

#[test]
fn peer_1_11_without_raw_sockets_ping_sockets_serve() {
    let lab = Lab::new();
    let host = lab.namespace("host");
    let field = Field::routed(&lab, &host);
    // Everybody's group may use them.
    host.inside(|| fs::write("/proc/sys/net/ipv4/ping_group_range", "0 65535")).expect("a setting");
    let targets = Targets::new(field::v4(0, 1_000).chain(field::v6(0, 1_000)));
    let plan = Plan { limit: 2_000, ..Plan::QUICK };
    let log = field.log();
    let _sink = Sink::start(&host, NMS.parse().expect("a constant"));
    let configuration = plan.configuration(&[&targets.file()]);
    let agent = Agent::start_via(&host, &configuration, &WITHOUT_RAW);
    all_alive(&agent, 2_000);
    field.lose(Loss::To("10.1.0.0/25"));
    wait_until("a block to be down", LIMIT, || still_down(&agent.journal()).len() == 128);
    field.lose(Loss::Nothing);
    all_alive(&agent, 2_000);
    thread::sleep(LATE);
    judge(&log.end(), plan.rule(), &agent);
}

#[test]
fn peer_12_where_no_socket_is_allowed_it_says_so_and_the_rest_of_the_agent_runs() {
    let lab = Lab::new();
    let host = lab.namespace("host");
    let targets = Targets::new(field::v4(0, 10));
    let _sink = Sink::start(&host, NMS.parse().expect("a constant"));
    let configuration = Plan::QUICK.configuration(&[&targets.file()]);
    let agent = Agent::start_via(&host, &configuration, &WITHOUT_RAW);
    wait_until("advice in the log", LIMIT, || {
        let log = agent.log();
        log.contains("CAP_NET_RAW") && log.contains("ping_group_range")
    });
    thread::sleep(Duration::from_secs(5));
    assert_eq!(agent.journal(), [], "something was raised");
    assert_eq!(agent.get("/-/ready").map(|(status, _)| status), Some(200));
}
