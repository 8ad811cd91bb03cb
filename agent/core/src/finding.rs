//! What a machine finds, before it becomes an alarm: the common word between those that judge and
//! the one that keeps alarms.

use serde::{Deserialize, Serialize};

use crate::{
    alarm::{ClearReason, Episode, Kind, Object},
    time::Time,
};

/// A condition that began or ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// When: a receipt time or a deadline.
    pub at: Time,
    /// Which alarm.
    pub kind: Kind,
    /// Of which object.
    pub object: Object,
    /// Nothing if it began, the reason if it ended.
    pub cleared: Option<ClearReason>,
    /// The numbers, of an instability.
    pub episode: Option<Episode>,
    /// What the device calls the interface, or the first end of the link.
    pub if_name: Option<String>,
    /// The same of the second end of a link.
    pub other_if_name: Option<String>,
    /// The group that the peer is in.
    pub peer_group: Option<String>,
    /// The cause in words, where one is known.
    pub detail: Option<String>,
    /// What tells the trap that it began with from others, as far as two agents that receive it see the
    /// same of it; 0 where no trap began it.
    #[serde(default)]
    pub essence: u64,
}

impl Finding {
    /// A condition that began, with its cause in words.
    pub const fn raise(kind: Kind, object: Object, detail: String, at: Time) -> Finding {
        let detail = Some(detail);
        Finding {
            at,
            kind,
            object,
            cleared: None,
            episode: None,
            if_name: None,
            other_if_name: None,
            peer_group: None,
            detail,
            essence: 0,
        }
    }

    /// A condition that ended.
    pub const fn clear(kind: Kind, object: Object, reason: ClearReason, at: Time) -> Finding {
        let cleared = Some(reason);
        Finding {
            at,
            kind,
            object,
            cleared,
            episode: None,
            if_name: None,
            other_if_name: None,
            peer_group: None,
            detail: None,
            essence: 0,
        }
    }
}
