//! Somebody on the path who sees, and keeps, every datagram between a device and the agent.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use super::{Ns, wire};

/// What went which way.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// From devices, in order.
    pub requests: Vec<Vec<u8>>,
    /// From the agent, in order.
    pub answers: Vec<Vec<u8>>,
}

/// Listens in place of the agent, and hands on what comes, both ways, or only keeps it.
pub struct Relay {
    seen: Arc<Mutex<Seen>>,
    hold: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// Listens on `at`; hands on to `agent` if there is one. One device at a time.
    pub fn start(ns: &Ns, at: &str, agent: Option<&str>) -> Relay {
        let agent: Option<SocketAddr> = agent.map(|agent| agent.parse().expect("an address"));
        let socket = ns.inside(|| UdpSocket::bind(at)).expect("a free port");
        socket.set_read_timeout(Some(Duration::from_millis(20))).expect("a time");
        let seen = Arc::<Mutex<Seen>>::default();
        let (hold, stop) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let (seen_too, hold_too, stop_too) = (seen.clone(), hold.clone(), stop.clone());
        let thread = thread::spawn(move || {
            let mut buffer = [0; 65536];
            let mut device = None;
            while !stop_too.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
                let datagram = buffer[..length].to_vec();
                let mut seen = seen_too.lock().expect("no panic while held");
                let to = if Some(from) == agent {
                    seen.answers.push(datagram);
                    device
                } else {
                    seen.requests.push(datagram);
                    device = Some(from);
                    let whose = wire::read_v3(&buffer[..length]);
                    let holds = hold_too.load(Ordering::Relaxed);
                    agent.filter(|_| !holds || whose.is_none_or(|head| head.flags & 1 == 0))
                };
                drop(seen);
                if let Some(to) = to {
                    socket.send_to(&buffer[..length], to).ok();
                }
            }
        });
        Relay { seen, hold, stop, thread: Some(thread) }
    }

    /// From now on keeps what is authenticated to itself, or hands it on again. What a sender asks
    /// before it sends is handed on all the same.
    pub fn hold(&self, hold: bool) {
        self.hold.store(hold, Ordering::Relaxed);
    }

    /// What was seen since this was asked last.
    pub fn take(&self) -> Seen {
        std::mem::take(&mut self.seen.lock().expect("no panic while held"))
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}
