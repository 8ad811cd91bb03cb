//! What Prometheus is told of the peer monitor (PEER-14): numbers of groups and of the engine, as
//! metric families of the crate `prometheus`.
//!
//! They are made anew for each page from what the engine has counted, as its thread is not to touch what
//! a scrape locks. Series of single peers are in [`series`](super::series).

use std::time::Duration;

use evenkeel_core::peers::{Discard, GroupStats, Inconclusive, PeerState, ROUND_TRIP_BUCKETS};
use prometheus::proto::{Bucket, Histogram, MetricFamily};

use super::{
    engine::{EngineStats, LATENESS_BUCKETS, SocketStats},
    view::PeersView,
};
use crate::families::Families;

/// The families of one moment; none without a group.
pub fn families(view: &PeersView) -> Vec<MetricFamily> {
    let mut page = Families::default();
    if !view.settings.groups.is_empty() {
        page.requests(&view.stats.groups);
        page.peers(view);
        page.times(&view.stats.groups);
        page.whole(view);
        page.engine(&view.engine);
    }
    page.0
}

impl Families {
    fn requests(&mut self, groups: &[GroupStats]) {
        self.counters(
            "evenkeel_peers_requests_total",
            "Requests sent to peers, by the list that they left by.",
            ["group", "list"],
            groups.iter().flat_map(|group| {
                [("heartbeat", group.heartbeats), ("retransmission", group.retransmissions)]
                    .map(|(list, count)| ([&*group.name, list], count))
            }),
        );
        self.counters(
            "evenkeel_peers_answers_total",
            "Answers of peers that counted.",
            ["group"],
            groups.iter().map(|group| ([&*group.name], group.answers)),
        );
        self.counters(
            "evenkeel_peers_unanswered_total",
            "Requests that had no answer in time, but for those that say nothing of the peer.",
            ["group"],
            groups.iter().map(|group| ([&*group.name], group.unanswered)),
        );
        self.counters(
            "evenkeel_peers_inconclusive_total",
            "Requests without an answer that say nothing of the peer, as this host was to blame.",
            ["group", "reason"],
            groups.iter().flat_map(|group| {
                let counts = Inconclusive::ALL.iter().zip(group.inconclusive);
                counts.map(|(reason, count)| ([&*group.name, reason.name()], count))
            }),
        );
        self.counters(
            "evenkeel_peers_path_failures_total",
            "How often a peer was found down (no_answer), or said that it had restarted (restart).",
            ["group", "reason"],
            groups.iter().flat_map(|group| {
                [("no_answer", group.no_answer), ("restart", group.restarts)]
                    .map(|(reason, count)| ([&*group.name, reason], count))
            }),
        );
    }

    fn peers(&mut self, view: &PeersView) {
        let groups = &view.stats.groups;
        self.gauges(
            "evenkeel_peers",
            "Admitted peers by where they stand.",
            ["group", "state"],
            groups.iter().flat_map(|group| {
                let counts = PeerState::ALL.iter().zip(group.peers);
                counts.map(|(state, count)| ([&*group.name, state.name()], f64::from(count)))
            }),
        );
        let settings = &view.settings.groups;
        let admission = || settings.iter().zip(view.admission.iter());
        self.gauges(
            "evenkeel_peers_admitted",
            "Peers that are monitored.",
            ["group"],
            admission().map(|(group, count)| ([&*group.name], f64::from(count.admitted))),
        );
        self.gauges(
            "evenkeel_peers_refused",
            "Peers that are known and not monitored, as there are too many.",
            ["group"],
            admission().map(|(group, count)| ([&*group.name], f64::from(count.refused))),
        );
        self.gauges(
            "evenkeel_peers_limit",
            "How many peers there may be in all groups for a new one of this group to be admitted.",
            ["group"],
            settings.iter().map(|group| ([&*group.name], f64::from(group.limit))),
        );
    }

    fn times(&mut self, groups: &[GroupStats]) {
        self.gauges(
            "evenkeel_peers_sweep_seconds",
            "From the first to the last heartbeat of the latest whole sweep.",
            ["group"],
            groups.iter().filter_map(|group| Some(([&*group.name], group.sweep?.as_secs_f64()))),
        );
        let bounds = ROUND_TRIP_BUCKETS.map(Duration::from_micros);
        self.histograms(
            "evenkeel_peers_round_trip_seconds",
            "Round-trip times.",
            ["group"],
            groups.iter().map(|group| {
                let round_trips = &group.round_trips;
                let histogram = histogram(&bounds, &round_trips.buckets, round_trips.sum_micros);
                ([&*group.name], histogram)
            }),
        );
    }

