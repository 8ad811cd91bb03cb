//! The spool as its callers see it: order, recovery from what a crash or a bad disk leaves, readers,
//! pruning, a disk that fails. kill -9 is in `crash.rs`.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, time::Instant};

use evenkeel_core::{
    input::Taken,
    time::{Time, WallTime},
};
use proptest::prelude::*;

use super::{
    segment::{HEADER, list, path},
    testing::{entries, now, open, restored, taken, targets, until, wait_for, work},
    *,
};

/// A directory with one closed segment of these numbers.
fn written(numbers: std::ops::RangeInclusive<u64>) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let (first, last) = (*numbers.start(), *numbers.end());
    let (spool, _) = open(dir.path());
    spool.submit(work(numbers));
    wait_for(&spool, last);
    spool.close().unwrap();
    let segment = path(dir.path(), first);
    (dir, segment)
}

fn numbers(recovered: &Recovered) -> Vec<u64> {
    entries(recovered, 0).iter().map(|taken| taken.number.unwrap()).collect()
}

#[test]
fn trap_5_what_was_said_to_be_safe_comes_back_in_order_over_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let mut last = 0;
    for run in 0..4 {
        let (spool, recovered) = open(dir.path());
        assert_eq!((recovered.last, recovered.cut), (last, 0));
        let all: Vec<_> = (1..=last).map(restored).collect();
        assert_eq!(entries(&recovered, 0), all);
        assert_eq!(entries(&recovered, last / 2), all[last as usize / 2..]);
        assert_eq!(*spool.safe().borrow(), last);
        for _ in 0..3 {
            spool.submit(work(last + 1..=last + 50));
            last += 50;
        }
        if run % 2 == 0 {
            spool.close().unwrap();
        }
    }
}

#[test]
fn a_run_without_entries_keeps_the_numbers_going() {
    let (dir, _) = written(1..=10);
    for _ in 0..3 {
        let (spool, recovered) = open(dir.path());
        assert_eq!(recovered.last, 10);
        spool.set_targets(Vec::new());
        spool.checkpointed(10);
        spool.close().unwrap();
    }
    assert_eq!(list(dir.path()).unwrap(), [1], "the newest is never deleted");
}

#[test]
fn others_can_not_read_it() {
    let (dir, segment) = written(1..=1);
    let sub = dir.path().join("spool");
    drop(open(&sub));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&sub) & !0o750, mode(&segment) & !0o640), (0, 0));
}

#[test]
fn an_entry_torn_at_any_octet_costs_itself_alone() {
    let (dir, segment) = written(1..=4);
    let whole = fs::read(&segment).unwrap();
    let start = whole.len() - work(4..=4).entries.len();
    for end in start..whole.len() {
        for tail in [0, 100, 5_000] {
            let mut torn = whole[..end].to_vec();
            torn.resize(end + tail, 0);
            // Where all that is torn off was zeros, zeros make it whole.
            if torn.starts_with(&whole) {
                continue;
            }
            fs::write(&segment, &torn).unwrap();
            let (spool, recovered) = open(dir.path());
            assert_eq!(numbers(&recovered), [1, 2, 3], "torn at {end} with {tail} zeros");
            assert_eq!((recovered.last, recovered.problems.len()), (3, 0));
            drop(spool);
            assert_eq!(fs::metadata(&segment).unwrap().len(), start as u64, "cut off");
        }
    }
}

#[test]
fn a_segment_torn_while_it_was_made_is_taken_for_empty() {
    let (dir, segment) = written(1..=4);
    let whole = fs::read(&segment).unwrap();
    let second = path(dir.path(), 5);
    for end in 0..=HEADER {
        fs::write(&second, &whole[..end]).unwrap();
        let (spool, recovered) = open(dir.path());
        assert_eq!((recovered.last, numbers(&recovered).len()), (4, 4), "torn at {end}");
        spool.submit(work(5..=6));
        spool.close().unwrap();
        drop(spool);
        assert_eq!(numbers(&open(dir.path()).1), [1, 2, 3, 4, 5, 6]);
        fs::remove_file(&second).unwrap();
    }
}

#[test]
fn a_segment_of_a_later_version_is_left_alone() {
    let (dir, segment) = written(1..=4);
    let mut octets = fs::read(&segment).unwrap();
    octets[8] = 2;
    let crc = crc32fast::hash(&octets[..60]);
    octets[60..64].copy_from_slice(&crc.to_le_bytes());
    fs::write(&segment, &octets).unwrap();
    let error = Spool::open(dir.path(), 1 << 30, AnswerSockets::default(), &now()).unwrap_err();
    assert!(error.to_string().contains("another version"), "{error}");
    assert_eq!(fs::read(&segment).unwrap(), octets);
}

