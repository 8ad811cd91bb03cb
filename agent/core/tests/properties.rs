//! What holds for every sequence of inputs, beside the rows that someone thought of.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use evenkeel_core::{
    alarm::{AlarmId, ClearReason, Kind, Object, System},
    copies,
    input::Event,
    settings::{Analysis, GroupSettings, Instability, Settings, Threshold, Window},
    state::{Phase, Record, RecordKey},
    time::Time,
    trap::Form,
};
use proptest::{collection::vec, prelude::*};

use crate::common::{
    ber::{Message, if_entry, number, varbind},
    chance::{Op, World, op},
    sim::{Sim, at, cases, open_settings},
};

/// A trap that was taken in: when, which system, which ifIndex (0: a restart), linkUp or not.
#[derive(Clone, Copy, Debug)]
struct Taken {
    at: Time,
    system: u8,
    if_index: u32,
    link_up: bool,
}

/// An alarm event: object, when, kind, and why it was cleared.
type Told = (Object, Time, Kind, Option<ClearReason>);

/// The rules as the text has them: everything is kept for ever, and everything is computed anew.
struct Oracle {
    settings: GroupSettings,
    /// Every trap that counts, since the end of the latest episode, with whether it is a linkUp.
    counted: BTreeMap<(u8, u32), Vec<(Time, bool)>>,
    /// How many of those were there when it became unstable, and the place of *first*.
    unstable: BTreeMap<(u8, u32), usize>,
    sends_link_down: BTreeSet<u8>,
    down: BTreeMap<(u8, u32), bool>,
    down_raised: BTreeSet<(u8, u32)>,
    told: Vec<Told>,
}

impl Oracle {
    fn analysis(&self, if_index: u32) -> Option<Analysis> {
        if if_index == 0 { self.settings.systems } else { self.settings.interfaces }
    }

    fn tell(
        &mut self,
        (system, if_index): (u8, u32),
        at: Time,
        kind: Kind,
        why: Option<ClearReason>,
    ) {
        let system = System(IpAddr::from([10, 0, 0, system]));
        let object = match if_index {
            0 => Object::System(system),
            if_index => Object::Interface { system, if_index },
        };
        self.told.push((object, at, kind, why));
    }

    fn kind(if_index: u32) -> Kind {
        if if_index == 0 { Kind::SystemUnstable } else { Kind::InterfaceUnstable }
    }

    /// INST-5, INST-6: ends what is over by `now`.
    fn end(&mut self, now: Time) {
        for (key, first) in self.unstable.clone() {
            let Some(analysis) = self.analysis(key.1) else { continue };
            let traps = &self.counted[&key];
            let last = traps.iter().map(|trap| trap.0).max().unwrap();
            let unstable_time = last.since(traps[first].0);
            let stable_time = unstable_time.max(analysis.window.length());
            let end = last + stable_time.min(Duration::from_secs(3600));
            if end <= now {
                self.unstable.remove(&key);
                self.counted.remove(&key);
                self.tell(key, end, Oracle::kind(key.1), Some(ClearReason::Ended));
                self.judge_down(key, end);
            }
        }
    }

    /// INST-13.
    fn judge_down(&mut self, key: (u8, u32), at: Time) {
        if key.1 == 0 || !self.settings.interface_down {
            return;
        }
        let unstable = self.unstable.contains_key(&key);
        let down = self.down.get(&key) == Some(&true);
        if down && !unstable && self.down_raised.insert(key) {
            self.tell(key, at, Kind::InterfaceDown, None);
        } else if unstable && self.down_raised.remove(&key) {
            self.tell(key, at, Kind::InterfaceDown, Some(ClearReason::Superseded));
        } else if !down && self.down_raised.remove(&key) {
            self.tell(key, at, Kind::InterfaceDown, Some(ClearReason::Ended));
        }
    }

