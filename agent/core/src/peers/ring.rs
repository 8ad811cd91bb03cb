//! When each peer of one group is asked: once per interval, evenly, for ever at the same phase
//! (PEER-4).
//!
//! ```text
//!                 round r                                   round r + 1
//!   |<-------------- interval -------------->|
//!   |<------ seven ninths ------>|           |
//!   0   1   2   3   4   5   6   7            0   1   2   3   4   5   6   7
//!   |---|---|---|---|---|---|---|------------|---|---|---|---|---|---|---|---------
//!               ^ slot: its peers are asked when it comes due
//! ```
//!
//! A slot comes due at the start of its round and a fraction of seven ninths of the interval, counted
//! from the first round of all, so that nothing adds up over days. The rest of the interval is left
//! free to catch up in (PEER-8).
//!
//! What is due and could not be asked yet stays due, in order: the *mark* stands before the next peer
//! to be asked, and falls behind the clock.

use std::time::Duration;

use super::settings::{Batch, Group};
use crate::time::Time;

/// More slots than this spread nothing any better, and cost memory: it is 15 ms in a minute. A limit
/// that needs more batches than this in a sweep gets more slots.
const SLOTS: u64 = 4096;

/// How much of the interval a sweep may take: seven ninths (PEER-8).
pub const fn sweep_nanos(interval: Duration) -> u64 {
    (interval.as_nanos() * 7 / 9) as u64
}

/// How many slots a group has, so that each holds one batch at most.
pub fn slots(group: &Group, batch: Batch) -> u32 {
    let batches = sweep_nanos(group.interval) / batch.interval.as_nanos().max(1) as u64;
    let needed = u64::from(group.limit.div_ceil(batch.size.get()));
    u32::try_from(batches.min(needed.max(SLOTS)).max(1)).unwrap_or(u32::MAX)
}

/// Where a peer sits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seat {
    /// The slot.
    pub slot: u32,
    /// Its place among the slot's peers.
    pub index: u32,
}

/// The peers of one group.
#[derive(Clone, Debug)]
pub struct Ring {
    interval: i64,
    sweep: i64,
    /// When round 0 starts. With a signed number, the rounds of a group can start before the clock.
    origin: i64,
    slots: Vec<Vec<u32>>,
    peers: u32,
    mark: Mark,
    filling: Filling,
    sweeping: Option<Sweeping>,
    latest_sweep: Option<Duration>,
}

/// Before whom the next request leaves. It stands at a slot that has somebody, before the slot's last
/// peer, unless there is nobody at all.
#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    round: i64,
    slot: u32,
    /// How many of the slot were asked.
    asked: u32,
}

/// Where the next new peer sits. The slots are tried in steps of about the golden ratio of their
/// number, so that few peers are spread as evenly as many.
#[derive(Clone, Copy, Debug)]
struct Filling {
    step: u32,
    next: u32,
    /// No slot has fewer peers.
    level: u32,
}

#[derive(Clone, Copy, Debug)]
struct Sweeping {
    first: Time,
    last: Time,
}

impl Ring {
    /// A ring without peers. `phase` shifts its rounds back by so many 2^32ths of the interval.
    pub fn new(interval: Duration, slots: u32, phase: u32, now: Time) -> Ring {
        let length = nanos(interval);
        let shift = (i128::from(length) * i128::from(phase)) >> 32;
        Ring {
            interval: length,
            sweep: sweep_nanos(interval).cast_signed(),
            origin: moment(now) - shift as i64,
            slots: vec![Vec::new(); slots as usize],
            peers: 0,
            mark: Mark::default(),
            filling: Filling { step: golden_step(slots), next: 0, level: 0 },
            sweeping: None,
            latest_sweep: None,
        }
    }

    /// Whether it has this shape.
    pub const fn is_of(&self, interval: Duration, slots: u32) -> bool {
        self.interval == nanos(interval) && self.slots.len() == slots as usize
    }

    /// Gives a peer a seat in the emptiest slot. It is asked when that next comes due.
    pub fn add(&mut self, place: u32, now: Time) -> Seat {
        let slot = self.emptiest();
        let index = self.slots[slot as usize].len() as u32;
        self.slots[slot as usize].push(place);
        self.peers += 1;
        if index == 0 {
            // Nobody sat here, so the mark may have gone past the slot before it was due.
            let coming = Mark { round: self.coming_round(slot, now), slot, asked: 0 };
            let before = (coming.round, slot) < (self.mark.round, self.mark.slot);
            if self.peers == 1 || before {
                self.mark = coming;
            }
        }
        Seat { slot, index }
    }

