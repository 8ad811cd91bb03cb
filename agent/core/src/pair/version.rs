//! Whether two agents of different versions are a pair (PAIR, "Versions").

use std::fmt;

use serde::{Deserialize, Serialize};

/// The version of an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Version {
    /// Agents that differ here are no pair.
    pub major: u16,
    /// Agents that differ here synchronise what both know.
    pub minor: u16,
    /// Agents that differ here are a full pair.
    pub patch: u16,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// How much of a pair two versions are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grade {
    /// All of it.
    Full,
    /// Only what both know is synchronised.
    Degraded,
    /// The standby stays out.
    Out,
}

impl Version {
    /// What this version and the mate's are together.
    pub const fn with(self, mate: Version) -> Grade {
        if self.major != mate.major {
            Grade::Out
        } else if self.minor != mate.minor {
            Grade::Degraded
        } else {
            Grade::Full
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_number_that_differs_tells_how_much_of_a_pair_they_are() {
        let version = |major, minor, patch| Version { major, minor, patch };
        for (mate, grade) in [
            (version(1, 2, 3), Grade::Full),
            (version(1, 2, 4), Grade::Full),
            (version(1, 3, 3), Grade::Degraded),
            (version(2, 2, 3), Grade::Out),
        ] {
            assert_eq!(version(1, 2, 3).with(mate), grade, "{mate}");
            assert_eq!(mate.with(version(1, 2, 3)), grade, "{mate}");
        }
    }
}
