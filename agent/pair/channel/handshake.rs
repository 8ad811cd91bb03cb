//! From a TCP connection to a mate: TLS, who each is, and the keys of the heartbeat datagrams.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use socket2::SockRef;
use tokio::{
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use super::{
    Hello, Options,
    counters::Refusal,
    tls::{self, Stream},
    wire::{fill, send},
};
use crate::pair::{
    frame::{self, HEADER, Kind},
    keys::{Fingerprint, Identity},
    seal::{Seals, Secret},
};

/// The version of what is said on the channel.
pub const PROTOCOL: u16 = 1;

/// The handshake takes three round trips; who takes longer than this is not well, or no mate.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// So much may be in the kernel's queue and not sent yet. What is there is before the next control
/// frame, and the kernel would otherwise take megabytes.
const UNSENT: u32 = 128 << 10;

/// A mate that has shown who it is.
#[derive(Debug)]
pub struct Met {
    /// The connection.
    pub stream: Stream,
    /// What it said.
    pub mate: Hello,
    /// Its fingerprint.
    pub fingerprint: Fingerprint,
    /// The secrets that are to be kept from now on.
    pub secrets: Vec<Secret>,
}

/// Why there is no mate, and whether that one was who it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotMet {
    /// Why.
    pub why: Refusal,
    /// Whether it has shown the right certificate.
    pub known: bool,
}

/// Who meets, and by what.
#[derive(Clone, Debug)]
pub struct Meeting {
    /// This agent.
    pub options: Options,
    /// Its keys.
    pub identity: Arc<Identity>,
    /// Who the mate is to be.
    pub trusted: Fingerprint,
    /// Where the new keys go.
    pub seals: Seals,
}

impl Meeting {
    /// Connects to the mate and meets it.
    ///
    /// # Errors
    ///
    /// There is no connection; or within, there is no mate.
    pub async fn connect(self) -> io::Result<Result<Met, NotMet>> {
        let stream = timeout(PATIENCE, connect(&self.options)).await??;
        Ok(self.meet(stream, false).await)
    }

    /// Meets who has connected (`accepts`), or whom this agent has connected to.
    ///
    /// # Errors
    ///
    /// It is no mate.
    pub async fn meet(self, stream: TcpStream, accepts: bool) -> Result<Met, NotMet> {
        let stranger = |why| NotMet { why, known: false };
        let shaken = async {
            prepare(&stream, self.options.patience).map_err(|_| Refusal::Handshake)?;
            tls::shake_hands(stream, &self.identity, self.trusted, accepts).await
        };
        let shaken = timeout(PATIENCE, shaken).await;
        let (stream, secret) =
            shaken.map_err(|_| stranger(Refusal::HandshakeTimeout))?.map_err(stranger)?;
        // The client of TLS 1.3 is through before it knows whether its own certificate is taken.
        let greeted = timeout(PATIENCE, self.greet(stream, secret)).await;
        greeted.unwrap_or(Err(NotMet { why: Refusal::HandshakeTimeout, known: true }))
    }

    async fn greet(self, mut stream: Stream, secret: Secret) -> Result<Met, NotMet> {
        let known = |why| NotMet { why, known: true };
        let failed = |error: io::Error| known(tls::refusal(&error));
        let options = &self.options;
        let hello = Hello {
            protocol: PROTOCOL,
            version: options.version,
            slot: options.slot,
            run: options.run,
            name: options.name.clone(),
        };
        let said = postcard::to_stdvec(&hello).map_err(|_| known(Refusal::Protocol))?;
        send(&mut stream, Kind::Hello, &said, PATIENCE).await.map_err(failed)?;
        let said = receive(&mut stream, Kind::Hello).await.map_err(failed)?.map_err(known)?;
        let mate = hello.accept(&said).map_err(known)?;
        // Whoever says that it is ready can open what is sealed by the new keys.
        let (id, fingerprint) = (secret.id(), secret.mate());
        let secrets = self.seals.install(secret);
        send(&mut stream, Kind::Ready, &[], PATIENCE).await.map_err(failed)?;
        receive(&mut stream, Kind::Ready).await.map_err(failed)?.map_err(known)?;
        self.seals.confirm(id);
        Ok(Met { stream, mate, fingerprint, secrets })
    }
}

impl Hello {
    /// The mate's, if it can be this agent's mate.
    fn accept(&self, said: &[u8]) -> Result<Hello, Refusal> {
        // The protocol comes first, whatever follows it.
        let protocol = postcard::take_from_bytes::<u16>(said).map_err(|_| Refusal::Protocol)?.0;
        if protocol != self.protocol {
            return Err(Refusal::Protocol);
        }
        let mate: Hello = postcard::from_bytes(said).map_err(|_| Refusal::Protocol)?;
        if mate.slot == self.slot {
            return Err(Refusal::SameSlot);
        }
        if mate.name == self.name {
            return Err(Refusal::SameName);
        }
        Ok(mate)
    }
}

async fn receive(stream: &mut Stream, expected: Kind) -> io::Result<Result<Vec<u8>, Refusal>> {
    let mut header = [0; HEADER];
    fill(stream, &mut header, PATIENCE).await?;
    match frame::parse(header) {
        Ok((kind, length)) if kind == expected => {
            let mut content = vec![0; length];
            fill(stream, &mut content, PATIENCE).await?;
            Ok(Ok(content))
        }
        Ok(_) => Ok(Err(Refusal::UnknownKind)),
        Err(bad) => Ok(Err(bad.into())),
    }
}

async fn connect(options: &Options) -> io::Result<TcpStream> {
    let socket = match options.mate {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // The way that the operator means is the one of this address.
    if !options.listen.ip().is_unspecified() {
        socket.bind(SocketAddr::new(options.listen.ip(), 0))?;
    }
    socket.connect(options.mate).await
}

fn prepare(stream: &TcpStream, patience: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    // A mate whose host is gone acknowledges nothing, and TCP would wait for a quarter of an hour.
    socket.set_tcp_user_timeout(Some(patience))?;
    socket.set_tcp_notsent_lowat(UNSENT)
}

#[cfg(test)]
mod tests {
    use evenkeel_core::pair::{term::Slot, version::Version};

    use super::*;

    #[test]
    fn a_mate_has_the_other_slot_another_name_and_the_same_protocol() {
        let version = Version { major: 0, minor: 1, patch: 0 };
        let own = Hello {
            protocol: PROTOCOL,
            version,
            slot: Slot::Zero,
            run: 1,
            name: "north".to_owned(),
        };
        let mate = Hello { slot: Slot::One, run: 7, name: "south".to_owned(), ..own.clone() };
        let said = |hello: &Hello| own.accept(&postcard::to_stdvec(hello).unwrap());
        assert_eq!(said(&mate), Ok(mate.clone()));
        assert_eq!(said(&Hello { slot: Slot::Zero, ..mate.clone() }), Err(Refusal::SameSlot));
        assert_eq!(said(&Hello { name: own.name.clone(), ..mate.clone() }), Err(Refusal::SameName));
        assert_eq!(said(&Hello { protocol: 2, ..mate }), Err(Refusal::Protocol));
        // A later protocol may say anything behind its number.
        assert_eq!(own.accept(&[2, 0xff]), Err(Refusal::Protocol));
        assert_eq!(own.accept(&[]), Err(Refusal::Protocol));
    }
}
