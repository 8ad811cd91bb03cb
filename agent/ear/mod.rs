//! The ears of the daemon: threads that do nothing but take datagrams out of the kernel, stamp
//! them with their moment of receipt and hand them to the driver in batches.
//!
//! ```text
//! sockets ──> reader thread ──> Batch, Batch, … ──> driver
//!               ^                                     │
//!               └──────────── ask(), stop() ──────────┘
//! ```
//!
//! One ear owns the trap sockets ([`udp`]), one the ICMP sockets ([`icmp`]); both are the same
//! reader. A thread of its own keeps the kernel's buffers empty while the driver is busy, and what
//! waits between the two is bounded in bytes: beyond the bound the newest are dropped and counted.
//!
//! Each batch says up to which moment everything has been handed in ([`Batch::heard`]), so that
//! the driver never judges a deadline before what was received ahead of it (spec, "Time").

pub(crate) mod drops;
pub mod icmp;
mod reader;
pub(crate) mod recvmmsg;
pub(crate) mod socket;
pub mod udp;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
};

use evenkeel_core::{settings::SourceLimits, supervision::Part, time::Time};
use tokio::sync::mpsc::UnboundedSender;

pub use self::socket::EarSocket;

/// What an ear may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How many bytes may wait for the driver, with what describes each datagram counted.
    pub max_waiting: usize,
    /// The number of the first of its sockets in [`DatagramMeta::socket`]: what
    /// [`AnswerSockets::replace`](crate::spool::AnswerSockets::replace) has given them.
    pub first_door: u16,
    /// How much one source may send (TRAP-6); nothing for no limit.
    pub sources: Option<SourceLimits>,
}

impl Default for Limits {
    /// 256 MiB: about 1.3 million traps, a minute at 20,000 a second.
    fn default() -> Limits {
        Limits { max_waiting: 256 << 20, first_door: 0, sources: None }
    }
}

/// Datagrams that an ear hands in, in the order of their receipt. Dropping it makes room for more.
#[derive(Debug)]
pub struct Batch {
    /// What came, end to end.
    pub bytes: Vec<u8>,
    /// Where each datagram is in `bytes`, and whence it came.
    pub datagrams: Vec<DatagramMeta>,
    /// All that this ear received before this moment is in this batch or those before it, but for
    /// what was lost. Never goes backwards.
    pub heard: Time,
    /// How many datagrams were lost since the batch before: those that the kernel had no room for,
    /// and those that we had none for.
    pub lost: u64,
    /// How many datagrams were dropped since the batch before, as their source had sent too many
    /// (TRAP-6).
    pub limited: u64,
    _waiting: Waiting,
}

impl Batch {
    /// The datagrams with their bytes.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&DatagramMeta, &[u8])> {
        self.datagrams.iter().map(|meta| {
            let start = meta.start as usize;
            (meta, &self.bytes[start..start + meta.len as usize])
        })
    }
}

/// A datagram but for its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DatagramMeta {
    /// Who sent it. An IPv4 address is never in its mapped form (RFC 4291, 2.5.5.2).
    pub source: SocketAddr,
    /// The address that it was sent to.
    pub local: Option<IpAddr>,
    /// The index of the interface that it came by.
    pub interface: Option<u32>,
    /// When the kernel received it.
    pub received: Time,
    /// Where it starts in [`Batch::bytes`].
    pub start: u32,
    /// How long it is there.
    pub len: u32,
    /// Which of the ear's sockets it came to, in the order in which they were given, counted from
    /// [`Limits::first_door`].
    pub socket: u16,
    /// It was longer than any datagram can be, and its end is missing.
    pub truncated: bool,
}

/// A running ear. Dropping it stops it.
#[derive(Debug)]
pub struct EarHandle {
    call: Arc<Call>,
    stats: Arc<EarStats>,
    thread: Option<JoinHandle<()>>,
}

/// Starts an ear on `sockets`. `name` becomes the thread's name (15 characters are kept); `part` is the part
/// of the agent that shows a sign of life by it.
///
/// The ear ends when it is stopped or when nobody listens to `batches` any more.
///
/// # Errors
///
/// The kernel refuses another descriptor or thread.
pub fn spawn(
    name: &str,
    part: Part,
    sockets: Vec<EarSocket>,
    batches: UnboundedSender<Batch>,
    limits: Limits,
) -> io::Result<EarHandle> {
    let call = Arc::new(Call::new()?);
    let stats = Arc::new(EarStats::new(&sockets));
    let reader = reader::Reader::new(sockets, call.clone(), stats.clone(), batches, limits);
    let thread = thread::Builder::new().name(name.to_owned()).spawn(move || reader.run(part))?;
    Ok(EarHandle { call, stats, thread: Some(thread) })
}

