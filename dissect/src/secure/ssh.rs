//! SSH (RFC 4253): identification strings, KEXINIT, NEWKEYS.
//!
//! In: both directions. Out: both versions; encrypted once both sides chose keys and a cipher that
//! encrypts. Must never: take two identification strings for an encrypted session.

use super::Secure;
use crate::bytes::{Reader, capped, line, may_start_with, printable};
use crate::{Cipher, Facts, Inspection, Plain, Prefix, Protection, Protocol, SshFacts, UnknownReason};

const IDENTIFICATION: &[u8] = b"SSH-";
/// What a server may say before its identification string (section 4.2), as far as we wait for it.
const LONGEST_PREAMBLE: usize = 1024;
const LONGEST_IDENTIFICATION: usize = 255;
/// Section 6.1 asks for 35000 to be accepted.
const PACKET: std::ops::RangeInclusive<u32> = 6..=35_000;

const DISCONNECT: u8 = 1;
const KEXINIT: u8 = 20;
const NEWKEYS: u8 = 21;

pub(crate) fn look(client: Prefix<'_>, server: Prefix<'_>) -> Secure {
    let from_client = Identification::find(client, false);
    let from_server = Identification::find(server, true);
    let ssh = SshFacts {
        client_version: from_client.text(),
        server_version: from_server.text(),
        ..SshFacts::default()
    };
    use Identification::{Begun, Line, Maybe, No};
    let (client_at, server_at) = match (from_client, from_server) {
        (No, _) | (_, No) => return Secure::No,
        (Line { next: client_at, .. }, Line { next: server_at, .. }) => (client_at, server_at),
        (Maybe, Maybe) => return Secure::Maybe,
        (Begun | Line { .. }, _) | (_, Begun | Line { .. }) => {
            return handshake(ssh, "SSH identification, not answered so far");
        }
    };
    let from_client = Exchange::read(client.bytes.get(client_at..).unwrap_or(&[]));
    let from_server = Exchange::read(server.bytes.get(server_at..).unwrap_or(&[]));
    match (from_client.broken, from_server.broken) {
        (None, None) => conclude(ssh, &from_client, &from_server),
        (at, server) => Secure::Broken {
            at: (at.map_or(usize::MAX, |at| client_at + at), server.map_or(usize::MAX, |at| server_at + at)),
            detail: "began like SSH, went on without",
        },
    }
}

fn conclude(ssh: SshFacts, client: &Exchange<'_>, server: &Exchange<'_>) -> Secure {
    if client.disconnected || server.disconnected {
        return handshake(ssh, "SSH key exchange ended with a disconnect");
    }
    let (Some(offered), Some(accepted)) = (&client.offer, &server.offer) else {
        return handshake(ssh, "SSH key exchange under way");
    };
    let (Some(_), Some(to_server), Some(to_client)) = (
        first_common(offered.key_exchange, accepted.key_exchange),
        first_common(offered.to_server, accepted.to_server),
        first_common(offered.to_client, accepted.to_client),
    ) else {
        return handshake(ssh, "SSH key exchange failed: nothing in common");
    };
    let settled = client.new_keys && server.new_keys;
    let versions =
        format!("{} to {}", software(ssh.client_version.as_deref()), software(ssh.server_version.as_deref()));
    if to_server == b"none" || to_client == b"none" {
        let detail = format!("{versions}, cipher none: not encrypted");
        return inspection(Protection::Plaintext(Plain::Protocol(Protocol::Ssh)), ssh, detail, settled);
    }
    // The exchange that follows proves nothing yet: only NEWKEYS starts the encryption.
    match settled {
        true => inspection(Protection::Encrypted(Cipher::Ssh), ssh, versions, true),
        false => handshake(ssh, "SSH key exchange under way"),
    }
}

fn software(identification: Option<&str>) -> &str {
    identification.and_then(|text| text.splitn(3, '-').nth(2)).unwrap_or("unnamed")
}

fn handshake(ssh: SshFacts, detail: &str) -> Secure {
    inspection(Protection::Unknown(UnknownReason::Handshake), ssh, detail.into(), false)
}

fn inspection(protection: Protection, ssh: SshFacts, detail: String, settled: bool) -> Secure {
    let facts = Facts {
        protocol: Some(Protocol::Ssh),
        protection,
        tls: None,
        ssh: Some(ssh),
        upgrade: None,
        detail: Some(capped(detail)),
    };
    Secure::Is(Inspection::new(facts, settled))
}

