//! The NMS: net-snmp's `snmptrapd` with our MIB loaded, or a bare socket that keeps every
//! datagram.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader},
    net::{SocketAddr, UdpSocket},
    process::Stdio,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

use super::{
    Ns, mib_directories,
    process::{Guard, wait_until},
    wire,
};

/// How snmptrapd names our notifications: module, separator, name.
const OURS: &str = "EVENKEEL-MIB::";

/// One line for each notification, tabs between its fields (snmptrapd.conf(5), snmptrapd(8)).
const FORMATS: &str = "format1 how = %P\\tfrom = %b\\tgeneric = %w %q\\t%V\\t%v\\n\n\
                       format2 how = %P\\tfrom = %b\\t%V\\t%v\\n\n";

/// One notification, with names as the MIB gives them.
#[derive(Clone, Debug)]
pub struct Notification {
    /// When it arrived.
    pub at: Instant,
    /// What it is, without the module.
    pub name: String,
    /// In which form it came: `TRAP2, SNMP v2c, community public`, as snmptrapd says it.
    pub how: String,
    /// The address that it came from.
    pub from: String,
    /// Its varbinds by name, without module and instance.
    pub varbinds: BTreeMap<String, String>,
}

impl Notification {
    /// Reads one line of snmptrapd, as [`FORMATS`] has it.
    fn parse(line: &str, at: Instant) -> Option<Notification> {
        let (mut name, mut how, mut from) = (None, String::new(), String::new());
        let mut varbinds = BTreeMap::new();
        for varbind in line.split('\t').filter(|varbind| !varbind.is_empty()) {
            let (object, value) = varbind.split_once(" = ")?;
            let plain = match object.rsplit("::").next()? {
                // SNMP-COMMUNITY-MIB, which Debian does not ship (RFC 3584, section 4).
                "snmpModules.18.1.3.0" => "snmpTrapAddress",
                "snmpModules.18.1.4.0" => "snmpTrapCommunity",
                other => other.split('.').next()?,
            };
            match plain {
                "how" => value.clone_into(&mut how),
                // `UDP: [127.0.0.1]:47215->[127.0.0.1]:11162`, and UDP/IPv6 alike.
                "from" => from = value.split(['[', ']']).nth(1)?.to_owned(),
                "generic" => name = name.or_else(|| Some(generic(value)?.to_owned())),
                "snmpTrapOID" => name = Some(value.strip_prefix(OURS).unwrap_or(value).to_owned()),
                _ => {
                    varbinds.insert(plain.to_owned(), value.trim_matches('"').to_owned());
                }
            }
        }
        Some(Notification { at, name: name?, how, from, varbinds })
    }

    /// Whether it is about an alarm, not about the agent itself.
    pub fn is_alarm(&self) -> bool {
        matches!(self.name.as_str(), "evenkeelAlarmRaised" | "evenkeelAlarmCleared")
    }

    /// The value of a varbind, by its name in our MIB. A notification without it is a failure.
    pub fn value(&self, name: &str) -> &str {
        self.varbinds.get(name).unwrap_or_else(|| panic!("no {name} in {self:?}"))
    }

    /// What happened in words: `raised interface_unstable 127.0.0.9 ifIndex 4`.
    pub fn summary(&self) -> String {
        let what = match self.name.as_str() {
            "evenkeelAlarmRaised" => "raised",
            "evenkeelAlarmCleared" => "cleared",
            other => other,
        };
        // The MIB's labels have no underscores (RFC 2578, 7.1.1), the kinds have.
        let kind = snake_case(self.value("evenkeelAlarmKind"));
        format!("{what} {kind} {}", self.value("evenkeelAlarmObject"))
    }
}

/// A generic trap of SNMPv1 as the notification that it is in SNMPv2 (RFC 3584, 3.1), or else the
/// specific one, which snmptrapd names.
fn generic(value: &str) -> Option<&str> {
    let (number, specific) = value.split_once(' ')?;
    Some(match number {
        "0" => "SNMPv2-MIB::coldStart",
        "1" => "SNMPv2-MIB::warmStart",
        "2" => "IF-MIB::linkDown",
        "3" => "IF-MIB::linkUp",
        _ => specific.strip_prefix(OURS).unwrap_or(specific),
    })
}

