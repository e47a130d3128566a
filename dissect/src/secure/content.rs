//! What the messages of a handshake in the clear hold: all of them up to TLS 1.2 and DTLS 1.2, the hellos later on.
//!
//! In: one direction's messages, each as far as it is there. Out: what of them anyone can read where stacks have only
//! numbers, keys and DER. Must never: take names (of hosts, protocols, keys, issuers) or a certificate, whatever it
//! says, for that.

use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

use super::flight::{CERTIFICATE, CERTIFICATE_REQUEST, SERVER_KEY_EXCHANGE};
use super::hello::{Carrier, ServerHello, each_extension, extension};
use super::order::{CLIENT_HELLO, HELLO_VERIFY_REQUEST, NEW_SESSION_TICKET, SERVER_HELLO};
use super::{names, seen_chains};
use crate::bytes::Reader;
use crate::readable::{LONG_TEXT, has_long_text_within, has_no_chance_within, has_text_within, is_no_chance};

const CLIENT_KEY_EXCHANGE: u8 = 16;
const CERTIFICATE_STATUS: u8 = 22;
/// A lifetime and a length stand before a ticket (RFC 5077 section 3.3).
const TICKET: usize = 6;
/// Values within values: a chain of OCSP takes a dozen.
const MOST_DEPTH: usize = 24;
const CONSTRUCTED: u8 = 0x20;
const SEQUENCE: u8 = 0x30;

/// Kind, body as far as it is there, and whether that is all of it.
type Message<'a> = (u8, &'a [u8], bool);

/// The first thing that can be read, in messages that the server answered with this hello.
pub(super) fn shown<'a>(
    mut messages: impl Iterator<Item = Message<'a>>,
    answer: &ServerHello,
) -> Option<&'static str> {
    const TICKET_SHOWN: &str = "a ticket that can be read";
    const SHOWN: &str = "a message of the handshake that can be read";
    messages.find_map(|(kind, body, whole)| {
        let datagram = answer.carrier == Carrier::Datagram;
        match kind {
            CLIENT_HELLO | SERVER_HELLO => match hello(kind, body, datagram) {
                Hello::Ticket => Some(TICKET_SHOWN),
                Hello::Text => Some(SHOWN),
                Hello::Names => None,
            },
            // A cookie, short.
            HELLO_VERIFY_REQUEST => None,
            NEW_SESSION_TICKET => can_be_read(body.get(TICKET..)?).then_some(TICKET_SHOWN),
            CERTIFICATE => {
                let judge = |body: &[u8]| list(body, whole).any(|piece| !piece.is_certificate());
                let is_shown = if whole { seen_chains::holds_others(body, judge) } else { judge(body) };
                is_shown.then_some(SHOWN)
            }
            CERTIFICATE_STATUS => (!is_status(body, whole)).then_some(SHOWN),
            CERTIFICATE_REQUEST => (!is_request(body, whole, answer)).then_some(SHOWN),
            SERVER_KEY_EXCHANGE => has_text_within(behind_identity(body, answer)).then_some(SHOWN),
            CLIENT_KEY_EXCHANGE => has_no_chance_within(behind_identity(body, answer)).then_some(SHOWN),
            _ => has_no_chance_within(body).then_some(SHOWN),
        }
    })
}

/// A server seals a ticket (RFC 5077 section 4), or makes it up; to the client it is any bytes.
fn can_be_read(ticket: &[u8]) -> bool {
    is_no_chance(ticket) || has_no_chance_within(ticket)
}

enum Hello {
    Ticket,
    Text,
    /// At most.
    Names,
}

/// RFC 8446 section 4.1.2 and 4.1.3. Lists repeat, and padding does (RFC 7685): only text counts.
fn hello(kind: u8, body: &[u8], datagram: bool) -> Hello {
    let front = || {
        let mut reader = Reader::new(body);
        reader.take(2 + 32)?;
        reader.vector8()?;
        if kind == CLIENT_HELLO {
            if datagram {
                reader.vector8()?;
            }
            reader.vector16()?;
            reader.vector8()?;
        } else {
            reader.take(3)?;
        }
        let at = body.len() - reader.rest().len();
        let extensions = if reader.is_empty() { &[] } else { reader.vector16()? };
        Some((&body[..at], extensions, reader.rest()))
    };
    let Some((front, extensions, behind)) = front() else {
        return if has_text_within(body) { Hello::Text } else { Hello::Names };
    };
    let (mut ticket, mut text) = (false, has_text_within(front) || has_text_within(behind));
    let read = each_extension(extensions, |kind, value| match kind {
        extension::SESSION_TICKET => ticket |= can_be_read(value),
        _ if holds_names(kind) => text |= has_long_text_within(value),
        _ => text |= has_text_within(value),
    });
    match (ticket, text || read.is_none() && has_text_within(extensions)) {
        (true, _) => Hello::Ticket,
        (false, true) => Hello::Text,
        (false, false) => Hello::Names,
    }
}

fn holds_names(kind: u16) -> bool {
    /// RFC 6066 section 6, RFC 5054, RFC 8446 section 4.2.4; two forms of ALPN that never became standards.
    const OTHERS: [u16; 6] = [3, 12, 47, 13_172, 17_513, 17_613];
    matches!(
        kind,
        extension::SERVER_NAME | extension::ALPN | extension::PRE_SHARED_KEY | extension::QUIC_PARAMETERS
    ) || OTHERS.contains(&kind)
}

