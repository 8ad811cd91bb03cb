//! Moves addresses, and the routes that need them, from one interface to another, by rtnetlink (SUBN-8).
//!
//! All steps of a move are one batch: messages end to end in one `send`, which the kernel works through
//! before the call returns. Whatever ends this process, it ends it before the batch or after it, so that
//! each address is on exactly one of the two interfaces at any moment at which anyone can look.

use std::{io, net::IpAddr};

use evenkeel_core::input::Move;
use ipnet::IpNet;
use rtnetlink::{
    packet_core::{
        NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage,
        NetlinkPayload,
    },
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope},
        route::{RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteType},
    },
    sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE},
};

/// Why addresses could not be moved. They are where they were.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    /// No netlink socket, or no answer.
    #[error("can't talk to the kernel by netlink")]
    Netlink(#[source] io::Error),
    /// The interface that they are to come to is gone.
    #[error("this host has no interface {0} any more")]
    NoInterface(String),
    /// They may not be moved.
    #[error(
        "moving addresses needs CAP_NET_ADMIN: under systemd set AmbientCapabilities=CAP_NET_ADMIN"
    )]
    NotPermitted,
    /// One of them could not be taken away, or could not be given.
    #[error("{address} can't be {what} {interface}")]
    Address {
        /// The address.
        address: IpAddr,
        /// `taken from` or `given to`.
        what: &'static str,
        /// The interface.
        interface: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// Moves what `order` says. Gives back the addresses that are in their new place now, and the routes that
/// could not be brought along, each in words.
///
/// # Errors
///
/// See [`MoveError`]. Then everything is where it was, as far as the kernel allows.
pub fn carry_out(order: &Move) -> Result<(Vec<IpAddr>, Vec<String>), MoveError> {
    let mut kernel = Kernel::open().map_err(MoveError::Netlink)?;
    let (from, to) = (index_of(&order.from), index_of(&order.to));
    let to = to.ok_or_else(|| MoveError::NoInterface(order.to.clone()))?;
    let addresses = kernel.addresses().map_err(MoveError::Netlink)?;
    let routes = kernel.routes(&order.subnet).map_err(MoveError::Netlink)?;
    let steps = Steps::new(order, from, to, &addresses, &routes);
    let answers = kernel.batch(&steps.0).map_err(MoveError::Netlink)?;
    let mut left_behind = Vec::new();
    for (step, answer) in steps.0.iter().zip(answers) {
        let Err(error) = answer else { continue };
        match step.judge(&error) {
            Verdict::Fine => {}
            Verdict::LeftBehind(route) => left_behind.push(format!("{route}: {error}")),
            Verdict::Failed => {
                // Whether that works or not, there is nothing else to be done.
                let _ = kernel.batch(&steps.back());
                return Err(step.error(order, error));
            }
        }
    }
    Ok((order.addresses.iter().map(IpNet::addr).collect(), left_behind))
}

/// The kernel's index of an interface.
fn index_of(name: &str) -> Option<u32> {
    let name = std::ffi::CString::new(name).ok()?;
    // SAFETY: the pointer is to a string that ends with a zero.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    (index > 0).then_some(index)
}

/// One message of a batch.
#[derive(Clone, Debug, PartialEq)]
struct Step {
    message: RouteNetlinkMessage,
    flags: u16,
}

/// What an error of one step means.
enum Verdict {
    /// It is as it should be all the same.
    Fine,
    /// A route, in words, does not come along.
    LeftBehind(String),
    /// The move has failed.
    Failed,
}

impl Step {
    fn take(message: RouteNetlinkMessage) -> Step {
        Step { message, flags: NLM_F_REQUEST | NLM_F_ACK }
    }

    fn give(message: RouteNetlinkMessage) -> Step {
        Step { message, flags: NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL }
    }

    fn judge(&self, error: &io::Error) -> Verdict {
        match (&self.message, error.raw_os_error()) {
            // A secondary address goes with its primary.
            (RouteNetlinkMessage::DelAddress(_), Some(libc::EADDRNOTAVAIL))
            | (RouteNetlinkMessage::NewAddress(_), Some(libc::EEXIST))
            | (RouteNetlinkMessage::DelRoute(_), Some(libc::ESRCH))
            | (RouteNetlinkMessage::NewRoute(_), Some(libc::EEXIST)) => Verdict::Fine,
            (RouteNetlinkMessage::NewRoute(route), _) => Verdict::LeftBehind(in_words(route)),
            _ => Verdict::Failed,
        }
    }

    fn error(&self, order: &Move, source: io::Error) -> MoveError {
        if source.raw_os_error() == Some(libc::EPERM) {
            return MoveError::NotPermitted;
        }
        match &self.message {
            RouteNetlinkMessage::NewAddress(message) => MoveError::Address {
                address: address_of(message).unwrap_or(order.subnet.addr()),
                what: "given to",
                interface: order.to.clone(),
                source,
            },
            RouteNetlinkMessage::DelAddress(message) => MoveError::Address {
                address: address_of(message).unwrap_or(order.subnet.addr()),
                what: "taken from",
                interface: order.from.clone(),
                source,
            },
            _ => MoveError::Netlink(source),
        }
    }
}

/// The steps of a move: routes and addresses are taken, then addresses and routes are given.
#[derive(Debug)]
struct Steps(Vec<Step>);

impl Steps {
    /// `from` may be gone, and with it all that it had.
    fn new(
        order: &Move,
        from: Option<u32>,
        to: u32,
        addresses: &[AddressMessage],
        routes: &[RouteMessage],
    ) -> Steps {
        let of_subnet = |message: &&AddressMessage| {
            address_of(message).is_some_and(|address| order.subnet.contains(&address))
        };
        let on = |index: Option<u32>| {
            let there = addresses.iter().filter(of_subnet);
            there.filter(move |message| Some(message.header.index) == index)
        };
        let has = |index, net: &IpNet| on(index).any(|there| address_of(there) == Some(net.addr()));
        let moving: Vec<&AddressMessage> = on(from).collect();
        let routes: Vec<&RouteMessage> =
            routes.iter().filter(|route| from.is_some() && output(route) == from).collect();
        let mut steps = Vec::new();
        let taken =
            |route: &&RouteMessage| Step::take(RouteNetlinkMessage::DelRoute((*route).clone()));
        steps.extend(routes.iter().map(taken));
        // The kernel lists a primary address before its secondaries, which would go with it.
        for message in moving.iter().rev() {
            steps.push(Step::take(RouteNetlinkMessage::DelAddress((*message).clone())));
        }
        for message in &moving {
            let message = given(message, to, &order.to);
            steps.push(Step::give(RouteNetlinkMessage::NewAddress(message)));
        }
        // What is on neither: an earlier run ended while it put back what it could not move.
        for net in &order.addresses {
            if !has(from, net) && !has(Some(to), net) {
                steps.push(Step::give(RouteNetlinkMessage::NewAddress(made(*net, to))));
            }
        }
        for route in &routes {
            let mut route = (*route).clone();
            for attribute in &mut route.attributes {
                if let RouteAttribute::Oif(index) = attribute {
                    *index = to;
                }
            }
            // The kernel's own notes on the route that was.
            route.attributes.retain(|attribute| !matches!(attribute, RouteAttribute::CacheInfo(_)));
            route.header.flags = Default::default();
            steps.push(Step::give(RouteNetlinkMessage::NewRoute(route)));
        }
        Steps(steps)
    }

    /// What undoes all of it.
    fn back(&self) -> Vec<Step> {
        let undo = |step: &Step| match &step.message {
            RouteNetlinkMessage::DelAddress(message) => {
                Some(Step::give(RouteNetlinkMessage::NewAddress(message.clone())))
            }
            RouteNetlinkMessage::NewAddress(message) => {
                Some(Step::take(RouteNetlinkMessage::DelAddress(message.clone())))
            }
            RouteNetlinkMessage::DelRoute(route) => {
                Some(Step::give(RouteNetlinkMessage::NewRoute(route.clone())))
            }
            RouteNetlinkMessage::NewRoute(route) => {
                Some(Step::take(RouteNetlinkMessage::DelRoute(route.clone())))
            }
            _ => None,
        };
        self.0.iter().rev().filter_map(undo).collect()
    }
}

/// The address that a message is about: ours, where a link has two ends.
fn address_of(message: &AddressMessage) -> Option<IpAddr> {
    let attributes = || message.attributes.iter();
    let local = attributes().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    local.or_else(|| {
        attributes().find_map(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })
    })
}

