//! The configuration: from a TOML file to plain data, with errors that say where and what would
//! do.
//!
//! [`Config::default`] is what holds without a file. A file is read whole or not at all: where
//! anything in it is refused, nothing of it is used. What only this host can tell, such as which
//! addresses are its own, is checked apart, by [`host::check_against_host`], as it changes while
//! the agent runs. The options are listed in `README.md` beside this file, and a test holds that
//! page, the sample `packaging/evenkeel.toml` and the reader together.

pub mod check;
mod files;
pub mod host;
pub mod problem;
mod reader;
mod secret;
mod sections;
#[cfg(test)]
mod tests;
mod units;
mod veil;

use std::{
    fs::File,
    io::Read,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use evenkeel_core::{
    alarm::{self, Kind},
    mib::RootOid,
    pair::{
        self,
        settings::{Failback, Limit, Paths, Timing},
        term::Slot,
    },
    peers::{self, roster::Labels},
    sender::Destination,
    settings::{Settings, SourceLimits},
    supervision,
    usm::EngineId,
};
use toml::de::DeTable;

pub use problem::{ConfigErrors, Problem, Severity};
use problem::{Source, Span};
use reader::Reader;
use secret::Surroundings;
pub use units::{Wrong, peer as peer_address};

use crate::{files::FilePattern, receivers::Receiver, web::file::WebFile};

/// Where the file is looked for if none is named.
pub const DEFAULT_PATH: &str = "/etc/evenkeel/evenkeel.toml";

/// The longest file that is read. A subnet takes some 150 bytes, so that this is room for 25,000
/// of them; longer is a mistake, such as the name of a log file.
const LONGEST_FILE: u64 = 4 << 20;

/// A problem for which the file is not refused.
pub type Warning = Problem;

/// Everything that can be configured.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// The agent itself.
    pub agent: Agent,
    /// Where traps come in.
    pub traps: Traps,
    /// What the core is told.
    pub core: Settings,
    /// Where notifications go.
    pub notifications: Notifications,
    /// The page and the metrics.
    pub web: Web,
    /// What waits on the disk.
    pub spool: Spool,
    /// What is kept of the past.
    pub journal: Journal,
    /// Who is watched by heartbeat.
    pub peers: Peers,
    /// How the agent's own parts are watched.
    pub supervision: supervision::Settings,
    /// The mate, if this agent is one of a pair (PAIR-1).
    pub pair: Option<Pair>,
    /// Where the values stand in the file, for the checks that need the host.
    places: Places,
}

impl PartialEq for Config {
    /// Whether both say the same; where it was written makes no difference.
    fn eq(&self, other: &Config) -> bool {
        let all = |config: &Config| {
            let Config {
                agent,
                traps,
                core,
                notifications,
                web,
                spool,
                journal,
                peers,
                pair,
                supervision,
                places: _,
            } = config.clone();
            (agent, traps, core, notifications, web, spool, journal, peers, pair, supervision)
        };
        all(self) == all(other)
    }
}

/// The section `[agent]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Agent {
    /// How notifications and metrics name this agent, if not by the host's name.
    pub name: Option<String>,
    /// Where state is kept, if not in the default place.
    pub state_dir: Option<PathBuf>,
    /// Where the control socket is, if not in the state directory.
    pub control_socket: Option<PathBuf>,
    /// The file that every input is recorded to.
    pub record: Option<PathBuf>,
    /// snmpEngineID, if it is not the one that is made at the first start and kept.
    pub engine_id: Option<EngineId>,
}

impl Agent {
    /// The configured name, or the host's.
    pub fn name(&self) -> String {
        self.name.clone().unwrap_or_else(|| {
            // The same string as gethostname(2) gives, without a call to C.
            let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
            match name.trim() {
                "" => "localhost".to_owned(),
                name => name.to_owned(),
            }
        })
    }

