//! AMQP 0-9-1 (specification §4.2 and its XML): PLAIN, reply code 403, and what is published, consumed
//! and declared, by exchange and queue. A client that does not say `authentication_failure_close` of itself is told no
//! code: its connection ends.

use super::event::{CredentialKind, Verb};
use super::machine::{Aligned, Machine, Sink, Step, held, plain_password, whole};
use crate::End;
use crate::bytes::{Reader, find};

const METHOD: u8 = 1;
/// connection.start-ok
const START_OK: [u8; 4] = [0, 10, 0, 11];
/// Properties of a message.
const HEADER: u8 = 2;
const FRAME_END: u8 = 0xce;
const LARGEST: u32 = 1 << 24;

#[derive(Default)]
pub(super) struct Amqp {
    headed: bool,
    presented: bool,
    /// Nobody has said yet what became of that.
    waits: bool,
}

impl Machine for Amqp {
    fn step(&mut self, from: End, rest: &[u8], sink: &mut Sink<'_>) -> Step {
        if from == End::Client && !self.headed {
            if rest.len() < 8 {
                return Step::More;
            }
            self.headed = true;
            return if rest.starts_with(b"AMQP") { Step::Take(8) } else { Step::Lost };
        }
        // A server that speaks another version answers with its header, and closes.
        if from == End::Server && rest[0] == b'A' {
            return Step::Lost;
        }
        let mut reader = Reader::new(rest);
        let (Some(kind), Some(_), Some(length)) = (reader.u8(), reader.u16(), reader.u32()) else {
            return Step::More;
        };
        if !matches!(kind, 1 | 2 | 3 | 8) || length > LARGEST {
            return Step::Lost;
        }
        let total = u64::from(length) + 8;
        if kind == METHOD {
            // Who logs in may say much of himself first.
            let is_start_ok = rest.get(7..11).is_none_or(|method| method == START_OK) && from == End::Client;
            let frame = if is_start_ok { held(rest, total) } else { whole(rest, total) };
            let Some(frame) = frame else { return Step::More };
            let method = Reader::new(frame.get(7..).unwrap_or(&[]));
            if self.method(from, method, sink).is_none() && from == End::Client {
                sink.passed_over();
            }
        }
        if kind == HEADER && from == End::Client {
            let Some(frame) = whole(rest, total) else { return Step::More };
            // RabbitMQ, "Sender-selected Distribution": further queues, as arrays.
            let names_more = [&b"\x02CCA"[..], b"\x03BCCA"].iter().any(|key| find(frame, key).is_some());
            if names_more || frame.len() as u64 != total {
                sink.passed_over();
            }
        }
        Step::Take(total)
    }

    fn aligned(&self, _: End, rest: &[u8]) -> Aligned {
        let mut reader = Reader::new(rest);
        let (Some(kind), Some(_), Some(length)) = (reader.u8(), reader.u16(), reader.u32()) else {
            return Aligned::More;
        };
        if !matches!(kind, 1 | 2 | 3 | 8) || length > LARGEST {
            return Aligned::No;
        }
        match rest.get(7 + length as usize) {
            Some(&FRAME_END) => Aligned::Yes,
            Some(_) => Aligned::No,
            // A body longer than what is held: its end will not be seen.
            None if length as usize > 8192 => Aligned::No,
            None => Aligned::More,
        }
    }

    fn gap(&mut self, _: End) {
        self.headed = true;
        self.presented = true;
        self.waits = false;
    }

    fn ended(&mut self, sink: &mut Sink<'_>) {
        if std::mem::take(&mut self.waits) {
            sink.failed("AMQP, ended without an answer", true);
        }
    }

    fn tells_all(&self) -> bool {
        true
    }
}

impl Amqp {
    fn method(&mut self, from: End, mut reader: Reader<'_>, sink: &mut Sink<'_>) -> Option<()> {
        let (class, method) = (reader.u16()?, reader.u16()?);
        // connection.tune, connection.close
        self.waits &= !(from == End::Server && class == 10 && matches!(method, 30 | 50));
        match (from, class, method) {
            (End::Client, 10, 11) => self.start_ok(reader, sink)?,
            (End::Server, 10, 30) if self.presented => sink.succeeded("AMQP tune"),
            // connection.close; channel.close of a refused operation is no failed log-in.
            (End::Server, 10, 50) if reader.u16()? == 403 => sink.failed("AMQP 403 (ACCESS_REFUSED)", true),
            // basic.publish, consume, get
            (End::Client, 60, 40) => {
                reader.u16()?;
                let exchange = reader.vector8()?;
                if exchange.is_empty() {
                    // The default exchange leads to the queue of that name.
                    sink.operation(Verb::Write, "queue", Some(reader.vector8()?));
                } else {
                    sink.operation(Verb::Write, "exchange", Some(exchange));
                }
            }
            (End::Client, 60, 20 | 70) => {
                reader.u16()?;
                sink.operation(Verb::Read, "queue", Some(reader.vector8()?));
            }
            // queue.declare, bind, unbind, purge, delete; a passive declare only asks.
            (End::Client, 50, 10 | 20 | 30 | 40 | 50) => {
                reader.u16()?;
                let queue = reader.vector8()?;
                if method != 10 || reader.u8()? & 1 == 0 {
                    sink.operation(Verb::Admin, "queue", Some(queue));
                }
            }
            // exchange.declare, delete, bind, unbind
            (End::Client, 40, 10 | 20 | 30 | 40) => {
                reader.u16()?;
                let exchange = reader.vector8()?;
                let is_passive = method == 10 && {
                    reader.vector8()?;
                    reader.u8()? & 1 != 0
                };
                if !is_passive {
                    sink.operation(Verb::Admin, "exchange", Some(exchange));
                }
            }
            // connection, channel, access, the rest of basic, confirm, transactions: they touch no data.
            (End::Client, 10 | 20 | 30 | 60 | 85 | 90, _) | (End::Server, ..) => {}
            (End::Client, ..) => sink.passed_over(),
        }
        Some(())
    }

    fn start_ok(&mut self, mut reader: Reader<'_>, sink: &mut Sink<'_>) -> Option<()> {
        (self.presented, self.waits) = (true, true);
        let properties = reader.u32()?;
        reader.take(properties as usize)?;
        let mechanism = reader.vector8()?;
        let length = reader.u32()?;
        let response = reader.take(length as usize)?;
        match mechanism {
            b"PLAIN" => {
                sink.credential(CredentialKind::Password, "AMQP PLAIN", plain_password(response)?);
            }
            b"AMQPLAIN" => {
                // A table: `PASSWORD`, the type S, and a long string.
                let at = find(response, b"PASSWORDS")? + 9;
                let mut value = Reader::new(response.get(at..)?);
                let length = value.u32()?;
                sink.credential(CredentialKind::Password, "AMQP AMQPLAIN", value.take(length as usize)?);
            }
            _ => {}
        }
        Some(())
    }
}
