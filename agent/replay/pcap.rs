//! Reads the traps out of a capture file, pcap or pcapng, one after the other.
//!
//! The containers are read with `pcap-parser`, in pieces, so that a capture may be larger than
//! memory; what is in a frame is found out in `frame.rs`. Whatever is not a whole datagram to one
//! of the wanted ports is counted by reason and left out. A file that was cut off or damaged gives
//! what could be read before that place, and a warning.

use std::{
    fmt,
    fs::File,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use pcap_parser::{Block, PcapBlockOwned, PcapError, create_reader, traits::PcapNGPacketBlock};

use super::frame::{self, Nothing};

/// The ports that traps are captured on: the assigned one, and the one of (D)TLS (RFC 6353),
/// which many agents without root use for plain traps too.
pub const TRAP_PORTS: [u16; 2] = [162, 10162];

/// How much of the file is in memory at first; it grows for larger packets.
const BUFFER: usize = 16 * 1024;
/// The largest single block that is taken in; one that claims to be larger is damage.
const LARGEST_BLOCK: usize = 16 * 1024 * 1024;

/// One UDP datagram out of a capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CapturedDatagram {
    /// When it was captured, counted from the first packet in the file, whatever that was. Never
    /// less than that of the datagram before it.
    pub at: Duration,
    /// The time stamp as the file has it, in nanoseconds since 1970.
    pub wall_ns: i64,
    /// Who sent it.
    pub source: SocketAddr,
    /// Where it was sent.
    pub destination: SocketAddr,
    /// The UDP payload.
    pub payload: Vec<u8>,
}

/// What was in a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Packets of any kind.
    pub packets: u64,
    /// Datagrams that were handed out.
    pub datagrams: u64,
    /// Packets that were left out, by reason.
    pub skipped: Skipped,
    /// Datagrams whose time stamp was before that of an earlier one, or before the first packet's;
    /// their `at` is that of the one before.
    pub out_of_order: u64,
    /// Packets without a time stamp (pcapng simple packets), given that of the one before.
    pub untimed: u64,
    /// Why the file could not be read to its end.
    pub warning: Option<String>,
}

/// Packets that were left out, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Not UDP over IPv4 or IPv6.
    pub not_udp: u64,
    /// UDP to other ports.
    pub other_port: u64,
    /// Fragments of UDP datagrams, which are not put together.
    pub fragments: u64,
    /// Captured only in part (the snapshot length of the capture).
    pub truncated: u64,
    /// Headers whose lengths make no sense.
    pub malformed: u64,
    /// Of an interface with a link type that is not known here, or of one that the file does not
    /// describe.
    pub unknown_link: u64,
}

/// Why a file could not be read at all.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// It can't be opened.
    #[error("can't open the capture {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It is something else, or was cut off within its first header.
    #[error(
        "{} is neither a pcap nor a pcapng file (a compressed capture must be unpacked first)",
        path.display()
    )]
    NotACapture {
        /// The file.
        path: PathBuf,
    },
}

/// Hands each datagram to one of `ports` in the capture at `path` to `each`, in the order of the
/// file.
///
/// # Errors
///
/// When the file can't be opened or is no capture. Anything that goes wrong later is the
/// [`Summary::warning`].
pub fn read(
    path: &Path,
    ports: &[u16],
    each: impl FnMut(CapturedDatagram),
) -> Result<Summary, ReplayError> {
    let file =
        File::open(path).map_err(|source| ReplayError::Open { path: path.to_owned(), source })?;
    read_from(file, ports, each).ok_or_else(|| ReplayError::NotACapture { path: path.to_owned() })
}

