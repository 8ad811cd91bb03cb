//! `evenkeel run`: puts the parts together, starts them, and stops them in order.

use std::{
    hash::{BuildHasher, RandomState},
    io::{self, IsTerminal},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use evenkeel_core::{
    agent::Agent,
    finding::Finding,
    input::{Host, Input},
    notification::Start,
    settings::Subnets,
    supervision::Part,
    usm::{EngineId, LocalEngine},
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, oneshot, watch},
};
use tracing::{error, info, warn};

use crate::{
    addressees,
    clock::Clock,
    config::{Config, Problem, WaitFor, host::check_against_host},
    control,
    doors::TrapSockets,
    driver::{Driver, Parts, Reload, ReplyEar, Request},
    ear::{self, Limits, icmp},
    forwarder::{self, Forwarder},
    gate::Gate,
    host,
    hub::{self, Hub},
    metrics::Metrics,
    notifier::{Notifier, Surroundings},
    onward::Onward,
    outbox::{self, Outbox, Outspool},
    pair::{self, ToPair},
    peers::{self, Peers},
    receivers::{self, Receivers},
    recording::{Beginning, Recorder},
    reloaded::{ReloadOrder, Reloaded},
    replica::Wait,
    roles, service,
    spool::{self, AnswerSockets, Recovered, Spool},
    standby::{self, Mover},
    store::{self, Retention, Store},
    supervisor::{self, SupervisorHandle},
    web::{self, access::Access},
};

/// How many requests to the driver may wait.
const REQUESTS: usize = 64;

/// How long the orderly stop may take before the process ends all the same.
const LAST_CALL: Duration = Duration::from_secs(10);

/// Runs the agent until it is told to stop.
pub fn run(path: Option<PathBuf>) -> ExitCode {
    let config = match Config::load_or_default(path.as_deref()) {
        Ok((config, warnings)) => {
            log(&warnings);
            config
        }
        Err(errors) => {
            // A log is no place for excerpts of the file, which may show a community.
            if io::stderr().is_terminal() {
                eprint!("{}", errors.render(true));
            } else {
                eprintln!("{errors}\nevenkeel: `evenkeel check` shows each in its place");
            }
            return ExitCode::FAILURE;
        }
    };
    // One thread for the core, one for those who look at it; ears and store have their own.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("runtime")
        .enable_all()
        .build();
    let ran = runtime.context("cannot start").and_then(|runtime| {
        let ran = runtime.block_on(start(config, path));
        runtime.shutdown_timeout(Duration::from_secs(1));
        ran
    });
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => {
            error!("{failed:#}");
            ExitCode::FAILURE
        }
    }
}

