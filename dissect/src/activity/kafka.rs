//! Kafka ("Kafka protocol guide" and the message definitions in
//! `clients/src/main/resources/common/message`): produce, fetch and administration by topic, and SASL
//! error 58.
//!
//! Of a request the first 4 KiB are read: topics that stand behind more than that of records are not
//! told. From version 13 on, Produce and Fetch name topics by id; the names come from the Metadata
//! responses of the same connection, and an id that was not in one is told without a name.

use std::collections::VecDeque;

use super::event::{CredentialKind, Verb};
use super::kafka_topics::{Fields, is_flexible, topics_of_fetch, topics_of_metadata, topics_of_produce};
use super::machine::{Aligned, Machine, Sink, Step, plain_password, whole};
use crate::End;
use crate::bytes::Reader;

const PRODUCE: u16 = 0;
const FETCH: u16 = 1;
const METADATA: u16 = 3;
const SASL_HANDSHAKE: u16 = 17;
const CREATE_TOPICS: u16 = 19;
const DELETE_TOPICS: u16 = 20;
const DELETE_RECORDS: u16 = 21;
const SASL_AUTHENTICATE: u16 = 36;
const CREATE_PARTITIONS: u16 = 37;

const LARGEST: u32 = 104_857_600;
/// Requests that wait for their answer.
const PENDING: usize = 256;
/// Topics remembered by their id.
const TOPICS: usize = 256;

#[derive(Default)]
pub(super) struct Kafka {
    pending: VecDeque<(u32, u16, u16)>,
    topics: VecDeque<([u8; 16], Vec<u8>)>,
    is_plain: bool,
    /// SaslHandshake version 0: the next message of the client is a bare SASL one.
    bare: bool,
    presented: bool,
}

impl Machine for Kafka {
    fn step(&mut self, from: End, rest: &[u8], sink: &mut Sink<'_>) -> Step {
        let Some(length) = Reader::new(rest).u32() else { return Step::More };
        if length > LARGEST {
            return Step::Lost;
        }
        let total = u64::from(length) + 4;
        let Some(message) = whole(rest, total) else { return Step::More };
        let body = &message[4..];
        match from {
            End::Client if self.bare => {
                self.bare = false;
                self.presented = true;
                self.sasl(body, "Kafka SASL PLAIN", sink);
            }
            End::Client => {
                let _ = self.request(body, sink);
            }
            End::Server => {
                let _ = self.response(body, sink);
            }
        }
        Step::Take(total)
    }

    fn aligned(&self, from: End, rest: &[u8]) -> Aligned {
        let mut reader = Reader::new(rest);
        let (Some(length), Some(key)) = (reader.u32(), reader.u16()) else { return Aligned::More };
        match from {
            // What a response answers is not known after a gap.
            End::Server => Aligned::No,
            End::Client if !(10..=LARGEST).contains(&length) || key > 120 => Aligned::No,
            End::Client => {
                let (Some(version), Some(_), Some(client)) = (reader.u16(), reader.u32(), reader.u16())
                else {
                    return Aligned::More;
                };
                if version <= 24 && (client == 0xffff || client <= 255) { Aligned::Yes } else { Aligned::No }
            }
        }
    }

    fn gap(&mut self, _: End) {
        self.pending.clear();
        self.bare = false;
    }
}

