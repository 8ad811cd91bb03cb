//! The keys of one user at one engine, ready for use: the digest over a whole message (RFC 3414,
//! sections 6 and 7; RFC 7860, 4) and the ciphers (RFC 3414, section 8; RFC 3826).
//!
//! The HMAC is kept keyed, so that a message costs only its own blocks and one more. The schedule of
//! an AES key is not kept: it takes as long as two blocks, and would take more memory than all else
//! that is remembered of an engine.

use std::fmt;

use aes::{Aes128Enc, Aes192Enc, Aes256Enc};
use cbc::cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit, inout::InOutBuf};
use des::Des;
use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;
use sha1::Sha1;
use sha2::{Sha224, Sha256, Sha384, Sha512};

use super::{Auth, AuthProtocol, EngineId, Level, PrivProtocol, Privacy, keys};

/// What a user's messages are sealed and opened with, at one engine.
#[derive(Clone)]
pub struct SessionKeys {
    auth: Option<Authenticator>,
    privacy: Option<Cipher>,
}

impl fmt::Debug for SessionKeys {
    /// Says what there is, and nothing of the keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionKeys({:?})", self.level())
    }
}

/// An HMAC that has its key.
#[derive(Clone)]
enum Authenticator {
    Md5(Hmac<Md5>),
    Sha1(Hmac<Sha1>),
    Sha224(Hmac<Sha224>),
    Sha256(Hmac<Sha256>),
    Sha384(Hmac<Sha384>),
    Sha512(Hmac<Sha512>),
}

#[derive(Clone)]
enum Cipher {
    Des { key: [u8; 8], pre_iv: [u8; 8] },
    Aes128([u8; 16]),
    Aes192([u8; 24]),
    Aes256([u8; 32]),
}

/// Octets that are no ciphertext, or a user without privacy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotDecrypted;

impl SessionKeys {
    /// No keys, for a message that is not protected.
    pub const NONE: SessionKeys = SessionKeys { auth: None, privacy: None };

    /// The keys of a user at an engine. Without `auth` there is no privacy either.
    pub fn new(auth: Option<&Auth>, privacy: Option<&Privacy>, engine: &EngineId) -> SessionKeys {
        let mut keys = SessionKeys::unable_to_decrypt(auth, engine);
        keys.add_privacy(auth, privacy, engine);
        keys
    }

    /// The same without the privacy, whose key may take a thousand times as long to make.
    pub(super) fn unable_to_decrypt(auth: Option<&Auth>, engine: &EngineId) -> SessionKeys {
        let auth = auth.map(|auth| {
            let key = keys::authentication_key(auth.protocol, &auth.key, engine);
            Authenticator::new(auth.protocol, &key.0)
        });
        SessionKeys { auth, privacy: None }
    }

    /// Adds the privacy, if it is not there.
    pub(super) fn add_privacy(
        &mut self,
        auth: Option<&Auth>,
        privacy: Option<&Privacy>,
        engine: &EngineId,
    ) {
        if let (None, Some(auth), Some(privacy)) = (&self.privacy, auth, privacy) {
            let key = keys::privacy_key(auth.protocol, privacy.protocol, &privacy.key, engine);
            self.privacy = Cipher::new(privacy.protocol, &key.0);
        }
    }

    /// The highest level that these keys are good for.
    pub fn level(&self) -> Level {
        match (&self.auth, &self.privacy) {
            (None, _) => Level::NoAuthNoPriv,
            (Some(_), None) => Level::AuthNoPriv,
            (Some(_), Some(_)) => Level::AuthPriv,
        }
    }

    /// How many octets a digest has; none without authentication.
    pub(super) fn digest_octets(&self) -> usize {
        self.auth.as_ref().map_or(0, |auth| auth.protocol().digest_octets())
    }

