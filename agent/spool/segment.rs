//! The files of the spool: their names, what they begin with, and how they are read.
//!
//! A segment is named after the first number that it may hold. It begins with a header that says
//! which boot of the host its monotonic times belong to, then come entries end to end. Behind the
//! last one the file is filled with zeros: it was made longer ahead of time, so that forcing an
//! entry to the disk need not make the file longer, which takes twice the time where little is
//! written at once.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, BufReader, Read, Seek, SeekFrom},
    os::{
        fd::AsRawFd,
        unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
};

use super::entry::{HEAD, Head};

/// What a segment begins with: a name, the version of the format, the boot id, a crc.
pub const HEADER: usize = 64;
const MAGIC: &[u8; 8] = b"evkspool";
const VERSION: u32 = 1;
/// Where the boot id is, which has 36 octets, and the crc of all before it.
const BOOT_ID: std::ops::Range<usize> = 12..60;
const CRC: std::ops::Range<usize> = 60..64;

/// How many octets are read at once.
const READ_AHEAD: usize = 256 << 10;

/// The path of the segment that begins with `first`.
pub fn path(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{first:020}.seg"))
}

/// The first numbers of all segments in `dir`, ascending. A directory that is not there has none.
///
/// # Errors
///
/// The directory can't be read.
pub fn list(dir: &Path) -> io::Result<Vec<u64>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".seg"));
        found.extend(
            number
                .filter(|digits| digits.len() == 20)
                .and_then(|digits| digits.parse::<u64>().ok()),
        );
    }
    found.sort_unstable();
    Ok(found)
}

/// Makes the directory, if need be, which others can't read: traps hold communities.
///
/// # Errors
///
/// It can't be made.
pub fn make_dir(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o750).create(dir)?;
    dir.parent().map_or(Ok(()), sync_dir)
}

/// Makes the segment that begins with `first`, over one without entries that a crash may have left,
/// and forces it and its name to the disk.
///
/// # Errors
///
/// It can't be made.
pub fn create(dir: &Path, first: u64, boot_id: &str, room: u64) -> io::Result<File> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o640)
        .open(path(dir, first))?;
    file.write_all_at(&header(boot_id), 0)?;
    // A file system that can't do this, or has no room for all of it, may have room for some.
    let _ = reserve(&file, room);
    file.sync_all()?;
    sync_dir(dir)?;
    Ok(file)
}

/// Forces a directory's entries to the disk.
///
/// # Errors
///
/// It can't be opened or forced to the disk.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    File::open(dir)?.sync_all()
}

/// Makes a file longer, with zeros, so that it really has this many octets of the disk.
fn reserve(file: &File, room: u64) -> io::Result<()> {
    let room = libc::off_t::try_from(room).map_err(io::Error::other)?;
    // SAFETY: the call takes no pointers, and the descriptor is open as long as `file` lives.
    let failed = unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, room) };
    if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn header(boot_id: &str) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..8].copy_from_slice(MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    let id = &boot_id.as_bytes()[..boot_id.len().min(BOOT_ID.len())];
    header[BOOT_ID.start..BOOT_ID.start + id.len()].copy_from_slice(id);
    let crc = crc32fast::hash(&header[..CRC.start]);
    header[CRC].copy_from_slice(&crc.to_le_bytes());
    header
}

/// What was found at a place of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// A whole entry with this number, whose body is [`SegmentReader::body`].
    Entry(u64),
    /// Nothing: the file ends, or zeros begin.
    End,
    /// Something that is no entry: a torn write, or damage.
    Bad,
}

/// Reads a segment from its beginning or from a place on.
#[derive(Debug)]
pub struct SegmentReader {
    file: BufReader<File>,
    /// Which segment.
    pub first: u64,
    /// Which boot of the host wrote it.
    pub boot_id: String,
    /// Where the next entry begins.
    pub offset: u64,
    /// The number of the entry before it, or one less than `first`.
    last: u64,
    body: Vec<u8>,
}

impl SegmentReader {
    /// Opens the segment that begins with `first`. Gives back nothing if its header is none, as after
    /// a crash while it was made.
    ///
    /// # Errors
    ///
    /// It can't be read, or a later version of the agent has written it.
    pub fn open(dir: &Path, first: u64) -> io::Result<Option<SegmentReader>> {
        let path = path(dir, first);
        let mut file = BufReader::with_capacity(READ_AHEAD, File::open(&path)?);
        let mut header = [0; HEADER];
        if !read_whole(&mut file, &mut header)? {
            return Ok(None);
        }
        let crc = crc32fast::hash(&header[..CRC.start]);
        if header[..8] != MAGIC[..] || header[CRC] != crc.to_le_bytes() {
            return Ok(None);
        }
        if header[8..12] != VERSION.to_le_bytes() {
            return Err(io::Error::other(format!(
                "{} is of another version of the agent: install that one again, or move the file away",
                path.display()
            )));
        }
        let id = header[BOOT_ID].split(|octet| *octet == 0).next().unwrap_or_default();
        let boot_id = String::from_utf8_lossy(id).into_owned();
        let last = first.saturating_sub(1);
        Ok(Some(SegmentReader {
            file,
            first,
            boot_id,
            offset: HEADER as u64,
            last,
            body: Vec::new(),
        }))
    }

    /// Goes to a place where an entry begins, behind the one with number `last`; whatever was read
    /// ahead is read again.
    ///
    /// # Errors
    ///
    /// The file can't be read.
    pub fn go_to(&mut self, offset: u64, last: u64) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(offset))?;
        (self.offset, self.last) = (offset, last);
        Ok(())
    }

    /// The number of the entry before the place where the reader is; one less than the first of the
    /// segment if it is at its beginning.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Reads the next entry. Where there is none, the reader stays where it is.
    ///
    /// # Errors
    ///
    /// The file can't be read.
    pub fn next(&mut self) -> io::Result<Found> {
        let (offset, last) = (self.offset, self.last);
        let mut head = [0; HEAD];
        if !read_whole(&mut self.file, &mut head)? {
            self.go_to(offset, last)?;
            return Ok(Found::End);
        }
        // Numbers go up: what is left of an earlier use of the place is no entry.
        let entry = Head::read(&head).filter(|entry| entry.number > last);
        if let Some(entry) = entry {
            self.body.resize(entry.length as usize, 0);
            if read_whole(&mut self.file, &mut self.body)? && entry.fits(&self.body) {
                self.offset += (HEAD + self.body.len()) as u64;
                self.last = entry.number;
                return Ok(Found::Entry(entry.number));
            }
        }
        self.go_to(offset, last)?;
        Ok(if head == [0; HEAD] { Found::End } else { Found::Bad })
    }

    /// The body of the last entry.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// All octets from the place where the reader is.
    ///
    /// # Errors
    ///
    /// The file can't be read.
    pub fn rest(&mut self) -> io::Result<Vec<u8>> {
        let mut rest = Vec::new();
        self.file.read_to_end(&mut rest)?;
        self.go_to(self.offset, self.last)?;
        Ok(rest)
    }
}

/// Fills the buffer; says whether there was enough.
fn read_whole(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match file.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}
