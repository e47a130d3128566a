//! Asks every probe, in a fixed order, and turns their answers into facts.
//!
//! The order: the PROXY protocol, TLS, SSH, CONNECT, SOCKS, the web, text protocols, all others, and what
//! is left is judged by its bytes. The first that says yes gives the answer. It is settled only
//! when everyone asked before has said no for good; so a settled answer is the one that all bytes
//! together would give, however they were cut and whichever direction came first.
//!
//! Until then the best guess is given: what is readable so far is plaintext so far.

use crate::bytes::capped;
use crate::plain::stun;
use crate::probe::{Found, Probe};
use crate::secure::record::Header;
use crate::secure::{Secure, dtls, midstream, quic, ssh, tls, wireguard};
use crate::web::connect::{self, Connect};
use crate::web::proxy;
use crate::web::socks::{self, Socks};
use crate::{Facts, Layer, LayerKind, Plain, Prefix, Protection, Protocol, TlsFacts, UnknownReason, Upgrade};
use crate::{plain, readable, text, web};

/// What is known from outside the bytes. Ports only break ties between protocols that share a
/// shape; they never make a match.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hint {
    pub server_port: u16,
}

/// An answer, and whether more bytes could change it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    pub facts: Facts,
    /// Capture can end: no later byte changes the facts.
    pub settled: bool,
    /// How much of each direction it takes to say more.
    pub wants: Wants,
    /// What goes before that which the facts are about.
    pub layers: Vec<Layer>,
}

/// Bytes of each direction, from its start, that a handshake in progress would still tell something
/// by: the end of a message or record that has begun, and a little more. 0: the usual budget will do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wants {
    pub client: u32,
    pub server: u32,
}

impl Inspection {
    /// With the usual budget.
    pub(crate) fn new(facts: Facts, settled: bool) -> Self {
        Inspection { facts, settled, wants: Wants::default(), layers: Vec::new() }
    }
}

/// Headers and tunnels around what matters: more than this are not unwrapped.
const MOST_LAYERS: u8 = 3;

/// Looks at both directions of a TCP connection.
pub fn inspect_stream(client: Prefix<'_>, server: Prefix<'_>, hint: Hint) -> Inspection {
    let mut inspection = layer(client, server, hint, MOST_LAYERS);
    inspection.settled |= client.ended && server.ended;
    inspection
}

/// Looks at a sample from anywhere in the life of a TCP connection: what was sent one way and the other
/// from some point on, without gaps. Encrypted where records of TLS follow each other, plaintext where
/// it can be read, and otherwise not known.
pub fn inspect_sample(client: &[u8], server: &[u8]) -> Inspection {
    let sample = |bytes| Prefix { bytes, ended: true, midstream: true, ..Prefix::default() };
    midstream::inspect(sample(client), sample(server))
}

/// Whether a sample as for [`inspect_sample`], of a connection whose handshake was one of TLS 1.2 or
/// earlier, shows that another handshake goes on within it. "No" means that this sample shows none.
pub fn sample_renegotiates(client: &[u8], server: &[u8]) -> bool {
    midstream::renegotiates(client, server)
}

/// Whether these bytes begin like a record of TLS, of whatever kind (RFC 8446 section 5.1).
pub fn begins_tls_record(bytes: &[u8]) -> bool {
    matches!(Header::parse(bytes), Header::Whole { .. })
}

