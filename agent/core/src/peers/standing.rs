//! Where a peer stands, as one agent of a pair tells the other (PAIR-11).
//!
//! Only of peers that are not plainly up there is anything to tell, and only what their alarms do not
//! say already: how many tries went without an answer, how many answers a peer that is down has given in
//! a row, and what Proxy Mobile IPv6 has said. There are no moments in it (PAIR-14): whoever takes over
//! begins the next try at once.
//!
//! Mates of different versions send it to each other as it is here.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// What has changed of a peer: nothing is left of one that is plainly up, or not monitored any more.
pub type StandingChange = (IpAddr, Option<Standing>);

/// What there is to tell of a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Its count.
    pub count: Count,
    /// The last restart counter that it told (PEER-15).
    pub restart_counter: Option<u32>,
}

/// What is counted of a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Count {
    /// Nothing: it is up, or it is not asked.
    #[default]
    Nothing,
    /// It is silent, and so many tries have no answer though their time is over (PEER-2).
    Unanswered(u8),
    /// It is down, and has answered so many heartbeats in a row (PEER-3).
    Answered(u8),
    /// It knows no heartbeats (PEER-15).
    Unsupported,
}

impl Standing {
    /// Whether there is nothing to tell.
    pub fn is_plain(&self) -> bool {
        *self == Standing::default()
    }

    /// What of it is still so after so long that nobody knows how the peer has answered meanwhile.
    #[must_use]
    pub const fn aged(self) -> Standing {
        match self.count {
            Count::Nothing | Count::Unsupported => self,
            Count::Unanswered(_) | Count::Answered(_) => Standing { count: Count::Nothing, ..self },
        }
    }
}
