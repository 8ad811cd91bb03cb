//! The task that keeps the peer monitor in step with its configuration and its files: who is wanted
//! goes into the roster, what follows from that goes to the engine, and who wants to see it asks here.
//!
//! ```text
//!  reload ────> ┌─────────┐ ──changes, settings──> engine ──findings──> driver
//!  files ─────> │ manager │                         │
//!  questions ─> └─────────┘ ──looks─────────────────┘
//!                 roster: who is admitted, and under which labels
//! ```
//!
//! Without a group there is no engine, no thread and no socket.

use std::{
    collections::BTreeMap,
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use evenkeel_core::{
    alarm::{Alarm, ClearReason, Kind, Object},
    finding::Finding,
    peers::{
        Change, Standing, StandingChange,
        budget::{self, Overrun},
        roster::Roster,
        settings::{Group, Settings},
    },
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::interval,
};
use tracing::{error, info, warn};

use super::{
    engine::{Engine, OpenError, Start},
    view::{Admission, FileView, PeersView, Rows},
    watch::{Sources, Watch, patterns, wanted},
};
use crate::{clock::Clock, config};

/// How many questions may wait.
const QUESTIONS: usize = 64;

/// Clears for peers that nobody names any more after a restart leave as the monitor's findings do:
/// so many at a time (PEER-10).
const CLEARS: (usize, Duration) = (100, Duration::from_millis(100));

/// The way to the manager.
#[derive(Clone, Debug)]
pub struct Peers {
    questions: mpsc::Sender<Question>,
}

enum Question {
    Look { rows: Rows, to: oneshot::Sender<Option<Box<PeersView>>> },
    Reload { config: Box<config::Peers>, to: oneshot::Sender<Result<(), ReloadError>> },
    Lead { alarms: Raised, to: oneshot::Sender<()> },
    Follow { to: oneshot::Sender<()> },
    Stop { to: oneshot::Sender<()> },
}

/// Why another configuration does not take hold.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// A socket that it needs can't be had.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// More peers are monitored than its limits say, which stay (PEER-6), and its batches can't carry
    /// them (PEER-8).
    #[error("{monitored} peers are monitored, more than monitor_max_peers: {message}; {help}")]
    Overrun {
        /// How many.
        monitored: u32,
        /// The sum that does not fit.
        message: String,
        /// What would.
        help: String,
    },
}

/// What an earlier run, or the mate, has left active.
#[derive(Debug, Default)]
pub struct Raised {
    down: Vec<IpAddr>,
    mass_silence: bool,
    standings: BTreeMap<IpAddr, Standing>,
}

impl Raised {
    /// The alarms of peers among these.
    pub fn of<'a>(alarms: impl Iterator<Item = &'a Alarm>) -> Raised {
        let mut raised = Raised::default();
        for alarm in alarms {
            match (alarm.kind, &alarm.object) {
                (Kind::PeerDown, Object::Peer(address)) => raised.down.push(*address),
                (Kind::MassSilence, _) => raised.mass_silence = true,
                _ => {}
            }
        }
        raised
    }

    /// Beside them, where peers stand as the mate knew it (PAIR-11).
    #[must_use]
    pub fn with_standings(self, standings: BTreeMap<IpAddr, Standing>) -> Raised {
        Raised { standings, ..self }
    }
}

/// What the manager begins with.
pub struct Beginning {
    /// Peers are polled from the start; of a pair not before this agent is primary (PAIR-1).
    pub leads: bool,
    /// The section `[peers]`.
    pub config: config::Peers,
    /// How often this agent has been started (PEER-15).
    pub starts: u32,
    /// Takes what is found.
    pub findings: mpsc::UnboundedSender<Vec<Finding>>,
    /// Of a pair: takes what the mate is to know of the peers (PAIR-11).
    pub standings: Option<mpsc::UnboundedSender<Vec<StandingChange>>>,
}

