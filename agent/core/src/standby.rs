//! A subnet that has a standby interface: which of the two carries its addresses (SUBN-8).
//!
//! ```text
//!            IP down on the primary,
//!            and the standby has a link               moved
//!   Primary ─────────────────────────> ToStandby ────────────────> Standby
//!     ^  ^                                 │                         ^  │
//!     │  └──────────── not moved ──────────┘          ┌─ not moved ──┘  │
//!     │                                               │                 │ an operator enables the primary,
//!     └──────────────────── moved ───────────── ToPrimary <─────────────┘ or its link was part of the
//!                                                                         failure and is back
//! ```
//!
//! From a failure of IP only there is no way back but an operator's order: the primary is *disabled*. One
//! that the link was part of ends when the link has been back for as long as four polls take; whether IP
//! works there too is then for the polls to say, and if it does not, that is a failure of IP only, which
//! ends the coming and going. Between two moves that nobody ordered lies at least the time of four polls.
//!
//! The machine knows no addresses and moves nothing: it says that the addresses are to be moved, and is
//! told how that went.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{settings::Interfaces, time::Time};

/// One subnet's pair of interfaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standby {
    interfaces: Interfaces,
    place: Place,
    /// The primary is down at the IP level. Only while the addresses are there.
    down: bool,
    seen: Seen,
    /// Since when the primary has had a link without a break.
    link_since: Time,
    /// Nothing is moved before this moment but by an operator's order.
    hold: Time,
    /// See [`on_trial`](Standby::on_trial).
    on_trial: bool,
}

/// Where a subnet's addresses are, or are on their way to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Place {
    /// On the primary.
    Primary,
    /// On their way to the standby, as this failed of the primary.
    ToStandby(Failure),
    /// On the standby, as this failed of the primary.
    Standby(Failure),
    /// On their way back.
    ToPrimary(Failure),
}

/// What has failed of an interface that is down (SUBN-9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    /// Its link is there, but IP doesn't work.
    IpOnly,
    /// Its link is gone, and IP with it.
    LinkAndIp,
}

impl Failure {
    /// The name in machine-readable forms.
    pub const fn name(self) -> &'static str {
        match self {
            Failure::IpOnly => "ip_only",
            Failure::LinkAndIp => "link+ip",
        }
    }

    /// What has failed of one whose link is there, or isn't.
    pub const fn of(link: bool) -> Failure {
        if link { Failure::IpOnly } else { Failure::LinkAndIp }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Failure::IpOnly => "IP only",
            Failure::LinkAndIp => "Link and IP",
        })
    }
}

/// The part of an interface on a subnet that has two (SUBN-8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// It carries the subnet's addresses while it works.
    Primary,
    /// It waits to carry them.
    Standby,
}

/// What the kernel says of both interfaces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The primary has a link.
    pub primary_link: bool,
    /// The standby has one.
    pub standby_link: bool,
    /// An address of the subnet is on the primary.
    pub on_primary: bool,
    /// One is on the standby.
    pub on_standby: bool,
}

/// Why a primary interface is not enabled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotEnabled {
    /// The subnet is not watched, or has no standby interface.
    NoStandby,
    /// The addresses are on the primary, which this is.
    NotDisabled(String),
    /// They are being moved.
    Moving,
    /// They would be moved to this interface, where nothing comes or goes.
    NoLink(String),
}

impl std::error::Error for NotEnabled {}

impl fmt::Display for NotEnabled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotEnabled::NoStandby => f.write_str(
                "no subnet of this prefix is watched that has a standby interface: see `evenkeel \
                 status` for those that are",
            ),
            NotEnabled::NotDisabled(primary) => {
                write!(f, "its addresses are on {primary}: there is nothing to enable")
            }
            NotEnabled::Moving => f.write_str("its addresses are just being moved: ask again"),
            NotEnabled::NoLink(primary) => write!(f, "{primary} has no link"),
        }
    }
}

impl Standby {
    /// A pair whose addresses are at `place`.
    pub const fn new(interfaces: Interfaces, place: Place, seen: Seen, now: Time) -> Standby {
        Standby { interfaces, place, down: false, seen, link_since: now, hold: now, on_trial: true }
    }

    /// A pair of which no more is known than what the kernel says. Addresses that are on the standby
    /// alone were moved there by somebody, for a reason: they stay there until an operator says otherwise.
    pub const fn found(interfaces: Interfaces, seen: Seen, now: Time) -> Standby {
        let moved = seen.on_standby && !seen.on_primary;
        let place = if moved { Place::Standby(Failure::IpOnly) } else { Place::Primary };
        Standby::new(interfaces, place, seen, now)
    }

    /// The two interfaces.
    pub const fn interfaces(&self) -> &Interfaces {
        &self.interfaces
    }