    /// The configured state directory, or the default one of whoever runs this.
    pub fn state_dir(&self) -> PathBuf {
        self.state_dir.clone().unwrap_or_else(|| {
            // SAFETY: geteuid has no preconditions and can't fail (geteuid(2)).
            let root = unsafe { libc::geteuid() } == 0;
            default_state_dir(root, |name| std::env::var_os(name).map(PathBuf::from))
        })
    }

    /// The configured control socket, or the one in the state directory.
    pub fn control_socket(&self) -> PathBuf {
        self.control_socket.clone().unwrap_or_else(|| self.state_dir().join("control.sock"))
    }
}

/// Where state goes if nothing is configured: what the service manager says (systemd.exec(5),
/// `StateDirectory=`), the system's place for root, the user's place (XDG Base Directory
/// Specification) for anyone else.
fn default_state_dir(root: bool, variable: impl Fn(&str) -> Option<PathBuf>) -> PathBuf {
    let absolute = |name| variable(name).filter(|path| path.is_absolute());
    if let Some(list) = absolute("STATE_DIRECTORY") {
        // Several are separated by colons; the first is ours.
        let list = list.to_string_lossy().into_owned();
        return PathBuf::from(list.split(':').next().unwrap_or_default());
    }
    if !root {
        if let Some(state) = absolute("XDG_STATE_HOME") {
            return state.join("evenkeel");
        }
        if let Some(home) = absolute("HOME") {
            return home.join(".local/state/evenkeel");
        }
    }
    PathBuf::from("/var/lib/evenkeel")
}

/// The section `[traps]`, but for who may send, which is [`Settings::access`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traps {
    /// The addresses to listen on. Empty: no traps are received.
    pub listen: Vec<SocketAddr>,
    /// The list was not configured, and so a host without IPv6 is no error.
    pub listen_is_default: bool,
    /// The receive buffer to ask the kernel for, in bytes for each socket (TRAP-6).
    pub receive_buffer: u64,
    /// How many bytes of received traps may wait inside the agent (TRAP-6).
    pub max_waiting: u64,
    /// How many traps one source may send (TRAP-6).
    pub limits: SourceLimits,
}

impl Default for Traps {
    fn default() -> Traps {
        Traps {
            // 162 needs a privilege; 10162 is where trap receivers that run without one are
            // commonly found.
            listen: vec![
                SocketAddr::from((Ipv4Addr::UNSPECIFIED, 10162)),
                SocketAddr::from((Ipv6Addr::UNSPECIFIED, 10162)),
            ],
            listen_is_default: true,
            receive_buffer: 64 << 20,
            max_waiting: 256 << 20,
            limits: SourceLimits::default(),
        }
    }
}

/// The section `[notifications]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notifications {
    /// The object identifier under which EVENKEEL-MIB is anchored.
    pub root_oid: RootOid,
    /// Where notifications go.
    pub targets: Vec<NotificationTarget>,
    /// Who else is told alarms: webhooks, syslog servers and Alertmanagers.
    pub receivers: Vec<Receiver>,
}

/// One NMS that notifications go to (RFC 3413).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotificationTarget {
    /// The name in metrics and logs; no two targets have the same.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// How it is spoken to.
    pub destination: Destination,
    /// How long a Response is waited for.
    pub timeout: Duration,
    /// How often an inform is sent again before the target counts as unreachable.
    pub retries: u8,
    /// How many messages a second it is sent at most (TRAP-13), 1 or more.
    pub rate: u32,
    /// How many it may be sent at once after a pause, 1 or more.
    pub burst: u32,
    /// How many informs may be without an answer at a time, 1 or more.
    pub window: u16,
    /// Whether it is sent alarms.
    pub alarms: bool,
    /// The kinds of alarms that it is sent. Empty: every kind.
    pub kinds: Vec<Kind>,
    /// Alarms that are less severe than this are not sent.
    pub least_severity: alarm::Severity,
    /// Whether traps are forwarded to it at all.
    pub forward: bool,
    /// How a forwarded trap says whose it is (TRAP-9).
    pub origin: Origin,
}

