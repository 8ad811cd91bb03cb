//! What the options of traps, forwarding and notifications become.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    sync::atomic::{AtomicUsize, Ordering},
};

use evenkeel_core::{
    sender::Version,
    settings::{DuringUnstable, Forwarding, ObjectState, Rate},
    usm::{Auth, AuthProtocol, Key, Level, PrivProtocol, Privacy, Secret},
};

use super::{
    super::{problem::render_all, *},
    SECRETS, from_bytes, surroundings,
};

// TRAP-2, TRAP-3, TRAP-4, TRAP-6.
#[test]
fn users_engines_and_limits_arrive() {
    let text = r#"
        [agent]
        engine_id = "80:00:1f:88:04:61"
        [traps]
        source_rate = 0
        max_engines = 1000
        [[traps.limit]]
        sources = ["192.0.2.5", "2001:db8::/32"]
        rate = 50000
        burst = 7
        [[traps.limit]]
        sources = ["192.0.2.6"]
        rate = 0
        [[traps.user]]
        name = "noc"
        auth = "sha256"
        auth_passphrase_file = "windows.secret"
        privacy = "AES-256-C"
        privacy_passphrase_credential = "nms1-passphrase"
        level = "authNoPriv"
        [[traps.user]]
        name = "noc"
        auth = "MD5"
        auth_key_file = "key.secret"
        engines = ["0x80001f8804aabbccdd"]
        [[traps.engine]]
        id = "0x80001f8804aabbccdd"
        system = "192.0.2.7"
    "#;
    let (config, warnings) = from_bytes("evenkeel.toml", text.as_bytes()).unwrap();
    assert_eq!(warnings.len(), 1, "MD5 is warned of");
    assert_eq!(config.agent.engine_id.unwrap().to_string(), "0x80001f880461");
    let limits = config.traps.limits;
    assert_eq!((limits.default, limits.max_sources), (None, 65_536));
    assert_eq!(limits.exceptions[0].1, Some(Rate { per_second: 50_000, burst: 7 }));
    assert_eq!((limits.exceptions[0].0.len(), limits.exceptions[1].1), (2, None));

    let access = config.core.access;
    // TRAP-3: who names users has said who may send.
    assert!(access.communities.is_empty());
    let maple = || Key::Master(Secret(b"maplesyrup".to_vec()));
    let [noc, router] = &access.users[..] else { panic!("{:?}", access.users) };
    assert_eq!(noc.auth, Some(Auth { protocol: AuthProtocol::Sha256, key: maple() }));
    let privacy = Privacy { protocol: PrivProtocol::Aes256Reeder, key: maple() };
    assert_eq!(noc.privacy, Some(privacy));
    assert_eq!((noc.min_level, noc.learn, noc.engines.len()), (Level::AuthNoPriv, true, 0));
    let Some(Auth { key: Key::Localised(key), .. }) = &router.auth else { panic!("{router:?}") };
    // RFC 3414, A.3.1.
    assert_eq!((key.0.len(), key.0[0], key.0[15]), (16, 0x52, 0x2b));
    assert_eq!((router.min_level, router.learn), (Level::AuthNoPriv, false));
    assert_eq!(router.engines, ["0x80001f8804aabbccdd".parse().unwrap()]);
    assert_eq!(access.engines[0].system.to_string(), "192.0.2.7");
    assert_eq!(access.max_engines, 1000);
}

// INST-14.
#[test]
fn links_arrive_from_the_configuration_and_from_files() {
    let text = r#"
        [instability]
        topology_files = ["links/n*.csv"]
        [[instability.link]]
        a = { system = "192.0.2.2", if_index = 7 }
        b = { system = "192.0.2.1", if_index = 3 }
        [[instability.link]]
        b = { system = "192.0.2.6", if_index = 2147483647 }
        [instability.link.a]
        system = "2001:db8::9"
        if_index = 1
    "#;
    let (config, warnings) = from_bytes("evenkeel.toml", text.as_bytes()).unwrap();
    assert!(warnings.is_empty());
    let links = config.core.instability.topology;
    let links: Vec<String> = links.links().iter().map(ToString::to_string).collect();
    let expected = [
        "192.0.2.1 ifIndex 3 - 192.0.2.2 ifIndex 7",
        "192.0.2.2 ifIndex 8 - 2001:db8::1 ifIndex 12",
        "192.0.2.3 ifIndex 1 - 192.0.2.3 ifIndex 2",
        "192.0.2.6 ifIndex 2147483647 - 2001:db8::9 ifIndex 1",
    ];
    assert_eq!(links, expected);
    // Who only asks the agent something may not be able to read them.
    let text = "[instability]\ntopology_files = [\"links/none.csv\"]\n";
    let asks = surroundings().without_secrets();
    assert!(Config::from_bytes("evenkeel.toml", text.as_bytes(), asks).is_ok());
}

