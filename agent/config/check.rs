//! `evenkeel check`: reads a configuration as the daemon would, and prints what it finds.

use std::{
    io::{self, IsTerminal, Write},
    path::Path,
    process::ExitCode,
};

use evenkeel_core::input::Host;

use super::{
    Config, DEFAULT_PATH, Problem, Severity, host::check_against_host, problem::render_all,
};

/// Checks the file, or the one at [`DEFAULT_PATH`] if none is named, and against this host where
/// one is given. Findings go to standard error, with colours if that is a terminal and `NO_COLOR`
/// is not set (<https://no-color.org>); one line of summary goes to standard output. Fails if
/// anything would be refused; warnings alone don't fail.
pub fn check(path: Option<&Path>, host: Option<&Host>) -> ExitCode {
    let wants_color = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let color = wants_color && io::stderr().is_terminal();
    let findings = findings(path, host);
    // Where output can't be written to, the exit code is still told.
    let _ = io::stderr().lock().write_all(render_all(&findings.problems, color).as_bytes());
    let _ = writeln!(io::stdout().lock(), "{}", findings.summary);
    if findings.refused { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

struct Findings {
    problems: Vec<Problem>,
    summary: String,
    refused: bool,
}

fn findings(path: Option<&Path>, host: Option<&Host>) -> Findings {
    let default = Path::new(DEFAULT_PATH);
    let name = match path {
        Some(path) => path.display().to_string(),
        None if default.exists() => DEFAULT_PATH.to_owned(),
        None => format!("no file at {DEFAULT_PATH}, the defaults hold"),
    };
    let problems = match Config::load_or_default(path) {
        Ok((config, mut problems)) => {
            if let Some(host) = host {
                let (errors, warnings) = check_against_host(&config, host);
                problems.extend(errors.into_iter().chain(warnings));
                problems.sort_by_key(Problem::place);
            }
            problems
        }
        Err(errors) => errors.problems().to_vec(),
    };
    let count = |severity| problems.iter().filter(|found| found.severity() == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    let word = if errors == 0 { "good" } else { "refused" };
    let plural = |number| if number == 1 { "" } else { "s" };
    let summary = format!(
        "{name}: {word}, {errors} error{}, {warnings} warning{}",
        plural(errors),
        plural(warnings)
    );
    Findings { problems, summary, refused: errors > 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_alone_are_good_and_an_error_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("evenkeel.toml");
        let subnet = |list: &str| {
            let text = format!("[[subnets.subnet]]\nprefix = \"192.0.2.0/24\"\n{list}\n");
            std::fs::write(&path, text).unwrap();
            findings(Some(&path), None)
        };
        let one_peer = subnet("peers = [\"192.0.2.11\"]");
        assert!(!one_peer.refused);
        assert!(one_peer.summary.ends_with(": good, 0 errors, 1 warning"), "{}", one_peer.summary);
        let nobody = subnet("");
        assert!(nobody.refused);
        assert!(nobody.summary.ends_with(": refused, 1 error, 0 warnings"), "{}", nobody.summary);
    }

    #[test]
    fn a_named_file_that_is_not_there_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let found = findings(Some(&dir.path().join("none.toml")), None);
        assert!(found.refused);
        let text = render_all(&found.problems, false);
        assert!(text.contains("can't read the configuration"), "{text}");
    }
}
