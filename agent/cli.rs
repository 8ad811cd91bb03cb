//! The command line: what can be asked for, and what the help says of it.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{
    Args, Parser, Subcommand, ValueEnum,
    builder::{PossibleValuesParser, TypedValueParser},
};
use evenkeel_core::alarm::Severity;
use ipnet::IpNet;

use crate::{
    config::{Config, ConfigErrors},
    pair::keys::Fingerprint,
    peers::filter::Filter,
    replay::pcap::TRAP_PORTS,
};

/// Asking more often tells nobody more.
const SHORTEST_WATCH: Duration = Duration::from_millis(100);
/// A day.
const LONGEST_WATCH: Duration = Duration::from_secs(86_400);

/// What was asked for.
#[derive(Debug, Parser)]
#[command(
    name = "evenkeel",
    version,
    about = "Watches a network by SNMP traps and ICMP, and raises few alarms, but right ones",
    long_about = "evenkeel takes in linkDown, linkUp, coldStart and warmStart traps, polls the \
        subnets of this host by ICMP, and turns what it sees into a few alarms: unstable systems \
        and interfaces, subnets that are down. It tells them as Prometheus metrics and as SNMP \
        notifications, and keeps them in a journal.",
    after_help = "Examples:\n  \
        evenkeel run                      with defaults: traps on port 10162, metrics on\n                                    \
        http://127.0.0.1:19040/metrics, the gateways of this host polled\n  \
        evenkeel run --config my.toml     with a configuration\n  \
        evenkeel check --config my.toml   what is wrong with a configuration, all of it at once\n  \
        evenkeel discover --probe         which gateways on the subnets of this host answer\n  \
        evenkeel status                   what is wrong in the network now\n  \
        evenkeel status --watch           the same, every two seconds\n  \
        evenkeel status --check           as a plugin of Nagios or Icinga\n  \
        evenkeel status peers --group core --state down\n                                    \
        which peers are down\n  \
        evenkeel replay storm.pcap --window 60s --threshold 3\n                                    \
        what another window and threshold would have made of last month",
    max_term_width = 100
)]
pub struct Cli {
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the agent.
    ///
    /// It stays in the foreground and logs to standard error. SIGHUP loads the configuration
    /// again; a bad one is refused and the one before stays in force. SIGTERM and SIGINT stop it
    /// in an orderly way.
    Run {
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Check a configuration, and say all that is wrong with it.
    ///
    /// Ends with 0 if the agent would start with it, with 1 if not. It is also held against the
    /// interfaces and addresses of this host.
    Check {
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Let the running agent load its configuration again, and say what has come of it.
    ///
    /// Ends with 0 if the configuration is in force: says what has changed, and what of it takes hold only
    /// at the next start. Ends with 1 if it is refused, and says what is wrong and where; the one before
    /// stays in force. The agent loads the file that it was started with.
    Reload {
        #[command(flatten)]
        agent: RunningAgent,
        /// How to show it.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// List the subnets of this host, and the gateways on them that could be polled.
    ///
    /// They are read from the interfaces, every routing table and the neighbour table of this host. A
    /// gateway that is not on the subnet itself is never offered. Ends with 0 if there is somebody to
    /// poll, with 1 if not.
    #[command(after_help = "Examples:\n  \
        evenkeel discover                 what there is; nothing is sent, and no right is needed\n  \
        evenkeel discover --probe         the same, without the gateways that do not answer\n  \
        evenkeel discover --probe --format toml > evenkeel.toml\n                                    \
        as a configuration; `evenkeel check` takes it as it is")]
    Discover(Discover),
    /// Show what is wrong now: alarms, unstable objects, subnets, flows, peers in sum.
    ///
    /// It asks the running agent over its control socket, which root, the agent's own user and the
    /// members of the socket's group may use.
    Status(StatusOptions),
    /// Give orders about a subnet that has a standby interface.
    Subnet {
        #[command(flatten)]
        agent: RunningAgent,
        /// The order.
        #[command(subcommand)]
        order: SubnetOrder,
    },
    /// Make two agents a pair, look at it, and give it orders, which either agent takes.
    Pair {
        #[command(flatten)]
        agent: RunningAgent,
        /// What is asked for.
        #[command(subcommand)]
        order: PairOrder,
    },
    /// Look at traps.
    Traps {
        #[command(flatten)]
        agent: RunningAgent,
        /// The last datagrams that were not taken in, with the reason and what is in them. Communities
        /// are not shown.
        #[arg(long, required_unless_present = "spooled", conflicts_with = "spooled")]
        rejected: bool,
        /// What is in the spool: informs, and traps for targets that acknowledge. A line of JSON
        /// each. The agent need not run.
        #[arg(long)]
        spooled: bool,
        /// Begin with this number of the spool.
        #[arg(long, value_name = "NUMBER", default_value_t = 0, requires = "spooled")]
        from: u64,
        /// How to show it.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Say what would have been raised and cleared, in simulated time.
    ///
    /// Reads a pcap or pcapng file of traps, or a recording that the agent made (`record` in
    /// the agent table). Time is simulated, so that a day takes a second. The settings are those of
    /// --config; without it, those of the recording, or the defaults with any community from
    /// anywhere.
    Replay(Replay),
    /// Print EVENKEEL-MIB, anchored at the configured root OID.
    Mib {
        #[command(flatten)]
        config: ConfigFile,
        /// Anchor it here instead, such as 1.3.6.1.4.1.99999.1.
        #[arg(long, value_name = "OID")]
        root_oid: Option<String>,
    },
    /// Write the man pages and the completions of bash, zsh and fish into a directory.
    ///
    /// They go where man and the shells look for them below a directory of shared data, such as
    /// ~/.local/share. Packages of evenkeel have them already.
    Generate {
        /// The directory of shared data.
        directory: PathBuf,
    },
}

/// How the status is to be shown.
#[derive(Debug, Args)]
pub struct StatusOptions {
    #[command(flatten)]
    pub agent: RunningAgent,
    /// How to show it.
    #[arg(long, value_enum, default_value_t, global = true)]
    pub format: StatusFormat,
    /// Whether the table is coloured.
    #[arg(long, value_enum, value_name = "WHEN", default_value_t, global = true)]
    pub color: Color,
    /// Show it again and again, every two seconds or as often as is said here, until interrupted.
    #[arg(
        long,
        value_name = "SECONDS",
        num_args = 0..=1,
        default_missing_value = "2",
        value_parser = seconds,
        global = true
    )]
    pub watch: Option<Duration>,
    /// Every row of each list of the table, also where it is long.
    #[arg(long)]
    pub all: bool,
    /// Be a plugin of Nagios or Icinga: one line with performance data, and the exit code 0 for OK, 1
    /// for WARNING, 2 for CRITICAL, 3 for UNKNOWN.
    #[arg(long, conflicts_with_all = ["format", "color", "watch", "all"])]
    pub check: bool,
    /// Alarms of this severity and worse are CRITICAL.
    #[arg(
        long,
        value_name = "SEVERITY",
        default_value = "critical",
        value_parser = severity(),
        requires = "check"
    )]
    pub critical_from: Severity,
    /// Alarms of this severity and worse are WARNING, where they are not CRITICAL; others are OK.
    #[arg(
        long,
        value_name = "SEVERITY",
        default_value = "warning",
        value_parser = severity(),
        requires = "check"
    )]
    pub warning_from: Severity,
    /// Print the JSON Schema of what --format json prints, and ask no agent.
    #[arg(long, conflicts_with_all = ["check", "watch", "all", "format", "color"])]
    pub schema: bool,
    /// Something in particular.
    #[command(subcommand)]
    pub of: Option<StatusOf>,
}

