//! Whether a TLS 1.3 client proved who it is, concluded from the lengths and the order of encrypted
//! records.
//!
//! In: the lengths of both directions' protected records, from the first on. Out: a state, or
//! "unknown"; whether the handshake failed after the client's flight; and how many records of each
//! direction that took. Must never: take a length for a message that another message, padding or
//! early data could have made as well.
//!
//! What a client sends after the server's flight begins with one of three messages: Finished, when
//! it was not asked; an empty Certificate, when it has none; a Certificate. Without padding, the
//! first record's length tells them apart, whether a stack puts one message in a record or several:
//! 4 + 32 or 48 bytes; 8, alone or with Finished; at least 150. What follows shows that there is no
//! padding (RFC 8446 section 5.4), since padding shows in all records: their lengths have a common
//! divisor. And where the server puts one message in a record, its flight shows whether it asked: a
//! contradiction makes all unknown. "Presented" also needs a sign that the server went on.

use crate::{Basis, ClientCertificate, ClientCertificateState as State};

/// Handshake header (RFC 8446 section 4).
const MESSAGE_HEADER: u16 = 4;
/// An empty Certificate: header, no context, no certificates (section 4.4.2).
const EMPTY_CERTIFICATE: u16 = 8;
/// An alert (section 6).
const ALERT: u16 = 2;
/// More than all that is not a Certificate: a message with an X.509 certificate of any use.
const SHORTEST_CERTIFICATE: u16 = 150;
/// The same with CertificateVerify and Finished in one record. Above what a client's
/// EncryptedExtensions (draft-vvv-tls-alps) and Finished take together.
const SHORTEST_FLIGHT: u16 = 300;
/// A record that is full (section 5.1).
const FULL: u16 = 1 << 14;
/// A server's first record that holds more than EncryptedExtensions and CertificateRequest of a usual
/// server: it put its messages together.
const LONG_EXTENSIONS: u16 = 400;
/// Records of a flight of single messages beyond those full of certificates, at most: a limit that the
/// two have agreed on may cut messages.
const MOST_PARTS: usize = 12;
/// What a stack adds to every record: nothing; the JDK, 16 zeros.
const FILLERS: [u16; 2] = [0, 16];
/// Blocks that could make EncryptedExtensions as long as [`LONG_EXTENSIONS`].
const LONG_BLOCK: u16 = 64;

/// What is known of the handshake.
#[derive(Clone, Copy, Debug)]
pub(super) struct Handshake<'a> {
    /// Length of the hash that the suite uses, bytes.
    pub hash: u16,
    /// Length of an authentication tag, bytes.
    pub tag: u16,
    /// The server took a key shared beforehand, and so must not ask for a certificate (section 4.3.2).
    pub pre_shared_key: bool,
    /// The client's first records may be early data.
    pub early_data: bool,
    /// The client asked for records shorter than the standard has them.
    pub limited: bool,
    /// Lengths of records, as sent.
    pub client: &'a [u16],
    pub server: &'a [u16],
}

/// What the records say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Judgement {
    pub certificate: ClientCertificate,
    /// The server's next record after the client's flight is an alert.
    pub refused_by_server: bool,
    /// With so many records of each direction this is the last word.
    pub client_needs: usize,
    pub server_needs: usize,
}

/// What the server's flight looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ServerFlight {
    /// The record after it, where that can be told.
    end: Option<usize>,
    /// Whether it asked for a certificate, where that shows.
    asked: Option<bool>,
    /// What the stack adds to every record, where that shows.
    filler: Option<u16>,
    /// With so many records this is the last word.
    needs: usize,
}

/// The server's record after its flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Nothing,
    Alert,
    /// Something else, or a padded alert.
    Unclear,
    Other,
}

/// What the client's flight looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flight {
    NotRequested,
    Empty,
    /// Of so many records.
    Certificate(usize),
    Unclear,
}

pub(super) fn judge(shake: Handshake<'_>) -> Judgement {
    if shake.pre_shared_key && shake.early_data {
        // No certificate can be asked for; where the flight begins cannot be told.
        return Judgement {
            certificate: inferred(State::NotRequested),
            client_needs: 2,
            server_needs: 2,
            ..Judgement::default()
        };
    }
    if shake.early_data {
        return Judgement { client_needs: 2, server_needs: 2, ..Judgement::default() };
    }
    let (flight, client_needs) = shake.client_flight();
    let server @ ServerFlight { asked, needs: server_needs, .. } = shake.server_flight();
    let mut judgement = Judgement { client_needs, server_needs, ..Judgement::default() };
    let alert_next = shake.server_alert(server);
    let state = match flight {
        _ if shake.padded(flight, client_needs) => State::Unknown,
        Flight::NotRequested if asked != Some(true) => State::NotRequested,
        Flight::Empty if asked != Some(false) && !shake.pre_shared_key => State::Refused,
        Flight::Certificate(_) if asked != Some(false) && !shake.pre_shared_key => {
            judgement.refused_by_server = alert_next == Next::Alert;
            if alert_next == Next::Other { State::Presented } else { State::Unknown }
        }
        _ => State::Unknown,
    };
    if state == State::Refused {
        judgement.refused_by_server = alert_next == Next::Alert;
    }
    if state != State::Unknown {
        judgement.certificate = inferred(state);
    }
    judgement
}

