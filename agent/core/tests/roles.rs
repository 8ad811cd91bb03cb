//! What the roles of a pair mean for the core (PAIR-1, PAIR-3, PAIR-12, PAIR-13, PAIR-18): a takeover
//! at any moment, held against one agent that never fails.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use evenkeel_core::{
    alarm::{AlarmEvent, AlarmId, ClearReason, Kind, Mate, Object, System},
    input::{Datagram, Door, Ear, Event, Input},
    settings::Settings,
    shadow::{Printer, Shadow, Unconfirmed},
    state::State,
    time::Time,
    trap::Form,
};
use proptest::{collection::vec, prelude::*};

use crate::common::{
    ber::{Message, if_entry, number, varbind},
    sim::{Sim, at, cases, open_settings},
};

const KEY: u64 = 42;

/// One of a pair.
fn paired(name: &str, mate: &str) -> Settings {
    let mate = Mate { name: mate.to_owned(), address: [192, 0, 2, 9].into() };
    Settings { agent: name.to_owned(), mate: Some(mate), ..open_settings() }
}

/// One that is primary, from this state on.
fn primary(name: &str, mate: &str, state: State, now: Time) -> Sim {
    let mut sim = Sim::new(paired(name, mate));
    adopt(&mut sim, state, Duration::ZERO, now);
    sim
}

fn adopt(sim: &mut Sim, state: State, deaf: Duration, now: Time) {
    sim.feed(&Input::Adopt { state: Box::new(state), last_number: 0, deaf, now });
}

/// linkDown of an interface, the `serial`th trap of its device.
fn link_down(if_index: u32, serial: u32) -> Vec<u8> {
    message(if_index, serial).encode()
}

fn message(if_index: u32, serial: u32) -> Message {
    let mut message = Message::new(Form::V2c, 3);
    message.request_id = i64::from(serial);
    message.uptime = 100_000 + i64::from(serial);
    message.varbinds = vec![varbind(&if_entry(1, if_index), number(2, if_index.into()))];
    message
}

const DEVICE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

fn alarms<'a>(events: &'a [Event]) -> Vec<&'a AlarmEvent> {
    let of = |event: &'a Event| match event {
        Event::Alarm(alarm) => Some(&**alarm),
        _ => None,
    };
    events.iter().filter_map(of).collect()
}

fn interface(if_index: u32) -> Object {
    Object::Interface { system: System(DEVICE), if_index }
}

fn overload(sim: &mut Sim, secs: u64, limited: u64) {
    sim.feed(&Input::Heard { ear: Ear::Traps, up_to: at(secs * 1000), lost: 0, limited });
}

#[test]
fn pair_1_a_standby_judges_its_own_host_and_nothing_else() {
    let mut standby = Sim::new(paired("b", "a"));
    assert!(standby.agent.is_following());
    for serial in 1..=4 {
        standby.datagram(DEVICE, at(u64::from(serial) * 1000), &link_down(3, serial));
    }
    overload(&mut standby, 5, 7);
    let told = alarms(&standby.events);
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].alarm.kind, Kind::Overload);
    assert_eq!(told[0].alarm.agent.as_deref(), Some("b"));
    assert!(told[0].alarm.text.starts_with("agent b is overloaded"), "{}", told[0].alarm.text);
    assert_eq!(standby.agent.alarms().local().count(), 1);
}

