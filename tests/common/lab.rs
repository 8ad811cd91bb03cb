//! Network namespaces, with cables and switches between them: each test has networks of its own, which
//! go away with it.

use std::{
    fs::{self, File},
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::fd::AsRawFd,
    process::{Command, Stdio},
    sync::{
        Once, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use super::process::output;

/// The start of every namespace's name, followed by the process id of the test that made it.
const PREFIX: &str = "ek";

static NUMBER: AtomicU32 = AtomicU32::new(0);
static SWEEP: Once = Once::new();

/// Held by every lab: namespaces share the machine's processors, and some tables of its kernel.
static MACHINE: RwLock<()> = RwLock::new(());

/// Some namespaces and the links between them.
pub struct Lab {
    number: u32,
    _machine: Share,
}

/// Whether other labs may be there at the same time. It is only held.
#[expect(dead_code, reason = "a guard does its work by being there")]
enum Share {
    Beside(RwLockReadGuard<'static, ()>),
    Alone(RwLockWriteGuard<'static, ()>),
}

/// One namespace, removed when dropped, with every process in it.
pub struct Ns {
    name: String,
}

impl Lab {
    /// An empty lab. Fails with what is missing if this process may not make namespaces.
    pub fn new() -> Lab {
        let machine = MACHINE.read().unwrap_or_else(PoisonError::into_inner);
        Lab::sharing(Share::Beside(machine))
    }

    /// The same, once no other lab of this test run is there, and until it is dropped none is made:
    /// for what needs the whole machine, or would disturb the others.
    pub fn alone() -> Lab {
        let machine = MACHINE.write().unwrap_or_else(PoisonError::into_inner);
        Lab::sharing(Share::Alone(machine))
    }

    fn sharing(machine: Share) -> Lab {
        // SAFETY: has no preconditions.
        let user = unsafe { libc::geteuid() };
        assert_eq!(
            user, 0,
            "this test makes network namespaces, so it must run as root: sudo -E tests/run"
        );
        SWEEP.call_once(sweep);
        Lab { number: NUMBER.fetch_add(1, Ordering::Relaxed), _machine: machine }
    }

    /// A new namespace, its loopback up. IPv6 addresses in it are usable at once, without
    /// duplicate address detection (RFC 4862, 5.4).
    pub fn namespace(&self, name: &str) -> Ns {
        let name = format!("{PREFIX}-{}-{}-{name}", std::process::id(), self.number);
        output(Command::new("ip").args(["netns", "add", &name]));
        let ns = Ns { name };
        ns.inside(|| {
            for which in ["all", "default"] {
                let path = format!("/proc/sys/net/ipv6/conf/{which}/accept_dad");
                fs::write(path, "0").expect("IPv6 is needed here");
            }
        });
        ns.exec("ip link set lo up");
        ns
    }

    /// Joins two namespaces by a cable.
    pub fn link(&self, one: (&Ns, &str), other: (&Ns, &str)) {
        cable(one, other);
    }

    /// A switch, to which any number of hosts can be plugged.
    pub fn switch(&self, name: &str) -> Switch {
        let ns = self.namespace(name);
        // Without a querier, snooping could keep a neighbour solicitation from whom it is for.
        ns.exec("ip link add br0 type bridge mcast_snooping 0");
        ns.exec("ip link set br0 up");
        Switch { ns, ports: AtomicU32::new(0) }
    }
}

/// A bridge in a namespace of its own.
pub struct Switch {
    ns: Ns,
    ports: AtomicU32,
}

/// A port of a switch, and the cable that is in it.
pub struct Port<'a> {
    switch: &'a Switch,
    name: String,
}

impl Switch {
    /// Plugs in a new interface of a host. A host may have several.
    pub fn plug(&self, host: &Ns, interface: &str) -> Port<'_> {
        let name = format!("port{}", self.ports.fetch_add(1, Ordering::Relaxed));
        cable((host, interface), (&self.ns, &name));
        self.ns.exec(&format!("ip link set {name} master br0"));
        Port { switch: self, name }
    }
}

impl Port<'_> {
    /// Pulls the cable: the link goes down at the host, too.
    pub fn unplug(&self) {
        self.switch.ns.exec(&format!("ip link set {} down", self.name));
    }

    /// Plugs it in again.
    pub fn plug_in(&self) {
        self.switch.ns.exec(&format!("ip link set {} up", self.name));
    }

    /// Lets no frame pass, either way, while the link stays up. A cable that is pulled and plugged in
    /// again makes the port pass frames again.
    pub fn block(&self) {
        self.set_state("0");
    }

    /// Lets frames pass again.
    pub fn unblock(&self) {
        self.set_state("3");
    }

    /// Lets the host hear nothing, while the link stays up and what the host sends is heard.
    pub fn deafen(&self) {
        let name = &self.name;
        self.switch.ns.nft(&format!(
            "table bridge deaf_{name} {{
                chain towards_it {{
                    type filter hook forward priority 0;
                    oifname {name} drop
                }}
            }}"
        ));
    }

    /// Lets the host hear again.
    pub fn undeafen(&self) {
        self.switch.ns.exec(&format!("nft delete table bridge deaf_{}", self.name));
    }

    /// Lets the host hear nothing of another one on the switch, while it hears all others and is heard by
    /// all.
    pub fn deafen_to(&self, other: &Port<'_>) {
        let (from, to) = (&other.name, &self.name);
        self.switch.ns.nft(&format!(
            "table bridge deaf_{to}_{from} {{
                chain between_them {{
                    type filter hook forward priority 0;
                    iifname {from} oifname {to} drop
                }}
            }}"
        ));
    }

    /// Lets it hear the other one again.
    pub fn undeafen_to(&self, other: &Port<'_>) {
        let (from, to) = (&other.name, &self.name);
        self.switch.ns.exec(&format!("nft delete table bridge deaf_{to}_{from}"));
    }

    /// Sets the state of the port as the spanning tree protocol would: 0 disabled, 3 forwarding
    /// (bridge(8)).
    fn set_state(&self, state: &str) {
        self.switch.ns.exec(&format!("bridge link set dev {} state {state}", self.name));
    }
}

