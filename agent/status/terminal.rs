//! Where the status is printed: how wide that is, whether it takes colours, and who has gone away.

use std::io::{self, IsTerminal, Write};

use anstream::{AutoStream, ColorChoice, adapter::strip_str};
use terminal_size::{Height, Width, terminal_size_of};

use crate::cli::Color;

/// What is no terminal, and does not say how wide it is, is taken to be as wide as most.
const WIDTH: usize = 80;

/// Standard output.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// Styles are shown.
    pub styled: bool,
    /// It is a terminal on which the cursor can be moved.
    pub terminal: bool,
}

impl Output {
    /// Standard output, coloured as was asked for.
    pub fn new(color: Color) -> Output {
        let stdout = io::stdout();
        let styled = match color {
            Color::Auto => AutoStream::choice(&stdout) != ColorChoice::Never,
            Color::Always => true,
            Color::Never => false,
        };
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        Output { styled, terminal: stdout.is_terminal() && !dumb }
    }

    /// So many columns wide: what the terminal says, else what the environment says.
    pub fn width(self) -> usize {
        match terminal_size_of(io::stdout()) {
            Some((Width(width), _)) => width.into(),
            None => {
                let columns = std::env::var("COLUMNS").ok();
                columns.and_then(|columns| columns.parse().ok()).unwrap_or(WIDTH)
            }
        }
    }

    /// So many lines high, if that is known.
    pub fn height(self) -> Option<usize> {
        terminal_size_of(io::stdout()).map(|(_, Height(height))| height.into())
    }

    /// The text with its styles, or without.
    pub fn style(self, text: String) -> String {
        if self.styled { text } else { strip_str(&text).to_string() }
    }
}

/// Prints. Gives whether somebody still reads: one who has seen enough, such as `head`, is no error.
///
/// # Errors
///
/// It can't be written.
pub fn print(text: &str) -> io::Result<bool> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error),
    }
}
