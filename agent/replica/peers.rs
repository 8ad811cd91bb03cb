//! Where the peers stand that are not plainly up: on the primary as its monitor tells it, on the standby
//! as the primary told it (PAIR-11). It is in memory alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::{Duration, Instant},
};

use evenkeel_core::peers::{Standing, StandingChange};

use super::wire;

/// How many peers are said in one operation: some 200 kB.
const TOGETHER: usize = 8_192;

/// What a primary has counted is of use for so long after its last word: longer than it takes to find
/// out that it is gone, and shorter than it takes a peer to come and go unseen.
const FRESH: Duration = Duration::from_secs(10);

/// What is known of them.
#[derive(Debug, Default)]
pub struct Peers {
    standings: BTreeMap<IpAddr, Standing>,
    /// On the primary: of whom the standby is to hear.
    unsaid: BTreeSet<IpAddr>,
    /// On the standby: when the primary spoke last.
    heard: Option<Instant>,
}

impl Peers {
    /// A primary: its monitor tells this. One that begins anew tells nothing first: what the one before it
    /// had counted is over.
    pub fn changed(&mut self, changes: Vec<StandingChange>) {
        if changes.is_empty() {
            self.unsaid.extend(std::mem::take(&mut self.standings).into_keys());
        }
        self.unsaid.extend(changes.iter().map(|(address, _)| *address));
        self.take_in(changes);
    }

    /// A primary: some of what its standby has not heard; nothing if it has heard all.
    pub fn say(&mut self) -> Option<wire::Peers> {
        let mut changes = Vec::new();
        while changes.len() < TOGETHER
            && let Some(address) = self.unsaid.pop_first()
        {
            changes.push((address, self.standings.get(&address).copied()));
        }
        (!changes.is_empty()).then_some(wire::Peers { anew: false, changes })
    }

    /// A primary: all, for a standby that knows nothing.
    pub fn say_all(&mut self) -> Vec<wire::Peers> {
        self.unsaid.clear();
        let all: Vec<StandingChange> =
            self.standings.iter().map(|(address, standing)| (*address, Some(*standing))).collect();
        // Even if there is nobody: that is known then.
        let mut said = vec![wire::Peers { anew: true, changes: Vec::new() }];
        let some =
            |changes: &[StandingChange]| wire::Peers { anew: false, changes: changes.to_vec() };
        said.extend(all.chunks(TOGETHER).map(some));
        said
    }

    /// A standby: the primary says this.
    pub fn hear(&mut self, said: wire::Peers) {
        if said.anew {
            self.standings.clear();
        }
        self.take_in(said.changes);
    }

    /// How many are known.
    pub fn known(&self) -> usize {
        self.standings.len()
    }

    /// A standby: the primary has told, up to now, whatever there was.
    pub const fn is_alive(&mut self, now: Instant) {
        self.heard = Some(now);
    }

    /// This agent is no standby any more, or no primary: gives back what was known, as far as it holds.
    pub fn take(&mut self, now: Instant) -> BTreeMap<IpAddr, Standing> {
        let Peers { mut standings, heard, .. } = std::mem::take(self);
        if heard.is_none_or(|heard| now.saturating_duration_since(heard) > FRESH) {
            standings.values_mut().for_each(|standing| *standing = standing.aged());
            standings.retain(|_, standing| !standing.is_plain());
        }
        standings
    }

    fn take_in(&mut self, changes: Vec<StandingChange>) {
        for (address, standing) in changes {
            match standing {
                Some(standing) => drop(self.standings.insert(address, standing)),
                None => drop(self.standings.remove(&address)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use evenkeel_core::peers::Count;

    use super::*;

    fn address(number: u32) -> IpAddr {
        std::net::Ipv4Addr::from_bits(0x0a00_0000 + number).into()
    }

    fn unanswered(tries: u8) -> Standing {
        Standing { count: Count::Unanswered(tries), restart_counter: None }
    }

    #[test]
    fn pair_11_a_standby_knows_of_the_peers_what_the_primary_knows() {
        let (mut primary, mut standby) = (Peers::default(), Peers::default());
        let now = Instant::now();
        standby.hear(wire::Peers { anew: false, changes: vec![(address(9), Some(unanswered(1)))] });
        primary.changed((0..20_000).map(|n| (address(n), Some(unanswered(1)))).collect());
        let said = primary.say_all();
        assert_eq!(said.len(), 4, "20,000 are said in three, behind the word that it begins anew");
        said.into_iter().for_each(|said| standby.hear(said));
        assert_eq!(primary.say(), None);
        // What changes twice before it is said is said once.
        primary.changed(vec![(address(1), Some(unanswered(2))), (address(2), None)]);
        primary.changed(vec![(address(1), None), (address(3), Some(unanswered(2)))]);
        let said = primary.say().expect("there is something");
        assert_eq!(
            said.changes,
            [(address(1), None), (address(2), None), (address(3), Some(unanswered(2)))]
        );
        standby.hear(said);
        // Its monitor begins anew, and finds one of them silent again.
        let mut anew = Peers { standings: standby.standings.clone(), ..Peers::default() };
        anew.changed(Vec::new());
        anew.changed(vec![(address(3), Some(unanswered(1)))]);
        let mut other = Peers { standings: standby.standings.clone(), ..Peers::default() };
        while let Some(said) = anew.say() {
            other.hear(said);
        }
        assert_eq!(other.standings, BTreeMap::from([(address(3), unanswered(1))]));
        standby.is_alive(now);
        assert_eq!(standby.standings, primary.standings);
        assert_eq!(standby.take(now + FRESH).len(), 19_998);
        assert!(standby.take(now).is_empty(), "it is taken once");
    }

    #[test]
    fn what_was_counted_long_ago_says_nothing_any_more() {
        let mut standby = Peers::default();
        let now = Instant::now();
        let restart = Standing { restart_counter: Some(7), ..Standing::default() };
        let both = Standing { restart_counter: Some(8), ..unanswered(2) };
        standby.hear(wire::Peers {
            anew: true,
            changes: vec![
                (address(1), Some(unanswered(2))),
                (address(2), Some(restart)),
                (address(3), Some(both)),
            ],
        });
        standby.is_alive(now);
        let aged = Standing { restart_counter: Some(8), ..Standing::default() };
        assert_eq!(
            standby.take(now + FRESH + Duration::from_millis(1)),
            BTreeMap::from([(address(2), restart), (address(3), aged)])
        );
    }
}
