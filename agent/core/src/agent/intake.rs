//! The one way of a datagram into the core: who sent it, for whom it speaks, whether it came before,
//! what it makes of its object, and where it goes on to (TRAP-1 to TRAP-9).
//!
//! A trap that is neither an inform nor forwarded costs nothing beyond its judgement: nothing is
//! allocated for it.

use super::Agent;
use crate::{
    access::Refused,
    ber::{self, Reader, tag},
    forwarding::{self, Decision},
    identities,
    input::{Answer, Datagram, Taken},
    instability::{Judged, Outcome},
    message,
    objects::bits,
    repeats::{Before, Print},
    settings::ForwardTarget,
    time::Time,
    trap::{Form, Malformed, Trap},
    usm::{Opened, Refusal, ReplyTo},
};
use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

/// How an inform is answered.
enum ReplyBy<'a> {
    /// As it came, with its PDU made a Response (RFC 1901).
    Community,
    /// In a message of SNMPv3 to the user who sent this PDU.
    User { to: &'a ReplyTo, pdu: &'a [u8] },
}

impl Agent {
    /// Takes in a datagram.
    pub(super) fn datagram(&mut self, datagram: &Datagram<'_>) {
        self.counters.datagrams += 1;
        self.counters.octets += datagram.bytes.len() as u64;
        match Trap::decode(datagram.bytes) {
            Ok(trap) => self.by_community(datagram, &trap),
            Err(Malformed::UnsupportedVersion) if is_v3(datagram.bytes) => self.by_user(datagram),
            Err(malformed) => self.malformed(datagram, malformed),
        }
    }

    fn by_community(&mut self, datagram: &Datagram<'_>, trap: &Trap<'_>) {
        let source = datagram.source.ip();
        if let Err(refused) = self.settings.access.check(trap.community, source) {
            return self.refused(datagram, refused);
        }
        let system = self.settings.access.system(trap, source);
        self.take_in(datagram, trap, system, &ReplyBy::Community);
    }

    /// TRAP-4: what SNMPv3's User-based Security Model lets through.
    fn by_user(&mut self, datagram: &Datagram<'_>) {
        let mut decrypted = std::mem::take(&mut self.decrypted);
        let Datagram { source, received, bytes, .. } = *datagram;
        match self.usm.open(bytes, source.ip(), received, &mut decrypted) {
            Ok(opened) => self.opened(datagram, &opened),
            Err(Refusal { step, report }) => {
                let Datagram { source: to, door, .. } = *datagram;
                let reports = report.map(|bytes| Answer { door, to, bytes, after: None });
                self.answers.extend(reports);
                // The User-based Security Model counts each step. Nothing is wrong with a sender that
                // asks who we are.
                if step.is_error() {
                    self.reject(datagram, step.name());
                }
            }
        }
        self.decrypted = decrypted;
    }

    fn opened(&mut self, datagram: &Datagram<'_>, opened: &Opened<'_>) {
        let form = if opened.inform { Form::V3Inform } else { Form::V3 };
        let trap = match Trap::decode_pdu(form, opened.user, opened.pdu) {
            Ok(trap) => trap,
            Err(malformed) => return self.malformed(datagram, malformed),
        };
        // TRAP-2. We are the authoritative engine of every inform; whose it is, its context says.
        let engine = if opened.inform { opened.context_engine } else { opened.engine.octets() };
        let system = self
            .engines
            .system(engine)
            .unwrap_or_else(|| self.settings.access.system(&trap, datagram.source.ip()));
        let reply_by = ReplyBy::User { to: &opened.reply, pdu: opened.pdu };
        self.take_in(datagram, &trap, system, &reply_by);
    }