/// How a forwarded trap says whose it is (TRAP-9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// By `snmpTrapAddress.0` (RFC 3584, 3.1).
    Address {
        /// By `snmpTrapCommunity.0` besides.
        community: bool,
    },
    /// It is the original datagram, byte for byte, from its original source address. This needs
    /// CAP_NET_RAW.
    Source,
}

/// The section `[web]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Web {
    /// Whether there is a page at all.
    pub enabled: bool,
    /// Where it is.
    pub listen: SocketAddr,
    /// Whether another host may order that the configuration is loaded again.
    pub remote_reload: bool,
    /// The web configuration file: TLS, users with passwords, headers.
    pub file: Option<Arc<WebFile>>,
}

impl Default for Web {
    fn default() -> Web {
        // Loopback, as the page asks for no password.
        let listen = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 19040);
        Web { enabled: true, listen, remote_reload: false, file: None }
    }
}

/// The section `[spool]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spool {
    /// How many bytes of traps may wait on the disk for targets that acknowledge (TRAP-11).
    pub max_size: u64,
}

impl Default for Spool {
    fn default() -> Spool {
        Spool { max_size: crate::spool::DEFAULT_MAX_SIZE }
    }
}

/// The section `[journal]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Journal {
    /// How long alarms are kept after they were cleared.
    pub keep: Duration,
    /// How many raises and clears are kept at most, however young: the disk has an end.
    pub max_rows: u64,
}

impl Default for Journal {
    fn default() -> Journal {
        Journal { keep: Duration::from_secs(90 * 86_400), max_rows: 10_000_000 }
    }
}

/// The section `[peers]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peers {
    /// What the peer monitor is told. Its batches carry its groups (PEER-8).
    pub settings: peers::settings::Settings,
    /// Where the peers of each group come from, in the order of the groups.
    pub sources: Vec<GroupSources>,
    /// The receive buffer to ask the kernel for, in bytes for each socket.
    pub receive_buffer: u64,
    /// Which series there are of each peer.
    pub metrics: PeerMetrics,
}

impl Default for Peers {
    fn default() -> Peers {
        Peers {
            settings: peers::settings::Settings::default(),
            sources: Vec::new(),
            receive_buffer: 4 << 20,
            metrics: PeerMetrics::None,
        }
    }
}

/// Where the peers of one group come from (PEER-13).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupSources {
    /// Those that are listed.
    pub peers: Vec<IpAddr>,
    /// Those that are not asked, though they have their place (PEER-5).
    pub disabled: Vec<IpAddr>,
    /// Whether any is asked.
    pub enabled: bool,
    /// The labels of those that are listed.
    pub labels: Labels,
    /// The files that name more.
    pub files: Vec<FilePattern>,
}

/// Which series there are of each peer (PEER-14).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PeerMetrics {
    /// None: groups have theirs.
    #[default]
    None,
    /// Its state alone.
    State,
    /// Its state, round-trip time and unanswered requests.
    Full,
}

/// The section `[pair]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// This agent's place in the pair.
    pub slot: Slot,
    /// Where the state channel is listened for, by TCP.
    pub listen: SocketAddr,
    /// Where the mate listens for it.
    pub mate: SocketAddr,
    /// The higher one is preferred as primary (PAIR-2).
    pub priority: u8,
    /// Heartbeats and time-outs (PAIR-8, PAIR-17).
    pub timing: Timing,
    /// How many automatic takeovers there may be; nothing turns the limit off (PAIR-6).
    pub limit: Option<Limit>,
    /// What becomes of a former primary that is back (PAIR-5).
    pub failback: Failback,
    /// What an answer or a notification waits for.
    pub wait_for: WaitFor,
    /// Who is asked whether this agent is cut off (PAIR-4); nothing if that was not said, and then it is
    /// the gateways and the notification targets.
    pub witnesses: Option<Vec<IpAddr>>,
    /// The heartbeat paths (PAIR-8), 1 to 8.
    pub paths: Vec<PairPath>,
}

/// A heartbeat path: where datagrams leave from and go to, by UDP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PairPath {
    /// What people and alarms call it: the local interface.
    pub interface: String,
    /// This agent's address.
    pub local: SocketAddr,
    /// The mate's.
    pub mate: SocketAddr,
}