    fn trap(&mut self, trap: Taken) {
        let key = (trap.system, trap.if_index);
        self.end(trap.at);
        let link = trap.if_index != 0;
        // INST-2.
        if link && !trap.link_up && self.sends_link_down.insert(trap.system) {
            for (key, traps) in &mut self.counted {
                if key.0 == trap.system && key.1 != 0 && !self.unstable.contains_key(key) {
                    traps.clear();
                }
            }
        }
        if link {
            self.down.insert(key, !trap.link_up);
        }
        let counts = !trap.link_up || !self.sends_link_down.contains(&trap.system);
        if let (Some(analysis), true) = (self.analysis(trap.if_index), counts) {
            let traps = self.counted.entry(key).or_default();
            traps.push((trap.at, trap.link_up));
            // INST-3: ends included.
            let begin = trap.at - analysis.window.length();
            let first = traps.iter().position(|(at, _)| *at >= begin).unwrap();
            let within = traps.len() - first;
            if within >= usize::from(analysis.threshold.get()) && !self.unstable.contains_key(&key)
            {
                self.unstable.insert(key, first);
                self.judge_down(key, trap.at);
                self.tell(key, trap.at, Oracle::kind(trap.if_index), None);
            }
        }
        self.judge_down(key, trap.at);
    }
}

/// When the next trap comes.
#[derive(Clone, Copy, Debug)]
enum Gap {
    Millis(u64),
    /// Around one trap window.
    Window(i64),
    /// Around the next deadline.
    Deadline(i64),
}

#[derive(Clone, Copy, Debug)]
struct Step {
    gap: Gap,
    system: u8,
    if_index: u32,
    link_up: bool,
    form: u8,
    /// A copy follows this many milliseconds later.
    doubled: Option<u64>,
    /// The agent is stopped and begun again before it, with nothing lost.
    restart: bool,
}

fn step() -> impl Strategy<Value = Step> {
    let gap = prop_oneof![
        4 => (0..3_000u64).prop_map(Gap::Millis),
        2 => (0..100_000u64).prop_map(Gap::Millis),
        1 => (0..8_000_000u64).prop_map(Gap::Millis),
        3 => (-1..=1i64).prop_map(Gap::Window),
        3 => (-1..=1i64).prop_map(Gap::Deadline),
    ];
    let doubled = prop_oneof![3 => Just(None), 1 => (0..5_000u64).prop_map(Some)];
    let restart = prop_oneof![9 => Just(false), 1 => Just(true)];
    (gap, 1..3u8, 0..3u32, any::<bool>(), 0..5u8, doubled, restart).prop_map(
        |(gap, system, if_index, link_up, form, doubled, restart)| {
            let link_up = link_up && if_index != 0;
            Step { gap, system, if_index, link_up, form, doubled, restart }
        },
    )
}

fn analysis() -> impl Strategy<Value = Option<Analysis>> {
    let window = prop_oneof![Just(1_000), Just(30_000), Just(3_600_000), 1_000..3_600_000u64];
    let some =
        (window, prop_oneof![4 => 2..5u16, 1 => 2..20u16]).prop_map(|(window, threshold)| {
            Some(Analysis {
                window: Window::new(Duration::from_millis(window)).unwrap(),
                threshold: Threshold::new(threshold).unwrap(),
            })
        });
    prop_oneof![9 => some, 1 => Just(None)]
}

fn shift(at: Time, millis: i64) -> Time {
    let by = Duration::from_millis(millis.unsigned_abs());
    if millis < 0 { at - by } else { at + by }
}

fn told(sim: &Sim) -> Vec<Told> {
    let alarms = sim.events.iter().filter_map(|event| match event {
        Event::Alarm(event) => Some(event),
        _ => None,
    });
    alarms
        .map(|event| (event.alarm.object.clone(), event.at, event.alarm.kind, event.cleared))
        .collect()
}

/// What was told of each object, in order.
fn by_object(told: Vec<Told>) -> BTreeMap<Object, Vec<(Time, Kind, Option<ClearReason>)>> {
    let mut sorted: BTreeMap<Object, Vec<_>> = BTreeMap::new();
    for (object, at, kind, why) in told {
        sorted.entry(object).or_default().push((at, kind, why));
    }
    sorted
}

