//! What `evenkeel status peers` and `/api/v1/peers` tell: a summary, and the peers that a filter
//! names, the worst first.
//!
//! The JSON is versioned by `schema`: fields may be added, none changes its meaning. `README.md`
//! beside this file lists them.

use std::{cmp::Reverse, collections::BTreeMap, net::IpAddr, time::Duration};

use anstyle::Style;
use evenkeel_core::{
    peers::{
        Discard, GroupStats, Inconclusive, PeerState, PeerView, ROUND_TRIP_BUCKETS,
        roster::Labels,
        settings::{Group, Heartbeat},
    },
    time::{Pretty, WallTime},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    engine::{LATENESS_BUCKETS, SocketStats},
    filter::Filter,
    view::{Admission, FileView, PeersView},
};
use crate::{
    snapshot,
    status::{
        fields, milliseconds,
        screen::{Age, BAD, BOLD, DIM, GOOD, PLAIN, Screen, Text, WARN, mib},
        utc, whole_seconds,
    },
};

/// The document.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PeersStatus {
    /// The version of this document's form.
    pub schema: u32,
    /// When this was so, in UTC.
    pub at: String,
    /// All peers in sum.
    pub summary: PeersSummary,
    /// How many peers the filter names; the list below may hold fewer.
    pub matched: u64,
    /// The peers: those that are down first, then the silent ones; of one state those first that have
    /// been in it for the shortest time.
    pub peers: Vec<PeerStatus>,
}

/// All peers in sum.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PeersSummary {
    /// So many are silent at once that detection is slowed (PEER-9).
    pub mass_silence: bool,
    /// Peers that are tried again, or were found down within their last interval.
    pub silent_now: u64,
    /// The groups.
    pub groups: Vec<GroupStatus>,
    /// What came and was no answer to an outstanding request, by reason, where there was any.
    pub discarded: BTreeMap<String, u64>,
    /// Heartbeats that never left, as the agent stood still for more than their interval.
    pub skipped: u64,
    /// How often the peer monitor stood still.
    pub stalls: u64,
    /// Raises and clears that wait to be told.
    pub findings_waiting: u64,
    /// Batches that left.
    pub batches: u64,
    /// So late, in milliseconds, were 99 of 100 batches at most.
    pub batches_late_ms: Option<f64>,
    /// How late the latest of them was.
    pub batches_longest_late_ms: f64,
    /// Requests that the kernel did not take, by its error.
    pub send_errors: BTreeMap<String, u64>,
    /// The sockets.
    pub sockets: Vec<SocketStatus>,
    /// The files that name peers.
    pub files: Vec<FileStatus>,
    /// What keeps the monitor from doing all that it should, each in a sentence.
    pub problems: Vec<String>,
}

/// A group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GroupStatus {
    /// Its name.
    pub name: String,
    /// What is asked: `echo` or `pmipv6`.
    pub heartbeat: String,
    /// How often each peer is asked, in seconds.
    pub interval_seconds: f64,
    /// A new peer of it is admitted if fewer than this are, in all groups together.
    pub limit: u64,
    /// Peers that are monitored.
    pub admitted: u64,
    /// Peers that are known and not monitored.
    pub refused: u64,
    /// How many of the admitted peers stand where, by the name of the state.
    pub peers: BTreeMap<String, u64>,
    /// Periodic heartbeats sent.
    pub heartbeats: u64,
    /// Retransmissions sent.
    pub retransmissions: u64,
    /// Answers that counted.
    pub answers: u64,
    /// Requests that had no answer in time.
    pub unanswered: u64,
    /// The same where it says nothing of the peer, by reason, where there was any.
    pub inconclusive: BTreeMap<String, u64>,
    /// How often a peer was found down.
    pub no_answer: u64,
    /// How often a peer said that it had restarted.
    pub restarts: u64,
    /// How long the latest whole sweep took, in seconds.
    pub sweep_seconds: Option<f64>,
    /// Round-trip times since the start, in milliseconds.
    pub round_trip_ms: Option<RoundTripStatus>,
}

