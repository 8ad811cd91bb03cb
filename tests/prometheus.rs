//! Rules and boards against the real thing: Debian's Prometheus scrapes an agent that lives through an hour
//! of trouble, shortened to a minute and a half. Then every query of every board and rule is asked of it.
//!
//! | file | what it does |
//! |---|---|
//! | `life.rs` | the trouble, and what was done when |
//! | `server.rs` | Prometheus: its configuration, and asking it |
//! | `boards.rs` | the boards as they are committed: their queries, filled in as Grafana does |
//!
//! What was found is left in `target/boards/recorded.json`, for `npm run draw` in `dashboards/build/draw`.

mod boards;
mod life;
mod server;

use std::{collections::BTreeSet, fmt::Write as _, fs};

use serde_json::json;

use crate::{
    common::{Agent, Lab, Row, repository},
    pair::Hosts,
};

use self::{
    boards::{Board, Kind},
    life::{Life, Moment},
    server::{SLACK, Server},
};

/// Panels whose queries need not have an answer, by the board's file, with the letters of these queries: each
/// shows only what was lost or spoiled, which this life does not bring about. A machine that is busy with
/// other tests may. All other queries must have an answer.
const MAY_BE_NOTHING: &[(&str, &str, &str)] = &[
    ("overview.json", "Not taken in", "C"),
    ("overview.json", "Notifications", "EF"),
    ("overview.json", "Traps forwarded and held back", "C"),
    ("pair-and-agent.json", "Dropped", "A"),
    ("pair-and-agent.json", "Failed and lost", "ABCD"),
    ("pair-and-agent.json", "Forwarded otherwise than asked for", "AB"),
    ("pair-and-agent.json", "Heartbeats of the pair", "C"),
    ("pair-and-agent.json", "Informs", "C"),
    ("pair-and-agent.json", "Stalls", "BD"),
    ("pair-and-agent.json", "Traps that a standby keeps", "C"),
    ("subnets-and-peers.json", "Inconclusive", "A"),
    ("subnets-and-peers.json", "Lost, skipped and discarded", "ABCD"),
    ("subnets-and-peers.json", "Mobility messages", "A"),
    ("subnets-and-peers.json", "Polls that said nothing", "ABCD"),
];

/// Labels that a device need not tell.
const MAY_BE_EMPTY: &[&str] = &["if_name", "if_index"];

#[test]
fn every_query_of_boards_and_rules_has_its_answer_and_alerts_come_and_go_in_time() {
    let lab = Lab::new();
    let site = life::Site::new(&lab);
    let nms = site.nms();
    let mut agent = site.agent();
    let hosts = Hosts::within(&lab);
    let mut pair = site.pair(&hosts);
    let server = Server::start(&site.host);
    let life = site.live(&mut agent, &mut pair, &nms, &server);

    let mut wrong = String::new();
    let recorded = boards_have_answers(&server, &life, &mut wrong);
    fs::create_dir_all(repository("target/boards")).expect("a writable directory");
    fs::write(repository("target/boards/recorded.json"), recorded.to_string()).expect("a file");
    phases_are_those_of_the_manual(&recorded, &mut wrong);
    rules_are_sound(&server, &life, &mut wrong);
    alerts_are_in_time(&server, &life, &agent, &mut wrong);
    assert!(wrong.is_empty(), "\n{wrong}");
}

/// A system first counts, then is unstable, and then waits for its clear (INST-3 to INST-6).
fn phases_are_those_of_the_manual(recorded: &serde_json::Value, wrong: &mut String) {
    let systems =
        recorded["boards"]["instability.json"]["Systems"]["A"].as_array().expect("a list");
    let restarts = systems.iter().find(|series| series["metric"]["system"] == life::RESTARTS);
    let values =
        restarts.and_then(|series| series["values"].as_array()).cloned().unwrap_or_default();
    let mut phases: Vec<_> = values.iter().filter_map(|value| value[1].as_str()).collect();
    phases.dedup();
    if phases != ["1", "2", "3"] {
        writeln!(wrong, "{} went through the phases {phases:?}", life::RESTARTS).expect("memory");
    }
}

