//! What two agents say that are set up wrong, and that they meet once they are set up right (PAIR-8).

use serde_json::Value;

use crate::{
    common::{Agent, Lab, wait_until},
    pair::{LIMIT, fingerprint, run, status, trust},
};

fn configuration(own: u8, slot: u8) -> String {
    let mate = 3 - own;
    format!(
        "[traps]\nlisten = [\"127.0.0.1:10162\"]\n[subnets]\nwatch_gateways = false\n\
         [pair]\nslot = {slot}\nlisten = \"10.1.0.{own}:19041\"\nmate = \"10.1.0.{mate}:19041\"\n\
         witnesses = []\n"
    )
}

#[test]
fn pair_8_two_agents_of_one_slot_say_what_to_do_and_meet_when_it_is_done() {
    let lab = Lab::new();
    let hosts = [lab.namespace("one"), lab.namespace("two")];
    lab.link((&hosts[0], "eth0"), (&hosts[1], "eth0"));
    hosts[0].address("eth0", "10.1.0.1/24");
    hosts[1].address("eth0", "10.1.0.2/24");
    let mut one = Agent::prepare(&hosts[0], "keel-1", &configuration(1, 0));
    let mut two = Agent::prepare(&hosts[1], "keel-2", &configuration(2, 0));
    trust(&one, &fingerprint(&two));
    trust(&two, &fingerprint(&one));
    one.launch();
    two.launch();

    let problem = "the mate has the same slot, 0, and is refused: give one of the two `slot = 1`";
    let lost = |agent: &Agent<'_>| {
        let rows = agent.journal();
        rows.into_iter().find(|row| row.kind == "mate_sync_lost").map(|row| row.text)
    };
    for agent in [&one, &two] {
        wait_until("the status to say what to do", LIMIT, || {
            let status = status(agent);
            let problems = status["problems"].as_array().expect("a list");
            problems.iter().any(|other| other == problem)
        });
        assert_eq!(status(agent)["state_channel"]["refused"], "same_slot");
        let shown = String::from_utf8(run(agent, &["status"]).stdout).expect("text");
        assert!(shown.contains("the mate has the same slot, 0"), "{shown}");
        let refused = [("reason", "same_slot")];
        assert!(agent.metrics().sum("evenkeel_pair_channel_refused_total", &refused) >= 1.0);
        wait_until("the alarm to be in the journal", LIMIT, || lost(agent).is_some());
        let text = lost(agent).expect("it is there");
        assert!(
            text.contains("cannot connect to the mate, which was refused: same slot"),
            "{text}"
        );
        assert_eq!(agent.log().matches(problem).count(), 1, "it is logged once: {}", agent.log());
    }

    two.stop();
    two.configure(&configuration(2, 1));
    two.launch();
    for agent in [&one, &two] {
        wait_until("the two to meet", LIMIT, || status(agent)["state_channel"]["up"] == true);
        let status = status(agent);
        assert_eq!(status["problems"], Value::Array(Vec::new()), "{status}");
    }
}
