//! What notification targets get: every form to net-snmp's `snmptrapd` and before the eyes of
//! Wireshark (TRAP-10), every alarm although they go away (TRAP-11), traps of others with their
//! origin kept (TRAP-8, TRAP-9), and no loops.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    thread,
    time::{Duration, Instant},
};

use crate::common::{
    Agent, Answering, Device, Lab, Nms, Notification, Ns, Row, Sink, Trap, stack::User,
    tshark::Capture, wait_until, wire,
};

const TRAPS: &str = "127.0.0.1:10162";

/// The agent's own engine ID, of the kind "text" (RFC 3411, section 5).
const ENGINE: &str = "0x80001f88046b65656c";

/// The time that is granted for what should take a second or less, on a busy machine.
const SOON: Duration = Duration::from_secs(15);

/// The longest time between two tries at a target that does not answer.
const RETRY: Duration = Duration::from_secs(30);

/// A configuration whose interfaces are unstable after two traps, for two seconds.
fn configuration(targets: &str) -> String {
    format!(
        r#"engine_id = "{ENGINE}"
[traps]
listen = ["{TRAPS}"]
[[traps.community]]
name = "public"

[instability]
interfaces = {{ window = "5s", threshold = 2 }}
interface_down = false

[subnets]
watch_gateways = false

{targets}"#
    )
}

/// Makes an interface unstable. Its alarm clears by itself.
fn flap(device: &Device, if_index: u32) {
    device.v2c(Trap::LinkDown(if_index));
    device.v2c(Trap::LinkUp(if_index));
    device.v2c(Trap::LinkDown(if_index));
}

/// What the journal says, as a target must be told: 1 raised, 2 cleared, and the id.
fn from_journal(journal: &[Row]) -> Vec<wire::Told> {
    let trap = |row: &Row| if row.event == "raise" { 1 } else { 2 };
    journal.iter().map(|row| wire::Told { trap: trap(row), id: row.id.clone() }).collect()
}

/// The same of what snmptrapd has printed.
fn from_nms(notifications: &[Notification]) -> Vec<wire::Told> {
    let trap = |name: &str| if name == "evenkeelAlarmRaised" { 1 } else { 2 };
    notifications
        .iter()
        .map(|told| wire::Told {
            trap: trap(&told.name),
            id: told.value("evenkeelAlarmId").to_owned(),
        })
        .collect()
}

/// TRAP-11: everything of the journal was told, nothing else was, and of each alarm nothing was told
/// out of order: a repeated one may come right behind itself, and not again once the next was told.
fn judge(journal: &[Row], told: &[wire::Told]) {
    let mut wanted: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
    let rows = from_journal(journal);
    for row in &rows {
        wanted.entry(&row.id).or_default().push(row.trap);
    }
    let mut got: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
    for told in told {
        got.entry(&told.id).or_default().push(told.trap);
    }
    for of_one in got.values_mut() {
        of_one.dedup();
    }
    assert_eq!(got, wanted, "told and journal differ");
}

/// Waits until a list has everything that the journal has.
fn wait_told(agent: &Agent, told: impl Fn() -> Vec<wire::Told>) {
    let missing = || {
        let told = told();
        let mut rows = agent.journal();
        let wanted = from_journal(&rows);
        let mut at = 0..;
        rows.retain(|_| !told.contains(&wanted[at.next().expect("endless")]));
        rows
    };
    let ends = Instant::now() + RETRY + SOON;
    while !missing().is_empty() {
        assert!(Instant::now() < ends, "not told: {:#?}\n{}", missing(), targets(agent));
        thread::sleep(Duration::from_millis(50));
    }
}

/// How the targets fare, as the metrics have it.
fn targets(agent: &Agent) -> String {
    let metrics = agent.metrics().0;
    let about = |line: &&str| line.starts_with("evenkeel_notification");
    let lines: Vec<&str> = metrics.lines().filter(about).collect();
    format!("{}\n{:#}", lines.join("\n"), agent.status()["notification_targets"])
}

/// Waits until no alarm is active.
fn wait_calm(agent: &Agent) {
    let ends = Instant::now() + RETRY + SOON;
    while agent.metrics().sum("evenkeel_alarms_active", &[]) > 0.0 {
        assert!(Instant::now() < ends, "still active: {:#?}\n{}", agent.journal(), targets(agent));
        thread::sleep(Duration::from_millis(50));
    }
}

