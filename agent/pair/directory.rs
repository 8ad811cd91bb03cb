//! The pair's directory, `<state_dir>/pair`: what an agent knows itself and its mate by. Only the user
//! that the agent runs as can read it.
//!
//! Whatever is written here is on the disk when the function returns, and is there whole or not at all.
//! The commands write it too, whether or not an agent runs; but not as another user than the agent, who
//! could then not read it.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

/// The name in the state directory.
const NAME: &str = "pair";

/// The directory of one agent, whether it is there or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    state_dir: PathBuf,
    path: PathBuf,
}

/// Why the directory, or a file in it, is of no use.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// It belongs to another user.
    #[error("{} belongs to {owner}, and this runs as {me}: run it as the user that the agent runs as \
             (sudo -u {owner} ...)", path.display())]
    Owner {
        /// What belongs to another.
        path: PathBuf,
        /// To whom.
        owner: String,
        /// Who runs this.
        me: String,
    },
    /// A file or directory is for another user alone.
    #[error("{} is for the user that the agent runs as alone: run it as that user", path.display())]
    NotAllowed {
        /// Which.
        path: PathBuf,
    },
    /// A file or directory can't be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file or directory can't be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Directory {
    /// The one in this state directory.
    pub fn of(state_dir: &Path) -> Directory {
        Directory { state_dir: state_dir.to_owned(), path: state_dir.join(NAME) }
    }

    /// The file of this name.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// What is in a file; nothing if it is not there.
    ///
    /// # Errors
    ///
    /// It can't be read.
    pub fn read(&self, name: &str) -> Result<Option<String>, DirectoryError> {
        let path = self.file(name);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                Err(DirectoryError::NotAllowed { path })
            }
            Err(source) => Err(DirectoryError::Read { path, source }),
        }
    }

    /// Makes the directory if it is not there, and the state directory with it.
    ///
    /// # Errors
    ///
    /// It can't be made, or belongs to another user.
    pub fn make(&self) -> Result<(), DirectoryError> {
        for (path, mode) in [(&self.state_dir, 0o750), (&self.path, 0o700)] {
            let failed = |source| DirectoryError::Write { path: path.clone(), source };
            if !path.is_dir() {
                let made = DirBuilder::new().recursive(true).mode(mode).create(path);
                made.map_err(failed)?;
                let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
                File::open(parent.unwrap_or(Path::new(".")))
                    .and_then(|parent| parent.sync_all())
                    .map_err(failed)?;
            }
            own(path)?;
        }
        Ok(())
    }

    /// Writes a file in place of the one before, if there is one.
    ///
    /// # Errors
    ///
    /// It can't be written; the one before is as it was.
    pub fn replace(&self, name: &str, text: &str) -> Result<(), DirectoryError> {
        self.make()?;
        let aside = self.aside(name, text)?;
        let path = self.file(name);
        let renamed = fs::rename(&aside, &path).and_then(|()| self.sync());
        renamed.map_err(|source| DirectoryError::Write { path, source })
    }

    /// Writes a file if there is none. Of two processes that do so at once, one does. Returns what is
    /// in the file then.
    ///
    /// # Errors
    ///
    /// It can't be written, or the one that is there can't be read.
    pub fn make_once(&self, name: &str, text: String) -> Result<String, DirectoryError> {
        self.make()?;
        let aside = self.aside(name, &text)?;
        let path = self.file(name);
        let linked = fs::hard_link(&aside, &path).and_then(|()| self.sync());
        let removed = fs::remove_file(&aside);
        match linked.and(removed) {
            Ok(()) => Ok(text),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.read(name)?.ok_or(DirectoryError::Read { path, source: error })
            }
            Err(source) => Err(DirectoryError::Write { path, source }),
        }
    }

    /// Writes a file beside the one of this name.
    fn aside(&self, name: &str, text: &str) -> Result<PathBuf, DirectoryError> {
        static NTH: AtomicU64 = AtomicU64::new(0);
        let nth = NTH.fetch_add(1, Ordering::Relaxed);
        let path = self.file(&format!("{name}.{}.{nth}.new", std::process::id()));
        let written = || {
            // What a process of this number left behind when it was killed.
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file =
                OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()
        };
        match written() {
            Ok(()) => Ok(path),
            Err(source) => Err(DirectoryError::Write { path: self.file(name), source }),
        }
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }
}

/// Refuses to go on in a directory of another user.
fn own(path: &Path) -> Result<(), DirectoryError> {
    let failed = |source| DirectoryError::Read { path: path.to_owned(), source };
    let owner = fs::metadata(path).map_err(failed)?.uid();
    // SAFETY: geteuid has no preconditions and can't fail (geteuid(2)).
    let me = unsafe { libc::geteuid() };
    if owner == me {
        return Ok(());
    }
    let path = path.to_owned();
    Err(DirectoryError::Owner { path, owner: user(owner), me: user(me) })
}

/// The name of a user, for people; the number, where /etc/passwd does not tell.
fn user(uid: u32) -> String {
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let named = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    named.unwrap_or_else(|| format!("#{uid}"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn only_the_agent_reads_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::of(&dir.path().join("state"));
        assert_eq!(directory.read("mate").unwrap(), None);
        directory.replace("mate", "one").unwrap();
        directory.replace("mate", "two").unwrap();
        assert_eq!(directory.read("mate").unwrap().as_deref(), Some("two"));
        assert_eq!(directory.make_once("mate", "three".to_owned()).unwrap(), "two");
        assert_eq!(directory.make_once("key", "four".to_owned()).unwrap(), "four");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&dir.path().join("state/pair")), 0o700);
        assert_eq!(mode(&directory.file("mate")), 0o600);
        assert_eq!(mode(&directory.file("key")), 0o600);
        assert_eq!(fs::read_dir(dir.path().join("state/pair")).unwrap().count(), 2);
    }

    #[test]
    fn what_belongs_to_another_user_is_told() {
        // SAFETY: geteuid has no preconditions and can't fail (geteuid(2)).
        if unsafe { libc::geteuid() } != 0 {
            // Nobody but root can give a directory away; then it is /, which is root's.
            let refused = Directory::of(Path::new("/")).make().unwrap_err().to_string();
            assert!(refused.contains("root"), "{refused}");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::chown(dir.path(), Some(65_533), None).unwrap();
        let refused = Directory::of(dir.path()).replace("mate", "x").unwrap_err().to_string();
        assert!(refused.contains("belongs to #65533, and this runs as root"), "{refused}");
        assert!(!dir.path().join("pair").exists());
    }
}
