//! What there is to see, as JSON, for programs: versioned by its path, and described by itself
//! ([`openapi`]).
//!
//! Fields and addresses may be added under `/api/v1`; none changes its meaning. Everything is asked by GET,
//! and what is refused is answered with a problem document (RFC 9457). `README.md` of
//! [`page`](crate::page) is for who uses it.

pub mod documents;
pub mod events;
mod openapi;
mod query;

use std::{fmt::Display, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::Serialize;

use self::{
    documents::{AlarmsDocument, EventsDocument, RejectedDocument},
    query::Query,
};
use crate::{
    peers::filter::Filter,
    web::{Web, problem::Problem},
};

/// How many alarms are listed at most: as many as the status lists.
const MOST_ALARMS: usize = 1_000;

/// How many rows of the journal an answer has at most, and unless more are asked for.
const MOST_EVENTS: usize = 1_000;
const EVENTS: usize = 100;

/// How many peers an answer has at most: some 2 MB.
const MOST_PEERS: usize = 10_000;

/// The addresses below `/api`.
pub fn routes() -> Router<Arc<Web>> {
    Router::new()
        .route("/api/v1/status", get(status))
        .route("/api/v1/alarms", get(alarms))
        .route("/api/v1/events", get(events))
        .route("/api/v1/peers", get(peers))
        .route("/api/v1/rejected", get(rejected))
        .route("/api/v1/openapi.json", get(async || json_text(openapi::text())))
}

type Answer = Result<Response, Problem>;

async fn status(State(web): State<Arc<Web>>, query: Query) -> Answer {
    query.knows(&[])?;
    Ok(json(&web.view(Duration::ZERO).await.map_err(unavailable)?.status))
}

async fn alarms(State(web): State<Arc<Web>>, query: Query) -> Answer {
    query.knows(&["severity", "kind", "limit"])?;
    let (severities, kinds) = (query.severities()?, query.kinds()?);
    let limit = query.number("limit", 0..=MOST_ALARMS)?.unwrap_or(MOST_ALARMS);
    let view = web.view(Duration::ZERO).await.map_err(unavailable)?;
    Ok(json(&AlarmsDocument::new(&view.status, &severities, &kinds, limit)))
}

async fn events(State(web): State<Arc<Web>>, query: Query) -> Answer {
    query.knows(&["after", "limit"])?;
    let after = query.number("after", 0..=u64::MAX)?;
    let limit = query.number("limit", 1..=MOST_EVENTS)?.unwrap_or(EVENTS);
    let events = Arc::clone(&web.events);
    let read = tokio::task::spawn_blocking(move || events.read(after, limit)).await;
    let (last, rows) = read.map_err(unavailable)?.map_err(unavailable)?;
    Ok(json(&EventsDocument::new(last, &rows)))
}

/// The peers that the query names, as `evenkeel status peers` does by its options.
async fn peers(State(web): State<Arc<Web>>, query: Query) -> Answer {
    let filter = Filter::from_query(query.pairs()).map_err(Problem::bad_request)?;
    if filter.limit > MOST_PEERS {
        let limit = filter.limit;
        return Err(Problem::bad_request(format!("limit={limit} is above {MOST_PEERS}")));
    }
    Ok(json(&web.peers(filter, Duration::ZERO).await.map_err(unavailable)?))
}

async fn rejected(State(web): State<Arc<Web>>, query: Query) -> Answer {
    query.knows(&[])?;
    Ok(json(&RejectedDocument::new(&*web.view(Duration::ZERO).await.map_err(unavailable)?)))
}

fn unavailable(error: impl Display) -> Problem {
    Problem::unavailable(&error)
}

fn json(document: &impl Serialize) -> Response {
    match serde_json::to_string(document) {
        Ok(text) => json_text(text),
        Err(error) => Problem::unavailable(&error).into_response(),
    }
}

fn json_text(text: impl IntoResponse) -> Response {
    let mut response = text.into_response();
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}
