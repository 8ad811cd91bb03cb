//! `surge-ping` used the plain way, as its examples show: one client, a task for each peer.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use surge_ping::{Client, Config, PingIdentifier, PingSequence};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::bare_peers::{Outcome, Pace};
use super::field::Family;

/// As much as `ping` and fping send.
const PAYLOAD: [u8; 56] = [0; 56];
/// How long an answer is waited for.
const TIME_OUT: Duration = Duration::from_secs(2);

/// Asks all peers in turn for as long as told.
///
/// # Errors
///
/// There is no socket or no runtime to be had.
pub fn run(pace: Pace, duration: Duration) -> std::io::Result<Outcome> {
    tokio::runtime::Runtime::new()?.block_on(async {
        let client = Client::new(&Config::default())?;
        let counts = Arc::new((AtomicU64::new(0), AtomicU64::new(0)));
        // The peers' turns are spread over the interval from the start.
        let start = Instant::now() + Duration::from_millis(500);
        let end = start + duration;
        let mut tasks = Vec::with_capacity(pace.peers as usize);
        for place in 0..pace.peers {
            let (client, counts) = (client.clone(), counts.clone());
            let first = start + pace.interval.mul_f64(f64::from(place) / f64::from(pace.peers));
            tasks.push(tokio::spawn(async move {
                ask(client, Family::V4.peer(place), place, first, pace.interval, end, &counts)
                    .await;
            }));
        }
        for task in tasks {
            task.await.map_err(std::io::Error::other)?;
        }
        let (sent, answered) = (&counts.0, &counts.1);
        let (sent, answered) = (sent.load(Ordering::Relaxed), answered.load(Ordering::Relaxed));
        Ok(Outcome { sent, answered })
    })
}

/// One peer's task.
async fn ask(
    client: Client,
    peer: IpAddr,
    place: u32,
    first: Instant,
    interval: Duration,
    end: Instant,
    counts: &(AtomicU64, AtomicU64),
) {
    let mut pinger = client.pinger(peer, PingIdentifier(place as u16)).await;
    pinger.timeout(TIME_OUT);
    let mut turns = interval_at(first, interval);
    turns.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut sequence = 0_u16;
    while turns.tick().await < end {
        counts.0.fetch_add(1, Ordering::Relaxed);
        if pinger.ping(PingSequence(sequence), &PAYLOAD).await.is_ok() {
            counts.1.fetch_add(1, Ordering::Relaxed);
        }
        sequence = sequence.wrapping_add(1);
    }
}
