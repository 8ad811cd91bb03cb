//! What is live: sections that have changed, sent to whoever watches.
//!
//! One task looks for all viewers together, and only while there are any: once a second on average, at once
//! when an alarm was written to the journal. What it makes is put where all viewers find the latest; so who
//! reads slowly misses what was in between, and holds up nobody.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    extract::State,
    response::{
        IntoResponse, Response, Sse,
        sse::{Event, KeepAlive},
    },
};
use maud::Markup;
use serde::Serialize;
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, watch},
    time::{Instant, sleep_until, timeout_at},
};

use super::{
    last_events,
    sections::{DRAWN, Sections, failing},
    traces::Traces,
};
use crate::web::{Web, access::Access, problem::Problem};

/// How often there is a look though no alarm was written.
pub const PERIOD: Duration = Duration::from_secs(2);

/// One look a second on average.
const EACH: Duration = Duration::from_secs(1);

/// How many may watch: a control room, and a few from home.
const VIEWERS: usize = 32;

/// After so long without news a viewer's browser is told that it is still connected.
const BREATH: Duration = Duration::from_secs(10);

/// What was looked at last, in sections.
#[derive(Default)]
struct Latest {
    /// Grows with each look.
    look: u64,
    /// When, in UTC.
    at: String,
    sections: Vec<Section>,
}

#[derive(Clone)]
struct Section {
    id: &'static str,
    /// The look that it changed in.
    changed: u64,
    html: Arc<str>,
}

/// Where viewers find what is live.
pub struct Feed {
    latest: watch::Sender<Arc<Latest>>,
    came: Arc<Notify>,
    room: Arc<Semaphore>,
    traces: Mutex<Traces>,
}

impl Feed {
    /// A feed that nobody watches yet.
    pub fn new() -> Feed {
        Feed {
            latest: watch::Sender::default(),
            came: Arc::default(),
            room: Arc::new(Semaphore::new(VIEWERS)),
            traces: Mutex::default(),
        }
    }

    /// What was seen of the traps of unstable objects.
    pub fn traces(&self) -> Traces {
        self.lock_traces().clone()
    }

    fn lock_traces(&self) -> std::sync::MutexGuard<'_, Traces> {
        self.traces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts sections where the viewers find them. What is not among them stays as it was, and of the moment
    /// that it was of.
    fn put(&self, at: Option<String>, sections: impl IntoIterator<Item = (&'static str, Markup)>) {
        let before = self.latest.borrow().clone();
        let look = before.look + 1;
        let mut after = before.sections.clone();
        for (id, markup) in sections {
            let html = markup.into_string();
            match after.iter_mut().find(|section| section.id == id) {
                Some(section) if *section.html == *html => {}
                Some(section) => *section = Section { id, changed: look, html: html.into() },
                None => after.push(Section { id, changed: look, html: html.into() }),
            }
        }
        let at = at.unwrap_or_else(|| before.at.clone());
        self.latest.send_replace(Arc::new(Latest { look, at, sections: after }));
    }
}

/// When there may be looks: one in each [`EACH`] on average, and two in a row after a time without. So an
/// alarm that is written when all was quiet is shown at once, and a storm of them each second.
struct Pace {
    /// Where the next look stands in a sequence without gaps.
    next: Instant,
}

impl Pace {
    fn may_look_at(&self) -> Instant {
        self.next - EACH
    }

    fn looks(&mut self, now: Instant) {
        self.next = self.next.max(now) + EACH;
    }
}

/// Looks for all viewers, for ever.
pub async fn run(web: Arc<Web>, mut committed: watch::Receiver<u64>) {
    let mut pace = Pace { next: Instant::now() };
    let mut looked = Instant::now();
    loop {
        if web.feed.latest.receiver_count() == 0 {
            web.feed.came.notified().await;
        } else {
            let woken = async {
                tokio::select! {
                    // Without the store there are no more alarms to wait for.
                    Ok(()) = committed.changed() => {}
                    () = web.feed.came.notified() => {}
                }
            };
            let _ = timeout_at(looked + PERIOD, woken).await;
        }
        sleep_until(pace.may_look_at()).await;
        looked = Instant::now();
        pace.looks(looked);
        committed.borrow_and_update();
        look(&web).await;
    }
}

async fn look(web: &Web) {
    let view = match web.view(Duration::ZERO).await {
        Ok(view) => view,
        Err(error) => return web.feed.put(None, [("verdict", failing(&error.to_string()))]),
    };
    let events = last_events(&web.events).await;
    let traces = {
        let mut traces = web.feed.lock_traces();
        traces.note(&view.status, DRAWN);
        traces.clone()
    };
    let at = view.status.agent.at.clone();
    web.feed.put(Some(at), Sections::new(&view, &events, &traces).live());
}

/// What a viewer is sent.
#[derive(Serialize)]
struct Change<'a> {
    at: &'a str,
    version: &'static str,
    sections: Vec<(&'static str, &'a str)>,
}