async fn start(config: Config, path: Option<PathBuf>) -> anyhow::Result<()> {
    let started = Instant::now();
    let mut problems = Vec::new();
    let state_dir = config.agent.state_dir();
    // Signals first, so that one that comes while we start is not lost.
    let mut hangup = signal(SignalKind::hangup())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    supervisor::crash::end_on_panic(state_dir.clone(), config.agent.name());

    hold_against_host(&config).await?;
    let access = watch::Sender::new(Arc::new(Access::new(config.web.file.as_deref())));
    let answered_early = match config.web.enabled {
        true => Some(web::answer_early(web::bind(config.web.listen).await?, access.subscribe())?),
        false => None,
    };
    let answers = AnswerSockets::default();
    let (sockets, traps) = TrapSockets::open(&config, &TrapSockets::default(), &answers)?;
    let reading = Clock::both();
    let now = store::Now {
        moment: store::Moment { mono: reading.time, wall: reading.wall_time() },
        boot_id: store::boot_id().context("cannot tell this boot from others")?,
    };
    let retention = Retention {
        keep: config.journal.keep,
        rows: Retention::default().rows.min(config.journal.max_rows),
        most_rows: config.journal.max_rows,
    };
    let (store, restored) =
        Store::open(&state_dir, &now, retention, config.agent.engine_id.as_ref())
            .with_context(|| format!("cannot use the state directory {}", state_dir.display()))?;
    let (id, boots) = restored.engine.clone();
    let engine_id = id.clone();
    let engine = LocalEngine { id, boots, started: reading.time };
    let spool_dir = state_dir.join(spool::DIRECTORY);
    let (spool, recovered) = Spool::open(&spool_dir, config.spool.max_size, answers.clone(), &now)
        .with_context(|| format!("cannot use the spool {}", spool_dir.display()))?;
    for problem in restored.problems.iter().chain(&recovered.problems) {
        error!("{problem}");
        problems.push(problem.clone());
    }
    let standby::Started { mover, moved, kept, problem } = Mover::start(&state_dir, &now.boot_id);
    if let Some(problem) = problem {
        error!("{problem}");
        problems.push(problem);
    }
    let mut restored = restored;
    restored.state.standbys.clone_from(&kept);
    let (store, spool) = (Arc::new(store), Arc::new(spool));
    // Were the spool deleted, a number that a target has had must not come again.
    let last_number = recovered.last.max(restored.heeded).max(outbox::last_cursor(&state_dir));
    let root = &config.notifications.root_oid;
    let targets = addressees::forwarded(&config);
    let paired = config.pair.is_some();
    let gate = if paired { Gate::closed() } else { Gate::alone() };
    if paired {
        answers.ask(gate.clone());
    }
    let max_waiting = forwarder::MAX_WAITING;
    let forwarder = Forwarder::start(targets, root, engine.clone(), max_waiting, gate.clone())?;

    let seed = RandomState::new().hash_one(std::process::id());
    let identifier = (seed >> 48) as u16;
    let settings = addressees::settings(&config, &engine.id);
    let onward =
        Onward::new(spool.clone(), Arc::new(forwarder), answers.clone(), &settings.forwarding);
    let recorder = match &config.agent.record {
        None => None,
        Some(record) => {
            let beginning = Beginning {
                state: restored.state.clone(),
                deaf: restored.deaf,
                now: reading.time,
                origin_ms: Clock::wall_origin_ms(),
                identifier,
                engine: engine.clone(),
                last_number,
            };
            let mut recorder = Recorder::create(record, &beginning)
                .with_context(|| format!("cannot record to {}", record.display()))?;
            let settings = Box::new(settings.clone());
            recorder.record(&Input::Settings { settings, now: reading.time });
            Some(recorder)
        }
    };
    let mut agent = Agent::new(settings, engine.clone(), seed, identifier);
    agent.handle(&Input::WallClock { origin_ms: Clock::wall_origin_ms() });
    let (alarms, records) = (restored.state.alarms.len(), restored.state.records.len());
    let left_out = agent.restore(restored.state, restored.deaf, reading.time);
    let mut recorder = recorder;
    agent.set_spool(last_number + 1);
    let replayed = match paired {
        // When it is primary, it reads what is there then.
        true => 0,
        false => replay(&mut agent, recorder.as_mut(), &recovered, restored.heeded)?,
    };
    if !restored.first_start {
        let clean = restored.clean;
        info!(alarms, records, replayed, clean, "went on from the last run");
    }
    if left_out > 0 {
        warn!("{left_out} systems and interfaces of the last run have no place: max_objects");
    }

    let replies = match open_replies(identifier) {
        Ok(replies) => Some(replies),
        Err(missing) => {
            warn!("no subnet is polled: {missing}");
            problems.push(format!("no subnet is polled: {missing}"));
            None
        }
    };

    for problem in standby_problems(&config.core.subnets) {
        warn!("{problem}");
        problems.push(problem);
    }

    let name = config.agent.name();
    let (requests, asked) = mpsc::channel(REQUESTS);
    warn_of_playpen(&config);
    let start = if restored.first_start { Start::Cold } else { Start::Warm };
    let (reach, reached) = mpsc::unbounded_channel();
    let (findings, found) = mpsc::unbounded_channel();
    let stalls = findings.clone();
    let (standings, stood) = mpsc::unbounded_channel();
    let peers = Peers::start(
        peers::Beginning {
            leads: !paired,
            config: config.peers.clone(),
            starts: restored.starts,
            findings,
            standings: paired.then_some(standings),
        },
        agent.alarms().active().values(),
    )
    .await;
    let outspool = Arc::new(Outspool::new(store.clone(), spool.clone(), state_dir.clone()));
    let outbox = Arc::new(Outbox::new(store.clone(), state_dir.clone()));
    let about_receivers = receivers::Surroundings {
        journal: outbox.clone(),
        active: outbox.clone(),
        committed: store.committed(),
        agent_name: name.clone(),
        reach: reach.clone(),
        gate: gate.clone(),
    };
    let around = Surroundings {
        journal: outbox,
        committed: store.committed(),
        spool: outspool.clone(),
        spooled: spool.safe(),
        identity: Arc::new(addressees::identity(&config, engine)),
        reach,
        gate: gate.clone(),
    };
    let targets = addressees::notified(&config);
    let told = config.notifications.receivers.clone();
    let (notifier, receivers) = if paired {
        (Notifier::waiting(around, targets, start), Receivers::waiting(about_receivers, told))
    } else {
        store.keep_targets(addressees::names(&config));
        outspool.keep_targets(&addressees::acknowledging(&config));
        (Notifier::new(around, targets, start), Receivers::new(about_receivers, told))
    };
    let (replies, host_view) = replies.unzip();
    let mate = match pair_configured(&config) {
        None => None,
        Some((configured, wait)) => {
            let beginning = pair::Beginning {
                configured,
                name: config.agent.name(),
                state_dir: state_dir.clone(),
                boot_id: now.boot_id.clone(),
                gate,
            };
            let host = host_view.clone().unwrap_or_else(follow_host);
            let (store, spool) = (store.clone(), spool.clone());
            Some(roles::begin(roles::Begun { beginning, wait, store, spool, host, stood }).await?)
        }
    };
    let pair = mate.as_ref().map(|mate| mate.pair.clone());
    let hub = Hub::new(hub::Parts {
        requests,
        metrics: Metrics::new()?,
        notifier,
        receivers,
        peers,
        pair,
        name,
        started,
        problems,
    });
    let roles =
        mate.map(|mate| mate.roles(hub.clone(), store.clone(), spool.clone(), outspool.clone()));

    let control_path = config.agent.control_socket();
    let control = control::bind(&control_path)?;
    let (reloads, mut ordered) = mpsc::channel(1);
    tokio::spawn(control::serve(control, hub.clone(), reloads.clone()));
    let parts = Parts {
        traps,
        replies,
        host_view,
        store: store.clone(),
        spool: spool.clone(),
        onward,
        reach: reached,
        found,
        mover,
        moved,
        kept,
        recorder,
        roles,
        state_dir: state_dir.clone(),
    };
    let driving = tokio::spawn(Driver::new(agent, parts).run(asked));
    let remote_reload = watch::Sender::new(config.web.remote_reload);
    if let Some((listener, early)) = answered_early {
        let parts = web::Parts {
            hub: hub.clone(),
            state_dir: state_dir.clone(),
            committed: store.committed(),
            access: access.subscribe(),
            reloads,
            remote_reload: remote_reload.subscribe(),
        };
        tokio::spawn(web::serve(listener, parts));
        drop(early);
    }
    say_what_it_does(&config, path.as_deref(), &state_dir);
    let supervisor = supervise(&config, &state_dir, &hub, &store, &spool, stalls)?;
    service::ready();

    let mut running = Running {
        begun: config.clone(),
        sockets,
        answers,
        engine: engine_id,
        hub: hub.clone(),
        store: store.clone(),
        outspool,
        access,
        remote_reload,
    };
    let mut config = config;
    let mut driving = std::pin::pin!(driving);
    loop {
        tokio::select! {
            _ = hangup.recv() => {
                let _ = running.reload_and_tell(&mut config, path.as_deref()).await;
            }
            Some(order) = ordered.recv() => {
                let order: ReloadOrder = order;
                // Whoever ordered it may have gone away.
                let _ = order.send(running.reload_and_tell(&mut config, path.as_deref()).await);
            }
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            ended = &mut driving => {
                ended.context("the core of the agent failed")?;
                anyhow::bail!("the core of the agent ended");
            }
        }
    }
    info!("stopping");
    service::stopping();
    supervisor.stand_down();
    // First of all: while the mate takes over, the rest goes on.
    if let Some(pair) = hub.pair() {
        pair.stop().await;
    }
    // Before the driver, which takes in what it has found.
    hub.peer_monitor().stop().await;
    let (answer, last) = oneshot::channel();
    hub.ask(Request::Stop(answer)).await?;
    let last = tokio::time::timeout(LAST_CALL, last).await??;
    hub.notifier().settle();
    hub.receivers().settle();
    let _ = std::fs::remove_file(&control_path);
    // The spool first: what it answers is then heeded by the records that the store writes last.
    tokio::task::spawn_blocking(move || -> anyhow::Result<()> {
        let spooled = spool.close().context("the spool was not closed in order");
        store.close(last)?;
        spooled
    })
    .await??;
    Ok(())
}

