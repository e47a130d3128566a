//! Redis (RESP2 and RESP3, "Redis serialization protocol specification"): AUTH and HELLO, the refusals
//! WRONGPASS and NOAUTH, and which commands read, write or administer.
//!
//! Both directions are a flat row of tokens; a reply is whole when its nested elements are. Answers are
//! matched to commands in order, so that an `OK` to AUTH is told from another one.

use std::collections::VecDeque;

use super::event::{CredentialKind, Verb};
use super::machine::{Aligned, LOOK, Machine, Sink, Step, line};
use super::redis_commands::{is_neutral, verb};
use crate::End;
use crate::bytes::starts_with_ignore_case;

/// Commands that wait for their answer.
const PENDING: usize = 256;
/// Arguments of a command that are looked at, and how much of each.
const ARGUMENTS: usize = 12;
const LONGEST: usize = 1024;
/// What CLIENT does to other connections.
const OF_OTHERS: [&[u8]; 5] = [b"KILL", b"PAUSE", b"UNPAUSE", b"UNBLOCK", b"NO-EVICT"];

#[derive(Default)]
pub(super) struct Redis {
    /// Arguments of the command that is being read, and how many are to come.
    command: Vec<Vec<u8>>,
    to_come: u64,
    /// Whether each command that waits was a log-in; `None`: they cannot be matched.
    pending: Option<VecDeque<bool>>,
    started: bool,
    /// Tokens to come of the reply that is being read.
    reply: u64,
    /// It is a push (RESP3): no answer to anything.
    push: bool,
}

impl Machine for Redis {
    fn step(&mut self, from: End, rest: &[u8], sink: &mut Sink<'_>) -> Step {
        if !self.started {
            self.started = true;
            self.pending = Some(VecDeque::new());
        }
        match from {
            End::Client => self.client(rest, sink),
            End::Server => self.server(rest, sink),
        }
    }

    fn aligned(&self, from: End, rest: &[u8]) -> Aligned {
        let first = match from {
            End::Client => rest[0] == b'*',
            End::Server => b"+-:$*_#,(!=%~>".contains(&rest[0]),
        };
        if !first {
            return Aligned::No;
        }
        match line(rest) {
            Some((header, next)) => match from {
                End::Server => Aligned::Yes,
                // A command is an array of strings.
                End::Client => match (number(&header[1..]), rest.get(next as usize)) {
                    (Some(1..), Some(b'$')) => Aligned::Yes,
                    (Some(1..), None) => Aligned::More,
                    _ => Aligned::No,
                },
            },
            None if rest.len() > LONGEST => Aligned::No,
            None => Aligned::More,
        }
    }

    fn gap(&mut self, from: End) {
        self.started = true;
        self.pending = None;
        match from {
            End::Client => (self.command, self.to_come) = (Vec::new(), 0),
            End::Server => (self.reply, self.push) = (0, false),
        }
    }

    fn tells_all(&self) -> bool {
        true
    }
}

impl Redis {
    fn client(&mut self, rest: &[u8], sink: &mut Sink<'_>) -> Step {
        let Some((header, next)) = line(&rest[..rest.len().min(LOOK)]) else {
            return if rest.len() >= LOOK { Step::Lost } else { Step::More };
        };
        if self.to_come == 0 {
            return match header.split_first() {
                Some((b'*', count)) => match number(count) {
                    Some(count @ 1..=1_048_576) => {
                        self.to_come = count;
                        Step::Take(next)
                    }
                    Some(..=0) | None if count == b"-1" || count == b"0" => Step::Take(next),
                    _ => Step::Lost,
                },
                // Typed by hand; words in quotes may hold escapes, and stand in pieces.
                _ => {
                    if header.iter().any(|b| matches!(b, b'"' | b'\'' | b'\\') || b.is_ascii_control()) {
                        sink.passed_over();
                    }
                    let words = header.split(|b| *b == b' ').filter(|word| !word.is_empty());
                    self.command = words.take(ARGUMENTS).map(|word| unquoted(word).to_vec()).collect();
                    self.whole(sink);
                    Step::Take(next)
                }
            };
        }
        let Some(length) = header.strip_prefix(b"$").and_then(number) else { return Step::Lost };
        let keep = self.command.len() < ARGUMENTS;
        let wanted = if keep { length.min(LONGEST as u64) } else { 0 };
        let Some(argument) = rest.get(next as usize..next as usize + wanted as usize) else {
            return Step::More;
        };
        if keep {
            self.command.push(argument.to_vec());
        }
        self.to_come -= 1;
        if self.to_come == 0 {
            self.whole(sink);
        }
        Step::Take(next.saturating_add(length).saturating_add(2))
    }

