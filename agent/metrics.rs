//! What Prometheus is told: the agent's own metrics, by the crate `prometheus`.
//!
//! Each scrape takes one [`Snapshot`] and sets every metric from it, so that a page is of one
//! moment. Those of peers and of a pair are added to it by [`peers::metrics`], [`peers::series`] and
//! [`pair::metrics`]. `metrics.md`
//! beside this file lists them all with what each costs.

use std::sync::{Arc, Mutex, PoisonError, atomic::Ordering};

use evenkeel_core::{
    access::Refused,
    alarm::{ClearReason, Kind, Object},
    flow::{FlowState, ReplyOutcome},
    instability::Outcome,
    standby::Part,
    subnets::Moves,
    trap::{Form, Malformed},
    usm::{Step, UsmStats},
};
use prometheus::{
    Counter, Gauge, GaugeVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder, core::Collector, process_collector::ProcessCollector,
};

use crate::{
    ear::{EarStats, icmp},
    notifier::TargetStats,
    pair::{self, View},
    peers::{self, view::PeersView},
    snapshot::Snapshot,
    supervisor::PartView,
};

/// Unstable objects with a series of their own at most: a storm that makes everything unstable
/// must not make the page as large as the network. How many were left out is a metric, too.
pub const UNSTABLE_SERIES: usize = 1_000;

/// All metrics.
pub struct Metrics(Mutex<Inner>);

/// What metrics are told beside the snapshot.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// Whether the last reload was taken.
    pub reload_ok: bool,
    /// When the configuration in force was loaded, in seconds since 1970.
    pub reloaded_at: f64,
    /// How the notification targets fare.
    pub targets: Vec<TargetStats>,
    /// How the agent's own parts fare.
    pub parts: Vec<PartView>,
    /// The pair, of an agent that has a mate.
    pub pair: Option<Arc<View>>,
}