/// Judges every deadline up to `until` at its time. Nothing may be left to judge then that no
/// deadline told of.
fn wait(sim: &mut Sim, until: Time) -> Result<(), TestCaseError> {
    while let Some(deadline) = sim.agent.next_deadline().filter(|deadline| *deadline <= until) {
        sim.heard(deadline);
    }
    let before = sim.events.len();
    sim.heard(until);
    prop_assert_eq!(before, sim.events.len(), "an event that no deadline told of");
    Ok(())
}

/// INST-16: what one object may keep.
fn bounded(record: &Record, settings: &GroupSettings) -> Result<(), TestCaseError> {
    prop_assert!(record.memory.recent.len() <= copies::KEPT);
    if let Phase::Counting { ages, .. } = &record.memory.phase {
        let analysis =
            if record.key.if_index == 0 { settings.systems } else { settings.interfaces };
        prop_assert!(ages.len() < usize::from(analysis.unwrap().threshold.get()));
    }
    Ok(())
}

/// A copy that is still to come: when, of which object, how many of its traps after the first, and
/// its octets.
type Copy = (Time, (u8, u32), usize, Vec<u8>);

fn play(steps: &[Step], group: GroupSettings) -> Result<(), TestCaseError> {
    let instability =
        Instability { groups: vec![], otherwise: group.clone(), ..Instability::default() };
    let mut sim = Sim::new(Settings { instability, ..open_settings() });
    let mut oracle = Oracle {
        settings: group.clone(),
        counted: BTreeMap::new(),
        unstable: BTreeMap::new(),
        sends_link_down: BTreeSet::new(),
        down: BTreeMap::new(),
        down_raised: BTreeSet::new(),
        told: Vec::new(),
    };
    let mut now = at(0);
    // Copies that are still to come: when, of which object, and how many of its traps ago.
    let mut copies: Vec<Copy> = Vec::new();
    for (serial, step) in steps.iter().enumerate() {
        let wanted = match step.gap {
            Gap::Millis(millis) => now + Duration::from_millis(millis),
            Gap::Window(by) => {
                let window = group
                    .interfaces
                    .map_or(1_000, |analysis| analysis.window.length().as_millis() as i64);
                shift(now, window + by)
            }
            Gap::Deadline(by) => sim.agent.next_deadline().map_or(now, |at| shift(at, by)),
        };
        now = now.max(wanted);
        copies.sort();
        while copies.first().is_some_and(|(due, ..)| *due <= now) {
            let (due, (system, _), since, message) = copies.remove(0);
            wait(&mut sim, due)?;
            // Beyond eight traps of one object, what is a copy can't be known.
            if since < copies::KEPT {
                sim.datagram([10, 0, 0, system].into(), due, &message);
            }
        }
        wait(&mut sim, now)?;
        if step.restart {
            sim.restart(now, now);
        }
        let form = Form::ALL[usize::from(step.form)];
        let trap = match (step.if_index, step.link_up) {
            (0, _) => 1 + u32::from(step.form) % 2,
            (_, true) => 4,
            (_, false) => 3,
        };
        let index = varbind(&if_entry(1, step.if_index), number(2, i64::from(step.if_index)));
        let message = Message {
            varbinds: if step.if_index == 0 { vec![] } else { vec![index] },
            request_id: serial as i64,
            // An uptime of its own for each, so that none is a copy that is not meant as one.
            uptime: 10_000_000 + serial as i64,
            ..Message::new(form, trap)
        }
        .encode();
        sim.datagram([10, 0, 0, step.system].into(), now, &message);
        let key = (step.system, step.if_index);
        for copy in copies.iter_mut().filter(|copy| copy.1 == key) {
            copy.2 += 1;
        }
        if let Some(later) = step.doubled {
            copies.push((now + Duration::from_millis(later), key, 0, message));
        }
        let Step { system, if_index, link_up, .. } = *step;
        oracle.trap(Taken { at: now, system, if_index, link_up });
        for record in sim.agent.export(now).records {
            bounded(&record, &group)?;
        }
    }
    let end = now + Duration::from_secs(100_000);
    wait(&mut sim, end)?;
    oracle.end(end);
    prop_assert_eq!(by_object(told(&sim)), by_object(oracle.told));
    Ok(())
}

