//! Watches over the parts of this agent (PAIR-9): a thread of its own looks twice a second whether each has
//! given a sign of life, and does what the rules in [`supervision`](evenkeel_core::supervision) say.
//!
//! ```text
//!  parts' loops ──signs──> pulse ──> thread "supervisor" ──> alarms: component_stalled
//!                                     Supervision (core)  ──> pair: parts fail
//!  pair: taken over, nobody ────────>                     ──> systemd's watchdog
//!                                        │                └─> the end of the process
//!                                        └──> thread "scribe": log, <state_dir>/stalls/*.json
//! ```
//!
//! The supervisor must not stand still because another part does. So it takes no lock that a part holds for
//! long, and neither logs nor writes: standard error and the disk may be what does not move. Who does that
//! is the scribe, whom nobody waits for longer than a moment. A supervisor that stalls itself is caught by
//! systemd's watchdog, which is fed here and nowhere else. `README.md` beside this file is for operators.

mod alarm;
pub mod crash;
mod end;
pub mod hang;
pub mod lines;
pub mod outbox;
pub mod pulse;
mod report;
mod scribe;
mod state;
mod threads;

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use evenkeel_core::{
    finding::Finding,
    supervision::{Event, Part, PartState, Settings, Sign, Stall, Supervision},
    time::Time,
};
use tokio::sync::mpsc::UnboundedSender;

use self::{
    report::{Cause, PartReport},
    scribe::Scribe,
};
use crate::{clock::Clock, service};

pub use self::{report::tell_untold, state::state};

/// How long the end waits for the report: what is not on the disk by then does not get there.
const LAST_CALL: Duration = Duration::from_secs(1);

/// What a supervisor begins with.
pub struct Beginning {
    /// The section `[supervision]`.
    pub settings: Settings,
    /// Where the reports go.
    pub state_dir: PathBuf,
    /// The agent's name.
    pub agent: String,
    /// Tells what waits and what fails, for a report. Called on the scribe's thread.
    pub state: Box<dyn Fn() -> serde_json::Value + Send>,
    /// Takes what becomes an alarm.
    pub findings: UnboundedSender<Vec<Finding>>,
    /// Tells the pair's thread whether parts fail; nothing for an agent that is alone.
    pub tell_pair: Option<Box<dyn Fn(bool) + Send>>,
}

/// How one part fares.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PartView {
    /// Which.
    pub part: Part,
    /// It does not count as stalled.
    pub up: bool,
    /// How long ago it was last seen to have given a sign.
    pub silent: Duration,
    /// How often it has stalled.
    pub stalls: u64,
}

/// The way to the supervisor. Never blocks.
#[derive(Clone, Debug)]
pub struct SupervisorHandle {
    inbox: Sender<Word>,
    view: Arc<Mutex<View>>,
}

/// What the latest look has shown: the parts, with how often each has stalled.
type View = Vec<(Part, PartState, u64)>;

/// What the supervisor is told.
enum Word {
    NobodyTakesOver,
    HandedOver,
    StandDown,
}

/// Begins to watch over all parts that have begun.
///
/// # Errors
///
/// The kernel refuses a thread.
pub fn start(beginning: Beginning) -> io::Result<SupervisorHandle> {
    let Beginning { settings, state_dir, agent, state, findings, tell_pair } = beginning;
    let (inbox, words) = mpsc::channel();
    let view = Arc::new(Mutex::new(Vec::new()));
    let supervisor = Supervisor {
        machine: Supervision::new(settings, tell_pair.is_some()),
        scribe: scribe::start(state_dir, agent, state)?,
        findings,
        tell_pair,
        view: Arc::clone(&view),
        watchdog: service::watchdog().map(|period| (period / 3, None)),
    };
    thread::Builder::new().name("supervisor".to_owned()).spawn(move || supervisor.run(&words))?;
    Ok(SupervisorHandle { inbox, view })
}

impl SupervisorHandle {
    /// The pair's machine says that this agent is to restart without asking.
    pub fn nobody_takes_over(&self) {
        self.tell(Word::NobodyTakesOver);
    }

    /// The mate has taken over.
    pub fn handed_over(&self) {
        self.tell(Word::HandedOver);
    }

    /// This agent begins to stop in an orderly way.
    pub fn stand_down(&self) {
        self.tell(Word::StandDown);
    }

