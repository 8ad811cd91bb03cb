//! Two agents that have both been primary meet: what the one that steps back did is joined to what the
//! other did (PAIR-2, PAIR-13, PAIR-18).

use std::{collections::BTreeMap, collections::BTreeSet, time::Duration};

use evenkeel_core::{
    alarm::{Alarm, AlarmEvent, AlarmId, ClearReason, Kind, Object, Severity, System},
    input::{Input, Taken},
    settings::{DuringUnstable, ForwardRule, ForwardTarget, Forwarding, Settings},
    state::{Memory, Phase, Record, RecordKey, State},
    time::{Time, WallTime},
    trap::Form,
};
use proptest::{collection::vec, prelude::*};

use crate::common::{
    ber::{Message, if_entry, number, oid_content, varbind},
    sim::{Sim, at, cases, open_settings},
};

/// What an alarm is about: `0` to `3` is of the network, and `4` and `5` of the hosts of `a` and `b`.
fn alarm(about: u8, id: u64) -> Alarm {
    let (kind, object, agent) = match about {
        0..4 => {
            let system = System([192, 0, 2, about].into());
            (Kind::InterfaceDown, Object::Interface { system, if_index: 1 }, None)
        }
        4 => (Kind::Overload, Object::Agent, Some("a")),
        5 => (Kind::Overload, Object::Agent, Some("b")),
        _ => (Kind::PeerRestarted, Object::Peer([192, 0, 2, about].into()), None),
    };
    Alarm {
        id: AlarmId(id),
        kind,
        object,
        severity: Severity::Major,
        raised_at: WallTime(0),
        text: format!("{about}"),
        episode: None,
        if_name: None,
        other_if_name: None,
        peer_group: None,
        agent: agent.map(str::to_owned),
        mate: None,
    }
}

fn row(alarm: &Alarm, cleared: bool) -> AlarmEvent {
    let cleared = cleared.then_some(ClearReason::Ended);
    AlarmEvent { at: Time::ZERO, wall: WallTime(0), cleared, alarm: alarm.clone(), term: None }
}

/// An agent's journal, and what is active by it.
#[derive(Clone, Debug, Default)]
struct Agent {
    state: State,
    journal: Vec<AlarmEvent>,
}

impl Agent {
    fn raise(&mut self, about: u8, id: u64) {
        let alarm = alarm(about, id);
        self.journal.push(row(&alarm, false));
        self.state.identities.push(alarm.id);
        if !alarm.kind.is_event() {
            self.state.alarms.push(alarm);
        }
    }

    fn active(&self, about: u8) -> Option<AlarmId> {
        let text = about.to_string();
        self.state.alarms.iter().find(|alarm| alarm.text == text).map(|alarm| alarm.id)
    }

    fn clear(&mut self, about: u8) {
        let text = about.to_string();
        if let Some(place) = self.state.alarms.iter().position(|alarm| alarm.text == text) {
            let alarm = self.state.alarms.remove(place);
            self.journal.push(row(&alarm, true));
        }
    }

    /// Takes in what another has done since both had `common` rows. Returns what it lacked.
    fn join(&mut self, other: &Agent, common: usize, name: &str) -> Vec<AlarmEvent> {
        let rows = other.journal[common..].to_vec();
        let missing = self.state.join(rows, Vec::new(), name);
        self.journal.extend(missing.iter().cloned());
        missing
    }

    /// What an NMS that reads the journal takes for active. Each alarm is raised once, and cleared at most
    /// once, after that.
    fn read(&self) -> BTreeSet<AlarmId> {
        let mut raised: BTreeMap<AlarmId, bool> = BTreeMap::new();
        for row in &self.journal {
            let before = raised.insert(row.alarm.id, row.cleared.is_none());
            match row.cleared {
                None => assert_eq!(before, None, "raised twice: {row:?} in {:#?}", self.journal),
                Some(_) => assert_eq!(before, Some(true), "{row:?} in {:#?}", self.journal),
            }
        }
        let events = self.journal.iter().filter(|row| row.alarm.kind.is_event());
        let events: BTreeSet<AlarmId> = events.map(|row| row.alarm.id).collect();
        let raised = raised.into_iter().filter(|(id, raised)| *raised && !events.contains(id));
        raised.map(|(id, _)| id).collect()
    }

    fn ids(&self) -> BTreeSet<AlarmId> {
        self.state.alarms.iter().map(|alarm| alarm.id).collect()
    }
}

/// One step: of whom it is told (`a`, `b`, or both alike), about what, and whether it begins.
type Step = (u8, u8, bool);