#[test]
fn pair_1_the_primary_tells_the_alarms_of_both_hosts() {
    let mut standby = Sim::new(paired("b", "a"));
    let mut primary = primary("a", "b", State::default(), at(0));
    overload(&mut standby, 5, 7);
    overload(&mut primary, 5, 7);
    let of_standby = alarms(&standby.events)[0].clone();
    let tell = |primary: &mut Sim, event: &AlarmEvent| {
        let event = Box::new(event.clone());
        primary.feed(&Input::MateAlarm { event, now: at(6000) });
    };
    // At least once.
    tell(&mut primary, &of_standby);
    tell(&mut primary, &of_standby);
    let told = alarms(&primary.events);
    assert_eq!(told.len(), 2, "each host's once");
    assert_eq!(told[1].alarm, of_standby.alarm, "with the name and the identity that it has there");
    assert_ne!(told[0].alarm.id, told[1].alarm.id);
    assert_eq!(primary.agent.alarms().by_kind()[Kind::Overload as usize], 2);
    assert_eq!(primary.agent.alarms().all().count(), 2);
    // All that the mate has: nothing any more.
    primary.feed(&Input::MateAlarms { alarms: vec![of_standby.alarm.clone()], now: at(7000) });
    assert_eq!(alarms(&primary.events).len(), 2, "nothing has changed");
    primary.feed(&Input::MateAlarms { alarms: Vec::new(), now: at(8000) });
    let told = alarms(&primary.events);
    assert_eq!(told.len(), 3);
    assert_eq!(told[2].cleared, Some(ClearReason::Ended));
    assert_eq!(told[2].alarm.id, of_standby.alarm.id);
    assert_eq!(primary.agent.alarms().by_kind()[Kind::Overload as usize], 1);
}

#[test]
fn pair_1_what_the_primary_judges_can_not_come_from_the_mate() {
    let mut primary = primary("a", "b", State::default(), at(0));
    let mut other = self::primary("b", "a", State::default(), at(0));
    for serial in 1..=4 {
        other.datagram(DEVICE, at(u64::from(serial) * 1000), &link_down(3, serial));
    }
    for event in alarms(&other.events) {
        primary.feed(&Input::MateAlarm { event: Box::new(event.clone()), now: at(6000) });
    }
    assert!(primary.events.is_empty());
}

#[test]
fn pair_3_local_alarms_stay_as_they_are_when_the_role_changes() {
    let mut standby = Sim::new(paired("b", "a"));
    overload(&mut standby, 5, 7);
    let own = alarms(&standby.events)[0].alarm.clone();
    // The journal of the primary that died has neither this alarm, nor the end of an older one.
    let mut left = primary("a", "b", State::default(), at(0));
    let mut older = own.clone();
    older.id = AlarmId(77);
    older.kind = Kind::SubnetDown;
    older.object = Object::Subnet("192.0.2.0/24".parse().unwrap());
    left.feed(&Input::MateAlarms { alarms: vec![older.clone()], now: at(1000) });
    overload(&mut left, 2, 1);
    let state = left.agent.export(at(6000));
    standby.events.clear();
    adopt(&mut standby, state, Duration::from_secs(1), at(7000));
    let told: Vec<(AlarmId, Option<ClearReason>)> =
        alarms(&standby.events).iter().map(|event| (event.alarm.id, event.cleared)).collect();
    assert_eq!(told, [(older.id, Some(ClearReason::Ended)), (own.id, None)]);
    let of_mate: Vec<&str> = standby
        .agent
        .alarms()
        .of_mate()
        .values()
        .filter_map(|alarm| alarm.agent.as_deref())
        .collect();
    assert_eq!(of_mate, ["a"], "until the mate says otherwise");
    standby.events.clear();
    standby.feed(&Input::Relinquish { now: at(8000) });
    assert!(standby.events.is_empty(), "the mate goes on with all else");
    assert_eq!(standby.agent.alarms().all().count(), 1);
    overload(&mut standby, 60, 0);
    assert_eq!(alarms(&standby.events)[0].alarm.id, own.id);
}

#[test]
fn an_agent_that_is_alone_again_clears_what_it_knows_of_the_other_host() {
    let mut pair = primary("a", "b", State::default(), at(0));
    let mut standby = Sim::new(paired("b", "a"));
    overload(&mut standby, 5, 7);
    let event = Box::new(alarms(&standby.events)[0].clone());
    pair.feed(&Input::MateAlarm { event, now: at(6000) });
    overload(&mut pair, 6, 7);
    let state = pair.agent.export(at(7000));
    let mut alone = Sim::new(Settings { agent: "a".to_owned(), ..open_settings() });
    alone.begin_with(state, Duration::ZERO, at(8000));
    let told = alarms(&alone.events);
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].cleared, Some(ClearReason::Removed));
    assert_eq!(told[0].alarm.agent.as_deref(), Some("b"));
    assert_eq!(alone.agent.alarms().all().count(), 1, "its own goes on");
}

