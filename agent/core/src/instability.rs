//! Link traps and restart traps in, instability found: the rules of `instability.md` put together.
//!
//! Small machines meet here and don't know each other: the copies of a trap
//! ([`copies`](crate::copies)), the stability of an object ([`stability`](crate::stability)), the links
//! that join two interfaces ([`links`](crate::links)), and whether an interface is down, which is one
//! flag. What they say together is returned as [`Finding`]s, in the order in which it happened.
//!
//! | an interface is | it is unstable | it is down |
//! |---|---|---|
//! | no end of a link | `interface_unstable` | `interface_down`, while it is not unstable (INST-13) |
//! | an end of a link | `link_unstable`, of both ends (INST-14) | `interface_down`, while neither end is unstable |
//!
//! So an end that is stable is not told as down either while the other end is unstable: a linkDown of
//! the one is the other's flapping, seen from the far side, and the alarm of the link says more.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    net::IpAddr,
    time::Duration,
};

use smallvec::{SmallVec, smallvec};

use crate::{
    alarm::{Alarm, ClearReason, Episode, Kind, Link, Object, System},
    copies::{Mark, Recent},
    finding::Finding,
    groups::GroupIndex,
    links::{End, Links, Share},
    objects::{Entry, Objects, Slot},
    settings::{Analysis, Instability as Settings, ObjectState, Topology},
    stability::{Stability, Unstable},
    state::{LinkShare, Memory, Phase, Record, RecordKey},
    text,
    time::Time,
    trap::{Trap, TrapEvent},
};

/// What became of a trap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// It was counted.
    Counted,
    /// It is a linkUp of a system that sends linkDown, or of a group whose analysis is off.
    NotCounted,
    /// It is a copy of one that was taken in already (INST-9).
    Copy,
    /// It tells nothing that a rule judges.
    Other,
    /// A link trap without an ifIndex (INST-18).
    NoIfIndex,
    /// The table is full of unstable objects (INST-16).
    TableFull,
    /// An inform that was sent again (TRAP-5): it is answered again, and nothing else.
    Repeat,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Outcome; 7] = [
        Outcome::Counted,
        Outcome::NotCounted,
        Outcome::Copy,
        Outcome::Other,
        Outcome::NoIfIndex,
        Outcome::TableFull,
        Outcome::Repeat,
    ];

    /// The name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Outcome::Counted => "counted",
            Outcome::NotCounted => "not_counted",
            Outcome::Copy => "copy",
            Outcome::Other => "other",
            Outcome::NoIfIndex => "no_if_index",
            Outcome::TableFull => "table_full",
            Outcome::Repeat => "repeat",
        }
    }
}

/// What became of a trap, and of what object it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judged {
    /// What became of it.
    pub outcome: Outcome,
    /// The object that it was held against, if it was held against one.
    pub object: Option<Slot>,
    /// That object was unstable before it came.
    pub unstable_before: bool,
}

impl Judged {
    const fn of_nothing(outcome: Outcome) -> Judged {
        Judged { outcome, object: None, unstable_before: false }
    }
}

/// What a rule of forwarding may ask of the object that a trap is about (TRAP-8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The object, if it is in memory.
    pub object: Option<Slot>,
    /// Its group.
    pub group: GroupIndex,
    /// Its state, once the trap has been judged.
    pub state: ObjectState,
    /// It was unstable before the trap came.
    pub unstable_before: bool,
}

/// An episode under way, as others see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EpisodeView<'a> {
    /// The unstable object.
    pub object: Object,
    /// What the device calls the interface.
    pub if_name: Option<&'a str>,
    /// The link that it is an end of, whose alarm tells of it.
    pub link: Option<Link>,
    /// When *first* was received.
    pub first: Time,
    /// When *last* was received.
    pub last: Time,
    /// When it will be stable if nothing more comes.
    pub ends: Time,
    /// The numbers.
    pub episode: Episode,
}

/// An object that counts towards an episode, as others see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CountingView<'a> {
    /// The object.
    pub object: Object,
    /// What the device calls the interface.
    pub if_name: Option<&'a str>,
    /// When its latest counted trap was received.
    pub last: Time,
}

/// The analysis.
#[derive(Debug)]
pub struct Instability {
    settings: Settings,
    objects: Objects,
    links: Links,
    seed: u64,
    /// Deadlines of episodes, with the place and its episode number. They are too early when
    /// traps have come since, never too late, so a trap while unstable costs nothing here.
    deadlines: BinaryHeap<Reverse<(Time, Slot, u32)>>,
    /// Until the first input that is new: how long nobody listened before this run, and how much longer
    /// each unstable object that was put back waits for its end because of that.
    deaf: Duration,
    waits: BTreeMap<Slot, Duration>,
    /// What was put back is what the mate has taken in.
    of_mate: bool,
    gave_way: u64,
    unstable: u64,
}

impl Instability {
    /// An analysis that knows no object.
    pub fn new(settings: Settings, seed: u64) -> Instability {
        let mut objects = Objects::new(settings.max_objects, seed);
        objects.regroup(settings.groups.len());
        Instability {
            links: Links::new(&settings.topology, seed),
            settings,
            objects,
            seed,
            deadlines: BinaryHeap::new(),
            deaf: Duration::ZERO,
            waits: BTreeMap::new(),
            of_mate: false,
            gave_way: 0,
            unstable: 0,
        }
    }

    /// How many systems and interfaces are in memory.
    pub fn objects(&self) -> usize {
        self.objects.len()
    }

    /// How many links are in force.
    pub fn links(&self) -> usize {
        self.links.len()
    }

    /// How many systems and interfaces are unstable.
    pub const fn unstable(&self) -> u64 {
        self.unstable
    }

