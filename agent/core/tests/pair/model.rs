//! All histories of a small world, by a model checker (PAIR-16): two agents, which are the code that
//! ships, one path between them that loses, delays, reorders and doubles, and what may happen to them:
//! cuts of either direction, crashes that forget what was not on the disk, stalls, witnesses that can't
//! be reached, orders.
//!
//! A world has so much of each to spend, and so long to live; within that every order of events is
//! tried. To show that the checker would find a mistake, it is let loose on worlds in which one rule is
//! broken from outside: see [`Broken`].

use std::{sync::Arc, time::Duration};

use evenkeel_core::{
    pair::{
        Event, Identity, Input, Kept, Order, Pair, Role,
        message::{Heard, Heartbeat, RoleSaid, TakeoverSaid},
        paths::Via,
        record::Kind,
        settings::{Failback, Limit, Paths, Settings, Timing},
        sync::Sync,
        term::{Slot, Term},
        version::Version,
        witness::Testimony,
    },
    time::Time,
};
use stateright::{Checker, HasDiscoveries, Model, Property};

/// From one moment to the next: half a heartbeat.
const TICK: Duration = Duration::from_millis(500);
/// Heartbeats each second, three of them a mate time-out, two of them a licence: the smallest pair that
/// has all the parts.
const TIMING: (Duration, Duration, u8) = (Duration::from_secs(1), Duration::from_secs(3), 2);
/// The mate time-out and the tie-breaker: five heartbeats.
const BOUND: u8 = 10;
/// The same, and what it takes to be followed or to be alone in a term that has begun meanwhile.
const SPEECH_BOUND: u8 = 13;

/// The place of late letters in what is spent.
const LATE: usize = 7;
/// The place of crashes.
const CRASHES: usize = 3;

fn at(tick: u8) -> Time {
    Time::from_secs(1_000_000) + TICK * u32::from(tick)
}

/// A rule that is broken from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broken {
    Nothing,
    /// A primary speaks whatever its licence says.
    SpeaksWithoutLicence,
    /// A standby acknowledges what it has not heard.
    AcknowledgesAnything,
    /// What is said to be on the disk is not there yet.
    DiskLies,
}

/// What a world may spend, and how long it lives.
#[derive(Clone, Copy, Debug)]
struct World {
    ticks: u8,
    /// What is under way, or being kept, for a tick and not only for a moment.
    late: u8,
    lost: u8,
    doubled: u8,
    cuts: u8,
    crashes: u8,
    stalls: u8,
    orders: u8,
    witness_changes: u8,
    witnesses: bool,
    /// Another automatic takeover than one is over the limit.
    limited: bool,
    /// Else both have just been started.
    settled: bool,
    broken: Broken,
    /// What is to happen in it, in one of its histories.
    shown: Shown,
}

type Shown = fn(&State) -> bool;

