//! The peer monitor's rules on a simulated clock, each as a short story that can be checked with a
//! pencil (PEER-1 to PEER-4, PEER-9 to PEER-12, PEER-15).

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    num::{NonZeroU8, NonZeroU32},
    time::Duration,
};

use evenkeel_core::{
    alarm::{ClearReason, Kind, Object},
    finding::Finding,
    peers::{
        Answer, Change, Discard, Disturbance, Inconclusive, Monitor, PeerState, PeerView, Request,
        settings::{Batch, Group, Settings},
    },
    time::Time,
};

const START: Time = Time::from_secs(1_000);

fn at(secs: f64) -> Time {
    START + Duration::from_secs_f64(secs)
}

fn secs(moment: Time) -> f64 {
    moment.since(START).as_secs_f64()
}

fn address(place: u32) -> IpAddr {
    Ipv4Addr::from_bits(0x0a00_0000 + place).into()
}

/// How long a peer takes to answer.
const ROUND_TRIP: Duration = Duration::from_millis(20);

/// A monitor, its network and its driver, who does what the contract asks.
struct Sim {
    monitor: Monitor,
    now: Time,
    /// Who does not answer from one moment to another.
    dead: BTreeMap<u32, (Time, Time)>,
    /// All that was sent.
    sent: Vec<(Time, Request)>,
    /// All that was found, and when it was told.
    found: Vec<(Time, Finding)>,
    coming: Vec<Answer>,
    /// What spoils everything, whenever it is told.
    disturbance: Option<(Disturbance, Time, Time)>,
}

impl Sim {
    fn new(settings: &Settings, peers: u32) -> Sim {
        Sim::restored(settings, peers, false)
    }

    fn restored(settings: &Settings, peers: u32, mass_silence: bool) -> Sim {
        let mut monitor = Monitor::new(settings, 7, mass_silence, START);
        for place in 0..peers {
            monitor.apply(&add(place, 0), START);
        }
        Sim {
            monitor,
            now: START,
            dead: BTreeMap::new(),
            sent: Vec::new(),
            found: Vec::new(),
            coming: Vec::new(),
            disturbance: None,
        }
    }

    fn dies(mut self, places: impl IntoIterator<Item = u32>, from: f64, to: f64) -> Sim {
        self.dead.extend(places.into_iter().map(|place| (place, (at(from), at(to)))));
        self
    }

    /// Goes on to a moment, and stops only where something is to be done.
    fn run(&mut self, to: f64) -> &mut Sim {
        let to = at(to);
        loop {
            let next = self.monitor.next_deadline().unwrap_or(Time::MAX);
            let answer = self.coming.iter().map(|answer| answer.received).min();
            let next = next.min(answer.unwrap_or(Time::MAX)).max(self.now);
            if next >= to {
                self.now = to;
                return self;
            }
            self.now = next;
            let before = (self.sent.len(), self.found.len(), self.coming.len());
            self.turn();
            if before == (self.sent.len(), self.found.len(), self.coming.len())
                && self.monitor.next_deadline().is_some_and(|next| next <= self.now)
            {
                // A deadline may be too early; but not for ever.
                self.now = self.now + Duration::from_millis(1);
            }
        }
    }

    /// One turn of the loop.
    fn turn(&mut self) {
        let now = self.now;
        let (came, coming) = self.coming.drain(..).partition(|answer| answer.received <= now);
        self.coming = coming;
        let came: Vec<Answer> = came;
        for answer in came {
            self.monitor.answer(&answer).unwrap();
        }
        if let Some((what, from, to)) = self.disturbance
            && (from..=to).contains(&now)
        {
            self.monitor.disturbed(what, now);
        }
        self.monitor.judge(now);
        let mut requests = Vec::new();
        self.monitor.take_requests(now, &mut requests);
        for request in requests {
            self.sent.push((now, request));
            let dead = self.dead.get(&request.place);
            if dead.is_none_or(|(from, to)| now < *from || now >= *to) {
                self.coming.push(answer(&request, now, ROUND_TRIP));
            }
        }
        while let Some(finding) = self.monitor.poll_finding(now) {
            self.found.push((now, finding));
        }
    }

