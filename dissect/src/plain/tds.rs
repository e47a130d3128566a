//! TDS (Microsoft SQL Server): who asked for encryption, what the server said, and where TLS begins.
//!
//! Source: MS-TDS 2.2.3.1 (packet header), 2.2.6.5 (PRELOGIN). Evidence: a PRELOGIN packet whose first
//! option is the version, 60 bits. TDS 8 is TLS from the first byte and no matter of this module; nor is
//! what begins with a log-in.

use super::evidence::{Evidence, Seen, be16, byte, ensure, evidence, led_by, slice};
use crate::probe::{Found, Probe};
use crate::{Hint, Prefix, Protocol, UnknownReason};

const HEADER: usize = 8;
const TABULAR_RESULT: u8 = 0x04;
const PRELOGIN: u8 = 0x12;
const END_OF_MESSAGE: u8 = 1;
const LONGEST_PRELOGIN: u16 = 4096;

/// Options of a PRELOGIN.
const VERSION: u8 = 0;
const ENCRYPTION: u8 = 1;
const TERMINATOR: u8 = 0xff;
const MOST_OPTIONS: usize = 16;

/// For the log-in alone.
const OFF: u8 = 0;
const ON: u8 = 1;
const NOT_SUPPORTED: u8 = 2;
const REQUIRED: u8 = 3;
/// The other bits say how a client proves who it is.
const WHICH: u8 = 0x0f;

pub(super) fn probe(client: Prefix<'_>, server: Prefix<'_>, _: Hint) -> Probe {
    let of_client = evidence(opening(client.bytes, PRELOGIN).map(|()| Evidence::Proof));
    let of_server = evidence(opening(server.bytes, TABULAR_RESULT).map(|()| Evidence::Fits));
    led_by((client, of_client), (server, of_server)).found(|| negotiation(client, server))
}

/// The header of a packet, and that of its first option.
fn opening(bytes: &[u8], kind: u8) -> Seen<()> {
    ensure(byte(bytes, 0)? == kind && byte(bytes, 1)? == END_OF_MESSAGE)?;
    ensure((HEADER as u16 + 12..=LONGEST_PRELOGIN).contains(&be16(bytes, 2)?))?;
    // The client knows no process of the server's so far; the last byte is always zero.
    ensure(kind == TABULAR_RESULT || be16(bytes, 4)? == 0)?;
    ensure(byte(bytes, 7)? == 0 && byte(bytes, 8)? == VERSION)?;
    ensure(be16(bytes, 11)? == 6)
}

/// Where the packet ends, and what it says of encryption.
fn prelogin(bytes: &[u8], kind: u8) -> Seen<(usize, Option<u8>)> {
    opening(bytes, kind)?;
    let end = usize::from(be16(bytes, 2)?);
    let body = slice(bytes, HEADER, end - HEADER)?;
    for option in body.chunks_exact(5).take(MOST_OPTIONS) {
        match *option {
            [ENCRYPTION, high, low, 0, 1] => {
                let at = usize::from(u16::from_be_bytes([high, low]));
                return Ok((end, body.get(at).map(|value| value & WHICH)));
            }
            [TERMINATOR, ..] => break,
            _ => {}
        }
    }
    Ok((end, None))
}

fn negotiation(client: Prefix<'_>, server: Prefix<'_>) -> Found {
    let mut found =
        Found { settled: false, hidden: Some(UnknownReason::Handshake), ..Found::plain(Protocol::Tds) };
    let Ok((client_at, asked)) = prelogin(client.bytes, PRELOGIN) else { return found };
    found.upgrade_offered = asked.is_some_and(|asked| asked != NOT_SUPPORTED);
    let (server_at, granted) = match prelogin(server.bytes, TABULAR_RESULT) {
        Ok((server_at, granted)) => (server_at, granted),
        Err(Evidence::Pending) if !(server.ended && server.bytes.is_empty()) => return found,
        // The answer was not seen, or is none: what the client sends next tells.
        Err(_) => (0, Some(ON)),
    };
    found.settled = true;
    found.hidden = None;
    match (asked.unwrap_or(NOT_SUPPORTED), granted.unwrap_or(NOT_SUPPORTED)) {
        (_, ON | REQUIRED) => {
            found.upgraded_at = Some((client_at, server_at));
            found.wrapped = true;
            found.detail = Some("TDS".to_owned());
        }
        (OFF, OFF) => found.detail = Some("only the log-in is encrypted".to_owned()),
        (ON | REQUIRED, NOT_SUPPORTED) => {
            found.upgrade_refused = true;
            found.detail = Some("client asked for TLS, server refused".to_owned());
        }
        (_, NOT_SUPPORTED) | (NOT_SUPPORTED, _) => {
            found.detail = Some("client did not ask for TLS".to_owned());
        }
        // No answer to what was asked.
        _ => {
            found.hidden = Some(UnknownReason::NotRead);
            found.detail = Some("TDS with an encryption that was not agreed upon".to_owned());
        }
    }
    found
}

/// What is in packets of the handshake, and then all that follows them: a prefix of it stays one.
pub(crate) fn payload(bytes: &[u8]) -> Vec<u8> {
    let mut rest = bytes;
    let mut payload = Vec::new();
    while let [PRELOGIN | TABULAR_RESULT, 0 | END_OF_MESSAGE, after @ ..] = rest {
        // As far as it is there, a header may be one.
        let Some(length) = after.first_chunk().map(|length| usize::from(u16::from_be_bytes(*length))) else {
            return payload;
        };
        if length < HEADER {
            break;
        }
        let packet = &rest[..rest.len().min(length)];
        payload.extend_from_slice(packet.get(HEADER..).unwrap_or(&[]));
        rest = &rest[packet.len()..];
    }
    if !matches!(rest, [PRELOGIN | TABULAR_RESULT]) {
        payload.extend_from_slice(rest);
    }
    payload
}