    /// How many changes wait to be taken, at most.
    pub fn changes_waiting(&self) -> usize {
        self.objects.changes_waiting()
    }

    /// Every unstable object, in no order that means anything.
    pub fn episodes(&self) -> impl Iterator<Item = EpisodeView<'_>> {
        self.objects.slots().filter_map(|slot| {
            let entry = self.objects.get(slot);
            let Stability::Unstable(unstable) = entry.stability else { return None };
            let analysis = self.settings.analysis(entry.group, entry.is_interface())?;
            Some(EpisodeView {
                object: entry.object(),
                if_name: entry.if_name.as_deref(),
                link: self.end(entry).map(|end| self.links.link(end)),
                first: unstable.first,
                last: unstable.last,
                ends: unstable.deadline(analysis.window),
                episode: episode(&unstable, entry.suppressed, analysis),
            })
        })
    }

    /// Every object with counted traps in its trap window and too few of them to be unstable, in no
    /// order that means anything.
    pub fn counting(&self, now: Time) -> impl Iterator<Item = CountingView<'_>> {
        self.objects.slots().filter_map(move |slot| {
            let entry = self.objects.get(slot);
            let analysis = self.settings.analysis(entry.group, entry.is_interface())?;
            let last = entry.stability.counting_since(now, analysis.window)?;
            let if_name = entry.if_name.as_deref();
            Some(CountingView { object: entry.object(), if_name, last })
        })
    }

    /// How many gave way for others since the start (INST-16).
    pub const fn gave_way(&self) -> u64 {
        self.gave_way
    }

    /// The moment up to which [`expire`](Instability::expire) may have something to do. It may be
    /// too early, never too late.
    pub fn next_deadline(&self) -> Option<Time> {
        self.deadlines.peek().map(|Reverse((at, ..))| *at)
    }

    /// Takes in a trap that speaks for `system` and was received at `at`.
    pub fn trap(
        &mut self,
        trap: &Trap<'_>,
        system: IpAddr,
        at: Time,
        found: &mut Vec<Finding>,
    ) -> Judged {
        match trap.event {
            TrapEvent::Other => Judged::of_nothing(Outcome::Other),
            TrapEvent::ColdStart => self.restart_trap(1, trap, system, at, found),
            TrapEvent::WarmStart => self.restart_trap(2, trap, system, at, found),
            TrapEvent::LinkDown | TrapEvent::LinkUp => self.link_trap(trap, system, at, found),
        }
    }

    /// INST-1: a system is judged by its restart traps, counted together.
    fn restart_trap(
        &mut self,
        arc: u8,
        trap: &Trap<'_>,
        system: IpAddr,
        at: Time,
        found: &mut Vec<Finding>,
    ) -> Judged {
        let Some(slot) = self.system(system, 0, at, found) else {
            return Judged::of_nothing(Outcome::TableFull);
        };
        let unstable_before = self.is_unstable(slot, at);
        let outcome = if self.is_copy(slot, arc, trap, at) {
            Outcome::Copy
        } else {
            self.settle(slot, at, found);
            match self.settings.analysis(self.objects.get(slot).group, false) {
                Some(analysis) => self.count(slot, analysis, false, at, found),
                None => Outcome::NotCounted,
            }
        };
        Judged { outcome, object: Some(slot), unstable_before }
    }

    /// INST-1: an interface is judged by its link traps.
    fn link_trap(
        &mut self,
        trap: &Trap<'_>,
        address: IpAddr,
        at: Time,
        found: &mut Vec<Finding>,
    ) -> Judged {
        let Some(if_index) = trap.if_index else { return Judged::of_nothing(Outcome::NoIfIndex) };
        let link_up = trap.event == TrapEvent::LinkUp;
        let Some(system) = self.system(address, 1, at, found) else {
            return Judged::of_nothing(Outcome::TableFull);
        };
        let Some(slot) = self.interface(system, if_index, trap, at, found) else {
            return Judged::of_nothing(Outcome::TableFull);
        };
        if self.is_copy(slot, if link_up { 4 } else { 3 }, trap, at) {
            let unstable_before = self.is_unstable(slot, at);
            return Judged { outcome: Outcome::Copy, object: Some(slot), unstable_before };
        }
        // An episode that was over before this trap ends with what the interface was then.
        self.settle_ends(slot, at, found);
        let unstable_before = self.objects.get(slot).stability.is_unstable();
        self.describe(slot, trap);
        // INST-2: the first linkDown ends the counting of linkUps for good.
        if !link_up && !self.objects.get(system).sends_link_down {
            self.objects.change(system).sends_link_down = true;
        }
        let sends_link_down = self.objects.get(system).sends_link_down;
        let analysis = self.settings.analysis(self.objects.get(slot).group, true);
        let entry = self.objects.change(slot);
        entry.down = !link_up;
        if sends_link_down {
            entry.stability.forget_link_ups();
        }
        let outcome = match analysis {
            Some(analysis) if !link_up || !sends_link_down => {
                self.count(slot, analysis, link_up, at, found)
            }
            Some(_) | None => Outcome::NotCounted,
        };
        self.judge_down(slot, at, found);
        self.objects.settled(slot);
        Judged { outcome, object: Some(slot), unstable_before }
    }

    /// Whether an object is unstable at a moment up to which deadlines may not have been judged yet.
    fn is_unstable(&self, slot: Slot, at: Time) -> bool {
        let entry = self.objects.get(slot);
        let Stability::Unstable(unstable) = entry.stability else { return false };
        let analysis = self.settings.analysis(entry.group, entry.is_interface());
        analysis.is_some_and(|analysis| unstable.deadline(analysis.window) > at)
    }

    /// How the object stands that a trap is about, after the trap has been judged (TRAP-8).
    pub fn standing(&self, trap: &Trap<'_>, system: IpAddr, judged: Judged, at: Time) -> Standing {
        let link = matches!(trap.event, TrapEvent::LinkDown | TrapEvent::LinkUp);
        let (object, unstable_before) = match (judged.object, trap.if_index) {
            (Some(slot), _) => (Some(slot), judged.unstable_before),
            // There was no room for the interface.
            (None, Some(if_index)) if link => {
                let group = self.settings.group_of_interface(system, if_index, trap);
                let state = match trap.event {
                    TrapEvent::LinkDown => ObjectState::Down,
                    _ => ObjectState::Stable,
                };
                return Standing { object: None, group, state, unstable_before: false };
            }
            (None, _) => {
                let slot = self.objects.find_system(system);
                (slot, slot.is_some_and(|slot| self.is_unstable(slot, at)))
            }
        };
        let Some(slot) = object else {
            let group = self.settings.group_of_system(system);
            let state = ObjectState::Stable;
            return Standing { object: None, group, state, unstable_before: false };
        };
        let entry = self.objects.get(slot);
        let state = if self.is_unstable(slot, at) {
            ObjectState::Unstable
        } else if entry.is_interface() && entry.down {
            ObjectState::Down
        } else {
            ObjectState::Stable
        };
        Standing { object, group: entry.group, state, unstable_before }
    }

    /// Notes that a trap of an unstable object was not forwarded.
    pub fn suppressed(&mut self, slot: Slot) {
        let entry = self.objects.change(slot);
        entry.suppressed = entry.suppressed.saturating_add(1);
    }

    /// Notes the number in the spool of the trap that an object has just heeded.
    pub fn spooled(&mut self, slot: Slot, number: u64) {
        self.objects.get_mut(slot).spooled = number;
    }

    /// The object that a trap is about, if it is remembered.
    pub fn object_of(&self, trap: &Trap<'_>, system: IpAddr) -> Option<Slot> {
        let if_index = match trap.event {
            TrapEvent::Other | TrapEvent::ColdStart | TrapEvent::WarmStart => 0,
            TrapEvent::LinkDown | TrapEvent::LinkUp => trap.if_index.unwrap_or(0),
        };
        self.objects.find(RecordKey { system: System(system), if_index })
    }

    /// Takes in a trap of the spool that an earlier run took in (TRAP-5), after
    /// [`restore`](Instability::restore) and before any other input. Nothing comes of it if the object
    /// has heeded it already.
    pub fn replay(
        &mut self,
        trap: &Trap<'_>,
        system: IpAddr,
        number: u64,
        at: Time,
        found: &mut Vec<Finding>,
    ) -> Option<Judged> {
        if let Some(slot) = self.object_of(trap, system) {
            if self.objects.get(slot).spooled >= number {
                // The record of its system may be older than that of the interface.
                let system = self.objects.get(slot).system;
                if trap.event == TrapEvent::LinkDown && !self.objects.get(system).sends_link_down {
                    self.objects.change(system).sends_link_down = true;
                }
                return None;
            }
            // This trap came before the time in which nobody listened.
            let waits = self.waits.get(&slot).copied().unwrap_or_default();
            if let Stability::Unstable(unstable) = &mut self.objects.get_mut(slot).stability {
                unstable.deaf = unstable.deaf.saturating_sub(waits);
                self.waits.insert(slot, Duration::ZERO);
            }
        }
        let judged = self.trap(trap, system, at, found);
        if let Some(slot) = judged.object {
            if self.of_mate && judged.outcome != Outcome::Copy {
                self.objects.get_mut(slot).recent.give_last_to_mate();
            }
            self.waits.remove(&slot);
            if let Stability::Unstable(unstable) = &mut self.objects.get_mut(slot).stability {
                unstable.deaf = unstable.deaf.saturating_add(self.deaf);
                self.waits.insert(slot, self.deaf);
            }
        }
        Some(judged)
    }

    /// INST-13: whether `interface_down` is raised or cleared by what the interface now is.
    fn judge_down(&mut self, slot: Slot, at: Time, found: &mut Vec<Finding>) {
        let entry = self.objects.get(slot);
        if !entry.is_interface() {
            return;
        }
        let link_unstable = self.end(entry).is_some_and(|end| self.links.is_unstable(end));
        let (raise, reason) = if link_unstable || entry.stability.is_unstable() {
            (false, ClearReason::Superseded)
        } else if !self.settings.group(entry.group).interface_down {
            (false, ClearReason::TurnedOff)
        } else {
            (entry.down, ClearReason::Ended)
        };
        if raise == entry.down_raised {
            return;
        }
        let detail = link_unstable.then(|| ITS_LINK.to_owned());
        let down = finding(entry, Kind::InterfaceDown, (!raise).then_some(reason), None, at);
        found.push(Finding { detail, ..down });
        self.objects.change(slot).down_raised = raise;
    }

    /// The same for both ends of a link, which has become unstable or stable.
    fn judge_ends(&mut self, end: End, at: Time, found: &mut Vec<Finding>) {
        for interface in self.links.link(end).ends() {
            let Some(slot) = self.objects.find(interface.into()) else { continue };
            // Whatever it has added to the alarm of the link is told, and kept no longer.
            self.objects.change(slot);
            self.judge_down(slot, at, found);
            self.objects.settled(slot);
        }
    }

    /// Counts a trap of an object whose episodes that were over have ended. What the trap makes of it is
    /// told after `interface_down` has given way to it.
    fn count(
        &mut self,
        slot: Slot,
        analysis: Analysis,
        link_up: bool,
        at: Time,
        found: &mut Vec<Finding>,
    ) -> Outcome {
        let entry = self.objects.change(slot);
        // A trap ends the wait that a restart made longer: the deadline that was noted for it may
        // be later than the new one. Any other is earlier, and noted again when its time comes.
        let waits_longer =
            matches!(entry.stability, Stability::Unstable(before) if !before.deaf.is_zero());
        let begun = entry.stability.trap(at, link_up, analysis);
        if begun.is_some() || waits_longer {
            // A new number makes what was noted before void.
            entry.episode = entry.episode.wrapping_add(1);
            if let Stability::Unstable(unstable) = entry.stability {
                let deadline = unstable.deadline(analysis.window);
                self.deadlines.push(Reverse((deadline, slot, entry.episode)));
            }
        }
        if let Some(unstable) = begun {
            self.unstable += 1;
            self.objects.get_mut(slot).suppressed = 0;
            self.tell_begun(slot, episode(&unstable, 0, analysis), at, found);
        }
        self.objects.counted(slot, at);
        Outcome::Counted
    }

    /// Tells of an episode that has begun. INST-14: an end of a link raises nothing of its own, and the
    /// link is unstable already if its other end is.
    fn tell_begun(&mut self, slot: Slot, episode: Episode, at: Time, found: &mut Vec<Finding>) {
        let Some(end) = self.end(self.objects.get(slot)) else {
            self.judge_down(slot, at, found);
            let entry = self.objects.get(slot);
            found.push(finding(entry, unstable_kind(entry), None, Some(episode), at));
            return;
        };
        if self.links.begin(end) {
            self.judge_ends(end, at, found);
            found.push(self.link_begun(end, episode, at));
        }
    }

    /// Ends the episode of one object if it is over at `up_to`.
    fn settle(&mut self, slot: Slot, up_to: Time, found: &mut Vec<Finding>) {
        let entry = self.objects.get(slot);
        if !entry.stability.is_unstable() {
            return;
        }
        let analysis = self.settings.analysis(entry.group, entry.is_interface());
        let Some(analysis) = analysis else { return };
        let entry = self.objects.get_mut(slot);
        let Some((unstable, end)) = entry.stability.expire(up_to, analysis.window) else { return };
        self.unstable -= 1;
        let entry = self.objects.change(slot);
        let numbers = share(&unstable, std::mem::take(&mut entry.suppressed));
        let ended = Some(ClearReason::Ended);
        match end_of(&self.links, entry) {
            None => {
                let kind = unstable_kind(entry);
                let episode = over(numbers, &unstable, analysis);
                found.push(finding(entry, kind, ended, Some(episode), end));
                // INST-13: it is stable again, and its last link trap was linkDown.
                self.judge_down(slot, end, found);
            }
            // INST-14: it is cleared when both are stable.
            Some(place) => {
                if let Some(all) = self.links.finish(place, numbers) {
                    let (kind, link) = self.link_alarm(place);
                    let episode = over(all, &unstable, analysis);
                    found.push(self.finding_of(kind, link, ended, Some(episode), end));
                    self.judge_ends(place, end, found);
                }
            }
        }
        self.objects.settled(slot);
    }

    /// The same for an interface and, if it is an end of a link, for the interface at the other end:
    /// both tell of one alarm, so what was over first is told first.
    fn settle_ends(&mut self, slot: Slot, up_to: Time, found: &mut Vec<Finding>) {
        let Some(end) = self.end(self.objects.get(slot)) else {
            return self.settle(slot, up_to, found);
        };
        if !self.links.is_unstable(end) {
            return;
        }
        let other = self.objects.find(self.links.other(end).into());
        let mut ends: SmallVec<[Slot; 2]> = other.into_iter().chain([slot]).collect();
        ends.sort_by_key(|&slot| (self.deadline(slot), slot));
        ends.into_iter().for_each(|slot| self.settle(slot, up_to, found));
    }

    /// When an object is stable again, if it is unstable.
    fn deadline(&self, slot: Slot) -> Option<Time> {
        let entry = self.objects.get(slot);
        let Stability::Unstable(unstable) = entry.stability else { return None };
        let analysis = self.settings.analysis(entry.group, entry.is_interface())?;
        Some(unstable.deadline(analysis.window))
    }

    /// Ends every episode whose stable time has gone by at `up_to` (INST-6), in the order of their ends.
    /// All traps received before `up_to` must have been handed in.
    pub fn expire(&mut self, up_to: Time, found: &mut Vec<Finding>) {
        // What comes from now on was not received by an earlier run.
        self.waits.clear();
        self.deaf = Duration::ZERO;
        while let Some(&Reverse((at, slot, episode))) = self.deadlines.peek() {
            if at > up_to {
                break;
            }
            self.deadlines.pop();
            if self.objects.get(slot).episode != episode {
                continue;
            }
            match self.deadline(slot) {
                None => {}
                // Traps have come since this deadline was noted.
                Some(later) if later > at => self.deadlines.push(Reverse((later, slot, episode))),
                Some(_) => self.settle(slot, up_to, found),
            }
        }
    }

    /// That a link has become unstable by one of its ends.
    fn link_begun(&self, end: End, episode: Episode, at: Time) -> Finding {
        let (kind, link) = self.link_alarm(end);
        let detail = Some(self.links.interface(end).to_string());
        let begun = self.finding_of(kind, link, None, Some(episode), at);
        Finding { detail, ..begun }
    }

    /// A finding about whatever alarms of instability may be about, whether it is in memory or not.
    fn finding_of(
        &self,
        kind: Kind,
        object: Object,
        cleared: Option<ClearReason>,
        episode: Option<Episode>,
        at: Time,
    ) -> Finding {
        let mut names = keys_of(&object).into_iter().map(|key| {
            let slot = self.objects.find(key)?;
            self.objects.get(slot).if_name.as_deref().map(str::to_owned)
        });
        let (if_name, other_if_name) = (names.next().flatten(), names.next().flatten());
        let (peer_group, detail) = (None, None);
        Finding {
            at,
            kind,
            object,
            cleared,
            episode,
            if_name,
            other_if_name,
            peer_group,
            detail,
            essence: 0,
        }
    }

    /// Puts new settings in force for traps received from `now` on (INST-15). An episode under
    /// way goes on with the new window; what is turned off is cleared (INST-11); what has become an end
    /// of a link, or is one no more, is told of as what it is now (INST-14).
    pub fn reload(&mut self, settings: Settings, now: Time, found: &mut Vec<Finding>) {
        let slots: Vec<Slot> = self.objects.slots().collect();
        let unstable = slots.iter().filter(|&&slot| self.objects.get(slot).stability.is_unstable());
        let raised = unstable.map(|&slot| self.alarm_of(slot)).collect();
        let links = Links::new(&settings.topology, self.seed);
        let links = std::mem::replace(&mut self.links, links);
        let before = std::mem::replace(&mut self.settings, settings);
        self.objects.set_max(self.settings.max_objects);
        for &slot in &slots {
            let entry = self.objects.get(slot);
            let group = self.group_after_reload(entry, before.group_name(entry.group));
            let is_end = self.links.end_of(entry.key).is_some();
            let entry = self.objects.get_mut(slot);
            entry.group = group;
            entry.is_end = is_end;
        }
        self.objects.regroup(self.settings.groups.len());
        let before = Before { raised, links, left_out: BTreeSet::new() };
        self.put_in_force(&slots, &before, now, found);
    }

    /// The end of a link that an object is, if it is one.
    fn end(&self, entry: &Entry) -> Option<End> {
        end_of(&self.links, entry)
    }

    /// The alarm that tells of an unstable object: its own, or that of its link (INST-14).
    fn alarm_of(&self, slot: Slot) -> (Kind, Object) {
        let entry = self.objects.get(slot);
        match self.end(entry) {
            None => (unstable_kind(entry), entry.object()),
            Some(end) => self.link_alarm(end),
        }
    }

    fn link_alarm(&self, end: End) -> (Kind, Object) {
        (Kind::LinkUnstable, Object::Link(self.links.link(end)))
    }

    /// Holds every object to the settings of its group, and the alarms to what is unstable by that.
    fn put_in_force(
        &mut self,
        slots: &[Slot],
        before: &Before,
        now: Time,
        found: &mut Vec<Finding>,
    ) {
        self.deadlines.clear();
        // The alarms that there must be, each with an object that is unstable.
        let mut wanted: BTreeMap<(Kind, Object), Slot> = BTreeMap::new();
        let mut turned_off: BTreeMap<RecordKey, Share> = BTreeMap::new();
        for &slot in slots {
            let entry = self.objects.get_mut(slot);
            let (interface, number) = (entry.is_interface(), entry.episode);
            let end = end_of(&self.links, entry);
            match (self.settings.analysis(entry.group, interface), &mut entry.stability) {
                (Some(analysis), Stability::Unstable(unstable)) => {
                    // A shorter window may end it at once, but not before now.
                    unstable.wait_until(now, analysis.window);
                    let deadline = unstable.deadline(analysis.window);
                    self.deadlines.push(Reverse((deadline, slot, number)));
                    if let Some(end) = end {
                        self.links.begin(end);
                    }
                    wanted.entry(self.alarm_of(slot)).or_insert(slot);
                }
                (Some(_), Stability::Idle | Stability::Counting(_)) => {}
                (None, stability) => {
                    if let Some(unstable) = stability.turn_off() {
                        self.unstable -= 1;
                        let entry = self.objects.change(slot);
                        let suppressed = std::mem::take(&mut entry.suppressed);
                        turned_off.insert(entry.key, share(&unstable, suppressed));
                    }
                }
            }
        }
        self.links.take_over(&before.links);
        for (&key, &share) in &turned_off {
            // The alarm of the link goes on for the other end, and its clear will tell this.
            if let Some(end) = self.links.end_of(key)
                && self.links.is_unstable(end)
                && before.raised.contains(&self.link_alarm(end))
            {
                self.links.add(end, share);
            }
        }
        for (kind, object) in before.raised.iter().filter(|alarm| !wanted.contains_key(alarm)) {
            found.push(self.no_more(*kind, object, before, &turned_off, now));
        }
        for &slot in slots {
            self.judge_down(slot, now, found);
            self.objects.settled(slot);
        }
        for (_, slot) in wanted.into_iter().filter(|(alarm, _)| !before.raised.contains(alarm)) {
            found.extend(self.now_raised(slot, now));
        }
    }

    /// The clear of an alarm that there must no longer be, with what its episodes came to. Should another
    /// alarm tell of the rest, what was held back so far is told here, and not again.
    fn no_more(
        &mut self,
        kind: Kind,
        object: &Object,
        before: &Before,
        turned_off: &BTreeMap<RecordKey, Share>,
        now: Time,
    ) -> Finding {
        let keys = keys_of(object);
        let mut all = None;
        let mut goes_on = false;
        for &key in &keys {
            let past = before.links.end_of(key).and_then(|end| before.links.share(end));
            let current = self.objects.find(key).and_then(|slot| {
                let entry = self.objects.change(slot);
                let Stability::Unstable(unstable) = entry.stability else { return None };
                goes_on = true;
                Some(share(&unstable, std::mem::take(&mut entry.suppressed)))
            });
            for part in [past, current, turned_off.get(&key).copied()] {
                all = Share::sum(all, part);
            }
        }
        let reason = if self.is_no_link(object) {
            ClearReason::Removed
        } else if keys.iter().any(|key| before.left_out.contains(key)) {
            ClearReason::GaveWay
        } else if goes_on {
            // It is an end of a link now.
            ClearReason::Superseded
        } else {
            ClearReason::TurnedOff
        };
        // No quiet has ended it, and no window holds for it any more.
        let episode = all.map(|all| Episode {
            traps: all.traps,
            window: Duration::ZERO,
            threshold: 0,
            unstable_time: all.last.since(all.first),
            stable_time: Duration::ZERO,
            suppressed: all.suppressed,
        });
        let detail = goes_on.then(|| ITS_LINK.to_owned());
        let clear = self.finding_of(kind, object.clone(), Some(reason), episode, now);
        Finding { detail, ..clear }
    }

    /// Whether it is a link that the topology does not have.
    fn is_no_link(&self, object: &Object) -> bool {
        matches!(object, Object::Link(link) if !self.links.contains(*link))
    }

    /// The raise of the alarm that tells of an unstable object, which another one told of before.
    fn now_raised(&self, slot: Slot, now: Time) -> Option<Finding> {
        let entry = self.objects.get(slot);
        let Stability::Unstable(unstable) = &entry.stability else { return None };
        let analysis = self.settings.analysis(entry.group, entry.is_interface())?;
        let numbers = episode(unstable, 0, analysis);
        Some(match self.end(entry) {
            None => finding(entry, unstable_kind(entry), None, Some(numbers), now),
            Some(end) => self.link_begun(end, numbers, now),
        })
    }

    fn group_after_reload(&self, entry: &Entry, name: Option<&str>) -> GroupIndex {
        let RecordKey { system, if_index } = entry.key;
        match if_index {
            0 => self.settings.group_of_system(system.0),
            if_index => self.settings.group_of_known_interface(system.0, if_index, name),
        }
    }

    fn is_copy(&mut self, slot: Slot, arc: u8, trap: &Trap<'_>, at: Time) -> bool {
        let mark = Mark { trap: arc, request_id: trap.request_id, uptime: trap.uptime };
        self.objects.get_mut(slot).recent.is_copy(mark, at)
    }

    /// The system, made if it is new; with `more` places beside it free.
    fn system(
        &mut self,
        address: IpAddr,
        more: usize,
        now: Time,
        found: &mut Vec<Finding>,
    ) -> Option<Slot> {
        if let Some(slot) = self.objects.find_system(address) {
            return Some(slot);
        }
        self.make_room(1 + more, None, now, found)?;
        let group = self.settings.group_of_system(address);
        Some(self.objects.add_system(address, group, now))
    }

    fn interface(
        &mut self,
        system: Slot,
        if_index: u32,
        trap: &Trap<'_>,
        now: Time,
        found: &mut Vec<Finding>,
    ) -> Option<Slot> {
        if let Some(slot) = self.objects.find_interface(system, if_index) {
            return Some(slot);
        }
        self.make_room(1, Some(system), now, found)?;
        let address = self.objects.get(system).key.system.0;
        let group = self.settings.group_of_interface(address, if_index, trap);
        let slot = self.objects.add_interface(system, if_index, group, now);
        let is_end = self.links.end_of(RecordKey { system: System(address), if_index }).is_some();
        self.objects.get_mut(slot).is_end = is_end;
        Some(slot)
    }

    fn make_room(
        &mut self,
        wanted: usize,
        keep: Option<Slot>,
        now: Time,
        found: &mut Vec<Finding>,
    ) -> Option<()> {
        let settings = &self.settings;
        let window = |entry: &Entry| {
            settings.analysis(entry.group, entry.is_interface()).map(|analysis| analysis.window)
        };
        let (gone, room) = self.objects.make_room(wanted, keep, now, window);
        self.gave_way += gone.len() as u64;
        for entry in gone.iter().filter(|entry| entry.down_raised) {
            let reason = Some(ClearReason::GaveWay);
            found.push(finding(entry, Kind::InterfaceDown, reason, None, now));
        }
        room.ok()
    }

    /// Notes what the trap tells of the interface: its group, and its name.
    fn describe(&mut self, slot: Slot, trap: &Trap<'_>) {
        if !trap.describes_interface() {
            return;
        }
        let entry = self.objects.get(slot);
        let group = self.settings.group_of_interface(entry.key.system.0, entry.key.if_index, trap);
        // An episode keeps its group, so that its window and its lists stay as they were.
        if group != entry.group && !entry.stability.is_unstable() {
            let entry = self.objects.change(slot);
            entry.group = group;
            if self.settings.analysis(group, true).is_none() {
                self.objects.get_mut(slot).stability.turn_off();
            }
        }
        if let Some(name) = trap.if_name.or(trap.if_descr) {
            let entry = self.objects.get(slot);
            if entry.if_name.as_deref().map(str::as_bytes) != Some(name) {
                let name = text::printable(name);
                if entry.if_name.as_deref() != Some(&name) {
                    self.objects.change(slot).if_name = Some(name.into());
                }
            }
        }
    }

    /// A copy of the whole memory.
    pub fn export(&self, now: Time) -> Vec<Record> {
        self.objects.slots().map(|slot| self.record(slot, now)).collect()
    }

    /// The keys that are gone and up to `most` records that changed since the last call.
    pub fn take_changes(&mut self, most: usize, now: Time) -> (Vec<Record>, Vec<RecordKey>) {
        let (slots, removed) = self.objects.take_changes(most);
        (slots.into_iter().map(|slot| self.record(slot, now)).collect(), removed)
    }

    /// The records of the objects that an alarm's object is, or joins, as far as they are in memory.
    pub fn records_of(&mut self, object: &Object, now: Time) -> SmallVec<[Record; 2]> {
        let slots = keys_of(object).into_iter().filter_map(|key| self.objects.find(key));
        let slots: SmallVec<[Slot; 2]> = slots.collect();
        slots.iter().for_each(|&slot| self.objects.keep(slot));
        slots.into_iter().map(|slot| self.record(slot, now)).collect()
    }

    fn record(&self, slot: Slot, now: Time) -> Record {
        let entry = self.objects.get(slot);
        let analysis = self.settings.analysis(entry.group, entry.is_interface());
        let forgotten = entry.is_interface()
            && self.objects.get(entry.system).sends_link_down
            && matches!(entry.stability.export(now, None), Phase::Counting { link_ups: true, .. });
        let phase = if forgotten {
            Phase::Idle
        } else {
            entry.stability.export(now, analysis.map(|analysis| analysis.window))
        };
        Record {
            key: entry.key,
            age: Duration::ZERO,
            memory: Memory {
                phase,
                recent: entry.recent.export(now),
                sends_link_down: entry.sends_link_down,
                down: entry.down,
                if_name: entry.if_name.as_deref().map(str::to_owned),
                group: self.settings.group_name(entry.group).map(str::to_owned),
                spooled: entry.spooled,
                suppressed: entry.suppressed.into(),
                link_share: self.end(entry).and_then(|end| self.links.share(end)).map(|share| {
                    LinkShare {
                        first: now.since(share.first),
                        last: now.since(share.last),
                        traps: share.traps,
                        suppressed: share.suppressed,
                    }
                }),
            },
        }
    }

    /// Puts copies back, and holds them to the settings in force. `raised` are the alarms that
    /// were active: they are neither raised again nor lost (spec, "Alarms").
    ///
    /// Returns how many records there was no room for.
    pub fn restore(
        &mut self,
        records: Vec<Record>,
        raised: &BTreeMap<(Kind, Object), Alarm>,
        deaf: Duration,
        now: Time,
        found: &mut Vec<Finding>,
    ) -> usize {
        let mut records: BTreeMap<RecordKey, Record> =
            records.into_iter().map(|record| (record.key, record)).collect();
        // An alarm whose record is missing, or older than the alarm, is taken for an episode that
        // began and ended just now: its full window is waited for. Of a link, both ends have had one.
        for (kind, object) in raised.keys() {
            if self.is_no_link(object) {
                continue;
            }
            let keys = keys_of(object);
            let is_unstable =
                |record: &Record| matches!(record.memory.phase, Phase::Unstable { .. });
            let known = keys.iter().any(|key| records.get(key).is_some_and(is_unstable));
            for key in keys {
                let record = records.entry(key).or_insert_with(|| {
                    let memory = Memory { down: *kind == Kind::InterfaceDown, ..Memory::default() };
                    Record { key, age: Duration::ZERO, memory }
                });
                if kind.is_instability() && !known {
                    let zero = Duration::ZERO;
                    record.age = zero;
                    record.memory.phase =
                        Phase::Unstable { first: zero, last: zero, traps: 0, deaf: zero };
                }
            }
        }
        let mut records: Vec<Record> = records.into_values().collect();
        // Those that matter most first, should there be less room than before.
        records.sort_by_key(|record| {
            let rank = match record.memory.phase {
                Phase::Unstable { .. } => 0,
                _ if record.memory.down => 1,
                Phase::Counting { .. } => 2,
                Phase::Idle => 3,
            };
            (rank, record.key)
        });
        let mut before = Before::of(raised, self.seed);
        let mut slots = Vec::new();
        for record in &records {
            if let Some(end) = before.links.end_of(record.key)
                && let Some(LinkShare { first, last, traps, suppressed }) = record.memory.link_share
            {
                let [first, last] = [first, last].map(|age| now - age.saturating_add(record.age));
                before.links.add(end, Share { first, last, traps, suppressed });
            }
            if let Some(slot) = self.put_back(record, deaf, now) {
                slots.push(slot);
                continue;
            }
            before.left_out.insert(record.key);
            // Nobody is left to clear what it had raised.
            let down = (Kind::InterfaceDown, record.key.object());
            if raised.contains_key(&down) {
                found.push(Finding::clear(down.0, down.1, ClearReason::GaveWay, now));
            }
        }
        for &slot in &slots {
            let down = (Kind::InterfaceDown, self.objects.get(slot).object());
            self.objects.get_mut(slot).down_raised = raised.contains_key(&down);
        }
        self.put_in_force(&slots, &before, now, found);
        self.deaf = deaf;
        let memory: BTreeMap<RecordKey, &Memory> =
            records.iter().map(|record| (record.key, &record.memory)).collect();
        for &slot in &slots {
            let entry = self.objects.get(slot);
            if let (
                Stability::Unstable(unstable),
                Some(Memory { phase: Phase::Unstable { deaf, .. }, .. }),
            ) = (&entry.stability, memory.get(&entry.key))
            {
                self.waits.insert(slot, unstable.deaf.saturating_sub(*deaf));
            }
        }
        // INST-16: they give way in the order in which they fell silent.
        self.objects.regroup(self.settings.groups.len());
        before.left_out.len()
    }

    /// Whatever was put back, and is replayed from now on, is what the mate has taken in: this agent may
    /// have been sent the same traps under other request-ids (INST-9, PAIR-12).
    pub fn give_to_mate(&mut self) {
        self.of_mate = true;
        let slots: Vec<Slot> = self.objects.slots().collect();
        for slot in slots {
            self.objects.get_mut(slot).recent.give_to_mate();
        }
    }

    fn put_back(&mut self, record: &Record, deaf: Duration, now: Time) -> Option<Slot> {
        let RecordKey { system: address, if_index } = record.key;
        // What was put back before matters more, and does not give way.
        let known = self.objects.find_system(address.0);
        let wanted = usize::from(known.is_none()) + usize::from(if_index != 0);
        if self.objects.len() + wanted > self.settings.max_objects as usize {
            return None;
        }
        let mut nothing = Vec::new();
        let system = self.system(address.0, usize::from(if_index != 0), now, &mut nothing)?;
        let slot = if if_index == 0 {
            system
        } else {
            self.interface(system, if_index, &Trap::NOTHING, now, &mut nothing)?
        };
        let memory = &record.memory;
        let name = memory.group.as_deref();
        let entry = self.objects.get(slot);
        let group = match if_index {
            0 => entry.group,
            if_index => self.settings.group_of_known_interface(address.0, if_index, name),
        };
        self.objects.keep(slot);
        let entry = self.objects.change(slot);
        entry.stability = Stability::restore(&memory.phase, record.age, deaf, now);
        entry.recent = Recent::restore(&memory.recent, record.age, now);
        entry.sends_link_down = memory.sends_link_down;
        entry.down = memory.down;
        entry.if_name = memory.if_name.as_deref().map(Into::into);
        entry.group = group;
        entry.spooled = memory.spooled;
        entry.suppressed = u32::try_from(memory.suppressed).unwrap_or(u32::MAX);
        if entry.stability.is_unstable() {
            entry.episode = entry.episode.wrapping_add(1);
            self.unstable += 1;
        }
        let silence = memory.latest_trap().unwrap_or(Duration::ZERO).saturating_add(record.age);
        self.objects.silent_since(slot, now - silence);
        Some(slot)
    }
}