impl Peers {
    /// Reads the files, admits who is wanted, and begins to watch them. `alarms` are those that an
    /// earlier run has left active.
    pub async fn start<'a>(beginning: Beginning, alarms: impl Iterator<Item = &'a Alarm>) -> Peers {
        let Beginning { leads, config, starts, findings, standings } = beginning;
        let Raised { down, mass_silence, .. } = Raised::of(alarms);
        let (watch, sources) = super::watch::start(patterns(&config)).await;
        let mut manager = Manager {
            settings: Arc::new(config.settings.clone()),
            leads,
            config,
            starts,
            findings,
            standings,
            mass_silence,
            roster: Arc::new(Roster::new(down)),
            admission: Arc::default(),
            told: Vec::new(),
            watch,
            sources,
            engine: None,
            refused: None,
        };
        manager.begin();
        let (questions, asked) = mpsc::channel(QUESTIONS);
        tokio::spawn(manager.run(asked));
        Peers { questions }
    }

    /// What there is to see, with each peer or without; nothing if no group is configured.
    pub async fn look(&self, rows: Rows) -> Option<Box<PeersView>> {
        let (to, answer) = oneshot::channel();
        self.questions.send(Question::Look { rows, to }).await.ok()?;
        answer.await.ok().flatten()
    }

    /// Has another configuration take hold.
    ///
    /// # Errors
    ///
    /// See [`ReloadError`]; then the one before stays in force.
    pub async fn reload(&self, config: config::Peers) -> Result<(), ReloadError> {
        let (to, answer) = oneshot::channel();
        let reload = Question::Reload { config: Box::new(config), to };
        if self.questions.send(reload).await.is_err() {
            return Ok(());
        }
        answer.await.unwrap_or(Ok(()))
    }

    /// Begins to poll, of a pair, as this agent has become primary. `alarms` are those that are active.
    pub async fn lead(&self, alarms: Raised) {
        let (to, answer) = oneshot::channel();
        if self.questions.send(Question::Lead { alarms, to }).await.is_ok() {
            let _ = answer.await;
        }
    }

    /// Ends the monitoring until this agent leads again. Alarms stay as they are.
    pub async fn follow(&self) {
        let (to, answer) = oneshot::channel();
        if self.questions.send(Question::Follow { to }).await.is_ok() {
            let _ = answer.await;
        }
    }

    /// Ends the monitoring. Alarms stay as they are.
    pub async fn stop(&self) {
        let (to, answer) = oneshot::channel();
        if self.questions.send(Question::Stop { to }).await.is_ok() {
            let _ = answer.await;
        }
    }
}

struct Manager {
    leads: bool,
    config: config::Peers,
    settings: Arc<Settings>,
    starts: u32,
    findings: mpsc::UnboundedSender<Vec<Finding>>,
    standings: Option<mpsc::UnboundedSender<Vec<StandingChange>>>,
    /// The alarm of an earlier run, until an engine has it.
    mass_silence: bool,
    roster: Arc<Roster>,
    admission: Arc<[Admission]>,
    /// The problems of files that have been told.
    told: Vec<String>,
    watch: Watch,
    sources: watch::Receiver<Arc<Sources>>,
    engine: Option<Engine>,
    /// Why there is no engine though there are groups.
    refused: Option<String>,
}

impl Manager {
    async fn run(mut self, mut asked: mpsc::Receiver<Question>) {
        loop {
            tokio::select! {
                question = asked.recv() => match question {
                    Some(Question::Look { rows, to }) => self.look(rows, to),
                    Some(Question::Reload { config, to }) => {
                        // Whoever asked may have gone.
                        let _ = to.send(self.reload(*config).await);
                    }
                    Some(Question::Lead { alarms, to }) => {
                        self.lead(alarms);
                        let _ = to.send(());
                    }
                    Some(Question::Follow { to }) => {
                        self.step_back();
                        let _ = to.send(());
                    }
                    Some(Question::Stop { to }) => {
                        // Stopping waits for the thread.
                        tokio::task::block_in_place(|| drop(self.engine.take()));
                        let _ = to.send(());
                        return;
                    }
                    None => return,
                },
                Ok(()) = self.sources.changed() => self.follow(),
            }
        }
    }

