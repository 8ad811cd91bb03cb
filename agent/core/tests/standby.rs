//! Subnets with a standby interface, in a simulated network (SUBN-8, SUBN-9): eth0 has the addresses, eth1
//! waits.

use evenkeel_core::{
    input::{Event, Input},
    settings::{Interfaces, Subnet},
};

use crate::common::{
    ip_lab::{Lab, Mover, Network, subnet},
    sim::at,
};

/// The subnet's prefix.
const PREFIX: &str = "10.0.0.0/24";

fn with_standby() -> Subnet {
    let interfaces = Interfaces { primary: "eth0".into(), standby: "eth1".into() };
    Subnet { standby: Some(interfaces), ..subnet(PREFIX, &["10.0.0.254"]) }
}

/// A network in which these interfaces (of index 1 and 2) carry nothing from these moments on to those.
fn deaf(times: &'static [(u32, u64, u64)]) -> Network {
    Box::new(move |echo, now| {
        let is_deaf = |(interface, from, to): &(u32, u64, u64)| {
            echo.interface == *interface && now >= at(*from) && now < at(*to)
        };
        if times.iter().any(is_deaf) { vec![] } else { vec![10] }
    })
}

/// A host with two addresses on eth0, both of which poll, in such a network.
fn lab(network: Network) -> Lab {
    let mut lab = Lab::new(vec![with_standby()], network);
    lab.host(&[("eth0", &["10.0.0.1/24", "10.0.0.2/24"]), ("eth1", &[])]);
    lab
}

/// The interfaces of the subnet in words.
fn words(lab: &Lab) -> Vec<String> {
    let subnets = lab.agent.subnets().subnets();
    let interfaces = subnets.flat_map(|subnet| subnet.interfaces);
    interfaces.map(|interface| format!("{} {interface}", interface.name)).collect()
}

/// Whether the subnet is up, as far as that is known.
fn up(lab: &Lab) -> Option<bool> {
    lab.agent.subnets().subnets().next().expect("one").up
}

/// When the addresses moved where to.
fn moves(lab: &Lab) -> Vec<String> {
    let moves = lab.moves.iter();
    moves.map(|(when, order)| format!("{} {}", when.since(at(0)).as_millis(), order.to)).collect()
}

fn enable(lab: &mut Lab) {
    let subnet = PREFIX.parse().unwrap();
    assert_eq!(lab.agent.subnets().may_enable(subnet), Ok(()));
    lab.feed(&Input::Enable { subnet, now: lab.now });
}

#[test]
fn subn_8_ip_fails_the_addresses_move_and_an_operator_brings_them_back() {
    let mut lab = lab(deaf(&[(1, 20_000, 60_000)]));
    lab.run(20_000);
    assert_eq!(words(&lab), ["eth0 up", "eth1 standby"]);
    lab.run(50_000);
    // Each address has a flow; the interface is down when none of them is up (SUBN-6).
    assert_eq!(moves(&lab), ["29000 eth1"]);
    assert_eq!(lab.on("eth1"), ["10.0.0.1/24", "10.0.0.2/24"]);
    assert_eq!(lab.on("eth0"), [""; 0]);
    assert_eq!(lab.told(), ["29000 raise interface_ip_down eth0 on 10.0.0.0/24"]);
    assert_eq!(words(&lab), ["eth0 down (disabled) (IP only)", "eth1 up"]);
    assert_eq!(up(&lab), Some(true));
    // Whatever works on the primary again: nothing comes back by itself.
    lab.link("eth0", false);
    lab.run(55_000);
    lab.link("eth0", true);
    lab.run(600_000);
    assert_eq!(words(&lab), ["eth0 down (disabled) (IP only)", "eth1 up"]);
    assert_eq!(lab.moves.len(), 1);
    enable(&mut lab);
    lab.run(620_000);
    assert_eq!(moves(&lab)[1..], ["600000 eth0"]);
    assert_eq!(lab.on("eth0"), ["10.0.0.1/24", "10.0.0.2/24"]);
    assert_eq!(words(&lab), ["eth0 up", "eth1 standby"]);
    let told = lab.told();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[1].ends_with(" clear interface_ip_down eth0 on 10.0.0.0/24 ended"), "{told:?}");
}

