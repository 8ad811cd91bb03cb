//! One notification target as a machine without I/O: told the time, what there is to send and what the
//! target says, it says what to do next (TRAP-10, TRAP-11, TRAP-13). [`target`](super::target) does it.
//!
//! In this order goes what may go: the agent's start, alone; what must be sent again; alarms, the most
//! severe first; forwarded traps, in the order in which they came. All of it at the rate of the target.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use evenkeel_core::{
    alarm::{AlarmEvent, Severity},
    input::Taken,
    mib,
    notification::{Start, alarm_varbinds, start_varbinds, uptime_ticks},
    origin::with_origin,
    sender::{Heard, Notice, Outgoing, Session, Version},
    time::Time,
};

use super::{
    Filter, Identity, Reach, Target, TargetStats,
    feed::{Bounds, Feed},
    informs::{Informs, Next},
    order::Turn,
    pace::Pace,
    retry,
    traps::Traps,
};

/// Some 5 MB at most for each target that is away: 10,000 alarms are the storm of a large site, and are
/// sent within 20 s at the default rate. A crash repeats at most 20,000.
const ALARMS: Bounds =
    Bounds { waiting: 10_000, kept: 1_000, span: 20_000, rows: 500, gapless: true };

/// Few, as they leave in the order in which they are read, and each may have 64 kB.
const FORWARDED: Bounds =
    Bounds { waiting: 256, kept: 256, span: 20_000, rows: 64, gapless: false };

/// How many rows are read when one must be read again: its neighbours are often next.
const AROUND: usize = 100;

/// The first wait after the journal or the spool could not be read.
const READ_AGAIN: Duration = Duration::from_millis(250);

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send this.
    Send {
        /// The datagram.
        datagram: Vec<u8>,
        /// From a new socket: the address that the last one sends from may be gone from this host, so
        /// that no answer can come.
        afresh: bool,
    },
    /// Read this, and hand in what was found.
    Read(Read),
    /// Wait for what the target says, for more to send, or for this moment.
    Wait(Option<Time>),
}

/// What is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read {
    /// From where.
    pub source: Source,
    /// What comes after this number.
    pub after: u64,
    /// At most so many.
    pub limit: usize,
    /// Up to which number there is something.
    safe: u64,
    /// Its turn has come, and its content is not at hand.
    again: bool,
}

/// Where there is something to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The journal.
    Journal,
    /// The spool.
    Spool,
}

/// Something to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item {
    /// The start of the agent.
    Start,
    /// A row of the journal.
    Alarm(Turn),
    /// An entry of the spool.
    Forwarded(Turn),
}

/// The start of the agent, which is told first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beginning {
    /// How it started.
    pub start: Start,
    /// What tells its starts apart.
    pub id: u64,
}

/// How far a target is: what stays when its configuration changes.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// The start of the agent, as long as it was not told.
    pub start: Option<Beginning>,
    /// Everything in the journal up to here is done.
    pub alarms: u64,
    /// The same of the spool, for a target that acknowledges.
    pub forwarded: Option<u64>,
    /// What was last told of whether it can be reached.
    reachable: Option<bool>,
    counts: Counts,
}

impl Progress {
    /// At a place in the journal.
    pub fn at(alarms: u64) -> Progress {
        Progress { alarms, ..Progress::default() }
    }
}

#[derive(Clone, Debug, Default)]
struct Counts {
    sent: u64,
    acknowledged: u64,
    retransmitted: u64,
    refused: u64,
    failed: u64,
    lost: u64,
    last_error: Option<String>,
}

/// What is under way.
#[derive(Debug)]
enum Way {
    Informs(Informs),
    Traps(Traps),
}

/// The machine of one target.
pub struct Machine {
    target: Target,
    identity: Arc<Identity>,
    /// The OID of the mark of what we forward.
    mark_oid: Vec<u8>,
    session: Session,
    pace: Pace,
    way: Way,
    start: Option<Beginning>,
    /// The start is under way.
    start_sent: bool,
    alarms: Feed<AlarmEvent>,
    forwarded: Option<Feed<Taken>>,
    /// What is safe in the journal and in the spool.
    committed: u64,
    spooled: u64,
    /// Nothing is read before this, after so many errors in a row.
    read_at: Time,
    read_errors: u32,
    /// Our address, as the target sees it.
    local: Ipv4Addr,
    reachable: Option<bool>,
    changes: Vec<Reach>,
    counts: Counts,
    /// The next datagram is to leave from a new socket.
    afresh: bool,
}

