//! DTLS (RFC 6347, RFC 9147).
//!
//! In: both directions' datagrams. Out: what was negotiated; encrypted once both sides sent
//! protected records. Must never: take hellos alone for encryption.

use super::hello::{ClientHello, ServerHello};
use super::{Secure, names};
use crate::bytes::{Reader, capped};
use crate::{Cipher, Facts, Inspection, Plain, Protection, Protocol, TlsFacts, UnknownReason};

const HANDSHAKE: u8 = 22;
const ALERT: u8 = 21;
const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;
const HELLO_VERIFY_REQUEST: u8 = 3;
const LONGEST_HELLO: usize = 1 << 14;

/// A record, cut short where its datagram was.
struct Record<'a> {
    kind: u8,
    epoch: u16,
    payload: &'a [u8],
}

/// The records of a datagram; ends where they end or are none.
fn records(datagram: &[u8]) -> impl Iterator<Item = Record<'_>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let mut reader = Reader::new(rest);
        let kind = reader.u8()?;
        // The unified header of DTLS 1.3 (RFC 9147 section 4) is only ever on protected records.
        if kind & 0xe0 == 0x20 {
            let payload = std::mem::take(&mut rest);
            return Some(Record { kind: 23, epoch: 1, payload });
        }
        let (version, epoch) = (reader.u16()?, reader.u16()?);
        reader.take(6)?;
        let length = usize::from(reader.u16()?);
        if !(20..=26).contains(&kind) || !matches!(version, 0xfeff | 0xfefd | 0xfefc | 0x0100) {
            return None;
        }
        let payload = &reader.rest()[..reader.rest().len().min(length)];
        rest = &reader.rest()[payload.len()..];
        Some(Record { kind, epoch, payload })
    })
}

/// The first whole message of this kind, put together from its fragments.
fn message(datagrams: &[&[u8]], wanted: u8) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    let mut sequence = None;
    for record in datagrams.iter().flat_map(|d| records(d)).filter(|r| r.kind == HANDSHAKE && r.epoch == 0) {
        let mut reader = Reader::new(record.payload);
        while let Some(kind) = reader.u8() {
            let (length, number) = (reader.u24()?, reader.u16()?);
            let (offset, part) = (reader.u24()?, reader.u24()?);
            let Some(fragment) = reader.take(part) else { break };
            if kind != wanted || length > LONGEST_HELLO || sequence.is_some_and(|s| s != number) {
                continue;
            }
            sequence = Some(number);
            if offset == body.len() {
                body.extend_from_slice(fragment);
            }
            if body.len() == length {
                return Some(body);
            }
        }
    }
    None
}

pub(crate) fn look(client: &[&[u8]], server: &[&[u8]]) -> Secure {
    let Some(first) = client.first() else { return Secure::Maybe };
    let begins = records(first).next().is_some_and(|record| {
        record.kind == HANDSHAKE && record.epoch == 0 && record.payload.first() == Some(&CLIENT_HELLO)
    });
    if !begins {
        return Secure::No;
    }
    let mut facts = TlsFacts::default();
    let offer = message(client, CLIENT_HELLO).and_then(|body| ClientHello::parse(&body, true));
    let Some(offer) = offer else { return handshake(facts, "a DTLS handshake began".into(), false) };
    offer.describe(&mut facts);
    let answer = message(server, SERVER_HELLO).and_then(|body| ServerHello::parse(&body, true));
    let Some(answer) = answer else { return unanswered(facts, server) };
    answer.describe(&mut facts);
    if !offer.suites.contains(&answer.suite) {
        return handshake(facts, "the server's hello does not answer the client's".into(), true);
    }
    let is_protected = |datagrams: &[&[u8]]| datagrams.iter().flat_map(|d| records(d)).any(|r| r.epoch > 0);
    facts.established = is_protected(client) && is_protected(server);
    if !facts.established {
        return handshake(facts, "DTLS handshake under way".into(), false);
    }
    let version = facts.version.as_deref().unwrap_or("of unknown version");
    let detail = format!("DTLS {version}");
    let protection = match names::without_encryption(answer.suite) {
        true => Protection::Plaintext(Plain::Protocol(Protocol::Dtls)),
        false => Protection::Encrypted(Cipher::Dtls),
    };
    inspection(protection, facts, detail, true)
}

fn unanswered(facts: TlsFacts, server: &[&[u8]]) -> Secure {
    let Some(record) = server.first().and_then(|datagram| records(datagram).next()) else {
        return handshake(facts, "DTLS handshake, not answered so far".into(), false);
    };
    match (record.kind, record.payload) {
        (ALERT, [2, number]) => {
            let detail = format!("DTLS handshake refused: alert {} from the server", names::alert(*number));
            handshake(facts, detail, false)
        }
        (HANDSHAKE, [HELLO_VERIFY_REQUEST, ..]) => {
            handshake(facts, "DTLS handshake: the server asked for a cookie".into(), false)
        }
        _ => handshake(facts, "DTLS handshake under way".into(), false),
    }
}

fn handshake(facts: TlsFacts, detail: String, settled: bool) -> Secure {
    inspection(Protection::Unknown(UnknownReason::Handshake), facts, detail, settled)
}

fn inspection(protection: Protection, tls: TlsFacts, detail: String, settled: bool) -> Secure {
    let facts = Facts {
        protocol: Some(Protocol::Dtls),
        protection,
        tls: Some(tls),
        ssh: None,
        upgrade: None,
        detail: Some(capped(detail)),
    };
    Secure::Is(Inspection::new(facts, settled))
}
