//! What the tests of the spool share: traps by number, and spools in a directory of their own.

use std::{
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

use evenkeel_core::{
    alarm::System,
    input::Taken,
    settings::ForwardTarget,
    time::{Time, WallTime},
    trap::Form,
};

use super::{AnswerSockets, DEFAULT_MAX_SIZE, Recovered, Spool, Work, WorkBuilder};
use crate::store::{Moment, Now};

/// Two notification targets that acknowledge, and one between them that does not.
pub fn targets() -> Vec<ForwardTarget> {
    [("a", true), ("fast", false), ("b", true)]
        .map(|(name, durable)| ForwardTarget { name: name.to_owned(), durable, original: false })
        .to_vec()
}

/// The trap with this number: of a system and with varbinds that tell it from all others. Even ones
/// are for "a", those that can be divided by three for "b", and all for "fast".
pub fn taken(number: u64) -> Taken {
    let low = number as u32;
    let source = SocketAddr::from((low.to_be_bytes(), 1162));
    let mut taken = Taken {
        number: Some(number),
        received: Time::from_secs(1_000 + number),
        wall: WallTime(1_700_000_000_000 + number as i64),
        source,
        system: System(source.ip()),
        form: if number.is_multiple_of(2) { Form::Inform } else { Form::V3Inform },
        request_id: Some(low),
        community: b"public".to_vec(),
        varbinds: number.to_le_bytes().repeat(3 + low as usize % 20),
        original: number.is_multiple_of(5).then(|| vec![low as u8; 100]),
        targets: Default::default(),
    };
    let places = [(0, number.is_multiple_of(2)), (1, true), (2, number.is_multiple_of(3))];
    taken.targets.extend(places.into_iter().filter(|(_, is)| *is).map(|(place, _)| place));
    taken
}

/// The same as it comes back: places of targets mean nothing in another run.
pub fn restored(number: u64) -> Taken {
    Taken { targets: Default::default(), ..taken(number) }
}

/// The entries with these numbers.
pub fn work(numbers: std::ops::RangeInclusive<u64>) -> Work {
    let mut builder = WorkBuilder::default();
    for number in numbers {
        assert!(builder.push(&taken(number), &targets()));
    }
    builder.take().unwrap()
}

/// A boot of which all times of the traps above are in the past.
pub fn now() -> Now {
    let mono = Time::from_secs(1 << 30);
    let moment = Moment { mono, wall: WallTime(1_800_000_000_000) };
    Now { moment, boot_id: "0b00b1e5-0000-4000-8000-000000000001".to_owned() }
}

/// Opens a spool as large as any.
pub fn open(dir: &Path) -> (Spool, Recovered) {
    Spool::open(dir, DEFAULT_MAX_SIZE, AnswerSockets::default(), &now()).unwrap()
}

/// Waits until a number is safe.
pub fn wait_for(spool: &Spool, number: u64) {
    until(|| *spool.safe().borrow() >= number);
}

/// Waits until something is so.
pub fn until(is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < deadline, "it does not become so");
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// Everything that an earlier run left behind a number.
pub fn entries(recovered: &Recovered, after: u64) -> Vec<Taken> {
    recovered.entries_after(after).map(Result::unwrap).collect()
}
