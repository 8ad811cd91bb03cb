//! The trap sockets: opened as configured, held over reloads, and shared between the ear that reads
//! them and the answers that leave by them.

use std::io;

use anyhow::Context;
use evenkeel_core::supervision::Part;
use tokio::sync::mpsc;
use tracing::warn;

use crate::{
    config::Config,
    driver::TrapEar,
    ear::{self, EarSocket, Limits, udp},
    spool::AnswerSockets,
};

/// The trap sockets, held for as long as they are configured: an ear that is replaced reads on
/// another handle of the same socket, so that no trap is lost between the two.
#[derive(Default)]
pub struct TrapSockets(Vec<EarSocket>);

impl TrapSockets {
    /// Opens what is configured and not among `held`, and begins to listen on all of it. Answers
    /// leave by these sockets from now on.
    ///
    /// # Errors
    ///
    /// A socket that was configured can't be opened, with what to do about it.
    pub fn open(
        config: &Config,
        held: &TrapSockets,
        answers: &AnswerSockets,
    ) -> anyhow::Result<(TrapSockets, TrapEar)> {
        let buffer = usize::try_from(config.traps.receive_buffer).unwrap_or(usize::MAX);
        let mut sockets = Vec::new();
        for &address in &config.traps.listen {
            let same =
                |socket: &&EarSocket| socket.local() == address && socket.buffer_asked() == buffer;
            let opened = match held.0.iter().find(same) {
                Some(held) => held.succeed()?,
                None => match udp::open(address, buffer) {
                    Ok(socket) => socket,
                    // A host without IPv6 is no reason not to start with what nobody configured.
                    Err(missing) if config.traps.listen_is_default && address.is_ipv6() => {
                        warn!("{missing:#}");
                        continue;
                    }
                    Err(failed) => return Err(failed.into()),
                },
            };
            if opened.buffer_granted() < opened.buffer_asked() {
                warn!(
                    "{address}: the kernel grants a receive buffer of {} octets of the {} asked \
                     for; give the agent CAP_NET_ADMIN, or raise net.core.rmem_max",
                    opened.buffer_granted(),
                    opened.buffer_asked(),
                );
            }
            sockets.push(opened);
        }
        let handles: io::Result<Vec<EarSocket>> =
            sockets.iter().map(EarSocket::try_clone).collect();
        let limits = Limits {
            max_waiting: usize::try_from(config.traps.max_waiting).unwrap_or(usize::MAX),
            first_door: answers.replace(&sockets)?,
            sources: Some(config.traps.limits.clone()),
        };
        let (sender, batches) = mpsc::unbounded_channel();
        let ear = ear::spawn("traps", Part::TrapIntake, handles?, sender, limits)
            .context("cannot start the thread that reads traps")?;
        Ok((TrapSockets(sockets), TrapEar { ear, batches }))
    }
}
