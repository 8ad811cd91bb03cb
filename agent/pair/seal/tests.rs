//! Two agents' seals, and a network between them that loses, alters and repeats.

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

const NORTH: Fingerprint = Fingerprint([1; 32]);
const SOUTH: Fingerprint = Fingerprint([2; 32]);

/// Both sides of a connection's secret.
fn secret(octet: u8) -> [Secret; 2] {
    [Secret::new([octet; 32], SOUTH), Secret::new([octet; 32], NORTH)]
}

/// Two agents that have no keys.
fn strangers() -> [Seals; 2] {
    [Seals::new(Slot::Zero, Vec::new()), Seals::new(Slot::One, Vec::new())]
}

fn connect(agents: &[Seals; 2], octet: u8) {
    for (agent, secret) in agents.iter().zip(secret(octet)) {
        let id = secret.id();
        agent.install(secret);
        agent.confirm(id);
    }
}

/// Two agents after a connection.
fn mates() -> [Seals; 2] {
    let agents = strangers();
    connect(&agents, 7);
    agents
}

/// The same agent, when it has started again.
fn restarted(slot: Slot, octets: &[u8]) -> Seals {
    let nth = usize::from(slot == Slot::One);
    Seals::new(slot, octets.iter().map(|octet| secret(*octet)[nth].clone()).collect())
}

fn sealed(from: &Seals, heartbeat: &[u8]) -> Vec<u8> {
    let mut datagram = Vec::new();
    assert!(from.seal(heartbeat, &mut datagram), "there is a key");
    datagram
}

/// What became of a copy of a datagram.
fn opened(at: &Seals, datagram: &[u8]) -> Option<Vec<u8>> {
    match at.open(&mut datagram.to_vec()) {
        Opened::Heartbeat(heartbeat) => Some(heartbeat.to_vec()),
        Opened::Answer(_) | Opened::Nothing => None,
    }
}

/// Hands over a greeting, and all that follows from it.
fn hand_over(greeting: Greeting, to: &Seals, from: &Seals) {
    let (mut next, mut to, mut from) = (Some(greeting), to, from);
    for _ in 0..10 {
        let Some(greeting) = next else { return };
        next = match to.open(&mut greeting.as_ref().to_vec()) {
            Opened::Answer(answer) => Some(answer),
            Opened::Nothing => None,
            Opened::Heartbeat(_) => panic!("a greeting is no heartbeat"),
        };
        (to, from) = (from, to);
    }
    panic!("they greet each other without end");
}

fn counts(agent: &Seals) -> Vec<(&'static str, u64)> {
    let each = Dropped::ALL.map(|why| (why.name(), agent.dropped(why)));
    each.into_iter().filter(|(_, number)| *number > 0).collect()
}

#[test]
fn pair_8_a_heartbeat_arrives_once_in_either_direction() {
    let [zero, one] = mates();
    for (from, to) in [(&zero, &one), (&one, &zero)] {
        let datagram = sealed(from, b"alive");
        assert_eq!(datagram.len(), 5 + OVERHEAD);
        assert_eq!(opened(to, &datagram).as_deref(), Some(&b"alive"[..]));
        assert_eq!(opened(to, &datagram), None);
        assert_eq!(counts(to), [("replayed", 1)]);
    }
    // What comes back from a mirror is not the mate's.
    assert_eq!(opened(&zero, &sealed(&zero, b"alive")), None);
    assert_eq!(counts(&zero), [("altered", 1), ("replayed", 1)]);
}

#[test]
fn pair_8_late_datagrams_are_taken_and_old_ones_are_not() {
    let [zero, one] = mates();
    let datagrams: Vec<_> = (0..1500u16).map(|nth| sealed(&zero, &nth.to_be_bytes())).collect();
    for nth in [1499u16, 476, 1000, 1498] {
        assert_eq!(opened(&one, &datagrams[usize::from(nth)]), Some(nth.to_be_bytes().to_vec()));
    }
    for nth in [475, 0, 1000] {
        assert_eq!(opened(&one, &datagrams[nth]), None);
    }
    assert_eq!(counts(&one), [("replayed", 3)]);
}

