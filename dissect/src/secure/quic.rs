//! QUIC (RFC 9000, RFC 9369), by its invariants and long headers (RFC 8999).
//!
//! In: both directions' datagrams. Out: encrypted once the client sends 1-RTT packets to a server
//! that answered to the client's own connection id. Must never: take long headers, or a handshake
//! that was refused, for a connection.

use super::Secure;
use crate::bytes::Reader;
use crate::{Cipher, Facts, Inspection, Protection, Protocol, TlsFacts, UnknownReason};

const VERSION_1: u32 = 0x0000_0001;
const VERSION_2: u32 = 0x6b33_43cf;
const NEGOTIATION: u32 = 0;
/// RFC 9000 section 17.2.
const LONGEST_ID: usize = 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Initial,
    EarlyData,
    Handshake,
    Retry,
}

#[derive(Clone, Copy, Debug)]
struct Long<'a> {
    version: u32,
    kind: Kind,
    destination: &'a [u8],
    source: &'a [u8],
    /// What follows it in the same datagram.
    rest: &'a [u8],
}

impl<'a> Long<'a> {
    fn parse(datagram: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(datagram);
        let first = reader.u8()?;
        let version = reader.u32()?;
        let (destination, source) = (reader.vector8()?, reader.vector8()?);
        let fixed = first & 0xc0 == 0xc0 || first & 0x80 != 0 && version == NEGOTIATION;
        if !fixed || destination.len() > LONGEST_ID || source.len() > LONGEST_ID {
            return None;
        }
        let kind = match (first >> 4) & 3 {
            _ if version == NEGOTIATION => Kind::Retry,
            bits if version == VERSION_2 => {
                [Kind::Retry, Kind::Initial, Kind::EarlyData, Kind::Handshake][usize::from(bits)]
            }
            bits => [Kind::Initial, Kind::EarlyData, Kind::Handshake, Kind::Retry][usize::from(bits)],
        };
        let mut rest = &[][..];
        if kind != Kind::Retry {
            if kind == Kind::Initial {
                let token = variable(&mut reader)?;
                reader.take(token)?;
            }
            let length = variable(&mut reader)?;
            // A packet number, and the 16 bytes that header protection samples, at least.
            if length < 17 {
                return None;
            }
            rest = reader.rest().get(length..).unwrap_or(&[]);
        }
        Some(Long { version, kind, destination, source, rest })
    }
}

/// RFC 9000 section 16.
fn variable(reader: &mut Reader<'_>) -> Option<usize> {
    let first = reader.u8()?;
    let more = (1usize << (first >> 6)) - 1;
    let rest = reader.take(more)?;
    let value = rest.iter().fold(u64::from(first & 0x3f), |value, b| value << 8 | u64::from(*b));
    usize::try_from(value).ok()
}

fn known(version: u32) -> bool {
    // Versions that only exercise the negotiation look like 0x?a?a?a?a (section 15).
    matches!(version, VERSION_1 | VERSION_2)
        || version >> 8 == 0x00ff_0000
        || version & 0x0f0f_0f0f == 0x0a0a_0a0a
}

pub(crate) fn look(client: &[&[u8]], server: &[&[u8]]) -> Secure {
    let Some(first) = client.first() else { return Secure::Maybe };
    match Long::parse(first) {
        Some(long) if known(long.version) && long.kind == Kind::Initial && long.destination.len() >= 8 => {}
        _ => return Secure::No,
    }
    let mut own_ids = Vec::new();
    let mut past_initial = None;
    let mut answered = Vec::new();
    for long in client.iter().filter_map(|datagram| Long::parse(datagram)) {
        if !own_ids.contains(&long.source) {
            own_ids.push(long.source);
        }
    }
    let mut negotiated = false;
    for long in server.iter().flat_map(|datagram| packets(datagram)) {
        if own_ids.contains(&long.destination) {
            negotiated |= long.version == NEGOTIATION;
            if known(long.version) && matches!(long.kind, Kind::Initial | Kind::Handshake) {
                answered.push((long.version, long.source));
            }
        }
    }
    // A handshake packet may carry a refusal; a 1-RTT packet to the server's own id means keys.
    for datagram in client {
        let past_long = packets(datagram).last().map_or(*datagram, |long| long.rest);
        let short = answered.iter().find(|(_, id)| is_short(past_long, id));
        past_initial = past_initial.or(short.map(|(version, _)| *version));
    }
    match past_initial {
        Some(version) => {
            let tls = TlsFacts {
                version: Some("1.3".into()),
                version_protocol: Some("quic".into()),
                established: true,
                ..TlsFacts::default()
            };
            let detail = match version {
                VERSION_1 => "QUIC version 1".into(),
                VERSION_2 => "QUIC version 2".into(),
                other => format!("QUIC version {other:#010x}"),
            };
            inspection(Protection::Encrypted(Cipher::Quic), Some(tls), detail, true)
        }
        None => {
            let detail = match (answered.is_empty(), negotiated) {
                (true, true) => "QUIC version negotiation",
                (true, false) => "QUIC handshake, not answered so far",
                (false, _) => "QUIC handshake under way",
            };
            inspection(Protection::Unknown(UnknownReason::Handshake), None, detail.into(), false)
        }
    }
}

/// The long-header packets of one datagram.
fn packets(datagram: &[u8]) -> impl Iterator<Item = Long<'_>> {
    // More than four packets (Initial, 0-RTT, Handshake, 1-RTT) make no sense in one datagram.
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let long = Long::parse(rest)?;
        rest = long.rest;
        Some(long)
    })
    .take(4)
}

/// A 1-RTT packet (section 17.3.1) to this connection id.
fn is_short(datagram: &[u8], id: &[u8]) -> bool {
    id.len() >= 4 && datagram.first().is_some_and(|b| b & 0xc0 == 0x40) && datagram[1..].starts_with(id)
}

fn inspection(protection: Protection, tls: Option<TlsFacts>, detail: String, settled: bool) -> Secure {
    let facts = Facts {
        protocol: Some(Protocol::Quic),
        protection,
        tls,
        ssh: None,
        upgrade: None,
        detail: Some(detail),
    };
    Secure::Is(Inspection::new(facts, settled))
}