    /// When a peer was asked: `h` for heartbeats, `r` for retransmissions.
    fn asked(&self, place: u32) -> String {
        let asked = self.sent.iter().filter(|(_, request)| request.place == place);
        let words = asked.map(|(when, request)| {
            format!("{}{}", if request.retransmission { 'r' } else { 'h' }, secs(*when))
        });
        words.collect::<Vec<_>>().join(" ")
    }

    /// What was found of a peer, and when.
    fn found_of(&self, place: u32) -> String {
        let of = Object::Peer(address(place));
        let found = self.found.iter().filter(|(_, finding)| finding.object == of);
        found.map(|(_, finding)| word(finding)).collect::<Vec<_>>().join(" ")
    }

    fn found_of_silence(&self) -> String {
        let found = self.found.iter().filter(|(_, it)| it.object == Object::PeerMonitor);
        found.map(|(_, finding)| word(finding)).collect::<Vec<_>>().join(" ")
    }

    fn peer(&self, place: u32) -> PeerView {
        self.monitor.peers().find(|peer| peer.place == place).unwrap()
    }

    fn state(&self, place: u32) -> PeerState {
        self.peer(place).state
    }
}

fn word(finding: &Finding) -> String {
    let what = match (finding.kind, finding.cleared) {
        (Kind::PeerDown, None) => "down",
        (Kind::PeerRestarted, None) => "restarted",
        (Kind::MassSilence, None) => "silence",
        (_, Some(ClearReason::Ended)) => "clear",
        (_, Some(ClearReason::Removed)) => "removed",
        (_, Some(ClearReason::TurnedOff)) => "off",
        _ => "?",
    };
    format!("{what}{:.2}", secs(finding.at))
}

fn add(place: u32, group: u16) -> Change {
    Change::Add { place, address: address(place), group, enabled: true, down: false }
}

fn answer(request: &Request, sent: Time, round_trip: Duration) -> Answer {
    Answer {
        place: request.place,
        source: request.address,
        sequence: request.sequence,
        token: Some(request.token),
        interface: Some(3),
        received: sent + round_trip,
        sent: Some(sent),
        restart_counter: None,
    }
}

fn settings() -> Settings {
    Settings { groups: vec![group("a")], ..Settings::default() }
}

fn group(name: &str) -> Group {
    Group { limit: 128_000, ..Group::named(name) }
}

/// Batches that leave all at once, so that what is seen is the rules' own time.
fn large_batches() -> Settings {
    let mut settings = settings();
    settings.batches.heartbeat.size = NonZeroU32::new(200_000).unwrap();
    settings.batches.retransmission.size = NonZeroU32::new(200_000).unwrap();
    settings
}

#[test]
fn a_peer_that_dies_is_tried_at_0_3_6_and_down_at_9_s_peer_2() {
    let mut sim = Sim::new(&settings(), 1).dies([0], 30.0, 200.0);
    sim.run(250.0);
    assert_eq!(sim.asked(0), "h0 h60 r63 r66 h120 h180 h240");
    assert_eq!(sim.found_of(0), "down69.00 clear240.02");
    let detail = sim.found[0].1.detail.as_deref();
    assert_eq!(detail, Some("no answer to 3 requests in 9s (heartbeat every 1m)"));
    assert_eq!(sim.found[0].1.peer_group.as_deref(), Some("a"));
    assert_eq!(sim.found[0].0, at(69.0), "told at once");
}

#[test]
fn an_answer_to_any_of_the_tries_keeps_it_up_peer_2() {
    for (back, asked) in [(61.0, "h0 h60 r63 h120"), (64.0, "h0 h60 r63 r66 h120")] {
        let mut sim = Sim::new(&settings(), 1).dies([0], 30.0, back);
        sim.run(150.0);
        assert_eq!((sim.asked(0), sim.found_of(0)), (asked.to_owned(), String::new()));
        assert_eq!(sim.state(0), PeerState::Alive);
    }
}

#[test]
fn other_settings_make_other_times_peer_2() {
    for (interval, timeout, tries, down) in
        [(60, 3000, 1, 3.0), (60, 20_000, 2, 40.0), (2, 500, 15, 7.5), (1, 3000, 3, 9.0)]
    {
        let mut settings = settings();
        settings.groups[0].interval = Duration::from_secs(interval);
        settings.groups[0].timeout = Duration::from_millis(timeout);
        settings.groups[0].max_retransmissions = NonZeroU8::new(tries).unwrap();
        let mut sim = Sim::new(&settings, 1).dies([0], 0.0, 1000.0);
        sim.run(100.0);
        assert_eq!(sim.found_of(0), format!("down{down:.2}"));
    }
}