    /// Whether the digest at `at`, of `length` octets, is that of the whole message with zeros in its
    /// place (RFC 3414, 6.3.2). In constant time.
    pub(super) fn verify(&self, message: &[u8], at: usize, length: usize) -> bool {
        let Some(auth) = &self.auth else { return false };
        if length != auth.protocol().digest_octets() {
            return false;
        }
        let (Some(before), Some(after)) = (message.get(..at), message.get(at + length..)) else {
            return false;
        };
        auth.verify(before, &message[at..at + length], after)
    }

    /// Puts the digest of a whole message into it, at `at`, where zeros are (RFC 3414, 6.3.1).
    pub(super) fn sign(&self, message: &mut [u8], at: usize) {
        if let Some(auth) = &self.auth {
            let mut digest = [0; 64];
            auth.digest(message, &mut digest);
            let length = auth.protocol().digest_octets();
            message[at..at + length].copy_from_slice(&digest[..length]);
        }
    }

    /// Encrypts a ScopedPDU in place, adding the octets that the cipher needs at its end.
    pub(super) fn encrypt(&self, data: &mut Vec<u8>, boots: u32, time: u32, salt: [u8; 8]) {
        match &self.privacy {
            None => {}
            Some(Cipher::Des { key, pre_iv }) => {
                // RFC 3414, 8.1.1.2: what is added does not matter.
                data.resize(data.len().next_multiple_of(8), 0);
                let (mut blocks, _) = InOutBuf::from(&mut data[..]).into_chunks();
                cbc::Encryptor::<Des>::new(&(*key).into(), &des_iv(pre_iv, salt).into())
                    .encrypt_blocks_inout(blocks.reborrow());
            }
            Some(Cipher::Aes128(key)) => {
                let iv = aes_iv(boots, time, salt).into();
                cfb_mode::Encryptor::<Aes128Enc>::new(&(*key).into(), &iv).encrypt(data);
            }
            Some(Cipher::Aes192(key)) => {
                let iv = aes_iv(boots, time, salt).into();
                cfb_mode::Encryptor::<Aes192Enc>::new(&(*key).into(), &iv).encrypt(data);
            }
            Some(Cipher::Aes256(key)) => {
                let iv = aes_iv(boots, time, salt).into();
                cfb_mode::Encryptor::<Aes256Enc>::new(&(*key).into(), &iv).encrypt(data);
            }
        }
    }

    /// Decrypts in place.
    ///
    /// # Errors
    ///
    /// The salt has not 8 octets, the data is not whole blocks of DES (RFC 3414, 8.3.2), or there is
    /// no key.
    pub(super) fn decrypt(
        &self,
        data: &mut [u8],
        boots: u32,
        time: u32,
        salt: &[u8],
    ) -> Result<(), NotDecrypted> {
        let salt: [u8; 8] = salt.try_into().map_err(|_| NotDecrypted)?;
        match &self.privacy {
            None => return Err(NotDecrypted),
            Some(Cipher::Des { key, pre_iv }) => {
                let (blocks, tail) = InOutBuf::from(data).into_chunks();
                if !tail.is_empty() {
                    return Err(NotDecrypted);
                }
                cbc::Decryptor::<Des>::new(&(*key).into(), &des_iv(pre_iv, salt).into())
                    .decrypt_blocks_inout(blocks);
            }
            Some(Cipher::Aes128(key)) => {
                let iv = aes_iv(boots, time, salt).into();
                cfb_mode::Decryptor::<Aes128Enc>::new(&(*key).into(), &iv).decrypt(data);
            }
            Some(Cipher::Aes192(key)) => {
                let iv = aes_iv(boots, time, salt).into();
                cfb_mode::Decryptor::<Aes192Enc>::new(&(*key).into(), &iv).decrypt(data);
            }
            Some(Cipher::Aes256(key)) => {
                let iv = aes_iv(boots, time, salt).into();
                cfb_mode::Decryptor::<Aes256Enc>::new(&(*key).into(), &iv).decrypt(data);
            }
        }
        Ok(())
    }
}