/// `interfaceUnstable` as `interface_unstable`.
fn snake_case(label: &str) -> String {
    let mut text = String::new();
    for letter in label.chars() {
        if letter.is_ascii_uppercase() {
            text.push('_');
        }
        text.push(letter.to_ascii_lowercase());
    }
    text
}

/// A snmptrapd, running or stopped.
pub struct Nms<'a> {
    ns: &'a Ns,
    listen: String,
    received: Arc<Mutex<Vec<Notification>>>,
    lines: Arc<Mutex<Vec<String>>>,
    directory: TempDir,
    process: Option<Guard>,
}

impl<'a> Nms<'a> {
    /// Starts one in a namespace on `listen`, written as net-snmp does: `udp:127.0.0.1:11162`.
    pub fn start(ns: &'a Ns, listen: &str) -> Nms<'a> {
        Nms::start_with(ns, listen, "")
    }

    /// The same with more lines of configuration, such as `createUser`.
    pub fn start_with(ns: &'a Ns, listen: &str, more: &str) -> Nms<'a> {
        let directory = TempDir::with_prefix("ek-nms-").expect("a temporary directory");
        let text =
            format!("disableAuthorization yes\ndoNotRetainNotificationLogs yes\n{FORMATS}{more}\n");
        fs::write(directory.path().join("snmptrapd.conf"), text).expect("a writable directory");
        let (received, lines) = (Arc::default(), Arc::default());
        let listen = listen.to_owned();
        let mut nms = Nms { ns, listen, received, lines, directory, process: None };
        nms.launch();
        nms
    }

    /// Starts it, or starts it again: it is the same engine, after one more boot.
    pub fn launch(&mut self) {
        let starts = |nms: &Nms| {
            let lines = nms.lines();
            lines.iter().filter(|line| line.starts_with("NET-SNMP version")).count()
        };
        let before = starts(self);
        let mut command = self.ns.command("snmptrapd");
        // In front (-f), log to stdout (-Lo), no name look-ups (-n), no other configuration (-C),
        // names but no types (-OQ).
        command.args(["-f", "-Lo", "-n", "-OQ", "-C", "-c"]);
        command.arg(self.directory.path().join("snmptrapd.conf"));
        command.args(["-M", &mib_directories(), "-m", "SNMPv2-MIB:IF-MIB:EVENKEEL-MIB"]);
        // Not the directory of the configuration: net-snmp keeps boots and keys in a file of the same
        // name.
        command.arg(&self.listen);
        command.env("SNMP_PERSISTENT_DIR", self.directory.path().join("persistent"));
        command.stdout(Stdio::piped());
        let mut process = Guard::spawn(&mut command);
        let output = BufReader::new(process.0.stdout.take().expect("piped"));
        let (received, lines) = (self.received.clone(), self.lines.clone());
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                // Stamped here: net-snmp's own format has whole seconds only.
                let at = Instant::now();
                if let Some(notification) = Notification::parse(&line, at) {
                    received.lock().expect("no panic while held").push(notification);
                }
                lines.lock().expect("no panic while held").push(line);
            }
        });
        self.process = Some(process);
        wait_until("snmptrapd to say its version", Duration::from_secs(15), || {
            starts(self) > before
        });
    }

    /// Stops it, as its administrator would.
    pub fn stop(&mut self) {
        drop(self.process.take());
    }

    /// Sends it a signal: SIGSTOP makes it an NMS that is there and does not answer.
    pub fn signal(&self, signal: i32) {
        self.process.as_ref().expect("a running snmptrapd").signal(signal);
    }

    /// Everything received so far, in order.
    pub fn received(&self) -> Vec<Notification> {
        self.received.lock().expect("no panic while held").clone()
    }

    /// Everything received so far about alarms, in order.
    pub fn alarms(&self) -> Vec<Notification> {
        self.received().into_iter().filter(Notification::is_alarm).collect()
    }

    /// What was received so far about alarms and is wanted, in order.
    pub fn alarms_that(&self, is_wanted: impl Fn(&Notification) -> bool) -> Vec<Notification> {
        let all = self.received.lock().expect("no panic while held");
        all.iter().filter(|told| told.is_alarm() && is_wanted(told)).cloned().collect()
    }

    /// Everything received so far about alarms of one kind or object.
    pub fn alarms_of(&self, word: &str) -> Vec<Notification> {
        let all = self.alarms();
        all.into_iter()
            .filter(|notification| notification.summary().split(' ').any(|other| other == word))
            .collect()
    }

    /// Everything that snmptrapd printed.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().expect("no panic while held").clone()
    }
}