proptest! {
    #![proptest_config(cases(400))]

    /// INST-1 to INST-8, INST-9, INST-13, INST-17: the engine and the naive reading of the rules
    /// tell the same at the same times, whatever is doubled, and whenever it is begun anew.
    #[test]
    fn the_engine_tells_what_the_text_of_the_rules_says(
        steps in vec(step(), 0..60),
        interfaces in analysis(),
        systems in analysis(),
        interface_down in any::<bool>(),
    ) {
        play(&steps, GroupSettings { interfaces, systems, interface_down })?;
    }
}

fn link_down(if_index: u32, serial: i64) -> Vec<u8> {
    let index = varbind(&if_entry(1, if_index), number(2, i64::from(if_index)));
    let uptime = 10_000_000 + serial;
    Message { varbinds: vec![index], request_id: serial, uptime, ..Message::new(Form::V2c, 3) }
        .encode()
}

/// What may give way, in the order in which it does (INST-16).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Idle,
    Counting,
    Down,
    Never,
}

fn ranks(sim: &Sim, now: Time) -> BTreeMap<RecordKey, Rank> {
    let records = sim.agent.export(now).records;
    let parents: BTreeSet<System> = records
        .iter()
        .filter(|record| record.key.if_index != 0)
        .map(|record| record.key.system)
        .collect();
    let active = sim.agent.alarms().active();
    records
        .iter()
        .map(|record| {
            let RecordKey { system, if_index } = record.key;
            let down = (Kind::InterfaceDown, Object::Interface { system, if_index });
            let rank = match &record.memory.phase {
                Phase::Unstable { .. } => Rank::Never,
                _ if if_index == 0 && parents.contains(&system) => Rank::Never,
                _ if active.contains_key(&down) => Rank::Down,
                Phase::Counting { .. } => Rank::Counting,
                Phase::Idle => Rank::Idle,
            };
            (record.key, rank)
        })
        .collect()
}

proptest! {
    #![proptest_config(cases(150))]

    /// INST-16: a flood costs memory only up to the limit, and what matters most stays.
    #[test]
    fn a_flood_never_exceeds_the_limit_and_no_unstable_object_gives_way_inst_16(
        max in 0..12u32,
        interface_down in any::<bool>(),
        traps in vec((0..20_000u64, 0..12u8, 1..3u32), 0..120),
        restart_at in 0..150usize,
    ) {
        let otherwise = GroupSettings { interface_down, ..GroupSettings::default() };
        let instability = Instability { groups: vec![], otherwise, max_objects: max, ..Instability::default() };
        let mut sim = Sim::new(Settings { instability, ..open_settings() });
        let mut now = at(0);
        for (serial, (gap, system, if_index)) in traps.into_iter().enumerate() {
            now = now + Duration::from_millis(gap);
            wait(&mut sim, now)?;
            if serial == restart_at {
                sim.restart(now, now);
            }
            let before = ranks(&sim, now);
            sim.agent.take_changes(usize::MAX, now);
            let gave_way = sim.agent.instability().gave_way();
            let address = IpAddr::from([10, 0, 0, system]);
            sim.datagram(address, now, &link_down(if_index, serial as i64));
            prop_assert!(sim.agent.instability().objects() <= max as usize);
            let removed: BTreeSet<RecordKey> = sim.agent.take_changes(0, now).1.into_iter().collect();
            let counted = sim.agent.instability().gave_way() - gave_way;
            prop_assert_eq!(counted, removed.len() as u64, "each loss is counted");
            let first_kept = before
                .iter()
                .filter(|(key, _)| !removed.contains(key) && key.system != System(address))
                .map(|(_, rank)| *rank)
                .min();
            for key in &removed {
                let rank = before[key];
                // A system may go once its last interface has gone.
                if key.if_index != 0 {
                    prop_assert!(rank != Rank::Never);
                    prop_assert!(first_kept.is_none_or(|kept| rank <= kept), "{rank:?} {first_kept:?}");
                }
            }
            // An alarm of what is gone is cleared with it.
            let active = sim.agent.alarms().active();
            let known = sim.agent.export(now).records;
            for (_, object) in active.keys() {
                let here = known.iter().any(|record| {
                    let RecordKey { system, if_index } = record.key;
                    *object == Object::Interface { system, if_index }
                });
                prop_assert!(here, "{object} is nobody's");
            }
        }
        for (_, _, kind, why) in told(&sim) {
            prop_assert!(kind == Kind::InterfaceDown || why != Some(ClearReason::GaveWay));
        }
    }
}

