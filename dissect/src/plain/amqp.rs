//! AMQP 0-9-1 (RabbitMQ) and 1.0.
//!
//! Source: AMQP 0-9-1 specification §4.2; OASIS AMQP 1.0 part 2 §2.2 and §2.3, part 5 §5.2 and §5.3.
//! Evidence: the protocol header, 64 bits; in the middle of a connection a frame whose kind, length
//! and end agree, 50 bits.

use super::evidence::{Evidence, Seen, be16, be32, byte, ensure, evidence, led_by, literal};
use crate::probe::{Found, Probe};
use crate::{Hint, Prefix, Protocol};

const HEADER: usize = 8;

/// 0-8 to 0-10.
pub(super) fn zero(client: Prefix<'_>, server: Prefix<'_>, _: Hint) -> Probe {
    probe(client, server, Protocol::Amqp)
}

/// 1.0, which shares no more than the name.
pub(super) fn one(client: Prefix<'_>, server: Prefix<'_>, _: Hint) -> Probe {
    probe(client, server, Protocol::Amqp1)
}

fn probe(client: Prefix<'_>, server: Prefix<'_>, protocol: Protocol) -> Probe {
    let of =
        |prefix| version(prefix).and_then(|version| ensure(version.protocol() == protocol).map(|()| version));
    let (from_client, from_server) = (of(client), of(server));
    let word = |seen: Seen<Version>| evidence(seen.map(|_| Evidence::Proof));
    led_by((client, word(from_client)), (server, word(from_server))).found(|| match from_client {
        Ok(version) => found(version, server),
        // Named by the server alone; a header of the client may still come.
        Err(reason) => {
            Found { settled: client.ended || reason != Evidence::Pending, ..Found::plain(protocol) }
        }
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    /// 0-8 to 0-10, by name.
    Zero(&'static str),
    One,
    /// Version 1.0, with SASL first.
    OneSasl,
    /// Version 1.0, with TLS first.
    OneTls,
}

impl Version {
    fn protocol(self) -> Protocol {
        if matches!(self, Version::Zero(_)) { Protocol::Amqp } else { Protocol::Amqp1 }
    }
}

fn version(prefix: Prefix<'_>) -> Seen<Version> {
    match header(prefix.bytes) {
        Err(Evidence::Against) => frame(prefix.bytes),
        other => other,
    }
}

fn header(bytes: &[u8]) -> Seen<Version> {
    literal(bytes, 0, b"AMQP")?;
    let known: [(&[u8; 4], Version); 7] = [
        (&[0, 0, 9, 1], Version::Zero("0-9-1")),
        (&[1, 1, 0, 9], Version::Zero("0-9")),
        (&[1, 1, 0, 10], Version::Zero("0-10")),
        (&[1, 1, 8, 0], Version::Zero("0-8")),
        (&[0, 1, 0, 0], Version::One),
        (&[3, 1, 0, 0], Version::OneSasl),
        (&[2, 1, 0, 0], Version::OneTls),
    ];
    let mut open = false;
    for (bits, version) in known {
        match literal(bytes, 4, bits) {
            Ok(()) => return Ok(version),
            Err(Evidence::Pending) => open = true,
            Err(_) => {}
        }
    }
    Err(if open { Evidence::Pending } else { Evidence::Against })
}

/// The first frame of a server that answers without a header, or any frame in the middle.
fn frame(bytes: &[u8]) -> Seen<Version> {
    match frame_of_zero(bytes) {
        Err(Evidence::Against) => frame_of_one(bytes),
        other => other,
    }
}

fn frame_of_zero(bytes: &[u8]) -> Seen<Version> {
    let kind = byte(bytes, 0)?;
    ensure(matches!(kind, 1 | 8))?;
    let length = be32(bytes, 3)?;
    ensure(if kind == 1 { (4..=131_072).contains(&length) } else { length == 0 && be16(bytes, 1)? == 0 })?;
    if kind == 1 {
        let (class, method) = (be16(bytes, 7)?, be16(bytes, 9)?);
        ensure(matches!(class, 10 | 20 | 40 | 50 | 60 | 85 | 90) && (10..=120).contains(&method))?;
        // `connection.start` says its version, and may be longer than what is captured.
        if (class, method) == (10, 10) {
            ensure(be16(bytes, 11)? == 9)?;
            return Ok(Version::Zero("0-9-1"));
        }
    }
    ensure(byte(bytes, 7 + length as usize)? == 0xce)?;
    Ok(Version::Zero("0-9-1"))
}

fn frame_of_one(bytes: &[u8]) -> Seen<Version> {
    ensure(byte(bytes, 0)? == 0)?;
    let length = be32(bytes, 0)?;
    ensure(length >= 8 && byte(bytes, 4)? == 2)?;
    let kind = byte(bytes, 5)?;
    ensure(kind <= 1)?;
    if length > 8 {
        // A described type with a small code: a performative, or a step of SASL.
        ensure(byte(bytes, 8)? == 0 && byte(bytes, 9)? == 0x53)?;
        let code = byte(bytes, 10)?;
        ensure(if kind == 0 { (0x10..=0x18).contains(&code) } else { (0x40..=0x44).contains(&code) })?;
    } else {
        ensure(kind == 0 && be16(bytes, 6)? == 0)?;
    }
    Ok(Version::One)
}

fn found(version: Version, server: Prefix<'_>) -> Found {
    let detail = match version {
        Version::Zero(name) => format!("AMQP {name}"),
        Version::One | Version::OneSasl | Version::OneTls => "AMQP 1.0".to_owned(),
    };
    let mut found = Found { detail: Some(detail), ..Found::plain(version.protocol()) };
    if version == Version::OneTls {
        found.upgrade_offered = true;
        match header(server.bytes) {
            Ok(Version::OneTls) => found.upgraded_at = Some((HEADER, HEADER)),
            Err(Evidence::Pending) if server.ended && server.bytes.is_empty() => {
                // The answer was not seen; what follows has to be looked at by itself.
                found.upgraded_at = Some((HEADER, 0));
            }
            Err(Evidence::Pending) => found.settled = server.ended,
            _ => found.upgrade_refused = true,
        }
    }
    found
}
