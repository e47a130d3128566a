//! Kafka ("Kafka protocol guide" and the message definitions in
//! `clients/src/main/resources/common/message`): produce, fetch and administration by topic, and SASL
//! error 58.
//!
//! Of a request the first 4 KiB are read: topics that may stand behind more than that of records count as
//! passed over, and so does an API that is not known here. From version 13 on, Produce and Fetch name
//! topics by id; the names come from Metadata responses, as a rule those of another connection (see
//! [`TopicNames`]). An id that is not known waits for its name.

use std::collections::VecDeque;

use super::event::{CredentialKind, Verb};
use super::kafka_names::{Known, TopicId, TopicNames};
use super::kafka_topics::{
    Fields, is_flexible, topics_of_administration, topics_of_fetch, topics_of_metadata, topics_of_produce,
    topics_of_share_fetch,
};
use super::machine::{Aligned, Machine, Sink, Step, plain_password, whole};
use crate::End;
use crate::bytes::{Reader, find};

const PRODUCE: u16 = 0;
const FETCH: u16 = 1;
const METADATA: u16 = 3;
const SASL_HANDSHAKE: u16 = 17;
const CREATE_TOPICS: u16 = 19;
const DELETE_TOPICS: u16 = 20;
const DELETE_RECORDS: u16 = 21;
const SASL_AUTHENTICATE: u16 = 36;
const CREATE_PARTITIONS: u16 = 37;
const SHARE_FETCH: u16 = 78;

const LARGEST: u32 = 104_857_600;
/// Requests that wait for their answer.
const PENDING: usize = 256;
/// Topics that wait for their names.
const UNNAMED: usize = 64;
/// Where a password and a token are.
const BARE: (&str, &str) = ("Kafka SASL PLAIN", "Kafka SASL OAUTHBEARER");
const WITH_HEADER: (&str, &str) = ("Kafka SaslAuthenticate (PLAIN)", "Kafka SaslAuthenticate (OAUTHBEARER)");

#[derive(Default)]
pub(super) struct Kafka {
    pending: VecDeque<Request>,
    /// Which answer is to which request is not known for sure.
    is_unsure: bool,
    names: TopicNames,
    /// Asked for by ids that no Metadata response has named yet.
    unnamed: Vec<(Verb, TopicId)>,
    mechanism: Mechanism,
    /// SaslHandshake version 0: the client's next messages are bare ones of SASL (KIP-43), up to its first request. A
    /// broker that wants no SASL goes on without.
    bare: bool,
    /// It sent such ones.
    presented: bool,
    /// Nobody has said yet what became of a bare one: where it is refused, the connection ends.
    waits: bool,
    /// A request that is answered behind them says that they were taken.
    open: bool,
}

/// A request that waits for its answer.
struct Request {
    correlation: u32,
    key: u16,
    version: u16,
    /// Bare messages of SASL went before it.
    behind: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mechanism {
    Plain,
    Gssapi,
    OauthBearer,
    /// SCRAM, or one whose messages are texts.
    #[default]
    Other,
}

impl Mechanism {
    fn named(name: Option<&[u8]>) -> Mechanism {
        match name {
            Some(b"PLAIN") => Mechanism::Plain,
            Some(b"GSSAPI") => Mechanism::Gssapi,
            Some(b"OAUTHBEARER") => Mechanism::OauthBearer,
            _ => Mechanism::Other,
        }
    }

    /// Whether a client may say this in it. No request begins like that, whose key would be of 5000 or more, or its
    /// version of 32 or more.
    fn says(self, body: &[u8]) -> bool {
        match self {
            // RFC 4752 section 3.1: a token (RFC 2743 section 3.1), nothing, and one of Kerberos that is wrapped (RFC 4121
            // section 4.2.6.2; of key 1284, which there is none).
            Mechanism::Gssapi => matches!(body, [] | [0x60, ..] | [0x05, 0x04, ..]),
            // RFC 7628 section 3.1, and its answer to a refusal.
            Mechanism::OauthBearer => matches!(body, [1] | [b'n' | b'y' | b'p', b',' | b'=', ..]),
            Mechanism::Plain | Mechanism::Other => is_sasl(body),
        }
    }

