//! LDAP (RFC 4511): simple binds, result 49, and what is searched and changed.

use super::event::{CredentialKind, Verb};
use super::machine::{Aligned, Machine, Sink, Step, whole};
use crate::End;

/// Binds that wait for their answer, and answers that came before their bind was read.
const PENDING: usize = 16;

#[derive(Default)]
pub(super) struct Ldap {
    /// Message ids of binds, and whether each presented something.
    binds: Vec<(u32, bool)>,
}

impl Machine for Ldap {
    fn step(&mut self, from: End, rest: &[u8], sink: &mut Sink<'_>) -> Step {
        let (tag, length, at) = match header(rest) {
            Ok(found) => found,
            Err(step) => return step,
        };
        if tag != 0x30 || length > 1 << 28 {
            return Step::Lost;
        }
        let total = length + at as u64;
        let Some(message) = whole(rest, total) else { return Step::More };
        let _ = self.message(from, message.get(at..).unwrap_or(&[]), sink);
        Step::Take(total)
    }

    fn aligned(&self, _: End, rest: &[u8]) -> Aligned {
        match header(rest) {
            Ok((0x30, length, at)) => match rest.get(at) {
                // Of a message the first part is its number.
                Some(0x02) if (5..1 << 24).contains(&length) => Aligned::Yes,
                Some(_) => Aligned::No,
                None => Aligned::More,
            },
            Ok(_) | Err(Step::Lost) => Aligned::No,
            Err(_) => Aligned::More,
        }
    }

    fn gap(&mut self, _: End) {
        self.binds.clear();
    }
}

impl Ldap {
    fn message(&mut self, from: End, body: &[u8], sink: &mut Sink<'_>) -> Option<()> {
        let (2, id, rest) = element(body)? else { return None };
        let id = id.iter().fold(0, |number, byte| number << 8 | u32::from(*byte));
        // Of a long one, what is looked at.
        let (operation, content) = beginning(rest)?;
        match (from, operation) {
            (End::Client, 0x60) => self.bind(id, content, sink)?,
            (End::Server, 0x61) => {
                let (10, code, _) = element(content)? else { return None };
                let waits = self.binds.iter().position(|(waits, _)| *waits == id);
                // Of a bind that was not seen: a refusal is for something, but success may be anybody's.
                let presented = waits.map(|at| self.binds.remove(at).1);
                match code {
                    [49] => sink.failed("LDAP 49 (invalidCredentials)", presented != Some(false)),
                    [0] if presented == Some(true) => sink.succeeded("LDAP 0"),
                    _ => {}
                }
            }
            (End::Client, 0x63) => sink.operation(Verb::Read, "directory", None),
            (End::Client, 0x66 | 0x68 | 0x4a | 0x6c) => sink.operation(Verb::Write, "directory", None),
            _ => {}
        }
        Some(())
    }

    fn bind(&mut self, id: u32, content: &[u8], sink: &mut Sink<'_>) -> Option<()> {
        let (_, _version, rest) = element(content)?;
        // 0: simple, with a password, or anonymous without. What stands behind a name too long to be looked at is taken
        // for a password, and not told as one.
        let presented = match element(rest) {
            Some((_, _name, rest)) => match beginning(rest)? {
                (0x80, secret) => {
                    sink.credential(CredentialKind::Password, "LDAP simple bind", secret);
                    !secret.is_empty()
                }
                _ => true,
            },
            None => true,
        };
        if self.binds.len() >= PENDING {
            self.binds.remove(0);
        }
        self.binds.push((id, presented));
        Some(())
    }
}

/// Tag, length, and where the content begins (X.690 section 8.1), in as many octets as liblber takes.
fn header(bytes: &[u8]) -> Result<(u8, u64, usize), Step> {
    let [tag, first, rest @ ..] = bytes else { return Err(Step::More) };
    match first {
        0..=0x7f => Ok((*tag, u64::from(*first), 2)),
        0x81..=0x88 => {
            let octets = usize::from(first & 0x7f);
            let length = rest.get(..octets).ok_or(Step::More)?;
            let length = length.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
            Ok((*tag, length, 2 + octets))
        }
        _ => Err(Step::Lost),
    }
}

/// Tag, and what is there of the content.
fn beginning(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let (tag, length, at) = header(bytes).ok()?;
    let content = bytes.get(at..)?;
    let length = usize::try_from(length).map_or(content.len(), |length| length.min(content.len()));
    Some((tag, &content[..length]))
}

/// Tag, content and what follows.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, length, at) = header(bytes).ok()?;
    let (content, rest) = bytes.get(at..)?.split_at_checked(usize::try_from(length).ok()?)?;
    Some((tag, content, rest))
}

#[cfg(test)]
mod tests {
    use crate::activity::{Event, Observer};
    use crate::{End, Plain, Protection, Protocol};

    /// It may have been anonymous.
    #[test]
    fn success_of_a_bind_that_was_not_seen_is_nobodys() {
        let answer = |code| [0x30, 12, 2, 1, 1, 0x61, 7, 10, 1, code, 4, 0, 4, 0];
        let found = |code| {
            let mut observer = Observer::midstream(Protection::Plaintext(Plain::Protocol(Protocol::Ldap)))
                .expect("it is read");
            observer.feed(End::Server, &answer(code), &|_: &[u8]| 0);
            observer.take()
        };
        assert_eq!(found(0), []);
        assert!(matches!(&found(49)[..], [Event::Authentication(failed)] if failed.presented));
    }
}
