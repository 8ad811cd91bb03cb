//! Whether one object, a system or an interface, is unstable (INST-3 to INST-8).
//!
//! ```text
//!           a counted trap             the threshold is reached within the window
//!   Idle ───────────────────> Counting ───────────────────────────────────────────> Unstable
//!    ^                          │  ^ │                                               │  ^ │
//!    │   the window goes by     │  └─┘ a counted trap, the window slides             │  └─┘ a counted trap
//!    ├──────────────────────────┘                                                    │      is the new *last*
//!    │   *stable time* goes by since *last*                                          │
//!    └───────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! The window goes by without a timer: times that have left it are dropped at the next trap.

use std::time::Duration;

use smallvec::SmallVec;

use crate::{
    settings::{Analysis, Window},
    state::Phase,
    time::Time,
};

/// The state of one object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Stability {
    /// Nothing is remembered.
    #[default]
    Idle,
    /// Counted traps, fewer than the threshold.
    Counting(Counting),
    /// Unstable.
    Unstable(Unstable),
}

/// Receipt times, oldest first: one fewer than the threshold at most (INST-16).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counting {
    times: SmallVec<[Time; 2]>,
    link_ups: bool,
}

/// An episode under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unstable {
    /// The oldest trap in the window when it began.
    pub first: Time,
    /// The latest trap.
    pub last: Time,
    /// Counted traps from *first* to *last*.
    pub traps: u64,
    /// Time since *last* that is not taken for quiet: nobody listened (INST-17), or the settings
    /// asked for a longer wait then (INST-15).
    pub deaf: Duration,
}

impl Unstable {
    /// INST-4: from *first* to *last*, and no other span.
    pub fn unstable_time(&self) -> Duration {
        self.last.since(self.first)
    }

    /// INST-5: the unstable time, but at least the trap window and at most one hour.
    pub fn stable_time(&self, window: Window) -> Duration {
        self.unstable_time().clamp(window.length(), Window::MAX)
    }

    /// INST-6: when it is stable again if nothing more comes.
    pub fn deadline(&self, window: Window) -> Time {
        self.last + self.stable_time(window) + self.deaf
    }

    /// Lets it wait until `at` at least, unless another trap comes (INST-15).
    pub fn wait_until(&mut self, at: Time, window: Window) {
        self.deaf = self.deaf.saturating_add(at.since(self.deadline(window)));
    }
}

impl Stability {
    /// Takes in a counted trap that was received at `at`, and returns the episode that it begins,
    /// if it begins one (INST-3, INST-7). `link_up` marks a linkUp that counts as long as its
    /// system has never sent linkDown (INST-2).
    ///
    /// Whether an episode has ended before `at` is for the caller to see to first, by
    /// [`expire`](Stability::expire).
    pub fn trap(&mut self, at: Time, link_up: bool, analysis: Analysis) -> Option<Unstable> {
        match self {
            Stability::Idle => {
                // The threshold is at least two: one trap never begins an episode.
                let times = SmallVec::from_slice(&[at]);
                *self = Stability::Counting(Counting { times, link_ups: link_up });
                None
            }
            Stability::Counting(counting) => {
                let at = counting.times.last().map_or(at, |&last| at.max(last));
                // Ends included: a trap exactly one window ago is in it.
                let begin = at - analysis.window.length();
                counting.times.retain(|time| *time >= begin);
                counting.times.push(at);
                counting.link_ups = link_up;
                if counting.times.len() < usize::from(analysis.threshold.get()) {
                    return None;
                }
                let unstable = Unstable {
                    first: counting.times[0],
                    last: at,
                    traps: counting.times.len() as u64,
                    deaf: Duration::ZERO,
                };
                *self = Stability::Unstable(unstable);
                Some(unstable)
            }
            Stability::Unstable(unstable) => {
                unstable.last = unstable.last.max(at);
                unstable.traps += 1;
                unstable.deaf = Duration::ZERO;
                None
            }
        }
    }

