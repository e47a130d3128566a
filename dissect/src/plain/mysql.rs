//! MySQL and MariaDB: what the server's greeting offers, and whether the client took TLS.
//!
//! Source: MySQL internals, "Protocol::HandshakeV10", "Protocol::SSLRequest"; MariaDB knowledge base,
//! "Connecting". Evidence: sequence 0, protocol 10, a version number, a zero filler and six reserved
//! zero bytes, each in its place: 80 bits. The server speaks first and leads.

use super::evidence::{Evidence, Seen, byte, ensure, evidence, is_text, le16, le32, led_by, shown, slice};
use crate::probe::{Found, Probe};
use crate::{Hint, Prefix, Protocol};

const CLIENT_PROTOCOL_41: u32 = 0x0200;
const CLIENT_SSL: u32 = 0x0800;

pub(super) fn probe(client: Prefix<'_>, server: Prefix<'_>, _: Hint) -> Probe {
    let of_server = if server.midstream { Evidence::Against } else { evidence(first_packet(server.bytes)) };
    let of_client = if client.midstream {
        evidence(query(client.bytes))
    } else {
        evidence(login(client.bytes).map(|_| Evidence::Proof))
    };
    led_by((server, of_server), (client, of_client)).found(|| found(client, server))
}

/// The server's first packet, as far as it matters.
struct Greeting<'a> {
    version: &'a [u8],
    offers_tls: bool,
    end: usize,
}

fn first_packet(bytes: &[u8]) -> Seen<Evidence> {
    match greeting(bytes) {
        Ok(_) => Ok(Evidence::Proof),
        Err(Evidence::Pending) => Err(Evidence::Pending),
        Err(_) => refusal(bytes),
    }
}

fn greeting(bytes: &[u8]) -> Seen<Greeting<'_>> {
    let length = usize::from(le16(bytes, 0)?);
    ensure((45..=512).contains(&length) && byte(bytes, 2)? == 0)?;
    ensure(byte(bytes, 3)? == 0 && byte(bytes, 4)? == 10)?;
    let version = version(bytes)?;
    // Thread id, eight bytes of challenge, then a zero.
    let at = 5 + version.len() + 1;
    ensure(byte(bytes, at + 12)? == 0)?;
    let capabilities = u32::from(le16(bytes, at + 13)?) | u32::from(le16(bytes, at + 18)?) << 16;
    ensure(slice(bytes, at + 21, 6)?.iter().all(|byte| *byte == 0) && at + 31 <= 4 + length)?;
    Ok(Greeting { version, offers_tls: capabilities & CLIENT_SSL != 0, end: 4 + length })
}

fn version(bytes: &[u8]) -> Seen<&[u8]> {
    let text = bytes.get(5..).unwrap_or(&[]);
    ensure(text.first().is_none_or(u8::is_ascii_digit))?;
    let length = text.iter().take(100).take_while(|byte| is_text(**byte)).count();
    match text.get(length) {
        None => Err(Evidence::Pending),
        Some(0) if text[..length].contains(&b'.') => Ok(&text[..length]),
        Some(_) => Err(Evidence::Against),
    }
}

/// An error instead of a greeting: `0xff`, a code, and a sentence for people.
fn refusal(bytes: &[u8]) -> Seen<Evidence> {
    let length = usize::from(le16(bytes, 0)?);
    ensure((13..=600).contains(&length) && byte(bytes, 2)? == 0)?;
    ensure(byte(bytes, 3)? == 0 && byte(bytes, 4)? == 0xff && (1000..6000).contains(&le16(bytes, 5)?))?;
    let sentence = bytes.get(7..(4 + length).min(bytes.len())).unwrap_or(&[]);
    ensure(sentence.iter().all(|byte| is_text(*byte) || *byte >= 0x80))?;
    slice(bytes, 7, (length - 3).min(32))?;
    Ok(Evidence::Proof)
}

