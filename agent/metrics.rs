//! What Prometheus is told: the agent's own metrics, by the crate `prometheus`.
//!
//! Each scrape takes one [`Snapshot`] and sets every metric from it, so that a page is of one
//! moment. `metrics.md` beside this file lists them all with what each costs.

use std::sync::{Mutex, PoisonError, atomic::Ordering};

use evenkeel_core::{
    access::Refused,
    alarm::{ClearReason, Kind, Object},
    flow::{FlowState, ReplyOutcome},
    instability::Outcome,
    trap::Malformed,
};
use prometheus::{
    Gauge, GaugeVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
    core::Collector, process_collector::ProcessCollector,
};

use crate::{ear::EarStats, notifier::TargetStats, snapshot::Snapshot};

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
}

macro_rules! metrics {
    ($($(#[doc = $help:literal])+ $name:ident: $type:ident, $prometheus:literal $(, [$($label:literal),+])?;)+) => {
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
    /// Informs among the traps taken in.
    informs: IntCounter, "evenkeel_informs_taken_total";
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
    /// Unstable interfaces, each 1, the first 1000 of them.
    interface_unstable: IntGaugeVec, "evenkeel_interface_unstable", ["system", "if_index", "if_name"];
    /// Unstable systems, each 1, the first 1000 of them.
    system_unstable: IntGaugeVec, "evenkeel_system_unstable", ["system"];
    /// Unstable objects without a series of their own, as there are too many.
    unstable_omitted: IntGauge, "evenkeel_unstable_series_omitted";
    /// Whether a subnet is up (1) or down (0); absent while it is not known.
    subnet_up: IntGaugeVec, "evenkeel_subnet_up", ["subnet"];
    /// Whether an interface is up (1) or down (0) at the IP level on a subnet; absent while it is not known.
    interface_ip_up: IntGaugeVec, "evenkeel_interface_ip_up", ["subnet", "interface"];
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
    pub fn page(&self, snapshot: &Snapshot, around: &Surroundings) -> prometheus::Result<String> {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.set_alarms(snapshot);
        inner.set_traps(snapshot);
        inner.set_flows(snapshot);
        inner.set_store(snapshot);
        inner.set_surroundings(around);
        TextEncoder::new().encode_to_string(&inner.registry.gather())
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
        self.interface_unstable.reset();
        self.system_unstable.reset();
        for unstable in snapshot.episodes.iter().take(UNSTABLE_SERIES) {
            match &unstable.object {
                Object::System(system) => {
                    self.system_unstable.with_label_values(&[&system.to_string()]).set(1);
                }
                Object::Interface { system, if_index } => {
                    let name = unstable.if_name.as_deref().unwrap_or("");
                    self.interface_unstable
                        .with_label_values(&[&*system.to_string(), &if_index.to_string(), name])
                        .set(1);
                }
                Object::LocalInterface { .. }
                | Object::Subnet(_)
                | Object::NotificationTarget(_)
                | Object::Agent => {}
            }
        }
        let shown = snapshot.episodes.len().min(UNSTABLE_SERIES) as u64;
        self.unstable_omitted.set(signed(snapshot.unstable.saturating_sub(shown)));
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
        discarded("queue_full", traps.queue_full.load(Ordering::Relaxed));
        self.trap_waiting.set(signed(traps.waiting.load(Ordering::Relaxed) as u64));
        for socket in &traps.sockets {
            let listen = socket.local.to_string();
            let drops = socket.kernel_drops.load(Ordering::Relaxed);
            set(&self.trap_drops.with_label_values(&[&listen]), drops);
            let granted = signed(socket.buffer_granted as u64);
            self.trap_buffer.with_label_values(&[&listen]).set(granted);
        }
    }

    fn set_flows(&self, snapshot: &Snapshot) {
        let families: [&dyn Reset; 7] = [
            &self.subnet_up,
            &self.interface_ip_up,
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
            for (interface, up) in &subnet.interfaces {
                if let Some(up) = *up {
                    let labels = [&prefix, interface];
                    self.interface_ip_up.with_label_values(&labels).set(up.into());
                }
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
        let drops = snapshot.replies.as_deref().map_or(0, kernel_drops);
        set(&self.reply_drops, drops);
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

    fn set_surroundings(&self, around: &Surroundings) {
        self.reload_ok.set(around.reload_ok.into());
        self.reloaded_at.set(around.reloaded_at);
        self.notifications_sent.reset();
        self.notifications_failed.reset();
        self.notifications_waiting.reset();
        for target in &around.targets {
            let labels = [&target.name];
            set(&self.notifications_sent.with_label_values(&labels), target.sent);
            set(&self.notifications_failed.with_label_values(&labels), target.failed);
            self.notifications_waiting.with_label_values(&labels).set(signed(target.lag));
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

fn kernel_drops(stats: &EarStats) -> u64 {
    stats.sockets.iter().map(|socket| socket.kernel_drops.load(Ordering::Relaxed)).sum()
}

/// Counters are kept elsewhere and only shown here.
fn set(counter: &IntCounter, value: u64) {
    counter.reset();
    counter.inc_by(value);
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
