//! MQTT 3.1, 3.1.1 and 5 (OASIS): CONNECT and its answer, topics that are published and subscribed.
//!
//! A will is published for the client when it is gone, so it counts as published. Each of the fields of CONNECT may take
//! 64 KiB (MQTT 5 section 3.1.3): they are read one by one. A shared subscription
//! (MQTT 5 section 4.8.2) is told by the topics that it is for.

use std::collections::HashMap;

use super::event::{CredentialKind, Verb};
use super::machine::{Aligned, Machine, Sink, Step, held, whole};
use crate::End;
use crate::bytes::Reader;

/// Topics of one subscription that are told.
const TOPICS: usize = 32;
/// Topics that are remembered by their alias.
const ALIASES: usize = 64;

#[derive(Default)]
pub(super) struct Mqtt {
    is_five: bool,
    /// Those of the client (MQTT 5 section 3.3.2.3.4).
    aliases: HashMap<u16, Vec<u8>>,
    presented: Option<bool>,
    /// MQTT 3.1, whose servers do not say whether they go on with a session.
    may_go_on: bool,
    /// CONNECT, as long as not all of it has been read.
    connect: Option<Connect>,
}

struct Connect {
    /// Bytes that still belong to it.
    left: u64,
    /// What they are, the last first.
    fields: Vec<Field>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Properties,
    ClientId,
    WillTopic,
    WillPayload,
    User,
    Password,
}

impl Machine for Mqtt {
    fn step(&mut self, from: End, rest: &[u8], sink: &mut Sink<'_>) -> Step {
        if from == End::Client
            && let Some(connect) = self.connect.take()
        {
            return self.field(connect, rest, sink);
        }
        let Some((length, at)) = remaining_length(rest) else {
            return if rest.len() >= 5 { Step::Lost } else { Step::More };
        };
        let total = length + at as u64;
        if from == End::Client && rest[0] >> 4 == 1 {
            return self.connect(rest, at, total, sink);
        }
        let Some(packet) = whole(rest, total) else { return Step::More };
        let body = packet.get(at..).unwrap_or(&[]);
        match (from, rest[0] >> 4) {
            (End::Client, 3) => {
                let with_id = rest[0] & 0b110 != 0;
                if self.publish(body, with_id, sink).is_none() {
                    sink.passed_over();
                }
            }
            (End::Client, 8) => {
                let all = self.subscribe(body, sink).is_some();
                if !all || packet.len() as u64 != total {
                    sink.passed_over();
                }
            }
            (End::Server, 2) => self.answer(body, sink),
            (_, 0) => return Step::Lost,
            _ => {}
        }
        Step::Take(total)
    }

    fn aligned(&self, from: End, rest: &[u8]) -> Aligned {
        let Some((length, at)) = remaining_length(rest) else {
            return if rest.len() >= 5 { Aligned::No } else { Aligned::More };
        };
        // Flags that the standard fixes, or a publication whose topic can be read.
        let fits = match (from, rest[0]) {
            (End::Client, 0x82 | 0xa2 | 0xc0 | 0xe0 | 0x40 | 0x62) => true,
            (End::Server, 0x90 | 0xb0 | 0xd0 | 0x40 | 0x50 | 0x62) => true,
            (_, 0x30..=0x3d) => match Reader::new(rest.get(at..).unwrap_or(&[])).vector16() {
                Some(topic) => !topic.is_empty() && topic.iter().all(|b| *b >= b' '),
                None => return if rest.len() > 512 { Aligned::No } else { Aligned::More },
            },
            _ => false,
        };
        let end = usize::try_from(length).ok().and_then(|length| length.checked_add(at));
        let follows = end.and_then(|end| rest.get(end)).is_none_or(|next| next >> 4 != 0);
        if fits && follows { Aligned::Yes } else { Aligned::No }
    }

    fn gap(&mut self, from: End) {
        if from == End::Client {
            self.aliases.clear();
            self.connect = None;
        }
    }

    fn tells_all(&self) -> bool {
        true
    }
}

