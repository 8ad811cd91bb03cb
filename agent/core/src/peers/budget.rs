//! Whether the batches can carry the peers (PEER-8).
//!
//! Two sums decide: a sweep over all peers must fit in seven ninths of the heartbeat interval, and the
//! retransmissions of a tenth of the peers in four fifths of the retransmission timeout. Both are
//! whole numbers of nanoseconds, so that a sum that fits exactly fits.
//!
//! ```text
//!   ceil(peers / size)            × batch interval  <=  7/9 × heartbeat interval
//!   ceil(ceil(peers / 10) / size) × batch interval  <=  4/5 × retransmission timeout
//! ```
//!
//! Groups share the batches. A group's peers are admitted while the count of all is below that group's
//! limit (PEER-7), so the worst mix has as many peers as its limit allows of the group that takes most
//! of the batches for each peer, then the next, up to its own limit, and so on. What each group takes
//! of its interval or timeout, added up, must not be more than all of the seven ninths or four fifths.
//! There a group is not charged for the rest of its last batch, in which others have room.

use std::{cmp::Reverse, time::Duration};

use super::settings::{Batch, Group, Settings};
use crate::time::Pretty;

/// Why they can't, with the arithmetic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overrun {
    /// The first group, as a place in [`Settings::groups`], whose setting would have to change.
    pub group: u16,
    /// A sentence with the sum that does not fit, and what would.
    pub message: String,
    /// What to do: which values would do.
    pub help: String,
}

/// Holds both sums of PEER-8 against the settings.
///
/// # Errors
///
/// A sweep or the retransmissions do not fit.
pub fn check(settings: &Settings) -> Result<(), Overrun> {
    for sum in [Sum::Sweep, Sum::Retransmissions] {
        let batch = sum.batch(settings);
        for (place, group) in (0..).zip(&settings.groups) {
            if sum.takes(group.limit, batch) > sum.room(group) {
                return Err(sum.overrun(place, group, batch));
            }
        }
    }
    for sum in [Sum::Sweep, Sum::Retransmissions] {
        sum.check_mix(settings)?;
    }
    Ok(())
}

/// The two sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sum {
    Sweep,
    Retransmissions,
}

impl Sum {
    const fn batch(self, settings: &Settings) -> Batch {
        match self {
            Sum::Sweep => settings.batches.heartbeat,
            Sum::Retransmissions => settings.batches.retransmission,
        }
    }

    /// Of how many peers the requests are.
    const fn requests(self, peers: u32) -> u32 {
        match self {
            Sum::Sweep => peers,
            Sum::Retransmissions => peers.div_ceil(10),
        }
    }

    const fn batches(self, peers: u32, batch: Batch) -> u32 {
        self.requests(peers).div_ceil(batch.size.get())
    }

    /// The fraction of the duration that may be taken.
    const fn fraction(self) -> (u128, u128) {
        match self {
            Sum::Sweep => (7, 9),
            Sum::Retransmissions => (4, 5),
        }
    }

    const fn duration(self, group: &Group) -> Duration {
        match self {
            Sum::Sweep => group.interval,
            Sum::Retransmissions => group.timeout,
        }
    }

    /// How long so many peers take, in nanoseconds and multiplied by the lower part of the fraction.
    const fn takes(self, peers: u32, batch: Batch) -> u128 {
        self.batches(peers, batch) as u128 * batch.interval.as_nanos() * self.fraction().1
    }

    /// How long they may take, multiplied in the same way.
    const fn room(self, group: &Group) -> u128 {
        self.duration(group).as_nanos() * self.fraction().0
    }

    /// What so many peers of a group take of what they may take.
    const fn share(self, peers: u32, batch: Batch, group: &Group) -> u128 {
        let requests_in_tenths = match self {
            Sum::Sweep => peers as u128 * 10,
            Sum::Retransmissions => peers as u128,
        };
        let takes = requests_in_tenths * batch.interval.as_nanos() * self.fraction().1;
        takes * SHARES / (self.room(group) * batch.size.get() as u128 * 10)
    }

    /// What the groups take together, at the worst that admission allows.
    fn check_mix(self, settings: &Settings) -> Result<(), Overrun> {
        let batch = self.batch(settings);
        let mut order: Vec<usize> = (0..settings.groups.len()).collect();
        // Whose peers take most each: those with the shortest duration.
        order.sort_by_key(|at| {
            let group = &settings.groups[*at];
            (self.duration(group), Reverse(group.limit), *at)
        });
        let (mut admitted, mut taken, mut mix) = (0, 0, Vec::new());
        for at in order {
            let group = &settings.groups[at];
            let peers = group.limit.saturating_sub(admitted);
            if peers == 0 {
                continue;
            }
            admitted += peers;
            taken += self.share(peers, batch, group);
            mix.push(format!("{peers} of group `{}`", group.name));
            if taken > SHARES {
                return Err(self.mixed_overrun(at as u16, group, batch, &mix));
            }
        }
        Ok(())
    }

