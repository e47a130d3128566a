//! Protocols that begin in text (or BER) and may turn into TLS: SMTP, FTP, POP3, IMAP, LDAP, XMPP.

pub(crate) mod dialogue;
pub(crate) mod ftp;
pub(crate) mod imap;
pub(crate) mod ldap;
pub(crate) mod pop3;
pub(crate) mod smtp;
pub(crate) mod xmpp;

use crate::Hint;
use crate::probe::{Prefix, Probe};

pub(crate) const STREAM: &[fn(Prefix<'_>, Prefix<'_>, Hint) -> Probe] =
    &[smtp::probe, ftp::probe, pop3::probe, imap::probe, ldap::probe, xmpp::probe];