/// One form in which a target is told.
struct Form {
    name: String,
    port: u16,
    table: String,
    /// How snmptrapd calls it.
    how: String,
}

/// Each form, to a port of its own, with the lines that make its user known to snmptrapd, and the
/// users that tshark is given.
fn forms() -> (Vec<Form>, String, Vec<User>) {
    let mut forms = Vec::new();
    let mut add = |name: &str, keys: &str, how: String| {
        let port = 11200 + forms.len() as u16;
        let table = format!(
            "[[notifications.target]]\nname = {name:?}\naddress = \"127.0.0.1:{port}\"\n{keys}\n"
        );
        forms.push(Form { name: name.to_owned(), port, table, how });
    };
    let community = "community = \"public\"";
    add("v1", &format!("version = \"v1\"\n{community}"), "TRAP, SNMP v1, community public".into());
    let v2c = format!("version = \"v2c\"\n{community}");
    add("v2c", &v2c, "TRAP2, SNMP v2c, community public".into());
    let inform = format!("{v2c}\ninform = true");
    add("v2c inform", &inform, "INFORM, SNMP v2c, community public".into());
    let users: Vec<User> = [
        (None, None),
        (Some("MD5"), None),
        (Some("MD5"), Some("DES")),
        (Some("SHA"), Some("AES")),
        (Some("SHA-224"), Some("AES-192")),
        (Some("SHA-256"), Some("AES")),
        (Some("SHA-256"), Some("AES-256-C")),
        (Some("SHA-384"), None),
        (Some("SHA-384"), Some("AES-192-C")),
        (Some("SHA-512"), Some("AES-256")),
    ]
    .map(|(auth, privacy)| User::new(auth, privacy))
    .to_vec();
    let mut create = String::new();
    for user in &users {
        let keys = format!("version = \"v3\"\n{}", user.target());
        let how = |what: &str| format!("{what}, SNMP v3, user {}, context ", user.name);
        add(&user.name, &keys, how("TRAP2"));
        add(&format!("{} inform", user.name), &format!("{keys}inform = true\n"), how("INFORM"));
        create += &user.create(None);
        create += &user.create(Some(ENGINE));
    }
    (forms, create, users)
}

#[test]
fn trap_10_snmptrapd_takes_every_form_and_wireshark_has_no_complaint() {
    let lab = Lab::new();
    let ns = lab.namespace("forms");
    let (forms, create, users) = forms();
    let listen: Vec<_> = forms.iter().map(|form| format!("udp:127.0.0.1:{}", form.port)).collect();
    let nms = Nms::start_with(&ns, &listen.join(","), &create);
    let ports: Vec<u16> = forms.iter().map(|form| form.port).collect();
    let last = ports.last().expect("some");
    let capture = Capture::start(&ns, "lo", &format!("udp portrange {}-{last}", ports[0]));
    let tables: String = forms.iter().map(|form| form.table.as_str()).collect();
    let agent = Agent::start(&ns, &configuration(&tables));
    let device = Device::new(&ns, "127.0.0.9", TRAPS);

    flap(&device, 4);
    wait_calm(&agent);
    let of = |form: &Form| {
        let all = nms.received();
        all.into_iter().filter(|told| told.how == form.how).collect::<Vec<_>>()
    };
    let alarms = |form: &Form| {
        let told: Vec<_> = of(form).into_iter().filter(Notification::is_alarm).collect();
        from_nms(&told)
    };
    let journal = agent.journal();
    assert_eq!(journal.len(), 2, "{journal:?}");
    let ends = Instant::now() + SOON;
    while forms.iter().any(|form| alarms(form).len() < 2) && Instant::now() < ends {
        thread::sleep(Duration::from_millis(50));
    }
    for form in &forms {
        assert_eq!(alarms(form), from_journal(&journal), "{}: {:?}", form.name, nms.lines());
        // TRAP-12: the agent's own start; TRAP-8: the device's traps before it was unstable.
        let named = |name: &str| of(form).iter().filter(|told| told.name == name).count();
        assert_eq!(named("SNMPv2-MIB::coldStart"), 1, "{}", form.name);
        assert!(named("IF-MIB::linkDown") >= 1, "{}: {:?}", form.name, of(form));
        for told in of(form).iter().filter(|told| told.is_alarm()) {
            assert_eq!(told.value("evenkeelIfIndex"), "4", "{}", form.name);
        }
    }

    // tshark is asked for every algorithm that all its versions have.
    let known = |user: &&User| matches!(user.privacy, None | Some("DES" | "AES"));
    let keys: Vec<User> = users.iter().filter(known).cloned().collect();
    let frames = capture.decode(&ports, &keys);
    let bad: Vec<_> = frames
        .iter()
        .filter(|frame| !frame.complaints.is_empty() || !frame.protocols.ends_with(":snmp"))
        .collect();
    assert!(bad.is_empty(), "{bad:#?}");
    for form in &forms {
        let version = if form.name == "v1" {
            "0"
        } else if form.name.starts_with("v2c") {
            "1"
        } else {
            "3"
        };
        let frames: Vec<_> = frames.iter().filter(|frame| frame.port == form.port).collect();
        assert!(frames.len() >= 4, "{}: {frames:?}", form.name);
        assert!(frames.iter().all(|frame| frame.version == version), "{}: {frames:?}", form.name);
        let of = form.name.trim_end_matches(" inform");
        let user = users.iter().find(|user| user.name == of);
        if user.is_none_or(|user| known(&user)) {
            let read = |frame: &&&crate::common::tshark::Frame| {
                frame.names.contains("1.3.6.1.4.1.8072.9999.9999.1904")
            };
            assert!(frames.iter().filter(read).count() >= 2, "{}: {frames:?}", form.name);
        }
    }
}

