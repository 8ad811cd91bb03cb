//! How much one source may send (TRAP-6): a token bucket for each source address.
//!
//! The ear asks it for every datagram, before anything is queued, so that one system's flood takes
//! neither the others' place in memory nor their time. It stands alone: no other machine knows it,
//! and it may live on the ear's thread.
//!
//! A bucket is one moment: until when what was taken in has used up the rate (the generic cell rate
//! algorithm of ITU-T I.371, in which a token is a span of time). A bucket whose moment has gone by
//! is full, and tells no more than one that was never there. So the table gives up full buckets for
//! newcomers and loses nothing by it. If it has none, as a flood of forged sources keeps it busy,
//! newcomers share one bucket of their own: known sources keep theirs, and the flood gets the rate of
//! a single source.

use std::{hash::BuildHasher, net::IpAddr};

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use ipnet::IpNet;

use crate::{
    objects::bits,
    settings::{Rate, SourceLimits},
    time::Time,
};

/// How many buckets are looked at for a full one when a newcomer finds no place: enough to get round
/// a busy table in a few thousand newcomers, and few enough to cost less than the datagram.
const LOOKS: usize = 4;

/// The limits in force, and where each source stands.
#[derive(Debug)]
pub struct Limits {
    /// What an exception grants and to whom, in the order of the settings; last what holds for all
    /// others.
    kinds: Vec<(Vec<IpNet>, Allowance)>,
    buckets: Vec<Bucket>,
    index: HashTable<u32>,
    hasher: FixedState,
    max_sources: usize,
    /// Where the search for a full bucket goes on.
    hand: usize,
    /// The bucket of those who have none.
    newcomers: u64,
    /// The place of the latest source, which is often the next one too.
    latest: usize,
    unlimited: bool,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    source: u128,
    /// Until when the rate is used up, in nanoseconds.
    used_until: u64,
    kind: u32,
}

/// A rate in nanoseconds; nothing for no limit.
type Allowance = Option<Spans>;

#[derive(Clone, Copy, Debug)]
struct Spans {
    /// What one datagram uses up.
    one: u64,
    /// How far ahead of now the bucket may be used up before one more comes.
    ahead: u64,
    /// No datagram is ever taken.
    closed: bool,
}

impl Spans {
    fn new(rate: Rate) -> Spans {
        // Rounded up, so that no more than the rate gets through.
        let one = 1_000_000_000_u64.div_ceil(u64::from(rate.per_second.max(1)));
        Spans {
            one,
            ahead: one.saturating_mul(u64::from(rate.burst.saturating_sub(1))),
            closed: rate.per_second == 0 || rate.burst == 0,
        }
    }

    fn take(self, used_until: &mut u64, now: u64) -> bool {
        if self.closed || *used_until > now.saturating_add(self.ahead) {
            return false;
        }
        *used_until = (*used_until).max(now).saturating_add(self.one);
        true
    }
}

impl Limits {
    /// Limits under which nobody has sent anything yet. `seed` keeps an outsider from choosing
    /// addresses that collide in the table.
    pub fn new(settings: &SourceLimits, seed: u64) -> Limits {
        let mut kinds: Vec<(Vec<IpNet>, Allowance)> = settings
            .exceptions
            .iter()
            .map(|(prefixes, rate)| (prefixes.clone(), rate.map(Spans::new)))
            .collect();
        kinds.push((Vec::new(), settings.default.map(Spans::new)));
        Limits {
            unlimited: kinds.iter().all(|(_, allowance)| allowance.is_none()),
            kinds,
            buckets: Vec::new(),
            index: HashTable::new(),
            hasher: FixedState::with_seed(seed),
            max_sources: settings.max_sources as usize,
            hand: 0,
            newcomers: 0,
            latest: 0,
        }
    }

    /// Puts other limits in force. What a source has used up stays used up.
    pub fn reload(&mut self, settings: &SourceLimits) {
        let mut new = Limits::new(settings, 0);
        new.hasher = self.hasher.clone();
        new.newcomers = self.newcomers;
        // Those that have used up most first, should there be less room than before.
        self.buckets.sort_by_key(|bucket| std::cmp::Reverse(bucket.used_until));
        self.buckets.truncate(new.max_sources);
        for bucket in &self.buckets {
            let kind = new.kind_of(address(bucket.source));
            new.add(Bucket { kind, ..*bucket });
        }
        *self = new;
    }

