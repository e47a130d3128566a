//! Redis and its kin (Valkey, KeyDB): RESP2 and RESP3.
//!
//! Source: "Redis serialization protocol specification", and what Redis 7 takes beyond it
//! (`processInlineBuffer`, `processMultibulkBuffer`, `sdssplitargs`). Evidence: a command as an array of bulk
//! strings, `*n\r\n$m\r\nNAME\r\n` with lengths that agree, 60 bits; one that only Redis takes so (any byte
//! behind a carriage return, any name), 42 bits, and an inline command, only together with a reply in RESP; a
//! short line that is no command only with an error that nobody else has. Empty lines and empty arrays may stand in
//! front. TLS, where used, starts with the first byte.

use super::evidence::{
    Evidence, Seen, byte, decimal, ensure, evidence, is_text, led_by, literal, one_of, slice, text_line,
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

/// Errors that only Redis and its kin have. The last two quote the name.
pub(crate) const ERRORS: [&[u8]; 7] = [
    b"-WRONGPASS ",
    b"-NOAUTH ",
    b"-NOPERM ",
    b"-ERR invalid password\r\n",
    b"-ERR Client sent AUTH, ",
    b"-ERR unknown command '",
    b"-ERR unknown command `",
];

/// Longer words are no names of commands, escapes and all; of a line, so much is looked at.
const LONGEST_WORD: usize = 128;
const LONGEST_LINE: usize = 4096;
/// A line that may be a command that is not known.
const SHORT_LINE: usize = 32;

pub(super) fn probe(client: Prefix<'_>, server: Prefix<'_>, _: Hint) -> Probe {
    let first = first(client.bytes);
    let of_client = match first {
        Ok(First::Array(_)) => Evidence::Proof,
        Ok(_) => Evidence::Fits,
        Err(reason) => reason,
    };
    let of_server = match (&first, evidence(reply(server.bytes))) {
        (Ok(First::Word), Evidence::Fits) => Evidence::Against,
        (_, of_server) => of_server,
    };
    led_by((client, of_client), (server, of_server)).found(|| Found {
        detail: match first {
            Ok(First::Array(name)) => known(name).map(|name| format!("first command {name}")),
            _ => None,
        },
        // Named by the server alone, the client's first command may still come.
        settled: client.ended || of_client != Evidence::Pending,
        ..Found::plain(Protocol::Redis)
    })
}

/// What the client asks for first.
enum First<'a> {
    /// An array of bulk strings by the specification, and its first string.
    Array(&'a [u8]),
    /// A command as Redis takes it.
    Lenient,
    /// A short line that may be a command.
    Word,
}

fn first(bytes: &[u8]) -> Seen<First<'_>> {
    let mut at = 0;
    loop {
        if byte(bytes, at)? == b'*' {
            let (count, next) = lenient(length(&bytes[at + 1..]))?;
            if count > 0 {
                return command(&bytes[at..]);
            }
            at += 1 + next;
            continue;
        }
        let blank = bytes[at..].iter().take_while(|byte| is_space(**byte)).count();
        // Up to the end of the last line that is empty; what is in front of a word may be part of its line.
        let lines = bytes[at..at + blank].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        if lines == blank && lines > 0 {
            at += lines;
            continue;
        }
        return inline(&bytes[at + blank..]);
    }
}

/// The first string of an array of bulk strings.
fn command(bytes: &[u8]) -> Seen<First<'_>> {
    let (count, at) = lenient(length(&bytes[1..]))?;
    ensure((1..=1_048_576).contains(&count))?;
    let at = 1 + at;
    literal(bytes, at, b"$")?;
    let (length, next) = lenient(length(&bytes[at + 1..]))?;
    ensure((0..=16_384).contains(&length))?;
    let at = at + 1 + next;
    let by_the_book = |end: usize| bytes[..end].ends_with(b"\r\n");
    let name = bytes.get(at..).unwrap_or(&[]);
    let name = &name[..name.len().min(length as usize)];
    let first_line = bytes.iter().position(|byte| *byte == b'\r').map_or(0, |end| (end + 2).min(bytes.len()));
    let is_a_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-|".contains(byte);
    let regular = by_the_book(first_line) && by_the_book(at) && (1..=32).contains(&length);
    if !regular || !name.iter().all(is_a_name) {
        return Ok(First::Lenient);
    }
    if name.len() < length as usize {
        return Err(Evidence::Pending);
    }
    match literal(bytes, at + name.len(), b"\r\n") {
        Ok(()) => Ok(First::Array(name)),
        Err(Evidence::Against) => Ok(First::Lenient),
        Err(reason) => Err(reason),
    }
}

/// What was read of some bytes.
pub(crate) enum Read<T> {
    /// Too few of them.
    Open,
    /// Redis would not take it either.
    Broken,
    Whole(T),
}

fn lenient<T>(read: Read<T>) -> Seen<T> {
    match read {
        Read::Open => Err(Evidence::Pending),
        Read::Broken => Err(Evidence::Against),
        Read::Whole(value) => Ok(value),
    }
}

