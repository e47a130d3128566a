//! TLS and SSL 3 over a stream.
//!
//! In: both directions, from where TLS begins. Out: what was negotiated, once the ServerHello
//! answered the ClientHello; encrypted, once protected records followed. Must never: call a
//! handshake that failed, or a suite without encryption, encrypted.
//!
//! The server's side is judged first, then the client's: so the answer depends on what both sent,
//! not on which arrived here first. What failed after the ServerHello is settled only when the
//! connection has ended.

use super::hello::{ClientHello, ServerHello};
use super::record::{End, HANDSHAKE, Header, Side, Style};
use super::{Secure, names};
use crate::bytes::capped;
use crate::{Cipher, Facts, Inspection, Plain, Prefix, Protection, Protocol, TlsFacts, UnknownReason};

const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;
const CERTIFICATE: u8 = 11;
const SERVER_KEY_EXCHANGE: u8 = 12;
const SERVER_HELLO_DONE: u8 = 14;

/// Lengths of a protected alert in TLS 1.3: two bytes, the content type, and a tag of 16 or 8.
const PROTECTED_ALERT: [u16; 2] = [19, 11];

/// More than any hello needs: a post-quantum key share takes 1.2 kB, a Classic McEliece one has no code.
const LONGEST_HELLO: usize = 1 << 17;

pub(crate) fn look(client: Prefix<'_>, server: Prefix<'_>) -> Secure {
    let (offer, records_at) = match opening(client.bytes) {
        Opening::No => return Secure::No,
        Opening::Maybe => return Secure::Maybe,
        Opening::Partial => return handshake(TlsFacts::default(), "a TLS handshake began", false),
        Opening::Hello(offer, records_at) => (offer, records_at),
    };
    let mut facts = TlsFacts::default();
    offer.describe(&mut facts);
    let side = Side::read(server.bytes, Style::Marked);
    let answer = match server_hello(&side) {
        Ok(Some(answer)) => answer,
        Ok(None) => return unanswered(facts, side.end),
        Err(NoHello) => return broken(usize::MAX, 0),
    };
    answer.describe(&mut facts);
    if !offer.suites.contains(&answer.suite) {
        return handshake(facts, "the server's hello does not answer the client's", true);
    }
    let style = if answer.encrypts_handshake() { Style::Marked } else { Style::Switched };
    let server_side = Side::read(server.bytes, style);
    let client_side = Side::read(client.bytes.get(records_at..).unwrap_or(&[]), style);
    if style == Style::Switched {
        describe_flight(&server_side, answer.suite, &mut facts);
    }
    conclude(Handshake { offer, answer, facts, client_side, server_side, records_at }, client, server)
}

struct Handshake {
    offer: ClientHello,
    answer: ServerHello,
    facts: TlsFacts,
    client_side: Side,
    server_side: Side,
    /// Where the client's records begin that `client_side` was read from.
    records_at: usize,
}

/// Both hellos are there: what came of them?
fn conclude(mut shake: Handshake, client: Prefix<'_>, server: Prefix<'_>) -> Secure {
    let (from_client, from_server) = (shake.client_side.end, shake.server_side.end);
    match (from_client, from_server) {
        (End::Broken(at), End::Broken(server_at)) => return broken(at + shake.records_at, server_at),
        (End::Broken(at), _) => return broken(at + shake.records_at, usize::MAX),
        (_, End::Broken(at)) => return broken(usize::MAX, at),
        _ => {}
    }
    if let Some(detail) = shake.failure() {
        return handshake(shake.facts, &detail, false);
    }
    let (client_through, server_through) =
        (matches!(from_client, End::Protected(_)), matches!(from_server, End::Protected(_)));
    shake.facts.established = client_through && server_through;
    // A client sends protected records only after the server's whole flight, which may be more than
    // was captured. Early data is the exception.
    let mut beyond_capture = client_through && server.ended && !shake.offer.early_data;
    // And up to TLS 1.2 a server in a full handshake sends them only after the client's.
    let full = shake.facts.resumed == Some(false) && !shake.answer.encrypts_handshake();
    beyond_capture |= server_through && client.ended && full;
    if !shake.facts.established && !beyond_capture {
        let over = client.ended && server.ended;
        let detail = if over { "the TLS handshake was not completed" } else { "TLS handshake under way" };
        return handshake(shake.facts, detail, false);
    }
    let settled = shake.facts.established;
    let readable = names::without_encryption(shake.answer.suite);
    let detail = describe(&shake.facts, readable);
    let protection = match readable {
        true => Protection::Plaintext(Plain::Protocol(Protocol::Tls)),
        false => Protection::Encrypted(Cipher::Tls),
    };
    inspection(protection, shake.facts, detail, settled)
}

impl Handshake {
    /// What ended the handshake before it was through.
    fn failure(&self) -> Option<String> {
        let marked = self.answer.encrypts_handshake();
        let alert = |end: End, who: &str, early: bool| match end {
            End::Alert(Some(number)) => {
                Some(format!("TLS handshake failed: alert {} from the {who}", names::alert(number)))
            }
            End::Alert(None) => Some(format!("TLS handshake failed: encrypted alert from the {who}")),
            End::Protected(length) if marked && !early && PROTECTED_ALERT.contains(&length) => {
                Some(format!("TLS handshake failed: encrypted alert from the {who}"))
            }
            _ => None,
        };
        alert(self.server_side.end, "server", false)
            .or_else(|| alert(self.client_side.end, "client", self.offer.early_data))
    }
}

