//! memcached: text, meta and binary commands, over TCP and UDP.
//!
//! Source: memcached `doc/protocol.txt` and "BinaryProtocolRevamped". Evidence: a storage command with
//! its three numbers, or a binary header whose lengths are those of its command, 50 bits and more; any
//! other command only together with a reply from memcached's small vocabulary.

use super::evidence::{
    Evidence, Seen, be16, be32, byte, decimal, ensure, evidence, led_by, literal, one_of, text_line,
};
use crate::probe::{Found, Probe};
use crate::{Hint, Prefix, Protocol};

const COMMANDS: [&[u8]; 28] = [
    b"get ",
    b"gets ",
    b"gat ",
    b"gats ",
    b"delete ",
    b"incr ",
    b"decr ",
    b"touch ",
    b"mg ",
    b"md ",
    b"ma ",
    b"me ",
    b"stats\r\n",
    b"stats\n",
    b"stats ",
    b"version\r\n",
    b"version\n",
    b"flush_all\r\n",
    b"flush_all\n",
    b"flush_all ",
    b"verbosity ",
    b"mn\r\n",
    b"watch ",
    b"lru ",
    b"slabs ",
    b"lru_crawler ",
    b"cache_memlimit ",
    b"ms ",
];
const STORAGE: [&[u8]; 6] = [b"set ", b"add ", b"replace ", b"append ", b"prepend ", b"cas "];
const REPLIES: [&[u8]; 23] = [
    b"VALUE ",
    b"END\r\n",
    b"STORED\r\n",
    b"NOT_STORED\r\n",
    b"EXISTS\r\n",
    b"NOT_FOUND\r\n",
    b"DELETED\r\n",
    b"TOUCHED\r\n",
    b"OK\r\n",
    b"ERROR\r\n",
    b"CLIENT_ERROR ",
    b"SERVER_ERROR ",
    b"VERSION ",
    b"STAT ",
    b"RESET\r\n",
    b"HD",
    b"VA ",
    b"EN\r\n",
    b"NF\r\n",
    b"NS\r\n",
    b"EX\r\n",
    b"MN\r\n",
    b"ME ",
];

pub(super) fn stream(client: Prefix<'_>, server: Prefix<'_>, _: Hint) -> Probe {
    let of_client = evidence(request(client.bytes));
    led_by((client, of_client), (server, evidence(reply(server.bytes)))).found(|| found(client.bytes))
}

/// Over UDP, eight bytes come first: request, number and count of the datagram, reserved.
pub(super) fn datagram(client: &[&[u8]], _: &[&[u8]], _: Hint) -> Probe {
    let Some(first) = client.first() else { return Probe::Maybe };
    match literal(first, 2, &[0, 0, 0, 1, 0, 0]).and_then(|()| request(&first[8..])) {
        Ok(_) => Probe::Yes(found(&first[8..])),
        Err(_) => Probe::No,
    }
}

fn found(request: &[u8]) -> Found {
    let binary = request.first() == Some(&0x80);
    Found { detail: binary.then(|| "binary protocol".to_owned()), ..Found::plain(Protocol::Memcached) }
}

fn request(bytes: &[u8]) -> Seen<Evidence> {
    if byte(bytes, 0)? == 0x80 {
        return binary(bytes);
    }
    match one_of(bytes, &STORAGE) {
        Err(Evidence::Against) => {}
        Err(reason) => return Err(reason),
        Ok(_) => return storage(bytes),
    }
    one_of(bytes, &COMMANDS)?;
    text_line(bytes, 0, 2048)?;
    Ok(Evidence::Fits)
}

/// `set <key> <flags> <exptime> <bytes>`.
fn storage(bytes: &[u8]) -> Seen<Evidence> {
    let (line, _) = text_line(bytes, 0, 400)?;
    let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').filter(|field| !field.is_empty()).collect();
    ensure((5..=7).contains(&fields.len()) && fields[1].len() <= 250)?;
    let expiry = fields[3].strip_prefix(b"-").unwrap_or(fields[3]);
    ensure([fields[2], expiry, fields[4]].iter().all(|field| decimal(field, 10).is_some()))?;
    Ok(Evidence::Proof)
}

/// Each command has extras of one length, with or without a key.
fn binary(bytes: &[u8]) -> Seen<Evidence> {
    let command = byte(bytes, 1)?;
    let key = usize::from(be16(bytes, 2)?);
    let extras = usize::from(byte(bytes, 4)?);
    let (needs_extras, needs_key) = match command {
        // get, getq, getk, getkq; delete; append, prepend and their quiet forms.
        0x00 | 0x09 | 0x0c | 0x0d | 0x04 | 0x14 | 0x0e | 0x0f | 0x19 | 0x1a => (0, true),
        // set, add, replace.
        0x01..=0x03 | 0x11..=0x13 => (8, true),
        // increment, decrement.
        0x05 | 0x06 | 0x15 | 0x16 => (20, true),
        // quit, no-op, version; SASL mechanisms.
        0x07 | 0x17 | 0x0a | 0x0b | 0x20 => (0, false),
        // flush, with an optional time; stat, with an optional key.
        0x08 | 0x18 => (extras & 4, false),
        0x10 => (0, key > 0),
        // SASL: the mechanism is the key.
        0x21 | 0x22 => (0, true),
        // touch, get and touch.
        0x1c..=0x1e => (4, true),
        _ => return Err(Evidence::Against),
    };
    ensure(extras == needs_extras && (key > 0) == needs_key && key <= 250)?;
    // Data type and virtual bucket: always zero in memcached.
    ensure(byte(bytes, 5)? == 0 && be16(bytes, 6)? == 0)?;
    let body = be32(bytes, 8)? as usize;
    ensure(body >= key + extras && body <= 128 << 20)?;
    Ok(Evidence::Proof)
}

fn reply(bytes: &[u8]) -> Seen<Evidence> {
    match byte(bytes, 0)? {
        b'0'..=b'9' => {
            let (line, _) = text_line(bytes, 0, 24)?;
            ensure(decimal(line, 18).is_some())?;
        }
        0x81 => ensure(byte(bytes, 1)? <= 0x40 && byte(bytes, 5)? == 0)?,
        _ => {
            one_of(bytes, &REPLIES)?;
        }
    }
    Ok(Evidence::Fits)
}
