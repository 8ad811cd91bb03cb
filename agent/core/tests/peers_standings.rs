//! What a standby knows of the peers, and how its monitor goes on from there (PAIR-11).
//!
//! Each story has two monitors: the first one tells what the mate is to know, and after some time is
//! gone; the second one is told that.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    num::NonZeroU8,
    time::Duration,
};

use evenkeel_core::{
    alarm::{ClearReason, Kind},
    finding::Finding,
    peers::{
        Answer, Change, Count, Monitor, PeerState, Request, Standing,
        settings::{Group, Heartbeat, Settings},
    },
    time::Time,
};

use crate::common::peer_world::{chance, v4};

/// So many in one go, as the engine tells it.
const MOST: usize = 2_048;

/// A monitor whose peers answer as `up` says, at once.
struct Agent {
    monitor: Monitor,
    now: Time,
    /// What its mate knows.
    told: BTreeMap<IpAddr, Standing>,
    /// How many changes it was told.
    changes: usize,
    findings: Vec<Finding>,
    asked: Vec<(Time, u32)>,
}

fn settings(recovery: u8) -> Settings {
    let recovery_count = NonZeroU8::new(recovery).unwrap();
    let group = Group { limit: 128_000, recovery_count, ..Group::named("all") };
    Settings { groups: vec![group], ..Settings::default() }
}

impl Agent {
    fn new(settings: &Settings, peers: u32, now: Time) -> Agent {
        Agent::after(settings, peers, &BTreeMap::new(), &BTreeSet::new(), now)
    }

    /// One that takes over: `down` have an alarm.
    fn after(
        settings: &Settings,
        peers: u32,
        told: &BTreeMap<IpAddr, Standing>,
        down: &BTreeSet<IpAddr>,
        now: Time,
    ) -> Agent {
        let mut monitor = Monitor::new(settings, 7, false, now);
        monitor.note_standings();
        for place in 0..peers {
            let address = v4(place);
            let down = down.contains(&address);
            monitor.apply(&Change::Add { place, address, group: 0, enabled: true, down }, now);
            if let Some(standing) = told.get(&address) {
                monitor.apply(&Change::Restore { place, standing: *standing }, now);
            }
        }
        let (told, findings, asked) = (BTreeMap::new(), Vec::new(), Vec::new());
        Agent { monitor, now, told, changes: 0, findings, asked }
    }

    fn run(&mut self, to: Time, up: impl Fn(Time, &Request) -> bool) {
        let mut requests = Vec::new();
        while self.now < to {
            self.monitor.judge(self.now);
            requests.clear();
            self.monitor.take_requests(self.now, &mut requests);
            for request in &requests {
                self.asked.push((self.now, request.place));
                if up(self.now, request) {
                    self.monitor.answer(&answer(request, self.now)).unwrap();
                }
            }
            while let Some(finding) = self.monitor.poll_finding(self.now) {
                self.findings.push(finding);
            }
            self.tell();
            let next = self.monitor.next_deadline().unwrap_or(to);
            self.now = next.max(self.now + Duration::from_millis(1)).min(to);
        }
    }

    fn tell(&mut self) {
        for (address, standing) in self.monitor.take_standings(MOST, self.now) {
            self.changes += 1;
            let before = match standing {
                Some(standing) => self.told.insert(address, standing),
                None => self.told.remove(&address),
            };
            assert!(before.is_some() || standing.is_some(), "{address} was not known");
        }
    }

    fn count(&self, place: u32) -> Option<Count> {
        self.told.get(&v4(place)).map(|standing| standing.count)
    }

    /// Whose alarm is active, if `before` were.
    fn down(&self, before: &BTreeSet<IpAddr>) -> BTreeSet<IpAddr> {
        let mut down = before.clone();
        for finding in self.findings.iter().filter(|finding| finding.kind == Kind::PeerDown) {
            let evenkeel_core::alarm::Object::Peer(address) = &finding.object else {
                panic!("{finding:?}");
            };
            match finding.cleared {
                None => assert!(down.insert(*address), "{address} is raised twice"),
                Some(_) => assert!(down.remove(address), "{address} was not raised"),
            }
        }
        down
    }

    /// What was found: raises and clears by seconds after the clock's start.
    fn found(&self) -> String {
        let word = |finding: &Finding| {
            let what = match finding.cleared {
                None => "down",
                Some(ClearReason::Ended) => "clear",
                Some(_) => "?",
            };
            format!("{what}{:.2}", finding.at.since(at(0)).as_secs_f64())
        };
        self.findings.iter().map(word).collect::<Vec<_>>().join(" ")
    }
}

