//! The status page: what is wrong now, first, and then all that is watched, for whoever has a browser.
//!
//! The page is made here, on the server, and is whole without JavaScript ([`sections`]). What is live are
//! the same sections again ([`feed`]), which `page.js` puts in their places. Script, style and icon are files
//! beside this one that are part of the binary; nothing is loaded from elsewhere, and nothing is built.
//! `README.md` beside this file is for operators.

pub mod feed;
mod pair;
mod peers;
mod picture;
mod sections;
mod shown;
mod traces;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use maud::{DOCTYPE, Markup, html};

use self::{sections::Sections, traces::Traces};
use crate::{
    api::events::Events,
    hub::View,
    store::JournalRow,
    web::{Web, problem::Problem},
};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
const ICON: &str = include_str!("icon.svg");

/// How old may be what a page begins with. Whoever watches live makes it no older than this
/// ([`feed::PERIOD`]); so the page itself, however often it is loaded, has the core looked at no more often.
const BEGINS_WITH: Duration = feed::PERIOD;

/// How many rows of the journal are shown.
const EVENTS: usize = 40;

/// The addresses of the page.
pub fn routes() -> Router<Arc<Web>> {
    Router::new()
        .route("/", get(page))
        .route("/page/live", get(feed::live))
        .route("/page/peers", get(peers::found))
        .route("/page/page.css", get(async || asset("text/css; charset=utf-8", STYLE)))
        .route("/page/page.js", get(async || asset("text/javascript; charset=utf-8", SCRIPT)))
        .route("/page/icon.svg", get(async || asset("image/svg+xml", ICON)))
        .route("/favicon.ico", get(async || asset("image/svg+xml", ICON)))
}

/// A file that is part of the binary. After an upgrade it is another, so a browser asks again.
fn asset(kind: &'static str, content: &'static str) -> Response {
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache")], content).into_response()
}

/// The rows of the journal that are shown, the newest first, or why there are none.
async fn last_events(events: &Arc<Events>) -> Result<Vec<JournalRow>, String> {
    let events = Arc::clone(events);
    let read = tokio::task::spawn_blocking(move || events.read(None, EVENTS)).await;
    let read = read.map_err(|error| error.to_string())?;
    let (_, mut rows) = read.map_err(|error| format!("{error:#}"))?;
    rows.reverse();
    Ok(rows)
}

async fn page(State(web): State<Arc<Web>>, uri: axum::http::Uri) -> Response {
    let view = match web.view(BEGINS_WITH).await {
        Ok(view) => view,
        Err(error) => {
            let problem = Problem::unavailable(&error);
            return (StatusCode::SERVICE_UNAVAILABLE, failed(problem.detail())).into_response();
        }
    };
    let events = last_events(&web.events).await;
    let search = peers::Search::from_query(uri.query().unwrap_or_default());
    let found = match search.is_on() {
        true => Some(search.found(&web).await.1),
        false => None,
    };
    let traces = web.feed.traces();
    whole(&view, &events, &traces, &search, found).into_response()
}

/// The page when the agent's core does not answer. It tries again by itself.
fn failed(why: &str) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                (head("no answer"))
                meta http-equiv="refresh" content="5";
            }
            body {
                main { h1 { "No answer" } p { (why) "." } p { "This page tries again every 5 seconds." } }
            }
        }
    }
}

fn head(title: &str) -> Markup {
    html! {
        meta charset="utf-8";
        meta name="viewport" content="width=device-width, initial-scale=1";
        meta name="color-scheme" content="light dark";
        title { (title) }
        link rel="icon" href="page/icon.svg" type="image/svg+xml";
        link rel="stylesheet" href="page/page.css";
    }
}

/// The sections that the page has, by the ids of their headings' sections.
const CONTENTS: [(&str, &str); 9] = [
    ("alarms", "Alarms"),
    ("unstable", "Unstable"),
    ("subnets", "Subnets"),
    ("peers", "Peers"),
    ("pair", "Pair"),
    ("targets", "Notification targets"),
    ("rejected", "Rejected traps"),
    ("events", "Last events"),
    ("agent", "Agent"),
];

fn whole(
    view: &View,
    events: &Result<Vec<JournalRow>, String>,
    traces: &Traces,
    search: &peers::Search,
    found: Option<Markup>,
) -> Markup {
    let status = &view.status;
    let sections = Sections::new(view, events, traces);
    let name = shown::cut(&status.agent.name);
    let title = format!("{} - {name}", status.verdict().words());
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                (head(&title))
                // Without JavaScript the whole page is loaded again.
                noscript { meta http-equiv="refresh" content="10"; }
                script src="page/page.js" defer {}
            }
            body data-version=(status.agent.version) data-name=(name) {
                a.skip href="#alarms" { "Skip to the alarms" }
                header {
                    div.top {
                        h1 { (name) }
                        p #live hidden {}
                    }
                    (sections.verdict)
                    (sections.when)
                    nav aria-label="Sections" {
                        ul {
                            @for (id, title) in CONTENTS {
                                li { a href={ "#" (id) } { (title) } }
                            }
                        }
                    }
                }
                main {
                    (sections.problems)
                    (sections.alarms)
                    (sections.unstable)
                    (sections.subnets)
                    section #peers aria-labelledby="h-peers" tabindex="-1" {
                        (sections.peers)
                        @if let Some(peers) = &status.peers {
                            (peers::form(peers, search))
                            div #found { @if let Some(found) = found { (found) } }
                        }
                    }
                    (sections.pair)
                    (sections.targets)
                    (sections.rejected)
                    (sections.events)
                    (sections.agent)
                }
                footer {
                    p {
                        "The same for programs: "
                        a href="metrics" { "metrics" } " for Prometheus, "
                        a href="api/v1/status" { "status" } " and "
                        a href="api/v1/openapi.json" { "more as JSON" }
                        ". At a terminal: " code { "evenkeel status" } "."
                    }
                }
                p #said .unseen role="status" {}
            }
        }
    }
}
