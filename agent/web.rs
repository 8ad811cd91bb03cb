//! The HTTP side: metrics, health, and the status as JSON.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Router,
    extract::{Query, State},
    http::{StatusCode, header},
    response::{Html, IntoResponse, Response},
    routing::get,
};
use serde::Serialize;
use tokio::net::TcpListener;

use crate::{hub::Hub, peers::filter::Filter, snapshot::Detail};

/// What `/metrics` is: the text format that Prometheus reads, and `promtool check metrics`, too.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

const LANDING: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
<meta name=\"viewport\" content=\"width=device-width\"><title>evenkeel</title><h1>evenkeel</h1><ul>\
<li><a href=\"/metrics\">metrics</a> for Prometheus\
<li><a href=\"/api/v1/status\">status</a> as JSON; <code>evenkeel status</code> shows it as text\
<li><a href=\"/api/v1/peers\">peers</a> as JSON; <code>evenkeel status peers</code> shows them as text\
<li><a href=\"/-/healthy\">healthy</a><li><a href=\"/-/ready\">ready</a></ul>";

/// Binds the address.
///
/// # Errors
///
/// A sentence that says which address, and what may be done.
pub async fn bind(listen: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(listen).await.map_err(|error| {
        anyhow::anyhow!(
            "cannot listen on {listen} for HTTP: {error}; set `listen` in [web] to a free address, \
             or `enabled = false`"
        )
    })
}

/// Serves until the listener fails.
pub async fn serve(listener: TcpListener, hub: Arc<Hub>) {
    let router = Router::new()
        .route("/", get(async || Html(LANDING)))
        .route("/metrics", get(metrics))
        .route("/-/healthy", get(async || "evenkeel is healthy.\n"))
        .route("/-/ready", get(ready))
        .route("/api/v1/status", get(status))
        .route("/api/v1/peers", get(peers))
        .with_state(hub);
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!("HTTP has ended: {error}");
    }
}

async fn metrics(State(hub): State<Arc<Hub>>) -> Response {
    match hub.metrics_page().await {
        Ok(page) => ([(header::CONTENT_TYPE, TEXT_FORMAT)], page).into_response(),
        Err(error) => unavailable(&error),
    }
}

/// Ready is who has a configuration in force and answers: the page is served from then on.
async fn ready(State(hub): State<Arc<Hub>>) -> Response {
    // Whoever asks wants no lists, and may ask every second.
    match hub.snapshot(Detail { alarms: 0, episodes: 0, rejected: false }).await {
        Ok(_) => "evenkeel is ready.\n".into_response(),
        Err(error) => unavailable(&error),
    }
}

async fn status(State(hub): State<Arc<Hub>>) -> Response {
    json(hub.status().await)
}

/// The peers that the query names, as `evenkeel status peers` does by its options.
async fn peers(
    State(hub): State<Arc<Hub>>,
    Query(query): Query<Vec<(String, String)>>,
) -> Response {
    match Filter::from_query(&query) {
        Ok(filter) => json(hub.peers(filter).await),
        Err(wrong) => (StatusCode::BAD_REQUEST, format!("{wrong}\n")).into_response(),
    }
}

fn json(answer: Result<impl Serialize, impl std::fmt::Display>) -> Response {
    match answer {
        Ok(document) => match serde_json::to_string(&document) {
            Ok(body) => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
            Err(error) => unavailable(&error),
        },
        Err(error) => unavailable(&error),
    }
}

fn unavailable(error: &impl std::fmt::Display) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response()
}
