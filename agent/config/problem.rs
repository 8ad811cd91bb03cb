//! What is wrong with a configuration, told to the person who must put it right: one line that can
//! stand alone in a log, the lines of the file with the place marked, and what would do.

use std::{cmp::Ordering, fmt, sync::Arc};

use miette::{
    Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteError,
    MietteSpanContents, SourceCode, SourceSpan, SpanContents,
};

use super::veil::MASK;

/// Lines longer than this are shown in part: a terminal has no more room, and one line of a broken
/// file can be the whole file.
const LONGEST_LINE: usize = 160;

/// A value longer than this is not repeated in the headline; the snippet shows it.
const LONGEST_VALUE: usize = 60;

/// More problems than this are counted, not shown: after a broken quote every line is wrong.
const MOST_SHOWN: usize = 100;

/// A place in the text of a file, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// The first byte.
    pub start: usize,
    /// The byte after the last.
    pub end: usize,
}

impl From<std::ops::Range<usize>> for Span {
    fn from(range: std::ops::Range<usize>) -> Span {
        Span { start: range.start, end: range.end }
    }
}

/// A configuration file's name and text.
#[derive(Debug, Default)]
pub struct Source {
    name: String,
    /// The text with every character that could steer a terminal replaced by a harmless one of the
    /// same length, so that places mean the same in both, and without what is hidden. The text
    /// itself is not kept.
    shown: String,
    /// What is hidden, in order, without overlaps.
    hidden: Vec<Span>,
    /// Where each line starts.
    lines: Vec<usize>,
}

impl Source {
    /// The source of this name and text, of which these parts are never shown.
    pub fn new(name: impl Into<String>, text: &str, hidden: Vec<Span>) -> Source {
        let hidden = without_overlaps(hidden);
        let shown = veiled(text, &hidden);
        let starts = shown.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let lines = std::iter::once(0).chain(starts.map(|(at, _)| at + 1)).collect();
        Source { name: name.into(), shown, hidden, lines }
    }

    /// The name that messages use.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The line (from 0) that holds a byte.
    pub(super) fn line(&self, at: usize) -> usize {
        self.lines.partition_point(|start| *start <= at).saturating_sub(1)
    }

    /// The bytes of a line without its end.
    fn line_bounds(&self, line: usize) -> (usize, usize) {
        let start = self.lines.get(line).copied().unwrap_or(self.shown.len());
        let end = self.lines.get(line + 1).map_or(self.shown.len(), |next| next - 1);
        (start, end)
    }

    /// Line and column as an editor counts them, from 1, columns in characters.
    fn position(&self, at: usize) -> (usize, usize) {
        let at = self.hidden_at(at).map_or(at, |hidden| hidden.start);
        let at = self.boundary(at);
        let line = self.line(at);
        let start = self.line_bounds(line).0;
        (line + 1, self.shown[start..at].chars().count() + 1)
    }

    /// A place as messages name it.
    pub fn place(&self, span: Span) -> String {
        let (row, column) = self.position(span.start);
        format!("{}:{row}:{column}", self.name)
    }

    /// The nearest place at or before this one that is not inside a character.
    fn boundary(&self, at: usize) -> usize {
        let mut at = at.min(self.shown.len());
        while !self.shown.is_char_boundary(at) {
            at -= 1;
        }
        at
    }

    /// The hidden part that holds a byte or ends before it: a place there would tell its length.
    fn hidden_at(&self, at: usize) -> Option<Span> {
        let after = self.hidden.partition_point(|hidden| hidden.end < at);
        self.hidden.get(after).copied().filter(|hidden| hidden.start <= at)
    }

    /// Whether any of this may not be shown, or what stands at an empty place.
    pub fn hides(&self, span: Span) -> bool {
        let after = self.hidden.partition_point(|hidden| hidden.end <= span.start);
        self.hidden.get(after).is_some_and(|hidden| hidden.start < span.end.max(span.start + 1))
    }

    /// The text of a value, if it is short enough to repeat and no secret.
    pub fn excerpt(&self, span: Span) -> Option<&str> {
        if self.hides(span) {
            return None;
        }
        let text = self.shown.get(span.start..span.end)?;
        let short = text.chars().count() <= LONGEST_VALUE && !text.contains('\n');
        (short && !text.is_empty()).then_some(text)
    }

