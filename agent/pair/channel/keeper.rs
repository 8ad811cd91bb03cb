//! Keeps the channel up: listens, connects, lets handshakes run beside each other, and has one
//! connection at a time.

use std::{future::pending, io, net::SocketAddr, sync::Arc, time::Duration};

use super::{
    Event, Noted, Options,
    counters::{Counters, Refusal, add},
    handshake::{Meeting, Met, NotMet},
    wire::Wire,
};
use crate::pair::{
    directory::Directory,
    keys::{Fingerprint, Identity},
    seal::Seals,
    secrets,
    trust::{Trust, TrustError},
};
use evenkeel_core::pair::{paths::Wrong, term::Slot};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout},
};

/// The first wait before connecting again, which doubles up to the last: a mate that starts again is
/// found before anyone misses it, and one that is away is not hammered.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LAST_WAIT: Duration = Duration::from_secs(1);

/// How long slot 0 waits for the mate before it connects itself. It is slot 1 that is to connect: if it
/// does not, it may have slot 0, too, which this shows.
const ANYWAY: Duration = Duration::from_secs(2);

/// How often it is looked whether another mate is trusted, and tried to listen where that failed.
const LOOK: Duration = Duration::from_secs(1);

/// So long a handshake waits for the disk to say who is trusted, if that was known before: half of what
/// the mate has patience for.
const READ: Duration = Duration::from_secs(1);

/// Handshakes at a time with whoever comes from the mate's address, and with all others: strangers
/// can't keep the mate out.
const HANDSHAKES: usize = 2;

/// Who keeps the channel up.
pub struct Keeper {
    identity: Arc<Identity>,
    directory: Directory,
    trust: Trust,
    seals: Seals,
    counters: Arc<Counters>,
    events: mpsc::UnboundedSender<Event>,
    told: watch::Receiver<Options>,
    options: Options,

    /// Who is trusted, when it was last looked.
    trusted: Option<Fingerprint>,
    /// The file is read at one place at a time.
    reader: Arc<Semaphore>,
    reading: JoinSet<Result<Option<Fingerprint>, TrustError>>,
    listener: Option<TcpListener>,
    handshakes: JoinSet<Outcome>,
    from_mate: Arc<Semaphore>,
    from_others: Arc<Semaphore>,
    /// The connection; there is none or one.
    current: JoinSet<Wrong>,
    /// Whose it is.
    mate: Option<Fingerprint>,
    connecting: bool,
    connect_at: Instant,
    wait: Duration,
    up_since: Instant,
    told_refusal: Option<Refusal>,
    noted: watch::Sender<Noted>,
}

/// How a handshake ended.
struct Outcome {
    /// Whether this agent had connected.
    ours: bool,
    /// What came of it.
    met: io::Result<Result<Met, NotMet>>,
    /// Who was trusted when it began.
    trusted: Option<Fingerprint>,
}

/// What to do next.
enum Next {
    Accepted(io::Result<(TcpStream, SocketAddr)>),
    Shaken(Box<Outcome>),
    Ended(Wrong),
    Connect,
    Look,
    Read(Result<Option<Fingerprint>, TrustError>),
    Told(bool),
}

impl Keeper {
    /// One that does nothing yet.
    pub fn new(
        identity: Arc<Identity>,
        directory: Directory,
        seals: Seals,
        counters: Arc<Counters>,
        events: mpsc::UnboundedSender<Event>,
        told: watch::Receiver<Options>,
        noted: watch::Sender<Noted>,
    ) -> Keeper {
        let options = told.borrow().clone();
        let wait = if options.slot == Slot::One { Duration::ZERO } else { ANYWAY };
        Keeper {
            identity,
            trust: Trust::of(&directory),
            directory,
            seals,
            counters,
            events,
            told,
            options,
            trusted: None,
            reader: Arc::new(Semaphore::new(1)),
            reading: JoinSet::new(),
            listener: None,
            handshakes: JoinSet::new(),
            from_mate: Arc::new(Semaphore::new(HANDSHAKES)),
            from_others: Arc::new(Semaphore::new(HANDSHAKES)),
            current: JoinSet::new(),
            mate: None,
            connecting: false,
            connect_at: Instant::now() + wait,
            wait: FIRST_WAIT,
            up_since: Instant::now(),
            told_refusal: None,
            noted,
        }
    }

