//! Heartbeat datagrams, sealed: who has not the keys can neither make one, nor alter one, nor send one
//! for the second time (PAIR-8).
//!
//! ```text
//!  heartbeat   "EKP" 0x11   session, 8   counter, 8   ciphertext and tag       ChaCha20-Poly1305
//!  greeting    "EKP" 0x12   secret, 8    nonce, 12    ciphertext and tag       (RFC 8439)
//! ```
//!
//! # Where the keys come from
//!
//! Each connection of the state channel gives both mates a *secret*, by the exporter of TLS 1.3 (RFC
//! 8446, 7.5), which nobody else has: it depends on the whole handshake, with both certificates. From it
//! come the keys of a *session*, one for each direction, by HKDF (RFC 5869). A session is used for
//! sending when the mate is known to have it; until then the one before is, which also stays good for
//! receiving. So heartbeats go on while the state channel is away or is being made anew.
//!
//! # What happens when an agent starts again
//!
//! It has no session then. If keys could come from the state channel alone, an agent that starts again
//! while only that is cut off (one TCP port blocked is enough) could neither hear nor be heard, though
//! every heartbeat path works: both would count the other as silent, and both would be primary. PAIR-3
//! has a mate silent only if the paths are silent *too*. So the secrets of the last two connections are
//! kept on the disk ([`super::secrets`]), and two mates that share one agree on a new session by the
//! datagrams alone: each draws a *challenge*, and tells it in a *greeting* that is sealed by the secret;
//! whose greeting repeats the other's challenge has it from now, and not from a recording.
//!
//! ```text
//!  A, started again         { a }             ──>  B, has another session
//!                           <──  { b, you said a }
//!  has session (a, b)       { a, you said b } ──>  has session (a, b)
//! ```
//!
//! The keys of that session depend on the secret and on both challenges. A challenge serves for one
//! session, so that no key is ever made twice, whatever is replayed: counters start from zero with each
//! session, none is kept on the disk, and no counter comes twice under a key. Nothing that was recorded
//! before a start can be opened after it. Greetings themselves have random nonces; they are so few that
//! none comes twice.
//!
//! For the takeover this means: an agent that starts again is heard within two heartbeats on the paths,
//! or at once by the state channel, whichever is first, and needs neither of the two in particular. Two
//! agents that have *never* had a state channel between them, or whose operator has trusted a new
//! fingerprint, have no secret: they are silent for each other until it has been up once. There is
//! nothing by which they could know each other sooner.
//!
//! Nothing here reads a clock or a file. What is dropped is counted by reason, and costs neither memory
//! nor a line in the log.

mod keys;
mod replay;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use evenkeel_core::pair::term::Slot;
use ring::rand::{SecureRandom, SystemRandom};

use self::keys::{Challenge, Greeted, Session};
pub use self::keys::{Greeting, Secret};
use super::keys::Fingerprint;

/// The longest datagram that is sent or taken: it fits into the least MTU of IPv6, 1280 octets (RFC
/// 8200, 5), with its headers.
pub const LONGEST: usize = 1200;

/// The octets that sealing adds.
pub const OVERHEAD: usize = keys::HEADER + keys::TAG;

/// The longest heartbeat that can be sealed.
pub const LONGEST_HEARTBEAT: usize = LONGEST - OVERHEAD;

/// How many secrets are kept: the last connection's, and the one before in case that the mate was
/// stopped before it had the last on its disk.
pub const SECRETS: usize = 2;

/// Rounds without a datagram that can be opened, after which the mate may have no session: one may be
/// lost.
const SILENT_ROUNDS: u32 = 2;

/// Answers to greetings in a round: eight paths, twice. More would be somebody's replays.
const ANSWERS: u32 = 16;

/// Why a datagram was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dropped {
    /// It is too short to be one.
    TooShort,
    /// It is longer than any.
    TooLong,
    /// It does not start as one does, or is of another version.
    Stranger,
    /// It is sealed by a key that this agent does not have (any more, or yet).
    UnknownKey,
    /// It was altered, or made by someone without the key.
    Altered,
    /// It came before, or is too old to tell.
    Replayed,
    /// It is a greeting, and too many were answered already.
    TooManyGreetings,
}

impl Dropped {
    /// Every reason, in the order of the counters.
    pub const ALL: [Dropped; 7] = [
        Dropped::TooShort,
        Dropped::TooLong,
        Dropped::Stranger,
        Dropped::UnknownKey,
        Dropped::Altered,
        Dropped::Replayed,
        Dropped::TooManyGreetings,
    ];