    /// How each part fares.
    pub fn parts(&self) -> Vec<PartView> {
        let now = Clock::now();
        let view = self.view.lock().unwrap_or_else(PoisonError::into_inner);
        let each = |(part, state, stalls): &(Part, PartState, u64)| PartView {
            part: *part,
            up: !state.stalled,
            silent: now.since(state.last_sign),
            stalls: *stalls,
        };
        view.iter().map(each).collect()
    }

    fn tell(&self, word: Word) {
        // It is there as long as the process.
        let _ = self.inbox.send(word);
    }
}

/// All that the thread owns.
struct Supervisor {
    machine: Supervision,
    scribe: Scribe,
    findings: UnboundedSender<Vec<Finding>>,
    tell_pair: Option<Box<dyn Fn(bool) + Send>>,
    view: Arc<Mutex<View>>,
    /// A third of the watchdog's period, if there is one, and when it was last fed.
    watchdog: Option<(Duration, Option<Instant>)>,
}

impl Supervisor {
    fn run(mut self, words: &Receiver<Word>) {
        loop {
            let now = Clock::now();
            if now >= self.machine.due() {
                self.look(now);
            }
            self.feed_watchdog();
            let mut wait = self.machine.due().since(Clock::now());
            if let Some((third, _)) = self.watchdog {
                wait = wait.min(third);
            }
            match words.recv_timeout(wait) {
                Ok(Word::NobodyTakesOver) => self.machine.nobody_takes_over(Clock::now()),
                Ok(Word::HandedOver) => self.machine.handed_over(Clock::now()),
                Ok(Word::StandDown) => self.machine.stand_down(),
                Err(RecvTimeoutError::Timeout) => {}
                // Whoever started it is gone, and the process soon will be.
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.follow();
        }
    }

    fn look(&mut self, now: Time) {
        let signs = Part::ALL.map(|part| {
            let sign = pulse::sign(part)?;
            Some(Sign { at_disk: sign.at_disk && self.waits(part, sign), ..sign })
        });
        self.machine.look(&signs, now);
        self.show();
        self.follow();
    }

    /// Whether a part that may be waiting for the disk does so: one that runs all the time does not. Only of
    /// one that has missed a sign, as it takes a look into /proc.
    fn waits(&self, part: Part, sign: Sign) -> bool {
        let silent = self.machine.part(part).is_some_and(|state| state.sign.count == sign.count);
        !silent || !pulse::thread(part).is_some_and(threads::is_running)
    }

    fn show(&self) {
        let views = Part::ALL
            .into_iter()
            .filter_map(|part| Some((part, *self.machine.part(part)?, self.machine.stalls(part))));
        let views = views.collect();
        *self.view.lock().unwrap_or_else(PoisonError::into_inner) = views;
    }

    /// Does what the rules say.
    fn follow(&mut self) {
        while let Some(event) = self.machine.poll_event() {
            match event {
                Event::Stalled(stall) => self.stalled(stall),
                Event::Recovered { part, silent, at } => {
                    let _ = self.findings.send(vec![alarm::clear(part, at)]);
                    self.scribe.recovered(part, silent);
                }
                Event::TellPair { failing } => {
                    if let Some(tell) = &self.tell_pair {
                        tell(failing);
                    }
                }
                Event::End(part) => {
                    self.scribe.ends(part);
                    self.scribe.wait(LAST_CALL);
                    end::restart();
                }
            }
        }
    }

    fn stalled(&self, stall: Stall) {
        let Stall { part, silent, at_disk, at } = stall;
        // The core may be what stalled; then the next start tells it, from the report.
        let _ = self.findings.send(vec![alarm::raise(part, stall.detail(), at)]);
        let cause = Cause::Stall {
            part: part.name(),
            thread: pulse::thread(part),
            silent_seconds: silent.as_secs_f64(),
            at_disk,
        };
        let parts = Part::ALL.into_iter().filter_map(|part| {
            let state = self.machine.part(part)?;
            Some(PartReport {
                part: part.name(),
                last_sign_seconds: at.since(state.last_sign).as_secs_f64(),
                missed: state.missed,
                stalled: state.stalled,
                at_disk: state.sign.at_disk,
                thread: pulse::thread(part),
            })
        });
        self.scribe.stalled(stall, cause, parts.collect());
    }

    /// Says that the agent is alive, three times in each period of the watchdog, while it is.
    fn feed_watchdog(&mut self) {
        let Some((third, fed)) = &mut self.watchdog else { return };
        if self.machine.is_well() && fed.is_none_or(|fed| fed.elapsed() >= *third) {
            *fed = Some(Instant::now());
            service::alive();
        }
    }
}
