//! The messages of a handshake in the clear: TLS and DTLS up to 1.2.
//!
//! In: each direction's messages after its hello. Out: certificates, how the key was exchanged and
//! signed, and whether the client proved who it is.

use super::certificate;
use super::hello::ServerHello;
use super::names::{self, KeyExchange};
use crate::bytes::Reader;
use crate::{Basis, ClientCertificate, ClientCertificateState as State, TlsFacts};

pub(super) const CERTIFICATE: u8 = 11;
pub(super) const SERVER_KEY_EXCHANGE: u8 = 12;
pub(super) const CERTIFICATE_REQUEST: u8 = 13;
const SERVER_HELLO_DONE: u8 = 14;
const CERTIFICATE_VERIFY: u8 = 15;

/// How the primes of RFC 7919 begin: 2^n - 2^(n-64), and the digits of e.
const NAMED_PRIME: [u8; 16] =
    [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xad, 0xf8, 0x54, 0x58, 0xa2, 0xbb, 0x4a, 0x9a];

/// What the server's messages were.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ServerFlight {
    /// Some message of a full handshake was there.
    pub full: bool,
    /// There was a certificate, or a bare key in its place.
    pub certificate: bool,
    pub done: bool,
    asked: bool,
}

/// What the client's were.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ClientFlight {
    /// A Certificate, and whether it holds one.
    certificate: Option<bool>,
    proof: bool,
}

/// Reads messages of the server: kind, body, and whether that is all of it.
pub(super) fn read_server<'a>(
    messages: impl Iterator<Item = (u8, &'a [u8], bool)>,
    answer: &ServerHello,
    facts: &mut TlsFacts,
) -> ServerFlight {
    let mut flight = ServerFlight::default();
    for (kind, body, whole) in messages {
        flight.full |= matches!(kind, CERTIFICATE | SERVER_KEY_EXCHANGE | SERVER_HELLO_DONE);
        flight.certificate |= kind == CERTIFICATE && body.iter().any(|byte| *byte != 0);
        match kind {
            CERTIFICATE if whole && !answer.raw_key => {
                facts.server_certificates = certificate::chain(body).unwrap_or_default();
            }
            SERVER_KEY_EXCHANGE => key_exchange(body, whole, answer, facts),
            CERTIFICATE_REQUEST => flight.asked = true,
            SERVER_HELLO_DONE => flight.done = true,
            _ => {}
        }
    }
    flight
}

pub(super) fn read_client<'a>(
    messages: impl Iterator<Item = (u8, &'a [u8], bool)>,
    answer: &ServerHello,
    facts: &mut TlsFacts,
) -> ClientFlight {
    let mut flight = ClientFlight::default();
    for (kind, body, whole) in messages {
        match kind {
            CERTIFICATE if whole => {
                flight.certificate = Some(body.iter().take(3).any(|byte| *byte != 0));
                if !answer.client_raw_key {
                    facts.client_certificates = certificate::chain(body).unwrap_or_default();
                }
            }
            CERTIFICATE_VERIFY => flight.proof = true,
            _ => {}
        }
    }
    flight
}

/// `through`: the server accepted the client's flight. `no_certificate`: see
/// [`super::record::Side::no_certificate`].
pub(super) fn client_certificate(
    server: ServerFlight,
    client: ClientFlight,
    through: bool,
    no_certificate: bool,
    resumed: Option<bool>,
) -> ClientCertificate {
    let state = match (server.asked, client.certificate) {
        _ if resumed == Some(true) => State::NotRequested,
        (false, None) if server.done => State::NotRequested,
        (true, Some(false)) => State::Refused,
        (true, None) if no_certificate => State::Refused,
        // RFC 5246 section 7.4.8: it proves that the client has the key.
        (true, Some(true)) if through && client.proof => State::Presented,
        _ => return ClientCertificate::default(),
    };
    ClientCertificate { state, basis: Some(Basis::Seen) }
}

/// RFC 8422 section 5.4; RFC 5246 section 7.4.3.
fn key_exchange(body: &[u8], whole: bool, answer: &ServerHello, facts: &mut TlsFacts) {
    let mut reader = Reader::new(body);
    let signed = match names::key_exchange(answer.suite) {
        KeyExchange::Curve { signed } => {
            const NAMED: u8 = 3;
            let (Some(NAMED), Some(group)) = (reader.u8(), reader.u16()) else { return };
            facts.group = Some(names::group(group));
            facts.post_quantum = names::post_quantum(group).or(facts.post_quantum);
            signed && reader.vector8().is_some()
        }
        KeyExchange::Prime { signed } => {
            let Some(prime) = reader.vector16() else { return };
            facts.group = named_prime(prime).map(Into::into);
            signed && reader.vector16().is_some() && reader.vector16().is_some()
        }
        KeyExchange::Other => false,
    };
    if !signed || !whole {
        return;
    }
    let names_scheme = matches!(answer.version, 0x0303 | 0xfefd);
    facts.signature = match reader.u16() {
        Some(scheme) if names_scheme => Some(names::signature(scheme)),
        // SHA-1 was fixed for it; RSA signed MD5 and SHA-1 together, which has no name.
        Some(_) if names::suite(answer.suite).contains("_ECDSA_") => Some(names::signature(0x0203)),
        Some(_) if names::suite(answer.suite).contains("_DSS_") => Some(names::signature(0x0202)),
        _ => None,
    };
}

fn named_prime(prime: &[u8]) -> Option<&'static str> {
    if !prime.starts_with(&NAMED_PRIME) {
        return None;
    }
    match prime.len() {
        256 => Some("ffdhe2048"),
        384 => Some("ffdhe3072"),
        512 => Some("ffdhe4096"),
        768 => Some("ffdhe6144"),
        1024 => Some("ffdhe8192"),
        _ => None,
    }
}
