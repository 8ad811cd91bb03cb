//! Processes that a test starts: none of them outlives it, and what fails says why.

use std::{
    process::{Child, Command, Output},
    thread,
    time::{Duration, Instant},
};

/// A child process that ends with its owner.
pub struct Guard(pub Child);

impl Guard {
    /// Starts it.
    pub fn spawn(command: &mut Command) -> Guard {
        Guard(command.spawn().unwrap_or_else(|error| {
            panic!("{command:?} does not start: {error}; does `tests/setup` say that all is there?")
        }))
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: i32) {
        let pid = i32::try_from(self.0.id()).expect("a process id");
        // SAFETY: a child that has not been waited for keeps its process id.
        let result = unsafe { libc::kill(pid, signal) };
        assert_eq!(result, 0, "signal {signal}: {}", std::io::Error::last_os_error());
    }

    /// Asks it to end, and kills it when it has not after this long. Says whether it ended when
    /// asked.
    pub fn end(&mut self, within: Duration) -> bool {
        if self.0.try_wait().is_ok_and(|status| status.is_some()) {
            return true;
        }
        self.signal(libc::SIGTERM);
        // One that a test has stopped with SIGSTOP would not hear it.
        self.signal(libc::SIGCONT);
        let until = Instant::now() + within;
        while Instant::now() < until {
            if self.0.try_wait().is_ok_and(|status| status.is_some()) {
                return true;
            }
            thread::sleep(Duration::from_millis(10));
        }
        // It may have ended by now, which is as good.
        self.0.kill().ok();
        self.0.wait().ok();
        false
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.end(Duration::from_secs(2));
    }
}

/// Runs a command to its end, which must be a good one, and gives its standard output.
pub fn output(command: &mut Command) -> String {
    let result = command.output().unwrap_or_else(|error| {
        panic!("{command:?} does not start: {error}; does `tests/setup` say that all is there?")
    });
    assert!(result.status.success(), "{command:?} failed:\n{}", both(&result));
    String::from_utf8_lossy(&result.stdout).into_owned()
}

/// What a command said, on both of its outputs.
fn both(result: &Output) -> String {
    let text = [&result.stdout[..], &result.stderr[..]].concat();
    String::from_utf8_lossy(&text).into_owned()
}

/// Waits until something is so, asking every 20 ms, and fails with what was waited for.
pub fn wait_until(what: &str, within: Duration, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + within;
    while !is_so() {
        assert!(Instant::now() < until, "waited {within:?} in vain for {what}");
        thread::sleep(Duration::from_millis(20));
    }
}
