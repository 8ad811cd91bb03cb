//! The section `[pair]`, where it is right.

use std::time::Duration;

use evenkeel_core::pair::{
    settings::{Failback, Limit, Timing},
    term::Slot,
};

use super::from_bytes;
use crate::config::{Pair, PairPath, WaitFor};

fn pair(text: &str) -> Pair {
    let (config, warnings) = from_bytes("evenkeel.toml", text.as_bytes()).unwrap();
    assert!(warnings.is_empty());
    config.pair.expect("there is a pair")
}

#[test]
fn pair_1_without_the_section_an_agent_is_alone() {
    assert_eq!(from_bytes("evenkeel.toml", b"").unwrap().0.pair, None);
}

#[test]
fn pair_8_the_defaults_are_those_of_the_rules() {
    let pair = pair("[pair]\nslot = 1\nmate = \"192.0.2.2\"\n");
    let (listen, mate) = ("0.0.0.0:19041".parse().unwrap(), "192.0.2.2:19041".parse().unwrap());
    let expected = Pair {
        slot: Slot::One,
        listen,
        mate,
        priority: 100,
        timing: Timing::DEFAULT,
        limit: Some(Limit::DEFAULT),
        failback: Failback::ByHand,
        wait_for: WaitFor::Standby,
        witnesses: None,
        paths: vec![PairPath { interface: "default".to_owned(), local: listen, mate }],
    };
    assert_eq!(pair, expected);
    let settings = pair.settings(true);
    assert_eq!(settings.paths.interfaces(), ["default"]);
    assert!(settings.witnesses && !pair.settings(false).witnesses);
}

#[test]
fn every_option_of_a_pair_arrives() {
    let pair = pair(
        r#"
        [pair]
        slot = 0
        listen = "[2001:db8::1]:1041"
        mate = "[2001:db8::2]:1042"
        priority = 0
        heartbeat = "100ms"
        mate_timeout = "1s"
        licence_missed = 9
        failback = "automatic"
        failback_after = "5m"
        max_takeovers = 10
        takeover_period = "51m"
        wait_for = "disk"
        witnesses = []
        [[pair.path]]
        interface = "eth0"
        local = "192.0.2.1"
        mate = "192.0.2.2:19043"
        [[pair.path]]
        interface = "cross-over"
        local = "[2001:db8:1::1]:19041"
        mate = "2001:db8:1::2"
        "#,
    );
    let ms = Duration::from_millis;
    assert_eq!(pair.slot, Slot::Zero);
    assert_eq!((pair.listen.port(), pair.mate.port(), pair.priority), (1041, 1042, 0));
    assert_eq!(pair.timing, Timing::new(ms(100), ms(1000), 9).unwrap());
    assert_eq!(pair.limit, Limit::new(10, Duration::from_secs(51 * 60)).ok());
    assert_eq!(pair.failback, Failback::Automatic { after: Duration::from_secs(300) });
    assert_eq!((pair.wait_for, pair.witnesses.as_deref()), (WaitFor::Disk, Some(&[][..])));
    let paths =
        pair.paths.iter().map(|path| format!("{} {} {}", path.interface, path.local, path.mate));
    assert_eq!(
        paths.collect::<Vec<_>>(),
        [
            "eth0 192.0.2.1:19041 192.0.2.2:19043",
            "cross-over [2001:db8:1::1]:19041 [2001:db8:1::2]:19041"
        ]
    );
    assert_eq!(pair.settings(false).paths.interfaces(), ["eth0", "cross-over"]);
}

#[test]
fn pair_6_the_limit_can_be_turned_off() {
    let section = "[pair]\nslot = 0\nmate = \"192.0.2.2\"\nfailover_limit = ";
    assert_eq!(pair(&format!("{section}false\n")).limit, None);
    assert_eq!(pair(&format!("{section}true\n")).limit, Some(Limit::DEFAULT));
}

#[test]
fn two_agents_on_one_host_have_different_ports() {
    let pair = pair("[pair]\nslot = 0\nlisten = \"127.0.0.1:1\"\nmate = \"127.0.0.1:2\"\n");
    assert_eq!(pair.mate.port(), 2);
}