    /// Whether the broker answers this, or ends the connection: the last of GSSAPI it takes without a word.
    fn awaits_answer(self, body: &[u8]) -> bool {
        self != Mechanism::Gssapi || body.first() == Some(&0x60)
    }
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
        self.name_topics(sink);
        match from {
            End::Client => {
                if self.bare && self.mechanism.says(body) {
                    // Of PLAIN there is one.
                    self.bare = self.mechanism != Mechanism::Plain;
                    (self.presented, self.open) = (true, true);
                    self.waits = self.mechanism.awaits_answer(body);
                    self.sasl(body, BARE, sink);
                } else {
                    self.bare = false;
                    if self.request(body, sink).is_none() {
                        sink.passed_over();
                    }
                }
            }
            End::Server if self.waits && !self.answers(body) => {
                self.waits = false;
                // Of a challenge nobody knows yet what it leads to.
                if body.is_empty() || body.starts_with(b"v=") {
                    self.open = false;
                    sink.succeeded("Kafka SASL ok");
                }
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
        // An answer to what came before may bear the number of what comes now.
        self.is_unsure = true;
        (self.bare, self.waits, self.open) = (false, false, false);
    }

    fn ended(&mut self, sink: &mut Sink<'_>) {
        if std::mem::take(&mut self.waits) {
            sink.failed("Kafka SASL, ended without an answer", true);
        }
    }

    fn share(&mut self, names: &TopicNames) {
        self.names = names.clone();
    }

    fn tells_all(&self) -> bool {
        self.unnamed.is_empty()
    }
}

/// Whether it is a message of SASL PLAIN (RFC 4616) or SCRAM (RFC 5802): texts. No request is one, whose version would be
/// of 32 or more.
fn is_sasl(body: &[u8]) -> bool {
    let mut texts = body.split(|byte| *byte == 0);
    texts.all(|text| std::str::from_utf8(text).is_ok_and(|text| !text.chars().any(char::is_control)))
        && matches!(body.iter().filter(|byte| **byte == 0).count(), 0 | 2)
        && !body.is_empty()
}

impl Kafka {
    fn request(&mut self, body: &[u8], sink: &mut Sink<'_>) -> Option<()> {
        let mut reader = Reader::new(body);
        let (key, version, correlation) = (reader.u16()?, reader.u16()?, reader.u32()?);
        // No client gives two that wait the same number: what answers one would be taken for the answer to the other.
        self.is_unsure |= self.pending.iter().any(|waits| waits.correlation == correlation);
        if self.pending.len() >= PENDING {
            self.is_unsure = true;
            self.pending.pop_front();
        }
        let behind = self.open;
        self.pending.push_back(Request { correlation, key, version, behind });
        let flexible = is_flexible(key, version);
        // The client's name has the old encoding in every version of the header.
        let mut fields = Fields { reader, flexible: false };
        fields.text()?;
        fields.flexible = flexible;
        fields.tags()?;
        match key {
            PRODUCE | FETCH | SHARE_FETCH => {
                if key == PRODUCE && wants_no_answer(&fields, version) {
                    self.pending.pop_back();
                }
                let (verb, (topics, all)) = match key {
                    PRODUCE => (Verb::Write, topics_of_produce(&mut fields, version)),
                    FETCH => (Verb::Read, topics_of_fetch(&mut fields, version)),
                    _ => (Verb::Read, topics_of_share_fetch(&mut fields, version)),
                };
                self.tell(verb, topics, sink);
                all.then_some(())?;
            }
            SASL_HANDSHAKE => {
                self.mechanism = Mechanism::named(fields.text()?);
                self.bare = version == 0;
            }
            SASL_AUTHENTICATE => {
                self.presented = true;
                let message = fields.bytes()??;
                self.sasl(message, WITH_HEADER, sink);
            }
            CREATE_TOPICS | DELETE_TOPICS | DELETE_RECORDS | CREATE_PARTITIONS => {
                let (topics, all) = topics_of_administration(&mut fields, key, version);
                self.tell(Verb::Admin, topics, sink);
                all.then_some(())?;
            }
            _ => match administration(key) {
                Some(name) => sink.operation(Verb::Admin, "command", Some(name.as_bytes())),
                None => is_neutral(key).then_some(())?,
            },
        }
        Some(())
    }

    fn tell(&mut self, verb: Verb, topics: Vec<Topic<'_>>, sink: &mut Sink<'_>) {
        for topic in topics {
            match topic {
                Topic::Name(name) => sink.operation(verb, "topic", Some(name)),
                Topic::Id(id) if self.unnamed.contains(&(verb, id)) => {}
                Topic::Id(id) => match self.names.of(&id) {
                    Known::As(name) => sink.operation(verb, "topic", Some(name.as_bytes())),
                    Known::Ambiguous => sink.operation(verb, "topic", None),
                    Known::Not if self.unnamed.len() < UNNAMED => self.unnamed.push((verb, id)),
                    Known::Not => sink.passed_over(),
                },
            }
        }
    }

    /// Tells what has got a name since.
    fn name_topics(&mut self, sink: &mut Sink<'_>) {
        let names = &self.names;
        self.unnamed.retain(|(verb, id)| match names.of(id) {
            Known::As(name) => {
                sink.operation(*verb, "topic", Some(name.as_bytes()));
                false
            }
            Known::Ambiguous => {
                sink.operation(*verb, "topic", None);
                false
            }
            Known::Not => true,
        });
    }

