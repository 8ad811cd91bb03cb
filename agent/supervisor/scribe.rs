//! Writes down what the supervisor finds, on a thread that may wait for the disk or for standard error while
//! the supervisor does not.

use std::{
    io,
    path::PathBuf,
    sync::mpsc::{self, Receiver, Sender},
    thread,
    time::{Duration, Instant},
};

use evenkeel_core::{
    supervision::{Part, Stall},
    time::Pretty,
};
use jiff::Timestamp;
use tracing::{error, warn};

use super::{
    lines,
    report::{Cause, PartReport, Report},
    threads::{self, Thread},
};

/// The way to the scribe.
pub struct Scribe(Sender<Order>);

enum Order {
    Stalled {
        stall: Stall,
        cause: Cause,
        parts: Vec<PartReport>,
        at: Timestamp,
        threads: Vec<Thread>,
    },
    Recovered(Part, Duration),
    Ends(Part),
    Answer(Sender<()>),
}

struct Writer {
    state_dir: PathBuf,
    agent: String,
    state: Box<dyn Fn() -> serde_json::Value + Send>,
    started: Instant,
}

/// Starts the thread.
pub fn start(
    state_dir: PathBuf,
    agent: String,
    state: Box<dyn Fn() -> serde_json::Value + Send>,
) -> io::Result<Scribe> {
    let (orders, queue) = mpsc::channel();
    let writer = Writer { state_dir, agent, state, started: Instant::now() };
    thread::Builder::new().name("scribe".to_owned()).spawn(move || writer.run(&queue))?;
    Ok(Scribe(orders))
}

impl Scribe {
    /// Writes a report of a stall.
    pub fn stalled(&self, stall: Stall, cause: Cause, parts: Vec<PartReport>) {
        // Now, as what the threads do may be another thing when it is their turn to be written down.
        let (at, threads) = (Timestamp::now(), threads::all());
        self.tell(Order::Stalled { stall, cause, parts, at, threads });
    }

    /// A part gives signs again.
    pub fn recovered(&self, part: Part, silent: Duration) {
        self.tell(Order::Recovered(part, silent));
    }

    /// The process ends for a part.
    pub fn ends(&self, part: Part) {
        self.tell(Order::Ends(part));
    }

    /// Waits until all of that is written, but no longer than this.
    pub fn wait(&self, at_most: Duration) {
        let (done, answer) = mpsc::channel();
        self.tell(Order::Answer(done));
        let _ = answer.recv_timeout(at_most);
    }

    fn tell(&self, order: Order) {
        // It is there as long as the supervisor.
        let _ = self.0.send(order);
    }
}

impl Writer {
    fn run(self, queue: &Receiver<Order>) {
        for order in queue {
            match order {
                Order::Stalled { stall, cause, parts, at, threads } => {
                    self.write(stall, cause, parts, at, threads);
                }
                Order::Recovered(part, silent) => {
                    warn!("{part} gives signs of life again, after {}", pretty(silent));
                }
                Order::Ends(part) => {
                    error!("{part} has stalled: this process ends, to be started again");
                }
                Order::Answer(done) => drop(done.send(())),
            }
        }
    }

    fn write(
        &self,
        stall: Stall,
        cause: Cause,
        parts: Vec<PartReport>,
        at: Timestamp,
        threads: Vec<Thread>,
    ) {
        let report = Report {
            format: 1,
            agent: self.agent.clone(),
            version: env!("CARGO_PKG_VERSION"),
            pid: std::process::id(),
            at: at.to_string(),
            up_seconds: self.started.elapsed().as_secs(),
            cause,
            parts,
            state: (self.state)(),
            threads,
            log: lines::last(),
        };
        let (part, detail) = (stall.part, stall.detail());
        match report.write(&self.state_dir, at) {
            Ok(path) => {
                error!("{part} has stalled: {detail}; what is known is in {}", path.display());
            }
            Err(failed) => {
                error!("{part} has stalled: {detail}; no report can be written: {failed}");
            }
        }
    }
}

fn pretty(duration: Duration) -> Pretty {
    Pretty(Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
}