#[test]
fn trap_11_informs_survive_restarts_of_both_sides_and_an_nms_that_does_not_answer() {
    let lab = Lab::new();
    let ns = lab.namespace("outbox");
    let user = User::new(Some("SHA-256"), Some("AES"));
    let listen = "udp:127.0.0.1:11162,udp:127.0.0.1:11163";
    let mut nms = Nms::start_with(&ns, listen, &user.create(None));
    let other = Sink::start(&ns, "127.0.0.1:11164".parse().expect("a constant"));
    let quick = "inform = true\ntimeout = \"300ms\"\nretries = 1\nforward = false\n";
    let mut agent = Agent::start(
        &ns,
        &configuration(&format!(
            "[[notifications.target]]\nname = \"v2c\"\naddress = \"127.0.0.1:11162\"\n\
             community = \"public\"\n{quick}\n\
             [[notifications.target]]\nname = \"v3\"\naddress = \"127.0.0.1:11163\"\n\
             version = \"v3\"\n{}{quick}\n\
             [[notifications.target]]\nname = \"other\"\naddress = \"127.0.0.1:11164\"\n\
             community = \"public\"\nforward = false\n",
            user.target()
        )),
    );
    let device = Device::new(&ns, "127.0.0.9", TRAPS);
    flap(&device, 1);
    wait_told(&agent, || informed(&nms, "v2c"));
    wait_told(&agent, || informed(&nms, "v3"));

    // It is gone: nobody has the port.
    nms.stop();
    flap(&device, 2);
    let unreachable = |agent: &Agent| {
        let rows = agent.journal();
        rows.into_iter()
            .filter(|row| row.kind == "notification_target_unreachable" && row.event == "raise")
            .count()
    };
    wait_until("both targets to be unreachable", SOON, || unreachable(&agent) == 2);
    // The other target is told so at once, and of the alarm: nothing is held up (TRAP-11).
    wait_told(&agent, || other.received());
    assert_eq!(
        agent
            .metrics()
            .sum("evenkeel_alarms_active", &[("kind", "notification_target_unreachable")]),
        2.0
    );
    // The outbox is on the disk.
    agent.restart();
    flap(&device, 3);
    wait_until("the alarms of the device to clear", SOON, || {
        let unstable = [("kind", "interface_unstable")];
        agent.metrics().sum("evenkeel_alarms_active", &unstable) == 0.0
    });
    nms.launch();
    wait_calm(&agent);

    // It is there, and does not answer: the kernel keeps what comes, so that repeats are seen.
    nms.signal(libc::SIGSTOP);
    flap(&device, 4);
    wait_until("both targets to be unreachable again", SOON, || unreachable(&agent) == 4);
    nms.signal(libc::SIGCONT);
    wait_calm(&agent);

    wait_told(&agent, || informed(&nms, "v2c"));
    wait_told(&agent, || informed(&nms, "v3"));
    wait_told(&agent, || other.received());
    let journal = agent.journal();
    judge(&journal, &informed(&nms, "v2c"));
    judge(&journal, &informed(&nms, "v3"));
    judge(&journal, &other.received());
}