#[test]
fn an_interface_that_gives_way_while_down_is_cleared_for_that_reason_inst_16() {
    let instability = Instability { groups: vec![], max_objects: 2, ..Instability::default() };
    let mut sim = Sim::new(Settings { instability, ..open_settings() });
    sim.datagram([10, 0, 0, 1].into(), at(0), &link_down(1, 1));
    sim.datagram([10, 0, 0, 2].into(), at(1_000), &link_down(1, 2));
    let clears: Vec<_> = told(&sim).into_iter().filter_map(|told| told.3).collect();
    assert_eq!(clears, [ClearReason::GaveWay]);
    assert_eq!(sim.agent.instability().gave_way(), 2);
    assert_eq!(sim.agent.alarms().active().len(), 1);
}

#[test]
fn a_flood_that_outruns_the_store_costs_no_more_memory_than_the_table_inst_16() {
    let instability = Instability { groups: vec![], max_objects: 10, ..Instability::default() };
    let mut sim = Sim::new(Settings { instability, ..open_settings() });
    for serial in 0..5_000u32 {
        let [.., a, b] = serial.to_be_bytes();
        let now = at(u64::from(serial) * 100);
        sim.datagram([10, 0, a, b].into(), now, &link_down(1, 1));
        if serial % 10 == 0 {
            sim.agent.take_changes(1, now);
            let waiting = sim.agent.instability().changes_waiting();
            assert!(waiting <= 10, "{waiting} changes of 10 objects wait");
        }
    }
}

proptest! {
    #![proptest_config(cases(150))]

    /// Whoever keeps the changes keeps the whole.
    #[test]
    fn what_the_changes_tell_is_what_a_copy_of_the_whole_tells(
        ops in vec(op(), 0..150),
    ) {
        let mut world = World::new(1);
        let mut kept: BTreeMap<RecordKey, Record> = BTreeMap::new();
        for op in ops {
            if matches!(op, Op::TakeChanges(_)) {
                let Op::TakeChanges(most) = op else { continue };
                let (records, removed) = world.agent.take_changes(most, world.now());
                removed.iter().for_each(|key| { kept.remove(key); });
                kept.extend(records.into_iter().map(|record| (record.key, record)));
            } else if !matches!(op, Op::Restart(_)) {
                world.act(&op);
            }
        }
        let (records, removed) = world.agent.take_changes(usize::MAX, world.now());
        removed.iter().for_each(|key| { kept.remove(key); });
        kept.extend(records.into_iter().map(|record| (record.key, record)));
        let what_lasts = |record: &Record| {
            let memory = &record.memory;
            let unstable = matches!(memory.phase, Phase::Unstable { .. });
            (record.key, unstable, memory.sends_link_down, memory.down, memory.if_name.clone())
        };
        let mut whole: Vec<_> =
            world.agent.export(world.now()).records.iter().map(what_lasts).collect();
        whole.sort();
        prop_assert_eq!(kept.values().map(what_lasts).collect::<Vec<_>>(), whole);
    }

    /// Whatever comes, in whatever order: no panic; an alarm is raised once and cleared once, with
    /// one id, and those that are active are those that were raised and not cleared.
    #[test]
    fn raise_and_clear_take_turns_for_any_inputs(ops in vec(op(), 0..300)) {
        let mut world = World::new(1);
        let mut active: BTreeMap<(Kind, Object), (AlarmId, i64)> = BTreeMap::new();
        let mut ids = BTreeSet::new();
        for op in &ops {
            if matches!(op, Op::Restart(_)) {
                // It takes longer than the millisecond that tells ids of two runs apart.
                ids.clear();
            }
            world.act(op);
            for event in std::mem::take(&mut world.events) {
                let Event::Alarm(event) = event else { continue };
                let key = (event.alarm.kind, event.alarm.object.clone());
                let identity = (event.alarm.id, event.alarm.raised_at.0);
                match event.cleared {
                    None => {
                        prop_assert_eq!(active.insert(key, identity), None, "raised twice");
                        prop_assert!(ids.insert(event.alarm.id), "an id was used again");
                        prop_assert_eq!(event.wall, event.alarm.raised_at);
                    }
                    Some(_) => prop_assert_eq!(active.remove(&key), Some(identity)),
                }
                prop_assert!(!event.alarm.text.chars().any(char::is_control));
            }
            let told: BTreeMap<_, _> = world
                .agent
                .alarms()
                .active()
                .iter()
                .map(|(key, alarm)| (key.clone(), (alarm.id, alarm.raised_at.0)))
                .collect();
            prop_assert_eq!(&told, &active);
            // INST-14: what is unstable is told of by its own alarm or by that of its link, and nothing
            // else is.
            let episodes = world.agent.instability().episodes();
            let unstable: Vec<(Kind, Object)> = episodes
                .map(|view| match (view.link, view.object) {
                    (Some(link), _) => (Kind::LinkUnstable, Object::Link(link)),
                    (None, system @ Object::System(_)) => (Kind::SystemUnstable, system),
                    (None, interface) => (Kind::InterfaceUnstable, interface),
                })
                .collect();
            prop_assert_eq!(unstable.len() as u64, world.agent.instability().unstable());
            let unstable: BTreeSet<(Kind, Object)> = unstable.into_iter().collect();
            let told = active.keys().filter(|(kind, _)| kind.is_instability());
            prop_assert_eq!(told.cloned().collect::<BTreeSet<_>>(), unstable);
        }
    }
}

