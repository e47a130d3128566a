//! POP3 (RFC 1939, AUTH of RFC 5034): PASS, APOP, AUTH PLAIN and AUTH LOGIN, and their answers.
//!
//! Answers have no name: they are matched to commands in order, up to the first whose length is not
//! known beforehand; log-ins come before those. An empty line is answered by some servers, with a refusal: where it
//! cannot be told whether it was, a refusal near a log-in is that of the log-in, and no log-in is said to have
//! succeeded.

use std::collections::VecDeque;

use super::event::{CredentialKind, Verb};
use super::machine::{
    Aligned, LOOK, Machine, Sink, Step, base64, begins_with_word, is_sasl_answer, line, plain_password,
};
use crate::End;
use crate::bytes::starts_with_ignore_case;

const COMMANDS: [&str; 18] = [
    "USER", "PASS", "APOP", "AUTH", "CAPA", "STAT", "LIST", "RETR", "DELE", "NOOP", "QUIT", "UIDL", "TOP",
    "RSET", "STLS", "UTF8", "LANG", "LAST",
];

/// Lines that wait for their answer. Of more than these the log-ins are remembered.
const PENDING: usize = 1024;

#[derive(Default)]
pub(super) struct Pop3 {
    greeted: bool,
    sasl: Sasl,
    pending: VecDeque<Waits>,
    /// How many of them are log-ins.
    log_ins: usize,
    /// The server's lines belong to an answer that ends with a dot.
    long: bool,
    /// Whether the server answers empty lines, once that shows.
    answers_empty: Option<bool>,
    /// So many refusals were of empty lines, or of as many commands behind them.
    doubt: usize,
}

/// What the client's next line may answer. It waits for an answer itself, like any other line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Sasl {
    #[default]
    Nothing,
    Plain,
    LoginUser,
    LoginPassword,
    /// Of another mechanism.
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waits {
    LogIn,
    /// A line, if it is a refusal; else lines up to a dot.
    Long,
    Short,
    /// For a refusal, or for nothing.
    Empty,
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
        self.log_ins = 0;
        self.sasl = Sasl::Nothing;
        self.long = false;
        self.doubt = 0;
    }

    fn held(&self) -> usize {
        self.pending.capacity()
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
        let answers = std::mem::take(&mut self.sasl);
        if answers != Sasl::Nothing && is_sasl_answer(text, &COMMANDS) {
            self.sasl = match answers {
                Sasl::LoginUser => Sasl::LoginPassword,
                Sasl::Other => Sasl::Other,
                _ => Sasl::Nothing,
            };
            match answers {
                Sasl::Plain => plain(text, sink),
                Sasl::LoginPassword => {
                    let secret = base64(text).unwrap_or_default();
                    sink.credential(CredentialKind::Password, "POP3 AUTH LOGIN", &secret);
                }
                _ => {}
            }
            self.push(Waits::LogIn);
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
                    None => self.sasl = Sasl::Plain,
                }
                Waits::LogIn
            }
            b"AUTH" if !argument.trim_ascii().is_empty() => {
                let is_login = words.next().is_some_and(|word| word.eq_ignore_ascii_case(b"login"));
                self.sasl = match (is_login, words.next()) {
                    (true, None) => Sasl::LoginUser,
                    (true, Some(_)) => Sasl::LoginPassword,
                    (false, _) => Sasl::Other,
                };
                Waits::LogIn
            }
            b"" if text.trim_ascii().is_empty() => Waits::Empty,
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
        self.push(waits);
    }

    fn push(&mut self, waits: Waits) {
        if self.pending.len() < PENDING {
            self.log_ins += usize::from(waits == Waits::LogIn);
            self.pending.push_back(waits);
            return;
        }
        self.doubt = PENDING;
        if waits == Waits::LogIn
            && let Some(other) = self.pending.iter_mut().rfind(|waits| **waits != Waits::LogIn)
        {
            *other = waits;
            self.log_ins += 1;
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
        let (ok, refused) = (text.starts_with(b"+OK"), text.starts_with(b"-ERR"));
        // Each line of the client's has one, which may be a challenge.
        let challenges = text.starts_with(b"+ ") || text == b"+";
        if self.doubt > 0 && !ok && !refused && !challenges {
            return;
        }
        while self.pending.front() == Some(&Waits::Empty)
            && (ok || challenges || self.answers_empty == Some(false))
        {
            self.answers_empty = Some(false);
            self.pending.pop_front();
        }
        let answered = self.pending.pop_front();
        self.log_ins -= usize::from(answered == Some(Waits::LogIn));
        if answered == Some(Waits::Empty) {
            if self.pending.is_empty() {
                self.answers_empty = Some(true);
            }
            self.doubt += usize::from(self.answers_empty.is_none());
        }
        match answered {
            Some(Waits::LogIn) if ok && self.doubt == 0 => sink.succeeded("POP3 +OK"),
            Some(Waits::LogIn) if refused => sink.failed("POP3 -ERR", true),
            _ if refused && self.log_ins > 0 => {
                let near = self.pending.iter_mut().take(self.doubt);
                if let Some(waits) = near.into_iter().find(|waits| **waits == Waits::LogIn) {
                    *waits = Waits::Short;
                    self.log_ins -= 1;
                    sink.failed("POP3 -ERR", true);
                }
            }
            Some(Waits::Long) => self.long = ok && self.doubt == 0,
            _ => {}
        }
    }
}
