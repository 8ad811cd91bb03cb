//! Lines for a terminal: styled, broken at its width, harmless.
//!
//! Styles are always written; who prints takes them out where they are not wanted
//! ([`terminal`](super::terminal)).

use std::{
    fmt::{self, Write as _},
    time::Duration,
};

use anstyle::{AnsiColor, Style};
use evenkeel_core::{alarm::Severity, text};
use unicode_width::UnicodeWidthChar;

use super::UpDown;

/// Text as it is.
pub const PLAIN: Style = Style::new();
/// What is read second.
pub const DIM: Style = Style::new().dimmed();
/// Titles.
pub const BOLD: Style = Style::new().bold();
/// All is well.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// Not as it should be.
pub const WARN: Style = AnsiColor::Yellow.on_default();
/// Broken.
pub const BAD: Style = AnsiColor::Red.on_default();

/// A column is narrower than this share of the screen; what is wider has a line of its own.
const WIDEST_COLUMN: f64 = 0.55;

/// An item of a list that is not wider than this is not broken.
const UNBROKEN: usize = 32;

/// A space at which no line is broken (U+00A0); it is shown as an ordinary one.
const NO_BREAK: char = '\u{a0}';

/// The style of a severity. The word always stands beside it: not everybody tells colours apart.
pub const fn of_severity(severity: Severity) -> Style {
    match severity {
        Severity::Critical => BAD.bold(),
        Severity::Major => BAD,
        Severity::Minor => WARN,
        Severity::Warning => AnsiColor::Cyan.on_default(),
    }
}

/// The style of what works or does not.
pub const fn of_state(state: UpDown) -> Style {
    match state {
        UpDown::Down => BAD,
        UpDown::Unknown => WARN,
        UpDown::Up => GOOD,
    }
}

/// A character and its style.
type Cell = (char, Style);

/// Styled text without line breaks. What would steer a terminal becomes `?`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text(Vec<Cell>);

impl Text {
    /// A text in one style.
    pub fn new(style: Style, text: impl fmt::Display) -> Text {
        let mut new = Text::default();
        new.push(style, text);
        new
    }

    /// Adds to it.
    pub fn push(&mut self, style: Style, text: impl fmt::Display) {
        let text = text.to_string();
        let harmless = text::harmless(&text);
        self.0.extend(harmless.chars().map(|character| (character, style)));
    }

    /// Adds to it, behind a comma if there is something before it. What is short stays on one line.
    pub fn list(&mut self, style: Style, text: impl fmt::Display) {
        if !self.0.is_empty() {
            self.push(PLAIN, ", ");
        }
        let mut item = Text::new(style, text);
        if item.width() <= UNBROKEN {
            let spaces = item.0.iter_mut().filter(|(character, _)| *character == ' ');
            spaces.for_each(|(character, _)| *character = NO_BREAK);
        }
        self.append(item);
    }

    /// Adds another text to it.
    pub fn append(&mut self, other: Text) {
        self.0.extend(other.0);
    }

    /// The columns that it takes.
    pub fn width(&self) -> usize {
        width(&self.0)
    }
}

impl<T: fmt::Display> From<T> for Text {
    fn from(text: T) -> Text {
        Text::new(PLAIN, text)
    }
}

/// What is shown, line by line.
pub struct Screen {
    out: String,
    width: usize,
}

impl Screen {
    /// An empty one, so many columns wide.
    pub const fn new(width: usize) -> Screen {
        Screen { out: String::new(), width }
    }

    /// What it shows, with styles.
    pub fn finish(self) -> String {
        self.out
    }

    /// Begins a section: an empty line, a title, and what is to be said of all of it.
    pub fn section(&mut self, style: Style, title: &str, note: impl Into<Text>) {
        if !self.out.is_empty() {
            self.out.push('\n');
        }
        let mut line = Text::new(style, title);
        let note = note.into();
        if !note.0.is_empty() {
            line.push(PLAIN, "  ");
            line.append(note);
        }
        self.line(0, line);
    }

