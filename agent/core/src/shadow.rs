//! What a standby keeps of the traps that reach it, for the moment in which it becomes primary
//! (PAIR-12).
//!
//! ```text
//!   standby's ear ──datagram──> Shadow ──────── takeover ────────> the core, in the order they came
//!   primary's word ──prints───>   │ drops what the primary has confirmed, and what is too old
//! ```
//!
//! Devices may send to both agents. What the standby hears it does not judge: the primary does. But the
//! primary may die between hearing a trap and having it on both disks, so the standby keeps what came in
//! the last [`KEPT_FOR`], and lets go of a datagram when the primary has said its *print*, a keyed hash
//! of who sent what. Either may come first. What is left at a takeover is taken in as if it had
//! just come, with the moments of its receipt; the objects' records know the last traps, so what the
//! primary had taken in and not yet confirmed is seen to be a copy (INST-9).
//!
//! A datagram that two devices send alike, or one device twice, has one print: the second is as good as
//! a copy of the first, within so short a time.

use std::{
    collections::{BTreeSet, VecDeque},
    hash::{BuildHasher, Hasher},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use foldhash::quality::FixedState;

use crate::{
    input::{Datagram, Door},
    objects::bits,
    time::Time,
    trap::{Form, Trap},
};

/// For how long a datagram, or a print, is kept: ten times what a takeover and a checkpoint take by
/// default, so that neither a slow disk nor a mate time-out of 10 s leaves a gap.
pub const KEPT_FOR: Duration = Duration::from_secs(30);

/// The most datagrams: at 300 octets each some 40 MB.
pub const MOST: usize = 131_072;

/// The most octets of all of them.
pub const MOST_OCTETS: usize = 64 << 20;

/// Makes prints. Both agents of a pair have the same key, so they come to the same prints; nobody else
/// has it, so nobody can make two datagrams with one print.
#[derive(Clone, Debug)]
pub struct Printer(FixedState);

impl Printer {
    /// With this key.
    pub const fn new(key: u64) -> Printer {
        Printer(FixedState::with_seed(key))
    }

    /// The print of these octets from this sender. What a sender chooses anew for each of the two agents
    /// is left out: its port, and the request-id.
    pub fn print(&self, source: IpAddr, octets: &[u8]) -> u64 {
        let mut hasher = self.0.build_hasher();
        hasher.write(&bits(source).to_le_bytes());
        match Trap::decode(octets) {
            Ok(Trap { form: Form::V2c | Form::Inform, community, varbinds, .. }) => {
                hasher.write_usize(community.len());
                hasher.write(community);
                hasher.write(varbinds);
            }
            // Of SNMPv1, which has no request-id; or of SNMPv3, which hides it; or no trap at all.
            Ok(_) | Err(_) => hasher.write(octets),
        }
        hasher.finish()
    }
}

/// A datagram as it came, for later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptDatagram {
    /// Who sent it.
    pub source: SocketAddr,
    /// When the kernel received it.
    pub received: Time,
    /// Where it came to.
    pub door: Door,
    /// The octets.
    pub bytes: Box<[u8]>,
    print: u64,
}

impl KeptDatagram {
    /// As the core takes it in.
    pub fn datagram(&self) -> Datagram<'_> {
        let KeptDatagram { source, received, door, .. } = *self;
        Datagram { source, received, door, bytes: &self.bytes }
    }
}

/// What became of the datagrams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShadowStats {
    /// That came.
    pub heard: u64,
    /// Let go of as the primary had confirmed them.
    pub confirmed: u64,
    /// Let go of as they were too old.
    pub expired: u64,
    /// Dropped, as there was no room: the oldest ones.
    pub dropped: u64,
    /// Given to the core at takeovers.
    pub taken_in: u64,
    /// There now.
    pub kept: u64,
    /// Their octets.
    pub octets: u64,
}

/// The datagrams of the last [`KEPT_FOR`].
#[derive(Debug)]
pub struct Shadow {
    printer: Printer,
    /// In the order of their receipt, but for what two sockets mix up.
    kept: VecDeque<KeptDatagram>,
    octets: usize,
    /// Prints that the primary has said, with when; and the same to look up.
    said: VecDeque<(Time, u64)>,
    known: BTreeSet<u64>,
    stats: ShadowStats,
}

