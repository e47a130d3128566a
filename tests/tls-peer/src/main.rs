//! Peers of which no distribution has one yet: a TLS server that takes X25519MLKEM768 (rustls), a client that
//! encrypts its hello (rustls), and both ends of DTLS 1.3 (dimpl), with certificates of their own making.
//!
//! Usage: `tls-peer tls ADDRESS CERTIFICATE KEY`, `tls-peer tls-client ADDRESS AUTHORITY NAME`, `tls-peer ech ADDRESS AUTHORITY OUTER-NAME INNER-NAME` (to a
//! server that cannot read it, and so answers the outer hello: then the client breaks off, as it must),
//! `tls-peer dtls-server ADDRESS [anyone]` (a client
//! certificate is required unless `anyone`), `tls-peer dtls-client ADDRESS`

#![forbid(unsafe_code)]

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use dimpl::{Config, Dtls, Output, certificate};
use rustls::client::{EchConfig, EchMode};
use rustls::crypto::aws_lc_rs::{self, hpke};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned};

const LINE: &[u8] = b"hello";
const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["tls", address, certificate, key] => serve_tls(address.parse()?, certificate, key),
        ["tls-client", address, authority, name] => ask_tls(address.parse()?, authority, name),
        ["ech", address, authority, outer, inner] => ask_in_secret(address.parse()?, authority, outer, inner),
        ["dtls-server", address] => serve_dtls(address.parse()?, true),
        ["dtls-server", address, "anyone"] => serve_dtls(address.parse()?, false),
        ["dtls-client", address] => ask_dtls(address.parse()?),
        _ => bail!(
            "usage: tls-peer tls ADDRESS CERTIFICATE KEY | tls-client ADDRESS AUTHORITY NAME | ech ADDRESS AUTHORITY OUTER-NAME INNER-NAME | \
             dtls-server ADDRESS [anyone] | dtls-client ADDRESS"
        ),
    }
}

fn serve_tls(address: SocketAddr, certificate: &str, key: &str) -> Result<()> {
    let chain = CertificateDer::pem_file_iter(certificate)?.collect::<Result<Vec<_>, _>>()?;
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::from_pem_file(key)?)?;
    let config = Arc::new(config);
    for stream in TcpListener::bind(address)?.incoming() {
        let (stream, config) = (stream?, Arc::clone(&config));
        thread::spawn(move || echo(stream, config));
    }
    Ok(())
}

/// Whoever breaks off ends only its own connection.
fn echo(stream: TcpStream, config: Arc<ServerConfig>) -> Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut stream = StreamOwned::new(ServerConnection::new(config)?, stream);
    let mut buffer = [0; 1024];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            n => stream.write_all(&buffer[..n])?,
        }
    }
}

/// A list of one configuration (draft-ietf-tls-esni section 4), with a key that nobody has: X25519, HKDF-SHA256,
/// AES-128-GCM.
fn ech_list(outer: &str) -> Vec<u8> {
    let mut key = [0; 32];
    key[0] = 9;
    let kem = [&[7, 0, 0x20, 0, 32][..], &key, &[0, 4, 0, 1, 0, 1]].concat();
    let content = [&kem[..], &[64, outer.len() as u8], outer.as_bytes(), &[0, 0]].concat();
    let config = [&[0xfe, 0x0d, 0, content.len() as u8][..], &content].concat();
    [&[0, config.len() as u8][..], &config].concat()
}

fn ask_in_secret(address: SocketAddr, authority: &str, outer: &str, inner: &str) -> Result<()> {
    let ech = EchConfig::new(ech_list(outer).into(), hpke::ALL_SUPPORTED_SUITES)?;
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_ech(EchMode::Enable(ech))?
        .with_root_certificates(roots(authority)?)
        .with_no_client_auth();
    match connect(address, config, inner)?.write_all(LINE).map_err(|error| error.to_string()) {
        Err(error) if error.contains("RejectedEncryptedClientHello") || error.contains("ECH") => Ok(()),
        other => bail!("the hello was not refused: {other:?}"),
    }
}

fn ask_tls(address: SocketAddr, authority: &str, name: &str) -> Result<()> {
    let config = ClientConfig::builder().with_root_certificates(roots(authority)?).with_no_client_auth();
    let mut stream = connect(address, config, name)?;
    stream.write_all(LINE)?;
    let mut line = vec![0; LINE.len()];
    stream.read_exact(&mut line)?;
    ensure!(line == LINE, "another line came back");
    stream.conn.send_close_notify();
    Ok(stream.flush()?)
}