    fn begin(&mut self) {
        if let Err(denied) = self.start_engine() {
            warn!("no peer is watched: {denied}");
            self.refused = Some(format!("no peer is watched: {denied}"));
        }
        self.follow();
    }

    /// PEER-6: who is admitted is decided anew, as at a start.
    fn lead(&mut self, alarms: Raised) {
        if std::mem::replace(&mut self.leads, true) {
            return;
        }
        self.roster = Arc::new(Roster::new(alarms.down).with_standings(alarms.standings));
        self.mass_silence = alarms.mass_silence;
        self.begin();
    }

    /// Nobody is polled from here any more, and the alarms are the mate's.
    fn step_back(&mut self) {
        self.leads = false;
        // Stopping waits for the thread.
        tokio::task::block_in_place(|| drop(self.engine.take()));
        self.roster = Arc::new(Roster::new(Vec::new()));
        self.admission = Arc::default();
        self.mass_silence = false;
    }

    /// Starts the engine if there is something to do for it.
    fn start_engine(&mut self) -> Result<(), OpenError> {
        if self.engine.is_some() || !self.leads {
            return Ok(());
        }
        if self.settings.groups.is_empty() {
            if std::mem::take(&mut self.mass_silence) {
                let now = Clock::now();
                let (kind, object) = (Kind::MassSilence, Object::PeerMonitor);
                self.tell(vec![Finding::clear(kind, object, ClearReason::TurnedOff, now)]);
            }
            return Ok(());
        }
        let engine = Engine::start(Start {
            settings: Settings::clone(&self.settings),
            seed: RandomState::new().hash_one(std::process::id()),
            receive_buffer: usize::try_from(self.config.receive_buffer).unwrap_or(usize::MAX),
            mass_silence: std::mem::take(&mut self.mass_silence),
            restart_counter: self.starts,
            findings: self.findings.clone(),
            standings: self.standings.clone(),
        })?;
        self.engine = Some(engine);
        self.refused = None;
        Ok(())
    }

    async fn reload(&mut self, config: config::Peers) -> Result<(), ReloadError> {
        may_carry(&config.settings, self.roster.admitted())?;
        let settings = Arc::new(config.settings.clone());
        if let Some(engine) = &mut self.engine {
            engine.reconfigure(config.settings.clone())?;
        }
        self.settings = settings;
        self.config = config;
        self.start_engine()?;
        self.watch.follow(patterns(&self.config)).await;
        self.sources.mark_unchanged();
        self.follow();
        Ok(())
    }

    /// Takes in who is wanted now.
    fn follow(&mut self) {
        if !self.leads || self.engine.is_none() && !self.settings.groups.is_empty() {
            // Whoever was admitted now would be unknown to an engine that comes later.
            return;
        }
        let sources = self.sources.borrow_and_update().clone();
        let wanted = wanted(&self.config, &sources);
        let limits: Vec<u32> = self.settings.groups.iter().map(|group| group.limit).collect();
        let roster = Arc::make_mut(&mut self.roster);
        let (changes, gone) = match sources.complete {
            true => roster.update(&limits, wanted),
            false => (roster.update_in_part(&limits, wanted), Vec::new()),
        };
        self.admission = Admission::count(roster, self.settings.groups.len());
        self.say(&changes, &sources);
        if let Some(engine) = &self.engine {
            engine.apply(changes);
        }
        if !gone.is_empty() {
            tokio::spawn(clear(gone, self.findings.clone()));
        }
    }

    /// Who is watched, and what is wrong with files: once, and not by what the network does.
    fn say(&mut self, changes: &[Change], sources: &Sources) {
        for problem in sources.all_problems().filter(|problem| !self.told.contains(problem)) {
            error!("{problem}");
        }
        self.told = sources.all_problems().cloned().collect();
        if !changes.is_empty() {
            let admitted: u32 = self.admission.iter().map(|group| group.admitted).sum();
            let refused: u32 = self.admission.iter().map(|group| group.refused).sum();
            info!(admitted, refused, "peers");
        }
    }

