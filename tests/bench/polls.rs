//! What `surge-ping` makes of a poll when things go wrong, used the plain way and used as this
//! agent does: a table of both, of which `agent/polls.md` has a copy.
//!
//! `cargo bench --bench polls` as root. It makes two network namespaces with a veth between them,
//! in which the second answers echoes when it is told to, and takes them away again (but not when
//! it is killed: they are called `ekpolls` and a number); it needs `ip`, `nft` and half a minute.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    env, io,
    io::{BufRead, BufReader, Write},
    mem::{self, MaybeUninit},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::fd::{AsRawFd, BorrowedFd},
    process::{Child, ChildStdout, Command, Stdio},
    thread,
    time::{Duration, Instant, SystemTime},
};

use socket2::{Domain, Protocol, SockFilter, SockRef, Socket, Type};
use surge_ping::{Client, Config, IcmpPacket, PingIdentifier, PingSequence, SurgeError};

const NEAR: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const FAR: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
const PAYLOAD: [u8; 56] = [0x45; 56];
/// Stalled processes at the same time, as the outcome of a race shows only in numbers.
const STALLED: u16 = 8;
const STALL: Duration = Duration::from_secs(10);

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let args: Vec<String> = env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["responder", delay] => responder(Duration::from_millis(delay.parse()?)),
        ["poller", way, case, identifier] => poller(way, case, identifier.parse()?),
        // Without `--bench` it is run by `cargo test --all-targets`, which is not meant.
        ref args if !args.contains(&"--bench") => Ok(()),
        // SAFETY: `geteuid` has no preconditions.
        _ if unsafe { libc::geteuid() } != 0 => {
            println!("polls: not run, as only root can make network namespaces");
            Ok(())
        }
        _ => measure(),
    }
}

/// Two namespaces, for as long as this lives.
struct Stage {
    near: String,
    far: String,
}

impl Stage {
    fn new() -> Result<Stage, Failure> {
        let id = std::process::id();
        let stage = Stage { near: format!("ekpolls{id}a"), far: format!("ekpolls{id}b") };
        let (near, far) = (&stage.near, &stage.far);
        for line in [
            format!("ip netns add {near}"),
            format!("ip netns add {far}"),
            format!("ip -n {near} link add v0 type veth peer name v0 netns {far}"),
            format!("ip -n {near} addr add {NEAR}/24 dev v0"),
            format!("ip -n {far} addr add {FAR}/24 dev v0"),
            format!("ip -n {near} link set v0 up"),
            format!("ip -n {far} link set v0 up"),
            format!("ip netns exec {far} sysctl -qw net.ipv4.icmp_echo_ignore_all=1"),
        ] {
            run(&line)?;
        }
        Ok(stage)
    }

    fn start(&self, namespace: &str, args: &[&str]) -> Result<Player, Failure> {
        let mut child = Command::new("ip")
            .args(["netns", "exec", namespace])
            .arg(env::current_exe()?)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let lines = BufReader::new(child.stdout.take().ok_or("no pipe")?);
        let mut player = Player { child, lines };
        // Each says a word when it is ready.
        player.line()?;
        Ok(player)
    }

    fn responder(&self, delay_ms: u32) -> Result<Player, Failure> {
        self.start(&self.far, &["responder", &delay_ms.to_string()])
    }

    fn poller(&self, way: &str, case: &str, identifier: u16) -> Result<Player, Failure> {
        self.start(&self.near, &["poller", way, case, &identifier.to_string()])
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for namespace in [&self.near, &self.far] {
            if let Err(error) = run(&format!("ip netns del {namespace}")) {
                eprintln!("polls: {error}");
            }
        }
    }
}

/// A process of this program in a namespace.
struct Player {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Player {
    fn line(&mut self) -> Result<String, Failure> {
        let mut line = String::new();
        self.lines.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }

