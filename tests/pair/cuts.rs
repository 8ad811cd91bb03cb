//! Cables and ways that are cut (PAIR-3, PAIR-4, PAIR-17, PAIR-18): what moves, what does not, and what an NMS
//! is told of it.

use super::{Hosts, LIMIT, Pair, role, status, story::Story};
use crate::{
    common::{Agent, wait_until},
    takeover::{MORE, told},
};

impl Pair<'_> {
    /// Lets one of the two, 0 or 1, hear nothing of the other, by whatever way. Others still hear it and
    /// are heard.
    fn deafen(&self, which: usize) {
        for (port, other) in self.ports[which].iter().zip(&self.ports[1 - which]) {
            port.deafen_to(other);
        }
    }

    /// Lets it hear again.
    fn undeafen(&self, which: usize) {
        for (port, other) in self.ports[which].iter().zip(&self.ports[1 - which]) {
            port.undeafen_to(other);
        }
    }

    fn until_roles(&self, roles: [&str; 2]) {
        wait_until(&format!("the roles {roles:?}"), LIMIT, || self.both().map(role) == roles);
    }

    fn takeovers(&self) -> f64 {
        let of = |agent: &Agent<'_>| agent.metrics().sum("evenkeel_pair_takeovers_total", &[]);
        self.both().map(of).iter().sum()
    }
}

/// Of whose alarms of this kind an NMS was told, with what: each once, though it may have come twice.
fn told_of(story: &Story<'_>, kind: &str) -> Vec<String> {
    let told = told(&story.nms).into_iter().map(|(summary, _)| summary);
    let mut told: Vec<String> = told.filter(|summary| summary.contains(kind)).collect();
    told.sort();
    told
}

#[test]
fn pair_3_pair_8_a_lost_path_and_a_lost_state_channel_are_told_and_move_nothing() {
    let hosts = Hosts::new();
    let pair = Pair::start(&hosts, MORE);
    let mut story = Story::start(&hosts);
    pair.until_whole(["primary", "standby"]);
    let term = status(&pair.one)["term"].clone();

    pair.ports[0][1].block();
    hosts.one.nft(
        "table inet cut {
            chain in {
                type filter hook input priority 0
                tcp dport 19041 drop
            }
            chain out {
                type filter hook output priority 0
                tcp sport 19041 drop
            }
        }",
    );
    let paths = ["the mate of keel-1 by eth1", "the mate of keel-2 by eth1"];
    let syncs = ["the mate of keel-1", "the mate of keel-2"];
    let is_told = |what: &str| {
        wait_until("what the primary has found to be told", LIMIT, || {
            told_of(&story, "mate_path_lost") == [format!("{what} mate_path_lost {}", paths[0])]
                && told_of(&story, "mate_sync_lost")
                    == [format!("{what} mate_sync_lost {}", syncs[0])]
        });
    };
    is_told("raised");
    wait_until("the standby to have found the same", LIMIT, || {
        let alarms = pair.two.status()["alarms"].to_string();
        ["mate_path_lost", "mate_sync_lost"].iter().all(|kind| alarms.contains(kind))
    });
    // Nothing waits for a standby that gets nothing.
    story.down(1..=5);
    story.until_told();
    assert_eq!(pair.both().map(role), ["primary", "standby"]);
    assert_eq!(status(&pair.one)["may_speak"], true);

    hosts.one.exec("nft delete table inet cut");
    pair.ports[0][1].unblock();
    pair.until_whole(["primary", "standby"]);
    story.until_over();
    // The standby's leave through the primary, as soon as it can be reached.
    for (kind, objects) in [("mate_path_lost", paths), ("mate_sync_lost", syncs)] {
        let each =
            ["cleared", "raised"].map(|what| objects.map(|of| format!("{what} {kind} {of}")));
        assert_eq!(told_of(&story, kind), each.concat());
    }
    assert_eq!(status(&pair.one)["term"], term, "nothing has moved");
    assert_eq!(pair.takeovers(), 0.0);
    pair.until_journals_agree();
}

