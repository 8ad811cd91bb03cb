//! From passphrases to keys: the hash of a passphrase (RFC 3414, A.2), localisation for an engine
//! (RFC 3414, 2.6), and both ways in use to make a key long enough for AES-192 and AES-256.
//!
//! ```text
//! passphrase ──master_key──> Ku ──localise(engine)──> Kul ──lengthen──> key of the cipher
//!                                                       │
//!                                                       └──> key of the HMAC
//! ```
//!
//! A master key costs the hash of a megabyte, so it is made once per passphrase; localising costs two
//! blocks. Reeder's way to lengthen hashes a megabyte for each engine, and is therefore done only for
//! an engine whose message has proved authentic.

use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};

use super::{AuthProtocol, EngineId, Key, PrivProtocol, Secret};

/// How much of the repeated passphrase is hashed (RFC 3414, A.2).
const EXPANDED: usize = 1 << 20;

impl AuthProtocol {
    /// Every protocol.
    pub const ALL: [AuthProtocol; 6] = [
        AuthProtocol::Md5,
        AuthProtocol::Sha1,
        AuthProtocol::Sha224,
        AuthProtocol::Sha256,
        AuthProtocol::Sha384,
        AuthProtocol::Sha512,
    ];

    /// The name, as net-snmp and most devices have it.
    pub const fn name(self) -> &'static str {
        match self {
            AuthProtocol::Md5 => "MD5",
            AuthProtocol::Sha1 => "SHA",
            AuthProtocol::Sha224 => "SHA-224",
            AuthProtocol::Sha256 => "SHA-256",
            AuthProtocol::Sha384 => "SHA-384",
            AuthProtocol::Sha512 => "SHA-512",
        }
    }

    /// How many octets of the HMAC are in a message (RFC 3414, 6.3.1 and 7.3.1; RFC 7860, 4.1).
    pub const fn digest_octets(self) -> usize {
        match self {
            AuthProtocol::Md5 | AuthProtocol::Sha1 => 12,
            AuthProtocol::Sha224 => 16,
            AuthProtocol::Sha256 => 24,
            AuthProtocol::Sha384 => 32,
            AuthProtocol::Sha512 => 48,
        }
    }

    /// How many octets a key has, which are those of the hash.
    pub const fn key_octets(self) -> usize {
        match self {
            AuthProtocol::Md5 => 16,
            AuthProtocol::Sha1 => 20,
            AuthProtocol::Sha224 => 28,
            AuthProtocol::Sha256 => 32,
            AuthProtocol::Sha384 => 48,
            AuthProtocol::Sha512 => 64,
        }
    }
}

impl PrivProtocol {
    /// Every protocol.
    pub const ALL: [PrivProtocol; 6] = [
        PrivProtocol::Des,
        PrivProtocol::Aes128,
        PrivProtocol::Aes192,
        PrivProtocol::Aes256,
        PrivProtocol::Aes192Reeder,
        PrivProtocol::Aes256Reeder,
    ];

    /// The name, as net-snmp has it.
    pub const fn name(self) -> &'static str {
        match self {
            PrivProtocol::Des => "DES",
            PrivProtocol::Aes128 => "AES",
            PrivProtocol::Aes192 => "AES-192",
            PrivProtocol::Aes256 => "AES-256",
            PrivProtocol::Aes192Reeder => "AES-192-C",
            PrivProtocol::Aes256Reeder => "AES-256-C",
        }
    }

    /// How many octets a localised key has: for DES 8 of the key and 8 of the pre-IV (RFC 3414,
    /// 8.1.1.1).
    pub const fn key_octets(self) -> usize {
        match self {
            PrivProtocol::Des | PrivProtocol::Aes128 => 16,
            PrivProtocol::Aes192 | PrivProtocol::Aes192Reeder => 24,
            PrivProtocol::Aes256 | PrivProtocol::Aes256Reeder => 32,
        }
    }
}

/// Ku of a passphrase (RFC 3414, A.2.1 and A.2.2), which has at least 8 octets (RFC 3414, 11.2): its
/// caller sees to that.
pub fn master_key(protocol: AuthProtocol, passphrase: &[u8]) -> Secret {
    Secret(match protocol {
        AuthProtocol::Md5 => expanded::<Md5>(passphrase),
        AuthProtocol::Sha1 => expanded::<Sha1>(passphrase),
        AuthProtocol::Sha224 => expanded::<Sha224>(passphrase),
        AuthProtocol::Sha256 => expanded::<Sha256>(passphrase),
        AuthProtocol::Sha384 => expanded::<Sha384>(passphrase),
        AuthProtocol::Sha512 => expanded::<Sha512>(passphrase),
    })
}

/// Kul: a master key, localised for an engine (RFC 3414, 2.6).
pub fn localise(protocol: AuthProtocol, master: &Secret, engine: &EngineId) -> Secret {
    Secret(hash(protocol, &[&master.0, engine.octets(), &master.0]))
}

/// The localised key of a user's authentication.
pub(super) fn authentication_key(auth: AuthProtocol, key: &Key, engine: &EngineId) -> Secret {
    match key {
        Key::Localised(secret) => secret.clone(),
        Key::Master(master) => localise(auth, master, engine),
    }
}

