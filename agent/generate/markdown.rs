//! A document of ours as part of a man page: its headings become sections, its tables lists, as a terminal
//! is too narrow for them.

use std::path::{Component, Path, PathBuf};

use clap_mangen::roff::{Inline, Roff, bold, italic, roman};
use pulldown_cmark::{Event, HeadingLevel, Options, Parser, Tag, TagEnd};

/// Adds a document that lies in this directory of ours, without its first heading.
pub fn to_man(document: &str, directory: &str, roff: &mut Roff) {
    let mut writer = Writer { roff, directory, line: Vec::new(), state: State::default() };
    for event in Parser::new_ext(document, Options::ENABLE_TABLES) {
        writer.event(event);
    }
}

struct Writer<'a> {
    roff: &'a mut Roff,
    directory: &'a str,
    /// The line, cell or heading that is being read.
    line: Vec<Inline>,
    state: State,
}

/// Where in the document we are.
#[derive(Default)]
struct State {
    strong: bool,
    emphasis: bool,
    /// In a block of code, whose lines stay as they are.
    code: bool,
    /// In the item of a list, and what marks it.
    item: bool,
    /// The heads of the table's columns, once they are known.
    heads: Option<Vec<String>>,
    /// The cells of the row so far.
    cells: Vec<Vec<Inline>>,
    /// Where the link leads, and how much of the line was there before it.
    link: Option<(String, usize)>,
}

impl Writer<'_> {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Start(tag) => self.start(tag),
            Event::End(tag) => self.end(tag),
            Event::Text(text) if self.state.code => self.code(&text),
            Event::Text(text) => self.text(&text),
            Event::Code(text) => self.line.push(bold(text.as_ref())),
            Event::SoftBreak => self.line.push(roman(" ")),
            Event::HardBreak => self.line.push(Inline::LineBreak),
            // Our documents have nothing else, as a test shows.
            other => panic!("{other:?} in a document that becomes a man page"),
        }
    }

    fn start(&mut self, tag: Tag<'_>) {
        match tag {
            Tag::CodeBlock(_) => {
                self.roff.control("PP", []).control("EX", []);
                self.state.code = true;
            }
            Tag::Item => self.state.item = true,
            Tag::Emphasis => self.state.emphasis = true,
            Tag::Strong => self.state.strong = true,
            Tag::Table(_) => self.state.heads = None,
            Tag::Link { dest_url, .. } => {
                self.state.link = Some((dest_url.into_string(), self.line.len()));
            }
            _ => {}
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Heading(level) => self.heading(level),
            TagEnd::Paragraph => self.paragraph(),
            TagEnd::CodeBlock => {
                self.roff.control("EE", []);
                self.state.code = false;
            }
            TagEnd::Item => {
                // An item without paragraphs.
                if !self.line.is_empty() {
                    self.paragraph();
                }
                self.state.item = false;
            }
            TagEnd::Emphasis => self.state.emphasis = false,
            TagEnd::Strong => self.state.strong = false,
            TagEnd::Link => self.link(),
            TagEnd::TableCell => {
                let cell = std::mem::take(&mut self.line);
                self.state.cells.push(cell);
            }
            TagEnd::TableHead => {
                let cells = std::mem::take(&mut self.state.cells);
                self.state.heads = Some(cells.iter().map(|cell| words(cell)).collect());
            }
            TagEnd::TableRow => self.row(),
            _ => {}
        }
    }

    fn heading(&mut self, level: HeadingLevel) {
        let text = words(&std::mem::take(&mut self.line));
        match level {
            // The page has its title already.
            HeadingLevel::H1 => {}
            HeadingLevel::H2 => {
                self.roff.control("SH", [text.to_uppercase().as_str()]);
            }
            _ => {
                self.roff.control("SS", [text.as_str()]);
            }
        }
    }

    fn paragraph(&mut self) {
        match std::mem::take(&mut self.state.item) {
            true => self.roff.control("IP", ["\\(bu", "2"]),
            false => self.roff.control("PP", []),
        };
        let line = std::mem::take(&mut self.line);
        self.roff.text(line);
    }

    /// A row as an entry of a list: its first cell is the tag. Of an option, type and default come first.
    fn row(&mut self) {
        let heads = self.state.heads.as_deref().unwrap_or_default();
        let mut cells = std::mem::take(&mut self.state.cells).into_iter().zip(heads);
        let Some((tag, _)) = cells.next() else { return };
        self.roff.control("TP", []).text(tag);
        let is_option = heads.get(1..3) == Some(&["type".to_owned(), "default".to_owned()]);
        let mut text: Vec<Inline> = Vec::new();
        for (mut cell, head) in cells.filter(|(cell, _)| !cell.is_empty()) {
            if !text.is_empty() {
                text.push(Inline::LineBreak);
            }
            if !is_option || head != "meaning" {
                text.push(italic(format!("{head}: ")));
            }
            text.append(&mut cell);
        }
        self.roff.text(text);
    }

    fn code(&mut self, text: &str) {
        for line in text.lines() {
            self.roff.text([roman(line)]);
        }
    }

    fn text(&mut self, text: &str) {
        let State { strong, emphasis, .. } = self.state;
        self.line.push(match (strong, emphasis) {
            (true, _) => bold(text),
            (false, true) => italic(text),
            (false, false) => roman(text),
        });
    }

    /// Another document is named by its place below the directory of documents.
    fn link(&mut self) {
        let Some((target, before)) = self.state.link.take() else { return };
        let path = target.split('#').next().unwrap_or_default();
        if path.is_empty() || target.contains("://") {
            return;
        }
        let path = joined(self.directory, path);
        let shown = words(&self.line[before..]);
        if shown.ends_with(".md") || shown.contains('/') {
            self.line.truncate(before);
            self.line.push(italic(path));
        } else {
            self.line.extend([roman(" ("), italic(path), roman(")")]);
        }
    }
}