    fn overrun(self, place: u16, group: &Group, batch: Batch) -> Overrun {
        let Group { limit, name, .. } = group;
        let batches = self.batches(*limit, batch);
        let needs = Pretty(batch.interval * batches);
        let each = Pretty(batch.interval);
        let duration = Pretty(self.duration(group));
        let room = Duration::from_nanos((self.room(group) / self.fraction().1) as u64);
        let message = match self {
            Sum::Sweep => format!(
                "a sweep of {limit} peers takes {batches} batches x {each} = {needs}, which must fit in \
                 seven ninths of the heartbeat interval {duration} = {} of group `{name}`",
                Pretty(room),
            ),
            Sum::Retransmissions => format!(
                "the retransmissions of 10 % of {limit} peers take {batches} batches x {each} = \
                 {needs}, which must fit in four fifths of the retransmission timeout {duration} = {} \
                 of group `{name}`",
                Pretty(room),
            ),
        };
        Overrun { group: place, message, help: self.help(group, batch) }
    }

    /// Which values would do, each alone.
    fn help(self, group: &Group, batch: Batch) -> String {
        let (upper, lower) = self.fraction();
        let needed = self.takes(group.limit, batch).div_ceil(upper);
        let (key, unit, longest) = match self {
            Sum::Sweep => {
                ("the heartbeat interval", Duration::from_secs(1), *Group::INTERVALS.end())
            }
            Sum::Retransmissions => {
                ("the retransmission timeout", Duration::from_millis(100), *Group::TIMEOUTS.end())
            }
        };
        let units = needed.div_ceil(unit.as_nanos());
        let longer = u32::try_from(units).ok().map(|units| unit * units);
        let longer = longer.filter(|longer| *longer <= longest);
        let fit = self.room(group) / lower / batch.interval.as_nanos().max(1);
        let fit = u32::try_from(fit).unwrap_or(u32::MAX);
        let larger = (fit > 0).then(|| self.requests(group.limit).div_ceil(fit));
        let larger = larger.filter(|larger| Batch::SIZES.contains(larger));
        let each = match self {
            Sum::Sweep => 1,
            Sum::Retransmissions => 10,
        };
        let fewer = fit.saturating_mul(batch.size.get()).saturating_mul(each);
        let mut ways = Vec::new();
        ways.extend(longer.map(|longer| format!("set {key} to {} or more", Pretty(longer))));
        ways.extend(
            larger.map(|larger| format!("set the size of these batches to {larger} or more")),
        );
        if fewer > 0 {
            ways.push(format!("set the limit of peers to {fewer} or fewer"));
        }
        if ways.is_empty() {
            ways.push("set a shorter interval of these batches".to_owned());
        }
        ways.join(", or ")
    }

    fn mixed_overrun(self, at: u16, group: &Group, batch: Batch, mix: &[String]) -> Overrun {
        let (what, fraction) = match self {
            Sum::Sweep => ("the sweeps", "seven ninths of their heartbeat intervals"),
            Sum::Retransmissions => {
                ("the retransmissions of 10 %", "four fifths of their retransmission timeouts")
            }
        };
        let message = format!(
            "the groups share their batches of {} every {}, and {what} of {} do not fit together in \
             {fraction}",
            batch.size,
            Pretty(batch.interval),
            mix.join(" and "),
        );
        let help = format!(
            "set larger batches, a lower limit of peers for group `{}`, or a longer {} for it",
            group.name,
            match self {
                Sum::Sweep => "heartbeat interval",
                Sum::Retransmissions => "retransmission timeout",
            },
        );
        Overrun { group: at, message, help }
    }
}