/// So long, in milliseconds, did this share of the answers take at most. It is estimated within the
/// buckets of the histogram.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RoundTripStatus {
    /// Half of them.
    pub p50: f64,
    /// 95 of 100.
    pub p95: f64,
    /// 99 of 100.
    pub p99: f64,
}

/// A socket that peers are asked by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SocketStatus {
    /// `ipv4` or `ipv6`.
    pub family: String,
    /// `raw` or `ping`.
    pub kind: String,
    /// The source address that was configured.
    pub source: Option<String>,
    /// The receive buffer that was granted, in octets.
    pub buffer_bytes: u64,
    /// The receive buffer that was asked for, in octets.
    pub buffer_asked_bytes: u64,
    /// What the kernel dropped before it could be read.
    pub drops: u64,
}

/// A file that names peers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FileStatus {
    /// Its path.
    pub path: String,
    /// The group whose peers it names.
    pub group: String,
    /// How many peers it names.
    pub peers: u64,
    /// What is wrong with it.
    pub problem: Option<String>,
}

/// A peer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PeerStatus {
    /// Its address.
    pub address: String,
    /// Its group.
    pub group: String,
    /// Where it stands: a state, or `not_admitted`.
    pub state: String,
    /// Since when, in seconds from now; nothing if it is not admitted.
    pub for_seconds: Option<f64>,
    /// The latest round-trip time, in milliseconds.
    pub round_trip_ms: Option<f64>,
    /// Requests that had no answer in time since it was admitted.
    pub unanswered: u64,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

impl PeersStatus {
    /// The version of the form.
    pub const SCHEMA: u32 = 1;

    /// The document of an agent without peers.
    pub fn none(at: WallTime) -> PeersStatus {
        PeersStatus {
            schema: PeersStatus::SCHEMA,
            at: utc(at),
            summary: PeersSummary::default(),
            matched: 0,
            peers: Vec::new(),
        }
    }

    /// The document of one moment. With 128,000 peers it takes milliseconds.
    pub fn new(view: &PeersView, filter: &Filter) -> PeersStatus {
        let (matched, peers) = match filter.not_admitted {
            true => not_admitted(view, filter),
            false => admitted(view, filter),
        };
        PeersStatus {
            schema: PeersStatus::SCHEMA,
            at: utc(view.wall),
            summary: PeersSummary::new(view),
            matched: matched as u64,
            peers,
        }
    }

    /// The document for a person at a terminal so many columns wide, with styles.
    pub fn table(&self, filter: &Filter, width: usize) -> String {
        let mut screen = Screen::new(width);
        if self.summary.groups.is_empty() {
            screen.line(0, "No peers are configured: there is no [[peers.group]].");
            return screen.finish();
        }
        self.summary.title(&mut screen);
        for problem in &self.summary.problems {
            screen.line(2, Text::new(WARN, format_args!("! {problem}")));
        }
        self.summary.show_groups(&mut screen);
        self.summary.show_engine(&mut screen);
        let title = match (filter.is_empty(), filter.not_admitted) {
            (true, _) => "DOWN OR SILENT",
            (false, true) => "NOT ADMITTED",
            (false, false) => "PEERS THAT FIT",
        };
        screen.section(BOLD, title, self.matched);
        let widest = |text: fn(&PeerStatus) -> &str| {
            self.peers.iter().map(|peer| Text::from(text(peer)).width()).max()
        };
        let address_width = widest(|peer| &peer.address).unwrap_or(0);
        let group_width = widest(|peer| &peer.group).unwrap_or(0);
        for peer in &self.peers {
            let PeerStatus { address, group, state, .. } = peer;
            let mut text = Text::new(of_state(state), format_args!("{state:<11}"));
            text.push(PLAIN, format_args!("  {address:<address_width$}  {group:<group_width$}"));
            if let Some(seconds) = peer.for_seconds {
                text.push(PLAIN, format_args!("  for {}", Age::of_seconds(seconds)));
            }
            if let Some(ms) = peer.round_trip_ms {
                text.push(PLAIN, format_args!("  {ms:.2} ms"));
            }
            if peer.unanswered > 0 {
                text.push(PLAIN, format_args!("  {} unanswered", peer.unanswered));
            }
            for (name, value) in &peer.labels {
                text.push(DIM, format_args!("  {name}={value}"));
            }
            screen.line(2, text);
        }
        let more = self.matched.saturating_sub(self.peers.len() as u64);
        if more > 0 {
            screen.line(
                2,
                format_args!(
                    "and {more} more: --limit lists more of them; --group, --state, --address and \
                     --label fewer"
                ),
            );
        }
        screen.finish()
    }

