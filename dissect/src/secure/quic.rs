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

use self::attempt::{Attempt, attempts, messages};
use self::packet::{Kind, Long, VERSION_1, VERSION_2, packets};
use super::hello::{Carrier, ClientHello, ServerHello};
use super::order::{CLIENT_HELLO, SERVER_HELLO};
use super::{DATAGRAMS_BEHIND, Secure, content, names, tls as over_stream};
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
    let (first_client, client_done) = first_of(client);
    let (first_server, server_done) = first_of(server);
    let settled = client_done && server_done;
    // What is settled by these is not changed by what comes behind them.
    let firsts = settled.then_some((first_client, first_server));
    let mut contradictory = Vec::new();
    let mut last = None;
    for (client, server) in firsts.into_iter().chain([(client, server)]) {
        let attempts = attempts(client, server);
        // Unless the server named other versions, what began in one goes on in another (RFC 9368 section 2.3).
        let goes_on = !is_negotiated(client, server);
        let mut handshakes: Vec<_> = attempts.iter().map(|it| Handshake::read(it, goes_on)).collect();
        if settled && last.is_none() {
            let disputed = attempts.iter().zip(&handshakes).filter(|(_, handshake)| handshake.contradictory);
            contradictory = disputed.map(|(attempt, _)| attempt.id).collect();
        } else if settled {
            for (attempt, handshake) in attempts.iter().zip(&mut handshakes) {
                handshake.contradictory = contradictory.contains(&attempt.id);
            }
        }
        let through = attempts.iter().zip(&handshakes).find(|(attempt, handshake)| {
            handshake.answered && attempt.server.ids.iter().any(|id| sends_data(client, id))
        });
        if let Some((attempt, handshake)) = through {
            let is_clear = is_clear(first_client, first_server, Some(attempt));
            return if is_clear { BROKEN } else { established(attempt, handshake, settled) };
        }
        last = Some(attempts.into_iter().zip(handshakes).next_back());
    }
    let last = last.flatten();
    if is_clear(first_client, first_server, last.as_ref().map(|(attempt, _)| attempt)) {
        return BROKEN;
    }
    match last {
        Some((attempt, handshake)) => under_way(&attempt, handshake, client, server),
        None => report(None, "QUIC packets that cannot be opened, so far", false),
    }
}

const BROKEN: Secure = Secure::Broken { at: (0, 0), detail: "began like QUIC, went on without" };

/// The first datagrams up to the last that is looked at behind the packets of a handshake, and whether they are all
/// there.
fn first_of<'a, 'b>(datagrams: &'a [&'b [u8]]) -> (&'a [&'b [u8]], bool) {
    let is_alone = |datagram: &&[u8]| packet::behind(datagram).len() == datagram.len();
    let alone = datagrams.iter().enumerate().filter(|(_, datagram)| is_alone(datagram));
    match alone.map(|(at, _)| at).nth(DATAGRAMS_BEHIND - 1) {
        Some(last) => (&datagrams[..=last], true),
        None => (datagrams, false),
    }
}

fn is_clear(client: &[&[u8]], server: &[&[u8]], attempt: Option<&Attempt<'_>>) -> bool {
    let of = |datagrams, peer: Option<&&[u8]>| holds_clear(datagrams, peer.copied());
    of(client, attempt.and_then(|it| it.server.ids.first()))
        || of(server, attempt.and_then(|it| it.client.ids.first()))
}

/// What a client may begin with. 0-RTT packets may overtake the Initial one.
fn begins(long: &Long<'_>) -> bool {
    // Versions that only exercise the negotiation look like 0x?a?a?a?a (RFC 9000 section 15).
    let known = matches!(long.version, VERSION_1 | VERSION_2)
        || long.version >> 8 == 0x00ff_0000
        || long.version & 0x0f0f_0f0f == 0x0a0a_0a0a;
    known && long.fixed && matches!(long.kind, Kind::Initial | Kind::EarlyData) && long.destination.len() >= 8
}

/// Whether one of these that is no packet of a handshake can be read, or such a packet, or what stands behind it, with
/// or without a header to this connection id.
fn holds_clear(datagrams: &[&[u8]], id: Option<&[u8]>) -> bool {
    let header = 1 + id.map_or(0, <[u8]>::len);
    let clear = |rest: &[u8]| {
        readable::is_in_the_clear(rest) || rest.get(header..).is_some_and(readable::is_no_chance)
    };
    datagrams.iter().any(|datagram| {
        // Of other versions nobody knows what they seal.
        let mut sealed = packets(datagram).filter(|long| matches!(long.version, VERSION_1 | VERSION_2));
        clear(packet::behind(datagram)) || sealed.any(|long| readable::is_no_chance(long.sealed))
    })
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
    /// Bytes of it came twice, and not alike (RFC 9000 section 2.2): nobody knows which of them was taken.
    contradictory: bool,
    /// What it holds that can be read.
    shown: Option<&'static str>,
    facts: TlsFacts,
}

impl Handshake {
    /// `goes_on`: all versions of its packets hold one handshake.
    fn read(attempt: &Attempt<'_>, goes_on: bool) -> Handshake {
        let version = attempt.server.version.or(attempt.client.version).unwrap_or(VERSION_1);
        let [client, server] = [&attempt.client, &attempt.server].map(|side| side.stream(version, goes_on));
        let mut shake = Handshake {
            offered: false,
            answered: false,
            mismatch: false,
            contradictory: client.later_prefix().is_some() || server.later_prefix().is_some(),
            shown: None,
            facts: TlsFacts::default(),
        };
        let Some(mut offer) = messages(client.prefix()).find_map(|(kind, body, _)| {
            (kind == CLIENT_HELLO).then(|| ClientHello::parse(body, false)).flatten()
        }) else {
            return shake;
        };
        shake.offered = true;
        offer.carrier = Carrier::Quic;
        offer.describe(&mut shake.facts);
        shake.facts.version_protocol = Some("quic".into());
        let early = attempt.early_data || offer.early_data;
        shake.facts.early_data = early.then_some(EarlyData::Offered);
        for (kind, body, _) in messages(server.prefix()) {
            let Some(mut answer) = (kind == SERVER_HELLO).then(|| ServerHello::parse(body, false)).flatten()
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
                let all = messages(client.prefix()).chain(messages(server.prefix()));
                shake.shown = content::shown(all, &answer);
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
    if handshake.contradictory {
        return contradictory(settled);
    }
    let protection = match handshake.shown {
        Some(what) => {
            detail = format!("{detail}, beside {what}");
            Protection::Unknown(UnknownReason::Opaque)
        }
        None => Protection::Encrypted(Cipher::Quic),
    };
    let facts = Facts {
        protection,
        tls: Some(tls),
        detail: Some(capped(detail)),
        protocol: Some(Protocol::Quic),
        ..Facts::unknown(UnknownReason::Handshake)
    };
    Secure::Is(Inspection::new(facts, settled))
}

fn under_way(attempt: &Attempt<'_>, mut handshake: Handshake, client: &[&[u8]], server: &[&[u8]]) -> Secure {
    if handshake.contradictory {
        return contradictory(false);
    }
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

/// One reading is as good as the other.
fn contradictory(settled: bool) -> Secure {
    let facts = Facts { protocol: Some(Protocol::Quic), ..Facts::unknown(UnknownReason::Contradictory) };
    Secure::Is(Inspection::new(facts, settled))
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
