//! Sends notifications: a task for each notification target reads the journal behind its own
//! cursor and sends what it finds there, in order (TRAP-10, TRAP-12).
//!
//! ```text
//!            committed          taken by the kernel      no error for a second
//!   journal ──────────> waiting ───────────────────> sent ────────────────────> settled
//!                          ^                          │
//!                          └──── an error came ───────┘
//! ```
//!
//! SNMPv2 traps are not acknowledged: the most that can be known is that the kernel took the
//! datagram, and that no ICMP port unreachable came back. So the cursor that is kept on disk is
//! that of what is *settled*, and after an error or a crash the last second or so is sent again,
//! with the same alarm id and sequence number, by which an NMS can tell a repeat. What was lost on
//! the way, or at a host that is down and so answers nothing, is not noticed; that takes informs
//! (TRAP-11), which are missing here, as are v1 and v3 (TRAP-10) and the order by severity
//! (TRAP-13).

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use evenkeel_core::{
    alarm::AlarmEvent,
    mib::RootOid,
    notification::{Start, encode_start_v2c, encode_v2c, uptime_ticks},
};
use tokio::{
    net::UdpSocket,
    sync::watch,
    task::{AbortHandle, spawn_blocking},
    time::{Instant, sleep, sleep_until},
};

/// The time between two notifications to one target: 500 a second. snmptrapd with the cheapest
/// handler takes 800, without one 10,000, and 15,000 alarms at once (a site that fails) still
/// leave within half a minute.
const INTERVAL: Duration = Duration::from_millis(2);

/// How many may leave at once. A receiver with the default buffer of 212,992 octets, of which a
/// notification of this size takes 2,304, loses what goes beyond 92 while it doesn't read.
const BURST: u32 = 50;

/// How long no error may come for what was sent to be settled: longer than a round trip to
/// anywhere, and than a host takes to answer with a port unreachable.
const SETTLE: Duration = Duration::from_secs(1);

/// The first and the longest wait after an error. Thirty seconds is how late an NMS that came back
/// hears of what happened.
const FIRST_RETRY: Duration = Duration::from_millis(250);
const LAST_RETRY: Duration = Duration::from_secs(30);

/// How many rows are read from the journal at once: a fifth of a second's worth.
const ROWS: usize = 100;

/// Where notifications go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// What its cursor is kept under; unique, and the same over restarts and reloads.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// The community of the messages, at most
    /// [`MAX_COMMUNITY`](evenkeel_core::notification::MAX_COMMUNITY) octets.
    pub community: Vec<u8>,
}

/// What the sender asks of the store.
pub trait Journal: Send + Sync + 'static {
    /// The rows with a number above `seq`, in order, at most `limit`. May block; an error is told
    /// in the target's stats and the rows are asked for again.
    fn after(&self, seq: u64, limit: usize) -> Result<Vec<(u64, AlarmEvent)>, String>;
    /// The cursor that was kept for a target: the number of the last row that it was sent.
    fn cursor(&self, target: &str) -> Option<u64>;
    /// Keeps a cursor. Must not block; may be lost in a crash, and rows are sent again then.
    fn set_cursor(&self, target: &str, seq: u64);
}

/// What every notification says of its sender.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The root of the MIB.
    pub root: RootOid,
    /// The agent's name.
    pub agent_name: String,
    /// When the agent started, for sysUpTime.
    pub started: std::time::Instant,
}

/// How one target fares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetStats {
    /// Which one.
    pub name: String,
    /// Its address.
    pub address: SocketAddr,
    /// Datagrams that the kernel took, repeats included.
    pub sent: u64,
    /// Errors: of the socket, of the network as far as they came back, and of the journal.
    pub failed: u64,
    /// The last error, until something has settled after it.
    pub last_error: Option<String>,
    /// Journal rows that wait to be sent.
    pub lag: u64,
}

/// The sender of notifications to all targets. What runs stops when this is dropped.
pub struct Notifier<J> {
    journal: Arc<J>,
    committed: watch::Receiver<u64>,
    identity: Arc<Identity>,
    running: BTreeMap<String, Running>,
}

