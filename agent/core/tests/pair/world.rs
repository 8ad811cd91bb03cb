//! Two agents, the network between them, their disks, clocks and witnesses; and a driver that keeps the
//! contract of [`Pair`].
//!
//! Whatever a test does, the driver holds every step against what must always be so (PAIR-16): see
//! [`World::check`].

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque},
    time::Duration,
};

use evenkeel_core::{
    pair::{
        Event, Identity, Input, Kept, Order, Pair, Role,
        message::{Heartbeat, RoleSaid},
        paths::{Channel, Via, Wrong},
        record::{Kind, Parts, RecordSaid},
        settings::{Failback, Limit, Paths, Settings, Timing},
        sync::Sync,
        term::{Slot, Term},
        version::{Grade, Version},
        witness::Testimony,
    },
    time::Time,
};

/// Milliseconds.
pub const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Seconds.
pub const fn s(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// Two paths, no witness, all else as shipped.
pub fn shipped() -> Settings {
    Settings {
        priority: 0,
        timing: Timing::DEFAULT,
        limit: Some(Limit::DEFAULT),
        failback: Failback::ByHand,
        paths: Paths::new(&["eth0", "eth1"]).unwrap(),
        witnesses: false,
    }
}

/// As shipped, with witnesses.
pub fn witnessed() -> Settings {
    Settings { witnesses: true, ..shipped() }
}

/// Chance that can be repeated: SplitMix64 (Steele, Lea and Flood, 2014).
#[derive(Clone, Debug)]
pub struct Chance(pub u64);

impl Chance {
    /// Any number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    /// Whether one of so many in a hundred.
    pub fn percent(&mut self, share: u64) -> bool {
        self.below(100) < share
    }
}

/// One direction of one way.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    /// Nothing comes through.
    pub cut: bool,
    /// So many of a hundred are lost.
    pub loss: u64,
    /// So many of a hundred come twice.
    pub twice: u64,
    /// How long it takes at least.
    pub delay: Duration,
    /// And how much longer at most; what is longer under way may be overtaken.
    pub jitter: Duration,
}

const CABLE: Link = Link { cut: false, loss: 0, twice: 0, delay: ms(1), jitter: Duration::ZERO };

/// A monotonic clock with an origin of its own, that runs too fast or too slow.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    /// What it shows when the world begins.
    pub offset: Duration,
    /// Millionths that it is too fast.
    pub drift: i64,
}

impl Clock {
    fn shows(self, now: Time) -> Time {
        let nanos = i128::from(now.as_nanos());
        let shown = nanos + nanos * i128::from(self.drift) / 1_000_000;
        Time::from_nanos(u64::try_from(shown).unwrap()) + self.offset
    }

    /// The first moment at which it shows at least this.
    fn when(self, shown: Time) -> Time {
        let nanos = i128::from(shown.since(Time::ZERO + self.offset).as_nanos() as u64);
        let now = nanos * 1_000_000 / (1_000_000 + i128::from(self.drift));
        let mut now = Time::from_nanos(u64::try_from(now.max(2) - 2).unwrap());
        while self.shows(now) < shown {
            now = now + Duration::from_nanos(1);
        }
        now
    }
}

/// What comes to a host, when the kernel has it.
#[derive(Clone, Debug)]
enum Arrival {
    Heartbeat(Via, Heartbeat),
    Record(RecordSaid),
    Witness(Time),
    Kept(Kept),
    Channel(Channel),
    Copying,
    Copied,
}

#[derive(Clone, Debug)]
struct Coming {
    host: usize,
    /// What is for an earlier run, or an earlier connection, is lost.
    run: u64,
    connection: Option<u64>,
    sent: Time,
    what: Arrival,
}

