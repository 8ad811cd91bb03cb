//! The task of one notification target: does what its [`Machine`] says, with one socket.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use evenkeel_core::time::Time;
use tokio::{
    net::UdpSocket,
    sync::watch,
    task::spawn_blocking,
    time::{Instant, sleep_until},
};

use super::{
    Surroundings, Target, lock,
    machine::{Action, Machine, Read, Source},
};
use crate::clock::{BootClock, Clock};

/// How long a cursor that has moved on may go without being kept while there is more to do: what a
/// crash of the process repeats.
const KEEP: Duration = Duration::from_millis(100);

/// What an answer may have: it repeats the whole inform.
const LONGEST: usize = 65_536;

/// How many answers are read before the next datagram is sent.
const ANSWERS: usize = 64;

/// Runs until the store ends, or the task is aborted.
pub async fn run(target: Target, machine: Arc<Mutex<Machine>>, around: Surroundings) {
    let cursors = cursors(&machine);
    let mut task = Task {
        machine,
        around,
        clock: Steady::new(),
        socket: None,
        buffer: vec![0; if target.acknowledges() { LONGEST } else { 64 }],
        kept: (cursors, Instant::now()),
        spool_ended: false,
        target,
    };
    while task.step().await.is_some() {}
}

struct Task {
    target: Target,
    machine: Arc<Mutex<Machine>>,
    around: Surroundings,
    clock: Steady,
    socket: Option<UdpSocket>,
    buffer: Vec<u8>,
    /// The cursors that were last kept, and when.
    kept: ((u64, Option<u64>), Instant),
    spool_ended: bool,
}

impl Task {
    /// Does one thing. Nothing once the store has ended, and so does the agent.
    async fn step(&mut self) -> Option<()> {
        // PAIR-17: what may not be said now waits, whatever is due.
        self.around.gate.opened(BootClock::now).await;
        // Before the machine is asked, so that what comes meanwhile wakes us again.
        let committed = *self.around.committed.borrow_and_update();
        let spooled = *self.around.spooled.borrow_and_update();
        let (action, changes) = {
            let mut machine = lock(&self.machine);
            machine.told(committed, spooled);
            (machine.next(self.clock.now()), machine.take_changes())
        };
        for change in changes {
            // Nobody listens any more when the agent stops.
            let _ = self.around.reach.send(change);
        }
        self.keep_cursors(matches!(action, Action::Wait(_)));
        match action {
            Action::Send { datagram, afresh } => {
                if afresh {
                    self.socket = None;
                }
                if let Err(error) = self.send(&datagram).await {
                    self.drop_socket_after(&error);
                    lock(&self.machine).not_taken(error.to_string(), self.clock.now());
                }
                self.hear_what_came();
            }
            Action::Read(read) => self.read(read).await,
            Action::Wait(until) => return self.wait(until).await,
        }
        Some(())
    }

    async fn wait(&mut self, until: Option<Time>) -> Option<()> {
        let until = until.map(|until| self.clock.instant(until));
        tokio::select! {
            changed = self.around.committed.changed() => return changed.ok(),
            changed = changed(&mut self.around.spooled), if !self.spool_ended => {
                self.spool_ended = changed.is_none();
            }
            heard = receive(self.socket.as_ref(), &mut self.buffer) => self.heard(heard),
            () = sleep(until) => {}
        }
        Some(())
    }

    async fn send(&mut self, datagram: &[u8]) -> io::Result<()> {
        let socket = match self.socket.take() {
            Some(socket) => socket,
            None => {
                let socket = connect(self.target.address).await?;
                if let Ok(local) = socket.local_addr() {
                    lock(&self.machine).set_local(local.ip());
                }
                socket
            }
        };
        // This task may have stood still since it was asked first.
        self.around.gate.opened(BootClock::now).await;
        let sent = socket.send(datagram).await;
        self.socket = Some(socket);
        sent.map(drop)
    }

    /// So that answers are not held up while there is more to send at once.
    fn hear_what_came(&mut self) {
        for _ in 0..ANSWERS {
            let Some(socket) = &self.socket else { return };
            match socket.try_recv(&mut self.buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                heard => self.heard(heard),
            }
        }
    }

    fn heard(&mut self, heard: io::Result<usize>) {
        let now = self.clock.now();
        match heard {
            Ok(length) => lock(&self.machine).heard(&self.buffer[..length], now),
            Err(error) => {
                self.drop_socket_after(&error);
                lock(&self.machine).failed(error.to_string(), now);
            }
        }
    }

    /// A port unreachable says nothing against the socket, and answers to it may still come. After any
    /// other error its source address may be gone from this host.
    fn drop_socket_after(&mut self, error: &io::Error) {
        if error.kind() != io::ErrorKind::ConnectionRefused {
            self.socket = None;
        }
    }