    /// What of a span is marked: its part on its first line, and no more than fits.
    fn marked(&self, span: Span) -> SourceSpan {
        // Of what is hidden, no more is marked than stands for it: not even its length is told.
        let span = match self.hidden_at(span.start) {
            Some(Span { start, end }) => Span { start, end: end.min(start + MASK.len()) },
            None => span,
        };
        let start = self.boundary(span.start);
        let end_of_line = self.line_bounds(self.line(start)).1;
        let end = self.boundary(span.end.min(end_of_line).min(start + LONGEST_LINE / 2));
        (start, end.max(start) - start).into()
    }
}

/// These parts in order, those that meet made one.
fn without_overlaps(mut parts: Vec<Span>) -> Vec<Span> {
    parts.sort();
    let mut apart: Vec<Span> = Vec::with_capacity(parts.len());
    for part in parts {
        match apart.last_mut() {
            Some(last) if part.start <= last.end => last.end = last.end.max(part.end),
            _ => apart.push(part),
        }
    }
    apart
}

/// The text as it may be shown: as many bytes, and lines, as it has.
fn veiled(text: &str, hidden: &[Span]) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut hidden = hidden.iter().peekable();
    for (at, c) in text.char_indices() {
        while hidden.next_if(|part| part.end <= at).is_some() {}
        match hidden.peek() {
            Some(part) if part.start <= at && c != '\n' => {
                // A character can take more than one byte.
                for at in at..at + c.len_utf8() {
                    shown.push(if at < part.start + MASK.len() { '*' } else { ' ' });
                }
            }
            _ => shown.push(harmless(c)),
        }
    }
    shown
}

/// The same character, or one of the same length if it could steer a terminal.
fn harmless(c: char) -> char {
    let steers = c.is_control() && c != '\n' && c != '\t' && c != '\r';
    let bidi =
        matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    match c.len_utf8() {
        1 if steers => '?',
        2 if steers => '\u{b7}',
        3 if bidi => '\u{fffd}',
        _ => c,
    }
}

impl SourceCode for Source {
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        before: usize,
        after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let (start, end) = (span.offset(), span.offset() + span.len());
        if end > self.shown.len() {
            return Err(MietteError::OutOfBounds);
        }
        let first = self.line(start).saturating_sub(before);
        let last = (self.line(end) + after).min(self.lines.len() - 1);
        let too_long = (first..=last).any(|line| {
            let (start, end) = self.line_bounds(line);
            end - start > LONGEST_LINE
        });
        let (from, to, first) = if too_long {
            let (line_start, _) = self.line_bounds(self.line(start));
            let (_, line_end) = self.line_bounds(self.line(end));
            let from = self.boundary(start.saturating_sub(LONGEST_LINE / 4).max(line_start));
            let to = self.boundary((end + LONGEST_LINE / 4).min(line_end));
            (from, to, self.line(start))
        } else {
            (self.line_bounds(first).0, self.line_bounds(last).1, first)
        };
        let data = &self.shown.as_bytes()[from..to];
        let count = data.iter().filter(|byte| **byte == b'\n').count() + 1;
        let range = (from, to - from).into();
        Ok(Box::new(MietteSpanContents::new(data, range, first, 0, count)))
    }
}

/// How much a problem matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The file is refused.
    Error,
    /// The file is taken, but may not do what was meant.
    Warning,
}

/// One thing that is wrong, and where.
#[derive(Clone, Debug)]
pub struct Problem {
    severity: Severity,
    source: Arc<Source>,
    span: Option<Span>,
    /// The key, with its value where that can be repeated.
    subject: String,
    message: String,
    also: Option<(Span, String)>,
    help: Option<String>,
}

impl Problem {
    /// An error at a place of a file, or about the file as a whole.
    pub fn error(source: &Arc<Source>, span: Option<Span>, message: impl Into<String>) -> Problem {
        Problem {
            severity: Severity::Error,
            source: Arc::clone(source),
            span,
            subject: String::new(),
            message: message.into(),
            also: None,
            help: None,
        }
    }

    /// The same as a warning.
    pub fn into_warning(mut self) -> Problem {
        self.severity = Severity::Warning;
        self
    }

    /// The same about this key, or key and value.
    pub fn about(mut self, subject: impl Into<String>) -> Problem {
        self.subject = subject.into();
        self
    }

    /// The same with what would be right.
    pub fn with_help(mut self, help: impl Into<String>) -> Problem {
        self.help = Some(help.into());
        self
    }

    /// The same with a second place that belongs to it.
    pub fn with_also(mut self, span: Span, label: impl Into<String>) -> Problem {
        self.also = Some((span, label.into()));
        self
    }

    /// Whether the file is refused for it.
    pub fn severity(&self) -> Severity {
        self.severity
    }

    /// Where it stands in the file.
    pub(super) fn place(&self) -> usize {
        self.span.map_or(0, |span| span.start)
    }

