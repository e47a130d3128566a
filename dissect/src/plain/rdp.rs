//! RDP: which protection client and server agree upon.
//!
//! Source: RFC 1006 (TPKT), MS-RDPBCGR 2.2.1.1 and 2.2.1.2 (X.224 connection request and confirm),
//! 2.2.1.4.3 (the server's security data). Evidence: a request that negotiates, or holds the cookie of a
//! load balancer, 60 bits; a bare one needs the server's answer. The cookie names the user, and is never
//! shown.

use super::evidence::{Evidence, Seen, be16, byte, ensure, evidence, led_by, literal, slice};
use crate::bytes::{find, may_start_with};
use crate::probe::{Found, Probe};
use crate::{Hint, Prefix, Protocol, UnknownReason};

/// Version, and a byte that is reserved.
const TPKT: &[u8] = &[3, 0];
const TPKT_HEADER: usize = 4;
/// Length, code, two references, class.
const BARE: usize = TPKT_HEADER + 7;
const LONGEST: usize = 512;
const CONNECTION_REQUEST: u8 = 0xe0;
const CONNECTION_CONFIRM: u8 = 0xd0;

const COOKIES: [&[u8]; 3] = [b"Cookie: mstshash=", b"Cookie: msts=", b"tsv://"];
const NEGOTIATION_REQUEST: u8 = 1;
const NEGOTIATION_RESPONSE: u8 = 2;
const NEGOTIATION_FAILURE: u8 = 3;

/// Security data of a server that encrypts nothing: its kind, its length, no method, no level.
const NO_ENCRYPTION: &[u8] = &[0x02, 0x0c, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0];

pub(super) fn probe(client: Prefix<'_>, server: Prefix<'_>, _: Hint) -> Probe {
    let of_client = evidence(request(client.bytes).map(|request| request.evidence));
    let of_server = evidence(confirm(server.bytes).map(|_| Evidence::Fits));
    led_by((client, of_client), (server, of_server)).found(|| agreement(client, server))
}

struct Request {
    end: usize,
    evidence: Evidence,
}

/// An X.224 message of this kind: where it ends, and what it holds.
fn message(bytes: &[u8], kind: u8) -> Seen<(usize, &[u8])> {
    literal(bytes, 0, TPKT)?;
    let end = usize::from(be16(bytes, 2)?);
    ensure((BARE..=LONGEST).contains(&end))?;
    ensure(usize::from(byte(bytes, 4)?) == end - TPKT_HEADER - 1 && byte(bytes, 5)? == kind)?;
    ensure(be16(bytes, 6)? == 0 || kind == CONNECTION_CONFIRM)?;
    ensure(byte(bytes, 10)? & 0xf0 == 0)?;
    Ok((end, slice(bytes, BARE, end - BARE)?))
}

fn request(bytes: &[u8]) -> Seen<Request> {
    let (end, mut rest) = message(bytes, CONNECTION_REQUEST)?;
    let mut evidence = Evidence::Fits;
    if COOKIES.iter().any(|cookie| rest.starts_with(cookie)) {
        let cookie = find(rest, b"\r\n").ok_or(Evidence::Against)?;
        rest = &rest[cookie + 2..];
        evidence = Evidence::Proof;
    }
    match rest {
        [] => {}
        [NEGOTIATION_REQUEST, _, 8, 0, _, _, _, _, ..] => evidence = Evidence::Proof,
        _ => return Err(Evidence::Against),
    }
    Ok(Request { end, evidence })
}

/// What the server chose.
enum Choice {
    /// TLS, alone or with what proves the client within it.
    Tls(&'static str),
    /// Whatever the two agree upon next.
    Standard,
    Failure,
}

fn confirm(bytes: &[u8]) -> Seen<(usize, Choice)> {
    let (end, rest) = message(bytes, CONNECTION_CONFIRM)?;
    let choice = match *rest {
        [] | [NEGOTIATION_RESPONSE, _, 8, 0, 0, 0, 0, 0] => Choice::Standard,
        [NEGOTIATION_RESPONSE, _, 8, 0, which, 0, 0, 0] => Choice::Tls(match which {
            1 => "RDP",
            2 | 8 => "RDP with CredSSP",
            _ => "RDP with log-in within TLS",
        }),
        [NEGOTIATION_FAILURE, _, 8, 0, ..] => Choice::Failure,
        _ => return Err(Evidence::Against),
    };
    Ok((end, choice))
}

fn agreement(client: Prefix<'_>, server: Prefix<'_>) -> Found {
    let begun =
        Found { settled: false, hidden: Some(UnknownReason::Handshake), ..Found::plain(Protocol::Rdp) };
    let Ok(Request { end: client_at, .. }) = request(client.bytes) else { return begun };
    let (server_at, choice) = match confirm(server.bytes) {
        Ok(answer) => answer,
        Err(Evidence::Pending) if !(server.ended && server.bytes.is_empty()) => return begun,
        // The answer was not seen, or is none: what follows has to be looked at by itself.
        Err(_) => (0, Choice::Failure),
    };
    let follows =
        Found { settled: true, upgraded_at: Some((client_at, server_at)), ..Found::plain(Protocol::Rdp) };
    let (after_client, after_server) = (client.after(client_at).bytes, server.after(server_at).bytes);
    match choice {
        Choice::Tls(how) => Found { upgrade_offered: true, detail: Some(how.to_owned()), ..follows },
        Choice::Failure if after_client.is_empty() => {
            Found { detail: Some("RDP, no protection agreed upon".to_owned()), ..begun }
        }
        Choice::Failure => follows,
        Choice::Standard if !may_start_with(after_client, TPKT) || !may_start_with(after_server, TPKT) => {
            follows
        }
        // The client speaks first.
        Choice::Standard => {
            match literal(after_client, 0, TPKT).and_then(|()| connect_response(after_server)) {
                Err(_) => Found { detail: Some("RDP without TLS".to_owned()), ..begun },
                Ok(response) if find(response, NO_ENCRYPTION).is_some() => Found {
                    detail: Some("RDP without TLS, and without its own encryption".to_owned()),
                    ..Found::plain(Protocol::Rdp)
                },
                Ok(_) => Found {
                    hidden: Some(UnknownReason::NotRead),
                    detail: Some(
                        "RDP without TLS, with its own encryption (RC4 at best, or FIPS)".to_owned(),
                    ),
                    ..Found::plain(Protocol::Rdp)
                },
            }
        }
    }
}

/// The server's first message of what comes then.
fn connect_response(bytes: &[u8]) -> Seen<&[u8]> {
    literal(bytes, 0, TPKT)?;
    let length = usize::from(be16(bytes, 2)?);
    slice(bytes, 0, length)
}
