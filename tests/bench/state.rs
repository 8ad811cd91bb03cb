//! How much memory the core's peer monitor takes for each peer, apart from all that is around it.

use std::{net::IpAddr, num::NonZeroU32, time::Duration};

use evenkeel_core::{
    peers::{
        Answer, Change, Monitor,
        settings::{Batch, Batches, Group, Settings},
    },
    time::Time,
};

use super::field::Family;

/// Octets of the heap for each of so many peers that are asked once per interval, and answer, after
/// three rounds on a simulated clock.
pub fn of_each_peer(peers: u32, interval: Duration) -> f64 {
    let size = |size| NonZeroU32::new(size).expect("not zero");
    let fast = interval <= Duration::from_secs(1);
    let batch = Batch { size: size(2000), interval: Duration::from_millis(10) };
    let batches =
        if fast { Batches { heartbeat: batch, retransmission: batch } } else { Batches::DEFAULT };
    let timeout = Duration::from_millis(if fast { 500 } else { 3000 });
    let group = Group { interval, timeout, limit: peers, ..Group::named("bench") };
    let settings = Settings { batches, groups: vec![group] };

    let mut requests = Vec::with_capacity(4 * size(2000).get() as usize);
    let before = in_use();
    let start = Time::from_secs(1000);
    let mut monitor = Monitor::new(&settings, 7, false, start);
    for place in 0..peers {
        let address = Family::V4.peer(place);
        let add = Change::Add { place, address, group: 0, enabled: true, down: false };
        monitor.apply(&add, start);
    }
    let mut now = start;
    while now < start + 3 * interval {
        now = monitor.next_deadline().unwrap_or(now).max(now + Duration::from_millis(1));
        monitor.judge(now);
        requests.clear();
        monitor.take_requests(now, &mut requests);
        for request in &requests {
            let answer = Answer {
                place: request.place,
                source: IpAddr::clone(&request.address),
                sequence: request.sequence,
                token: Some(request.token),
                interface: Some(2),
                received: now + Duration::from_micros(100),
                sent: Some(now),
                restart_counter: None,
            };
            monitor.answer(&answer).expect("it is outstanding");
        }
        while monitor.poll_finding(now).is_some() {}
    }
    let used = in_use() - before;
    assert_eq!(monitor.stats().groups[0].unanswered, 0, "all have answered");
    used as f64 / f64::from(peers)
}

/// Octets of the heap, of what was mapped on its own too (mallinfo(3)).
fn in_use() -> usize {
    // SAFETY: it has no preconditions.
    let info = unsafe { libc::mallinfo2() };
    info.uordblks + info.hblkhd
}
