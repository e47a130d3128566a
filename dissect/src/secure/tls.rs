//! TLS and SSL 3 over a stream.
//!
//! In: both directions, from where TLS begins. Out: what was negotiated, once the ServerHello
//! answered the ClientHello; encrypted, once protected records followed. Must never: call a
//! handshake that failed, or a suite without encryption, encrypted.
//!
//! The server's side is judged first, then the client's: so the answer depends on what both sent,
//! not on which arrived here first. What failed after the ServerHello is settled only when the
//! connection has ended.

use super::client_certificate::{self, Judgement};
use super::flight::{self, ServerFlight};
use super::hello::{ClientHello, ServerHello};
use super::order::{CLIENT_HELLO, HELLO_REQUEST, Order, SERVER_HELLO};
use super::record::{CHANGE_CIPHER_SPEC, End, HANDSHAKE, Header, Protected, Side, Style, not_records};
use super::{Secure, content, names, ssl2};
use crate::bytes::capped;
use crate::readable::is_readable_for_good;
use crate::{
    Cipher, ClientCertificateState, End as Peer, Facts, Inspection, Plain, Prefix, Protection, Protocol,
    TlsAlert, TlsFacts, UnknownReason, Wants,
};

/// Content of a protected alert in TLS 1.3: two bytes and the content type, without the tag.
const PROTECTED_ALERT: u16 = 3;

/// More than any hello needs: a post-quantum key share takes 1.2 kB, a Classic McEliece one has no code.
const LONGEST_HELLO: usize = 1 << 17;

/// Protected records of each direction after which an older handshake has shown all: Finished and one
/// more; and when that one begins another handshake, as many: HelloRequest, a server's flight of a
/// message a record, a ticket, data in between, and ChangeCipherSpec.
const SWITCHED_NEEDS: usize = 2;
const RENEGOTIATION_NEEDS: usize = 16;

/// What a handshake may still want behind the record or message that is incomplete, bytes: the rest
/// of its flight, but for certificates.
const REST_OF_FLIGHT: usize = 4096;
const MOST_WANTED: usize = 1 << 18;

pub(crate) fn look(client: Prefix<'_>, server: Prefix<'_>) -> Secure {
    let (offer, records_at) = match opening(client) {
        Opening::No => return Secure::No,
        Opening::Maybe => return Secure::Maybe,
        Opening::Partial(wants) => {
            let mut began = inspection(UNDECIDED, TlsFacts::default(), "a TLS handshake began".into(), false);
            began.wants.client = wants;
            return Secure::Is(began);
        }
        Opening::Hello(offer, records_at) => (offer, records_at),
    };
    let mut facts = TlsFacts::default();
    offer.describe(&mut facts);
    if offer.version == ssl2::VERSION {
        return ssl2::look(facts, server);
    }
    let side = Side::read(server, Style::UNKNOWN);
    let answer = match server_hello(&side) {
        Ok((Some(answer), retried)) => {
            facts.retried = retried;
            answer
        }
        Ok((None, retried)) => {
            facts.retried = retried;
            return unanswered(facts, &side, (client, server), records_at);
        }
        Err(NoHello) => return broken(left_by(client, records_at).unwrap_or(usize::MAX), 0),
    };
    answer.describe(&mut facts);
    if !offer.suites.contains(&answer.suite) {
        let detail = "the server's hello does not answer the client's";
        return Secure::Is(inspection(UNDECIDED, facts, detail.into(), true));
    }
    let readable = names::without_encryption(answer.suite);
    let style = match answer.encrypts_handshake() {
        true => Style::Marked { early_data: offer.early_data },
        false => Style::Switched { readable },
    };
    let (hidden, retried) = (answer.encrypts_handshake(), facts.retried);
    // Where it was read so already, it reads the same.
    let mut server_side = if style == Style::UNKNOWN { side } else { Side::read(server, style) };
    server_side.hold_to(Order::of_server(hidden, retried));
    let mut client_side = Side::read(client.after(records_at), style);
    client_side.hold_to(Order::of_client(hidden, retried));
    Handshake { offer, answer, facts, client_side, server_side, records_at, readable }
        .conclude(client, server)
}

const UNDECIDED: Protection = Protection::Unknown(UnknownReason::Handshake);