/// Every rule could be evaluated, and what is recorded is there.
fn rules_are_sound(server: &Server<'_>, life: &Life, wrong: &mut String) {
    for rule in server.rules() {
        let name = rule["name"].as_str().expect("a name");
        if rule["health"] != "ok" {
            writeln!(wrong, "rule {name}: {rule}").expect("memory");
        }
        if rule["type"] == "recording" && server.range(name, life.span()).is_empty() {
            writeln!(wrong, "rule {name} recorded nothing").expect("memory");
        }
    }
}

/// An alert that must fire: why, and from when to when what it tells of was so.
struct Fires {
    alert: &'static str,
    labels: &'static str,
    from: Moment,
    to: Moment,
    /// How long after that it may still fire, as it looks back: in seconds of the shortened rules.
    afterwards: f64,
    /// How long it waits (`for`), in the same.
    waits: f64,
}

/// Alerts that must not fire, as nothing was lost and nothing waited.
const NEVER: [&str; 7] = [
    "NotificationsLost",
    "ObjectsForgotten",
    "PeersNotMonitored",
    "StandbyMoveFailed",
    "PeersRestarted",
    "PairWithTwoPrimaries",
    "ComponentStalled",
];

/// Alerts fire when it is time, and end when it is.
fn alerts_are_in_time(server: &Server<'_>, life: &Life, agent: &Agent<'_>, wrong: &mut String) {
    let journal = agent.journal();
    let raised = |kind: &str, object: &str| event(&journal, "raise", kind, object);
    let cleared = |kind: &str, object: &str| event(&journal, "clear", kind, object);
    let of_journal = |alert, labels, kind: &str, object: &str, waits| {
        let (from, to) = (raised(kind, object), cleared(kind, object));
        Fires { alert, labels, from, to, afterwards: 0.0, waits }
    };
    let of_life = |alert, labels, from: &str, to: &str, waits, afterwards| Fires {
        alert,
        labels,
        from: life.at(from),
        to: life.at(to),
        afterwards,
        waits,
    };
    let all = [
        of_journal("SystemsUnstable", "", "system_unstable", "", 0.0),
        of_journal("InterfacesUnstable", "", "interface_unstable", "", 0.0),
        of_journal("LinksUnstable", "", "link_unstable", "", 0.0),
        of_journal("InterfacesDown", "", "interface_down", life::DOWN, 10.0),
        of_journal("SubnetDown", "subnet=\"10.30.0.0/24\"", "subnet_down", "10.30.0.0/24", 0.0),
        of_journal(
            "InterfaceIpDown",
            "subnet=\"10.30.0.0/24\"",
            "interface_ip_down",
            "10.30.0.0/24",
            0.0,
        ),
        of_journal("MassSilence", "", "mass_silence", "", 0.0),
        of_journal("Overload", "", "overload", "", 0.0),
        of_journal(
            "NotificationTargetUnreachable",
            "target=\"nms\"",
            "notification_target_unreachable",
            "nms",
            0.0,
        ),
        of_life("ConfigurationRefused", "", "bad reload", "good reload", 0.0, 0.0),
        of_life("PeerFilesFailed", "", "bad file", "good file", 4.0, 0.0),
        of_life("TrapsLost", "", "flood", "flood over", 0.0, 10.0),
        of_life("AgentGone", "", "killed", "back", 2.0, 0.0),
    ];
    for fires in &all {
        let selector = format!(
            "ALERTS{{alertstate=\"firing\",alertname=\"{}\",{}}}",
            fires.alert, fires.labels
        );
        let seen = server.seen(&selector, life.span());
        let (due, over) = (fires.from + fires.waits, fires.to + fires.afterwards);
        let in_time = seen.is_some_and(|(first, last)| {
            // A rule is evaluated once a second, on what was scraped within the second before.
            first >= fires.from - 0.1
                && first >= due - SLACK
                && first <= due + SLACK
                && last >= fires.to - SLACK
                && last <= over + SLACK
        });
        if !in_time {
            let (begin, _) = life.span();
            let since = |moment: f64| moment - begin;
            writeln!(
                wrong,
                "{selector} was to fire from {:.1} to {:.1} s, and did {:?}",
                since(due),
                since(over),
                seen.map(|(first, last)| (since(first), since(last))),
            )
            .expect("memory");
        }
    }
    for alert in [
        "PeersDown",
        "InterfaceDisabled",
        "NotificationsWait",
        "AgentStandsStill",
        "TrapsRefused",
        "MatePathLost",
        "MateSyncLost",
        "PairHeartbeatsDiscarded",
        "Takeover",
    ] {
        let selector = format!("ALERTS{{alertstate=\"firing\",alertname=\"{alert}\"}}");
        if server.seen(&selector, life.span()).is_none() {
            writeln!(wrong, "{alert} did not fire").expect("memory");
        }
    }
    for alert in NEVER {
        let selector = format!("ALERTS{{alertstate=\"firing\",alertname=\"{alert}\"}}");
        if server.seen(&selector, life.span()).is_some() {
            writeln!(wrong, "{alert} fired").expect("memory");
        }
    }
    // What was wrong is over, so at the end nothing fires but what looks back.
    let firing = server.instant("ALERTS{alertstate=\"firing\"}", life.span().1);
    let late = ["TrapsRefused", "AgentStandsStill", "PeersInconclusive", "SubnetLosesPackets"];
    for series in firing {
        let name = &series.labels["alertname"];
        if !late.contains(&name.as_str()) {
            writeln!(wrong, "{name} still fires at the end: {:?}", series.labels).expect("memory");
        }
    }
}

