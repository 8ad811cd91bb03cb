//! Secrets: communities, passphrases and keys, which may stand in the configuration itself, in a
//! file of their own, or in a credential that systemd hands over (systemd.exec(5), "Credentials").
//!
//! Each secret has three keys, of which one may be given: `community`, `community_file` and
//! `community_credential`, and so on. The octets are read when the configuration is, so that a
//! reload takes up what has changed. No message ever repeats them.

use std::{
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use evenkeel_core::usm::{self, AuthProtocol};

use super::{
    reader::{Table, Value},
    units::Wrong,
};
use crate::files;

/// The longest file that holds a secret: a passphrase is a line, a key 128 digits.
const LONGEST: u64 = 1024;

/// The permissions of everyone but owner and group.
const FOR_EVERYONE: u32 = 0o007;

/// What a file refers to without holding it, and how keys are made of passphrases.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// Where relative names of files start: the directory of the configuration file.
    pub directory: PathBuf,
    /// Where systemd has put the credentials, if it has.
    pub credentials: Option<PathBuf>,
    /// The configuration file's permissions, if they are for everyone.
    pub open_mode: Option<u32>,
    /// Whether files and credentials with secrets are read, and files that name links.
    pub secrets: bool,
    /// Makes Ku of a passphrase (RFC 3414, A.2).
    pub master_key: fn(AuthProtocol, &[u8]) -> usm::Secret,
}

impl Surroundings {
    /// Those of this process and of a configuration file of this name and these permissions.
    pub fn of(path: &Path, mode: u32) -> Surroundings {
        Surroundings {
            directory: path.parent().map(Path::to_owned).unwrap_or_default(),
            open_mode: (mode & FOR_EVERYONE != 0).then_some(mode),
            credentials: std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from),
            secrets: true,
            master_key: usm::keys::master_key,
        }
    }

    /// The same, with all secrets left out: who only asks the agent may not read them, and need not
    /// wait for keys to be made, nor for the files that name links.
    pub fn without_secrets(self) -> Surroundings {
        let master_key = |_, _: &[u8]| usm::Secret(Vec::new());
        Surroundings { open_mode: None, secrets: false, master_key, ..self }
    }
}

/// The keys by which one secret may be given.
#[derive(Clone, Copy, Debug)]
pub struct Keys {
    /// The secret itself.
    pub plain: &'static str,
    /// The name of the file that it is in.
    pub file: &'static str,
    /// The name of the credential that it is in.
    pub credential: &'static str,
}

/// A secret that the file gives or refers to.
pub struct Given<'a> {
    /// The value that gives it, for what is to be said of it.
    pub value: Value<'a>,
    /// Which of the forms that were asked for it has.
    pub form: usize,
    /// Its octets, or nothing if they can't be had, which is reported.
    pub octets: Option<Vec<u8>>,
}

/// The one secret that a table gives in one of these forms, such as a passphrase or a key. More
/// than one is reported.
pub fn given<'a>(table: &mut Table<'a>, forms: &[Keys]) -> Option<Given<'a>> {
    let mut first: Option<Given<'a>> = None;
    for (form, keys) in forms.iter().enumerate() {
        let plain = table.get(keys.plain).map(|value| (value.secret(), plain as Octets));
        let file = table.get(keys.file).map(|value| (value, file as Octets));
        let credential = table.get(keys.credential).map(|value| (value, credential as Octets));
        for (value, read) in [plain, file, credential].into_iter().flatten() {
            match &first {
                Some(first) => value.wrong_also(
                    Wrong::new("this secret is given in more than one way")
                        .help("keep one of them"),
                    first.value.span(),
                    "first here",
                ),
                None => {
                    let octets = read(&value);
                    first = Some(Given { value, form, octets });
                }
            }
        }
    }
    first
}

/// How one of the keys gives the octets.
type Octets = fn(&Value<'_>) -> Option<Vec<u8>>;

fn plain(value: &Value<'_>) -> Option<Vec<u8>> {
    value.string().map(|text| text.as_bytes().to_vec())
}

fn file(value: &Value<'_>) -> Option<Vec<u8>> {
    let name = value.parse(|text| match text {
        "" => Err(Wrong::new("the name of the file is missing")),
        text if text.contains('\0') => Err(Wrong::new("a path can't hold a NUL byte")),
        text => Ok(PathBuf::from(text)),
    })?;
    let path = value.surroundings().directory.join(name);
    value.surroundings().secrets.then(|| read(value, &path, "the file"))?
}

fn credential(value: &Value<'_>) -> Option<Vec<u8>> {
    let name = value.parse(|text| match text {
        "" | "." | ".." => Err(Wrong::new("this is no name of a credential")),
        // systemd.exec(5): a name is that of a file, with none of these.
        text if text.contains(['/', ':', '\0']) => {
            Err(Wrong::new("this is no name of a credential")
                .help("write the name that LoadCredential= has before its colon (systemd.exec(5))"))
        }
        text => Ok(text.to_owned()),
    })?;
    if !value.surroundings().secrets {
        return None;
    }
    let Some(directory) = &value.surroundings().credentials else {
        value.wrong(
            Wrong::new("no credentials were handed over: $CREDENTIALS_DIRECTORY is not set").help(
                "run it by systemd, in a unit that has LoadCredential= (systemd.exec(5)), or name \
                 a file",
            ),
        );
        return None;
    };
    read(value, &directory.join(name), "the credential")
}

/// The content of a file, without the end of its line. What is wrong with it is reported, and
/// never shows what is in it.
fn read(value: &Value<'_>, path: &Path, what: &str) -> Option<Vec<u8>> {
    let refuse = |message: String, help: &str| {
        let wrong = Wrong::new(message);
        value.wrong(if help.is_empty() { wrong } else { wrong.help(help) });
        None
    };
    let (mut octets, mode) = match files::read(path, LONGEST) {
        Ok((octets, metadata)) => (octets, metadata.permissions().mode() & 0o7777),
        Err(error) => {
            let help = match error.kind() {
                io::ErrorKind::NotFound if what == "the file" => {
                    "a relative name starts at the directory of this configuration"
                }
                io::ErrorKind::NotFound => "the unit's LoadCredential= must name it",
                io::ErrorKind::PermissionDenied => {
                    "it must be readable by the user that the agent runs as: give it that group, \
                     mode 0640"
                }
                _ => "",
            };
            return refuse(format!("can't read {what}: {error}"), help);
        }
    };
    if octets.len() as u64 > LONGEST {
        return refuse(format!("{what} is longer than 1 KiB: it can't be a secret alone"), "");
    }
    if octets.last() == Some(&b'\n') {
        octets.pop();
        if octets.last() == Some(&b'\r') {
            octets.pop();
        }
    }
    if octets.is_empty() {
        return refuse(format!("{what} is empty"), "write the secret into it, on one line");
    }
    if octets.contains(&b'\n') {
        return refuse(
            format!("{what} has more than one line"),
            "the secret stands in it alone, on one line",
        );
    }
    if mode & FOR_EVERYONE != 0 {
        value.warn(
            Wrong::new(format!("every user of this host may use {what} (mode {mode:04o})"))
                .help("chmod o= takes that away: its owner and its group are enough"),
        );
    }
    Some(octets)
}
