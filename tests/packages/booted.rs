//! The service that the deb installs, under a real systemd.

use std::time::Duration;

use super::{
    PACKAGES,
    root::{Machine, Root},
};
use crate::common::{Lab, wait_until};

const LIMIT: Duration = Duration::from_secs(30);

/// CAP_NET_BIND_SERVICE and CAP_NET_RAW (capability.h), and what a standby interface needs besides.
const CAPABILITIES: u64 = 1 << 10 | 1 << 13;
const NET_ADMIN: u64 = 1 << 12;

/// A user of SNMPv3 whose passphrase is a credential.
const CONFIGURATION: &str = r#"
[traps]
listen = ["127.0.0.1:162"]
[[traps.community]]
name = "public"
[[traps.user]]
name = "noc"
auth = "SHA"
auth_passphrase_credential = "noc-auth"
"#;

/// A port that nobody can have.
const BAD: &str = "[traps]\nlisten = [\"127.0.0.1:99999\"]\n";

/// A watchdog that does not take half a minute, and the credential.
const DROP_IN: &str =
    "[Service]\nWatchdogSec=3\nLoadCredential=noc-auth:/etc/evenkeel/secret/noc-auth\n";

/// Has net-snmp's program say that an interface is down.
fn link_down(machine: &Machine<'_>, how: &str, port: u16, interface: u32) {
    machine.run(&format!(
        "snmptrap {how} 127.0.0.1:{port} '' 1.3.6.1.6.3.1.1.5.3 1.3.6.1.2.1.2.2.1.1.{interface} i {interface}"
    ));
    machine.wait_for_status("alarm", &format!("127.0.0.1 ifIndex {interface} is down"));
}

const V2C: &str = "-v 2c -c public";
const V3: &str = "-v 3 -e 0x8000000001020304 -u noc -l authNoPriv -a SHA -A maplesyrup";

/// A line of the main process's status (proc(5)).
fn of_process(machine: &Machine<'_>, key: &str) -> String {
    let pid = machine.service("MainPID");
    let status = machine.run(&format!("cat /proc/{pid}/status"));
    let line = status.lines().find_map(|line| line.strip_prefix(&format!("{key}:")));
    line.unwrap_or_else(|| panic!("no {key} in {status}")).trim().to_owned()
}

fn has_only(machine: &Machine<'_>, capabilities: u64) {
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(of_process(machine, set), format!("{capabilities:016x}"), "{set}");
    }
}

#[test]
fn the_service_of_the_package_does_its_work_under_systemd() {
    let _lab = Lab::new();
    let root = Root::new();
    let [first, second] = PACKAGES.each_ref().map(|packages| root.bring(&packages.deb));
    let machine = Machine::boot(&root);

    // Installed, it runs: as its own user, with its capabilities and no other right.
    machine.run(&format!("dpkg -i {first}"));
    assert_eq!(machine.service("ActiveState"), "active");
    assert_eq!(machine.service("UnitFileState"), "enabled");
    let user = machine.run("id -u evenkeel").trim().to_owned();
    assert_ne!(user, "0");
    assert_eq!(of_process(&machine, "Uid"), [user.as_str(); 4].join("\t"));
    has_only(&machine, CAPABILITIES);
    assert_eq!(of_process(&machine, "NoNewPrivs"), "1");
    assert_eq!(of_process(&machine, "Seccomp"), "2");
    link_down(&machine, V2C, 10162, 3);

    // It reads its secrets from credentials of root's, and the port of SNMP is open to it.
    root.write("/etc/systemd/system/evenkeel.service.d/test.conf", DROP_IN);
    root.write("/etc/evenkeel/evenkeel.toml", CONFIGURATION);
    root.write("/etc/evenkeel/secret/noc-auth", "maplesyrup\n");
    machine.run("chmod 600 /etc/evenkeel/secret/noc-auth && systemctl daemon-reload");
    machine.run("systemctl restart evenkeel");
    machine.wait_for_status("alarm", "ifIndex 3 is down");
    link_down(&machine, V3, 162, 4);

    // It reloads; what is bad is refused, and the one before stays in force.
    let pid = machine.service("MainPID");
    root.write("/etc/evenkeel/evenkeel.toml", BAD);
    let reload = machine.try_run("systemctl reload evenkeel");
    assert!(!reload.status.success(), "a refused reload is no success: {reload:?}");
    wait_until("the refusal", LIMIT, || machine.log().contains("the one before stays in force"));
    link_down(&machine, V3, 162, 5);
    root.write("/etc/evenkeel/evenkeel.toml", &CONFIGURATION.replace(":162", ":1162"));
    machine.run("systemctl reload evenkeel");
    machine.wait_for_status("listen", "127.0.0.1:1162");
    link_down(&machine, V2C, 1162, 6);
    assert_eq!(machine.service("MainPID"), pid);
    assert_eq!(machine.service("NRestarts"), "0");

    // One that hangs is killed, started again, and knows what it knew.
    machine.run(&format!("kill -STOP {pid}"));
    wait_until("another agent", LIMIT, || {
        machine.service("NRestarts") == "1" && machine.service("ActiveState") == "active"
    });
    assert_ne!(machine.service("MainPID"), pid);
    assert!(machine.log().contains("Watchdog timeout"), "{}", machine.log());
    machine.wait_for_status("alarm", "ifIndex 6 is down");

    // An upgrade puts the new one in the place of the old one, which knows the same.
    let pid = machine.service("MainPID");
    machine.run(&format!("dpkg -i {second}"));
    assert_eq!(machine.service("ActiveState"), "active");
    assert_ne!(machine.service("MainPID"), pid);
    machine.wait_for_status("alarm", "ifIndex 6 is down");
    link_down(&machine, V3, 1162, 7);

    // The example for standby interfaces gives it the one capability more.
    machine.run(
        "cp /usr/share/doc/evenkeel/examples/standby.conf /etc/systemd/system/evenkeel.service.d/ && \
         systemctl daemon-reload && systemctl restart evenkeel",
    );
    has_only(&machine, CAPABILITIES | NET_ADMIN);

    // Removed, it is stopped.
    machine.run("dpkg -r evenkeel");
    assert_eq!(machine.try_run("systemctl is-active evenkeel").stdout.trim_ascii(), b"inactive");
    assert!(root.path("/var/lib/evenkeel/evenkeel.db").exists());
    machine.run("dpkg -P evenkeel");
    assert!(!root.path("/var/lib/evenkeel").exists());
}
