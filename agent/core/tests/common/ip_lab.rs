//! A host in a simulated network: what it polls is answered, late, twice or not at all, as a test says; its
//! driver may stall; and addresses that the agent wants moved are moved.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use evenkeel_core::{
    agent::Agent,
    input::{Ear, Echo, Event, Host, HostInterface, Input, Move, Reply, Verdict},
    settings::{Polled, Require, Settings, Subnet, Subnets},
    time::Time,
};

use super::sim::{at, local_engine};

/// What the network does with an echo: after how many milliseconds replies come.
pub type Network = Box<dyn FnMut(&Echo, Time) -> Vec<u64>>;

/// An agent, the network around it, and a driver that does what the contract asks.
pub struct Lab {
    /// The agent.
    pub agent: Agent,
    /// Its settings.
    pub settings: Settings,
    /// What answers.
    pub network: Network,
    /// The present.
    pub now: Time,
    coming: BTreeMap<(Time, usize), Reply>,
    /// What was sent, and when.
    pub sent: Vec<(Time, Echo)>,
    /// What the agent told.
    pub events: Vec<Event>,
    /// How late the driver is at each deadline, in milliseconds.
    pub lag: u64,
    /// Replies that were lost at this host since it said so last.
    pub lost: u64,
    /// What this host has.
    there: Host,
    /// What the agent wanted moved.
    pub moves: Vec<(Time, Move)>,
    /// What becomes of that.
    pub mover: Mover,
    /// When the agent is shown what this host has.
    view_due: Option<Time>,
}

/// What becomes of a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mover {
    /// It is done at once, and the agent sees the addresses in their new place so many milliseconds after
    /// it was told.
    Moves(u64),
    /// It is refused.
    Refuses,
    /// The agent is not told. The addresses are where they were, or where they were to come to.
    Dies {
        /// They have come there.
        moved: bool,
    },
}

impl Lab {
    /// A host without interfaces, of which these subnets are watched.
    pub fn new(subnets: Vec<Subnet>, network: Network) -> Lab {
        let subnets = Subnets { watch_gateways: true, subnets, ..Subnets::default() };
        let settings = Settings { subnets, ..Settings::default() };
        Lab {
            agent: Agent::new(settings.clone(), local_engine(), 1, 42),
            settings,
            network,
            now: at(0),
            coming: BTreeMap::new(),
            sent: Vec::new(),
            events: Vec::new(),
            lag: 0,
            lost: 0,
            there: Host::default(),
            moves: Vec::new(),
            mover: Mover::Moves(25),
            view_due: None,
        }
    }

    /// One interface with an address, and one polling target that it polls.
    pub fn simple(network: Network) -> Lab {
        let mut lab = Lab::new(vec![subnet("10.0.0.0/24", &["10.0.0.254"])], network);
        lab.host(&[("eth0", &["10.0.0.1/24"])]);
        lab
    }

    /// Gives the host these interfaces, with their addresses.
    /// Interfaces, all with a link, whose index is in their name.
    pub fn host(&mut self, interfaces: &[(&str, &[&str])]) {
        self.there = host(interfaces);
        self.show();
    }

    /// Takes the link of an interface away, or brings it back.
    pub fn link(&mut self, name: &str, running: bool) {
        let interfaces = self.there.interfaces.iter_mut();
        interfaces.filter(|there| there.name == name).for_each(|there| there.running = running);
        self.show();
    }

    /// Shows the agent what this host has.
    fn show(&mut self) {
        self.view_due = None;
        self.feed(&Input::Host { host: self.there.clone(), now: self.now });
    }

    /// The addresses of an interface.
    pub fn on(&self, name: &str) -> Vec<String> {
        let interfaces = self.there.interfaces.iter().filter(|there| there.name == name);
        interfaces.flat_map(|there| &there.addresses).map(ToString::to_string).collect()
    }

    fn carry_out(&mut self, order: Move) {
        self.moves.push((self.now, order.clone()));
        let moves = match self.mover {
            Mover::Moves(_) | Mover::Dies { moved: true } => true,
            Mover::Refuses | Mover::Dies { moved: false } => false,
        };
        for there in self.there.interfaces.iter_mut().filter(|_| moves) {
            if there.name == order.from {
                there.addresses.retain(|address| !order.subnet.contains(&address.addr()));
            } else if there.name == order.to {
                there.addresses.extend(&order.addresses);
                there.addresses.sort_unstable();
                there.addresses.dedup();
            }
        }
        let (subnet, now) = (order.subnet, self.now);
        match self.mover {
            Mover::Moves(lag) => {
                self.view_due = Some(self.now + Duration::from_millis(lag));
                self.feed(&Input::Moved { subnet, failed: None, now });
            }
            Mover::Refuses => {
                let failed = Some("Operation not permitted".to_owned());
                self.feed(&Input::Moved { subnet, failed, now });
            }
            Mover::Dies { .. } => {}
        }
    }