    /// Takes a seat away; the others of its slot that change their seats for it are told.
    pub fn remove(&mut self, seat: Seat, mut moved: impl FnMut(u32, Seat)) {
        let slot = &mut self.slots[seat.slot as usize];
        let mut hole = seat.index as usize;
        let mut fill = |slot: &mut Vec<u32>, hole: usize, from: usize| {
            if hole != from {
                slot[hole] = slot[from];
                moved(slot[hole], Seat { slot: seat.slot, index: hole as u32 });
            }
        };
        // Those that were asked in this round stay before the mark, the others behind it.
        if seat.slot == self.mark.slot && seat.index < self.mark.asked {
            self.mark.asked -= 1;
            fill(slot, hole, self.mark.asked as usize);
            hole = self.mark.asked as usize;
        }
        let last = slot.len() - 1;
        fill(slot, hole, last);
        slot.pop();
        self.peers -= 1;
        self.filling.level = self.filling.level.min(last as u32);
        self.settle();
    }

    /// When the next peer is due; nothing without peers.
    pub fn due(&self) -> Option<Time> {
        (self.peers > 0).then(|| self.due_at(self.mark.round, self.mark.slot))
    }

    /// The next peer, if it is due.
    pub fn take(&mut self, now: Time) -> Option<u32> {
        if self.due()? > now {
            return None;
        }
        let place = self.slots[self.mark.slot as usize][self.mark.asked as usize];
        self.mark.asked += 1;
        self.sweeping.get_or_insert(Sweeping { first: now, last: now }).last = now;
        self.settle();
        Some(place)
    }

    /// Skips the rounds that were missed whole, so that nobody is asked twice in a row. Returns how
    /// many.
    pub fn skip(&mut self, now: Time) -> u64 {
        let Some(due) = self.due() else { return 0 };
        let rounds = (moment(now) - moment(due)).max(0) / self.interval;
        self.mark.round += rounds;
        rounds.unsigned_abs()
    }

    /// From the first to the last heartbeat of the latest whole round.
    pub const fn latest_sweep(&self) -> Option<Duration> {
        self.latest_sweep
    }

    /// Gives the ring another shape. The peers keep their order, and whoever is to be asked next is
    /// asked when he would have been; all their new seats are told.
    pub fn reshape(
        &mut self,
        interval: Duration,
        slots: u32,
        now: Time,
        mut seated: impl FnMut(u32, Seat),
    ) {
        let due = self.due();
        let mut reshaped = Ring::new(interval, slots, 0, now);
        reshaped.latest_sweep = self.latest_sweep;
        let peers = u64::from(self.peers);
        // How many of the round come before the mark.
        let before: usize =
            self.slots[..self.mark.slot as usize].iter().map(Vec::len).sum::<usize>()
                + self.mark.asked as usize;
        for (nth, place) in self.slots.iter().flatten().enumerate() {
            let slot = (nth as u64 * u64::from(slots) / peers) as u32;
            if nth == before {
                let asked = reshaped.slots[slot as usize].len() as u32;
                reshaped.mark = Mark { round: 0, slot, asked };
            }
            let sitting = &mut reshaped.slots[slot as usize];
            seated(*place, Seat { slot, index: sitting.len() as u32 });
            sitting.push(*place);
        }
        reshaped.peers = self.peers;
        reshaped.filling.level =
            reshaped.slots.iter().map(Vec::len).min().unwrap_or_default() as u32;
        if let Some(due) = due {
            reshaped.origin = moment(due) - reshaped.offset(reshaped.mark.slot);
        }
        *self = reshaped;
    }

    /// Moves the mark on to somebody who was not asked yet.
    fn settle(&mut self) {
        if self.peers == 0 {
            self.mark.asked = 0;
            return;
        }
        while self.mark.asked as usize >= self.slots[self.mark.slot as usize].len() {
            self.mark.asked = 0;
            self.mark.slot += 1;
            if self.mark.slot as usize == self.slots.len() {
                self.mark.slot = 0;
                self.mark.round += 1;
                let swept = self.sweeping.take();
                self.latest_sweep =
                    swept.map(|sweep| sweep.last.since(sweep.first)).or(self.latest_sweep);
            }
        }
    }

