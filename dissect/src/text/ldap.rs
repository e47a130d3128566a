//! LDAP (RFC 4511), with StartTLS (section 4.14).
//!
//! In: both directions. Out: the protocol, and where TLS begins. Must never: show a name, a filter
//! or a credential.
//!
//! Lengths are read as liblber reads them: in up to eight octets, of which any may be zero.

use crate::bytes::Reader;
use crate::probe::{Found, Prefix, Probe};
use crate::{Hint, Protocol};

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const ENUMERATED: u8 = 0x0a;
const SEARCH: u8 = 0x63;
const EXTENDED: u8 = 0x77;
const EXTENDED_RESPONSE: u8 = 0x78;
/// Bind, unbind, search, modify, add, delete, modify DN, compare, abandon, extended.
const REQUESTS: [u8; 10] = [0x60, 0x42, SEARCH, 0x66, 0x68, 0x4a, 0x6c, 0x6e, 0x50, EXTENDED];
const START_TLS: &[u8] = b"1.3.6.1.4.1.1466.20037";
const LONGEST_MESSAGE: usize = 1 << 24;
const MOST_MESSAGES: usize = 64;

/// One message, its operation cut short where the bytes end.
struct Message<'a> {
    id: &'a [u8],
    operation: u8,
    body: &'a [u8],
    /// Its length on the wire, all of it.
    length: usize,
}

enum Read<'a> {
    No,
    Maybe,
    Message(Message<'a>),
}

/// A definite length (X.690 section 8.1.3), or `Err` where the bytes end or are none.
fn length(reader: &mut Reader<'_>) -> Result<usize, Read<'static>> {
    let first = reader.u8().ok_or(Read::Maybe)?;
    let octets = usize::from(first & 0x7f);
    if first < 0x80 {
        return Ok(usize::from(first));
    }
    if !(1..=8).contains(&octets) {
        return Err(Read::No);
    }
    let value = reader.take(octets).ok_or(Read::Maybe)?;
    let value = value.iter().fold(0, |value, b| value << 8 | u64::from(*b));
    usize::try_from(value).ok().filter(|value| *value <= LONGEST_MESSAGE).ok_or(Read::No)
}

fn read(bytes: &[u8]) -> Read<'_> {
    match parse(bytes) {
        Ok(message) => Read::Message(message),
        Err(Read::No) => Read::No,
        Err(_) => Read::Maybe,
    }
}

fn parse(bytes: &[u8]) -> Result<Message<'_>, Read<'_>> {
    let mut reader = Reader::new(bytes);
    let expect = |found: Option<u8>, wanted: u8| match found {
        None => Err(Read::Maybe),
        Some(tag) if tag == wanted => Ok(()),
        Some(_) => Err(Read::No),
    };
    expect(reader.u8(), SEQUENCE)?;
    let outer = length(&mut reader)?;
    let message_length = bytes.len() - reader.rest().len() + outer;
    expect(reader.u8(), INTEGER)?;
    let id_length = length(&mut reader)?;
    if id_length > 4 || id_length + 4 > outer {
        return Err(Read::No);
    }
    let id = reader.take(id_length).ok_or(Read::Maybe)?;
    let operation = reader.u8().ok_or(Read::Maybe)?;
    let inner = length(&mut reader)?;
    if inner > outer {
        return Err(Read::No);
    }
    let rest = reader.rest();
    Ok(Message { id, operation, body: &rest[..rest.len().min(inner)], length: message_length })
}

pub(crate) fn probe(client: Prefix<'_>, server: Prefix<'_>, _hint: Hint) -> Probe {
    match read(client.bytes) {
        Read::Message(first) if REQUESTS.contains(&first.operation) => Probe::Yes(follow(client, server)),
        Read::Maybe if !client.ended => Probe::Maybe,
        _ => Probe::No,
    }
}

fn follow(client: Prefix<'_>, server: Prefix<'_>) -> Found {
    let mut found = Found { settled: false, ..Found::plain(Protocol::Ldap) };
    let mut at = 0;
    for _ in 0..MOST_MESSAGES {
        let rest = client.bytes.get(at..).unwrap_or(&[]);
        let message = match read(rest) {
            Read::Message(message) => message,
            Read::Maybe => {
                found.settled = client.ended;
                return found;
            }
            Read::No => break,
        };
        if rest.len() < message.length && matches!(message.operation, EXTENDED | SEARCH) {
            found.settled = client.ended;
            return found;
        }
        at = at.saturating_add(message.length);
        match message.operation {
            EXTENDED if asks_for_tls(message.body) => return upgrade(found, message.id, at, server),
            // Reading the root entry tells a client what the server can do.
            SEARCH if is_of_root(message.body) => {}
            _ => break,
        }
    }
    found.settled = true;
    found
}

/// Of an id; zeros may lead it.
fn number(id: &[u8]) -> u32 {
    id.iter().fold(0, |number, byte| number << 8 | u32::from(*byte))
}

/// `baseObject`
fn is_of_root(body: &[u8]) -> bool {
    let Some((&OCTET_STRING, body)) = body.split_first() else { return false };
    length(&mut Reader::new(body)).is_ok_and(|length| length == 0)
}

/// `[0] requestName`
fn asks_for_tls(body: &[u8]) -> bool {
    let Some((0x80, body)) = body.split_first() else { return false };
    let mut reader = Reader::new(body);
    length(&mut reader).is_ok_and(|length| length == START_TLS.len() && reader.rest().starts_with(START_TLS))
}

fn upgrade(mut found: Found, id: &[u8], client_at: usize, server: Prefix<'_>) -> Found {
    found.upgrade_offered = true;
    let mut at = 0;
    for _ in 0..MOST_MESSAGES {
        let rest = server.bytes.get(at..).unwrap_or(&[]);
        let Read::Message(message) = read(rest) else { break };
        if rest.len() < message.length {
            break;
        }
        at = at.saturating_add(message.length);
        if message.operation != EXTENDED_RESPONSE || number(message.id) != number(id) {
            continue;
        }
        found.settled = true;
        if message.body.starts_with(&[ENUMERATED, 1, 0]) {
            found.upgraded_at = Some((client_at, at));
            found.detail = Some("StartTLS".into());
        } else {
            found.upgrade_refused = true;
            found.detail = Some("the client asked for TLS, the server refused".into());
        }
        return found;
    }
    found.settled = server.ended;
    found
}
