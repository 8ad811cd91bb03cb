//! What the kernel says of this process's threads (proc(5)).

use std::{fs, path::Path};

use serde::Serialize;

/// One thread. What may not be read is left out: the stack in the kernel takes CAP_SYS_ADMIN.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Thread {
    /// Its id.
    pub id: i32,
    /// Its name.
    pub name: String,
    /// Its state, as ps(1) has it: `R` runs, `S` sleeps, `D` waits for a disk, `t` is being traced.
    pub state: String,
    /// What it waits for in the kernel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wchan: Option<String>,
    /// The system call that it is in, by its number and arguments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub syscall: Option<String>,
    /// Its stack in the kernel, the innermost function first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stack: Vec<String>,
    /// How long it has run on a CPU, in milliseconds, and
    pub ran_ms: u64,
    /// how long it has waited for one.
    pub waited_ms: u64,
}

/// All threads of this process, in the order of their ids.
pub fn all() -> Vec<Thread> {
    let Ok(tasks) = fs::read_dir("/proc/self/task") else { return Vec::new() };
    let ids = tasks.filter_map(|task| task.ok()?.file_name().to_str()?.parse().ok());
    let mut ids: Vec<i32> = ids.collect();
    ids.sort_unstable();
    ids.into_iter().filter_map(look).collect()
}

/// One thread; nothing if it is gone.
fn look(id: i32) -> Option<Thread> {
    let dir = Path::new("/proc/self/task").join(id.to_string());
    let read = |name: &str| fs::read_to_string(dir.join(name)).ok();
    let line = |name: &str| {
        let text = read(name)?.trim().to_owned();
        (!text.is_empty() && text != "0").then_some(text)
    };
    let stat = read("stat")?;
    let schedstat = read("schedstat").unwrap_or_default();
    let mut spent =
        schedstat.split_whitespace().map(|nanos| nanos.parse::<u64>().unwrap_or(0) / 1_000_000);
    Some(Thread {
        id,
        name: line("comm").unwrap_or_default(),
        state: state(&stat).to_owned(),
        wchan: line("wchan"),
        syscall: line("syscall"),
        stack: read("stack")
            .unwrap_or_default()
            .lines()
            .map(|line| frame(line).to_owned())
            .collect(),
        ran_ms: spent.next().unwrap_or(0),
        waited_ms: spent.next().unwrap_or(0),
    })
}

/// Whether a thread runs, or would if it had a CPU.
pub fn is_running(id: i32) -> bool {
    fs::read_to_string(format!("/proc/self/task/{id}/stat")).is_ok_and(|stat| state(&stat) == "R")
}

/// The state in a line of /proc/*/stat: behind the name, which may hold anything.
fn state(stat: &str) -> &str {
    let behind = stat.rsplit_once(')').map_or("", |(_, behind)| behind);
    behind.split_whitespace().next().unwrap_or("?")
}

/// A line of the stack without its address, which is hidden anyway.
fn frame(line: &str) -> &str {
    line.split_once(' ').map_or(line, |(_, frame)| frame)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_stands_behind_a_name_that_may_hold_anything() {
        assert_eq!(state("12 (a) R (b) S) D 1 2 3"), "D");
        assert_eq!(state(""), "?");
        assert_eq!(frame("[<0>] fdatasync+0x1/0x2"), "fdatasync+0x1/0x2");
    }

    #[test]
    fn this_thread_is_among_those_of_this_process_and_runs() {
        // SAFETY: has no preconditions.
        let me = unsafe { libc::gettid() };
        assert!(is_running(me));
        let threads = all();
        let mine = threads.iter().find(|thread| thread.id == me).unwrap();
        assert_eq!(mine.state, "R");
        assert!(!mine.name.is_empty());
    }
}
