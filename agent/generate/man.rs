//! Man pages: one for each command, made from the definition of the command line, and `evenkeel.toml(5)`, made
//! from the reference of the configuration.

use clap::{Command, CommandFactory};
use clap_mangen::{
    Man,
    roff::{Inline, Roff, bold, roman},
};

use super::markdown;
use crate::cli::Cli;

/// The reference, which is where the options are described.
const REFERENCE: &str = include_str!("../config/README.md");
/// Where packages put the documents that it names, and what its own place is among them.
const DOCUMENTS: &str = "/usr/share/doc/evenkeel";
const REFERENCE_DIRECTORY: &str = "agent/config";

/// What man(1) prints at the foot and at the head of each page.
const SOURCE: &str = concat!("evenkeel ", env!("CARGO_PKG_VERSION"));
const MANUAL: &str = "evenkeel manual";

/// Daemons and tools of administrators.
const COMMANDS: &str = "8";
/// Forms of files.
const FILES: &str = "5";

/// A page.
#[derive(Debug)]
pub struct Page {
    /// What it is about.
    pub title: String,
    /// The section of the manual.
    pub section: &'static str,
    /// The page in the language of man(7).
    pub text: String,
}

impl Page {
    /// The name of its file.
    pub fn name(&self) -> String {
        format!("{}.{}", self.title, self.section)
    }
}

/// Every page, each with this date.
pub fn pages(date: &str) -> Vec<Page> {
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    let mut pages = Vec::new();
    add(&command, date, &mut pages);
    pages.push(configuration(date));
    pages
}

/// Adds the page of a command and those of its own commands.
fn add(command: &Command, date: &str, pages: &mut Vec<Page>) {
    pages.push(page(command, date));
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        add(below, date, pages);
    }
}

fn page(command: &Command, date: &str) -> Page {
    let title = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
    let is_overview = title == "evenkeel";
    // Examples have lines of their own, which what clap_mangen makes of them has not.
    let examples = command.get_after_help().map(ToString::to_string);
    let man = Man::new(command.clone())
        .title(title.to_uppercase())
        .section(COMMANDS)
        .date(date)
        .source(SOURCE)
        .manual(MANUAL);
    let mut out = Vec::new();
    let parts = [
        Man::render_title,
        Man::render_name_section,
        Man::render_synopsis_section,
        Man::render_description_section,
    ];
    let options = command.get_arguments().any(|option| !option.is_hide_set());
    let commands = command.get_subcommands().any(|below| !below.is_hide_set());
    let more = [
        (Man::render_options_section as fn(&Man, &mut dyn std::io::Write) -> _, options),
        (Man::render_subcommands_section, commands),
    ];
    let asked = more.into_iter().filter(|(_, there)| *there).map(|(part, _)| part);
    for part in parts.into_iter().chain(asked) {
        part(&man, &mut out).expect("memory can be written to");
    }
    let mut roff = Roff::new();
    if let Some(examples) = examples {
        roff.control("SH", ["EXAMPLES"]).control("EX", []);
        for line in examples.lines().filter(|line| *line != "Examples:") {
            // The help is indented, and has what it says of a long line on the next one.
            roff.text([roman(line.strip_prefix("  ").unwrap_or(line))]);
        }
        roff.control("EE", []);
    }
    if is_overview {
        surroundings(&mut roff);
    }
    see_also(&mut roff, command, is_overview);
    // Each part defines how an apostrophe is written, which does no harm.
    let text = String::from_utf8(out).expect("of text") + &roff.render();
    Page { title, section: COMMANDS, text: tidy(&text) }
}

/// What the definition of the command line does not know.
fn surroundings(roff: &mut Roff) {
    let list = |roff: &mut Roff, heading: &str, entries: &[(&str, &str)]| {
        roff.control("SH", [heading]);
        for (name, meaning) in entries {
            roff.control("TP", []).text([bold(*name)]).text([roman(*meaning)]);
        }
    };
    list(
        roff,
        "SIGNALS",
        &[
            (
                "SIGHUP",
                "The configuration is read again. A bad one is refused, and the one before stays in \
                 force.",
            ),
            (
                "SIGTERM, SIGINT",
                "The agent stops in an orderly way: all that waits is written first.",
            ),
        ],
    );
    list(
        roff,
        "ENVIRONMENT",
        &[
            (
                "RUST_LOG",
                "How much is logged to standard error: error, warn, info, debug or trace.",
            ),
            ("STATE_DIRECTORY", "Where state is kept, unless the configuration names a directory."),
            (
                "CREDENTIALS_DIRECTORY",
                "Where the secrets are that the configuration names as credentials of systemd.",
            ),
            ("NO_COLOR", "If it is set, nothing is coloured unless --color says so."),
            (
                "NOTIFY_SOCKET, WATCHDOG_USEC",
                "How systemd is told that the agent is ready and alive.",
            ),
        ],
    );
    list(
        roff,
        "FILES",
        &[
            ("/etc/evenkeel/evenkeel.toml", "The configuration: evenkeel.toml(5)."),
            (
                "/var/lib/evenkeel",
                "State: the journal of alarms, what the rules remember, and what waits for an NMS. \
                 The control socket is there, too.",
            ),
            (
                "/usr/share/snmp/mibs/EVENKEEL-MIB.txt",
                "What an NMS needs to read the notifications.",
            ),
            ("/usr/share/evenkeel", "Dashboards and alert rules."),
            (DOCUMENTS, "The manual, of which this page is an extract."),
        ],
    );
}

