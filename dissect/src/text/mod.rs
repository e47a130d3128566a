//! Protocols that begin in text (or BER) and may turn into TLS: SMTP, FTP, POP3, IMAP, LDAP, XMPP.

pub(crate) mod dialogue;
pub(crate) mod ftp;
pub(crate) mod imap;
pub(crate) mod ldap;
pub(crate) mod pop3;
pub(crate) mod smtp;
pub(crate) mod xmpp;

use crate::Hint;
use crate::bytes::{line, starts_with_ignore_case};
use crate::probe::{Prefix, Probe};

pub(crate) const STREAM: &[fn(Prefix<'_>, Prefix<'_>, Hint) -> Probe] =
    &[smtp::probe, ftp::probe, pop3, imap::probe, ldap::probe, xmpp::probe];

/// Mechanisms of SASL (IANA), without their numbers and hashes.
const MECHANISMS: [&[u8]; 14] = [
    b"PLAIN",
    b"LOGIN",
    b"CRAM-MD5",
    b"DIGEST-MD5",
    b"SCRAM-",
    b"NTLM",
    b"GSSAPI",
    b"GSS-SPNEGO",
    b"GS2-",
    b"KERBEROS_V4",
    b"EXTERNAL",
    b"ANONYMOUS",
    b"OAUTHBEARER",
    b"XOAUTH",
];

/// Redis answers `AUTH` and a password with what may be a greeting of POP3, and more like it follows.
fn pop3(client: Prefix<'_>, server: Prefix<'_>, hint: Hint) -> Probe {
    if server.bytes.starts_with(b"+OK\r\n")
        && let Some((command, _)) = line(client.bytes)
        && starts_with_ignore_case(command, b"AUTH ")
        && !MECHANISMS.iter().any(|mechanism| starts_with_ignore_case(&command[5..], mechanism))
    {
        return Probe::No;
    }
    pop3::probe(client, server, hint)
}
