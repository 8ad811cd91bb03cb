//! The informs of one target that wait for their answers: which is sent again when, and whether the
//! target can be reached (TRAP-11). No I/O.
//!
//! ```text
//!                     no answer to anything for `retries` + 1 tries of one
//!   reachable ───────────────────────────────────────────────────────────> unreachable
//!   up to `window` under way, each    <───────────────────────────────────  one try at a time, each time
//!   repeated after its own timeout              any answer                  another, waits up to 30 s
//!        │   ^
//!        │   │ an answer       something about the target is being learned: one alone under way,
//!        └───┘                 the others at once after its answer
//! ```

use std::{collections::BTreeMap, net::Ipv4Addr, time::Duration};

use evenkeel_core::time::{Pretty, Time};

use super::{machine::Item, retry};

/// How often a forwarded trap is tried, over more than eight minutes, while the target answers others.
/// What it never answers, mostly as it can't be read there, must not take the place of the others for
/// ever. Alarms are never given up.
const GIVE_UP: u32 = 20;

/// How many tries may be prompted by what the target says, until a timeout or an answer: one for
/// discovery, one for the time and one to spare. A target that says the same again and again is not
/// answered without end.
const PROMPTED: u8 = 3;

/// One that waits for its answer.
#[derive(Debug)]
pub struct UnderWay {
    /// What it is.
    pub item: Item,
    /// What it says: the same in each try.
    pub varbinds: Vec<u8>,
    /// Whose it is.
    pub agent_address: Ipv4Addr,
    /// When it was first tried, in all and since the target was last reachable.
    entered: Time,
    first: Time,
    last: Time,
    /// When it is tried again.
    due: Time,
    /// Tries since `first`, but for those that the target prompted; and in all.
    tries: u32,
    total: u32,
}

/// All that is under way to one target.
#[derive(Debug)]
pub struct Informs {
    timeout: Duration,
    retries: u32,
    window: usize,
    under_way: BTreeMap<i32, UnderWay>,
    /// The last answer.
    heard: Option<Time>,
    probing: Option<Probing>,
    syncing: bool,
    prompts: u8,
    prompted: bool,
}

/// The target is unreachable.
#[derive(Debug)]
struct Probing {
    next: Time,
    tries: u32,
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Send this one again.
    Again(i32),
    /// Send what is new.
    New,
    /// Nothing before this moment, or nothing at all.
    Wait(Option<Time>),
}

/// What has become of those whose time is up.
#[derive(Debug, Default)]
pub struct Expired {
    /// Given up.
    pub given_up: Vec<Item>,
    /// The target has become unreachable, and why.
    pub unreachable: Option<String>,
}

impl Informs {
    /// Nothing under way.
    pub fn new(timeout: Duration, retries: u8, window: u16) -> Informs {
        Informs {
            // A configured 0 would be a loop without a wait.
            timeout: timeout.max(Duration::from_millis(10)),
            retries: retries.into(),
            window: usize::from(window.max(1)),
            under_way: BTreeMap::new(),
            heard: None,
            probing: None,
            syncing: false,
            prompts: 0,
            prompted: false,
        }
    }

    /// Whether one more alarm may be under way.
    pub fn has_room(&self) -> bool {
        self.under_way.len() < self.window
    }

    /// Whether one more forwarded trap may be under way: the last place is for an alarm, if there is
    /// more than one.
    pub fn has_room_for_forwarded(&self) -> bool {
        self.under_way.len() < self.window.max(2) - 1
    }

    /// Whether the target counts as unreachable.
    pub fn is_unreachable(&self) -> bool {
        self.probing.is_some()
    }

    /// Sees to those whose time is up. To be called before [`next`](Informs::next).
    pub fn expire(&mut self, now: Time) -> Expired {
        let mut expired = Expired::default();
        let heard = self.heard;
        self.under_way.retain(|_, one| {
            let answers_others = heard.is_some_and(|heard| heard > one.entered);
            let give_up = one.due <= now
                && one.total >= GIVE_UP
                && answers_others
                && matches!(one.item, Item::Forwarded(_));
            if give_up {
                expired.given_up.push(one.item);
            }
            !give_up
        });
        if self.probing.is_none() {
            let silent = self.under_way.values().find(|one| {
                one.due <= now
                    && one.tries > self.retries
                    && heard.is_none_or(|heard| heard <= one.first)
            });
            if let Some(one) = silent {
                let (tries, since) = (one.tries, now.since(one.first));
                // To the second: the rest is the timer's.
                let since = Pretty(Duration::from_secs(since.as_secs()));
                expired.unreachable = Some(format!("no answer to {tries} tries in {since}"));
                self.probing = Some(Probing { next: now, tries });
            }
        }
        expired
    }

