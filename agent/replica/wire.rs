//! What mates say to each other about their state: operations, each with its kind and its length, so
//! that an agent passes over what it does not know.
//!
//! ```text
//! frame:     version u8 │ stream u32 │ index u64 │ a piece of the stream of operations
//! operation: kind u8 │ length u32 │ payload: length octets (postcard)
//! ```
//!
//! Numbers outside of payloads are little-endian. A kind keeps its payload for ever: what changes gets
//! another kind. Alarms and memories of objects are JSON in it, as they are in the database, because
//! they do change from version to version, and JSON lets the other one read what it knows. There are
//! no moments: what has a time says how long ago it was when it was sent (PAIR-14). The transit makes
//! that a little too young, so that an object becomes stable a little too late, and never too early.

use std::{collections::VecDeque, net::SocketAddr};

use evenkeel_core::{alarm::System, peers::StandingChange, trap::Form, usm::EngineId};
use serde::{Deserialize, Serialize};

use super::LONGEST_FRAME;

/// The version of frames and of the framing of operations.
const VERSION: u8 = 1;

/// What stands before the piece of the stream in a frame.
const FRAME_HEAD: usize = 13;

/// What stands before the payload of an operation.
const OP_HEAD: usize = 5;

/// No operation is longer: the state of 128,000 peers has room.
const LONGEST_OP: usize = 64 << 20;

/// A row of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Its place; 0 where it has none yet.
    pub seq: u64,
    /// On the wall clock of the agent that it happened at, for people.
    pub wall_ms: i64,
    /// Why it was cleared, by name; nothing for a raise.
    pub cleared: Option<String>,
    /// The alarm, as JSON.
    pub alarm: String,
    /// The term, as the journal has it.
    pub term: Option<String>,
}

/// A record of an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The system.
    pub system: System,
    /// The interface; 0 for the system itself.
    pub if_index: u32,
    /// How long ago it was so that the record is ...
    pub since_ns: u64,
    /// ... this old.
    pub age_ns: u64,
    /// The memory, as JSON.
    pub memory: String,
}

/// Another SNMP engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Engine {
    /// Which.
    pub id: EngineId,
    /// snmpEngineBoots.
    pub boots: u32,
    /// snmpEngineTime.
    pub time: u32,
    /// As in a record.
    pub since_ns: u64,
    /// As in a record.
    pub age_ns: u64,
}

/// An entry of the spool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trap {
    /// Its number.
    pub number: u64,
    /// How long ago it was received.
    pub since_ns: u64,
    /// The names of the notification targets that acknowledge and that it is for.
    pub targets: Vec<String>,
    /// Who sent it.
    pub source: SocketAddr,
    /// Whose it is.
    pub system: System,
    /// The form.
    pub form: Form,
    /// The request-id.
    pub request_id: Option<u32>,
    /// The community or security name.
    pub community: Vec<u8>,
    /// The varbinds.
    pub varbinds: Vec<u8>,
    /// The datagram as it came.
    pub original: Option<Vec<u8>>,
}

/// A standby asks for a copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// What the answer is to name.
    pub session: u32,
    /// How far its journal knows each term.
    pub terms: Vec<(String, u64)>,
    /// The last number of its spool, and the print of that entry, if all in it is a primary's.
    pub spool: Option<(u64, u64)>,
}

/// The primary asks for what it lacks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// Of the offer.
    pub session: u32,
    /// The rows of each of these terms after a seq.
    pub terms: Vec<(String, u64)>,
    /// The entries of the spool that somebody still waits for.
    pub traps: bool,
}

/// A copy begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyBegin {
    /// Of the offer.
    pub session: u32,
    /// The first row that comes.
    pub first_seq: u64,
    /// The last seq that was ever given.
    pub last_seq: u64,
    /// The spool's entries are added to those that are there; else they replace them.
    pub adds: bool,
    /// The last number that was ever given.
    pub last_number: u64,
    /// Up to here the records heed all.
    pub heeded: u64,
}

/// How it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pulse {
    /// Alarm events that the standby has not acknowledged.
    pub events: u32,
    /// How long ago the oldest of what it has not acknowledged was sent.
    pub age_ns: u64,
}

/// How far a notification target is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// Its name.
    pub target: String,
    /// In the journal.
    pub seq: Option<u64>,
    /// In the spool.
    pub spool: Option<u64>,
}

/// Where peers stand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peers {
    /// What was told before does not hold any more.
    pub anew: bool,
    /// What is to be known, or no longer.
    pub changes: Vec<StandingChange>,
}

/// A part of a copy, which has come whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Whole {
    /// Active alarms.
    Alarms,
    /// Objects.
    Objects,
    /// Other SNMP engines.
    Engines,
    /// The journal and the cursors.
    Outbox,
    /// The spool.
    Spool,
}

