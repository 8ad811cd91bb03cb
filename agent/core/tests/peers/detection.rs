//! PEER-2, PEER-3, PEER-11 and PEER-15: when a peer is found down, when it is back, and which answers
//! count.

use std::{num::NonZeroU8, time::Duration};

use evenkeel_core::{
    alarm::{ClearReason, Kind, Object},
    peers::{
        Answer, Change, Discard, PeerState, Request,
        settings::{Group, Heartbeat},
    },
    time::Time,
};

use crate::common::{
    peer_world::{PeerWorld, chance, group, ms, s, settings, shipped, v4, v6},
    sim::at,
};

/// A nanosecond.
const NS: Duration = Duration::from_nanos(1);

/// A world with one peer that answers nothing by itself, up to its first request; and when that left.
fn mute(groups: &[Group]) -> (PeerWorld, Time) {
    let mut world = PeerWorld::with(&settings(groups), 1);
    world.kept = Some(Vec::new());
    world.peer(0).up = false;
    while world.sent.is_empty() {
        let next = world.monitor.next_deadline().expect("a peer is to be asked");
        world.run_until(next);
    }
    let first = world.sent[0].at;
    (world, first)
}

/// An answer to a request.
fn answer_to(request: &Request, received: Time) -> Answer {
    Answer {
        place: request.place,
        source: request.address,
        sequence: request.sequence,
        token: Some(request.token),
        interface: Some(2),
        received,
        // An echo tells it; a peer of another kind may not.
        sent: None,
        restart_counter: None,
    }
}

#[test]
fn a_peer_that_never_answers_is_down_after_its_tries() {
    // PEER-2: interval, timeout, retransmissions, when tries leave, down; in milliseconds. With short
    // intervals the heartbeats go on between.
    let rows: [(_, _, _, &[u64], _); 9] = [
        (60_000, 3_000, 3, &[0, 3_000, 6_000], 9_000),
        (60_000, 3_000, 1, &[0], 3_000),
        (60_000, 3_000, 2, &[0, 3_000], 6_000),
        (30_000, 1_500, 5, &[0, 1_500, 3_000, 4_500, 6_000], 7_500),
        (3_600_000, 20_000, 4, &[0, 20_000, 40_000, 60_000], 80_000),
        (3_600_000, 200, 5, &[0, 200, 400, 600, 800], 1_000),
        (7_000, 3_000, 3, &[0, 3_000, 6_000, 7_000], 9_000),
        (5_000, 3_000, 3, &[0, 3_000, 5_000, 6_000], 9_000),
        (2_000, 3_000, 3, &[0, 2_000, 3_000, 4_000, 6_000, 8_000], 9_000),
    ];
    for (interval, timeout, max, tries, down) in rows {
        let (mut world, first) = mute(&[group("all", ms(interval), ms(timeout), max)]);
        world.run_until(first + ms(down) - NS);
        assert!(world.told.is_empty(), "{interval} {timeout} {max}: {:?}", world.told);
        let mut sent: Vec<u64> =
            world.sent.iter().map(|sent| sent.at.since(first).as_millis() as u64).collect();
        // A heartbeat and a try that are due at once may be one or two.
        sent.dedup();
        assert_eq!(sent, tries, "{interval} {timeout} {max}");
        world.run_until(first + ms(down));
        assert_eq!(world.told_of(v4(0)), [(None, first + ms(down))]);
        let finding = &world.told[0].finding;
        assert_eq!(finding.peer_group.as_deref(), Some("all"));
        assert_eq!(world.view(0).state, PeerState::Down);
        let stats = world.monitor.stats();
        assert_eq!(stats.groups[0].no_answer, 1);
        world.check();
        // It is asked on at its interval, and only so, and is not found down again.
        let at_down = world.sent.len();
        world.run(ms(interval) * 3);
        assert!(world.sent[at_down..].iter().all(|sent| !sent.retransmission));
        assert_eq!(world.sent.len() - at_down, 3, "{interval} {timeout} {max}");
        assert_eq!(world.told.len(), 1);
        world.check();
    }
}

