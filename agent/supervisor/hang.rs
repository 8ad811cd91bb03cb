//! What a process that hangs as a whole leaves behind: systemd's watchdog ends it by SIGABRT, and in the
//! handler of that signal there is just time to write down the signs of life of all parts.
//!
//! Nothing can be relied on there, so it takes no lock and no memory (signal-safety(7)). The core that the
//! system may keep says more.

use std::{
    ffi::{CString, c_int},
    fmt::{self, Write},
    fs, io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    ptr,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use evenkeel_core::supervision::Part;
use jiff::Timestamp;

use super::{
    pulse,
    report::{DIRECTORY, FILE_TIME},
};

/// What the handler writes, until the next start gives it a name with its time.
const FILE: &str = "hang.json";

/// Where the handler writes to.
static PATH: OnceLock<CString> = OnceLock::new();

/// Whether there is nothing for the handler to say, as a panic has said it.
static SAID: AtomicBool = AtomicBool::new(false);

/// Has the next SIGABRT write down the parts' signs of life before it ends the process.
///
/// # Errors
///
/// The directory can't be made, or the kernel refuses the handler.
pub fn note_on_abort(state_dir: &Path) -> io::Result<()> {
    let dir = state_dir.join(DIRECTORY);
    fs::create_dir_all(&dir)?;
    let path = CString::new(dir.join(FILE).as_os_str().as_bytes())?;
    // The first one is for the life of the process.
    let _ = PATH.set(path);
    let handler: extern "C" fn(c_int) = note;
    // SAFETY: all of it is zero, which is an empty mask and no flag, before it is set.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as libc::sighandler_t;
    // Once: what it raises again ends the process.
    action.sa_flags = libc::SA_RESETHAND;
    // SAFETY: the action lives until the call returns; the handler only does what a handler may.
    match unsafe { libc::sigaction(libc::SIGABRT, &raw const action, ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A panic has written its report; the end that it makes needs no second one.
pub fn has_said() {
    SAID.store(true, Ordering::Relaxed);
}

extern "C" fn note(signal: c_int) {
    if let Some(path) = PATH.get().filter(|_| !SAID.load(Ordering::Relaxed)) {
        let mut text = Text { octets: [0; 4_096], length: 0 };
        // It is long enough, and what is cut off would be no harm.
        let _ = describe(&mut text);
        let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC | libc::O_CLOEXEC;
        // SAFETY: the path ends with a zero, and the buffer is as long as is said.
        unsafe {
            let file = libc::open(path.as_ptr(), flags, 0o640);
            if file >= 0 {
                libc::write(file, text.octets.as_ptr().cast(), text.length);
                libc::fsync(file);
                libc::close(file);
            }
        }
    }
    // SAFETY: the handler is no longer in place, so this ends the process when it returns.
    unsafe { libc::raise(signal) };
}

fn describe(text: &mut Text) -> fmt::Result {
    write!(text, "{{\"format\":1,\"cause\":{{\"kind\":\"hang\"}},\"parts\":[")?;
    let mut separator = "";
    for part in Part::ALL {
        let Some(sign) = pulse::sign(part) else { continue };
        let (name, thread) = (part.name(), pulse::thread(part).unwrap_or(0));
        let (signs, at_disk) = (sign.count, sign.at_disk);
        write!(
            text,
            "{separator}\n{{\"part\":\"{name}\",\"signs\":{signs},\"at_disk\":{at_disk},\
             \"thread\":{thread}}}"
        )?;
        separator = ",";
    }
    writeln!(text, "\n]}}")
}

/// Text of a bounded length, in place.
struct Text {
    octets: [u8; 4_096],
    length: usize,
}

impl Write for Text {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        let end = self.length + more.len();
        let room = self.octets.get_mut(self.length..end).ok_or(fmt::Error)?;
        room.copy_from_slice(more.as_bytes());
        self.length = end;
        Ok(())
    }
}

/// Gives what the handler of an earlier run has written a name with its time, among the reports.
pub fn take_up(dir: &Path) -> Option<PathBuf> {
    let file = dir.join(FILE);
    let written = fs::metadata(&file).ok()?.modified().ok()?;
    let at = Timestamp::try_from(written).ok()?;
    let path = dir.join(format!("{}-hang.json", at.strftime(FILE_TIME)));
    fs::rename(&file, &path).ok()?;
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_handler_writes_is_json_and_has_room() {
        let mut text = Text { octets: [0; 4_096], length: 0 };
        describe(&mut text).unwrap();
        let said: serde_json::Value = serde_json::from_slice(&text.octets[..text.length]).unwrap();
        assert_eq!(said["cause"]["kind"], "hang");
        // A line has some 100 octets.
        assert!(Part::COUNT * 120 + 100 < text.octets.len());
    }

    #[test]
    fn the_next_start_gives_it_a_name_with_its_time() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(take_up(dir.path()), None);
        fs::write(dir.path().join(FILE), "{}").unwrap();
        let path = take_up(dir.path()).unwrap();
        assert!(path.to_str().unwrap().ends_with("Z-hang.json"), "{}", path.display());
        assert_eq!(take_up(dir.path()), None);
    }
}
