//! MQTT 3.1, 3.1.1 and 5: the CONNECT packet, field by field.
//!
//! Source: OASIS MQTT 3.1.1 §3.1 and MQTT 5.0 §3.1. Evidence: packet type, the protocol's name with
//! its length, level and flags that the standard allows: 70 bits. A connection that was open before
//! has no such packet, and its short ones prove nothing.

use super::evidence::{Evidence, Seen, be16, byte, ensure, evidence, led_by, literal};
use crate::probe::{Found, Probe};
use crate::{Hint, Prefix, Protocol};

pub(super) fn probe(client: Prefix<'_>, server: Prefix<'_>, _: Hint) -> Probe {
    let connect = connect(client.bytes);
    let of_client = evidence(connect.map(|_| Evidence::Proof));
    let of_server = if server.midstream { Evidence::Against } else { evidence(connack(server.bytes)) };
    led_by((client, of_client), (server, of_server)).found(|| Found {
        detail: connect.ok().map(|version| format!("MQTT {version}")),
        ..Found::plain(Protocol::Mqtt)
    })
}

fn connect(bytes: &[u8]) -> Seen<&'static str> {
    ensure(byte(bytes, 0)? == 0x10)?;
    let (length, at) = remaining_length(bytes, 1)?;
    ensure(length >= 12 && byte(bytes, at)? == 0)?;
    let name: &[u8] = if byte(bytes, at + 1)? == 6 { b"\0\x06MQIsdp" } else { b"\0\x04MQTT" };
    literal(bytes, at, name)?;
    let at = at + name.len();
    let version = match (name.len(), byte(bytes, at)? & 0x7f) {
        // The highest bit marks a bridge between brokers.
        (8, 3) => "3.1",
        (6, 4) => "3.1.1",
        (6, 5) => "5",
        _ => return Err(Evidence::Against),
    };
    flags_are_legal(byte(bytes, at + 1)?, version)?;
    if version != "5" {
        // After the keep-alive, the client identifier.
        ensure(usize::from(be16(bytes, at + 4)?) + name.len() + 6 <= length)?;
    }
    Ok(version)
}

fn flags_are_legal(flags: u8, version: &str) -> Seen<()> {
    let (will, will_qos, will_retain) = (flags & 0x04 != 0, flags >> 3 & 3, flags & 0x20 != 0);
    let (password, username) = (flags & 0x40 != 0, flags & 0x80 != 0);
    ensure(flags & 1 == 0 && will_qos < 3)?;
    ensure(will || (will_qos == 0 && !will_retain))?;
    ensure(username || !password || version == "5")
}

/// Seven bits a byte, lowest first, at most four bytes.
fn remaining_length(bytes: &[u8], start: usize) -> Seen<(usize, usize)> {
    let mut length = 0;
    for position in 0..4 {
        let part = byte(bytes, start + position)?;
        length |= usize::from(part & 0x7f) << (7 * position);
        if part & 0x80 == 0 {
            return Ok((length, start + position + 1));
        }
    }
    Err(Evidence::Against)
}

/// Two bytes of flags and reason at most 20 bits strong: never enough alone.
fn connack(bytes: &[u8]) -> Seen<Evidence> {
    ensure(byte(bytes, 0)? == 0x20)?;
    let (length, at) = remaining_length(bytes, 1)?;
    ensure(length >= 2 && byte(bytes, at)? <= 1)?;
    Ok(Evidence::Fits)
}