struct Handshake {
    offer: ClientHello,
    answer: ServerHello,
    facts: TlsFacts,
    client_side: Side,
    server_side: Side,
    /// Where the client's records begin that `client_side` was read from.
    records_at: usize,
    /// The suite does not encrypt.
    readable: bool,
}

impl Handshake {
    /// Both hellos are there: what came of them?
    fn conclude(mut self, client: Prefix<'_>, server: Prefix<'_>) -> Secure {
        let judgement = if self.answer.encrypts_handshake() { self.hidden() } else { self.shown() };
        let Judgement { client_needs, server_needs, .. } = judgement;
        // Also behind what settles the answer, where that much is there, and whatever else ended the handshake: no yes
        // of what shows that it is none.
        let before = if self.readable { (client_needs, server_needs) } else { (usize::MAX, usize::MAX) };
        if let Some(broken) = self.off_track(before.0, before.1) {
            return broken;
        }
        let client_shown = self.client_side.protected.len() >= client_needs;
        let server_shown = self.server_side.protected.len() >= server_needs;
        if let Some((alert, detail)) = self.failure(judgement) {
            self.facts.alert = Some(alert);
            return Secure::Is(inspection(UNDECIDED, self.facts, detail, false));
        }
        if !self.readable
            && let Some((from, description)) = self.gave_up()
            && !self.is_finished(client_needs, server_needs)
        {
            let told = description.map(|number| failed(from, Some(number)));
            let (alert, detail) = told.unzip();
            self.facts.alert = alert;
            let detail = detail.unwrap_or("the TLS handshake was not completed".into());
            return Secure::Is(inspection(UNDECIDED, self.facts, detail, false));
        }
        let client_through = matches!(self.client_side.end, End::Protected(_));
        let server_through = matches!(self.server_side.end, End::Protected(_));
        self.facts.established = client_through && server_through;
        // A client sends protected records only after the server's whole flight, which may be more
        // than was captured. Early data is the exception.
        let mut beyond_capture = client_through && server.ended && !self.offer.early_data;
        // And up to TLS 1.2 a server in a full handshake sends them only after the client's.
        let full = self.facts.resumed == Some(false) && !self.answer.encrypts_handshake();
        beyond_capture |= server_through && client.ended && full;
        let wants = self.wants(client_shown, server_shown);
        if !self.facts.established && !beyond_capture {
            let over = client.ended && server.ended;
            let detail = if over { "the TLS handshake was not completed" } else { "TLS handshake under way" };
            let mut under_way = inspection(UNDECIDED, self.facts, detail.into(), false);
            under_way.wants = wants;
            return Secure::Is(under_way);
        }
        let mut detail = describe(&self.facts, self.readable);
        let sides = [&self.client_side, &self.server_side];
        let shown = sides.into_iter().find_map(|side| content::shown(side.messages(), &self.answer));
        // A yes can be taken back where what follows is no TLS after all; what is unknown is only until then.
        let settled = self.facts.established
            && (client_shown || client.ended)
            && (server_shown || server.ended)
            && (self.readable || shown.is_none());
        let protection = match (self.readable, shown) {
            (true, _) => Protection::Plaintext(Plain::Protocol(Protocol::Tls)),
            (false, Some(what)) => {
                detail = format!("{detail}, beside {what}");
                Protection::Unknown(UnknownReason::Opaque)
            }
            (false, None) => Protection::Encrypted(Cipher::Tls),
        };
        let mut through = inspection(protection, self.facts, detail, settled);
        if !settled {
            through.wants = wants;
        }
        Secure::Is(through)
    }

    /// One end went on without TLS before it had shown so many records.
    fn off_track(&self, client_needs: usize, server_needs: usize) -> Option<Secure> {
        let client = off_track(&self.client_side, client_needs).map(|at| at + self.records_at);
        let server = off_track(&self.server_side, server_needs);
        (client.is_some() || server.is_some())
            .then(|| broken(client.unwrap_or(usize::MAX), server.unwrap_or(usize::MAX)))
    }

    /// TLS 1.3: what lengths and order tell.
    fn hidden(&mut self) -> Judgement {
        let Some((hash, tag)) = names::lengths_of_1_3(self.answer.suite) else {
            return Judgement { client_needs: 2, server_needs: 2, ..Judgement::default() };
        };
        let lengths = |side: &Side| side.protected.iter().map(|record| record.length).collect::<Vec<_>>();
        let (client, server) = (lengths(&self.client_side), lengths(&self.server_side));
        let judgement = client_certificate::judge(client_certificate::Handshake {
            hash,
            tag,
            pre_shared_key: self.answer.pre_shared_key && !self.answer.certificate_with_psk,
            // After a HelloRetryRequest there is none.
            early_data: self.offer.early_data && !self.facts.retried,
            limited: self.offer.limited,
            client: &client,
            server: &server,
        });
        self.facts.client_certificate = judgement.certificate;
        judgement
    }

