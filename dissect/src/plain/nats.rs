//! NATS: what the server's `INFO` offers, and whether the client took TLS after it.
//!
//! Source: NATS documentation, "Client protocol". Evidence: `INFO {"`, 56 bits, from the server, which
//! speaks first and leads; in the middle of a connection a message line with all its fields.

use super::evidence::{
    Evidence, Seen, byte, decimal, ensure, evidence, led_by, literal, one_of, shown, text_line,
};
use crate::probe::{Found, Probe};
use crate::{Hint, Prefix, Protocol};

pub(super) fn probe(client: Prefix<'_>, server: Prefix<'_>, _: Hint) -> Probe {
    let of_server = match info_begins(server.bytes) {
        Err(Evidence::Against) if server.midstream => evidence(message(server.bytes)),
        seen => evidence(seen.map(|()| Evidence::Proof)),
    };
    led_by((server, of_server), (client, evidence(of_client(client)))).found(|| found(client, server))
}

fn info_begins(bytes: &[u8]) -> Seen<()> {
    literal(bytes, 0, b"INFO {\"")
}

fn of_client(client: Prefix<'_>) -> Seen<Evidence> {
    match literal(client.bytes, 0, b"CONNECT {\"") {
        Ok(()) => Ok(Evidence::Proof),
        Err(Evidence::Against) if client.midstream => message(client.bytes),
        Err(reason) => Err(reason),
    }
}

/// A line of the running protocol.
fn message(bytes: &[u8]) -> Seen<Evidence> {
    let verbs: [&[u8]; 9] =
        [b"PUB ", b"HPUB ", b"MSG ", b"HMSG ", b"SUB ", b"UNSUB ", b"PING\r\n", b"PONG\r\n", b"+OK\r\n"];
    let verb = one_of(bytes, &verbs)?;
    if verb.ends_with(b"\n") {
        return Ok(Evidence::Fits);
    }
    let (line, _) = text_line(bytes, 0, 1024)?;
    let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').skip(1).collect();
    let last_is_number = fields.last().is_some_and(|last| decimal(last, 10).is_some());
    let shape = match verb {
        b"PUB " | b"HPUB " => (2..=4).contains(&fields.len()) && last_is_number,
        b"MSG " | b"HMSG " => (3..=5).contains(&fields.len()) && last_is_number,
        b"SUB " => (2..=3).contains(&fields.len()),
        _ => (1..=2).contains(&fields.len()),
    };
    ensure(shape)?;
    Ok(if last_is_number && fields.len() > 1 { Evidence::Proof } else { Evidence::Fits })
}

fn found(client: Prefix<'_>, server: Prefix<'_>) -> Found {
    let mut found = Found::plain(Protocol::Nats);
    if let Err(reason) = info_begins(server.bytes) {
        found.settled = server.ended || reason != Evidence::Pending;
        return found;
    }
    // An `INFO` with many cluster addresses may be longer than what is captured.
    let end = server.bytes.iter().position(|byte| *byte == b'\n');
    let info = &server.bytes[..end.unwrap_or(server.bytes.len())];
    let required = says(info, b"\"tls_required\":true");
    found.upgrade_offered = required || says(info, b"\"tls_available\":true");
    let told = match (starts_tls(client), end, found.upgrade_offered) {
        (Ok(true), Some(end), _) => {
            found.upgraded_at = Some((0, end + 1));
            "TLS"
        }
        (Ok(true), None, _) => {
            found.settled = server.ended;
            found.upgraded_at = server.ended.then_some((0, server.bytes.len()));
            "TLS"
        }
        (first, end, offered) => {
            found.settled = (first.is_ok() || client.ended) && (end.is_some() || server.ended);
            match (offered, first.is_ok() || client.ended) {
                (false, _) => "no TLS offered",
                (true, true) => "TLS offered, not used",
                (true, false) if required => "TLS required",
                (true, false) => "TLS offered",
            }
        }
    };
    found.detail = Some(format!("NATS{} server, {told}", version(info)));
    found
}

/// Whether the client's first bytes are a TLS handshake record.
fn starts_tls(client: Prefix<'_>) -> Seen<bool> {
    if client.midstream {
        return Ok(false);
    }
    Ok(byte(client.bytes, 0)? == 0x16 && byte(client.bytes, 1)? == 3)
}

fn says(info: &[u8], what: &[u8]) -> bool {
    info.windows(what.len()).any(|part| part == what)
}

fn version(info: &[u8]) -> String {
    let key = b"\"version\":\"";
    let Some(start) = info.windows(key.len()).position(|part| part == key) else { return String::new() };
    let value = info[start + key.len()..].split(|byte| *byte == b'"').next().unwrap_or(&[]);
    format!(" {}", shown(value))
}