impl World {
    const PLAIN: World = World {
        ticks: 14,
        late: 0,
        lost: 0,
        doubled: 0,
        cuts: 0,
        crashes: 0,
        stalls: 0,
        orders: 0,
        witness_changes: 0,
        witnesses: false,
        limited: false,
        settled: true,
        broken: Broken::Nothing,
        shown: |_| true,
    };
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Letter {
    to: usize,
    heartbeat: Arc<Heartbeat>,
    sent: u8,
    /// Both were primary when it was sent, and have been since.
    of_two: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Agent {
    pair: Option<Pair>,
    run: u64,
    disk: Kept,
    /// What is on its way to the disk, and since when.
    keeping: Option<(Kept, u8)>,
    /// What has come while it stood still, and when.
    inbox: Option<Vec<(Letter, u8)>>,
    witnessed: bool,
    synced: bool,
    /// When it sent the newest heartbeat that the mate has taken in.
    acknowledged: Option<u8>,
    /// The newest heartbeat that it has taken in.
    newest: (u64, u64),
    /// It has taken in a heartbeat of the time in which both are primary.
    met: bool,
    automatic: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    tick: u8,
    ends: u8,
    /// The tick has just begun.
    fresh: bool,
    agents: [Agent; 2],
    letters: Vec<Letter>,
    /// By sender.
    cut: [bool; 2],
    /// What was spent, in the order of [`World::budget`].
    spent: [u8; 8],
    terms: Vec<Term>,
    twice: bool,
    was_split: bool,
    /// For how many ticks nothing was done to this world, and there was no primary, or nobody spoke,
    /// while somebody was well.
    ungoverned: u8,
    unspoken: u8,
    handed_over: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Tick,
    Deliver(usize),
    Lose(usize),
    Double(usize),
    Kept(usize),
    Cut(usize),
    CutBoth,
    Heal,
    Crash(usize),
    Start(usize),
    Stall(usize),
    Wake(usize),
    Failover(usize),
    Witness(usize),
}

impl World {
    fn settings(&self) -> Settings {
        let (heartbeat, timeout, missed) = TIMING;
        Settings {
            priority: 0,
            timing: Timing::new(heartbeat, timeout, missed).unwrap(),
            limit: self.limited.then(|| Limit::new(2, Duration::from_secs(3600)).unwrap()),
            failback: Failback::ByHand,
            paths: Paths::new(&["eth0"]).unwrap(),
            witnesses: self.witnesses,
        }
    }

    fn agent(&self) -> Agent {
        let mut disk = Kept::default();
        if self.limited {
            let age = Duration::from_secs(60);
            disk.takeovers = vec![TakeoverSaid { term: Term { number: 1, by: Slot::Zero }, age }];
            disk.known = Some(Term { number: 1, by: Slot::Zero });
        }
        Agent {
            pair: None,
            run: 0,
            disk,
            keeping: None,
            inbox: None,
            witnessed: true,
            synced: false,
            acknowledged: None,
            newest: (0, 0),
            met: false,
            automatic: 0,
        }
    }

    fn start(&self, state: &mut State, who: usize) {
        let agent = &mut state.agents[who];
        agent.run += 1;
        let slot = [Slot::Zero, Slot::One][who];
        let version = Version { major: 1, minor: 0, patch: 0 };
        let identity = Identity { slot, run: agent.run, version };
        let now = at(state.tick);
        agent.pair = Some(Pair::new(identity, self.settings(), &agent.disk, Duration::ZERO, now));
        (agent.synced, agent.newest, agent.met) = (false, (0, 0), false);
        self.turn(state, who);
    }

    /// Lets an agent look, and takes out what follows.
    fn turn(&self, state: &mut State, who: usize) {
        let now = at(state.tick);
        let agent = &mut state.agents[who];
        let Some(pair) = &mut agent.pair else { return };
        pair.handle(Input::Now(now));
        if let Some(asked) = pair.poll_ask()
            && agent.witnessed
        {
            pair.handle(Input::Witness { asked, testimony: Testimony::Answers, at: now });
            pair.handle(Input::Now(now));
        }
        let heartbeat = pair.poll_heartbeat();
        let mut new_term = false;
        let _ = (pair.poll_record(), pair.take_counters());
        while let Some(event) = pair.poll_event() {
            match event {
                Event::Role { term: Some(term), .. } => {
                    state.twice |= state.terms.contains(&term);
                    state.terms.push(term);
                    new_term = true;
                    state.terms.sort_unstable();
                }
                Event::TookOver(takeover) => match takeover.kind {
                    Kind::Automatic => agent.automatic += 1,
                    Kind::Ordered => state.handed_over = true,
                },
                Event::Role { term: None, .. }
                | Event::SteppedBack { .. }
                | Event::Finding(_)
                | Event::Done(_)
                | Event::Refused(..)
                | Event::RestartUnasked
                | Event::MateStarted { .. }
                | Event::Stalled { .. } => {}
            }
        }
        if let Some(kept) = pair.poll_keep() {
            if self.broken == Broken::DiskLies {
                pair.handle(Input::Kept { known: kept.known, at: now });
            }
            // What is on its way is overtaken by what is newer, and both are there in the end.
            let since = agent.keeping.as_ref().map_or(state.tick, |(_, since)| *since);
            agent.keeping = Some((kept, since));
        }
        // They meet anew when one of them is in another term.
        if new_term || !state.is_two() {
            state.part();
        }
        if let Some(heartbeat) = heartbeat
            && !state.cut[who]
            && state.agents[1 - who].pair.is_some()
        {
            let of_two = state.is_two();
            let heartbeat = Arc::new(heartbeat);
            state.letters.push(Letter { to: 1 - who, heartbeat, sent: state.tick, of_two });
        }
    }

    fn take_in(&self, state: &mut State, letter: &Letter, received: u8) {
        let who = letter.to;
        let mut heartbeat = (*letter.heartbeat).clone();
        if self.broken == Broken::AcknowledgesAnything
            && let Some(pair) = &state.agents[who].pair
        {
            let run = state.agents[who].run;
            let round = pair.last_round();
            heartbeat.heard = Some(Heard { run, round });
        }
        let newest = (heartbeat.run, heartbeat.round);
        let agent = &mut state.agents[who];
        let Some(pair) = &mut agent.pair else { return };
        if newest > agent.newest {
            agent.newest = newest;
            let primary = matches!(heartbeat.said.role, RoleSaid::Primary { .. });
            agent.met |= letter.of_two && primary;
        }
        if !agent.synced {
            agent.synced = true;
            let sync = Sync::InSync { events: 0, age: Duration::ZERO };
            pair.handle(Input::Sync { sync, at: at(state.tick) });
        }
        pair.handle(Input::Heartbeat { via: Via::Path(0), heartbeat, at: at(received) });
        let sender = &mut state.agents[1 - who];
        if sender.run == newest.0 {
            sender.acknowledged = sender.acknowledged.max(Some(letter.sent));
        }
    }

    fn speaks(&self, state: &State, who: usize) -> bool {
        let agent = &state.agents[who];
        let Some(pair) = agent.pair.as_ref().filter(|_| agent.inbox.is_none()) else {
            return false;
        };
        match self.broken {
            Broken::SpeaksWithoutLicence => pair.role() == Role::Primary,
            Broken::Nothing | Broken::AcknowledgesAnything | Broken::DiskLies => {
                pair.may_speak(at(state.tick))
            }
        }
    }

    fn is_well(&self, state: &State, who: usize) -> bool {
        let agent = &state.agents[who];
        let reaches = agent.witnessed || !self.witnesses;
        agent.inbox.is_none()
            && reaches
            && agent
                .pair
                .as_ref()
                .is_some_and(|pair| pair.suppressed_until(at(state.tick)).is_none())
    }

    /// Something was done to the world: what is slow is slow from now on.
    fn disturb(state: &mut State) {
        (state.ungoverned, state.unspoken) = (0, 0);
    }

    fn budget(&self) -> [u8; 8] {
        let World { lost, doubled, cuts, crashes, stalls, orders, witness_changes, late, .. } =
            *self;
        [lost, doubled, cuts, crashes, stalls, orders, witness_changes, late]
    }

    fn does_something(&self) -> bool {
        self.budget() != [0; 8]
    }

    fn spend(&self, state: &State, what: usize) -> bool {
        state.spent[what] < self.budget()[what]
    }
}

impl Agent {
    fn is_primary(&self) -> bool {
        self.pair.as_ref().is_some_and(|pair| pair.role() == Role::Primary)
    }
}

impl State {
    /// How much of what was sent or is being kept is late if the next tick comes.
    fn late(&self) -> u8 {
        let keeping = self.agents.iter().filter(|agent| {
            agent.inbox.is_none()
                && agent.keeping.as_ref().is_some_and(|(_, since)| *since == self.tick)
        });
        (self.letters.len() + keeping.count()) as u8
    }

    /// Whether something has been under way for as long as there is.
    fn is_overdue(&self) -> bool {
        let since = self.letters.iter().map(|letter| letter.sent);
        let awake = self.agents.iter().filter(|agent| agent.inbox.is_none());
        let keeping = awake.filter_map(|agent| agent.keeping.as_ref().map(|(_, since)| *since));
        since.chain(keeping).any(|since| since < self.tick)
    }

    /// What was said and heard so far is not of a time in which both are primary.
    fn part(&mut self) {
        let inboxes = self.agents.iter_mut().flat_map(|agent| agent.inbox.iter_mut().flatten());
        let waiting = inboxes.map(|(letter, _)| letter);
        waiting.chain(&mut self.letters).for_each(|letter| letter.of_two = false);
        self.agents.iter_mut().for_each(|agent| agent.met = false);
    }

    fn is_two(&self) -> bool {
        self.agents.iter().all(Agent::is_primary)
    }
}

impl Model for World {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let mut state = State {
            tick: 0,
            ends: 0,
            fresh: true,
            agents: [self.agent(), self.agent()],
            letters: Vec::new(),
            cut: [false; 2],
            spent: [0; 8],
            terms: Vec::new(),
            twice: false,
            was_split: false,
            ungoverned: 0,
            unspoken: 0,
            handed_over: false,
        };
        self.start(&mut state, 0);
        self.start(&mut state, 1);
        if self.settled {
            // The straight way to a settled pair: everything comes at once.
            let settled = |state: &State| {
                let role = |who: usize| state.agents[who].pair.as_ref().map(Pair::role);
                (0..2).any(|who| self.speaks(state, who)) && role(1) == Some(Role::Standby)
            };
            for _ in 0..100 {
                let quiet = state.letters.is_empty()
                    && state.agents.iter().all(|agent| agent.keeping.is_none());
                if quiet && settled(&state) {
                    break;
                }
                let action = if !state.letters.is_empty() {
                    Action::Deliver(0)
                } else if let Some(who) = (0..2).find(|who| state.agents[*who].keeping.is_some()) {
                    Action::Kept(who)
                } else {
                    Action::Tick
                };
                state = self.next_state(&state, action).expect("it can be done");
            }
            assert!(settled(&state), "{state:#?}");
        }
        (state.ends, state.fresh) = (state.tick + self.ticks, true);
        vec![state]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        // A settled pair is as it was two ticks ago, so the first that happens to it may as well happen
        // now. One that has just been started is settled soon.
        let calm = state.spent == [0; 8] && self.does_something();
        if state.tick >= state.ends || calm && state.tick + self.ticks > state.ends + 3 {
            return;
        }
        if state.late() <= self.late - state.spent[LATE] && !state.is_overdue() {
            actions.push(Action::Tick);
        }
        for place in 0..state.letters.len() {
            // Of two that are the same the first will do.
            if state.letters[..place].contains(&state.letters[place]) {
                continue;
            }
            actions.push(Action::Deliver(place));
            if self.spend(state, 0) {
                actions.push(Action::Lose(place));
            }
            if self.spend(state, 1) {
                actions.push(Action::Double(place));
            }
        }
        for who in 0..2 {
            let agent = &state.agents[who];
            if agent.keeping.is_some() && agent.inbox.is_none() {
                actions.push(Action::Kept(who));
            }
        }
        // What is done to the world is done as a tick begins: what is under way and what is being kept
        // may be so old that it was there before.
        if !state.fresh {
            return;
        }
        if self.spend(state, 2) {
            actions.extend([Action::Cut(0), Action::Cut(1), Action::CutBoth]);
        }
        if state.cut != [false; 2] {
            actions.push(Action::Heal);
        }
        for who in 0..2 {
            let agent = &state.agents[who];
            if agent.pair.is_none() {
                actions.push(Action::Start(who));
                continue;
            }
            if agent.inbox.is_some() {
                actions.push(Action::Wake(who));
                continue;
            }
            if self.spend(state, 3) {
                actions.push(Action::Crash(who));
            }
            if self.spend(state, 4) {
                actions.push(Action::Stall(who));
            }
            if self.spend(state, 5) {
                actions.push(Action::Failover(who));
            }
            if self.spend(state, 6) {
                actions.push(Action::Witness(who));
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        state.fresh = match action {
            Action::Tick => true,
            Action::Deliver(_) | Action::Lose(_) | Action::Double(_) | Action::Kept(_) => false,
            Action::Cut(_)
            | Action::CutBoth
            | Action::Heal
            | Action::Crash(_)
            | Action::Start(_)
            | Action::Stall(_)
            | Action::Wake(_)
            | Action::Failover(_)
            | Action::Witness(_) => last.fresh,
        };
        match action {
            Action::Tick => {
                state.spent[LATE] += state.late();
                state.tick += 1;
                for who in 0..2 {
                    if state.agents[who].inbox.is_none() {
                        self.turn(&mut state, who);
                    }
                }
                let well = (0..2).any(|who| self.is_well(&state, who));
                let governed = state.agents.iter().any(Agent::is_primary);
                let spoken = (0..2).any(|who| self.speaks(&state, who));
                state.ungoverned = if governed || !well { 0 } else { state.ungoverned + 1 };
                state.unspoken = if spoken || !well { 0 } else { state.unspoken + 1 };
            }
            Action::Deliver(place) => {
                let letter = state.letters.remove(place);
                let (who, now) = (letter.to, state.tick);
                match &mut state.agents[who].inbox {
                    Some(inbox) => inbox.push((letter, now)),
                    None => {
                        self.take_in(&mut state, &letter, now);
                        self.turn(&mut state, who);
                    }
                }
            }
            Action::Lose(place) => {
                state.letters.remove(place);
                state.spent[0] += 1;
                state.was_split = true;
                World::disturb(&mut state);
            }
            Action::Double(place) => {
                let letter = state.letters[place].clone();
                state.letters.push(letter);
                state.spent[1] += 1;
            }
            Action::Kept(who) => {
                let agent = &mut state.agents[who];
                let (kept, _) = agent.keeping.take()?;
                let known = kept.known;
                agent.disk = kept;
                if let Some(pair) = &mut agent.pair {
                    pair.handle(Input::Kept { known, at: at(last.tick) });
                }
                self.turn(&mut state, who);
            }
            Action::Cut(who) => {
                if state.cut[who] {
                    return None;
                }
                state.cut[who] = true;
                state.spent[2] += 1;
                state.was_split = true;
                World::disturb(&mut state);
            }
            Action::CutBoth => {
                state.cut = [true; 2];
                state.spent[2] += 1;
                state.was_split = true;
                World::disturb(&mut state);
            }
            Action::Heal => {
                state.cut = [false; 2];
                World::disturb(&mut state);
            }
            Action::Crash(who) => {
                let agent = &mut state.agents[who];
                (agent.pair, agent.keeping, agent.acknowledged) = (None, None, None);
                state.letters.retain(|letter| letter.to != who);
                state.spent[3] += 1;
                self.turn(&mut state, who);
                World::disturb(&mut state);
            }
            Action::Start(who) => {
                self.start(&mut state, who);
                World::disturb(&mut state);
            }
            Action::Stall(who) => {
                state.agents[who].inbox = Some(Vec::new());
                state.spent[4] += 1;
                World::disturb(&mut state);
            }
            Action::Wake(who) => {
                for (letter, received) in state.agents[who].inbox.take()? {
                    self.take_in(&mut state, &letter, received);
                }
                self.turn(&mut state, who);
                World::disturb(&mut state);
            }
            Action::Failover(who) => {
                let now = at(state.tick);
                let pair = state.agents[who].pair.as_mut()?;
                pair.handle(Input::Order { order: Order::Failover, at: now });
                state.spent[5] += 1;
                self.turn(&mut state, who);
                World::disturb(&mut state);
            }
            Action::Witness(who) => {
                state.agents[who].witnessed ^= true;
                state.spent[6] += 1;
                World::disturb(&mut state);
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<World>> {
        vec![
            Property::always("two primaries that have met are one", |_, state: &State| {
                !(state.is_two() && state.agents.iter().all(|agent| agent.met))
            }),
            Property::always("of two that speak each is alone", |world: &World, state: &State| {
                let both = (0..2).all(|who| world.speaks(state, who));
                let alone = |agent: &Agent| agent.pair.as_ref().is_some_and(Pair::is_alone);
                !both || state.agents.iter().all(alone)
            }),
            Property::always(
                "who speaks is acknowledged or alone",
                |world: &World, state: &State| {
                    (0..2).all(|who| {
                        let agent = &state.agents[who];
                        let alone = agent.pair.as_ref().is_some_and(Pair::is_alone);
                        let acknowledged = agent
                            .acknowledged
                            .is_some_and(|sent| TICK * u32::from(state.tick - sent) < TIMING.1);
                        !world.speaks(state, who) || alone || acknowledged
                    })
                },
            ),
            Property::always("somebody is primary in time", |_, state: &State| {
                state.ungoverned <= BOUND
            }),
            Property::always("somebody speaks in time", |_, state: &State| {
                state.unspoken <= SPEECH_BOUND
            }),
            Property::always("no term is used twice", |_, state: &State| !state.twice),
            Property::always("the limit is kept", |world: &World, state: &State| {
                let [zero, one] = [0, 1].map(|who: usize| state.agents[who].automatic);
                let pair = if state.was_split { zero.max(one) } else { zero + one };
                !world.limited || pair <= 1
            }),
            Property::always("there is no storm of heartbeats", |_, state: &State| {
                let rounds =
                    |agent: &Agent| agent.pair.as_ref().map_or(0, |pair| pair.last_round());
                state.agents.iter().all(|agent| rounds(agent) < 2 * u64::from(state.tick) + 10)
            }),
            Property::sometimes("what is to be shown happens", |world: &World, state: &State| {
                (world.shown)(state)
            }),
        ]
    }
}

/// Tries everything, and says how much that was.
fn explore(name: &str, world: World) -> impl Checker<World> {
    let whole = world.broken == Broken::Nothing;
    let builder = world.checker().threads(1);
    let builder = if whole { builder } else { builder.finish_when(HasDiscoveries::AnyFailures) };
    let checker = builder.spawn_bfs().join();
    println!(
        "{name}: {} states, {} of them different, {} steps deep",
        checker.state_count(),
        checker.unique_state_count(),
        checker.max_depth(),
    );
    checker
}

/// Whatever happens in these worlds, what must always be so is so; and what they are there for does
/// happen in them.
#[test]
fn pair_16_no_order_of_events_breaks_a_rule() {
    let plain = World::PLAIN;
    let starts = World { settled: false, ..plain };
    let witnessed = World { witnesses: true, witness_changes: 1, ..plain };
    let limited = World { limited: true, ..plain };
    let governed: Shown = |state| state.agents.iter().any(Agent::is_primary);
    let split: Shown = State::is_two;
    let meet: Shown = |state| state.is_two() && state.agents.iter().any(|agent| agent.met);
    let takeover: Shown = |state| state.agents.iter().any(|agent| agent.automatic > 0);
    let ordered: Shown = |state| state.handed_over;
    let steps_back: Shown = |state| !state.agents[0].is_primary() && state.agents[1].is_primary();
    let suppressed: Shown = |state| state.agents[1].automatic == 1 && state.spent[CRASHES] == 2;
    for (name, world, shown) in [
        ("starts, late", World { late: 2, ..starts }, governed),
        ("starts, a crash", World { late: 1, crashes: 1, ..starts }, governed),
        ("starts, a cut", World { cuts: 1, ..starts }, split),
        ("losses and copies", World { lost: 3, doubled: 1, late: 1, ticks: 16, ..plain }, governed),
        ("two cuts", World { cuts: 2, ticks: 20, ..plain }, meet),
        ("a cut, late", World { cuts: 1, late: 2, ticks: 18, ..plain }, meet),
        ("a cut, witnesses", World { cuts: 1, ticks: 18, ..witnessed }, steps_back),
        ("two crashes", World { crashes: 2, ticks: 16, ..plain }, takeover),
        ("two crashes, limited", World { crashes: 2, ticks: 16, ..limited }, suppressed),
        ("two stalls", World { stalls: 2, ticks: 18, ..plain }, takeover),
        ("a stall, late", World { stalls: 1, late: 2, ticks: 16, ..plain }, takeover),
        ("an order, late", World { orders: 1, late: 2, ..plain }, ordered),
        ("a cut and a crash", World { cuts: 1, crashes: 1, ticks: 16, ..plain }, meet),
        ("an order and a crash", World { orders: 1, crashes: 1, ..plain }, ordered),
    ] {
        explore(name, World { shown, ..world }).assert_properties();
    }
}

/// The checker finds a mistake where there is one.
#[test]
fn pair_16_a_broken_rule_is_found() {
    for (broken, property, world) in [
        (
            Broken::SpeaksWithoutLicence,
            "of two that speak each is alone",
            World { cuts: 1, ..World::PLAIN },
        ),
        (
            Broken::AcknowledgesAnything,
            "who speaks is acknowledged or alone",
            World { cuts: 1, ..World::PLAIN },
        ),
        (
            Broken::DiskLies,
            "no term is used twice",
            World { settled: false, crashes: 1, late: 2, ..World::PLAIN },
        ),
    ] {
        let checker = explore(property, World { broken, ..world });
        let path = checker.discovery(property);
        let path = path.unwrap_or_else(|| panic!("{broken:?}: {:?}", checker.discoveries().keys()));
        println!("{broken:?}: {:?}", path.into_actions());
    }
}
