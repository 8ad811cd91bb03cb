//! One machine: SNMPv3 with USM towards one notification target (RFC 3412, 7.1; RFC 3414).
//!
//! For traps our own engine is authoritative, and nothing comes back. For informs the target's is, and
//! its identity, boots and time must be known before it takes one (RFC 3414, section 4):
//!
//! ```text
//!             Report: unknownEngineIDs          authentic Report: notInTimeWindows
//!  unknown ───────────────────────────> named ─────────────────────────────────────> timed
//!     │ asks first                      ^  │ sends with boots and time 0             │ sends
//!     │                                 │  └─ (noAuthNoPriv: needs no time)          │
//!     │                                 └──── Report: unknownEngineIDs, another one ─┘
//!     └─ never, where the configuration names the engine
//! ```
//!
//! The target's clock is followed forward by every authentic message. Where it went back, an authentic
//! Report to a message that was just sent makes us forget it and ask again: the new msgID tells that
//! nobody replays an old Report. A Response never sets a clock back.
//!
//! Anybody can write a Report that is not authenticated. So one is heard only if it answers a message
//! that was sent, by its msgID; each message makes us send again at most once; and after a few such
//! rounds in which nothing was acknowledged we stop for a while.

use std::{collections::VecDeque, time::Duration};

use super::{Heard, Notice, Outgoing, SendUser, Unsendable, answer};
use crate::{
    ber::{self, tag},
    message::{self, Reply},
    notification::MAX_DATAGRAM,
    time::Time,
    trap::varbinds,
    usm::{
        EngineId, Level, LocalEngine, SessionKeys,
        message::{self as v3, Incoming, parse, seal, unseal},
        window::{self, own_time},
    },
};

/// How many messages are remembered, so that what answers them is known. More than are ever on their
/// way at once to one target.
const REMEMBERED: usize = 1024;

/// How often in a row, without an acknowledgement between, something learned makes us send again at
/// once: a target that restarted with another engine takes two rounds, a forged Report one more, twice.
const ROUNDS: u8 = 6;

/// After which time that many rounds are allowed again.
const ROUNDS_AGAIN: Duration = Duration::from_secs(10);

/// The statistics that Reports carry, as content octets without the instance, and what each means to
/// who can change something (RFC 3414, section 5; RFC 3412, section 5; RFC 3413, 4.1.2).
const UNKNOWN_ENGINE_IDS: &[u8] = &[0x2b, 6, 1, 6, 3, 15, 1, 1, 4];
const NOT_IN_TIME_WINDOWS: &[u8] = &[0x2b, 6, 1, 6, 3, 15, 1, 1, 2];
const COMPLAINTS: [(&[u8], &str); 9] = [
    (
        &[0x2b, 6, 1, 6, 3, 15, 1, 1, 1],
        "it does not have this security level for the user (usmStatsUnsupportedSecLevels)",
    ),
    (&[0x2b, 6, 1, 6, 3, 15, 1, 1, 3], "it does not know the user (usmStatsUnknownUserNames)"),
    (
        &[0x2b, 6, 1, 6, 3, 15, 1, 1, 5],
        "the user's authentication passphrase or protocol is another one there \
         (usmStatsWrongDigests)",
    ),
    (
        &[0x2b, 6, 1, 6, 3, 15, 1, 1, 6],
        "the user's privacy passphrase or protocol is another one there \
         (usmStatsDecryptionErrors)",
    ),
    (&[0x2b, 6, 1, 6, 3, 11, 2, 1, 1], "it does not have USM (snmpUnknownSecurityModels)"),
    (&[0x2b, 6, 1, 6, 3, 11, 2, 1, 2], "it takes the message for invalid (snmpInvalidMsgs)"),
    (
        &[0x2b, 6, 1, 6, 3, 11, 2, 1, 3],
        "it takes no informs of this engine (snmpUnknownPDUHandlers)",
    ),
    (&[0x2b, 6, 1, 6, 3, 12, 1, 4], "the context is not available (snmpUnavailableContexts)"),
    (&[0x2b, 6, 1, 6, 3, 12, 1, 5], "it does not know the context (snmpUnknownContexts)"),
];

