//! Messages of SNMPv3 in: who sent them, are they authentic, timely and readable (TRAP-4; RFC 3412,
//! 7.2; RFC 3414, 3.2).
//!
//! ```text
//!  datagram ─> parse ─> whose engine? ─┬ ours ──> user ─> level ─> digest ─> our window ────┐
//!                          │           │                                                    ├─> decrypt ─> PDU ─> Opened
//!                          │           └ other ─> user ─> level ─> digest ─> its window ────┘      │
//!                          │                               │        (first: what it says)          │
//!                          v                               v                                       v
//!                      discovery                        Refusal: the step, and a Report where the sender takes one
//! ```
//!
//! An engine that nobody listed is remembered once it has sent an authentic trap that could be read,
//! and never before. A user who sends noAuthNoPriv leaves no trace, as there is nothing that another
//! could not forge.

use std::net::IpAddr;

use smallvec::SmallVec;

use super::{
    EngineId, EngineRecord, Key, Level, LocalEngine, Step, User,
    crypto::SessionKeys,
    engines::{Cached, Engines, Slot},
    learning::Learning,
    message::{self, Incoming, Outgoing, Scoped},
    window::{self, Heard},
};
use crate::{ber::tag, ber_writer::Writer, time::Time, trap::Malformed};

/// The largest message that we take: what UDP over IPv4 can carry.
const MAX_SIZE: u32 = 65_507;

/// Counters for metrics. The first six are those of SNMP-USER-BASED-SM-MIB (RFC 3414, 5), and are told
/// in Reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsmStats {
    /// usmStatsUnsupportedSecLevels.
    pub unsupported_sec_levels: u64,
    /// usmStatsNotInTimeWindows.
    pub not_in_time_windows: u64,
    /// usmStatsUnknownUserNames.
    pub unknown_user_names: u64,
    /// usmStatsUnknownEngineIDs.
    pub unknown_engine_ids: u64,
    /// usmStatsWrongDigests.
    pub wrong_digests: u64,
    /// usmStatsDecryptionErrors.
    pub decryption_errors: u64,
    /// snmpUnknownPDUHandlers (RFC 3412, 5): authentic requests that are no inform.
    pub unknown_pdu_handlers: u64,
    /// Engines that were learned.
    pub learned: u64,
    /// Engines that gave way to others.
    pub evicted: u64,
    /// Reports that were made.
    pub reports: u64,
    /// Messages that were opened, by level.
    pub opened: [u64; 3],
    steps: [u64; Step::ALL.len()],
}

impl UsmStats {
    /// How many messages were refused at a step.
    pub const fn refused(&self, step: Step) -> u64 {
        self.steps[step.index()]
    }
}

impl Default for UsmStats {
    fn default() -> UsmStats {
        UsmStats {
            unsupported_sec_levels: 0,
            not_in_time_windows: 0,
            unknown_user_names: 0,
            unknown_engine_ids: 0,
            wrong_digests: 0,
            decryption_errors: 0,
            unknown_pdu_handlers: 0,
            learned: 0,
            evicted: 0,
            reports: 0,
            opened: [0; 3],
            steps: [0; Step::ALL.len()],
        }
    }
}

/// A message that may be believed as far as its level goes.
#[derive(Clone, Debug)]
pub struct Opened<'a> {
    /// It is an InformRequest, for which we are the authoritative engine, and wants a Response.
    pub inform: bool,
    /// The security name.
    pub user: &'a [u8],
    /// How it was protected.
    pub level: Level,
    /// The authoritative engine: the sender's for a trap, ours for an inform.
    pub engine: EngineId,
    /// contextEngineID.
    pub context_engine: &'a [u8],
    /// The PDU with its tag and length.
    pub pdu: &'a [u8],
    /// What a Response needs.
    pub reply: ReplyTo,
}

/// What a Response to a message needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplyTo {
    msg_id: i32,
    level: Level,
    user: SmallVec<[u8; 32]>,
    context_engine: SmallVec<[u8; 32]>,
    context: SmallVec<[u8; 32]>,
    /// The largest message that the sender takes (msgMaxSize).
    pub max_size: u32,
}

/// A message that was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The step that failed.
    pub step: Step,
    /// What is answered, at once.
    pub report: Option<Vec<u8>>,
}

