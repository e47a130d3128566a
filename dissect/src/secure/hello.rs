//! ClientHello and ServerHello (RFC 8446 section 4.1, RFC 5246 section 7.4.1), shared by TLS, DTLS
//! and QUIC.
//!
//! In: a handshake message's body. Out: its fields, and the facts they are. A body that is no hello
//! gives `None`.

use super::{names, seen_hellos};
use crate::bytes::{Reader, printable};
use crate::{EarlyData, TlsFacts};

/// SHA-256 of "HelloRetryRequest": the random of a ServerHello that asks for another ClientHello.
const HELLO_RETRY_REQUEST: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91, 0xc2,
    0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];

const MOST_ALPN: usize = 8;

pub(crate) mod extension {
    pub const SERVER_NAME: u16 = 0;
    pub const MAX_FRAGMENT_LENGTH: u16 = 1;
    pub const SUPPORTED_GROUPS: u16 = 10;
    pub const POINT_FORMATS: u16 = 11;
    pub const SIGNATURE_ALGORITHMS: u16 = 13;
    /// RFC 5764.
    pub const USE_SRTP: u16 = 14;
    pub const ALPN: u16 = 16;
    pub const CLIENT_CERTIFICATE_TYPE: u16 = 19;
    pub const SERVER_CERTIFICATE_TYPE: u16 = 20;
    pub const RECORD_SIZE_LIMIT: u16 = 28;
    /// RFC 5077.
    pub const SESSION_TICKET: u16 = 35;
    /// A certificate on top of a key shared beforehand (RFC 8773).
    pub const CERTIFICATE_WITH_PSK: u16 = 33;
    pub const PRE_SHARED_KEY: u16 = 41;
    pub const EARLY_DATA: u16 = 42;
    pub const SUPPORTED_VERSIONS: u16 = 43;
    pub const KEY_SHARE: u16 = 51;
    pub const QUIC_PARAMETERS: u16 = 57;
    /// RFC 9849; the drafts used the same number.
    pub const ENCRYPTED_CLIENT_HELLO: u16 = 0xfe0d;
    /// Its forerunner, ESNI.
    pub const ENCRYPTED_SERVER_NAME: u16 = 0xffce;
}

/// What the hello came in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Carrier {
    #[default]
    Stream,
    Datagram,
    Quic,
    /// A record in the SSL 2 format.
    Ssl2,
}

/// What a client offered. Lists are as sent, in their order, made-up values (RFC 8701) included.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClientHello {
    pub carrier: Carrier,
    /// `legacy_version`.
    pub version: u16,
    pub suites: Vec<u16>,
    pub extensions: Vec<u16>,
    /// `supported_versions`.
    pub versions: Vec<u16>,
    pub groups: Vec<u16>,
    /// Groups of the key shares.
    pub shares: Vec<u16>,
    pub point_formats: Vec<u8>,
    pub signatures: Vec<u16>,
    pub server_name: Option<String>,
    pub alpn: Vec<String>,
    /// The first name of ALPN, whatever it is.
    pub first_alpn: Vec<u8>,
    /// Encrypted data may follow before the server has answered.
    pub early_data: bool,
    pub encrypted_hello: bool,
    /// It asked for records shorter than the standard has them (RFC 6066 section 4, RFC 8449).
    pub limited: bool,
    /// Id of a session that it would go on with; empty: none.
    pub session: Vec<u8>,
    /// It showed a ticket of an earlier session.
    pub ticket: bool,
    /// Profiles for media, SRTP (RFC 5764 section 4.1.2).
    pub srtp: Vec<u16>,
}

/// What a server chose.
#[derive(Clone, Debug, Default)]
pub(crate) struct ServerHello {
    pub carrier: Carrier,
    /// `legacy_version`.
    pub legacy_version: u16,
    /// As on the wire: 0x0304 for TLS 1.3, 0xfefd for DTLS 1.2.
    pub version: u16,
    pub suite: u16,
    pub extensions: Vec<u16>,
    pub group: Option<u16>,
    pub alpn: Option<String>,
    pub first_alpn: Vec<u8>,
    pub pre_shared_key: bool,
    /// A certificate proves the server on top of the key shared beforehand.
    pub certificate_with_psk: bool,
    /// The server sends a bare key in place of a certificate (RFC 7250).
    pub raw_key: bool,
    /// So may the client.
    pub client_raw_key: bool,
    pub retry: bool,
    pub session: Vec<u8>,
    /// The profile for media, SRTP.
    pub srtp: Option<u16>,
}

impl ClientHello {
    /// `datagram` is set for DTLS, whose hello has a cookie.
    pub fn parse(body: &[u8], datagram: bool) -> Option<Self> {
        let mut body = Reader::new(body);
        let version = body.u16()?;
        if !plausible_version(version, datagram) {
            return None;
        }
        body.take(32)?;
        let session = body.vector8()?;
        if session.len() > 32 {
            return None;
        }
        if datagram {
            body.vector8()?;
        }
        let suites = body.vector16()?;
        if suites.is_empty() || suites.len() % 2 != 0 || body.vector8()?.is_empty() {
            return None;
        }
        let carrier = if datagram { Carrier::Datagram } else { Carrier::Stream };
        let (suites, session) = (numbers(suites), session.to_vec());
        let mut hello = ClientHello { carrier, version, suites, session, ..ClientHello::default() };
        if body.is_empty() {
            return Some(hello);
        }
        each_extension(body.vector16()?, |kind, value| hello.extension(kind, value))?;
        Some(hello)
    }