/// One of the two hosts.
#[derive(Clone, Debug)]
pub struct Host {
    /// The agent, while it runs.
    pub pair: Option<Pair>,
    /// What it is configured with.
    pub settings: Settings,
    /// Its version, from its next start on.
    pub version: Version,
    /// Its clock.
    pub clock: Clock,
    /// How long it takes to keep something on disk.
    pub disk_delay: Duration,
    /// Whether its witnesses answer.
    pub witnessed: bool,
    /// How long a full copy of the state takes; nothing if it never ends.
    pub copy: Option<Duration>,
    /// What is on its disk.
    pub disk: Kept,
    kept_at: Time,
    run: u64,
    /// Until when and since when it stands still.
    stalled_until: Option<(Time, Time)>,
    /// What has come and when, and when it was sent.
    inbox: VecDeque<(Time, Time, Arrival)>,
    channel: bool,
    /// The newest heartbeat that it was handed.
    newest: (u64, u64),
    /// The time for which both were primary in which it has heard the other say so.
    met: Option<Time>,
    raised: BTreeSet<String>,
    last_number: u64,
    /// The heartbeats of the last second.
    sent: Vec<Time>,
}

impl Host {
    /// Whether it runs and is not standing still.
    pub fn is_awake(&self) -> bool {
        self.pair.is_some() && self.stalled_until.is_none()
    }
}

/// The world.
pub struct World {
    /// The true time.
    pub now: Time,
    /// The hosts, by slot.
    pub hosts: [Host; 2],
    /// From each host, by each path and at last by the state channel.
    pub links: [Vec<Link>; 2],
    /// What happened, with the time since the beginning.
    pub log: Vec<(Duration, String)>,
    chance: Chance,
    begin: Time,
    coming: BinaryHeap<Reverse<(Time, u64)>>,
    what_comes: BTreeMap<u64, Coming>,
    serial: u64,
    connection: u64,
    next_connect: Time,
    channel_cut: Option<Time>,
    /// By whom, and in which run, each term was begun.
    terms: BTreeMap<Term, (usize, u64)>,
    /// Automatic takeovers.
    pub takeovers: Vec<(Time, usize)>,
    /// Since when both are primary.
    both_primary: Option<Time>,
    /// When there was a primary last.
    pub governed: Time,
    /// A cut has kept the two from telling each other.
    pub was_split: bool,
    /// When somebody spoke last.
    pub spoken: Time,
    /// How long both have spoken at once.
    pub both_spoke: Duration,
    looked: Time,
    both_speak: bool,
}

impl World {
    /// Two hosts with these settings, cables between them, and nothing started.
    pub fn new(settings: &Settings, seed: u64) -> World {
        // Far from the origin, so that no age is cut short by it.
        let begin = Time::from_secs(10_000_000);
        let host = || Host {
            pair: None,
            settings: settings.clone(),
            version: Version { major: 1, minor: 2, patch: 3 },
            clock: Clock::default(),
            disk_delay: ms(5),
            witnessed: true,
            copy: Some(ms(200)),
            disk: Kept::default(),
            kept_at: begin,
            run: 0,
            stalled_until: None,
            inbox: VecDeque::new(),
            channel: false,
            newest: (0, 0),
            met: None,
            raised: BTreeSet::new(),
            last_number: 0,
            sent: Vec::new(),
        };
        let links = vec![CABLE; settings.paths.interfaces().len() + 1];
        World {
            now: begin,
            hosts: [host(), host()],
            links: [links.clone(), links],
            log: Vec::new(),
            chance: Chance(seed),
            begin,
            coming: BinaryHeap::new(),
            what_comes: BTreeMap::new(),
            serial: 0,
            connection: 0,
            next_connect: begin,
            channel_cut: None,
            terms: BTreeMap::new(),
            takeovers: Vec::new(),
            both_primary: None,
            governed: begin,
            was_split: false,
            spoken: begin,
            both_spoke: Duration::ZERO,
            looked: begin,
            both_speak: false,
        }
    }

