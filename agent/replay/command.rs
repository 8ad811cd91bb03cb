//! `evenkeel replay`: what would have been raised and cleared, in simulated time.

use std::{
    fs::File,
    io::{self, BufWriter, Read, Write},
    time::{Duration, Instant},
};

use anyhow::Context;
use evenkeel_core::{
    agent::Agent,
    alarm::{AlarmEvent, Kind},
    input::{Datagram, Door, Ear, Event, Input},
    instability::Outcome,
    settings::{Access, Analysis, Community, Settings, Threshold, Window},
    time::{Pretty, Time},
    trap::Malformed,
    usm::{EngineId, LocalEngine},
};

use super::pcap;
use crate::{
    cli::{Format, Replay},
    config::Config,
    recording::{Beginning, MAGIC, Recording},
    status, trap_view,
};

/// When a captured file begins on the simulated clock. What came before it has a place, too.
const BEGINNING: Time = Time::from_secs(366 * 86_400);

/// Replays the file and prints to standard output.
///
/// # Errors
///
/// A sentence for the person who asked: what is wrong with the file or the settings.
pub fn replay(asked: &Replay) -> anyhow::Result<()> {
    let path = asked.file.display();
    let mut file = File::open(&asked.file).with_context(|| format!("cannot read {path}"))?;
    let mut first = Vec::new();
    Read::by_ref(&mut file).take(MAGIC.len() as u64).read_to_end(&mut first)?;
    let configured = match &asked.config {
        Some(config) => Some(load(config)?),
        None => None,
    };
    let out = BufWriter::new(io::stdout().lock());
    let started = Instant::now();
    let mut run = if first == MAGIC {
        let file = File::open(&asked.file)?;
        replay_recording(asked, file, configured, out).with_context(|| format!("{path}"))?
    } else {
        replay_capture(asked, configured, out)?
    };
    run.finish(started.elapsed()).or_else(broken_pipe)
}

fn load(path: &std::path::Path) -> anyhow::Result<Settings> {
    let (config, _) = Config::load(path).map_err(|errors| {
        anyhow::anyhow!("the configuration is refused\n{}", errors.render(false))
    })?;
    Ok(config.core)
}

/// A reader such as `head` that has seen enough is no error.
fn broken_pipe(error: io::Error) -> anyhow::Result<()> {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Ok(()),
        _ => Err(error.into()),
    }
}

fn replay_recording<W: Write>(
    asked: &Replay,
    file: File,
    configured: Option<Settings>,
    out: W,
) -> anyhow::Result<Run<W>> {
    let (mut recording, beginning) = Recording::open(file)?;
    let recorded = match recording.next()? {
        Some(Input::Settings { settings, .. }) => *settings,
        _ => anyhow::bail!("it does not begin with its settings"),
    };
    let keep_recorded = configured.is_none() && !overrides(asked);
    let settings = with_overrides(asked, configured.unwrap_or(recorded))?;
    let Beginning { state, deaf, now, origin_ms, identifier, engine, last_number } = beginning;
    let mut run = Run::new(asked, settings, engine, identifier, now, out);
    run.agent.set_spool(last_number + 1);
    run.agent.handle(&Input::WallClock { origin_ms });
    run.agent.restore(state, deaf, now);
    run.drain()?;
    while let Some(input) = recording.next()? {
        match &input {
            // Settings that were loaded while it was recorded hold, unless others are asked for.
            Input::Settings { .. } if !keep_recorded => continue,
            Input::Datagram(datagram) => {
                // With other settings there are other deadlines than those at which the ears were
                // asked when it was recorded.
                if !keep_recorded {
                    let up_to = datagram.received;
                    run.input(&Input::Heard { ear: Ear::Traps, up_to, lost: 0, limited: 0 })?;
                }
                run.datagram(datagram)?;
            }
            other => run.input(other)?,
        }
    }
    Ok(run)
}