/// The records of what an alarm is about: of a system, of an interface, or of both ends of a link.
fn keys_of(object: &Object) -> SmallVec<[RecordKey; 2]> {
    match *object {
        Object::System(system) => smallvec![RecordKey { system, if_index: 0 }],
        Object::Interface { system, if_index } => smallvec![RecordKey { system, if_index }],
        Object::Link(link) => link.ends().into_iter().map(RecordKey::from).collect(),
        Object::LocalInterface { .. }
        | Object::OwnInterface(_)
        | Object::Subnet(_)
        | Object::Peer(_)
        | Object::PeerMonitor
        | Object::NotificationTarget(_)
        | Object::Agent
        | Object::Mate
        | Object::MatePath(_)
        | Object::Pair
        | Object::Component(_) => smallvec![],
    }
}

/// The end of a link that an object is, if it is one.
fn end_of(links: &Links, entry: &Entry) -> Option<End> {
    if entry.is_end { links.end_of(entry.key) } else { None }
}

/// How alarms of instability stood before other settings, or another run, came into force.
struct Before {
    /// Those that were active.
    raised: BTreeSet<(Kind, Object)>,
    /// The links of those days, with what they kept.
    links: Links,
    /// The records that found no room.
    left_out: BTreeSet<RecordKey>,
}

