//! What a webhook is sent: events as JSON, signed if there is a secret.

use evenkeel_core::alarm::{AlarmEvent, Object};
use ring::hmac;
use serde::Serialize;

use super::event;

/// The version of the document: it grows when something is taken away or changes its meaning, and not when
/// something is added.
const VERSION: u32 = 1;

/// The header with the signature.
pub const SIGNATURE: &str = "Evenkeel-Signature";

/// The header that is the same for each try of one delivery.
pub const DELIVERY: &str = "Evenkeel-Delivery";

#[derive(Serialize)]
struct Document<'a> {
    version: u32,
    agent: &'a str,
    events: Vec<Event<'a>>,
}

#[derive(Serialize)]
struct Event<'a> {
    sequence: u64,
    event: &'static str,
    at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    alarm: Alarm<'a>,
}

#[derive(Serialize)]
struct Alarm<'a> {
    id: String,
    kind: &'static str,
    severity: &'static str,
    object: String,
    about: &'a Object,
    raised_at: String,
    text: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    if_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer_group: Option<&'a str>,
}

/// The body of one delivery.
pub fn body(agent: &str, rows: &[(u64, AlarmEvent)]) -> Vec<u8> {
    let events = rows.iter().map(|(sequence, event)| {
        let alarm = &event.alarm;
        Event {
            sequence: *sequence,
            event: event::name(event),
            at: event::utc(event.wall),
            reason: event.cleared.map(|reason| reason.name()),
            alarm: Alarm {
                id: alarm.id.to_string(),
                kind: alarm.kind.name(),
                severity: alarm.severity.name(),
                object: alarm.object.to_string(),
                about: &alarm.object,
                raised_at: event::utc(alarm.raised_at),
                text: &alarm.text,
                if_name: alarm.if_name.as_deref(),
                peer_group: alarm.peer_group.as_deref(),
            },
        }
    });
    let document = Document { version: VERSION, agent, events: events.collect() };
    // Strings, numbers and lists of them can always be written.
    serde_json::to_vec(&document).unwrap_or_default()
}

/// What tells one delivery from all others, over every try.
pub fn delivery(agent: &str, rows: &[(u64, AlarmEvent)]) -> String {
    let of = |row: Option<&(u64, AlarmEvent)>| row.map_or(0, |(sequence, _)| *sequence);
    format!("{agent}/{}-{}", of(rows.first()), of(rows.last()))
}

/// The signature of a body that leaves at `now`, in seconds since 1970: HMAC-SHA-256 over the time, a dot and
/// the body, so that an old delivery can't be played again.
pub fn signature(secret: &[u8], now: u64, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let mut context = hmac::Context::with_key(&key);
    context.update(format!("{now}.").as_bytes());
    context.update(body);
    let tag = context.sign();
    let digits: String = tag.as_ref().iter().map(|octet| format!("{octet:02x}")).collect();
    format!("t={now},v1={digits}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_what_openssl_makes_of_it() {
        // printf '1700000000.{}' | openssl dgst -sha256 -hmac secret
        let digits = "b8569b78799ff9e3cbff0fc2d63a33a2b57f3282abd07c37ae5e8e7d79a5f163";
        let expected = format!("t=1700000000,v1={digits}");
        assert_eq!(signature(b"secret", 1_700_000_000, b"{}"), expected);
    }
}
