//! Two hosts with two networks between them and an NMS on one, and an agent on each host.

use std::{
    io::{Read as _, Seek as _, SeekFrom},
    net::{SocketAddr, UdpSocket},
    process::Output,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::common::{Agent, BINARY, Lab, Ns, Port, Switch, wait_until};

/// Where the agents take traps in.
pub const TRAPS: [&str; 2] = ["10.1.0.1:10162", "10.1.0.2:10162"];
const NMS: &str = "10.1.0.254:11162";

/// The hosts, their switches and the gateway, on which the NMS is.
pub struct Hosts {
    hosts: [Ns; 2],
    gate: Ns,
    switches: [Switch; 2],
    _lab: Lab,
}

impl Hosts {
    /// All of it, but for the cables.
    pub fn new() -> Hosts {
        let lab = Lab::alone();
        let [one, two, gate] = ["one", "two", "gate"].map(|name| lab.namespace(name));
        let switches = [lab.switch("net-a"), lab.switch("net-b")];
        Hosts { hosts: [one, two], gate, switches, _lab: lab }
    }

    /// One of the two.
    pub fn host(&self, at: usize) -> &Ns {
        &self.hosts[at]
    }

    /// A device beside the NMS, by its number.
    pub fn device(&self, number: u32) -> UdpSocket {
        let address = format!("10.1.0.{}", 100 + number);
        self.gate.address("eth0", &format!("{address}/24"));
        self.gate.inside(|| UdpSocket::bind((address, 0))).expect("its address")
    }
}

/// The cables of both hosts, which can be pulled.
pub struct Cables<'a>([[Port<'a>; 2]; 2]);

