//! Reads the web configuration file, in the form of the Prometheus exporter toolkit, so that who has one
//! can use it: TLS, users with passwords, headers. `README.md` of [`page`](crate::page) is for who writes it.
//!
//! What it may hold there and can't be had here is refused: a restriction that is silently not kept is
//! worse than an error.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use axum::http::{HeaderName, HeaderValue};
use bcrypt::HashParts;
use rustls::{
    RootCertStore, ServerConfig,
    crypto::{CryptoProvider, SupportedKxGroup, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use serde::Deserialize;

use crate::files;

/// The longest file that is read: chains of certificates have some 10 kB.
const LONGEST: u64 = 1 << 20;

/// The dearest hash that is taken: bcrypt takes a tenth of a second at 10, and twice as long with each
/// step.
const DEAREST: u32 = 15;

/// The headers that may be set, as the toolkit has them.
const HEADERS: [&str; 5] = [
    "Content-Security-Policy",
    "Strict-Transport-Security",
    "X-Content-Type-Options",
    "X-Frame-Options",
    "X-XSS-Protection",
];

/// A web configuration file that was read.
#[derive(Default, PartialEq, Eq)]
pub struct WebFile {
    /// How connections are kept secret, if they are.
    pub tls: Option<Tls>,
    /// Users, with the bcrypt hashes of their passwords; if there are none, nobody is asked who they are.
    pub users: BTreeMap<String, String>,
    /// The headers that every answer carries.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

impl fmt::Debug for WebFile {
    /// Shows nothing that is secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebFile").finish_non_exhaustive()
    }
}

/// What tells one TLS configuration from another: a hash of all that it was made of.
pub type Mark = [u8; 32];

/// TLS with this agent's certificate.
pub struct Tls {
    config: Arc<ServerConfig>,
    mark: Mark,
}

impl Tls {
    /// What a handshake needs.
    pub const fn config(&self) -> &Arc<ServerConfig> {
        &self.config
    }

    /// What tells it from others.
    pub const fn mark(&self) -> Mark {
        self.mark
    }
}

impl PartialEq for Tls {
    fn eq(&self, other: &Tls) -> bool {
        self.mark == other.mark
    }
}

impl Eq for Tls {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    tls_server_config: Option<TlsDocument>,
    #[serde(default)]
    http_server_config: HttpDocument,
    #[serde(default)]
    basic_auth_users: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TlsDocument {
    cert_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
    cert: Option<String>,
    key: Option<String>,
    #[serde(default)]
    client_auth_type: ClientAuth,
    client_ca_file: Option<PathBuf>,
    client_ca: Option<String>,
    #[serde(default)]
    client_allowed_sans: Vec<String>,
    /// At most TLS 1.3, which is the least that is spoken, so it holds whatever it says.
    #[serde(rename = "min_version")]
    _min_version: Option<Version>,
    max_version: Option<Version>,
    /// These two are about TLS 1.2, which is not spoken here, so they hold whatever they say.
    #[serde(rename = "cipher_suites")]
    _cipher_suites: Option<Vec<String>>,
    #[serde(rename = "prefer_server_cipher_suites")]
    _prefer_server_cipher_suites: Option<bool>,
    #[serde(default)]
    curve_preferences: Vec<Curve>,
}

/// Go's names (crypto/tls, ClientAuthType).
#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
enum ClientAuth {
    #[default]
    #[serde(alias = "")]
    NoClientCert,
    RequestClientCert,
    RequireAnyClientCert,
    VerifyClientCertIfGiven,
    RequireAndVerifyClientCert,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
enum Version {
    #[serde(rename = "TLS10")]
    Tls10,
    #[serde(rename = "TLS11")]
    Tls11,
    #[serde(rename = "TLS12")]
    Tls12,
    #[serde(rename = "TLS13")]
    Tls13,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
enum Curve {
    CurveP256,
    CurveP384,
    CurveP521,
    X25519,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct HttpDocument {
    #[serde(default)]
    http2: bool,
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

/// Reads a file, and those that it names; relative names start at its directory.
///
/// # Errors
///
/// A sentence that says which file, where in it, what is wrong, and what would be right.
pub fn read(path: &Path) -> Result<WebFile, String> {
    let bytes = octets(path)?;
    let text = String::from_utf8(bytes)
        .map_err(|_| format!("{}: this is no UTF-8; save the file as UTF-8", path.display()))?;
    parse(path, &text)
}

fn parse(path: &Path, text: &str) -> Result<WebFile, String> {
    let name = path.display();
    // An empty file sets nothing, as in the toolkit.
    let nothing = text.lines().all(|line| {
        let line = line.trim();
        line.is_empty() || line.starts_with('#') || line == "---"
    });
    if nothing {
        return Ok(WebFile::default());
    }
    let document: Document = serde_saphyr::from_str(text).map_err(|error| {
        let error = error.without_snippet();
        let place = error.location();
        let place = place.map(|place| format!(":{}:{}", place.line(), place.column()));
        // The place is told in front, and what follows the first line is an excerpt.
        let message = error.to_string();
        let message = message.lines().next().unwrap_or_default();
        let message = message.rsplit_once(" at line ").map_or(message, |(message, _)| message);
        format!("{name}{}: {message}", place.unwrap_or_default())
    })?;
    let wrong = |what: String| format!("{name}: {what}");
    for (user, hash) in &document.basic_auth_users {
        check_user(user, hash).map_err(wrong)?;
    }
    if document.http_server_config.http2 {
        return Err(wrong(
            "http_server_config.http2: only HTTP/1.1 is spoken here; write false, or leave it out"
                .to_owned(),
        ));
    }
    let headers = document.http_server_config.headers.into_iter().map(|(name, value)| {
        let known = HEADERS.iter().find(|known| known.eq_ignore_ascii_case(&name));
        let refused = |what: &str| wrong(format!("http_server_config.headers: {name}: {what}"));
        let known = known.ok_or_else(|| {
            refused(&format!("it can't be set; these can: {}", HEADERS.join(", ")))
        })?;
        let value = HeaderValue::from_str(&value)
            .map_err(|_| refused("its value has characters that no header may have"))?;
        let name = HeaderName::from_bytes(known.as_bytes())
            .map_err(|_| refused("this is no name of a header"))?;
        Ok((name, value))
    });
    let headers = headers.collect::<Result<_, String>>()?;
    let directory = path.parent().unwrap_or(Path::new(""));
    let tls = document.tls_server_config.map(|tls| tls_of(&tls, directory));
    let tls = tls.transpose().map_err(|what| wrong(format!("tls_server_config.{what}")))?;
    Ok(WebFile { tls, users: document.basic_auth_users, headers })
}

fn check_user(user: &str, hash: &str) -> Result<(), String> {
    let wrong = |what: &str| Err(format!("basic_auth_users: {user:?}: {what}"));
    if user.is_empty() || user.contains(':') {
        return wrong("a name has at least one character, and no colon (RFC 7617)");
    }
    // Neither the hash nor what is wrong inside of it is repeated.
    match hash.parse::<HashParts>() {
        Err(_) => wrong(
            "this is no hash by bcrypt, which begins with $2b$ or $2y$ and has 60 characters; \
             `htpasswd -nBC 10 \"\"` makes one",
        ),
        Ok(parts) if parts.get_cost() > DEAREST => {
            wrong("to check this hash would take seconds; make one of a cost of 10 to 15")
        }
        Ok(_) => Ok(()),
    }
}

/// What is wrong begins with the key that it is about.
fn tls_of(tls: &TlsDocument, directory: &Path) -> Result<Tls, String> {
    let TlsDocument { cert, cert_file, key, key_file, client_ca, client_ca_file, .. } = tls;
    if !tls.client_allowed_sans.is_empty() {
        return Err("client_allowed_sans: names in certificates are not checked here; give the \
                    clients a CA of their own, and name it in client_ca_file"
            .to_owned());
    }
    if tls.max_version.is_some_and(|version| version != Version::Tls13) {
        return Err("max_version: only TLS 1.3 is spoken here; leave it out".to_owned());
    }
    let certificate = given("cert", cert.as_deref(), cert_file.as_deref(), directory)?
        .ok_or("cert_file: the agent's certificate is missing")?;
    let key = given("key", key.as_deref(), key_file.as_deref(), directory)?
        .ok_or("key_file: the key of the agent's certificate is missing")?;
    let roots = given("client_ca", client_ca.as_deref(), client_ca_file.as_deref(), directory)?;
    let mark = mark(tls, [&certificate, &key, roots.as_deref().unwrap_or_default()]);
    let chain = certificates(&certificate).map_err(|what| format!("cert_file: {what}"))?;
    // What is wrong with a key is not said in more detail, as that may show a part of it.
    let key = PrivateKeyDer::from_pem_slice(&key)
        .map_err(|_| "key_file: there is no key in PEM in it".to_owned())?;
    let provider = Arc::new(provider(&tls.curve_preferences)?);
    let roots = roots.map(|pem| roots_of(&pem)).transpose();
    let roots = roots.map_err(|what| format!("client_ca_file: {what}"))?;
    let verifier = |roots: Option<RootCertStore>| {
        let roots = roots.ok_or("client_ca_file: it must be given, to verify clients with")?;
        Ok(WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)))
    };
    let unfit = |error: rustls::server::VerifierBuilderError| format!("client_ca_file: {error}");
    let verifier = match (tls.client_auth_type, roots) {
        (ClientAuth::NoClientCert, None) => WebPkiClientVerifier::no_client_auth(),
        (ClientAuth::NoClientCert, Some(_)) => {
            return Err(
                "client_auth_type: clients are not verified with NoClientCert, and there is \
                        a client_ca_file; write RequireAndVerifyClientCert"
                    .to_owned(),
            );
        }
        (ClientAuth::VerifyClientCertIfGiven, roots) => verifier(roots)
            .map_err(|what: &str| what.to_owned())?
            .allow_unauthenticated()
            .build()
            .map_err(unfit)?,
        (ClientAuth::RequireAndVerifyClientCert, roots) => {
            verifier(roots).map_err(|what: &str| what.to_owned())?.build().map_err(unfit)?
        }
        (ClientAuth::RequestClientCert | ClientAuth::RequireAnyClientCert, _) => {
            return Err(
                "client_auth_type: a certificate that nobody verifies proves nothing; write \
                        NoClientCert, VerifyClientCertIfGiven or RequireAndVerifyClientCert"
                    .to_owned(),
            );
        }
    };
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| format!("curve_preferences: {error}"))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(|error| format!("key_file: it does not fit the certificate: {error}"))?;
    let mut config = config;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Tls { config: Arc::new(config), mark })
}

fn mark(tls: &TlsDocument, pems: [&[u8]; 3]) -> Mark {
    let mut context = ::ring::digest::Context::new(&::ring::digest::SHA256);
    for pem in pems {
        context.update(&(pem.len() as u64).to_be_bytes());
        context.update(pem);
    }
    context.update(&[tls.client_auth_type as u8]);
    for curve in &tls.curve_preferences {
        context.update(&[*curve as u8]);
    }
    let mut mark = Mark::default();
    mark.copy_from_slice(context.finish().as_ref());
    mark
}

/// The primitives, with the key exchanges that are wanted, in their order.
fn provider(curves: &[Curve]) -> Result<CryptoProvider, String> {
    let mut provider = ring::default_provider();
    if !curves.is_empty() {
        let groups: Result<Vec<&'static dyn SupportedKxGroup>, String> = curves
            .iter()
            .map(|curve| match curve {
                Curve::X25519 => Ok(ring::kx_group::X25519),
                Curve::CurveP256 => Ok(ring::kx_group::SECP256R1),
                Curve::CurveP384 => Ok(ring::kx_group::SECP384R1),
                Curve::CurveP521 => {
                    Err("curve_preferences: there is no CurveP521 here; there are \
                                         X25519, CurveP256 and CurveP384"
                        .to_owned())
                }
            })
            .collect();
        provider.kx_groups = groups?;
    }
    Ok(provider)
}

/// What stands in the file itself or in another; nothing if neither is given.
fn given(
    key: &str,
    text: Option<&str>,
    file: Option<&Path>,
    directory: &Path,
) -> Result<Option<Vec<u8>>, String> {
    match (text, file) {
        (Some(_), Some(_)) => Err(format!("{key}: there is a {key}_file, too; keep one of them")),
        (Some(text), None) => Ok(Some(text.as_bytes().to_vec())),
        (None, Some(file)) => {
            let read = octets(&directory.join(file));
            read.map(Some).map_err(|what| format!("{key}_file: {what}"))
        }
        (None, None) => Ok(None),
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(chain) if chain.is_empty() => Err("there is no certificate in PEM in it".to_owned()),
        Ok(chain) => Ok(chain),
        Err(error) => Err(format!("this is no PEM: {error}")),
    }
}

fn roots_of(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem)? {
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    Ok(roots)
}

fn octets(path: &Path) -> Result<Vec<u8>, String> {
    let name = path.display();
    match files::read(path, LONGEST) {
        Err(error) => Err(format!("{name}: can't read it: {error}")),
        Ok((bytes, _)) if bytes.len() as u64 > LONGEST => {
            Err(format!("{name}: it is longer than 1 MiB"))
        }
        Ok((bytes, _)) => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory with a certificate and its key, of this host.
    fn directory() -> tempfile::TempDir {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: String| std::fs::write(directory.path().join(name), text);
        write("cert.pem", made.cert.pem()).unwrap();
        write("key.pem", made.signing_key.serialize_pem()).unwrap();
        let other = rcgen::generate_simple_self_signed(vec!["other".to_owned()]).unwrap();
        write("other.pem", other.signing_key.serialize_pem()).unwrap();
        write("empty.pem", String::new()).unwrap();
        directory
    }

    const USER: &str =
        "basic_auth_users:\n  noc: $2b$04$CCCCCCCCCCCCCCCCCCCCC.HrBIdffznV69GxsYPA9PLSACo3k11D6\n";

    #[test]
    fn what_the_toolkit_can_have_is_read() {
        let directory = directory();
        let read = |text: &str| parse(&directory.path().join("web.yml"), text);
        for nothing in ["", "# nothing\n---\n"] {
            let file = read(nothing).unwrap();
            assert!(file.tls.is_none() && file.users.is_empty() && file.headers.is_empty());
        }
        let text = format!(
            "tls_server_config:\n  cert_file: cert.pem\n  key_file: key.pem\n  min_version: TLS12\n  \
             cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]\n  \
             prefer_server_cipher_suites: true\n  curve_preferences: [CurveP256, X25519]\n  \
             client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: cert.pem\n\
             http_server_config:\n  http2: false\n  headers:\n    X-Frame-Options: sameorigin\n{USER}"
        );
        let file = read(&text).unwrap();
        assert!(file.tls.is_some());
        assert_eq!(file.users.len(), 1);
        assert_eq!(file.headers[0].0, "x-frame-options");
        assert_eq!(format!("{file:?}"), "WebFile { .. }");
        assert!(file == read(&text).unwrap());
        let other = text
            .replace("RequireAndVerify", "Verify")
            .replace("ClientCert\n", "ClientCertIfGiven\n");
        assert!(file != read(&other).unwrap());
    }

    #[test]
    fn what_can_not_be_had_is_refused_in_words() {
        let directory = directory();
        let path = directory.path().join("web.yml");
        let tls = |more: &str| {
            format!("tls_server_config:\n  cert_file: cert.pem\n  key_file: key.pem\n  {more}\n")
        };
        for (text, expected) in [
            ("tls_config:\n  cert_file: a\n".to_owned(), ":1:1: unknown field `tls_config`"),
            ("basic_auth_users: [a]\n".to_owned(), ":1:"),
            (tls("cert_flie: a"), "unknown field `cert_flie`"),
            (tls("min_version: TLS14"), "unknown variant `TLS14`"),
            (
                tls("max_version: TLS12"),
                "tls_server_config.max_version: only TLS 1.3 is spoken here",
            ),
            (
                tls("curve_preferences: [CurveP521]"),
                "curve_preferences: there is no CurveP521 here",
            ),
            (tls("client_allowed_sans: [a]"), "client_allowed_sans: names in certificates are not"),
            (
                tls("client_auth_type: RequireAnyClientCert"),
                "client_auth_type: a certificate that nob",
            ),
            (
                tls("client_auth_type: RequireAndVerifyClientCert"),
                "client_ca_file: it must be given",
            ),
            (
                tls("client_ca_file: cert.pem"),
                "client_auth_type: clients are not verified with NoCl",
            ),
            (tls("cert: a"), "tls_server_config.cert: there is a cert_file, too"),
            (tls("").replace("cert.pem", "none.pem"), "none.pem: can't read it: No such file"),
            (tls("").replace("cert.pem", "empty.pem"), "cert_file: there is no certificate in PEM"),
            (tls("").replace("key.pem", "cert.pem"), "key_file: there is no key in PEM in it"),
            (tls("").replace("key.pem", "other.pem"), "key_file: it does not fit the certificate"),
            ("tls_server_config: {}\n".to_owned(), "cert_file: the agent's certificate is missing"),
            ("basic_auth_users:\n  noc: secret\n".to_owned(), "\"noc\": this is no hash by bcrypt"),
            (USER.replace("$04$", "$31$"), "\"noc\": to check this hash would take seconds"),
            (
                USER.replace("noc", "\"n:c\""),
                "\"n:c\": a name has at least one character, and no c",
            ),
            ("http_server_config:\n  http2: true\n".to_owned(), "only HTTP/1.1 is spoken here"),
            (
                "http_server_config:\n  headers:\n    Set-Cookie: a\n".to_owned(),
                "it can't be set; thes",
            ),
            (
                "http_server_config:\n  headers:\n    X-Frame-Options: \"a\\nb\"\n".to_owned(),
                "its value has characters",
            ),
        ] {
            let refused = parse(&path, &text).map(|_| ()).unwrap_err();
            assert!(refused.starts_with(path.to_str().unwrap()), "{refused}");
            assert!(refused.contains(expected), "{text}\n{refused}");
            assert!(!refused.contains('\n') && !refused.contains("secret"), "{refused}");
        }
    }
}