    async fn read(&mut self, read: Read) {
        let failed = match read.source {
            Source::Journal => {
                let journal = Arc::clone(&self.around.journal);
                match blocking(move || journal.after(read.after, read.limit)).await {
                    Ok(rows) => {
                        lock(&self.machine).read_alarms(read, rows);
                        return;
                    }
                    Err(error) => format!("the journal can't be read: {error}"),
                }
            }
            Source::Spool => {
                let (spool, name) = (Arc::clone(&self.around.spool), self.target.name.clone());
                match blocking(move || spool.after(read.after, read.limit, &name)).await {
                    Ok((entries, up_to)) => {
                        let now = self.clock.now();
                        lock(&self.machine).read_forwarded(read, entries, up_to, now);
                        return;
                    }
                    Err(error) => format!("the spool can't be read: {error}"),
                }
            }
        };
        lock(&self.machine).read_failed(failed, self.clock.now());
    }

    /// Keeps cursors that have moved on: when there is nothing else to do, and now and then.
    fn keep_cursors(&mut self, idle: bool) {
        let (alarms, forwarded) = cursors(&self.machine);
        let (kept, at) = &mut self.kept;
        if (alarms, forwarded) == *kept || !(idle || at.elapsed() >= KEEP) {
            return;
        }
        if alarms != kept.0 {
            self.around.journal.set_cursor(&self.target.name, alarms);
        }
        if let Some(cursor) = forwarded.filter(|_| forwarded != kept.1) {
            self.around.spool.set_cursor(&self.target.name, cursor);
        }
        self.kept = ((alarms, forwarded), Instant::now());
    }
}

fn cursors(machine: &Mutex<Machine>) -> (u64, Option<u64>) {
    // One guard: two in one expression would wait for each other.
    let machine = lock(machine);
    (machine.cursor(), machine.forwarded_cursor())
}

async fn blocking<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    spawn_blocking(read).await.map_err(|error| error.to_string())?
}

/// Nothing when it can't change any more.
async fn changed(watched: &mut watch::Receiver<u64>) -> Option<()> {
    watched.changed().await.ok()
}

async fn receive(socket: Option<&UdpSocket>, buffer: &mut [u8]) -> io::Result<usize> {
    match socket {
        Some(socket) => socket.recv(buffer).await,
        None => std::future::pending().await,
    }
}

async fn sleep(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until).await,
        None => std::future::pending().await,
    }
}

async fn connect(address: SocketAddr) -> io::Result<UdpSocket> {
    let any: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(address).await?;
    Ok(socket)
}

/// The monotonic clock as tokio's timers have it, in the core's terms: in a test with tokio's clock
/// held, it is held too.
struct Steady {
    origin: (Time, Instant),
}

impl Steady {
    fn new() -> Steady {
        Steady { origin: (Clock::now(), Instant::now()) }
    }

    fn now(&self) -> Time {
        self.origin.0 + self.origin.1.elapsed()
    }

    fn instant(&self, at: Time) -> Instant {
        self.origin.1 + at.since(self.origin.0)
    }
}