impl Shadow {
    /// An empty one.
    pub const fn new(printer: Printer) -> Shadow {
        Shadow {
            printer,
            kept: VecDeque::new(),
            octets: 0,
            said: VecDeque::new(),
            known: BTreeSet::new(),
            stats: ShadowStats {
                heard: 0,
                confirmed: 0,
                expired: 0,
                dropped: 0,
                taken_in: 0,
                kept: 0,
                octets: 0,
            },
        }
    }

    /// Prints are made by another key from now on: the mate is another one.
    pub fn set_printer(&mut self, printer: Printer) {
        for kept in &mut self.kept {
            kept.print = printer.print(kept.source.ip(), &kept.bytes);
        }
        self.printer = printer;
        self.said.clear();
        self.known.clear();
    }

    /// Keeps a datagram, unless the primary has confirmed it already.
    pub fn keep(&mut self, datagram: &Datagram<'_>) {
        let Datagram { source, received, door, bytes } = *datagram;
        self.stats.heard += 1;
        let print = self.printer.print(source.ip(), bytes);
        if self.known.contains(&print) {
            self.stats.confirmed += 1;
            return;
        }
        self.octets += bytes.len();
        self.kept.push_back(KeptDatagram { source, received, door, bytes: bytes.into(), print });
        while self.kept.len() > MOST || self.octets > MOST_OCTETS {
            self.drop_oldest();
            self.stats.dropped += 1;
        }
    }

    /// The primary has these on both disks.
    pub fn confirm(&mut self, prints: &[u64], now: Time) {
        for &print in prints {
            if self.known.insert(print) {
                self.said.push_back((now, print));
            }
        }
        let known = &self.known;
        let before = self.kept.len();
        self.kept.retain(|kept| !known.contains(&kept.print));
        self.octets = self.kept.iter().map(|kept| kept.bytes.len()).sum();
        self.stats.confirmed += (before - self.kept.len()) as u64;
        while self.said.len() > MOST {
            self.forget_oldest_print();
        }
    }

    /// Lets go of what is too old.
    pub fn expire(&mut self, now: Time) {
        while self.kept.front().is_some_and(|kept| now.since(kept.received) > KEPT_FOR) {
            self.drop_oldest();
            self.stats.expired += 1;
        }
        while self.said.front().is_some_and(|(said, _)| now.since(*said) > KEPT_FOR) {
            self.forget_oldest_print();
        }
    }

    /// Gives what is left, in the order of receipt, and begins anew.
    pub fn take(&mut self, now: Time) -> Vec<KeptDatagram> {
        self.expire(now);
        self.octets = 0;
        self.said.clear();
        self.known.clear();
        let mut left: Vec<KeptDatagram> = self.kept.drain(..).collect();
        left.sort_by_key(|kept| kept.received);
        self.stats.taken_in += left.len() as u64;
        left
    }

    /// Begins anew with nothing.
    pub fn restart(&mut self) {
        self.kept.clear();
        self.octets = 0;
        self.said.clear();
        self.known.clear();
    }

    /// What became of the datagrams.
    pub fn stats(&self) -> ShadowStats {
        let (kept, octets) = (self.kept.len() as u64, self.octets as u64);
        ShadowStats { kept, octets, ..self.stats }
    }

    fn drop_oldest(&mut self) {
        if let Some(oldest) = self.kept.pop_front() {
            self.octets -= oldest.bytes.len();
        }
    }

    fn forget_oldest_print(&mut self) {
        if let Some((_, print)) = self.said.pop_front() {
            self.known.remove(&print);
        }
    }
}

/// On the primary: the prints of what was taken in and is not yet on both disks.
#[derive(Debug)]
pub struct Unconfirmed {
    printer: Printer,
    prints: Vec<u64>,
    dropped: u64,
}

impl Unconfirmed {
    /// None.
    pub const fn new(printer: Printer) -> Unconfirmed {
        Unconfirmed { printer, prints: Vec::new(), dropped: 0 }
    }

    /// Prints are made by another key from now on. Those that were made are of no use to the mate.
    pub fn set_printer(&mut self, printer: Printer) {
        self.printer = printer;
        self.prints.clear();
    }

    /// Notes a datagram that is taken in. Beyond [`MOST`] between two checkpoints they are not noted: the
    /// standby then keeps what it could let go of.
    pub fn note(&mut self, source: IpAddr, octets: &[u8]) {
        if self.prints.len() < MOST {
            self.prints.push(self.printer.print(source, octets));
        } else {
            self.dropped += 1;
        }
    }

