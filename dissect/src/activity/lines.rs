//! Text of no protocol that is read here: secrets by their shape, fields that name themselves as
//! passwords, and the phrases by which Telnet and Redis turn a log-in down.

use super::event::CredentialKind;
use super::machine::{Aligned, LOOK, Machine, Sink, Step, base64, line, plain_password};
use super::secrets;
use crate::End;
use crate::bytes::find;

pub(super) struct Lines;

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
        match from {
            End::Client => from_client(text, sink),
            End::Server if find(text, b"Login incorrect").is_some() => sink.failed("Login incorrect", true),
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

    fn gap(&mut self, _: End) {}
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
