//! What an Alertmanager is told: alerts, by its API v2.
//!
//! An Alertmanager takes an alert for active until its `endsAt`, so each that is active is told again every
//! [`RESEND`] with an end that lies beyond the next times; after an agent has died they end by themselves.
//! It knows an alert by its labels, so these are the same from raise to clear, and what changes stands in the
//! annotations.

use std::{collections::BTreeMap, time::Duration};

use evenkeel_core::{
    alarm::{Alarm, AlarmEvent},
    time::WallTime,
};
use serde::Serialize;

use super::{event, machine::RESEND};

/// Where alerts are posted.
pub const PATH: &str = "/api/v2/alerts";

/// How long an alert lasts that is not told again: three tellings may fail.
const LASTS: Duration = Duration::from_secs(4 * RESEND.as_secs());

/// An alert (Alertmanager's `postableAlert`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Alert {
    labels: BTreeMap<&'static str, String>,
    annotations: BTreeMap<&'static str, String>,
    starts_at: String,
    ends_at: String,
}

impl Alert {
    /// Of an alarm that is active at `now`.
    pub fn active(agent: &str, alarm: &Alarm, now: WallTime) -> Alert {
        let millis = i64::try_from(LASTS.as_millis()).unwrap_or(i64::MAX);
        Alert::new(agent, alarm, WallTime(now.0.saturating_add(millis)))
    }

    /// Of an event that is told at `now`.
    pub fn of(agent: &str, told: &AlarmEvent, now: WallTime) -> Alert {
        // What has no clear is over when it is told: its time on the screen is the receiver's business.
        match told.cleared {
            Some(_) => Alert::new(agent, &told.alarm, told.wall),
            None => Alert::active(agent, &told.alarm, now),
        }
    }

    fn new(agent: &str, alarm: &Alarm, end: WallTime) -> Alert {
        let mut labels = BTreeMap::from([
            ("alertname", alert_name(alarm.kind.name())),
            ("severity", alarm.severity.name().to_owned()),
            ("kind", alarm.kind.name().to_owned()),
            ("object", alarm.object.to_string()),
            ("agent", agent.to_owned()),
        ]);
        labels.extend(event::parts(&alarm.object));
        if let Some(group) = &alarm.peer_group {
            labels.insert("group", group.clone());
        }
        let annotations =
            BTreeMap::from([("summary", alarm.text.clone()), ("alarm_id", alarm.id.to_string())]);
        let (starts_at, ends_at) = (event::utc(alarm.raised_at), event::utc(end));
        Alert { labels, annotations, starts_at, ends_at }
    }
}

/// `interface_unstable` as alert rules name it: `InterfaceUnstable`.
fn alert_name(kind: &str) -> String {
    kind.split('_')
        .map(|word| {
            let (first, rest) = word.split_at(1.min(word.len()));
            first.to_uppercase() + rest
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use evenkeel_core::{
        alarm::{ClearReason, Interface, Kind, Object, System},
        alarms::Alarms,
        finding::Finding,
        time::Time,
    };

    use super::*;

    #[test]
    fn an_alert_has_the_same_labels_from_raise_to_clear() {
        let system = System("192.0.2.7".parse().unwrap());
        let Interface { system, if_index } = Interface { system, if_index: 3 };
        let object = Object::Interface { system, if_index };
        let mut alarms = Alarms::default();
        let raise = Finding::raise(
            Kind::InterfaceDown,
            object.clone(),
            "linkDown".into(),
            Time::from_secs(10),
        );
        let raised = alarms.apply(raise).unwrap();
        let clear =
            Finding::clear(Kind::InterfaceDown, object, ClearReason::Ended, Time::from_secs(70));
        let cleared = alarms.apply(clear).unwrap();
        let now = WallTime(20_000);
        let (one, two) = (Alert::of("keel-1", &raised, now), Alert::of("keel-1", &cleared, now));
        assert_eq!(one.labels, two.labels);
        assert_eq!(one.labels["alertname"], "InterfaceDown");
        assert_eq!(
            (one.labels["system"].as_str(), one.labels["if_index"].as_str()),
            ("192.0.2.7", "3")
        );
        assert_eq!(one.starts_at, two.starts_at);
        assert_eq!(one.ends_at, "1970-01-01T00:04:20.000Z");
        assert_eq!(two.ends_at, "1970-01-01T00:01:10.000Z");
    }
}