    /// Takes in a trap whose sender may send it.
    fn take_in(
        &mut self,
        datagram: &Datagram<'_>,
        trap: &Trap<'_>,
        system: IpAddr,
        reply_by: &ReplyBy<'_>,
    ) {
        let inform = trap.form.is_inform();
        if self.forwarding.has_come_back(trap) {
            self.refused(datagram, Refused::ForwardingLoop);
            // Else its sender would send it again for ever.
            if inform {
                self.answer(datagram, reply_by, None);
            }
            return;
        }
        self.counters.forms[trap.form as usize] += 1;
        self.counters.informs += u64::from(inform);
        let print = inform.then(|| self.print(trap, datagram.source));
        if let Some(print) = print
            && let Some(before) = self.repeats.within(print, horizon(trap), datagram.received)
        {
            self.counters.outcomes[Outcome::Repeat as usize] += 1;
            return self.answer(datagram, reply_by, Some(before.number));
        }
        let before = self.found.len();
        let judged = self.instability.trap(trap, system, datagram.received, &mut self.found);
        self.note_essence(before, trap, datagram.received);
        self.counters.outcomes[judged.outcome as usize] += 1;
        if judged.outcome == Outcome::NoIfIndex {
            self.reject(datagram, judged.outcome.name());
        }
        if !inform && !self.forwarding.is_active() {
            return;
        }
        let number = self.pass_on(datagram, trap, system, judged);
        if let (Some(print), Some(number)) = (print, number) {
            self.repeats.note(print, Before { received: datagram.received, number });
            self.answer(datagram, reply_by, Some(number));
        }
    }

    /// Hands a trap that was judged to the spool and to the notification targets that the rules name.
    /// Returns its number in the spool, which every inform gets.
    fn pass_on(
        &mut self,
        datagram: &Datagram<'_>,
        trap: &Trap<'_>,
        system: IpAddr,
        judged: Judged,
    ) -> Option<u64> {
        let Datagram { source, received, bytes, .. } = *datagram;
        let standing = self.instability.standing(trap, system, judged, received);
        // INST-9: a copy was forwarded when the first came.
        let decision = match judged.outcome {
            Outcome::Copy => Decision::Nowhere,
            _ => self.forwarding.decide(trap, system, &standing),
        };
        let mut targets = forwarding::Targets::new();
        match decision {
            Decision::Nowhere => {}
            Decision::Suppressed => {
                self.counters.suppressed += 1;
                standing.object.into_iter().for_each(|slot| self.instability.suppressed(slot));
            }
            Decision::To(to) => targets.extend_from_slice(to),
        }
        if !targets.is_empty() && self.forwarding.was_sent(source, bytes, received) {
            self.counters.doubled += 1;
            targets.clear();
        }
        let spooled = trap.form.is_inform() || self.forwarding.any_durable(&targets);
        if !spooled && targets.is_empty() {
            return None;
        }
        let number = spooled.then_some(self.next_number);
        if let Some(number) = number {
            self.next_number += 1;
            standing.object.into_iter().for_each(|slot| self.instability.spooled(slot, number));
        }
        for &target in &targets {
            if let Some(count) = self.counters.forwarded.get_mut(usize::from(target)) {
                *count += 1;
            }
        }
        self.taken.push_back(Taken {
            number,
            received,
            wall: self.alarms.wall(received),
            source,
            system: crate::alarm::System(system),
            form: trap.form,
            request_id: trap.request_id,
            community: trap.community.to_vec(),
            varbinds: trap.normalised(),
            original: self.forwarding.any_original(&targets).then(|| bytes.to_vec()),
            targets,
        });
        number
    }

    /// Takes in a trap that an earlier run had taken in, and that it answered and forwarded.
    pub(super) fn replayed(&mut self, taken: &Taken) {
        let Some(number) = taken.number else { return };
        self.set_spool(number.saturating_add(1));
        let Taken { form, request_id, received, .. } = *taken;
        // What the core has written can be read, unless the spool was tampered with.
        let Ok(trap) = Trap::of_varbinds(form, &taken.community, request_id, &taken.varbinds)
        else {
            return;
        };
        self.counters.replayed += 1;
        if form.is_inform() {
            let print = self.print(&trap, taken.source);
            self.repeats.note(print, Before { received, number });
        }
        self.judge_again(taken, &trap, number);
    }

    /// Judges what was forwarded already, unless its object has heeded the number.
    fn judge_again(&mut self, taken: &Taken, trap: &Trap<'_>, number: u64) {
        let Taken { received, system, .. } = *taken;
        let before = self.found.len();
        let replayed = self.instability.replay(trap, system.0, number, received, &mut self.found);
        self.note_essence(before, trap, received);
        let Some(judged) = replayed else { return };
        let standing = self.instability.standing(trap, system.0, judged, received);
        let held_back = judged.outcome != Outcome::Copy
            && self.forwarding.decide(trap, system.0, &standing) == Decision::Suppressed;
        if let Some(slot) = standing.object {
            if held_back {
                self.instability.suppressed(slot);
            }
            self.instability.spooled(slot, number);
        }
    }

