//! Kafka: requests with a key and a version that exist, answered with the same correlation number.
//!
//! Source: "Kafka protocol guide" (request header v0 to v2, API keys) and the message definitions in
//! `clients/src/main/resources/common/message`. Evidence: a first `ApiVersions` whose length is exact
//! or whose client names itself, 60 bits; any other request, about 40 bits, only together with an
//! answer of the same correlation number, 32 bits more.

use super::evidence::{Evidence, Seen, be16, be32, byte, ensure, evidence, is_text, led_by, shown, slice};
use crate::probe::{Found, Probe};
use crate::{Hint, Prefix, Protocol};

const API_VERSIONS: usize = 18;
const SASL_HANDSHAKE: usize = 17;

/// The highest version of each API, by key, as of Kafka 4.1.
const HIGHEST_VERSION: [u8; 93] = [
    13, 18, 11, 13, 7, 4, 8, 3, 10, 10, 6, 9, 4, 5, 5, 6, 5, 1, 4, 7, 6, 2, 6, 4, 5, 4, 5, 2, 5, 3, 3, 3, 4,
    2, 2, 4, 2, 3, 3, 2, 2, 3, 2, 2, 1, 1, 0, 0, 1, 1, 0, 0, 2, 1, 1, 2, 3, 2, 0, 1, 2, 0, 4, 1, 0, 0, 2, 0,
    1, 1, 0, 0, 0, 0, 1, 0, 1, 1, 1, 1, 1, 0, 0, 0, 1, 1, 0, 0, 1, 1, 0, 1, 0,
];

/// Versions that may come after this was written.
const SLACK: u16 = 2;

pub(super) fn probe(client: Prefix<'_>, server: Prefix<'_>, _: Hint) -> Probe {
    let request = request(client.bytes);
    let of_client = match &request {
        Ok(request) => request.evidence,
        Err(evidence) => *evidence,
    };
    let of_server = evidence(answer(server.bytes, request.as_ref().ok().map(|request| request.correlation)));
    led_by((client, of_client), (server, of_server)).found(|| Found {
        detail: request.ok().and_then(|request| request.detail),
        ..Found::plain(Protocol::Kafka)
    })
}

struct Request {
    correlation: u32,
    evidence: Evidence,
    detail: Option<String>,
}

fn request(bytes: &[u8]) -> Seen<Request> {
    ensure(byte(bytes, 0)? <= 6)?;
    let length = be32(bytes, 0)? as usize;
    ensure((10..=104_857_600).contains(&length))?;
    ensure(byte(bytes, 4)? == 0)?;
    let key = usize::from(be16(bytes, 4)?);
    let highest = u16::from(*HIGHEST_VERSION.get(key).ok_or(Evidence::Against)?);
    ensure(byte(bytes, 6)? == 0)?;
    let version = be16(bytes, 6)?;
    ensure(version <= highest + SLACK && byte(bytes, 8)? < 0x80)?;
    let correlation = be32(bytes, 8)?;
    let (client, at) = nullable_string(bytes, 12)?;
    ensure(at <= 4 + length)?;
    // A nameless client's first version of `Produce` is 16 zero bits thrice: so begin other protocols.
    ensure(key != 0 || version != 0 || client.is_some_and(|name| !name.is_empty()))?;
    let plain = |evidence| Ok(Request { correlation, evidence, detail: None });
    match (key, version) {
        (API_VERSIONS, 0..=2) => {
            ensure(at == 4 + length)?;
            plain(Evidence::Proof)
        }
        (API_VERSIONS, _) => {
            ensure(byte(bytes, at)? == 0)?;
            let (name, at) = compact_string(bytes, at + 1)?;
            let (number, at) = compact_string(bytes, at)?;
            ensure(byte(bytes, at)? == 0 && at < 4 + length)?;
            let detail = Some(format!("client {} {}", shown(name), shown(number)));
            Ok(Request { correlation, evidence: Evidence::Proof, detail })
        }
        (SASL_HANDSHAKE, _) => {
            let (mechanism, end) = nullable_string(bytes, at)?;
            ensure(mechanism.is_some_and(|name| name.len() >= 5) && end == 4 + length)?;
            plain(Evidence::Proof)
        }
        _ => plain(Evidence::Fits),
    }
}

/// Two bytes of length, or -1 for none; printable.
fn nullable_string(bytes: &[u8], at: usize) -> Seen<(Option<&[u8]>, usize)> {
    match be16(bytes, at)? {
        0xffff => Ok((None, at + 2)),
        length @ 0..=255 => {
            let text = printable(bytes, at + 2, usize::from(length))?;
            Ok((Some(text), at + 2 + text.len()))
        }
        _ => Err(Evidence::Against),
    }
}

/// One byte of length, plus one; never empty in practice.
fn compact_string(bytes: &[u8], at: usize) -> Seen<(&[u8], usize)> {
    let length = usize::from(byte(bytes, at)?);
    ensure((2..=128).contains(&length))?;
    let text = printable(bytes, at + 1, length - 1)?;
    Ok((text, at + length))
}

fn printable(bytes: &[u8], at: usize, length: usize) -> Seen<&[u8]> {
    let there = bytes.get(at..).unwrap_or(&[]);
    ensure(there.iter().take(length).all(|byte| is_text(*byte)))?;
    slice(bytes, at, length)
}

fn answer(bytes: &[u8], correlation: Option<u32>) -> Seen<Evidence> {
    let length = be32(bytes, 0)?;
    ensure((4..=104_857_600).contains(&length))?;
    let Some(correlation) = correlation else { return Err(Evidence::Pending) };
    ensure(be32(bytes, 4)? == correlation)?;
    Ok(Evidence::Fits)
}
