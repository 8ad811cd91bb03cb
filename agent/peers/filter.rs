//! Which peers are to be listed: what `evenkeel status peers` asks the agent, and what it looks for.
//!
//! The agent applies it, so that what nobody wants to see does not go over the socket.

use std::{net::IpAddr, str::FromStr};

use clap::Args;
use evenkeel_core::peers::{PeerState, roster::Wanted};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::view::PeersView;

/// How many peers are listed unless more are asked for: what fits on a screen or two.
const LISTED: usize = 50;

/// Which peers: those that fit every option that is given.
#[derive(Args, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Filter {
    /// Peers of this group; several, separated by commas, for any of them.
    #[arg(long = "group", value_name = "NAME", value_delimiter = ',')]
    pub groups: Vec<String>,
    /// Peers in this state: unknown, alive, silent, down, disabled or unsupported.
    #[arg(
        long = "state",
        value_name = "STATE",
        value_delimiter = ',',
        conflicts_with = "not_admitted"
    )]
    pub states: Vec<State>,
    /// Peers with this address, or in this prefix, such as 10.1.0.0/16.
    #[arg(long = "address", value_name = "PREFIX", value_delimiter = ',', value_parser = prefix)]
    pub addresses: Vec<IpNet>,
    /// Peers with this label, such as site=north; given twice, with both.
    #[arg(long = "label", value_name = "NAME=VALUE")]
    pub labels: Vec<Label>,
    /// Peers that are known and not monitored, as there are too many.
    #[arg(long)]
    pub not_admitted: bool,
    /// List so many at most, the worst first.
    #[arg(long, value_name = "NUMBER", default_value_t = LISTED)]
    pub limit: usize,
}

impl Default for Filter {
    fn default() -> Filter {
        Filter {
            groups: Vec::new(),
            states: Vec::new(),
            addresses: Vec::new(),
            labels: Vec::new(),
            not_admitted: false,
            limit: LISTED,
        }
    }
}

/// A state, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct State(pub PeerState);

impl FromStr for State {
    type Err = String;

    fn from_str(text: &str) -> Result<State, String> {
        let found = PeerState::ALL.into_iter().find(|state| state.name() == text);
        found.map(State).ok_or_else(|| {
            let names = PeerState::ALL.map(PeerState::name);
            format!("{text:?} is no state of a peer; there are {}", names.join(", "))
        })
    }
}

impl From<State> for String {
    fn from(state: State) -> String {
        state.0.name().to_owned()
    }
}

impl TryFrom<String> for State {
    type Error = String;

    fn try_from(text: String) -> Result<State, String> {
        text.parse()
    }
}

/// A label and its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Label {
    /// The name.
    pub name: String,
    /// The value.
    pub value: String,
}

impl FromStr for Label {
    type Err = String;

    fn from_str(text: &str) -> Result<Label, String> {
        let (name, value) = text
            .split_once('=')
            .ok_or_else(|| format!("{text:?} is no label; write name=value"))?;
        Ok(Label { name: name.to_owned(), value: value.to_owned() })
    }
}

impl Filter {
    /// The filter that the query of a URL has: the options' names without their dashes, as in
    /// `state=down,silent&label=site=north&limit=10`.
    ///
    /// # Errors
    ///
    /// A sentence that says which of them is wrong.
    pub fn from_query(pairs: &[(String, String)]) -> Result<Filter, String> {
        let mut filter = Filter::default();
        for (name, value) in pairs {
            let values = || value.split(',');
            match name.as_str() {
                "group" => filter.groups.extend(values().map(str::to_owned)),
                "state" => {
                    for state in values() {
                        filter.states.push(state.parse()?);
                    }
                }
                "address" => {
                    for address in values() {
                        filter.addresses.push(prefix(address)?);
                    }
                }
                "label" => filter.labels.push(value.parse()?),
                "not_admitted" => {
                    filter.not_admitted = value
                        .parse()
                        .map_err(|_| format!("not_admitted={value} is neither true nor false"))?;
                }
                "limit" => {
                    filter.limit =
                        value.parse().map_err(|_| format!("limit={value} is no number"))?;
                }
                other => {
                    return Err(format!(
                        "{other} is unknown; there are group, state, address, label, not_admitted \
                         and limit"
                    ));
                }
            }
        }
        if filter.not_admitted && !filter.states.is_empty() {
            return Err("who is not admitted has no state: leave out one of the two".to_owned());
        }
        Ok(filter)
    }

