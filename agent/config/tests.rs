//! Holds the reader to its test data: a file for each mistake with its exact message beside it,
//! and the sample and the reference page, which must name what the reader knows.
//!
//! To see what a changed message would print, run these tests with `EVENKEEL_WRITE_EXPECTED=1`:
//! the `.txt` files are then written, for the eye and the version control to judge.

mod options;
mod pair;
mod secrets;

use std::{
    fs,
    net::IpAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use evenkeel_core::{
    input::{Host, HostInterface},
    settings::{Access, GroupSettings, Instability, Settings, Subnets},
    usm::Secret,
};
use proptest::prelude::*;

use super::{host::check_against_host, problem::render_all, *};

/// A file of the source tree.
fn tree(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A directory with files that hold secrets, good and bad, and one with credentials; and with
/// topology files.
static SECRETS: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, mode: u32, content: &[u8]| {
        let path = directory.path().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    };
    fs::create_dir(directory.path().join("credentials")).unwrap();
    for (name, mode, content) in [
        ("good.secret", 0o640, &b"maplesyrup\n"[..]),
        ("windows.secret", 0o600, b"maplesyrup\r\n"),
        ("key.secret", 0o600, b"0x526f5eed9fcce26f8964c2930787d82b\n"),
        ("everyones.secret", 0o644, b"maplesyrup\n"),
        ("empty.secret", 0o600, b"\n"),
        ("short.secret", 0o600, b"maple\n"),
        ("lines.secret", 0o600, b"maple\nsyrup\n"),
        ("long.secret", 0o600, &[b'x'; 1025]),
        ("web.yml", 0o640, b"http_server_config:\n  http2: false\n"),
        ("credentials/nms1-passphrase", 0o400, b"maplesyrup"),
    ] {
        write(name, mode, content);
    }
    fs::create_dir(directory.path().join("links")).unwrap();
    for (name, content) in [
        ("north.csv", NORTH),
        ("south.csv", "192.0.2.9,1,192.0.2.1,3\n192.0.2.4,1,192.0.2.3,1\n"),
        ("wrong.csv", WRONG),
        ("empty.csv", "\n"),
    ] {
        write(&format!("links/{name}"), 0o640, content.as_bytes());
    }
    write("links/latin-1.csv", 0o640, b"# Stra\xdfe\n192.0.2.1,3,192.0.2.2,7\n");
    directory
});

/// A topology file as an inventory may write it, which lists a cable from both of its ends.
const NORTH: &str = "\u{feff}system,if_index,system,if_index\r
# core\r
192.0.2.1,3,192.0.2.2,7\r
192.0.2.2,7,192.0.2.1,3\r

\"2001:db8::1\", \"12\", \"192.0.2.2\", \"8\" # to the south\r
192.0.2.3,1,192.0.2.3,2\r
";

/// One with every mistake that a line can hold.
const WRONG: &str = "\
192.0.2.1,3,192.0.2.2
192.0.2.1;3;192.0.2.2;7
192.0.2.1,3,192.0.2.2,7,copper
192.0.2.1,3,192.0.2.1,3
router1,3,192.0.2.2,0
192.0.2.1, Gi0/3 ,192.0.2.2,
# 192.0.2.1 ifIndex 3 leads to two places.
192.0.2.1,3,192.0.2.2,7
192.0.2.5,4,192.0.2.1,3
system,if_index,system,if_index
";

/// What the test data refers to. Making real keys would take the most time of these tests.
fn surroundings() -> Surroundings {
    Surroundings {
        directory: SECRETS.path().to_owned(),
        credentials: Some(SECRETS.path().join("credentials")),
        open_mode: None,
        secrets: true,
        master_key: |_, passphrase| Secret(passphrase.to_vec()),
    }
}

fn from_bytes(name: &str, bytes: &[u8]) -> Result<(Config, Vec<Warning>), ConfigErrors> {
    Config::from_bytes(name, bytes, surroundings())
}