impl Machine {
    /// A machine that goes on where `progress` is. `seed` must be random.
    pub fn new(target: Target, identity: Arc<Identity>, progress: Progress, seed: u64) -> Machine {
        let way = match target.acknowledges() {
            true => Way::Informs(Informs::new(target.timeout, target.retries, target.window)),
            false => Way::Traps(Traps::new(target.retries)),
        };
        let forwarded = progress.forwarded.filter(|_| target.acknowledges());
        Machine {
            mark_oid: mib::forwarded_by(&identity.root),
            session: Session::new(target.destination.clone(), identity.engine.clone(), seed),
            pace: Pace::new(target.rate, target.burst),
            way,
            start: progress.start,
            start_sent: false,
            alarms: Feed::new(ALARMS, progress.alarms),
            forwarded: forwarded.map(|cursor| Feed::new(FORWARDED, cursor)),
            committed: progress.alarms,
            spooled: progress.forwarded.unwrap_or(0),
            read_at: Time::ZERO,
            read_errors: 0,
            local: Ipv4Addr::UNSPECIFIED,
            reachable: progress.reachable,
            changes: Vec::new(),
            counts: progress.counts,
            afresh: false,
            target,
            identity,
        }
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        Progress {
            start: self.start,
            alarms: self.cursor(),
            forwarded: self.forwarded_cursor(),
            reachable: self.reachable,
            counts: self.counts.clone(),
        }
    }

    /// Everything in the journal up to here is done.
    pub fn cursor(&self) -> u64 {
        self.alarms.cursor()
    }

    /// Everything in the spool up to here is done; nothing for a target that acknowledges nothing.
    pub fn forwarded_cursor(&self) -> Option<u64> {
        self.forwarded.as_ref().map(Feed::cursor)
    }

    /// Whether the target was last told of as unreachable.
    pub fn is_unreachable(&self) -> bool {
        self.reachable == Some(false)
    }

    /// What is safe in the journal and in the spool.
    pub fn told(&mut self, committed: u64, spooled: u64) {
        self.committed = committed;
        self.spooled = spooled;
    }

    /// The address that the socket sends from.
    pub fn set_local(&mut self, local: IpAddr) {
        self.local = match local.to_canonical() {
            IpAddr::V4(address) => address,
            IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
        };
    }

    /// The changes of whether it can be reached, since this was last called.
    pub fn take_changes(&mut self) -> Vec<Reach> {
        std::mem::take(&mut self.changes)
    }

    /// What to do next. To be called again after each action, and whenever something was handed in.
    pub fn next(&mut self, now: Time) -> Action {
        self.time_passed(now);
        let read = self.next_read();
        match read {
            Some(read) if self.read_at <= now => return Action::Read(read),
            Some(_) | None => {}
        }
        match self.next_send(now) {
            Action::Wait(until) => {
                let read_at = read.map(|_| self.read_at);
                Action::Wait(until.into_iter().chain(read_at).min())
            }
            other => other,
        }
    }

    /// What was read from the journal.
    pub fn read_alarms(&mut self, read: Read, rows: Vec<(u64, AlarmEvent)>) {
        self.read_errors = 0;
        if read.again {
            if !self.alarms.found_again(read.after + 1, rows) {
                self.gone(Source::Journal);
            }
            return;
        }
        // A full batch may not be all.
        let last = rows.last().map_or(0, |(number, _)| *number);
        let up_to = if rows.len() < read.limit { read.safe.max(last) } else { last };
        let filter = &self.target.filter;
        let gone = self.alarms.found(rows, up_to, |event| judge_alarm(filter, event));
        if gone > 0 {
            self.counts.lost += gone;
            tracing::error!(
                target = self.target.name,
                "{gone} alarm events were pruned from the journal before this notification target had \
                 them: it was away for longer than the journal's bound allows",
            );
        }
    }

    /// What was read from the spool, and up to where it was looked through.
    pub fn read_forwarded(
        &mut self,
        read: Read,
        entries: Vec<(u64, Taken)>,
        up_to: u64,
        now: Time,
    ) {
        let Some(feed) = &mut self.forwarded else { return };
        self.read_errors = 0;
        if read.again {
            if !feed.found_again(read.after + 1, entries) {
                self.gone(Source::Spool);
            }
            return;
        }
        if entries.is_empty() && up_to <= read.after {
            // It is not as far as it said; asked at once, it would say so again.
            self.read_at = now + READ_AGAIN;
        }
        // One system's traps keep their order.
        feed.found(entries, up_to, |taken| Some((Severity::Warning, hash(&taken.system))));
    }