    /// Loads the configuration again, changed.
    pub fn reload(&mut self, change: impl FnOnce(&mut Subnets)) {
        change(&mut self.settings.subnets);
        let settings = Box::new(self.settings.clone());
        self.feed(&Input::Settings { settings, now: self.now });
    }

    /// Ends the agent and starts it again, in no time, with what it knew. Its orders are lost.
    pub fn restart(&mut self) {
        let state = self.agent.export(self.now);
        self.agent = Agent::new(self.settings.clone(), local_engine(), 1, 42);
        self.coming.clear();
        self.agent.restore(state, Duration::ZERO, self.now);
        self.view_due = None;
        self.drain();
    }

    /// Hands in one input, and does what comes of it.
    pub fn feed(&mut self, input: &Input<'_>) {
        self.agent.handle(input);
        self.drain();
    }

    fn drain(&mut self) {
        self.events.extend(std::iter::from_fn(|| self.agent.poll_event()));
        while let Some(echo) = self.agent.poll_transmit() {
            for delay in (self.network)(&echo, self.now) {
                let received = self.now + Duration::from_millis(delay);
                let reply = Reply {
                    local: echo.local,
                    polled: echo.polled,
                    identifier: echo.identifier,
                    sequence: echo.sequence,
                    interface: Some(echo.interface),
                    received,
                    verdict: Verdict::Answered,
                };
                self.coming.insert((received, self.coming.len() + self.sent.len()), reply);
            }
            self.sent.push((self.now, echo));
        }
        while let Some(order) = self.agent.poll_move() {
            self.carry_out(order);
        }
    }

    /// Does what a driver does until then.
    pub fn run(&mut self, millis: u64) {
        let until = at(millis);
        loop {
            let lag = Duration::from_millis(self.lag);
            let due = self.agent.next_deadline().map(|due| due + lag);
            let reply = self.coming.first_key_value().map(|((received, _), _)| *received);
            let next = due.into_iter().chain(reply).chain(self.view_due).min();
            let Some(next) = next.filter(|next| *next <= until) else { break };
            self.now = self.now.max(next);
            if self.view_due.is_some_and(|due| due <= self.now) {
                self.show();
            }
            while let Some(entry) =
                self.coming.first_entry().filter(|entry| entry.key().0 <= self.now)
            {
                let reply = entry.remove();
                self.feed(&Input::Reply(reply));
            }
            if due.is_some_and(|due| due <= self.now) {
                let lost = std::mem::take(&mut self.lost);
                self.feed(&Input::Heard { ear: Ear::Replies, up_to: self.now, lost, limited: 0 });
                self.feed(&Input::Now(self.now));
            }
        }
        self.now = self.now.max(until);
    }

    /// The driver does nothing until then; what comes meanwhile waits with its true stamp.
    pub fn stall(&mut self, millis: u64) {
        self.now = self.now.max(at(millis));
    }

    /// The alarms told, in milliseconds.
    pub fn told(&self) -> Vec<String> {
        let alarms = self.events.iter().filter_map(|event| match event {
            Event::Alarm(event) => Some(event),
            _ => None,
        });
        alarms
            .map(|event| {
                let millis = event.at.since(at(0)).as_millis();
                let (kind, object) = (event.alarm.kind, &event.alarm.object);
                match event.cleared {
                    None => format!("{millis} raise {kind} {object}"),
                    Some(why) => format!("{millis} clear {kind} {object} {}", why.name()),
                }
            })
            .collect()
    }

    /// How often the agent said that it had stood still.
    pub fn stalls(&self) -> usize {
        self.events.iter().filter(|event| matches!(event, Event::Stalled { .. })).count()
    }
}

/// Interfaces, all with a link, whose index is in their name.
pub fn host(interfaces: &[(&str, &[&str])]) -> Host {
    let interfaces = interfaces.iter().map(|(name, addresses)| HostInterface {
        index: u32::from(name.as_bytes()[3] - b'0') + 1,
        name: (*name).to_owned(),
        up: true,
        running: true,
        loopback: false,
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        gateways: vec!["172.16.0.254".parse().unwrap()],
    });
    Host { interfaces: interfaces.collect() }
}

/// A subnet with these polling targets.
pub fn subnet(prefix: &str, targets: &[&str]) -> Subnet {
    let targets =
        targets.iter().map(|target| Polled { address: target.parse().unwrap(), zone: None });
    Subnet {
        prefix: prefix.parse().unwrap(),
        monitor: true,
        polling_targets: targets.collect(),
        peers: vec![],
        require: Require::Any,
        standby: None,
    }
}

/// Answers after 10 ms, but for those polled addresses that are silent from some time on.
pub fn silent_from(silent: &'static [(&'static str, u64)]) -> Network {
    Box::new(move |echo, now| {
        let is_silent = |(who, from): &(&str, u64)| {
            let who: IpAddr = who.parse().unwrap();
            (echo.polled == who || echo.local == who) && now >= at(*from)
        };
        if silent.iter().any(is_silent) { vec![] } else { vec![10] }
    })
}