    /// Whether a datagram from this source that came at `now` is to be taken in. A port is no part of
    /// a source: a flood may come from all of them.
    pub fn allows(&mut self, source: IpAddr, now: Time) -> bool {
        if self.unlimited {
            return true;
        }
        let now = now.as_nanos();
        let source_bits = bits(source);
        let place = match self.buckets.get(self.latest) {
            Some(bucket) if bucket.source == source_bits => Some(self.latest),
            _ => self.find(source_bits).or_else(|| self.admit(source, now)),
        };
        let Some(place) = place else { return self.newcomer(source, now) };
        self.latest = place;
        let bucket = &mut self.buckets[place];
        match self.kinds[bucket.kind as usize].1 {
            Some(spans) => spans.take(&mut bucket.used_until, now),
            None => true,
        }
    }

    /// How many sources have a bucket.
    pub fn sources(&self) -> usize {
        self.buckets.len()
    }

    fn find(&self, source: u128) -> Option<usize> {
        let found = self.index.find(self.hasher.hash_one(source), |&place| {
            self.buckets[place as usize].source == source
        })?;
        Some(*found as usize)
    }

    /// A place for a source that has none, if there is one.
    fn admit(&mut self, source: IpAddr, now: u64) -> Option<usize> {
        let kind = self.kind_of(source);
        let new = Bucket { source: bits(source), used_until: 0, kind };
        if self.buckets.len() < self.max_sources {
            return Some(self.add(new));
        }
        for _ in 0..LOOKS.min(self.buckets.len()) {
            self.hand = (self.hand + 1) % self.buckets.len();
            let place = self.hand;
            let Bucket { source: old, used_until, .. } = self.buckets[place];
            if used_until > now {
                continue;
            }
            let same = |&other: &u32| other as usize == place;
            if let Ok(found) = self.index.find_entry(self.hasher.hash_one(old), same) {
                found.remove();
            }
            self.buckets[place] = new;
            self.enter(place);
            return Some(place);
        }
        None
    }

    fn newcomer(&mut self, source: IpAddr, now: u64) -> bool {
        match self.kinds[self.kind_of(source) as usize].1 {
            Some(spans) => spans.take(&mut self.newcomers, now),
            None => true,
        }
    }

    fn add(&mut self, bucket: Bucket) -> usize {
        self.buckets.push(bucket);
        self.enter(self.buckets.len() - 1);
        self.buckets.len() - 1
    }

    fn enter(&mut self, place: usize) {
        let (buckets, hasher) = (&self.buckets, &self.hasher);
        let hash = |&other: &u32| hasher.hash_one(buckets[other as usize].source);
        // Places are below max_sources, which has 32 bits.
        self.index.insert_unique(hasher.hash_one(buckets[place].source), place as u32, hash);
    }

    fn kind_of(&self, source: IpAddr) -> u32 {
        let others = self.kinds.len() - 1;
        let holds = |(prefixes, _): &(Vec<IpNet>, Allowance)| {
            prefixes.iter().any(|prefix| prefix.contains(&source))
        };
        self.kinds[..others].iter().position(holds).unwrap_or(others) as u32
    }
}