#[test]
fn pair_8_an_altered_datagram_is_dropped_whichever_bit_it_is() {
    let [zero, one] = mates();
    let datagram = sealed(&zero, b"alive");
    for bit in 0..datagram.len() * 8 {
        let mut altered = datagram.clone();
        altered[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(opened(&one, &altered), None, "bit {bit}");
    }
    for length in 0..datagram.len() {
        assert_eq!(opened(&one, &datagram[..length]), None, "{length} octets");
    }
    assert_eq!(opened(&one, &[&datagram[..], &[0]].concat()), None);
    // None of them has moved the window.
    assert!(opened(&one, &datagram).is_some());
    assert_eq!(one.dropped(Dropped::Replayed), 0);
}

#[test]
fn pair_8_strangers_are_counted_by_what_they_are() {
    let [zero, one] = mates();
    let [other, _] = strangers();
    connect(&[other.clone(), strangers()[1].clone()], 8);
    for datagram in [&b""[..], b"EKP", b"hello, is there anyone?", &[0; LONGEST + 1]] {
        assert_eq!(opened(&one, datagram), None);
    }
    assert_eq!(opened(&one, &sealed(&other, b"alive")), None);
    assert_eq!(
        counts(&one),
        [("too_short", 2), ("too_long", 1), ("stranger", 1), ("unknown_key", 1)]
    );
    let longest = vec![0; LONGEST_HEARTBEAT];
    assert_eq!(sealed(&zero, &longest).len(), LONGEST);
    assert!(!zero.seal(&[&longest[..], &[0]].concat(), &mut Vec::new()));
}

#[test]
fn heartbeats_go_on_while_the_state_channel_is_made_anew() {
    let [zero, one] = mates();
    let late = sealed(&zero, b"late");
    let [of_zero, of_one] = secret(8);
    let id = of_zero.id();
    // Slot 0 is first. It does not use the new keys before slot 1 has them, and takes both.
    zero.install(of_zero);
    assert!(opened(&one, &sealed(&zero, b"old")).is_some());
    one.install(of_one);
    zero.confirm(id);
    assert!(opened(&one, &sealed(&zero, b"new")).is_some());
    // Slot 1 has not heard that slot 0 is ready, but has heard from it under the new keys.
    assert!(opened(&zero, &sealed(&one, b"new")).is_some());
    assert!(opened(&one, &late).is_some(), "the keys before are good for what is under way");
    connect(&[zero, one.clone()], 9);
    assert_eq!(opened(&one, &late), None);
    assert_eq!(counts(&one), [("unknown_key", 1)]);
}

#[test]
fn connections_that_break_in_the_handshake_cost_no_keys() {
    let [zero, one] = mates();
    for octet in 20..40 {
        let [secret, _] = secret(octet);
        zero.install(secret);
    }
    assert!(opened(&one, &sealed(&zero, b"alive")).is_some());
    assert!(opened(&zero, &sealed(&one, b"alive")).is_some());
}

#[test]
fn pair_3_an_agent_that_starts_again_is_heard_without_the_state_channel() {
    let [zero, one] = mates();
    let before = sealed(&one, b"before");
    let one = {
        drop(one);
        restarted(Slot::One, &[7])
    };
    assert!(!one.has_key());
    assert_eq!(opened(&one, &sealed(&zero, b"alive")), None);
    let greeting = one.round().expect("it greets at once");
    hand_over(greeting, &zero, &one);
    assert!(opened(&zero, &sealed(&one, b"alive")).is_some());
    assert!(opened(&one, &sealed(&zero, b"alive")).is_some());
    assert_eq!((zero.round(), one.round()), (None, None), "who is heard is not greeted");
    // What was recorded before is still good where it was not received, and only once.
    assert!(opened(&zero, &before).is_some());
    assert_eq!(opened(&zero, &before), None);
}

#[test]
fn pair_8_nothing_that_was_recorded_is_good_after_a_start() {
    let [zero, one] = mates();
    let one = {
        let greeting = restarted(Slot::One, &[7]).round().unwrap();
        // The recorder has a greeting of a run that is over...
        let Opened::Answer(answer) = zero.open(&mut greeting.as_ref().to_vec()) else { panic!() };
        drop(one);
        let one = restarted(Slot::One, &[7]);
        hand_over(one.round().unwrap(), &zero, &one);
        let recorded = [greeting, answer];
        let sealed: Vec<_> = (0..10).map(|_| sealed(&zero, b"alive")).collect();
        assert!(sealed.iter().all(|datagram| opened(&one, datagram).is_some()));
        // ... and all of the one that follows.
        let last = restarted(Slot::One, &[7]);
        hand_over(last.round().unwrap(), &zero, &last);
        for greeting in recorded {
            hand_over(greeting, &zero, &last);
            hand_over(greeting, &last, &zero);
        }
        assert!(sealed.iter().all(|datagram| opened(&last, datagram).is_none()));
        last
    };
    assert!(opened(&one, &sealed(&zero, b"alive")).is_some());
    assert!(opened(&zero, &sealed(&one, b"alive")).is_some());
}

#[test]
fn either_secret_will_do_if_one_agent_was_stopped_before_it_had_the_last() {
    let [zero, one] = [restarted(Slot::Zero, &[8, 7]), restarted(Slot::One, &[7, 6])];
    for _ in 0..2 {
        let greeting = zero.round().unwrap();
        hand_over(greeting, &one, &zero);
    }
    assert!(opened(&zero, &sealed(&one, b"alive")).is_some());
    assert!(opened(&one, &sealed(&zero, b"alive")).is_some());
}

#[test]
fn without_a_secret_nobody_is_greeted() {
    let [zero, _] = strangers();
    assert_eq!(zero.round(), None);
    assert!(!zero.seal(b"alive", &mut Vec::new()));
}

#[test]
fn greetings_that_are_played_again_are_answered_a_few_times_a_round() {
    let [zero, _] = mates();
    let greeting = restarted(Slot::One, &[7]).round().unwrap();
    let answers = (0..100)
        .filter(|_| matches!(zero.open(&mut greeting.as_ref().to_vec()), Opened::Answer(_)))
        .count();
    assert_eq!(answers, 16);
    assert_eq!(counts(&zero), [("too_many_greetings", 84)]);
    zero.round();
    assert!(matches!(zero.open(&mut greeting.as_ref().to_vec()), Opened::Answer(_)));
}

#[test]
fn another_mate_is_another_mate() {
    let [zero, one] = mates();
    let datagram = sealed(&one, b"alive");
    zero.trust(Some(Fingerprint([3; 32])));
    assert_eq!(opened(&zero, &datagram), None);
    assert!(!zero.has_key());
    assert_eq!(zero.round(), None);
}

/// What chance may do to two agents.
#[derive(Clone, Debug)]
enum Step {
    /// One of them has a round, and its datagrams go into the network.
    Round(bool),
    /// One of what was ever sent arrives, perhaps again.
    Arrive(bool, prop::sample::Index),
    /// One of them starts again, with what was on its disk.
    Restart(bool),
    /// They are connected.
    Connect,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => any::<bool>().prop_map(Step::Round),
        8 => any::<(bool, prop::sample::Index)>().prop_map(|(at, which)| Step::Arrive(at, which)),
        1 => any::<bool>().prop_map(Step::Restart),
        1 => Just(Step::Connect),
    ]
}

