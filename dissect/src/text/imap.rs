//! IMAP (RFC 9051), with STARTTLS (section 6.2.1).

use super::dialogue::{self, Dialect, Reply};
use crate::bytes::{line, starts_with_ignore_case};
use crate::probe::{Prefix, Probe};
use crate::{Hint, Protocol};

const DIALECT: Dialect = Dialect {
    protocol: Protocol::Imap,
    greetings: &[b"* OK", b"* PREAUTH", b"* BYE"],
    name: b"",
    openings: &[b"LOGIN", b"AUTHENTICATE", b"CAPABILITY", b"ID", b"NOOP", b"LOGOUT", b"ENABLE", b"SELECT"],
    neutral: &[b"CAPABILITY", b"ID", b"NOOP"],
    upgrades: &[b"STARTTLS"],
    offer: b"STARTTLS",
    reply,
    command,
};

pub(crate) fn probe(client: Prefix<'_>, server: Prefix<'_>, _hint: Hint) -> Probe {
    dialogue::probe(&DIALECT, client, server)
}

/// What follows the tag.
fn command(text: &[u8]) -> Option<&[u8]> {
    let space = text.iter().position(|b| *b == b' ')?;
    let tag = &text[..space];
    let valid = (1..=32).contains(&tag.len()) && tag.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'.');
    valid.then(|| &text[space + 1..])
}

/// The greeting is a line; a reply is all lines up to the one with the command's tag.
fn reply<'a>(bytes: &'a [u8], command: Option<&[u8]>) -> Option<Reply<'a>> {
    let tag = match command {
        Some(command) => command.split_inclusive(|b| *b == b' ').next()?,
        None => b"* ",
    };
    let mut at = 0;
    loop {
        let (text, next) = line(bytes.get(at..)?)?;
        at += next;
        if let Some(result) = text.strip_prefix(tag) {
            return Some(Reply { text: &bytes[..at], granted: starts_with_ignore_case(result, b"OK") });
        }
    }
}