/// The User-based Security Model on the receiving side.
#[derive(Debug)]
pub struct Usm {
    local: LocalEngine,
    /// In the order of their names.
    users: Vec<Known>,
    engines: Engines,
    learning: Learning,
    salt: u64,
    stats: UsmStats,
}

/// A user, with what is made of it once.
#[derive(Debug)]
struct Known {
    user: User,
    /// The keys at our own engine.
    local: Box<SessionKeys>,
}

/// Where the keys for a message are.
enum Keys {
    /// Those of this user at our own engine.
    Local(usize),
    /// Kept with an engine, at this place.
    Kept(Slot, usize),
    /// The engine is remembered, the keys of this user there are not.
    None(Slot, usize),
    /// The engine was never heard of.
    Unknown(usize),
}

/// Where they are once they have proved right.
enum Ready {
    Local(usize),
    Kept(Slot, usize),
    /// Kept nowhere, as no engine may be learned.
    Made(usize, Box<SessionKeys>),
}

impl Usm {
    /// Nothing learned yet. `max_engines` is how many engines are remembered beside those that users
    /// list; `seed` must be another in each run.
    pub fn new(local: LocalEngine, users: &[User], max_engines: u32, seed: u64) -> Usm {
        let mut usm = Usm {
            engines: Engines::new(max_engines, seed),
            users: Vec::new(),
            learning: Learning::new(seed),
            // RFC 3414, 8.1.1.1; RFC 3826, 3.1.2.1: boots, and a counter that starts anywhere.
            salt: u64::from(local.boots) << 32 | seed >> 32,
            local,
            stats: UsmStats::default(),
        };
        usm.reload(users, max_engines);
        usm
    }

    /// Takes other users. Engines that were learned stay, with their clocks, and with the keys of users
    /// that are the same as before.
    pub fn reload(&mut self, users: &[User], max_engines: u32) {
        let mut users: Vec<User> = users.to_vec();
        users.iter_mut().for_each(|user| user.engines.sort_unstable());
        // The one who learns comes last of its name, as the list of another goes before.
        users.sort_by(|a, b| (&a.name, a.learn).cmp(&(&b.name, b.learn)));
        let old: Vec<Known> = std::mem::take(&mut self.users);
        let place = |user: &User| {
            let first = users.partition_point(|other| other.name < user.name);
            let same = users[first..]
                .iter()
                .take_while(|other| other.name == user.name)
                .position(|other| other == user)?;
            Some(first + same)
        };
        self.engines.users_moved(|user| place(&old.get(user)?.user));
        self.engines.bound(max_engines, users.iter().flat_map(|user| &user.engines));
        self.users = users
            .into_iter()
            .map(|user| {
                let local = SessionKeys::unable_to_decrypt(user.auth.as_ref(), &self.local.id);
                Known { user, local: Box::new(local) }
            })
            .collect();
    }

    /// Our own engine.
    pub const fn local(&self) -> &LocalEngine {
        &self.local
    }

    /// What happened so far.
    pub const fn stats(&self) -> &UsmStats {
        &self.stats
    }

    /// How many other engines are remembered.
    pub fn engines(&self) -> usize {
        self.engines.count()
    }

    /// Takes in what was remembered of other engines. Nothing that is known already goes back.
    pub fn restore(&mut self, records: Vec<EngineRecord>, now: Time) {
        self.engines.restore(records, now);
    }

    /// All that is remembered of other engines.
    pub fn export(&self, now: Time) -> Vec<EngineRecord> {
        self.engines.export(now)
    }

    /// At most `most` engines whose clock moved since they were taken last.
    pub fn take_changes(&mut self, most: usize, now: Time) -> Vec<EngineRecord> {
        self.engines.take_changes(most, now)
    }

    /// The engines that gave way since this was called last.
    pub fn take_removed(&mut self) -> Vec<EngineId> {
        self.engines.take_removed()
    }

