//! MongoDB's wire protocol: OP_MSG (MongoDB manual, "MongoDB Wire Protocol"), error 18 and what
//! commands do.
//!
//! Of a body section the elements of the first level are read (BSON specification 1.1). SCRAM sends no
//! password; SASL PLAIN does.

use super::event::{CredentialKind, Verb};
use super::machine::{Aligned, Machine, Sink, Step, plain_password, whole};
use crate::End;

const OP_MSG: u32 = 2013;
const LARGEST: u32 = 48_000_000;
/// Elements of a document that are looked at.
const ELEMENTS: usize = 64;

#[derive(Default)]
pub(super) struct Mongodb {
    /// The client has begun a conversation of SASL.
    presented: bool,
}

impl Machine for Mongodb {
    fn step(&mut self, from: End, rest: &[u8], sink: &mut Sink<'_>) -> Step {
        let (Some(length), Some(code)) = (u32_at(rest, 0), u32_at(rest, 12)) else { return Step::More };
        if !(16..=LARGEST).contains(&length) {
            return Step::Lost;
        }
        if code == 2012 {
            // OP_COMPRESSED: this message says nothing, the next one may.
            return Step::Take(u64::from(length));
        }
        let Some(message) = whole(rest, u64::from(length)) else { return Step::More };
        // Flags, then a section of kind 0: the body.
        if code == OP_MSG && message.get(20) == Some(&0) {
            let document = message.get(21..).unwrap_or(&[]);
            match from {
                End::Client => self.request(document, sink),
                End::Server => self.reply(document, sink),
            }
        }
        Step::Take(u64::from(length))
    }

    fn aligned(&self, _: End, rest: &[u8]) -> Aligned {
        match (u32_at(rest, 0), u32_at(rest, 12)) {
            (Some(16..=LARGEST), Some(1 | 2004 | 2012 | OP_MSG)) => Aligned::Yes,
            (Some(_), Some(_)) => Aligned::No,
            _ => Aligned::More,
        }
    }

    fn gap(&mut self, _: End) {
        self.presented = true;
    }
}

impl Mongodb {
    fn request(&mut self, document: &[u8], sink: &mut Sink<'_>) {
        let elements = elements(document);
        let Some((_, name, _)) = elements.first().copied() else { return };
        if matches!(name, b"saslStart" | b"saslContinue" | b"authenticate") {
            self.presented = true;
        }
        if name == b"saslStart"
            && elements.iter().any(|(_, name, value)| *name == b"mechanism" && text(value) == b"PLAIN")
            && let Some((5, _, payload)) = elements.iter().find(|(_, name, _)| *name == b"payload")
            && let Some(password) = payload.get(5..).and_then(plain_password)
        {
            sink.credential(CredentialKind::Password, "MongoDB SASL PLAIN", password);
        }
        if matches!(name, b"createUser" | b"updateUser")
            && let Some((2, _, password)) = elements.iter().find(|(_, name, _)| *name == b"pwd")
        {
            sink.credential(CredentialKind::Password, "MongoDB command", text(password));
        }
        let verb = match name {
            b"find" | b"aggregate" | b"count" | b"distinct" | b"getMore" | b"listCollections"
            | b"listDatabases" | b"listIndexes" | b"mapReduce" => Verb::Read,
            b"insert" | b"update" | b"delete" | b"findAndModify" | b"findandmodify" | b"bulkWrite" => {
                Verb::Write
            }
            b"create"
            | b"drop"
            | b"dropDatabase"
            | b"createIndexes"
            | b"dropIndexes"
            | b"createUser"
            | b"updateUser"
            | b"dropUser"
            | b"grantRolesToUser"
            | b"revokeRolesFromUser"
            | b"createRole"
            | b"collMod"
            | b"renameCollection"
            | b"shutdown"
            | b"setParameter"
            | b"replSetReconfig" => Verb::Admin,
            _ => return,
        };
        sink.operation(verb, "command", Some(name));
    }

    fn reply(&mut self, document: &[u8], sink: &mut Sink<'_>) {
        let elements = elements(document);
        let number = |wanted: &[u8]| {
            elements.iter().find(|(_, name, _)| *name == wanted).and_then(|(kind, _, value)| match kind {
                0x10 => value.first_chunk().map(|bytes| f64::from(i32::from_le_bytes(*bytes))),
                0x01 => value.first_chunk().map(|bytes| f64::from_le_bytes(*bytes)),
                0x12 => value.first_chunk().map(|bytes| i64::from_le_bytes(*bytes) as f64),
                _ => None,
            })
        };
        let is_true = |wanted: &[u8]| {
            elements.iter().any(|(kind, name, value)| *kind == 8 && *name == wanted && value == &[1])
        };
        if number(b"ok") == Some(0.0) && number(b"code") == Some(18.0) {
            sink.failed("MongoDB 18 (AuthenticationFailed)", true);
        } else if self.presented
            && is_true(b"done")
            && elements.iter().any(|(_, name, _)| *name == b"conversationId")
        {
            sink.succeeded("MongoDB SASL done");
        }
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

/// Kind, name and value of the elements of a document's first level, as far as they are there.
fn elements(document: &[u8]) -> Vec<(u8, &[u8], &[u8])> {
    let mut found = Vec::new();
    let mut rest = document.get(4..).unwrap_or(&[]);
    while found.len() < ELEMENTS
        && let Some((kind, after)) = rest.split_first()
        && *kind != 0
    {
        let Some(nul) = after.iter().position(|b| *b == 0) else { break };
        let (name, value) = (&after[..nul], &after[nul + 1..]);
        let counted = u32_at(value, 0).map(|length| length as usize);
        let length = match kind {
            0x01 | 0x09 | 0x11 | 0x12 => Some(8),
            0x02 | 0x0d | 0x0e => counted.and_then(|length| length.checked_add(4)),
            0x03 | 0x04 => counted,
            0x05 => counted.and_then(|length| length.checked_add(5)),
            0x07 => Some(12),
            0x08 => Some(1),
            0x0a | 0x7f | 0xff => Some(0),
            0x10 => Some(4),
            0x13 => Some(16),
            _ => None,
        };
        let Some(value_and_rest) = length.and_then(|length| value.split_at_checked(length)) else { break };
        found.push((*kind, name, value_and_rest.0));
        rest = value_and_rest.1;
    }
    found
}

/// A BSON string without its length and its NUL.
fn text(value: &[u8]) -> &[u8] {
    let text = value.get(4..).unwrap_or(&[]);
    text.strip_suffix(b"\0").unwrap_or(text)
}