    /// The document for a script: the lines of the groups, and one for each peer.
    pub fn lines(&self) -> String {
        let mut out = self.summary.lines();
        for peer in &self.peers {
            let labels = peer.labels.iter().map(|(name, value)| format!("{name}={value}"));
            out += &fields(&[
                "peer",
                &peer.address,
                &peer.group,
                &peer.state,
                &whole_seconds(peer.for_seconds),
                &milliseconds(peer.round_trip_ms),
                &peer.unanswered.to_string(),
                &labels.collect::<Vec<_>>().join(","),
            ]);
        }
        out
    }
}

/// The admitted peers that fit: how many there are, and the first of them.
fn admitted(view: &PeersView, filter: &Filter) -> (usize, Vec<PeerStatus>) {
    let fitting: Vec<&PeerView> = view
        .peers
        .iter()
        .filter(|peer| {
            filter.fits_state(peer.state) && {
                let known = view.known(peer).map(|known| &known.wanted);
                filter.fits(view, peer.group, peer.address, known)
            }
        })
        .collect();
    let matched = fitting.len();
    let order = |peer: &PeerView| (badness(peer.state), Reverse(peer.since), peer.address);
    let listed = snapshot::first(fitting, filter.limit, |one, other| order(one).cmp(&order(other)));
    let rows = listed.into_iter().map(|peer| PeerStatus {
        for_seconds: Some(view.at.since(peer.since).as_secs_f64()),
        round_trip_ms: peer.round_trip.map(ms),
        unanswered: peer.unanswered.into(),
        state: peer.state.name().to_owned(),
        ..PeerStatus::of(
            peer.address,
            view.group_name(peer.group),
            view.known(peer).map(|known| &known.wanted.labels),
        )
    });
    (matched, rows.collect())
}

/// The peers that fit and are not admitted, in the order in which they became known.
fn not_admitted(view: &PeersView, filter: &Filter) -> (usize, Vec<PeerStatus>) {
    let mut matched = 0;
    let mut rows = Vec::new();
    for known in view.roster.known().filter(|known| known.place.is_none()) {
        let wanted = &known.wanted;
        if !filter.fits(view, wanted.group, wanted.address, Some(wanted)) {
            continue;
        }
        matched += 1;
        if rows.len() < filter.limit {
            let group = view.group_name(wanted.group);
            rows.push(PeerStatus::of(wanted.address, group, Some(&wanted.labels)));
        }
    }
    (matched, rows)
}

/// The worst first.
const fn badness(state: PeerState) -> u8 {
    match state {
        PeerState::Down => 0,
        PeerState::Silent => 1,
        PeerState::Unsupported => 2,
        PeerState::Unknown => 3,
        PeerState::Disabled => 4,
        PeerState::Alive => 5,
    }
}

impl PeerStatus {
    /// A peer that is not admitted.
    fn of(address: IpAddr, group: &str, labels: Option<&Labels>) -> PeerStatus {
        PeerStatus {
            address: address.to_string(),
            group: group.to_owned(),
            state: "not_admitted".to_owned(),
            for_seconds: None,
            round_trip_ms: None,
            unanswered: 0,
            labels: labels.into_iter().flat_map(|labels| labels.iter().cloned()).collect(),
        }
    }
}