fn answer(request: &Request, now: Time) -> Answer {
    Answer {
        place: request.place,
        source: request.address,
        sequence: request.sequence,
        token: Some(request.token),
        interface: None,
        received: now,
        sent: Some(now),
        restart_counter: None,
    }
}

fn at(millis: u64) -> Time {
    Time::from_secs(1_000) + Duration::from_millis(millis)
}

fn nobody() -> BTreeSet<IpAddr> {
    BTreeSet::new()
}

#[test]
fn pair_11_a_miss_count_goes_on_at_a_takeover() {
    // The first try is at 0 s. What is told, and when the second agent finds the peer down, which takes
    // over a second after the first one's end.
    for (end, count, down) in [
        // The first try is not over.
        (2_000, None, "down12.00"),
        (3_100, Some(Count::Unanswered(1)), "down10.10"),
        // The second one is under way, and is not taken for one.
        (5_900, Some(Count::Unanswered(1)), "down12.90"),
        (6_100, Some(Count::Unanswered(2)), "down10.10"),
        (8_900, Some(Count::Unanswered(2)), "down12.90"),
    ] {
        let mut first = Agent::new(&settings(1), 1, at(0));
        first.run(at(end), |_, _| false);
        assert_eq!((first.count(0), first.found().as_str()), (count, ""), "{end}");
        let mut second = Agent::after(&settings(1), 1, &first.told, &nobody(), at(end + 1_000));
        second.run(at(60_000), |_, _| false);
        assert_eq!(second.found(), down, "{end}");
        // The mate of this one knows it as well.
        assert_eq!(second.count(0), Some(Count::Answered(0)));
    }
}

#[test]
fn pair_11_a_peer_that_answers_after_a_takeover_is_up_whatever_was_missed_before() {
    let mut first = Agent::new(&settings(1), 1, at(0));
    first.run(at(8_000), |_, _| false);
    let mut second = Agent::after(&settings(1), 1, &first.told, &nobody(), at(9_000));
    second.run(at(60_000), |_, _| true);
    assert_eq!((second.found().as_str(), second.count(0)), ("", None));
    assert_eq!(second.monitor.peers().next().unwrap().state, PeerState::Alive);
}

#[test]
fn pair_11_a_peer_that_is_down_is_neither_raised_again_nor_cleared_without_answers() {
    let mut first = Agent::new(&settings(3), 1, at(0));
    // It is back, and answers the heartbeat at 60 s.
    first.run(at(61_000), |now, _| now >= at(60_000));
    assert_eq!((first.found().as_str(), first.count(0)), ("down9.00", Some(Count::Answered(1))));
    let down = first.down(&nobody());
    // The recovery goes on: two more are wanted of three.
    let mut second = Agent::after(&settings(3), 1, &first.told, &down, at(70_000));
    second.run(at(300_000), |_, _| true);
    assert_eq!(second.found(), "clear130.00");
    assert_eq!(second.count(0), None);
    // One that does not answer: nothing is said.
    let mut third = Agent::after(&settings(3), 1, &first.told, &down, at(70_000));
    third.run(at(300_000), |_, _| false);
    assert_eq!((third.found().as_str(), third.count(0)), ("", Some(Count::Answered(0))));
    // Of one whose alarm is all that there is, three are wanted.
    let mut fourth = Agent::after(&settings(3), 1, &BTreeMap::new(), &down, at(70_000));
    fourth.run(at(300_000), |_, _| true);
    assert_eq!(fourth.found(), "clear190.00");
}

#[test]
fn pair_11_what_the_mate_found_and_did_not_tell_is_found_by_the_next_try() {
    let told =
        BTreeMap::from([(v4(0), Standing { count: Count::Answered(0), restart_counter: None })]);
    let mut second = Agent::after(&settings(1), 1, &told, &nobody(), at(0));
    second.run(at(60_000), |_, _| false);
    assert_eq!(second.found(), "down3.00");
    let mut third = Agent::after(&settings(1), 1, &told, &nobody(), at(0));
    third.run(at(60_000), |_, _| true);
    assert_eq!(third.found(), "");
}