/// The localised key of a user's privacy: as many octets as the cipher takes, where the key given has
/// as many (see [`Key::Localised`]). `auth` is the user's authentication protocol, whose hash makes it.
pub fn privacy_key(
    auth: AuthProtocol,
    privacy: PrivProtocol,
    key: &Key,
    engine: &EngineId,
) -> Secret {
    let wanted = privacy.key_octets();
    let mut octets = match key {
        Key::Localised(secret) => secret.0.clone(),
        Key::Master(master) => {
            let mut octets = localise(auth, master, engine).0;
            let mut last = octets.clone();
            while octets.len() < wanted {
                match privacy {
                    // draft-reeder-snmpv3-usm-3desede-00, 2.1: the last piece is taken for a
                    // passphrase.
                    PrivProtocol::Aes192Reeder | PrivProtocol::Aes256Reeder => {
                        last = localise(auth, &master_key(auth, &last), engine).0;
                        octets.extend_from_slice(&last);
                    }
                    // draft-blumenthal-aes-usm-04, 3.1.2.1: the hash of all there is. DES and AES-128
                    // never come here, as the shortest hash is as long as they ask.
                    PrivProtocol::Des
                    | PrivProtocol::Aes128
                    | PrivProtocol::Aes192
                    | PrivProtocol::Aes256 => octets.extend(hash(auth, &[&octets])),
                }
            }
            octets
        }
    };
    octets.truncate(wanted);
    Secret(octets)
}

fn hash(protocol: AuthProtocol, parts: &[&[u8]]) -> Vec<u8> {
    match protocol {
        AuthProtocol::Md5 => hashed::<Md5>(parts),
        AuthProtocol::Sha1 => hashed::<Sha1>(parts),
        AuthProtocol::Sha224 => hashed::<Sha224>(parts),
        AuthProtocol::Sha256 => hashed::<Sha256>(parts),
        AuthProtocol::Sha384 => hashed::<Sha384>(parts),
        AuthProtocol::Sha512 => hashed::<Sha512>(parts),
    }
}

fn hashed<D: Digest>(parts: &[&[u8]]) -> Vec<u8> {
    let mut digest = D::new();
    parts.iter().for_each(|part| digest.update(part));
    digest.finalize().to_vec()
}

/// The hash of a megabyte of the passphrase, repeated.
fn expanded<D: Digest>(passphrase: &[u8]) -> Vec<u8> {
    let mut digest = D::new();
    // Whole repetitions in pieces that are worth a call: a call for each would cost more than the
    // hash.
    let piece = passphrase.repeat(4096 / passphrase.len().max(1) + 1);
    let mut left = if piece.is_empty() { 0 } else { EXPANDED };
    while left > 0 {
        let taken = left.min(piece.len());
        digest.update(&piece[..taken]);
        left -= taken;
    }
    digest.finalize().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(octets: &[u8]) -> String {
        octets.iter().map(|octet| format!("{octet:02x}")).collect()
    }

    fn engine_of_rfc_3414() -> EngineId {
        "000000000000000000000002".parse().unwrap()
    }

    #[test]
    fn keys_are_those_printed_in_rfc_3414() {
        // A.3.1 and A.3.2: of the passphrase, then localised; A.5.1 and A.5.2: a new passphrase.
        for (protocol, master, localised, new) in [
            (
                AuthProtocol::Md5,
                "9faf3283884e92834ebc9847d8edd963",
                "526f5eed9fcce26f8964c2930787d82b",
                "87021d7bd9d101ba05ea6e3bf9d9bd4a",
            ),
            (
                AuthProtocol::Sha1,
                "9fb5cc0381497b3793528939ff788d5d79145211",
                "6695febc9288e36282235fc7151f128497b38f3f",
                "78e2dcce79d59403b58c1bbaa5bff46391f1cd25",
            ),
        ] {
            let key = master_key(protocol, b"maplesyrup");
            assert_eq!(hex(&key.0), master, "{protocol:?}");
            let key = localise(protocol, &key, &engine_of_rfc_3414());
            assert_eq!(hex(&key.0), localised, "{protocol:?}");
            let key = master_key(protocol, b"newsyrup");
            assert_eq!(
                hex(&localise(protocol, &key, &engine_of_rfc_3414()).0),
                new,
                "{protocol:?}"
            );
        }
    }

    #[test]
    fn keys_of_every_protocol_are_those_of_pysnmp() {
        // RFC 7860 prints no keys, and no RFC has the longer ones.
        let vectors = include_str!("vectors/pysnmp-7.1.30.txt");
        let engine: EngineId = "80001f8804746f77657231".parse().unwrap();
        let masters =
            AuthProtocol::ALL.map(|auth| Key::Master(master_key(auth, b"battery staple")));
        let mut checked = 0;
        for line in vectors.lines().filter(|line| !line.starts_with('#')) {
            let [auth, privacy, key] = line.split(' ').collect::<Vec<_>>()[..] else { panic!() };
            let place = AuthProtocol::ALL.iter().position(|one| one.name() == auth).unwrap();
            let (auth, master) = (AuthProtocol::ALL[place], &masters[place]);
            let made = match PrivProtocol::ALL.iter().find(|one| one.name() == privacy) {
                Some(&privacy) => privacy_key(auth, privacy, master, &engine),
                None => authentication_key(auth, master, &engine),
            };
            assert_eq!(hex(&made.0), key, "{line}");
            checked += 1;
        }
        assert_eq!(checked, 6 * 7);
    }

    #[test]
    fn a_localised_key_is_taken_as_it_is_and_cut_to_what_the_cipher_takes() {
        let engine = engine_of_rfc_3414();
        let key = Key::Localised(Secret((0..40).collect()));
        let made = privacy_key(AuthProtocol::Sha256, PrivProtocol::Aes192, &key, &engine);
        assert_eq!(made, Secret((0..24).collect()));
        assert_eq!(authentication_key(AuthProtocol::Md5, &key, &engine), Secret((0..40).collect()));
    }
}
