//! Series of single peers, by choice (PEER-13, PEER-14): appended to the page as text.
//!
//! The crate `prometheus` wants every series of a family to have the same label names, and each peer
//! has the labels of its own file. And it keeps a table of them: `README.md` beside this file says
//! what 128,000 series cost by it, and what they cost here.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use evenkeel_core::peers::{PeerState, PeerView, roster::Labels};

use super::view::PeersView;
use crate::config::PeerMetrics;

/// Whether a peer is up.
pub const UP: &str = "evenkeel_peer_up";
/// Its latest round-trip time.
pub const ROUND_TRIP: &str = "evenkeel_peer_round_trip_seconds";
/// Its unanswered requests.
pub const UNANSWERED: &str = "evenkeel_peer_unanswered_total";

/// How much room a line takes, about.
const LINE: usize = 96;

/// Appends the series that the configuration asks for.
pub fn append(page: &mut String, view: &PeersView) {
    let nothing: Labels = Arc::new([]);
    let rows = view.peers.iter().map(|peer| {
        let labels = view.known(peer).map_or(&nothing, |known| &known.wanted.labels);
        (peer, view.group_name(peer.group), labels)
    });
    write(page, view.series, view.peers.len(), rows);
}

/// The same for these peers, each with the name of its group and its labels.
fn write<'a>(
    page: &mut String,
    series: PeerMetrics,
    count: usize,
    peers: impl Iterator<Item = (&'a PeerView, &'a str, &'a Labels)>,
) {
    let full = match series {
        PeerMetrics::None => return,
        PeerMetrics::State => false,
        PeerMetrics::Full => true,
    };
    // The lines of one metric are to stand together, so each has a page of its own first.
    let mut others = if full { [page_of(count), page_of(count)] } else { Default::default() };
    page.reserve(count * LINE);
    head(page, UP, "gauge", "Whether a peer is up (1) or down (0); absent while it is not known.");
    let mut common = Common::default();
    let mut labels = String::new();
    for (peer, group, own) in peers {
        labels.clear();
        labels.push_str(common.of(group, own));
        // Writing to a string can't fail.
        let _ = write!(labels, "peer=\"{}\"}} ", peer.address);
        match peer.state {
            // Silence is not yet being down (PEER-2).
            PeerState::Alive | PeerState::Silent => line(page, UP, &labels, "1"),
            PeerState::Down => line(page, UP, &labels, "0"),
            PeerState::Unknown | PeerState::Disabled | PeerState::Unsupported => {}
        }
        if full {
            let [round_trips, unanswered] = &mut others;
            if let Some(round_trip) = peer.round_trip {
                line(round_trips, ROUND_TRIP, &labels, "");
                seconds(round_trips, round_trip);
            }
            line(unanswered, UNANSWERED, &labels, "");
            let _ = writeln!(unanswered, "{}", peer.unanswered);
        }
    }
    if full {
        let [round_trips, unanswered] = &others;
        head(page, ROUND_TRIP, "gauge", "The latest round-trip time of a peer.");
        page.push_str(round_trips);
        head(page, UNANSWERED, "counter", "Requests to a peer that had no answer in time.");
        page.push_str(unanswered);
    }
}

/// Room for so many lines.
fn page_of(lines: usize) -> String {
    String::with_capacity(lines * LINE)
}