fn inferred(state: State) -> ClientCertificate {
    ClientCertificate { state, basis: Some(Basis::Inferred) }
}

impl Handshake<'_> {
    /// The length of a record that holds so much: the content's type and the tag come on top
    /// (section 5.2).
    fn record(&self, content: u16) -> u16 {
        content.saturating_add(1).saturating_add(self.tag)
    }

    /// Its content without the type, if it is not padded.
    fn content(&self, record: u16) -> Option<u16> {
        record.checked_sub(1 + self.tag)
    }

    fn finished(&self) -> u16 {
        MESSAGE_HEADER + self.hash
    }

    /// The client's flight, and how many of its records it takes to be sure of it.
    fn client_flight(&self) -> (Flight, usize) {
        let Some(first) = self.client.first().and_then(|length| self.content(*length)) else {
            return (Flight::Unclear, 2);
        };
        let finished = self.finished();
        for filler in FILLERS {
            if first == finished + filler {
                return (Flight::NotRequested, 2);
            }
            if first == EMPTY_CERTIFICATE + filler {
                let next = self.client.get(1) == Some(&self.record(finished + filler));
                return (if next { Flight::Empty } else { Flight::Unclear }, 2);
            }
        }
        if first == EMPTY_CERTIFICATE + finished {
            return (Flight::Empty, 2);
        }
        if first < SHORTEST_CERTIFICATE {
            return (Flight::Unclear, 2);
        }
        // A long chain fills records.
        let full = self.client.iter().take_while(|length| self.is_full(**length)).count();
        let is_finished = |at: usize| {
            let length = self.client.get(at);
            FILLERS.iter().any(|filler| length == Some(&self.record(finished + filler)))
        };
        let is_proof = |at: usize| self.client.get(at).is_some_and(|length| self.is_signature(*length));
        if is_proof(full + 1) && is_finished(full + 2) {
            return (Flight::Certificate(full + 3), full + 4);
        }
        if is_finished(full + 1) {
            return (Flight::Certificate(full + 2), full + 3);
        }
        let certificate =
            if first >= SHORTEST_FLIGHT { Flight::Certificate(full + 1) } else { Flight::Unclear };
        // As long as a Finished may still come by itself, there may be more to it.
        (certificate, full + 3)
    }

    /// A CertificateVerify: header, algorithm, and a signature of 64 (Ed25519) to 4627 bytes
    /// (ML-DSA-87); ECDSA's vary by a few bytes (section 4.4.3).
    fn is_signature(&self, record: u16) -> bool {
        self.content(record).is_some_and(|content| (64..=5000).contains(&content.saturating_sub(8)))
    }

    /// A record that may hold the end of a flight: CertificateVerify, with Finished or without.
    fn ends_flight(&self, record: u16) -> bool {
        let is_signature = |length: u16| {
            matches!(length, 64 | 114 | 66..=73 | 100..=105 | 130..=140 | 2420 | 3309 | 4627)
                || length >= 128 && length.is_multiple_of(64)
        };
        let Some(content) = self.content(record) else { return false };
        let rest = [content, content.saturating_sub(self.finished())];
        content == self.finished() || rest.iter().any(|rest| is_signature(rest.saturating_sub(8)))
    }

    /// What the server's flight looks like.
    fn server_flight(&self) -> ServerFlight {
        let filler_of =
            |length: u16| FILLERS.into_iter().find(|filler| length == self.record(self.finished() + filler));
        if self.pre_shared_key {
            return ServerFlight { end: None, asked: Some(false), filler: None, needs: 3 };
        }
        let first = self.server.first().and_then(|length| self.content(*length)).unwrap_or(0);
        let together = first >= LONG_EXTENSIONS;
        // Its Finished by itself: behind EncryptedExtensions, Certificate and CertificateVerify, or
        // behind all of them together, with or without the last.
        let (least, most) = if together { (1, 3) } else { (3, MOST_PARTS) };
        // Records that are full, as the standard or an agreement has it, are parts of one message.
        let twice = together && self.server.get(1) == self.server.first();
        let is_full = |length: u16| self.is_full(length) || twice && length == self.server[0];
        let (mut full, mut others, mut alerted) = (0, 0, None);
        for (at, length) in self.server.iter().enumerate() {
            let may_be_part = self.may_be_part(at);
            let filler = filler_of(*length).filter(|_| !may_be_part);
            if others >= least && filler.is_some() {
                let proof = self.is_signature(self.server[at - 1]) && !is_full(self.server[at - 1]);
                let asked = match others {
                    3 if proof && !together => Some(false),
                    4 if proof && !together => Some(true),
                    _ => None,
                };
                return ServerFlight { end: Some(at + 1), asked, filler, needs: at + 2 };
            }
            let is_alert = *length == self.record(ALERT) && !may_be_part;
            if is_alert && together {
                alerted = Some(at);
                break;
            }
            if is_alert {
                return ServerFlight { end: Some(at), asked: None, filler: Some(0), needs: at + 1 };
            }
            if is_full(*length) {
                full += 1;
            } else {
                others += 1;
            }
            if others == most {
                break;
            }
        }
        let needs = alerted.map_or(full + most, |at| at + 1);
        if !together {
            return ServerFlight { end: None, asked: None, filler: None, needs };
        }
        let mut end = self.server.iter().take_while(|length| is_full(**length)).count() + 1;
        // All in one record, or the rest in another: then only the one behind that is surely none of it.
        if self.limited || self.server.get(end).is_some_and(|length| self.ends_flight(*length)) {
            end += 1;
        }
        let padded =
            self.server.iter().take(needs).map(|length| length.saturating_sub(self.tag)).fold(0, gcd);
        let end = (padded < LONG_BLOCK).then_some(end);
        ServerFlight { end, asked: None, filler: None, needs }
    }

    /// The end of what an agreed limit has cut follows a part that is as long as any: it may be as long as a message
    /// (RFC 8449 section 4).
    fn may_be_part(&self, at: usize) -> bool {
        let before = &self.server[..at];
        self.limited && before.last().is_some_and(|last| Some(last) == before.iter().max())
    }

    /// As long as a record may be, or one byte less: the type may count (RFC 8449 section 4).
    fn is_full(&self, record: u16) -> bool {
        record >= self.record(FULL - 1)
    }

    /// Whether the server's record at this place is an alert.
    fn server_alert(&self, flight: ServerFlight) -> Next {
        let Some((at, length)) = flight.end.and_then(|at| Some((at, *self.server.get(at)?))) else {
            return Next::Nothing;
        };
        let is_alert = |filler: u16| length == self.record(ALERT + filler);
        if self.may_be_part(at) && FILLERS.into_iter().any(is_alert) {
            return Next::Unclear;
        }
        if is_alert(flight.filler.unwrap_or(0)) {
            return Next::Alert;
        }
        if flight.filler.is_none() && FILLERS.into_iter().any(is_alert) {
            return Next::Unclear;
        }
        let lengths = self.server.iter().take(at + 1).map(|length| length.saturating_sub(self.tag));
        let divisor = lengths.fold(0, gcd);
        // Padding to a multiple may look like a filler.
        if flight.filler.is_some_and(|filler| filler > 0) && divisor > 1 {
            return Next::Unclear;
        }
        let mut blocks = (2..=divisor).filter(|block| divisor.is_multiple_of(*block));
        let padded =
            blocks.any(|block| (ALERT + 1).next_multiple_of(block) == length.saturating_sub(self.tag));
        if padded { Next::Unclear } else { Next::Other }
    }

    /// The records could be padded so that another flight looks like this one.
    fn padded(&self, flight: Flight, needs: usize) -> bool {
        let lengths = || self.client.iter().take(needs).map(|length| length.saturating_sub(self.tag));
        let Some(first) = lengths().next() else { return false };
        let (finished, empty) = (self.finished(), EMPTY_CERTIFICATE);
        let others: &[u16] = match flight {
            Flight::NotRequested => &[empty, empty + finished],
            Flight::Empty if first == empty + 1 => &[finished],
            Flight::Empty => &[empty, finished],
            Flight::Certificate(_) => &[empty, finished, empty + finished],
            Flight::Unclear => return false,
        };
        let divisor = lengths().fold(0, gcd);
        let alone = self.client.len() == 1;
        // A block of this size for every record.
        let blocks = (2..=divisor).filter(|block| divisor.is_multiple_of(*block));
        let mut suspects =
            blocks.filter(|block| others.iter().any(|other| (other + 1).next_multiple_of(*block) == first));
        // A single record has every divisor: only round sizes are a sign of padding then.
        suspects.any(|block| !alone || block.is_multiple_of(16))
    }
}

fn gcd(a: u16, b: u16) -> u16 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
#[path = "client_certificate_tests.rs"]
mod tests;