    /// Both are started, and slot 0 is primary, in full synchronisation.
    pub fn settled(settings: &Settings) -> World {
        let mut world = World::new(settings, 1);
        world.start(0);
        world.start(1);
        world.run(s(5));
        assert_eq!(world.roles(), [Some(Role::Primary), Some(Role::Standby)], "{:#?}", world.log);
        assert!(world.speaks(0));
        world.log.clear();
        world.begin = world.now;
        world
    }

    // ---- what a test does ----

    /// Starts an agent.
    pub fn start(&mut self, host: usize) {
        assert!(self.hosts[host].pair.is_none());
        let now = self.now;
        let it = &mut self.hosts[host];
        it.run += 1;
        let slot = [Slot::Zero, Slot::One][host];
        let identity = Identity { slot, run: it.run, version: it.version };
        let away = now.since(it.kept_at);
        let local = it.clock.shows(now);
        it.pair = Some(Pair::new(identity, it.settings.clone(), &it.disk, away, local));
        it.inbox.clear();
        it.raised.clear();
        it.met = None;
        it.channel = false;
        self.wake(host);
    }

    /// Ends a process: its connections end with it.
    pub fn crash(&mut self, host: usize) {
        self.power_off(host);
        if self.links[host].last().is_some_and(|link| !link.cut) {
            self.hang_up(host);
        }
    }

    /// Ends a host: nobody is told.
    pub fn power_off(&mut self, host: usize) {
        let it = &mut self.hosts[host];
        it.pair = None;
        it.stalled_until = None;
        it.channel = false;
        self.look();
    }

    /// Lets an agent stand still: nothing of it runs, but its host's kernel.
    pub fn stall(&mut self, host: usize, how_long: Duration) {
        if self.hosts[host].is_awake() {
            self.look();
            self.hosts[host].stalled_until = Some((self.now + how_long, self.now));
        }
    }

    /// Hands something to an agent at once, if it is awake.
    pub fn tell(&mut self, host: usize, input: impl FnOnce(Time) -> Input) {
        let it = &mut self.hosts[host];
        let local = it.clock.shows(self.now);
        if let (Some(pair), None) = (&mut it.pair, it.stalled_until) {
            pair.handle(input(local));
            self.wake(host);
        }
    }

    /// An operator orders something.
    pub fn order(&mut self, host: usize, order: Order) {
        self.tell(host, |at| Input::Order { order, at });
    }

    /// An operator orders a failover.
    pub fn failover(&mut self, host: usize) {
        self.order(host, Order::Failover);
    }

    /// Lets chance go on from a number.
    pub fn reseed(&mut self, seed: u64) {
        self.chance = Chance(seed);
    }

    /// Gives an agent other settings.
    pub fn reload(&mut self, host: usize, settings: &Settings) {
        self.hosts[host].settings = settings.clone();
        let settings = Box::new(settings.clone());
        self.tell(host, |at| Input::Settings { settings, at });
    }

    /// Stops an agent in order, and waits until it is gone.
    pub fn stop(&mut self, host: usize) {
        self.tell(host, |at| Input::Stopping { at });
        while let Some(pair) = &self.hosts[host].pair {
            if pair.is_gone(self.hosts[host].clock.shows(self.now)) {
                break;
            }
            self.run(ms(10));
        }
        self.crash(host);
        self.note(host, "gone");
    }

    /// Cuts or heals everything that a host sends.
    pub fn cut(&mut self, from: usize, cut: bool) {
        for link in &mut self.links[from] {
            link.cut = cut;
        }
        self.was_split |= cut;
    }

    /// Cuts or heals everything between the two.
    pub fn cut_both(&mut self, cut: bool) {
        self.cut(0, cut);
        self.cut(1, cut);
    }

    /// Plays on.
    pub fn run(&mut self, how_long: Duration) {
        let end = self.now + how_long;
        while let Some(next) = self.next().filter(|next| *next <= end) {
            self.advance(next);
            self.step();
        }
        self.advance(end);
    }

    // ---- what a test asks ----

