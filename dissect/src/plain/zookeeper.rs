//! ZooKeeper: a session's first request, and the commands of four letters.
//!
//! Source: `zookeeper-jute/src/main/resources/zookeeper.jute` (ConnectRequest, RequestHeader) and the
//! administrator's guide, "The Four Letter Words". Evidence: a `ConnectRequest` with its two lengths
//! and version zero, 80 bits; a word of four letters only with an answer that names ZooKeeper; a ping,
//! 96 bits.

use super::evidence::{Evidence, Seen, be32, ensure, evidence, led_by, literal, one_of};
use crate::probe::{Found, Probe};
use crate::{Hint, Prefix, Protocol};

const PING: &[u8] = b"\0\0\0\x08\xff\xff\xff\xfe\0\0\0\x0b";
const PONG: &[u8] = b"\0\0\0\x10\xff\xff\xff\xfe";
const WORDS: [&[u8]; 19] = [
    b"ruok", b"stat", b"srvr", b"mntr", b"conf", b"cons", b"dump", b"envi", b"isro", b"wchs", b"wchc",
    b"wchp", b"crst", b"srst", b"dirs", b"gtmk", b"stmk", b"hash", b"lsnp",
];
const ANSWERS: [&[u8]; 10] = [
    b"imok",
    b"Zookeeper version:",
    b"zk_version",
    b"clientPort=",
    b"Environment:",
    b"SessionTracker dump:",
    b"This ZooKeeper instance",
    b"ruok is not executed",
    b"stat is not executed",
    b"mntr is not executed",
];

pub(super) fn probe(client: Prefix<'_>, server: Prefix<'_>, _: Hint) -> Probe {
    led_by((client, evidence(of_client(client))), (server, evidence(of_server(server))))
        .found(|| Found::plain(Protocol::Zookeeper))
}

fn of_client(client: Prefix<'_>) -> Seen<Evidence> {
    match word(client) {
        Err(Evidence::Against) => {}
        other => return other,
    }
    if client.midstream && client.bytes.get(4) == Some(&0xff) {
        literal(client.bytes, 0, PING)?;
        return Ok(Evidence::Proof);
    }
    session(client.bytes)
}

/// The four letters and at most a line end: nothing else follows.
fn word(client: Prefix<'_>) -> Seen<Evidence> {
    one_of(client.bytes, &WORDS)?;
    match &client.bytes[4..] {
        [] if client.ended => Ok(Evidence::Fits),
        [] | [b'\r'] => Err(Evidence::Pending),
        [b'\n', ..] | [b'\r', b'\n', ..] => Ok(Evidence::Fits),
        _ => Err(Evidence::Against),
    }
}

/// `ConnectRequest`: version, last zxid, timeout, session id, password, and since 3.4 read-only.
fn session(bytes: &[u8]) -> Seen<Evidence> {
    literal(bytes, 0, &[0, 0, 0])?;
    let length = be32(bytes, 0)?;
    ensure(matches!(length, 28 | 29 | 44 | 45) && be32(bytes, 4)? == 0)?;
    ensure((1..=86_400_000).contains(&be32(bytes, 16)?))?;
    ensure(matches!((be32(bytes, 28)?, length), (16, 44..) | (0 | u32::MAX, ..=29)))?;
    Ok(Evidence::Proof)
}

fn of_server(server: Prefix<'_>) -> Seen<Evidence> {
    if server.midstream && server.bytes.get(4) == Some(&0xff) {
        literal(server.bytes, 0, PONG)?;
        return Ok(Evidence::Proof);
    }
    one_of(server.bytes, &ANSWERS)?;
    Ok(Evidence::Fits)
}
