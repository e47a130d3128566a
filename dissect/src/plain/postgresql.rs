//! PostgreSQL: who asked for TLS, and what the server said.
//!
//! Source: PostgreSQL documentation, "Message Formats" (StartupMessage, SSLRequest, GSSENCRequest,
//! CancelRequest, NegotiateProtocolVersion) and `ProcessStartupPacket` of PostgreSQL 17. Evidence: length and
//! request code, 50 bits or more; a start with a minor version that nobody has yet (any is negotiated), or whose first
//! parameter has no name of a setting, only together with the server's answer. Direct TLS (PostgreSQL 17) is TLS from
//! the first byte and no matter of this module.

use super::evidence::{Evidence, Seen, be32, byte, ensure, evidence, is_text, led_by, slice};
use crate::probe::{Found, Probe};
use crate::{Hint, Prefix, Protocol, UnknownReason};

const CANCEL_REQUEST: u32 = 80_877_102;
const SSL_REQUEST: u32 = 80_877_103;
const GSSENC_REQUEST: u32 = 80_877_104;

/// `SSLRequest`, `GSSENCRequest` and one more of either: more is no real client.
const MOST_REQUESTS: usize = 4;

/// Tokens of GSSAPI that are looked at: those of a handshake, and the first that is sealed.
const TOKENS: usize = 2;
/// RFC 4121 section 4.2.6: a header alone takes as much.
const SHORTEST_TOKEN: u32 = 16;
const LONGEST_TOKEN: u32 = 1 << 16;
const SAMPLE: usize = 24;

pub(super) fn probe(client: Prefix<'_>, server: Prefix<'_>, _: Hint) -> Probe {
    let answer = led_by((client, of_client(client)), (server, of_server(server)));
    answer.found(|| match first_request(client) {
        Ok(_) => negotiation(client, server),
        // Named by the server alone; a request of the client may still come.
        Err(reason) => Found {
            settled: client.ended || reason != Evidence::Pending,
            ..Found::plain(Protocol::Postgresql)
        },
    })
}

enum Request {
    Startup {
        usual: bool,
    },
    Cancel,
    /// Of this length.
    Ssl(usize),
    Gssenc(usize),
}

fn of_client(client: Prefix<'_>) -> Evidence {
    match first_request(client) {
        Ok(Request::Startup { usual: false }) => return Evidence::Fits,
        Ok(_) => return Evidence::Proof,
        Err(Evidence::Pending) => return Evidence::Pending,
        Err(_) => {}
    }
    if client.midstream {
        evidence(running(client.bytes, b"QPBDESCHFdcfXp", b"S\0\0\0\x04"))
    } else {
        Evidence::Against
    }
}

fn of_server(server: Prefix<'_>) -> Evidence {
    if server.midstream {
        return evidence(running(server.bytes, b"RSKZTDC123nstIENAVdcGHW", b"Z\0\0\0\x05"));
    }
    evidence(authentication(server.bytes))
}

fn first_request(client: Prefix<'_>) -> Seen<Request> {
    request(client.bytes, 0)
}

/// A message without a type byte: what every connection starts with.
fn request(bytes: &[u8], at: usize) -> Seen<Request> {
    ensure(byte(bytes, at)? == 0 && byte(bytes, at + 1)? == 0)?;
    let length = be32(bytes, at)?;
    // MAX_STARTUP_PACKET_LENGTH, and the length itself.
    ensure((8..=10_004).contains(&length))?;
    let start_of_code = [byte(bytes, at + 4)?, byte(bytes, at + 5)?];
    ensure(start_of_code == [0, 3] || start_of_code == [0x04, 0xd2])?;
    match (be32(bytes, at + 4)?, length) {
        // What is behind the code is not looked at.
        (SSL_REQUEST, _) => Ok(Request::Ssl(length as usize)),
        (GSSENC_REQUEST, _) => Ok(Request::Gssenc(length as usize)),
        (CANCEL_REQUEST, 16..=268) => Ok(Request::Cancel),
        (version @ 0x0003_0000..=0x0003_ffff, 9..) => {
            let name = byte(bytes, at + 8)?;
            ensure(name != 0)?;
            // 3.0, 3.2, and 3.9999, with which libpq tests whether servers negotiate.
            let is_known = matches!(version & 0xffff, 0..=9 | 9999);
            Ok(Request::Startup { usual: is_known && (name.is_ascii_alphabetic() || name == b'_') })
        }
        _ => Err(Evidence::Against),
    }
}

/// `R`, a length, and a known kind of authentication: 60 bits; an error in the form of version 3; or which version the
/// server has instead.
fn authentication(bytes: &[u8]) -> Seen<Evidence> {
    match byte(bytes, 0)? {
        b'R' => {
            ensure(byte(bytes, 1)? == 0 && byte(bytes, 2)? == 0)?;
            ensure((8..=4096).contains(&be32(bytes, 1)?) && matches!(be32(bytes, 5)?, 0 | 3 | 5 | 7..=12))?;
            Ok(Evidence::Proof)
        }
        b'E' => {
            ensure(byte(bytes, 1)? == 0 && byte(bytes, 2)? == 0)?;
            ensure(slice(bytes, 5, 1)? == b"S" && slice(bytes, 6, 1)?[0].is_ascii_uppercase())?;
            Ok(Evidence::Proof)
        }
        // The version (by the documentation its minor part), and which options it does not know.
        b'v' => {
            ensure(byte(bytes, 1)? == 0 && byte(bytes, 2)? == 0)?;
            ensure((12..=10_004).contains(&be32(bytes, 1)?))?;
            ensure(matches!(be32(bytes, 5)?, 0..=9 | 0x0003_0000..=0x0003_0009) && be32(bytes, 9)? < 2500)?;
            Ok(Evidence::Proof)
        }
        _ => Err(Evidence::Against),
    }
}