/// RFC 3826, 3.1.2.1: boots, time and salt, each with its most significant octet first.
fn aes_iv(boots: u32, time: u32, salt: [u8; 8]) -> [u8; 16] {
    let mut iv = [0; 16];
    iv[..4].copy_from_slice(&boots.to_be_bytes());
    iv[4..8].copy_from_slice(&time.to_be_bytes());
    iv[8..].copy_from_slice(&salt);
    iv
}

/// RFC 3414, 8.1.1.1: the salt, hidden by half of the key.
fn des_iv(pre_iv: &[u8; 8], salt: [u8; 8]) -> [u8; 8] {
    std::array::from_fn(|place| pre_iv[place] ^ salt[place])
}

impl Cipher {
    /// Nothing if the key is too short, which only one that was given as localised can be.
    fn new(protocol: PrivProtocol, key: &[u8]) -> Option<Cipher> {
        Some(match protocol {
            PrivProtocol::Des => {
                let key: [u8; 16] = *key.first_chunk()?;
                let (key, pre_iv) = (key.first_chunk()?, key.last_chunk()?);
                Cipher::Des { key: *key, pre_iv: *pre_iv }
            }
            PrivProtocol::Aes128 => Cipher::Aes128(*key.first_chunk()?),
            PrivProtocol::Aes192 | PrivProtocol::Aes192Reeder => {
                Cipher::Aes192(*key.first_chunk()?)
            }
            PrivProtocol::Aes256 | PrivProtocol::Aes256Reeder => {
                Cipher::Aes256(*key.first_chunk()?)
            }
        })
    }
}

/// Runs the same for each kind of HMAC.
macro_rules! with {
    ($auth:expr, $hmac:ident => $then:expr) => {
        match $auth {
            Authenticator::Md5($hmac) => $then,
            Authenticator::Sha1($hmac) => $then,
            Authenticator::Sha224($hmac) => $then,
            Authenticator::Sha256($hmac) => $then,
            Authenticator::Sha384($hmac) => $then,
            Authenticator::Sha512($hmac) => $then,
        }
    };
}

impl Authenticator {
    fn new(protocol: AuthProtocol, key: &[u8]) -> Authenticator {
        fn keyed<M: KeyInit>(key: &[u8]) -> M {
            M::new_from_slice(key).expect("an HMAC takes keys of any length")
        }
        match protocol {
            AuthProtocol::Md5 => Authenticator::Md5(keyed(key)),
            AuthProtocol::Sha1 => Authenticator::Sha1(keyed(key)),
            AuthProtocol::Sha224 => Authenticator::Sha224(keyed(key)),
            AuthProtocol::Sha256 => Authenticator::Sha256(keyed(key)),
            AuthProtocol::Sha384 => Authenticator::Sha384(keyed(key)),
            AuthProtocol::Sha512 => Authenticator::Sha512(keyed(key)),
        }
    }

    const fn protocol(&self) -> AuthProtocol {
        match self {
            Authenticator::Md5(_) => AuthProtocol::Md5,
            Authenticator::Sha1(_) => AuthProtocol::Sha1,
            Authenticator::Sha224(_) => AuthProtocol::Sha224,
            Authenticator::Sha256(_) => AuthProtocol::Sha256,
            Authenticator::Sha384(_) => AuthProtocol::Sha384,
            Authenticator::Sha512(_) => AuthProtocol::Sha512,
        }
    }

    fn verify(&self, before: &[u8], digest: &[u8], after: &[u8]) -> bool {
        const ZEROS: [u8; 48] = [0; 48];
        with!(self, keyed => {
            let mut hmac = keyed.clone();
            hmac.update(before);
            hmac.update(&ZEROS[..digest.len()]);
            hmac.update(after);
            hmac.verify_truncated_left(digest).is_ok()
        })
    }