/// A length as Redis reads it, up to a carriage return, and where it goes on: one byte later, whichever that is.
pub(crate) fn length(bytes: &[u8]) -> Read<(i64, usize)> {
    let sign = usize::from(bytes.first() == Some(&b'-'));
    let digits = bytes[sign..].iter().take(11).take_while(|byte| byte.is_ascii_digit()).count();
    let end = sign + digits;
    match bytes.get(end) {
        None if digits < 11 => return Read::Open,
        Some(b'\r') => {}
        _ => return Read::Broken,
    }
    let Some(number) = decimal(&bytes[sign..end], 10) else { return Read::Broken };
    if bytes.len() < end + 2 {
        return Read::Open;
    }
    let number = number as i64;
    Read::Whole((if sign == 1 { -number } else { number }, end + 2))
}

/// `isspace` of C.
pub(crate) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// The word at the start of an inline command, without its quotes and escapes, and where it ends; the bytes begin
/// with no blank.
pub(crate) fn word(bytes: &[u8]) -> Read<(Vec<u8>, usize)> {
    let (mut word, mut quote, mut at) = (Vec::new(), None, 0);
    while let Some(byte) = bytes.get(at).copied() {
        let next = bytes.get(at + 1).copied();
        match (quote, byte) {
            (None, b' ' | b'\t' | b'\r' | b'\n') => return Read::Whole((word, at)),
            (None, b'"' | b'\'') => quote = Some(byte),
            (Some(_), b'\n') => return Read::Broken,
            (Some(open), _) if open == byte => {
                return match next {
                    None => Read::Open,
                    Some(next) if is_space(next) => Read::Whole((word, at + 1)),
                    Some(_) => Read::Broken,
                };
            }
            (Some(b'"'), b'\\') => {
                let digits = bytes.get(at + 2..).unwrap_or(&[]).iter().take(2);
                let hex: Vec<u32> = digits.map_while(|digit| char::from(*digit).to_digit(16)).collect();
                match (next, &hex[..]) {
                    (None, _) => return Read::Open,
                    (Some(b'\n'), _) => return Read::Broken,
                    (Some(b'x'), [high, low]) => {
                        word.push((high << 4 | low) as u8);
                        at += 2;
                    }
                    (Some(b'x'), _) if bytes.len() == at + 2 + hex.len() => return Read::Open,
                    (Some(b'n'), _) => word.push(b'\n'),
                    (Some(b'r'), _) => word.push(b'\r'),
                    (Some(b't'), _) => word.push(b'\t'),
                    (Some(b'b'), _) => word.push(8),
                    (Some(b'a'), _) => word.push(7),
                    (Some(other), _) => word.push(other),
                }
                at += 1;
            }
            (Some(_), b'\\') if next.is_none() => return Read::Open,
            (Some(_), b'\\') if next == Some(b'\'') => {
                word.push(b'\'');
                at += 1;
            }
            _ => word.push(byte),
        }
        at += 1;
    }
    Read::Open
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
fn inline(bytes: &[u8]) -> Seen<First<'_>> {
    let start = &bytes[..bytes.len().min(LONGEST_WORD)];
    let name = match word(start) {
        Read::Whole((name, _)) => name,
        Read::Open if bytes.len() < LONGEST_WORD => {
            // A word that has not ended has letters, quotes and escapes.
            ensure(start.iter().all(|byte| byte.is_ascii_alphanumeric() || b"\"'\\".contains(byte)))?;
            return Err(Evidence::Pending);
        }
        _ => return Err(Evidence::Against),
    };
    if !COMMANDS.iter().any(|known| known.eq_ignore_ascii_case(&name)) {
        ensure(!name.is_empty() && name.iter().all(u8::is_ascii_alphabetic))?;
        // What is longer is a text, and nobody is waited for who may answer it.
        let line = &bytes[..bytes.len().min(SHORT_LINE)];
        if !line.contains(&b'\n') {
            return Err(if line.len() < SHORT_LINE { Evidence::Pending } else { Evidence::Against });
        }
        return Ok(First::Word);
    }
    let line = &bytes[..bytes.len().min(LONGEST_LINE)];
    let end = line.iter().position(|byte| *byte == b'\n');
    if end.is_none() && bytes.len() < LONGEST_LINE {
        return Err(Evidence::Pending);
    }
    // `GET` is also how HTTP begins.
    ensure(!line[..end.unwrap_or(line.len())].windows(8).any(|part| part == b" HTTP/1."))?;
    Ok(First::Lenient)
}

/// A reply. A status or an error alone is what other protocols say too.
fn reply(bytes: &[u8]) -> Seen<Evidence> {
    match one_of(bytes, &ERRORS) {
        Ok(_) => return Ok(Evidence::Proof),
        Err(Evidence::Pending) => return Err(Evidence::Pending),
        Err(_) => {}
    }
    match byte(bytes, 0)? {
        b'+' => {
            one_of(bytes, &[b"+OK\r\n", b"+PONG\r\n", b"+QUEUED\r\n", b"+FULLRESYNC ", b"+CONTINUE"])?;
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
            let (elements, at) = number(bytes, 1)?;
            ensure(elements == 0 || b"+-:$*_#,(!=%~>".contains(&byte(bytes, at)?))?;
            Ok(Evidence::Fits)
        }
        _ => Err(Evidence::Against),
    }
}

fn known(name: &[u8]) -> Option<&'static str> {
    let known = COMMANDS.iter().find(|command| command.eq_ignore_ascii_case(name))?;
    std::str::from_utf8(known).ok().filter(|name| name.bytes().all(is_text))
}
