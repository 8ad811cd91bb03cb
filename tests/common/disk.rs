//! A disk of a test's own, which can be made to stand still: a file system in a file, frozen as for a
//! snapshot (fsfreeze(8)). Whoever writes to it waits in the kernel, as for a disk that does not answer.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use super::process::output;

/// The disk, mounted until it is dropped.
pub struct Disk {
    mounted: PathBuf,
    _image: TempDir,
}

impl Disk {
    /// Makes one, and mounts it over this directory.
    pub fn over(directory: &Path) -> Disk {
        let image = TempDir::with_prefix("ek-disk-").expect("a temporary directory");
        let file = image.path().join("ext4");
        File::create(&file)
            .and_then(|file| file.set_len(512 << 20))
            .expect("it takes no room before it is written");
        output(Command::new("mkfs.ext4").arg("-q").arg(&file));
        output(Command::new("mount").args(["-o", "loop"]).arg(&file).arg(directory));
        Disk { mounted: directory.to_owned(), _image: image }
    }

    /// Has every write to it wait.
    pub fn freeze(&self) {
        output(Command::new("fsfreeze").arg("-f").arg(&self.mounted));
    }

    /// Lets all that waits go on.
    pub fn thaw(&self) {
        output(Command::new("fsfreeze").arg("-u").arg(&self.mounted));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // It may not be frozen, and files on it may still be open.
        Command::new("fsfreeze").arg("-u").arg(&self.mounted).output().ok();
        Command::new("umount").arg("-l").arg(&self.mounted).output().ok();
    }
}