/// Looks at the first datagrams of each direction of a UDP flow, each from its start (an entry may
/// be cut short at its end).
pub fn inspect_datagrams(client: &[&[u8]], server: &[&[u8]], hint: Hint) -> Inspection {
    if client.iter().chain(server).all(|datagram| datagram.is_empty()) {
        return Inspection::new(Facts::unknown(UnknownReason::Silent), false);
    }
    // What STUN finds a way for is judged by itself.
    let others = stun::others(client, server);
    let (client, server, stun) = match &others {
        Some(others) => (&others.client[..], &others.server[..], others.stun),
        None => (client, server, false),
    };
    if stun && client.is_empty() && server.is_empty() {
        return Inspection::new(plaintext(&Found::plain(Protocol::Stun), false), false);
    }
    let mut waiting = false;
    for look in [quic::look, dtls::look, wireguard::look] {
        match look(client, server) {
            Secure::Is(inspection) => return inspection,
            Secure::Maybe => waiting = true,
            Secure::No | Secure::Broken { .. } => {}
        }
    }
    for probe in plain::DATAGRAM {
        match probe(client, server, hint) {
            Probe::Yes(found) => {
                let settled = found.settled && !waiting;
                return Inspection::new(plaintext(&found, settled), settled);
            }
            Probe::Maybe => waiting = true,
            Probe::No => {}
        }
    }
    // A first datagram that can be read stays the first.
    let first = client
        .first()
        .map(|bytes| Prefix { bytes, ended: true, midstream: false, ..Prefix::default() })
        .is_some_and(readable::is_readable_for_good);
    // Behind STUN either end may be the client of DTLS.
    if stun && (!first || client.first().is_some_and(|bytes| is_dtls(bytes))) {
        match dtls::look(server, client) {
            Secure::Is(inspection) => return dtls::turned_round(inspection),
            Secure::Maybe | Secure::No | Secure::Broken { .. } => {}
        }
    }
    let (protection, detail) = readable::judge_datagrams(client, server);
    let facts = Facts { protection, detail: detail.map(Into::into), ..Facts::unknown(UnknownReason::Silent) };
    // What began as DTLS may be DTLS again with the next datagram, whatever came in between.
    let began_as_dtls = client.iter().chain(server).any(|bytes| is_dtls(bytes));
    let settled = first && !waiting && !began_as_dtls;
    Inspection::new(facts, settled)
}

/// A record in the form that all handshakes of DTLS begin with.
fn is_dtls(datagram: &[u8]) -> bool {
    matches!(datagram, [20..=26, 0xfe, ..])
}

fn layer(client: Prefix<'_>, server: Prefix<'_>, hint: Hint, layers: u8) -> Inspection {
    match (client.midstream, server.midstream) {
        (true, true) => return from_the_middle(client, server),
        (true, false) | (false, true) => return half_lost(client, server, hint, layers),
        (false, false) => {}
    }
    if client.bytes.is_empty() && server.bytes.is_empty() {
        return Inspection::new(Facts::unknown(UnknownReason::Silent), false);
    }
    let mut waiting = false;
    match proxy::header(client.bytes) {
        proxy::Header::Ends(at) if layers > 0 => {
            return layer(client.after(at), server, hint, layers - 1).behind(LayerKind::Header, at, 0);
        }
        proxy::Header::Maybe => waiting = !client.ended,
        _ => {}
    }
    // In some protocols (NATS) the server greets in the clear, and the client begins TLS at once.
    let mut off_track = None;
    for look in [tls::look, ssh::look] {
        match look(client, server) {
            Secure::Is(mut inspection) => {
                inspection.settled &= !waiting;
                return inspection;
            }
            Secure::Broken { at, detail } => off_track = off_track.or(Some((at, detail))),
            Secure::Maybe => waiting |= !client.ended,
            Secure::No => {}
        }
    }
    if let Connect::Tunnel(tunnel) = connect::look(client, server)
        && layers > 0
    {
        let (client_at, server_at) = (tunnel.client_at, tunnel.server_at);
        let inner = layer(client.after(client_at), server.after(server_at), hint, layers - 1);
        let inner = inner.behind(LayerKind::Tunnel(Protocol::Http), client_at, server_at);
        return through_tunnel(inner, Protocol::Http, &format!("HTTP CONNECT {}", tunnel.to));
    }
    match socks::look(client, server) {
        Socks::Tunnel { client_at, server_at, through } if layers > 0 => {
            let inner = layer(client.after(client_at), server.after(server_at), hint, layers - 1);
            let inner = inner.behind(LayerKind::Tunnel(Protocol::Socks), client_at, server_at);
            return match through {
                Some(through) => through_tunnel(inner, Protocol::Socks, &through.to_string()),
                None => inner,
            };
        }
        Socks::Alone { detail, settled } => {
            let found = Found { detail: Some(capped(detail)), ..Found::plain(Protocol::Socks) };
            return Inspection::new(plaintext(&found, settled), settled && !waiting);
        }
        Socks::Hidden { detail } => {
            let hidden = Some(UnknownReason::NotRead);
            let found = Found { hidden, detail: Some(capped(detail)), ..Found::plain(Protocol::Socks) };
            return Inspection::new(plaintext(&found, true), !waiting).behind(
                LayerKind::Tunnel(Protocol::Socks),
                usize::MAX,
                usize::MAX,
            );
        }
        Socks::Maybe => waiting |= !(client.ended && server.ended),
        Socks::Tunnel { .. } | Socks::No => {}
    }
    for probe in web::STREAM.iter().chain(text::STREAM).chain(plain::STREAM) {
        match probe(client, server, hint) {
            Probe::Yes(found) => return from_found(&found, client, server, waiting),
            Probe::Maybe => waiting |= !(client.ended && server.ended),
            Probe::No => {}
        }
    }
    if let Some((at, detail)) = off_track {
        return broken(client, server, at, detail, waiting);
    }
    let (protection, detail, settled) = readable::judge(client, server);
    let facts = Facts { protection, detail: detail.map(Into::into), ..Facts::unknown(UnknownReason::Silent) };
    Inspection::new(facts, settled && !waiting)
}

