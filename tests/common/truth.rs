//! The truth about a field of peers: a capture by tcpdump of every echo request that reached it and of
//! every answer that left it, and what the rules of `peers.md` make of it, computed without a line of
//! the agent's code.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs::{self, File},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tempfile::TempDir;

use super::{
    Ns, Row,
    process::{Guard, wait_until},
};

/// How much earlier than by the log something may be: the log has when a request arrived at the other
/// end of the cable, which takes the kernel a while when others want the processor.
pub const EARLY: Duration = Duration::from_millis(250);

/// How late something may be on a machine that is busy with other tests.
pub const LATE: Duration = Duration::from_millis(2500);

/// A log that is being written.
pub struct Log {
    directory: TempDir,
    process: Guard,
}

/// One echo request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Try {
    /// When it reached the field, since 1970.
    pub at: Duration,
    /// When its answer left the field, if one did.
    pub answered: Option<Duration>,
    /// Its identifier.
    pub identifier: u16,
    /// Its sequence number.
    pub sequence: u16,
}

/// Everything that a field was asked, and what it answered.
#[derive(Debug)]
pub struct Truth {
    /// Of each address, in order.
    pub peers: BTreeMap<IpAddr, Vec<Try>>,
    /// When the log ended, since 1970.
    pub end: Duration,
}

/// When a peer is down (PEER-2).
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// The retransmission timeout.
    pub timeout: Duration,
    /// Max retransmissions.
    pub max: u32,
    /// How much sooner it may seem to be so by the log, as its clock starts with the batch that the first
    /// request without an answer was in, and the log has the moment at which it reached the field.
    pub early: Duration,
}

/// A peer that answered none of its tries for so long that it was down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Which.
    pub peer: IpAddr,
    /// The first request without an answer.
    pub first: Duration,
    /// When it was down by the rule.
    pub due: Duration,
    /// The first answer after that.
    pub back: Option<Duration>,
    /// Its tries from the first to the deadline, as ages of the first.
    pub tries: Vec<Duration>,
}

/// The wall clock, as the log and the journal have it.
pub fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970")
}

impl Log {
    /// Captures on an interface of the field.
    pub fn start(ns: &Ns, interface: &str) -> Log {
        let directory = TempDir::with_prefix("ek-log-").expect("a temporary directory");
        let said = File::create(directory.path().join("said")).expect("a writable directory");
        let mut command = ns.command("tcpdump");
        // As root (-Z), or the directory would not be writable; only the head of each frame (-s), and
        // room for a second in which nobody reads (-B, in KiB).
        command.args(["-i", interface, "-Z", "root", "-n", "-s", "64", "-B", "65536", "--nano"]);
        command.arg("-w").arg(directory.path().join("pcap"));
        command.arg(
            "icmp[icmptype] == icmp-echo or icmp[icmptype] == icmp-echoreply or \
             (icmp6 and (ip6[40] == 128 or ip6[40] == 129))",
        );
        let process = Guard::spawn(command.stderr(said));
        let log = Log { directory, process };
        wait_until("tcpdump to listen", Duration::from_secs(20), || {
            log.said().contains("listening on")
        });
        log
    }

    /// Ends it and reads it. A log with gaps is a failure, as nothing can be proved with it.
    pub fn end(mut self) -> Truth {
        let end = now();
        // The kernel hands tcpdump what it has captured after a second at the latest.
        std::thread::sleep(Duration::from_secs(2));
        assert!(self.process.end(Duration::from_secs(20)), "tcpdump did not end");
        let said = self.said();
        assert!(said.contains("\n0 packets dropped by kernel"), "the log has gaps:\n{said}");
        let file = fs::read(self.file()).expect("what tcpdump wrote");
        Truth::read(&file, end)
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("pcap")
    }

    fn said(&self) -> String {
        fs::read_to_string(self.directory.path().join("said")).unwrap_or_default()
    }
}