#[test]
fn subn_8_link_and_ip_fail_and_come_back_by_themselves() {
    let mut lab = lab(deaf(&[(1, 20_000, 60_000)]));
    lab.run(20_000);
    lab.link("eth0", false);
    lab.run(50_000);
    assert_eq!(moves(&lab), ["29000 eth1"]);
    assert_eq!(words(&lab), ["eth0 down (Link and IP)", "eth1 up"]);
    assert!(!lab.told().iter().any(|told| told.contains("subnet_down")));
    lab.run(60_000);
    lab.link("eth0", true);
    lab.run(67_900);
    assert_eq!(lab.moves.len(), 1);
    lab.run(90_000);
    assert_eq!(moves(&lab)[1..], ["68000 eth0"], "the time of four polls after its link");
    assert_eq!(words(&lab), ["eth0 up", "eth1 standby"]);
    let told = lab.told();
    assert_eq!(
        told[..3],
        [
            "20000 raise interface_down eth0 of this host",
            "29000 raise interface_ip_down eth0 on 10.0.0.0/24",
            "29000 clear interface_down eth0 of this host superseded",
        ]
    );
    assert!(told[3].ends_with("clear interface_ip_down eth0 on 10.0.0.0/24 ended"), "{told:?}");
    assert_eq!(told.len(), 4);
}

#[test]
fn subn_8_a_link_that_is_back_without_ip_ends_as_a_failure_of_ip_only() {
    let mut lab = lab(deaf(&[(1, 20_000, u64::MAX >> 32)]));
    lab.run(20_000);
    lab.link("eth0", false);
    lab.run(60_000);
    lab.link("eth0", true);
    lab.run(1_000_000);
    // Back after 8 s of link, and away again after four polls without a reply; there it ends.
    let moves = moves(&lab);
    assert_eq!((moves.len(), &moves[..2]), (3, &["29000 eth1".into(), "68000 eth0".into()][..]));
    assert!(moves[2].ends_with(" eth1"), "{moves:?}");
    assert_eq!(words(&lab), ["eth0 down (disabled) (IP only)", "eth1 up"]);
    // All the while it is one fault, and the subnet is never down.
    assert_eq!(
        lab.told(),
        [
            "20000 raise interface_down eth0 of this host",
            "29000 raise interface_ip_down eth0 on 10.0.0.0/24",
            "29000 clear interface_down eth0 of this host superseded",
        ]
    );
}

#[test]
fn subn_8_a_standby_that_is_dead_too_is_found_out_within_four_polls_and_nothing_moves_again() {
    let mut lab = lab(deaf(&[(1, 20_000, 500_000), (2, 0, 500_000)]));
    lab.run(480_000);
    assert_eq!(moves(&lab), ["29000 eth1"]);
    let told = lab.told();
    assert_eq!(told[0], "29000 raise interface_ip_down eth0 on 10.0.0.0/24");
    assert_eq!(told.len(), 3);
    for told in &told[1..] {
        let secs: u64 = told.split(' ').next().unwrap().parse().unwrap();
        assert!((37_000..=39_100).contains(&secs), "{told}");
    }
    assert!(told[1].ends_with("raise interface_ip_down eth1 on 10.0.0.0/24"));
    assert!(told[2].ends_with("raise subnet_down 10.0.0.0/24"));
    assert_eq!(words(&lab), ["eth0 down (disabled) (IP only)", "eth1 down (IP only)"]);
    assert_eq!(up(&lab), Some(false));
    // It recovers where it is.
    lab.run(600_000);
    assert_eq!(lab.moves.len(), 1);
    assert_eq!(up(&lab), Some(true));
    assert_eq!(words(&lab), ["eth0 down (disabled) (IP only)", "eth1 up"]);
}

#[test]
fn subn_8_without_a_link_on_the_standby_the_subnet_is_down() {
    let mut lab = lab(deaf(&[(1, 20_000, 60_000)]));
    lab.link("eth1", false);
    lab.run(20_000);
    assert_eq!(words(&lab), ["eth0 up", "eth1 standby (link down)"]);
    lab.run(40_000);
    assert_eq!(lab.moves.len(), 0);
    // That the standby could not take over is known before it is needed.
    assert_eq!(
        lab.told(),
        [
            "0 raise interface_down eth1 of this host",
            "29000 raise interface_ip_down eth0 on 10.0.0.0/24",
            "29000 raise subnet_down 10.0.0.0/24",
        ]
    );
    // With its link the chance comes.
    lab.link("eth1", true);
    lab.run(55_000);
    assert_eq!(moves(&lab), ["40000 eth1"]);
    assert_eq!(up(&lab), Some(true));
    let last = lab.told().pop().unwrap();
    assert!(last.ends_with("clear subnet_down 10.0.0.0/24 ended"), "{last}");
}

