//! Every place where what a mate says is read, behind one function: heartbeats and records up to the
//! protocol of the pair, and the state in its frames. What seals them is left out: who has the key is the
//! mate, and what the mate says is read all the same with care, as it may be of another version.
//!
//! The first octet of an input says what the rest is.

use std::time::Duration;

use evenkeel_core::{
    pair::{
        Identity, Input, Kept, Pair,
        message::{Heartbeat, Message},
        paths::{Channel, Via},
        settings::{Failback, Limit, Paths, Settings, Timing},
        term::Slot,
        version::Version,
    },
    time::Time,
};

use self::wire::{Heard, Incoming, Op, Outgoing};

/// What the frames of the state are cut to.
const LONGEST_FRAME: usize = 256 << 10;

#[allow(dead_code, reason = "the replica uses all of it, and only reading is tried here")]
#[path = "../../agent/replica/wire.rs"]
mod wire;

/// After so many inputs all is made anew.
const ANEW: u32 = 4096;

/// How long after a heartbeat the next one comes.
const PAUSE: Duration = Duration::from_millis(130);

/// What an input is.
#[derive(Clone, Copy)]
enum Door {
    /// A heartbeat that came by a path.
    Path,
    /// A control frame of the state channel.
    Control,
    /// A frame of the state.
    Frame,
    /// The stream in such frames, which are cut anew.
    Stream,
}

impl Door {
    const ALL: [Door; 4] = [Door::Path, Door::Control, Door::Frame, Door::Stream];

    const fn of(octet: u8) -> Door {
        Door::ALL[octet as usize % Door::ALL.len()]
    }
}

/// All doors, and what is behind them.
pub struct Doors {
    agents: [Pair; 2],
    incoming: Incoming,
    now: Time,
    inputs: u32,
    understood: u64,
}

fn agent(slot: Slot, now: Time) -> Pair {
    let identity = Identity { slot, run: 7, version: Version { major: 0, minor: 1, patch: 0 } };
    let settings = Settings {
        priority: 100,
        timing: Timing::DEFAULT,
        limit: Some(Limit::DEFAULT),
        failback: Failback::ByHand,
        paths: Paths::new(&["eth0", "eth1"]).expect("two"),
        witnesses: false,
    };
    let mut pair = Pair::new(identity, settings, &Kept::default(), Duration::ZERO, now);
    pair.handle(Input::Channel { channel: Channel::Up, at: now });
    pair
}

impl Doors {
    /// Doors that nothing has come to.
    pub fn new() -> Doors {
        let now = Time::from_secs(10);
        let agents = [agent(Slot::Zero, now), agent(Slot::One, now)];
        Doors { agents, incoming: Incoming::default(), now, inputs: 0, understood: 0 }
    }

    /// How many inputs said something.
    #[allow(dead_code, reason = "the tests ask, the fuzzer does not")]
    pub fn understood(&self) -> u64 {
        self.understood
    }

    /// One input.
    pub fn feed(&mut self, input: &[u8]) {
        self.inputs += 1;
        if self.inputs.is_multiple_of(ANEW) {
            let Doors { inputs, understood, .. } = *self;
            *self = Doors { inputs, understood, ..Doors::new() };
        }
        let Some((door, rest)) = input.split_first() else { return };
        match Door::of(*door) {
            Door::Path => {
                if let Ok(heartbeat) = postcard::from_bytes::<Heartbeat>(rest) {
                    self.said_again(&heartbeat);
                    self.heartbeat(Via::Path(door / 4 % 3), heartbeat);
                }
            }
            Door::Control => match postcard::from_bytes::<Message>(rest) {
                Ok(Message::Heartbeat(heartbeat)) => self.heartbeat(Via::Channel, *heartbeat),
                Ok(Message::Record(record)) => {
                    let at = self.now;
                    self.understood += 1;
                    self.tell(|| Input::Record { record, at });
                }
                Err(_) => {}
            },
            Door::Frame => {
                if self.incoming.take(rest).is_ok() {
                    self.understood += self.ops();
                }
            }
            Door::Stream => {
                let mut out = Outgoing::new(u32::from(*door));
                out.push_octets(rest);
                self.incoming = Incoming::default();
                while let Some(frame) = out.next() {
                    self.incoming.take(&frame).expect("what was cut whole is put together again");
                }
                self.understood += self.ops();
            }
        }
    }

