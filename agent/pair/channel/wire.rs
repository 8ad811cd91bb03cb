//! One connection, when both have shown who they are: frames out, frames in, until something goes wrong.

use std::{io, sync::Arc, time::Duration};

use evenkeel_core::pair::paths::Wrong;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf},
    sync::{Semaphore, mpsc, watch},
    time::timeout,
};

use super::{
    Bulk, Event, Link,
    counters::{Counters, Refusal, add},
};
use crate::pair::{
    channel::tls::Stream,
    frame::{self, BadHeader, HEADER, Kind},
};

/// Control frames that may wait. Heartbeats leave ten times a second at most, and after the mate
/// time-out (3 s by default) a connection that takes none is closed.
const CONTROL_WAITING: usize = 64;

/// Bulk frames that may wait. Their time in here is time that the standby is behind.
const BULK_WAITING: usize = 16;

/// How much of received bulk may be in the hands of who takes it: a long first copy does not fill the
/// memory of a standby whose disk is slow.
pub const ROOM: usize = 16 << 20;

/// One connection.
#[derive(Debug)]
pub struct Wire {
    stream: Stream,
    control: mpsc::Receiver<Vec<u8>>,
    bulk: mpsc::Receiver<Vec<u8>>,
    closing: watch::Receiver<Option<Wrong>>,
    /// Keeps the queues open for as long as the connection is there, whoever sends.
    _link: Link,
    counters: Arc<Counters>,
    patience: Duration,
}

impl Wire {
    /// The connection, and the way to send on it.
    pub fn new(stream: Stream, counters: &Arc<Counters>, patience: Duration) -> (Wire, Link) {
        let (control, control_queue) = mpsc::channel(CONTROL_WAITING);
        let (bulk, bulk_queue) = mpsc::channel(BULK_WAITING);
        let (closing, closed) = watch::channel(None);
        let link = Link { control, bulk, closing, counters: Arc::clone(counters) };
        let wire = Wire {
            stream,
            control: control_queue,
            bulk: bulk_queue,
            closing: closed,
            _link: link.clone(),
            counters: Arc::clone(counters),
            patience,
        };
        (wire, link)
    }

    /// Carries frames until something goes wrong.
    pub async fn run(self, events: mpsc::UnboundedSender<Event>) -> Wrong {
        let Wire { stream, control, bulk, mut closing, _link, counters, patience } = self;
        let (reader, writer) = tokio::io::split(stream);
        let asked = async {
            let asked = closing.wait_for(Option::is_some).await;
            asked.ok().and_then(|asked| *asked).unwrap_or(Wrong::Read)
        };
        tokio::select! {
            // The order tells which of several is said; the cause of the others comes first.
            biased;
            wrong = asked => wrong,
            () = write(writer, control, bulk, patience, &counters) => Wrong::Write,
            () = read(reader, &events, patience, &counters) => Wrong::Read,
        }
    }
}

/// Writes until it can't.
async fn write(
    mut writer: WriteHalf<Stream>,
    mut control: mpsc::Receiver<Vec<u8>>,
    mut bulk: mpsc::Receiver<Vec<u8>>,
    patience: Duration,
    counters: &Counters,
) {
    loop {
        let (kind, content) = tokio::select! {
            // What is in the control queue passes all bulk.
            biased;
            Some(content) = control.recv() => (Kind::Control, content),
            Some(content) = bulk.recv() => (Kind::Bulk, content),
            else => return,
        };
        if send(&mut writer, kind, &content, patience).await.is_err() {
            return;
        }
        add(&counters.octets_sent, octets(HEADER + content.len()));
    }
}

/// Reads until it can't.
async fn read(
    mut reader: ReadHalf<Stream>,
    events: &mpsc::UnboundedSender<Event>,
    patience: Duration,
    counters: &Counters,
) {
    let room = Arc::new(Semaphore::new(ROOM));
    loop {
        let mut header = [0; HEADER];
        if fill(&mut reader, &mut header, patience).await.is_err() {
            return;
        }
        let (kind, length) = match frame::parse(header) {
            Ok(parsed) => parsed,
            Err(bad) => return counters.refuse(bad.into()),
        };
        let permits = match kind {
            Kind::Control => None,
            // A frame of nothing takes room too, as it takes a place in a queue.
            Kind::Bulk => match Arc::clone(&room).acquire_many_owned(permits(length)).await {
                Ok(permits) => Some(permits),
                Err(_) => return,
            },
            Kind::Hello | Kind::Ready => return counters.refuse(Refusal::UnknownKind),
        };
        let mut content = vec![0; length];
        if fill(&mut reader, &mut content, patience).await.is_err() {
            return;
        }
        add(&counters.octets_received, octets(HEADER + length));
        let event = match permits {
            None => Event::Control(content),
            Some(room) => Event::Bulk(Bulk { octets: content, _room: room }),
        };
        if events.send(event).is_err() {
            return;
        }
    }
}

fn permits(length: usize) -> u32 {
    // A frame is much shorter than four thousand million octets.
    u32::try_from(length.max(64)).unwrap_or(u32::MAX)
}

fn octets(length: usize) -> u64 {
    length as u64
}

impl From<BadHeader> for Refusal {
    fn from(bad: BadHeader) -> Refusal {
        match bad {
            BadHeader::Kind => Refusal::UnknownKind,
            BadHeader::Length => Refusal::TooLong,
        }
    }
}

/// Sends one frame. It may take as long as it likes, but not stand still for longer than `patience`.
pub async fn send(
    writer: &mut (impl AsyncWrite + Unpin),
    kind: Kind,
    content: &[u8],
    patience: Duration,
) -> io::Result<()> {
    let header = frame::header(kind, content.len());
    // One record for a short frame, and so one segment.
    let (first, mut rest) = content.split_at(content.len().min(frame::LONGEST_CONTROL));
    let first = [&header[..], first].concat();
    let mut first = &first[..];
    while !first.is_empty() || !rest.is_empty() {
        let part = if first.is_empty() { &mut rest } else { &mut first };
        let written = timeout(patience, writer.write(part)).await??;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        *part = &part[written..];
    }
    timeout(patience, writer.flush()).await?
}

/// Reads as many octets as there is room for, which must not stand still for longer than `patience`.
pub async fn fill(
    reader: &mut (impl AsyncRead + Unpin),
    octets: &mut [u8],
    patience: Duration,
) -> io::Result<()> {
    let mut filled = 0;
    while filled < octets.len() {
        let read = timeout(patience, reader.read(&mut octets[filled..])).await??;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        filled += read;
    }
    Ok(())
}