#[test]
fn damage_in_the_middle_is_told_and_no_number_is_used_twice() {
    let (dir, segment) = written(1..=100);
    let mut octets = fs::read(&segment).unwrap();
    let tenth = HEADER + work(1..=9).entries.len();
    octets[tenth + 20] ^= 1;
    fs::write(&segment, &octets).unwrap();
    let (spool, recovered) = open(dir.path());
    assert_eq!((numbers(&recovered).len(), recovered.last), (9, 100));
    assert!(recovered.problems[0].contains("after number 9"), "{:?}", recovered.problems);
    assert_eq!(fs::read(segment.with_extension("damaged")).unwrap(), octets);
    spool.submit(work(101..=101));
    spool.close().unwrap();
    drop(spool);
    assert_eq!(numbers(&open(dir.path()).1).last(), Some(&101));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the disk does to the octets: no panic, and no entry that was not written.
    #[test]
    fn damage_never_makes_a_wrong_entry(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
        cut in any::<prop::sample::Index>(),
        zeros in 0..10_000_usize,
        shift in 0..3_usize,
    ) {
        let (dir, segment) = written(1..=30);
        let mut octets = fs::read(&segment).unwrap();
        for (place, value) in changes {
            let place = place.index(octets.len());
            octets[place] = value;
        }
        if shift > 0 {
            let from = cut.index(octets.len());
            octets.drain(from..(from + shift).min(octets.len()));
        }
        octets.resize(octets.len() + zeros, 0);
        fs::write(&segment, &octets).unwrap();
        let opened = Spool::open(dir.path(), 1 << 30, AnswerSockets::default(), &now());
        // The version may have been changed, though that takes a crc by chance.
        if let Ok((spool, recovered)) = opened {
            for taken in entries(&recovered, 0) {
                prop_assert_eq!(&taken, &restored(taken.number.unwrap()));
            }
            prop_assert!(recovered.last <= 30);
            let mut reader = spool.reader();
            let (found, _) = reader.after(0, 100, "a").unwrap();
            for (number, taken) in found {
                prop_assert_eq!(taken, restored(number));
            }
            dump(dir.path(), 0, &mut Vec::new()).unwrap();
        }
    }

    /// A reader that goes on, goes back or begins anew sees what a list would show.
    #[test]
    fn a_reader_sees_what_is_safe_and_for_its_target(
        steps in proptest::collection::vec((0..400_u64, 1..60_usize, any::<bool>()), 1..30),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let (spool, _) = open(dir.path());
        let mut reader = spool.reader();
        let (mut last, mut cursor) = (0, 0);
        for (number, limit, on) in steps {
            spool.submit(work(last + 1..=last + 17));
            last += 17;
            wait_for(&spool, last);
            let after = if on { cursor } else { number };
            let (found, looked_at) = reader.after(after, limit, "b").unwrap();
            let expected: Vec<u64> =
                (after + 1..=last).filter(|n| n % 3 == 0).take(limit).collect();
            prop_assert_eq!(found.iter().map(|(n, _)| *n).collect::<Vec<_>>(), expected);
            prop_assert!(found.iter().all(|(n, taken)| *taken == restored(*n)));
            let end = found.last().filter(|_| found.len() == limit).map_or(last.max(after), |f| f.0);
            prop_assert_eq!(looked_at, end);
            cursor = looked_at;
        }
    }
}

#[test]
fn a_reader_follows_over_segments_and_does_not_see_what_is_not_safe() {
    let dir = tempfile::tempdir().unwrap();
    for first in [1, 101, 201] {
        let (spool, _) = open(dir.path());
        spool.submit(work(first..=first + 99));
        wait_for(&spool, first + 99);
    }
    let (spool, _) = open(dir.path());
    let mut reader = spool.reader();
    let read = |reader: &mut SpoolReader, after| {
        let (found, at) = reader.after(after, 60, "a").unwrap();
        (found.first().map(|f| f.0), found.last().map(|f| f.0), at)
    };
    assert_eq!(read(&mut reader, 0), (Some(2), Some(120), 120));
    assert_eq!(read(&mut reader, 120), (Some(122), Some(240), 240));
    assert_eq!(read(&mut reader, 240), (Some(242), Some(300), 300));
    assert_eq!(read(&mut reader, 300), (None, None, 300));
    assert_eq!(read(&mut reader, 90), (Some(92), Some(210), 210));
    // Behind what is safe there may be octets, but they are nobody's yet.
    let third = path(dir.path(), 201);
    let mut octets = fs::read(&third).unwrap();
    octets.extend(work(301..=302).entries);
    fs::write(&third, octets).unwrap();
    assert_eq!(read(&mut reader, 300), (None, None, 300));
}