/// The task around the machine, over loopback.
#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use evenkeel_core::{
        alarm::{AlarmEvent, Severity},
        ber::tag,
        message,
        notification::Start,
        sender::{Destination, Version},
        trap::{Form, Trap},
    };
    use tokio::{
        sync::mpsc,
        time::{sleep, timeout},
    };

    use super::*;
    use crate::gate::Gate;
    use crate::notifier::{
        Found, Journal, Notifier, Reach, Spool,
        simulation::{event, identity, target as any_target},
    };

    const PATIENCE: Duration = Duration::from_secs(20);

    /// A journal in memory, whose rows are numbered from 1, with nothing spooled.
    #[derive(Default)]
    struct Rows {
        rows: Mutex<Vec<AlarmEvent>>,
        cursors: Mutex<BTreeMap<String, u64>>,
    }

    impl Journal for Rows {
        fn after(&self, seq: u64, limit: usize) -> Result<Vec<(u64, AlarmEvent)>, String> {
            let rows = self.rows.lock().unwrap();
            Ok((1..).zip(rows.iter().cloned()).filter(|(n, _)| *n > seq).take(limit).collect())
        }

        fn cursor(&self, target: &str) -> Option<u64> {
            self.cursors.lock().unwrap().get(target).copied()
        }

        fn set_cursor(&self, target: &str, seq: u64) {
            self.cursors.lock().unwrap().insert(target.to_owned(), seq);
        }
    }

    impl Spool for Rows {
        fn after(&self, number: u64, _: usize, _: &str) -> Result<Found, String> {
            Ok((vec![], number))
        }

        fn cursor(&self, _: &str) -> Option<u64> {
            None
        }

        fn set_cursor(&self, _: &str, _: u64) {}
    }

    /// A journal, and the store's word of how far it is.
    struct Store {
        rows: Arc<Rows>,
        committed: watch::Sender<u64>,
        reach: mpsc::UnboundedReceiver<Reach>,
        around: Surroundings,
    }

    impl Store {
        fn new() -> Store {
            let rows: Arc<Rows> = Arc::default();
            let committed = watch::Sender::new(0);
            let (sender, reach) = mpsc::unbounded_channel();
            let around = Surroundings {
                journal: rows.clone(),
                committed: committed.subscribe(),
                spool: rows.clone(),
                spooled: watch::channel(0).1,
                identity: Arc::new(identity()),
                reach: sender,
                gate: Gate::alone(),
            };
            Store { rows, committed, reach, around }
        }

        fn add(&self, alarms: usize) {
            let mut rows = self.rows.rows.lock().unwrap();
            for _ in 0..alarms {
                let id = rows.len() as u64 + 1;
                rows.push(event(id, 1, Severity::Major, false));
            }
            self.committed.send_replace(rows.len() as u64);
        }

        /// A sender that has told its start.
        async fn notifier(&self, targets: Vec<(Target, &UdpSocket)>) -> Notifier {
            let (targets, listeners): (Vec<_>, Vec<_>) = targets.into_iter().unzip();
            let notifier = Notifier::new(self.around.clone(), targets, Start::Warm);
            for nms in listeners {
                assert_eq!(next(nms).await, None, "the start is told first");
            }
            notifier
        }

        fn cursor(&self, target: &str) -> Option<u64> {
            Journal::cursor(&*self.rows, target)
        }
    }

    fn target(name: &str, at: &UdpSocket, confirmed: bool) -> Target {
        Target {
            name: name.to_owned(),
            address: at.local_addr().unwrap(),
            destination: Destination {
                version: Version::V2c { community: b"public".to_vec() },
                confirmed,
            },
            timeout: Duration::from_millis(100),
            retries: 0,
            ..any_target(confirmed)
        }
    }

    async fn nms(address: &str) -> UdpSocket {
        UdpSocket::bind(address).await.unwrap()
    }

    /// The number of the next notification, or nothing for that of a start. An inform is answered.
    async fn next(nms: &UdpSocket) -> Option<u32> {
        let mut buffer = [0; 2000];
        let (length, from) = timeout(PATIENCE, nms.recv_from(&mut buffer)).await.unwrap().unwrap();
        let trap = Trap::decode(&buffer[..length]).unwrap();
        let request_id = trap.request_id.unwrap();
        if trap.form == Form::Inform {
            let response = message::pdu(tag::RESPONSE, request_id as i32, trap.varbinds);
            let response = message::community_message(1, b"public", &response);
            nms.send_to(&response, from).await.unwrap();
        }
        (request_id >> 29 != 3).then_some(request_id)
    }

    async fn eventually(what: &str, is: impl Fn() -> bool) {
        let waited = timeout(PATIENCE, async {
            while !is() {
                sleep(Duration::from_millis(5)).await;
            }
        });
        waited.await.expect(what);
    }

    #[tokio::test]
    async fn notifications_leave_in_order_to_each_target() {
        let store = Store::new();
        let (v4, v6) = (nms("127.0.0.1:0").await, nms("[::1]:0").await);
        let targets = vec![(target("four", &v4, true), &v4), (target("six", &v6, false), &v6)];
        let notifier = store.notifier(targets).await;
        store.add(5);
        for seq in 1..=5 {
            assert_eq!(next(&v4).await, Some(seq));
            assert_eq!(next(&v6).await, Some(seq));
        }
        eventually("the answers are heard", || store.cursor("four") == Some(5)).await;
        let stats = notifier.stats();
        assert_eq!((stats[0].name.as_str(), stats[0].form.as_str()), ("four", "v2c inform"));
        assert_eq!((stats[0].acknowledged, stats[0].lag), (6, 0));
        assert_eq!((stats[1].sent, stats[1].failed), (6, 0));
    }

    #[tokio::test]
    async fn pair_13_a_new_target_is_told_what_was_found_while_nobody_led() {
        let store = Store::new();
        let nms = nms("127.0.0.1:0").await;
        let targets = vec![target("new", &nms, true)];
        let mut notifier = Notifier::waiting(store.around.clone(), targets, Start::Warm);
        store.add(3);
        // What this agent had found is in the journal before the targets begin.
        store.add(2);
        notifier.lead(store.committed.subscribe(), watch::channel(0).1, 3);
        assert_eq!(next(&nms).await, None, "the start is told first");
        assert_eq!([next(&nms).await, next(&nms).await], [Some(4), Some(5)]);
        eventually("the answers are heard", || store.cursor("new") == Some(5)).await;
        // Once it has a place, that is where it goes on.
        notifier.follow();
        store.add(1);
        notifier.lead(store.committed.subscribe(), watch::channel(0).1, 6);
        assert_eq!(next(&nms).await, Some(6));
    }

    #[tokio::test]
    async fn trap_11_a_target_that_is_dead_is_told_and_holds_no_other_up() {
        for confirmed in [false, true] {
            let mut store = Store::new();
            let up = nms("127.0.0.1:0").await;
            let dead = nms("127.0.0.1:0").await;
            let down = target("down", &dead, confirmed);
            let address = dead.local_addr().unwrap();
            drop(dead);
            let mut notifier = store.notifier(vec![(target("up", &up, true), &up)]).await;
            notifier.set_targets(vec![target("up", &up, true), down.clone()]);
            store.add(3);
            for seq in 1..=3 {
                assert_eq!(next(&up).await, Some(seq));
            }
            let unreachable = async {
                loop {
                    let reach = store.reach.recv().await.unwrap();
                    if reach.unreachable.is_some() {
                        return reach;
                    }
                }
            };
            let reach = timeout(PATIENCE, unreachable).await.unwrap();
            assert_eq!(reach.name, "down");
            assert!(reach.unreachable.unwrap().contains("refused"));
            let stats = &notifier.stats()[0];
            assert!(!stats.reachable && stats.failed > 0 && stats.last_error.is_some());

            let back = UdpSocket::bind(address).await.unwrap();
            for seq in 1..=3 {
                assert_eq!(next(&back).await, Some(seq));
            }
            loop {
                let reach = timeout(PATIENCE, store.reach.recv()).await.unwrap().unwrap();
                if reach.name == "down" {
                    assert_eq!(reach.unreachable, None);
                    break;
                }
            }
        }
    }

    #[tokio::test]
    async fn the_cursor_follows_when_no_error_came_and_a_restart_goes_on_from_it() {
        let store = Store::new();
        let nms = nms("127.0.0.1:0").await;
        let target = target("nms", &nms, false);
        let notifier = store.notifier(vec![(target.clone(), &nms)]).await;
        store.add(2);
        assert_eq!(next(&nms).await, Some(1));
        assert_eq!(next(&nms).await, Some(2));
        assert_eq!(store.cursor("nms"), Some(0), "not before it has settled");
        eventually("the cursor follows", || store.cursor("nms") == Some(2)).await;
        store.add(1);
        assert_eq!(next(&nms).await, Some(3));
        // An orderly stop takes what was sent for settled.
        eventually("it was sent", || notifier.stats()[0].sent == 4).await;
        notifier.settle();
        assert_eq!(store.cursor("nms"), Some(3));
        drop(notifier);
        store.add(1);
        let _notifier = store.notifier(vec![(target, &nms)]).await;
        assert_eq!(next(&nms).await, Some(4));
    }

    #[tokio::test]
    async fn a_reload_starts_new_targets_at_the_end_and_stops_those_removed() {
        let store = Store::new();
        let (first, second) = (nms("127.0.0.1:0").await, nms("127.0.0.1:0").await);
        let one = target("one", &first, true);
        let two = target("two", &second, true);
        let mut notifier = store.notifier(vec![(one.clone(), &first)]).await;
        store.add(2);
        assert_eq!(next(&first).await, Some(1));
        assert_eq!(next(&first).await, Some(2));

        notifier.set_targets(vec![one.clone(), two.clone()]);
        assert_eq!(store.cursor("two"), Some(2));
        store.add(1);
        assert_eq!(next(&first).await, Some(3), "one that stays repeats nothing");
        assert_eq!(next(&second).await, Some(3));
        eventually("the answer is heard", || store.cursor("one") == Some(3)).await;

        let changed = Target { window: 1, ..one };
        notifier.set_targets(vec![changed, two.clone()]);
        store.add(1);
        assert_eq!(next(&first).await, Some(4), "one that changes goes on where it was");
        assert_eq!(next(&second).await, Some(4));

        notifier.set_targets(vec![two]);
        assert_eq!(notifier.stats().len(), 1);
        // Lets the aborted task end, so that it can't send any more.
        tokio::task::yield_now().await;
        store.add(1);
        assert_eq!(next(&second).await, Some(5));
        assert!(first.try_recv(&mut [0; 2000]).is_err());
    }
}