/// The machine.
pub(super) struct V3 {
    user: SendUser,
    local: LocalEngine,
    /// For traps: the keys under our own engine.
    own: SessionKeys,
    /// For informs: the target's engine, once it is known.
    target: Option<Target>,
    confirmed: bool,
    /// msgID of the next message.
    next: i32,
    /// The salt of the next message: never the same twice in 584 years at a thousand million a second.
    salt: u64,
    /// What was sent, the oldest first. Their msgIDs follow each other without a gap.
    sent: VecDeque<Sent>,
    /// How many times something was learned: what was sent before is sent again anyway.
    learned: u32,
    rounds: u8,
    rounds_since: Time,
}

/// An engine that informs go to.
struct Target {
    id: EngineId,
    keys: SessionKeys,
    /// Its boots and time, of the first authentic message on.
    clock: Option<window::Heard>,
}

#[derive(Clone, Copy)]
struct Sent {
    msg_id: i32,
    /// Nothing for a question for the engine ID.
    request_id: Option<i32>,
    learned: u32,
}

impl V3 {
    pub(super) fn new(user: SendUser, local: LocalEngine, confirmed: bool, seed: u64) -> V3 {
        let keys = |id: &EngineId| SessionKeys::new(user.auth.as_ref(), user.privacy.as_ref(), id);
        let target = user.engine.as_ref().filter(|_| confirmed);
        let target = target.map(|id| Target { id: id.clone(), keys: keys(id), clock: None });
        V3 {
            own: keys(&local.id),
            target,
            confirmed,
            next: message_id(seed),
            salt: seed,
            sent: VecDeque::new(),
            learned: 0,
            rounds: 0,
            rounds_since: Time::ZERO,
            user,
            local,
        }
    }

    pub(super) fn encode(
        &mut self,
        notice: &Notice<'_>,
        now: Time,
    ) -> Result<Outgoing, Unsendable> {
        if !self.confirmed {
            let pdu = message::pdu(tag::TRAP_V2, notice.request_id, notice.varbinds);
            let trap = v3::Outgoing {
                msg_id: self.next_id(),
                boots: self.local.boots,
                time: own_time(&self.local, now),
                ..self.outgoing(self.local.id.octets(), &pdu)
            };
            let trap = seal(&trap, &self.own, self.salt);
            return self.sealed(trap).map(Outgoing::Message);
        }
        let msg_id = self.next_id();
        let Some(target) = &self.target else {
            self.remember(msg_id, None);
            return Ok(Outgoing::Discovery(self.discovery(msg_id)));
        };
        let (boots, time) = target.clock.map_or((0, 0), |clock| (clock.boots, clock.time(now)));
        let pdu = message::pdu(tag::INFORM, notice.request_id, notice.varbinds);
        let inform = v3::Outgoing {
            msg_id,
            reportable: true,
            boots,
            time,
            ..self.outgoing(target.id.octets(), &pdu)
        };
        let inform = seal(&inform, &target.keys, self.salt);
        let inform = self.sealed(inform)?;
        self.remember(msg_id, Some(notice.request_id));
        Ok(Outgoing::Message(inform))
    }

    pub(super) fn hear(&mut self, datagram: &[u8], now: Time) -> Heard {
        let Ok(incoming) = parse(datagram) else { return Heard::Nothing };
        let Some(sent) = self.sent(incoming.msg_id) else { return Heard::Nothing };
        match incoming.level() {
            Some(Level::NoAuthNoPriv) => self.hear_plain(sent, &incoming, datagram, now),
            Some(Level::AuthNoPriv | Level::AuthPriv) => {
                self.hear_authentic(sent, &incoming, datagram, now)
            }
            None => Heard::Nothing,
        }
    }

