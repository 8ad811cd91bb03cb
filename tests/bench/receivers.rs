//! The three that receive: the agent, net-snmp's snmptrapd, and the bare loop; each a process of
//! its own on one CPU, with the same questions asked of it from outside.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    net::{Ipv4Addr, TcpStream, UdpSocket},
    os::{fd::AsRawFd, unix::process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    ptr,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// The port that all of them listen on, one after the other.
pub const PORT: u16 = 10162;

const WEB: &str = "127.0.0.1:19040";

/// The CPU of the receivers; the sender has the other one.
const RECEIVER_CPU: usize = 1;

/// Which of the three.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The agent, with its engine, counters and journal at work.
    Agent,
    /// snmptrapd, logging to a file, with the receive buffer that it has by default.
    Snmptrapd,
    /// snmptrapd with the largest buffer that the system grants without a right.
    SnmptrapdLarge,
    /// The bare loop.
    Bare,
}

/// A running receiver.
pub struct Receiver {
    kind: Kind,
    child: Child,
    directory: TempDir,
    counter: Option<Counter>,
    /// How far the log was read, and how many traps were in it.
    log: (u64, u64),
}

/// What they are to do beyond taking traps of SNMPv2c.
#[derive(Clone, Debug, Default)]
pub struct Work {
    /// More of the agent's configuration.
    pub agent: String,
    /// More of snmptrapd's.
    pub snmptrapd: String,
    /// What the bare loop does with what it receives.
    pub bare: &'static str,
}

impl Receiver {
    /// Starts one and waits until its socket is there.
    pub fn start(kind: Kind) -> Receiver {
        Receiver::start_for(kind, &Work { bare: "count", ..Work::default() })
    }

    /// Starts one that has more to do.
    pub fn start_for(kind: Kind, work: &Work) -> Receiver {
        let directory = TempDir::with_prefix("ek-bench-").expect("a temporary directory");
        let mut command = command(kind, directory.path(), work);
        pin(&mut command, RECEIVER_CPU);
        command.stdout(Stdio::null());
        let log = File::create(directory.path().join("stderr")).expect("a writable directory");
        let child = command.stderr(log).spawn().unwrap_or_else(|error| panic!("{kind:?}: {error}"));
        let mut receiver = Receiver { kind, child, directory, counter: None, log: (0, 0) };
        let ready = || {
            socket_state().is_some()
                && (kind != Kind::Agent
                    || get("/-/ready").is_some_and(|page| page.contains(" 200 ")))
        };
        let until = Instant::now() + Duration::from_secs(15);
        while !ready() {
            let ended = receiver.child.try_wait().expect("a child of ours").is_some();
            assert!(
                !ended && Instant::now() < until,
                "{kind:?} does not start: {}",
                receiver.said()
            );
            thread::sleep(Duration::from_millis(20));
        }
        if kind == Kind::Bare {
            let file = counter_file(receiver.directory.path());
            receiver.counter = Some(Counter::open(&file).expect("the file that the child made"));
        }
        receiver
    }

    /// How many traps it has counted.
    pub fn counted(&mut self) -> u64 {
        match self.kind {
            Kind::Agent => {
                let page = get("/metrics").unwrap_or_default();
                let series = |line: &&str| line.starts_with("evenkeel_traps_received_total");
                let values = page.lines().filter(series).filter_map(|line| line.rsplit_once(' '));
                values.filter_map(|(_, value)| value.parse::<f64>().ok()).sum::<f64>() as u64
            }
            Kind::Snmptrapd | Kind::SnmptrapdLarge => self.logged(),
            Kind::Bare => self.counter.as_ref().expect("since start").0.load(Ordering::Relaxed),
        }
    }

    /// The traps in snmptrapd's log: two lines each in its default format.
    fn logged(&mut self) -> u64 {
        use std::io::Seek;
        let mut text = Vec::new();
        if let Ok(mut file) = File::open(self.directory.path().join("traps.log")) {
            file.seek(io::SeekFrom::Start(self.log.0)).expect("a plain file");
            file.read_to_end(&mut text).expect("a plain file");
        }
        self.log.0 += text.len() as u64;
        // A trap's second line holds its varbinds.
        self.log.1 += text.iter().filter(|&&octet| octet == b'\n').count() as u64;
        self.log.1 / 2
    }

    /// The CPU time that its threads have had so far.
    pub fn cpu(&self) -> Duration {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("it runs");
        let of = |task: fs::DirEntry| -> Option<u64> {
            let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
            text.split(' ').next()?.parse().ok()
        };
        Duration::from_nanos(tasks.flatten().filter_map(of).sum())
    }

    /// Stops it where it stands, or lets it go on.
    pub fn signal(&self, signal: i32) {
        // SAFETY: a child that has not been waited for keeps its process id.
        unsafe { libc::kill(self.child.id() as i32, signal) };
    }

    /// Waits until its socket is empty and it has had nothing to do for a while; gives the moment
    /// at which it had done its work.
    pub fn idle(&self) -> Instant {
        // 50 ms with less than 5 ms of work: the agent's own ticks are less, any backlog is more.
        let (window, little) = (Duration::from_millis(50), Duration::from_millis(5));
        let mut since = (Instant::now(), self.cpu());
        loop {
            thread::sleep(Duration::from_millis(2));
            let (now, cpu) = (Instant::now(), self.cpu());
            let queued = socket_state().is_some_and(|state| state.queued > 0);
            if queued || cpu - since.1 > little {
                since = (now, cpu);
            } else if now - since.0 > window {
                return since.0;
            }
        }
    }

