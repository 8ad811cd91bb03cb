//! One flow: a local address that polls one other address (SUBN-3 to SUBN-5).
//!
//! ```text
//!                four answered in a row
//!      ┌──────────────────────────────────────────┐
//!      │                                          v
//!   Unknown                            Down ───> Up      four answered in a row
//!      │                                 ^ <───          four missed in a row
//!      └─────────────────────────────────┘
//!                four missed in a row
//! ```
//!
//! A poll is answered when its reply was received before the next poll was due; what has no reply
//! by then is missed; what this agent's own stall spoiled is neither.

use std::num::NonZeroU8;

use crate::{input::Verdict, time::Time};

/// The state of a flow, with the count that may end it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowState {
    /// Neither has happened yet since it began (SUBN-4).
    Unknown {
        /// Answered in a row.
        answered: u8,
        /// Missed in a row.
        missed: u8,
    },
    /// The last change was four answered in a row.
    Up {
        /// Missed in a row.
        missed: u8,
    },
    /// The last change was four missed in a row.
    Down {
        /// Answered in a row.
        answered: u8,
    },
}

/// Why a poll had no reply (SUBN-5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Miss {
    /// Nothing came.
    Timeout,
    /// An ICMP error came.
    Icmp(Verdict),
    /// It could not be sent.
    Send(String),
}

/// What a reply was worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReplyOutcome {
    /// It answers the outstanding poll.
    Answered,
    /// It answers a poll that was missed by then.
    Late,
    /// It answers what was answered already.
    Duplicate,
    /// It answers nothing that was asked.
    Unexpected,
    /// An ICMP error, kept as the reason should the poll stay without a reply.
    Error,
}

impl ReplyOutcome {
    /// Every outcome.
    pub const ALL: [ReplyOutcome; 5] = [
        ReplyOutcome::Answered,
        ReplyOutcome::Late,
        ReplyOutcome::Duplicate,
        ReplyOutcome::Unexpected,
        ReplyOutcome::Error,
    ];

    /// The name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            ReplyOutcome::Answered => "answered",
            ReplyOutcome::Late => "late",
            ReplyOutcome::Duplicate => "duplicate",
            ReplyOutcome::Unexpected => "unexpected",
            ReplyOutcome::Error => "error",
        }
    }
}

/// What a poll came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It was answered, or there was none.
    Answered,
    /// It had no reply in time.
    Missed,
    /// It had none, but this agent could not have heard it.
    Inconclusive,
}

/// A flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    state: FlowState,
    in_a_row: NonZeroU8,
    sequence: u16,
    /// Bit `n` tells whether the poll `n` before the latest was answered; the 32 latest.
    answered: u32,
    /// How many of those were sent at all.
    sent: u32,
    outstanding: Option<Outstanding>,
    last_miss: Option<Miss>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Outstanding {
    sent: Time,
    due: Time,
    miss: Miss,
    /// Its reply may have been lost at this host.
    spoiled: bool,
}

impl Flow {
    /// A flow about which nothing is known, whose first poll will carry `sequence`.
    pub const fn new(in_a_row: NonZeroU8, sequence: u16) -> Flow {
        Flow {
            state: FlowState::Unknown { answered: 0, missed: 0 },
            in_a_row,
            sequence: sequence.wrapping_sub(1),
            answered: 0,
            sent: 0,
            outstanding: None,
            last_miss: None,
        }
    }

    /// Its state.
    pub const fn state(&self) -> FlowState {
        self.state
    }

    /// Why the latest missed poll was missed; nothing once a poll was answered.
    pub const fn last_miss(&self) -> Option<&Miss> {
        self.last_miss.as_ref()
    }

    /// Asks for another number of polls in a row from now on.
    pub const fn set_in_a_row(&mut self, in_a_row: NonZeroU8) {
        self.in_a_row = in_a_row;
    }

    /// Begins a poll at `now`, whose reply counts if it is received before `due`, and returns its
    /// sequence number. The poll before must have been [judged](Flow::judge).
    pub fn poll(&mut self, now: Time, due: Time) -> u16 {
        self.sequence = self.sequence.wrapping_add(1);
        self.answered <<= 1;
        self.sent = self.sent.saturating_add(1);
        self.outstanding =
            Some(Outstanding { sent: now, due, miss: Miss::Timeout, spoiled: false });
        self.sequence
    }

    /// Notes that the poll with this sequence number could not be sent. Returns whether it is this
    /// flow's.
    pub fn send_failed(&mut self, sequence: u16, error: &str) -> bool {
        match &mut self.outstanding {
            Some(outstanding) if self.sequence == sequence => {
                outstanding.miss = Miss::Send(error.to_owned());
                true
            }
            Some(_) | None => false,
        }
    }

