//! Target polling: gateways on a switch that die and come back, and a polling target behind a router.

use std::{thread, time::Instant};

use super::{POLL, QUIET, down, during, heard_by, late, start, start_with, up_again, with_subnets};
use crate::common::{Lab, check};

#[test]
fn subn_6_any_polling_target_keeps_an_interface_up_unless_all_are_required() {
    let lab = Lab::new();
    let switch = lab.switch("switch");
    let (host, one, two) = (lab.namespace("host"), lab.namespace("one"), lab.namespace("two"));
    let _port = switch.plug(&host, "eth0");
    let (port_one, port_two) = (switch.plug(&one, "eth0"), switch.plug(&two, "eth0"));
    // On the first subnet any of the two will do, on the second both are required.
    let (any, all) = ("10.9.0.0/24", "10.9.1.0/24");
    for (node, number) in [(&host, 2), (&one, 11), (&two, 12)] {
        node.address("eth0", &format!("10.9.0.{number}/24"));
        node.address("eth0", &format!("10.9.1.{number}/24"));
    }
    let tables = format!(
        "[[subnets.subnet]]\nprefix = \"{any}\"\npolling_targets = [\"10.9.0.11\", \"10.9.0.12\"]\n\
         [[subnets.subnet]]\nprefix = \"{all}\"\npolling_targets = [\"10.9.1.11\", \"10.9.1.12\"]\n\
         require = \"all\"\n"
    );
    let (nms, agent) = start_with(&host, &with_subnets(&tables), 4);
    let begin = Instant::now();

    let cut = during(|| port_one.unplug());
    thread::sleep(7 * POLL);
    let mut expected = down(all, cut, late(&agent));
    check(begin, &expected, POLL, || nms.alarms());

    let cut = during(|| port_two.unplug());
    thread::sleep(7 * POLL);
    expected.extend(down(any, cut, late(&agent)));
    check(begin, &expected, POLL, || nms.alarms());

    let mended = during(|| {
        port_one.plug_in();
        for address in ["10.9.0.2", "10.9.1.2"] {
            heard_by(&one, address);
        }
    });
    thread::sleep(6 * POLL);
    expected.extend(up_again(any, mended, late(&agent)));
    check(begin, &expected, POLL, || nms.alarms());

    let mended = during(|| {
        port_two.plug_in();
        for address in ["10.9.0.2", "10.9.1.2"] {
            heard_by(&two, address);
        }
    });
    thread::sleep(6 * POLL);
    expected.extend(up_again(all, mended, late(&agent)));
    check(begin, &expected, QUIET, || nms.alarms());
}

#[test]
fn a_gateway_with_a_link_local_address_dies_and_comes_back() {
    let lab = Lab::new();
    let switch = lab.switch("switch");
    let (host, gate) = (lab.namespace("host"), lab.namespace("gate"));
    let _port = switch.plug(&host, "eth0");
    let port = switch.plug(&gate, "eth0");
    let subnet = "fd00:9::/64";
    host.address("eth0", "fd00:9::2/64");
    gate.address("eth0", "fe80::1/64");
    // A router has no need of an address on the subnet, but knows that it is on its link.
    gate.exec("ip -6 route add fd00:9::/64 dev eth0");
    let (nms, agent) = start(&host, &[(subnet, "fe80::1%eth0")]);

    let begin = Instant::now();
    let cut = during(|| port.unplug());
    thread::sleep(7 * POLL);
    let mut expected = down(subnet, cut, late(&agent));
    check(begin, &expected, POLL, || nms.alarms());

    let mended = during(|| {
        port.plug_in();
        heard_by(&gate, "fd00:9::2");
    });
    thread::sleep(6 * POLL);
    expected.extend(up_again(subnet, mended, late(&agent)));
    check(begin, &expected, QUIET, || nms.alarms());
}

#[test]
fn subn_13_a_polling_target_on_another_subnet_is_polled_through_the_router() {
    let lab = Lab::new();
    let switch = lab.switch("switch");
    let (host, router, far) =
        (lab.namespace("host"), lab.namespace("router"), lab.namespace("far"));
    lab.link((&host, "eth0"), (&router, "eth0"));
    let _port = switch.plug(&router, "eth1");
    let port = switch.plug(&far, "eth0");
    host.address("eth0", "10.9.0.2/24");
    router.address("eth0", "10.9.0.1/24");
    router.address("eth1", "10.9.1.1/24");
    far.address("eth0", "10.9.1.2/24");
    router.exec("sysctl -q -w net.ipv4.ip_forward=1");
    host.exec("ip route add default via 10.9.0.1");
    far.exec("ip route add default via 10.9.1.1");
    let subnet = "10.9.0.0/24";
    let (nms, agent) = start(&host, &[(subnet, "10.9.1.2")]);

    // A death beyond the router is told as a fault of this subnet, but with the address.
    let begin = Instant::now();
    let cut = during(|| port.unplug());
    thread::sleep(7 * POLL);
    let mut expected = down(subnet, cut, late(&agent));
    let told = check(begin, &expected, POLL, || nms.alarms());
    for told in &told {
        let text = told.value("evenkeelAlarmText");
        assert!(text.contains("10.9.1.2"), "{text}");
    }

    let mended = during(|| {
        port.plug_in();
        heard_by(&far, "10.9.0.2");
    });
    thread::sleep(6 * POLL);
    expected.extend(up_again(subnet, mended, late(&agent)));
    check(begin, &expected, QUIET, || nms.alarms());
}
