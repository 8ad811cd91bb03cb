//! How this process ends to be started again.
//!
//! Not by its orderly stop, which would wait for the part that does not move. What is on the disk is whole
//! at any moment, as after a power cut.

use std::{
    env,
    os::unix::process::CommandExt,
    process::{self, Command},
};

/// The exit code of an agent that ends as a part has stalled (`EX_SOFTWARE`, sysexits.h), which a service
/// manager shows.
pub const STALLED: i32 = 70;

/// Has this process started again: by its service manager, which then counts it and shows the exit code, or
/// where there is none by itself, in its place.
///
/// Every descriptor but the standard ones is closed by either, and every other thread is ended. One that
/// waits in the kernel for a disk ends when the disk lets it, and until then this does not happen.
pub fn restart() -> ! {
    // The unit has `Type=notify`. Other managers that start services again take the same process for it.
    if env::var_os("NOTIFY_SOCKET").is_none() {
        let mut words = env::args_os();
        let name = words.next().unwrap_or_default();
        // What runs, though another version may have been installed in its place: that is for an operator
        // to decide.
        let failed = Command::new("/proc/self/exe").arg0(name).args(words).exec();
        eprintln!("evenkeel: cannot start itself again: {failed}");
    }
    // SAFETY: ends the process at once, without running what others have registered for its end.
    unsafe { libc::_exit(STALLED) }
}

/// Ends this process by SIGABRT, which leaves a core where the system keeps them.
pub fn abort() -> ! {
    process::abort()
}
