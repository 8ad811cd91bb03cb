//! `evenkeel pair fingerprint` and `evenkeel pair trust`: they need no running agent, and none that runs
//! needs to be told.

use anyhow::Context;

use super::{
    directory::Directory,
    keys::{Fingerprint, Identity},
    trust::Trust,
};
use crate::config::Config;

/// Prints this agent's fingerprint. Its key is made if there is none yet.
///
/// # Errors
///
/// There is no key and none can be made, or this user may not.
pub fn fingerprint(config: &Config) -> anyhow::Result<()> {
    let identity = identity(&Directory::of(&config.agent.state_dir()))?;
    println!("{}", identity.fingerprint);
    Ok(())
}

/// Trusts the mate of this fingerprint from now on, and nobody else.
///
/// # Errors
///
/// It is this agent's own, or can't be kept.
pub fn trust(config: &Config, mate: Fingerprint) -> anyhow::Result<()> {
    let directory = Directory::of(&config.agent.state_dir());
    let own = identity(&directory)?.fingerprint;
    let trust = Trust::of(&directory);
    // What can't be understood there is about to be replaced.
    let before = trust.read().ok().flatten();
    trust.write(mate, own)?;
    println!("The mate that shows {mate} is trusted.");
    if let Some(before) = before.filter(|before| *before != mate) {
        println!("The one that shows {before} is trusted no longer.");
    }
    if config.pair.is_none() {
        println!("The configuration has no [pair] section yet, so this agent looks for no mate.");
    }
    Ok(())
}

fn identity(directory: &Directory) -> anyhow::Result<Identity> {
    Identity::load_or_make(directory).context("this agent has no key for its mate to know it by")
}
