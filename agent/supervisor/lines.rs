//! The last lines of the log, for a report of what came before a stall or a panic.

use std::{
    collections::VecDeque,
    io::{self, Write},
    sync::Mutex,
};

use tracing_subscriber::fmt::MakeWriter;

/// How many lines are kept.
const KEPT: usize = 200;

/// A line is cut to so many octets.
const LONGEST: usize = 1_024;

static LINES: Mutex<VecDeque<String>> = Mutex::new(VecDeque::new());

/// Where a layer of the log writes to, to have its last lines kept.
#[derive(Clone, Copy, Debug)]
pub struct Keeper;

impl<'a> MakeWriter<'a> for Keeper {
    type Writer = Keeper;

    fn make_writer(&'a self) -> Keeper {
        Keeper
    }
}

impl Write for Keeper {
    /// Takes one line, as the layer writes each at once.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let kept = &line[..line.len().min(LONGEST)];
        let kept = String::from_utf8_lossy(kept).trim_end().to_owned();
        // Who holds it panicked, or is stopped amidst: a line less.
        if let Ok(mut lines) = LINES.try_lock() {
            if lines.len() == KEPT {
                lines.pop_front();
            }
            lines.push_back(kept);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The lines that are kept, oldest first.
pub fn last() -> Vec<String> {
    // Whoever asks has a part that stalled, or a panic, and must not wait for either.
    LINES.try_lock().map(|lines| lines.iter().cloned().collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept_and_long_ones_cut() {
        for number in 0..KEPT + 5 {
            // The layer formats a line and writes it at once.
            Keeper.write_all(format!("line {number}\n").as_bytes()).unwrap();
        }
        let long = "x".repeat(5_000);
        Keeper.write_all(long.as_bytes()).unwrap();
        let lines = last();
        assert_eq!(lines.len(), KEPT);
        assert!(lines.contains(&format!("line {}", KEPT + 4)) && !lines.contains(&"line 4".into()));
        assert!(lines.contains(&"x".repeat(LONGEST)));
    }
}
