//! SMTP's AUTH (RFC 4954): PLAIN and LOGIN, 535 and 235, and whether mail is sent.
//!
//! The client's side is followed by itself: what it sends after AUTH is an answer until it is through.

use super::event::{CredentialKind, Verb};
use super::machine::{
    Aligned, LOOK, Machine, Sink, Step, base64, begins_with_word, is_sasl_answer, line, plain_password,
};
use super::secrets;
use crate::End;
use crate::bytes::starts_with_ignore_case;

const COMMANDS: [&str; 12] =
    ["EHLO", "HELO", "LHLO", "AUTH", "MAIL", "RCPT", "DATA", "RSET", "NOOP", "QUIT", "VRFY", "STARTTLS"];

#[derive(Default)]
pub(super) struct Smtp {
    client: Turn,
    presented: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Turn {
    #[default]
    Command,
    Plain,
    LoginUser,
    LoginPassword,
    /// Another mechanism: one answer after the other, none of them a password.
    Other,
    Data,
}

impl Machine for Smtp {
    fn step(&mut self, from: End, rest: &[u8], sink: &mut Sink<'_>) -> Step {
        let (text, next) = match line(&rest[..rest.len().min(LOOK)]) {
            Some(found) => found,
            None if rest.len() < LOOK => return Step::More,
            // A line of mail may be of any length.
            None if from == End::Client && self.client == Turn::Data => (&rest[..LOOK], LOOK as u64),
            None => return Step::Lost,
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
            End::Server => reply_begins(rest),
        }
    }

    fn gap(&mut self, from: End) {
        if from == End::Client {
            self.client = Turn::Command;
        }
    }
}

impl Smtp {
    fn client(&mut self, text: &[u8], sink: &mut Sink<'_>) {
        let password = |message: &[u8], sink: &mut Sink<'_>| {
            if let Some(password) = plain_password(message) {
                sink.credential(CredentialKind::Password, "SMTP AUTH PLAIN", password);
            }
        };
        self.client = match self.client {
            Turn::Data if text == b"." => Turn::Command,
            Turn::Data => {
                secrets::by_shape(text, "mail", sink);
                Turn::Data
            }
            _ if text == b"*" => Turn::Command,
            Turn::Plain | Turn::LoginUser | Turn::LoginPassword if !is_sasl_answer(text, &COMMANDS) => {
                self.command(text, sink)
            }
            Turn::Plain => {
                if let Some(message) = base64(text) {
                    password(&message, sink);
                }
                Turn::Command
            }
            Turn::LoginUser => Turn::LoginPassword,
            Turn::LoginPassword => {
                if let Some(secret) = base64(text) {
                    sink.credential(CredentialKind::Password, "SMTP AUTH LOGIN", &secret);
                }
                Turn::Command
            }
            Turn::Other if begins_with_word(text, &COMMANDS) != Aligned::Yes => Turn::Other,
            Turn::Command | Turn::Other => self.command(text, sink),
        };
    }

    fn command(&mut self, text: &[u8], sink: &mut Sink<'_>) -> Turn {
        let mut words = text.split(|b| *b == b' ').filter(|word| !word.is_empty());
        let command = words.next().unwrap_or(&[]);
        if command.eq_ignore_ascii_case(b"data") {
            return Turn::Data;
        }
        if starts_with_ignore_case(text, b"mail from:") {
            sink.operation(Verb::Write, "mail", None);
        }
        if !command.eq_ignore_ascii_case(b"auth") {
            return Turn::Command;
        }
        self.presented = true;
        let mechanism = words.next().unwrap_or(&[]);
        let initial = words.next();
        if mechanism.eq_ignore_ascii_case(b"plain") {
            let Some(initial) = initial else { return Turn::Plain };
            if let Some(message) = base64(initial)
                && let Some(password) = plain_password(&message)
            {
                sink.credential(CredentialKind::Password, "SMTP AUTH PLAIN", password);
            }
            Turn::Command
        } else if mechanism.eq_ignore_ascii_case(b"login") {
            if initial.is_some() { Turn::LoginPassword } else { Turn::LoginUser }
        } else {
            if mechanism.eq_ignore_ascii_case(b"xoauth2") || mechanism.eq_ignore_ascii_case(b"oauthbearer") {
                let message = initial.and_then(base64).unwrap_or_default();
                let token = crate::bytes::find(&message, b"Bearer ").map(|at| &message[at + 7..]);
                let token = token.and_then(|rest| rest.split(|b| *b == 1).next());
                sink.credential(CredentialKind::BearerToken, "SMTP AUTH XOAUTH2", token.unwrap_or(&[]));
            }
            Turn::Other
        }
    }

    fn server(&mut self, text: &[u8], sink: &mut Sink<'_>) {
        // Only the last line of a reply counts (RFC 5321 section 4.2.1).
        if text.get(3) == Some(&b'-') {
            return;
        }
        match text.get(..3) {
            Some(b"535") => sink.failed("SMTP 535", true),
            Some(b"235") => sink.succeeded("SMTP 235"),
            // Authentication required: nothing was presented.
            Some(b"530") if !self.presented && text.windows(5).any(|w| w == b"5.7.0") => {
                sink.failed("SMTP 530", false);
            }
            _ => {}
        }
    }
}

/// Three digits and a separator.
pub(super) fn reply_begins(rest: &[u8]) -> Aligned {
    match rest {
        [a, b, c, d, ..] => {
            let digits = [a, b, c].iter().all(|b| b.is_ascii_digit());
            if digits && matches!(d, b' ' | b'-' | b'\r') { Aligned::Yes } else { Aligned::No }
        }
        _ => Aligned::More,
    }
}