#[test]
fn recovery_asks_for_so_many_in_a_row_peer_3() {
    let mut settings = settings();
    settings.groups[0].recovery_count = NonZeroU8::new(3).unwrap();
    let mut sim = Sim::new(&settings, 1).dies([0], 0.0, 100.0);
    sim.run(200.0);
    // 120 and 180 are answered, 240 is not: it begins again.
    sim.dead.insert(0, (at(230.0), at(250.0)));
    sim.run(430.0);
    assert_eq!(sim.found_of(0), "down9.00 clear420.02");
}

#[test]
fn an_answer_at_exactly_the_deadline_comes_after_it() {
    for (round_trip_ms, found, state) in [
        // The try of 6 s has no answer at 9 s: it begins anew.
        (8_999, "", PeerState::Silent),
        (9_000, "down9.00 clear9.00", PeerState::Alive),
        (9_500, "down9.00 clear9.50", PeerState::Alive),
    ] {
        let mut sim = Sim::new(&settings(), 1).dies([0], 0.0, 1000.0);
        sim.run(8.0);
        // The very first request is answered late, and nobody looks until 20 s: half a second of which
        // would be a stall.
        let (sent, request) = sim.sent[0];
        let late = answer(&request, sent, Duration::from_millis(round_trip_ms));
        sim.now = at(9.4);
        if late.received > sim.now {
            sim.turn();
            sim.now = at(9.6);
        }
        sim.monitor.answer(&late).unwrap();
        sim.turn();
        assert_eq!((sim.found_of(0), sim.state(0)), (found.to_owned(), state), "{round_trip_ms}");
    }
}

#[test]
fn a_late_answer_counts_but_the_request_went_unanswered() {
    for (round_trip_ms, unanswered) in [(2_999, 0), (3_000, 1), (3_100, 1)] {
        let mut sim = Sim::new(&settings(), 2).dies(0..2, 0.0, 1000.0);
        sim.run(1.0);
        let (sent, request) = sim.sent[0];
        assert_eq!(request.place, 0);
        sim.now = at(3.2);
        let late = answer(&request, sent, Duration::from_millis(round_trip_ms));
        sim.monitor.answer(&late).unwrap();
        assert_eq!(sim.monitor.answer(&late).is_ok(), unanswered == 1, "held until it is judged");
        sim.turn();
        assert_eq!((sim.peer(0).unanswered, sim.state(0)), (unanswered, PeerState::Alive));
    }
}

#[test]
fn what_is_no_answer_changes_nothing_peer_11() {
    let mut sim = Sim::new(&settings(), 2).dies(0..2, 0.0, 1000.0);
    sim.run(50.0);
    let (sent, request) = sim.sent[0];
    let good = answer(&request, sent, ROUND_TRIP);
    for (answer, why) in [
        (Answer { place: 9, ..good }, Discard::UnknownPeer),
        (Answer { source: address(9), ..good }, Discard::WrongSource),
        (Answer { token: Some(request.token ^ 1), ..good }, Discard::WrongToken),
        (Answer { sequence: 99, token: None, ..good }, Discard::NotOutstanding),
        (Answer { sequence: 0, token: None, ..good }, Discard::NotOutstanding),
    ] {
        assert_eq!(sim.monitor.answer(&answer), Err(why));
    }
    sim.monitor.discarded(Discard::Truncated, 5);
    assert_eq!(sim.monitor.stats().discarded, [1, 1, 1, 2, 5, 0, 0]);
    assert_eq!(sim.state(request.place), PeerState::Down);
    assert_eq!(sim.monitor.answer(&good), Ok(()));
    assert_eq!(sim.monitor.answer(&good), Err(Discard::NotOutstanding), "once");
}

