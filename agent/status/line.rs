//! The document for grep and awk: a line for each thing, its fields separated by tabs, the first of
//! which says what it is. `README.md` beside this file lists them; fields are only ever added at the
//! end of a line.

use evenkeel_core::text;

use super::Status;

/// What stands for a field that says nothing.
const NOTHING: &str = "-";

impl Status {
    /// The document for a script.
    pub fn lines(&self) -> String {
        let verdict = self.verdict();
        let agent = &self.agent;
        let mut out = fields(&["verdict", verdict.worst().name(), &verdict.words()]);
        out += &fields(&[
            "agent",
            &agent.name,
            &agent.role,
            &agent.version,
            &agent.uptime_seconds.to_string(),
            &agent.at,
        ]);
        out.extend(self.problems().map(|problem| fields(&["problem", problem])));
        out.extend(self.alarms.iter().map(|alarm| {
            let severity = alarm.severity.name();
            let (object, text) = (&alarm.object_text, &alarm.text);
            fields(&["alarm", severity, &alarm.kind, &alarm.raised_at, &alarm.id, object, text])
        }));
        out.extend(self.unstable.iter().map(|unstable| {
            fields(&[
                "unstable",
                &unstable.object_text,
                unstable.if_name.as_deref().unwrap_or_default(),
                &unstable.traps.to_string(),
                &whole_seconds(Some(unstable.first_seconds_ago)),
                &whole_seconds(Some(unstable.last_seconds_ago)),
                &whole_seconds(Some(unstable.clears_in_seconds)),
                &unstable.link.map(|link| link.to_string()).unwrap_or_default(),
            ])
        }));
        for subnet in &self.subnets {
            out += &fields(&["subnet", &subnet.subnet, subnet.status.name()]);
            out.extend(subnet.interfaces.iter().map(|interface| {
                fields(&[
                    "interface",
                    &subnet.subnet,
                    &interface.interface,
                    interface.status.name(),
                    &interface.words,
                    yes(interface.link),
                    yes(interface.disabled),
                    interface.failure_type.as_deref().unwrap_or_default(),
                    yes(interface.standby),
                ])
            }));
        }
        out.extend(self.flows.iter().map(|flow| {
            fields(&[
                "flow",
                &flow.subnet,
                &flow.interface,
                &flow.local,
                &flow.polled,
                flow.status.name(),
                &flow.polls.to_string(),
                &flow.missed.to_string(),
                &milliseconds(flow.round_trip_ms),
                flow.reason.as_deref().unwrap_or_default(),
            ])
        }));
        if let Some(peers) = &self.peers {
            out += &peers.lines();
        }
        if let Some(pair) = &self.pair {
            out += &pair.lines();
        }
        out.extend(self.notification_targets.iter().map(|target| {
            fields(&[
                "target",
                &target.name,
                if target.reachable { "reachable" } else { "unreachable" },
                &target.address,
                &target.form,
                &target.sent.to_string(),
                &target.acknowledged.to_string(),
                &target.failed.to_string(),
                &target.lost.to_string(),
                &target.waiting.to_string(),
                &target.forwarded.to_string(),
                &target.forwarded_waiting.to_string(),
                target.last_error.as_deref().unwrap_or_default(),
            ])
        }));
        out.extend(agent.listens.iter().map(|listen| {
            fields(&[
                "listen",
                &listen.address,
                &listen.buffer_bytes.to_string(),
                &listen.buffer_asked_bytes.to_string(),
                &listen.drops.to_string(),
            ])
        }));
        out
    }
}

/// One line. What is in a field neither ends it nor steers a terminal.
pub fn fields(fields: &[&str]) -> String {
    let fields: Vec<_> = fields
        .iter()
        .map(|field| if field.is_empty() { NOTHING.into() } else { text::harmless(field) })
        .collect();
    fields.join("\t") + "\n"
}

/// Seconds in a field.
pub fn whole_seconds(seconds: Option<f64>) -> String {
    seconds.map_or(String::new(), |seconds| format!("{seconds:.0}"))
}

/// Milliseconds in a field.
pub fn milliseconds(ms: Option<f64>) -> String {
    ms.map_or(String::new(), |ms| format!("{ms:.3}"))
}

const fn yes(so: bool) -> &'static str {
    if so { "yes" } else { "no" }
}
