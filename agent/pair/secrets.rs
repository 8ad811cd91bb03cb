//! The secrets of the last connections of the state channel, on the disk, so that an agent that starts
//! again can be heard on the heartbeat paths alone. [`super::seal`] says why, and why that is sound.
//!
//! Each has the fingerprint of the mate that it is shared with: if another one is trusted meanwhile, it
//! is of no use.

use evenkeel_core::pair::term::Slot;

use super::{
    directory::{Directory, DirectoryError},
    keys::Fingerprint,
    seal::{SECRETS, Seals, Secret},
    trust::Trust,
};

const FILE: &str = "secrets";

/// The keys of the heartbeat datagrams of an agent that starts, with what is kept for its mate.
pub fn seals(directory: &Directory, slot: Slot) -> Seals {
    // Whatever can't be read is told by who reads it next: the state channel.
    let mate = Trust::of(directory).read().ok().flatten();
    Seals::new(slot, read(directory, mate).unwrap_or_default())
}

/// Reads the secrets that are shared with this mate, the newest first. A file that can't be understood
/// holds none: the next connection makes a new one.
///
/// # Errors
///
/// It can't be read.
fn read(directory: &Directory, mate: Option<Fingerprint>) -> Result<Vec<Secret>, DirectoryError> {
    let text = directory.read(FILE)?.unwrap_or_default();
    let secrets = text.lines().filter_map(|line| {
        let (of, octets) = line.split_once(' ')?;
        let of: Fingerprint = of.parse().ok()?;
        // 32 octets in hexadecimal digits, as a fingerprint has them.
        let Fingerprint(octets) = octets.parse().ok()?;
        (Some(of) == mate).then(|| Secret::new(octets, of))
    });
    Ok(secrets.take(SECRETS).collect())
}

/// Writes them in place of those before.
///
/// # Errors
///
/// They can't be written.
pub fn write(directory: &Directory, secrets: &[Secret]) -> Result<(), DirectoryError> {
    let line = |secret: &Secret| format!("{} {}\n", secret.mate(), Fingerprint(*secret.octets()));
    directory.replace(FILE, &secrets.iter().map(line).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_kept_for_the_mate_that_they_are_shared_with() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::of(dir.path());
        let [one, two] = [1, 2].map(|octet| Fingerprint([octet; 32]));
        assert_eq!(read(&directory, Some(one)).unwrap(), []);
        let secrets = [Secret::new([3; 32], one), Secret::new([4; 32], one)];
        write(&directory, &secrets).unwrap();
        assert_eq!(read(&directory, Some(one)).unwrap(), secrets);
        assert_eq!(read(&directory, Some(two)).unwrap(), []);
        assert_eq!(read(&directory, None).unwrap(), []);
        std::fs::write(directory.file(FILE), "what?\n\n1 2 3").unwrap();
        assert_eq!(read(&directory, Some(one)).unwrap(), []);
    }
}
