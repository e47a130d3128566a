//! Git's own transport (`git://`).
//!
//! Source: Git `Documentation/gitprotocol-pack.txt`. Evidence: four digits of length and the name of a
//! service, 100 bits.

use super::evidence::{Evidence, Seen, byte, ensure, evidence, led_by, one_of};
use crate::probe::{Found, Probe};
use crate::{Hint, Prefix, Protocol};

const SERVICES: [&[u8]; 3] = [b"git-upload-pack /", b"git-receive-pack /", b"git-upload-archive /"];

pub(super) fn probe(client: Prefix<'_>, server: Prefix<'_>, _: Hint) -> Probe {
    let request = request(client.bytes);
    let of_client = evidence(request.map(|_| Evidence::Proof));
    led_by((client, of_client), (server, Evidence::Against))
        .found(|| Found { detail: request.ok().map(str::to_owned), ..Found::plain(Protocol::Git) })
}

fn request(bytes: &[u8]) -> Seen<&'static str> {
    for at in 0..4 {
        ensure(byte(bytes, at)?.is_ascii_hexdigit())?;
    }
    match one_of(&bytes[4..], &SERVICES)? {
        b"git-upload-pack /" => Ok("git-upload-pack"),
        b"git-receive-pack /" => Ok("git-receive-pack"),
        _ => Ok("git-upload-archive"),
    }
}
