//! POP3 (RFC 1939), with STLS (RFC 2595).

use super::dialogue::{self, Dialect, Reply};
use crate::bytes::{line, starts_with_ignore_case};
use crate::probe::{Prefix, Probe};
use crate::{Hint, Protocol};

const DIALECT: Dialect = Dialect {
    protocol: Protocol::Pop3,
    greetings: &[b"+OK"],
    name: b"POP",
    openings: &[b"CAPA", b"USER", b"APOP", b"AUTH"],
    foreign: &[],
    foreign_name: b"",
    neutral: &[b"CAPA", b"NOOP", b"LANG", b"UTF8", b"AUTH"],
    log_ins: &[b"USER", b"PASS", b"APOP", b"AUTH "],
    upgrades: &[b"STLS"],
    offer: b"STLS",
    reply,
    command: dialogue::untagged,
};

pub(crate) fn probe(client: Prefix<'_>, server: Prefix<'_>, _hint: Hint) -> Probe {
    dialogue::probe(&DIALECT, client, server)
}

/// One line, and for a list all up to a line with a dot: of capabilities (RFC 2449), of mechanisms, of languages (RFC 6856).
fn reply<'a>(bytes: &'a [u8], command: Option<&[u8]>) -> Option<Reply<'a>> {
    let (text, mut at) = line(bytes)?;
    let granted = text.starts_with(b"+OK");
    let is_list = command.is_some_and(|command| {
        let is_alone = |word: &[u8]| command.trim_ascii_end().eq_ignore_ascii_case(word);
        starts_with_ignore_case(command, b"CAPA") || is_alone(b"AUTH") || is_alone(b"LANG")
    });
    if granted && is_list {
        loop {
            let (text, next) = line(&bytes[at..])?;
            at += next;
            if text == b"." {
                break;
            }
        }
    }
    Some(Reply { text: &bytes[..at], granted, refused: text.starts_with(b"-ERR") })
}