#[test]
fn every_peer_that_dies_is_down_at_most_69_seconds_later() {
    let mut world = PeerWorld::with(&shipped(), 5_000);
    world.run(s(75));
    let mut died: Vec<(u32, Time)> = Vec::new();
    for round in 0..60u32 {
        // 400 in all, fewer than a tenth.
        for _ in 0..7 {
            let place = (chance(5, round, died.len() as u32) % 5_000) as u32;
            if world.peer(place).up {
                world.peer(place).up = false;
                died.push((place, world.now()));
            }
        }
        world.run(ms(993));
    }
    world.run(s(70));
    let downs = world.downs(0);
    assert_eq!(downs.len(), died.len());
    let mut longest = Duration::ZERO;
    for &(place, died) in &died {
        let tries = world.requests_of(place, died);
        let down = downs[&world.peer(place).address];
        assert_eq!(down, tries[0] + s(9), "peer {place}");
        for (number, due) in [(1, tries[0] + s(3)), (2, tries[0] + s(6))] {
            let late = tries[number].since(due);
            assert!(tries[number] >= due && late <= ms(200), "peer {place}: {late:?} late");
        }
        longest = longest.max(down.since(died));
    }
    assert!(longest <= s(69) && longest > s(60), "{longest:?}");
    assert_eq!(world.told.len(), died.len());
    world.check();
    // And they are back with their next heartbeat (PEER-3), to the moment of its receipt.
    let back = world.now();
    world.set_up(died.iter().map(|died| died.0), true);
    world.run(s(61));
    for &(place, _) in &died {
        let heard = world.requests_of(place, back)[0] + world.peer(place).round_trip;
        let told = world.told_of(world.peers[place as usize].as_ref().unwrap().address);
        assert_eq!(told[1..], [(Some(ClearReason::Ended), heard)], "peer {place}");
    }
    world.check();
}

#[test]
fn so_many_answers_in_a_row_end_it() {
    for count in [1, 2, 3, 5] {
        let recovery_count = NonZeroU8::new(count).unwrap();
        let all = Group { recovery_count, ..group("all", s(60), s(3), 3) };
        let mut world = PeerWorld::with(&settings(&[all]), 1);
        world.peer(0).up = false;
        world.run(s(75));
        assert_eq!(world.told.len(), 1);
        // One less than asked for, then a heartbeat without an answer, ends nothing.
        if count > 1 {
            world.peer(0).up = true;
            world.run(s(60) * u32::from(count - 1));
            assert_eq!(world.view(0).state, PeerState::Down, "{count}");
            world.peer(0).up = false;
            world.run(s(60));
        }
        world.peer(0).up = true;
        let back = world.now();
        world.run(s(60) * u32::from(count) + s(5));
        let heard = world.requests_of(0, back)[usize::from(count) - 1] + world.peer(0).round_trip;
        assert_eq!(world.told_of(v4(0))[1..], [(Some(ClearReason::Ended), heard)], "{count}");
        assert_eq!(world.view(0).state, PeerState::Alive);
        world.check();
    }
}

#[test]
fn what_was_received_before_a_deadline_counts_before_it() {
    // Which try is answered, when; raised and cleared when; requests without an answer in time. An
    // event at exactly the deadline comes after it (spec README, Time), whenever it is handed in.
    type Row = (usize, Duration, Option<Duration>, Option<Duration>, u32);
    let rows: [Row; 9] = [
        (0, s(3) - NS, None, None, 0),
        (0, s(3), None, None, 1),
        (0, s(5), None, None, 2),
        (1, s(6) - NS, None, None, 1),
        (1, s(6), None, None, 2),
        (2, s(9) - NS, None, None, 2),
        (2, s(9), Some(s(9)), Some(s(9)), 3),
        (0, s(9), Some(s(9)), Some(s(9)), 3),
        (1, s(20), Some(s(9)), Some(s(20)), 3),
    ];
    for (number, after, raised, cleared, unanswered) in rows {
        for handed_in in ["before it is judged", "after it was judged", "8 ms late"] {
            let (mut world, first) = mute(&[Group::named("all")]);
            let received = first + after;
            match handed_in {
                "before it is judged" => {
                    world.run_until(received - NS);
                    world.stall(NS);
                }
                "after it was judged" => world.run_until(received),
                _ => {
                    world.run_until(received - ms(1));
                    world.stall(ms(9));
                }
            }
            let request = world.kept.as_ref().unwrap()[number];
            let sent = Some(world.sent[number].at);
            let answer = Answer { sent, ..answer_to(&request, received) };
            assert_eq!(world.monitor.answer(&answer), Ok(()));
            // From now on it answers; what it was asked before it does not.
            world.peer(0).up = true;
            world.run_until(first + s(59));
            let mut expected = Vec::new();
            expected.extend(raised.map(|raised| (None, first + raised)));
            expected.extend(cleared.map(|ended| (Some(ClearReason::Ended), first + ended)));
            let row = format!("try {number} answered after {after:?}, handed in {handed_in}");
            assert_eq!(world.told_of(v4(0)), expected, "{row}");
            assert_eq!(world.view(0).state, PeerState::Alive, "{row}");
            // If it was handed in after the judgement, the next try may have left at the same moment.
            if handed_in != "after it was judged" {
                assert_eq!(world.view(0).unanswered, unanswered, "{row}");
            }
            world.check();
        }
    }
}