    /// Writes text. It goes on two columns further to the right where it is broken.
    pub fn line(&mut self, indent: usize, text: impl Into<Text>) {
        self.row(indent, Text::default(), 0, text, 2);
    }

    /// Writes a row of two columns: what it is of, and, from this column on, what is said of it.
    pub fn pair(
        &mut self,
        indent: usize,
        of: impl Into<Text>,
        column: usize,
        said: impl Into<Text>,
    ) {
        self.row(indent, of.into(), column, said, 0);
    }

    /// Where the second column begins for rows that begin with texts of these widths.
    pub fn column(&self, widths: impl Iterator<Item = usize>) -> usize {
        let widest = (self.width as f64 * WIDEST_COLUMN) as usize;
        widths.filter(|width| width + 2 <= widest).max().map_or(0, |width| width + 2)
    }

    fn row(
        &mut self,
        indent: usize,
        of: Text,
        column: usize,
        said: impl Into<Text>,
        hanging: usize,
    ) {
        let begin = if column == 0 { indent } else { column };
        let mut at = 0;
        if !of.0.is_empty() {
            at = self.broken(0, indent, indent + 2, &of.0);
            if at + 2 > begin {
                self.out.push('\n');
                at = 0;
            }
        }
        let said = said.into();
        self.broken(at, begin, begin + hanging, &said.0);
        self.out.push('\n');
    }

    /// Writes text from column `first` on, when the cursor stands at `at`, and goes on at column
    /// `next` where it is broken. Gives where the cursor stands then.
    fn broken(&mut self, at: usize, first: usize, next: usize, text: &[Cell]) -> usize {
        // However narrow the screen, there is room for a word.
        let room = |indent: usize| self.width.saturating_sub(indent).max(16);
        let mut lines = Vec::new();
        let mut rest = text;
        let mut end = first;
        while !rest.is_empty() {
            let indent = if lines.is_empty() { first } else { next };
            let (line, after) = split(rest, room(indent));
            end = indent + width(line);
            lines.push(line);
            rest = after;
        }
        for (number, line) in lines.into_iter().enumerate() {
            match number {
                0 => self.spaces(first.saturating_sub(at)),
                _ => {
                    self.out.push('\n');
                    self.spaces(next);
                }
            }
            self.styled(line);
        }
        end
    }

    fn spaces(&mut self, count: usize) {
        self.out.extend(std::iter::repeat_n(' ', count));
    }

    fn styled(&mut self, line: &[Cell]) {
        for run in line.chunk_by(|(_, one), (_, other)| one == other) {
            let shown =
                |(character, _): &Cell| if *character == NO_BREAK { ' ' } else { *character };
            let (style, text) = (run[0].1, run.iter().map(shown));
            // Writing to a string can't fail.
            let _ = write!(self.out, "{style}");
            self.out.extend(text);
            let _ = write!(self.out, "{style:#}");
        }
    }
}

fn width(text: &[Cell]) -> usize {
    text.iter().map(|(character, _)| character.width().unwrap_or(0)).sum()
}

/// The first line of a text that has so much room, and the rest: broken at a space, or, where there is
/// none, wherever it must be.
fn split(text: &[Cell], room: usize) -> (&[Cell], &[Cell]) {
    let mut taken = 0;
    let fits = text.iter().position(|(character, _)| {
        taken += character.width().unwrap_or(0);
        taken > room
    });
    let Some(fits) = fits else { return (text, &[]) };
    let is_space = |at: &usize| text[*at].0 == ' ';
    match (1..=fits).rev().find(is_space) {
        Some(space) => (trimmed(&text[..space]), &text[space + 1..]),
        None => text.split_at(fits.max(1)),
    }
}

fn trimmed(mut line: &[Cell]) -> &[Cell] {
    while let [rest @ .., (' ', _)] = line {
        line = rest;
    }
    line
}

