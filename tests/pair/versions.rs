//! Two agents whose versions differ: in the last number they are a full pair, in the middle one they say
//! that it is degraded, in the first the standby stays out and says why (PAIR, "Versions").

use std::time::Instant;

use serde_json::Value;

use super::{Hosts, LIMIT, Pair, TAKEOVER, role, status, until_primary};
use crate::common::{Agent, wait_until};

/// Ends the second agent and starts it again, as of another version, until the first one has heard that.
fn exchange(pair: &mut Pair<'_>, version: &str, grade: &str) {
    pair.two.stop();
    pair.two.set_version(version);
    pair.two.launch();
    wait_until(&format!("both to know that {version} is {grade}"), LIMIT, || {
        let [one, two] = [&pair.one, &pair.two].map(status);
        one["mate"]["said"]["version"] == version
            && one["versions"] == grade
            && two["versions"] == grade
    });
}

/// What an agent says of a standby that stays out.
fn unavailable(agent: &Agent<'_>) -> Option<String> {
    let alarms = agent.status()["alarms"].clone();
    let alarms = alarms.as_array().expect("a list").iter();
    let mut texts = alarms
        .filter(|alarm| alarm["kind"] == "standby_unavailable")
        .map(|alarm: &Value| alarm["text"].as_str().expect("a text").to_owned());
    texts.next()
}

#[test]
fn versions_that_differ_in_the_first_number_are_no_pair_in_the_others_they_take_over() {
    let hosts = Hosts::new();
    let mut pair = Pair::start(&hosts, "");
    let ours = status(&pair.one)["here"]["version"].as_str().expect("a version").to_owned();
    let numbers: Vec<u8> = ours.split('.').map(|text| text.parse().expect("a digit")).collect();
    let [major, minor, patch] = numbers[..] else { panic!("{ours}") };

    let other = format!("{}.{minor}.{patch}", major + 1);
    exchange(&mut pair, &other, "out");
    wait_until("it to be told", LIMIT, || unavailable(&pair.one).is_some());
    let told = unavailable(&pair.one).expect("it was there");
    assert!(told.contains(&ours) && told.contains(&other), "{told}");
    pair.one.kill9();
    wait_until("the mate to be given up", LIMIT, || {
        status(&pair.two)["mate"]["heard_seconds_ago"].as_f64().expect("a number") > 5.0
    });
    assert_eq!(role(&pair.two), "standby");
    pair.one.launch();
    wait_until("the first one to go on", LIMIT, || role(&pair.one) == "primary");

    for (version, grade) in [
        (format!("{major}.{minor}.{}", patch + 1), "full"),
        (format!("{major}.{}.{patch}", minor + 1), "degraded"),
    ] {
        exchange(&mut pair, &version, grade);
        pair.until_whole(["primary", "standby"]);
        wait_until("it to be told that there is a standby", LIMIT, || {
            unavailable(&pair.one).is_none()
        });
        let killed = Instant::now();
        pair.one.kill9();
        let took = until_primary(&pair.two, killed);
        assert!(took <= TAKEOVER, "{version}: {took:?}");
        pair.one.launch();
        pair.until_whole(["standby", "primary"]);
        // Back, so that the next one is the second agent's again.
        let (done, said) = super::order(&pair.two, "failover");
        assert!(done, "{said}");
        pair.until_whole(["primary", "standby"]);
    }
}