/// The same address on another interface.
fn given(message: &AddressMessage, index: u32, name: &str) -> AddressMessage {
    let mut message = message.clone();
    message.header.index = index;
    let mut flags = AddressFlags::from_bits_retain(message.header.flags.bits().into());
    message.attributes.retain_mut(|attribute| match attribute {
        AddressAttribute::Flags(all) => {
            flags = *all;
            false
        }
        // A label begins with the name of its interface.
        AddressAttribute::Label(label) => {
            let suffix = label.find(':').map(|at| label[at..].to_owned()).unwrap_or_default();
            *label = format!("{name}{suffix}");
            true
        }
        // Lifetimes of an address that is for ever say so; of others the kernel keeps its own count.
        AddressAttribute::CacheInfo(_) => !flags.contains(AddressFlags::Permanent),
        _ => true,
    });
    flags.remove(
        AddressFlags::Tentative
            | AddressFlags::Dadfailed
            | AddressFlags::Secondary
            | AddressFlags::Permanent,
    );
    // It was ours a moment ago, and nobody can wait for RFC 4862, 5.4.
    if message.header.family == AddressFamily::Inet6 {
        flags.insert(AddressFlags::Nodad);
    }
    message.header.flags = Default::default();
    message.attributes.push(AddressAttribute::Flags(flags));
    message
}