fn replay_capture<W: Write>(
    asked: &Replay,
    configured: Option<Settings>,
    out: W,
) -> anyhow::Result<Run<W>> {
    let settings = configured.unwrap_or_else(|| Settings {
        // Who captured it decided what to look at.
        access: Access {
            communities: vec![Community { name: None, sources: Vec::new() }],
            ..Access::default()
        },
        ..Settings::default()
    });
    let mut run =
        Run::new(asked, with_overrides(asked, settings)?, no_engine(BEGINNING), 0, BEGINNING, out);
    let mut wall_set = false;
    let mut failed = None;
    let summary = pcap::read(&asked.file, &asked.port, |captured| {
        if failed.is_some() {
            return;
        }
        let received = BEGINNING + captured.at;
        if !wall_set {
            wall_set = true;
            let origin_ms = captured.wall_ns / 1_000_000 - received.as_millis() as i64;
            run.agent.handle(&Input::WallClock { origin_ms });
        }
        let result = run
            .input(&Input::Heard { ear: Ear::Traps, up_to: received, lost: 0, limited: 0 })
            .and_then(|()| {
                let (source, bytes) = (captured.source, captured.payload.as_slice());
                run.datagram(&Datagram { source, received, door: Door::default(), bytes })
            });
        failed = result.err();
    })?;
    if let Some(error) = failed {
        broken_pipe(error)?;
    }
    run.note = Some(summary.to_string());
    if let Some(warning) = summary.warning {
        eprintln!("evenkeel: {}: {warning}", asked.file.display());
    }
    Ok(run)
}

fn overrides(asked: &Replay) -> bool {
    asked.window.is_some()
        || asked.threshold.is_some()
        || asked.system_window.is_some()
        || asked.system_threshold.is_some()
}

/// The settings with what the command line says instead, for all groups whose analysis is on.
fn with_overrides(asked: &Replay, mut settings: Settings) -> anyhow::Result<Settings> {
    let instability = &mut settings.instability;
    let groups = instability.groups.iter_mut().map(|group| &mut group.settings);
    for group in groups.chain([&mut instability.otherwise]) {
        group.interfaces = analysis(group.interfaces, asked.window, asked.threshold)?;
        group.systems = analysis(group.systems, asked.system_window, asked.system_threshold)?;
    }
    Ok(settings)
}

fn analysis(
    before: Option<Analysis>,
    window: Option<Duration>,
    threshold: Option<u16>,
) -> anyhow::Result<Option<Analysis>> {
    let Some(before) = before else { return Ok(None) };
    let window = match window {
        // INST-11: window 0 or threshold 0 turns the analysis off.
        Some(Duration::ZERO) => return Ok(None),
        Some(window) => Window::new(window).with_context(|| {
            format!("a trap window of {} is out of range: 1s to 1h", Pretty(window))
        })?,
        None => before.window,
    };
    let threshold = match threshold {
        Some(0) => return Ok(None),
        Some(traps) => Threshold::new(traps)
            .with_context(|| format!("a threshold of {traps} is out of range: 2 to 1000"))?,
        None => before.threshold,
    };
    Ok(Some(Analysis { window, threshold }))
}

/// An engine for an agent that answers nobody.
fn no_engine(started: Time) -> LocalEngine {
    let id = EngineId::new(b"\x80\x00\x1f\x88\x04replay").expect("eleven octets that differ");
    LocalEngine { id, boots: 1, started }
}

/// A replay under way.
struct Run<W> {
    agent: Agent,
    begin: Time,
    now: Time,
    out: W,
    format: Format,
    show_traps: bool,
    /// What the file held beside traps.
    note: Option<String>,
    raised: [u64; Kind::ALL.len()],
}

impl<W: Write> Run<W> {
    fn new(
        asked: &Replay,
        settings: Settings,
        engine: LocalEngine,
        identifier: u16,
        begin: Time,
        out: W,
    ) -> Run<W> {
        Run {
            agent: Agent::new(settings, engine, 0, identifier),
            begin,
            now: begin,
            out,
            format: asked.format,
            show_traps: asked.traps,
            note: None,
            raised: [0; Kind::ALL.len()],
        }
    }