/// INST-16: what a flood of forged sources brings is forgotten without a trace for those who keep
/// copies, as they never had one.
#[test]
fn a_flood_tells_those_who_keep_copies_nothing_of_what_they_never_had_inst_16() {
    let group = GroupSettings { interface_down: false, ..GroupSettings::default() };
    let instability = Instability {
        groups: vec![],
        otherwise: group,
        max_objects: 100,
        ..Instability::default()
    };
    let mut sim = Sim::new(Settings { instability, ..open_settings() });
    let flood = |sim: &mut Sim, first: u32| {
        for nth in first..first + 10_000 {
            let source = IpAddr::from((0x0a00_0000 + nth).to_be_bytes());
            sim.datagram(source, at(u64::from(nth)), &link_down(1, i64::from(nth)));
        }
    };
    flood(&mut sim, 0);
    let (records, removed) = sim.agent.take_changes(10, at(10_000));
    assert_eq!((records.len(), removed), (10, vec![]));
    flood(&mut sim, 10_000);
    let (_, removed) = sim.agent.take_changes(usize::MAX, at(20_000));
    assert_eq!(removed.len(), 10, "those ten are told to be gone");
}

/// What was handed out, went, came again and went again before it was handed out anew is still told
/// to be gone.
#[test]
fn a_copy_of_what_went_twice_is_told_to_be_gone_inst_16() {
    let group = GroupSettings { interface_down: false, ..GroupSettings::default() };
    let instability =
        Instability { groups: vec![], otherwise: group, max_objects: 2, ..Instability::default() };
    let mut sim = Sim::new(Settings { instability, ..open_settings() });
    let (one, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
    let mut secs = 0;
    let mut trap = |sim: &mut Sim, source| {
        secs += 1;
        sim.datagram(source, at(secs * 1000), &link_down(1, secs as i64));
    };
    trap(&mut sim, one);
    assert_eq!(sim.agent.take_changes(usize::MAX, at(9_000)).0.len(), 2);
    trap(&mut sim, other);
    trap(&mut sim, one);
    let (records, removed) = sim.agent.take_changes(0, at(9_000));
    assert_eq!((records, removed), (vec![], vec![]), "it is there, though changed");
    trap(&mut sim, other);
    let (_, removed) = sim.agent.take_changes(0, at(9_000));
    assert_eq!(removed.len(), 2, "the system and the interface that were handed out");
}
