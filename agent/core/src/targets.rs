//! Which notification targets do not answer (TRAP-11).
//!
//! The sender of each target reports when it gives up waiting and when it is answered again. Here that
//! becomes an alarm, which ends too when the configuration no longer names the target.

use std::collections::BTreeSet;

use crate::{
    alarm::{ClearReason, Kind, Object},
    finding::Finding,
    settings::Forwarding,
    time::Time,
};

/// The machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Targets {
    unreachable: BTreeSet<String>,
}

impl Targets {
    /// Goes on with what was active before a restart, as far as it is still configured.
    pub fn restore<'a>(
        &mut self,
        active: impl Iterator<Item = (Kind, &'a Object)>,
        configured: &Forwarding,
        now: Time,
        found: &mut Vec<Finding>,
    ) {
        for (kind, object) in active {
            if let (Kind::NotificationTargetUnreachable, Object::NotificationTarget(name)) =
                (kind, object)
            {
                self.unreachable.insert(name.clone());
            }
        }
        self.reload(configured, now, found);
    }

    /// Takes in what the sender of a target reports.
    pub fn report(
        &mut self,
        name: &str,
        unreachable: Option<&str>,
        configured: &Forwarding,
        now: Time,
        found: &mut Vec<Finding>,
    ) {
        let kind = Kind::NotificationTargetUnreachable;
        let object = || Object::NotificationTarget(name.to_owned());
        match unreachable {
            // It may have been reported before the reload that took it away.
            Some(_) if !names(configured, name) => {}
            Some(why) => {
                if self.unreachable.insert(name.to_owned()) {
                    found.push(Finding::raise(kind, object(), why.to_owned(), now));
                }
            }
            None => {
                if self.unreachable.remove(name) {
                    found.push(Finding::clear(kind, object(), ClearReason::Ended, now));
                }
            }
        }
    }

    /// Holds them to the targets that are configured now.
    pub fn reload(&mut self, configured: &Forwarding, now: Time, found: &mut Vec<Finding>) {
        self.unreachable.retain(|name| {
            let stays = names(configured, name);
            if !stays {
                let object = Object::NotificationTarget(name.clone());
                let kind = Kind::NotificationTargetUnreachable;
                found.push(Finding::clear(kind, object, ClearReason::TurnedOff, now));
            }
            stays
        });
    }
}

fn names(configured: &Forwarding, name: &str) -> bool {
    configured.targets.iter().any(|target| target.name == name)
        || configured.receivers.iter().any(|receiver| receiver == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::ForwardTarget;

    fn configured(names: &[&str]) -> Forwarding {
        let target = |name: &&str| ForwardTarget {
            name: (*name).to_owned(),
            durable: true,
            original: false,
        };
        let targets = names.iter().map(target).collect();
        Forwarding { targets, receivers: vec!["chat".to_owned()], ..Forwarding::default() }
    }

    #[test]
    fn a_target_is_told_once_to_be_unreachable_and_once_to_answer_again_trap_11() {
        let both = configured(&["noc", "lab"]);
        let mut targets = Targets::default();
        let mut report = |name, unreachable, secs| {
            let mut found = Vec::new();
            targets.report(name, unreachable, &both, Time::from_secs(secs), &mut found);
            found.pop().map(|finding| (finding.object.to_string(), finding.cleared))
        };
        assert_eq!(report("noc", None, 1), None);
        assert_eq!(report("noc", Some("no response"), 2), Some(("noc".to_owned(), None)));
        assert_eq!(report("noc", Some("no response"), 3), None);
        assert_eq!(report("lab", None, 4), None);
        assert_eq!(report("gone", Some("no response"), 4), None);
        assert_eq!(report("noc", None, 5), Some(("noc".to_owned(), Some(ClearReason::Ended))));
        assert_eq!(report("noc", None, 6), None);
        assert_eq!(report("chat", Some("status 500"), 7), Some(("chat".to_owned(), None)));
    }

    #[test]
    fn what_is_no_longer_configured_is_cleared_after_a_reload_and_after_a_restart() {
        let object = Object::NotificationTarget("noc".to_owned());
        let active = [(Kind::NotificationTargetUnreachable, &object)];
        for names in [&["noc"][..], &["lab"]] {
            let (mut found, mut targets) = (Vec::new(), Targets::default());
            let now = Time::from_secs(9);
            targets.restore(active.into_iter(), &configured(names), now, &mut found);
            let stays = names == ["noc"];
            assert_eq!(found.is_empty(), stays);
            targets.reload(&configured(&["lab"]), now, &mut found);
            assert_eq!(found.len(), 1);
            assert_eq!(found[0].cleared, Some(ClearReason::TurnedOff));
        }
    }
}