    fn datagram(&mut self, datagram: &Datagram<'_>) -> io::Result<()> {
        self.now = self.now.max(datagram.received);
        if self.show_traps && self.format == Format::Table {
            let at = self.since_begin(datagram.received);
            writeln!(self.out, "{at}  trap   from {}", datagram.source)?;
            write!(self.out, "{}", trap_view::describe(datagram.bytes))?;
        }
        self.input(&Input::Datagram(*datagram))
    }

    fn input(&mut self, input: &Input<'_>) -> io::Result<()> {
        if let Input::Heard { up_to, .. } = input {
            self.now = self.now.max(*up_to);
        }
        self.agent.handle(input);
        self.drain()
    }

    fn drain(&mut self) -> io::Result<()> {
        while self.agent.poll_transmit().is_some() {}
        while self.agent.poll_taken().is_some() {}
        while self.agent.poll_answer().is_some() {}
        while let Some(event) = self.agent.poll_event() {
            if let Event::Alarm(event) = event {
                self.print(&event)?;
            }
        }
        Ok(())
    }

    fn print(&mut self, event: &AlarmEvent) -> io::Result<()> {
        if event.cleared.is_none() {
            self.raised[event.alarm.kind as usize] += 1;
        }
        match self.format {
            Format::Table => {
                let at = self.since_begin(event.at);
                let word = if event.cleared.is_some() { "clear" } else { "raise" };
                writeln!(self.out, "{at}  {word}  {:<18} {}", event.alarm.kind, event.alarm.text)
            }
            Format::Json => {
                let line = serde_json::json!({
                    "ms": event.at.since(self.begin).as_millis() as u64,
                    "at": status::utc(event.wall),
                    "event": if event.cleared.is_some() { "clear" } else { "raise" },
                    "reason": event.cleared.map(|reason| reason.name()),
                    "alarm": event.alarm,
                });
                writeln!(self.out, "{line}")
            }
        }
    }

    /// Seconds since the beginning of the file, to the millisecond.
    fn since_begin(&self, at: Time) -> String {
        let since = at.since(self.begin);
        format!("{:>9}.{:03} s", since.as_secs(), since.subsec_millis())
    }

    /// Lets the time go by that it takes for every episode to end, and says what it came to.
    fn finish(&mut self, took: Duration) -> io::Result<()> {
        let end = self.now;
        while let Some(up_to) = self.agent.instability().next_deadline() {
            self.input(&Input::Heard { ear: Ear::Traps, up_to, lost: 0, limited: 0 })?;
        }
        if self.format == Format::Table {
            self.summary(end, took)?;
        }
        self.out.flush()
    }

    fn summary(&mut self, end: Time, took: Duration) -> io::Result<()> {
        let counters = self.agent.counters().clone();
        let span = Duration::from_secs(end.since(self.begin).as_secs());
        let took = took.as_secs_f64() * 1e3;
        writeln!(
            self.out,
            "\n{} datagrams over {}, replayed in {took:.0} ms; episodes were followed to their end",
            counters.datagrams,
            Pretty(span)
        )?;
        if let Some(note) = self.note.take() {
            writeln!(self.out, "  the file: {note}")?;
        }
        let outcomes = Outcome::ALL.map(Outcome::name).into_iter().zip(counters.outcomes);
        let malformed = Malformed::ALL.map(Malformed::name).into_iter().zip(counters.malformed);
        let refused = evenkeel_core::access::Refused::ALL.map(|refused| refused.name());
        let refused = refused.into_iter().zip(counters.refused);
        let told: Vec<String> = outcomes
            .chain(malformed)
            .chain(refused)
            .filter(|(_, count)| *count > 0)
            .map(|(name, count)| format!("{count} {name}"))
            .collect();
        writeln!(self.out, "  traps: {}", told.join(", "))?;
        let raised: Vec<String> = Kind::ALL
            .into_iter()
            .map(|kind| (kind, self.raised[kind as usize]))
            .filter(|(_, count)| *count > 0)
            .map(|(kind, count)| format!("{count} {kind}"))
            .collect();
        let raised = if raised.is_empty() { "none".to_owned() } else { raised.join(", ") };
        writeln!(self.out, "  alarms raised: {raised}")
    }
}