    /// The journal or the spool can't be read.
    pub fn read_failed(&mut self, error: String, now: Time) {
        self.read_errors = self.read_errors.saturating_add(1);
        self.read_at = now + retry::after(READ_AGAIN, self.read_errors);
        self.counts.failed += 1;
        self.counts.last_error = Some(error);
    }

    /// A datagram came from the target.
    pub fn heard(&mut self, datagram: &[u8], now: Time) {
        let Way::Informs(informs) = &mut self.way else { return };
        match self.session.hear(datagram, now) {
            Heard::Nothing => {}
            Heard::Again => informs.again(now),
            Heard::Failed { why } => {
                self.counts.failed += 1;
                self.counts.last_error = Some(why);
            }
            Heard::Acknowledged { request_id } => {
                let item = informs.answered(request_id, now);
                self.counts.last_error = None;
                if let Some(item) = item {
                    self.counts.acknowledged += 1;
                    self.done(item);
                }
                self.reached(now);
            }
            // It has arrived, and would be refused again: as good as acknowledged, and told.
            Heard::Refused { request_id, why } => {
                let item = informs.answered(request_id, now);
                if let Some(item) = item {
                    self.counts.refused += 1;
                    self.counts.last_error = Some(format!("refused: {why}"));
                    self.done(item);
                }
                self.reached(now);
            }
        }
    }

    /// The kernel did not take the datagram that was last to be sent.
    pub fn not_taken(&mut self, error: String, now: Time) {
        self.counts.sent = self.counts.sent.saturating_sub(1);
        self.failed(error, now);
    }

    /// An error came: of the socket, or of the network about what was sent before.
    pub fn failed(&mut self, error: String, now: Time) {
        self.counts.failed += 1;
        self.counts.last_error = Some(error.clone());
        match &mut self.way {
            // Its timer sees to what was sent.
            Way::Informs(_) => {}
            Way::Traps(traps) => {
                let (back, errors) = traps.failed(now);
                let unreachable = traps.is_unreachable();
                for item in back {
                    self.counts.retransmitted += 1;
                    self.back(item);
                }
                if unreachable {
                    self.unreachable(format!("{error}, {errors} times in a row"), now);
                }
            }
        }
    }

    /// Takes all traps for settled that were sent without an error, for an orderly stop.
    pub fn settle_all(&mut self) {
        if let Way::Traps(traps) = &mut self.way {
            for item in traps.settled_all() {
                self.done(item);
            }
        }
    }

    /// How it fares, with what is safe in the journal and in the spool.
    pub fn stats(&self, committed: u64, spooled: u64) -> TargetStats {
        let counts = self.counts.clone();
        TargetStats {
            name: self.target.name.clone(),
            address: self.target.address.to_string(),
            form: form(&self.target),
            sent: counts.sent,
            acknowledged: counts.acknowledged,
            retransmitted: counts.retransmitted,
            refused: counts.refused,
            failed: counts.failed,
            lost: counts.lost,
            lag: self.alarms.undone(committed),
            waiting_forwarded: self.forwarded.as_ref().map_or(0, |feed| feed.undone(spooled)),
            reachable: !self.is_unreachable(),
            last_error: counts.last_error,
        }
    }

    /// Sees to what time alone decides.
    fn time_passed(&mut self, now: Time) {
        match &mut self.way {
            Way::Informs(informs) => {
                let expired = informs.expire(now);
                for item in expired.given_up {
                    self.counts.lost += 1;
                    self.counts.last_error = Some(
                        "never answered a forwarded trap, while it answered others".to_owned(),
                    );
                    self.done(item);
                }
                if let Some(why) = expired.unreachable {
                    let why = match &self.counts.last_error {
                        Some(error) => format!("{why}: {error}"),
                        None => why,
                    };
                    self.unreachable(why, now);
                }
            }
            Way::Traps(traps) => {
                let mut settled = Vec::new();
                while let Some(item) = traps.settled(now) {
                    settled.push(item);
                }
                if !settled.is_empty() {
                    settled.into_iter().for_each(|item| self.done(item));
                    self.counts.last_error = None;
                    self.reached(now);
                }
            }
        }
    }