/// Messages with type and length, one after the other, up to the one that ends an exchange.
fn running(bytes: &[u8], types: &[u8], end: &[u8; 5]) -> Seen<Evidence> {
    let mut at = 0;
    loop {
        let kind = byte(bytes, at)?;
        ensure(types.contains(&kind) && byte(bytes, at + 1)? == 0)?;
        let length = be32(bytes, at + 1)? as usize;
        ensure(length >= 4)?;
        if slice(bytes, at, 5)? == end {
            return Ok(if at > 0 { Evidence::Proof } else { Evidence::Against });
        }
        if kind == b'Q' && at == 0 {
            let text = slice(bytes, 5, (length - 4).min(16))?;
            ensure(text.len() >= 8)?;
            let text = text.strip_suffix(b"\0").unwrap_or(text);
            ensure(text.iter().all(|byte| is_text(*byte) || matches!(byte, b'\n' | b'\r')))?;
            return Ok(Evidence::Proof);
        }
        at += 1 + length;
    }
}

/// Follows requests and answers until the client starts up in the clear or encryption begins.
fn negotiation(client: Prefix<'_>, server: Prefix<'_>) -> Found {
    let mut found = Found { settled: false, ..Found::plain(Protocol::Postgresql) };
    let mut at = 0;
    for answered in 0..MOST_REQUESTS {
        let asked_for = match request(client.bytes, at) {
            Err(Evidence::Pending) => return found,
            Err(_) => break,
            Ok(Request::Startup { .. }) => {
                found.settled = true;
                found.detail = Some(in_the_clear(&found).to_owned());
                return found;
            }
            Ok(Request::Cancel) => {
                found.settled = true;
                found.detail = Some("cancels a query, in the clear".to_owned());
                return found;
            }
            Ok(asked_for @ (Request::Ssl(length) | Request::Gssenc(length))) => {
                at += length;
                asked_for
            }
        };
        found.upgrade_offered |= matches!(asked_for, Request::Ssl(_));
        match (byte(server.bytes, answered), asked_for) {
            (Ok(b'S'), Request::Ssl(_)) => {
                found.upgrade_refused = false;
                found.upgraded_at = Some((at, answered + 1));
            }
            (Ok(b'G'), Request::Gssenc(_)) => {
                return sealed(found, client.after(at), server.after(answered + 1)).unwrap_or_else(|found| {
                    // No tokens: what follows has to be looked at by itself.
                    Found { upgraded_at: Some((at, answered + 1)), settled: true, ..found }
                });
            }
            (Ok(b'N'), asked_for) => {
                found.upgrade_refused |= matches!(asked_for, Request::Ssl(_));
                continue;
            }
            (Ok(b'E'), asked_for) => {
                found.upgrade_refused |= matches!(asked_for, Request::Ssl(_));
                found.detail =
                    Some("the server answered the request for encryption with an error".to_owned());
            }
            // No answer that the protocol has: what follows has to be looked at by itself.
            (Ok(_), _) => found.upgraded_at = Some((at, answered)),
            (Err(_), _) if !server.ended || !server.bytes.is_empty() => return found,
            // The answer was not seen: what the client sends next tells.
            (Err(_), _) => match request(client.bytes, at) {
                Ok(_) => continue,
                Err(Evidence::Pending) => return found,
                Err(_) => found.upgraded_at = Some((at, 0)),
            },
        }
        break;
    }
    found.settled = true;
    found
}

/// GSSAPI encryption (PostgreSQL documentation, "GSSAPI Session Encryption"): tokens, each led by its length.
/// What they hold is not read. Where one of them is none, or is in words, the same as it was.
fn sealed(found: Found, client: Prefix<'_>, server: Prefix<'_>) -> Result<Found, Found> {
    let (from_client, from_server) = (tokens(client.bytes, true), tokens(server.bytes, false));
    if [from_client, from_server].contains(&Err(Evidence::Against)) {
        return Err(found);
    }
    let settled = from_client.is_ok() && from_server.is_ok();
    let reason = if settled { UnknownReason::NotRead } else { UnknownReason::Handshake };
    let detail = Some("GSSAPI encryption granted".to_owned());
    Ok(Found { settled, hidden: Some(reason), detail, ..found })
}

/// The first tokens of one direction. A client begins as RFC 2743 section 3.1 has it.
fn tokens(bytes: &[u8], from_client: bool) -> Seen<()> {
    let mut at = 0;
    for number in 0..TOKENS {
        let length = be32(bytes, at)?;
        ensure((SHORTEST_TOKEN..=LONGEST_TOKEN).contains(&length))?;
        let length = length as usize;
        ensure(!from_client || number > 0 || byte(bytes, at + 4)? == 0x60)?;
        ensure(!is_text_throughout(slice(bytes, at + 4, length.min(SAMPLE))?))?;
        at += 4 + length;
    }
    Ok(())
}

fn is_text_throughout(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| is_text(*byte) || matches!(byte, b'\n' | b'\r'))
}

fn in_the_clear(found: &Found) -> &'static str {
    match (found.upgrade_offered, found.upgrade_refused) {
        (false, _) => "client did not ask for TLS",
        (true, true) => "client asked for TLS, server refused",
        (true, false) => "client asked for TLS and went on without",
    }
}