    /// The name in metrics and in the status.
    pub const fn name(self) -> &'static str {
        match self {
            Dropped::TooShort => "too_short",
            Dropped::TooLong => "too_long",
            Dropped::Stranger => "stranger",
            Dropped::UnknownKey => "unknown_key",
            Dropped::Altered => "altered",
            Dropped::Replayed => "replayed",
            Dropped::TooManyGreetings => "too_many_greetings",
        }
    }
}

/// What a datagram was.
#[derive(Debug, PartialEq, Eq)]
pub enum Opened<'a> {
    /// A heartbeat of the mate.
    Heartbeat(&'a [u8]),
    /// A greeting of the mate, to be answered by this on the way that it came.
    Answer(Greeting),
    /// Nothing to act on: it was dropped and counted, or a greeting that needs no answer.
    Nothing,
}

/// The keys of the heartbeat datagrams, and the state of who has which. All clones are one.
///
/// The state channel puts keys in and the heartbeat paths use them; both are on one thread, and the lock
/// is held for a few microseconds.
#[derive(Clone, Debug)]
pub struct Seals(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    slot: Slot,
    random: SystemRandom,
    /// The newest first.
    secrets: Vec<Secret>,
    /// Those that are good for receiving, the newest first.
    sessions: Vec<Session>,
    /// The challenge of the next session that is agreed on by greetings. There is none only if the
    /// system has no randomness.
    challenge: Option<Challenge>,
    /// The last session that was agreed on by greetings.
    agreed: Option<Agreed>,
    /// Rounds since a datagram was opened.
    silent: u32,
    /// Rounds in all, to take turns with the secrets.
    rounds: u32,
    answers: u32,
    dropped: [u64; Dropped::ALL.len()],
}

#[derive(Debug)]
struct Agreed {
    secret: [u8; 8],
    mine: Challenge,
    theirs: Challenge,
}

impl Seals {
    /// For the agent of this slot, with the secrets that are kept, the newest first.
    pub fn new(slot: Slot, secrets: Vec<Secret>) -> Seals {
        let random = SystemRandom::new();
        let mut state = State {
            slot,
            challenge: None,
            random,
            secrets,
            sessions: Vec::with_capacity(3),
            agreed: None,
            silent: SILENT_ROUNDS,
            rounds: 0,
            answers: 0,
            dropped: [0; Dropped::ALL.len()],
        };
        state.secrets.truncate(SECRETS);
        state.draw();
        Seals(Arc::new(Mutex::new(state)))
    }

    /// Seals a heartbeat of at most [`LONGEST_HEARTBEAT`] octets into `datagram`, which is cleared
    /// first. The copies for several paths are to be sealed one by one: each has its own counter. Returns
    /// whether there is a key; if there is none, nothing may be sent.
    pub fn seal(&self, heartbeat: &[u8], datagram: &mut Vec<u8>) -> bool {
        datagram.clear();
        if heartbeat.len() > LONGEST_HEARTBEAT {
            return false;
        }
        let mut state = self.state();
        let session = state.sessions.iter_mut().find(|session| session.confirmed);
        session.is_some_and(|session| session.seal(heartbeat, datagram))
    }

