//! Who may come in, and how they prove it: TLS, users with passwords, and the headers that answers carry.
//!
//! It is made of the web configuration file ([`file`](super::file)) and changes with each reload.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use ring::hmac;
use rustls::ServerConfig;
use tokio::{sync::Semaphore, task::spawn_blocking, time::timeout};

use super::file::{Mark, WebFile};

/// How many good passwords are remembered: one for each user and program that comes, and then some.
const REMEMBERED: usize = 1024;

/// How long a password may wait for its turn to be checked.
const TURN: Duration = Duration::from_secs(5);

/// Who may come in.
#[derive(Default)]
pub struct Access {
    tls: Option<(Arc<ServerConfig>, Mark)>,
    users: Option<Users>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// Why someone may not come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// There is no name and password, or they are wrong.
    Unknown,
    /// So many passwords wait to be checked that this one had no turn.
    Busy,
}

impl Access {
    /// What a web configuration file calls for; without one everybody may come in.
    pub fn new(file: Option<&WebFile>) -> Access {
        let Some(file) = file else { return Access::default() };
        Access {
            tls: file.tls.as_ref().map(|tls| (Arc::clone(tls.config()), tls.mark())),
            users: (!file.users.is_empty()).then(|| Users::new(file.users.clone())),
            headers: file.headers.clone(),
        }
    }

    /// How connections are kept secret, if they are.
    pub fn tls(&self) -> Option<&Arc<ServerConfig>> {
        self.tls.as_ref().map(|(config, _)| config)
    }

    /// Whether who has connected under this has proven as much as the other asks at a handshake. Users are
    /// asked with each request, a certificate only there.
    pub fn connects_as(&self, other: &Access) -> bool {
        let mark = |access: &Access| access.tls.as_ref().map(|(_, mark)| *mark);
        mark(self) == mark(other)
    }

    /// The headers that every answer carries.
    pub fn headers(&self) -> &[(HeaderName, HeaderValue)] {
        &self.headers
    }

    /// Whether the request with these headers may come in.
    ///
    /// # Errors
    ///
    /// Why not.
    pub async fn admit(&self, headers: &HeaderMap) -> Result<(), Refused> {
        match &self.users {
            None => Ok(()),
            Some(users) => users.admit(headers).await,
        }
    }
}

/// Users, with the bcrypt hashes of their passwords.
///
/// A check takes a tenth of a second and more of CPU, on purpose. So it is done where nothing else waits,
/// one at a time, and a password that was good once is remembered, as a keyed hash that means nothing
/// outside of this process.
struct Users {
    hashes: BTreeMap<String, String>,
    /// Checked for a user that does not exist, so that nobody learns by the time who does.
    decoy: String,
    /// Nothing if the kernel gives no randomness: then nothing is remembered.
    key: Option<hmac::Key>,
    good: Mutex<HashSet<Vec<u8>>>,
    turn: Arc<Semaphore>,
}

impl Users {
    fn new(hashes: BTreeMap<String, String>) -> Users {
        let decoy = hashes.values().next().cloned().unwrap_or_default();
        let random = ring::rand::SystemRandom::new();
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &random).ok();
        let turn = Arc::new(Semaphore::new(1));
        Users { hashes, decoy, key, good: Mutex::default(), turn }
    }

    async fn admit(&self, headers: &HeaderMap) -> Result<(), Refused> {
        let given = headers.get(header::AUTHORIZATION).and_then(credentials);
        let (name, password) = given.ok_or(Refused::Unknown)?;
        // A name has no colon (RFC 7617, 2), so this is said by one pair only.
        let sign = |key| hmac::sign(key, format!("{name}:{password}").as_bytes());
        let mark = self.key.as_ref().map(|key| sign(key).as_ref().to_vec());
        if mark.as_ref().is_some_and(|mark| self.good().contains(mark)) {
            return Ok(());
        }
        let turn = timeout(TURN, self.turn.clone().acquire_owned()).await;
        let Ok(Ok(turn)) = turn else { return Err(Refused::Busy) };
        let known = self.hashes.contains_key(&name);
        let hash = self.hashes.get(&name).unwrap_or(&self.decoy).clone();
        let checked = spawn_blocking(move || {
            let fits = bcrypt::verify(password, &hash);
            drop(turn);
            fits
        });
        if !(matches!(checked.await, Ok(Ok(true))) && known) {
            return Err(Refused::Unknown);
        }
        let mut good = self.good();
        if good.len() < REMEMBERED {
            good.extend(mark);
        }
        Ok(())
    }

    fn good(&self) -> std::sync::MutexGuard<'_, HashSet<Vec<u8>>> {
        self.good.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Name and password of an `Authorization` header of the scheme Basic (RFC 7617).
fn credentials(value: &HeaderValue) -> Option<(String, String)> {
    let (scheme, encoded) = value.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(BASE64_STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (name, password) = decoded.split_once(':')?;
    Some((name.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(authorization: &str) -> HeaderMap {
        let value = HeaderValue::from_str(authorization).unwrap();
        [(header::AUTHORIZATION, value)].into_iter().collect()
    }

    fn basic(name: &str, password: &str) -> HeaderMap {
        headers(&format!("Basic {}", BASE64_STANDARD.encode(format!("{name}:{password}"))))
    }

    #[test]
    fn who_knows_the_password_comes_in_and_is_remembered() {
        let hash = bcrypt::hash("shared water", 4).unwrap();
        let file = WebFile { users: [("noc".to_owned(), hash)].into(), ..WebFile::default() };
        let access = Access::new(Some(&file));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            assert_eq!(access.admit(&HeaderMap::new()).await, Err(Refused::Unknown));
            for wrong in [
                basic("noc", "shared wate"),
                basic("nobody", "shared water"),
                headers("Basic !"),
                headers("Bearer bm9jOng="),
                headers("Basic bm9j"),
            ] {
                assert_eq!(access.admit(&wrong).await, Err(Refused::Unknown), "{wrong:?}");
            }
            let right = basic("noc", "shared water");
            assert_eq!(access.admit(&right).await, Ok(()));
            let users = access.users.as_ref().unwrap();
            assert_eq!(users.good().len(), 1);
            // While someone else's password is checked, who is remembered waits for nothing.
            let _turn = users.turn.acquire().await;
            assert_eq!(access.admit(&right).await, Ok(()));
            assert_eq!(Access::new(None).admit(&HeaderMap::new()).await, Ok(()));
        });
    }
}