impl<'a> Cables<'a> {
    /// Plugs everybody in, and gives them addresses.
    pub fn lay(hosts: &'a Hosts) -> Cables<'a> {
        let Hosts { hosts: both, gate, switches, .. } = hosts;
        let ports = both.each_ref().map(|host| {
            [("eth0", 0), ("eth1", 1)].map(|(eth, network)| switches[network].plug(host, eth))
        });
        switches[0].plug(gate, "eth0");
        gate.address("eth0", "10.1.0.254/24");
        for (host, last) in both.iter().zip(1..) {
            host.address("eth0", &format!("10.1.0.{last}/24"));
            host.address("eth1", &format!("10.2.0.{last}/24"));
            host.exec("ip route add default via 10.1.0.254 dev eth0");
        }
        Cables(ports)
    }

    /// Pulls all cables of a host at once.
    pub fn unplug(&self, at: usize) {
        thread::scope(|scope| {
            for port in &self.0[at] {
                scope.spawn(|| port.unplug());
            }
        });
    }

    /// Plugs them in again. The kernel has taken the default route away with the link.
    pub fn plug_in(&self, hosts: &Hosts, at: usize) {
        self.0[at].iter().for_each(Port::plug_in);
        hosts.host(at).exec("ip route replace default via 10.1.0.254 dev eth0");
    }
}

/// The configuration of the agent of a slot.
fn configuration(slot: usize, more: &str) -> String {
    let (own, mate) = (slot + 1, 2 - slot);
    let mut text = format!(
        "[traps]\nlisten = [\"0.0.0.0:10162\"]\n[[traps.community]]\nname = \"public\"\n\n\
         [subnets]\nwatch_gateways = false\n\n{more}\n\
         [[notifications.target]]\nname = \"nms\"\naddress = \"{NMS}\"\ncommunity = \"public\"\n\
         forward = false\nrate = 1000000\nburst = 1000000\n\n\
         [pair]\nslot = {slot}\nlisten = \"10.1.0.{own}:19041\"\nmate = \"10.1.0.{mate}:19041\"\n\
         failover_limit = false\n",
    );
    for (interface, network) in [("eth0", 1), ("eth1", 2)] {
        text += &format!(
            "[[pair.path]]\ninterface = \"{interface}\"\nlocal = \"10.{network}.0.{own}:19041\"\n\
             mate = \"10.{network}.0.{mate}:19041\"\n",
        );
    }
    text
}

/// The agents, and an NMS that knows who tells it something.
pub struct Pair<'a> {
    agents: [Agent<'a>; 2],
    nms: Nms,
}

impl<'a> Pair<'a> {
    /// Starts both, which trust each other. `more` are further sections of their configuration.
    pub fn start(hosts: &'a Hosts, more: &str) -> Pair<'a> {
        let mut agents = [0, 1].map(|at| {
            Agent::prepare(hosts.host(at), &format!("keel-{}", at + 1), &configuration(at, more))
        });
        let fingerprints = agents.each_ref().map(|agent| run(agent, &["fingerprint"]));
        run(&agents[0], &["trust", &fingerprints[1]]);
        run(&agents[1], &["trust", &fingerprints[0]]);
        agents.iter_mut().for_each(Agent::launch);
        Pair { agents, nms: Nms::start(&hosts.gate) }
    }

    /// Waits until one is primary, the other one standby, and both have all of the state.
    pub fn wait_in_sync(&self, within: Duration) {
        wait_until("both to have all of the state", within, || {
            let metric = |name, labels: &[(&str, &str)]| {
                self.agents.each_ref().map(|agent| agent.metrics().sum(name, labels))
            };
            metric("evenkeel_pair_in_sync", &[]) == [1.0, 1.0]
                && metric("evenkeel_pair_role", &[("role", "primary")]).iter().sum::<f64>() == 1.0
                && metric("evenkeel_pair_role", &[("role", "standby")]).iter().sum::<f64>() == 1.0
        });
    }

    /// Which one is primary.
    pub fn primary(&self) -> usize {
        let primary = [("role", "primary")];
        let is = |at: &usize| self.agents[*at].metrics().sum("evenkeel_pair_role", &primary) == 1.0;
        [0, 1].into_iter().find(is).expect("one of them is primary")
    }

    /// How many alarms are active, by one of them.
    pub fn active(&self, at: usize) -> f64 {
        self.agents[at].metrics().sum("evenkeel_alarms_active", &[])
    }

    /// Ends one as a power cut would.
    pub fn kill(&mut self, at: usize) {
        self.agents[at].kill9();
    }

    /// Starts it again.
    pub fn launch(&mut self, at: usize) {
        self.agents[at].launch();
    }

    /// Watches what becomes of one.
    pub fn watch(&self, at: usize) -> Watch {
        let log = self.agents[at].file().with_file_name("log");
        let mut log = std::fs::File::open(log).expect("it has one");
        let mut read_so_far = log.seek(SeekFrom::End(0)).expect("a file");
        let reader = thread::spawn(move || {
            let mut text = String::new();
            let mut at = [None; 2];
            let until = Instant::now() + Duration::from_secs(300);
            while at.contains(&None) && Instant::now() < until {
                thread::sleep(Duration::from_millis(2));
                log.seek(SeekFrom::Start(read_so_far)).expect("a file");
                read_so_far += log.read_to_string(&mut text).unwrap_or(0) as u64;
                for (at, what) in at.iter_mut().zip(["primary in term", "took the state over"]) {
                    if at.is_none() && text.contains(what) {
                        *at = Some(Instant::now());
                    }
                }
            }
            (at, text)
        });
        self.nms.wait_for(at);
        Watch { reader, heard: Arc::clone(&self.nms.heard) }
    }
}

fn run(agent: &Agent<'_>, words: &[&str]) -> String {
    let mut command = agent.namespace().command(BINARY);
    command.arg("pair").args(words).arg("--config").arg(agent.file());
    let Output { status, stdout, stderr } = command.output().expect("the binary");
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).expect("text").trim().to_owned()
}

/// What becomes of an agent.
pub struct Watch {
    reader: JoinHandle<([Option<Instant>; 2], String)>,
    heard: Arc<Mutex<Heard>>,
}

/// How long after a moment each was so.
#[derive(Clone, Debug)]
pub struct Seen {
    /// It says in its log that it is primary,
    pub role: Duration,
    /// and that it has taken over the state.
    pub state: Duration,
    /// The NMS has a notification of it.
    pub told: Duration,
    /// What its log says of the state.
    pub said: String,
}

impl Watch {
    /// Waits until all of it has been seen.
    pub fn end(self, began: Instant, within: Duration) -> Seen {
        let heard = || self.heard.lock().expect("no panic while held").at;
        wait_until("the NMS to hear the new primary", within, || heard().is_some());
        let told = heard().expect("as was waited for");
        let ([role, state], log) = self.reader.join().expect("it reads");
        let line = log.lines().find(|line| line.contains("took the state over"));
        let since = |at: Option<Instant>| {
            at.expect("it says so in its log").saturating_duration_since(began)
        };
        let said = line.unwrap_or_default().to_owned();
        Seen { role: since(role), state: since(state), told: since(Some(told)), said }
    }
}

/// The first datagram of whom is waited for.
#[derive(Debug, Default)]
struct Heard {
    of: Option<SocketAddr>,
    at: Option<Instant>,
}

/// A socket that takes every notification, of which the first of one agent is of interest.
struct Nms {
    heard: Arc<Mutex<Heard>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Nms {
    fn start(ns: &Ns) -> Nms {
        let socket = ns.inside(|| UdpSocket::bind(NMS)).expect("its address");
        socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a time");
        let (heard, stop) = (Arc::<Mutex<Heard>>::default(), Arc::<AtomicBool>::default());
        let (heard_too, stop_too) = (Arc::clone(&heard), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            let mut buffer = [0; 2048];
            while !stop_too.load(Ordering::Relaxed) {
                let Ok((_, from)) = socket.recv_from(&mut buffer) else { continue };
                let now = Instant::now();
                let mut heard = heard_too.lock().expect("no panic while held");
                if heard.of.is_some_and(|of| of.ip() == from.ip()) {
                    heard.at.get_or_insert(now);
                }
            }
        });
        Nms { heard, stop, thread: Some(thread) }
    }

    fn wait_for(&self, at: usize) {
        let of = TRAPS[at].parse().expect("an address");
        *self.heard.lock().expect("no panic while held") = Heard { of: Some(of), at: None };
    }
}

impl Drop for Nms {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}