impl Mqtt {
    /// The name of the protocol, its version, flags, and how long the client may be silent; then the fields.
    fn connect(&mut self, rest: &[u8], at: usize, total: u64, sink: &mut Sink<'_>) -> Step {
        const NAME: u16 = 64;
        let front = |body: &[u8]| {
            let mut reader = Reader::new(body);
            let name = reader.u16()?;
            reader.take(usize::from(name.min(NAME)))?;
            let (level, flags, _) = (reader.u8()?, reader.u8()?, reader.u16()?);
            Some((name <= NAME, level, flags, body.len() - reader.rest().len()))
        };
        let end = usize::try_from(total).map_or(rest.len(), |total| total.min(rest.len()));
        let (level, flags, length) = match front(&rest[at..end]) {
            Some((true, level, flags, length)) => (level, flags, length),
            None if (rest.len() as u64) < total => return Step::More,
            _ => {
                sink.passed_over();
                return Step::Take(total);
            }
        };
        self.is_five = level & 0x7f == 5;
        self.may_go_on = level & 0x7f == 3 && flags & 0x02 == 0;
        self.presented = Some(flags & 0xc0 != 0);
        let mut fields = Vec::new();
        let mut add = |there: bool, field| {
            if there {
                fields.push(field);
            }
        };
        let has_will = flags & 0x04 != 0;
        add(flags & 0x40 != 0, Field::Password);
        add(flags & 0x80 != 0, Field::User);
        add(has_will, Field::WillPayload);
        add(has_will, Field::WillTopic);
        add(has_will && self.is_five, Field::Properties);
        add(true, Field::ClientId);
        add(self.is_five, Field::Properties);
        let taken = (at + length) as u64;
        self.go_on(Connect { left: total - taken, fields }, taken, sink)
    }

    fn field(&mut self, mut connect: Connect, rest: &[u8], sink: &mut Sink<'_>) -> Step {
        let field = connect.fields.last().copied();
        let length = match field {
            Some(Field::Properties) => variable(rest).map(|(length, bytes)| length + bytes as u64),
            Some(_) => Reader::new(rest).u16().map(|length| u64::from(length) + 2),
            None => Some(connect.left),
        };
        let (length, value) = match (length, length.and_then(|length| held(rest, length))) {
            (Some(length), _) if length > connect.left => (connect.left + 1, &[][..]),
            (Some(length), Some(value)) => (length, value.get(2..).unwrap_or(&[])),
            // What is passed over need not be held.
            (Some(length), None) if !matches!(field, Some(Field::WillTopic | Field::Password)) => {
                (length, &[][..])
            }
            (None, _) if rest.len() as u64 >= connect.left.min(4) => (connect.left + 1, &[][..]),
            _ => {
                self.connect = Some(connect);
                return Step::More;
            }
        };
        if length > connect.left {
            // A will may stand behind what could be read.
            sink.passed_over();
            return Step::Take(connect.left);
        }
        match field {
            Some(Field::WillTopic) => sink.operation(Verb::Write, "topic", Some(value)),
            Some(Field::Password) => sink.credential(CredentialKind::Password, "MQTT CONNECT", value),
            _ => {}
        }
        connect.fields.pop();
        connect.left -= length;
        self.go_on(connect, length, sink)
    }

    /// So many bytes of it have been read.
    fn go_on(&mut self, connect: Connect, taken: u64, sink: &mut Sink<'_>) -> Step {
        match connect.left {
            0 if !connect.fields.is_empty() => sink.passed_over(),
            0 => {}
            _ if connect.fields.is_empty() => return Step::Take(taken + connect.left),
            _ => self.connect = Some(connect),
        }
        Step::Take(taken)
    }