    fn look(&self, rows: Rows, to: oneshot::Sender<Option<Box<PeersView>>>) {
        if self.settings.groups.is_empty() && self.engine.is_none() {
            let _ = to.send(None);
            return;
        }
        let peers = match rows {
            Rows::None => false,
            Rows::OfSeries => self.config.metrics != config::PeerMetrics::None,
            Rows::All => true,
        };
        let look = self.engine.as_ref().map(|engine| engine.look(peers));
        let (settings, roster) = (self.settings.clone(), self.roster.clone());
        let admission = self.admission.clone();
        let sources = self.sources.borrow().clone();
        let mut problems: Vec<String> = self.refused.iter().cloned().collect();
        problems.extend(sources.problems.iter().cloned());
        let files = self.files(&sources);
        let readings = [sources.readings, sources.failures];
        let series = self.config.metrics;
        tokio::spawn(async move {
            let look = match look {
                Some(look) => look.await.ok(),
                None => None,
            };
            let at = Clock::both();
            let (stats, peers, engine) =
                look.map(|look| (look.stats, look.peers, look.engine)).unwrap_or_default();
            let view = PeersView {
                at: at.time,
                wall: at.wall_time(),
                settings,
                stats,
                peers,
                roster,
                admission,
                engine,
                files,
                readings,
                problems,
                series,
            };
            // Whoever asked may have gone.
            let _ = to.send(Some(Box::new(view)));
        });
    }

    /// The files that are followed, group by group.
    fn files(&self, sources: &Sources) -> Arc<[FileView]> {
        let of = |(group, source): (&Group, &config::GroupSources)| -> Vec<FileView> {
            let files = source.files.iter().flat_map(|pattern| sources.files_of(pattern));
            files
                .map(|(path, peers, problem)| FileView {
                    path: path.display().to_string(),
                    group: group.name.clone(),
                    peers,
                    problem: problem.map(str::to_owned),
                })
                .collect()
        };
        self.settings.groups.iter().zip(&self.config.sources).flat_map(of).collect()
    }

    fn tell(&self, findings: Vec<Finding>) {
        // The driver goes last.
        let _ = self.findings.send(findings);
    }
}

/// PEER-6, PEER-8: whether the batches carry those who are monitored and stay so, though a limit was
/// lowered below their number.
fn may_carry(settings: &Settings, monitored: u32) -> Result<(), ReloadError> {
    let mut stays = settings.clone();
    stays.groups.iter_mut().for_each(|group| group.limit = group.limit.max(monitored));
    budget::check(&stays).map_err(|Overrun { message, help, .. }| ReloadError::Overrun {
        monitored,
        message,
        help,
    })
}

/// Clears the alarms of peers that an earlier run found down and that are not watched any more
/// (PEER-13).
async fn clear(gone: Vec<IpAddr>, findings: mpsc::UnboundedSender<Vec<Finding>>) {
    let (at_once, pause) = CLEARS;
    let mut pause = interval(pause);
    for some in gone.chunks(at_once) {
        pause.tick().await;
        let now = Clock::now();
        let clear = |address: &IpAddr| {
            Finding::clear(Kind::PeerDown, Object::Peer(*address), ClearReason::Removed, now)
        };
        if findings.send(some.iter().map(clear).collect()).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_stays_though_the_limit_was_lowered_must_be_carried_peer_6_peer_8() {
        let settings = |limit, secs| {
            let interval = Duration::from_secs(secs);
            let group = Group { limit, interval, ..Group::named("all") };
            Settings { groups: vec![group], ..Settings::default() }
        };
        for (limit, secs, monitored, may) in [
            (10_000, 5, 0, true),
            (10_000, 5, 10_000, true),
            // Lowered from 128,000, and asked more often at once.
            (10_000, 5, 128_000, false),
            (10_000, 60, 128_000, true),
        ] {
            let carried = may_carry(&settings(limit, secs), monitored);
            assert_eq!(carried.is_ok(), may, "{limit} {secs} {monitored}: {carried:?}");
        }
        let error = may_carry(&settings(10_000, 5), 128_000).unwrap_err().to_string();
        assert!(error.starts_with("128000 peers are monitored, more than"), "{error}");
    }
}