/// PAIR-9: begins to watch over the parts, all of which have begun, and tells what an earlier run found.
fn supervise(
    config: &Config,
    state_dir: &Path,
    hub: &Arc<Hub>,
    store: &Arc<Store>,
    spool: &Arc<Spool>,
    findings: mpsc::UnboundedSender<Vec<Finding>>,
) -> anyhow::Result<SupervisorHandle> {
    tokio::spawn(supervisor::outbox::show_life(hub.clone()));
    supervisor::tell_untold(state_dir, Clock::now(), &findings);
    let (store, spool) = (store.clone(), spool.clone());
    let tell_pair =
        hub.pair().cloned().map(|pair| move |failing| pair.tell(ToPair::Parts { failing }));
    if let Err(failed) = supervisor::hang::note_on_abort(state_dir) {
        warn!("nothing will be written down of a process that hangs: {failed}");
    }
    let supervisor = supervisor::start(supervisor::Beginning {
        settings: config.supervision,
        state_dir: state_dir.to_owned(),
        agent: config.agent.name(),
        state: Box::new(move || supervisor::state(&store.stats(), &spool.stats())),
        findings,
        tell_pair: tell_pair.map(|tell| Box::new(tell) as Box<dyn Fn(bool) + Send>),
    })
    .context("cannot start the supervisor")?;
    hub.supervise(supervisor.clone());
    Ok(supervisor)
}

