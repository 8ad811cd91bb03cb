//! What the page, the control socket and the signals share: the way to the driver, and what only
//! the surroundings of the core know.

use std::{
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use tokio::sync::{mpsc, oneshot};

use crate::{
    clock::{BootClock, Clock},
    control::RejectedDatagram,
    driver::Request,
    metrics::{Metrics, Surroundings, UNSTABLE_SERIES},
    notifier::{Notifier, TargetStats},
    pair::{self, PairHandle, status::PairStatus},
    peers::{
        Peers,
        filter::Filter,
        status::{PeersStatus, PeersSummary},
        view::{PeersView, Rows},
    },
    receivers::Receivers,
    snapshot::{Detail, Snapshot},
    status::{About, Status},
    supervisor::SupervisorHandle,
};

/// How long an answer of the driver may take before it counts as hanging.
const PATIENCE: Duration = Duration::from_secs(5);

/// How many alarms and unstable objects a status lists at most; it always counts them all.
const LISTED: usize = 1_000;

/// What there is to see of one moment.
pub struct View {
    /// The status document.
    pub status: Status,
    /// The last datagrams that were not taken in, the newest first.
    pub rejected: Vec<RejectedDatagram>,
}

/// Shared by those who show.
pub struct Hub {
    requests: mpsc::Sender<Request>,
    metrics: Arc<Metrics>,
    notifier: Mutex<Notifier>,
    receivers: Mutex<Receivers>,
    peers: Peers,
    pair: Option<PairHandle>,
    config: Mutex<ConfigState>,
    /// Nothing until it has begun, which is last.
    supervisor: OnceLock<SupervisorHandle>,
    name: String,
    started: Instant,
    problems: Vec<String>,
}

/// What is shared.
pub struct Parts {
    /// The way to the driver.
    pub requests: mpsc::Sender<Request>,
    /// The agent's own metrics.
    pub metrics: Metrics,
    /// Who tells the notification targets.
    pub notifier: Notifier,
    /// Who tells the others.
    pub receivers: Receivers,
    /// The peer monitor.
    pub peers: Peers,
    /// The way to the mate, of an agent that has one.
    pub pair: Option<PairHandle>,
    /// The agent's name.
    pub name: String,
    /// When it started.
    pub started: Instant,
    /// What keeps it from doing all that it should.
    pub problems: Vec<String>,
}

/// How the configuration in force came to be.
#[derive(Clone, Copy, Debug)]
struct ConfigState {
    ok: bool,
    loaded_at: SystemTime,
}

/// The driver does not answer.
#[derive(Debug, thiserror::Error)]
#[error("the core of the agent did not answer within {} seconds", PATIENCE.as_secs())]
pub struct NoAnswer;

impl Hub {
    /// Shares these.
    pub fn new(parts: Parts) -> Arc<Hub> {
        let Parts { requests, metrics, notifier, receivers, peers, pair, name, started, problems } =
            parts;
        let config = Mutex::new(ConfigState { ok: true, loaded_at: SystemTime::now() });
        let (metrics, notifier) = (Arc::new(metrics), Mutex::new(notifier));
        let receivers = Mutex::new(receivers);
        let supervisor = OnceLock::new();
        Arc::new(Hub {
            requests,
            metrics,
            notifier,
            receivers,
            peers,
            pair,
            config,
            supervisor,
            name,
            started,
            problems,
        })
    }

    /// The page that Prometheus scrapes.
    ///
    /// # Errors
    ///
    /// The driver does not answer, or the page can't be encoded.
    pub async fn metrics_page(&self) -> anyhow::Result<String> {
        let detail = Detail { alarms: 0, episodes: UNSTABLE_SERIES, rejected: false };
        let snapshot = self.snapshot(detail).await?;
        let peers = self.peers_view(Rows::OfSeries).await?;
        let config = *lock(&self.config);
        let since_1970 = config.loaded_at.duration_since(SystemTime::UNIX_EPOCH);
        let around = Surroundings {
            reload_ok: config.ok,
            reloaded_at: since_1970.unwrap_or_default().as_secs_f64(),
            targets: self.targets(),
            parts: self.supervisor.get().map(SupervisorHandle::parts).unwrap_or_default(),
            pair: self.pair_view(),
        };
        let metrics = Arc::clone(&self.metrics);
        // With a series for each of 128,000 peers this takes long enough to hold up what else the
        // runtime has to do.
        let page =
            tokio::task::spawn_blocking(move || metrics.page(&snapshot, &around, peers.as_ref()));
        Ok(page.await??)
    }

    /// The status document.
    ///
    /// # Errors
    ///
    /// The driver does not answer.
    pub async fn status(&self) -> Result<Status, NoAnswer> {
        let snapshot =
            self.snapshot(Detail { alarms: LISTED, episodes: LISTED, rejected: false }).await?;
        self.status_of(&snapshot).await
    }

    /// The status document, and what else there is to see of the same moment.
    ///
    /// # Errors
    ///
    /// The driver does not answer.
    pub async fn view(&self) -> Result<View, NoAnswer> {
        let snapshot =
            self.snapshot(Detail { alarms: LISTED, episodes: LISTED, rejected: true }).await?;
        let rejected = snapshot.rejected.iter().rev().map(RejectedDatagram::new).collect();
        Ok(View { status: self.status_of(&snapshot).await?, rejected })
    }

    async fn status_of(&self, snapshot: &Snapshot) -> Result<Status, NoAnswer> {
        let about = About {
            name: self.name.clone(),
            uptime: self.started.elapsed(),
            problems: self.problems(),
            targets: self.targets(),
            peers: self.peers_view(Rows::None).await?.as_ref().map(PeersSummary::new),
            pair: self.pair_view().map(|view| PairStatus::new(&view, BootClock::both())),
        };
        Ok(Status::new(snapshot, about))
    }

    /// The peers in sum, and those that the filter names.
    ///
    /// # Errors
    ///
    /// The peers' engine does not answer.
    pub async fn peers(&self, filter: Filter) -> anyhow::Result<PeersStatus> {
        let rows = if filter.limit > 0 { Rows::All } else { Rows::None };
        let view = self.peers_view(rows).await?;
        self.peers_of(Arc::new(view), filter).await
    }

    /// Every peer; nothing if none are configured.
    ///
    /// # Errors
    ///
    /// The peers' engine does not answer.
    pub async fn every_peer(&self) -> Result<Option<PeersView>, NoAnswer> {
        self.peers_view(Rows::All).await
    }

    /// The peers in sum as they were seen, and those of them that the filter names.
    ///
    /// # Errors
    ///
    /// The runtime stops.
    pub async fn peers_of(
        &self,
        view: Arc<Option<PeersView>>,
        filter: Filter,
    ) -> anyhow::Result<PeersStatus> {
        let status = tokio::task::spawn_blocking(move || match &*view {
            Some(view) => PeersStatus::new(view, &filter),
            None => PeersStatus::none(Clock::both().wall_time()),
        });
        Ok(status.await?)
    }

    /// What there is to see of the peers; nothing if none are configured.
    async fn peers_view(&self, rows: Rows) -> Result<Option<PeersView>, NoAnswer> {
        let look = tokio::time::timeout(PATIENCE, self.peers.look(rows)).await;
        Ok(look.map_err(|_| NoAnswer)?.map(|view| *view))
    }

    fn problems(&self) -> Vec<String> {
        let mut problems = self.problems.clone();
        if !lock(&self.config).ok {
            problems.push(
                "the last reload was refused, and the configuration before it is in force; see \
                 the log, or run `evenkeel check`"
                    .to_owned(),
            );
        }
        problems
    }

    /// What there is to see.
    ///
    /// # Errors
    ///
    /// The driver does not answer.
    pub async fn snapshot(&self, detail: Detail) -> Result<Box<Snapshot>, NoAnswer> {
        let (answer, answered) = oneshot::channel();
        let asked = async {
            self.requests.send(Request::Snapshot(detail, answer)).await.ok()?;
            answered.await.ok()
        };
        tokio::time::timeout(PATIENCE, asked).await.ok().flatten().ok_or(NoAnswer)
    }

    /// Asks the driver for something.
    ///
    /// # Errors
    ///
    /// The driver is gone.
    pub async fn ask(&self, request: Request) -> Result<(), NoAnswer> {
        self.requests.send(request).await.map_err(|_| NoAnswer)
    }

    /// The peer monitor.
    pub const fn peer_monitor(&self) -> &Peers {
        &self.peers
    }

    /// The way to the mate, of an agent that has one.
    pub const fn pair(&self) -> Option<&PairHandle> {
        self.pair.as_ref()
    }

    fn pair_view(&self) -> Option<Arc<pair::View>> {
        self.pair.as_ref().and_then(PairHandle::view)
    }

    /// The notifications' sender.
    pub fn notifier(&self) -> MutexGuard<'_, Notifier> {
        lock(&self.notifier)
    }

    /// Who else is told alarms.
    pub fn receivers(&self) -> MutexGuard<'_, Receivers> {
        lock(&self.receivers)
    }

    /// Watches over the parts from now on.
    pub fn supervise(&self, supervisor: SupervisorHandle) {
        // There is one supervisor of a process.
        let _ = self.supervisor.set(supervisor);
    }

    /// Who watches over the parts; nothing before that begins.
    pub fn supervisor(&self) -> Option<&SupervisorHandle> {
        self.supervisor.get()
    }

    /// Notes how a reload went.
    pub fn reloaded(&self, ok: bool) {
        let mut config = lock(&self.config);
        config.ok = ok;
        if ok {
            config.loaded_at = SystemTime::now();
        }
    }

    fn targets(&self) -> Vec<TargetStats> {
        let mut targets = self.notifier().stats();
        targets.extend(self.receivers().stats());
        targets
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is inside is whole at any moment, even if a holder panicked.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
