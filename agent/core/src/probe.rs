//! A probe: some flows are polled side by side, a few times, to find out who answers (SUBN-10).
//!
//! It asks whether an address answers at all. Whether it answers reliably is for
//! [`Flow`](crate::flow::Flow) to judge, over and over.
//!
//! The contract: send what [`Probe::poll_transmit`] hands out, hand in what comes, wait until
//! [`Probe::next_deadline`], and begin again until there is none.

use std::time::Duration;

use crate::{
    flow::Miss,
    input::{Echo, Reply, SendFailed, Verdict},
    plan::FlowKey,
    time::Time,
};

/// How often each flow is polled. One reply is enough; a lost packet, or one that waits for the
/// resolution of an address (RFC 826, RFC 4861), leaves three.
pub const POLLS: u16 = 4;

/// How far its polls are apart: short for who waits, and no burst for who is polled.
pub const INTERVAL: Duration = Duration::from_millis(250);

/// How long a reply may take: the shortest poll interval, so that who answers here would also answer
/// in time there (SUBN-5).
pub const TIMEOUT: Duration = Duration::from_secs(1);

/// A probe that is under way.
#[derive(Clone, Debug)]
pub struct Probe {
    identifier: u16,
    flows: Vec<Probed>,
    /// How many rounds have begun: one poll of each flow.
    rounds: u16,
    /// The next flow to be polled in this round.
    place: usize,
    /// When the next round begins, or the last one is over.
    due: Time,
    /// Up to when all replies have been handed in.
    heard: Time,
}

/// What is known of one flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probed {
    /// Which one.
    pub key: FlowKey,
    polls: Vec<Poll>,
}

/// One poll, until it has a reply, and then.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Poll {
    /// Nothing that answers it came yet; the reason should that stay so.
    Missing { sent: Time, miss: Miss },
    /// A reply came after this long.
    Answered(Duration),
}

impl Probe {
    /// A probe of these flows that begins now. `identifier` is put into every echo.
    pub fn new(flows: Vec<FlowKey>, identifier: u16, now: Time) -> Probe {
        let flows: Vec<Probed> =
            flows.into_iter().map(|key| Probed { key, polls: Vec::new() }).collect();
        let place = flows.len();
        Probe { identifier, flows, rounds: 0, place, due: now, heard: now }
    }

    /// The next echo to send now, if any.
    pub fn poll_transmit(&mut self, now: Time) -> Option<Echo> {
        if self.place == self.flows.len() {
            if self.rounds == POLLS || now < self.due || self.flows.is_empty() {
                return None;
            }
            self.rounds += 1;
            self.place = 0;
        }
        // Counted from the sending, so that a stall sends nothing twice as fast.
        self.due = now + if self.rounds < POLLS { INTERVAL } else { TIMEOUT };
        let flow = &mut self.flows[self.place];
        self.place += 1;
        flow.polls.push(Poll::Missing { sent: now, miss: Miss::Timeout });
        Some(Echo {
            local: flow.key.local,
            interface: flow.key.index,
            polled: flow.key.polled,
            identifier: self.identifier,
            sequence: self.rounds - 1,
        })
    }

    /// When something is to be done next; nothing once it is over.
    pub fn next_deadline(&self) -> Option<Time> {
        (!self.is_over()).then_some(self.due)
    }

    /// Over when every poll is settled, or when all replies that could count have been handed in.
    fn is_over(&self) -> bool {
        let all_sent = self.rounds == POLLS && self.place == self.flows.len();
        let settled = || self.flows.iter().all(|flow| flow.polls.iter().all(Poll::is_settled));
        self.flows.is_empty() || (all_sent && (self.heard >= self.due || settled()))
    }

    /// Takes in a reply (SUBN-2). What answers no poll of this probe in time changes nothing.
    pub fn reply(&mut self, reply: &Reply) {
        if reply.identifier != self.identifier {
            return;
        }
        // An error may come by another interface than the reply would.
        let by_its_interface = |index| {
            reply.verdict != Verdict::Answered || reply.interface.is_none_or(|came| came == index)
        };
        let flow = self.flows.iter_mut().find(|flow| {
            (flow.key.local, flow.key.polled) == (reply.local, reply.polled)
                && by_its_interface(flow.key.index)
        });
        let Some(poll) = flow.and_then(|flow| flow.polls.get_mut(usize::from(reply.sequence)))
        else {
            return;
        };
        let Poll::Missing { sent, miss } = poll else { return };
        let after = reply.received.since(*sent);
        match reply.verdict {
            Verdict::Answered if after <= TIMEOUT => *poll = Poll::Answered(after),
            Verdict::Answered => {}
            Verdict::Unreachable | Verdict::TimeExceeded | Verdict::OtherError => {
                *miss = Miss::Icmp(reply.verdict);
            }
        }
    }

