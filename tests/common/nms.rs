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
        atomic::{AtomicBool, Ordering},
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

/// One notification, with names as the MIB gives them.
#[derive(Clone, Debug)]
pub struct Notification {
    /// When it arrived.
    pub at: Instant,
    /// What it is, without the module.
    pub name: String,
    /// Its varbinds by name, without module and instance.
    pub varbinds: BTreeMap<String, String>,
}

impl Notification {
    /// Reads one line of snmptrapd: varbinds `NAME = VALUE`, separated by tabs.
    fn parse(line: &str, at: Instant) -> Option<Notification> {
        let mut name = None;
        let mut varbinds = BTreeMap::new();
        for varbind in line.split('\t') {
            let (object, value) = varbind.split_once(" = ")?;
            let plain = object.rsplit("::").next()?.split('.').next()?;
            if plain == "snmpTrapOID" {
                name = Some(value.strip_prefix(OURS).unwrap_or(value).to_owned());
            } else {
                varbinds.insert(plain.to_owned(), value.trim_matches('"').to_owned());
            }
        }
        Some(Notification { at, name: name?, varbinds })
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

/// A running snmptrapd.
pub struct Nms {
    received: Arc<Mutex<Vec<Notification>>>,
    lines: Arc<Mutex<Vec<String>>>,
    _directory: TempDir,
    // Last, so that the reader's end of file comes when the process is gone.
    _process: Guard,
}

impl Nms {
    /// Starts one in a namespace on `listen`, written as net-snmp does: `udp:127.0.0.1:11162`.
    pub fn start(ns: &Ns, listen: &str) -> Nms {
        let directory = TempDir::with_prefix("ek-nms-").expect("a temporary directory");
        let configuration = directory.path().join("snmptrapd.conf");
        // One line for each notification, of its varbinds alone, tabs between them.
        let text = "disableAuthorization yes\ndoNotRetainNotificationLogs yes\n\
                    format1 %V\\t%v\\n\nformat2 %V\\t%v\\n\n";
        fs::write(&configuration, text).expect("a writable temporary directory");
        let mut command = ns.command("snmptrapd");
        // In front (-f), log to stdout (-Lo), no name look-ups (-n), no other configuration (-C),
        // names but no types (-OQ).
        command.args(["-f", "-Lo", "-n", "-OQ", "-C", "-c"]).arg(&configuration);
        command.args(["-M", &mib_directories(), "-m", "SNMPv2-MIB:IF-MIB:EVENKEEL-MIB", listen]);
        command.env("SNMP_PERSISTENT_DIR", directory.path());
        command.stdout(Stdio::piped());
        let mut process = Guard::spawn(&mut command);

        let received = Arc::new(Mutex::new(Vec::new()));
        let lines = Arc::new(Mutex::new(Vec::new()));
        let output = BufReader::new(process.0.stdout.take().expect("piped"));
        let (received_too, lines_too) = (received.clone(), lines.clone());
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                // Stamped here: net-snmp's own format has whole seconds only.
                let at = Instant::now();
                if let Some(notification) = Notification::parse(&line, at) {
                    received_too.lock().expect("no panic while held").push(notification);
                }
                lines_too.lock().expect("no panic while held").push(line);
            }
        });
        let nms = Nms { received, lines, _directory: directory, _process: process };
        wait_until("snmptrapd to say its version", Duration::from_secs(15), || {
            nms.lines().iter().any(|line| line.starts_with("NET-SNMP version"))
        });
        nms
    }

    /// Everything received so far about alarms, in order.
    pub fn alarms(&self) -> Vec<Notification> {
        let received = self.received.lock().expect("no panic while held");
        received.iter().filter(|notification| notification.is_alarm()).cloned().collect()
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
