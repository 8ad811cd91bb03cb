//! Where the addresses of subnets with a standby interface are, on the disk (SUBN-8): `standby.json` in the
//! state directory. It is replaced whole, and is on the disk before anything is moved.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use evenkeel_core::state::StandbyRecord;
use serde::{Deserialize, Serialize};

/// The version of the file's form.
const VERSION: u32 = 1;

/// The file.
#[derive(Clone, Debug)]
pub struct Kept {
    path: PathBuf,
    boot_id: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Content {
    version: u32,
    /// The boot of this host in which it was written.
    boot_id: String,
    standbys: Vec<StandbyRecord>,
}

impl Kept {
    /// The file in this state directory.
    pub fn new(state_dir: &Path, boot_id: &str) -> Kept {
        Kept { path: state_dir.join("standby.json"), boot_id: boot_id.to_owned() }
    }

    /// What was kept in this boot of this host; nothing if there is no file. After another boot the
    /// addresses are where the host's configuration puts them, and no interface is disabled.
    ///
    /// # Errors
    ///
    /// The file can't be read, or was written by a later version; in one sentence.
    pub fn read(&self) -> Result<Vec<StandbyRecord>, String> {
        let path = self.path.display();
        let text = match fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(format!("cannot read {path}: {error}")),
        };
        let content: Content =
            serde_json::from_str(&text).map_err(|error| format!("cannot read {path}: {error}"))?;
        if content.version != VERSION {
            let version = content.version;
            return Err(format!("{path} has version {version}, and this agent knows {VERSION}"));
        }
        Ok(if content.boot_id == self.boot_id { content.standbys } else { Vec::new() })
    }

    /// Replaces what was kept. When this returns, it is on the disk.
    ///
    /// # Errors
    ///
    /// It could not be written; what was kept before still is.
    pub fn write(&self, standbys: Vec<StandbyRecord>) -> io::Result<()> {
        let content = Content { version: VERSION, boot_id: self.boot_id.clone(), standbys };
        let aside = self.path.with_extension("json.new");
        let mut file = File::create(&aside)?;
        file.write_all(&serde_json::to_vec_pretty(&content)?)?;
        file.sync_all()?;
        fs::rename(&aside, &self.path)?;
        let directory = self.path.parent().unwrap_or(Path::new("."));
        File::open(directory)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use evenkeel_core::{
        settings::Interfaces,
        standby::{Failure, Place},
    };

    use super::*;

    #[test]
    fn subn_8_what_is_kept_is_read_in_the_same_boot_alone() {
        let directory = tempfile::tempdir().unwrap();
        let kept = Kept::new(directory.path(), "this boot");
        assert_eq!(kept.read(), Ok(Vec::new()));
        let record = StandbyRecord {
            subnet: "192.0.2.0/24".parse().unwrap(),
            interfaces: Interfaces { primary: "eth0".into(), standby: "eth1".into() },
            place: Place::ToStandby(Failure::LinkAndIp),
            addresses: vec!["192.0.2.7/24".parse().unwrap()],
        };
        kept.write(vec![record.clone()]).unwrap();
        assert_eq!(kept.read(), Ok(vec![record]));
        assert_eq!(Kept::new(directory.path(), "the next").read(), Ok(Vec::new()));
        fs::write(directory.path().join("standby.json"), "{\"version\": 1").unwrap();
        assert!(kept.read().unwrap_err().contains("standby.json"));
    }
}
