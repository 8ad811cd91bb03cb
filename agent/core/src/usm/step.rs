//! At which step a message was refused (RFC 3414, 3.2): what a metric's label says, so that whoever
//! set up a device sees what is wrong with it (TRAP-4).

use crate::trap::Malformed;

/// Why a message of SNMPv3 was not taken, in the order in which it is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// It is no message, or nothing that is taken in.
    Malformed(Malformed),
    /// msgFlags ask for privacy without authentication (RFC 3412, 7.2).
    InvalidFlags,
    /// msgSecurityModel is not that of USM (RFC 3412, 7.2).
    UnknownSecurityModel,
    /// The sender of an inform asked who we are (RFC 3414, 4). Nothing is wrong.
    Discovery,
    /// The sender of an inform asked for our boots and time (RFC 3414, 4). Nothing is wrong.
    TimeDiscovery,
    /// An inform for another engine, or an engine ID that is none.
    UnknownEngine,
    /// No user has this name.
    UnknownUser,
    /// A user has this name, and neither lists this engine nor learns.
    EngineNotAllowed,
    /// The user has no key for this level.
    UnsupportedLevel,
    /// The level is below the one that the user must have.
    BelowMinimumLevel,
    /// Too many messages of engines that were never heard of: this one was not looked at.
    LearningLimited,
    /// The digest is wrong: another passphrase, another protocol, or forged.
    WrongDigest,
    /// Authentic, and too old, or its engine's clock or boots went back.
    NotInTimeWindow,
    /// Authentic, and what was decrypted is no ScopedPDU: another privacy passphrase or protocol.
    DecryptionFailed,
}

impl Step {
    /// Every step.
    pub const ALL: [Step; Malformed::ALL.len() + 13] = {
        const LAST: [Step; 13] = [
            Step::InvalidFlags,
            Step::UnknownSecurityModel,
            Step::Discovery,
            Step::TimeDiscovery,
            Step::UnknownEngine,
            Step::UnknownUser,
            Step::EngineNotAllowed,
            Step::UnsupportedLevel,
            Step::BelowMinimumLevel,
            Step::LearningLimited,
            Step::WrongDigest,
            Step::NotInTimeWindow,
            Step::DecryptionFailed,
        ];
        let mut all = [Step::InvalidFlags; Malformed::ALL.len() + LAST.len()];
        let mut place = 0;
        while place < all.len() {
            all[place] = match place.checked_sub(Malformed::ALL.len()) {
                None => Step::Malformed(Malformed::ALL[place]),
                Some(place) => LAST[place],
            };
            place += 1;
        }
        all
    };

    /// The name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Step::Malformed(malformed) => malformed.name(),
            Step::InvalidFlags => "invalid_flags",
            Step::UnknownSecurityModel => "unknown_security_model",
            Step::Discovery => "discovery",
            Step::TimeDiscovery => "time_discovery",
            Step::UnknownEngine => "unknown_engine",
            Step::UnknownUser => "unknown_user",
            Step::EngineNotAllowed => "engine_not_allowed",
            Step::UnsupportedLevel => "unsupported_level",
            Step::BelowMinimumLevel => "below_minimum_level",
            Step::LearningLimited => "learning_limited",
            Step::WrongDigest => "wrong_digest",
            Step::NotInTimeWindow => "not_in_time_window",
            Step::DecryptionFailed => "decryption_failed",
        }
    }

    /// Whether something is wrong, and not only a sender asking.
    pub const fn is_error(self) -> bool {
        !matches!(self, Step::Discovery | Step::TimeDiscovery)
    }

    /// Its place in [`Step::ALL`].
    pub const fn index(self) -> usize {
        const FIRST: usize = Malformed::ALL.len();
        match self {
            Step::Malformed(malformed) => malformed as usize,
            Step::InvalidFlags => FIRST,
            Step::UnknownSecurityModel => FIRST + 1,
            Step::Discovery => FIRST + 2,
            Step::TimeDiscovery => FIRST + 3,
            Step::UnknownEngine => FIRST + 4,
            Step::UnknownUser => FIRST + 5,
            Step::EngineNotAllowed => FIRST + 6,
            Step::UnsupportedLevel => FIRST + 7,
            Step::BelowMinimumLevel => FIRST + 8,
            Step::LearningLimited => FIRST + 9,
            Step::WrongDigest => FIRST + 10,
            Step::NotInTimeWindow => FIRST + 11,
            Step::DecryptionFailed => FIRST + 12,
        }
    }
}

impl From<Malformed> for Step {
    fn from(malformed: Malformed) -> Step {
        Step::Malformed(malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_has_its_place_and_a_name_of_its_own() {
        for (place, step) in Step::ALL.into_iter().enumerate() {
            assert_eq!(step.index(), place, "{step:?}");
            assert_eq!(Step::ALL.iter().filter(|other| other.name() == step.name()).count(), 1);
        }
    }
}
