//! Which mate is trusted: the fingerprint that an operator has entered (PAIR, "Keys").
//!
//! It stands in a file of its own, which is read for each handshake and once a second, so that a running
//! agent needs no restart to know it.

use super::{
    directory::{Directory, DirectoryError},
    keys::{BadFingerprint, Fingerprint},
};

/// The file's name in the pair's directory.
const MATE: &str = "mate";

/// Why it is not known who is trusted.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The file can't be read or written.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The file holds something else.
    #[error("{path} holds no fingerprint: {why}")]
    Bad {
        /// The file.
        path: String,
        /// What is wrong.
        why: BadFingerprint,
    },
    /// The fingerprint is this agent's own.
    #[error(
        "this is the fingerprint of this agent itself; enter the one that `evenkeel pair \
             fingerprint` prints on the mate"
    )]
    Own,
}

/// The file with the mate's fingerprint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trust(Directory);

impl Trust {
    /// The one in this directory.
    pub fn of(directory: &Directory) -> Trust {
        Trust(directory.clone())
    }

    /// Who is trusted now; nobody if none was entered yet.
    ///
    /// # Errors
    ///
    /// The file can't be read, or holds something else.
    pub fn read(&self) -> Result<Option<Fingerprint>, TrustError> {
        let Some(text) = self.0.read(MATE)? else { return Ok(None) };
        let path = || self.0.file(MATE).display().to_string();
        text.parse().map(Some).map_err(|why| TrustError::Bad { path: path(), why })
    }

    /// Trusts the mate of this fingerprint, and nobody else, as `own` agent.
    ///
    /// # Errors
    ///
    /// The file can't be written, or it is this agent's own fingerprint.
    pub fn write(&self, mate: Fingerprint, own: Fingerprint) -> Result<(), TrustError> {
        if mate == own {
            return Err(TrustError::Own);
        }
        Ok(self.0.replace(MATE, &format!("{mate}\n"))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_mate_is_trusted_and_never_oneself() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::of(dir.path());
        let trust = Trust::of(&directory);
        let [own, one, two] = [1, 2, 3].map(|octet| Fingerprint([octet; 32]));
        assert_eq!(trust.read().unwrap(), None);
        assert!(matches!(trust.write(own, own), Err(TrustError::Own)));
        assert_eq!(trust.read().unwrap(), None);
        for mate in [one, two] {
            trust.write(mate, own).unwrap();
            assert_eq!(trust.read().unwrap(), Some(mate));
        }
        std::fs::write(directory.file(MATE), "nobody").unwrap();
        let refused = trust.read().unwrap_err().to_string();
        assert!(refused.contains("pair/mate holds no fingerprint: 'n' is no"), "{refused}");
    }
}