    /// Opens a datagram in its place.
    pub fn open<'a>(&self, datagram: &'a mut [u8]) -> Opened<'a> {
        let mut state = self.state();
        match state.open(datagram) {
            Ok(opened) => opened,
            Err(why) => {
                state.dropped[why as usize] += 1;
                Opened::Nothing
            }
        }
    }

    /// To be called once for each round of heartbeats. Gives a greeting to send by every path beside
    /// the heartbeat, if the mate is silent and there is a secret to greet it by.
    pub fn round(&self) -> Option<Greeting> {
        let mut state = self.state();
        state.answers = 0;
        state.rounds = state.rounds.wrapping_add(1);
        state.silent = state.silent.saturating_add(1);
        if state.silent <= SILENT_ROUNDS || state.secrets.is_empty() {
            return None;
        }
        // The mate may have only the older of the two.
        let turn = state.rounds as usize % state.secrets.len();
        let challenge = state.challenge?;
        let said = Greeted { mine: challenge, yours: None, has: false };
        state.secrets[turn].greet(state.slot, &said, &state.random)
    }

    /// How many datagrams were dropped for this reason.
    pub fn dropped(&self, why: Dropped) -> u64 {
        self.state().dropped[why as usize]
    }

    /// Whether heartbeats can be sealed.
    #[cfg(test)]
    pub fn has_key(&self) -> bool {
        self.state().sessions.iter().any(|session| session.confirmed)
    }

    /// A connection of the state channel has given this secret, for the mate of this fingerprint. From
    /// now on its session is good for receiving. What belongs to another mate is forgotten. Gives all
    /// secrets that are to be kept.
    pub(super) fn install(&self, secret: Secret) -> Vec<Secret> {
        let mut state = self.state();
        state.forget_others(Some(secret.mate()));
        let session = secret.connection_session(state.slot);
        state.add(session);
        state.secrets.insert(0, secret);
        state.secrets.truncate(SECRETS);
        state.secrets.clone()
    }

    /// The mate has the session of this secret too, so that it is good for sending.
    pub(super) fn confirm(&self, id: [u8; 8]) {
        let mut state = self.state();
        for session in &mut state.sessions {
            session.confirmed |= session.secret == id;
        }
        state.bound();
    }

    /// The mate is the one of this fingerprint, or nobody. What belongs to another is forgotten.
    pub(super) fn trust(&self, mate: Option<Fingerprint>) {
        self.state().forget_others(mate);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The state is whole between any two statements that could panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn draw(&mut self) {
        let mut challenge = [0; 16];
        self.challenge = self.random.fill(&mut challenge).ok().map(|()| challenge);
    }

    fn open<'a>(&mut self, datagram: &'a mut [u8]) -> Result<Opened<'a>, Dropped> {
        if datagram.len() > LONGEST {
            return Err(Dropped::TooLong);
        }
        let (kind, id) = keys::header(datagram)?;
        match kind {
            keys::Kind::Heartbeat => {
                let session = self.sessions.iter_mut().find(|session| session.id == id);
                let heartbeat = session.ok_or(Dropped::UnknownKey)?;
                let (opened, first) = heartbeat.open(datagram)?;
                self.silent = 0;
                if first {
                    self.bound();
                }
                Ok(Opened::Heartbeat(opened))
            }
            keys::Kind::Greeting => {
                let secret = self.secrets.iter().find(|secret| secret.id() == id);
                let secret = secret.ok_or(Dropped::UnknownKey)?;
                let said = secret.greeted(self.slot, datagram)?;
                if self.answers >= ANSWERS {
                    return Err(Dropped::TooManyGreetings);
                }
                self.answers += 1;
                Ok(self.greeted(id, &said).map_or(Opened::Nothing, Opened::Answer))
            }
        }
    }

    /// A greeting that is genuine, though perhaps not of now.
    fn greeted(&mut self, id: [u8; 8], said: &Greeted) -> Option<Greeting> {
        let challenge = self.challenge?;
        let answer = if said.yours == Some(challenge) {
            // It is of now. The challenge is used up: no second session may be made with it.
            self.draw();
            let secret = self.secrets.iter().find(|secret| secret.id() == id)?;
            let session = secret.greeted_session(self.slot, challenge, said.mine);
            self.add(session);
            self.agreed = Some(Agreed { secret: id, mine: challenge, theirs: said.mine });
            Greeted { mine: challenge, yours: Some(said.mine), has: true }
        } else {
            match &self.agreed {
                // The answer was lost, or comes late.
                Some(Agreed { secret, mine, theirs }) if *secret == id && *theirs == said.mine => {
                    Greeted { mine: *mine, yours: Some(said.mine), has: true }
                }
                _ => Greeted { mine: challenge, yours: Some(said.mine), has: false },
            }
        };
        if said.has && answer.has {
            return None;
        }
        let secret = self.secrets.iter().find(|secret| secret.id() == id)?;
        secret.greet(self.slot, &answer, &self.random)
    }

    /// Adds a session. One that the mate was never known to have gives way.
    fn add(&mut self, session: Session) {
        self.sessions.retain(|session| session.confirmed);
        self.sessions.insert(0, session);
        self.bound();
    }

    /// The last two that both have are kept, and one that is new.
    fn bound(&mut self) {
        let mut confirmed = 0;
        self.sessions.retain(|session| {
            confirmed += usize::from(session.confirmed);
            !session.confirmed || confirmed <= 2
        });
    }

    fn forget_others(&mut self, mate: Option<Fingerprint>) {
        self.secrets.retain(|secret| Some(secret.mate()) == mate);
        self.sessions.retain(|session| Some(session.mate) == mate);
    }
}
