//! The peers: in sum, live; and one by one for who searches, which the agent does and not the browser, as
//! there may be 128,000 of them.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::State,
    http::{StatusCode, Uri},
};
use evenkeel_core::peers::PeerState;
use maud::{Markup, html};

use super::{
    sections::{chip, seconds, table},
    shown::cut,
};
use crate::{
    peers::{
        filter::Filter,
        status::{GroupStatus, PeerStatus, PeersStatus, PeersSummary},
    },
    web::Web,
};

/// How many peers an answer lists.
const LISTED: usize = 50;

/// How many groups are shown, and how many labels of a peer.
const GROUPS: usize = 100;
const LABELS: usize = 8;

/// How old what is searched may be: several searches, as one types, then cost one look at all peers.
const YOUNG: Duration = Duration::from_secs(2);

/// The longest query that is read.
const LONGEST: usize = 4 << 10;

/// The peers in sum.
pub fn summary(peers: Option<&PeersSummary>) -> Markup {
    let Some(peers) = peers else {
        return html! {
            div #peers-sum { h2 #h-peers { "Peers " span.note { "none are configured" } } }
        };
    };
    let counts: Vec<String> =
        [PeerState::Down, PeerState::Silent, PeerState::Unknown, PeerState::Alive]
            .into_iter()
            .map(|state| (peers.in_state(state), state.name()))
            .filter(|(count, _)| *count > 0)
            .map(|(count, name)| format!("{count} {name}"))
            .collect();
    html! {
        div #peers-sum {
            h2 #h-peers { "Peers " span.note { (counts.join(", ")) } }
            @if peers.mass_silence {
                p { (chip("critical", "mass silence")) " So many are silent that the fault may be near." }
            }
            (table("Groups of peers", &html! {
                thead {
                    tr {
                        th scope="col" { "Group" }
                        th scope="col" { "States" }
                        th.number scope="col" { "Monitored" }
                        th.number scope="col" { "Every" }
                        th.number scope="col" { "Sweep" }
                        th.number scope="col" { "Round trip: median, 95 %, 99 %" }
                    }
                }
                tbody { @for group in peers.groups.iter().take(GROUPS) { (group_row(group)) } }
            }))
        }
    }
}

fn group_row(group: &GroupStatus) -> Markup {
    html! {
        tr {
            th scope="row" { (cut(&group.name)) }
            td {
                @for state in [
                    PeerState::Down, PeerState::Silent, PeerState::Unknown, PeerState::Alive,
                    PeerState::Disabled, PeerState::Unsupported,
                ] {
                    @let count = group.peers.get(state.name()).copied().unwrap_or(0);
                    @if count > 0 { (chip(state.name(), &format!("{count} {}", state.name()))) " " }
                }
                @if group.refused > 0 {
                    (chip("unknown", &format!("{} not admitted", group.refused)))
                }
            }
            td.number { (group.admitted) " of " (group.limit) }
            td.number { (seconds(group.interval_seconds)) }
            td.number { @if let Some(sweep) = group.sweep_seconds { (format!("{sweep:.1} s")) } }
            td.number {
                @if let Some(ms) = group.round_trip_ms {
                    (format!("{:.2}, {:.2}, {:.2} ms", ms.p50, ms.p95, ms.p99))
                }
            }
        }
    }
}

/// What is looked for, as it was typed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Search {
    address: String,
    group: String,
    state: String,
    label: String,
    /// Whether anything was asked, be it with all fields empty.
    asked: bool,
}

/// The value of the state that stands for those who have none.
const NOT_ADMITTED: &str = "not_admitted";

impl Search {
    /// The search that the query of an address asks for.
    pub fn from_query(query: &str) -> Search {
        let mut search = Search::default();
        if query.len() > LONGEST {
            return search;
        }
        let Ok(uri) = format!("/?{query}").parse::<Uri>() else { return search };
        let pairs = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(&uri);
        for (name, value) in pairs.map(|pairs| pairs.0).unwrap_or_default() {
            let place = match name.as_str() {
                "address" => &mut search.address,
                "group" => &mut search.group,
                "state" => &mut search.state,
                "label" => &mut search.label,
                _ => continue,
            };
            value.trim().clone_into(place);
            search.asked = true;
        }
        search
    }

    /// Whether anything was asked.
    pub const fn is_on(&self) -> bool {
        self.asked
    }

    /// The filter that it stands for.
    fn filter(&self) -> Result<Filter, String> {
        let mut pairs = Vec::new();
        let mut pair = |name: &str, value: &str| {
            if !value.is_empty() {
                pairs.push((name.to_owned(), value.to_owned()));
            }
        };
        for address in self.address.split([',', ' ']).filter(|part| !part.is_empty()) {
            pair("address", &completed(address));
        }
        // A name of a group may have a comma in it, so this is no list.
        match self.state.as_str() {
            NOT_ADMITTED => pair("not_admitted", "true"),
            state => pair("state", state),
        }
        pair("label", &self.label);
        pair("limit", &LISTED.to_string());
        let mut filter = Filter::from_query(&pairs)?;
        if !self.group.is_empty() {
            filter.groups.push(self.group.clone());
        }
        Ok(filter)
    }

    /// Those who fit, or what is wrong with the search.
    pub async fn found(&self, web: &Web) -> (StatusCode, Markup) {
        let filter = match self.filter() {
            Ok(filter) => filter,
            Err(wrong) => return (StatusCode::BAD_REQUEST, said(&cut(&wrong))),
        };
        let words = if filter.is_empty() { "down or silent" } else { "found" };
        match web.peers(filter, YOUNG).await {
            Ok(status) => (StatusCode::OK, listed(&status, words)),
            Err(error) => (StatusCode::SERVICE_UNAVAILABLE, said(&error.to_string())),
        }
    }
}

