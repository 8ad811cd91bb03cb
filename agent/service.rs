//! What the service manager is told (sd_notify(3)): that the agent is ready, that it reads its configuration
//! again, that it stops, and, where it has a watchdog, that it is alive. Where there is no service manager
//! nothing is told, and nothing is missing.

use std::time::Duration;

use sd_notify::NotifyState;

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

/// The period of the watchdog, if there is one: in it, [`alive`] is to be said.
pub fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}

/// It is alive. To be said by the supervisor alone, which knows (PAIR-9): an agent that does not say so is
/// killed and started again by the service manager, and goes on from what is on the disk.
pub fn alive() {
    tell(&[NotifyState::Watchdog]);
}

/// Whoever does not listen has only themselves to blame.
fn tell(state: &[NotifyState<'_>]) {
    let _ = sd_notify::notify(state);
}