proptest! {
    #[test]
    fn pair_8_no_datagram_makes_it_panic(mut octets in prop::collection::vec(any::<u8>(), 0..1300)) {
        let [zero, one] = mates();
        prop_assert_eq!(zero.open(&mut octets), Opened::Nothing);
        // The same behind a header that is known.
        for good in [sealed(&one, b""), restarted(Slot::One, &[7]).round().unwrap().as_ref().to_vec()] {
            let mut datagram = [&good[..12], &octets].concat();
            prop_assert_eq!(zero.open(&mut datagram), Opened::Nothing);
        }
    }

    // No counter comes twice under a key, no heartbeat is taken twice, and when the network is well
    // again, both hear each other.
    #[test]
    fn pair_8_whatever_is_lost_or_played_again(steps in prop::collection::vec(step(), 1..200)) {
        let mut agents = mates();
        let mut disk = [vec![7], vec![7]];
        let mut next = 8;
        let mut sent: [Vec<Vec<u8>>; 2] = Default::default();
        let mut nonces = HashSet::new();
        let mut taken = HashSet::new();
        let mut number = 0u32;
        for step in steps {
            match step {
                Step::Round(one) => {
                    let agent = &agents[usize::from(one)];
                    let sent = &mut sent[usize::from(one)];
                    sent.extend(agent.round().map(|greeting| greeting.as_ref().to_vec()));
                    let mut datagram = Vec::new();
                    number += 1;
                    if agent.seal(&number.to_be_bytes(), &mut datagram) {
                        prop_assert!(nonces.insert((one, datagram[4..20].to_vec())));
                        sent.push(datagram);
                    }
                }
                Step::Arrive(one, which) => {
                    let other = usize::from(!one);
                    if sent[other].is_empty() {
                        continue;
                    }
                    let mut datagram = which.get(&sent[other]).clone();
                    match agents[usize::from(one)].open(&mut datagram) {
                        Opened::Heartbeat(heartbeat) => {
                            prop_assert!(taken.insert(heartbeat.to_vec()));
                        }
                        Opened::Answer(answer) => {
                            sent[usize::from(one)].push(answer.as_ref().to_vec());
                        }
                        Opened::Nothing => {}
                    }
                }
                Step::Restart(one) => {
                    let slot = if one { Slot::One } else { Slot::Zero };
                    agents[usize::from(one)] = restarted(slot, &disk[usize::from(one)]);
                }
                Step::Connect => {
                    connect(&agents, next);
                    for disk in &mut disk {
                        disk.insert(0, next);
                        disk.truncate(SECRETS);
                    }
                    next = next.wrapping_add(1);
                }
            }
        }
        for _ in 0..2 * SECRETS + 2 {
            for (from, to) in [(0, 1), (1, 0)] {
                let mut datagram = Vec::new();
                if agents[from].seal(b"well", &mut datagram) {
                    opened(&agents[to], &datagram);
                }
                if let Some(greeting) = agents[from].round() {
                    hand_over(greeting, &agents[to], &agents[from]);
                }
            }
        }
        for (from, to) in [(0, 1), (1, 0)] {
            prop_assert!(opened(&agents[to], &sealed(&agents[from], b"well")).is_some());
        }
    }
}
