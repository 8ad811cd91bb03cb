//! The outbox's sign of life.
//!
//! A target's task may sleep for as long as there is nothing to send, and there may be hundreds. So the
//! outbox is asked as a whole: the runtime that its tasks are on must run a task, the threads that read for
//! it must have one free, and every lock that sending takes must come free.

use std::sync::Arc;

use evenkeel_core::supervision::Part;
use tokio::{
    task::spawn_blocking,
    time::{MissedTickBehavior, interval},
};

use super::pulse::{Pulse, SIGN};
use crate::hub::Hub;

/// Gives a sign of life for the outbox as long as it can send.
pub async fn show_life(hub: Arc<Hub>) {
    let pulse = Pulse::of_task(Part::Outbox);
    let mut tick = interval(SIGN);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let passage = hub.notifier().passage();
        if spawn_blocking(passage).await.is_ok() {
            pulse.beat();
        }
    }
}
