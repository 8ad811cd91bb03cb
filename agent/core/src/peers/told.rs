//! Findings about peers, told at a bounded rate and none of them lost (PEER-10).
//!
//! However many peers go down at once, what they leave behind is one entry each, which becomes words
//! only when it is told; a clear that comes while the raise is still owed joins it. The owner sees to
//! it that a peer owes a raise and a clear at most: while its clear is owed it is not found down anew.

use std::{
    collections::{BTreeMap, VecDeque},
    net::IpAddr,
    time::Duration,
};

use crate::{alarm::ClearReason, time::Time};

/// How many are told in a row, and how long nothing is told after so many. Together that is 1,000 a
/// second at most, counted from any moment (PEER-10). Smaller portions would wake the thread more
/// often, and larger ones would hold up what comes behind them.
const PORTION: u32 = 100;
const PAUSE: Duration = Duration::from_millis(100);

/// Room that is kept while nothing is owed: after a storm the rest goes back.
const KEPT: usize = 1024;

/// One finding that is still to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owed {
    /// When it was found.
    pub at: Time,
    /// The peer's address: its place may have been given out again.
    pub address: IpAddr,
    /// Its place.
    pub place: u32,
    /// The owner's number of its group.
    pub group: u16,
    /// What was found.
    pub what: What,
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// It is down (PEER-2).
    Down {
        /// How many requests had no answer.
        requests: u8,
        /// In how many milliseconds.
        millis: u32,
    },
    /// It is no longer down.
    Clear(ClearReason),
    /// Its restart counter has changed (PEER-15).
    Restarted {
        /// What it is.
        counter: u32,
        /// What it was.
        was: u32,
    },
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    owed: Owed,
    /// The clear that follows the raise: when, and why.
    clear: Option<(Time, ClearReason)>,
}

/// All that is owed.
#[derive(Clone, Debug, Default)]
pub struct Told {
    owed: VecDeque<Entry>,
    /// How many entries have left.
    left: u64,
    /// The entry that has the raise of the peer at a place: how many entries were made before it.
    raises: BTreeMap<u32, u64>,
    /// How many of the present portion were told, and when the last one was.
    portion: u32,
    last: Time,
}

impl Told {
    /// Owes one more.
    pub fn owe(&mut self, owed: Owed) {
        match owed.what {
            What::Down { .. } => {
                self.raises.insert(owed.place, self.left + self.owed.len() as u64);
            }
            What::Clear(reason) => {
                // Whoever is at this place from now on owes nothing yet.
                let raise = self.raises.remove(&owed.place);
                let at = raise.and_then(|number| usize::try_from(number - self.left).ok());
                if let Some(entry) = at.and_then(|at| self.owed.get_mut(at)) {
                    entry.clear = Some((owed.at, reason));
                    return;
                }
            }
            What::Restarted { .. } => {}
        }
        self.owed.push_back(Entry { owed, clear: None });
    }

    /// The next one, if it may be told now.
    pub fn tell(&mut self, now: Time) -> Option<Owed> {
        if now < self.next()? {
            return None;
        }
        if self.portion == PORTION || now >= self.last + PAUSE {
            self.portion = 0;
        }
        self.portion += 1;
        self.last = now;
        let front = self.owed.front_mut()?;
        let told = front.owed;
        if let Some((at, reason)) = front.clear.take() {
            front.owed = Owed { at, what: What::Clear(reason), ..told };
            return Some(told);
        }
        if matches!(told.what, What::Down { .. }) {
            self.raises.remove(&told.place);
        }
        self.owed.pop_front();
        self.left += 1;
        if self.owed.is_empty() {
            self.owed.shrink_to(KEPT);
        }
        Some(told)
    }

    /// When the next one may be told.
    pub fn next(&self) -> Option<Time> {
        let pause = if self.portion == PORTION { PAUSE } else { Duration::ZERO };
        (!self.owed.is_empty()).then(|| self.last + pause)
    }

    /// How many entries wait: of the admitted peers, one each at most, and one more for a restart.
    pub fn len(&self) -> usize {
        self.owed.len()
    }

    /// Whether nothing is owed.
    pub fn is_empty(&self) -> bool {
        self.owed.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn owed(place: u32) -> Owed {
        let address = Ipv4Addr::from_bits(place).into();
        Owed { at: Time::ZERO, address, place, group: 0, what: What::Clear(ClearReason::Ended) }
    }

    #[test]
    fn a_thousand_a_second_at_most_and_none_is_lost_peer_10() {
        // However often it is asked, and from whatever moment the second is counted.
        for every_ms in [1, 7, 30, 99, 100, 101, 250] {
            let mut told = Told::default();
            (0..2_500).for_each(|place| told.owe(owed(place)));
            let mut moments = Vec::new();
            let mut now = Time::from_secs(5);
            while !told.is_empty() {
                while let Some(owed) = told.tell(now) {
                    assert_eq!(owed.place as usize, moments.len());
                    moments.push(now);
                }
                now = now + Duration::from_millis(every_ms);
            }
            assert_eq!(moments.len(), 2_500);
            for pair in moments.windows(1_001) {
                assert!(pair[1_000].since(pair[0]) >= Duration::from_secs(1), "{every_ms}");
            }
        }
    }

    #[test]
    fn a_clear_joins_its_raise_and_comes_after_it_peer_10() {
        let mut told = Told::default();
        let down = What::Down { requests: 3, millis: 9_000 };
        let cleared = |secs| Owed { at: Time::from_secs(secs), ..owed(1) };
        told.owe(Owed { what: down, ..owed(1) });
        told.owe(Owed { what: down, ..owed(2) });
        told.owe(cleared(4));
        assert_eq!(told.len(), 2);
        // Somebody else has the place now.
        told.owe(Owed { what: down, ..owed(1) });
        let all: Vec<Owed> = std::iter::from_fn(|| told.tell(Time::from_secs(9))).collect();
        let raised = |place| Owed { what: down, ..owed(place) };
        assert_eq!(all, [raised(1), cleared(4), raised(2), raised(1)]);
        // Its clear stands alone, as the raise was told.
        told.owe(cleared(10));
        assert_eq!(told.tell(Time::from_secs(11)), Some(cleared(10)));
        assert!(told.is_empty() && told.raises.is_empty());
    }

    #[test]
    fn one_now_and_then_is_told_at_once() {
        let mut told = Told::default();
        for millis in (0..100_000).step_by(100) {
            told.owe(owed(1));
            assert!(told.tell(Time::from_millis(millis)).is_some());
        }
    }

    #[test]
    fn the_room_for_a_storm_goes_back() {
        let mut told = Told::default();
        (0..128_000).for_each(|place| told.owe(owed(place)));
        let mut now = Time::ZERO;
        while let Some(next) = told.next() {
            now = now.max(next);
            told.tell(now);
        }
        assert!(told.owed.capacity() <= 2 * KEPT, "{}", told.owed.capacity());
        assert_eq!(now, Time::from_millis(127_900), "1,279 pauses");
    }
}