/// What the status may be of.
#[derive(Debug, Subcommand)]
pub enum StatusOf {
    /// Show the peers: all in sum, then those that the options name.
    ///
    /// Without an option that names some, those are listed that are down or silent. Options are
    /// held together: a peer is listed if it fits them all.
    Peers(Filter),
}

/// Orders about a subnet.
#[derive(Debug, Subcommand)]
pub enum SubnetOrder {
    /// Enable the primary interface again, after its IP has failed: its addresses come back to it.
    ///
    /// The agent waits for this order, as nobody but you can know that the fault is mended. If IP still
    /// does not work there, the addresses are moved to the standby again after four polls.
    Enable {
        /// The subnet, such as 192.0.2.0/24.
        prefix: IpNet,
    },
}

/// What can be asked of a pair, and done to make one.
#[derive(Debug, Subcommand)]
pub enum PairOrder {
    /// Print this agent's fingerprint, for the other agent to trust.
    ///
    /// It is the SHA-256 of the agent's certificate, which is made now if the agent has never run. Run
    /// this as the user that the agent runs as.
    Fingerprint,
    /// Trust the other agent, by the fingerprint that `evenkeel pair fingerprint` prints there.
    ///
    /// From then on that one is the mate, and no other. An agent that runs takes it up within a second.
    /// Run this as the user that the agent runs as.
    Trust {
        /// The fingerprint: 64 hexadecimal digits, with or without colons.
        fingerprint: Fingerprint,
    },
    /// Show roles, terms, links and paths, what is synchronised, and the last takeover.
    Status {
        /// How to show it.
        #[arg(long, value_enum, default_value_t)]
        format: PairFormat,
        /// Whether the text is coloured.
        #[arg(long, value_enum, value_name = "WHEN", default_value_t)]
        color: Color,
        /// Print the JSON Schema of what --format json prints, and ask no agent.
        #[arg(long, conflicts_with_all = ["format", "color"])]
        schema: bool,
    },
    /// Let the standby become primary.
    ///
    /// Waits until it is. A standby that lacks a part of the state does not take over from a primary that
    /// is heard; from one that is silent, it does.
    Failover,
    /// Let nobody take over until `release`: the mate is expected to be away.
    Hold,
    /// End a hold.
    Release,
    /// Count takeovers from zero. What the limit remembers stays.
    ResetCounters,
}

