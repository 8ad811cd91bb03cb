//! Everything that can enter the core, and everything that can leave it.
//!
//! The driver turns what sockets, the kernel and the configuration say into an [`Input`] and hands
//! it to [`Agent::handle`](crate::agent::Agent::handle): the one door. What a recording holds is
//! the same inputs in the same order, so that replaying one gives the same outputs.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::{
    alarm::{Alarm, AlarmEvent, System},
    finding::Finding,
    settings::Settings,
    state::State,
    time::{Time, WallTime},
    trap::Form,
};

/// One thing that happened outside.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Input<'a> {
    /// A UDP datagram came to one of the trap sockets.
    #[serde(borrow)]
    Datagram(Datagram<'a>),
    /// An ICMP message came that answers, or seems to answer, a poll.
    Reply(Reply),
    /// An echo could not be sent.
    SendFailed(SendFailed),
    /// An ear has handed in all that it received before this moment. Only then may a deadline up
    /// to it be judged: what was received before a deadline counts before it, even if it is
    /// processed after it.
    Heard {
        /// Which ear.
        ear: Ear,
        /// The moment.
        up_to: Time,
        /// How many datagrams were lost at this host since it said so last: what was not heard for
        /// that reason is no evidence.
        lost: u64,
        /// How many datagrams it dropped since then, as their source had sent too many (TRAP-6).
        limited: u64,
    },
    /// A trap of the spool that was taken in by an earlier run, whose records may not have it: it is
    /// judged, and neither answered nor forwarded again.
    Replayed(Box<Taken>),
    /// A notification target has stopped to answer, or answers again (TRAP-11).
    Target {
        /// Its name.
        name: String,
        /// Why it counts as unreachable; nothing if it can be reached.
        unreachable: Option<String>,
        /// When.
        now: Time,
    },
    /// What the peer monitor has found, which is a machine of the core on a thread of its own
    /// (PEER-2, 3, 9, 15).
    Found(Vec<Finding>),
    /// Time has gone by: send what is due.
    Now(Time),
    /// This host's interfaces and addresses, whole, as they are now (SUBN-12).
    Host {
        /// What the kernel reports.
        host: Host,
        /// When.
        now: Time,
    },
    /// A [`Move`] was carried out, or could not be.
    Moved {
        /// Of which subnet.
        subnet: IpNet,
        /// Why it could not be; nothing if it was.
        failed: Option<String>,
        /// When.
        now: Time,
    },
    /// An operator enables the primary interface of a subnet (SUBN-8). What
    /// [`Subnets::may_enable`](crate::subnets::Subnets::may_enable) refuses changes nothing.
    Enable {
        /// Of which subnet.
        subnet: IpNet,
        /// When.
        now: Time,
    },
    /// The configuration was loaded again (INST-15).
    Settings {
        /// The new settings.
        settings: Box<Settings>,
        /// When.
        now: Time,
    },
    /// The wall clock shows this many milliseconds since 1970 at the origin of the monotonic
    /// clock. It is stamped on alarms and decides nothing.
    WallClock {
        /// The offset.
        origin_ms: i64,
    },
    /// This agent of a pair has become primary: the shared state, as the mate left it (PAIR-3). See
    /// [`Agent::adopt`](crate::agent::Agent::adopt).
    Adopt {
        /// The state.
        state: Box<State>,
        /// The last number that the spool has given out.
        last_number: u64,
        /// How long nobody is known to have listened.
        deaf: Duration,
        /// When.
        now: Time,
    },
    /// This agent of a pair is primary no longer.
    Relinquish {
        /// When.
        now: Time,
    },
    /// On the primary: an alarm of the mate's host was raised or cleared there (PAIR-1).
    MateAlarm {
        /// What the mate tells.
        event: Box<AlarmEvent>,
        /// When it came.
        now: Time,
    },
    /// The mate has said its name.
    MateName(String),
    /// On the primary: these are all alarms that are active on the mate's host.
    MateAlarms {
        /// The alarms.
        alarms: Vec<Alarm>,
        /// When they came.
        now: Time,
    },
    /// A trap that the mate had taken in as primary, and that some notification targets have not had when
    /// it stepped back (PAIR-2): it goes on to them from here.
    HandedOver {
        /// The trap. Its number and its targets mean nothing here.
        taken: Box<Taken>,
        /// The names of the targets that it is for.
        targets: Vec<String>,
        /// The mate has judged it, so that the records that came with it heed it.
        heeded: bool,
    },
}

/// A datagram as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Datagram<'a> {
    /// Who sent it. An IPv4 address is never in its mapped form (RFC 4291, 2.5.5.2).
    pub source: SocketAddr,
    /// When the kernel received it.
    pub received: Time,
    /// Where it came to.
    pub door: Door,
    /// The UDP payload.
    #[serde(borrow)]
    pub bytes: &'a [u8],
}

/// Where a datagram came to: what an answer must leave by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Door {
    /// Which of the trap sockets, in the order in which they are configured.
    pub socket: u16,
    /// The address that it was sent to, where that is known.
    pub local: Option<IpAddr>,
    /// The index of the interface that it came by, where that is known.
    pub interface: Option<u32>,
}

/// What goes back to the sender of an inform or of an SNMPv3 request: a Response or a Report. Taken by
/// [`Agent::poll_answer`](crate::agent::Agent::poll_answer).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What it leaves by, with the address that the request was sent to as its source.
    pub door: Door,
    /// Where it goes.
    pub to: SocketAddr,
    /// The message.
    pub bytes: Vec<u8>,
    /// It may leave only when the spool has this number, and all before it, safely on the disk
    /// (TRAP-5). Nothing for a Report, which leaves at once.
    pub after: Option<u64>,
}