#[test]
fn pair_11_restart_counters_and_who_knows_no_heartbeats_are_taken_over() {
    let mut settings = settings(1);
    settings.groups[0].kind = Heartbeat::ProxyMobile;
    let mut first = Agent::new(&settings, 2, at(0));
    first.run(at(1_000), |_, _| true);
    first.monitor.restart_counter(0, 5, at(1_000));
    first.monitor.unsupported(1, at(1_000));
    first.run(at(2_000), |_, _| true);
    assert_eq!(first.told[&v4(0)], Standing { restart_counter: Some(5), ..Standing::default() });
    assert_eq!(first.count(1), Some(Count::Unsupported));

    let mut second = Agent::after(&settings, 2, &first.told, &nobody(), at(3_000));
    second.run(at(70_000), |_, _| true);
    assert!(second.asked.iter().all(|(_, place)| *place == 0), "the other one is not asked");
    second.monitor.restart_counter(0, 5, second.now);
    second.monitor.restart_counter(0, 6, second.now);
    second.run(at(71_000), |_, _| true);
    let [finding] = second.findings.as_slice() else { panic!("{:?}", second.findings) };
    assert_eq!(finding.kind, Kind::PeerRestarted);
    assert_eq!(finding.detail.as_deref(), Some("restart counter 6, was 5"));
}

#[test]
fn pair_11_as_long_as_all_is_well_128_000_peers_cost_nothing() {
    let mut first = Agent::new(&settings(1), 128_000, at(0));
    first.run(at(125_000), |_, _| true);
    assert_eq!((first.changes, first.told.len()), (0, 0));
    // A tenth of them falls silent: two changes for each until it is down, one when it is, one when it
    // is back.
    let silent = |request: &Request| request.place.is_multiple_of(10);
    first.run(at(250_000), |_, request| !silent(request));
    assert_eq!((first.changes, first.told.len()), (38_400, 12_800));
    first.run(at(375_000), |_, _| true);
    assert_eq!((first.changes, first.told.len()), (51_200, 0));
}

#[test]
fn pair_11_a_peer_that_is_monitored_no_longer_is_forgotten() {
    let mut first = Agent::new(&settings(1), 3, at(0));
    first.run(at(75_000), |_, _| false);
    assert_eq!(first.told.len(), 3);
    let reason = ClearReason::Removed;
    first.monitor.apply(&Change::Remove { place: 0, reason }, first.now);
    // Its place is another's at once.
    let other = Change::Add { place: 0, address: v4(9), group: 0, enabled: true, down: false };
    first.monitor.apply(&other, first.now);
    first.monitor.apply(&Change::Set { place: 1, group: 0, enabled: false }, first.now);
    first.tell();
    assert_eq!(first.told.keys().collect::<Vec<_>>(), [&v4(2)]);
}

/// Whatever is lost by chance, what was told is what there is, and a takeover at any moment finds nobody
/// down who answers, and nobody twice.
#[test]
fn pair_11_chance_tells_what_there_is_and_a_takeover_raises_nobody_twice() {
    const PEERS: u32 = 40;
    for seed in 0..60 {
        let context = format!("seed {seed}");
        // Of the peers a quarter is dead, a quarter loses half, the others lose a tenth.
        let up = |now: Time, request: &Request| {
            let what = now.as_millis() as u32;
            let share = chance(seed, request.place, what) % 100;
            match request.place % 4 {
                0 => now < at(100_000),
                1 => share < 50,
                _ => share < 90,
            }
        };
        let mut first = Agent::new(&settings(2), PEERS, at(0));
        let end = 90_000 + chance(seed, 0, 0) % 200_000;
        first.run(at(end), up);
        for peer in first.monitor.peers() {
            let told = first.told.get(&peer.address).map(|standing| standing.count);
            match peer.state {
                PeerState::Unknown | PeerState::Alive => assert_eq!(told, None, "{context}"),
                PeerState::Silent => {
                    assert!(matches!(told, Some(Count::Unanswered(1 | 2))), "{context} {told:?}");
                }
                PeerState::Down => {
                    assert!(matches!(told, Some(Count::Answered(0 | 1))), "{context} {told:?}");
                }
                PeerState::Disabled | PeerState::Unsupported => panic!("{context}"),
            }
        }
        let down = first.down(&nobody());
        let mut second = Agent::after(&settings(2), PEERS, &first.told, &down, at(end + 4_000));
        let began = second.now;
        second.run(at(end + 400_000), up);
        second.down(&down);
        for finding in second.findings.iter().filter(|finding| finding.cleared.is_none()) {
            let asked = second.asked.iter().any(|(when, place)| {
                finding.object == evenkeel_core::alarm::Object::Peer(v4(*place))
                    && (began..finding.at).contains(when)
            });
            assert!(asked, "{context}: {finding:?} without a request of its own");
        }
        for place in (0..PEERS).step_by(4) {
            let state = second.monitor.peers().find(|peer| peer.place == place).unwrap().state;
            assert_eq!(state, PeerState::Down, "{context} {place}");
        }
    }
}
