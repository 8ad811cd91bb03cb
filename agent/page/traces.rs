//! When the traps of unstable objects came, as far as it was seen.
//!
//! The core keeps of an episode when it began, when the last trap came, and how many there were: more would
//! cost memory for each of 100,000 objects. While somebody watches the page, it looks again and again, and
//! each time finds the moment of the last trap. Those moments are kept here, for as many objects as the page
//! shows.

use std::collections::HashMap;

use crate::status::{Status, UnstableStatus};

/// How many moments of one object are kept: a picture is not wider than that.
const MOMENTS: usize = 120;

/// What was seen of each unstable object, by its words.
#[derive(Clone, Debug, Default)]
pub struct Traces(HashMap<String, Trace>);

/// What was seen of one object.
#[derive(Clone, Debug, Default)]
struct Trace {
    traps: u64,
    /// Moments of traps, in seconds after *first*, with how many came since the one before.
    moments: Vec<(f64, u64)>,
}

impl Traces {
    /// Takes note of what there is to see of the first `most` objects, and forgets all others.
    pub fn note(&mut self, status: &Status, most: usize) {
        let mut before = std::mem::take(&mut self.0);
        for unstable in status.unstable.iter().take(most) {
            let mut trace = before.remove(&unstable.object_text).unwrap_or_default();
            if trace.traps > unstable.traps {
                // It was stable in between: this is another episode.
                trace = Trace::default();
            }
            let new = unstable.traps - trace.traps;
            if new > 0 {
                let last = unstable.first_seconds_ago - unstable.last_seconds_ago;
                if trace.moments.len() == MOMENTS {
                    trace.moments.remove(0);
                }
                trace.moments.push((last, new));
                trace.traps = unstable.traps;
            }
            self.0.insert(unstable.object_text.clone(), trace);
        }
    }

    /// The moments that were seen of an object, in seconds after *first*, with how many traps came since
    /// the one before.
    pub fn of(&self, unstable: &UnstableStatus) -> &[(f64, u64)] {
        match self.0.get(&unstable.object_text) {
            Some(trace) if trace.traps <= unstable.traps => &trace.moments,
            Some(_) | None => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_look_adds_the_moment_of_the_last_trap_and_a_new_episode_begins_anew() {
        let sample = include_str!("../status/testdata/wrong.json");
        let mut status: Status = serde_json::from_str(sample).unwrap();
        let mut traces = Traces::default();
        let mut look = |traps: u64, first: f64, last: f64| {
            let unstable = &mut status.unstable[0];
            unstable.traps = traps;
            (unstable.first_seconds_ago, unstable.last_seconds_ago) = (first, last);
            traces.note(&status, 10);
            traces.of(&status.unstable[0]).to_vec()
        };
        assert_eq!(look(2, 4.0, 1.0), [(3.0, 2)]);
        assert_eq!(look(2, 5.0, 2.0), [(3.0, 2)]);
        assert_eq!(look(5, 6.0, 0.5), [(3.0, 2), (5.5, 3)]);
        assert_eq!(look(2, 1.5, 0.5), [(1.0, 2)]);
        for more in 0..1_000_u32 {
            let seen = look(3 + u64::from(more), 2.0 + f64::from(more), 0.0);
            assert!(seen.len() <= MOMENTS);
        }
        traces.note(&status, 0);
        assert!(traces.of(&status.unstable[0]).is_empty());
    }
}