impl Truth {
    /// Reads a capture of Ethernet with nanoseconds, in this machine's byte order.
    fn read(file: &[u8], end: Duration) -> Truth {
        let word = |at: usize| file[at..at + 4].try_into().map(u32::from_ne_bytes).expect("four");
        assert_eq!((word(0), word(20)), (0xa1b2_3c4d, 1), "not nanoseconds on Ethernet");
        let mut peers: HashMap<IpAddr, Vec<Try>> = HashMap::new();
        let mut at = 24;
        while at + 16 <= file.len() {
            let moment = Duration::new(word(at).into(), word(at + 4));
            let length = word(at + 8) as usize;
            let frame = &file[at + 16..(at + 16 + length).min(file.len())];
            at += 16 + length;
            let Some(echo) = Echo::read(frame) else { continue };
            let tries = peers.entry(echo.peer).or_default();
            if echo.request {
                let (identifier, sequence) = (echo.identifier, echo.sequence);
                tries.push(Try { at: moment, answered: None, identifier, sequence });
            } else if let Some(asked) = tries.iter_mut().rev().find(|asked| {
                (asked.identifier, asked.sequence) == (echo.identifier, echo.sequence)
            }) {
                asked.answered.get_or_insert(moment);
            }
        }
        Truth { peers: peers.into_iter().collect(), end }
    }

    /// How many requests there were.
    pub fn requests(&self) -> usize {
        self.peers.values().map(Vec::len).sum()
    }

    /// Which peers were down by a rule, and when, if every try that had no answer was the peer's fault.
    /// One that answered just before it was down is among them: see [`Failure::close`].
    pub fn failures(&self, rule: Rule) -> Vec<Failure> {
        let mut failures = Vec::new();
        for (&peer, tries) in &self.peers {
            let mut open: Option<Failure> = None;
            for asked in tries {
                let failure = open.get_or_insert_with(|| Failure {
                    peer,
                    first: asked.at,
                    due: asked.at + rule.within(),
                    back: None,
                    tries: Vec::new(),
                });
                if asked.at < failure.due {
                    failure.tries.push(asked.at - failure.first);
                }
                if let Some(answered) = asked.answered {
                    if answered + rule.early > failure.due {
                        failure.back = Some(answered);
                        failures.push(failure.clone());
                    }
                    open = None;
                }
            }
            failures.extend(open.filter(|failure| failure.due < self.end));
        }
        failures
    }

    /// When requests were sent, in order: those to peers that answered everything, which are all
    /// periodic heartbeats.
    pub fn heartbeats(&self) -> Vec<Duration> {
        let steady = self.steady().flat_map(|(_, tries)| tries.iter().map(|asked| asked.at));
        let mut moments: Vec<Duration> = steady.collect();
        moments.sort_unstable();
        moments
    }

    /// The peers that answered everything.
    pub fn steady(&self) -> impl Iterator<Item = (&IpAddr, &[Try])> {
        let all = self.peers.iter().map(|(peer, tries)| (peer, &tries[..]));
        all.filter(|(_, tries)| tries.iter().all(|asked| asked.answered.is_some()))
    }

    /// PEER-2, its safe half, which holds whatever else is wrong: who was declared down had answered
    /// nothing for as long as the rule says, and was tried as often.
    pub fn nobody_is_wronged(&self, rule: Rule, journal: &[Row]) {
        for row in peer_rows(journal, "raise") {
            let peer = object(row);
            let tries = self.peers.get(&peer).unwrap_or_else(|| panic!("never asked: {row:?}"));
            let until = tries.partition_point(|asked| asked.at < row.at + rule.early);
            let answered = |asked: &Try| asked.answered.is_some_and(|at| at + rule.early < row.at);
            let from = tries[..until].iter().rposition(answered).map_or(0, |last| last + 1);
            let silent = &tries[from..until];
            let long =
                silent.first().is_some_and(|first| first.at + rule.within() <= row.at + rule.early);
            assert!(
                long && silent.len() >= rule.max as usize,
                "declared down at {:?}, but was asked {tries:?}",
                row.at
            );
        }
    }