fn see_also(roff: &mut Roff, command: &Command, is_overview: bool) {
    let mut pages: Vec<String> = Vec::new();
    if !is_overview {
        pages.push("evenkeel(8)".to_owned());
    }
    pages.push("evenkeel.toml(5)".to_owned());
    if is_overview {
        let below = command.get_subcommands().filter_map(|below| below.get_display_name());
        pages.extend(below.map(|name| format!("{name}(8)")));
        pages.extend(["snmptrapd(8)".to_owned(), "systemd.exec(5)".to_owned()]);
    }
    roff.control("SH", ["SEE ALSO"]).text([roman(pages.join(", "))]);
}

/// `evenkeel.toml(5)`.
fn configuration(date: &str) -> Page {
    let mut roff = Roff::new();
    roff.control("TH", ["EVENKEEL.TOML", FILES, date, SOURCE, MANUAL]);
    roff.control("SH", ["NAME"]);
    roff.text([roman("evenkeel.toml - configuration of the network monitoring agent evenkeel")]);
    roff.control("SH", ["SYNOPSIS"]).text([bold("/etc/evenkeel/evenkeel.toml")]);
    roff.control("SH", ["DESCRIPTION"]);
    markdown::to_man(REFERENCE, REFERENCE_DIRECTORY, &mut roff);
    roff.control("SH", ["FILES"]);
    roff.control("TP", []).text([bold("/etc/evenkeel/evenkeel.toml")]);
    roff.text([roman("As it is installed, it has every option with its default, commented out.")]);
    roff.control("TP", []).text([bold(DOCUMENTS)]);
    roff.text([roman("What is named here with the ending .md is below this directory.")]);
    let see: [Inline; 1] = [roman("evenkeel(8), evenkeel-check(8), systemd.exec(5)")];
    roff.control("SH", ["SEE ALSO"]).text(see);
    Page { title: "evenkeel.toml".to_owned(), section: FILES, text: tidy(&roff.render()) }
}

/// Takes away what clap_mangen and roff leave that mandoc(1) complains of: blank lines, blanks at the ends of
/// lines, and breaks and paragraphs where there is one anyway.
fn tidy(text: &str) -> String {
    let mut lines: Vec<&str> = Vec::new();
    for line in text.lines() {
        let line = match line.trim_end() {
            "" => ".sp",
            line => line,
        };
        let before = lines.last().copied().unwrap_or_default();
        let after_heading = before.starts_with(".SH") || before.starts_with(".SS");
        match (before, line) {
            (".sp" | ".br", ".br") | (".sp", ".sp") => continue,
            (_, ".PP" | ".sp") if after_heading => continue,
            (".br", ".sp") => {
                lines.pop();
            }
            _ => {}
        }
        lines.push(line);
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Page> {
        pages("2026-01-31")
    }

    /// The page as a reader sees it, but for the macros.
    fn plain(text: &str) -> String {
        let mut plain = text.to_owned();
        for (roff, read) in
            [("\\fB", ""), ("\\fI", ""), ("\\fR", ""), ("\\&", ""), ("\\-", "-"), ("\\*(Aq", "'")]
        {
            plain = plain.replace(roff, read);
        }
        plain
    }

    #[test]
    fn each_option_of_each_command_is_in_its_page() {
        let pages = all();
        let mut command = Cli::command().disable_help_subcommand(true);
        command.build();
        let mut commands = vec![&command];
        let mut options = 0;
        while let Some(command) = commands.pop() {
            let name = command.get_display_name().unwrap_or("evenkeel");
            let page = pages.iter().find(|page| page.title == name).expect("a page of each");
            let text = plain(&page.text);
            for option in command.get_arguments() {
                options += 1;
                let written = match option.get_long() {
                    Some(long) => format!("--{long}"),
                    None => format!("<{}>", option.get_value_names().unwrap()[0]),
                };
                assert!(text.contains(&written), "{name} lacks {written}:\n{text}");
            }
            commands.extend(command.get_subcommands());
        }
        assert!(options > 50, "only {options}");
    }

    #[test]
    fn each_option_of_the_configuration_is_in_its_page_with_its_default() {
        let pages = all();
        let page = pages.iter().find(|page| page.name() == "evenkeel.toml.5").expect("a page");
        let text = plain(&page.text);
        let mut options = 0;
        for row in REFERENCE.lines().filter(|line| line.starts_with("| `")) {
            let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
            let [names, _, default, _] = cells[..] else { continue };
            options += 1;
            let tag = names.replace('`', "");
            let after = text.split_once(&format!(".TP\n{tag}\n"));
            let (_, after) = after.unwrap_or_else(|| panic!("no entry for {tag} in\n{text}"));
            let entry = after.split(".TP\n").next().unwrap();
            let said = default.replace(['`', '\\'], "");
            assert!(entry.replace('\n', " ").contains(&said), "{tag}: {said} is not in {entry}");
        }
        assert!(options > 90, "only {options}");
    }

    #[test]
    fn what_has_lines_of_its_own_keeps_them() {
        let pages = all();
        let overview = pages.iter().find(|page| page.name() == "evenkeel.8").expect("a page");
        assert!(overview.text.contains(".SH EXAMPLES\n.EX\n"), "{}", overview.text);
        assert!(plain(&overview.text).contains("\nevenkeel check --config my.toml   what"));
    }
}