    /// What is told of all groups together.
    fn whole(&mut self, view: &PeersView) {
        let stats = &view.stats;
        self.counters(
            "evenkeel_peers_answers_discarded_total",
            "What came to the peers' sockets and was no answer to an outstanding request, by reason.",
            ["reason"],
            Discard::ALL.iter().zip(stats.discarded).map(|(why, count)| ([why.name()], count)),
        );
        self.gauges(
            "evenkeel_peers_silent",
            "Peers that are tried again, or were found down within their last interval.",
            [],
            [([], f64::from(stats.silent))],
        );
        self.gauges(
            "evenkeel_peers_mass_silence",
            "Whether so many are silent at once (1) that detection is slowed on purpose.",
            [],
            [([], f64::from(u8::from(stats.mass_silence)))],
        );
        self.gauges(
            "evenkeel_peers_findings_waiting",
            "Raises and clears that wait to be told, at a bounded rate.",
            [],
            [([], f64::from(stats.untold))],
        );
        self.counters(
            "evenkeel_peers_heartbeats_skipped_total",
            "Heartbeats that never left, as this agent stood still for more than their interval.",
            [],
            [([], stats.skipped)],
        );
        self.counters(
            "evenkeel_peers_stalls_total",
            "How often the peer monitor stood still for so long that tries were inconclusive.",
            [],
            [([], stats.stalls)],
        );
        self.gauges(
            "evenkeel_peers_files",
            "Files that name peers.",
            [],
            [([], view.files.len() as f64)],
        );
        let failed = view.files.iter().filter(|file| file.problem.is_some()).count();
        self.gauges(
            "evenkeel_peers_files_failed",
            "Of these, those that could not be read; the peers that they named before are kept.",
            [],
            [([], failed as f64)],
        );
        self.counters(
            "evenkeel_peers_file_readings_total",
            "How often such a file was read, by whether it went well.",
            ["result"],
            [["ok"], ["failed"]].into_iter().zip(view.readings),
        );
    }

    fn engine(&mut self, engine: &EngineStats) {
        let late = &engine.lateness;
        self.histograms(
            "evenkeel_peers_batch_lateness_seconds",
            "How late batches of heartbeats left after the first of each was due.",
            [],
            [([], histogram(&LATENESS_BUCKETS, &late.buckets, late.sum_micros))],
        );
        self.counters(
            "evenkeel_peers_send_errors_total",
            "Requests that the kernel did not take, by its error.",
            ["error"],
            engine.send_errors.iter().map(|(error, count)| ([*error], *count)),
        );
        self.counters(
            "evenkeel_peers_mobility_messages_total",
            "Messages of Proxy Mobile IPv6 by what became of them.",
            ["event"],
            engine.mobility.by_name().map(|(event, count)| ([event], count)),
        );
        self.sockets(engine, "sent_total", "Requests sent.", |socket| socket.sent);
        self.sockets(engine, "received_total", "What came to it.", |socket| socket.received);
        let help = "What the kernel dropped before it could be read.";
        self.sockets(engine, "drops_total", help, |socket| socket.kernel_drops);
        let help = "The receive buffer that the kernel granted.";
        self.sockets(engine, "buffer_bytes", help, |socket| socket.buffer_granted as u64);
        let help = "The receive buffer that was asked for.";
        self.sockets(engine, "buffer_asked_bytes", help, |socket| socket.buffer_asked as u64);
    }

    /// One number of each socket.
    fn sockets(
        &mut self,
        engine: &EngineStats,
        name: &str,
        help: &str,
        number: impl Fn(&SocketStats) -> u64,
    ) {
        let sources: Vec<String> = engine
            .sockets
            .iter()
            .map(|socket| socket.source.map(|source| source.to_string()).unwrap_or_default())
            .collect();
        let rows = engine.sockets.iter().zip(&sources).map(|(socket, source)| {
            let family = if socket.v4 { "ipv4" } else { "ipv6" };
            let kind = if socket.raw { "raw" } else { "ping" };
            ([family, kind, &**source], number(socket))
        });
        let name = format!("evenkeel_peers_socket_{name}");
        let labels = ["family", "kind", "source"];
        if name.ends_with("_total") {
            self.counters(&name, help, labels, rows);
        } else {
            self.gauges(&name, help, labels, rows.map(|(values, number)| (values, number as f64)));
        }
    }
}

