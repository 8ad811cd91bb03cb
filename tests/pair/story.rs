//! What an NMS is told of two devices, each of which sends to both agents: of each interface that goes down
//! one alarm is raised and cleared, under one id, whatever becomes of the agents meanwhile (PAIR-13).

use std::{
    collections::BTreeMap,
    ops::RangeInclusive,
    thread,
    time::{Duration, Instant},
};

use crate::{
    common::{Nms, Notification, Trap, wait_until},
    pair::{Hosts, LIMIT},
    takeover::{Device, NMS, active, told},
};

/// The devices' addresses, which the gateway's host has.
const DEVICES: [&str; 2] = ["10.1.0.253", "10.1.0.254"];

/// The NMS, the devices, and which interfaces have gone down so far.
pub struct Story<'a> {
    pub nms: Nms<'a>,
    devices: [Device; 2],
    interfaces: Vec<u32>,
}

impl<'a> Story<'a> {
    /// For hosts that are plugged.
    pub fn start(hosts: &'a Hosts) -> Story<'a> {
        hosts.gate.address("eth0", &format!("{}/24", DEVICES[0]));
        let nms = Nms::start(&hosts.gate, NMS);
        let devices = DEVICES.map(|address| Device::at(hosts, address));
        Story { nms, devices, interfaces: Vec::new() }
    }

    /// On both devices these interfaces, which have not been down before, go down.
    pub fn down(&mut self, interfaces: RangeInclusive<u32>) {
        for if_index in interfaces {
            self.interfaces.push(if_index);
            self.devices.iter_mut().for_each(|device| device.send(Trap::LinkDown(if_index)));
        }
    }

    /// The same, and one of the agents alone is told: the first, 0, or the second.
    pub fn down_for(&mut self, agent: usize, interfaces: RangeInclusive<u32>) {
        for if_index in interfaces {
            self.interfaces.push(if_index);
            let trap = Trap::LinkDown(if_index);
            self.devices.iter_mut().for_each(|device| device.send_to(agent, trap));
        }
    }

    /// All that are down come up again.
    pub fn up(&mut self) {
        for &if_index in &self.interfaces {
            self.devices.iter_mut().for_each(|device| device.send(Trap::LinkUp(if_index)));
        }
    }

    /// The alarms of interfaces so far, each as often as it has had an id.
    fn of_interfaces(&self, what: &str) -> BTreeMap<String, usize> {
        let mut times = BTreeMap::new();
        for (summary, _) in told(&self.nms) {
            if let Some(object) = summary.strip_prefix(&format!("{what} interface_down ")) {
                *times.entry(object.to_owned()).or_default() += 1;
            }
        }
        times
    }

    fn each_once(&self) -> BTreeMap<String, usize> {
        let of = |if_index: &u32| DEVICES.map(|device| (format!("{device} ifIndex {if_index}"), 1));
        self.interfaces.iter().flat_map(of).collect()
    }

    /// Waits until all that has gone down so far is told.
    pub fn until_told(&self) {
        let all = self.each_once().len();
        wait_until("all that is down to be told", LIMIT, || {
            self.of_interfaces("raised").len() == all
        });
    }

    /// What came from this agent.
    pub fn from(&self, address: &str) -> Vec<Notification> {
        self.nms.alarms().into_iter().filter(|one| one.from == address).collect()
    }

    /// Waits until nothing is active any more, and looks back: everything was raised once and cleared
    /// once.
    pub fn until_over(&mut self) {
        self.up();
        let all = self.each_once();
        wait_until("all that came up to be told", LIMIT, || {
            self.of_interfaces("cleared").len() == all.len()
        });
        let until = Instant::now() + LIMIT;
        while active(&told(&self.nms)) != 0 {
            assert!(Instant::now() < until, "something does not end: {:#?}", self.nms.alarms());
            thread::sleep(Duration::from_millis(20));
        }
        for what in ["raised", "cleared"] {
            assert_eq!(self.of_interfaces(what), all, "{what}: {:?}", told(&self.nms));
        }
    }
}