    /// The roles of those that run.
    pub fn roles(&self) -> [Option<Role>; 2] {
        [0, 1].map(|host| self.hosts[host].pair.as_ref().map(Pair::role))
    }

    /// Whether an agent may speak now, and is awake to do so.
    pub fn speaks(&self, host: usize) -> bool {
        let it = &self.hosts[host];
        let local = it.clock.shows(self.now);
        it.is_awake() && it.pair.as_ref().is_some_and(|pair| pair.may_speak(local))
    }

    /// The agent that runs on a host.
    pub fn pair(&self, host: usize) -> &Pair {
        self.hosts[host].pair.as_ref().expect("it runs")
    }

    /// Plays on until an agent speaks, and says how long that took.
    pub fn until_speaks(&mut self, host: usize) -> Duration {
        let begin = self.now;
        while !self.speaks(host) {
            assert!(self.now.since(begin) < s(100), "{host} never speaks: {:#?}", self.log);
            self.run(ms(1));
        }
        self.now.since(begin)
    }

    /// Whether somebody should speak, as an agent that is well and reaches a witness has had the time
    /// to: nothing was done to it since `since`.
    pub fn should_speak(&self, since: Time) -> bool {
        // Who is heard and does not hear is left the time in which it may take over with its state, before
        // the other one, which was just started, begins to wait.
        let cut = |from: usize| self.links[from].iter().all(|link| link.cut);
        let limit = if cut(0) == cut(1) { ms(4_900) } else { ms(8_900) };
        self.now.since(since) > limit
            && self.now.since(self.spoken) > limit
            && (0..2).any(|host| self.is_well(host))
    }

    /// Whether nothing stands against an agent's being primary.
    fn is_well(&self, host: usize) -> bool {
        let it = &self.hosts[host];
        let reaches = it.witnessed || !it.settings.witnesses;
        let Some(pair) = it.pair.as_ref().filter(|_| it.is_awake() && reaches) else {
            return false;
        };
        let local = it.clock.shows(self.now);
        let free = !pair.is_held() && pair.suppressed_until(local).is_none();
        free && pair.grade() != Some(Grade::Out)
    }

    /// Whether something is in the log.
    pub fn has(&self, what: &str) -> bool {
        self.log.iter().any(|(_, line)| line == what)
    }

    /// The log as a timeline, without what nobody asked for.
    pub fn timeline(&self) -> String {
        let lines = self.log.iter().map(|(at, line)| format!("{:<7} {line}", written(*at)));
        lines.collect::<Vec<_>>().join("\n")
    }

    // ---- the driver ----

    fn next(&self) -> Option<Time> {
        let coming = self.coming.peek().map(|Reverse((at, _))| *at);
        let hosts = self.hosts.iter().filter_map(|host| match (&host.pair, host.stalled_until) {
            (Some(_), Some((until, _))) => Some(until),
            (Some(pair), None) => Some(host.clock.when(pair.next_deadline())),
            (None, _) => None,
        });
        hosts.chain(coming).chain([self.next_connect]).min().map(|next| next.max(self.now))
    }

    fn advance(&mut self, to: Time) {
        // Nobody begins to speak while nothing happens; who ends meanwhile has ended by the next look.
        self.now = to;
        self.look();
    }

    fn step(&mut self) {
        for host in 0..2 {
            if self.hosts[host].stalled_until.is_some_and(|(until, _)| until <= self.now) {
                self.wake_up(host);
            }
        }
        while let Some(Reverse((at, serial))) = self.coming.peek().copied()
            && at <= self.now
        {
            self.coming.pop();
            let coming = self.what_comes.remove(&serial).expect("it was sent");
            self.arrive(coming);
        }
        if self.next_connect <= self.now {
            self.next_connect = self.now + ms(250);
            self.connect();
        }
        for host in 0..2 {
            let it = &self.hosts[host];
            let due = it
                .pair
                .as_ref()
                .is_some_and(|pair| pair.next_deadline() <= it.clock.shows(self.now));
            if it.is_awake() && due {
                self.wake(host);
            }
        }
    }

