//! The keys of heartbeat datagrams, and their use: what is sealed how.

use std::fmt;

use evenkeel_core::pair::term::Slot;
use ring::{
    aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hkdf::{self, HKDF_SHA256, KeyType, Prk},
    rand::{SecureRandom, SystemRandom},
};

use super::{Dropped, replay::Replay};
use crate::pair::keys::Fingerprint;

/// What every datagram starts with.
const MAGIC: [u8; 3] = *b"EKP";

/// The version of the datagrams is the upper half of this octet, the kind the lower.
const HEARTBEAT: u8 = 0x11;
const GREETING: u8 = 0x12;

/// Magic, kind, session and counter.
pub const HEADER: usize = 20;
pub const TAG: usize = 16;

/// Magic, kind, secret and nonce.
const GREETING_HEADER: usize = 24;
/// Two challenges, whether the second is there, and whether the session is.
const GREETED: usize = 34;
const GREETING_LENGTH: usize = GREETING_HEADER + GREETED + TAG;

/// Separates these keys from all others, and from those of another version.
const SALT: &[u8] = b"evenkeel pair heartbeats 1";

/// Drawn by chance for one session.
pub type Challenge = [u8; 16];

/// What a datagram says that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Heartbeat,
    Greeting,
}

/// The kind of a datagram, and the key that it names.
pub fn header(datagram: &[u8]) -> Result<(Kind, [u8; 8]), Dropped> {
    let Some(([a, b, c, kind], rest)) = datagram.split_first_chunk::<4>() else {
        return Err(Dropped::TooShort);
    };
    if [*a, *b, *c] != MAGIC {
        return Err(Dropped::Stranger);
    }
    let (kind, least) = match *kind {
        HEARTBEAT => (Kind::Heartbeat, HEADER + TAG),
        GREETING => (Kind::Greeting, GREETING_LENGTH),
        _ => return Err(Dropped::Stranger),
    };
    let id = rest.first_chunk::<8>().ok_or(Dropped::TooShort)?;
    if datagram.len() < least {
        return Err(Dropped::TooShort);
    }
    if kind == Kind::Greeting && datagram.len() > least {
        return Err(Dropped::TooLong);
    }
    Ok((kind, *id))
}

/// What both mates have from one connection of the state channel, and nobody else.
#[derive(Clone)]
pub struct Secret {
    octets: [u8; 32],
    mate: Fingerprint,
    id: [u8; 8],
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").field("mate", &self.mate).finish_non_exhaustive()
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Secret) -> bool {
        (self.id, self.mate) == (other.id, other.mate)
    }
}

impl Eq for Secret {}

/// What a greeting says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Greeted {
    /// The sender's challenge.
    pub mine: Challenge,
    /// The reader's, if the sender knows it.
    pub yours: Option<Challenge>,
    /// Whether the sender has the session of the two.
    pub has: bool,
}

/// A sealed greeting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Greeting([u8; GREETING_LENGTH]);

impl AsRef<[u8]> for Greeting {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Secret {
    /// The secret of a connection to the mate of this fingerprint.
    pub fn new(octets: [u8; 32], mate: Fingerprint) -> Secret {
        let mut secret = Secret { octets, mate, id: [0; 8] };
        secret.id = secret.derive(&[b"secret id"]);
        secret
    }

    /// The name that datagrams call it by; it gives nothing of the secret away.
    pub const fn id(&self) -> [u8; 8] {
        self.id
    }

    /// Whose it is beside us.
    pub const fn mate(&self) -> Fingerprint {
        self.mate
    }

    /// The octets, to be kept.
    pub const fn octets(&self) -> &[u8; 32] {
        &self.octets
    }

    /// The session of the connection itself, which is made once on each side.
    pub fn connection_session(&self, slot: Slot) -> Session {
        self.session(slot, &[b"connection"], false)
    }

    /// The session that was agreed on by greetings.
    pub fn greeted_session(&self, slot: Slot, mine: Challenge, theirs: Challenge) -> Session {
        let [zero, one] = match slot {
            Slot::Zero => [mine, theirs],
            Slot::One => [theirs, mine],
        };
        self.session(slot, &[b"greeted", &zero, &one], true)
    }

    fn session(&self, slot: Slot, context: &[&[u8]], confirmed: bool) -> Session {
        let of = |what: &'static [u8]| {
            let mut info = vec![what];
            info.extend_from_slice(context);
            info
        };
        let sending = key(self.derive(&of(direction(slot))));
        let receiving = key(self.derive(&of(direction(slot.other()))));
        Session {
            id: self.derive(&of(b"session id")),
            secret: self.id,
            mate: self.mate,
            confirmed,
            sending,
            receiving,
            next: 0,
            window: Replay::default(),
        }
    }

    /// Seals a greeting of the agent of this slot; nothing if the system has no randomness.
    pub fn greet(&self, slot: Slot, said: &Greeted, random: &SystemRandom) -> Option<Greeting> {
        let mut octets = [0; GREETING_LENGTH];
        octets[..3].copy_from_slice(&MAGIC);
        octets[3] = GREETING;
        octets[4..12].copy_from_slice(&self.id);
        random.fill(&mut octets[12..GREETING_HEADER]).ok()?;
        let (header, rest) = octets.split_at_mut(GREETING_HEADER);
        let (content, tag) = rest.split_at_mut(GREETED);
        content[..16].copy_from_slice(&said.mine);
        content[16..32].copy_from_slice(&said.yours.unwrap_or_default());
        content[32] = u8::from(said.yours.is_some());
        content[33] = u8::from(said.has);
        let nonce = Nonce::try_assume_unique_for_key(&header[12..]).ok()?;
        let key = self.greeting_key(slot);
        let sealed = key.seal_in_place_separate_tag(nonce, Aad::from(&*header), content).ok()?;
        tag.copy_from_slice(sealed.as_ref());
        Some(Greeting(octets))
    }

