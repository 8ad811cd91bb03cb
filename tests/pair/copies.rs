//! PAIR-11: a primary that is killed while its standby is given the first copy of its state.

use std::{net::UdpSocket, thread, time::Duration};

use jiff::Timestamp;

use super::{Hosts, LIMIT, Pair, TAKEOVER, role, status, story::Story, until_taken_over};
use crate::{
    common::{Ns, Trap, wait_until, wire},
    takeover::MORE,
};

/// How many devices have restarted once each, which the agent remembers without an alarm: what makes the
/// copy long.
const SYSTEMS: u32 = 30_000;

/// Each sends one coldStart to the first agent.
fn restart_systems(gate: &Ns) {
    gate.exec("ip route add local 10.64.0.0/10 dev lo");
    gate.inside(|| {
        for system in 0..SYSTEMS {
            let [_, b, c, d] = (0x0a40_0001 + system).to_be_bytes();
            let socket = UdpSocket::bind((std::net::Ipv4Addr::new(10, b, c, d), 0));
            let trap = wire::v2c_trap(Trap::ColdStart, system, 100);
            socket.and_then(|socket| socket.send_to(&trap, "10.1.0.1:10162")).expect("it is sent");
            if system % 100 == 0 {
                thread::sleep(Duration::from_millis(20));
            }
        }
    });
}

#[test]
fn pair_11_a_takeover_in_the_midst_of_a_copy_says_what_was_not_there_and_all_is_joined_again() {
    let hosts = Hosts::new();
    let mut pair = Pair::plan(&hosts, MORE);
    pair.trust();
    pair.one.launch();
    let mut story = Story::start(&hosts);
    wait_until("it to be primary without a mate", LIMIT, || role(&pair.one) == "primary");
    story.down(1..=20);
    restart_systems(&hosts.gate);
    story.until_told();
    let known = || pair.one.metrics().sum("evenkeel_objects", &[]);
    wait_until("all to be remembered", LIMIT, || known() >= f64::from(SYSTEMS));

    pair.two.launch();
    // Its alarms have come, and what follows has not.
    wait_until("a copy to be under way", LIMIT, || {
        let synchronisation = status(&pair.two)["synchronisation"].clone();
        let missing = synchronisation["missing"].to_string();
        synchronisation["state"] == "copying" && !missing.contains("alarms")
    });
    let killed = Timestamp::now();
    pair.one.kill9();
    let took = until_taken_over(&pair.two, "mate_silent", killed);
    assert!(took <= TAKEOVER, "{took:?}");
    let last = status(&pair.two)["last_takeover"].clone();
    assert_eq!(last["degraded"], "without its objects, peers, outbox, engines", "{last}");
    story.down(21..=25);
    story.until_told();
    pair.one.launch();
    pair.until_whole(["standby", "primary"]);
    story.until_over();
    pair.until_journals_agree();
}
