//! DTLS (RFC 6347, RFC 9147).
//!
//! In: both directions' datagrams. Out: what was negotiated and shown; encrypted once both sides sent
//! protected records. Must never: take hellos alone for encryption.

use std::collections::BTreeMap;

use super::hello::{ClientHello, ServerHello};
use super::order::{CLIENT_HELLO, HELLO_VERIFY_REQUEST, Order, SERVER_HELLO};
use super::record::{ALERT, APPLICATION_DATA, CHANGE_CIPHER_SPEC, HANDSHAKE, can_be_read};
use super::{DATAGRAMS_BEHIND, Secure, content, flight, names, tls};
use crate::bytes::{Reader, capped};
use crate::plain::stun;
use crate::{
    Basis, Cipher, ClientCertificate, ClientCertificateState, End, Facts, Inspection, Plain, Protection,
    Protocol, Reassembly, TlsAlert, TlsFacts, UnknownReason, readable,
};

/// A protected record with a connection id.
const WITH_ID: u8 = 25;
const ACK: u8 = 26;
/// Of a record, but for the unified one.
const HEADER: usize = 13;
/// A message may be as long as a chain of certificates.
const LONGEST_MESSAGE: usize = 1 << 16;
const MOST_MESSAGES: usize = 32;
/// No protected record is shorter: DTLS 1.3 takes as much to hide its number (RFC 9147 section 4.2.3), and
/// before it the shortest have a nonce of 8 bytes, a tag of 8, and a message.
const SHORTEST_PROTECTED: usize = 16;
/// No capture of a datagram ends before.
const SHORTEST_CUT: usize = 256;
const OPAQUE: Protection = Protection::Unknown(UnknownReason::Opaque);

/// A record, cut short where its datagram was.
struct Record<'a> {
    kind: u8,
    epoch: u16,
    /// It has the unified header of DTLS 1.3.
    unified: bool,
    payload: &'a [u8],
}

impl<'a> Record<'a> {
    /// The payload behind the unified header, where that can be told.
    fn sealed(&self) -> &'a [u8] {
        let header = match self.payload.first() {
            // A connection id of unknown length, a number of one byte or two, a length (RFC 9147 section 4).
            Some(flags) if self.unified && flags & 0x10 == 0 => {
                2 + usize::from(flags & 0x08 != 0) + 2 * usize::from(flags & 0x04 != 0)
            }
            _ => 0,
        };
        self.payload.get(header..).unwrap_or(&[])
    }

    /// What stacks send in epoch 0, and nothing else. Messages of the handshake: see [`Flight::holds_others`].
    fn may_be_in_the_clear(&self) -> bool {
        let payload = self.payload;
        match self.kind {
            // OpenSSL's DTLS before the RFC adds a number.
            CHANGE_CIPHER_SPEC => {
                payload.first().is_none_or(|byte| *byte == 1) && matches!(payload.len(), 0 | 1 | 3)
            }
            ALERT => payload.len() <= 2 && payload.first().is_none_or(|level| matches!(level, 1 | 2)),
            HANDSHAKE => true,
            // Numbers of epochs and records, of 8 bytes each (RFC 9147 section 7).
            ACK => {
                let numbers = payload.get(2..).unwrap_or(&[]);
                numbers.chunks(8).step_by(2).all(|epoch| epoch.iter().take(7).all(|byte| *byte == 0))
            }
            _ => false,
        }
    }
}

/// The records of a datagram; ends where they end or are none.
fn records(datagram: &[u8]) -> impl Iterator<Item = Record<'_>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let mut reader = Reader::new(rest);
        let kind = reader.u8()?;
        // The unified header of DTLS 1.3 (RFC 9147 section 4) is only ever on protected records.
        if kind & 0xe0 == 0x20 {
            let payload = std::mem::take(&mut rest);
            return Some(Record { kind: APPLICATION_DATA, epoch: 1, unified: true, payload });
        }
        let (version, epoch) = (reader.u16()?, reader.u16()?);
        reader.take(6)?;
        // A connection id of unknown length goes before the record's (RFC 9146 section 4): it is taken to be all of the rest.
        let length = reader.u16()?;
        let length = if kind == WITH_ID { usize::MAX } else { usize::from(length) };
        if !(20..=26).contains(&kind) || !matches!(version, 0xfeff | 0xfefd | 0xfefc | 0x0100) {
            return None;
        }
        let payload = &reader.rest()[..reader.rest().len().min(length)];
        rest = &reader.rest()[payload.len()..];
        Some(Record { kind, epoch, unified: false, payload })
    })
}