    fn digest(&self, message: &[u8], digest: &mut [u8; 64]) {
        with!(self, keyed => {
            let mut hmac = keyed.clone();
            hmac.update(message);
            let whole = hmac.finalize().into_bytes();
            digest[..whole.len()].copy_from_slice(&whole);
        });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::usm::{Key, Secret};

    fn octets(hex: &str) -> Vec<u8> {
        let digits = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
        digits.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
    }

    fn engine() -> EngineId {
        "80001f8804746f77657231".parse().unwrap()
    }

    fn keys(auth: (AuthProtocol, &[u8]), privacy: Option<(PrivProtocol, &[u8])>) -> SessionKeys {
        let key = |octets: &[u8]| Key::Localised(Secret(octets.to_vec()));
        let auth = Auth { protocol: auth.0, key: key(auth.1) };
        let privacy = privacy.map(|(protocol, octets)| Privacy { protocol, key: key(octets) });
        SessionKeys::new(Some(&auth), privacy.as_ref(), &engine())
    }

    #[test]
    fn digests_are_those_of_rfc_2202_and_rfc_4231_cut_as_rfc_7860_says() {
        const TEXT: &[u8] = b"what do ya want for nothing?";
        for (protocol, digest) in [
            (AuthProtocol::Md5, "750c783e6ab0b503eaa86e31"),
            (AuthProtocol::Sha1, "effcdf6ae5eb2fa2d27416d5"),
            (AuthProtocol::Sha224, "a30e01098bc6dbbf45690f3a7e9e6d0f"),
            (AuthProtocol::Sha256, "5bdcc146bf60754e6a042426089575c75a003f089d273983"),
            (
                AuthProtocol::Sha384,
                "af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47e42ec3736322445e",
            ),
            (
                AuthProtocol::Sha512,
                "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554\
                 9758bf75c05a994a6d034f65f8f0e6fd",
            ),
        ] {
            let digest = octets(digest);
            assert_eq!(digest.len(), protocol.digest_octets());
            let keys = keys((protocol, b"Jefe"), None);
            let Some(auth) = &keys.auth else { panic!() };
            let mut whole = [0; 64];
            auth.digest(TEXT, &mut whole);
            assert_eq!(whole[..digest.len()], digest, "{protocol:?}");
        }
    }

    #[test]
    fn a_digest_is_verified_with_zeros_in_its_place_and_in_its_whole_length() {
        for protocol in AuthProtocol::ALL {
            let (keys, length) = (keys((protocol, b"secret key"), None), protocol.digest_octets());
            let mut message = vec![7; 200];
            message[50..50 + length].fill(0);
            keys.sign(&mut message, 50);
            assert!(keys.verify(&message, 50, length));
            assert!(!keys.verify(&message, 50, length - 1), "cut");
            assert!(!keys.verify(&message, 50, 0), "none");
            assert!(!keys.verify(&message, 51, length), "elsewhere");
            assert!(!keys.verify(&message, 200, length), "beyond the end");
            for place in 0..message.len() {
                message[place] ^= 0x10;
                assert!(!keys.verify(&message, 50, length), "{protocol:?}, octet {place}");
                message[place] ^= 0x10;
            }
        }
    }

    #[test]
    fn aes_is_that_of_rfc_3826_and_nist_sp_800_38a() {
        // F.3.13 to F.3.18: the IV is boots, time and salt.
        let plain = "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51\
                     30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710";
        for (protocol, key, encrypted) in [
            (
                PrivProtocol::Aes128,
                "2b7e151628aed2a6abf7158809cf4f3c",
                "3b3fd92eb72dad20333449f8e83cfb4ac8a64537a0b3a93fcde3cdad9f1ce58b\
                 26751f67a3cbb140b1808cf187a4f4dfc04b05357c5d1c0eeac4c66f9ff7f2e6",
            ),
            (
                PrivProtocol::Aes192,
                "8e73b0f7da0e6452c810f32b809079e562f8ead2522c6b7b",
                "cdc80d6fddf18cab34c25909c99a417467ce7f7f81173621961a2b70171d3d7a\
                 2e1e8a1dd59b88b1c8e60fed1efac4c9c05f9f9ca9834fa042ae8fba584b09ff",
            ),
            (
                PrivProtocol::Aes256,
                "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4",
                "dc7e84bfda79164b7ecd8486985d386039ffed143b28b1c832113c6331e5407b\
                 df10132415e54b92a13ed0a8267ae2f975a385741ab9cef82031623d55b1e471",
            ),
        ] {
            let keys = keys((AuthProtocol::Sha1, b"any"), Some((protocol, &octets(key))));
            let salt = [8, 9, 10, 11, 12, 13, 14, 15];
            // The last block may be cut: CFB is a stream.
            for length in [64, 63, 33, 16, 1, 0] {
                let mut data = octets(plain)[..length].to_vec();
                keys.encrypt(&mut data, 0x0001_0203, 0x0405_0607, salt);
                assert_eq!(data, octets(encrypted)[..length], "{protocol:?}");
                keys.decrypt(&mut data, 0x0001_0203, 0x0405_0607, &salt).unwrap();
                assert_eq!(data, octets(plain)[..length], "{protocol:?}");
            }
        }
    }

    #[test]
    fn des_is_that_of_fips_81_under_the_iv_of_rfc_3414() {
        // 8.1.1.1: the salt is the IV of the example, hidden by the pre-IV.
        let pre_iv = [0x0f; 8];
        let salt: [u8; 8] = octets("1234567890abcdef").try_into().unwrap();
        let salt = salt.map(|octet| octet ^ 0x0f);
        let key = [&octets("0123456789abcdef")[..], &pre_iv].concat();
        let keys = keys((AuthProtocol::Md5, b"any"), Some((PrivProtocol::Des, &key)));
        let mut data = b"Now is the time for all ".to_vec();
        keys.encrypt(&mut data, 1, 2, salt);
        assert_eq!(data, octets("e5c7cdde872bf27c43e934008c389c0f683788499a7c05f6"));
        keys.decrypt(&mut data, 3, 4, &salt).unwrap();
        assert_eq!(data, b"Now is the time for all ");

        // 8.3.2 step 1: whole blocks, and a salt of 8 octets.
        assert_eq!(keys.decrypt(&mut [0; 23], 1, 2, &salt), Err(NotDecrypted));
        assert_eq!(keys.decrypt(&mut [0; 24], 1, 2, &salt[..7]), Err(NotDecrypted));
        assert_eq!(keys.decrypt(&mut [0; 24], 1, 2, &[]), Err(NotDecrypted));
    }

    #[test]
    fn a_key_that_is_too_short_gives_no_privacy_and_nothing_prints_a_key() {
        let short = keys((AuthProtocol::Md5, b"any"), Some((PrivProtocol::Aes256, &[9; 31])));
        assert_eq!(short.level(), Level::AuthNoPriv);
        assert_eq!(format!("{short:?}"), "SessionKeys(AuthNoPriv)");
        assert_eq!(SessionKeys::NONE.level(), Level::NoAuthNoPriv);
        assert!(!SessionKeys::NONE.verify(&[0; 20], 0, 0), "none is no digest");
    }

    proptest! {
        #[test]
        fn what_is_encrypted_is_decrypted_to_the_same(
            data: Vec<u8>, boots: u32, time: u32, salt: [u8; 8], key: [u8; 32],
        ) {
            for protocol in PrivProtocol::ALL {
                let keys = keys((AuthProtocol::Md5, b"any"), Some((protocol, &key)));
                let mut sealed = data.clone();
                keys.encrypt(&mut sealed, boots, time, salt);
                keys.decrypt(&mut sealed, boots, time, &salt).unwrap();
                prop_assert_eq!(&sealed[..data.len()], &data[..]);
                prop_assert!(sealed.len() - data.len() < 8);
            }
        }
    }
}