#[test]
fn answers_that_do_not_count_are_counted_by_reason_and_change_nothing() {
    // PEER-11.
    let (mut world, first) = mute(&[Group::named("all")]);
    world.run_until(first + s(1));
    let request = world.kept.as_ref().unwrap()[0];
    let good = answer_to(&request, world.now());
    let rows = [
        (Answer { place: 1, ..good }, Discard::UnknownPeer),
        (Answer { place: u32::MAX, ..good }, Discard::UnknownPeer),
        (Answer { source: v4(1), ..good }, Discard::WrongSource),
        (Answer { source: v6(0), ..good }, Discard::WrongSource),
        (Answer { token: Some(request.token ^ 1), ..good }, Discard::WrongToken),
        (Answer { token: Some(0), ..good }, Discard::WrongToken),
    ];
    let mut expected = [0u64; Discard::ALL.len()];
    for (answer, why) in rows {
        let before = (world.monitor.stats(), world.view(0));
        assert_eq!(world.monitor.answer(&answer), Err(why), "{answer:?}");
        expected[why as usize] += 1;
        let mut after = (world.monitor.stats(), world.view(0));
        assert_eq!(after.0.discarded, expected);
        after.0.discarded = before.0.discarded;
        assert_eq!(after, before, "{answer:?} changes nothing");
    }
    // A sequence number that never was, or not yet, does not count by either reason.
    for sequence in [1, 2, 31, 32, 33, 1 << 16, 1 << 31, u32::MAX]
        .map(|by: u32| [request.sequence.wrapping_add(by), request.sequence.wrapping_sub(by)])
    {
        for sequence in sequence {
            let why = world.monitor.answer(&Answer { sequence, ..good }).unwrap_err();
            assert!(matches!(why, Discard::NotOutstanding | Discard::WrongToken), "{why:?}");
            expected[why as usize] += 1;
        }
    }
    for why in [Discard::Truncated, Discard::BadChecksum, Discard::Malformed] {
        world.monitor.discarded(why, 3);
        expected[why as usize] += 3;
    }
    assert_eq!(world.monitor.stats().discarded, expected);
    world.run_until(first + s(10));
    assert_eq!(world.told_of(v4(0)), [(None, first + s(9))], "and nothing of it was an answer");
    // An answer that comes twice counts once.
    assert_eq!(world.monitor.answer(&answer_to(&request, world.now())), Ok(()));
    let again = world.monitor.answer(&answer_to(&request, world.now()));
    assert_eq!(again, Err(Discard::NotOutstanding));
    world.run(s(1));
    assert_eq!(world.monitor.stats().groups[0].answers, 1);
    assert_eq!(world.told.len(), 2);
}

#[test]
fn an_answer_to_who_had_the_place_before_does_not_count() {
    // PEER-11; a place that was freed may be given out again at once.
    for same_address in [true, false] {
        let (mut world, first) = mute(&[Group::named("all")]);
        let old = world.kept.as_ref().unwrap()[0];
        world.remove(0, ClearReason::TurnedOff);
        assert_eq!(
            world.monitor.answer(&answer_to(&old, world.now())),
            Err(Discard::UnknownPeer),
            "nobody has the place"
        );
        world.add(0, v4(u32::from(!same_address)), 0, false);
        world.peer(0).up = false;
        assert!(world.monitor.answer(&answer_to(&old, world.now())).is_err());
        world.run_until(first + s(58));
        let late = world.monitor.answer(&answer_to(&old, world.now()));
        assert!(late.is_err(), "the same address: {same_address}: {late:?}");
    }
}