/// Compares what each file of a directory of test data gives with the text beside it.
fn each_file(directory: &str, at_least: usize, outcome: impl Fn(&str, &[u8]) -> String) {
    let directory = tree("agent/config/testdata").join(directory);
    let mut names: Vec<PathBuf> =
        fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    let (files, texts): (Vec<_>, Vec<_>) =
        names.into_iter().partition(|path| path.extension().is_some_and(|ending| ending == "toml"));
    assert!(files.len() >= at_least, "only {} files in {}", files.len(), directory.display());
    let mut wrong = Vec::new();
    for file in &files {
        let name = file.file_name().unwrap().to_str().unwrap();
        // Where the directory is differs from run to run.
        let beside = format!("{}/", SECRETS.path().display());
        let found = outcome(name, &fs::read(file).unwrap()).replace(&beside, "");
        let text = file.with_extension("txt");
        if std::env::var_os("EVENKEEL_WRITE_EXPECTED").is_some() {
            fs::write(&text, &found).unwrap();
        }
        let expected = fs::read_to_string(&text).unwrap_or_else(|_| "(no .txt file)".to_owned());
        if found != expected {
            wrong.push(format!("{name} gives\n{found}\nand not\n{expected}"));
        }
    }
    for text in texts {
        assert!(files.contains(&text.with_extension("toml")), "{} has no file", text.display());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

// SUBN-11 and every other mistake that one file alone can hold.
#[test]
fn each_bad_file_is_refused_with_its_message() {
    each_file("bad", 80, |name, bytes| match from_bytes(name, bytes) {
        Ok(_) => "this was taken\n".to_owned(),
        Err(errors) => errors.render(false),
    });
}

#[test]
fn each_doubtful_file_is_taken_with_its_warning() {
    each_file("warned", 4, |name, bytes| match from_bytes(name, bytes) {
        Ok((_, warnings)) => render_all(&warnings, false),
        Err(errors) => format!("refused:\n{}", errors.render(false)),
    });
}

// SUBN-11: the checks that need the host's own addresses.
#[test]
fn each_file_that_does_not_fit_the_host_is_told_so() {
    each_file("host", 7, |name, bytes| match from_bytes(name, bytes) {
        Ok((config, _)) => {
            let (errors, warnings) = check_against_host(&config, &host());
            render_all(&errors, false) + &render_all(&warnings, false)
        }
        Err(errors) => format!("refused without looking:\n{}", errors.render(false)),
    });
}

/// A host with two interfaces on two subnets.
fn host() -> Host {
    let interface = |index, name: &str, addresses: &[&str]| HostInterface {
        index,
        name: name.to_owned(),
        up: true,
        running: true,
        loopback: name == "lo",
        addresses: addresses.iter().map(|net| net.parse().unwrap()).collect(),
        gateways: Vec::new(),
    };
    Host {
        interfaces: vec![
            interface(1, "lo", &["127.0.0.1/8", "::1/128"]),
            interface(2, "eth0", &["192.0.2.10/24", "fe80::10/64"]),
            interface(3, "eth1", &["192.0.2.20/24", "fe80::20/64"]),
        ],
    }
}

#[test]
fn what_fits_the_host_is_told_nothing() {
    let text = "[[subnets.subnet]]\nprefix = \"192.0.2.0/24\"\npolling_targets = [\"192.0.2.1\"]\n\
                [[subnets.subnet]]\nprefix = \"198.51.100.0/24\"\nmonitor = false\n\
                polling_targets = [\"192.0.2.10\"]\n\
                [[notifications.target]]\naddress = \"192.0.2.10:162\"\n";
    let (config, warnings) = from_bytes("evenkeel.toml", text.as_bytes()).unwrap();
    assert!(warnings.is_empty());
    let (errors, warnings) = check_against_host(&config, &host());
    assert_eq!(render_all(&errors, false) + &render_all(&warnings, false), "");
}

#[test]
fn nothing_configured_is_the_default() {
    let (config, warnings) = from_bytes("evenkeel.toml", b"").unwrap();
    assert_eq!(config, Config::default());
    assert!(warnings.is_empty());
    assert_eq!(config.core, Settings::default());
    assert!(config.traps.listen_is_default);
}

#[test]
fn groups_inherit_what_they_do_not_say() {
    let text = r#"
        [instability]
        interfaces = { window = "1m", threshold = 5 }
        systems = { threshold = 0 }
        interface_down = false
        [[instability.group]]
        name = "core"
        addresses = ["10.1.0.0/16", "10.2.0.1"]
        if_type = [63, "ppp"]
        interfaces = { threshold = 7 }
        [[instability.group]]
        name = "edge"
        interfaces = { window = "0s" }
        systems = { window = "10m" }
        interface_down = true
    "#;
    let (config, _) = from_bytes("evenkeel.toml", text.as_bytes()).unwrap();
    let Instability { groups, otherwise, .. } = config.core.instability;
    let analysis = |settings: Option<evenkeel_core::settings::Analysis>| {
        settings.map(|analysis| (analysis.window.length().as_secs(), analysis.threshold.get()))
    };
    let read = |settings: &GroupSettings| {
        (analysis(settings.interfaces), analysis(settings.systems), settings.interface_down)
    };
    assert_eq!(read(&otherwise), (Some((60, 5)), None, false));
    assert_eq!(read(&groups[0].settings), (Some((60, 7)), None, false));
    // INST-11: off by the window; on again where it is off around it.
    assert_eq!(read(&groups[1].settings), (None, Some((600, 3)), true));
    assert_eq!(groups[0].matches.if_type, [63, 23]);
    assert_eq!(groups[0].matches.systems[1].to_string(), "10.2.0.1/32");
    assert_eq!(groups.len(), 2, "configured groups take the place of the shipped one (INST-12)");
}

// TRAP-3: communities take the place of the rule for loopback.
#[test]
fn every_kind_of_value_arrives() {
    let text = r#"
        [agent]
        name = "north"
        state_dir = "/srv/evenkeel"
        record = "/srv/inputs"
        [traps]
        listen = ["192.0.2.1:162"]
        receive_buffer = "1MB"
        forwarders = ["192.0.2.5"]
        community = [{ name = "a", sources = ["10.0.0.0/8"] }, { sources = ["::1"] }]
        [subnets]
        poll_interval = "1s500ms"
        in_a_row = 0x10
        watch_gateways = false
        [[subnets.subnet]]
        prefix = "fe80::/64"
        polling_targets = ["fe80::1%eth0", "fe80::1%eth1"]
        require = "all"
        [notifications]
        root_oid = ".1.3.6.1.4.1.4711.9"
        [[notifications.target]]
        address = "2001:db8::9"
        [web]
        enabled = false
        [journal]
        keep = "1d"
    "#;
    let (config, warnings) = from_bytes("evenkeel.toml", text.as_bytes()).unwrap();
    assert!(warnings.is_empty());
    assert_eq!(config.agent.name(), "north");
    assert_eq!(config.agent.control_socket(), Path::new("/srv/evenkeel/control.sock"));
    assert_eq!(config.traps.listen, ["192.0.2.1:162".parse().unwrap()]);
    assert!(!config.traps.listen_is_default);
    assert_eq!(config.traps.receive_buffer, 1_000_000);
    let Access { communities, forwarders, .. } = config.core.access;
    assert_eq!(communities[0].name.as_deref(), Some(&b"a"[..]));
    assert_eq!((communities[1].name.as_ref(), communities.len()), (None, 2));
    assert_eq!(forwarders[0].to_string(), "192.0.2.5/32");
    let Subnets { poll_interval, in_a_row, watch_gateways, subnets } = config.core.subnets;
    assert_eq!((poll_interval.as_millis(), in_a_row.get(), watch_gateways), (1500, 16, false));
    assert_eq!(subnets[0].polling_targets[1].zone.as_deref(), Some("eth1"));
    let target = &config.notifications.targets[0];
    assert_eq!(target.name, "[2001:db8::9]:162");
    assert_eq!(target.address.ip(), "2001:db8::9".parse::<IpAddr>().unwrap());
    assert_eq!(config.notifications.root_oid.arcs(), [1, 3, 6, 1, 4, 1, 4711, 9]);
    assert!(!config.web.enabled);
    assert_eq!(config.journal.keep.as_secs(), 86_400);
}

#[test]
fn an_error_in_colour_says_the_same() {
    let errors = from_bytes("evenkeel.toml", b"[web]\nenabled = 1\n").unwrap_err();
    let (plain, colored) = (errors.render(false), errors.render(true));
    assert!(!plain.contains('\x1b') && colored.contains('\x1b'));
    let mut stripped = String::new();
    for (nth, part) in colored.split('\x1b').enumerate() {
        stripped.push_str(if nth == 0 { part } else { part.split_once('m').unwrap().1 });
    }
    assert_eq!(stripped, plain);
}

#[test]
fn the_control_socket_is_found_in_a_file_that_is_refused_for_something_else() {
    for (text, expected) in [
        ("[agent]\nstate_dir = \"/srv/ek\"\ncolour = 1\n", Some("/srv/ek/control.sock")),
        ("[agent]\nstate_dir = \"/srv/ek\"\n[traps]\nlisten = \n", Some("/srv/ek/control.sock")),
        ("[agent]\ncontrol_socket = \"/run/ek\"\nstate_dir = \"/srv\"\n", Some("/run/ek")),
        // A quote is missing, and what is meant is clear.
        ("[agent]\nstate_dir = \"/srv/ek\n", Some("/srv/ek/control.sock")),
        // It is here that it is wrong.
        ("[agent]\nstate_dir = 7\n", None),
        ("[agent]\nstate_dir = \"here\"\n", None),
        ("[agent]\nstate_dir =\n", None),
        ("agent = 1\n", None),
    ] {
        let found = super::control_socket_of(text);
        assert_eq!(found.as_deref(), expected.map(Path::new), "{text}");
    }
    let default = super::Agent::default().control_socket();
    assert_eq!(super::control_socket_of("[traps]\nlisten = 7\n"), Some(default));
}

#[test]
fn the_state_directory_is_where_its_owner_expects_it() {
    let variables = |set: &'static [(&str, &str)]| {
        move |name: &str| {
            set.iter().find(|(key, _)| *key == name).map(|(_, value)| PathBuf::from(value))
        }
    };
    let service = [("STATE_DIRECTORY", "/var/lib/private/evenkeel:/b"), ("HOME", "/root")];
    let service: &'static [(&str, &str)] = Box::leak(Box::new(service));
    let of = |root, set| default_state_dir(root, variables(set));
    assert_eq!(of(false, service), Path::new("/var/lib/private/evenkeel"));
    assert_eq!(of(true, &[("HOME", "/root")]), Path::new("/var/lib/evenkeel"));
    let xdg = of(false, &[("XDG_STATE_HOME", "/h/s"), ("HOME", "/h")]);
    assert_eq!(xdg, Path::new("/h/s/evenkeel"));
    assert_eq!(of(false, &[("HOME", "/h")]), Path::new("/h/.local/state/evenkeel"));
    assert_eq!(of(false, &[("XDG_STATE_HOME", "s")]), Path::new("/var/lib/evenkeel"));
}

/// The sample with every option switched on: a line `#key = value` or `#[section]` is an option,
/// a line `# text` is a comment.
fn sample_with_every_option() -> String {
    let sample = fs::read_to_string(tree("packaging/evenkeel.toml")).unwrap();
    let uncomment = |line: &str| match line.strip_prefix('#') {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '[') => {
            rest.to_owned()
        }
        _ => line.to_owned(),
    };
    sample.lines().map(uncomment).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_sample_as_it_is_changes_nothing() {
    let (config, warnings) = Config::load(&tree("packaging/evenkeel.toml")).unwrap();
    assert_eq!(config, Config::default());
    assert!(warnings.is_empty());
}

#[test]
fn the_sample_with_every_option_loads() {
    let sample = sample_with_every_option();
    match from_bytes("evenkeel.toml", sample.as_bytes()) {
        Ok((_, warnings)) => assert_eq!(render_all(&warnings, false), ""),
        Err(errors) => panic!("{}", errors.render(false)),
    }
}

/// The options that the sample shows with their default, and not as an example, are those before
/// the first list of tables of each section.
#[test]
fn the_defaults_in_the_sample_are_the_defaults() {
    let mut text = String::new();
    let mut in_table_list = false;
    for line in sample_with_every_option().lines() {
        if line.starts_with('[') {
            in_table_list = line.starts_with("[[");
        }
        // These have no default that could be written down: it depends on the host.
        let example = [
            "name =",
            "state_dir =",
            "control_socket =",
            "record =",
            "forwarders =",
            "engine_id =",
            "config_file =",
            "witnesses =",
        ];
        if !in_table_list && !example.iter().any(|key| line.starts_with(key)) {
            text.push_str(line);
            text.push('\n');
        }
    }
    let (mut config, _) = from_bytes("evenkeel.toml", text.as_bytes()).unwrap();
    assert!(!config.traps.listen_is_default, "the sample shows traps.listen");
    config.traps.listen_is_default = true;
    // Slot and mate have no default, so that there is no pair by default.
    let shortest = b"[pair]\nslot = 0\nmate = \"192.0.2.2\"\n";
    assert_eq!(config.pair.take(), from_bytes("evenkeel.toml", shortest).unwrap().0.pair);
    assert_eq!(config, Config::default());
}

#[test]
fn the_sample_and_the_reference_name_every_option() {
    let sample = sample_with_every_option();
    let (_, _, known) = read("evenkeel.toml", &sample, surroundings()).unwrap();
    assert!(known.len() > 40, "{known:?}");
    let reference = fs::read_to_string(tree("agent/config/README.md")).unwrap();
    let mut section = String::new();
    let mut shown = std::collections::BTreeSet::new();
    for line in sample.lines() {
        if line.starts_with('[') {
            section = line.trim_matches(['[', ']']).to_owned();
            let mut path = String::new();
            for part in section.split('.') {
                path = if path.is_empty() { part.to_owned() } else { format!("{path}.{part}") };
                shown.insert(path.clone());
            }
        } else if let Some((key, value)) = line.split_once(" = ") {
            shown.insert(format!("{section}.{key}"));
            if let Some(inner) = value.strip_prefix("{ ") {
                for pair in inner.split(", ") {
                    let inner_key = pair.split_once(" = ").unwrap().0;
                    shown.insert(format!("{section}.{key}.{inner_key}"));
                }
            }
        }
    }
    // The sample says once that every secret has two more forms.
    assert!(sample.contains("X_file") && sample.contains("X_credential"));
    let other_form = |key: &&String| key.ends_with("_file") || key.ends_with("_credential");
    let missing: Vec<_> = known.difference(&shown).filter(|key| !other_form(key)).collect();
    assert!(missing.is_empty(), "the sample lacks {missing:?}");
    let missing: Vec<_> =
        known.iter().filter(|key| !reference.contains(&format!("`{key}`"))).collect();
    assert!(missing.is_empty(), "README.md lacks {missing:?}");
}

#[test]
fn what_is_no_configuration_is_refused_in_few_words() {
    let message = |bytes: &[u8]| {
        let errors = from_bytes("evenkeel.toml", bytes).unwrap_err();
        let text = errors.render(false);
        assert!(text.len() < 100_000, "{} bytes", text.len());
        text
    };
    assert!(message(&vec![b'#'; 10_000_000]).contains("longer than 4 MiB"));
    assert!(message(&vec![0; 1_000_000]).starts_with("evenkeel.toml:1:1: there is a NUL"));
    for nested in ["[", "{a=", "a."] {
        let deep = format!("a = {}", nested.repeat(100_000));
        message(deep.as_bytes());
        message(&deep.as_bytes()[4..]);
    }
    assert!(message(format!("[{}a]", "a.".repeat(1_000_000)).as_bytes()).contains("too deeply"));
    assert!(message("x\n".repeat(1_000_000).as_bytes()).contains("and 999900 more"));
    assert!(message("a = [\n".repeat(100_000).as_bytes()).contains("this is no TOML"));
}

proptest! {
    #[test]
    fn no_bytes_cause_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Err(errors) = from_bytes("evenkeel.toml", &bytes) {
            errors.render(true);
        }
    }

    #[test]
    fn no_text_causes_a_panic(text in "([a-z\\[\\]=\"{}.,\n0-9\u{e9}\u{202e} ]|\\PC){0,200}") {
        if let Err(errors) = from_bytes("evenkeel.toml", text.as_bytes()) {
            errors.render(false);
        }
    }

    /// The sample with some bytes changed, cut out or doubled comes nearer to what a hand does.
    #[test]
    fn no_slip_of_the_pen_causes_a_panic(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), 0u8..3, any::<u8>()), 1..6),
    ) {
        let mut bytes = sample_with_every_option().into_bytes();
        for (at, kind, byte) in changes {
            let at = at.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => { bytes.remove(at); }
                _ => bytes.insert(at, bytes[at]),
            }
        }
        match from_bytes("evenkeel.toml", &bytes) {
            Ok((config, warnings)) => {
                render_all(&warnings, false);
                check_against_host(&config, &host());
            }
            Err(errors) => { errors.render(true); }
        }
    }

    /// No topology file does, whatever is in it.
    #[test]
    fn no_topology_file_causes_a_panic(
        text in "(192\\.0\\.2\\.[0-9]|2001:db8::[0-9]|[0-9]|,|\n|#|\"|\\PC| |\u{feff}){0,80}",
    ) {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("links.csv"), text).unwrap();
        let surroundings = Surroundings { directory: directory.path().to_owned(), ..surroundings() };
        let text = b"[instability]\ntopology_files = [\"links.csv\"]\n";
        if let Err(errors) = Config::from_bytes("evenkeel.toml", text, surroundings) {
            errors.render(true);
        }
    }

    /// No value that a string can hold makes any option panic.
    #[test]
    fn no_value_causes_a_panic(value in "\\PC{0,30}|[0-9a-z.:%/\\[\\]]{0,40}") {
        let value = toml::Value::String(value).to_string();
        let text: String = sample_with_every_option().lines().map(|line| {
            match line.split_once(" = ") {
                Some((key, old)) if old.starts_with('"') => format!("{key} = {value}\n"),
                Some((key, old)) if old.starts_with('[') => format!("{key} = [{value}]\n"),
                _ => format!("{line}\n"),
            }
        }).collect();
        if let Err(errors) = from_bytes("evenkeel.toml", text.as_bytes()) {
            errors.render(false);
        }
    }
}