/// Plays what both did before they lost each other, and what each did from then on.
fn play(before: &[(u8, bool)], steps: &[Step]) -> (Agent, Agent, usize) {
    let mut both = Agent::default();
    let mut next = 0;
    let mut id = || {
        next += 1;
        next
    };
    let step = |agent: &mut Agent, about: u8, begins: bool, id: u64| match begins {
        true if agent.active(about).is_none() => agent.raise(about, id),
        true => {}
        false => agent.clear(about),
    };
    for (about, begins) in before {
        step(&mut both, *about, *begins, id());
    }
    let common = both.journal.len();
    let (mut a, mut b) = (both.clone(), both);
    for (who, about, begins) in steps {
        let alike = id();
        // What is of a host, that one alone tells; it may call the alarm of a device as the other does.
        let of_a = matches!(who, 0 | 2) && *about != 5;
        let of_b = matches!(who, 1 | 2) && *about != 4;
        if of_a {
            step(&mut a, *about, *begins, alike);
        }
        if of_b {
            step(&mut b, *about, *begins, alike);
        }
    }
    (a, b, common)
}

#[test]
fn pair_2_what_the_other_did_is_taken_in_once() {
    // What was before, what `a` and `b` did, and what `a` lacks: `+` for a raise, `-` for a clear.
    type Case<'a> = (&'a [(u8, bool)], &'a [Step], &'a str, &'a [u64]);
    let cases: &[Case<'_>] = &[
        // The other one did nothing, or the same.
        (&[(0, true)], &[(0, 0, false)], "", &[]),
        (&[], &[(2, 0, true)], "", &[1]),
        (&[], &[(2, 0, true), (2, 0, false)], "", &[]),
        // It raised something, and it goes on here.
        (&[], &[(1, 0, true)], "+1", &[1]),
        (&[], &[(1, 0, true), (1, 0, false)], "+1 -1", &[]),
        (&[], &[(1, 0, true), (1, 0, false), (1, 0, true)], "+1 -1 +3", &[3]),
        // Both found it, under names of their own: it goes on under the one that it has here.
        (&[], &[(0, 0, true), (1, 0, true)], "+2 -2", &[1]),
        (&[], &[(0, 0, true), (0, 0, false), (1, 0, true)], "+3", &[3]),
        // What both knew is judged here.
        (&[(0, true)], &[(1, 0, false)], "", &[1]),
        (&[(0, true)], &[(1, 0, false), (1, 0, true)], "+3 -3", &[1]),
        (&[(0, true)], &[(0, 0, false), (1, 0, false), (1, 0, true)], "+4", &[4]),
        // Of its own host the other one knows best.
        (&[(5, true)], &[(1, 5, false)], "-1", &[]),
        (&[(5, true)], &[(1, 5, false), (1, 5, true)], "-1 +3", &[3]),
        (&[(4, true)], &[(0, 4, false)], "", &[]),
        // What is no condition is told once.
        (&[], &[(1, 9, true), (1, 9, true)], "+1 +2", &[]),
        (&[], &[(2, 9, true)], "", &[]),
    ];
    for (before, steps, lacked, active) in cases {
        let (mut a, b, common) = play(before, steps);
        let missing = a.join(&b, common, "a");
        let word = |row: &AlarmEvent| {
            format!("{}{}", if row.cleared.is_some() { '-' } else { '+' }, row.alarm.id.0)
        };
        let missing: Vec<String> = missing.iter().map(word).collect();
        assert_eq!(missing.join(" "), *lacked, "{before:?} {steps:?}");
        let active = active.iter().map(|id| AlarmId(*id)).collect();
        assert_eq!(a.ids(), active, "{before:?} {steps:?}");
        assert_eq!(a.read(), active, "{before:?} {steps:?}");
    }
}

#[test]
fn pair_2_a_clear_whose_raise_was_too_old_to_be_handed_over_is_left_out() {
    let (mut a, mut b, common) = play(&[], &[(1, 0, true), (1, 0, false), (1, 1, true)]);
    b.journal.remove(0);
    let missing = a.join(&b, common, "a");
    assert_eq!(missing.len(), 1);
    assert_eq!(a.read(), a.ids());
}

