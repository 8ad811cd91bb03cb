//! A device, played by net-snmp's `snmptrap` and `snmpinform`.

use std::{
    cell::Cell,
    process::{Command, Stdio},
    time::Instant,
};

use super::{Ns, process::output, timeline::Sent};

/// What a device sends of itself or of one of its interfaces (RFC 3418, RFC 2863).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trap {
    /// The system restarted, and may be configured anew.
    ColdStart,
    /// The system restarted.
    WarmStart,
    /// The interface of this ifIndex went down.
    LinkDown(u32),
    /// The interface of this ifIndex came up.
    LinkUp(u32),
}

impl Trap {
    /// The last sub-identifier of its snmpTrapOID (RFC 3418, section 2).
    pub const fn number(self) -> u8 {
        match self {
            Trap::ColdStart => 1,
            Trap::WarmStart => 2,
            Trap::LinkDown(_) => 3,
            Trap::LinkUp(_) => 4,
        }
    }

    /// The interface, for a link trap.
    pub const fn if_index(self) -> Option<u32> {
        match self {
            Trap::ColdStart | Trap::WarmStart => None,
            Trap::LinkDown(if_index) | Trap::LinkUp(if_index) => Some(if_index),
        }
    }
}

/// One sender: its address, where it sends to, and how.
pub struct Device<'a> {
    ns: &'a Ns,
    address: String,
    agent: String,
    community: String,
    /// Hundredths of a second; each trap has its own, so that none looks like a copy (INST-9).
    uptime: Cell<u32>,
}

impl<'a> Device<'a> {
    /// A device in a namespace that sends from `address` to the agent's socket `agent`, written as
    /// net-snmp does: `127.0.0.1:10162` or `udp6:[::1]:10162`.
    pub fn new(ns: &'a Ns, address: &str, agent: &str) -> Device<'a> {
        Device {
            ns,
            address: address.to_owned(),
            agent: agent.to_owned(),
            community: "public".to_owned(),
            uptime: Cell::new(1000),
        }
    }

    /// The same with another community string.
    pub fn with_community(mut self, community: &str) -> Device<'a> {
        self.community = community.to_owned();
        self
    }

    /// Sends an SNMPv2c trap.
    pub fn v2c(&self, trap: Trap) -> Sent {
        self.send("2c", &[&self.tick(), &oid(trap)], trap)
    }

    /// Sends an SNMPv2c inform, up to three times until it is answered. Whether it was is not
    /// looked at.
    pub fn inform(&self, trap: Trap) -> Sent {
        let mut command = self.command("snmpinform", "2c");
        command.args(["-r", "2", "-t", "0.2"]);
        self.finish(&mut command, &[&self.tick(), &oid(trap)], trap);
        let before = Instant::now();
        command.stderr(Stdio::null()).status().expect("tests/setup installs net-snmp");
        Sent { before, after: Instant::now() }
    }

    /// Sends an SNMPv1 trap.
    pub fn v1(&self, trap: Trap) -> Sent {
        // RFC 1157, 4.1.6: coldStart is generic-trap 0, and so on.
        let generic = (trap.number() - 1).to_string();
        let uptime = self.tick();
        let words = [".1.3.6.1.4.1.9.1.1", &self.address, &generic, "0", &uptime];
        self.send("1", &words, trap)
    }

    fn send(&self, version: &str, words: &[&str], trap: Trap) -> Sent {
        let mut command = self.command("snmptrap", version);
        self.finish(&mut command, words, trap);
        let before = Instant::now();
        output(&mut command);
        Sent { before, after: Instant::now() }
    }

    /// The options that every form has.
    fn command(&self, program: &str, version: &str) -> Command {
        let mut command = self.ns.command(program);
        // An empty list of MIBs saves the time to parse them; the persistent directory is where
        // net-snmp would keep an engine's boots.
        command.env("MIBS", "").env("SNMP_PERSISTENT_DIR", std::env::temp_dir().join("ek-snmp"));
        command.args(["-v", version, "-c", &self.community]);
        command.arg(format!("--clientaddr={}", self.address));
        command
    }

    /// What follows the options.
    fn finish(&self, command: &mut Command, words: &[&str], trap: Trap) {
        command.arg(&self.agent).args(words);
        if let Some(if_index) = trap.if_index() {
            // ifIndex (RFC 2863) with its value, as devices send it.
            let object = format!(".1.3.6.1.2.1.2.2.1.1.{if_index}");
            command.args([&object, "i", &if_index.to_string()]);
        }
    }

    fn tick(&self) -> String {
        self.uptime.set(self.uptime.get() + 100);
        self.uptime.get().to_string()
    }
}

/// The snmpTrapOID of a trap.
fn oid(trap: Trap) -> String {
    format!(".1.3.6.1.6.3.1.1.5.{}", trap.number())
}