/// How one side began.
#[derive(Clone, Copy)]
enum Identification<'a> {
    No,
    Maybe,
    /// `SSH-` is there, its line's end is not.
    Begun,
    Line {
        text: &'a [u8],
        next: usize,
    },
}

impl<'a> Identification<'a> {
    /// A server may send other lines first.
    fn find(prefix: Prefix<'a>, preamble: bool) -> Self {
        let mut at = 0;
        while at <= LONGEST_PREAMBLE {
            let rest = prefix.bytes.get(at..).unwrap_or(&[]);
            if rest.starts_with(IDENTIFICATION) {
                return match line(rest) {
                    Some((text, next)) if text.len() <= LONGEST_IDENTIFICATION => {
                        Identification::Line { text, next: at + next }
                    }
                    None if rest.len() <= LONGEST_IDENTIFICATION => Identification::Begun,
                    _ => Identification::No,
                };
            }
            let readable = !rest.iter().take(LONGEST_IDENTIFICATION).any(|b| *b == 0);
            match line(rest) {
                _ if may_start_with(rest, IDENTIFICATION) => break,
                Some((_, next)) if preamble && readable => at += next,
                None if preamble && readable && rest.len() <= LONGEST_PREAMBLE => break,
                _ => return Identification::No,
            }
        }
        match at > LONGEST_PREAMBLE || prefix.ended && !prefix.bytes.is_empty() {
            true => Identification::No,
            false => Identification::Maybe,
        }
    }

    fn text(&self) -> Option<String> {
        match self {
            Identification::Line { text, .. } => Some(printable(text)),
            _ => None,
        }
    }
}

/// The algorithms of a KEXINIT that matter here: lists of names, separated by commas.
struct Offer<'a> {
    key_exchange: &'a [u8],
    to_server: &'a [u8],
    to_client: &'a [u8],
}

impl<'a> Offer<'a> {
    fn parse(payload: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(payload);
        reader.take(1 + 16)?;
        let mut list = || {
            let length = reader.u32()?;
            reader.take(usize::try_from(length).ok()?)
        };
        let (key_exchange, _host_key) = (list()?, list()?);
        Some(Offer { key_exchange, to_server: list()?, to_client: list()? })
    }
}

/// Section 7.1: the client's first that the server has, too.
fn first_common<'a>(client: &'a [u8], server: &[u8]) -> Option<&'a [u8]> {
    // Lists of hostile length: 64 names are more than anyone has.
    const MOST: usize = 64;
    let names = |list: &'a [u8]| list.split(|b| *b == b',').take(MOST);
    names(client).find(|name| server.split(|b| *b == b',').take(MOST).any(|other| other == *name))
}

/// One side's packets in the clear.
#[derive(Default)]
struct Exchange<'a> {
    offer: Option<Offer<'a>>,
    new_keys: bool,
    disconnected: bool,
    broken: Option<usize>,
}

impl<'a> Exchange<'a> {
    fn read(bytes: &'a [u8]) -> Self {
        let mut exchange = Exchange::default();
        let mut at = 0;
        while let Some(rest) = bytes.get(at..)
            && !exchange.new_keys
            && !exchange.disconnected
        {
            let [a, b, c, d, padding, message, ..] = *rest else { break };
            let length = u32::from_be_bytes([a, b, c, d]);
            let known = match message {
                KEXINIT => exchange.offer.is_none(),
                DISCONNECT | 2..=4 => true,
                7 | NEWKEYS | 30..=49 => exchange.offer.is_some(),
                _ => false,
            };
            if !known || !PACKET.contains(&length) || u32::from(padding) + 2 > length {
                exchange.broken = Some(at);
                break;
            }
            let end = 4 + length as usize;
            let Some(packet) = rest.get(5..end - usize::from(padding)) else { break };
            match message {
                KEXINIT => exchange.offer = Offer::parse(packet),
                NEWKEYS => exchange.new_keys = true,
                DISCONNECT => exchange.disconnected = true,
                _ => {}
            }
            if message == KEXINIT && exchange.offer.is_none() {
                exchange.broken = Some(at);
                break;
            }
            at += end;
        }
        exchange
    }
}