#[test]
fn pair_18_two_primaries_that_see_the_same_traps_call_the_alarms_alike() {
    let mut here = primary("a", "b", State::default(), at(0));
    let mut there = primary("b", "a", State::default(), at(0));
    for serial in 1..=40 {
        let millis = u64::from(serial) * 700;
        here.datagram(DEVICE, at(millis), &link_down(serial % 4 + 1, serial));
        // By another way, so a little later, and under a request-id of its own.
        let mut other = message(serial % 4 + 1, serial);
        other.request_id += 1000;
        there.datagram(DEVICE, at(millis + 90), &other.encode());
    }
    for sim in [&mut here, &mut there] {
        sim.heard(at(9_000_000));
    }
    let ids = |sim: &Sim| -> Vec<(AlarmId, bool)> {
        alarms(&sim.events).iter().map(|event| (event.alarm.id, event.cleared.is_some())).collect()
    };
    assert!(ids(&here).len() >= 8);
    assert_eq!(ids(&here), ids(&there));
}

/// A trap: how long after the one before, of which interface, and whether each of the two agents is sent
/// it in case of a takeover just then.
fn traps() -> impl Strategy<Value = Vec<(u64, u32)>> {
    vec((prop_oneof![0..3_000_u64, 0..60_000_u64], 1..4_u32), 1..60)
}

proptest! {
    #![proptest_config(cases(200))]

    /// One agent that never fails hears every trap. Of the pair, the primary hears them too and has its
    /// records and its journal on the standby's disk now and then; it dies at any moment, and the standby
    /// goes on. The prints of what is on its disk come, or don't, as of SNMPv3; and each device numbers what
    /// it sends to the two alike, or anew. Whoever reads the standby's journal sees each instability raised once and cleared once,
    /// with the identity that it has where nothing fails, and never cleared sooner.
    #[test]
    fn pair_13_inst_17_a_takeover_at_any_moment_loses_nothing_and_tells_nothing_twice(
        traps in traps(),
        dies_before in any::<prop::sample::Index>(),
        checkpoint_every in 1..8_usize,
        silent in 0..6_000_u64,
        numbers_anew in any::<bool>(),
        prints_come in any::<bool>(),
    ) {
        let dies_before = dies_before.index(traps.len() + 1);
        let mut reference = primary("r", "b", State::default(), at(0));
        let mut first = primary("a", "b", State::default(), at(0));
        let mut standby = Sim::new(paired("b", "a"));
        let mut unconfirmed = Unconfirmed::new(Printer::new(KEY));
        let mut shadow = Shadow::new(Printer::new(KEY));
        // What is on the standby's disk: the journal, and the state with when it was so.
        let mut journal: Vec<AlarmEvent> = Vec::new();
        let mut disk = (State::default(), at(0));
        let (mut now, mut taken_over, mut died_at) = (at(0), false, None);
        for (place, (pause, if_index)) in traps.iter().enumerate() {
            // A checkpoint comes each second at the latest.
            let second = Duration::from_secs(1);
            if died_at.is_none() && Duration::from_millis(*pause) > second {
                let now = now + second;
                first.heard(now);
                journal.extend(alarms(&first.events).into_iter().cloned());
                first.events.clear();
                disk = (first.agent.export(now), now);
                if prints_come {
                    shadow.confirm(&unconfirmed.take(), now);
                }
            }
            now = now + Duration::from_millis(*pause);
            if place >= dies_before && died_at.is_none() {
                died_at = Some(now);
            }
            if let Some(died_at) = died_at
                && !taken_over
                && now >= died_at + Duration::from_millis(silent)
            {
                let when = died_at + Duration::from_millis(silent);
                take_over(&mut standby, &mut shadow, &disk, when);
                taken_over = true;
            }
            let bytes = link_down(*if_index, place as u32 + 1);
            let source = (DEVICE, 40_000).into();
            let datagram =
                Datagram { source, received: now, door: Door::default(), bytes: &bytes };
            reference.feed(&Input::Datagram(datagram));
            reference.heard(now);
            let mut other = message(*if_index, place as u32 + 1);
            other.request_id += if numbers_anew { 1000 } else { 0 };
            let other = other.encode();
            let to_standby = Datagram { bytes: &other, ..datagram };
            if died_at.is_none() {
                first.feed(&Input::Datagram(datagram));
                first.heard(now);
                unconfirmed.note(DEVICE, &bytes);
                if place % checkpoint_every == 0 {
                    journal.extend(alarms(&first.events).into_iter().cloned());
                    first.events.clear();
                    disk = (first.agent.export(now), now);
                    if prints_come {
                        shadow.confirm(&unconfirmed.take(), now);
                    }
                }
            }
            if taken_over {
                standby.feed(&Input::Datagram(to_standby));
                standby.heard(now);
            } else {
                shadow.keep(&to_standby);
                shadow.expire(now);
            }
        }
        if !taken_over {
            now = died_at.unwrap_or(now).max(now) + Duration::from_millis(silent);
            take_over(&mut standby, &mut shadow, &disk, now);
        }
        let end = now + Duration::from_secs(3 * 3600);
        reference.heard(end);
        standby.heard(end);
        journal.extend(alarms(&standby.events).into_iter().cloned());
        let wanted: Vec<AlarmEvent> = alarms(&reference.events).into_iter().cloned().collect();
        check(&journal, &wanted)?;
    }
}