impl Before {
    /// As an earlier run left them.
    fn of(raised: &BTreeMap<(Kind, Object), Alarm>, seed: u64) -> Before {
        let raised: BTreeSet<(Kind, Object)> =
            raised.keys().filter(|(kind, _)| kind.is_instability()).cloned().collect();
        let links = raised.iter().filter_map(|(_, object)| {
            if let Object::Link(link) = object { Some(*link) } else { None }
        });
        // Alarms of two links with one end are none of ours; what was kept for them is forgotten.
        let topology = Topology::new(links.collect()).unwrap_or_default();
        Before { raised, links: Links::new(&topology, seed), left_out: BTreeSet::new() }
    }
}

/// Why `interface_down` or `interface_unstable` gives way at an end of a link.
const ITS_LINK: &str = "its link is unstable";

const fn unstable_kind(entry: &Entry) -> Kind {
    if entry.is_interface() { Kind::InterfaceUnstable } else { Kind::SystemUnstable }
}

/// What an episode adds, of which so many traps were not forwarded.
fn share(unstable: &Unstable, suppressed: u32) -> Share {
    let Unstable { first, last, traps, .. } = *unstable;
    Share { first, last, traps, suppressed: suppressed.into() }
}

/// The numbers of episodes that are over, of which this one was over last.
fn over(all: Share, unstable: &Unstable, analysis: Analysis) -> Episode {
    Episode {
        traps: all.traps,
        unstable_time: all.last.since(all.first),
        suppressed: all.suppressed,
        ..episode(unstable, 0, analysis)
    }
}

/// The numbers of an episode under way.
fn episode(unstable: &Unstable, suppressed: u32, analysis: Analysis) -> Episode {
    Episode {
        traps: unstable.traps,
        window: analysis.window.length(),
        threshold: analysis.threshold.get(),
        unstable_time: unstable.unstable_time(),
        stable_time: unstable.stable_time(analysis.window),
        suppressed: suppressed.into(),
    }
}

fn finding(
    entry: &Entry,
    kind: Kind,
    cleared: Option<ClearReason>,
    episode: Option<Episode>,
    at: Time,
) -> Finding {
    let if_name = entry.if_name.as_deref().map(str::to_owned);
    let (object, other_if_name, peer_group, detail) = (entry.object(), None, None, None);
    Finding {
        at,
        kind,
        object,
        cleared,
        episode,
        if_name,
        other_if_name,
        peer_group,
        detail,
        essence: 0,
    }
}
