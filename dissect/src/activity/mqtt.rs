//! MQTT 3.1, 3.1.1 and 5 (OASIS): CONNECT and its answer, topics that are published and subscribed.

use super::event::{CredentialKind, Verb};
use super::machine::{Aligned, Machine, Sink, Step, whole};
use crate::End;
use crate::bytes::Reader;

/// Topics of one subscription that are told.
const TOPICS: usize = 32;

#[derive(Default)]
pub(super) struct Mqtt {
    is_five: bool,
    presented: Option<bool>,
}

impl Machine for Mqtt {
    fn step(&mut self, from: End, rest: &[u8], sink: &mut Sink<'_>) -> Step {
        let Some((length, at)) = remaining_length(rest) else {
            return if rest.len() >= 5 { Step::Lost } else { Step::More };
        };
        let total = length + at as u64;
        let Some(packet) = whole(rest, total) else { return Step::More };
        let body = packet.get(at..).unwrap_or(&[]);
        match (from, rest[0] >> 4) {
            (End::Client, 1) => self.connect(body, sink),
            (End::Client, 3) => {
                if let Some(topic) = Reader::new(body).vector16() {
                    sink.operation(Verb::Write, "topic", Some(topic));
                }
            }
            (End::Client, 8) => self.subscribe(body, sink),
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

    fn gap(&mut self, _: End) {}
}

impl Mqtt {
    fn connect(&mut self, body: &[u8], sink: &mut Sink<'_>) {
        let _ = self.read_connect(body, sink);
    }

    fn read_connect(&mut self, body: &[u8], sink: &mut Sink<'_>) -> Option<()> {
        let mut reader = Reader::new(body);
        reader.vector16()?;
        self.is_five = reader.u8()? & 0x7f == 5;
        let flags = reader.u8()?;
        self.presented = Some(flags & 0xc0 != 0);
        reader.u16()?;
        if self.is_five {
            skip_properties(&mut reader)?;
        }
        reader.vector16()?;
        if flags & 0x04 != 0 {
            if self.is_five {
                skip_properties(&mut reader)?;
            }
            reader.vector16()?;
            reader.vector16()?;
        }
        if flags & 0x80 != 0 {
            reader.vector16()?;
        }
        if flags & 0x40 != 0 {
            sink.credential(CredentialKind::Password, "MQTT CONNECT", reader.vector16()?);
        }
        Some(())
    }

    fn subscribe(&self, body: &[u8], sink: &mut Sink<'_>) {
        let mut reader = Reader::new(body);
        if reader.u16().is_none() || (self.is_five && skip_properties(&mut reader).is_none()) {
            return;
        }
        for _ in 0..TOPICS {
            let (Some(topic), Some(_options)) = (reader.vector16(), reader.u8()) else { return };
            sink.operation(Verb::Read, "topic", Some(topic));
        }
    }

    fn answer(&self, body: &[u8], sink: &mut Sink<'_>) {
        match body.get(1) {
            Some(0) if self.presented == Some(true) => sink.succeeded("MQTT CONNACK 0"),
            Some(code @ (4 | 5)) => sink.failed(format!("MQTT CONNACK {code}"), true),
            Some(code @ (0x86 | 0x87)) => sink.failed(format!("MQTT CONNACK 0x{code:x}"), true),
            _ => {}
        }
    }
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