/// No ServerHello yet: an alert instead of it ends the matter.
fn unanswered(facts: TlsFacts, end: End) -> Secure {
    match end {
        End::Alert(Some(number)) => {
            let detail = format!("TLS handshake refused: alert {} from the server", names::alert(number));
            handshake(facts, &detail, true)
        }
        End::Broken(at) => broken(usize::MAX, at),
        End::Protected(_) | End::Alert(None) => broken(usize::MAX, 0),
        End::Open => handshake(facts, "TLS handshake, not answered so far", false),
    }
}

fn broken(client_at: usize, server_at: usize) -> Secure {
    Secure::Broken { at: (client_at, server_at), detail: "began like TLS, went on without" }
}

fn handshake(facts: TlsFacts, detail: &str, settled: bool) -> Secure {
    inspection(Protection::Unknown(UnknownReason::Handshake), facts, detail.into(), settled)
}

fn inspection(protection: Protection, facts: TlsFacts, detail: String, settled: bool) -> Secure {
    Secure::Is(Inspection {
        facts: Facts {
            protocol: Some(Protocol::Tls),
            protection,
            tls: Some(facts),
            ssh: None,
            upgrade: None,
            detail: Some(capped(detail)),
        },
        settled,
    })
}

fn describe(facts: &TlsFacts, readable: bool) -> String {
    let family = match facts.version_protocol.as_deref() {
        Some("ssl") => "SSL",
        _ => "TLS",
    };
    let version = facts.version.as_deref().unwrap_or("of unknown version");
    let mut phrase = format!("{family} {version}");
    if let Some(name) = &facts.server_name {
        phrase = format!("{phrase} to {name}");
    }
    if readable {
        let cipher = facts.cipher.as_deref().unwrap_or("none");
        phrase = format!("{phrase}, but its cipher suite does not encrypt: {cipher}");
    }
    phrase
}

/// What the rest of the server's flight tells, up to TLS 1.2.
fn describe_flight(side: &Side, suite: u16, facts: &mut TlsFacts) {
    let mut full = false;
    for (kind, body, _) in side.messages() {
        full |= matches!(kind, CERTIFICATE | SERVER_KEY_EXCHANGE | SERVER_HELLO_DONE);
        if kind == SERVER_KEY_EXCHANGE
            && names::names_curve(suite)
            && let [3, high, low, ..] = body
        {
            facts.group = Some(names::group(u16::from_be_bytes([*high, *low])));
        }
    }
    facts.resumed = match (full, side.switched) {
        (true, _) => Some(false),
        (false, true) => Some(true),
        (false, false) => None,
    };
}

/// The first message is something other than a ServerHello.
struct NoHello;

fn server_hello(side: &Side) -> Result<Option<ServerHello>, NoHello> {
    for (kind, body, whole) in side.messages() {
        match (kind, whole) {
            (SERVER_HELLO, true) => match ServerHello::parse(body, false) {
                Some(hello) if hello.retry => {}
                Some(hello) => return Ok(Some(hello)),
                None => return Err(NoHello),
            },
            (SERVER_HELLO, false) => return Ok(None),
            _ => return Err(NoHello),
        }
    }
    Ok(None)
}

enum Opening {
    No,
    /// Too little to tell.
    Maybe,
    /// A hello began.
    Partial,
    /// With the offset at which the client's records are to be read from.
    Hello(ClientHello, usize),
}

/// How the client began.
fn opening(bytes: &[u8]) -> Opening {
    match bytes.first() {
        None => Opening::Maybe,
        Some(&HANDSHAKE) => modern(bytes),
        Some(first) if first & 0x80 != 0 => ssl2(bytes),
        Some(_) => Opening::No,
    }
}

fn modern(bytes: &[u8]) -> Opening {
    let side = Side::read(bytes, Style::Marked);
    let start = &side.handshake[..];
    let length = match *start {
        [a, b, c, d, ..] if a == CLIENT_HELLO => usize::from(b) << 16 | usize::from(c) << 8 | usize::from(d),
        [a, ..] if a != CLIENT_HELLO => return Opening::No,
        _ => 0,
    };
    let wrong_version = matches!(start, [_, _, _, _, major, ..] if *major != 3);
    if length > LONGEST_HELLO || wrong_version {
        return Opening::No;
    }
    match side.messages().next() {
        Some((_, body, true)) => match ClientHello::parse(body, false) {
            Some(hello) => Opening::Hello(hello, 0),
            None => Opening::No,
        },
        _ if side.end != End::Open => Opening::No,
        _ if start.len() > 4 => Opening::Partial,
        _ => match Header::parse(bytes) {
            Header::Wrong | Header::Whole { length: 0, .. } => Opening::No,
            _ => Opening::Maybe,
        },
    }
}

/// A hello in the SSL 2 format that offers SSL 3 or later.
fn ssl2(bytes: &[u8]) -> Opening {
    let right = |at: usize, allowed: &dyn Fn(u8) -> bool| bytes.get(at).is_none_or(|b| allowed(*b));
    if !right(2, &|kind| kind == CLIENT_HELLO)
        || !right(3, &|major| major == 3)
        || !right(4, &|minor| minor <= 3)
    {
        return Opening::No;
    }
    let [first, second, _, rest @ ..] = bytes else { return Opening::Maybe };
    let length = usize::from(first & 0x7f) << 8 | usize::from(*second);
    let Some(body) = length.checked_sub(1) else { return Opening::No };
    match rest.get(..body).map(ClientHello::parse_ssl2) {
        Some(Some(hello)) => Opening::Hello(hello, length + 2),
        Some(None) => Opening::No,
        None if length > 512 => Opening::No,
        None if rest.len() >= 8 => Opening::Partial,
        None => Opening::Maybe,
    }
}