    /// Where the addresses are.
    pub const fn place(&self) -> Place {
        self.place
    }

    /// The polls have not judged yet the interface that the addresses are on, so what was known of it
    /// from before they came says nothing.
    pub const fn on_trial(&self) -> bool {
        self.on_trial
    }

    /// What failed of the primary, if the addresses left it for that reason.
    pub const fn failure(&self) -> Option<Failure> {
        match self.place {
            Place::Primary => None,
            Place::ToStandby(failure) | Place::Standby(failure) | Place::ToPrimary(failure) => {
                Some(failure)
            }
        }
    }

    /// The primary takes no addresses back until an operator enables it.
    pub const fn is_disabled(&self) -> bool {
        match self.place {
            Place::ToStandby(Failure::IpOnly) | Place::Standby(Failure::IpOnly) => true,
            Place::ToStandby(Failure::LinkAndIp) | Place::Standby(Failure::LinkAndIp) => false,
            Place::Primary | Place::ToPrimary(_) => false,
        }
    }

    /// The part of an interface in this pair.
    pub fn part_of(&self, interface: &str) -> Option<Part> {
        match () {
            () if interface == self.interfaces.primary => Some(Part::Primary),
            () if interface == self.interfaces.standby => Some(Part::Standby),
            () => None,
        }
    }

    /// Takes in what the kernel says of both interfaces.
    pub const fn see(&mut self, seen: Seen, now: Time) {
        if seen.primary_link && !self.seen.primary_link {
            self.link_since = now;
        }
        self.seen = seen;
    }

    /// Takes in whether IP works on the interface of this part, which is nothing while the polls have not
    /// judged it.
    pub const fn judged(&mut self, part: Part, up: Option<bool>) {
        let Some(up) = up else { return };
        match (self.place, part) {
            (Place::Primary, Part::Primary) => {
                self.down = !up;
                self.on_trial = false;
            }
            (Place::Standby(_), Part::Standby) => self.on_trial = false,
            // What was asked before the addresses left, or while they are on their way.
            (Place::Primary, Part::Standby)
            | (Place::Standby(_), Part::Primary)
            | (Place::ToStandby(_) | Place::ToPrimary(_), Part::Primary | Part::Standby) => {}
        }
    }

    /// Says where the addresses are to be moved now, if they are. `polls` is the time that the polls
    /// take which decide (SUBN-3).
    pub fn turn(&mut self, now: Time, polls: Duration) -> Option<Part> {
        if now < self.due(polls)? {
            return None;
        }
        match self.place {
            Place::Primary if self.seen.on_primary || !self.seen.on_standby => {
                self.place = Place::ToStandby(Failure::of(self.seen.primary_link));
                Some(Part::Standby)
            }
            // Somebody else has moved them.
            Place::Primary => {
                *self = Standby::found(self.interfaces.clone(), self.seen, now);
                None
            }
            Place::Standby(_) if self.seen.on_primary && !self.seen.on_standby => {
                *self = Standby::found(self.interfaces.clone(), self.seen, now);
                None
            }
            Place::Standby(failure) => {
                self.place = Place::ToPrimary(failure);
                Some(Part::Primary)
            }
            Place::ToStandby(_) | Place::ToPrimary(_) => None,
        }
    }

    /// When there is something to do.
    fn due(&self, polls: Duration) -> Option<Time> {
        let seen = self.seen;
        let moved_by_others = match self.place {
            Place::Primary => seen.on_standby && !seen.on_primary,
            Place::Standby(_) => seen.on_primary && !seen.on_standby,
            Place::ToStandby(_) | Place::ToPrimary(_) => false,
        };
        if moved_by_others {
            // What the kernel said may be from before the last move.
            return Some(self.hold);
        }
        match self.place {
            Place::Primary => (self.down && seen.standby_link).then_some(self.hold),
            Place::Standby(Failure::LinkAndIp) if seen.primary_link => {
                Some(self.hold.max(self.link_since + polls))
            }
            // SUBN-8: there is no automatic way back from a failure of IP only.
            Place::Standby(Failure::LinkAndIp | Failure::IpOnly)
            | Place::ToStandby(_)
            | Place::ToPrimary(_) => None,
        }
    }

    /// When [`turn`](Standby::turn) will have something to do, if nothing changes until then.
    pub fn next_deadline(&self, polls: Duration) -> Option<Time> {
        self.due(polls)
    }

    /// Takes in how the move went that `turn` or [`enable`](Standby::enable) asked for.
    pub fn moved(&mut self, well: bool, now: Time, polls: Duration) {
        self.place = match (self.place, well) {
            (Place::ToStandby(failure), true) | (Place::ToPrimary(failure), false) => {
                Place::Standby(failure)
            }
            (Place::ToStandby(_), false) | (Place::ToPrimary(_), true) => Place::Primary,
            // Nothing was asked for.
            (Place::Primary | Place::Standby(_), _) => return,
        };
        self.hold = now + polls;
        // One that could not be moved away is as down as it was.
        self.on_trial |= well;
        self.down &= !well;
    }

