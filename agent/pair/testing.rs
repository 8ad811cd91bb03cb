//! A pair to look at, for the tests of those who show it.

use std::time::Duration;

use evenkeel_core::{
    pair::{
        Counters, Identity, Role,
        message::{Orders, RoleSaid, Said},
        paths::{Channel, Wrong},
        record::{Kind, Reason, Record, Takeover},
        settings::{Failback, Limit, Paths, Settings, Timing},
        sync::Synchrony,
        term::{Slot, Term},
        version::{Grade, Version},
    },
    time::Time,
};

use super::{
    channel::counters::Refusal,
    seal::Dropped,
    view::{ChannelView, Failures, PathView, Takeovers, View},
    witnesses::{From, Witness},
};
use crate::{clock::BootClock, gate::Gate};

/// When all of it is seen.
pub fn now() -> Time {
    BootClock::now()
}

/// A primary in term 4, with its standby in synchronisation, one path of two lost, after a takeover.
pub fn view() -> View {
    let at = now();
    let ago = |millis| at - Duration::from_millis(millis);
    let version = Version { major: 0, minor: 1, patch: 0 };
    let term = Term { number: 4, by: Slot::One };
    let settings = Settings {
        priority: 100,
        timing: Timing::DEFAULT,
        limit: Some(Limit::DEFAULT),
        failback: Failback::ByHand,
        paths: Paths::new(&["eth0", "eth1"]).unwrap(),
        witnesses: true,
    };
    let said = Said {
        role: RoleSaid::Standby { follows: Some(term) },
        known: Some(term),
        priority: 100,
        fit: true,
        able: true,
        in_sync: true,
        stopping: false,
        wants: None,
        orders: Orders::default(),
        patience: Timing::DEFAULT.mate_timeout(),
    };
    let path = |interface: &str, third: u8, lost: bool| PathView {
        interface: interface.to_owned(),
        local: format!("10.0.{third}.2:19041").parse().unwrap(),
        mate: format!("10.0.{third}.1:19041").parse().unwrap(),
        lost,
        heard: Some(ago(if lost { 12_000 } else { 200 })),
        sent: 240,
        received: if lost { 216 } else { 239 },
        not_sent: lost.then_some(("unreachable", 24)).into_iter().collect(),
        error: lost.then(|| "cannot send to 10.0.1.1:19041: No route to host".to_owned()),
    };
    let mut failures = Failures::default();
    failures.count(Wrong::Read);
    View {
        at,
        name: "keel-2".to_owned(),
        identity: Identity { slot: Slot::One, run: 1_795_000_000, version },
        settings,
        role: Role::Primary,
        term: Some(term),
        known: Some(term),
        alone: false,
        speaks_until: Some(at + Duration::from_millis(1_800)),
        gate: Gate::alone(),
        mate_name: Some("keel-1".to_owned()),
        mate: Some((version, said)),
        grade: Some(Grade::Full),
        mate_heard: ago(200),
        paths: vec![path("eth0", 0, false), path("eth1", 1, true)],
        channel: ChannelView {
            mate: "10.0.0.1:19041".parse().unwrap(),
            state: Channel::Up,
            since: ago(100_000),
            heard: Some(ago(200)),
            failures,
            refused: None,
            trusted: None,
            refusals: Refusal::ALL.map(|why| (why.name(), 0)).into(),
            octets_sent: 123_456,
            octets_received: 6_543,
        },
        synchrony: Synchrony::InSync {
            since: ago(90_000),
            events: 2,
            age: Duration::from_millis(40),
        },
        synchronised: Some(ago(300)),
        copies: 1,
        witnesses: vec![
            Witness {
                address: "10.0.0.254".parse().unwrap(),
                from: From::Gateway,
                asked: Some(ago(110_000)),
                answered: Some(ago(109_998)),
                error: None,
            },
            Witness {
                address: "192.0.2.9".parse().unwrap(),
                from: From::Target,
                asked: None,
                answered: None,
                error: None,
            },
        ],
        network_up: true,
        held: false,
        takeovers_within: Some(1),
        suppressed_until: None,
        record: Record {
            count: 1,
            last: Some(Takeover {
                term,
                at: ago(110_000),
                reason: Reason::MateSilent,
                kind: Kind::Automatic,
                degraded: None,
            }),
        },
        takeovers: Takeovers { automatic: 1, ordered: 0 },
        counters: Counters { sent: 240, heard: 450, late: 1, ..Counters::default() },
        dropped: Dropped::ALL.map(|why| (why.name(), 0)).into(),
        problems: Vec::new(),
    }
}