    fn emptiest(&mut self) -> u32 {
        let slots = self.slots.len() as u32;
        loop {
            for _ in 0..slots {
                let Filling { step, next, level } = self.filling;
                let slot = (u64::from(next) * u64::from(step) % u64::from(slots)) as u32;
                self.filling.next = (next + 1) % slots;
                if self.slots[slot as usize].len() as u32 <= level {
                    return slot;
                }
            }
            self.filling.level += 1;
        }
    }

    /// How long after the start of its round a slot comes due. The product fits: there is no more than
    /// a slot per millisecond, in an hour at most.
    const fn offset(&self, slot: u32) -> i64 {
        self.sweep * slot as i64 / self.slots.len() as i64
    }

    fn due_at(&self, round: i64, slot: u32) -> Time {
        let due = self.origin + round * self.interval + self.offset(slot);
        Time::from_nanos(u64::try_from(due).unwrap_or(0))
    }

    /// The round in which a slot next comes due, now at the earliest.
    fn coming_round(&self, slot: u32, now: Time) -> i64 {
        let gone = moment(now) - self.origin - self.offset(slot);
        gone.div_euclid(self.interval) + i64::from(gone.rem_euclid(self.interval) > 0)
    }
}

/// The number nearest to the golden ratio of so many slots with which steps reach all of them.
fn golden_step(slots: u32) -> u32 {
    let wanted = (u64::from(slots) * 618_034 / 1_000_000) as u32;
    let coprime = |step: &u32| gcd(*step, slots) == 1;
    (wanted.max(1)..=slots.max(1)).find(coprime).unwrap_or(1)
}

const fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

const fn nanos(duration: Duration) -> i64 {
    duration.as_nanos() as i64
}

