//! The HTTP side: who may come in ([`door`], [`access`]), and what there is: the page ([`page`]),
//! the same as JSON ([`api`](crate::api)), metrics, health, and the order to load the configuration again.
//!
//! Nobody who looks can slow the agent: connections are bounded, looks at the core are shared and keep a
//! distance ([`looks`]), and what is made of them is made on threads where nothing else waits.

pub mod access;
pub mod door;
pub mod file;
pub mod looks;
pub mod problem;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{ConnectInfo, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot, watch},
};

use self::{
    access::{Access, Refused},
    door::{Door, Remote},
    looks::Looks,
    problem::Problem,
};
use crate::{
    api::events::Events,
    hub::{Hub, NoAnswer, View},
    page::{self, feed::Feed},
    peers::{filter::Filter, status::PeersStatus, view::PeersView},
    reloaded::{self, ReloadOrder},
    snapshot::Detail,
};

/// What `/metrics` is: the text format that Prometheus reads, and `promtool check metrics`, too.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Why nothing else is answered while the agent starts.
const STARTING: &str = "the agent starts: it reads its journal and its spool";

/// From one look at the core to the next, whoever asks: the core then spends less than a hundredth of its
/// time on being looked at, even with as many alarms as a status lists.
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);

/// From one look at all peers to the next. Each copies 128,000 of them.
const BETWEEN_PEERS: Duration = Duration::from_millis(100);

/// What every answer carries, unless the web configuration file says otherwise. The page needs nothing
/// from elsewhere, nor any script or style that is not a file of ours; so whatever a device puts into its
/// name, no browser runs it.
const HEADERS: [(HeaderName, &str); 6] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
         form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (header::CACHE_CONTROL, "no-store"),
];

/// What whoever serves works with.
pub struct Parts {
    /// The way to everything that there is to see.
    pub hub: Arc<Hub>,
    /// Where the journal is.
    pub state_dir: PathBuf,
    /// The last row of it that is on the disk.
    pub committed: watch::Receiver<u64>,
    /// Who may come in.
    pub access: watch::Receiver<Arc<Access>>,
    /// Where an order to load the configuration again goes.
    pub reloads: mpsc::Sender<ReloadOrder>,
    /// Whether such an order may come from another host.
    pub remote_reload: watch::Receiver<bool>,
}

/// What all answers are made from.
pub struct Web {
    hub: Arc<Hub>,
    access: watch::Receiver<Arc<Access>>,
    reloads: mpsc::Sender<ReloadOrder>,
    remote_reload: watch::Receiver<bool>,
    views: Looks<View>,
    peers: Looks<Option<PeersView>>,
    /// The journal.
    pub events: Arc<Events>,
    /// What is live.
    pub feed: Feed,
}

impl Web {
    /// Who may come in, to be told when that changes.
    pub fn access(&self) -> watch::Receiver<Arc<Access>> {
        let mut access = self.access.clone();
        access.mark_unchanged();
        access
    }

    /// What there is to see, as it was so long ago at most.
    ///
    /// # Errors
    ///
    /// The core does not answer.
    pub async fn view(&self, age: Duration) -> Result<Arc<View>, NoAnswer> {
        self.views.no_older_than(age, self.hub.view()).await
    }

    /// The peers in sum, and those that the filter names, as they were so long ago at most.
    ///
    /// # Errors
    ///
    /// The peers' engine does not answer.
    pub async fn peers(&self, filter: Filter, age: Duration) -> anyhow::Result<PeersStatus> {
        if filter.limit == 0 {
            return self.hub.peers(filter).await;
        }
        let view = self.peers.no_older_than(age, self.hub.every_peer()).await?;
        if !age.is_zero() {
            // Whoever searches types on, and should find it still there.
            let kept = Arc::clone(&view);
            tokio::spawn(async move {
                tokio::time::sleep(age).await;
                drop(kept);
            });
        }
        self.hub.peers_of(view, filter).await
    }
}

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

/// Answers while the agent starts, as reading the spool may take minutes: that it lives, and that it is not
/// ready. Gives the listener back for [`serve`], and what ends this as soon as it is dropped.
///
/// # Errors
///
/// There are no descriptors left.
pub fn answer_early(
    listener: TcpListener,
    access: watch::Receiver<Arc<Access>>,
) -> std::io::Result<(TcpListener, oneshot::Sender<()>)> {
    let listener = listener.into_std()?;
    let kept = TcpListener::from_std(listener.try_clone()?)?;
    let listener = TcpListener::from_std(listener)?;
    let (ends, ended) = oneshot::channel::<()>();
    let router = Router::new()
        .route("/-/healthy", get(healthy))
        .fallback(async || Problem::unavailable(&STARTING))
        .layer(middleware::from_fn_with_state(access.clone(), admit));
    let service = router.into_make_service_with_connect_info::<Remote>();
    let served = axum::serve(Door::new(listener, access), service);
    let served = served.with_graceful_shutdown(async {
        // Nobody sends anything.
        let _ = ended.await;
    });
    tokio::spawn(served.into_future());
    Ok((kept, ends))
}

async fn healthy() -> &'static str {
    "evenkeel is healthy.\n"
}

