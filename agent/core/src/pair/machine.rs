//! The machine of one agent of a pair: what it knows, and the door. What it takes in is in `hearing.rs`,
//! what follows in `deciding.rs`, which alarms that makes in `finding.rs`, what it says in `saying.rs`.

mod deciding;
mod finding;
mod hearing;
mod saying;

use std::{collections::VecDeque, time::Duration};

use super::{
    Counters, Event, Identity, Input, Kept, Order, Role, SteppedBack,
    election::Candidate,
    licence::{Licence, Rounds},
    limit::Takeovers,
    message::{Heard, Heartbeat, Leaving, Orders, Said},
    paths::{Channel, Way, Wrong},
    record::{Kind, Reason, Record, RecordSaid},
    settings::Settings,
    sync::Synchrony,
    term::{Term, higher, number},
    version::{Grade, Version},
    witness::{Reach, Witnesses},
};
use crate::time::Time;
use finding::Raised;

/// One agent of a pair.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pair {
    identity: Identity,
    settings: Settings,
    started: Time,
    /// The latest [`Input::Now`].
    now: Time,
    role: Stand,
    /// A term of this agent's that is not begun before it is on the disk.
    begun: Option<Begun>,
    /// The last term of its own that it did not begin after all.
    abandoned: Option<Term>,
    /// The highest term that is known.
    known: Option<Term>,
    /// The highest term that is on the disk.
    kept: Option<Term>,
    mate: Mate,
    paths: Vec<Way>,
    channel: Channel,
    /// Heartbeats on the state channel.
    channel_way: Way,
    synchrony: Synchrony,
    witnesses: Witnesses,
    takeovers: Takeovers,
    record: Record,
    orders: Orders,
    /// An operator ordered a failover here, where the standby is.
    ordered: Option<Time>,
    failing: bool,
    /// Since when it is to stop, and how many heartbeats have said so.
    stopping: Option<(Time, u32)>,
    raised: Raised,
    rounds: Rounds,
    next_round: Time,
    last_said: Option<Said>,
    events: VecDeque<Event>,
    heartbeat: Option<Heartbeat>,
    record_out: Option<RecordSaid>,
    ask: Option<Time>,
    /// Something that must outlive the agent has changed.
    to_keep: bool,
    counters: Counters,
}

/// The role, with what only who has it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Stand {
    Undecided,
    Standby,
    Primary(Primary),
}

/// A primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Primary {
    term: Term,
    licence: Licence,
    /// Why and since when it asks the standby to take over.
    leaving: Option<(Leaving, Time)>,
    /// Since when it hears another primary that is to step back.
    met: Option<Time>,
}

/// A term that is being kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Begun {
    term: Term,
    reason: Reason,
}

/// What is known of the mate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Mate {
    /// Its latest run; 0 if none was ever heard.
    run: u64,
    /// It was heard, in this run of ours.
    last: Option<Last>,
    /// When it was heard last, by whatever way; at first, when this agent started. A time in which this
    /// agent stood still is left out.
    silent_since: Time,
}

/// What the newest heartbeat of the mate said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Last {
    version: Version,
    round: u64,
    heard: Option<Heard>,
    said: Said,
}

impl Pair {
    /// An agent of a pair that starts at `now`, with what an earlier run has `kept` and for how long it
    /// was `away`: longer is safe. It is undecided.
    pub fn new(
        identity: Identity,
        settings: Settings,
        kept: &Kept,
        away: Duration,
        now: Time,
    ) -> Pair {
        let mut takeovers = Takeovers::default();
        takeovers.learn(&Takeovers::aged(&kept.takeovers, away), now);
        let mut record = Record::default();
        record.learn(kept.record.aged(away), now);
        let paths = vec![Way::new(now); settings.paths.interfaces().len()];
        Pair {
            identity,
            started: now,
            now,
            role: Stand::Undecided,
            begun: None,
            abandoned: None,
            known: kept.known,
            kept: kept.known,
            mate: Mate { run: kept.mate_run, last: None, silent_since: now },
            paths,
            channel: Channel::Down(Wrong::Connect),
            channel_way: Way::new(now),
            synchrony: Synchrony::Never,
            witnesses: Witnesses::default(),
            takeovers,
            record,
            orders: kept.orders,
            ordered: None,
            failing: false,
            stopping: None,
            raised: Raised::default(),
            rounds: Rounds::default(),
            next_round: now,
            last_said: None,
            events: VecDeque::new(),
            heartbeat: None,
            record_out: None,
            ask: None,
            to_keep: false,
            counters: Counters::default(),
            settings,
        }
    }

