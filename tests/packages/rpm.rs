//! The rpm: in a root of its own, with its scripts run there.

use std::{fs, path::Path, process::Command};

use super::{PACKAGES, root::Root};
use crate::common::{Lab, output};

/// A configuration that an operator has written.
const CONFIGURATION: &str = "# ours\n[traps]\nsource_rate = 10\n";

/// Has rpm do something to a root, which has a /proc for as long, as any host has. What the package needs is
/// there, but not by an rpm.
fn rpm(root: &Root, arguments: &[&str], package: &str) -> Command {
    let mut command = Command::new("unshare");
    let line = "mount -t proc proc \"$0/proc\" && exec rpm --root \"$0\" \"$@\"";
    command.args(["--mount", "sh", "-c", line]).arg(root.path("/")).args(arguments).arg(package);
    command
}

fn name(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

#[test]
fn the_rpm_makes_its_user_keeps_configuration_and_state_and_refuses_a_downgrade() {
    let _lab = Lab::new();
    let root = Root::new();
    let [first, second] = PACKAGES.each_ref().map(|packages| name(&packages.rpm));
    let before = root.files();

    output(&mut rpm(&root, &["--nodeps", "-i"], first));
    assert_eq!(root.stat("/etc/evenkeel"), "root evenkeel 750");
    assert_eq!(root.stat("/etc/evenkeel/evenkeel.toml"), "root evenkeel 640");
    assert_eq!(root.stat("/var/lib/evenkeel"), "evenkeel evenkeel 750");
    root.run("evenkeel check && evenkeel --version");
    output(&mut rpm(&root, &["--nodeps", "--verify"], "evenkeel"));

    root.write("/etc/evenkeel/evenkeel.toml", CONFIGURATION);
    root.run(
        "cd / && timeout --preserve-status -s TERM 3 setpriv --reuid evenkeel --regid evenkeel \
         --clear-groups env STATE_DIRECTORY=/var/lib/evenkeel evenkeel run",
    );
    output(&mut rpm(&root, &["--nodeps", "-U"], second));
    let configuration = fs::read_to_string(root.path("/etc/evenkeel/evenkeel.toml"));
    assert_eq!(configuration.expect("a file"), CONFIGURATION);
    output(&mut rpm(&root, &["--nodeps", "-U", "--oldpackage"], first));
    output(&mut rpm(&root, &["--nodeps", "-U"], second));

    let database = root.path("/var/lib/evenkeel/evenkeel.db");
    let later = rusqlite::Connection::open(&database).expect("a database");
    later.pragma_update(None, "user_version", 9_001).expect("a writable database");
    drop(later);
    let refused =
        rpm(&root, &["--nodeps", "-U", "--oldpackage"], first).output().expect("rpm is installed");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("has version 9001"), "{said}");
    let installed = output(&mut rpm(&root, &["-q"], "evenkeel"));
    assert!(
        installed.starts_with(concat!("evenkeel-", env!("CARGO_PKG_VERSION"), "-2")),
        "{installed}"
    );

    // There is no purging with rpm: what an operator wrote, and state, stay.
    output(&mut rpm(&root, &["-e"], "evenkeel"));
    let after = root.files();
    let left = after.keys().filter(|path| !before.contains_key(*path)).map(|path| name(path));
    let unknown: Vec<_> = left
        .filter(|path| !path.starts_with("var/lib/evenkeel"))
        .filter(|path| !["etc/evenkeel", "etc/evenkeel/evenkeel.toml.rpmsave"].contains(path))
        // Of other packages, where rpm is at home.
        .filter(|path| !["usr/share/fish", "usr/share/fish/vendor_completions.d"].contains(path))
        .filter(|path| !["usr/share/zsh/site-functions", "usr/share/licenses"].contains(path))
        .collect();
    assert_eq!(unknown, Vec::<&str>::new());
    let saved = fs::read_to_string(root.path("/etc/evenkeel/evenkeel.toml.rpmsave"));
    assert_eq!(saved.expect("rpm saves what was changed"), CONFIGURATION);
}