#[test]
fn each_peer_once_per_interval_evenly_without_drift_peer_4() {
    let mut sim = Sim::new(&settings(), 1_000);
    sim.run(600.0);
    let mut by_place: BTreeMap<u32, Vec<Time>> = BTreeMap::new();
    for (when, request) in &sim.sent {
        by_place.entry(request.place).or_default().push(*when);
    }
    assert_eq!(by_place.len(), 1_000);
    for moments in by_place.values() {
        assert_eq!(moments.len(), 10);
        for pair in moments.windows(2) {
            assert_eq!(pair[1].since(pair[0]), Duration::from_secs(60));
        }
    }
    let sweep = sim.monitor.stats().groups[0].sweep.unwrap().as_secs_f64();
    assert!((46.0..46.667).contains(&sweep), "{sweep}");
    // 1,000 peers on 233 slots are four or five in each.
    let first: Vec<Time> = sim.sent.iter().map(|(when, _)| *when).take(1_000).collect();
    for chunk in first.chunk_by(|one, other| one == other) {
        assert!((4..=5).contains(&chunk.len()));
    }
}

#[test]
fn no_batch_is_too_large_or_too_early_peer_4_peer_10() {
    // 30 peers a batch, and a tenth of them dead at once, so that both lists are full.
    let mut settings = settings();
    settings.groups[0].interval = Duration::from_secs(10);
    settings.batches.heartbeat =
        Batch { size: NonZeroU32::new(30).unwrap(), interval: Duration::from_millis(200) };
    settings.batches.retransmission =
        Batch { size: NonZeroU32::new(20).unwrap(), interval: Duration::from_millis(100) };
    let mut sim = Sim::new(&settings, 1_100).dies(0..110, 15.0, 100.0);
    sim.run(50.0);
    // A stall of 4 s, after which nothing comes in a burst.
    sim.now = at(54.0);
    sim.run(120.0);
    for (retransmission, size, apart) in [(false, 30, 200), (true, 20, 100)] {
        let list = sim.sent.iter().filter(|(_, it)| it.retransmission == retransmission);
        let batches: Vec<Time> = list.map(|(when, _)| *when).collect();
        let mut last = Time::ZERO;
        for batch in batches.chunk_by(|one, other| one == other) {
            assert!(batch.len() <= size);
            assert!(batch[0].since(last) >= Duration::from_millis(apart));
            last = batch[0];
        }
    }
    assert_eq!(sim.found.iter().filter(|(_, finding)| finding.cleared.is_none()).count(), 110);
    assert_eq!(sim.monitor.stats().groups[0].peers[PeerState::Alive as usize], 1_100);
}

#[test]
fn who_waits_for_the_batch_before_is_late_all_the_same() {
    let mut sim = Sim::new(&settings(), 2_330);
    let mut requests = Vec::new();
    sim.monitor.take_requests(at(30.0), &mut requests);
    assert_eq!(requests.len(), 550);
    assert_eq!(sim.monitor.next_deadline(), Some(at(30.2)));
    // Ten peers came due every 200 ms, and 55 slots were asked.
    let late = at(30.0).since(sim.monitor.heartbeat_due().unwrap());
    assert!(late > Duration::from_secs(18) && late < Duration::from_secs(20), "{late:?}");
}

#[test]
fn after_more_than_an_interval_whole_rounds_are_skipped() {
    let mut sim = Sim::new(&settings(), 1);
    sim.run(100.0);
    sim.now = at(250.0);
    sim.run(310.0);
    assert_eq!(sim.asked(0), "h0 h60 h250 h300");
    let stats = sim.monitor.stats();
    assert_eq!((stats.skipped, stats.stalls), (2, 1), "120 and 180; 240 came late");
}

#[test]
fn mass_silence_slows_detection_and_ends_peer_9() {
    // 12 % of 10,000 are more than a batch.
    let mut sim = Sim::new(&settings(), 10_000).dies(0..1_200, 30.0, 130.0);
    sim.run(250.0);
    let found = sim.found_of_silence();
    assert!(found.starts_with("silence") && found.contains(" clear"), "{found}");
    let details = sim.found.iter().filter_map(|(_, finding)| finding.detail.as_deref());
    let cause = " of 10000 peers are silent; peers are declared down after 3 heartbeat intervals";
    assert_eq!(details.filter(|detail| detail.ends_with(cause)).count(), 1);
    assert_eq!(sim.monitor.stats().silent, 0);
    assert_eq!(sim.monitor.stats().groups[0].peers[PeerState::Alive as usize], 10_000);
}

