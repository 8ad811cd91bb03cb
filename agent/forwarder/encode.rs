//! A trap that was taken in, as the message that one notification target is sent.

use std::net::{IpAddr, Ipv4Addr};

use evenkeel_core::{
    input::Taken,
    mib::{self, RootOid},
    origin::with_origin,
    sender::{Destination, Notice, Outgoing, Session, Unsendable},
    time::Time,
    usm::LocalEngine,
};

use super::stats::Unfit;

/// Composes what the targets share: the varbinds, with the origin of the trap and our mark (TRAP-9).
pub(super) struct Composer {
    mark_oid: Vec<u8>,
    mark: Vec<u8>,
}

impl Composer {
    pub(super) fn new(root: &RootOid, local: &LocalEngine) -> Composer {
        Composer { mark_oid: mib::forwarded_by(root), mark: local.id.octets().to_vec() }
    }

    pub(super) fn varbinds(&self, taken: &Taken, with_community: bool) -> Vec<u8> {
        with_origin(taken, &self.mark_oid, &self.mark, with_community)
    }
}

/// Encodes for one target.
pub(super) struct Encoder(Session);

impl Encoder {
    /// An encoder; `seed` must be random.
    pub(super) fn new(destination: Destination, local: LocalEngine, seed: u64) -> Encoder {
        Encoder(Session::new(destination, local, seed))
    }

    /// Appends the message to `out`.
    pub(super) fn encode(
        &mut self,
        out: &mut Vec<u8>,
        taken: &Taken,
        varbinds: &[u8],
        now: Time,
    ) -> Result<(), Unfit> {
        let agent_address = match taken.system.0.to_canonical() {
            IpAddr::V4(address) => address,
            IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
        };
        let notice = Notice { request_id: request_id(taken), varbinds, agent_address };
        match self.0.encode(&notice, now) {
            Ok(Outgoing::Message(message)) => {
                out.extend_from_slice(&message);
                Ok(())
            }
            // Our own engine is authoritative for traps, so there is nothing to ask for. A target
            // that acknowledges is not served here.
            Ok(Outgoing::Discovery(_)) => Err(Unfit::Acknowledged),
            Err(Unsendable::Counter64) => Err(Unfit::Counter64),
            Err(Unsendable::TooLong) => Err(Unfit::TooLong),
            Err(Unsendable::NoTrapOid | Unsendable::Malformed) => Err(Unfit::Malformed),
            Err(Unsendable::NoKey) => Err(Unfit::NoKey),
        }
    }
}

/// The request-id that the trap came with, so that the next agent that it reaches knows copies of it
/// (INST-9). Where there is none, or a negative one, it is made of what copies have in common.
fn request_id(taken: &Taken) -> i32 {
    taken.request_id.and_then(|id| i32::try_from(id).ok()).unwrap_or_else(|| {
        let mut hash = crc32fast::Hasher::new();
        match taken.system.0.to_canonical() {
            IpAddr::V4(address) => hash.update(&address.octets()),
            IpAddr::V6(address) => hash.update(&address.octets()),
        }
        hash.update(&taken.varbinds);
        // 31 bits, so the cast loses nothing.
        (hash.finalize() >> 1) as i32
    })
}
