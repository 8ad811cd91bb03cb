//! HTTP POST of JSON, with the outcome that the rules want to know. It blocks.

use std::{
    fs,
    io::{self, Read},
    path::Path,
    sync::Arc,
    time::Duration,
};

use ureq::{
    Agent, Error,
    tls::{Certificate, PemItem, RootCerts, TlsConfig, TlsProvider, parse_pem},
};

use super::{Endpoint, machine::Delivery};

/// The certificates that this host trusts, where Debian and the Red Hat family have them.
const CA_FILES: [&str; 2] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"];

/// How much of an answer is shown when it says no.
const SHOWN: u64 = 200;

/// A client for one endpoint.
pub struct Client {
    agent: Agent,
    url: String,
    bearer_token: Option<String>,
}

impl Client {
    /// A client for `endpoint` with `path` behind its URL.
    ///
    /// # Errors
    ///
    /// The certificates can't be read.
    pub fn new(endpoint: &Endpoint, path: &str, timeout: Duration) -> io::Result<Client> {
        let mut tls = TlsConfig::builder().provider(TlsProvider::Rustls);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        tls = tls.unversioned_rustls_crypto_provider(provider);
        if endpoint.url.starts_with("https:") {
            tls = tls.root_certs(roots(endpoint.ca_file.as_deref())?);
        }
        let config = Agent::config_builder()
            .tls_config(tls.build())
            .timeout_global(Some(timeout))
            // An alarm goes where it was configured to go, and nowhere else.
            .max_redirects(0)
            .proxy(None)
            .http_status_as_error(false)
            .user_agent(concat!("evenkeel/", env!("CARGO_PKG_VERSION")))
            .build();
        let url = format!("{}{path}", endpoint.url.trim_end_matches('/'));
        let url = if path.is_empty() { endpoint.url.clone() } else { url };
        Ok(Client { agent: config.into(), url, bearer_token: endpoint.bearer_token.clone() })
    }

    /// Posts a JSON document.
    pub fn post(&self, headers: &[(&str, String)], body: &[u8]) -> Delivery {
        let mut request = self.agent.post(&self.url).content_type("application/json");
        if let Some(token) = &self.bearer_token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        match request.send(body) {
            Ok(mut answer) => {
                let status = answer.status();
                let mut said = Vec::new();
                if !status.is_success() {
                    // What can't be read is not there to be shown.
                    let _ = answer.body_mut().as_reader().take(SHOWN).read_to_end(&mut said);
                }
                judge(status.as_u16(), &String::from_utf8_lossy(&said))
            }
            Err(error) => Delivery::Failed(told(&error)),
        }
    }
}

/// What an answer means (RFC 9110, 15; RFC 6585, 4).
fn judge(status: u16, said: &str) -> Delivery {
    let said: String = said.chars().filter(|char| !char.is_control()).collect();
    let why = if said.is_empty() {
        format!("status {status}")
    } else {
        format!("status {status}: {said}")
    };
    match status {
        200..=299 => Delivery::Done,
        // Wrong credentials and addresses are mended by an operator, at either end; too early or too many
        // mend themselves.
        401 | 403 | 404 | 407 | 408 | 425 | 429 => Delivery::Failed(why),
        400..=499 => Delivery::Refused(why),
        _ => Delivery::Failed(why),
    }
}

fn told(error: &Error) -> String {
    match error {
        Error::Timeout(_) => "no answer in time".to_owned(),
        other => other.to_string(),
    }
}

/// The certificates that a server's must be signed by.
fn roots(file: Option<&Path>) -> io::Result<RootCerts> {
    let path = match file {
        Some(path) => path,
        None => CA_FILES.iter().map(Path::new).find(|path| path.exists()).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::NotFound,
                "this host has no CA certificates; name a ca_file",
            )
        })?,
    };
    let named = |error: io::Error| {
        io::Error::new(error.kind(), format!("the certificates {}: {error}", path.display()))
    };
    let pem = fs::read(path).map_err(named)?;
    let certificates: Vec<Certificate<'static>> = parse_pem(&pem)
        .filter_map(Result::ok)
        .filter_map(|item| match item {
            PemItem::Certificate(certificate) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() {
        return Err(named(io::Error::other("there is no certificate in it")));
    }
    Ok(RootCerts::Specific(Arc::new(certificates)))
}

/// A URL as it may be shown: what stands before an `@` may be a password, and what stands behind a `?` a
/// token.
pub fn shown(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let host = authority.rsplit('@').next().unwrap_or_default();
            format!("{scheme}://{host}{path}")
        }
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_mend_itself_is_tried_again() {
        for status in [200, 202, 204] {
            assert_eq!(judge(status, ""), Delivery::Done);
        }
        for status in [301, 401, 403, 404, 408, 429, 500, 502, 503] {
            assert!(matches!(judge(status, ""), Delivery::Failed(_)), "{status}");
        }
        for status in [400, 405, 410, 413, 422] {
            assert!(matches!(judge(status, ""), Delivery::Refused(_)), "{status}");
        }
        assert_eq!(judge(400, "no\nway"), Delivery::Refused("status 400: noway".into()));
    }

    #[test]
    fn a_url_is_shown_without_what_is_secret_in_it() {
        for (url, expected) in [
            ("http://192.0.2.3:9093", "http://192.0.2.3:9093"),
            ("https://user:pass@hooks.example/T0/B1?token=x", "https://hooks.example/T0/B1"),
            ("https://hooks.example/a@b", "https://hooks.example/a@b"),
        ] {
            assert_eq!(shown(url), expected);
        }
    }
}
