//! An hour of trouble, shortened to a minute and a half: interfaces flap, a subnet goes down, addresses move
//! to a standby interface, peers fall silent, a notification target dies, a configuration is bad, a source
//! floods, the agent stands still and is killed. Beside it a pair hears strangers, is held, and loses its
//! primary.

use std::{
    collections::BTreeMap,
    io::Write as _,
    net::{TcpStream, UdpSocket},
    path::PathBuf,
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tempfile::TempDir;

use crate::common::{
    Agent, Answering, BINARY, Device, Lab, Ns, Port, Switch, Trap,
    field::{self, Field, Loss},
    sleep_until, wait_until, wire,
};

use super::server::Server;
use crate::pair::{Hosts, Pair, order};

/// A moment, in seconds since 1970.
pub type Moment = f64;

/// From one moment to another.
pub type Span = (Moment, Moment);

/// The system of which an interface is down, and does not flap.
pub const DOWN: &str = "127.0.0.14";

/// The system that restarts again and again.
pub const RESTARTS: &str = "127.0.0.13";

const TRAPS: &str = "127.0.0.1:10162";

/// How many peers there are.
const PEERS: u32 = 60;

const CONFIGURATION: &str = r#"
[traps]
listen = ["127.0.0.1:10162"]
[[traps.community]]
name = "public"
[[traps.limit]]
sources = ["127.0.0.66"]
rate = 10
burst = 20

[instability]
interfaces = { window = "4s", threshold = 2 }
systems = { window = "6s", threshold = 3 }
[[instability.link]]
a = { system = "127.0.0.11", if_index = 7 }
b = { system = "127.0.0.12", if_index = 3 }

[subnets]
poll_interval = "1s"
watch_gateways = false
[[subnets.subnet]]
prefix = "10.20.0.0/24"
polling_targets = ["10.20.0.1"]
primary_interface = "eth1"
standby_interface = "eth2"
[[subnets.subnet]]
prefix = "10.30.0.0/24"
polling_targets = ["10.30.0.1"]

# Mass silence is more than one batch.
[peers]
metrics = "full"
monitor_max_peers = 60
heartbeat_batch = { size = 10, interval = "100ms" }
retransmission_batch = { size = 10, interval = "20ms" }
[[peers.group]]
name = "access"
interval = "2s"
timeout = "500ms"
max_retransmissions = 3
files = ["FILE"]

[[notifications.target]]
name = "nms"
address = "127.0.0.1:11162"
community = "public"
inform = true
timeout = "500ms"
retries = 1
"#;

/// The host of the agent, and what is around it.
pub struct Site {
    /// Where the agent runs, and Prometheus.
    pub host: Ns,
    gate: Ns,
    twin: Switch,
    single: Switch,
    field: Field,
    directory: TempDir,
}

/// What was done when.
pub struct Life {
    moments: BTreeMap<&'static str, Moment>,
}

impl Life {
    /// The whole of it.
    pub fn span(&self) -> Span {
        (self.at("begin"), self.at("end"))
    }

    /// A moment at which much is wrong.
    pub fn busy(&self) -> Moment {
        self.at("busy")
    }

    /// When something was done.
    pub fn at(&self, what: &str) -> Moment {
        self.moments[what]
    }

    fn mark(&mut self, what: &'static str) {
        self.moments.insert(what, now());
    }
}

fn now() -> Moment {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").as_secs_f64()
}

impl Site {
    /// A field of peers at eth0, a gate that eth1 and eth2 both lead to, and again the gate at eth3.
    pub fn new(lab: &Lab) -> Site {
        let (host, gate) = (lab.namespace("host"), lab.namespace("gate"));
        let field = Field::routed(lab, &host);
        let (twin, single) = (lab.switch("twin"), lab.switch("single"));
        let directory = TempDir::with_prefix("ek-targets-").expect("a temporary directory");
        Site { host, gate, twin, single, field, directory }
    }

    /// The notification target.
    pub fn nms(&self) -> Answering {
        Answering::start(&self.host, "127.0.0.1:11162", 1)
    }

    /// An agent that has been configured for it.
    pub fn agent(&self) -> Agent<'_> {
        field::write_targets(&self.file(), field::v4(0, PEERS));
        Agent::start(&self.host, &self.configuration())
    }

    fn configuration(&self) -> String {
        CONFIGURATION.replace("FILE", self.file().to_str().expect("a plain path"))
    }

    /// The file that names the peers.
    fn file(&self) -> PathBuf {
        self.directory.path().join("peers.json")
    }

    /// A pair that is reached from here.
    pub fn pair<'a>(&self, hosts: &'a Hosts) -> Pair<'a> {
        hosts.networks[1].plug(&self.host, "eth4");
        self.host.address("eth4", "10.2.0.250/24");
        let mut pair = Pair::plan(hosts, "[[traps.community]]\nname = \"public\"\n");
        for agent in [&mut pair.one, &mut pair.two] {
            agent.configure_web("listen = \"0.0.0.0:19040\"");
        }
        pair.trust();
        pair.begin();
        pair
    }

    /// Lives through it.
    pub fn live<'a>(
        &'a self,
        agent: &mut Agent<'a>,
        pair: &mut Pair<'_>,
        nms: &Answering,
        server: &Server<'_>,
    ) -> Life {
        let ports = self.plug();
        wait_until("flows and peers to be up", Duration::from_secs(30), || {
            let metrics = agent.metrics();
            metrics.sum("evenkeel_flow_up", &[]) == 2.0
                && metrics.sum("evenkeel_peers", &[("state", "alive")]) == f64::from(PEERS)
        });
        wait_until("Prometheus to know them", Duration::from_secs(10), || {
            server.instant("evenkeel_flow_up == 1", now()).len() == 2
                && server.instant("evenkeel_pair_in_sync == 1", now()).len() == 2
        });
        let mut life = Life { moments: BTreeMap::new() };
        life.mark("begin");
        let begin = Instant::now();
        let second = |second: u64| sleep_until(begin + Duration::from_secs(second));
        thread::scope(|scope| {
            scope.spawn(|| self.devices(begin));
            second(6);
            ports.single.block();
            second(8);
            ports.primary.block();
            second(10);
            nms.answer(0);
            second(12);
            self.field.lose(Loss::To("10.1.0.0/30"));
            second(16);
            self.stranger(pair);
            self.traps_of_pair();
            let (held, said) = order(&pair.two, "hold");
            assert!(held, "{said}");
            second(20);
            life.mark("bad file");
            field::write_file(&self.file(), "[{");
            second(22);
            self.field.lose(Loss::All);
            second(26);
            agent.configure("[traps]\nlisten = 7\n");
            life.mark("bad reload");
            agent.reload();
            second(28);
            life.mark("flood");
            self.flood(300);
            life.mark("flood over");
            second(29);
            life.mark("busy");
            second(30);
            ports.single.unblock();
            ports.primary.unblock();
            second(34);
            field::write_targets(&self.file(), field::v4(0, PEERS));
            life.mark("good file");
            second(36);
            let (released, said) = order(&pair.one, "release");
            assert!(released, "{said}");
            nms.answer(1);
            second(38);
            self.field.lose(Loss::To("10.1.0.0/30"));
            self.enable(agent);
            second(40);
            agent.configure(&self.configuration());
            life.mark("good reload");
            agent.reload();
            second(44);
            self.field.lose(Loss::Nothing);
            for stop in 0..5 {
                second(46 + 2 * stop);
                [&*agent, &pair.two].iter().for_each(|agent| agent.signal(libc::SIGSTOP));
                thread::sleep(Duration::from_millis(800));
                [&*agent, &pair.two].iter().for_each(|agent| agent.signal(libc::SIGCONT));
            }
        });
        second(68);
        life.mark("killed");
        agent.kill9();
        pair.one.kill9();
        second(76);
        agent.launch();
        pair.one.launch();
        life.mark("back");
        second(95);
        life.mark("end");
        life
    }

    /// Plugs the host in, and waits until it hears the gate.
    fn plug(&self) -> Ports<'_> {
        let Site { host, gate, twin, single, .. } = self;
        let ports = Ports { primary: twin.plug(host, "eth1"), single: single.plug(host, "eth3") };
        twin.plug(host, "eth2");
        twin.plug(gate, "eth0");
        single.plug(gate, "eth1");
        // Each interface answers for its own addresses alone, as the manual advises.
        host.exec("sysctl -q -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2");
        gate.address("eth0", "10.20.0.1/24");
        gate.address("eth1", "10.30.0.1/24");
        host.address("eth1", "10.20.0.2/24");
        host.address("eth3", "10.30.0.2/24");
        ports
    }

    /// What devices send in the first minute.
    fn devices(&self, begin: Instant) {
        let device = |address: &str| Device::new(&self.host, address, TRAPS);
        let at = |tenths: u64| sleep_until(begin + Duration::from_millis(100 * tenths));
        let (flaps, system) = (device("127.0.0.9"), device(RESTARTS));
        let (one_end, other_end) = (device("127.0.0.11"), device("127.0.0.12"));
        let (down, stranger) = (device(DOWN), device("127.0.0.15").with_community("secret"));
        for second in 0..60 {
            at(10 * second + 1);
            match second {
                2..18 => {
                    flaps.v2c(Trap::LinkDown(3));
                    at(10 * second + 5);
                    flaps.v2c(Trap::LinkUp(3));
                }
                30 | 32 => {
                    flaps.inform(Trap::LinkDown(4));
                    flaps.inform(Trap::LinkUp(4));
                }
                _ => {}
            }
            match second {
                3 | 5 | 7 => drop(system.v1(Trap::ColdStart)),
                4 => {
                    down.v2c(Trap::LinkDown(9));
                    one_end.v2c(Trap::LinkDown(7));
                    one_end.v2c(Trap::LinkUp(7));
                }
                6 => {
                    one_end.v2c(Trap::LinkDown(7));
                    other_end.v2c(Trap::LinkDown(3));
                    other_end.v2c(Trap::LinkUp(3));
                    one_end.v2c(Trap::LinkUp(7));
                }
                40 => drop(down.v2c(Trap::LinkUp(9))),
                _ => {}
            }
            stranger.v2c(Trap::LinkDown(1));
            if second % 4 == 0 {
                self.unknown_user();
            }
        }
    }

    /// An SNMPv3 message of a user that the agent does not know.
    fn unknown_user(&self) {
        let mut command = self.host.command("snmptrap");
        command.env("MIBS", "").env("SNMP_PERSISTENT_DIR", std::env::temp_dir().join("ek-snmp"));
        command.args(["-v", "3", "-u", "nobody", "-l", "noAuthNoPriv", "-e", "0x8000000001020304"]);
        command.args([TRAPS, "100", ".1.3.6.1.6.3.1.1.5.1"]);
        command.output().expect("tests/setup installs net-snmp");
    }

    /// Many traps at once from one source, more than it may send.
    fn flood(&self, count: u32) {
        self.host.inside(|| {
            let socket = UdpSocket::bind("127.0.0.66:0").expect("an address of loopback");
            for number in 0..count {
                let trap = wire::v2c_trap(Trap::LinkUp(1), number, number);
                socket.send_to(&trap, TRAPS).expect("loopback takes it");
            }
        });
    }

    /// Says something to the first of the pair that its mate did not, by both channels.
    fn stranger(&self, pair: &Pair<'_>) {
        let socket = self.host.inside(|| UdpSocket::bind("10.2.0.250:0")).expect("its address");
        socket.send_to(b"is anybody there?", "10.2.0.1:19041").expect("it is reached");
        let stream = pair.two.namespace().inside(|| TcpStream::connect("10.1.0.1:19041"));
        stream
            .and_then(|mut stream| stream.write_all(b"GET / HTTP/1.0\r\n\r\n"))
            .expect("it is read");
    }

    /// One trap that both agents of the pair are sent, and one that the standby alone is.
    fn traps_of_pair(&self) {
        let socket = self.host.inside(|| UdpSocket::bind("10.2.0.250:0")).expect("its address");
        for (number, agents) in [(1, &["10.2.0.1", "10.2.0.2"][..]), (2, &["10.2.0.2"])] {
            let trap = wire::v2c_trap(Trap::LinkUp(1), number, number);
            for agent in agents {
                socket.send_to(&trap, (*agent, 10_162)).expect("it is reached");
            }
        }
    }

    /// Says that the primary interface is mended.
    fn enable(&self, agent: &Agent<'_>) {
        let mut command = self.host.command(BINARY);
        // The configuration that it reads is not the bad one, which the agent refused.
        command.args(["subnet", "enable", "10.20.0.0/24", "--socket"]);
        command.arg(agent.state().join("control.sock"));
        let output = command.output().expect("the binary that cargo built");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

struct Ports<'a> {
    primary: Port<'a>,
    single: Port<'a>,
}