    /// What it wrote to stderr.
    fn said(&self) -> String {
        fs::read_to_string(self.directory.path().join("stderr")).unwrap_or_default()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn command(kind: Kind, directory: &Path, work: &Work) -> Command {
    let file = |name: &str| directory.join(name);
    match kind {
        Kind::Agent => {
            let state = file("state");
            fs::create_dir(&state).expect("a writable directory");
            let text = format!(
                "[agent]\nname = \"bench\"\nstate_dir = {state:?}\n\
                 [traps]\nlisten = [\"127.0.0.1:{PORT}\"]\n\
                 [[traps.community]]\nname = \"public\"\n\
                 [subnets]\nwatch_gateways = false\n\
                 [web]\nlisten = {WEB:?}\n{}",
                work.agent
            );
            fs::write(file("evenkeel.toml"), text).expect("a writable directory");
            let mut command = Command::new(env!("CARGO_BIN_EXE_evenkeel"));
            command.args(["run", "--config"]).arg(file("evenkeel.toml"));
            command
        }
        Kind::Snmptrapd | Kind::SnmptrapdLarge => {
            let large = if kind == Kind::SnmptrapdLarge { "serverRecvBuf 4194304\n" } else { "" };
            let text = format!("disableAuthorization yes\n{large}{}", work.snmptrapd);
            fs::write(file("snmptrapd.conf"), text).expect("a writable directory");
            let mut command = Command::new("snmptrapd");
            command.args(["-f", "-n", "-C", "-m", "", "-c"]).arg(file("snmptrapd.conf"));
            command.arg("-Lf").arg(file("traps.log")).arg(format!("udp:127.0.0.1:{PORT}"));
            command.env("SNMP_PERSISTENT_DIR", directory).env("SNMPCONFPATH", directory);
            command
        }
        Kind::Bare => {
            let mut command = Command::new(std::env::current_exe().expect("this program"));
            command.arg("--bare").arg(PORT.to_string()).arg(counter_file(directory));
            command.arg(work.bare);
            command
        }
    }
}

fn counter_file(directory: &Path) -> PathBuf {
    directory.join("counter")
}

/// Lets a command run on one CPU only.
fn pin(command: &mut Command, cpu: usize) {
    // SAFETY: only async-signal-safe calls are made between fork and exec.
    unsafe { command.pre_exec(move || pin_self(cpu)) };
}

/// Lets the calling thread, and what it starts, run on one CPU only.
pub fn pin_self(cpu: usize) -> io::Result<()> {
    // SAFETY: the set is a plain structure of this function's own.
    let result = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// What the kernel says of the receiver's socket.
#[derive(Clone, Copy, Debug)]
pub struct SocketState {
    /// Octets of memory that wait to be read.
    pub queued: u64,
    /// Datagrams that found no room.
    pub dropped: u64,
}

/// The state of the socket on [`PORT`], if there is one (proc(5), /proc/net/udp).
pub fn socket_state() -> Option<SocketState> {
    let text = fs::read_to_string("/proc/net/udp").expect("proc is mounted");
    let local = format!("0100007F:{PORT:04X}");
    let line = text.lines().find(|line| line.split_whitespace().nth(1) == Some(&local))?;
    let words: Vec<&str> = line.split_whitespace().collect();
    let (_, queued) = words[4].split_once(':').expect("tx_queue:rx_queue");
    Some(SocketState {
        queued: u64::from_str_radix(queued, 16).expect("hexadecimal"),
        dropped: words.last().expect("columns").parse().expect("a number"),
    })
}

/// A page of the agent, with its head, or nothing.
pub fn get(path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(WEB).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {WEB}\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

/// A socket on the loopback.
pub fn socket(port: u16) -> io::Result<UdpSocket> {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, port))
}

/// Asks for a receive buffer beyond the system's limit, which takes CAP_NET_ADMIN.
pub fn forced_buffer(socket: &UdpSocket, octets: i32) -> io::Result<()> {
    // SAFETY: the option's value is an int that lives through the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVBUFFORCE,
            (&raw const octets).cast(),
            size_of::<i32>() as u32,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A number that two processes share, in a mapped file.
pub struct Counter(pub &'static AtomicU64);

impl Counter {
    /// Maps the file, and makes it where it is not there yet.
    pub fn open(path: &Path) -> io::Result<Counter> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).open(path)?;
        file.set_len(8)?;
        // SAFETY: a new shared mapping of eight octets of a file that nobody shortens; it is
        // page-aligned and never unmapped.
        unsafe {
            let both = libc::PROT_READ | libc::PROT_WRITE;
            let at = libc::mmap(ptr::null_mut(), 8, both, libc::MAP_SHARED, file.as_raw_fd(), 0);
            if at == libc::MAP_FAILED {
                return Err(io::Error::last_os_error());
            }
            Ok(Counter(&*at.cast::<AtomicU64>()))
        }
    }
}
