//! rustls, in this process.

use std::io::{Read, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, ServerConfig, ServerConnection,
    SignatureScheme, StreamOwned, SupportedProtocolVersion,
};

use crate::authority::{Authority, Identity};
use crate::stacks::{Asks, Came, Setup, Visit};

const PATIENCE: Duration = Duration::from_secs(20);

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn versions(name: &str) -> [&'static SupportedProtocolVersion; 1] {
    match name {
        "1.3" => [&rustls::version::TLS13],
        _ => [&rustls::version::TLS12],
    }
}

fn chain(identity: &Identity) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let chain = CertificateDer::pem_file_iter(&identity.chain)?.collect::<Result<Vec<_>, _>>()?;
    Ok((chain, PrivateKeyDer::from_pem_file(&identity.key)?))
}

/// Serves until the process ends; its port.
///
/// # Errors
/// The certificate does not do.
pub fn rustls_server(setup: &Setup, authority: &Authority) -> Result<u16> {
    let builder =
        ServerConfig::builder_with_provider(provider()).with_protocol_versions(&versions(setup.version))?;
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority.root_file())?)?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
    let builder = match setup.asks {
        Asks::No => builder.with_no_client_auth(),
        Asks::Optional => builder.with_client_cert_verifier(verifier.allow_unauthenticated().build()?),
        Asks::Required => builder.with_client_cert_verifier(verifier.build()?),
    };
    let (chain, key) = chain(&setup.identity)?;
    let mut config = builder.with_single_cert(chain, key)?;
    if !setup.tickets {
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
    }
    let config = Arc::new(config);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = listener.local_addr()?.port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let config = Arc::clone(&config);
            thread::spawn(move || drop(answer(stream, config)));
        }
    });
    Ok(port)
}

fn answer(stream: TcpStream, config: Arc<ServerConfig>) -> Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut stream = StreamOwned::new(ServerConnection::new(config)?, stream);
    let mut request = Vec::new();
    let mut buffer = [0; 1024];
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            n => request.extend_from_slice(&buffer[..n]),
        }
    }
    let seen = stream.conn.peer_certificates().map_or(0, <[_]>::len);
    // In one record.
    stream.write_all(format!("HTTP/1.0 200 OK\r\n\r\nclient certificates: {seen}\n").as_bytes())?;
    stream.conn.send_close_notify();
    stream.flush()?;
    Ok(())
}

pub fn rustls_client(port: u16, visit: &Visit<'_>) -> Came {
    match talk(port, visit) {
        Ok(answer) => Came::Ok(answer),
        Err(error) => Came::Failed(format!("{error:#}")),
    }
}

fn talk(port: u16, visit: &Visit<'_>) -> Result<String> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&versions(visit.version))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone(ring::default_provider())));
    let config = match visit.identity {
        Some(identity) => {
            let (chain, key) = chain(identity)?;
            builder.with_client_auth_cert(chain, key)?
        }
        None => builder.with_no_client_auth(),
    };
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let name = ServerName::try_from("localhost")?;
    let mut stream = StreamOwned::new(ClientConnection::new(Arc::new(config), name)?, stream);
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => answer.extend_from_slice(&buffer[..n]),
            // Some servers just hang up.
            Err(_) if !answer.is_empty() => break,
            Err(error) => return Err(error).context("no answer"),
        }
    }
    stream.conn.send_close_notify();
    let _ = stream.flush();
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// The tests look at what is sent, not at whom it is sent to.
#[derive(Debug)]
struct Anyone(CryptoProvider);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