    /// Opens a message that came from `source` at `now`. Its content is borrowed from the datagram, or
    /// from `buffer` where it was decrypted.
    ///
    /// # Errors
    ///
    /// It is not taken: the step that failed, and what is answered.
    pub fn open<'a>(
        &mut self,
        datagram: &'a [u8],
        source: IpAddr,
        now: Time,
        buffer: &'a mut Vec<u8>,
    ) -> Result<Opened<'a>, Refusal> {
        let incoming = match message::parse(datagram) {
            Ok(incoming) => incoming,
            Err(malformed) => {
                self.count(malformed.into());
                return Err(Refusal { step: malformed.into(), report: None });
            }
        };
        let whole = Whole { octets: datagram, source };
        self.judge(&incoming, whole, now, buffer).map_err(|Failed { step, pdu }| {
            self.count(step);
            Refusal { step, report: self.report(&incoming, step, pdu, now) }
        })
    }

    /// The Response to an inform that was opened, at the same level, with `response_pdu` as its PDU
    /// with tag and length. Empty if its user has gone meanwhile, so that there is no key for it.
    pub fn respond(&mut self, opened: &ReplyTo, response_pdu: &[u8], now: Time) -> Vec<u8> {
        let Ok(user) = self.user_here(&opened.user) else { return Vec::new() };
        let Known { user, local } = &mut self.users[user];
        local.add_privacy(user.auth.as_ref(), user.privacy.as_ref(), &self.local.id);
        self.salt = self.salt.wrapping_add(1);
        let response = Outgoing {
            msg_id: opened.msg_id,
            max_size: MAX_SIZE,
            reportable: false,
            level: opened.level,
            engine: self.local.id.octets(),
            boots: self.local.boots,
            time: window::own_time(&self.local, now),
            user: &opened.user,
            context_engine: &opened.context_engine,
            context: &opened.context,
            pdu: response_pdu,
        };
        message::seal(&response, local, self.salt)
    }

    /// RFC 3412, 7.2 and RFC 3414, 3.2.
    fn judge<'a>(
        &mut self,
        incoming: &Incoming<'a>,
        datagram: Whole<'_>,
        now: Time,
        buffer: &'a mut Vec<u8>,
    ) -> Result<Opened<'a>, Failed> {
        if incoming.model != message::USM {
            return Err(Step::UnknownSecurityModel.into());
        }
        let level = incoming.level().ok_or(Step::InvalidFlags)?;
        let plain =
            incoming.plain().transpose().map_err(Step::from)?.map(|scoped| Pdu::of(&scoped));
        let failed = |step| Failed { step, pdu: plain };

        let ours = incoming.engine == self.local.id.octets();
        let (engine, keys, user) = if ours {
            let user = self.user_here(incoming.user).map_err(failed)?;
            (self.local.id.clone(), Keys::Local(user), user)
        } else {
            // RFC 3414, 3.2 step 3 b.
            let asked = incoming.engine.is_empty() && incoming.reportable();
            let unknown = if asked { Step::Discovery } else { Step::UnknownEngine };
            let engine = EngineId::new(incoming.engine).map_err(|_| failed(unknown))?;
            // Whoever waits for an answer must name us as the authoritative engine.
            if plain.is_some_and(Pdu::is_confirmed) {
                return Err(failed(Step::UnknownEngine));
            }
            let (keys, user) = self.user_there(incoming, &engine).map_err(failed)?;
            (engine, keys, user)
        };
        let user = &self.users[user].user;
        // Step 5.
        if level > highest(user) {
            return Err(failed(Step::UnsupportedLevel));
        }
        if level < user.min_level {
            return Err(failed(Step::BelowMinimumLevel));
        }

        let scoped = if level == Level::NoAuthNoPriv {
            incoming.content(&SessionKeys::NONE, buffer)
        } else {
            let authentic = self.authenticate(incoming, datagram, &engine, keys, now);
            let keys = authentic.map_err(failed)?;
            self.read(incoming, &engine, keys, buffer)
        }
        .map_err(failed)?;
        let pdu = Pdu::of(&scoped);
        let failed = |step| Failed { step, pdu: Some(pdu) };
        match (pdu.tag, ours) {
            (tag::TRAP_V2, _) | (tag::INFORM, true) => {}
            (_, false) if pdu.is_confirmed() => return Err(failed(Step::UnknownEngine)),
            _ => return Err(failed(Malformed::NotATrap.into())),
        }
        self.stats.opened[level as usize] += 1;
        Ok(Opened {
            inform: pdu.tag == tag::INFORM,
            user: incoming.user,
            level,
            engine,
            context_engine: scoped.context_engine,
            pdu: scoped.pdu,
            reply: ReplyTo {
                msg_id: incoming.msg_id,
                level,
                user: SmallVec::from_slice(incoming.user),
                context_engine: SmallVec::from_slice(scoped.context_engine),
                context: SmallVec::from_slice(scoped.context),
                max_size: incoming.max_size,
            },
        })
    }

    /// The user of this name at our own engine (RFC 3414, 3.2 step 4).
    fn user_here(&self, name: &[u8]) -> Result<usize, Step> {
        let here = |user: &User| !is_localised(user) || user.engines.is_empty();
        self.user_at(name, &self.local.id, here)
    }

    /// The user of a message of another engine, and its keys there if they have proved right before.
    fn user_there(
        &mut self,
        incoming: &Incoming<'_>,
        engine: &EngineId,
    ) -> Result<(Keys, usize), Step> {
        let slot = self.engines.find(engine.octets());
        if let Some(slot) = slot {
            let users = &self.users;
            // They are kept only for a user who may send for the engine.
            let fits = |cached: &Cached| users[cached.user].user.name == incoming.user;
            if let Some(place) = self.engines.get(slot).keys.iter().position(fits) {
                let user = self.engines.get(slot).keys[place].user;
                return Ok((Keys::Kept(slot, place), user));
            }
        }
        let learns = |user: &User| user.learn && !is_localised(user);
        let user = self.user_at(incoming.user, engine, learns)?;
        Ok((slot.map_or(Keys::Unknown(user), |slot| Keys::None(slot, user)), user))
    }

    /// The user of this name who lists the engine, or else for whom it need not be listed.
    fn user_at(
        &self,
        name: &[u8],
        engine: &EngineId,
        unlisted: impl Fn(&User) -> bool,
    ) -> Result<usize, Step> {
        let first = self.users.partition_point(|known| known.user.name.as_slice() < name);
        let same = || {
            let same = self.users[first..].iter().take_while(|known| known.user.name == name);
            same.map(|known| &known.user).enumerate()
        };
        if same().next().is_none() {
            return Err(Step::UnknownUser);
        }
        let lists = |user: &User| user.engines.binary_search(engine).is_ok();
        let found = same().find(|(_, user)| lists(user));
        // The one who learns is the last of its name.
        let found = found.or_else(|| same().filter(|(_, user)| unlisted(user)).last());
        found.map(|(place, _)| first + place).ok_or(Step::EngineNotAllowed)
    }

    /// Steps 6 and 7: the digest, then the time window. What comes back is where the keys are now.
    fn authenticate(
        &mut self,
        incoming: &Incoming<'_>,
        Whole { octets, source }: Whole<'_>,
        engine: &EngineId,
        keys: Keys,
        now: Time,
    ) -> Result<Ready, Step> {
        let (boots, time) = (incoming.boots, incoming.time);
        let authentic = |keys: &SessionKeys| match incoming.is_authentic(octets, keys) {
            true => Ok(()),
            false => Err(Step::WrongDigest),
        };
        let made = |users: &[Known], user: usize| {
            let keys = SessionKeys::unable_to_decrypt(users[user].user.auth.as_ref(), engine);
            authentic(&keys).map(|()| Box::new(keys))
        };
        let (slot, place) = match keys {
            Keys::Local(user) => {
                authentic(&self.users[user].local)?;
                return match window::judge_own(&self.local, boots, time, now) {
                    Ok(()) => Ok(Ready::Local(user)),
                    Err(_) if (boots, time) == (0, 0) => Err(Step::TimeDiscovery),
                    Err(_) => Err(Step::NotInTimeWindow),
                };
            }
            Keys::Kept(slot, place) => {
                authentic(&self.engines.get(slot).keys[place].keys)?;
                (slot, place)
            }
            Keys::None(slot, user) => {
                let keys = made(&self.users, user)?;
                (slot, self.engines.get(slot).keep(user, keys))
            }
            Keys::Unknown(user) => {
                if !self.learning.may_look(source, now) {
                    return Err(Step::LearningLimited);
                }
                let keys = made(&self.users, user)
                    .inspect_err(|_| self.learning.was_forged(source, now))?;
                let heard = Heard::first(boots, time, now).map_err(|_| Step::NotInTimeWindow)?;
                let Some((slot, gave_way)) = self.engines.add(engine.clone(), Some(heard)) else {
                    return Ok(Ready::Made(user, keys));
                };
                self.stats.learned += 1;
                self.stats.evicted += u64::from(gave_way);
                (slot, self.engines.get(slot).keep(user, keys))
            }
        };
        let clock = &mut self.engines.get(slot).heard;
        let before = *clock;
        let judged = match clock {
            Some(heard) => heard.judge(boots, time, now),
            None => Heard::first(boots, time, now).map(|heard| *clock = Some(heard)),
        };
        let moved = *clock != before;
        self.engines.heard(slot, moved);
        judged.map_err(|_| Step::NotInTimeWindow)?;
        Ok(Ready::Kept(slot, place))
    }

    /// Step 8: what is in an authentic message.
    fn read<'a>(
        &mut self,
        incoming: &Incoming<'a>,
        engine: &EngineId,
        mut ready: Ready,
        buffer: &'a mut Vec<u8>,
    ) -> Result<Scoped<'a>, Step> {
        let (user, keys) = match &mut ready {
            Ready::Local(user) => {
                let Known { user, local } = &mut self.users[*user];
                (&*user, local)
            }
            Ready::Kept(slot, place) => {
                let Cached { user, keys } = &mut self.engines.get(*slot).keys[*place];
                (&self.users[*user].user, keys)
            }
            Ready::Made(user, keys) => (&self.users[*user].user, keys),
        };
        if incoming.level() == Some(Level::AuthPriv) {
            keys.add_privacy(user.auth.as_ref(), user.privacy.as_ref(), engine);
        }
        incoming.content(keys, buffer)
    }

    fn count(&mut self, step: Step) {
        self.stats.steps[step.index()] += 1;
        if let Some(counter) = Counter::of(step) {
            *self.counter(counter) += 1;
        }
    }

    fn counter(&mut self, counter: Counter) -> &mut u64 {
        match counter {
            Counter::UnsupportedSecLevels => &mut self.stats.unsupported_sec_levels,
            Counter::NotInTimeWindows => &mut self.stats.not_in_time_windows,
            Counter::UnknownUserNames => &mut self.stats.unknown_user_names,
            Counter::UnknownEngineIds => &mut self.stats.unknown_engine_ids,
            Counter::WrongDigests => &mut self.stats.wrong_digests,
            Counter::DecryptionErrors => &mut self.stats.decryption_errors,
            Counter::UnknownPduHandlers => &mut self.stats.unknown_pdu_handlers,
        }
    }

    /// What is answered to a message that failed at a step (RFC 3412, 7.1 step 3): nothing unless its
    /// sender takes Reports, and nothing to what is no request, where that can be seen.
    fn report(
        &mut self,
        incoming: &Incoming<'_>,
        step: Step,
        pdu: Option<Pdu>,
        now: Time,
    ) -> Option<Vec<u8>> {
        if !incoming.reportable() || pdu.is_some_and(|pdu| !pdu.is_confirmed()) {
            return None;
        }
        let mut counter = Counter::of(step)?;
        if incoming.engine != self.local.id.octets() && counter != Counter::UnknownEngineIds {
            // Whatever else is wrong, its sender waits for an answer of another engine than us.
            counter = Counter::UnknownEngineIds;
            self.stats.unknown_engine_ids += 1;
        }
        // A Counter32 (RFC 3414, 5), which wraps.
        let value = *self.counter(counter) as u32;
        let level = match counter {
            // RFC 3414, 3.2 step 7 a: the sender must be able to trust our time.
            Counter::NotInTimeWindows => Level::AuthNoPriv,
            _ => Level::NoAuthNoPriv,
        };
        let keys = match self.user_here(incoming.user) {
            Ok(user) if level > Level::NoAuthNoPriv => &self.users[user].local,
            _ => &SessionKeys::NONE,
        };
        let mut report = Writer::new();
        report.nested(message::REPORT, |report| {
            // RFC 3412, 7.1 step 3 c: 0 where the request cannot be read.
            report.integer(pdu.and_then(|pdu| pdu.request_id).unwrap_or(0).into());
            report.integer(0);
            report.integer(0);
            report.nested(tag::SEQUENCE, |list| {
                list.nested(tag::SEQUENCE, |varbind| {
                    varbind.element(tag::OID, counter.name());
                    varbind.unsigned(tag::COUNTER32, value);
                });
            });
        });
        let outgoing = Outgoing {
            msg_id: incoming.msg_id,
            max_size: MAX_SIZE,
            reportable: false,
            level,
            engine: self.local.id.octets(),
            boots: self.local.boots,
            time: window::own_time(&self.local, now),
            user: incoming.user,
            context_engine: self.local.id.octets(),
            context: &[],
            pdu: &report.into_bytes(),
        };
        let sealed = message::seal(&outgoing, keys, 0);
        self.stats.reports += 1;
        Some(sealed)
    }
}

