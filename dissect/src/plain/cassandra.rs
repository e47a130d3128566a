//! Cassandra's native protocol (CQL), versions 3 to 5.
//!
//! Source: Apache Cassandra, `doc/native_protocol_v{3,4,5}.spec` §2 and §4. Evidence: an `OPTIONS` of
//! length zero, 45 bits, or a `STARTUP` whose first key is one that drivers send; in the middle of a
//! connection a query in words.

use super::evidence::{Evidence, Seen, be16, be32, byte, ensure, evidence, is_text, led_by, slice};
use crate::probe::{Found, Probe};
use crate::{Hint, Prefix, Protocol};

const STARTUP: u8 = 0x01;
const OPTIONS: u8 = 0x05;
const QUERY: u8 = 0x07;

pub(super) fn probe(client: Prefix<'_>, server: Prefix<'_>, _: Hint) -> Probe {
    led_by((client, evidence(request(client))), (server, evidence(response(server.bytes)))).found(|| {
        let version = client.bytes.first().filter(|_| !client.midstream).map(|version| match version {
            0x41 | 0x42 => format!("CQL of DataStax Enterprise v{}", version & 0x0f),
            version => format!("CQL v{version}"),
        });
        Found { detail: version, ..Found::plain(Protocol::Cassandra) }
    })
}

fn request(client: Prefix<'_>) -> Seen<Evidence> {
    let bytes = client.bytes;
    ensure(
        matches!(byte(bytes, 0)?, 3..=5 | 0x41 | 0x42) && byte(bytes, 1)? <= 0x1f && byte(bytes, 2)? < 0x80,
    )?;
    let kind = byte(bytes, 4)?;
    ensure(matches!(kind, STARTUP | OPTIONS) || (client.midstream && kind == QUERY))?;
    let length = be32(bytes, 5)?;
    match kind {
        OPTIONS => ensure(length == 0)?,
        STARTUP => {
            ensure((20..=4096).contains(&length) && (1..=32).contains(&be16(bytes, 9)?))?;
            let key = usize::from(be16(bytes, 11)?);
            ensure((8..=40).contains(&key))?;
            let key = slice(bytes, 13, key)?;
            ensure(key.iter().all(|byte| byte.is_ascii_uppercase() || *byte == b'_'))?;
        }
        _ => {
            let text = be32(bytes, 9)?;
            ensure(text >= 8 && text < length)?;
            ensure(slice(bytes, 13, 8)?.iter().all(|byte| is_text(*byte) || *byte == b'\n'))?;
        }
    }
    Ok(Evidence::Proof)
}

fn response(bytes: &[u8]) -> Seen<Evidence> {
    ensure(matches!(byte(bytes, 0)?, 0x83..=0x85 | 0xc1 | 0xc2) && byte(bytes, 1)? <= 0x1f)?;
    let kind = byte(bytes, 4)?;
    ensure(matches!(kind, 0x00 | 0x02 | 0x03 | 0x06 | 0x08 | 0x0c | 0x0e | 0x10))?;
    ensure(be32(bytes, 5)? <= 256 << 20)?;
    Ok(Evidence::Fits)
}