/// Serves until the listener fails.
pub async fn serve(listener: TcpListener, parts: Parts) {
    let Parts { hub, state_dir, committed, access, reloads, remote_reload } = parts;
    let web = Arc::new(Web {
        hub,
        access: access.clone(),
        reloads,
        remote_reload,
        views: Looks::kept(BETWEEN_LOOKS),
        peers: Looks::passing(BETWEEN_PEERS),
        events: Arc::new(Events::new(state_dir)),
        feed: Feed::new(),
    });
    tokio::spawn(page::feed::run(web.clone(), committed));
    let router = Router::new()
        .merge(page::routes())
        .merge(crate::api::routes())
        .route("/metrics", get(metrics))
        .route("/-/healthy", get(healthy))
        .route("/-/ready", get(ready))
        .route("/-/reload", post(reload).put(reload))
        .fallback(async || Problem::new(StatusCode::NOT_FOUND, "there is nothing here; see /"))
        .method_not_allowed_fallback(async |method: Method| {
            let detail = format!("{method} can't be done here; the header Allow says what can");
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail)
        })
        .layer(middleware::from_fn_with_state(access.clone(), admit))
        .with_state(web);
    let service = router.into_make_service_with_connect_info::<Remote>();
    if let Err(error) = axum::serve(Door::new(listener, access), service).await {
        tracing::error!("HTTP has ended: {error}");
    }
}

/// Lets in who may come in, and gives every answer its headers.
async fn admit(
    State(access): State<watch::Receiver<Arc<Access>>>,
    ConnectInfo(remote): ConnectInfo<Remote>,
    request: Request,
    next: Next,
) -> Response {
    let access = access.borrow().clone();
    let mut response = match access.admit(request.headers()).await {
        // Who came in before a reload may not have shown what is asked for since.
        Ok(()) if !remote.access.connects_as(&access) => {
            let problem = Problem::unavailable(&"what TLS asks for has changed; connect again");
            ([(header::CONNECTION, "close")], problem).into_response()
        }
        Ok(()) => next.run(request).await,
        Err(Refused::Unknown) => {
            let problem = Problem::new(StatusCode::UNAUTHORIZED, "name and password are needed");
            let challenge = "Basic realm=\"evenkeel\", charset=\"UTF-8\"";
            ([(header::WWW_AUTHENTICATE, challenge)], problem).into_response()
        }
        Err(Refused::Busy) => Problem::unavailable(
            &"too many passwords are being checked; one that was right before is let in at once",
        )
        .into_response(),
    };
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    for (name, value) in access.headers() {
        headers.insert(name, value.clone());
    }
    response
}

async fn metrics(State(web): State<Arc<Web>>) -> Response {
    match web.hub.metrics_page().await {
        Ok(page) => ([(header::CONTENT_TYPE, TEXT_FORMAT)], page).into_response(),
        Err(error) => Problem::unavailable(&error).into_response(),
    }
}

/// Ready is who has a configuration in force and answers: the page is served from then on.
async fn ready(State(web): State<Arc<Web>>) -> Response {
    // Whoever asks wants no lists, and may ask every second.
    match web.hub.snapshot(Detail { alarms: 0, episodes: 0, rejected: false }).await {
        Ok(_) => "evenkeel is ready.\n".into_response(),
        Err(error) => Problem::unavailable(&error).into_response(),
    }
}

/// Loads the configuration again, as SIGHUP does.
async fn reload(
    State(web): State<Arc<Web>>,
    ConnectInfo(Remote { from, .. }): ConnectInfo<Remote>,
    headers: HeaderMap,
) -> Response {
    if !*web.remote_reload.borrow() && !is_of_this_host(from, &headers) {
        return Problem::new(
            StatusCode::FORBIDDEN,
            "the configuration is loaded again by order of this host only; `remote_reload = true` in \
             [web] allows it to others",
        )
        .into_response();
    }
    match reloaded::order(&web.reloads).await {
        Ok(Ok(reloaded)) => reloaded.to_string().into_response(),
        Ok(Err(refused)) => {
            let refused = format!("{}{refused}", reloaded::REFUSED);
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, refused).into_response()
        }
        Err(error) => Problem::unavailable(&error).into_response(),
    }
}

/// Whether a request was made on this host, and by nobody's browser for the page of someone else.
fn is_of_this_host(from: SocketAddr, headers: &HeaderMap) -> bool {
    // A proxy on this host speaks for others.
    let for_others = ["forwarded", "x-forwarded-for", "via"];
    let of_page = headers.get("sec-fetch-site").is_none_or(|site| {
        site == HeaderValue::from_static("same-origin") || site == HeaderValue::from_static("none")
    });
    from.ip().to_canonical().is_loopback()
        && of_page
        && !for_others.iter().any(|name| headers.contains_key(*name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_of_this_host_is_no_order_of_a_proxy_nor_of_a_page_from_elsewhere() {
        let headers = |name: &'static str, value: &'static str| -> HeaderMap {
            let pair = (HeaderName::from_static(name), HeaderValue::from_static(value));
            [pair].into_iter().collect()
        };
        for (from, headers, expected) in [
            ("127.0.0.1:4000", HeaderMap::new(), true),
            ("[::1]:4000", HeaderMap::new(), true),
            ("[::ffff:127.0.0.1]:4000", HeaderMap::new(), true),
            ("192.0.2.1:4000", HeaderMap::new(), false),
            ("127.0.0.1:4000", headers("x-forwarded-for", "192.0.2.1"), false),
            ("127.0.0.1:4000", headers("sec-fetch-site", "cross-site"), false),
            ("127.0.0.1:4000", headers("sec-fetch-site", "same-origin"), true),
        ] {
            assert_eq!(is_of_this_host(from.parse().unwrap(), &headers), expected, "{from}");
        }
    }
}
