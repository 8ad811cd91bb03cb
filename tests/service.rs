//! The service: what the agent tells the service manager (sd_notify(3)), whom a socket of ours plays here, and
//! whether systemd itself is content with the unit.

use std::{
    fs,
    os::unix::net::UnixDatagram,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::common::{Agent, BINARY, Lab, repository};

/// How long anything may take. Far above need.
const LIMIT: Duration = Duration::from_secs(30);

/// Nothing that is sent anywhere.
const CONFIGURATION: &str =
    "[traps]\nlisten = [\"127.0.0.1:10162\"]\n[subnets]\nwatch_gateways = false\n";

/// A service manager's end of the notification socket.
pub struct Manager {
    socket: UnixDatagram,
    directory: TempDir,
}

impl Manager {
    /// One that nobody has spoken to.
    pub fn new() -> Manager {
        let directory = TempDir::with_prefix("ek-notify-").expect("a temporary directory");
        let socket = UnixDatagram::bind(directory.path().join("notify")).expect("a new path");
        Manager { socket, directory }
    }

    /// What it puts into the environment of a service with a watchdog of one second.
    pub fn environment(&self) -> [String; 2] {
        let path: PathBuf = self.directory.path().join("notify");
        [format!("NOTIFY_SOCKET={}", path.display()), "WATCHDOG_USEC=1000000".to_owned()]
    }

    /// What is said next, if anything is within this time.
    pub fn hears(&self, within: Duration) -> Option<String> {
        let mut message = [0; 4096];
        self.socket.set_read_timeout(Some(within)).expect("not zero");
        let length = self.socket.recv(&mut message).ok()?;
        Some(String::from_utf8_lossy(&message[..length]).trim().to_owned())
    }

    /// Waits until this is said, and gives what was said before it, but for signs of life.
    pub fn wait_for(&self, what: &str) -> Vec<String> {
        let until = Instant::now() + LIMIT;
        let mut before = Vec::new();
        while Instant::now() < until {
            match self.hears(LIMIT) {
                Some(said) if said == what => return before,
                Some(said) if said == "WATCHDOG=1" => {}
                Some(said) => before.push(said),
                None => break,
            }
        }
        panic!("{what} was not said, but {before:?}");
    }
}

#[test]
fn pair_9_pair_10_the_service_manager_is_told_what_the_agent_does_and_that_it_is_alive() {
    let lab = Lab::new();
    let ns = lab.namespace("service");
    let manager = Manager::new();
    let [socket, watchdog] = manager.environment();
    let mut agent = Agent::start_via(&ns, CONFIGURATION, &["env", &socket, &watchdog]);
    assert_eq!(manager.wait_for("READY=1"), Vec::<String>::new());
    manager.wait_for("WATCHDOG=1");
    manager.wait_for("WATCHDOG=1");

    agent.signal(libc::SIGHUP);
    manager.wait_for("RELOADING=1");
    manager.wait_for("READY=1");
    // A bad configuration is refused, and it is as ready as before.
    agent.configure("[traps]\nlisten = \"nowhere\"\n");
    agent.signal(libc::SIGHUP);
    manager.wait_for("RELOADING=1");
    manager.wait_for("READY=1");

    // One that stands still gives no sign of life, and when it goes on it does again.
    agent.signal(libc::SIGSTOP);
    while manager.hears(Duration::from_secs(2)).is_some() {}
    agent.signal(libc::SIGCONT);
    manager.wait_for("WATCHDOG=1");

    agent.stop();
    manager.wait_for("STOPPING=1");
}

#[test]
fn systemd_is_content_with_the_unit() {
    let directory = TempDir::with_prefix("ek-unit-").expect("a temporary directory");
    let unit = fs::read_to_string(repository("packaging/evenkeel.service")).expect("it is there");
    // The package puts the binary there; here it is where cargo has built it.
    let here = unit.replace("=/usr/bin/evenkeel", &format!("={BINARY}"));
    assert_ne!(unit, here, "the unit starts something else");
    let path = directory.path().join("evenkeel.service");
    fs::write(&path, here).expect("a writable directory");
    for arguments in
        [&["verify", "--man=no"][..], &["security", "--offline=true", "--threshold=20"]]
    {
        let mut command = Command::new("systemd-analyze");
        let output = command.args(arguments).arg(&path).output().expect("systemd is installed");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
        assert!(!said.contains("evenkeel.service"), "{arguments:?}: {said}");
    }
}
