//! PEER-8: what the batches can carry is accepted, all else is refused, whatever the order.

use std::time::Duration;

use evenkeel_core::peers::{
    budget::check,
    settings::{Batches, Group, Settings},
};
use proptest::prelude::*;

use crate::common::{
    peer_world::{PeerWorld, batch, group, ms, s},
    sim::cases,
};

/// One group of so many peers.
fn one(limit: u32, interval: Duration, timeout: Duration, batches: Batches) -> Settings {
    let all = Group { limit, ..group("all", interval, timeout, 3) };
    Settings { batches, groups: vec![all] }
}

/// Sizes and milliseconds: heartbeats, retransmissions.
fn batches(size: u32, interval: u64, again: u32, again_interval: u64) -> Batches {
    Batches {
        heartbeat: batch(size, ms(interval)),
        retransmission: batch(again, ms(again_interval)),
    }
}

#[test]
fn both_sums_decide() {
    let shipped = Batches::DEFAULT;
    // Peers, interval, timeout, batches, accepted; with the sum that decides.
    let rows = [
        (256, s(60), s(3), shipped, true),
        // 233 batches take 46.6 s, and 24 take 2.4 s.
        (128_000, s(60), s(3), shipped, true),
        (128_000, ms(59_915), s(3), shipped, true),
        (128_000, ms(59_914), s(3), shipped, false),
        (128_000, s(59), s(3), shipped, false),
        (128_000, s(60), ms(2_999), shipped, false),
        (128_000, s(60), ms(100), shipped, false),
        (128_000, s(1), s(3), shipped, false),
        (128_000, s(3_600), s(20), shipped, true),
        (128_150, s(60), s(3), shipped, true),
        (128_151, s(60), s(3), shipped, false),
        (132_000, s(62), s(3), shipped, true),
        (132_001, s(62), s(3), shipped, false),
        // Fewer peers may be asked more often: 19 batches take 3.8 s.
        (10_000, s(5), s(3), shipped, true),
        (10_000, ms(4_886), s(3), shipped, true),
        (10_000, ms(4_885), s(3), shipped, false),
        // 7 s of 9 s are 35 batches, to the last peer.
        (19_250, s(9), s(3), shipped, true),
        (19_251, s(9), s(3), shipped, false),
        (1_650, s(1), s(3), shipped, true),
        (1_651, s(1), s(3), shipped, false),
        // One batch of retransmissions takes 100 ms, which are four fifths of 125 ms.
        (256, s(60), ms(125), shipped, true),
        (256, s(60), ms(124), shipped, false),
        (5_500, s(60), ms(125), shipped, true),
        (5_501, s(60), ms(125), shipped, false),
        (1, s(1), ms(100), batches(1, 200, 1, 80), true),
        (1, s(1), ms(100), batches(1, 200, 1, 81), false),
        // Larger batches, or shorter intervals of them.
        (128_000, s(10), s(3), batches(5_500, 200, 550, 100), true),
        (128_000, s(1), s(3), batches(42_667, 250, 550, 100), true),
        (128_000, s(1), s(3), batches(42_666, 250, 550, 100), false),
        (128_000, s(1), s(3), batches(128_000, 777, 550, 100), true),
        (128_000, s(1), s(3), batches(128_000, 778, 550, 100), false),
        (128_000, s(1), s(1), batches(128_000, 700, 1_600, 100), true),
        (128_000, s(1), s(1), batches(128_000, 700, 1_599, 100), false),
        (200_000, s(60), s(3), batches(1_100, 200, 550, 100), false),
        (200_000, s(60), s(3), batches(550, 100, 550, 50), true),
        (1_000_000, s(60), s(3), batches(550, 25, 550, 10), true),
        (u32::MAX, s(3_600), s(20), batches(200_000, 1, 200_000, 1), true),
        (u32::MAX, s(1), s(20), batches(200_000, 1, 200_000, 1), false),
        (u32::MAX, s(3_600), s(20), batches(1, 1_000, 1, 1_000), false),
        // Nothing can be asked in an interval that is as short as that of the batches.
        (1, s(1), s(3), batches(1, 1_000, 1, 100), false),
        (0, s(1), s(3), shipped, true),
    ];
    for (peers, interval, timeout, batches, accepted) in rows {
        let found = check(&one(peers, interval, timeout, batches));
        let row = format!("{peers} peers, {interval:?}, {timeout:?}, {batches:?}");
        assert_eq!(found.is_ok(), accepted, "{row}: {found:?}");
    }
    assert_eq!(check(&Settings::default()), Ok(()));
}