    fn arrive(&mut self, coming: Coming) {
        let host = coming.host;
        let it = &mut self.hosts[host];
        let gone = coming.connection.is_some_and(|connection| connection != self.connection);
        if it.pair.is_none() || coming.run != it.run || gone {
            return;
        }
        if let Arrival::Kept(kept) = &coming.what {
            (it.disk, it.kept_at) = (kept.clone(), self.now);
        }
        it.inbox.push_back((self.now, coming.sent, coming.what));
        if it.is_awake() {
            self.wake(host);
        }
    }

    fn wake_up(&mut self, host: usize) {
        let it = &mut self.hosts[host];
        let since = it.stalled_until.take().expect("it stands still").1;
        // PAIR-17: who stood still does not speak before it has looked.
        let local = it.clock.shows(self.now);
        let pair = it.pair.as_ref().expect("it runs");
        let long = self.now.since(since) > it.settings.timing.licence() + ms(10);
        assert!(!long || !pair.may_speak(local), "{host} speaks before it knows: {:#?}", self.log);
        self.wake(host);
    }

    /// Hands in everything that has come, says how late it is, and takes out what follows.
    fn wake(&mut self, host: usize) {
        let both = self.both_primary;
        let it = &mut self.hosts[host];
        let local = it.clock.shows(self.now);
        let Some(pair) = &mut it.pair else { return };
        let mut copy = None;
        while let Some((at, sent, what)) = it.inbox.pop_front() {
            // Only the kernel's stamps of datagrams tell when something came.
            let stamp = it.clock.shows(at);
            pair.handle(match what {
                Arrival::Heartbeat(via, heartbeat) => {
                    let at = if via == Via::Channel { local } else { stamp };
                    let newest = (heartbeat.run, heartbeat.round) > it.newest;
                    it.newest = it.newest.max((heartbeat.run, heartbeat.round));
                    let says = matches!(heartbeat.said.role, RoleSaid::Primary { .. });
                    if newest && says && both.is_some_and(|since| sent >= since) {
                        it.met = both;
                    }
                    Input::Heartbeat { via, heartbeat, at }
                }
                Arrival::Record(record) => Input::Record { record, at: local },
                Arrival::Witness(asked) => {
                    Input::Witness { asked, testimony: Testimony::Answers, at: stamp }
                }
                Arrival::Kept(kept) => Input::Kept { known: kept.known, at: local },
                Arrival::Channel(channel) => {
                    it.channel = channel == Channel::Up;
                    copy = it.copy.filter(|_| it.channel).or(copy);
                    Input::Channel { channel, at: local }
                }
                Arrival::Copying => {
                    Input::Sync { sync: Sync::Copying { missing: Parts::ALL }, at: local }
                }
                Arrival::Copied => {
                    let sync = Sync::InSync { events: 0, age: Duration::ZERO };
                    Input::Sync { sync, at: local }
                }
            });
        }
        pair.handle(Input::Now(local));
        if let Some(copy) = copy {
            self.send(host, true, copy, Arrival::Copied);
        }
        self.drain(host);
        self.look();
    }

    fn drain(&mut self, host: usize) {
        let Some(mut pair) = self.hosts[host].pair.take() else { return };
        let events: Vec<Event> = std::iter::from_fn(|| pair.poll_event()).collect();
        let keep = pair.poll_keep();
        let ask = pair.poll_ask();
        let heartbeat = pair.poll_heartbeat();
        let record = pair.poll_record();
        let local = self.hosts[host].clock.shows(self.now);
        assert!(pair.next_deadline() > local, "it never rests: {pair:#?}");
        self.hosts[host].pair = Some(pair);
        for event in events {
            self.hear(host, event);
        }
        if let Some(kept) = keep {
            let delay = self.hosts[host].disk_delay;
            self.send(host, false, delay, Arrival::Kept(kept));
        }
        if let Some(asked) = ask
            && self.hosts[host].witnessed
        {
            self.send(host, false, ms(2), Arrival::Witness(asked));
        }
        if let Some(heartbeat) = heartbeat {
            self.count_heartbeat(host);
            let channel = self.links[host].len() - 1;
            for way in 0..=channel {
                let via = if way == channel { Via::Channel } else { Via::Path(way as u8) };
                if way < channel || self.hosts[host].channel {
                    self.carry(host, way, &Arrival::Heartbeat(via, heartbeat.clone()));
                }
            }
        }
        if let Some(record) = record
            && self.hosts[host].channel
        {
            let channel = self.links[host].len() - 1;
            self.carry(host, channel, &Arrival::Record(record));
        }
    }