    fn extension(&mut self, kind: u16, value: &[u8]) {
        self.extensions.push(kind);
        let mut reader = Reader::new(value);
        match kind {
            extension::SERVER_NAME => self.server_name = server_name(value),
            extension::SUPPORTED_GROUPS => self.groups = numbers(reader.vector16().unwrap_or(&[])),
            extension::POINT_FORMATS => self.point_formats = reader.vector8().unwrap_or(&[]).to_vec(),
            extension::SIGNATURE_ALGORITHMS => self.signatures = numbers(reader.vector16().unwrap_or(&[])),
            extension::ALPN => (self.alpn, self.first_alpn) = protocol_names(value),
            extension::SUPPORTED_VERSIONS => self.versions = numbers(reader.vector8().unwrap_or(&[])),
            extension::KEY_SHARE => {
                let mut shares = Reader::new(reader.vector16().unwrap_or(&[]));
                while let Some(group) = shares.u16()
                    && shares.vector16().is_some()
                {
                    self.shares.push(group);
                }
            }
            extension::EARLY_DATA => self.early_data = true,
            extension::USE_SRTP => self.srtp = numbers(reader.vector16().unwrap_or(&[])),
            extension::SESSION_TICKET => self.ticket = !value.is_empty(),
            extension::MAX_FRAGMENT_LENGTH => self.limited = true,
            extension::RECORD_SIZE_LIMIT => self.limited |= reader.u16().is_some_and(|limit| limit < 1 << 14),
            extension::QUIC_PARAMETERS => self.carrier = Carrier::Quic,
            // The type "outer": the one that an observer can meet.
            extension::ENCRYPTED_CLIENT_HELLO => self.encrypted_hello |= value.first() == Some(&0),
            extension::ENCRYPTED_SERVER_NAME => self.encrypted_hello = true,
            _ => {}
        }
    }

    /// A hello in the SSL 2 format (RFC 5246 appendix E.2). `body` starts with the version.
    pub fn parse_ssl2(body: &[u8]) -> Option<Self> {
        let mut body = Reader::new(body);
        let version = body.u16()?;
        let (specs, session, challenge) = (body.u16()?, body.u16()?, body.u16()?);
        if specs == 0 || specs % 3 != 0 || session > 32 || !(16..=32).contains(&challenge) {
            return None;
        }
        let specs = body.take(usize::from(specs))?;
        body.take(usize::from(session + challenge))?;
        if !body.is_empty() {
            return None;
        }
        let suites = specs.chunks_exact(3).filter(|s| s[0] == 0);
        Some(ClientHello {
            carrier: Carrier::Ssl2,
            version,
            suites: suites.map(|s| u16::from_be_bytes([s[1], s[2]])).collect(),
            ..ClientHello::default()
        })
    }

    /// The highest version offered that we know.
    fn offered(&self) -> u16 {
        let known = |version: &&u16| plausible_version(**version, self.carrier == Carrier::Datagram);
        let listed = self.versions.iter().filter(known);
        // DTLS counts down.
        let highest = match self.carrier {
            Carrier::Datagram => listed.min(),
            _ => listed.max(),
        };
        highest.copied().unwrap_or(self.version)
    }

    pub fn describe(&self, facts: &mut TlsFacts) {
        facts.server_name.clone_from(&self.server_name);
        facts.alpn_offered.clone_from(&self.alpn);
        facts.version_offered = Some(names::version(self.offered()).1.into());
        let mut groups = self.groups.iter().chain(&self.shares);
        facts.post_quantum_offered = Some(groups.any(|group| names::post_quantum(*group) == Some(true)));
        facts.encrypted_client_hello = self.encrypted_hello;
        facts.early_data = self.early_data.then_some(EarlyData::Offered);
        if self.carrier != Carrier::Ssl2 {
            let (ja3, ja4) = seen_hellos::of_client(self, self.offered());
            (facts.ja3, facts.ja4) = (Some(ja3), Some(ja4));
        }
    }
}