impl fmt::Display for Summary {
    /// One line, such as `12 datagrams in 40 packets; left out: 28 not UDP`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} datagrams in {} packets", self.datagrams, self.packets)?;
        let Skipped { not_udp, other_port, fragments, truncated, malformed, unknown_link } =
            self.skipped;
        let mut before = "; left out: ";
        for (count, what) in [
            (not_udp, "not UDP"),
            (other_port, "to other ports"),
            (fragments, "fragments (not put together)"),
            (truncated, "cut short by the capture's snapshot length"),
            (malformed, "malformed"),
            (unknown_link, "of an unknown link type"),
        ] {
            if count > 0 {
                write!(f, "{before}{count} {what}")?;
                before = ", ";
            }
        }
        if self.out_of_order > 0 {
            write!(f, "; {} with time stamps that go backwards", self.out_of_order)?;
        }
        if self.untimed > 0 {
            write!(f, "; {} without time stamps", self.untimed)?;
        }
        if let Some(warning) = &self.warning {
            write!(f, "; {warning}")?;
        }
        Ok(())
    }
}

/// Nothing if it is not a capture.
fn read_from(
    file: impl io::Read + Send,
    ports: &[u16],
    each: impl FnMut(CapturedDatagram),
) -> Option<Summary> {
    let mut reader = create_reader(BUFFER, file).ok()?;
    let mut capacity = BUFFER;
    let mut walk = Walk::new(ports, each);
    let problem = loop {
        match reader.next() {
            Ok((length, block)) => {
                walk.block(&block);
                reader.consume(length);
            }
            Err(PcapError::Eof) => break None,
            // Read on before making room: at the end of the file a block that claims to be large
            // is one that was cut off.
            Err(PcapError::Incomplete(_) | PcapError::BufferTooSmall) => {
                let before = reader.data().len();
                if reader.refill().is_err() {
                    break Some("could not be read further");
                }
                if reader.data().len() == before && !reader.reader_exhausted() {
                    capacity *= 2;
                    if capacity > LARGEST_BLOCK || !reader.grow(capacity) {
                        break Some("is damaged (or has a block of more than 16 MiB)");
                    }
                }
            }
            Err(PcapError::UnexpectedEof) => break Some("was cut off in the middle of a packet"),
            Err(_) => break Some("is damaged"),
        }
    };
    walk.summary.warning =
        problem.map(|problem| format!("the file {problem}, after octet {}", reader.consumed()));
    Some(walk.summary)
}

/// What has to be remembered from block to block.
struct Walk<'p, F> {
    ports: &'p [u16],
    each: F,
    summary: Summary,
    /// The interfaces of the current section; a pcap file has one.
    interfaces: Vec<Interface>,
    big_endian: bool,
    first_ns: Option<i64>,
    last_ns: i64,
    last_at: Duration,
}

/// How the packets of one interface are to be read.
#[derive(Clone, Copy)]
struct Interface {
    link: i32,
    clock: Clock,
}

/// What a time stamp counts.
#[derive(Clone, Copy)]
struct Clock {
    /// As the pcapng option has it: units of 10^-n seconds, or of 2^-n with the highest bit set.
    resolution: u8,
    offset_s: i64,
}

impl Clock {
    const MICROSECONDS: Clock = Clock { resolution: 6, offset_s: 0 };
    const NANOSECONDS: Clock = Clock { resolution: 9, offset_s: 0 };

    /// Nanoseconds since 1970. `pcap-parser` has a function for this, but it refuses binary
    /// resolutions and truncates fractions beyond 32 bits.
    fn nanos(self, units: u64) -> i64 {
        let scaled = u128::from(units) * 1_000_000_000;
        let exponent = u32::from(self.resolution & 0x7f);
        let nanos = if self.resolution & 0x80 != 0 {
            scaled >> exponent
        } else {
            // More than 38 digits: less than a nanosecond, whatever the stamp.
            10_u128.checked_pow(exponent).map_or(0, |units| scaled / units)
        };
        let offset = i128::from(self.offset_s) * 1_000_000_000;
        let total = offset.saturating_add(i128::try_from(nanos).unwrap_or(i128::MAX));
        i64::try_from(total).unwrap_or(if total < 0 { i64::MIN } else { i64::MAX })
    }
}

