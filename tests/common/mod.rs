//! What the acceptance tests share: network namespaces, the agent under test, its neighbours, and
//! the clock that they are judged by.

mod agent;
mod chance;
mod device;
mod disk;
pub mod field;
mod frozen;
mod lab;
mod nms;
mod process;
mod relay;
pub mod stack;
mod timeline;
pub mod truth;
pub mod tshark;
pub mod wire;

pub use agent::{Agent, BINARY, Row};
pub use chance::Chance;
pub use device::{Device, Trap};
pub use disk::Disk;
pub use frozen::Frozen;
pub use lab::{Lab, Ns, Port, Switch};
pub use nms::{Answering, Nms, Notification, Sink};
pub use process::{Guard, output, wait_until};
pub use relay::Relay;
pub use timeline::{Expected, LATE, Sent, check, expect, sleep_until, span};

use std::path::{Path, PathBuf};

/// A file of the repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Where a MIB compiler finds our MIB, what it imports, and what net-snmp ships.
pub fn mib_directories() -> String {
    format!(
        "{}:{}:/usr/share/snmp/mibs",
        repository("mibs").display(),
        repository("tests/mibs").display()
    )
}