    /// TLS 1.2 and earlier: the flights in the clear.
    fn shown(&mut self) -> Judgement {
        let from_server = self.server_side.messages().skip(1);
        let server = flight::read_server(from_server, &self.answer, &mut self.facts);
        let from_client = self.client_side.messages();
        let client = flight::read_client(from_client, &self.answer, &mut self.facts);
        let ServerFlight { full, done, certificate, .. } = server;
        let switched = self.server_side.switched;
        self.facts.resumed = match full {
            true => Some(false),
            false => (switched && self.answer.may_resume(&self.offer)).then_some(true),
        };
        self.facts.showed_no_certificate =
            !certificate && (done || switched) && self.facts.resumed != Some(true);
        let through = !self.server_side.protected.is_empty();
        let no_certificate = self.client_side.no_certificate;
        let (client_needs, again) = older_needs(&self.client_side.protected);
        let (server_needs, and_again) = older_needs(&self.server_side.protected);
        self.facts.renegotiated = again || and_again;
        let certificate =
            flight::client_certificate(server, client, through, no_certificate, self.facts.resumed);
        // A second handshake is hidden, and may have asked.
        if !self.facts.renegotiated || certificate.state == ClientCertificateState::Presented {
            self.facts.client_certificate = certificate;
        }
        Judgement { client_needs, server_needs, ..Judgement::default() }
    }

    /// What ended the handshake before it was through.
    fn failure(&self, judgement: Judgement) -> Option<(TlsAlert, String)> {
        let hidden = self.answer.encrypts_handshake();
        let tag = names::lengths_of_1_3(self.answer.suite).filter(|_| hidden).map(|(_, tag)| tag);
        let protected = tag.map(|tag| PROTECTED_ALERT + tag);
        let alert = |end: End, from: Peer, early: bool| match end {
            End::Alert(description) => Some(failed(from, description)),
            End::Protected(length) if !early && protected == Some(length) => Some(failed(from, None)),
            _ => None,
        };
        let after_flight = judgement.refused_by_server.then(|| failed(Peer::Server, None));
        alert(self.server_side.end, Peer::Server, false)
            .or_else(|| alert(self.client_side.end, Peer::Client, self.offer.early_data))
            .or(after_flight)
    }

    /// Who says in the clear, behind protected records, that it gives up, and why, as far as it is there. As
    /// long as the exchange is not finished, that is somebody without keys.
    fn gave_up(&self) -> Option<(Peer, Option<u8>)> {
        let of = |side: &Side, from: Peer| side.gave_up.map(|description| (from, description));
        of(&self.server_side, Peer::Server).or_else(|| of(&self.client_side, Peer::Client))
    }

    /// Both went on behind the handshake, so both had keys. An alert is going on for a client, whose Finished
    /// answers the server's, and up to TLS 1.2 for a server. What early data is, and what comes behind it, cannot
    /// be told apart.
    fn is_finished(&self, client_needs: usize, server_needs: usize) -> bool {
        let early_data = self.offer.early_data && !self.facts.retried;
        let shown = |side: &Side, counts: bool, needs: usize| {
            side.protected.len() + usize::from(counts && side.gave_up.is_some()) >= needs
        };
        let through = !self.client_side.protected.is_empty() && !self.server_side.protected.is_empty();
        let older = !self.answer.encrypts_handshake();
        through
            && !early_data
            && shown(&self.client_side, true, client_needs)
            && shown(&self.server_side, older, server_needs)
    }

    /// What more of each direction could tell something.
    fn wants(&self, client_shown: bool, server_shown: bool) -> Wants {
        let hidden = self.answer.encrypts_handshake();
        let through = self.facts.established && !hidden;
        let of = |side: &Side, at: usize, shown: bool| match shown || through {
            true => 0,
            false => wanted(at + side.record_end, side.lacks()),
        };
        Wants {
            client: of(&self.client_side, self.records_at, client_shown),
            server: of(&self.server_side, 0, server_shown),
        }
    }
}

