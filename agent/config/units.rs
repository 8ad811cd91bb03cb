//! From the words of the configuration to values: durations, sizes, prefixes, addresses and object
//! identifiers. Each function takes the text of one value and says what is wrong with it in words
//! for the operator.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use evenkeel_core::settings::Polled;
use ipnet::IpNet;

/// Why a text is no value of its kind, and what would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// The reason.
    pub message: String,
    /// What would be right.
    pub help: Option<String>,
}

impl Wrong {
    /// This reason, without help.
    pub fn new(message: impl Into<String>) -> Wrong {
        Wrong { message: message.into(), help: None }
    }

    /// The same reason with help.
    pub fn help(mut self, help: impl Into<String>) -> Wrong {
        self.help = Some(help.into());
        self
    }
}

/// The units of a duration, in milliseconds, from the largest to the smallest: the order in which
/// they are written.
const TIME_UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// The units of a size, in bytes.
const SIZE_UNITS: [(&str, u64); 9] = [
    ("B", 1),
    ("kB", 1000),
    ("KB", 1000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// A duration such as `30s`, `1m30s`, `250ms` or `90d`.
pub fn duration(text: &str) -> Result<Duration, Wrong> {
    let malformed = || {
        Wrong::new("this is no length of time")
            .help("write numbers with units from d, h, m, s and ms, as \"1m30s\" or \"250ms\"")
    };
    let mut rest = text;
    let mut units = TIME_UNITS.iter();
    let mut total = Some(0u64);
    loop {
        let (number, after) = rest.split_at(digits(rest));
        if number.is_empty() {
            return Err(malformed());
        }
        let (unit, after) = after.split_at(letters(after));
        if unit.is_empty() && after.is_empty() {
            return Err(Wrong::new("the unit is missing").help(format!("write \"{text}s\"")));
        }
        // Going on from the last unit found, so that none comes twice or out of order.
        let (_, millis) = units.find(|(name, _)| *name == unit).ok_or_else(malformed)?;
        let part = number.parse::<u64>().ok().and_then(|number| number.checked_mul(*millis));
        total = total.zip(part).and_then(|(total, part)| total.checked_add(part));
        rest = after;
        if rest.is_empty() {
            break;
        }
    }
    total.map(Duration::from_millis).ok_or_else(|| Wrong::new("this is longer than any clock runs"))
}

/// A size such as `64MiB` or `4MB`, in bytes.
pub fn size(text: &str) -> Result<u64, Wrong> {
    let malformed = || {
        Wrong::new("this is no size").help("write a number and its unit, as \"64MiB\" or \"4MB\"")
    };
    let (number, unit) = text.split_at(digits(text));
    if number.is_empty() {
        return Err(malformed());
    }
    if unit.is_empty() {
        return Err(Wrong::new("the unit is missing").help(format!("write \"{text}MiB\"")));
    }
    let (_, bytes) =
        SIZE_UNITS.iter().find(|(name, _)| *name == unit.trim_start()).ok_or_else(malformed)?;
    let number = number.parse::<u64>().ok();
    number
        .and_then(|number| number.checked_mul(*bytes))
        .ok_or_else(|| Wrong::new("this is more than any memory holds"))
}

fn digits(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

fn letters(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_alphabetic).count()
}

/// A prefix with its host bits zero.
pub fn prefix(text: &str) -> Result<IpNet, Wrong> {
    let net: IpNet = match text.parse() {
        Ok(net) => net,
        Err(_) => {
            let help = match text.parse::<IpAddr>() {
                Ok(address) if address.is_ipv4() => format!("add its length, as \"{address}/24\""),
                Ok(address) => format!("add its length, as \"{address}/64\""),
                Err(_) => "write it as \"192.0.2.0/24\" or \"2001:db8::/64\"".to_owned(),
            };
            return Err(Wrong::new("this is no prefix").help(help));
        }
    };
    let network = net.trunc();
    if net != network {
        return Err(Wrong::new(format!("this has bits set behind its first {}", net.prefix_len()))
            .help(format!("the network is \"{network}\", the address alone \"{}\"", net.addr())));
    }
    refuse_mapped(network.addr(), "prefix")?;
    Ok(network)
}

/// A prefix, or a plain address, which stands for itself alone.
pub fn prefix_or_address(text: &str) -> Result<IpNet, Wrong> {
    match text.parse::<IpAddr>() {
        Ok(address) => {
            refuse_mapped(address, "address")?;
            Ok(IpNet::from(address))
        }
        Err(_) if text.contains('/') => prefix(text),
        Err(_) => Err(Wrong::new("this is neither a prefix nor an address")
            .help("write it as \"192.0.2.0/24\", \"2001:db8::/64\" or \"192.0.2.1\"")),
    }
}

/// The address of one system.
pub fn system(text: &str) -> Result<IpAddr, Wrong> {
    let address: IpAddr = text.parse().map_err(|_| no_address(text))?;
    refuse_mapped(address, "address")?;
    if address.is_unspecified() || is_multicast_or_broadcast(address) {
        return Err(Wrong::new("this is not the address of one system"));
    }
    Ok(address)
}

/// The address of a peer.
pub fn peer(text: &str) -> Result<IpAddr, Wrong> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Err(
            Wrong::new("a heartbeat goes to no port").help(format!("write \"{}\"", address.ip()))
        );
    }
    let (plain, zone) = text.split_once('%').map_or((text, false), |(plain, _)| (plain, true));
    let inner = plain.strip_prefix('[').and_then(|plain| plain.strip_suffix(']'));
    let address: IpAddr = match (plain.parse(), inner.map(str::parse::<Ipv6Addr>)) {
        (Ok(address), _) => address,
        (_, Some(Ok(address))) if !zone => {
            return Err(Wrong::new("an address without a port stands in no brackets")
                .help(format!("write \"{address}\"")));
        }
        _ => return Err(no_address(text)),
    };
    refuse_mapped(address, "address")?;
    if matches!(address, IpAddr::V6(v6) if is_link_local(v6)) {
        return Err(Wrong::new("a link-local address is no peer's: it is known on one link only")
            .help("give the peer's global or unique local address"));
    }
    if zone {
        return Err(Wrong::new("only a link-local IPv6 address (fe80::/10) has a zone")
            .help(format!("write \"{address}\"")));
    }
    // RFC 1122, 3.2.1.3: 0.0.0.0/8 is this network, and never a destination.
    let this_network = matches!(address, IpAddr::V4(v4) if v4.octets()[0] == 0);
    if address.is_unspecified() || this_network || is_multicast_or_broadcast(address) {
        return Err(Wrong::new("this is not the address of one system"));
    }
    Ok(address)
}