impl EarHandle {
    /// Asks for a batch, possibly an empty one, whose [`Batch::heard`] is not before this moment.
    /// Batches that come earlier in a flood may precede it. Costs one small system call.
    pub fn ask(&self) {
        self.call.ring();
    }

    /// What this ear has counted so far.
    pub fn stats(&self) -> &Arc<EarStats> {
        &self.stats
    }

    /// Ends the ear after it has handed in all that was received before this moment.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for EarHandle {
    fn drop(&mut self) {
        self.call.stop.store(true, Ordering::Release);
        self.call.ring();
        if let Some(thread) = self.thread.take()
            && let Err(panic) = thread.join()
            && !thread::panicking()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

/// What an ear counts. Any thread may read it at any time.
#[derive(Debug)]
pub struct EarStats {
    /// Each socket, in the order in which they were given.
    pub sockets: Vec<SocketStats>,
    /// Batches handed in.
    pub batches: AtomicU64,
    /// Datagrams dropped at our door, as too many bytes were waiting for the driver.
    pub queue_full: AtomicU64,
    /// Datagrams dropped at our door, as their source had sent too many (TRAP-6).
    pub limited: AtomicU64,
    /// Bytes that wait for the driver now, with what describes each datagram.
    pub waiting: AtomicUsize,
}

/// What an ear counts for one socket.
#[derive(Debug)]
pub struct SocketStats {
    /// The address that it is bound to.
    pub local: SocketAddr,
    /// The receive buffer that was asked for, in bytes.
    pub buffer_asked: usize,
    /// The receive buffer that the kernel granted, in bytes. It doubles this for its own
    /// bookkeeping; a small trap takes 832 of the doubled bytes.
    pub buffer_granted: usize,
    /// Datagrams read.
    pub datagrams: AtomicU64,
    /// Datagrams among them whose end is missing.
    pub truncated: AtomicU64,
    /// Datagrams that the kernel dropped before we could read them, but for those that are broken.
    pub kernel_drops: AtomicU64,
    /// Datagrams that the kernel dropped for a wrong checksum.
    pub broken: AtomicU64,
    /// Calls that failed and were tried again.
    pub errors: AtomicU64,
}

impl EarStats {
    fn new(sockets: &[EarSocket]) -> EarStats {
        let sockets = sockets.iter().map(|socket| SocketStats {
            local: socket.local(),
            buffer_asked: socket.buffer_asked(),
            buffer_granted: socket.buffer_granted(),
            datagrams: AtomicU64::new(0),
            truncated: AtomicU64::new(0),
            kernel_drops: AtomicU64::new(0),
            broken: AtomicU64::new(0),
            errors: AtomicU64::new(0),
        });
        EarStats {
            sockets: sockets.collect(),
            batches: AtomicU64::new(0),
            queue_full: AtomicU64::new(0),
            limited: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
        }
    }
}

/// The bytes of one batch that wait, until it is dropped.
#[derive(Debug)]
struct Waiting {
    stats: Arc<EarStats>,
    bytes: usize,
}

impl Waiting {
    fn new(stats: &Arc<EarStats>, bytes: usize) -> Waiting {
        stats.waiting.fetch_add(bytes, Ordering::Relaxed);
        Waiting { stats: stats.clone(), bytes }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.stats.waiting.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// How others call a thread that may be asleep on its sockets.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) bell: OwnedFd,
    pub(crate) stop: AtomicBool,
}

impl Call {
    pub(crate) fn new() -> io::Result<Call> {
        // SAFETY: the call takes no pointers; what it returns is checked before it is used.
        let bell = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if bell < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `bell` was opened above, and nothing else owns it.
        let bell = unsafe { OwnedFd::from_raw_fd(bell) };
        Ok(Call { bell, stop: AtomicBool::new(false) })
    }

    pub(crate) fn ring(&self) {
        let one = 1u64.to_ne_bytes();
        // It fails only when it was rung 2^64 - 2 times without an answer: then it is ringing.
        // SAFETY: the buffer is eight bytes long, as the length says.
        unsafe { libc::write(self.bell.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    /// Whether it was rung since this was last asked.
    pub(crate) fn was_rung(&self) -> bool {
        let mut count = [0; 8];
        // SAFETY: the buffer is eight bytes long, as the length says.
        let read = unsafe {
            libc::read(self.bell.as_fd().as_raw_fd(), count.as_mut_ptr().cast(), count.len())
        };
        read == 8
    }
}

#[cfg(test)]
mod tests;