    /// Ends the episode if its stable time has gone by at `up_to`, and returns it with the moment
    /// of its end. A trap at exactly that moment comes after it (spec, "Time").
    pub fn expire(&mut self, up_to: Time, window: Window) -> Option<(Unstable, Time)> {
        let Stability::Unstable(unstable) = *self else { return None };
        let end = unstable.deadline(window);
        if end > up_to {
            return None;
        }
        // INST-6: no memory of the episode is kept.
        *self = Stability::Idle;
        Some((unstable, end))
    }

    /// Forgets everything, and returns the episode that was under way (INST-11).
    pub fn turn_off(&mut self) -> Option<Unstable> {
        match std::mem::take(self) {
            Stability::Unstable(unstable) => Some(unstable),
            Stability::Idle | Stability::Counting(_) => None,
        }
    }

    /// Forgets linkUps that were counted, as the system has sent its first linkDown (INST-2).
    pub fn forget_link_ups(&mut self) {
        if matches!(self, Stability::Counting(counting) if counting.link_ups) {
            *self = Stability::Idle;
        }
    }

    /// Whether it is unstable.
    pub const fn is_unstable(&self) -> bool {
        matches!(self, Stability::Unstable(_))
    }

    /// Whether it remembers a trap that is still in the window at `now`.
    pub fn is_counting(&self, now: Time, window: Window) -> bool {
        self.counting_since(now, window).is_some()
    }

    /// The latest trap that it remembers, if it counts and that trap is still in the window at `now`.
    pub fn counting_since(&self, now: Time, window: Window) -> Option<Time> {
        match self {
            Stability::Counting(counting) => {
                counting.times.last().copied().filter(|&last| last + window.length() >= now)
            }
            Stability::Idle | Stability::Unstable(_) => None,
        }
    }

    /// A copy as ages (INST-17). What has left the window is not copied.
    pub fn export(&self, now: Time, window: Option<Window>) -> Phase {
        match self {
            Stability::Idle => Phase::Idle,
            Stability::Counting(counting) => {
                let begin = window.map_or(Time::ZERO, |window| now - window.length());
                let ages: Vec<_> = counting
                    .times
                    .iter()
                    .filter(|&&time| time >= begin)
                    .map(|&time| now.since(time))
                    .collect();
                if ages.is_empty() {
                    Phase::Idle
                } else {
                    Phase::Counting { ages, link_ups: counting.link_ups }
                }
            }
            Stability::Unstable(unstable) => Phase::Unstable {
                first: now.since(unstable.first),
                last: now.since(unstable.last),
                traps: unstable.traps,
                deaf: unstable.deaf,
            },
        }
    }

