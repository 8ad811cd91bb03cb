//! `--watch`: the same again and again, in place at a terminal, one after the other elsewhere, over
//! restarts of the agent.

use std::{thread, time::Duration};

use jiff::Timestamp;

use super::{
    screen::{BAD, DIM, Screen, Text},
    terminal::{self, Output},
};
use crate::cli::StatusFormat;

/// Moves the cursor to the upper left corner (ECMA-48, CUP).
const HOME: &str = "\x1b[H";
/// Erases the rest of the line (EL).
const ERASE_LINE: &str = "\x1b[K";
/// Erases the rest of the screen (ED).
const ERASE_BELOW: &str = "\x1b[J";

/// Shows what `look` gives, every so often, until nobody reads any more or the process is interrupted.
///
/// # Errors
///
/// It can't be written. That `look` fails is shown, and tried again.
pub fn watch(
    every: Duration,
    format: StatusFormat,
    output: Output,
    look: impl Fn() -> anyhow::Result<String>,
) -> anyhow::Result<()> {
    loop {
        let looked = look();
        let text = match format {
            // A stream of documents: what is no document does not belong there.
            StatusFormat::Json => looked.unwrap_or_else(|failed| {
                eprintln!("evenkeel: {failed:#}");
                String::new()
            }),
            StatusFormat::Table if output.terminal => {
                let (width, height) = (output.width(), output.height().unwrap_or(usize::MAX));
                let mut screen = Screen::new(width);
                screen.line(0, Text::new(DIM, format_args!("{}, every {every:?}", now())));
                let text = looked.unwrap_or_else(|failed| failure(&failed, width));
                frame(&output.style(screen.finish() + &text), height)
            }
            StatusFormat::Table | StatusFormat::Line => {
                let text = looked.unwrap_or_else(|failed| failure(&failed, output.width()));
                format!("--- {}\n{}", now(), output.style(text))
            }
        };
        if !terminal::print(&text)? {
            return Ok(());
        }
        thread::sleep(every);
    }
}

/// To the second, in UTC.
fn now() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// What is shown in the place of the status: `the agent does not answer: ...`.
fn failure(failed: &anyhow::Error, width: usize) -> String {
    let mut screen = Screen::new(width);
    let mut line = Text::new(BAD.bold(), "The agent does not answer: ");
    line.append(Text::from(format_args!("{failed:#}")));
    screen.line(0, line);
    screen.finish()
}

/// The text in the place of what was there before, as much of it as there is room for.
fn frame(text: &str, height: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    // The last line is the cursor's.
    let room = height.saturating_sub(1).max(1);
    let (shown, more) = match lines.len() {
        all if all <= room => (all, 0),
        all => (room - 1, all - (room - 1)),
    };
    let mut out = HOME.to_owned();
    for line in &lines[..shown] {
        out += line;
        out += ERASE_LINE;
        out.push('\n');
    }
    if more > 0 {
        out += &format!("... {more} more lines: make the window taller{ERASE_LINE}\n");
    }
    out + ERASE_BELOW
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_takes_the_place_of_the_one_before() {
        assert_eq!(frame("one\ntwo\n", 24), "\x1b[Hone\x1b[K\ntwo\x1b[K\n\x1b[J");
    }

    #[test]
    fn what_does_not_fit_is_counted_so_that_nothing_scrolls() {
        let text: String = (1..=24).map(|line| format!("{line}\n")).collect();
        assert_eq!(frame(&text, 25).matches('\n').count(), 24);
        let cut = frame(&text, 24);
        assert_eq!(cut.matches('\n').count(), 23);
        assert!(
            cut.contains("\n22\x1b[K\n... 2 more lines: make the window taller\x1b[K\n\x1b[J"),
            "{cut}"
        );
        assert_eq!(frame(&text, 1).matches('\n').count(), 1);
    }

    #[test]
    fn an_agent_that_does_not_answer_is_said_to_be_so() {
        let text = failure(&anyhow::anyhow!("no\x1b agent"), 80);
        assert_eq!(
            anstream::adapter::strip_str(&text).to_string(),
            "The agent does not answer: no? agent\n"
        );
    }
}
