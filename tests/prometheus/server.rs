//! Prometheus, with the rules of `dashboards/` in shortened time.

use std::{collections::BTreeMap, fs, process::Stdio, time::Duration};

use serde_json::Value;
use tempfile::TempDir;

use crate::common::{Guard, Ns, repository, wait_until};

use super::life::{Moment, Span};

/// How many times shorter everything is than it would be for an operator: an hour is two minutes.
const SHORTER: u64 = 30;

/// How much later than its cause an alert may be seen, in seconds: one until the scrape, one until the rule
/// is evaluated, one until the next point of a query; the rest is for a machine that is busy with other
/// tests.
pub const SLACK: f64 = 5.0;

/// Where it listens, in the namespace of the agent.
const LISTEN: &str = "127.0.0.1:9090";

/// A running Prometheus.
pub struct Server<'a> {
    ns: &'a Ns,
    _directory: TempDir,
    _process: Guard,
}

/// One series of an answer.
pub struct Series {
    /// Its labels; of a variable's values the one label.
    pub labels: BTreeMap<String, String>,
    /// Moments and values, as they came.
    pub values: Value,
}

impl Series {
    /// As Prometheus gives it for a range.
    pub fn json(&self) -> Value {
        serde_json::json!({ "metric": self.labels, "values": self.values })
    }
}

impl<'a> Server<'a> {
    /// Starts one that scrapes the agent of this namespace once a second, and those of a pair.
    pub fn start(ns: &'a Ns) -> Server<'a> {
        let directory = TempDir::with_prefix("ek-prometheus-").expect("a temporary directory");
        for rules in ["alerts.yml", "recording.yml"] {
            let text = fs::read_to_string(repository("dashboards").join(rules)).expect("a file");
            fs::write(directory.path().join(rules), shortened(&text)).expect("a file");
        }
        let text = fs::read_to_string(repository("dashboards/prometheus.yml")).expect("a file");
        // No Alertmanager is there to be told.
        let begin = text.find("alerting:").expect("it names Alertmanager");
        let end = text.find("scrape_configs:").expect("it scrapes");
        let text = text.replace(&text[begin..end], "").replace("interval: 15s", "interval: 1s");
        // The pair that it shows how to scrape.
        let text = text.replace("# - targets", "- targets").replace("#   labels", "  labels");
        let text = [1, 2].iter().fold(text, |text, last| {
            let (shown, ours) = (format!("10.0.0.{last}:"), format!("10.2.0.{last}:"));
            assert!(text.contains(&shown), "{text}");
            text.replace(&shown, &ours)
        });
        let file = directory.path().join("prometheus.yml");
        fs::write(&file, text).expect("a writable temporary directory");

        let mut command = ns.command("prometheus");
        command.arg(format!("--config.file={}", file.display()));
        command.arg(format!("--storage.tsdb.path={}", directory.path().join("data").display()));
        command.arg(format!("--web.listen-address={LISTEN}"));
        let process = Guard::spawn(command.stdout(Stdio::null()).stderr(Stdio::null()));
        let server = Server { ns, _directory: directory, _process: process };
        wait_until("Prometheus to scrape the agent", Duration::from_secs(30), || {
            let answer = server.get("/api/v1/query?query=up==1");
            answer.is_some_and(|answer| answer["data"]["result"][0].is_object())
        });
        server
    }

    /// What a query gives over a span, once a second.
    pub fn range(&self, query: &str, (from, to): Span) -> Vec<Series> {
        let query = encoded(query);
        self.series(
            &format!("/api/v1/query_range?query={query}&start={from}&end={to}&step=1"),
            "values",
        )
    }

    /// What a query gives at one moment.
    pub fn instant(&self, query: &str, at: Moment) -> Vec<Series> {
        self.series(&format!("/api/v1/query?query={}&time={at}", encoded(query)), "value")
    }

    /// The values of a variable, as Grafana asks for them: `label_values(SELECTOR, LABEL)`.
    pub fn values(&self, query: &str, (from, to): Span) -> Vec<Series> {
        let inside = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')'));
        let (selector, label) =
            inside.and_then(|rest| rest.rsplit_once(',')).expect("values of a label");
        let (selector, label) = (encoded(selector), label.trim());
        let path = format!("/api/v1/label/{label}/values?match[]={selector}&start={from}&end={to}");
        let answer = self.must(&path);
        let values = answer["data"].as_array().expect("a list").iter();
        let series = values.map(|value| Series {
            labels: BTreeMap::from([(label.to_owned(), value.as_str().expect("text").to_owned())]),
            values: Value::Null,
        });
        series.collect()
    }

    /// When a selector had series: the first and the last moment.
    pub fn seen(&self, selector: &str, span: Span) -> Option<(Moment, Moment)> {
        let all = self.range(selector, span);
        let moments = || {
            all.iter().flat_map(|series| {
                let values = series.values.as_array().expect("a list").iter();
                values.map(|value| value[0].as_f64().expect("a time"))
            })
        };
        Some((moments().min_by(f64::total_cmp)?, moments().max_by(f64::total_cmp)?))
    }

    /// All rules, as they were evaluated last.
    pub fn rules(&self) -> Vec<Value> {
        let answer = self.must("/api/v1/rules");
        let groups = answer["data"]["groups"].as_array().expect("a list").iter();
        groups.flat_map(|group| group["rules"].as_array().expect("a list").clone()).collect()
    }

    fn series(&self, path: &str, values: &str) -> Vec<Series> {
        let answer = self.must(path);
        let result = answer["data"]["result"].as_array().expect("a list").iter();
        let series = result.map(|series| {
            let labels = series["metric"].as_object().expect("labels").iter();
            let labels = labels
                .map(|(name, value)| (name.clone(), value.as_str().expect("text").to_owned()));
            Series { labels: labels.collect(), values: series[values].clone() }
        });
        series.collect()
    }

    /// An answer that is no error.
    fn must(&self, path: &str) -> Value {
        let answer = self.get(path).unwrap_or_else(|| panic!("no answer to {path}"));
        assert_eq!(answer["status"], "success", "{path}: {answer}");
        answer
    }

    fn get(&self, path: &str) -> Option<Value> {
        let (_, body) = self.ns.get(LISTEN, path)?;
        serde_json::from_str(&body).ok()
    }
}