/// How to show a pair.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum PairFormat {
    /// For a person.
    #[default]
    Text,
    /// For a program.
    Json,
}

/// Which configuration.
#[derive(Debug, Args)]
pub struct ConfigFile {
    /// The configuration file [default: /etc/evenkeel/evenkeel.toml, or the built-in defaults if
    /// there is none].
    #[arg(long, short, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
}

/// Which running agent.
#[derive(Debug, Args)]
pub struct RunningAgent {
    #[command(flatten)]
    pub config: ConfigFile,
    /// Ask at this control socket, without a look at a configuration.
    #[arg(long, value_name = "PATH", global = true)]
    pub socket: Option<PathBuf>,
}

impl RunningAgent {
    /// Its control socket. A configuration that is refused has one, too, if what it says of that is right:
    /// the agent that runs with the one before is asked, not held against the file.
    ///
    /// # Errors
    ///
    /// The configuration is refused, and where the socket is can't be told from it.
    pub fn control_socket(&self) -> Result<PathBuf, ConfigErrors> {
        if let Some(socket) = &self.socket {
            return Ok(socket.clone());
        }
        self.config.load().map(|config| config.agent.control_socket()).or_else(|errors| {
            let socket = Config::control_socket_alone(self.config.config.as_deref());
            let Some(socket) = socket else { return Err(errors) };
            eprintln!(
                "evenkeel: the configuration file is refused, see `evenkeel check`; the agent is asked at {} all the same",
                socket.display()
            );
            Ok(socket)
        })
    }
}

impl ConfigFile {
    /// The configuration, as far as it concerns who asks and does not run: without its secrets.
    ///
    /// # Errors
    ///
    /// It is refused.
    pub fn load(&self) -> Result<Config, ConfigErrors> {
        Config::load_without_secrets(self.config.as_deref())
    }
}

/// How to show the status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum StatusFormat {
    /// For a person.
    #[default]
    Table,
    /// For grep and awk: one line for each thing, fields separated by tabs.
    Line,
    /// For a program.
    Json,
}

/// When to colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// At a terminal, unless NO_COLOR is set or it is a dumb one.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// How to show something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For a person.
    #[default]
    Table,
    /// For a program.
    Json,
}

/// What to look for, and how to show it.
#[derive(Debug, Args)]
pub struct Discover {
    /// Poll each gateway four times by ICMP echo, and leave out those that do not answer. Takes two
    /// seconds, and needs CAP_NET_RAW.
    #[arg(long)]
    pub probe: bool,
    /// How to show it.
    #[arg(long, value_enum, default_value_t)]
    pub format: DiscoverFormat,
}

/// How to show what was discovered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum DiscoverFormat {
    /// For a person.
    #[default]
    Text,
    /// A configuration.
    Toml,
    /// For a program.
    Json,
}