    /// A command is there with all its arguments.
    fn whole(&mut self, sink: &mut Sink<'_>) {
        let command = std::mem::take(&mut self.command);
        let Some(name) = command.first().map(|name| name.to_ascii_uppercase()) else { return };
        let argument = |at: usize| command.get(at).map_or(&[][..], Vec::as_slice);
        let is = |at: usize, word: &[u8]| argument(at).eq_ignore_ascii_case(word);
        let mut logs_in = false;
        let secret = |sink: &mut Sink<'_>, at: usize, place| {
            sink.credential(CredentialKind::Password, place, argument(at));
        };
        match name.as_slice() {
            b"AUTH" => {
                logs_in = true;
                secret(sink, command.len() - 1, "Redis AUTH");
            }
            b"HELLO" => {
                if let Some(at) = (1..command.len()).find(|at| is(*at, b"AUTH")) {
                    logs_in = true;
                    secret(sink, at + 2, "Redis HELLO … AUTH");
                }
            }
            b"CONFIG" if is(1, b"SET") && (is(2, b"requirepass") || is(2, b"masterauth")) => {
                secret(sink, 3, "Redis CONFIG SET");
            }
            b"ACL" if is(1, b"SETUSER") => {
                for rule in command.iter().skip(3).filter_map(|rule| rule.strip_prefix(b">")) {
                    sink.credential(CredentialKind::Password, "Redis ACL SETUSER", rule);
                }
            }
            b"MIGRATE" => {
                if let Some(at) = (6..command.len()).find(|at| is(*at, b"AUTH") || is(*at, b"AUTH2")) {
                    secret(sink, if is(at, b"AUTH2") { at + 2 } else { at + 1 }, "Redis MIGRATE");
                }
            }
            _ => {}
        }
        match verb(&name) {
            Some(verb) => sink.operation(verb, "command", Some(&name)),
            // Of another connection, or of all.
            None if name == b"CLIENT" && OF_OTHERS.iter().any(|word| is(1, word)) => {
                sink.operation(Verb::Admin, "command", Some(&name));
            }
            None if is_neutral(&name) => {}
            // Of a module, or of a later version.
            None => sink.passed_over(),
        }
        if let Some(pending) = &mut self.pending {
            pending.push_back(logs_in);
            if pending.len() > PENDING {
                self.pending = None;
            }
        }
    }

    fn server(&mut self, rest: &[u8], sink: &mut Sink<'_>) -> Step {
        let Some((header, next)) = line(&rest[..rest.len().min(LOOK)]) else {
            return if rest.len() >= LOOK { Step::Lost } else { Step::More };
        };
        let Some((kind, text)) = header.split_first() else { return Step::Lost };
        let begins = self.reply == 0;
        if begins {
            self.reply = 1;
            self.push = *kind == b'>';
        }
        let mut length = next;
        let mut elements = 0;
        match kind {
            b'+' | b'-' | b':' | b'_' | b'#' | b',' | b'(' => {}
            b'$' | b'!' | b'=' => match number(text) {
                Some(bytes) => length = next.saturating_add(bytes).saturating_add(2),
                None if text == b"-1" => {}
                None => return Step::Lost,
            },
            b'*' | b'~' | b'>' | b'%' | b'|' => match number(text) {
                Some(count) if count <= 1 << 32 => {
                    elements = if matches!(kind, b'%' | b'|') { 2 * count } else { count };
                    // An attribute (`|`) stands before the reply that it belongs to.
                    elements += u64::from(*kind == b'|');
                }
                None if text == b"-1" => {}
                _ => return Step::Lost,
            },
            _ => return Step::Lost,
        }
        self.reply = self.reply - 1 + elements;
        if begins && !self.push {
            let logs_in = match &mut self.pending {
                Some(pending) => pending.pop_front(),
                None => None,
            };
            outcome(*kind, text, logs_in, sink);
        }
        Step::Take(length)
    }
}

fn outcome(kind: u8, text: &[u8], logs_in: Option<bool>, sink: &mut Sink<'_>) {
    if kind != b'-' {
        if logs_in == Some(true) {
            sink.succeeded("Redis OK");
        }
        return;
    }
    if starts_with_ignore_case(text, b"WRONGPASS") {
        sink.failed("Redis WRONGPASS", true);
    } else if starts_with_ignore_case(text, b"NOAUTH") {
        sink.failed("Redis NOAUTH", logs_in == Some(true));
    } else if starts_with_ignore_case(text, b"ERR invalid password") {
        // Before Redis 6.
        sink.failed("Redis ERR invalid password", true);
    }
}

fn number(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    if text.len() > 18 || !text.bytes().all(|b| b.is_ascii_digit()) { None } else { text.parse().ok() }
}

fn unquoted(word: &[u8]) -> &[u8] {
    let inner = word.strip_prefix(b"\"").and_then(|word| word.strip_suffix(b"\""));
    inner.unwrap_or(word)
}
