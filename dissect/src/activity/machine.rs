//! The shape of every reader, and what it tells.

use super::event::{
    Authentication, Before, Credential, CredentialKind, Event, Fingerprint, Operation, Outcome, Verb,
};
use super::kafka_names::TopicNames;
use super::{LIMIT, Memory, token};
use crate::End;

/// Of a message no more than this is looked at; what is longer is skipped.
pub(super) const LOOK: usize = 4096;

/// What a look at the front of a direction gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A message of this length has been read; it may reach beyond what is there.
    Take(u64),
    /// It is not all there yet.
    More,
    /// This is no message.
    Lost,
    /// Nothing that follows can be read: a tunnel, another protocol, compression.
    Done,
}

/// Whether bytes after a gap begin with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aligned {
    Yes,
    No,
    More,
}

/// Reads messages of one protocol. Only what it has taken whole may change it, so that cuts do not
/// matter; and the two directions may come in any order, as far as causes precede effects.
pub(super) trait Machine: Send {
    /// Looks at the front of a direction; `rest` is never empty.
    fn step(&mut self, from: End, rest: &[u8], sink: &mut Sink<'_>) -> Step;

    /// Whether `rest` begins with a message, after a gap.
    fn aligned(&self, from: End, rest: &[u8]) -> Aligned;

    /// Bytes are missing: what was expected of this direction no longer is.
    fn gap(&mut self, from: End);

    /// The connection has ended, and all of it was read.
    fn ended(&mut self, _: &mut Sink<'_>) {}

    /// Bytes that are held of messages that were taken in parts.
    fn held(&self) -> usize {
        0
    }

    /// Names that other connections learnt.
    fn share(&mut self, _: &TopicNames) {}

    /// Whether every operation that was read is told, so that silence means that there was none.
    fn tells_all(&self) -> bool {
        false
    }
}

/// Where a reader puts what it found.
pub(super) struct Sink<'a> {
    pub memory: &'a mut Memory,
    /// Bytes at the front that were looked at before, and were too few.
    pub examined: usize,
    pub fingerprint: &'a dyn Fingerprint,
}

impl Sink<'_> {
    /// The client asks for this. A name that cannot be told as it is, is not told.
    pub fn operation(&mut self, verb: Verb, kind: &'static str, object: Option<&[u8]>) {
        let object = object.and_then(|object| std::str::from_utf8(object).ok());
        let object = object.filter(|object| is_tellable(object)).map(str::to_owned);
        self.memory.operation(Operation { verb, kind, object });
    }

    /// The client may have asked for something that is not told.
    pub fn passed_over(&mut self) {
        self.memory.passed_over = true;
    }

    /// What follows is HTTP/2: servers may make something else of what was asked for before.
    pub fn turned_to_http2(&mut self) {
        self.memory.passed_over = true;
        if self.memory.before == Some(Before::Upgrade) {
            self.memory.before = None;
        }
    }

    /// The server turned the client down.
    pub fn failed(&mut self, code: impl Into<String>, presented: bool) {
        self.answered(Outcome::Failed, code.into(), presented);
    }

    /// The server let the client in, by something that it had presented.
    pub fn succeeded(&mut self, code: impl Into<String>) {
        self.answered(Outcome::Succeeded, code.into(), true);
    }

    /// What another reader found.
    pub fn repeated(&mut self, answer: Authentication) {
        self.answered(answer.outcome, answer.code, answer.presented);
    }

    fn answered(&mut self, outcome: Outcome, code: String, presented: bool) {
        let at = self.memory.at.clone();
        self.memory.add(Event::Authentication(Authentication { outcome, code, presented, at }));
    }

    /// A secret in the clear. A token is one whatever it was sent as.
    pub fn credential(&mut self, kind: CredentialKind, place: &'static str, secret: &[u8]) {
        if secret.is_empty() {
            return;
        }
        let token = token::read(secret);
        let kind = if token.is_some() { CredentialKind::JsonWebToken } else { kind };
        self.noted(kind, place, self.fingerprint.of(secret), token);
    }

    /// The same of one that was seen before its kind was certain.
    pub fn noted(
        &mut self,
        kind: CredentialKind,
        place: &'static str,
        fingerprint: u64,
        token: Option<super::Token>,
    ) {
        let before = self.memory.before;
        self.memory.credential(Credential { kind, place, fingerprint, token, before });
    }
}

/// Words of any language, and nothing that a screen would obey.
fn is_tellable(name: &str) -> bool {
    let is_visible = |c: char| c.is_alphanumeric() || c.is_ascii_graphic() || matches!(c, ' ' | '…');
    !name.is_empty() && name.chars().count() <= 255 && name.chars().all(is_visible)
}

/// A message of known length: as much of it as is looked at, once that is there.
pub(super) fn whole(rest: &[u8], length: u64) -> Option<&[u8]> {
    let wanted = usize::try_from(length).map_or(LOOK, |length| length.min(LOOK));
    rest.get(..wanted)
}

/// The same, of as much as is held.
pub(super) fn held(rest: &[u8], length: u64) -> Option<&[u8]> {
    rest.get(..usize::try_from(length).map_or(LIMIT, |length| length.min(LIMIT)))
}

/// A line without its end, and its length with it.
pub(super) fn line(rest: &[u8]) -> Option<(&[u8], u64)> {
    crate::bytes::line(rest).map(|(line, next)| (line, next as u64))
}

/// Whether the first line begins with one of these words, whatever their case.
pub(super) fn begins_with_word(rest: &[u8], words: &[&str]) -> Aligned {
    let end = rest.iter().position(|b| matches!(b, b' ' | b'\r' | b'\n' | b':'));
    match end {
        Some(end) => {
            let word = &rest[..end];
            let known = words.iter().any(|known| word.eq_ignore_ascii_case(known.as_bytes()));
            if known { Aligned::Yes } else { Aligned::No }
        }
        None if rest.len() > 32 => Aligned::No,
        None => Aligned::More,
    }
}

/// Standard base64 with or without its padding (SASL in text protocols).
pub(super) fn base64(text: &[u8]) -> Option<Vec<u8>> {
    use base64::Engine;
    use base64::alphabet::STANDARD;
    use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
    const LENIENT: GeneralPurpose = GeneralPurpose::new(
        &STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    if text.len() > LOOK {
        return None;
    }
    LENIENT.decode(text.trim_ascii()).ok()
}

/// Whether a line may be what a client answers within SASL (RFC 4422 section 4): base64, nothing, or that it gives up.
/// None of the protocol's commands, which follow where the server has refused the mechanism.
pub(super) fn is_sasl_answer(line: &[u8], commands: &[&str]) -> bool {
    let is_command = commands.iter().any(|command| line.eq_ignore_ascii_case(command.as_bytes()));
    let line = line.trim_ascii_end();
    !is_command && (matches!(line, b"*" | b"=") || base64(line).is_some())
}

/// The password of a SASL PLAIN message (RFC 4616): after the second NUL.
pub(super) fn plain_password(message: &[u8]) -> Option<&[u8]> {
    let mut parts = message.splitn(3, |byte| *byte == 0);
    parts.nth(2)
}