/// A connection that was open and silent until we started begins here after all: a handshake that
/// shows whole counts, and one that went on without is none, whatever the records before and behind look like.
fn from_the_middle(client: Prefix<'_>, server: Prefix<'_>) -> Inspection {
    let mut waiting = false;
    let mut off_track = None;
    for look in [tls::look, ssh::look] {
        match look(client, server) {
            Secure::Is(inspection) => return inspection,
            Secure::Maybe => waiting |= !client.ended,
            Secure::Broken { detail, .. } => off_track = off_track.or(Some(detail)),
            Secure::No => {}
        }
    }
    let mut inspection = midstream::inspect(client, server);
    inspection.settled &= !waiting;
    if let Some(detail) = off_track
        && matches!(inspection.facts.protection, Protection::Encrypted(_))
    {
        let facts = Facts { detail: Some(detail.into()), ..Facts::unknown(UnknownReason::Opaque) };
        return Inspection::new(facts, false);
    }
    inspection
}

/// One direction is there from its start, of the other only what came later: what both say, and
/// nothing that they do not agree on.
fn half_lost(client: Prefix<'_>, server: Prefix<'_>, hint: Hint, layers: u8) -> Inspection {
    let lost = Prefix { ended: true, ..Prefix::default() };
    let start = match client.midstream {
        true => layer(lost, server, hint, layers),
        false => layer(client, lost, hint, layers),
    };
    let silent = Prefix { ended: true, midstream: true, ..Prefix::default() };
    let middle = match client.midstream {
        true => midstream::inspect(client, silent),
        false => midstream::inspect(silent, server),
    };
    let settled = start.settled && middle.settled;
    let facts = match (middle.facts.protection, start.facts.protection) {
        (Protection::Encrypted(_), Protection::Plaintext(_)) => Facts::unknown(UnknownReason::FirstBytesLost),
        (Protection::Encrypted(_), _) => {
            let mut facts = middle.facts;
            if let (Some(tls), Some(hello)) = (&mut facts.tls, start.facts.tls) {
                *tls = TlsFacts { established: true, ..hello };
            }
            facts
        }
        (_, Protection::Plaintext(Plain::Protocol(_))) => start.facts,
        (Protection::Plaintext(_), _) => middle.facts,
        (_, Protection::Plaintext(_)) => start.facts,
        (_, Protection::Unknown(UnknownReason::Handshake)) => {
            Facts { protection: Protection::Unknown(UnknownReason::FirstBytesLost), ..start.facts }
        }
        _ => Facts::unknown(UnknownReason::FirstBytesLost),
    };
    Inspection::new(facts, settled)
}

/// It began like a protocol that encrypts: what follows is judged by itself.
fn broken(
    client: Prefix<'_>,
    server: Prefix<'_>,
    at: (usize, usize),
    detail: &str,
    waiting: bool,
) -> Inspection {
    let (client, server) = (client.after(at.0), server.after(at.1));
    let (protection, _, settled) = readable::judge(client, server);
    // What one side says readably stays readable, whatever the other says.
    let settled = settled || readable::is_readable_for_good(client) || readable::is_readable_for_good(server);
    let protection = match protection {
        Protection::Unknown(UnknownReason::Silent) => Protection::Unknown(UnknownReason::TooFew),
        other => other,
    };
    let facts = Facts { protection, detail: Some(detail.into()), ..Facts::unknown(UnknownReason::Silent) };
    Inspection::new(facts, settled && !waiting)
}