/// The client's first packet: either the short one that asks for TLS, or the login itself.
#[derive(Debug, PartialEq, Eq)]
enum Login {
    TlsRequest,
    InTheClear,
}

fn login(bytes: &[u8]) -> Seen<Login> {
    let length = usize::from(le16(bytes, 0)?);
    ensure(length >= 32 && byte(bytes, 2)? <= 1 && byte(bytes, 3)? == 1)?;
    let capabilities = le32(bytes, 4)?;
    ensure(capabilities & CLIENT_PROTOCOL_41 != 0)?;
    // MariaDB has taken the last four of the 23 reserved bytes for capabilities of its own.
    ensure(slice(bytes, 13, 19)?.iter().all(|byte| *byte == 0))?;
    let asks = length == 32 && capabilities & CLIENT_SSL != 0;
    Ok(if asks { Login::TlsRequest } else { Login::InTheClear })
}

/// In the middle of a connection: a query in words.
fn query(bytes: &[u8]) -> Seen<Evidence> {
    let length = usize::from(le16(bytes, 0)?);
    ensure(length >= 6 && byte(bytes, 2)? <= 16 && byte(bytes, 3)? == 0 && byte(bytes, 4)? == 3)?;
    // Query attributes (MySQL 8.0.23): none of them, in one set.
    let at = if byte(bytes, 5)? == 0 { 7 } else { 5 };
    let verb: Vec<u8> = slice(bytes, at, 6)?.to_ascii_uppercase();
    let verbs: [&[u8]; 10] = [
        b"SELECT", b"INSERT", b"UPDATE", b"DELETE", b"REPLAC", b"COMMIT", b"SHOW ", b"BEGIN", b"SET ",
        b"USE ",
    ];
    ensure(verbs.iter().any(|known| verb.starts_with(known)))?;
    Ok(Evidence::Proof)
}

fn found(client: Prefix<'_>, server: Prefix<'_>) -> Found {
    let mut found = Found::plain(Protocol::Mysql);
    let server_missing = server.midstream || (server.ended && server.bytes.is_empty());
    let greeting = greeting(server.bytes).ok().filter(|_| !server.midstream);
    let Some(greeting) = greeting else {
        if server_missing && !client.midstream {
            // Whether the server agreed was not seen; what follows has to be looked at by itself.
            let asked = login(client.bytes) == Ok(Login::TlsRequest);
            found.upgraded_at = asked.then_some((36, 0));
            found.upgrade_offered = asked;
        } else if !server_missing {
            found.detail = Some(refused(server.bytes));
        }
        return found;
    };
    let name = product(greeting.version);
    found.upgrade_offered = greeting.offers_tls;
    let first = if client.midstream { Err(Evidence::Against) } else { login(client.bytes) };
    let told = match first {
        Ok(Login::TlsRequest) if greeting.offers_tls => {
            found.upgraded_at = Some((36, greeting.end));
            "TLS"
        }
        Err(Evidence::Pending) => {
            found.settled = client.ended;
            if greeting.offers_tls { "TLS offered" } else { "no TLS offered" }
        }
        _ if greeting.offers_tls => "TLS offered, not used",
        _ => "no TLS offered",
    };
    found.detail = Some(format!("{name} server, {told}"));
    found
}

/// `MySQL 8.0.36`, `MariaDB 10.11.6`: the product and its number, without the builder's suffixes.
fn product(version: &[u8]) -> String {
    let mariadb = version.windows(7).any(|part| part.eq_ignore_ascii_case(b"mariadb"));
    // MariaDB before 11 leads with a number that old replicas understand.
    let version = version.strip_prefix(b"5.5.5-").filter(|_| mariadb).unwrap_or(version);
    let number = version.split(|byte| !byte.is_ascii_digit() && *byte != b'.').next().unwrap_or(&[]);
    format!("{} {}", if mariadb { "MariaDB" } else { "MySQL" }, shown(number))
}

fn refused(bytes: &[u8]) -> String {
    format!("the server refused the connection with error {}", le16(bytes, 5).unwrap_or_default())
}