impl Latest {
    /// What has changed since a look, as an event.
    fn since(&self, look: u64) -> Event {
        let changed = self.sections.iter().filter(|section| section.changed > look);
        let change = Change {
            at: &self.at,
            version: env!("CARGO_PKG_VERSION"),
            sections: changed.map(|section| (section.id, &*section.html)).collect(),
        };
        // Of strings there is always a document.
        Event::default().data(serde_json::to_string(&change).unwrap_or_default())
    }
}

/// A viewer, from one look to the next.
struct Viewer {
    latest: watch::Receiver<Arc<Latest>>,
    access: watch::Receiver<Arc<Access>>,
    /// The last look that it was sent.
    sent: u64,
    _place: OwnedSemaphorePermit,
}

/// The stream of changes for one viewer. It begins with everything, as the page that the browser has may
/// be of an earlier moment, or even of an earlier agent.
pub async fn live(State(web): State<Arc<Web>>) -> Response {
    let Ok(place) = web.feed.room.clone().try_acquire_owned() else {
        let problem = Problem::unavailable(&format!("{VIEWERS} watch already, which is the most"));
        return problem.into_response();
    };
    let (latest, access) = (web.feed.latest.subscribe(), web.access());
    let viewer = Viewer { latest, access, sent: 0, _place: place };
    web.feed.came.notify_one();
    let stream = futures_util::stream::unfold(viewer, |mut viewer| async {
        tokio::select! {
            changed = viewer.latest.changed() => changed.ok()?,
            // After a reload the browser comes again, and has to show what is asked for now.
            _ = viewer.access.changed() => return None,
        }
        let latest = viewer.latest.borrow_and_update().clone();
        let event = latest.since(viewer.sent);
        viewer.sent = latest.look;
        Some((Ok::<_, Infallible>(event), viewer))
    });
    Sse::new(stream).keep_alive(KeepAlive::new().interval(BREATH)).into_response()
}

#[cfg(test)]
mod tests {
    use maud::html;

    use super::*;

    #[test]
    fn looks_are_one_a_second_and_two_in_a_row_at_most() {
        let start = Instant::now();
        let mut pace = Pace { next: start };
        let mut now = start;
        let mut looks = Vec::new();
        for _ in 0..5 {
            now = now.max(pace.may_look_at());
            pace.looks(now);
            looks.push((now - start).as_millis());
        }
        assert_eq!(looks, [0, 0, 1_000, 2_000, 3_000]);
        // After a time of quiet looks, an alarm is looked at when it comes.
        let mut pace = Pace { next: start };
        for second in [0, 2, 4, 6] {
            let due = start + Duration::from_secs(second);
            assert!(pace.may_look_at() <= due);
            pace.looks(due);
        }
        assert!(pace.may_look_at() <= start + Duration::from_secs(6));
    }

    #[test]
    fn only_what_has_changed_is_sent() {
        let feed = Feed::new();
        let viewer = feed.latest.subscribe();
        let sent = |since: u64| format!("{:?}", viewer.borrow().since(since));
        feed.put(Some("a".to_owned()), [("one", html! { "1" }), ("two", html! { "2" })]);
        assert!(sent(0).contains("one") && sent(0).contains("two"));
        feed.put(Some("b".to_owned()), [("one", html! { "1" }), ("two", html! { "3" })]);
        assert!(!sent(1).contains("one") && sent(1).contains("two"), "{}", sent(1));
        assert!(sent(0).contains("one"), "who has missed a look is sent all that it has missed");
        assert!(!sent(2).contains("one") && !sent(2).contains("two"));
        feed.put(None, [("two", html! { "4" })]);
        assert!(sent(0).contains("one") && sent(2).contains("two"), "what is not put anew stays");
        assert_eq!(viewer.borrow().at, "b");
    }
}