/// Writes how long something has lasted by its two greatest units, as in `2h5m` and `12s`.
pub struct Age(pub Duration);

impl Age {
    /// As it stands in a document; what is no duration is none.
    pub fn of_seconds(seconds: f64) -> Age {
        Age(Duration::try_from_secs_f64(seconds.round()).unwrap_or_default())
    }
}

impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
        let text = match (days, hours, minutes) {
            (0, 0, 0) => format!("{seconds}s"),
            (0, 0, minutes) => format!("{minutes}m{}s", seconds % 60),
            (0, hours, minutes) => format!("{hours}h{minutes}m"),
            (days, hours, _) => format!("{days}d{hours}h"),
        };
        f.pad(&text)
    }
}

/// Octets in MiB.
pub fn mib(octets: u64) -> f64 {
    octets as f64 / f64::from(1 << 20)
}

/// `1 subnet`, `2 subnets`.
pub fn count(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(width: usize, write: impl FnOnce(&mut Screen)) -> String {
        let mut screen = Screen::new(width);
        write(&mut screen);
        anstream::adapter::strip_str(&screen.finish()).to_string()
    }

    #[test]
    fn a_long_text_goes_on_below_itself() {
        let text = "no reply from 10.77.0.1 (4 polls in a row, one every 1s)";
        let line = shown(40, |screen| screen.line(2, text));
        assert_eq!(line, "  no reply from 10.77.0.1 (4 polls in a\n    row, one every 1s)\n");
        let pair = shown(40, |screen| screen.pair(2, "eth0", 12, text));
        assert_eq!(
            pair,
            "  eth0      no reply from 10.77.0.1 (4\n            polls in a row, one every\n            1s)\n"
        );
    }

    #[test]
    fn what_is_too_wide_for_its_column_has_a_line_of_its_own() {
        let of = "2001:db8:aaaa:bbbb::1234:5678";
        assert_eq!(
            shown(40, |screen| screen.pair(2, of, 12, "down")),
            "  2001:db8:aaaa:bbbb::1234:5678\n            down\n"
        );
        let column = Screen::new(40).column([of.len(), 9].into_iter());
        assert_eq!(column, 11, "the wide one does not count");
    }

    #[test]
    fn a_word_longer_than_a_line_is_broken_and_none_is_lost() {
        let word = "x".repeat(50);
        let line = shown(24, |screen| screen.line(0, &word));
        assert_eq!(line.lines().map(str::len).collect::<Vec<_>>(), [24, 24, 6]);
        assert_eq!(line.matches('x').count(), 50);
    }

    #[test]
    fn a_short_item_of_a_list_stays_on_one_line() {
        let mut list = Text::default();
        for item in ["7 admitted", "1 unknown", "1 not supported"] {
            list.list(PLAIN, item);
        }
        let line = shown(30, |screen| screen.line(0, list));
        assert_eq!(line, "7 admitted, 1 unknown,\n  1 not supported\n");
    }

    #[test]
    fn wide_characters_count_as_what_they_take() {
        let line = shown(20, |screen| screen.line(0, "東京 大阪 名古屋 横浜 a"));
        assert_eq!(line, "東京 大阪 名古屋\n  横浜 a\n");
    }

    #[test]
    fn what_would_steer_a_terminal_does_not_get_there() {
        let mut screen = Screen::new(80);
        screen.line(0, Text::new(BAD, "a\x1b[2Jb\r\nc\u{9b}1m"));
        assert_eq!(screen.finish(), "\x1b[31ma?[2Jb??c?1m\x1b[0m\n");
    }

    #[test]
    fn ages_are_short() {
        for (seconds, text) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m0s"),
            (3_599, "59m59s"),
            (7_500, "2h5m"),
            (86_400, "1d0h"),
            (10_814_400, "125d4h"),
        ] {
            assert_eq!(Age(Duration::from_secs(seconds)).to_string(), text);
        }
        assert_eq!(format!("{:>5}", Age(Duration::from_secs(7))), "   7s");
    }
}
