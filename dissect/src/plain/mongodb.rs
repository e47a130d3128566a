//! MongoDB's wire protocol.
//!
//! Source: MongoDB manual, "MongoDB wire protocol". Evidence: a request header with a known operation
//! in 32 bits and `responseTo` zero, 64 bits; in the middle of a connection also the flags of `OP_MSG`.

use super::evidence::{Evidence, Seen, ensure, evidence, le32, led_by};
use crate::probe::{Found, Probe};
use crate::{Hint, Prefix, Protocol};

const OP_REPLY: u32 = 1;
const OP_QUERY: u32 = 2004;
const OP_COMPRESSED: u32 = 2012;
const OP_MSG: u32 = 2013;

pub(super) fn probe(client: Prefix<'_>, server: Prefix<'_>, _: Hint) -> Probe {
    led_by((client, evidence(request(client.bytes))), (server, evidence(reply(server.bytes))))
        .found(|| Found::plain(Protocol::Mongodb))
}

fn request(bytes: &[u8]) -> Seen<Evidence> {
    ensure((21..=48_000_000 + 16_384).contains(&le32(bytes, 0)?) && le32(bytes, 8)? == 0)?;
    operation(bytes, &[OP_QUERY, 2001, 2002, 2005, 2006, 2007, 2010])
}

fn reply(bytes: &[u8]) -> Seen<Evidence> {
    ensure((21..=48_000_000 + 16_384).contains(&le32(bytes, 0)?))?;
    operation(bytes, &[OP_REPLY])
}

fn operation(bytes: &[u8], others: &[u32]) -> Seen<Evidence> {
    match le32(bytes, 12)? {
        // Checksum, more to come, exhaust allowed; then a section of kind 0 or 1.
        OP_MSG => ensure(le32(bytes, 16)? & !0x0001_0003 == 0)?,
        OP_COMPRESSED => ensure(matches!(le32(bytes, 16)?, OP_MSG | OP_QUERY | OP_REPLY))?,
        OP_REPLY if others.contains(&OP_REPLY) => ensure(le32(bytes, 16)? & !0x0f == 0)?,
        other => ensure(others.contains(&other))?,
    }
    Ok(Evidence::Proof)
}