impl<'p, F: FnMut(CapturedDatagram)> Walk<'p, F> {
    fn new(ports: &'p [u16], each: F) -> Self {
        Walk {
            ports,
            each,
            summary: Summary::default(),
            interfaces: Vec::new(),
            big_endian: false,
            first_ns: None,
            last_ns: 0,
            last_at: Duration::ZERO,
        }
    }

    fn block(&mut self, block: &PcapBlockOwned<'_>) {
        match block {
            PcapBlockOwned::LegacyHeader(header) => {
                let clock = if header.is_nanosecond_precision() {
                    Clock::NANOSECONDS
                } else {
                    Clock::MICROSECONDS
                };
                // The upper half of the field says how long frame check sequences are.
                let link = header.network.0 & 0xffff;
                self.interfaces = vec![Interface { link, clock }];
            }
            PcapBlockOwned::Legacy(packet) => {
                let Some(interface) = self.interfaces.first().copied() else {
                    return;
                };
                let fraction = Clock { offset_s: i64::from(packet.ts_sec), ..interface.clock };
                let stamp = fraction.nanos(packet.ts_usec.into());
                let cut = packet.caplen < packet.origlen;
                self.packet(Some(interface), Some(stamp), packet.data, cut);
            }
            PcapBlockOwned::NG(Block::SectionHeader(section)) => {
                self.big_endian = section.big_endian();
                self.interfaces.clear();
            }
            PcapBlockOwned::NG(Block::InterfaceDescription(description)) => {
                // `pcap-parser` reads this option as little-endian in every file.
                let offset_s = if self.big_endian {
                    description.if_tsoffset.swap_bytes()
                } else {
                    description.if_tsoffset
                };
                let clock = Clock { resolution: description.if_tsresol, offset_s };
                self.interfaces.push(Interface { link: description.linktype.0, clock });
            }
            PcapBlockOwned::NG(Block::EnhancedPacket(packet)) => {
                let interface = usize::try_from(packet.if_id)
                    .ok()
                    .and_then(|id| self.interfaces.get(id).copied());
                let units = u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low);
                let stamp = interface.map(|interface| interface.clock.nanos(units));
                let cut = packet.caplen < packet.origlen;
                self.packet(interface, stamp, packet.packet_data(), cut);
            }
            PcapBlockOwned::NG(Block::SimplePacket(packet)) => {
                let data = packet.packet_data();
                let cut = usize::try_from(packet.origlen).is_ok_and(|whole| data.len() < whole);
                self.packet(self.interfaces.first().copied(), None, data, cut);
            }
            PcapBlockOwned::NG(_) => {}
        }
    }

    fn packet(&mut self, interface: Option<Interface>, stamp: Option<i64>, data: &[u8], cut: bool) {
        self.summary.packets += 1;
        match stamp {
            Some(stamp) => self.last_ns = stamp,
            None => self.summary.untimed += 1,
        }
        let wall_ns = self.last_ns;
        if stamp.is_some() {
            self.first_ns.get_or_insert(wall_ns);
        }

        let skipped = &mut self.summary.skipped;
        let found = match interface {
            Some(interface) => frame::datagram(interface.link, data, self.ports),
            None => Err(Nothing::UnknownLink),
        };
        let found = match found {
            Ok(found) => found,
            Err(nothing) => {
                *match nothing {
                    Nothing::NotUdp => &mut skipped.not_udp,
                    Nothing::OtherPort => &mut skipped.other_port,
                    Nothing::Fragment => &mut skipped.fragments,
                    Nothing::Short if cut => &mut skipped.truncated,
                    Nothing::Short | Nothing::Malformed => &mut skipped.malformed,
                    Nothing::UnknownLink => &mut skipped.unknown_link,
                } += 1;
                return;
            }
        };

        let since_first = i128::from(wall_ns) - i128::from(self.first_ns.unwrap_or(wall_ns));
        let at = u64::try_from(since_first).ok().map(Duration::from_nanos);
        match at {
            Some(at) if at >= self.last_at => self.last_at = at,
            _ => self.summary.out_of_order += 1,
        }
        self.summary.datagrams += 1;
        (self.each)(CapturedDatagram {
            at: self.last_at,
            wall_ns,
            source: found.source,
            destination: found.destination,
            payload: found.payload.to_vec(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRAP: &[u8] = b"a trap";
    const ETHERNET: u32 = 1;

    fn udp(port: u16) -> Vec<u8> {
        let length = u16::try_from(8 + TRAP.len()).unwrap();
        let mut segment = [40_000, port, length, 0].map(u16::to_be_bytes).concat();
        segment.extend(TRAP);
        segment
    }

    /// IPv4 with `fragment` as the flags and the fragment offset.
    fn ipv4(protocol: u8, fragment: u16, inner: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x45, 0];
        packet.extend(u16::try_from(20 + inner.len()).unwrap().to_be_bytes());
        packet.extend([0, 1]);
        packet.extend(fragment.to_be_bytes());
        packet.extend([64, protocol, 0, 0, 192, 0, 2, 1, 198, 51, 100, 7]);
        packet.extend(inner);
        packet
    }

    fn ipv6(next: u8, inner: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x60, 0, 0, 0];
        packet.extend(u16::try_from(inner.len()).unwrap().to_be_bytes());
        packet.extend([next, 64]);
        packet.extend("2001:db8::1".parse::<std::net::Ipv6Addr>().unwrap().octets());
        packet.extend("2001:db8::2".parse::<std::net::Ipv6Addr>().unwrap().octets());
        packet.extend(inner);
        packet
    }

    fn ethernet(types: &[u16], inner: &[u8]) -> Vec<u8> {
        let mut frame = vec![2; 12];
        let (last, tags) = types.split_last().unwrap();
        for tag in tags {
            frame.extend(tag.to_be_bytes());
            frame.extend([0, 7]);
        }
        frame.extend(last.to_be_bytes());
        frame.extend(inner);
        frame
    }

    fn trap_frame() -> Vec<u8> {
        ethernet(&[0x0800], &ipv4(17, 0, &udp(162)))
    }

    /// In which order the octets of a number are written, and how.
    #[derive(Clone, Copy)]
    enum Order {
        Big,
        Little,
    }

    impl Order {
        fn u32(self, number: u32) -> [u8; 4] {
            match self {
                Order::Big => number.to_be_bytes(),
                Order::Little => number.to_le_bytes(),
            }
        }

        fn u16(self, number: u16) -> [u8; 2] {
            match self {
                Order::Big => number.to_be_bytes(),
                Order::Little => number.to_le_bytes(),
            }
        }
    }

    /// A pcap file of frames with seconds, fractions and lost octets.
    fn pcap(order: Order, magic: u32, link: u32, frames: &[(u32, u32, &[u8], u32)]) -> Vec<u8> {
        let mut file = order.u32(magic).to_vec();
        file.extend(order.u16(2));
        file.extend(order.u16(4));
        for number in [0, 0, 65535, link] {
            file.extend(order.u32(number));
        }
        for (secs, fraction, frame, lost) in frames {
            let length = u32::try_from(frame.len()).unwrap();
            for number in [*secs, *fraction, length, length + lost] {
                file.extend(order.u32(number));
            }
            file.extend(*frame);
        }
        file
    }

    fn ng_block(order: Order, kind: u32, content: &[u8]) -> Vec<u8> {
        let padded = content.len().next_multiple_of(4);
        let length = order.u32(u32::try_from(12 + padded).unwrap());
        let mut block = order.u32(kind).to_vec();
        block.extend(length);
        block.extend(content);
        block.resize(8 + padded, 0);
        block.extend(length);
        block
    }

    fn ng_section(order: Order) -> Vec<u8> {
        let mut content = order.u32(0x1a2b_3c4d).to_vec();
        content.extend(order.u16(1));
        content.extend(order.u16(0));
        content.extend([0xff; 8]);
        ng_block(order, 0x0a0d_0d0a, &content)
    }

    fn ng_interface(order: Order, link: u16, resolution: u8, offset: i64) -> Vec<u8> {
        let mut content = order.u16(link).to_vec();
        content.extend([0, 0]);
        content.extend(order.u32(65535));
        content.extend([order.u16(9), order.u16(1)].concat());
        content.extend([resolution, 0, 0, 0]);
        content.extend([order.u16(14), order.u16(8)].concat());
        content.extend(match order {
            Order::Big => offset.to_be_bytes(),
            Order::Little => offset.to_le_bytes(),
        });
        content.extend([0; 4]);
        ng_block(order, 1, &content)
    }

    fn ng_packet(order: Order, interface: u32, units: u64, frame: &[u8]) -> Vec<u8> {
        let length = u32::try_from(frame.len()).unwrap();
        let (high, low) = ((units >> 32) as u32, units as u32);
        let mut content = Vec::new();
        for number in [interface, high, low, length, length] {
            content.extend(order.u32(number));
        }
        content.extend(frame);
        ng_block(order, 6, &content)
    }

    fn read_all(file: &[u8]) -> (Vec<CapturedDatagram>, Summary) {
        let mut datagrams = Vec::new();
        let summary =
            read_from(file, &TRAP_PORTS, |datagram| datagrams.push(datagram)).expect("a capture");
        (datagrams, summary)
    }

    #[test]
    fn pcap_in_both_orders_and_both_resolutions() {
        for order in [Order::Big, Order::Little] {
            for (magic, fraction) in [(0xa1b2_c3d4, 500_000), (0xa1b2_3c4d, 500_000_000)] {
                let trap = trap_frame();
                let file =
                    pcap(order, magic, ETHERNET, &[(10, 0, &trap, 0), (12, fraction, &trap, 0)]);
                let (datagrams, summary) = read_all(&file);
                assert_eq!(summary.to_string(), "2 datagrams in 2 packets");
                assert_eq!(
                    datagrams[1],
                    CapturedDatagram {
                        at: Duration::from_millis(2500),
                        wall_ns: 12_500_000_000,
                        source: "192.0.2.1:40000".parse().unwrap(),
                        destination: "198.51.100.7:162".parse().unwrap(),
                        payload: TRAP.to_vec(),
                    }
                );
            }
        }
    }

    #[test]
    fn pcapng_with_interfaces_of_different_clocks_and_link_types() {
        for order in [Order::Big, Order::Little] {
            let raw = ipv4(17, 0, &udp(162));
            let mut file = ng_section(order);
            file.extend(ng_interface(order, 1, 6, 0));
            file.extend(ng_interface(order, 101, 9, 100));
            // Units of 2^-20 s.
            file.extend(ng_interface(order, 101, 0x94, 0));
            file.extend(ng_packet(order, 0, 150_000_000, &trap_frame()));
            file.extend(ng_packet(order, 1, 51_000_000_001, &raw));
            file.extend(ng_packet(order, 2, (152 << 20) + (1 << 19), &raw));
            // A simple packet: the length, then the frame; it has no time.
            let mut simple = order.u32(u32::try_from(trap_frame().len()).unwrap()).to_vec();
            simple.extend(trap_frame());
            file.extend(ng_block(order, 3, &simple));
            // An interface that nothing describes, and a block of an unknown kind.
            file.extend(ng_packet(order, 9, 0, &raw));
            file.extend(ng_block(order, 0x7777, b"whatever"));

            let (datagrams, summary) = read_all(&file);
            let times: Vec<_> = datagrams.iter().map(|datagram| datagram.at.as_nanos()).collect();
            assert_eq!(times, [0, 1_000_000_001, 2_500_000_000, 2_500_000_000]);
            assert_eq!(datagrams[1].wall_ns, 151_000_000_001);
            assert_eq!((summary.packets, summary.skipped.unknown_link), (5, 1));
            // The simple packet, and the one of the interface without a clock.
            assert_eq!(summary.untimed, 2);
            assert_eq!(summary.warning, None);
        }
    }

    #[test]
    fn every_link_type_and_both_ip_versions() {
        let (v4, v6) = (ipv4(17, 0, &udp(162)), ipv6(17, &udp(10162)));
        let with = |header: &[u8], inner: &[u8]| [header, inner].concat();
        let cooked = |kind: u16| [&[0; 14][..], &kind.to_be_bytes()].concat();
        let cooked2 = |kind: u16| [&kind.to_be_bytes()[..], &[0; 18]].concat();
        let mut padded = trap_frame();
        padded.extend([0; 6]);
        for (link, frame) in [
            (1, padded),
            (1, ethernet(&[0x86dd], &v6)),
            (1, ethernet(&[0x8100, 0x0800], &v4)),
            (1, ethernet(&[0x88a8, 0x8100, 0x86dd], &v6)),
            (1, ethernet(&[0x9100, 0x8100, 0x0800], &v4)),
            (101, v4.clone()),
            (101, v6.clone()),
            (12, v4.clone()),
            (228, v4.clone()),
            (229, v6.clone()),
            (113, with(&cooked(0x0800), &v4)),
            (276, with(&cooked2(0x86dd), &v6)),
            (0, with(&[2, 0, 0, 0], &v4)),
            (0, with(&[0, 0, 0, 30], &v6)),
            (108, with(&[0, 0, 0, 2], &v4)),
        ] {
            let file = pcap(Order::Little, 0xa1b2_c3d4, link, &[(0, 0, &frame, 0)]);
            let (datagrams, summary) = read_all(&file);
            assert_eq!(summary.datagrams, 1, "link type {link}: {summary}");
            assert_eq!(datagrams[0].payload, TRAP, "link type {link}");
        }
    }

    #[test]
    fn what_is_left_out_is_counted_by_reason() {
        let trap = trap_frame();
        let udp = udp(162);
        // Hop-by-hop options, then an atomic fragment: whole (RFC 6946). With an offset: not.
        let options = [&[44, 0, 0, 0, 0, 0, 0, 0][..], &[17, 0, 0, 0, 0, 0, 0, 9], &udp].concat();
        let fragment = [&[17, 0, 0, 8, 0, 0, 0, 9][..], &udp].concat();
        let icmp_fragment = [&[58, 0, 0, 8, 0, 0, 0, 9][..], &udp].concat();
        let mut bad_length = trap.clone();
        bad_length[14 + 20 + 5] = 3;
        let frames = [
            (ethernet(&[0x86dd], &ipv6(0, &options)), 0),
            (ethernet(&[0x86dd], &ipv6(44, &fragment)), 0),
            (ethernet(&[0x0800], &ipv4(17, 0x2000, &udp)), 0),
            (ethernet(&[0x0800], &ipv4(17, 5, &udp)), 0),
            (ethernet(&[0x86dd], &ipv6(44, &icmp_fragment)), 0),
            (ethernet(&[0x0800], &ipv4(6, 0, &udp)), 0),
            (ethernet(&[0x0806], &[0; 28]), 0),
            (ethernet(&[0x0800], &ipv4(17, 0, &self::udp(53))), 0),
            (trap[..40].to_vec(), 8),
            (trap[..20].to_vec(), 28),
            (trap[..40].to_vec(), 0),
            (bad_length, 0),
        ];
        let frames: Vec<_> =
            frames.iter().map(|(frame, lost)| (0, 0, frame.as_slice(), *lost)).collect();
        let (_, summary) = read_all(&pcap(Order::Little, 0xa1b2_c3d4, ETHERNET, &frames));
        assert_eq!(
            summary.to_string(),
            "1 datagrams in 12 packets; left out: 3 not UDP, 1 to other ports, 3 fragments (not \
             put together), 2 cut short by the capture's snapshot length, 2 malformed"
        );

        let (_, summary) = read_all(&pcap(Order::Little, 0xa1b2_c3d4, 147, &[(0, 0, &trap, 0)]));
        assert_eq!(summary.skipped.unknown_link, 1);
    }

    #[test]
    fn time_never_goes_backwards_and_starts_at_the_first_packet() {
        let (trap, arp) = (trap_frame(), ethernet(&[0x0806], &[0; 28]));
        let frames: [(u32, u32, &[u8], u32); 5] = [
            (100, 0, &arp, 0),
            (103, 0, &trap, 0),
            (101, 0, &trap, 0),
            (99, 0, &trap, 0),
            (104, 0, &trap, 0),
        ];
        let (datagrams, summary) = read_all(&pcap(Order::Big, 0xa1b2_c3d4, ETHERNET, &frames));
        let at: Vec<_> = datagrams.iter().map(|datagram| datagram.at.as_secs()).collect();
        assert_eq!(at, [3, 3, 3, 4]);
        assert_eq!(datagrams[2].wall_ns, 99_000_000_000);
        assert_eq!(summary.out_of_order, 2);
    }

    fn samples() -> [Vec<u8>; 3] {
        let trap = trap_frame();
        let tagged = ethernet(
            &[0x8100, 0x86dd],
            &ipv6(0, &[&[17, 0, 0, 0, 0, 0, 0, 0], &*udp(162)].concat()),
        );
        let pcap = pcap(Order::Big, 0xa1b2_c3d4, ETHERNET, &[(1, 0, &trap, 0), (2, 0, &tagged, 0)]);
        let ng = [Order::Big, Order::Little].map(|order| {
            let mut file = ng_section(order);
            file.extend(ng_interface(order, 1, 6, 0));
            file.extend(ng_packet(order, 0, 1_000_000, &trap));
            file.extend(ng_packet(order, 0, 2_000_000, &tagged));
            file
        });
        let [big, little] = ng;
        [pcap, big, little]
    }

    #[test]
    fn a_file_cut_off_anywhere_gives_what_is_before_the_cut() {
        for file in samples() {
            let (whole, summary) = read_all(&file);
            assert_eq!((whole.len(), summary.warning), (2, None));
            let mut most = 0;
            for length in 0..file.len() {
                let mut datagrams = Vec::new();
                let summary =
                    read_from(&file[..length], &TRAP_PORTS, |datagram| datagrams.push(datagram));
                assert!(whole.starts_with(&datagrams), "cut off at {length}");
                assert!(datagrams.len() >= most, "more is lost at {length} than before it");
                most = datagrams.len();
                if let Some(Summary { packets: 1, warning, .. }) = summary {
                    let warned = warning.is_some_and(|warning| warning.contains("was cut off"));
                    // Between two packets nothing shows that there were more.
                    assert!(warned || read_all(&file[..length]).1.warning.is_none());
                }
            }
            assert_eq!(most, 1);
        }
    }

    #[test]
    fn no_damaged_octet_makes_it_panic_or_hang() {
        for file in samples() {
            for place in 0..file.len() {
                for value in [0, 1, 0x10, 0x7f, 0xff] {
                    let mut damaged = file.clone();
                    damaged[place] = value;
                    let mut found = 0;
                    let _ = read_from(&*damaged, &TRAP_PORTS, |_| found += 1);
                    assert!(found <= 2);
                }
            }
        }
    }

    #[test]
    fn something_else_is_refused_with_a_hint() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("traps.pcap.gz");
        for content in [&b""[..], b"\x1f\x8b\x08\x00 and more of it than a header has", b"x"] {
            std::fs::write(&path, content).unwrap();
            let error = read(&path, &TRAP_PORTS, |_| {}).unwrap_err();
            assert!(error.to_string().ends_with("(a compressed capture must be unpacked first)"));
        }
        let missing = read(&directory.path().join("none"), &TRAP_PORTS, |_| {}).unwrap_err();
        assert!(matches!(missing, ReplayError::Open { .. }));
    }
}