    /// Two each second, ten while roles change, and one for each thing that is new: more is a storm.
    fn count_heartbeat(&mut self, host: usize) {
        let sent = &mut self.hosts[host].sent;
        sent.retain(|at| self.now.since(*at) < s(1));
        sent.push(self.now);
        assert!(sent.len() <= 40, "a storm of heartbeats: {:#?}", self.log);
    }

    /// Sends something by a way, if the way lets it.
    fn carry(&mut self, from: usize, way: usize, what: &Arrival) {
        let link = self.links[from][way];
        let is_channel = way == self.links[from].len() - 1;
        let copies = if self.chance.percent(link.twice) { 2 } else { 1 };
        for _ in 0..copies {
            let lost = self.chance.percent(link.loss);
            let jitter = self.chance.below(link.jitter.as_nanos() as u64 + 1);
            if !link.cut && !lost {
                let delay = link.delay + Duration::from_nanos(jitter);
                self.send(1 - from, is_channel, delay, what.clone());
            }
        }
    }

    fn send(&mut self, to: usize, connected: bool, delay: Duration, what: Arrival) {
        let (run, sent) = (self.hosts[to].run, self.now);
        let connection = connected.then_some(self.connection);
        // What is for a host that is down is lost even if it comes back meanwhile.
        if self.hosts[to].pair.is_none() {
            return;
        }
        self.serial += 1;
        self.coming.push(Reverse((self.now + delay, self.serial)));
        self.what_comes.insert(self.serial, Coming { host: to, run, connection, sent, what });
    }

    /// Connects the state channel, if nothing stands against it.
    fn connect(&mut self) {
        let cut = self.links.iter().any(|links| links[links.len() - 1].cut);
        // A connection by which nothing comes is given up.
        let since = *self.channel_cut.get_or_insert(self.now);
        if !cut {
            self.channel_cut = None;
        } else if self.now.since(since) >= s(3) {
            for host in 0..2 {
                self.hang_up(host);
            }
        }
        let up = self.hosts.iter().all(|host| host.channel);
        if cut || up || !self.hosts.iter().all(Host::is_awake) {
            return;
        }
        self.connection += 1;
        for host in 0..2 {
            if self.hosts[host].channel {
                self.send(host, true, ms(1), Arrival::Channel(Channel::Down(Wrong::Read)));
            }
            self.send(host, true, ms(1), Arrival::Channel(Channel::Up));
            self.send(host, true, ms(1), Arrival::Copying);
        }
    }

    /// The other end of the connection sees that it has ended.
    fn hang_up(&mut self, host: usize) {
        if self.hosts[1 - host].channel {
            self.connection += 1;
            self.send(1 - host, false, ms(1), Arrival::Channel(Channel::Down(Wrong::Read)));
        }
    }

    // ---- what must always be so ----