/// What an answer or a notification waits for while the standby is in synchronisation (PAIR-13).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WaitFor {
    /// The standby has it on its disk.
    #[default]
    Standby,
    /// This agent has it on its disk.
    Disk,
}

impl Pair {
    /// The port of the state channel and the heartbeat paths (PAIR-8).
    pub const PORT: u16 = 19041;
    /// Where the state channel is listened for, unless it is said.
    pub const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), Pair::PORT);
    /// The priority, unless it is said: there is room on both sides.
    pub const PRIORITY: u8 = 100;

    /// What the core is told. `witnesses` is whether there is any to ask.
    pub fn settings(&self, witnesses: bool) -> pair::settings::Settings {
        let interfaces: Vec<&str> = self.paths.iter().map(|path| &*path.interface).collect();
        pair::settings::Settings {
            priority: self.priority,
            timing: self.timing,
            limit: self.limit,
            failback: self.failback,
            paths: Paths::new(&interfaces).expect("the reader gives 1 to 8 paths"),
            witnesses,
        }
    }
}

/// Where the values stand that are checked against the host, in the order of the values.
#[derive(Clone, Debug, Default)]
struct Places {
    source: Arc<Source>,
    subnets: Vec<SubnetOrigin>,
    targets: Vec<Span>,
    groups: Vec<PeerGroupOrigin>,
    pair: PairOrigin,
}

/// Where the addresses of the pair stand.
#[derive(Clone, Debug, Default)]
struct PairOrigin {
    /// Nothing if it is the default.
    listen: Option<Span>,
    mate: Span,
    witnesses: Vec<Span>,
    /// The local address and the mate's of each path that is given.
    paths: Vec<(Span, Span)>,
}

/// Where the values of one group of peers stand.
#[derive(Clone, Debug, Default)]
struct PeerGroupOrigin {
    name: Span,
    sources: Vec<(IpAddr, Span)>,
    files: Vec<Span>,
}

/// Where the values of one subnet stand.
#[derive(Clone, Debug, Default)]
struct SubnetOrigin {
    prefix: Span,
    polling_targets: Vec<Span>,
    peers: Vec<Span>,
    /// Primary and standby, where both are given.
    interfaces: Vec<Span>,
}

