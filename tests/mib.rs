//! The MIB: clean for a strict compiler, and known to net-snmp by its names (TRAP-12).

use std::{
    fs,
    process::{Command, Stdio},
};

use crate::common::{BINARY, mib_directories, output, repository};

/// What smilint says of a file; it prints to stderr and always ends well, so only silence is good.
fn smilint(file: &std::path::Path) -> String {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let paths = directory.path().join("smi.conf");
    let text = format!("path {}\n", repository("tests/mibs").display());
    fs::write(&paths, text).expect("a writable temporary directory");
    let mut command = Command::new("smilint");
    command.arg("-c").arg(&paths).args(["-l", "9"]).arg(file);
    let result = command.stdout(Stdio::piped()).output().expect("tests/setup installs smilint");
    String::from_utf8_lossy(&[result.stdout, result.stderr].concat()).into_owned()
}

#[test]
fn trap_12_smilint_is_silent_at_its_strictest_level() {
    assert_eq!(smilint(&repository("mibs/EVENKEEL-MIB.txt")), "");
}

#[test]
fn smilint_would_have_complained() {
    // The test above would be green, too, if smilint did not find or read the file.
    let directory = tempfile::tempdir().expect("a temporary directory");
    let broken = directory.path().join("EVENKEEL-MIB.txt");
    let text = fs::read_to_string(repository("mibs/EVENKEEL-MIB.txt")).expect("the MIB");
    fs::write(&broken, text.replacen("\nevenkeelAlarmId", "\nevenkeelAlarmIdentity", 1))
        .expect("room");
    assert_ne!(smilint(&broken), "");
}

#[test]
fn trap_12_net_snmp_knows_the_notifications_by_name() {
    let text = fs::read_to_string(repository("mibs/EVENKEEL-MIB.txt")).expect("the MIB");
    let names: Vec<&str> =
        text.lines().filter_map(|line| line.strip_suffix(" NOTIFICATION-TYPE")).collect();
    assert!(names.len() >= 2, "{names:?}");
    for name in names {
        let mut command = Command::new("snmptranslate");
        command.args(["-M", &mib_directories(), "-m", "EVENKEEL-MIB", "-IR", "-On", name]);
        let number = output(command.stderr(Stdio::null()));
        // Notifications hang below { module 0 } (RFC 2578, 8.5).
        assert!(number.contains(".0."), "{name} is {number}");
    }
}

#[test]
fn the_mib_that_the_agent_prints_by_default_is_the_one_in_the_repository() {
    let printed = output(Command::new(BINARY).arg("mib"));
    let file = fs::read_to_string(repository("mibs/EVENKEEL-MIB.txt")).expect("the MIB");
    assert!(printed.trim_end() == file.trim_end(), "they differ");
}
