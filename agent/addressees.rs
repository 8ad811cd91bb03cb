//! The notification targets of the configuration, as each of the parts that serve them wants them: the
//! core decides by their places, the notifier sends alarms and what is acknowledged, the forwarder
//! sends the rest.

use evenkeel_core::{
    alarm::Mate,
    mib,
    settings::Settings,
    usm::{EngineId, LocalEngine},
};

use crate::{
    config::{Config, NotificationTarget, Origin},
    forwarder, notifier,
    notifier::{Filter, Target},
};

/// What the core is told, with the mark of what this agent forwards.
pub fn settings(config: &Config, engine: &EngineId) -> Settings {
    let mut settings = config.core.clone();
    settings.agent = config.agent.name();
    settings.mate = config.pair.as_ref().map(|pair| {
        let address = pair.mate.ip().to_canonical();
        // Until it has said its name.
        Mate { name: address.to_string(), address }
    });
    settings.forwarding.mark = engine.octets().to_vec();
    settings.forwarding.mark_oid = mib::forwarded_by(&config.notifications.root_oid);
    settings
}

/// What the notifier says of its sender.
pub fn identity(config: &Config, engine: LocalEngine) -> notifier::Identity {
    notifier::Identity {
        root: config.notifications.root_oid.clone(),
        agent_name: config.agent.name(),
        of_pair: config.pair.is_some(),
        engine,
    }
}

/// The targets for the notifier: all of them.
pub fn notified(config: &Config) -> Vec<Target> {
    config.notifications.targets.iter().map(notified_one).collect()
}

fn notified_one(target: &NotificationTarget) -> Target {
    Target {
        name: target.name.clone(),
        address: target.address,
        destination: target.destination.clone(),
        timeout: target.timeout,
        retries: target.retries,
        rate: target.rate,
        burst: target.burst,
        window: target.window,
        filter: Filter {
            alarms: target.alarms,
            kinds: target.kinds.clone(),
            least: target.least_severity,
        },
        forward_community: target.origin == Origin::Address { community: true },
    }
}

/// The targets for the forwarder, by their places in the core's settings: those that do not
/// acknowledge.
pub fn forwarded(config: &Config) -> Vec<Option<forwarder::ForwardTarget>> {
    let targets = config.notifications.targets.iter();
    targets.map(|target| (!target.destination.confirmed).then(|| forwarded_one(target))).collect()
}

fn forwarded_one(target: &NotificationTarget) -> forwarder::ForwardTarget {
    let (origin, with_community) = match target.origin {
        Origin::Address { community } => (forwarder::Origin::Address, community),
        Origin::Source => (forwarder::Origin::Source, false),
    };
    forwarder::ForwardTarget {
        name: target.name.clone(),
        address: target.address,
        destination: target.destination.clone(),
        origin,
        with_community,
    }
}

/// The names of all that have a cursor: the targets and the receivers.
pub fn names(config: &Config) -> Vec<String> {
    let targets = config.notifications.targets.iter().map(|target| target.name.clone());
    let receivers = config.notifications.receivers.iter().map(|receiver| receiver.name.clone());
    targets.chain(receivers).collect()
}

/// The names of those that acknowledge.
pub fn acknowledging(config: &Config) -> Vec<String> {
    let targets = config.notifications.targets.iter();
    targets
        .filter(|target| target.destination.confirmed)
        .map(|target| target.name.clone())
        .collect()
}
