//! NATS ("NATS protocol", Client protocol): CONNECT, subjects, and the server's violations.

use super::event::Verb;
use super::machine::{Aligned, Machine, Sink, Step, begins_with_word, line};
use super::secrets;
use crate::End;
use crate::bytes::starts_with_ignore_case;

const CLIENT: [&str; 7] = ["CONNECT", "PUB", "HPUB", "SUB", "UNSUB", "PING", "PONG"];
const SERVER: [&str; 7] = ["INFO", "MSG", "HMSG", "+OK", "-ERR", "PING", "PONG"];

#[derive(Default)]
pub(super) struct Nats {
    presented: bool,
    told: bool,
}

impl Machine for Nats {
    fn step(&mut self, from: End, rest: &[u8], sink: &mut Sink<'_>) -> Step {
        let Some((text, next)) = line(rest) else { return Step::More };
        if from == End::Client && text.iter().any(|b| b.is_ascii_control() && *b != b'\t') {
            sink.passed_over();
        }
        let mut words = text.split(|b| matches!(b, b' ' | b'\t')).filter(|word| !word.is_empty());
        let Some(word) = words.next() else { return Step::Take(next) };
        let word = word.to_ascii_uppercase();
        let is_last_a_number = |words: &mut dyn Iterator<Item = &[u8]>| {
            words.last().and_then(|size| std::str::from_utf8(size).ok()?.parse::<u64>().ok())
        };
        match (from, word.as_slice()) {
            (End::Client, b"CONNECT") => self.connect(text, sink),
            (End::Client, b"SUB") => {
                if let Some(subject) = words.next().filter(|subject| !is_inner(subject)) {
                    sink.operation(Verb::Read, "subject", Some(subject));
                }
            }
            (End::Client, b"PUB" | b"HPUB") => {
                let subject = words.next();
                let Some(size) = is_last_a_number(&mut words) else { return Step::Lost };
                if let Some(subject) = subject.filter(|subject| !is_inner(subject)) {
                    sink.operation(published(subject), "subject", Some(subject));
                }
                return Step::Take(next.saturating_add(size).saturating_add(2));
            }
            (End::Server, b"MSG" | b"HMSG") => {
                self.let_in(sink);
                let Some(size) = is_last_a_number(&mut words) else { return Step::Lost };
                return Step::Take(next.saturating_add(size).saturating_add(2));
            }
            (End::Server, b"-ERR") => self.error(text, sink),
            (End::Server, b"+OK" | b"PONG") => self.let_in(sink),
            _ if from == End::Client && CLIENT.iter().any(|known| known.as_bytes() == word) => {}
            _ if from == End::Server && SERVER.iter().any(|known| known.as_bytes() == word) => {}
            _ => return Step::Lost,
        }
        Step::Take(next)
    }

    fn aligned(&self, from: End, rest: &[u8]) -> Aligned {
        begins_with_word(rest, if from == End::Client { &CLIENT } else { &SERVER })
    }

    fn gap(&mut self, _: End) {
        self.told = true;
    }

    fn tells_all(&self) -> bool {
        true
    }
}

impl Nats {
    fn connect(&mut self, text: &[u8], sink: &mut Sink<'_>) {
        let named = secrets::in_json(text, "NATS CONNECT", sink);
        // Signatures of a key prove without being one.
        let mut signed = false;
        secrets::each_string(text, |name, value| {
            signed |= name.eq_ignore_ascii_case(b"sig") && !value.is_empty();
            false
        });
        self.presented = named || signed;
    }

    /// The first that a server does for a client after its CONNECT.
    fn let_in(&mut self, sink: &mut Sink<'_>) {
        if self.presented && !self.told {
            self.told = true;
            sink.succeeded("NATS connected");
        }
    }

    fn error(&mut self, text: &[u8], sink: &mut Sink<'_>) {
        let reason = text.get(4..).unwrap_or(&[]).trim_ascii();
        let reason = reason.strip_prefix(b"'").unwrap_or(reason);
        if starts_with_ignore_case(reason, b"Authorization Violation") {
            self.told = true;
            sink.failed("NATS Authorization Violation", true);
        } else if starts_with_ignore_case(reason, b"User Authentication Expired") {
            sink.failed("NATS User Authentication Expired", true);
        }
    }
}

/// What it is to publish there. Streams are made, emptied and removed by requests ("JetStream wire API Reference",
/// `$JS.API`, `$JS.domain.API`), and so is the server asked to do things (`$SYS`); a consumer is how one reads.
fn published(subject: &[u8]) -> Verb {
    let mut words = subject.split(|b| *b == b'.');
    let is_api = match (words.next(), words.next()) {
        (Some(b"$SYS"), _) => return Verb::Admin,
        (Some(b"$JS"), Some(b"API")) => true,
        (Some(b"$JS"), Some(domain)) => domain != b"ACK" && words.next() == Some(b"API"),
        _ => false,
    };
    match (words.next(), words.next()) {
        _ if !is_api => Verb::Write,
        (Some(b"META" | b"SERVER" | b"ACCOUNT"), _) => Verb::Admin,
        (Some(b"STREAM"), what) => match what.unwrap_or_default() {
            b"CREATE" | b"UPDATE" | b"DELETE" | b"PURGE" | b"RESTORE" | b"PEER" | b"LEADER" => Verb::Admin,
            b"MSG" if words.next() == Some(b"DELETE") => Verb::Admin,
            _ => Verb::Write,
        },
        _ => Verb::Write,
    }
}

/// Answers go to inboxes: one a client or a request, by design. `_INBOX.>` would be everybody's.
fn is_inner(subject: &[u8]) -> bool {
    let Some(own) = subject.strip_prefix(b"_INBOX.") else { return false };
    !matches!(own.first(), None | Some(b'*' | b'>' | b'.'))
}
