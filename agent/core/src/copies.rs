//! Whether a trap is a copy of one that was taken in already (INST-9).
//!
//! Two copies speak for the same system and object, tell the same, and have the same sysUpTime and,
//! where both forms have one, the same request-id. An object remembers its last [`KEPT`] traps for
//! this, which bounds its memory and is more than any known retry or double path interleaves.
//!
//! A system that restarts over and over sends each time the same uptime, and some send the same
//! request-id too, without that making them copies. Between two different traps with one sysUpTime
//! the system must have restarted, and then at least sysUpTime has gone by. So what comes sooner
//! is a copy for certain, and what comes later is one only for as long as a network or a
//! retransmission may hold it back.
//!
//! Of a pair, a device that sends to both agents may number what it sends to each anew. So what the mate
//! has taken in is told from what reaches this agent by all but the request-id, and each such trap has one
//! copy at most: of two that differ in the request-id alone, the mate had both.

use std::time::Duration;

use crate::{state::Seen, time::Time};

/// How many traps of one object are remembered.
pub const KEPT: usize = 8;

/// How long an inform is sent again at most: four tries 15 s apart, as the largest vendors ship
/// it.
pub const RETRANSMISSION: Duration = Duration::from_secs(60);

/// How long a network may hold back the second copy of a datagram, or a forwarder its copy, and
/// less than any device needs to restart.
pub const DOUBLED: Duration = Duration::from_secs(5);

/// What tells two traps of one object apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The last sub-identifier of its snmpTrapOID.
    pub trap: u8,
    /// The request-id, where the form has one.
    pub request_id: Option<u32>,
    /// sysUpTime in hundredths of a second; nothing where the trap has none.
    pub uptime: Option<u32>,
}

impl Mark {
    fn matches(&self, other: &Mark) -> bool {
        self.trap == other.trap
            && self.uptime == other.uptime
            && match (self.request_id, other.request_id) {
                (Some(one), Some(other)) => one == other,
                // A forwarder that made a v2c trap of a v1 trap chose the request-id itself.
                // Without an uptime there would be nothing left to compare.
                (None, _) | (_, None) => self.uptime.is_some(),
            }
    }

    /// Whether the other one may be the same trap as the mate was sent it.
    fn may_be_of_mate(&self, other: &Mark) -> bool {
        self.trap == other.trap && self.uptime.is_some() && self.uptime == other.uptime
    }

    /// For how long after the first one the second is a copy.
    fn horizon(&self, other: &Mark) -> Duration {
        let restarted = Duration::from_millis(u64::from(self.uptime.unwrap_or(0)) * 10);
        let held_back = match (self.request_id, other.request_id) {
            (Some(_), Some(_)) => RETRANSMISSION,
            (None, _) | (_, None) => DOUBLED,
        };
        restarted.max(held_back)
    }
}

/// The last traps of one object: a ring of marks with their times of receipt.
///
/// It is read at every trap and there are as many as there are objects, so it is laid out for the
/// cache: what is compared first stands together, and times are counted in hundredths of a second,
/// as sysUpTime is, modulo 2^32.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recent {
    uptime: [u32; KEPT],
    request_id: [u32; KEPT],
    received: [u32; KEPT],
    /// The trap, which of the other two there are, and whether it is the mate's.
    tag: [u8; KEPT],
    next: u8,
    len: u8,
}

/// In a tag: there is a request-id.
const HAS_REQUEST_ID: u8 = 0x80;
/// In a tag: there is an uptime.
const HAS_UPTIME: u8 = 0x40;
/// In a tag: the mate has taken it in, and no copy of it has come to this agent yet.
const OF_MATE: u8 = 0x20;

/// Hundredths of a second on the monotonic clock, modulo 2^32.
const fn hundredths(at: Time) -> u32 {
    (at.as_nanos() / 10_000_000) as u32
}

/// The longest time that is told from its complement.
const LONGEST: u32 = u32::MAX / 2;