    /// Takes in a reply. Returns what it was worth, and the flow's new state if it changed.
    pub fn reply(
        &mut self,
        sequence: u16,
        received: Time,
        verdict: Verdict,
    ) -> (ReplyOutcome, Option<FlowState>) {
        let back = self.sequence.wrapping_sub(sequence);
        if u32::from(back) >= self.sent.min(32) {
            return (ReplyOutcome::Unexpected, None);
        }
        if verdict != Verdict::Answered {
            if let (Some(outstanding), 0) = (&mut self.outstanding, back) {
                outstanding.miss = Miss::Icmp(verdict);
            }
            return (ReplyOutcome::Error, None);
        }
        // SUBN-5: a second reply to the same poll counts nothing.
        if self.answered >> back & 1 == 1 {
            return (ReplyOutcome::Duplicate, None);
        }
        self.answered |= 1 << back;
        match &self.outstanding {
            // An event at exactly the deadline comes after it (spec, "Time").
            Some(outstanding) if back == 0 && received < outstanding.due => {
                self.outstanding = None;
                self.last_miss = None;
                (ReplyOutcome::Answered, self.count_answered())
            }
            _ => (ReplyOutcome::Late, None),
        }
    }

    /// When the outstanding poll was sent, if one is outstanding.
    pub fn outstanding_since(&self) -> Option<Time> {
        self.outstanding.as_ref().map(|outstanding| outstanding.sent)
    }

    /// Judges the outstanding poll, as the next is due and all that was received before then has
    /// been handed in. `stalled` says that this agent stood still meanwhile: then a poll without a
    /// reply is no evidence (spec, "Time"). Returns what the poll came to, and the flow's new state
    /// if it changed.
    pub fn judge(&mut self, stalled: bool) -> (Judgement, Option<FlowState>) {
        let Some(outstanding) = self.outstanding.take() else {
            return (Judgement::Answered, None);
        };
        if stalled || outstanding.spoiled {
            return (Judgement::Inconclusive, None);
        }
        self.last_miss = Some(outstanding.miss);
        (Judgement::Missed, self.count_missed())
    }

    /// Notes that replies were lost at this host: if the outstanding poll stays without one, that
    /// says nothing.
    pub const fn spoil(&mut self) {
        if let Some(outstanding) = &mut self.outstanding {
            outstanding.spoiled = true;
        }
    }

    fn count_answered(&mut self) -> Option<FlowState> {
        let enough = self.in_a_row.get();
        self.state = match self.state {
            FlowState::Unknown { answered, .. } if answered + 1 >= enough => {
                FlowState::Up { missed: 0 }
            }
            FlowState::Unknown { answered, .. } => {
                FlowState::Unknown { answered: answered + 1, missed: 0 }
            }
            // SUBN-3: one reply amid losses starts the count of losses again.
            FlowState::Up { .. } => {
                self.state = FlowState::Up { missed: 0 };
                return None;
            }
            FlowState::Down { answered } if answered + 1 >= enough => FlowState::Up { missed: 0 },
            FlowState::Down { answered } => FlowState::Down { answered: answered + 1 },
        };
        matches!(self.state, FlowState::Up { .. }).then_some(self.state)
    }