impl PeersSummary {
    /// What the status of the whole agent tells, too.
    pub fn new(view: &PeersView) -> PeersSummary {
        let PeersView { settings, stats, admission, engine, files, .. } = view;
        let late = |share| quantile(&LATENESS_BUCKETS, &engine.lateness.buckets, share).map(ms);
        let groups = settings.groups.iter().enumerate().map(|(place, group)| {
            let counted = stats.groups.iter().find(|stats| stats.name == group.name);
            let admission = admission.get(place).copied().unwrap_or_default();
            GroupStatus::new(group, counted.unwrap_or(&GroupStats::default()), admission)
        });
        let mut problems = [&engine.problems[..], &view.problems].concat();
        problems.extend(files.iter().filter_map(|file| {
            let problem = file.problem.as_ref()?;
            Some(format!("group {}: {problem}", file.group))
        }));
        PeersSummary {
            mass_silence: stats.mass_silence,
            silent_now: stats.silent.into(),
            groups: groups.collect(),
            discarded: counted(Discard::ALL.map(Discard::name), stats.discarded),
            skipped: stats.skipped,
            stalls: stats.stalls,
            findings_waiting: stats.untold.into(),
            batches: engine.lateness.count(),
            batches_late_ms: late(0.99),
            batches_longest_late_ms: ms(engine.lateness.longest),
            send_errors: counted(
                engine.send_errors.iter().map(|error| error.0),
                engine.send_errors.iter().map(|error| error.1),
            ),
            sockets: engine.sockets.iter().map(SocketStatus::new).collect(),
            files: files.iter().map(FileStatus::new).collect(),
            problems,
        }
    }

    /// The part that the status of the whole agent shows, too. Problems it shows above all else.
    pub fn show(&self, screen: &mut Screen) {
        self.title(screen);
        self.show_groups(screen);
    }

    fn title(&self, screen: &mut Screen) {
        let all = |number: fn(&GroupStatus) -> u64| self.groups.iter().map(number).sum::<u64>();
        let mut note = Text::from(format_args!("{} admitted", all(|group| group.admitted)));
        for state in PeerState::ALL {
            match self.in_state(state) {
                0 => {}
                count => {
                    note.list(of_state(state.name()), format_args!("{count} {}", state.name()))
                }
            }
        }
        match all(|group| group.refused) {
            0 => {}
            refused => note.list(WARN, format_args!("{refused} NOT ADMITTED")),
        }
        if self.mass_silence {
            note.list(BAD.bold(), "MASS SILENCE");
        }
        screen.section(BOLD, "PEERS", note);
    }

    fn show_groups(&self, screen: &mut Screen) {
        let names = self.groups.iter().map(|group| 2 + Text::from(&group.name).width());
        let column = screen.column(names);
        for group in &self.groups {
            screen.pair(2, &group.name, column, group.text());
        }
    }

    /// The rest, for who asks for the peers.
    fn show_engine(&self, screen: &mut Screen) {
        for group in &self.groups {
            if !group.inconclusive.is_empty() {
                let tries = listed(&group.inconclusive);
                let name = &group.name;
                screen.line(
                    2,
                    format_args!(
                        "inconclusive tries of {name}, as this host was to blame: {tries}"
                    ),
                );
            }
        }
        for (what, counts) in [
            ("discarded answers", &self.discarded),
            ("requests that were not sent", &self.send_errors),
        ] {
            if !counts.is_empty() {
                screen.line(2, format_args!("{what}: {}", listed(counts)));
            }
        }
        if let Some(late) = self.batches_late_ms {
            let (batches, longest) = (self.batches, self.batches_longest_late_ms);
            screen.line(
                2,
                format_args!(
                    "{batches} batches, 99 of 100 within {late:.1} ms of their time, the latest \
                     {longest:.1} ms after it"
                ),
            );
        }
        if self.stalls > 0 || self.skipped > 0 {
            let (stalls, skipped) = (self.stalls, self.skipped);
            screen.line(
                2,
                format_args!("stood still {stalls} times, {skipped} heartbeats never left"),
            );
        }
        if self.findings_waiting > 0 {
            let waiting = self.findings_waiting;
            screen.line(2, format_args!("{waiting} raises and clears wait to be told"));
        }
        for socket in &self.sockets {
            screen.line(2, socket.text());
        }
    }

