//! Keeps the channel up: listens, connects, lets handshakes run beside each other, and has one
//! connection at a time.

use std::{future::pending, io, net::SocketAddr, sync::Arc, time::Duration};

use evenkeel_core::pair::{paths::Wrong, term::Slot};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};
use tracing::warn;

use super::{
    Event, Options,
    counters::{Counters, Refusal, add},
    handshake::{Meeting, Met, NotMet},
    wire::Wire,
};
use crate::pair::{
    directory::Directory,
    keys::{Fingerprint, Identity},
    seal::Seals,
    secrets,
    trust::Trust,
};

/// The first wait before connecting again, which doubles up to the last: a mate that starts again is
/// found before anyone misses it, and one that is away is not hammered.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LAST_WAIT: Duration = Duration::from_secs(1);

/// How often it is looked whether another mate is trusted, and tried to listen where that failed.
const LOOK: Duration = Duration::from_secs(1);

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
    told_problem: Option<String>,
}

/// How a handshake ended.
struct Outcome {
    /// Whether this agent had connected.
    ours: bool,
    /// What came of it.
    met: io::Result<Result<Met, NotMet>>,
    /// Who was trusted when it began.
    trusted: Fingerprint,
}

/// What to do next.
enum Next {
    Accepted(io::Result<(TcpStream, SocketAddr)>),
    Shaken(Box<Outcome>),
    Ended(Wrong),
    Connect,
    Look,
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
    ) -> Keeper {
        let options = told.borrow().clone();
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
            listener: None,
            handshakes: JoinSet::new(),
            from_mate: Arc::new(Semaphore::new(HANDSHAKES)),
            from_others: Arc::new(Semaphore::new(HANDSHAKES)),
            current: JoinSet::new(),
            mate: None,
            connecting: false,
            connect_at: Instant::now(),
            wait: FIRST_WAIT,
            up_since: Instant::now(),
            told_refusal: None,
            told_problem: None,
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
                accepted = accept(self.listener.as_ref()) => Next::Accepted(accepted),
                () = sleep_until(self.connect_at), if self.is_to_connect() => Next::Connect,
            };
            match next {
                Next::Told(true) => self.set().await,
                Next::Told(false) => return,
                Next::Look => self.look().await,
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
        self.options.slot == Slot::One && !self.connecting && self.current.is_empty()
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
        self.look().await;
    }

    /// Looks who is trusted, and whether it can be listened.
    async fn look(&mut self) {
        let (trusted, problem) = match self.trust.read() {
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
        let problem = problem.or_else(|| self.listen());
        self.tell_problem(problem);
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
        let Some(meeting) = self.meeting() else {
            return self.counters.refuse(Refusal::NothingTrusted);
        };
        let is_mate = from.ip().to_canonical() == self.options.mate.ip();
        let places = if is_mate { &self.from_mate } else { &self.from_others };
        let Ok(place) = Arc::clone(places).try_acquire_owned() else {
            return self.counters.refuse(Refusal::Busy);
        };
        self.handshakes.spawn(meet(meeting, stream, place));
    }

    /// It is time to connect.
    fn connect(&mut self) {
        self.connect_at = Instant::now() + self.wait;
        self.wait = (self.wait * 2).min(LAST_WAIT);
        let Some(meeting) = self.meeting() else { return self.tell_down(Wrong::Connect) };
        self.connecting = true;
        self.handshakes.spawn(async move {
            let trusted = meeting.trusted;
            Outcome { ours: true, met: meeting.connect().await, trusted }
        });
    }

    /// What a handshake needs; nothing if nobody is trusted. The file is read each time, so that what an
    /// operator has just entered holds.
    fn meeting(&self) -> Option<Meeting> {
        let trusted = self.trust.read().ok()??;
        Some(Meeting {
            options: self.options.clone(),
            identity: Arc::clone(&self.identity),
            trusted,
            seals: self.seals.clone(),
        })
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
                if known || outcome.ours {
                    self.tell_refusal(why);
                }
                if outcome.ours {
                    self.tell_down(Wrong::Connect);
                }
            }
            // Nobody is there.
            Err(_) => self.tell_down(Wrong::Connect),
        }
    }

    /// The mate is there. Its connection takes the place of the one before.
    async fn met(&mut self, met: Met, trusted: Fingerprint) {
        let Met { stream, mate, fingerprint, secrets } = met;
        if !self.current.is_empty() {
            add(&self.counters.replaced, 1);
            self.end(Wrong::Read).await;
        }
        add(&self.counters.connected, 1);
        self.trusted = Some(trusted);
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
                warn!("heartbeats need the state channel after the next start: {error:#}");
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
                self.connect_at = Instant::now() + self.wait;
            }
            self.tell(Event::Down(wrong));
        }
    }

    fn tell_refusal(&mut self, why: Refusal) {
        if self.told_refusal.replace(why) != Some(why) {
            self.tell(Event::Refused(why));
        }
    }

    /// A problem of this host's own, which is logged when it is another than before.
    fn tell_problem(&mut self, problem: Option<String>) {
        if problem != self.told_problem {
            if let Some(problem) = &problem {
                warn!("{problem}");
            }
            self.told_problem = problem;
        }
    }

    fn tell(&self, event: Event) {
        // Who takes no events any more has dropped the channel too.
        let _ = self.events.send(event);
    }
}

async fn meet(meeting: Meeting, stream: TcpStream, place: OwnedSemaphorePermit) -> Outcome {
    let trusted = meeting.trusted;
    let met = meeting.meet(stream, true).await;
    drop(place);
    Outcome { ours: false, met: Ok(met), trusted }
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