/// What to replay, and with which settings.
#[derive(Debug, Args)]
pub struct Replay {
    /// The pcap, pcapng or recording.
    pub file: PathBuf,
    /// Use the settings of this configuration file.
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The trap window of interfaces.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub window: Option<Duration>,
    /// The threshold of interfaces; 0 turns their analysis off.
    #[arg(long, value_name = "TRAPS")]
    pub threshold: Option<u16>,
    /// The trap window of systems.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub system_window: Option<Duration>,
    /// The threshold of systems; 0 turns their analysis off.
    #[arg(long, value_name = "TRAPS")]
    pub system_threshold: Option<u16>,
    /// The UDP ports that traps are sent to, in a capture.
    #[arg(long, value_name = "PORT", value_delimiter = ',', default_values_t = TRAP_PORTS)]
    pub port: Vec<u16>,
    /// Print every trap with its varbinds, too.
    #[arg(long)]
    pub traps: bool,
    /// How to show it: JSON is one object a line.
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// The command line of someone who asks as a monitoring system does, and waits for one line and an exit
/// code, even if it can't be understood.
pub fn is_check(words: impl IntoIterator<Item = OsString>) -> bool {
    let mut words = words.into_iter().skip(1);
    words.any(|word| word == "status") && words.any(|word| word == "--check")
}

fn duration(text: &str) -> Result<Duration, String> {
    crate::config::duration(text)
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds
        .filter(|seconds| (SHORTEST_WATCH..=LONGEST_WATCH).contains(seconds))
        .ok_or_else(|| "give a number of seconds from 0.1 to 86400".to_owned())
}

fn severity() -> impl TypedValueParser<Value = Severity> {
    PossibleValuesParser::new(Severity::ALL.map(Severity::name))
        .try_map(|name| Severity::from_name(&name).ok_or("there is no such severity"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn status_takes_its_options_before_and_after_what_it_is_of() {
        for line in [
            "evenkeel status --config x.toml --format json peers --state down,silent",
            "evenkeel status peers --state down --state silent --config x.toml --format json",
        ] {
            let Command::Status(StatusOptions {
                agent,
                format,
                of: Some(StatusOf::Peers(filter)),
                ..
            }) = Cli::try_parse_from(line.split(' ')).unwrap().command
            else {
                panic!("{line}");
            };
            assert_eq!(agent.config.config.unwrap().to_str(), Some("x.toml"));
            assert_eq!(format, StatusFormat::Json);
            assert_eq!(Ok(filter), Filter::from_query(&[("state".into(), "down,silent".into())]));
        }
        let line = "evenkeel status peers --state down --not-admitted";
        assert!(Cli::try_parse_from(line.split(' ')).is_err());
    }

    fn status(words: &str) -> Result<StatusOptions, String> {
        let line = format!("evenkeel status {words}");
        match Cli::try_parse_from(line.split_whitespace()) {
            Ok(Cli { command: Command::Status(options) }) => Ok(options),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn watch_takes_seconds_or_two() {
        let watch = |words: &str| status(words).unwrap().watch;
        assert_eq!(watch(""), None);
        assert_eq!(watch("--watch"), Some(Duration::from_secs(2)));
        assert_eq!(watch("--watch 0.5 --format line"), Some(Duration::from_millis(500)));
        assert_eq!(watch("peers --watch --state down"), Some(Duration::from_secs(2)));
        for wrong in ["0", "-1", "1e9", "soon", "nan"] {
            let error = status(&format!("--watch={wrong}")).unwrap_err();
            assert!(error.contains("from 0.1 to 86400"), "{wrong}: {error}");
        }
    }

    #[test]
    fn a_check_has_a_mapping_and_no_format() {
        let options = status("--check").unwrap();
        assert_eq!(options.critical_from, Severity::Critical);
        assert_eq!(options.warning_from, Severity::Warning);
        let options = status("--check --critical-from minor --warning-from major").unwrap();
        assert_eq!(options.critical_from, Severity::Minor);
        assert_eq!(options.warning_from, Severity::Major);
        for wrong in [
            "--check --format json",
            "--check --watch",
            "--critical-from major",
            "--check --critical-from cleared",
            "--schema --check",
        ] {
            assert!(status(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_check_is_known_even_where_the_rest_is_not_understood() {
        let is_check = |line: &str| is_check(line.split(' ').map(OsString::from));
        assert!(is_check("evenkeel status --config x.toml --check --colour"));
        assert!(!is_check("evenkeel status --colour"));
        assert!(!is_check("evenkeel check --check"));
    }
}
