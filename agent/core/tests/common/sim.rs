//! An agent with a driver that does what the contract asks, on a clock that does what it is told.

use std::{net::IpAddr, time::Duration};

use evenkeel_core::{
    agent::Agent,
    input::{Answer, Datagram, Door, Ear, Event, Input, Taken},
    settings::{Access, Community, Settings},
    state::State,
    time::Time,
    usm::{EngineId, Level, LocalEngine, User},
};
use proptest::test_runner::Config as ProptestConfig;

use super::ber::LOCAL_ENGINE;

/// The origin of the simulated clock lies this far before the first moment of a test, so that
/// what happened before it has a moment too.
pub const START: Time = Time::from_secs(1_000_000);

/// A moment of a test: this many milliseconds after [`START`].
pub fn at(millis: u64) -> Time {
    START + Duration::from_millis(millis)
}

/// So many cases; a failure is told with its smallest input, and no file is kept of it: it becomes
/// a test of its own.
pub fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// Settings that let anyone send, with the shipped analysis. By SNMPv3 it is the user `public`.
pub fn open_settings() -> Settings {
    let anyone = Community { name: None, sources: Vec::new() };
    let public = User {
        name: b"public".to_vec(),
        auth: None,
        privacy: None,
        min_level: Level::NoAuthNoPriv,
        engines: Vec::new(),
        learn: true,
    };
    let access = Access { communities: vec![anyone], users: vec![public], ..Access::default() };
    Settings { access, ..Settings::default() }
}

/// An agent and its driver.
pub struct Sim {
    /// The agent.
    pub agent: Agent,
    /// What came out of it, in order.
    pub events: Vec<Event>,
    /// What went back to senders.
    pub answers: Vec<Answer>,
    /// What went on.
    pub taken: Vec<Taken>,
    settings: Settings,
}

impl Sim {
    /// An agent that knows nothing.
    pub fn new(settings: Settings) -> Sim {
        let agent = new_agent(&settings);
        Sim { agent, events: Vec::new(), answers: Vec::new(), taken: Vec::new(), settings }
    }

    /// Hands in one input, and takes out what came of it.
    pub fn feed(&mut self, input: &Input<'_>) {
        if let Input::Settings { settings, .. } = input {
            self.settings = Settings::clone(settings);
        }
        self.agent.handle(input);
        self.drain();
    }

    /// Takes out what there is.
    pub fn drain(&mut self) {
        self.events.extend(std::iter::from_fn(|| self.agent.poll_event()));
        self.answers.extend(std::iter::from_fn(|| self.agent.poll_answer()));
        self.taken.extend(std::iter::from_fn(|| self.agent.poll_taken()));
    }

    /// A datagram.
    pub fn datagram(&mut self, source: IpAddr, received: Time, bytes: &[u8]) {
        let source = (source, 40_000).into();
        self.feed(&Input::Datagram(Datagram { source, received, door: Door::default(), bytes }));
    }

    /// All traps received before `up_to` have been handed in.
    pub fn heard(&mut self, up_to: Time) {
        self.feed(&Input::Heard { ear: Ear::Traps, up_to, lost: 0, limited: 0 });
    }

    /// Stops the agent at `stop` and begins another with a copy of its state at `now`, all of the
    /// time between having been deaf.
    pub fn restart(&mut self, stop: Time, now: Time) {
        let state = self.agent.export(stop);
        self.begin_with(state, now.since(stop), now);
    }

    /// Begins another agent with a state that is `age` old.
    pub fn begin_with(&mut self, mut state: State, age: Duration, now: Time) {
        for record in &mut state.records {
            record.age += age;
        }
        self.agent = new_agent(&self.settings);
        self.agent.restore(state, age, now);
        self.drain();
    }
}

fn new_agent(settings: &Settings) -> Agent {
    Agent::new(settings.clone(), local_engine(), 7, 99)
}

/// The agent's own engine in tests: in its third run, since [`START`].
pub fn local_engine() -> LocalEngine {
    let id = EngineId::new(&LOCAL_ENGINE).expect("13 octets");
    LocalEngine { id, boots: 3, started: START }
}