    /// Which of two comes first in a report: those of one file together, in the order of the file.
    pub(super) fn order(&self, other: &Problem) -> Ordering {
        let key = |problem: &Problem| (problem.source.name.clone(), problem.place());
        key(self).cmp(&key(other))
    }

    /// The problem in one line, fit for a log: `file:line:column: key = value: message`. The value
    /// of a secret is not in it.
    pub fn headline(&self) -> String {
        let mut line = match self.span {
            Some(span) => self.source.place(span),
            None => self.source.name().to_owned(),
        };
        if self.severity == Severity::Warning {
            line.push_str(": warning");
        }
        if !self.subject.is_empty() {
            line.push_str(": ");
            line.push_str(&self.subject);
        }
        line.push_str(": ");
        line.push_str(&self.message);
        line
    }

    /// The problem in full: the headline, the lines of the file, and the help; with colours for a
    /// terminal if asked.
    pub fn render(&self, color: bool) -> String {
        let headline = self.headline();
        let mut text = match (color, self.severity) {
            (false, _) => headline,
            (true, Severity::Error) => format!("\x1b[1;31m{headline}\x1b[0m"),
            (true, Severity::Warning) => format!("\x1b[1;33m{headline}\x1b[0m"),
        };
        text.push('\n');
        text.push_str(&self.snippet(color));
        text
    }

    /// The lines of the file with the place marked, and the help.
    fn snippet(&self, color: bool) -> String {
        let theme =
            if color { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
        // Wide enough that only a long help is wrapped.
        let handler = GraphicalReportHandler::new_themed(theme)
            .with_width(100)
            .without_primary_span_start()
            .without_syntax_highlighting()
            .with_context_lines(1);
        let mut text = String::new();
        let rendered = handler.render_report(&mut text, &Snippet(self));
        // The first line is miette's place for the message, which the headline has already told.
        match (rendered, text.split_once('\n')) {
            // What is hidden leaves spaces, which would tell how long it was.
            (Ok(()), Some((_, rest))) => {
                rest.lines().map(|line| format!("{}\n", line.trim_end())).collect()
            }
            _ => self.help.iter().map(|help| format!("  help: {help}\n")).collect(),
        }
    }
}

/// A problem as miette sees it, without the message.
#[derive(Debug)]
struct Snippet<'p>(&'p Problem);

impl fmt::Display for Snippet<'_> {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ok(())
    }
}

impl std::error::Error for Snippet<'_> {}

impl Diagnostic for Snippet<'_> {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.0.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&*self.0.source)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let problem = self.0;
        let here = problem.span?;
        let label = |text: Option<String>, span| {
            LabeledSpan::new_with_span(text, problem.source.marked(span))
        };
        let here = label(problem.also.is_some().then(|| "here".to_owned()), here);
        let also = problem.also.as_ref().map(|(span, text)| label(Some(text.clone()), *span));
        Some(Box::new(std::iter::once(here).chain(also)))
    }
}

/// Why a configuration was refused: every error of the file at once, and the warnings that came
/// with them, in the order of the file. Never empty of errors.
#[derive(Clone, Debug)]
pub struct ConfigErrors {
    problems: Vec<Problem>,
}

impl ConfigErrors {
    /// The errors of these problems, put in the order of the file.
    pub(super) fn new(mut problems: Vec<Problem>) -> ConfigErrors {
        problems.sort_by(Problem::order);
        ConfigErrors { problems }
    }

    /// The problems, errors and warnings, in the order of the file.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// All of them in full, with colours for a terminal if asked.
    pub fn render(&self, color: bool) -> String {
        render_all(&self.problems, color)
    }
}

/// These problems in full, one after the other, and how many more there are.
pub fn render_all(problems: &[Problem], color: bool) -> String {
    let shown: Vec<String> =
        problems.iter().take(MOST_SHOWN).map(|problem| problem.render(color)).collect();
    let mut text = shown.join("\n");
    if problems.len() > MOST_SHOWN {
        text.push_str(&format!("\n... and {} more\n", problems.len() - MOST_SHOWN));
    }
    text
}

impl fmt::Display for ConfigErrors {
    /// The headlines, a line each: what a log should hold.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, problem) in self.problems.iter().take(MOST_SHOWN).enumerate() {
            let separator = if nth == 0 { "" } else { "\n" };
            write!(f, "{separator}{}", problem.headline())?;
        }
        if self.problems.len() > MOST_SHOWN {
            write!(f, "\n... and {} more", self.problems.len() - MOST_SHOWN)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
