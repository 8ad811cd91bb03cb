//! The directory of the store: who may read it, who holds it, and where a damaged database goes.

use std::{
    ffi::OsString,
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use super::StoreError;

/// The database's name in its directory.
pub const DATABASE: &str = "evenkeel.db";

/// Makes the directory, if need be, and takes the lock on it, which ends with the file that is
/// given back.
///
/// # Errors
///
/// Another process holds it, or the directory can't be made or written.
pub fn claim(dir: &Path) -> Result<File, StoreError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| StoreError::Directory { path, source }
    };
    if !dir.is_dir() {
        DirBuilder::new().recursive(true).mode(0o750).create(dir).map_err(failed(dir))?;
        if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            sync(parent).map_err(failed(parent))?;
        }
    }
    let path = dir.join("lock");
    let mut lock = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o640)
        .open(&path)
        .map_err(failed(&path))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // A pid that can't be read spoils the message, not the refusal.
            let _ = lock.read_to_string(&mut holder);
            return Err(StoreError::Held { dir: dir.to_owned(), pid: holder.trim().to_owned() });
        }
        Err(TryLockError::Error(source)) => return Err(StoreError::Directory { path, source }),
    }
    // The pid is there to be shown to people; on a full disk the lock holds without it.
    let _ = lock
        .set_len(0)
        .and_then(|()| lock.rewind())
        .and_then(|()| writeln!(lock, "{}", std::process::id()));
    Ok(lock)
}

/// Makes an empty database file that others can't read, if there is none. Says whether it did.
/// SQLite gives the files beside it the same mode.
///
/// # Errors
///
/// The file can't be made.
pub fn make(path: &Path) -> io::Result<bool> {
    match OpenOptions::new().write(true).create_new(true).mode(0o640).open(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

/// Renames a damaged database and the files beside it, so that a new one can begin and the old one
/// can be looked at. Gives back the new name.
///
/// # Errors
///
/// A file can't be renamed.
pub fn set_aside(path: &Path, wall_ms: i64) -> io::Result<PathBuf> {
    let named = |path: &Path, suffix: &str| {
        let mut name = OsString::from(path);
        name.push(suffix);
        PathBuf::from(name)
    };
    // A second damage in the same second must not overwrite the first.
    let aside = (0..)
        .map(|n| named(path, &format!(".corrupt-{}", wall_ms / 1000 + n)))
        .find(|aside| !aside.exists())
        .unwrap_or_else(|| named(path, ".corrupt"));
    // The WAL before the database: a crash between the two must not leave a WAL beside a new
    // database that it does not belong to.
    for suffix in ["-shm", "-wal", ""] {
        match fs::rename(named(path, suffix), named(&aside, suffix)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            renamed => renamed?,
        }
    }
    Ok(aside)
}

/// Forces a directory's entries to the disk.
///
/// # Errors
///
/// The directory can't be opened or forced to the disk.
pub fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