    /// Takes in one input. Nothing is decided before [`Input::Now`].
    pub fn handle(&mut self, input: Input) {
        match input {
            Input::Heartbeat { via, heartbeat, at } => self.hear(via, heartbeat, at),
            Input::Record { record, at } => self.to_keep |= self.record.learn(record, at),
            Input::Channel { channel, at } => self.set_channel(channel, at),
            Input::Sync { sync, at } => self.synchrony.hear(sync, at),
            Input::Witness { asked, testimony, at: _ } => {
                self.witnesses.hear(asked, testimony, self.settings.timing);
            }
            Input::Kept { known, at: _ } => {
                // Of two terms with one number the disk has the later.
                if number(known) >= number(self.kept) {
                    self.kept = known;
                }
            }
            Input::Order { order, at } => self.order(order, at),
            Input::Parts { failing, at } => self.set_failing(failing, at),
            Input::Network { up, at } => self.witnesses.set_network(up, at),
            Input::Settings { settings, at } => self.reload(*settings, at),
            Input::Stopping { at } => self.stop(at),
            Input::Now(now) => self.turn(now),
        }
    }

    /// One look at everything.
    fn turn(&mut self, now: Time) {
        let now = now.max(self.now);
        self.look_for_stall(now);
        self.now = now;
        self.decide(now);
        self.wonder(now);
        self.find(now);
        self.say(now);
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// A heartbeat to send now, on every path and on the state channel.
    pub fn poll_heartbeat(&mut self) -> Option<Heartbeat> {
        self.heartbeat.take()
    }

    /// The record of the last takeover, to send on the state channel if it is up. If it is not, it is
    /// handed out again when it comes up.
    pub fn poll_record(&mut self) -> Option<RecordSaid> {
        self.record_out.take()
    }

    /// What is to be put on the disk now; what was handed out before need not be any more.
    pub fn poll_keep(&mut self) -> Option<Kept> {
        if !std::mem::take(&mut self.to_keep) {
            return None;
        }
        // A takeover is kept with its term, so that no crash makes the limit forget it.
        let mut takeovers = self.takeovers.clone();
        if let Some(Begun { term, reason }) = self.begun
            && reason.kind() == Some(Kind::Automatic)
        {
            takeovers.add(term, self.now);
        }
        Some(Kept {
            known: self.known,
            mate_run: self.mate.run,
            orders: self.orders,
            takeovers: takeovers.said(self.now),
            record: self.record.said(self.now),
        })
    }

    /// The moment as which all witnesses are to be asked now.
    pub fn poll_ask(&mut self) -> Option<Time> {
        self.ask.take()
    }

    /// Whether this agent may speak to the outside, at the moment that it is about to.
    pub fn may_speak(&self, now: Time) -> bool {
        self.speaks_until().is_some_and(|until| now < until)
    }

    /// Until when it may speak if nothing more is handed in; at that moment, or without one, it may
    /// not.
    pub fn speaks_until(&self) -> Option<Time> {
        match self.role {
            Stand::Primary(Primary { licence, leaving: None, .. }) => Some(licence.until()),
            Stand::Primary(_) | Stand::Undecided | Stand::Standby => None,
        }
    }

    /// Whether an agent that is to stop has done what it can for the pair: the mate has taken over, or
    /// will not, and has been told often enough.
    pub fn is_gone(&self, now: Time) -> bool {
        /// Three in a row are lost once in a thousand times where a tenth is.
        const GOODBYES: u32 = 3;
        let Some((since, told)) = self.stopping else { return false };
        let handing_over = match self.role {
            Stand::Primary(primary) => primary.leaving.is_some(),
            Stand::Undecided | Stand::Standby => false,
        };
        // PAIR-15: an ordered takeover is complete within a second. A mate that has not taken over in
        // that time finds out by the silence.
        (told >= GOODBYES && !handing_over) || now.since(since) >= Duration::from_secs(1)
    }

    /// When something is next to be judged or sent. It may be too early, never too late.
    pub fn next_deadline(&self) -> Time {
        let timing = self.settings.timing;
        let silent = self.mate.silent_since;
        let mut deadlines = vec![
            silent + timing.wonder(),
            silent + timing.takeover(),
            silent + timing.takeover() + timing.tie_breaker(),
            self.channel_way.silent_at(timing),
        ];
        deadlines.extend(self.paths.iter().map(|path| path.silent_at(timing)));
        deadlines.extend(self.witnesses.next());
        deadlines.extend(self.takeovers.suppressed_until(self.settings.limit, self.now));
        deadlines.extend(self.failback_due());
        deadlines.extend(self.ordered.map(|since| since + timing.alone()));
        deadlines.extend(self.reached_for_long());
        if let Stand::Primary(primary) = self.role {
            deadlines.push(primary.licence.alone_from(timing));
            deadlines.extend(primary.leaving.map(|(_, since)| since + timing.mate_timeout()));
            deadlines.extend(primary.met.map(|since| since + timing.tie_breaker()));
        }
        let due = deadlines.into_iter().filter(|deadline| *deadline > self.now);
        due.chain([self.next_round]).min().unwrap_or(self.next_round)
    }

    /// Where this agent stands.
    pub const fn role(&self) -> Role {
        match self.role {
            Stand::Undecided => Role::Undecided,
            Stand::Standby => Role::Standby,
            Stand::Primary(_) => Role::Primary,
        }
    }

    /// The term that it is primary in.
    pub const fn term(&self) -> Option<Term> {
        match self.role {
            Stand::Primary(primary) => Some(primary.term),
            Stand::Undecided | Stand::Standby => None,
        }
    }

    /// The highest term that it knows of.
    pub const fn known(&self) -> Option<Term> {
        self.known
    }

    /// Whether it is primary and goes on without its standby.
    pub const fn is_alone(&self) -> bool {
        match self.role {
            Stand::Primary(primary) => primary.licence.is_alone(),
            Stand::Undecided | Stand::Standby => false,
        }
    }

    /// The mate's version, and what the newest heartbeat of it said; nothing if this run has heard none.
    pub fn mate(&self) -> Option<(Version, Said)> {
        self.mate.last.map(|last| (last.version, last.said))
    }

    /// How much of a pair the two are by their versions, if the mate has been heard.
    pub fn grade(&self) -> Option<Grade> {
        self.mate.last.map(|last| self.identity.version.with(last.version))
    }

    /// How long the mate has not been heard.
    pub const fn silent_for(&self, now: Time) -> Duration {
        now.since(self.mate.silent_since)
    }

    /// Whether each path is lost, in the order of the settings.
    pub fn paths_lost(&self) -> impl Iterator<Item = bool> {
        self.paths.iter().map(|path| path.is_lost())
    }

    /// The state channel.
    pub const fn channel(&self) -> Channel {
        self.channel
    }

    /// How much of the state is synchronised.
    pub const fn synchrony(&self) -> Synchrony {
        self.synchrony
    }

    /// The record of the last takeover.
    pub const fn record(&self) -> Record {
        self.record
    }

    /// The number of the last heartbeat that was handed out; 0 before the first.
    pub const fn last_round(&self) -> u64 {
        self.rounds.last()
    }

    /// Whether the pair is held.
    pub const fn is_held(&self) -> bool {
        self.orders.held
    }

    /// Until when automatic takeovers are suppressed, if they are.
    pub fn suppressed_until(&self, now: Time) -> Option<Time> {
        self.takeovers.suppressed_until(self.settings.limit, now)
    }

    /// How many automatic takeovers of the pair there were within the limit's period; nothing without a
    /// limit.
    pub fn takeovers_within(&self, now: Time) -> Option<usize> {
        self.settings.limit.map(|limit| self.takeovers.within(limit, now))
    }

    /// What was counted since this was called last.
    pub fn take_counters(&mut self) -> Counters {
        std::mem::take(&mut self.counters)
    }

    /// Whether this agent may be primary.
    fn is_fit(&self) -> bool {
        !self.failing && self.stopping.is_none()
    }

    /// Whether it reaches neither the mate nor a witness.
    fn is_cut_off(&self, now: Time) -> bool {
        self.is_mate_silent(now) && !matches!(self.reach(now), Reach::Reached { .. })
    }

    /// Whether it would take over by itself, if the mate were gone.
    fn is_able(&self, now: Time) -> bool {
        self.is_able_but_for_the_limit(now) && self.suppressed_until(now).is_none()
    }

    fn is_able_but_for_the_limit(&self, now: Time) -> bool {
        self.is_fit()
            && !self.orders.held
            && self.grade() != Some(Grade::Out)
            && self.is_in_sync(now)
    }

    fn is_in_sync(&self, now: Time) -> bool {
        // What a mate took with it that has just ended is no more than what any takeover lacks.
        self.synchrony.is_whole(now, self.settings.timing.alone())
    }

    /// Whether the mate's newest heartbeat answers one of this run: so it is no old one.
    fn is_answered(&self) -> bool {
        let heard = self.mate.last.and_then(|last| last.heard);
        heard.is_some_and(|heard| heard.run == self.identity.run)
    }

    /// Learns of a term.
    fn learn(&mut self, term: Option<Term>) {
        let known = higher(self.known, term);
        if known != self.known {
            self.known = known;
            self.to_keep = true;
        }
    }
}