#[test]
fn times_of_another_boot_are_reckoned_by_the_wall_clock() {
    let (dir, _) = written(1..=3);
    let mut now = now();
    now.boot_id = "another boot".to_owned();
    now.moment.mono = Time::from_secs(5_000);
    now.moment.wall = WallTime(1_700_000_060_002); // a minute after the second
    let (_spool, recovered) =
        Spool::open(dir.path(), 1 << 30, AnswerSockets::default(), &now).unwrap();
    let received: Vec<_> = entries(&recovered, 0).iter().map(|taken| taken.received).collect();
    let base = 4_940_000;
    assert_eq!(received, [base - 1, base, base + 1].map(Time::from_millis));
    // A wall clock that was set back puts nothing into the future.
    now.moment.wall = WallTime(0);
    let (_, segments) = recovery::recover(dir.path(), &now).unwrap();
    assert_eq!(segments, [1]);
    let (recovered, _) = recovery::recover(dir.path(), &now).unwrap();
    assert!(entries(&recovered, 0).iter().all(|taken| taken.received == now.moment.mono));
}

#[test]
fn segments_go_when_records_and_targets_have_passed_them() {
    let dir = tempfile::tempdir().unwrap();
    for first in [1, 101, 201] {
        let (spool, _) = open(dir.path());
        spool.submit(work(first..=first + 99));
        wait_for(&spool, first + 99);
    }
    let (spool, _) = open(dir.path());
    let left = || list(dir.path()).unwrap();
    let is = |firsts: &[u64]| {
        until(|| left() == firsts && spool.stats().segments == firsts.len() as u64);
    };
    spool.checkpointed(250);
    spool.set_targets(vec![("a".to_owned(), 99), ("b".to_owned(), 300)]);
    spool.passed("unknown", 1);
    spool.submit(work(301..=301));
    wait_for(&spool, 301);
    assert_eq!(left(), [1, 101, 201, 301], "a has not passed 100");
    spool.passed("a", 100);
    is(&[101, 201, 301]);
    spool.passed("a", 300);
    is(&[201, 301]);
    spool.checkpointed(300);
    is(&[301]);
    assert_eq!(spool.stats().lost.len(), 0);
    // Who was away and comes back finds what is left.
    let (found, at) = spool.reader().after(0, 10, "a").unwrap();
    assert_eq!((found.len(), at), (0, 301));
}

#[test]
fn a_spool_that_is_too_large_loses_the_oldest_and_says_how_many() {
    let dir = tempfile::tempdir().unwrap();
    let most = 4 << 20;
    let (spool, _) = Spool::open(dir.path(), most, AnswerSockets::default(), &now()).unwrap();
    spool.set_targets(vec![("a".to_owned(), 10), ("b".to_owned(), u64::MAX)]);
    let mut last = 0;
    while spool.stats().lost.is_empty() {
        spool.submit(work(last + 1..=last + 500));
        last += 500;
        wait_for(&spool, last);
        spool.checkpointed(last);
        assert!(spool.stats().size <= most + (2 << 20));
        assert!(last < 200_000);
    }
    let first = *list(dir.path()).unwrap().first().unwrap();
    let gone = (11..first).filter(|number| number % 2 == 0).count() as u64;
    let lost: Vec<_> = spool.stats().lost.into_iter().collect();
    assert_eq!(lost, [("a".to_owned(), gone)]);
}