/// Judges again what an earlier run had spooled and its records may not have (TRAP-5). Returns how many
/// traps that were.
fn replay(
    agent: &mut Agent,
    mut recorder: Option<&mut Recorder>,
    recovered: &Recovered,
    heeded: u64,
) -> anyhow::Result<u64> {
    let mut replayed = 0;
    for taken in recovered.entries_after(heeded) {
        let taken = taken.context("the spool cannot be read")?;
        let input = Input::Replayed(Box::new(taken));
        if let Some(recorder) = &mut recorder {
            recorder.record(&input);
        }
        agent.handle(&input);
        replayed += 1;
    }
    Ok(replayed)
}

/// What a reload needs of what runs.
struct Running {
    /// The configuration that it was started with.
    begun: Config,
    sockets: TrapSockets,
    answers: AnswerSockets,
    engine: EngineId,
    hub: Arc<Hub>,
    store: Arc<Store>,
    outspool: Arc<Outspool>,
    access: watch::Sender<Arc<Access>>,
    remote_reload: watch::Sender<bool>,
}

impl Running {
    /// Loads the configuration again, and tells whoever watches how that went. What was refused is given
    /// back in words.
    async fn reload_and_tell(
        &mut self,
        config: &mut Config,
        path: Option<&Path>,
    ) -> Result<Reloaded, String> {
        service::reloading();
        let loaded = self.reload(config, path).await;
        self.hub.reloaded(loaded.is_ok());
        service::ready();
        match loaded {
            Ok(reloaded) => {
                info!("the configuration was loaded again and is in force");
                if !reloaded.at_restart.is_empty() {
                    warn!("takes hold at the next start: {}", reloaded.at_restart.join(", "));
                }
                Ok(reloaded)
            }
            Err(refused) => {
                error!(
                    "the new configuration is refused and the one before stays in force: {refused:#}"
                );
                Err(format!("{refused:#}").trim().to_owned())
            }
        }
    }

