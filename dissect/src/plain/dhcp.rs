//! DHCP for IPv4 (with BOOTP's vendor extensions) and for IPv6.
//!
//! Source: RFC 2131 §2, RFC 2132 §2; RFC 8415 §8, §21. Evidence: for IPv4 operation, hop count and the
//! magic cookie in its place, 50 bits; for IPv6 a message that a client sends and options that fill
//! the datagram to the byte, with the elapsed time that each client has to state, 50 bits. A datagram
//! cut before that proves nothing.

use super::evidence::{Evidence, Seen, be16, byte, ensure, literal};
use crate::probe::{Found, Probe};
use crate::{Hint, Protocol};

const COOKIE_AT: usize = 236;
const OPTION_ELAPSED_TIME: u16 = 8;
const HIGHEST_OPTION: u16 = 150;

pub(super) fn datagram(client: &[&[u8]], _: &[&[u8]], _: Hint) -> Probe {
    match client.first().map(|first| version_4(first).or_else(|_| version_6(first))) {
        None => Probe::Maybe,
        Some(Ok(())) => Probe::Yes(Found::plain(Protocol::Dhcp)),
        Some(Err(_)) => Probe::No,
    }
}

fn version_4(bytes: &[u8]) -> Seen<()> {
    ensure(matches!(byte(bytes, 0)?, 1 | 2) && byte(bytes, 2)? <= 16 && byte(bytes, 3)? <= 16)?;
    literal(bytes, COOKIE_AT, &[0x63, 0x82, 0x53, 0x63])
}

fn version_6(bytes: &[u8]) -> Seen<()> {
    // Solicit, Request, Confirm, Renew, Rebind, Release, Decline, Information-request.
    ensure(matches!(byte(bytes, 0)?, 1 | 3..=6 | 8 | 9 | 11))?;
    let mut at = 4;
    let mut elapsed = false;
    while at < bytes.len() {
        let (option, length) = (be16(bytes, at)?, be16(bytes, at + 2)?);
        ensure((1..=HIGHEST_OPTION).contains(&option))?;
        elapsed |= option == OPTION_ELAPSED_TIME && length == 2;
        at += 4 + usize::from(length);
    }
    if elapsed && at == bytes.len() { Ok(()) } else { Err(Evidence::Against) }
}