/// The whole of what may be taken, in parts that are small enough to be added up without an error that
/// matters: a share is rounded down, so that what fits exactly is not refused.
const SHARES: u128 = 1 << 48;

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    fn group(name: &str, limit: u32, interval: f64, timeout: f64) -> Group {
        Group {
            limit,
            interval: Duration::from_secs_f64(interval),
            timeout: Duration::from_secs_f64(timeout),
            ..Group::named(name)
        }
    }

    fn of(groups: Vec<Group>) -> Settings {
        Settings { groups, ..Settings::default() }
    }

    fn batch(size: u32, millis: u64) -> Batch {
        Batch { size: NonZeroU32::new(size).unwrap(), interval: Duration::from_millis(millis) }
    }

    #[test]
    fn what_the_default_batches_carry_peer_8() {
        for (limit, interval, timeout, fits) in [
            (128_000, 60.0, 3.0, true),
            (128_000, 59.0, 3.0, false),
            (128_000, 60.0, 2.9, false),
            // 233 batches are 46.6 s: seven ninths of 59.914... s.
            (128_000, 59.92, 3.0, true),
            (128_000, 59.91, 3.0, false),
            (128_000, 60.0, 2.999_999_999, false),
            // 233 batches fit, and 234 do not.
            (128_150, 60.0, 3.0, true),
            (128_151, 60.0, 3.0, false),
            (132_001, 60.0, 3.0, false),
            (10_000, 5.0, 3.0, true),
            (10_000, 4.0, 3.0, false),
            (256, 1.0, 0.125, true),
            (256, 1.0, 0.124, false),
            (0, 1.0, 0.1, true),
        ] {
            let settings = of(vec![group("a", limit, interval, timeout)]);
            assert_eq!(check(&settings).is_ok(), fits, "{limit} {interval} {timeout}");
        }
    }

    #[test]
    fn larger_batches_carry_more_peer_8() {
        let mut settings = of(vec![group("a", 128_000, 1.0, 3.0)]);
        assert!(check(&settings).is_err());
        // Seven batches of 100 ms fit into 777 ms.
        settings.batches.heartbeat = batch(18_286, 100);
        assert!(check(&settings).is_ok());
        settings.batches.heartbeat = batch(18_285, 100);
        assert!(check(&settings).is_err());
    }

    #[test]
    fn groups_share_the_batches_peer_7_peer_8() {
        let slow = group("slow", 128_000, 60.0, 3.0);
        for (other, fits, why) in [
            (group("b", 128_000, 60.0, 3.0), true, "the limits are of all peers together"),
            (group("b", 128_000, 3600.0, 20.0), true, "less often"),
            (group("b", 550, 60.0, 3.0), true, "its peers are among the others"),
            (group("b", 550, 5.0, 3.0), false, "its peers are asked more often"),
        ] {
            for groups in [vec![slow.clone(), other.clone()], vec![other, slow.clone()]] {
                assert_eq!(check(&of(groups)).is_ok(), fits, "{why}");
            }
        }
        // 10,000 every 5 s take 3.8 of 3.888... s, and leave nothing for 2,000 more.
        let groups = vec![group("fast", 10_000, 5.0, 3.0), group("slow", 20_000, 60.0, 3.0)];
        let overrun = check(&of(groups)).unwrap_err();
        assert_eq!(overrun.group, 1);
        assert_eq!(
            overrun.message,
            "the groups share their batches of 550 every 200ms, and the sweeps of 10000 of group \
             `fast` and 10000 of group `slow` do not fit together in seven ninths of their heartbeat \
             intervals"
        );
    }

    #[test]
    fn a_refusal_shows_its_arithmetic_and_what_would_do_peer_8() {
        let overrun = check(&of(vec![group("core", 128_000, 50.0, 3.0)])).unwrap_err();
        assert_eq!(
            overrun.message,
            "a sweep of 128000 peers takes 233 batches x 200ms = 46.6s, which must fit in seven \
             ninths of the heartbeat interval 50s = 38.888s of group `core`"
        );
        assert_eq!(
            overrun.help,
            "set the heartbeat interval to 1m or more, or set the size of these batches to 660 or \
             more, or set the limit of peers to 106700 or fewer"
        );
        let overrun = check(&of(vec![group("core", 128_000, 60.0, 2.0)])).unwrap_err();
        assert_eq!(
            overrun.message,
            "the retransmissions of 10 % of 128000 peers take 24 batches x 100ms = 2.4s, which must \
             fit in four fifths of the retransmission timeout 2s = 1.6s of group `core`"
        );
        assert_eq!(
            overrun.help,
            "set the retransmission timeout to 3s or more, or set the size of these batches to 800 or \
             more, or set the limit of peers to 88000 or fewer"
        );
    }

    #[test]
    fn what_the_help_says_would_do_does() {
        for (limit, interval, timeout) in
            [(128_000, 7.0, 20.0), (33_333, 1.0, 20.0), (128_000, 60.0, 0.7), (9_999, 60.0, 0.2)]
        {
            let settings = of(vec![group("a", limit, interval, timeout)]);
            let help = check(&settings).unwrap_err().help;
            let number = |before: &str| -> Option<u32> {
                help.split_once(before)?.1.split(' ').next()?.parse().ok()
            };
            let mut fewer = settings.clone();
            fewer.groups[0].limit = number("the limit of peers to ").unwrap();
            assert_eq!(check(&fewer), Ok(()), "{help}");
            fewer.groups[0].limit += 1;
            check(&fewer).unwrap_err();
            let mut larger = settings.clone();
            let size = NonZeroU32::new(number("the size of these batches to ").unwrap()).unwrap();
            if interval < 60.0 {
                larger.batches.heartbeat.size = size;
            } else {
                larger.batches.retransmission.size = size;
            }
            assert_eq!(check(&larger), Ok(()), "{help}");
        }
    }
}