/// An NMS that is only a socket, fast enough for any load, and keeps what comes.
pub struct Sink {
    received: Arc<Mutex<Vec<wire::Told>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Sink {
    /// Listens in a namespace.
    pub fn start(ns: &Ns, listen: SocketAddr) -> Sink {
        let socket: UdpSocket = ns.inside(|| {
            let socket = Socket::new(Domain::for_address(listen), Type::DGRAM, None);
            let socket = socket.expect("a UDP socket");
            // Room for some 20,000 notifications, while the machine is busy with the agent.
            socket.set_recv_buffer_size(4 << 20).expect("a receive buffer");
            socket.bind(&listen.into()).expect("a free port in a namespace of our own");
            socket.into()
        });
        socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a time");
        let received = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (received_too, stop_too) = (received.clone(), stop.clone());
        let thread = thread::spawn(move || {
            let mut buffer = [0; 65536];
            while !stop_too.load(Ordering::Relaxed) {
                let Ok(length) = socket.recv(&mut buffer) else { continue };
                let told = wire::read_notification(&buffer[..length]);
                received_too.lock().expect("no panic while held").extend(told);
            }
        });
        Sink { received, stop, thread: Some(thread) }
    }

    /// Everything received so far, in order.
    pub fn received(&self) -> Vec<wire::Told> {
        self.received.lock().expect("no panic while held").clone()
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// An NMS that acknowledges informs of SNMPv2c: all, none, or every n-th. It keeps what came.
pub struct Answering {
    received: Arc<Mutex<Vec<wire::Pdu>>>,
    every: Arc<AtomicU32>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Answering {
    /// Listens in a namespace, and answers every `every`-th request; 0 is none.
    pub fn start(ns: &Ns, listen: &str, every: u32) -> Answering {
        let socket = ns.inside(|| {
            let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).expect("a UDP socket");
            socket.set_recv_buffer_size(4 << 20).expect("a receive buffer");
            let listen: SocketAddr = listen.parse().expect("an address");
            socket.bind(&listen.into()).expect("a free port in a namespace of our own");
            UdpSocket::from(socket)
        });
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a time");
        let received = Arc::new(Mutex::new(Vec::new()));
        let (every, stop) = (Arc::new(AtomicU32::new(every)), Arc::new(AtomicBool::new(false)));
        let shared = (received.clone(), every.clone(), stop.clone());
        let thread = thread::spawn(move || {
            let (received, every, stop) = shared;
            let mut buffer = [0; 65536];
            let mut count: u32 = 0;
            while !stop.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
                let Some(pdu) = wire::read_pdu(&buffer[..length]) else { continue };
                received.lock().expect("no panic while held").push(pdu);
                count = count.wrapping_add(1);
                let every = every.load(Ordering::Relaxed);
                if every != 0
                    && count.is_multiple_of(every)
                    && let Some(response) = wire::response_to(&buffer[..length])
                {
                    socket.send_to(&response, from).ok();
                }
            }
        });
        Answering { received, every, stop, thread: Some(thread) }
    }

    /// From now on answers every `every`-th request.
    pub fn answer(&self, every: u32) {
        self.every.store(every, Ordering::Relaxed);
    }

    /// Everything received so far, in order.
    pub fn received(&self) -> Vec<wire::Pdu> {
        self.received.lock().expect("no panic while held").clone()
    }

    /// What it was told about alarms, in order.
    pub fn told(&self) -> Vec<wire::Told> {
        self.received().iter().filter_map(wire::Told::of).collect()
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}
