//! QUIC (RFC 9000, RFC 9001; version 2: RFC 9369).
//!
//! In: both directions' datagrams. Out: what the hellos in the Initial packets tell; encrypted once the
//! client sends 1-RTT packets to the connection id of a server that answered its hello. Must never: take
//! packets that only look like QUIC, or a handshake that was refused, for a connection. Initial packets
//! are opened with keys that anyone can have; a packet that these don't open counts for nothing.

mod attempt;
mod frames;
mod initial;
mod packet;

use self::attempt::{Attempt, attempts};
use self::packet::{Kind, Long, VERSION_1, VERSION_2, packets};
use super::hello::{Carrier, ClientHello, ServerHello};
use super::order::{CLIENT_HELLO, SERVER_HELLO};
use super::{DATAGRAMS_BEHIND, Secure, names, tls as over_stream};
use crate::bytes::capped;
use crate::{
    Cipher, EarlyData, End, Facts, Inspection, Protection, Protocol, TlsAlert, TlsFacts, UnknownReason,
    readable,
};

/// RFC 9001 section 4.8: an alert of TLS as an error of QUIC.
const TLS_ALERTS: std::ops::RangeInclusive<u64> = 0x100..=0x1ff;

pub(crate) fn look(client: &[&[u8]], server: &[&[u8]]) -> Secure {
    let Some(first) = client.first() else { return Secure::Maybe };
    match Long::parse(first) {
        Some(long) if begins(&long) => {}
        _ => return Secure::No,
    }
    let attempts = attempts(client, server);
    let handshakes: Vec<Handshake> = attempts.iter().map(Handshake::read).collect();
    let through = attempts.iter().zip(&handshakes).find(|(attempt, handshake)| {
        handshake.answered && attempt.server.ids.iter().any(|id| sends_data(client, id))
    });
    let attempt = through.map(|(attempt, _)| attempt).or(attempts.last());
    let (client_clear, client_done) = behind(client, attempt.and_then(|it| it.server.ids.first().copied()));
    let (server_clear, server_done) = behind(server, attempt.and_then(|it| it.client.ids.first().copied()));
    if client_clear || server_clear {
        return Secure::Broken { at: (0, 0), detail: "began like QUIC, went on without" };
    }
    if let Some((attempt, handshake)) = through {
        return established(attempt, handshake, client_done && server_done);
    }
    match attempts.last().zip(handshakes.into_iter().next_back()) {
        Some((attempt, handshake)) => under_way(attempt, handshake, client, server),
        None => report(None, "QUIC packets that cannot be opened, so far", false),
    }
}

/// What a client may begin with. 0-RTT packets may overtake the Initial one.
fn begins(long: &Long<'_>) -> bool {
    // Versions that only exercise the negotiation look like 0x?a?a?a?a (RFC 9000 section 15).
    let known = matches!(long.version, VERSION_1 | VERSION_2)
        || long.version >> 8 == 0x00ff_0000
        || long.version & 0x0f0f_0f0f == 0x0a0a_0a0a;
    known && long.fixed && matches!(long.kind, Kind::Initial | Kind::EarlyData) && long.destination.len() >= 8
}

/// Whether one of the first datagrams that are no packets of a handshake can be read, or such a packet, or what
/// stands behind it, with or without a header to this connection id; and whether no more will be looked at.
fn behind(datagrams: &[&[u8]], id: Option<&[u8]>) -> (bool, bool) {
    let header = 1 + id.map_or(0, <[u8]>::len);
    let clear = |rest: &[u8]| {
        readable::is_in_the_clear(rest) || rest.get(header..).is_some_and(readable::is_no_chance)
    };
    let mut alone = 0;
    for datagram in datagrams {
        let rest = packet::behind(datagram);
        // Of other versions nobody knows what they seal.
        let mut sealed = packets(datagram).filter(|long| matches!(long.version, VERSION_1 | VERSION_2));
        if clear(rest) || sealed.any(|long| readable::is_no_chance(long.sealed)) {
            return (true, false);
        }
        alone += usize::from(rest.len() == datagram.len());
        if alone == DATAGRAMS_BEHIND {
            return (false, true);
        }
    }
    (false, false)
}

/// A handshake packet may carry a refusal; a 1-RTT packet to the server's own id means keys. What can be
/// read was not sealed with them.
fn sends_data(client: &[&[u8]], id: &[u8]) -> bool {
    client.iter().any(|datagram| {
        packet::short(packet::behind(datagram), id).is_some_and(|sealed| !readable::can_be_read(sealed))
    })
}

/// The hellos of one attempt.
struct Handshake {
    /// Whether the client's hello is there in full.
    offered: bool,
    /// Whether the server's answers it.
    answered: bool,
    /// Whether it is there, and does not.
    mismatch: bool,
    facts: TlsFacts,
}