/// Records that an older handshake takes to show all, and whether another one was seen within it.
fn older_needs(protected: &[Protected]) -> (usize, bool) {
    match protected.get(1) {
        Some(Protected { kind: HANDSHAKE, .. }) => {
            let seen = &protected[..protected.len().min(RENEGOTIATION_NEEDS)];
            let switched = seen.iter().position(|record| record.kind == CHANGE_CIPHER_SPEC);
            (switched.map_or(RENEGOTIATION_NEEDS, |at| at + 1), switched.is_some())
        }
        _ => (SWITCHED_NEEDS, false),
    }
}

/// Where it is no TLS any more, if that was before so many records were shown.
fn off_track(side: &Side, needs: usize) -> Option<usize> {
    match (side.end, side.off_track) {
        (End::Broken(at), _) => Some(at),
        (_, Some(at)) if side.protected.len() < needs => Some(at),
        _ => None,
    }
}

fn failed(from: Peer, description: Option<u8>) -> (TlsAlert, String) {
    let who = match from {
        Peer::Client => "client",
        Peer::Server => "server",
    };
    let detail = match description {
        Some(number) => format!("TLS handshake failed: alert {} from the {who}", names::alert(number)),
        None => format!("TLS handshake failed: encrypted alert from the {who}"),
    };
    (TlsAlert { from, description: description.map(|number| names::alert(number).into()) }, detail)
}

/// Bytes of a direction up to the end of what is incomplete, and a little behind it.
fn wanted(record_end: usize, lacking: usize) -> u32 {
    // Headers of the records that the rest of the message comes in.
    let headers = 5 * (lacking / (1 << 14) + 1);
    u32::try_from((record_end + lacking + headers + REST_OF_FLIGHT).min(MOST_WANTED)).unwrap_or(0)
}

/// No ServerHello yet, or an alert instead of it. What either end says then in the clear is no TLS; of the
/// client's only once no ServerHello can come any more, which would tell how to read it.
fn unanswered(
    mut facts: TlsFacts,
    side: &Side,
    (client, server): (Prefix<'_>, Prefix<'_>),
    records_at: usize,
) -> Secure {
    let over = side.ended || side.end != End::Open;
    let left = over.then(|| left_by(client, records_at)).flatten();
    match (side.end, left) {
        (End::Broken(_) | End::Protected(_) | End::Alert(None), left) => {
            // No hello, no keys: what can be read from the start on can be read, whatever the records say.
            let from_the_start = is_readable_for_good(server);
            let server_at = side.left_at.filter(|_| !from_the_start).unwrap_or(0);
            broken(left.unwrap_or(usize::MAX), server_at)
        }
        (_, Some(at)) => broken(at, usize::MAX),
        (End::Alert(Some(number)), None) => {
            let detail = format!("TLS handshake refused: alert {} from the server", names::alert(number));
            facts.alert =
                Some(TlsAlert { from: Peer::Server, description: Some(names::alert(number).into()) });
            Secure::Is(inspection(UNDECIDED, facts, detail, false))
        }
        (End::Open, None) => {
            let detail = "TLS handshake, not answered so far".into();
            let mut open = inspection(UNDECIDED, facts, detail, false);
            open.wants.server = wanted(side.record_end, side.lacks());
            Secure::Is(open)
        }
    }
}

/// From where on the client's bytes are no records.
fn left_by(client: Prefix<'_>, records_at: usize) -> Option<usize> {
    not_records(client.after(records_at)).map(|at| at + records_at)
}

fn broken(client_at: usize, server_at: usize) -> Secure {
    Secure::Broken { at: (client_at, server_at), detail: "began like TLS, went on without" }
}

pub(super) fn inspection(
    protection: Protection,
    facts: TlsFacts,
    detail: String,
    settled: bool,
) -> Inspection {
    Inspection {
        facts: Facts {
            protocol: Some(Protocol::Tls),
            protection,
            tls: Some(facts),
            ssh: None,
            upgrade: None,
            detail: Some(capped(detail)),
        },
        settled,
        wants: Wants::default(),
        layers: Vec::new(),
    }
}

