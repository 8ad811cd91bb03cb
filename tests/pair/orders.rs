//! What operators order and set: failover, failback, maintenance (PAIR-5, PAIR-7), and the limit (PAIR-6).

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::{
    Hosts, LIMIT, Pair, TAKEOVER, order, role, status, story::Story, took, until_taken_over,
};
use crate::{
    common::{sleep_until, wait_until},
    takeover::MORE,
};

#[test]
fn pair_5_pair_7_roles_follow_orders_and_failback_and_nobody_takes_over_in_maintenance() {
    let hosts = Hosts::new();
    let more = format!("failback = \"automatic\"\nfailback_after = \"4s\"\n{MORE}");
    let mut pair = Pair::start(&hosts, &more);
    let mut story = Story::start(&hosts);
    pair.until_whole(["primary", "standby"]);
    story.down(1..=5);

    // On the primary, which is standby at once.
    let ordered = Timestamp::now();
    let (done, said) = order(&pair.one, "failover");
    assert!(done, "{said}");
    assert_eq!(role(&pair.one), "standby");
    wait_until("the other one to be primary", LIMIT, || role(&pair.two) == "primary");
    let last = status(&pair.two)["last_takeover"].clone();
    assert_eq!((&last["reason"], &last["kind"]), (&"operator".into(), &"ordered".into()));
    let took = took(&pair.two, ordered);
    assert!(took <= Duration::from_secs(1), "an ordered takeover took {took:?}");
    story.until_told();

    // The one that is preferred is primary again, not before it has had all of the state for so long.
    let whole = Timestamp::now();
    let took = until_taken_over(&pair.one, "failback", whole);
    assert!(took > Duration::from_secs(2), "{took:?}");
    pair.until_whole(["primary", "standby"]);
    assert_eq!(status(&pair.one)["limit"]["within"], 1);

    let (done, said) = order(&pair.one, "hold");
    assert!(done, "{said}");
    wait_until("the standby to know it", LIMIT, || status(&pair.two)["held"] == true);
    let killed = Instant::now();
    pair.one.kill9();
    story.down(6..=8);
    sleep_until(killed + TAKEOVER + Duration::from_secs(1));
    let held = status(&pair.two);
    assert_eq!((&held["role"], &held["may_speak"]), (&"standby".into(), &false.into()));
    let released = Timestamp::now();
    let (done, said) = order(&pair.two, "release");
    assert!(done, "{said}");
    let took = until_taken_over(&pair.two, "mate_silent", released);
    assert!(took <= Duration::from_secs(1), "{took:?}");
    story.until_told();
    pair.one.launch();
    wait_until("the failback after a crash", LIMIT, || role(&pair.one) == "primary");
    pair.until_whole(["primary", "standby"]);
    story.until_over();
    pair.until_journals_agree();
}

#[test]
fn pair_6_pair_10_the_fourth_crash_within_an_hour_is_left_to_an_operator() {
    let hosts = Hosts::new();
    let mut pair = Pair::start(&hosts, MORE);
    let mut story = Story::start(&hosts);
    pair.until_whole(["primary", "standby"]);
    for crash in 1..=3 {
        story.down(10 * crash..=10 * crash + 4);
        let killed = Timestamp::now();
        let first = crash % 2 == 1;
        let (primary, standby) = match first {
            true => (&mut pair.one, &mut pair.two),
            false => (&mut pair.two, &mut pair.one),
        };
        primary.kill9();
        story.down(10 * crash + 5..=10 * crash + 6);
        let took = until_taken_over(standby, "mate_silent", killed);
        assert!(took <= TAKEOVER, "{took:?}");
        story.until_told();
        // It comes back as standby.
        primary.launch();
        pair.until_whole(if first { ["standby", "primary"] } else { ["primary", "standby"] });
        assert_eq!(status(&pair.one)["limit"]["within"], crash);
    }
    wait_until("it to be known that this was the last", LIMIT, || {
        status(&pair.one)["limit"]["suppressed_for_seconds"].as_f64().is_some_and(|s| s > 3_500.0)
    });

    pair.two.kill9();
    let killed = Instant::now();
    story.down(40..=42);
    wait_until("the takeover to be suppressed", LIMIT, || {
        pair.one.log().contains("failover_limit_reached")
            || pair.one.metrics().sum("evenkeel_pair_takeovers_suppressed", &[]) == 1.0
    });
    sleep_until(killed + TAKEOVER + Duration::from_secs(1));
    assert_eq!(role(&pair.one), "standby");
    let ordered = Timestamp::now();
    story.down(43..=44);
    let (done, said) = order(&pair.one, "failover");
    assert!(done, "{said}");
    wait_until("it to be primary", LIMIT, || role(&pair.one) == "primary");
    assert!(took(&pair.one, ordered) <= Duration::from_secs(1));
    // PAIR-6: what is ordered is not counted.
    assert_eq!(status(&pair.one)["limit"]["within"], 3);
    wait_until("the limit to be told, and over as the roles have changed", LIMIT, || {
        let told = story.nms.alarms_of("failover_limit_reached");
        let names: Vec<&str> = told.iter().map(|one| one.name.as_str()).collect();
        names == ["evenkeelAlarmRaised", "evenkeelAlarmCleared"]
    });
    assert_eq!(status(&pair.one)["takeovers"], 4);
    let (done, said) = order(&pair.one, "reset-counters");
    assert!(done, "{said}");
    wait_until("the counters to be reset", LIMIT, || status(&pair.one)["takeovers"] == 0);
    assert_eq!(status(&pair.one)["limit"]["within"], 3, "what the limit remembers stays");
    pair.two.launch();
    pair.until_whole(["primary", "standby"]);
    story.until_over();
    pair.until_journals_agree();
}