#[test]
fn the_message_has_the_arithmetic() {
    for (interval, timeout, sum, room) in [
        // 233 × 200 ms in seven ninths of 58.5 s; 24 × 100 ms in four fifths of 2.5 s.
        (ms(58_500), s(3), "46.6", "45.5"),
        (s(60), ms(2_500), "2.4", "2"),
    ] {
        let overrun = check(&one(128_000, interval, timeout, Batches::DEFAULT)).unwrap_err();
        assert_eq!(overrun.group, 0);
        let digits = overrun.message.replace([',', ' ', '\''], "");
        assert!(digits.contains("128000"), "{overrun:?}");
        assert!(overrun.message.contains(sum) && overrun.message.contains(room), "{overrun:?}");
        assert!(!overrun.help.is_empty());
    }
}

fn some_group() -> impl Strategy<Value = Group> {
    let intervals = prop_oneof![1_000..5_000u64, 1_000..120_000u64];
    (1..400u32, intervals, 100..4_000u64).prop_map(|(limit, interval, timeout)| Group {
        limit,
        ..group("one", ms(interval), ms(timeout), 3)
    })
}

fn some_settings() -> impl Strategy<Value = Settings> {
    let groups = proptest::collection::vec(some_group(), 1..4);
    let sizes = (1..60u32, 5..400u64, 1..20u32, 5..200u64);
    (groups, sizes).prop_map(|(mut groups, (size, interval, again, again_interval))| {
        for (place, group) in groups.iter_mut().enumerate() {
            group.name = format!("g{place}");
        }
        Settings { batches: batches(size, interval, again, again_interval), groups }
    })
}

proptest! {
    #![proptest_config(cases(400))]

    /// The order of the groups makes no difference, and who asks for less is not refused.
    #[test]
    fn order_makes_no_difference_and_less_is_not_refused(settings in some_settings(), turn in 0..3usize) {
        let accepted = check(&settings).is_ok();
        let mut turned = settings.clone();
        let by = turn % turned.groups.len();
        turned.groups.rotate_left(by);
        prop_assert_eq!(check(&turned).is_ok(), accepted);
        turned.groups.reverse();
        prop_assert_eq!(check(&turned).is_ok(), accepted);
        if let Err(overrun) = check(&settings) {
            prop_assert!(usize::from(overrun.group) < settings.groups.len());
        } else {
            let mut less = settings.clone();
            less.groups[by].limit /= 2;
            prop_assert_eq!(check(&less), Ok(()), "half as many");
            let mut less = settings.clone();
            less.groups[by].interval *= 2;
            less.groups[by].timeout *= 2;
            prop_assert_eq!(check(&less), Ok(()), "half as often");
            let mut less = settings.clone();
            less.batches.heartbeat.interval /= 2;
            less.batches.retransmission.interval /= 2;
            prop_assert_eq!(check(&less), Ok(()), "faster batches");
            less.groups.remove(by);
            prop_assert_eq!(check(&less), Ok(()), "a group less");
        }
    }
}

proptest! {
    #![proptest_config(cases(40))]

    /// What is accepted is kept, however the groups fill up to their limits (PEER-4, PEER-7): each
    /// peer is asked once per interval.
    #[test]
    fn what_is_accepted_is_kept(settings in some_settings(), order in any::<[u8; 3]>()) {
        prop_assume!(check(&settings).is_ok());
        let mut groups: Vec<usize> = (0..settings.groups.len()).collect();
        groups.sort_by_key(|place| order[*place]);
        let mut world = PeerWorld::new(&settings);
        let mut admitted = 0;
        for place in groups {
            let limit = settings.groups[place].limit.max(admitted);
            world.add_all(admitted..limit, place as u16);
            admitted = limit;
        }
        let longest = settings.groups.iter().map(|group| group.interval).max().unwrap();
        world.run(longest * 3);
        let end = world.now();
        for (place, sent) in (0..).zip(world.heartbeats()) {
            let interval = settings.groups[usize::from(world.peer(place).group)].interval;
            prop_assert!(!sent.is_empty(), "peer {} is asked", place);
            for (round, sent_at) in (0u32..).zip(&sent) {
                let due = sent[0] + interval * round;
                let off = sent_at.since(due).max(due.since(*sent_at));
                prop_assert!(off <= interval / 2, "peer {}, round {}: off by {:?} of {:?}", place, round, off, interval);
            }
            let rounds = sent.len() as u32;
            prop_assert!(sent[0] + interval * rounds + interval / 2 > end, "peer {}: {} rounds", place, rounds);
        }
        prop_assert!(world.told.is_empty());
        world.check();
    }
}