    /// A line for each group, for a script.
    pub fn lines(&self) -> String {
        let group = |group: &GroupStatus| {
            let states = PeerState::ALL.map(|state| group.in_state(state).to_string());
            let [unknown, alive, silent, down, disabled, unsupported] = &states;
            fields(&[
                "group",
                &group.name,
                &group.admitted.to_string(),
                &group.refused.to_string(),
                down,
                silent,
                unknown,
                alive,
                disabled,
                unsupported,
            ])
        };
        self.groups.iter().map(group).collect()
    }

    /// How many of all admitted peers are in this state.
    pub fn in_state(&self, state: PeerState) -> u64 {
        self.groups.iter().map(|group| group.in_state(state)).sum()
    }
}

impl GroupStatus {
    fn new(group: &Group, stats: &GroupStats, admission: Admission) -> GroupStatus {
        let bounds = ROUND_TRIP_BUCKETS.map(Duration::from_micros);
        let within = |share| quantile(&bounds, &stats.round_trips.buckets, share).map(ms);
        let round_trip_ms =
            || Some(RoundTripStatus { p50: within(0.5)?, p95: within(0.95)?, p99: within(0.99)? });
        GroupStatus {
            name: group.name.clone(),
            heartbeat: match group.kind {
                Heartbeat::Echo => "echo",
                Heartbeat::ProxyMobile => "pmipv6",
            }
            .to_owned(),
            interval_seconds: group.interval.as_secs_f64(),
            limit: group.limit.into(),
            admitted: admission.admitted.into(),
            refused: admission.refused.into(),
            peers: PeerState::ALL
                .iter()
                .zip(stats.peers)
                .map(|(state, count)| (state.name().to_owned(), count.into()))
                .collect(),
            heartbeats: stats.heartbeats,
            retransmissions: stats.retransmissions,
            answers: stats.answers,
            unanswered: stats.unanswered,
            inconclusive: counted(Inconclusive::ALL.map(Inconclusive::name), stats.inconclusive),
            no_answer: stats.no_answer,
            restarts: stats.restarts,
            sweep_seconds: stats.sweep.map(|sweep| sweep.as_secs_f64()),
            round_trip_ms: round_trip_ms(),
        }
    }

    fn in_state(&self, state: PeerState) -> u64 {
        self.peers.get(state.name()).copied().unwrap_or(0)
    }

    fn text(&self) -> Text {
        let GroupStatus { admitted, limit, .. } = self;
        let mut text = Text::from(format_args!("{admitted} of at most {limit}"));
        for state in PeerState::ALL {
            match self.in_state(state) {
                0 => {}
                count => {
                    text.list(of_state(state.name()), format_args!("{count} {}", state.name()))
                }
            }
        }
        if self.refused > 0 {
            text.list(WARN, format_args!("{} NOT ADMITTED", self.refused));
        }
        let interval = Duration::try_from_secs_f64(self.interval_seconds).unwrap_or_default();
        text.push(PLAIN, format_args!("; every {}", Pretty(interval)));
        if let Some(sweep) = self.sweep_seconds {
            text.list(PLAIN, format_args!("sweep {sweep:.1} s"));
        }
        if let Some(RoundTripStatus { p50, p95, p99 }) = self.round_trip_ms {
            text.list(PLAIN, format_args!("round trip {p50:.2} / {p95:.2} / {p99:.2} ms"));
        }
        if self.restarts > 0 {
            text.list(PLAIN, format_args!("{} restarts", self.restarts));
        }
        text
    }
}

impl SocketStatus {
    fn new(socket: &SocketStats) -> SocketStatus {
        SocketStatus {
            family: if socket.v4 { "ipv4" } else { "ipv6" }.to_owned(),
            kind: if socket.raw { "raw" } else { "ping" }.to_owned(),
            source: socket.source.map(|source| source.to_string()),
            buffer_bytes: socket.buffer_granted as u64,
            buffer_asked_bytes: socket.buffer_asked as u64,
            drops: socket.kernel_drops,
        }
    }