    /// What was understood can be said, and means the same then.
    fn said_again(&self, heartbeat: &Heartbeat) {
        let octets = postcard::to_stdvec(heartbeat).expect("nothing in it has no form");
        assert_eq!(postcard::from_bytes::<Heartbeat>(&octets).as_ref(), Ok(heartbeat));
    }

    fn heartbeat(&mut self, via: Via, heartbeat: Heartbeat) {
        self.understood += 1;
        let at = self.now;
        self.tell(|| Input::Heartbeat { via, heartbeat: heartbeat.clone(), at });
    }

    /// Both agents are told, and go on as their shell would let them.
    fn tell(&mut self, input: impl Fn() -> Input) {
        self.now = self.now + PAUSE;
        for pair in &mut self.agents {
            pair.handle(input());
            pair.handle(Input::Now(self.now));
            while pair.poll_event().is_some() {}
            // It is on the disk at once.
            if let Some(kept) = pair.poll_keep() {
                pair.handle(Input::Kept { known: kept.known, at: self.now });
            }
            while pair.poll_event().is_some() {}
            if let Some(heartbeat) = pair.poll_heartbeat() {
                let octets = postcard::to_stdvec(&heartbeat).expect("nothing in it has no form");
                assert!(octets.len() <= 1_100, "it has room in a datagram");
            }
            pair.poll_record();
            pair.poll_ask();
            assert!(pair.next_deadline() > self.now, "it goes on");
        }
    }

    /// Reads what is whole of the stream. Each operation can be said again.
    fn ops(&mut self) -> u64 {
        let mut understood = 0;
        while let Ok(Some(heard)) = self.incoming.next() {
            let Heard::Op(op) = heard else { continue };
            understood += 1;
            let mut out = Outgoing::new(1);
            out.push(&op);
            let mut again = Incoming::default();
            while let Some(frame) = out.next() {
                again.take(&frame).expect("it was just made");
            }
            assert_eq!(again.next(), Ok(Some(Heard::Op(op))));
        }
        understood
    }
}

/// What is sent, as it is: a name, and the input that the doors take it as.
#[allow(dead_code, reason = "the tests write them, the fuzzer reads them")]
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let mut seeds = Vec::new();
    let now = Time::from_secs(10);
    let (mut zero, mut one) = (agent(Slot::Zero, now), agent(Slot::One, now));
    let mut said: Vec<Heartbeat> = Vec::new();
    // Four seconds of two agents that hear each other, of which one becomes primary.
    for round in 0..40 {
        let now = now + Duration::from_millis(100 * round);
        let agents = [&mut zero, &mut one];
        let mut out = [None, None];
        for (pair, out) in agents.into_iter().zip(&mut out) {
            pair.handle(Input::Now(now));
            while pair.poll_event().is_some() {}
            if let Some(kept) = pair.poll_keep() {
                pair.handle(Input::Kept { known: kept.known, at: now });
            }
            *out = pair.poll_heartbeat();
        }
        let at = now + Duration::from_millis(1);
        let [from_zero, from_one] = out;
        said.extend(from_zero.iter().chain(&from_one).cloned());
        for (to, heartbeat) in [(&mut one, from_zero), (&mut zero, from_one)] {
            if let Some(heartbeat) = heartbeat {
                to.handle(Input::Heartbeat { via: Via::Path(0), heartbeat, at });
            }
        }
    }
    let octets = |heartbeat: &Heartbeat| postcard::to_stdvec(heartbeat).expect("it has a form");
    let with = |door: u8, octets: Vec<u8>| [vec![door], octets].concat();
    for (name, heartbeat) in [("first", said.first()), ("last", said.last())] {
        let heartbeat = heartbeat.expect("they have spoken").clone();
        let message = Message::Heartbeat(Box::new(heartbeat.clone()));
        seeds.push((
            if name == "first" { "path-first" } else { "path-last" },
            with(0, octets(&heartbeat)),
        ));
        let name = if name == "first" { "control-first" } else { "control-last" };
        seeds.push((name, with(1, postcard::to_stdvec(&message).expect("it has a form"))));
    }
    for pair in [&mut zero, &mut one] {
        if let Some(record) = pair.poll_record() {
            let message = Message::Record(record);
            seeds.push((
                "control-record",
                with(1, postcard::to_stdvec(&message).expect("it has a form")),
            ));
            break;
        }
    }
    let mut out = Outgoing::new(3);
    for op in ops() {
        out.push(&op);
    }
    let mut stream = Vec::new();
    for op in ops() {
        op.append(&mut stream);
    }
    seeds.push(("stream", with(3, stream)));
    seeds.push(("frame", with(2, out.next().expect("one has room for all"))));
    seeds
}

