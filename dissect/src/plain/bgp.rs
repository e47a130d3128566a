//! BGP-4, from either side.
//!
//! Source: RFC 4271 §4.1 and §4.2. Evidence: the marker of sixteen bytes, a length and a type: 140 bits.

use super::evidence::{Evidence, Seen, be16, byte, either, ensure, evidence, literal};
use crate::probe::{Found, Probe};
use crate::{Hint, Prefix, Protocol};

pub(super) fn probe(client: Prefix<'_>, server: Prefix<'_>, _: Hint) -> Probe {
    let (of_client, of_server) = (evidence(message(client.bytes)), evidence(message(server.bytes)));
    either((client, of_client), (server, of_server)).found(|| Found::plain(Protocol::Bgp))
}

fn message(bytes: &[u8]) -> Seen<Evidence> {
    literal(bytes, 0, &[0xff; 16])?;
    // Extended messages (RFC 8654) are longer than 4096 bytes, but no first message is.
    ensure((19..=4096).contains(&be16(bytes, 16)?) && (1..=5).contains(&byte(bytes, 18)?))?;
    Ok(Evidence::Proof)
}
