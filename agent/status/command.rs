//! `evenkeel status`: asks the running agent, and shows what it says.

use std::{path::Path, process::ExitCode};

use anyhow::Context;
use clap::{CommandFactory, error::ErrorKind};
use evenkeel_core::text;
use schemars::generate::SchemaSettings;
use serde::{Deserialize, de::DeserializeOwned};

use super::{
    Status,
    check::{Answer, Mapping},
    table::View,
    terminal::{self, Output},
    watch::watch,
};
use crate::{
    cli::{Cli, StatusFormat, StatusOf, StatusOptions},
    control, no_socket,
    peers::{filter::Filter, status::PeersStatus},
};

/// Shows the status.
///
/// # Errors
///
/// A sentence for the person who asked. A check has none: it is told as UNKNOWN.
pub fn status(options: &StatusOptions) -> anyhow::Result<ExitCode> {
    if options.of.is_some() && (options.check || options.all || options.schema) {
        let conflict = "--check, --all and --schema are of the whole status, not of the peers";
        return Ok(usage_error(
            &Cli::command().error(ErrorKind::ArgumentConflict, conflict),
            options.check,
        ));
    }
    if options.schema {
        terminal::print(&schema())?;
        return Ok(ExitCode::SUCCESS);
    }
    if options.check {
        return Ok(check(options).say());
    }
    let socket = options.agent.control_socket().map_err(no_socket)?;
    let output = Output::new(options.color);
    let look = || match &options.of {
        None => look_at_all(&socket, options, output),
        Some(StatusOf::Peers(filter)) => look_at_peers(&socket, options.format, filter, output),
    };
    match options.watch {
        Some(every) => watch(every, options.format, output, look)?,
        None => {
            terminal::print(&output.style(look()?))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A command line that is not understood ends with 2, but a check with 3 and one line: monitoring
/// systems take 2 for CRITICAL.
pub fn usage_error(error: &clap::Error, check: bool) -> ExitCode {
    if check && error.use_stderr() {
        let text = error.to_string();
        let why = text.lines().next().unwrap_or_default();
        return Answer::unknown(why.trim_start_matches("error: ")).say();
    }
    // Nobody is there to be told that nobody is there.
    let _ = error.print();
    ExitCode::from(error.exit_code() as u8)
}

fn look_at_all(socket: &Path, options: &StatusOptions, output: Output) -> anyhow::Result<String> {
    let answer = control::ask(socket, "status")?;
    Ok(match options.format {
        StatusFormat::Json => escaped(&answer),
        StatusFormat::Line => understood::<Status>(&answer, Status::SCHEMA)?.lines(),
        StatusFormat::Table => {
            let view = View { width: output.width(), all: options.all };
            understood::<Status>(&answer, Status::SCHEMA)?.table(view)
        }
    })
}

fn look_at_peers(
    socket: &Path,
    format: StatusFormat,
    filter: &Filter,
    output: Output,
) -> anyhow::Result<String> {
    let question = format!("peers {}", serde_json::to_string(filter)?);
    let answer = control::ask(socket, &question)?;
    Ok(match format {
        StatusFormat::Json => escaped(&answer),
        StatusFormat::Line => understood::<PeersStatus>(&answer, PeersStatus::SCHEMA)?.lines(),
        StatusFormat::Table => {
            let status: PeersStatus = understood(&answer, PeersStatus::SCHEMA)?;
            status.table(filter, output.width())
        }
    })
}

fn check(options: &StatusOptions) -> Answer {
    let mapping =
        Mapping { critical_from: options.critical_from, warning_from: options.warning_from };
    let socket = match options.agent.control_socket() {
        Ok(socket) => socket,
        Err(errors) => {
            return Answer::unknown(&format!("the configuration is refused: {errors}"));
        }
    };
    let status = control::ask(&socket, "status")
        .and_then(|answer| understood::<Status>(&answer, Status::SCHEMA));
    match status {
        Ok(status) => status.check(mapping),
        Err(failed) => Answer::unknown(&format!("{failed:#}")),
    }
}

/// An answer as the document that it is.
pub fn understood<T: DeserializeOwned>(answer: &str, schema: u32) -> anyhow::Result<T> {
    #[derive(Deserialize)]
    struct Form {
        schema: u32,
    }
    let another = "the agent's answer is not understood: use the `evenkeel` of its own version";
    let form: Form = serde_json::from_str(answer).context(another)?;
    anyhow::ensure!(
        form.schema == schema,
        "{another} (it is of form {}, not {schema})",
        form.schema
    );
    serde_json::from_str(answer).context(another)
}

/// JSON whose strings have no characters that would steer a terminal. It says the same: such
/// characters can only stand in strings, and are escaped there.
pub fn escaped(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for character in json.chars() {
        if character == '\n' || text::is_printable(character) {
            out.push(character);
        } else {
            let mut units = [0; 2];
            for unit in character.encode_utf16(&mut units) {
                out += &format!("\\u{unit:04x}");
            }
        }
    }
    out
}

/// The JSON Schema of the status, made from its types.
pub(super) fn schema() -> String {
    let settings = SchemaSettings::draft2020_12().for_serialize();
    let schema = settings.into_generator().into_root_schema_for::<Status>();
    // A schema is plain JSON, whose keys are strings.
    serde_json::to_string_pretty(&schema).unwrap_or_default() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_that_a_terminal_sees_says_the_same() {
        let hostile =
            serde_json::json!({ "text": "\u{9b}2J\u{7f}\u{202e}\u{1b}\n\u{fffd} Zürich" });
        let json = hostile.to_string() + "\n";
        let escaped = escaped(&json);
        assert_eq!(escaped, "{\"text\":\"\\u009b2J\\u007f\\u202e\\u001b\\n\\ufffd Zürich\"}\n");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&escaped).unwrap(), hostile);
    }

    #[test]
    fn an_answer_of_another_form_is_not_guessed_at() {
        for (answer, expected) in [
            ("{\"schema\":2}", "(it is of form 2, not 1)"),
            ("{\"schema\":1}", "not understood: use the `evenkeel` of its own version"),
            ("[]", "not understood"),
        ] {
            let error = understood::<Status>(answer, 1).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