    /// Loads the configuration again. Whatever is wrong with it, the one before stays in force.
    async fn reload(
        &mut self,
        config: &mut Config,
        path: Option<&Path>,
    ) -> anyhow::Result<Reloaded> {
        let (new, mut warnings) =
            Config::load_or_default(path).map_err(|errors| anyhow::anyhow!("\n{errors}"))?;
        log(&warnings);
        warnings.extend(hold_against_host(&new).await?);
        let warnings = warnings.iter().map(Problem::headline).collect();
        let reloaded = Reloaded::between(&self.begun, config, &new, warnings);
        let forwards = addressees::forwarded(&new);
        Forwarder::may_serve(&forwards)?;
        let traps = if new.traps == config.traps {
            None
        } else {
            let (opened, ear) = TrapSockets::open(&new, &self.sockets, &self.answers)?;
            self.sockets = opened;
            Some(ear)
        };
        let settings = addressees::settings(&new, &self.engine);
        self.hub.peer_monitor().reload(new.peers.clone()).await?;
        let (answer, done) = oneshot::channel();
        let wait = pair_configured(&new).map(|(_, wait)| wait);
        let reload = Box::new(Reload { settings, traps, forwards, wait });
        self.hub.ask(Request::Reload(reload, answer)).await?;
        done.await??;
        self.hub.notifier().set_targets(addressees::notified(&new));
        self.hub.receivers().set(new.notifications.receivers.clone());
        self.store.keep_targets(addressees::names(&new));
        self.outspool.keep_targets(&addressees::acknowledging(&new));
        self.access.send_replace(Arc::new(Access::new(new.web.file.as_deref())));
        self.remote_reload.send_replace(new.web.remote_reload);
        if let (Some(pair), Some((configured, _))) = (self.hub.pair(), pair_configured(&new)) {
            pair.tell(ToPair::Settings(Box::new(configured)));
        }
        *config = new;
        Ok(reloaded)
    }
}

/// SUBN-11: what cannot work on this host is refused, such as a polling target that is one of its own
/// addresses. Where the host can't be looked at, the core leaves out what would answer itself.
async fn hold_against_host(config: &Config) -> anyhow::Result<Vec<Problem>> {
    let Ok(host) = host::snapshot().await else { return Ok(Vec::new()) };
    let (errors, warnings) = check_against_host(config, &host);
    log(&warnings);
    match errors.as_slice() {
        [] => Ok(warnings),
        errors => {
            let lines: Vec<String> = errors.iter().map(Problem::headline).collect();
            anyhow::bail!("the configuration is refused\n{}", lines.join("\n"))
        }
    }
}

/// Opens the ICMP sockets and begins to listen, and to follow this host's addresses.
fn open_replies(identifier: u16) -> anyhow::Result<(ReplyEar, watch::Receiver<Host>)> {
    let sockets = icmp::open_each(identifier)?;
    let (sender, batches) = mpsc::unbounded_channel();
    let ear = ear::spawn("replies", Part::Poller, sockets, sender, Limits::default())?;
    let (view, host) = watch::channel(Host::default());
    tokio::spawn(host::follow(view));
    Ok((ReplyEar { ear, batches, identifier }, host))
}

/// Follows this host's addresses where nobody does so yet.
fn follow_host() -> watch::Receiver<Host> {
    let (view, host) = watch::channel(Host::default());
    tokio::spawn(host::follow(view));
    host
}

