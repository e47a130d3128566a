//! The rsync daemon's greeting, which both sides send.
//!
//! Source: rsync `clientserver.c`. Evidence: `@RSYNCD: ` and a digit, 75 bits.

use super::evidence::{Evidence, Seen, byte, either, ensure, evidence, literal};
use crate::probe::{Found, Probe};
use crate::{Hint, Prefix, Protocol};

const GREETING: &[u8] = b"@RSYNCD: ";

pub(super) fn probe(client: Prefix<'_>, server: Prefix<'_>, _: Hint) -> Probe {
    let (of_client, of_server) = (evidence(greeting(client.bytes)), evidence(greeting(server.bytes)));
    either((client, of_client), (server, of_server)).found(|| Found::plain(Protocol::Rsync))
}

fn greeting(bytes: &[u8]) -> Seen<Evidence> {
    literal(bytes, 0, GREETING)?;
    ensure(byte(bytes, GREETING.len())?.is_ascii_digit())?;
    Ok(Evidence::Proof)
}