fn head(page: &mut String, name: &str, kind: &str, help: &str) {
    let _ = write!(page, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
}

/// A line, or the part of it before the value. `labels` end with their brace and a space.
fn line(page: &mut String, name: &str, labels: &str, value: &str) {
    page.push_str(name);
    page.push_str(labels);
    if !value.is_empty() {
        page.push_str(value);
        page.push('\n');
    }
}

/// A duration in seconds, to the microsecond, and the end of the line.
fn seconds(page: &mut String, duration: Duration) {
    let _ = writeln!(page, "{}.{:06}", duration.as_secs(), duration.subsec_micros());
}

/// The labels that come before that of the address: peers of one place share them, and come one after
/// the other, so most of the time they are written already.
#[derive(Default)]
struct Common {
    group: String,
    labels: Option<Labels>,
    text: String,
}

impl Common {
    fn of(&mut self, group: &str, labels: &Labels) -> &str {
        let known = self.labels.as_ref().is_some_and(|before| Arc::ptr_eq(before, labels));
        if !known || self.group != group {
            group.clone_into(&mut self.group);
            self.labels = Some(Arc::clone(labels));
            self.text.clear();
            self.text.push('{');
            pair(&mut self.text, "group", group);
            for (name, value) in labels.iter().filter(|(name, _)| is_label_name(name)) {
                pair(&mut self.text, name, value);
            }
        }
        &self.text
    }
}

fn pair(text: &mut String, name: &str, value: &str) {
    text.push_str(name);
    text.push_str("=\"");
    for char in value.chars() {
        match char {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            other => text.push(other),
        }
    }
    text.push_str("\",");
}

/// Names that the text format 0.0.4 allows and that are not taken: those with two underscores before
/// them are for Prometheus' own use, and `peer` and `group` are ours. One bad line would cost the whole
/// page, so a label that has another name is left out.
fn is_label_name(name: &str) -> bool {
    let mut octets = name.bytes();
    !(name.starts_with("__") || name == "group" || name == "peer")
        && octets.next().is_some_and(|first| first == b'_' || first.is_ascii_alphabetic())
        && octets.all(|octet| octet == b'_' || octet.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use evenkeel_core::time::Time;

    use super::*;

    fn peer(place: u32, state: PeerState) -> PeerView {
        let answered = matches!(state, PeerState::Alive | PeerState::Silent);
        PeerView {
            place,
            address: Ipv4Addr::from_bits(0x0a00_0000 + place).into(),
            group: 0,
            state,
            since: Time::from_secs(1),
            round_trip: answered.then_some(Duration::from_micros(1_250)),
            unanswered: place,
        }
    }

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn page(series: PeerMetrics, peers: &[(PeerView, &str, Labels)]) -> String {
        let mut page = String::new();
        let rows = peers.iter().map(|(peer, group, labels)| (peer, *group, labels));
        write(&mut page, series, peers.len(), rows);
        page
    }

    #[test]
    fn peer_14_a_peer_has_the_series_that_were_chosen() {
        let core = labels(&[("site", "north")]);
        let mut v6 = peer(4, PeerState::Alive);
        v6.address = "2001:db8::4".parse().unwrap();
        let peers = [
            (peer(1, PeerState::Alive), "core", Arc::clone(&core)),
            (peer(2, PeerState::Down), "core", core),
            (peer(3, PeerState::Silent), "edge", labels(&[])),
            (v6, "edge", labels(&[])),
            (peer(5, PeerState::Unknown), "edge", labels(&[])),
            (peer(6, PeerState::Disabled), "edge", labels(&[])),
            (peer(7, PeerState::Unsupported), "edge", labels(&[])),
        ];
        assert_eq!(page(PeerMetrics::None, &peers), "");
        let state = "\
# HELP evenkeel_peer_up Whether a peer is up (1) or down (0); absent while it is not known.
# TYPE evenkeel_peer_up gauge
evenkeel_peer_up{group=\"core\",site=\"north\",peer=\"10.0.0.1\"} 1
evenkeel_peer_up{group=\"core\",site=\"north\",peer=\"10.0.0.2\"} 0
evenkeel_peer_up{group=\"edge\",peer=\"10.0.0.3\"} 1
evenkeel_peer_up{group=\"edge\",peer=\"2001:db8::4\"} 1
";
        assert_eq!(page(PeerMetrics::State, &peers), state);
        let full = page(PeerMetrics::Full, &peers);
        let (up, rest) = full.split_at(state.len());
        assert_eq!(up, state);
        let expected = "\
# HELP evenkeel_peer_round_trip_seconds The latest round-trip time of a peer.
# TYPE evenkeel_peer_round_trip_seconds gauge
evenkeel_peer_round_trip_seconds{group=\"core\",site=\"north\",peer=\"10.0.0.1\"} 0.001250
evenkeel_peer_round_trip_seconds{group=\"edge\",peer=\"10.0.0.3\"} 0.001250
evenkeel_peer_round_trip_seconds{group=\"edge\",peer=\"2001:db8::4\"} 0.001250
# HELP evenkeel_peer_unanswered_total Requests to a peer that had no answer in time.
# TYPE evenkeel_peer_unanswered_total counter
evenkeel_peer_unanswered_total{group=\"core\",site=\"north\",peer=\"10.0.0.1\"} 1
";
        assert!(rest.starts_with(expected), "{rest}");
        assert_eq!(rest.matches("evenkeel_peer_unanswered_total{").count(), peers.len());
    }

    // PEER-13: whatever a file calls its labels, the page stays one that Prometheus reads.
    #[test]
    fn peer_13_labels_are_told_as_the_text_format_wants_them() {
        let odd = [
            ("__meta_x", "reserved"),
            ("1st", "no name"),
            ("", "no name"),
            ("a-b", "no name"),
            ("group", "theirs"),
            ("note", "a \"b\" \\ c\nd \u{e4}"),
            ("peer", "theirs"),
        ];
        let text = page(PeerMetrics::State, &[(peer(1, PeerState::Down), "g\"1", labels(&odd))]);
        let line = text.lines().last().unwrap();
        assert_eq!(
            line,
            "evenkeel_peer_up{group=\"g\\\"1\",\
             note=\"a \\\"b\\\" \\\\ c\\nd \u{e4}\",peer=\"10.0.0.1\"} 0"
        );
    }
}