/// When the journal says that the first such alarm was raised, or the last one cleared.
fn event(journal: &[Row], event: &str, kind: &str, object: &str) -> Moment {
    let mut rows = journal
        .iter()
        .filter(|row| row.event == event && row.kind == kind && row.object.contains(object));
    let found = if event == "raise" { rows.next() } else { rows.next_back() };
    let kinds: BTreeSet<_> = journal.iter().map(|row| (&*row.event, &*row.kind)).collect();
    found.unwrap_or_else(|| panic!("no {event} of {kind} {object}, but {kinds:?}")).at.as_secs_f64()
}

/// Every query of every panel, variable and annotation has an answer, with the labels that its legend names.
/// Gives all answers.
fn boards_have_answers(server: &Server<'_>, life: &Life, wrong: &mut String) -> serde_json::Value {
    let mut recorded = json!({ "from": life.span().0, "to": life.span().1, "busy": life.busy() });
    let boards = Board::all();
    for board in &boards {
        for query in &board.queries {
            let place = (&*board.file, &*query.panel, &*query.letter);
            let text = query.filled(life.span());
            let answer = match query.kind {
                Kind::Range => server.range(&text, life.span()),
                Kind::Instant => server.instant(&text, life.busy()),
                Kind::Values => server.values(&text, life.span()),
            };
            if answer.is_empty() {
                let nothing = MAY_BE_NOTHING.iter().any(|(file, panel, letters)| {
                    *file == place.0 && *panel == place.1 && letters.contains(place.2)
                });
                if !nothing {
                    writeln!(wrong, "{place:?} has no answer").expect("memory");
                }
            }
            for series in &answer {
                for label in query.labels() {
                    let told = series.labels.get(label).is_some_and(|value| !value.is_empty());
                    if !told && !MAY_BE_EMPTY.contains(&label) {
                        let labels = &series.labels;
                        writeln!(wrong, "{place:?}: a series without {label}: {labels:?}")
                            .expect("memory");
                    }
                }
            }
            let answer: Vec<serde_json::Value> = answer.iter().map(server::Series::json).collect();
            recorded["boards"][&board.file][query.panel.as_str()][query.letter.as_str()] =
                answer.into();
        }
    }
    for (file, panel, letters) in MAY_BE_NOTHING {
        for letter in letters.chars().map(String::from) {
            let is_it = |query: &boards::Query| query.panel == *panel && query.letter == letter;
            let there =
                boards.iter().any(|board| board.file == *file && board.queries.iter().any(is_it));
            assert!(there, "MAY_BE_NOTHING names {letter} of {panel}, which is not in {file}");
        }
    }
    recorded
}
