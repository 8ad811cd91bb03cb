//! The boards as they are committed: what each panel, variable and annotation asks.

use std::fs;

use serde_json::Value;

use crate::common::repository;

use super::life::Span;

/// One board.
pub struct Board {
    /// The file that it is in.
    pub file: String,
    /// What it asks.
    pub queries: Vec<Query>,
}

/// How something is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Over a span of time.
    Range,
    /// At one moment.
    Instant,
    /// The values of a label.
    Values,
}

/// One query.
pub struct Query {
    /// The title of the panel, or what else asks.
    pub panel: String,
    /// Which one of the panel's.
    pub letter: String,
    /// How it is asked.
    pub kind: Kind,
    text: String,
    legend: String,
}

impl Board {
    /// Every board of `dashboards/`.
    pub fn all() -> Vec<Board> {
        let mut boards = Vec::new();
        for entry in fs::read_dir(repository("dashboards")).expect("a directory") {
            let path = entry.expect("readable").path();
            if path.extension().is_some_and(|extension| extension == "json") {
                let file = path.file_name().expect("a name").to_str().expect("text").to_owned();
                let text = fs::read_to_string(&path).expect("readable");
                let board: Value = serde_json::from_str(&text).expect("JSON");
                boards.push(Board { file, queries: queries(&board) });
            }
        }
        boards.sort_by(|one, other| one.file.cmp(&other.file));
        assert_eq!(boards.len(), 4, "the boards that README.md names");
        boards
    }
}

fn queries(board: &Value) -> Vec<Query> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut all = Vec::new();
    for panel in list(&board["panels"]) {
        for target in list(&panel["targets"]) {
            all.push(Query {
                panel: text(&panel["title"]),
                letter: text(&target["refId"]),
                kind: if target["instant"] == true { Kind::Instant } else { Kind::Range },
                text: text(&target["expr"]),
                legend: text(&target["legendFormat"]),
            });
        }
    }
    for variable in list(&board["templating"]["list"]) {
        if variable["type"] == "query" {
            all.push(Query {
                panel: "a variable".to_owned(),
                letter: text(&variable["name"]),
                kind: Kind::Values,
                text: text(&variable["query"]["query"]),
                legend: String::new(),
            });
        }
    }
    for annotation in list(&board["annotations"]["list"]) {
        all.push(Query {
            panel: "an annotation".to_owned(),
            letter: text(&annotation["name"]),
            kind: Kind::Range,
            text: text(&annotation["expr"]),
            legend: text(&annotation["titleFormat"]),
        });
    }
    assert!(all.len() > 10, "a board with hardly a query");
    all
}

impl Query {
    /// The query with all variables filled in, as Grafana does where all of everything is chosen.
    pub fn filled(&self, (from, to): Span) -> String {
        let range = format!("{}s", (to - from).ceil());
        let text = self
            .text
            .replace("$__rate_interval", "5s")
            .replace("$__range", &range)
            .replace("$worst", "20")
            .replace("$quiet", "3")
            // The marks' own interval is that of the boards, which the agent's life is shorter than.
            .replace("[1m]", "[5s]");
        let text = ["job", "instance", "group", "target"]
            .iter()
            .fold(text, |text, name| text.replace(&format!("${name}\""), ".+\""));
        assert!(!text.contains('$'), "a variable that is not known: {text}");
        text
    }

    /// The labels that its legend names.
    pub fn labels(&self) -> impl Iterator<Item = &str> {
        self.legend.split("{{").skip(1).filter_map(|rest| rest.split("}}").next())
    }
}