    /// What is to be done now, with something new to send or not.
    pub fn next(&self, now: Time, new: bool) -> Next {
        if let Some(probing) = &self.probing {
            if self.under_way.is_empty() && !new {
                return Next::Wait(None);
            }
            if now < probing.next {
                return Next::Wait(Some(probing.next));
            }
            // Each time another, as the one that fails may fail for what it says.
            let longest_ago = self.under_way.iter().min_by_key(|(id, one)| (one.last, **id));
            return match longest_ago {
                Some((&id, _)) if !new => Next::Again(id),
                Some(_) | None => Next::New,
            };
        }
        if let Some((&id, one)) = self.alone() {
            return if one.due <= now { Next::Again(id) } else { Next::Wait(Some(one.due)) };
        }
        let first = self.under_way.iter().min_by_key(|(id, one)| (one.due, **id));
        match first {
            Some((&id, one)) if one.due <= now => Next::Again(id),
            Some(_) | None if new => Next::New,
            Some((_, one)) => Next::Wait(Some(one.due)),
            None => Next::Wait(None),
        }
    }

    /// The one that is sent while something about the target is being learned.
    fn alone(&self) -> Option<(&i32, &UnderWay)> {
        let oldest = self.under_way.iter().min_by_key(|(id, one)| (one.entered, **id));
        oldest.filter(|_| self.syncing)
    }

    /// Adds one whose first try leaves now.
    pub fn add(
        &mut self,
        id: i32,
        item: Item,
        varbinds: Vec<u8>,
        agent_address: Ipv4Addr,
        now: Time,
    ) {
        let one = UnderWay {
            item,
            varbinds,
            agent_address,
            entered: now,
            first: now,
            last: now,
            due: now,
            tries: 0,
            total: 0,
        };
        self.under_way.insert(id, one);
    }

    /// One that is under way.
    pub fn get(&self, id: i32) -> Option<&UnderWay> {
        self.under_way.get(&id)
    }

    /// Removes one that can't be sent.
    pub fn remove(&mut self, id: i32) -> Option<Item> {
        self.under_way.remove(&id).map(|one| one.item)
    }

    /// A try of this one leaves, or a question that must be answered first (`discovery`). Says whether
    /// it was tried before.
    pub fn sent(&mut self, id: i32, discovery: bool, now: Time) -> bool {
        self.syncing |= discovery;
        let prompted = std::mem::take(&mut self.prompted);
        if !prompted {
            self.prompts = 0;
        }
        if let Some(probing) = &mut self.probing {
            probing.tries += u32::from(!prompted);
            probing.next = now + retry::after(self.timeout, probing.tries);
        }
        let Some(one) = self.under_way.get_mut(&id) else { return false };
        one.tries += u32::from(!prompted);
        one.total += 1;
        one.last = now;
        // A target that answers others is there: waiting longer and longer for this one would only be
        // unfair to what it was about.
        one.due = now + retry::after(self.timeout, one.tries.min(self.retries + 1));
        one.total > 1
    }

    /// Something about the target was learned: the next try is due now, of one alone. The others follow
    /// when it is answered, so that a target that has forgotten us is not sent all of them for each
    /// question that it asks.
    pub fn again(&mut self, now: Time) {
        if self.prompts >= PROMPTED {
            return;
        }
        self.prompts += 1;
        self.prompted = true;
        self.syncing = true;
        if let Some(probing) = &mut self.probing {
            probing.next = now;
        } else if let Some((&id, _)) = self.alone()
            && let Some(one) = self.under_way.get_mut(&id)
        {
            one.due = now;
        }
    }

    /// An answer came: gives back what it is for, if that still waits for one.
    pub fn answered(&mut self, id: i32, now: Time) -> Option<Item> {
        self.heard = Some(now);
        let held_up = self.probing.take().is_some() | std::mem::take(&mut self.syncing);
        self.prompts = 0;
        self.prompted = false;
        let one = self.under_way.remove(&id);
        if held_up {
            for other in self.under_way.values_mut() {
                (other.first, other.due, other.tries) = (now, now, 0);
            }
        }
        one.map(|one| one.item)
    }
}