#[test]
fn pair_17_pair_18_one_way_cuts_leave_one_primary_and_a_split_is_joined_without_a_gap() {
    let hosts = Hosts::new();
    let pair = Pair::start(&hosts, MORE);
    let mut story = Story::start(&hosts);
    pair.until_whole(["primary", "standby"]);

    // The primary hears its standby no more: silent, until it knows that it is alone.
    pair.deafen(0);
    wait_until("the primary to go on alone", LIMIT, || {
        let status = status(&pair.one);
        status["without_standby"] == true && status["may_speak"] == true
    });
    story.down(1..=3);
    story.until_told();
    assert_eq!(pair.both().map(role), ["primary", "standby"]);
    assert_eq!(pair.takeovers(), 0.0, "who hears a primary takes nothing over");
    pair.undeafen(0);
    pair.until_whole(["primary", "standby"]);

    // The standby hears its primary no more: the primary follows who takes over, as it hears it.
    pair.deafen(1);
    story.down(4..=6);
    pair.until_roles(["standby", "primary"]);
    assert!(pair.one.log().contains("stepped back: it met a primary with a higher term"));
    story.down(7..=9);
    story.until_told();
    pair.undeafen(1);
    pair.until_whole(["standby", "primary"]);

    // PAIR-18: neither hears the other, and a witness answers both.
    [0, 1].into_iter().for_each(|which| pair.deafen(which));
    wait_until("both to speak", LIMIT, || {
        pair.both().into_iter().all(|agent| status(agent)["may_speak"] == true)
    });
    story.down(10..=15);
    story.down_for(0, 16..=18);
    story.down_for(1, 19..=21);
    wait_until("both to have told", LIMIT, || {
        ["10.1.0.1", "10.1.0.2"].into_iter().all(|agent| {
            let told = story.from(agent);
            (10..=15).all(|if_index| {
                let object = format!("10.1.0.254 ifIndex {if_index}");
                told.iter().any(|one| one.value("evenkeelAlarmObject") == object)
            })
        })
    });
    story.until_told();
    [0, 1].into_iter().for_each(|which| pair.undeafen(which));
    pair.until_roles(["primary", "standby"]);
    assert!(pair.two.log().contains("stepped back: it met a primary with a higher"));
    pair.until_whole(["primary", "standby"]);
    story.until_over();
    pair.until_journals_agree();
}

#[test]
fn pair_4_pair_18_without_a_witness_that_answers_nobody_speaks_and_without_any_both_do() {
    let hosts = Hosts::new();
    let pair = Pair::start(&hosts, &format!("witnesses = [\"10.1.0.77\"]\n{MORE}"));
    let mut story = Story::start(&hosts);
    pair.until_whole(["primary", "standby"]);
    story.down(1..=3);
    story.until_told();

    [0, 1].into_iter().for_each(|which| pair.deafen(which));
    let unavailable =
        |agent: &Agent<'_>| agent.status()["alarms"].to_string().contains("standby_unavailable");
    wait_until("the primary to step back, and both to say that they are cut off", LIMIT, || {
        pair.both().map(role) == ["standby", "standby"] && pair.both().into_iter().all(unavailable)
    });
    story.down(4..=6);
    // The witness comes, and answers one of the two.
    hosts.gate.nft(
        "table inet witness {
            chain in {
                type filter hook input priority 0
                ip saddr 10.1.0.1 ip daddr 10.1.0.77 drop
            }
        }",
    );
    hosts.gate.address("eth0", "10.1.0.77/24");
    pair.until_roles(["standby", "primary"]);
    assert_eq!(status(&pair.two)["last_takeover"]["reason"], "mate_silent");
    story.until_told();
    [0, 1].into_iter().for_each(|which| pair.undeafen(which));
    pair.until_whole(["standby", "primary"]);
    let all =
        ["cleared", "raised"].map(|what| format!("{what} standby_unavailable the pair of keel-"));
    let all = all.map(|what| [1, 2].map(|agent| format!("{what}{agent}"))).concat();
    wait_until("both to be told, and over", LIMIT, || {
        told_of(&story, "standby_unavailable") == all
    });

    // None to ask: both go on.
    pair.configure(&format!("witnesses = []\n{MORE}"));
    wait_until("nobody to be asked", LIMIT, || {
        pair.both().into_iter().all(|agent| status(agent)["witnesses"] == serde_json::json!([]))
    });
    [0, 1].into_iter().for_each(|which| pair.deafen(which));
    pair.until_roles(["primary", "primary"]);
    story.down(7..=9);
    story.until_told();
    [0, 1].into_iter().for_each(|which| pair.undeafen(which));
    pair.until_whole(["primary", "standby"]);
    story.until_over();
    pair.until_journals_agree();
}
