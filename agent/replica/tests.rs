//! Two agents and the channel between them: what is copied, what follows, what waits for it, and what is
//! handed over.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use evenkeel_core::{
    input::Answer,
    pair::record::{Part, Parts as StateParts},
    peers::{Count, Standing},
    state::RecordKey,
};
use proptest::prelude::*;

use super::{
    testing::{Node, Wire, clock, journal, pair, term, until, until_in_sync, wait},
    wire::{Heard, Incoming, Op, Outgoing, Took},
    *,
};
use crate::{
    spool::{self, Stored, Work},
    store::{
        Commit, Reader,
        testing::{Chance, alarm, clear, event, key, mark, raise, record},
    },
};

/// The objects that are remembered, each with its mark.
fn marks(restored: &Restored) -> BTreeMap<RecordKey, u64> {
    restored.state.records.iter().map(|record| (record.key, mark(record))).collect()
}

/// The numbers in a spool, and the traps that they are of.
fn spooled(dir: &std::path::Path) -> Vec<(u64, Option<u32>)> {
    let stored = Stored::open(&dir.join(spool::DIRECTORY), 0, u64::MAX, &clock()).unwrap();
    stored.map(Result::unwrap).map(|entry| (entry.number, entry.taken.request_id)).collect()
}

#[test]
fn pair_11_a_standby_has_the_same_rows_records_cursors_and_entries() {
    let (at_a, at_b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let a = Node::start(at_a.path());
    a.lead(7);
    a.raise(1..4);
    a.submit(vec![clear(2)], 5);
    a.store.keep_targets(vec!["nms".to_owned()]);
    a.store.set_cursor("nms", 2);
    a.spool(1..=5);
    a.wait_for(4, 5);
    let b = Node::start(at_b.path());
    b.follow(7);
    let wire = Wire::lay(&a, &b);
    wire.up();
    until_in_sync(&a, &b);
    // What was there, and what comes.
    a.raise(10..20);
    a.spool(6..=9);
    a.store.set_cursor("nms", 3);
    a.store.checkpoint_state(vec![record(30, 3)], vec![key(1)], clock().moment, Duration::ZERO);
    a.store.set_heeded(4);
    let silent = Standing { count: Count::Unanswered(2), restart_counter: None };
    let peers = BTreeMap::from([(IpAddr::from([192, 0, 2, 7]), silent)]);
    a.handle.peers(vec![(IpAddr::from([192, 0, 2, 7]), Some(silent))]);
    let gate = a.handle.replicated();
    a.wait_for(14, 9);
    until("the mate has all", || *gate.borrow() == Replicated { seq: 14, number: 9 });
    until("heeded comes", || *b.store.heeded().borrow() == 4);
    until("what was said of the peers comes", || b.handle.stats().peers == 1);
    assert_eq!(journal(at_a.path()), journal(at_b.path()));
    assert_eq!(journal(at_b.path())[13].term, Some(term(7)));
    assert_eq!(spooled(at_a.path()), spooled(at_b.path()));
    assert_eq!(spooled(at_b.path()).len(), 9);

    wire.cut();
    let led = b.lead(8);
    assert_eq!((led.restored.last_seq, led.restored.heeded, led.recovered.last), (14, 4, 9));
    assert_eq!((led.missing, led.peers), (StateParts::NONE, peers));
    assert_eq!(led.recovered.entries_after(4).count(), 5);
    assert_eq!(Reader::open(at_b.path()).unwrap().cursor("nms").unwrap(), Some(3));
    let of_a = wait(a.store.reread(clock())).unwrap().unwrap();
    assert_eq!(marks(&led.restored), marks(&of_a));
    assert!(marks(&led.restored).contains_key(&key(30)));
    assert!(!marks(&led.restored).contains_key(&key(1)));
    assert_eq!(led.restored.state.alarms, of_a.state.alarms);
    assert!(!led.restored.clean, "the last moments of the primary may be missing");
    // It goes on behind all that the primary had given.
    b.raise(50..51);
    b.wait_for(15, 0);
    assert_eq!(journal(at_b.path()).last().unwrap().term, Some(term(8)));
}

#[test]
fn pair_14_ages_travel_and_not_moments() {
    let (at_a, at_b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (a, b, _wire) = pair(at_a.path(), at_b.path());
    until_in_sync(&a, &b);
    let mut as_of = clock().moment;
    let began = as_of.mono;
    as_of.mono = as_of.mono - Duration::from_secs(100);
    let mut old = record(1, 1);
    old.age = Duration::from_secs(20);
    a.store.submit(Commit {
        events: vec![raise(1)],
        records: vec![old],
        as_of,
        ..Commit::default()
    });
    let gate = a.handle.replicated();
    until("the mate has it", || gate.borrow().seq == 1);
    let led = b.lead(2);
    let age = led.restored.state.records[0].age;
    let most = Duration::from_secs(120) + clock().moment.mono.since(began);
    assert!(age >= Duration::from_secs(119) && age <= most, "{age:?} {most:?}");
}

#[test]
fn pair_13_an_answer_waits_for_the_standby_and_for_no_one_who_is_gone() {
    let (at_a, at_b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (a, b, wire) = pair(at_a.path(), at_b.path());
    until_in_sync(&a, &b);
    let waiting = || a.spool.stats().waiting_answers;
    let ask = |number| {
        let answer = Answer {
            door: Default::default(),
            to: "127.0.0.1:9".parse().unwrap(),
            bytes: vec![1],
            after: Some(number),
        };
        a.spool(number..=number);
        a.spool.submit(Work { answers: vec![answer], ..Work::default() });
    };
    ask(1);
    until("it is answered", || waiting() == 0 && *a.spool.safe().borrow() == 1);
    assert!(spooled(at_b.path()).len() == 1, "it was answered before the standby had it");
    // The channel stays up, and nothing passes any more.
    wire.stall_after(0);
    ask(2);
    until("it is safe here", || *a.spool.safe().borrow() == 2);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(waiting(), 1);
    assert_eq!(a.handle.replicated().borrow().number, 1);
    // After 2 s the channel is given up, and nothing waits for it.
    until("it is answered all the same", || waiting() == 0);
    // The wait ends before the word of it is out.
    until("the channel is given up", || {
        let said = a.said.lock().unwrap();
        said.iter().any(|said| matches!(said, Said::Reconnect(_)))
    });
    until("nothing waits", || *a.handle.replicated().borrow() == Replicated::NO_MATTER);
}

#[test]
fn pair_13_no_wait_outlives_the_channel_the_role_the_setting_or_the_thread() {
    let (at_a, at_b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (a, b, wire) = pair(at_a.path(), at_b.path());
    let gate = a.handle.replicated();
    let open = || *gate.borrow() == Replicated::NO_MATTER;
    until_in_sync(&a, &b);
    until("it waits", || !open());
    a.handle.set_wait(Wait::Disk);
    until("the setting lets it through", open);
    a.handle.set_wait(Wait::Standby);
    until("it waits again", || !open());
    wire.cut();
    until("the channel is gone", open);
    wire.up();
    until("it waits again", || !open());
    a.to.send(ToReplica::Role { role: evenkeel_core::pair::Role::Standby, term: None }).unwrap();
    until("the role is gone", open);
    a.to.send(ToReplica::Role { role: evenkeel_core::pair::Role::Primary, term: None }).unwrap();
    wire.cut();
    wire.up();
    until("it waits again", || !open());
    drop(a);
    until("the thread is gone", open);
}

#[test]
fn pair_11_a_copy_is_whole_however_much_changes_meanwhile() {
    let (at_a, at_b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let a = Node::start(at_a.path());
    a.lead(1);
    let many: Vec<Record> = (0..20_000).map(|object| record(object, 1)).collect();
    a.store.checkpoint_state(many, vec![], clock().moment, Duration::ZERO);
    a.raise(0..3_000);
    a.spool(1..=3_000);
    a.wait_for(3_000, 3_000);
    let b = Node::start(at_b.path());
    b.follow(1);
    let wire = Wire::lay(&a, &b);
    wire.up();
    // Without a pause until it is in sync, and some more.
    let mut next = 3_001u64;
    let mut after = 0;
    while after < 50 {
        let object = u32::try_from(next).unwrap();
        a.submit(vec![raise(object)], next);
        let changed = vec![record(object % 20_000, next)];
        a.store.checkpoint_state(changed, vec![], clock().moment, Duration::ZERO);
        a.spool(next..=next);
        next += 1;
        std::thread::sleep(Duration::from_micros(500));
        after += i32::from(b.in_sync());
    }
    a.wait_for(next - 1, next - 1);
    let gate = a.handle.replicated();
    let all = Replicated { seq: next - 1, number: next - 1 };
    until("the mate has all", || *gate.borrow() == all);
    // The records of the last checkpoint follow their rows.
    let of_a = wait(a.store.reread(clock())).unwrap().unwrap();
    a.raise(90_000..90_001);
    until("the mate has all", || gate.borrow().seq == next);
    let led = b.lead(2);
    assert_eq!(journal(at_a.path()), journal(at_b.path()));
    assert_eq!(spooled(at_a.path()), spooled(at_b.path()));
    let mut expected = marks(&of_a);
    expected.insert(key(90_000), 1);
    assert_eq!(marks(&led.restored), expected);
    assert_eq!(led.restored.state.alarms.len(), of_a.state.alarms.len() + 1);
}

#[test]
fn pair_11_a_primary_that_dies_in_the_midst_of_a_copy_leaves_the_older_state_whole() {
    let (at_a, at_b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (a, b, wire) = pair(at_a.path(), at_b.path());
    a.raise(1..100);
    a.spool(1..=50);
    until_in_sync(&a, &b);
    let gate = a.handle.replicated();
    until("the mate has all", || *gate.borrow() == Replicated { seq: 99, number: 50 });
    wire.cut();
    let before = (journal(at_b.path()), spooled(at_b.path()));
    // Much more, of which some frames get through.
    let many: Vec<Record> = (0..20_000).map(|object| record(object, 9)).collect();
    a.store.checkpoint_state(many, vec![], clock().moment, Duration::ZERO);
    a.submit((100..5_000).map(raise).collect(), 9);
    a.wait_for(4_999, 50);
    wire.up();
    wire.stall_after(5);
    until("a copy has begun", || b.handle.stats().copies_begun == 2);
    std::thread::sleep(Duration::from_millis(200));
    wire.cut();
    drop(a);
    assert_eq!((journal(at_b.path()), spooled(at_b.path())), before);
    let led = b.lead(2);
    assert_eq!((led.restored.last_seq, led.recovered.last), (99, 50));
    assert_eq!(led.missing, StateParts::NONE, "it is older, and all of it is there");
    assert_eq!(led.restored.state.alarms.len(), 99);
    assert_eq!(led.restored.state.records.len(), 99);
}

#[test]
fn pair_11_what_is_whole_of_a_first_copy_is_used_and_the_rest_is_told() {
    let (at_a, at_b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let a = Node::start(at_a.path());
    a.lead(1);
    a.raise(1..300);
    let many: Vec<Record> = (0..20_000).map(|object| record(object, 9)).collect();
    a.store.checkpoint_state(many, vec![], clock().moment, Duration::ZERO);
    a.wait_for(299, 0);
    let b = Node::start(at_b.path());
    b.follow(1);
    let wire = Wire::lay(&a, &b);
    wire.up();
    wire.stall_after(7);
    until("alarms are whole", || {
        let said = b.said.lock().unwrap();
        let has = |said: &Said| match said {
            Said::Sync(evenkeel_core::pair::sync::Sync::Copying { missing }) => {
                !missing.contains(Part::Alarms)
            }
            _ => false,
        };
        said.iter().any(has)
    });
    wire.cut();
    drop(a);
    let led = b.lead(2);
    assert_eq!(led.restored.state.alarms.len(), 299);
    assert_eq!(led.restored.state.records.len(), 0);
    assert!(led.missing.contains(Part::Objects) && !led.missing.contains(Part::Alarms));
}

#[test]
fn pair_2_an_agent_that_led_too_hands_over_what_it_did() {
    let (at_a, at_b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (a, b, wire) = pair(at_a.path(), at_b.path());
    a.raise(1..11);
    a.spool(1..=4);
    a.store.keep_targets(vec!["b".to_owned()]);
    a.store.set_spool_cursor("b", 4);
    a.store.set_heeded(4);
    until_in_sync(&a, &b);
    let gate = a.handle.replicated();
    until("the mate has all", || *gate.borrow() == Replicated { seq: 10, number: 4 });
    until("and the cursor", || {
        Reader::open(at_b.path()).unwrap().spool_cursor("b").unwrap() == Some(4)
    });
    // A split: both go on, each in a term of its own.
    wire.cut();
    let mut b = b;
    b.lead(2);
    a.raise(100..103);
    b.raise(200..205);
    a.spool(5..=8);
    b.spool(5..=6);
    a.wait_for(13, 8);
    b.wait_for(15, 6);
    // They meet, and the higher term stays.
    a.follow(2);
    wire.up();
    until_in_sync(&a, &b);
    let mut handed = None;
    while let Ok(told) = b.told.try_recv() {
        if let FromReplica::HandOver { rows, records, taken } = told {
            assert!(handed.replace((rows, records, taken)).is_none(), "once");
        }
    }
    let (rows, records, taken) = handed.unwrap();
    assert_eq!(rows.iter().map(|row| row.alarm.id.0).collect::<Vec<_>>(), [100, 101, 102]);
    assert!(rows.iter().all(|row| row.term == Some(term(1))));
    assert_eq!(records.iter().map(|r| r.key).collect::<Vec<_>>(), [key(100), key(101), key(102)]);
    // 5 and 6 have come to both.
    let requests: Vec<_> = taken.iter().map(|trap| trap.taken.request_id).collect();
    assert_eq!(requests, [Some(7), Some(8)]);
    assert!(taken.iter().all(|trap| !trap.heeded), "the records heed 4 alone");
    assert_eq!(taken[1].targets, ["a"]);
    assert_eq!(journal(at_a.path()), journal(at_b.path()));
    // What nobody waits for was not copied.
    assert_eq!(spooled(at_a.path()), spooled(at_b.path())[4..]);

    // When they meet again there is nothing more to hand over.
    wire.cut();
    wire.up();
    until_in_sync(&a, &b);
    while let Ok(told) = b.told.try_recv() {
        assert!(!matches!(told, FromReplica::HandOver { .. }), "{told:?}");
    }
}

#[test]
fn pair_2_of_an_agent_that_was_alone_only_what_is_still_news_is_handed_over() {
    let (at_a, at_b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let a = Node::start(at_a.path());
    // Ten rows, of which the NMS has had eight; 1 is still active.
    a.submit(vec![raise(1), raise(2), clear(2), raise(3), clear(3), raise(4), clear(4)], 1);
    a.submit(vec![raise(5), raise(6), clear(6)], 1);
    a.wait_for(10, 0);
    a.store.set_cursor("nms", 8);
    until("it is there", || Reader::open(at_a.path()).unwrap().cursor("nms").unwrap() == Some(8));
    let mut b = Node::start(at_b.path());
    b.lead(1);
    a.follow(1);
    let wire = Wire::lay(&a, &b);
    wire.up();
    until_in_sync(&a, &b);
    let told = std::iter::from_fn(|| b.told.try_recv().ok());
    let rows = told.filter_map(|told| match told {
        FromReplica::HandOver { rows, .. } => Some(rows),
        _ => None,
    });
    let rows: Vec<_> = rows.flatten().map(|row| (row.alarm.id.0, row.cleared.is_some())).collect();
    assert_eq!(rows, [(1, false), (5, false), (6, false), (6, true)]);
}

#[test]
fn pair_1_local_alarms_of_a_standby_are_said_until_they_come_back() {
    let (at_a, at_b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let a = Node::start(at_a.path());
    let b = Node::start(at_b.path());
    b.handle.local(event(alarm(7, 77), None));
    let mut a = a;
    a.lead(1);
    b.follow(1);
    let wire = Wire::lay(&a, &b);
    let locals = |a: &mut Node| {
        let told = std::iter::from_fn(|| a.told.try_recv().ok());
        told.filter(|told| matches!(told, FromReplica::MateLocal(_))).count()
    };
    for _ in 0..2 {
        wire.up();
        until_in_sync(&a, &b);
        until("it came", || a.handle.stats().received_ops > 1);
        assert_eq!(locals(&mut a), 1, "again over each channel");
        wire.cut();
    }
    wire.up();
    until_in_sync(&a, &b);
    a.submit(vec![event(alarm(7, 77), None)], 1);
    let gate = a.handle.replicated();
    until("it came back", || gate.borrow().seq == 1);
    assert_eq!(locals(&mut a), 1);
    wire.cut();
    wire.up();
    until_in_sync(&a, &b);
    assert_eq!(locals(&mut a), 0, "it is in the journal");
    b.handle.local(event(alarm(8, 88), None));
    wire.cut();
    drop(a);
    let led = b.lead(2);
    assert_eq!(led.locals, [event(alarm(8, 88), None)], "nobody is known to have it");
}

#[test]
fn prints_come_after_the_records_that_heed_their_traps() {
    let (at_a, at_b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (a, mut b, _wire) = pair(at_a.path(), at_b.path());
    until_in_sync(&a, &b);
    let many = (0..5_000).map(|object| record(object, 1)).collect();
    a.store.checkpoint_state(many, vec![], clock().moment, Duration::ZERO);
    a.handle.prints(vec![1, 2, 3]);
    assert_eq!(prints(&mut b), [1, 2, 3]);
    let there = wait(b.handle.lead(None)).unwrap().restored.state.records.len();
    assert_eq!(there, 5_000);
}

/// The next prints that a standby is told.
fn prints(standby: &mut Node) -> Vec<u64> {
    wait(async {
        loop {
            match standby.told.recv().await {
                Some(FromReplica::Prints(prints)) => return prints,
                Some(_) => {}
                None => panic!("the replica ended"),
            }
        }
    })
}

#[test]
fn pair_12_a_standby_that_comes_back_is_told_the_prints_of_what_it_has_kept_meanwhile() {
    let (at_a, at_b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (a, mut b, wire) = pair(at_a.path(), at_b.path());
    until_in_sync(&a, &b);
    wire.cut();
    a.store.checkpoint_state(vec![record(1, 1)], vec![], clock().moment, Duration::ZERO);
    a.handle.prints(vec![1, 2, 3]);
    until("it is on the disk", || a.store.stats().waiting_records == 0);
    wire.up();
    assert_eq!(prints(&mut b), [1, 2, 3]);
    let there = wait(b.handle.lead(None)).unwrap().restored.state.records.len();
    assert_eq!(there, 1);
}

#[test]
fn an_ordered_takeover_finds_records_that_lack_nothing() {
    let (at_a, at_b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (a, b, wire) = pair(at_a.path(), at_b.path());
    until_in_sync(&a, &b);
    a.raise(1..5);
    wait(a.handle.follow());
    until("all of it came", || journal(at_b.path()).len() == 4);
    std::thread::sleep(Duration::from_millis(200));
    let led = b.lead(2);
    assert!(led.restored.clean);
    assert_eq!(led.restored.state.alarms.len(), 4);
    // And what was primary is its standby.
    a.follow(2);
    until_in_sync(&a, &b);
    b.raise(10..11);
    let gate = b.handle.replicated();
    until("the mate has it", || gate.borrow().seq == 5);
    assert_eq!(journal(at_a.path()), journal(at_b.path()));
    drop(wire);
}

/// Whatever is written, wherever the channel is cut and whoever starts anew: what the primary took for
/// replicated is on the standby's disk under the same number, and in the end both have the same.
#[test]
fn pair_13_what_was_acknowledged_is_there_after_any_cut() {
    for seed in 0..6 {
        let (at_a, at_b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut chance = Chance(seed);
        let a = Node::start(at_a.path());
        a.lead(1);
        let mut b = Node::start(at_b.path());
        b.follow(1);
        let mut wire = Wire::lay(&a, &b);
        let (mut seq, mut number) = (0, 0);
        for round in 0..12u64 {
            wire.up();
            let stalls = chance.below(3) == 0;
            if stalls {
                wire.stall_after(chance.below(12));
            }
            for _ in 0..chance.below(40) {
                let first = u32::try_from(seq).unwrap();
                let count = 1 + u32::try_from(chance.below(20)).unwrap();
                a.submit((first..first + count).map(raise).collect(), round);
                seq += u64::from(count);
                let more = 1 + chance.below(30);
                a.spool(number + 1..=number + more);
                number += more;
                std::thread::sleep(Duration::from_micros(chance.below(3_000)));
            }
            if !stalls && chance.below(2) == 0 {
                until_in_sync(&a, &b);
            }
            let acknowledged = *a.handle.replicated().borrow();
            wire.cut();
            if acknowledged != Replicated::NO_MATTER {
                let rows = journal(at_b.path());
                let last = rows.last().map_or(0, |row| row.seq);
                assert!(last >= acknowledged.seq, "seed {seed}: {acknowledged:?} {last}");
                let last = spooled(at_b.path()).last().map_or(0, |(number, _)| *number);
                assert!(last >= acknowledged.number, "seed {seed}: {acknowledged:?} {last}");
            }
            if chance.below(3) == 0 {
                drop(wire);
                b.stop();
                b = Node::start(at_b.path());
                b.follow(1);
                wire = Wire::lay(&a, &b);
            }
        }
        wire.up();
        until_in_sync(&a, &b);
        a.wait_for(seq, number);
        let gate = a.handle.replicated();
        until("the mate has all", || *gate.borrow() == Replicated { seq, number });
        let rows = journal(at_b.path());
        assert_eq!(rows, journal(at_a.path()), "seed {seed}");
        assert_eq!(
            rows.iter().map(|row| row.seq).collect::<Vec<_>>(),
            (1..=seq).collect::<Vec<_>>()
        );
        assert_eq!(spooled(at_b.path()), spooled(at_a.path()), "seed {seed}");
        let of_a = wait(a.store.reread(clock())).unwrap().unwrap();
        wire.cut();
        let led = b.lead(2);
        assert_eq!(marks(&led.restored), marks(&of_a), "seed {seed}");
    }
}

/// PAIR-15: what a standby reads when it takes over, with as many objects as it may have.
#[test]
fn pair_15_a_hundred_thousand_objects_are_copied_and_read_again() {
    const OBJECTS: u32 = 100_000;
    let (at_a, at_b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let a = Node::start(at_a.path());
    a.lead(1);
    let many: Vec<Record> = (0..OBJECTS).map(|object| record(object, 1)).collect();
    a.store.checkpoint_state(many, vec![], clock().moment, Duration::ZERO);
    until("they are on the disk", || a.store.stats().records >= u64::from(OBJECTS));
    let b = Node::start(at_b.path());
    b.follow(1);
    let wire = Wire::lay(&a, &b);
    let began = std::time::Instant::now();
    wire.up();
    until_in_sync(&a, &b);
    let copied = began.elapsed();
    wire.cut();
    let began = std::time::Instant::now();
    let led = b.lead(2);
    let read = began.elapsed();
    assert_eq!(led.restored.state.records.len(), OBJECTS as usize);
    println!("copied in {copied:?}, read again in {read:?}");
}

fn frames(ops: &[Op]) -> Vec<Vec<u8>> {
    let mut out = Outgoing::new(7);
    ops.iter().for_each(|op| out.push(op));
    std::iter::from_fn(|| out.next()).collect()
}

#[test]
fn what_was_said_is_heard_however_it_was_cut_into_frames() {
    let ops =
        [Op::Heeded(7), Op::Prints((0..400_000).collect()), Op::Prints(vec![1, 2, 3]), Op::Ack(9)];
    let frames = frames(&ops);
    assert!(frames.len() >= 4 && frames.iter().all(|frame| frame.len() <= LONGEST_FRAME));
    let mut incoming = Incoming::default();
    let mut heard = Vec::new();
    assert_eq!(incoming.take(&frames[1]), Ok(Took::Stray), "it did not begin");
    for (index, frame) in frames.iter().enumerate() {
        let took = if index == 0 { Took::Began } else { Took::On };
        assert_eq!(incoming.take(frame), Ok(took));
        while let Some(op) = incoming.next().unwrap() {
            heard.push(op);
        }
    }
    assert_eq!(heard, ops.map(Heard::Op));
    let mut other = Outgoing::new(8);
    other.push(&Op::Ack(1));
    let _ = other.next();
    other.push(&Op::Ack(1));
    assert_eq!(incoming.take(&other.next().unwrap()), Ok(Took::Stray), "of another channel");
    assert!(incoming.take(&frames[1]).is_err(), "a gap");
}

#[test]
fn what_a_later_version_says_is_passed_over() {
    let mut octets = Vec::new();
    Op::Heeded(7).append(&mut octets);
    let unknown = [200, 3, 0, 0, 0, 1, 2, 3];
    octets.splice(0..0, unknown);
    // One of a known kind that is none.
    octets.extend_from_slice(&[1, 1, 0, 0, 0, 0xff]);
    let mut out = Outgoing::new(1);
    out.push_octets(&octets);
    let mut incoming = Incoming::default();
    incoming.take(&out.next().unwrap()).unwrap();
    let heard: Vec<_> = std::iter::from_fn(|| incoming.next().unwrap()).collect();
    assert_eq!(heard, [Heard::Unknown, Heard::Op(Op::Heeded(7)), Heard::Unreadable]);
}

proptest! {
    #[test]
    fn no_frame_is_too_hostile(
        frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..8),
        payload in prop::collection::vec(any::<u8>(), 0..300),
        kind: u8,
    ) {
        let mut incoming = Incoming::default();
        let mut all = frames;
        let mut out = Outgoing::new(3);
        let mut op = vec![kind];
        op.extend_from_slice(&(payload.len() as u32).to_le_bytes());
        op.extend_from_slice(&payload);
        out.push_octets(&op);
        all.extend(out.next());
        for frame in all {
            if incoming.take(&frame).is_err() {
                break;
            }
            while let Ok(Some(heard)) = incoming.next() {
                if let Heard::Op(op) = heard {
                    let _ = super::convert::item(op, &clock());
                }
            }
        }
    }
}

#[test]
fn a_mate_that_says_anything_in_any_order_makes_nothing_panic() {
    let at = tempfile::tempdir().unwrap();
    let node = Node::start(at.path());
    let mut chance = Chance(11);
    let mut octets = Vec::new();
    for round in 0..40u64 {
        if round % 2 == 0 {
            drop(node.lead(round))
        } else {
            node.follow(round)
        }
        let version = evenkeel_core::pair::version::Version { major: 1, minor: 9, patch: 0 };
        let up = ToReplica::Up { mate_name: "mate".to_owned(), mate_version: version };
        node.to.send(up).unwrap();
        let mut out = Outgoing::new(round as u32);
        for _ in 0..200 {
            octets.clear();
            let kind = u8::try_from(chance.below(64)).unwrap();
            let payload: Vec<u8> = (0..chance.below(24)).map(|_| chance.below(4) as u8).collect();
            octets.push(kind);
            octets.extend_from_slice(&(payload.len() as u32).to_le_bytes());
            octets.extend_from_slice(&payload);
            out.push_octets(&octets);
        }
        while let Some(frame) = out.next() {
            node.to.send(ToReplica::Frame(frame)).unwrap();
        }
        node.to.send(ToReplica::Down).unwrap();
    }
    // It is there and does what it should.
    assert!(wait(node.handle.lead(Some(term(99)))).is_ok());
    assert!(node.handle.stats().received_ops > 100, "{:?}", node.handle.stats());
}
