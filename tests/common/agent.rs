//! The agent under test: the real binary, with a configuration and a state directory of its own.

use std::{
    cell::RefCell,
    fs::{self, File, OpenOptions},
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::ExitStatus,
    time::{Duration, Instant},
};

use rusqlite::{Connection, OpenFlags};
use serde_json::Value;
use tempfile::TempDir;

use super::{Ns, process::Guard};

/// The binary that cargo built for this test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_evenkeel");

/// Where its web page listens, each in its own namespace.
const WEB: &str = "127.0.0.1:19040";

/// How long a start may take. Far above need: this is a limit, not an expectation.
const START: Duration = Duration::from_secs(15);

/// A running agent.
pub struct Agent<'a> {
    ns: &'a Ns,
    directory: TempDir,
    process: Option<Guard>,
    via: Vec<String>,
    binary: PathBuf,
    name: String,
    /// Its table `[web]`, and the rest of its configuration.
    web: String,
    rest: RefCell<String>,
}

/// One row of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// When it happened, since 1970: the receipt or the deadline that it comes from.
    pub at: Duration,
    /// `raise` or `clear`.
    pub event: String,
    /// Why it was cleared, or empty.
    pub reason: String,
    /// The alarm's id.
    pub id: String,
    /// The alarm's kind.
    pub kind: String,
    /// What it is about.
    pub object: String,
    /// What is said to people.
    pub text: String,
}