#[test]
fn in_mass_silence_a_peer_is_down_after_180_s_peer_9() {
    let mut sim = Sim::new(&large_batches(), 1_000).dies(0..1_000, 0.0, 1_000.0);
    // One batch of retransmissions is larger than all, so it is only by their number.
    let mut settings = large_batches();
    settings.batches.retransmission.size = NonZeroU32::new(100).unwrap();
    sim.monitor.reconfigure(&settings, START);
    sim.run(400.0);
    let first: BTreeMap<u32, f64> =
        sim.sent.iter().rev().map(|(when, request)| (request.place, secs(*when))).collect();
    // Silent until its neighbours were too: the very first may have been tried fast.
    let mut down = 0;
    for (told, finding) in sim.found.iter().filter(|(_, it)| it.kind == Kind::PeerDown) {
        let Object::Peer(IpAddr::V4(peer)) = finding.object else { panic!() };
        let asked = first[&(peer.to_bits() - 0x0a00_0000)];
        if asked > 9.0 {
            assert_eq!(secs(finding.at) - asked, 180.0);
            assert!(told.since(finding.at) < Duration::from_millis(200));
            down += 1;
        }
    }
    assert!(down > 600, "{down}");
    let asked =
        sim.sent.iter().filter(|(when, request)| request.retransmission && secs(*when) > 20.0);
    assert_eq!(asked.count(), 0, "heartbeats alone");
}

#[test]
fn exactly_a_tenth_is_normal_peer_9() {
    for (dead, expected) in [(1_000, 0), (1_001, 1)] {
        let mut sim = Sim::new(&settings(), 10_000).dies(0..dead, 0.0, 1_000.0);
        sim.run(90.0);
        let silence = sim.found.iter().filter(|(_, it)| it.kind == Kind::MassSilence).count();
        assert_eq!(silence, expected, "{dead}");
    }
}

#[test]
fn a_restart_does_not_end_mass_silence_at_once() {
    let mut sim = Sim::restored(&settings(), 100, true);
    sim.run(100.0);
    assert_eq!(sim.found_of_silence(), "clear63.00");
}

#[test]
fn a_peer_restored_as_down_is_not_raised_again() {
    let mut sim = Sim::new(&settings(), 0).dies([0], 0.0, 100.0);
    let down = Change::Add { place: 0, address: address(0), group: 0, enabled: true, down: true };
    sim.monitor.apply(&down, START);
    sim.run(150.0);
    assert_eq!(
        (sim.asked(0), sim.found_of(0)),
        ("h0 h60 h120".to_owned(), "clear120.02".to_owned())
    );
    assert!(sim.sent[0].1.down && sim.sent[2].1.down);
}

#[test]
fn dropped_answers_are_no_evidence_peer_12() {
    // A drop at 61 s: the try of 60 s says nothing, is repeated once, and the clock starts there.
    let mut sim = Sim::new(&settings(), 1).dies([0], 30.0, 1_000.0);
    sim.run(61.0);
    sim.monitor.disturbed(Disturbance::ReceiveDropped { v4: true }, at(61.0));
    sim.run(100.0);
    assert_eq!(sim.asked(0), "h0 h60 r63 r66 r69");
    assert_eq!(sim.found_of(0), "down72.00");
    let stats = sim.monitor.stats();
    assert_eq!(stats.groups[0].inconclusive[Inconclusive::ReceiveDropped as usize], 1);
}

#[test]
fn a_spoiled_try_is_repeated_and_moves_the_clock_peer_12() {
    // A drop at 64 s: the try of 63 s says nothing.
    for (family, found) in [(true, "down72.00"), (false, "down69.00")] {
        let mut sim = Sim::new(&settings(), 1).dies([0], 30.0, 1_000.0);
        sim.run(64.0);
        sim.monitor.disturbed(Disturbance::ReceiveDropped { v4: family }, at(64.0));
        sim.run(100.0);
        assert_eq!(sim.found_of(0), found);
    }
}