/// A message of the handshake in the clear, put together from its fragments (RFC 6347 section 4.2.3).
struct Message {
    kind: u8,
    length: usize,
    body: Reassembly,
}

/// One direction's part of the handshake.
struct Flight<'a> {
    /// The datagrams that it took: after a protected record and with no message missing, what comes
    /// belongs to it no more. Datagrams may overtake each other, so the one does not imply the other.
    datagrams: &'a [&'a [u8]],
    messages: Messages,
    /// A protected record was there, and it cannot be read.
    protected: bool,
    whole: bool,
    /// The datagrams that are looked at for what was not sealed, and whether there will be no more.
    seen: &'a [&'a [u8]],
    done: bool,
}

impl<'a> Flight<'a> {
    /// `modern`: DTLS 1.3 was negotiated, whose protected records have the unified header, as no others do.
    fn read(datagrams: &'a [&'a [u8]], modern: bool) -> Flight<'a> {
        let mut messages = Messages(BTreeMap::new());
        let mut protected = false;
        for (at, datagram) in datagrams.iter().enumerate() {
            messages.add(datagram);
            protected |= records(datagram).any(|record| {
                record.epoch > 0
                    && record.unified == modern
                    && record.payload.len() >= SHORTEST_PROTECTED
                    && !can_be_read(record.payload)
            });
            if protected && messages.whole() {
                let last = at + DATAGRAMS_BEHIND;
                let (seen, done) = match datagrams.get(..=last) {
                    Some(seen) => (seen, true),
                    None => (datagrams, false),
                };
                return Flight { datagrams: &datagrams[..=at], messages, protected, whole: true, seen, done };
            }
        }
        Flight { datagrams, messages, protected, whole: false, seen: datagrams, done: false }
    }

    /// Whether there is more in the clear than the messages of a handshake: others, or the same with another content.
    fn holds_others(&self, order: Order) -> bool {
        let mut all = Messages(BTreeMap::new());
        self.seen.iter().for_each(|datagram| all.add(datagram));
        // Who begins anew, or asks for another cookie, takes the same numbers.
        let may_differ = |it: &Fragment<'_>| matches!(it.kind, CLIENT_HELLO | HELLO_VERIFY_REQUEST);
        let mut sent = self.seen.iter().flat_map(|datagram| fragments(datagram));
        let messages = all.iter().filter(|(kind, _, _)| *kind != HELLO_VERIFY_REQUEST);
        sent.any(|it| !may_differ(&it) && !all.hold(&it)) || order.first_wrong(messages).is_some()
    }
}

/// Whether the server chose DTLS 1.3.
fn is_modern(server: &[&[u8]]) -> bool {
    let mut messages = Messages(BTreeMap::new());
    let answer = server.iter().find_map(|datagram| {
        messages.add(datagram);
        let mut answers = messages.all(SERVER_HELLO).filter_map(|body| ServerHello::parse(body, true));
        answers.find(|answer| !answer.retry)
    });
    answer.is_some_and(|answer| answer.encrypts_handshake())
}

/// The messages of one direction, in their order.
struct Messages(BTreeMap<u16, Message>);

impl Messages {
    fn add(&mut self, datagram: &[u8]) {
        let messages = &mut self.0;
        for fragment in fragments(datagram) {
            if !messages.contains_key(&fragment.number) && messages.len() >= MOST_MESSAGES {
                continue;
            }
            let message = messages.entry(fragment.number).or_insert_with(|| Message {
                kind: fragment.kind,
                length: fragment.length,
                body: Reassembly::new(u32::try_from(fragment.length).unwrap_or(0)),
            });
            if message.kind == fragment.kind && message.length == fragment.length {
                message.body.push(fragment.offset, fragment.bytes);
            }
        }
    }

    /// Whether it is a piece of one of them, as it was sent before, as far as that is there.
    fn hold(&self, fragment: &Fragment<'_>) -> bool {
        self.0.get(&fragment.number).is_some_and(|message| {
            let body = message.body.prefix();
            let sent = body.get(fragment.offset as usize..).unwrap_or(&[]);
            let as_sent = body.len() < message.length || sent.starts_with(fragment.bytes);
            message.kind == fragment.kind && message.length == fragment.length && as_sent
        })
    }

