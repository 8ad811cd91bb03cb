//! keepalived's VRRP (RFC 5798) with its default timers, an instance on each of the two hosts: an
//! advertisement a second, so that the backup takes over 3.6 seconds after the last.

use std::{
    fs::{self, File, OpenOptions},
    io::{BufRead as _, BufReader},
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{
    common::{Guard, Ns, wait_until},
    takeover_hosts::Hosts,
};

/// What moves.
const ADDRESS: &str = "10.1.0.100/24";

/// Whether it can be started.
pub fn is_installed() -> bool {
    Command::new("keepalived").arg("--version").stderr(Stdio::null()).status().is_ok()
}

/// Both instances.
pub struct Vrrp<'a> {
    hosts: &'a Hosts,
    directory: TempDir,
    processes: [Option<Child>; 2],
}

/// What is watched for the address.
pub struct Watch {
    _monitor: Guard,
    lines: Receiver<Instant>,
}

impl<'a> Vrrp<'a> {
    /// Starts both. Neither gives way to a higher priority, so that a master that comes back stays
    /// backup, as an agent stays standby.
    pub fn start(hosts: &'a Hosts) -> Vrrp<'a> {
        let directory = TempDir::with_prefix("ek-vrrp-").expect("a temporary directory");
        let mut vrrp = Vrrp { hosts, directory, processes: [None, None] };
        for at in [0, 1] {
            let text = format!(
                "global_defs {{\n  router_id keel_{at}\n}}\n\
                 vrrp_instance V {{\n  state BACKUP\n  nopreempt\n  interface eth0\n  \
                 virtual_router_id 51\n  priority {}\n  virtual_ipaddress {{\n    {ADDRESS}\n  }}\n}}\n",
                100 - at
            );
            fs::write(vrrp.file(at, "conf"), text).expect("a writable directory");
            vrrp.launch(at);
            wait_until("the first to be master", Duration::from_secs(30), || vrrp.has_address(0));
        }
        vrrp
    }

    fn file(&self, at: usize, what: &str) -> PathBuf {
        self.directory.path().join(format!("{at}.{what}"))
    }

    /// Starts one, without the address that a killed one has left.
    pub fn launch(&mut self, at: usize) {
        let ns = self.hosts.host(at);
        if self.has_address(at) {
            ns.exec(&format!("ip addr del {ADDRESS} dev eth0"));
        }
        let log = OpenOptions::new().create(true).append(true).open(self.file(at, "log"));
        let log: File = log.expect("a writable directory");
        let mut command = ns.command("keepalived");
        command.args(["--dont-fork", "--vrrp", "--log-console", "--log-detail", "--use-file"]);
        command.arg(self.file(at, "conf"));
        command.arg("--pid").arg(self.file(at, "pid"));
        command.arg("--vrrp_pid").arg(self.file(at, "vrrp.pid"));
        // The parent and its child die together.
        command.process_group(0).stderr(log.try_clone().expect("a file")).stdout(log);
        self.processes[at] = Some(command.spawn().expect("it is installed"));
    }

    /// Kills one, all of it.
    pub fn kill(&mut self, at: usize) {
        if let Some(mut process) = self.processes[at].take() {
            let group = i32::try_from(process.id()).expect("a process id");
            // SAFETY: a child that has not been waited for keeps its process id, and its group is its own.
            unsafe { libc::kill(-group, libc::SIGKILL) };
            process.wait().expect("a child of ours");
        }
    }

    fn has_address(&self, at: usize) -> bool {
        self.hosts.host(at).exec("ip -o addr show dev eth0").contains(ADDRESS)
    }

    /// Waits until this one is master and the other one backup; makes it so if it isn't.
    pub fn wait_master(&mut self, at: usize, within: Duration) {
        let until = Instant::now() + within;
        while !self.has_address(at) || self.has_address(1 - at) || !self.is_backup(1 - at) {
            assert!(Instant::now() < until, "VRRP does not settle:\n{}", self.logs());
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Whether it said last that it is backup.
    fn is_backup(&self, at: usize) -> bool {
        let text = fs::read_to_string(self.file(at, "log")).unwrap_or_default();
        let states = text.lines().rev().find(|line| line.contains("Entering "));
        states.is_some_and(|line| line.contains("BACKUP"))
    }

    fn logs(&self) -> String {
        let read = |at| fs::read_to_string(self.file(at, "log")).unwrap_or_default();
        format!("{}\n{}", read(0), read(1))
    }

    /// Watches for the address to come to one.
    pub fn watch(&self, at: usize) -> Watch {
        Watch::start(self.hosts.host(at))
    }
}

impl Drop for Vrrp<'_> {
    fn drop(&mut self) {
        self.kill(0);
        self.kill(1);
    }
}

impl Watch {
    fn start(ns: &Ns) -> Watch {
        let mut command = ns.command("ip");
        command.args(["-o", "monitor", "address"]).stdout(Stdio::piped());
        let mut monitor = Guard::spawn(&mut command);
        let output = BufReader::new(monitor.0.stdout.take().expect("piped"));
        let (tell, lines) = channel();
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if line.contains(ADDRESS) && !line.starts_with("Deleted") {
                    // Nobody asks any more once the first has come.
                    let _ = tell.send(Instant::now());
                }
            }
        });
        // It listens when it waits for its socket.
        let stat = format!("/proc/{}/wchan", monitor.0.id());
        let until = Instant::now() + Duration::from_secs(2);
        while Instant::now() < until
            && !fs::read_to_string(&stat).is_ok_and(|wchan| wchan.contains("recv"))
        {
            thread::sleep(Duration::from_millis(5));
        }
        Watch { _monitor: monitor, lines }
    }

    /// How long after a moment the address came.
    pub fn end(self, began: Instant, within: Duration) -> Duration {
        let came = self.lines.recv_timeout(within).expect("VRRP takes over");
        came.saturating_duration_since(began)
    }
}
