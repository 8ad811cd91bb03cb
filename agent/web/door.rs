//! Where connections come in: a bounded number of them, over TLS if that is configured, and none that
//! stands still for long.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{extract::connect_info::Connected, serve::IncomingStream};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
    time::{Instant, Sleep, sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::access::Access;

/// How many connections there may be: viewers, their browsers' spare connections, and who scrapes. More
/// wait in the kernel.
const CONNECTIONS: usize = 256;

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How long a connection may stand still: twice as long as what is live is silent at most.
const STILL: Duration = Duration::from_secs(30);

/// How long to wait when no connection can be taken, as there are no descriptors left perhaps.
const BREATH: Duration = Duration::from_millis(100);

/// The listening side.
pub struct Door {
    listener: TcpListener,
    access: watch::Receiver<Arc<Access>>,
    room: Arc<Semaphore>,
    /// Those that have not proven anything yet hold up nobody else.
    handshakes: JoinSet<Option<(Connection, SocketAddr)>>,
}

impl Door {
    /// A door at this listener.
    pub fn new(listener: TcpListener, access: watch::Receiver<Arc<Access>>) -> Door {
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        Door { listener, access, room, handshakes: JoinSet::new() }
    }
}

impl axum::serve::Listener for Door {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            let next = async {
                let place = self.room.clone().acquire_owned().await;
                (place, self.listener.accept().await)
            };
            tokio::select! {
                (place, accepted) = next => {
                    // It is never closed.
                    let Ok(place) = place else { continue };
                    let Ok((stream, from)) = accepted else {
                        sleep(BREATH).await;
                        continue;
                    };
                    // What is live is small and should not wait for more.
                    let _ = stream.set_nodelay(true);
                    let access = self.access.borrow().clone();
                    let Some(tls) = access.tls() else {
                        return (Connection::new(Stream::Plain(stream), access, place), from);
                    };
                    let acceptor = TlsAcceptor::from(tls.clone());
                    self.handshakes.spawn(async move {
                        let handshake = timeout(HANDSHAKE, acceptor.accept(stream)).await;
                        let stream = Stream::Tls(Box::new(handshake.ok()?.ok()?));
                        Some((Connection::new(stream, access, place), from))
                    });
                }
                Some(done) = self.handshakes.join_next() => {
                    if let Ok(Some(connection)) = done {
                        return connection;
                    }
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// Who is at the other end, and how they came in.
#[derive(Clone)]
pub struct Remote {
    /// The address.
    pub from: SocketAddr,
    /// What was asked of them when they connected.
    pub access: Arc<Access>,
}

impl Connected<IncomingStream<'_, Door>> for Remote {
    fn connect_info(stream: IncomingStream<'_, Door>) -> Remote {
        Remote { from: *stream.remote_addr(), access: stream.io().access.clone() }
    }
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A connection that ends when nothing has moved for [`STILL`].
pub struct Connection {
    stream: Stream,
    access: Arc<Access>,
    still: Pin<Box<Sleep>>,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    fn new(stream: Stream, access: Arc<Access>, place: OwnedSemaphorePermit) -> Connection {
        Connection { stream, access, still: Box::pin(sleep(STILL)), _place: place }
    }

    /// What a try to read or write came to, unless nothing has moved for too long.
    fn moved<T>(
        &mut self,
        polled: Poll<io::Result<T>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.still.as_mut().reset(Instant::now() + STILL);
            return polled;
        }
        ready!(self.still.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        };
        self.moved(polled, context)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        };
        self.moved(polled, context)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(context),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(context),
        };
        match polled {
            // Nothing to flush is nothing that moved.
            Poll::Ready(done) => Poll::Ready(done),
            Poll::Pending => self.moved(Poll::Pending, context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        };
        self.moved(polled, context)
    }
}