    fn sasl(&self, message: &[u8], (plain, bearer): (&'static str, &'static str), sink: &mut Sink<'_>) {
        match self.mechanism {
            // RFC 7628 section 3.1.
            Mechanism::OauthBearer => {
                const BEFORE: &[u8] = b"\x01auth=Bearer ";
                let token = find(message, BEFORE).map(|at| &message[at + BEFORE.len()..]);
                let token = token.and_then(|token| token.split(|byte| *byte == 1).next());
                sink.credential(CredentialKind::BearerToken, bearer, token.unwrap_or(&[]));
            }
            // SCRAM's first message looks different: `n,,n=user,r=…`.
            Mechanism::Plain | Mechanism::Other
                if self.mechanism == Mechanism::Plain || message.first() == Some(&0) =>
            {
                if let Some(password) = plain_password(message) {
                    sink.credential(CredentialKind::Password, plain, password);
                }
            }
            _ => {}
        }
    }

    /// Whether it bears the number of a request.
    fn answers(&self, body: &[u8]) -> bool {
        let correlation = Reader::new(body).u32();
        self.pending.iter().any(|request| Some(request.correlation) == correlation)
    }

    fn response(&mut self, body: &[u8], sink: &mut Sink<'_>) -> Option<()> {
        let mut reader = Reader::new(body);
        let correlation = reader.u32()?;
        let position = self.pending.iter().position(|request| request.correlation == correlation)?;
        let Request { key, version, behind, .. } = self.pending.remove(position)?;
        if behind && std::mem::take(&mut self.open) {
            self.waits = false;
            sink.succeeded("Kafka SASL ok");
        }
        let mut fields = Fields { reader, flexible: is_flexible(key, version) };
        match key {
            SASL_AUTHENTICATE => {
                fields.tags()?;
                let error = fields.reader.u16()?;
                fields.text()?;
                // RFC 5802: `r=` asks for the proof, `v=` ends well, `e=` does not.
                match (error, fields.bytes()?.unwrap_or(&[])) {
                    (58, _) => sink.failed("Kafka 58 (SASL_AUTHENTICATION_FAILED)", true),
                    (0, [b'e', b'=', ..]) => sink.failed("Kafka SASL SCRAM error", true),
                    (0, [b'r', b'=', ..]) => {}
                    (0, _) => sink.succeeded("Kafka SASL ok"),
                    _ => {}
                }
            }
            METADATA if !self.is_unsure => {
                fields.tags()?;
                for (id, name) in topics_of_metadata(&mut fields, version) {
                    self.names.learn(id, name);
                }
                self.name_topics(sink);
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
    Id(TopicId),
}

/// Whether a Produce request asks for no acknowledgement (`acks=0`). `fields`: behind the header.
fn wants_no_answer(fields: &Fields<'_>, version: u16) -> bool {
    let mut fields = Fields { reader: fields.reader, flexible: fields.flexible };
    let is_behind = version < 3 || fields.text().is_some();
    is_behind && fields.reader.u16() == Some(0)
}

/// Requests that administer something else than a topic, or belong to brokers among themselves.
fn administration(key: u16) -> Option<&'static str> {
    Some(match key {
        4 => "LeaderAndIsr",
        5 => "StopReplica",
        6 => "UpdateMetadata",
        7 => "ControlledShutdown",
        27 => "WriteTxnMarkers",
        30 => "CreateAcls",
        31 => "DeleteAcls",
        33 => "AlterConfigs",
        34 => "AlterReplicaLogDirs",
        38 => "CreateDelegationToken",
        39 => "RenewDelegationToken",
        40 => "ExpireDelegationToken",
        42 => "DeleteGroups",
        43 => "ElectLeaders",
        44 => "IncrementalAlterConfigs",
        45 => "AlterPartitionReassignments",
        47 => "OffsetDelete",
        49 => "AlterClientQuotas",
        51 => "AlterUserScramCredentials",
        56 => "AlterPartition",
        57 => "UpdateFeatures",
        64 => "UnregisterBroker",
        80 => "AddRaftVoter",
        81 => "RemoveRaftVoter",
        _ => return None,
    })
}

/// Requests that name no data and change no settings: versions, metadata, descriptions, groups and their
/// offsets, transactions (whose records come by Produce).
fn is_neutral(key: u16) -> bool {
    matches!(
        key,
        2 | 3 | 8..=16 | 18 | 22..=26 | 28 | 29 | 32 | 35 | 41 | 46 | 48 | 50 | 55 | 60 | 61 | 65 | 66
            | 68 | 69 | 71 | 72 | 74..=77 | 79
    )
}
