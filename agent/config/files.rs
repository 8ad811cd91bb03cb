//! The checks of the files that name peers (PEER-13), which `evenkeel check` makes.
//!
//! They are apart from reading the configuration, as these files change while it doesn't. The agent
//! takes a configuration whatever they hold: they may come later, and bad content leaves the former in
//! force. Whoever checks wants to be told of both.

use std::collections::BTreeMap;

use evenkeel_core::peers::roster::Roster;

use super::{Config, Problem, units::Wrong};
use crate::peers::{
    file_sd,
    watch::{self, Files},
};

/// What is wrong with the files: an error for each with bad content, and warnings for patterns that
/// find none and for groups whose peers are more than may be monitored.
pub fn check_files(config: &Config) -> Vec<Problem> {
    let mut problems = Vec::new();
    let groups = config.peers.settings.groups.iter().zip(&config.peers.sources);
    for ((_, source), origin) in groups.clone().zip(&config.places.groups) {
        for (pattern, span) in source.files.iter().zip(&origin.files) {
            let problem = |wrong: Wrong| {
                let problem = Problem::error(&config.places.source, Some(*span), wrong.message);
                let problem = problem.about("peers.group.files");
                match wrong.help {
                    Some(help) => problem.with_help(help),
                    None => problem,
                }
            };
            match pattern.files() {
                Err(error) => problems
                    .push(problem(Wrong::new(format!("{pattern}: can't look for it: {error}")))),
                Ok(files) if files.is_empty() => problems.push(
                    problem(
                        Wrong::new(format!("{pattern}: there is no such file now"))
                            .help("its peers are monitored from the moment that it is there"),
                    )
                    .into_warning(),
                ),
                Ok(files) => {
                    let read = files.iter().map(|file| file_sd::read(file));
                    let bad = read.filter_map(Result::err);
                    problems.extend(bad.map(|bad| problem(Wrong::new(bad.to_string()))));
                }
            }
        }
    }
    problems.extend(too_many(config));
    problems
}

/// The groups of which not everyone is admitted (PEER-5), with the files as they are now.
fn too_many(config: &Config) -> Vec<Problem> {
    let mut files = Files::new(watch::patterns(&config.peers));
    files.look();
    let limits: Vec<u32> = config.peers.settings.groups.iter().map(|group| group.limit).collect();
    let mut roster = Roster::new([]);
    roster.update(&limits, watch::wanted(&config.peers, &files.sources()));
    let mut refused: BTreeMap<u16, usize> = BTreeMap::new();
    for known in roster.known().filter(|known| known.place.is_none()) {
        *refused.entry(known.wanted.group).or_default() += 1;
    }
    let problem = |(group, refused): (u16, usize)| {
        let limit = limits.get(usize::from(group))?;
        let origin = config.places.groups.get(usize::from(group))?;
        let peers = if refused == 1 { "peer" } else { "peers" };
        let message = format!(
            "{refused} {peers} of this group will not be monitored, as all groups together may have \
             {limit} before one of it is admitted (PEER-5)"
        );
        let problem = Problem::error(&config.places.source, Some(origin.name), message);
        let help = "raise its monitor_max_peers";
        Some(problem.about("peers.group").with_help(help).into_warning())
    };
    refused.into_iter().filter_map(problem).collect()
}