    /// `ip netns exec` becomes the program, so this is its process.
    fn signal(&self, signal: libc::c_int) {
        let pid = self.child.id().cast_signed();
        // SAFETY: the process is our child and not yet waited for, so the number is still its.
        unsafe { libc::kill(pid, signal) };
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run(line: &str) -> Result<(), Failure> {
    let mut words = line.split(' ');
    let status = Command::new(words.next().ok_or("no command")?).args(words).status()?;
    if status.success() { Ok(()) } else { Err(format!("`{line}` failed").into()) }
}

fn measure() -> Result<(), Failure> {
    let stage = Stage::new()?;
    println!("| case | way | what the poller sees |\n|---|---|---|");
    let row = |case: &str, way: &str, seen: String| println!("| {case} | {way} | {seen} |");

    {
        let _responder = stage.responder(1000)?;
        let mut pollers = Vec::new();
        for (way, base) in [("plain", 100), ("ours", 200)] {
            for number in 0..STALLED {
                pollers.push((way, stage.poller(way, "stalled", base + number)?));
            }
        }
        // All poll at once; the replies come when the pollers have been stopped.
        for (_, poller) in &mut pollers {
            poller.child.stdin.take().ok_or("no pipe")?.write_all(b"go\n")?;
        }
        thread::sleep(Duration::from_millis(400));
        pollers.iter().for_each(|(_, poller)| poller.signal(libc::SIGSTOP));
        thread::sleep(STALL);
        pollers.iter().for_each(|(_, poller)| poller.signal(libc::SIGCONT));
        let mut seen = Vec::new();
        for (way, poller) in &mut pollers {
            seen.push((*way, poller.line()?));
        }
        for way in ["plain", "ours"] {
            let mine: Vec<_> = seen.iter().filter(|(whose, _)| *whose == way).collect();
            let answered = mine.iter().filter(|(_, line)| line.starts_with("answered")).count();
            let mut lines: Vec<_> = mine.iter().map(|(_, line)| line.as_str()).collect();
            lines.sort_unstable();
            let text = format!(
                "{answered} of {STALLED} answered; {} ... {}",
                lines[0],
                lines[lines.len() - 1]
            );
            row("(a) stopped for 10 s, reply after 1 s, time-out 2 s", way, text);
        }
    }
    {
        let _responder = stage.responder(800)?;
        for (way, identifier) in [("plain", 301), ("ours", 302)] {
            let mut poller = stage.poller(way, "late", identifier)?;
            row("(b) reply after 0.8 s, time-out 0.5 s", way, poller.line()?);
            row("(b) the number used again at 0.6 s", way, poller.line()?);
        }
    }
    {
        let far = &stage.far;
        run(&format!("ip netns exec {far} nft add table ip polls"))?;
        run(&format!(
            "ip netns exec {far} nft add chain ip polls in {{ type filter hook input priority 0 ; }}"
        ))?;
        run(&format!(
            "ip netns exec {far} nft add rule ip polls in icmp type echo-request reject with icmp \
             type host-unreachable"
        ))?;
        for (way, identifier) in [("plain", 401), ("ours", 402)] {
            let mut poller = stage.poller(way, "unreachable", identifier)?;
            row("(c) host unreachable", way, poller.line()?);
        }
        run(&format!("ip netns exec {far} nft delete table ip polls"))?;
    }
    let _responder = stage.responder(0)?;
    for (case, text) in [
        ("idle", "(d) round trip, idle"),
        ("busy", "(d) round trip, runtime busy for 25 ms at a time"),
    ] {
        for (way, identifier) in [("plain", 501), ("ours", 502)] {
            let mut poller = stage.poller(way, case, identifier)?;
            row(text, way, poller.line()?);
        }
    }
    Ok(())
}

/// Answers echoes after a while, as the kernel was told not to.
fn responder(delay: Duration) -> Result<(), Failure> {
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))?;
    say("ready");
    let mut due = BinaryHeap::<Reverse<(Instant, Vec<u8>, Ipv4Addr)>>::new();
    // Bounded: it is killed when the case is over, at the latest it ends by itself.
    let end = Instant::now() + Duration::from_secs(120);
    let mut buffer = [MaybeUninit::uninit(); 2048];
    while Instant::now() < end {
        let wait = due.peek().map_or(Duration::from_secs(1), |Reverse((at, ..))| {
            at.saturating_duration_since(Instant::now())
        });
        socket.set_read_timeout(Some(wait.max(Duration::from_micros(100))))?;
        if let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let packet: Vec<u8> =
                // SAFETY: the kernel has written the first `length` octets.
                buffer[..length].iter().map(|octet| unsafe { octet.assume_init() }).collect();
            let from = from.as_socket_ipv4().ok_or("not IPv4")?;
            let start = usize::from(packet[0] & 15) * 4;
            if packet.get(start) == Some(&8) {
                let mut reply = packet[start..].to_vec();
                reply[0] = 0;
                // RFC 1624: the sum rises by what the type fell by.
                let sum = u32::from(u16::from_be_bytes([reply[2], reply[3]])) + 0x0800;
                let folded = ((sum & 0xffff) + (sum >> 16)) as u16;
                reply[2..4].copy_from_slice(&folded.to_be_bytes());
                due.push(Reverse((Instant::now() + delay, reply, *from.ip())));
            }
        }
        while due.peek().is_some_and(|Reverse((at, ..))| *at <= Instant::now()) {
            if let Some(Reverse((_, reply, to))) = due.pop() {
                socket.send_to(&reply, &SocketAddr::new(to.into(), 0).into())?;
            }
        }
    }
    Ok(())
}