/// The beginning of an IPv4 address, as somebody types it, as the prefix that it is: `10.1.` is
/// `10.1.0.0/16`.
fn completed(text: &str) -> String {
    let parts: Vec<&str> = text.trim_end_matches('.').split('.').collect();
    let all_numbers = parts.iter().all(|part| part.parse::<u8>().is_ok());
    if !all_numbers || parts.len() > 3 {
        return text.to_owned();
    }
    let rest = ".0".repeat(4 - parts.len());
    format!("{}{rest}/{}", parts.join("."), 8 * parts.len())
}

/// Those who fit, for the page that has JavaScript.
pub async fn found(State(web): State<Arc<Web>>, uri: Uri) -> (StatusCode, Markup) {
    Search::from_query(uri.query().unwrap_or_default()).found(&web).await
}

fn said(text: &str) -> Markup {
    html! { p.said role="status" { (text) } }
}

fn listed(status: &PeersStatus, words: &str) -> Markup {
    let more = status.matched.saturating_sub(status.peers.len() as u64);
    let count = match more {
        0 => format!("{} {words}", status.matched),
        _ => format!("{} {words}, the first {}", status.matched, status.peers.len()),
    };
    html! {
        (said(&count))
        @if !status.peers.is_empty() {
            (table("Peers that were found", &html! {
                thead {
                    tr {
                        th scope="col" { "Peer" }
                        th scope="col" { "State" }
                        th scope="col" { "Group" }
                        th.number scope="col" { "For" }
                        th.number scope="col" { "Round trip" }
                        th.number scope="col" { "Unanswered" }
                        th scope="col" { "Labels" }
                    }
                }
                tbody { @for peer in &status.peers { (peer_row(peer)) } }
            }))
        }
    }
}

fn peer_row(peer: &PeerStatus) -> Markup {
    let labels = peer.labels.iter().take(LABELS);
    let labels: Vec<String> = labels.map(|(name, value)| cut(&format!("{name}={value}"))).collect();
    html! {
        tr {
            th scope="row" { (peer.address) }
            td { (chip(&peer.state, &peer.state.replace('_', " "))) }
            td { (cut(&peer.group)) }
            td.number { @if let Some(for_seconds) = peer.for_seconds { (seconds(for_seconds.trunc())) } }
            td.number { @if let Some(ms) = peer.round_trip_ms { (format!("{ms:.2} ms")) } }
            td.number { (peer.unanswered) }
            td {
                (labels.join(", "))
                @if peer.labels.len() > LABELS { ", …" }
            }
        }
    }
}

/// The fields to search by. Without JavaScript the whole page is loaded, with what was found in it.
pub fn form(peers: &PeersSummary, search: &Search) -> Markup {
    let states = PeerState::ALL.map(PeerState::name);
    html! {
        form #search action="#peers" method="get" role="search" aria-label="Peers" {
            p {
                label for="s-address" { "Address or prefix" }
                input #s-address type="search" name="address" value=(search.address)
                    placeholder="10.1. or 2001:db8::/32" autocomplete="off" spellcheck="false"
                    maxlength="200";
            }
            p {
                label for="s-group" { "Group" }
                select #s-group name="group" {
                    option value="" { "any" }
                    @for group in peers.groups.iter().take(GROUPS) {
                        option value=(group.name) selected[search.group == group.name] {
                            (cut(&group.name))
                        }
                    }
                }
            }
            p {
                label for="s-state" { "State" }
                select #s-state name="state" {
                    option value="" { "any" }
                    @for state in states {
                        option value=(state) selected[search.state == state] { (state) }
                    }
                    option value=(NOT_ADMITTED) selected[search.state == NOT_ADMITTED] { "not admitted" }
                }
            }
            p {
                label for="s-label" { "Label" }
                input #s-label type="search" name="label" value=(search.label)
                    placeholder="site=north" autocomplete="off" spellcheck="false" maxlength="200";
            }
            p { button { "Search" } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_becomes_a_filter() {
        let filter = |query: &str| Search::from_query(query).filter();
        assert!(!Search::from_query("").is_on());
        assert!(Search::from_query("address=").is_on());
        assert!(!Search::from_query("colour=red").is_on());
        assert!(filter("address=&group=&state=&label=").unwrap().is_empty());
        let all =
            filter("address=10.1.%2C+2001:db8::/32&group=a%2Cb&state=down&label=site=n").unwrap();
        let addresses: Vec<String> = all.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["10.1.0.0/16", "2001:db8::/32"]);
        assert_eq!((all.groups, all.labels.len(), all.limit), (vec!["a,b".to_owned()], 1, LISTED));
        assert!(filter("state=not_admitted").unwrap().not_admitted);
        for (query, expected) in [
            ("address=nowhere", "\"nowhere\" is neither an address nor a prefix"),
            ("label=site", "\"site\" is no label; write name=value"),
            ("state=dead", "\"dead\" is no state of a peer"),
        ] {
            let wrong = filter(query).unwrap_err();
            assert!(wrong.starts_with(expected), "{wrong}");
        }
        assert!(!Search::from_query(&format!("address={}", "1".repeat(5_000))).is_on());
    }

    #[test]
    fn the_beginning_of_an_address_is_a_prefix() {
        for (typed, expected) in [
            ("10", "10.0.0.0/8"),
            ("10.1.", "10.1.0.0/16"),
            ("10.1.2", "10.1.2.0/24"),
            ("10.1.2.3", "10.1.2.3"),
            ("10.256", "10.256"),
            ("fd00::1", "fd00::1"),
            ("10.1.0.0/16", "10.1.0.0/16"),
        ] {
            assert_eq!(completed(typed), expected);
        }
    }
}