/// A duration as it is written in the configuration, for the command line.
///
/// # Errors
///
/// What is wrong with it, and what would be right, in one line.
pub fn duration(text: &str) -> Result<Duration, String> {
    units::duration(text).map_err(|wrong| match wrong.help {
        Some(help) => format!("{}; {help}", wrong.message),
        None => wrong.message,
    })
}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// When the file can't be read, is no TOML, or holds anything that can't work: then every
    /// mistake in it at once.
    pub fn load(path: &Path) -> Result<(Config, Vec<Warning>), ConfigErrors> {
        Config::load_with(path, |surroundings| surroundings)
    }

    fn load_with(
        path: &Path,
        adjust: impl Fn(Surroundings) -> Surroundings,
    ) -> Result<(Config, Vec<Warning>), ConfigErrors> {
        let name = path.display().to_string();
        let refuse = |message: String, help: &str| {
            let problem =
                Problem::error(&Arc::new(Source::new(&*name, "", Vec::new())), None, message);
            ConfigErrors::new(vec![if help.is_empty() { problem } else { problem.with_help(help) }])
        };
        let unreadable = |error: std::io::Error| {
            let help = match error.kind() {
                std::io::ErrorKind::NotFound => "name the file with --config",
                std::io::ErrorKind::PermissionDenied => {
                    "the file must be readable by the user that the agent runs as: give it that \
                     group, mode 0640"
                }
                _ => "",
            };
            refuse(format!("can't read the configuration: {error}"), help)
        };
        let file = File::open(path).map_err(unreadable)?;
        let mode = file.metadata().map_err(unreadable)?.permissions().mode() & 0o7777;
        let mut bytes = Vec::new();
        // One byte more than is allowed tells a file that is too long, whatever its kind.
        file.take(LONGEST_FILE + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        Config::from_bytes(&name, &bytes, adjust(Surroundings::of(path, mode)))
    }

    /// Reads the file that is named, or the one at [`DEFAULT_PATH`]; if none is named and there is
    /// none there, nothing is configured and the defaults hold.
    ///
    /// # Errors
    ///
    /// Those of [`Config::load`].
    pub fn load_or_default(path: Option<&Path>) -> Result<(Config, Vec<Warning>), ConfigErrors> {
        Config::named_or_default(path, Config::load)
    }

    /// The same for who asks a running agent something, and needs no secret for it: communities,
    /// passphrases and keys that stand in other files are not read, and are not among what this gives.
    ///
    /// # Errors
    ///
    /// Those of [`Config::load`].
    pub fn load_without_secrets(path: Option<&Path>) -> Result<Config, ConfigErrors> {
        let load = |path: &Path| Config::load_with(path, Surroundings::without_secrets);
        Config::named_or_default(path, load).map(|(config, _)| config)
    }

    /// Where the control socket is by a file that may be refused for something else: the agent that runs
    /// has the configuration before it in force, and can be asked. Nothing if that can't be told from it.
    pub fn control_socket_alone(path: Option<&Path>) -> Option<PathBuf> {
        let text = std::fs::read_to_string(path.unwrap_or(Path::new(DEFAULT_PATH))).ok()?;
        control_socket_of(&text)
    }

    fn named_or_default(
        path: Option<&Path>,
        load: impl Fn(&Path) -> Result<(Config, Vec<Warning>), ConfigErrors>,
    ) -> Result<(Config, Vec<Warning>), ConfigErrors> {
        match path {
            Some(path) => load(path),
            // A file that is there but can't be seen is an error, told by load.
            None if matches!(Path::new(DEFAULT_PATH).try_exists(), Ok(false)) => {
                Ok((Config::default(), Vec::new()))
            }
            None => load(Path::new(DEFAULT_PATH)),
        }
    }

    /// Reads the bytes of a file; `name` is what messages call it.
    fn from_bytes(
        name: &str,
        bytes: &[u8],
        surroundings: Surroundings,
    ) -> Result<(Config, Vec<Warning>), ConfigErrors> {
        if bytes.len() as u64 > LONGEST_FILE {
            let source = Arc::new(Source::new(name, "", Vec::new()));
            let problem = Problem::error(&source, None, "this file is longer than 4 MiB");
            return Err(ConfigErrors::new(vec![problem.with_help(
                "is it the configuration? Prefixes may stand for many addresses, and peers may \
                     be listed in files of their own",
            )]));
        }
        match std::str::from_utf8(bytes) {
            Ok(text) => {
                read(name, text, surroundings).map(|(config, warnings, _)| (config, warnings))
            }
            Err(error) => {
                let at = error.valid_up_to();
                let text = String::from_utf8_lossy(bytes);
                let source = Arc::new(Source::new(name, &text, veil::of_text(&text)));
                let byte = bytes.get(at).copied().unwrap_or_default();
                let message = format!("the byte 0x{byte:02x} here is no UTF-8");
                let problem = Problem::error(&source, Some((at..at + 1).into()), message);
                Err(ConfigErrors::new(vec![problem.with_help("save the file as UTF-8")]))
            }
        }
    }
}

/// Where the control socket is by the text of a configuration, whatever else is wrong with it.
fn control_socket_of(text: &str) -> Option<PathBuf> {
    let (document, errors) = DeTable::parse_recoverable(text);
    let agent = document.get_ref().get("agent").map(|agent| agent.get_ref().as_table());
    let path = |key: &str| -> Option<Option<PathBuf>> {
        let value = match agent {
            // It is no table.
            Some(None) => return None,
            Some(Some(agent)) => agent.get(key),
            None => None,
        };
        match value {
            Some(value) => {
                let path = PathBuf::from(value.get_ref().as_str()?);
                path.is_absolute().then_some(Some(path))
            }
            // What is no TOML may hide it.
            None if !errors.is_empty() && text.contains(key) => None,
            None => Some(None),
        }
    };
    let agent = Agent {
        control_socket: path("control_socket")?,
        state_dir: path("state_dir")?,
        ..Agent::default()
    };
    Some(agent.control_socket())
}