/// A histogram from counts of what was in each bucket and in none before it; the last one of
/// `counts` is beyond every bound, which the encoder makes `+Inf` of.
fn histogram(bounds: &[Duration], counts: &[u64], sum_micros: u64) -> Histogram {
    let mut cumulative = 0;
    let buckets = bounds.iter().zip(counts).map(|(bound, count)| {
        cumulative += count;
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(bound.as_secs_f64());
        bucket.set_cumulative_count(cumulative);
        bucket
    });
    let mut histogram = Histogram::default();
    histogram.set_bucket(buckets.collect());
    histogram.set_sample_count(counts.iter().sum());
    histogram.set_sample_sum(sum_micros as f64 / 1e6);
    histogram
}

#[cfg(test)]
mod tests {
    use prometheus::TextEncoder;

    use super::{super::testing::sample, *};

    fn page() -> String {
        TextEncoder::new().encode_to_string(&families(&sample())).unwrap()
    }

    #[test]
    fn peer_14_groups_have_their_statistics() {
        let page = page();
        for line in [
            r#"evenkeel_peers_requests_total{group="core",list="heartbeat"} 600"#,
            r#"evenkeel_peers_requests_total{group="core",list="retransmission"} 12"#,
            r#"evenkeel_peers_answers_total{group="core"} 590"#,
            r#"evenkeel_peers_answers_discarded_total{reason="wrong_token"} 5"#,
            r#"evenkeel_peers_inconclusive_total{group="core",reason="neighbour_table_full"} 7"#,
            r#"evenkeel_peers_path_failures_total{group="core",reason="no_answer"} 2"#,
            r#"evenkeel_peers_path_failures_total{group="edge",reason="restart"} 3"#,
            r#"evenkeel_peers{group="edge",state="down"} 1"#,
            r#"evenkeel_peers_admitted{group="core"} 6"#,
            r#"evenkeel_peers_refused{group="edge"} 2"#,
            r#"evenkeel_peers_limit{group="edge"} 7"#,
            r#"evenkeel_peers_sweep_seconds{group="core"} 46.6"#,
            "evenkeel_peers_mass_silence 1",
            r#"evenkeel_peers_socket_drops_total{family="ipv6",kind="ping",source="2001:db8::1"} 17"#,
            r#"evenkeel_peers_send_errors_total{error="ENETUNREACH"} 2"#,
            "evenkeel_peers_files 1",
            "evenkeel_peers_files_failed 1",
        ] {
            assert!(page.lines().any(|there| there == line), "no {line} in:\n{page}");
        }
        // A group that has not swept yet has no time for it.
        assert!(!page.contains(r#"evenkeel_peers_sweep_seconds{group="edge"}"#));
    }

    #[test]
    fn peer_14_round_trips_are_a_histogram() {
        let page = page();
        let name = "evenkeel_peers_round_trip_seconds";
        let told: Vec<_> = page
            .lines()
            .filter_map(|line| line.strip_prefix(name))
            .filter(|line| line.contains("core"))
            .collect();
        assert_eq!(told.len(), ROUND_TRIP_BUCKETS.len() + 3);
        for line in [
            r#"_bucket{group="core",le="0.0001"} 0"#,
            r#"_bucket{group="core",le="0.001"} 0"#,
            r#"_bucket{group="core",le="0.0025"} 100"#,
            r#"_bucket{group="core",le="10"} 100"#,
            r#"_bucket{group="core",le="+Inf"} 100"#,
            r#"_sum{group="core"} 0.2"#,
            r#"_count{group="core"} 100"#,
        ] {
            assert!(told.contains(&line), "no {line} in {told:?}");
        }
        assert!(page.contains("evenkeel_peers_batch_lateness_seconds_bucket{le=\"0.0005\"} 99"));
        assert!(page.contains("evenkeel_peers_batch_lateness_seconds_count 100"));
    }
}
