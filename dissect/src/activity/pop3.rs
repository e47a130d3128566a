//! POP3 (RFC 1939, AUTH of RFC 5034): PASS, APOP and AUTH PLAIN, and their answers.
//!
//! Answers have no name: they are matched to commands in order, up to the first whose length is not
//! known beforehand; log-ins come before those.

use std::collections::VecDeque;

use super::event::{CredentialKind, Verb};
use super::machine::{Aligned, LOOK, Machine, Sink, Step, base64, begins_with_word, line, plain_password};
use crate::End;
use crate::bytes::starts_with_ignore_case;

const COMMANDS: [&str; 12] =
    ["USER", "PASS", "APOP", "AUTH", "CAPA", "STAT", "LIST", "RETR", "DELE", "NOOP", "QUIT", "UIDL"];

/// Commands that wait for their answer.
const PENDING: usize = 64;

#[derive(Default)]
pub(super) struct Pop3 {
    greeted: bool,
    /// The next line of the client is an answer of PLAIN.
    plain: bool,
    pending: VecDeque<Waits>,
    /// The server's lines belong to an answer that ends with a dot.
    long: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waits {
    LogIn,
    /// A line, if it is a refusal; else lines up to a dot.
    Long,
    Short,
}

impl Machine for Pop3 {
    fn step(&mut self, from: End, rest: &[u8], sink: &mut Sink<'_>) -> Step {
        let Some((text, next)) = line(&rest[..rest.len().min(LOOK)]) else {
            return if rest.len() >= LOOK { Step::Lost } else { Step::More };
        };
        match from {
            End::Client => self.client(text, sink),
            End::Server => self.server(text, sink),
        }
        Step::Take(next)
    }

    fn aligned(&self, from: End, rest: &[u8]) -> Aligned {
        match from {
            End::Client => begins_with_word(rest, &COMMANDS),
            // Which command an answer belongs to is not known.
            End::Server => Aligned::No,
        }
    }

    fn gap(&mut self, _: End) {
        self.pending.clear();
        self.plain = false;
        self.long = false;
    }
}

impl Pop3 {
    fn client(&mut self, text: &[u8], sink: &mut Sink<'_>) {
        let plain = |message: &[u8], sink: &mut Sink<'_>| {
            if let Some(message) = base64(message)
                && let Some(password) = plain_password(&message)
            {
                sink.credential(CredentialKind::Password, "POP3 AUTH PLAIN", password);
            }
        };
        if std::mem::take(&mut self.plain) {
            plain(text, sink);
            return;
        }
        let mut words = text.splitn(3, |b| *b == b' ');
        let command = words.next().unwrap_or(&[]).to_ascii_uppercase();
        let argument = text.get(command.len() + 1..).unwrap_or(&[]);
        let waits = match command.as_slice() {
            b"PASS" => {
                sink.credential(CredentialKind::Password, "POP3 PASS", argument);
                Waits::LogIn
            }
            b"APOP" => Waits::LogIn,
            b"AUTH" if starts_with_ignore_case(argument, b"plain") => {
                match words.nth(1) {
                    Some(initial) => plain(initial, sink),
                    None => self.plain = true,
                }
                Waits::LogIn
            }
            b"AUTH" if !argument.is_empty() => Waits::LogIn,
            b"LIST" | b"UIDL" if argument.is_empty() => Waits::Long,
            b"RETR" | b"TOP" => {
                sink.operation(Verb::Read, "mailbox", None);
                Waits::Long
            }
            b"DELE" => {
                sink.operation(Verb::Write, "mailbox", None);
                Waits::Short
            }
            b"CAPA" | b"AUTH" => Waits::Long,
            _ => Waits::Short,
        };
        if self.pending.len() < PENDING {
            self.pending.push_back(waits);
        }
    }

    fn server(&mut self, text: &[u8], sink: &mut Sink<'_>) {
        if self.long {
            self.long = text != b".";
            return;
        }
        if !std::mem::replace(&mut self.greeted, true) {
            return;
        }
        // A challenge is not the answer yet.
        if text.starts_with(b"+ ") || text == b"+" {
            return;
        }
        let ok = text.starts_with(b"+OK");
        match self.pending.pop_front() {
            Some(Waits::LogIn) if ok => sink.succeeded("POP3 +OK"),
            Some(Waits::LogIn) if text.starts_with(b"-ERR") => sink.failed("POP3 -ERR", true),
            Some(Waits::Long) => self.long = ok,
            _ => {}
        }
    }
}
