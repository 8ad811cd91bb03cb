//! The deb: installed, upgraded, removed and purged, and what is left then; a downgrade that is refused.

use std::fs;

use super::{PACKAGES, root::Root};
use crate::common::{Lab, repository};

/// A configuration that an operator has written.
const CONFIGURATION: &str = "# ours\n[traps]\nsource_rate = 10\n";

/// What purging leaves, as Debian's policy has it: the user, whose number must not become another's.
const USER: [&str; 4] = ["etc/passwd", "etc/group", "etc/shadow", "etc/gshadow"];

#[test]
fn the_deb_keeps_configuration_and_state_and_leaves_nothing_when_purged() {
    let _lab = Lab::new();
    let root = Root::new();
    let [first, second] = PACKAGES.each_ref().map(|packages| root.bring(&packages.deb));
    let before = root.files();

    root.run(&format!("dpkg -i {first}"));
    assert_eq!(root.stat("/etc/evenkeel"), "root evenkeel 750");
    assert_eq!(root.stat("/etc/evenkeel/evenkeel.toml"), "root evenkeel 640");
    assert_eq!(root.stat("/var/lib/evenkeel"), "evenkeel evenkeel 750");
    assert_eq!(root.stat("/usr/bin/evenkeel"), "root root 755");
    root.run(
        "evenkeel check && evenkeel --version && setpriv --reuid evenkeel --regid evenkeel \
              --clear-groups evenkeel check",
    );
    assert!(root.path("/etc/systemd/system/multi-user.target.wants/evenkeel.service").is_symlink());
    root.run("cd / && md5sum --quiet -c /var/lib/dpkg/info/evenkeel.md5sums");
    // Where net-snmp's programs look, and where man does.
    let installed = fs::read(root.path("/usr/share/snmp/mibs/EVENKEEL-MIB.txt")).expect("the MIB");
    assert_eq!(installed, fs::read(repository("mibs/EVENKEEL-MIB.txt")).expect("the MIB"));
    assert!(root.path("/usr/share/man/man5/evenkeel.toml.5.gz").exists());

    // What an operator has changed stays: content, owner, mode, and that it is not started.
    root.write("/etc/evenkeel/evenkeel.toml", CONFIGURATION);
    root.run("chmod 600 /etc/evenkeel/evenkeel.toml && chown evenkeel /etc/evenkeel/evenkeel.toml");
    root.run("systemctl disable evenkeel");
    root.write("/var/lib/evenkeel/note", "state");
    root.run(&format!("dpkg -i {second}"));
    let configuration = || fs::read_to_string(root.path("/etc/evenkeel/evenkeel.toml"));
    assert_eq!(configuration().expect("a file"), CONFIGURATION);
    assert_eq!(root.stat("/etc/evenkeel/evenkeel.toml"), "evenkeel evenkeel 600");
    assert!(root.path("/var/lib/evenkeel/note").exists());
    assert!(!root.path("/etc/systemd/system/multi-user.target.wants/evenkeel.service").exists());

    root.run("dpkg -r evenkeel");
    let left: Vec<_> = root.files().into_keys().filter(|path| !before.contains_key(path)).collect();
    let left: Vec<_> = left.iter().map(|path| path.to_str().expect("plain")).collect();
    let state_and_configuration = [
        "etc/evenkeel",
        "etc/evenkeel/evenkeel.toml",
        "etc/systemd/system/evenkeel.service",
        "var/lib/evenkeel",
        "var/lib/evenkeel/note",
        "var/lib/systemd/deb-systemd-helper-enabled",
        "var/lib/systemd/deb-systemd-helper-masked",
    ];
    let unknown = left
        .iter()
        .filter(|path| !state_and_configuration.iter().any(|known| path.starts_with(known)));
    assert_eq!(unknown.collect::<Vec<_>>(), Vec::<&&str>::new());
    assert_eq!(configuration().expect("a file"), CONFIGURATION);

    // It comes back as it was.
    root.run(&format!("dpkg -i {second}"));
    assert_eq!(configuration().expect("a file"), CONFIGURATION);
    root.run("dpkg -r evenkeel && dpkg -P evenkeel");
    let after = root.files();
    let new: Vec<_> = after.keys().filter(|path| !before.contains_key(*path)).collect();
    assert_eq!(new, Vec::<&std::path::PathBuf>::new());
    let changed: Vec<_> =
        before.iter().filter(|(path, was)| after.get(*path) != Some(was)).collect();
    // Where Debian notes which services were enabled it keeps no empty directory.
    let kept =
        |path: &std::path::Path| !path.starts_with("var/lib/systemd/deb-systemd-helper-enabled");
    let changed = changed
        .iter()
        .filter(|(path, _)| kept(path))
        .filter(|(path, _)| !USER.iter().any(|file| path.ends_with(file)));
    assert_eq!(changed.collect::<Vec<_>>(), Vec::<&(&std::path::PathBuf, &(u32, u64))>::new());
}

#[test]
fn a_deb_whose_agent_could_not_read_the_state_is_refused_and_the_other_stays() {
    let _lab = Lab::new();
    let root = Root::new();
    let [first, second] = PACKAGES.each_ref().map(|packages| root.bring(&packages.deb));
    root.run(&format!("dpkg -i {second}"));
    // The agent's own database: an earlier package is as good.
    let starts = "cd / && timeout --preserve-status -s TERM 3 setpriv --reuid evenkeel --regid evenkeel \
                  --clear-groups env STATE_DIRECTORY=/var/lib/evenkeel evenkeel run";
    root.run(starts);
    root.run(&format!("dpkg -i {first} && dpkg -i {second}"));
    // That of a later one is not.
    let database = root.path("/var/lib/evenkeel/evenkeel.db");
    let later = rusqlite::Connection::open(&database).expect("a database");
    later.pragma_update(None, "user_version", 9_001).expect("a writable database");
    drop(later);
    let state = fs::read(&database).expect("a file");
    let refused = root.try_run(&format!("dpkg -i {first}"));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success(), "{said}");
    assert!(said.contains("evenkeel.db has version 9001"), "{said}");
    assert!(said.contains("The agent that is installed stays"), "{said}");
    let version = concat!(env!("CARGO_PKG_VERSION"), "-2");
    let installed = root.run("dpkg-query -W -f '${db:Status-Status} ${Version}' evenkeel");
    assert_eq!(installed, format!("installed {version}"));
    assert_eq!(fs::read(&database).expect("a file"), state);
    // The agent itself says the same, and leaves the state as it is.
    let refused = root.try_run(starts);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("has version 9001"), "{said}");
    assert_eq!(fs::read(&database).expect("a file"), state);
}