/// What snmptrapd was told of alarms in the form of this version.
fn informed(nms: &Nms, version: &str) -> Vec<wire::Told> {
    let all = nms.alarms();
    let of: Vec<_> = all.into_iter().filter(|told| told.how.contains(version)).collect();
    from_nms(&of)
}

#[test]
fn trap_11_an_nms_that_answers_every_third_request_gets_all_in_order() {
    let lab = Lab::new();
    let ns = lab.namespace("third");
    let nms = Answering::start(&ns, "127.0.0.1:11162", 0);
    let mut agent = Agent::start(
        &ns,
        &configuration(
            "[[notifications.target]]\nname = \"nms\"\naddress = \"127.0.0.1:11162\"\n\
             community = \"public\"\ninform = true\ntimeout = \"200ms\"\nretries = 2\n\
             forward = false\n",
        ),
    );
    let device = Device::new(&ns, "127.0.0.9", TRAPS);
    // An hour's worth of alarms while it is away, in seconds.
    for if_index in 1..=8 {
        flap(&device, if_index);
    }
    nms.answer(3);
    for if_index in 9..=10 {
        flap(&device, if_index);
    }
    agent.restart();
    for if_index in 11..=12 {
        flap(&device, if_index);
    }
    wait_until("all alarms of the device to clear", SOON, || {
        let unstable = [("kind", "interface_unstable")];
        agent.metrics().sum("evenkeel_alarms_active", &unstable) == 0.0
    });
    wait_told(&agent, || nms.told());
    nms.answer(1);
    wait_calm(&agent);
    wait_told(&agent, || nms.told());
    let journal = agent.journal();
    let raised =
        journal.iter().filter(|row| row.event == "raise" && row.kind == "interface_unstable");
    assert_eq!(raised.count(), 12);
    judge(&journal, &nms.told());
}

/// An agent between devices and an NMS, each in a namespace of its own: the NMS reaches the devices'
/// network by way of the agent's host, so that a source address from there is believed.
struct Between {
    device: Ns,
    host: Ns,
    nms: Ns,
}

impl Between {
    fn new(lab: &Lab) -> Between {
        let device = lab.namespace("device");
        let host = lab.namespace("host");
        let nms = lab.namespace("nms");
        lab.link((&device, "eth0"), (&host, "eth1"));
        lab.link((&nms, "eth0"), (&host, "eth0"));
        device.address("eth0", "10.9.1.2/24");
        host.address("eth1", "10.9.1.1/24");
        host.address("eth0", "10.9.0.1/24");
        nms.address("eth0", "10.9.0.2/24");
        nms.exec("ip route add default via 10.9.0.1");
        device.exec("ip route add default via 10.9.1.1");
        Between { device, host, nms }
    }

    fn configuration(more: &str) -> String {
        configuration(more).replace(TRAPS, "10.9.1.1:10162")
    }
}