impl Recent {
    /// Whether this is a copy of one that is remembered; if not, it is remembered from now on.
    pub fn is_copy(&mut self, mark: Mark, received: Time) -> bool {
        let uptime = mark.uptime.unwrap_or(0);
        let received = hundredths(received);
        let copy = (0..usize::from(self.len)).find(|&index| {
            self.uptime[index] == uptime && {
                let before = self.mark(index);
                mark.matches(&before) && self.apart(index, received) <= mark.horizon(&before)
            }
        });
        if let Some(index) = copy {
            self.tag[index] &= !OF_MATE;
            return true;
        }
        let of_mate = self.tag.iter().any(|tag| tag & OF_MATE != 0);
        if of_mate && self.is_forgotten(received) {
            return true;
        }
        let copy = of_mate && self.is_of_mate(&mark, received);
        self.push(mark, received);
        copy
    }

    /// How far a moment is from the receipt of one that is remembered. The two may have come over
    /// different sockets, so either may carry the later stamp.
    fn apart(&self, index: usize, received: u32) -> Duration {
        let apart = received.wrapping_sub(self.received[index]);
        Duration::from_millis(u64::from(apart.min(apart.wrapping_neg())) * 10)
    }

    /// Whether the mate has taken this one in, under whatever request-id, and nothing that came here was
    /// held for a copy of that yet.
    fn is_of_mate(&mut self, mark: &Mark, received: u32) -> bool {
        let found = (0..usize::from(self.len)).find(|&index| {
            self.tag[index] & OF_MATE != 0
                && mark.may_be_of_mate(&self.mark(index))
                && self.apart(index, received) <= DOUBLED
        });
        found.inspect(|&index| self.tag[index] &= !OF_MATE).is_some()
    }

    /// Whether one came before all that is remembered, and the mate has taken so many in since that it
    /// can't be known among them. It has had this one too, but for what the network lost.
    fn is_forgotten(&self, received: u32) -> bool {
        let oldest = usize::from(self.next);
        let earlier = self.received[oldest].wrapping_sub(received);
        usize::from(self.len) == KEPT
            && self.tag[oldest] & OF_MATE != 0
            && (1..LONGEST).contains(&earlier)
    }

    /// From now on all that is remembered is what the mate has taken in.
    pub fn give_to_mate(&mut self) {
        self.tag[..usize::from(self.len)].iter_mut().for_each(|tag| *tag |= OF_MATE);
    }

    /// The last one, which was just remembered, is one that the mate has taken in.
    pub fn give_last_to_mate(&mut self) {
        if self.len != 0 {
            self.tag[(usize::from(self.next) + KEPT - 1) % KEPT] |= OF_MATE;
        }
    }

    fn mark(&self, index: usize) -> Mark {
        let tag = self.tag[index];
        Mark {
            trap: tag & !(HAS_REQUEST_ID | HAS_UPTIME | OF_MATE),
            request_id: (tag & HAS_REQUEST_ID != 0).then_some(self.request_id[index]),
            uptime: (tag & HAS_UPTIME != 0).then_some(self.uptime[index]),
        }
    }

    fn push(&mut self, mark: Mark, received: u32) {
        let index = usize::from(self.next);
        self.uptime[index] = mark.uptime.unwrap_or(0);
        self.request_id[index] = mark.request_id.unwrap_or(0);
        self.received[index] = received;
        self.tag[index] = mark.trap & !(HAS_REQUEST_ID | HAS_UPTIME | OF_MATE)
            | mark.request_id.map_or(0, |_| HAS_REQUEST_ID)
            | mark.uptime.map_or(0, |_| HAS_UPTIME);
        self.next = (self.next + 1) % KEPT as u8;
        self.len = (self.len + 1).min(KEPT as u8);
    }

