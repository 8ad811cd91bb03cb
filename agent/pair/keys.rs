//! This agent's own key and certificate, by which its mate knows it, and fingerprints of certificates
//! (PAIR, "Keys").
//!
//! They are made once, by the agent's first start or by `evenkeel pair fingerprint`, whichever is first.
//! A certificate is signed by nobody but itself and says nothing that anyone relies on: that it has the
//! fingerprint which an operator has entered is all that counts.

use std::{fmt, str::FromStr, sync::Arc};

use ring::digest::{SHA256, digest};
use rustls::{
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};

use super::directory::{Directory, DirectoryError};

const KEY: &str = "key.pem";
const CERTIFICATE: &str = "cert.pem";

/// The SHA-256 of a certificate in DER.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// The one of this certificate.
    pub fn of(certificate: &CertificateDer<'_>) -> Fingerprint {
        let mut octets = [0; 32];
        octets.copy_from_slice(digest(&SHA256, certificate).as_ref());
        Fingerprint(octets)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, octet) in self.0.iter().enumerate() {
            let colon = if nth == 0 { "" } else { ":" };
            write!(f, "{colon}{octet:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text is no fingerprint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadFingerprint {
    /// It holds something else than digits and colons.
    #[error(
        "{0:?} is no hexadecimal digit; write the fingerprint as `evenkeel pair fingerprint` \
             prints it on the mate"
    )]
    Digit(char),
    /// It is too short or too long.
    #[error("a fingerprint has 64 hexadecimal digits, with or without colons, and this has {0}")]
    Length(usize),
}

impl FromStr for Fingerprint {
    type Err = BadFingerprint;

    fn from_str(text: &str) -> Result<Fingerprint, BadFingerprint> {
        let mut digits = Vec::with_capacity(64);
        for character in text.trim().chars().filter(|character| *character != ':') {
            let digit = character.to_digit(16).ok_or(BadFingerprint::Digit(character))?;
            // A hexadecimal digit is less than 16.
            digits.push(digit as u8);
        }
        if digits.len() != 64 {
            return Err(BadFingerprint::Length(digits.len()));
        }
        let mut octets = [0; 32];
        for (octet, pair) in octets.iter_mut().zip(digits.chunks_exact(2)) {
            *octet = pair[0] << 4 | pair[1];
        }
        Ok(Fingerprint(octets))
    }
}

/// An agent's key and certificate.
#[derive(Clone, Debug)]
pub struct Identity {
    /// For TLS.
    pub key: Arc<CertifiedKey>,
    /// What the mate's operator is to enter.
    pub fingerprint: Fingerprint,
}

/// Why there is no key and certificate.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// A file can't be read or written.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// They can't be made.
    #[error("cannot make a key: {0}")]
    Make(#[from] rcgen::Error),
    /// What is there is of no use.
    #[error(
        "{path} {what}; remove {KEY} and {CERTIFICATE} there to have new ones made, and have the \
             mate trust the new fingerprint"
    )]
    Bad {
        /// The file.
        path: String,
        /// What is wrong with it.
        what: String,
    },
}

impl Identity {
    /// The identity that is kept in this directory, or a new one that is kept there.
    ///
    /// # Errors
    ///
    /// It can't be read or made.
    pub fn load_or_make(directory: &Directory) -> Result<Identity, KeysError> {
        let key = match directory.read(KEY)? {
            Some(key) => key,
            None => directory.make_once(KEY, rcgen::KeyPair::generate()?.serialize_pem())?,
        };
        let certificate = match directory.read(CERTIFICATE)? {
            Some(certificate) => certificate,
            None => directory.make_once(CERTIFICATE, certificate(&key)?)?,
        };
        let bad = |name: &str, what: String| KeysError::Bad {
            path: directory.file(name).display().to_string(),
            what,
        };
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
            .map_err(|error| bad(KEY, format!("holds no key ({error})")))?;
        let certificate = CertificateDer::from_pem_slice(certificate.as_bytes())
            .map_err(|error| bad(CERTIFICATE, format!("holds no certificate ({error})")))?;
        let fingerprint = Fingerprint::of(&certificate);
        let key = CertifiedKey::from_der(vec![certificate], key, &provider())
            .map_err(|error| bad(CERTIFICATE, format!("does not fit its key ({error})")))?;
        Ok(Identity { key: Arc::new(key), fingerprint })
    }
}

/// The cryptography that TLS is done with.
pub fn provider() -> CryptoProvider {
    rustls::crypto::ring::default_provider()
}

/// A certificate of this key, signed by it.
fn certificate(key: &str) -> Result<String, KeysError> {
    let key = rcgen::KeyPair::from_pem(key)?;
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, "evenkeel");
    Ok(params.self_signed(&key)?.pem())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_fingerprint_is_taken_in_any_form_that_people_write() {
        let shown = "00:11:22:33:44:55:66:77:88:99:aa:bb:cc:dd:ee:ff:\
                     00:11:22:33:44:55:66:77:88:99:aa:bb:cc:dd:ee:ff";
        let fingerprint: Fingerprint = shown.parse().unwrap();
        assert_eq!(fingerprint.to_string(), shown);
        for text in [shown.replace(':', ""), shown.to_uppercase(), format!(" {shown}\n")] {
            assert_eq!(text.parse(), Ok(fingerprint), "{text}");
        }
        for (text, why) in [
            ("", BadFingerprint::Length(0)),
            (&shown[3..], BadFingerprint::Length(62)),
            (&format!("{shown}0"), BadFingerprint::Length(65)),
            ("sha256", BadFingerprint::Digit('s')),
            ("é", BadFingerprint::Digit('é')),
        ] {
            assert_eq!(text.parse::<Fingerprint>(), Err(why), "{text}");
        }
    }

    #[test]
    fn an_identity_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::of(dir.path());
        let made = Identity::load_or_make(&directory).unwrap().fingerprint;
        assert_eq!(Identity::load_or_make(&directory).unwrap().fingerprint, made);
        // It was stopped between the two files.
        fs::remove_file(directory.file(CERTIFICATE)).unwrap();
        let again = Identity::load_or_make(&directory).unwrap().fingerprint;
        assert_eq!(Identity::load_or_make(&directory).unwrap().fingerprint, again);
    }

    #[test]
    fn two_that_make_it_at_once_have_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::of(dir.path());
        // Processes have files of their own aside; what they do after that is the same here.
        let other = rcgen::KeyPair::generate().unwrap().serialize_pem();
        let first = directory.make_once(KEY, other.clone()).unwrap();
        assert_eq!(first, other);
        let second = rcgen::KeyPair::generate().unwrap().serialize_pem();
        assert_eq!(directory.make_once(KEY, second).unwrap(), other);
        Identity::load_or_make(&directory).unwrap();
    }

    #[test]
    fn files_that_are_of_no_use_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::of(dir.path());
        Identity::load_or_make(&directory).unwrap();
        let other = rcgen::KeyPair::generate().unwrap().serialize_pem();
        fs::write(directory.file(KEY), other).unwrap();
        let refused = Identity::load_or_make(&directory).unwrap_err().to_string();
        assert!(refused.contains("cert.pem does not fit its key"), "{refused}");
        fs::write(directory.file(KEY), "what?").unwrap();
        let refused = Identity::load_or_make(&directory).unwrap_err().to_string();
        assert!(refused.contains("key.pem holds no key"), "{refused}");
    }
}