    fn count_missed(&mut self) -> Option<FlowState> {
        let enough = self.in_a_row.get();
        self.state = match self.state {
            FlowState::Unknown { missed, .. } if missed + 1 >= enough => {
                FlowState::Down { answered: 0 }
            }
            FlowState::Unknown { missed, .. } => {
                FlowState::Unknown { answered: 0, missed: missed + 1 }
            }
            FlowState::Up { missed } if missed + 1 >= enough => FlowState::Down { answered: 0 },
            FlowState::Up { missed } => FlowState::Up { missed: missed + 1 },
            // SUBN-3: one loss amid replies starts the count of replies again.
            FlowState::Down { .. } => {
                self.state = FlowState::Down { answered: 0 };
                return None;
            }
        };
        matches!(self.state, FlowState::Down { .. }).then_some(self.state)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use std::time::Duration;

    const INTERVAL: Duration = Duration::from_secs(2);

    /// Plays polls, one character each: `!` answered, `.` missed, `s` spoiled by a stall, `l`
    /// answered late, `o` missed while replies were lost here. Returns a character for the state after each poll: `?`, `U` or `D`.
    fn play(polls: &str) -> String {
        let mut flow = Flow::new(NonZeroU8::new(4).unwrap(), 7);
        let mut now = Time::from_secs(100);
        polls
            .chars()
            .map(|poll| {
                let due = now + INTERVAL;
                let sequence = flow.poll(now, due);
                if poll == '!' {
                    let (outcome, _) = flow.reply(sequence, now, Verdict::Answered);
                    assert_eq!(outcome, ReplyOutcome::Answered);
                }
                if poll == 'o' {
                    flow.spoil();
                }
                flow.judge(poll == 's');
                if poll == 'l' {
                    let (outcome, _) = flow.reply(sequence, due, Verdict::Answered);
                    assert_eq!(outcome, ReplyOutcome::Late);
                }
                now = due;
                match flow.state() {
                    FlowState::Unknown { .. } => '?',
                    FlowState::Up { .. } => 'U',
                    FlowState::Down { .. } => 'D',
                }
            })
            .collect()
    }

    #[test]
    fn four_in_a_row_make_a_flow_up_or_down_subn_3_subn_4() {
        for (polls, states) in [
            ("!!!!", "???U"),
            ("....", "???D"),
            ("!!!.!!!!", "???????U"),
            ("...!....", "???????D"),
            ("!!!!...!....", "???UUUUUUUUD"),
            ("....!!!.!!!!", "???DDDDDDDDU"),
            ("!!!!....!!!!", "???UUUUDDDDU"),
        ] {
            assert_eq!(play(polls), states, "{polls}");
        }
    }

    #[test]
    fn a_late_reply_leaves_the_poll_missed_subn_5() {
        assert_eq!(play("!!!!llll"), "???UUUUD");
        assert_eq!(play("!!!!.l.l"), "???UUUUD");
    }

    #[test]
    fn a_stall_is_no_evidence() {
        assert_eq!(play("!!!!...ssss"), "???UUUUUUUU");
        assert_eq!(play("!!!!...ssss."), "???UUUUUUUUD");
        assert_eq!(play("....!!!ssss!"), "???DDDDDDDDU");
    }

    #[test]
    fn replies_that_were_lost_here_are_no_evidence() {
        assert_eq!(play("!!!!...oooo."), "???UUUUUUUUD");
    }

    #[test]
    fn a_reply_counts_once_and_only_for_what_was_asked_subn_2_subn_5() {
        let mut flow = Flow::new(NonZeroU8::new(4).unwrap(), u16::MAX);
        let reply = |flow: &mut Flow, sequence, secs| {
            flow.reply(sequence, Time::from_secs(secs), Verdict::Answered).0
        };
        assert_eq!(reply(&mut flow, u16::MAX, 0), ReplyOutcome::Unexpected, "nothing was sent");
        let first = flow.poll(Time::from_secs(0), Time::from_secs(2));
        assert_eq!(first, u16::MAX);
        assert_eq!(reply(&mut flow, first, 1), ReplyOutcome::Answered);
        assert_eq!(reply(&mut flow, first, 1), ReplyOutcome::Duplicate);
        flow.judge(false);
        let second = flow.poll(Time::from_secs(2), Time::from_secs(4));
        assert_eq!(second, 0, "sequence numbers go round");
        assert_eq!(reply(&mut flow, 5, 3), ReplyOutcome::Unexpected);
        assert_eq!(reply(&mut flow, second.wrapping_sub(2), 3), ReplyOutcome::Unexpected);
        assert_eq!(reply(&mut flow, second, 4), ReplyOutcome::Late, "at the deadline is after it");
        assert_eq!(reply(&mut flow, second, 4), ReplyOutcome::Duplicate);
    }

    #[test]
    fn an_icmp_or_send_error_is_kept_as_the_reason_subn_5() {
        let mut flow = Flow::new(NonZeroU8::new(4).unwrap(), 0);
        let sequence = flow.poll(Time::ZERO, Time::from_secs(2));
        let outcome = flow.reply(sequence, Time::from_secs(1), Verdict::Unreachable);
        assert_eq!(outcome, (ReplyOutcome::Error, None));
        assert_eq!(flow.last_miss(), None, "the poll may still be answered");
        flow.judge(false);
        assert_eq!(flow.last_miss(), Some(&Miss::Icmp(Verdict::Unreachable)));
        let sequence = flow.poll(Time::from_secs(2), Time::from_secs(4));
        assert!(!flow.send_failed(sequence.wrapping_add(1), "not its own"));
        assert!(flow.send_failed(sequence, "Network is down"));
        flow.judge(false);
        assert_eq!(flow.last_miss(), Some(&Miss::Send("Network is down".to_owned())));
    }

    proptest! {
        /// Any loss pattern whose runs stay under four never takes a flow down, and any in which
        /// replies never come four in a row never brings one up (SUBN-3).
        #[test]
        fn shorter_runs_change_nothing(polls in "!!!!([.]{1,3}!{1,9}){0,40}") {
            prop_assert!(!play(&polls).contains('D'));
        }

        #[test]
        fn shorter_recoveries_change_nothing(polls in "[.]{4}(!{1,3}[.]{1,9}){0,40}") {
            prop_assert!(!play(&polls).contains('U'));
        }

        /// The state is that of the last run of four among the polls that count.
        #[test]
        fn the_last_run_of_four_decides(polls in "[!.sl]{0,60}") {
            let counted: Vec<char> =
                polls.chars().filter(|&poll| poll != 's').map(|poll| if poll == '!' { '!' } else { '.' }).collect();
            let expected = counted
                .windows(4)
                .rev()
                .find_map(|run| match run {
                    ['!', '!', '!', '!'] => Some('U'),
                    ['.', '.', '.', '.'] => Some('D'),
                    _ => None,
                })
                .unwrap_or('?');
            prop_assert_eq!(play(&polls).chars().last().unwrap_or('?'), expected);
        }
    }
}