proptest! {
    #![proptest_config(cases(2_000))]

    #[test]
    fn pair_13_no_alarm_is_lost_and_none_is_told_twice_whoever_stays(
        before in vec((0..6_u8, any::<bool>()), 0..12),
        steps in vec((0..3_u8, 0..8_u8, any::<bool>()), 0..30),
    ) {
        let (a, b, common) = play(&before, &steps);
        let mut joined = Vec::new();
        for (stays, other, name) in [(&a, &b, "a"), (&b, &a, "b")] {
            let mut agent = stays.clone();
            agent.join(other, common, name);
            // Who reads the journal takes for active what is.
            prop_assert_eq!(agent.read(), agent.ids());
            // Every alarm that either has told is in it.
            let told: BTreeSet<AlarmId> = agent.journal.iter().map(|row| row.alarm.id).collect();
            let own_host = |row: &&AlarmEvent| row.alarm.agent.as_deref() == Some(name);
            for row in other.journal.iter().filter(|row| !own_host(row)) {
                prop_assert!(told.contains(&row.alarm.id), "{:?} is lost", row);
            }
            // What is active at the other one, and is not known to be over here, goes on.
            for alarm in &other.state.alarms {
                let over = agent.journal[..stays.journal.len()]
                    .iter()
                    .any(|row| row.alarm.id == alarm.id && row.cleared.is_some());
                let goes_on = agent.state.alarms.iter().any(|here| here.text == alarm.text);
                let own = alarm.agent.as_deref() == Some(name);
                prop_assert!(over || goes_on || own, "{:?} is lost", alarm);
            }
            // Once more changes nothing.
            let once = agent.clone();
            prop_assert_eq!(agent.join(other, common, name), vec![]);
            prop_assert_eq!(&agent.state, &once.state);
            joined.push(agent);
        }
        // Whoever of the two stays knows the same alarms; and those that began while they were apart, and
        // are active at one, are active at both, by one name or another.
        let [one, two] = joined.as_slice() else { unreachable!() };
        let known = |agent: &Agent| -> BTreeSet<AlarmId> {
            agent.state.identities.iter().copied().collect()
        };
        let old: BTreeSet<AlarmId> = a.journal[..common].iter().map(|row| row.alarm.id).collect();
        prop_assert_eq!(known(one), known(two));
        let began = |agent: &Agent| -> BTreeSet<String> {
            let alarms = agent.state.alarms.iter().filter(|alarm| !old.contains(&alarm.id));
            alarms.map(|alarm| alarm.text.clone()).collect()
        };
        let active = |agent: &Agent, text: &String| {
            agent.state.alarms.iter().any(|alarm| alarm.text == *text)
        };
        for text in began(one).union(&began(two)) {
            // What both call alike is judged by the one that stays, if the other one has cleared it.
            let alike = |row: &AlarmEvent, of: &Agent| {
                of.journal.iter().any(|other| other.alarm.id == row.alarm.id)
            };
            let shared = a.journal[common..]
                .iter()
                .any(|row| row.alarm.text == *text && alike(row, &b));
            prop_assert!(shared || active(one, text) && active(two, text), "{}", text);
        }
    }
}

/// A record of an interface whose last trap was so long ago.
fn record(last: u8, age_secs: u64, spooled: u64) -> Record {
    let system = System([192, 0, 2, last].into());
    let ages = vec![Duration::from_secs(1)];
    let phase = Phase::Counting { ages, link_ups: false };
    Record {
        key: RecordKey { system, if_index: 1 },
        age: Duration::from_secs(age_secs),
        memory: Memory { phase, spooled, ..Memory::default() },
    }
}

#[test]
fn pair_2_of_two_records_the_one_that_knows_the_later_trap_holds() {
    let mut state = State { records: vec![record(1, 10, 7), record(2, 10, 8)], ..State::default() };
    let theirs = vec![record(1, 5, 100), record(2, 20, 101), record(3, 60, 102)];
    assert_eq!(state.join(Vec::new(), theirs.clone(), "a"), vec![]);
    // The numbers of the mate's spool mean nothing here.
    assert_eq!(state.records, [record(1, 5, 0), record(2, 10, 8), record(3, 60, 0)]);
    let joined = state.clone();
    state.join(Vec::new(), theirs, "a");
    assert_eq!(state, joined, "once more changes nothing");
}

/// Two targets that acknowledge, and one that does not.
fn forwarding() -> Settings {
    let target =
        |name: &str, durable| ForwardTarget { name: name.to_owned(), durable, original: false };
    let rule = ForwardRule {
        traps: vec![],
        systems: vec![],
        groups: vec![],
        states: vec![],
        during_unstable: DuringUnstable::Forward,
        targets: vec![0, 1, 2],
    };
    let forwarding = Forwarding {
        targets: vec![target("lab", false), target("noc", true), target("nms", true)],
        rules: vec![rule],
        mark: b"\x80\x00\x1f\x88\x04me".to_vec(),
        mark_oid: oid_content(&[1, 3, 6, 1, 4, 1, 8072, 9999, 35, 0]),
        receivers: Vec::new(),
    };
    Settings { agent: "a".to_owned(), forwarding, ..open_settings() }
}

