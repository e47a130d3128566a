//! SMTP (RFC 5321) and LMTP, with STARTTLS (RFC 3207).

use super::dialogue::{self, Dialect};
use crate::probe::{Prefix, Probe};
use crate::{Hint, Protocol};

pub(super) const OPENINGS: [&[u8]; 14] = [
    b"EHLO",
    b"HELO",
    b"LHLO",
    b"XCLIENT",
    b"MAIL",
    b"RCPT",
    b"STARTTLS",
    b"AUTH PLAIN",
    b"AUTH LOGIN",
    b"AUTH CRAM-MD5",
    b"AUTH DIGEST-MD5",
    b"AUTH NTLM",
    b"AUTH XOAUTH2",
    b"AUTH OAUTHBEARER",
];

const DIALECT: Dialect = Dialect {
    protocol: Protocol::Smtp,
    greetings: &[b"220 ", b"220-", b"421 ", b"554 ", b"554-"],
    name: b"SMTP",
    openings: &OPENINGS,
    foreign: &super::ftp::OPENINGS,
    foreign_name: b"FTP",
    neutral: &[b"EHLO", b"HELO", b"LHLO", b"XCLIENT", b"NOOP", b"RSET", b"HELP"],
    log_ins: &[b"AUTH"],
    upgrades: &[b"STARTTLS"],
    offer: b"STARTTLS",
    reply: dialogue::numbered_reply,
    command: dialogue::untagged,
};

pub(crate) fn probe(client: Prefix<'_>, server: Prefix<'_>, _hint: Hint) -> Probe {
    dialogue::probe(&DIALECT, client, server)
}
