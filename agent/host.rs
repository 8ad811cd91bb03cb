//! What this host's interfaces, addresses and gateways are, and how they change (SUBN-10,
//! SUBN-12).
//!
//! Interfaces, their flags and addresses come from `pnet`; which addresses can't be used yet, and
//! the gateways ([`routers`]), come from the kernel's tables by netlink. [`follow`] listens for
//! changes. A change is never applied to the last view: each one causes a new view to be taken
//! whole, so that a lost message can delay a change, but never leave a wrong view behind. Nothing
//! here needs a privilege.

mod routers;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::IpAddr,
    time::{Duration, Instant},
};

use evenkeel_core::{
    discovery::Router,
    input::{Host, HostInterface},
};
use futures_util::StreamExt;
use ipnet::IpNet;
use pnet::datalink;
use rtnetlink::{
    Handle, MulticastGroup, new_connection, new_multicast_connection,
    packet_route::address::{AddressAttribute, AddressFlags, AddressMessage},
};
use tokio::{
    sync::watch,
    task::AbortHandle,
    time::{sleep, timeout},
};

use self::routers::Gateways;

/// What tells of a change of links, addresses or routes.
const GROUPS: [MulticastGroup; 5] = [
    MulticastGroup::Link,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
];

/// How long changes are gathered before a view is taken: one `ip link del` comes as a dozen
/// messages within a millisecond or so.
const GATHER: Duration = Duration::from_millis(20);
/// Taking views may use a tenth of the time, where a routing daemon never rests, but a view is
/// never older than this on that account.
const GATHER_AT_MOST: Duration = Duration::from_secs(1);
/// A view is taken this often even if nothing was reported, in case a report could not be decoded.
const UNASKED: Duration = Duration::from_secs(30);
/// A dump of a full routing table takes a second or two; one that never ends is given up.
const DUMP: Duration = Duration::from_secs(10);
/// The first and the longest wait before a lost netlink connection is opened again.
const REOPEN: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(5)];

/// Why this host could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// No netlink socket.
    #[error("can't open a netlink socket")]
    Open(#[source] io::Error),
    /// The kernel answered a question with an error.
    #[error("the kernel refused to list {what}")]
    Dump {
        /// The table that was asked for.
        what: &'static str,
        /// What the kernel said.
        #[source]
        source: Box<rtnetlink::Error>,
    },
    /// No end of an answer.
    #[error("the kernel did not finish its list of addresses and routes within {DUMP:?}")]
    Unfinished,
    /// `pnet` gives no error, but every network namespace has a loopback interface.
    #[error("the kernel listed no interfaces")]
    NoInterfaces,
}

/// Takes one view of this host. It must be called within a tokio runtime with I/O enabled.
///
/// # Errors
///
/// See [`HostError`].
pub async fn snapshot() -> Result<Host, HostError> {
    let (connection, handle, _) = new_connection().map_err(HostError::Open)?;
    let _running = Running(tokio::spawn(connection).abort_handle());
    Ok(look(&handle).await?.0)
}

/// The same, with every router that this host knows of (SUBN-10).
///
/// # Errors
///
/// See [`HostError`].
pub async fn survey() -> Result<(Host, Vec<Router>), HostError> {
    let (connection, handle, _) = new_connection().map_err(HostError::Open)?;
    let _running = Running(tokio::spawn(connection).abort_handle());
    let (host, mut known) = look(&handle).await?;
    timeout(DUMP, routers::add_neighbours(&handle, &mut known))
        .await
        .map_err(|_| HostError::Unfinished)??;
    let router = |((interface, address), known)| Router { interface, address, known };
    Ok((host, known.into_iter().map(router).collect()))
}

/// Keeps `view` up to date until nobody holds a receiver of it; it is set only when the view
/// differs from the last.
///
/// It does not end on an error: when the connection to the kernel is lost it is opened again, and
/// when the kernel had to drop messages (ENOBUFS) a new view is taken all the same.
pub async fn follow(view: watch::Sender<Host>) {
    let mut wait = REOPEN[0];
    let mut complained = false;
    loop {
        let opened = Instant::now();
        let failed = tokio::select! {
            // In this order, so that nothing is looked at for nobody.
            biased;
            () = view.closed() => return,
            failed = follow_one(&view) => failed,
        };
        if opened.elapsed() > UNASKED {
            (wait, complained) = (REOPEN[0], false);
        }
        // Once, not with each attempt.
        if !complained {
            let cause: Option<&dyn std::error::Error> =
                failed.as_ref().map(|error| error as &dyn std::error::Error);
            tracing::warn!(cause, "lost the kernel's reports of address changes; trying again");
            complained = true;
        }
        tokio::select! {
            () = view.closed() => return,
            () = sleep(wait) => {}
        }
        wait = (wait * 2).min(REOPEN[1]);
    }
}