fn take_over(standby: &mut Sim, shadow: &mut Shadow, (state, as_of): &(State, Time), now: Time) {
    // As the store gives it back: as old as it is, and as long deaf.
    let mut state = state.clone();
    let deaf = now.since(*as_of);
    state.records.iter_mut().for_each(|record| record.age += deaf);
    adopt(standby, state, deaf, now);
    for kept in shadow.take(now) {
        standby.feed(&Input::Datagram(kept.datagram()));
    }
    standby.heard(now);
}

/// From when to when an alarm was active, and its identity.
type Told = (Time, Time, AlarmId);

/// Reads the journal as an NMS would.
fn check(journal: &[AlarmEvent], wanted: &[AlarmEvent]) -> Result<(), TestCaseError> {
    let mut active: BTreeMap<(Kind, Object), AlarmId> = BTreeMap::new();
    let mut ids = BTreeSet::new();
    let mut episodes: BTreeMap<(Kind, Object), Vec<Told>> = BTreeMap::new();
    for event in journal {
        let key = (event.alarm.kind, event.alarm.object.clone());
        match event.cleared {
            None => {
                prop_assert!(ids.insert(event.alarm.id), "an identity is given once: {event:?}");
                prop_assert_eq!(active.insert(key.clone(), event.alarm.id), None);
                let told = (event.at, Time::MAX, event.alarm.id);
                episodes.entry(key).or_default().push(told);
            }
            Some(_) => {
                prop_assert_eq!(active.remove(&key), Some(event.alarm.id));
                episodes.get_mut(&key).unwrap().last_mut().unwrap().1 = event.at;
            }
        }
    }
    let unstable = |key: &&(Kind, Object)| key.0 == Kind::InterfaceUnstable;
    prop_assert_eq!(active.keys().filter(unstable).count(), 0, "each is cleared");
    let mut last: BTreeMap<Object, (Time, AlarmId)> = BTreeMap::new();
    for event in wanted.iter().filter(|event| event.alarm.kind == Kind::InterfaceUnstable) {
        let object = event.alarm.object.clone();
        let key = (Kind::InterfaceUnstable, object.clone());
        let told = episodes.get(&key).map(Vec::as_slice).unwrap_or_default();
        match event.cleared {
            // Told, or told already: what waits longer after a takeover may go on into the next.
            None => {
                let covered = told.iter().find(|(from, to, _)| *from <= event.at && event.at < *to);
                prop_assert!(covered.is_some(), "lost: {:?}", event);
                last.insert(object, (event.at, event.alarm.id));
            }
            Some(_) => {
                let (raised, id) = last[&object];
                let (from, to, told) =
                    *told.iter().find(|(from, to, _)| *from <= raised && raised < *to).unwrap();
                prop_assert!(to >= event.at, "cleared too soon: {:?} {:?}", to, event);
                prop_assert!(from != raised || told == id, "another identity: {:?}", event);
            }
        }
    }
    for ((kind, object), told) in &episodes {
        if *kind != Kind::InterfaceUnstable {
            continue;
        }
        let of = |event: &&AlarmEvent| event.alarm.kind == *kind && event.alarm.object == *object;
        for (from, ..) in told {
            // It is unstable by then, and not cleared: the last that is told of it is its raise.
            let last = wanted.iter().filter(of).rfind(|event| event.at <= *from);
            let is_so = last.is_some_and(|event| event.cleared.is_none());
            prop_assert!(is_so, "made up: {:?} at {:?}", object, from);
        }
    }
    Ok(())
}