#[test]
fn as_many_links_as_are_asked_for_are_read_and_no_file_is_without_end() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("evenkeel.toml");
    fs::write(&path, "[instability]\ntopology_files = [\"links.csv\"]\n").unwrap();
    let load = |links: u32| {
        let line = |nth: u32| {
            let [_, a, b, c] = nth.to_be_bytes();
            format!("10.{a}.{b}.{c},1,2001:db8::{a:x}:{b:x}:{c:x},2\n")
        };
        let lines: String = (0..links).map(line).collect();
        fs::write(directory.path().join("links.csv"), lines).unwrap();
        Config::load(&path).map(|(config, _)| config.core.instability.topology.links().len())
    };
    assert_eq!(load(200_000).unwrap(), 200_000);
    let refused = load(200_001).unwrap_err().to_string();
    assert!(refused.contains("links.csv: there are more than 200000 links"), "{refused}");
    fs::write(directory.path().join("links.csv"), vec![b'x'; 33 << 20]).unwrap();
    let refused = Config::load(&path).unwrap_err().to_string();
    assert!(refused.contains("links.csv: this file is longer than 32 MiB"), "{refused}");
    fs::write(directory.path().join("links.csv"), "x\n".repeat(1_000_000)).unwrap();
    let refused = Config::load(&path).unwrap_err();
    assert_eq!(refused.problems().len(), 100, "more would tell nobody more");
}

// PEER-1 to PEER-5, PEER-7, PEER-13.
#[test]
fn peers_and_their_groups_arrive() {
    let text = r#"
        [[peers.group]]
        name = "core"
        heartbeat = "pmipv6"
        interval = "5s"
        timeout = "500ms"
        max_retransmissions = 15
        recovery_count = 2
        monitor_max_peers = 1000
        enabled = false
        source = ["2001:db8::9", "127.0.0.1"]
        peers = ["198.51.100.1", "2001:db8::1"]
        disabled = ["2001:db8::1"]
        labels = { site = "b", rack = "7", none = "" }
        files = ["core.yml", "/srv/peers/*.json"]
        [[peers.group]]
        name = "edge"
        peers = ["198.51.100.2"]
        [peers]
        monitor_max_peers = 300
        heartbeat_batch = { interval = "100ms" }
        retransmission_batch = { size = 1000 }
        receive_buffer = "16MiB"
        metrics = "full"
    "#;
    let (config, warnings) = from_bytes("evenkeel.toml", text.as_bytes()).unwrap();
    assert!(warnings.is_empty());
    let Peers { settings, sources, receive_buffer, metrics } = config.peers;
    assert_eq!((receive_buffer, metrics), (16 << 20, PeerMetrics::Full));
    let batch = |batch: peers::settings::Batch| (batch.size.get(), batch.interval.as_millis());
    assert_eq!(batch(settings.batches.heartbeat), (550, 100));
    assert_eq!(batch(settings.batches.retransmission), (1000, 100));
    let [core, edge] = &settings.groups[..] else { panic!("{settings:?}") };
    assert_eq!((core.name.as_str(), core.kind), ("core", peers::settings::Heartbeat::ProxyMobile));
    assert_eq!((core.interval.as_millis(), core.timeout.as_millis()), (5000, 500));
    assert_eq!((core.max_retransmissions.get(), core.recovery_count.get()), (15, 2));
    assert_eq!(core.source_v4, Some(Ipv4Addr::LOCALHOST));
    assert_eq!(core.source_v6, Some("2001:db8::9".parse().unwrap()));
    assert_eq!(
        *edge,
        peers::settings::Group { limit: 300, ..peers::settings::Group::named("edge") }
    );
    assert_eq!(core.limit, 1000);
    let listed = |list: &[IpAddr]| list.iter().map(IpAddr::to_string).collect::<Vec<_>>();
    assert_eq!(listed(&sources[0].peers), ["198.51.100.1", "2001:db8::1"]);
    assert_eq!(listed(&sources[0].disabled), ["2001:db8::1"]);
    let labels = [("rack", "7"), ("site", "b")].map(|(name, value)| (name.into(), value.into()));
    assert_eq!(*sources[0].labels, labels, "an empty label is none");
    let files: Vec<String> = sources[0].files.iter().map(ToString::to_string).collect();
    let relative = SECRETS.path().join("core.yml").display().to_string();
    assert_eq!(files, [relative.as_str(), "/srv/peers/*.json"]);
    assert_eq!((sources[0].enabled, sources[1].enabled), (false, true));
}

