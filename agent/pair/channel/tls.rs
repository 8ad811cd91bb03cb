//! TLS 1.3 between mates: each shows a certificate, and has the other's fingerprint (PAIR, "Keys").
//!
//! There are no authorities, names or dates to check. What is checked is all that matters: that the
//! certificate is the one that an operator has entered, and that who shows it has its key. No session is
//! resumed, as that would pass both by.

use std::sync::{Arc, OnceLock};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, ServerConfig,
    SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
    sign::SingleCertAndKey,
    version::TLS13,
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use super::counters::Refusal;
use crate::pair::{
    keys::{self, Fingerprint, Identity},
    seal::Secret,
};

/// What the secret of the heartbeat datagrams is exported as (RFC 8446, 7.5).
const EXPORTER: &[u8] = b"EXPORTER-evenkeel-pair-heartbeats";

/// The stream, when both have shown who they are.
pub type Stream = TlsStream<TcpStream>;

/// Does the handshake with the mate of this fingerprint, as the one who accepts or who connects.
pub async fn shake_hands(
    stream: TcpStream,
    identity: &Identity,
    mate: Fingerprint,
    accepts: bool,
) -> Result<(Stream, Secret), Refusal> {
    let pinned = Arc::new(Pinned::new(mate));
    let stream = match accepts {
        true => {
            let config = server(identity, &pinned).map_err(|_| Refusal::Handshake)?;
            TlsAcceptor::from(Arc::new(config)).accept(stream).await.map(Stream::from)
        }
        false => {
            let config = client(identity, &pinned).map_err(|_| Refusal::Handshake)?;
            // No name is sent and none is checked, but an address is asked for.
            let name = ServerName::from(std::net::Ipv4Addr::LOCALHOST);
            TlsConnector::from(Arc::new(config)).connect(name, stream).await.map(Stream::from)
        }
    };
    let stream = stream.map_err(|error| pinned.refused(&error))?;
    let secret = match &stream {
        TlsStream::Client(stream) => {
            stream.get_ref().1.export_keying_material([0; 32], EXPORTER, None)
        }
        TlsStream::Server(stream) => {
            stream.get_ref().1.export_keying_material([0; 32], EXPORTER, None)
        }
    };
    Ok((stream, Secret::new(secret.map_err(|_| Refusal::Handshake)?, mate)))
}

/// What an error of the handshake, or of the first words after it, says.
pub fn refusal(error: &std::io::Error) -> Refusal {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    match inner {
        Some(Error::AlertReceived(_)) => Refusal::ByMate,
        _ => Refusal::Handshake,
    }
}

fn server(identity: &Identity, pinned: &Arc<Pinned>) -> Result<ServerConfig, Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(keys::provider()))
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(Arc::clone(pinned) as Arc<dyn ClientCertVerifier>)
        .with_cert_resolver(resolver(identity));
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn client(identity: &Identity, pinned: &Arc<Pinned>) -> Result<ClientConfig, Error> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(keys::provider()))
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(pinned) as Arc<dyn ServerCertVerifier>)
        .with_client_cert_resolver(resolver(identity));
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    Ok(config)
}

fn resolver(identity: &Identity) -> Arc<SingleCertAndKey> {
    Arc::new(SingleCertAndKey::from(Arc::clone(&identity.key)))
}

/// Takes one certificate, and remembers why another thing was refused.
#[derive(Debug)]
struct Pinned {
    mate: Fingerprint,
    provider: CryptoProvider,
    refused: OnceLock<Refusal>,
}

impl Pinned {
    fn new(mate: Fingerprint) -> Pinned {
        Pinned { mate, provider: keys::provider(), refused: OnceLock::new() }
    }

    fn check(&self, certificate: &CertificateDer<'_>) -> Result<(), Error> {
        if Fingerprint::of(certificate) == self.mate {
            return Ok(());
        }
        self.refused.get_or_init(|| Refusal::WrongFingerprint);
        Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
    }

    fn check_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms).inspect_err(|_| {
            self.refused.get_or_init(|| Refusal::Signature);
        })
    }

    fn schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }

    fn refused(&self, error: &std::io::Error) -> Refusal {
        self.refused.get().copied().unwrap_or_else(|| refusal(error))
    }
}

/// TLS 1.2 is not offered, so that its signatures can't be asked for.
fn no_tls12() -> Result<HandshakeSignatureValid, Error> {
    Err(Error::General("TLS 1.3 is the only version here".to_owned()))
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(certificate).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}

impl ClientCertVerifier for Pinned {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(certificate).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}