macro_rules! operations {
    ($($(#[$doc:meta])* $number:literal $name:ident($payload:ty),)*) => {
        /// One operation.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Op {
            $($(#[$doc])* $name($payload),)*
        }

        impl Op {
            /// Appends it to a stream.
            pub fn append(&self, out: &mut Vec<u8>) {
                let start = out.len();
                match self {
                    $(Op::$name(payload) => append($number, payload, out),)*
                }
                if out.len() - start > OP_HEAD + LONGEST_OP {
                    // Nobody would take it.
                    out.truncate(start);
                }
            }

            /// Reads a payload of this kind.
            fn read(kind: u8, payload: &[u8]) -> Heard {
                match kind {
                    $($number => postcard::from_bytes(payload)
                        .map_or(Heard::Unreadable, |payload| Heard::Op(Op::$name(payload))),)*
                    _ => Heard::Unknown,
                }
            }
        }
    };
}

operations! {
    /// A standby asks for a copy.
    1 Offer(Offer),
    /// It does not want it any more.
    2 Withdraw(u32),
    /// The primary asks for what it lacks.
    3 Wanted(Wanted),
    /// A row that it lacks.
    4 HandRow(Row),
    /// A record that belongs to such a row.
    5 HandRecord(Record),
    /// An entry of the spool that somebody still waits for.
    6 HandTrap(Trap),
    /// That was all.
    7 HandEnd(u32),
    /// A copy begins.
    8 CopyBegin(CopyBegin),
    /// A part of it is whole.
    9 CopyWhole(Whole),
    /// It is whole, and takes the place of what was there.
    10 CopyEnd(u32),
    /// The primary could not go on: ask again.
    11 Again(u32),
    /// The records that are handed over heed all entries of the spool up to this one.
    12 HandHeeded(u64),
    /// A row of the journal.
    20 Row(Row),
    /// An active alarm, as JSON.
    21 Alarm(String),
    /// A record.
    22 Record(Record),
    /// An object that is no longer remembered.
    23 Removed((System, u32)),
    /// Another SNMP engine.
    24 Engine(Engine),
    /// How far a notification target is.
    25 Cursor(Cursor),
    /// The notification targets that there are.
    26 Targets(Vec<String>),
    /// How far the journal knows a term.
    27 Term((String, u64)),
    /// The last number of the spool that the records heed.
    28 Heeded(u64),
    /// How long ago the primary is known to have listened.
    29 Alive(u64),
    /// How far records may lag behind, in milliseconds.
    30 Lag(u64),
    /// Prints of traps that the records before this heed.
    31 Prints(Vec<u64>),
    /// The records lack nothing: the primary has ended to lead.
    32 Clean(()),
    /// An entry of the spool.
    33 Trap(Trap),
    /// How it stands. After a copy: all that had waited for its end has come.
    35 Pulse(Pulse),
    /// Where peers stand. (34 was that as octets, and was never sent.)
    36 Peers(Peers),
    /// All octets of the stream up to here are on the standby's disk.
    50 Ack(u64),
    /// A local alarm event of the standby.
    51 Local(Row),
    /// All its local active alarms, each as JSON.
    52 LocalAll(Vec<String>),
    /// In the file of a copy alone: what follows came in this boot at this moment, on both clocks.
    60 Arrived((String, u64, i64)),
}

fn append(kind: u8, payload: &impl Serialize, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[kind, 0, 0, 0, 0]);
    // It fails only for what has no length, and nothing here is such.
    if let Ok(octets) = postcard::to_stdvec(payload) {
        out.extend_from_slice(&octets);
    }
    let length = u32::try_from(out.len() - start - OP_HEAD).unwrap_or(u32::MAX);
    out[start + 1..start + OP_HEAD].copy_from_slice(&length.to_le_bytes());
}

/// What was found in a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// An operation.
    Op(Op),
    /// One of a kind that this version does not know.
    Unknown,
    /// One whose payload is none.
    Unreadable,
}

/// Why a stream is of no more use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// Frames are missing.
    #[error("frames of the mate are missing: {expected} was expected, {found} came")]
    Gap {
        /// What should have come.
        expected: u64,
        /// What came.
        found: u64,
    },
    /// An operation of more than can be.
    #[error("the mate announced an operation of {0} octets")]
    TooLong(u32),
}

/// The stream to the mate, cut into frames.
#[derive(Debug)]
pub struct Outgoing {
    stream: u32,
    index: u64,
    gathered: Vec<u8>,
    ready: VecDeque<Vec<u8>>,
    /// Octets of the stream so far: where the next operation begins.
    pub position: u64,
}

impl Outgoing {
    /// A new stream, which must not be named as one of the last few was.
    pub const fn new(stream: u32) -> Outgoing {
        let ready = VecDeque::new();
        Outgoing { stream, index: 0, gathered: Vec::new(), ready, position: 0 }
    }

    /// Appends an operation.
    pub fn push(&mut self, op: &Op) {
        let start = self.gathered.len();
        op.append(&mut self.gathered);
        self.grown(start);
    }

