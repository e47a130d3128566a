//! Echoes QUIC streams with quinn and rustls, or sends a line over one and reads it back: a second
//! stack beside aioquic, with a post-quantum key share, and with datagrams that leave in one piece
//! (segmentation offload).
//!
//! Usage: `quic_echo server ADDRESS CERTIFICATE KEY [retry]`, `quic_echo client ADDRESS AUTHORITY`

#![forbid(unsafe_code)]

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

const LINE: &[u8] = b"hello";

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["server", address, certificate, key] => serve(address.parse()?, certificate, key, false).await,
        ["server", address, certificate, key, "retry"] => {
            serve(address.parse()?, certificate, key, true).await
        }
        ["client", address, authority] => ask(address.parse()?, authority).await,
        _ => bail!("usage: quic_echo server ADDRESS CERTIFICATE KEY [retry] | client ADDRESS AUTHORITY"),
    }
}

async fn serve(address: SocketAddr, certificate: &str, key: &str, retry: bool) -> Result<()> {
    let chain = CertificateDer::pem_file_iter(certificate)?.collect::<Result<Vec<_>, _>>()?;
    let mut tls = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::from_pem_file(key)?)?;
    tls.alpn_protocols = vec![b"h3".to_vec(), b"echo".to_vec()];
    let config = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
    let endpoint = quinn::Endpoint::server(config, address)?;
    while let Some(incoming) = endpoint.accept().await {
        if retry && !incoming.remote_address_validated() {
            incoming.retry()?;
            continue;
        }
        tokio::spawn(async move {
            let connection = incoming.await?;
            while let Ok((mut send, mut receive)) = connection.accept_bi().await {
                let line = receive.read_to_end(1 << 16).await?;
                send.write_all(&line).await?;
                send.finish()?;
            }
            Ok::<(), anyhow::Error>(())
        });
    }
    Ok(())
}

async fn ask(address: SocketAddr, authority: &str) -> Result<()> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(authority)? {
        roots.add(certificate?)?;
    }
    let mut tls = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    tls.alpn_protocols = vec![b"h3".to_vec()];
    let local: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let mut endpoint = quinn::Endpoint::client(local)?;
    endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?)));
    let connection = endpoint.connect(address, "localhost")?.await.context("the handshake")?;
    let (mut send, mut receive) = connection.open_bi().await?;
    send.write_all(LINE).await?;
    send.finish()?;
    ensure!(receive.read_to_end(64).await? == LINE, "another line came back");
    connection.close(0u32.into(), b"done");
    endpoint.wait_idle().await;
    Ok(())
}