    /// A copy as ages, oldest first.
    pub fn export(&self, now: Time) -> Vec<Seen> {
        let oldest = if usize::from(self.len) < KEPT { 0 } else { usize::from(self.next) };
        (0..usize::from(self.len))
            .map(|offset| (oldest + offset) % KEPT)
            .map(|index| {
                let mark = self.mark(index);
                let age = hundredths(now).wrapping_sub(self.received[index]);
                // What carries a later stamp than now has no age.
                let age = if age > LONGEST { 0 } else { age };
                Seen {
                    trap: mark.trap,
                    request_id: mark.request_id,
                    uptime: mark.uptime,
                    age: Duration::from_millis(u64::from(age) * 10),
                }
            })
            .collect()
    }

    /// Puts a copy back that was made `age` ago.
    pub fn restore(seen: &[Seen], age: Duration, now: Time) -> Recent {
        let mut recent = Recent::default();
        for seen in &seen[seen.len().saturating_sub(KEPT)..] {
            let mark = Mark { trap: seen.trap, request_id: seen.request_id, uptime: seen.uptime };
            let age = seen.age.saturating_add(age).as_millis() / 10;
            let age = u32::try_from(age).unwrap_or(LONGEST).min(LONGEST);
            recent.push(mark, hundredths(now).wrapping_sub(age));
        }
        recent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn v2(request_id: u32, uptime: u32) -> Mark {
        Mark { trap: 3, request_id: Some(request_id), uptime: Some(uptime) }
    }

    const fn v1(uptime: u32) -> Mark {
        Mark { trap: 3, request_id: None, uptime: Some(uptime) }
    }

    #[test]
    fn copies_are_told_from_new_traps_inst_9() {
        const DAY: u32 = 8_640_000;
        let link_up = Mark { trap: 4, ..v2(1, DAY) };
        for (first, second, apart, copy, why) in [
            (v2(1, DAY), v2(1, DAY), 0, true, "a datagram doubled by the network"),
            (v2(1, DAY), v2(1, DAY), 3000, true, "an inform sent again much later"),
            (v2(1, DAY), v2(2, DAY), 0, false, "another request-id"),
            (v2(1, DAY), v2(1, DAY + 1), 0, false, "another uptime"),
            (v2(1, DAY), link_up, 0, false, "linkUp is no copy of linkDown"),
            (v1(DAY), v2(7, DAY), 1, true, "directly as v1, through a forwarder as v2c"),
            (v1(DAY), v1(DAY), 3600, true, "no restart fits in between"),
            (v1(0), v1(0), 5, true, "doubled"),
            (v1(0), v1(0), 6, false, "restarted again"),
            (v2(1, 0), v2(1, 0), 60, true, "sent again"),
            (v2(1, 0), v2(1, 0), 61, false, "restarted again, with the same first request-id"),
        ] {
            let mut recent = Recent::default();
            assert!(!recent.is_copy(first, Time::from_secs(10)));
            let at = Time::from_secs(10 + apart);
            assert_eq!(recent.is_copy(second, at), copy, "{why}");
        }
    }

    #[test]
    fn a_trap_without_request_id_and_uptime_is_never_a_copy() {
        let bare = Mark { trap: 3, request_id: None, uptime: None };
        let mut recent = Recent::default();
        assert!(!recent.is_copy(bare, Time::ZERO));
        assert!(!recent.is_copy(bare, Time::ZERO));
    }

    #[test]
    fn the_last_eight_are_remembered_across_a_copy_of_the_state() {
        let mut recent = Recent::default();
        for id in 0..20 {
            assert!(!recent.is_copy(v2(id, 100_000), Time::from_secs(u64::from(id))));
        }
        let age = Duration::from_secs(5);
        let now = Time::from_secs(900);
        let mut restored = Recent::restore(&recent.export(Time::from_secs(20)), age, now);
        assert!(!restored.clone().is_copy(v2(11, 100_000), now));
        for id in 12..20 {
            assert!(restored.is_copy(v2(id, 100_000), now), "{id}");
        }
    }

    /// What the mate has taken in, as this agent finds it.
    fn of_mate(marks: &[(Mark, u64)], now: Time) -> Recent {
        let mut mate = Recent::default();
        for (mark, secs) in marks {
            assert!(!mate.is_copy(*mark, Time::from_secs(*secs)));
        }
        let mut recent = Recent::restore(&mate.export(now), Duration::ZERO, now);
        recent.give_to_mate();
        recent
    }

    #[test]
    fn inst_9_pair_12_what_the_mate_has_taken_in_is_known_under_another_request_id() {
        const DAY: u32 = 8_640_000;
        let now = Time::from_secs(60);
        let at = |secs| Time::from_secs(secs);
        let link_up = Mark { trap: 4, ..v2(90, DAY) };
        let bare = Mark { uptime: None, ..v2(90, DAY) };
        for (first, second, secs, copy, why) in [
            (v2(1, DAY), v2(90, DAY), 50, true, "numbered anew"),
            (v2(1, DAY), v2(1, DAY), 50, true, "with the same number"),
            (v2(1, DAY), v2(90, DAY), 55, true, "later by a slow way"),
            (v2(1, DAY), v2(90, DAY), 45, true, "earlier by a fast way"),
            (v2(1, DAY), v2(90, DAY), 56, false, "much later"),
            (v2(1, DAY), v2(90, DAY + 1), 50, false, "another uptime"),
            (v2(1, DAY), link_up, 50, false, "another trap"),
            (bare, Mark { request_id: Some(7), ..bare }, 50, false, "nothing left to compare"),
        ] {
            let mut recent = of_mate(&[(first, 50)], now);
            assert_eq!(recent.is_copy(second, at(secs)), copy, "{why}");
            // Whatever it was, this agent has it now, and it may be sent again.
            assert!(second.uptime.is_none() || recent.is_copy(second, at(secs + 1)), "{why}");
        }
        // One of an agent's own, before it has a mate's, is none.
        let mut own = Recent::default();
        assert!(!own.is_copy(v2(1, DAY), at(50)));
        assert!(!own.is_copy(v2(90, DAY), at(50)));
    }

    #[test]
    fn inst_9_pair_12_each_trap_of_the_mate_has_one_copy_at_most() {
        let (now, at) = (Time::from_secs(60), Time::from_secs(50));
        // Two of one sysUpTime: the mate had the first alone.
        let mut recent = of_mate(&[(v2(1, 500), 50)], now);
        assert!(recent.is_copy(v2(90, 500), at));
        assert!(!recent.is_copy(v2(91, 500), at));
        // It had both.
        let mut recent = of_mate(&[(v2(1, 500), 50), (v2(2, 500), 50)], now);
        assert!(recent.is_copy(v2(90, 500), at));
        assert!(recent.is_copy(v2(91, 500), at));
        assert!(!recent.is_copy(v2(92, 500), at));
        // It had one, and one was numbered alike.
        let mut recent = of_mate(&[(v2(1, 500), 50)], now);
        assert!(recent.is_copy(v2(1, 500), at));
        assert!(!recent.is_copy(v2(90, 500), at));
    }

    #[test]
    fn inst_9_pair_12_of_many_the_mate_has_had_those_that_it_can_not_remember() {
        let marks: Vec<(Mark, u64)> =
            (0..20).map(|id| (v2(id, 100_000 + id), u64::from(id))).collect();
        let now = Time::from_secs(25);
        let mut recent = of_mate(&marks, now);
        let taken: Vec<bool> = (0..22)
            .map(|id| !recent.is_copy(v2(100 + id, 100_000 + id), Time::from_secs(id.into())))
            .collect();
        assert_eq!(taken, (0..22).map(|id| id >= 20).collect::<Vec<_>>());
        // Where it remembers all, what it does not know is new.
        let mut recent = of_mate(&marks[18..], now);
        assert!(!recent.is_copy(v2(100, 100_000), Time::from_secs(0)));
    }
}