#[cfg(test)]
mod tests {
    use evenkeel_core::alarm::Severity;

    use super::*;
    use crate::notifier::order::Turn;

    const TIMEOUT: Duration = Duration::from_secs(2);

    fn at(millis: u64) -> Time {
        Time::from_secs(100) + Duration::from_millis(millis)
    }

    fn item(number: u64) -> Item {
        Item::Alarm(Turn { number, severity: Severity::Major, object: number, held: true })
    }

    /// So many under way, sent in the first milliseconds.
    fn under_way(count: u64) -> Informs {
        let mut informs = Informs::new(TIMEOUT, 3, 8);
        for number in 0..count {
            let id = number as i32;
            informs.add(id, item(number), vec![], Ipv4Addr::UNSPECIFIED, at(number));
            assert!(!informs.sent(id, false, at(number)));
        }
        informs
    }

    /// An NMS that was restarted answers each SNMPv3 message with a Report: one alone is sent again,
    /// and the others when it was answered.
    #[test]
    fn what_the_target_must_first_be_asked_is_asked_once() {
        let mut informs = under_way(8);
        for report in 0..8 {
            informs.again(at(10 + report));
        }
        assert_eq!(informs.next(at(20), true), Next::Again(0));
        assert!(informs.sent(0, false, at(20)));
        assert_eq!(informs.next(at(20), true), Next::Wait(Some(at(2020))), "the others wait");
        assert_eq!(informs.answered(0, at(30)), Some(item(0)));
        for id in 1..8 {
            assert_eq!(informs.next(at(30), true), Next::Again(id));
            informs.sent(id, false, at(30));
        }
        assert_eq!(informs.next(at(30), true), Next::New);
    }

    #[test]
    fn discovery_goes_alone_and_takes_no_try() {
        let mut informs = Informs::new(TIMEOUT, 3, 8);
        informs.add(1, item(1), vec![], Ipv4Addr::UNSPECIFIED, at(0));
        informs.sent(1, true, at(0));
        assert_eq!(informs.next(at(0), true), Next::Wait(Some(at(2000))));
        for (answer, send) in [(5, 5), (10, 10)] {
            informs.again(at(answer));
            assert_eq!(informs.next(at(send), true), Next::Again(1));
            informs.sent(1, false, at(send));
        }
        assert_eq!(informs.next(at(10), true), Next::Wait(Some(at(2010))), "as after a first try");
        assert_eq!(informs.answered(1, at(15)), Some(item(1)));
        assert_eq!(informs.next(at(15), true), Next::New);
    }

    #[test]
    fn a_target_that_asks_again_and_again_is_not_answered_without_end() {
        let mut informs = under_way(1);
        let mut sent = 0;
        for millis in 10..1000 {
            informs.again(at(millis));
            if informs.next(at(millis), false) == Next::Again(0) {
                informs.sent(0, false, at(millis));
                sent += 1;
            }
        }
        assert_eq!(sent, 3);
        let Next::Wait(Some(due)) = informs.next(at(1000), false) else { panic!("it waits") };
        assert!(due > at(2000));
        informs.sent(0, false, due);
        informs.again(due);
        assert_eq!(informs.next(due, false), Next::Again(0), "a timeout makes it ready to listen");
    }

    #[test]
    fn trap_11_unreachable_is_a_target_that_answered_nothing_meanwhile() {
        let mut informs = under_way(2);
        let mut now = at(1);
        while now < at(29_000) {
            assert!(informs.expire(now).unreachable.is_none());
            match informs.next(now, false) {
                Next::Again(id) => assert!(informs.sent(id, false, now)),
                Next::Wait(Some(due)) => now = due.min(at(29_000)),
                other => panic!("{other:?}"),
            }
        }
        // The answer to the other shows that it is there, however often the first was tried.
        informs.answered(1, now);
        let Next::Wait(Some(due)) = informs.next(now, false) else { panic!("it waits") };
        assert!(informs.expire(due).unreachable.is_none());
        assert_eq!(informs.next(due, false), Next::Again(0));
        assert!(!informs.is_unreachable());
    }
}
