//! Messages for a syslog server (RFC 5424), by UDP (RFC 5426) or TCP (RFC 6587).

use std::{
    fmt::Write as _,
    io::{self, Write},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket},
    time::Duration,
};

use evenkeel_core::alarm::{AlarmEvent, Severity};

use super::{Transport, event};

/// What structured data is named by: net-snmp's enterprise number, below which EVENKEEL-MIB has its place
/// by default (RFC 5424, 6.3.2).
const SD_ID: &str = "evenkeel@8072";

/// The longest message by UDP that every receiver must take (RFC 5426, 3.2, and RFC 5424, 6.1), and more than
/// any alarm has.
const LONGEST: usize = 2048;

/// One message.
pub fn message(agent: &str, facility: u8, sequence: u64, told: &AlarmEvent) -> String {
    let alarm = &told.alarm;
    let severity = match (told.cleared, alarm.severity) {
        // RFC 5424, table 2.
        (Some(_), _) => 5,
        (None, Severity::Critical) => 2,
        (None, Severity::Major) => 3,
        (None, Severity::Minor | Severity::Warning) => 4,
    };
    let mut message = format!(
        "<{}>1 {} {} evenkeel {} {} [{SD_ID}",
        u16::from(facility) * 8 + severity,
        event::utc(told.wall),
        header(agent),
        std::process::id(),
        alarm.kind.name(),
    );
    let mut parameter = |name: &str, value: &str| {
        // Writing to a string never fails.
        let _ = write!(message, " {name}=\"{}\"", quoted(value));
    };
    parameter("event", event::name(told));
    parameter("id", &alarm.id.to_string());
    parameter("severity", alarm.severity.name());
    parameter("sequence", &sequence.to_string());
    for (name, value) in event::parts(&alarm.object) {
        parameter(name, &value);
    }
    if let Some(reason) = told.cleared {
        parameter("reason", reason.name());
    }
    let text: String =
        alarm.text.chars().map(|char| if char.is_control() { ' ' } else { char }).collect();
    message.push_str("] ");
    message.push_str(&text);
    let end = (0..=LONGEST.min(message.len())).rev().find(|at| message.is_char_boundary(*at));
    message.truncate(end.unwrap_or(0));
    message
}

/// A field of the header: printable ASCII without spaces (RFC 5424, 6).
fn header(text: &str) -> String {
    let field: String = text.chars().filter(char::is_ascii_graphic).take(255).collect();
    if field.is_empty() { "-".to_owned() } else { field }
}

/// A value of structured data (RFC 5424, 6.3.3).
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len());
    for char in text.chars().filter(|char| !char.is_control()) {
        if matches!(char, '"' | '\\' | ']') {
            quoted.push('\\');
        }
        quoted.push(char);
    }
    quoted
}

/// The way to one server. It blocks.
#[derive(Debug)]
pub struct Sender {
    address: SocketAddr,
    transport: Transport,
    timeout: Duration,
    open: Option<Open>,
}

#[derive(Debug)]
enum Open {
    Udp(UdpSocket),
    Tcp(TcpStream),
}

impl Sender {
    /// A way that is opened when it is first needed, and again after an error.
    pub const fn new(address: SocketAddr, transport: Transport, timeout: Duration) -> Sender {
        Sender { address, transport, timeout, open: None }
    }

    /// Sends these messages.
    ///
    /// # Errors
    ///
    /// Not all of them were taken by the kernel.
    pub fn send(&mut self, messages: &[String]) -> io::Result<()> {
        let mut open = match self.open.take() {
            Some(open) if !open.has_ended() => open,
            Some(_) | None => self.connect()?,
        };
        for message in messages {
            match &mut open {
                Open::Udp(socket) => {
                    socket.send(message.as_bytes())?;
                }
                Open::Tcp(stream) => {
                    stream.write_all(format!("{} {message}", message.len()).as_bytes())?;
                }
            }
        }
        self.open = Some(open);
        Ok(())
    }

    fn connect(&self) -> io::Result<Open> {
        match self.transport {
            Transport::Udp => {
                let any: SocketAddr = match self.address {
                    SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
                    SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
                };
                let socket = UdpSocket::bind(any)?;
                socket.connect(self.address)?;
                socket.set_write_timeout(Some(self.timeout))?;
                Ok(Open::Udp(socket))
            }
            Transport::Tcp => {
                let stream = TcpStream::connect_timeout(&self.address, self.timeout)?;
                stream.set_write_timeout(Some(self.timeout))?;
                stream.set_nodelay(true)?;
                Ok(Open::Tcp(stream))
            }
        }
    }
}

impl Open {
    /// A server that has closed the connection would let the first write succeed all the same, and what it
    /// held would be lost.
    fn has_ended(&self) -> bool {
        let Open::Tcp(stream) = self else { return false };
        let mut octet = [0];
        let peeked = stream.set_nonblocking(true).and_then(|()| stream.peek(&mut octet));
        let waits = matches!(&peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock);
        let blocking = stream.set_nonblocking(false);
        // A server has nothing to say (RFC 6587), so whatever there is to read is the end.
        !waits || blocking.is_err()
    }
}

#[cfg(test)]
mod tests {
    use evenkeel_core::{
        alarm::{ClearReason, Kind, Object},
        alarms::Alarms,
        finding::Finding,
        time::Time,
    };

    use super::*;

    #[test]
    fn a_message_is_one_of_rfc_5424() {
        let mut alarms = Alarms::default();
        let object = || Object::OwnInterface("et\"h]\\0\n".into());
        let raise = Finding::raise(
            Kind::InterfaceDown,
            object(),
            "its link\nis gone".into(),
            Time::from_secs(10),
        );
        let raised = alarms.apply(raise).unwrap();
        let clear =
            Finding::clear(Kind::InterfaceDown, object(), ClearReason::Ended, Time::from_secs(70));
        let cleared = alarms.apply(clear).unwrap();
        let pid = std::process::id();
        let id = raised.alarm.id;
        let one = message("keel 1", 16, 7, &raised);
        let parameters = format!(
            "[evenkeel@8072 event=\"raise\" id=\"{id}\" severity=\"minor\" sequence=\"7\" \
             interface=\"et\\\"h\\]\\\\0\"] "
        );
        let head = format!("<132>1 1970-01-01T00:00:10.000Z keel1 evenkeel {pid} interface_down ");
        assert!(one.starts_with(&(head + &parameters)), "{one}");
        assert!(!one.contains('\n'));
        assert!(message("keel 1", 16, 8, &cleared).starts_with("<133>1 1970-01-01T00:01:10.000Z"));
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let mut alarms = Alarms::default();
        let raise = Finding::raise(
            Kind::InterfaceDown,
            Object::OwnInterface("eth0".into()),
            "ü".repeat(5_000),
            Time::from_secs(10),
        );
        let raised = alarms.apply(raise).unwrap();
        let message = message("keel-1", 16, 7, &raised);
        assert!((LONGEST - 1..=LONGEST).contains(&message.len()));
    }
}