    /// Notes that an echo could not be sent.
    pub fn send_failed(&mut self, failed: &SendFailed) {
        // Link-local addresses alone don't tell flows apart; but the poll that failed is the latest.
        let flow = self.place.checked_sub(1).and_then(|place| self.flows.get_mut(place));
        let Some(flow) = flow else { return };
        if (flow.key.local, flow.key.polled) == (failed.local, failed.polled)
            && let Some(Poll::Missing { miss, .. }) =
                flow.polls.get_mut(usize::from(failed.sequence))
        {
            *miss = Miss::Send(failed.error.clone());
        }
    }

    /// Notes that all replies that were received before this moment have been handed in.
    pub fn heard(&mut self, up_to: Time) {
        self.heard = self.heard.max(up_to);
    }

    /// How many of the rounds have begun, of [`POLLS`].
    pub const fn rounds(&self) -> u16 {
        self.rounds
    }

    /// Every flow, in the order in which they were given.
    pub fn flows(&self) -> &[Probed] {
        &self.flows
    }
}

impl Probed {
    /// How many polls were answered, of [`POLLS`].
    pub fn answered(&self) -> usize {
        self.round_trips().count()
    }

    /// The round-trip time of the median poll that was answered, the shorter one of two.
    pub fn round_trip(&self) -> Option<Duration> {
        let mut round_trips: Vec<Duration> = self.round_trips().collect();
        round_trips.sort_unstable();
        round_trips.get(round_trips.len().saturating_sub(1) / 2).copied()
    }

    /// Why the latest poll that was missed had no reply; nothing if each had one.
    pub fn last_miss(&self) -> Option<&Miss> {
        self.polls.iter().rev().find_map(|poll| match poll {
            Poll::Missing { miss, .. } => Some(miss),
            Poll::Answered(_) => None,
        })
    }

    fn round_trips(&self) -> impl Iterator<Item = Duration> {
        self.polls.iter().filter_map(|poll| match poll {
            Poll::Answered(after) => Some(*after),
            Poll::Missing { .. } => None,
        })
    }
}