#[test]
fn nobody_is_down_while_this_host_drops_and_then_in_time_peer_12() {
    let mut sim = Sim::new(&settings(), 50).dies(0..50, 30.0, 1_000.0);
    sim.disturbance = Some((Disturbance::NeighbourTableFull { v4: true }, at(30.0), at(400.0)));
    sim.run(400.0);
    assert_eq!(sim.found.len(), 0);
    sim.run(480.0);
    assert_eq!(sim.found.len(), 50);
}

#[test]
fn a_link_spoils_only_what_was_heard_by_it_peer_12() {
    for (interface, found) in [(3, "down72.00"), (4, "down69.00")] {
        let mut sim = Sim::new(&settings(), 1).dies([0], 30.0, 1_000.0);
        sim.run(61.0);
        sim.monitor.disturbed(Disturbance::LinkDown { interface }, at(61.0));
        sim.run(100.0);
        assert_eq!(sim.found_of(0), found);
    }
}

#[test]
fn a_request_that_did_not_leave_is_repeated_peer_12() {
    let mut sim = Sim::new(&settings(), 1).dies([0], 0.0, 1_000.0);
    sim.run(0.5);
    let (_, request) = sim.sent[0];
    sim.monitor.send_failed(&request, at(0.5));
    sim.run(4.0);
    let (_, retried) = sim.sent[1];
    assert_eq!(sim.asked(0), "h0 r0.5 r3.5");
    let (_, third) = sim.sent[2];
    assert!(retried.retransmission);
    sim.monitor.send_failed(&third, at(4.0));
    sim.run(50.0);
    assert_eq!(sim.asked(0), "h0 r0.5 r3.5 r6.5 r9.5");
    assert_eq!(sim.found_of(0), "down12.50");
}

#[test]
fn a_batch_is_judged_by_when_its_last_request_left_peer_2_peer_12() {
    // The request leaves so long after the batch was taken, and is answered so long after that.
    for (leaves, round_trip, asked, stalls) in [
        (0.0, 2.99, "h0", 0),
        (0.0, 3.01, "h0 r3", 0),
        (0.4, 2.99, "h0", 0),
        (0.4, 3.01, "h0 r3.4", 0),
        (2.0, 2.99, "h0", 1),
        // It stood still over it: the try says nothing, and is repeated.
        (2.0, 3.01, "h0 r5", 1),
    ] {
        let mut sim = Sim::new(&settings(), 1).dies([0], 0.0, 1.0);
        sim.run(0.1);
        let (taken, request) = sim.sent[0];
        sim.monitor.left(taken, at(leaves));
        sim.coming.push(answer(&request, at(leaves), Duration::from_secs_f64(round_trip)));
        sim.run(30.0);
        assert_eq!(sim.asked(0), asked, "after {leaves} s");
        let stats = sim.monitor.stats();
        let spoiled = stats.groups[0].inconclusive[Inconclusive::Stalled as usize];
        assert_eq!(stats.stalls, stalls, "after {leaves} s");
        assert_eq!(spoiled > 0, stalls > 0 && round_trip > 3.0, "after {leaves} s");
        assert_eq!((sim.state(0), sim.found_of(0)), (PeerState::Alive, String::new()));
    }
}

#[test]
fn a_stall_of_20_s_is_nobody_elses_fault_peer_12() {
    let mut sim = Sim::new(&settings(), 500).dies(0..400, 1.0, 22.0).dies([407], 0.0, 1_000.0);
    sim.run(2.0);
    sim.now = at(22.0);
    sim.run(300.0);
    assert_eq!(sim.found.len(), 1, "{:?}", sim.found);
    assert!(sim.found_of(407).starts_with("down"));
    let stats = sim.monitor.stats();
    assert_eq!((stats.stalls, stats.skipped), (1, 0));
    assert!(stats.groups[0].inconclusive[Inconclusive::Stalled as usize] > 0);
}