/// What follows the identity of a key that is shared beforehand, or a hint at it (RFC 4279 section 2).
fn behind_identity<'a>(body: &'a [u8], answer: &ServerHello) -> &'a [u8] {
    let mut reader = Reader::new(body);
    let identity = names::suite(answer.suite).contains("PSK_").then(|| reader.vector16()).flatten();
    if identity.is_some_and(|identity| identity.len() <= LONG_TEXT) { reader.rest() } else { body }
}

/// What should be DER.
struct Piece<'a> {
    bytes: &'a [u8],
    /// There is more of it than these.
    cut: bool,
}

/// A list of such as TLS has it, each led by its length in three bytes, so far as it is one; what is none as one piece.
fn list(body: &[u8], whole: bool) -> impl Iterator<Item = Piece<'_>> {
    let mut reader = Reader::new(body);
    let length = reader.u24().unwrap_or(0);
    let is_list = if whole { length == reader.rest().len() } else { length >= reader.rest().len() };
    let mut rest = Reader::new(if is_list { reader.rest() } else { body });
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let bytes = rest.rest();
        let length = rest.u24().filter(|_| is_list);
        let there = length.map(|length| length.min(rest.rest().len()));
        match length.zip(there.and_then(|there| rest.take(there))) {
            Some((length, entry)) if entry.len() == length || !whole => {
                Some(Piece { bytes: entry, cut: entry.len() < length })
            }
            _ => {
                rest = Reader::new(&[]);
                Some(Piece { bytes, cut: false })
            }
        }
    })
}

impl Piece<'_> {
    /// Or nothing that can be read.
    fn is_certificate(&self) -> bool {
        !has_no_chance_within(self.bytes)
            || X509Certificate::from_der(self.bytes).is_ok_and(|(rest, _)| rest.is_empty())
            || is_der(self.bytes, self.cut, MOST_DEPTH)
    }

    fn is_der(&self) -> bool {
        !has_no_chance_within(self.bytes) || is_der(self.bytes, self.cut, MOST_DEPTH)
    }
}

/// An answer of OCSP (RFC 6066 section 8), or several (RFC 6961 section 2.2).
fn is_status(body: &[u8], whole: bool) -> bool {
    const SEVERAL: u8 = 2;
    match body.split_first() {
        Some((&SEVERAL, answers)) => list(answers, whole).all(|piece| piece.is_der()),
        Some((_, answer)) => {
            let mut reader = Reader::new(answer);
            let length = reader.u24().unwrap_or(0);
            let cut = !whole && length > reader.rest().len();
            let fits = cut || length == reader.rest().len();
            Piece { bytes: if fits { reader.rest() } else { answer }, cut }.is_der()
        }
        None => true,
    }
}

/// Names of issuers behind kinds of certificates and, since TLS 1.2, of signatures (RFC 5246 section 7.4.4).
fn is_request(body: &[u8], whole: bool, answer: &ServerHello) -> bool {
    let named = || {
        let mut reader = Reader::new(body);
        reader.vector8()?;
        if matches!(answer.version, 0x0303 | 0xfefd) {
            reader.vector16()?;
        }
        let at = body.len() - reader.rest().len();
        let length = usize::from(reader.u16()?);
        let there = reader.rest().len();
        (length == there || !whole && length > there).then_some((at, reader))
    };
    let Some((at, mut issuers)) = named() else { return !has_no_chance_within(body) };
    if has_text_within(&body[..at]) {
        return false;
    }
    while let Some(length) = issuers.u16() {
        let there = issuers.rest().len().min(usize::from(length));
        let cut = there < usize::from(length);
        let issuer = issuers.take(there).unwrap_or(&[]);
        if !(Piece { bytes: issuer, cut: cut && !whole }).is_der() {
            return false;
        }
    }
    true
}

/// Whether these are values as DER has them (X.690), one behind the other, and none of them a long text. `cut`: the
/// last one may be incomplete.
fn is_der(bytes: &[u8], cut: bool, depth: usize) -> bool {
    let mut reader = Reader::new(bytes);
    while let Some(tag) = reader.u8() {
        let Some(length) = der_length(&mut reader) else { return cut && reader.is_empty() };
        let there = reader.rest().len().min(length);
        let is_cut = there < length;
        let value = reader.take(there).unwrap_or(&[]);
        // Tags of several bytes have no use here.
        if tag & 0x1f == 0x1f || depth == 0 || is_cut && !cut {
            return false;
        }
        let is_fine = match tag & CONSTRUCTED {
            0 => is_short_or_sealed(value, is_cut, depth - 1),
            _ => is_der(value, is_cut, depth - 1),
        };
        if !is_fine {
            return false;
        }
    }
    true
}

fn is_short_or_sealed(value: &[u8], cut: bool, depth: usize) -> bool {
    value.len() <= LONG_TEXT
        || !has_no_chance_within(value)
        || value.first() == Some(&SEQUENCE) && is_der(value, cut, depth)
}

fn der_length(reader: &mut Reader<'_>) -> Option<usize> {
    match reader.u8()? {
        short @ 0..=0x7f => Some(usize::from(short)),
        0x81 => reader.u8().map(usize::from),
        0x82 => reader.u16().map(usize::from),
        0x83 => reader.u24(),
        _ => None,
    }
}