/// Ends a netlink connection's task with the one who uses it.
struct Running(AbortHandle);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Follows over one pair of connections; returns when one is lost, with the error if there is one.
async fn follow_one(view: &watch::Sender<Host>) -> Option<HostError> {
    // Two sockets: a flood of reports on one must not disturb the answers on the other.
    let (reporter, _, mut reports) = match new_multicast_connection(&GROUPS) {
        Ok(opened) => opened,
        Err(error) => return Some(HostError::Open(error)),
    };
    let _reporting = Running(tokio::spawn(reporter).abort_handle());
    let (connection, handle, _) = match new_connection() {
        Ok(opened) => opened,
        Err(error) => return Some(HostError::Open(error)),
    };
    let _answering = Running(tokio::spawn(connection).abort_handle());

    loop {
        // The reports were subscribed to before the first view, so nothing falls in between.
        let began = Instant::now();
        match look(&handle).await {
            Ok((host, _)) => {
                view.send_if_modified(|last| {
                    let differs = *last != host;
                    if differs {
                        *last = host;
                    }
                    differs
                });
            }
            Err(error) => return Some(error),
        }
        let gather = (began.elapsed() * 9).clamp(GATHER, GATHER_AT_MOST);

        // Any message will do, the one that says that others were lost (Overrun) as well.
        match timeout(UNASKED, reports.next()).await {
            Ok(Some(_)) => {}
            Ok(None) => return None,
            Err(_) => continue,
        }
        // Counted from the first report, as a stream of them may never pause.
        let gathering = sleep(gather);
        tokio::pin!(gathering);
        loop {
            tokio::select! {
                biased;
                () = &mut gathering => break,
                report = reports.next() => {
                    report?;
                }
            }
        }
    }
}

async fn look(handle: &Handle) -> Result<(Host, Gateways), HostError> {
    // Interfaces first: an address that comes in between is then missing, not taken for usable.
    let interfaces = datalink::interfaces();
    if interfaces.is_empty() {
        return Err(HostError::NoInterfaces);
    }
    timeout(DUMP, async {
        let unusable = unusable(handle).await?;
        let gateways = routers::gateways(handle).await?;
        Ok((assemble(interfaces, &unusable, &gateways), gateways))
    })
    .await
    .map_err(|_| HostError::Unfinished)?
}

fn assemble(
    listed: Vec<datalink::NetworkInterface>,
    unusable: &BTreeSet<(u32, IpAddr)>,
    gateways: &Gateways,
) -> Host {
    let mut interfaces = BTreeMap::<u32, HostInterface>::new();
    for listed in listed {
        // An interface that went away between being listed and being asked for its index.
        if listed.index == 0 {
            continue;
        }
        // An address with an old-style label (`eth0:1`) is listed as if it were an interface of
        // that name, with the index of the true one.
        let name = listed.name.split(':').next().unwrap_or_default();
        let interface = interfaces.entry(listed.index).or_insert_with(|| HostInterface {
            index: listed.index,
            name: name.to_owned(),
            up: listed.is_up(),
            running: listed.is_running(),
            loopback: listed.is_loopback(),
            addresses: Vec::new(),
            gateways: routers::of_main_table(gateways, listed.index).collect(),
        });
        interface.addresses.extend(
            listed
                .ips
                .iter()
                .filter(|net| !unusable.contains(&(listed.index, net.ip())))
                .filter_map(|net| IpNet::new(net.ip(), net.prefix()).ok()),
        );
    }
    for interface in interfaces.values_mut() {
        interface.addresses.sort_unstable();
        interface.addresses.dedup();
    }
    Host { interfaces: interfaces.into_values().collect() }
}

/// The addresses that exist but can't be sent from: duplicate address detection is not through, or
/// found a duplicate (RFC 4862, 5.4). `pnet` does not show these flags.
async fn unusable(handle: &Handle) -> Result<BTreeSet<(u32, IpAddr)>, HostError> {
    let mut found = BTreeSet::new();
    let mut addresses = std::pin::pin!(handle.address().get().execute());
    while let Some(message) = addresses.next().await {
        let message = message.map_err(|source| refused("addresses", source))?;
        if let Some(address) = unusable_address(&message) {
            found.insert((message.header.index, address));
        }
    }
    Ok(found)
}

fn unusable_address(message: &AddressMessage) -> Option<IpAddr> {
    // The header has room for the low eight flags only, which hold all that matter here.
    let mut flags = AddressFlags::from_bits_retain(message.header.flags.bits().into());
    let (mut local, mut address) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Flags(all) => flags = *all,
            AddressAttribute::Local(ip) => local = Some(*ip),
            // With a point-to-point link this is the other end, and `Local` is ours.
            AddressAttribute::Address(ip) => address = Some(*ip),
            _ => {}
        }
    }
    // An optimistic address may be used while it is tentative (RFC 4429).
    let waiting =
        flags.contains(AddressFlags::Tentative) && !flags.contains(AddressFlags::Optimistic);
    if waiting || flags.contains(AddressFlags::Dadfailed) { local.or(address) } else { None }
}