#[test]
fn tokens_differ_by_seed_place_and_sequence() {
    // PEER-11: nobody who has not seen the request knows the token.
    let tokens = |seed| {
        let mut world = PeerWorld::begun(&shipped(), seed, false);
        world.kept = Some(Vec::new());
        world.add_all(0..100, 0);
        world.run(s(599));
        let mut tokens: Vec<u32> =
            world.kept.unwrap().iter().map(|request| request.token).collect();
        assert_eq!(tokens.len(), 1_000);
        tokens.sort_unstable();
        tokens.dedup();
        tokens
    };
    let (one, other) = (tokens(1), tokens(2));
    // By the birthday of 1,000 among 2^32 there is a pair in one of 8,600 seeds; not in these.
    assert!(one.len() >= 999 && other.len() >= 999);
    assert!(one.iter().filter(|token| other.binary_search(token).is_ok()).count() <= 1);
}

#[test]
fn what_ends_the_monitoring_of_a_peer_that_is_down_clears_its_alarm() {
    // PEER-13, INST-11 and SUBN-12 for the reasons.
    type Row<'a> = (&'a dyn Fn(&mut PeerWorld), ClearReason);
    let rows: [Row<'_>; 3] = [
        (&|world| world.remove(0, ClearReason::TurnedOff), ClearReason::TurnedOff),
        (&|world| world.remove(0, ClearReason::Removed), ClearReason::Removed),
        (&|world| world.set(0, 0, false), ClearReason::TurnedOff),
    ];
    for (end, reason) in rows {
        let (mut world, first) = mute(&[Group::named("all")]);
        world.run_until(first + s(20));
        end(&mut world);
        world.run(s(200));
        assert_eq!(
            world.told_of(v4(0)),
            [(None, first + s(9)), (Some(reason), first + s(20))],
            "{reason:?}"
        );
        assert!(world.sent.iter().all(|sent| sent.at < first + s(20)));
        world.check();
    }
    // Who is alive, silent or not known has none to clear.
    for after in [ms(1), s(4), s(8)] {
        for remove in [true, false] {
            let (mut world, first) = mute(&[Group::named("all")]);
            world.run_until(first + after);
            if remove {
                world.remove(0, ClearReason::TurnedOff);
            } else {
                world.set(0, 0, false);
            }
            world.run(s(200));
            assert!(world.told.is_empty() && world.sent.last().unwrap().at <= first + after);
            world.check();
        }
    }
}

#[test]
fn a_peer_that_is_enabled_again_begins_anew() {
    let (mut world, first) = mute(&[Group::named("all")]);
    world.run_until(first + s(5));
    world.set(0, 0, false);
    world.run(s(100));
    let enabled = world.now();
    world.set(0, 0, true);
    world.run(s(72));
    let tries = world.requests_of(0, enabled);
    assert!(tries[0].since(enabled) <= s(60));
    assert_eq!(world.told_of(v4(0)), [(None, tries[0] + s(9))]);
    world.check();
}

#[test]
fn an_alarm_of_an_earlier_run_is_not_raised_again_nor_cleared_without_an_answer() {
    for up in [true, false] {
        let mut world = PeerWorld::new(&shipped());
        world.add(0, v4(0), 0, true);
        world.peer(0).up = up;
        assert_eq!(world.view(0).state, PeerState::Down);
        world.run(s(200));
        let heard = world.sent[0].at + world.peer(0).round_trip;
        let cleared = (Some(ClearReason::Ended), heard);
        let expected = if up { vec![cleared] } else { vec![] };
        assert_eq!(world.told_of(v4(0)), expected);
        assert!(world.sent.iter().all(|sent| !sent.retransmission));
        world.check();
    }
    let mut world = PeerWorld::new(&shipped());
    world.add(0, v4(0), 0, true);
    world.remove(0, ClearReason::Removed);
    world.run(s(1));
    assert_eq!(world.told_of(v4(0)), [(Some(ClearReason::Removed), at(0))]);
}