    /// Puts a copy back that was made `age` ago, after a time in which nobody listened.
    ///
    /// INST-17: a count goes on with the true ages of its traps. An episode ends no sooner than it
    /// would have: the deaf time is not taken for quiet.
    pub fn restore(phase: &Phase, age: Duration, deaf: Duration, now: Time) -> Stability {
        match phase {
            Phase::Idle => Stability::Idle,
            Phase::Counting { ages, link_ups } if !ages.is_empty() => {
                let mut times: SmallVec<[Time; 2]> =
                    ages.iter().map(|&trap| now - trap.saturating_add(age)).collect();
                times.sort_unstable();
                Stability::Counting(Counting { times, link_ups: *link_ups })
            }
            Phase::Counting { .. } => Stability::Idle,
            Phase::Unstable { first, last, traps, deaf: before } => {
                let last = now - last.saturating_add(age);
                Stability::Unstable(Unstable {
                    first: (now - first.saturating_add(age)).min(last),
                    last,
                    traps: *traps,
                    deaf: before.saturating_add(deaf),
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Threshold;

    fn analysis(window: u64, threshold: u16) -> Analysis {
        Analysis {
            window: Window::new(Duration::from_secs(window)).unwrap(),
            threshold: Threshold::new(threshold).unwrap(),
        }
    }

    /// Plays counted traps, in seconds, and tells in seconds when the object became unstable, with
    /// which stable time it became stable, and when.
    fn play(traps: &[u64], analysis: Analysis) -> Vec<(u64, u64, u64)> {
        let mut stability = Stability::Idle;
        let (mut begun, mut episodes) = (None, Vec::new());
        let mut end = |stability: &mut Stability, begun: &mut Option<u64>, up_to| {
            if let Some((episode, end)) = stability.expire(up_to, analysis.window) {
                let stable_time = episode.stable_time(analysis.window);
                episodes.push((
                    begun.take().expect("an episode that ends has begun"),
                    stable_time.as_secs(),
                    end.as_millis() / 1000,
                ));
            }
        };
        for &trap in traps {
            let at = Time::from_secs(trap);
            end(&mut stability, &mut begun, at);
            if stability.trap(at, false, analysis).is_some() {
                begun = Some(trap);
            }
        }
        end(&mut stability, &mut begun, Time::MAX);
        assert_eq!(begun, None);
        episodes
    }

    #[test]
    fn the_worked_examples_of_the_specification() {
        // INST-3 to INST-8; window 30 s, threshold 2.
        let every_25_s: Vec<u64> = (0..=5000).step_by(25).collect();
        for (traps, episodes) in [
            (&[0, 31][..], &[][..]),
            (&[0, 30], &[(30, 30, 60)]),
            (&[0, 5], &[(5, 30, 35)]),
            (&[0, 20, 45, 80], &[(20, 80, 160)]),
            (&[0, 20, 80], &[(20, 30, 50)]),
            (&[0, 40, 60], &[(60, 30, 90)]),
            (&every_25_s, &[(25, 3600, 8600)]),
        ] {
            assert_eq!(play(traps, analysis(30, 2)), episodes, "{traps:?}");
        }
    }

    #[test]
    fn after_an_episode_the_next_single_trap_starts_a_new_count_inst_6() {
        assert_eq!(play(&[0, 20, 80], analysis(30, 2)).len(), 1);
        assert_eq!(play(&[0, 20, 80, 110], analysis(30, 2)), [(20, 30, 50), (110, 30, 140)]);
    }

    #[test]
    fn a_trap_at_exactly_the_deadline_comes_after_it() {
        assert_eq!(play(&[0, 5, 35], analysis(30, 2)), [(5, 30, 35)]);
        assert_eq!(play(&[0, 5, 34], analysis(30, 2)), [(5, 34, 68)]);
    }

    #[test]
    fn the_first_of_three_is_the_oldest_in_the_window_inst_3() {
        assert_eq!(play(&[0, 20, 31, 40], analysis(30, 3)), [(40, 30, 70)]);
        assert_eq!(play(&[0, 31, 62, 93], analysis(30, 3)), []);
    }

    #[test]
    fn deaf_time_is_not_quiet_inst_17() {
        let mut stability = Stability::Idle;
        stability.trap(Time::from_secs(0), false, analysis(30, 2));
        stability.trap(Time::from_secs(5), false, analysis(30, 2));
        let window = Some(analysis(30, 2).window);
        let copy = stability.export(Time::from_secs(15), window);
        // Put back 20 s later: 10 s of quiet were heard, 20 s remain.
        let deaf = Duration::from_secs(20);
        let now = Time::from_secs(1000);
        let mut restored = Stability::restore(&copy, deaf, deaf, now);
        let due = Time::from_secs(1020);
        assert_eq!(restored.expire(due - Duration::from_nanos(1), analysis(30, 2).window), None);
        assert_eq!(restored.expire(due, analysis(30, 2).window).map(|(_, at)| at), Some(due));
    }

    #[test]
    fn a_count_goes_on_after_a_restart_with_true_ages_inst_17() {
        let mut stability = Stability::Idle;
        stability.trap(Time::from_secs(0), false, analysis(30, 2));
        let window = Some(analysis(30, 2).window);
        let copy = stability.export(Time::from_secs(10), window);
        let now = Time::from_secs(500);
        for (away, begins) in [(20, true), (21, false)] {
            let away = Duration::from_secs(away);
            let mut restored = Stability::restore(&copy, away, away, now);
            assert_eq!(restored.trap(now, false, analysis(30, 2)).is_some(), begins);
        }
    }
}