/// A datagram as it came.
#[derive(Clone, Copy)]
struct Whole<'a> {
    octets: &'a [u8],
    source: IpAddr,
}

/// A message that is not taken, and what its PDU is where that could be read.
struct Failed {
    step: Step,
    pdu: Option<Pdu>,
}

impl From<Step> for Failed {
    fn from(step: Step) -> Failed {
        Failed { step, pdu: None }
    }
}

/// What a Report asks of the PDU that it answers.
#[derive(Clone, Copy, Debug)]
struct Pdu {
    tag: u8,
    request_id: Option<i32>,
}

impl Pdu {
    fn of(scoped: &Scoped<'_>) -> Pdu {
        let tag = scoped.pdu.first().copied().unwrap_or_default();
        Pdu { tag, request_id: message::request_id(scoped.pdu) }
    }

    /// Whether its sender waits for an answer (RFC 3411, 2.8): GetRequest, GetNextRequest, SetRequest,
    /// GetBulkRequest and InformRequest.
    const fn is_confirmed(self) -> bool {
        matches!(self.tag, 0xa0 | 0xa1 | 0xa3 | 0xa5 | tag::INFORM)
    }
}

/// What a Report tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Counter {
    UnsupportedSecLevels,
    NotInTimeWindows,
    UnknownUserNames,
    UnknownEngineIds,
    WrongDigests,
    DecryptionErrors,
    UnknownPduHandlers,
}