    /// What is to be read: all that is new, as far as there is room, so that the most severe is known;
    /// then that whose turn has come.
    fn next_read(&self) -> Option<Read> {
        let new = |source, after, limit, safe| Read { source, after, limit, safe, again: false };
        if let Some(after) = self.alarms.wants(self.committed) {
            return Some(new(Source::Journal, after, self.alarms.rows(), self.committed));
        }
        if let Some(feed) = &self.forwarded
            && let Some(after) = feed.wants(self.spooled)
        {
            return Some(new(Source::Spool, after, feed.rows(), self.spooled));
        }
        let again = |source, number: u64| Read {
            source,
            after: number - 1,
            limit: AROUND,
            safe: 0,
            again: true,
        };
        let missing = self.alarms.next().filter(|&number| !self.alarms.has(number));
        let journal = missing.map(|number| again(Source::Journal, number));
        journal.or_else(|| {
            let feed = self.forwarded.as_ref()?;
            let missing = feed.next().filter(|&number| !feed.has(number))?;
            Some(again(Source::Spool, missing))
        })
    }

    /// That whose turn it is was pruned after it had been read.
    fn gone(&mut self, source: Source) {
        self.counts.lost += 1;
        match (source, &mut self.forwarded) {
            (Source::Journal, _) => {
                if let Some((turn, _)) = self.alarms.take(false) {
                    self.alarms.done(&turn);
                }
            }
            (Source::Spool, Some(feed)) => {
                if let Some((turn, _)) = feed.take(false) {
                    feed.done(&turn);
                }
            }
            (Source::Spool, None) => {}
        }
    }

    fn next_send(&mut self, now: Time) -> Action {
        // Ends, as each round that sends nothing takes away something that can't be sent.
        loop {
            let new = self.next_new();
            let next = match &self.way {
                Way::Informs(informs) => informs.next(now, new.is_some()),
                Way::Traps(traps) => match (traps.held(now), new) {
                    (Some(held), _) => Next::Wait(Some(held)),
                    (None, Some(_)) => Next::New,
                    (None, None) => Next::Wait(traps.next_settled()),
                },
            };
            if let Next::Wait(until) = next {
                return Action::Wait(until);
            }
            if self.pace.ready() > now {
                let settles = match &self.way {
                    Way::Traps(traps) => traps.next_settled(),
                    Way::Informs(_) => None,
                };
                let ready = self.pace.ready();
                return Action::Wait(Some(settles.map_or(ready, |settles| settles.min(ready))));
            }
            let sent = match next {
                Next::Again(id) => self.send_again(id, now),
                Next::New => new.and_then(|new| self.send_new(new, now)),
                Next::Wait(_) => None,
            };
            if let Some(datagram) = sent {
                self.pace.take(now);
                self.counts.sent += 1;
                let afresh = std::mem::take(&mut self.afresh);
                return Action::Send { datagram, afresh };
            }
        }
    }

    /// What would be sent next that was not sent yet, if it may be.
    fn next_new(&self) -> Option<New> {
        if self.start.is_some() && self.start_sent {
            // Whatever else there is waits for the start; a trap is told as soon as it is sent.
            if let Way::Informs(_) = &self.way {
                return None;
            }
        } else if self.start.is_some() {
            return Some(New::Start);
        }
        let (room, room_for_forwarded) = match &self.way {
            Way::Informs(informs) => (informs.has_room(), informs.has_room_for_forwarded()),
            Way::Traps(_) => (true, false),
        };
        let alarm = self.alarms.next().filter(|&number| room && self.alarms.has(number));
        alarm.map(|_| New::Alarm).or_else(|| {
            let feed = self.forwarded.as_ref().filter(|_| room_for_forwarded)?;
            feed.next().filter(|&number| feed.has(number)).map(|_| New::Forwarded)
        })
    }

    fn send_new(&mut self, new: New, now: Time) -> Option<Vec<u8>> {
        let hold = matches!(self.way, Way::Informs(_));
        let uptime = uptime_ticks(now.since(self.identity.engine.started));
        let (item, varbinds, agent_address) = match new {
            New::Start => {
                let beginning = self.start?;
                self.start_sent = true;
                (Item::Start, start_varbinds(uptime, beginning.start), self.local)
            }
            New::Alarm => {
                let (turn, event) = self.alarms.take(hold)?;
                let (root, sender) = (&self.identity.root, self.identity.sender());
                let most = self.session.room();
                let varbinds = alarm_varbinds(root, uptime, turn.number, sender, &event?, most);
                (Item::Alarm(turn), varbinds, self.local)
            }
            New::Forwarded => {
                let (turn, taken) = self.forwarded.as_mut()?.take(hold)?;
                let taken = taken?;
                let (oid, mark) = (&self.mark_oid, self.identity.engine.id.octets());
                let varbinds = with_origin(&taken, oid, mark, self.target.forward_community);
                let system = match taken.system.0.to_canonical() {
                    IpAddr::V4(address) => address,
                    IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
                };
                (Item::Forwarded(turn), varbinds, system)
            }
        };
        let id = self.request_id(item);
        match &mut self.way {
            Way::Informs(informs) => {
                informs.add(id, item, varbinds, agent_address, now);
                self.send_again(id, now)
            }
            Way::Traps(traps) => {
                let notice = Notice { request_id: id, varbinds: &varbinds, agent_address };
                match self.session.encode(&notice, now) {
                    Ok(Outgoing::Message(datagram) | Outgoing::Discovery(datagram)) => {
                        traps.sent(item, now);
                        Some(datagram)
                    }
                    Err(unsendable) => {
                        self.unsendable(item, unsendable.to_string());
                        None
                    }
                }
            }
        }
    }