    /// PEER-2 and PEER-3, both halves: everybody who was down by the rule was declared down at its time
    /// and cleared at its answer, and nobody else.
    pub fn agrees(&self, rule: Rule, journal: &[Row]) {
        self.nobody_is_wronged(rule, journal);
        let logged = |event| peer_rows(journal, event).filter(|row| row.at <= self.end);
        let mut raises = by_peer(logged("raise"));
        let mut clears = by_peer(logged("clear"));
        let mut wrong = Vec::new();
        for failure in self.failures(rule) {
            // What comes to pass as the log ends may not be told yet.
            let must = |at: Duration| !failure.close(rule) && at + LATE < self.end;
            if !take(&mut raises, rule, failure.peer, failure.due) && must(failure.due) {
                wrong.push(format!("down, but not told in time: {failure:?}"));
            } else if let Some(back) = failure.back
                && !take(&mut clears, rule, failure.peer, back)
                && must(back)
            {
                wrong.push(format!("back, but not told in time: {failure:?}"));
            }
        }
        for (what, rows) in [("raised", raises), ("cleared", clears)] {
            let left = rows.into_iter().filter(|(_, rows)| !rows.is_empty());
            wrong.extend(left.map(|(peer, rows)| format!("{what} without need: {peer} {rows:?}")));
        }
        let count = wrong.len();
        wrong.truncate(10);
        assert!(wrong.is_empty(), "{count} wrong, such as\n{}", wrong.join("\n"));
    }
}

impl Failure {
    /// Whether it was back so near the deadline that the agent may have heard the answer before it.
    pub fn close(&self, rule: Rule) -> bool {
        self.back.is_some_and(|back| back < self.due + rule.early)
    }
}

impl Rule {
    /// From the first request without an answer to the declaration.
    pub fn within(self) -> Duration {
        self.timeout * self.max
    }
}

/// The journal's rows about peers that are down.
pub fn peer_rows<'a>(journal: &'a [Row], event: &'a str) -> impl Iterator<Item = &'a Row> {
    journal.iter().filter(move |row| row.kind == "peer_down" && row.event == event)
}

/// The peers whose `peer_down` is active at a journal's end. A second raise without a clear between, or
/// a clear without a raise, is a failure.
pub fn still_down(journal: &[Row]) -> BTreeSet<IpAddr> {
    let mut down = BTreeSet::new();
    for row in journal.iter().filter(|row| row.kind == "peer_down") {
        let changed = match row.event.as_str() {
            "raise" => down.insert(object(row)),
            _ => down.remove(&object(row)),
        };
        assert!(changed, "raised or cleared twice: {row:?}");
    }
    down
}

/// The peer that a row is about.
pub fn object(row: &Row) -> IpAddr {
    row.object.parse().unwrap_or_else(|_| panic!("not a peer: {row:?}"))
}

fn by_peer<'a>(rows: impl Iterator<Item = &'a Row>) -> HashMap<IpAddr, Vec<Duration>> {
    let mut peers: HashMap<IpAddr, Vec<Duration>> = HashMap::new();
    for row in rows {
        peers.entry(object(row)).or_default().push(row.at);
    }
    peers
}

/// Takes out what was told of a peer about a moment, not too early and not too late. Says whether there
/// was anything.
fn take(rows: &mut HashMap<IpAddr, Vec<Duration>>, rule: Rule, peer: IpAddr, at: Duration) -> bool {
    let Some(rows) = rows.get_mut(&peer) else { return false };
    let found = rows.iter().position(|&told| told + rule.early >= at && told <= at + LATE);
    found.map(|found| rows.remove(found)).is_some()
}

/// An echo request or reply.
struct Echo {
    request: bool,
    peer: IpAddr,
    identifier: u16,
    sequence: u16,
}

impl Echo {
    /// Reads a frame of Ethernet (RFC 792, RFC 4443). IPv6 comes without extension headers here.
    fn read(frame: &[u8]) -> Option<Echo> {
        let two = |bytes: &[u8], at: usize| {
            Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
        };
        let packet = frame.get(14..)?;
        let (message, from, to): (_, IpAddr, IpAddr) = match two(frame, 12)? {
            0x0800 => {
                let address =
                    |at| packet.get(at..)?.first_chunk::<4>().copied().map(Ipv4Addr::from);
                let header = usize::from(packet.first()? & 0xf) * 4;
                (packet.get(header..)?, address(12)?.into(), address(16)?.into())
            }
            0x86dd => {
                let address =
                    |at| packet.get(at..)?.first_chunk::<16>().copied().map(Ipv6Addr::from);
                (packet.get(40..)?, address(8)?.into(), address(24)?.into())
            }
            _ => return None,
        };
        let request = match message.first()? {
            8 | 128 => true,
            0 | 129 => false,
            _ => return None,
        };
        let peer = if request { to } else { from };
        Some(Echo { request, peer, identifier: two(message, 4)?, sequence: two(message, 6)? })
    }
}