fn say(line: &str) {
    println!("{line}");
    let _ = io::stdout().flush();
}

fn poller(way: &str, case: &str, identifier: u16) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let config = Config::builder().sock_type_hint(Type::RAW).bind((NEAR, 0).into()).build();
        let client = Client::new(&config)?;
        if way == "plain" {
            plain(&client, case, identifier).await
        } else {
            ours(&client, case, identifier).await
        }
    })
}

/// Polls by `Pinger::ping`, and believes it.
async fn plain(client: &Client, case: &str, identifier: u16) -> Result<(), Failure> {
    let mut pinger = client.pinger(IpAddr::V4(FAR), PingIdentifier(identifier)).await;
    let mut ping = async |sequence: u16, milliseconds: u64| {
        pinger.timeout(Duration::from_millis(milliseconds));
        match pinger.ping(PingSequence(sequence), &PAYLOAD).await {
            Ok((IcmpPacket::V4(packet), rtt)) => {
                let kind = packet.get_icmp_type().0;
                (format!("answered: `Ok`, ICMP type {kind}, round trip {}", ms(rtt)), Some(rtt))
            }
            Ok((IcmpPacket::V6(_), _)) => ("an ICMPv6 packet".to_owned(), None),
            Err(SurgeError::Timeout { .. }) => ("missed: `Err(Timeout)`".to_owned(), None),
            Err(other) => (format!("missed: {other}"), None),
        }
    };
    match case {
        "stalled" => {
            say("ready");
            io::stdin().read_line(&mut String::new())?;
            say(&ping(1, 2000).await.0);
        }
        "late" => {
            say("ready");
            let (first, _) = ping(1, 500).await;
            // Nothing listens any more when the reply comes.
            say(&format!("{first}; the reply itself leaves no trace"));
            tokio::time::sleep(Duration::from_millis(100)).await;
            say(&ping(1, 500).await.0);
        }
        "unreachable" => {
            say("ready");
            say(&ping(1, 500).await.0);
        }
        _ => {
            say("ready");
            // Not counted: the neighbour is resolved, and the socket found to be writable.
            ping(999, 1000).await;
            be_busy(case);
            let mut round_trips = Vec::new();
            for sequence in 0..40 {
                round_trips.extend(ping(sequence, 1000).await.1);
                tokio::time::sleep(Duration::from_millis(30)).await;
            }
            say(&spread(round_trips));
        }
    }
    Ok(())
}

