//! IMAP (RFC 9051): LOGIN and AUTHENTICATE PLAIN, and their tagged answers.

use super::event::{CredentialKind, Verb};
use super::machine::{Aligned, LOOK, Machine, Sink, Step, base64, is_sasl_answer, line, plain_password};
use crate::End;
use crate::bytes::starts_with_ignore_case;

/// Log-ins that wait for their answer.
const PENDING: usize = 16;

#[derive(Default)]
pub(super) struct Imap {
    client: Turn,
    /// Tags of log-ins.
    pending: Vec<Vec<u8>>,
    /// Answers that came before their command was read.
    early: Vec<(Vec<u8>, bool)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Turn {
    #[default]
    Command,
    /// A line of base64.
    Plain,
    /// The user's name, and then the password, as literals.
    User,
    Password,
}

impl Machine for Imap {
    fn step(&mut self, from: End, rest: &[u8], sink: &mut Sink<'_>) -> Step {
        let (text, next) = match line(&rest[..rest.len().min(LOOK)]) {
            Some(found) => found,
            None if rest.len() < LOOK => return Step::More,
            None => return Step::Lost,
        };
        let literal = literal(text);
        match from {
            End::Client => {
                // The literal itself follows as if it were a line of its own, where it is a secret.
                let is_secret = self.client(text, literal.is_some(), sink);
                let skip = if is_secret { 0 } else { literal.unwrap_or(0) };
                Step::Take(next.saturating_add(skip))
            }
            End::Server => {
                self.server(text, sink);
                Step::Take(next.saturating_add(literal.unwrap_or(0)))
            }
        }
    }

    fn aligned(&self, from: End, rest: &[u8]) -> Aligned {
        let Some((text, _)) = line(rest) else {
            return if rest.len() > 1024 { Aligned::No } else { Aligned::More };
        };
        let mut words = text.split(|b| *b == b' ');
        let (tag, word) = (words.next().unwrap_or(&[]), words.next().unwrap_or(&[]));
        let tag_is_one = !tag.is_empty() && tag.len() <= 16 && tag.iter().all(|b| b.is_ascii_alphanumeric());
        let fits = match from {
            End::Client => tag_is_one && word.len() > 2 && word.iter().all(u8::is_ascii_alphabetic),
            End::Server => {
                tag == b"*" || tag == b"+" || (tag_is_one && matches!(word, b"OK" | b"NO" | b"BAD"))
            }
        };
        if fits { Aligned::Yes } else { Aligned::No }
    }

    fn gap(&mut self, from: End) {
        if from == End::Client {
            self.client = Turn::Command;
        }
        self.pending.clear();
        self.early.clear();
    }
}

impl Imap {
    /// Reads a line; true where the literal that it announces is a part of a log-in.
    fn client(&mut self, text: &[u8], has_literal: bool, sink: &mut Sink<'_>) -> bool {
        let password = |secret: &[u8], sink: &mut Sink<'_>| {
            sink.credential(CredentialKind::Password, "IMAP LOGIN", secret);
        };
        // The server may have refused the mechanism or the literal.
        let begins_anew = match self.client {
            Turn::Plain => !is_sasl_answer(text, &[]),
            Turn::User | Turn::Password => is_log_in(text),
            Turn::Command => false,
        };
        if begins_anew {
            self.client = Turn::Command;
        }
        match self.client {
            Turn::Plain => {
                self.client = Turn::Command;
                if let Some(message) = base64(text)
                    && let Some(secret) = plain_password(&message)
                {
                    sink.credential(CredentialKind::Password, "IMAP AUTHENTICATE PLAIN", secret);
                }
                return false;
            }
            Turn::User => {
                // The name, and the password behind it: as a literal again, or on the same line.
                self.client = if has_literal { Turn::Password } else { Turn::Command };
                if !has_literal && let Some(space) = text.iter().rposition(|b| *b == b' ') {
                    password(unquoted(&text[space + 1..]), sink);
                }
                return has_literal;
            }
            Turn::Password => {
                self.client = Turn::Command;
                password(text, sink);
                return false;
            }
            Turn::Command => {}
        }
        let mut words = text.splitn(3, |b| *b == b' ');
        let (Some(tag), Some(command)) = (words.next(), words.next()) else { return false };
        let rest = words.next().unwrap_or(&[]);
        match command.to_ascii_uppercase().as_slice() {
            b"LOGIN" => {
                self.begins(tag, sink);
                if has_literal {
                    // Either the name is a literal, or the name stands here and the password is one.
                    let name_is = rest.starts_with(b"{");
                    self.client = if name_is { Turn::User } else { Turn::Password };
                    return true;
                }
                password(last_argument(rest), sink);
            }
            b"AUTHENTICATE" => {
                self.begins(tag, sink);
                if starts_with_ignore_case(rest, b"plain") {
                    match rest.get(6..).filter(|initial| !initial.is_empty()) {
                        Some(initial) => {
                            self.client = Turn::Plain;
                            return self.client(initial, false, sink);
                        }
                        None => self.client = Turn::Plain,
                    }
                }
            }
            b"SELECT" | b"EXAMINE" | b"FETCH" | b"SEARCH" => {
                sink.operation(Verb::Read, "mailbox", None);
            }
            b"APPEND" | b"STORE" | b"COPY" | b"MOVE" | b"EXPUNGE" => {
                sink.operation(Verb::Write, "mailbox", None);
            }
            b"CREATE" | b"DELETE" | b"RENAME" | b"SETACL" => sink.operation(Verb::Admin, "mailbox", None),
            _ => {}
        }
        false
    }

