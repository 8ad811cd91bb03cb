//! What comes of loading the configuration again, for whoever ordered it: by HTTP, or by `evenkeel reload`.

use std::fmt;

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use crate::config::Config;

/// What stands before what was refused.
pub const REFUSED: &str = "the new configuration is refused, the one before stays in force: ";

/// An order to load the configuration again, with the way for its answer: what has come of it, or what was
/// refused, in words.
pub type ReloadOrder = oneshot::Sender<Result<Reloaded, String>>;

/// What has come of a configuration that was taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// The sections of which something else is in force now.
    pub applied: Vec<String>,
    /// What is not as it was at the start, and takes hold at the next one.
    pub at_restart: Vec<String>,
    /// What may not be meant so, each with its place.
    pub warnings: Vec<String>,
}

impl Reloaded {
    /// What has changed from one configuration to the next, in an agent that was started with the first of
    /// these.
    pub fn between(
        begun: &Config,
        before: &Config,
        after: &Config,
        warnings: Vec<String>,
    ) -> Reloaded {
        let (core, new) = (&before.core, &after.core);
        let notifications = |config: &Config| {
            let told = &config.notifications;
            (told.targets.clone(), told.receivers.clone())
        };
        let listens = |config: &Config| (config.web.enabled, config.web.listen);
        let web = |config: &Config| (config.web.file.clone(), config.web.remote_reload);
        let slot = |config: &Config| config.pair.as_ref().map(|pair| pair.slot);
        let named = |what: &[(bool, &str)]| {
            let changed = what.iter().filter(|(changed, _)| *changed);
            changed.map(|(_, name)| (*name).to_owned()).collect()
        };
        Reloaded {
            applied: named(&[
                (before.traps != after.traps || core.access != new.access, "traps"),
                (core.instability != new.instability, "instability"),
                (core.subnets != new.subnets, "subnets"),
                (core.forwarding != new.forwarding, "forwarding"),
                (notifications(before) != notifications(after), "notifications"),
                (web(before) != web(after), "web"),
                (before.peers != after.peers, "peers"),
                (slot(begun) == slot(after) && before.pair != after.pair, "pair"),
            ]),
            at_restart: named(&[
                (begun.agent != after.agent, "agent"),
                (begun.spool != after.spool, "spool"),
                (begun.journal != after.journal, "journal"),
                (begun.supervision != after.supervision, "supervision"),
                (
                    begun.notifications.root_oid != after.notifications.root_oid,
                    "notifications.root_oid",
                ),
                (listens(begun) != listens(after), "whether and where there is a page"),
                (slot(begun) != slot(after), "that there is a mate, and the slot of this agent"),
            ]),
            warnings,
        }
    }
}

impl fmt::Display for Reloaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "the configuration was loaded again and is in force")?;
        match self.applied.as_slice() {
            [] => writeln!(f, "changed: nothing")?,
            applied => writeln!(f, "changed: {}", applied.join(", "))?,
        }
        if !self.at_restart.is_empty() {
            writeln!(f, "takes hold at the next start: {}", self.at_restart.join(", "))?;
        }
        for warning in &self.warnings {
            writeln!(f, "{warning}")?;
        }
        Ok(())
    }
}

/// Why an order was not followed.
#[derive(Debug, thiserror::Error)]
pub enum NotFollowed {
    /// Another one is, or it comes too late.
    #[error("the configuration is being loaded, or the agent stops")]
    Busy,
    /// It came too late.
    #[error("the agent stops")]
    Stops,
}

/// Orders it, and waits for what comes of it.
///
/// # Errors
///
/// Nobody follows the order.
pub async fn order(
    orders: &mpsc::Sender<ReloadOrder>,
) -> Result<Result<Reloaded, String>, NotFollowed> {
    let (answer, answered) = oneshot::channel();
    // Two orders at once are one.
    orders.try_send(answer).map_err(|_| NotFollowed::Busy)?;
    answered.await.map_err(|_| NotFollowed::Stops)
}