    /// From the first to the last, none is missing. (A server that is asked for a cookie starts anew,
    /// with the number 0 or 1.)
    fn whole(&self) -> bool {
        let first = self.0.keys().next().copied().unwrap_or(0);
        let numbered = self.0.keys().zip(self.0.keys().skip(1)).all(|(one, next)| next - one == 1);
        first <= 1 && numbered && self.iter().all(|(_, _, whole)| whole)
    }

    /// Kind, body as far as it is there without a gap, and whether that is all of it.
    fn iter(&self) -> impl Iterator<Item = (u8, &[u8], bool)> {
        self.0.values().map(|message| {
            let body = message.body.prefix();
            (message.kind, body, body.len() == message.length)
        })
    }

    fn has(&self, wanted: u8) -> bool {
        self.iter().any(|(kind, _, _)| kind == wanted)
    }

    /// A server's, that asked for another hello.
    fn retry(&self) -> bool {
        let mut answers = self.all(SERVER_HELLO).filter_map(|body| ServerHello::parse(body, true));
        self.has(HELLO_VERIFY_REQUEST) || answers.any(|answer| answer.retry)
    }

    /// Whole messages of this kind.
    fn all(&self, wanted: u8) -> impl Iterator<Item = &[u8]> {
        self.iter().filter(move |(kind, _, whole)| *kind == wanted && *whole).map(|(_, body, _)| body)
    }
}

/// Of messages in the clear.
fn fragments(datagram: &[u8]) -> impl Iterator<Item = Fragment<'_>> {
    let records = records(datagram).filter(|record| record.kind == HANDSHAKE && record.epoch == 0);
    records.flat_map(|record| {
        let mut reader = Reader::new(record.payload);
        std::iter::from_fn(move || Fragment::parse(&mut reader))
    })
}

struct Fragment<'a> {
    kind: u8,
    length: usize,
    number: u16,
    offset: u32,
    bytes: &'a [u8],
}

