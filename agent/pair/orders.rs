//! `evenkeel pair status`, `failover`, `hold`, `release` and `reset-counters` (PAIR-7): both ends of the
//! control socket.

use std::process::ExitCode;

use anyhow::Context;
use evenkeel_core::pair::{Order, Role};
use schemars::generate::SchemaSettings;
use serde::{Deserialize, Serialize};

use super::{OrderError, PairHandle, status::PairDocument};
use crate::{
    cli::{PairFormat, PairOrder, RunningAgent},
    clock::BootClock,
    control, no_socket, refused,
    status::{
        command,
        terminal::{self, Output},
    },
};

/// What became of an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// In a sentence.
    pub said: String,
}

/// Carries out what a command asks for.
///
/// # Errors
///
/// A sentence for the person who asked: it can't be done, and why not.
pub fn command(agent: &RunningAgent, order: &PairOrder) -> anyhow::Result<ExitCode> {
    let ask = |question: &str| control::ask(&agent.control_socket().map_err(no_socket)?, question);
    let config = || agent.config.load().map_err(refused);
    match order {
        PairOrder::Fingerprint => super::command::fingerprint(&config()?)?,
        PairOrder::Trust { fingerprint } => super::command::trust(&config()?, *fingerprint)?,
        PairOrder::Status { schema: true, .. } => {
            terminal::print(&schema())?;
        }
        PairOrder::Status { format, color, .. } => {
            let answer = ask("pair status")?;
            let text = match format {
                PairFormat::Json => command::escaped(&answer),
                PairFormat::Text => {
                    let output = Output::new(*color);
                    let document: PairDocument =
                        command::understood(&answer, PairDocument::SCHEMA)?;
                    output.style(document.text(output.width()))
                }
            };
            terminal::print(&text)?;
        }
        PairOrder::Failover => say(&ask("pair failover")?)?,
        PairOrder::Hold => say(&ask("pair hold")?)?,
        PairOrder::Release => say(&ask("pair release")?)?,
        PairOrder::ResetCounters => say(&ask("pair reset-counters")?)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn say(answer: &str) -> anyhow::Result<()> {
    let Done { said } = serde_json::from_str(answer)
        .context("the agent's answer is not understood: use the `evenkeel` of its own version")?;
    println!("{said}");
    Ok(())
}

/// What the running agent answers to a question about its pair.
///
/// # Errors
///
/// A sentence: there is no pair, or the order can't be carried out.
pub async fn answer(question: &str, pair: Option<&PairHandle>) -> anyhow::Result<String> {
    let pair = pair.context(
        "this agent has no mate: the pair is configured in [pair]; see agent/pair/README.md",
    )?;
    let order = match question {
        "status" => {
            let view = pair.view().context("the pair's thread has just been started")?;
            return Ok(serde_json::to_string(&PairDocument::new(&view, BootClock::both()))?);
        }
        "failover" => Order::Failover,
        "hold" => Order::Hold,
        "release" => Order::Release,
        "reset-counters" => Order::ResetCounters,
        other => anyhow::bail!("unknown order {other:?} for a pair"),
    };
    let was = pair.view().map(|view| view.role);
    pair.order(order).await.map_err(|error| not_done(order, &error))?;
    let said = done(order, was).to_owned();
    Ok(serde_json::to_string(&Done { said })?)
}

fn done(order: Order, was: Option<Role>) -> &'static str {
    match (order, was) {
        (Order::Failover, Some(Role::Primary)) => "the mate is primary now, and this agent standby",
        (Order::Failover, _) => "this agent is primary now",
        (Order::Hold, _) => {
            "the pair is held: nobody takes over until `evenkeel pair release`, on either agent"
        }
        (Order::Release, _) => "the pair is released: the standby takes over again if it has to",
        (Order::ResetCounters, _) => {
            "takeovers are counted from zero; what the limit remembers stays"
        }
    }
}

fn not_done(order: Order, error: &OrderError) -> anyhow::Error {
    let what = match order {
        Order::Failover => "no failover",
        Order::Hold => "the pair is not held",
        Order::Release => "the pair is not released",
        Order::ResetCounters => "the counters are not reset",
    };
    anyhow::anyhow!("{what}: {error}")
}

/// The JSON Schema of the status, made from its types.
pub fn schema() -> String {
    let settings = SchemaSettings::draft2020_12().for_serialize();
    let schema = settings.into_generator().into_root_schema_for::<PairDocument>();
    // A schema is plain JSON, whose keys are strings.
    serde_json::to_string_pretty(&schema).unwrap_or_default() + "\n"
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::PathBuf};

    use anstream::adapter::strip_str;
    use serde_json::Value;

    use super::*;
    use crate::{clock::Reading, gate::Gate, pair::testing};

    /// Holds what was made to a file beside this one. With `EVENKEEL_WRITE_EXPECTED=1` it is written.
    fn expect(name: &str, found: &str) {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("agent/pair").join(name);
        if std::env::var_os("EVENKEEL_WRITE_EXPECTED").is_some() {
            fs::write(&path, found).unwrap();
        }
        let expected = fs::read_to_string(&path).unwrap_or_default();
        assert!(found == expected, "{name} should be\n{expected}\nand is\n{found}");
    }

    /// What is seen at 2026-11-22 03:28:26 UTC.
    fn document(change: impl FnOnce(&mut crate::pair::View)) -> PairDocument {
        let mut view = testing::view();
        change(&mut view);
        PairDocument::new(&view, Reading { time: view.at, wall: 1_795_318_106_000_000_000 })
    }

    #[test]
    fn pair_7_an_operator_sees_who_is_what_and_what_is_wrong() {
        for (name, document) in [
            ("primary", document(|_| ())),
            (
                "alone",
                document(|view| {
                    view.alone = true;
                    (view.speaks_until, view.gate) = (None, Gate::closed());
                    view.held = true;
                    view.mate_heard = view.at - std::time::Duration::from_secs(75);
                    view.problems = vec!["no witness can be asked".to_owned()];
                    view.witnesses.clear();
                    view.settings.limit = None;
                }),
            ),
            (
                "new",
                document(|view| {
                    view.role = Role::Undecided;
                    (view.term, view.known, view.mate, view.mate_name) = (None, None, None, None);
                    view.record = Default::default();
                    (view.speaks_until, view.gate) = (None, Gate::closed());
                }),
            ),
        ] {
            let text = strip_str(&document.text(100)).to_string();
            expect(&format!("testdata/{name}.txt"), &text);
        }
    }

    #[test]
    fn the_schema_in_the_repository_is_that_of_the_types_and_the_page_names_every_field() {
        expect("schema.json", &schema());
        let page = fs::read_to_string(
            PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("agent/pair/README.md"),
        );
        let page = page.unwrap();
        let mut names = BTreeSet::new();
        properties(&serde_json::from_str(&schema()).unwrap(), &mut names);
        assert!(names.len() > 60, "{names:?}");
        let missing: Vec<_> =
            names.iter().filter(|name| !page.contains(&format!("`{name}`"))).collect();
        assert!(missing.is_empty(), "README.md does not name {missing:?}");
    }

    /// What is discarded, refused and not sent is explained to those who see it counted.
    #[test]
    fn the_page_names_every_reason() {
        let page = fs::read_to_string(
            PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("agent/pair/README.md"),
        );
        let page = page.unwrap();
        let view = testing::view();
        let discarded = view.discarded().map(|(why, _)| why);
        let refused = view.channel.refusals.keys().copied();
        for why in
            discarded.chain(refused).chain(super::super::paths::NotSent::ALL.map(|it| it.name()))
        {
            assert!(page.contains(&format!("`{why}`")), "README.md does not name {why}");
        }
    }

    fn properties(schema: &Value, names: &mut BTreeSet<String>) {
        if let Some(object) = schema.as_object() {
            if let Some(of_it) = object.get("properties").and_then(Value::as_object) {
                names.extend(of_it.keys().cloned());
            }
            object.values().for_each(|inner| properties(inner, names));
        }
        if let Some(list) = schema.as_array() {
            list.iter().for_each(|inner| properties(inner, names));
        }
    }

    #[tokio::test]
    async fn an_agent_without_a_mate_says_so() {
        let error = answer("failover", None).await.unwrap_err().to_string();
        assert!(error.starts_with("this agent has no mate"), "{error}");
    }
}