/// An address of which no more is known than itself.
fn made(net: IpNet, index: u32) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.index = index;
    message.header.prefix_len = net.prefix_len();
    message.header.scope = AddressScope::Universe;
    let address = net.addr();
    message.attributes.push(AddressAttribute::Address(address));
    match net {
        IpNet::V4(net) => {
            message.header.family = AddressFamily::Inet;
            message.attributes.push(AddressAttribute::Local(address));
            if net.prefix_len() < 31 {
                message.attributes.push(AddressAttribute::Broadcast(net.broadcast()));
            }
        }
        IpNet::V6(_) => {
            message.header.family = AddressFamily::Inet6;
            message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
    }
    message
}

/// The interface that a route leaves by.
fn output(route: &RouteMessage) -> Option<u32> {
    route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    })
}

/// Whether a route needs the subnet: its gateway is there. Those that the kernel makes for an address go
/// and come with it, those of router advertisements come with the next one (RFC 4861), and one with
/// several next hops is left to who made it.
fn needs(route: &RouteMessage, subnet: &IpNet) -> bool {
    let gateway = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(RouteAddress::Inet(address)) => Some(IpAddr::V4(*address)),
        RouteAttribute::Gateway(RouteAddress::Inet6(address)) => Some(IpAddr::V6(*address)),
        _ => None,
    });
    route.header.kind == RouteType::Unicast
        && !matches!(
            route.header.protocol,
            RouteProtocol::Kernel | RouteProtocol::Ra | RouteProtocol::IcmpRedirect
        )
        && gateway.is_some_and(|gateway| subnet.contains(&gateway))
}

fn in_words(route: &RouteMessage) -> String {
    let destination = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(address)) => Some(IpAddr::V4(*address)),
        RouteAttribute::Destination(RouteAddress::Inet6(address)) => Some(IpAddr::V6(*address)),
        _ => None,
    });
    match destination {
        Some(address) => {
            format!("the route to {address}/{}", route.header.destination_prefix_length)
        }
        None => "the default route".to_owned(),
    }
}