/// A path from a directory, without going up and down.
fn joined(directory: &str, path: &str) -> String {
    let mut joined = PathBuf::from(directory);
    for part in Path::new(path).components() {
        match part {
            Component::ParentDir => {
                joined.pop();
            }
            part => joined.push(part),
        }
    }
    joined.to_string_lossy().into_owned()
}

/// The text alone.
fn words(line: &[Inline]) -> String {
    line.iter()
        .map(|part| match part {
            Inline::Roman(text) | Inline::Bold(text) | Inline::Italic(text) => text.as_str(),
            Inline::LineBreak => " ",
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn man(document: &str) -> String {
        let mut roff = Roff::new();
        to_man(document, "agent/config", &mut roff);
        roff.to_roff()
    }

    #[test]
    fn a_table_becomes_a_list() {
        let table = "| option | type | default | meaning |\n|---|---|---|---|\n\
                     | `a.b` | size | `\"1MiB\"` | how *much* |\n| `a.c` | table | none | |\n";
        assert_eq!(
            man(table),
            ".TP\n\\fBa.b\\fR\n\\fItype: \\fRsize\n.br\n\\fIdefault: \\fR\\fB\"1MiB\"\\fR\n.br\nhow \
             \\fImuch\\fR\n.TP\n\\fBa.c\\fR\n\\fItype: \\fRtable\n.br\n\\fIdefault: \\fRnone\n"
        );
    }

    #[test]
    fn documents_are_named_by_where_they_are_installed() {
        assert_eq!(
            man(
                "# Title\n\n[peers/files.md](../peers/files.md), [who](../status/README.md#who), [see](#x)"
            ),
            ".PP\n\\fIagent/peers/files.md\\fR, who (\\fIagent/status/README.md\\fR), see\n"
        );
    }

    #[test]
    fn code_keeps_its_lines() {
        assert_eq!(
            man("## Use\n\n```toml\n.a = 1\n\n  b = 2\n```\n\n- one\n- two\n"),
            ".SH USE\n.PP\n.EX\n\\&.a = 1\n\n  b = 2\n.EE\n.IP \\(bu 2\none\n.IP \\(bu 2\ntwo\n"
        );
    }
}