fn describe(facts: &TlsFacts, readable: bool) -> String {
    let family = match facts.version_protocol.as_deref() {
        Some("ssl") => "SSL",
        _ => "TLS",
    };
    let version = facts.version.as_deref().unwrap_or("of unknown version");
    let mut phrase = format!("{family} {version}");
    if let Some(name) = &facts.server_name {
        phrase = format!("{phrase} to {name}{}", outer(facts));
    }
    if readable {
        let cipher = facts.cipher.as_deref().unwrap_or("none");
        phrase = format!("{phrase}, but its cipher suite does not encrypt: {cipher}");
    }
    phrase
}

/// What stands behind a name that may not be the one that is meant (draft-ietf-tls-esni).
pub(super) fn outer(facts: &TlsFacts) -> &'static str {
    if facts.encrypted_client_hello { " (outer name)" } else { "" }
}

/// The first message is something other than a ServerHello.
struct NoHello;

/// The ServerHello, and whether it is or was preceded by a HelloRetryRequest.
fn server_hello(side: &Side) -> Result<(Option<ServerHello>, bool), NoHello> {
    let mut retried = false;
    for (kind, body, whole) in side.messages() {
        match (kind, whole) {
            (SERVER_HELLO, true) => match ServerHello::parse(body, false) {
                Some(hello) if hello.retry => retried = true,
                Some(hello) => return Ok((Some(hello), retried)),
                None => return Err(NoHello),
            },
            (SERVER_HELLO, false) => return Ok((None, retried)),
            // A server may ask for a hello (RFC 5246 section 7.4.1.1).
            (HELLO_REQUEST, true) if body.is_empty() => {}
            _ => return Err(NoHello),
        }
    }
    Ok((None, retried))
}

#[expect(clippy::large_enum_variant, reason = "made once a look, taken apart at once")]
enum Opening {
    No,
    /// Too little to tell.
    Maybe,
    /// A hello began; so many bytes would show all of it.
    Partial(u32),
    /// With the offset at which the client's records are to be read from.
    Hello(ClientHello, usize),
}

/// How the client began.
fn opening(client: Prefix<'_>) -> Opening {
    match client.bytes.first() {
        None => Opening::Maybe,
        Some(&HANDSHAKE) => modern(client),
        Some(first) if first & 0x80 != 0 => ssl2(client.bytes),
        Some(_) => Opening::No,
    }
}

fn modern(client: Prefix<'_>) -> Opening {
    let side = Side::read(client, Style::UNKNOWN);
    let start = &side.handshake[..];
    let length = match *start {
        [a, b, c, d, ..] if a == CLIENT_HELLO => usize::from(b) << 16 | usize::from(c) << 8 | usize::from(d),
        [a, ..] if a != CLIENT_HELLO => return Opening::No,
        _ => 0,
    };
    let wrong_version = matches!(start, [_, _, _, _, major, ..] if *major != 3);
    if length > LONGEST_HELLO || wrong_version {
        return Opening::No;
    }
    match side.messages().next() {
        Some((_, body, true)) => match ClientHello::parse(body, false) {
            Some(hello) => Opening::Hello(hello, 0),
            None => Opening::No,
        },
        _ if side.end != End::Open => Opening::No,
        _ if start.len() > 4 => Opening::Partial(wanted(side.record_end, side.lacks())),
        _ => match Header::parse(client.bytes) {
            Header::Wrong | Header::Whole { length: 0, .. } => Opening::No,
            _ => Opening::Maybe,
        },
    }
}

/// A hello in the SSL 2 format: it offers that, or SSL 3 or later.
fn ssl2(bytes: &[u8]) -> Opening {
    let right = |at: usize, allowed: &dyn Fn(u8) -> bool| bytes.get(at).is_none_or(|b| allowed(*b));
    if !right(2, &|kind| kind == CLIENT_HELLO)
        || !right(3, &|major| major == 3 || major == 0)
        || !right(4, &|minor| minor <= 3)
        || matches!(bytes, [_, _, _, 0, minor, ..] if *minor != 2)
    {
        return Opening::No;
    }
    let [first, second, _, rest @ ..] = bytes else { return Opening::Maybe };
    let length = usize::from(first & 0x7f) << 8 | usize::from(*second);
    let Some(body) = length.checked_sub(1) else { return Opening::No };
    match rest.get(..body).map(ClientHello::parse_ssl2) {
        Some(Some(hello)) => Opening::Hello(hello, length + 2),
        Some(None) => Opening::No,
        None if length > 512 => Opening::No,
        None if rest.len() >= 8 => Opening::Partial(0),
        None => Opening::Maybe,
    }
}
