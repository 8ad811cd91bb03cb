//! The control socket: how the command line talks to the running agent.
//!
//! A Unix socket in the state directory that its owner and group may use: the user and the group that
//! the agent runs as. One question a connection: a word, for peers with a filter as JSON behind it, for an
//! order with what it is about, and a line feed; the answer is one JSON document, and the end.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::{
        fs::{FileTypeExt, PermissionsExt},
        net::UnixStream as BlockingStream,
    },
    path::Path,
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use evenkeel_core::counters::Rejected;
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    sync::{Semaphore, mpsc, oneshot},
    time::timeout,
};

use crate::{
    driver::Request,
    hub::Hub,
    pair,
    reloaded::{self, ReloadOrder},
    snapshot::Detail,
    status,
};

/// How long a question or an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How many connections are served at once: more than people and programs that look, few enough to cost
/// nothing.
const AT_ONCE: usize = 16;

/// How long a question may be: a word, or one with a filter of peers behind it.
const LONGEST_QUESTION: u64 = 64 << 10;

/// A rejected datagram, as told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RejectedDatagram {
    /// When it was received, in UTC.
    pub at: String,
    /// Who sent it.
    pub source: String,
    /// Why it was not taken in.
    pub reason: String,
    /// Its length.
    pub length: usize,
    /// Its first octets, in hexadecimal.
    pub octets: String,
}

impl RejectedDatagram {
    /// As it was kept.
    pub fn new(rejected: &Rejected) -> RejectedDatagram {
        RejectedDatagram {
            at: status::utc(rejected.at),
            source: rejected.source.to_string(),
            reason: rejected.reason.to_owned(),
            length: rejected.length,
            octets: rejected.octets.iter().map(|octet| format!("{octet:02x}")).collect(),
        }
    }

    /// Its first octets.
    pub fn octets(&self) -> Vec<u8> {
        let digit = |at: usize| self.octets.get(at..at + 2);
        (0..self.octets.len() / 2)
            .filter_map(|octet| u8::from_str_radix(digit(octet * 2)?, 16).ok())
            .collect()
    }
}

/// A subnet whose primary interface was enabled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enabled {
    /// The subnet.
    pub subnet: String,
    /// The interface that has its addresses again.
    pub interface: String,
}

/// What is answered to what can't be.
#[derive(Serialize, Deserialize)]
struct Refused {
    error: String,
}

/// Binds the socket, in the place of one that a run before has left. The store's lock says that no
/// other agent uses this directory.
///
/// # Errors
///
/// The socket can't be made, or something else is in its place.
pub fn bind(path: &Path) -> anyhow::Result<UnixListener> {
    let context = || format!("cannot make the control socket {}", path.display());
    match std::fs::symlink_metadata(path) {
        Ok(there) if there.file_type().is_socket() => {
            std::fs::remove_file(path).with_context(context)?;
        }
        Ok(_) => anyhow::bail!("{}: something that is no socket is in its place", context()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(context),
    }
    let listener = UnixListener::bind(path).with_context(context)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).with_context(context)?;
    Ok(listener)
}

/// Answers questions, [`AT_ONCE`] connections side by side: who connects and says nothing holds up nobody
/// else.
pub async fn serve(listener: UnixListener, hub: Arc<Hub>, reloads: mpsc::Sender<ReloadOrder>) {
    let room = Arc::new(Semaphore::new(AT_ONCE));
    // It is never closed.
    while let Ok(place) = room.clone().acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                let (hub, reloads) = (hub.clone(), reloads.clone());
                tokio::spawn(async move {
                    // Who asks too slowly, or goes away, has only themselves to blame.
                    let _ = timeout(PATIENCE, converse(stream, &hub, &reloads)).await;
                    drop(place);
                });
            }
            // Out of descriptors, perhaps; not for long.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn converse(
    stream: UnixStream,
    hub: &Hub,
    reloads: &mpsc::Sender<ReloadOrder>,
) -> io::Result<()> {
    let (input, mut output) = stream.into_split();
    let mut question = String::new();
    tokio::io::BufReader::new(input.take(LONGEST_QUESTION)).read_line(&mut question).await?;
    let answer = answer(question.trim_end(), hub, reloads).await;
    let answer = answer.unwrap_or_else(|error| error_answer(&format!("{error:#}")));
    output.write_all(answer.as_bytes()).await?;
    output.write_all(b"\n").await
}