    fn text(&self) -> Text {
        let SocketStatus { family, kind, source, .. } = self;
        let mut text = Text::from(format_args!("{family} {kind} socket"));
        if let Some(source) = source {
            text.push(PLAIN, format_args!(" from {source}"));
        }
        text.list(PLAIN, format_args!("receive buffer {:.1} MiB", mib(self.buffer_bytes)));
        if self.buffer_bytes < self.buffer_asked_bytes {
            text.push(PLAIN, format_args!(" of {:.1} asked for", mib(self.buffer_asked_bytes)));
        }
        if self.drops > 0 {
            text.list(WARN, format_args!("{} DROPPED by the kernel", self.drops));
        }
        text
    }
}

/// The style of a state, by its name.
fn of_state(state: &str) -> Style {
    match PeerState::ALL.into_iter().find(|known| known.name() == state) {
        Some(PeerState::Down) => BAD,
        Some(PeerState::Silent | PeerState::Unsupported) => WARN,
        Some(PeerState::Alive) => GOOD,
        Some(PeerState::Unknown | PeerState::Disabled) | None => PLAIN,
    }
}

impl FileStatus {
    fn new(file: &FileView) -> FileStatus {
        FileStatus {
            path: file.path.clone(),
            group: file.group.clone(),
            peers: file.peers as u64,
            problem: file.problem.clone(),
        }
    }
}

/// Counts by name, those that are not zero.
fn counted(
    names: impl IntoIterator<Item = &'static str>,
    counts: impl IntoIterator<Item = u64>,
) -> BTreeMap<String, u64> {
    let all = names.into_iter().zip(counts);
    all.filter(|(_, count)| *count > 0).map(|(name, count)| (name.to_owned(), count)).collect()
}

fn listed(counts: &BTreeMap<String, u64>) -> String {
    counts.iter().map(|(name, count)| format!("{count} {name}")).collect::<Vec<_>>().join(", ")
}

/// What this share of what was counted is at most, as Prometheus' `histogram_quantile` estimates it:
/// evenly within a bucket. Beyond the last bound nothing is known but that bound.
fn quantile(bounds: &[Duration], counts: &[u64], share: f64) -> Option<Duration> {
    let all: u64 = counts.iter().sum();
    if all == 0 {
        return None;
    }
    let rank = share * all as f64;
    let mut before = 0;
    let mut lower = Duration::ZERO;
    for (bound, count) in bounds.iter().zip(counts) {
        if (before + count) as f64 >= rank && *count > 0 {
            let part = (rank - before as f64).max(0.0) / *count as f64;
            return Some(lower + (*bound - lower).mul_f64(part));
        }
        before += count;
        lower = *bound;
    }
    Some(lower)
}