impl<'a> Fragment<'a> {
    fn parse(reader: &mut Reader<'a>) -> Option<Fragment<'a>> {
        let (kind, length, number) = (reader.u8()?, reader.u24()?, reader.u16()?);
        let (offset, part) = (reader.u24()?, reader.u24()?);
        // A datagram may be captured in part.
        let bytes = reader.take(part.min(reader.rest().len()))?;
        let fits = length <= LONGEST_MESSAGE && offset.checked_add(part).is_some_and(|end| end <= length);
        let offset = u32::try_from(offset).ok()?;
        fits.then_some(Fragment { kind, length, number, offset, bytes })
    }
}

pub(crate) fn look(client: &[&[u8]], server: &[&[u8]]) -> Secure {
    let Some(first) = client.first() else { return Secure::Maybe };
    let begins = records(first).next().is_some_and(|record| {
        record.kind == HANDSHAKE && record.epoch == 0 && record.payload.first() == Some(&CLIENT_HELLO)
    });
    if !begins {
        return Secure::No;
    }
    let modern = is_modern(server);
    let (from_client, from_server) = (Flight::read(client, modern), Flight::read(server, modern));
    let (client, server) = match from_client.whole && from_server.whole {
        true => (from_client.datagrams, from_server.datagrams),
        false => (client, server),
    };
    let seen = || from_client.seen.iter().chain(from_server.seen).copied();
    // Other protocols may share the flow (RFC 7983), but none that can be read.
    if seen().any(is_in_the_clear) || short_pieces(seen()) {
        return Secure::Broken { at: (0, 0), detail: "began like DTLS, went on without" };
    }
    let retried = from_server.messages.retry();
    let has_media = seen().any(|datagram| stun::media(datagram).is_some());
    let has_others = seen().any(stun::is_frame);
    let has_more = || {
        seen().any(holds_more)
            || from_client.holds_others(Order::of_datagrams_of_client(modern))
            || from_server.holds_others(Order::of_server(modern, retried))
    };
    let mut facts = TlsFacts::default();
    let settled = from_client.done && from_server.done;
    let (client_through, server_through) = (from_client.protected, from_server.protected);
    let (of_client, of_server) = (&from_client.messages, &from_server.messages);
    let offer = of_client.all(CLIENT_HELLO).find_map(|body| ClientHello::parse(body, true));
    let Some(offer) = offer else { return handshake(facts, "a DTLS handshake began".into(), false) };
    offer.describe(&mut facts);
    let answers = || of_server.all(SERVER_HELLO).filter_map(|body| ServerHello::parse(body, true));
    facts.retried = retried;
    facts.alert = alert(server, End::Server).or_else(|| alert(client, End::Client));
    let Some(answer) = answers().find(|answer| !answer.retry) else { return unanswered(facts, server) };
    answer.describe(&mut facts);
    if !offer.suites.contains(&answer.suite) {
        return handshake(facts, "the server's hello does not answer the client's".into(), settled);
    }
    facts.established = client_through && server_through;
    if !answer.encrypts_handshake() {
        let flight = flight::read_server(of_server.iter(), &answer, &mut facts);
        let clients = flight::read_client(of_client.iter(), &answer, &mut facts);
        facts.resumed = match flight.full {
            true => Some(false),
            false => (server_through && answer.may_resume(&offer)).then_some(true),
        };
        facts.showed_no_certificate = flight.done && !flight.certificate && of_server.whole();
        facts.client_certificate =
            flight::client_certificate(flight, clients, server_through, false, facts.resumed);
    }
    if !facts.established {
        let detail = match &facts.alert {
            Some(alert) => failed("failed", alert),
            None => "DTLS handshake under way".into(),
        };
        return handshake(facts, detail, false);
    }
    facts.alert = None;
    let version = facts.version.as_deref().unwrap_or("of unknown version");
    let mut detail = format!("DTLS {version}");
    if let Some(name) = &facts.server_name {
        detail = format!("{detail} to {name}{}", tls::outer(&facts));
    }
    let in_the_clear = Protection::Plaintext(Plain::Protocol(Protocol::Dtls));
    let shown = [of_client, of_server].into_iter().find_map(|side| content::shown(side.iter(), &answer));
    let beside = match keys_of_media(&offer, &answer) {
        _ if names::without_encryption(answer.suite) => Some((in_the_clear, None)),
        Media::Readable if has_media => Some((in_the_clear, Some("media without encryption, as agreed"))),
        Media::Readable => Some((OPAQUE, Some("media without encryption, as agreed, none of them seen"))),
        _ if has_others => Some((OPAQUE, Some("what the relay carries for another peer"))),
        _ if has_more() => Some((OPAQUE, Some("bytes that are none of it"))),
        _ if shown.is_some() => Some((OPAQUE, shown)),
        Media::WithoutKeys if has_media => Some((OPAQUE, Some("media that it gives no keys to"))),
        Media::Hidden if has_media => {
            Some((OPAQUE, Some("media, and whether it gives keys to them is hidden")))
        }
        _ => None,
    };
    let protection = match beside {
        Some((protection, what)) => {
            detail.extend(what.map(|what| format!(", beside {what}")));
            protection
        }
        None => Protection::Encrypted(Cipher::Dtls),
    };
    inspection(protection, facts, detail, settled)
}

/// What is no record, nor sealed media, and can be read, and records that are not sealed, though they should be.
fn is_in_the_clear(datagram: &[u8]) -> bool {
    if let Some(sealed) = stun::media(datagram) {
        return readable::is_no_chance(sealed);
    }
    let unsealed = |record: Record<'_>| match (record.epoch, record.kind) {
        (0, APPLICATION_DATA) => true,
        (0, _) => !record.may_be_in_the_clear() && readable::is_no_chance(record.payload),
        _ => can_be_read(record.payload),
    };
    // Without a length the unified header is no sign of a record.
    records(datagram).any(unsealed) || readable::is_in_the_clear(behind(datagram, false))
}

/// Whether there is something beside what stacks send, media and frames of a relay's: it may be anything.
fn holds_more(datagram: &[u8]) -> bool {
    if stun::media(datagram).is_some() || stun::is_frame(datagram) {
        return false;
    }
    let rest = behind(datagram, true);
    let is_padding = rest.iter().all(|byte| *byte == 0);
    // A capture may end within the header of the next record.
    let is_cut = datagram.len() >= SHORTEST_CUT && rest.len() < HEADER && matches!(rest, [20..=26, ..]);
    let unplaced = |record: Record<'_>| record.epoch == 0 && !record.may_be_in_the_clear();
    records(datagram).any(unplaced) || !is_padding && !is_cut
}