    fn publish(&mut self, body: &[u8], with_id: bool, sink: &mut Sink<'_>) -> Option<()> {
        let mut reader = Reader::new(body);
        let topic = reader.vector16()?;
        if !self.is_five {
            publishes(Some(topic), sink);
            return Some(());
        }
        if with_id {
            reader.u16()?;
        }
        match topic_alias(&mut reader)? {
            None => publishes(Some(topic), sink),
            Some(alias) if topic.is_empty() => publishes(self.aliases.get(&alias).map(Vec::as_slice), sink),
            Some(alias) => {
                publishes(Some(topic), sink);
                if self.aliases.len() < ALIASES || self.aliases.contains_key(&alias) {
                    self.aliases.insert(alias, topic.to_vec());
                } else {
                    // It may have stood for another topic, which is then told of it.
                    self.aliases.clear();
                }
            }
        }
        Some(())
    }

    fn subscribe(&self, body: &[u8], sink: &mut Sink<'_>) -> Option<()> {
        let mut reader = Reader::new(body);
        reader.u16()?;
        if self.is_five {
            skip_properties(&mut reader)?;
        }
        for _ in 0..TOPICS {
            if reader.is_empty() {
                return Some(());
            }
            let (topic, _options) = (reader.vector16()?, reader.u8()?);
            sink.operation(Verb::Read, "topic", Some(shared(topic).unwrap_or(topic)));
        }
        reader.is_empty().then_some(())
    }

    fn answer(&self, body: &[u8], sink: &mut Sink<'_>) {
        // What was subscribed to in a session from before is sent on without a word (section 3.2.2.2).
        let goes_on = body.first().is_some_and(|flags| flags & 1 != 0) || self.may_go_on;
        if goes_on && body.get(1) == Some(&0) {
            sink.passed_over();
        }
        match body.get(1) {
            Some(0) if self.presented == Some(true) => sink.succeeded("MQTT CONNACK 0"),
            Some(code @ (4 | 5)) => sink.failed(format!("MQTT CONNACK {code}"), true),
            Some(code @ (0x86 | 0x87)) => sink.failed(format!("MQTT CONNACK 0x{code:x}"), true),
            _ => {}
        }
    }
}

/// `None`: the topic is not known. Mosquitto takes orders below `$CONTROL` (its users and their rights).
fn publishes(topic: Option<&[u8]>, sink: &mut Sink<'_>) {
    let orders = topic.is_some_and(|topic| topic.starts_with(b"$CONTROL/"));
    sink.operation(if orders { Verb::Admin } else { Verb::Write }, "topic", topic);
}

/// The topics behind `$share/group/`.
fn shared(filter: &[u8]) -> Option<&[u8]> {
    let behind = filter.strip_prefix(b"$share/")?;
    let slash = behind.iter().position(|b| *b == b'/')?;
    Some(&behind[slash + 1..])
}

/// The topic alias among the properties of a publication (MQTT 5 section 2.2.2.2); `None` outside: they
/// cannot be read.
fn topic_alias(reader: &mut Reader<'_>) -> Option<Option<u16>> {
    let (length, bytes) = variable(reader.rest())?;
    reader.take(bytes)?;
    let mut properties = Reader::new(reader.take(usize::try_from(length).ok()?)?);
    while let Some(kind) = properties.u8() {
        match kind {
            0x01 => drop(properties.u8()?),
            0x02 => drop(properties.u32()?),
            0x23 => return Some(Some(properties.u16()?)),
            0x03 | 0x08 | 0x09 => drop(properties.vector16()?),
            0x26 => drop((properties.vector16()?, properties.vector16()?)),
            0x0b => {
                let (_, bytes) = variable(properties.rest())?;
                properties.take(bytes)?;
            }
            _ => return None,
        }
    }
    Some(None)
}

/// The length behind the first byte, and where the body begins.
fn remaining_length(rest: &[u8]) -> Option<(u64, usize)> {
    variable(rest.get(1..)?).map(|(length, bytes)| (length, 1 + bytes))
}

fn variable(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0;
    for (position, byte) in bytes.iter().take(4).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * position);
        if byte & 0x80 == 0 {
            return Some((value, position + 1));
        }
    }
    None
}

fn skip_properties(reader: &mut Reader<'_>) -> Option<()> {
    let (length, bytes) = variable(reader.rest())?;
    reader.take(bytes)?;
    reader.take(usize::try_from(length).ok()?).map(drop)
}
