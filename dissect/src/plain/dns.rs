//! DNS over UDP and TCP, and multicast DNS.
//!
//! Source: RFC 1035 §4, RFC 2136, RFC 6762 §18. Evidence: one question with a known class, an
//! operation that exists, and counts that a message of that kind has: 80 bits. Multicast DNS has the
//! same shape; its port or its nameless announcements tell it apart.

use super::evidence::{Evidence, Seen, be16, byte, ensure, evidence, led_by};
use crate::probe::{Found, Probe};
use crate::{Hint, Prefix, Protocol};

const HEADER: usize = 12;
const QUERY: u8 = 0;
const UPDATE: u8 = 5;
const MULTICAST_PORT: u16 = 5353;

pub(super) fn stream(client: Prefix<'_>, server: Prefix<'_>, _: Hint) -> Probe {
    let of = |prefix: Prefix<'_>| evidence(framed(prefix.bytes).map(|_| Evidence::Proof));
    led_by((client, of(client)), (server, of(server))).found(|| Found::plain(Protocol::Dns))
}

pub(super) fn datagram(client: &[&[u8]], _: &[&[u8]], hint: Hint) -> Probe {
    let Some(first) = client.first() else { return Probe::Maybe };
    match message(first) {
        Ok(_) if hint.server_port == MULTICAST_PORT => Probe::Yes(Found::plain(Protocol::Mdns)),
        Ok(Kind::Unicast) => Probe::Yes(Found::plain(Protocol::Dns)),
        Ok(Kind::Announcement) => Probe::Yes(Found::plain(Protocol::Mdns)),
        Err(_) => Probe::No,
    }
}

enum Kind {
    Unicast,
    /// An answer that nobody asked for: only multicast DNS has it.
    Announcement,
}

/// Over TCP, two bytes of length come first.
fn framed(bytes: &[u8]) -> Seen<Kind> {
    let length = usize::from(be16(bytes, 0)?);
    ensure(length > HEADER + 4)?;
    let end = bytes.len().min(length + 2);
    match message(&bytes[2..end]) {
        // The message is here in full and still not enough.
        Err(Evidence::Pending) if end == length + 2 => Err(Evidence::Against),
        other => other,
    }
}

fn message(bytes: &[u8]) -> Seen<Kind> {
    let high = byte(bytes, 2)?;
    let (response, operation) = (high & 0x80 != 0, high >> 3 & 0x0f);
    ensure(matches!(operation, QUERY | 2 | 4 | UPDATE))?;
    let low = byte(bytes, 3)?;
    ensure(low & 0x40 == 0 && low & 0x0f <= 11 && (response || low & 0x0f == 0))?;
    let questions = be16(bytes, 4)?;
    if questions == 0 {
        return announcement(bytes);
    }
    // Multicast DNS asks for several names at once; nobody else does.
    ensure((1..=32).contains(&questions))?;
    let (answers, authorities, additional) = (be16(bytes, 6)?, be16(bytes, 8)?, be16(bytes, 10)?);
    let plausible = match (operation, response) {
        (QUERY, false) => answers <= 64 && authorities <= 64 && additional <= 8,
        (UPDATE, false) => answers <= 512 && authorities <= 4096 && additional <= 64,
        _ => answers <= 4096 && authorities <= 64 && additional <= 256,
    };
    ensure(plausible)?;
    let (at, first_label) = name(bytes, HEADER)?;
    // NetBIOS names look like this: 32 letters from A to P, each half a byte.
    ensure(!(first_label.len() == 32 && first_label.iter().all(|byte| (b'A'..=b'P').contains(byte))))?;
    let kind = be16(bytes, at)?;
    ensure(matches!(kind, 1..=300 | 32768..=32769 | 65280..=65534))?;
    ensure(operation != UPDATE || kind == 6)?;
    ensure(matches!(be16(bytes, at + 2)? & 0x7fff, 1 | 3 | 4 | 254 | 255))?;
    Ok(Kind::Unicast)
}

/// Answers without a question: id 0, authoritative, the first record of class `IN`.
fn announcement(bytes: &[u8]) -> Seen<Kind> {
    ensure(be16(bytes, 0)? == 0 && be16(bytes, 2)? == 0x8400)?;
    ensure((1..=64).contains(&be16(bytes, 6)?) && be16(bytes, 8)? == 0)?;
    let (at, _) = name(bytes, HEADER)?;
    ensure(matches!(be16(bytes, at)?, 1..=300) && be16(bytes, at + 2)? & 0x7fff == 1)?;
    Ok(Kind::Announcement)
}

/// Where a name without compression ends, and its first label.
fn name(bytes: &[u8], start: usize) -> Seen<(usize, &[u8])> {
    let mut at = start;
    while at < start + 255 {
        match byte(bytes, at)? {
            0 => {
                let first = bytes.get(start).map_or(0, |length| usize::from(*length));
                return Ok((at + 1, bytes.get(start + 1..start + 1 + first).unwrap_or(&[])));
            }
            length @ 1..=63 => {
                let label = bytes.get(at + 1..).unwrap_or(&[]);
                // Control characters are legal and never seen.
                ensure(label.iter().take(usize::from(length)).all(|byte| *byte >= b' '))?;
                at += 1 + usize::from(length);
            }
            _ => break,
        }
    }
    Err(Evidence::Against)
}