    /// How many octets the varbinds may have so that a message stays within [`MAX_DATAGRAM`].
    pub(super) fn room(&self) -> usize {
        /// Tags, lengths, numbers and padding, each as long as it can be.
        const AROUND: usize = 91;
        let engine = match (&self.user.engine, self.confirmed) {
            (_, false) => self.local.id.octets().len(),
            (Some(id), true) => id.octets().len(),
            // Any that the target may have.
            (None, true) => 32,
        };
        let protection = match self.user.level {
            Level::NoAuthNoPriv => 0,
            Level::AuthNoPriv => self.digest_octets(),
            Level::AuthPriv => self.digest_octets() + size_of::<u64>(),
        };
        let names = self.local.id.octets().len() + self.user.name.len() + self.user.context.len();
        MAX_DATAGRAM.saturating_sub(AROUND + engine + names + protection)
    }

    fn digest_octets(&self) -> usize {
        self.user.auth.as_ref().map_or(0, |auth| auth.protocol.digest_octets())
    }

    /// What every notification has in common. Its context is one of our own engine (RFC 3413, 3.2).
    fn outgoing<'a>(&'a self, engine: &'a [u8], pdu: &'a [u8]) -> v3::Outgoing<'a> {
        v3::Outgoing {
            msg_id: 0,
            max_size: super::MAX_MESSAGE as u32,
            reportable: false,
            level: self.user.level,
            engine,
            boots: 0,
            time: 0,
            user: &self.user.name,
            context_engine: self.local.id.octets(),
            context: &self.user.context,
            pdu,
        }
    }

    /// A request to nobody by nobody, which asks for nothing: what answers it is a Report with the
    /// engine ID (RFC 3414, section 4).
    fn discovery(&self, msg_id: i32) -> Vec<u8> {
        let pdu = message::pdu(tag::GET, msg_id, &[]);
        let ask = v3::Outgoing {
            msg_id,
            reportable: true,
            level: Level::NoAuthNoPriv,
            user: &[],
            context_engine: &[],
            context: &[],
            ..self.outgoing(&[], &pdu)
        };
        seal(&ask, &SessionKeys::NONE, 0)
    }

    fn sealed(&mut self, message: Vec<u8>) -> Result<Vec<u8>, Unsendable> {
        self.salt = self.salt.wrapping_add(1);
        if message.is_empty() { Err(Unsendable::NoKey) } else { Ok(message) }
    }

    fn next_id(&mut self) -> i32 {
        let id = self.next;
        self.next = id.checked_add(1).unwrap_or(1);
        id
    }

    fn remember(&mut self, msg_id: i32, request_id: Option<i32>) {
        // After the largest msgID, and where a message could not be made, they don't follow each other.
        if self.sent.back().is_some_and(|last| last.msg_id.checked_add(1) != Some(msg_id)) {
            self.sent.clear();
        }
        if self.sent.len() == REMEMBERED {
            self.sent.pop_front();
        }
        self.sent.push_back(Sent { msg_id, request_id, learned: self.learned });
    }

    /// The message with this msgID, if it is one of ours.
    fn sent(&self, msg_id: i32) -> Option<Sent> {
        let first = self.sent.front()?.msg_id;
        let place = usize::try_from(msg_id.checked_sub(first)?).ok()?;
        self.sent.get(place).copied()
    }

    /// Of what is not authentic a Report is heard, and a Response only where nothing better was asked
    /// for.
    fn hear_plain(
        &mut self,
        sent: Sent,
        incoming: &Incoming<'_>,
        datagram: &[u8],
        now: Time,
    ) -> Heard {
        let mut unused = Vec::new();
        let Ok(scoped) =
            unseal(incoming, datagram, &SessionKeys::NONE, Level::NoAuthNoPriv, &mut unused)
        else {
            return Heard::Nothing;
        };
        let Some(reply) = message::read_reply(scoped.pdu) else { return Heard::Nothing };
        if reply.tag == tag::REPORT {
            return self.report(sent, &reply, incoming, None, now);
        }
        let its_own = self.target.as_ref().is_some_and(|one| one.id.octets() == incoming.engine);
        if self.user.level == Level::NoAuthNoPriv && its_own {
            self.response(sent, reply)
        } else {
            Heard::Nothing
        }
    }

    fn hear_authentic(
        &mut self,
        sent: Sent,
        incoming: &Incoming<'_>,
        datagram: &[u8],
        now: Time,
    ) -> Heard {
        let Some(target) = &mut self.target else { return Heard::Nothing };
        if incoming.engine != target.id.octets() || incoming.user != self.user.name {
            return Heard::Nothing;
        }
        let mut clear = Vec::new();
        let scoped = unseal(incoming, datagram, &target.keys, Level::AuthNoPriv, &mut clear);
        let Some(reply) = scoped.ok().and_then(|scoped| message::read_reply(scoped.pdu)) else {
            return Heard::Nothing;
        };
        let before = target.clock;
        let timely = match &mut target.clock {
            Some(clock) => clock.judge(incoming.boots, incoming.time, now),
            clock @ None => window::Heard::first(incoming.boots, incoming.time, now)
                .map(|first| *clock = Some(first)),
        };
        if reply.tag == tag::REPORT {
            let told = Told { moved: target.clock != before, timely: timely.is_ok() };
            return self.report(sent, &reply, incoming, Some(told), now);
        }
        // The answer to what was encrypted is encrypted.
        if timely.is_err() || incoming.level() != Some(self.user.level) {
            return Heard::Nothing;
        }
        self.response(sent, reply)
    }

    fn response(&mut self, sent: Sent, reply: Reply<'_>) -> Heard {
        if sent.request_id != Some(reply.request_id) {
            return Heard::Nothing;
        }
        self.rounds = 0;
        answer(reply)
    }

    /// What follows from a Report, which is authentic if it has told the time.
    fn report(
        &mut self,
        sent: Sent,
        reply: &Reply<'_>,
        incoming: &Incoming<'_>,
        told: Option<Told>,
        now: Time,
    ) -> Heard {
        let name = varbinds(reply.varbinds).next().map_or(&[][..], |(name, ..)| name);
        let statistic = name.strip_suffix(&[0]).unwrap_or(name);
        // Whatever the Report to a question is about, it has the engine ID.
        if statistic == UNKNOWN_ENGINE_IDS || sent.request_id.is_none() {
            return self.unknown_engine(sent, incoming, now);
        }
        if statistic == NOT_IN_TIME_WINDOWS {
            // Unless it is authentic, it is not known to be the target's.
            let Some(told) = told else { return Heard::Nothing };
            return self.not_in_time_window(sent, told, incoming, now);
        }
        match COMPLAINTS.iter().find(|(one, _)| *one == statistic) {
            Some((_, why)) => self.failed(why),
            None => self.failed(&format!("it answers with a Report of {}", dotted(name))),
        }
    }

    /// The target has another engine ID than the one that it was sent, or it was asked for it.
    fn unknown_engine(&mut self, sent: Sent, incoming: &Incoming<'_>, now: Time) -> Heard {
        if sent.learned != self.learned {
            return Heard::Nothing;
        }
        let Ok(id) = EngineId::new(incoming.engine) else {
            return self.failed("it does not tell a valid engine ID");
        };
        if let Some(configured) = self.user.engine.as_ref().filter(|one| **one != id) {
            return self.failed(&format!(
                "the engine that answers is {id}, and {configured} is configured"
            ));
        }
        if self.target.as_ref().is_some_and(|target| target.id == id) {
            return self.failed(&format!("it does not know its own engine ID {id}"));
        }
        if let Err(failed) = self.learn(now) {
            return failed;
        }
        let keys = SessionKeys::new(self.user.auth.as_ref(), self.user.privacy.as_ref(), &id);
        self.target = Some(Target { id, keys, clock: None });
        Heard::Again
    }

    /// The target's boots and time are other than those that it was sent, or those of nobody yet.
    fn not_in_time_window(
        &mut self,
        sent: Sent,
        told: Told,
        incoming: &Incoming<'_>,
        now: Time,
    ) -> Heard {
        if sent.learned != self.learned {
            return Heard::Nothing;
        }
        if incoming.boots == v3::MOST {
            return self
                .failed("its snmpEngineBoots have come to their end: it needs another engine ID");
        }
        if told.timely && !told.moved {
            return self.failed("it refuses the boots and time that it has told itself");
        }
        if let Err(failed) = self.learn(now) {
            return failed;
        }
        if let (false, Some(target)) = (told.timely, &mut self.target) {
            // Its clock went back, as that of an NMS that lost power before it had saved its boots.
            // Nothing is believed of this Report; the time is asked for anew, as at the beginning.
            target.clock = None;
        }
        Heard::Again
    }

    /// Counts a round, if there may be one more.
    fn learn(&mut self, now: Time) -> Result<(), Heard> {
        if now.since(self.rounds_since) >= ROUNDS_AGAIN {
            (self.rounds, self.rounds_since) = (0, now);
        }
        if self.rounds == ROUNDS {
            return Err(self.failed("it keeps asking for another engine ID or time"));
        }
        self.rounds += 1;
        self.learned = self.learned.wrapping_add(1);
        Ok(())
    }

    fn failed(&self, why: &str) -> Heard {
        let user = String::from_utf8_lossy(&self.user.name);
        Heard::Failed { why: format!("SNMPv3 user {user:?}: {why}") }
    }
}

