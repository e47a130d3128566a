//! A whole handshake with rustls: for what TLS 1.3 shows to a client alone.
//!
//! Nothing is trusted and nothing is sent after the handshake: the certificate is what is asked for.

use std::io::{ErrorKind, Read};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{
    ClientSessionStore, ResolvesClientCert, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue,
};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    AlertDescription, ClientConfig, ClientConnection, DigitallySignedStruct, Error, NamedGroup,
    SignatureScheme, sign::CertifiedKey,
};

use super::probe::{Deadline, Endpoint};
use super::starttls::Refused;

/// How long a server may take to refuse a client without a certificate, or to send a ticket.
const AFTERWARDS: Duration = Duration::from_millis(800);

/// What a handshake showed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// DER, the server's own first.
    pub chain: Vec<Vec<u8>>,
    /// The handshake got through, at least as far as the client can tell.
    pub through: bool,
    /// The server asked for a client certificate.
    pub asked: bool,
    /// It refused a client without one.
    pub required: bool,
    /// Session tickets that it sent.
    pub tickets: u32,
    /// Why it did not get through.
    pub error: Option<String>,
}

/// Makes a handshake of TLS 1.2 or 1.3 and closes.
pub fn converse(endpoint: &Endpoint) -> Result<Shown, Refused> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let watcher = Arc::new(Watcher::new(provider.clone()));
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| std::io::Error::other(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(watcher.clone());
    let mut config = config.with_client_cert_resolver(watcher.clone());
    config.resumption = Resumption::store(watcher.clone());
    config.enable_sni = endpoint.server_name.is_some();
    let name = match &endpoint.server_name {
        Some(name) => ServerName::try_from(name.clone())
            .map_err(|_| std::io::Error::new(ErrorKind::InvalidInput, format!("{name:?} is no DNS name")))?,
        None => ServerName::IpAddress(endpoint.address.ip().into()),
    };
    let mut stream = endpoint.connect()?;
    let mut connection = ClientConnection::new(Arc::new(config), name)
        .map_err(|error| std::io::Error::other(error.to_string()))?;
    let mut shown = Shown::default();
    let handshake = drive(&mut connection, &mut Deadline::new(&mut stream, endpoint.timeout), true);
    shown.through = handshake.is_ok();
    // TLS 1.3: the client is through before the server has looked at its certificate.
    let after = match handshake {
        Ok(()) => drive(&mut connection, &mut Deadline::new(&mut stream, AFTERWARDS), false),
        Err(error) => Err(error),
    };
    shown.asked = watcher.asked.load(Ordering::Relaxed);
    shown.tickets = watcher.tickets.load(Ordering::Relaxed);
    shown.chain = watcher.chain.lock().unwrap_or_else(PoisonError::into_inner).clone();
    if let Err(Trouble::Tls(error)) = &after {
        shown.required = shown.asked && is_for_want_of_a_certificate(error);
        shown.error = Some(error.to_string());
    } else if let Err(Trouble::Closed) = &after
        && !shown.through
    {
        shown.error = Some("the server closed the connection".to_owned());
    }
    connection.send_close_notify();
    let _ = connection.write_tls(&mut Deadline::new(&mut stream, endpoint.timeout));
    Ok(shown)
}

/// TLS 1.3 has an alert for it (RFC 8446 section 6.2); before, it is a handshake failure.
fn is_for_want_of_a_certificate(error: &Error) -> bool {
    matches!(
        error,
        Error::AlertReceived(
            AlertDescription::CertificateRequired
                | AlertDescription::HandshakeFailure
                | AlertDescription::BadCertificate
                | AlertDescription::NoCertificate
        )
    )
}

enum Trouble {
    Tls(Error),
    /// Closed, or silent for too long.
    Closed,
}

/// Moves bytes until the handshake is through; with `until_through` false, until the time is over.
fn drive(
    connection: &mut ClientConnection,
    stream: &mut Deadline<'_>,
    until_through: bool,
) -> Result<(), Trouble> {
    loop {
        while connection.wants_write() {
            connection.write_tls(stream).map_err(|_| Trouble::Closed)?;
        }
        if until_through && !connection.is_handshaking() {
            return Ok(());
        }
        match connection.read_tls(stream) {
            Ok(0) => return Err(Trouble::Closed),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(_) => return Err(Trouble::Closed),
        }
        if let Err(error) = connection.process_new_packets() {
            // The alert that says why.
            let _ = connection.write_tls(stream);
            return Err(Trouble::Tls(error));
        }
        // What the application says is none of our business.
        let mut nothing = [0; 4096];
        while matches!(connection.reader().read(&mut nothing), Ok(1..)) {}
    }
}

/// Sees what passes, and lets it.
#[derive(Debug)]
struct Watcher {
    provider: Arc<CryptoProvider>,
    chain: Mutex<Vec<Vec<u8>>>,
    asked: AtomicBool,
    tickets: AtomicU32,
}

impl Watcher {
    fn new(provider: Arc<CryptoProvider>) -> Self {
        Watcher {
            provider,
            chain: Mutex::default(),
            asked: AtomicBool::new(false),
            tickets: AtomicU32::new(0),
        }
    }
}

/// Weak keys, which the library refuses, are what an audit is there to find; and nothing is sent that a
/// wrong server could use.
fn lenient(checked: Result<HandshakeSignatureValid, Error>) -> HandshakeSignatureValid {
    checked.unwrap_or_else(|_| HandshakeSignatureValid::assertion())
}

impl ServerCertVerifier for Watcher {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let mut chain = self.chain.lock().unwrap_or_else(PoisonError::into_inner);
        *chain = std::iter::once(end_entity).chain(intermediates).take(8).map(|der| der.to_vec()).collect();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        Ok(lenient(verify_tls12_signature(message, certificate, signed, algorithms)))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        Ok(lenient(verify_tls13_signature(message, certificate, signed, algorithms)))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl ResolvesClientCert for Watcher {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.asked.store(true, Ordering::Relaxed);
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

impl ClientSessionStore for Watcher {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _: ServerName<'static>, _: Tls13ClientSessionValue) {
        self.tickets.fetch_add(1, Ordering::Relaxed);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        None
    }
}