/// A writer without its thread, on a directory that can be made to fail.
#[test]
fn trap_5_on_a_disk_that_fails_nothing_is_answered_and_nothing_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("spool");
    let shared = Arc::new(Shared::default());
    let (sender, safe) = watch::channel(0);
    let mut writer = Writer::new(
        missing.clone(),
        now().boot_id,
        DEFAULT_MAX_SIZE,
        AnswerSockets::default(),
        sender,
        Arc::clone(&shared),
        0,
    );
    let submit = |writer: &mut Writer, work: Work| {
        shared.waiting_bytes.fetch_add(work.cost(), Ordering::Relaxed);
        shared.waiting_answers.fetch_add(work.answers.len() as u64, Ordering::Relaxed);
        assert!(writer.take(Message::Work(work)).is_none());
    };
    let answer = |after| evenkeel_core::input::Answer {
        door: Default::default(),
        to: "127.0.0.1:9".parse().unwrap(),
        bytes: vec![1; 40],
        after: Some(after),
    };
    let start = Instant::now();
    let mut first = work(1..=10);
    first.answers = vec![answer(10)];
    submit(&mut writer, first);
    let mut failures = 0;
    for _ in 0..8 {
        let at = start + writer.retry_in(start).unwrap_or_default();
        writer.turn(at);
        failures += 1;
        assert_eq!((*safe.borrow(), shared.stats().failures), (0, failures));
        assert_eq!(shared.waiting_answers.load(Ordering::Relaxed), 1, "it is not answered");
    }
    assert!(shared.stats().failing.is_some());
    submit(&mut writer, work(11..=20));
    fs::create_dir(&missing).unwrap();
    let at = start + writer.retry_in(start).unwrap();
    writer.turn(at);
    assert_eq!((*safe.borrow(), &shared.stats().failing), (20, &None));
    assert_eq!(shared.waiting_bytes.load(Ordering::Relaxed), 0);
    assert_eq!(shared.waiting_answers.load(Ordering::Relaxed), 0);

    // Someone deletes the segment: what comes then is not written to a file that is gone.
    fs::remove_file(path(&missing, 1)).unwrap();
    submit(&mut writer, work(21..=30));
    writer.turn(at);
    assert_eq!(*safe.borrow(), 20);
    let at = at + writer.retry_in(at).unwrap();
    writer.turn(at);
    assert_eq!(*safe.borrow(), 30);
    assert_eq!(numbers(&open(&missing).1), (21..=30).collect::<Vec<_>>());

    // A number that was used is refused.
    submit(&mut writer, work(30..=31));
    writer.turn(at);
    assert_eq!(*safe.borrow(), 30);
    assert!(shared.stats().last_error.as_ref().unwrap().contains("given again"));
    assert_eq!(shared.waiting_bytes.load(Ordering::Relaxed), 0);
}

#[test]
fn the_spool_is_behind_until_what_was_submitted_is_on_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = open(dir.path());
    assert!(!spool.is_behind());
    let large = |number| {
        let mut builder = WorkBuilder::default();
        builder.push(&Taken { varbinds: vec![0; 60_000], ..taken(number) }, &[]);
        builder.take().unwrap()
    };
    let last = BEHIND / 60_000 + 100;
    let all: Vec<Work> = (1..=last).map(large).collect();
    spool.shared.waiting_bytes.fetch_add(BEHIND, Ordering::Relaxed);
    assert!(spool.is_behind());
    all.into_iter().for_each(|work| spool.submit(work));
    spool.close().unwrap();
    assert_eq!(spool.shared.waiting_bytes.load(Ordering::Relaxed), BEHIND);
    assert_eq!(*spool.safe().borrow(), last);
    assert_eq!(spool.stats().entries, last);
}

#[test]
fn only_what_has_a_number_is_spooled_for_targets_that_acknowledge() {
    let mut builder = WorkBuilder::default();
    assert!(!builder.push(&Taken { number: None, ..taken(1) }, &targets()));
    assert!(builder.take().is_none());
    assert!(builder.push(&taken(6), &targets()));
    let work = builder.take().unwrap();
    assert_eq!((work.first, work.last, work.count), (6, 6, 1));
    assert_eq!(entry::targets(&work.entries[entry::HEAD..]), ["a", "b"]);
}

#[test]
fn an_operator_can_read_it() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = open(dir.path());
    let mut builder = WorkBuilder::default();
    // sysUpTime.0 = 1, snmpTrapOID.0 = linkDown
    let varbinds = [
        &[0x30, 13, 6, 8, 0x2b, 6, 1, 2, 1, 1, 3, 0, 0x43, 1, 1][..],
        &[0x30, 23, 6, 10, 0x2b, 6, 1, 6, 3, 1, 1, 4, 1, 0, 6, 9, 0x2b, 6, 1, 6, 3, 1, 1, 5, 3],
    ]
    .concat();
    for number in 1..=2 {
        builder.push(&Taken { varbinds: varbinds.clone(), ..taken(number) }, &targets());
    }
    spool.submit(builder.take().unwrap());
    wait_for(&spool, 2);
    let mut out = Vec::new();
    dump(dir.path(), 2, &mut out).unwrap();
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "{\"number\":2,\"at\":\"2023-11-14T22:13:20.002Z\",\"source\":\"0.0.0.2:1162\",\
         \"system\":\"0.0.0.2\",\"form\":\"v2c_inform\",\"inform\":true,\
         \"trap\":\"1.3.6.1.6.3.1.1.5.3\",\"request_id\":2,\"varbind_octets\":40,\
         \"targets\":[\"a\"]}\n"
    );
    let mut out = Vec::new();
    dump(dir.path(), 1, &mut out).unwrap();
    assert!(!String::from_utf8(out.clone()).unwrap().contains("\"community\""));
    assert_eq!(out.split(|octet| *octet == b'\n').count(), 3);
}