    /// Whether it names nothing: then those that are down or silent are listed.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
            && self.states.is_empty()
            && self.addresses.is_empty()
            && self.labels.is_empty()
            && !self.not_admitted
    }

    /// Whether an admitted peer in this state fits.
    pub fn fits_state(&self, state: PeerState) -> bool {
        match self.states.is_empty() {
            true if self.is_empty() => matches!(state, PeerState::Silent | PeerState::Down),
            true => true,
            false => self.states.contains(&State(state)),
        }
    }

    /// Whether a peer of this group and address fits, with what the roster knows of it.
    pub fn fits(
        &self,
        view: &PeersView,
        group: u16,
        address: IpAddr,
        known: Option<&Wanted>,
    ) -> bool {
        let labels = known.map_or(&[][..], |known| &known.labels);
        let has = |wanted: &Label| {
            labels.iter().any(|(name, value)| *name == wanted.name && *value == wanted.value)
        };
        let group = view.group_name(group);
        (self.groups.is_empty() || self.groups.iter().any(|wanted| wanted == group))
            && (self.addresses.is_empty()
                || self.addresses.iter().any(|net| net.contains(&address)))
            && self.labels.iter().all(has)
    }
}

/// An address, or a prefix.
fn prefix(text: &str) -> Result<IpNet, String> {
    text.parse()
        .or_else(|_| text.parse().map(|address: IpAddr| address.into()))
        .map_err(|_| format!("{text:?} is neither an address nor a prefix such as 10.1.0.0/16"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Result<Filter, String> {
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap();
            (name.to_owned(), value.to_owned())
        });
        Filter::from_query(&pairs.collect::<Vec<_>>())
    }

    #[test]
    fn a_query_is_the_same_as_the_options() {
        assert_eq!(query(""), Ok(Filter::default()));
        let filter = query(
            "group=core,edge&state=down,silent&address=10.0.0.1,2001:db8::/32&label=site=a=b&limit=7",
        )
        .unwrap();
        assert_eq!(filter.groups, ["core", "edge"]);
        assert_eq!(filter.states, [State(PeerState::Down), State(PeerState::Silent)]);
        let nets: Vec<IpNet> =
            ["10.0.0.1/32", "2001:db8::/32"].map(|net| net.parse().unwrap()).into();
        assert_eq!(filter.addresses, nets);
        assert_eq!(filter.labels, [Label { name: "site".to_owned(), value: "a=b".to_owned() }]);
        assert_eq!((filter.not_admitted, filter.limit), (false, 7));
        let sent = serde_json::to_string(&filter).unwrap();
        assert_eq!(serde_json::from_str::<Filter>(&sent).unwrap(), filter);
    }

    #[test]
    fn what_is_wrong_with_a_query_is_said() {
        for (text, expected) in [
            ("state=dead", "\"dead\" is no state of a peer; there are unknown, alive"),
            ("address=10.1.", "\"10.1.\" is neither an address nor a prefix"),
            ("label=site", "\"site\" is no label; write name=value"),
            ("limit=-1", "limit=-1 is no number"),
            ("colour=red", "colour is unknown; there are group"),
            ("not_admitted=yes", "not_admitted=yes is neither true nor false"),
            ("not_admitted=true&state=down", "who is not admitted has no state"),
        ] {
            let error = query(text).unwrap_err();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
    }

    #[test]
    fn peer_14_without_a_filter_those_that_are_down_or_silent_are_listed() {
        let fitting = |text: &str| {
            let filter = query(text).unwrap();
            PeerState::ALL.into_iter().filter(|state| filter.fits_state(*state)).collect::<Vec<_>>()
        };
        assert_eq!(fitting("limit=3"), [PeerState::Silent, PeerState::Down]);
        assert_eq!(fitting("group=core"), PeerState::ALL);
        assert_eq!(fitting("group=core&state=alive"), [PeerState::Alive]);
    }
}