/// A pair of interfaces that hear each other, in two namespaces.
fn cable(one: (&Ns, &str), other: (&Ns, &str)) {
    output(Command::new("ip").args([
        "link",
        "add",
        one.1,
        "netns",
        &one.0.name,
        "type",
        "veth",
        "peer",
        "name",
        other.1,
        "netns",
        &other.0.name,
    ]));
    for (ns, interface) in [one, other] {
        ns.exec(&format!("ip link set {interface} up"));
    }
}

impl Ns {
    /// A command that will run in here.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// Runs a command line, split at its spaces, which must succeed; gives what it printed.
    pub fn exec(&self, line: &str) -> String {
        let mut words = line.split_whitespace();
        let program = words.next().expect("a command");
        output(self.command(program).args(words))
    }

    /// Gives an interface an address.
    pub fn address(&self, interface: &str, address: &str) {
        let nodad = if address.contains(':') { " nodad" } else { "" };
        self.exec(&format!("ip addr add {address} dev {interface}{nodad}"));
    }

    /// Feeds a script to nft.
    pub fn nft(&self, script: &str) {
        let mut child = self
            .command("nft")
            .args(["-f", "-"])
            .stdin(Stdio::piped())
            .spawn()
            .expect("nft is installed by tests/setup");
        child.stdin.take().expect("piped").write_all(script.as_bytes()).expect("nft reads");
        assert!(child.wait().expect("nft ends").success(), "nft refused:\n{script}");
    }

    /// How many packets the named nft counter has seen.
    pub fn counted(&self, counter: &str) -> u64 {
        let text = self.exec(&format!("nft list counter inet lab {counter}"));
        let mut words = text.split_whitespace().skip_while(|word| *word != "packets");
        words.nth(1).and_then(|number| number.parse().ok()).unwrap_or_else(|| {
            panic!("no counter {counter} in:\n{text}");
        })
    }

    /// Status and body of a web page in here, or nothing if nobody answers. The exchange is
    /// HTTP/1.0, which needs neither keep-alive nor chunks.
    pub fn get(&self, address: &str, path: &str) -> Option<(u16, String)> {
        let to: SocketAddr = address.parse().expect("an address and a port");
        self.inside(|| {
            let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(2)).ok()?;
            stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
            write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").ok()?;
            let mut text = String::new();
            stream.read_to_string(&mut text).ok()?;
            let (head, body) = text.split_once("\r\n\r\n")?;
            let status = head.split_whitespace().nth(1)?.parse().ok()?;
            Some((status, body.to_owned()))
        })
    }

    /// Runs a function on a thread that lives in here. Sockets that it makes stay in here.
    pub fn inside<T: Send>(&self, what: impl FnOnce() -> T + Send) -> T {
        let path = format!("/run/netns/{}", self.name);
        thread::scope(|scope| {
            let run = move || {
                let file = File::open(path).expect("the namespace is there");
                // SAFETY: the descriptor is open; only this thread changes its namespace.
                let result = unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) };
                assert_eq!(result, 0, "setns: {}", std::io::Error::last_os_error());
                what()
            };
            scope.spawn(run).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl Drop for Ns {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

/// Removes what test runs left behind that were killed before they could tidy up.
fn sweep() {
    let list = Command::new("ip").args(["netns", "list"]).output().expect("ip is installed");
    for line in String::from_utf8_lossy(&list.stdout).lines() {
        let name = line.split_whitespace().next().unwrap_or("");
        let mut parts = name.split('-');
        if parts.next() != Some(PREFIX) {
            continue;
        }
        let Some(Ok(pid)) = parts.next().map(str::parse::<u32>) else { continue };
        if !fs::exists(format!("/proc/{pid}")).unwrap_or(true) {
            remove(name);
        }
    }
}

/// Ends the processes in a namespace of ours, and removes it. Best effort: it also runs while a
/// test fails, when a second panic would end the whole run.
fn remove(name: &str) {
    if let Ok(list) = Command::new("ip").args(["netns", "pids", name]).output() {
        for pid in String::from_utf8_lossy(&list.stdout).split_whitespace() {
            if let Ok(pid) = pid.parse() {
                // SAFETY: has no preconditions; a process in our own namespace is ours.
                unsafe { libc::kill(pid, libc::SIGKILL) };
            }
        }
    }
    Command::new("ip").args(["netns", "del", name]).output().ok();
}
