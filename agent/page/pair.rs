//! The pair: who is what, by which ways the two agents hear each other, what is synchronised, and the last
//! takeover. What `evenkeel pair status` tells in ages stands here in moments, as a section holds no age.

use std::time::Duration;

use evenkeel_core::time::Pretty;
use maud::{Markup, html};

use super::{
    sections::{chip, section, table},
    shown::{cut, moved, since, whole},
};
use crate::{
    pair::status::{
        ChannelStatus, MateStatus, PairStatus, PathStatus, SynchronisationStatus, TakeoverStatus,
        TermStatus, WitnessStatus,
    },
    status::AgentStatus,
};

/// How many witnesses are shown.
const WITNESSES: usize = 20;

/// The section, as the agent sees the pair.
pub fn shown(agent: &AgentStatus, pair: Option<&PairStatus>) -> Markup {
    let Some(pair) = pair else {
        let content = html! { p { "This agent has no mate: if it stops, nobody watches." } };
        return section("pair", "Pair", cut(&agent.role), &content);
    };
    let at = &agent.at;
    let content = html! {
        // The script tells a change of it to who does not see it.
        p #pair-roles { (roles(pair)) }
        @if pair.role == "primary" && !pair.may_speak {
            p { (chip("critical", "it does not speak now")) }
        }
        @if pair.without_standby {
            p { (chip("warning", "without a standby")) " If it stops, nobody watches." }
        }
        @if pair.held { p { (chip("warning", "held")) " Nobody takes over until it is released." } }
        @match pair.versions.as_deref() {
            Some("degraded") => p { (chip("warning", "versions differ")) " What both know is shared." },
            Some("out") => p { (chip("critical", "versions differ")) " The standby stays out." },
            Some(_) | None => {}
        }
        (agents(at, pair))
        (ways(at, pair))
        dl {
            dt { "Synchronisation" } dd { (synchronisation(at, &pair.synchronisation)) }
            dt { "Takeovers" } dd { (takeovers(at, pair)) }
            dt { "Last takeover" }
            dd {
                @match &pair.last_takeover {
                    Some(last) => (last_takeover(pair, last)),
                    None => "none yet",
                }
            }
            dt { "Witnesses" }
            dd {
                @if !pair.network_up { (chip("down", "this host has no network")) " " }
                @if pair.witnesses.is_empty() { "none" }
                @for (nth, one) in pair.witnesses.iter().take(WITNESSES).enumerate() {
                    @if nth > 0 { ", " }
                    (witness(one))
                }
            }
        }
    };
    section("pair", "Pair", cut(&pair.role), &content)
}

/// Who is what, in words that change only if that does.
fn roles(pair: &PairStatus) -> String {
    let here = cut(&pair.here.name);
    let mate = pair.mate.name.as_deref().map_or_else(|| "the mate".to_owned(), cut);
    let its = match (&pair.mate.said, pair.mate.heard) {
        (Some(said), true) if said.stopping => format!("is {} and stopping", said.role),
        (Some(said), true) => format!("is {}", said.role),
        (Some(_), false) => "is silent".to_owned(),
        (None, _) => "was not heard yet".to_owned(),
    };
    format!("{here} is {}, {mate} {its}", pair.role)
}

fn agents(at: &str, pair: &PairStatus) -> Markup {
    let PairStatus { here, mate, .. } = pair;
    let said = mate.said.as_ref();
    let its_name = mate.name.as_deref().map_or_else(|| "the mate".to_owned(), cut);
    table(
        "The agents of the pair",
        &html! {
            thead {
                tr {
                    th scope="col" { "Agent" }
                    th scope="col" { "Role" }
                    th scope="col" { "Term" }
                    th scope="col" { "Version" }
                    th.number scope="col" { "Priority" }
                    th scope="col" { "Would take over" }
                }
            }
            tbody {
                tr {
                    th scope="row" { (cut(&here.name)) " " span.note { "this agent, slot " (here.slot) } }
                    td { (role(&pair.role)) }
                    td { (term(pair.term)) }
                    td { (cut(&here.version)) }
                    td.number { (here.priority) }
                    td { span.note { "the mate knows" } }
                }
                tr {
                    th scope="row" { (its_name) " " span.note { "its mate, slot " (mate.slot) } }
                    td { (role_of_mate(at, mate)) }
                    td { (term(said.and_then(|said| said.term))) }
                    td { @if let Some(said) = said { (cut(&said.version)) } @else { "unknown" } }
                    td.number { @if let Some(said) = said { (said.priority) } @else { "unknown" } }
                    td {
                        @match said {
                            Some(said) if said.able && mate.heard => "yes",
                            Some(_) => "no",
                            None => "unknown",
                        }
                    }
                }
            }
        },
    )
}

fn role(role: &str) -> Markup {
    let kind = if role == "undecided" { "unknown" } else { "up" };
    chip(kind, &cut(role))
}