/// One of each operation whose payload is no more than numbers and texts.
fn ops() -> Vec<Op> {
    let record = wire::Record {
        system: evenkeel_core::alarm::System([192, 0, 2, 1].into()),
        if_index: 3,
        since_ns: 1_000,
        age_ns: 2_000,
        memory: "{}".to_owned(),
    };
    let row = wire::Row {
        seq: 7,
        wall_ms: 1_700_000_000_000,
        cleared: Some("ended".to_owned()),
        alarm: "{}".to_owned(),
        term: Some("3.0".to_owned()),
    };
    let trap = wire::Trap {
        number: 9,
        since_ns: 5,
        targets: vec!["nms".to_owned()],
        source: "192.0.2.1:162".parse().expect("an address"),
        system: record.system,
        form: evenkeel_core::trap::Form::V2c,
        request_id: Some(1),
        community: b"public".to_vec(),
        varbinds: vec![0x30, 0],
        original: None,
    };
    let silent = evenkeel_core::peers::Standing {
        count: evenkeel_core::peers::Count::Unanswered(2),
        restart_counter: Some(4),
    };
    let changes = vec![([192, 0, 2, 7].into(), Some(silent)), ([192, 0, 2, 8].into(), None)];
    vec![
        Op::Offer(wire::Offer {
            session: 1,
            terms: vec![("3.0".to_owned(), 7)],
            spool: Some((9, 5)),
        }),
        Op::Wanted(wire::Wanted { session: 1, terms: vec![("3.0".to_owned(), 7)], traps: true }),
        Op::HandRow(row.clone()),
        Op::HandRecord(record.clone()),
        Op::HandHeeded(8),
        Op::HandTrap(trap.clone()),
        Op::HandEnd(1),
        Op::CopyBegin(wire::CopyBegin {
            session: 1,
            first_seq: 1,
            last_seq: 7,
            adds: false,
            last_number: 9,
            heeded: 8,
        }),
        Op::CopyWhole(wire::Whole::Alarms),
        Op::CopyEnd(1),
        Op::Row(row),
        Op::Alarm("{}".to_owned()),
        Op::Record(record),
        Op::Cursor(wire::Cursor { target: "nms".to_owned(), seq: Some(7), spool: None }),
        Op::Term(("3.0".to_owned(), 7)),
        Op::Heeded(8),
        Op::Prints(vec![1, 2, 3]),
        Op::Trap(trap),
        Op::Pulse(wire::Pulse { events: 0, age_ns: 0 }),
        Op::Peers(wire::Peers { anew: true, changes }),
        Op::Ack(1_000),
    ]
}
