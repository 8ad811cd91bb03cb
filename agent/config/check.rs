//! `evenkeel check`: reads a configuration as the daemon would, and prints what it finds.

use std::{
    io::{self, IsTerminal, Write},
    path::Path,
    process::ExitCode,
};

use evenkeel_core::input::Host;

use super::{
    Config, DEFAULT_PATH, Problem, Severity, files::check_files, host::check_against_host,
    problem::render_all,
};

/// Checks the file, or the one at [`DEFAULT_PATH`] if none is named, with the files that name peers,
/// and against this host where one is given. Findings go to standard error, with colours if that is a terminal and `NO_COLOR`
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
            }
            problems.extend(check_files(&config));
            problems.sort_by(Problem::order);
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

    // PEER-5, PEER-13.
    #[test]
    fn files_that_name_peers_are_read_too() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("evenkeel.toml");
        let text = "[peers]\nmonitor_max_peers = 2\n[[peers.group]]\nname = \"core\"\n\
                    peers = [\"192.0.2.1\"]\nfiles = [\"core.yml\", \"more-*.json\"]\n";
        std::fs::write(&path, text).unwrap();
        let check = |name: &str, content: &str| {
            std::fs::write(dir.path().join(name), content).unwrap();
            let found = findings(Some(&path), None);
            let text = render_all(&found.problems, false);
            let text = text.replace(&format!("{}/", dir.path().display()), "");
            let headlines = text.lines().filter(|line| line.starts_with("evenkeel.toml:"));
            (headlines.map(str::to_owned).collect::<Vec<_>>(), found.refused)
        };
        let none = "evenkeel.toml:6:22: warning: peers.group.files: more-*.json: there is no such \
                    file now";
        let (found, refused) = check("core.yml", "- targets: [192.0.2.2]\n");
        assert_eq!((found.as_slice(), refused), ([none.to_owned()].as_slice(), false));
        let (found, refused) = check("more-a.json", "[{ \"targets\": [\"192.0.2.3:9100\"] }]");
        let bad = "evenkeel.toml:6:22: peers.group.files: more-a.json:1:31: the target \
                   \"192.0.2.3:9100\": a heartbeat goes to no port; write \"192.0.2.3\"";
        assert_eq!((found.as_slice(), refused), ([bad.to_owned()].as_slice(), true));
        let (found, refused) =
            check("more-a.json", "[{ \"targets\": [\"192.0.2.1\", \"192.0.2.3\"] }]");
        let many = "evenkeel.toml:4:8: warning: peers.group: 1 peer of this group will not be \
                    monitored, as all groups together may have 2 before one of it is admitted (PEER-5)";
        assert_eq!((found.as_slice(), refused), ([many.to_owned()].as_slice(), false));
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
