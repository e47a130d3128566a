//! syslog, by datagram or by stream.
//!
//! Source: RFC 5424 §6, RFC 3164 §4, RFC 6587 §3.4 (octet counting). Evidence: a priority up to 191 in
//! angle brackets and then a version or a date in its place, 60 bits of text.

use super::evidence::{Evidence, Seen, byte, decimal, ensure, evidence, led_by, one_of};
use crate::probe::{Found, Probe};
use crate::{Hint, Prefix, Protocol};

const MONTHS: [&[u8]; 12] = [
    b"Jan ", b"Feb ", b"Mar ", b"Apr ", b"May ", b"Jun ", b"Jul ", b"Aug ", b"Sep ", b"Oct ", b"Nov ",
    b"Dec ",
];

pub(super) fn stream(client: Prefix<'_>, server: Prefix<'_>, _: Hint) -> Probe {
    let of_client = evidence(counted_or_bare(client.bytes).map(|()| Evidence::Proof));
    // A collector never answers.
    let of_server = if server.bytes.is_empty() { Evidence::Pending } else { Evidence::Against };
    led_by((client, of_client), (server, of_server)).found(|| Found::plain(Protocol::Syslog))
}

pub(super) fn datagram(client: &[&[u8]], _: &[&[u8]], _: Hint) -> Probe {
    match client.first().map(|first| message(first, 0)) {
        None => Probe::Maybe,
        Some(Ok(())) => Probe::Yes(Found::plain(Protocol::Syslog)),
        Some(Err(_)) => Probe::No,
    }
}

fn counted_or_bare(bytes: &[u8]) -> Seen<()> {
    if byte(bytes, 0)? == b'<' {
        return message(bytes, 0);
    }
    let digits = bytes.iter().take(6).take_while(|byte| byte.is_ascii_digit()).count();
    ensure((1..=5).contains(&digits) && bytes[0] != b'0')?;
    ensure(byte(bytes, digits)? == b' ')?;
    message(bytes, digits + 1)
}

fn message(bytes: &[u8], start: usize) -> Seen<()> {
    ensure(byte(bytes, start)? == b'<')?;
    let priority = &bytes[start + 1..];
    let digits = priority.iter().take(4).take_while(|byte| byte.is_ascii_digit()).count();
    ensure(digits <= 3 && (digits < 2 || priority[0] != b'0'))?;
    let at = start + 1 + digits;
    ensure(byte(bytes, at)? == b'>' && decimal(&priority[..digits], 3).is_some_and(|number| number <= 191))?;
    let rest = bytes.get(at + 1..).unwrap_or(&[]);
    match byte(rest, 0)? {
        b'1' if byte(rest, 1)? == b' ' => {
            // A time, or a dash for none and then a host that is not empty.
            if byte(rest, 2)? == b'-' {
                return ensure(byte(rest, 3)? == b' ' && byte(rest, 4)?.is_ascii_graphic());
            }
            date(rest, 2)
        }
        b'0'..=b'9' => date(rest, 0),
        _ => short_date(rest),
    }
}

/// `2003-10-11T22:14:15`.
fn date(bytes: &[u8], at: usize) -> Seen<()> {
    matches_shape(bytes, at, b"0000-00-00T00:00:00")
}

/// `Oct 11 22:14:15`, the day padded with a space.
fn short_date(bytes: &[u8]) -> Seen<()> {
    one_of(bytes, &MONTHS)?;
    ensure(byte(bytes, 4)?.is_ascii_digit() || byte(bytes, 4)? == b' ')?;
    matches_shape(bytes, 5, b"0 00:00:00")
}

/// A zero stands for any digit.
fn matches_shape(bytes: &[u8], at: usize, shape: &[u8]) -> Seen<()> {
    for (offset, expected) in shape.iter().enumerate() {
        let found = byte(bytes, at + offset)?;
        ensure(if *expected == b'0' { found.is_ascii_digit() } else { found == *expected })?;
    }
    Ok(())
}