// PEER-8: nothing but the sum of all decides, in whatever order they stand.
#[test]
fn the_order_of_the_settings_of_peers_makes_no_difference() {
    let group = ["name = \"core\"", "interval = \"30s\"", "peers = [\"192.0.2.1\"]"];
    let section = ["monitor_max_peers = 128000", "heartbeat_batch = { size = 1200 }"];
    let text = |section: &[&str], group: &[&str], group_first: bool| {
        let section = format!("[peers]\n{}\n", section.join("\n"));
        let group = format!("[[peers.group]]\n{}\n", group.join("\n"));
        if group_first { group + &section } else { section + &group }
    };
    let mut orders = Vec::new();
    for section in [section, [section[1], section[0]]] {
        for group in [group, [group[2], group[1], group[0]], [group[1], group[2], group[0]]] {
            orders.push(text(&section, &group, false));
            orders.push(text(&section, &group, true));
        }
    }
    for text in orders {
        let taken = from_bytes("evenkeel.toml", text.as_bytes());
        assert!(taken.is_ok(), "{text}\n{}", taken.unwrap_err().render(false));
        // With the default batches they do not fit.
        let refused = from_bytes("evenkeel.toml", text.replace("1200", "550").as_bytes());
        assert!(refused.unwrap_err().render(false).contains("46.6"), "{text}");
    }
}

// TRAP-8, TRAP-9, TRAP-10, TRAP-13.
#[test]
fn rules_and_targets_arrive() {
    let text = r#"
        [forwarding]
        during_unstable = "forward"
        [[forwarding.rule]]
        traps = ["linkDown", ".1.3.6.1.4.1.9"]
        addresses = ["10.0.0.0/8"]
        groups = ["on-demand"]
        states = ["down", "stable"]
        targets = ["nms3", "nms1"]
        during_unstable = "suppress"
        [[forwarding.rule]]
        targets = []
        [[notifications.target]]
        name = "nms1"
        address = "192.0.2.9"
        version = "v1"
        community_file = "good.secret"
        origin = "source"
        alarms = false
        [[notifications.target]]
        address = "192.0.2.10"
        forward = false
        [[notifications.target]]
        name = "nms3"
        address = "192.0.2.11"
        version = "v3"
        inform = true
        user = "evenkeel"
        auth = "SHA-512"
        auth_passphrase = "maplesyrup"
        context = "north"
        engine_id = "0x80001f8804aabbccdd"
        timeout = "500ms"
        retries = 0
        rate = 10
        burst = 20
        window = 30
        kinds = ["subnet_down", "overload"]
        least_severity = "major"
        origin = "address-and-community"
        [spool]
        max_size = "16MiB"
        [journal]
        max_rows = 1000
        [supervision]
        interval = "2s"
        missed = 4
        enabled = false
    "#;
    let (config, _) = from_bytes("evenkeel.toml", text.as_bytes()).unwrap();
    let Forwarding { targets, rules, .. } = config.core.forwarding;
    let targets: Vec<_> = targets.iter().map(|t| (&*t.name, t.durable, t.original)).collect();
    let second = "192.0.2.10:162";
    assert_eq!(targets, [("nms1", false, true), (second, false, false), ("nms3", true, false)]);
    assert_eq!(rules[0].traps[0], [1, 3, 6, 1, 6, 3, 1, 1, 5, 3]);
    assert_eq!(rules[0].traps[1], [1, 3, 6, 1, 4, 1, 9]);
    assert_eq!(rules[0].states, [ObjectState::Down, ObjectState::Stable]);
    assert_eq!((&rules[0].groups[0][..], &rules[0].targets[..]), ("on-demand", &[2, 0][..]));
    assert_eq!(rules[0].during_unstable, DuringUnstable::Suppress);
    assert_eq!(rules[1].during_unstable, DuringUnstable::Forward);
    assert!(rules[1].targets.is_empty());

    let [nms1, _, nms3] = &config.notifications.targets[..] else { panic!() };
    let version = Version::V1 { community: b"maplesyrup".to_vec() };
    assert_eq!(nms1.destination, Destination { version, confirmed: false });
    assert_eq!((nms1.alarms, nms1.origin), (false, Origin::Source));
    assert!(nms3.destination.confirmed);
    let Version::V3 { user } = &nms3.destination.version else { panic!("{nms3:?}") };
    assert_eq!((&user.name[..], &user.context[..]), (&b"evenkeel"[..], &b"north"[..]));
    assert_eq!(user.level, Level::AuthNoPriv);
    assert_eq!(user.engine, Some("0x80001f8804aabbccdd".parse().unwrap()));
    assert_eq!((nms3.timeout.as_millis(), nms3.retries), (500, 0));
    assert_eq!((nms3.rate, nms3.burst, nms3.window), (10, 20, 30));
    assert_eq!(nms3.kinds, [Kind::SubnetDown, Kind::Overload]);
    assert_eq!(nms3.least_severity, alarm::Severity::Major);
    assert_eq!(nms3.origin, Origin::Address { community: true });
    assert_eq!((config.spool.max_size, config.journal.max_rows), (16 << 20, 1000));
    let interval = std::time::Duration::from_secs(2);
    let settings = supervision::Settings { interval, missed: 4, enabled: false };
    assert_eq!(config.supervision, settings);
}