fn refused(what: &'static str, source: rtnetlink::Error) -> HostError {
    HostError::Dump { what, source: Box::new(source) }
}

#[cfg(test)]
mod tests {
    use evenkeel_core::discovery::Known;
    use rtnetlink::packet_route::address::AddressHeaderFlags;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn listed(name: &str, index: u32, flags: i32, nets: &[&str]) -> datalink::NetworkInterface {
        datalink::NetworkInterface {
            name: name.to_owned(),
            description: String::new(),
            index,
            mac: None,
            ips: nets.iter().map(|net| net.parse().unwrap()).collect(),
            flags: u32::try_from(flags).unwrap(),
        }
    }

    /// What is known of a gateway that a default route of the main table names.
    fn default_route() -> Known {
        let mut known = Known::default();
        known.add_route(254, "0.0.0.0/0".parse().unwrap());
        known
    }

    #[test]
    fn a_view_is_in_order_and_without_what_cannot_be_sent_from() {
        let up = libc::IFF_UP;
        let host = assemble(
            vec![
                listed("eth1", 3, up, &["2001:db8::5/64", "192.0.2.5/24", "192.0.2.4/32"]),
                listed("gone", 0, up, &["192.0.2.99/24"]),
                listed("lo", 1, up | libc::IFF_RUNNING | libc::IFF_LOOPBACK, &["127.0.0.1/8"]),
                listed("eth1:1", 3, up, &["192.0.2.6/24"]),
            ],
            // On another interface the same address is another matter.
            &BTreeSet::from([(3, ip("2001:db8::5")), (3, ip("127.0.0.1"))]),
            &BTreeMap::from([
                ((3, ip("fe80::1")), default_route()),
                ((3, ip("192.0.2.1")), default_route()),
            ]),
        );
        let [lo, eth1] = &host.interfaces[..] else { panic!("{host:?}") };
        assert!(lo.loopback && lo.running && lo.up);
        assert!(eth1.up && !eth1.running && !eth1.loopback);
        assert_eq!(lo.addresses, ["127.0.0.1/8".parse::<IpNet>().unwrap()]);
        assert_eq!(
            eth1.addresses,
            ["192.0.2.4/32", "192.0.2.5/24", "192.0.2.6/24"].map(|net| net.parse().unwrap())
        );
        assert_eq!(eth1.gateways, [ip("192.0.2.1"), ip("fe80::1")]);
        assert_eq!((eth1.name.as_str(), eth1.index), ("eth1", 3));
    }

    #[test]
    fn an_address_is_unusable_while_tentative_or_a_duplicate() {
        let (tentative, optimistic) = (AddressFlags::Tentative, AddressFlags::Optimistic);
        let address = ip("2001:db8::5");
        for (flags, expected) in [
            (AddressFlags::Permanent, None),
            (AddressFlags::Deprecated, None),
            (tentative, Some(address)),
            (tentative | optimistic, None),
            (AddressFlags::Dadfailed, Some(address)),
            (AddressFlags::Dadfailed | tentative | optimistic, Some(address)),
        ] {
            let mut message = AddressMessage::default();
            message.attributes =
                vec![AddressAttribute::Address(address), AddressAttribute::Flags(flags)];
            assert_eq!(unusable_address(&message), expected, "{flags:?}");
            // Old kernels have the flags in the header only.
            message.attributes.pop();
            message.header.flags =
                AddressHeaderFlags::from_bits_retain(u8::try_from(flags.bits()).unwrap());
            assert_eq!(unusable_address(&message), expected, "{flags:?} in the header");
        }
    }

    #[tokio::test]
    async fn this_host_has_a_loopback_interface() {
        let host = snapshot().await.unwrap();
        assert!(host.interfaces.iter().any(|interface| interface.loopback));
        assert!(host.interfaces.iter().all(|interface| !interface.name.is_empty()));
        assert!(host.interfaces.is_sorted_by_key(|interface| interface.index));
    }

    #[tokio::test]
    async fn following_begins_with_a_view_and_ends_with_its_last_reader() {
        let (view, mut reader) = watch::channel(Host::default());
        let following = tokio::spawn(follow(view));
        reader.changed().await.unwrap();
        assert!(!reader.borrow().interfaces.is_empty());
        drop(reader);
        timeout(Duration::from_secs(5), following).await.expect("it ends").unwrap();
    }
}
