//! STOMP 1.0 to 1.2.
//!
//! Source: "STOMP Protocol Specification, Version 1.2". Evidence: a command on a line of its own and a
//! header that belongs to it, 100 bits of text.

use super::evidence::{Evidence, Seen, evidence, led_by, one_of, text_line};
use crate::probe::{Found, Probe};
use crate::{Hint, Prefix, Protocol};

const OPENING: [&[u8]; 4] = [b"CONNECT\n", b"CONNECT\r\n", b"STOMP\n", b"STOMP\r\n"];
const RUNNING: [&[u8]; 8] = [
    b"SEND\n",
    b"SUBSCRIBE\n",
    b"MESSAGE\n",
    b"ACK\n",
    b"SEND\r\n",
    b"SUBSCRIBE\r\n",
    b"MESSAGE\r\n",
    b"ACK\r\n",
];
const ANSWERS: [&[u8]; 4] = [b"CONNECTED\n", b"CONNECTED\r\n", b"ERROR\n", b"ERROR\r\n"];

pub(super) fn probe(client: Prefix<'_>, server: Prefix<'_>, _: Hint) -> Probe {
    let of_client = evidence(frame(client, &OPENING));
    let of_server = evidence(frame(server, &ANSWERS));
    led_by((client, of_client), (server, of_server)).found(|| Found::plain(Protocol::Stomp))
}

fn frame(prefix: Prefix<'_>, opening: &[&[u8]]) -> Seen<Evidence> {
    let command = match one_of(prefix.bytes, opening) {
        Err(Evidence::Against) if prefix.midstream => one_of(prefix.bytes, &RUNNING)?,
        other => other?,
    };
    let (header, _) = text_line(prefix.bytes, command.len(), 1024)?;
    let name = header.split(|byte| *byte == b':').next().unwrap_or(&[]);
    let shape = !name.is_empty()
        && name.len() < header.len()
        && name.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte));
    if shape { Ok(Evidence::Proof) } else { Err(Evidence::Against) }
}
