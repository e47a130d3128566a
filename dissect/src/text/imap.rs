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
    foreign: &[],
    foreign_name: b"",
    neutral: &[b"CAPABILITY", b"ID", b"NOOP", b"LANGUAGE"],
    log_ins: &[b"LOGIN", b"AUTHENTICATE"],
    upgrades: &[b"STARTTLS"],
    offer: b"STARTTLS",
    reply,
    command,
};

pub(crate) fn probe(client: Prefix<'_>, server: Prefix<'_>, _hint: Hint) -> Probe {
    dialogue::probe(&DIALECT, client, server)
}

/// Longer tags than this are of no client.
const LONGEST_TAG: usize = 128;

/// What follows the tag.
fn command(text: &[u8]) -> Option<&[u8]> {
    let space = text.iter().position(|b| *b == b' ')?;
    let tag = &text[..space];
    let valid = (1..=LONGEST_TAG).contains(&tag.len()) && tag.iter().all(is_tag_byte);
    valid.then(|| &text[space + 1..])
}

/// RFC 9051 section 9.
fn is_tag_byte(byte: &u8) -> bool {
    byte.is_ascii_graphic() && !b"(){%*\"\\+".contains(byte)
}

/// The greeting is a line; a reply is all lines up to the one with the command's tag, and to a line that is no command
/// up to one that says so.
fn reply<'a>(bytes: &'a [u8], line_before: Option<&[u8]>) -> Option<Reply<'a>> {
    let tag = match line_before {
        Some(text) => text.split(|b| *b == b' ').next()?,
        None => b"*",
    };
    let is_command = line_before.is_none_or(|text| command(text).is_some());
    let mut at = 0;
    loop {
        let (text, next) = line(bytes.get(at..)?)?;
        at += next;
        let untagged_refusal = !is_command && text.starts_with(b"* BAD");
        let result = text.strip_prefix(tag).and_then(|rest| rest.strip_prefix(b" "));
        if let Some(result) = result.filter(|_| !tag.is_empty()).or(untagged_refusal.then_some(b"BAD")) {
            let says = |word: &[u8]| starts_with_ignore_case(result, word);
            let refused = says(b"NO") || says(b"BAD");
            return Some(Reply { text: &bytes[..at], granted: says(b"OK"), refused });
        }
        // An empty line may be passed over without a word.
        if tag.is_empty() {
            return Some(Reply { text: &bytes[..0], granted: false, refused: false });
        }
    }
}
