//! Redis and its kin (Valkey, KeyDB): RESP2 and RESP3.
//!
//! Source: "Redis serialization protocol specification". Evidence: a command as an array of bulk
//! strings, `*n\r\n$m\r\nNAME\r\n` with lengths that agree, 60 bits; an inline command only together
//! with a reply in RESP. TLS, where used, starts with the first byte.

use super::evidence::{
    Evidence, Seen, byte, decimal, ensure, evidence, is_text, led_by, literal, slice, text_line,
};
use crate::probe::{Found, Probe};
use crate::{Hint, Prefix, Protocol};

/// Commands that clients begin with. Names outside this list are not shown: they may be user data.
const COMMANDS: [&[u8]; 48] = [
    b"PING",
    b"AUTH",
    b"HELLO",
    b"SELECT",
    b"CLIENT",
    b"COMMAND",
    b"INFO",
    b"GET",
    b"SET",
    b"DEL",
    b"EXISTS",
    b"MGET",
    b"MSET",
    b"INCR",
    b"DECR",
    b"INCRBY",
    b"EXPIRE",
    b"TTL",
    b"KEYS",
    b"SCAN",
    b"TYPE",
    b"HGET",
    b"HSET",
    b"HGETALL",
    b"HMGET",
    b"HDEL",
    b"LPUSH",
    b"RPUSH",
    b"LPOP",
    b"RPOP",
    b"BLPOP",
    b"BRPOP",
    b"LRANGE",
    b"SADD",
    b"SMEMBERS",
    b"ZADD",
    b"ZRANGE",
    b"XADD",
    b"XREADGROUP",
    b"SUBSCRIBE",
    b"PSUBSCRIBE",
    b"PUBLISH",
    b"MULTI",
    b"EVALSHA",
    b"CONFIG",
    b"CLUSTER",
    b"REPLCONF",
    b"PSYNC",
];

pub(super) fn probe(client: Prefix<'_>, server: Prefix<'_>, _: Hint) -> Probe {
    led_by((client, of_client(client.bytes)), (server, evidence(reply(server.bytes)))).found(|| Found {
        detail: command(client.bytes).ok().and_then(known).map(|name| format!("first command {name}")),
        // Named by the server alone, the client's first command may still come.
        settled: client.ended || of_client(client.bytes) != Evidence::Pending,
        ..Found::plain(Protocol::Redis)
    })
}

fn of_client(bytes: &[u8]) -> Evidence {
    match bytes.first() {
        None => Evidence::Pending,
        Some(b'*') => evidence(command(bytes).map(|_| Evidence::Proof)),
        Some(_) => evidence(inline(bytes).map(|_| Evidence::Fits)),
    }
}

/// The first string of an array of bulk strings.
fn command(bytes: &[u8]) -> Seen<&[u8]> {
    literal(bytes, 0, b"*")?;
    let (count, at) = number(bytes, 1)?;
    ensure((1..=1_048_576).contains(&count))?;
    literal(bytes, at, b"$")?;
    let (length, at) = number(bytes, at + 1)?;
    ensure((1..=32).contains(&length))?;
    let name = bytes.get(at..).unwrap_or(&[]);
    let name = &name[..name.len().min(length as usize)];
    ensure(name.iter().all(|byte| byte.is_ascii_alphanumeric() || b"._-|".contains(byte)))?;
    literal(bytes, at + name.len(), b"\r\n")
        .map_err(|reason| if name.len() < length as usize { Evidence::Pending } else { reason })?;
    Ok(name)
}

/// Decimal digits and a line end; where the next byte stands.
fn number(bytes: &[u8], at: usize) -> Seen<(u64, usize)> {
    let rest = bytes.get(at..).unwrap_or(&[]);
    let digits = rest.iter().take(9).take_while(|byte| byte.is_ascii_digit()).count();
    if digits == rest.len() && digits < 9 {
        return Err(Evidence::Pending);
    }
    let number = decimal(&rest[..digits], 8).ok_or(Evidence::Against)?;
    literal(bytes, at + digits, b"\r\n")?;
    Ok((number, at + digits + 2))
}

/// A command on a line of its own, as typed by hand.
fn inline(bytes: &[u8]) -> Seen<&[u8]> {
    let word = bytes.iter().take(16).take_while(|byte| byte.is_ascii_alphabetic()).count();
    let name = bytes[..word].to_ascii_uppercase();
    if word == bytes.len() {
        ensure(COMMANDS.iter().any(|known| known.starts_with(&name)))?;
        return Err(Evidence::Pending);
    }
    ensure(COMMANDS.contains(&name.as_slice()) && matches!(bytes[word], b' ' | b'\r' | b'\n'))?;
    let (line, _) = text_line(bytes, 0, 4096)?;
    // `GET` is also how HTTP begins.
    ensure(!line.windows(8).any(|part| part == b" HTTP/1."))?;
    Ok(&bytes[..word])
}

/// A reply. A status or an error alone is what other protocols say too.
fn reply(bytes: &[u8]) -> Seen<Evidence> {
    match byte(bytes, 0)? {
        b'+' => {
            super::evidence::one_of(
                bytes,
                &[b"+OK\r\n", b"+PONG\r\n", b"+QUEUED\r\n", b"+FULLRESYNC ", b"+CONTINUE"],
            )?;
            Ok(Evidence::Fits)
        }
        b'-' => {
            let (line, _) = text_line(bytes, 0, 1024)?;
            let code = line[1..].split(|byte| *byte == b' ').next().unwrap_or(&[]);
            ensure(code.len() >= 3 && code.iter().all(u8::is_ascii_uppercase))?;
            Ok(Evidence::Fits)
        }
        b':' | b'_' | b'#' | b',' | b'(' => {
            let (line, _) = text_line(bytes, 0, 64)?;
            ensure(line[1..].iter().all(|byte| byte.is_ascii_digit() || b"-+.eEtfinf".contains(byte)))?;
            Ok(Evidence::Fits)
        }
        b'$' | b'=' if bytes.get(1) == Some(&b'-') => {
            literal(bytes, 1, b"-1\r\n")?;
            Ok(Evidence::Fits)
        }
        b'$' | b'=' => {
            let (length, at) = number(bytes, 1)?;
            // Long values do not fit into what is captured; their head says enough to a command.
            if length > 1024 {
                return Ok(Evidence::Fits);
            }
            slice(bytes, at, length as usize)?;
            literal(bytes, at + length as usize, b"\r\n")?;
            Ok(Evidence::Proof)
        }
        b'*' | b'%' | b'~' | b'>' => {
            let (_, at) = number(bytes, 1)?;
            let element = bytes.get(at..).unwrap_or(&[]);
            ensure(element.first().is_none_or(|kind| b"+-:$*_#,(!=%~>".contains(kind)))?;
            Ok(Evidence::Fits)
        }
        _ => Err(Evidence::Against),
    }
}

fn known(name: &[u8]) -> Option<&'static str> {
    let known = COMMANDS.iter().find(|command| command.eq_ignore_ascii_case(name))?;
    std::str::from_utf8(known).ok().filter(|name| name.bytes().all(is_text))
}