impl<J: Journal> Notifier<J> {
    /// A sender that goes on with `targets` where their cursors are, or at the end of the journal
    /// for one that has none. Each is told of the agent's start first. `committed` is the number
    /// of the last row that is safely in the journal.
    ///
    /// Must be called within a tokio runtime.
    pub fn new(
        journal: Arc<J>,
        committed: watch::Receiver<u64>,
        identity: Identity,
        targets: Vec<Target>,
        start: Start,
    ) -> Notifier<J> {
        let mut notifier =
            Notifier { journal, committed, identity: Arc::new(identity), running: BTreeMap::new() };
        for target in targets {
            let cursor = notifier.journal.cursor(&target.name);
            let cursor = cursor.unwrap_or_else(|| notifier.end_of_journal(&target));
            notifier.run(target, Progress { start: Some(start), ..Progress::at(cursor) });
        }
        notifier
    }

    /// Replaces the list of targets after a reload. One that stays goes on where it is, also
    /// with a new address or community; a new one starts at the end of the journal.
    pub fn set_targets(&mut self, targets: Vec<Target>) {
        let mut before = std::mem::take(&mut self.running);
        for target in targets {
            match before.remove(&target.name) {
                Some(running) if running.target == target => {
                    self.running.insert(target.name, running);
                }
                Some(changed) => {
                    // A copy, as the task that ends may still move its own on.
                    let mut progress = lock(&changed.progress).clone();
                    progress.cursor = progress.settled;
                    self.run(target, progress);
                }
                None => {
                    let end = self.end_of_journal(&target);
                    self.run(target, Progress::at(end));
                }
            }
        }
    }

    /// Keeps the cursors as they are, for an orderly stop: what was sent without an error since is
    /// taken for settled, so that the next run does not send it again.
    pub fn settle(&self) {
        for (name, running) in &self.running {
            let progress = lock(&running.progress);
            if progress.last_error.is_none() && progress.cursor > progress.settled {
                self.journal.set_cursor(name, progress.cursor);
            }
        }
    }

    /// How every target fares, in the order of their names.
    pub fn stats(&self) -> Vec<TargetStats> {
        let committed = *self.committed.borrow();
        self.running
            .values()
            .map(|running| {
                let progress = lock(&running.progress);
                TargetStats {
                    name: running.target.name.clone(),
                    address: running.target.address,
                    sent: progress.sent,
                    failed: progress.failed,
                    last_error: progress.last_error.clone(),
                    lag: committed.saturating_sub(progress.cursor),
                }
            })
            .collect()
    }

    fn end_of_journal(&self, target: &Target) -> u64 {
        let end = *self.committed.borrow();
        // Kept at once, so that a restart doesn't skip what comes from now on.
        self.journal.set_cursor(&target.name, end);
        end
    }

    fn run(&mut self, target: Target, progress: Progress) {
        let progress = Arc::new(Mutex::new(progress));
        let sender = Sender {
            journal: Arc::clone(&self.journal),
            committed: self.committed.clone(),
            identity: Arc::clone(&self.identity),
            target: target.clone(),
            progress: Arc::clone(&progress),
            socket: None,
            unsettled: None,
            pace: Pace::default(),
            retry: Retry::default(),
        };
        let task = tokio::spawn(sender.run()).abort_handle();
        self.running.insert(target.name.clone(), Running { target, progress, task });
    }
}

/// A target with its task.
struct Running {
    target: Target,
    progress: Arc<Mutex<Progress>>,
    task: AbortHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// How far a target is.
#[derive(Clone, Debug, Default)]
struct Progress {
    /// The start of the agent, as long as it was not told.
    start: Option<Start>,
    /// The last row that was sent.
    cursor: u64,
    /// The last row that was sent for good.
    settled: u64,
    sent: u64,
    failed: u64,
    last_error: Option<String>,
}

impl Progress {
    fn at(cursor: u64) -> Progress {
        Progress { cursor, settled: cursor, ..Progress::default() }
    }
}

fn lock(progress: &Mutex<Progress>) -> MutexGuard<'_, Progress> {
    // Nothing panics with it locked, and its numbers would be good even then.
    progress.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The task of one target.
struct Sender<J> {
    journal: Arc<J>,
    committed: watch::Receiver<u64>,
    identity: Arc<Identity>,
    target: Target,
    progress: Arc<Mutex<Progress>>,
    /// Made anew after each error: its source address may be gone from this host.
    socket: Option<UdpSocket>,
    /// Up to which row nothing but time is missing, and since when.
    unsettled: Option<(u64, Instant)>,
    pace: Pace,
    retry: Retry,
}

impl<J: Journal> Sender<J> {
    async fn run(mut self) {
        loop {
            // Before the rows are read, so that one that comes meanwhile wakes us again.
            self.committed.borrow_and_update();
            match self.round().await {
                Ok(true) => {}
                Ok(false) => {
                    let due = self.unsettled.map(|(_, sent)| sent + SETTLE);
                    tokio::select! {
                        changed = self.committed.changed() => if changed.is_err() {
                            return; // The store has ended, and so does the agent.
                        },
                        () = until(due) => {}
                    }
                }
                Err(error) => {
                    self.step_back(error);
                    sleep(self.retry.next()).await;
                }
            }
        }
    }