fn plaintext(found: &Found, settled: bool) -> Facts {
    Facts {
        protocol: Some(found.protocol),
        protection: match found.hidden {
            Some(reason) => Protection::Unknown(reason),
            None => Protection::Plaintext(Plain::Protocol(found.protocol)),
        },
        upgrade: match (found.upgrade_refused, found.upgrade_offered && settled) {
            (true, _) => Some(Upgrade::Refused),
            (false, true) => Some(Upgrade::NotTaken),
            (false, false) => None,
        },
        detail: found.detail.clone(),
        ..Facts::unknown(UnknownReason::Silent)
    }
}

fn from_found(found: &Found, client: Prefix<'_>, server: Prefix<'_>, waiting: bool) -> Inspection {
    let ended = client.ended && server.ended;
    let Some((client_at, server_at)) = found.upgraded_at else {
        let settled = found.settled && !waiting;
        let inspection = Inspection::new(plaintext(found, settled || ended), settled);
        return match found.switched {
            true => inspection.behind(LayerKind::Upgrade(Protocol::Http), usize::MAX, usize::MAX),
            false => inspection,
        };
    };
    let not_taken = |began: bool| {
        let mut facts = plaintext(found, true);
        if found.upgrade_offered {
            (facts.upgrade, facts.detail) = match began {
                true => (
                    None,
                    Some("TLS was asked for and granted, and what began like it went on without".into()),
                ),
                false => (
                    Some(Upgrade::NotTaken),
                    Some("TLS was asked for and granted, and did not follow".into()),
                ),
            };
        }
        Inspection::new(facts, !waiting)
    };
    let looked = match found.wrapped {
        true => tls_in_tds(client.after(client_at), server.after(server_at)),
        false => tls::look(client.after(client_at), server.after(server_at)),
    };
    match looked {
        Secure::Is(mut inner) => {
            inner.facts.protocol = Some(found.protocol);
            if matches!(inner.facts.protection, Protection::Plaintext(_)) {
                inner.facts.protection = Protection::Plaintext(Plain::Protocol(found.protocol));
            }
            inner.facts.upgrade = Some(Upgrade::Taken);
            let how = found.detail.as_deref().unwrap_or("in-band upgrade");
            inner.facts.detail = inner.facts.detail.map(|inner| capped(format!("{how}, then {inner}")));
            inner.settled &= !waiting;
            inner.behind(LayerKind::Upgrade(found.protocol), client_at, server_at)
        }
        Secure::Maybe if !client.ended => {
            let mut facts = plaintext(found, false);
            facts.protection = Protection::Unknown(UnknownReason::Handshake);
            facts.detail = Some("TLS was asked for and granted".into());
            Inspection::new(facts, false)
        }
        Secure::No | Secure::Maybe => not_taken(false),
        Secure::Broken { .. } => not_taken(true),
    }
}

/// The headers of the packets are left out of what it wants more: a little of the rest then.
fn tls_in_tds(client: Prefix<'_>, server: Prefix<'_>) -> Secure {
    let [from_client, from_server] = [client, server].map(|side| plain::tds_payload(side.bytes));
    let unwrapped = |bytes, ended| Prefix { bytes, ended, ..Prefix::default() };
    tls::look(unwrapped(&from_client, client.ended), unwrapped(&from_server, server.ended))
}

/// What goes through a tunnel of this protocol: `to` says which and where.
fn through_tunnel(mut inner: Inspection, protocol: Protocol, to: &str) -> Inspection {
    let facts = &mut inner.facts;
    match facts.protection {
        Protection::Encrypted(_) => facts.upgrade = facts.upgrade.take().or(Some(Upgrade::Taken)),
        Protection::Unknown(UnknownReason::Silent) => {
            facts.protocol = Some(protocol);
            facts.protection = Protection::Plaintext(Plain::Protocol(protocol));
        }
        _ => {}
    }
    let through = format!("through {to}");
    facts.detail = Some(capped(match facts.detail.take() {
        Some(detail) => format!("{detail}, {through}"),
        None => through,
    }));
    inner
}
