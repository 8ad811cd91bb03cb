//! What is made from the definition of the command line and from the reference of the configuration: man
//! pages, and completions for shells. Nobody writes them by hand, so none of them lags behind.

mod man;
mod markdown;

use std::{fs, io, path::Path};

use anyhow::Context;
use clap::CommandFactory;
use clap_complete::Shell;
use jiff::{Timestamp, tz::TimeZone};

use crate::cli::Cli;

/// Where each shell looks for completions, below a directory of shared data.
const COMPLETIONS: [(Shell, &str); 3] = [
    (Shell::Bash, "bash-completion/completions/evenkeel"),
    (Shell::Zsh, "zsh/site-functions/_evenkeel"),
    (Shell::Fish, "fish/vendor_completions.d/evenkeel.fish"),
];

/// Writes all of it below a directory of shared data, such as `/usr/share`.
///
/// # Errors
///
/// Something can't be written.
pub fn generate(directory: &Path) -> anyhow::Result<()> {
    let mut files: Vec<(String, Vec<u8>)> = Vec::new();
    for page in man::pages(&date()?) {
        files.push((format!("man/man{}/{}", page.section, page.name()), page.text.into_bytes()));
    }
    for (shell, path) in COMPLETIONS {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "evenkeel", &mut text);
        files.push((path.to_owned(), text));
    }
    for (path, content) in files {
        let path = directory.join(path);
        write(&path, &content).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    fs::write(path, content)
}

/// The day that the pages bear: today, unless a build that is to be repeated says which
/// (reproducible-builds.org, `SOURCE_DATE_EPOCH`).
fn date() -> anyhow::Result<String> {
    let now = match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(seconds) => seconds
            .parse()
            .ok()
            .and_then(|seconds| Timestamp::from_second(seconds).ok())
            .with_context(|| format!("SOURCE_DATE_EPOCH is no number of seconds: {seconds:?}"))?,
        Err(_) => Timestamp::now(),
    };
    Ok(now.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d").to_string())
}
