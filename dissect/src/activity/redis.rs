//! Redis (RESP2 and RESP3, "Redis serialization protocol specification"): AUTH and HELLO, the refusals
//! WRONGPASS and NOAUTH, and which commands read, write or administer. What clients send is read as Redis 7 reads
//! it (`processMultibulkBuffer`, `sdssplitargs`).
//!
//! Both directions are a flat row of tokens; a reply is whole when its nested elements are. Answers are
//! matched to commands in order, so that an `OK` to AUTH is told from another one.

use std::collections::VecDeque;

use super::event::{CredentialKind, Verb};
use super::machine::{Aligned, LOOK, Machine, Sink, Step, line};
use super::redis_commands::{is_neutral, verb};
use crate::End;
use crate::bytes::{position, starts_with_ignore_case};
use crate::plain::redis::{Read, is_space, length, word};

/// Rows of commands alike that wait for their answers.
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
    /// They are words of a line, and its end is to come.
    inline: bool,
    /// Whether commands that wait were log-ins, and how many in a row; `None`: they cannot be matched.
    pending: Option<VecDeque<(bool, u32)>>,
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
            End::Client => (self.command, self.to_come, self.inline) = (Vec::new(), 0, false),
            End::Server => (self.reply, self.push) = (0, false),
        }
    }

    fn tells_all(&self) -> bool {
        true
    }
}

impl Redis {
    fn client(&mut self, rest: &[u8], sink: &mut Sink<'_>) -> Step {
        if self.to_come == 0 && (self.inline || rest[0] != b'*') {
            return self.words(rest, sink);
        }
        if self.to_come > 0 && rest[0] != b'$' {
            return Step::Lost;
        }
        let (number, next) = match length(&rest[1..]) {
            Read::Open => return Step::More,
            Read::Broken => return Step::Lost,
            Read::Whole((number, next)) => (number, 1 + next),
        };
        if rest[next - 1] != b'\n' {
            sink.passed_over();
        }
        if self.to_come == 0 {
            // Of none there is no answer.
            self.to_come = u64::try_from(number).unwrap_or(0);
            return if self.to_come <= 1 << 31 { Step::Take(next as u64) } else { Step::Lost };
        }
        let Ok(length) = u64::try_from(number) else { return Step::Lost };
        let keep = self.command.len() < ARGUMENTS;
        let wanted = if keep { length.min(LONGEST as u64) } else { 0 };
        let Some(argument) = rest.get(next..next + wanted as usize) else { return Step::More };
        if keep {
            self.command.push(argument.to_vec());
        }
        self.to_come -= 1;
        if self.to_come == 0 {
            self.whole(sink);
        }
        Step::Take((next as u64).saturating_add(length).saturating_add(2))
    }

    /// A line typed by hand; of a long one, the words that are there.
    fn words(&mut self, rest: &[u8], sink: &mut Sink<'_>) -> Step {
        let known = sink.examined.min(rest.len());
        if rest.len() < LOOK && position(&rest[known..], b'\n').is_none() {
            return Step::More;
        }
        let mut at = 0;
        loop {
            at += rest[at..].iter().take_while(|byte| is_space(**byte) && **byte != b'\n').count();
            if rest.get(at) == Some(&b'\n') {
                passed_over(rest[..at].strip_suffix(b"\r").unwrap_or(&rest[..at]), sink);
                self.inline = false;
                self.whole(sink);
                return Step::Take(at as u64 + 1);
            }
            match word(&rest[at..rest.len().min(at + LOOK)]) {
                // What has quotes that do not match ends the connection.
                Read::Broken => return Step::Lost,
                // No longer word is read.
                Read::Open if at == 0 => return Step::Lost,
                Read::Open => break,
                Read::Whole((word, length)) => {
                    if self.command.len() < ARGUMENTS {
                        self.command.push(word[..word.len().min(LONGEST)].to_vec());
                    }
                    at += length;
                }
            }
        }
        // It may be of the end of the line.
        if at == rest.len() && rest.ends_with(b"\r") {
            at -= 1;
        }
        passed_over(&rest[..at], sink);
        self.inline = true;
        Step::Take(at as u64)
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
                if command.len() > 1 {
                    secret(sink, command.len() - 1, "Redis AUTH");
                }
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
            match pending.back_mut() {
                Some((alike, count)) if *alike == logs_in && *count < u32::MAX => *count += 1,
                _ => pending.push_back((logs_in, 1)),
            }
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
            outcome(*kind, text, self.answered(), sink);
        }
        Step::Take(length)
    }

    /// Whether the command that this answers was a log-in, as far as it is known.
    fn answered(&mut self) -> Option<bool> {
        let pending = self.pending.as_mut()?;
        let (logs_in, count) = pending.front_mut()?;
        let logs_in = *logs_in;
        *count -= 1;
        if *count == 0 {
            pending.pop_front();
        }
        Some(logs_in)
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

/// Servers of other makes may read quotes, escapes and what does not print otherwise; and lengths that end otherwise.
fn passed_over(words: &[u8], sink: &mut Sink<'_>) {
    if words.iter().any(|b| matches!(b, b'"' | b'\'' | b'\\') || b.is_ascii_control()) {
        sink.passed_over();
    }
}
