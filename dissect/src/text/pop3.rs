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
    neutral: &[b"CAPA", b"NOOP", b"LANG", b"UTF8"],
    upgrades: &[b"STLS"],
    offer: b"STLS",
    reply,
    command: dialogue::untagged,
};

pub(crate) fn probe(client: Prefix<'_>, server: Prefix<'_>, _hint: Hint) -> Probe {
    dialogue::probe(&DIALECT, client, server)
}

/// One line, and for a list of capabilities (RFC 2449) all up to a line with a dot.
fn reply<'a>(bytes: &'a [u8], command: Option<&[u8]>) -> Option<Reply<'a>> {
    let (text, mut at) = line(bytes)?;
    let granted = text.starts_with(b"+OK");
    let is_list = command.is_some_and(|command| starts_with_ignore_case(command, b"CAPA"));
    if granted && is_list {
        loop {
            let (text, next) = line(&bytes[at..])?;
            at += next;
            if text == b"." {
                break;
            }
        }
    }
    Some(Reply { text: &bytes[..at], granted })
}
