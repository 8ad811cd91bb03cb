//! Files that the configuration names beside itself: by patterns of names, and read as far as they may
//! be long.

use std::{
    fmt,
    fs::{File, Metadata, OpenOptions},
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use crate::config::Wrong;

/// The octets of a file, at most one more than it may have. Not what could keep us waiting, such as a
/// pipe.
///
/// # Errors
///
/// It can't be read, or is no regular file.
pub fn read(path: &Path, longest: u64) -> io::Result<(Vec<u8>, Metadata)> {
    let file: File = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut bytes = Vec::new();
    file.take(longest + 1).read_to_end(&mut bytes)?;
    Ok((bytes, metadata))
}

/// The name of a file, or of several: a `*` in its last part stands for any characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FilePattern {
    directory: PathBuf,
    name: String,
}

impl FilePattern {
    /// The pattern of this text; a relative one starts at `base`.
    ///
    /// # Errors
    ///
    /// It can't be the name of a file.
    pub fn new(base: &Path, text: &str) -> Result<FilePattern, Wrong> {
        if text.contains('\0') {
            return Err(Wrong::new("a path can't hold a NUL byte"));
        }
        let (directory, name) = text.rsplit_once('/').unwrap_or(("", text));
        if directory.contains('*') {
            return Err(Wrong::new("a * can stand in the last part of the name only")
                .help("write a line for each directory"));
        }
        if name.is_empty() {
            return Err(Wrong::new("the name of the file is missing"));
        }
        let directory = match text.starts_with('/') {
            true => PathBuf::from(format!("{directory}/")),
            false => base.join(directory),
        };
        // Where the agent runs does not change, and messages should say which file is meant.
        let directory = std::path::absolute(&directory).unwrap_or(directory);
        Ok(FilePattern { directory, name: name.to_owned() })
    }

    /// The directory that its files are in.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The one file that it names, if it has no `*`.
    pub fn one_file(&self) -> Option<PathBuf> {
        (!self.name.contains('*')).then(|| self.directory.join(&self.name))
    }

    /// Whether it names this file.
    pub fn matches(&self, path: &Path) -> bool {
        let name = path.file_name().and_then(|name| name.to_str());
        path.parent() == Some(&self.directory) && name.is_some_and(|name| self.matches_name(name))
    }

    /// Whether it names a file of this name in its directory. A `*` at the start is for no hidden
    /// file, as in a shell: editors keep their copies in such.
    fn matches_name(&self, name: &str) -> bool {
        let hidden = name.starts_with('.') && self.name.starts_with('*');
        !hidden && matches_stars(self.name.as_bytes(), name.as_bytes())
    }

    /// The files that there are, in the order of their names. A directory that is not there has none.
    ///
    /// # Errors
    ///
    /// The directory can't be read.
    pub fn files(&self) -> io::Result<Vec<PathBuf>> {
        let absent = |error: &io::Error| {
            matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
        };
        if let Some(path) = self.one_file() {
            // What a symbolic link points at may be gone, or not be there yet.
            return match std::fs::metadata(&path) {
                Ok(_) => Ok(vec![path]),
                Err(error) if absent(&error) => Ok(Vec::new()),
                Err(error) => Err(error),
            };
        }
        let entries = match std::fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if absent(&error) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut files = Vec::new();
        for entry in entries {
            let name = entry?.file_name();
            if name.to_str().is_some_and(|name| self.matches_name(name)) {
                let path = self.directory.join(name);
                match std::fs::metadata(&path) {
                    Ok(metadata) if metadata.is_dir() => {}
                    Err(error) if absent(&error) => {}
                    // One that can't be looked at is there; reading it will say what is wrong.
                    _ => files.push(path),
                }
            }
        }
        files.sort();
        Ok(files)
    }
}

impl fmt::Display for FilePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.directory.join(&self.name).display().fmt(f)
    }
}

/// Whether a pattern whose `*` stand for any characters matches all of a name.
fn matches_stars(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut next) = (0, 0);
    // Where the last star was, and how much of the name it has taken.
    let mut star: Option<(usize, usize)> = None;
    while next < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, next));
                at += 1;
            }
            Some(byte) if *byte == name[next] => (at, next) = (at + 1, next + 1),
            _ => match star {
                Some((starred, taken)) => {
                    star = Some((starred, taken + 1));
                    (at, next) = (starred + 1, taken + 1);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_name_what_prometheus_would_find() {
        let pattern = |text: &str| FilePattern::new(Path::new("/etc/evenkeel"), text);
        assert_eq!(pattern("peers/*.json").unwrap().to_string(), "/etc/evenkeel/peers/*.json");
        assert_eq!(
            pattern("a.yml").unwrap().one_file(),
            Some(PathBuf::from("/etc/evenkeel/a.yml"))
        );
        assert_eq!(pattern("/a.yml").unwrap().directory(), Path::new("/"));
        for bad in ["", "/etc/*/a.json", "links/", "a\0.json"] {
            assert!(pattern(bad).is_err(), "{bad}");
        }
        let star = pattern("/srv/p*-*.json").unwrap();
        for (path, matches) in [
            ("/srv/p-.json", true),
            ("/srv/peers-a-b.json", true),
            ("/srv/peers.json", false),
            ("/srv/peers-a.json.bak", false),
            ("/srv/x/p-a.json", false),
            ("/other/p-a.json", false),
        ] {
            assert_eq!(star.matches(Path::new(path)), matches, "{path}");
        }
        assert!(!pattern("/srv/*.json").unwrap().matches(Path::new("/srv/.core.json")));
    }

    #[test]
    fn what_is_read_ends_one_octet_behind_the_longest() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        std::fs::write(&path, "12345").unwrap();
        assert_eq!(read(&path, 5).unwrap().0, b"12345");
        assert_eq!(read(&path, 3).unwrap().0, b"1234");
        assert!(read(dir.path(), 5).is_err(), "no regular file");
    }
}