fn link_down(form: Form, if_index: u32, serial: i64) -> Vec<u8> {
    let mut message = Message::new(form, 3);
    (message.request_id, message.uptime) = (serial, 100_000 + serial);
    message.varbinds = vec![varbind(&if_entry(1, if_index), number(2, if_index.into()))];
    message.encode()
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn pair_2_traps_that_the_other_could_not_tell_everyone_go_on_from_here_once() {
    let device = [192, 0, 2, 1].into();
    let mut other = Sim::new(forwarding());
    for serial in 1..=3 {
        let form = if serial == 3 { Form::Inform } else { Form::V2c };
        other.datagram(device, at(1000), &link_down(form, 4, serial));
    }
    let state = other.agent.export(at(2000));
    let handed: Vec<Taken> =
        other.taken.iter().map(|taken| Taken { number: None, ..taken.clone() }).collect();

    let mut here = Sim::new(forwarding());
    here.datagram(device, at(1500), &link_down(Form::Inform, 9, 50));
    let mut joined = here.agent.export(at(3000));
    let (rows, records) = (Vec::new(), state.records);
    joined.join(rows, records, "a");
    let last_number = here.agent.last_number();
    assert_eq!(last_number, 1);
    let adopt =
        Input::Adopt { state: Box::new(joined), last_number, deaf: Duration::ZERO, now: at(3000) };
    here.feed(&adopt);
    here.taken.clear();
    let targets = [names(&["nms"]), names(&["noc", "nms", "gone"]), names(&["lab", "gone"])];
    for (taken, targets) in handed.iter().zip(targets) {
        here.feed(&Input::HandedOver { taken: Box::new(taken.clone()), targets, heeded: true });
    }
    // To those who wait for them, under numbers of this agent; to nobody who is not served here, and by
    // no way that does not acknowledge.
    let went: Vec<_> =
        here.taken.iter().map(|taken| (taken.number, taken.targets.to_vec())).collect();
    assert_eq!(went, [(Some(2), vec![2]), (Some(3), vec![1, 2])]);
    assert_eq!(here.taken[0].varbinds, handed[0].varbinds);
    assert_eq!(here.agent.counters().handed_over, 2);
    assert_eq!(here.agent.last_number(), 3);
    let records = here.agent.export(at(4000)).records;

    // After a crash they are not judged again: the records that came with them heed them.
    let state = State { records: records.clone(), ..State::default() };
    let mut again = Sim::new(forwarding());
    let (state, last_number) = (Box::new(state), 3);
    again.feed(&Input::Adopt { state, last_number, deaf: Duration::ZERO, now: at(4000) });
    for taken in here.taken.clone() {
        again.feed(&Input::Replayed(Box::new(taken)));
    }
    assert_eq!(again.agent.export(at(4000)).records, records);
}

#[test]
fn pair_2_what_the_other_had_not_judged_is_judged_here_once() {
    let device = [192, 0, 2, 1].into();
    let mut other = Sim::new(forwarding());
    // Its records are as they were before it took in the last two, when it was killed.
    other.datagram(device, at(1000), &link_down(Form::Inform, 4, 1));
    let records = other.agent.export(at(1000)).records;
    for serial in 2..=3 {
        other.datagram(device, at(1000 * serial), &link_down(Form::Inform, 4, serial as i64));
    }
    let alone = other.agent.export(at(9000)).records;
    let mut state = State::default();
    state.join(Vec::new(), records, "a");
    state.records.iter_mut().for_each(|record| record.age = Duration::from_secs(8));
    let mut here = Sim::new(forwarding());
    let (state, deaf) = (Box::new(state), Duration::ZERO);
    here.feed(&Input::Adopt { state, last_number: 0, deaf, now: at(9000) });
    for (taken, heeded) in other.taken.iter().zip([true, false, false]) {
        let taken = Box::new(Taken { number: None, ..taken.clone() });
        here.feed(&Input::HandedOver { taken, targets: Vec::new(), heeded });
    }
    assert_eq!(here.taken.len(), 2, "the first one has no more to do");
    let counted = |records: &[Record]| -> Vec<Phase> {
        records.iter().map(|record| record.memory.phase.clone()).collect()
    };
    assert_eq!(counted(&here.agent.export(at(9000)).records), counted(&alone));
    // One that came here too is known.
    here.datagram(device, at(9000), &link_down(Form::Inform, 4, 3));
    assert_eq!(counted(&here.agent.export(at(9000)).records), counted(&alone));
}

#[test]
fn trap_5_an_inform_that_was_handed_over_and_is_sent_again_is_answered_and_counted_once() {
    let device = [192, 0, 2, 1].into();
    let inform = link_down(Form::Inform, 4, 7);
    let mut other = Sim::new(forwarding());
    other.datagram(device, at(1000), &inform);
    let taken = Box::new(Taken { number: None, ..other.taken[0].clone() });
    let mut here = Sim::new(forwarding());
    here.feed(&Input::HandedOver { taken, targets: names(&["nms"]), heeded: true });
    here.datagram(device, at(2000), &inform);
    assert_eq!(here.taken.len(), 1);
    assert_eq!(here.answers.last().and_then(|answer| answer.after), Some(1));
}