const fn moment(at: Time) -> i64 {
    at.as_nanos().cast_signed()
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, num::NonZeroU32};

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    /// A ring, and where its peers believe that they sit.
    struct Seated {
        ring: Ring,
        seats: BTreeMap<u32, Seat>,
    }

    impl Seated {
        fn new(slots: u32, peers: u32) -> Seated {
            let ring = Ring::new(MINUTE, slots, 0, Time::from_secs(100));
            let mut seated = Seated { ring, seats: BTreeMap::new() };
            (0..peers).for_each(|place| seated.add(place, Time::from_secs(100)));
            seated
        }

        fn add(&mut self, place: u32, now: Time) {
            self.seats.insert(place, self.ring.add(place, now));
        }

        fn remove(&mut self, place: u32) {
            let seat = self.seats.remove(&place).unwrap();
            self.ring.remove(seat, |place, seat| {
                self.seats.insert(place, seat);
            });
            self.check();
        }

        fn check(&self) {
            for (place, Seat { slot, index }) in &self.seats {
                assert_eq!(self.ring.slots[*slot as usize][*index as usize], *place);
            }
            assert_eq!(self.ring.peers as usize, self.seats.len());
        }

        /// All that are due by a moment.
        fn take(&mut self, now: Time) -> Vec<u32> {
            std::iter::from_fn(|| self.ring.take(now)).collect()
        }

        fn sizes(&self) -> Vec<usize> {
            self.ring.slots.iter().map(Vec::len).collect()
        }
    }

    #[test]
    fn so_many_slots_that_each_is_a_batch_at_most_peer_8() {
        for (limit, interval, size, millis, expected) in [
            (128_000, 60, 550, 200, 233),
            (256, 60, 550, 200, 233),
            (128_000, 1, 18_286, 100, 7),
            (256, 1, 550, 1_000, 1),
            (256, 3600, 550, 200, 4096),
            (128_000, 3600, 1, 1, 128_000),
        ] {
            let size = NonZeroU32::new(size).unwrap();
            let batch = Batch { size, interval: Duration::from_millis(millis) };
            let interval = Duration::from_secs(interval);
            let group = Group { limit, interval, ..Group::named("a") };
            assert_eq!(slots(&group, batch), expected);
        }
    }

    #[test]
    fn many_and_few_are_spread_evenly_peer_4() {
        let full = Seated::new(233, 128_000);
        assert!(full.sizes().iter().all(|size| (549..=550).contains(size)));
        for peers in [2, 3, 5, 8, 20, 100] {
            let mut few = Seated::new(233, peers);
            let mut moments = Vec::new();
            for tenth in 0..600 {
                let now = Time::from_secs(100) + MINUTE * tenth / 600;
                moments.extend(few.take(now).iter().map(|_| now));
            }
            let longest = moments.windows(2).map(|pair| pair[1].since(pair[0])).max().unwrap();
            assert!(
                longest < MINUTE * 2 / peers + Duration::from_millis(200),
                "{peers}: {longest:?}"
            );
        }
    }

    #[test]
    fn nobody_loses_the_phase_when_others_come_and_go_peer_4() {
        let mut ring = Seated::new(7, 40);
        let mut last: BTreeMap<u32, Time> = BTreeMap::new();
        let (mut next_place, mut chance, mut asked) = (40, 1_u64, 0);
        let mut now = Time::from_secs(100);
        while now < Time::from_secs(2_000) {
            now = now + Duration::from_millis(97);
            // Of what is due only some is taken, so that changes come in the middle of a slot.
            for place in std::iter::from_fn(|| ring.ring.take(now)).take(2).collect::<Vec<_>>() {
                let before = last.insert(place, now);
                let apart = before.map_or(MINUTE, |before| now.since(before));
                assert!(apart.abs_diff(MINUTE) < Duration::from_secs(1), "{place}: {apart:?}");
                asked += 1;
            }
            chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            match chance >> 61 {
                0 if ring.seats.len() > 20 => {
                    let nth = (chance >> 33) as usize % ring.seats.len();
                    let place = *ring.seats.keys().nth(nth).unwrap();
                    ring.remove(place);
                }
                1 if ring.seats.len() < 60 => {
                    ring.add(next_place, now);
                    next_place += 1;
                }
                _ => {}
            }
        }
        assert!(next_place > 1_000 && asked > 1_000, "{next_place} {asked}");
        // Nobody who stayed was left out.
        for place in ring.seats.keys().filter(|place| **place + 100 < next_place) {
            assert!(now.since(last[place]) <= MINUTE + Duration::from_secs(1));
        }
    }

    #[test]
    fn who_sits_where_nobody_sat_is_asked_at_the_next_turn() {
        // The mark stands at the slot of the only peer; a new one in a slot before that comes first.
        let mut ring = Seated::new(10, 1);
        assert_eq!(ring.take(Time::from_secs(100)), [0]);
        assert_eq!(ring.ring.due(), Some(Time::from_secs(160)));
        ring.add(1, Time::from_secs(101));
        let offset = MINUTE * 7 / 9 * ring.seats[&1].slot / 10;
        assert_eq!(ring.ring.due(), Some(Time::from_secs(100) + offset));
    }

    #[test]
    fn missed_rounds_are_skipped_whole() {
        let mut ring = Seated::new(10, 10);
        assert_eq!(ring.take(Time::from_secs(100) + MINUTE / 2).len(), 7);
        for (secs, rounds) in [(130, 0), (192, 0), (193, 1), (193, 0), (1_000, 13)] {
            assert_eq!(ring.ring.skip(Time::from_secs(secs)), rounds, "{secs}");
        }
        // The last three of that round, and the first of the one that starts now.
        assert_eq!(ring.take(Time::from_secs(1_000)).len(), 4);
    }

    #[test]
    fn another_interval_keeps_the_order_and_the_turn() {
        let mut ring = Seated::new(233, 1_000);
        let before = ring.take(Time::from_secs(130));
        let due = ring.ring.due();
        let seats = &mut ring.seats;
        let seated = |place, seat| {
            seats.insert(place, seat);
        };
        ring.ring.reshape(MINUTE / 2, 116, Time::from_secs(130), seated);
        ring.check();
        assert_eq!(ring.ring.due(), due);
        let after = ring.take(Time::from_secs(140));
        assert_eq!(before.len() + after.len(), 1_000);
        assert!(after.iter().all(|place| !before.contains(place)), "those that were not asked yet");
        assert!(ring.sizes().iter().all(|size| (8..=9).contains(size)));
    }
}
