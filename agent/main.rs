//! The evenkeel daemon and its command line.
//!
//! `README.md` beside this file shows how the parts fit together.

mod addressees;
mod api;
mod cli;
mod clock;
mod config;
mod control;
mod discover;
mod doors;
mod driver;
mod ear;
mod families;
mod files;
mod forwarder;
mod gate;
mod generate;
mod host;
mod hub;
mod metrics;
mod notifier;
mod onward;
mod outbox;
mod page;
mod pair;
mod peers;
mod pinger;
mod receivers;
mod recording;
mod reloaded;
mod replay;
mod replica;
mod roles;
mod run;
mod service;
mod snapshot;
mod spool;
mod standby;
mod status;
mod store;
mod supervisor;
mod trap_view;
mod web;

use std::{io::IsTerminal, process::ExitCode};

use anyhow::Context;
use clap::Parser;
use evenkeel_core::mib::{self, RootOid};
use ipnet::IpNet;
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

use crate::{
    cli::{Cli, Command, ConfigFile, Format, RunningAgent, SubnetOrder},
    config::{Config, ConfigErrors},
};

fn main() -> ExitCode {
    let command = match Cli::try_parse() {
        Ok(cli) => cli.command,
        Err(error) => {
            return status::command::usage_error(&error, cli::is_check(std::env::args_os()));
        }
    };
    let done = match command {
        Command::Run { config } => {
            log_to_stderr();
            return run::run(config.config);
        }
        Command::Check { config } => return run::check(config.config.as_deref()),
        Command::Reload { agent, format } => reload(&agent, format).map(success),
        Command::Status(options) => status::command::status(&options),
        Command::Subnet { agent, order: SubnetOrder::Enable { prefix } } => {
            enable_subnet(&agent, prefix).map(success)
        }
        Command::Pair { agent, order } => pair::orders::command(&agent, &order),
        Command::Traps { agent, spooled: true, from, .. } => {
            show_spooled(&agent.config, from).map(success)
        }
        Command::Traps { agent, format, .. } => show_rejected(&agent, format).map(success),
        Command::Discover(asked) => discover::discover(&asked).map(success),
        Command::Replay(replay) => replay::command::replay(&replay).map(success),
        Command::Generate { directory } => generate::generate(&directory).map(success),
        Command::Mib { config, root_oid } => print_mib(&config, root_oid.as_deref()).map(success),
    };
    match done {
        Ok(code) => code,
        Err(failed) => {
            eprintln!("evenkeel: {failed:#}");
            ExitCode::FAILURE
        }
    }
}

const fn success((): ()) -> ExitCode {
    ExitCode::SUCCESS
}

/// Log lines go to standard error, coloured at a terminal; `RUST_LOG` sets how much. The last of them are
/// kept for a report of a stall.
fn log_to_stderr() {
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("evenkeel=info,warn"));
    let kept = fmt::layer()
        .with_target(false)
        .with_ansi(false)
        .with_thread_names(true)
        .with_writer(supervisor::lines::Keeper);
    let shown = fmt::layer()
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    // Kept first, as standard error may be what a thread gets stuck at.
    tracing_subscriber::registry().with(filter).with(kept).with(shown).init();
}

fn load(config: &ConfigFile) -> anyhow::Result<Config> {
    config.load().map_err(refused)
}

fn refused(errors: ConfigErrors) -> anyhow::Error {
    anyhow::anyhow!("the configuration is refused\n{}", errors.render(false))
}

/// There is no way to an agent by this configuration.
fn no_socket(errors: ConfigErrors) -> anyhow::Error {
    anyhow::anyhow!(
        "the configuration is refused, and where the control socket is can't be told from it; name it \
         with --socket\n{}",
        errors.render(false)
    )
}

fn enable_subnet(agent: &RunningAgent, subnet: IpNet) -> anyhow::Result<()> {
    let socket = agent.control_socket().map_err(no_socket)?;
    let answer = control::ask(&socket, &format!("enable {subnet}"))?;
    let control::Enabled { interface, .. } = serde_json::from_str(&answer)?;
    println!("{subnet}: its addresses are on {interface} again");
    Ok(())
}

fn reload(agent: &RunningAgent, format: Format) -> anyhow::Result<()> {
    let answer = control::ask(&agent.control_socket().map_err(no_socket)?, "reload")?;
    match format {
        Format::Json => print!("{answer}"),
        Format::Table => print!("{}", serde_json::from_str::<reloaded::Reloaded>(&answer)?),
    }
    Ok(())
}

fn show_rejected(agent: &RunningAgent, format: Format) -> anyhow::Result<()> {
    let answer = control::ask(&agent.control_socket().map_err(no_socket)?, "rejected")?;
    if format == Format::Json {
        print!("{answer}");
        return Ok(());
    }
    let rejected: Vec<control::RejectedDatagram> = serde_json::from_str(&answer)?;
    if rejected.is_empty() {
        println!("No datagram was rejected since the agent started.");
    }
    for datagram in rejected {
        let control::RejectedDatagram { at, source, reason, length, .. } = &datagram;
        println!("{at}  from {source}  {reason}  {length} octets");
        print!("{}", trap_view::describe(&datagram.octets()));
    }
    Ok(())
}

fn show_spooled(config: &ConfigFile, from: u64) -> anyhow::Result<()> {
    let dir = load(config)?.agent.state_dir().join(spool::DIRECTORY);
    let shown = spool::dump(&dir, from, &mut std::io::stdout().lock());
    match shown {
        // Whoever reads has seen enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        shown => shown.with_context(|| format!("cannot read the spool {}", dir.display())),
    }
}

fn print_mib(config: &ConfigFile, root: Option<&str>) -> anyhow::Result<()> {
    let root: RootOid = match root {
        Some(root) => root.parse()?,
        None => load(config)?.notifications.root_oid,
    };
    print!("{}", mib::with_root(&root));
    Ok(())
}