#[test]
fn trap_9_a_forwarded_trap_says_whose_it_is_or_comes_from_its_own_address() {
    let lab = Lab::new();
    let between = Between::new(&lab);
    let listen = "udp:10.9.0.2:11162,udp:10.9.0.2:11163,udp:10.9.0.2:11164,udp:10.9.0.2:11165";
    let nms = Nms::start(&between.nms, listen);
    let mut targets = String::new();
    for (port, keys) in [
        (11162, "community = \"plain\"\n"),
        (11163, "community = \"both\"\norigin = \"address-and-community\"\n"),
        (11164, "community = \"source\"\norigin = \"source\"\n"),
        (11165, "community = \"v1\"\nversion = \"v1\"\n"),
    ] {
        writeln!(
            targets,
            "[[notifications.target]]\nname = \"at-{port}\"\naddress = \"10.9.0.2:{port}\"\n{keys}"
        )
        .expect("memory");
    }
    let agent = Agent::start(&between.host, &Between::configuration(&targets));
    let device = Device::new(&between.device, "10.9.1.2", "10.9.1.1:10162");
    device.v2c(Trap::LinkDown(7));
    device.v1(Trap::LinkUp(8));
    device.v2c(Trap::ColdStart);

    let forwarded = |community: &str| -> Vec<Notification> {
        let all = nms.received();
        let by = format!("community {community}");
        let ours = |told: &Notification| told.from == "10.9.0.1" && told.name.contains("coldStart");
        all.into_iter()
            .filter(|told| told.how.ends_with(&by) && !told.is_alarm())
            // The agent's own start is told too.
            .filter(|told| !ours(told) || told.varbinds.contains_key("snmpTrapAddress"))
            .collect()
    };
    let names = |told: &[Notification]| -> Vec<String> {
        told.iter().map(|told| told.name.rsplit("::").next().expect("a name").to_owned()).collect()
    };
    let wanted = ["linkDown", "linkUp", "coldStart"];
    for community in ["plain", "both"] {
        let ends = Instant::now() + SOON;
        while forwarded(community).len() < 3 && Instant::now() < ends {
            thread::sleep(Duration::from_millis(50));
        }
        let told = forwarded(community);
        assert_eq!(names(&told), wanted, "{community}: {:?}\n{}", nms.lines(), agent.log());
        for told in &told {
            assert_eq!(told.from, "10.9.0.1", "{told:?}");
            assert_eq!(told.value("snmpTrapAddress"), "10.9.1.2", "{told:?}");
            let its = told.varbinds.get("snmpTrapCommunity").map(String::as_str);
            assert_eq!(its, (community == "both").then_some("public"), "{told:?}");
            assert!(told.varbinds.contains_key("evenkeelForwardedBy"), "{told:?}");
        }
        assert_eq!(told[0].value("ifIndex"), "7");
    }
    // As SNMPv1, the device is its agent-addr (RFC 3584, 3.2), which this format does not show.
    wait_until("three SNMPv1 traps", SOON, || {
        let told = nms.received();
        told.iter().filter(|told| told.how == "TRAP, SNMP v1, community v1").count() >= 4
    });
    // From its own address, byte for byte: with the device's own community, and in its own version.
    let original = || -> Vec<Notification> {
        let all = nms.received();
        all.into_iter().filter(|told| told.from == "10.9.1.2").collect()
    };
    wait_until("three traps from the device's address", SOON, || original().len() >= 3);
    let told = original();
    assert_eq!(names(&told), wanted, "{told:?}");
    let how: Vec<_> = told.iter().map(|told| told.how.split(',').next().expect("TRAP")).collect();
    assert_eq!(how, ["TRAP2", "TRAP", "TRAP2"]);
    assert!(told.iter().all(|told| told.how.ends_with("community public")), "{told:?}");
    assert!(told.iter().all(|told| !told.varbinds.contains_key("snmpTrapAddress")), "{told:?}");
}