#[test]
fn subn_8_what_cannot_be_moved_makes_the_subnet_down_and_is_tried_again() {
    let mut lab = lab(deaf(&[(1, 20_000, 60_000)]));
    lab.mover = Mover::Refuses;
    lab.run(38_000);
    assert_eq!(moves(&lab), ["29000 eth1", "37000 eth1"]);
    assert_eq!(
        lab.told(),
        [
            "29000 raise interface_ip_down eth0 on 10.0.0.0/24",
            "29000 raise subnet_down 10.0.0.0/24"
        ]
    );
    assert_eq!(words(&lab), ["eth0 down (IP only)", "eth1 standby"]);
    let failed = |event: &&Event| matches!(event, Event::Moved { failed: Some(_), .. });
    assert_eq!(lab.events.iter().filter(failed).count(), 2);
    lab.mover = Mover::Moves(0);
    lab.run(60_000);
    assert_eq!(moves(&lab)[2..], ["45000 eth1"]);
    assert_eq!(up(&lab), Some(true));
}

#[test]
fn subn_8_a_start_finishes_the_move_that_a_crash_has_left_half_done() {
    for moved in [false, true] {
        let mut lab = lab(deaf(&[(1, 20_000, 60_000)]));
        lab.mover = Mover::Dies { moved };
        lab.run(30_000);
        assert_eq!(moves(&lab), ["29000 eth1"]);
        lab.mover = Mover::Moves(25);
        lab.restart();
        assert_eq!(lab.agent.standbys().len(), 1, "it knows before it knows this host");
        lab.link("eth0", true);
        assert_eq!(moves(&lab), ["29000 eth1", "30000 eth1"]);
        let addresses = &lab.moves[1].1.addresses;
        assert_eq!(addresses.len(), 2, "{addresses:?}");
        lab.run(50_000);
        assert_eq!(words(&lab), ["eth0 down (disabled) (IP only)", "eth1 up"]);
        assert_eq!(lab.told(), ["29000 raise interface_ip_down eth0 on 10.0.0.0/24"], "one alarm");
        lab.run(60_000);
        enable(&mut lab);
        lab.run(80_000);
        assert_eq!(words(&lab), ["eth0 up", "eth1 standby"]);
    }
}

#[test]
fn subn_8_a_restart_leaves_the_addresses_where_they_are_and_the_primary_disabled() {
    let mut lab = lab(deaf(&[(1, 20_000, 60_000)]));
    lab.run(50_000);
    lab.restart();
    lab.link("eth0", true);
    lab.run(200_000);
    assert_eq!(lab.moves.len(), 1);
    assert_eq!(words(&lab), ["eth0 down (disabled) (IP only)", "eth1 up"]);
    assert_eq!(lab.told().len(), 1, "{:?}", lab.told());
}

#[test]
fn subn_8_without_the_standby_in_the_configuration_nothing_moves_and_the_alarms_are_those_of_the_flows()
 {
    let mut lab = lab(deaf(&[(1, 20_000, 60_000)]));
    lab.run(50_000);
    lab.reload(|subnets| subnets.subnets[0].standby = None);
    lab.run(60_000);
    assert_eq!(words(&lab), ["eth1 up"]);
    assert_eq!(lab.moves.len(), 1);
    let last = lab.told().pop().unwrap();
    assert_eq!(last, "50000 clear interface_ip_down eth0 on 10.0.0.0/24 removed");
    // And with it again: they are on the standby, so an operator is to say when they go back.
    lab.reload(|subnets| subnets.subnets[0] = with_standby());
    lab.run(80_000);
    assert_eq!(words(&lab), ["eth0 down (disabled) (IP only)", "eth1 up"]);
    enable(&mut lab);
    lab.run(100_000);
    assert_eq!(words(&lab), ["eth0 up", "eth1 standby"]);
    assert_eq!(lab.told().len() % 2, 0, "{:?}", lab.told());
}

#[test]
fn subn_8_addresses_that_somebody_moves_back_by_hand_are_watched_there() {
    let mut lab = lab(deaf(&[(1, 20_000, 60_000)]));
    lab.run(70_000);
    lab.host(&[("eth0", &["10.0.0.1/24", "10.0.0.2/24"]), ("eth1", &[])]);
    lab.run(100_000);
    assert_eq!(words(&lab), ["eth0 up", "eth1 standby"]);
    assert_eq!(lab.moves.len(), 1);
    assert_eq!(lab.told().len(), 2, "{:?}", lab.told());
}