    /// The prints of all that was noted, as the records of all of it have gone to the store.
    pub fn take(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.prints)
    }

    /// How many were not noted.
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(source: &str, octets: &'static [u8], millis: u64) -> Datagram<'static> {
        let source = SocketAddr::new(source.parse().unwrap(), 40_000 + millis as u16);
        let received = Time::from_millis(millis);
        Datagram { source, received, door: Door::default(), bytes: octets }
    }

    fn left(shadow: &mut Shadow, millis: u64) -> Vec<&'static str> {
        let taken = shadow.take(Time::from_millis(millis));
        let name = |kept: &KeptDatagram| match &*kept.bytes {
            b"one" => "one",
            b"two" => "two",
            b"three" => "three",
            _ => "?",
        };
        taken.iter().map(name).collect()
    }

    #[test]
    fn pair_12_what_the_primary_has_confirmed_is_let_go_of_whichever_comes_first() {
        let printer = Printer::new(7);
        let mut primary = Unconfirmed::new(printer.clone());
        let mut shadow = Shadow::new(printer);
        shadow.keep(&heard("192.0.2.1", b"one", 1));
        primary.note("192.0.2.1".parse().unwrap(), b"one");
        primary.note("192.0.2.1".parse().unwrap(), b"two");
        shadow.confirm(&primary.take(), Time::from_millis(5));
        assert!(primary.take().is_empty());
        shadow.keep(&heard("192.0.2.1", b"two", 6));
        // The same octets of another device are another trap.
        shadow.keep(&heard("192.0.2.2", b"two", 9));
        shadow.keep(&heard("192.0.2.1", b"three", 8));
        assert_eq!(left(&mut shadow, 10), ["three", "two"], "in the order of receipt");
        let stats = shadow.stats();
        assert_eq!((stats.heard, stats.confirmed, stats.taken_in, stats.kept), (4, 2, 2, 0));
        assert!(left(&mut shadow, 11).is_empty(), "once");
    }

    #[test]
    fn pair_12_what_was_kept_before_the_mate_was_trusted_is_let_go_of_when_it_is_confirmed() {
        let mut shadow = Shadow::new(Printer::new(1));
        let mut primary = Unconfirmed::new(Printer::new(2));
        let device = "192.0.2.1".parse().unwrap();
        shadow.keep(&heard("192.0.2.1", b"one", 1));
        primary.note(device, b"one");
        shadow.confirm(&primary.take(), Time::from_millis(5));
        assert_eq!(shadow.stats().kept, 1, "the two make different prints");
        shadow.set_printer(Printer::new(7));
        primary.set_printer(Printer::new(7));
        shadow.keep(&heard("192.0.2.1", b"two", 6));
        primary.note(device, b"one");
        primary.note(device, b"two");
        shadow.confirm(&primary.take(), Time::from_millis(9));
        assert_eq!((shadow.stats().kept, shadow.stats().octets), (0, 0));
    }

    #[test]
    fn pair_12_what_is_too_old_is_let_go_of() {
        let mut shadow = Shadow::new(Printer::new(7));
        shadow.keep(&heard("192.0.2.1", b"one", 0));
        shadow.keep(&heard("192.0.2.1", b"two", 1));
        shadow.expire(Time::from_millis(30_000));
        assert_eq!(shadow.stats().expired, 0, "at 30 s it is kept");
        assert_eq!(left(&mut shadow, 30_001), ["two"]);
        assert_eq!(shadow.stats().expired, 1);
    }

    #[test]
    fn the_memory_is_bounded_and_the_oldest_are_dropped_and_counted() {
        let mut shadow = Shadow::new(Printer::new(7));
        let long = vec![0; MOST_OCTETS / 2];
        for millis in 1..=3 {
            let datagram = heard("192.0.2.1", b"", millis);
            shadow.keep(&Datagram { bytes: &long, ..datagram });
        }
        let stats = shadow.stats();
        assert_eq!((stats.kept, stats.dropped), (2, 1));
        assert_eq!(stats.octets, MOST_OCTETS as u64);
        let mut primary = Unconfirmed::new(Printer::new(7));
        for _ in 0..=MOST {
            primary.note([192, 0, 2, 1].into(), b"one");
        }
        assert_eq!((primary.take().len(), primary.dropped()), (MOST, 1));
    }
}