#[test]
fn trap_8_an_unstable_objects_traps_are_held_back_and_their_number_is_told() {
    let lab = Lab::new();
    let ns = lab.namespace("suppress");
    let nms = Nms::start(&ns, "udp:127.0.0.1:11162,udp:127.0.0.1:11163");
    let targets = "[[notifications.target]]\nname = \"nms\"\naddress = \"127.0.0.1:11162\"\n\
                   community = \"public\"\n\
                   [[notifications.target]]\nname = \"all\"\naddress = \"127.0.0.1:11163\"\n\
                   community = \"all\"\n\
                   [forwarding]\nduring_unstable = \"suppress\"\n\
                   [[forwarding.rule]]\ntraps = [\"1.3.6.1.6.3.1.1.5.4\"]\n\
                   targets = [\"nms\"]\n\
                   [[forwarding.rule]]\ntargets = [\"nms\", \"all\"]\n";
    let agent = Agent::start(&ns, &configuration(targets));
    let device = Device::new(&ns, "127.0.0.9", TRAPS);
    let sent = 9;
    for number in 0..sent {
        if number % 2 == 0 {
            device.v2c(Trap::LinkDown(4));
        } else {
            device.v2c(Trap::LinkUp(4));
        }
    }
    // Another interface is not held back, nor is another system.
    device.v2c(Trap::LinkUp(5));
    Device::new(&ns, "127.0.0.10", TRAPS).v2c(Trap::LinkUp(4));
    wait_calm(&agent);
    let forwarded = |community: &str, name: &str| -> Vec<Notification> {
        let all = nms.received();
        let of = |told: &Notification| told.name == name && told.how.ends_with(community);
        all.into_iter().filter(of).collect()
    };
    wait_until("the clear", SOON, || nms.alarms().len() == 4);
    let alarms = nms.alarms();
    let clear = alarms.iter().find(|told| told.name == "evenkeelAlarmCleared").expect("one");
    // Behind the number, snmptrapd prints the unit that the MIB has.
    let held_back = clear.value("evenkeelSuppressedCount").split(' ').next().expect("a word");
    let held_back: usize = held_back.parse().expect("a number");
    let went = |name: &str, of: &str, if_index: &str| {
        let is = |told: &&Notification| {
            told.value("snmpTrapAddress") == of && told.value("ifIndex") == if_index
        };
        forwarded("public", name).iter().filter(is).count()
    };
    let its = went("IF-MIB::linkDown", "127.0.0.9", "4") + went("IF-MIB::linkUp", "127.0.0.9", "4");
    assert_eq!(its + held_back, sent, "{:?}", nms.lines());
    // The first makes nothing unstable, the second linkDown does, the linkUp between is free.
    assert!((1..=3).contains(&its), "{its} of an unstable interface went on");
    assert_eq!(went("IF-MIB::linkUp", "127.0.0.9", "5"), 1);
    assert_eq!(went("IF-MIB::linkUp", "127.0.0.10", "4"), 1);
    // The first rule that fits wins: a linkUp goes to one target alone.
    assert_eq!(forwarded("all", "IF-MIB::linkUp").len(), 0);
    assert!(!forwarded("all", "IF-MIB::linkDown").is_empty());
}

#[test]
fn trap_9_two_agents_that_forward_to_each_other_end_the_loop() {
    let lab = Lab::new();
    for origin in ["address", "source"] {
        let (one, other) = (lab.namespace("one"), lab.namespace("other"));
        lab.link((&one, "eth0"), (&other, "eth0"));
        one.address("eth0", "10.9.0.1/24");
        other.address("eth0", "10.9.0.2/24");
        let configuration = |own: &str, to: &str, engine: &str| {
            let target = format!(
                "[[notifications.target]]\nname = \"loop\"\naddress = \"{to}:10162\"\n\
                 community = \"public\"\norigin = {origin:?}\nalarms = false\n"
            );
            configuration(&target)
                .replace(TRAPS, &format!("{own}:10162"))
                .replace(ENGINE, engine)
                .replace(
                    "[[traps.community]]",
                    "forwarders = [\"10.9.0.0/24\"]\n[[traps.community]]",
                )
        };
        let first =
            Agent::start(&one, &configuration("10.9.0.1", "10.9.0.2", "0x80001f88046f6e65"));
        let second =
            Agent::start(&other, &configuration("10.9.0.2", "10.9.0.1", "0x80001f880474776f"));
        // What they say of their own start has come by then.
        thread::sleep(Duration::from_secs(1));
        let received = |agent: &Agent| agent.metrics().sum("evenkeel_traps_received_total", &[]);
        let before = (received(&first), received(&second));
        // From another address of the first's network, as its own is not believed to be a device.
        one.address("eth0", "10.9.0.7/24");
        let device = Device::new(&one, "10.9.0.7", "10.9.0.1:10162");
        for if_index in 1..=5 {
            device.v2c(Trap::LinkUp(if_index));
        }
        wait_until("the second to hear", SOON, || received(&second) - before.1 >= 5.0);
        thread::sleep(Duration::from_secs(1));
        let heard = (received(&first) - before.0, received(&second) - before.1);
        // Each trap comes back to the first at most once, and does not leave it again.
        assert!(heard.0 <= 10.0 && heard.1 <= 5.0, "{origin}: a loop: {heard:?}");
        thread::sleep(Duration::from_secs(1));
        let later = (received(&first) - before.0, received(&second) - before.1);
        assert_eq!(heard, later, "{origin}: it goes on");
        drop((first, second));
        drop((one, other));
    }
}
