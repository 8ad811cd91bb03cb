//! Single threads of a process that stand still while the others go on: held by ptrace(2), which is the one
//! means that the kernel has for that.

use std::{
    fs, io,
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread::{self, JoinHandle},
    time::Duration,
};

/// Threads that are held. They go on when this is dropped.
pub struct Frozen {
    thaw: Option<Sender<()>>,
    tracer: Option<JoinHandle<()>>,
}

impl Frozen {
    /// Holds all threads of a process that have this name, of which there must be one.
    pub fn threads(process: u32, name: &str) -> Frozen {
        let tasks = fs::read_dir(format!("/proc/{process}/task")).expect("it runs");
        let ids = tasks.map(|task| task.expect("readable").file_name());
        let ids = ids.map(|id| id.to_string_lossy().parse().expect("a number"));
        let named = |id: &i32| {
            fs::read_to_string(format!("/proc/{process}/task/{id}/comm"))
                .is_ok_and(|comm| comm.trim() == name)
        };
        let ids: Vec<i32> = ids.filter(named).collect();
        assert!(!ids.is_empty(), "process {process} has no thread {name}");
        let (thaw, thawed) = mpsc::channel::<()>();
        let (ready, held) = mpsc::channel();
        // Whoever attaches is the one thread that may let go, and must see them end.
        let tracer = thread::spawn(move || {
            ids.iter().for_each(|id| hold(*id));
            ready.send(()).expect("it waits");
            let mut held = ids;
            while thawed.recv_timeout(Duration::from_millis(5)) == Err(RecvTimeoutError::Timeout) {
                // One that has ended keeps its process from ending until it is seen.
                held.retain(|id| waited(*id, libc::WNOHANG) == 0);
            }
            for id in held {
                ptrace(libc::PTRACE_DETACH, id).expect("it is held");
            }
        });
        held.recv().expect("the threads are held");
        Frozen { thaw: Some(thaw), tracer: Some(tracer) }
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.thaw.take();
        if let Some(tracer) = self.tracer.take()
            && tracer.join().is_err()
            && !thread::panicking()
        {
            panic!("the threads were not let go");
        }
    }
}

fn hold(id: i32) {
    ptrace(libc::PTRACE_SEIZE, id).expect("root may");
    ptrace(libc::PTRACE_INTERRUPT, id).expect("it is held");
    assert_eq!(waited(id, 0), id, "{}", io::Error::last_os_error());
}

/// Waits for a change of a thread: gives its id, 0 if there is none, or less if it is gone.
fn waited(id: i32, options: i32) -> i32 {
    let mut status = 0;
    // SAFETY: the status lives until the call returns.
    unsafe { libc::waitpid(id, &raw mut status, options | libc::__WALL) }
}

fn ptrace(request: libc::c_uint, id: i32) -> io::Result<()> {
    // SAFETY: none of the requests made here reads or writes memory of ours.
    match unsafe { libc::ptrace(request, id, 0, 0) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