#[test]
fn pair_12_a_device_that_numbers_its_traps_anew_for_each_agent_is_known_all_the_same() {
    let mut unconfirmed = Unconfirmed::new(Printer::new(KEY));
    let mut shadow = Shadow::new(Printer::new(KEY));
    unconfirmed.note(DEVICE, &link_down(3, 1));
    let mut other = message(3, 1);
    other.request_id = 77;
    let bytes = other.encode();
    let received = at(1000);
    let source = (DEVICE, 50_000).into();
    shadow.keep(&Datagram { source, received, door: Door::default(), bytes: &bytes });
    shadow.confirm(&unconfirmed.take(), at(2000));
    assert!(shadow.take(at(3000)).is_empty());
}

#[test]
fn pair_12_one_trap_that_both_agents_numbered_otherwise_hear_does_not_make_an_instability() {
    let mut first = primary("a", "b", State::default(), at(0));
    let mut standby = Sim::new(paired("b", "a"));
    let mut shadow = Shadow::new(Printer::new(KEY));
    let source = (DEVICE, 40_000).into();
    first.datagram(DEVICE, at(1000), &link_down(3, 1));
    let mut other = message(3, 1);
    other.request_id = 77;
    let (received, door, bytes) = (at(1040), Door::default(), other.encode());
    shadow.keep(&Datagram { source, received, door, bytes: &bytes });
    // Its interface_down has gone to the journal with the record; the print had not come yet.
    let state = first.agent.export(at(1050));
    take_over(&mut standby, &mut shadow, &(state, at(1050)), at(5000));
    assert!(standby.events.is_empty(), "it is not counted again: {:?}", standby.events);
    // Another of the device counts, as ever.
    standby.datagram(DEVICE, at(6000), &link_down(3, 2));
    assert!(
        alarms(&standby.events).iter().any(|event| event.alarm.kind == Kind::InterfaceUnstable)
    );
}

#[test]
fn pair_12_what_the_shadow_gives_is_taken_in_once_though_the_records_have_it() {
    let mut first = primary("a", "b", State::default(), at(0));
    let mut standby = Sim::new(paired("b", "a"));
    let mut shadow = Shadow::new(Printer::new(KEY));
    for serial in 1..=2_u32 {
        let (millis, bytes) = (u64::from(serial) * 1000, link_down(3, serial));
        let source = (DEVICE, 40_000).into();
        let received = at(millis);
        let datagram = Datagram { source, received, door: Door::default(), bytes: &bytes };
        first.feed(&Input::Datagram(datagram));
        shadow.keep(&datagram);
    }
    let state = first.agent.export(at(2500));
    let raised = alarms(&first.events).iter().filter(|event| event.cleared.is_none()).count();
    take_over(&mut standby, &mut shadow, &(state, at(2500)), at(5000));
    assert!(standby.events.is_empty(), "nothing is counted again: {:?}", standby.events);
    assert_eq!(standby.agent.alarms().active().len(), 1);
    assert!(standby.agent.alarms().active().contains_key(&(Kind::InterfaceUnstable, interface(3))));
    assert_eq!(raised, 2, "interface_down gave way to interface_unstable");
}
