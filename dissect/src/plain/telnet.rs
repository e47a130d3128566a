//! Telnet: option negotiation at the start, from either side.
//!
//! Source: RFC 854, RFC 855 and IANA's "Telnet Options". Evidence: three commands in a row from one
//! side, 50 bits, or one from each side, 32 bits.

use super::evidence::{Evidence, Seen, byte, either, ensure, evidence};
use crate::probe::{Found, Probe};
use crate::{Hint, Prefix, Protocol};

const COMMAND: u8 = 255;
const SUBNEGOTIATION: u8 = 250;
const SUBNEGOTIATION_END: u8 = 240;

pub(super) fn probe(client: Prefix<'_>, server: Prefix<'_>, _: Hint) -> Probe {
    let (of_client, of_server) = (evidence(commands(client.bytes)), evidence(commands(server.bytes)));
    either((client, of_client), (server, of_server)).found(|| Found::plain(Protocol::Telnet))
}

fn commands(bytes: &[u8]) -> Seen<Evidence> {
    let mut at = 0;
    for seen in 0..3 {
        match command(bytes, at) {
            Ok(next) => at = next,
            // One command that is followed by something else still is one command.
            Err(Evidence::Against) if seen > 0 => return Ok(Evidence::Fits),
            Err(reason) => return Err(reason),
        }
    }
    Ok(Evidence::Proof)
}

/// Where the command that starts at `start` ends.
fn command(bytes: &[u8], start: usize) -> Seen<usize> {
    ensure(byte(bytes, start)? == COMMAND)?;
    match byte(bytes, start + 1)? {
        251..=254 => {
            let option = byte(bytes, start + 2)?;
            ensure(matches!(option, 0..=49 | 69 | 70 | 85..=93 | 102 | 138..=140 | 200 | 201))?;
            Ok(start + 3)
        }
        SUBNEGOTIATION => {
            let rest = bytes.get(start + 2..).unwrap_or(&[]);
            ensure(rest.first().is_none_or(|option| *option <= 49))?;
            let end = rest.iter().take(256).position(|byte| *byte == COMMAND);
            let end = start
                + 2
                + end.ok_or(if rest.len() < 256 { Evidence::Pending } else { Evidence::Against })?;
            ensure(byte(bytes, end + 1)? == SUBNEGOTIATION_END)?;
            Ok(end + 2)
        }
        _ => Err(Evidence::Against),
    }
}