    /// Sends what waits, up to a batch, and says whether there was any.
    async fn round(&mut self) -> Result<bool, String> {
        self.settle()?;
        let start = lock(&self.progress).start;
        if let Some(start) = start {
            // The time of day tells the starts of one agent apart.
            let id = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
            let uptime = uptime_ticks(self.identity.started.elapsed());
            let community = &self.target.community;
            let datagram = encode_start_v2c(community, request_id(id), uptime, start);
            self.send(&datagram).await?;
            lock(&self.progress).start = None;
        }
        let rows = self.fetch().await?;
        for (seq, event) in &rows {
            self.settle()?;
            let datagram = encode_v2c(
                &self.identity.root,
                &self.target.community,
                request_id(*seq),
                uptime_ticks(self.identity.started.elapsed()),
                *seq,
                &self.identity.agent_name,
                event,
            );
            self.send(&datagram).await?;
            lock(&self.progress).cursor = *seq;
            self.unsettled.get_or_insert((*seq, Instant::now()));
        }
        Ok(!rows.is_empty())
    }

    async fn fetch(&self) -> Result<Vec<(u64, AlarmEvent)>, String> {
        let cursor = lock(&self.progress).cursor;
        let journal = Arc::clone(&self.journal);
        spawn_blocking(move || journal.after(cursor, ROWS))
            .await
            .map_err(|error| format!("reading the journal: {error}"))?
            .map_err(|error| format!("reading the journal: {error}"))
    }

    /// Sends a datagram when its turn has come. The error may be that of an earlier one: this is
    /// how a connected UDP socket tells of an ICMP port unreachable (RFC 1122, 4.1.3.3).
    async fn send(&mut self, datagram: &[u8]) -> Result<(), String> {
        let wait = self.pace.wait(Instant::now());
        if !wait.is_zero() {
            sleep(wait).await;
        }
        if self.socket.is_none() {
            self.socket = Some(connect(self.target.address).await.map_err(|e| e.to_string())?);
        }
        if let Some(socket) = &self.socket {
            socket.send(datagram).await.map_err(|error| error.to_string())?;
        }
        lock(&self.progress).sent += 1;
        Ok(())
    }

    /// Lets the cursor on disk follow when the time has come and no error did.
    fn settle(&mut self) -> Result<(), String> {
        let Some((seq, _)) = self.unsettled.filter(|(_, sent)| sent.elapsed() >= SETTLE) else {
            return Ok(());
        };
        let error = self.socket.as_ref().and_then(|socket| socket.take_error().ok().flatten());
        if let Some(error) = error {
            return Err(error.to_string());
        }
        let mut progress = lock(&self.progress);
        progress.settled = seq;
        progress.last_error = None;
        self.unsettled = (progress.cursor > seq).then(|| (progress.cursor, Instant::now()));
        drop(progress);
        self.retry = Retry::default();
        self.journal.set_cursor(&self.target.name, seq);
        Ok(())
    }

