//! FTP's control connection (RFC 959), with AUTH TLS (RFC 4217).

use super::dialogue::{self, Dialect};
use crate::probe::{Prefix, Probe};
use crate::{Hint, Protocol};

pub(super) const OPENINGS: [&[u8]; 23] = [
    b"USER",
    b"FEAT",
    b"SYST",
    b"OPTS",
    b"CLNT",
    b"HOST",
    b"PASS",
    b"ACCT",
    b"PBSZ",
    b"PROT",
    b"PASV",
    b"EPSV",
    b"PORT",
    b"EPRT",
    b"TYPE",
    b"LIST",
    b"NLST",
    b"RETR",
    b"STOR",
    b"CWD",
    b"PWD",
    b"AUTH TLS",
    b"AUTH SSL",
];

const DIALECT: Dialect = Dialect {
    protocol: Protocol::Ftp,
    greetings: &[b"220 ", b"220-", b"120 "],
    name: b"FTP",
    openings: &OPENINGS,
    foreign: &super::smtp::OPENINGS,
    foreign_name: b"SMTP",
    neutral: &[b"FEAT", b"SYST", b"OPTS", b"CLNT", b"HOST", b"NOOP", b"HELP", b"LANG"],
    log_ins: &[b"USER", b"PASS", b"ACCT"],
    upgrades: &[b"AUTH TLS", b"AUTH SSL", b"AUTH TLS-C"],
    offer: b"AUTH TLS",
    reply: dialogue::numbered_reply,
    command: dialogue::untagged,
};

pub(crate) fn probe(client: Prefix<'_>, server: Prefix<'_>, _hint: Hint) -> Probe {
    dialogue::probe(&DIALECT, client, server)
}
