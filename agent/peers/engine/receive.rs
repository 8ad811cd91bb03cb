//! Reads answers by `recvmmsg`, and says what each of them is.

use std::{io, net::IpAddr, os::fd::AsFd};

use evenkeel_core::{
    peers::{
        Answer, Discard,
        echo::{Echo, message_of_ipv4},
    },
    time::Time,
};

use super::sockets::EchoSocket;
use crate::{
    clock::{Clock, Reading, receipt},
    ear::recvmmsg::{Message, Slots},
};

/// Datagrams a call.
const SLOTS: usize = 256;
/// Our answers have 32 bytes, and an IP header of at most 60 before them. What is longer is none,
/// and may be cut.
const LENGTH: usize = 128;
/// A socket that has given this much is left alone until the others had their turn and what is
/// due was sent: 20 ms of reading.
const AT_ONCE: usize = 8_192;
/// A read that fails so often in a row is given up. Each failure takes one pending error off the
/// socket, and more than one or two never pend.
const TRIES: usize = 16;

/// Memory for one call.
pub(super) struct Receiver {
    slots: Slots,
}

impl Receiver {
    pub(super) fn new() -> Receiver {
        Receiver { slots: Slots::short(SLOTS, LENGTH) }
    }

    /// Reads a socket until it is empty, or has given enough: then its floor is the moment before
    /// it was found empty, else the last receipt. Says how many messages came; `tell` is told of
    /// each what it is, or why it is nothing.
    pub(super) fn drain(
        &mut self,
        socket: &mut EchoSocket,
        mut tell: impl FnMut(Result<Answer, Discard>),
    ) -> usize {
        let (mut taken, mut failures) = (0, 0);
        while taken < AT_ONCE && failures < TRIES {
            let before = Clock::now();
            match self.read(socket, &mut tell) {
                Ok(count) => taken += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    socket.floor = socket.floor.max(before);
                    return taken;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    socket.stats.receive_errors += 1;
                    failures += 1;
                    // A socket that can't be read holds nothing that ever could be handed in:
                    // waiting for it would keep every try from being judged.
                    if failures == TRIES {
                        socket.floor = socket.floor.max(before);
                    }
                }
            }
        }
        taken
    }

    /// Reads a socket once, to make room in it between two chunks of a batch.
    pub(super) fn relieve(
        &mut self,
        socket: &mut EchoSocket,
        mut tell: impl FnMut(Result<Answer, Discard>),
    ) -> usize {
        // An error comes again when the socket is drained.
        self.read(socket, &mut tell).unwrap_or(0)
    }

    fn read(
        &mut self,
        socket: &mut EchoSocket,
        tell: &mut impl FnMut(Result<Answer, Discard>),
    ) -> io::Result<usize> {
        let count = self.slots.receive(socket.as_fd())?;
        let now = Clock::both();
        for message in self.slots.messages() {
            if let Some(said) = take(socket, &message, now) {
                tell(said);
            }
        }
        Ok(count)
    }
}

/// What a message says; nothing if it is not from an IP address, which no socket for echoes gives.
fn take(
    socket: &mut EchoSocket,
    message: &Message<'_>,
    now: Reading,
) -> Option<Result<Answer, Discard>> {
    let received = message.stamp.map_or(now.time, |stamp| receipt(stamp, now, socket.floor));
    socket.floor = socket.floor.max(received);
    socket.stats.received += 1;
    socket.stats.received_bytes += message.head.len() as u64;
    let source = message.source?;
    let said = read(socket, message);
    Some(said.map(|echo| answer(&echo, source.ip(), message.interface, received)))
}

fn read(socket: &EchoSocket, message: &Message<'_>) -> Result<Echo, Discard> {
    if message.truncated {
        return Err(Discard::Malformed);
    }
    let echo = match (socket.stats.v4, socket.stats.raw) {
        // A ping socket gives the message without the IP header, a raw one the whole packet.
        (true, true) => Echo::read_v4(message_of_ipv4(message.head)?)?,
        (true, false) => Echo::read_v4(message.head)?,
        (false, _) => Echo::read_v6(message.head)?,
    };
    // The filter has looked at it, but for what came before it was there.
    if socket.owns(echo.identifier) { Ok(echo) } else { Err(Discard::Malformed) }
}

fn answer(echo: &Echo, source: IpAddr, interface: Option<u32>, received: Time) -> Answer {
    Answer {
        place: echo.place,
        source,
        sequence: echo.sequence,
        token: Some(echo.token),
        interface,
        received,
        // Who answers could have changed it; a time after the answer is no time of sending.
        sent: Some(echo.sent).filter(|sent| *sent <= received),
        restart_counter: None,
    }
}
