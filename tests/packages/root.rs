//! A Debian of its own: as a tree of files that programs run in, and booted, with systemd as its first
//! process. Neither has a network but its own loopback.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use tempfile::TempDir;

use crate::common::{output, repository, wait_until};

/// How long a boot may take. Far above need.
const BOOT: Duration = Duration::from_secs(90);

/// The tree.
pub struct Root(TempDir);

impl Root {
    /// A fresh one.
    pub fn new() -> Root {
        let base = repository("target/packages-root.tar");
        assert!(base.exists(), "there is no {}: `tests/setup` makes it", base.display());
        let directory = TempDir::with_prefix("ek-root-").expect("a temporary directory");
        // Others than root must be able to go through it.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).expect("ours");
        output(Command::new("tar").arg("xf").arg(base).arg("-C").arg(directory.path()));
        let root = Root(directory);
        // The first run makes what every container has.
        root.run("true");
        root
    }

    /// A file in it.
    pub fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path.trim_start_matches('/'))
    }

    /// Puts a file of ours into its /root, and gives its name there.
    pub fn bring(&self, file: &Path) -> String {
        let name = file.file_name().expect("a file").to_str().expect("a plain name");
        fs::copy(file, self.path("/root").join(name)).expect("a writable directory");
        format!("/root/{name}")
    }

    /// Writes a file in it.
    pub fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("a directory")).expect("a writable directory");
        fs::write(path, text).expect("a writable directory");
    }

    /// Runs a shell's line in it, where no service manager is.
    pub fn try_run(&self, line: &str) -> Output {
        let mut container = container(self, "run");
        container.args(["--pipe", "--", "/bin/sh", "-c", line]).stdin(Stdio::null());
        container.output().expect("`tests/setup` has installed systemd-nspawn")
    }

    /// The same, which must end well, and what it says.
    pub fn run(&self, line: &str) -> String {
        told(line, &self.try_run(line), String::new)
    }

    /// Owner, group and mode of a file, as `stat` shows them.
    pub fn stat(&self, path: &str) -> String {
        self.run(&format!("stat -c '%U %G %a' {path}")).trim().to_owned()
    }

    /// Every file, with its size and its mode, but what package managers and the C library keep for themselves.
    pub fn files(&self) -> BTreeMap<PathBuf, (u32, u64)> {
        const OTHERS: [&str; 9] = [
            "var/lib/dpkg",
            "var/lib/rpm",
            "var/log",
            "var/cache",
            "root",
            "etc/passwd-",
            "etc/group-",
            "etc/shadow-",
            "etc/gshadow-",
        ];
        let mut files = BTreeMap::new();
        let mut directories = vec![self.0.path().to_owned()];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(&directory).expect("a readable directory") {
                let path = entry.expect("a readable directory").path();
                let inside = path.strip_prefix(self.0.path()).expect("below it").to_owned();
                if OTHERS.iter().any(|other| inside.starts_with(other)) {
                    continue;
                }
                let metadata = fs::symlink_metadata(&path).expect("it is there");
                let size = if metadata.is_dir() { 0 } else { metadata.len() };
                if metadata.is_dir() {
                    directories.push(path);
                }
                files.insert(inside, (metadata.mode(), size));
            }
        }
        files
    }
}

/// What a line that ended well has said on its standard output; systemd-nspawn itself talks on the other.
fn told(line: &str, done: &Output, more: impl Fn() -> String) -> String {
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{line}:\n{said}\n{errors}\n{}", more());
    said
}

/// The container that everything here is run in.
fn container(root: &Root, name: &str) -> Command {
    let mut command = Command::new("systemd-nspawn");
    command
        .args(["--quiet", "--register=no", "--keep-unit", "--private-network", "--as-pid2"])
        .arg(format!("--machine=ek-{name}-{}", std::process::id()))
        .arg("--directory")
        .arg(root.0.path());
    command
}

/// The tree, booted. It is switched off when dropped.
pub struct Machine<'a> {
    /// It lives in this.
    _root: &'a Root,
    /// The container's first process, as this host sees it.
    first: i32,
    container: Child,
}

impl<'a> Machine<'a> {
    /// Boots it, and waits until all that it starts is there.
    pub fn boot(root: &'a Root) -> Machine<'a> {
        let log = File::create(root.path("/root/console")).expect("a writable directory");
        let mut command = Command::new("systemd-nspawn");
        command
            .args(["--quiet", "--register=no", "--keep-unit", "--private-network", "--boot"])
            .arg(format!("--machine=ek-boot-{}", std::process::id()))
            .arg("--directory")
            .arg(root.0.path())
            .stdin(Stdio::null())
            .stderr(log.try_clone().expect("a file"))
            .stdout(log);
        let container = command.spawn().expect("`tests/setup` has installed systemd-nspawn");
        let children = format!("/proc/{0}/task/{0}/children", container.id());
        let mut machine = Machine { _root: root, first: 0, container };
        wait_until("the container's first process", BOOT, || {
            let found = fs::read_to_string(&children).unwrap_or_default();
            // Before it there is one that only makes it.
            let first = found.split_whitespace().find(|pid| is_first(pid));
            machine.first = first.and_then(|pid| pid.parse().ok()).unwrap_or_default();
            machine.first != 0
        });
        wait_until("the end of the boot", BOOT, || {
            let state = machine.try_run("systemctl is-system-running");
            matches!(state.stdout.trim_ascii(), b"running" | b"degraded")
        });
        machine
    }

    /// Runs a shell's line on it.
    pub fn try_run(&self, line: &str) -> Output {
        let mut command = Command::new("nsenter");
        command.args(["--all", "--root", "--wd", "--target", &self.first.to_string(), "--"]);
        command.args(["/bin/sh", "-c", line]).stdin(Stdio::null()).env("LC_ALL", "C.UTF-8");
        command.output().expect("nsenter is part of util-linux")
    }

    /// The same, which must end well, and what it says.
    pub fn run(&self, line: &str) -> String {
        told(line, &self.try_run(line), || self.log())
    }

    /// A property of the service (systemctl(1)).
    pub fn service(&self, property: &str) -> String {
        self.run(&format!("systemctl show -P {property} evenkeel")).trim().to_owned()
    }

    /// What the agent has logged, and systemd about it.
    pub fn log(&self) -> String {
        let log = self.try_run("journalctl -u evenkeel --no-pager");
        String::from_utf8_lossy(&log.stdout).into_owned()
    }

    /// Waits until a line of the agent's status begins and goes on like this.
    pub fn wait_for_status(&self, start: &str, part: &str) {
        wait_until(&format!("{start} {part} in the status"), Duration::from_secs(30), || {
            // The configuration may be a bad one just now.
            let ask = "evenkeel status --format line --socket /var/lib/evenkeel/control.sock";
            let status = self.try_run(ask);
            let status = String::from_utf8_lossy(&status.stdout).into_owned();
            status.lines().any(|line| line.starts_with(start) && line.contains(part))
        });
    }
}

impl Drop for Machine<'_> {
    fn drop(&mut self) {
        // With its first process the kernel ends all others.
        if self.first != 0 {
            // SAFETY: the container, which is its parent, has not been waited for.
            unsafe { libc::kill(self.first, libc::SIGKILL) };
        }
        self.container.kill().ok();
        self.container.wait().ok();
    }
}

/// Whether a process is the first one of a namespace of processes (proc(5), NSpid).
fn is_first(pid: &str) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().any(|line| line.starts_with("NSpid:") && line.ends_with("\t1"))
}
