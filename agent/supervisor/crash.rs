//! A panic of any thread or task ends the process, with a report, instead of leaving it half alive.
//!
//! Rust would end the thread alone, and tokio the task alone: an agent that goes on without its store or
//! without one of its targets looks alive and is not.

use std::{
    backtrace::Backtrace,
    panic::{self, PanicHookInfo},
    path::PathBuf,
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use jiff::Timestamp;

use super::{
    end, hang, lines,
    report::{Cause, Report},
    threads,
};

/// How long writing the report may take: the disk may be what failed.
const PATIENCE: Duration = Duration::from_secs(2);

/// Has each panic from now on end the process.
pub fn end_on_panic(state_dir: PathBuf, agent: String) {
    let started = Instant::now();
    let said = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        static FIRST: AtomicBool = AtomicBool::new(true);
        if !FIRST.swap(false, Ordering::Relaxed) {
            // The first one ends the process, soon.
            thread::sleep(2 * PATIENCE);
            end::abort();
        }
        // On standard error, as ever.
        said(info);
        let at = Timestamp::now();
        let report = Report {
            format: 1,
            agent: agent.clone(),
            version: env!("CARGO_PKG_VERSION"),
            pid: std::process::id(),
            at: at.to_string(),
            up_seconds: started.elapsed().as_secs(),
            cause: cause(info),
            parts: Vec::new(),
            state: serde_json::Value::Null,
            threads: threads::all(),
            log: lines::last(),
        };
        let state_dir = state_dir.clone();
        let (done, written) = mpsc::channel();
        let write = move || {
            match report.write(&state_dir, at) {
                Ok(path) => eprintln!("evenkeel: what is known of it is in {}", path.display()),
                Err(error) => eprintln!("evenkeel: no report can be written: {error}"),
            }
            let _ = done.send(());
        };
        if thread::Builder::new().name("report".to_owned()).spawn(write).is_ok() {
            let _ = written.recv_timeout(PATIENCE);
        }
        hang::has_said();
        end::abort();
    }));
}

fn cause(info: &PanicHookInfo<'_>) -> Cause {
    let location = info.location().map(ToString::to_string).unwrap_or_default();
    let backtrace = Backtrace::force_capture().to_string();
    Cause::Panic {
        thread: thread::current().name().unwrap_or_default().to_owned(),
        message: message(info).to_owned(),
        location,
        backtrace: backtrace.lines().map(|line| line.trim().to_owned()).collect(),
    }
}

/// What was said: a literal, or a text that was made.
fn message<'a>(info: &'a PanicHookInfo<'_>) -> &'a str {
    let said = info.payload();
    match (said.downcast_ref::<&'static str>(), said.downcast_ref::<String>()) {
        (Some(literal), _) => literal,
        (None, Some(made)) => made,
        (None, None) => "a value that is no text",
    }
}

#[cfg(test)]
mod tests {
    use std::{env, fs, os::unix::process::ExitStatusExt, process::Command};

    use super::*;
    use crate::supervisor::report::DIRECTORY;

    /// Names the state directory to the process that is to panic.
    const STATE: &str = "EVENKEEL_TEST_STATE";

    /// The process that is to panic, started by the test below; by itself it does nothing.
    #[test]
    fn panics_in_a_task() {
        let Some(state) = env::var_os(STATE) else { return };
        end_on_panic(state.into(), "keel-1".to_owned());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build();
        let task = async { panic!("a mistake of number {}", 7) };
        let _ = runtime.unwrap().block_on(async { tokio::spawn(task).await });
        unreachable!("tokio would have gone on here");
    }

    #[test]
    fn pair_10_a_panic_of_a_task_ends_the_process_with_a_report() {
        let dir = tempfile::tempdir().unwrap();
        let itself = env::current_exe().unwrap();
        let test = "supervisor::crash::tests::panics_in_a_task";
        let mut command = Command::new(itself);
        let ended = command.args(["--exact", test]).env(STATE, dir.path()).output().unwrap();
        assert_eq!(ended.status.signal(), Some(libc::SIGABRT), "{ended:?}");
        let mut files = fs::read_dir(dir.path().join(DIRECTORY)).unwrap();
        let path = files.next().unwrap().unwrap().path();
        assert!(path.to_str().unwrap().ends_with("-panic.json"));
        let report: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        assert_eq!(report["cause"]["message"], "a mistake of number 7");
        assert!(report["cause"]["location"].as_str().unwrap().contains("crash.rs"));
        let backtrace = report["cause"]["backtrace"].as_array().unwrap();
        let names_it = |line: &serde_json::Value| {
            line.as_str().is_some_and(|line| line.contains("panics_in_a_task"))
        };
        assert!(backtrace.iter().any(names_it), "{backtrace:?}");
        assert!(!report["threads"].as_array().unwrap().is_empty());
    }
}
