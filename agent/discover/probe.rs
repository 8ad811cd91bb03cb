//! Polls the candidates: the same echoes, sockets and ears that the agent polls with, driven by the
//! core's [`Probe`].

use std::{
    hash::{BuildHasher, RandomState},
    io::Write,
    time::Duration,
};

use anyhow::Context;
use evenkeel_core::{
    input::Host,
    plan::FlowKey,
    probe::{POLLS, Probe},
    supervision::Part,
    time::Time,
};
use tokio::{sync::mpsc, time::sleep};

use crate::{
    clock::Clock,
    ear::{self, Limits, icmp},
    pinger::{Pinger, SendError},
};

/// How long the ear may take to hand in what it holds before it is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// Polls these flows side by side, which takes two seconds at most, and shows at the terminal how far
/// it is if somebody watches.
///
/// # Errors
///
/// This process may not poll.
pub async fn run(flows: Vec<FlowKey>, host: &Host, watched: bool) -> anyhow::Result<Probe> {
    let identifier = RandomState::new().hash_one(std::process::id()) as u16;
    // First of all, so that who may not poll hears of it even where there is nobody to poll.
    let sockets = icmp::open_each(identifier)?;
    let (sender, mut batches) = mpsc::unbounded_channel();
    let ear = ear::spawn("replies", Part::Poller, sockets, sender, Limits::default())?;
    let mut pinger = Pinger::new();
    let mut probe = Probe::new(flows, identifier, Clock::now());
    let mut asked = Time::ZERO;
    while let Some(due) = probe.next_deadline() {
        let wake = due.max(asked + ASK_AGAIN);
        tokio::select! {
            biased;
            batch = batches.recv() => {
                let batch = batch.context("the ear for replies ended")?;
                for (meta, bytes) in batch.iter() {
                    // Others' pings, and what is broken, say nothing.
                    if let Ok(reply) = icmp::parse(meta, bytes, identifier) {
                        probe.reply(&reply);
                    }
                }
                probe.heard(batch.heard);
            }
            () = sleep(wake.since(Clock::now())) => {
                asked = Clock::now();
                ear.ask();
            }
        }
        while let Some(echo) = probe.poll_transmit(Clock::now()) {
            match pinger.send(&echo, host).await {
                Ok(()) => {}
                Err(denied @ SendError::NotPermitted) => return Err(denied.into()),
                Err(failed) => probe.send_failed(&failed.into_input(&echo)),
            }
        }
        if watched {
            show_progress(&probe);
        }
    }
    if watched {
        clear_line();
    }
    Ok(probe)
}

/// Overwrites the line on standard error; who can't be told is not told.
fn show_progress(probe: &Probe) {
    let flows = probe.flows();
    let answering = flows.iter().filter(|flow| flow.answered() > 0).count();
    let (rounds, flows) = (probe.rounds(), flows.len());
    let _ = write!(
        std::io::stderr().lock(),
        "\r\x1b[Kpoll {rounds} of {POLLS}: {answering} of {flows} have answered"
    );
}

fn clear_line() {
    let _ = write!(std::io::stderr().lock(), "\r\x1b[K");
}