    /// Passes on what the mate had taken in and could not tell everyone, and judges what the mate has not
    /// (PAIR-2). If this agent starts anew, it is not judged again.
    pub(super) fn handed_over(&mut self, taken: &Taken, names: &[String], heeded: bool) {
        let configured = &self.settings.forwarding.targets;
        let is_for = |target: &ForwardTarget| target.durable && names.contains(&target.name);
        let targets: forwarding::Targets = (0..)
            .zip(configured)
            .filter(|(_, target)| is_for(target))
            .map(|(place, _)| place)
            .collect();
        let Taken { form, request_id, received, system, source, .. } = *taken;
        // What the mate has written can be read.
        let Ok(trap) = Trap::of_varbinds(form, &taken.community, request_id, &taken.varbinds)
        else {
            return;
        };
        if targets.is_empty() && heeded {
            return;
        }
        let number = self.next_number;
        self.next_number += 1;
        if form.is_inform() {
            let print = self.print(&trap, source);
            self.repeats.note(print, Before { received, number });
        }
        if !heeded {
            self.judge_again(taken, &trap, number);
        } else if let Some(slot) = self.instability.object_of(&trap, system.0) {
            self.instability.spooled(slot, number);
        }
        self.counters.handed_over += 1;
        for &target in &targets {
            if let Some(count) = self.counters.forwarded.get_mut(usize::from(target)) {
                *count += 1;
            }
        }
        self.taken.push_back(Taken { number: Some(number), targets, ..taken.clone() });
    }

    /// Notes in what has been found since what began it, so that two agents that were sent the same trap
    /// call the alarm alike (PAIR-18). What was over before the trap came did not begin with it.
    fn note_essence(&mut self, before: usize, trap: &Trap<'_>, received: Time) {
        for finding in &mut self.found[before..] {
            if finding.at == received && finding.cleared.is_none() {
                // Not the request-id, which a sender may choose anew for each agent.
                let Trap { event, uptime, .. } = trap;
                finding.essence = identities::hash(&format!("{event:?} {uptime:?}"));
            }
        }
    }

    /// What tells an inform from every other, but not from itself sent again. The request-id and the
    /// varbinds are all that its PDU has; a port is left out, as one may be sent again from another.
    fn print(&self, trap: &Trap<'_>, source: SocketAddr) -> Print {
        let form = trap.form as u8;
        let source = bits(source.ip());
        self.repeats.print(&(source, form, trap.request_id, trap.community, trap.varbinds))
    }

    fn answer(&mut self, datagram: &Datagram<'_>, reply_by: &ReplyBy<'_>, after: Option<u64>) {
        let response = match *reply_by {
            ReplyBy::Community => message::response_to(datagram.bytes),
            ReplyBy::User { to, pdu } => message::response_pdu(pdu)
                .map(|response| self.usm.respond(to, &response, datagram.received))
                .filter(|message| !message.is_empty()),
        };
        let Some(bytes) = response else { return };
        self.counters.responses += 1;
        let Datagram { source: to, door, .. } = *datagram;
        self.answers.push_back(Answer { door, to, bytes, after });
    }

    fn malformed(&mut self, datagram: &Datagram<'_>, malformed: Malformed) {
        self.counters.malformed[malformed as usize] += 1;
        self.reject(datagram, malformed.name());
    }

    fn refused(&mut self, datagram: &Datagram<'_>, refused: Refused) {
        self.counters.refused[refused as usize] += 1;
        self.reject(datagram, refused.name());
    }

    fn reject(&mut self, datagram: &Datagram<'_>, reason: &'static str) {
        let at = self.alarms.wall(datagram.received);
        self.rejected.push(at, datagram.source, reason, datagram.bytes);
    }
}

/// Whether a datagram begins as a message of SNMPv3 does (RFC 3412, section 6).
fn is_v3(datagram: &[u8]) -> bool {
    let message = Reader::new(datagram).expect(tag::SEQUENCE);
    let version = message.and_then(|message| Reader::new(message).expect(tag::INTEGER));
    version.is_ok_and(|version| ber::unsigned(version) == Some(3))
}

/// For how long the same inform is the same one sent again: as for copies of it
/// ([`copies`](crate::copies)), a system that restarts over and over may send the same octets.
fn horizon(trap: &Trap<'_>) -> Duration {
    let restarted = Duration::from_millis(u64::from(trap.uptime.unwrap_or(0)) * 10);
    restarted.max(crate::copies::RETRANSMISSION)
}
