//! What Prometheus is told of the pair: see `../metrics.md`.

use std::time::Duration;

use evenkeel_core::{
    pair::{Role, paths::Channel, sync::Synchrony},
    shadow::ShadowStats,
};
use prometheus::proto::MetricFamily;

use super::view::View;
use crate::{clock::BootClock, families::Families};

/// The families of one moment.
pub fn families(view: &View, shadow: &ShadowStats) -> Vec<MetricFamily> {
    let mut page = Families::default();
    roles(&mut page, view);
    heartbeats(&mut page, view);
    state(&mut page, view);
    traps(&mut page, shadow);
    page.0
}

fn roles(page: &mut Families, view: &View) {
    let now = BootClock::now();
    let so = |so: bool| f64::from(u8::from(so));
    page.gauges(
        "evenkeel_pair_role",
        "Whether this agent has this role (1) or not (0).",
        ["role"],
        [Role::Undecided, Role::Standby, Role::Primary]
            .map(|role| ([role.name()], so(view.role == role))),
    );
    let known = view.known.map_or(0, |term| term.number);
    page.gauges(
        "evenkeel_pair_term",
        "The number of the highest term that this agent knows of.",
        [],
        [([], known as f64)],
    );
    let licence = view.speaks_until.map_or(Duration::ZERO, |until| until.since(now));
    page.gauges(
        "evenkeel_pair_licence_seconds",
        "How long this agent may still speak if it hears nothing more; 0 if it may not.",
        [],
        [([], licence.as_secs_f64())],
    );
    page.gauges(
        "evenkeel_pair_without_standby",
        "Whether this agent is primary and goes on without a standby (1).",
        [],
        [([], so(view.alone))],
    );
    page.gauges(
        "evenkeel_pair_held",
        "Whether nobody takes over, by an operator's order (1).",
        [],
        [([], so(view.held))],
    );
    page.gauges(
        "evenkeel_pair_mate_silent_seconds",
        "How long the mate has not been heard by any way.",
        [],
        [([], now.since(view.mate_heard).as_secs_f64())],
    );
    page.counters(
        "evenkeel_pair_takeovers_total",
        "Takeovers by this agent, by kind.",
        ["kind"],
        [("automatic", view.takeovers.automatic), ("ordered", view.takeovers.ordered)]
            .map(|(kind, count)| ([kind], count)),
    );
    page.gauges(
        "evenkeel_pair_takeovers_suppressed",
        "Whether the limit suppresses the next automatic takeover (1).",
        [],
        [([], so(view.suppressed_until.is_some_and(|until| until > now)))],
    );
}

fn heartbeats(page: &mut Families, view: &View) {
    let timeout = view.settings.timing.mate_timeout();
    let now = BootClock::now();
    page.counters(
        "evenkeel_pair_heartbeats_sent_total",
        "Heartbeats that left by a path.",
        ["path"],
        view.paths.iter().map(|path| ([&*path.interface], path.sent)),
    );
    page.counters(
        "evenkeel_pair_heartbeats_received_total",
        "Genuine heartbeats of the mate that came by a path.",
        ["path"],
        view.paths.iter().map(|path| ([&*path.interface], path.received)),
    );
    page.counters(
        "evenkeel_pair_heartbeats_not_sent_total",
        "Heartbeats that did not leave by a path.",
        ["path"],
        view.paths.iter().map(|path| ([&*path.interface], path.not_sent.values().sum())),
    );
    page.counters(
        "evenkeel_pair_heartbeats_discarded_total",
        "What came and was not taken in as a heartbeat, by reason.",
        ["reason"],
        view.discarded().map(|(why, count)| ([why], count)),
    );
    page.gauges(
        "evenkeel_pair_path_up",
        "Whether a heartbeat came by a path within the mate time-out (1) or not (0).",
        ["path"],
        view.paths
            .iter()
            .map(|path| ([&*path.interface], f64::from(u8::from(path.is_up(now, timeout))))),
    );
    page.counters(
        "evenkeel_pair_stalls_total",
        "How often the pair's thread stood still for more than a heartbeat.",
        [],
        [([], view.counters.stalls)],
    );
}

fn state(page: &mut Families, view: &View) {
    let channel = &view.channel;
    page.gauges(
        "evenkeel_pair_channel_up",
        "Whether the state channel is connected (1) or not (0).",
        [],
        [([], f64::from(u8::from(channel.state == Channel::Up)))],
    );
    page.counters(
        "evenkeel_pair_channel_failures_total",
        "How often the state channel went wrong, by what did; each failed attempt to connect counts.",
        ["cause"],
        channel.failures.each().map(|(cause, count)| ([cause], count)),
    );
    page.counters(
        "evenkeel_pair_channel_refused_total",
        "Connections and frames of the state channel that were refused, by reason.",
        ["reason"],
        channel.refusals.iter().map(|(why, count)| ([*why], *count)),
    );
    page.counters(
        "evenkeel_pair_channel_bytes_total",
        "Octets of frames on the state channel.",
        ["direction"],
        [("sent", channel.octets_sent), ("received", channel.octets_received)]
            .map(|(direction, count)| ([direction], count)),
    );
    let (in_sync, events, lag) = match view.synchrony {
        Synchrony::InSync { events, age, .. } => (true, events, age),
        Synchrony::Never | Synchrony::Copying { .. } | Synchrony::Stale { .. } => {
            (false, 0, Duration::ZERO)
        }
    };
    page.gauges(
        "evenkeel_pair_in_sync",
        "Whether all of the state is on both agents (1) but for what is under way.",
        [],
        [([], f64::from(u8::from(in_sync)))],
    );
    page.gauges(
        "evenkeel_pair_standby_lag_events",
        "Events that the standby has not acknowledged.",
        [],
        [([], f64::from(events))],
    );
    // Without synchronisation it is as old as what was synchronised last.
    let lag = match view.synchronised {
        Some(at) if !in_sync => BootClock::now().since(at),
        Some(_) | None => lag,
    };
    page.gauges(
        "evenkeel_pair_standby_lag_seconds",
        "How old what the standby lacks is.",
        [],
        [([], lag.as_secs_f64())],
    );
    page.counters(
        "evenkeel_pair_state_copies_total",
        "Full copies of the state that have begun.",
        [],
        [([], view.copies)],
    );
}

/// PAIR-12.
fn traps(page: &mut Families, shadow: &ShadowStats) {
    let ShadowStats { confirmed, expired, dropped, taken_in, kept, .. } = *shadow;
    page.gauges(
        "evenkeel_pair_shadow_traps",
        "Trap datagrams that this standby keeps, as the primary has not confirmed them yet.",
        [],
        [([], kept as f64)],
    );
    page.counters(
        "evenkeel_pair_shadow_traps_total",
        "Trap datagrams that came to this standby, by what became of them.",
        ["outcome"],
        [
            ("confirmed", confirmed),
            ("expired", expired),
            ("dropped", dropped),
            ("taken_in", taken_in),
        ]
        .map(|(outcome, count)| ([outcome], count)),
    );
}