#[test]
fn an_alarm_is_told_even_if_its_peer_is_gone_peer_10_peer_13() {
    let mut sim = Sim::new(&settings(), 300).dies(0..300, 0.0, 1_000.0);
    sim.run(60.0);
    assert_eq!(sim.found.len(), 300);
    for place in 0..300 {
        sim.monitor.apply(&Change::Remove { place, reason: ClearReason::Removed }, sim.now);
        let again = Change::Add {
            place,
            address: address(1_000 + place),
            group: 0,
            enabled: true,
            down: false,
        };
        sim.monitor.apply(&again, sim.now);
    }
    let told: Vec<Finding> = std::iter::from_fn(|| sim.monitor.poll_finding(at(60.0))).collect();
    assert_eq!(told.len(), 100, "the others follow");
    sim.run(61.0);
    for place in 0..300 {
        let of = Object::Peer(address(place));
        let clears = told.iter().chain(sim.found.iter().map(|(_, finding)| finding));
        let clears =
            clears.filter(|it| it.object == of && it.cleared == Some(ClearReason::Removed));
        assert_eq!(clears.count(), 1);
    }
}

#[test]
fn disabled_peers_keep_their_place_and_are_not_asked_peer_5() {
    let mut sim = Sim::new(&settings(), 2).dies([0], 0.0, 500.0);
    sim.run(30.0);
    sim.monitor.apply(&Change::Set { place: 0, group: 0, enabled: false }, at(30.0));
    sim.run(130.0);
    assert_eq!(
        (sim.asked(0), sim.found_of(0)),
        ("h0 r3 r6".to_owned(), "down9.00 off30.00".to_owned())
    );
    sim.monitor.apply(&Change::Set { place: 0, group: 0, enabled: true }, at(130.0));
    sim.run(200.0);
    assert_eq!(sim.found_of(0), "down9.00 off30.00 down189.00");
}

#[test]
fn a_restart_is_told_after_the_first_counter_peer_15() {
    let mut sim = Sim::new(&settings(), 1);
    sim.run(1.0);
    for (secs, counter) in [(1.0, 3), (2.0, 3), (3.0, 4), (4.0, 5)] {
        sim.monitor.restart_counter(0, counter, at(secs));
    }
    sim.run(10.0);
    assert_eq!(sim.found_of(0), "restarted3.00");
    assert_eq!(sim.found[0].1.detail.as_deref(), Some("restart counter 5, was 3"));
    assert_eq!(sim.monitor.stats().groups[0].restarts, 2);
    sim.monitor.unsupported(0, at(10.0));
    sim.run(200.0);
    assert_eq!((sim.state(0), sim.asked(0)), (PeerState::Unsupported, "h0".to_owned()));
}

#[test]
fn a_reload_keeps_phases_and_spreads_only_what_changed() {
    let mut settings = settings();
    settings.groups.push(group("b"));
    let mut sim = Sim::new(&settings, 100);
    for place in 100..200 {
        sim.monitor.apply(&add(place, 1), START);
    }
    sim.run(120.0);
    let phase = |sim: &Sim, place: u32, from: f64| -> Vec<f64> {
        let asked = sim.sent.iter().filter(|(when, it)| it.place == place && *when >= at(from));
        asked.map(|(when, _)| secs(*when)).collect()
    };
    // The groups change their places, and `a` its interval.
    settings.groups.swap(0, 1);
    settings.groups[1].interval = Duration::from_secs(30);
    sim.monitor.reconfigure(&settings, at(120.0));
    sim.run(240.0);
    for place in 100..200 {
        let before = phase(&sim, place, 0.0);
        let gaps: Vec<f64> = before.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(gaps.iter().all(|gap| (gap - 60.0).abs() < 0.2), "{place}: {gaps:?}");
    }
    for place in 0..100 {
        let after = phase(&sim, place, 120.0);
        assert_eq!(after.len(), 4, "{place}: {after:?}");
        let gaps: Vec<f64> = after.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(gaps.iter().all(|gap| (gap - 30.0).abs() < 0.2), "{place}: {gaps:?}");
        assert!(after[0] < 150.0);
    }
    assert_eq!(sim.peer(0).group, 1);
    assert_eq!(sim.monitor.stats().groups[1].peers[PeerState::Alive as usize], 100);
}

#[test]
fn round_trips_are_of_the_answers() {
    let mut sim = Sim::new(&settings(), 1);
    sim.run(70.0);
    assert_eq!(sim.peer(0).round_trip, Some(ROUND_TRIP));
    let stats = &sim.monitor.stats().groups[0];
    assert_eq!((stats.round_trips.sum_micros, stats.round_trips.buckets[7]), (40_000, 2));
    assert!(!sim.monitor.expects_answers());
}