#[test]
fn a_changed_restart_counter_is_an_event_and_the_first_is_only_remembered() {
    // PEER-15: what an answer says, and what the peer says unasked.
    let mut world = PeerWorld::with(&shipped(), 1);
    world.kept = Some(Vec::new());
    world.peer(0).up = false;
    let mut expected = Vec::new();
    let rows = [
        (Some(7), true, false),
        (Some(7), true, false),
        (None, true, false),
        (Some(8), true, true),
        (Some(8), false, false),
        (Some(9), false, true),
        (Some(9), true, false),
        (Some(0), true, true),
    ];
    for (counter, asked, restarted) in rows {
        let sent = world.sent.len();
        while world.sent.len() == sent {
            world.run(ms(100));
        }
        let received = world.now();
        let request = *world.kept.as_ref().unwrap().last().unwrap();
        let restart_counter = counter.filter(|_| asked);
        let answer = Answer { restart_counter, ..answer_to(&request, received) };
        assert_eq!(world.monitor.answer(&answer), Ok(()));
        if let (Some(counter), false) = (counter, asked) {
            world.monitor.restart_counter(0, counter, received);
        }
        world.run(s(1));
        if restarted {
            expected.push((None, received));
        }
        assert_eq!(world.told_kind(Kind::PeerRestarted), expected, "{counter:?}");
    }
    assert_eq!(world.told.len(), 3);
    assert!(world.told.iter().all(|told| told.finding.object == Object::Peer(v4(0))));
    assert_eq!(world.monitor.stats().groups[0].restarts, 3);
    // Of nobody it says nothing.
    world.monitor.restart_counter(1, 5, world.now());
    world.run(s(1));
    assert_eq!(world.told.len(), 3);
}

#[test]
fn a_heartbeat_without_room_for_a_token_is_answered_without_one() {
    // PEER-15: the sequence number alone must match, and the pacing knows nothing of the kind.
    let all = Group { kind: Heartbeat::ProxyMobile, ..Group::named("all") };
    let (mut world, first) = mute(&[all]);
    world.run_until(first + s(4));
    let request = world.kept.as_ref().unwrap()[0];
    let answer = Answer { token: None, ..answer_to(&request, world.now()) };
    let wrong = Answer { sequence: request.sequence.wrapping_add(7), ..answer };
    assert_eq!(world.monitor.answer(&wrong), Err(Discard::NotOutstanding));
    assert_eq!(world.monitor.answer(&answer), Ok(()));
    assert_eq!(world.view(0).state, PeerState::Alive);
    world.check();
}

#[test]
fn a_peer_that_knows_no_heartbeats_is_not_asked_and_has_no_alarm() {
    // PEER-15: whatever it was before; an alarm that it had does not stay for ever.
    for (after, alarms) in [(ms(1), 0), (s(4), 0), (s(20), 2)] {
        let (mut world, first) = mute(&[Group::named("all")]);
        world.run_until(first + after);
        world.unsupported(0);
        world.run(s(300));
        assert_eq!(world.told_of(v4(0)).len(), alarms, "after {after:?}");
        assert_eq!(world.view(0).state, PeerState::Unsupported);
        world.check();
    }
}

#[test]
fn no_deadline_without_peers_and_nobody_listens_while_nothing_is_asked() {
    let mut world = PeerWorld::new(&shipped());
    assert_eq!(world.monitor.next_deadline(), None);
    assert!(!world.monitor.expects_answers());
    world.add_all([0], 0);
    world.peer(0).round_trip = ms(10);
    while world.sent.is_empty() {
        world.run(ms(100));
        assert!(world.monitor.next_deadline().is_some());
    }
    world.run(s(4));
    assert!(!world.monitor.expects_answers(), "the one request was answered");
    world.peer(0).up = false;
    world.run(s(60));
    let first = world.sent[1].at;
    assert!(world.monitor.expects_answers() || world.now() > first + s(9));
    let change = Change::Remove { place: 0, reason: ClearReason::Removed };
    world.monitor.apply(&change, world.now());
    world.peers[0] = None;
    world.run(s(100));
    assert_eq!(world.monitor.next_deadline(), None);
    assert!(!world.monitor.expects_answers());
}