impl<'a> Agent<'a> {
    /// Starts one in a namespace and waits until it is ready. The configuration is given without
    /// its tables `[agent]` and `[web]`; it may begin with more keys of `[agent]`.
    pub fn start(ns: &'a Ns, configuration: &str) -> Agent<'a> {
        Agent::start_via(ns, configuration, &[])
    }

    /// The same, through a program that takes rights away before it runs what follows.
    pub fn start_via(ns: &'a Ns, configuration: &str, via: &[&str]) -> Agent<'a> {
        let mut agent = Agent::with(ns, configuration);
        agent.via = via.iter().map(|&word| word.to_owned()).collect();
        agent.launch();
        agent
    }

    /// One that is configured, and not started yet.
    pub fn with(ns: &'a Ns, configuration: &str) -> Agent<'a> {
        Agent::prepare(ns, "keel-1", configuration)
    }

    /// The same, of this name.
    pub fn prepare(ns: &'a Ns, name: &str, configuration: &str) -> Agent<'a> {
        let directory = TempDir::with_prefix("ek-agent-").expect("a temporary directory");
        let (name, web) = (name.to_owned(), format!("listen = {WEB:?}"));
        let rest = RefCell::default();
        let (binary, via) = (PathBuf::from(BINARY), Vec::new());
        let agent = Agent { ns, directory, process: None, via, binary, name, web, rest };
        agent.configure(configuration);
        agent
    }

    /// Where it runs.
    pub fn namespace(&self) -> &'a Ns {
        self.ns
    }

    /// Writes the configuration file anew, with these lines in its table `[web]`.
    pub fn configure_web(&mut self, lines: &str) {
        lines.clone_into(&mut self.web);
        let configuration = self.rest.borrow().clone();
        self.configure(&configuration);
    }

    /// Writes the configuration file anew, without telling the agent.
    pub fn configure(&self, configuration: &str) {
        let state = self.state();
        fs::create_dir_all(&state).expect("a writable temporary directory");
        self.rest.replace(configuration.to_owned());
        let text = format!(
            "[web]\n{}\n\n[agent]\nname = {:?}\nstate_dir = {:?}\n{configuration}",
            self.web,
            self.name,
            state.to_str().expect("a plain path"),
        );
        fs::write(self.file(), text).expect("a writable temporary directory");
    }

    /// The configuration file.
    pub fn file(&self) -> PathBuf {
        self.directory.path().join("evenkeel.toml")
    }

    /// The state directory.
    pub fn state(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    /// From its next start on it says that it is of this version, whose numbers have a digit each: it is
    /// a copy of the binary with that written into it.
    pub fn set_version(&mut self, version: &str) {
        const WORDS: &[u8] = b"this agent pairs as version ";
        let mut binary = fs::read(BINARY).expect("the binary that cargo built");
        let places: Vec<usize> = memchr::memmem::find_iter(&binary, WORDS).collect();
        let [place] = places[..] else { panic!("it says its version at {places:?}") };
        let at = place + WORDS.len();
        binary[at..at + version.len()].copy_from_slice(version.as_bytes());
        self.binary = self.directory.path().join(format!("evenkeel-{version}"));
        fs::write(&self.binary, binary).expect("a writable temporary directory");
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(&self.binary, mode).expect("a file of ours");
    }

    /// Starts the binary and waits until it is ready.
    pub fn launch(&mut self) {
        self.launch_unready();
        self.wait_ready();
    }

    /// Waits until it says that it is ready.
    pub fn wait_ready(&mut self) {
        let until = Instant::now() + START;
        while self.get("/-/ready").is_none_or(|(status, _)| status != 200) {
            if let Some(status) = self.exited() {
                panic!("the agent ended at its start ({status}):\n{}", self.log());
            }
            assert!(Instant::now() < until, "not ready after {START:?}:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Starts the binary and waits for nothing.
    pub fn launch_unready(&mut self) {
        let log = self.open_log();
        let binary = self.binary.to_str().expect("a plain path");
        let mut words: Vec<&str> = self.via.iter().map(String::as_str).collect();
        words.extend([binary, "run", "--config"]);
        let mut command = self.ns.command(words[0]);
        command.args(&words[1..]).arg(self.file());
        command.stdout(log.try_clone().expect("a file")).stderr(log);
        self.process = Some(Guard::spawn(&mut command));
    }

    /// How it ended, if it has.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.process.as_mut()?.0.try_wait().expect("a child of ours")
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: i32) {
        self.process.as_ref().expect("a running agent").signal(signal);
    }

    /// Kills it as a power cut would, and waits until it is gone.
    pub fn kill9(&mut self) {
        self.signal(libc::SIGKILL);
        self.process.take().expect("a running agent").0.wait().expect("a child of ours");
    }

    /// Stops it as systemd would. It must end in an orderly way within ten seconds.
    pub fn stop(&mut self) {
        let mut process = self.process.take().expect("a running agent");
        let ended = process.end(Duration::from_secs(10));
        assert!(ended, "SIGTERM did not end the agent:\n{}", self.log());
    }

    /// Stops it in an orderly way and starts it again.
    pub fn restart(&mut self) {
        self.stop();
        self.launch();
    }

    /// Makes it read its configuration file again. What that does, it does soon after.
    pub fn reload(&self) {
        self.signal(libc::SIGHUP);
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("a running agent").0.id()
    }

    /// How many kB of memory it has in use (proc(5), VmRSS).
    pub fn resident(&self) -> u64 {
        let pid = self.pid();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a process");
        line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("kB")
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    fn open_log(&self) -> File {
        let path = self.directory.path().join("log");
        OpenOptions::new().create(true).append(true).open(path).expect("a writable directory")
    }

    /// Its metrics as they are now.
    pub fn metrics(&self) -> Metrics {
        Metrics(self.body("/metrics"))
    }

    /// Its status as it is now.
    pub fn status(&self) -> Value {
        let text = self.body("/api/v1/status");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in:\n{text}"))
    }

    /// The whole journal, oldest first.
    pub fn journal(&self) -> Vec<Row> {
        let path = self.database();
        let journal = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY)
            .unwrap_or_else(|error| panic!("{}: {error}\n{}", path.display(), self.log()));
        journal.busy_timeout(Duration::from_secs(5)).expect("a time");
        let query = "SELECT event, coalesce(reason, ''), alarm_id, kind, object, at_ms, \
                     text \
                     FROM journal ORDER BY seq";
        let mut statement = journal.prepare(query).expect("the journal's agreed columns");
        let rows = statement.query_map([], |row| {
            Ok(Row {
                event: row.get(0)?,
                reason: row.get(1)?,
                id: row.get(2)?,
                kind: row.get(3)?,
                object: row.get(4)?,
                at: Duration::from_millis(row.get::<_, i64>(5)?.unsigned_abs()),
                text: row.get(6)?,
            })
        });
        rows.expect("readable").collect::<Result<_, _>>().expect("text columns")
    }

    /// The file that the journal is in.
    pub fn database(&self) -> PathBuf {
        self.state().join("evenkeel.db")
    }

    /// The body of a page that must be there.
    fn body(&self, path: &str) -> String {
        match self.get(path) {
            Some((200, body)) => body,
            other => panic!("GET {path}: {other:?}\n{}", self.log()),
        }
    }

    /// Status and body of a page, or nothing if nobody answers.
    pub fn get(&self, path: &str) -> Option<(u16, String)> {
        self.ns.get(WEB, path)
    }
}

impl Drop for Agent<'_> {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            // One that a test has stopped with SIGSTOP would not hear SIGTERM.
            if process.0.try_wait().is_ok_and(|status| status.is_none()) {
                process.signal(libc::SIGCONT);
            }
            process.end(Duration::from_secs(5));
        }
        if std::thread::panicking() {
            eprintln!("--- what the agent logged ---\n{}---", self.log());
        }
    }
}

/// Metrics in the text format 0.0.4.
#[derive(Debug)]
pub struct Metrics(pub String);

impl Metrics {
    /// The sum of all series of this name that carry these labels; 0 where there is none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let series = self.0.lines().filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let (base, its_labels) = series.split_once('{').unwrap_or((series, ""));
            let fits = |(label, value): &(&str, &str)| {
                its_labels.contains(&format!("{label}=\"{value}\""))
            };
            (base == name && labels.iter().all(fits)).then_some(value)
        });
        series.map(|value| value.parse::<f64>().expect("a number")).sum()
    }

    /// Whether there is a series of this name at all.
    pub fn has(&self, name: &str) -> bool {
        self.0
            .lines()
            .any(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])))
    }
}