impl Counter {
    /// The counter of a step. Where RFC 3414 has none for a step of ours, the one that tells a sender
    /// best what to change.
    const fn of(step: Step) -> Option<Counter> {
        match step {
            Step::Discovery | Step::UnknownEngine => Some(Counter::UnknownEngineIds),
            // Users are known by engine and name.
            Step::UnknownUser | Step::EngineNotAllowed => Some(Counter::UnknownUserNames),
            Step::UnsupportedLevel | Step::BelowMinimumLevel => Some(Counter::UnsupportedSecLevels),
            Step::WrongDigest => Some(Counter::WrongDigests),
            Step::TimeDiscovery | Step::NotInTimeWindow => Some(Counter::NotInTimeWindows),
            Step::DecryptionFailed => Some(Counter::DecryptionErrors),
            Step::Malformed(Malformed::NotATrap) => Some(Counter::UnknownPduHandlers),
            Step::Malformed(_)
            | Step::InvalidFlags
            | Step::UnknownSecurityModel
            | Step::LearningLimited => None,
        }
    }

    /// The encoded name of its instance: usmStats (RFC 3414, 5) and snmpMPDStats (RFC 3412, 5).
    const fn name(self) -> &'static [u8] {
        match self {
            Counter::UnsupportedSecLevels => &[0x2b, 6, 1, 6, 3, 15, 1, 1, 1, 0],
            Counter::NotInTimeWindows => &[0x2b, 6, 1, 6, 3, 15, 1, 1, 2, 0],
            Counter::UnknownUserNames => &[0x2b, 6, 1, 6, 3, 15, 1, 1, 3, 0],
            Counter::UnknownEngineIds => &[0x2b, 6, 1, 6, 3, 15, 1, 1, 4, 0],
            Counter::WrongDigests => &[0x2b, 6, 1, 6, 3, 15, 1, 1, 5, 0],
            Counter::DecryptionErrors => &[0x2b, 6, 1, 6, 3, 15, 1, 1, 6, 0],
            Counter::UnknownPduHandlers => &[0x2b, 6, 1, 6, 3, 11, 2, 1, 3, 0],
        }
    }
}

/// The highest level that a user has keys for.
fn highest(user: &User) -> Level {
    match (&user.auth, &user.privacy) {
        (None, _) => Level::NoAuthNoPriv,
        (Some(_), None) => Level::AuthNoPriv,
        (Some(_), Some(_)) => Level::AuthPriv,
    }
}

/// Whether a key is localised already, and so good for the one engine that is listed alone, or for our
/// own if none is.
fn is_localised(user: &User) -> bool {
    let localised = |key: &Key| matches!(key, Key::Localised(_));
    user.auth.as_ref().is_some_and(|auth| localised(&auth.key))
        || user.privacy.as_ref().is_some_and(|privacy| localised(&privacy.key))
}