fn role_of_mate(at: &str, mate: &MateStatus) -> Markup {
    html! {
        @match (&mate.said, mate.heard) {
            (Some(said), true) => (role(&said.role)),
            (Some(said), false) => {
                (chip("down", "silent")) " since " (ago(at, mate.heard_seconds_ago))
                " " span.note { "it was " (cut(&said.role)) }
            }
            (None, _) => (chip("down", "not heard yet")),
        }
    }
}

fn term(term: Option<TermStatus>) -> Markup {
    html! {
        @match term {
            Some(term) => { (term.number) " " span.note { "begun by slot " (term.by_slot) } }
            None => "none",
        }
    }
}

fn ways(at: &str, pair: &PairStatus) -> Markup {
    table(
        "The ways between the two agents",
        &html! {
            thead {
                tr {
                    th scope="col" { "Way" }
                    th scope="col" { "State" }
                    th scope="col" { "From" }
                    th scope="col" { "To" }
                    th scope="col" { "Trouble" }
                }
            }
            tbody {
                @for path in &pair.paths { (path_row(at, path)) }
                (channel_row(at, &pair.state_channel))
            }
        },
    )
}

fn path_row(at: &str, path: &PathStatus) -> Markup {
    html! {
        tr {
            th scope="row" { "path " (cut(&path.interface)) }
            td {
                @match (path.up, path.heard_seconds_ago) {
                    (true, _) => (chip("up", "up")),
                    (false, Some(heard)) => { (chip("down", "down")) ", heard last " (ago(at, heard)) }
                    (false, None) => { (chip("down", "down")) ", never heard" }
                }
            }
            td { (cut(&path.local)) }
            td { (cut(&path.mate)) }
            td {
                @if let Some(error) = &path.error { (cut(error)) " " }
                @for (why, count) in &path.not_sent { span.note { (count) " not sent: " (cut(why)) } " " }
            }
        }
    }
}

fn channel_row(at: &str, channel: &ChannelStatus) -> Markup {
    html! {
        tr {
            th scope="row" { "state channel" }
            td {
                @if channel.up { (chip("up", "up")) } @else { (chip("down", "down")) }
                " since " (ago(at, channel.since_seconds))
            }
            td {}
            td { (cut(&channel.mate)) }
            td {
                @match channel.cause.as_deref() {
                    Some("connect") => "cannot connect to the mate",
                    Some("read") => "cannot read from the mate",
                    Some("write") => "cannot write to the mate",
                    Some(other) => (cut(other)),
                    None => {}
                }
                @if let Some(refused) = &channel.refused { "; the mate was refused: " (cut(refused)) }
            }
        }
    }
}

fn synchronisation(at: &str, sync: &SynchronisationStatus) -> Markup {
    html! {
        @match sync.state.as_str() {
            "in_sync" => { (chip("up", "in sync")) ", all of the state is on both" }
            "copying" => { (chip("warning", "copying")) ", a full copy is under way" }
            "stale" => { (chip("down", "stale")) ", the state goes no longer to the standby" }
            "never" => { (chip("unknown", "never")) ", nothing was synchronised yet" }
            other => (cut(other)),
        }
        @if !sync.missing.is_empty() { "; missing: " (cut(&sync.missing.join(", "))) }
        @if let (true, Some(last)) = (sync.state != "in_sync", sync.synchronised_seconds_ago) {
            "; the last time " (ago(at, last))
        }
        @if sync.lag_events > 0 {
            "; " (sync.lag_events) " events and " (format!("{:.1} s", sync.lag_seconds)) " behind"
        }
    }
}

fn takeovers(at: &str, pair: &PairStatus) -> Markup {
    html! {
        (pair.takeovers) ", "
        @match &pair.limit {
            Some(limit) => {
                (limit.within) " automatic of at most " (limit.count) " within "
                (Pretty(Duration::from_secs(limit.period_seconds)).to_string())
                @if let Some(for_seconds) = limit.suppressed_for_seconds {
                    "; " (chip("critical", "limit reached")) ", the next one is suppressed until "
                    (ago(at, -for_seconds))
                }
            }
            None => "no limit",
        }
    }
}

fn last_takeover(pair: &PairStatus, last: &TakeoverStatus) -> Markup {
    html! {
        (since(&last.at)) " by " (cut(&pair.name_of(last.by_slot))) ", term " (last.term) ", "
        (cut(&last.kind)) ": " (cut(last.reason_in_words()))
        @if let Some(degraded) = &last.degraded { "; " (chip("warning", "degraded")) " " (cut(degraded)) }
    }
}

fn witness(witness: &WitnessStatus) -> Markup {
    html! {
        (cut(&witness.address)) " " span.note {
            (witness.from.replace('_', " ")) ", "
            @match (witness.asked_seconds_ago, witness.answered_seconds_ago) {
                (None, _) => "not asked, as the mate is heard",
                (Some(_), Some(_)) => "answers",
                (Some(_), None) => "does not answer",
            }
            @if let Some(error) = &witness.error { ": " (cut(error)) }
        }
    }
}

/// The moment so many seconds ago, to the second, as ages are taken at another moment each time.
fn ago(at: &str, seconds: f64) -> Markup {
    since(&whole(&moved(at, -seconds)))
}