impl ServerHello {
    pub fn parse(body: &[u8], datagram: bool) -> Option<Self> {
        let mut body = Reader::new(body);
        let version = body.u16()?;
        if !plausible_version(version, datagram) {
            return None;
        }
        let retry = body.take(32)? == HELLO_RETRY_REQUEST;
        let session = body.vector8()?;
        if session.len() > 32 {
            return None;
        }
        let suite = body.u16()?;
        body.u8()?;
        let mut hello = ServerHello {
            carrier: if datagram { Carrier::Datagram } else { Carrier::Stream },
            legacy_version: version,
            version,
            suite,
            extensions: Vec::new(),
            group: None,
            alpn: None,
            first_alpn: Vec::new(),
            pre_shared_key: false,
            certificate_with_psk: false,
            raw_key: false,
            client_raw_key: false,
            retry,
            session: session.to_vec(),
            srtp: None,
        };
        if body.is_empty() {
            return Some(hello);
        }
        let mut plausible = true;
        each_extension(body.vector16()?, |kind, value| {
            hello.extensions.push(kind);
            let number = value.first_chunk().map(|n| u16::from_be_bytes(*n));
            match kind {
                extension::SUPPORTED_VERSIONS => match number {
                    Some(chosen) if plausible_version(chosen, datagram) => hello.version = chosen,
                    _ => plausible = false,
                },
                extension::KEY_SHARE => hello.group = number,
                extension::PRE_SHARED_KEY => hello.pre_shared_key = true,
                // A list of one.
                extension::USE_SRTP => {
                    hello.srtp = value
                        .strip_prefix(&[0, 2])
                        .and_then(|it| it.first_chunk().map(|n| u16::from_be_bytes(*n)));
                }
                extension::CERTIFICATE_WITH_PSK => hello.certificate_with_psk = true,
                extension::SERVER_CERTIFICATE_TYPE => hello.raw_key = value == [2],
                extension::CLIENT_CERTIFICATE_TYPE => hello.client_raw_key = value == [2],
                extension::ALPN => {
                    let (names, first) = protocol_names(value);
                    hello.alpn = names.into_iter().next();
                    hello.first_alpn = first;
                }
                _ => {}
            }
        })?;
        plausible.then_some(hello)
    }

    /// Whether an earlier session may go on (RFC 5246 section 7.4.1.2, RFC 5077 section 3.4): its id was
    /// sent back, or a ticket was there.
    pub fn may_resume(&self, offer: &ClientHello) -> bool {
        offer.ticket || !self.session.is_empty() && self.session == offer.session
    }

    /// TLS 1.3 and DTLS 1.3 encrypt everything after this message.
    pub fn encrypts_handshake(&self) -> bool {
        matches!(self.version, 0x0304 | 0xfefc)
    }

    pub fn describe(&self, facts: &mut TlsFacts) {
        let (protocol, version) = names::version(self.version);
        facts.version = Some(version.into());
        facts.version_protocol = Some(protocol.into());
        facts.cipher = Some(names::suite(self.suite));
        facts.group = self.group.map(names::group);
        facts.post_quantum = self.group.and_then(names::post_quantum);
        facts.alpn.clone_from(&self.alpn);
        let (ja3s, ja4s) = seen_hellos::of_server(self);
        (facts.ja3s, facts.ja4s) = (Some(ja3s), Some(ja4s));
        if self.encrypts_handshake() {
            facts.resumed = Some(self.pre_shared_key);
            // Without the session there is no key to read the early data with; and after a
            // HelloRetryRequest there is none (RFC 8446 section 4.2.10).
            if facts.early_data.is_some() && (facts.retried || !self.pre_shared_key) {
                facts.early_data = Some(EarlyData::Rejected);
            }
        } else if names::classical_key_exchange(self.suite) {
            facts.post_quantum = Some(false);
        }
    }
}

fn plausible_version(version: u16, datagram: bool) -> bool {
    match datagram {
        false => matches!(version, 0x0300..=0x0304),
        true => matches!(version, 0xfeff | 0xfefd | 0xfefc | 0x0100),
    }
}

/// A list of two-byte values.
fn numbers(bytes: &[u8]) -> Vec<u16> {
    bytes.chunks_exact(2).map(|n| u16::from_be_bytes([n[0], n[1]])).collect()
}

pub(super) fn each_extension<'a>(bytes: &'a [u8], mut each: impl FnMut(u16, &'a [u8])) -> Option<()> {
    let mut extensions = Reader::new(bytes);
    while !extensions.is_empty() {
        let kind = extensions.u16()?;
        each(kind, extensions.vector16()?);
    }
    Some(())
}

/// RFC 6066 section 3.
fn server_name(value: &[u8]) -> Option<String> {
    let mut list = Reader::new(Reader::new(value).vector16()?);
    while !list.is_empty() {
        let kind = list.u8()?;
        let name = list.vector16()?;
        if kind == 0 {
            return Some(printable(name));
        }
    }
    None
}

/// RFC 7301 section 3.1: the names without the made-up ones of RFC 8701, and the first one's bytes,
/// made up or not.
fn protocol_names(value: &[u8]) -> (Vec<String>, Vec<u8>) {
    let mut names = Vec::new();
    let mut first = None;
    let mut list = Reader::new(Reader::new(value).vector16().unwrap_or(&[]));
    while let Some(name) = list.vector8()
        && names.len() < MOST_ALPN
    {
        first = first.or(Some(name));
        let made_up = matches!(name, [a, b] if a == b && a & 0x0f == 0x0a);
        if !made_up {
            names.push(printable(name));
        }
    }
    (names, first.unwrap_or(&[]).to_vec())
}