fn ms(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::{super::testing::sample, *};

    fn filter(query: &[(&str, &str)]) -> Filter {
        let pairs = query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Filter::from_query(&pairs.collect::<Vec<_>>()).unwrap()
    }

    /// The table as it is without colours.
    fn table(status: &PeersStatus, filter: &Filter) -> String {
        anstream::adapter::strip_str(&status.table(filter, 80)).to_string()
    }

    #[test]
    fn peer_14_a_summary_comes_first_and_then_who_is_down_or_silent() {
        let filter = Filter::default();
        let status = PeersStatus::new(&sample(), &filter);
        let expected = "\
PEERS  7 admitted, 1 unknown, 1 alive, 1 silent, 2 down, 1 disabled,
  1 unsupported, 2 NOT ADMITTED, MASS SILENCE
  ! the receive buffer is too small
  ! group edge: /etc/peers.json:1:1: this is no JSON
  core  6 of at most 7, 1 unknown, 1 alive, 1 silent, 1 down, 1 disabled,
        1 unsupported; every 1m, sweep 46.6 s, round trip 1.75 / 2.42 / 2.48 ms
  edge  1 of at most 7, 1 down, 2 NOT ADMITTED; every 1m, 3 restarts
  inconclusive tries of core, as this host was to blame: 7 neighbour_table_full
  discarded answers: 5 wrong_token
  requests that were not sent: 2 ENETUNREACH
  100 batches, 99 of 100 within 0.5 ms of their time, the latest 80.0 ms after
    it
  stood still 1 times, 6 heartbeats never left
  4 raises and clears wait to be told
  ipv4 raw socket, receive buffer 4.0 MiB
  ipv6 ping socket from 2001:db8::1, receive buffer 0.2 MiB of 4.0 asked for,
    17 DROPPED by the kernel

DOWN OR SILENT  3
  down         192.0.2.7  edge  for 1m33s  6 unanswered  site=north
  down         192.0.2.4  core  for 1m36s  3 unanswered  site=south
  silent       192.0.2.3  core  for 1m37s  1.50 ms  2 unanswered  site=north
";
        assert_eq!(table(&status, &filter), expected);
        let json = serde_json::to_string(&status).unwrap();
        assert_eq!(serde_json::from_str::<PeersStatus>(&json).unwrap(), status);
    }

    #[test]
    fn peer_14_a_script_gets_a_line_for_each_group_and_each_peer() {
        let lines = PeersStatus::new(&sample(), &Filter::default()).lines();
        let expected = "\
group\tcore\t6\t0\t1\t1\t1\t1\t1\t1
group\tedge\t1\t2\t1\t0\t0\t0\t0\t0
peer\t192.0.2.7\tedge\tdown\t93\t-\t6\tsite=north
peer\t192.0.2.4\tcore\tdown\t96\t-\t3\tsite=south
peer\t192.0.2.3\tcore\tsilent\t97\t1.500\t2\tsite=north
";
        assert_eq!(lines, expected);
    }

    #[test]
    fn peer_14_a_filter_names_who_is_listed() {
        let view = sample();
        for (query, matched, listed) in [
            (&[][..], 3, &["7", "4", "3"][..]),
            (&[("limit", "1")], 3, &["7"]),
            (&[("limit", "0")], 3, &[]),
            (&[("group", "core")], 6, &["4", "3", "6", "1", "5", "2"]),
            (&[("state", "alive,down")], 3, &["7", "4", "2"]),
            (&[("address", "192.0.2.4/30"), ("group", "core")], 3, &["4", "6", "5"]),
            (&[("label", "site=south")], 3, &["4", "6", "2"]),
            (&[("label", "site=south"), ("label", "site=north")], 0, &[]),
            // PEER-5: who is not admitted is listed as such.
            (&[("not_admitted", "true")], 2, &["8", "9"]),
            (&[("not_admitted", "true"), ("label", "site=north"), ("limit", "5")], 1, &["9"]),
            (&[("not_admitted", "true"), ("group", "core")], 0, &[]),
            (&[("group", "none")], 0, &[]),
        ] {
            let filter = filter(query);
            let status = PeersStatus::new(&view, &filter);
            let told = status.peers.iter().map(|peer| peer.address.rsplit('.').next().unwrap());
            assert_eq!(told.collect::<Vec<_>>(), listed, "{query:?}");
            assert_eq!(status.matched, matched, "{query:?}");
            let more = table(&status, &filter).contains(" more: --limit");
            assert_eq!(more, matched > listed.len() as u64, "{query:?}");
        }
    }

    #[test]
    fn an_agent_without_peers_says_so() {
        let none = PeersStatus::none(WallTime(0));
        assert!(table(&none, &Filter::default()).starts_with("No peers are configured"));
    }

    #[test]
    fn shares_are_estimated_within_the_bucket_that_they_fall_into() {
        let bounds = [1, 2, 4].map(Duration::from_millis);
        for (counts, share, micros) in [
            ([0, 0, 0, 0], 0.5, None),
            ([10, 0, 0, 0], 0.5, Some(500)),
            ([10, 10, 0, 0], 0.5, Some(1_000)),
            ([0, 10, 0, 0], 0.5, Some(1_500)),
            ([5, 0, 5, 0], 0.75, Some(3_000)),
            // Of what is beyond the last bound no more is known than that.
            ([0, 0, 0, 10], 0.5, Some(4_000)),
            ([5, 0, 0, 5], 0.99, Some(4_000)),
        ] {
            let found = quantile(&bounds, &counts, share);
            assert_eq!(found, micros.map(Duration::from_micros), "{counts:?} {share}");
        }
    }
}