/// An object identifier, as sub-identifiers: `1.3.6.1.4.1.9`, with a leading dot or without.
pub fn oid(text: &str) -> Result<Vec<u32>, Wrong> {
    let wrong = || {
        Wrong::new("this is no object identifier").help("write it in numbers, as \"1.3.6.1.4.1.9\"")
    };
    let arcs = text.strip_prefix('.').unwrap_or(text).split('.').map(|arc| {
        let digits = !arc.is_empty() && arc.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| arc.parse::<u32>().ok()).flatten()
    });
    let arcs: Vec<u32> = arcs.collect::<Option<_>>().ok_or_else(wrong)?;
    // X.660: under the first two of three roots there are 40 arcs each. RFC 2578, 3.5: at most 128.
    match arcs[..] {
        [0 | 1, 0..40, ..] | [2, _, ..] if arcs.len() <= 128 => Ok(arcs),
        _ => Err(wrong()),
    }
}

/// An address to poll, a link-local one with its zone (RFC 4007, section 11): `192.0.2.1`,
/// `fe80::1%eth0`.
pub fn polled(text: &str) -> Result<Polled, Wrong> {
    let (address, zone) = match text.split_once('%') {
        Some((address, zone)) => (address, Some(zone)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| no_address(text))?;
    refuse_mapped(address, "address")?;
    refuse_unpollable(address)?;
    let link_local = matches!(address, IpAddr::V6(v6) if is_link_local(v6));
    match zone {
        None if link_local => Err(Wrong::new("a link-local address needs its zone")
            .help(format!("name the interface that it is on, as \"{address}%eth0\""))),
        Some(_) if !link_local => {
            Err(Wrong::new("only a link-local IPv6 address (fe80::/10) has a zone")
                .help(format!("write \"{address}\"")))
        }
        // IFNAMSIZ is 16 with the terminating NUL.
        Some(zone) if zone.is_empty() || zone.len() > 15 || zone.contains(['/', ' ', '\0']) => {
            Err(Wrong::new("the zone is no name of an interface")
                .help(format!("write it as \"{address}%eth0\"")))
        }
        _ => Ok(Polled { address, zone: zone.map(str::to_owned) }),
    }
}

/// Whether an address is in fe80::/10 (RFC 4291, 2.5.6).
pub fn is_link_local(address: Ipv6Addr) -> bool {
    address.segments()[0] & 0xffc0 == 0xfe80
}

/// An address and a port to listen on: `0.0.0.0:10162`, `[::]:10162`.
pub fn listen(text: &str) -> Result<SocketAddr, Wrong> {
    let address: SocketAddr = text.parse().map_err(|_| {
        let wrong = Wrong::new("this is no address with a port");
        if let Ok(address) = text.parse::<IpAddr>() {
            return wrong.help(format!("add the port, as \"{}\"", SocketAddr::new(address, 10162)));
        }
        match text.strip_prefix(':').and_then(|port| port.parse::<u16>().ok()) {
            Some(port) => wrong.help(format!("write \"0.0.0.0:{port}\" and \"[::]:{port}\"")),
            None => wrong.help("write it as \"0.0.0.0:10162\" or \"[::]:10162\""),
        }
    })?;
    if address.port() == 0 {
        return Err(Wrong::new("port 0 is no port that others could know"));
    }
    if is_multicast_or_broadcast(address.ip()) {
        return Err(Wrong::new("nothing can listen on a multicast or broadcast address"));
    }
    refuse_mapped(address.ip(), "address")?;
    Ok(address)
}

/// Where notifications go; port 162 (RFC 3417, section 3.2) unless it is named.
pub fn notification_address(text: &str) -> Result<SocketAddr, Wrong> {
    let address = match (text.parse::<SocketAddr>(), text.parse::<IpAddr>()) {
        (Ok(address), _) => address,
        (_, Ok(ip)) => SocketAddr::new(ip, 162),
        _ => return Err(no_address(text)),
    };
    let ip = address.ip();
    if address.port() == 0 {
        return Err(Wrong::new("port 0 can't be sent to").help("SNMP notifications go to port 162"));
    }
    refuse_mapped(ip, "address")?;
    if ip.is_unspecified() || is_multicast_or_broadcast(ip) {
        return Err(Wrong::new(
            "a notification goes to one host, and this address is not one host's",
        )
        .help("name each receiver in a [[notifications.target]] of its own"));
    }
    if matches!(ip, IpAddr::V6(v6) if is_link_local(v6)) {
        return Err(Wrong::new("notifications can't be sent to a link-local address")
            .help("use the receiver's global address"));
    }
    Ok(address)
}

/// What to say of a text that should have been an address: for most, it is a host name.
fn no_address(text: &str) -> Wrong {
    let host = text.rsplit_once(':').map_or(text, |(host, _)| host);
    let is_name = host.bytes().any(|byte| byte.is_ascii_alphabetic()) && !host.contains([':', '/']);
    if is_name {
        return Wrong::new("this is a name, and an address is needed").help(
            "write the address itself: looking up names fails in just the outage that is to be \
             noticed",
        );
    }
    if text.contains('/') {
        return Wrong::new("this is a prefix, and an address is needed");
    }
    Wrong::new("this is no address").help("write it as \"192.0.2.1\" or \"2001:db8::1\"")
}

/// Refuses what no single node answers for.
fn refuse_unpollable(address: IpAddr) -> Result<(), Wrong> {
    if address.is_unspecified() {
        return Err(Wrong::new("the unspecified address is nobody's"));
    }
    if is_multicast_or_broadcast(address) {
        return Err(Wrong::new(
            "a multicast or broadcast address can't be polled: any node on the \
                               network could answer for all",
        ));
    }
    Ok(())
}

fn is_multicast_or_broadcast(address: IpAddr) -> bool {
    address.is_multicast() || matches!(address, IpAddr::V4(v4) if v4.is_broadcast())
}

/// Refuses an IPv4 address in the form of an IPv6 one (RFC 4291, 2.5.5.2), which would never be
/// equal to the address that the kernel reports.
fn refuse_mapped(address: IpAddr, what: &str) -> Result<(), Wrong> {
    match address {
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => {
                Err(Wrong::new(format!("this is an IPv4 {what} in the form of an IPv6 one"))
                    .help(format!("write it in the form of {v4}")))
            }
            None => Ok(()),
        },
        IpAddr::V4(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_units_in_order() {
        for (text, millis) in [
            ("30s", 30_000),
            ("1m30s", 90_000),
            ("250ms", 250),
            ("1h", 3_600_000),
            ("90d", 7_776_000_000),
            ("1d1h1m1s1ms", 90_061_001),
            ("0s", 0),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in
            ["", "s", "30", "30 s", "1.5s", "-1s", "30s1m", "1s1s", "30S", "30sec", "1m30", "३s"]
        {
            assert!(duration(text).is_err(), "{text}");
        }
        assert!(duration("99999999999999999999s").is_err());
        assert!(duration("18446744073709551615d").is_err());
    }

    #[test]
    fn sizes_know_binary_from_decimal() {
        assert_eq!(size("64MiB"), Ok(67_108_864));
        assert_eq!(size("4MB"), Ok(4_000_000));
        assert_eq!(size("4 MB"), Ok(4_000_000));
        for text in ["", "64", "MiB", "64M", "64 mb", "-1MB", "99999999TiB", "1e3MB"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_prefix_with_host_bits_is_told_its_network() {
        let help = prefix("192.0.2.77/24").unwrap_err().help.unwrap();
        assert!(help.contains("\"192.0.2.0/24\""), "{help}");
        assert!(prefix("192.0.2.1").unwrap_err().help.unwrap().contains("192.0.2.1/24"));
        assert_eq!(prefix_or_address("2001:db8::1").unwrap().to_string(), "2001:db8::1/128");
        assert!(prefix("::ffff:192.0.2.0/120").is_err());
    }

    // SUBN-11: a link-local polling target has a zone.
    #[test]
    fn zones_belong_to_link_local_addresses() {
        assert_eq!(polled("fe80::1%eth0").unwrap().zone.as_deref(), Some("eth0"));
        for text in
            ["fe80::1", "fe80::1%", "2001:db8::1%eth0", "192.0.2.1%eth0", "fe80::1%a/b", "%", "::"]
        {
            assert!(polled(text).is_err(), "{text}");
        }
    }
}