    fn begins(&mut self, tag: &[u8], sink: &mut Sink<'_>) {
        if let Some(at) = self.early.iter().position(|(known, _)| known == tag) {
            let (_, ok) = self.early.remove(at);
            tell(ok, sink);
        } else if self.pending.len() < PENDING {
            self.pending.push(tag.to_vec());
        }
    }

    fn server(&mut self, text: &[u8], sink: &mut Sink<'_>) {
        let mut words = text.split(|b| *b == b' ');
        let (Some(tag), Some(status)) = (words.next(), words.next()) else { return };
        let ok = match status {
            b"OK" => true,
            b"NO" => false,
            // It was no command, and asked for nothing.
            b"BAD" => return self.pending.retain(|known| known != tag),
            _ => return,
        };
        if tag == b"*" {
            return;
        }
        match self.pending.iter().position(|known| known == tag) {
            Some(at) => {
                self.pending.remove(at);
                tell(ok, sink);
            }
            None if self.early.len() < PENDING && tag.len() <= 32 => self.early.push((tag.to_vec(), ok)),
            None => {}
        }
    }
}

/// Behind a tag.
fn is_log_in(text: &[u8]) -> bool {
    let command = text.split(|b| *b == b' ').nth(1).unwrap_or(&[]);
    [&b"LOGIN"[..], b"AUTHENTICATE"].iter().any(|known| command.eq_ignore_ascii_case(known))
}

fn tell(ok: bool, sink: &mut Sink<'_>) {
    if ok { sink.succeeded("IMAP OK") } else { sink.failed("IMAP NO", true) }
}

/// `{12}` or `{12+}` at the end of a line.
fn literal(text: &[u8]) -> Option<u64> {
    let inner = text.strip_suffix(b"}")?;
    let open = inner.iter().rposition(|b| *b == b'{')?;
    let digits = inner[open + 1..].strip_suffix(b"+").unwrap_or(&inner[open + 1..]);
    let digits = std::str::from_utf8(digits).ok()?;
    if digits.len() > 9 { None } else { digits.parse().ok() }
}

/// What stands last: in quotes, or a word.
fn last_argument(text: &[u8]) -> &[u8] {
    if let Some(inner) = text.strip_suffix(b"\"")
        && let Some(open) = inner.iter().rposition(|b| *b == b'"')
    {
        return &inner[open + 1..];
    }
    text.rsplit(|b| *b == b' ').next().unwrap_or(&[])
}

fn unquoted(word: &[u8]) -> &[u8] {
    word.strip_prefix(b"\"").and_then(|word| word.strip_suffix(b"\"")).unwrap_or(word)
}