    /// Opens a greeting to the agent of this slot.
    pub fn greeted(&self, slot: Slot, datagram: &mut [u8]) -> Result<Greeted, Dropped> {
        let (header, sealed) =
            datagram.split_at_mut_checked(GREETING_HEADER).ok_or(Dropped::TooShort)?;
        let nonce = Nonce::try_assume_unique_for_key(&header[12..]);
        let nonce = nonce.map_err(|_| Dropped::TooShort)?;
        let key = self.greeting_key(slot.other());
        let content = key.open_in_place(nonce, Aad::from(&*header), sealed);
        let content = content.map_err(|_| Dropped::Altered)?;
        let (mine, rest) = content.split_first_chunk::<16>().ok_or(Dropped::TooShort)?;
        let (yours, rest) = rest.split_first_chunk::<16>().ok_or(Dropped::TooShort)?;
        let [knows, has] = *rest else { return Err(Dropped::TooShort) };
        Ok(Greeted { mine: *mine, yours: (knows != 0).then_some(*yours), has: has != 0 })
    }

    fn greeting_key(&self, from: Slot) -> LessSafeKey {
        key(self.derive(&[b"greeting", direction(from)]))
    }

    fn derive<const N: usize>(&self, info: &[&[u8]]) -> [u8; N] {
        let prk: Prk = hkdf::Salt::new(HKDF_SHA256, SALT).extract(&self.octets);
        let mut octets = [0; N];
        // HKDF with SHA-256 gives up to 8160 octets (RFC 5869, 2.3), and these are 8 or 32.
        let derived = prk.expand(info, Length(N)).and_then(|okm| okm.fill(&mut octets));
        assert!(derived.is_ok(), "HKDF gives {N} octets");
        octets
    }
}

fn direction(from: Slot) -> &'static [u8] {
    match from {
        Slot::Zero => b"from slot 0",
        Slot::One => b"from slot 1",
    }
}

struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

fn key(octets: [u8; 32]) -> LessSafeKey {
    let key = UnboundKey::new(&CHACHA20_POLY1305, &octets);
    LessSafeKey::new(key.expect("a key of this cipher has 32 octets"))
}

/// The keys of both directions, and what was sent and received under them.
pub struct Session {
    /// The name that datagrams call it by.
    pub id: [u8; 8],
    /// The secret that it comes from.
    pub secret: [u8; 8],
    /// The mate that it is with.
    pub mate: Fingerprint,
    /// Whether the mate is known to have it.
    pub confirmed: bool,
    sending: LessSafeKey,
    receiving: LessSafeKey,
    next: u64,
    window: Replay,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Session { confirmed, next, .. } = self;
        f.debug_struct("Session")
            .field("confirmed", confirmed)
            .field("next", next)
            .finish_non_exhaustive()
    }
}

impl Session {
    /// Seals a heartbeat into an empty datagram.
    pub fn seal(&mut self, heartbeat: &[u8], datagram: &mut Vec<u8>) -> bool {
        // At a million a second, there are counters for half a million years.
        let counter = self.next;
        self.next += 1;
        datagram.extend_from_slice(&MAGIC);
        datagram.push(HEARTBEAT);
        datagram.extend_from_slice(&self.id);
        datagram.extend_from_slice(&counter.to_be_bytes());
        datagram.extend_from_slice(heartbeat);
        let (header, content) = datagram.split_at_mut(HEADER);
        let sealed =
            self.sending.seal_in_place_separate_tag(nonce(counter), Aad::from(&*header), content);
        let Ok(tag) = sealed else {
            datagram.clear();
            return false;
        };
        datagram.extend_from_slice(tag.as_ref());
        true
    }

    /// Opens a datagram. Says besides whether this shows for the first time that the mate has the
    /// session.
    pub fn open<'a>(&mut self, datagram: &'a mut [u8]) -> Result<(&'a [u8], bool), Dropped> {
        let (header, sealed) = datagram.split_at_mut_checked(HEADER).ok_or(Dropped::TooShort)?;
        let counter = header.last_chunk::<8>().ok_or(Dropped::TooShort)?;
        let counter = u64::from_be_bytes(*counter);
        let opened = self.receiving.open_in_place(nonce(counter), Aad::from(&*header), sealed);
        let opened = opened.map_err(|_| Dropped::Altered)?;
        // Only what is genuine moves the window.
        if !self.window.see(counter) {
            return Err(Dropped::Replayed);
        }
        let first = !self.confirmed;
        self.confirmed = true;
        Ok((opened, first))
    }
}

/// The counter with four zeros before it, as in TLS 1.3 (RFC 8446, 5.3), without its mask: the key is
/// the session's own.
fn nonce(counter: u64) -> Nonce {
    let mut octets = [0; NONCE_LEN];
    octets[NONCE_LEN - 8..].copy_from_slice(&counter.to_be_bytes());
    Nonce::assume_unique_for_key(octets)
}