    fn step_back(&mut self, error: String) {
        self.socket = None;
        self.unsettled = None;
        let mut progress = lock(&self.progress);
        progress.cursor = progress.settled;
        progress.failed += 1;
        progress.last_error = Some(error);
    }
}

/// A request-id that is the same for every copy and never negative, which some receivers refuse.
fn request_id(number: u64) -> i32 {
    (number & 0x7fff_ffff) as i32
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

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// A token bucket of [`BURST`] tokens, one more each [`INTERVAL`], kept as the moment at which
/// everything that was let through would have gone at an even pace (the generic cell rate
/// algorithm).
#[derive(Default)]
struct Pace {
    even: Option<Instant>,
}

impl Pace {
    /// How long the next one has to wait.
    fn wait(&mut self, now: Instant) -> Duration {
        let even = self.even.map_or(now, |even| even.max(now));
        self.even = Some(even + INTERVAL);
        let ahead = even.saturating_duration_since(now);
        ahead.saturating_sub(INTERVAL * (BURST - 1))
    }
}

/// Waits that double from [`FIRST_RETRY`] to [`LAST_RETRY`].
#[derive(Default)]
struct Retry {
    before: Option<Duration>,
}

impl Retry {
    fn next(&mut self) -> Duration {
        let wait = self.before.map_or(FIRST_RETRY, |before| (before * 2).min(LAST_RETRY));
        self.before = Some(wait);
        wait
    }
}

#[cfg(test)]
mod tests {
    use evenkeel_core::{
        alarm::{Alarm, AlarmId, Kind, Object, System},
        time::{Time, WallTime},
    };
    use snmp_parser::{ObjectSyntax, SnmpGenericMessage, SnmpPdu, VarBindValue, asn1_rs::FromBer};
    use tokio::time::timeout;

    use super::*;

    /// A journal in memory, whose rows are numbered from 1.
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

    /// A journal, and the store's word of how far it is.
    struct Store {
        journal: Arc<Rows>,
        committed: watch::Sender<u64>,
    }

    impl Store {
        fn new() -> Store {
            Store { journal: Arc::default(), committed: watch::Sender::new(0) }
        }

        fn add(&self, alarms: usize) {
            let object = Object::System(System([192, 0, 2, 1].into()));
            let mut rows = self.journal.rows.lock().unwrap();
            for _ in 0..alarms {
                let id = AlarmId(rows.len() as u64 + 1);
                rows.push(AlarmEvent {
                    at: Time::ZERO,
                    wall: WallTime(0),
                    cleared: None,
                    alarm: Alarm {
                        id,
                        kind: Kind::SystemUnstable,
                        object: object.clone(),
                        severity: Kind::SystemUnstable.severity(),
                        raised_at: WallTime(0),
                        text: "restarts too often".to_owned(),
                        episode: None,
                        if_name: None,
                    },
                });
            }
            self.committed.send_replace(rows.len() as u64);
        }

        fn notifier(&self, targets: Vec<Target>) -> Notifier<Rows> {
            let identity = Identity {
                root: RootOid::default(),
                agent_name: "agent-a".to_owned(),
                started: std::time::Instant::now(),
            };
            let journal = Arc::clone(&self.journal);
            let mut notifier =
                Notifier::new(journal, self.committed.subscribe(), identity, vec![], Start::Warm);
            // Without the notification of the start, which has a test of its own.
            for target in targets {
                let end = notifier.journal.cursor(&target.name).unwrap_or(0);
                notifier.run(target, Progress::at(end));
            }
            notifier
        }
    }

    fn target(name: &str, address: SocketAddr) -> Target {
        Target { name: name.to_owned(), address, community: b"public".to_vec() }
    }

    async fn nms(address: &str) -> UdpSocket {
        UdpSocket::bind(address).await.unwrap()
    }

    /// The sequence number (the last varbind) of the next notification, or nothing for one
    /// without.
    async fn next(nms: &UdpSocket) -> Option<u32> {
        let mut buffer = [0; 2000];
        let length = timeout(Duration::from_secs(20), nms.recv(&mut buffer))
            .await
            .expect("a notification comes")
            .unwrap();
        let Ok(([], SnmpGenericMessage::V2(message))) =
            SnmpGenericMessage::from_ber(&buffer[..length])
        else {
            panic!("no SNMPv2c message")
        };
        let SnmpPdu::Generic(pdu) = message.pdu else { panic!("not an SNMPv2-Trap-PDU") };
        match pdu.var.last().unwrap().val {
            VarBindValue::Value(ObjectSyntax::Gauge32(seq)) => {
                assert_eq!(pdu.req_id, seq);
                Some(seq)
            }
            _ => None,
        }
    }

    #[tokio::test]
    async fn notifications_leave_in_order_to_each_target() {
        let store = Store::new();
        store.add(3);
        let (v4, v6) = (nms("127.0.0.1:0").await, nms("[::1]:0").await);
        let targets =
            vec![target("four", v4.local_addr().unwrap()), target("six", v6.local_addr().unwrap())];
        let notifier = store.notifier(targets);
        store.add(2);
        for seq in 1..=5 {
            assert_eq!(next(&v4).await, Some(seq));
            assert_eq!(next(&v6).await, Some(seq));
        }
        let stats = notifier.stats();
        assert_eq!(stats[0].name, "four");
        assert_eq!((stats[1].sent, stats[1].failed), (5, 0));
    }

    #[tokio::test]
    async fn a_target_that_refuses_holds_no_other_up_and_misses_nothing() {
        let store = Store::new();
        let up = nms("127.0.0.1:0").await;
        let refused = nms("127.0.0.1:0").await.local_addr().unwrap();
        let targets = vec![target("down", refused), target("up", up.local_addr().unwrap())];
        let notifier = store.notifier(targets);
        store.add(3);
        for seq in 1..=3 {
            assert_eq!(next(&up).await, Some(seq));
        }
        // The second datagram meets the answer to the first.
        let failed = || notifier.stats()[0].failed > 0;
        timeout(Duration::from_secs(20), async {
            while !failed() {
                sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .expect("the refusal is noticed");
        assert!(notifier.stats()[0].last_error.as_ref().unwrap().contains("refused"));
        assert_eq!(store.journal.cursor("down"), None);

        let back = UdpSocket::bind(refused).await.unwrap();
        // The first of them was sent before, to nobody.
        for seq in 1..=3 {
            assert_eq!(next(&back).await, Some(seq));
        }
    }

    #[tokio::test]
    async fn the_cursor_follows_when_no_error_came_and_a_restart_goes_on_from_it() {
        let store = Store::new();
        let nms = nms("127.0.0.1:0").await;
        let target = target("nms", nms.local_addr().unwrap());
        store.add(2);
        let notifier = store.notifier(vec![target.clone()]);
        assert_eq!(next(&nms).await, Some(1));
        assert_eq!(next(&nms).await, Some(2));
        assert_eq!(store.journal.cursor("nms"), None);
        // The settling takes two steps: the first row, and what came after it.
        timeout(Duration::from_secs(20), async {
            while store.journal.cursor("nms") != Some(2) {
                sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .expect("the cursor follows");
        drop(notifier);
        store.add(1);
        let _notifier = store.notifier(vec![target]);
        assert_eq!(next(&nms).await, Some(3));
    }

    #[tokio::test]
    async fn a_reload_starts_new_targets_at_the_end_and_stops_those_removed() {
        let store = Store::new();
        let (first, second) = (nms("127.0.0.1:0").await, nms("127.0.0.1:0").await);
        let one = target("one", first.local_addr().unwrap());
        let two = target("two", second.local_addr().unwrap());
        let mut notifier = store.notifier(vec![one.clone()]);
        store.add(2);
        assert_eq!(next(&first).await, Some(1));
        assert_eq!(next(&first).await, Some(2));

        notifier.set_targets(vec![one, two.clone()]);
        assert_eq!(store.journal.cursor("two"), Some(2));
        store.add(1);
        assert_eq!(next(&first).await, Some(3), "one that stays repeats nothing");
        assert_eq!(next(&second).await, Some(3));

        notifier.set_targets(vec![two]);
        assert_eq!(notifier.stats().len(), 1);
        // Lets the aborted task end, so that it can't send any more.
        tokio::task::yield_now().await;
        store.add(1);
        assert_eq!(next(&second).await, Some(4));
        assert!(first.try_recv(&mut [0; 2000]).is_err());
    }

    #[tokio::test]
    async fn the_start_of_the_agent_is_told_first_and_the_past_is_not() {
        let store = Store::new();
        let nms = nms("127.0.0.1:0").await;
        store.add(2);
        let identity = Identity {
            root: RootOid::default(),
            agent_name: "agent-a".to_owned(),
            started: std::time::Instant::now(),
        };
        let targets = vec![target("nms", nms.local_addr().unwrap())];
        let journal = Arc::clone(&store.journal);
        let _notifier =
            Notifier::new(journal, store.committed.subscribe(), identity, targets, Start::Cold);
        store.add(1);
        assert_eq!(next(&nms).await, None);
        assert_eq!(next(&nms).await, Some(3));
    }

    #[test]
    fn a_burst_leaves_at_once_and_then_one_every_two_milliseconds() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        let waits: Vec<u128> = (0..53).map(|_| pace.wait(now).as_millis()).collect();
        assert_eq!(waits[..50], [0; 50]);
        assert_eq!(waits[50..], [2, 4, 6]);
        // After a quiet time the bucket is full again, and no fuller.
        let later = now + Duration::from_secs(10);
        let waits: Vec<u128> = (0..52).map(|_| pace.wait(later).as_millis()).collect();
        assert_eq!(waits[..50], [0; 50]);
        assert_eq!(waits[50..], [2, 4]);
    }

    #[test]
    fn retries_wait_longer_up_to_half_a_minute() {
        let mut retry = Retry::default();
        let waits: Vec<u128> = (0..10).map(|_| retry.next().as_millis()).collect();
        assert_eq!(waits, [250, 500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000]);
    }
}
