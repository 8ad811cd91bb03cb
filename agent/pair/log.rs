//! What happens in the pair, for the log: one line for each change of roles, and for what is wrong.

use evenkeel_core::{
    pair::{Role, SteppedBack},
    time::Pretty,
};
use tracing::{info, warn};

use super::{FromPair, status::kind_name};

/// Writes it down.
pub fn log(event: &FromPair) {
    match event {
        FromPair::Role { role, term } => match (role, term) {
            (Role::Primary, Some(term)) => info!("primary in term {}", term.number),
            (role, _) => info!("{} in the pair", role.name()),
        },
        FromPair::TookOver(takeover) => {
            let (reason, kind) = (takeover.reason.name(), kind_name(takeover.kind));
            match takeover.degraded {
                None => info!("took over in term {}: {reason}, {kind}", takeover.term.number),
                Some(degraded) => warn!(
                    "took over in term {}: {reason}, {kind}, degraded: {degraded}",
                    takeover.term.number
                ),
            }
        }
        FromPair::SteppedBack { why } => warn!("stepped back: {}", stepped_back(*why)),
        FromPair::Finding(finding) => {
            let condition = &finding.condition;
            if finding.begins {
                warn!("{condition}");
            } else {
                info!("over: {condition}");
            }
        }
        FromPair::MateStarted { version } => info!("the mate has started, version {version}"),
        FromPair::Stalled { late } => {
            warn!("the pair's thread stood still for {}: give this agent CPU", Pretty(*late));
        }
        FromPair::RestartUnasked => {
            warn!("a part of this agent fails, and there is no standby that could go on");
        }
        FromPair::Problem(problem) => warn!("{problem}"),
    }
}

const fn stepped_back(why: SteppedBack) -> &'static str {
    match why {
        SteppedBack::Met => "it met a primary with a higher term or priority",
        SteppedBack::Unheard => "it met a primary that can't hear it",
        SteppedBack::HandedOver => "the mate has taken over, as it was asked to",
        SteppedBack::CutOff => "it reaches neither its mate nor a witness",
    }
}