/// Rules with every duration in them shortened, to full seconds.
fn shortened(rules: &str) -> String {
    let mut text = String::new();
    for line in rules.lines() {
        let mut line = line.to_owned();
        for (unit, seconds) in [("h]", 3600), ("m]", 60)] {
            while let Some(end) = line.find(unit) {
                let begin = line[..end].rfind('[').expect("a range") + 1;
                let count: u64 = line[begin..end].parse().expect("a whole number");
                let length = count * seconds / SHORTER;
                line.replace_range(begin..=end, &format!("{length}s"));
            }
        }
        if let Some((before, waits)) = line.split_once("for: ") {
            let (count, unit) = waits.split_at(waits.len() - 1);
            let count: u64 = count.parse().expect("a whole number");
            let seconds = match unit {
                "h" => 3600,
                "m" => 60,
                _ => 1,
            };
            let length = count * seconds / SHORTER;
            line = format!("{before}for: {length}s");
        }
        text += &line;
        text.push('\n');
    }
    text
}

/// A query as it may stand in an address (RFC 3986).
fn encoded(text: &str) -> String {
    let octets = text.bytes().map(|octet| match octet {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'.' | b'-' => {
            char::from(octet).to_string()
        }
        _ => format!("%{octet:02X}"),
    });
    octets.collect()
}

#[test]
fn durations_of_rules_become_shorter_and_nothing_else() {
    assert_eq!(
        shortened("  expr: increase(x[15m]) > 3\n  for: 1m\n  expr: rate(y[1h])\n  for: 30s\n"),
        "  expr: increase(x[30s]) > 3\n  for: 2s\n  expr: rate(y[120s])\n  for: 1s\n"
    );
}