    /// Keeps the channel up until nobody wants it any more.
    pub async fn run(mut self) {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let next = tokio::select! {
                told = self.told.changed() => Next::Told(told.is_ok()),
                _ = look.tick() => Next::Look,
                ended = ended(&mut self.current) => Next::Ended(ended),
                Some(shaken) = self.handshakes.join_next() => match shaken {
                    Ok(outcome) => Next::Shaken(Box::new(outcome)),
                    // Whoever was aborted is not waited for.
                    Err(_) => continue,
                },
                Some(read) = self.reading.join_next() => match read {
                    Ok(read) => Next::Read(read),
                    // It is read again.
                    Err(_) => continue,
                },
                accepted = accept(self.listener.as_ref()) => Next::Accepted(accepted),
                () = sleep_until(self.connect_at), if self.is_to_connect() => Next::Connect,
            };
            match next {
                Next::Told(true) => self.set().await,
                Next::Told(false) => return,
                Next::Look => self.look(),
                Next::Read(read) => self.read(read).await,
                Next::Ended(wrong) => self.tell_down(wrong),
                Next::Shaken(outcome) => self.shaken(*outcome).await,
                Next::Accepted(Ok((stream, from))) => self.accepted(stream, from),
                // The socket is made anew at the next look, which is when this can be over.
                Next::Accepted(Err(_)) => self.listener = None,
                Next::Connect => self.connect(),
            }
        }
    }

    fn is_to_connect(&self) -> bool {
        !self.connecting && self.current.is_empty()
    }

    /// Whether it is this agent that is to connect.
    fn connects(&self) -> bool {
        self.options.slot == Slot::One
    }

    /// Other options: everything begins anew.
    async fn set(&mut self) {
        let options = self.told.borrow_and_update().clone();
        if options == self.options {
            return;
        }
        self.options = options;
        self.listener = None;
        self.drop_handshakes().await;
        self.end(Wrong::Connect).await;
        self.look();
    }

    /// Has it looked who is trusted, and listens.
    fn look(&mut self) {
        if let Ok(place) = Arc::clone(&self.reader).try_acquire_owned() {
            let trust = self.trust.clone();
            self.reading.spawn_blocking(move || read(&trust, place));
        }
        let problem = self.listen();
        self.note(|noted| noted.not_listening = problem);
    }

    /// This is who is trusted now.
    async fn read(&mut self, read: Result<Option<Fingerprint>, TrustError>) {
        let (trusted, problem) = match read {
            Ok(trusted) => (trusted, None),
            Err(error) => (None, Some(format!("{:#}", anyhow::Error::from(error)))),
        };
        if trusted != self.trusted {
            self.trusted = trusted;
            self.seals.trust(trusted);
            // What began with another mate must not come to an end.
            self.drop_handshakes().await;
            if self.mate.is_some() && self.mate != trusted {
                self.end(Wrong::Connect).await;
            }
        }
        if trusted.is_none() {
            self.tell_refusal(Refusal::NothingTrusted);
        } else if self.told_refusal == Some(Refusal::NothingTrusted) {
            self.told_refusal = None;
        }
        self.note(|noted| (noted.trusted, noted.not_readable) = (trusted, problem));
    }

    /// Listens, if it does not yet. Gives back why it can't.
    fn listen(&mut self) -> Option<String> {
        if self.listener.is_none() {
            let listen = self.options.listen;
            match listener(listen) {
                Ok(listener) => self.listener = Some(listener),
                Err(error) => {
                    if self.current.is_empty() {
                        self.tell_down(Wrong::Connect);
                    }
                    return Some(format!("cannot listen on {listen} for the mate: {error}"));
                }
            }
        }
        None
    }

    /// Somebody has connected.
    fn accepted(&mut self, stream: TcpStream, from: SocketAddr) {
        let is_mate = from.ip().to_canonical() == self.options.mate.ip();
        let places = if is_mate { &self.from_mate } else { &self.from_others };
        let Ok(place) = Arc::clone(places).try_acquire_owned() else {
            return self.counters.refuse(Refusal::Busy);
        };
        let (trusted, with) = (self.now_trusted(), self.meeting());
        self.handshakes.spawn(async move {
            let trusted = trusted.await;
            let met = match trusted {
                Some(trusted) => with(trusted).meet(stream, true).await,
                None => Err(NotMet { why: Refusal::NothingTrusted, known: false }),
            };
            drop(place);
            Outcome { ours: false, met: Ok(met), trusted }
        });
    }

    /// It is time to connect.
    fn connect(&mut self) {
        self.connect_at = Instant::now() + self.until_next();
        self.wait = (self.wait * 2).min(LAST_WAIT);
        self.connecting = true;
        let (trusted, with) = (self.now_trusted(), self.meeting());
        self.handshakes.spawn(async move {
            let trusted = trusted.await;
            let met = match trusted {
                Some(trusted) => with(trusted).connect().await,
                None => Err(io::ErrorKind::NotFound.into()),
            };
            Outcome { ours: true, met, trusted }
        });
    }

    /// How long to wait before connecting once more.
    fn until_next(&self) -> Duration {
        if self.connects() { self.wait } else { ANYWAY }
    }

    /// Who is trusted now, so that what an operator has just entered holds. Heartbeats leave by this thread,
    /// which does not wait for a disk: if that takes too long, what was known before holds.
    fn now_trusted(&self) -> impl Future<Output = Option<Fingerprint>> + use<> {
        let (trust, reader, known) = (self.trust.clone(), Arc::clone(&self.reader), self.trusted);
        let read = async move {
            let place = reader.acquire_owned().await.ok()?;
            let read = tokio::task::spawn_blocking(move || read(&trust, place)).await;
            read.ok()?.ok()?
        };
        async move {
            match known {
                Some(known) => timeout(READ, read).await.unwrap_or(Some(known)),
                None => read.await,
            }
        }
    }

    /// What a handshake needs, with whoever is trusted then.
    fn meeting(&self) -> impl FnOnce(Fingerprint) -> Meeting + use<> {
        let (options, identity) = (self.options.clone(), Arc::clone(&self.identity));
        let seals = self.seals.clone();
        move |trusted| Meeting { options, identity, trusted, seals }
    }

    /// A handshake has ended.
    async fn shaken(&mut self, outcome: Outcome) {
        if outcome.ours {
            self.connecting = false;
        }
        match outcome.met {
            Ok(Ok(met)) => self.met(met, outcome.trusted).await,
            Ok(Err(NotMet { why, known })) => {
                self.counters.refuse(why);
                if known || outcome.ours && self.connects() {
                    self.tell_refusal(why);
                }
                if outcome.ours {
                    self.tell_not_connected();
                }
            }
            // Nobody is there.
            Err(_) => self.tell_not_connected(),
        }
    }

    /// The mate is there. Its connection takes the place of the one before.
    async fn met(&mut self, met: Met, trusted: Option<Fingerprint>) {
        let Met { stream, mate, fingerprint, secrets } = met;
        if !self.current.is_empty() {
            add(&self.counters.replaced, 1);
            self.end(Wrong::Read).await;
        }
        add(&self.counters.connected, 1);
        self.trusted = trusted;
        self.mate = Some(fingerprint);
        self.up_since = Instant::now();
        self.told_refusal = None;
        let (wire, link) = Wire::new(stream, &self.counters, self.options.patience);
        self.tell(Event::Up { mate, link });
        self.current.spawn(wire.run(self.events.clone()));
        self.keep(secrets);
    }

    /// Keeps the secrets on the disk, which the connection does not wait for: if this agent is stopped
    /// before they are there, the mate has the one before, too.
    fn keep(&self, secrets: Vec<crate::pair::seal::Secret>) {
        let directory = self.directory.clone();
        tokio::task::spawn_blocking(move || {
            if let Err(error) = secrets::write(&directory, &secrets) {
                let error = anyhow::Error::from(error);
                // A thread of its own may wait for the log.
                tracing::warn!("heartbeats need the state channel after the next start: {error:#}");
            }
        });
    }

    /// Ends the connection, if there is one.
    async fn end(&mut self, wrong: Wrong) {
        if !self.current.is_empty() {
            // When this returns, nothing more of that connection is told.
            self.current.shutdown().await;
            self.tell_down(wrong);
        }
    }

    async fn drop_handshakes(&mut self) {
        self.handshakes.shutdown().await;
        self.connecting = false;
    }

    fn tell_down(&mut self, wrong: Wrong) {
        if self.current.is_empty() {
            self.mate = None;
            if wrong != Wrong::Connect {
                // One that ends as soon as it is there is no reason to hurry.
                if self.up_since.elapsed() > LAST_WAIT {
                    self.wait = FIRST_WAIT;
                }
                self.connect_at = Instant::now() + self.until_next();
            }
            self.tell(Event::Down(wrong));
        }
    }

    /// This agent could not connect. If it need not, that is nothing to tell.
    fn tell_not_connected(&mut self) {
        if self.connects() {
            self.tell_down(Wrong::Connect);
        }
    }

    fn tell_refusal(&mut self, why: Refusal) {
        if self.told_refusal.replace(why) != Some(why) {
            self.tell(Event::Refused(why));
        }
    }

    fn note(&self, change: impl FnOnce(&mut Noted)) {
        self.noted.send_modify(change);
    }

    fn tell(&self, event: Event) {
        // Who takes no events any more has dropped the channel too.
        let _ = self.events.send(event);
    }
}

/// Reads who is trusted, and gives the place back.
fn read(trust: &Trust, place: OwnedSemaphorePermit) -> Result<Option<Fingerprint>, TrustError> {
    let read = trust.read();
    drop(place);
    read
}

/// When the connection has ended, and why; never if there is none.
async fn ended(current: &mut JoinSet<Wrong>) -> Wrong {
    match current.join_next().await {
        Some(ended) => ended.unwrap_or(Wrong::Read),
        None => pending().await,
    }
}

async fn accept(listener: Option<&TcpListener>) -> io::Result<(TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => pending().await,
    }
}

/// A listening socket. IPv6 alone is listened to where that is configured, so that an address means the
/// same whatever the host's settings are.
fn listener(listen: SocketAddr) -> io::Result<TcpListener> {
    let kind = socket2::Type::STREAM.nonblocking().cloexec();
    let socket = socket2::Socket::new(
        socket2::Domain::for_address(listen),
        kind,
        Some(socket2::Protocol::TCP),
    )?;
    if listen.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Connections of the process before are in TIME_WAIT for a minute (tcp(7)).
    socket.set_reuse_address(true)?;
    socket.bind(&listen.into())?;
    socket.listen(16)?;
    TcpListener::from_std(socket.into())
}
