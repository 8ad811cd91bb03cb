//! Every form that net-snmp's programs can send: the versions, the levels, and each algorithm with
//! each other.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use super::Ns;

/// Authentication protocols, as the agent's configuration and net-snmp name them.
pub const AUTH: [&str; 6] = ["MD5", "SHA", "SHA-224", "SHA-256", "SHA-384", "SHA-512"];

/// Privacy protocols. `-C` is the way in which Cisco's devices make a key longer.
pub const PRIVACY: [&str; 6] = ["DES", "AES", "AES-192", "AES-256", "AES-192-C", "AES-256-C"];

/// The passphrases of all users.
pub const AUTH_PASSPHRASE: &str = "maplesyrup for auth";
/// See [`AUTH_PASSPHRASE`].
pub const PRIVACY_PASSPHRASE: &str = "maplesyrup for privacy";

/// A user of SNMPv3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The security name.
    pub name: String,
    /// The authentication protocol, or nothing.
    pub auth: Option<&'static str>,
    /// The privacy protocol, or nothing.
    pub privacy: Option<&'static str>,
}

impl User {
    /// A user of these protocols.
    pub fn new(auth: Option<&'static str>, privacy: Option<&'static str>) -> User {
        let part = |protocol: Option<&str>| protocol.unwrap_or("none").to_lowercase();
        User { name: format!("{}.{}", part(auth), part(privacy)), auth, privacy }
    }

    /// One of each: no protocol, each authentication alone, and each with each privacy: 43 in all.
    pub fn all() -> Vec<User> {
        let mut users = vec![User::new(None, None)];
        for auth in AUTH {
            users.push(User::new(Some(auth), None));
            users.extend(PRIVACY.map(|privacy| User::new(Some(auth), Some(privacy))));
        }
        users
    }

    /// What the agent's configuration says of one who sends: a table of `[[traps.user]]`.
    pub fn sender(&self) -> String {
        format!("[[traps.user]]\n{}learn = true\n", self.keys("name"))
    }

    /// The keys of a notification target's table that say as whom it is sent to.
    pub fn target(&self) -> String {
        self.keys("user")
    }

    fn keys(&self, name_key: &str) -> String {
        let mut text = format!("{name_key} = {:?}\nlevel = {:?}\n", self.name, self.level());
        if let Some(auth) = self.auth {
            text += &format!("auth = {auth:?}\nauth_passphrase = {AUTH_PASSPHRASE:?}\n");
        }
        if let Some(privacy) = self.privacy {
            text +=
                &format!("privacy = {privacy:?}\nprivacy_passphrase = {PRIVACY_PASSPHRASE:?}\n");
        }
        text
    }

    /// The line that makes the user known to snmptrapd: for informs, of which it is the
    /// authoritative engine, or for traps of this engine.
    pub fn create(&self, engine: Option<&str>) -> String {
        let mut line = "createUser".to_owned();
        if let Some(engine) = engine {
            line += &format!(" -e {engine}");
        }
        line += &format!(" {}", self.name);
        if let Some(auth) = self.auth {
            line += &format!(" {auth} {AUTH_PASSPHRASE:?}");
        }
        if let Some(privacy) = self.privacy {
            line += &format!(" {privacy} {PRIVACY_PASSPHRASE:?}");
        }
        line + "\n"
    }

    /// The options of net-snmp's programs.
    pub fn options(&self) -> Vec<String> {
        let mut words = vec!["-v", "3", "-u", &self.name, "-l", self.level()]
            .into_iter()
            .map(str::to_owned)
            .collect::<Vec<_>>();
        if let Some(auth) = self.auth {
            words.extend(["-a", auth, "-A", AUTH_PASSPHRASE].map(str::to_owned));
        }
        if let Some(privacy) = self.privacy {
            words.extend(["-x", privacy, "-X", PRIVACY_PASSPHRASE].map(str::to_owned));
        }
        words
    }