/// Sends by `Pinger::send_ping`, hears by a socket of its own, and judges by the kernel's stamps.
async fn ours(client: &Client, case: &str, identifier: u16) -> Result<(), Failure> {
    let socket = client.get_socket();
    // SAFETY: `client` holds the descriptor open for as long as this borrow lives.
    let fd = unsafe { BorrowedFd::borrow_raw(socket.get_native_sock()) };
    SockRef::from(&fd).attach_filter(&[SockFilter::new(0x06, 0, 0, 0)])?;
    let ear = Ear::open(identifier)?;
    let pinger = client.pinger(IpAddr::V4(FAR), PingIdentifier(identifier)).await;
    let poll = async |sequence: u16, milliseconds: u64| {
        let time_out = Duration::from_millis(milliseconds);
        let (sent, sent_wall) = (Instant::now(), SystemTime::now());
        if let Err(error) = pinger.send_ping(PingSequence(sequence), &PAYLOAD).await {
            return (format!("missed: {error}"), None);
        }
        loop {
            // What the clock says before the ear is emptied is what may be judged after it.
            let judged = sent.elapsed();
            for heard in ear.drain() {
                let after = heard.received.duration_since(sent_wall).unwrap_or_default();
                if heard.sequence != sequence || after >= time_out {
                    continue;
                }
                return match heard.kind {
                    0 => (format!("answered: round trip {}", ms(after)), Some(after)),
                    3 => (format!("missed: unreachable, code {}", heard.code), None),
                    kind => (format!("missed: ICMP type {kind}"), None),
                };
            }
            if judged >= time_out {
                return ("missed: time-out".to_owned(), None);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    match case {
        "stalled" => {
            say("ready");
            io::stdin().read_line(&mut String::new())?;
            say(&poll(1, 2000).await.0);
        }
        "late" => {
            say("ready");
            let (first, _) = poll(1, 500).await;
            let sent_wall = SystemTime::now() - Duration::from_millis(500);
            tokio::time::sleep(Duration::from_millis(100)).await;
            // The next number, as a flow uses one again only after 65,535 others.
            let (second, _) = poll(2, 150).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
            let late = ear.drain().into_iter().find(|heard| heard.sequence == 1);
            let late = late.map_or("nothing heard".to_owned(), |heard| {
                let after = heard.received.duration_since(sent_wall).unwrap_or_default();
                format!("counted as late, {} after the poll", ms(after))
            });
            say(&format!("{first}; the reply is {late}"));
            say(&format!("not used again (the next number: {second})"));
        }
        "unreachable" => {
            say("ready");
            say(&poll(1, 500).await.0);
        }
        _ => {
            say("ready");
            poll(999, 1000).await;
            be_busy(case);
            let mut round_trips = Vec::new();
            for sequence in 0..40 {
                round_trips.extend(poll(sequence, 1000).await.1);
                tokio::time::sleep(Duration::from_millis(30)).await;
            }
            say(&spread(round_trips));
        }
    }
    Ok(())
}

/// Two tasks that keep their thread for 25 ms at a time, as a storm of traps may. Their pauses have
/// no common period, so that sometimes one follows on the other and sometimes not.
fn be_busy(case: &str) {
    if case == "busy" {
        for pause in [7, 11] {
            tokio::spawn(async move {
                loop {
                    let end = Instant::now() + Duration::from_millis(25);
                    while Instant::now() < end {
                        std::hint::spin_loop();
                    }
                    tokio::time::sleep(Duration::from_millis(pause)).await;
                }
            });
        }
    }
}

fn ms(duration: Duration) -> String {
    format!("{:.2} ms", duration.as_secs_f64() * 1000.0)
}

fn spread(mut round_trips: Vec<Duration>) -> String {
    round_trips.sort_unstable();
    match round_trips[..] {
        [] => "no answer".to_owned(),
        [.., max] => {
            let median = round_trips[round_trips.len() / 2];
            format!("{} answered, median {}, max {}", round_trips.len(), ms(median), ms(max))
        }
    }
}

/// A raw socket that hears ICMP with the kernel's time stamps.
struct Ear {
    socket: Socket,
    identifier: u16,
}

struct Heard {
    kind: u8,
    code: u8,
    sequence: u16,
    received: SystemTime,
}

impl Ear {
    fn open(identifier: u16) -> io::Result<Ear> {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))?;
        socket.bind(&SocketAddr::from((NEAR, 0)).into())?;
        socket.set_nonblocking(true)?;
        let on: libc::c_int = 1;
        // SAFETY: the option takes an int, which outlives the call.
        let set = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_TIMESTAMPNS,
                (&raw const on).cast(),
                mem::size_of_val(&on) as libc::socklen_t,
            )
        };
        if set == 0 { Ok(Ear { socket, identifier }) } else { Err(io::Error::last_os_error()) }
    }

    /// All that has come for our identifier.
    fn drain(&self) -> Vec<Heard> {
        std::iter::from_fn(|| self.next()).flatten().collect()
    }

    /// The next packet; inside, nothing if it is not ours.
    fn next(&self) -> Option<Option<Heard>> {
        let mut packet = [0_u8; 2048];
        let mut control = [0_u64; 32];
        let mut part = libc::iovec { iov_base: packet.as_mut_ptr().cast(), iov_len: packet.len() };
        // SAFETY: all-zero is a valid `msghdr`.
        let mut message: libc::msghdr = unsafe { mem::zeroed() };
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = mem::size_of_val(&control);
        // SAFETY: every pointer in `message` is to a local that outlives the call.
        let length = unsafe { libc::recvmsg(self.socket.as_raw_fd(), &raw mut message, 0) };
        let length = usize::try_from(length).ok()?;
        let mut received = SystemTime::UNIX_EPOCH;
        // SAFETY: the kernel has filled `control` as `msg_controllen` now says, and the macros
        // stay within that; a stamp is a `timespec`, which may lie unaligned.
        unsafe {
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            if !header.is_null() && (*header).cmsg_type == libc::SCM_TIMESTAMPNS {
                let stamp: libc::timespec =
                    libc::CMSG_DATA(header).cast::<libc::timespec>().read_unaligned();
                received += Duration::new(stamp.tv_sec as u64, stamp.tv_nsec as u32);
            }
        }
        Some(self.parse(packet.get(..length)?, received))
    }

    fn parse(&self, packet: &[u8], received: SystemTime) -> Option<Heard> {
        let start = usize::from(packet.first()? & 15) * 4;
        let (kind, code) = (*packet.get(start)?, *packet.get(start + 1)?);
        // An error quotes the packet that it is about behind eight octets.
        let echo = match kind {
            0 => start,
            3 | 11 => start + 8 + usize::from(packet.get(start + 8)? & 15) * 4,
            _ => return None,
        };
        let number = |at: usize| Some(u16::from_be_bytes(*packet.get(at..)?.first_chunk()?));
        (number(echo + 4)? == self.identifier).then_some(())?;
        Some(Heard { kind, code, sequence: number(echo + 6)?, received })
    }
}