fn roots(authority: &str) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority)?)?;
    Ok(roots)
}

fn connect(
    address: SocketAddr,
    config: ClientConfig,
    name: &str,
) -> Result<StreamOwned<ClientConnection, TcpStream>> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let name = ServerName::try_from(name.to_owned())?;
    Ok(StreamOwned::new(ClientConnection::new(Arc::new(config), name)?, stream))
}

/// One client after the other, each until it says goodbye.
fn serve_dtls(address: SocketAddr, asks: bool) -> Result<()> {
    let socket = UdpSocket::bind(address)?;
    loop {
        let mut peer = Peer::new(socket.try_clone()?, None, asks)?;
        peer.run(|dtls, line| {
            dtls.send_application_data(line)?;
            Ok(false)
        })?;
    }
}

fn ask_dtls(address: SocketAddr) -> Result<()> {
    let local: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(local)?;
    socket.connect(address)?;
    let mut peer = Peer::new(socket, Some(address), false)?;
    peer.run(|_, line| {
        ensure!(line == LINE, "another line came back");
        Ok(true)
    })
}

/// One end of a session.
struct Peer {
    socket: UdpSocket,
    dtls: Dtls,
    /// The server's learns it from the first datagram.
    other: Option<SocketAddr>,
    is_client: bool,
}

impl Peer {
    fn new(socket: UdpSocket, other: Option<SocketAddr>, asks: bool) -> Result<Peer> {
        let own = certificate::generate_self_signed_certificate()?;
        let config = Config::builder().require_client_certificate(asks).build()?;
        let mut dtls = Dtls::new_13(Arc::new(config), own, Instant::now());
        let is_client = other.is_some();
        dtls.set_active(is_client);
        Ok(Peer { socket, dtls, other, is_client })
    }

    /// Until the other end says goodbye, or `heard` says that it is enough.
    fn run(&mut self, heard: impl Fn(&mut Dtls, &[u8]) -> Result<bool>) -> Result<()> {
        let give_up = Instant::now() + PATIENCE;
        let mut buffer = vec![0; 2048];
        loop {
            // A client without a first timeout would wait for its own hello.
            if self.other.is_some() {
                self.dtls.handle_timeout(Instant::now())?;
            }
            let wake;
            let mut said = Vec::new();
            loop {
                match self.dtls.poll_output(&mut buffer) {
                    Output::Packet(packet) => {
                        let other = self.other.context("nobody to send to")?;
                        match self.is_client {
                            true => self.socket.send(packet)?,
                            false => self.socket.send_to(packet, other)?,
                        };
                    }
                    Output::BufferTooSmall { needed } => buffer.resize(needed, 0),
                    Output::Timeout(at) => {
                        wake = at;
                        break;
                    }
                    Output::Connected if self.is_client => said.push(None),
                    Output::ApplicationData(line) => said.push(Some(line.to_vec())),
                    Output::CloseNotify => return Ok(()),
                    _ => {}
                }
            }
            let mut enough = false;
            for line in &said {
                match line {
                    None => drop(self.dtls.send_application_data(LINE)?),
                    Some(line) => enough |= heard(&mut self.dtls, line)?,
                }
            }
            if enough {
                self.dtls.close()?;
                while let Output::Packet(packet) = self.dtls.poll_output(&mut buffer) {
                    self.socket.send(packet)?;
                }
                return Ok(());
            }
            if !said.is_empty() {
                continue;
            }
            ensure!(!self.is_client || Instant::now() < give_up, "no answer");
            self.receive(wake)?;
        }
    }

    /// The next datagram, if one comes in time.
    fn receive(&mut self, wake: Instant) -> Result<()> {
        let pause = wake.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        self.socket.set_read_timeout(self.other.is_some().then_some(pause))?;
        let mut datagram = [0; 4096];
        match self.socket.recv_from(&mut datagram) {
            Ok((length, from)) => {
                self.other.get_or_insert(from);
                self.dtls.handle_timeout(Instant::now())?;
                // An end of an earlier session may come late.
                if self.other == Some(from) {
                    self.dtls.handle_packet(&datagram[..length])?;
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}
