//! ClientHello and ServerHello (RFC 8446 section 4.1, RFC 5246 section 7.4.1), shared by TLS and DTLS.
//!
//! In: a handshake message's body. Out: its fields. A body that is no hello gives `None`.

use super::names;
use crate::TlsFacts;
use crate::bytes::{Reader, printable};

/// SHA-256 of "HelloRetryRequest": the random of a ServerHello that asks for another ClientHello.
const HELLO_RETRY_REQUEST: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91, 0xc2,
    0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];

const MOST_ALPN: usize = 8;

mod extension {
    pub const SERVER_NAME: u16 = 0;
    pub const ALPN: u16 = 16;
    pub const PRE_SHARED_KEY: u16 = 41;
    pub const EARLY_DATA: u16 = 42;
    pub const SUPPORTED_VERSIONS: u16 = 43;
    pub const KEY_SHARE: u16 = 51;
}

/// What a client offered.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClientHello {
    pub suites: Vec<u16>,
    pub server_name: Option<String>,
    pub alpn: Vec<String>,
    /// Encrypted data may follow before the server has answered.
    pub early_data: bool,
}

/// What a server chose.
#[derive(Clone, Debug)]
pub(crate) struct ServerHello {
    /// As on the wire: 0x0304 for TLS 1.3, 0xfefd for DTLS 1.2.
    pub version: u16,
    pub suite: u16,
    pub group: Option<u16>,
    pub alpn: Option<String>,
    pub pre_shared_key: bool,
    pub retry: bool,
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
        let mut hello = ClientHello {
            suites: suites.chunks_exact(2).map(|s| u16::from_be_bytes([s[0], s[1]])).collect(),
            ..ClientHello::default()
        };
        if body.is_empty() {
            return Some(hello);
        }
        each_extension(body.vector16()?, |kind, value| match kind {
            extension::SERVER_NAME => hello.server_name = server_name(value),
            extension::ALPN => hello.alpn = protocol_names(value),
            extension::EARLY_DATA => hello.early_data = true,
            _ => {}
        })?;
        Some(hello)
    }

    /// A hello in the SSL 2 format, offering SSL 3 or later (RFC 5246 appendix E.2). `body` starts
    /// with the version.
    pub fn parse_ssl2(body: &[u8]) -> Option<Self> {
        let mut body = Reader::new(body);
        body.u16()?;
        let (specs, session, challenge) = (body.u16()?, body.u16()?, body.u16()?);
        if specs == 0 || specs % 3 != 0 || session > 32 || !(16..=32).contains(&challenge) {
            return None;
        }
        let specs = body.take(usize::from(specs))?;
        let suites = specs.chunks_exact(3).filter(|s| s[0] == 0);
        Some(ClientHello {
            suites: suites.map(|s| u16::from_be_bytes([s[1], s[2]])).collect(),
            ..ClientHello::default()
        })
    }

    pub fn describe(&self, facts: &mut TlsFacts) {
        facts.server_name.clone_from(&self.server_name);
        facts.alpn_offered.clone_from(&self.alpn);
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
        if body.vector8()?.len() > 32 {
            return None;
        }
        let suite = body.u16()?;
        body.u8()?;
        let mut hello = ServerHello { version, suite, group: None, alpn: None, pre_shared_key: false, retry };
        if body.is_empty() {
            return Some(hello);
        }
        let mut plausible = true;
        each_extension(body.vector16()?, |kind, value| {
            let number = value.first_chunk().map(|n| u16::from_be_bytes(*n));
            match kind {
                extension::SUPPORTED_VERSIONS => match number {
                    Some(chosen) if plausible_version(chosen, datagram) => hello.version = chosen,
                    _ => plausible = false,
                },
                extension::KEY_SHARE => hello.group = number,
                extension::PRE_SHARED_KEY => hello.pre_shared_key = true,
                extension::ALPN => hello.alpn = protocol_names(value).into_iter().next(),
                _ => {}
            }
        })?;
        plausible.then_some(hello)
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
        facts.alpn.clone_from(&self.alpn);
        if self.encrypts_handshake() {
            facts.resumed = Some(self.pre_shared_key);
        }
    }
}

fn plausible_version(version: u16, datagram: bool) -> bool {
    match datagram {
        false => matches!(version, 0x0300..=0x0304),
        true => matches!(version, 0xfeff | 0xfefd | 0xfefc | 0x0100),
    }
}

fn each_extension<'a>(bytes: &'a [u8], mut each: impl FnMut(u16, &'a [u8])) -> Option<()> {
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

/// RFC 7301 section 3.1, without the made-up names of RFC 8701.
fn protocol_names(value: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    let mut list = Reader::new(Reader::new(value).vector16().unwrap_or(&[]));
    while let Some(name) = list.vector8()
        && names.len() < MOST_ALPN
    {
        let made_up = matches!(name, [a, b] if a == b && a & 0x0f == 0x0a);
        if !made_up {
            names.push(printable(name));
        }
    }
    names
}
