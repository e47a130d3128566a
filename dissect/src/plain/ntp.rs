//! NTP and SNTP, versions 1 to 4.
//!
//! Source: RFC 5905 §7.3. Evidence: a client that fills nothing but its own time leaves 36 zero bytes;
//! one that fills more needs an answer that repeats its time, 64 bits.

use super::evidence::{Seen, byte, ensure, slice};
use crate::probe::{Found, Probe};
use crate::{Hint, Protocol};

const PACKET: usize = 48;

pub(super) fn datagram(client: &[&[u8]], server: &[&[u8]], _: Hint) -> Probe {
    let Some(first) = client.first() else { return Probe::Maybe };
    if request(first).is_err() {
        return Probe::No;
    }
    if first[4..40].iter().all(|byte| *byte == 0) {
        return Probe::Yes(Found::plain(Protocol::Ntp));
    }
    match server.first() {
        None => Probe::Maybe,
        Some(answer) if answers(first, answer).is_ok() => Probe::Yes(Found::plain(Protocol::Ntp)),
        Some(_) => Probe::No,
    }
}

fn request(bytes: &[u8]) -> Seen<()> {
    slice(bytes, 0, PACKET)?;
    // Client or symmetric, a version that exists.
    let first = byte(bytes, 0)?;
    ensure(matches!(first & 7, 1 | 3) && matches!(first >> 3 & 7, 1..=4))?;
    // Stratum, and intervals of at most 36 hours.
    ensure(bytes[1] <= 16 && (bytes[2] <= 17 || bytes[2] >= 0xf8))
}

fn answers(request: &[u8], bytes: &[u8]) -> Seen<()> {
    slice(bytes, 0, PACKET)?;
    ensure(matches!(bytes[0] & 7, 2 | 4) && bytes[1] <= 16)?;
    // The origin is the time at which the request was sent.
    ensure(bytes[24..32] == request[40..48])
}