/// What follows a datagram's records, with the unified header or only the others; all of it, where it holds none.
fn behind(datagram: &[u8], unified: bool) -> &[u8] {
    let mut behind = datagram;
    for record in records(datagram) {
        let whole = if record.unified { 0 } else { HEADER } + record.payload.len();
        if unified || !record.unified {
            behind = behind.get(whole..).unwrap_or(&[]);
        }
    }
    behind
}

/// Whether sealed records, each too short to be judged, are text together.
fn short_pieces<'a>(seen: impl Iterator<Item = &'a [u8]>) -> bool {
    let sealed = seen.flat_map(records).filter(|record| record.epoch > 0);
    readable::is_text_together(sealed.map(|record| record.sealed()))
}

/// What becomes of media beside the handshake, SRTP (RFC 5764 section 4.1). DTLS 1.3 hides what the server chose.
fn keys_of_media(offer: &ClientHello, answer: &ServerHello) -> Media {
    match answer.srtp {
        _ if answer.encrypts_handshake() && !offer.srtp.is_empty() => Media::Hidden,
        Some(profile) if offer.srtp.contains(&profile) => match names::srtp_without_encryption(profile) {
            true => Media::Readable,
            false => Media::Sealed,
        },
        _ => Media::WithoutKeys,
    }
}

enum Media {
    Sealed,
    /// Only their integrity is protected.
    Readable,
    WithoutKeys,
    Hidden,
}

/// The same where the client of DTLS is the server of the flow, as it may be where STUN came first.
pub(crate) fn turned_round(mut inspection: Inspection) -> Inspection {
    let Some(tls) = &mut inspection.facts.tls else { return inspection };
    let other = |end: End| match end {
        End::Client => End::Server,
        End::Server => End::Client,
    };
    let presented = tls.client_certificate.state == ClientCertificateState::Presented;
    let proved = std::mem::take(&mut tls.server_certificates);
    let clients = std::mem::take(&mut tls.client_certificates);
    tls.server_certificates = if presented { clients } else { Vec::new() };
    // In DTLS 1.3 the certificates are hidden, and the flow's server need not have shown any.
    tls.showed_no_certificate = tls.server_certificates.is_empty();
    tls.client_certificate = match tls.established && !proved.is_empty() {
        true => ClientCertificate { state: ClientCertificateState::Presented, basis: Some(Basis::Seen) },
        false => ClientCertificate::default(),
    };
    tls.client_certificates = proved;
    if let Some(alert) = &mut tls.alert {
        alert.from = other(alert.from);
    }
    inspection
}

/// A fatal alert in the clear.
fn alert(datagrams: &[&[u8]], from: End) -> Option<TlsAlert> {
    let mut records = datagrams.iter().flat_map(|datagram| records(datagram));
    records.find_map(|record| match (record.kind, record.epoch, record.payload) {
        (ALERT, 0, [2, number]) => Some(TlsAlert { from, description: Some(names::alert(*number).into()) }),
        _ => None,
    })
}

fn failed(how: &str, alert: &TlsAlert) -> String {
    let who = match alert.from {
        End::Client => "client",
        End::Server => "server",
    };
    format!("DTLS handshake {how}: alert {} from the {who}", alert.description.as_deref().unwrap_or("hidden"))
}

fn unanswered(facts: TlsFacts, server: &[&[u8]]) -> Secure {
    let detail = match &facts.alert {
        Some(alert) => failed("refused", alert),
        None if server.is_empty() => "DTLS handshake, not answered so far".into(),
        None if facts.retried => "DTLS handshake: the server asked for a cookie".into(),
        None => "DTLS handshake under way".into(),
    };
    handshake(facts, detail, false)
}

fn handshake(facts: TlsFacts, detail: String, settled: bool) -> Secure {
    inspection(Protection::Unknown(UnknownReason::Handshake), facts, detail, settled)
}

fn inspection(protection: Protection, tls: TlsFacts, detail: String, settled: bool) -> Secure {
    let facts = Facts {
        protocol: Some(Protocol::Dtls),
        protection,
        tls: Some(tls),
        ssh: None,
        upgrade: None,
        detail: Some(capped(detail)),
    };
    Secure::Is(Inspection::new(facts, settled))
}
