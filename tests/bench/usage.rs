//! What a process has used, as the kernel says it (proc(5)).

use std::{fs, ops::Sub, time::Duration};

/// CPU time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cpu {
    /// In user space.
    pub user: Duration,
    /// In the kernel, on behalf of the process: that of answering its echoes among it, as a virtual
    /// cable delivers in the context of the sender.
    pub system: Duration,
}

impl Cpu {
    /// Both.
    pub fn total(self) -> Duration {
        self.user + self.system
    }

    /// That of a process with all its threads, in steps of 10 ms.
    pub fn of(pid: u32) -> Cpu {
        read(&format!("/proc/{pid}/stat"))
    }

    /// That of the calling thread.
    pub fn of_this_thread() -> Duration {
        let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
        Duration::from_nanos(text.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0))
    }

    /// That of the kernel's threads which take over when there are more packets than fit between.
    pub fn of_softirqs() -> Cpu {
        let is_one = |pid: &u32| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm"));
            name.is_ok_and(|name| name.starts_with("ksoftirqd/"))
        };
        // The kernel starts them first of all.
        (1..1000).filter(is_one).map(Cpu::of).fold(Cpu::default(), |sum, one| Cpu {
            user: sum.user + one.user,
            system: sum.system + one.system,
        })
    }

    /// That of children that have ended and were waited for.
    pub fn of_children() -> Cpu {
        // SAFETY: all zero is a valid value of this plain C structure, and it lives through the
        // call.
        let usage = unsafe {
            let mut usage: libc::rusage = std::mem::zeroed();
            libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage);
            usage
        };
        let time = |time: libc::timeval| {
            Duration::from_secs(time.tv_sec as u64) + Duration::from_micros(time.tv_usec as u64)
        };
        Cpu { user: time(usage.ru_utime), system: time(usage.ru_stime) }
    }

    /// That of each thread by its name, the busiest first.
    pub fn of_threads(pid: u32) -> Vec<(String, Cpu)> {
        let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        let mut threads: Vec<_> = threads
            .map(|thread| {
                let name = fs::read_to_string(thread.path().join("comm")).unwrap_or_default();
                let name = format!("{} {}", name.trim(), thread.file_name().display());
                (name, read(&thread.path().join("stat").display().to_string()))
            })
            .collect();
        threads.sort_by_key(|(_, cpu)| std::cmp::Reverse(cpu.total()));
        threads
    }
}

impl Sub for Cpu {
    type Output = Cpu;

    fn sub(self, before: Cpu) -> Cpu {
        Cpu {
            user: self.user.saturating_sub(before.user),
            system: self.system.saturating_sub(before.system),
        }
    }
}

/// One line of `stat`, or nothing of a process that has ended.
fn read(path: &str) -> Cpu {
    let line = fs::read_to_string(path).unwrap_or_default();
    // The name, which may hold anything, is in parentheses and comes second.
    let words: Vec<&str> = line.rsplit_once(") ").unwrap_or_default().1.split(' ').collect();
    let ticks = |at: usize| words.get(at).and_then(|word| word.parse().ok()).unwrap_or(0_u64);
    // Hundredths of a second on every Linux (USER_HZ).
    Cpu {
        user: Duration::from_millis(ticks(11) * 10),
        system: Duration::from_millis(ticks(12) * 10),
    }
}

/// How many octets of memory a process has in use (VmRSS), and had at most (VmHWM).
pub fn resident(pid: u32) -> (u64, u64) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
        line.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0) * 1024
    };
    (line("VmRSS:"), line("VmHWM:"))
}