/// What an authentic message told of the target's clock.
#[derive(Clone, Copy)]
struct Told {
    /// It is later than what was known.
    moved: bool,
    /// It is not from the past.
    timely: bool,
}

/// Where the msgIDs of a session begin: far from where those of another do, and not to be told from a
/// salt that was seen (the finaliser of SplitMix64).
fn message_id(seed: u64) -> i32 {
    let mixed = (seed ^ seed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    // The upper 30 bits, so that they do not come to their end soon.
    (mixed >> 34) as i32 | 1
}

/// An encoded OID in numbers.
fn dotted(oid: &[u8]) -> String {
    let mut arcs = ber::sub_identifiers(oid).map(Option::unwrap_or_default);
    let Some(first) = arcs.next() else { return "nothing".to_owned() };
    let top = (first / 40).min(2);
    let start = format!("{top}.{}", first - top * 40);
    arcs.fold(start, |text, arc| format!("{text}.{arc}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usm::EngineId;

    #[test]
    fn after_the_largest_msg_id_comes_the_smallest_and_answers_are_still_known() {
        let id = EngineId::new(&[0x80, 0, 0, 0, 1]).unwrap();
        let user = SendUser {
            name: b"u".to_vec(),
            auth: None,
            privacy: None,
            level: Level::NoAuthNoPriv,
            context: Vec::new(),
            engine: None,
        };
        let local = LocalEngine { id, boots: 1, started: Time::ZERO };
        let mut v3 = V3::new(user, local, true, 1);
        v3.next = i32::MAX - 1;
        let notice =
            Notice { request_id: 5, varbinds: &[], agent_address: std::net::Ipv4Addr::LOCALHOST };
        for msg_id in [i32::MAX - 1, i32::MAX, 1, 2] {
            v3.encode(&notice, Time::ZERO).unwrap();
            assert_eq!(v3.sent(msg_id).map(|sent| sent.msg_id), Some(msg_id));
        }
        assert!(v3.sent(1).is_some() && v3.sent(0).is_none() && v3.sent(3).is_none());
        for _ in 0..2 * REMEMBERED {
            v3.encode(&notice, Time::ZERO).unwrap();
        }
        assert_eq!(v3.sent.len(), REMEMBERED);
        assert!(v3.sent(1).is_none(), "the oldest give way");
    }

    #[test]
    fn oids_are_told_in_numbers() {
        assert_eq!(dotted(&[0x2b, 6, 1, 0x87, 0x68]), "1.3.6.1.1000");
        assert_eq!(dotted(&[0x88, 0x37, 3]), "2.999.3");
        assert_eq!(dotted(&[]), "nothing");
    }
}
