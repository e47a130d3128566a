//! PostgreSQL's frontend/backend protocol 3 (PostgreSQL 17 documentation, chapter 53): log-ins, the
//! password message, and the kinds of statements.
//!
//! Which `p` message holds a password in the clear is the server's word (AuthenticationCleartextPassword,
//! `R` 3), which may be read before it or after it; until then its fingerprint waits. Answers to MD5 and
//! SCRAM are no passwords.

use super::event::CredentialKind;
use super::machine::{Aligned, Machine, Sink, Step, whole};
use super::sql::{self, Dialect};
use crate::End;
use crate::bytes::Reader;

const PLACE: &str = "PostgreSQL password message";

/// Codes of chapter "Error Codes", class 28.
const REFUSED: [&[u8]; 2] = [b"28P01", b"28000"];

#[derive(Default)]
pub(super) struct Postgresql {
    client_started: bool,
    server_started: bool,
    /// What the server asked for last; `None`: nothing yet.
    asked: Option<u32>,
    /// Of a `p` message that came before it was known what was asked for.
    waiting: Option<u64>,
    presented: bool,
}

impl Machine for Postgresql {
    fn step(&mut self, from: End, rest: &[u8], sink: &mut Sink<'_>) -> Step {
        match from {
            End::Client if !self.client_started => self.startup(rest),
            // The answer to SSLRequest and to GSSENCRequest is a single letter.
            End::Server if !self.server_started && matches!(rest[0], b'N' | b'S' | b'G') => {
                if rest[0] == b'N' { Step::Take(1) } else { Step::Done }
            }
            _ => self.message(from, rest, sink),
        }
    }

    fn aligned(&self, from: End, rest: &[u8]) -> Aligned {
        let Some(length) = Reader::new(rest.get(1..).unwrap_or(&[])).u32() else { return Aligned::More };
        let known: &[u8] = match from {
            End::Client => b"BCDEFHPQSXcdfp",
            End::Server => b"123ACDEGHIKNRSTVWZcdnst",
        };
        if !known.contains(&rest[0]) || !(4..1 << 24).contains(&length) {
            return Aligned::No;
        }
        // One letter and a length are little: the next message has to follow, or nothing.
        match rest.get(1 + length as usize) {
            Some(next) if known.contains(next) => Aligned::Yes,
            Some(_) => Aligned::No,
            None if rest.len() == 1 + length as usize || rest.len() > 64 => Aligned::Yes,
            None => Aligned::More,
        }
    }

    fn gap(&mut self, _: End) {
        (self.client_started, self.server_started) = (true, true);
        self.waiting = None;
        self.asked = None;
    }

    fn tells_all(&self) -> bool {
        true
    }
}

impl Postgresql {
    /// Untyped messages come first: requests for encryption, and the start.
    fn startup(&mut self, rest: &[u8]) -> Step {
        let mut reader = Reader::new(rest);
        let (Some(length), Some(code)) = (reader.u32(), reader.u32()) else { return Step::More };
        if !(8..=10_004).contains(&length) {
            return Step::Lost;
        }
        match code {
            80_877_103 | 80_877_104 => {}
            // A request to cancel is the whole of its connection.
            80_877_102 => return Step::Done,
            _ if code >> 16 == 3 => self.client_started = true,
            _ => return Step::Lost,
        }
        Step::Take(u64::from(length))
    }

    fn message(&mut self, from: End, rest: &[u8], sink: &mut Sink<'_>) -> Step {
        let mut reader = Reader::new(rest);
        let (Some(kind), Some(length)) = (reader.u8(), reader.u32()) else { return Step::More };
        if !kind.is_ascii_alphanumeric() || length < 4 {
            return Step::Lost;
        }
        let total = u64::from(length) + 1;
        let is_read = match from {
            End::Client => matches!(kind, b'p' | b'Q' | b'P' | b'F'),
            End::Server => matches!(kind, b'R' | b'E'),
        };
        if !is_read {
            return Step::Take(total);
        }
        let Some(message) = whole(rest, total) else { return Step::More };
        let body = message.get(5..).unwrap_or(&[]);
        match (from, kind) {
            (End::Client, b'p') => self.password(body, sink),
            (End::Client, b'Q') => {
                let is_cut = message.len() as u64 != total;
                sql::statements(until_nul(body), Dialect::Postgresql, is_cut, sink);
            }
            // Parse: the statement's name, then its text.
            (End::Client, b'P') => {
                let name = until_nul(body).len() + 1;
                let text = until_nul(body.get(name..).unwrap_or(&[]));
                sql::statements(text, Dialect::Postgresql, message.len() as u64 != total, sink);
            }
            // A call of a function by its number.
            (End::Client, _) => sink.passed_over(),
            (End::Server, b'R') => self.authentication(body, sink),
            (End::Server, _) => self.error(body, sink),
        }
        self.server_started |= from == End::Server;
        Step::Take(total)
    }

    fn password(&mut self, body: &[u8], sink: &mut Sink<'_>) {
        self.presented = true;
        let password = until_nul(body);
        match self.asked {
            Some(3) => sink.credential(CredentialKind::Password, PLACE, password),
            None if self.client_started && !password.is_empty() => {
                self.waiting = Some(sink.fingerprint.of(password));
            }
            _ => {}
        }
    }

    fn authentication(&mut self, body: &[u8], sink: &mut Sink<'_>) {
        let Some(asked) = Reader::new(body).u32() else { return };
        match asked {
            0 if self.asked.is_some() || self.presented => sink.succeeded("PostgreSQL authentication ok"),
            0 => {}
            _ => {
                if asked == 3
                    && let Some(fingerprint) = self.waiting
                {
                    sink.noted(CredentialKind::Password, PLACE, fingerprint, None);
                }
                self.waiting = None;
                self.asked = Some(asked);
            }
        }
    }

    fn error(&mut self, body: &[u8], sink: &mut Sink<'_>) {
        // Fields: a letter, and text up to a NUL.
        for field in body.split(|b| *b == 0) {
            if let [b'C', code @ ..] = field {
                if REFUSED.contains(&code) {
                    let code = std::str::from_utf8(code).unwrap_or("28000");
                    sink.failed(format!("PostgreSQL {code}"), true);
                }
                return;
            }
        }
    }
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|b| *b == 0).next().unwrap_or(&[])
}