    /// The line for `second_stack.py`.
    pub fn line(&self) -> String {
        format!("{} {} {}\n", self.name, self.auth.unwrap_or("-"), self.privacy.unwrap_or("-"))
    }

    /// One entry of Wireshark's table `snmp_users`, for any engine.
    pub fn for_tshark(&self) -> String {
        let auth = self.auth.unwrap_or("MD5").replace("SHA-", "SHA2-").replace("SHA2-1", "SHA1");
        let auth = if auth == "SHA" { "SHA1".to_owned() } else { auth };
        let privacy = match self.privacy {
            None | Some("DES") => "DES",
            Some("AES") => "AES",
            // Which way of making the key longer that is differs between its versions.
            other => panic!("tshark is not asked about {other:?}"),
        };
        let part = |passphrase, is: bool| if is { passphrase } else { "" };
        format!(
            "\"\",\"{}\",\"{auth}\",\"{}\",\"{privacy}\",\"{}\"",
            self.name,
            part(AUTH_PASSPHRASE, self.auth.is_some()),
            part(PRIVACY_PASSPHRASE, self.privacy.is_some())
        )
    }

    /// How well its messages are protected.
    pub fn level(&self) -> &'static str {
        match (self.auth, self.privacy) {
            (None, _) => "noAuthNoPriv",
            (Some(_), None) => "authNoPriv",
            (Some(_), Some(_)) => "authPriv",
        }
    }
}

/// net-snmp's programs with a persistent directory of their own, so an engine of their own.
pub struct NetSnmp<'a> {
    ns: &'a Ns,
    to: String,
    directory: PathBuf,
}

impl<'a> NetSnmp<'a> {
    /// Sends from a namespace to `to`, and keeps its state in this directory.
    pub fn new(ns: &'a Ns, to: &str, directory: &Path) -> NetSnmp<'a> {
        fs::create_dir_all(directory).expect("a writable directory");
        NetSnmp { ns, to: to.to_owned(), directory: directory.to_owned() }
    }

    /// Sends a linkDown of an interface as a trap.
    pub fn trap(&self, options: &[String], if_index: u32) -> Output {
        self.run("snmptrap", options, if_index)
    }

    /// Sends it as an inform, once, and waits two seconds for the answer.
    pub fn inform(&self, options: &[String], if_index: u32) -> Output {
        let mut with = vec!["-r".to_owned(), "0".to_owned(), "-t".to_owned(), "2".to_owned()];
        with.extend_from_slice(options);
        self.run("snmpinform", &with, if_index)
    }

    /// Sends it as an SNMPv1 trap with this agent-addr.
    pub fn v1(&self, agent_addr: &str, if_index: u32) -> Output {
        let mut command = self.command("snmptrap");
        command.args(["-v", "1", "-c", "public", &self.to, ".1.3.6.1.4.1.9.1.1", agent_addr]);
        command.args(["2", "0", &if_index.to_string()]);
        self.finish(command, if_index)
    }

    fn run(&self, program: &str, options: &[String], if_index: u32) -> Output {
        let mut command = self.command(program);
        // The uptime makes each another trap (INST-9).
        command.args(options).arg(&self.to).arg((1000 + if_index).to_string());
        command.arg(".1.3.6.1.6.3.1.1.5.3");
        self.finish(command, if_index)
    }

    fn finish(&self, mut command: Command, if_index: u32) -> Output {
        let number = if_index.to_string();
        command.args([&format!(".1.3.6.1.2.1.2.2.1.1.{number}"), "i", &number]);
        // A child has the namespace of the thread that starts it, which spares `ip netns exec`.
        self.ns.inside(|| command.output()).expect("tests/setup installs net-snmp")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("MIBS", "").env("SNMP_PERSISTENT_DIR", &self.directory);
        // No file of this machine's own is read.
        command.env("SNMPCONFPATH", &self.directory);
        command
    }
}

/// The options of SNMPv2c.
pub fn v2c() -> Vec<String> {
    ["-v", "2c", "-c", "public"].map(str::to_owned).to_vec()
}