macro_rules! metrics {
    ($($(#[doc = $help:literal])+ $name:ident: $type:ident, $prometheus:literal $(, [$($label:literal),+])?;)+) => {
        /// The names and labels of those that the registry has.
        #[cfg(test)]
        const REGISTERED: &[(&str, &[&str])] = &[$(($prometheus, &[$($($label),+)?])),+];

        struct Inner {
            registry: Registry,
            $($name: $type,)+
        }

        impl Inner {
            fn new() -> prometheus::Result<Inner> {
                let registry = Registry::new();
                $(
                    let help = concat!($($help),+).trim();
                    let $name = metrics!(@new $type, $prometheus, help $(, [$($label),+])?)?;
                    registry.register(Box::new($name.clone()))?;
                )+
                registry.register(Box::new(ProcessCollector::for_self()))?;
                Ok(Inner { registry, $($name,)+ })
            }
        }
    };
    (@new $type:ident, $prometheus:literal, $help:ident) => {
        $type::with_opts(Opts::new($prometheus, $help))
    };
    (@new $type:ident, $prometheus:literal, $help:ident, [$($label:literal),+]) => {
        $type::new(Opts::new($prometheus, $help), &[$($label),+])
    };
}

metrics! {
    /// The version of this agent; always 1.
    build_info: IntGaugeVec, "evenkeel_build_info", ["version"];
    /// Active alarms by kind and severity.
    alarms_active: IntGaugeVec, "evenkeel_alarms_active", ["kind", "severity"];
    /// Alarms raised since the start.
    alarms_raised: IntCounterVec, "evenkeel_alarms_raised_total", ["kind"];
    /// Alarms cleared since the start, by reason.
    alarms_cleared: IntCounterVec, "evenkeel_alarms_cleared_total", ["kind", "reason"];
    /// Datagrams that reached the core through the trap sockets.
    traps_received: IntCounter, "evenkeel_traps_received_total";
    /// Octets of those datagrams.
    traps_octets: IntCounter, "evenkeel_traps_received_bytes_total";
    /// Traps taken in, by what became of them.
    traps_taken: IntCounterVec, "evenkeel_traps_taken_total", ["outcome"];
    /// Traps taken in, by the form that they came in.
    traps_forms: IntCounterVec, "evenkeel_traps_by_form_total", ["form"];
    /// Informs among the traps taken in, those that were sent again too.
    informs: IntCounter, "evenkeel_informs_taken_total";
    /// Informs that wait to be safe before they are answered.
    answers_waiting: IntGauge, "evenkeel_answers_waiting";
    /// Responses and Reports sent.
    answers_sent: IntCounter, "evenkeel_answers_sent_total";
    /// Responses and Reports that could not be sent; whoever waits for one asks again.
    answers_failed: IntCounter, "evenkeel_answers_failed_total";
    /// SNMPv3 messages that were authentic and readable, by level.
    v3_opened: IntCounterVec, "evenkeel_snmpv3_messages_total", ["level"];
    /// SNMPv3 messages that were not taken in, by the step that they failed at.
    v3_refused: IntCounterVec, "evenkeel_snmpv3_refused_total", ["step"];
    /// The counters of SNMP-USER-BASED-SM-MIB (RFC 3414, section 5).
    usm_stats: IntCounterVec, "evenkeel_usm_stats_total", ["counter"];
    /// Reports made, which tell a sender what is wrong with its message.
    v3_reports: IntCounter, "evenkeel_snmpv3_reports_total";
    /// SNMP engines in memory.
    engines: IntGauge, "evenkeel_snmp_engines";
    /// SNMP engines learned at first sight.
    engines_learned: IntCounter, "evenkeel_snmp_engines_learned_total";
    /// SNMP engines that gave way to others, as the table was full.
    engines_evicted: IntCounter, "evenkeel_snmp_engines_gave_way_total";
    /// Traps that the rules sent on to a notification target.
    traps_forwarded: IntCounterVec, "evenkeel_traps_forwarded_total", ["target"];
    /// Traps that were held back, as their object was unstable already.
    traps_suppressed: IntCounter, "evenkeel_traps_suppressed_total";
    /// Traps that did not go on, as the same datagram had just gone on.
    traps_doubled: IntCounter, "evenkeel_traps_forwarding_doubled_total";
    /// Forwarded traps that a notification target was not sent, by reason.
    forward_failed: IntCounterVec, "evenkeel_traps_forwarding_failed_total", ["target", "reason"];
    /// Forwarded traps that went without their source address though it was asked for, by reason.
    forward_without_source: IntCounterVec, "evenkeel_traps_forwarded_without_source_total", ["target", "reason"];
    /// Octets that wait to be forwarded to targets that do not acknowledge.
    forward_waiting: IntGauge, "evenkeel_forwarder_queue_bytes";
    /// Entries of the spool written since the start.
    spool_entries: IntCounter, "evenkeel_spool_entries_total";
    /// Octets of the spool on the disk.
    spool_size: IntGauge, "evenkeel_spool_size_bytes";
    /// Octets that wait to be written to the spool.
    spool_waiting: IntGauge, "evenkeel_spool_waiting_bytes";
    /// How often the spool was forced to the disk.
    spool_syncs: IntCounter, "evenkeel_spool_syncs_total";
    /// The time that this took.
    spool_sync_seconds: Counter, "evenkeel_spool_sync_seconds_total";
    /// Failed attempts to write the spool.
    spool_failures: IntCounter, "evenkeel_spool_failures_total";
    /// Traps of the spool that an earlier run took in and that were judged again.
    spool_replayed: IntCounter, "evenkeel_spool_replayed_total";
    /// Traps that the mate had taken in as primary, and that went on from here.
    spool_handed_over: IntCounter, "evenkeel_spool_handed_over_total";
    /// Entries that were deleted before a notification target had them, as the spool was too large.
    spool_lost: IntCounterVec, "evenkeel_spool_lost_total", ["target"];
    /// Datagrams that were not taken in, by reason.
    traps_discarded: IntCounterVec, "evenkeel_traps_discarded_total", ["reason"];
    /// Datagrams that the kernel dropped before they could be read.
    trap_drops: IntCounterVec, "evenkeel_trap_socket_drops_total", ["listen"];
    /// The receive buffer that the kernel granted.
    trap_buffer: IntGaugeVec, "evenkeel_trap_socket_buffer_bytes", ["listen"];
    /// Octets that have been read and wait for the core.
    trap_waiting: IntGauge, "evenkeel_trap_queue_bytes";
    /// Systems and interfaces in memory.
    objects: IntGauge, "evenkeel_objects";
    /// Systems and interfaces that are unstable.
    objects_unstable: IntGauge, "evenkeel_objects_unstable";
    /// Systems and interfaces that gave way as the table was full.
    objects_gave_way: IntCounter, "evenkeel_objects_gave_way_total";
    /// Links that the configuration and topology files name.
    links: IntGauge, "evenkeel_links";
    /// Unstable interfaces, each 1, the first 1000 of them.
    interface_unstable: IntGaugeVec, "evenkeel_interface_unstable", ["system", "if_index", "if_name"];
    /// Unstable systems, each 1, the first 1000 of them.
    system_unstable: IntGaugeVec, "evenkeel_system_unstable", ["system"];
    /// How long no trap of an unstable interface has come, the first 1000 of them.
    interface_quiet: GaugeVec, "evenkeel_interface_unstable_quiet_seconds", ["system", "if_index", "if_name"];
    /// The same of unstable systems.
    system_quiet: GaugeVec, "evenkeel_system_unstable_quiet_seconds", ["system"];
    /// How long until an unstable interface is stable if no trap comes, the first 1000 of them.
    interface_stable_in: GaugeVec, "evenkeel_interface_stable_in_seconds", ["system", "if_index", "if_name"];
    /// The same of unstable systems.
    system_stable_in: GaugeVec, "evenkeel_system_stable_in_seconds", ["system"];
    /// Counted traps of an unstable interface in this episode, the first 1000 of them.
    interface_episode_traps: IntGaugeVec, "evenkeel_interface_unstable_traps", ["system", "if_index", "if_name"];
    /// The same of unstable systems.
    system_episode_traps: IntGaugeVec, "evenkeel_system_unstable_traps", ["system"];
    /// Interfaces with counted traps in their trap window, fewer than the threshold: each 1, the 100 of the latest traps.
    interface_counting: IntGaugeVec, "evenkeel_interface_counting", ["system", "if_index", "if_name"];
    /// Systems with counted traps in their trap window, fewer than the threshold: each 1, the 100 of the latest traps.
    system_counting: IntGaugeVec, "evenkeel_system_counting", ["system"];
    /// Unstable objects without a series of their own, as there are too many.
    unstable_omitted: IntGauge, "evenkeel_unstable_series_omitted";
    /// Whether a subnet is up (1) or down (0); absent while it is not known.
    subnet_up: IntGaugeVec, "evenkeel_subnet_up", ["subnet"];
    /// Whether an interface is up (1) or down (0) at the IP level on a subnet; absent while it is not known.
    interface_ip_up: IntGaugeVec, "evenkeel_interface_ip_up", ["subnet", "interface"];
    /// Whether a primary interface is disabled (1) or not (0), of a subnet that has a standby interface.
    interface_disabled: IntGaugeVec, "evenkeel_interface_disabled", ["subnet", "interface"];
    /// Moves of a subnet's addresses to its standby or primary interface, and those that failed.
    standby_moves: IntCounterVec, "evenkeel_standby_moves_total", ["subnet", "result"];
    /// Whether a flow is up (1) or down (0); absent while it is not known.
    flow_up: IntGaugeVec, "evenkeel_flow_up", ["subnet", "interface", "local", "polled"];
    /// Polls of a flow.
    flow_polls: IntCounterVec, "evenkeel_flow_polls_total", ["subnet", "interface", "local", "polled"];
    /// Polls of a flow that had no reply in time.
    flow_missed: IntCounterVec, "evenkeel_flow_missed_total", ["subnet", "interface", "local", "polled"];
    /// Polls of a flow that a stall of this agent spoiled.
    flow_inconclusive: IntCounterVec, "evenkeel_flow_inconclusive_total", ["subnet", "interface", "local", "polled"];
    /// The latest round-trip time of a flow.
    flow_rtt: GaugeVec, "evenkeel_flow_round_trip_seconds", ["subnet", "interface", "local", "polled"];
    /// Replies to polls by what they were worth.
    replies: IntCounterVec, "evenkeel_poll_replies_total", ["outcome"];
    /// ICMP messages that were no answer to a poll, by reason.
    replies_discarded: IntCounterVec, "evenkeel_poll_replies_discarded_total", ["reason"];
    /// ICMP messages that the kernel dropped before they could be read.
    reply_drops: IntCounter, "evenkeel_reply_socket_drops_total";
    /// How often this agent stood still for so long that polls were inconclusive.
    stalls: IntCounter, "evenkeel_stalls_total";
    /// Whether a part of this agent gives signs of life (1) or has stalled (0).
    part_up: IntGaugeVec, "evenkeel_part_up", ["part"];
    /// How long ago a part of this agent was last seen to have given a sign of life.
    part_last_sign: GaugeVec, "evenkeel_part_last_sign_seconds", ["part"];
    /// How often a part of this agent has stalled.
    part_stalls: IntCounterVec, "evenkeel_part_stalls_total", ["part"];
    /// Alarm events that wait for the disk.
    journal_waiting: IntGauge, "evenkeel_journal_waiting_events";
    /// Alarm events in the journal since the start.
    journal_events: IntCounter, "evenkeel_journal_events_total";
    /// Failed attempts to write the journal.
    journal_failures: IntCounter, "evenkeel_journal_failures_total";
    /// Changed records of systems and interfaces that wait for the disk.
    records_waiting: IntGauge, "evenkeel_records_waiting";
    /// Notifications sent to a notification target.
    notifications_sent: IntCounterVec, "evenkeel_notifications_sent_total", ["target"];
    /// Failed attempts to send to a notification target.
    notifications_failed: IntCounterVec, "evenkeel_notifications_failed_total", ["target"];
    /// Notifications that a notification target has acknowledged.
    notifications_acknowledged: IntCounterVec, "evenkeel_notifications_acknowledged_total", ["target"];
    /// Informs that were sent again, as no answer had come.
    notifications_retransmitted: IntCounterVec, "evenkeel_notifications_retransmitted_total", ["target"];
    /// Informs that a notification target answered with an error.
    notifications_refused: IntCounterVec, "evenkeel_notifications_refused_total", ["target"];
    /// Notifications that were deleted before the notification target had them, as the journal was full.
    notifications_lost: IntCounterVec, "evenkeel_notifications_lost_total", ["target"];
    /// Whether a notification target can be reached (1) or not (0).
    target_reachable: IntGaugeVec, "evenkeel_notification_target_reachable", ["target"];
    /// Forwarded traps of the spool that a notification target has not acknowledged yet.
    forwards_waiting: IntGaugeVec, "evenkeel_traps_forwarding_waiting", ["target"];
    /// Rows of the journal that a notification target has not been sent yet.
    notifications_waiting: IntGaugeVec, "evenkeel_notifications_waiting", ["target"];
    /// Whether the last reload of the configuration was taken (1) or refused (0).
    reload_ok: IntGauge, "evenkeel_config_last_reload_successful";
    /// When the configuration in force was loaded.
    reloaded_at: Gauge, "evenkeel_config_last_reload_success_timestamp_seconds";
}

impl Metrics {
    /// All metrics, at zero.
    ///
    /// # Errors
    ///
    /// Two of them have one name.
    pub fn new() -> prometheus::Result<Metrics> {
        Inner::new().map(|inner| Metrics(Mutex::new(inner)))
    }

    /// The page of one scrape, in the text format 0.0.4.
    ///
    /// # Errors
    ///
    /// The encoder fails.
    pub fn page(
        &self,
        snapshot: &Snapshot,
        around: &Surroundings,
        peers: Option<&PeersView>,
    ) -> prometheus::Result<String> {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.set_alarms(snapshot);
        inner.set_episodes(snapshot);
        inner.set_traps(snapshot);
        inner.set_v3(&snapshot.usm, snapshot.engines);
        inner.set_forwarding(snapshot);
        inner.set_flows(snapshot);
        inner.set_store(snapshot);
        inner.set_surroundings(around);
        inner.set_parts(&around.parts);
        let mut families = inner.registry.gather();
        drop(inner);
        families.extend(peers.into_iter().flat_map(peers::metrics::families));
        let of_pair = |pair: &Arc<View>| pair::metrics::families(pair, &snapshot.shadow);
        families.extend(around.pair.iter().flat_map(of_pair));
        let mut page = TextEncoder::new().encode_to_string(&families)?;
        if let Some(peers) = peers {
            peers::series::append(&mut page, peers);
        }
        Ok(page)
    }
}

impl Inner {
    fn set_alarms(&self, snapshot: &Snapshot) {
        self.build_info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        for kind in Kind::ALL {
            let labels = [kind.name(), kind.severity().name()];
            let place = kind as usize;
            self.alarms_active.with_label_values(&labels).set(signed(snapshot.active[place]));
            let raised = self.alarms_raised.with_label_values(&[kind.name()]);
            set(&raised, snapshot.counters.raised[place]);
            for reason in ClearReason::ALL {
                let cleared = self.alarms_cleared.with_label_values(&[kind.name(), reason.name()]);
                set(&cleared, snapshot.counters.cleared[place][reason as usize]);
            }
        }
        self.objects.set(signed(snapshot.objects as u64));
        self.objects_unstable.set(signed(snapshot.unstable));
        set(&self.objects_gave_way, snapshot.gave_way);
        self.links.set(signed(snapshot.links as u64));
        let shown = snapshot.episodes.len().min(UNSTABLE_SERIES) as u64;
        self.unstable_omitted.set(signed(snapshot.unstable.saturating_sub(shown)));
    }

    /// Where single objects stand (INST-3 to INST-7).
    fn set_episodes(&self, snapshot: &Snapshot) {
        let families: [&dyn Reset; 10] = [
            &self.interface_unstable,
            &self.interface_quiet,
            &self.interface_stable_in,
            &self.interface_episode_traps,
            &self.interface_counting,
            &self.system_unstable,
            &self.system_quiet,
            &self.system_stable_in,
            &self.system_episode_traps,
            &self.system_counting,
        ];
        families.iter().for_each(|family| family.clear());
        for unstable in snapshot.episodes.iter().take(UNSTABLE_SERIES) {
            let Some(labels) = labels_of(&unstable.object, unstable.if_name.as_deref()) else {
                continue;
            };
            let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
            let (one, quiet, stable_in, traps) = match labels.len() {
                1 => (
                    &self.system_unstable,
                    &self.system_quiet,
                    &self.system_stable_in,
                    &self.system_episode_traps,
                ),
                _ => (
                    &self.interface_unstable,
                    &self.interface_quiet,
                    &self.interface_stable_in,
                    &self.interface_episode_traps,
                ),
            };
            one.with_label_values(&labels).set(1);
            quiet.with_label_values(&labels).set(unstable.last.as_secs_f64());
            stable_in.with_label_values(&labels).set(unstable.ends.as_secs_f64());
            traps.with_label_values(&labels).set(signed(unstable.episode.traps));
        }
        for counting in &snapshot.counting {
            let Some(labels) = labels_of(&counting.object, counting.if_name.as_deref()) else {
                continue;
            };
            let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
            let one =
                if labels.len() == 1 { &self.system_counting } else { &self.interface_counting };
            one.with_label_values(&labels).set(1);
        }
    }

    fn set_traps(&self, snapshot: &Snapshot) {
        let counters = &snapshot.counters;
        set(&self.traps_received, counters.datagrams);
        set(&self.traps_octets, counters.octets);
        set(&self.informs, counters.informs);
        for outcome in Outcome::ALL {
            let taken = self.traps_taken.with_label_values(&[outcome.name()]);
            set(&taken, counters.outcomes[outcome as usize]);
        }
        for form in Form::ALL {
            set(&self.traps_forms.with_label_values(&[form.name()]), counters.forms[form as usize]);
        }
        let discarded = |reason: &str, count| {
            set(&self.traps_discarded.with_label_values(&[reason]), count);
        };
        for malformed in Malformed::ALL {
            discarded(malformed.name(), counters.malformed[malformed as usize]);
        }
        for refused in Refused::ALL {
            discarded(refused.name(), counters.refused[refused as usize]);
        }
        self.trap_drops.reset();
        self.trap_buffer.reset();
        let Some(traps) = &snapshot.traps else { return };
        discarded("bad_checksum", broken(traps));
        discarded("queue_full", traps.queue_full.load(Ordering::Relaxed));
        discarded("source_limit", traps.limited.load(Ordering::Relaxed));
        self.trap_waiting.set(signed(traps.waiting.load(Ordering::Relaxed) as u64));
        for socket in &traps.sockets {
            let listen = socket.local.to_string();
            let drops = socket.kernel_drops.load(Ordering::Relaxed);
            set(&self.trap_drops.with_label_values(&[&listen]), drops);
            let granted = signed(socket.buffer_granted as u64);
            self.trap_buffer.with_label_values(&[&listen]).set(granted);
        }
    }

    fn set_v3(&self, stats: &UsmStats, engines: usize) {
        let levels = ["noAuthNoPriv", "authNoPriv", "authPriv"];
        for (level, opened) in levels.iter().zip(stats.opened) {
            set(&self.v3_opened.with_label_values(&[level]), opened);
        }
        for step in Step::ALL {
            set(&self.v3_refused.with_label_values(&[step.name()]), stats.refused(step));
        }
        for (counter, value) in [
            ("usmStatsUnsupportedSecLevels", stats.unsupported_sec_levels),
            ("usmStatsNotInTimeWindows", stats.not_in_time_windows),
            ("usmStatsUnknownUserNames", stats.unknown_user_names),
            ("usmStatsUnknownEngineIDs", stats.unknown_engine_ids),
            ("usmStatsWrongDigests", stats.wrong_digests),
            ("usmStatsDecryptionErrors", stats.decryption_errors),
        ] {
            set(&self.usm_stats.with_label_values(&[counter]), value);
        }
        set(&self.v3_reports, stats.reports);
        self.engines.set(signed(engines as u64));
        set(&self.engines_learned, stats.learned);
        set(&self.engines_evicted, stats.evicted);
    }

    fn set_forwarding(&self, snapshot: &Snapshot) {
        let counters = &snapshot.counters;
        self.traps_forwarded.reset();
        for (target, count) in snapshot.forward_targets.iter().zip(&counters.forwarded) {
            set(&self.traps_forwarded.with_label_values(&[target]), *count);
        }
        set(&self.traps_suppressed, counters.suppressed);
        set(&self.traps_doubled, counters.doubled);
        set(&self.spool_replayed, counters.replayed);
        set(&self.spool_handed_over, counters.handed_over);
        let spool = &snapshot.spool;
        set(&self.spool_entries, spool.entries);
        self.spool_size.set(signed(spool.size));
        self.spool_waiting.set(signed(spool.waiting_bytes));
        set(&self.spool_syncs, spool.syncs);
        self.spool_sync_seconds.reset();
        self.spool_sync_seconds.inc_by(spool.sync_total.as_secs_f64());
        set(&self.spool_failures, spool.failures);
        self.spool_lost.reset();
        for (target, lost) in &spool.lost {
            set(&self.spool_lost.with_label_values(&[target]), *lost);
        }
        self.answers_waiting.set(signed(spool.waiting_answers));
        set(&self.answers_sent, spool.answers_sent);
        set(&self.answers_failed, spool.answers_failed);
        self.forward_waiting.set(signed(snapshot.forwarder_waiting as u64));
        self.forward_failed.reset();
        self.forward_without_source.reset();
        for target in &snapshot.forwards {
            let failed = |reason: &str, count| {
                set(&self.forward_failed.with_label_values(&[&*target.name, reason]), count);
            };
            failed("queue_full", target.dropped_queue_full);
            failed("not_primary", target.dropped_not_primary);
            failed("network", target.errors);
            failed("port_unreachable", target.refused);
            target.unsendable.iter().for_each(|(reason, count)| failed(reason, *count));
            for (reason, count) in &target.without_source {
                let labels = [&*target.name, reason];
                set(&self.forward_without_source.with_label_values(&labels), *count);
            }
        }
    }

    fn set_flows(&self, snapshot: &Snapshot) {
        let families: [&dyn Reset; 9] = [
            &self.subnet_up,
            &self.interface_ip_up,
            &self.interface_disabled,
            &self.standby_moves,
            &self.flow_up,
            &self.flow_polls,
            &self.flow_missed,
            &self.flow_inconclusive,
            &self.flow_rtt,
        ];
        families.iter().for_each(|family| family.clear());
        for subnet in &snapshot.subnets {
            let prefix = subnet.prefix.to_string();
            if let Some(up) = subnet.up {
                self.subnet_up.with_label_values(&[&prefix]).set(up.into());
            }
            for interface in &subnet.interfaces {
                if let Some(up) = interface.up {
                    let labels = [&prefix, &interface.name];
                    self.interface_ip_up.with_label_values(&labels).set(up.into());
                }
                if interface.part == Some(Part::Primary) {
                    let labels = [&prefix, &interface.name];
                    let disabled = interface.disabled.into();
                    self.interface_disabled.with_label_values(&labels).set(disabled);
                }
            }
            let Some(Moves { to_standby, to_primary, failed }) = subnet.moves else { continue };
            for (result, count) in
                [("to_standby", to_standby), ("to_primary", to_primary), ("failed", failed)]
            {
                set(&self.standby_moves.with_label_values(&[&*prefix, result]), count);
            }
        }
        for flow in &snapshot.flows {
            let key = &flow.key;
            let labels = [
                &key.subnet.to_string(),
                &key.interface,
                &key.local.to_string(),
                &key.polled.to_string(),
            ];
            match flow.state {
                FlowState::Up { .. } => self.flow_up.with_label_values(&labels).set(1),
                FlowState::Down { .. } => self.flow_up.with_label_values(&labels).set(0),
                FlowState::Unknown { .. } => {}
            }
            set(&self.flow_polls.with_label_values(&labels), flow.counters.polls);
            set(&self.flow_missed.with_label_values(&labels), flow.counters.missed);
            set(&self.flow_inconclusive.with_label_values(&labels), flow.counters.inconclusive);
            if let Some(round_trip) = flow.counters.round_trip {
                self.flow_rtt.with_label_values(&labels).set(round_trip.as_secs_f64());
            }
        }
        for outcome in ReplyOutcome::ALL {
            let replies = self.replies.with_label_values(&[outcome.name()]);
            set(&replies, snapshot.counters.replies[outcome as usize]);
        }
        let stray = self.replies_discarded.with_label_values(&["no_flow"]);
        set(&stray, snapshot.counters.stray_replies);
        for (reason, count) in &snapshot.discarded_replies {
            set(&self.replies_discarded.with_label_values(&[reason]), *count);
        }
        let replies = snapshot.replies.as_deref();
        set(&self.reply_drops, replies.map_or(0, kernel_drops));
        // What the kernel has found broken is no other reason than what we find broken.
        let discarded = &snapshot.discarded_replies;
        let reason = icmp::Discard::BadChecksum.reason();
        let bad = discarded.get(reason).copied().unwrap_or(0) + replies.map_or(0, broken);
        if bad > 0 {
            set(&self.replies_discarded.with_label_values(&[reason]), bad);
        }
        set(&self.stalls, snapshot.counters.stalls);
    }

    fn set_store(&self, snapshot: &Snapshot) {
        let store = &snapshot.store;
        self.journal_waiting.set(signed(store.waiting_events as u64));
        set(&self.journal_events, store.events);
        set(&self.journal_failures, store.failures);
        let waiting = store.waiting_records + snapshot.changes_waiting;
        self.records_waiting.set(signed(waiting as u64));
    }

    fn set_parts(&self, parts: &[PartView]) {
        let families: [&dyn Reset; 3] = [&self.part_up, &self.part_last_sign, &self.part_stalls];
        families.iter().for_each(|family| family.clear());
        for view in parts {
            let labels = [view.part.name()];
            self.part_up.with_label_values(&labels).set(view.up.into());
            self.part_last_sign.with_label_values(&labels).set(view.silent.as_secs_f64());
            set(&self.part_stalls.with_label_values(&labels), view.stalls);
        }
    }

    fn set_surroundings(&self, around: &Surroundings) {
        self.reload_ok.set(around.reload_ok.into());
        self.reloaded_at.set(around.reloaded_at);
        let families: [&dyn Reset; 9] = [
            &self.notifications_sent,
            &self.notifications_acknowledged,
            &self.notifications_retransmitted,
            &self.notifications_refused,
            &self.notifications_failed,
            &self.notifications_lost,
            &self.notifications_waiting,
            &self.forwards_waiting,
            &self.target_reachable,
        ];
        families.iter().for_each(|family| family.clear());
        for target in &around.targets {
            let labels = [&target.name];
            for (counter, value) in [
                (&self.notifications_sent, target.sent),
                (&self.notifications_acknowledged, target.acknowledged),
                (&self.notifications_retransmitted, target.retransmitted),
                (&self.notifications_refused, target.refused),
                (&self.notifications_failed, target.failed),
                (&self.notifications_lost, target.lost),
            ] {
                set(&counter.with_label_values(&labels), value);
            }
            self.notifications_waiting.with_label_values(&labels).set(signed(target.lag));
            self.forwards_waiting.with_label_values(&labels).set(signed(target.waiting_forwarded));
            self.target_reachable.with_label_values(&labels).set(target.reachable.into());
        }
    }
}

/// A family whose label values come and go with the configuration.
trait Reset: Collector {
    fn clear(&self);
}

impl Reset for IntGaugeVec {
    fn clear(&self) {
        self.reset();
    }
}

impl Reset for IntCounterVec {
    fn clear(&self) {
        self.reset();
    }
}

impl Reset for GaugeVec {
    fn clear(&self) {
        self.reset();
    }
}

/// The values of the labels of a system or an interface; nothing else is ever unstable.
fn labels_of(object: &Object, if_name: Option<&str>) -> Option<Vec<String>> {
    match object {
        Object::System(system) => Some(vec![system.to_string()]),
        Object::Interface { system, if_index } => {
            let name = if_name.unwrap_or("").to_owned();
            Some(vec![system.to_string(), if_index.to_string(), name])
        }
        Object::Link(_)
        | Object::LocalInterface { .. }
        | Object::OwnInterface(_)
        | Object::Subnet(_)
        | Object::Peer(_)
        | Object::PeerMonitor
        | Object::NotificationTarget(_)
        | Object::Agent
        | Object::Mate
        | Object::MatePath(_)
        | Object::Pair
        | Object::Component(_) => None,
    }
}

fn kernel_drops(stats: &EarStats) -> u64 {
    stats.sockets.iter().map(|socket| socket.kernel_drops.load(Ordering::Relaxed)).sum()
}

fn broken(stats: &EarStats) -> u64 {
    stats.sockets.iter().map(|socket| socket.broken.load(Ordering::Relaxed)).sum()
}

/// Counters are kept elsewhere and only shown here.
fn set(counter: &IntCounter, value: u64) {
    counter.reset();
    counter.inc_by(value);
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::{
        collections::{BTreeMap, BTreeSet},
        fs,
        path::Path,
    };

    use super::*;

    fn file(path: &str) -> String {
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
    }

    /// Every metric with its labels, but for what the process and each peer has.
    fn exported() -> BTreeMap<String, Vec<String>> {
        let owned = |labels: &[&str]| labels.iter().map(|label| (*label).to_owned()).collect();
        let registered =
            REGISTERED.iter().map(|(name, labels)| ((*name).to_owned(), owned(labels)));
        let peers = peers::metrics::families(&peers::testing::sample());
        let of_peers = peers.iter().map(|family| {
            let labels = family.get_metric()[0].get_label();
            (family.name().to_owned(), labels.iter().map(|label| label.name().to_owned()).collect())
        });
        let of_each = [peers::series::UP, peers::series::ROUND_TRIP, peers::series::UNANSWERED]
            .map(|name| (name.to_owned(), owned(&["group", "peer"])));
        let pair = pair::metrics::families(&pair::testing::view(), &Default::default());
        let of_pair = pair.iter().map(|family| {
            let labels = family.get_metric()[0].get_label();
            (family.name().to_owned(), labels.iter().map(|label| label.name().to_owned()).collect())
        });
        registered.chain(of_peers).chain(of_pair).chain(of_each).collect()
    }

    #[test]
    fn metrics_md_lists_every_metric_with_its_labels_and_no_other() {
        let mut listed = BTreeMap::new();
        let mut before = Vec::new();
        let page = file("agent/metrics.md");
        for line in page.lines() {
            let Some(row) = line.strip_prefix("| `evenkeel_") else { continue };
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            let labels: Vec<String> = match cells[1] {
                "as above" => before.clone(),
                cell => {
                    let own = cell.trim_end_matches(", and the peer's own");
                    own.split(", ").filter(|label| !label.is_empty()).map(str::to_owned).collect()
                }
            };
            before.clone_from(&labels);
            let name = format!("evenkeel_{}", cells[0].trim_end_matches('`'));
            assert!(listed.insert(name, labels).is_none(), "listed twice: {line}");
        }
        assert_eq!(listed, exported());
    }

    #[test]
    fn the_numbers_of_series_in_metrics_md_are_those_of_the_code() {
        let page = file("agent/metrics.md");
        let kinds = Kind::ALL.len();
        for (name, labels, series) in [
            ("evenkeel_alarms_active", "kind, severity", kinds),
            ("evenkeel_alarms_raised_total", "kind", kinds),
            ("evenkeel_alarms_cleared_total", "kind, reason", kinds * ClearReason::ALL.len()),
        ] {
            let row = format!("| `{name}` | {labels} | {series} |");
            assert!(page.contains(&row), "no {row}");
        }
    }

    /// The files of `dashboards/` with rules or boards.
    fn rules_and_boards() -> Vec<(String, String)> {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("dashboards");
        let names = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
        let names = names.map(|name| name.into_string().unwrap());
        names
            .filter(|name| {
                name.ends_with(".json") || name == "alerts.yml" || name == "recording.yml"
            })
            .map(|name| {
                let text = file(&format!("dashboards/{name}"));
                (name, text)
            })
            .collect()
    }

    /// The names of our metrics in a text. What a rule records has a colon in its name.
    fn names_in(text: &str) -> impl Iterator<Item = &str> {
        text.split(|char: char| !(matches!(char, '_' | ':') || char.is_ascii_alphanumeric()))
            .filter(|name| name.starts_with("evenkeel_"))
    }

    #[test]
    fn rules_and_boards_are_on_metrics_that_are_exported() {
        let exported = exported();
        let files = rules_and_boards();
        assert!(files.len() >= 6, "{:?}", files.iter().map(|(name, _)| name).collect::<Vec<_>>());
        for (file, text) in &files {
            for name in names_in(text) {
                let family =
                    ["_bucket", "_count", "_sum"].iter().find_map(|end| name.strip_suffix(end));
                let known = exported.contains_key(name)
                    || family.is_some_and(|family| exported.contains_key(family));
                assert!(known, "{name} in {file} is exported by nobody");
            }
        }
    }

    /// What no board shows is of single peers, which are too many for one.
    #[test]
    fn the_boards_show_every_metric_that_an_operator_may_ask_for() {
        let files = rules_and_boards();
        let shown: BTreeSet<&str> = files
            .iter()
            .filter(|(name, _)| name.ends_with(".json"))
            .flat_map(|(_, text)| names_in(text))
            .collect();
        let exported = exported();
        let missing: Vec<&String> = exported
            .keys()
            .filter(|name| {
                !shown.contains(name.as_str()) && !shown.contains(format!("{name}_bucket").as_str())
            })
            .filter(|name| !name.starts_with("evenkeel_peer_"))
            .collect();
        assert!(missing.is_empty(), "on no board: {missing:#?}");
    }

    #[test]
    fn there_is_an_alert_for_every_kind_of_alarm() {
        let rules = file("dashboards/alerts.yml");
        for kind in Kind::ALL {
            assert!(rules.contains(&format!(", kind: {kind}}}")), "no alert has kind: {kind}");
        }
    }

    /// What operators choose from, and what they see.
    #[test]
    fn every_kind_of_alarm_is_listed_where_kinds_are_listed() {
        let (readme, options) = (file("README.md"), file("agent/config/README.md"));
        let kinds = options.lines().find(|line| line.contains("`notifications.target.kinds`"));
        let kinds = kinds.unwrap();
        for kind in Kind::ALL {
            assert!(readme.contains(&format!("`{kind}`")), "README.md lacks {kind}");
            assert!(kinds.contains(&format!("`\"{kind}\"`")), "kinds lacks {kind}");
        }
    }
}