    /// Sends an inform that is under way, for the first time or again.
    fn send_again(&mut self, id: i32, now: Time) -> Option<Vec<u8>> {
        let Way::Informs(informs) = &mut self.way else { return None };
        let one = informs.get(id)?;
        let notice =
            Notice { request_id: id, varbinds: &one.varbinds, agent_address: one.agent_address };
        let (datagram, discovery) = match self.session.encode(&notice, now) {
            Ok(Outgoing::Message(datagram)) => (datagram, false),
            Ok(Outgoing::Discovery(datagram)) => (datagram, true),
            Err(unsendable) => {
                if let Some(item) = informs.remove(id) {
                    self.unsendable(item, unsendable.to_string());
                }
                return None;
            }
        };
        self.afresh = informs.is_unreachable();
        if informs.sent(id, discovery, now) {
            self.counts.retransmitted += 1;
        }
        Some(datagram)
    }

    /// It can never be sent. No log line, as the network can cause it.
    fn unsendable(&mut self, item: Item, why: String) {
        self.counts.lost += 1;
        self.counts.last_error = Some(format!("a notification can't be sent: {why}"));
        self.done(item);
    }

    fn done(&mut self, item: Item) {
        match item {
            Item::Start => self.start = None,
            Item::Alarm(turn) => self.alarms.done(&turn),
            Item::Forwarded(turn) => {
                if let Some(feed) = &mut self.forwarded {
                    feed.done(&turn);
                }
            }
        }
    }

    fn back(&mut self, item: Item) {
        match item {
            Item::Start => self.start_sent = false,
            Item::Alarm(turn) => self.alarms.back(&turn),
            Item::Forwarded(turn) => {
                if let Some(feed) = &mut self.forwarded {
                    feed.back(&turn);
                }
            }
        }
    }

    /// The same for each copy, over restarts too, and never negative, which some receivers refuse: a
    /// number of 30 bits for an alarm, and one of 29 below it for a forwarded trap and for a start.
    fn request_id(&self, item: Item) -> i32 {
        let bits = match item {
            Item::Alarm(turn) => turn.number & 0x3fff_ffff,
            Item::Forwarded(turn) => 0x4000_0000 | turn.number & 0x1fff_ffff,
            Item::Start => 0x6000_0000 | self.start.map_or(0, |start| start.id) & 0x1fff_ffff,
        };
        bits as i32
    }

    fn reached(&mut self, now: Time) {
        if self.reachable != Some(true) {
            self.reachable = Some(true);
            self.changes.push(Reach { name: self.target.name.clone(), unreachable: None, at: now });
        }
    }

    fn unreachable(&mut self, why: String, now: Time) {
        if self.reachable != Some(false) {
            self.reachable = Some(false);
            let name = self.target.name.clone();
            self.changes.push(Reach { name, unreachable: Some(why), at: now });
        }
    }
}

/// What may be sent for the first time.
#[derive(Clone, Copy, Debug)]
enum New {
    Start,
    Alarm,
    Forwarded,
}

fn judge_alarm(filter: &Filter, event: &AlarmEvent) -> Option<(Severity, u64)> {
    filter.passes(&event.alarm).then(|| (event.alarm.severity, hash(&event.alarm.object)))
}

/// Stands for an object in the order. Two with the same value would wait for each other, and no more.
fn hash(object: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    object.hash(&mut hasher);
    hasher.finish()
}

/// How a target is spoken to, without anything that is secret.
fn form(target: &Target) -> String {
    let version = match &target.destination.version {
        Version::V1 { .. } => "v1".to_owned(),
        Version::V2c { .. } => "v2c".to_owned(),
        Version::V3 { user } => format!("v3 {}", user.level.name()),
    };
    let kind = if target.acknowledges() { "inform" } else { "trap" };
    format!("{version} {kind}")
}