/// A trap that was taken in, and that goes on to the spool, to notification targets or to both. Taken
/// by [`Agent::poll_taken`](crate::agent::Agent::poll_taken).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// Its number in the spool, which goes up by one from 1 and on over restarts. Nothing if it need
    /// not be spooled: it is no inform, and no target that acknowledges is sent it.
    pub number: Option<u64>,
    /// When it was received.
    pub received: Time,
    /// The same on the wall clock.
    pub wall: WallTime,
    /// Who sent it.
    pub source: SocketAddr,
    /// Whose it is.
    pub system: System,
    /// The form that it came in.
    pub form: Form,
    /// The low 32 bits of the request-id, which an SNMPv1 trap does not have.
    pub request_id: Option<u32>,
    /// The community, or the security name of SNMPv3.
    pub community: Vec<u8>,
    /// The varbinds of its SNMPv2 form, encoded one after the other: sysUpTime.0 and snmpTrapOID.0
    /// first (RFC 3584, 3.1).
    pub varbinds: Vec<u8>,
    /// The datagram as it came, if a target is sent it byte for byte.
    pub original: Option<Vec<u8>>,
    /// The notification targets that it goes to: places in
    /// [`Forwarding::targets`](crate::settings::Forwarding::targets), as they are in force.
    pub targets: SmallVec<[u16; 4]>,
}

/// The two sources whose events are judged against deadlines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Ear {
    /// The trap sockets.
    Traps,
    /// The ICMP sockets.
    Replies,
}

/// An ICMP or ICMPv6 message that reached us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// Our address: the destination of a reply, or the source of the echo that an error quotes.
    pub local: IpAddr,
    /// The polled address: the source of a reply, or the destination of the echo that an error
    /// quotes.
    pub polled: IpAddr,
    /// The identifier of the echo.
    pub identifier: u16,
    /// The sequence number of the echo.
    pub sequence: u16,
    /// The interface that it came by, where that is known: link-local addresses alone may not
    /// tell two flows apart.
    pub interface: Option<u32>,
    /// When the kernel received it.
    pub received: Time,
    /// What it says.
    pub verdict: Verdict,
}

/// What an ICMP message says of a poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// An echo reply.
    Answered,
    /// Destination unreachable (RFC 792; RFC 4443, 3.1).
    Unreachable,
    /// Time exceeded (RFC 792; RFC 4443, 3.3).
    TimeExceeded,
    /// Any other error that quotes our echo.
    OtherError,
}

/// An echo that the kernel did not take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendFailed {
    /// The echo's source.
    pub local: IpAddr,
    /// The echo's destination.
    pub polled: IpAddr,
    /// The echo's sequence number.
    pub sequence: u16,
    /// The error in words.
    pub error: String,
}

/// This host's interfaces, in the order of their index.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// The interfaces.
    pub interfaces: Vec<HostInterface>,
}

/// One interface of this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostInterface {
    /// The kernel's index.
    pub index: u32,
    /// The name.
    pub name: String,
    /// Administratively up.
    pub up: bool,
    /// The link is there (IFF_RUNNING).
    pub running: bool,
    /// A loopback interface, on which nothing is polled unless it is configured.
    pub loopback: bool,
    /// The addresses with their prefix lengths, sorted.
    pub addresses: Vec<IpNet>,
    /// The gateways that routes name on this interface, sorted.
    pub gateways: Vec<IpAddr>,
}

/// Something to send, taken by [`Agent::poll_transmit`](crate::agent::Agent::poll_transmit).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Echo {
    /// The source address.
    pub local: IpAddr,
    /// The interface to leave by (SUBN-2).
    pub interface: u32,
    /// The destination.
    pub polled: IpAddr,
    /// The identifier.
    pub identifier: u16,
    /// The sequence number.
    pub sequence: u16,
}

/// The addresses of a subnet, to be moved from one interface to another (SUBN-8), taken by
/// [`Agent::poll_move`](crate::agent::Agent::poll_move). Before it is carried out,
/// [`Agent::standbys`](crate::agent::Agent::standbys) must be on the disk; then an [`Input::Moved`] says
/// how it went. It may be carried out twice: what is there already is only announced again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// The subnet.
    pub subnet: IpNet,
    /// The name of the interface that they leave.
    pub from: String,
    /// The name of the one that they come to.
    pub to: String,
    /// The addresses that are to be there in the end, with their prefix lengths; and whatever else of the
    /// subnet is on `from`.
    pub addresses: Vec<IpNet>,
}

/// Something that happened and that others want to know, taken by
/// [`Agent::poll_event`](crate::agent::Agent::poll_event).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An alarm was raised or cleared.
    Alarm(Box<AlarmEvent>),
    /// A flow changed its state.
    Flow {
        /// Its source.
        local: IpAddr,
        /// What it polls.
        polled: IpAddr,
        /// Up or down.
        up: bool,
        /// Why the last poll had no reply, where that is known.
        reason: Option<String>,
    },
    /// Echoes of a flow can't be sent, for a reason that differs from the last one; nothing once
    /// they can be sent again (SUBN-5).
    SendError {
        /// The flow's source.
        local: IpAddr,
        /// What it polls.
        polled: IpAddr,
        /// The error.
        error: Option<String>,
    },
    /// This agent stood still, and polls of that time count for nothing (spec, "Time").
    Stalled {
        /// How late it was.
        late: Duration,
    },
    /// The addresses of a subnet were moved, or could not be (SUBN-8).
    Moved {
        /// The subnet.
        subnet: IpNet,
        /// The name of the interface that they were to come to.
        to: String,
        /// Why they could not be moved; nothing if they were.
        failed: Option<String>,
    },
    /// Something about the configuration that may be what was meant, but does not work now
    /// (SUBN-11).
    Warning(String),
}