impl Poll {
    /// Whether nothing that may come could change it.
    fn is_settled(&self) -> bool {
        match self {
            Poll::Answered(_) | Poll::Missing { miss: Miss::Send(_), .. } => true,
            // An answer may still come after an error.
            Poll::Missing { miss: Miss::Timeout | Miss::Icmp(_), .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    const START: Time = Time::from_secs(100);
    const IDENTIFIER: u16 = 7;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn flow(interface: &str, index: u32, local: &str, polled: &str) -> FlowKey {
        FlowKey {
            subnet: "10.0.0.0/24".parse().unwrap(),
            interface: interface.to_owned(),
            index,
            local: ip(local),
            polled: ip(polled),
        }
    }

    fn reply(echo: &Echo, received: Time, verdict: Verdict) -> Reply {
        Reply {
            local: echo.local,
            polled: echo.polled,
            identifier: echo.identifier,
            sequence: echo.sequence,
            interface: Some(echo.interface),
            received,
            verdict,
        }
    }

    /// Plays one flow whose polls go as the characters say: `!` answered after 3 ms, `.` not at all, `l`
    /// answered after the timeout, `u` unreachable, `U` unreachable and then answered, `e` can't be
    /// sent. Gives what became of it, and how long it took.
    fn play(polls: &str) -> (Probed, Duration) {
        let key = flow("eth0", 2, "10.0.0.2", "10.0.0.1");
        let mut probe = Probe::new(vec![key], IDENTIFIER, START);
        let mut polls = polls.chars();
        let mut late = Vec::new();
        let mut now = START;
        while let Some(due) = probe.next_deadline() {
            now = now.max(due);
            while let Some(echo) = probe.poll_transmit(now) {
                let soon = now + Duration::from_millis(3);
                match polls.next() {
                    Some('!') => probe.reply(&reply(&echo, soon, Verdict::Answered)),
                    Some('u') => probe.reply(&reply(&echo, soon, Verdict::Unreachable)),
                    Some('U') => {
                        probe.reply(&reply(&echo, soon, Verdict::Unreachable));
                        probe.reply(&reply(&echo, soon, Verdict::Answered));
                    }
                    Some('l') => {
                        let received = now + TIMEOUT + Duration::from_nanos(1);
                        late.push(reply(&echo, received, Verdict::Answered));
                    }
                    Some('e') => {
                        let Echo { local, polled, sequence, .. } = echo;
                        let error = "no way".to_owned();
                        probe.send_failed(&SendFailed { local, polled, sequence, error });
                    }
                    _ => {}
                }
            }
            if probe.rounds() == POLLS {
                late.drain(..).for_each(|late| probe.reply(&late));
            }
            probe.heard(now);
        }
        assert_eq!(probe.poll_transmit(now + TIMEOUT), None);
        (probe.flows()[0].clone(), now.since(START))
    }

    #[test]
    fn a_probe_tells_who_answers_and_why_not_subn_10() {
        let unreachable = || Some(Miss::Icmp(Verdict::Unreachable));
        let (timeout, unsent) = (Some(Miss::Timeout), Some(Miss::Send("no way".to_owned())));
        for (polls, answered, miss) in [
            ("!!!!", 4, None),
            ("....", 0, timeout.clone()),
            (".!!!", 3, timeout.clone()),
            ("...!", 1, timeout.clone()),
            ("llll", 0, timeout.clone()),
            ("uuuu", 0, unreachable()),
            ("...u", 0, unreachable()),
            ("u...", 0, timeout),
            ("UU!!", 4, None),
            ("eeee", 0, unsent),
        ] {
            let (probed, _) = play(polls);
            assert_eq!(probed.answered(), answered, "{polls}");
            assert_eq!(probed.last_miss(), miss.as_ref(), "{polls}");
            let round_trip = (answered > 0).then_some(Duration::from_millis(3));
            assert_eq!(probed.round_trip(), round_trip, "{polls}");
        }
    }

    #[test]
    fn it_waits_no_longer_than_it_must() {
        let rounds = INTERVAL * u32::from(POLLS - 1);
        for (polls, took) in [
            ("!!!!", rounds),
            ("eeee", rounds),
            ("!!!.", rounds + TIMEOUT),
            // What came late might have come in time.
            ("llll", rounds + TIMEOUT),
            ("uuuu", rounds + TIMEOUT),
        ] {
            assert_eq!(play(polls).1, took, "{polls}");
        }
    }

    #[test]
    fn it_ends_only_when_all_that_could_count_was_handed_in() {
        let key = flow("eth0", 2, "10.0.0.2", "10.0.0.1");
        let mut probe = Probe::new(vec![key], IDENTIFIER, START);
        let mut echoes = Vec::new();
        let mut now = START;
        for _ in 0..POLLS {
            echoes.extend(probe.poll_transmit(now));
            now = now + INTERVAL;
        }
        // This agent stood still; the reply was received in time and is handed in a minute later.
        let stalled = now + Duration::from_secs(60);
        assert!(probe.next_deadline().is_some_and(|due| due < stalled));
        probe.heard(now);
        probe.reply(&reply(&echoes[3], now, Verdict::Answered));
        probe.heard(stalled);
        assert_eq!(probe.next_deadline(), None);
        assert_eq!(probe.flows()[0].answered(), 1);
    }

    #[test]
    fn after_a_stall_nothing_is_sent_at_once() {
        let key = flow("eth0", 2, "10.0.0.2", "10.0.0.1");
        let mut probe = Probe::new(vec![key], IDENTIFIER, START);
        let now = START + Duration::from_secs(10);
        assert!(probe.poll_transmit(now).is_some());
        assert_eq!(probe.poll_transmit(now), None);
        assert_eq!(probe.next_deadline(), Some(now + INTERVAL));
    }

    #[test]
    fn flows_are_polled_side_by_side_and_told_apart_by_their_interface() {
        let flows = vec![
            flow("eth0", 2, "fe80::2", "fe80::1"),
            flow("eth1", 3, "fe80::2", "fe80::1"),
            flow("eth0", 2, "10.0.0.2", "10.0.0.1"),
        ];
        let mut probe = Probe::new(flows, IDENTIFIER, START);
        let echoes: Vec<Echo> = std::iter::from_fn(|| probe.poll_transmit(START)).collect();
        assert_eq!(echoes.len(), 3);

        probe.reply(&reply(&echoes[1], START, Verdict::Answered));
        // Of somebody else: another identifier, address or round.
        for wrong in [
            Echo { identifier: 8, ..echoes[2].clone() },
            Echo { polled: ip("10.0.0.9"), ..echoes[2].clone() },
            Echo { sequence: 1, ..echoes[2].clone() },
            Echo { sequence: u16::MAX, ..echoes[2].clone() },
        ] {
            probe.reply(&reply(&wrong, START, Verdict::Answered));
        }
        // An error by another interface.
        let error = Echo { interface: 9, ..echoes[2].clone() };
        probe.reply(&reply(&error, START, Verdict::Unreachable));
        let answered: Vec<usize> = probe.flows().iter().map(Probed::answered).collect();
        assert_eq!(answered, [0, 1, 0]);
        assert_eq!(probe.flows()[2].last_miss(), Some(&Miss::Icmp(Verdict::Unreachable)));
    }

    #[test]
    fn a_probe_of_nobody_is_over_at_once() {
        let mut probe = Probe::new(Vec::new(), IDENTIFIER, START);
        assert_eq!(probe.poll_transmit(START), None);
        assert_eq!(probe.next_deadline(), None);
    }

    #[test]
    fn the_round_trip_is_that_of_the_median_poll() {
        for (millis, median) in [(&[5][..], 5), (&[9, 1], 1), (&[2, 90, 1], 2), (&[7, 3, 5, 1], 3)]
        {
            let polls = millis
                .iter()
                .map(|&millis| Poll::Answered(Duration::from_millis(millis)))
                .collect();
            let probed = Probed { key: flow("eth0", 2, "10.0.0.2", "10.0.0.1"), polls };
            assert_eq!(probed.round_trip(), Some(Duration::from_millis(median)));
        }
    }
}