    fn hear(&mut self, host: usize, event: Event) {
        let run = self.hosts[host].run;
        match event {
            Event::Role { role, term, at: _ } => {
                let term_said = term.map_or(String::new(), |term| format!(" {}", term.number));
                self.note(host, &format!("{}{term_said}", role.name()));
                if let Some(term) = term {
                    // They meet anew when one of them is in another term.
                    self.both_primary = None;
                    // PAIR-2: no term is ever used twice, and they grow.
                    let before = self.terms.insert(term, (host, run));
                    assert_eq!(before, None, "{term:?} again: {:#?}", self.log);
                    let it = &mut self.hosts[host];
                    assert!(term.number > it.last_number, "{term:?} after {}", it.last_number);
                    it.last_number = term.number;
                    assert!(it.disk.known.is_some_and(|known| known.number >= term.number));
                }
            }
            Event::TookOver(takeover) => {
                let degraded = takeover.degraded.map_or(String::new(), |what| format!(", {what}"));
                self.note(host, &format!("took over: {}{degraded}", takeover.reason.name()));
                if takeover.kind == Kind::Automatic {
                    self.takeovers.push((self.now, host));
                    self.check_limit(host);
                }
            }
            Event::SteppedBack { why, at: _ } => self.note(host, &format!("stepped back: {why:?}")),
            Event::Finding(finding) => {
                // Every alarm is raised once and cleared once.
                let text = finding.condition.to_string();
                let raised = &mut self.hosts[host].raised;
                let changed =
                    if finding.begins { raised.insert(text.clone()) } else { raised.remove(&text) };
                assert!(changed, "{text} is told twice: {:#?}", self.log);
                let verb = if finding.begins { "raise" } else { "clear" };
                self.note(host, &format!("{verb} {text}"));
            }
            Event::Done(order) => self.note(host, &format!("done: {order:?}")),
            Event::Refused(_, why) => self.note(host, &format!("refused: {why}")),
            Event::RestartUnasked => self.note(host, "restarts unasked"),
            Event::MateStarted { .. } => {}
            Event::Stalled { .. } => self.note(host, "stalled"),
        }
    }

    /// PAIR-6: each keeps to the limit in what it does itself; both together do, if they can talk.
    fn check_limit(&self, host: usize) {
        let Some(limit) = self.hosts[host].settings.limit else { return };
        let within = self.takeovers.iter().filter(|(at, who)| {
            self.now.since(*at) < limit.period().mul_f64(0.999) && (!self.was_split || *who == host)
        });
        let within = within.count();
        assert!(within <= usize::from(limit.count()), "{within} takeovers: {:#?}", self.log);
    }

    /// Looks who speaks and who is primary.
    fn look(&mut self) {
        let speaking = [self.speaks(0), self.speaks(1)];
        if speaking.contains(&true) {
            self.spoken = self.now;
        }
        let both = speaking == [true; 2];
        if both {
            // PAIR-17: of two that speak at once each has gone on alone, a mate time-out after it last
            // heard that it is followed.
            for host in 0..2 {
                assert!(self.pair(host).is_alone(), "{host} is not alone: {:#?}", self.log);
            }
            if self.both_speak {
                self.both_spoke += self.now.since(self.looked);
            }
        }
        (self.both_speak, self.looked) = (both, self.now);
        if self.roles() == [Some(Role::Primary); 2] {
            // PAIR-2: two primaries that meet are one as soon as each has heard the other.
            let since = *self.both_primary.get_or_insert(self.now);
            let met = self.hosts.iter().all(|host| host.met == Some(since) && host.is_awake());
            assert!(!met, "two primaries have met and are still two: {:#?}", self.log);
        } else {
            self.both_primary = None;
        }
        if self.roles().contains(&Some(Role::Primary)) {
            self.governed = self.now;
        }
    }

    /// Writes down what happened.
    pub fn note(&mut self, host: usize, what: &str) {
        self.log.push((self.now.since(self.begin), format!("{host} {what}")));
    }
}

/// A time as timelines write it: `3s250ms`.
pub fn written(time: Duration) -> String {
    match (time.as_secs(), time.subsec_millis()) {
        (0, millis) => format!("{millis}ms"),
        (secs, 0) => format!("{secs}s"),
        (secs, millis) => format!("{secs}s{millis:03}ms"),
    }
}
