//! Text of no protocol that is read here: secrets by their shape, fields that name themselves as
//! passwords, and the phrases by which Telnet and Redis turn a log-in down.
//!
//! Redis answers any line, and goes on: where the server's first answer is one that nobody else has, what the client
//! says is read as Redis reads it, from the start.

use super::event::{CredentialKind, Event};
use super::machine::{Aligned, LOOK, Machine, Sink, Step, base64, line, plain_password};
use super::{Observer, secrets};
use crate::bytes::find;
use crate::plain::redis::ERRORS;
use crate::{End, Plain, Protection, Protocol};

/// So much of the client's is read before the server's first answer: no line of Redis' is longer
/// (`PROTO_INLINE_MAX_SIZE`).
const UNANSWERED: u64 = 64 * 1024;

#[derive(Default)]
pub(super) struct Lines {
    /// What the client says, as Redis reads it.
    redis: Option<Box<Observer>>,
    unanswered: u64,
    is_redis: bool,
}

impl Lines {
    /// Of a service that is not known at all.
    pub(super) fn of_nobody() -> Lines {
        let redis =
            Observer::new(Protection::Plaintext(Plain::Protocol(Protocol::Redis))).map(|mut redis| {
                redis.memory.no_operations = true;
                Box::new(redis)
            });
        Lines { redis, ..Lines::default() }
    }

    fn as_redis(&mut self, from: End, piece: &[u8], sink: &mut Sink<'_>) {
        let Some(redis) = &mut self.redis else { return };
        if !self.is_redis {
            self.is_redis = from == End::Server && ERRORS.iter().any(|error| piece.starts_with(error));
            self.unanswered += piece.len() as u64;
            if !self.is_redis && (from == End::Server || self.unanswered > UNANSWERED) {
                self.redis = None;
                return;
            }
        }
        redis.feed(from, piece, sink.fingerprint);
        if self.is_redis {
            for event in redis.take() {
                match event {
                    Event::Credential(secret) => {
                        sink.noted(secret.kind, secret.place, secret.fingerprint, secret.token);
                    }
                    Event::Authentication(answer) => sink.repeated(answer),
                    Event::Operation(_) => {}
                }
            }
        }
    }
}

impl Machine for Lines {
    fn step(&mut self, from: End, rest: &[u8], sink: &mut Sink<'_>) -> Step {
        // What has no lines is cut into pieces of fixed size.
        let (text, length) = match line(&rest[..rest.len().min(LOOK)]) {
            Some(found) => found,
            None if rest.len() >= LOOK => (&rest[..LOOK], LOOK as u64),
            None => return Step::More,
        };
        let place = "text";
        secrets::by_shape(text, place, sink);
        secrets::in_url(text, "URL user information", sink);
        secrets::in_json(text, place, sink);
        self.as_redis(from, &rest[..length as usize], sink);
        match from {
            End::Client => from_client(text, sink),
            End::Server if find(text, b"Login incorrect").is_some() => sink.failed("Login incorrect", true),
            End::Server if self.is_redis => {}
            // Of Redis, whatever its client began with.
            End::Server if text.starts_with(b"-WRONGPASS ") => sink.failed("Redis WRONGPASS", true),
            End::Server if text == b"-ERR invalid password" => {
                sink.failed("Redis ERR invalid password", true);
            }
            End::Server => {}
        }
        Step::Take(length)
    }

    fn aligned(&self, _: End, _: &[u8]) -> Aligned {
        Aligned::Yes
    }

    fn gap(&mut self, from: End) {
        match &mut self.redis {
            Some(redis) if self.is_redis => redis.gap(from),
            _ => self.redis = None,
        }
    }

    fn held(&self) -> usize {
        self.redis.as_ref().map_or(0, |redis| redis.held())
    }
}

fn from_client(text: &[u8], sink: &mut Sink<'_>) {
    // STOMP's header of CONNECT (STOMP 1.2, "CONNECT or STOMP Frame").
    if let Some(passcode) = text.strip_prefix(b"passcode:") {
        sink.credential(CredentialKind::Password, "STOMP passcode header", passcode);
    }
    // XMPP's SASL (RFC 6120 section 6.4.2).
    if let Some(at) = find(text, b"<auth ")
        && find(&text[at..], b"PLAIN").is_some()
        && let Some(open) = find(&text[at..], b">")
        && let Some(message) = text[at + open + 1..].split(|b| *b == b'<').next().and_then(base64)
        && let Some(password) = plain_password(&message)
    {
        sink.credential(CredentialKind::Password, "XMPP SASL PLAIN", password);
    }
}