/// The names of all keys that reading a text asked for.
type KnownKeys = std::collections::BTreeSet<String>;

/// Reads a text.
fn read(
    name: &str,
    text: &str,
    surroundings: Surroundings,
) -> Result<(Config, Vec<Warning>, KnownKeys), ConfigErrors> {
    // A byte order mark is what some editors write before UTF-8.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if let Some(at) = text.find('\0') {
        let source = Arc::new(Source::new(name, text, veil::of_text(text)));
        let problem =
            Problem::error(&source, Some((at..at + 1).into()), "there is a NUL byte here");
        return Err(ConfigErrors::new(vec![problem.with_help("is this a text file in UTF-8?")]));
    }
    let (document, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        let source = Arc::new(Source::new(name, text, veil::of_text(text)));
        // What the parser made of the rest is a guess, and errors in guesses help nobody.
        let mut problems: Vec<_> =
            errors.iter().map(|error| syntax(&source, text, error)).collect();
        // One mistake often makes several errors on its line, and the first says most.
        problems.dedup_by_key(|problem| source.line(problem.place()));
        return Err(ConfigErrors::new(problems));
    }
    let hidden = veil::of_document(text, document.get_ref());
    let reader = Reader::new(Arc::new(Source::new(name, text, hidden)), surroundings);
    let config = sections::config(&reader, &document);
    let (mut problems, known) = reader.finish();
    problems.sort_by(Problem::order);
    if problems.iter().any(|problem| problem.severity() == Severity::Error) {
        return Err(ConfigErrors::new(problems));
    }
    Ok((config, problems, known))
}

/// A syntax error. The parser's own words are kept where they help; the common slips are told in
/// words for whoever wrote the file and may not know TOML's grammar.
fn syntax(source: &Arc<Source>, text: &str, error: &toml::de::Error) -> Problem {
    let range = error.span().unwrap_or(text.len()..text.len());
    let problem = |message: &str| Problem::error(source, Some(range.clone().into()), message);
    let rest = text.get(range.start..).unwrap_or_default();
    let rest = rest.lines().next().unwrap_or_default();
    let before = text.get(..range.start).unwrap_or_default();
    let before = before.rsplit('\n').next().unwrap_or_default();
    let value_expected = before.trim_end().ends_with('=');
    let is_word = |word: &str| word.starts_with(|c: char| c.is_alphabetic() || c == '/');
    match error.message() {
        "duplicate key" => {
            problem("this is here for the second time").with_help("keep one of them")
        }
        "recursion limit" | "cannot recurse further; max recursion depth met" => {
            problem("this is nested too deeply").with_help("no option needs more than four levels")
        }
        _ if value_expected && matches!(rest.trim(), "" | "#") => {
            problem("the value is missing").with_help("write it behind the =, or leave the key out")
        }
        _ if value_expected && is_word(rest) => {
            let word = rest.split([',', ']', '}', '#']).next().unwrap_or_default().trim();
            // A long one would be no help, and the marked place says where.
            let help = match word.len() {
                0..=60 if !source.hides(range.clone().into()) => {
                    format!("write \"{}\"", word.replace('"', ""))
                }
                _ => "put it in quotes".to_owned(),
            };
            problem("a string stands in quotes").with_help(help)
        }
        "invalid basic string, expected `\"`" => {
            problem("this string has no closing quote").with_help("end it with a \" on its line")
        }
        _ if rest.starts_with(|c: char| c.is_control() && c != '\t') => {
            problem("a control character can't stand here")
                .with_help("inside a string, a tab is written as \\t and any other as \\u0000")
        }
        message => problem(message).about("this is no TOML"),
    }
}