    /// Enables the primary, by an operator's order: its addresses are to be moved back to it, whatever
    /// had failed of it (SUBN-8).
    ///
    /// # Errors
    ///
    /// They are there or on their way, or the primary has no link.
    pub fn enable(&mut self) -> Result<Part, NotEnabled> {
        let primary = || self.interfaces.primary.clone();
        match self.place {
            Place::Primary => Err(NotEnabled::NotDisabled(primary())),
            Place::ToStandby(_) | Place::ToPrimary(_) => Err(NotEnabled::Moving),
            Place::Standby(_) if !self.seen.primary_link => Err(NotEnabled::NoLink(primary())),
            Place::Standby(failure) => {
                self.place = Place::ToPrimary(failure);
                Ok(Part::Primary)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What the polls take: four, one every 2 s.
    const POLLS: Duration = Duration::from_secs(8);

    fn at(secs: u64) -> Time {
        Time::from_secs(1000 + secs)
    }

    /// A pair on a clock, whose moves are carried out at once and well.
    struct Pair {
        standby: Standby,
        /// `12s>standby`, in order.
        moves: Vec<String>,
        now: u64,
        /// Moves fail.
        stuck: bool,
    }

    impl Pair {
        fn new() -> Pair {
            let interfaces = Interfaces { primary: "eth0".into(), standby: "eth1".into() };
            let seen = Seen {
                primary_link: true,
                standby_link: true,
                on_primary: true,
                on_standby: false,
            };
            let standby = Standby::found(interfaces, seen, at(0));
            Pair { standby, moves: Vec::new(), now: 0, stuck: false }
        }

        fn at(&mut self, secs: u64) -> &mut Pair {
            while self.now < secs {
                self.now += 1;
                self.turn();
            }
            self
        }

        fn turn(&mut self) {
            if let Some(to) = self.standby.turn(at(self.now), POLLS) {
                self.carry_out(to);
            }
        }

        fn carry_out(&mut self, to: Part) {
            let name = match to {
                Part::Primary => "primary",
                Part::Standby => "standby",
            };
            let failed = if self.stuck { " failed" } else { "" };
            self.moves.push(format!("{}s>{name}{failed}", self.now));
            let mut seen = self.standby.seen;
            if !self.stuck {
                seen.on_primary = to == Part::Primary;
                seen.on_standby = to == Part::Standby;
            }
            self.standby.moved(!self.stuck, at(self.now), POLLS);
            self.standby.see(seen, at(self.now));
        }

        fn links(&mut self, primary: bool, standby: bool) -> &mut Pair {
            let seen = Seen { primary_link: primary, standby_link: standby, ..self.standby.seen };
            self.standby.see(seen, at(self.now));
            self.turn();
            self
        }

        fn primary_is(&mut self, up: bool) -> &mut Pair {
            self.standby.judged(Part::Primary, Some(up));
            self.turn();
            self
        }

        fn enable(&mut self) -> Result<(), NotEnabled> {
            let to = self.standby.enable()?;
            self.carry_out(to);
            Ok(())
        }
    }

    #[test]
    fn subn_8_ip_only_moves_once_and_stays_disabled_until_it_is_enabled() {
        let mut pair = Pair::new();
        pair.at(10).primary_is(false);
        assert_eq!(pair.moves, ["10s>standby"]);
        assert!(pair.standby.is_disabled());
        // Neither time nor its link brings it back.
        pair.at(100).links(false, true).at(200).links(true, true).at(10_000);
        assert_eq!(pair.moves.len(), 1);
        pair.enable().unwrap();
        assert_eq!(pair.moves, ["10s>standby", "10000s>primary"]);
        assert!(!pair.standby.is_disabled());
        assert_eq!(pair.enable(), Err(NotEnabled::NotDisabled("eth0".into())));
    }

    #[test]
    fn subn_8_what_the_link_was_part_of_ends_when_the_link_is_back_for_four_polls() {
        let mut pair = Pair::new();
        pair.at(5).links(false, true).at(10).primary_is(false);
        assert_eq!(pair.moves, ["10s>standby"]);
        assert_eq!(
            (pair.standby.is_disabled(), pair.standby.place()),
            (false, Place::Standby(Failure::LinkAndIp))
        );
        // Back for 7 s, away for one, back again.
        pair.at(30).links(true, true).at(37).links(false, true).at(38).links(true, true).at(45);
        assert_eq!(pair.moves.len(), 1);
        pair.at(46);
        assert_eq!(pair.moves, ["10s>standby", "46s>primary"]);
        // IP does not work there though the link is back: it is a failure of IP only, and the end.
        pair.at(54).primary_is(false).at(10_000);
        assert_eq!(pair.moves[2..], ["54s>standby"]);
        assert!(pair.standby.is_disabled());
    }

    #[test]
    fn subn_8_nothing_moves_to_a_standby_without_a_link_until_it_has_one() {
        let mut pair = Pair::new();
        pair.links(true, false).at(10).primary_is(false).at(20);
        assert_eq!(pair.moves.len(), 0);
        pair.links(true, true);
        assert_eq!(pair.moves, ["20s>standby"]);
    }

    #[test]
    fn subn_8_a_primary_that_answers_again_keeps_its_addresses() {
        let mut pair = Pair::new();
        pair.links(true, false).at(10).primary_is(false).at(20).primary_is(true);
        pair.links(true, true).at(100);
        assert_eq!(pair.moves.len(), 0);
    }

    #[test]
    fn subn_8_what_could_not_be_moved_is_tried_again_after_four_polls() {
        let mut pair = Pair::new();
        pair.stuck = true;
        pair.at(10).primary_is(false).at(17);
        assert_eq!(pair.moves, ["10s>standby failed"]);
        pair.at(18);
        pair.stuck = false;
        pair.at(26);
        assert_eq!(pair.moves[1..], ["18s>standby failed", "26s>standby"]);
    }

    #[test]
    fn subn_8_an_order_that_cannot_be_obeyed_says_why() {
        let mut pair = Pair::new();
        pair.at(10).primary_is(false).links(false, true);
        assert_eq!(pair.enable(), Err(NotEnabled::NoLink("eth0".into())));
        pair.links(true, true);
        assert_eq!(pair.standby.enable(), Ok(Part::Primary));
        assert_eq!(pair.standby.enable(), Err(NotEnabled::Moving));
        assert_eq!(pair.standby.turn(at(1000), POLLS), None, "one move at a time");
    }

    #[test]
    fn subn_8_what_somebody_else_has_moved_is_where_it_is() {
        let interfaces = || Interfaces { primary: "eth0".into(), standby: "eth1".into() };
        let both =
            Seen { primary_link: true, standby_link: true, on_primary: true, on_standby: true };
        let on_standby = Seen { on_primary: false, ..both };
        let found = Standby::found(interfaces(), on_standby, at(0));
        assert!(found.is_disabled(), "an operator is to say when it goes back");
        assert_eq!(Standby::found(interfaces(), both, at(0)).place(), Place::Primary);

        let mut pair = Pair::new();
        pair.at(10).primary_is(false);
        let on_primary = Seen { on_standby: false, ..both };
        pair.standby.see(on_primary, at(10));
        pair.at(17);
        assert!(pair.standby.is_disabled(), "that may have been said before the move");
        pair.at(18);
        assert_eq!(pair.standby.place(), Place::Primary);
        assert_eq!(pair.moves.len(), 1);
    }

    /// What can happen to a pair.
    #[derive(Clone, Debug)]
    enum Step {
        Wait(u64),
        Links(bool, bool),
        Primary(bool),
        Enable,
        Stuck(bool),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..20_u64).prop_map(Step::Wait),
            any::<(bool, bool)>().prop_map(|(primary, standby)| Step::Links(primary, standby)),
            any::<bool>().prop_map(Step::Primary),
            Just(Step::Enable),
            any::<bool>().prop_map(Step::Stuck),
        ]
    }

    proptest! {
        /// SUBN-8: whatever happens, nothing that nobody ordered moves twice within four polls, and a
        /// primary that failed at the IP level only gets its addresses back by order alone.
        #[test]
        fn subn_8_no_coming_and_going(steps in proptest::collection::vec(step(), 0..60)) {
            let mut pair = Pair::new();
            let (mut last, mut told) = (None::<u64>, 0);
            for step in steps {
                let disabled = pair.standby.is_disabled();
                let ordered = matches!(step, Step::Enable);
                match step {
                    Step::Wait(secs) => { pair.at(pair.now + secs); }
                    Step::Links(primary, standby) => { pair.links(primary, standby); }
                    Step::Primary(up) => { pair.primary_is(up); }
                    Step::Enable => { let _ = pair.enable(); }
                    Step::Stuck(stuck) => pair.stuck = stuck,
                }
                for moved in &pair.moves[told..] {
                    let (secs, to) = moved.split_once("s>").unwrap();
                    let secs: u64 = secs.parse().unwrap();
                    prop_assert!(ordered || last.is_none_or(|last| secs - last >= 8), "{:?}", pair.moves);
                    prop_assert!(ordered || !disabled || !to.starts_with("primary"), "{:?}", pair.moves);
                    last = Some(secs);
                }
                told = pair.moves.len();
            }
        }
    }
}