impl Kafka {
    fn request(&mut self, body: &[u8], sink: &mut Sink<'_>) -> Option<()> {
        let mut reader = Reader::new(body);
        let (key, version, correlation) = (reader.u16()?, reader.u16()?, reader.u32()?);
        if self.pending.len() >= PENDING {
            self.pending.pop_front();
        }
        self.pending.push_back((correlation, key, version));
        let flexible = is_flexible(key, version);
        // The client's name has the old encoding in every version of the header.
        let mut fields = Fields { reader, flexible: false };
        fields.text()?;
        fields.flexible = flexible;
        fields.tags()?;
        match key {
            PRODUCE => {
                let topics = topics_of_produce(&mut fields, version);
                self.tell(Verb::Write, topics, sink);
            }
            FETCH => {
                let topics = topics_of_fetch(&mut fields, version);
                self.tell(Verb::Read, topics, sink);
            }
            SASL_HANDSHAKE => {
                self.is_plain = fields.text()? == Some(b"PLAIN".as_slice());
                self.bare = version == 0;
            }
            SASL_AUTHENTICATE => {
                self.presented = true;
                let message = fields.bytes()??;
                self.sasl(message, "Kafka SaslAuthenticate (PLAIN)", sink);
            }
            CREATE_TOPICS | DELETE_RECORDS | CREATE_PARTITIONS => {
                fields.array()?;
                sink.operation(Verb::Admin, "topic", fields.text()?);
            }
            DELETE_TOPICS => {
                let count = fields.array()?;
                for _ in 0..count.min(32) {
                    let name = fields.text()?;
                    if version >= 6 {
                        fields.reader.take(16)?;
                        fields.tags()?;
                    }
                    sink.operation(Verb::Admin, "topic", name);
                }
            }
            // ACLs, configurations, quotas, users, reassignments, elections, groups.
            30 | 31 | 33 | 34 | 42 | 43 | 44 | 45 | 49 | 51 | 57 => {
                sink.operation(Verb::Admin, "command", Some(name_of(key)));
            }
            _ => {}
        }
        Some(())
    }

    fn tell(&self, verb: Verb, topics: Vec<Topic<'_>>, sink: &mut Sink<'_>) {
        for topic in topics {
            let name = match topic {
                Topic::Name(name) => Some(name),
                Topic::Id(id) => {
                    let known = self.topics.iter().find(|(known, _)| *known == id);
                    known.map(|(_, name)| name.as_slice())
                }
            };
            sink.operation(verb, "topic", name);
        }
    }

    fn sasl(&self, message: &[u8], place: &'static str, sink: &mut Sink<'_>) {
        // SCRAM's first message looks different: `n,,n=user,r=…`.
        if (self.is_plain || message.first() == Some(&0))
            && let Some(password) = plain_password(message)
        {
            sink.credential(CredentialKind::Password, place, password);
        }
    }

    fn response(&mut self, body: &[u8], sink: &mut Sink<'_>) -> Option<()> {
        let mut reader = Reader::new(body);
        let correlation = reader.u32()?;
        let position = self.pending.iter().position(|(waits, ..)| *waits == correlation)?;
        let (_, key, version) = self.pending.remove(position)?;
        let mut fields = Fields { reader, flexible: is_flexible(key, version) };
        match key {
            SASL_AUTHENTICATE => {
                fields.tags()?;
                match fields.reader.u16()? {
                    0 => sink.succeeded("Kafka SASL ok"),
                    58 => sink.failed("Kafka 58 (SASL_AUTHENTICATION_FAILED)", true),
                    _ => {}
                }
            }
            METADATA => {
                fields.tags()?;
                for (id, name) in topics_of_metadata(&mut fields, version) {
                    self.topics.retain(|(known, _)| *known != id);
                    if self.topics.len() >= TOPICS {
                        self.topics.pop_front();
                    }
                    self.topics.push_back((id, name.to_vec()));
                }
            }
            _ => {}
        }
        Some(())
    }
}

/// A topic as a request names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Topic<'a> {
    Name(&'a [u8]),
    Id([u8; 16]),
}

fn name_of(key: u16) -> &'static [u8] {
    match key {
        30 => b"CreateAcls",
        31 => b"DeleteAcls",
        33 => b"AlterConfigs",
        34 => b"AlterReplicaLogDirs",
        42 => b"DeleteGroups",
        43 => b"ElectLeaders",
        44 => b"IncrementalAlterConfigs",
        45 => b"AlterPartitionReassignments",
        49 => b"AlterClientQuotas",
        51 => b"AlterUserScramCredentials",
        _ => b"UpdateFeatures",
    }
}
