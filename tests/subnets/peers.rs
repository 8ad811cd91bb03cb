//! Peer polling: several nodes on a switch, each with an agent and an NMS of its own, and one
//! configuration for all.

use std::{thread, time::Instant};

use super::{POLL, QUIET, all_up, down, during, heard_by, late, up_again, with_subnets};
use crate::common::{Agent, Lab, Nms, Ns, Port, Switch, check};

const SUBNET: &str = "10.9.0.0/24";

/// Plugs in the nodes, as 10.9.0.1 and so on.
fn plug<'a>(switch: &'a Switch, nodes: &[Ns]) -> Vec<Port<'a>> {
    let plug = |(node, number): (&Ns, u8)| {
        let port = switch.plug(node, "eth0");
        node.address("eth0", &format!("10.9.0.{number}/24"));
        port
    };
    nodes.iter().zip(1..).map(plug).collect()
}

/// An NMS and an agent at each node, with every flow up.
fn start(nodes: &[Ns]) -> Vec<(Nms<'_>, Agent<'_>)> {
    let peers: Vec<String> = (1..=nodes.len()).map(|number| format!("10.9.0.{number}")).collect();
    let tables = format!("[[subnets.subnet]]\nprefix = \"{SUBNET}\"\npeers = {peers:?}\n");
    let configuration = with_subnets(&tables);
    let started: Vec<_> = nodes
        .iter()
        .map(|node| (Nms::start(node, "udp:127.0.0.1:11162"), Agent::start(node, &configuration)))
        .collect();
    for (_, agent) in &started {
        all_up(agent, nodes.len() - 1);
    }
    started
}

/// How many flows of an agent are up.
fn flows_up(agent: &Agent<'_>) -> f64 {
    agent.metrics().sum("evenkeel_flow_up", &[])
}

#[test]
fn subn_6_of_three_nodes_one_dies_and_nothing_is_raised_at_the_other_two() {
    let lab = Lab::new();
    let switch = lab.switch("switch");
    let nodes = ["a", "b", "c"].map(|name| lab.namespace(name));
    let ports = plug(&switch, &nodes);
    let mut started = start(&nodes);

    let begin = Instant::now();
    started[2].1.kill9();
    ports[2].unplug();
    thread::sleep(8 * POLL);
    for (nms, agent) in &started[..2] {
        check(begin, &[], POLL, || nms.alarms());
        assert_eq!(flows_up(agent), 1.0, "the flow to the dead node is still up");
        assert_eq!(agent.metrics().sum("evenkeel_subnet_up", &[]), 1.0);
    }

    ports[2].plug_in();
    started[2].1.launch();
    for (nms, agent) in &started {
        all_up(agent, 2);
        check(begin, &[], POLL, || nms.alarms());
    }
}

#[test]
fn a_node_that_hears_nothing_is_down_alone_though_the_others_hear_it_subn_6_subn_7() {
    let lab = Lab::new();
    let switch = lab.switch("switch");
    let nodes = ["a", "b", "c"].map(|name| lab.namespace(name));
    let ports = plug(&switch, &nodes);
    nodes[0].nft(
        "table inet lab {
            counter from_c { }
            chain in {
                type filter hook input priority 0;
                ip saddr 10.9.0.3 icmp type echo-request counter name from_c
            }
        }",
    );
    let started = start(&nodes);
    let (nms, agent) = &started[2];

    let begin = Instant::now();
    let cut = during(|| ports[2].deafen());
    let heard_before = nodes[0].counted("from_c");
    thread::sleep(7 * POLL);
    let mut expected = down(SUBNET, cut, late(agent));
    check(begin, &expected, POLL, || nms.alarms());
    let heard = nodes[0].counted("from_c") - heard_before;
    assert!(heard >= 4, "the fault was in both directions: {heard} of its polls were heard");

    let mended = during(|| {
        ports[2].undeafen();
        heard_by(&nodes[0], "10.9.0.3");
    });
    thread::sleep(6 * POLL);
    expected.extend(up_again(SUBNET, mended, late(agent)));
    check(begin, &expected, QUIET, || nms.alarms());
    for (nms, agent) in &started[..2] {
        check(begin, &[], POLL, || nms.alarms());
        all_up(agent, 2);
    }
}

#[test]
fn of_two_nodes_each_takes_the_others_death_for_its_own_and_was_told_so_subn_11() {
    let lab = Lab::new();
    let switch = lab.switch("switch");
    let nodes = ["a", "b"].map(|name| lab.namespace(name));
    let ports = plug(&switch, &nodes);
    let mut started = start(&nodes);
    for (_, agent) in &started {
        let log = agent.log();
        assert!(log.contains("will look like a failure here"), "no warning in:\n{log}");
    }

    // Nothing passes between them, though both links are up: both are down.
    let begin = Instant::now();
    let cut = during(|| ports[1].block());
    thread::sleep(7 * POLL);
    let mut expected: Vec<Vec<_>> = Vec::new();
    for ((nms, agent), node) in started.iter().zip(&nodes) {
        let link = node.exec("ip -br link show eth0");
        assert!(link.contains("LOWER_UP"), "the link is down: {link}");
        let told = down(SUBNET, cut, late(agent));
        check(begin, &told, POLL, || nms.alarms());
        expected.push(told);
    }
    let mended = during(|| {
        ports[1].unblock();
        heard_by(&nodes[0], "10.9.0.2");
    });
    thread::sleep(6 * POLL);
    for ((nms, agent), expected) in started.iter().zip(&mut expected) {
        expected.extend(up_again(SUBNET, mended, late(agent)));
        check(begin, expected, POLL, || nms.alarms());
        all_up(agent, 1);
    }

    // One dies: the other can't tell that from a failure of its own.
    let cut = during(|| {
        started[1].1.kill9();
        ports[1].unplug();
    });
    thread::sleep(7 * POLL);
    let (nms, agent) = &started[0];
    expected[0].extend(down(SUBNET, cut, late(agent)));
    check(begin, &expected[0], QUIET, || nms.alarms());
}
