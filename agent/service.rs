//! What the service manager is told (sd_notify(3)): that the agent is ready, that it reads its configuration
//! again, that it stops, and, where it has a watchdog, that it is alive. Where there is no service manager
//! nothing is told, and nothing is missing.

use std::{sync::Arc, time::Duration};

use sd_notify::NotifyState;
use tokio::{
    sync::oneshot,
    time::{sleep, timeout},
};

use crate::{driver::Request, hub::Hub};

/// It takes traps in and answers questions.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// It reads its configuration again; [`ready`] says that it has.
pub fn reloading() {
    // The moment is what `Type=notify-reload` asks for; others take no notice of it.
    let now = NotifyState::monotonic_usec_now();
    tell(&[NotifyState::Reloading]);
    if let Ok(now) = now {
        tell(&[now]);
    }
}

/// It stops in an orderly way.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Tells the watchdog three times in each of its periods that the agent is alive. That is said only when the
/// core has answered: one that hangs is killed and started again by the service manager, and goes on from
/// what is on the disk.
pub async fn watch(hub: Arc<Hub>) {
    let Some(period) = sd_notify::watchdog_enabled() else { return };
    let third = period / 3;
    loop {
        if timeout(third, answers(&hub)).await == Ok(true) {
            tell(&[NotifyState::Watchdog]);
        }
        sleep(third.max(Duration::from_millis(1))).await;
    }
}

async fn answers(hub: &Hub) -> bool {
    let (answer, answered) = oneshot::channel();
    hub.ask(Request::Alive(answer)).await.is_ok() && answered.await.is_ok()
}

/// Whoever does not listen has only themselves to blame.
fn tell(state: &[NotifyState<'_>]) {
    let _ = sd_notify::notify(state);
}
