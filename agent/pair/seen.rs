//! What the pair's thread remembers of what has happened, for those who look. Nothing is decided by it.

use evenkeel_core::{
    pair::{Counters, paths::Channel, sync::Sync},
    time::Time,
};

use super::view::{Failures, Takeovers};

/// What is remembered.
pub struct Seen {
    /// The mate's name, once the state channel was up.
    pub mate_name: Option<String>,
    /// The state channel, as it told last.
    pub channel: Channel,
    /// Since when.
    pub channel_since: Time,
    /// When the last heartbeat came by it.
    pub channel_heard: Option<Time>,
    /// How often it went wrong.
    pub failures: Failures,
    /// Why the mate was refused last, until the channel is up.
    pub refused: Option<&'static str>,
    /// When the mate was heard by whatever way, or this agent started.
    pub mate_heard: Time,
    /// When all of the state was synchronised, the last time.
    pub synchronised: Option<Time>,
    /// Full copies of the state that have begun.
    pub copies: u64,
    /// Takeovers by this agent.
    pub takeovers: Takeovers,
    /// What the machine has counted.
    pub counters: Counters,
    /// Datagrams of another address than the mate's.
    pub strangers: u64,
    /// Genuine messages that can't be read, as of another version.
    pub unreadable: u64,
    /// This host has a network, as far as it is known.
    pub network_up: bool,
    /// Why nothing can be kept on the disk.
    pub not_kept: Option<String>,
    /// The problems that have been told.
    pub told_problems: Vec<String>,
    copying: bool,
}

impl Seen {
    /// Nothing yet.
    pub fn new(channel: Channel, now: Time) -> Seen {
        Seen {
            mate_name: None,
            channel,
            channel_since: now,
            channel_heard: None,
            failures: Failures::default(),
            refused: None,
            mate_heard: now,
            synchronised: None,
            copies: 0,
            takeovers: Takeovers::default(),
            counters: Counters::default(),
            strangers: 0,
            unreadable: 0,
            network_up: true,
            not_kept: None,
            told_problems: Vec::new(),
            copying: false,
        }
    }

    /// The state channel is so.
    pub fn set_channel(&mut self, channel: Channel, at: Time) {
        match (self.channel, channel) {
            (Channel::Down(_), Channel::Up) => {
                (self.channel_since, self.refused) = (at, None);
            }
            (Channel::Up, Channel::Down(wrong)) => {
                self.channel_since = at;
                self.failures.count(wrong);
            }
            (Channel::Down(_), Channel::Down(wrong)) => self.failures.count(wrong),
            (Channel::Up, Channel::Up) => {}
        }
        self.channel = channel;
    }

    /// Synchronisation is so far.
    pub fn sync(&mut self, sync: Sync, at: Time) {
        match sync {
            Sync::Copying { .. } => {
                self.copies += u64::from(!self.copying);
                self.copying = true;
            }
            Sync::InSync { age, .. } => {
                self.copying = false;
                // So old is what the standby has.
                self.synchronised = Some(at - age);
            }
        }
    }

    /// More was counted.
    pub const fn count(&mut self, more: Counters) {
        let all = &mut self.counters;
        all.sent += more.sent;
        all.heard += more.heard;
        all.late += more.late;
        all.repeated += more.repeated;
        all.old_run += more.old_run;
        all.own_slot += more.own_slot;
        all.no_path += more.no_path;
        all.stalls += more.stalls;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use evenkeel_core::pair::{paths::Wrong, record::Parts};

    use super::*;

    #[test]
    fn pair_8_each_way_in_which_the_channel_goes_wrong_is_counted() {
        let at = Time::from_secs;
        let mut seen = Seen::new(Channel::Down(Wrong::Connect), at(1));
        for (second, channel) in [
            (2, Channel::Down(Wrong::Connect)),
            (3, Channel::Up),
            (4, Channel::Down(Wrong::Write)),
            (5, Channel::Down(Wrong::Connect)),
        ] {
            seen.set_channel(channel, at(second));
        }
        let counted: Vec<_> = seen.failures.each().collect();
        assert_eq!(counted, [("connect", 2), ("read", 0), ("write", 1)]);
        assert_eq!(seen.channel_since, at(4), "down since then, whatever was tried");
    }

    #[test]
    fn pair_11_a_copy_counts_once_and_what_is_synchronised_has_an_age() {
        let at = Time::from_secs;
        let mut seen = Seen::new(Channel::Up, at(1));
        let copying = Sync::Copying { missing: Parts::ALL };
        let in_sync = |age| Sync::InSync { events: 0, age: Duration::from_secs(age) };
        for (second, sync) in
            [(2, copying), (3, copying), (4, in_sync(0)), (9, in_sync(2)), (10, copying)]
        {
            seen.sync(sync, at(second));
        }
        assert_eq!((seen.copies, seen.synchronised), (2, Some(at(7))));
    }
}