/// The kernel's end of rtnetlink.
struct Kernel {
    socket: Socket,
    sequence: u32,
}

impl Kernel {
    fn open() -> io::Result<Kernel> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        // Acknowledgements then leave out what they acknowledge.
        socket.set_cap_ack(true)?;
        Ok(Kernel { socket, sequence: 0 })
    }

    fn addresses(&mut self) -> io::Result<Vec<AddressMessage>> {
        let all = self.dump(RouteNetlinkMessage::GetAddress(AddressMessage::default()))?;
        let addresses = all.into_iter().filter_map(|message| match message {
            RouteNetlinkMessage::NewAddress(address) => Some(address),
            _ => None,
        });
        Ok(addresses.collect())
    }

    /// The routes that need a subnet.
    fn routes(&mut self, subnet: &IpNet) -> io::Result<Vec<RouteMessage>> {
        let mut all = RouteMessage::default();
        all.header.address_family = match subnet {
            IpNet::V4(_) => AddressFamily::Inet,
            IpNet::V6(_) => AddressFamily::Inet6,
        };
        let all = self.dump(RouteNetlinkMessage::GetRoute(all))?;
        let routes = all.into_iter().filter_map(|message| match message {
            RouteNetlinkMessage::NewRoute(route) => Some(route),
            _ => None,
        });
        Ok(routes.filter(|route| needs(route, subnet)).collect())
    }

    fn message(&mut self, message: RouteNetlinkMessage, flags: u16) -> Vec<u8> {
        self.sequence += 1;
        let mut message = NetlinkMessage::from(message);
        message.header.flags = flags;
        message.header.sequence_number = self.sequence;
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        bytes
    }

    fn dump(&mut self, what: RouteNetlinkMessage) -> io::Result<Vec<RouteNetlinkMessage>> {
        let request = self.message(what, NLM_F_REQUEST | NLM_F_DUMP);
        self.socket.send(&request, 0)?;
        let mut found = Vec::new();
        loop {
            for message in self.receive()? {
                match message.payload {
                    NetlinkPayload::InnerMessage(message) => found.push(message),
                    NetlinkPayload::Error(error) => return Err(error.to_io()),
                    NetlinkPayload::Done(_) => return Ok(found),
                    _ => {}
                }
            }
        }
    }

    /// Sends all steps at once, and gives back what became of each.
    fn batch(&mut self, steps: &[Step]) -> io::Result<Vec<io::Result<()>>> {
        if steps.is_empty() {
            return Ok(Vec::new());
        }
        let first = self.sequence + 1;
        let mut bytes = Vec::new();
        for step in steps {
            bytes.extend(self.message(step.message.clone(), step.flags));
            // Each begins at a multiple of four (NLMSG_ALIGN).
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        self.socket.send(&bytes, 0)?;
        let mut answers: Vec<Option<io::Result<()>>> = steps.iter().map(|_| None).collect();
        while answers.iter().any(Option::is_none) {
            for message in self.receive()? {
                let place = message.header.sequence_number.wrapping_sub(first) as usize;
                if let (Some(answer), NetlinkPayload::Error(error)) =
                    (answers.get_mut(place), message.payload)
                {
                    *answer = Some(match error.code {
                        None => Ok(()),
                        Some(_) => Err(error.to_io()),
                    });
                }
            }
        }
        Ok(answers.into_iter().flatten().collect())
    }

    fn receive(&self) -> io::Result<Vec<NetlinkMessage<RouteNetlinkMessage>>> {
        let (bytes, _) = self.socket.recv_from_full()?;
        let mut rest = &bytes[..];
        let mut messages = Vec::new();
        while rest.len() >= 16 {
            let message = NetlinkMessage::deserialize(rest)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
            let length = (message.header.length as usize).next_multiple_of(4).max(16);
            messages.push(message);
            rest = rest.get(length..).unwrap_or_default();
        }
        Ok(messages)
    }
}