async fn answer(
    question: &str,
    hub: &Hub,
    reloads: &mpsc::Sender<ReloadOrder>,
) -> anyhow::Result<String> {
    Ok(match question {
        "status" => serde_json::to_string(&hub.status().await?)?,
        "rejected" => {
            let snapshot = hub.snapshot(Detail { alarms: 0, episodes: 0, rejected: true }).await?;
            let rejected: Vec<_> = snapshot.rejected.iter().map(RejectedDatagram::new).collect();
            serde_json::to_string(&rejected)?
        }
        "reload" => {
            let refused = |refused| anyhow::anyhow!("{}{refused}", reloaded::REFUSED);
            serde_json::to_string(&reloaded::order(reloads).await?.map_err(refused)?)?
        }
        other => match other.split_once(' ') {
            Some(("peers", filter)) => {
                let filter = serde_json::from_str(filter).context("unknown filter of peers")?;
                serde_json::to_string(&hub.peers(filter).await?)?
            }
            Some(("enable", prefix)) => enable(prefix, hub).await?,
            Some(("pair", question)) => pair::orders::answer(question, hub.pair()).await?,
            Some(_) | None => anyhow::bail!("unknown question {other:?}"),
        },
    })
}

/// Enables the primary interface of a subnet (SUBN-8), and waits until its addresses are there.
async fn enable(prefix: &str, hub: &Hub) -> anyhow::Result<String> {
    let subnet: IpNet = prefix.parse().with_context(|| format!("{prefix:?} is no subnet"))?;
    let (answer, answered) = oneshot::channel();
    hub.ask(Request::Enable(subnet, answer)).await?;
    let interface = answered.await?.map_err(|why| anyhow::anyhow!("{subnet}: {why}"))?;
    Ok(serde_json::to_string(&Enabled { subnet: subnet.to_string(), interface })?)
}

fn error_answer(error: &str) -> String {
    serde_json::json!(Refused { error: error.to_owned() }).to_string()
}

/// Asks a running agent.
///
/// # Errors
///
/// A sentence for the person who asked: no agent is running there, they may not ask it, it does not
/// answer, or it does not know the question.
pub fn ask(path: &Path, question: &str) -> anyhow::Result<String> {
    let mut stream = BlockingStream::connect(path).map_err(|error| no_way_in(path, &error))?;
    let path = path.display();
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut answer = String::new();
    let asked = writeln!(stream, "{question}");
    asked.and_then(|()| BufReader::new(stream.take(1 << 30)).read_line(&mut answer)).map_err(
        |error| match error.kind() {
            io::ErrorKind::WouldBlock => anyhow::anyhow!(
                "the agent at the control socket {path} did not answer within {} seconds: it is \
                 stopped, or gets no CPU",
                PATIENCE.as_secs()
            ),
            _ => anyhow::anyhow!("the agent at the control socket {path} hung up: {error}"),
        },
    )?;
    anyhow::ensure!(
        answer.ends_with('\n'),
        "the agent at the control socket {path} hung up before it had answered: it is stopping, or its \
         core hangs; its log says more"
    );
    // An agent of another version may not know what this one asks.
    if answer.starts_with("{\"error\":") {
        let Refused { error } = serde_json::from_str(&answer)?;
        anyhow::bail!("{error}");
    }
    Ok(answer)
}

/// Why there is no way to the agent, and what may be done.
fn no_way_in(path: &Path, error: &io::Error) -> anyhow::Error {
    let path = path.display();
    let other = "start it with `evenkeel run`; if it runs, name its configuration with --config, or \
                 its control socket with --socket";
    match error.kind() {
        io::ErrorKind::NotFound => {
            anyhow::anyhow!("no agent is running here: there is no control socket {path}; {other}")
        }
        io::ErrorKind::ConnectionRefused => anyhow::anyhow!(
            "no agent is running here: nobody listens at the control socket {path}, which an earlier \
             one has left; {other}"
        ),
        io::ErrorKind::PermissionDenied => anyhow::anyhow!(
            "you may not use the control socket {path}; ask as root, as the user that the agent runs \
             as, or as a member of its group"
        ),
        _ => anyhow::anyhow!("cannot use the control socket {path}: {error}"),
    }
}