/// The address that [`bits`] was made of.
fn address(bits: u128) -> IpAddr {
    IpAddr::from(bits.to_be_bytes()).to_canonical()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn rate(per_second: u32, burst: u32) -> Option<Rate> {
        Some(Rate { per_second, burst })
    }

    fn limits(default: Option<Rate>, max_sources: u32) -> Limits {
        Limits::new(&SourceLimits { default, exceptions: vec![], max_sources }, 1)
    }

    fn source(number: u32) -> IpAddr {
        IpAddr::from((0x0a00_0000 + number).to_be_bytes())
    }

    #[test]
    fn one_source_at_full_speed_and_a_hundred_quiet_ones_trap_6() {
        let mut limits = limits(rate(5_000, 100), 65_536);
        let (mut taken, mut quiet) = (0, 0);
        // 100,000 a second for 10 s, and each of the others every 100 ms.
        for nth in 0..1_000_000_u64 {
            let now = Time::from_nanos(nth * 10_000);
            taken += u32::from(limits.allows(source(0), now));
            if nth % 100 == 0 {
                let who = source(1 + (nth / 100 % 100) as u32);
                assert!(limits.allows(who, now), "{who} at {now:?}");
                quiet += 1;
            }
        }
        assert_eq!((taken, quiet), (100 + 50_000 - 1, 10_000));
    }

    #[test]
    fn a_burst_is_taken_whole_and_again_only_after_the_time_that_refills_it() {
        let mut limits = limits(rate(10, 5), 8);
        let burst = |limits: &mut Limits, millis| {
            (0..100).filter(|_| limits.allows(source(1), Time::from_millis(millis))).count()
        };
        for (millis, taken) in
            [(1_000, 5), (1_099, 0), (1_100, 1), (1_300, 2), (1_800, 5), (9_000, 5)]
        {
            assert_eq!(burst(&mut limits, millis), taken, "at {millis} ms");
        }
    }

    #[test]
    fn the_first_exception_that_fits_wins_and_no_rate_is_no_limit() {
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        let settings = SourceLimits {
            default: rate(1, 1),
            exceptions: vec![
                (vec![net("10.0.0.1/32"), net("2001:db8::/32")], None),
                (vec![net("10.0.0.0/8")], rate(1, 3)),
                (vec![net("192.0.2.0/24")], rate(0, 9)),
            ],
            max_sources: 2,
        };
        let mut limits = Limits::new(&settings, 1);
        for (from, taken) in [
            ("10.0.0.1", 50),
            ("2001:db8::9", 50),
            ("10.9.9.9", 3),
            ("192.0.2.7", 0),
            ("203.0.113.1", 1),
        ] {
            let from: IpAddr = from.parse().unwrap();
            let count = (0..50).filter(|_| limits.allows(from, Time::from_secs(9))).count();
            assert_eq!(count, taken, "{from}");
        }
    }

    #[test]
    fn forged_sources_fill_the_table_and_harm_no_known_one_trap_6() {
        // A bucket is full again after 1 s.
        let mut limits = limits(rate(10, 10), 100);
        for known in 0..50 {
            for _ in 0..9 {
                assert!(limits.allows(source(known), Time::from_secs(1)));
            }
        }
        let mut taken = 0;
        for forged in 1_000..101_000_u32 {
            taken += usize::from(limits.allows(source(forged), Time::from_secs(1)));
            assert!(limits.sources() <= 100);
        }
        assert_eq!(taken, 50 + 10, "those that had room, and one bucket for all others");
        for known in 0..50 {
            assert!(
                limits.allows(source(known), Time::from_secs(1)),
                "its own bucket is as it was"
            );
            assert!(!limits.allows(source(known), Time::from_secs(1)));
        }
        // What is full gives way.
        assert!(limits.allows(source(200_000), Time::from_secs(3)));
        assert!((0..9).all(|_| limits.allows(source(200_000), Time::from_secs(3))));
        assert!(!limits.allows(source(200_000), Time::from_secs(3)));
    }

    #[test]
    fn a_reload_puts_other_rates_in_force_and_forgives_nothing() {
        let mut limits = limits(rate(1, 10), 100);
        let now = Time::from_secs(100);
        for number in 0..50 {
            assert!((0..10).all(|_| limits.allows(source(number), now)));
        }
        let default = rate(1, 12);
        limits.reload(&SourceLimits { default, exceptions: vec![], max_sources: 20 });
        assert_eq!(limits.sources(), 20);
        let known = |limits: &mut Limits, now: Time| {
            (0..50).filter(|&number| limits.allows(source(number), now)).count()
        };
        assert_eq!(known(&mut limits, now), 20 + 12, "two more each, for those who have a bucket");
        limits.reload(&SourceLimits { default: None, exceptions: vec![], max_sources: 20 });
        assert_eq!(known(&mut limits, now + Duration::from_secs(1)), 50);
    }
}