/// What the pair's thread is told of the configuration, and what waits for the mate.
fn pair_configured(config: &Config) -> Option<(pair::Configured, Wait)> {
    let targets = config.notifications.targets.iter().map(|target| target.address.ip());
    let pair = config.pair.clone()?;
    let wait = match pair.wait_for {
        WaitFor::Standby => Wait::Standby,
        WaitFor::Disk => Wait::Disk,
    };
    Some((pair::Configured { pair, targets: targets.collect() }, wait))
}

/// What keeps addresses from being moved to a standby interface as they should be, each in a sentence.
fn standby_problems(subnets: &Subnets) -> Vec<String> {
    let watched = subnets.subnets.iter().filter(|subnet| subnet.monitor);
    let with_standby: Vec<_> =
        watched.filter_map(|subnet| Some((subnet.prefix, subnet.standby.as_ref()?))).collect();
    if with_standby.is_empty() {
        return Vec::new();
    }
    let of_ipv4 = with_standby.iter().filter(|(prefix, _)| prefix.addr().is_ipv4());
    let answers = of_ipv4.filter_map(|(_, pair)| standby::answers_arp_for_others(pair));
    let mut problems: Vec<String> = answers.collect();
    problems.dedup();
    problems.extend(standby::missing().map(str::to_owned));
    problems
}

/// Warns of the shipped root, which is nobody's.
fn warn_of_playpen(config: &Config) {
    if config.notifications.root_oid.is_default() && !config.notifications.targets.is_empty() {
        warn!(
            "notifications use object identifiers below net-snmp's playpen, as no enterprise \
             number is registered for evenkeel; set root_oid in [notifications] to an arc of your \
             own to be safe from others who play there"
        );
    }
}

/// What someone who has just started it wants to know.
fn say_what_it_does(config: &Config, path: Option<&Path>, state_dir: &Path) {
    match path {
        Some(path) => info!("configuration: {}", path.display()),
        None => info!("configuration: the default, if there is no {}", crate::config::DEFAULT_PATH),
    }
    for address in &config.traps.listen {
        info!("traps are received on {address}");
    }
    // TRAP-3: with nothing configured, only loopback senders are accepted.
    if config.core.access == evenkeel_core::settings::Access::default() {
        info!("no community is configured, so only traps from this host's loopback are taken in");
    }
    let users = config.core.access.users.len();
    if users > 0 {
        info!(users, "SNMPv3 is taken in from the configured users");
    }
    match (config.core.subnets.subnets.len(), config.core.subnets.watch_gateways) {
        (0, false) => info!("no subnet is polled, as none is configured"),
        (0, true) => info!("every subnet of this host with a gateway is polled there"),
        (count, watch) => info!(count, watch_gateways = watch, "configured subnets are polled"),
    }
    match config.notifications.targets.as_slice() {
        [] => info!("no notification target is configured: alarms go to the journal and metrics"),
        targets => targets
            .iter()
            .for_each(|target| info!("notifications go to {} at {}", target.name, target.address)),
    }
    for receiver in &config.notifications.receivers {
        info!(
            "alarms are told to {} ({}) at {}",
            receiver.name,
            receiver.kind(),
            receiver.address()
        );
    }
    if config.web.enabled {
        let secret = config.web.file.as_ref().is_some_and(|file| file.tls.is_some());
        let scheme = if secret { "https" } else { "http" };
        info!("status page: {scheme}://{}/, metrics: /metrics", config.web.listen);
    }
    info!("state: {}", state_dir.display());
}

fn log(warnings: &[Problem]) {
    for warning in warnings {
        warn!("{}", warning.headline());
    }
}

/// `evenkeel check`, held against this host.
pub fn check(path: Option<&Path>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let host = runtime.ok().and_then(|runtime| runtime.block_on(host::snapshot()).ok());
    crate::config::check::check(path, host.as_ref())
}
