//! QUIC packets from the outside: the long header (RFC 9000 section 17.2, RFC 9369 section 3.2), and
//! where one packet of a datagram ends and the next one begins.
//!
//! In: a datagram, which may be cut short, and may be several that left together (segmentation
//! offload). Out: its long-header packets, and what stands behind them.

use crate::bytes::Reader;

pub(super) const VERSION_1: u32 = 0x0000_0001;
pub(super) const VERSION_2: u32 = 0x6b33_43cf;
/// Not a version: the packet tells which ones the server knows.
pub(super) const NEGOTIATION: u32 = 0;

/// RFC 9000 section 17.2.
const LONGEST_ID: usize = 20;
/// In one datagram four make sense (Initial, 0-RTT, Handshake, and a 1-RTT one behind them); in one
/// capture there may be several datagrams.
const MOST_PACKETS: usize = 16;
const LONG: u8 = 0x80;
const FIXED: u8 = 0x40;
/// A packet number and the sample of header protection, at least (RFC 9001 section 5.4.2).
const SHORTEST_PAYLOAD: usize = 17;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Initial,
    EarlyData,
    Handshake,
    Retry,
    /// Version negotiation (RFC 8999 section 6).
    Negotiation,
}

/// A packet with a long header.
#[derive(Clone, Copy, Debug)]
pub(super) struct Long<'a> {
    pub version: u32,
    pub kind: Kind,
    pub destination: &'a [u8],
    pub source: &'a [u8],
    /// The fixed bit is set, as it is in the first packet of every client.
    pub fixed: bool,
    /// From its first byte to its last; `None`: cut short.
    pub packet: Option<&'a [u8]>,
    /// Where the packet number begins within it.
    pub number_at: usize,
    /// What should be sealed, as far as it is there.
    pub sealed: &'a [u8],
    /// What follows it.
    pub rest: &'a [u8],
}

impl<'a> Long<'a> {
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let first = reader.u8()?;
        let version = reader.u32()?;
        let (destination, source) = (reader.vector8()?, reader.vector8()?);
        if first & LONG == 0 || destination.len() > LONGEST_ID || source.len() > LONGEST_ID {
            return None;
        }
        let kind = kind(version, first);
        let mut long = Long {
            version,
            kind,
            destination,
            source,
            fixed: first & FIXED != 0,
            packet: Some(bytes),
            number_at: 0,
            sealed: &[],
            rest: &[],
        };
        if matches!(kind, Kind::Retry | Kind::Negotiation) {
            return Some(long);
        }
        if kind == Kind::Initial {
            let token = variable(&mut reader)?;
            reader.take(usize::try_from(token).ok()?)?;
        }
        let length = usize::try_from(variable(&mut reader)?).ok()?;
        if length < SHORTEST_PAYLOAD {
            return None;
        }
        long.number_at = bytes.len() - reader.rest().len();
        let end = long.number_at.checked_add(length)?;
        long.packet = bytes.get(..end);
        long.sealed = bytes.get(long.number_at..end.min(bytes.len())).unwrap_or(&[]);
        long.rest = bytes.get(end..).unwrap_or(&[]);
        Some(long)
    }
}

fn kind(version: u32, first: u8) -> Kind {
    let bits = usize::from((first >> 4) & 3);
    match version {
        NEGOTIATION => Kind::Negotiation,
        VERSION_2 => [Kind::Retry, Kind::Initial, Kind::EarlyData, Kind::Handshake][bits],
        _ => [Kind::Initial, Kind::EarlyData, Kind::Handshake, Kind::Retry][bits],
    }
}

/// RFC 9000 section 16.
pub(super) fn variable(reader: &mut Reader<'_>) -> Option<u64> {
    let first = reader.u8()?;
    let more = (1usize << (first >> 6)) - 1;
    let rest = reader.take(more)?;
    Some(rest.iter().fold(u64::from(first & 0x3f), |value, b| value << 8 | u64::from(*b)))
}

/// The long-header packets at the start of a capture.
pub(super) fn packets(bytes: &[u8]) -> impl Iterator<Item = Long<'_>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let long = Long::parse(rest)?;
        rest = after_padding(long.rest);
        Some(long)
    })
    .take(MOST_PACKETS)
}

/// What follows the last of them.
pub(super) fn behind(bytes: &[u8]) -> &[u8] {
    packets(bytes).last().map_or(bytes, |long| after_padding(long.rest))
}

/// Some stacks fill datagrams up behind the last packet; no packet begins with a zero.
fn after_padding(bytes: &[u8]) -> &[u8] {
    let padding = bytes.iter().take_while(|b| **b == 0).count();
    &bytes[padding..]
}

/// What a 1-RTT packet (section 17.3.1) to this connection id holds.
pub(super) fn short<'a>(bytes: &'a [u8], id: &[u8]) -> Option<&'a [u8]> {
    let (first, rest) = bytes.split_first()?;
    // Without an id, the fixed bit is all there is to go by.
    if first & LONG != 0 || id.is_empty() && first & FIXED == 0 {
        return None;
    }
    rest.strip_prefix(id).filter(|payload| payload.len() >= SHORTEST_PAYLOAD)
}
