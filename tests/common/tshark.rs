//! Wireshark's opinion of what was sent: a capture by tcpdump, taken apart by tshark.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;

use super::{
    Ns,
    process::{Guard, output, wait_until},
    stack::User,
};

/// A capture that is being written.
pub struct Capture {
    file: PathBuf,
    process: Guard,
    directory: TempDir,
}

/// One frame, as tshark sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The source address.
    pub source: String,
    /// The UDP port that it went to.
    pub port: u16,
    /// The protocols found in it: `eth:ethertype:ip:udp:snmp`.
    pub protocols: String,
    /// msgVersion: 0, 1 or 3.
    pub version: String,
    /// What kind of PDU, as the number of its tag, if it could be read.
    pub pdu: String,
    /// The values of its varbinds.
    pub names: String,
    /// What the experts complain of; empty if nothing.
    pub complaints: String,
}

impl Capture {
    /// Captures what a filter of tcpdump lets through, on an interface.
    pub fn start(ns: &Ns, interface: &str, filter: &str) -> Capture {
        let directory = TempDir::with_prefix("ek-capture-").expect("a temporary directory");
        let file = directory.path().join("capture.pcap");
        let mut command = ns.command("tcpdump");
        // Written packet by packet (-U), as root (-Z), or the directory would not be writable.
        command.args(["-i", interface, "-U", "-Z", "root", "--immediate-mode", "-w"]).arg(&file);
        command.arg(filter).stderr(Stdio::null());
        let process = Guard::spawn(&mut command);
        // The head of the file is written when the filter is in place.
        wait_until("tcpdump to listen", Duration::from_secs(10), || {
            file.metadata().is_ok_and(|file| file.len() >= 24)
        });
        Capture { file, process, directory }
    }

    /// Ends it, and lets tshark decode what was captured: everything on these ports is SNMP, and
    /// these users' keys are known.
    pub fn decode(self, ports: &[u16], users: &[User]) -> Vec<Frame> {
        let mut options = Vec::new();
        for port in ports {
            options.extend(["-d".to_owned(), format!("udp.port=={port},snmp")]);
        }
        for user in users.iter().filter(|user| user.auth.is_some()) {
            options.extend(["-o".to_owned(), format!("uat:snmp_users:{}", user.for_tshark())]);
        }
        let fields = [
            "ip.src",
            "udp.dstport",
            "frame.protocols",
            "snmp.version",
            "snmp.msgVersion",
            "snmp.data",
            "snmp.name",
            "_ws.expert.message",
            "_ws.malformed",
        ];
        self.fields(&options, &fields).iter().map(|line| Frame::read(line)).collect()
    }

    /// Ends it, and gives these fields of each frame that was captured, as tshark with these options
    /// reads them: a line each, with tabs between the fields.
    pub fn fields(mut self, options: &[String], fields: &[&str]) -> Vec<String> {
        // What was sent just now is in the file by then.
        std::thread::sleep(Duration::from_millis(200));
        self.process.end(Duration::from_secs(5));
        let mut command = Command::new("tshark");
        // A home of its own, so that no profile of this machine's user decides anything.
        command.env("HOME", self.directory.path()).env_remove("XDG_CONFIG_HOME");
        command.args(["-n", "-r"]).arg(&self.file).args(options);
        command.args(["-T", "fields", "-E", "separator=/t"]);
        command.args(fields.iter().flat_map(|field| ["-e", field]));
        output(&mut command).lines().map(str::to_owned).collect()
    }
}

impl Frame {
    fn read(line: &str) -> Frame {
        let mut fields = line.split('\t').map(str::to_owned);
        let mut next = || fields.next().unwrap_or_default();
        let (source, port, protocols) = (next(), next(), next());
        let version = next() + &next();
        let (pdu, names, experts) = (next(), next(), next() + &next());
        // The experts also say what is well, and take some of the ports that the kernel may choose for
        // a traceroute's.
        let harmless = ["SNMP Authentication OK", "Possible traceroute:"];
        let complaints = experts
            .split(',')
            .filter(|said| !harmless.iter().any(|harmless| said.trim().starts_with(harmless)))
            .collect();
        Frame {
            source,
            port: port.parse().unwrap_or(0),
            protocols,
            version,
            pdu,
            names,
            complaints,
        }
    }
}