    /// Appends operations that are encoded already.
    pub fn push_octets(&mut self, octets: &[u8]) {
        let start = self.gathered.len();
        self.gathered.extend_from_slice(octets);
        self.grown(start);
    }

    fn grown(&mut self, start: usize) {
        self.position += (self.gathered.len() - start) as u64;
        while self.gathered.len() >= LONGEST_FRAME - FRAME_HEAD {
            self.cut();
        }
    }

    fn cut(&mut self) {
        let end = self.gathered.len().min(LONGEST_FRAME - FRAME_HEAD);
        let mut frame = Vec::with_capacity(FRAME_HEAD + end);
        frame.push(VERSION);
        frame.extend_from_slice(&self.stream.to_le_bytes());
        frame.extend_from_slice(&self.index.to_le_bytes());
        frame.extend(self.gathered.drain(..end));
        self.index += 1;
        self.ready.push_back(frame);
    }

    /// Whether there is a frame to be sent.
    pub fn is_waiting(&self) -> bool {
        !self.gathered.is_empty() || !self.ready.is_empty()
    }

    /// Octets that wait.
    pub fn waiting(&self) -> usize {
        self.gathered.len() + self.ready.len() * LONGEST_FRAME
    }

    /// The next frame.
    pub fn next(&mut self) -> Option<Vec<u8>> {
        if self.ready.is_empty() && !self.gathered.is_empty() {
            self.cut();
        }
        self.ready.pop_front()
    }
}

/// The stream from the mate, put together again.
#[derive(Debug, Default)]
pub struct Incoming {
    /// The stream, and the index of the frame that comes next.
    expects: Option<(u32, u64)>,
    gathered: Vec<u8>,
    read: usize,
    /// Octets of the stream that were read as operations.
    pub position: u64,
}

/// What came of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Took {
    /// It begins a stream: what was known of one before is over.
    Began,
    /// It goes on with the stream.
    On,
    /// It belongs to none of now.
    Stray,
}

impl Incoming {
    /// Takes a frame.
    pub fn take(&mut self, frame: &[u8]) -> Result<Took, Broken> {
        let Some((head, piece)) = frame.split_first_chunk::<FRAME_HEAD>() else {
            return Ok(Took::Stray);
        };
        let [version, s0, s1, s2, s3, index @ ..] = *head;
        let (stream, index) = (u32::from_le_bytes([s0, s1, s2, s3]), u64::from_le_bytes(index));
        if version != VERSION {
            return Ok(Took::Stray);
        }
        let took = match self.expects {
            _ if index == 0 => {
                *self = Incoming::default();
                Took::Began
            }
            Some((of, expected)) if of == stream => {
                if index != expected {
                    return Err(Broken::Gap { expected, found: index });
                }
                Took::On
            }
            // What was left of the channel before.
            _ => return Ok(Took::Stray),
        };
        self.expects = Some((stream, index + 1));
        self.gathered.drain(..self.read);
        self.read = 0;
        self.gathered.extend_from_slice(piece);
        Ok(took)
    }

    /// The next operation that is whole.
    pub fn next(&mut self) -> Result<Option<Heard>, Broken> {
        let Some((head, rest)) = self.gathered[self.read..].split_first_chunk::<OP_HEAD>() else {
            return Ok(None);
        };
        let [kind, length @ ..] = *head;
        let length = u32::from_le_bytes(length);
        if length as usize > LONGEST_OP {
            return Err(Broken::TooLong(length));
        }
        let Some(payload) = rest.get(..length as usize) else { return Ok(None) };
        let heard = Op::read(kind, payload);
        self.read += OP_HEAD + length as usize;
        self.position += (OP_HEAD + length as usize) as u64;
        Ok(Some(heard))
    }
}

/// Reads operations from a file that they were appended to, end to end.
#[derive(Debug)]
pub struct OpReader<R> {
    from: R,
}

impl<R: std::io::Read> OpReader<R> {
    /// Reads from `from`.
    pub const fn new(from: R) -> OpReader<R> {
        OpReader { from }
    }

    fn read(&mut self) -> std::io::Result<Op> {
        let mut head = [0; OP_HEAD];
        self.from.read_exact(&mut head)?;
        let [kind, length @ ..] = head;
        let length = u32::from_le_bytes(length) as usize;
        if length > LONGEST_OP {
            return Err(std::io::Error::other("it is damaged"));
        }
        let mut payload = vec![0; length];
        self.from.read_exact(&mut payload)?;
        match Op::read(kind, &payload) {
            Heard::Op(op) => Ok(op),
            Heard::Unknown | Heard::Unreadable => Err(std::io::Error::other("it is damaged")),
        }
    }
}

impl<R: std::io::Read> Iterator for OpReader<R> {
    type Item = std::io::Result<Op>;

    fn next(&mut self) -> Option<std::io::Result<Op>> {
        match self.read() {
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => None,
            read => Some(read),
        }
    }
}
