//! SSL 2 (draft-hickman-netscape-ssl-00): recognised as what it is, and no further.
//!
//! In: a client's hello that offers nothing newer, and the server's bytes. Out: that it is SSL 2, and
//! the server's certificate. Must never: call it encrypted; its encryption is broken and its records
//! are not followed.

use super::tls::inspection;
use super::{Secure, certificate, names};
use crate::bytes::Reader;
use crate::{Prefix, Protection, TlsFacts, UnknownReason};

pub(super) const VERSION: u16 = 0x0002;
const SERVER_HELLO: u8 = 4;
const X509: u8 = 1;

pub(super) fn look(mut facts: TlsFacts, server: Prefix<'_>) -> Secure {
    let handshake = Protection::Unknown(UnknownReason::Handshake);
    let (detail, answered) = match server_hello(server.bytes) {
        Some(der) => {
            let (protocol, version) = names::version(VERSION);
            facts.version = Some(version.into());
            facts.version_protocol = Some(protocol.into());
            facts.server_certificates = certificate::single(der).into_iter().collect();
            ("SSL 2, which protects nothing any more", true)
        }
        None => ("SSL 2 handshake, not answered so far", false),
    };
    Secure::Is(inspection(handshake, facts, detail.into(), answered))
}

/// The certificate in a whole SERVER-HELLO.
fn server_hello(bytes: &[u8]) -> Option<&[u8]> {
    let mut reader = Reader::new(bytes);
    let length = reader.u16()?;
    let mut body = Reader::new(reader.take(usize::from(length & 0x7fff))?);
    let (kind, _hit, certificate_type, version) = (body.u8()?, body.u8()?, body.u8()?, body.u16()?);
    let (certificate, specs, id) = (body.u16()?, body.u16()?, body.u16()?);
    let right = length & 0x8000 != 0 && kind == SERVER_HELLO && version == VERSION;
    let der = body.take(usize::from(certificate))?;
    let all = body.take(usize::from(specs)).is_some() && body.take(usize::from(id)).is_some();
    (right && all && body.is_empty() && (certificate_type == X509 || der.is_empty())).then_some(der)
}
