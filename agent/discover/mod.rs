//! `evenkeel discover`: the subnets of this host and who could be polled on them (SUBN-10).
//!
//! The rules are the core's: `discovery.rs` says who is a candidate, `probe.rs` who answers. Here are
//! the sockets, and how it is shown.

mod document;
mod probe;
mod show;

use std::io::IsTerminal;

use anyhow::Context;
use evenkeel_core::discovery;

use self::document::Discovery;
use crate::{
    cli::{Discover, DiscoverFormat},
    host,
};

/// Looks, polls if it is asked to, and shows what it found. Fails if there is nobody to poll.
///
/// # Errors
///
/// This host can't be looked at, it may not be polled from, or there is nobody to poll; what was found
/// is shown all the same.
pub fn discover(asked: &Discover) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let found = runtime.context("cannot start")?.block_on(look(asked.probe))?;
    match asked.format {
        DiscoverFormat::Text => print!("{}", found.text()),
        DiscoverFormat::Toml => print!("{}", found.toml()),
        DiscoverFormat::Json => println!("{}", serde_json::to_string_pretty(&found)?),
    }
    found.somebody_to_poll().map_err(anyhow::Error::msg)
}

async fn look(probe: bool) -> anyhow::Result<Discovery> {
    let (host, routers) = host::survey().await?;
    let found = discovery::discover(&host, &routers);
    if !probe {
        return Ok(Discovery::new(&found, None));
    }
    let flows = discovery::flows(&found, &host);
    let watched = std::io::stderr().is_terminal();
    let probe = probe::run(flows, &host, watched)
        .await
        .context("cannot probe (without --probe, no right is needed)")?;
    Ok(Discovery::new(&found, Some(&probe)))
}

#[cfg(test)]
mod tests;