// TRAP-8: without a rule, every trap goes to every target that takes traps.
#[test]
fn without_a_rule_every_trap_goes_on() {
    let text = "[[notifications.target]]\naddress = \"192.0.2.9\"\nforward = false\n\
                [[notifications.target]]\naddress = \"192.0.2.10\"\n";
    let (config, _) = from_bytes("evenkeel.toml", text.as_bytes()).unwrap();
    let Forwarding { targets, rules, .. } = config.core.forwarding;
    assert_eq!((targets.len(), rules.len(), &rules[0].targets[..]), (2, 1, &[1][..]));
    assert_eq!(rules[0].during_unstable, DuringUnstable::Suppress);
    assert!(rules[0].traps.is_empty() && rules[0].systems.is_empty());
}

#[test]
fn a_key_is_made_once_for_all_who_share_its_passphrase() {
    static MADE: AtomicUsize = AtomicUsize::new(0);
    let surroundings = Surroundings {
        secrets: true,
        master_key: |_, passphrase| {
            MADE.fetch_add(1, Ordering::Relaxed);
            Secret(passphrase.to_vec())
        },
        ..surroundings()
    };
    let text = user("a") + "privacy = \"AES\"\nprivacy_passphrase = \"maplesyrup\"\n" + &user("b");
    Config::from_bytes("evenkeel.toml", text.as_bytes(), surroundings).unwrap();
    assert_eq!(MADE.load(Ordering::Relaxed), 1);
}

#[test]
fn without_systemd_a_credential_is_told_why() {
    let surroundings = Surroundings { credentials: None, ..surroundings() };
    let text = "[[traps.community]]\nname_credential = \"community\"\n";
    let errors = Config::from_bytes("evenkeel.toml", text.as_bytes(), surroundings).unwrap_err();
    assert!(errors.to_string().contains("$CREDENTIALS_DIRECTORY is not set"), "{errors}");
}

#[test]
fn a_passphrase_in_a_file_for_everyone_is_warned_of_once() {
    let path = SECRETS.path().join("evenkeel.toml");
    fs::write(&path, user("a") + &user("b")).unwrap();
    let warnings = |mode| {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let (_, warnings) = Config::load(&path).unwrap();
        render_all(&warnings, false)
    };
    assert_eq!(warnings(0o640), "");
    let told = warnings(0o644);
    assert_eq!(told.matches("every user of this host may use this file (mode 0644)").count(), 1);
}

#[test]
fn a_changed_secret_is_a_changed_configuration() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("evenkeel.toml");
    fs::write(&path, "[[traps.community]]\nname_file = \"community\"\n").unwrap();
    let load = |community: &str| {
        fs::write(directory.path().join("community"), community).unwrap();
        Config::load(&path).unwrap().0
    };
    let (first, same, other) = (load("one\n"), load("one"), load("two\n"));
    assert!(first == same && first != other);
}

fn user(name: &str) -> String {
    format!("[[traps.user]]\nname = \"{name}\"\nauth = \"SHA\"\nauth_passphrase = \"maplesyrup\"\n")
}

#[test]
fn who_only_asks_needs_no_secret() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("evenkeel.toml");
    let text = r#"
        [agent]
        control_socket = "/run/evenkeel.sock"
        [[traps.community]]
        name_file = "not-for-you"
        [[traps.user]]
        name = "noc"
        auth = "SHA-256"
        auth_passphrase_file = "not-for-you"
        privacy = "AES"
        privacy_passphrase_credential = "nor-this"
    "#;
    std::fs::write(&path, text).unwrap();
    assert!(Config::load(&path).is_err(), "the agent itself needs them");
    let config = Config::load_without_secrets(Some(&path)).unwrap();
    assert_eq!(config.agent.control_socket(), std::path::Path::new("/run/evenkeel.sock"));
}