impl Handshake {
    fn read(attempt: &Attempt<'_>) -> Handshake {
        let mut shake =
            Handshake { offered: false, answered: false, mismatch: false, facts: TlsFacts::default() };
        let version = attempt.server.version.or(attempt.client.version).unwrap_or(VERSION_1);
        let Some(mut offer) = attempt.client.messages(version).into_iter().find_map(|(kind, body)| {
            (kind == CLIENT_HELLO).then(|| ClientHello::parse(&body, false)).flatten()
        }) else {
            return shake;
        };
        shake.offered = true;
        offer.carrier = Carrier::Quic;
        offer.describe(&mut shake.facts);
        shake.facts.version_protocol = Some("quic".into());
        let early = attempt.early_data || offer.early_data;
        shake.facts.early_data = early.then_some(EarlyData::Offered);
        for (kind, body) in attempt.server.messages(version) {
            let Some(mut answer) = (kind == SERVER_HELLO).then(|| ServerHello::parse(&body, false)).flatten()
            else {
                continue;
            };
            if answer.retry {
                shake.facts.retried = true;
                continue;
            }
            // QUIC knows no TLS before 1.3 (RFC 9001 section 4.2).
            shake.answered = offer.suites.contains(&answer.suite) && answer.encrypts_handshake();
            shake.mismatch = !shake.answered;
            if shake.answered {
                answer.carrier = Carrier::Quic;
                answer.describe(&mut shake.facts);
                shake.facts.version_protocol = Some("quic".into());
            }
            break;
        }
        // Only now: unlike a HelloRetryRequest, a Retry does not end the early data.
        shake.facts.retried |= attempt.retried;
        shake
    }
}

fn established(attempt: &Attempt<'_>, handshake: &Handshake, settled: bool) -> Secure {
    let mut tls = handshake.facts.clone();
    tls.established = true;
    // The server's choice is hidden, but with one name to choose from it is that one: without a choice
    // the connection has to end (RFC 9001 section 8.1).
    if let ([only], None) = (&tls.alpn_offered[..], &tls.alpn) {
        tls.alpn = Some(only.clone());
    }
    let mut detail = name(attempt.server.version);
    if let Some(server_name) = &tls.server_name {
        detail = format!("{detail} to {server_name}{}", over_stream::outer(&tls));
    }
    let facts = Facts {
        protection: Protection::Encrypted(Cipher::Quic),
        tls: Some(tls),
        detail: Some(capped(detail)),
        protocol: Some(Protocol::Quic),
        ..Facts::unknown(UnknownReason::Handshake)
    };
    Secure::Is(Inspection::new(facts, settled))
}

fn under_way(attempt: &Attempt<'_>, mut handshake: Handshake, client: &[&[u8]], server: &[&[u8]]) -> Secure {
    let closed = [(End::Server, attempt.server.close), (End::Client, attempt.client.close)];
    let closed = closed.into_iter().find_map(|(from, code)| Some((from, code?)));
    let detail = match closed {
        Some((from, code)) if TLS_ALERTS.contains(&code) => {
            let description = names::alert((code & 0xff) as u8);
            handshake.facts.alert = Some(TlsAlert { from, description: Some(description.into()) });
            format!("QUIC handshake failed: alert {description} from the {}", who(from))
        }
        Some((from, code)) => {
            format!("QUIC handshake failed: {} from the {}", frames::error(code), who(from))
        }
        None if handshake.mismatch => "the server's hello does not answer the client's".into(),
        None if attempt.server.version.is_some() => "QUIC handshake under way".into(),
        None if is_negotiated(client, server) => "QUIC version negotiation".into(),
        None => "QUIC handshake, not answered so far".into(),
    };
    report(handshake.offered.then_some(handshake.facts), &detail, false)
}

fn who(end: End) -> &'static str {
    match end {
        End::Client => "client",
        End::Server => "server",
    }
}

/// The server named other versions, in answer to one of the client's packets.
fn is_negotiated(client: &[&[u8]], server: &[&[u8]]) -> bool {
    server.iter().flat_map(|datagram| packets(datagram)).any(|answer| {
        answer.kind == Kind::Negotiation
            && client
                .iter()
                .flat_map(|datagram| packets(datagram))
                .any(|asked| answer.destination == asked.source && answer.source == asked.destination)
    })
}

fn name(version: Option<u32>) -> String {
    match version {
        Some(VERSION_1) => "QUIC version 1".into(),
        Some(VERSION_2) => "QUIC version 2".into(),
        Some(draft) if draft >> 8 == 0x00ff_0000 => format!("QUIC draft {}", draft & 0xff),
        _ => "QUIC".into(),
    }
}

fn report(tls: Option<TlsFacts>, detail: &str, settled: bool) -> Secure {
    let facts = Facts {
        protocol: Some(Protocol::Quic),
        tls,
        detail: Some(detail.into()),
        ..Facts::unknown(UnknownReason::Handshake)
    };
    Secure::Is(Inspection::new(facts, settled))
}
